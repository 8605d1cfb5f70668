"""One neuron of a network, step by step in whole numbers, under assumptions that can be changed one by one.

The reference simulator computes what a whole network does. This follows a single neuron: its membrane at each step, and
what it would have done if, say, its current did not wrap around or its weights were not altered. It is written
independently of the reference simulator, from the same process models of Lava, and tested against both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from netx_export.network.description import Conv, CubaNeuron, Dense, Recurrent, Resonator, SpikingLayer
from netx_export.network.fixed_point import ALIGNMENT_BITS, STATE_LIMIT, UNITY_DECAY, IntArray
from netx_export.network.stock_loader import LoadedWeights, load_weights
from netx_export.run import Spikes

__all__ = ["AS_LAVA", "Assumptions", "Trace", "shifted", "trace", "variations"]


_Array = TypeVar("_Array", bound=npt.NDArray[Any])


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of a neuron; the defaults are what Lava does.

    Attributes:
        loaded_weights: whether the weights are those that netx and Lava make of the file's.
        wraps: whether the current wraps around at 24 bits.
        saturates: whether the voltage stops at 24 bits.
        delayed: whether the layer's delays act.
        extra_delay: further steps of delay.
        has_bias: whether the layer's bias acts.
        early_bias: steps by which the bias acts too early.
    """

    loaded_weights: bool = True
    wraps: bool = True
    saturates: bool = True
    delayed: bool = True
    extra_delay: int = 0
    has_bias: bool = True
    early_bias: int = 0


AS_LAVA = Assumptions()


@dataclass(frozen=True, eq=False)
class Trace:
    """A neuron's steps.

    Attributes:
        spikes: ``(T,)``, in local time, of which step 0 is the first step at which the sample can reach the neuron.
        membrane: ``(T,)``, what is compared with the threshold, before the reset.
        wrapped, saturated: whether the current wrapped around, and whether the voltage stopped at its limit.
    """

    spikes: Spikes
    membrane: IntArray
    wrapped: bool
    saturated: bool


def trace(
    layer: SpikingLayer,
    neuron: tuple[int, ...],
    inputs: Spikes,
    feedback: Spikes | None = None,
    bias_start: int = 0,
    assumed: Assumptions = AS_LAVA,
) -> Trace:
    """Run one neuron from rest.

    Args:
        layer: its layer.
        neuron: its index in the layer's shape.
        inputs: spikes that come into the layer, ``(C, ..., T)``, in local time.
        feedback: spikes of the layer itself ``(out, T)``; needed for a recurrent layer.
        bias_start: step from which a bias acts.
        assumed: what is assumed of the neuron.
    """
    index = int(np.ravel_multi_index(neuron, layer.shape))
    if isinstance(layer, Resonator):
        return _resonate(layer, index, inputs.reshape(-1, inputs.shape[-1]))
    incoming = _convolved(layer, index, inputs) if isinstance(layer, Conv) else _summed(layer, index, inputs, assumed)
    if isinstance(layer, Recurrent):
        if feedback is None:
            raise ValueError("Expected argument `feedback` for a recurrent layer but got None.")
        incoming = incoming + _fed_back(layer, index, feedback, assumed)
    incoming = shifted(incoming, assumed.extra_delay)
    channel = int(np.unravel_index(index, layer.spatial_shape)[0]) if isinstance(layer, Conv) else index
    if not isinstance(layer.neuron, CubaNeuron):
        raise ValueError(f"Expected a CUBA neuron but got {type(layer.neuron).__name__}.")
    bias = 0 if layer.bias is None or not assumed.has_bias else _of_channel(layer.bias, channel, layer)
    decays = (_of_channel(decay, channel, layer) for decay in (layer.neuron.current_decay, layer.neuron.voltage_decay))
    keep_current, keep_voltage = (UNITY_DECAY - decay for decay in decays)
    return _integrate(
        incoming, keep_current, keep_voltage, layer.neuron.threshold << ALIGNMENT_BITS, bias, bias_start, assumed
    )


def _channels(layer: SpikingLayer) -> int:
    return int(layer.weight.shape[0])


def _of_channel(values: IntArray, channel: int, layer: SpikingLayer) -> int:
    """One channel's value, where there may be one for all."""
    return int(np.broadcast_to(values, _channels(layer))[channel])


