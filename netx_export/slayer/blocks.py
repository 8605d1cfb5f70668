"""Which modules of a network are SLAYER blocks, and how a block is named when it is refused."""

from __future__ import annotations

from typing import Any, NoReturn, TypeAlias

from torch import nn

from netx_export.errors import ExportError

__all__ = ["Block", "family", "find_blocks", "kind", "refuse", "spikes"]

Block: TypeAlias = Any  # a lava-dl block; its classes cannot be named without importing Lava

_BLOCK_PACKAGES = ("lava.lib.dl.slayer.block.", "lava.lib.dl.bootstrap.block.")
_WITHOUT_SPIKES = {"Input", "Flatten", "Average", "Affine"}


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


def kind(module: nn.Module) -> str:
    """``cuba.Dense`` and the like: the lava-dl block that a module is or derives from; empty if none."""
    for base in type(module).__mro__:
        for package in _BLOCK_PACKAGES:
            if base.__module__.startswith(package):
                return f"{base.__module__.removeprefix(package)}.{base.__qualname__}"
    return ""


def family(block: Block) -> str:
    """``cuba``, ``rf`` and the like: the neurons that a block is made of."""
    return kind(block).partition(".")[0]


def spikes(block: Block) -> bool:
    """Whether a block has neurons whose spikes a netx network has too."""
    return kind(block).partition(".")[2] not in _WITHOUT_SPIKES


def refuse(index: int, block: Block, reason: str, advice: str) -> NoReturn:
    """Raise the error that says which block cannot be exported, why, and what to use instead."""
    raise ExportError(reason, f"Block {index} ({kind(block)})", advice)
