"""Two runs of a network, added up chunk by chunk: memory stays bounded, and no order of adding changes the result.

Everything is a sum of integers, or an earliest place, so that chunks and ranks may come in any order and any size. Real
numbers that depend on single samples (the loss, the van Rossum distance) are kept per sample, or rounded to a fixed
fraction before they are added.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from lava_spikeloss import LOIHI_1, LOIHI_2, LayerStatistics, NetworkStatistics, SpikeStatistics
from netx_export.network.description import Gives, NetworkDescription
from netx_export.network.fan_out import fan_outs
from netx_export.provenance import layer_budgets, recorded_budgets, recorded_rates
from netx_export.run import OUTPUT, Run, Spikes
from netx_export.verification.output_sums import (
    Loss,
    OutputSums,
    are_classes,
    compare_outputs,
    largest_difference,
    sum_outputs,
)
from netx_export.verification.ranks import gather_from_ranks
from netx_export.verification.result import (
    OF_OUTPUT,
    Activity,
    BudgetUse,
    Comparison,
    Difference,
    Histogram,
    LayerComparison,
    OutputComparison,
    Raster,
    Tolerance,
    Tolerances,
    all_kept,
    deviations,
    status,
    tolerance_of,
)

__all__ = ["INPUT", "Origin", "Tally"]

INPUT = "input"
VAN_ROSSUM_STEPS = 10  # time constant of the exponential that each spike becomes
_FRACTION = 2**20  # real numbers are added up in units of 1 / _FRACTION
_RASTER_NEURONS = 100
_SCATTER_NEURONS = 400
_HISTOGRAM_BINS = 20


@dataclass(frozen=True, eq=False)
class Origin:
    """Where two runs part: the earliest difference in the first layer that differs, with that sample in both runs.

    Attributes:
        rank: position of the layer, then step, sample and neuron: the order in which origins are compared.
        layer: its name.
        expected, got: the layer in that sample, ``(C, ..., T)``.
    """

    rank: tuple[int, ...]
    layer: str
    expected: Spikes
    got: Spikes

    @property
    def place(self) -> Difference:
        """The difference itself."""
        _, step, sample, *neuron = self.rank
        return Difference(sample, tuple(neuron), step)


@dataclass
class _LayerSums:
    counts: Counter[str] = field(default_factory=Counter)
    first: tuple[int, ...] | None = None  # step, sample, neuron
    largest: float = 0.0  # difference of a value

    def merge(self, other: _LayerSums) -> None:
        self.counts.update(other.counts)
        self.largest = max(self.largest, other.largest)
        self.first = min((first for first in (self.first, other.first) if first is not None), default=None)


@dataclass
class _Sums:
    """What one rank has added up, apart from the statistics that :class:`SpikeStatistics` reduces by itself."""

    samples: int = 0
    steps: int = 0
    layers: dict[str, _LayerSums] = field(default_factory=dict)
    output: OutputSums | None = None
    no_output: str | None = None  # why that of some samples is not known
    origin: Origin | None = None
    shown: tuple[tuple[int, ...], dict[str, Raster]] | None = None  # how much it is worth showing, and the rasters

    def merge(self, other: _Sums) -> None:
        self.samples += other.samples
        self.steps = max(self.steps, other.steps)
        for name, layer in other.layers.items():
            self.layers.setdefault(name, _LayerSums()).merge(layer)
        if other.output is not None:
            self.output = self.output or OutputSums()
            self.output.merge(other.output)
        self.no_output = self.no_output or other.no_output
        origins = [origin for origin in (self.origin, other.origin) if origin is not None]
        self.origin = min(origins, key=lambda origin: origin.rank, default=None)
        shown = [one for one in (self.shown, other.shown) if one is not None]
        self.shown = min(shown, key=lambda one: one[0], default=None)


class Tally:
    """Adds up two runs, chunk by chunk.

    Args:
        description: the network.
        names: where the runs come from, (expected, got).
        loss: of an output and its labels; None without a task loss.
        predicts: whether the output is the one that the network predicts classes with.
    """

    def __init__(
        self, description: NetworkDescription, names: tuple[str, str], loss: Loss | None, predicts: bool = True
    ) -> None:
        self._description = description
        self._gives: dict[str, Gives] = {name: layer.neuron.gives for name, layer in description.spiking.items()}
        self._names = names
        self._loss = loss
        self._predicts = predicts
        fan_out = fan_outs(description, INPUT)
        # Only Loihi 2 sends numbers.
        energy = LOIHI_2 if description.graded else LOIHI_1
        # Those of the one run, of the other, and of samples in which both are equal.
        self._statistics = [SpikeStatistics(fan_out=fan_out, energy=energy) for _ in range(3)]
        self._sums = _Sums()

    def has_failed(self, tolerances: Tolerances) -> bool:
        """Whether what was added on this rank is different for certain, whatever samples may still come.

        A difference without a tolerance is, and one value beyond the limit on a ``value``. Everything else that a
        tolerance may ask is a mean, which further samples can bring back within it.
        """
        seen = [(name, layer.counts["differing"], layer.largest) for name, layer in self._sums.layers.items()]
        output = self._sums.output
        if output is not None and not output.is_last_layer:
            seen.append((OUTPUT, output.differing, output.largest))
        for name, differing, largest in seen:
            tolerance = tolerance_of(tolerances, name)
            limit = 0.0 if tolerance is None else tolerance.value
            if differing and limit is not None and largest > limit:
                return True
        return False

    def add(
        self,
        expected: Run,
        got: Run,
        inputs: Spikes,
        samples: npt.NDArray[np.int64],
        labels: torch.Tensor | None,
    ) -> None:
        """Add some samples.

        Args:
            expected, got: both runs.
            inputs: what enters the first layer ``(N, C, ..., T)``.
            samples: their indices in the data.
            labels: their labels, or None.
        """
        names = [name for name in self._description.spiking if name in expected.layers and name in got.layers]
        pairs = {name: (expected.layers[name], got.layers[name]) for name in names}
        chunk = _Sums(len(samples), inputs.shape[-1])
        starts = _first_steps(inputs.reshape(len(inputs), -1, inputs.shape[-1]).any(1))
        for name, pair in pairs.items():
            chunk.layers[name] = _sums_of_layer(*pair, starts, samples, self._gives[name])
        chunk.origin = _origin(list(self._description.spiking), pairs, chunk.layers, samples)
        chunk.shown = _shown(pairs, self._gives, chunk.origin, samples)
        chunk.no_output = next((run.no_output for run in (expected, got) if run.output is None), None)
        if expected.output is not None and got.output is not None:
            has_classes = self._predicts and (are_classes(labels) or not self._description.graded)
            chunk.output = sum_outputs(expected.output, got.output, samples, labels, self._loss, has_classes)
            last = list(self._description.spiking)[-1]
            chunk.output.is_last_layer = all(_is_output(run, last) for run in (expected, got))
        self._sums.merge(chunk)
        sides = zip(self._statistics, (expected, got), strict=False) if chunk.origin else [(self._statistics[2], got)]
        for statistics, run in sides:
            self._add_statistics(statistics, {name: run.layers[name] for name in names}, inputs)

    def _add_statistics(self, statistics: SpikeStatistics, run: Mapping[str, Spikes], inputs: Spikes) -> None:
        statistics.fan_out = {
            (source, target): fan_out
            for (source, target), fan_out in statistics.fan_out.items()
            if source == INPUT or source in run
        }
        layers = {name: torch.from_numpy(_events(layer, self._gives[name])) for name, layer in run.items()}
        statistics.update(layers, {INPUT: torch.from_numpy(np.ascontiguousarray(inputs))})

    def finish(self, tolerances: Tolerances, stopped: bool) -> tuple[Comparison, Origin | None]:
        """The comparison, without a cause, and where the runs part. Under torchrun every rank has to call this."""
        sums = _Sums()
        for part in gather_from_ranks(self._sums):
            sums.merge(part)
        for statistics in self._statistics[:2]:
            statistics.merge(self._statistics[2])
        expected, got = (statistics.compute() for statistics in self._statistics[:2])
        unrecorded = tuple(name for name in self._description.spiking if name not in sums.layers)
        if unrecorded:  # totals of the others would pass for those of the network
            expected, got = (NetworkStatistics(layers, None, None) for layers in (expected.layers, got.layers))
        output = None
        if sums.output is not None and sums.no_output is None:
            output = compare_outputs(sums.output, sums.samples, tolerance_of(tolerances, OUTPUT))
        layers = self._compare_layers(sums, expected, got, tolerances, _task_kept(tolerances, output))
        if output is not None and sums.output is not None and sums.output.is_last_layer:
            output = _judged_as(output, layers[-1])
        comparison = Comparison(
            expected=self._names[0],
            got=self._names[1],
            samples=sums.samples,
            steps=sums.steps,
            layers=layers,
            unrecorded=unrecorded,
            output=output,
            no_output=sums.no_output,
            expected_synops=expected.synops,
            got_synops=got.synops,
            expected_energy=expected.energy,
            got_energy=got.energy,
            budget=tuple(
                BudgetUse(name, limit, *(_used(name, statistics, not unrecorded) for statistics in (expected, got)))
                for name, limit in recorded_budgets(self._description).items()
                if name != "rate" and not name.endswith(".events_per_step")
            ),
            cause=None,
            stopped=any(gather_from_ranks(stopped)),
        )
        return comparison, sums.origin

    def _compare_layers(
        self,
        sums: _Sums,
        expected: NetworkStatistics,
        got: NetworkStatistics,
        tolerances: Tolerances,
        task_kept: bool | None,
    ) -> tuple[LayerComparison, ...]:
        budgets, rates = layer_budgets(self._description), recorded_rates(self._description.metadata)
        shown = sums.shown[1] if sums.shown else {}
        return tuple(
            _layer(
                name,
                self._gives[name],
                sums.layers[name],
                (expected.layers[name], got.layers[name]),
                shown[name],
                sums.samples,
                _Wanted(rates.get(name), budgets.get(name), tolerance_of(tolerances, name), task_kept),
            )
            for name in self._description.spiking
            if name in sums.layers
        )


@dataclass(frozen=True)
class _Wanted:
    """What a layer is held against.

    Attributes:
        rate: its event rate at export.
        budget: the event rate that it was to stay under.
        tolerance: what is accepted of it.
        task_kept: whether what that tolerance asks of the network's output was kept; None if it asks nothing of it.
    """

    rate: float | None
    budget: float | None
    tolerance: Tolerance | None
    task_kept: bool | None


def _task_kept(tolerances: Tolerances, output: OutputComparison | None) -> bool | None:
    """Whether the output keeps what a tolerance for all layers asks of it; None if it asks nothing of it.

    A tolerance that is asked of an output which was not compared is not kept: nobody knows.
    """
    asked = tolerance_of(tolerances, OUTPUT)
    if asked is None or (isinstance(tolerances, Mapping) and output is not None):
        return None
    if output is None:
        return False if isinstance(tolerances, Mapping) or OF_OUTPUT & set(asked.limits) else None
    return all_kept(one.passed for one in output.deviations if one.name in OF_OUTPUT)


def _judged_as(output: OutputComparison, last: LayerComparison) -> OutputComparison:
    """An output that is the last layer's spikes is judged as they are, if nothing was asked of itself."""
    asked = any(one.tolerance is not None for one in output.deviations)
    return output if asked or output.status != "different" else dataclasses.replace(output, status=last.status)


