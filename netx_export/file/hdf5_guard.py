"""Refuses damaged and hostile files on which HDF5 itself would loop for ever or fill the memory.

HDF5 relies on the sizes of texts and heaps that a file declares, and unpacks compressed data to whatever size it has.
"""

from __future__ import annotations

import itertools
import math
import mmap
import re
import struct
import zlib
from collections.abc import Iterator

import h5py

from netx_export.errors import NetxFormatError

__all__ = ["MAX_TEXT", "check_chunks", "check_texts", "is_text", "text_length"]

MAX_TEXT = 2**20  # bytes of one text
_HEAP = b"GCOL\x01"  # how each global heap begins, which holds texts of no fixed length
_HEAP_HEADER = struct.Struct("<8xQ")  # its size, header included
_HEAP_OBJECT = struct.Struct("<H6xQ")  # index, 0 for the free space at the end; size, rounded up to a multiple of 8
_MAX_HEAP_OBJECTS = 2**20
_PLACE_BYTES = 16  # that a text of variable length takes in a dataset: its length, and where in the heap it is
_LENGTH = struct.Struct("<I")
# The bytes of an attribute that is one text of variable length: its type, whose elements take 16 bytes; no axes; the
# length of the text. Fields that HDF5 does not check may hold anything. In attributes of the first version, type and
# axes are padded to a multiple of 8 bytes. Fixed bytes are found ten times as fast as a choice of bytes, so the 16 is
# looked for, and then what stands before it.
_TEXT_TYPE = re.compile(rb"\x10\0\0\0(?<=[\x19\x29\x39\x49][\x01\x11\x21]..\x10\0\0\0)", re.DOTALL)
_TEXT_LENGTHS = [
    re.compile(rb".{12}" + axes + rb"(.{4})", re.DOTALL)
    for axes in (rb"(?:\x01\0.{6}|\x02\0..)", rb".{4}(?:\x01\0.{6}|\x02\0.{6})")
]
_DEFLATE, _SHUFFLE, _CHECKSUM = h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32
_CHECKSUM_BYTES = 4
_MAX_OVERHEAD = 2**10  # bytes that packing may add


