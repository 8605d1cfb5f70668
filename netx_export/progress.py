"""The progress bar of whatever may take long."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

__all__ = ["progress_bar"]


def progress_bar(shown: bool) -> Progress:
    """A bar on standard error, gone at the end. It shows the time, since on Lava many samples end at once."""
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
