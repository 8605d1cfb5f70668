"""One typed call of handwritten autograd functions: ``Function.apply`` itself has no types in some torch releases."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["apply"]


def apply(function: Any, *args: object) -> torch.Tensor:
    """``function.apply(*args)`` for a function with one output."""
    output: torch.Tensor = function.apply(*args)
    return output
