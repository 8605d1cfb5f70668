"""The reference simulator: a netx network in Lava's fixed-point arithmetic, for whole batches, in torch.

Each layer runs in its neurons' own time: step 0 is the first step at which a neuron can see the sample. In that frame
a layer's synaptic input at step t is its weights times the spikes that came in at step t, and no layer waits for the
one before it: the synapses of a layer are one product over the whole sequence, and only the neurons go step by step.
The steps by which Lava and SLAYER shift each layer's output are applied afterwards, in one place.

The arithmetic is that of ``PyLifModelBitAcc`` (``lava/proc/lif/models.py``), ``PyDenseModelBitAcc``
(``lava/proc/dense/models.py``), ``PyConvModelFixed`` (``lava/proc/conv/models.py``) and the fixed-point models of
resonators (``lava/proc/rf``, ``rf_iz``) and sigma-delta neurons (``lava/proc/sdn``) of lava-nc 0.10.0, and exact:
sums of weights are taken in a floating-point type in which no partial sum can round, and the states are int32 as in
Lava, decayed in float64, which holds every product of a 24-bit state and a 12-bit decay.

Tensors are time first inside, ``(T, N, C, ...)``, but lie in memory sample by sample, ``(N, T, C, ...)``: a step is
still made of long runs of neurons, and a sample is turned from and to the outer ``(N, C, ..., T)`` within the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

__all__ = ["chunk_size", "integrate_and_fire", "one_thread", "peaks", "run", "send_changes"]

_STATE_LIMIT = 2**23
_ACTIVATION_LIMIT = 2**23
_UNITY_DECAY = 4096
_MAX_DELAY = 62
# Loihi aligns synaptic input, bias and threshold with its 24-bit states by shifting them up six bits.
_ALIGNMENT = 2**6
# Up to this share of active inputs it is faster to add up weights than to multiply matrices.
_SPARSE_RATE = 0.15
# Working memory per chunk of samples; on a CPU small enough for the states to stay in its cache.
_CHUNK_BYTES = {"cpu": 2**28, "cuda": 2**31}
_BYTES_PER_SPIKE = 12
# Spikes to multiply by weights at a time; on a CPU few enough to stay in its cache, on a GPU enough to fill it.
_BLOCK_SPIKES = {"cpu": 2**20, "cuda": 2**28}
_BYTES_PER_MESSAGE = 64
# A sum counts in units of 1/64 of a message's, and a threshold or bias in units of 64 messages.
_SUM_BITS = 6
_THRESHOLD_BITS = 12
# Lava takes its convolutions in float32, where sums beyond this many bits are rounded, in an order nobody knows.
_FLOAT_BITS = 24


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
    size = largest * steps * (_BYTES_PER_MESSAGE if description.graded else _BYTES_PER_SPIKE)
    return max(1, _CHUNK_BYTES.get(device.type, _CHUNK_BYTES["cpu"]) // size)


def run(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Simulate a batch from rest.

    Args:
        description: the network.
        spikes: binary input ``(N, C, ..., T)``, uint8 or bool, or messages, int32, on the device to run on, beginning
            with ``description.lead`` empty steps, in which a bias may act already.

    Returns:
        For each spiking layer its spikes ``(N, C, ..., T)``, uint8, in its neurons' own time; for sigma-delta neurons
        their messages or sums, int32.
    """
    names = iter(description.spiking)
    layers: dict[str, torch.Tensor] = {}
    frames = spikes.movedim(-1, 1).contiguous().transpose(0, 1)
    for layer in description.layers:
        if isinstance(layer, Flatten):
            frames = frames.flatten(2)
        elif isinstance(layer, SpikingLayer):
            name = next(names)
            frames = _run_layer(layer, frames, _bias_start(description, name))
            layers[name] = frames.movedim(0, -1)
    return layers


def _bias_start(description: NetworkDescription, name: str) -> int:
    return description.lead - description.bias_starts.get(name, 0)


def peaks(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, tuple[float, float]]:
    """The largest size that each layer's current and voltage would reach if they had no limit, on a batch from rest."""
    frames = spikes.movedim(-1, 0)
    found = {}
    for name, raster in run(description, spikes).items():
        layer, fired = description.spiking[name], raster.movedim(-1, 0)
        if isinstance(layer.neuron, CubaNeuron):
            found[name] = _peaks(layer, layer.neuron, _bias_start(description, name), frames, fired)
        frames = fired
    return found


