"""The losses that are measured: every one of ours, and beside it every peer that has it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeAlias

import torch

import lava_spikeloss as L
from lava_spikeloss import functional as F

__all__ = ["CASES", "CLUSTER", "SIMILARITIES", "Case", "Peer", "Size", "library"]

Loss: TypeAlias = Callable[[torch.Tensor, Any], Any]
_MODULES = {
    "snnTorch": "snntorch.functional",
    "SpikingJelly": "spikingjelly.activation_based.functional",
    "SpikingJelly, clock-driven": "spikingjelly.clock_driven.functional",
    "lava-dl": "lava.lib.dl.slayer.loss",
}
_WINDOW = 20
_RATES = {"true_rate": 0.8, "false_rate": 0.1}


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


@dataclass(frozen=True)
class Peer:
    """Another library's version of a loss.

    Attributes:
        library: its name.
        loss: makes the loss from the library's module and the size.
        loops: what its Python code loops over.
        time_first: whether it wants time as the first axis instead of the last.
        differs: why its values are not those of ours; empty if they have to be equal.
        float32_only: why it cannot be run in another type.
    """

    library: str
    loss: Callable[[ModuleType, Size], Loss]
    loops: str = ""
    time_first: bool = True
    differs: str = ""
    float32_only: str = ""

    @property
    def target(self) -> str:
        """The target for a ratio to it."""
        return f"peer, over {self.loops}" if self.loops in ("time", "elements") else "peer"


@dataclass(frozen=True)
class Case:
    """One of our losses with its options.

    Attributes:
        name: of the function, and what is special.
        kind: the target for its ratio to the floor; empty if it has none.
        loss: makes the loss for a size.
        target: makes what it learns from.
        peers: who else has it.
        membrane: whether it takes potentials instead of spikes.
        backward: whether there is one.
    """

    name: str
    kind: str
    loss: Callable[[Size], Loss]
    target: Callable[[Size], torch.Tensor | None] = field(default=lambda size: _labels(size))
    peers: tuple[Peer, ...] = ()
    membrane: bool = False
    backward: bool = True

    def input(self, size: Size, dtype: torch.dtype, device: str) -> torch.Tensor:
        """Spikes of 30 % of all steps, with nobody silent, for then some peers are wrong; or potentials around 0."""
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(size.n, size.c, size.t, generator=generator)
        if not self.membrane:
            values = (values < -0.5244).float()
            values[..., size.t // 2] = 1
        return values.to(device, dtype)


def library(name: str) -> ModuleType | None:
    """A peer's module, None where it is not installed."""
    try:
        return importlib.import_module(_MODULES[name])
    except ModuleNotFoundError:
        return None


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _labels(size: Size) -> torch.Tensor:
    return torch.randint(size.c, (size.n,), generator=_generator())


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


def _snn(name: str, loops: str = "", float32_only: str = "", **options: Any) -> Peer:
    return Peer("snnTorch", lambda module, size: getattr(module, name)(**options), loops, float32_only=float32_only)


def _snn_groups(name: str) -> Peer:
    def make(module: ModuleType, size: Size) -> Loss:
        loss: Loss = getattr(module, name)(population_code=True, num_classes=size.groups)
        return loss

    return Peer("snnTorch", make, "classes")


def _snn_three_times(module: ModuleType, size: Size) -> Loss:
    loss = module.mse_temporal_loss(target_is_time=True, multi_spike=True)
    return lambda x, times: loss(x, times.movedim(-1, 0))


def _dl(name: str, float32_only: str = "", **options: Any) -> Peer:
    def make(module: ModuleType, size: Size) -> Loss:
        loss: Loss = getattr(module, name)(**options)
        return loss

    return Peer("lava-dl", make, time_first=False, float32_only=float32_only)


