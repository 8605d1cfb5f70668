"""netx files: write a :class:`NetworkDescription` and read it back.

The layout is the one that ``lava.lib.dl.netx.hdf5.Network`` of lava-dl 0.6.0 loads: a group ``layer`` with one group
per layer, named by its index. What only this package needs (metadata, SLAYER's shapes and delays, and what runs on the
host) lies in a group of its own, ``lava_spikeloss``, which the stock loader does not look at.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import h5py
import numpy as np
import numpy.typing as npt

from netx_export.errors import DescriptionError, ExportError, NetxFormatError
from netx_export.file.hdf5_guard import check_texts
from netx_export.file.opening import why_unreadable
from netx_export.file.safe_hdf5 import Budget, SafeGroup
from netx_export.network.description import (
    Affine,
    Average,
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    HostLayer,
    Input,
    Layer,
    NetworkDescription,
    Neuron,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.fixed_point import (
    ALIGNMENT_BITS,
    DEFAULT_THRESHOLD,
    MESSAGE_BITS,
    UNITY_DECAY,
    WEIGHT_SCALE,
    IntArray,
)
from netx_export.network.stock_loader import load_resonator_decays, rotation_that_loads

__all__ = ["annotate", "content_hash", "read", "write"]

_OWN_GROUP = "lava_spikeloss"
_MAX_LAYERS = 10_000
_BLOCK = 2**20  # numbers to hash at a time
_NETX_MESSAGE_BITS = 16  # of sigma-delta neurons in netx; it fails where a file says anything about them
# What netx assumes for a dense layer without neuron parameters.
_DEFAULT_NEURON = CubaNeuron(DEFAULT_THRESHOLD, current_decay=np.array([0]), voltage_decay=np.array([UNITY_DECAY]))


def write(description: NetworkDescription, path: str | os.PathLike[str]) -> None:
    """Write a netx file: the same description gives the same bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    with _in_memory(path, "w") as file:
        for index, layer in enumerate(description.layers):
            if not isinstance(layer, HostLayer):
                _write_layer(file.create_group(f"layer/{index}"), layer, _file_shape(description, index))
        _write_own(file.create_group(_OWN_GROUP), description)


def annotate(path: str | os.PathLike[str], texts: Mapping[str, str]) -> None:
    """Add texts to the metadata of a file that :func:`write` made.

    Raises:
        OSError: if the file cannot be written.
    """
    with _in_memory(path, "r+") as file:
        _write_texts(file[_OWN_GROUP], texts)


@contextmanager
def _in_memory(path: str | os.PathLike[str], mode: Literal["w", "r+"]) -> Iterator[h5py.File]:
    """A file whose bytes are written to their place when it is complete.

    On a disk that fills up HDF5 itself leaves a file that cannot be closed, and crashes when the program ends.
    """
    with h5py.File(path, mode, driver="core", backing_store=False) as file:
        yield file
        file.flush()
        content = file.id.get_file_image()
    Path(path).write_bytes(content)


def content_hash(description: NetworkDescription) -> str:
    """SHA-256 over all layers: equal for equal networks, whatever file they are in."""
    digest = hashlib.sha256()
    for layer in description.layers:
        _digest(digest, layer)
    return digest.hexdigest()


def _digest(digest: Any, value: Any) -> None:
    if is_dataclass(value):
        digest.update(type(value).__name__.encode())
        for item in fields(value):
            digest.update(item.name.encode())
            _digest(digest, getattr(value, item.name))
    elif isinstance(value, np.ndarray):
        digest.update(str(value.shape).encode())
        flat = value.reshape(-1)
        for start in range(0, flat.size, _BLOCK):  # part by part, since int64 takes twice the memory
            digest.update(flat[start : start + _BLOCK].astype("<i8"))
    else:
        digest.update(repr(value).encode() + b";")


def _file_shape(description: NetworkDescription, index: int) -> tuple[int, ...]:
    """A layer's shape as netx needs it: a convolution's input has three axes, a dense layer's output has one."""
    layer = description.layers[index]
    if isinstance(layer, Conv):
        return layer.spatial_shape
    if isinstance(layer, SpikingLayer):
        return (int(layer.weight.shape[0]),)
    first = next(iter(description.spiking.values()), None)
    return first.input_shape if isinstance(layer, Input) and isinstance(first, Conv) else layer.shape


