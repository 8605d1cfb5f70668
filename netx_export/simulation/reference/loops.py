"""Which inner loops the reference simulator runs, torch's or compiled ones, and on how many threads."""

from __future__ import annotations

import importlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TypeVar

import torch

from lava_spikeloss.compiling import numba_runs

__all__ = ["compiled_loops", "exact_convolutions", "in_parallel", "one_thread"]

_Item = TypeVar("_Item")


def compiled_loops(device: torch.device) -> ModuleType | None:
    """The compiled loops if they can be had: on a CPU, where numba is installed (the extra ``fast``)."""
    return _compiled() if device.type == "cpu" else None


@cache
def _compiled() -> ModuleType | None:
    return importlib.import_module("netx_export.simulation.reference.compiled") if numba_runs() else None


def in_parallel(function: Callable[[_Item], None], items: Sequence[_Item], device: torch.device) -> None:
    """Call a function on each item, with the compiled loops on all of torch's threads, an item on each."""
    pending = iter(items)  # shared by the threads: taking the next item of it is atomic

    def work() -> None:
        try:
            for item in pending:
                function(item)
        finally:  # after an error or Ctrl-C the other threads are to find nothing left
            deque(pending, maxlen=0)

    if compiled_loops(device) is None:
        work()
        return
    others = min(len(items), torch.get_num_threads()) - 1
    # For a single item too: each of torch's small operations would wait for threads that a busy machine wakes late.
    with one_thread(), exact_convolutions(), ThreadPoolExecutor(max(1, others)) as pool:
        started = [pool.submit(work) for _ in range(others)]
        work()  # on this thread too: if it only waited, the others would begin on its core
        for one in started:
            one.result()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread inside: with steps this small more gain nothing, and lose much where a core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Keep torch from NNPACK's convolutions inside, which are Winograd's and not exact on integers.

    The switch is one for all threads: each that comes turns it off, and the last that goes turns it back.
    """
    _NNPACK.turn_off()
    try:
        yield
    finally:
        _NNPACK.turn_back()


class _Switch:
    """Torch's switch of NNPACK, how many keep it off, and how it was before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = True

    def turn_off(self) -> None:
        with self._lock:
            (before,) = torch.backends.nnpack.set_flags(False)
            if not self._users:
                self._before = before
            self._users += 1

    def turn_back(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                torch.backends.nnpack.set_flags(self._before)


_NNPACK = _Switch()
