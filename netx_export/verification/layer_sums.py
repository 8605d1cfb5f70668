"""One layer in two runs, added up: differences, first spikes, and distances of the two rasters."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lava_spikeloss import LayerStatistics
from netx_export.network.description import Gives
from netx_export.run import Spikes
from netx_export.verification.excerpts import histogram, neuron_rates
from netx_export.verification.output_sums import largest_difference
from netx_export.verification.result import (
    Activity,
    Difference,
    LayerComparison,
    Raster,
    Tolerance,
    all_kept,
    deviations,
    status,
)

__all__ = ["VAN_ROSSUM_STEPS", "LayerSums", "Standard", "compare_layer", "first_steps", "sum_layer"]

VAN_ROSSUM_STEPS = 10  # time constant of the exponential that each spike becomes
_FRACTION = 2**20  # real numbers are added up in units of 1 / _FRACTION


@dataclass
class LayerSums:
    """What some samples of a layer add up to."""

    counts: Counter[str] = field(default_factory=Counter)
    first: tuple[int, ...] | None = None  # the earliest difference: step, sample, neuron
    largest: float = 0.0  # the largest difference of a value

    def merge(self, other: LayerSums) -> None:
        """Add other samples."""
        self.counts.update(other.counts)
        self.largest = max(self.largest, other.largest)
        self.first = min((first for first in (self.first, other.first) if first is not None), default=None)


@dataclass(frozen=True)
class Standard:
    """What a layer is held against.

    Attributes:
        trained_rate: its event rate at export, or None.
        budget: the event rate that it was to stay under, or None.
        tolerance: what is accepted of it; None if equality is asked for.
        task_kept: whether what that tolerance asks of the network's output was kept; None if it asks nothing of it.
    """

    trained_rate: float | None
    budget: float | None
    tolerance: Tolerance | None
    task_kept: bool | None


def sum_layer(
    expected: Spikes, got: Spikes, starts: npt.NDArray[np.int64], samples: npt.NDArray[np.int64], gives: Gives
) -> LayerSums:
    """Add up one layer of some samples in two runs.

    Args:
        expected, got: both runs ``(N, C, ..., T)``.
        starts: the step of each sample's first input event, -1 where there is none.
        samples: indices of the samples in the data.
        gives: whether the layer sends spikes or messages, or sums up.
    """
    values = [run.reshape(len(run), -1, run.shape[-1]) for run in (expected, got)]
    events = [run != 0 for run in values]
    different = expected != got
    unequal_trains = different.reshape(events[0].shape).any(-1)
    unequal = [run[unequal_trains] for run in values]
    counts = {
        "differing": np.count_nonzero(different),
        "expected": np.count_nonzero(events[0]),
        "got": np.count_nonzero(events[1]),
        "van_rossum": _van_rossum(*unequal),
        **_products(*(events if gives == "spikes" else values)),
        **_first_spikes(*events),
    }
    for side, run in zip(("expected", "got"), events, strict=True):
        latencies = (first_steps(run.any(1)) - starts)[run.any((1, 2)) & (starts >= 0)]
        counts[f"{side}_latency"] = latencies.sum()
        counts[f"{side}_latency_samples"] = len(latencies)
    sums = Counter({name: int(count) for name, count in counts.items()})
    return LayerSums(sums, _earliest(different, samples), largest_difference(*unequal))


def first_steps(spikes: Spikes) -> npt.NDArray[np.int64]:
    """Step of the first spike along the last axis, -1 where there is none."""
    return np.where(spikes.any(-1), (spikes != 0).argmax(-1), -1)


def _first_spikes(expected: npt.NDArray[np.bool_], got: npt.NDArray[np.bool_]) -> dict[str, int]:
    """How far the first spikes of all trains moved between two runs."""
    first, other = first_steps(expected), first_steps(got)
    shifts = np.abs(first - other)[(first >= 0) & (other >= 0)]
    return {
        "moved_first_spikes": np.count_nonzero(shifts),
        "lost_first_spikes": np.count_nonzero((first >= 0) != (other >= 0)),
        "shift_total": int(shifts.sum()),
        "shift_trains": len(shifts),
    }


def _products(expected: Spikes, got: Spikes) -> dict[str, int]:
    """What the cosine of two rasters is made of; of graded ones sample by sample, in units of ``1 / _FRACTION``."""
    pairs = {"product": (expected, got), "expected_square": (expected, expected), "got_square": (got, got)}
    if expected.dtype == np.bool_:
        return {name: np.count_nonzero(one & other) for name, (one, other) in pairs.items()}
    return {
        name: sum(_in_fractions(float(np.vdot(*rows))) for rows in zip(one.astype(float), other, strict=True))
        for name, (one, other) in pairs.items()
    }


def _in_fractions(value: float) -> int:
    return round(value * _FRACTION)


def _van_rossum(expected: Spikes, got: Spikes) -> int:
    r"""Sum of the squared van Rossum distances of some trains ``(M, T)``, in units of ``1 / _FRACTION``.

    Each spike becomes :math:`e^{-t / \tau}` from its step on, graded messages times their value, and the square of the
    difference is summed over all time, also after the last step, so that one spike more or less counts 1/2 wherever it
    is (van Rossum, 2001).
    """
    keep = math.exp(-1 / VAN_ROSSUM_STEPS)
    trace = np.zeros(len(expected))
    total = np.zeros(len(expected))
    for step in range(expected.shape[-1]):
        trace = keep * trace + np.subtract(expected[:, step], got[:, step], dtype=np.float64)
        total += trace**2
    squared = ((1 - keep**2) * total + keep**2 * trace**2) / 2
    return sum(map(_in_fractions, squared.tolist()))


def _earliest(different: npt.NDArray[np.bool_], samples: npt.NDArray[np.int64]) -> tuple[int, ...] | None:
    """The earliest difference in time; of those, the one in the first sample and neuron: (step, sample, neuron)."""
    steps = np.flatnonzero(different.reshape(-1, different.shape[-1]).any(0))
    if not len(steps):
        return None
    step = int(steps[0])
    return min((step, int(samples[row]), *neuron) for row, *neuron in np.argwhere(different[..., step]).tolist())


def compare_layer(
    name: str,
    gives: Gives,
    sums: LayerSums,
    statistics: tuple[LayerStatistics, LayerStatistics],
    raster: Raster,
    samples: int,
    standard: Standard,
) -> LayerComparison:
    """What all samples show of a layer, and the verdict on it.

    Args:
        name: of the layer.
        gives: whether it sends spikes or messages, or sums up.
        sums: of all samples.
        statistics: of the expected run and the other.
        raster: what is shown of one sample.
        samples: their number.
        standard: what it is held against.
    """
    expected, got = (
        _activity(one, sums.counts, side, gives) for one, side in zip(statistics, ("expected", "got"), strict=True)
    )
    rates = None if gives == "sums" else [one.rates.flatten().numpy() for one in statistics]
    listed = deviations(_distances(sums, statistics, rates, samples), standard.tolerance)
    covered = bool(all_kept([*(one.passed for one in listed), standard.task_kept]))
    differing = sums.counts["differing"]
    return LayerComparison(
        name=name,
        shape=tuple(statistics[0].counts.shape),
        neurons=statistics[0].counts.numel(),
        gives=gives,
        expected=expected,
        got=got,
        trained_rate=standard.trained_rate,
        budget=standard.budget,
        differing=differing,
        cosine=_cosine(sums.counts),
        moved_first_spikes=sums.counts["moved_first_spikes"],
        lost_first_spikes=sums.counts["lost_first_spikes"],
        deviations=listed,
        first=None if sums.first is None else Difference(sums.first[1], sums.first[2:], sums.first[0]),
        neuron_rates=() if rates is None else neuron_rates(*rates),
        histogram=None if rates is None else histogram(*rates),
        raster=raster,
        status=status(differing, expected.spikes, covered),
    )


def _distances(
    sums: LayerSums,
    statistics: tuple[LayerStatistics, LayerStatistics],
    rates: list[npt.NDArray[np.float32]] | None,
    samples: int,
) -> dict[str, float | None]:
    """The distance of two runs by each statistic of a :class:`Tolerance`; None where it is not defined."""
    counts = sums.counts
    moved = counts["shift_total"] / counts["shift_trains"] if counts["shift_trains"] else None
    return {
        "differing": counts["differing"] / (counts["expected"] or 1),
        "value": sums.largest,
        "rate": None if rates is None else abs(statistics[0].rate - statistics[1].rate),
        "neuron_rate": None if rates is None else float(np.abs(rates[0] - rates[1]).max()),
        "cosine": 1 - _cosine(counts),
        "first_spike": None if rates is None else moved,
        "van_rossum": math.sqrt(counts["van_rossum"] / _FRACTION / samples),
    }


def _cosine(counts: Counter[str]) -> float:
    """Of two rasters: 1 where both are silent, 0 where one is."""
    product, expected, got = (counts[name] for name in ("product", "expected_square", "got_square"))
    if expected == got == product:
        return 1.0
    return product / math.sqrt(expected * got) if expected and got else 0.0


def _activity(statistics: LayerStatistics, counts: Counter[str], side: str, gives: Gives) -> Activity:
    spikes = counts[side]
    if gives == "sums":
        return Activity(spikes, None, None, None, None, None, statistics.synops, statistics.energy)
    latency_samples = counts[f"{side}_latency_samples"]
    return Activity(
        spikes=spikes,
        rate=statistics.rate,
        silent=int((statistics.counts == 0).sum()),
        saturated=round(statistics.saturated * statistics.counts.numel()),
        first_spike=float(statistics.first_spike.nanmean()) if spikes else None,
        latency=counts[f"{side}_latency"] / latency_samples if latency_samples else None,
        synops=statistics.synops,
        energy=statistics.energy,
    )
