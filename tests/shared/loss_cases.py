"""The losses that every test of ``tests/losses/test_every_loss.py`` goes through: one row, one case."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import loss_references as ref
import torch
from loss_references import C, N, T

import lava_spikeloss as L
from lava_spikeloss import functional

__all__ = ["CASES", "LABELLED", "WEIGHTED", "Case"]


@dataclass(frozen=True)
class Case:
    """A loss with options, inputs, and what is known about it.

    Attributes:
        name: the loss, and after a dash its options in a word.
        module: makes the module from the options.
        reference: what ``reduction="none"`` gives, by loops over lists.
        options: of module and functional.
        target: what the input is compared with; None for nothing.
        free: the axes that may be permuted without a change of the loss: samples "n", classes "c", steps "t".
        neurons: those of the input.
        membrane: whether the input is membrane potentials, not spikes.
        smooth: whether the gradient is the derivative, not a surrogate.
        function: the functional, if it is not that of the module.
        extra: further tensors of a call of the functional.
    """

    name: str
    module: Callable[..., torch.nn.Module]
    reference: ref.Reference
    options: dict[str, Any] = field(default_factory=dict)
    target: torch.Tensor | None = field(default_factory=lambda: torch.tensor(ref.LABELS))
    free: str = "nct"
    neurons: int = C
    membrane: bool = False
    smooth: bool = True
    function: Callable[..., torch.Tensor] | None = None
    extra: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def functional(self) -> Callable[..., torch.Tensor]:
        return self.function or self.module._function  # type: ignore[attr-defined, no-any-return]

    @property
    def parameters(self) -> set[str]:
        return set(inspect.signature(self.functional).parameters)

    @property
    def reducible(self) -> bool:
        return self.module is not L.InformationMaximizationLoss

    @property
    def labelled(self) -> bool:
        return self.target is not None and self.target.dtype == torch.int64

    def input(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(N, self.neurons, T, generator=generator, dtype=torch.float64)
        keep = torch.rand(N, self.neurons, T, generator=generator) < 0.6
        return (2 * x - 0.5).to(dtype) if self.membrane else (x * keep).to(dtype)

    def arguments(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x,) if self.target is None else (x, self.target.clone())

    def build(self, **options: Any) -> torch.nn.Module:
        return self.module(**self.extra, **{**self.options, **options})

    def __call__(self, *args: Any, **options: Any) -> torch.Tensor:
        return self.functional(*args, **self.extra, **{**self.options, **options})


class _WithMembrane(torch.nn.Module):
    """DECOLLE's module with its third argument, and a readout that is given."""

    def __init__(self, readout: torch.Tensor, membrane: torch.Tensor, **options: Any) -> None:
        super().__init__()
        self.loss = L.DECOLLELoss(readout.shape[1], readout.shape[0], **options)
        self.loss.readout = readout
        self.membrane = membrane

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.loss(input, target, self.membrane)


def _similarity(kernel: str, loss: str, *args: float) -> Case:
    """The kernel's parameter stands between options, which a keyword cannot give."""

    def function(x: torch.Tensor, labels: torch.Tensor, **options: Any) -> torch.Tensor:
        return functional.spike_similar_loss(x, labels, kernel, loss, *args, **options)

    def module(**options: Any) -> torch.nn.Module:
        return L.SpikeSimilarityLoss(kernel, loss, *args, **options)

    name, reference = f"SpikeSimilarity-{kernel}-{loss}", ref.similarity(kernel, loss)
    return Case(name, module, reference, free="nct", function=function)


_GROUPS = {"population_code": True, "num_classes": C}
_GROUP_RATES = {**_GROUPS, "correct_rate": 0.9, "incorrect_rate": 0.1}
_RATES = {"true_rate": 0.8, "false_rate": 0.1}
_COUNTED = {"mode": "count", "moving_window": 3}
_MOID = {"alpha": 0.5, "theta": 0.2}
_UNCUT = {"time_constant": 2.5, "length": None}
_ORDER3 = {"time_constant": 3, "length": 4, "filter_order": 3}
_REGION = {"time_constant": 3, "filter_order": 2, "start": 2, "stop": 5}
_COUNT = {"true_count": 3, "false_count": 0.5, "start": 1, "stop": 5}
_PATH = {"time_var_targets": True}
_LAYER = {"lower": 9.0, "upper": 10.0, "per": "layer"}
_MEAN = {"v_threshold": 1.2}
_MULTI = {"on_target": [0, 2, 3], "off_target": [-1, -1, 4], "multi_spike": True, "tolerance": 2}
_INVERSE = {"inverse": "reciprocal", "temperature": 0.25}
_EARLY = {"xi": 2.0, "early_weight": 0.01, "early_scale": 4.0}
_STEPS = {"tau": 1.5, "per_step": True}
_TERMS, _TWO = {"lam_high": 0.2, "lam_low": 0.3}, torch.tensor(ref.READOUT_LABELS)
_DECOLLE = {"readout": ref.READOUT, "membrane": ref.MEMBRANE}

