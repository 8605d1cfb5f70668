"""The Lava back end, child side: runs netx files on Lava's fixed-point CPU simulator, one request after the other.

The only file that imports Lava.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np

__all__ = ["serve"]

_PROCESS_NAMES = ("neuron", "synapse", "synapse_rec", "real_synapse", "imag_synapse")
_STATE_NAMES = ("u", "v", "real", "imag", "a_buff", "a_buf")


def serve(reply_fd: int) -> None:
    """Answer each line on standard input with one line on ``reply_fd``: an empty object, or one with an ``error``."""
    with os.fdopen(reply_fd, "w") as replies:
        for line in sys.stdin:
            try:
                _run(json.loads(line))
                reply = {}
            except ImportError as error:
                reply = {"error": f"{error}. Install Lava with: pip install 'lava-spikeloss[lava]'."}
            except Exception as error:  # whatever Lava raises has to reach the user as one sentence
                reply = {"error": f"{type(error).__name__}: {error}"}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


def _run(task: dict[str, Any]) -> None:
    """Run the file at ``path`` on ``frames.npy`` (runs, ..., steps) and write all spikes to ``rasters.npz``."""
    from lava.lib.dl.netx import hdf5
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi1SimCfg
    from lava.proc import io

    directory = Path(task["directory"])
    frames = np.load(directory / "frames.npy").astype(np.int32)
    steps = frames.shape[-1]
    with h5py.File(task["path"], "r") as file:
        # netx does not connect an input layer that has neurons; they run on the host, and netx starts behind them.
        first = file["layer/0"]
        skip_layers = int("neuron" in first and np.atleast_1d(first["type"][()])[0] == b"input")
    network = hdf5.Network(
        net_config=task["path"],
        num_layers=task["num_layers"],
        reset_interval=task["reset_interval"],
        reset_offset=task["reset_offset"],
        skip_layers=skip_layers,
    )
    source = io.source.RingBuffer(data=frames[0])
    source.s_out.connect(network.inp)
    sinks = [io.sink.RingBuffer(shape=layer.out.shape, buffer=steps) for layer in network.layers]
    for layer, sink in zip(network.layers, sinks, strict=True):
        layer.out.connect(sink.a_in)
    # A reset makes up for what a bias did before it should; without resets the bias itself has to wait.
    biases = [] if task["reset_interval"] else _take_biases(network, task["bias_starts"])

    def run(count: int) -> None:
        network.run(condition=RunSteps(num_steps=count), run_cfg=Loihi1SimCfg(select_tag="fixed_pt"))

    rasters: list[list[np.ndarray[Any, np.dtype[np.uint8]]]] = [[] for _ in sinks]
    try:
        for index, run_frames in enumerate(frames):
            if index > 0:
                _rest(network)
                source.data.set(run_frames)
                for _, variable, _ in biases:
                    variable.set(np.zeros(variable.shape, np.int32))
            done = 0
            for start, variable, bias in biases:
                if start > done:
                    run(start - done)
                    done = start
                variable.set(bias)
            run(steps - done)
            for raster, sink in zip(rasters, sinks, strict=True):
                raster.append(sink.data.get().astype(np.uint8))
    finally:
        network.stop()
        network.net_config.f.close()
    np.savez(directory / "rasters.npz", *[np.stack(raster) for raster in rasters])


def _take_biases(network: Any, starts: list[int]) -> list[tuple[int, Any, Any]]:
    """Set all biases to 0; the step after which each has to set in, its variable and its value, in order."""
    biases = []
    for start, layer in zip(starts, network.layers, strict=True):
        variable = getattr(layer.neuron, "bias_mant", None)
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
