"""Counts over time, in half precision as exact as in float32, and losses of counts that are one step of autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lava_spikeloss._autograd import Rule, apply, blocks
from lava_spikeloss._loops import array, loops_for
from lava_spikeloss.losses.reduction import compute_dtype, reduce

__all__ = ["count", "joined", "of_counts", "pooled_count"]

_HALF = (torch.float16, torch.bfloat16)
_BLOCK = 2**17  # spikes in half precision, whose float32 copy leaves room in a CPU's cache


def count(x: torch.Tensor) -> torch.Tensor:
    """Sum over the last dimension, in the dtype of accumulation."""
    if x.dtype in _HALF and not (x.is_cpu and x.numel() <= _BLOCK):
        return apply(_HalfCount, x)
    return x.sum(-1, dtype=compute_dtype(x.dtype))


class _HalfCount(torch.autograd.Function):
    """Torch would make a float32 copy of all spikes, and in the backward a number for each step."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return _total(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad.to(ctx.dtype).unsqueeze(-1).expand(ctx.shape)


def _total(x: torch.Tensor) -> torch.Tensor:
    if x.dtype not in _HALF:
        return x.sum(-1, dtype=compute_dtype(x.dtype))
    rows = x.reshape(-1, x.shape[-1])
    if loops := loops_for(x):
        sums = torch.empty(len(rows), dtype=torch.float32)
        loops.count(array(rows), array(sums))
    else:
        sums = torch.cat([rows[block].sum(-1, dtype=torch.float32) for block in blocks(rows, _BLOCK)])
    return sums.view(x.shape[:-1])


def pooled_count(trains: torch.Tensor, num_classes: int, pooling: str) -> torch.Tensor:
    """Counts ``(N, C)`` of trains ``(N, C * group, T)``, pooled over the groups of a population code."""
    trains, divisor = joined(trains, num_classes, pooling)
    return count(trains) if divisor == 1 else count(trains) / divisor


def joined(trains: torch.Tensor, num_classes: int, pooling: str) -> tuple[torch.Tensor, int]:
    """The trains of each group of a population code one after the other, and what their count is to be divided by."""
    neurons = trains.shape[1] // num_classes
    trains = trains if neurons == 1 else trains.reshape(trains.shape[0], num_classes, neurons * trains.shape[-1])
    return trains, 1 if pooling == "sum" else neurons


def of_counts(rule: Rule) -> Callable[..., torch.Tensor]:
    """Turn a rule for counts or rates ``(N, C)`` into a reduced loss of spikes ``(N, C, T)``.

    From the spikes to the loss it is one step of autograd: with few neurons each step weighs as much as the sum. The
    forward keeps the gradient by the counts. A backward that is to be differentiated itself, and a compiled one,
    evaluate the rule again.

    The loss takes spikes, targets, the divisor that makes counts rates, a reduction and the options of the rule.
    """

    class OfCounts(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, x: torch.Tensor, targets: torch.Tensor, divisor: float, reduction: str, *options: Any
        ) -> torch.Tensor:
            ctx.save_for_backward(x, targets)
            ctx.options = divisor, options
            counts = _total(x)
            losses, gradient = rule(counts if divisor == 1 else counts / divisor, targets, None, *options)
            ctx.divisor = divisor * (losses.numel() if reduction == "mean" else 1)
            keep = not torch.compiler.is_compiling() and ctx.needs_input_grad[0]
            ctx.kept = gradient() if keep else None
            return reduce(losses, reduction)

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            x, targets = ctx.saved_tensors
            divisor, options = ctx.options
            derivative = ctx.kept
            if torch.compiler.is_compiling() or torch.is_grad_enabled() or derivative is None:
                derivative = rule(count(x) / divisor, targets, None, *options)[1]()
            derivative = (derivative * (grad / ctx.divisor)).to(x.dtype)
            return derivative.unsqueeze(-1).expand(x.shape), *(None,) * (3 + len(options))

    def loss(x: torch.Tensor, targets: torch.Tensor, divisor: float, reduction: str, *options: Any) -> torch.Tensor:
        if targets.requires_grad:
            return reduce(rule(count(x) / divisor, targets, None, *options)[0], reduction)
        return apply(OfCounts, x, targets, divisor, reduction, *options)

    return loss
