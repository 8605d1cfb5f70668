"""Peak memory: of torch's allocators during a call, or of a whole process."""

from __future__ import annotations

import ctypes
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

__all__ = ["peak_allocated", "peak_resident"]


def peak_allocated(run: Callable[[], object], device: str) -> int:
    """The most bytes of tensors that a call holds at one time, beyond those from before it."""
    run()
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "trace.json")
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    # One event for each allocation and release, temporaries inside an operation included.
    held = [event["args"] for event in events if event["name"] == "[memory]"]
    if not held:
        return 0
    before = held[0]["Total Allocated"] - held[0]["Bytes"]
    return max(int(state["Total Allocated"]) for state in held) - int(before)


def peak_resident(run: Callable[[], object]) -> tuple[object, int]:
    """What a call returns, and the bytes by which this process's resident memory grew at its peak. Linux with glibc."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before would be used again without growing
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    result = run()
    return result, _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
