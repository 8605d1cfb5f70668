"""``verify``: does the exported network run as the trained one does, spike for spike, in every layer?"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lava_spikeloss import LOIHI_1, LOIHI_2, EnergyTable
from netx_export.errors import ExportError, NetxExportError, SimulationError
from netx_export.file.netx import as_it_runs
from netx_export.network.description import NetworkDescription
from netx_export.progress import watched
from netx_export.provenance import recorded_budgets, run_texts
from netx_export.run import Run
from netx_export.simulation.inputs import network_input
from netx_export.simulation.lava_time import TimeLimit, number_of_workers
from netx_export.simulation.simulate import LavaSimulator, Simulator
from netx_export.slayer import line_up, record
from netx_export.verification.arguments import (
    Options,
    check_labels,
    check_loss,
    check_names,
    check_net,
    check_numbers,
    check_spikes,
    number_of_outputs,
)
from netx_export.verification.diagnosis import Data, diagnose
from netx_export.verification.fingerprint import fingerprint, hash_source
from netx_export.verification.lava_samples import LavaSamples, LavaShare, draw, why_no_more
from netx_export.verification.output_sums import Loss
from netx_export.verification.ranks import gather_from_ranks, rank_and_size, refuse_differences, together
from netx_export.verification.recording import check_recording
from netx_export.verification.result import Comparison, LayerComparison, Tolerance
from netx_export.verification.sums import Tally

__all__ = ["VerificationReport", "verify"]

SCHEMA = 3
_CHUNK_BYTES = 2**28
_CHUNK_SAMPLES = 256
_FIRST_SAMPLES = 8  # show where in the network's forward the file begins and ends

_Samples: TypeAlias = "npt.NDArray[np.int64]"
_Recorded: TypeAlias = "str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | None"


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some samples that are run together.

    Attributes:
        samples: their indices in the data.
        entering: the input of the file for them.
        trained: what SLAYER gives, if it is compared.
    """

    samples: _Samples
    entering: torch.Tensor
    trained: Run | None = None


_Runner: TypeAlias = Callable[[_Chunk], Run]


@dataclass(frozen=True)
class VerificationReport:
    """The verdict on an exported network, and what it rests on.

    It speaks of what was compared. What was not, such as layers that a recording does not hold, each comparison lists.

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
        spike_exp: with which the simulators ran, of a sigma-delta network; None of another.
        run: what ran and when: ``file``, ``date``, the versions, and the ``command`` if there was one. It says nothing
            of the result, so reports that differ in this only are equal.
        begins_inside: whether the network's forward makes something else of its input for its first block, which is
            what goes into the file.
        ends_inside: whether the network returns something else than what its last block made, which is what is compared
            with the file's output; no accuracy is given then.
    """

    network: str
    comparisons: tuple[Comparison, ...]
    metadata: Mapping[str, str]
    budgets: Mapping[str, float]
    energy_table: EnergyTable = LOIHI_1
    training: Sequence[Mapping[str, float]] = ()
    spike_exp: int | None = None
    run: Mapping[str, str] = field(default_factory=dict, compare=False)
    begins_inside: bool = False
    ends_inside: bool = False

    def __str__(self) -> str:
        """The verdict on each layer and on the whole, as ``netx-export verify`` prints it."""
        from netx_export.verification.report import to_text

        return to_text(self.to_dict())

    def _repr_html_(self) -> str:
        """The page, as a notebook shows it."""
        from netx_export.verification.report import to_frame

        return to_frame(self.to_dict())

    @property
    def passed(self) -> bool:
        """Whether every comparison passed: whatever was compared is equal or within tolerance, and not all zeros."""
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    @property
    def exact(self) -> bool:
        """Whether every spike that was compared is equal, and every value of the output."""
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
            "spike_exp": self.spike_exp,
            "run": dict(self.run),
            "begins_inside": self.begins_inside,
            "ends_inside": self.ends_inside,
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
        from netx_export.verification.report import save_html

        save_html(self.to_dict(), path)