def _enforcer(enforcer: Any) -> Loss:
    def loss(spikes: torch.Tensor, target: None) -> torch.Tensor:
        enforcer.clear()
        enforcer.append(spikes)
        value: torch.Tensor = enforcer.loss
        return value

    return loss


def _decolle(size: Size) -> Loss:
    loss = L.DECOLLELoss(size.c, 10, generator=_generator())
    return lambda spikes, labels: loss.to(spikes.device)(spikes, labels)


def _clusters(count: torch.Tensor, k_negative: torch.Tensor) -> list[torch.Tensor]:
    """What has to be equal: the peer's k+ of a neuron depends on the other neurons, and its k- needs a cluster."""
    return [count.double(), k_negative & (count > 0).unsqueeze(-1)]


def _our_clusters(v: torch.Tensor, target: None) -> list[torch.Tensor]:
    count, _, k_negative = F.spike_cluster(v, 1.0, 5)
    return _clusters(count, k_negative)


def _their_clusters(module: ModuleType, size: Size) -> Loss:
    def run(v: torch.Tensor, target: None) -> list[torch.Tensor]:
        count, _, k_negative = module.spike_cluster(v.flatten(1), 1.0, 5)
        neurons = (size.n, size.c)
        return _clusters(count.reshape(neurons), k_negative.movedim(0, -1).reshape(*neurons, -1))

    return run


