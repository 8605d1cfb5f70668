"""The reference simulator: a netx network in Lava's fixed-point arithmetic, for whole batches, in torch.

Each layer runs in its neurons' own time: step 0 is the first step at which a neuron can see the sample. In that frame
a layer's synaptic input at step t is its weights times the spikes that came in at step t, and no layer waits for the
one before it: the synapses of a layer are one product over the whole sequence, and only the neurons go step by step.
The steps by which Lava and SLAYER shift each layer's output are applied afterwards, in one place.

The arithmetic is that of ``PyLifModelBitAcc`` (``lava/proc/lif/models.py``), ``PyDenseModelBitAcc``
(``lava/proc/dense/models.py``) and ``PyConvModelFixed`` (``lava/proc/conv/models.py``) of lava-nc 0.10.0, and exact:
sums of weights are taken in a floating-point type in which no partial sum can round, and the states are int32 as in
Lava, decayed in float64, which holds every product of a 24-bit state and a 12-bit decay.

Tensors are time first inside, ``(T, N, C, ...)``, so that the neurons of one step lie side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from netx_export.description import Conv, CubaNeuron, Dense, Flatten, Input, IntArray, NetworkDescription, SpikingLayer
from netx_export.errors import SimulationError
from netx_export.loading import LoadedWeights, load_dense_weights

__all__ = ["chunk_size", "one_thread", "run"]

_STATE_LIMIT = 2**23
_ACTIVATION_LIMIT = 2**23
_UNITY_DECAY = 4096
# Loihi aligns synaptic input, bias and threshold with its 24-bit states by shifting them up six bits.
_ALIGNMENT = 2**6
# Up to this share of active inputs it is faster to add up weights than to multiply matrices.
_SPARSE_RATE = 0.15
# Working memory per chunk of samples; on a CPU small enough for the states to stay in its cache.
_CHUNK_BYTES = {"cpu": 2**27, "cuda": 2**31}
_BYTES_PER_SPIKE = 16


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch inside: steps this small gain nothing from more, and lose a lot where a core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def chunk_size(description: NetworkDescription, steps: int, device: torch.device) -> int:
    """Samples to simulate at a time, so that the working memory is bounded for any number of samples."""
    shapes = [description.input_shape, *(layer.shape for layer in description.spiking.values())]
    largest = max(int(torch.Size(shape).numel()) for shape in shapes)
    return max(1, _CHUNK_BYTES.get(device.type, _CHUNK_BYTES["cpu"]) // (largest * steps * _BYTES_PER_SPIKE))


def run(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Simulate a batch from rest.

    Args:
        description: the network.
        spikes: binary input ``(N, C, ..., T)``, uint8 or bool, on the device to run on.

    Returns:
        For each spiking layer its spikes ``(N, C, ..., T)``, uint8, in its neurons' own time.
    """
    names = iter(description.spiking)
    layers: dict[str, torch.Tensor] = {}
    frames = spikes.movedim(-1, 0).contiguous()
    for layer in description.layers:
        if isinstance(layer, Flatten):
            frames = frames.flatten(2)
        elif not isinstance(layer, Input):
            frames = _run_layer(layer, frames)
            layers[next(names)] = frames.movedim(0, -1)
    return layers


def _run_layer(layer: SpikingLayer, frames: torch.Tensor) -> torch.Tensor:
    activation = _dense(layer, frames) if isinstance(layer, Dense) else _convolve(layer, frames)
    return _integrate_and_fire(activation, layer.neuron, layer.bias)


def _dense(layer: Dense, frames: torch.Tensor) -> torch.Tensor:
    """Synaptic input ``(T, N, out)`` of spikes ``(T, N, in)``: integers in a floating-point type."""
    delay = layer.delay
    delays_neurons = delay is not None and delay.size == layer.weight.shape[0]
    if delay is not None and not delays_neurons:
        frames = _delay(frames, delay)
    loaded = load_dense_weights(layer.weight)
    if loaded.rounds and delay is not None and not delays_neurons:
        raise SimulationError("Lava rounds the sum of each delay by itself for these weights, which is not reproduced.")
    activation = _synapses(loaded, frames)
    return _delay(activation, delay) if delay is not None and delays_neurons else activation


def _synapses(loaded: LoadedWeights, frames: torch.Tensor) -> torch.Tensor:
    """Sums ``(T, N, out)`` of loaded weights over spikes ``(T, N, in)``."""
    weight = torch.as_tensor(loaded.mantissa if loaded.rounds else loaded.effective, device=frames.device)
    sums = _weighted_sums(frames.flatten(0, 1), weight.t().contiguous())
    if loaded.rounds:
        sums = (sums * 2.0**loaded.exponent).floor()
    return sums.reshape(*frames.shape[:2], *sums.shape[1:])