def _is_output(run: Run, name: str) -> bool:
    return run.output is not None and name in run.layers and np.array_equal(run.output, run.layers[name])


def _events(layer: Spikes, gives: Gives) -> Spikes:
    """What a layer sends: a last layer of sigma-delta neurons, which only sums up, sends nothing."""
    return np.zeros(layer.shape, np.uint8) if gives == "sums" else np.ascontiguousarray(layer)


def _first_steps(spikes: Spikes) -> npt.NDArray[np.int64]:
    """Step of the first spike along the last axis, -1 where there is none."""
    return np.where(spikes.any(-1), (spikes != 0).argmax(-1), -1)


def _used(name: str, statistics: NetworkStatistics, complete: bool) -> float | None:
    """What a network, or one of its layers, uses of a line of the budget; None where that is not known."""
    layer, _, kind = name.rpartition(".")
    measured = statistics.layers.get(layer) if layer else (statistics if complete else None)
    used: float | None = getattr(measured, kind, None)
    return used


def _sums_of_layer(
    expected: Spikes, got: Spikes, starts: npt.NDArray[np.int64], samples: npt.NDArray[np.int64], gives: Gives
) -> _LayerSums:
    """All sums of one layer in some samples, whose inputs begin at ``starts``."""
    values = [run.reshape(len(run), -1, run.shape[-1]) for run in (expected, got)]
    flat = [run != 0 for run in values]
    different = expected != got
    trains = different.reshape(flat[0].shape).any(-1)
    unlike = [run[trains] for run in values]
    first_steps = [_first_steps(run) for run in flat]
    both = (first_steps[0] >= 0) & (first_steps[1] >= 0)
    shifts = np.abs(first_steps[0] - first_steps[1])[both]
    counts = {
        "differing": np.count_nonzero(different),
        "expected": np.count_nonzero(flat[0]),
        "got": np.count_nonzero(flat[1]),
        **_products(*(flat if gives == "spikes" else values)),
        "moved_first_spikes": np.count_nonzero(shifts),
        "lost_first_spikes": np.count_nonzero((first_steps[0] >= 0) != (first_steps[1] >= 0)),
        "shift_total": shifts.sum(),
        "shift_trains": len(shifts),
        "van_rossum": _van_rossum(*unlike),
    }
    for side, run in zip(("expected", "got"), flat, strict=True):
        latencies = (_first_steps(run.any(1)) - starts)[run.any((1, 2)) & (starts >= 0)]
        counts[f"{side}_latency"] = latencies.sum()
        counts[f"{side}_latency_samples"] = len(latencies)
    sums = Counter({name: int(count) for name, count in counts.items()})
    return _LayerSums(sums, _first(different, samples), largest_difference(*unlike))


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


