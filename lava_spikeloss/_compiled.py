"""Loops over neurons and steps, compiled by numba for the CPU; they release the GIL.

Importing this module needs numba. Where each is called, the same is there in torch, for GPUs, compilers and where numba
is not. Spikes in bfloat16, which numpy does not know, come as the 16 bits they are.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import overload

from lava_spikeloss.compiling import compiled

__all__ = [
    "count",
    "filtered_squares",
    "first_equal",
    "first_steps",
    "leaky_sum",
    "nearest_clusters",
    "window_sum",
]

_Floats = npt.NDArray[Any]
_Steps = npt.NDArray[np.int64]


def _number(value: Any) -> Any:
    """A number, from itself or from the 16 bits of a bfloat16: the upper half of a float32."""


@overload(_number)
def _compiled_number(value: Any) -> Any:
    def of_bits(value: Any) -> Any:
        return np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)

    def itself(value: Any) -> Any:
        return value

    return of_bits if isinstance(value, numba.types.Integer) else itself


@partial(compiled, fastmath={"reassoc", "nsz"})  # else the sum would wait for each addition
def count(spikes: _Floats, counts: _Floats) -> None:
    """Write the sum over the steps of ``(R, T)`` spikes to ``counts``, in its dtype."""
    for row in range(len(spikes)):
        train = spikes[row]
        total = counts.dtype.type(0)
        for step in range(len(train)):
            total += _number(train[step])
        counts[row] = total


@compiled
def _copy(rows: _Floats, to: _Floats) -> None:
    for row in range(len(rows)):
        source, target = rows[row], to[row]
        for step in range(len(source)):  # several times as fast as an assignment
            target[step] = source[step]


@compiled
def _differences(later: _Floats, earlier: _Floats, divisor: float, target: _Floats) -> None:
    for step in range(len(later)):
        target[step] = (later[step] - earlier[step]) / divisor


@partial(compiled, fastmath={"contract"})  # a product and its sum in one instruction
def _sum_four(four: _Floats, decay: float, reverse: bool) -> None:
    """Make ``(4, T)`` numbers their leaky sums: each waits for the one before it, and the four not for each other."""
    steps, keep = four.shape[1], four.dtype.type(decay)
    y0, y1, y2, y3 = four[0], four[1], four[2], four[3]
    sum0 = sum1 = sum2 = sum3 = four.dtype.type(0)
    for place in range(steps):
        step = steps - 1 - place if reverse else place
        sum0, sum1 = keep * sum0 + y0[step], keep * sum1 + y1[step]
        sum2, sum3 = keep * sum2 + y2[step], keep * sum3 + y3[step]
        y0[step], y1[step], y2[step], y3[step] = sum0, sum1, sum2, sum3


@compiled
def leaky_sum(x: _Floats, decay: float, reverse: bool, sums: _Floats) -> None:
    """Write ``sums[t] = decay * sums[t - 1] + x[t]``, or in reversed time, for ``(R, T)`` numbers.

    In a place of its own, since memory is fast where it is read and written row by row.
    """
    rows, steps = x.shape
    four = np.zeros((4, steps), sums.dtype)
    for row in range(0, rows, 4):
        here = min(4, rows - row)
        _copy(x[row : row + here], four)
        _sum_four(four, decay, reverse)
        _copy(four[:here], sums[row : row + here])


@partial(compiled, fastmath={"reassoc", "nsz", "contract"})  # sums in any order
def _half_square(values: _Floats) -> Any:
    total = values.dtype.type(0)
    for step in range(len(values)):
        total += values[step] * values[step]
    return total / 2


@compiled
def filtered_squares(spikes: _Floats, desired: _Floats, decay: float, halves: _Floats, gradient: _Floats) -> None:
    """Write half of the squared norm of each row's leaky sum of differences, ``(R, 1)``, and its derivative."""
    rows, steps = spikes.shape
    four = np.zeros((4, steps), gradient.dtype)
    for row in range(0, rows, 4):
        here = min(4, rows - row)
        _copy(spikes[row : row + here], four)
        for place in range(here):
            difference, wanted = four[place], desired[row + place]
            for step in range(steps):
                difference[step] -= wanted[step]
        _sum_four(four, decay, False)
        for place in range(here):
            halves[row + place, 0] = _half_square(four[place])
        _sum_four(four, decay, True)
        _copy(four[:here], gradient[row : row + here])


