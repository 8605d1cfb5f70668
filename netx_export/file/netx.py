"""netx files: write a :class:`NetworkDescription` and read it back.

The layout is the one that ``lava.lib.dl.netx.hdf5.Network`` of lava-dl 0.6.0 loads: a group ``layer`` with one group
per layer, named by its index. What only this package needs (metadata, SLAYER's shapes and delays, and what runs on the
host) lies in a group of its own, ``lava_spikeloss``, which the stock loader does not look at.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeGuard

import h5py
import numpy as np
import numpy.typing as npt

from netx_export.errors import DescriptionError, ExportError, NetxFormatError
from netx_export.file.atomic import replacing
from netx_export.file.content import OWN_GROUP, READS_VOLTAGE, content_hash, datasets
from netx_export.file.hdf5_guard import check_texts
from netx_export.file.opening import check_path, why_unreadable
from netx_export.file.safe_hdf5 import Budget, SafeGroup, check_storable
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
from netx_export.network.exact_weights import loadable
from netx_export.network.fixed_point import (
    ALIGNMENT_BITS,
    DEFAULT_THRESHOLD,
    MAX_THRESHOLD,
    MESSAGE_BITS,
    NETX_MESSAGE_BITS,
    UNITY_DECAY,
    WEIGHT_SCALE,
    IntArray,
)
from netx_export.network.stock_loader import load_resonator_decays

__all__ = [
    "FORMAT_VERSION",
    "annotate",
    "as_description",
    "as_it_runs",
    "content_hash",
    "fill",
    "read",
    "with_delay_shift",
    "write",
    "write_as_described",
]

FORMAT_VERSION = 2
"""Of the files that are written. Those of version 1, which say none, are read too: only their content hash differs."""

_VERSION = "format_version"
_MAX_LAYERS = 10_000
# What netx assumes for a dense layer without neuron parameters.
_DEFAULT_NEURON = CubaNeuron(DEFAULT_THRESHOLD, current_decay=np.array([0]), voltage_decay=np.array([UNITY_DECAY]))


def write(description: NetworkDescription, path: str | os.PathLike[str]) -> None:
    """Write a netx file whose weights the stock loader loads exactly: the same description gives the same bytes.

    The stock loader alters the weights of some dense layers. Such a layer, and all before it, are written as
    convolutions, as :func:`netx_export.network.exact_weights.loadable` makes them. If it fails, what was at ``path``
    stays there.

    Raises:
        ExportError: for a layer that cannot be written so that its weights are loaded exactly, sigma-delta neurons with
            another number of message bits than netx has, or a path that cannot be written.
        TypeError: if ``path`` is no path.
        ValueError: for metadata that no file can hold.
    """
    write_as_described(loadable(description), path)


def write_as_described(description: NetworkDescription, path: str | os.PathLike[str]) -> None:
    """Write each layer as it is described, as lava-dl does, though the stock loader may alter its weights.

    For files with which to look at what Lava makes of such weights; for networks that are to run use :func:`write`.

    Raises:
        ExportError: for sigma-delta neurons with another number of message bits than netx has, or a path that cannot be
            written.
        TypeError: if ``path`` is no path.
        ValueError: for metadata that no file can hold.
    """
    with replacing(path) as temporary:
        fill(description, temporary)


def fill(description: NetworkDescription, path: Path) -> None:
    """Write each layer as it is described into a file that is not in its place yet, as :func:`replacing` gives it.

    Raises:
        ExportError: for sigma-delta neurons with another number of message bits than netx has.
        OSError: if the file cannot be written.
        ValueError: for metadata that no file can hold.
    """
    _refuse_message_bits(description)
    with _in_memory(path, "w") as file:
        for name, value in datasets(description):
            file[name] = value
        file[f"{OWN_GROUP}/{_VERSION}"] = FORMAT_VERSION
        _write_texts(file[OWN_GROUP], description.metadata)


def _refuse_message_bits(description: NetworkDescription) -> None:
    for name, layer in description.spiking.items():
        if isinstance(layer.neuron, SigmaDeltaNeuron) and layer.neuron.message_bits != NETX_MESSAGE_BITS:
            raise ExportError(
                f"Layer {name}: its neurons send messages of {layer.neuron.message_bits} bits, and netx loads "
                f"sigma-delta neurons with {NETX_MESSAGE_BITS} bits only."
            )


def annotate(path: Path, texts: Mapping[str, str]) -> None:
    """Add texts to the metadata of a file that :func:`fill` made and that is not in its place yet.

    Raises:
        OSError: if the file cannot be written.
    """
    with _in_memory(path, "r+") as file:
        _write_texts(file[OWN_GROUP], texts)


@contextmanager
def _in_memory(path: Path, mode: Literal["w", "r+"]) -> Iterator[h5py.File]:
    """A file whose bytes are written when it is complete.

    On a disk that fills up HDF5 itself leaves a file that cannot be closed, and crashes when the program ends.
    """
    content = io.BytesIO(b"" if mode == "w" else path.read_bytes())
    with h5py.File(content, mode) as file:
        yield file
    # If the disk is full, `Path.write_bytes` keeps its view of the bytes, and Python warns of that when the program
    # ends. Here the view is released in any case.
    with path.open("wb") as target, content.getbuffer() as view:
        target.write(view)


def _write_texts(group: h5py.Group, texts: Mapping[str, str]) -> None:
    check_storable(texts)
    for key in sorted(texts):
        group.attrs[key] = str.__str__(texts[key])  # of numpy's strings, which h5py does not know, the plain one


def read(path: str | os.PathLike[str], *, delay_shift: bool | None = None) -> NetworkDescription:
    """Read a netx file into plain data.

    Args:
        path: a netx HDF5 file, written by this package or by lava-dl, older dialects included.
        delay_shift: whether SLAYER delays the output of each block by one step; None for what the file records. Files
            of lava-dl do not: for them it is what its blocks have unless told otherwise, False for those of
            sigma-delta neurons and True for all others.

    Raises:
        TypeError: if ``path`` is no path, or ``delay_shift`` neither a bool nor None.
        NetxFormatError: if the file is missing, cannot be read, is no netx file, or holds a layer or neuron that is not
            supported; the message names the group.

    Example:
        >>> from netx_export import read
        >>> read("missing.net")
        Traceback (most recent call last):
            ...
        netx_export.errors.NetxFormatError: missing.net: no such file. Give the path of a netx HDF5 file.
    """
    check_path("path", path, "netx file")
    try:
        problem = why_unreadable(path)
        if problem:
            raise NetxFormatError(f"{problem}. Give the path of a netx HDF5 file.")
        with h5py.File(path, "r") as file:
            check_texts(file)
            description = _read_network(SafeGroup(file, Budget()))
    except NetxFormatError as error:
        raise NetxFormatError(f"{path}: {error}") from None
    except OSError as error:
        raise NetxFormatError(f"{path}: {_why_not_opened(error)}.") from None
    except MemoryError:
        raise NetxFormatError(f"{path}: there is not enough memory to read it.") from None
    except Exception as error:  # a damaged file makes HDF5 raise almost anything
        raise NetxFormatError(f"{path}: not a netx network ({type(error).__name__}: {error}).") from None
    return with_delay_shift(description, delay_shift)


def as_description(network: str | os.PathLike[str] | NetworkDescription, name: str = "network") -> NetworkDescription:
    """The network that a file holds, or the one that is given; ``name`` is that of the argument.

    Raises:
        NetxFormatError: if the file cannot be read.
        TypeError: if it is neither a path nor a description.
    """
    if isinstance(network, NetworkDescription):
        return network
    check_path(name, network, "netx file or a NetworkDescription")
    return read(network)


def as_it_runs(
    network: str | os.PathLike[str] | NetworkDescription, delay_shift: bool | None, spike_exp: int | None
) -> NetworkDescription:
    """The network that a file holds, or the one that is given, with the options of a run.

    Args:
        network: the argument ``path`` of the caller: the file, or the network.
        delay_shift: as for :func:`read`; None leaves that of a network that is given as it is.
        spike_exp: as for :class:`NetworkDescription`; None leaves that of a network that is given as it is, and is the
            default for a file, which holds none.

    Raises:
        DescriptionError: for another ``spike_exp`` than 0 to 6.
        NetxFormatError: if the file cannot be read.
        TypeError: if it is neither a path nor a description, or ``delay_shift`` neither a bool nor None.
    """
    description = with_delay_shift(as_description(network, "path"), delay_shift)
    return description if spike_exp is None else dataclasses.replace(description, spike_exp=spike_exp)


def with_delay_shift(description: NetworkDescription, delay_shift: bool | None) -> NetworkDescription:
    """A network of which SLAYER delays the output of every layer, or of none; None leaves it as it is.

    Raises:
        TypeError: if ``delay_shift`` is neither a bool nor None.
    """
    if delay_shift is None:
        return description
    if not isinstance(delay_shift, bool | np.bool_):
        raise TypeError(f"Expected argument `delay_shift` to be True, False or None but got {delay_shift!r}.")
    layers = [
        dataclasses.replace(layer, delay_shift=bool(delay_shift)) if isinstance(layer, Input | SpikingLayer) else layer
        for layer in description.layers
    ]
    if description.reads_voltage:
        layers[-1] = description.layers[-1]  # SLAYER's Affine has none to delay
    return dataclasses.replace(description, layers=tuple(layers))


def _why_not_opened(error: OSError) -> str:
    """Why HDF5 could not open a file; it is called damaged only if neither the system nor a program is the reason."""
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
    own = file.group(OWN_GROUP) if OWN_GROUP in file else None
    _refuse_newer_version(own)
    layers: list[Layer] = []
    file_shape: tuple[int, ...] = ()  # of the last layer's output, as netx sees it
    for index in range(count):
        group = file.group(f"layer/{index}")
        with group.errors():
            layer, file_shape = _read_layer(group, file_shape, _Own(own, index))
            layers.append(layer)
    if own is not None and "readout" in own:
        layers.append(_read_readout(own.group("readout")))
    last, reads_voltage = layers[-1], own is not None and READS_VOLTAGE in own
    if own is None and _is_affine(last):
        layers[-1], reads_voltage = dataclasses.replace(last, delay_shift=False), True
    metadata = {} if own is None else own.texts()
    try:
        return NetworkDescription(tuple(layers), metadata, tuple(file.budget.ignored), reads_voltage=reads_voltage)
    except DescriptionError as error:
        raise NetxFormatError(f"group {_group_name(error.index, count)}: {error.reason}.") from None


def _is_affine(layer: Layer) -> TypeGuard[Dense]:
    """Whether a layer is lava-dl's Affine, written as neurons of the highest threshold or without any parameters."""
    return isinstance(layer, Dense) and isinstance(layer.neuron, CubaNeuron) and layer.neuron.threshold >= MAX_THRESHOLD


