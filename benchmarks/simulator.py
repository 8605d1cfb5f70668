"""The reference simulator against SLAYER's forward and Lava's CPU simulator, on the same network and spikes.

Two ways to time Lava. As a user gets it: `simulate` with either back end, both with all cores, from the file to the
spikes of every layer of every sample, Lava's network compiled before. And the steps alone of the stock network, without
compilation and recording, against the reference on one thread: one sample, of which the time is multiplied; with axonal
delays it is extrapolated from a few steps. Spikes are compared before anything is timed.

    python -m benchmarks.simulator --only 'no delays'
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import Bound, Wish, bound_on, figure, main, table
from benchmarks.timing import paired, ratio
from benchmarks.training_step import SIZES, build
from netx_export import simulate

__all__ = ["measure"]

_STEPS_COMPARED = 30  # of one sample on Lava; axonal delays are shorter
_SLAYER, _LAVA, _STEPS = "SLAYER's forward", "Lava, by `simulate`", "Lava's steps, dense synapses"
_BOUNDS = {
    ("no delays", _SLAYER): ("5 times as fast as SLAYER's forward", 5.0),
    ("axonal delays", _SLAYER): ("5 times as fast as SLAYER's forward, axonal delays", 5.0),
    ("no delays", _LAVA): ("200 times as fast as Lava", 200.0),
    ("axonal delays", _STEPS): ("1,000 times as fast as Lava, axonal delays", 1000.0),
}


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A table without delays and one with."""
    tables: list[str] = []
    bounds: list[Bound] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in filter(wish.wants, ("no delays", "axonal delays")):
            rows, faster = _compare(name == "axonal delays", Path(directory, "network.net"), wish)
            tables.append(table([name, "reference, ms", "this, ms", "reference is so many times as fast"], rows))
            for what, value in faster.items():
                if (name, what) in _BOUNDS and not wish.tiny:
                    text, limit = _BOUNDS[name, what]
                    bounds.append(bound_on(text, [(value, name)], limit, at_least=True))
    return tables, bounds


def _compare(delays: bool, path: Path, wish: Wish) -> tuple[list[list[str]], dict[str, float]]:
    sizes, samples, steps = ((20, 8, 4), 2, 30) if wish.tiny else (SIZES, 32, 300)
    rare, spikes, frequent = (
        (torch.rand(samples, sizes[0], steps, generator=torch.Generator().manual_seed(1)) < rate).float()
        for rate in (0.01, 0.02, 0.5)
    )
    net = _trained(sizes, spikes[:1], delays)
    _assert_equal(net, path, spikes, _STEPS_COMPARED)
    lava_steps = 4 if delays else steps  # with delays a step takes half a second
    dense, sparse = _Lava(path, spikes[0], sparse=False), _Lava(path, spikes[0], sparse=True)
    runs = {
        "reference": lambda: simulate(path, spikes),
        "reference, 1 % input rate": lambda: simulate(path, rare),
        "reference, 50 % input rate": lambda: simulate(path, frequent),
        _SLAYER: lambda: torch.no_grad()(net)(spikes),
        _STEPS: lambda: dense.run(lava_steps),
        "Lava's steps, sparse synapses": lambda: sparse.run(lava_steps),
    }
    if not delays:
        runs["reference, all cores"] = lambda: _on_all_cores(path, spikes)
        runs[_LAVA] = lambda: simulate(path, spikes, backend="lava", timeout=3600)
    times = paired(runs, wish.effort(rounds=5, turn=0.0))
    dense.stop()
    sparse.stop()
    ours = times.pop("reference")
    rows, faster = [], {}
    for what, other in times.items():
        base = times["reference, all cores"] if what == _LAVA else ours
        scale = samples * steps / lava_steps if what.startswith("Lava's steps") else 1  # of one sample
        faster[what] = scale * ratio(other, base, clock="wall")  # Lava runs in processes of its own
        note = f", {lava_steps} steps of one sample" if scale != 1 else ""
        rows.append([what + note, *(figure(1e3 * one.seconds) for one in (base, other)), figure(faster[what])])
    return rows, faster


def _on_all_cores(path: Path, spikes: torch.Tensor) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    simulate(path, spikes)
    torch.set_num_threads(1)


def _trained(sizes: tuple[int, ...], sample: torch.Tensor, delays: bool) -> torch.nn.Sequential:
    net = build(sizes, "cpu", delays)
    with torch.no_grad():
        net(sample)
        for block in net:
            if delays:
                block.delay.delay.copy_(torch.randint(0, 20, block.delay.delay.shape))
    return net.eval()


def _assert_equal(net: torch.nn.Sequential, path: Path, spikes: torch.Tensor, lava_steps: int) -> None:
    """Export, which proves the file against SLAYER in every layer, and compare one sample on Lava."""
    from netx_export import export

    assert export(net, path, spikes).proved
    few = spikes[:1, :, :lava_steps]
    on_lava, ours = simulate(path, few, backend="lava", timeout=3600), simulate(path, few)
    for name, layer in on_lava.layers.items():
        np.testing.assert_array_equal(ours.layers[name], layer, err_msg=f"{name} is not what Lava makes")


class _Lava:
    """The stock network on Lava's runtime, without any recording: its steps alone."""

    def __init__(self, path: Path, spikes: torch.Tensor, sparse: bool) -> None:
        from lava.lib.dl.netx import hdf5
        from lava.proc.io.source import RingBuffer

        self._network = hdf5.Network(str(path), sparse_fc_layer=sparse)
        RingBuffer(data=spikes.numpy().astype(np.int32)).s_out.connect(self._network.inp)
        self.run(1)

    def run(self, steps: int) -> None:
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi1SimCfg

        self._network.run(RunSteps(steps), Loihi1SimCfg(select_tag="fixed_pt"))

    def stop(self) -> None:
        self._network.stop()


if __name__ == "__main__":
    main("simulator", __doc__, measure)
