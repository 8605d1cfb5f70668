"""Runs the loops over time: each is a function of :mod:`lava_spikeloss.training.compiled_loops`, called by its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lava_spikeloss.compiling import in_threads
from lava_spikeloss.training import compiled_loops

__all__ = ["Argument", "run"]

Argument = torch.Tensor | tuple[torch.Tensor, ...] | np.float32 | float


def run(loop: str, *arguments: Argument) -> None:
    """Run a loop with its arguments: numbers, and contiguous tensors, or tuples of such, with a row for each neuron.

    The loop writes to those of the tensors that its description names.
    """
    compiled = getattr(compiled_loops, loop)
    arrays = [_as_arrays(argument) for argument in arguments]
    model = sequences(arguments)
    in_threads(lambda rows: compiled(*(_of(rows, array) for array in arrays)), len(model), model.numel())


def sequences(arguments: tuple[Argument, ...]) -> torch.Tensor:
    """The first of the tensors ``(rows, T)`` among the arguments of a loop."""
    flat = (one for argument in arguments for one in (argument if isinstance(argument, tuple) else (argument,)))
    return next(one for one in flat if isinstance(one, torch.Tensor) and one.dim() == 2)


def _as_arrays(argument: Argument) -> Any:
    if isinstance(argument, tuple):
        return tuple(one.numpy() for one in argument)
    return argument.numpy() if isinstance(argument, torch.Tensor) else argument


def _of(rows: slice, array: Any) -> Any:
    """The given rows of an array, or of each in a tuple; numbers hold for all rows."""
    if isinstance(array, tuple):
        return tuple(one[rows] for one in array)
    return array[rows] if isinstance(array, np.ndarray) else array
