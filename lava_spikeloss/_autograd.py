"""One typed call of handwritten autograd functions: ``Function.apply`` itself has no types in some torch releases."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["apply", "sum_of_squares"]


def apply(function: Any, *args: object) -> torch.Tensor:
    """``function.apply(*args)`` for a function with one output."""
    output: torch.Tensor = function.apply(*args)
    return output


def sum_of_squares(x: torch.Tensor) -> torch.Tensor:
    """Sum of squares over the last dimension, without a tensor of squares."""
    return apply(_SumOfSquares, x)


class _SumOfSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        norm: torch.Tensor = torch.linalg.vector_norm(x, dim=-1)
        return norm.square()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        gradient: torch.Tensor = x * grad.mul(2).unsqueeze(-1)
        return gradient