def _weights(weight: LoadedWeights, raw: IntArray, assumed: Assumptions) -> LoadedWeights:
    return weight if assumed.loaded_weights else LoadedWeights(raw, 0)


def _summed(layer: SpikingLayer, index: int, inputs: Spikes, assumed: Assumptions) -> IntArray:
    """Weighted sum of the spikes into one neuron of a matrix layer, ``(T,)``."""
    spikes = inputs.reshape(-1, inputs.shape[-1]).astype(np.int64)
    raw = [layer.weight, layer.recurrent_weight] if isinstance(layer, Recurrent) else [layer.weight]
    weights = _weights(load_weights(*raw)[0], layer.weight, assumed)
    row = weights.mantissa[index]
    delay = layer.delay if isinstance(layer, Dense) and assumed.delayed else None
    if delay is None:
        return _scaled(row @ spikes, weights.exponent)
    if delay.ndim == 1 and delay.size == _channels(layer):
        return shifted(_scaled(row @ spikes, weights.exponent), int(delay[index]))
    each = delay[index] if delay.ndim == 2 else delay
    if delay.ndim == 1:
        delayed = np.stack([shifted(train, int(steps)) for train, steps in zip(spikes, each, strict=True)])
        return _scaled(row @ delayed, weights.exponent)
    # Lava scales the sum of each delay by itself.
    sums = [
        shifted(_scaled(np.where(each == steps, row, 0) @ spikes, weights.exponent), int(steps))
        for steps in np.unique(each)
    ]
    total: IntArray = np.sum(sums, axis=0, dtype=np.int64)
    return total


def _fed_back(layer: Recurrent, index: int, feedback: Spikes, assumed: Assumptions) -> IntArray:
    weights = _weights(load_weights(layer.weight, layer.recurrent_weight)[1], layer.recurrent_weight, assumed)
    sums = weights.mantissa[index] @ feedback.reshape(-1, feedback.shape[-1]).astype(np.int64)
    return shifted(_scaled(sums, weights.exponent), 1)


def _scaled(sums: IntArray, exponent: int) -> IntArray:
    return np.left_shift(sums, exponent) if exponent >= 0 else np.right_shift(sums, -exponent)


def shifted(values: _Array, steps: int) -> _Array:
    """Values along the last axis a number of steps later, or earlier if it is negative; zeros come in."""
    shifted: _Array = np.zeros_like(values)
    length = values.shape[-1]
    if steps >= 0:
        shifted[..., steps:] = values[..., : max(0, length - steps)]
    else:
        shifted[..., :steps] = values[..., -steps:]
    return shifted


def _convolved(layer: Conv, index: int, inputs: Spikes) -> IntArray:
    """Weighted sum of the spikes in one neuron's window, ``(T,)``."""
    channel, *position = (int(place) for place in np.unravel_index(index, layer.spatial_shape))
    frames = inputs.reshape(*layer.input_shape, inputs.shape[-1]).astype(np.int64)
    kernel = layer.weight[channel]
    first = channel // (layer.weight.shape[0] // layer.groups) * len(kernel)
    (top, bottom), (left, right) = ((size, size) for size in layer.padding)
    padded = np.pad(frames[first : first + len(kernel)], [(0, 0), (top, bottom), (left, right), (0, 0)])
    starts = [place * stride for place, stride in zip(position, layer.stride, strict=True)]
    rows, columns = (
        slice(start, start + dilation * (size - 1) + 1, dilation)
        for start, dilation, size in zip(starts, layer.dilation, kernel.shape[1:], strict=True)
    )
    sums: IntArray = np.einsum("chw,chwt->t", kernel, padded[:, rows, columns])
    return sums


