"""The Lava back end, parent side: keeps child processes that run the stock netx loader on Lava's CPU simulator.

An error inside a Lava run leaves processes waiting for each other and shared memory behind, so Lava never runs in the
user's process. Each child leads a process group of its own; at a time limit or an error the group is ended whole. The
samples of a run are shared out among as many children as it has workers; if one fails, those that are still running are
ended.

A child may be of another Python with other packages (``lava_python.py``). What passes between the two are lines of
JSON, netx files, and numbers in numpy's own file format, read without pickle: nothing that is received is executed.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from netx_export.errors import NetxFormatError, SimulationError
from netx_export.file.netx import read, with_delay_shift, write_as_described
from netx_export.network.description import Conv, Dense, Input, NetworkDescription
from netx_export.run import Spikes
from netx_export.simulation.lava_python import LavaPython, examine, find_lava_python
from netx_export.simulation.lava_time import TimeLimit, time_limit

__all__ = ["run_on_lava"]

# The child takes its modules from where Python is installed, never from the user's directory, where a file named like
# a module would be run: it works in an empty directory, and its own code it takes from a file that it names.
_CHILD = """
import importlib.util
spec = importlib.util.spec_from_file_location("netx_export_lava_child", {file!r})
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
worker.serve({fd}, {parent}, {directory!r})
"""
# The path of a socket has at most 107 bytes, and the last 18 are `/listener-` and eight letters that Python chooses.
_LONGEST_DIRECTORY = 107 - 18
# Our own directory there is called `/netx-` and eight letters.
_LONGEST_TMPDIR = _LONGEST_DIRECTORY - 14
_WORKER_FILE = Path(__file__).with_name("lava_child.py")
# netx resets one step before the first layer sees a sample's first step; an offset of 1 makes it that very step.
_RESET_OFFSET = 1
_BLOCK_BYTES = 2**26
_END_SECONDS = 10.0
_POLL_SECONDS = 0.2


def run_on_lava(
    path: str | os.PathLike[str] | NetworkDescription,
    description: NetworkDescription,
    spikes: Spikes,
    limit: TimeLimit | None = None,
    advance: Callable[[float, float], None] = lambda samples, seconds: None,
    lava_python: str | os.PathLike[str] | None = None,
    workers: int = 1,
) -> dict[str, Spikes]:
    """Run a file with the stock ``netx.hdf5.Network`` on Lava's fixed-point simulator.

    The samples go to the children in blocks, so that what lies between the processes is bounded.

    Args:
        path: the netx file, or the description itself, of which one is made for Lava.
        description: what :func:`netx_export.read` makes of the file.
        spikes: binary input ``(N, C, ..., T)``, uint8, or sigma-delta messages, int32.
        limit: of the time that it may take, or None for one in proportion to the work.
        advance: called several times a second with the number of samples, a fraction, that were done since it was
            called last, and the seconds that a worker needs for a sample.
        lava_python: the Python that runs Lava, or None for the one that is found.
        workers: number of child processes, of which each runs a part of the samples.

    Returns:
        For each spiking layer its spikes ``(N, C, ..., T)`` in local time, as the reference simulator does.

    Raises:
        ExportError: if no file can hold a description.
        SimulationError: if Lava is missing, fails, or does not finish in time.
    """
    _check_platform()
    python = find_lava_python(lava_python)
    samples, steps = len(spikes), spikes.shape[-1]
    limit = limit or TimeLimit(time_limit(description, samples, steps, workers))
    layers = {
        name: np.empty((samples, *layer.shape, steps), dtype)
        for (name, layer), dtype in zip(description.spiking.items(), _dtypes(description, spikes), strict=True)
    }
    size = min(_block_size(description, steps), math.ceil(samples / workers))
    blocks = [slice(start, start + size) for start in range(0, samples, size)]
    workers = min(workers, len(blocks))
    file = _made_of(path) if isinstance(path, NetworkDescription) else _copy(path, description)
    _check_python(python, workers)
    job = _Job(python, file, limit.seconds, time.monotonic() + limit.left, threading.Event())
    adding = threading.Lock()

    def run_block(worker: _Worker, block: slice) -> None:
        tell = _in_samples(advance, len(spikes[block]), adding)
        for name, raster in _run_block(worker, job, description, spikes[block], tell).items():
            layers[name][block] = raster

    _share_out(run_block, blocks, workers, job.ended)
    return layers


def _in_samples(
    advance: Callable[[float, float], None], samples: int, adding: threading.Lock
) -> Callable[[float, float], None]:
    """A function for a child's reports on its block (share done, seconds): it tells ``advance`` of the new samples."""
    told = 0.0

    def tell(share: float, seconds: float) -> None:
        nonlocal told
        done = samples * share
        if done > told:
            with adding:
                advance(done - told, seconds / done)
            told = done

    return tell


