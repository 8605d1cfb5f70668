"""Passes of a network that show what each block takes and makes, with random values in the place of what it makes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lava_spikeloss.training.backend import compiled_inside
from netx_export.errors import ExportError
from netx_export.slayer.blocks import Block, family, kind, parts, refuse
from netx_export.slayer.running import first_input, forward, tensors_in, unread_in, values_in

__all__ = ["INPUT", "Draw", "Part", "Pass", "Passes", "Seen", "random_events", "random_numbers", "same_numbers"]

INPUT = -1  # stands for the network's input among the positions of parts
_PART = 2**16  # numbers to look at together: they stay in the processor's cache
_MIX = 0x9E3779B97F4A7C15 - 2**64  # an odd number without pattern: 2^64 divided by the golden ratio


@dataclass(frozen=True)
class Part:
    """A module that a network calls to run a block, and the block with its position."""

    module: nn.Module
    index: int
    block: Block

    @property
    def name(self) -> str:
        """The block, for messages."""
        return f"Block {self.index} ({kind(self.block)})"


@dataclass(frozen=True, eq=False)
class Seen:
    """A tensor ``(N, C, ..., T)`` that was seen in a pass.

    Attributes:
        rows, shape, steps: number of samples, shape without batch and time, and number of steps.
        codes: a number for each value of that shape, which stands for its train over all samples and steps.
    """

    rows: int
    shape: tuple[int, ...]
    steps: int
    codes: torch.Tensor

    @classmethod
    def of(cls, tensor: torch.Tensor) -> Seen:
        """What is to be remembered of a tensor."""
        steps = tensor.shape[-1] if tensor.dim() > 1 else 1
        return cls(
            len(tensor), tuple(tensor.shape[1:-1]), steps, _codes(tensor.detach().reshape(len(tensor), -1, steps))
        )

    def equals(self, other: Seen) -> bool:
        """Whether both are of one size and hold the same values, in one order."""
        return (self.rows, self.steps) == (other.rows, other.steps) and torch.equal(self.codes, other.codes)


def _codes(values: torch.Tensor) -> torch.Tensor:
    """For each value of ``(N, V, T)`` a number that two values share only if their trains are equal."""
    random = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (len(values), values.shape[-1]), generator=random)
    codes = torch.zeros(values.shape[1], dtype=torch.int64)
    rows = max(1, _PART // max(1, values.shape[-1]))
    for sample, factors in zip(values, weights, strict=True):
        for part, target in zip(sample.split(rows), codes.split(rows), strict=True):
            bits = (part.to("cpu", torch.float32) + 0.0).contiguous().view(torch.int32).long().mul_(_MIX)  # -0 is 0
            target += bits.bitwise_xor_(bits >> 32).mul_(factors).sum(-1)
    return codes


@dataclass(frozen=True)
class Draw:
    """Where the random values come from that are put in the place of what a part made.

    Attributes:
        seed: of the random number generator.
        second: seed for the values from the index ``start`` on along an axis; None to draw all with the first seed.
        axis: that axis.
        start: that index.
    """

    seed: int
    second: int | None = None
    axis: int = -1
    start: int = 0

    def of(self, draw: Callable[[torch.Generator], torch.Tensor], position: int) -> torch.Tensor:
        """The values that ``draw`` makes for a part."""
        values = draw(torch.Generator().manual_seed(1000 * self.seed + position))
        if self.second is None:
            return values
        later = slice(self.start, None)
        place = (later,) if self.axis == 0 else (..., later)
        values[place] = Draw(self.second).of(draw, position)[place]
        return values


@dataclass(eq=False)
class Pass:
    """One pass of a network.

    Attributes:
        calls: which part ran, in order.
        taken, made: what each took, and what came out of it or was put in the place of that.
        given: the network's input.
        returned: the parts of what the network returned: its tensors and numbers, one by one.
        unread: the types of what it returned besides, None left out.
        kept: of the parts that were asked for, what they took and made, as ``("taken", position)``.
    """

    given: Seen
    calls: list[int] = field(default_factory=list)
    taken: dict[int, Seen] = field(default_factory=dict)
    made: list[Seen] = field(default_factory=list)
    returned: list[list[torch.Tensor]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    kept: dict[tuple[str, int], torch.Tensor] = field(default_factory=dict)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of what all parts take and make, without batch and time."""
        return [seen.shape for seen in (*self.taken.values(), *self.made)]

    @property
    def rows(self) -> int:
        """Samples of what the blocks made."""
        return self.made[0].rows

    @property
    def steps(self) -> int:
        """Steps of what the blocks made."""
        return self.made[0].steps

    @property
    def begins_with_input(self) -> bool:
        """Whether the first block takes the network's input, in whatever shape."""
        return self.given.equals(self.taken[0])

    @property
    def returns_last(self) -> bool:
        """Whether something that the network returns is what the last block made."""
        last = self.made[-1]
        return any(
            tensor.dim() == len(last.shape) + 2
            and tuple(tensor.shape[1:-1]) == last.shape
            and Seen.of(tensor).equals(last)
            for component in self.returned
            for tensor in component
        )

    def check_rows(self, parts: Sequence[Part]) -> None:
        """Raise for a part that runs on something else than one row per sample."""
        for part, taken in zip(parts, self.taken.values(), strict=True):
            if taken.rows != self.given.rows:
                refuse(
                    part.index,
                    part.block,
                    f"it takes {taken.rows} rows for {self.given.rows} samples",
                    "A file runs each layer on one row per sample, (N, C, ..., T): let the network do so too.",
                )


