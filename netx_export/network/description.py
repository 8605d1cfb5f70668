"""The network as plain data: what a netx file says, without torch, HDF5 or Lava.

Readers make a :class:`NetworkDescription` (from a SLAYER network, from a file); writers, simulators and checks consume
it. All shapes are in SLAYER's order (channel, height, width); all numbers are the integers of Loihi's registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from netx_export.network.stock_loader import weight_format

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
    "NetworkDescription",
    "Neuron",
    "Recurrent",
    "Resonator",
    "ResonatorNeuron",
    "SigmaDeltaNeuron",
    "SpikingLayer",
]

IntArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]  # weights of large networks are int32, to save memory
# What a neuron gives out: spikes of 0 and 1, numbers from time to time, or the state that it sums up at every step.
Gives = Literal["spikes", "messages", "sums"]


class _PlainData:
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
class CubaNeuron(_PlainData):
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
class ResonatorNeuron(_PlainData):
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
class SigmaDeltaNeuron(_PlainData):
    """Parameters of a sigma-delta neuron, which sums up what it gets and sends changes of the sum as numbers.

    A message counts in units of 1/4096, and a sum in units of 1/4096 times 1/64.

    Attributes:
        threshold: mantissa of the smallest change that is sent, in units of 1/64.
        sends: False for a last layer that only sums up what it gets.
        message_bits: bits of the changes that it sends.
    """

    threshold: int
    sends: bool = True
    message_bits: int = 16

    @property
    def gives(self) -> Gives:
        """Messages, or the sum of what came in."""
        return "messages" if self.sends else "sums"


Neuron: TypeAlias = CubaNeuron | ResonatorNeuron | SigmaDeltaNeuron


@dataclass(frozen=True, eq=False)
class Encoder(_PlainData):
    """Input neurons, which run on the host: stock netx does not connect an input layer that has neurons.

    Attributes:
        neuron: their parameters.
        weight: the input is multiplied by it, in units of 1/64.
        bias: added to that, in units of 1/64.
    """

    neuron: CubaNeuron | SigmaDeltaNeuron
    weight: int = 64
    bias: int = 0


@dataclass(frozen=True, eq=False)
class Input(_PlainData):
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
class Flatten(_PlainData):
    """``(C, H, W)`` to ``(C * H * W,)``, channel-major. It has no neurons of its own."""

    kind: ClassVar[str] = "flatten"
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Dense(_PlainData):
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output in SLAYER."""
        return self.output_shape or (int(self.weight.shape[0]),)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, ``(in,)``."""
        return (int(self.weight.shape[1]),)


@dataclass(frozen=True, eq=False)
class Recurrent(_PlainData):
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output in SLAYER."""
        return self.output_shape or (int(self.weight.shape[0]),)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, ``(in,)``."""
        return (int(self.weight.shape[1]),)


@dataclass(frozen=True, eq=False)
class Resonator(_PlainData):
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output in SLAYER."""
        return self.output_shape or (int(self.weight.shape[0]),)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input, ``(in,)``."""
        return (int(self.weight.shape[1]),)


@dataclass(frozen=True, eq=False)
class Conv(_PlainData):
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
class Average(_PlainData):
    """The mean over groups of neurons, taken on the host at the end of the network."""

    kind: ClassVar[str] = "average"
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Affine(_PlainData):
    """Weighted sums of the spikes, taken on the host at the end of the network.

    Attributes:
        weight: integer weights ``(out, in)`` in units of ``1 / scale``.
        neuron: parameters of the leaky integration that follows (its threshold is not used), or None without one.
        scale: what one unit of the output is in weights, 64 unless the SLAYER neuron was given another scale.
    """

    kind: ClassVar[str] = "affine"
    weight: IntArray
    neuron: CubaNeuron | None
    scale: int = 64

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output, ``(out,)``."""
        return (int(self.weight.shape[0]),)


SpikingLayer: TypeAlias = Dense | Recurrent | Resonator | Conv
HostLayer: TypeAlias = Average | Affine
Layer: TypeAlias = Input | Flatten | SpikingLayer | HostLayer