def _share_out(
    run_block: Callable[[_Worker, slice], None], blocks: Sequence[slice], number: int, ended: threading.Event
) -> None:
    """Run the blocks on so many workers, of which each takes the next one when it is free."""
    while len(_workers) < number:
        _workers.append(_Worker())
    queue = iter(blocks)

    def serve(worker: _Worker) -> None:
        for block in queue:
            run_block(worker, block)

    if number == 1:
        serve(_workers[0])
        return
    with ThreadPoolExecutor(number) as pool:
        try:
            for served in as_completed([pool.submit(serve, worker) for worker in _workers[:number]]):
                served.result()
        except BaseException:  # also Ctrl-C
            ended.set()
            raise


@dataclass(frozen=True)
class _File:
    """A netx file as it was when it was read: Lava runs this content, even if the file is changed meanwhile.

    Attributes:
        path: what the user calls it.
        content: its bytes.
        sha256: their hash, by which Lava's process knows the network that it has compiled.
    """

    path: str | os.PathLike[str]
    content: bytes
    sha256: str

    @classmethod
    def holding(cls, path: str | os.PathLike[str], content: bytes) -> _File:
        """A file of this content."""
        return cls(path, content, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class _Job:
    """A run of a file, in which one worker or more have a part.

    Attributes:
        python: the one that runs Lava.
        file: what runs.
        limit: seconds that the work may take of which it is a part, or the whole.
        deadline: when they are over.
        ended: set when a worker failed, or the user interrupted the run, which ends the other workers too.
    """

    python: LavaPython
    file: _File
    limit: float
    deadline: float
    ended: threading.Event

    def check(self) -> None:
        """Raise a ``SimulationError`` if it is to end."""
        if self.ended.is_set():
            raise SimulationError("Another part of the run on Lava was ended.")
        if time.monotonic() > self.deadline:
            raise SimulationError(
                f"Lava did not finish within {self.limit:.0f} s and was ended. Give a larger `timeout` or fewer "
                f"samples."
            )


def _made_of(description: NetworkDescription) -> _File:
    """A file that holds this network.

    Raises:
        ExportError: if no file can hold it.
        SimulationError: if a file of it holds another one, or cannot be read back.
    """
    with tempfile.TemporaryDirectory(prefix="netx-") as directory:
        path = Path(directory, "network.net")
        write_as_described(description, path)
        try:
            same = _are_one_to_lava(read(path), description)
            reason = "" if same else "What is read back from one is not equal to it."
        except NetxFormatError as error:
            reason = str(error).removeprefix(f"{path}: ")
        if reason:
            raise SimulationError(f"Lava runs files, and no file holds this description as it is. {reason}")
        return _File.holding("the network", path.read_bytes())


def _copy(path: str | os.PathLike[str], description: NetworkDescription) -> _File:
    """The file, if it still holds the network that was read from it.

    Raises:
        SimulationError: if it does not, or cannot be copied.
    """
    try:
        content = Path(path).read_bytes()
        with tempfile.NamedTemporaryFile(prefix="netx-", suffix=".net") as copy:
            copy.write(content)
            copy.flush()
            same = _are_one_to_lava(read(copy.name), description)
    except NetxFormatError:
        same = False
    except OSError as error:
        raise SimulationError(f"Cannot copy {path} for Lava: {error.strerror}.") from None
    if not same:
        raise SimulationError(f"{path} was changed while it was simulated. Try again when nothing writes to it.")
    return _File.holding(path, content)


def _are_one_to_lava(one: NetworkDescription, other: NetworkDescription) -> bool:
    """Whether two networks are equal but for ``delay_shift``, which is of SLAYER alone."""
    return with_delay_shift(one, False).layers == with_delay_shift(other, False).layers


def _block_size(description: NetworkDescription, steps: int) -> int:
    shapes = [description.input_shape, *(layer.shape for layer in description.spiking.values())]
    return max(1, _BLOCK_BYTES // (steps * sum(math.prod(shape) for shape in shapes)))


def _run_block(
    worker: _Worker,
    job: _Job,
    description: NetworkDescription,
    spikes: Spikes,
    tell: Callable[[float, float], None],
) -> dict[str, Spikes]:
    samples, steps = len(spikes), spikes.shape[-1]
    depth = len(description.spiking)
    frames = _lava_frames(spikes, description)
    stream = _netx_reset_is_exact(description)
    if stream:
        # One run: layer l sees a sample's first step l steps after it went in, and netx resets it then.
        frames = frames.reshape(1, samples * steps, *frames.shape[2:])
    # The tail of the last sample needs `depth` more steps to come out.
    frames = np.pad(frames, [(0, 0), (0, depth), *[(0, 0)] * (frames.ndim - 2)])
    key = {
        "sha256": job.file.sha256,
        "reset_interval": steps if stream else None,
        "reset_offset": _RESET_OFFSET,
        "dtype": str(spikes.dtype),
        "reads_voltage": description.reads_voltage,
        "sparse": _sparse_is_faster(description),
        # netx does not connect an input layer that has neurons; they run on the host, and netx starts behind them.
        "skip_layers": int(description.encoder is not None),
        # netx cannot load the average that some files end with; it is taken on the host.
        "spike_exp": description.spike_exp,
        "num_layers": len(description.layers) - (description.readout is not None),
        # A reset clears what a bias did before its step; without resets the bias is set in at its step.
        "bias_starts": None if stream else _bias_starts(description),
    }
    rasters = worker.request(job, key, frames, depth, tell)
    return {
        name: _in_local_time(raster, index + 1, samples, steps, layer.shape)
        for index, (raster, (name, layer)) in enumerate(zip(rasters, description.spiking.items(), strict=True))
    }


def _dtypes(description: NetworkDescription, spikes: Spikes) -> list[Any]:
    """What the layers' numbers are: those of the input, or a membrane potential."""
    dtypes = [spikes.dtype] * len(description.spiking)
    return [*dtypes[:-1], np.dtype(np.int32)] if description.reads_voltage else dtypes


def _bias_starts(description: NetworkDescription) -> list[int]:
    """For each layer, the number of steps of a run after which its bias has to set in."""
    starts = description.bias_starts
    return [depth + description.lead - starts.get(name, 0) for depth, name in enumerate(description.spiking, start=1)]


def _netx_reset_is_exact(description: NetworkDescription) -> bool:
    """Whether a layer's reset clears all that the last sample left in it.

    It does not clear spikes that are in a delay or come back through a recurrence, and resonators and sigma-delta
    neurons have no reset. And a bias that has to set in before a layer's first step would do so while the sample before
    is still in the layer.
    """
    return (
        not description.graded
        and description.lead == 0
        and all(
            isinstance(layer, Conv) or (isinstance(layer, Dense) and layer.delay is None)
            for layer in description.spiking.values()
        )
    )


def _sparse_is_faster(description: NetworkDescription) -> bool:
    """Lava's dense synapses are the faster ones, but with delays they build 63 matrices in each step."""
    return any(getattr(layer, "delay", None) is not None for layer in description.spiking.values())


def _lava_frames(spikes: Spikes, description: NetworkDescription) -> Spikes:
    """SLAYER's ``(N, C, H, W, T)`` as netx takes it, step after step: ``(N, T, W, H, C)``, or flat."""
    first = next(layer for layer in description.layers if not isinstance(layer, Input))
    if isinstance(first, Conv):
        ordered = spikes.reshape(len(spikes), *first.input_shape, spikes.shape[-1]).swapaxes(1, -2)
    else:
        ordered = spikes.reshape(len(spikes), -1, spikes.shape[-1])
    return np.ascontiguousarray(np.moveaxis(ordered, -1, 1))


def _in_local_time(raster: Spikes, depth: int, samples: int, steps: int, shape: tuple[int, ...]) -> Spikes:
    """Cut the raster ``(runs, steps, ...)`` of a layer, ``depth`` layers deep, into samples in its local time."""
    runs = len(raster)
    window = raster[:, depth : depth + steps * (samples // runs)]
    per_sample = np.moveaxis(window.reshape(samples, steps, *raster.shape[2:]), 1, -1)
    return per_sample.swapaxes(1, -2).reshape(samples, *shape, steps)


def _temporary_directory() -> str:
    """A new directory whose path leaves room for the sockets of Lava's processes.

    Raises:
        SimulationError: if the system's place for temporary files has too long a path.
    """
    directory = tempfile.mkdtemp(prefix="netx-")
    if len(os.fsencode(directory)) <= _LONGEST_DIRECTORY:
        return directory
    Path(directory).rmdir()
    raise SimulationError(
        f"The path of {tempfile.gettempdir()}, for temporary files, is too long for the sockets of Lava's processes: "
        f"set TMPDIR to a path of at most {_LONGEST_TMPDIR} bytes."
    )


class _Worker:
    """A child process that serves simulations until it fails or the program ends; one request at a time."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, without the child: after a fork it belongs to the other process."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._python = ""
        self._replies = -1
        self._received = b""
        self._directory = ""

    def request(
        self, job: _Job, key: dict[str, Any], frames: Spikes, layers: int, tell: Callable[[float, float], None]
    ) -> list[Spikes]:
        """Send one block to the child and wait for the spikes of its layers; ``tell`` learns how far it has come."""
        with self._lock:
            try:
                process = self._start(job.python)
                with tempfile.TemporaryDirectory(dir=self._directory) as directory:
                    Path(directory, "network.net").write_bytes(job.file.content)
                    np.save(Path(directory, "frames.npy"), frames)
                    reply = self._exchange(process, {"key": key, "directory": directory}, job, tell)
                    if "error" in reply:
                        advice = f" {job.python.how_to_install()}" if "missing" in reply else ""
                        raise SimulationError(f"Lava could not run {job.file.path}: {reply['error']}{advice}")
                    return [_load(Path(directory, f"{index}.npy"), frames.shape[:2]) for index in range(layers)]
            except BaseException as error:  # also Ctrl-C: nothing may be left behind
                self.end()
                if isinstance(error, OSError):
                    raise SimulationError(f"Cannot exchange spikes with Lava in {self._directory}: {error}.") from error
                raise

    def is_running(self, python: LavaPython) -> bool:
        """Whether the child is there, and of this Python."""
        return self._process is not None and self._process.poll() is None and self._python == python.path

    def _exchange(
        self, process: subprocess.Popen[bytes], task: dict[str, Any], job: _Job, tell: Callable[[float, float], None]
    ) -> dict[str, Any]:
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise SimulationError("Lava's process ended before it took the task. Try again.") from None
        while True:
            line = self._read_line(process, job)
            try:
                reply: dict[str, Any] = dict(json.loads(line))
                if "done" not in reply:
                    return reply
                share, seconds = float(reply["done"]), float(reply["seconds"])
            except (ValueError, TypeError, KeyError):
                raise SimulationError(f"Lava's process sent what is no reply: {line[:80]!r}. Try again.") from None
            tell(share, seconds)

    def _start(self, python: LavaPython) -> subprocess.Popen[bytes]:
        if self._process is not None and self.is_running(python):
            return self._process
        self.end()
        self._python = python.path
        self._directory = _temporary_directory()
        self._replies, write_end = os.pipe()
        self._received = b""
        try:
            self._process = subprocess.Popen(
                [
                    *python.command,
                    "-c",
                    _CHILD.format(file=str(_WORKER_FILE), fd=write_end, parent=os.getpid(), directory=self._directory),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(write_end,),
                cwd=self._directory,
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        return self._process

    def _read_line(self, process: subprocess.Popen[bytes], job: _Job) -> bytes:
        while b"\n" not in self._received:
            job.check()
            if wait([self._replies], _POLL_SECONDS):
                received = os.read(self._replies, 65536)
                self._received += received
                ended = not received
            else:
                ended = process.poll() is not None  # its own children hold the pipe open
            if ended:
                raise SimulationError("Lava's process ended without a result. It may have run out of memory.")
        line, _, self._received = self._received.partition(b"\n")
        return line + b"\n"

    def ask_to_end(self) -> None:
        """Tell the child to end, without waiting for it."""
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGTERM)

    def end(self) -> None:
        """End the child and everything it started, and give back the shared memory."""
        process, self._process = self._process, None
        if process is None:
            return
        os.close(self._replies)
        _end_group(process)
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # what it never read
                process.stdin.close()
        process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)


def _check_python(python: LavaPython, number: int) -> None:
    """Ask another Python, once for so many workers, whether Lava runs on it, unless all of them are running.

    Raises:
        SimulationError: if it does not.
    """
    running = sum(worker.is_running(python) for worker in _workers[:number])
    if running < number and not python.is_this_one:
        examine(python)


def _check_platform() -> None:
    if not hasattr(os, "killpg"):
        raise SimulationError(
            "The Lava back end needs process groups, as Linux and macOS have. Use backend='reference'."
        )


def _load(path: Path, runs_and_steps: tuple[int, ...]) -> Spikes:
    """The numbers that the child wrote for a layer; whatever else a file may hold is not read.

    Raises:
        SimulationError: if it is no array, or not one of these runs and steps.
    """
    try:
        raster: Spikes = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise SimulationError(f"Lava's process wrote what is no array of numbers: {error}. Try again.") from None
    if raster.shape[:2] != runs_and_steps:
        raise SimulationError(
            f"Lava's process wrote {raster.shape[:2]} runs and steps where {runs_and_steps} were run. Try again."
        )
    return raster


def _environment() -> dict[str, str]:
    """The user's environment without the user's directory: an empty entry of PYTHONPATH names it too."""
    entries = [os.path.realpath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    kept = [entry for entry in entries if entry != os.path.realpath(os.getcwd())]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(kept)}


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process group in two steps.

    On SIGTERM the simulation's processes end, but Python's resource tracker stays just long enough to unlink the shared
    memory that they left.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if not _signal_group(process.pid, sign):
            return
        _signal_group(process.pid, signal.SIGCONT)  # a process that is stopped takes no other signal
        deadline = time.monotonic() + _END_SECONDS
        while time.monotonic() < deadline and _signal_group(process.pid, 0):
            process.poll()
            time.sleep(0.02)


def _signal_group(group: int, sign: int) -> bool:
    """Send a signal, 0 for none, to a process group; False if there is no such group any more."""
    try:
        os.killpg(group, sign)
    except (ProcessLookupError, PermissionError):  # macOS denies it for a group of zombies
        return False
    return True


_workers = [_Worker()]  # each run takes as many as it needs, from the first one on


def _end_all() -> None:
    for worker in _workers:  # all are told before the first is waited for
        worker.ask_to_end()
    for worker in _workers:
        worker.end()


def _forget_all() -> None:
    for worker in _workers:
        worker.forget()


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
