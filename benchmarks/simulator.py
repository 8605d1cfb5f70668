"""The reference simulator against SLAYER's forward and Lava's CPU simulator, on the same network and spikes.

Two ways to time Lava. As a user gets it: `simulate` with either back end, both with all cores, from the file to the
spikes of every layer of every sample, in two rounds since it takes long. And the steps alone of the stock network,
without compilation and recording, against the reference on one thread: one sample, of which the time is multiplied;
with axonal delays it is extrapolated from a few steps. Spikes and messages are compared before anything is timed.

Networks of each kind (benchmarks/kinds.py), and sigma-delta ones on inputs that change slowly, run against SLAYER's
forward alone, convolutions also against Lava's steps. They take milliseconds, in which reading the file would count:
it is read and prepared before, and a column says how long that takes.

    python -m benchmarks.simulator --only 'no delays'
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.kinds import KINDS
from benchmarks.report import Bound, Wish, bound_on, figure, main, table
from benchmarks.timing import Times, paired, ratio
from benchmarks.training_step import SIZES, build
from netx_export import Simulator, simulate

__all__ = ["ON_LAVA", "SIGMA_DELTA", "measure"]

_STEPS_COMPARED = 30  # of one sample on Lava; axonal delays are shorter
_CONVOLVED_STEPS = 4  # of a convolution on Lava, where each takes a tenth of a second and more
ON_LAVA = ("DVS gestures, pools", "DVS gestures", "N-MNIST", "PilotNet SNN")
_TINY_KINDS = ("SHD", "RF", "one tiny sample")
_SLAYER, _LAVA, _STEPS = "SLAYER's forward", "Lava, by `simulate`", "Lava's steps, dense synapses"
_BOUNDS = {
    ("no delays", _SLAYER): ("5 times as fast as SLAYER's forward", 5.0),
    ("axonal delays", _SLAYER): ("5 times as fast as SLAYER's forward, axonal delays", 5.0),
    ("no delays", _LAVA): ("200 times as fast as Lava", 200.0),
    ("axonal delays", _STEPS): ("1,000 times as fast as Lava, axonal delays", 1000.0),
}


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A table without delays, one with, one of each kind of network, and one of sigma-delta networks."""
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
        for name, compare in {"kinds": _compare_kinds, "sigma-delta": _compare_graded}.items():
            if wish.wants(name):
                rows, found = compare(Path(directory, "network.net"), wish)
                head = ["network", "events", "read, ms", "reference, ms", "SLAYER, ms", "so many times as fast"]
                tables.append(table(head, rows))
                bounds += found
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
    times = paired(runs, wish.effort(rounds=5, turn=0.0))
    dense.stop()
    sparse.stop()
    ours = times.pop("reference")
    pairs = {what: (ours, other) for what, other in times.items()}
    if not delays:
        pairs[_LAVA] = _times_of_simulate(path, spikes, wish)
    rows, faster = [], {}
    for what, (base, other) in pairs.items():
        scale = samples * steps / lava_steps if what.startswith("Lava's steps") else 1  # of one sample
        clock = "wall" if what.startswith("Lava") else "processor"  # Lava runs in processes of its own
        faster[what] = scale * ratio(other, base, clock=clock)
        note = f", {lava_steps} steps of one sample" if scale != 1 else ""
        rows.append([what + note, *(figure(1e3 * one.seconds) for one in (base, other)), figure(faster[what])])
    return rows, faster


