"""Export, read and check of networks from 10 thousand to 30 million synapses: seconds, and peak memory of a process.

Every repetition has a process of its own, in which a tiny network went through the same steps before. Memory is what
the resident memory of the process grew by at its peak, in copies of the float32 weights. Export is measured with a
sample, on which the file is proved, and without. Needs Lava's SLAYER, and Linux for the memory.

    python -m benchmarks.networks --only 30M
"""

from __future__ import annotations

import gc
import itertools
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks._command import Wish, main
from benchmarks._memory import peak_resident
from benchmarks._results import Line
from benchmarks._timing import spread

__all__ = ["measure"]

_NETWORKS = {
    "10k": (100, 90, 10),
    "100k": (500, 180, 50, 10),
    "1M": (1500, 500, 500, 100, 10),
    "10M": (3000, 2500, 1000, 10),
    "30M": (5000, 4000, 2000, 1000, 10),
}
_STEPS = 10
_ROUNDS = 3
_FEWEST_FOR_MEMORY = 10**6  # synapses: below, what a process needs anyway counts for more


def measure(wish: Wish) -> Iterator[Line]:
    """Time for every network and what is done with it, and memory for the large ones."""
    networks = {"tiny": (20, 10, 4)} if wish.tiny else _NETWORKS
    for name in filter(wish.wants, networks):
        found: dict[str, list[tuple[float, float]]] = {}
        run = _measure_once if wish.tiny else _measure_in_child
        for _ in range(1 if wish.tiny else _ROUNDS):
            for what, figures in run(networks[name]).items():
                found.setdefault(what, []).append(figures)
        for what, figures in found.items():
            labels = {"network": name, "layers": "-".join(map(str, networks[name])), "action": what}
            limited = name == "30M" and what.startswith("export")
            seconds, copies = (spread([one[place] for one in figures]) for place in (0, 1))
            target = "export time" if limited else None
            yield Line("networks", labels, "time", seconds, "s", "lower", seconds.median, target)
            if _synapses(networks[name]) >= _FEWEST_FOR_MEMORY:
                target = "export memory" if limited else None
                yield Line("networks", labels, "peak memory", copies, "copies", "lower", seconds.median, target)


def _synapses(sizes: tuple[int, ...]) -> int:
    return sum(math.prod(pair) for pair in itertools.pairwise(sizes))


def _measure_in_child(sizes: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure_once, sizes).result()


def _measure_once(sizes: tuple[int, ...]) -> dict[str, tuple[float, float]]:
    """Seconds and copies of the weights for each action, in this process."""
    torch.set_num_threads(1)  # in a child it is not set yet
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "network.net")
        for run in _actions((8, 6, 4), path).values():
            run()
        copy = 4 * _synapses(sizes)
        return {what: _figures(run, copy) for what, run in _actions(sizes, path).items()}


def _actions(sizes: tuple[int, ...], path: Path) -> dict[str, Callable[[], Any]]:
    from benchmarks.training_step import build
    from netx_export import check, export, read

    net = build(sizes, "cpu").eval()
    sample = (torch.rand(1, sizes[0], _STEPS, generator=torch.Generator().manual_seed(1)) < 0.05).float()
    with torch.no_grad():
        net(sample)
    return {
        "export": lambda: export(net, path),
        "export, proved": lambda: export(net, path, sample),
        "read": lambda: read(path),
        "check": lambda: check(path),
    }


def _figures(run: Callable[[], Any], copy: int) -> tuple[float, float]:
    gc.collect()
    start = time.perf_counter()
    _, grown = peak_resident(run)
    return time.perf_counter() - start, grown / copy


if __name__ == "__main__":
    main("networks", __doc__, measure)
