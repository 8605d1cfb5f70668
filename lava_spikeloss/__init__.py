"""Spiking losses for SLAYER as torch modules, and a sparsity enforcer that keeps event rates within a budget."""

from lava_spikeloss._module import WeightedSum
from lava_spikeloss.classifiers import SILENT, Accuracy, FirstSpikeClassifier, RateClassifier, WindowClassifier
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
from lava_spikeloss.losses.rate import CECountLoss, CERateLoss, MSECountLoss, RegionCountLoss
from lava_spikeloss.losses.similarity import SpikeSimilarityLoss
from lava_spikeloss.losses.slayer import SpikeMax, SpikeMoid, SpikeRate, SpikeTime
from lava_spikeloss.losses.temporal import CETemporalLoss, FirstSpikeLoss, MSETemporalLoss
from lava_spikeloss.losses.tet import TETLoss
from lava_spikeloss.sparsity import SparsityEnforcer
from lava_spikeloss.time_first import TimeFirst

__all__ = [
    "SILENT",
    "Accuracy",
    "CECountLoss",
    "CEMaxMembraneLoss",
    "CEMembraneIntegralLoss",
    "CERateLoss",
    "CETemporalLoss",
    "CountBoundsLoss",
    "DECOLLELoss",
    "DistillationLoss",
    "FirstSpikeClassifier",
    "FirstSpikeLoss",
    "InformationMaximizationLoss",
    "MSECountLoss",
    "MSEMembraneLoss",
    "MSETemporalLoss",
    "MembraneSuppressionLoss",
    "RateClassifier",
    "RegionCountLoss",
    "STCALoss",
    "SparsityEnforcer",
    "SpikeMax",
    "SpikeMoid",
    "SpikeRate",
    "SpikeSimilarityLoss",
    "SpikeTime",
    "TETLoss",
    "TimeFirst",
    "WeightedSum",
    "WindowClassifier",
]
