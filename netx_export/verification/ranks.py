"""The processes that torchrun started, called ranks. Each verifies a share, and all have to call these functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch.distributed as dist

from lava_spikeloss.activity.distributed import is_distributed
from netx_export.errors import SimulationError

__all__ = ["gather_from_ranks", "rank_and_size", "refuse_differences", "together"]

_Result = TypeVar("_Result")


def rank_and_size() -> tuple[int, int]:
    """This process among those that torchrun started, and their number."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def gather_from_ranks(value: Any) -> list[Any]:
    """The value of every rank, in their order."""
    if not is_distributed():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def together(work: Callable[[], _Result]) -> _Result:
    """What ``work`` gives on this rank. If it fails on one rank it fails on all, so that none waits for another.

    Raises:
        SimulationError: if it failed on another rank; on its own rank, an error stays what it is.
    """
    failure: Exception | None = None
    try:
        result = work()
    except Exception as error:
        failure = error
    messages = gather_from_ranks(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, message in enumerate(messages):
        if message is not None:
            raise SimulationError(f"Rank {rank} failed, so nothing was verified. {message}")
    return result


def refuse_differences(given: Mapping[str, str]) -> None:
    """Refuse what is not the same on every rank.

    Args:
        given: what this rank was given, by the names that its user knows it by; anything that tells it from others.

    Raises:
        ValueError: if a rank was given something else, on every rank.
    """
    first, *others = gather_from_ranks(dict(given))
    for rank, other in enumerate(others, 1):
        different = [name for name in first if other[name] != first[name]]
        if different:
            raise ValueError(
                f"Expected the same arguments on every rank, but {', '.join(different)} of rank {rank} differs from "
                f"that of rank 0. Give each rank the same file and all samples: they are shared out here."
            )
