"""The SLAYER blocks of a network that can be exported, and the error that refuses one of them."""

from __future__ import annotations

from typing import Any, NoReturn, TypeAlias

from torch import nn

from lava_spikeloss.slayer_blocks import kind
from netx_export.errors import ExportError

__all__ = ["Block", "find_blocks", "is_layer", "layer_blocks", "refuse"]

Block: TypeAlias = Any  # a lava-dl block; its classes cannot be named without importing Lava

_ON_THE_HOST = {"Input", "Flatten", "Average", "Affine"}


def find_blocks(net: nn.Module) -> list[Block]:
    """The SLAYER blocks of a network in order of registration.

    Raises:
        ExportError: if there are none, or if the network has parameters outside of them.
    """
    blocks = [module for module in net.modules() if kind(module)]
    if not blocks:
        raise ExportError(
            f"{type(net).__name__} holds no SLAYER block. Build the network from blocks of lava.lib.dl.slayer.block."
        )
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    for name, parameter in net.named_parameters():
        if id(parameter) not in inside:
            raise ExportError(
                f"Parameter `{name}` {tuple(parameter.shape)} lies outside of any SLAYER block, so it cannot be "
                f"exported. Use blocks of lava.lib.dl.slayer.block for everything that is trained."
            )
    return blocks


def layer_blocks(net: nn.Module) -> list[Block]:
    """The blocks that are layers of neurons in a file, ``NetworkDescription.spiking``, in its order."""
    return [block for block in find_blocks(net) if is_layer(block)]


def is_layer(block: Block) -> bool:
    """Whether a block is a layer of neurons in a file. Input, Flatten, Average and Affine are computed on the host."""
    return kind(block).partition(".")[2] not in _ON_THE_HOST


def refuse(index: int, block: Block, reason: str, advice: str) -> NoReturn:
    """Raise the error that says which block cannot be exported, why, and what to use instead."""
    raise ExportError(reason, f"Block {index} ({kind(block)})", advice)
