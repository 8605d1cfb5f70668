"""The reference simulator: a netx network in Lava's fixed-point arithmetic, for whole batches, in torch.

Each layer runs in its neurons' own time: step 0 is the first step at which a neuron can see the sample. In that frame
a layer's synaptic input at step t is its weights times the spikes that came in at step t, and no layer waits for the
one before it. The steps by which Lava and SLAYER shift each layer's output are applied afterwards, in one place.

The arithmetic is that of ``PyLifModelBitAcc`` (``lava/proc/lif/models.py``) and ``PyDenseModelBitAcc``
(``lava/proc/dense/models.py``) of lava-nc 0.10.0. Everything is an integer below 2^53, so float64 is exact, and unlike
integers it is fast on every device.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from netx_export.description import (
    Conv,
    CubaNeuron,
    Dense,
    Flatten,
    IntArray,
    NetworkDescription,
    Recurrent,
    Resonator,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.errors import SimulationError
from netx_export.loading import LoadedWeights, load_dense_weights, load_weights

__all__ = ["integrate_and_fire", "peaks", "run"]

_STATE_LIMIT = 2.0**23
_UNITY_DECAY = 4096
_MAX_DELAY = 62


def run(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Simulate a batch from rest.

    Args:
        description: the network.
        spikes: binary input ``(N, C, ..., T)``, on the device to run on, beginning with ``description.lead`` empty
            steps, in which a bias may act already.

    Returns:
        For each spiking layer its spikes ``(N, C, ..., T)``, uint8, in its neurons' own time.
    """
    names = iter(description.spiking)
    starts = {name: description.lead - steps for name, steps in description.bias_starts.items()}
    layers: dict[str, torch.Tensor] = {}
    for layer in description.layers:
        if isinstance(layer, Flatten):
            spikes = spikes.flatten(1, -2)
        elif isinstance(layer, SpikingLayer):
            name = next(names)
            spikes = layers[name] = _run_layer(layer, spikes, starts.get(name, 0))
    return layers


def peaks(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, tuple[float, float]]:
    """The largest size that each layer's current and voltage would reach if they had no limit, on a batch from rest."""
    layers = run(description, spikes)
    found = {}
    for name, layer in description.spiking.items():
        if isinstance(layer.neuron, CubaNeuron):
            start = description.lead - description.bias_starts.get(name, 0)
            found[name] = _peaks(layer, layer.neuron, start, spikes, layers[name])
        spikes = layers[name]
    return found


def _peaks(
    layer: SpikingLayer, neuron: CubaNeuron, bias_start: int, spikes: torch.Tensor, fired: torch.Tensor
) -> tuple[float, float]:
    activation = _activation(layer, spikes)
    if isinstance(layer, Recurrent):
        feedback = _weighted_sum(load_weights(layer.weight, layer.recurrent_weight)[1], fired)
        activation[..., 1:] += feedback[..., :-1]
    bias = getattr(layer, "bias", None)
    drive = 0.0 if bias is None else _per_channel(bias, activation) * 2**6
    resets = fired.reshape(activation.shape)
    keep_current = (_UNITY_DECAY - _per_channel(neuron.current_decay, activation)) / _UNITY_DECAY
    keep_voltage = (_UNITY_DECAY - _per_channel(neuron.voltage_decay, activation)) / _UNITY_DECAY
    current = voltage = torch.zeros_like(activation[..., 0])
    highest_current = highest_voltage = 0.0
    for step in range(activation.shape[-1]):
        current = torch.trunc(current * keep_current) + activation[..., step] * 2**6
        voltage = torch.trunc(voltage * keep_voltage) + current + (drive if step >= bias_start else 0)
        highest_current = max(highest_current, float(current.abs().max()))
        voltage = voltage * (1 - resets[..., step])
        highest_voltage = max(highest_voltage, float(voltage.abs().max()))
    return highest_current, highest_voltage


