"""The progress bar of whatever may take long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

__all__ = ["Watch", "time_on_lava", "watched"]


@dataclass(frozen=True)
class Watch:
    """What is told of the work that is under way.

    Attributes:
        advance: by how many samples, or by what part of one, it went on.
        expect: what it is called from now on, and how many samples there are.
    """

    advance: Callable[[float], None] = lambda samples: None
    expect: Callable[[str, int], None] = lambda title, samples: None


@contextmanager
def watched(title: str, samples: int, shown: bool) -> Iterator[Watch]:
    """A bar on standard error, gone at the end, or nothing: even a hidden bar delays a tiny sample."""
    if not shown:
        yield Watch()
        return
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=samples)
        yield Watch(
            partial(bar.advance, task), lambda title, samples: bar.update(task, description=title, total=samples)
        )


def time_on_lava(seconds: float, workers: int) -> str:
    """How long Lava is likely to take for the whole work, as a bar shows it."""
    processes = f", {workers} workers" if workers > 1 else ""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit} on Lava{processes}"
    return f"about {max(1.0, seconds):.0f} s on Lava{processes}"
