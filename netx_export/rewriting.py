"""Layers rewritten so that the stock loader gives back exactly the weights that were trained.

netx shifts a dense layer's weights up to fill eight bits, and Lava clips and truncates them again. For some matrices
(all -64; {0, -128}; nothing but zeros) that loses weights, and no other dense matrix would load as them. The weights of
a convolution pass unchanged, so such a layer is written as a convolution whose kernels cover its whole input, and so is
every layer before it, since netx cannot go from a vector back to channels.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from netx_export.description import (
    Conv,
    Dense,
    Flatten,
    Input,
    IntArray,
    Layer,
    NetworkDescription,
    SpikingLayer,
)
from netx_export.errors import ExportError
from netx_export.loading import load_weights

__all__ = ["loadable", "loads", "loads_exactly"]

_MAX_KERNEL = 127  # Lava holds kernel sizes in 8 bits


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
    for index in altered:
        _refuse_unless_dense(index, description.layers[index])
    last = altered[-1]
    layers = [*_as_convolutions(description.layers[: last + 1]), *description.layers[last + 1 :]]
    end = len(layers) - len(description.layers[last + 1 :])
    if end < len(layers) and isinstance(layers[end], SpikingLayer):
        layers.insert(end, Flatten((int(np.prod(layers[end - 1].shape)),)))
    return NetworkDescription(tuple(layers), description.metadata)


def loads_exactly(layer: SpikingLayer) -> bool:
    """Whether a layer's weights come out of the stock loader as they are written."""
    return loads(layer) and all(_survive(*weights) for weights in layer.loaded_together)


def loads(layer: SpikingLayer) -> bool:
    """Whether the stock loader can load a layer's weights at all: on a matrix of zeros it fails."""
    return all(any(part.any() for part in weights) for weights in layer.loaded_together)


def _survive(*weights: IntArray) -> bool:
    """Whether weights that are optimised together come out of the stock loader as they went in."""
    return all(values.equals(weight) for values, weight in zip(load_weights(*weights), weights, strict=True))


def _refuse_unless_dense(index: int, layer: Layer) -> None:
    assert isinstance(layer, SpikingLayer)
    why = ""
    if not isinstance(layer, Dense):
        why = "a recurrent or resonator layer cannot be written as a convolution, which would load exactly"
    elif layer.weight.min() < -256 or layer.weight.max() > 255:
        why = "Loihi holds weights from -256 to 255"
    if why:
        raise _altered(index, layer, why)


def _altered(index: int, layer: SpikingLayer, why: str) -> ExportError:
    place = np.unravel_index(int(np.abs(layer.weight).argmax()), layer.weight.shape)
    return ExportError(
        f"Layer {layer.kind}{index}: its weights, from {layer.weight.min()} to {layer.weight.max()} (largest: "
        f"{layer.weight[place]} at {tuple(int(axis) for axis in place)}), would be altered when netx and Lava load "
        f"them; {why}. Keep weights of both signs in the layer, between -254 and 254 in steps of 2."
    )


def _as_convolutions(layers: tuple[Layer, ...]) -> list[Layer]:
    converted: list[Layer] = []
    shape: tuple[int, ...] = ()
    for index, layer in enumerate(layers):
        if isinstance(layer, Input):
            shape = layer.shape if len(layer.shape) == 3 else (int(np.prod(layer.shape)), 1, 1)
            converted.append(layer)
        elif isinstance(layer, Conv):
            converted.append(layer)
            shape = layer.spatial_shape
        elif isinstance(layer, SpikingLayer):
            convolution = _as_convolution(index, layer, shape)
            converted.append(convolution)
            shape = convolution.spatial_shape
    return converted


def _as_convolution(index: int, layer: SpikingLayer, shape: tuple[int, ...]) -> Conv:
    """A dense layer as a convolution whose kernels cover its whole input."""
    if not isinstance(layer, Dense) or layer.delay is not None or max(shape[1:]) > _MAX_KERNEL:
        why = "it or a layer behind it would load exactly as a convolution only, which has no delays or recurrence"
        raise _altered(index, layer, why)
    shared: dict[str, Any] = {
        item.name: getattr(layer, item.name)
        for item in fields(layer)
        if item.name in ("bias", "delay_shift", "axon_delay")
    }
    weight = layer.weight.reshape(-1, *shape)
    output_shape = None if layer.shape == (len(weight), 1, 1) else layer.shape
    return Conv(weight, layer.neuron, shape, output_shape=output_shape, **shared)
