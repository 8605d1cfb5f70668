"""Paired rounds: in each of them every contestant has one turn, so that whatever else the machine does meets all."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

__all__ = ["Effort", "Times", "joined", "paired", "ratio"]


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: of which the median counts.
        turn: seconds that a turn takes at least: a faster contestant is called several times in it.
    """

    rounds: int = 11
    turn: float = 0.005


TINY = Effort(rounds=2, turn=0.0)


@dataclass(frozen=True)
class Times:
    """Seconds of one call, round by round: by the wall clock, and of this process's threads on the processor."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median by the wall clock."""
        return statistics.median(self.wall)


def paired(contestants: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, Times]:
    """The times of each contestant; the first turn moves on by one in each round."""
    names = list(contestants)
    repeats = {name: _repeats(run, effort.turn) for name, run in contestants.items()}
    times = {name: Times() for name in names}
    for done in range(effort.rounds):
        first = done % len(names)
        for name in names[first:] + names[:first]:
            wall, processor = _seconds(contestants[name], repeats[name])
            times[name].wall.append(wall)
            times[name].processor.append(processor)
    return times


def joined(several: Sequence[Mapping[str, Times]]) -> dict[str, Times]:
    """The rounds of several measurements of the same contestants, one after the other."""
    return {
        name: Times(
            [seconds for times in several for seconds in times[name].wall],
            [seconds for times in several for seconds in times[name].processor],
        )
        for name in several[0]
    }


def ratio(other: Times, ours: Times, *, clock: str = "processor") -> float:
    """How many times as long the other takes: the median over the rounds, by one of the clocks.

    Processor time is not lengthened by what else a busy machine runs. It knows nothing of a GPU and of other processes:
    there the wall clock counts.
    """
    pairs = zip(getattr(other, clock), getattr(ours, clock), strict=True)
    return statistics.median(one / base for one, base in pairs)


def _repeats(run: Callable[[], object], turn: float) -> int:
    _seconds(run, 1)  # the first call is always slower
    return math.ceil(turn / _seconds(run, 1)[0]) if turn else 1


def _seconds(run: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds per call by both clocks, until the device is done too."""
    _synchronise()
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        run()
    _synchronise()
    return (time.perf_counter() - wall) / repeats, (time.process_time() - processor) / repeats


def _synchronise() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
