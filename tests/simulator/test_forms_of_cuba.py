"""CUBA neurons are defined once; the fast loops, and the neuron that a diagnosis follows, compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netx_export.network.description import Conv, CubaNeuron
from netx_export.network.fixed_point import ALIGNMENT
from netx_export.simulation import reference
from netx_export.simulation.reference.neurons import CubaStates
from netx_export.verification.neuron_trace import Assumptions, trace

decays = st.sampled_from([0, 1, 128, 1024, 4095, 4096]) | st.integers(0, 4096)
CHANNELS, STEPS = 3, 40
AS_LAVA = {"wraps": True, "saturates": True}


def cases(function: Callable[..., None]) -> Callable[..., None]:
    """Random neurons with random input, overflowing ones above all."""
    given_cases = given(
        seed=st.integers(0, 2**32 - 1),
        scale=st.sampled_from([3, 60, 1_000, 100_000, 400_000]),
        drift=st.sampled_from([-1, 0, 1]),
        threshold=st.integers(0, 2**17) | st.sampled_from([0, 1, 2, 2**17 - 1, 2**17]),
        decay=st.tuples(decays, decays),
        bias_start=st.sampled_from([0, 1, 7, STEPS]),
    )
    return settings(max_examples=150, deadline=None)(given_cases(function))


def layer_and_spikes(
    seed: int, scale: int, drift: int, threshold: int, decay: tuple[int, int]
) -> tuple[Conv, np.ndarray]:
    """Channels of one pixel, whose weights may be of any size, and spikes ``(5, T)``."""
    rng = np.random.default_rng(seed)
    current_decay, voltage_decay = (np.append(rng.integers(0, 4097, CHANNELS - 1), value) for value in decay)
    weight = (rng.integers(-scale, scale + 1, (CHANNELS, 5)) + drift * scale // 2)[:, :, np.newaxis, np.newaxis]
    bias = rng.integers(-(2**12), 2**12, CHANNELS)
    layer = Conv(weight, CubaNeuron(threshold, current_decay, voltage_decay), (5, 1, 1), bias=bias)
    return layer, (rng.random((5, STEPS)) < 0.4).astype(np.uint8)


def defined(layer: Conv, spikes: np.ndarray, bias_start: int, limits: dict[str, bool]) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and membranes before the reset, ``(C, T)``, from the definition alone."""
    sums = torch.from_numpy(layer.weight[:, :, 0, 0] @ spikes.astype(np.int64)).T.unsqueeze(1)
    assert isinstance(layer.neuron, CubaNeuron)
    assert layer.bias is not None
    neurons = CubaStates(layer.neuron, torch.zeros_like(sums[0], dtype=torch.float64), ALIGNMENT, **limits)
    drive = torch.from_numpy(layer.bias * ALIGNMENT).unsqueeze(0)
    fired, membranes = (
        torch.zeros(STEPS, 1, CHANNELS, dtype=torch.uint8),
        torch.zeros(STEPS, 1, CHANNELS, dtype=torch.float64),
    )
    for step in range(STEPS):
        neurons.integrate(sums[step], drive if step >= bias_start else None)
        membranes[step] = neurons.voltage
        neurons.reset(neurons.fired(out=fired[step]))
    return fired[:, 0].T.numpy(), membranes[:, 0].T.numpy()


@pytest.mark.usefixtures("loops")
@cases
def test_the_loops(seed: int, scale: int, drift: int, threshold: int, decay: tuple[int, int], bias_start: int) -> None:
    layer, spikes = layer_and_spikes(seed, scale, drift, threshold, decay)
    sums = torch.from_numpy(layer.weight[:, :, 0, 0] @ spikes.astype(np.int64)).T.unsqueeze(1)
    got = reference.integrate_and_fire(sums, layer.neuron, layer.bias, bias_start, scale=ALIGNMENT)
    np.testing.assert_array_equal(got[:, 0].T.numpy(), defined(layer, spikes, bias_start, AS_LAVA)[0])


@cases
def test_the_neuron_that_a_diagnosis_follows(
    seed: int, scale: int, drift: int, threshold: int, decay: tuple[int, int], bias_start: int
) -> None:
    layer, spikes = layer_and_spikes(seed, scale, drift, threshold, decay)
    for limits in (AS_LAVA, {"wraps": False, "saturates": False}):
        expected, membranes = defined(layer, spikes, bias_start, limits)
        for channel in range(CHANNELS):
            image: Any = spikes[:, np.newaxis, np.newaxis]
            got = trace(layer, (channel, 0, 0), image, None, bias_start, Assumptions(**limits))
            np.testing.assert_array_equal(got.spikes, expected[channel])
            np.testing.assert_array_equal(got.membrane, membranes[channel])


@pytest.mark.parametrize("limited", [True, False])
def test_beyond_24_bits_the_definition_wraps_and_saturates_only_as_lava(limited: bool) -> None:
    neuron = CubaNeuron(2**20, np.array([0]), np.array([0]))
    states = CubaStates(neuron, torch.zeros(1, 1, dtype=torch.float64), 1, wraps=limited, saturates=limited)
    states.integrate(torch.tensor([[2.0**23 + 1]]), None)
    assert states.current.item() == (1 - 2**23 if limited else 2**23 + 1)
    states.integrate(torch.tensor([[0.0]]), None)
    assert states.voltage.item() == (1 - 2**23 if limited else 2**24 + 2)
