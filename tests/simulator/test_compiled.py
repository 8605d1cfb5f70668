"""The compiled loops against those in torch."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netx_export import NetworkDescription, simulate
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    Input,
    Recurrent,
    SigmaDeltaNeuron,
)
from netx_export.simulation import reference
from netx_export.simulation.reference.synapses import recurrent_sums

pytest.importorskip("numba")


def _recurrent(rng: np.random.Generator, scale: int) -> NetworkDescription:
    weight, recurrent = rng.integers(-scale, 2 * scale, (9, 12)), rng.integers(-scale, scale, (9, 9))
    threshold = int(rng.integers(1, min(40 * scale, 2**17)))
    neuron = CubaNeuron(threshold, rng.integers(0, 4097, 9), rng.integers(0, 4097, 9))
    layer = Recurrent(weight, recurrent, neuron, bias=rng.integers(-99, 99, 9))
    return NetworkDescription((Input((12,), False), layer))


@pytest.mark.parametrize("scale", [1, 3, 60, 2**20])
@pytest.mark.parametrize("seed", range(10))
def test_compiled_loops_give_what_torch_gives(seed, scale, monkeypatch):
    """Also where currents wrap and voltages saturate."""
    rng = np.random.default_rng(seed)
    _assert_same_in_torch(_recurrent(rng, scale), rng, monkeypatch)


def test_compiled_recurrence_rounds_as_torch_does(rng, monkeypatch):
    """Lava clips -256, to which the loader shifts -1, to -255, and its shift back down rounds the sums."""
    neuron = CubaNeuron(60, np.array([1024]), np.array([512]))
    layer = Recurrent(-rng.integers(0, 2, (9, 12)), -rng.integers(0, 2, (9, 9)), neuron, bias=np.full(9, 20))
    assert recurrent_sums(layer, torch.device("cpu")).exponent < 0
    assert _assert_same_in_torch(NetworkDescription((Input((12,), False), layer)), rng, monkeypatch).any()


def _assert_same_in_torch(network, rng, monkeypatch):
    spikes = torch.from_numpy((rng.random((3, 12, 40)) < 0.2).astype(np.uint8))
    compiled = reference.run(network, spikes)["recurrent1"]
    monkeypatch.setattr("netx_export.simulation.reference.loops._compiled", lambda: None)
    assert torch.equal(reference.run(network, spikes)["recurrent1"], compiled)
    return compiled


@pytest.mark.parametrize("delay_shift", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_delays_and_their_place_in_the_result_are_as_in_torch(seed, delay_shift, saved, monkeypatch):
    """Delays of outputs, of inputs and on each synapse, and channels of several neurons."""
    rng = np.random.default_rng(seed)
    path = saved(_delayed(rng, delay_shift))
    spikes = (rng.random((3, 2, 4, 3, 40)) < 0.5).astype(np.uint8)
    compiled = simulate(path, spikes).layers
    monkeypatch.setattr("netx_export.simulation.reference.loops._compiled", lambda: None)
    in_torch = simulate(path, spikes).layers
    for name, raster in compiled.items():
        assert raster.any()
        np.testing.assert_array_equal(raster, in_torch[name])


def _delayed(rng: np.random.Generator, delay_shift: bool) -> NetworkDescription:
    neuron = CubaNeuron(40, np.array([1024]), np.array([128]))

    def dense(inputs: int, outputs: int, delay: tuple[int, ...]) -> Dense:
        weight, steps = rng.integers(-60, 120, (outputs, inputs)), rng.integers(0, 9, delay)
        return Dense(weight, neuron, delay=steps, delay_shift=delay_shift, axon_delay=rng.integers(0, 30, outputs))

    kernels = rng.integers(-60, 120, (3, 2, 2, 2))
    convolution = Conv(kernels, neuron, (2, 4, 3), delay_shift=delay_shift, axon_delay=4 * rng.permutation(3))
    layers = dense(18, 9, (9,)), dense(9, 7, (9,)), dense(7, 5, (5, 7))
    return NetworkDescription((Input((2, 4, 3), False), convolution, Flatten((18,)), *layers))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rate=st.sampled_from([0.01, 0.1, 0.6]),
    scale=st.sampled_from([1, 30, 2**11, 2**22]),
    threshold=st.sampled_from([0, 1, 7, 2**19 - 1]),
    groups=st.sampled_from([1, 2]),
)
def test_compiled_messages_are_those_of_torch(seed, rate, scale, threshold, groups):
    """Also where sums wrap at 24 and at 32 bits, or have left them before Lava casts them to 32."""
    rng = np.random.default_rng(seed)
    network = _sigma_delta(rng, Input((2, 6, 7), False), SigmaDeltaNeuron(threshold), groups)
    shape = (3, 2, 6, 7, 12)
    messages = rng.integers(-scale, scale + 1, shape, dtype=np.int32) * (rng.random(shape) < rate)
    messages[..., 0] = rng.integers(2) * scale  # as in the first step of an image
    spikes = torch.from_numpy(messages.astype(np.int32))
    compiled = reference.run(network, spikes)
    with mock.patch("netx_export.simulation.reference.loops._compiled", return_value=None):
        in_torch = reference.run(network, spikes)
    for name, layer in compiled.items():
        assert layer.dtype == torch.int32
        assert torch.equal(layer, in_torch[name]), name


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("seed", range(5))
def test_sigma_delta_networks_from_input_to_result_are_as_in_torch(seed, threads, monkeypatch):
    rng = np.random.default_rng(seed)
    encoder = Encoder(SigmaDeltaNeuron(int(rng.integers(0, 9))), int(rng.integers(1, 256)), int(rng.integers(-9, 9)))
    network = _sigma_delta(rng, Input((2, 6, 7), False, encoder), SigmaDeltaNeuron(3), 1)
    values = rng.standard_normal((9, 2, 6, 7, 12)).cumsum(-1) * 0.1
    monkeypatch.setattr(reference, "chunk_size", lambda *_: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        compiled = simulate(network, values).layers
        monkeypatch.setattr("netx_export.simulation.reference.loops._compiled", lambda: None)
        in_torch = simulate(network, values).layers
    finally:
        torch.set_num_threads(before)
    for name, layer in compiled.items():
        assert layer.any()
        np.testing.assert_array_equal(layer, in_torch[name])


def _sigma_delta(rng: np.random.Generator, first: Input, neuron: SigmaDeltaNeuron, groups: int) -> NetworkDescription:
    convolution = Conv(
        rng.integers(-128, 128, (4, 2 // groups, 3, 2)),
        neuron,
        (2, 6, 7),
        stride=(2, 1),
        padding=(1, 2),
        groups=groups,
        bias=rng.integers(-999, 999, 4),
        delay_shift=bool(rng.integers(2)),
    )
    dense = Dense(rng.integers(-128, 128, (5, 120)), neuron, bias=rng.integers(-999, 999, 5))
    last = Dense(rng.integers(-128, 128, (3, 5)), SigmaDeltaNeuron(0, sends=False))
    return NetworkDescription((first, convolution, Flatten((120,)), dense, last))
