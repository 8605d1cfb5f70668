"""Spiking losses for SLAYER as torch modules, and a sparsity enforcer that keeps event rates within a budget."""

from importlib.metadata import version

from lava_spikeloss.activity.budget import BudgetEnforcer, BudgetLine, LoihiBudget, SynOpsLoss
from lava_spikeloss.activity.constraint import LagrangeMultiplier
from lava_spikeloss.activity.energy import LOIHI_1, LOIHI_2, Constant, EnergyTable
from lava_spikeloss.activity.enforcer import SparsityEnforcer
from lava_spikeloss.activity.fan_out import fan_out
from lava_spikeloss.activity.statistics import LayerStatistics, NetworkStatistics, SpikeStatistics
from lava_spikeloss.classifiers import (
    SILENT,
    Accuracy,
    FirstSpikeClassifier,
    MembraneClassifier,
    RateClassifier,
    WindowClassifier,
)
from lava_spikeloss.losses.bounds import CountBoundsLoss
from lava_spikeloss.losses.cluster import STCALoss
from lava_spikeloss.losses.distillation import DistillationLoss
from lava_spikeloss.losses.local import DECOLLELoss
from lava_spikeloss.losses.membrane import (
    CEMaxMembraneLoss,
    CEMembraneIntegralLoss,
    InformationMaximizationLoss,
    MembraneSuppressionLoss,
    MSEMembraneLoss,
)
from lava_spikeloss.losses.module import WeightedSum
from lava_spikeloss.losses.rate import CECountLoss, CERateLoss, MSECountLoss, RegionCountLoss
from lava_spikeloss.losses.similarity import SpikeSimilarityLoss
from lava_spikeloss.losses.slayer import SpikeMax, SpikeMoid, SpikeRate, SpikeTime
from lava_spikeloss.losses.temporal import CETemporalLoss, FirstSpikeLoss, MSETemporalLoss
from lava_spikeloss.losses.tet import TETLoss
from lava_spikeloss.time_first import TimeFirst

__all__ = [
    "LOIHI_1",
    "LOIHI_2",
    "SILENT",
    "Accuracy",
    "BudgetEnforcer",
    "BudgetLine",
    "CECountLoss",
    "CEMaxMembraneLoss",
    "CEMembraneIntegralLoss",
    "CERateLoss",
    "CETemporalLoss",
    "Constant",
    "CountBoundsLoss",
    "DECOLLELoss",
    "DistillationLoss",
    "EnergyTable",
    "FirstSpikeClassifier",
    "FirstSpikeLoss",
    "InformationMaximizationLoss",
    "LagrangeMultiplier",
    "LayerStatistics",
    "LoihiBudget",
    "MSECountLoss",
    "MSEMembraneLoss",
    "MSETemporalLoss",
    "MembraneClassifier",
    "MembraneSuppressionLoss",
    "NetworkStatistics",
    "RateClassifier",
    "RegionCountLoss",
    "STCALoss",
    "SparsityEnforcer",
    "SpikeMax",
    "SpikeMoid",
    "SpikeRate",
    "SpikeSimilarityLoss",
    "SpikeStatistics",
    "SpikeTime",
    "SynOpsLoss",
    "TETLoss",
    "TimeFirst",
    "WeightedSum",
    "WindowClassifier",
    "fan_out",
]


def __getattr__(name: str) -> str:
    if name == "__version__":  # looked up only now: a copy of the sources that is not installed has none
        return version("lava-spikeloss")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
