"""netx files: write a :class:`NetworkDescription` and read it back.

The layout is the one that ``lava.lib.dl.netx.hdf5.Network`` of lava-dl 0.6.0 loads: a group ``layer`` with one group
per layer, named by its index. What only this package needs (metadata and SLAYER's delay shifts) lies in a group of its
own, ``lava_spikeloss``, which the stock loader does not look at.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from netx_export.description import Conv, CubaNeuron, Dense, Flatten, Input, IntArray, Layer, NetworkDescription
from netx_export.errors import ExportError, NetxFormatError

__all__ = ["read", "replacing", "write"]

_OWN_GROUP = "lava_spikeloss"


def write(description: NetworkDescription, path: str | os.PathLike[str]) -> None:
    """Write a netx file: the same description gives the same bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    with h5py.File(path, "w", track_order=False) as file:
        for index, layer in enumerate(description.layers):
            _WRITERS[type(layer)](file.create_group(f"layer/{index}"), layer)
        own = file.create_group(_OWN_GROUP)
        own["delay_shift"] = np.array([getattr(layer, "delay_shift", False) for layer in description.layers], np.int8)
        for key in sorted(description.metadata):
            own.attrs[key] = str(description.metadata[key])


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary file beside ``path`` that takes its place, once written and on disk, if the block succeeds.

    Whatever happens, ``path`` holds either what it held before or the whole new file.

    Raises:
        ExportError: if the directory does not exist or cannot be written to.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise ExportError(f"Cannot write {target}: {error.strerror}. Choose a directory that can be written.") from None
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise ExportError(f"Cannot write {target}: {error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_neuron(group: h5py.Group, neuron: CubaNeuron) -> None:
    group["type"] = np.bytes_("CUBA")
    group["iDecay"] = _scalar_if_single(neuron.current_decay)
    group["vDecay"] = _scalar_if_single(neuron.voltage_decay)
    group["vThMant"] = neuron.threshold
    group["refDelay"] = 1
    group["gradedSpike"] = False


def _scalar_if_single(values: IntArray) -> IntArray | int:
    return int(values[0]) if values.size == 1 else values


def _write_type(group: h5py.Group, layer: Layer) -> None:
    group.create_dataset("type", (1,), "S10", [layer.kind.encode("ascii")])
    group["shape"] = np.array(layer.shape, np.int64)


def _write_dense(group: h5py.Group, layer: Dense) -> None:
    _write_type(group, layer)
    group["inFeatures"] = layer.input_shape[0]
    group["outFeatures"] = layer.shape[0]
    group["weight"] = layer.weight.astype(np.int32)
    if layer.bias is not None:
        group["bias"] = layer.bias
    if layer.delay is not None:
        group["delay"] = layer.delay
    _write_neuron(group.create_group("neuron"), layer.neuron)


def _write_conv(group: h5py.Group, layer: Conv) -> None:
    _write_type(group, layer)
    group["inChannels"] = layer.input_shape[0]
    group["outChannels"] = layer.shape[0]
    group["kernelSize"] = np.array(layer.weight.shape[2:], np.int64)
    group["stride"] = np.array(layer.stride, np.int64)
    group["padding"] = np.array(layer.padding, np.int64)
    group["dilation"] = np.array(layer.dilation, np.int64)
    group["groups"] = layer.groups
    group["weight"] = layer.weight.astype(np.int32)
    if layer.bias is not None:
        group["bias"] = layer.bias
    _write_neuron(group.create_group("neuron"), layer.neuron)


_WRITERS: dict[type, Callable[[h5py.Group, Layer], None]] = {
    Input: _write_type,
    Flatten: _write_type,
    Dense: _write_dense,  # type: ignore[dict-item]  # each writer takes its own layer type
    Conv: _write_conv,  # type: ignore[dict-item]
}


def read(path: str | os.PathLike[str]) -> NetworkDescription:
    """Read a netx file into plain data.

    Args:
        path: a netx HDF5 file, written by this package or by lava-dl.

    Raises:
        NetxFormatError: if the file is missing, is no netx file, or holds a layer or neuron that is not supported; the
            message names the group.

    Example:
        >>> from netx_export import read
        >>> read("missing.net")
        Traceback (most recent call last):
            ...
        netx_export.errors.NetxFormatError: missing.net: no such file. Give the path of a netx HDF5 file.
    """
    if not Path(path).is_file():
        raise NetxFormatError(f"{path}: no such file. Give the path of a netx HDF5 file.")
    try:
        with h5py.File(path, "r") as file:
            return _read_network(file)
    except NetxFormatError as error:
        raise NetxFormatError(f"{path}: {error}") from None
    except OSError:
        raise NetxFormatError(
            f"{path}: not an HDF5 file, or a damaged one. Export the network again, or give the path of a .net file."
        ) from None
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise NetxFormatError(f"{path}: not a netx network ({error}).") from None


def _read_network(file: h5py.File) -> NetworkDescription:
    if "layer" not in file or len(file["layer"]) == 0:
        raise NetxFormatError("expected a group `layer` with one group per layer, but there is none.")
    groups = [file[f"layer/{index}"] for index in range(len(file["layer"]))]
    own = file.get(_OWN_GROUP)
    delay_shifts = [True] * len(groups) if own is None else [bool(shift) for shift in own["delay_shift"][()]]
    metadata = {} if own is None else {key: str(value) for key, value in own.attrs.items()}
    layers: list[Layer] = []
    for group, delay_shift in zip(groups, delay_shifts, strict=True):
        layers.append(_read_layer(group, tuple(layers[-1].shape) if layers else None, delay_shift))
    return NetworkDescription(tuple(layers), metadata)


def _read_layer(group: h5py.Group, input_shape: tuple[int, ...] | None, delay_shift: bool) -> Layer:
    kind = _text(group["type"])
    shape = tuple(int(size) for size in np.atleast_1d(group["shape"][()]))
    if kind == "input" and "neuron" not in group:
        return Input(shape, delay_shift)
    if kind == "flatten":
        return Flatten((int(np.prod(shape)),))
    if kind == "dense":
        return _read_dense(group, int(np.prod(shape)), delay_shift)
    if kind == "conv" and input_shape is not None:
        return _read_conv(group, input_shape, delay_shift)
    raise NetxFormatError(f"group {group.name}: layers of type {kind!r} are not supported here.")


def _read_dense(group: h5py.Group, out_features: int, delay_shift: bool) -> Dense:
    weight = _integers(group["weight"]).reshape(out_features, -1)
    delay = _integers(group["delay"]) if "delay" in group else None
    bias = _integers(group["bias"]) if "bias" in group else None
    return Dense(weight, _read_neuron(group), delay, bias, delay_shift)


def _read_conv(group: h5py.Group, input_shape: tuple[int, ...], delay_shift: bool) -> Conv:
    weight = _integers(group["weight"])
    return Conv(
        weight=weight.reshape(weight.shape[:4]),
        neuron=_read_neuron(group),
        input_shape=input_shape,
        stride=_pair(group["stride"]),
        padding=_pair(group["padding"]),
        dilation=_pair(group["dilation"]),
        groups=int(group["groups"][()]),
        bias=_integers(group["bias"]) if "bias" in group else None,
        delay_shift=delay_shift,
    )


def _read_neuron(group: h5py.Group) -> CubaNeuron:
    neuron = group["neuron"]
    kind = _text(neuron["type"])
    if kind not in ("CUBA", "LOIHI"):
        raise NetxFormatError(f"group {neuron.name}: neurons of type {kind!r} are not supported here.")
    return CubaNeuron(
        threshold=int(neuron["vThMant"][()]),
        current_decay=np.atleast_1d(_integers(neuron["iDecay"])),
        voltage_decay=np.atleast_1d(_integers(neuron["vDecay"])),
    )


def _text(dataset: h5py.Dataset) -> str:
    value = np.atleast_1d(dataset[()])[0]
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _integers(dataset: h5py.Dataset) -> IntArray:
    return np.asarray(dataset[()]).astype(np.int64)


def _pair(dataset: h5py.Dataset) -> tuple[int, int]:
    values = np.broadcast_to(dataset[()], 2)
    return int(values[0]), int(values[1])
