"""The state of neurons and delays: put to rest, cut from the graph, kept aside and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lava_spikeloss.slayer_blocks import HELD_BACK, states

__all__ = ["Snapshot", "detach_net", "fresh_state", "reset_net", "restore", "snapshot"]

Snapshot = list[tuple[torch.nn.Module, dict[str, torch.Tensor]]]


def _at_rest(module: Any, name: str, value: torch.Tensor) -> torch.Tensor | None:
    """A state as SLAYER makes it: one number, which the next forward spreads over its neurons and samples."""
    if name in HELD_BACK:
        return None
    # An adaptive threshold rests at its base, not at zero.
    level = module.threshold if name == "threshold_state" else 0.0
    return torch.full((1,), level, dtype=value.dtype, device=value.device)


def reset_net(net: torch.nn.Module) -> None:
    r"""Put every neuron, delay buffer and recurrent state in ``net`` back to rest.

    Voltages, currents, oscillator states, sigma, delta and recurrent states become zero, adaptive thresholds go back to
    their base, delay buffers are emptied: all states have the form that they had before the first forward, whatever
    the size of the last batch. Parameters, buffers of norms, and modules that hold no such state stay as they are, so
    the call is safe on any module.

    Args:
        net: any module.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = slayer.block.cuba.Recurrent(dict(neuron), 4, 4)
        >>> x = torch.ones(1, 4, 8)
        >>> first = net(x)
        >>> reset_net(net)
        >>> torch.equal(net(x), first)
        True
    """
    for module in net.modules():
        for name, value in list(states(module)):
            setattr(module, name, _at_rest(module, name, value))


def detach_net(net: torch.nn.Module) -> None:
    r"""Cut every state of ``net`` from the graph that it was computed in, and keep its value.

    A backward pass then stops at this point in time, as in truncated back-propagation. SLAYER stores the states of its
    neurons without a graph anyway; this matters for the spikes that blocks and delays hold back between forwards.

    Args:
        net: any module.

    Example:
        >>> detach_net(torch.nn.Linear(2, 2))
    """
    for module in net.modules():
        for name, value in list(states(module)):
            setattr(module, name, value.detach())


@contextmanager
def fresh_state(net: torch.nn.Module) -> Iterator[None]:
    r"""Inside the ``with`` block ``net`` starts at rest; on leaving it, the old state is put back.

    For a forward in the middle of something else: validation between two chunks of a long sequence, or a probe. What is
    put back is what :func:`reset_net` resets. All else that happens inside stays: gradients, updates of parameters, the
    mode of the net, running statistics.

    Args:
        net: any module.

    Example:
        >>> net = torch.nn.Linear(2, 2)
        >>> with fresh_state(net):
        ...     y = net(torch.ones(1, 2))
    """
    before: Snapshot = [(module, dict(states(module))) for module in net.modules()]
    reset_net(net)
    try:
        yield
    finally:
        reset_net(net)  # for the buffers that did not exist before
        restore(before)


def snapshot(net: torch.nn.Module) -> Snapshot:
    """What a forward of ``net`` changes in it, for :func:`restore`: states, and the running statistics of norms."""
    found: Snapshot = []
    for module in net.modules():
        # Copied, since norms write into their statistics. Neurons replace their states.
        buffers = module.named_buffers(recurse=False)
        statistics = {name: value.clone() for name, value in buffers if name.startswith("running_")}
        found.append((module, {**dict(states(module)), **statistics}))
    return found


def restore(before: Snapshot) -> None:
    """Put back what :func:`snapshot` kept."""
    for module, values in before:
        for name, value in values.items():
            setattr(module, name, value)
