"""``verify``: does the exported network run as the trained one does, spike for spike, in every layer?"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn

from lava_spikeloss import LOIHI_1, LOIHI_2, EnergyTable
from netx_export.comparison import Comparison, LayerComparison, Tolerance
from netx_export.description import NetworkDescription
from netx_export.diagnosis import Data, diagnose
from netx_export.errors import ExportError, SimulationError
from netx_export.hdf5 import read
from netx_export.provenance import recorded_budgets
from netx_export.recording import check_recording, load_recording
from netx_export.simulation import as_tensor, check_input, network_input, simulate
from netx_export.slayer import find_blocks, record
from netx_export.slayer.blocks import spikes as has_spikes
from netx_export.tally import Loss, Run, Tally, rank_and_size

__all__ = ["VerificationReport", "verify"]

SCHEMA = 2
_CHUNK_BYTES = 2**28
_CHUNK_SAMPLES = 256

_Runner: TypeAlias = Callable[[npt.NDArray[np.int64], torch.Tensor], Run]


@dataclass(frozen=True)
class VerificationReport:
    """The verdict on an exported network, and what it rests on.

    Attributes:
        network: the file's network as a table.
        comparisons: SLAYER against the reference simulator on all samples; then the reference against Lava on some of
            them, or against a recorded run.
        metadata: what the file records of its own origin.
        budgets: what the network was to keep to, as recorded at export: ``rate`` of each hidden layer's neurons in
            spikes per step, ``synops`` and ``energy`` (in joule) per sample, ``events_per_step``; those of a layer with
            its name before (``dense1.synops``).
        energy_table: what the energy was counted by.
        training: one mapping of figures per epoch, if the caller has a training curve to show.
    """

    network: str
    comparisons: tuple[Comparison, ...]
    metadata: Mapping[str, str]
    budgets: Mapping[str, float]
    energy_table: EnergyTable = LOIHI_1
    training: Sequence[Mapping[str, float]] = ()

    @property
    def passed(self) -> bool:
        """Whether every comparison passed: equal or within tolerance everywhere, with evidence in every layer."""
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
        """The report as plain data, in the schema of ``docs/report-schema.md``."""
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "exact": self.exact,
            "network": self.network,
            "metadata": dict(self.metadata),
            "budgets": dict(self.budgets),
            "energy_table": dataclasses.asdict(self.energy_table),
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "training": [dict(row) for row in self.training],
        }

    def to_json(self) -> str:
        """The report as JSON, the contents of :meth:`to_dict`."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def save_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one HTML file that needs nothing else.

        Raises:
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
    recorded: str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | None = None,
    loss: Loss | None = None,
    tolerance: Tolerance | Mapping[str, Tolerance] | None = None,
    stop_early: bool = False,
    seed: int = 0,
    timeout: float | None = None,
    progress: bool = False,
) -> VerificationReport:
    """Compare an exported file with the network it came from, spike for spike, in every layer.

    All samples run in SLAYER and on the reference simulator; then some of them on the reference and on Lava, or all are
    compared with a recorded run. Samples are worked through in chunks, so that any number of them fits into memory.
    Under ``torchrun`` each rank takes its share of them, and all get the same report.

    The numbers that sigma-delta networks send are compared as numbers; an event is one other than 0. Statistics that do
    not exist for them (the rate of a layer that only sums up, an energy) are None.

    Args:
        net: the trained SLAYER network, or None for the file alone. It is not changed.
        path: the netx file.
        spikes: binary input ``(N, C, ..., T)``, or numbers if the file has input neurons; on every rank the same.
        labels: class indices ``(N,)`` for accuracies; other labels ``(N, ...)`` only serve the loss.
        lava_samples: number of samples to run on Lava, drawn in proportion to the labels; 0 leaves Lava out.
        recorded: spikes of the layers and the output, from another simulator or a chip, in place of Lava: a mapping, or
            a ``.npz`` file as ``netx-export simulate`` writes it.
        loss: the task loss that the network was trained with, of output and labels. Called for one sample at a time.
        tolerance: what is still accepted, for all layers or for some by name (the network's output is ``"output"``);
            None asks for equality.
        stop_early: whether to end at the first chunk of samples that is not equal, and leave out what would follow.
        seed: for the draw.
        timeout: seconds that Lava may take; None for a limit in proportion to the work.
        progress: whether to show a progress bar.

    Raises:
        ExportError: if ``net`` cannot run on the spikes, or has other layers than the file.
        NetxFormatError: if the file cannot be read.
        SimulationError: if spikes or recording do not fit the file, or Lava is missing, fails or runs out of time.
        ValueError: if there is nothing to compare, or the labels do not fit the spikes.

    Example:
        >>> from netx_export import verify
        >>> report = verify(net, "digits.net", spikes, labels)  # doctest: +SKIP
        >>> report.passed, report.exact  # doctest: +SKIP
        (True, True)
    """
    if net is None and recorded is None and lava_samples <= 0:
        raise ValueError("Nothing to compare: give `net` or `recorded`, or let `lava_samples` be at least 1.")
    description = read(path)
    inputs = spikes if isinstance(spikes, torch.Tensor) else np.asanyarray(spikes)
    data = Data(net, description, inputs)
    check_input(description, data.samples(0))
    subject = _Subject(
        data=data,
        path=path,
        labels=_check_labels(labels, len(inputs)),
        loss=loss,
        tolerance=_check_tolerance(tolerance, description),
        stop_early=stop_early,
        timeout=timeout,
        progress=progress and rank_and_size()[0] == 0,
    )
    comparisons = []
    for comparison in subject.comparisons(recorded, lava_samples, seed):
        comparisons.append(comparison)
        if stop_early and not comparison.passed:
            break
    return VerificationReport(
        network=str(description),
        comparisons=tuple(comparisons),
        metadata=description.metadata,
        budgets=recorded_budgets(description),
        energy_table=LOIHI_2 if description.graded else LOIHI_1,
    )


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is verified, and how."""

    data: Data
    path: str | os.PathLike[str]
    labels: torch.Tensor | None
    loss: Loss | None
    tolerance: Tolerance | Mapping[str, Tolerance] | None
    stop_early: bool
    timeout: float | None
    progress: bool

    def comparisons(
        self, recorded: str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | None, lava_samples: int, seed: int
    ) -> Iterator[Comparison]:
        """All comparisons, one by one, each run when it is asked for."""
        everything = np.arange(len(self.data.inputs))
        if self.data.net is not None:
            _check_blocks(self.data.net, self.data.description)
            yield self._compare(("SLAYER", self._slayer), ("reference", self._reference), everything)
        if recorded is not None:
            arrays = recorded if isinstance(recorded, Mapping) else load_recording(recorded)
            shape = self.data.inputs.shape
            run = check_recording(arrays, self.data.description, shape[0], shape[-1])
            yield self._compare(("reference", self._reference), ("recording", _replay(run)), everything)
        elif lava_samples > 0:
            chosen = _choose(len(everything), lava_samples, self.labels, seed)
            yield self._compare(("reference", self._reference), ("Lava", self._lava), chosen)

    def _compare(
        self, expected: tuple[str, _Runner], got: tuple[str, _Runner], samples: npt.NDArray[np.int64]
    ) -> Comparison:
        description = self.data.description
        tally = Tally(description, (expected[0], got[0]), self.loss)
        rank, size = rank_and_size()
        own = np.array_split(samples, size)[rank]
        stopped = False
        # Lava shows a bar of its own, for what takes time there.
        hidden = not self.progress or got[0] == "Lava"
        with Progress(console=Console(stderr=True), transient=True, disable=hidden) as bar:
            task = bar.add_task(f"{expected[0]} against {got[0]}", total=len(own))
            for chunk in _chunks(own, description, self.data.inputs.shape[-1]):
                inputs = self.data.choose(chunk)
                runs = _same_shapes(expected[1](chunk, inputs), got[1](chunk, inputs))
                frames = network_input(description, inputs)[..., description.lead :].cpu().numpy()
                tally.add(*runs, frames, chunk, None if self.labels is None else self.labels[torch.from_numpy(chunk)])
                bar.advance(task, len(chunk))
                stopped = self.stop_early and not tally.equal
                if stopped:
                    break
        comparison, origin = tally.finish(self.tolerance, stopped)
        return dataclasses.replace(comparison, cause=diagnose(self.data, comparison, origin, samples))

    def _slayer(self, samples: npt.NDArray[np.int64], inputs: torch.Tensor) -> Run:
        assert self.data.net is not None
        recording = record(self.data.net, inputs, list(self.data.description.spiking))
        return Run(recording.layers, recording.output)

    def _reference(self, samples: npt.NDArray[np.int64], inputs: torch.Tensor) -> Run:
        simulation = simulate(self.path, inputs)
        return Run(simulation.layers, simulation.output)

    def _lava(self, samples: npt.NDArray[np.int64], inputs: torch.Tensor) -> Run:
        simulation = simulate(self.path, inputs, backend="lava", timeout=self.timeout, progress=self.progress)
        return Run(simulation.layers, simulation.output)


def _replay(recorded: Run) -> _Runner:
    def run(samples: npt.NDArray[np.int64], inputs: torch.Tensor) -> Run:
        output = None if recorded.output is None else recorded.output[samples]
        return Run({name: layer[samples] for name, layer in recorded.layers.items()}, output)

    return run


def _same_shapes(expected: Run, got: Run) -> tuple[Run, Run]:
    for name in set(expected.layers) & set(got.layers):
        shapes = expected.layers[name].shape, got.layers[name].shape
        if shapes[0] != shapes[1]:
            raise SimulationError(f"Layer {name} has shape {shapes[0]} in one run and {shapes[1]} in the other.")
    if expected.output is None or got.output is None or expected.output.shape == got.output.shape:
        return expected, got
    # The network's forward makes something else of its last spikes than the file does: they are what can be compared.
    last_layers = (list(run.layers.values())[-1] for run in (expected, got))
    first, second = (Run(run.layers, last) for run, last in zip((expected, got), last_layers, strict=True))
    return first, second


def _chunks(
    samples: npt.NDArray[np.int64], description: NetworkDescription, steps: int
) -> Iterator[npt.NDArray[np.int64]]:
    """The samples in parts that fit into memory in both runs, the input as SLAYER takes it among them."""
    shapes = [description.input_shape, *(layer.shape for layer in description.spiking.values())]
    values = steps * sum(int(np.prod(shape)) for shape in shapes)
    size = int(np.clip(_CHUNK_BYTES // (values * np.dtype(np.float32).itemsize), 1, _CHUNK_SAMPLES))
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _check_blocks(net: nn.Module, description: NetworkDescription) -> None:
    number = sum(has_spikes(block) for block in find_blocks(net))
    if number != len(description.spiking):
        raise ExportError(
            f"The network has {number} spiking blocks but the file has {len(description.spiking)} spiking layers, so "
            f"one is not an export of the other. Give the network that the file was exported from."
        )


def _check_labels(labels: npt.ArrayLike | torch.Tensor | None, samples: int) -> torch.Tensor | None:
    if labels is None:
        return None
    array = labels.detach().cpu() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.ndim == 0 or len(array) != samples or (isinstance(array, np.ndarray) and array.dtype.kind not in "biuf"):
        raise ValueError(
            f"Expected argument `labels` to be {samples} class indices, or other labels of which the first axis is the "
            f"{samples} samples, but got {array.dtype} of shape {tuple(array.shape)}."
        )
    if isinstance(array, np.ndarray):
        array = as_tensor(array.astype(np.int64) if array.dtype.kind in "iu" else array)
    # torch cannot choose from all of the unsigned types.
    return array if array.is_floating_point() or array.dtype == torch.bool else array.long()


def _check_tolerance(
    tolerance: Tolerance | Mapping[str, Tolerance] | None, description: NetworkDescription
) -> Tolerance | Mapping[str, Tolerance] | None:
    known = [*description.spiking, "output"]
    unknown = [name for name in tolerance if name not in known] if isinstance(tolerance, Mapping) else []
    if unknown:
        raise ValueError(f"Expected the names in `tolerance` to be among {', '.join(known)} but got {unknown}.")
    return tolerance


def _choose(samples: int, number: int, labels: torch.Tensor | None, seed: int) -> npt.NDArray[np.int64]:
    """Indices of samples to run on Lava: every class in its share, in the order of the data."""
    order = np.random.default_rng(seed).permutation(samples)
    if labels is not None and labels.dim() == 1:
        # Sorted by its share's rank within its class, each class is spread evenly over the order.
        classes = labels.numpy()
        rank = np.empty(samples)
        for label in np.unique(classes):
            members = order[classes[order] == label]
            rank[members] = (np.arange(len(members)) + 0.5) / len(members)
        order = order[np.argsort(rank[order], kind="stable")]
    return np.sort(order[:number])
