"""Whole training steps with SLAYER's neurons on either backend, ``training.set_backend``: SLAYER's own, and compiled.

A step is forward, loss, backward and the optimiser's update, on random spikes. Before anything is timed, the output and
the gradients of both backends are compared: they are equal to the last bit. The networks are those of the training step
and of benchmarks/kinds.py. Their weights are scaled to a rate of 5 %.

    python -m benchmarks.backends --only MLP
"""

from __future__ import annotations

from collections.abc import Callable

import torch

import lava_spikeloss as L
from benchmarks.kinds import KINDS, Kind
from benchmarks.report import Bound, Wish, bound_on, figure, main, table
from benchmarks.timing import paired, ratio
from benchmarks.training_step import SIZES, build
from lava_spikeloss import training

__all__ = ["NETWORKS", "measure"]

NETWORKS = {
    "MLP": Kind(lambda: build(SIZES, "cpu"), SIZES[:1], steps=300, samples=32, rate=0.02),
    "ten layers": Kind(lambda: build((*[128] * 10, 10), "cpu"), (128,), steps=100, samples=32, rate=0.02),
    **{name: KINDS[name] for name in ("N-MNIST", "DVS gestures, pools", "SHD", "RF")},
}


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A row for every network."""
    rows, ratios = [], []
    for name in filter(wish.wants, NETWORKS):
        kind = NETWORKS[name]
        spikes = kind.input(1)[..., :40] if wish.tiny else kind.input(kind.samples)
        torch.manual_seed(0)
        net = kind.build()
        training.firing_rate_(net, spikes[:1], 0.05)
        assert_equal(net, spikes)
        runs = {backend: _step(net, spikes, backend) for backend in ("reference", "compiled")}
        times = paired(runs, wish.effort(rounds=5, turn=0.0))
        times_as_fast = ratio(times["reference"], times["compiled"])
        milliseconds = [figure(1e3 * times[backend].seconds) for backend in runs]
        rows.append([name, "x".join(map(str, spikes.shape)), *milliseconds, f"**{figure(times_as_fast)}**"])
        ratios.append((times_as_fast, name))
    if not rows:
        return [], []
    head = ["network", "spikes", "SLAYER, ms", "compiled, ms", "times as fast"]
    return [table(head, rows)], [bound_on("a compiled step at least twice as fast", ratios, 2.0, at_least=True)]


def assert_equal(net: torch.nn.Sequential, spikes: torch.Tensor) -> None:
    """Raise unless both backends give the same output and gradients."""
    made = []
    for backend in ("reference", "compiled"):
        training.set_backend(net, backend)
        training.reset_net(net)
        net.zero_grad()
        output = net(spikes)
        output.square().sum().backward()
        made.append([output.detach(), *(parameter.grad for parameter in net.parameters())])
    for reference, compiled in zip(*made, strict=True):
        if reference is not compiled and not torch.equal(reference, compiled):
            raise AssertionError("The backends differ.")


def _step(net: torch.nn.Sequential, spikes: torch.Tensor, backend: str) -> Callable[[], None]:
    optimiser, loss = torch.optim.Adam(net.parameters(), lr=1e-6), L.SpikeMax()
    labels = torch.zeros(len(spikes), dtype=torch.long)

    def run() -> None:
        training.set_backend(net, backend)
        training.reset_net(net)
        optimiser.zero_grad()
        loss(net(spikes), labels).backward()
        optimiser.step()

    return run


if __name__ == "__main__":
    main("backends", __doc__, measure)