def _compare_kinds(path: Path, wish: Wish) -> tuple[list[list[str]], list[Bound]]:
    """A row and a bound for each kind of network, and a bound against Lava for convolutions."""
    rows, bounds, on_lava = [], [], []
    for name, kind in KINDS.items():
        if wish.tiny and name not in _TINY_KINDS:
            continue
        net, values = kind.network(), kind.input(1 if wish.tiny else kind.samples)
        on_both = name in ON_LAVA
        faster, cells = _against_slayer(net, path, values, wish, lava_steps=_CONVOLVED_STEPS if on_both else 0)
        rows.append([f"{name}, {len(values)} samples of {kind.steps} steps", *cells])
        limit = 2.0 if name == "one tiny sample" else 5.0
        bounds.append(bound_on(f"{limit:g} times as fast as SLAYER's forward", [(faster, name)], limit, at_least=True))
        if on_both:
            times_as_fast, cells = _against_lava(path, values, wish)
            rows.append([f"{name}, Lava's steps instead of SLAYER", "", "", *cells])
            on_lava.append((times_as_fast, name))
    if wish.tiny:
        return rows, []
    return rows, [*bounds, bound_on("1,000 times as fast as Lava, convolutions", on_lava, 1000.0, at_least=True)]


def _against_lava(path: Path, values: torch.Tensor, wish: Wish) -> tuple[float, list[str]]:
    """How many times as fast the reference is as the steps alone of the stock network, of which a few are timed."""
    simulator, lava = Simulator(path), _Lava(path, values[0], sparse=False)
    runs = {"reference": lambda: simulator(values), _STEPS: lambda: lava.run(_CONVOLVED_STEPS)}
    times = paired(runs, wish.effort(rounds=5, turn=0.0))
    lava.stop()
    scale = len(values) * values.shape[-1] / _CONVOLVED_STEPS
    faster = scale * ratio(times[_STEPS], times["reference"], clock="wall")  # Lava runs in processes of its own
    seconds = times["reference"].seconds, scale * times[_STEPS].seconds
    return faster, [*(figure(1e3 * one) for one in seconds), figure(faster)]


def _compare_graded(path: Path, wish: Wish) -> tuple[list[list[str]], list[Bound]]:
    """A row for each sigma-delta network and size of input, and a bound for each network."""
    rows, bounds = [], []
    for name, (limit, make_network, inputs) in SIGMA_DELTA.items():
        net = make_network()
        ratios = []
        for values in (make() for make in inputs):
            faster, cells = _against_slayer(net, path, values[:1, ..., :4] if wish.tiny else values, wish)
            subject = f"{name}, {len(values)} samples of {values.shape[-1]} steps"
            rows.append([subject, *cells])
            ratios.append((faster, subject))
        if not wish.tiny:
            bounds.append(
                bound_on(f"{limit:g} times as fast as SLAYER's forward, {name}", ratios, limit, at_least=True)
            )
    return rows, bounds


def _against_slayer(
    net: torch.nn.Sequential, path: Path, values: torch.Tensor, wish: Wish, lava_steps: int = 4
) -> tuple[float, list[str]]:
    """How many times as fast the reference is, and the cells of a row."""
    net(values[:1])  # shapes are known then
    _assert_equal(net.eval(), path, values, lava_steps)
    simulator = Simulator(path)
    runs = {
        "read": lambda: Simulator(path),
        "reference": lambda: simulator(values),
        _SLAYER: lambda: torch.no_grad()(net)(values),
    }
    times = paired(runs, wish.effort(rounds=11, turn=0.0))
    faster = ratio(times[_SLAYER], times["reference"])
    milliseconds = [figure(1e3 * times[what].seconds) for what in runs]
    return faster, [_share_of_events(path, values), *milliseconds, figure(faster)]


def _share_of_events(path: Path, values: torch.Tensor) -> str:
    """The lowest and the highest share of steps in which a neuron of a layer sends; a last layer may give sums."""
    *layers, _ = simulate(path, values).layers.values()
    shares = [100 * np.count_nonzero(layer) / layer.size for layer in layers]
    return f"{figure(min(shares))} to {figure(max(shares))} %"


def _pilotnet() -> torch.nn.Sequential:
    """lava-dl's PilotNet of sigma-delta neurons, without its norms and its training."""
    import lava.lib.dl.slayer as slayer

    torch.manual_seed(0)
    block = slayer.block.sigma_delta
    convolutions = [(3, 24, 0, 2), (24, 36, 0, 2), (36, 64, (1, 0), (2, 1)), (64, 64, 0, 1)]
    neuron, scaled = _changes(0.11), {"weight_scale": 2, "weight_norm": True}
    return torch.nn.Sequential(
        block.Input(_changes(0.02)),
        *(block.Conv(neuron, *sizes, 3, padding=pad, stride=step, **scaled) for *sizes, pad, step in convolutions),
        block.Flatten(),
        *(block.Dense(neuron, *sizes, **scaled) for sizes in itertools.pairwise((2560, 100, 50, 10))),
        block.Output(neuron, 10, 1, **scaled),
    )


