"""The whole of ``verify``: which samples, in which order, against what, and what it refuses."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lava_spikeloss import LoihiBudget, SpikeStatistics
from netx_export import ExportError, SimulationError, Simulator, Tolerance, export, read, simulate, verify
from netx_export import verify as verify_function
from netx_export.file.netx import write
from netx_export.file.npz import save_simulation
from netx_export.network.description import Affine, CubaNeuron, Dense, Input, NetworkDescription
from netx_export.simulation import lava_parent
from netx_export.verification.lava_samples import draw
from netx_export.verification.verify import VerificationReport

VERIFY = sys.modules[verify_function.__module__]


def statuses(report: VerificationReport) -> list[list[str]]:
    return [[layer.status for layer in comparison.layers] for comparison in report.comparisons]


@pytest.fixture
def spoiled(mlp: Any, tmp_path: Path) -> Path:
    def lower(file: Any) -> None:
        file["layer/2/neuron/vThMant"][...] = file["layer/2/neuron/vThMant"][()] - 5

    path: Path = mlp.spoiled(tmp_path / "spoiled.net", lower)
    return path


@pytest.mark.slayer
@pytest.mark.parametrize("kind", ["mlp", "delayed", "conv", "recurrent", "biased"])
def test_what_was_exported_is_exact(kind: str, exported: Callable[[str], Any]) -> None:
    subject = exported(kind)
    report = verify(subject.net, subject.path, subject.spikes, subject.labels, lava_samples=0)
    assert report.passed
    assert report.exact
    assert all(layer.expected_spikes > 50 for layer in report.layers)
    assert report.comparisons[0].cause is None


@pytest.mark.slayer
def test_chunks_of_any_size_give_the_same_report(mlp: Any, spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = verify(mlp.net, spoiled, mlp.spikes, mlp.labels, lava_samples=0)
    monkeypatch.setattr(VERIFY, "_CHUNK_SAMPLES", 3)
    in_chunks = verify(mlp.net, spoiled, mlp.spikes, mlp.labels, lava_samples=0)
    assert {**in_chunks.to_dict(), "run": {}} == {**at_once.to_dict(), "run": {}}


@pytest.mark.slayer
def test_chunks_are_sized_by_memory(mlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    simulated = Simulator.__call__
    monkeypatch.setattr(Simulator, "__call__", lambda own, x: sizes.append(len(x)) or simulated(own, x))
    monkeypatch.setattr(VERIFY, "_CHUNK_BYTES", 3 * (12 + 33) * 24 * 4)  # three samples of 12 inputs, 33 neurons
    verify(mlp.net, mlp.path, mlp.spikes, lava_samples=0)
    assert sizes == [3, 3, 3, 3, 3, 1]


@pytest.mark.slayer
def test_data_may_be_a_memory_map(mlp: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "spikes.npy", mlp.spikes.numpy().astype(np.uint8))
    mapped = np.load(tmp_path / "spikes.npy", mmap_mode="r")
    assert verify(mlp.net, mlp.path, mapped, lava_samples=0).passed


@pytest.mark.slayer
def test_stopping_early(mlp: Any, spoiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VERIFY, "_CHUNK_SAMPLES", 4)
    report = verify(mlp.net, spoiled, mlp.spikes, recorded=simulate(mlp.path, mlp.spikes).layers, stop_early=True)
    (comparison,) = report.comparisons  # the recording was not looked at
    assert comparison.stopped
    assert comparison.samples == 4
    assert not report.passed
    whole = verify(mlp.net, spoiled, mlp.spikes, recorded=simulate(mlp.path, mlp.spikes).layers)
    assert [comparison.samples for comparison in whole.comparisons] == [16, 16]
    assert not whole.comparisons[0].stopped


@pytest.mark.slayer
def test_the_network_is_left_as_it_was(mlp: Any) -> None:
    mlp.net.train()
    before = {name: value.clone() for name, value in mlp.net.state_dict().items()}
    verify(mlp.net, mlp.path, mlp.spikes, lava_samples=0)
    assert all(module.training for module in mlp.net.modules())
    assert all(torch.equal(value, before[name]) for name, value in mlp.net.state_dict().items())


@pytest.mark.slayer
def test_task_loss_and_accuracy(mlp: Any) -> None:
    def loss(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(output.sum(-1), labels)

    report = verify(mlp.net, mlp.path, mlp.spikes, mlp.labels, lava_samples=0, loss=loss)
    output = report.comparisons[0].output
    assert output is not None
    mlp.net.eval()
    with torch.no_grad():
        spikes = mlp.net(mlp.spikes)
    assert output.expected_loss == output.got_loss == pytest.approx(float(loss(spikes, mlp.labels)), rel=1e-6)
    assert output.got_accuracy == (spikes.sum(-1).argmax(1) == mlp.labels).float().mean().item()


@pytest.mark.slayer
def test_the_recorded_budget(mlp: Any) -> None:
    report = verify(mlp.net, mlp.path, mlp.spikes, lava_samples=0)
    assert report.budgets == {"rate": 0.5}
    assert [layer.budget for layer in report.layers] == [0.5, 0.5, None]


@pytest.mark.slayer
def test_rates_of_training_and_each_line_of_a_budget(mlp: Any, tmp_path: Path) -> None:
    budget = LoihiBudget(events_per_step={"0": 4.0}, synops=900.0, energy=1e-12)
    path = export(mlp.net, tmp_path / "a.net", sample=mlp.spikes[:4], budget=budget).path
    comparison = verify(mlp.net, path, mlp.spikes, lava_samples=0).comparisons[0]
    measured = SpikeStatistics().attach(mlp.net)
    with torch.no_grad():
        mlp.net(mlp.spikes[:4])
        trained = [layer.rate for layer in measured.compute().layers.values()]
        measured.reset()
        mlp.net(mlp.spikes)
    measured.detach()
    lines = {line.name: line for line in comparison.budget}
    expected = {line.name.replace("0.", "dense1."): line for line in budget.lines(measured.compute())}
    of_layer = expected.pop("dense1.events_per_step")
    assert comparison.layers[0].expected.rate == pytest.approx(of_layer.used / 16)
    assert list(lines) == list(expected) == ["synops", "energy"]
    for name, line in expected.items():
        assert (lines[name].limit, lines[name].expected) == pytest.approx((line.limit, line.used))
        assert lines[name].got == lines[name].expected
    assert [layer.trained_rate for layer in comparison.layers] == pytest.approx(trained)
    assert [layer.budget for layer in comparison.layers] == [4.0 / 16, None, None]


@pytest.mark.slayer
def test_texts_that_only_look_like_records(mlp: Any, tmp_path: Path) -> None:
    def spoil(file: Any) -> None:
        texts = {"rate_budget": "nan", "synops_budget": "much", "my_budget": "3", "energy_budget": "inf"}
        file["lava_spikeloss"].attrs.update({**texts, "trained rates": '{"dense1": "fast", "dense2": 0.25}'})

    report = verify(mlp.net, mlp.spoiled(tmp_path / "a.net", spoil), mlp.spikes, lava_samples=0)
    assert report.passed
    assert report.budgets == {}
    assert [layer.trained_rate for layer in report.layers] == [None, None, None]
    report.to_json()


@pytest.mark.slayer
@pytest.mark.parametrize(
    "rates",
    ['{"dense1": 1' + "0" * 400 + "}", "[" * 100_000, "[1]", '{"dense1": [1]}', '{"dense1": -1e308}'],
    ids=["a huge number", "a deep list", "a list", "a list inside", "a negative number"],
)
def test_rates_that_only_a_forger_writes(rates: str, mlp: Any, tmp_path: Path) -> None:
    def spoil(file: Any) -> None:
        file["lava_spikeloss"].attrs["trained rates"] = rates[:60_000]

    report = verify(mlp.net, mlp.spoiled(tmp_path / "a.net", spoil), mlp.spikes, lava_samples=0)
    assert report.passed
    assert [layer.trained_rate for layer in report.layers] == [None, None, None]
    report.to_json()
    report.save_html(tmp_path / "a.html")


@pytest.mark.slayer
def test_a_tolerance_by_layer(mlp: Any, spoiled: Path) -> None:
    loose = {name: Tolerance(rate=0.5) for name in ("dense2", "dense3")}
    assert verify(mlp.net, spoiled, mlp.spikes, lava_samples=0, tolerance=loose).passed
    first_only = {"dense2": Tolerance(rate=0.5)}
    report = verify(mlp.net, spoiled, mlp.spikes, lava_samples=0, tolerance=first_only)
    assert statuses(report) == [["exact", "within tolerance", "different"]]
    with pytest.raises(ValueError, match=r"to be among dense1, dense2, dense3, output but got \['dense9'\]"):
        verify(mlp.net, spoiled, mlp.spikes, tolerance={"dense9": Tolerance(rate=0.5)})


@pytest.mark.slayer
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: {"dense7": run["dense1"]}, r"holds \['dense7'\], but the network's layers are dense1, dense2"),
        (lambda run: {}, "holds nothing"),
        (lambda run: {"dense1": run["dense1"][:, :, :-1]}, r"of dense1 of shape \(16, 16, 24\).*got \(16, 16, 23\)"),
        (lambda run: {"dense1": run["dense1"][:-1]}, r"got \(15, 16, 24\)"),
        (lambda run: {"dense1": run["dense1"] * 255}, "to be 0 and 1"),
        (lambda run: {"dense1": run["dense1"] * float("nan")}, "to be 0 and 1"),
        (lambda run: {**run, "output": run["dense3"].sum(-1)}, r"of output of shape \(16, 5, 24\).*got \(16, 5\)"),
        (lambda run: {**run, "output": run["dense3"].astype(str)}, "of output to be 0 and 1"),
    ],
)
def test_recordings_that_do_not_fit(mlp: Any, change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        verify(None, mlp.path, mlp.spikes, recorded=change(simulate(mlp.path, mlp.spikes).layers))


@pytest.mark.slayer
@pytest.mark.parametrize("dtype", ["?", ">f4", ">i2", "f2", "u8"])
def test_recordings_of_any_type(mlp: Any, dtype: str) -> None:
    recorded = {name: run.astype(dtype) for name, run in simulate(mlp.path, mlp.spikes).layers.items()}
    report = verify(None, mlp.path, mlp.spikes, recorded=recorded)
    assert report.exact
    assert report.comparisons[0].output is not None


def test_the_output_of_a_recording_is_not_taken_for_that_of_a_readout(tmp_path: Path) -> None:
    """It has the shape of the last layer, whose spikes are recorded, but is another."""
    neuron = CubaNeuron(60, np.array([1024]), np.array([128]))
    layers = Input((3,)), Dense(np.full((3, 3), 100), neuron), Affine(np.full((3, 3), 64), None)
    write(NetworkDescription(layers), tmp_path / "readout.net")
    spikes = np.ones((2, 3, 9))
    simulation = simulate(tmp_path / "readout.net", spikes)
    report = verify(None, tmp_path / "readout.net", spikes, recorded=simulation.layers)
    assert report.passed
    assert report.comparisons[0].output is None
    recorded = {"output": simulation.output, **simulation.layers}
    report = verify(None, tmp_path / "readout.net", spikes, recorded=recorded)
    assert report.passed
    assert report.comparisons[0].output is not None


def test_a_description_is_verified_as_its_file_is(plain: Any) -> None:
    report, of_file = (
        verify(None, network, plain.spikes, recorded=plain.changed(dense1=1 - plain.run["dense1"]))
        for network in (read(plain.path), plain.path)
    )
    assert not report.passed
    assert {**report.to_dict(), "run": {}} == {**of_file.to_dict(), "run": {}}


@pytest.mark.slayer
def test_a_damaged_recording(mlp: Any, tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    save_simulation(path, simulate(mlp.path, mlp.spikes))
    content = bytearray(path.read_bytes())
    content[120:160] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(SimulationError, match=r"damaged\.npz: the file is damaged"):
        verify(None, mlp.path, mlp.spikes, recorded=path)


@pytest.mark.slayer
def test_another_network_than_the_one_in_the_file(mlp: Any, exported: Callable[[str], Any]) -> None:
    with pytest.raises(ExportError, match="has 2 spiking blocks but the file has 3 spiking layers"):
        verify(exported("delayed").net, mlp.path, mlp.spikes)


@pytest.mark.slayer
@pytest.mark.parametrize("dtype", ["u1", "u2", "u8", ">i4", "i8"])
def test_labels_of_any_whole_type_and_any_order_in_memory_give_the_accuracy(mlp: Any, dtype: str) -> None:
    labels = mlp.labels.numpy()[::-1].astype(dtype)[::-1]
    recorded = simulate(mlp.path, mlp.spikes).layers
    output = verify(None, mlp.path, mlp.spikes, labels, recorded=recorded).comparisons[0].output
    assert output is not None
    expected = (recorded["dense3"].sum(-1).argmax(1) == mlp.labels.numpy()).mean()
    assert output.got_accuracy == expected > 0


@pytest.mark.slayer
@pytest.mark.parametrize("dtype", [str, complex, "M8[s]"])
def test_labels_that_are_no_numbers_are_refused(mlp: Any, dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected argument `labels` to be 16 class indices, .* but got"):
        verify(None, mlp.path, mlp.spikes, mlp.labels.numpy().astype(dtype))


def test_samples_are_drawn_in_proportion_to_their_labels() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    for number in (10, 20, 50):
        chosen = draw(100, number, labels, seed=0)
        share = number // 10
        assert np.bincount(labels[torch.from_numpy(chosen)]).tolist() == [6 * share, 3 * share, share]
        assert np.array_equal(chosen, draw(100, number, labels, seed=0))
    assert set(draw(100, 10, labels, seed=0)) != set(draw(100, 10, labels, seed=1))
    assert len(draw(3, 10, None, seed=0)) == 3
    fractions = torch.tensor([0.5, 0.25, 0.125], dtype=torch.bfloat16)
    assert len(draw(3, 2, fractions, seed=0)) == 2


@pytest.mark.lava
def test_a_wrong_reset_in_lava_is_named(mlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """netx's own default resets one step before the sample begins."""
    monkeypatch.setattr(lava_parent, "_RESET_OFFSET", 0)
    report = verify(mlp.net, mlp.path, mlp.spikes, mlp.labels, lava_samples=10)
    against_reference, against_lava = report.comparisons
    assert against_reference.passed
    cause = against_lava.cause
    assert cause is not None
    assert cause.layer == "dense1"
    assert cause.place is not None
    chosen = draw(16, 10, mlp.labels, 0)
    assert cause.place.sample in chosen
    assert cause.name == "reset step"
    assert "1 step(s) before the sample begins" in cause.detail


@pytest.mark.lava
def test_samples_of_lava_keep_their_index(mlp: Any) -> None:
    report = verify(mlp.net, mlp.path, mlp.spikes, mlp.labels, lava_samples=4, seed=3)
    assert report.passed
    assert report.layers[0].raster.sample == draw(16, 4, mlp.labels, 3).min()
    assert dataclasses.asdict(report.comparisons[1])["samples"] == 4
