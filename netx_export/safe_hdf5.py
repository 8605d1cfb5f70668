"""Reading HDF5 from people one does not know: only small, plain datasets inside the file itself are ever read.

HDF5 can link to other files, declare terabytes that lie nowhere, and hold any type. A netx network needs none of that.
Nothing is read before its declared size was charged to a budget.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from netx_export.description import IntArray
from netx_export.errors import NetxFormatError

__all__ = ["Budget", "SafeGroup", "check_heaps"]

_MAX_VALUES = 2**25  # in a whole file: far more than Lava can simulate, and no more than some hundred MB
_MAX_TEXT = 2**16
_MAX_INTEGER = 2**31
_HEAP = b"GCOL\x01"  # how each global heap begins, which holds texts of no fixed length
_HEAP_HEADER = struct.Struct("<8xQ")  # its size, header included
_HEAP_OBJECT = struct.Struct("<H6xQ")  # index, 0 for the free space at the end; size, rounded up to a multiple of 8
_MAX_HEAP_OBJECTS = 2**20


def check_heaps(file: h5py.File) -> None:
    """Walk through all global heaps as HDF5 will, which ends nowhere if a damaged size leads it to zeros.

    Raises:
        NetxFormatError: for a heap whose objects do not fill it, or more objects than any network has texts.
    """
    if file.id.get_create_plist().get_sizes() != (8, 8):
        raise NetxFormatError("its addresses and lengths are not of 64 bits, as h5py writes them.")
    objects = 0
    with open(file.filename, "rb") as plain, mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for heap in re.finditer(_HEAP, data):  # in half the time of mmap's own search
            objects += _heap_objects(data, heap.start())
            if objects > _MAX_HEAP_OBJECTS:
                raise NetxFormatError(f"it holds more than {_MAX_HEAP_OBJECTS} texts.")


def _heap_objects(data: mmap.mmap, start: int) -> int:
    """The number of objects in the heap that starts there."""
    rest = len(data) - start
    size = _HEAP_HEADER.unpack_from(data, start)[0] if rest >= _HEAP_HEADER.size else rest + 1
    place, objects = _HEAP_HEADER.size, 0
    while place + _HEAP_OBJECT.size <= size <= rest:
        index, length = _HEAP_OBJECT.unpack_from(data, start + place)
        step = _HEAP_OBJECT.size + (length + 7) // 8 * 8 if index else length
        if not 0 < step <= size - place:
            break
        place, objects = place + step, objects + 1
    if place + _HEAP_OBJECT.size <= size:
        raise NetxFormatError(f"the heap of its texts at byte {start} is damaged.")
    return objects


class Budget:
    """How much may still be read from a file, and what was found in it that netx ignores."""

    def __init__(self) -> None:
        self.values = _MAX_VALUES
        self.ignored: list[str] = []


class SafeGroup:
    """A group of a netx file; every access checks link, kind, type, size and values, and names the group if wrong."""

    def __init__(self, group: h5py.Group, budget: Budget) -> None:
        self._group = group
        self.budget = budget
        self.name: str = group.name

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def names(self) -> list[str]:
        """Names of what is in the group."""
        return list(self._group)

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
        except NetxFormatError as error:
            text = str(error)
            raise NetxFormatError(text if text.startswith("group ") else f"group {self.name}: {text}") from None
        except Exception as error:  # a damaged file makes HDF5 and numpy raise almost anything
            raise NetxFormatError(f"group {self.name}: {type(error).__name__}: {error}.") from None

    def text(self, name: str) -> str:
        """A text of one line."""
        dataset = self._dataset(name)
        if dataset.size != 1 or not (h5py.check_string_dtype(dataset.dtype) or dataset.dtype.kind == "S"):
            raise NetxFormatError(f"group {self.name}: expected `{name}` to be one text but got {dataset.dtype}.")
        value = np.asarray(dataset[()]).reshape(-1)[0]
        return value.decode("ascii") if isinstance(value, bytes) else str(value)

    def texts(self) -> dict[str, str]:
        """The group's attributes, those that are short texts."""
        found = {}
        for key in self._group.attrs:
            dtype = self._group.attrs.get_id(key).dtype
            size = self._group.attrs.get_id(key).get_storage_size()
            if h5py.check_string_dtype(dtype) and size <= _MAX_TEXT:
                found[key] = str(self._group.attrs[key])
        return found

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """Finite numbers of any shape, of the type that they have in the file."""
        dataset = self._dataset(name)
        if dataset.dtype.kind not in "iufb":
            raise NetxFormatError(f"group {self.name}: expected `{name}` to hold numbers but got {dataset.dtype}.")
        values = np.asarray(dataset[()])
        # False for NaN too, which is the smallest and the largest of its array.
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
                f"group {self.name}: `{name}` is {values.tolist()[:8]}; expected 2 numbers >= {lowest}."
            )
        return int(values[0]), int(values[-1])

    def shape(self, name: str) -> tuple[int, ...]:
        """The sizes of one to three axes."""
        values = self.integers(name).reshape(-1)
        if not 1 <= values.size <= 3 or values.min() < 1 or np.prod(values.astype(float)) > _MAX_VALUES:
            raise NetxFormatError(f"group {self.name}: `{name}` is {values.tolist()[:8]}; expected 1 to 3 sizes.")
        return tuple(int(value) for value in values)

    def matrix(self, name: str, rows: int) -> IntArray:
        """A matrix of integers, int32, with so many rows; one without axes is split into rows."""
        values = self.integers(name, dtype=np.int32)
        if values.ndim > 2 or values.size % rows or (values.ndim == 2 and len(values) != rows):
            raise NetxFormatError(f"group {self.name}: `{name}` of shape {values.shape} does not make {rows} rows.")
        return values.reshape(rows, -1)

    def ignore(self, *names: str, neutral: int | None = None) -> None:
        """Note what netx ignores, unless it has the value that means nothing."""
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
        if dataset.shape is None or dataset.size * max(1, dataset.dtype.itemsize // 8) > self.budget.values:
            raise NetxFormatError(f"group {self.name}: `{name}` of shape {dataset.shape} is too large to be a network.")
        self.budget.values -= dataset.size
        return dataset
