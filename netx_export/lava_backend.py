"""The Lava back end, parent side: keeps one child process that runs the stock netx loader on Lava's CPU simulator.

An error inside a Lava run leaves processes waiting for each other and shared memory behind, so Lava never runs in the
user's process. The child leads a process group of its own; at a time limit or an error the group is ended whole.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netx_export.description import Conv, Dense, Input, NetworkDescription
from netx_export.errors import SimulationError

__all__ = ["run_on_lava"]

_SpikeArray = npt.NDArray[np.uint8]

# The child takes its modules from where Python is installed and from this package, never from the user's directory,
# where a file named like a module would be run.
_CHILD = (
    "import sys; sys.path[:] = [p for p in sys.path if p] + [{root!r}]; "
    "from netx_export.lava_worker import serve; serve({fd})"
)
# netx resets one step before the first layer sees a sample's first step; an offset of 1 makes it that very step.
RESET_OFFSET = 1
_START_SECONDS = 120.0
_SECONDS_PER_STEP = 0.5
_END_SECONDS = 5.0


def run_on_lava(
    path: str | os.PathLike[str], description: NetworkDescription, spikes: _SpikeArray, timeout: float | None
) -> dict[str, _SpikeArray]:
    """Run a file with the stock ``netx.hdf5.Network`` on Lava's fixed-point simulator.

    Args:
        path: the netx file.
        description: what :func:`netx_export.read` makes of it.
        spikes: binary input ``(N, C, ..., T)``.
        timeout: seconds, or None for a limit in proportion to the number of steps.

    Returns:
        For each spiking layer its spikes ``(N, C, ..., T)`` in its neurons' own time, as the reference simulator does.

    Raises:
        SimulationError: if Lava is missing, fails, or does not finish in time.
    """
    samples, steps = len(spikes), spikes.shape[-1]
    depth = len(description.spiking)
    frames = _lava_layout(spikes, description)
    if _netx_reset_is_exact(description):
        # One run: layer l sees a sample's first step l steps after it went in, and netx resets it then.
        frames = np.moveaxis(frames, 0, -2).reshape(*frames.shape[1:-1], samples * steps)[np.newaxis]
        reset_interval = steps
    else:
        reset_interval = None
    # The last sample's tail needs `depth` more steps to arrive everywhere.
    frames = np.pad(frames, [(0, 0)] * (frames.ndim - 1) + [(0, depth)])
    limit = timeout if timeout is not None else _START_SECONDS + _SECONDS_PER_STEP * frames.shape[0] * frames.shape[-1]
    task = {
        "path": str(Path(path).resolve()),
        "reset_interval": reset_interval,
        "reset_offset": RESET_OFFSET,
        # netx cannot load the average that some files end with; it is taken on the host.
        "num_layers": len(description.layers) - (description.readout is not None),
        "bias_starts": _bias_starts(description),
    }
    rasters = _worker.request(task, frames, limit)
    return {
        name: _own_time(rasters[f"arr_{index}"], index + 1, samples, steps, layer.shape)
        for index, (name, layer) in enumerate(description.spiking.items())
    }


def _bias_starts(description: NetworkDescription) -> list[int]:
    """For each layer, the number of steps of a run after which its bias has to set in."""
    starts = description.bias_starts
    return [depth + description.lead - starts.get(name, 0) for depth, name in enumerate(description.spiking, start=1)]


def _netx_reset_is_exact(description: NetworkDescription) -> bool:
    """Whether a layer's reset clears all that the last sample left in it.

    It does not clear spikes that wait in delays or come back through a recurrence, and resonators know no reset. And a
    bias that has to set in before a layer's first step would do so while the sample before is still in the layer.
    """
    return description.lead == 0 and all(
        isinstance(layer, Conv) or (isinstance(layer, Dense) and layer.delay is None)
        for layer in description.spiking.values()
    )


def _lava_layout(spikes: _SpikeArray, description: NetworkDescription) -> _SpikeArray:
    """SLAYER's ``(N, C, H, W, T)`` as netx takes it: ``(N, W, H, C, T)``, or flat."""
    first = next(layer for layer in description.layers if not isinstance(layer, Input))
    if isinstance(first, Conv):
        return spikes.reshape(len(spikes), *first.input_shape, spikes.shape[-1]).swapaxes(1, -2)
    return spikes.reshape(len(spikes), -1, spikes.shape[-1])


