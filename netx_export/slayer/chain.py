"""The chain of blocks that a forward runs: which block comes when, and what happens before, between and after them.

Nothing is read from the code of a forward: it is run, and what each block takes is compared with what the blocks before
it made. Outputs of blocks are replaced by random ones, so that no two values have the same train, and each can be
recognised wherever it goes. A forward that only rearranges values is then seen as an order of them, whichever functions
it calls, and whatever else it does is seen too. Such runs and the one on the caller's own sample have to agree.

What comes before the first block, and after the last one, belongs to the host: the file is the chain between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from netx_export.errors import ExportError
from netx_export.network.description import NetworkDescription
from netx_export.network.fixed_point import IntArray
from netx_export.slayer.blocks import Block, find_blocks, is_layer, kind, refuse, refuse_outside
from netx_export.slayer.passes import Draw, Pass, Passes
from netx_export.slayer.running import BATCH, CannotRunError, evaluation, first_input, forward, same_values
from netx_export.slayer.stretches import refuse_output, refuse_stretch

__all__ = ["Chain", "Link", "chain_of", "line_up", "reaching", "run_blocks", "run_layers"]

_TRACED_SAMPLES = 8
_SAMPLES, _STEPS = 3, 16  # a random run has at least as many
_BITS = 64  # zeros and ones by which a value is told from all others
_IN_ANY_SHAPE = ("Flatten", "Dense", "Output", "Recurrent", "KWTA", "Average", "Affine")


@dataclass(frozen=True, eq=False)
class Link:
    """A block of a chain, and how it gets what the block before it made.

    Attributes:
        block: the block.
        shape: shape of what it takes, without batch and time; None if no forward was run.
        order: for each value that it takes, which one of those that the block before made; None if it takes them as
            they were made.
    """

    block: Block
    shape: tuple[int, ...] | None = None
    order: IntArray | None = None


@dataclass(frozen=True, eq=False)
class Chain:
    """The blocks that a forward runs one after the other.

    Attributes:
        links: these blocks, in the order of the forward.
        inputs: what goes into a file of them: what the network was given, or what its forward made of it for the first
            block; of a few samples. None if no forward was run.
        begins_inside: whether the forward makes something else of its input for its first block.
        ends_inside: whether the network returns something else than what its last block made.
    """

    links: tuple[Link, ...]
    inputs: torch.Tensor | None = None
    begins_inside: bool = False
    ends_inside: bool = False

    @property
    def blocks(self) -> list[Block]:
        """The blocks, in the order of the forward."""
        return [link.block for link in self.links]

    @property
    def layers(self) -> list[Block]:
        """The blocks that are layers of neurons in a file, ``NetworkDescription.spiking``."""
        return [block for block in self.blocks if is_layer(block)]


def run_blocks(net: nn.Module, sample: torch.Tensor | None) -> list[Block]:
    """The blocks that a forward runs, in its order; without a sample, or if it fails on it, all, as registered.

    Raises:
        ExportError: if there are none, or for one that runs more than once, or is run in another way than by a call;
            without a sample, for parameters outside of all blocks, of which a forward could make anything.
    """
    blocks = find_blocks(net)
    if sample is None:
        refuse_outside(net, blocks)
        return blocks
    with evaluation(net), torch.no_grad():
        try:
            calls, touched, made = _calls(net, blocks, sample[:_TRACED_SAMPLES])
        except CannotRunError:
            return blocks
    for index in range(len(blocks)):
        if index in touched and index not in calls:
            refuse(
                index,
                blocks[index],
                "the network's forward does not run it by calling it",
                "Call the block, not its forward or its parts by themselves.",
            )
    _refuse_loop(net, [blocks[index] for index in calls], made, sample[:_TRACED_SAMPLES])
    _refuse_repeated([blocks[index] for index in calls])
    if not calls:
        raise ExportError("The network's forward runs none of its SLAYER blocks, so there is nothing to export.")
    return [blocks[index] for index in calls]


def run_layers(net: nn.Module, sample: torch.Tensor) -> list[Block]:
    """The blocks that a forward runs and that are layers of neurons in a file, in the order of the forward."""
    return [block for block in run_blocks(net, sample) if is_layer(block)]


def _calls(
    net: nn.Module, blocks: list[Block], sample: torch.Tensor
) -> tuple[list[int], set[int], list[tuple[int, int]]]:
    """What a forward calls.

    Returns:
        The positions of the blocks that it calls, call by call; of all blocks of which it calls any part; and how many
        rows and steps each call gave.
    """
    calls: list[int] = []
    made: list[tuple[int, int]] = []
    touched: set[int] = set()

    def after(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            calls.append(index)
            made.append((len(output), output.shape[-1]))

        return hook

    for index, block in enumerate(blocks):
        block.register_forward_hook(after(index))
        for module in block.modules():
            if module is not block:
                module.register_forward_pre_hook(lambda *_, index=index: touched.add(index))
    forward(net, sample)
    return calls, touched, made


def _refuse_loop(net: nn.Module, calls: list[Block], made: list[tuple[int, int]], sample: torch.Tensor) -> None:
    """Refuse a block that runs again and again, each time on a few of the samples or steps."""
    own = [size for block, size in zip(calls, made, strict=True) if block is calls[0]]
    if len(own) < 2:
        return
    rows, steps = map(list, zip(*own, strict=True))
    divided = _divide(rows, len(sample)) or (sample.dim() > 2 and _divide(steps, sample.shape[-1]))
    if divided and not _takes_what_it_made(net, calls[0], sample):
        refuse(
            0,
            calls[0],
            f"the network's forward runs it {len(own)} times, as a loop over steps or samples does, first on {rows[0]} "
            f"rows of {steps[0]} steps, and a file runs each layer once",
            "Let the forward run it once, on all samples and steps, (N, C, ..., T).",
        )


def _divide(sizes: list[int], whole: int) -> bool:
    """Whether calls on so many samples or steps each can be a loop over all of these.

    Fewer steps may come of a forward that takes another axis of the sample for time, and calls two branches.
    """
    return sizes[0] < whole and (len(sizes) > 2 or sum(sizes) >= whole)


def _takes_what_it_made(net: nn.Module, block: Block, sample: torch.Tensor) -> bool:
    """Whether what a block takes at a later call depends on what it made at its first one."""
    try:
        ever, changed = (_taken_later(net, block, sample, change) for change in (False, True))
    except CannotRunError:
        return True  # it cannot be told, so the forward is not called a loop
    return len(ever) != len(changed) or not all(map(torch.equal, ever, changed))


def _taken_later(net: nn.Module, block: Block, sample: torch.Tensor, change: bool) -> list[torch.Tensor]:
    """What a block takes at all calls but the first one, if every value that it made at that one is changed, or not."""
    taken: list[torch.Tensor] = []

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        taken.append(first_input(args, kwargs).detach().clone())

    def after(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        return 1 - output if change and len(taken) == 1 else output

    with evaluation(net):
        block.register_forward_pre_hook(before, with_kwargs=True)
        block.register_forward_hook(after)
        forward(net, sample)
    return taken[1:]


def _refuse_repeated(calls: list[Block]) -> None:
    for position, block in enumerate(calls):
        first = next(index for index, other in enumerate(calls) if other is block)
        if first != position:
            before = ["the network's input" if place == 0 else _named(calls, place - 1) for place in (first, position)]
            refuse(
                first,
                block,
                f"the network's forward runs it again: first behind {before[0]}, then behind {before[1]}, and a file "
                f"runs each layer once",
                "Use a block of its own for each of the places, with the same weights if need be.",
            )


def _named(blocks: list[Block], index: int) -> str:
    return f"Block {index} ({kind(blocks[index])})"


def chain_of(net: nn.Module, blocks: list[Block], sample: torch.Tensor | None) -> Chain:
    """The chain that a forward makes of its blocks, inside of an :func:`evaluation`.

    Args:
        net: the network.
        blocks: those that its forward runs, in its order.
        sample: its input; without one, it is taken for granted that nothing happens between the blocks.

    Raises:
        ExportError: if a block takes anything but what the block before it made, in whatever order, or nothing that the
            network returns depends on the last block alone.
    """
    if sample is None:
        return Chain(tuple(map(Link, blocks)))
    passes = Passes(net, blocks, sample[:_TRACED_SAMPLES])
    own = passes.own()
    own.check_rows(passes.parts)
    runs = [own, *_random_runs(passes, own)]
    links = _links(passes, runs)
    begins_inside = not all(run.begins_with_input for run in runs) or _needs_another_shape(blocks[0], own)
    ends_inside = not all(run.returns_last for run in runs)
    if ends_inside:
        refuse_output(passes)
    inputs = _reaching(net, passes.sample) if begins_inside else passes.sample
    return Chain(links, inputs, begins_inside, ends_inside)


def _random_runs(passes: Passes, own: Pass) -> list[Pass]:
    """Runs on random values, in which no two trains are alike.

    They have so many samples and steps that an operation along them shows. A network that does not run on these gets
    random values in the shape of the sample; one whose forward takes no random values gets the sample itself.
    """
    shape = tuple(passes.sample.shape)
    enough = (max(shape[0], _SAMPLES), *shape[1:-1], max(shape[-1], _STEPS))
    for random_shape in dict.fromkeys([enough, shape, None]):
        passes.shape = random_shape
        try:
            first = passes.at_random(Draw(0))
        except CannotRunError as error:
            if random_shape is None:
                raise ExportError(
                    f"Not exported: what the network's forward does between its blocks is seen by other spikes in the "
                    f"place of those that they make, and with these it fails: {error.__cause__}. Let it take any."
                ) from error
            continue
        if first.shapes == own.shapes:
            number = max(2, -(-_BITS // (first.rows * first.steps)))
            return [first, *(passes.at_random(Draw(seed)) for seed in range(1, number))]
    raise ExportError(
        "Not exported: what the network's forward does between its blocks gives other shapes when other spikes come "
        "in. A file has one shape for each layer."
    )


def _links(passes: Passes, runs: list[Pass]) -> tuple[Link, ...]:
    """The blocks with the orders in which they take what was made for them."""
    links = []
    for position, part in enumerate(passes.parts):
        order = None if position == 0 else _order(runs, position)
        inner = position > 0 and passes.parts[position - 1].block is part.block
        if position > 0 and (order is False or (inner and order is not None)):
            refuse_stretch(passes, position)
        if not inner:
            links.append(Link(part.block, runs[0].taken[position].shape, None if order is False else order))
    return tuple(links)


def _order(runs: list[Pass], position: int) -> Any:
    """The order of the values that a part takes among those that the part before made; None if it is the same, False
    if they are not the same values.
    """
    pairs = [(run.made[position - 1], run.taken[position]) for run in runs]
    if any(made.rows != taken.rows or made.steps != taken.steps for made, taken in pairs):
        return False
    made, taken = (torch.stack([each.codes for each in side]) for side in zip(*pairs, strict=True))
    if torch.equal(made, taken):
        return None
    if made.shape != taken.shape:
        return False
    factors = torch.randint(-(2**62), 2**62, (len(runs), 1), generator=torch.Generator().manual_seed(1))
    (names, places), (wanted, positions) = (
        (codes * factors)[1:].sum(0).sort(stable=True)
        for codes in (made, taken)  # without the first run, on the sample, in which values may have equal trains
    )
    order = torch.empty_like(places)
    order[positions] = places
    if not torch.equal(names, wanted) or not torch.equal(made[:, order], taken):
        return False
    found: IntArray = order.numpy()
    return found


def _needs_another_shape(block: Block, own: Pass) -> bool:
    """Whether the forward reshapes its input for a first block to which the shape matters."""
    reshaped = own.given.shape != own.taken[0].shape
    return reshaped and not kind(block).endswith(_IN_ANY_SHAPE)


class _ReachedError(Exception):
    """Ends a forward at its first block."""


def reaching(net: nn.Module, sample: torch.Tensor, batch_size: int = BATCH) -> torch.Tensor:
    """What a network's forward makes of its input for its first block; no more than that is run.

    Args:
        net: the network.
        sample: its input.
        batch_size: samples at a time, as for :func:`netx_export.slayer.record`.

    Raises:
        ExportError: if it cannot run on it.
    """
    reached = []
    for batch in sample.split(batch_size):
        with evaluation(net):  # for each batch anew, as `record` does, so that both draw the same random numbers
            reached.append(_reaching(net, batch))
    return torch.cat(reached)


def _reaching(net: nn.Module, sample: torch.Tensor) -> torch.Tensor:
    """As :func:`reaching`, for one batch, inside of an ``evaluation``."""
    taken: list[torch.Tensor] = []

    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        taken.append(first_input(args, kwargs).detach().clone())
        raise _ReachedError

    handles = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in find_blocks(net)]
    try:
        forward(net, sample)
    except CannotRunError as error:
        if not isinstance(error.__cause__, _ReachedError):
            raise
    finally:
        for handle in handles:
            handle.remove()
    return taken[0]


def line_up(inputs: torch.Tensor, reached: torch.Tensor, description: NetworkDescription) -> torch.Tensor:
    """The input of a file, in the file's shape, for what ``reached`` the network's first block.

    That is the network's input itself, if it has that shape and reached the block as it is.
    """
    if same_values(inputs, reached) and inputs.shape[1:-1] == description.input_shape:
        return inputs
    fits = reached.dim() > 2 and reached[0, ..., 0].numel() == int(np.prod(description.input_shape))
    return reached.reshape(len(reached), *description.input_shape, reached.shape[-1]) if fits else reached
