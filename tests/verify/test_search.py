"""A random search for a pass that is none: of a network, its file, a recording, labels and options, some are spoiled.

What ``verify`` says is held against arrays that are compared here, with numpy alone. A quick part runs in every run of
the tests; ``SEARCH_EXAMPLES=5000 python -m pytest tests/verify/test_search.py`` searches for long, from a random start.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from lava_spikeloss.training import reset_net
from netx_export import NetxExportError, Tolerance, simulate, verify
from netx_export import verify as verify_function
from netx_export.verification.report import print_report
from netx_export.verification.verify import VerificationReport

pytestmark = pytest.mark.slayer

EXAMPLES = os.environ.get("SEARCH_EXAMPLES")
VERIFY = sys.modules[verify_function.__module__]
KINDS = ("mlp", "delayed", "conv", "recurrent", "biased", "readout", "graded")
LAYER_LIMITS, OUTPUT_LIMITS = ("differing", "value", "rate"), ("value", "changed_predictions", "accuracy")

RETURNS: dict[str, Callable[[torch.Tensor], Any]] = {
    "spikes": lambda spikes: spikes,
    "a tuple": lambda spikes: (spikes, spikes.sum(-1)),
    "another order": lambda spikes: spikes.flip(1),
    "some outputs": lambda spikes: spikes[:, 1:],
    "rates": lambda spikes: spikes.mean(-1),
    "doubled": lambda spikes: 2 * spikes,
    "a dictionary": lambda spikes: {"spikes": spikes},
    "nothing": lambda spikes: None,
}


@dataclass(frozen=True)
class Scenario:
    """What is verified, and what was spoiled of it. Places are fractions of whatever there is to choose from."""

    kind: str
    has_net: bool
    returns: str = "spikes"
    writes_into_input: bool = False
    net_weight: tuple[float, float] | None = None  # layer and place of a weight that is changed after the export
    file_edit: tuple[float, float, int] | None = None  # dataset, place, and what is added
    data_seed: int = 0
    rate: float = 0.3
    samples: int = 16
    chunk: int = 5
    held: tuple[bool, ...] = ()  # which of four layers and the output a recording holds; none without a recording
    recording_edit: tuple[str, float, float] | None = None  # what is done, to which array, where
    labels: str = "none"
    tolerance: tuple[tuple[str, float], ...] = ()
    tolerance_of: float | None = None  # which layer, or the output, the tolerance is for; None for all
    stop_early: bool = False


FIRST = 8  # samples
PLACES = st.floats(0, 0.999)
EDITS = st.sampled_from([1, -1, 2, -2, 16, -64])
LIMITS = st.tuples(st.sampled_from(sorted({*LAYER_LIMITS, *OUTPUT_LIMITS})), st.sampled_from([0.0, 0.01, 0.2, 1.0]))
SCENARIOS = st.builds(
    Scenario,
    kind=st.sampled_from(KINDS),
    has_net=st.sampled_from([True, True, True, False]),
    returns=st.sampled_from(["spikes", "spikes", "spikes", *RETURNS]),
    writes_into_input=st.sampled_from([False, False, False, True]),
    net_weight=st.none() | st.tuples(PLACES, PLACES),
    file_edit=st.none() | st.tuples(PLACES, PLACES, EDITS),
    data_seed=st.integers(0, 9),
    rate=st.sampled_from([0.3, 0.3, 0.1, 0.02, 0.0]),
    samples=st.integers(1, 16),
    chunk=st.integers(1, 16),
    held=st.just(()) | st.just((True,) * 5) | st.tuples(*[st.booleans()] * 5),
    recording_edit=st.none()
    | st.tuples(st.sampled_from(["flip", "later", "other samples", "other neurons", "zeros"]), PLACES, PLACES),
    labels=st.sampled_from(["none", *["classes", "floats", "permuted", "ignored"] * 2, "negative", "too large"]),
    tolerance=st.lists(LIMITS, max_size=2, unique_by=lambda limit: limit[0]).map(tuple),
    tolerance_of=st.none() | PLACES,
    stop_early=st.booleans(),
)


class Returning(nn.Module):
    """A network that returns something else than its blocks' last spikes, or writes into its input."""

    def __init__(self, blocks: nn.Module, scenario: Scenario) -> None:
        super().__init__()
        self.blocks = blocks
        self.scenario = scenario

    def forward(self, x: torch.Tensor) -> Any:
        if self.scenario.writes_into_input:
            x[:, :1] = 0
        return RETURNS[self.scenario.returns](self.blocks(x))


