"""Sums over the ranks of ``torch.distributed``, so that a rate is that of the global batch."""

from __future__ import annotations

import torch
import torch.distributed as dist

__all__ = ["is_distributed", "sum_over_ranks"]


def is_distributed() -> bool:
    """Whether more than one rank takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_ranks(local: torch.Tensor) -> torch.Tensor:
    """The sum of ``local`` over all ranks, with the gradient that DistributedDataParallel expects.

    Every rank computes the same loss from the same sum, and DistributedDataParallel divides the sum of their gradients
    by the number of ranks. So the gradient of each rank is multiplied by that number here. Nothing is sent in the
    backward pass.
    """
    if not is_distributed():
        return local
    total = local.detach().clone()
    dist.all_reduce(total)
    share = local * dist.get_world_size()
    return total + (share - share.detach())