def verify(
    net: nn.Module | None,
    path: str | os.PathLike[str] | NetworkDescription,
    spikes: npt.ArrayLike | torch.Tensor,
    labels: npt.ArrayLike | torch.Tensor | None = None,
    *,
    lava_samples: LavaSamples = "auto",
    recorded: str | os.PathLike[str] | Mapping[str, npt.ArrayLike] | None = None,
    loss: Loss | None = None,
    tolerance: Tolerance | Mapping[str, Tolerance] | None = None,
    stop_early: bool = False,
    seed: int = 0,
    delay_shift: bool | None = None,
    spike_exp: int | None = None,
    timeout: float | None = None,
    progress: bool = False,
    lava_python: str | os.PathLike[str] | None = None,
    lava_workers: int | None = None,
) -> VerificationReport:
    """Compare an exported file with the network it came from, spike for spike, in every layer.

    All samples run in SLAYER and on the reference simulator; then some of them on the reference and on Lava, or all are
    compared with a recorded run. Samples are worked through in chunks, so that any number of them fits into memory.
    Under ``torchrun`` each rank takes its share of them, and all get the same report.

    The numbers that sigma-delta networks send are compared as numbers; an event is one other than 0. Statistics that do
    not exist for them (the rate of a layer that only sums up, an energy) are None.

    Only equal spikes prove anything: a layer, or an output, that gave nothing but zeros is ``untested``, and the report
    does not pass. What the network does before its first block and after its last one stays on the host: the spikes go
    into the network, what reaches its first block goes into the file, and what its last block makes is compared with
    the file's output. Where that is not what the network takes or returns, the report says so; accuracies are given
    only of what it returns.

    Args:
        net: the trained SLAYER network, or None for the file alone. It is not changed.
        path: the netx file, or what :func:`netx_export.read` made of one.
        spikes: what the network takes, or without one the file: binary input ``(N, C, ..., T)``, or numbers if the file
            has input neurons; on every rank the same.
        labels: class indices ``(N,)`` for accuracies, whole numbers of any type; -100 leaves a sample out of accuracies
            and loss. Other labels, fractions or ``(N, ...)``, only serve the loss.
        lava_samples: number of samples to run on Lava, drawn in proportion to the labels; 0 leaves Lava out. ``"auto"``
            runs as many as fit into about 60 s, or half of ``timeout`` if that is less, as far as the first ones tell,
            at least one per worker and at most 32; the report then says how many these were, and why.
        recorded: spikes of the layers and the output, or of some of them, from another simulator or a chip, in place of
            Lava: a mapping, or a ``.npz`` file as ``netx-export simulate`` writes it.
        loss: the task loss that the network was trained with, of output and labels. Called for one sample at a time; if
            it is infinite or NaN, the report counts these samples, and no ``tolerance`` of the loss is kept.
        tolerance: what is still accepted, for all layers or for some by name (the network's output is ``"output"``);
            None asks for equality. A ``Tolerance`` that asks nothing of a layer, or of an output that is not the last
            layer's spikes, accepts no difference in it, unless it asks for accuracy or loss, and these are kept.
        stop_early: whether to end as soon as no further sample could make the comparison pass, and leave out what would
            follow: at a difference that no tolerance is given for, or a single value beyond its tolerance. What passes
            has run all samples.
        seed: for the draw.
        delay_shift: as for :func:`simulate`.
        spike_exp: of sigma-delta networks, as for :func:`simulate`; the report records it.
        timeout: seconds that Lava may take for all its samples, under ``torchrun`` for those of a rank; None for a
            limit in proportion to the work.
        progress: whether to show a progress bar.
        lava_python: which Python runs Lava, as for :func:`simulate`.
        lava_workers: how many processes of Lava share the samples, as for :func:`simulate`; of each rank.

    Raises:
        ExportError: if ``net`` cannot run on the spikes, has other layers than the file, or does something before its
            first block or behind its last that the first samples do not show.
        NetxFormatError: if the file cannot be read.
        SimulationError: if spikes or recording do not fit the file, the file changes meanwhile, or Lava is missing,
            fails or runs out of time; on all ranks, if one of them fails.
        ValueError: if there is nothing to compare, the labels do not fit the spikes or name a class that no output can
            have, the loss fails, an option is out of range, or ranks were given different arguments.
        TypeError: if an argument is of the wrong type.

    Example:
        >>> from netx_export import verify
        >>> report = verify(net, "digits.net", spikes, labels)  # doctest: +SKIP
        >>> report.passed, report.exact  # doctest: +SKIP
        (True, True)
    """

    def prepare() -> _Subject:
        options = Options(
            *(lava_samples, stop_early, seed, timeout, progress, tolerance, delay_shift, spike_exp, lava_python),
            lava_workers,
        )
        return _Subject.of(net, path, spikes, recorded, options).with_task(labels, loss)

    subject = together(prepare)
    if rank_and_size()[1] > 1:
        refuse_differences(together(subject.fingerprint))
    comparisons = []
    for comparison in subject.comparisons():
        comparisons.append(comparison)
        if stop_early and not comparison.passed:
            break
    together(subject.check_file)
    description = subject.data.description
    return VerificationReport(
        network=str(description),
        comparisons=tuple(comparisons),
        metadata=description.metadata,
        budgets=recorded_budgets(description),
        energy_table=LOIHI_2 if description.graded else LOIHI_1,
        spike_exp=description.spike_exp if description.graded else None,
        run=run_texts(path),
        begins_inside=subject.data.begins_inside,
        ends_inside=subject.ends_inside,
    )


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is verified, and how.

    Attributes:
        data: the network, the file's network, and the input.
        path: the file, or its description.
        content: the hash of what it held when it was read.
        recorded: the recorded run, or None.
        options: those of the caller.
        steps: of what goes into the file.
        ends_inside: as in the report.
        labels: class indices ``(N,)``, or other labels, or None.
        loss: the task loss, or None.
    """

    data: Data
    path: str | os.PathLike[str] | NetworkDescription
    content: str
    recorded: Run | None
    options: Options
    steps: int
    ends_inside: bool
    labels: torch.Tensor | None = None
    loss: Loss | None = None

    @classmethod
    def of(
        cls,
        net: nn.Module | None,
        path: str | os.PathLike[str] | NetworkDescription,
        spikes: npt.ArrayLike | torch.Tensor,
        recorded: _Recorded,
        options: Options,
    ) -> _Subject:
        """Check the arguments, and say what is to be verified."""
        check_net(net)
        if net is None and recorded is None and options.lava_samples == 0:
            raise ValueError("Nothing to compare: give `net` or `recorded`, or let `lava_samples` be at least 1.")
        content = hash_source(path)
        description = as_it_runs(path, options.delay_shift, options.spike_exp)
        check_names(options.tolerance, description)
        data = Data(net, description, check_numbers(spikes))
        begins_inside, ends_inside, steps = _look_inside(data)
        data = dataclasses.replace(data, begins_inside=begins_inside)
        run = None if recorded is None else check_recording(recorded, description, len(data.inputs), steps)
        return cls(data, path, content, run, options, steps, ends_inside)

    def with_task(self, labels: npt.ArrayLike | torch.Tensor | None, loss: Loss | None) -> _Subject:
        """The same with labels and a task loss."""
        check_loss(loss, labels)
        checked = check_labels(labels, len(self.data.inputs), number_of_outputs(self.data.description))
        return dataclasses.replace(self, labels=checked, loss=loss)

    def fingerprint(self) -> dict[str, str]:
        """Everything that the result depends on, by the names of the arguments; of a loss only its name is known."""
        named = {f"`{name}`": repr(getattr(self.options, name)) for name in Options.CHANGING_THE_RESULT}
        loss = getattr(self.loss, "__qualname__", type(self.loss).__qualname__)
        arrays = fingerprint(self.data, self.recorded, self.labels)
        return {"`path`": self.content, **arrays, "`loss`": loss, **named}

    def check_file(self) -> None:
        """Refuse a file that changed meanwhile: it is read more than once, so neither version was verified."""
        if hash_source(self.path) != self.content:
            raise SimulationError(f"{self.path} changed while it was verified, so nothing is known of it. Try again.")

    def comparisons(self) -> Iterator[Comparison]:
        """All comparisons, one by one, each run when it is asked for."""
        everything = np.arange(len(self.data.inputs))
        # Labels judge what the network returns. If that is not the file's output, they say nothing about the latter.
        own_output = not self.ends_inside
        subject = self if own_output else dataclasses.replace(self, labels=None, loss=None)
        if self.data.net is not None:
            pair = ("SLAYER", subject._slayer), ("reference", subject._reference)
            yield subject._compare(*pair, everything, predicts=own_output)
        if self.recorded is not None:
            pair = ("reference", subject._reference), ("recording", subject._recording)
            yield subject._compare(*pair, everything, predicts=own_output)
        elif self.options.lava_samples != 0:
            yield subject._compare_with_lava(predicts=own_output)

    def _compare(
        self, expected: tuple[str, _Runner], got: tuple[str, _Runner], samples: _Samples, *, predicts: bool = True
    ) -> Comparison:
        """Compare two runs of these samples, of which each rank takes a share."""
        rank, size = rank_and_size()
        own = np.array_split(samples, size)[rank]
        with watched(f"{expected[0]} against {got[0]}", len(own), self._shows_progress) as watch:
            chunks = self._chunks([own])
            return self._compare_chunks(expected, got, chunks, lambda done: watch.advance(len(done)), predicts)

    def _compare_with_lava(self, *, predicts: bool) -> Comparison:
        """The same of the reference and Lava, on the number of samples that was asked for, or on what fits."""
        rank, size = rank_and_size()
        options, samples = self.options, len(self.data.inputs)
        automatic = isinstance(options.lava_samples, str)
        drawn = draw(samples, options.lava_samples, self.labels, options.seed)
        own = drawn[rank::size]
        limit = None if options.timeout is None else TimeLimit(options.timeout)
        simulator = LavaSimulator(self.path, self.data.description, limit, options.lava_python)
        workers = number_of_workers(options.lava_workers, self.data.description, len(own), self.steps)
        title = "reference against Lava"
        with watched(title, len(own), self._shows_progress) as watch:
            lava = LavaShare(simulator, own, workers, automatic, title, watch)
            pair = ("reference", self._reference), ("Lava", lambda chunk: lava.run(chunk.entering))
            chunks = self._chunks(lava.parts(), workers)
            comparison = self._compare_chunks(*pair, chunks, lambda done: None, predicts)
        if automatic and not comparison.stopped:
            reason = why_no_more(comparison.samples, samples, options.timeout)
            return dataclasses.replace(comparison, why_no_more=reason)
        return comparison

    def _compare_chunks(
        self,
        expected: tuple[str, _Runner],
        got: tuple[str, _Runner],
        chunks: Iterator[_Samples],
        advance: Callable[[_Samples], None],
        predicts: bool,
    ) -> Comparison:
        tally = Tally(self.data.description, (expected[0], got[0]), self.loss, predicts)
        done: list[_Samples] = []

        def run() -> bool:
            for indices in chunks:
                self._add(tally, expected, got, indices)
                done.append(indices)
                advance(indices)
                if self.options.stop_early and tally.has_failed(self.options.tolerance):
                    return True
            return False

        stopped = together(run)
        comparison, origin = tally.finish(self.options.tolerance, stopped)
        order = np.concatenate([indices for own in gather_from_ranks(done) for indices in own])
        cause = together(lambda: diagnose(self.data, comparison, origin, order))
        return dataclasses.replace(comparison, cause=cause)

    def _add(self, tally: Tally, expected: tuple[str, _Runner], got: tuple[str, _Runner], indices: _Samples) -> None:
        """Add up both runs of these samples."""
        description = self.data.description
        chunk = self._chunk(indices, runs_net=expected[0] == "SLAYER")
        frames = network_input(description, chunk.entering)[..., description.lead :].cpu().numpy()
        runs = _comparable(expected[1](chunk), got[1](chunk))
        labels = None if self.labels is None else self.labels[torch.from_numpy(indices)]
        tally.add(*runs, frames, indices, labels)

    def _chunks(self, parts: Iterable[_Samples], workers: int = 1) -> Iterator[_Samples]:
        """The samples in chunks that fit into memory in both runs, each enough for all workers."""
        size = _chunk_size(self.data.description, self.steps)
        size = workers * math.ceil(size / workers)
        for samples in parts:
            for start in range(0, len(samples), size):
                yield samples[start : start + size]

    @property
    def _shows_progress(self) -> bool:
        return self.options.progress and rank_and_size()[0] == 0

    def _chunk(self, samples: _Samples, runs_net: bool) -> _Chunk:
        """The samples with the file's input for them; if the network runs, that is what reached its first block."""
        if not runs_net:
            return _Chunk(samples, self.data.entering(samples))
        assert self.data.net is not None
        chosen, description = self.data.choose(samples), self.data.description
        names = _block_names(description)
        run = record(self.data.net, chosen, names, compiled=True)
        entering = line_up(chosen, run.inputs, description)
        self._check_places(begins_inside=entering is not chosen, ends_inside=run.ends_inside)
        # A last layer that is read by its voltage is no block of neurons in SLAYER: it is the output.
        for name in list(description.spiking)[len(names) :]:
            if run.output.shape[1:-1] == description.spiking[name].shape:
                run.layers[name] = run.output
        return _Chunk(samples, entering, run)

    def _check_places(self, *, begins_inside: bool, ends_inside: bool) -> None:
        """Raise if the network does something before its first block or behind its last that the first look hid."""
        before, behind = begins_inside > self.data.begins_inside, ends_inside > self.ends_inside
        if before or behind:
            place = "before its first block" if before else "behind its last block"
            raise ExportError(
                f"What the network's forward does {place} shows on all samples, and did not on the first "
                f"{_FIRST_SAMPLES}, by which the file is compared. Does the network's forward do something else on "
                f"some data than on others? Put some of that first."
            )

    def _slayer(self, chunk: _Chunk) -> Run:
        assert chunk.trained is not None
        return chunk.trained

    @cached_property
    def _simulator(self) -> Simulator:
        return Simulator(self.path, delay_shift=self.options.delay_shift, spike_exp=self.options.spike_exp)

    def _reference(self, chunk: _Chunk) -> Run:
        return self._simulator(chunk.entering)

    def _recording(self, chunk: _Chunk) -> Run:
        assert self.recorded is not None
        return self.recorded.choose(chunk.samples)