def _first(different: npt.NDArray[np.bool_], samples: npt.NDArray[np.int64]) -> tuple[int, ...] | None:
    """The earliest difference in time; of those, the one in the first sample and neuron: (step, sample, neuron)."""
    steps = np.flatnonzero(different.reshape(-1, different.shape[-1]).any(0))
    if not len(steps):
        return None
    step = int(steps[0])
    return min((step, int(samples[row]), *neuron) for row, *neuron in np.argwhere(different[..., step]).tolist())


def _origin(
    names: list[str],
    pairs: Mapping[str, tuple[Spikes, Spikes]],
    layers: Mapping[str, _LayerSums],
    samples: npt.NDArray[np.int64],
) -> Origin | None:
    for position, name in enumerate(names):
        first = layers[name].first if name in layers else None
        if first is not None:
            row = int(np.flatnonzero(samples == first[1])[0])
            expected, got = (run[row].copy() for run in pairs[name])
            return Origin((position, *first), name, expected, got)
    return None


def _shown(
    pairs: Mapping[str, tuple[Spikes, Spikes]],
    gives: Mapping[str, Gives],
    origin: Origin | None,
    samples: npt.NDArray[np.int64],
) -> tuple[tuple[int, ...], dict[str, Raster]]:
    """Rasters of the sample most worth looking at: that of the earliest difference, or the first of all."""
    sample = int(samples.min()) if origin is None else origin.place.sample
    worth = (1, sample) if origin is None else (0, *origin.rank)
    row = int(np.flatnonzero(samples == sample)[0])
    return worth, {
        name: _raster(sample, expected[row], got[row], gives[name]) for name, (expected, got) in pairs.items()
    }