def _write_layer(group: h5py.Group, layer: Layer, shape: tuple[int, ...]) -> None:
    file_type = {"recurrent": "dense_rec", "resonator": "dense"}.get(layer.kind, layer.kind)
    group.create_dataset("type", (1,), "S10", [file_type.encode("ascii")])
    group["shape"] = np.array(shape, np.int64)
    if isinstance(layer, Conv):
        _write_conv(group, layer)
    elif isinstance(layer, SpikingLayer):
        _write_dense(group, layer)
    if isinstance(layer, SpikingLayer):
        _write_neuron(group.create_group("neuron"), layer.neuron)
    if isinstance(layer, Input) and _is_in_layer(layer.encoder):
        _write_encoder(group, layer.encoder)


def _is_in_layer(encoder: Encoder | None) -> TypeGuard[Encoder]:
    """Whether input neurons belong into the layer itself: from those of sigma-delta netx learns the message bits."""
    return encoder is not None and isinstance(encoder.neuron, SigmaDeltaNeuron)


def _write_dense(group: h5py.Group, layer: Dense | Recurrent | Resonator) -> None:
    group["inFeatures"] = layer.weight.shape[1]
    group["outFeatures"] = layer.weight.shape[0]
    if isinstance(layer, Resonator):
        group["weight/real"] = layer.weight.astype(np.int32, copy=False)
        group["weight/imag"] = layer.imaginary_weight.astype(np.int32, copy=False)
        return
    group["weight"] = layer.weight.astype(np.int32, copy=False)
    if isinstance(layer, Recurrent):
        group["weight_rec"] = layer.recurrent_weight.astype(np.int32, copy=False)
    elif layer.delay is not None:
        group["delay"] = layer.delay
    if layer.bias is not None:
        group["bias"] = layer.bias


def _write_conv(group: h5py.Group, layer: Conv) -> None:
    group["inChannels"] = layer.input_shape[0]
    group["outChannels"] = layer.weight.shape[0]
    group["kernelSize"] = np.array(layer.weight.shape[2:], np.int64)
    group["stride"] = np.array(layer.stride, np.int64)
    group["padding"] = np.array(layer.padding, np.int64)
    group["dilation"] = np.array(layer.dilation, np.int64)
    group["groups"] = layer.groups
    group["weight"] = layer.weight.astype(np.int32, copy=False)
    if layer.bias is not None:
        group["bias"] = layer.bias


def _write_neuron(group: h5py.Group, neuron: Neuron) -> None:
    group["vThMant"] = neuron.threshold
    group["gradedSpike"] = isinstance(neuron, SigmaDeltaNeuron)
    if isinstance(neuron, CubaNeuron):
        group["type"] = np.bytes_("CUBA")
        group["iDecay"] = _scalar_if_single(neuron.current_decay)
        group["vDecay"] = _scalar_if_single(neuron.voltage_decay)
        group["refDelay"] = 1
    elif isinstance(neuron, ResonatorNeuron):
        group["type"] = np.bytes_("RF_PHASE" if neuron.reset == "phase" else "RF_IZHIKEVICH")
        sin, cos = rotation_that_loads(neuron.sin_decay, neuron.cos_decay)
        group["sinDecay"] = _scalar_if_single(sin)
        group["cosDecay"] = _scalar_if_single(cos)
    else:
        if neuron.message_bits != _NETX_MESSAGE_BITS:
            raise ExportError(f"netx loads sigma-delta neurons with {_NETX_MESSAGE_BITS} message bits only.")
        group["type"] = np.bytes_("SDNN")
        group["activation"] = np.bytes_("relu")
        if not neuron.sends:
            group["sigma_output"] = True


def _scalar_if_single(values: IntArray) -> Any:
    return values[0] if values.size == 1 else values


def _write_own(group: h5py.Group, description: NetworkDescription) -> None:
    layers = description.layers
    group["delay_shift"] = np.array([getattr(layer, "delay_shift", False) for layer in layers], np.int8)
    for index, layer in enumerate(layers):
        if isinstance(layer, SpikingLayer) and layer.axon_delay is not None:
            group[f"axon_delay/{index}"] = layer.axon_delay
        if layer.shape != _file_shape(description, index):
            group[f"shape/{index}"] = np.array(layer.shape, np.int64)
    if description.encoder is not None and not _is_in_layer(description.encoder):
        _write_encoder(group.create_group("encoder"), description.encoder)
    if description.readout is not None:
        _write_readout(group.create_group("readout"), description.readout)
    _write_texts(group, description.metadata)


