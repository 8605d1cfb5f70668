"""Reading HDF5 files of unknown origin: only small, plain datasets inside the file itself are ever read.

HDF5 can link to other files, declare terabytes that lie nowhere, and hold any type. A netx network needs none of that.
Nothing is read before its declared size was charged to a budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from netx_export.errors import NetxFormatError
from netx_export.file.hdf5_guard import MAX_TEXT, check_chunks, is_text, text_length
from netx_export.network.fixed_point import IntArray

__all__ = ["Budget", "SafeGroup", "check_storable"]

_MAX_VALUES = 2**25  # in a whole file: far more than Lava can simulate, and no more than some hundred MB
_VALUE_BYTES = 8  # what a value of the budget takes; a smaller one takes as much once it is read
_MAX_INTEGER = 2**31
_MAX_TYPE = 2**8  # bytes of the name of a type
_MAX_ATTRIBUTES = 10_000
_MAX_CHUNKS = 2**16  # of a whole file: to look at one takes some microseconds
_MAX_ALL_TEXTS = 2**24  # bytes of all texts of a file
_MAX_NAME = 60_000  # bytes of the name of a text, for which HDF5 has less than 2^16


class Budget:
    """How much may still be read from a file, and what was found in it that netx ignores."""

    def __init__(self) -> None:
        self.values = _MAX_VALUES
        self.chunks = _MAX_CHUNKS
        self.text_bytes = _MAX_ALL_TEXTS
        self.ignored: list[str] = []


class SafeGroup:
    """A group of a netx file; every access checks link, kind, type, size and values, and names the group if wrong."""

    def __init__(self, group: h5py.Group, budget: Budget) -> None:
        self._group = group
        self.budget = budget
        self.name: str = group.name

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __len__(self) -> int:
        """The number of groups and datasets in the group."""
        return len(self._group)

    def group(self, name: str) -> SafeGroup:
        """A group in this group."""
        found = self._find(name)
        if not isinstance(found, h5py.Group):
            raise NetxFormatError(f"group {self.name}: expected a group `{name}`, but there is none.")
        return SafeGroup(found, self.budget)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn whatever goes wrong inside into an error that names this group."""
        try:
            yield
        except MemoryError:
            raise
        except NetxFormatError as error:
            text = str(error)
            raise NetxFormatError(text if text.startswith("group ") else f"group {self.name}: {text}") from None
        except Exception as error:  # a damaged file makes HDF5 and numpy raise almost anything
            raise NetxFormatError(f"group {self.name}: {type(error).__name__}: {error}.") from None

    def text(self, name: str) -> str:
        """A short text of one line, such as the name of a type."""
        dataset = self._dataset(name)
        if dataset.size != 1 or not (h5py.check_string_dtype(dataset.dtype) or dataset.dtype.kind == "S"):
            raise NetxFormatError(f"group {self.name}: expected `{name}` to be one text but got {dataset.dtype}.")
        length = text_length(dataset)
        if length is None:
            raise NetxFormatError(
                f"group {self.name}: the length of `{name}` cannot be told before it is read. Store it as a fixed text."
            )
        if length > _MAX_TYPE:
            raise NetxFormatError(f"group {self.name}: expected `{name}` to be a text of at most {_MAX_TYPE} bytes.")
        return _decoded(np.asarray(dataset[()]).reshape(-1)[0])

    def texts(self) -> dict[str, str]:
        """The group's attributes, those that are one text; what is no UTF-8 in them or their names is escaped.

        Others, and longer ones than a network has, are noted as ignored.
        """
        attributes = self._group.attrs
        if len(attributes) > _MAX_ATTRIBUTES:
            raise NetxFormatError(f"group {self.name}: expected at most {_MAX_ATTRIBUTES} attributes.")
        found = {}
        for name in attributes:
            key = _decoded(name)
            if not is_text(attributes.get_id(name)):
                self.budget.ignored.append(f"{self.name}: attribute {key}, which is no text")
                continue
            found[key] = _decoded(attributes[name])
            self.budget.text_bytes -= len(key) + len(found[key])
            if self.budget.text_bytes < 0:
                raise NetxFormatError(f"group {self.name}: its texts are more than {_MAX_ALL_TEXTS} bytes.")
        return found

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """Finite numbers of any shape, of the type that they have in the file."""
        dataset = self._dataset(name)
        if dataset.dtype.kind not in "iufb":
            raise NetxFormatError(f"group {self.name}: expected `{name}` to hold numbers but got {dataset.dtype}.")
        values = np.asarray(dataset[()])
        # If there is a NaN, minimum and maximum are NaN, and each comparison is False.
        if values.size == 0 or not (values.min() > -_MAX_INTEGER and values.max() < _MAX_INTEGER):
            raise NetxFormatError(
                f"group {self.name}: `{name}` is empty, or holds values that are not finite or absurd."
            )
        return values

    def integers(self, name: str, ndim: int | None = None, dtype: type[np.signedinteger[Any]] = np.int64) -> IntArray:
        """Integers of any shape, or with so many axes; fractions are cut off as netx does."""
        values: IntArray = self.numbers(name).astype(dtype, copy=False)
        if ndim is not None and values.ndim != ndim:
            raise NetxFormatError(f"group {self.name}: expected `{name}` to have {ndim} axes but got {values.shape}.")
        return values

    def integer(self, name: str) -> int:
        """One integer."""
        values = self.integers(name)
        if values.size != 1:
            raise NetxFormatError(f"group {self.name}: expected `{name}` to be one number but got {values.shape}.")
        return int(values.reshape(-1)[0])

    def pair(self, name: str, lowest: int) -> tuple[int, int]:
        """Two integers, or one for both, none lower than ``lowest``."""
        values = self.integers(name).reshape(-1)
        if values.size not in (1, 2) or values.min() < lowest:
            raise NetxFormatError(
                f"group {self.name}: `{name}` is {values[:8].tolist()}; expected 2 numbers >= {lowest}."
            )
        return int(values[0]), int(values[-1])

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of one to three axes."""
        values = self.integers(name).reshape(-1)
        if not 1 <= values.size <= 3 or values.min() < 1 or np.prod(values.astype(float)) > _MAX_VALUES:
            raise NetxFormatError(f"group {self.name}: `{name}` is {values[:8].tolist()}; expected 1 to 3 sizes.")
        return tuple(int(value) for value in values)

    def matrix(self, name: str, rows: int) -> IntArray:
        """A matrix of integers, int32, with so many rows; one without axes is split into rows."""
        values = self.integers(name, dtype=np.int32)
        if values.ndim > 2 or values.size % rows or (values.ndim == 2 and len(values) != rows):
            raise NetxFormatError(f"group {self.name}: `{name}` of shape {values.shape} does not make {rows} rows.")
        return values.reshape(rows, -1)

    def ignore(self, *names: str, neutral: int | None = None) -> None:
        """Note what netx ignores, unless it has the ``neutral`` value, with which it changes nothing."""
        for name in names:
            if name not in self:
                continue
            dataset = self._dataset(name)
            if neutral is None:
                self.budget.ignored.append(f"{self.name.rstrip('/')}/{name}")
            elif dataset.size == 1 and dataset.dtype.kind in "iufb" and dataset[()] != neutral:
                self.budget.ignored.append(f"{self.name}/{name} = {dataset[()]}")

    def _find(self, name: str) -> Any:
        """The object under a name, reached by plain links only; None if there is none."""
        place = self._group
        for part in name.split("/"):
            link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise NetxFormatError(
                    f"group {self.name}: `{name}` is a link to somewhere else, which is not followed."
                )
            place = place[part]
        return place

    def _dataset(self, name: str) -> h5py.Dataset:
        dataset = self._find(name)
        if not isinstance(dataset, h5py.Dataset):
            raise NetxFormatError(f"group {self.name}: expected a dataset `{name}`, but there is none.")
        if dataset.is_virtual or dataset.external:
            raise NetxFormatError(f"group {self.name}: `{name}` lies in another file, which is not opened.")
        if dataset.shape is None:
            raise NetxFormatError(f"group {self.name}: `{name}` is empty.")
        values = max(dataset.size, math.prod(dataset.chunks or ()))  # a chunk may be larger, and is read as a whole
        self.budget.values -= values * -(-dataset.dtype.itemsize // _VALUE_BYTES)
        if self.budget.values < 0:
            raise NetxFormatError(f"group {self.name}: `{name}` of shape {dataset.shape} is too large to be a network.")
        with self.errors():
            self.budget.chunks -= check_chunks(dataset, self.budget.chunks)
        return dataset


def check_storable(texts: Mapping[str, str]) -> None:
    """Raise unless a file can hold these texts under their names, so that they are read back.

    Raises:
        ValueError: if it cannot.
    """
    size = 0
    for key, value in texts.items():
        quoted = f"{key[:60]!r}: {value[:60]!r}"
        if not key or "\0" in key + value:  # HDF5 would end a name at its first NUL, whatever comes behind
            raise ValueError(f"Expected names, and texts without NUL characters, in `metadata` but got {quoted}.")
        try:
            name_bytes, text_bytes = len(key.encode()), len(value.encode())
        except UnicodeEncodeError:
            raise ValueError(f"Expected texts that UTF-8 can hold in `metadata` but got {quoted}.") from None
        if name_bytes > _MAX_NAME or text_bytes > MAX_TEXT:
            raise ValueError(
                f"Expected names of at most {_MAX_NAME} bytes, and texts of at most {MAX_TEXT}, in `metadata` but got "
                f"{quoted}, which is longer."
            )
        size += name_bytes + text_bytes
    if len(texts) > _MAX_ATTRIBUTES or size > _MAX_ALL_TEXTS:
        raise ValueError(
            f"Expected at most {_MAX_ATTRIBUTES} texts of {_MAX_ALL_TEXTS} bytes together in `metadata` but got "
            f"{len(texts)} of {size} bytes."
        )


def _decoded(text: str | bytes) -> str:
    """A text of a file as one that can be written anywhere: bytes that are no UTF-8 as ``\\xff``."""
    content = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
    return content.decode("utf-8", "backslashreplace")
