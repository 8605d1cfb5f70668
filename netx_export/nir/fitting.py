"""Real numbers made whole numbers of netx units, and what that changes.

The weights, the bias and the threshold of one neuron may be multiplied by the same factor without any effect on its
spikes. So all neurons of a layer can have the one threshold that netx holds. Where no scale was asked for and 64 does
not fit, leaves currents that may wrap around or membrane potentials little room, or makes weights that the stock loader
alters, a layer gets the threshold that serves its weights best.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Literal, NoReturn, TypeAlias

import numpy as np

from netx_export.network.fixed_point import (
    ALIGNMENT,
    HIGHEST_BIAS,
    LOWEST_BIAS,
    MAX_BIAS,
    MAX_INT32,
    MAX_QUANTISED,
    MAX_STATE,
    MAX_THRESHOLD,
    MAX_WEIGHT,
    MIN_BIAS,
    MIN_WEIGHT,
    UNITY_DECAY,
    IntArray,
)
from netx_export.network.stock_loader import LoadedWeights, load_weights
from netx_export.nir.library import FloatArray, refuse

__all__ = ["Fit", "Fitted", "Reals", "Rounding", "RoundingMode", "by_row"]

RoundingMode: TypeAlias = Literal["refuse", "nearest"]

_TOLERANCE = 2e-3  # of one unit: float32 keeps 4096 to 2e-4
_NOTHING = 1e-9  # numbers up to this are rounding errors of 0; a larger one must not become 0
# Membrane potentials are clipped at -MAX_THRESHOLD too: a threshold that nobody asked for leaves room for inhibition.
_ROOMY = MAX_THRESHOLD // 8
_EXACT = 1e-4  # of one unit, where a scale is looked for with which all numbers are whole


@dataclass(frozen=True)
class Rounding:
    """What :func:`from_nir` changed in the numbers of one parameter.

    Attributes:
        node: name of the NIR node; ``graph.node`` inside of a nested graph.
        parameter: name of its parameter.
        changed: how many numbers were changed.
        of: of how many.
        before: the number that was changed most, as it was. A weight and a bias are given as they act on the membrane
            potential in one step, gains included; all else in NIR's units.
        after: the number that netx holds instead, in the same units.
        note: what else there is to know; empty if nothing.
    """

    node: str
    parameter: str
    changed: int
    of: int
    before: float
    after: float
    note: str = ""


@dataclass(frozen=True)
class Reals:
    """The numbers of one layer as NIR gives them, each row those of a neuron or of a channel.

    Attributes:
        names: of the nodes of the weights, of the recurrent weights and of the neurons.
        weight: what a spike adds to the current, gains included; the first axis counts rows.
        recurrent: likewise from the layer's own neurons, or None.
        bias: what is added to the membrane potential at each step, or None.
        threshold: one per row.
        current_decay: share of 4096 that a current loses in one step, one per row.
    """

    names: tuple[str, str, str]
    weight: FloatArray
    recurrent: FloatArray | None
    bias: FloatArray | None
    threshold: FloatArray
    current_decay: IntArray

    def scaled(self, threshold: float) -> tuple[FloatArray | None, ...]:
        """Weights, recurrent weights and bias as they are with this common threshold."""
        factors = threshold / self.threshold
        return tuple(None if rows is None else by_row(rows, factors) for rows in self.rows)

    @property
    def rows(self) -> tuple[FloatArray | None, ...]:
        """Weights, recurrent weights and bias."""
        return self.weight, self.recurrent, self.bias


@dataclass(frozen=True)
class Fitted:
    """The same in netx units."""

    weight: IntArray
    recurrent: IntArray | None
    bias: IntArray | None
    threshold: int


@dataclass
class Fit:
    """Makes numbers whole, or refuses them; keeps what it rounded.

    Attributes:
        rounding: what to do with a number that is not whole.
        scale: netx units per NIR unit.
        free: whether a layer may get another scale, as nobody asked for this one.
        found: what was rounded so far.
    """

    rounding: RoundingMode
    scale: float
    free: bool
    found: list[Rounding] = field(default_factory=list)

    def whole(
        self,
        name: str,
        parameter: str,
        values: FloatArray,
        back: Callable[[FloatArray], FloatArray] = lambda values: values,
        step: int = 1,
        unit: str = "netx units",
    ) -> IntArray:
        """The nearest whole numbers, all of them multiples of ``step``, noted in NIR's units by way of ``back``."""
        if not (np.abs(values) <= MAX_INT32).all():  # which is what becomes of a product that is no number, too
            refuse(name, f"{parameter} of up to {np.abs(values).max():.3g} {unit}, beyond all that netx holds")
        off = _off(values / step) * step
        rounded = np.rint(values / step) * step
        if (off > _TOLERANCE).any():
            if self.rounding == "refuse":
                refuse(
                    name,
                    f"{parameter} is up to {float(off.max()):.3g} away from a whole number of {unit}. "
                    f"Use rounding='nearest', and verify what it does",
                )
            before, after = back(values), back(rounded) + 0.0  # no -0.0
            worst = int(np.where(off > _TOLERANCE, np.abs(before - after), -1).argmax())
            farthest = float(before.flat[worst]), float(after.flat[worst])
            self.found.append(Rounding(name, parameter, int((off > _TOLERANCE).sum()), values.size, *farthest))
        whole: IntArray = rounded.astype(np.int64)
        return whole

    def layer(self, reals: Reals, dense: bool, delayed: bool) -> Fitted:
        """Weights, bias and the common threshold of one layer.

        Args:
            reals: what they are in NIR.
            dense: whether it is a dense layer, whose weights the stock loader takes in steps of two if some are
                positive and some negative.
            delayed: whether it has delays. Like recurrent weights, its weights are written as they are or not at all;
                any of other dense layers arrive if they are written as a convolution.
        """
        self._check_thresholds(reals)
        wanted = [float(value) * self.scale for value in np.unique(reals.threshold)[::-1]]
        # Even recurrent weights are loaded as they are for certain; odd ones have to be tried.
        step = 2 if reals.recurrent is not None else 1
        first: Fitted | None = None
        for threshold in self._exact(reals, wanted, step):
            made = self._made(reals, threshold, 1)
            if not self.free or _arrives(made, delayed):
                return made
            first = first or made
        if self.free and self.rounding == "nearest":
            return self._largest(reals, dense)
        if first is not None:
            return first
        if len(wanted) > 1 and self.rounding == "refuse":
            refuse(
                reals.names[2],
                f"v_threshold from {wanted[-1]:g} to {wanted[0]:g} netx units; netx holds one for all neurons of a "
                f"layer, and with the difference in the weights these are not whole numbers that it holds. "
                f"Use rounding='nearest', and verify what it does",
            )
        return self._made(reals, wanted[0], step if self.rounding == "nearest" else 1)

    def _exact(self, reals: Reals, wanted: list[float], step: int) -> Iterator[float]:
        """Thresholds at which all numbers are whole, the best first; the wanted ones only, if a scale was asked for.

        They are tried in this order: first those that leave membrane potentials room below zero; among these, first
        those with even recurrent weights; among these, first the wanted ones. If currents may wrap around at every
        threshold, only the wanted ones are tried.
        """
        found = False
        for unit, low, high in _spans(reals, step) if self.free else ():
            near = (value for value in wanted if low < value - _TOLERANCE <= high and _fits(reals, value, unit))
            for threshold in chain(near, _exact_thresholds(reals, low, high, unit)):
                found = True
                yield threshold
        if not found:
            yield from (value for unit in (step, 1) for value in wanted if _fits(reals, value, unit))

    def _check_thresholds(self, reals: Reals) -> None:
        for value in (reals.threshold.min(), reals.threshold.max()):
            units = float(value) * self.scale
            if not 0 < units <= MAX_THRESHOLD + _TOLERANCE:
                self._refuse_threshold(reals, units)

    def _refuse_threshold(self, reals: Reals, units: float) -> NoReturn:
        refuse(
            reals.names[2],
            f"v_threshold of {units:.9g} netx units, which is {units / self.scale:.9g} at a scale of {self.scale:g}; "
            f"netx neurons can have 1 to {MAX_THRESHOLD}",
        )

    def _largest(self, reals: Reals, dense: bool) -> Fitted:
        """With the largest threshold that the weights leave, at which rounding matters least."""
        step = 2 if dense else 1
        threshold = _largest_threshold(reals, step)
        if threshold < 1:
            worst = min(_limits(reals, step), key=lambda limit: limit.threshold)
            refuse(reals.names[worst.name], worst.reason)
        return self._made(reals, min(threshold, _ROOMY), step)

    def _made(self, reals: Reals, threshold: float, step: int) -> Fitted:
        factors = threshold / reals.threshold
        weight, recurrent, bias = reals.scaled(threshold)
        names, back = reals.names, lambda values: by_row(values, 1 / factors)
        mantissa = self.whole(names[2], "v_threshold", np.array([threshold]), lambda values: values / self.scale)
        if not 1 <= mantissa[0] <= MAX_THRESHOLD:
            self._refuse_threshold(reals, threshold)
        assert weight is not None
        fitted = self.whole(names[0], "weight", weight, back, step)
        _check_weights(names[0], fitted)
        returning = None
        if recurrent is not None:
            returning = self.whole(names[1], "weight", recurrent, back, step)
            _check_weights(names[1], returning)
        driven = None if bias is None else self.whole(names[2], "bias", bias, back)
        return Fitted(fitted, returning, driven, int(mantissa[0]))

    def as_text(self) -> str:
        """All roundings, to be kept beside the network."""
        return json.dumps([asdict(rounding) for rounding in self.found])