def _peaks(
    layer: SpikingLayer, neuron: CubaNeuron, bias_start: int, frames: torch.Tensor, fired: torch.Tensor
) -> tuple[float, float]:
    activation = _activation(layer, frames).double()
    if isinstance(layer, Recurrent):
        activation[1:] += _recurrence(layer, fired.device)(fired[:-1].flatten(0, 1)).reshape(activation[1:].shape)
    current = voltage = torch.zeros_like(activation[0])
    keep_current, keep_voltage = _kept(neuron.current_decay, current), _kept(neuron.voltage_decay, current)
    bias = getattr(layer, "bias", None)
    drive = torch.zeros_like(current) if bias is None else _per_channel(bias, current) * _ALIGNMENT
    silent = 1 - fired.reshape(activation.shape)
    highest_current = highest_voltage = 0.0
    for step, frame in enumerate(activation):
        current = torch.trunc(current * keep_current) + frame * _ALIGNMENT
        voltage = torch.trunc(voltage * keep_voltage) + current + (drive if step >= bias_start else 0)
        highest_current = max(highest_current, float(current.abs().max()))
        voltage = voltage * silent[step]
        highest_voltage = max(highest_voltage, float(voltage.abs().max()))
    return highest_current, highest_voltage


def _run_layer(layer: SpikingLayer, frames: torch.Tensor, bias_start: int) -> torch.Tensor:
    _refuse_mixture(layer, frames)
    if isinstance(layer, Dense | Conv) and isinstance(layer.neuron, SigmaDeltaNeuron):
        fired = _sigma_delta(layer.neuron, layer.bias, bias_start, _weighted_messages(layer, frames))
    elif isinstance(layer, Resonator):
        fired = _resonate_and_fire(layer, frames.flatten(2))
    else:
        feedback = _recurrence(layer, frames.device) if isinstance(layer, Recurrent) else None
        assert not isinstance(layer.neuron, SigmaDeltaNeuron)  # of which there are no recurrent layers
        activation = _activation(layer, frames)
        fired = integrate_and_fire(activation, layer.neuron, layer.bias, bias_start, feedback, _ALIGNMENT)
    return fired.reshape(*frames.shape[:2], *layer.shape)


def _refuse_mixture(layer: SpikingLayer, frames: torch.Tensor) -> None:
    sigma_delta = isinstance(layer.neuron, SigmaDeltaNeuron)
    if sigma_delta != (frames.dtype == torch.int32):
        raise SimulationError(
            "Sigma-delta neurons are not simulated here together with spikes; such a file can be read and checked "
            "only. All layers have to be of sigma-delta neurons, the input layer included."
        )
    if sigma_delta and getattr(layer, "delay", None) is not None:
        raise SimulationError("Delays of sigma-delta messages are not simulated here; such a file can be read only.")


def _sigma_delta(
    neuron: SigmaDeltaNeuron, bias: IntArray | None, bias_start: int, weighted: torch.Tensor
) -> torch.Tensor:
    """Sigma-delta neurons (``lava/proc/sdn``) over ``(T, N, C, ...)``, int32, which wraps as in Lava."""
    sums = weighted.cumsum(0, dtype=torch.int32)
    if not neuron.sends:
        return sums
    if bias is not None:
        sums[bias_start:] += _per_channel(bias << _THRESHOLD_BITS, sums[0]).to(torch.int32)
    return send_changes(sums.clamp_(min=0), neuron.threshold << _THRESHOLD_BITS) >> _SUM_BITS


@one_thread()
def send_changes(values: torch.Tensor, threshold: int) -> torch.Tensor:
    """The changes of whole numbers along their first axis that reach a threshold; smaller ones wait and add up."""
    sent = torch.empty_like(values)
    before = waiting = torch.zeros_like(values[0])
    for value, message in zip(values, sent, strict=True):
        change = value - before + waiting
        message.copy_(change.masked_fill(change.abs() < threshold, 0))
        before, waiting = value, change - message
    return sent