_FILTER = "its filter is float32"
_TARGETS = "its backward raises: targets are float32"
_NO_MSE = "torch 2.3 has no bfloat16 mse_loss of single numbers"
_RANKS = "its second and third spikes are wrong: erasing one erases its step for all neurons"
CASES = [
    Case("ce_count_loss", "count", lambda s: L.CECountLoss(), peers=(_snn("ce_count_loss"),)),
    Case(
        "ce_count_loss, population", "count",
        lambda s: L.CECountLoss(population_code=True, num_classes=s.groups), _group_labels,
        (_snn_groups("ce_count_loss"),),
    ),
    Case("mse_count_loss", "count", lambda s: L.MSECountLoss(), peers=(_snn("mse_count_loss", float32_only=_TARGETS),)),
    Case(
        "mse_count_loss, population", "count",
        lambda s: L.MSECountLoss(population_code=True, num_classes=s.groups), _group_labels,
        (_snn_groups("mse_count_loss"),),
    ),
    Case("region_count_loss", "count", lambda s: L.RegionCountLoss(10, 2, stop=s.t // 2)),
    Case("count_bounds_loss", "count", lambda s: lambda x, y: F.count_bounds_loss(x, 1, 5), _nothing),
    Case("spike_rate", "count", lambda s: L.SpikeRate(**_RATES), peers=(_dl("SpikeRate", _TARGETS, **_RATES),)),
    Case("spike_max", "count", lambda s: L.SpikeMax(), peers=(_dl("SpikeMax"),)),
    Case(
        "spike_max, softmax", "count", lambda s: L.SpikeMax(mode="softmax"), peers=(_dl("SpikeMax", mode="softmax"),),
    ),
    Case("spike_moid", "count", lambda s: L.SpikeMoid(), _one_hot, (_dl("SpikeMoid", _TARGETS),)),
    Case(
        "sparsity_enforcer", "count", lambda s: _enforcer(L.SparsityEnforcer()), _nothing,
        (
            Peer(
                "lava-dl", lambda module, size: _enforcer(module.SparsityEnforcer()), time_first=False,
                float32_only=_NO_MSE,
            ),
        ),
    ),
    Case("sparsity_enforcer, per neuron", "count", lambda s: _enforcer(L.SparsityEnforcer(per="neuron")), _nothing),
    Case("distillation_loss", "count", lambda s: L.DistillationLoss(), _scores),
    Case(
        "ce_max_membrane_loss", "count", lambda s: L.CEMaxMembraneLoss(), peers=(_snn("ce_max_membrane_loss"),),
        membrane=True,
    ),
    Case("ce_membrane_integral_loss", "count", lambda s: L.CEMembraneIntegralLoss(), membrane=True),
    Case(
        "mse_membrane_loss", "count", lambda s: L.MSEMembraneLoss(),
        peers=(_snn("mse_membrane_loss", "time", float32_only=_TARGETS),), membrane=True,
    ),
    Case("membrane_suppression_loss", "count", lambda s: L.MembraneSuppressionLoss(), membrane=True),
    Case(
        "information_maximization_loss", "count", lambda s: lambda x, y: F.information_maximization_loss(x), _nothing,
        membrane=True,
    ),
    Case("ce_rate_loss", "step", lambda s: L.CERateLoss(), peers=(_snn("ce_rate_loss", "time"),)),
    Case(
        "tet_loss", "step", lambda s: L.TETLoss(), membrane=True,
        peers=(Peer("SpikingJelly", lambda module, size: module.temporal_efficient_training_cross_entropy),),
    ),
    Case("distillation_loss, per step", "step", lambda s: L.DistillationLoss(per_step=True), _trains),
    Case("decolle_loss", "step", _decolle, lambda s: _labels(Size(s.n, 10, s.t))),
    Case(
        "spike_rate, window", "step", lambda s: L.SpikeRate(**_RATES, moving_window=_WINDOW), _step_labels,
        (_dl("SpikeRate", _FILTER, **_RATES, moving_window=_WINDOW),),
    ),
    Case(
        "spike_max, window", "step", lambda s: L.SpikeMax(mode="softmax", moving_window=_WINDOW), _step_labels,
        (_dl("SpikeMax", _FILTER, mode="softmax", moving_window=_WINDOW),),
    ),
    Case(
        "spike_moid, window", "step", lambda s: L.SpikeMoid(moving_window=_WINDOW), _one_hot,
        (_dl("SpikeMoid", _FILTER, moving_window=_WINDOW),),
    ),
    Case(
        "mse_temporal_loss", "step", lambda s: L.MSETemporalLoss(target_is_time=True), _times,
        (_snn("mse_temporal_loss", "elements", float32_only=_TARGETS, target_is_time=True),),
    ),
    Case(
        "mse_temporal_loss, 3 spikes", "step", lambda s: L.MSETemporalLoss(target_is_time=True, multi_spike=True),
        _three_times,
        (Peer("snnTorch", _snn_three_times, "elements", differs=_RANKS, float32_only=_TARGETS),),
    ),
    Case("ce_temporal_loss", "step", lambda s: L.CETemporalLoss(), peers=(_snn("ce_temporal_loss", "elements"),)),
    Case("first_spike_loss", "step", lambda s: L.FirstSpikeLoss()),
    Case("spike_time", "van Rossum", lambda s: L.SpikeTime(), _trains, (_dl("SpikeTime", _FILTER),)),
    Case("stca_loss", "", lambda s: L.STCALoss(), membrane=True),
]  # fmt: skip
CLUSTER = Case(
    "spike_cluster", "", lambda s: _our_clusters, _nothing,
    (Peer("SpikingJelly, clock-driven", _their_clusters, "time"),), membrane=True, backward=False,
)  # fmt: skip


def _similarity(kernel: str, *args: float) -> Case:
    def make(module: ModuleType, size: Size) -> Loss:
        one_hot = torch.nn.functional.one_hot
        return lambda x, labels: module.spike_similar_loss(x, one_hot(labels, 10).float(), kernel, "mse", *args)

    return Case(
        f"spike_similar_loss, {kernel}",
        "similarity",
        lambda s: L.SpikeSimilarityLoss(kernel, "mse", *args),
        lambda s: _labels(Size(s.n, 10, s.t)),
        (Peer("SpikingJelly", make, time_first=False),),
    )


SIMILARITIES = [_similarity("linear"), _similarity("sigmoid", 0.1), _similarity("gaussian", 3.0)]
