"""One skeleton for every loss: the same checks, parametrised over the cases below.

A case is a loss with its options, inputs that suit it, and a slow reference: plain Python loops over plain lists,
written from the definition in the docstring, for ``reduction="none"``.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from accelerator import DEVICE, Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

import lava_spikeloss
from lava_spikeloss import functional

N, C, T = 3, 4, 6
LABELS = [2, 0, 2]
WEIGHT = [0.5, 1.0, 2.0, 0.25]
Values = list[Any]


@dataclass(frozen=True)
class Case:
    """A loss with options, inputs, and what is known about it."""

    name: str
    module: Callable[..., torch.nn.Module]
    function: Callable[..., torch.Tensor]
    reference: Callable[[Values], Values]
    options: dict[str, Any] = field(default_factory=dict)
    target: Callable[[], torch.Tensor | None] = lambda: torch.tensor(LABELS)
    call: dict[str, torch.Tensor] = field(default_factory=dict)  # further tensors of a call
    shape: tuple[int, ...] = (N, C, T)
    spikes: bool = True  # takes bool and integer spikes
    smooth: bool = True  # the gradient is the derivative, not a surrogate
    reducible: bool = True
    permutable: bool = True  # "none" has one row per sample
    any_time_order: bool = False
    any_class_order: bool = True

    def input(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(self.shape, generator=generator, dtype=torch.float64)
        keep = torch.rand(self.shape, generator=generator) < 0.6
        return (x * keep).to(dtype) if self.spikes else (2 * x - 0.5).to(dtype)

    def __call__(self, x: torch.Tensor, target: torch.Tensor | None, **options: Any) -> torch.Tensor:
        positional = [x] if target is None else [x, target]
        return self.function(*positional, **self.call, **{**self.options, **options})


# --- references -------------------------------------------------------------------------------------------------------


def log_softmax(z: Values) -> Values:
    top = max(z)
    return [v - top - math.log(sum(math.exp(u - top) for u in z)) for v in z]


def cross_entropy(z: Values, y: int) -> float:
    return -log_softmax(z)[y]


def window_rates(s: Values, w: int) -> Values:
    return [sum(s[max(0, t - w + 1) : t + 1]) / w for t in range(len(s))]


def low_pass(d: Values, tau: float, length: int, order: int) -> Values:
    y = d
    kernel = [1.0] + [0.0] * (len(d) - 1)
    for _ in range(order):
        kernel = [sum(kernel[k - j] * math.exp(-j / tau) for j in range(k + 1)) for k in range(len(d))]
    return [sum(kernel[k] * y[t - k] for k in range(min(length, t + 1))) for t in range(len(d))]


def first_times(s: Values, ranks: int, silent: float) -> Values:
    fired = [t for t, v in enumerate(s) if v != 0]
    return [float(fired[f]) if f < len(fired) else silent for f in range(ranks)]


def pooled(sample: Values, classes: int) -> Values:
    group = len(sample) // classes
    return [
        [sum(sample[c * group + g][t] for g in range(group)) for t in range(len(sample[0]))] for c in range(classes)
    ]


def columns(sample: Values) -> Values:
    return [[train[t] for train in sample] for t in range(len(sample[0]))]


def mean(v: Values) -> float:
    return sum(v) / len(v)


def hot(c: int, y: int, on: float = 1.0, off: float = 0.0) -> float:
    return on if c == y else off


def per_sample(formula: Callable[[Values, int], Any]) -> Callable[[Values], Values]:
    return lambda x: [formula(sample, y) for sample, y in zip(x, LABELS, strict=True)]


def per_class(formula: Callable[[Values, int, int], Any]) -> Callable[[Values], Values]:
    return per_sample(lambda sample, y: [formula(train, c, y) for c, train in enumerate(sample)])


DESIRED = (torch.rand(N, C, T, generator=torch.Generator().manual_seed(7)) < 0.4).double()


def spike_time(tau: float, length: int, order: int = 1, start: int = 0, stop: int = T) -> Callable[[Values], Values]:
    def reference(x: Values) -> Values:
        return [
            [
                [v**2 for v in low_pass([a - b for a, b in zip(s, d, strict=True)], tau, length, order)[start:stop]]
                for s, d in zip(sample, desired, strict=True)
            ]
            for sample, desired in zip(x, DESIRED.tolist(), strict=True)
        ]

    return reference


def share_nll(rates: Values, y: int) -> float:
    return -math.log(rates[y] / (sum(rates) + 1e-6))


def count_nll(rates: Values, y: int, one: float) -> float:
    lifted = [max(r, one) for r in rates]
    return -math.log(lifted[y] / sum(lifted))


def bce(logit: float, y: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def smoothed(z: Values, y: int, epsilon: float) -> float:
    log_p = log_softmax(z)
    return -(1 - epsilon) * log_p[y] - epsilon * mean(log_p)


def focal(z: Values, y: int, gamma: float) -> float:
    log_p = log_softmax(z)[y]
    return -((1 - math.exp(log_p)) ** gamma) * log_p


def stca(v: Values, desired: int, t_in: int) -> float:
    spikes = [t for t, u in enumerate(v) if u >= 1]
    clusters: Values = []
    for t in spikes:
        if clusters and t - clusters[-1][-1] <= t_in:
            clusters[-1].append(t)
        else:
            clusters.append([t])
    free = [t for t in range(len(v)) if all(abs(t - s) > t_in for s in spikes)]
    if len(clusters) > desired:
        return v[min(clusters, key=len)[-1]] - 1
    if len(clusters) < desired and free:
        return 1 - max(v[t] for t in free)
    return 0.0


def similarity(kernel: str, loss: str) -> Callable[[Values], Values]:
    def reference(x: Values) -> Values:
        rows = [[v for train in sample for v in train] for sample in x]

        def p(a: Values, b: Values) -> float:
            dot = sum(u * v for u, v in zip(a, b, strict=True))
            if kernel == "linear":
                return dot / math.sqrt(sum(u * u for u in a) * sum(v * v for v in b))
            if kernel == "sigmoid":
                return 1 / (1 + math.exp(-0.3 * dot))
            return math.exp(-sum((u - v) ** 2 for u, v in zip(a, b, strict=True)) / (2 * 1.5**2))

        def error(i: int, j: int) -> float:
            q, y = p(rows[i], rows[j]), float(LABELS[i] == LABELS[j])
            if loss == "bce":
                q = min(q, 1 - 1e-4) if kernel == "linear" else q
                return -math.log(q) if y else -math.log(1 - q)
            return (q - y) ** 2 if loss == "mse" else abs(q - y)

        return [[error(i, j) for j in range(N)] for i in range(N)]

    return reference


TEACHER = torch.randn(N, C, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
TEACHER_STEPS = torch.randn(N, C, T, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
READOUT = torch.randn(2, C, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
DECOLLE_LABELS = [1, 0, 1]
MEMBRANE = torch.randn(N, C, T, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def kl(student: Values, teacher: Values, tau: float) -> float:
    log_s, log_t = log_softmax([z / tau for z in student]), log_softmax([z / tau for z in teacher])
    return tau**2 * sum(math.exp(b) * (b - a) for a, b in zip(log_s, log_t, strict=True))


def distillation(tau: float) -> Callable[[Values], Values]:
    return lambda x: [
        kl([mean(train) for train in sample], teacher, tau) for sample, teacher in zip(x, TEACHER.tolist(), strict=True)
    ]


def distillation_steps(tau: float) -> Callable[[Values], Values]:
    return lambda x: [
        mean([kl(s, t, tau) for s, t in zip(columns(sample), columns(teacher), strict=True)])
        for sample, teacher in zip(x, TEACHER_STEPS.tolist(), strict=True)
    ]


def decolle(x: Values) -> Values:
    losses = []
    for sample, y, v in zip(x, DECOLLE_LABELS, MEMBRANE.flatten(1).tolist(), strict=True):
        errors = [
            (sum(g * s for g, s in zip(row, step, strict=True)) - hot(c, y)) ** 2
            for step in columns(sample)
            for c, row in enumerate(READOUT.tolist())
        ]
        low = max(0.0, 0.1 - mean([1 / (1 + math.exp(-u)) for u in v]))
        losses.append(mean(errors) + 0.2 * mean([max(0.0, u + 0.01) for u in v]) + 0.3 * low)
    return losses


def first_spike(sample: Values, y: int) -> float:
    times = [first_times(train, 1, T)[0] for train in sample]
    differences = sum(math.exp(-(t - times[y]) / 2.0) for t in times)
    return math.log(differences) + 0.01 * (math.exp(times[y] / 4.0) - 1)


def mse_times(on: Values, off: Values, tolerance: float = 0) -> Callable[[Values, int, int], Any]:
    def formula(train: Values, c: int, y: int) -> Any:
        wanted = [t if t >= 0 else t + T for t in (on if c == y else off)]
        errors = [a - b for a, b in zip(first_times(train, len(wanted), T - 1), wanted, strict=True)]
        losses = [0.0 if abs(e) < tolerance else (e / T) ** 2 for e in errors]
        return losses if len(wanted) > 1 else losses[0]

    return formula


L, F_ = lava_spikeloss, functional
CASES = [
    Case("SpikeTime", L.SpikeTime, F_.spike_time, spike_time(5, 100), target=lambda: DESIRED, any_class_order=False),
    Case(
        "SpikeTime-uncut", L.SpikeTime, F_.spike_time, spike_time(2.5, T), {"time_constant": 2.5, "length": None},
        target=lambda: DESIRED, any_class_order=False,
    ),
    Case(
        "SpikeTime-cut", L.SpikeTime, F_.spike_time, spike_time(3, 4), {"time_constant": 3, "length": 4},
        target=lambda: DESIRED, any_class_order=False,
    ),
    Case(
        "SpikeTime-order3", L.SpikeTime, F_.spike_time, spike_time(3, 4, 3),
        {"time_constant": 3, "length": 4, "filter_order": 3}, target=lambda: DESIRED, any_class_order=False,
    ),
    Case(
        "SpikeTime-region", L.SpikeTime, F_.spike_time, spike_time(3, 100, 2, 2, 5),
        {"time_constant": 3, "filter_order": 2, "start": 2, "stop": 5}, target=lambda: DESIRED, any_class_order=False,
    ),
    Case(
        "SpikeRate", L.SpikeRate, F_.spike_rate, per_class(lambda s, c, y: (mean(s) - hot(c, y, 0.8, 0.1)) ** 2),
        {"true_rate": 0.8, "false_rate": 0.1}, any_time_order=True,
    ),
    Case(
        "SpikeRate-window", L.SpikeRate, F_.spike_rate,
        per_class(lambda s, c, y: [(r - hot(c, y, 0.8, 0.1)) ** 2 for r in window_rates(s, 4)]),
        {"true_rate": 0.8, "false_rate": 0.1, "moving_window": 4},
    ),
    Case(
        "SpikeMax", L.SpikeMax, F_.spike_max, per_sample(lambda x, y: share_nll([mean(s) for s in x], y)),
        any_time_order=True,
    ),
    Case(
        "SpikeMax-softmax", L.SpikeMax, F_.spike_max,
        per_sample(lambda x, y: cross_entropy([5 * mean(s) for s in x], y)), {"mode": "softmax", "scale": 5.0},
        any_time_order=True,
    ),
    Case(
        "SpikeMax-count-window", L.SpikeMax, F_.spike_max,
        per_sample(lambda x, y: [count_nll(r, y, 1 / 3) for r in columns([window_rates(s, 3) for s in x])]),
        {"mode": "count", "moving_window": 3}, smooth=False,
    ),
    Case(
        "SpikeMoid", L.SpikeMoid, F_.spike_moid, per_class(lambda s, c, y: bce((mean(s) - 0.2) / 0.5, hot(c, y))),
        {"alpha": 0.5, "theta": 0.2}, any_time_order=True,
    ),
    Case(
        "SpikeMoid-window", L.SpikeMoid, F_.spike_moid,
        per_class(lambda s, c, y: [bce((r - 0.2) / 0.5, hot(c, y)) for r in window_rates(s, 2)]),
        {"alpha": 0.5, "theta": 0.2, "moving_window": 2},
    ),
    Case(
        "CERate", L.CERateLoss, F_.ce_rate_loss,
        per_sample(lambda x, y: mean([cross_entropy(step, y) for step in columns(x)])), any_time_order=True,
    ),
    Case(
        "CERate-population", L.CERateLoss, F_.ce_rate_loss,
        per_sample(lambda x, y: mean([cross_entropy(step, y) for step in columns(pooled(x, C))])),
        {"population_code": True, "num_classes": C}, shape=(N, 2 * C, T), any_time_order=True, any_class_order=False,
    ),
    Case(
        "CECount", L.CECountLoss, F_.ce_count_loss, per_sample(lambda x, y: cross_entropy([sum(s) for s in x], y)),
        any_time_order=True,
    ),
    Case(
        "CECount-population", L.CECountLoss, F_.ce_count_loss,
        per_sample(lambda x, y: cross_entropy([sum(s) for s in pooled(x, C)], y)),
        {"population_code": True, "num_classes": C}, shape=(N, 3 * C, T), any_time_order=True, any_class_order=False,
    ),
    Case(
        "CECount-smoothed", L.CECountLoss, F_.ce_count_loss,
        per_sample(lambda x, y: smoothed([sum(s) / 2 for s in x], y, 0.2)),
        {"label_smoothing": 0.2, "temperature": 2.0}, any_time_order=True,
    ),
    Case(
        "CECount-focal", L.CECountLoss, F_.ce_count_loss, per_sample(lambda x, y: focal([sum(s) for s in x], y, 2.0)),
        {"focal_gamma": 2.0}, any_time_order=True,
    ),
    Case(
        "CEMaxMembrane", L.CEMaxMembraneLoss, F_.ce_max_membrane_loss,
        per_sample(lambda x, y: cross_entropy([max(v) for v in x], y)), spikes=False, any_time_order=True,
    ),
    Case(
        "CEMembraneIntegral", L.CEMembraneIntegralLoss, F_.ce_membrane_integral_loss,
        per_sample(lambda x, y: cross_entropy([sum(u * math.exp(-t / T) for t, u in enumerate(v)) for v in x], y)),
        spikes=False,
    ),
    Case(
        "MSECount", L.MSECountLoss, F_.mse_count_loss,
        per_class(lambda s, c, y: (sum(s) - T * hot(c, y, 0.29, 0.07)) ** 2 / T),
        {"correct_rate": 0.29, "incorrect_rate": 0.07}, any_time_order=True,
    ),
    Case(
        "MSECount-population", L.MSECountLoss, F_.mse_count_loss,
        per_sample(lambda x, y: [(sum(s) - 2 * T * hot(c, y, 0.9, 0.1)) ** 2 / T for c, s in enumerate(pooled(x, C))]),
        {"correct_rate": 0.9, "incorrect_rate": 0.1, "population_code": True, "num_classes": C}, shape=(N, 2 * C, T),
        any_time_order=True, any_class_order=False,
    ),
    Case(
        "MSECount-rate", L.MSECountLoss, F_.mse_count_loss,
        per_class(lambda s, c, y: (mean(s) - hot(c, y)) ** 2), {"time_scale": "rate"}, any_time_order=True,
    ),
    Case(
        "RegionCount", L.RegionCountLoss, F_.region_count_loss,
        per_class(lambda s, c, y: (sum(s[1:5]) - hot(c, y, 3, 0.5)) ** 2 / 8),
        {"true_count": 3, "false_count": 0.5, "start": 1, "stop": 5},
    ),
    Case(
        "MSEMembrane", L.MSEMembraneLoss, F_.mse_membrane_loss,
        per_class(lambda v, c, y: mean([(u - hot(c, y, 1.5, -0.5)) ** 2 for u in v])),
        {"on_target": 1.5, "off_target": -0.5}, spikes=False, any_time_order=True,
    ),
    Case(
        "MSEMembrane-trajectory", L.MSEMembraneLoss, F_.mse_membrane_loss,
        lambda x: [
            [mean([(u - w) ** 2 for u, w in zip(v, d, strict=True)]) for v, d in zip(sample, desired, strict=True)]
            for sample, desired in zip(x, DESIRED.tolist(), strict=True)
        ],
        {"time_var_targets": True}, target=lambda: DESIRED, spikes=False, any_class_order=False,
    ),
    Case(
        "MembraneSuppression", L.MembraneSuppressionLoss, F_.membrane_suppression_loss,
        per_class(lambda v, c, y: mean([hot(c, y, 0, 1) * max(0.0, u - 0.1) ** 2 for u in v])), {"ceiling": 0.1},
        spikes=False, any_time_order=True,
    ),
    Case(
        "InformationMaximization", L.InformationMaximizationLoss, F_.information_maximization_loss,
        lambda x: [(mean([u for sample in x for v in sample for u in v]) - 1.2) ** 2], {"v_threshold": 1.2},
        target=lambda: None, spikes=False, reducible=False, any_time_order=True, any_class_order=False,
    ),
    Case(
        "MSETemporal", L.MSETemporalLoss, F_.mse_temporal_loss, per_class(mse_times([1], [-1])), {"on_target": 1},
        smooth=False,
    ),
    Case(
        "MSETemporal-multi", L.MSETemporalLoss, F_.mse_temporal_loss,
        per_class(mse_times([0, 2, 3], [-1, -1, 4], tolerance=2)),
        {"on_target": [0, 2, 3], "off_target": [-1, -1, 4], "multi_spike": True, "tolerance": 2}, smooth=False,
    ),
    Case(
        "CETemporal", L.CETemporalLoss, F_.ce_temporal_loss,
        per_sample(lambda x, y: cross_entropy([-first_times(s, 1, T - 1)[0] for s in x], y)), smooth=False,
    ),
    Case(
        "CETemporal-reciprocal", L.CETemporalLoss, F_.ce_temporal_loss,
        per_sample(lambda x, y: cross_entropy([4 / (first_times(s, 1, T - 1)[0] + 1) for s in x], y)),
        {"inverse": "reciprocal", "temperature": 0.25}, smooth=False,
    ),
    Case(
        "FirstSpike", L.FirstSpikeLoss, F_.first_spike_loss, per_sample(first_spike),
        {"xi": 2.0, "early_weight": 0.01, "early_scale": 4.0}, smooth=False,
    ),
    Case(
        "TET", L.TETLoss, F_.tet_loss,
        per_sample(lambda x, y: mean([cross_entropy(step, y) for step in columns(x)])), any_time_order=True,
    ),
    Case(
        "TET-lambda", L.TETLoss, F_.tet_loss,
        per_sample(
            lambda x, y: 0.7 * mean([cross_entropy(step, y) for step in columns(x)])
            + 0.3 * mean([(u - 0.5) ** 2 for v in x for u in v])
        ),
        {"lam": 0.3, "phi": 0.5}, any_time_order=True,
    ),
    Case(
        "STCA", L.STCALoss, F_.stca_loss, per_class(lambda v, c, y: stca(v, int(c == y), 1)), {"T_in": 1}, spikes=False,
    ),
    *[
        Case(
            f"SpikeSimilarity-{kernel}-{loss}",
            lambda kernel_type, loss_type, args=(), **o: L.SpikeSimilarityLoss(kernel_type, loss_type, *args, **o),
            lambda x, y, kernel_type, loss_type, args=(), **o: F_.spike_similar_loss(
                x, y, kernel_type, loss_type, *args, **o
            ),
            similarity(kernel, loss), {"kernel_type": kernel, "loss_type": loss, "args": args},
            permutable=False, any_time_order=True,
        )
        for kernel, args in (("linear", ()), ("sigmoid", (0.3,)), ("gaussian", (1.5,)))
        for loss in ("mse", "l1", "bce")
        if not (kernel == "gaussian" and loss == "bce")  # -log(1 - exp(-0)): below, by itself
    ],
    Case(
        "CountBounds", L.CountBoundsLoss, F_.count_bounds_loss,
        lambda x: [[max(0.0, 1.5 - sum(s)) ** 2 + max(0.0, sum(s) - 2.0) ** 2 for s in sample] for sample in x],
        {"lower": 1.5, "upper": 2.0}, target=lambda: None, any_time_order=True,
    ),
    Case(
        "Distillation", L.DistillationLoss, F_.distillation_loss, distillation(2.0), target=lambda: TEACHER,
        any_time_order=True, any_class_order=False,
    ),
    Case(
        "Distillation-steps", L.DistillationLoss, F_.distillation_loss, distillation_steps(1.5),
        {"tau": 1.5, "per_step": True}, target=lambda: TEACHER_STEPS, any_class_order=False,
    ),
    Case(
        "Distillation-population", L.DistillationLoss, F_.distillation_loss,
        lambda x: distillation(2.0)([pooled(sample, C) for sample in x]),
        {"population_code": True, "num_classes": C}, target=lambda: TEACHER, shape=(N, 2 * C, T),
        any_time_order=True, any_class_order=False,
    ),
    Case(
        "DECOLLE",
        lambda readout, membrane, **o: _decolle_module(readout, membrane, **o), F_.decolle_loss, decolle,
        {"lam_high": 0.2, "lam_low": 0.3}, target=lambda: torch.tensor(DECOLLE_LABELS),
        call={"readout": READOUT, "membrane": MEMBRANE}, permutable=False, any_class_order=False,
    ),
]  # fmt: skip


def _decolle_module(readout: torch.Tensor, membrane: torch.Tensor, **options: Any) -> torch.nn.Module:
    loss = L.DECOLLELoss(readout.shape[1], readout.shape[0], **options)
    loss.readout = readout
    return Bound(loss, membrane)


class Bound(torch.nn.Module):
    """A loss with its third argument."""

    def __init__(self, loss: torch.nn.Module, extra: torch.Tensor) -> None:
        super().__init__()
        self.loss, self.extra = loss, extra

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.loss(input, target, self.extra)


def build(case: Case, **options: Any) -> torch.nn.Module:
    return case.module(**case.call, **{**case.options, **options})


def arguments(case: Case, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    target = case.target()
    return (x,) if target is None else (x, target)


LABELLED = [case for case in CASES if case.target() is not None and case.target().dtype == torch.int64]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


@pytest.fixture(params=devices)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


# --- the skeleton -----------------------------------------------------------------------------------------------------


def test_every_loss_module_has_a_case() -> None:
    modules = {
        name
        for name in lava_spikeloss.__all__
        if isinstance(getattr(L, name), type)
        and name.endswith(("Loss", "SpikeTime", "SpikeRate", "SpikeMax", "SpikeMoid"))
        and name != "SynOpsLoss"  # it needs a network, and is tested with the budgets
    }
    tested = {
        name if name.startswith("Spike") and hasattr(L, name) else f"{name}Loss"
        for name in (c.name.split("-")[0] for c in CASES)
    }
    assert modules == tested


@every_case
def test_value_is_the_definition(case: Case) -> None:
    for seed in range(3):
        x = case.input(seed=seed)
        options = {"reduction": "none"} if case.reducible else {}
        expected = torch.tensor(case.reference(x.tolist()), dtype=torch.float64)
        actual = case(x, case.target(), **options)
        torch.testing.assert_close(actual, expected.reshape(actual.shape), rtol=1e-6, atol=1e-7)


@every_case
def test_smoke_loss_is_a_finite_scalar_with_a_useful_gradient(case: Case) -> None:
    x = case.input(torch.float32).requires_grad_()
    loss = case(x, case.target())
    loss.backward()
    assert loss.shape == ()
    assert loss.isfinite()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


@every_case
def test_reduction(case: Case) -> None:
    if not case.reducible:
        with pytest.raises(TypeError, match="unexpected keyword argument 'reduction'"):
            case(case.input(), case.target(), reduction="sum")
        return
    x = case.input()
    values = case(x, case.target(), reduction="none")
    assert values.shape[0] == N
    torch.testing.assert_close(case(x, case.target(), reduction="sum"), values.sum())
    torch.testing.assert_close(case(x, case.target(), reduction="mean"), values.mean())
    with pytest.raises(ValueError, match=r"`reduction` to be one of 'mean', 'sum', 'none' but got 'avg'"):
        case(x, case.target(), reduction="avg")
    with pytest.raises(ValueError, match=r"`reduction` to be one of 'mean', 'sum', 'none' but got 'avg'"):
        build(case, reduction="avg")


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=lambda case: case.name)
def test_gradient_is_the_derivative(case: Case) -> None:
    x = (case.input(seed=1) + 1e-3).requires_grad_()  # off the corners
    if case.name.startswith("SpikeSimilarity-linear-bce"):
        x = x.detach()[1:].requires_grad_()  # inside the clamp there is no derivative to compare with
        target = torch.tensor([0, 1])
        weights = 1 - torch.eye(2, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda v: case(v, target, reduction="none") * weights, (x,))
        return
    for options in ({"reduction": "none"}, {"reduction": "mean"}) if case.reducible else ({},):
        assert torch.autograd.gradcheck(lambda v, options=options: case(v, case.target(), **options), (x,))


@pytest.mark.parametrize("case", [case for case in CASES if case.smooth and case.reducible], ids=lambda case: case.name)
def test_gradient_twice_and_in_blocks(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second backward gives the same gradient, and so do other blocks and a gradient to be differentiated again."""
    x = (case.input(seed=1) + 1e-3).requires_grad_()
    if case.name.startswith("SpikeSimilarity"):
        return
    loss = case(x, case.target())
    first, second = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(torch.autograd.grad(loss, x, create_graph=True)[0], first)
    torch.testing.assert_close(torch.autograd.grad(case(x, case.target()), x)[0], first)
    assert torch.autograd.gradgradcheck(lambda v: case(v, case.target()), (x,), atol=1e-4, fast_mode=True)


