"""Spiking losses for SLAYER as torch modules, and a sparsity enforcer that keeps event rates within a budget."""

from lava_spikeloss.losses.slayer import SpikeMax, SpikeMoid, SpikeRate, SpikeTime

__all__ = ["SpikeMax", "SpikeMoid", "SpikeRate", "SpikeTime"]
