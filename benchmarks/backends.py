"""Whole training steps with SLAYER's neurons on either backend, ``training.set_backend``: SLAYER's own, and compiled.

A step is forward, loss, backward and the optimiser's update, on random spikes. Each backend has a network of its own,
alike in all else. Before anything is timed, the output and the gradients of both are compared: they are equal to the
last bit. The networks are those of the training step and of benchmarks/kinds.py. Their weights are scaled to a rate of
5 %.

    python -m benchmarks.backends --only MLP
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch

import lava_spikeloss as L
from benchmarks.kinds import KINDS, Kind
from benchmarks.report import Bound, Wish, bound_on, figure, main, table
from benchmarks.timing import paired, ratio
from benchmarks.training_step import SIZES, build
from lava_spikeloss import training

__all__ = ["NETWORKS", "measure", "network", "step"]

_RECURRENT = "SHD"
NETWORKS = {
    "MLP": Kind(lambda: build(SIZES, "cpu"), SIZES[:1], steps=300, samples=32, rate=0.02),
    "ten layers": Kind(lambda: build((*[128] * 10, 10), "cpu"), (128,), steps=100, samples=32, rate=0.02),
    **{name: KINDS[name] for name in ("N-MNIST", "DVS gestures, pools", _RECURRENT, "RF")},
}


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A row for every network."""
    rows, ratios = [], []
    for name in filter(wish.wants, NETWORKS):
        kind = NETWORKS[name]
        spikes = kind.input(1)[..., :40] if wish.tiny else kind.input(kind.samples)
        nets = {backend: network(kind, spikes[:1], backend) for backend in ("reference", "compiled")}
        assert_equal(nets, spikes)
        runs = {backend: step(net, spikes) for backend, net in nets.items()}
        times = paired(runs, wish.effort(rounds=5, turn=0.0))
        times_as_fast = ratio(times["reference"], times["compiled"])
        milliseconds = [figure(1e3 * times[backend].seconds) for backend in runs]
        rows.append([name, "x".join(map(str, spikes.shape)), *milliseconds, f"**{figure(times_as_fast)}**"])
        ratios.append((times_as_fast, name))
    if not rows:
        return [], []
    head = ["network", "spikes", "SLAYER, ms", "compiled, ms", "times as fast"]
    bounds = [bound_on("a compiled step at least twice as fast", ratios, 2.0, at_least=True)]
    recurrent = [one for one in ratios if one[1] == _RECURRENT]
    if recurrent and not wish.tiny:
        bounds.append(bound_on("a compiled step of a recurrent network 5 times as fast", recurrent, 5.0, at_least=True))
    return [table(head, rows)], bounds


def network(kind: Kind, sample: torch.Tensor, backend: Literal["reference", "compiled"]) -> torch.nn.Sequential:
    """A network on a backend; its weights are scaled to a rate of 5 % on the sample."""
    torch.manual_seed(0)
    net = kind.build()
    training.firing_rate_(net, sample, 0.05)
    training.set_backend(net, backend)
    return net


def assert_equal(nets: Mapping[str, torch.nn.Sequential], spikes: torch.Tensor) -> None:
    """Raise unless networks that differ in nothing but their backend give the same output and gradients."""
    made = []
    for net in nets.values():
        output = net(spikes)
        output.square().sum().backward()
        gradients = {name: one.grad for name, one in net.named_parameters() if one.grad is not None}
        made.append({"output": output.detach(), **gradients})
    ours, others = made
    if ours.keys() != others.keys() or not all(torch.equal(ours[name], others[name]) for name in ours):
        raise AssertionError("The backends differ.")


def step(net: torch.nn.Sequential, spikes: torch.Tensor) -> Callable[[], None]:
    """A function that trains a network by one step."""
    optimiser, loss = torch.optim.Adam(net.parameters(), lr=1e-6), L.SpikeMax()
    labels = torch.zeros(len(spikes), dtype=torch.long)

    def run() -> None:
        training.reset_net(net)
        optimiser.zero_grad()
        loss(net(spikes), labels).backward()
        optimiser.step()

    return run


if __name__ == "__main__":
    main("backends", __doc__, measure)
