"""The result of a verification as plain data: what two runs of a network did, layer by layer, and the verdict on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lava_spikeloss.arguments import check_number
from netx_export.network.description import Gives

__all__ = [
    "Activity",
    "BudgetUse",
    "Cause",
    "Comparison",
    "Deviation",
    "Difference",
    "Histogram",
    "LayerComparison",
    "OutputComparison",
    "Raster",
    "Status",
    "Tolerance",
    "Tolerances",
    "all_kept",
    "deviations",
    "status",
    "tolerance_of",
]

Status = Literal["exact", "within tolerance", "different", "untested"]


@dataclass(frozen=True)
class Tolerance:
    """How far a layer of one run may lie from the other. What is left at None is not asked for.

    Attributes:
        differing: differing places, as a share of the events in the expected run.
        value: largest difference of a single value: 1 for a spike, anything for graded messages and sums.
        rate: difference of the layer's mean event rate, in spikes per neuron and step.
        neuron_rate: largest difference of a single neuron's event rate, in spikes per step.
        cosine: 1 minus the cosine of the two rasters.
        first_spike: mean shift of the first spike of a neuron in a sample, in steps, of those that spike in both runs.
        van_rossum: van Rossum distance of the two rasters, root mean square over the samples; of graded messages each
            counts with its value.
        changed_predictions: of the output only: share of the samples whose predicted class changed.
        accuracy: of the output only: loss of accuracy.
        loss: of the output only: difference of the task loss.

    Example:
        >>> Tolerance(rate=0.001, changed_predictions=0.0).limits
        {'rate': 0.001, 'changed_predictions': 0.0}
        >>> Tolerance()
        Traceback (most recent call last):
            ...
        ValueError: Expected a `Tolerance` of at least one statistic but got none; leave it out to ask for equality.
    """

    differing: float | None = None
    value: float | None = None
    rate: float | None = None
    neuron_rate: float | None = None
    cosine: float | None = None
    first_spike: float | None = None
    van_rossum: float | None = None
    changed_predictions: float | None = None
    accuracy: float | None = None
    loss: float | None = None

    def __post_init__(self) -> None:
        if not self.limits:
            raise ValueError(
                "Expected a `Tolerance` of at least one statistic but got none; leave it out to ask for equality."
            )
        for name, limit in self.limits.items():
            check_number(f"tolerance.{name}", limit, minimum=0.0)

    @property
    def limits(self) -> dict[str, float]:
        """The statistics that are asked for."""
        return {name: limit for name, limit in dataclasses.asdict(self).items() if limit is not None}


Tolerances: TypeAlias = "Tolerance | Mapping[str, Tolerance] | None"  # for all layers, or for some by name

# Statistics that only the network's output has, or only a layer; a `value` is in both.
OF_OUTPUT = frozenset({"changed_predictions", "accuracy", "loss"})
OF_LAYERS = frozenset({"differing", "rate", "neuron_rate", "cosine", "first_spike", "van_rossum"})


def tolerance_of(tolerances: Tolerances, name: str) -> Tolerance | None:
    """What is accepted of a layer, or of the :data:`OUTPUT`; None if equality is asked for."""
    return tolerances.get(name) if isinstance(tolerances, Mapping) else tolerances


@dataclass(frozen=True)
class Deviation:
    """One statistic of the distance between two runs.

    Attributes:
        name: as in :class:`Tolerance`.
        required: the tolerance that would have been required; 0 where the runs are equal in this, None where the
            statistic is not defined.
        tolerance: the tolerance that was given, or None.
        passed: whether it was kept; None if none was given.
    """

    name: str
    required: float | None
    tolerance: float | None
    passed: bool | None


@dataclass(frozen=True)
class Difference:
    """The place of one spike that is in one run and not in the other."""

    sample: int
    neuron: tuple[int, ...]
    step: int


@dataclass(frozen=True)
class Raster:
    """Spikes of one layer in one sample, in both runs.

    Attributes:
        sample: index of the sample in the data.
        neurons: flat indices of the neurons shown, one row each: as many as there is room for of those that differ,
            then of those that spike, then of the others.
        expected, got: places of the events, (row, step); none for sums, which are there at every step.
        unequal: places at which both runs have something, but not the same; of spikes there are none.
    """

    sample: int
    neurons: tuple[int, ...]
    expected: tuple[tuple[int, int], ...]
    got: tuple[tuple[int, int], ...]
    unequal: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Activity:
    """What one layer did in one run. Of a layer that gives sums, which are no events, only their number is known.

    Attributes:
        spikes: events over all samples and steps: spikes, messages, or sums that are not 0.
        rate: events per neuron and step.
        silent, saturated: neurons that never spiked, and neurons that spiked in at least nine of ten steps.
        first_spike: mean step of a neuron's first spike over the samples in which it spikes, and then over these
            neurons; None where nothing spiked.
        latency: mean steps from a sample's first input spike to the layer's first spike, or None.
        synops: synaptic operations per sample that this layer's synapses perform.
        energy: joule per sample, or None where no constant is published.
    """

    spikes: int
    rate: float | None
    silent: int | None
    saturated: int | None
    first_spike: float | None
    latency: float | None
    synops: float | None
    energy: float | None


@dataclass(frozen=True)
class Histogram:
    """Number of neurons per event rate, in bins of equal width from 0 to ``top`` spikes per step, in both runs."""

    top: float
    expected: list[int]
    got: list[int]


@dataclass(frozen=True)
class LayerComparison:
    """One layer in two runs.

    Attributes:
        name: kind and index in the file.
        shape: of the layer, without batch and time.
        neurons: number of neurons.
        gives: ``spikes``, or what sigma-delta neurons give: ``messages``, or ``sums`` in a last layer;
            ``sums`` also of a last layer that is read by its voltage.
        expected, got: what the layer did in the two runs.
        trained_rate: event rate on the sample that the network was exported with, as the file records it, or None.
        budget: the event rate that the layer was trained to stay under, or None.
        differing: number of places, a neuron at a step of a sample, at which the runs are not equal.
        cosine: of the two rasters, graded messages with their values; 1 where both are silent, 0 where one is.
        moved_first_spikes: trains, a neuron in a sample, that spike first at another step.
        lost_first_spikes: trains that spike in one run only.
        deviations: the distance of the runs, statistic by statistic, each with its tolerance if there is one.
        first: the earliest difference, or None.
        neuron_rates: (neuron, rate in the expected run, rate in the other), those that differ most first; none of sums.
        histogram: all neurons by their event rates; None for sums.
        raster: spikes in one sample: the one with the network's first difference, else the first.
        status: the verdict; ``untested`` where no neuron spiked in either run, which proves nothing.
    """

    name: str
    shape: tuple[int, ...]
    neurons: int
    gives: Gives
    expected: Activity
    got: Activity
    trained_rate: float | None
    budget: float | None
    differing: int
    cosine: float
    moved_first_spikes: int
    lost_first_spikes: int
    deviations: tuple[Deviation, ...]
    first: Difference | None
    neuron_rates: tuple[tuple[int, float, float], ...]
    histogram: Histogram | None
    raster: Raster
    status: Status

    @property
    def expected_spikes(self) -> int:
        """Spikes in the expected run."""
        return self.expected.spikes


@dataclass(frozen=True)
class OutputComparison:
    """What the network as a whole made of the samples in two runs.

    Attributes:
        expected_accuracy, got_accuracy: share of the samples whose class was predicted; None without class labels.
        ignored: samples with the label -100, which count neither as right nor as wrong, and not in the loss.
        expected_loss, got_loss: mean over the samples of the task loss; None without a loss, or if it is not finite.
        unbounded_losses: samples whose loss is infinite or NaN in one of the runs.
        changed_predictions: samples whose predicted class differs. A silent output predicts no class, -1; one output
            neuron alone predicts 1, yes, if it fires and 0, no, if it does not. None for numbers without class labels,
            which need not stand for classes.
        differing: number of output values that differ.
        confusion: (label or None, class in the expected run, class in the other run, number of samples).
        deviations: as in a layer.
        status: the verdict; that of the last layer, if the output is its spikes and no tolerance asks for more.
            ``untested`` where it was all zeros, or where the task loss was asked for and is not finite.
    """

    expected_accuracy: float | None
    got_accuracy: float | None
    ignored: int
    expected_loss: float | None
    got_loss: float | None
    unbounded_losses: int
    changed_predictions: int | None
    differing: int
    confusion: tuple[tuple[int | None, int, int, int], ...]
    deviations: tuple[Deviation, ...]
    status: Status


@dataclass(frozen=True)
class BudgetUse:
    """A line of the budget that the file records, and what the two runs use of it.

    Attributes:
        name: ``synops``, ``energy`` in joule, both per sample, or ``events_per_step``; of a layer with its name before.
        limit: what is allowed.
        expected, got: what is used; None where it is not known.
    """

    name: str
    limit: float
    expected: float | None
    got: float | None


@dataclass(frozen=True)
class Cause:
    """Why two runs differ, as far as it was found.

    Attributes:
        name: one of ``netx_export.verification.diagnosis.CAUSES``.
        detail: one sentence with what was tried and found.
        layer: the first layer that differs, or ``output``.
        place: its earliest difference; None for the output.
        steps: the steps around it.
        threshold: what the membranes are compared with; None if the neuron has no single one.
        expected_membrane, got_membrane: membrane before the reset at each of the steps, in the units of the chip's
            registers; None where it cannot be known, as in Lava or in a recording.
    """

    name: str
    detail: str
    layer: str
    place: Difference | None
    steps: tuple[int, ...]
    threshold: int | None
    expected_membrane: tuple[float, ...] | None
    got_membrane: tuple[float, ...] | None


@dataclass(frozen=True)
class Comparison:
    """Two runs of the same samples, layer by layer.

    Attributes:
        expected, got: where the runs come from: ``SLAYER``, ``reference``, ``Lava`` or ``recording``.
        samples, steps: how many were compared.
        layers: the layers that both runs hold.
        unrecorded: names of layers that a recording does not hold; nothing is known of them.
        output: of the network as a whole; None if it was not compared.
        no_output: why the output was not compared; None if it was.
        expected_energy, got_energy: of the whole network, joule per sample.
        expected_synops, got_synops: of the whole network, per sample.
        budget: the recorded budget; the events of single layers stand with these, as rates.
        cause: why they differ; None if they do not.
        stopped: whether it ended early, on request, since no further sample could have made it pass.
        why_no_more: why no more samples were compared, where ``verify`` was left to choose how many; None where it was
            told, or all were.
    """

    expected: str
    got: str
    samples: int
    steps: int
    layers: tuple[LayerComparison, ...]
    unrecorded: tuple[str, ...]
    output: OutputComparison | None
    no_output: str | None
    expected_synops: float | None
    got_synops: float | None
    expected_energy: float | None
    got_energy: float | None
    budget: tuple[BudgetUse, ...]
    cause: Cause | None
    stopped: bool
    why_no_more: str | None = None

    @property
    def exact(self) -> bool:
        """Whether everything that was compared is equal."""
        return all(layer.differing == 0 for layer in self.layers) and (self.output is None or not self.output.differing)

    @property
    def passed(self) -> bool:
        """Whether everything that was compared gave something, and is equal or within its tolerance."""
        statuses = [layer.status for layer in self.layers] + ([] if self.output is None else [self.output.status])
        return bool(statuses) and all(status in ("exact", "within tolerance") for status in statuses)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, with the verdicts."""
        return {**dataclasses.asdict(self), "passed": self.passed, "exact": self.exact}


