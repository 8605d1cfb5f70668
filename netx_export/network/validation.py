"""Whether layers make a network that netx can load: what :class:`NetworkDescription` asks when it is made.

Each layer by itself: arrays of whole numbers that fit each other, and numbers that Lava holds as they are
(:mod:`netx_export.network.registers`). Then one after the other: each has to take as many values as the one before it
gives, in an order in which netx can connect them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from netx_export.errors import DescriptionError
from netx_export.network.fixed_point import DEFAULT_SPIKE_EXP, MAX_INT32, IntArray
from netx_export.network.layers import (
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
    Neuron,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.registers import outside_registers

__all__ = ["check_layers", "check_metadata", "check_spike_exp", "check_voltage_readout", "layer_problem"]

_MAX_AXES = 3
# netx has no recurrent layer of graded changes, and resonators in dense layers only.
_NEURONS: dict[str, tuple[type, ...]] = {
    "input": (CubaNeuron, SigmaDeltaNeuron),
    "dense": (CubaNeuron, SigmaDeltaNeuron),
    "recurrent": (CubaNeuron,),
    "resonator": (ResonatorNeuron,),
    "conv": (CubaNeuron, SigmaDeltaNeuron),
    "affine": (CubaNeuron,),
}


def check_layers(layers: Sequence[Layer]) -> None:
    """Raise unless these layers make a network.

    Raises:
        DescriptionError: with the first layer that does not fit, and why.
    """
    if not isinstance(layers, tuple | list):
        raise DescriptionError(f"expected a tuple of layers, but got a {type(layers).__name__}")
    for index, layer in enumerate(layers):
        if not isinstance(layer, get_args(Layer)):
            raise DescriptionError(f"it is a {type(layer).__name__}; expected one of netx_export.network.layers", index)
        problem = layer_problem(layer) or next(_connection_problems(layers, index), None)
        if problem is not None:
            raise DescriptionError(problem, index, layer.kind)
    if not any(isinstance(layer, SpikingLayer) for layer in layers):
        raise DescriptionError("expected at least one layer with neurons, but there is none")


def check_spike_exp(spike_exp: object) -> None:
    """Raise unless thresholds and biases that a file may hold still fit Lava's 32 bits.

    Raises:
        DescriptionError: if it is no whole number from 0 to 6.
    """
    if not _is_whole(spike_exp, 0) or spike_exp > DEFAULT_SPIKE_EXP:  # type: ignore[operator]
        raise DescriptionError(
            f"Expected argument `spike_exp` to be a whole number from 0 to {DEFAULT_SPIKE_EXP}, with which all "
            f"thresholds of a file fit Lava's 32 bits, but got {spike_exp!r}"
        )


def check_metadata(metadata: object) -> None:
    """Raise unless these are texts by their names, as a file holds them.

    Raises:
        DescriptionError: if they are not.
    """
    if not isinstance(metadata, Mapping):
        raise DescriptionError(f"expected argument `metadata` to map texts to texts, but got {metadata!r}")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise DescriptionError(f"expected argument `metadata` to map texts to texts, but got {key!r}: {value!r}")


def check_voltage_readout(reads_voltage: object, layers: Sequence[Layer]) -> None:
    """Raise unless the last layer can be read by its voltage, if it is.

    Raises:
        DescriptionError: if it is no dense layer of CUBA neurons, or ``reads_voltage`` neither True nor False.
    """
    if not isinstance(reads_voltage, bool | np.bool_):
        raise DescriptionError(f"expected argument `reads_voltage` to be True or False, but got {reads_voltage!r}")
    last = layers[-1]
    if reads_voltage and not (isinstance(last, Dense) and isinstance(last.neuron, CubaNeuron)):
        raise DescriptionError("it is read by its voltage; expected a dense layer of CUBA neurons", len(layers) - 1)


def layer_problem(layer: Layer) -> str | None:
    """The first thing that is wrong with a layer, whatever comes before it; None if nothing is."""
    return next(_layer_problems(layer), None)


def _layer_problems(layer: Layer) -> Iterator[str]:
    """What is wrong with a layer; only the first is sure to be true, since each check relies on those before it."""
    yield from _flag_problems("delay_shift", getattr(layer, "delay_shift", False))
    if isinstance(layer, SpikingLayer | Affine):
        yield from _weight_problems(layer)
    if isinstance(layer, Conv):
        yield from _convolution_problems(layer)
    yield from _shape_problems(layer)
    yield from _neuron_problems(layer)
    if isinstance(layer, SpikingLayer):
        yield from _channel_problems(layer)
    yield from outside_registers(layer)


def _flag_problems(name: str, value: object) -> Iterator[str]:
    if not isinstance(value, bool | np.bool_):
        yield f"its {name} is {value!r}; expected True or False"


def _size_problems(name: str, sizes: Any, lowest: int, numbers: range) -> Iterator[str]:
    """What is wrong with a tuple of sizes, of which there may be any of these numbers."""
    fits = isinstance(sizes, tuple | list) and len(sizes) in numbers and all(_is_whole(size, lowest) for size in sizes)
    if not fits:
        several = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
        yield f"its {name} is {sizes!r}; expected a tuple of {several} whole numbers of at least {lowest}"


def _weight_problems(layer: SpikingLayer | Affine) -> Iterator[str]:
    axes = 4 if isinstance(layer, Conv) else 2
    for name in ("weight", "recurrent_weight", "imaginary_weight"):
        if hasattr(layer, name):
            values = getattr(layer, name)
            yield from _array_problems(name, values)
            if values.ndim != axes or values.size == 0:
                yield f"its {name} has the shape {values.shape}; expected {axes} axes, none of them empty"
    if isinstance(layer, Recurrent) and layer.recurrent_weight.shape != (len(layer.weight),) * 2:
        yield f"recurrent weights of shape {layer.recurrent_weight.shape} do not fit {len(layer.weight)} neurons"
    if isinstance(layer, Resonator) and layer.imaginary_weight.shape != layer.weight.shape:
        yield f"imaginary weights of shape {layer.imaginary_weight.shape} do not fit real ones of {layer.weight.shape}"
    if isinstance(layer, Affine) and not _is_whole(layer.scale, 1):
        yield f"its scale is {layer.scale!r}; expected a whole number of at least 1"


def _array_problems(name: str, values: Any) -> Iterator[str]:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu":
        kind = f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        yield f"its {name} is {kind}; expected an array of whole numbers"
    elif values.size and values.dtype != np.int32:
        low, high = int(values.min()), int(values.max())
        if low < -1 - MAX_INT32 or high > MAX_INT32:
            yield f"its {name} goes from {low} to {high}, and a file holds 32 bits"


def _convolution_problems(layer: Conv) -> Iterator[str]:
    for name, lowest in (("stride", 1), ("padding", 0), ("dilation", 1)):
        yield from _size_problems(name, getattr(layer, name), lowest, range(2, 3))
    yield from _size_problems("input shape", layer.input_shape, 1, range(3, 4))
    if not _is_whole(layer.groups):
        yield f"its groups are {layer.groups!r}; expected a whole number"
    channels = layer.weight.shape[1] * layer.groups
    if layer.groups < 1 or channels != layer.input_shape[0] or len(layer.weight) % layer.groups:
        yield (
            f"{channels} input channels and {len(layer.weight)} output channels in {layer.groups} groups do not fit "
            f"the input {layer.input_shape}"
        )
    if min(layer.spatial_shape) < 1:
        yield f"its kernels of {layer.weight.shape[2:]} reach beyond the input {layer.input_shape}"


def _shape_problems(layer: Layer) -> Iterator[str]:
    if not isinstance(layer, SpikingLayer | Affine):
        yield from _size_problems("shape", layer.shape, 1, range(1, _MAX_AXES + 1))
    elif isinstance(layer, SpikingLayer) and layer.output_shape is not None:
        yield from _size_problems("output shape", layer.output_shape, 1, range(1, _MAX_AXES + 1))
        made = layer.spatial_shape if isinstance(layer, Conv) else (len(layer.weight),)
        if math.prod(layer.shape) != math.prod(made):
            yield f"its output shape {layer.shape} does not fit the {made} that its weights make"


def _neuron_problems(layer: Layer) -> Iterator[str]:
    encoder = getattr(layer, "encoder", None)
    if not isinstance(encoder, Encoder | None):
        yield f"its encoder is a {type(encoder).__name__}; expected an Encoder or None"
    found = _neuron_of(layer)
    if found is None:
        return
    neuron, channels = found
    if not isinstance(neuron, _NEURONS[layer.kind]):
        yield f"its neurons are of {type(neuron).__name__}, which netx has in no such layer"
    if isinstance(neuron, ResonatorNeuron) and neuron.reset not in ("phase", "izhikevich"):
        yield f"its reset is {neuron.reset!r}; expected 'phase' or 'izhikevich'"
    if not _is_whole(neuron.threshold):
        yield f"its threshold is {neuron.threshold!r}; expected a whole number"
    if isinstance(neuron, SigmaDeltaNeuron):
        yield from _flag_problems("sends", neuron.sends)
        if not _is_whole(neuron.message_bits, 1):
            yield f"its message_bits are {neuron.message_bits!r}; expected a whole number of at least 1"
    for name in ("current_decay", "voltage_decay", "sin_decay", "cos_decay"):
        if hasattr(neuron, name):
            values = getattr(neuron, name)
            yield from _array_problems(name, values)
            if values.shape not in ((1,), (channels,)):
                yield f"decays of shape {values.shape} do not fit {channels} channels"
    if isinstance(layer, Input) and layer.encoder is not None:
        for name in ("weight", "bias"):
            if not _is_whole(getattr(layer.encoder, name)):
                yield f"the {name} of its neurons is {getattr(layer.encoder, name)!r}; expected a whole number"


def _neuron_of(layer: Layer) -> tuple[Neuron, int] | None:
    """The neurons of a layer, and of how many channels they are; None for a layer without neurons."""
    if isinstance(layer, Input):
        return None if layer.encoder is None else (layer.encoder.neuron, layer.shape[0])
    if isinstance(layer, Affine):
        return None if layer.neuron is None else (layer.neuron, len(layer.weight))
    return (layer.neuron, len(layer.weight)) if isinstance(layer, SpikingLayer) else None


def _channel_problems(layer: SpikingLayer) -> Iterator[str]:
    """What is wrong with biases and delays."""
    bias, delay = getattr(layer, "bias", None), getattr(layer, "delay", None)
    if bias is not None:
        yield from _array_problems("bias", bias)
        if bias.shape != (len(layer.weight),):
            yield f"a bias of shape {bias.shape} does not fit {len(layer.weight)} channels"
        if isinstance(layer.neuron, SigmaDeltaNeuron) and not layer.neuron.sends:
            yield "an output layer of sums with a bias, which netx cannot load"
    if delay is not None:
        yield from _array_problems("delay", delay)
        weight = layer.weight.shape
        if delay.shape not in ((weight[0],), (weight[1],), weight):
            yield f"delays of shape {delay.shape} do not fit {weight} weights"
        yield from _negative_delays("delays", delay)
    if layer.axon_delay is not None:
        yield from _array_problems("axonal delay", layer.axon_delay)
        if layer.axon_delay.shape != layer.shape[:1]:
            yield f"axonal delays of shape {layer.axon_delay.shape} do not fit {layer.shape[0]} channels"
        yield from _negative_delays("axonal delays", layer.axon_delay)


def _negative_delays(name: str, steps: IntArray) -> Iterator[str]:
    if steps.min() < 0:
        yield f"its {name} go down to {steps.min()} steps; expected at least 0"


def _connection_problems(layers: Sequence[Layer], index: int) -> Iterator[str]:
    """Why a layer cannot come after those before it."""
    layer = layers[index]
    if isinstance(layer, Input) or index == 0:
        if index > 0:
            yield "an input layer makes sense only as the first layer"
        if isinstance(layer, Conv):
            yield "netx learns the shape of a convolution's input from the layer before it; begin with an input layer"
        return
    before = layers[index - 1]
    if isinstance(before, HostLayer):
        yield f"it comes after {before.kind}{index - 1}, and that makes sense only as the last layer"
    given = math.prod(before.shape)
    if isinstance(layer, Average):
        if given % math.prod(layer.shape):
            yield f"its {math.prod(layer.shape)} means are of groups of one size, into which {given} values do not part"
    elif given != _taken(layer):
        yield f"it takes {_taken(layer)} values, and the layer before it gives {given}"
    yield from _order_problems(layer, layers[:index])


def _taken(layer: Layer) -> int:
    """How many values a layer takes."""
    if isinstance(layer, Affine):
        return int(layer.weight.shape[1])
    return math.prod(layer.input_shape if isinstance(layer, SpikingLayer) else layer.shape)


def _order_problems(layer: Layer, before: Sequence[Layer]) -> Iterator[str]:
    """Where netx cannot connect a layer to those before it: between image and vector it needs a flatten, only there."""
    if isinstance(layer, Conv):
        if not isinstance(before[-1], Input | Conv):
            yield f"netx cannot connect a convolution to a {before[-1].kind} layer"
        elif isinstance(before[-1], Conv) and tuple(layer.input_shape) != before[-1].spatial_shape:
            yield f"its input {layer.input_shape} is not the {before[-1].spatial_shape} that comes in"
        return
    neurons = [index for index, other in enumerate(before) if isinstance(other, SpikingLayer)]
    if not neurons or not isinstance(layer, SpikingLayer):
        return
    flattened = any(isinstance(other, Flatten) for other in before[neurons[-1] :])
    if isinstance(before[neurons[-1]], Conv) and not flattened:
        yield "netx cannot connect a dense layer to a convolution without a flatten layer between"
    if flattened and not isinstance(before[neurons[-1]], Conv):
        yield "netx cannot flatten what a dense layer sends; leave the flatten layer out"


def _is_whole(value: Any, lowest: float = -math.inf) -> bool:
    """Whether it is a whole number, and not a truth value, of at least ``lowest``."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= lowest)
