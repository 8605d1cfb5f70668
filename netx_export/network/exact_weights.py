"""Layers rewritten so that the stock loader loads exactly the weights that were trained.

netx shifts a dense layer's weights up to fill eight bits, and Lava clips and truncates them again. For some matrices
(all -64; {0, -128}; nothing but zeros) this alters weights, and no other dense matrix would be loaded as the one that
was trained. The weights of a convolution are loaded as they are. So such a layer is written as a convolution whose
kernels cover its whole input, and so is every layer before it, since netx cannot go from a vector back to channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from netx_export.errors import ExportError
from netx_export.network.description import (
    Conv,
    Dense,
    Flatten,
    Input,
    Layer,
    NetworkDescription,
    Recurrent,
    Resonator,
    SpikingLayer,
)
from netx_export.network.fixed_point import MAX_CONV_SIZE, MAX_WEIGHT, MIN_WEIGHT, IntArray
from netx_export.network.stock_loader import load_weights

__all__ = ["loadable", "loads", "loads_exactly"]


def loadable(description: NetworkDescription) -> NetworkDescription:
    """The same network with weights that load exactly.

    Raises:
        ExportError: for a layer whose weights the stock loader would alter however they are written.
    """
    altered = [
        index
        for index, layer in enumerate(description.layers)
        if isinstance(layer, SpikingLayer) and not loads_exactly(layer)
    ]
    if not altered:
        return description
    if description.reads_voltage and altered[-1] == len(description.layers) - 1:
        raise ExportError(
            f"Layer {list(description.spiking)[-1]}: the stock loader alters its weights. As a convolution they would "
            f"arrive, but it is read by its voltage, which only a dense layer is."
        )
    for index in range(altered[-1] + 1):
        _refuse_unless_convertible(description.layers, index, next(other for other in altered if other >= index))
    last = altered[-1]
    converted = _as_convolutions(description.layers[: last + 1], description.input_shape)
    if not isinstance(converted[0], Input):  # from which netx learns the shape of the first convolution's input
        converted.insert(0, Input(description.input_shape, delay_shift=False))
    layers = [*converted, *description.layers[last + 1 :]]
    if len(converted) < len(layers) and isinstance(layers[len(converted)], SpikingLayer):
        layers.insert(len(converted), Flatten((int(np.prod(converted[-1].shape)),)))
    return replace(description, layers=tuple(layers), ignored=())


def loads_exactly(layer: SpikingLayer) -> bool:
    """Whether a layer's weights come out of the stock loader as they are written."""
    return all(_survive(*weights) for weights in layer.loaded_together)


def loads(layer: SpikingLayer) -> bool:
    """Whether the stock loader can load a layer's weights at all: on a matrix of zeros it fails."""
    return all(map(_any, layer.loaded_together))


def _any(weights: Iterable[IntArray]) -> bool:
    return any(part.any() for part in weights)


def _survive(*weights: IntArray) -> bool:
    """Whether weights that are optimised together come out of the stock loader as they went in."""
    if not _any(weights):
        return False
    return all(values.equals(weight) for values, weight in zip(load_weights(*weights), weights, strict=True))


def _refuse_unless_convertible(layers: tuple[Layer, ...], index: int, altered: int) -> None:
    """Raise if a layer cannot be written as a convolution, though its own weights or a later layer's are altered."""
    layer, cause = layers[index], layers[altered]
    assert isinstance(cause, SpikingLayer)
    obstacle = _obstacle(layer)
    if not obstacle:
        return
    weight = next(np.hstack(weights) for weights in cause.loaded_together if not _survive(*weights))
    name, own = f"{cause.kind}{altered}", index == altered
    where = "it" if own else f"{layer.kind}{index} before it, which would have to be one too,"
    advice = f"Keep weights of both signs in {name}, between -254 and 254 in steps of 2."
    raise ExportError(
        f"Layer {name}: its weights{_say_altered(weight)}. As a convolution they would arrive, but {where} {obstacle}. "
        f"{advice}"
    )


def _say_altered(weight: IntArray) -> str:
    if not weight.any():
        return " are nothing but zeros, and netx cannot load such a matrix"
    place = np.unravel_index(int(np.abs(weight).argmax()), weight.shape)
    return (
        f", from {weight.min()} to {weight.max()} (largest: {weight[place]} at {tuple(int(axis) for axis in place)}), "
        f"would be altered when netx and Lava load them"
    )


def _obstacle(layer: Layer) -> str:
    """Why a layer cannot be written as a convolution; empty if it can."""
    if isinstance(layer, Recurrent | Resonator):
        return "is recurrent" if isinstance(layer, Recurrent) else "has neurons that no convolution has in netx"
    if isinstance(layer, Dense) and layer.delay is not None and layer.delay.any():
        return "has delays, which netx drops in a convolution"
    if isinstance(layer, Dense) and (layer.weight.min() < MIN_WEIGHT or layer.weight.max() > MAX_WEIGHT):
        return f"has weights outside of the {MIN_WEIGHT} to {MAX_WEIGHT} that Loihi holds"
    return ""


def _as_convolutions(layers: tuple[Layer, ...], input_shape: tuple[int, ...]) -> list[Layer]:
    converted: list[Layer] = []
    shape: tuple[int, ...] = input_shape if len(input_shape) == 3 else (int(np.prod(input_shape)), 1, 1)
    for index, layer in enumerate(layers):
        if isinstance(layer, Input):
            converted.append(layer)
        elif isinstance(layer, Conv):
            converted.append(layer)
            shape = layer.spatial_shape
        elif isinstance(layer, Dense):
            convolution = _as_convolution(index, layer, shape)
            converted.append(convolution)
            shape = convolution.spatial_shape
    return converted


def _as_convolution(index: int, layer: Dense, shape: tuple[int, ...]) -> Conv:
    """A dense layer as a convolution whose kernels cover its whole input."""
    if max(shape[1:]) > MAX_CONV_SIZE:
        raise ExportError(
            f"Layer dense{index}: its weights, or those of a layer behind it, arrive only if it is written as a "
            f"convolution, whose kernels would have to cover its whole input of {shape[1]}x{shape[2]}, and Lava counts "
            f"their sizes up to {MAX_CONV_SIZE}. Keep weights of both signs in all of them, between -254 and 254 in "
            f"steps of 2."
        )
    shared: dict[str, Any] = {name: getattr(layer, name) for name in ("bias", "delay_shift", "axon_delay")}
    weight = layer.weight.reshape(-1, *shape)
    output_shape = None if layer.shape == (len(weight), 1, 1) else layer.shape
    return Conv(weight, layer.neuron, shape, output_shape=output_shape, **shared)
