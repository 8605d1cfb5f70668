"""What the stock netx loader and Lava make of the numbers in a file before the first step runs.

A dense layer's weights pass through three stages: netx's ``optimize_weight_bits`` shifts them up to fill eight bits,
then Lava's Dense process clips them to their sign mode's range and cuts off the bits that netx said were unused.
For most matrices the three undo each other. For some they do not, and the stock tools say nothing: a matrix of -64
loads as zeros. The stages are followed here operation by operation, so that the exporter can write only what loads as
it was trained, and the reference simulator can run any file the way Lava does.

Sources: ``lava/lib/dl/netx/utils.py`` of lava-dl 0.6.0, ``lava/utils/weightutils.py`` of lava-nc 0.10.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from netx_export.errors import NetxFormatError
from netx_export.network.fixed_point import MAX_QUANTISED, MAX_WEIGHT, MIN_WEIGHT, UNITY_DECAY, IntArray

__all__ = [
    "LoadedWeights",
    "load_dense_weights",
    "load_resonator_decays",
    "load_weights",
    "rotation_that_loads",
    "weight_format",
]


class _Sign(Enum):
    MIXED = 1
    EXCITATORY = 2
    INHIBITORY = 3


@dataclass(frozen=True, eq=False)
class LoadedWeights:
    """Weights as Lava's synapse holds them; a sum of mantissas is shifted by ``exponent`` bits after it was taken.

    Attributes:
        mantissa: integer weights ``(out, in)``.
        exponent: bits by which each sum is shifted left; to the right, rounding down, if negative.
    """

    mantissa: IntArray
    exponent: int

    @property
    def rounds(self) -> bool:
        """Whether the shift may cut off bits of a sum; the loader shifted the weights up before, so it rarely can."""
        return self.exponent < 0 and bool(np.bitwise_or.reduce(self.mantissa, axis=None) & ((1 << -self.exponent) - 1))

    @property
    def effective(self) -> IntArray:
        """The weights whose sums are the shifted sums of mantissas, unless the shift :attr:`rounds`."""
        if self.exponent > 0:
            return self.mantissa.astype(np.int64) << self.exponent
        return self.mantissa >> -self.exponent

    def equals(self, weight: IntArray) -> bool:
        """Whether every possible sum of these weights is the same sum of ``weight``."""
        rows = zip(self.mantissa, weight, strict=True)  # one by one, to save memory
        return not self.rounds and all(
            np.array_equal(LoadedWeights(row, self.exponent).effective, other) for row, other in rows
        )


def load_dense_weights(weight: IntArray) -> LoadedWeights:
    """Follow a dense weight matrix from the file into Lava's fixed-point Dense process.

    Args:
        weight: integer weights as written to the file, ``(out, in)``.

    Raises:
        NetxFormatError: for a matrix of zeros, which the stock loader cannot load at all.
    """
    return load_weights(weight)[0]


def load_weights(*weights: IntArray) -> list[LoadedWeights]:
    """Follow matrices that netx optimises together, as a recurrent layer's two, into one Dense process each.

    Args:
        weights: integer weights as written to the file, all with the same number of rows.

    Raises:
        NetxFormatError: if all are zero, which the stock loader cannot load at all.
    """
    clipped, bits, exponent = _optimize(*weights)
    factor = 2**-exponent if exponent <= 0 else 0  # numpy shifts by a negative count to zero, and so does netx
    # What fits eight bits after the shift is at most 256, which int16 holds at half the memory.
    shifted = np.multiply(clipped, factor, dtype=np.int16, casting="unsafe")
    parts = np.split(shifted, np.cumsum([weight.shape[1] for weight in weights])[:-1], axis=1)
    return [LoadedWeights(_clip_and_truncate(part, bits), exponent) for part in parts]


def weight_format(*weights: IntArray) -> tuple[int, int]:
    """Number of weight bits and weight exponent that netx decides on for matrices that it optimises together.

    Raises:
        NetxFormatError: if all are zero, which the stock loader cannot load at all.
    """
    _, bits, exponent = _optimize(*weights)
    return bits, exponent


def load_resonator_decays(sin_decay: npt.NDArray[Any], cos_decay: npt.NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Follow a resonator's rotation through netx's period and decay and back, where Lava cuts off the fraction.

    Args:
        sin_decay, cos_decay: the numbers in the file, in units of 1/4096.
    """
    sin, cos = np.asarray(sin_decay) / UNITY_DECAY, np.asarray(cos_decay) / UNITY_DECAY
    decay = 1 - np.sqrt(sin**2 + cos**2)
    with np.errstate(divide="ignore"):  # without a sine the period is infinite, for netx too
        period = 1 / (np.arctan2(sin, cos) / 2 / np.pi)
    loaded = (1 - decay) * np.sin(np.pi * 2 * 1 / period), (1 - decay) * np.cos(np.pi * 2 * 1 / period)
    return (loaded[0] * UNITY_DECAY).astype(np.int64), (loaded[1] * UNITY_DECAY).astype(np.int64)


