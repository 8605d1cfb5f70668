"""Two runs of a network, added up chunk by chunk: memory stays bounded, and no order of adding changes the result.

Everything is a sum of integers, or an earliest position, so that chunks and ranks may come in any order and any size.
Real numbers that depend on single samples (the loss, the van Rossum distance) are kept per sample, or rounded to a
fixed fraction before they are added.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from lava_spikeloss import LOIHI_1, LOIHI_2, NetworkStatistics, SpikeStatistics
from netx_export.network.description import Gives, NetworkDescription
from netx_export.network.fan_out import fan_outs
from netx_export.provenance import layer_budgets, recorded_budgets, recorded_rates
from netx_export.run import OUTPUT, Run, Spikes
from netx_export.slayer import BATCH
from netx_export.verification.excerpts import rasters
from netx_export.verification.layer_sums import LayerSums, Standard, compare_layer, first_steps, sum_layer
from netx_export.verification.output_sums import Loss, OutputSums, are_classes, compare_outputs, sum_outputs
from netx_export.verification.ranks import gather_from_ranks
from netx_export.verification.result import (
    OF_OUTPUT,
    BudgetUse,
    Comparison,
    Difference,
    LayerComparison,
    OutputComparison,
    Raster,
    Tolerances,
    all_kept,
    tolerance_of,
)

__all__ = ["INPUT", "Origin", "Tally"]

INPUT = "input"


@dataclass(frozen=True, eq=False)
class Origin:
    """Where two runs part: the earliest difference in the first layer that differs, with that sample in both runs.

    Attributes:
        rank: index of the layer, then step, sample and neuron: the order in which origins are compared.
        layer: its name.
        expected, got: the layer in that sample, ``(C, ..., T)``.
        batch: the samples that ran in one forward pass with it.
    """

    rank: tuple[int, ...]
    layer: str
    expected: Spikes
    got: Spikes
    batch: npt.NDArray[np.int64]

    @property
    def place(self) -> Difference:
        """The difference itself."""
        _, step, sample, *neuron = self.rank
        return Difference(sample, tuple(neuron), step)


@dataclass
class _Sums:
    """What one rank has added up, apart from the statistics that :class:`SpikeStatistics` reduces by itself."""

    samples: int = 0
    steps: int = 0
    layers: dict[str, LayerSums] = field(default_factory=dict)
    output: OutputSums | None = None
    no_output: str | None = None  # why the output of some samples is not known
    origin: Origin | None = None
    # The rasters to show, and their rank: of the rasters of all chunks, those of the lowest rank are shown.
    shown: tuple[tuple[int, ...], dict[str, Raster]] | None = None

    def merge(self, other: _Sums) -> None:
        self.samples += other.samples
        self.steps = max(self.steps, other.steps)
        for name, layer in other.layers.items():
            self.layers.setdefault(name, LayerSums()).merge(layer)
        if other.output is not None:
            self.output = self.output or OutputSums()
            self.output.merge(other.output)
        self.no_output = self.no_output or other.no_output
        origins = [origin for origin in (self.origin, other.origin) if origin is not None]
        self.origin = min(origins, key=lambda origin: origin.rank, default=None)
        shown = [one for one in (self.shown, other.shown) if one is not None]
        self.shown = min(shown, key=lambda one: one[0], default=None)


class _Statistics:
    """The statistics of two runs. Samples in which both are equal are counted once for both, in half the time."""

    def __init__(self, description: NetworkDescription, gives: Mapping[str, Gives]) -> None:
        fan_out = fan_outs(description, INPUT)
        energy = LOIHI_2 if description.graded else LOIHI_1  # only Loihi 2 sends numbers
        self._gives = gives
        self._expected, self._got, self._both = (SpikeStatistics(fan_out=fan_out, energy=energy) for _ in range(3))

    def add(self, pairs: Mapping[str, tuple[Spikes, Spikes]], inputs: Spikes, equal: bool) -> None:
        """Add the layers of both runs, and whether they are equal."""
        for statistics, side in [(self._both, 0)] if equal else [(self._expected, 0), (self._got, 1)]:
            self._update(statistics, {name: pair[side] for name, pair in pairs.items()}, inputs)

    def _update(self, statistics: SpikeStatistics, run: Mapping[str, Spikes], inputs: Spikes) -> None:
        statistics.fan_out = {
            (source, target): fan_out
            for (source, target), fan_out in statistics.fan_out.items()
            if source == INPUT or source in run
        }
        layers = {name: torch.from_numpy(_events(layer, self._gives[name])) for name, layer in run.items()}
        statistics.update(layers, {INPUT: torch.from_numpy(np.ascontiguousarray(inputs))})

    def compute(self, complete: bool) -> tuple[NetworkStatistics, NetworkStatistics]:
        """The statistics of the expected run and of the other; no totals where a layer is missing in them."""
        computed = []
        for statistics in (self._expected, self._got):
            statistics.merge(self._both)
            of_run = statistics.compute()
            computed.append(of_run if complete else NetworkStatistics(of_run.layers, None, None))
        return computed[0], computed[1]


def _events(layer: Spikes, gives: Gives) -> Spikes:
    """What a layer sends: a last layer of sigma-delta neurons, which only sums up, sends nothing."""
    return np.zeros(layer.shape, np.uint8) if gives == "sums" else np.ascontiguousarray(layer)


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
        self._gives = description.gives
        self._names = names
        self._loss = loss
        self._predicts = predicts
        self._statistics = _Statistics(description, self._gives)
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
        self, expected: Run, got: Run, inputs: Spikes, samples: npt.NDArray[np.int64], labels: torch.Tensor | None
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
        starts = first_steps(inputs.reshape(len(inputs), -1, inputs.shape[-1]).any(1))
        for name, pair in pairs.items():
            chunk.layers[name] = sum_layer(*pair, starts, samples, self._gives[name])
        chunk.origin = _origin(list(self._description.spiking), pairs, chunk.layers, samples)
        chunk.shown = _shown(pairs, self._gives, chunk.origin, samples)
        chunk.no_output = expected.no_output or got.no_output
        if chunk.no_output is None:
            chunk.output = self._sum_outputs(expected, got, samples, labels)
        self._sums.merge(chunk)
        self._statistics.add(pairs, inputs, equal=chunk.origin is None)

    def _sum_outputs(
        self, expected: Run, got: Run, samples: npt.NDArray[np.int64], labels: torch.Tensor | None
    ) -> OutputSums:
        has_classes = self._predicts and (are_classes(labels) or not self._description.graded)
        sums = sum_outputs(expected.output, got.output, samples, labels, self._loss, has_classes)
        last = list(self._description.spiking)[-1]
        sums.is_last_layer = all(_is_output(run, last) for run in (expected, got))
        return sums

    def finish(self, tolerances: Tolerances, stopped: bool) -> tuple[Comparison, Origin | None]:
        """The comparison, without a cause, and where the runs part. Under torchrun every rank has to call this."""
        sums = _merged(gather_from_ranks(self._sums))
        unrecorded = tuple(name for name in self._description.spiking if name not in sums.layers)
        statistics = self._statistics.compute(complete=not unrecorded)
        output = None
        if sums.output is not None and sums.no_output is None:
            output = compare_outputs(sums.output, sums.samples, tolerance_of(tolerances, OUTPUT))
        layers = self._compare_layers(sums, statistics, tolerances, _task_kept(tolerances, output))
        if output is not None and sums.output is not None and sums.output.is_last_layer:
            output = _judged_as(output, layers[-1])
        expected, got = statistics
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
            budget=_budget(self._description, statistics),
            cause=None,
            stopped=any(gather_from_ranks(stopped)),
        )
        return comparison, sums.origin

    def _compare_layers(
        self,
        sums: _Sums,
        statistics: tuple[NetworkStatistics, NetworkStatistics],
        tolerances: Tolerances,
        task_kept: bool | None,
    ) -> tuple[LayerComparison, ...]:
        budgets, rates = layer_budgets(self._description), recorded_rates(self._description.metadata)
        shown = sums.shown[1] if sums.shown else {}
        expected, got = (of_run.layers for of_run in statistics)
        return tuple(
            compare_layer(
                name,
                self._gives[name],
                sums.layers[name],
                (expected[name], got[name]),
                shown[name],
                sums.samples,
                Standard(rates.get(name), budgets.get(name), tolerance_of(tolerances, name), task_kept),
            )
            for name in self._description.spiking
            if name in sums.layers
        )


def _merged(parts: Iterable[_Sums]) -> _Sums:
    sums = _Sums()
    for part in parts:
        sums.merge(part)
    return sums


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
    """An output that is the last layer's spikes gets their verdict, unless something was asked of the output itself."""
    asked = any(one.tolerance is not None for one in output.deviations)
    return output if asked else dataclasses.replace(output, status=last.status)