def _refuse_newer_version(own: SafeGroup | None) -> None:
    version = own.integer(_VERSION) if own is not None and _VERSION in own else 1
    if version > FORMAT_VERSION:
        raise NetxFormatError(
            f"it was written in version {version} of the format by a newer lava-spikeloss, and this one reads versions "
            f"up to {FORMAT_VERSION}. Install a newer lava-spikeloss."
        )


def _group_name(index: int | None, count: int) -> str:
    """The group of the layer with this index, for messages; the readout comes after the ``count`` layers of netx."""
    if index is None:
        return "/layer"
    return f"/layer/{index}" if index < count else f"/{OWN_GROUP}/readout"


class _Own:
    """What this package's own group says about one layer."""

    def __init__(self, group: SafeGroup | None, index: int) -> None:
        self._group = group
        self._index = index

    def delay_shift(self, neuron: Neuron | None) -> bool:
        """Whether SLAYER delays the layer's output by one step: unless it is recorded, as lava-dl's blocks do."""
        if self._group is None:
            return not isinstance(neuron, SigmaDeltaNeuron)
        shifts = self._group.integers("delay_shift", ndim=1)
        if self._index >= len(shifts):
            raise NetxFormatError(
                f"`{self._group.name}/delay_shift` has one value for each layer, but holds {len(shifts)} of "
                f"{self._index + 1}."
            )
        return bool(shifts[self._index])

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
        shift = own.delay_shift(None if read_encoder is None else read_encoder.neuron)
        return Input(input_shape, shift, read_encoder), shape
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
    neuron = _read_neuron(group.group("neuron")) if "neuron" in group else _DEFAULT_NEURON
    shared: dict[str, Any] = {"delay_shift": own.delay_shift(neuron), "output_shape": shape}
    shared["axon_delay"] = own.axon_delay
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
        delay_shift=own.delay_shift(neuron),
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
    sums_only = kind == "SDNN" and "sigma_output" in group
    # What only sums up needs no threshold: dendrite.Sigma, behind a synapse of its own, says none.
    threshold = 0 if sums_only and "vThMant" not in group else _read_threshold(group, kind)
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
        bits = group.integer("messageBits") if "messageBits" in group else NETX_MESSAGE_BITS
        return SigmaDeltaNeuron(threshold, not sums_only, bits)
    raise NetxFormatError(f"neurons of type {kind!r} are not supported here.")


def _read_threshold(group: SafeGroup, kind: str) -> int:
    """The threshold. Lava shifts it up: a single number as int64, an array in the type that it has in the file."""
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
