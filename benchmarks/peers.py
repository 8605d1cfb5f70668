"""The losses that are measured: every one of ours, one row each, and beside it every peer that has it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeAlias

import torch

import lava_spikeloss as L
from lava_spikeloss import functional as F

__all__ = ["CASES", "Case", "Peer", "Size", "library"]

Loss: TypeAlias = Callable[[torch.Tensor, Any], Any]
_MODULES = {
    "snnTorch": "snntorch.functional",
    "SpikingJelly": "spikingjelly.activation_based.functional",
    "SpikingJelly, clock-driven": "spikingjelly.clock_driven.functional",
    "lava-dl": "lava.lib.dl.slayer.loss",
}


@dataclass(frozen=True)
class Size:
    """Samples, classes or neurons, and steps."""

    n: int
    c: int
    t: int

    def __str__(self) -> str:
        return f"{self.n}x{self.c}x{self.t}"

    @property
    def groups(self) -> int:
        """Classes of a population code: those of ten neurons each where that goes, else of two or one."""
        return next(self.c // size for size in (10, 2, 1) if self.c % size == 0 and self.c > size)


OUTPUT = Size(128, 10, 100)  # an output layer
SIZES = (OUTPUT, Size(128, 100, 100), Size(128, 100, 300), Size(32, 11, 1000))


@dataclass(frozen=True)
class Peer:
    """Another library's version of a loss.

    Attributes:
        library: its name.
        loss: makes the loss from the library's module and the size.
        loops: what its Python code loops over.
        time_first: whether it wants time as the first axis instead of the last.
        differs: why its values are not those of ours; empty if they have to be equal.
    """

    library: str
    loss: Callable[[ModuleType, Size], Loss]
    loops: str = ""
    time_first: bool = True
    differs: str = ""


@dataclass(frozen=True)
class Case:
    """One of our losses with its options.

    Attributes:
        name: of the function, and what is special.
        loss: makes the loss for a size.
        target: makes what it learns from.
        peer: who else has it.
        membrane: whether it takes potentials instead of spikes.
        backward: whether there is one.
        sizes: samples, neurons and steps.
    """

    name: str
    loss: Callable[[Size], Loss]
    target: Callable[[Size], torch.Tensor | None] = field(default=lambda size: _labels(size))
    peer: Peer | None = None
    membrane: bool = False
    backward: bool = True
    sizes: tuple[Size, ...] = SIZES

    def input(self, size: Size, device: str) -> torch.Tensor:
        """Spikes in 30 % of all steps, of every neuron: some peers are wrong where one is silent. Or potentials."""
        values = torch.randn(size.n, size.c, size.t, generator=torch.Generator().manual_seed(0))
        if not self.membrane:
            values = (values < -0.5244).float()
            values[..., size.t // 2] = 1
        return values.to(device)


def library(name: str) -> ModuleType | None:
    """A peer's module, None where it is not installed."""
    try:
        return importlib.import_module(_MODULES[name])
    except ModuleNotFoundError:
        return None


# --- targets ----------------------------------------------------------------------------------------------------------


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _labels(size: Size) -> torch.Tensor:
    return torch.randint(size.c, (size.n,), generator=_generator())


def _ten_labels(size: Size) -> torch.Tensor:
    return torch.randint(10, (size.n,), generator=_generator())


def _group_labels(size: Size) -> torch.Tensor:
    return torch.randint(size.groups, (size.n,), generator=_generator())


def _step_labels(size: Size) -> torch.Tensor:
    return torch.randint(size.c, (size.n, size.t), generator=_generator())


def _one_hot(size: Size) -> torch.Tensor:
    return torch.nn.functional.one_hot(_labels(size), size.c).float()


def _trains(size: Size) -> torch.Tensor:
    return (torch.rand(size.n, size.c, size.t, generator=_generator()) < 0.3).float()


def _times(size: Size) -> torch.Tensor:
    return torch.randint(size.t, (size.n, size.c), generator=_generator()).float()


def _three_times(size: Size) -> torch.Tensor:
    return torch.randint(size.t, (size.n, size.c, 3), generator=_generator()).float()


