"""``verify``: does the exported network run as the trained one does, spike for spike, in every layer?"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netx_export.description import NetworkDescription
from netx_export.errors import SimulationError
from netx_export.hdf5 import read
from netx_export.simulation import check_input, simulate
from netx_export.slayer import record

__all__ = ["Comparison", "Difference", "LayerComparison", "Raster", "VerificationReport", "verify"]

SCHEMA = 1
_HISTOGRAM_BINS = 20
_RASTER_NEURONS = 100

_Spikes = npt.NDArray[Any]
Status = Literal["exact", "different", "untested"]


@dataclass(frozen=True)
class Difference:
    """The place of one spike that is in one run and not in the other."""

    sample: int
    neuron: tuple[int, ...]
    step: int


@dataclass(frozen=True)
class Raster:
    """Spikes of one layer in one sample: pairs (neuron, step) of its first neurons, in both runs."""

    neurons: int
    expected: list[tuple[int, int]]
    got: list[tuple[int, int]]


@dataclass(frozen=True)
class LayerComparison:
    """One layer in two runs.

    Attributes:
        name: kind and index in the file.
        neurons: number of neurons.
        expected_spikes, got_spikes: spikes over all samples and steps.
        expected_rate, got_rate: spikes per neuron and step.
        budget: the event rate that the layer was trained to stay under, or None.
        differing: number of places, a neuron at a step of a sample, at which one run has a spike and the other has not.
        largest_rate_difference: over the neurons, in spikes per step.
        silent, saturated: neurons that never spiked, and neurons that spiked at every step, in the expected run.
        first: the earliest difference, or None.
        histogram: number of neurons per bin of event rate, (expected, got), over ``[0, histogram_top]``.
        histogram_top: upper edge of the last bin, in spikes per step.
        raster: the first sample's spikes.
    """

    name: str
    neurons: int
    expected_spikes: int
    got_spikes: int
    expected_rate: float
    got_rate: float
    budget: float | None
    differing: int
    largest_rate_difference: float
    silent: int
    saturated: int
    first: Difference | None
    histogram: tuple[list[int], list[int]]
    histogram_top: float
    raster: Raster

    @property
    def status(self) -> Status:
        """``exact``; ``different``; or ``untested``, where no neuron of the layer ever spiked, which proves nothing."""
        if self.differing:
            return "different"
        return "exact" if self.expected_spikes else "untested"


@dataclass(frozen=True)
class Comparison:
    """Two runs of the same samples, layer by layer."""

    expected: str
    got: str
    samples: int
    steps: int
    layers: tuple[LayerComparison, ...]
    expected_accuracy: float | None
    got_accuracy: float | None
    changed_predictions: int

    @property
    def exact(self) -> bool:
        """Whether all spikes of all layers are equal."""
        return all(layer.differing == 0 for layer in self.layers)

    @property
    def passed(self) -> bool:
        """Whether all spikes are equal and every layer spiked at all."""
        return all(layer.status == "exact" for layer in self.layers)


@dataclass(frozen=True)
class VerificationReport:
    """The verdict on an exported network, and what it rests on.

    Attributes:
        network: the file's network as a table.
        comparisons: SLAYER against the reference simulator on all samples; then against Lava on some of them.
        metadata: what the file records of its own origin.
        training: one mapping of figures per epoch, if the caller has a training curve to show.
    """

    network: str
    comparisons: tuple[Comparison, ...]
    metadata: Mapping[str, str]
    training: Sequence[Mapping[str, float]] = ()

    @property
    def passed(self) -> bool:
        """Whether every comparison passed: equal spikes everywhere, and evidence in every layer."""
        return all(comparison.passed for comparison in self.comparisons)

    @property
    def exact(self) -> bool:
        """Whether every spike is equal."""
        return all(comparison.exact for comparison in self.comparisons)

    @property
    def layers(self) -> tuple[LayerComparison, ...]:
        """The layers of the last comparison, the one nearest to the chip."""
        return self.comparisons[-1].layers

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data: the attributes of these classes, their verdicts, and the version of the schema."""
        content = dataclasses.asdict(self)
        for plain, comparison in zip(content["comparisons"], self.comparisons, strict=True):
            plain.update(passed=comparison.passed, exact=comparison.exact)
            for plain_layer, layer in zip(plain["layers"], comparison.layers, strict=True):
                plain_layer["status"] = layer.status
        header = {"schema": SCHEMA, "lava_spikeloss": version("lava-spikeloss")}
        return {**header, "passed": self.passed, "exact": self.exact, **content}

    def to_json(self) -> str:
        """The report as JSON, the contents of :meth:`to_dict`."""
        return json.dumps(self.to_dict(), indent=1)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one HTML file that needs nothing else.

        Raises:
            NetxExportError: without matplotlib, which draws the pictures (the extra ``report``).
            ExportError: if the file cannot be written.
        """
        from netx_export.report import save_html

        save_html(self.to_dict(), path)


def verify(
    net: nn.Module | None,
    path: str | os.PathLike[str],
    spikes: npt.ArrayLike | torch.Tensor,
    labels: npt.ArrayLike | torch.Tensor | None = None,
    *,
    lava_samples: int = 32,
    seed: int = 0,
    timeout: float | None = None,
) -> VerificationReport:
    """Compare an exported file with the network it came from, spike for spike, in every layer.

    All samples run in SLAYER and on the reference simulator; some of them also on Lava. Without ``net``, the reference
    is compared with Lava.

    Args:
        net: the trained SLAYER network, or None for the file alone. It is not changed.
        path: the netx file.
        spikes: binary input ``(N, C, ..., T)``.
        labels: class indices ``(N,)``, for accuracies.
        lava_samples: number of samples to run on Lava, drawn in proportion to the labels; 0 leaves Lava out.
        seed: for the draw.
        timeout: seconds that Lava may take; None for a limit in proportion to the work.

    Raises:
        ExportError: if ``net`` cannot run on the spikes.
        NetxFormatError: if the file cannot be read.
        SimulationError: if the spikes do not fit the file, or Lava is missing, fails or runs out of time.
        ValueError: if there is nothing to compare, or the labels do not fit the spikes.

    Example:
        >>> from netx_export import verify
        >>> report = verify(net, "digits.net", spikes, labels)  # doctest: +SKIP
        >>> report.passed, report.exact  # doctest: +SKIP
        (True, True)
    """
    if net is None and lava_samples <= 0:
        raise ValueError("Nothing to compare: give `net`, or let `lava_samples` be at least 1.")
    description = read(path)
    tensor = check_input(description, spikes)
    classes = _check_labels(labels, len(tensor))
    reference = simulate(path, tensor).layers
    comparisons = []
    expected: Mapping[str, _Spikes] = reference
    source = "reference"
    if net is not None:
        expected, source = record(net, tensor, list(description.spiking)).layers, "SLAYER"
        comparisons.append(_compare(description, (source, expected), ("reference", reference), classes))
    if lava_samples > 0:
        chosen = _choose(len(tensor), lava_samples, classes, seed)
        lava = simulate(path, tensor[torch.from_numpy(chosen)], backend="lava", timeout=timeout).layers
        part = {name: layer[chosen] for name, layer in expected.items()}
        chosen_classes = None if classes is None else classes[chosen]
        comparisons.append(_compare(description, (source, part), ("Lava", lava), chosen_classes))
    return VerificationReport(str(description), tuple(comparisons), description.metadata)


def _check_labels(labels: npt.ArrayLike | torch.Tensor | None, samples: int) -> npt.NDArray[np.int64] | None:
    if labels is None:
        return None
    classes = np.asarray(labels)
    if classes.shape != (samples,) or not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(
            f"Expected argument `labels` to be {samples} class indices, one for each sample, but got "
            f"{classes.dtype} of shape {classes.shape}."
        )
    return classes.astype(np.int64)


def _choose(samples: int, number: int, classes: npt.NDArray[np.int64] | None, seed: int) -> npt.NDArray[np.int64]:
    """Indices of samples to run on Lava: every class in its share, in the order of the data."""
    order = np.random.default_rng(seed).permutation(samples)
    if classes is not None:
        # Sorted by its share's rank within its class, each class is spread evenly over the order.
        rank = np.empty(samples)
        for label in np.unique(classes):
            members = order[classes[order] == label]
            rank[members] = (np.arange(len(members)) + 0.5) / len(members)
        order = order[np.argsort(rank[order], kind="stable")]
    return np.sort(order[:number])


def _compare(
    description: NetworkDescription,
    expected: tuple[str, Mapping[str, _Spikes]],
    got: tuple[str, Mapping[str, _Spikes]],
    classes: npt.NDArray[np.int64] | None,
) -> Comparison:
    (expected_name, expected_layers), (got_name, got_layers) = expected, got
    names = list(description.spiking)
    budgets = _budgets(description)
    layers = tuple(_compare_layer(name, expected_layers[name], got_layers[name], budgets.get(name)) for name in names)
    last = names[-1]
    predictions = _predict(expected_layers[last]), _predict(got_layers[last])
    return Comparison(
        expected=expected_name,
        got=got_name,
        samples=len(expected_layers[last]),
        steps=expected_layers[last].shape[-1],
        layers=layers,
        expected_accuracy=None if classes is None else float((predictions[0] == classes).mean()),
        got_accuracy=None if classes is None else float((predictions[1] == classes).mean()),
        changed_predictions=int((predictions[0] != predictions[1]).sum()),
    )


def _budgets(description: NetworkDescription) -> dict[str, float]:
    """The event rate that each hidden layer was trained to stay under, as recorded at export."""
    recorded = description.metadata.get("rate_budget")
    if recorded is None:
        return {}
    return {name: float(recorded) for name in list(description.spiking)[:-1]}


def _predict(output: _Spikes) -> npt.NDArray[np.int64]:
    """The class that spiked most, the first of equals; -1 where the whole output was silent."""
    counts = output.reshape(len(output), -1, output.shape[-1]).sum(-1)
    return np.where(counts.any(1), counts.argmax(1), -1)


def _compare_layer(name: str, expected: _Spikes, got: _Spikes, budget: float | None) -> LayerComparison:
    if expected.shape != got.shape:
        raise SimulationError(f"Layer {name} has shape {expected.shape} in one run and {got.shape} in the other.")
    samples, steps = len(expected), expected.shape[-1]
    neuron_rates = [
        run.reshape(samples, -1, steps).sum((0, 2), dtype=np.float64) / (samples * steps) for run in (expected, got)
    ]
    different = expected != got
    top = max(float(neuron_rates[0].max()), float(neuron_rates[1].max()), 1 / steps)
    histograms = [np.histogram(rates, _HISTOGRAM_BINS, (0.0, top))[0].tolist() for rates in neuron_rates]
    return LayerComparison(
        name=name,
        neurons=len(neuron_rates[0]),
        expected_spikes=int(expected.sum(dtype=np.int64)),
        got_spikes=int(got.sum(dtype=np.int64)),
        expected_rate=float(neuron_rates[0].mean()),
        got_rate=float(neuron_rates[1].mean()),
        budget=budget,
        differing=int(different.sum()),
        largest_rate_difference=float(np.abs(neuron_rates[0] - neuron_rates[1]).max()),
        silent=int((neuron_rates[0] == 0).sum()),
        saturated=int((neuron_rates[0] == 1).sum()),
        first=_first(different),
        histogram=(histograms[0], histograms[1]),
        histogram_top=top,
        raster=_raster(expected[0], got[0]),
    )


def _first(different: npt.NDArray[np.bool_]) -> Difference | None:
    """The earliest difference in time; of those, the one in the first sample and neuron."""
    steps = np.flatnonzero(different.reshape(-1, different.shape[-1]).any(0))
    if not len(steps):
        return None
    sample, *neuron = np.argwhere(different[..., steps[0]])[0].tolist()
    return Difference(sample, tuple(neuron), int(steps[0]))


def _raster(expected: _Spikes, got: _Spikes) -> Raster:
    runs = [run.reshape(-1, run.shape[-1])[:_RASTER_NEURONS] for run in (expected, got)]
    places = [[(int(neuron), int(step)) for neuron, step in np.argwhere(run)] for run in runs]
    return Raster(len(runs[0]), places[0], places[1])
