"""Recorded runs: the spikes of a network as a ``.npz`` file, from a simulator or a chip.

One array per layer, under the layer's name (``dense1``), and the network's output under ``output``: ``(N, C, ..., T)``,
in the time of SLAYER's output. A recording may hold only some of them.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netx_export.description import Gives, NetworkDescription
from netx_export.errors import SimulationError
from netx_export.tally import Run

__all__ = ["check_recording", "load_recording"]

_OUTPUT = "output"


def load_recording(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[np.generic]]:
    """Read all arrays of a ``.npz`` file; nothing in it is executed.

    Raises:
        SimulationError: if it is no such file.
    """
    if not Path(path).is_file():
        raise SimulationError(f"{path}: no such file. Give the path of a .npz file.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise SimulationError(f"{path}: not a .npz file of numbers, or a damaged one ({error}).") from None


def check_recording(
    arrays: Mapping[str, npt.ArrayLike], description: NetworkDescription, samples: int, steps: int
) -> Run:
    """The layers of a recording, and its output.

    Raises:
        SimulationError: if it holds none of the network's layers, or an array does not fit the network or the input.
    """
    shapes = {name: layer.shape for name, layer in description.spiking.items()}
    unknown = sorted(set(arrays) - set(shapes) - {_OUTPUT})
    if unknown or not arrays:
        raise SimulationError(
            f"The recording holds {unknown or 'nothing'}, but the network's layers are {', '.join(shapes)}; the "
            f"network's output is called {_OUTPUT!r}."
        )
    layers = {name: np.asarray(arrays[name]) for name in shapes if name in arrays}
    last = list(shapes)[-1]
    output = np.asarray(arrays[_OUTPUT]) if _OUTPUT in arrays else layers.get(last)
    if description.readout is None and output is not None:
        layers.setdefault(last, output)
    for name, layer in layers.items():
        if layer.shape != (samples, *shapes[name], steps):
            raise SimulationError(
                f"Expected recorded spikes of {name} of shape {(samples, *shapes[name], steps)} for this input but got "
                f"{layer.shape}."
            )
        if layer.dtype.kind not in "biuf" or not _are_possible(layer, description.spiking[name].neuron.gives):
            expected = "0 and 1" if description.spiking[name].neuron.gives == "spikes" else "finite numbers"
            raise SimulationError(f"Expected recorded spikes of {name} to be {expected} but got other values.")
    return Run(layers, output)


def _are_possible(layer: npt.NDArray[Any], gives: Gives) -> bool:
    return bool(((layer == 0) | (layer == 1)).all() if gives == "spikes" else np.isfinite(layer).all())