def _scores(size: Size) -> torch.Tensor:
    return torch.randn(size.n, size.c, generator=_generator())


def _nothing(size: Size) -> None:
    return None


# --- peers ------------------------------------------------------------------------------------------------------------


def _snn(name: str, loops: str = "", **options: Any) -> Peer:
    return Peer("snnTorch", lambda module, size: getattr(module, name)(**options), loops)


def _snn_groups(name: str) -> Peer:
    def make(module: ModuleType, size: Size) -> Loss:
        loss: Loss = getattr(module, name)(population_code=True, num_classes=size.groups)
        return loss

    return Peer("snnTorch", make, "classes")


def _snn_times() -> Peer:
    return _snn("mse_temporal_loss", "elements", target_is_time=True)


def _snn_three_times() -> Peer:
    def make(module: ModuleType, size: Size) -> Loss:
        loss = module.mse_temporal_loss(target_is_time=True, multi_spike=True)
        return lambda x, times: loss(x, times.movedim(-1, 0))

    return Peer("snnTorch", make, "elements", differs="its second and third spikes are wrong")


def _dl(name: str, **options: Any) -> Peer:
    return Peer("lava-dl", lambda module, size: getattr(module, name)(**options), time_first=False)


def _jelly_tet() -> Peer:
    return Peer("SpikingJelly", lambda module, size: module.temporal_efficient_training_cross_entropy)


def _jelly_similarity(kernel: str, *args: float) -> Peer:
    def make(module: ModuleType, size: Size) -> Loss:
        one_hot = torch.nn.functional.one_hot
        return lambda x, labels: module.spike_similar_loss(x, one_hot(labels, 10).float(), kernel, "mse", *args)

    return Peer("SpikingJelly", make, time_first=False)


def _jelly_clusters() -> Peer:
    """Its k+ of a neuron depends on the other neurons, and its k- needs a cluster; counts are equal."""

    def make(module: ModuleType, size: Size) -> Loss:
        return lambda v, target: module.spike_cluster(v.flatten(1), 1.0, 5)[0].reshape(size.n, size.c)

    return Peer("SpikingJelly, clock-driven", make, "time")


# --- ours that need more than a constructor ---------------------------------------------------------------------------


def loss_of_enforcer(enforcer: Any) -> Loss:
    """What an enforcer asks for one layer's spikes."""

    def loss(spikes: torch.Tensor, target: None) -> torch.Tensor:
        enforcer.clear()
        enforcer.append(spikes)
        value: torch.Tensor = enforcer.loss
        return value

    return loss


def _dl_enforcer() -> Peer:
    return Peer("lava-dl", lambda module, size: loss_of_enforcer(module.SparsityEnforcer()), time_first=False)


def _decolle(size: Size) -> Loss:
    loss = L.DECOLLELoss(size.c, 10, generator=_generator())
    return lambda spikes, labels: loss.to(spikes.device)(spikes, labels)


def _groups(module: Any) -> Callable[[Size], Loss]:
    return lambda size: module(population_code=True, num_classes=size.groups)


def _bounds(x: torch.Tensor, target: None) -> torch.Tensor:
    return F.count_bounds_loss(x, 1, 5)


def _three_spikes(size: Size) -> Loss:
    return L.MSETemporalLoss(target_is_time=True, multi_spike=True)


def _clusters(v: torch.Tensor, target: None) -> torch.Tensor:
    return F.spike_cluster(v, 1.0, 5)[0]


def _similarity(kernel: str, *args: float) -> Case:
    """At the size of a hidden layer: pairs of samples, not of neurons, are what takes time."""
    name, sizes = f"spike_similar_loss, {kernel}", (Size(256, 512, 50),)
    ours, peer = L.SpikeSimilarityLoss(kernel, "mse", *args), _jelly_similarity(kernel, *args)
    return Case(name, lambda size: ours, _ten_labels, peer, sizes=sizes)


_RATES = {"true_rate": 0.8, "false_rate": 0.1}
_WINDOW = {**_RATES, "moving_window": 20}
_SOFTMAX = {"mode": "softmax"}
_SOFT_WINDOW = {"mode": "softmax", "moving_window": 20}

