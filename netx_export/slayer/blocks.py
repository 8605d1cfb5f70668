"""The SLAYER blocks of a network that can be exported, and the error that refuses one of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lava_spikeloss import slayer_blocks
from netx_export.errors import ExportError

__all__ = ["Block", "Head", "family", "find_blocks", "is_layer", "kind", "parts", "refuse", "refuse_outside"]

Block: TypeAlias = Any  # a lava-dl block; its classes cannot be named without importing Lava

_ON_THE_HOST = {"Input", "Flatten", "Average", "Affine"}


class Head(nn.Module):
    """A synapse and the Sigma that sums up what it gives, as one block: what lava-dl's YOLO networks end with.

    The network calls the two by themselves. So a hook on what goes in is put on the synapse, one on what comes out on
    the Sigma, which is the head's neuron.
    """

    mask = None
    delay = None
    delay_shift = False

    def __init__(self, synapse: nn.Module, sigma: nn.Module) -> None:
        super().__init__()
        self.synapse = synapse
        self.neuron = sigma

    def forward(self, messages: torch.Tensor) -> torch.Tensor:
        """The sums, ``(N, C, ..., T)``."""
        sums: torch.Tensor = self.neuron(self.synapse(messages))
        return sums

    def register_forward_pre_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """Put a hook on what goes in: on the synapse."""
        return self.synapse.register_forward_pre_hook(*args, **kwargs)

    def register_forward_hook(self, *args: Any, **kwargs: Any) -> RemovableHandle:
        """Put a hook on what comes out: on the Sigma."""
        return self.neuron.register_forward_hook(*args, **kwargs)


def kind(block: nn.Module) -> str:
    """What a block is: ``"cuba.Dense"`` and the like, ``"head.Conv"`` or ``"head.Dense"``; empty if it is none."""
    return f"head.{slayer_blocks.synapse_kind(block.synapse)}" if isinstance(block, Head) else slayer_blocks.kind(block)


def family(block: nn.Module) -> str:
    """The kind of neurons that a block is made of: ``"cuba"``, ``"rf"`` and so on."""
    return "sigma_delta" if isinstance(block, Head) else slayer_blocks.family(block)


def parts(block: Block) -> tuple[nn.Module, ...]:
    """The modules that a network calls to run a block, in order."""
    return (block.synapse, block.neuron) if isinstance(block, Head) else (block,)


def find_blocks(net: nn.Module) -> list[Block]:
    """The SLAYER blocks of a network in order of registration.

    Raises:
        ExportError: if there are none, or two heads.
    """
    blocks = list(_blocks(net))
    if not blocks:
        raise ExportError(
            f"{type(net).__name__} holds no SLAYER block. Build the network from blocks of lava.lib.dl.slayer.block, "
            f"kept in attributes, a torch.nn.ModuleList or a torch.nn.ModuleDict: what lies in a plain list is no part."
        )
    _refuse_two_heads(net, [block for block in blocks if isinstance(block, Head)])
    return blocks


def refuse_outside(net: nn.Module, blocks: list[Block]) -> None:
    """Raise for parameters outside of all blocks: without a sample nobody knows what the forward does with them."""
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    for name, parameter in net.named_parameters():
        if id(parameter) not in inside:
            raise ExportError(
                f"Parameter `{name}` {tuple(parameter.shape)} lies outside of any SLAYER block, so it cannot be "
                f"exported unless it belongs to what the network does before its first block or after its last one. "
                f"Give a sample, which shows that, or use blocks of lava.lib.dl.slayer.block for everything between."
            )


def _blocks(net: nn.Module) -> Iterator[Block]:
    """Blocks, and heads made of a synapse and a Sigma that were registered one after the other."""
    inside = {id(part) for block in net.modules() if kind(block) for part in block.modules() if part is not block}
    outside = [module for module in net.modules() if id(module) not in inside and not isinstance(module, _CONTAINERS)]
    for module, following in pairwise([*outside, nn.Identity()]):
        if kind(module):
            yield module
        elif slayer_blocks.synapse_kind(module) in ("Conv", "Dense") and slayer_blocks.is_sigma(following):
            yield Head(module, following)


def _refuse_two_heads(net: nn.Module, heads: list[Head]) -> None:
    if len(heads) > 1:
        names = " and ".join(slayer_blocks.named(net, head.synapse) for head in heads)
        raise ExportError(
            f"Not exported: the network has {len(heads)} heads, {names}, each a synapse with a Sigma behind it. A file "
            f"holds a chain with one output, and netx connects each layer to the one before it. Export a network with "
            f"one of them."
        )


def is_layer(block: Block) -> bool:
    """Whether a block is a layer of neurons in a file. Input, Flatten, Average and Affine are computed on the host."""
    return kind(block).partition(".")[2] not in _ON_THE_HOST


def refuse(index: int, block: Block, reason: str, advice: str) -> NoReturn:
    """Raise the error that says which block cannot be exported, why, and what to use instead."""
    raise ExportError(reason, f"Block {index} ({kind(block)})", advice)


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