def check_texts(file: h5py.File) -> None:
    """Raise if HDF5 would loop for ever over the texts of a file, or take gigabytes for one.

    All global heaps are walked through as HDF5 will do it. HDF5 never comes to an end where a damaged size leads to an
    object of size 0.

    Raises:
        NetxFormatError: for a heap whose objects do not fill it, more objects than any network has texts, or a text
            that is longer than any of a network.
    """
    if file.id.get_create_plist().get_sizes() != (8, 8):
        raise NetxFormatError("its addresses and lengths are not of 64 bits, as h5py writes them.")
    objects = 0
    with open(file.filename, "rb") as plain, mmap.mmap(plain.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for heap in re.finditer(_HEAP, data):  # in half the time of mmap's own search
            objects += _heap_objects(data, heap.start())
            if objects > _MAX_HEAP_OBJECTS:
                raise NetxFormatError(f"it holds more than {_MAX_HEAP_OBJECTS} texts.")
        for length in _text_lengths(data):
            if length > MAX_TEXT:
                raise NetxFormatError(f"it holds a text that says to be {length} bytes long, which none here is.")


def _text_lengths(data: mmap.mmap) -> Iterator[int]:
    """The length of each text that may be an attribute's."""
    for kind in _TEXT_TYPE.finditer(data):
        for pattern in _TEXT_LENGTHS:
            if found := pattern.match(data, kind.end()):
                yield _LENGTH.unpack(found[1])[0]


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


def is_text(attribute: h5py.h5a.AttrID) -> bool:
    """Whether an attribute is one text, of a length that :func:`check_texts` has seen if it is not fixed."""
    kind = h5py.check_string_dtype(attribute.dtype)
    if kind is None or attribute.shape != () or attribute.get_type().committed():  # a shared type lies elsewhere
        return False
    size = attribute.get_storage_size()
    return bool(size == _PLACE_BYTES if kind.length is None else size <= MAX_TEXT)


def text_length(dataset: h5py.Dataset) -> int | None:
    """The bytes of a dataset that is one text; None if they cannot be told before it is read."""
    if h5py.check_vlen_dtype(dataset.dtype) is None:
        return int(dataset.dtype.itemsize)
    place = _first_place(dataset)
    return int(_LENGTH.unpack_from(place)[0]) if len(place) >= _LENGTH.size else None


def _first_place(dataset: h5py.Dataset) -> bytes:
    """The first element of a dataset of texts: its length, and where in the heap it is; empty if that is unknown."""
    if dataset.chunks is not None:
        start, filters = (0,) * dataset.ndim, _filters(dataset)
        if _SHUFFLE in filters or dataset.id.get_chunk_info_by_coord(start).byte_offset is None:
            return b""
        return _unpacked(dataset, start, filters, _chunk_bytes(dataset)) or b""
    offset = dataset.id.get_offset()  # None if it lies in the description of the dataset, or nowhere
    if offset is None:
        return b""
    with open(dataset.file.filename, "rb") as plain:
        plain.seek(offset)
        return plain.read(_PLACE_BYTES)


def check_chunks(dataset: h5py.Dataset, most: int) -> int:
    """Raise unless each chunk of a dataset unpacks to exactly its size; return the number of chunks.

    Raises:
        NetxFormatError: if one does not, there are more than ``most``, or they are packed in another way than by gzip.
    """
    if dataset.chunks is None:
        return 0
    chunks: int = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    if chunks > most:
        raise NetxFormatError(f"`{dataset.name}` brings the chunks of all datasets to more than any network has.")
    filters, size = _filters(dataset), _chunk_bytes(dataset)
    if not {_DEFLATE, _SHUFFLE, _CHECKSUM}.issuperset(filters) or len(filters) > len(set(filters)):
        raise NetxFormatError(f"`{dataset.name}` is packed in another way than by gzip. Store it by gzip, or unpacked.")
    starts = (range(0, axis, chunk) for axis, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    for start in itertools.product(*starts):
        stored = dataset.id.get_chunk_info_by_coord(start)
        if stored.byte_offset is None:  # never written: the fill value
            continue
        unpacked = None if stored.size > 2 * size + _MAX_OVERHEAD else _unpacked(dataset, start, filters, size)
        if unpacked is None or len(unpacked) != size:
            raise NetxFormatError(f"`{dataset.name}`: the chunk at {start} does not unpack to {size} bytes.")
    return chunks


def _filters(dataset: h5py.Dataset) -> list[int]:
    properties = dataset.id.get_create_plist()
    return [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]


def _chunk_bytes(dataset: h5py.Dataset) -> int:
    """The size of an unpacked chunk; of texts of variable length, it holds only where they are."""
    variable = h5py.check_vlen_dtype(dataset.dtype) is not None
    return int(math.prod(dataset.chunks)) * (_PLACE_BYTES if variable else int(dataset.id.get_type().get_size()))


def _unpacked(dataset: h5py.Dataset, start: tuple[int, ...], filters: list[int], size: int) -> bytes | None:
    """An unpacked chunk, still shuffled, of which no more is unpacked than shows that it exceeds ``size`` bytes.

    None if it is damaged.
    """
    skipped, content = dataset.id.read_direct_chunk(start)
    for index, kind in reversed(list(enumerate(filters))):
        if skipped >> index & 1:
            continue
        if kind == _CHECKSUM:
            content = content[:-_CHECKSUM_BYTES]
        elif kind == _DEFLATE:
            try:
                content = zlib.decompressobj().decompress(content, size + _CHECKSUM_BYTES + 1)
            except zlib.error:
                return None
    return bytes(content)
