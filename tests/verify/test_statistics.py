"""Each statistic against its formula, written out slowly; and the same for any chunks."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Flatten,
    Input,
    NetworkDescription,
    Recurrent,
    Resonator,
    ResonatorNeuron,
)
from netx_export.network.fan_out import fan_outs
from netx_export.run import Run
from netx_export.verification import sums
from netx_export.verification.excerpts import histogram, neuron_rates, rasters
from netx_export.verification.layer_sums import VAN_ROSSUM_STEPS
from netx_export.verification.result import Comparison, LayerComparison, Tolerance
from netx_export.verification.sums import Tally

NEURON = CubaNeuron(100, np.array([1024]), np.array([128]))
DESCRIPTION = NetworkDescription(
    (Dense(np.array([[2, 4, 0], [2, 0, 0]]), NEURON), Dense(np.array([[2, 2], [0, 2], [4, 0]]), NEURON))
)
NAMES = ("dense0", "dense1")


def random_runs(seed: int, samples: int = 6, steps: int = 9) -> tuple[Run, Run, Any]:
    draw = np.random.default_rng(seed)

    def run() -> Run:
        layers = {
            name: (draw.random((samples, size, steps)) < 0.3).astype(np.uint8)
            for name, size in zip(NAMES, (2, 3), strict=True)
        }
        return Run(layers["dense1"], layers)

    return run(), run(), (draw.random((samples, 3, steps)) < 0.3).astype(np.uint8)


def tallied(expected: Run, got: Run, inputs: Any, chunks: list[list[int]], **options: Any) -> Comparison:
    labels = options.pop("labels", None)
    tally = Tally(DESCRIPTION, ("one", "other"), options.pop("loss", None))
    for chunk in chunks:
        index = np.array(chunk)
        parts = [run.choose(index) for run in (expected, got)]
        tally.add(*parts, inputs[index], index, None if labels is None else labels[torch.from_numpy(index)])
    return tally.finish(options.pop("tolerance", None), False)[0]


def whole(expected: Run, got: Run, inputs: Any, **options: Any) -> Comparison:
    return tallied(expected, got, inputs, [list(range(len(inputs)))], **options)


def deviation(layer: LayerComparison, name: str) -> float | None:
    return next(one.required for one in layer.deviations if one.name == name)


def first_spikes(run: Any) -> Any:
    return [[next((t for t, s in enumerate(train) if s), None) for train in sample] for sample in run]


@pytest.mark.parametrize("seed", range(5))
def test_counts_rates_and_cosine(seed: int) -> None:
    expected, got, inputs = random_runs(seed)
    layer = whole(expected, got, inputs).layers[1]
    a, b = (run.layers["dense1"].astype(float) for run in (expected, got))
    assert (layer.expected.spikes, layer.got.spikes) == (a.sum(), b.sum())
    assert layer.expected.rate == pytest.approx(a.mean())
    assert layer.differing == (a != b).sum()
    assert layer.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert deviation(layer, "rate") == pytest.approx(abs(a.mean() - b.mean()))
    assert deviation(layer, "neuron_rate") == pytest.approx(np.abs(a.mean((0, 2)) - b.mean((0, 2))).max())
    assert deviation(layer, "differing") == pytest.approx((a != b).sum() / a.sum())
    assert {n: (x, y) for n, x, y in layer.neuron_rates} == {
        n: (pytest.approx(a[:, n].mean()), pytest.approx(b[:, n].mean())) for n in range(3)
    }


@pytest.mark.parametrize("seed", range(5))
def test_first_spikes_and_latencies(seed: int) -> None:
    expected, got, inputs = random_runs(seed)
    layer = whole(expected, got, inputs).layers[0]
    pairs = [
        (one, other)
        for ones, others in zip(*(first_spikes(run.layers["dense0"]) for run in (expected, got)), strict=True)
        for one, other in zip(ones, others, strict=True)
    ]
    both = [abs(one - other) for one, other in pairs if one is not None and other is not None]
    assert deviation(layer, "first_spike") == pytest.approx(sum(both) / len(both))
    assert layer.moved_first_spikes == sum(shift > 0 for shift in both)
    assert layer.lost_first_spikes == sum((one is None) != (other is None) for one, other in pairs)
    starts = [min(t for sample in [frames] for train in sample for t, s in enumerate(train) if s) for frames in inputs]
    begins = [min(t for train in sample for t, s in enumerate(train) if s) for sample in expected.layers["dense0"]]
    assert layer.expected.latency == pytest.approx(np.mean(np.subtract(begins, starts)))


def test_a_sample_without_input_has_no_latency() -> None:
    """Of a bias, that is, which spikes by itself."""
    spikes, inputs = np.zeros((2, 2, 9), np.uint8), np.zeros((2, 3, 9), np.uint8)
    spikes[0, 1, 6] = spikes[1, 0, 2] = inputs[0, 0, 1] = 1
    run = Run.of({"dense0": spikes}, "it is not known")
    assert whole(run, run, inputs).layers[0].got.latency == 5


def test_trains_that_spike_at_step_0_are_no_silent_ones() -> None:
    spikes = np.zeros((2, 1, 2, 9), np.uint8)
    spikes[0, 0, 0, 0] = spikes[1, 0, 0, 4] = spikes[0, 0, 1, 0] = 1
    runs = [Run.of({"dense0": one}, "it is not known") for one in spikes]
    layer = whole(*runs, np.ones((1, 3, 9), np.uint8)).layers[0]
    assert (layer.moved_first_spikes, layer.lost_first_spikes, deviation(layer, "first_spike")) == (1, 1, 4)
    assert layer.expected.latency == 0


def test_runs_of_which_one_is_silent() -> None:
    spikes = np.zeros((2, 1, 2, 9), np.uint8)
    spikes[1, 0, 1, 3:6] = 1
    runs = [Run.of({"dense0": one}, "it is not known") for one in spikes]
    layer = whole(*runs, np.ones((1, 3, 9), np.uint8)).layers[0]
    assert (deviation(layer, "differing"), deviation(layer, "first_spike"), layer.cosine) == (3, None, 0)
    assert (layer.expected.first_spike, layer.got.first_spike) == (None, 3)
    assert (layer.expected.silent, layer.got.silent) == (2, 1)


def test_the_cosine_of_as_many_spikes_elsewhere_is_not_1() -> None:
    spikes = np.zeros((2, 1, 2, 9), np.uint8)
    spikes[0, 0, 1, 3:6] = spikes[1, 0, 1, 4:7] = 1
    runs = [Run.of({"dense0": one}, "it is not known") for one in spikes]
    assert whole(*runs, np.ones((1, 3, 9), np.uint8)).layers[0].cosine == pytest.approx(2 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_van_rossum_distance_is_the_integral(seed: int) -> None:
    """Numerically, on a fine grid that goes on long after the last step."""
    expected, got, inputs = random_runs(seed, samples=2)
    layer = whole(expected, got, inputs).layers[0]
    fine = 200
    time = np.arange(0, 9 + 20 * VAN_ROSSUM_STEPS, 1 / fine)
    kernel = [np.where(time >= t, np.exp(-(np.maximum(time - t, 0)) / VAN_ROSSUM_STEPS), 0) for t in range(9)]
    traces = [np.einsum("nct,tk->nck", run.layers["dense0"].astype(float), kernel) for run in (expected, got)]
    integral = ((traces[0] - traces[1]) ** 2).sum() / fine / VAN_ROSSUM_STEPS
    assert deviation(layer, "van_rossum") == pytest.approx(math.sqrt(integral / 2), rel=5e-3)


@pytest.mark.parametrize("step", [0, 4, 8])
def test_one_spike_more_is_a_half_wherever_it_is(step: int) -> None:
    silent = np.zeros((1, 2, 9), np.uint8)
    spiking = silent.copy()
    spiking[0, 1, step] = 1
    runs = [Run.of({"dense0": one}, "it is not known") for one in (silent, spiking)]
    layer = whole(*runs, np.ones((1, 3, 9), np.uint8)).layers[0]
    assert deviation(layer, "van_rossum") == pytest.approx(math.sqrt(0.5), rel=1e-5)
    assert (layer.cosine, layer.status) == (0.0, "different")


def test_silent_layers_are_untested() -> None:
    layers = {name: np.zeros((2, size, 9), np.uint8) for name, size in zip(NAMES, (2, 3), strict=True)}
    silent = Run.of(layers, "it is not known")
    comparison = whole(silent, silent, np.ones((2, 3, 9), np.uint8))
    assert [layer.status for layer in comparison.layers] == ["untested", "untested"]
    assert [layer.cosine for layer in comparison.layers] == [1.0, 1.0]
    assert comparison.exact
    assert not comparison.passed


def test_silent_and_saturated_neurons() -> None:
    spikes = np.zeros((2, 3, 9), np.uint8)
    spikes[:, 0] = 1
    spikes[0, 1, 3] = 1
    run = Run.of({"dense1": spikes}, "it is not known")
    activity = whole(run, run, np.ones((2, 3, 9), np.uint8)).layers[0].got
    assert (activity.silent, activity.saturated) == (1, 1)


def test_operations_count_the_synapses_that_are_there() -> None:
    inputs = np.zeros((2, 3, 9), np.uint8)
    inputs[0, 0, 0] = inputs[0, 1, 0] = inputs[1, 2, 0] = 1  # fan-out 2, 1 and 0
    hidden = np.zeros((2, 2, 9), np.uint8)
    hidden[0, 0, 1] = hidden[1, 1, 1] = 1  # fan-out 2 and 2
    run = Run.of({"dense0": hidden, "dense1": np.zeros((2, 3, 9), np.uint8)}, "it is not known")
    comparison = whole(run, run, inputs)
    assert [layer.got.synops for layer in comparison.layers] == [3 / 2, 4 / 2]
    assert comparison.got_synops == 3.5


def test_predictions() -> None:
    """A silent output predicts no class, which is not class 0; the first of equals wins."""
    outputs = [np.zeros((3, 3, 9), np.uint8) for _ in range(2)]
    outputs[0][0, 0, 0] = 1
    outputs[0][1, 2, :2] = 1
    outputs[1][1, 1:, 0] = 1
    expected, got = (Run(one, {"dense1": one}) for one in outputs)
    output = whole(expected, got, np.ones((3, 3, 9), np.uint8), labels=torch.tensor([0, 1, 0])).output
    assert output is not None
    assert output.confusion == ((0, -1, -1, 1), (0, 0, -1, 1), (1, 2, 1, 1))
    assert (output.expected_accuracy, output.got_accuracy) == (1 / 3, 1 / 3)
    assert output.changed_predictions == 2
    assert output.differing == int((outputs[0] != outputs[1]).sum())


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(1, 5), max_size=3), st.integers(0, 3))
def test_chunks_change_nothing(order: list[int], cuts: list[int], seed: int) -> None:
    expected, got, inputs = random_runs(seed)
    labels = torch.tensor([0, 1, 2, 0, 1, 2])

    def loss(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(output.sum(-1), label)

    bounds = [0, *sorted(set(cuts)), 6]
    chunks = [order[start:end] for start, end in itertools.pairwise(bounds)]
    options = {"labels": labels, "loss": loss}
    at_once = whole(expected, got, inputs, **options)
    in_chunks = tallied(expected, got, inputs, chunks, **options)
    assert dataclasses.asdict(in_chunks) == dataclasses.asdict(at_once)


def test_tolerance_decides_and_says_what_would_have_been_required() -> None:
    expected, got, inputs = random_runs(0)
    required = deviation(whole(expected, got, inputs).layers[0], "van_rossum")
    assert required is not None
    for limit, status in ((required, "within tolerance"), (required * 0.999, "different")):
        layers = whole(expected, got, inputs, tolerance={"dense0": Tolerance(van_rossum=limit)}).layers
        assert [layer.status for layer in layers] == [status, "different"]
    everywhere = whole(expected, got, inputs, tolerance=Tolerance(van_rossum=100.0, changed_predictions=1.0))
    assert everywhere.passed
    assert not everywhere.exact
    assert not whole(expected, got, inputs, tolerance=Tolerance(van_rossum=100.0, changed_predictions=0.0)).passed


@pytest.mark.parametrize(("changed", "status"), [(1.0, "within tolerance"), (0.0, "different")])
def test_a_tolerance_of_the_predictions_alone_covers_the_layers(changed: float, status: str) -> None:
    expected, got, inputs = random_runs(0)
    comparison = whole(expected, got, inputs, tolerance=Tolerance(changed_predictions=changed))
    assert comparison.output is not None
    assert comparison.output.changed_predictions
    assert [one.status for one in (*comparison.layers, comparison.output)] == [status] * 3


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_asked_of_an_output_that_was_not_compared_is_not_kept(asked: bool) -> None:
    expected, got, inputs = random_runs(0)
    runs = [Run.of(run.layers, "it is not known") for run in (expected, got)]
    tolerance = {"dense0": Tolerance(value=1), **({"output": Tolerance(value=1)} if asked else {})}
    layer = whole(*runs, inputs, tolerance=tolerance).layers[0]
    assert layer.status == ("different" if asked else "within tolerance")


@pytest.mark.parametrize(
    ("tolerance", "failed"),
    [
        (None, True),
        (Tolerance(value=1.0), False),  # a spike more or less is a difference of 1
        (Tolerance(value=0.99), True),
        (Tolerance(rate=0.0), False),  # which further samples could bring back
        ({"dense0": Tolerance(value=1.0)}, True),
        ({"dense0": Tolerance(value=1.0), "dense1": Tolerance(value=1.0)}, False),
    ],
)
def test_only_what_no_further_sample_can_mend_has_failed(tolerance: Any, failed: bool) -> None:
    expected, got, inputs = random_runs(0)
    tally = Tally(DESCRIPTION, ("one", "other"), None)
    assert not tally.has_failed(tolerance)
    tally.add(expected, expected, inputs, np.arange(6), None)
    assert not tally.has_failed(tolerance)
    tally.add(expected, got, inputs, np.arange(6), None)
    assert tally.has_failed(tolerance) is failed


@pytest.mark.parametrize("asked", [0.5, 0.49])
def test_an_output_of_its_own_has_failed_beyond_its_own_limit(asked: float) -> None:
    expected, _, inputs = random_runs(0)
    runs = [Run(expected.output / 2 + offset, expected.layers) for offset in (0, 0.5)]
    tally = Tally(DESCRIPTION, ("one", "other"), None)
    tally.add(*runs, inputs, np.arange(6), None)
    assert tally.has_failed({"output": Tolerance(value=asked)}) is (asked < 0.5)
    assert tally.has_failed(None)


def test_a_rank_without_samples_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, got, inputs = random_runs(0)
    alone = whole(expected, got, inputs)
    monkeypatch.setattr(sums, "gather_from_ranks", lambda own: [own, own if isinstance(own, bool) else type(own)()])
    assert dataclasses.asdict(whole(expected, got, inputs)) == dataclasses.asdict(alone)


def outputs_that_differ_in(sample: int) -> tuple[Run, Run, Any]:
    expected, _, inputs = random_runs(0)
    other = expected.output.copy()
    other[sample, 0, 3] ^= 1
    return expected, Run(other, expected.layers), inputs


def test_an_output_that_differs_alone_is_not_exact() -> None:
    """As of a network whose host reads out something else of equal spikes."""
    comparison = whole(*outputs_that_differ_in(2))
    assert [layer.status for layer in comparison.layers] == ["exact", "exact"]
    assert comparison.output is not None
    assert (comparison.output.differing, comparison.output.status) == (1, "different")
    assert not comparison.exact
    assert not comparison.passed


def test_a_layer_that_differs_alone_is_not_exact() -> None:
    expected, _, inputs = random_runs(0)
    other = expected.layers["dense0"].copy()
    other[2, 0, 3] ^= 1
    comparison = whole(expected, Run(expected.output, {**expected.layers, "dense0": other}), inputs)
    assert comparison.output is not None
    assert comparison.output.status == "exact"
    assert not comparison.exact


@pytest.mark.parametrize(("limit", "status"), [(0.25, "within tolerance"), (0.249, "different")])
def test_only_a_loss_of_accuracy_needs_a_tolerance(limit: float, status: str) -> None:
    outputs = [np.zeros((4, 3, 9), np.uint8) for _ in range(2)]
    for output in outputs:
        output[:, 0, :2] = 1  # predicts class 0 of every sample
    outputs[1][2, 1] = 1  # but class 1 of one
    runs = [Run.of({"dense1": one, "output": one}, "") for one in outputs]
    labels, inputs = torch.zeros(4, dtype=torch.int64), np.ones((4, 3, 9), np.uint8)
    tolerance = {"output": Tolerance(accuracy=limit), "dense1": Tolerance(value=1)}
    for expected, got, lost in ((*runs, 0.25), (*runs[::-1], 0.0)):
        output = whole(expected, got, inputs, labels=labels, tolerance=tolerance).output
        assert output is not None
        (accuracy,) = (one for one in output.deviations if one.name == "accuracy")
        assert accuracy.required == lost
        assert output.status == (status if lost else "within tolerance")


def test_a_tolerance_of_what_is_not_defined_is_not_kept() -> None:
    """Without labels there is no accuracy."""
    tolerance = {"output": Tolerance(accuracy=1.0)}
    output = whole(*outputs_that_differ_in(2), tolerance=tolerance).output
    assert output is not None
    (accuracy,) = (one for one in output.deviations if one.name == "accuracy")
    assert (accuracy.required, accuracy.passed, output.status) == (None, False, "different")


@pytest.mark.parametrize("chunks", [[[0, 1, 2, 3, 4, 5]], [[5, 3], [4, 0, 1], [2]]])
def test_of_equal_runs_the_first_sample_is_shown(chunks: list[list[int]]) -> None:
    expected, _, inputs = random_runs(0)
    rasters = [layer.raster for layer in tallied(expected, expected, inputs, chunks).layers]
    assert [raster.sample for raster in rasters] == [0, 0]
    assert set(rasters[1].expected) == {(n, t) for n, t in np.argwhere(expected.output[0])} != set()


@pytest.mark.parametrize("chunks", [[[0, 1, 2, 3, 4, 5]], [[5, 3], [4, 0, 1], [2]], [[2], [4, 0, 1], [5, 3]]])
def test_the_sample_of_the_earliest_difference_is_shown(chunks: list[list[int]]) -> None:
    """Earliest in time, in the first layer that differs."""
    expected, _, inputs = random_runs(0)
    layers = {name: layer.copy() for name, layer in expected.layers.items()}
    layers["dense1"][0, 0, 0] ^= 1  # earlier, but in the layer behind
    layers["dense0"][4, 1, 3] ^= 1
    layers["dense0"][3, 0, 5] ^= 1
    comparison = tallied(expected, Run(layers["dense1"], layers), inputs, chunks)
    assert [layer.raster.sample for layer in comparison.layers] == [4, 4]
    first = comparison.layers[0].first
    assert first is not None
    assert (first.sample, first.neuron, first.step) == (4, (1,), 3)


def many_neurons(size: int) -> tuple[Any, Any]:
    """A silent layer, in which every tenth neuron spikes, and another in which the last two differ from it."""
    spikes = np.zeros((1, size, 9), np.uint8)
    spikes[0, 9::10, 4] = 1
    other = spikes.copy()
    other[0, size - 2 :, 2] ^= 1
    return spikes, other


def test_a_raster_shows_neurons_that_differ_before_those_that_spike_and_those_before_silent_ones() -> None:
    expected, got = many_neurons(1500)
    (raster,) = rasters({"a": (expected, got)}, {"a": "spikes"}, 7, 0).values()
    spiking = [*range(9, 1500, 10)]
    assert raster.neurons == (*spiking[:98], 1498, 1499)
    assert raster.sample == 7
    few = rasters({"a": (expected[:, :150], expected[:, :150])}, {"a": "spikes"}, 7, 0)["a"]
    assert len(few.neurons) == 100
    assert set(range(9, 150, 10)) < set(few.neurons)
    assert few.expected == few.got == tuple((few.neurons.index(n), 4) for n in range(9, 150, 10))


def test_the_rates_of_neurons_that_differ_come_first_and_others_are_chosen_evenly() -> None:
    expected = np.linspace(0, 1, 1200, dtype=np.float32)
    got = expected.copy()
    got[[3, 900]] += np.array([0.25, 0.5], np.float32)
    chosen = [neuron for neuron, _, _ in neuron_rates(expected, got)]
    assert chosen[:2] == [900, 3]
    others = [n for n in range(1200) if n not in (3, 900)]
    assert chosen[2:] == others[::2][:398]
    assert len(neuron_rates(expected, 1 - expected)) == 400
    assert [n for n, _, _ in neuron_rates(expected[:800], expected[:800])] == [*range(0, 800, 2)]
    assert len(neuron_rates(expected[:799], expected[:799])) == 400  # below twice as many, the first of them


def test_a_histogram_ends_at_the_highest_rate_of_both_runs() -> None:
    rates = np.array([0.0, 0.1, 0.5], np.float32), np.array([0.0, 0.8, 0.8], np.float32)
    for expected, got in (rates, rates[::-1]):
        counted = histogram(expected, got)
        assert counted.top == pytest.approx(0.8)
        assert len(counted.expected) == 20
        assert sum(counted.expected) == sum(counted.got) == 3
    assert histogram(*rates).got[-1] == 2
    assert histogram(0 * rates[0], 0 * rates[0]).top == 1.0


def budgeted(lines: dict[str, str]) -> NetworkDescription:
    return NetworkDescription(DESCRIPTION.layers, {f"{name}_budget": limit for name, limit in lines.items()})


@pytest.mark.parametrize("recorded", [NAMES, ("dense1",)])
def test_a_line_of_the_budget_is_that_of_the_network_or_of_its_layer(recorded: tuple[str, ...]) -> None:
    """What a whole network uses is not known of one of which a recording holds a part."""
    inputs = np.zeros((2, 3, 9), np.uint8)
    inputs[0, 0, 0] = inputs[0, 1, 0] = 1  # fan-out 2 and 1
    hidden = np.zeros((2, 2, 9), np.uint8)
    hidden[0, 0, 1] = hidden[1, 1, 1] = 1  # fan-out 2 and 2
    layers = {"dense0": hidden, "dense1": np.zeros((2, 3, 9), np.uint8)}
    run = Run.of({name: layers[name] for name in recorded}, "it is not known")
    lines = {"rate": "0.5", "synops": "9", "dense0.synops": "8", "dense1.synops": "7", "dense0.events_per_step": "3"}
    tally = Tally(budgeted(lines), ("one", "other"), None)
    tally.add(run, run, inputs, np.arange(2), None)
    comparison, _ = tally.finish(None, False)
    used = {line.name: (line.limit, line.expected, line.got) for line in comparison.budget}
    if recorded == NAMES:
        assert used == {"synops": (9, 3.5, 3.5), "dense0.synops": (8, 1.5, 1.5), "dense1.synops": (7, 2.0, 2.0)}
        assert [layer.budget for layer in comparison.layers] == [3 / 2, None]
    else:
        assert used == {"synops": (9, None, None), "dense0.synops": (8, None, None), "dense1.synops": (7, 0.0, 0.0)}
        assert comparison.got_synops is None


@pytest.mark.parametrize("wrong", [{"rate": -0.1}, {"rate": float("nan")}, {"cosine": float("inf")}, {}])
def test_a_tolerance_that_is_none(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"[tT]olerance"):
        Tolerance(**wrong)


def test_fan_out_of_each_kind_of_layer() -> None:
    draw = np.random.default_rng(0)
    kernels = draw.integers(-1, 2, (4, 1, 3, 2)) * 2
    conv = Conv(kernels, NEURON, (2, 5, 6), stride=(2, 1), padding=(1, 1), dilation=(1, 2), groups=2)
    recurrent = Recurrent(draw.integers(-1, 2, (3, conv_size(conv))) * 2, draw.integers(-1, 2, (3, 3)) * 2, NEURON)
    turn = ResonatorNeuron(200, np.array([1500]), np.array([-3000]), "phase")
    resonator = Resonator(draw.integers(-1, 2, (2, 3)) * 2, draw.integers(-1, 2, (2, 3)) * 2, turn)
    flatten = Flatten((conv_size(conv),))
    counted = fan_outs(NetworkDescription((Input((2, 5, 6)), conv, flatten, recurrent, resonator)), "input")
    # One spike at each place, through ones in place of the weights.
    ones = torch.eye(60).reshape(60, 2, 5, 6)
    mask = torch.from_numpy(kernels != 0).float()
    reached = torch.nn.functional.conv2d(ones, mask, None, (2, 1), (1, 1), (1, 2), 2)
    assert counted["input", "conv1"].flatten().tolist() == reached.sum((1, 2, 3)).tolist()
    assert counted["conv1", "recurrent3"].flatten().tolist() == (recurrent.weight != 0).sum(0).tolist()
    assert counted["recurrent3", "recurrent3"].tolist() == (recurrent.recurrent_weight != 0).sum(0).tolist()
    both = (resonator.weight != 0).sum(0) + (resonator.imaginary_weight != 0).sum(0)
    assert counted["recurrent3", "resonator4"].tolist() == both.tolist()


def conv_size(conv: Conv) -> int:
    return int(np.prod(conv.shape))