def _own_time(raster: _SpikeArray, depth: int, samples: int, steps: int, shape: tuple[int, ...]) -> _SpikeArray:
    """Cut a raster ``(runs, ..., steps)`` into samples, in the time of neurons that lie ``depth`` layers deep."""
    runs = raster.shape[0]
    window = raster[..., depth : depth + steps * (samples // runs)]
    per_sample = window.reshape(*raster.shape[:-1], samples // runs, steps)
    ordered = np.moveaxis(per_sample, -2, 1).reshape(samples, *raster.shape[1:-1], steps)
    return np.ascontiguousarray(ordered.swapaxes(1, -2)).reshape(samples, *shape, steps)


class _Worker:
    """A child process that serves simulations until it fails or the program ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._replies = -1

    def request(self, task: dict[str, Any], frames: _SpikeArray, limit: float) -> dict[str, _SpikeArray]:
        """Send one simulation to the child and wait for its rasters."""
        if sys.version_info[:2] != (3, 10):
            version = ".".join(map(str, sys.version_info[:2]))
            raise SimulationError(
                f"Lava runs on Python 3.10 only, and this is Python {version}. Use backend='reference', or Python 3.10 "
                f"with: pip install 'lava-spikeloss[lava]'."
            )
        with tempfile.TemporaryDirectory(prefix="netx-export-") as directory:
            np.save(Path(directory, "frames.npy"), frames)
            reply = self._exchange({**task, "directory": directory}, limit)
            if "error" in reply:
                self.end()
                raise SimulationError(f"Lava could not run {task['path']}: {reply['error']}")
            with np.load(Path(directory, "rasters.npz")) as rasters:
                return dict(rasters)

    def _exchange(self, task: dict[str, Any], limit: float) -> dict[str, Any]:
        process = self._start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
            line = self._read_line(limit)
        except BaseException as error:  # also Ctrl-C: nothing may be left behind
            self.end()
            if isinstance(error, OSError):
                raise SimulationError("Lava's process ended before it took the task. Try again.") from None
            raise
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.end()
        self._replies, write_end = os.pipe()
        root = str(Path(__file__).resolve().parent.parent)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD.format(root=root, fd=write_end)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(write_end,),
            start_new_session=True,
        )
        os.close(write_end)
        return self._process

    def _read_line(self, limit: float) -> bytes:
        deadline = time.monotonic() + limit
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise SimulationError(
                    f"Lava did not finish within {limit:.0f} s and was ended. Give a larger `timeout` or fewer samples."
                )
            part = os.read(self._replies, 65536)
            if not part:
                raise SimulationError("Lava's process ended without a result. It may have run out of memory.")
            line += part
        return line

    def end(self) -> None:
        """End the child and everything it started, and give back the shared memory."""
        process, self._process = self._process, None
        if process is None:
            return
        if self._replies >= 0:
            os.close(self._replies)
            self._replies = -1
        # On SIGTERM the simulator's processes end, but Python's resource tracker stays just long enough to unlink the
        # shared memory that they left.
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if not _signal_group(process.pid, sign):
                break
            _wait_for_group(process, _END_SECONDS)
        if process.stdin is not None:
            process.stdin.close()
        process.wait()


def _signal_group(group: int, sign: signal.Signals) -> bool:
    try:
        os.killpg(group, sign)
    except ProcessLookupError:
        return False
    return True


def _wait_for_group(process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        process.poll()
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)


_worker = _Worker()
atexit.register(_worker.end)
