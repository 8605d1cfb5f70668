"""Neuron parameters shared between blocks: SLAYER writes into the dictionary that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from lava_spikeloss.slayer_blocks import is_block, is_pool, named, self_feeding_neurons
from lava_spikeloss.training.step_mode import in_step_mode

__all__ = ["build_block", "check_neuron_params"]

Block = TypeVar("Block", bound=torch.nn.Module)


def build_block(block: Callable[..., Block], neuron_params: Mapping[str, Any], *args: Any, **kwargs: Any) -> Block:
    r"""Build a SLAYER block from a copy of ``neuron_params``.

    SLAYER's Recurrent and KWTA write ``persistent_state=True`` into the dictionary they get, Pool and Unpool write
    ``norm=None``, and every block built from the same dictionary afterwards comes out different. Built through this
    function, none of them changes the dictionary.

    Args:
        block: the class of the block, such as ``slayer.block.cuba.Recurrent``.
        neuron_params: parameters of the neuron, left as they are.
        args: further arguments of the block.
        kwargs: further keyword arguments of the block.

    Returns:
        The block.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> block = build_block(slayer.block.cuba.Recurrent, neuron, 4, 4)
        >>> sorted(neuron)
        ['current_decay', 'threshold', 'voltage_decay']
    """
    return block(dict(neuron_params), *args, **kwargs)


def check_neuron_params(net: torch.nn.Module, neuron_params: Mapping[str, Any] | None = None) -> list[str]:
    r"""Name the blocks of ``net`` that were built with other parameters because their dictionary was shared.

    If ``neuron_params`` are given, every block is compared with them. Otherwise this looks for what a shared dictionary
    leads to: a persistent state outside Recurrent and KWTA blocks in a net that has such blocks (and is not in step
    mode ``"s"``), and a block without norm behind a Pool or Unpool block in a net where others have one.

    Args:
        net: the net to look at.
        neuron_params: the intended parameters, from before any block was built.

    Returns:
        One sentence per block that was built with other parameters; empty if there is none.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> shared = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = torch.nn.Sequential(
        ...     slayer.block.cuba.Recurrent(shared, 4, 4), slayer.block.cuba.Dense(shared, 4, 2)
        ... )
        >>> print(check_neuron_params(net)[0].split(":")[0])
        `1` (Dense) keeps its state between forwards
    """
    return [*_persistent_victims(net, neuron_params), *_norm_victims(net, neuron_params)]


def _persistent_victims(net: torch.nn.Module, meant: Mapping[str, Any] | None) -> list[str]:
    self_feeding = self_feeding_neurons(net)
    asked_for = bool(meant and meant.get("persistent_state", False))
    if asked_for or in_step_mode(net) or (meant is None and not self_feeding):
        return []
    return [
        f"{named(net, block)} keeps its state between forwards: a Recurrent or KWTA block has written "
        "`persistent_state` into the dictionary they share. Build the blocks with `build_block`."
        for block in _blocks(net)
        if block.neuron.persistent_state and block.neuron not in self_feeding
    ]


def _norm_victims(net: torch.nn.Module, meant: Mapping[str, Any] | None) -> list[str]:
    blocks = _blocks(net)
    normed = any(_has_norm(block) for block in blocks) if meant is None else meant.get("norm") is not None
    pools = [index for index, block in enumerate(blocks) if is_pool(block)]
    if not (normed and pools):
        return []
    return [
        f"{named(net, block)} has no norm: a Pool or Unpool block has written `norm=None` into the dictionary they "
        "share. Build the blocks with `build_block`."
        for block in blocks[pools[0] :]
        if not _has_norm(block) and not is_pool(block)
    ]


def _blocks(net: torch.nn.Module) -> list[Any]:
    return [module for module in net.modules() if is_block(module)]


def _has_norm(block: Any) -> bool:
    return getattr(block.neuron, "norm", None) is not None or getattr(block.neuron, "real_norm", None) is not None