def _look_inside(data: Data) -> tuple[bool, bool, int]:
    """Whether the file begins inside of the network's forward, whether it ends there, and the steps of what goes in.

    Raises:
        SimulationError: if what was given does not fit the file, and is what reaches the network's first block.
        ExportError: if the network cannot run on what was given, or makes something of it that does not fit the file.
    """
    array, description = data.inputs, data.description
    if data.net is None or array.ndim < 2 or 0 in array.shape:
        check_spikes(array, description)
        return False, False, array.shape[-1]
    first = data.samples(0, _FIRST_SAMPLES)
    try:
        run = record(data.net, first, _block_names(description))
    except NetxExportError:
        check_spikes(array, description)  # what is wrong with them comes before what the network makes of them
        raise
    entering = line_up(first, run.inputs, description)
    reshaped = entering.shape[1:-1] == description.input_shape  # by the network's forward
    if entering is first or not (run.begins_inside or reshaped):
        check_spikes(array, description)
    else:
        _check_made(entering, description)
    return entering is not first, run.ends_inside, entering.shape[-1]


def _check_made(entering: torch.Tensor, description: NetworkDescription) -> None:
    try:
        check_spikes(entering, description)
    except SimulationError as error:
        raise ExportError(
            f"What the network's forward makes of the spikes for its first block is no input of the file. {error}"
        ) from None


