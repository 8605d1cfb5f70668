"""What a netx file says of a network, dataset by dataset, and the hash of that.

A file is made of these datasets, and so is the hash: whatever is written counts, and nothing else does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from netx_export.network.description import (
    Affine,
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
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
from netx_export.network.fixed_point import NETX_MESSAGE_BITS, IntArray
from netx_export.network.stock_loader import rotation_that_loads

__all__ = ["OWN_GROUP", "READS_VOLTAGE", "content_hash", "content_hash_of_format_1", "datasets"]

OWN_GROUP = "lava_spikeloss"
READS_VOLTAGE = "reads_voltage"
_BLOCK = 2**20  # numbers to hash at a time
_FILE_TYPES = {"recurrent": "dense_rec", "resonator": "dense"}
# Numbers are hashed in the widest type, so that the one that an array happens to have makes no difference.
_HASHED_AS = {"b": "<i8", "i": "<i8", "u": "<i8", "f": "<f8"}

_Datasets: TypeAlias = "Iterator[tuple[str, Any]]"


def datasets(description: NetworkDescription) -> _Datasets:
    """The datasets of a network's file by name: first the layers as netx reads them, then the group of our own."""
    for index, layer in enumerate(description.layers):
        if not isinstance(layer, HostLayer):
            yield from _in_group(f"layer/{index}", _layer(layer, _file_shape(description, index)))
    yield from _in_group(OWN_GROUP, _own(description))


def content_hash(description: NetworkDescription) -> str:
    """SHA-256 over all numbers of a network as a file holds them: equal for equal networks, whatever file they are in.

    The texts beside the network do not count.
    """
    digest = hashlib.sha256()
    for name, value in datasets(description):
        array = np.asarray(value)
        digest.update(f"{name} {array.shape};".encode())
        _update(digest, array, _HASHED_AS.get(array.dtype.kind, "S32"))
    return digest.hexdigest()


def content_hash_of_format_1(description: NetworkDescription) -> str:
    """The hash that files of the first format record; it went by the names of classes and their attributes."""
    digest = hashlib.sha256()
    for layer in description.layers:
        _update_by_names(digest, layer)
    return digest.hexdigest()


def _update_by_names(digest: Any, value: Any) -> None:
    if is_dataclass(value):
        digest.update(type(value).__name__.encode())
        for item in fields(value):
            digest.update(item.name.encode())
            _update_by_names(digest, getattr(value, item.name))
    elif isinstance(value, np.ndarray):
        digest.update(str(value.shape).encode())
        _update(digest, value, "<i8")
    else:
        digest.update(repr(value).encode() + b";")


def _update(digest: Any, array: Any, dtype: str) -> None:
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):  # part by part, since the widest type takes twice the memory
        digest.update(flat[start : start + _BLOCK].astype(dtype))


def _in_group(group: str, content: _Datasets) -> _Datasets:
    return ((f"{group}/{name}", value) for name, value in content)


def _file_shape(description: NetworkDescription, index: int) -> tuple[int, ...]:
    """A layer's shape as netx needs it: a convolution's input has three axes, a dense layer's output has one."""
    layer = description.layers[index]
    if isinstance(layer, Conv):
        return layer.spatial_shape
    if isinstance(layer, SpikingLayer):
        return (int(layer.weight.shape[0]),)
    first = next(iter(description.spiking.values()))
    return first.input_shape if isinstance(layer, Input) and isinstance(first, Conv) else layer.shape


def _layer(layer: Layer, shape: tuple[int, ...]) -> _Datasets:
    yield "type", np.array([_FILE_TYPES.get(layer.kind, layer.kind)], "S10")
    yield "shape", np.array(shape, np.int64)
    if isinstance(layer, Conv):
        yield from _convolution(layer)
    elif isinstance(layer, SpikingLayer):
        yield from _dense(layer)
    if isinstance(layer, SpikingLayer):
        yield from _in_group("neuron", _neuron(layer.neuron))
    if isinstance(layer, Input) and _is_in_layer(layer.encoder):
        yield from _encoder(layer.encoder)