@dataclass(frozen=True, eq=False)
class Truth:
    """Two runs, and what may be said of them: each pair of arrays that can be compared, by name."""

    pairs: dict[str, tuple[Any, Any]]
    left_out: list[str]
    labels: Any  # class indices, -100 among them, or None
    predicts: bool  # whether the output stands for classes

    def predictions(self) -> list[Any]:
        sums = [run.reshape(len(run), -1, run.shape[-1]).sum(-1, dtype=float) for run in self.pairs["output"]]
        fired = [run.reshape(len(run), -1).any(1) for run in self.pairs["output"]]
        return [np.where(one, total.argmax(1), -1) for one, total in zip(fired, sums, strict=True)]

    def accuracies(self) -> list[float] | None:
        if self.labels is None or "output" not in self.pairs or not (self.labels != -100).any():
            return None
        kept = self.labels != -100
        return [float((one[kept] == self.labels[kept]).mean()) for one in self.predictions()]

    def statistic(self, name: str, of: str, sums: bool) -> float | None:
        one, other = (run.astype(float) for run in self.pairs[of])
        if name == "value":
            return float(np.abs(one - other).max())
        if name == "differing":
            return float((one != other).sum() / max(1, (one != 0).sum()))
        if name == "rate":
            return None if sums else abs(float((one != 0).mean() - (other != 0).mean()))
        if name == "accuracy":
            accuracies = self.accuracies()
            return None if accuracies is None else max(0.0, accuracies[0] - accuracies[1])
        if not self.predicts:
            return None
        before, after = self.predictions()
        return float((before != after).mean())

    def accepts(self, name: str, tolerance: Tolerance | None, names: tuple[str, ...], sums: bool) -> bool | None:
        """Whether a tolerance accepts a layer or the output; None if it asks nothing of it."""
        limits = {} if tolerance is None else {key: limit for key, limit in tolerance.limits.items() if key in names}
        found = [(self.statistic(key, name, sums), limit) for key, limit in limits.items()]
        return all(value is not None and value <= limit + 1e-12 for value, limit in found) if found else None

    def passes(self, tolerances: Any, gives: Mapping[str, str]) -> bool:
        """By the rules that the docstring of ``verify`` gives."""
        of = tolerances.get if isinstance(tolerances, Mapping) else lambda name: tolerances
        if not all(one.any() or other.any() for one, other in self.pairs.values()):
            return False
        task = self._task(tolerances, of("output"))
        accepted = {}
        for name, (one, other) in self.pairs.items():
            if name == "output":
                continue
            own = self.accepts(name, of(name), LAYER_LIMITS, gives[name] == "sums")
            asked = [verdict for verdict in (own, task) if verdict is not None]
            accepted[name] = np.array_equal(one, other) or (all(asked) and bool(asked))
        if "output" in self.pairs and not np.array_equal(*self.pairs["output"]):
            own = self.accepts("output", of("output"), OUTPUT_LIMITS, False)
            last = list(gives)[-1]
            same = last in accepted and all(
                run.size == layer.size and np.array_equal(run.ravel(), layer.ravel())
                for run, layer in zip(self.pairs["output"], self.pairs[last], strict=True)
            )
            accepted["output"] = own if own is not None else same and accepted[last]
        return all(accepted.values())

    def _task(self, tolerances: Any, tolerance: Tolerance | None) -> bool | None:
        names = OUTPUT_LIMITS[1:]
        if tolerance is None or not (isinstance(tolerances, Mapping) or set(tolerance.limits) & set(names)):
            return None
        if "output" not in self.pairs:
            return False
        return None if isinstance(tolerances, Mapping) else self.accepts("output", tolerance, names, False)


