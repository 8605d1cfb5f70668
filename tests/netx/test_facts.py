"""What is known to break in lava-dl 0.6.0, one by one: the stock way fails as we say, and ours does not.

What the support table has a row for (delays, norms, pooling, adaptive neurons, ...) is tested there.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support_cases import CUBA, EXACT, Chain, network

from netx_export import ExportError, SimulationError, check, export, read, simulate

pytestmark = pytest.mark.slayer


def _case(name: str) -> Any:
    return next(case for case in EXACT if case.name == name)


def _dense(**neuron: Any) -> Chain:
    from lava.lib.dl.slayer import block

    torch.manual_seed(0)
    return Chain([block.cuba.Dense({**CUBA, **neuron}, 6, 4, weight_scale=5)])


def _stock_export(net: Chain, path: Path) -> None:
    """``export_hdf5`` as in lava-dl's tutorials."""
    with h5py.File(path, "w") as file:
        layers = file.create_group("layer")
        for index, block in enumerate(net.blocks):
            block.export_hdf5(layers.create_group(f"{index}"))


def test_weight_norm_survives(tmp_path: Path) -> None:
    net, sample = network(_case("cuba.Dense weight_norm"))
    export(net, tmp_path / "a.net", sample)
    assert net.blocks[0].synapse.weight_norm_enabled
    assert hasattr(net.blocks[0].synapse, "weight_g")
    _stock_export(net, tmp_path / "b.net")
    assert not hasattr(net.blocks[0].synapse, "weight_g")


def test_before_the_first_forward(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no native HDF5 equivalent"):
        _stock_export(_dense(), tmp_path / "b.net")
    assert export(_dense(), tmp_path / "a.net", torch.ones(1, 6, 9)).proved


def test_a_recurrent_state_of_the_last_batch_is_no_part_of_the_network(tmp_path: Path) -> None:
    net, sample = network(_case("cuba.Recurrent "))
    export(net, tmp_path / "a.net", sample)
    net(torch.ones_like(sample))
    export(net, tmp_path / "b.net", sample)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_a_dictionary_that_recurrent_wrote_into_does_not_matter(tmp_path: Path) -> None:
    from lava.lib.dl.slayer import block

    shared = copy.deepcopy(CUBA)
    torch.manual_seed(0)
    net = Chain([block.cuba.Recurrent(shared, 6, 4, weight_scale=5), block.cuba.Dense(shared, 4, 3, weight_scale=5)])
    assert "persistent_state" in shared
    sample = (torch.rand(3, 6, 30) < 0.5).float()
    with torch.no_grad():
        net(sample)
    assert export(net, tmp_path / "a.net", sample).proved


@pytest.mark.parametrize(("trained", "loaded"), [(5000.0, 4096), (1024.4, 1024), (-3.0, None)])
def test_decays_that_training_pushed_out_of_range(trained: float, loaded: int | None, tmp_path: Path) -> None:
    net = _dense(requires_grad=True)
    net.blocks[0].neuron.current_decay.data.fill_(trained)
    if loaded is None:  # clamped to 0, which the register cannot hold
        with pytest.raises(ExportError, match="current_decay 0 "):
            export(net, tmp_path / "a.net", torch.ones(1, 6, 9))
        return
    description = export(net, tmp_path / "a.net", torch.ones(1, 6, 9)).description
    assert description.spiking["dense1"].neuron.current_decay[0] == loaded  # type: ignore[union-attr]


def test_thresholds_beyond_17_bits(tmp_path: Path) -> None:
    net = _dense(threshold=3000.0)
    net(torch.ones(1, 6, 9))
    _stock_export(net, tmp_path / "b.net")
    assert "threshold" in [finding.rule for finding in check(tmp_path / "b.net")]
    with pytest.raises(ExportError, match="mantissa 192000"):
        export(net, tmp_path / "a.net", torch.ones(1, 6, 9))


def test_files_of_the_stock_export_are_read_as_ours(tmp_path: Path) -> None:
    net, sample = network(_case("cuba.Conv stride, padding, dilation, groups, not square"))
    ours = export(net, tmp_path / "a.net", sample).description
    _stock_export(net, tmp_path / "b.net")
    with h5py.File(tmp_path / "b.net", "r+") as file:  # the stock export does not say what goes in
        for index in (2, 1, 0):
            file.move(f"layer/{index}", f"layer/{index + 1}")
        file["layer/0/type"], file["layer/0/shape"] = "input", np.array([2, 7, 8])
    assert read(tmp_path / "b.net").layers[1:] == ours.layers[1:]


def test_a_threshold_reached_exactly_does_not_fire(tmp_path: Path) -> None:
    net = _dense(threshold=1.0, current_decay=1.0, voltage_decay=0.5)
    net.blocks[0].synapse.weight.data.fill_(1.0)
    net.blocks[0].synapse.weight.data[0] = -0.5  # keeps the layer's signs mixed
    sample = torch.zeros(1, 6, 4)
    sample[0, 0, 1] = 1
    export(net, tmp_path / "a.net", sample)
    assert simulate(tmp_path / "a.net", sample).output.sum() == 0


@pytest.mark.lava
def test_a_file_that_lava_ran_can_be_exported_again(tmp_path: Path) -> None:
    net, sample = network(_case("cuba.Dense "))
    path = tmp_path / "a.net"
    for _ in range(2):
        export(net, path, sample)
        simulate(path, sample[:1], backend="lava")
    assert read(path).layers


@pytest.mark.lava
def test_what_the_stock_loader_alters_is_simulated_as_altered(tmp_path: Path) -> None:
    """A file from elsewhere runs on the reference as it runs on Lava, even where both differ from its training."""
    net = _dense()
    net.blocks[0].synapse.weight.data.fill_(-1.0)
    net.blocks[0].synapse.weight.data[0, 0] = -3.99
    net(torch.ones(1, 6, 9))
    _stock_export(net, tmp_path / "b.net")
    spikes = (np.random.default_rng(0).random((2, 6, 30)) < 0.5).astype(np.uint8)
    assert "weights altered" in [finding.rule for finding in check(tmp_path / "b.net")]
    on_lava = simulate(tmp_path / "b.net", spikes, backend="lava")
    np.testing.assert_array_equal(simulate(tmp_path / "b.net", spikes).output, on_lava.output)


def test_input_neurons_take_numbers_and_no_nan(tmp_path: Path) -> None:
    net, _ = network(_case("cuba.Input with a neuron"))
    sample = torch.rand(2, 12, 24) * 3 - 1
    export(net, tmp_path / "a.net", sample)
    with torch.no_grad():
        np.testing.assert_array_equal(simulate(tmp_path / "a.net", sample).output, net(sample).numpy())
    sample[0, 0, 0] = float("nan")
    with pytest.raises(SimulationError, match="finite"):
        simulate(tmp_path / "a.net", sample)
