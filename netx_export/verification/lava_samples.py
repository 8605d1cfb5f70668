"""The samples that ``verify`` runs on Lava: as many as it is told, or as many as fit into a minute."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from netx_export.progress import Watch, time_on_lava
from netx_export.run import Run
from netx_export.simulation.lava_time import TimeLimit
from netx_export.simulation.simulate import LavaSimulator

__all__ = ["LavaSamples", "LavaShare", "draw", "why_no_more"]

LavaSamples: TypeAlias = "int | Literal['auto']"

_AUTO_MOST = 32
_AUTO_SECONDS = 60.0
# Of what a time limit leaves, half is used: the next samples may take longer than the first ones did.
_AUTO_SHARE = 0.5

_Samples: TypeAlias = "npt.NDArray[np.int64]"


def draw(samples: int, number: LavaSamples, labels: torch.Tensor | None, seed: int) -> _Samples:
    """Indices of samples to run on Lava, in an order in which any first few hold the classes in proportion."""
    order = np.random.default_rng(seed).permutation(samples)
    if labels is not None and labels.dim() == 1:
        # Sorted by their rank within their class, as a share of it, the samples of each class are spread evenly.
        classes = labels.double().numpy()  # numpy has no bfloat16
        rank = np.empty(samples)
        for label in np.unique(classes):
            members = order[classes[order] == label]
            rank[members] = (np.arange(len(members)) + 0.5) / len(members)
        order = order[np.argsort(rank[order], kind="stable")]
    return order[: _AUTO_MOST if isinstance(number, str) else number]


class LavaShare:
    """The samples that one process of the user's runs on Lava, part after part.

    Args:
        simulator: runs them; its time limit is that of all parts together.
        samples: their indices in the order in which they were drawn.
        workers: how many processes share them.
        automatic: whether to run only as many of the first ones as fit into a minute, or into half of the time limit if
            that is less, but one per worker at least.
        title: of the work.
        watch: is told how far it has come, and how long it takes.
    """

    def __init__(
        self,
        simulator: LavaSimulator,
        samples: _Samples,
        workers: int,
        automatic: bool,
        title: str,
        watch: Watch,
    ) -> None:
        self._simulator = simulator
        self._samples = samples
        self._workers = workers
        self._title = title
        self._watch = watch
        self._is_chosen = not automatic
        self._number = len(samples)  # of those that are run in all, as far as is known
        self._began = 0.0

    def parts(self) -> Iterator[_Samples]:
        """Samples to run together, in the order of the data. The first ones have run before the others are chosen."""
        first = self._number if self._is_chosen else self._workers
        yield np.sort(self._samples[:first])
        self._is_chosen = True
        yield np.sort(self._samples[first : self._number])

    def run(self, spikes: torch.Tensor) -> Run:
        """Run what goes into the file of some of them."""
        self._began = time.monotonic()
        run = self._simulator(spikes, self._workers, self._tell)
        if self._simulator.limit is not None:
            self._simulator = dataclasses.replace(self._simulator, limit=self._limit_now(self._simulator.limit))
        return run

    def _limit_now(self, limit: TimeLimit) -> TimeLimit:
        """The time limit after what the part has taken that runs now."""
        return dataclasses.replace(limit, spent=limit.spent + time.monotonic() - self._began)

    def _rounds(self, seconds: float) -> int:
        """How many samples, of so many seconds each, one worker is to run in all."""
        fitting = _AUTO_SECONDS
        if self._simulator.limit is not None:
            fitting = min(fitting, seconds + _AUTO_SHARE * self._limit_now(self._simulator.limit).left)
        return max(1, int(fitting / seconds))

    def _tell(self, samples: float, seconds: float) -> None:
        if not self._is_chosen:
            self._number = min(len(self._samples), self._rounds(seconds) * self._workers)
        duration = time_on_lava(seconds * self._number / self._workers, self._workers)
        self._watch.expect(f"{self._title}: {duration}", self._number)
        self._watch.advance(samples)


def why_no_more(number: int, samples: int, timeout: float | None) -> str | None:
    """Why no more samples were run where nobody had said how many; None if all were.

    Args:
        number: of samples that were run.
        samples: that there are.
        timeout: seconds that Lava could take, if there was a limit.
    """
    if number == samples:
        return None
    if number == _AUTO_MOST:
        return "the most that are run unless more are asked for"
    seconds = _AUTO_SECONDS if timeout is None else min(_AUTO_SECONDS, _AUTO_SHARE * timeout)
    return f"as many as fit into about {seconds:.3g} s, at least one per worker"