def _write_texts(group: h5py.Group, texts: Mapping[str, str]) -> None:
    for key in sorted(texts):
        group.attrs[key] = texts[key]


def _write_encoder(group: h5py.Group, encoder: Encoder) -> None:
    group["weight"] = encoder.weight
    group["bias"] = encoder.bias
    _write_neuron(group.create_group("neuron"), encoder.neuron)


def _write_readout(group: h5py.Group, readout: HostLayer) -> None:
    group["type"] = np.bytes_(readout.kind)
    group["shape"] = np.array(readout.shape, np.int64)
    if isinstance(readout, Affine):
        group["weight"] = readout.weight.astype(np.int32, copy=False)
        group["scale"] = readout.scale
        if readout.neuron is not None:
            _write_neuron(group.create_group("neuron"), readout.neuron)


def read(path: str | os.PathLike[str]) -> NetworkDescription:
    """Read a netx file into plain data.

    Args:
        path: a netx HDF5 file, written by this package or by lava-dl, older dialects included.

    Raises:
        NetxFormatError: if the file is missing, cannot be read, is no netx file, or holds a layer or neuron that is not
            supported; the message names the group.

    Example:
        >>> from netx_export import read
        >>> read("missing.net")
        Traceback (most recent call last):
            ...
        netx_export.errors.NetxFormatError: missing.net: no such file. Give the path of a netx HDF5 file.
    """
    try:
        problem = why_unreadable(path)
        if problem:
            raise NetxFormatError(f"{problem}. Give the path of a netx HDF5 file.")
        with h5py.File(path, "r") as file:
            check_texts(file)
            return _read_network(SafeGroup(file, Budget()))
    except NetxFormatError as error:
        raise NetxFormatError(f"{path}: {error}") from None
    except OSError as error:
        raise NetxFormatError(f"{path}: {_why_not_opened(error)}.") from None
    except MemoryError:
        raise NetxFormatError(f"{path}: there is not enough memory to read it.") from None
    except Exception as error:  # a damaged file makes HDF5 raise almost anything
        raise NetxFormatError(f"{path}: not a netx network ({type(error).__name__}: {error}).") from None


def _why_not_opened(error: OSError) -> str:
    """What is in the way of HDF5, which is no damage wherever the system or another program is."""
    if isinstance(error, BlockingIOError):
        return "another program has locked it, most likely to write to it. Read it when that has closed it"
    if "already open for write" in str(error):  # as the file itself says
        return "the program that wrote it has not closed it, so that it may be incomplete. Export the network again"
    if error.errno:
        return f"cannot be read: {os.strerror(error.errno)}"
    return "not an HDF5 file, or a damaged one. Export the network again, or give the path of a .net file"


def _read_network(file: SafeGroup) -> NetworkDescription:
    count = len(file.group("layer")) if "layer" in file else 0
    if not 0 < count <= _MAX_LAYERS:
        raise NetxFormatError(f"expected a group `layer` with 1 to {_MAX_LAYERS} layers, but it has {count}.")
    own = file.group(_OWN_GROUP) if _OWN_GROUP in file else None
    layers: list[Layer] = []
    file_shape: tuple[int, ...] = ()  # of the last layer's output, as netx sees it
    for index in range(count):
        group = file.group(f"layer/{index}")
        with group.errors():
            layer, file_shape = _read_layer(group, file_shape, _Own(own, index))
            layers.append(layer)
    if own is not None and "readout" in own:
        layers.append(_read_readout(own.group("readout")))
    metadata = {} if own is None else own.texts()
    try:
        return NetworkDescription(tuple(layers), metadata, tuple(file.budget.ignored))
    except DescriptionError as error:
        raise NetxFormatError(f"group {_group_name(error.index, count)}: {error.reason}.") from None


def _group_name(index: int | None, count: int) -> str:
    """Where the file holds a layer: one behind its own ``count`` layers is the readout."""
    if index is None:
        return "/layer"
    return f"/layer/{index}" if index < count else f"/{_OWN_GROUP}/readout"