CASES = [
    Case("ce_count_loss", lambda s: L.CECountLoss(), peer=_snn("ce_count_loss")),
    Case("ce_count_loss, population", _groups(L.CECountLoss), _group_labels, _snn_groups("ce_count_loss")),
    Case("mse_count_loss", lambda s: L.MSECountLoss(), peer=_snn("mse_count_loss")),
    Case("mse_count_loss, population", _groups(L.MSECountLoss), _group_labels, _snn_groups("mse_count_loss")),
    Case("region_count_loss", lambda s: L.RegionCountLoss(10, 2, stop=s.t // 2)),
    Case("count_bounds_loss", lambda s: _bounds, _nothing),
    Case("spike_rate", lambda s: L.SpikeRate(**_RATES), peer=_dl("SpikeRate", **_RATES)),
    Case("spike_max", lambda s: L.SpikeMax(), peer=_dl("SpikeMax")),
    Case("spike_max, softmax", lambda s: L.SpikeMax(**_SOFTMAX), peer=_dl("SpikeMax", **_SOFTMAX)),
    Case("spike_moid", lambda s: L.SpikeMoid(), _one_hot, _dl("SpikeMoid")),
    Case("sparsity_enforcer", lambda s: loss_of_enforcer(L.SparsityEnforcer()), _nothing, _dl_enforcer()),
    Case("sparsity_enforcer, per neuron", lambda s: loss_of_enforcer(L.SparsityEnforcer(per="neuron")), _nothing),
    Case("distillation_loss", lambda s: L.DistillationLoss(), _scores),
    Case("ce_max_membrane_loss", lambda s: L.CEMaxMembraneLoss(), peer=_snn("ce_max_membrane_loss"), membrane=True),
    Case("ce_membrane_integral_loss", lambda s: L.CEMembraneIntegralLoss(), membrane=True),
    Case("mse_membrane_loss", lambda s: L.MSEMembraneLoss(), peer=_snn("mse_membrane_loss", "time"), membrane=True),
    Case("membrane_suppression_loss", lambda s: L.MembraneSuppressionLoss(), membrane=True),
    Case("information_maximization_loss", lambda s: L.InformationMaximizationLoss(), _nothing, membrane=True),
    Case("ce_rate_loss", lambda s: L.CERateLoss(), peer=_snn("ce_rate_loss", "time")),
    Case("tet_loss", lambda s: L.TETLoss(), peer=_jelly_tet(), membrane=True),
    Case("distillation_loss, per step", lambda s: L.DistillationLoss(per_step=True), _trains),
    Case("decolle_loss", _decolle, _ten_labels),
    Case("spike_rate, window", lambda s: L.SpikeRate(**_WINDOW), _step_labels, _dl("SpikeRate", **_WINDOW)),
    Case("spike_max, window", lambda s: L.SpikeMax(**_SOFT_WINDOW), _step_labels, _dl("SpikeMax", **_SOFT_WINDOW)),
    Case("spike_moid, window", lambda s: L.SpikeMoid(20), _one_hot, _dl("SpikeMoid", moving_window=20)),
    Case("mse_temporal_loss", lambda s: L.MSETemporalLoss(True), _times, _snn_times()),
    Case("mse_temporal_loss, 3 spikes", _three_spikes, _three_times, _snn_three_times()),
    Case("ce_temporal_loss", lambda s: L.CETemporalLoss(), peer=_snn("ce_temporal_loss", "elements")),
    Case("first_spike_loss", lambda s: L.FirstSpikeLoss()),
    Case("spike_time", lambda s: L.SpikeTime(), _trains, _dl("SpikeTime")),
    Case("stca_loss", lambda s: L.STCALoss(), membrane=True),
    Case("spike_cluster", lambda s: _clusters, _nothing, _jelly_clusters(), True, False, (Size(1, 1000, 200),)),
    _similarity("linear"),
    _similarity("sigmoid", 0.1),
    _similarity("gaussian", 3.0),
]  # fmt: skip