def by_row(rows: FloatArray, factors: FloatArray) -> FloatArray:
    return rows * factors.reshape(-1, *[1] * (rows.ndim - 1))


def _off(values: FloatArray) -> FloatArray:
    """How far numbers are from whole ones; a small number that would become 0 counts as out of tolerance."""
    rounded = np.rint(values)
    lost = (rounded == 0) & (np.abs(values) > _NOTHING)
    distance: FloatArray = np.where(lost, np.maximum(np.abs(values), 2 * _TOLERANCE), np.abs(values - rounded))
    return distance


def _arrives(made: Fitted, delayed: bool) -> bool:
    """Whether these weights can be written so that the stock loader loads them as they are."""
    weights = [part for part in (made.weight, made.recurrent) if part is not None]
    if not (delayed or made.recurrent is not None) or not any(part.any() for part in weights):
        return True
    return all(map(LoadedWeights.equals, load_weights(*weights), weights))


def _check_weights(name: str, weight: IntArray) -> None:
    low, high = weight.min(initial=0), weight.max(initial=0)
    if low < MIN_WEIGHT or high > MAX_WEIGHT:
        refuse(name, f"weights from {low} to {high} netx units; netx holds {MIN_WEIGHT} to {MAX_WEIGHT}")


def _fits(reals: Reals, threshold: float, step: int) -> bool:
    """Whether at this threshold all numbers are whole (weights multiples of ``step``) and within Lava's registers."""
    weight, recurrent, bias = reals.scaled(threshold)
    # A bias beyond a chip's 13 bits runs on Lava; where there is a choice, `_largest_threshold` keeps to the 13.
    parts: Sequence[tuple[FloatArray | None, int, int, int]] = (
        (np.array([threshold]), 1, 1, MAX_THRESHOLD),
        (weight, step, MIN_WEIGHT, MAX_WEIGHT),
        (recurrent, step, MIN_WEIGHT, MAX_WEIGHT),
        (bias, 1, LOWEST_BIAS, HIGHEST_BIAS),
    )
    return all(
        rows is None
        or bool(
            (_off(rows / unit) * unit <= _TOLERANCE).all()
            and np.rint(rows).min() >= low
            and np.rint(rows).max() <= high
        )
        for rows, unit, low, high in parts
    )


