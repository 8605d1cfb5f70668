"""Whole training steps with SLAYER's neurons on either backend, ``training.set_backend``: SLAYER's own, and compiled.

A step is forward, loss, backward and the optimiser's update, on random spikes. Before anything is timed, the output and
the gradients of both backends are compared: they are equal to the last bit. The networks have the shapes of those that
are trained on N-MNIST, DVS Gesture and Spiking Heidelberg Digits. Their weights are scaled to a rate of 5 %.

    python -m benchmarks.backends --only MLP
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

import lava_spikeloss as L
from benchmarks.report import Bound, Wish, bound_on, figure, main, table
from benchmarks.timing import paired, ratio
from benchmarks.training_step import SIZES
from lava_spikeloss import training

__all__ = ["NETWORKS", "measure"]

_NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}


def _dense(*sizes: int) -> torch.nn.Sequential:
    cuba = _cuba()
    return torch.nn.Sequential(*(cuba.Dense(_NEURON, *pair, weight_norm=True) for pair in itertools.pairwise(sizes)))


def _nmnist() -> torch.nn.Sequential:
    cuba = _cuba()
    return torch.nn.Sequential(
        cuba.Conv(_NEURON, 2, 16, 3, stride=2, padding=1, weight_norm=True),
        cuba.Conv(_NEURON, 16, 32, 3, stride=2, padding=1, weight_norm=True),
        cuba.Flatten(),
        cuba.Dense(_NEURON, 32 * 9 * 9, 10, weight_norm=True),
    )


def _dvs() -> torch.nn.Sequential:
    cuba = _cuba()
    return torch.nn.Sequential(
        cuba.Pool(_NEURON, 4),
        cuba.Conv(_NEURON, 2, 16, 5, padding=2, weight_norm=True),
        cuba.Pool(_NEURON, 2),
        cuba.Conv(_NEURON, 16, 32, 3, padding=1, weight_norm=True),
        cuba.Pool(_NEURON, 2),
        cuba.Flatten(),
        cuba.Dense(_NEURON, 32 * 8 * 8, 512, weight_norm=True),
        cuba.Dense(_NEURON, 512, 11, weight_norm=True),
    )


def _shd() -> torch.nn.Sequential:
    cuba = _cuba()
    return torch.nn.Sequential(
        training.build_block(cuba.Recurrent, _NEURON, 700, 256), cuba.Dense(_NEURON, 256, 20, weight_norm=True)
    )


def _cuba() -> Any:
    import lava.lib.dl.slayer as slayer

    return slayer.block.cuba


NETWORKS: dict[str, tuple[Callable[[], torch.nn.Sequential], tuple[int, ...]]] = {
    "MLP": (lambda: _dense(*SIZES), (32, SIZES[0], 300)),
    "ten layers": (lambda: _dense(*[128] * 10, 10), (32, 128, 100)),
    "N-MNIST, convolutions": (_nmnist, (8, 2, 34, 34, 150)),
    "DVS Gesture, convolutions and pools": (_dvs, (1, 2, 128, 128, 100)),
    "SHD, recurrent": (_shd, (32, 700, 100)),
}


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A row for every network."""
    rows, ratios = [], []
    for name in filter(wish.wants, NETWORKS):
        build, shape = NETWORKS[name]
        shape = (1, *shape[1:-1], 40) if wish.tiny else shape
        torch.manual_seed(0)
        spikes = (torch.rand(shape) < 0.02).float()
        net = build()
        training.firing_rate_(net, spikes[:1], 0.05)
        assert_equal(net, spikes)
        runs = {backend: _step(net, spikes, backend) for backend in ("reference", "compiled")}
        times = paired(runs, wish.effort(rounds=5, turn=0.0))
        times_as_fast = ratio(times["reference"], times["compiled"])
        milliseconds = [figure(1e3 * times[backend].seconds) for backend in runs]
        rows.append([name, "x".join(map(str, shape)), *milliseconds, f"**{figure(times_as_fast)}**"])
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