def chosen(options: list[Any], place: float) -> Any:
    return options[int(place * len(options))]


def data_of(subject: Any, scenario: Scenario) -> torch.Tensor:
    draw = torch.Generator().manual_seed(scenario.data_seed)
    spikes = subject.spikes
    shape = (scenario.samples, *spikes.shape[1:])
    if scenario.kind == "graded":
        return torch.randn(shape, generator=draw).cumsum(-1) * scenario.rate
    return (torch.rand(shape, generator=draw) < scenario.rate).float()


def edited_file(subject: Any, scenario: Scenario, directory: Path) -> Path:
    if scenario.file_edit is None:
        return Path(subject.path)
    which, place, amount = scenario.file_edit

    def edit(file: Any) -> None:
        numbers: list[str] = []
        file.visititems(
            lambda name, item: (
                numbers.append(name) if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf" else None
            )
        )
        dataset = file[chosen(numbers, which)]
        values = np.atleast_1d(dataset[()])
        values.flat[int(place * values.size)] += amount
        dataset[...] = values.reshape(dataset.shape)

    path: Path = subject.spoiled(directory / "spoiled.net", edit)
    return path


@contextmanager
def edited_net(subject: Any, scenario: Scenario) -> Iterator[nn.Module | None]:
    if not scenario.has_net:
        yield None
        return
    weights = [parameter.data for name, parameter in subject.net.named_parameters() if name.endswith("weight")]
    before = [weight.clone() for weight in weights]
    try:
        if scenario.net_weight is not None:
            weight = chosen(weights, scenario.net_weight[0]).view(-1)
            weight[int(scenario.net_weight[1] * len(weight))] += 0.5
        yield Returning(subject.net, scenario)
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.copy_(value)


def own_run(net: nn.Module, names: list[str], spikes: torch.Tensor) -> tuple[dict[str, Any], bool, bool]:
    """What a network does, recorded without anything that is tested here, and whether it returns its last spikes: of
    all samples, and of the first ones, by which a comparison begins.
    """
    blocks = [module for module in net.modules() if type(module).__name__ in ("Dense", "Conv", "Recurrent", "Output")]
    made: list[Any] = []
    handles = [
        block.register_forward_hook(lambda module, args, output: made.append(output.detach().clone().numpy()))
        for block in blocks
        if hasattr(block, "neuron")
    ]
    outputs: list[Any] = []
    blocks_of: Any = net.blocks
    handles.append(blocks_of.register_forward_hook(lambda module, args, output: outputs.append(output.clone().numpy())))
    reset_net(net)
    try:
        with torch.no_grad():
            returned = net.eval()(spikes.clone())
    finally:
        for handle in handles:
            handle.remove()
        reset_net(net)
    held = [_holds(returned, outputs[0], samples) for samples in (len(spikes), FIRST)]
    return {**dict(zip(names, made, strict=True)), "output": outputs[0]}, held[0], held[1]


def _holds(returned: Any, output: Any, samples: int) -> bool:
    """Whether the output is among what a network returned of its first samples."""
    parts = returned.values() if isinstance(returned, dict) else returned if isinstance(returned, tuple) else [returned]
    return any(
        isinstance(part, torch.Tensor) and np.array_equal(part[:samples].numpy(), output[:samples]) for part in parts
    )


def is_hidden(scenario: Scenario, net: nn.Module | None, names: list[str], spikes: torch.Tensor) -> bool:
    """Whether only samples behind the first ones show what a network does before its blocks, or behind them."""
    if net is None:
        return False
    _, of_all, of_first = own_run(net, names, spikes)
    changed = (entering(scenario, net, spikes) != spikes).flatten(1).any(1)
    return of_first != of_all or (bool(changed.any()) and not bool(changed[:FIRST].any()))


