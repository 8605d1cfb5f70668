"""Files that end in lava-dl's Affine: its threshold is out of reach, and what counts is its membrane potential."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from shipped import shipped

from netx_export import DescriptionError, ExportError, check, read, simulate, verify
from netx_export.file.netx import write
from netx_export.network.description import Average, CubaNeuron, Dense, Input, NetworkDescription

CUBA = CubaNeuron(80, np.array([1024]), np.array([128]))
READOUTS = {
    "dynamics": {"dynamics": True},
    "without neurons": {"dynamics": False},
}


def _network(folder: Path, **options: Any) -> tuple[torch.nn.Module, Path, np.ndarray]:
    """A network of lava-dl with its file, as lava-dl writes it, and input."""
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(0)
    neuron = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1}
    net = torch.nn.Sequential(
        cuba.Dense(neuron, 12, 9, weight_scale=3), cuba.Affine(neuron, 9, 4, weight_scale=2, **options)
    )
    spikes = (np.random.default_rng(0).random((5, 12, 20)) < 0.3).astype(np.uint8)
    with torch.no_grad(), h5py.File(folder / "affine.net", "w") as file:
        net(torch.from_numpy(spikes).float())
        for index, block in enumerate(net):
            block.export_hdf5(file.create_group(f"layer/{index}"))
    return net, folder / "affine.net", spikes


@pytest.mark.slayer
def test_what_lava_dl_trained_is_what_is_read(tmp_path: Path) -> None:
    net, path, spikes = _network(tmp_path)
    with torch.no_grad():
        trained = net(torch.from_numpy(spikes).float()).numpy()
    run = simulate(path, spikes)
    np.testing.assert_array_equal(run.output, trained)
    np.testing.assert_array_equal(run.layers["dense1"], trained)
    assert trained.any()
    np.testing.assert_array_equal(simulate(path, spikes, delay_shift=False).output[..., :-1], run.output[..., 1:])
    np.testing.assert_array_equal(simulate(path, spikes, delay_shift=True).output, run.output)
    report = verify(net, path, spikes, lava_samples=0)
    assert report.exact
    assert report.passed
    assert report.layers[-1].gives == "sums"


@pytest.mark.slayer
def test_another_voltage_fails(tmp_path: Path) -> None:
    net, path, spikes = _network(tmp_path)
    with h5py.File(path, "r+") as file:
        weight = file["layer/1/weight"][()]
        weight[1, 5] += 2
        file["layer/1/weight"][...] = weight
    report = verify(net, path, spikes, lava_samples=0)
    assert not report.passed
    assert [layer.status for layer in report.layers] == ["exact", "different"]


@pytest.mark.lava
@pytest.mark.parametrize("kind", READOUTS)
def test_voltages_are_those_of_lava(kind: str, tmp_path: Path) -> None:
    _, path, spikes = _network(tmp_path, **READOUTS[kind])
    report = verify(None, path, spikes, lava_samples=5)
    assert report.exact
    assert report.passed
    assert simulate(path, spikes).output.any()


@pytest.mark.lava
@pytest.mark.parametrize("bias", [None, np.array([9, -9])])
@pytest.mark.parametrize("delay", [None, np.array([3, 0])])
def test_a_voltage_that_reaches_the_highest_threshold_is_reset_as_on_lava(
    bias: Any, delay: Any, tmp_path: Path
) -> None:
    integrator = CubaNeuron(131071, np.array([4096]), np.array([0]))
    layers = Dense(np.full((3, 2), 100), CUBA), Dense(np.array([[240] * 3, [-30] * 3]) * 1, integrator, delay, bias)
    network = NetworkDescription((Input((2,), False), *layers), reads_voltage=True)
    spikes = np.ones((2, 2, 300), np.uint8)
    reference, lava = simulate(network, spikes), simulate(network, spikes, backend="lava")
    np.testing.assert_array_equal(reference.output, lava.output)
    assert (np.diff(reference.output[:, 0]) < 0).any(), "it never fired"


@pytest.mark.lava
@pytest.mark.parametrize(
    ("name", "shape"),
    [("mnist.net", (784,)), pytest.param("gts/pilotnet_lif/network.net", (3, 66, 200), marks=pytest.mark.slow)],
)
def test_the_networks_that_lava_dl_ships_are_judged_by_their_voltages(name: str, shape: tuple[int, ...]) -> None:
    path = shipped("netx", name)
    report = verify(None, path, np.random.default_rng(0).random((2, *shape, 16)), lava_samples=2)
    assert report.exact
    assert report.passed
    assert report.layers[-1].gives == "sums"
    assert report.layers[-1].expected.spikes > 0


@pytest.mark.slayer
@pytest.mark.parametrize("name", ["mnist.net", "gts/pilotnet_lif/network.net"])
def test_check_asks_nobody_to_train_what_lava_dl_wrote(name: str) -> None:
    last = list(read(shipped("netx", name)).spiking)[-1]
    for finding in check(shipped("netx", name)):
        assert finding.level == "warning"
        assert finding.layer == last
        assert "rain" not in finding.hint
        assert "Use " not in finding.hint


def test_it_is_kept_when_such_a_network_is_written_again(tmp_path: Path) -> None:
    silent = CubaNeuron(131071, np.array([4096]), np.array([0]))
    layers = Input((3,), False), Dense(np.array([[2, 4, -6], [4, 2, 2]]), silent)
    network = NetworkDescription(layers, reads_voltage=True)
    write(network, tmp_path / "a.net")
    assert read(tmp_path / "a.net") == network
    assert "CUBA, read by voltage" in str(network).splitlines()[-1]
    assert simulate(tmp_path / "a.net", np.ones((1, 3, 4))).output.any()
    write(NetworkDescription(layers), tmp_path / "b.net")  # a network of ours that shall spike, and never does
    assert not simulate(tmp_path / "b.net", np.ones((1, 3, 4))).output.any()


def test_only_a_dense_layer_at_the_end_can_be_read_so() -> None:
    with pytest.raises(DescriptionError, match="layer 1: it is read by its voltage; expected a dense layer"):
        NetworkDescription((Dense(np.array([[2, 4], [4, 2]]), CUBA), Average((1,))), reads_voltage=True)


def test_a_layer_that_is_rewritten_leaves_the_readout_as_it_is(tmp_path: Path) -> None:
    altered, readout = Dense(np.full((9, 12), -64), CUBA), Dense(np.full((4, 9), 2), CUBA, delay_shift=False)
    write(NetworkDescription((altered, readout), reads_voltage=True), tmp_path / "a.net")
    description = read(tmp_path / "a.net")
    assert description.layers[1].kind == "conv"
    assert description.reads_voltage
    with pytest.raises(ExportError, match=r"Layer dense0: .* it is read by its voltage"):
        write(NetworkDescription((altered,), reads_voltage=True), tmp_path / "b.net")