CASES = [
    Case("SpikeTime", L.SpikeTime, ref.spike_time(5, 100), target=ref.DESIRED, free="n"),
    Case("SpikeTime-uncut", L.SpikeTime, ref.spike_time(2.5, T), _UNCUT, ref.DESIRED, "n"),
    Case("SpikeTime-cut", L.SpikeTime, ref.spike_time(3, 4), {"time_constant": 3, "length": 4}, ref.DESIRED, "n"),
    Case("SpikeTime-order3", L.SpikeTime, ref.spike_time(3, 4, 3), _ORDER3, ref.DESIRED, "n"),
    Case("SpikeTime-region", L.SpikeTime, ref.spike_time(3, 100, 2, 2, 5), _REGION, ref.DESIRED, "n"),
    Case("SpikeRate", L.SpikeRate, ref.spike_rate, _RATES),
    Case("SpikeRate-window", L.SpikeRate, ref.spike_rate_window, {**_RATES, "moving_window": 4}, free="nc"),
    Case("SpikeMax", L.SpikeMax, ref.spike_max),
    Case("SpikeMax-softmax", L.SpikeMax, ref.spike_max_softmax, {"mode": "softmax", "scale": 5.0}),
    Case("SpikeMax-count-window", L.SpikeMax, ref.spike_max_count_window, _COUNTED, free="nc", smooth=False),
    Case("SpikeMoid", L.SpikeMoid, ref.spike_moid, _MOID),
    Case("SpikeMoid-window", L.SpikeMoid, ref.spike_moid_window, {**_MOID, "moving_window": 2}, free="nc"),
    Case("CERate", L.CERateLoss, ref.ce_rate),
    Case("CERate-population", L.CERateLoss, ref.ce_rate_population, _GROUPS, free="nt", neurons=2 * C),
    Case("CECount", L.CECountLoss, ref.ce_count),
    Case("CECount-population", L.CECountLoss, ref.ce_count_population, _GROUPS, free="nt", neurons=3 * C),
    Case("CECount-smoothed", L.CECountLoss, ref.ce_count_smoothed, {"label_smoothing": 0.2, "temperature": 2.0}),
    Case("CECount-focal", L.CECountLoss, ref.ce_count_focal, {"focal_gamma": 2.0}),
    Case("MSECount", L.MSECountLoss, ref.mse_count, {"correct_rate": 0.29, "incorrect_rate": 0.07}),
    Case("MSECount-population", L.MSECountLoss, ref.mse_count_population, _GROUP_RATES, free="nt", neurons=2 * C),
    Case("MSECount-rate", L.MSECountLoss, ref.mse_count_rate, {"time_scale": "rate"}),
    Case("RegionCount", L.RegionCountLoss, ref.region_count, _COUNT, free="nc"),
    Case("CountBounds", L.CountBoundsLoss, ref.count_bounds, {"lower": 1.5, "upper": 2.0}, None),
    Case("CountBounds-layer", L.CountBoundsLoss, ref.count_bounds_layer, _LAYER, None),
    Case("CEMaxMembrane", L.CEMaxMembraneLoss, ref.ce_max_membrane, membrane=True),
    Case("CEMembraneIntegral", L.CEMembraneIntegralLoss, ref.ce_membrane_integral, free="nc", membrane=True),
    Case("MSEMembrane", L.MSEMembraneLoss, ref.mse_membrane, {"on_target": 1.5, "off_target": -0.5}, membrane=True),
    Case("MSEMembrane-path", L.MSEMembraneLoss, ref.mse_membrane_path, _PATH, ref.DESIRED, "n", membrane=True),
    Case("MembraneSuppression", L.MembraneSuppressionLoss, ref.membrane_suppression, {"ceiling": 0.1}, membrane=True),
    Case("InformationMaximization", L.InformationMaximizationLoss, ref.information, _MEAN, None, membrane=True),
    Case("MSETemporal", L.MSETemporalLoss, ref.mse_temporal([1], [-1]), {"on_target": 1}, free="nc", smooth=False),
    Case("MSETemporal-multi", L.MSETemporalLoss, ref.mse_temporal_multi, _MULTI, free="nc", smooth=False),
    Case("CETemporal", L.CETemporalLoss, ref.ce_temporal, free="nc", smooth=False),
    Case("CETemporal-reciprocal", L.CETemporalLoss, ref.ce_temporal_reciprocal, _INVERSE, free="nc", smooth=False),
    Case("FirstSpike", L.FirstSpikeLoss, ref.first_spike, _EARLY, free="nc", smooth=False),
    Case("TET", L.TETLoss, ref.tet),
    Case("TET-lambda", L.TETLoss, ref.tet_lambda, {"lam": 0.3, "phi": 0.5}),
    Case("STCA", L.STCALoss, ref.stca, {"T_in": 1}, free="nc", membrane=True),
    Case("Distillation", L.DistillationLoss, ref.distillation, target=ref.TEACHER, free="nt"),
    Case("Distillation-steps", L.DistillationLoss, ref.distillation_steps, _STEPS, ref.TEACHER_STEPS, "n"),
    Case("Distillation-population", L.DistillationLoss, ref.distillation_population, _GROUPS, ref.TEACHER, "nt", 2 * C),
    Case("DECOLLE", _WithMembrane, ref.decolle, _TERMS, _TWO, "", function=functional.decolle_loss, extra=_DECOLLE),
    _similarity("linear", "mse"),
    _similarity("linear", "l1"),
    _similarity("linear", "bce"),
    _similarity("sigmoid", "mse", 0.3),
    _similarity("sigmoid", "l1", 0.3),
    _similarity("sigmoid", "bce", 0.3),
    _similarity("gaussian", "mse", 1.5),
    _similarity("gaussian", "l1", 1.5),
]  # fmt: skip

LABELLED = [case for case in CASES if case.labelled]
WEIGHTED = [case for case in LABELLED if "weight" in case.parameters]
