"""Whether a network's forward is a chain: each block runs once, in order, on just what the block before it made.

What a block is given is compared with what was made for it, twice: on the caller's sample, and with outputs that were
replaced by random ones, so that a silent or regular sample hides nothing that the forward does between its blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from netx_export.errors import ExportError
from netx_export.slayer.blocks import Block, family, kind, parts, refuse
from netx_export.slayer.running import CannotRunError, first_input, forward, main_output

__all__ = ["check_chain", "random_events", "random_numbers"]

_SAMPLES, _STEPS = 3, 16  # of a probe, at least
_ONLY_A_CHAIN = "Only a chain can be exported: no branches, residual connections, or operations between the blocks."


@dataclass(frozen=True)
class _Link:
    """A module that the network calls to run a block, and the block with its position."""

    module: nn.Module
    index: int
    block: Block


@dataclass(frozen=True)
class _Call:
    """One call of a link: which one, and whether it was given what the call before it made, or the network's input."""

    position: int
    continues: bool


def check_chain(net: nn.Module, blocks: list[Block], sample: torch.Tensor) -> None:
    """Run the network, inside of an :func:`evaluation`, and refuse it if its blocks do not run one after the other.

    Raises:
        ExportError: for a block that does not run exactly once, in order, on what the block before it made, or a
            network that begins with or returns something else.
    """
    _check_run(net, blocks, sample, _as_made)
    # Enough samples and steps for an operation along them to show, or those of the sample if it has to be these.
    enough = (max(len(sample), _SAMPLES), *sample.shape[1:-1], max(sample.shape[-1], _STEPS))
    try:
        _check_at_random(net, blocks, enough)
    except CannotRunError:
        if enough == sample.shape:
            raise
        _check_at_random(net, blocks, tuple(sample.shape))


def _check_at_random(net: nn.Module, blocks: list[Block], shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    encodes = kind(blocks[0]).endswith(".Input") and blocks[0].neuron is not None
    draw = partial(random_numbers, random) if encodes else partial(random_events, random, rate=0.5)
    for _ in range(2):  # a forward that remembers the last one shows when it is run again
        _check_run(net, blocks, draw(shape), partial(_at_random, random))


def random_events(random: torch.Generator, shape: tuple[int, ...], rate: float | torch.Tensor) -> torch.Tensor:
    """Spikes of 0 and 1 at a rate."""
    return (torch.rand(shape, generator=random) < rate).float()


def random_numbers(random: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers of both signs that float32 holds, in steps of 1/64."""
    return (torch.randn(shape, generator=random) * 64).round() / 64


def _as_made(block: Block, made: torch.Tensor) -> torch.Tensor:
    return made


def _at_random(random: torch.Generator, block: Block, made: torch.Tensor) -> torch.Tensor:
    """What could have come out of a block instead; a block without neurons gives back what it was given."""
    if getattr(block, "neuron", None) is None and not kind(block).endswith(".Average"):
        return made
    binary = family(block) != "sigma_delta" and not kind(block).endswith((".Average", ".Affine"))
    values = random_events(random, made.shape, 0.5) if binary else random_numbers(random, made.shape)
    return values.to(made)


def _check_run(
    net: nn.Module, blocks: list[Block], inputs: torch.Tensor, replace: Callable[[Block, torch.Tensor], torch.Tensor]
) -> None:
    links = [_Link(module, index, block) for index, block in enumerate(blocks) for module in parts(block)]
    calls, made, output = _traced(net, links, inputs, replace)
    _check_order(links, [call.position for call in calls])
    if not calls[0].continues:
        refuse(
            0,
            blocks[0],
            "its input is not the one that the network was given",
            "The network's forward changes it: do that outside of the network, and give the network and export what "
            "comes of it.",
        )
    for call in calls:
        if not call.continues:
            link = links[call.position]
            refuse(link.index, link.block, "its input is not what the block before it made", _ONLY_A_CHAIN)
    returned = main_output(output, len(inputs))
    if returned is None or not torch.equal(returned, made):
        came = type(output).__name__ if returned is None else f"a tensor of shape {tuple(returned.shape)}"
        raise ExportError(
            f"Not exported: the network does not return what its last block made, of shape "
            f"{tuple(made.shape)}, but something else: {came}. Only the chain of blocks can be exported: "
            f"return what the last block made, alone or first in a tuple, and do the rest outside of the network."
        )


def _traced(
    net: nn.Module, links: list[_Link], inputs: torch.Tensor, replace: Callable[[Block, torch.Tensor], torch.Tensor]
) -> tuple[list[_Call], torch.Tensor, Any]:
    """Run the network and note each call of a link, what the last one made, and what the network returned.

    One output is kept at a time, as a copy, since a forward may write into it.
    """
    calls: list[_Call] = []
    continues: dict[int, bool] = {}
    made = torch.zeros(0)

    def before(position: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            taken = first_input(args, kwargs)
            continues[position] = torch.equal(made, taken) if calls else _same_values(inputs, taken)

        return hook

    def after(position: int) -> Callable[..., torch.Tensor]:
        def hook(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
            nonlocal made
            output = replace(links[position].block, output)
            calls.append(_Call(position, continues[position]))
            made = output.detach().clone()
            return output

        return hook

    handles = [
        handle
        for position, link in enumerate(links)
        for handle in (
            link.module.register_forward_pre_hook(before(position), with_kwargs=True),
            link.module.register_forward_hook(after(position)),
        )
    ]
    try:
        output = forward(net, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls, made, output


def _check_order(links: list[_Link], order: list[int]) -> None:
    missing = sorted(set(range(len(links))) - set(order))
    if missing:
        link = links[missing[0]]
        refuse(
            link.index,
            link.block,
            "the network's forward does not run it by calling it",
            "Call the block, not its forward or its parts by themselves; or remove it from the network.",
        )
    for expected, position in enumerate(order):
        if position != expected:
            link = links[position]
            refuse(
                link.index,
                link.block,
                "the network's forward runs it again, or not in the order in which the blocks were registered",
                "Only a chain can be exported: register the blocks in the order of the forward, each for one use.",
            )


def _same_values(given: torch.Tensor, taken: torch.Tensor) -> bool:
    """Whether a block got the network's input, if in another shape: channels may be split up or joined in order."""
    given = given.to(taken)
    if given.shape[0] != taken.shape[0] or given.shape[-1] != taken.shape[-1] or given.numel() != taken.numel():
        return False
    return torch.equal(given.flatten(1, -2), taken.flatten(1, -2))
