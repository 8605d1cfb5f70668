"""The library ``nir``, its nodes and their numbers; and how a node is refused."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from netx_export.errors import NetxExportError, NetxFormatError
from netx_export.file.opening import why_unreadable

__all__ = [
    "DEFAULT_DT",
    "OWN_KEY",
    "FloatArray",
    "Named",
    "check_positive",
    "library",
    "numbers",
    "pair",
    "read_file",
    "refuse",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]
Named: TypeAlias = tuple[str, Any]  # a node with its name

OWN_KEY = "lava_spikeloss"  # where ``to_nir`` notes what NIR cannot express
DEFAULT_DT = 1e-4  # what snnTorch and others assume


def library() -> ModuleType:
    """Import ``nir``.

    Raises:
        NetxExportError: if it is not installed.
    """
    try:
        import nir
    except ImportError:
        raise NetxExportError("NIR graphs need the library nir: pip install 'lava-spikeloss[nir]'.") from None
    module: ModuleType = nir
    return module


def check_positive(**values: float) -> None:
    """Raise a ``ValueError`` for an argument that is no positive number."""
    for name, value in values.items():
        if not (value > 0 and np.isfinite(value)):
            raise ValueError(f"Expected argument `{name}` to be a positive number but got {value!r}.")


def read_file(nir: ModuleType, path: Path) -> Any:
    """Read a NIR file.

    Raises:
        NetxFormatError: if there is none, or it cannot be read.
    """
    problem = why_unreadable(path)
    if problem:
        raise NetxFormatError(f"{path}: {problem}. Give the path of a NIR file.")
    try:
        with h5py.File(path) as file:
            return _unchecked(nir, nir.serialization.hdf2dict(file["node"]))
    except Exception as error:  # a damaged file makes HDF5 and nir raise almost anything
        raise NetxFormatError(f"{path}: not a NIR graph ({type(error).__name__}: {error}).") from None


def _unchecked(nir: ModuleType, data: dict[str, Any]) -> Any:
    """A node as the file has it: ``nir.read`` checks nested graphs, and its check takes kernels to be square."""
    if data["type"] != "NIRGraph":
        return nir.dict2NIRNode(data)
    nodes = {name: _unchecked(nir, node) for name, node in data["nodes"].items()}
    edges = [(source.decode(), target.decode()) for source, target in data["edges"]]
    return nir.NIRGraph(nodes, edges, data.get("metadata", {}), type_check=False)


def refuse(name: str, reason: str) -> NoReturn:
    """Raise a ``NetxFormatError`` about one node."""
    raise NetxFormatError(f"NIR node {name!r}: {reason}.")


def numbers(named: Named, parameter: str) -> FloatArray:
    """A parameter of a node, all of whose numbers are finite."""
    name, node = named
    try:
        values = np.asarray(getattr(node, parameter), np.float64)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        refuse(name, f"{parameter} holds no numbers")
    finite = np.isfinite(values)
    if not finite.all():
        refuse(name, f"{parameter} holds values that are not finite: {values[~finite].flat[0]}")
    return values


def pair(named: Named, parameter: str, lowest: int) -> tuple[int, int]:
    """A size of a node along both axes of an image."""
    values = numbers(named, parameter)
    if values.size not in (1, 2) or (values != np.rint(values)).any() or (values < lowest).any():
        refuse(named[0], f"{parameter} of {values.tolist()}; expected one or two whole numbers of at least {lowest}")
    first, second = np.broadcast_to(values.reshape(-1), 2)
    return int(first), int(second)
