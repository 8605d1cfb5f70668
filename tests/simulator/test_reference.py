"""The reference simulator against itself: its shortcuts change nothing but the time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from netx_export import NetworkDescription, simulate
from netx_export.network.description import Conv, CubaNeuron, Dense, Flatten, Input
from netx_export.network.stock_loader import LoadedWeights
from netx_export.simulation import reference
from netx_export.simulation.reference import synapses
from netx_export.simulation.reference.synapses import WeightedSums

pytestmark = pytest.mark.usefixtures("loops")


def _run(network, spikes):
    return reference.run(network, torch.from_numpy(np.asarray(spikes, np.uint8)))


def _assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.2, 0.5, 1.0])
def test_sparse_and_dense_products_are_the_same(mlp, rng, monkeypatch, rate):
    spikes = rng.random((3, 12, 40)) < rate
    monkeypatch.setattr(synapses, "_SPARSE_RATE", {"torch": 1.0, "compiled": 1.0})
    sparse = _run(mlp, spikes)
    monkeypatch.setattr(synapses, "_SPARSE_RATE", {"torch": -1.0, "compiled": -1.0})
    _assert_equal(sparse, _run(mlp, spikes))


def test_chunks_of_samples_give_what_one_batch_gives(mlp_file, mlp_spikes, monkeypatch):
    whole = simulate(mlp_file, mlp_spikes)
    monkeypatch.setattr(reference, "chunk_size", lambda *_: 4)
    chunked = simulate(mlp_file, mlp_spikes)
    for name in whole.layers:
        assert np.array_equal(whole.layers[name], chunked.layers[name])
    assert whole.output.sum() > 0


def test_chunks_shrink_with_steps_and_neurons_and_never_vanish(mlp):
    cpu = torch.device("cpu")
    assert reference.chunk_size(mlp, 10, cpu) > reference.chunk_size(mlp, 1000, cpu)
    assert reference.chunk_size(mlp, 10**9, cpu) == 1


def test_samples_do_not_influence_each_other(mlp_file, mlp_spikes):
    together = simulate(mlp_file, mlp_spikes)
    alone = simulate(mlp_file, mlp_spikes[3:4])
    assert np.array_equal(together.output[3:4], alone.output)


def test_output_is_shifted_by_the_blocks_that_slayer_delays(mlp, mlp_spikes, saved):
    shifted = simulate(saved(mlp), mlp_spikes)
    own_time = _run(mlp, mlp_spikes)
    for depth, name in enumerate(own_time, start=1):
        assert np.array_equal(shifted.layers[name][..., depth:], own_time[name].numpy()[..., :-depth])
        assert not shifted.layers[name][..., :depth].any()


def test_more_shift_than_steps_gives_silence(mlp_file):
    assert not simulate(mlp_file, np.ones((1, 12, 1))).output.any()


def _late(spikes: np.ndarray, steps: int) -> np.ndarray:
    return np.pad(spikes, [(0, 0)] * (spikes.ndim - 1) + [(steps, 0)])[..., : spikes.shape[-1]]


def _first_layer(network: NetworkDescription, **changes: object) -> NetworkDescription:
    return NetworkDescription((network.layers[0], dataclasses.replace(network.layers[1], **changes)))


def test_a_delay_per_input_delays_its_spikes(mlp, rng):
    spikes = rng.random((2, 12, 30)) < 0.2
    delay = rng.integers(0, 40, 12)
    late = np.stack([_late(spikes[:, channel], steps) for channel, steps in enumerate(delay)], axis=1)
    _assert_equal(_run(_first_layer(mlp, delay=delay), spikes), _run(_first_layer(mlp), late))


def test_a_delay_per_neuron_delays_all_that_it_receives(mlp, rng):
    spikes = rng.random((2, 12, 30)) < 0.2
    delay = rng.integers(0, 40, 9)
    delayed = _run(_first_layer(mlp, delay=delay), spikes)["dense1"]
    for neuron, steps in enumerate(delay):
        expected = _run(_first_layer(mlp), _late(spikes, steps))["dense1"]
        assert torch.equal(delayed[:, neuron], expected[:, neuron])


def test_a_dense_layer_is_a_convolution_of_one_pixel(mlp, rng):
    spikes = rng.random((2, 12, 40)) < 0.3
    dense = mlp.layers[1]
    conv = Conv(dense.weight[:, :, None, None], dense.neuron, (12, 1, 1))
    as_conv = NetworkDescription((Input((12, 1, 1), False), conv, Flatten((9,))))
    as_dense = NetworkDescription((Input((12,), False), dense))
    expected = _run(as_dense, spikes)["dense1"]
    assert torch.equal(_run(as_conv, spikes[:, :, None, None])["conv1"][:, :, 0, 0], expected)
    assert expected.sum() > 0


def test_sums_beyond_float32_are_exact():
    """2^24 + 1 is the first integer that float32 does not hold."""
    inputs = 2**24 // 250 + 1
    weight = np.full((2, inputs), 250)
    weight[0, 0] = 251
    neuron = CubaNeuron(1, np.array([4096]), np.array([4096]))
    network = NetworkDescription((Input((inputs,), False), Dense(weight, neuron)))
    sums = WeightedSums(LoadedWeights(weight, 0), torch.device("cpu"))(torch.ones(1, inputs, dtype=torch.uint8))
    assert sums.tolist() == [weight.sum(1).tolist()]
    assert _run(network, np.ones((1, inputs, 2)))["dense1"].shape == (1, 2, 2)


@pytest.mark.parametrize(("inputs", "fits"), [(2**24 - 1, True), (2**24, False)])
def test_compiled_loops_take_the_sums_that_int32_holds(inputs: int, fits: bool):
    weight = np.full((1, inputs), 128, np.int16)
    assert WeightedSums(LoadedWeights(weight, 0), torch.device("cpu")).fits is fits


# The real device, where there is one; `test_accelerator.py` runs the same code everywhere on a stand-in.
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_the_same_spikes(mlp_file, mlp_spikes):
    on_cpu = simulate(mlp_file, torch.from_numpy(mlp_spikes))
    on_gpu = simulate(mlp_file, torch.from_numpy(mlp_spikes).cuda())
    for name in on_cpu.layers:
        assert np.array_equal(on_cpu.layers[name], on_gpu.layers[name])
