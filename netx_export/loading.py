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

import numpy as np

from netx_export.description import IntArray

__all__ = ["LoadedWeights", "load_dense_weights"]


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

    def equals(self, weight: IntArray) -> bool:
        """Whether every possible sum of these weights is the same sum of ``weight``."""
        if self.exponent >= 0:
            return bool(np.array_equal(self.mantissa << self.exponent, weight))
        return bool(np.array_equal(self.mantissa, weight << -self.exponent))


def load_dense_weights(weight: IntArray) -> LoadedWeights:
    """Follow a dense weight matrix from the file into Lava's fixed-point Dense process.

    Args:
        weight: integer weights as written to the file, ``(out, in)``.

    Raises:
        OverflowError: for a matrix of zeros, which the stock loader cannot load at all.
    """
    shifted, bits, exponent = _optimize(weight)
    sign = _lava_sign(shifted)
    magnitude = -shifted if sign is _Sign.INHIBITORY else shifted
    lowest = -256 if sign is _Sign.MIXED else 0
    unused = np.int32(8 - bits + (sign is _Sign.MIXED))
    # numpy shifts by a negative count to zero, and so does Lava here.
    kept = np.left_shift(np.right_shift(np.clip(magnitude, lowest, 255).astype(np.int32), unused), unused)
    mantissa = -kept if sign is _Sign.INHIBITORY else kept
    return LoadedWeights(mantissa.astype(np.int64), exponent)


def _optimize(weight: IntArray) -> tuple[IntArray, int, int]:
    """The shifted weights, the number of weight bits and the exponent that netx decides on."""
    if weight.max() > 254 and weight.min() < 0:
        weight = np.clip(weight, -256, 254)
    if weight.min() < -256 and weight.max() > 0:
        weight = np.clip(weight, -256, 254)
    high, low = float(weight.max()), float(weight.min())
    signed = high >= 0 > low
    if signed:
        scale = min(127 / high if high else np.inf, -128 / low)
    elif high < 0:
        scale = -256 / low
    else:
        scale = 255 / high if high else np.inf
    scale_bits = int(np.floor(np.log2(scale))) + signed
    trailing = next((n for n in range(8, 0, -1) if not np.any(weight % 2**n)), 0)
    bits = 8 - scale_bits - (trailing - signed)
    return np.left_shift(weight.astype(np.int32), np.int32(scale_bits)).astype(np.int64), bits, -scale_bits


def _lava_sign(weight: IntArray) -> _Sign:
    """Lava's own idea of the sign mode; unlike netx, it counts zero as inhibitory."""
    if weight.min() >= 0:
        return _Sign.EXCITATORY
    return _Sign.INHIBITORY if weight.max() <= 0 else _Sign.MIXED
