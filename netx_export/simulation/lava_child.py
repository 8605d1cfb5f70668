"""The Lava back end, child side: runs netx files on Lava's fixed-point CPU simulator, one request after the other.

The only file that imports Lava. It is run by itself, without the package around it, so it imports nothing of ours.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["serve"]

_PROCESS_NAMES = ("neuron", "synapse", "synapse_rec", "real_synapse", "imag_synapse")
_STATE_NAMES = ("u", "v", "real", "imag", "a_buff", "a_buf", "sigma", "act", "residue")
# Steps by which the output is read behind the input. The pipes between our process and Lava's hold 50 frames.
_STEPS_UNDER_WAY = 32
_POLL_SECONDS = 0.2


def serve(reply_fd: int, parent: int, directory: str) -> None:
    """Answer each line on standard input with lines on ``reply_fd``, the last an empty object or one with an ``error``.

    The lines before say how much of the task is ``done``, a share of 1, and the ``seconds`` that it took. An error that
    says that a module is not there is marked as ``missing``.

    Args:
        reply_fd: a file descriptor.
        parent: the process of the user's program, whose end is the end of this one too.
        directory: for temporary files; removed by the user's program, or here if that is gone.
    """
    # Lava's processes are to keep their sockets there too: nobody would remove a directory that multiprocessing makes.
    multiprocessing.current_process()._config["tempdir"] = directory  # type: ignore[attr-defined]
    try:
        _answer(reply_fd, parent)
    except BrokenPipeError:
        pass  # the user's program is gone
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        _end_group()


def _answer(reply_fd: int, parent: int) -> None:
    network: _Network | None = None
    with os.fdopen(reply_fd, "w") as replies:

        def tell(reply: dict[str, Any]) -> None:
            replies.write(json.dumps(reply) + "\n")
            replies.flush()

        for line in sys.stdin:
            task = json.loads(line)
            directory = Path(task["directory"])
            try:
                if network is None or network.key != task["key"] or network.is_late_for_a_reset():
                    if network is not None:
                        network.stop()
                    network = _Network(parent, directory / "network.net", **task["key"])
                network.run(directory, tell)
                reply: dict[str, Any] = {}
            except ImportError as error:
                reply = {"error": f"{error}.", "missing": True}  # what to do depends on whose Python this is
            except Exception as error:  # whatever Lava raises has to reach the user as one sentence
                reply = {"error": f"{type(error).__name__}: {error}"}
            tell(reply)


def _end_group() -> None:
    """End this process and all of Lava's: left to themselves they wait for each other for ever.

    Python's resource tracker takes no SIGTERM, and stays just long enough to unlink the shared memory.
    """
    os.killpg(0, signal.SIGTERM)


class _Network:
    """A netx file on Lava, compiled once; frames stream in and every layer's spikes stream out.

    Streams, because Lava's own buffers are read and set one number at a time: reading back the 300 steps of a layer of
    512 neurons takes longer than simulating them.
    """

    def __init__(self, parent: int, path: Path, **key: Any) -> None:
        from lava.lib.dl.netx import hdf5
        from lava.magma.core.run_configs import Loihi1SimCfg
        from lava.proc.io.extractor import Extractor, PyLoihiExtractorModel
        from lava.proc.io.injector import Injector

        began = time.monotonic()
        self.key = key
        self._parent = parent
        self._steps = 0  # of all runs
        self._network = hdf5.Network(
            net_config=str(path),
            reset_interval=key["reset_interval"],
            reset_offset=key["reset_offset"],
            sparse_fc_layer=key["sparse"],
            skip_layers=key["skip_layers"],
            num_layers=key["num_layers"],
            spike_exp=key["spike_exp"],
        )
        self._network.net_config.f.close()  # netx leaves the file open, and nobody could write to it
        self._source = Injector(shape=self._network.inp.shape)
        self._source.out_port.connect(self._network.inp)
        self._sinks = [Extractor(shape=layer.out.shape) for layer in self._network.layers]
        for layer, sink in zip(self._network.layers, self._sinks, strict=True):
            layer.out.connect(sink.in_port)
        self._biases = [] if key["bias_starts"] is None else _take_biases(self._network, key["bias_starts"])
        models = {Injector: _injector_model(key["dtype"]), Extractor: PyLoihiExtractorModel}
        self._network.create_runtime(run_cfg=Loihi1SimCfg(select_tag="fixed_pt", exception_proc_model_map=models))
        self._actors = multiprocessing.active_children()
        self._seconds_to_make = time.monotonic() - began

    def run(self, directory: Path, tell: Callable[[dict[str, Any]], None]) -> None:
        """Run ``frames.npy`` (runs, steps, ...) and write the spikes of layer i to ``i.npy``, step for step."""
        frames = np.load(directory / "frames.npy", mmap_mode="r")
        create: Any = np.lib.format.open_memmap
        rasters = [
            create(directory / f"{index}.npy", "w+", np.dtype(dtype), (*frames.shape[:2], *shape))
            for index, (dtype, shape) in enumerate(self._outputs())
        ]
        self._progress = _Progress(self._steps_to_reset() + frames.shape[0] * frames.shape[1], tell)
        self._step_to_reset(frames.shape[2:])
        for run, run_frames in enumerate(frames):
            if self._steps and self.key["reset_interval"] is None:
                self._rest()
            self._run_from_bias_to_bias(run_frames, [raster[run] for raster in rasters])
        self._progress.tell()

    def _outputs(self) -> list[tuple[str, tuple[int, ...]]]:
        """The type and the shape of what each layer gives in a step."""
        dtypes = [self.key["dtype"]] * len(self._network.layers)
        if self.key["reads_voltage"]:
            dtypes[-1] = "int32"
        shapes = [tuple(map(int, layer.out.shape)) for layer in self._network.layers]
        return list(zip(dtypes, shapes, strict=True))

    def _steps_to_reset(self) -> int:
        """Steps until netx resets the first layer, which is when a run has to begin; 0 without such resets."""
        interval = self.key["reset_interval"]
        return 0 if interval is None else int(-self._steps % interval)

    def _step_to_reset(self, shape: tuple[int, ...]) -> None:
        steps = self._steps_to_reset()
        if steps:
            nowhere = [np.empty((steps, *out), dtype) for dtype, out in self._outputs()]
            self._stream(np.zeros((steps, *shape), np.uint8), nowhere)

    def is_late_for_a_reset(self) -> bool:
        """Whether a new network would begin a run sooner than this one, which first has to step to its next reset."""
        return self._steps_to_reset() * self._progress.seconds_per_step > self._seconds_to_make

    def _rest(self) -> None:
        _rest(self._network)
        for _, variable, _ in self._biases:
            variable.set(np.zeros(variable.shape, np.int32))

    def _run_from_bias_to_bias(self, frames: Any, rasters: list[Any]) -> None:
        """Run, and let each bias set in at its step."""
        done = 0
        for start, variable, bias in self._biases:
            if start > done:
                self._stream(frames[done:start], [raster[done:start] for raster in rasters])
                done = start
            variable.set(bias)
        self._stream(frames[done:], [raster[done:] for raster in rasters])

    def _stream(self, frames: Any, rasters: list[Any]) -> None:
        """Run in a thread, so that the end of one of Lava's processes is noticed instead of waited for."""
        failures: list[BaseException] = []
        pump = self._pump_step_by_step if self.key["reads_voltage"] else self._pump_frames
        thread = threading.Thread(target=self._pump, args=(pump, frames, rasters, failures), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_POLL_SECONDS)
            self._progress.tell()
            dead = [actor for actor in self._actors if not actor.is_alive()]
            if dead:
                raise RuntimeError(_cause_of_death(dead[0]))
            if os.getppid() != self._parent:
                sys.exit()  # the user's program is gone: leave nothing behind
        if failures:
            raise failures[0]

    def _pump(self, pump: Any, frames: Any, rasters: list[Any], failures: list[BaseException]) -> None:
        try:
            pump(frames, rasters)
        except BaseException as error:  # handed to the main thread
            failures.append(error)

    def _pump_frames(self, frames: Any, rasters: list[Any]) -> None:
        from lava.magma.core.run_conditions import RunSteps

        steps = len(frames)
        self._network.run(condition=RunSteps(num_steps=steps, blocking=False))
        for step in range(steps + _STEPS_UNDER_WAY):
            if step < steps:
                self._source.send(frames[step].astype(float))
            if step >= _STEPS_UNDER_WAY:
                self._receive([raster[step - _STEPS_UNDER_WAY] for raster in rasters])
        self._network.wait()

    def _pump_step_by_step(self, frames: Any, rasters: list[Any]) -> None:
        """The same, and what the last layer's neurons hold after each step in place of its spikes."""
        from lava.magma.core.run_conditions import RunSteps

        voltage = self._network.layers[-1].neuron.v
        for step, frame in enumerate(frames):
            self._network.run(condition=RunSteps(num_steps=1, blocking=False))
            self._source.send(frame.astype(float))
            self._receive([raster[step] for raster in rasters])
            self._network.wait()
            rasters[-1][step] = voltage.get()

    def _receive(self, rows: list[Any]) -> None:
        for row, sink in zip(rows, self._sinks, strict=True):
            row[...] = sink.receive()
        self._steps += 1
        self._progress.steps += 1

    def stop(self) -> None:
        self._network.stop()


