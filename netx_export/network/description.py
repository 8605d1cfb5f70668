"""The network as plain data: what a netx file says, without torch, HDF5 or Lava.

Readers make a :class:`NetworkDescription` (from a SLAYER network, from a file, from a NIR graph); writers, simulators
and checks consume it. Its layers are those of :mod:`netx_export.network.layers`, which can be imported from here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from netx_export.network.fixed_point import ALIGNMENT_BITS, DEFAULT_SPIKE_EXP
from netx_export.network.layers import (
    Affine,
    Average,
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    Gives,
    HostLayer,
    Input,
    Layer,
    Neuron,
    PlainData,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.table import html_table, table
from netx_export.network.validation import check_layers, check_metadata, check_spike_exp, check_voltage_readout

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


@dataclass(frozen=True, eq=False)
class NetworkDescription(PlainData):
    """A feed-forward network, layer after layer, as a netx file holds it.

    Attributes:
        layers: the layers in the order of the file; a layer's index in it is its index in the file.
        metadata: provenance written beside the network (versions, training rates, budget); netx ignores it.
        ignored: what the file holds and netx ignores though it may have been meant, as ``group = value``.
        spike_exp: an option of ``netx.hdf5.Network`` that no file holds, 0 to 6: the fraction of a sigma-delta message
            has 6 bits and as many more.
        reads_voltage: whether the last layer is read by its membrane potential, as lava-dl's Affine is, whose threshold
            is too high to be reached: it gives that potential after each step, and no spikes.

    Raises:
        DescriptionError: (a ``ValueError``) if the layers do not fit each other, or one holds an array of another shape
            or type, or a number that Lava would take for another one.

    Example:
        >>> import numpy as np
        >>> from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription
        >>> neuron = CubaNeuron(threshold=80, current_decay=np.array([1024]), voltage_decay=np.array([128]))
        >>> NetworkDescription((Input((2,)), Dense(np.array([[8, -4]]), neuron))).input_shape
        (2,)
        >>> NetworkDescription((Input((3,)), Dense(np.array([[8, -4]]), neuron)))
        Traceback (most recent call last):
            ...
        netx_export.errors.DescriptionError: dense1: it takes 2 values, and the layer before it gives 3.
    """

    layers: tuple[Layer, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    spike_exp: int = DEFAULT_SPIKE_EXP
    reads_voltage: bool = False

    def __post_init__(self) -> None:
        check_layers(self.layers)
        check_spike_exp(self.spike_exp)
        check_metadata(self.metadata)
        check_voltage_readout(self.reads_voltage, self.layers)

    @cached_property
    def spiking(self) -> dict[str, SpikingLayer]:
        """The layers that have neurons, under the names used in simulations and reports: kind and index in the file."""
        return {
            f"{layer.kind}{index}": layer for index, layer in enumerate(self.layers) if isinstance(layer, SpikingLayer)
        }

    @property
    def gives(self) -> dict[str, Gives]:
        """What each spiking layer gives; a membrane potential is a sum, like that of sigma-delta neurons."""
        found: dict[str, Gives] = {name: layer.neuron.gives for name, layer in self.spiking.items()}
        return {**found, list(found)[-1]: "sums"} if self.reads_voltage else found

    @property
    def graded(self) -> bool:
        """Whether there are sigma-delta neurons, whose messages are numbers other than 0 and 1."""
        return any(isinstance(layer.neuron, SigmaDeltaNeuron) for layer in self.spiking.values())

    @property
    def fraction_bits(self) -> int:
        """Bits of the fraction of a sigma-delta message."""
        return ALIGNMENT_BITS + self.spike_exp

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
        """The most steps by which a bias sets in before the input of its layer; 0 if there is none."""
        return max(self.bias_starts.values(), default=0)

    def __str__(self) -> str:
        """The network as a table: layers with shape, neurons, synapses, weights, delay and neuron parameters.

        Biases and the geometry of convolutions have columns if any layer has them.
        """
        return self.table()

    def table(self, width: int | None = None) -> str:
        """The network as :func:`str` gives it, in several tables below each other if it is wider than ``width``."""
        return table(self.layers, reads_voltage=self.reads_voltage, width=width)

    def _repr_html_(self) -> str:
        """The same table, as a notebook shows it."""
        return html_table(self.layers, reads_voltage=self.reads_voltage)
