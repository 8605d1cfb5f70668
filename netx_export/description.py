"""The network as plain data: what a netx file says, without torch, HDF5 or Lava.

Readers make a :class:`NetworkDescription` (from a SLAYER network, from a file); writers, simulators and checks consume
it. All shapes are in SLAYER's order (channel, height, width); all numbers are the integers of Loihi's registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Conv", "CubaNeuron", "Dense", "Flatten", "Input", "Layer", "NetworkDescription", "SpikingLayer"]

IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CubaNeuron:
    """Parameters of a current-based leaky integrate-and-fire neuron.

    Attributes:
        threshold: mantissa of the threshold, 17 bits; the membrane potential is compared with ``threshold << 6``.
        current_decay: decay of the synaptic current per step in units of 1/4096: one value, or one per channel.
        voltage_decay: decay of the membrane potential per step in units of 1/4096: one value, or one per channel.
    """

    threshold: int
    current_decay: IntArray
    voltage_decay: IntArray


@dataclass(frozen=True, eq=False)
class Input:
    """The shape of the input, ``(C, H, W)`` or ``(C,)``. It has no neurons of its own.

    ``delay_shift`` tells whether SLAYER delays this layer's output by one step; Lava does not.
    """

    kind: ClassVar[str] = "input"
    shape: tuple[int, ...]
    delay_shift: bool = True


@dataclass(frozen=True, eq=False)
class Flatten:
    """``(C, H, W)`` to ``(C * H * W,)``, channel-major. It has no neurons of its own."""

    kind: ClassVar[str] = "flatten"
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Dense:
    """A fully connected layer of spiking neurons.

    Attributes:
        weight: integer weights ``(out, in)``.
        neuron: parameters of its neurons.
        delay: extra steps on the way into each neuron ``(out,)``, or out of each input ``(in,)``; 0 to 62, or None.
        bias: bias mantissa per neuron ``(out,)``, added to the membrane potential as ``bias << 6``, or None.
        delay_shift: whether SLAYER delays this layer's output by one step, as Lava always does.
    """

    kind: ClassVar[str] = "dense"
    weight: IntArray
    neuron: CubaNeuron
    delay: IntArray | None = None
    bias: IntArray | None = None
    delay_shift: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, ``(out,)``."""
        return (int(self.weight.shape[0]),)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, ``(in,)``."""
        return (int(self.weight.shape[1]),)


@dataclass(frozen=True, eq=False)
class Conv:
    """A two-dimensional convolution of spiking neurons.

    Attributes:
        weight: integer kernels ``(out, in / groups, kernel height, kernel width)``.
        neuron: parameters of its neurons.
        input_shape: ``(C, H, W)`` of what comes in.
        stride, padding, dilation: ``(vertical, horizontal)``.
        groups: number of blocked connections between input and output channels.
        bias: bias mantissa per output channel ``(out,)``, added to the membrane potential as ``bias << 6``, or None.
        delay_shift: whether SLAYER delays this layer's output by one step, as Lava always does.
    """

    kind: ClassVar[str] = "conv"
    weight: IntArray
    neuron: CubaNeuron
    input_shape: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: IntArray | None = None
    delay_shift: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, ``(C, H, W)``."""
        sizes = zip(self.input_shape[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        spatial = tuple(
            int((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
            for size, kernel, stride, padding, dilation in sizes
        )
        return (int(self.weight.shape[0]), *spatial)


SpikingLayer: TypeAlias = Dense | Conv
Layer: TypeAlias = Input | Flatten | SpikingLayer


@dataclass(frozen=True, eq=False)
class NetworkDescription:
    """A feed-forward network, layer after layer, as a netx file holds it.

    Attributes:
        layers: the layers in the order of the file; a layer's index in it is its index in the file.
        metadata: provenance written beside the network (versions, training rates, budget); netx ignores it.
    """

    layers: tuple[Layer, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def spiking(self) -> dict[str, SpikingLayer]:
        """The layers that have neurons, under the names used in simulations and reports: kind and index in the file."""
        return {
            f"{layer.kind}{index}": layer
            for index, layer in enumerate(self.layers)
            if not isinstance(layer, Input | Flatten)
        }

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input without batch and time: of the Input layer if there is one, else of the first layer."""
        first = self.layers[0]
        if isinstance(first, Input):
            return first.shape
        return next(iter(self.spiking.values())).input_shape

    @property
    def shifts(self) -> dict[str, int]:
        """Steps by which SLAYER delays each spiking layer's output against its neurons' own first step."""
        shift = 0
        shifts = {}
        for index, layer in enumerate(self.layers):
            shift += 0 if isinstance(layer, Flatten) else int(layer.delay_shift)
            shifts[f"{layer.kind}{index}"] = shift
        return {name: shifts[name] for name in self.spiking}

    def __str__(self) -> str:
        """The network as a table: layer, shape, neurons, synapses, delay and neuron parameters."""
        header = ("layer", "shape", "neurons", "synapses", "delay", "threshold", "current decay", "voltage decay")
        rows = [header, *(_row(f"{layer.kind}{index}", layer) for index, layer in enumerate(self.layers))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(name: str, layer: Layer) -> tuple[str, ...]:
    shape = "x".join(map(str, layer.shape))
    if isinstance(layer, Input | Flatten):
        return (name, shape, "", "", "", "", "", "")
    delay = layer.delay if isinstance(layer, Dense) else None
    neuron = layer.neuron
    return (
        name,
        shape,
        str(int(np.prod(layer.shape))),
        str(int(layer.weight.size)),
        "" if delay is None else _range(delay),
        str(neuron.threshold),
        _range(neuron.current_decay),
        _range(neuron.voltage_decay),
    )


def _range(values: IntArray) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}..{high}"