def _dense_changes() -> torch.nn.Sequential:
    import lava.lib.dl.slayer as slayer

    torch.manual_seed(0)
    block, neuron = slayer.block.sigma_delta, _changes(0.11)
    return torch.nn.Sequential(
        block.Input(neuron), block.Dense(neuron, 256, 256, weight_norm=True), block.Output(neuron, 256, 64)
    )


def _changes(threshold: float) -> dict[str, object]:
    """Parameters of sigma-delta neurons with a threshold that a file can hold, near to this one."""
    return {"threshold": round(threshold * 64) / 64, "activation": torch.nn.functional.relu}


def _video(samples: int, steps: int) -> torch.Tensor:
    """A window of 33 x 100 pixels that moves by half a pixel a step over a smooth picture."""
    small = torch.rand(samples, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    picture = torch.nn.functional.interpolate(small, scale_factor=16, mode="bilinear")
    starts = [step // 2 for step in range(steps)]
    return torch.stack([picture[:, :, start : start + 33, start : start + 100] for start in starts], dim=-1)


def _walks(samples: int, steps: int) -> torch.Tensor:
    """256 random walks."""
    return torch.randn(samples, 256, steps, generator=torch.Generator().manual_seed(1)).mul(0.03).cumsum(-1) + 0.5


# Of each network: how many times as fast as SLAYER's forward at least, the network, and its inputs.
SIGMA_DELTA: dict[str, tuple[float, Callable[[], torch.nn.Sequential], tuple[Callable[[], torch.Tensor], ...]]] = {
    "sigma-delta PilotNet": (2.0, _pilotnet, (partial(_video, 4, 16), partial(_video, 16, 32))),
    "sigma-delta 256-256-64": (3.0, _dense_changes, (partial(_walks, 32, 100),)),
}


def _times_of_simulate(path: Path, spikes: torch.Tensor, wish: Wish) -> tuple[Times, Times]:
    """Of the reference and of Lava, both with all cores."""
    runs = {
        "reference": lambda: _on_all_cores(path, spikes),
        _LAVA: lambda: simulate(path, spikes, backend="lava", timeout=3600),
    }
    times = paired(runs, wish.effort(rounds=2, turn=0.0))
    return times["reference"], times[_LAVA]


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
    """Export, which proves the file against SLAYER in every layer, and compare so many steps of a sample on Lava."""
    from netx_export import export

    assert export(net, path, spikes).proved
    if not lava_steps:
        return
    few = spikes[:1, ..., :lava_steps]
    on_lava, ours = simulate(path, few, backend="lava", timeout=3600), simulate(path, few)
    for name, layer in on_lava.layers.items():
        np.testing.assert_array_equal(ours.layers[name], layer, err_msg=f"{name} is not what Lava makes")


class _Lava:
    """The stock network on Lava's runtime, without any recording: its steps alone."""

    def __init__(self, path: Path, spikes: torch.Tensor, sparse: bool) -> None:
        from lava.lib.dl.netx import hdf5
        from lava.proc.io.source import RingBuffer

        self._network = hdf5.Network(str(path), sparse_fc_layer=sparse)
        frames = spikes.numpy().swapaxes(0, -2)  # Lava's order of axes is the reverse
        RingBuffer(data=frames.astype(np.int32)).s_out.connect(self._network.inp)
        self.run(1)

    def run(self, steps: int) -> None:
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi1SimCfg

        self._network.run(RunSteps(steps), Loihi1SimCfg(select_tag="fixed_pt"))

    def stop(self) -> None:
        self._network.stop()


if __name__ == "__main__":
    main("simulator", __doc__, measure)