def _run_layer(layer: SpikingLayer, spikes: torch.Tensor, bias_start: int) -> torch.Tensor:
    if isinstance(layer.neuron, SigmaDeltaNeuron):
        raise SimulationError("Sigma-delta neurons are not simulated here; such a file can be read and checked only.")
    if isinstance(layer, Resonator):
        fired = _resonator(layer, spikes.flatten(1, -2))
    else:
        feedback = _feedback(layer) if isinstance(layer, Recurrent) else None
        fired = integrate_and_fire(_activation(layer, spikes), layer.neuron, layer.bias, bias_start, feedback)
    return fired.reshape(len(fired), *layer.shape, fired.shape[-1])


def _activation(layer: SpikingLayer, spikes: torch.Tensor) -> torch.Tensor:
    """Weighted sums of what comes in from outside of the layer."""
    if isinstance(layer, Conv):
        return _convolve(layer, spikes)
    if isinstance(layer, Dense):
        return _dense(layer, spikes.flatten(1, -2))
    weights = [layer.weight, layer.recurrent_weight] if isinstance(layer, Recurrent) else [layer.weight]
    return _weighted_sum(load_weights(*weights)[0], spikes.flatten(1, -2))


def _dense(layer: Dense, spikes: torch.Tensor) -> torch.Tensor:
    loaded = load_dense_weights(layer.weight)
    delay = None if layer.delay is None else layer.delay.clip(0, _MAX_DELAY)  # as netx does
    if delay is None:
        return _weighted_sum(loaded, spikes)
    if delay.ndim == 2:
        return _synaptic_delay(loaded, delay, spikes)
    if delay.size == layer.weight.shape[0]:
        return _delay(_weighted_sum(loaded, spikes), delay)
    return _weighted_sum(loaded, _delay(spikes, delay))


def _weighted_sum(loaded: LoadedWeights, spikes: torch.Tensor) -> torch.Tensor:
    weight = torch.as_tensor(loaded.mantissa, device=spikes.device)
    dtype = _exact_dtype(weight.abs().sum(1).max())
    activation = torch.matmul(weight.to(dtype), spikes.to(dtype)).double()
    return torch.floor(activation * 2.0**loaded.exponent)


def _synaptic_delay(loaded: LoadedWeights, delay: IntArray, spikes: torch.Tensor) -> torch.Tensor:
    """Weighted sums with a delay on each synapse: spikes of the same delay are summed up, and then wait together."""
    total = torch.zeros(())
    for steps in np.unique(delay):
        group = LoadedWeights(np.where(delay == steps, loaded.mantissa, 0), loaded.exponent)
        activation = _weighted_sum(group, spikes)
        total = total + _delay(activation, np.full(len(delay), steps))
    return total