def _is_in_layer(encoder: Encoder | None) -> TypeGuard[Encoder]:
    """Whether input neurons are written into the layer itself: netx reads message bits of sigma-delta ones there."""
    return encoder is not None and isinstance(encoder.neuron, SigmaDeltaNeuron)


def _dense(layer: Dense | Recurrent | Resonator) -> _Datasets:
    yield "inFeatures", layer.weight.shape[1]
    yield "outFeatures", layer.weight.shape[0]
    if isinstance(layer, Resonator):
        yield "weight/real", _int32(layer.weight)
        yield "weight/imag", _int32(layer.imaginary_weight)
        return
    yield "weight", _int32(layer.weight)
    if isinstance(layer, Recurrent):
        yield "weight_rec", _int32(layer.recurrent_weight)
    elif layer.delay is not None:
        yield "delay", layer.delay
    if layer.bias is not None:
        yield "bias", layer.bias


def _convolution(layer: Conv) -> _Datasets:
    yield "inChannels", layer.input_shape[0]
    yield "outChannels", layer.weight.shape[0]
    yield "kernelSize", np.array(layer.weight.shape[2:], np.int64)
    yield "stride", np.array(layer.stride, np.int64)
    yield "padding", np.array(layer.padding, np.int64)
    yield "dilation", np.array(layer.dilation, np.int64)
    yield "groups", layer.groups
    yield "weight", _int32(layer.weight)
    if layer.bias is not None:
        yield "bias", layer.bias


def _int32(weight: IntArray) -> IntArray:
    return weight.astype(np.int32, copy=False)


def _neuron(neuron: Neuron) -> _Datasets:
    yield "vThMant", neuron.threshold
    yield "gradedSpike", isinstance(neuron, SigmaDeltaNeuron)
    if isinstance(neuron, CubaNeuron):
        yield "type", np.bytes_("CUBA")
        yield "iDecay", _scalar_if_single(neuron.current_decay)
        yield "vDecay", _scalar_if_single(neuron.voltage_decay)
        yield "refDelay", 1
    elif isinstance(neuron, ResonatorNeuron):
        yield "type", np.bytes_("RF_PHASE" if neuron.reset == "phase" else "RF_IZHIKEVICH")
        sin, cos = rotation_that_loads(neuron.sin_decay, neuron.cos_decay)
        yield "sinDecay", _scalar_if_single(sin)
        yield "cosDecay", _scalar_if_single(cos)
    else:
        yield "type", np.bytes_("SDNN")
        yield "activation", np.bytes_("relu")
        if not neuron.sends:
            yield "sigma_output", True
        if neuron.message_bits != NETX_MESSAGE_BITS:
            yield "messageBits", neuron.message_bits


def _scalar_if_single(values: Any) -> Any:
    return values[0] if values.size == 1 else values


def _own(description: NetworkDescription) -> _Datasets:
    layers = description.layers
    yield "delay_shift", np.array([getattr(layer, "delay_shift", False) for layer in layers], np.int8)
    for index, layer in enumerate(layers):
        if isinstance(layer, SpikingLayer) and layer.axon_delay is not None:
            yield f"axon_delay/{index}", layer.axon_delay
        if layer.shape != _file_shape(description, index):
            yield f"shape/{index}", np.array(layer.shape, np.int64)
    if description.encoder is not None and not _is_in_layer(description.encoder):
        yield from _in_group("encoder", _encoder(description.encoder))
    if description.reads_voltage:
        yield READS_VOLTAGE, True
    if description.readout is not None:
        yield from _in_group("readout", _readout(description.readout))


def _encoder(encoder: Encoder) -> _Datasets:
    yield "weight", encoder.weight
    yield "bias", encoder.bias
    yield from _in_group("neuron", _neuron(encoder.neuron))


def _readout(readout: HostLayer) -> _Datasets:
    yield "type", np.bytes_(readout.kind)
    yield "shape", np.array(readout.shape, np.int64)
    if isinstance(readout, Affine):
        yield "weight", _int32(readout.weight)
        yield "scale", readout.scale
        if readout.neuron is not None:
            yield from _in_group("neuron", _neuron(readout.neuron))
