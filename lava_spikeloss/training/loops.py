"""Runs the loops over time: those of :mod:`compiled_loops` on the CPU, and of :mod:`triton_loops` on CUDA.

Both modules have functions of the same names, for the same arguments; only that a kernel is given the members of a
tuple one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lava_spikeloss.compiling import in_threads
from lava_spikeloss.training import compiled_loops

__all__ = ["Argument", "run", "run_in_numba", "run_in_triton"]

Argument = torch.Tensor | tuple[torch.Tensor, ...] | np.float32 | float | None


def run(loop: str, *arguments: Argument) -> None:
    """Run a loop with its arguments: numbers, and contiguous tensors, or tuples of such, with a row for each neuron.

    The loop writes to those of the tensors that its description names.
    """
    if _sequences(_one_by_one(arguments)).is_cuda:
        run_in_triton(loop, *arguments)
    else:
        run_in_numba(loop, *arguments)


def run_in_numba(loop: str, *arguments: Argument) -> None:
    """Run a loop on the CPU, in torch's threads."""
    compiled = getattr(compiled_loops, loop)
    arrays = [_as_arrays(argument) for argument in arguments]
    model = _sequences(_one_by_one(arguments))
    in_threads(lambda rows: compiled(*(_of(rows, array) for array in arrays)), len(model), model.numel())


def run_in_triton(loop: str, *arguments: Argument) -> None:
    """Run a loop on the device of its tensors."""
    from lava_spikeloss.training import triton_loops  # it needs Triton

    given = _one_by_one(arguments)
    model = _sequences(given)
    rows, steps = model.shape
    programs = -(-rows // triton_loops.ROWS)
    plain = [float(one) if isinstance(one, np.float32) else one for one in given]
    with torch.cuda.device_of(model):  # else Triton takes the current one
        kernel = getattr(triton_loops, loop)[(programs,)]
        kernel(*plain, rows, steps, triton_loops.ROWS, **triton_loops.OPTIONS)


def _one_by_one(arguments: Sequence[Argument]) -> list[Any]:
    return [one for argument in arguments for one in (argument if isinstance(argument, tuple) else (argument,))]


def _sequences(given: list[Any]) -> torch.Tensor:
    """The first of the tensors ``(rows, T)`` that a loop is given."""
    return next(one for one in given if isinstance(one, torch.Tensor) and one.dim() == 2)


def _as_arrays(argument: Argument) -> Any:
    if isinstance(argument, tuple):
        return tuple(one.numpy() for one in argument)
    return argument.numpy() if isinstance(argument, torch.Tensor) else argument


def _of(rows: slice, array: Any) -> Any:
    """The given rows of an array, or of each in a tuple; numbers hold for all rows."""
    if isinstance(array, tuple):
        return tuple(one[rows] for one in array)
    return array[rows] if isinstance(array, np.ndarray) else array
