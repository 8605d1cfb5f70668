"""Ctrl-C before there is anything to clean up: the process ends at once.

Python would raise a KeyboardInterrupt in the middle of an import, which some packages swallow, and others print.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

__all__ = ["INTERRUPTED", "clean_up_when_interrupted", "end_when_interrupted"]

INTERRUPTED = "interrupted; nothing was left half-written"


def end_when_interrupted() -> None:
    """From here on Ctrl-C ends the process; unless it is ignored, or handled in another way already."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def clean_up_when_interrupted() -> None:
    """From here on Ctrl-C raises a KeyboardInterrupt again: files may be open, and Lava may be running."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, f"error: {INTERRUPTED}\n".encode())
    os._exit(128 + number)