class _Own:
    """What this package's own group says about one layer."""

    def __init__(self, group: SafeGroup | None, index: int) -> None:
        self._group = group
        self._index = index

    @property
    def delay_shift(self) -> bool:
        """Whether SLAYER delays the layer's output by one step."""
        if self._group is None:
            return True
        return bool(self._group.integers("delay_shift", ndim=1)[self._index])

    @property
    def axon_delay(self) -> IntArray | None:
        """SLAYER's axonal delay where another layer makes it."""
        name = f"axon_delay/{self._index}"
        return None if self._group is None or name not in self._group else self._group.integers(name, ndim=1)

    def shape(self, file_shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape in SLAYER, if it is not the one in the file."""
        name = f"shape/{self._index}"
        if self._group is None or name not in self._group:
            return None
        shape = self._group.shape(name)
        if np.prod(shape) != np.prod(file_shape):
            raise NetxFormatError(f"{self._group.name}/{name} is {shape}, which does not fit {file_shape}.")
        return shape

    @property
    def encoder(self) -> SafeGroup | None:
        """The group with the input neurons, if there are any."""
        return None if self._group is None or "encoder" not in self._group else self._group.group("encoder")


def _read_layer(group: SafeGroup, file_shape: tuple[int, ...], own: _Own) -> tuple[Layer, tuple[int, ...]]:
    """A layer, and the shape of its output as netx sees it."""
    kind = group.text("type")
    shape = group.shape("shape")
    size = int(np.prod(shape))
    if kind == "input":
        encoder = group if "neuron" in group else own.encoder
        input_shape = own.shape(shape) or shape
        read_encoder = None if encoder is None else _read_encoder(encoder)
        return Input(input_shape, own.delay_shift, read_encoder), shape
    if kind == "flatten":
        return Flatten((size,)), (size,)
    if kind == "average":
        return Average((size,)), (size,)
    if kind == "conv":
        return _read_conv(group, file_shape, own), shape
    if kind in ("dense", "dense_rec"):
        return _read_dense(group, kind, size, own), (size,)
    raise NetxFormatError(f"layers of type {kind!r} are not supported here.")


def _read_dense(group: SafeGroup, kind: str, size: int, own: _Own) -> Layer:
    shape = own.shape((size,))
    shared: dict[str, Any] = {"delay_shift": own.delay_shift, "output_shape": shape}
    shared["axon_delay"] = own.axon_delay
    neuron = _read_neuron(group.group("neuron")) if "neuron" in group else _DEFAULT_NEURON
    if isinstance(neuron, ResonatorNeuron) != ("weight/imag" in group):
        raise NetxFormatError("complex weights go with RF neurons, and only with them.")
    if isinstance(neuron, ResonatorNeuron):
        group.ignore("delay", "bias")
        real, imaginary = (group.matrix(name, size) for name in ("weight/real", "weight/imag"))
        return Resonator(real, imaginary, neuron, **shared)
    weight = group.matrix("weight", size)
    bias = _read_bias(group, size, spread=True)
    if kind == "dense":
        return Dense(weight, neuron, _read_delay(group, weight), bias, **shared)
    if "delay" in group or not isinstance(neuron, CubaNeuron):
        raise NetxFormatError("a recurrent layer with delays or graded spikes, which netx itself runs wrongly.")
    return Recurrent(weight, group.matrix("weight_rec", size), neuron, bias, **shared)


def _read_delay(group: SafeGroup, weight: IntArray) -> IntArray | None:
    if "delay" not in group:
        return None
    delay = group.integers("delay")
    return np.full(len(weight), delay) if delay.ndim == 0 else delay


def _read_bias(group: SafeGroup, channels: int, *, spread: bool) -> IntArray | None:
    """The biases, which netx spreads over all neurons of a dense layer if there is one, and of no convolution."""
    if "bias" not in group:
        return None
    bias = group.integers("bias")
    if bias.shape != (channels,) and not (bias.size == 1 and spread):
        raise NetxFormatError(f"a bias of shape {bias.shape} does not fit {channels} channels.")
    return np.broadcast_to(bias.reshape(-1), channels).copy()


def _read_conv(group: SafeGroup, input_shape: tuple[int, ...], own: _Own) -> Conv:
    if "weight/imag" in group:
        raise NetxFormatError("netx has no convolution with RF neurons.")
    weight = group.integers("weight", dtype=np.int32)
    if weight.ndim not in (4, 5) or (weight.ndim == 5 and weight.shape[4] != 1) or len(input_shape) != 3:
        raise NetxFormatError(f"kernels of shape {weight.shape} on input of shape {input_shape}; expected 4-D on 3-D.")
    group.ignore("delay")
    shape = group.shape("shape")
    neuron = _read_neuron(group.group("neuron"))
    if isinstance(neuron, ResonatorNeuron):
        raise NetxFormatError("netx has no convolution with RF neurons.")
    layer = Conv(
        weight=weight.reshape(weight.shape[:4]),
        neuron=neuron,
        input_shape=input_shape,
        stride=group.pair("stride", 1),
        padding=group.pair("padding", 0),
        dilation=group.pair("dilation", 1),
        groups=group.integer("groups"),
        bias=_read_bias(group, len(weight), spread=False),
        delay_shift=own.delay_shift,
        axon_delay=own.axon_delay,
        output_shape=own.shape(shape),
    )
    if layer.spatial_shape != shape:
        raise NetxFormatError(f"its shape is {shape}, but its kernels make {layer.spatial_shape}.")
    return layer


def _read_encoder(group: SafeGroup) -> Encoder:
    neuron = _read_neuron(group.group("neuron"))
    if isinstance(neuron, ResonatorNeuron):
        raise NetxFormatError("RF neurons cannot encode the input.")
    weight = group.integer("weight") if "weight" in group else WEIGHT_SCALE
    return Encoder(neuron, weight, group.integer("bias") if "bias" in group else 0)


def _read_readout(group: SafeGroup) -> HostLayer:
    with group.errors():
        if group.text("type") == "average":
            return Average((int(np.prod(group.shape("shape"))),))
        weight = group.matrix("weight", int(np.prod(group.shape("shape"))))
        neuron = _read_neuron(group.group("neuron")) if "neuron" in group else None
        if not (neuron is None or isinstance(neuron, CubaNeuron)):
            raise NetxFormatError("an affine readout needs CUBA neurons or none.")
        return Affine(weight, neuron, group.integer("scale"))


def _read_neuron(group: SafeGroup) -> Neuron:
    """Parameters of one neuron, or of as many as there are channels."""
    kind = group.text("type")
    group.ignore("wgtExp", "weight_exp", neutral=0)
    group.ignore("refDelay", neutral=1)
    if kind != "SDNN":
        group.ignore("gradedSpike", neutral=0)
    threshold = _read_threshold(group, kind)
    if kind in ("CUBA", "LOIHI"):
        current, voltage = (np.atleast_1d(_whole(group, name)).astype(np.int64) for name in ("iDecay", "vDecay"))
        return CubaNeuron(threshold, current, voltage)
    if kind in ("RF_PHASE", "RF_IZHIKEVICH"):
        loaded = load_resonator_decays(*(_as_netx_divides(group.numbers(name)) for name in ("sinDecay", "cosDecay")))
        sin, cos = (np.atleast_1d(values) for values in loaded)
        return ResonatorNeuron(threshold, sin, cos, "phase" if kind == "RF_PHASE" else "izhikevich")
    if kind == "SDNN":
        if "activation" in group and group.text("activation") != "relu":  # netx rectifies whatever the file says
            group.ignore("activation")
        bits = group.integer("messageBits") if "messageBits" in group else _NETX_MESSAGE_BITS
        return SigmaDeltaNeuron(threshold, "sigma_output" not in group, bits)
    raise NetxFormatError(f"neurons of type {kind!r} are not supported here.")


def _read_threshold(group: SafeGroup, kind: str) -> int:
    """The threshold, which Lava shifts up in the type that an array has in the file; a single number it makes int64."""
    threshold = group.integer("vThMant")
    values = _whole(group, "vThMant")
    shift = MESSAGE_BITS if kind == "SDNN" else ALIGNMENT_BITS
    if values.ndim and not np.iinfo(values.dtype).min <= threshold << shift <= np.iinfo(values.dtype).max:
        raise NetxFormatError(
            f"`vThMant` is {threshold} as an array of {values.dtype}, in which Lava has no room to shift it up by "
            f"{shift} bits. Store a single number, or int32."
        )
    return threshold


def _whole(group: SafeGroup, name: str) -> npt.NDArray[Any]:
    """Numbers that netx hands on to Lava in the type that they have in the file, which has to be a whole one."""
    values = group.numbers(name)
    if values.dtype.kind not in "iu" or values.dtype == np.uint64:
        raise NetxFormatError(
            f"`{name}` is stored as {values.dtype}, which netx hands on to Lava as it is, and Lava's arithmetic is "
            f"made for int32. Store it as int32."
        )
    return values


def _as_netx_divides(decays: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """numpy 1, on which Lava runs, divides a single number in float64, whatever its type in the file."""
    return decays.astype(np.float64) if decays.ndim == 0 else decays
