"""One neuron in Python's integers does what the reference simulator does for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from netx_export.file.netx import read
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    NetworkDescription,
    Recurrent,
    Resonator,
    ResonatorNeuron,
)
from netx_export.simulation import reference
from netx_export.verification.neuron_trace import Assumptions, trace

WHOLE = {"wraps": False, "saturates": False}


def check_all_neurons(description: NetworkDescription, inputs: torch.Tensor) -> None:
    padded = F.pad(inputs, (description.lead, 0))
    layers = reference.run(description, padded)
    coming = padded.numpy()
    for name, layer in description.spiking.items():
        own = layers[name].numpy()
        start = description.lead - description.bias_starts.get(name, 0)
        for neuron in np.ndindex(*layer.shape):
            got = trace(layer, neuron, coming[0], own[0], start)
            np.testing.assert_array_equal(got.spikes, own[0][neuron], err_msg=f"{name} {neuron}")
        assert own[0].any(), name
        coming = own


@pytest.mark.slayer
@pytest.mark.parametrize("kind", ["mlp", "delayed", "conv", "recurrent", "biased"])
def test_every_neuron_of_exported_networks(kind: str, exported: Callable[[str], Any]) -> None:
    subject = exported(kind)
    check_all_neurons(read(subject.path), subject.spikes[:1].to(torch.uint8))


def random_layer(kind: str, seed: int) -> Any:
    draw = np.random.default_rng(seed)
    weight = draw.integers(-127, 127, (9, 7)) * 2
    neuron = CubaNeuron(int(draw.integers(50, 2000)), draw.integers(0, 4096, 9), draw.integers(0, 4096, 9))
    if kind == "recurrent":
        return Recurrent(weight, draw.integers(-127, 127, (9, 9)) * 2, neuron, bias=draw.integers(-90, 90, 9))
    if kind == "resonator":
        turn = ResonatorNeuron(200, np.array([1500]), np.array([-3000]), ("phase", "izhikevich")[seed % 2])
        return Resonator(weight, draw.integers(-127, 127, (9, 7)) * 2, turn)
    delays = {
        "dense": None,
        "in": draw.integers(0, 9, 7),
        "out": draw.integers(0, 9, 9),
        "each": draw.integers(0, 9, (9, 7)),
    }
    return Dense(weight, neuron, delay=delays[kind], bias=draw.integers(-90, 90, 9))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["dense", "in", "out", "each", "recurrent", "resonator"])
def test_every_neuron_of_random_layers(kind: str, seed: int) -> None:
    inputs = torch.from_numpy(np.random.default_rng(seed).random((1, 7, 40)) < 0.5).to(torch.uint8)
    check_all_neurons(NetworkDescription((random_layer(kind, seed),)), inputs)


def overflowing(threshold: int) -> Dense:
    """400 strong weights and no decay: the current leaves 24 bits within a few steps."""
    return Dense(np.full((1, 400), 254), CubaNeuron(threshold, np.array([0]), np.array([4096])))


def test_a_wrapped_current_is_seen() -> None:
    layer = overflowing(2**16)
    inputs = torch.ones(1, 400, 12, dtype=torch.uint8)
    got = trace(layer, (0,), inputs[0].numpy())
    assert got.wrapped
    np.testing.assert_array_equal(got.spikes, reference.run(NetworkDescription((layer,)), inputs)["dense0"][0, 0])
    unwrapped = trace(layer, (0,), inputs[0].numpy(), assumed=Assumptions(**WHOLE))
    assert not unwrapped.wrapped
    assert unwrapped.spikes.sum() > got.spikes.sum()


@pytest.mark.parametrize(
    ("activation", "wrapped", "saturated"),
    [
        (131_071, False, False),
        (131_072, False, True),  # a current of 2^23 is held as it is, but no voltage of that size
        (131_073, True, False),
        (-131_071, False, False),
        (-131_072, True, True),
    ],
)
def test_a_number_that_leaves_24_bits_is_seen(activation: int, wrapped: bool, saturated: bool) -> None:
    neuron = CubaNeuron(2**17, np.array([4096]), np.array([0]))
    layer = Conv(np.full((1, 1, 1, 1), activation), neuron, (1, 1, 1))
    got = trace(layer, (0, 0, 0), np.array([[[[1, 0]]]], np.uint8))
    assert (got.wrapped, got.saturated) == (wrapped, saturated)


@pytest.mark.parametrize(("steps", "less", "saturated"), [(64, 1, False), (64, 0, True), (65, 1, True)])
def test_a_resonator_that_leaves_24_bits_is_seen(steps: int, less: int, saturated: bool) -> None:
    """Each step adds 2^17, so that 64 steps make 2^23, which is one more than a state holds."""
    turn = ResonatorNeuron(2**20, np.array([0]), np.array([4096]), "phase")
    weight = np.array([[128] * 16 + [-128] * 16])
    inputs = np.zeros((32, steps), np.uint8)
    inputs[:16] = 1
    inputs[16:, 0] = np.arange(16) < less  # where one step adds less, the 64th sum stays below 2^23
    assert trace(Resonator(weight, weight, turn), (0,), inputs).saturated is saturated
