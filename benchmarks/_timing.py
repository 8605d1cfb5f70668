"""Paired rounds: in each of them every contestant has one turn, so that whatever else the machine does meets all."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Effort", "Spread", "paired", "ratio", "slope", "spread"]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        fewest, most: rounds; the most, unless they take longer than ``seconds``.
        seconds: for all rounds of one comparison.
        turn: seconds that a turn takes at least, a faster contestant being called several times in it; 0 for one call.
    """

    fewest: int = 5
    most: int = 11
    seconds: float = 1.0
    turn: float = 0.002


@dataclass(frozen=True)
class Spread:
    """The median over the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def paired(contestants: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, list[float]]:
    """Seconds per call of each contestant, round by round; the first turn moves on by one in each round."""
    repeats = {name: _repeats(run, effort.turn) for name, run in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    start = time.perf_counter()
    for done in range(effort.most):
        if done >= effort.fewest and time.perf_counter() - start > effort.seconds:
            break
        first = done % len(names)
        for name in names[first:] + names[:first]:
            times[name].append(_seconds(contestants[name], repeats[name]))
    return times


def _repeats(run: Callable[[], object], turn: float) -> int:
    _seconds(run, 1)  # the first call is always slower
    return math.ceil(turn / _seconds(run, 1)) if turn else 1


def _seconds(run: Callable[[], object], repeats: int) -> float:
    """Seconds per call, until the device is done too."""
    _synchronise()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    _synchronise()
    return (time.perf_counter() - start) / repeats


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


def ratio(times: Sequence[float], base: Sequence[float]) -> Spread:
    """The spread of the ratio within a round."""
    return spread([one / other for one, other in zip(times, base, strict=True)])


def slope(sizes: Sequence[float], times: Sequence[Sequence[float]]) -> Spread:
    """How time grows with size: the slope of the straight line through the logarithms, 1 for proportional.

    Args:
        sizes: the sizes.
        times: for each size, the seconds of every round.
    """
    x = [math.log(size) for size in sizes]
    return spread(
        [statistics.linear_regression(x, [math.log(t) for t in one]).slope for one in zip(*times, strict=True)]
    )
