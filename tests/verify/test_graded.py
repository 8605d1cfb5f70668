"""``verify`` of sigma-delta networks, which send numbers: equal as numbers, and no statistic that does not exist."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from netx_export import SimulationError, Simulator, Tolerance, export, read, simulate, verify
from netx_export.command import cli
from netx_export.file.netx import write
from netx_export.network.description import CubaNeuron, Dense, Encoder, Input, NetworkDescription, SigmaDeltaNeuron
from netx_export.run import Run
from netx_export.verification.layer_sums import VAN_ROSSUM_STEPS
from netx_export.verification.report import print_report, verdict_text
from netx_export.verification.sums import Tally

DESCRIPTION = NetworkDescription(
    (
        Dense(np.array([[2, 4, 0], [2, 0, 0]]), SigmaDeltaNeuron(5)),
        Dense(np.array([[2, 2], [0, 2], [4, 0]]), SigmaDeltaNeuron(0, sends=False)),
    )
)


def _one_weight(file: Any) -> None:
    weight = file["layer/1/weight"][()]
    weight[2, 3] += 2
    file["layer/1/weight"][...] = weight


@pytest.fixture
def spoiled(graded: Any, tmp_path: Path) -> Path:
    return graded.spoiled(tmp_path / "spoiled.net", _one_weight)


@pytest.mark.lava
def test_what_was_exported_is_exact_on_lava_too(graded: Any) -> None:
    report = verify(graded.net, graded.path, graded.spikes, graded.labels, lava_samples=3)
    assert report.exact
    assert report.passed
    assert [comparison.got for comparison in report.comparisons] == ["reference", "Lava"]
    assert verdict_text(report.to_dict()) == "every value of every layer is equal."


@pytest.mark.lava
def test_a_report_records_the_spike_exp_that_the_simulators_ran_with(graded: Any, tmp_path: Path) -> None:
    report = verify(graded.net, graded.path, graded.spikes, lava_samples=3, spike_exp=1)
    trained, on_lava = report.comparisons
    assert not trained.exact
    assert trained.cause is not None
    assert trained.cause.name == "coarser messages"
    assert on_lava.exact
    assert on_lava.passed
    assert report.to_dict()["spike_exp"] == 1
    report.save_html(tmp_path / "report.html")
    assert "spike_exp 1: messages are in units of 1/128" in (tmp_path / "report.html").read_text()


@pytest.mark.slayer
def test_a_description_runs_with_the_spike_exp_that_it_says(graded: Any) -> None:
    coarse = dataclasses.replace(read(graded.path), spike_exp=1)
    right = simulate(graded.path, graded.spikes, spike_exp=1)
    fine = simulate(graded.path, graded.spikes)
    assert not np.array_equal(right.output, fine.output)
    np.testing.assert_array_equal(simulate(coarse, graded.spikes).output, right.output)
    np.testing.assert_array_equal(Simulator(coarse)(graded.spikes).output, right.output)
    np.testing.assert_array_equal(simulate(coarse, graded.spikes, spike_exp=6).output, fine.output)
    report = verify(None, coarse, graded.spikes, recorded={"output": right.output})
    assert report.exact
    assert report.spike_exp == 1


@pytest.mark.slayer
def test_one_weight_that_is_one_step_off(graded: Any, spoiled: Path) -> None:
    report = verify(graded.net, spoiled, graded.spikes, lava_samples=0)
    (comparison,) = report.comparisons
    right, wrong = simulate(graded.path, graded.spikes), simulate(spoiled, graded.spikes)
    differing = {name: int((right.layers[name] != wrong.layers[name]).sum()) for name in right.layers}
    assert {layer.name: layer.differing for layer in comparison.layers} == differing
    assert all(differing.values())
    assert not report.passed
    assert comparison.cause is not None
    assert (comparison.cause.name, comparison.cause.layer) == ("file differs from the network", "dense1")
    assert "1 of 120 values of its weight differ: [2, 3] is " in comparison.cause.detail
    assert comparison.cause.place is not None
    assert comparison.cause.place.neuron == (2,)
    largest = {name: np.abs(right.layers[name] - wrong.layers[name]).max() for name in differing}
    required = {layer.name: _required(layer, "value") for layer in comparison.layers}
    assert required == largest
    tolerance = {name: Tolerance(value=value) for name, value in largest.items()}
    assert verify(graded.net, spoiled, graded.spikes, lava_samples=0, tolerance=tolerance).passed
    tolerance["dense2"] = Tolerance(value=largest["dense2"] * 0.99)
    assert not verify(graded.net, spoiled, graded.spikes, lava_samples=0, tolerance=tolerance).passed


def _required(layer: Any, name: str) -> float | None:
    return next(deviation.required for deviation in layer.deviations if deviation.name == name)


@pytest.mark.slayer
def test_a_recording_of_numbers(graded: Any, spoiled: Path) -> None:
    run = simulate(graded.path, graded.spikes)
    recorded = {**run.layers, "output": run.output}
    assert verify(None, graded.path, graded.spikes, recorded=recorded).exact
    assert not verify(None, spoiled, graded.spikes, recorded=recorded).passed
    with pytest.raises(SimulationError, match="of dense1 to be finite numbers"):
        verify(None, graded.path, graded.spikes, recorded={"dense1": run.layers["dense1"] * np.nan})


@pytest.mark.slayer
def test_what_does_not_exist_is_none(graded: Any) -> None:
    report = verify(graded.net, graded.path, graded.spikes, lava_samples=0)
    (comparison,) = report.comparisons
    messages, sums = comparison.layers
    values = simulate(graded.path, graded.spikes).layers["dense1"]
    assert (messages.gives, sums.gives) == ("messages", "sums")
    assert messages.got.rate == pytest.approx((values != 0).mean())
    assert messages.trained_rate == pytest.approx((values[:4] != 0).mean())
    activity = sums.got
    assert (activity.rate, activity.silent, activity.saturated, activity.first_spike, activity.latency) == (None,) * 5
    assert (sums.histogram, sums.neuron_rates, sums.trained_rate) == (None, (), None)
    assert [_required(sums, name) for name in ("rate", "neuron_rate", "first_spike")] == [None, None, None]
    assert (comparison.got_energy, messages.got.energy) == (None, None)
    assert comparison.output is not None
    assert comparison.output.changed_predictions is None
    fan_out = (np.asarray(_weights(graded)) != 0).sum(0)
    assert sums.got.synops == pytest.approx(((values != 0).sum((0, 2)) * fan_out).sum() / 16)
    used = {line.name: line.got for line in comparison.budget}
    assert used == {"synops": comparison.got_synops, "events_per_step": pytest.approx(10 * messages.got.rate)}


def _weights(graded: Any) -> Any:
    from netx_export import read

    return read(graded.path).layers[2].weight  # type: ignore[union-attr]


@pytest.mark.slayer
def test_with_class_labels_the_largest_sum_is_the_class(graded: Any, spoiled: Path) -> None:
    output = verify(graded.net, spoiled, graded.spikes, graded.labels, lava_samples=0).comparisons[0].output
    assert output is not None
    predicted = simulate(graded.path, graded.spikes).output.sum(-1).argmax(1)
    assert output.expected_accuracy == (predicted == graded.labels.numpy()).mean()
    assert output.changed_predictions is not None


@pytest.mark.slayer
def test_the_report_says_what_it_is_about(
    graded: Any, spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = verify(graded.net, spoiled, graded.spikes, lava_samples=0)
    report.save_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Messages side by side" in page
    assert "Numbers are sent by Loihi 2 only, of which no energies are published" in page
    assert page.count('class="scatter"') == 1  # of the layer that sends messages
    print_report(report.to_dict(), Console(width=200))
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"FAILED   dense1: [\d,]+ messages of 10 neurons", lines[1])
    assert "rate" in lines[1]
    assert re.match(r"FAILED   dense2: [\d,]+ sums of 5 neurons", lines[2])
    assert "rate" not in lines[2]
    assert "allowed" in lines[3]


@pytest.mark.slayer
def test_the_command(graded: Any, spoiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, recorded = tmp_path / "data.npz", tmp_path / "recorded.npz"
    np.savez(data, spikes=graded.spikes.numpy())

    def command(*arguments: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["netx-export", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    assert command("simulate", graded.path, "--data", data, "--out", recorded) == 0
    compare = ("--data", data, "--recorded", recorded, "--report", tmp_path / "report")
    assert command("verify", graded.path, *compare) == 0
    assert json.loads((tmp_path / "report" / "report.json").read_text())["spike_exp"] == 6
    coarse = tmp_path / "coarse.npz"
    assert command("simulate", graded.path, "--data", data, "--out", coarse, "--spike-exp", 1) == 0
    assert command("verify", graded.path, "--data", data, "--recorded", coarse) == 1
    assert command("verify", graded.path, "--data", data, "--recorded", coarse, "--spike-exp", 1) == 0
    assert command("verify", graded.path, *compare, "--spike-exp", 7) == 2
    late = tmp_path / "late.npz"
    assert command("simulate", graded.path, "--data", data, "--out", late, "--delay-shift") == 0
    assert command("verify", graded.path, "--data", data, "--recorded", late) == 1
    assert command("verify", graded.path, "--data", data, "--recorded", late, "--delay-shift") == 0
    assert command("verify", graded.path, *compare, "--no-delay-shift") == 0
    assert command("verify", spoiled, *compare) == 1
    assert json.loads((tmp_path / "report" / "report.json").read_text())["passed"] is False


def test_statistics_of_numbers_by_their_definition() -> None:
    draw = np.random.default_rng(0)
    runs = [draw.integers(-3, 4, (4, 2, 9)) / 2**5 * (draw.random((4, 2, 9)) < 0.6) for _ in range(2)]
    samples = np.arange(4)
    tallies = []
    for chunks in ([samples], [samples[2:], samples[:2]]):
        tally = Tally(DESCRIPTION, ("one", "other"), None)
        for chunk in chunks:
            parts = [Run.of({"dense0": run[chunk]}, "it is not known") for run in runs]
            tally.add(*parts, np.ones((len(chunk), 3, 9)), chunk, None)
        tallies.append(tally.finish(None, False)[0].layers[0])
    layer = tallies[0]
    assert tallies[1].deviations == layer.deviations
    one, other = (run.reshape(-1) for run in runs)
    assert layer.cosine == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-5)
    kernel = np.exp(-np.arange(400) / VAN_ROSSUM_STEPS)
    traces = [np.convolve(train, kernel) for train in (runs[0] - runs[1]).reshape(8, 9)]
    spread = (1 - np.exp(-2 / VAN_ROSSUM_STEPS)) / 2
    assert _required(layer, "van_rossum") == pytest.approx(np.sqrt(spread * np.sum(np.square(traces)) / 4), abs=1e-4)
    assert _required(layer, "value") == np.abs(one - other).max()
    shown = [run[layer.raster.sample] for run in runs]
    both = np.argwhere((shown[0] != 0) & (shown[1] != 0) & (shown[0] != shown[1])).tolist()
    assert [list(place) for place in layer.raster.unequal] == both != []


@pytest.mark.slayer
@pytest.mark.parametrize(("convolution", "words"), [(False, "in float32, which rounds it"), (True, "Lava wraps it")])
def test_numbers_beyond_their_limit_are_the_cause(convolution: bool, words: str, tmp_path: Path) -> None:
    """The sample of the export is so small that all stay within."""
    from lava.lib.dl.slayer.block import sigma_delta

    torch.manual_seed(0)
    neuron = {"threshold": 0.1, "activation": torch.relu}
    if convolution:
        shape, layers = (2, 6, 6), [sigma_delta.Conv(dict(neuron), 2, 3, 3, weight_scale=40)]
    else:
        shape, layers = (
            (20,),
            [sigma_delta.Dense(dict(neuron), *size, weight_scale=24) for size in ((20, 128), (128, 9))],
        )
    net = torch.nn.Sequential(sigma_delta.Input(dict(neuron)), *layers)
    values = torch.randn(4, *shape, 60).cumsum(-1) / 4
    silent = [f"{'conv' if convolution else 'dense'}{index}" for index in range(1, len(layers) + 1)]
    path = export(net, tmp_path / "a.net", values[..., :4] / 100, allow_silent=[*silent, "output"]).path
    cause = verify(net, path, values * (20 if convolution else 1), lava_samples=0).comparisons[0].cause
    assert cause is not None
    assert cause.name == "beyond its limit"
    assert words in cause.detail
    assert re.search(r"reaches \d[\d.e+]* in SLAYER's scale, beyond \d+ from step \d+ on", cause.detail)


def test_operations_of_an_encoded_input_are_those_of_its_spikes(tmp_path: Path) -> None:
    """Not of the numbers that go into the input neurons, nearly all of which are other than 0."""
    neuron = CubaNeuron(80, np.array([4096]), np.array([1000]))
    weight = np.full((5, 3), 20)
    weight[0] = -2
    path = tmp_path / "a.net"
    write(NetworkDescription((Input((3,), False, Encoder(neuron)), Dense(weight, neuron))), path)
    values = np.random.default_rng(0).random((6, 3, 40)) * 2
    run = simulate(path, values)
    report = verify(None, path, values, recorded=run.layers)
    encoded = np.asarray(_encoded(path, values))
    assert 0 < encoded.mean() < 0.9
    assert report.comparisons[0].got_synops == pytest.approx(encoded.sum() * 5 / 6)


def _encoded(path: Path, values: Any) -> Any:
    from netx_export import read
    from netx_export.simulation.inputs import network_input

    return network_input(read(path), values)


@pytest.mark.slayer
def test_a_difference_behind_input_neurons_is_diagnosed(tmp_path: Path) -> None:
    neuron = CubaNeuron(80, np.array([4096]), np.array([1000]))
    weight = np.full((5, 3), 40)
    weight[0] = -2
    for name, dense in (("right", Dense(weight, neuron, bias=np.full(5, 20))), ("wrong", Dense(weight, neuron))):
        write(NetworkDescription((Input((3,), False, Encoder(neuron)), dense)), tmp_path / f"{name}.net")
    values = np.random.default_rng(0).random((6, 3, 40)) * 2
    recorded = simulate(tmp_path / "wrong.net", values).layers
    cause = verify(None, tmp_path / "right.net", values, recorded=recorded).comparisons[0].cause
    assert cause is not None
    assert (cause.name, cause.layer) == ("bias", "dense1")
