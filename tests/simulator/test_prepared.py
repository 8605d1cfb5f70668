"""A network that is prepared once and run many times, and the layers that a run keeps."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
import torch

from netx_export import NetworkDescription, Simulator, simulate
from netx_export.errors import NetxFormatError, SimulationError
from netx_export.network.description import Average, Conv, CubaNeuron
from netx_export.simulation.reference import synapses

pytestmark = pytest.mark.usefixtures("loops")


def _assert_equal(one, other):
    assert list(one.arrays) == list(other.arrays)
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


def test_each_call_gives_what_simulate_gives(mlp_file, mlp_spikes):
    """Each from rest, however many calls there were, of as many samples and steps as it is given."""
    simulator = Simulator(mlp_file)
    for spikes in (mlp_spikes, mlp_spikes[:1, :, :7], mlp_spikes.astype(bool), mlp_spikes):
        run = simulator(spikes)
        assert run.layers["dense1"].any()
        _assert_equal(run, simulate(mlp_file, spikes))


def test_a_description_and_options_are_taken_as_simulate_takes_them(mlp, mlp_spikes):
    simulator = Simulator(mlp, delay_shift=False)
    _assert_equal(simulator(mlp_spikes), simulate(mlp, mlp_spikes, delay_shift=False))
    assert simulator.description.shifts == {"dense1": 0, "dense2": 0}


def test_a_file_is_read_once(mlp_file, mlp_spikes):
    simulator = Simulator(mlp_file)
    expected = simulate(mlp_file, mlp_spikes)
    mlp_file.unlink()
    _assert_equal(simulator(mlp_spikes), expected)
    with pytest.raises(NetxFormatError):
        Simulator(mlp_file)


def test_errors_of_calls_are_those_of_simulate(mlp, mlp_spikes):
    simulator = Simulator(mlp)
    with pytest.raises(SimulationError, match=re.escape("(N, 12, T)")):
        simulator(mlp_spikes[:, :3])
    with pytest.raises(ValueError, match="spike_exp"):
        Simulator(mlp, spike_exp=7)


def test_layers_may_be_named_by_a_generator(mlp, mlp_spikes):
    run = simulate(mlp, mlp_spikes, layers=(name for name in ["dense2", "dense1"]))
    assert list(run.layers) == ["dense1", "dense2"]


def test_whether_a_convolution_is_a_pool_is_found_out_once(monkeypatch):
    """Not for each block of rows anew, for which all of its weights are looked at."""
    asked = []
    pools = synapses._pools
    monkeypatch.setattr(synapses, "_pools", lambda layer: asked.append(layer) or pools(layer))
    monkeypatch.setattr(synapses, "_BLOCK_SPIKES", {"cpu": 1})
    neuron = CubaNeuron(64, np.array([4096]), np.array([0]))
    layer = Conv(np.full((2, 1, 2, 2), 3), neuron, (2, 4, 4), (2, 2), groups=2)
    rows = torch.ones(5, 2, 4, 4, dtype=torch.uint8)
    sums = synapses.Convolution(layer, torch.device("cpu"), "spikes")(rows)
    assert (sums == 12).all()
    assert (synapses.message_sums(layer, torch.device("cpu"))(rows[None]) == 12).all()
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("layers", "kept"),
    [
        ("all", ["dense1", "dense2"]),
        (None, []),
        ([], []),
        (["dense1"], ["dense1"]),
        (("dense2", "dense1"), ["dense1", "dense2"]),
        (np.array(["dense2"]), ["dense2"]),
    ],
)
def test_only_layers_that_are_asked_for_are_kept(mlp, mlp_spikes, layers, kept):
    whole = simulate(mlp, mlp_spikes)
    for run in (simulate(mlp, mlp_spikes, layers=layers), Simulator(mlp)(mlp_spikes, layers=layers)):
        assert list(run.layers) == kept
        np.testing.assert_array_equal(run.output, whole.output)
        for name in kept:
            np.testing.assert_array_equal(run.layers[name], whole.layers[name])


@pytest.mark.parametrize("layers", ["dense1", ["dense3"], ["dense1", 2], 3, [["dense1"]], ["output"]])
def test_layers_that_are_not_in_the_network_are_refused(mlp, mlp_spikes, layers):
    with pytest.raises(ValueError, match=re.escape("some of the layers dense1, dense2, or 'all' of them, or None but")):
        simulate(mlp, mlp_spikes, layers=layers)


def test_layers_that_are_not_kept_take_no_memory(mlp, rng):
    """What is kept of 600 samples is the output, of 9 neurons fewer than all the layers'."""
    network = NetworkDescription((*mlp.layers, Average((1,))))
    spikes = (rng.random((600, 12, 50)) < 0.2).astype(np.uint8)
    simulator = Simulator(network)
    simulator(spikes)

    def peak(layers: list[str] | None) -> int:
        tracemalloc.start()
        run = simulator(spikes, layers=layers)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert run.output.any()
        return most

    assert peak(None) < peak(["dense1"]) - 600 * 9 * 50 // 2


@pytest.mark.lava
def test_on_lava_too_only_layers_that_are_asked_for_are_kept(mlp_file, mlp_spikes):
    on_lava = simulate(mlp_file, mlp_spikes[:1], backend="lava", layers=["dense1"])
    _assert_equal(on_lava, simulate(mlp_file, mlp_spikes[:1], layers=["dense1"]))