def _raster(sample: int, expected: Spikes, got: Spikes, gives: Gives) -> Raster:
    """The neurons that differ, then those that spike, in their order."""
    runs = [run.reshape(-1, run.shape[-1]) for run in (expected, got)]
    worth = np.where((runs[0] != runs[1]).any(-1), 0, np.where(runs[0].any(-1), 1, 2))
    neurons = np.sort(np.argsort(worth, kind="stable")[:_RASTER_NEURONS])
    one, other = (run[neurons] for run in runs)
    rows = tuple(neurons.tolist())
    if gives == "sums":  # which are there at every step
        return Raster(sample, rows, (), (), _places(one != other))
    unequal = (one != other) & (one != 0) & (other != 0)
    return Raster(sample, rows, _places(one != 0), _places(other != 0), _places(unequal))


def _places(where: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    return tuple((int(row), int(step)) for row, step in np.argwhere(where))


def _layer(
    name: str,
    gives: Gives,
    sums: _LayerSums,
    statistics: tuple[LayerStatistics, LayerStatistics],
    raster: Raster,
    samples: int,
    wanted: _Wanted,
) -> LayerComparison:
    counts = sums.counts
    expected, got = (
        _activity(one, counts, side, gives) for one, side in zip(statistics, ("expected", "got"), strict=True)
    )
    rates = [one.rates.flatten().numpy() for one in statistics]
    cosine = _cosine(counts)
    has_rates = expected.rate is not None and got.rate is not None
    listed = deviations(
        {
            "differing": counts["differing"] / expected.spikes if expected.spikes else float(counts["differing"]),
            "value": sums.largest,
            "rate": abs(statistics[0].rate - statistics[1].rate) if has_rates else None,
            "neuron_rate": float(np.abs(rates[0] - rates[1]).max()) if has_rates else None,
            "cosine": 1 - cosine,
            "first_spike": counts["shift_total"] / counts["shift_trains"]
            if has_rates and counts["shift_trains"]
            else None,
            "van_rossum": math.sqrt(counts["van_rossum"] / _FRACTION / samples),
        },
        wanted.tolerance,
    )
    covered = bool(all_kept([*(one.passed for one in listed), wanted.task_kept]))
    return LayerComparison(
        name=name,
        shape=tuple(statistics[0].counts.shape),
        neurons=len(rates[0]),
        gives=gives,
        expected=expected,
        got=got,
        trained_rate=wanted.rate,
        budget=wanted.budget,
        differing=counts["differing"],
        cosine=cosine,
        moved_first_spikes=counts["moved_first_spikes"],
        lost_first_spikes=counts["lost_first_spikes"],
        deviations=listed,
        first=None if sums.first is None else Difference(sums.first[1], sums.first[2:], sums.first[0]),
        neuron_rates=_scatter(*rates) if has_rates else (),
        histogram=_histogram(*rates) if has_rates else None,
        raster=raster,
        status=status(counts["differing"], expected.spikes, covered),
    )


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


def _cosine(counts: Counter[str]) -> float:
    """Of two rasters: 1 where both are silent, 0 where one is."""
    product, expected, got = (counts[name] for name in ("product", "expected_square", "got_square"))
    if expected == got == product:
        return 1.0
    return product / math.sqrt(expected * got) if expected and got else 0.0


def _scatter(expected: Spikes, got: Spikes) -> tuple[tuple[int, float, float], ...]:
    """Rates of single neurons in both runs: those that differ most, then an even choice of the others."""
    distance = np.abs(expected - got)
    order = np.argsort(-distance, kind="stable")
    unlike = np.count_nonzero(distance)
    others = order[unlike:]
    step = max(1, len(others) // _SCATTER_NEURONS)
    chosen = [*order[:unlike], *others[::step]][:_SCATTER_NEURONS]
    return tuple((int(neuron), float(expected[neuron]), float(got[neuron])) for neuron in chosen)


def _histogram(expected: Spikes, got: Spikes) -> Histogram:
    top = float(max(expected.max(), got.max())) or 1.0
    counts = [np.histogram(rates, _HISTOGRAM_BINS, (0.0, top))[0].tolist() for rates in (expected, got)]
    return Histogram(top, counts[0], counts[1])
