"""Spiking losses for SLAYER as torch modules, and sparsity that keeps event rates within a budget."""

from lava_spikeloss._fan_out import fan_out
from lava_spikeloss.energy import LOIHI_1, LOIHI_2, Constant, EnergyTable
from lava_spikeloss.losses.slayer import SpikeMax, SpikeMoid, SpikeRate, SpikeTime
from lava_spikeloss.sparsity import SparsityEnforcer
from lava_spikeloss.statistics import LayerStatistics, NetworkStatistics, SpikeStatistics

__all__ = [
    "LOIHI_1",
    "LOIHI_2",
    "Constant",
    "EnergyTable",
    "LayerStatistics",
    "NetworkStatistics",
    "SparsityEnforcer",
    "SpikeMax",
    "SpikeMoid",
    "SpikeRate",
    "SpikeStatistics",
    "SpikeTime",
    "fan_out",
]
