"""When the compiled loops are run instead of torch's operations, and how tensors are handed to them."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

import numpy.typing as npt
import torch

from lava_spikeloss.compiling import numba_runs

__all__ = ["array", "loops_for"]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_MOST_THREADS = 4  # a loop runs on one; beside it torch's operations took, on two, from the same time to three times it
_PLAIN = (torch.Tensor, torch.nn.Parameter)  # subclasses may hold no numbers at all


@cache
def _compiled_loops() -> ModuleType | None:
    return importlib.import_module("lava_spikeloss._compiled") if numba_runs() else None


def loops_for(x: torch.Tensor) -> Any:
    """The compiled loops if they can take ``x``, else None.

    They cannot on a GPU, where autograd or a compiler has to see each operation, and beside many of torch's threads.
    """
    if torch.compiler.is_compiling() or not x.is_cpu or x.dtype not in _DTYPES:
        return None
    if torch.jit.is_tracing() or type(x) not in _PLAIN:  # type: ignore[attr-defined, no-untyped-call]
        return None
    if torch.get_num_threads() > _MOST_THREADS or (x.requires_grad and torch.is_grad_enabled()):
        return None
    return _compiled_loops()


def array(x: torch.Tensor) -> npt.NDArray[Any]:
    """The numbers of a tensor as an array that shares its memory if it is contiguous; bfloat16 as 16 bits."""
    x = x.detach().contiguous()
    bits = x.dtype == torch.bfloat16  # numpy does not know it
    numbers: npt.NDArray[Any] = x.view(torch.int16).numpy().view("uint16") if bits else x.numpy()
    return numbers
