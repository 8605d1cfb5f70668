"""What a loss holds in memory at its peak, forward and backward together, beyond its input and the gradient it gives.

In copies of the input, at the largest size.

    python -m benchmarks.memory --only 'spike_*'
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks._cases import CASES, SIMILARITIES, Size
from benchmarks._command import Wish, main
from benchmarks._memory import peak_allocated
from benchmarks._results import Line
from benchmarks._timing import spread
from benchmarks.losses import LARGEST, call

__all__ = ["measure"]


def measure(wish: Wish) -> Iterator[Line]:
    """A line for every loss."""
    size = Size(4, 10, 12) if wish.tiny else LARGEST
    for device in wish.devices:
        for case in filter(lambda case: wish.wants(case.name), [*CASES, *SIMILARITIES]):
            for dtype in (torch.float32, torch.bfloat16):
                x = case.input(size, dtype, device)
                target = case.target(size)
                run = call(case, case.loss(size), x, target if target is None else target.to(device))
                # A gradient that is the same at every step may be stored once for all of them.
                extra = peak_allocated(run, device) - run()[1].untyped_storage().nbytes()
                copies = extra / (x.numel() * x.element_size())
                labels = {
                    "loss": case.name,
                    "size": str(size),
                    "dtype": str(dtype).removeprefix("torch."),
                    "device": device,
                }
                yield Line("memory", labels, "peak extra memory", spread([copies]), "copies", "lower", target="memory")


if __name__ == "__main__":
    main("memory", __doc__, measure)