def rotation_that_loads(sin_decay: IntArray, cos_decay: IntArray) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The numbers to write to a file so that a resonator's rotation is loaded as these whole numbers, if any are.

    On the way through period and decay, whole numbers often end a hair nearer to zero, and cutting off the fraction
    then costs a whole unit. Half a unit more in the file prevents that.
    """
    loaded = load_resonator_decays(sin_decay, cos_decay)
    if np.array_equal(loaded[0], sin_decay) and np.array_equal(loaded[1], cos_decay):
        return sin_decay, cos_decay
    return sin_decay + np.copysign(0.5, sin_decay), cos_decay + np.copysign(0.5, cos_decay)


def _clip_and_truncate(weight: IntArray, bits: int) -> IntArray:
    """What Lava's Dense process makes of shifted weights at its first step; in place, since they may be large."""
    sign = _lava_sign(weight)
    unused = np.int16(8 - bits + (sign is _Sign.MIXED))
    if sign is _Sign.INHIBITORY:
        np.negative(weight, out=weight)
    np.clip(weight, MIN_WEIGHT if sign is _Sign.MIXED else 0, MAX_WEIGHT, out=weight)
    # numpy shifts by a negative count to zero, and so does Lava here.
    np.right_shift(weight, unused, out=weight)
    np.left_shift(weight, unused, out=weight)
    if sign is _Sign.INHIBITORY:
        np.negative(weight, out=weight)
    return weight


def _optimize(*weights: IntArray) -> tuple[IntArray, int, int]:
    """The weights side by side, clipped if there is need, and the number of bits and the exponent that netx takes."""
    weight = weights[0] if len(weights) == 1 else np.hstack(weights)
    if weight.max() > MAX_QUANTISED and weight.min() < 0:
        weight = np.clip(weight, MIN_WEIGHT, MAX_QUANTISED)
    if weight.min() < MIN_WEIGHT and weight.max() > 0:
        weight = np.clip(weight, MIN_WEIGHT, MAX_QUANTISED)
    high, low = float(weight.max()), float(weight.min())
    if high == low == 0:  # netx divides by the largest
        raise NetxFormatError("netx cannot load a matrix of zeros.")
    signed = high >= 0 > low
    if signed:
        scale = min(127 / high if high else np.inf, -128 / low)
    elif high < 0:
        scale = -256 / low
    else:
        scale = 255 / high
    scale_bits = int(np.floor(np.log2(scale))) + signed
    common = int(np.bitwise_or.reduce(weight, axis=None)) | 2**8
    trailing = (common & -common).bit_length() - 1  # zero bits at the end of every weight, at most eight
    bits = 8 - scale_bits - (trailing - signed)
    return weight, bits, -scale_bits


def _lava_sign(weight: IntArray) -> _Sign:
    """Lava's own idea of the sign mode; unlike netx, it counts zero as inhibitory."""
    if weight.min() >= 0:
        return _Sign.EXCITATORY
    return _Sign.INHIBITORY if weight.max() <= 0 else _Sign.MIXED
