"""Whether Triton's kernels run on a device, and give there to the last bit what the loops on the CPU give.

It is tried before they are used: the compiler and the GPU are not those on which the kernels were tested.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import numpy as np
import torch

from lava_spikeloss.training.loops import Argument, run_in_numba, run_in_triton

__all__ = ["trials", "triton_runs"]

_TRIALS: tuple[dict[str, Any], ...] = ({}, {"seed": 1, "threshold": -1.0, "size": 1e16})  # the second ones overflow


@cache
def triton_runs(device: torch.device) -> bool:
    """Whether the kernels run on a device as they should; warns once of what is in the way.

    Where memory is short it raises torch's own error, as what is to run next would, and they are tried again later.
    """
    try:
        with torch.device("cpu"):  # whatever torch's default device is
            drawn = [trial for options in _TRIALS for trial in trials(**options).items()]
            other = sorted({loop for loop, arguments in drawn if not _agree(loop, arguments, device)})
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # Triton or its compiler is missing or old, the GPU is too old ...
        in_the_way = f"{type(error).__name__}: {error}"
    else:
        in_the_way = f"other numbers than on the CPU in {', '.join(other)}" if other else ""
    if in_the_way:
        warnings.warn(
            f"On {device} neurons run lava-dl's own code, whichever backend was chosen, since Triton's kernels do not "
            f"run as they should there: {in_the_way}",
            stacklevel=2,
        )
    return not in_the_way


def trials(
    rows: int = 40, steps: int = 7, size: float = 2.0, scale: int = 64, threshold: float = 1.0, seed: int = 0
) -> dict[str, tuple[Argument, ...]]:
    """Random arguments for each loop, with states and inputs of a ``size``; what the loop is to write is NaN."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return size * torch.randn(*shape, generator=generator)

    def pair(*shape: int) -> tuple[torch.Tensor, ...]:
        return drawn(*shape), drawn(*shape)

    def blank(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
        return torch.full(shape, math.nan, dtype=dtype), torch.full(shape, math.nan, dtype=dtype)

    whole, double = (rows, steps), torch.float64
    kept = torch.cat([torch.tensor([0, 4096]), torch.randint(4097, (rows,), generator=generator)])[:rows]
    turn = tuple(torch.randint(-2896, 2897, (rows,), generator=generator) for _ in range(2))
    shares, turned = kept / 4096, tuple(one / 4096 for one in turn)
    leak = (np.float32(scale), round(threshold * scale))
    spin = (np.float32(scale), threshold > 0, np.float32(threshold * scale), np.float32(threshold * scale - 1))
    adaptive = (round(threshold * scale / 4), round(threshold * scale), np.float32(scale))
    unit = (drawn(rows).abs() / 4, drawn(rows), drawn(rows), (drawn(*whole) * 4).round() / 4)
    return {
        "integrate": (drawn(*whole), kept, drawn(rows), *leak, blank(*whole)[0]),
        "integrate_backward": (drawn(*whole), shares, blank(*whole)[0]),
        "decay_gradient": (*pair(*whole), shares, drawn(rows), *leak, blank(rows, dtype=double)[0]),
        "send_changes": (*unit, *blank(*whole), blank(rows)[0]),
        "resonate": (pair(*whole), turn, pair(rows), *spin, blank(*whole)),
        "resonate_backward": (pair(*whole), turned, blank(*whole)),
        "turn_gradient": (pair(*whole), pair(*whole), turned, pair(rows), *spin, blank(rows, dtype=double)),
        "adapt": (
            drawn(*whole),
            (drawn(*whole), drawn(rows)),
            (kept, kept.flip(0)),
            pair(rows),
            *adaptive,
            seed % 2 == 0,
            blank(*whole),
        ),
    }


def _agree(loop: str, arguments: tuple[Argument, ...], device: torch.device) -> bool:
    """Whether both kinds of a loop write the same, to the last bit."""
    there = tuple(_on(device, argument) for argument in arguments)
    run_in_triton(loop, *there)
    run_in_numba(loop, *arguments)
    return all(_same(ours, _on(torch.device("cpu"), theirs)) for ours, theirs in zip(arguments, there, strict=True))


def _on(device: torch.device, argument: Argument) -> Any:
    """A copy of the tensors on a device."""
    if isinstance(argument, tuple):
        return tuple(one.to(device, copy=True) for one in argument)
    return argument.to(device, copy=True) if isinstance(argument, torch.Tensor) else argument


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, tuple):
        return all(_same(*pair) for pair in zip(ours, theirs, strict=True))
    return not isinstance(ours, torch.Tensor) or torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))
