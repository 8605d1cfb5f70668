"""Spiking losses for SLAYER networks as torch modules, and a sparsity enforcer that keeps rates within a budget."""

from lava_spikeloss.losses.slayer import SpikeMax, SpikeMoid, SpikeRate, SpikeTime

__all__ = ["SpikeMax", "SpikeMoid", "SpikeRate", "SpikeTime"]
