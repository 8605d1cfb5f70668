"""Where the time goes in what misses its goal, or nearly does: the share of each function in the processor's time.

Counted is a function's own time, without that of what it calls, as Python's profiler tells it: to it, all that torch's
backward runs by itself is one function, ``run_backward``. The step is a compiled one of benchmarks/backends.py; the
reference simulator, which has read the file before, runs the networks that benchmarks/simulator.py compares with Lava,
and the sigma-delta ones.

    python -m benchmarks.profiles --only 'step, *'
"""

from __future__ import annotations

import cProfile
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.backends import NETWORKS, network, step
from benchmarks.kinds import KINDS, Kind
from benchmarks.report import Bound, Wish, figure, main, table
from benchmarks.simulator import ON_LAVA, SIGMA_DELTA
from netx_export import Simulator, export

__all__ = ["measure"]

_LEAST = 0.025  # the share from which on a function has a row
_RUNS = 10
_SIMULATED = {"2312-512-512-10": NETWORKS["MLP"], **{name: KINDS[name] for name in ON_LAVA}}


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A row for each case."""
    runs = 1 if wish.tiny else _RUNS
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "network.net")
        cases = {"step, SHD": partial(_step, KINDS["SHD"], wish)}
        for name, kind in _SIMULATED.items():
            cases[f"simulate, {name}"] = partial(
                _simulation, kind.network, partial(kind.input, kind.samples), path, wish
            )
        for name, (_, build, inputs) in SIGMA_DELTA.items():
            cases[f"simulate, {name}"] = partial(_simulation, build, inputs[0], path, wish)
        rows = [[name, ", ".join(_shares(cases[name](), runs))] for name in filter(wish.wants, cases)]
    return [table(["of", "share of the processor's time"], rows)] if rows else [], []


def _step(kind: Kind, wish: Wish) -> Callable[[], object]:
    spikes = kind.input(1 if wish.tiny else kind.samples)
    return step(network(kind, spikes[:1], "compiled"), spikes)


def _simulation(
    build: Callable[[], torch.nn.Sequential], make: Callable[[], torch.Tensor], path: Path, wish: Wish
) -> Callable[[], object]:
    net, values = build(), make()
    net(values[:1])  # shapes are known then
    export(net.eval(), path, values[:1])
    return partial(Simulator(path), values[:1] if wish.tiny else values)


def _shares(run: Callable[[], object], runs: int) -> list[str]:
    """The functions that take the most, and their shares."""
    run()  # the first one compiles
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for _ in range(runs):
        run()
    profile.disable()
    own: Counter[str] = Counter()
    statistics: Any = pstats.Stats(profile)
    for (file, _, function), (_, _, seconds, *_) in statistics.stats.items():
        own[_name(file, function)] += seconds
    shares = [(f"`{name}`", seconds / own.total()) for name, seconds in own.most_common()]
    large = [(name, share) for name, share in shares if share >= _LEAST]
    others = (f"{len(shares) - len(large)} others", sum(share for _, share in shares[len(large) :]))
    return [f"{name} {figure(100 * share)} %" for name, share in (*large, others)]


def _name(file: str, function: str) -> str:
    """``module.function``; of a function that is not written in Python, as in ``<method 'copy_' of ...>``, its name."""
    if file != "~":
        return f"{Path(file).stem}.{function}"
    return function.strip("<>").rpartition("method ")[2].partition(" of ")[0].strip("'").rpartition(".")[2]


if __name__ == "__main__":
    main("profiles", __doc__, measure)
