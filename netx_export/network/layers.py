"""The layers of a network and their neurons as plain data: what a netx file says of them.

All shapes are in SLAYER's order (channel, height, width); all numbers are the integers of Loihi's registers, in the
units of :mod:`netx_export.network.fixed_point`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from netx_export.network.fixed_point import NETX_MESSAGE_BITS, WEIGHT_SCALE, IntArray

__all__ = [
    "Affine",
    "Average",
    "Conv",
    "CubaNeuron",
    "Dense",
    "Encoder",
    "Flatten",
    "Gives",
    "HostLayer",
    "Input",
    "Layer",
    "Neuron",
    "PlainData",
    "Recurrent",
    "Resonator",
    "ResonatorNeuron",
    "SigmaDeltaNeuron",
    "SpikingLayer",
]

# What a neuron puts out: spikes of 0 and 1, graded messages when its state has changed, or its state at every step.
Gives = Literal["spikes", "messages", "sums"]


class PlainData:
    """Equality by value, arrays included."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [item.name for item in fields(self)]  # type: ignore[arg-type]  # every subclass is a dataclass
        return all(_equal(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return one is not None and other is not None and np.array_equal(one, other)
    return bool(one == other)


@dataclass(frozen=True, eq=False)
class CubaNeuron(PlainData):
    """Parameters of a current-based leaky integrate-and-fire neuron.

    Attributes:
        threshold: mantissa of the threshold, 17 bits; the membrane potential is compared with ``threshold << 6``.
        current_decay: decay of the synaptic current per step in units of 1/4096: one value, or one per channel.
        voltage_decay: decay of the membrane potential per step in units of 1/4096: one value, or one per channel.
    """

    gives: ClassVar[Gives] = "spikes"
    threshold: int
    current_decay: IntArray
    voltage_decay: IntArray


@dataclass(frozen=True, eq=False)
class ResonatorNeuron(PlainData):
    """Parameters of a resonate-and-fire neuron.

    Attributes:
        threshold: mantissa of the threshold; the state is compared with ``threshold << 6``.
        sin_decay: sine part of rotation and decay of the complex state per step in units of 1/4096: one value, or one
            per channel.
        cos_decay: cosine part, likewise.
        reset: what a spike does: ``"phase"`` nothing (RF), ``"izhikevich"`` puts the state to the threshold (RF_IZ).
    """

    gives: ClassVar[Gives] = "spikes"
    threshold: int
    sin_decay: IntArray
    cos_decay: IntArray
    reset: Literal["phase", "izhikevich"]


@dataclass(frozen=True, eq=False)
class SigmaDeltaNeuron(PlainData):
    """Parameters of a sigma-delta neuron, which sums up its input and sends the changes of this sum as messages.

    A message counts in units of 1/4096, and a sum in units of 1/4096 times 1/64.

    Attributes:
        threshold: mantissa of the smallest change that is sent, in units of 1/64.
        sends: False for a last layer that only sums up what it gets.
        message_bits: bits of the changes that it sends.
    """

    threshold: int
    sends: bool = True
    message_bits: int = NETX_MESSAGE_BITS

    @property
    def gives(self) -> Gives:
        """Messages, or the sum of what came in."""
        return "messages" if self.sends else "sums"


Neuron: TypeAlias = CubaNeuron | ResonatorNeuron | SigmaDeltaNeuron


@dataclass(frozen=True, eq=False)
class Encoder(PlainData):
    """Input neurons, which run on the host: stock netx does not connect an input layer that has neurons.

    Attributes:
        neuron: their parameters.
        weight: the input is multiplied by it, in units of 1/64.
        bias: added to that, in units of 1/64.
    """

    neuron: CubaNeuron | SigmaDeltaNeuron
    weight: int = WEIGHT_SCALE
    bias: int = 0


@dataclass(frozen=True, eq=False)
class Input(PlainData):
    """The shape of the input, ``(C, H, W)`` or ``(C,)``.

    Attributes:
        shape: shape without batch and time.
        delay_shift: whether SLAYER delays this layer's output by one step; Lava does not.
        encoder: neurons that turn the input into spikes on the host, or None if the input is spikes.
    """

    kind: ClassVar[str] = "input"
    shape: tuple[int, ...]
    delay_shift: bool = True
    encoder: Encoder | None = None


@dataclass(frozen=True, eq=False)
class Flatten(PlainData):
    """``(C, H, W)`` to ``(C * H * W,)``, channel-major. It has no neurons of its own."""

    kind: ClassVar[str] = "flatten"
    shape: tuple[int, ...]


class _FullyConnected(PlainData):
    """The shapes of a layer in which every input may lead to every neuron."""

    weight: IntArray
    output_shape: tuple[int, ...] | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output in SLAYER."""
        return self.output_shape or (int(self.weight.shape[0]),)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, ``(in,)``."""
        return (int(self.weight.shape[1]),)


@dataclass(frozen=True, eq=False)
class Dense(_FullyConnected):
    """A fully connected layer of spiking neurons.

    Attributes:
        weight: integer weights ``(out, in)``.
        neuron: parameters of its neurons.
        delay: extra steps on the way into each neuron ``(out,)``, out of each input ``(in,)``, or on each synapse
            ``(out, in)``; 0 to 62, or None. If ``out`` equals ``in``, one dimension means neurons.
        bias: bias mantissa per neuron ``(out,)``, added to the membrane potential as ``bias << 6``, or None.
        delay_shift: whether SLAYER delays this layer's output by one step, as Lava always does.
        axon_delay: SLAYER's delay of each channel of this layer's output, where it is not this layer's ``delay`` that
            makes it but the next layer's, or the host at the end of the network; None without.
        output_shape: shape of the output in SLAYER where it is not ``(out,)``.
    """

    kind: ClassVar[str] = "dense"
    weight: IntArray
    neuron: CubaNeuron | SigmaDeltaNeuron
    delay: IntArray | None = None
    bias: IntArray | None = None
    delay_shift: bool = True
    axon_delay: IntArray | None = None
    output_shape: tuple[int, ...] | None = None

    @property
    def loaded_together(self) -> tuple[tuple[IntArray, ...], ...]:
        """The matrices that netx fits to a synapse's bits, each group together."""
        return ((self.weight,),)


@dataclass(frozen=True, eq=False)
class Recurrent(_FullyConnected):
    """A fully connected layer of spiking neurons whose spikes come back to it one step later.

    Attributes:
        weight: integer weights ``(out, in)``.
        recurrent_weight: integer weights ``(out, out)`` from its own spikes of the step before.
        neuron: as in :class:`Dense`.
        bias: as in :class:`Dense`.
        delay_shift: as in :class:`Dense`.
        axon_delay: as in :class:`Dense`.
        output_shape: as in :class:`Dense`.
    """

    kind: ClassVar[str] = "recurrent"
    weight: IntArray
    recurrent_weight: IntArray
    neuron: CubaNeuron
    bias: IntArray | None = None
    delay_shift: bool = True
    axon_delay: IntArray | None = None
    output_shape: tuple[int, ...] | None = None

    @property
    def loaded_together(self) -> tuple[tuple[IntArray, ...], ...]:
        """As in :class:`Dense`."""
        return ((self.weight, self.recurrent_weight),)


@dataclass(frozen=True, eq=False)
class Resonator(_FullyConnected):
    """A fully connected layer of resonate-and-fire neurons.

    Attributes:
        weight: integer weights ``(out, in)`` into the real part of the state.
        imaginary_weight: integer weights ``(out, in)`` into the imaginary part.
        neuron: parameters of its neurons.
        delay_shift: as in :class:`Dense`.
        axon_delay: as in :class:`Dense`.
        output_shape: as in :class:`Dense`.
    """

    kind: ClassVar[str] = "resonator"
    weight: IntArray
    imaginary_weight: IntArray
    neuron: ResonatorNeuron
    delay_shift: bool = True
    axon_delay: IntArray | None = None
    output_shape: tuple[int, ...] | None = None

    @property
    def loaded_together(self) -> tuple[tuple[IntArray, ...], ...]:
        """As in :class:`Dense`."""
        return ((self.weight,), (self.imaginary_weight,))


@dataclass(frozen=True, eq=False)
class Conv(PlainData):
    """A two-dimensional convolution of spiking neurons.

    Attributes:
        weight: integer kernels ``(out, in / groups, kernel height, kernel width)``.
        neuron: parameters of its neurons.
        input_shape: ``(C, H, W)`` of what comes in.
        stride: ``(vertical, horizontal)``.
        padding: ``(vertical, horizontal)``, with zeros.
        dilation: ``(vertical, horizontal)``.
        groups: number of blocked connections between input and output channels.
        bias: bias mantissa per output channel ``(out,)``, added to the membrane potential as ``bias << 6``, or None.
        delay_shift: as in :class:`Dense`.
        axon_delay: as in :class:`Dense`.
        output_shape: shape of the output in SLAYER where it is not ``(C, H, W)``: a dense layer whose weights only a
            convolution can load is written as one.
    """

    kind: ClassVar[str] = "conv"
    weight: IntArray
    neuron: CubaNeuron | SigmaDeltaNeuron
    input_shape: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    bias: IntArray | None = None
    delay_shift: bool = True
    axon_delay: IntArray | None = None
    output_shape: tuple[int, ...] | None = None

    @property
    def loaded_together(self) -> tuple[tuple[IntArray, ...], ...]:
        """As in :class:`Dense`: none, a convolution's weights arrive as they are."""
        return ()

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape of the output as the convolution makes it, ``(C, H, W)``."""
        sizes = zip(self.input_shape[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        spatial = tuple(
            int((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
            for size, kernel, stride, padding, dilation in sizes
        )
        return (int(self.weight.shape[0]), *spatial)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output in SLAYER."""
        return self.output_shape or self.spatial_shape


@dataclass(frozen=True, eq=False)
class Average(PlainData):
    """The mean over groups of neurons, taken on the host at the end of the network."""

    kind: ClassVar[str] = "average"
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Affine(PlainData):
    """Weighted sums of the spikes, taken on the host at the end of the network.

    Attributes:
        weight: integer weights ``(out, in)`` in units of ``1 / scale``.
        neuron: parameters of the leaky integration that follows (its threshold is not used), or None without one.
        scale: what one unit of the output is in weights, 64 unless the SLAYER neuron was given another scale.
    """

    kind: ClassVar[str] = "affine"
    weight: IntArray
    neuron: CubaNeuron | None
    scale: int = WEIGHT_SCALE

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, ``(out,)``."""
        return (int(self.weight.shape[0]),)


SpikingLayer: TypeAlias = Dense | Recurrent | Resonator | Conv
HostLayer: TypeAlias = Average | Affine
Layer: TypeAlias = Input | Flatten | SpikingLayer | HostLayer
