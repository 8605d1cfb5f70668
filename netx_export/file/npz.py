"""``.npz`` files: input spikes with labels, and what a simulation gave, to compare with later."""

from __future__ import annotations

import io
import math
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netx_export.errors import ExportError, SimulationError
from netx_export.file.atomic import replacing
from netx_export.file.opening import check_path, why_unreadable
from netx_export.run import OUTPUT, Run, Spikes

__all__ = ["load_arrays", "load_simulation", "load_spikes", "save_simulation", "save_spikes"]

_Array = npt.NDArray[np.generic]
_ENCRYPTED = 1  # a flag of the zip format
_LONGEST_HEADER = 2**16  # bytes; numpy itself takes no longer one
_LONGEST_NUMBER = 8  # bytes, which torch takes
_MOST_NAMES = 8  # in an error


def load_spikes(
    path: str | os.PathLike[str], key: str = "spikes", label_key: str = "labels", *, least_axes: int = 3
) -> tuple[_Array, _Array | None]:
    """Load input spikes, and labels if there are any.

    Args:
        path: a ``.npz`` file as ``numpy.savez(path, spikes=..., labels=...)`` writes it; nothing in it is executed.
        key: name of the spikes ``(N, C, ..., T)`` in the file.
        label_key: name of the labels ``(N,)`` in the file.
        least_axes: how many axes the spikes have at least: 2 are enough for a network whose forward adds the steps.

    Returns:
        The spikes, and the labels or None.

    Raises:
        SimulationError: if the file is missing, cannot be read, is no ``.npz`` file or too large for the memory, lacks
            the spikes, holds Python objects, spikes that are no real numbers, or another number of labels than of
            samples.
        TypeError: if ``path`` is no path.

    Example:
        >>> from netx_export.file.npz import load_spikes
        >>> load_spikes("missing.npz")
        Traceback (most recent call last):
            ...
        netx_export.errors.SimulationError: missing.npz: no such file. Give the path of a .npz file with `spikes`.
    """
    arrays = load_arrays(path, {key, label_key}, f"`{key}`")
    if key not in arrays:
        raise SimulationError(f"{path}: expected an array `{key}` (N, C, ..., T) but got {_names(path)}.")
    spikes, labels = arrays[key], arrays.get(label_key)
    if spikes.dtype.kind not in "biuf" or spikes.dtype.itemsize > _LONGEST_NUMBER:
        raise SimulationError(f"{path}: expected real numbers of up to 64 bits in `{key}` but got {spikes.dtype}.")
    if spikes.ndim < least_axes:
        raise SimulationError(f"{path}: expected `{key}` of shape (N, C, ..., T) but got {spikes.shape}.")
    if labels is not None and labels.shape[:1] != spikes.shape[:1]:
        raise SimulationError(
            f"{path}: expected one label for each of the {len(spikes)} samples in `{key}` but `{label_key}` has the "
            f"shape {labels.shape}. Samples are the first axis and time is the last."
        )
    return spikes, labels


def save_spikes(path: str | os.PathLike[str], spikes: npt.ArrayLike, labels: npt.ArrayLike | None = None) -> None:
    """Save input spikes, and labels if there are any, as :func:`load_spikes` loads them.

    Raises:
        SimulationError: if the file cannot be written.
        TypeError: if ``path`` is no path.
    """
    arrays = {"spikes": np.asarray(spikes)}
    if labels is not None:
        arrays["labels"] = np.asarray(labels)
    _save(path, arrays)


def save_simulation(path: str | os.PathLike[str], simulation: Run) -> None:
    """Save what a simulation gave: ``output``, and each layer under its name.

    Raises:
        SimulationError: if the file cannot be written.
        TypeError: if ``path`` is no path.
    """
    _save(path, simulation.arrays)


def load_simulation(path: str | os.PathLike[str]) -> Run:
    """Load what :func:`save_simulation` saved, or what another simulator or a chip recorded in the same form.

    Zeros and ones come back as uint8. Other numbers, which sigma-delta neurons send, come back in float64, and so does
    every float64 array.

    Raises:
        SimulationError: if the file is missing, cannot be read, is no ``.npz`` file or too large for the memory, lacks
            the output, or holds anything but finite numbers.
        TypeError: if ``path`` is no path.
    """
    arrays = load_arrays(path, None, f"`{OUTPUT}`")
    if OUTPUT not in arrays:
        raise SimulationError(f"{path}: expected an array `{OUTPUT}` (N, C, ..., T) but got {_names(path)}.")
    with _telling(path):
        events = {name: _as_events(name, array) for name, array in arrays.items()}
        try:
            return Run.of(events, no_output="")
        except ValueError as error:
            raise SimulationError(str(error)) from None