def recording_of(right: dict[str, Any], scenario: Scenario) -> dict[str, Any] | None:
    if not any(scenario.held):
        return None
    names = list(right)
    held = [
        name for name, kept in zip(names, (*scenario.held[: len(names) - 1], scenario.held[-1]), strict=True) if kept
    ]
    run = {name: right[name].copy() for name in held}
    if scenario.recording_edit is not None and run:
        how, which, place = scenario.recording_edit
        name = chosen(list(run), which)
        array = run[name]
        if how == "flip":
            array.flat[int(place * array.size)] = array.flat[int(place * array.size)] == 0
        elif how == "later":
            run[name] = np.roll(array, 1, -1)
        elif how == "other samples":
            run[name] = array[::-1].copy()
        elif how == "other neurons":
            run[name] = np.roll(array, 1, 1)
        else:
            run[name] = np.zeros_like(array)
    return run or None


def labels_of(scenario: Scenario, outputs: int) -> Any:
    labels = np.arange(scenario.samples) % outputs
    change: dict[str, Callable[[], Any]] = {
        "none": lambda: None,
        "classes": lambda: labels,
        "floats": lambda: labels.astype(float),
        "permuted": lambda: labels[::-1],
        "ignored": lambda: np.where(np.arange(scenario.samples) % 3 == 0, -100, labels),
        "negative": lambda: np.where(np.arange(scenario.samples) == scenario.samples - 1, -1, labels),
        "too large": lambda: np.where(np.arange(scenario.samples) == 0, outputs, labels),
    }
    return change[scenario.labels]()


def tolerance_of(scenario: Scenario, names: list[str]) -> Any:
    """The tolerance, or None; of a single layer or the output only what that has."""
    limits = dict(scenario.tolerance)
    if scenario.tolerance_of is None:
        return Tolerance(**limits) if limits else None
    name = chosen([*names, "output"], scenario.tolerance_of)
    known = OUTPUT_LIMITS if name == "output" else LAYER_LIMITS
    limits = {key: limit for key, limit in limits.items() if key in known}
    return {name: Tolerance(**limits)} if limits else None


def completed(scenario: Scenario, recorded: dict[str, Any], last: str) -> dict[str, Any]:
    """Without a readout the output is what the last layer gives, so that a recording of one is one of the other."""
    if scenario.kind == "readout":
        return recorded
    for one, other in ((last, "output"), ("output", last)):
        if one in recorded and other not in recorded:
            recorded = {**recorded, other: recorded[one]}
    return recorded


def truth_of(expected: dict[str, Any], got: dict[str, Any], labels: Any, predicts: bool) -> Truth:
    names = [name for name in expected if name in got and expected[name].shape == got[name].shape]
    left_out = [name for name in {**expected, **got} if name not in names]
    classes = None if labels is None else labels.astype(int)
    return Truth({name: (expected[name], got[name]) for name in names}, left_out, classes, predicts)


def check(report: VerificationReport, truths: list[Truth], tolerances: Any, gives: Mapping[str, str]) -> None:
    """Everything that a report says, against the truth."""
    assert report.passed == (
        len(report.comparisons) == len(truths) and all(t.passes(tolerances, gives) for t in truths)
    )
    data = json.loads(report.to_json())
    assert data["passed"] == report.passed
    text = io.StringIO()
    print_report(report.to_dict(), Console(file=text, width=500))
    lines = text.getvalue().splitlines()
    assert lines[-1].split()[0] == ("PASSED" if report.passed else "FAILED")
    for comparison, truth in zip(report.comparisons, truths, strict=False):
        assert comparison.passed == truth.passes(tolerances, gives)
        listed = [*comparison.unrecorded, *([] if comparison.no_output is None else ["output"])]
        assert listed == sorted(truth.left_out, key=[*gives, "output"].index)
        assert all(any(line.startswith(f"SKIPPED  {name}: ") for line in lines) for name in listed)
        if report.passed:
            assert not comparison.stopped
            assert ("every layer" in lines[-1]) <= (not any(one.left_out for one in truths))
        if comparison.stopped:
            assert not truth.passes(tolerances, gives)
            continue
        for layer in comparison.layers:
            one, other = truth.pairs[layer.name]
            assert layer.differing == int((one != other).sum())
            assert (layer.expected.spikes, layer.got.spikes) == ((one != 0).sum(), (other != 0).sum())
        check_output(comparison.output, truth, lines)