class Passes:
    """Passes of one network, whose blocks run in one order, on one sample or on random values.

    Attributes:
        net: the network.
        parts: the modules that it calls, in order.
        sample: the caller's.
        shape: of random input; None if the sample goes in.
    """

    def __init__(self, net: nn.Module, blocks: list[Block], sample: torch.Tensor) -> None:
        self.net = net
        self.parts = [Part(module, index, block) for index, block in enumerate(blocks) for module in parts(block)]
        self.sample = sample
        self.shape: tuple[int, ...] | None = None
        self._encodes = kind(blocks[0]).endswith(".Input") and blocks[0].neuron is not None

    def own(self, draws: Mapping[int, Draw] | None = None) -> Pass:
        """Run the network on the sample, with random values in the place of what some parts make, by their position."""
        return self._run(self.sample, draws or {})

    def at_random(self, draw: Draw, others: Mapping[int, Draw] | None = None, keep: Collection[int] = ()) -> Pass:
        """Run the network with random values in the place of its input and of all that its parts make.

        Args:
            draw: where they come from.
            others: the same for some parts, by position, or for the input (``INPUT``), which may need another one.
            keep: positions of parts of which to keep what they take and make.
        """
        draws = dict.fromkeys((INPUT, *range(len(self.parts))), draw) | dict(others or {})
        if self.shape is not None:
            return self._run(draws[INPUT].of(self._input, INPUT), draws, keep)
        changed = draws[INPUT] != draw
        return self._run(self.sample.flip(tuple(range(1, self.sample.dim()))) if changed else self.sample, draws, keep)

    def _input(self, random: torch.Generator) -> torch.Tensor:
        assert self.shape is not None
        return random_numbers(random, self.shape) if self._encodes else random_events(random, self.shape, 0.5)

    def _run(self, inputs: torch.Tensor, draws: Mapping[int, Draw], keep: Collection[int] = ()) -> Pass:
        """Run the network.

        Raises:
            ExportError: if it cannot run, or runs its blocks in another order than before.
        """
        passed = Pass(Seen.of(inputs.to(_type_of(self.net))))
        handles = [
            handle
            for position, part in enumerate(self.parts)
            for handle in (
                part.module.register_forward_pre_hook(_before(passed, position, keep), with_kwargs=True),
                part.module.register_forward_hook(_after(passed, position, part.block, draws.get(position), keep)),
            )
        ]
        try:
            with compiled_inside(self.net) if len(draws) > len(self.parts) else nullcontext():  # all is replaced
                output = forward(self.net, inputs)
        finally:
            for handle in handles:
                handle.remove()
        if passed.calls != list(range(len(self.parts))):
            raise ExportError(
                f"Not exported: the network's forward runs its blocks in an order that depends on its input or on "
                f"earlier runs: {passed.calls} here. A file runs each layer once, one after the other."
            )
        passed.returned, passed.unread = _components(output), unread_in(output)
        return passed


def _type_of(net: nn.Module) -> torch.dtype:
    return next(net.parameters(), torch.zeros(0)).dtype


def _before(passed: Pass, position: int, keep: Collection[int]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        taken = first_input(args, kwargs)
        passed.taken[position] = Seen.of(taken)
        if position in keep:
            passed.kept["taken", position] = taken.detach().clone()

    return hook


def _after(passed: Pass, position: int, block: Block, draw: Draw | None, keep: Collection[int]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        made = output if draw is None else draw.of(lambda random: _instead(block, output, random), position)
        passed.calls.append(position)
        passed.made.append(Seen.of(made))  # at once, since the forward may write into it later
        if position in keep:
            passed.kept["made", position] = made.detach().clone()
        return made

    return hook


def _instead(block: Block, made: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Random values of the kind that come out of a block."""
    binary = family(block) != "sigma_delta" and not kind(block).endswith((".Average", ".Affine"))
    values = random_events(random, made.shape, 0.5) if binary else random_numbers(random, made.shape)
    return values.to(made)


def random_events(random: torch.Generator, shape: tuple[int, ...], rate: float | torch.Tensor) -> torch.Tensor:
    """Spikes of 0 and 1 at a rate."""
    return (torch.rand(shape, generator=random) < rate).float()


def random_numbers(random: torch.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Numbers of both signs that float32 holds, in steps of 1/64."""
    return (torch.randn(shape, generator=random) * 64).round() / 64


def _components(output: Any) -> list[list[torch.Tensor]]:
    """The parts of what a forward returns, each with all the numbers in it."""
    values = values_in(output)
    return [tensors_in(part) for part in ([output] if values is None else values)]


def same_numbers(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    """Whether two lists hold the same tensors; NaN is the same as NaN."""
    return len(one) == len(other) and all(
        mine.shape == its.shape and torch.equal(torch.nan_to_num(mine), torch.nan_to_num(its))
        for mine, its in zip(one, other, strict=True)
    )