@pytest.mark.parametrize(
    "case", [case for case in CASES if "Temporal" in case.name or case.name == "FirstSpike"], ids=lambda case: case.name
)
def test_surrogate_gradient_is_minus_one_at_the_spike(case: Case) -> None:
    """The reference gradient: finite difference in the spike time, put at the step of that spike with sign -1."""
    x = case.input(seed=2)
    x[0, 0] = 0  # a silent neuron
    x[0, 1, 1:] = 0  # fewer spikes than ranks
    x.requires_grad_()
    ranks = len(case.options["on_target"]) if case.options.get("multi_spike") else 1
    silent = float(T if case.name == "FirstSpike" else T - 1)
    times = functional.first_spike_times(x.detach(), ranks, silent=silent).requires_grad_()
    module = "lava_spikeloss.losses.temporal.first_spike_times"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, lambda *_, **given: times if given.get("num_spikes") else times.squeeze(-1))
        case(x.detach(), case.target(), reduction="sum").backward()
    case(x, case.target(), reduction="sum").backward()
    expected = torch.zeros(N, C, T, dtype=torch.float64)
    for n in range(N):
        for c in range(C):
            fired = [t for t in range(T) if x[n, c, t] != 0]
            for f in range(ranks):
                step = fired[f] if f < len(fired) else T - 1
                expected[n, c, step] -= times.grad[n, c, f]
    torch.testing.assert_close(x.grad, expected)


