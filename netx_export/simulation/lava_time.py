"""How long Lava may take, is likely to take, and how many processes it is worth starting for that."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from netx_export.network.description import Conv, NetworkDescription, SpikingLayer
from netx_export.network.fixed_point import MAX_DELAY

__all__ = ["TimeLimit", "number_of_workers", "time_limit"]

_DELAY_SLOTS = MAX_DELAY + 1
# A time limit has to hold on a slow and busy machine: some twenty times what a free one needs.
_START_SECONDS = 120.0
_SECONDS_PER_STEP = 0.1
_SECONDS_PER_OPERATION = 3e-8
_SECONDS_PER_KERNEL = 1e-3
_SLOWER_THAN_FREE = 20.0
# A process takes about five seconds to start, and half a gigabyte besides the network. And one alone uses more than one
# core, since its layers run in processes of their own: a second one on two cores gains little, and only in long runs.
_SECONDS_WORTH_A_WORKER = 20.0
_WORKER_BYTES = 2**29
_BYTES_PER_SYNAPSE = 32


@dataclass(frozen=True)
class TimeLimit:
    """How long Lava may take for some work that may be run in several parts.

    Attributes:
        seconds: for all of it.
        spent: seconds that the parts took that have run.
    """

    seconds: float
    spent: float = 0.0

    @property
    def left(self) -> float:
        """Seconds for the parts that have not run."""
        return self.seconds - self.spent


def time_limit(description: NetworkDescription, samples: int, steps: int, workers: int = 1) -> float:
    """Seconds after which a run cannot be expected to end any more."""
    starts = math.ceil(workers / _cores())
    return _START_SECONDS * starts + _limit_of_steps(description, samples + 1, steps)


def number_of_workers(wanted: int | None, description: NetworkDescription, samples: int, steps: int) -> int:
    """How many processes are to run the samples: as many as wanted, or one per core that may be used, if worth it.

    Args:
        wanted: by the user; None for a number that fits.
        description: the network.
        samples, steps: the work.
    """
    if wanted is not None:
        return max(1, min(wanted, samples))
    worth = _limit_of_steps(description, samples, steps) / _SLOWER_THAN_FREE / _SECONDS_WORTH_A_WORKER
    return max(1, min(samples, _cores(), int(worth), _fitting_into_memory(description)))


def _cores() -> int:
    """This process's share of those that it may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, usable // _processes_here())


def _processes_here() -> int:
    """Those that share this machine: this one, and the other ones that torchrun started on it."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, int(ranks)) if ranks.isdecimal() else 1


def _fitting_into_memory(description: NetworkDescription) -> int:
    """How many processes take this process's share of half of the machine's memory."""
    if not hasattr(os, "sysconf"):
        return 1
    synapses = sum(layer.weight.size for layer in description.spiking.values())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return memory // 2 // _processes_here() // (_WORKER_BYTES + _BYTES_PER_SYNAPSE * synapses)


def _limit_of_steps(description: NetworkDescription, samples: int, steps: int) -> float:
    per_step = _SECONDS_PER_STEP + sum(_seconds_per_step(layer) for layer in description.spiking.values())
    return per_step * samples * (steps + len(description.spiking))


def _seconds_per_step(layer: SpikingLayer) -> float:
    if isinstance(layer, Conv):
        kernels = layer.weight.shape[0] * layer.weight.shape[1]
        operations = layer.weight.size * math.prod(layer.shape[1:]) * math.prod(layer.stride)
        return _SECONDS_PER_KERNEL * kernels + _SECONDS_PER_OPERATION * operations
    slots = 1 if getattr(layer, "delay", None) is None else _DELAY_SLOTS
    return _SECONDS_PER_OPERATION * slots * layer.weight.size
