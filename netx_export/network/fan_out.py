"""The fan-out of each neuron: how many synapses one of its spikes drives, which is what the spike costs."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.grad import conv2d_input

from netx_export.network.description import Conv, NetworkDescription, Recurrent, Resonator, SpikingLayer

__all__ = ["fan_outs"]


def fan_outs(description: NetworkDescription, input_name: str) -> dict[tuple[str, str], torch.Tensor]:
    """The number of synapses from each neuron of a source into a target layer, keyed by (source, target).

    Args:
        description: the network.
        input_name: the name under which the network's input is a source.
    """
    counts: dict[tuple[str, str], torch.Tensor] = {}
    source, shape = input_name, description.input_shape
    for name, layer in description.spiking.items():
        counts[source, name] = _into(layer).reshape(shape)
        if isinstance(layer, Recurrent):
            counts[name, name] = _nonzero(layer.recurrent_weight).sum(0).reshape(layer.shape)
        source, shape = name, layer.shape
    return counts


def _into(layer: SpikingLayer) -> torch.Tensor:
    if isinstance(layer, Conv):
        return _convolution(layer)
    if isinstance(layer, Resonator):
        return _nonzero(layer.weight).sum(0) + _nonzero(layer.imaginary_weight).sum(0)
    return _nonzero(layer.weight).sum(0)


def _nonzero(weight: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> torch.Tensor:
    return torch.from_numpy(weight != 0).long()


def _convolution(layer: Conv) -> torch.Tensor:
    """The fan-out of a convolution's inputs, exact at the border too: the gradient of a convolution of ones."""
    kernels = _nonzero(layer.weight).double()
    reached = torch.ones(1, *layer.spatial_shape, dtype=torch.float64)
    counts: torch.Tensor = conv2d_input(
        (1, *layer.input_shape), kernels, reached, layer.stride, layer.padding, layer.dilation, layer.groups
    )
    return counts[0].round().long()