@dataclass(frozen=True)
class _Limit:
    """What keeps a layer's threshold low.

    Attributes:
        threshold: the highest one that it allows.
        name: index of the node to blame among the layer's names.
        reason: why it is refused if not even a threshold of 1 is allowed.
    """

    threshold: float
    name: int
    reason: str


def _limits(reals: Reals, step: int) -> Iterator[_Limit]:
    """Up to which threshold weights and bias are in range, and no current can wrap around.

    If weights go in steps of two, their range is that of SLAYER's, in which the loader takes both signs as they are.
    """
    lowest, highest = (-MAX_QUANTISED, MAX_QUANTISED) if step == 2 else (MIN_WEIGHT, MAX_WEIGHT)
    weight, recurrent, bias = reals.scaled(1.0)
    for name, rows in enumerate((weight, recurrent)):
        if rows is not None:
            reason = (
                f"weights of up to {np.abs(rows).max():g} times the threshold; with a threshold of 1 netx holds up to"
            )
            yield _Limit(_highest(rows, lowest, highest), name, f"{reason} {MAX_WEIGHT}")
    rows = np.hstack([part.reshape(len(part), -1) for part in (weight, recurrent) if part is not None])
    largest = np.maximum(rows.clip(min=0).sum(1), -rows.clip(max=0).sum(1))  # at most all of one sign are active
    current = largest * UNITY_DECAY / reals.current_decay
    reason = (
        f"its inputs could add up to a current of {current.max():.6g} times the threshold, and Loihi's wrap around "
        f"above {MAX_STATE // ALIGNMENT} with a threshold of 1; give a `scale` if they never do"
    )
    yield _Limit(_highest(current * ALIGNMENT, -MAX_STATE, MAX_STATE), 2, reason)
    if bias is not None:
        worst = np.abs(bias).max()
        reason = f"a bias of up to {worst:g} times the threshold; with a threshold of 1 a chip holds up to {MAX_BIAS}"
        yield _Limit(_highest(bias, MIN_BIAS, MAX_BIAS), 2, f"{reason}; give a `scale` to run it on Lava")


