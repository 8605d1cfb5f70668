"""The library ``nir``, its nodes and their numbers; and how a node is refused."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt

from netx_export.errors import NetxExportError, NetxFormatError
from netx_export.file.opening import why_unreadable
from netx_export.network.fixed_point import MAX_CONV_SIZE

__all__ = [
    "DEFAULT_DT",
    "OWN_KEY",
    "FloatArray",
    "Named",
    "check_positive",
    "check_stated",
    "library",
    "numbers",
    "pair",
    "read_file",
    "refuse",
    "whole_number",
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
        number = np.asarray(value)
        if number.dtype.kind not in "iuf" or number.ndim or not 0 < number < np.inf:
            raise ValueError(f"Expected argument `{name}` to be a positive number but got {value!r:.60}.")


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
            return _unchecked(nir, nir.serialization.hdf2dict(file["node"]), "")
    except NetxFormatError as error:
        raise NetxFormatError(f"{path}: {error}") from None
    except Exception as error:  # a damaged file makes HDF5 and nir raise almost anything
        raise NetxFormatError(f"{path}: not a NIR graph ({type(error).__name__}: {error}).") from None


def _unchecked(nir: ModuleType, data: dict[str, Any], name: str) -> Any:
    """A node as the file has it: ``nir.read`` checks nested graphs, and its check takes kernels to be square."""
    if data["type"] != "NIRGraph":
        return _node(nir, data, name)
    inside = f"{name}." if name else ""
    named = _by_name(data["nodes"], inside)
    nodes = {inner.removeprefix(inside): _unchecked(nir, node, inner) for inner, node in named}
    edges = [(source.decode(), target.decode()) for source, target in data["edges"]]
    return nir.NIRGraph(nodes, edges, data.get("metadata", {}), type_check=False)


def _by_name(nodes: dict[str, Any], before: str) -> Iterator[Named]:
    """The nodes of a graph with their names.

    HDF5 reads a slash in a name as a group in a group: the node ``fc/1`` is in a group ``fc`` without a type, or inside
    of the node ``fc``.
    """
    for name, data in nodes.items():
        inside = {key: value for key, value in data.items() if isinstance(value, dict)}
        if "type" in data and "type" not in inside:  # a dictionary under "type" is a node called "name/type"
            own = {"metadata", "nodes"} if data["type"] == "NIRGraph" else {"metadata"}
            inside = {key: value for key, value in inside.items() if key not in own}
            yield f"{before}{name}", {key: value for key, value in data.items() if key not in inside}
        elif len(inside) < len(data):
            refuse(f"{before}{name}", "has no type")
        yield from _by_name(inside, f"{before}{name}/")


def _node(nir: ModuleType, data: dict[str, Any], name: str) -> Any:
    kind = data["type"]
    if not isinstance(getattr(nir, str(kind), None), type):
        refuse(name, f"is of the type {kind!r}, which the installed nir {version('nir')} does not know")
    try:
        return nir.dict2NIRNode(data)
    except Exception as error:  # nir takes the parameters as they are
        refuse(name, f"its parameters make no {kind} ({type(error).__name__}: {error})")


def refuse(name: str, reason: str) -> NoReturn:
    """Raise a ``NetxFormatError`` about one node."""
    raise NetxFormatError(f"NIR node {name!r}: {reason}.")


def numbers(named: Named, parameter: str) -> FloatArray:
    """A parameter of a node, all of whose numbers are finite."""
    name, node = named
    try:
        given = np.asarray(getattr(node, parameter))
        values = given.astype(np.float64, casting="unsafe" if given.dtype.kind in "OSU" else "same_kind")
    except (AttributeError, RuntimeError, TypeError, ValueError):  # complex numbers are a TypeError
        refuse(name, f"{parameter} holds no numbers")
    finite = np.isfinite(values)
    if not finite.all():
        refuse(name, f"{parameter} holds values that are not finite: {values[~finite].flat[0]}")
    return values


def check_stated(name: str, stated: Any, shape: tuple[int, ...]) -> None:
    """Refuse a node that says of itself that it takes values of another shape than it gets.

    Frameworks write axes of 1 for the batch, None or -1 for what they do not know, and an image as one axis.
    """
    given = np.asarray(stated, object).reshape(-1)
    said = tuple(size.item() if isinstance(size, np.generic) else size for size in given)  # as a person would write it
    if any(size is None for size in said):
        return
    sizes = numbers((name, SimpleNamespace(shape=said)), "shape")
    if (sizes < 0).any():
        return
    long, gets = sizes[sizes != 1].tolist(), [size for size in shape if size != 1]
    flattened = len(long) <= 1 or len(gets) <= 1
    if sizes.prod() != np.prod(shape) or not (long == gets or flattened):
        refuse(name, f"it says that it takes values of shape {said}, but gets {shape}")


def pair(named: Named, parameter: str, lowest: int) -> tuple[int, int]:
    """A size of a node along both axes of an image."""
    values = numbers(named, parameter)
    in_range = (values >= lowest) & (values <= MAX_CONV_SIZE)
    if values.size not in (1, 2) or (values != np.rint(values)).any() or not in_range.all():
        wanted = f"expected one or two whole numbers from {lowest} to {MAX_CONV_SIZE}, which is what Lava holds"
        refuse(named[0], f"{parameter} of {values.tolist()}; {wanted}")
    first, second = np.broadcast_to(values.reshape(-1), 2)
    return int(first), int(second)


def whole_number(named: Named, parameter: str) -> int:
    """A parameter that is one whole number."""
    values = numbers(named, parameter)
    if values.size != 1 or (values != np.rint(values)).any():
        refuse(named[0], f"{parameter} of {values.tolist()}; expected one whole number")
    return int(values.reshape(()))