@compiled
def window_sum(x: _Floats, window: int, divisor: float, ahead: bool, sums: _Floats) -> None:
    """Write the sums of ``(R, T)`` numbers over a window that ends, or begins, at each step, over a divisor."""
    rows, steps = x.shape
    window, over = min(window, steps), sums.dtype.type(divisor)
    four = np.zeros((4, steps), sums.dtype)
    for row in range(0, rows, 4):
        here = min(4, rows - row)
        _copy(x[row : row + here], four)
        _sum_four(four, 1.0, False)
        for place in range(here):
            total, target = four[place], sums[row + place]
            if ahead:
                _differences(total[window:], total, over, target[1:])
                target[0] = total[window - 1] / over
                for step in range(steps - window + 1, steps):
                    target[step] = (total[steps - 1] - total[step - 1]) / over
            else:
                _differences(total[window:], total, over, target[window:])
                for step in range(window):
                    target[step] = total[step] / over


@compiled
def first_steps(spikes: _Floats, steps: _Steps) -> None:
    """Write the first ``(R, F)`` steps of ``(R, T)`` spikes that are not 0 to ``steps``; T where there are fewer."""
    rows, ranks = steps.shape
    for row in range(rows):
        train = spikes[row]
        found = 0
        for step in range(len(train)):
            if _number(train[step]) != 0:
                steps[row, found] = step
                found += 1
                if found == ranks:
                    break
        steps[row, found:] = len(train)


@compiled
def first_equal(x: _Floats, values: _Floats, steps: _Steps) -> None:
    """Write the first step at which a row of ``(R, T)`` numbers is its ``(R, 1)`` value; the last where none is."""
    for row in range(len(x)):
        step, last = 0, x.shape[1] - 1
        while step < last and x[row, step] != values[row, 0]:
            step += 1
        steps[row, 0] = step


@compiled
def _first_best(v: _Floats, start: int, stop: int, best: int) -> int:
    """The first highest step of ``v[start:stop]`` if it is above step ``best``, else ``best``; T stands for none."""
    highest = _number(v[best]) if best < len(v) else np.float32(-np.inf)
    for step in range(start, stop):
        value = _number(v[step])
        if value > highest:
            highest, best = value, step
    return best


@compiled
def nearest_clusters(
    v: _Floats, threshold: _Floats, count: _Steps, positive: _Steps, negative: _Steps, reach: int
) -> None:
    """Write the number of clusters of spikes of each row of ``(R, T)`` membrane potentials, and the two steps.

    They are those nearest to one cluster more and to one fewer, T for none. With a NaN in the row the former can only
    be the last step. All but the potentials are ``(R, 1)``.
    """
    rows, steps = v.shape
    for row in range(rows):
        potentials = v[row]
        clusters, size, fewest, any_nan = 0, 0, steps + 1, False
        last, best, end = -reach - 1, steps, steps  # as if a spike had been just out of reach
        for step in range(steps):
            value = _number(potentials[step])
            any_nan |= np.isnan(value)
            if not value >= threshold[row, 0]:
                continue
            if step - last > reach:
                if clusters and size < fewest:
                    fewest, end = size, last
                clusters, size = clusters + 1, 0
            best = _first_best(potentials, last + reach + 1, step - reach, best)
            size, last = size + 1, step
        if clusters and size < fewest:
            end = last
        best = _first_best(potentials, last + reach + 1, steps, best)
        if any_nan:
            best = steps - 1 if steps - 1 - last > reach else steps
        count[row], positive[row], negative[row] = clusters, best, end
