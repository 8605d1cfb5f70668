"""``.npz`` files: input spikes with labels, and what a simulation gave, to compare with later."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from netx_export.atomic import replacing
from netx_export.errors import ExportError, SimulationError
from netx_export.simulation import LayerArray, Simulation

__all__ = ["load_arrays", "load_simulation", "load_spikes", "save_simulation", "save_spikes"]

_Array = npt.NDArray[np.generic]
_OUTPUT = "output"


def load_spikes(
    path: str | os.PathLike[str], key: str = "spikes", label_key: str = "labels"
) -> tuple[_Array, _Array | None]:
    """Load input spikes, and labels if there are any.

    Args:
        path: a ``.npz`` file as ``numpy.savez(path, spikes=..., labels=...)`` writes it; nothing in it is executed.
        key: name of the spikes ``(N, C, ..., T)`` in the file.
        label_key: name of the labels ``(N,)`` in the file.

    Returns:
        The spikes, and the labels or None.

    Raises:
        SimulationError: if the file is missing, is no ``.npz`` file, lacks the spikes, holds Python objects, or holds
            another number of labels than of samples.

    Example:
        >>> from netx_export.data import load_spikes
        >>> load_spikes("missing.npz")
        Traceback (most recent call last):
            ...
        netx_export.errors.SimulationError: missing.npz: no such file. Give the path of a .npz file with `spikes`.
    """
    arrays = load_arrays(path, {key, label_key}, f"`{key}`")
    if key not in arrays:
        raise SimulationError(f"{path}: expected an array `{key}` (N, C, ..., T) but got {_names(path)}.")
    spikes, labels = arrays[key], arrays.get(label_key)
    if spikes.ndim < 3:
        raise SimulationError(f"{path}: expected `{key}` of shape (N, C, ..., T) but got {spikes.shape}.")
    if labels is not None and labels.shape[:1] != spikes.shape[:1]:
        raise SimulationError(
            f"{path}: expected one label for each of the {len(spikes)} samples in `{key}` but `{label_key}` has the "
            f"shape {labels.shape}."
        )
    return spikes, labels


def save_spikes(path: str | os.PathLike[str], spikes: npt.ArrayLike, labels: npt.ArrayLike | None = None) -> None:
    """Save input spikes, and labels if there are any, as :func:`load_spikes` loads them.

    Raises:
        SimulationError: if the file cannot be written.
    """
    arrays = {"spikes": np.asarray(spikes)}
    if labels is not None:
        arrays["labels"] = np.asarray(labels)
    _save(path, arrays)


def save_simulation(path: str | os.PathLike[str], simulation: Simulation) -> None:
    """Save what a simulation gave: ``output``, and each layer under its name.

    Raises:
        SimulationError: if the file cannot be written.
    """
    _save(path, {_OUTPUT: simulation.output, **simulation.layers})


def load_simulation(path: str | os.PathLike[str]) -> Simulation:
    """Load what :func:`save_simulation` saved, or what another simulator or a chip recorded in the same form.

    Zeros and ones come back as uint8. Other numbers, which sigma-delta neurons send, come back in float64, and so does
    every float64 array.

    Raises:
        SimulationError: if the file is missing, is no ``.npz`` file, lacks the output, or holds anything but finite
            numbers.
    """
    arrays = load_arrays(path, None, f"`{_OUTPUT}`")
    if _OUTPUT not in arrays:
        raise SimulationError(f"{path}: expected an array `{_OUTPUT}` (N, C, ..., T) but got {_names(path)}.")
    layers = {name: _as_events(path, name, array) for name, array in arrays.items()}
    return Simulation(layers.pop(_OUTPUT), layers)


def _as_events(path: str | os.PathLike[str], name: str, array: _Array) -> LayerArray:
    """Spikes in uint8, graded messages and sums in float64."""
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise SimulationError(f"{path}: expected finite numbers in `{name}` but got others, of {array.dtype}.")
    binary = array.dtype != np.float64 and bool(((array == 0) | (array == 1)).all())
    return array.astype(np.uint8 if binary else np.float64, copy=False)


def load_arrays(path: str | os.PathLike[str], names: set[str] | None, wanted: str) -> dict[str, _Array]:
    """Some, or all, of the arrays of a ``.npz`` file; nothing in it is executed.

    Raises:
        SimulationError: if it is no such file, or a damaged one.
    """
    if not Path(path).is_file():
        raise SimulationError(f"{path}: no such file. Give the path of a .npz file with {wanted}.")
    if not zipfile.is_zipfile(path):
        raise SimulationError(f"{path}: expected a .npz file with {wanted}, as numpy.savez writes it, but got another.")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if names is None or name in names}
    except ValueError as error:
        raise SimulationError(f"{path}: expected arrays of numbers only ({error}).") from None
    except Exception as error:  # a damaged file makes zip and numpy raise almost anything
        raise SimulationError(f"{path}: the file is damaged ({error}).") from None


def _names(path: str | os.PathLike[str]) -> str:
    with zipfile.ZipFile(path) as file:
        names = sorted(name.removesuffix(".npy") for name in file.namelist())
    return ", ".join(f"`{name}`" for name in names) or "an empty file"


def _save(path: str | os.PathLike[str], arrays: dict[str, _Array]) -> None:
    try:
        # As numpy.savez_compressed does, which does not close the archive if the disk is full.
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.save(member, array, allow_pickle=False)
    except ExportError as error:
        raise SimulationError(str(error)) from error.__cause__