def _convolve(layer: Conv, spikes: torch.Tensor) -> torch.Tensor:
    samples, steps = spikes.shape[0], spikes.shape[-1]
    weight = torch.as_tensor(layer.weight, device=spikes.device)
    dtype = _exact_dtype(weight.abs().flatten(1).sum(1).max())
    frames = spikes.movedim(-1, 1).reshape(-1, *layer.input_shape).to(dtype)
    activation = F.conv2d(frames, weight.to(dtype), None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return activation.double().reshape(samples, steps, *activation.shape[1:]).movedim(1, -1)


def _exact_dtype(largest_sum: torch.Tensor) -> torch.dtype:
    """The fastest type in which sums of integers up to ``largest_sum`` are exact in every order."""
    return torch.float32 if largest_sum < 2**24 else torch.float64


def _delay(values: torch.Tensor, delay: IntArray) -> torch.Tensor:
    """Shift each channel of ``(N, C, T)`` by its own number of steps, zeros in front."""
    steps = torch.arange(values.shape[-1], device=values.device)
    source = steps - torch.as_tensor(delay, device=values.device).unsqueeze(-1)
    gathered = values.gather(-1, source.clamp(min=0).expand_as(values))
    return gathered.masked_fill(source < 0, 0)


def _per_channel(values: IntArray, like: torch.Tensor) -> torch.Tensor:
    """One value, or one per channel, shaped to broadcast against ``(N, C, ...)``."""
    tensor = torch.as_tensor(values, dtype=torch.float64, device=like.device)
    return tensor.reshape(-1, *[1] * (like.dim() - 3))


def _feedback(layer: Recurrent) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a recurrent layer's spikes of one step add to its input at the next."""
    loaded = load_weights(layer.weight, layer.recurrent_weight)[1]
    return lambda fired: _weighted_sum(loaded, fired.unsqueeze(-1)).squeeze(-1)


def integrate_and_fire(
    activation: torch.Tensor,
    neuron: CubaNeuron,
    bias: IntArray | None,
    bias_start: int = 0,
    feedback: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Loihi's current-based leaky integrate-and-fire neurons, step by step over ``(N, C, ..., T)``.

    The bias acts from step ``bias_start`` on. ``feedback`` makes further activation of the spikes of the step before.
    """
    keep_current = (_UNITY_DECAY - _per_channel(neuron.current_decay, activation)) / _UNITY_DECAY
    keep_voltage = (_UNITY_DECAY - _per_channel(neuron.voltage_decay, activation)) / _UNITY_DECAY
    effective_bias = 0.0 if bias is None else _per_channel(bias, activation) * 2**6
    threshold = float(neuron.threshold << 6)
    current = torch.zeros_like(activation[..., 0])
    voltage = torch.zeros_like(current)
    spikes = torch.empty(activation.shape, dtype=torch.uint8, device=activation.device)
    for step in range(activation.shape[-1]):
        incoming = activation[..., step]
        if feedback is not None and step > 0:
            incoming = incoming + feedback(spikes[..., step - 1])
        current = torch.trunc(current * keep_current) + incoming * 2**6
        current = torch.where(current > _STATE_LIMIT, current - 2 * _STATE_LIMIT, current)
        current = torch.where(current <= -_STATE_LIMIT, current + 2 * _STATE_LIMIT, current)
        voltage = torch.trunc(voltage * keep_voltage) + current + (effective_bias if step >= bias_start else 0)
        voltage = voltage.clamp(1 - _STATE_LIMIT, _STATE_LIMIT - 1)
        fired = voltage > threshold
        voltage = voltage.masked_fill(fired, 0)
        spikes[..., step] = fired
    return spikes


def _resonator(layer: Resonator, spikes: torch.Tensor) -> torch.Tensor:
    """Loihi's resonate-and-fire neurons (``lava/proc/rf``, ``lava/proc/rf_iz``), step by step over ``(N, C, T)``."""
    real_input = _weighted_sum(load_dense_weights(layer.weight), spikes) * 2**6
    imag_input = _weighted_sum(load_dense_weights(layer.imaginary_weight), spikes) * 2**6
    neuron = layer.neuron
    sin = _per_channel(neuron.sin_decay, real_input) / _UNITY_DECAY
    cos = _per_channel(neuron.cos_decay, real_input) / _UNITY_DECAY
    threshold = float(neuron.threshold << 6)
    real = torch.zeros_like(real_input[..., 0])
    imag = torch.zeros_like(real)
    fired = torch.empty(real_input.shape, dtype=torch.uint8, device=spikes.device)
    for step in range(real_input.shape[-1]):
        new_real = torch.trunc(cos * real) - torch.trunc(sin * imag) + real_input[..., step]
        new_imag = torch.trunc(sin * real) + torch.trunc(cos * imag) + imag_input[..., step]
        new_real = new_real.clamp(1 - _STATE_LIMIT, _STATE_LIMIT - 1)
        new_imag = new_imag.clamp(1 - _STATE_LIMIT, _STATE_LIMIT - 1)
        if neuron.reset == "phase":
            now = (new_real >= threshold) & (new_imag >= 0) & (imag < 0)
        else:
            now = new_imag >= threshold
            new_real = new_real.masked_fill(now, 0)
            new_imag = new_imag.masked_fill(now, threshold - 1)
        real, imag = new_real, new_imag
        fired[..., step] = now
    return fired