def _as_events(name: str, array: _Array) -> Spikes:
    """Spikes in uint8, graded messages and sums in float64."""
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise SimulationError(f"expected finite numbers in `{name}` but got others, of {array.dtype}.")
    binary = array.dtype != np.float64 and bool(((array == 0) | (array == 1)).all())
    return array.astype(np.uint8 if binary else np.float64, copy=False)


def load_arrays(path: str | os.PathLike[str], names: set[str] | None, wanted: str) -> dict[str, _Array]:
    """Some, or all, of the arrays of a ``.npz`` file; nothing in it is executed.

    Raises:
        SimulationError: if it cannot be read, is no such file or a damaged one, or is too large for the memory.
        TypeError: if ``path`` is no path.
    """
    check_path("path", path, ".npz file")
    path = os.fsdecode(path)  # zipfile takes no bytes
    problem = why_unreadable(path)
    if problem:
        raise SimulationError(f"{path}: {problem}. Give the path of a .npz file with {wanted}.")
    with _telling(path):
        if not zipfile.is_zipfile(path):
            raise SimulationError(
                f"expected a .npz file with {wanted}, as numpy.savez writes it, but got another, or one without its "
                f"end."
            )
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if names is None or _name(info) in names]
            if len(members) > len({_name(info) for info in members}):
                raise SimulationError("it holds two arrays of one name.")
            _check_memory(sum(info.file_size for info in members))
            return {_name(info): _load(archive, info) for info in members}


@contextmanager
def _telling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever goes wrong inside into an error that names the file."""
    try:
        yield
    except SimulationError as error:
        raise SimulationError(f"{path}: {error}") from None
    except MemoryError:
        raise SimulationError(
            f"{path}: there is not enough memory for its arrays. Split it into files of fewer samples."
        ) from None
    except OSError as error:
        raise SimulationError(f"{path}: cannot be read: {error.strerror or error}.") from None
    except Exception as error:  # a damaged file makes zip and numpy raise almost anything
        raise SimulationError(f"{path}: the file is damaged, or no .npz file ({error}).") from None


def _name(info: zipfile.ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _check_memory(size: int) -> None:
    free = _free_memory()
    if size > free:
        raise SimulationError(
            f"its arrays take {size / 2**30:.3g} GiB of memory, of which {free / 2**30:.3g} GiB are free. "
            f"Split it into files of fewer samples."
        )


def _free_memory() -> int:
    """Bytes of memory that the system can still give; no limit where it does not say."""
    with suppress(OSError, KeyError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        kibibytes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
        return (kibibytes["MemAvailable"] + kibibytes["SwapFree"]) * 2**10
    return sys.maxsize


def _load(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Array:
    """An array, after a look at what it says of its own size."""
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SimulationError(f"`{_name(info)}` is packed in another way than numpy.savez does it.")
    form: Any = np.lib.format
    with archive.open(info) as member:
        start = io.BytesIO(member.read(_LONGEST_HEADER))
    if not start.getvalue().startswith(form.MAGIC_PREFIX):
        raise SimulationError(f"`{info.filename}` is no array as numpy.savez writes it.")
    version = form.read_magic(start)
    try:
        shape, _, dtype = (form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0)(start)
    except MemoryError:  # Python's own for what is nested too deep, however little it is
        raise SimulationError(f"the file is damaged: `{_name(info)}` does not say what it holds.") from None
    if dtype.hasobject or dtype.fields is not None or dtype.itemsize == 0:
        raise SimulationError(f"expected arrays of numbers only, but `{_name(info)}` is of {dtype}.")
    if start.tell() + math.prod(shape) * dtype.itemsize != info.file_size or min(shape, default=0) < 0:
        raise SimulationError(f"the file is damaged: `{_name(info)}` is shorter or longer than its shape {shape}.")
    with archive.open(info) as member:
        array: _Array = form.read_array(member, allow_pickle=False)
    return array


def _names(path: str | os.PathLike[str]) -> str:
    """The names of a file's arrays, for an error: as many as one can read."""
    with zipfile.ZipFile(os.fsdecode(path)) as file:
        names = sorted(map(_name, file.infolist()))
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(f"`{name}`" for name in names[:_MOST_NAMES]) + more or "an empty file"


def _save(path: str | os.PathLike[str], arrays: dict[str, _Array]) -> None:
    try:
        # As numpy.savez_compressed does, which does not close the archive if the disk is full.
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.save(member, array, allow_pickle=False)
    except ExportError as error:
        raise SimulationError(str(error)) from error.__cause__
