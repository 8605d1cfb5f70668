"""Which numbers of a layer Lava's CPU simulator holds as they are: outside of them it would compute with another one.

The reference simulator is Lava bit for bit within these registers. A number outside of them is not simulated at all:
the reader refuses the file, the exporter the network. That a number fits here does not mean that it fits a chip, whose
registers are narrower: that is what :func:`netx_export.check` looks at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from netx_export.network.fixed_point import (
    ALIGNMENT_BITS,
    HIGHEST_BIAS,
    LOWEST_BIAS,
    MAX_CONV_SIZE,
    MAX_INT32,
    MAX_STATE,
    MESSAGE_BITS,
    MIN_QUANTISED,
    UNITY_DECAY,
    WEIGHT_SCALE,
    IntArray,
)
from netx_export.network.layers import (
    Affine,
    Conv,
    CubaNeuron,
    Encoder,
    Input,
    Layer,
    Neuron,
    ResonatorNeuron,
    SigmaDeltaNeuron,
    SpikingLayer,
)

__all__ = ["outside_registers"]


@dataclass(frozen=True)
class _Register:
    """The lowest and the highest number that Lava holds as it is, and why."""

    low: int
    high: int
    why: str


_DECAY = _Register(0, UNITY_DECAY, "a decay is a share of 4096")
_ROTATION = _Register(-UNITY_DECAY, UNITY_DECAY, "a rotation that does not grow is a share of 4096")
# A neuron whose threshold lies below zero, or a resonator's at zero, fires before any input can have reached it.
_THRESHOLD = _Register(0, 2**24, "below, neurons fire without input, and from 2^17 on none can fire")
_RESONATOR_THRESHOLD = _Register(
    1, MAX_INT32 >> ALIGNMENT_BITS, "below, neurons fire without input, and Lava shifts it up by 6 bits, in 32"
)
_MAX_SHIFTED = MAX_INT32 >> MESSAGE_BITS
_SIGMA_DELTA_THRESHOLD = _Register(0, _MAX_SHIFTED, "Lava shifts it up by 12 bits, in 32")
_BIAS = _Register(LOWEST_BIAS, HIGHEST_BIAS, "Lava holds it in 16 bits")
_SIGMA_DELTA_BIAS = _Register(
    ~(MAX_INT32 >> MESSAGE_BITS), MAX_INT32 >> MESSAGE_BITS, "Lava shifts it up by 12 bits, in 32"
)
_CONVOLUTION_SIZE = _Register(0, MAX_CONV_SIZE, "Lava holds it in 8 bits")
_KERNEL_SUM = _Register(0, 2**27, "sums of messages have to fit the 53 bits in which Lava takes them")
_ENCODED = _Register(0, MAX_STATE, "the input neurons' numbers have to fit 24 bits")


def outside_registers(layer: Layer) -> Iterator[str]:
    """The numbers of a layer that Lava would not hold as they are: what each is, what would be held, and why."""
    if isinstance(layer, SpikingLayer):
        yield from _neuron(layer.neuron)
        yield from _layer(layer)
    elif isinstance(layer, Input) and layer.encoder is not None:
        yield from _neuron(layer.encoder.neuron)
        yield from _encoder(layer.encoder)
    elif isinstance(layer, Affine) and layer.neuron is not None:
        yield from _neuron(layer.neuron)


def _neuron(neuron: Neuron) -> Iterator[str]:
    if isinstance(neuron, CubaNeuron):
        yield from _outside("threshold", neuron.threshold, _THRESHOLD)
        yield from _outside("current decay", neuron.current_decay, _DECAY)
        yield from _outside("voltage decay", neuron.voltage_decay, _DECAY)
    elif isinstance(neuron, ResonatorNeuron):
        yield from _outside("threshold", neuron.threshold, _RESONATOR_THRESHOLD)
        yield from _outside("sine decay", neuron.sin_decay, _ROTATION)
        yield from _outside("cosine decay", neuron.cos_decay, _ROTATION)
    else:
        yield from _outside("threshold", neuron.threshold, _SIGMA_DELTA_THRESHOLD)


def _layer(layer: SpikingLayer) -> Iterator[str]:
    graded = isinstance(layer.neuron, SigmaDeltaNeuron)
    bias: IntArray | None = getattr(layer, "bias", None)
    if bias is not None:
        yield from _outside("bias", bias, _SIGMA_DELTA_BIAS if graded else _BIAS)
    if isinstance(layer, Conv):
        yield from _outside("kernel size", layer.weight.shape[2:], _CONVOLUTION_SIZE)
        for name in ("stride", "padding", "dilation", "groups"):
            yield from _outside(name, getattr(layer, name), _CONVOLUTION_SIZE)
    if isinstance(layer, Conv) and graded:
        sums = np.abs(layer.weight.reshape(len(layer.weight), -1)).sum(1, dtype=np.int64)
        yield from _outside("sum of a kernel's weights", sums, _KERNEL_SUM)


def _encoder(encoder: Encoder) -> Iterator[str]:
    largest = -MIN_QUANTISED * abs(encoder.weight) + WEIGHT_SCALE * abs(encoder.bias)
    yield from _outside("largest weighted input", largest, _ENCODED)


def _outside(name: str, values: npt.ArrayLike, register: _Register) -> Iterator[str]:
    numbers: npt.NDArray[Any] = np.asarray(values)
    low, high = int(numbers.min()), int(numbers.max())
    if low < register.low or high > register.high:
        found = low if low < register.low else high
        yield f"its {name} is {found}, outside of {register.low} to {register.high}: {register.why}"