@every_case
def test_module_equals_functional(case: Case) -> None:
    x = case.input()
    module = build(case)
    expected = case(x, case.target())
    for twin in (
        module,
        copy.deepcopy(module),
        module if case.name.startswith("DECOLLE") else pickle.loads(pickle.dumps(module)),
    ):
        torch.testing.assert_close(twin(*arguments(case, x)), expected, rtol=0, atol=0)
    assert isinstance(repr(module), str)
    assert not list(module.parameters())


@every_case
def test_compiles_to_one_graph(case: Case) -> None:
    torch._dynamo.reset()
    module = build(case)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x, y = case.input().requires_grad_(), case.input().requires_grad_()
    loss = compiled(*arguments(case, x))
    expected = module(*arguments(case, y))
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(x.grad, y.grad)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accumulated_in_float32(case: Case, dtype: torch.dtype) -> None:
    half = case.input(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    loss, expected = case(half, case.target()), case(full, case.target())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    loss.backward()
    expected.backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad, full.grad.to(dtype), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("case", [case for case in CASES if case.reducible], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_blocks_change_nothing(case: Case, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = (case.input(dtype).requires_grad_() for _ in range(2))
    losses = case(x, case.target(), reduction="none")
    weights = torch.arange(1, losses.numel() + 1, dtype=losses.dtype).reshape(losses.shape)
    losses.backward(weights)
    in_blocks = case(y, case.target(), reduction="none")
    in_blocks.backward(weights)
    torch.testing.assert_close(in_blocks, losses, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(y.grad, x.grad)


@pytest.mark.parametrize("case", [case for case in CASES if case.spikes], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_bool_and_integer_spikes(case: Case, dtype: torch.dtype) -> None:
    spikes = case.input() > 0.5
    torch.testing.assert_close(case(spikes.to(dtype), case.target()), case(spikes.float(), case.target()))


@every_case
def test_autocast_does_not_change_the_value(case: Case, device: torch.device) -> None:
    x = case.input(torch.float32).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = _on(case, x, device)
    torch.testing.assert_close(loss, _on(case, x, device), rtol=1e-5, atol=1e-6)


@every_case
def test_device(case: Case, device: torch.device) -> None:
    x = case.input().to(device).requires_grad_()
    loss = _on(case, x, device)
    loss.backward()
    assert loss.device.type == x.grad.device.type == device.type
    torch.testing.assert_close(loss.cpu(), case(case.input(), case.target()))


def _on(case: Case, x: torch.Tensor, device: torch.device) -> torch.Tensor:
    target = case.target()
    positional = [x] if target is None else [x, target.to(device)]
    return case.function(*positional, **{k: v.to(device) for k, v in case.call.items()}, **case.options)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_host_and_accelerator_are_neither_mixed_nor_made_to_wait(case: Case, dtype: torch.dtype) -> None:
    case = dataclasses.replace(case, call={name: tensor.to(DEVICE) for name, tensor in case.call.items()})
    args = [tensor.to(DEVICE) for tensor in arguments(case, case.input(dtype))]
    x = args[0].requires_grad_()
    with Accelerator() as accelerator:
        loss = case(x, *args[1:]) if len(args) > 1 else case(x, None)
        loss.backward()
    assert not accelerator.waits
    assert loss.device == DEVICE
    assert (x.grad.shape, x.grad.dtype, x.grad.device) == (x.shape, dtype, DEVICE)


@pytest.mark.parametrize("case", LABELLED, ids=lambda case: case.name)
def test_no_form_of_label_or_weight_makes_the_host_wait(case: Case) -> None:
    if case.call:
        return
    x, labels = case.input(torch.float32).to(DEVICE), case.target()
    forms = [labels, labels.int(), torch.nn.functional.one_hot(labels, C), torch.nn.functional.one_hot(labels, C) > 0]
    if not case.name.startswith(("SpikeSimilarity", "STCA", "MSEMembrane")):
        forms.append(labels.unsqueeze(1).expand(N, T))
    weighted = "weight" in case.function.__code__.co_varnames
    options = {"weight": torch.tensor(WEIGHT, device=DEVICE)} if weighted else {}
    forms = [form.to(DEVICE) for form in forms]
    with Accelerator() as accelerator:
        for form in forms:
            case(x, form, **options)
    assert not accelerator.waits


@pytest.mark.parametrize(
    "function",
    [
        functional.first_spike_index,
        functional.first_spike_times,
        functional.spike_count,
        lambda x: functional.moving_window_rate(x, 3),
        lambda x: functional.exponential_filter(x, 2.0),
        lambda x: functional.exponential_filter(x, 2.0, length=4, filter_order=2),
        lambda x: functional.delay(x, 2),
        lambda x: functional.delay(x, torch.arange(C, device=DEVICE)),
        lambda x: functional.van_rossum_distance(x, x, 2.0),
        lambda x: functional.victor_purpura_distance(x, x, 0.5),
        lambda x: functional.redundant_one_hot(torch.zeros(N, dtype=torch.long, device=DEVICE), C, 2),
        L.RateClassifier(),
        L.FirstSpikeClassifier(),
        L.WindowClassifier(3),
    ],
)
def test_no_primitive_makes_the_host_wait(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.ones(N, C, T, device=DEVICE)
    with Accelerator() as accelerator:
        result = function(x)
    assert result.device == DEVICE
    assert not accelerator.waits


@every_case
def test_arguments_are_not_changed(case: Case) -> None:
    x, target = case.input().requires_grad_(), case.target()
    before = None if target is None else target.clone()
    data = x.detach().clone()
    case(x, target).backward()
    assert torch.equal(x, data)
    assert before is None or torch.equal(before, target)


@every_case
def test_non_contiguous_input(case: Case) -> None:
    x = case.input()
    strided = x.transpose(0, -1).contiguous().transpose(0, -1).requires_grad_()
    y = x.clone().requires_grad_()
    case(strided, case.target()).backward()
    case(y, case.target()).backward()
    torch.testing.assert_close(strided.grad, y.grad)


@every_case
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["silent", "all firing"])
@pytest.mark.parametrize("steps", [1, T])
def test_edges_are_defined(case: Case, fill: float, steps: int) -> None:
    if steps == 1 and ({"start", "stop"} & set(case.options) or case.call or case.target() is TEACHER_STEPS):
        steps = T
    target = case.target()
    if target is not None and target.dim() == 3:
        target = target[..., :steps]
    x = torch.full((*case.shape[:-1], steps), fill, requires_grad=True)
    loss = case(x, target)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("case", LABELLED, ids=lambda case: case.name)
def test_one_sample_of_one_class(case: Case) -> None:
    if case.call:
        return
    options = {"num_classes": 1} if "num_classes" in case.options else {}
    x = torch.ones(1, 2 if options else 1, T, requires_grad=True)
    loss = case(x, torch.tensor([0]), **options)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


@every_case
def test_empty_batch_is_an_error(case: Case) -> None:
    target = case.target()
    with pytest.raises(ValueError, match=r"to hold at least one element but got shape \(0, "):
        case(case.input()[:0], None if target is None else target[:0])


@every_case
def test_input_that_is_no_tensor_is_an_error(case: Case) -> None:
    with pytest.raises(TypeError, match=r"to be a torch.Tensor but got list"):
        case([[1.0]], case.target())  # type: ignore[arg-type]


@pytest.mark.parametrize("case", LABELLED, ids=lambda case: case.name)
@pytest.mark.parametrize("label", [-1, C])
def test_label_out_of_range_is_an_error(case: Case, label: int) -> None:
    if case.name.startswith("SpikeSimilarity"):
        return  # labels are compared with each other: any number will do
    classes = 2 if case.call else C
    labels = case.target()
    labels[1] = label
    with pytest.raises(ValueError, match=rf"to hold class indices in \[0, {classes}\) but got values from"):
        case(case.input(), labels)


@pytest.mark.parametrize("case", LABELLED, ids=lambda case: case.name)
def test_label_of_another_shape_is_an_error(case: Case) -> None:
    with pytest.raises(ValueError, match=r"to have shape \(3,\)"):
        case(case.input(), torch.zeros(N + 1, dtype=torch.long))


@pytest.mark.parametrize(
    "case", [c for c in LABELLED if not c.name.startswith("SpikeSimilarity")], ids=lambda case: case.name
)
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float32, torch.float64])
def test_label_dtypes(case: Case, dtype: torch.dtype) -> None:
    x = case.input()
    torch.testing.assert_close(case(x, case.target().to(dtype)), case(x, case.target()))


@pytest.mark.parametrize(
    "case", [c for c in LABELLED if not c.name.startswith(("SpikeSimilarity", "STCA"))], ids=lambda case: case.name
)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_label_forms_agree(case: Case, dtype: torch.dtype) -> None:
    """Class indices, one-hot, and both of them per step say the same."""
    if case.name.startswith("MSEMembrane"):
        return  # labels per step are asked for by an option there
    x, labels = case.input(), case.target()
    expected = case(x, labels)
    one_hot = torch.nn.functional.one_hot(labels, 2 if case.call else C)
    torch.testing.assert_close(case(x, one_hot.to(dtype)), expected)
    torch.testing.assert_close(case(x, labels.unsqueeze(1).expand(N, T)), expected)
    torch.testing.assert_close(case(x, one_hot.unsqueeze(-1).expand(N, -1, T).to(dtype)), expected)


WEIGHTED = [case for case in LABELLED if not case.call and "weight" in case.function.__code__.co_varnames]


@pytest.mark.parametrize("case", WEIGHTED, ids=lambda case: case.name)
def test_class_weights_are_those_of_cross_entropy_loss(case: Case) -> None:
    """Each sample weighs as much as its class; a mean is divided by the sum of the weights."""
    x, weight = case.input(), torch.tensor(WEIGHT)
    if "smoothed" in case.name or "lambda" in case.name:
        return  # weights act inside: compared with torch in test_cross_entropy
    plain = case(x, case.target(), reduction="none")
    each = torch.tensor([WEIGHT[y] for y in LABELS], dtype=torch.float64)
    expected = plain * each.reshape(N, *[1] * (plain.dim() - 1))
    torch.testing.assert_close(case(x, case.target(), reduction="none", weight=weight), expected)
    torch.testing.assert_close(case(x, case.target(), reduction="sum", weight=weight), expected.sum())
    mean_weighted = expected.sum() / each.sum() / (plain.numel() / N)
    torch.testing.assert_close(case(x, case.target(), reduction="mean", weight=weight), mean_weighted)
    with pytest.raises(ValueError, match=r"`weight` to hold one value per class, 4, but got 3"):
        case(x, case.target(), weight=weight[:3])
    with pytest.raises(ValueError, match=r"`weight` to have shape \(C,\) but got \(2, 2\)"):
        case(x, case.target(), weight=weight.reshape(2, 2))
    module = build(case, weight=weight)
    assert dict(module.named_buffers())["weight"] is weight
    torch.testing.assert_close(module(x, case.target()), mean_weighted)


# --- properties -------------------------------------------------------------------------------------------------------

quick = settings(max_examples=5, deadline=None)


@every_case
@quick
@given(seed=st.integers(0, 2**16), order=st.permutations(range(N)))
def test_batch_order_does_not_matter(case: Case, seed: int, order: list[int]) -> None:
    if case.call:
        return
    x, target = case.input(seed=seed), case.target()
    moved = None if target is None else target[order]
    torch.testing.assert_close(case(x[order], moved), case(x, target))
    if case.reducible and case.permutable:
        torch.testing.assert_close(case(x[order], moved, reduction="none"), case(x, target, reduction="none")[order])


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.any_class_order and case.target() is not None], ids=lambda case: case.name
)
@quick
@given(seed=st.integers(0, 2**16), order=st.permutations(range(C)))
def test_names_of_classes_do_not_matter(case: Case, seed: int, order: list[int]) -> None:
    x = case.input(seed=seed)
    renamed = torch.tensor([order.index(y) for y in LABELS])
    torch.testing.assert_close(case(x[:, order], renamed), case(x, case.target()))


@pytest.mark.parametrize("case", [case for case in CASES if case.any_time_order], ids=lambda case: case.name)
@quick
@given(seed=st.integers(0, 2**16), order=st.permutations(range(T)))
def test_order_of_steps_does_not_matter(case: Case, seed: int, order: list[int]) -> None:
    x = case.input(seed=seed)
    torch.testing.assert_close(case(x[..., order], case.target()), case(x, case.target()))


@quick
@given(seed=st.integers(0, 2**16), shift=st.integers(0, 20))
def test_spike_time_and_first_spikes_move_with_time(seed: int, shift: int) -> None:
    """Both trains later by as much: the same loss, given the time for the filter to decay."""
    generator = torch.Generator().manual_seed(seed)
    x, y = ((torch.rand(N, C, 60, generator=generator, dtype=torch.float64) < 0.3).double() for _ in range(2))
    x[..., 10:], y[..., 10:] = 0, 0
    x[..., 9] = 1  # nobody is silent
    late_x, late_y = functional.delay(x, shift), functional.delay(y, shift)
    torch.testing.assert_close(
        functional.spike_time(late_x, late_y, 1.0, None), functional.spike_time(x, y, 1.0, None), rtol=1e-9, atol=1e-9
    )
    labels = torch.tensor(LABELS)
    for loss in (L.CETemporalLoss(), L.FirstSpikeLoss(early_weight=0)):
        torch.testing.assert_close(loss(late_x, labels), loss(x, labels))
    assert L.FirstSpikeLoss(early_weight=1)(functional.delay(x, shift + 1), labels) > L.FirstSpikeLoss(early_weight=1)(
        x, labels
    )
    for cost in (0.3, 3.0):
        torch.testing.assert_close(
            functional.victor_purpura_distance(late_x, late_y, cost), functional.victor_purpura_distance(x, y, cost)
        )
    torch.testing.assert_close(
        functional.van_rossum_distance(late_x, late_y, 2.0), functional.van_rossum_distance(x, y, 2.0)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SpikeTime", "SpikeMax", "SpikeMoid-window", "MSETemporal-multi", "TET", "STCA"])
def test_compiles_with_inductor(name: str) -> None:
    """The default compiler, with its own kernels: the same loss and gradient."""
    (case,) = (case for case in CASES if case.name == name)
    torch._dynamo.reset()
    x, y = case.input(torch.float32).requires_grad_(), case.input(torch.float32).requires_grad_()
    loss, expected = torch.compile(build(case), fullgraph=True)(x, case.target()), case(y, case.target())
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)
