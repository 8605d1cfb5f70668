"""The reference simulator: a netx network in Lava's fixed-point arithmetic, for whole batches, in torch.

Each layer runs in its neurons' own time: step 0 is the first step at which a neuron can see the sample. In that frame
a layer's synaptic input at step t is its weights times the spikes that came in at step t, and no layer waits for the
one before it. The steps by which Lava and SLAYER shift each layer's output are applied afterwards, in one place.

The arithmetic is that of ``PyLifModelBitAcc`` (``lava/proc/lif/models.py``) and ``PyDenseModelBitAcc``
(``lava/proc/dense/models.py``) of lava-nc 0.10.0. Everything is an integer below 2^53, so float64 is exact, and unlike
integers it is fast on every device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from netx_export.description import Conv, CubaNeuron, Dense, Flatten, Input, IntArray, NetworkDescription, SpikingLayer
from netx_export.loading import load_dense_weights

__all__ = ["run"]

_STATE_LIMIT = 2.0**23
_UNITY_DECAY = 4096


def run(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Simulate a batch from rest.

    Args:
        description: the network.
        spikes: binary input ``(N, C, ..., T)``, on the device to run on.

    Returns:
        For each spiking layer its spikes ``(N, C, ..., T)``, uint8, in its neurons' own time.
    """
    names = iter(description.spiking)
    layers: dict[str, torch.Tensor] = {}
    for layer in description.layers:
        if isinstance(layer, Flatten):
            spikes = spikes.flatten(1, -2)
        elif not isinstance(layer, Input):
            spikes = _run_layer(layer, spikes)
            layers[next(names)] = spikes
    return layers


def _run_layer(layer: SpikingLayer, spikes: torch.Tensor) -> torch.Tensor:
    activation = _dense(layer, spikes) if isinstance(layer, Dense) else _convolve(layer, spikes)
    bias = None if layer.bias is None else _per_channel(layer.bias, activation)
    return _integrate_and_fire(activation, layer.neuron, bias)


def _dense(layer: Dense, spikes: torch.Tensor) -> torch.Tensor:
    loaded = load_dense_weights(layer.weight)
    delay = layer.delay
    if delay is not None and delay.size != layer.weight.shape[0]:
        spikes = _delay(spikes, delay)
    weight = torch.as_tensor(loaded.mantissa, device=spikes.device)
    dtype = _exact_dtype(weight.abs().sum(1).max())
    activation = torch.matmul(weight.to(dtype), spikes.to(dtype)).double()
    activation = torch.floor(activation * 2.0**loaded.exponent)
    if delay is not None and delay.size == layer.weight.shape[0]:
        activation = _delay(activation, delay)
    return activation


def _convolve(layer: Conv, spikes: torch.Tensor) -> torch.Tensor:
    samples, steps = spikes.shape[0], spikes.shape[-1]
    weight = torch.as_tensor(layer.weight, device=spikes.device)
    dtype = _exact_dtype(weight.abs().flatten(1).sum(1).max())
    frames = spikes.movedim(-1, 1).flatten(0, 1).to(dtype)
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


def _integrate_and_fire(activation: torch.Tensor, neuron: CubaNeuron, bias: torch.Tensor | None) -> torch.Tensor:
    """Loihi's current-based leaky integrate-and-fire neurons, step by step over ``(N, C, ..., T)``."""
    keep_current = (_UNITY_DECAY - _per_channel(neuron.current_decay, activation)) / _UNITY_DECAY
    keep_voltage = (_UNITY_DECAY - _per_channel(neuron.voltage_decay, activation)) / _UNITY_DECAY
    effective_bias = 0.0 if bias is None else bias * 2**6
    threshold = float(neuron.threshold << 6)
    current = torch.zeros_like(activation[..., 0])
    voltage = torch.zeros_like(current)
    spikes = torch.empty(activation.shape, dtype=torch.uint8, device=activation.device)
    for step in range(activation.shape[-1]):
        current = torch.trunc(current * keep_current) + activation[..., step] * 2**6
        current = torch.where(current > _STATE_LIMIT, current - 2 * _STATE_LIMIT, current)
        current = torch.where(current <= -_STATE_LIMIT, current + 2 * _STATE_LIMIT, current)
        voltage = torch.trunc(voltage * keep_voltage) + current + effective_bias
        voltage = voltage.clamp(1 - _STATE_LIMIT, _STATE_LIMIT - 1)
        fired = voltage > threshold
        voltage = voltage.masked_fill(fired, 0)
        spikes[..., step] = fired
    return spikes
