"""How the time of each loss, forward and backward, grows with samples, classes and steps.

The slope of the logarithms: 1 where twice the size takes twice the time, less where a part of the time is the same for
every size. All sizes have their turn in every round.

    python -m benchmarks.growth --only 'spike_*'
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch

from benchmarks._cases import CASES, SIMILARITIES, Case, Size
from benchmarks._command import Wish, main
from benchmarks._results import Line
from benchmarks._timing import paired, slope
from benchmarks.losses import call

__all__ = ["measure"]

_SMALLEST = Size(64, 60, 100)
_FACTORS = (1, 2, 4, 8)


def measure(wish: Wish) -> Iterator[Line]:
    """Three lines for every loss."""
    smallest = Size(4, 10, 12) if wish.tiny else _SMALLEST
    for device in wish.devices:
        for case in filter(lambda case: wish.wants(case.name), [*CASES, *SIMILARITIES]):
            for axis in ("n", "c", "t"):
                yield _line(case, axis, smallest, device, wish)


def _line(case: Case, axis: str, smallest: Size, device: str, wish: Wish) -> Line:
    runs = {}
    for factor in _FACTORS:
        size = dataclasses.replace(smallest, **{axis: factor * getattr(smallest, axis)})
        target = case.target(size)
        x = case.input(size, torch.float32, device)
        runs[str(factor)] = call(case, case.loss(size), x, target if target is None else target.to(device))
    times = paired(runs, wish.effort)
    labels = {"loss": case.name, "from": str(smallest), "times": str(_FACTORS[-1]), "axis": axis, "device": device}
    return Line("growth", labels, "slope", slope(_FACTORS, [times[str(factor)] for factor in _FACTORS]), "", "lower")


if __name__ == "__main__":
    main("growth", __doc__, measure, keep_memory=True)
