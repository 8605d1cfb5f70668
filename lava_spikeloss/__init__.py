"""Spiking losses for SLAYER networks as torch modules, and sparsity that keeps event rates within a budget."""

from lava_spikeloss._fan_out import fan_out
from lava_spikeloss.budget import BudgetEnforcer, BudgetLine, LoihiBudget, SynOpsLoss
from lava_spikeloss.constraint import LagrangeMultiplier
from lava_spikeloss.energy import LOIHI_1, LOIHI_2, Constant, EnergyTable
from lava_spikeloss.sparsity import SparsityEnforcer
from lava_spikeloss.statistics import LayerStatistics, NetworkStatistics, SpikeStatistics

__all__ = [
    "LOIHI_1",
    "LOIHI_2",
    "BudgetEnforcer",
    "BudgetLine",
    "Constant",
    "EnergyTable",
    "LagrangeMultiplier",
    "LayerStatistics",
    "LoihiBudget",
    "NetworkStatistics",
    "SparsityEnforcer",
    "SpikeStatistics",
    "SynOpsLoss",
    "fan_out",
]