def _comparable(expected: Run, got: Run) -> tuple[Run, Run]:
    """Both runs; without an output where the network's last block gives another one than the file.

    Raises:
        SimulationError: if a layer has not the same shape in both runs, or holds no numbers.
    """
    for name in set(expected.layers) & set(got.layers):
        shapes = expected.layers[name].shape, got.layers[name].shape
        if shapes[0] != shapes[1]:
            raise SimulationError(f"Layer {name} has shape {shapes[0]} in one run and {shapes[1]} in the other.")
    if expected.output is not None and got.output is not None and expected.output.shape != got.output.shape:
        shapes = expected.output.shape, got.output.shape
        reason = f"the network's last block gives an output of shape {shapes[0]} and the file one of {shapes[1]}"
        expected = dataclasses.replace(expected, output=None, no_output=reason)
    for name, values in expected.arrays.items():
        if not np.isfinite(values).all():
            raise SimulationError(
                f"The network gives NaN or infinity in {name}, which no chip has. Find out where they come from."
            )
    return expected, got


def _chunk_size(description: NetworkDescription, steps: int) -> int:
    """How many samples fit into memory: the input and all layers, in float32 as SLAYER has them."""
    shapes = [description.input_shape, *(layer.shape for layer in description.spiking.values())]
    values = steps * sum(int(np.prod(shape)) for shape in shapes)
    return int(np.clip(_CHUNK_BYTES // (values * np.dtype(np.float32).itemsize), 1, _CHUNK_SAMPLES))


def _block_names(description: NetworkDescription) -> list[str]:
    """The layers that are blocks of neurons in SLAYER."""
    names = list(description.spiking)
    return names[:-1] if description.reads_voltage else names