@dataclass(frozen=True, eq=False)
class NetworkDescription(_PlainData):
    """A feed-forward network, layer after layer, as a netx file holds it.

    Attributes:
        layers: the layers in the order of the file; a layer's index in it is its index in the file.
        metadata: provenance written beside the network (versions, training rates, budget); netx ignores it.
        ignored: what the file holds and netx ignores though it may have been meant, as ``group = value``.
    """

    layers: tuple[Layer, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    @cached_property
    def spiking(self) -> dict[str, SpikingLayer]:
        """The layers that have neurons, under the names used in simulations and reports: kind and index in the file."""
        return {
            f"{layer.kind}{index}": layer for index, layer in enumerate(self.layers) if isinstance(layer, SpikingLayer)
        }

    @property
    def graded(self) -> bool:
        """Whether there are sigma-delta neurons, whose messages are numbers other than 0 and 1."""
        return any(isinstance(layer.neuron, SigmaDeltaNeuron) for layer in self.spiking.values())

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input without batch and time: of the Input layer if there is one, else of the first layer."""
        first = self.layers[0]
        if isinstance(first, Input):
            return first.shape
        return next(iter(self.spiking.values())).input_shape

    @property
    def encoder(self) -> Encoder | None:
        """The input neurons that run on the host, if any."""
        first = self.layers[0]
        return first.encoder if isinstance(first, Input) else None

    @property
    def readout(self) -> HostLayer | None:
        """What is done with the last layer's spikes on the host, if anything."""
        last = self.layers[-1]
        return last if isinstance(last, HostLayer) else None

    @property
    def shifts(self) -> dict[str, int]:
        """Steps by which SLAYER delays each spiking layer's output against its neurons' own first step."""
        shift = 0
        shifts = {}
        for index, layer in enumerate(self.layers):
            shift += int(getattr(layer, "delay_shift", False))
            shifts[f"{layer.kind}{index}"] = shift
        return {name: shifts[name] for name in self.spiking}

    @property
    def bias_starts(self) -> dict[str, int]:
        """For each layer with a bias, how many steps before its neurons' own first step the bias sets in.

        In SLAYER a bias acts from step 0, while a layer's input comes as many steps later as the layers before it
        delay their outputs.
        """
        shifts = self.shifts
        return {
            name: shifts[name] - int(layer.delay_shift)
            for name, layer in self.spiking.items()
            if getattr(layer, "bias", None) is not None
        }

    @property
    def lead(self) -> int:
        """How many steps before its own first step the earliest bias sets in; 0 if there is none."""
        return max(self.bias_starts.values(), default=0)

    def __str__(self) -> str:
        """The network as a table: layer, neuron, shape, neurons, synapses, weights, delay and neuron parameters."""
        header = (
            *("layer", "neuron", "shape", "neurons", "synapses", "weights", "bits", "exponent"),
            *("delay", "threshold", "current decay", "voltage decay"),
        )
        rows = [header, *(_row(f"{layer.kind}{index}", layer) for index, layer in enumerate(self.layers))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _row(name: str, layer: Layer) -> tuple[str, ...]:
    shape = "x".join(map(str, layer.shape))
    if isinstance(layer, Input) and layer.encoder is not None:
        return (name, _neuron_kind(layer.encoder.neuron), shape, *[""] * 6, *_neuron_cells(layer.encoder.neuron))
    if isinstance(layer, Affine):
        return (name, "on the host", shape, "", str(layer.weight.size), _range(layer.weight), *[""] * 6)
    if not isinstance(layer, SpikingLayer):
        return (name, "on the host" if isinstance(layer, Average) else "", shape, *[""] * 9)
    bits, exponent = _weight_format(layer)
    delays = [delay for delay in (getattr(layer, "delay", None), layer.axon_delay) if delay is not None]
    return (
        name,
        _neuron_kind(layer.neuron),
        shape,
        str(int(np.prod(layer.shape))),
        str(_synapses(layer)),
        _range(layer.weight),
        bits,
        exponent,
        " + ".join(map(_range, delays)),
        *_neuron_cells(layer.neuron),
    )


def _synapses(layer: SpikingLayer) -> int:
    """Number of weights that the file holds: a convolution's kernels are shared."""
    others = [getattr(layer, name, np.empty(0)) for name in ("recurrent_weight", "imaginary_weight")]
    return int(layer.weight.size) + sum(int(other.size) for other in others)


def _weight_format(layer: SpikingLayer) -> tuple[str, str]:
    """Weight bits and exponent that the stock loader decides on; a convolution's are fixed."""
    if isinstance(layer, Conv):
        return "8", "0"
    if not any(part.any() for part in layer.loaded_together[0]):
        return "none", "none"
    bits, exponent = weight_format(*layer.loaded_together[0])
    return str(bits), str(exponent)


def _neuron_kind(neuron: Neuron) -> str:
    if isinstance(neuron, ResonatorNeuron):
        return "RF" if neuron.reset == "phase" else "RF_IZ"
    return "CUBA" if isinstance(neuron, CubaNeuron) else "SDNN"


def _neuron_cells(neuron: Neuron) -> tuple[str, str, str]:
    """Threshold and decays; a resonator's are those of its rotation."""
    if isinstance(neuron, SigmaDeltaNeuron):
        return (str(neuron.threshold), "", "")
    if isinstance(neuron, ResonatorNeuron):
        return (str(neuron.threshold), f"sin {_range(neuron.sin_decay)}", f"cos {_range(neuron.cos_decay)}")
    return (str(neuron.threshold), _range(neuron.current_decay), _range(neuron.voltage_decay))


def _range(values: IntArray) -> str:
    if values.size == 0:
        return ""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}..{high}"