def _highest(values: FloatArray, low: int, high: int) -> float:
    """The largest factor with which all values stay within these bounds."""
    above = high / values.max() if values.max() > 0 else np.inf
    below = low / values.min() if values.min() < 0 else np.inf
    return float(min(above, below))


def _largest_threshold(reals: Reals, step: int) -> int:
    """The largest threshold at which weights and bias are in range and no current can wrap around."""
    return int(min(MAX_THRESHOLD, *(limit.threshold for limit in _limits(reals, step))) + 1e-9)


def _spans(reals: Reals, step: int) -> list[tuple[int, int, int]]:
    """Where to look for thresholds, the best first: the step of the weights, and a range (above, up to)."""
    largest = [(unit, _largest_threshold(reals, unit)) for unit in range(step, 0, -1)]
    with_room = [(unit, 0, min(highest, _ROOMY)) for unit, highest in largest]
    return with_room + [(unit, _ROOMY, highest) for unit, highest in largest]


def _exact_thresholds(reals: Reals, low: int, high: int, step: int) -> Iterator[float]:
    """All thresholds above ``low`` and up to ``high`` at which all numbers are whole, the largest first."""
    weight, recurrent, bias = reals.scaled(1.0)
    parts = ((weight, step), (recurrent, step), (bias, 1))
    values = np.unique(np.concatenate([rows.reshape(-1) / unit for rows, unit in parts if rows is not None]))
    left = np.arange(high, low, -1)
    while left.size:
        off = _off(left[0] * values)
        if off.max() <= _EXACT:
            yield float(left[0])
            left = left[1:]
        else:  # a number that is not whole here rules out others
            left = left[_off(left * values[off.argmax()]) <= _EXACT]