def status(differing: int, events: int, covered: bool) -> Status:
    """The verdict on a layer, or on the output.

    What gave nothing but zeros shows nothing, however equal it is: another network would have given them too.

    Args:
        differing: number of values that differ.
        events: number of values in the expected run that are not 0.
        covered: whether a tolerance accepts the differences.
    """
    if differing:
        return "within tolerance" if covered else "different"
    return "exact" if events else "untested"


def deviations(required: Mapping[str, float | None], tolerance: Tolerance | None) -> tuple[Deviation, ...]:
    """Each statistic with the limit that was given for it; one that is not finite is not defined."""
    limits = {} if tolerance is None else tolerance.limits
    return tuple(_deviation(name, value, limits.get(name)) for name, value in required.items())


def _deviation(name: str, required: float | None, limit: float | None) -> Deviation:
    defined = required if required is not None and math.isfinite(required) else None
    kept = defined is not None and limit is not None and bool(defined <= limit)  # JSON takes no numpy.bool_
    return Deviation(name, defined, limit, None if limit is None else kept)


def all_kept(verdicts: Iterable[bool | None]) -> bool | None:
    """Whether everything that was asked was kept; None if nothing was asked."""
    asked = [verdict for verdict in verdicts if verdict is not None]
    return all(asked) if asked else None
