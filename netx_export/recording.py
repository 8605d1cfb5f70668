"""Recorded runs: the spikes of a network as a ``.npz`` file, from a simulator or a chip.

One array per layer, under the layer's name (``dense1``), and the network's output under ``output``: ``(N, C, ..., T)``,
in the time of SLAYER's output. A recording may hold only some of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netx_export.data import load_arrays
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
    return load_arrays(path, None, "the spikes of layers")


def check_recording(
    arrays: Mapping[str, npt.ArrayLike], description: NetworkDescription, samples: int, steps: int
) -> Run:
    """The layers of a recording, and its output.

    Raises:
        SimulationError: if it holds none of the network's layers, or an array does not fit the network or the input.
    """
    expected = {name: (layer.shape, layer.neuron.gives) for name, layer in description.spiking.items()}
    unknown = sorted(set(arrays) - set(expected) - {_OUTPUT})
    if unknown or not arrays:
        raise SimulationError(
            f"The recording holds {unknown or 'nothing'}, but the network's layers are {', '.join(expected)}; the "
            f"network's output is called {_OUTPUT!r}."
        )
    found = {name: np.asarray(array) for name, array in arrays.items()}
    last = list(expected)[-1]
    if description.readout is not None:
        expected[_OUTPUT] = description.readout.shape, "sums"
    else:  # the output is what the last layer gives
        expected[_OUTPUT] = expected[last]
        found = {**{name: found[one] for name, one in ((last, _OUTPUT), (_OUTPUT, last)) if one in found}, **found}
    runs = {
        name: _checked(name, found[name], (samples, *shape, steps), gives)
        for name, (shape, gives) in expected.items()
        if name in found
    }
    output = runs.pop(_OUTPUT, None)
    return Run(runs, output)


def _checked(name: str, run: npt.NDArray[Any], shape: tuple[int, ...], gives: Gives) -> npt.NDArray[Any]:
    if run.shape != shape:
        raise SimulationError(
            f"Expected recorded spikes of {name} of shape {shape} for this input but got {run.shape}."
        )
    if run.dtype.kind not in "biuf" or not _are_possible(run, gives):
        expected = "0 and 1" if gives == "spikes" else "finite numbers"
        raise SimulationError(f"Expected recorded spikes of {name} to be {expected} but got other values.")
    return run.astype(np.uint8 if gives == "spikes" else np.float64, copy=False)


def _are_possible(run: npt.NDArray[Any], gives: Gives) -> bool:
    return bool(((run == 0) | (run == 1)).all() if gives == "spikes" else np.isfinite(run).all())
