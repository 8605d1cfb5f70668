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
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory import peak_resident
from benchmarks.report import Bound, Wish, bound_on, figure, main, table

__all__ = ["measure"]

_NETWORKS = {
    "10k": (100, 90, 10),
    "100k": (500, 180, 50, 10),
    "1M": (1500, 500, 500, 100, 10),
    "10M": (3000, 2500, 1000, 10),
    "30M": (5000, 4000, 2000, 1000, 10),
}
_ACTIONS = ("export", "export, proved", "read", "check")
_STEPS = 10
_ROUNDS = 3
_FEWEST_FOR_MEMORY = 10**6  # synapses: below, what a process needs anyway counts for more


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A row for every network: seconds of each action, and memory for the large ones."""
    networks = {"tiny": (20, 10, 4)} if wish.tiny else _NETWORKS
    rows, seconds, copies = [], [], []
    for name in filter(wish.wants, networks):
        run = _measure_once if wish.tiny else _measure_in_child
        rounds = [run(networks[name]) for _ in range(1 if wish.tiny else _ROUNDS)]
        cells = []
        for what in _ACTIONS:
            taken, held = (statistics.median(one[what][place] for one in rounds) for place in (0, 1))
            large = _synapses(networks[name]) >= _FEWEST_FOR_MEMORY
            cells.append(f"{figure(taken)} s" + (f" ({figure(held)})" if large else ""))
            if name == "30M" and what.startswith("export"):
                seconds.append((taken, what))
                copies.append((held, what))
        rows.append([name, *cells])
    bounds = [
        ("30 million synapses exported in less than 10 s", seconds, 10.0),
        ("30 million synapses exported with at most 3 copies of the weights", copies, 3.0),
    ]
    found = [bound_on(text, values, limit, at_least=False) for text, values, limit in bounds if values]
    return [table(["synapses", *_ACTIONS], rows)] if rows else [], found


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
        for block in net:  # weights of both signs, more of them positive: a layer without a spike cannot be proved
            weight = block.synapse.weight_v
            weight.add_(weight.std() / 2)
        net(sample)
    runs = (lambda: export(net, path), lambda: export(net, path, sample), lambda: read(path), lambda: check(path))
    return dict(zip(_ACTIONS, runs, strict=True))


def _figures(run: Callable[[], Any], copy: int) -> tuple[float, float]:
    gc.collect()
    start = time.perf_counter()
    _, grown = peak_resident(run)
    return time.perf_counter() - start, grown / copy


if __name__ == "__main__":
    main("networks", __doc__, measure)