def _weighted_messages(layer: Dense | Conv, frames: torch.Tensor) -> torch.Tensor:
    """Weighted sums of messages, int32, time first."""
    if isinstance(layer, Conv):
        return _convolve_messages(layer, frames.reshape(*frames.shape[:2], *layer.input_shape))
    loaded = load_dense_weights(layer.weight)
    weight = torch.as_tensor(loaded.mantissa, dtype=torch.float64, device=frames.device)
    sums = (frames.flatten(2).double() @ weight.t()).long().to(torch.int32)
    return sums << loaded.exponent if loaded.exponent > 0 else sums >> -loaded.exponent


def _convolve_messages(layer: Conv, frames: torch.Tensor) -> torch.Tensor:
    weight = torch.as_tensor(layer.weight, dtype=torch.float64, device=frames.device)
    messages = frames.double().flatten(0, 1)
    options = (None, layer.stride, layer.padding, layer.dilation, layer.groups)
    bound = messages.abs().max() * weight.abs().flatten(1).sum(1).max()
    if bound >= 2**_FLOAT_BITS and F.conv2d(messages.abs(), weight.abs(), *options).max() >= 2**_FLOAT_BITS:
        raise SimulationError(
            f"The messages into a convolution add up to more than {_FLOAT_BITS} bits, where Lava's own simulator "
            f"rounds in float32. Scale the input or the weights down."
        )
    sums = F.conv2d(messages, weight, *options)
    wrapped = (sums + _ACTIVATION_LIMIT).remainder_(2 * _ACTIVATION_LIMIT).sub_(_ACTIVATION_LIMIT)
    return wrapped.to(torch.int32).reshape(*frames.shape[:2], *sums.shape[1:])


def _activation(layer: SpikingLayer, frames: torch.Tensor) -> torch.Tensor:
    """Weighted sums of what comes in from outside of the layer: integers in a floating-point type, time first."""
    if isinstance(layer, Conv):
        return _convolve(layer, frames.reshape(*frames.shape[:2], *layer.input_shape))
    if isinstance(layer, Dense):
        return _dense(layer, frames.flatten(2))
    weights = [layer.weight, layer.recurrent_weight] if isinstance(layer, Recurrent) else [layer.weight]
    return _synapses(load_weights(*weights)[0], frames.flatten(2))


def _dense(layer: Dense, frames: torch.Tensor) -> torch.Tensor:
    loaded = load_dense_weights(layer.weight)
    if layer.delay is None:
        return _synapses(loaded, frames)
    delay = layer.delay.clip(0, _MAX_DELAY)  # as netx does
    if delay.shape == layer.weight.shape[:1]:
        return _delay(_synapses(loaded, frames), delay)
    if delay.ndim == 1 and not loaded.rounds:
        return _synapses(loaded, _delay(frames, delay))
    return _synaptic_delay(loaded, np.broadcast_to(delay, layer.weight.shape), frames)


def _synaptic_delay(loaded: LoadedWeights, delay: IntArray, frames: torch.Tensor) -> torch.Tensor:
    """Weighted sums with a delay on each synapse: spikes of the same delay are summed up, and then wait together."""
    total: torch.Tensor | None = None
    for steps in np.unique(delay):
        group = LoadedWeights(np.where(delay == steps, loaded.mantissa, 0), loaded.exponent)
        waiting = _delay(_synapses(group, frames), np.full(len(delay), steps))
        total = waiting if total is None else total + waiting
    assert total is not None  # a layer has at least one synapse
    return total