def check_output(output: Any, truth: Truth, lines: list[str]) -> None:
    if output is None:
        assert "output" not in truth.pairs
        return
    one, other = truth.pairs["output"]
    assert output.differing == int((one != other).sum())
    accuracies = truth.accuracies()
    said = [output.expected_accuracy, output.got_accuracy]
    assert said == ([None, None] if accuracies is None else [pytest.approx(value) for value in accuracies])
    if accuracies is not None:
        words = f"accuracy {accuracies[0]:.2%} and {accuracies[1]:.2%}"
        assert any(line[9:].startswith("output: ") and words in line for line in lines)


@settings(
    max_examples=int(EXAMPLES or 50),
    derandomize=EXAMPLES is None,
    print_blob=True,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
@example(scenario=Scenario("mlp", True, writes_into_input=True, data_seed=62, rate=0.02))  # what its first samples hide
@given(scenario=SCENARIOS)
def test_nothing_that_is_spoiled_passes(
    scenario: Scenario, exported: Any, graded: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    subject = graded if scenario.kind == "graded" else exported(scenario.kind)
    with pytest.MonkeyPatch.context() as patch, edited_net(subject, scenario) as net:
        patch.setattr(VERIFY, "_CHUNK_SAMPLES", scenario.chunk)
        examine(scenario, subject, net, tmp_path_factory.mktemp("search"))


def examine(scenario: Scenario, subject: Any, net: nn.Module | None, directory: Path) -> None:
    spikes = data_of(subject, scenario)
    right = simulate(subject.path, spikes)
    names = list(right.layers)
    gives = dict.fromkeys(names, "spikes")
    if scenario.kind == "graded":
        gives = {name: "sums" if name == names[-1] else "messages" for name in names}
    recorded = recording_of({**right.layers, "output": right.output}, scenario)
    path = edited_file(subject, scenario, directory)
    labels = labels_of(scenario, right.output.shape[1])
    tolerances = tolerance_of(scenario, names)
    options = {"recorded": recorded, "tolerance": tolerances, "stop_early": scenario.stop_early, "lava_samples": 0}
    before = spikes.clone()
    try:
        report = verify(net, path, spikes, labels, **options)
    except (NetxExportError, ValueError) as error:
        if not (is_to_be_refused(scenario, net, recorded, path, spikes) or is_hidden(scenario, net, names, spikes)):
            raise
        event(f"refused: {type(error).__name__}")
        return
    assert torch.equal(spikes, before)
    assert not is_to_be_refused(scenario, net, recorded, path, spikes)
    ran = simulate(path, entering(scenario, net, spikes))
    reference = {**ran.layers, "output": ran.output}
    classes = labels is not None or scenario.kind != "graded"
    truths = []
    own_output = True
    if net is not None:
        trained, _, own_output = own_run(net, names, spikes)
        truths.append(truth_of(trained, reference, labels if own_output else None, classes and own_output))
        if is_hidden(scenario, net, names, spikes):  # which is seen by whoever runs all samples
            assert report.comparisons[0].stopped
            return
        assert report.ends_inside == (not own_output)
    if recorded is not None:  # of an output that the network does not return, nothing is said that is about classes
        run = completed(scenario, recorded, names[-1])
        truths.append(truth_of(reference, run, labels if own_output else None, classes and own_output))
    event("passed" if report.passed else "failed")
    if scenario.stop_early and not report.comparisons[-1].passed:
        truths = truths[: len(report.comparisons)]
    check(report, truths, tolerances, gives)


def entering(scenario: Scenario, net: nn.Module | None, spikes: torch.Tensor) -> torch.Tensor:
    """What reaches the first block, which goes into the file."""
    reached = spikes.clone()
    if net is not None and scenario.writes_into_input:
        reached[:, :1] = 0
    return reached


def is_to_be_refused(
    scenario: Scenario, net: nn.Module | None, recorded: Any, path: Path, spikes: torch.Tensor
) -> bool:
    if (net is None and recorded is None) or scenario.labels in ("negative", "too large"):
        return True
    try:
        simulate(path, spikes)
    except NetxExportError:
        return True
    return False
