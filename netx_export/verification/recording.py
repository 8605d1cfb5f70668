"""Recorded runs: the spikes of a network as arrays or a ``.npz`` file, from a simulator or a chip.

One array per layer, under the layer's name (``dense1``), and the network's output under ``output``: ``(N, C, ..., T)``,
in the time of SLAYER's output. A recording may hold only some of them: then only these are compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netx_export.errors import SimulationError
from netx_export.file.npz import load_arrays
from netx_export.network.description import Flatten, Gives, NetworkDescription
from netx_export.run import OUTPUT, Run, Spikes

__all__ = ["check_recording"]


def check_recording(
    recorded: str | os.PathLike[str] | Mapping[str, npt.ArrayLike],
    description: NetworkDescription,
    samples: int,
    steps: int,
) -> Run:
    """The layers of a recording, and its output.

    Args:
        recorded: arrays by name, or a ``.npz`` file with them, in which nothing is executed.
        description: the network.
        samples, steps: of the input.

    Raises:
        TypeError: if it is neither a mapping nor a path.
        SimulationError: if the file is no ``.npz`` file, the recording holds none of the network's layers, or an array
            does not fit the network or the input.
    """
    expected = {name: (layer.shape, description.gives[name]) for name, layer in description.spiking.items()}
    arrays = _load(recorded)
    unknown = sorted({str(name) for name in arrays} - set(expected) - {OUTPUT})
    if unknown or not arrays:
        raise SimulationError(
            f"The recording holds {unknown or 'nothing'}, but the network's layers are {', '.join(expected)}; the "
            f"network's output is called {OUTPUT!r}."
        )
    last = list(expected)[-1]
    expected[OUTPUT] = _output(description)
    runs = {
        name: _checked(name, array, (samples, *expected[name][0], steps), expected[name][1])
        for name, array in arrays.items()
    }
    if description.readout is None:  # the output is what the last layer gives, in one shape or another
        for one, other in ((last, OUTPUT), (OUTPUT, last)):
            if one in runs and other not in runs:
                runs[other] = runs[one].reshape(samples, *expected[other][0], steps)
    in_order = {name: runs[name] for name in [*description.spiking, OUTPUT] if name in runs}
    return Run.of(in_order, no_output="the recording does not hold it")


def _load(recorded: Any) -> Mapping[str, Any]:
    if isinstance(recorded, Mapping):
        return recorded
    if not isinstance(recorded, str | os.PathLike):
        raise TypeError(
            f"Expected argument `recorded` to be a mapping from names of layers to arrays, or the path of a .npz file, "
            f"but got {type(recorded).__name__}."
        )
    return load_arrays(recorded, None, "the spikes of layers")


def _output(description: NetworkDescription) -> tuple[tuple[int, ...], Gives]:
    """Shape of the network's output, and what it is."""
    if description.readout is not None:
        return description.readout.shape, "sums"
    name, last = list(description.spiking.items())[-1]
    ends_flat = isinstance(description.layers[-1], Flatten)
    return (int(np.prod(last.shape)),) if ends_flat else last.shape, description.gives[name]


def _checked(name: str, recorded: Any, shape: tuple[int, ...], gives: Gives) -> Spikes:
    if isinstance(recorded, np.ma.MaskedArray) and np.any(recorded.mask):  # numpy would use what lies under the mask
        raise SimulationError(f"Expected recorded spikes of {name} without masked values but got masked ones.")
    try:
        run = np.asarray(recorded.detach().cpu() if isinstance(recorded, torch.Tensor) else recorded)
    except (TypeError, ValueError, RuntimeError) as error:  # for instance rows of unequal length
        raise SimulationError(f"Expected recorded spikes of {name} to be an array of numbers: {error}") from None
    if run.shape != shape:
        raise SimulationError(
            f"Expected recorded spikes of {name} of shape {shape} for this input but got {run.shape}."
        )
    if run.dtype.kind not in "biuf" or not _are_possible(run, gives):
        expected = "0 and 1" if gives == "spikes" else "finite numbers that float32 can hold"
        raise SimulationError(f"Expected recorded spikes of {name} to be {expected} but got other values.")
    return run.astype(np.uint8 if gives == "spikes" else np.float64, copy=False)


def _are_possible(run: Spikes, gives: Gives) -> bool:
    if gives == "spikes":
        return bool(((run == 0) | (run == 1)).all())
    return bool((np.abs(run.astype(np.float64, copy=False)) <= np.finfo(np.float32).max).all())  # false for NaN
