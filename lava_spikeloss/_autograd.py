"""Handwritten autograd, in one place: blocks that fit a CPU's cache, and losses whose forward leaves the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

__all__ = ["Gradient", "Rule", "apply", "blocks", "separable"]

_BLOCK = 2**18  # elements of a block, 1 MiB in float32; halves and quarters were slower, twice as much not faster

Gradient = Callable[[], torch.Tensor]
Rule = Callable[..., tuple[torch.Tensor, Gradient]]


def apply(function: Any, *args: object) -> torch.Tensor:
    """``function.apply(*args)`` for a function with one output; it has no types itself in some torch releases."""
    output: torch.Tensor = function.apply(*args)
    return output


def blocks(x: torch.Tensor, size: int | None = None) -> Iterator[slice]:
    """Slices of the first dimension; only one on an accelerator, whose cache is no help, and in a compiler."""
    rows = x.shape[0]
    if x.is_cpu and not torch.compiler.is_compiling():
        rows = max(1, (size or _BLOCK) // x.shape[1:].numel())
    return (slice(first, first + rows) for first in range(0, x.shape[0], rows))


def _scale(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """``x *= factor``; in half precision by blocks, since torch would make float32 copies of all of it."""
    if x.dtype == factor.dtype:
        return x.mul_(factor)
    for block in blocks(x):
        x[block] = x[block].to(factor.dtype).mul_(factor[block])
    return x


def separable(rule: Rule) -> Callable[..., torch.Tensor]:
    """Turn a rule for samples that do not depend on each other into a loss that takes no memory but its gradient's.

    ``rule(x, targets, out, *options)`` gives losses that broadcast to ``x``, and a function ``gradient()`` that gives
    the derivative of their sum. Both may write into ``out``, which may be ``x`` itself; where it is None they are made
    of differentiable operations. The forward evaluates the rule block by block and keeps the gradient; the backward
    only scales it, in place. A second backward, and any in float16, evaluates the rule again block by block; one that
    is to be differentiated itself, and a compiled one, at once.
    """

    class Separable(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, targets: torch.Tensor, *options: Any) -> torch.Tensor:
            ctx.save_for_backward(x, targets)
            ctx.options = options
            if torch.compiler.is_compiling():
                return rule(x, targets, None, *options)[0]
            # half precision has no range for a gradient that is not scaled yet
            keep = ctx.needs_input_grad[0] and x.dtype != torch.float16
            ctx.kept = torch.empty_like(x) if keep else None
            losses = []
            for block in blocks(x):
                part, out = x[block], None
                if x.dtype in (torch.float16, torch.bfloat16):
                    part = out = part.to(torch.float32)
                elif keep:
                    out = ctx.kept[block]
                loss, gradient = rule(part, targets[block], out, *options)
                losses.append(loss)
                if keep:
                    derivative = gradient()
                    if derivative is not out or part is out:
                        ctx.kept[block] = derivative
            return torch.cat(losses)

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            others = (None,) * (1 + len(ctx.options))
            x, targets = ctx.saved_tensors
            if torch.compiler.is_compiling() or torch.is_grad_enabled():
                gradient = rule(x, targets, None, *ctx.options)[1]
                return (gradient() * grad).to(x.dtype), *others
            kept, ctx.kept = ctx.kept, None
            if kept is not None:
                return _scale(kept, grad), *others
            derivative = torch.empty_like(x)
            for block in blocks(x):
                part = x[block].to(grad.dtype, copy=True)
                gradient = rule(part, targets[block], part, *ctx.options)[1]
                derivative[block] = gradient() * grad[block]
            return derivative, *others

    def loss(x: torch.Tensor, targets: torch.Tensor, *options: Any) -> torch.Tensor:
        if targets.requires_grad:
            return rule(x, targets, None, *options)[0]
        return apply(Separable, x, targets, *options)

    return loss
