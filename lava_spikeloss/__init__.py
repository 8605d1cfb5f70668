"""Spiking losses for SLAYER as torch modules, and a sparsity enforcer that keeps event rates within a budget."""

from lava_spikeloss.losses.slayer import SpikeMax, SpikeMoid, SpikeRate, SpikeTime
from lava_spikeloss.sparsity import SparsityEnforcer

__all__ = ["SparsityEnforcer", "SpikeMax", "SpikeMoid", "SpikeRate", "SpikeTime"]