def _is_output(run: Run, name: str) -> bool:
    return run.output is not None and name in run.layers and np.array_equal(run.output, run.layers[name])


def _budget(
    description: NetworkDescription, statistics: tuple[NetworkStatistics, NetworkStatistics]
) -> tuple[BudgetUse, ...]:
    """The recorded budgets per sample; those of events are compared with the rates of layers."""
    return tuple(
        BudgetUse(name, limit, *(_used(name, of_run) for of_run in statistics))
        for name, limit in recorded_budgets(description).items()
        if name != "rate" and not name.endswith(".events_per_step")
    )


def _used(name: str, statistics: NetworkStatistics) -> float | None:
    """What a network, or one of its layers, uses of a line of the budget; None where that is not known."""
    layer, _, kind = name.rpartition(".")
    measured = statistics.layers.get(layer) if layer else statistics
    used: float | None = getattr(measured, kind, None)
    return used


def _origin(
    names: list[str],
    pairs: Mapping[str, tuple[Spikes, Spikes]],
    layers: Mapping[str, LayerSums],
    samples: npt.NDArray[np.int64],
) -> Origin | None:
    for position, name in enumerate(names):
        first = layers[name].first if name in layers else None
        if first is not None:
            row = int(np.flatnonzero(samples == first[1])[0])
            expected, got = (run[row].copy() for run in pairs[name])
            start = row // BATCH * BATCH
            return Origin((position, *first), name, expected, got, samples[start : start + BATCH])
    return None


def _shown(
    pairs: Mapping[str, tuple[Spikes, Spikes]],
    gives: Mapping[str, Gives],
    origin: Origin | None,
    samples: npt.NDArray[np.int64],
) -> tuple[tuple[int, ...], dict[str, Raster]]:
    """Rasters of the sample with the earliest difference, or else of the first of all, and a rank among all chunks."""
    sample = int(samples.min()) if origin is None else origin.place.sample
    rank = (1, sample) if origin is None else (0, *origin.rank)
    row = int(np.flatnonzero(samples == sample)[0])
    return rank, rasters(pairs, gives, sample, row)
