"""Random networks of every kind: however the reference simulator computes one, the spikes are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
    Flatten,
    Input,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SpikingLayer,
)
from netx_export.run import Run
from netx_export.simulation import reference

pytest.importorskip("numba")

_STEPS = 12


def _threshold(rng: np.random.Generator, scale: int) -> int:
    return min(int(rng.integers(1, 40 * scale)), 2**17 - 1)


def _cuba(rng: np.random.Generator, scale: int) -> CubaNeuron:
    return CubaNeuron(_threshold(rng, scale), rng.integers(0, 4096, 1), rng.integers(0, 4096, 1))


def _resonator(rng: np.random.Generator, scale: int, reset: str) -> list[SpikingLayer | Flatten]:
    angle, radius = rng.uniform(0, 2 * np.pi, 7), rng.choice([4096, 4095, 3000, 1], 7)
    sin, cos = (np.trunc(radius * part).astype(int) for part in (np.sin(angle), np.cos(angle)))
    real, imag = rng.integers(-4 * scale, 4 * scale + 1, (2, 7, 12))
    neuron = ResonatorNeuron(_threshold(rng, scale), sin, cos, "phase" if reset == "RF" else "izhikevich")
    return [Resonator(real, imag, neuron)]


def _dense(rng: np.random.Generator, scale: int) -> list[SpikingLayer | Flatten]:
    bias, delay = rng.integers(-9, 9, 7), rng.integers(0, 5, 7)
    return [Dense(rng.integers(-scale, 2 * scale, (7, 12)), _cuba(rng, scale), delay=delay, bias=bias)]


def _recurrent(rng: np.random.Generator, scale: int) -> list[SpikingLayer | Flatten]:
    weight, recurrent = rng.integers(-scale, 2 * scale, (7, 12)), rng.integers(-scale, scale, (7, 7))
    return [Recurrent(weight, recurrent, _cuba(rng, scale))]


def _conv(
    rng: np.random.Generator, scale: int, groups: int = 1, *, alike: bool = False
) -> list[SpikingLayer | Flatten]:
    """Onto 3 x 4 inputs: with any stride, padding and dilation that leaves an output, or as a pool is written."""
    size, padding = rng.integers(1, 3, 2), rng.integers(0, 2, 2)
    weight = rng.integers(-scale, 2 * scale, (4, 4 // groups, *size))
    weight = np.broadcast_to(weight[:, :, :1, :1], weight.shape).copy() if alike else weight
    convolution = Conv(
        weight,
        _cuba(rng, scale),
        (4, 3, 4),
        stride=tuple(rng.integers(1, 3, 2).tolist()),
        padding=tuple(padding.tolist()),
        dilation=(1, 1) if alike else tuple(rng.integers(1, 3, 2).tolist()),
        groups=groups,
        bias=rng.integers(-9, 9, 4),
    )
    return [convolution, Flatten((int(np.prod(convolution.shape)),))]


_MAKERS: dict[str, Callable[[np.random.Generator, int], list[SpikingLayer | Flatten]]] = {
    "RF": lambda rng, scale: _resonator(rng, scale, "RF"),
    "RF_IZ": lambda rng, scale: _resonator(rng, scale, "RF_IZ"),
    "convolution": _conv,
    "convolution of two groups": lambda rng, scale: _conv(rng, scale, 2),
    "convolution of each channel": lambda rng, scale: _conv(rng, scale, 4),
    "pool": lambda rng, scale: _conv(rng, scale, 4, alike=True),
    "dense": _dense,
    "recurrent": _recurrent,
}


def _network(kind: str, rng: np.random.Generator, scale: int) -> NetworkDescription:
    layers = _MAKERS[kind](rng, scale)
    shape = layers[0].input_shape
    last = Dense(rng.integers(-scale, 2 * scale, (3, *layers[-1].shape)), _cuba(rng, scale))
    return NetworkDescription((Input(shape, False), *layers, last))


@contextmanager
def _computing(threads: int, *, compiled: bool) -> Iterator[None]:
    """Two samples at a time on so many threads, with compiled loops or those in torch."""
    before = torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, before)
        stack.enter_context(mock.patch.object(reference, "chunk_size", return_value=2))
        if not compiled:
            stack.enter_context(mock.patch("netx_export.simulation.reference.loops._compiled", return_value=None))
        torch.set_num_threads(threads)
        yield


def _assert_plain(network: NetworkDescription, spikes: np.ndarray, got: Run) -> None:
    """The spikes of a first convolution are those of its definition, each output's sum taken by itself."""
    layer = network.layers[1]
    if isinstance(layer, Conv):
        frames = torch.from_numpy(spikes).movedim(-1, 1).flatten(0, 1).double()
        weight = torch.from_numpy(layer.weight).double()
        options = layer.stride, layer.padding, layer.dilation, layer.groups
        sums = torch.nn.functional.conv2d(frames, weight, None, *options).long()
        wrapped = (sums + 2**23) % 2**24 - 2**23
        by_step = wrapped.unflatten(0, (len(spikes), -1)).transpose(0, 1)
        start = network.lead - network.bias_starts["conv1"]
        fired = reference.integrate_and_fire(by_step, layer.neuron, layer.bias, start, None, 64)
        own = fired.movedim(0, -1).numpy()[..., :-1]  # SLAYER's delay
        np.testing.assert_array_equal(got.layers["conv1"][..., 1:], own)


@pytest.mark.parametrize("kind", _MAKERS)
@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    rate=st.sampled_from([0.01, 0.1, 0.3, 0.9]),
    scale=st.sampled_from([1, 30, 2**12, 2**22]),
    way=st.sampled_from([(1, True), (4, True), (4, False)]),
)
def test_spikes_are_the_same_with_compiled_loops_and_on_many_threads(kind, seed, rate, scale, way):
    """Also where states wrap or saturate, and sums are beyond what compiled loops take."""
    rng = np.random.default_rng(seed)
    network = _network(kind, rng, scale)
    spikes = rng.random((5, *network.input_shape, _STEPS)) < rate
    with _computing(1, compiled=False):
        expected = simulate(network, spikes)
    threads, compiled = way
    _assert_plain(network, spikes, expected)
    with _computing(threads, compiled=compiled):
        got = simulate(network, spikes)
    for name, layer in expected.arrays.items():
        np.testing.assert_array_equal(got.arrays[name], layer, err_msg=name)