def _weighted_sums(spikes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The product of ``(rows, in)`` spikes and ``(in, out)`` weights, in a time that follows the number of spikes."""
    magnitude = weight.abs()
    weight = weight.to(_exact_dtype(magnitude.sum(0).max(), magnitude.max()))
    if int(torch.count_nonzero(spikes)) > _SPARSE_RATE * spikes.numel():
        return spikes.to(weight.dtype) @ weight
    return _sums_of_active(spikes, weight)


@one_thread()
def _sums_of_active(spikes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same, adding up the weights of the active inputs of each row."""
    rows, inputs = spikes.shape
    active = spikes.reshape(-1).nonzero().squeeze(1)
    offsets = torch.searchsorted(active, torch.arange(0, rows * inputs, inputs, device=spikes.device))
    return F.embedding_bag(active % inputs, weight, offsets, mode="sum")


def _convolve(layer: Conv, frames: torch.Tensor) -> torch.Tensor:
    """Synaptic input ``(T, N, C, H, W)`` of spikes ``(T, N, C, H, W)``: integers in a floating-point type."""
    weight = torch.as_tensor(layer.weight, device=frames.device)
    magnitude = weight.abs()
    largest_sum = magnitude.flatten(1).sum(1).max()
    # cuDNN may take a Winograd algorithm, which is not exact on integers; in float64 it has none.
    dtype = torch.float64 if frames.is_cuda else _exact_dtype(largest_sum, magnitude.max())
    with torch.backends.nnpack.flags(enabled=False):  # NNPACK's convolution is Winograd's too
        sums = F.conv2d(
            frames.flatten(0, 1).to(dtype),
            weight.to(dtype),
            None,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
        )
    if largest_sum >= _ACTIVATION_LIMIT:
        sums = (sums + _ACTIVATION_LIMIT).remainder_(2 * _ACTIVATION_LIMIT).sub_(_ACTIVATION_LIMIT)
    return sums.reshape(*frames.shape[:2], *sums.shape[1:])


def _exact_dtype(largest_sum: torch.Tensor, largest_weight: torch.Tensor) -> torch.dtype:
    """The fastest type in which sums of such integers are exact in every order.

    Up to 256 a weight is exact in the short types that torch may be set to multiply float32 in on a GPU.
    """
    return torch.float32 if largest_sum < 2**24 and largest_weight <= 256 else torch.float64


def _delay(values: torch.Tensor, delay: IntArray) -> torch.Tensor:
    """Shift each channel of ``(T, N, C)`` by its own number of steps, zeros in front."""
    steps = torch.arange(len(values), device=values.device)
    source = (steps.unsqueeze(-1) - torch.as_tensor(delay, device=values.device)).unsqueeze(1)
    return values.gather(0, source.clamp(min=0).expand_as(values)).mul_(source >= 0)


@one_thread()
def _integrate_and_fire(activation: torch.Tensor, neuron: CubaNeuron, bias: IntArray | None) -> torch.Tensor:
    """Loihi's current-based leaky integrate-and-fire neurons over ``(T, N, C, ...)``, step by step in place."""
    current = torch.zeros_like(activation[0], dtype=torch.int32)
    voltage, synaptic, silent = torch.zeros_like(current), torch.empty_like(current), torch.empty_like(current)
    product = torch.empty_like(current, dtype=torch.float64)
    spikes = torch.empty_like(activation, dtype=torch.uint8)
    keep_current = _per_channel(_UNITY_DECAY - neuron.current_decay, current) / _UNITY_DECAY
    keep_voltage = _per_channel(_UNITY_DECAY - neuron.voltage_decay, current) / _UNITY_DECAY
    bias_step = None if bias is None else (_per_channel(bias, current) * _ALIGNMENT).to(torch.int32)
    threshold = neuron.threshold * _ALIGNMENT
    may_wrap = _may_wrap(activation, neuron)
    for frame, fired in zip(activation, spikes, strict=True):
        synaptic.copy_(frame).mul_(_ALIGNMENT)
        # Copying a float into an int cuts off towards zero, as Lava's decay does.
        current.copy_(product.copy_(current).mul_(keep_current)).add_(synaptic)
        if may_wrap:
            _wrap(current)
        voltage.copy_(product.copy_(voltage).mul_(keep_voltage)).add_(current)
        if bias_step is not None:
            voltage.add_(bias_step)
        voltage.clamp_(1 - _STATE_LIMIT, _STATE_LIMIT - 1)
        torch.gt(voltage, threshold, out=fired)
        torch.le(voltage, threshold, out=silent)
        voltage.mul_(silent)
    return spikes


def _per_channel(values: IntArray, state: torch.Tensor) -> torch.Tensor:
    """One value, or one per channel, for each neuron of a state ``(N, C, ...)``, float64."""
    tensor = torch.as_tensor(values, dtype=torch.float64, device=state.device)
    return tensor.reshape(-1, *[1] * (state.dim() - 2)).expand_as(state).contiguous()


def _may_wrap(activation: torch.Tensor, neuron: CubaNeuron) -> bool:
    """Whether a current could leave 24 bits: the sum of a geometric series bounds it, and the number of steps."""
    low, high = torch.aminmax(activation)
    peak = _ALIGNMENT * max(float(high), -float(low))
    decay = int(neuron.current_decay.min())
    steps = len(activation) if decay == 0 else min(len(activation), _UNITY_DECAY / decay)
    return peak * steps >= _STATE_LIMIT


def _wrap(current: torch.Tensor) -> None:
    """Lava's one-time wrap of a current that left 24 bits, in place."""
    current.sub_((current > _STATE_LIMIT).to(torch.int32), alpha=2 * _STATE_LIMIT)
    current.add_((current <= -_STATE_LIMIT).to(torch.int32), alpha=2 * _STATE_LIMIT)