def _integrate(
    incoming: IntArray,
    keep_current: int,
    keep_voltage: int,
    threshold: int,
    bias: int,
    bias_start: int,
    assumed: Assumptions,
) -> Trace:
    """``PyLifModelBitAcc`` of lava-nc 0.10.0 for one neuron."""
    spikes = np.zeros(len(incoming), np.uint8)
    membrane = np.zeros(len(incoming), np.int64)
    current = voltage = 0
    wrapped = saturated = False
    bias_start -= assumed.early_bias
    for step in range(min(0, bias_start), len(incoming)):
        synaptic = int(incoming[step]) << ALIGNMENT_BITS if step >= 0 else 0
        current = _decayed(current, keep_current) + synaptic
        if assumed.wraps and not -STATE_LIMIT < current <= STATE_LIMIT:
            wrapped = True
            current += 2 * STATE_LIMIT if current < 0 else -2 * STATE_LIMIT
        voltage = _decayed(voltage, keep_voltage) + current + (bias << ALIGNMENT_BITS if step >= bias_start else 0)
        if assumed.saturates and abs(voltage) >= STATE_LIMIT:
            saturated = True
            voltage = max(1 - STATE_LIMIT, min(STATE_LIMIT - 1, voltage))
        fired = voltage > threshold
        if step >= 0:
            membrane[step], spikes[step] = voltage, fired
        voltage = 0 if fired else voltage
    return Trace(spikes, membrane, wrapped, saturated)


def _decayed(state: int, keep: int) -> int:
    """The state after one step of decay, cut off towards zero."""
    product = state * keep
    return product >> 12 if product >= 0 else -(-product >> 12)


def _resonate(layer: Resonator, index: int, inputs: Spikes) -> Trace:
    """``PyRFModelFixed`` and ``PyRF_IZ`` of lava-nc 0.10.0 for one neuron; the membrane is what is reset at a spike."""
    spikes = inputs.astype(np.int64)
    real_input, imaginary_input = (
        _scaled(loaded.mantissa[index] @ spikes, loaded.exponent) << ALIGNMENT_BITS
        for loaded in (load_weights(layer.weight)[0], load_weights(layer.imaginary_weight)[0])
    )
    sin, cos = (_of_channel(decay, index, layer) for decay in (layer.neuron.sin_decay, layer.neuron.cos_decay))
    threshold = layer.neuron.threshold << ALIGNMENT_BITS
    fired = np.zeros(len(real_input), np.uint8)
    membrane = np.zeros(len(real_input), np.int64)
    real = imaginary = 0
    saturated = False
    for step, (real_in, imaginary_in) in enumerate(zip(real_input.tolist(), imaginary_input.tolist(), strict=True)):
        states = (
            _decayed(real, cos) - _decayed(imaginary, sin) + real_in,
            _decayed(real, sin) + _decayed(imaginary, cos) + imaginary_in,
        )
        saturated |= any(abs(state) >= STATE_LIMIT for state in states)
        new_real, new_imaginary = (max(1 - STATE_LIMIT, min(STATE_LIMIT - 1, state)) for state in states)
        if layer.neuron.reset == "phase":
            membrane[step] = new_real
            fired[step] = new_real >= threshold and new_imaginary >= 0 and imaginary < 0
        else:
            membrane[step] = new_imaginary
            fired[step] = new_imaginary >= threshold
            if fired[step]:
                new_real, new_imaginary = 0, threshold - 1
        real, imaginary = new_real, new_imaginary
    return Trace(fired, membrane, False, saturated)


def variations(layer: SpikingLayer) -> Iterator[tuple[str, str, Assumptions]]:
    """Causes that a single neuron can show: name, what was assumed, and the assumptions."""
    yield "wrapped current", "its current does not wrap around at 24 bits", Assumptions(wraps=False)
    yield "saturated voltage", "its voltage does not stop at 24 bits", Assumptions(saturates=False)
    yield (
        "saturated voltage",
        "neither its current wraps around nor its voltage stops at 24 bits",
        Assumptions(wraps=False, saturates=False),
    )
    yield (
        "weight altered on load",
        "its weights are those in the file, not what netx and Lava make of them",
        Assumptions(loaded_weights=False),
    )
    if isinstance(layer, Dense) and layer.delay is not None:
        yield "delay", "the layer's delays do not act", Assumptions(delayed=False)
    for steps in (1, -1, 2, -2):
        direction = "later" if steps > 0 else "earlier"
        yield "delay", f"its input comes {abs(steps)} step(s) {direction}", Assumptions(extra_delay=steps)
    if getattr(layer, "bias", None) is not None:
        for steps in (1, 2, 3):
            yield "bias a step early", f"its bias acts {steps} step(s) earlier", Assumptions(early_bias=steps)
        yield "bias", "its bias does not act", Assumptions(has_bias=False)
