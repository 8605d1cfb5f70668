"""Slow references of every loss: plain loops over plain lists, written from the definitions in the docstrings.

Each takes spikes or membrane potentials ``(N, C, T)`` as lists and gives what ``reduction="none"`` gives. The size of
the input, labels, desired trains and a teacher's outputs stand here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

Values = list[Any]
Reference = Callable[[Values], Values]

N, C, T = 3, 4, 6
LABELS = [2, 0, 2]
READOUT_LABELS = [1, 0, 1]


def _random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


DESIRED = (_random(7, N, C, T) > 0.25).double()
TEACHER, TEACHER_STEPS = _random(3, N, C), _random(4, N, C, T)
READOUT, MEMBRANE = _random(5, 2, C), _random(6, N, C, T)


# --- pieces -----------------------------------------------------------------------------------------------------------


def mean(v: Values) -> float:
    return sum(v) / len(v)


def at(c: int, y: int, label: float = 1.0, other: float = 0.0) -> float:
    return label if c == y else other


def steps_of(sample: Values) -> Values:
    return [[train[t] for train in sample] for t in range(len(sample[0]))]


def pooled(sample: Values) -> Values:
    """The trains of C classes from those of their groups of neurons, added up."""
    group = len(sample) // C
    return [[sum(sample[c * group + g][t] for g in range(group)) for t in range(len(sample[0]))] for c in range(C)]


def log_softmax(z: Values) -> Values:
    top = max(z)
    return [v - top - math.log(sum(math.exp(u - top) for u in z)) for v in z]


def cross_entropy(z: Values, y: int) -> float:
    return -log_softmax(z)[y]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def binary_cross_entropy(p: float, y: float) -> float:
    return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def window_rates(train: Values, window: int) -> Values:
    return [sum(train[max(0, t - window + 1) : t + 1]) / window for t in range(len(train))]


def low_pass(train: Values, tau: float, length: int, order: int) -> Values:
    steps = range(len(train))
    kernel = [1.0] + [0.0] * (len(train) - 1)
    for _ in range(order):
        kernel = [sum(kernel[k - j] * math.exp(-j / tau) for j in range(k + 1)) for k in steps]
    return [sum(kernel[k] * train[t - k] for k in range(min(length, t + 1))) for t in steps]


def first_times(train: Values, ranks: int, silent: float) -> Values:
    fired = [t for t, v in enumerate(train) if v != 0]
    return [float(fired[f]) if f < len(fired) else silent for f in range(ranks)]


def per_sample(formula: Callable[[Values, int], Any]) -> Reference:
    return lambda x: [formula(sample, y) for sample, y in zip(x, LABELS, strict=True)]


def per_class(formula: Callable[[Values, int, int], Any]) -> Reference:
    return per_sample(lambda sample, y: [formula(train, c, y) for c, train in enumerate(sample)])


def beside(others: torch.Tensor, formula: Callable[[Values, Values], Any]) -> Reference:
    """``formula`` of each sample and what it is compared with."""
    return lambda x: [formula(sample, other) for sample, other in zip(x, others.tolist(), strict=True)]


# --- those of lava-dl -------------------------------------------------------------------------------------------------


def spike_time(tau: float, length: int, order: int = 1, start: int = 0, stop: int = T) -> Reference:
    def squares(train: Values, desired: Values) -> Values:
        difference = [a - b for a, b in zip(train, desired, strict=True)]
        return [v**2 for v in low_pass(difference, tau, length, order)[start:stop]]

    return beside(DESIRED, lambda x, d: [squares(*pair) for pair in zip(x, d, strict=True)])


def _share(rates: Values, y: int) -> float:
    return -math.log(rates[y] / (sum(rates) + 1e-6))


def _lifted_share(rates: Values, y: int, one_spike: float) -> float:
    lifted = [max(r, one_spike) for r in rates]
    return -math.log(lifted[y] / sum(lifted))


spike_rate = per_class(lambda s, c, y: (mean(s) - at(c, y, 0.8, 0.1)) ** 2)
spike_rate_window = per_class(lambda s, c, y: [(r - at(c, y, 0.8, 0.1)) ** 2 for r in window_rates(s, 4)])
spike_max = per_sample(lambda x, y: _share([mean(s) for s in x], y))
spike_max_softmax = per_sample(lambda x, y: cross_entropy([5 * mean(s) for s in x], y))
spike_max_count_window = per_sample(
    lambda x, y: [_lifted_share(r, y, 1 / 3) for r in steps_of([window_rates(s, 3) for s in x])]
)
spike_moid = per_class(lambda s, c, y: binary_cross_entropy(sigmoid((mean(s) - 0.2) / 0.5), at(c, y)))
spike_moid_window = per_class(
    lambda s, c, y: [binary_cross_entropy(sigmoid((r - 0.2) / 0.5), at(c, y)) for r in window_rates(s, 2)]
)


# --- counts and rates -------------------------------------------------------------------------------------------------


def _smoothed(z: Values, y: int, epsilon: float) -> float:
    log_p = log_softmax(z)
    return -(1 - epsilon) * log_p[y] - epsilon * mean(log_p)


def _focal(z: Values, y: int, gamma: float) -> float:
    log_p = log_softmax(z)[y]
    return -((1 - math.exp(log_p)) ** gamma) * log_p


def counts(sample: Values) -> Values:
    return [sum(train) for train in sample]


ce_rate = per_sample(lambda x, y: mean([cross_entropy(step, y) for step in steps_of(x)]))
ce_rate_population = per_sample(lambda x, y: mean([cross_entropy(step, y) for step in steps_of(pooled(x))]))
ce_count = per_sample(lambda x, y: cross_entropy(counts(x), y))
ce_count_population = per_sample(lambda x, y: cross_entropy(counts(pooled(x)), y))
ce_count_smoothed = per_sample(lambda x, y: _smoothed([k / 2 for k in counts(x)], y, 0.2))
ce_count_focal = per_sample(lambda x, y: _focal(counts(x), y, 2.0))
mse_count = per_class(lambda s, c, y: (sum(s) - T * at(c, y, 0.29, 0.07)) ** 2 / T)
mse_count_population = per_sample(
    lambda x, y: [(k - 2 * T * at(c, y, 0.9, 0.1)) ** 2 / T for c, k in enumerate(counts(pooled(x)))]
)
mse_count_rate = per_class(lambda s, c, y: (mean(s) - at(c, y)) ** 2)
region_count = per_class(lambda s, c, y: (sum(s[1:5]) - at(c, y, 3, 0.5)) ** 2 / 8)


def count_bounds(x: Values) -> Values:
    return [[max(0.0, 1.5 - sum(s)) ** 2 + max(0.0, sum(s) - 2.0) ** 2 for s in sample] for sample in x]


def count_bounds_layer(x: Values) -> Values:
    totals = [sum(map(sum, sample)) for sample in x]
    return [max(0.0, 9.0 - n) ** 2 + max(0.0, n - 10.0) ** 2 for n in totals]


# --- membrane potentials ----------------------------------------------------------------------------------------------


def _path(sample: Values, desired: Values) -> Values:
    return [mean([(u - w) ** 2 for u, w in zip(*pair, strict=True)]) for pair in zip(sample, desired, strict=True)]


ce_max_membrane = per_sample(lambda x, y: cross_entropy([max(v) for v in x], y))
ce_membrane_integral = per_sample(
    lambda x, y: cross_entropy([sum(u * math.exp(-t / T) for t, u in enumerate(v)) for v in x], y)
)
mse_membrane = per_class(lambda v, c, y: mean([(u - at(c, y, 1.5, -0.5)) ** 2 for u in v]))
mse_membrane_path = beside(DESIRED, _path)
membrane_suppression = per_class(lambda v, c, y: mean([at(c, y, 0, 1) * max(0.0, u - 0.1) ** 2 for u in v]))


def information(x: Values) -> Values:
    return [(mean([u for sample in x for v in sample for u in v]) - 1.2) ** 2]


# --- times of the first spikes ----------------------------------------------------------------------------------------


def mse_temporal(on: Values, off: Values, tolerance: float = 0) -> Reference:
    def formula(train: Values, c: int, y: int) -> Any:
        wanted = [t if t >= 0 else t + T for t in (on if c == y else off)]
        errors = [a - b for a, b in zip(first_times(train, len(wanted), T - 1), wanted, strict=True)]
        losses = [0.0 if abs(e) < tolerance else (e / T) ** 2 for e in errors]
        return losses if len(wanted) > 1 else losses[0]

    return per_class(formula)


mse_temporal_multi = mse_temporal([0, 2, 3], [-1, -1, 4], tolerance=2)


def _first_spike(sample: Values, y: int) -> float:
    times = [first_times(train, 1, T)[0] for train in sample]
    differences = sum(math.exp(-(t - times[y]) / 2.0) for t in times)
    return math.log(differences) + 0.01 * (math.exp(times[y] / 4.0) - 1)


ce_temporal = per_sample(lambda x, y: cross_entropy([-first_times(s, 1, T - 1)[0] for s in x], y))
ce_temporal_reciprocal = per_sample(lambda x, y: cross_entropy([4 / (first_times(s, 1, T - 1)[0] + 1) for s in x], y))
first_spike = per_sample(_first_spike)


# --- the others -------------------------------------------------------------------------------------------------------


def _stca(v: Values, desired: int, reach: int) -> float:
    spikes = [t for t, u in enumerate(v) if u >= 1]
    clusters: Values = []
    for t in spikes:
        if clusters and t - clusters[-1][-1] <= reach:
            clusters[-1].append(t)
        else:
            clusters.append([t])
    free = [t for t in range(len(v)) if all(abs(t - s) > reach for s in spikes)]
    if len(clusters) > desired:
        return v[min(clusters, key=len)[-1]] - 1
    if len(clusters) < desired and free:
        return 1 - max(v[t] for t in free)
    return 0.0


def _divergence(student: Values, teacher: Values, tau: float) -> float:
    log_s, log_t = log_softmax([z / tau for z in student]), log_softmax([z / tau for z in teacher])
    return tau**2 * sum(math.exp(b) * (b - a) for a, b in zip(log_s, log_t, strict=True))


def _divergence_of_steps(student: Values, teacher: Values, tau: float) -> float:
    return mean([_divergence(*pair, tau) for pair in zip(steps_of(student), steps_of(teacher), strict=True)])


def _kernel(name: str, a: Values, b: Values) -> float:
    dot = sum(u * v for u, v in zip(a, b, strict=True))
    if name == "linear":
        return dot / math.sqrt(sum(u * u for u in a) * sum(v * v for v in b))
    if name == "sigmoid":
        return sigmoid(0.3 * dot)
    return math.exp(-sum((u - v) ** 2 for u, v in zip(a, b, strict=True)) / (2 * 1.5**2))


def similarity(kernel: str, loss: str) -> Reference:
    def error(q: float, same: float) -> float:
        if loss == "bce":
            return binary_cross_entropy(min(q, 1 - 1e-4) if kernel == "linear" else q, same)
        return (q - same) ** 2 if loss == "mse" else abs(q - same)

    def reference(x: Values) -> Values:
        rows = [[v for train in sample for v in train] for sample in x]
        return [
            [error(_kernel(kernel, rows[i], rows[j]), float(LABELS[i] == LABELS[j])) for j in range(N)]
            for i in range(N)
        ]

    return reference


tet = ce_rate
tet_lambda = per_sample(
    lambda x, y: (
        0.7 * mean([cross_entropy(step, y) for step in steps_of(x)])
        + 0.3 * mean([(u - 0.5) ** 2 for v in x for u in v])
    )
)
stca = per_class(lambda v, c, y: _stca(v, int(c == y), 1))
distillation = beside(TEACHER, lambda x, z: _divergence([mean(s) for s in x], z, 2.0))
distillation_steps = beside(TEACHER_STEPS, lambda x, z: _divergence_of_steps(x, z, 1.5))
distillation_population = beside(TEACHER, lambda x, z: _divergence([mean(s) for s in pooled(x)], z, 2.0))


def decolle(x: Values) -> Values:
    losses = []
    for sample, y, v in zip(x, READOUT_LABELS, MEMBRANE.flatten(1).tolist(), strict=True):
        errors = [
            (sum(g * s for g, s in zip(row, step, strict=True)) - at(c, y)) ** 2
            for step in steps_of(sample)
            for c, row in enumerate(READOUT.tolist())
        ]
        low = max(0.0, 0.1 - mean([sigmoid(u) for u in v]))
        losses.append(mean(errors) + 0.2 * mean([max(0.0, u + 0.01) for u in v]) + 0.3 * low)
    return losses