def _recurrence(layer: Recurrent, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a recurrent layer's spikes ``(rows, C)`` of one step add to its input at the next."""
    loaded = load_weights(layer.weight, layer.recurrent_weight)[1]
    return _sums(loaded, device)


def _synapses(loaded: LoadedWeights, frames: torch.Tensor) -> torch.Tensor:
    """Sums ``(T, N, out)`` of loaded weights over spikes ``(T, N, in)``."""
    return _by_rows(_sums(loaded, frames.device), frames)


def _by_rows(function: Callable[[torch.Tensor], torch.Tensor], frames: torch.Tensor) -> torch.Tensor:
    """Apply a function of rows to every sample and step of ``(T, N, ...)``, as they follow each other in memory."""
    by_sample = frames.transpose(0, 1)
    rows = function(by_sample.flatten(0, 1))
    return rows.reshape(*by_sample.shape[:2], *rows.shape[1:]).transpose(0, 1)


def _sums(loaded: LoadedWeights, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Sums ``(rows, out)`` of loaded weights over spikes ``(rows, in)``, as a function of the spikes."""
    integers = torch.as_tensor(loaded.mantissa if loaded.rounds else loaded.effective, device=device)
    magnitude = integers.abs()
    weight = integers.to(_exact_dtype(magnitude.sum(1).max(), magnitude.max())).t().contiguous()
    if not loaded.rounds:
        return lambda spikes: _weighted_sums(spikes, weight)
    return lambda spikes: (_weighted_sums(spikes, weight) * 2.0**loaded.exponent).floor()


def _weighted_sums(spikes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The product of ``(rows, in)`` spikes and ``(in, out)`` weights, in a time that follows the number of spikes."""
    sums = torch.empty((len(spikes), weight.shape[1]), dtype=weight.dtype, device=weight.device)
    rows = max(1, _BLOCK_SPIKES.get(spikes.device.type, _BLOCK_SPIKES["cpu"]) // spikes.shape[1])
    for block, target in zip(spikes.split(rows), sums.split(rows), strict=True):
        active = _active(block.reshape(-1))
        if len(active) > _SPARSE_RATE * block.numel():
            torch.mm(block.to(weight.dtype), weight, out=target)
        else:
            target.copy_(_sums_of_active(active, len(block), weight))
    return sums


def _active(spikes: torch.Tensor) -> torch.Tensor:
    """Where a flat raster has spikes; numpy finds rare ones in a third of torch's time."""
    if spikes.is_cuda:
        return spikes.nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(spikes.numpy().view(np.bool_)))


@one_thread()
def _sums_of_active(active: torch.Tensor, rows: int, weight: torch.Tensor) -> torch.Tensor:
    """The weights of the active inputs of each row, added up; they are given by their places in all rows."""
    inputs = len(weight)
    starts = torch.searchsorted(active, torch.arange(0, rows * inputs, inputs, device=active.device))
    return F.embedding_bag(active % inputs, weight, starts, mode="sum")


def _convolve(layer: Conv, frames: torch.Tensor) -> torch.Tensor:
    """Synaptic input ``(T, N, C, H, W)`` of spikes ``(T, N, C, H, W)``: integers in a floating-point type."""
    weight = torch.as_tensor(layer.weight, device=frames.device)
    magnitude = weight.abs()
    largest_sum = magnitude.flatten(1).sum(1).max()
    # cuDNN may take a Winograd algorithm, which is not exact on integers; in float64 it has none.
    dtype = torch.float64 if frames.is_cuda else _exact_dtype(largest_sum, magnitude.max())
    kernel = weight.to(dtype)

    def convolve(rows: torch.Tensor) -> torch.Tensor:
        return F.conv2d(rows.to(dtype), kernel, None, layer.stride, layer.padding, layer.dilation, layer.groups)

    with torch.backends.nnpack.flags(enabled=False):  # NNPACK's convolution is Winograd's too
        sums = _by_rows(convolve, frames)
    if largest_sum >= _ACTIVATION_LIMIT:
        sums = (sums + _ACTIVATION_LIMIT).remainder_(2 * _ACTIVATION_LIMIT).sub_(_ACTIVATION_LIMIT)
    return sums


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
def integrate_and_fire(
    synaptic_input: torch.Tensor,
    neuron: CubaNeuron,
    bias: IntArray | None = None,
    bias_start: int = 0,
    feedback: Callable[[torch.Tensor], torch.Tensor] | None = None,
    scale: int = 1,
) -> torch.Tensor:
    """Loihi's current-based leaky integrate-and-fire neurons over ``(T, N, C, ...)``, step by step in place.

    Args:
        synaptic_input: whole numbers of any type.
        neuron: parameters of the neurons.
        bias: bias mantissa per channel, or None.
        bias_start: the step from which on the bias acts.
        feedback: what the spikes ``(N, C)`` of one step add to the synaptic input of the next, or None.
        scale: what aligns the synaptic input with the state: 64 for weighted sums.

    Returns:
        Spikes, uint8.
    """
    current = torch.zeros_like(synaptic_input[0], dtype=torch.int32)
    # The voltage is kept with its sign turned, since torch has an operation that resets what lies below a threshold.
    depth, synaptic = torch.zeros_like(current), torch.empty_like(current)
    product = torch.empty_like(current, dtype=torch.float64)
    spikes = torch.empty_like(synaptic_input, dtype=torch.uint8)
    keep_current, keep_voltage = _kept(neuron.current_decay, current), _kept(neuron.voltage_decay, current)
    drive = None if bias is None else (_per_channel(bias, current) * _ALIGNMENT).to(torch.int32)
    lowest = -neuron.threshold * _ALIGNMENT
    may_wrap = feedback is not None or _may_wrap(synaptic_input, neuron, scale)
    for step, (frame, fired) in enumerate(zip(synaptic_input, spikes, strict=True)):
        synaptic.copy_(frame)
        if feedback is not None and step > 0:
            synaptic.add_(feedback(spikes[step - 1]).to(torch.int32))
        # Copying a float into an int cuts off towards zero, as Lava's decay does.
        current.copy_(product.copy_(current).mul_(keep_current)).add_(synaptic, alpha=scale)
        if may_wrap:
            _wrap(current)
        depth.copy_(product.copy_(depth).mul_(keep_voltage)).sub_(current)
        if drive is not None and step >= bias_start:
            depth.sub_(drive)
        depth.clamp_(1 - _STATE_LIMIT, _STATE_LIMIT - 1)
        torch.lt(depth, lowest, out=fired)
        torch.threshold_(depth, lowest - 1, 0)
    return spikes


def _resonate_and_fire(layer: Resonator, frames: torch.Tensor) -> torch.Tensor:
    """Loihi's resonate-and-fire neurons (``lava/proc/rf``, ``lava/proc/rf_iz``) over ``(T, N, C)``, step by step."""
    real_input = _synapses(load_dense_weights(layer.weight), frames).double() * _ALIGNMENT
    imag_input = _synapses(load_dense_weights(layer.imaginary_weight), frames).double() * _ALIGNMENT
    neuron = layer.neuron
    real = imag = torch.zeros_like(real_input[0])
    sin = _per_channel(neuron.sin_decay, real) / _UNITY_DECAY
    cos = _per_channel(neuron.cos_decay, real) / _UNITY_DECAY
    threshold = float(neuron.threshold * _ALIGNMENT)
    spikes = torch.empty_like(real_input, dtype=torch.uint8)
    for step, fired in enumerate(spikes):
        new_real = torch.trunc(cos * real) - torch.trunc(sin * imag) + real_input[step]
        new_imag = torch.trunc(sin * real) + torch.trunc(cos * imag) + imag_input[step]
        new_real = new_real.clamp(1 - _STATE_LIMIT, _STATE_LIMIT - 1)
        new_imag = new_imag.clamp(1 - _STATE_LIMIT, _STATE_LIMIT - 1)
        if neuron.reset == "phase":
            now = (new_real >= threshold) & (new_imag >= 0) & (imag < 0)
        else:
            now = new_imag >= threshold
            new_real = new_real.masked_fill(now, 0)
            new_imag = new_imag.masked_fill(now, threshold - 1)
        real, imag = new_real, new_imag
        fired.copy_(now)
    return spikes


def _kept(decay: IntArray, state: torch.Tensor) -> torch.Tensor:
    """The share of a state that is left after a step."""
    return _per_channel(_UNITY_DECAY - decay, state) / _UNITY_DECAY


def _per_channel(values: IntArray, state: torch.Tensor) -> torch.Tensor:
    """One value, or one per channel, for each neuron of a state ``(N, C, ...)``, float64."""
    tensor = torch.as_tensor(values, dtype=torch.float64, device=state.device)
    return tensor.reshape(-1, *[1] * (state.dim() - 2)).expand_as(state).contiguous()


def _may_wrap(synaptic_input: torch.Tensor, neuron: CubaNeuron, scale: int) -> bool:
    """Whether a current could leave 24 bits: the sum of a geometric series bounds it, and the number of steps."""
    low, high = torch.aminmax(synaptic_input)
    peak = max(float(high), -float(low)) * scale
    decay = int(neuron.current_decay.min())
    steps = len(synaptic_input) if decay == 0 else min(len(synaptic_input), _UNITY_DECAY / decay)
    return peak * steps >= _STATE_LIMIT


def _wrap(current: torch.Tensor) -> None:
    """Lava's one-time wrap of a current that left 24 bits, in place."""
    current.sub_((current > _STATE_LIMIT).to(torch.int32), alpha=2 * _STATE_LIMIT)
    current.add_((current <= -_STATE_LIMIT).to(torch.int32), alpha=2 * _STATE_LIMIT)