class _Progress:
    """How far a run has come, and how long its steps take.

    Args:
        total: steps of the run.
        tell: where to say it.
    """

    def __init__(self, total: int, tell: Callable[[dict[str, Any]], None]) -> None:
        self.steps = 0
        self._total = total
        self._tell = tell
        self._began = time.monotonic()
        self._seconds = 0.0

    def tell(self) -> None:
        self._seconds = time.monotonic() - self._began
        self._tell({"done": self.steps / self._total, "seconds": self._seconds})

    @property
    def seconds_per_step(self) -> float:
        """Of the run, until it was last told."""
        return self._seconds / max(self.steps, 1)


def _injector_model(dtype: str) -> Any:
    """Lava's model of a source, made to send numbers of this type: its own sends floats, which cannot be shifted."""
    from lava.magma.core.model.py.ports import PyOutPort
    from lava.magma.core.model.py.type import LavaPyType
    from lava.proc.io.injector import PyLoihiInjectorModel

    if dtype == "uint8":
        return PyLoihiInjectorModel
    port = LavaPyType(PyOutPort.VEC_DENSE, np.dtype(dtype).type)
    return type("IntegerInjectorModel", (PyLoihiInjectorModel,), {"out_port": port})


def _cause_of_death(actor: Any) -> str:
    exception = getattr(actor, "exception", None)
    if exception:
        return f"a process of the simulation raised {type(exception[0]).__name__}: {exception[0]}"
    return f"a process of the simulation ended (exit code {actor.exitcode}). It may have run out of memory"


def _take_biases(network: Any, starts: list[int]) -> list[tuple[int, Any, Any]]:
    """Set all biases to 0; the step after which each has to set in, its variable and its value, in order."""
    biases = []
    for start, layer in zip(starts, network.layers, strict=True):
        variable = getattr(layer.neuron, "bias_mant", getattr(layer.neuron, "bias", None))
        if variable is not None and np.any(variable.init):
            biases.append((start, variable, np.broadcast_to(variable.init, variable.shape).astype(np.int32)))
            variable.init = np.zeros(variable.shape, np.int32)
    return sorted(biases, key=lambda bias: bias[0])


def _rest(network: Any) -> None:
    """Put neurons and spikes under way back to where they were before the first run; Lava has no call for that."""
    for layer in network.layers:
        for process in (getattr(layer, name, None) for name in _PROCESS_NAMES):
            for name in _STATE_NAMES:
                variable = getattr(process, name, None)
                if variable is not None:
                    variable.set(np.broadcast_to(variable.init, variable.shape).astype(np.int32))
