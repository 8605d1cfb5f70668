"""How far each number of a network goes on a batch, before Lava wraps, clips or SLAYER rounds it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.fixed_point import ALIGNMENT, ALIGNMENT_BITS, MAX_INT32, MAX_STATE
from netx_export.network.peaks import (
    CURRENT,
    PARTIAL_SUM,
    READ_VOLTAGE,
    ROTATION,
    ROUNDED_STATE,
    STATE,
    SUM,
    VOLTAGE,
    Peak,
    Quantity,
    read_limit,
    sum_limit,
)
from netx_export.network.stock_loader import load_dense_weights
from netx_export.simulation.reference.neurons import CubaStates, Rotation, per_channel
from netx_export.simulation.reference.synapses import (
    dense_synapses,
    message_sizes,
    message_sums,
    recurrent_sums,
    spike_synapses,
)

__all__ = ["Track", "track"]

_FLOAT32_BITS = 24


@dataclass(frozen=True, eq=False)
class Track:
    """The largest size of a number of a layer in each step.

    Attributes:
        quantity: the number.
        limit: the largest size that is held as it is.
        sizes: one size per step, ``(T,)``.
    """

    quantity: Quantity
    limit: int
    sizes: torch.Tensor

    def joined(self, other: Track) -> Track:
        """Both on the samples of both."""
        return replace(self, limit=min(self.limit, other.limit), sizes=torch.maximum(self.sizes, other.sizes))

    def peak(self, shift: int) -> Peak:
        """The largest of all steps, whose numbers are shifted."""
        beyond = (self.sizes > self.limit).nonzero()
        step = int(beyond[0]) + shift if len(beyond) else None
        return Peak(self.quantity, float(self.sizes.max()), self.limit, step)


def track(
    layer: SpikingLayer,
    bias_start: int,
    frames: torch.Tensor,
    sent: torch.Tensor,
    fraction_bits: int,
    *,
    read: bool = False,
) -> list[Track]:
    """Follow a layer's numbers, given what came into it and what its neurons sent, both time first.

    Its membrane potentials may be what is ``read`` of it.
    """
    if isinstance(layer.neuron, SigmaDeltaNeuron):
        return list(_sigma_delta(layer, bias_start, frames, fraction_bits))
    if isinstance(layer.neuron, ResonatorNeuron):
        return [_resonator(layer, layer.neuron, frames, sent)]
    return list(_cuba(layer, layer.neuron, bias_start, frames, sent, read=read))


def _largest(values: torch.Tensor) -> torch.Tensor:
    """The largest size in each step of ``(T, ...)``."""
    return values.abs().flatten(1).amax(1).cpu()


def _cuba(
    layer: SpikingLayer, neuron: CubaNeuron, bias_start: int, frames: torch.Tensor, fired: torch.Tensor, *, read: bool
) -> Iterator[Track]:
    """Current and voltage as they would go without limits, reset where Lava's neurons fired, unless they are read."""
    activation = spike_synapses(layer, frames.device)(frames).double()
    if isinstance(layer, Recurrent):
        activation[1:] += recurrent_sums(layer, fired.device)(fired[:-1].flatten(0, 1)).reshape(activation[1:].shape)
    neurons = CubaStates(neuron, torch.zeros_like(activation[0]), ALIGNMENT, wraps=False, saturates=False)
    bias = getattr(layer, "bias", None)
    drive = None if bias is None else per_channel(bias, neurons.current) * ALIGNMENT
    currents, voltages = torch.empty_like(activation), torch.empty_like(activation)
    for step, frame in enumerate(activation):
        neurons.integrate(frame, drive if step >= bias_start else None)
        if not read:
            neurons.reset(fired[step].reshape(frame.shape))  # one that fires is reset, however high it was
        currents[step], voltages[step] = neurons.current, neurons.voltage
    yield Track(CURRENT, MAX_STATE, _largest(currents))
    yield Track(VOLTAGE, MAX_STATE, _largest(voltages.clamp(max=0) if read else voltages))
    if read:
        yield Track(READ_VOLTAGE, read_limit(neuron), _largest(voltages.clamp(min=0)))


def _resonator(layer: SpikingLayer, neuron: ResonatorNeuron, frames: torch.Tensor, fired: torch.Tensor) -> Track:
    """The parts of the state before Lava clips them, from the state that it clipped before."""
    assert isinstance(layer, Resonator)
    weights = (layer.weight, layer.imaginary_weight)
    inputs = [dense_synapses(load_dense_weights(weight), frames.device)(frames).double() for weight in weights]
    fired = fired.reshape(inputs[0].shape).bool()
    rotation = Rotation(neuron, torch.zeros_like(inputs[0][0]))
    sizes = torch.empty_like(inputs[0])
    for step, (real_input, imag_input) in enumerate(zip(*inputs, strict=True)):
        real, imag = rotation.advance(real_input * ALIGNMENT, imag_input * ALIGNMENT)
        sizes[step] = torch.maximum(real.abs(), imag.abs())
        if neuron.reset == "izhikevich":
            sizes[step].masked_fill_(fired[step], 0)  # one that fires is put to the threshold, wherever it was
        rotation.settle(real, imag)
    return Track(ROTATION, MAX_STATE, _largest(sizes))


def _sigma_delta(layer: SpikingLayer, bias_start: int, frames: torch.Tensor, fraction_bits: int) -> Iterator[Track]:
    """Sums of messages and their sum over time as they would go without limits."""
    assert isinstance(layer, Dense | Conv)
    sums = message_sums(layer, frames.device)(frames)
    unit = 2 ** (fraction_bits + ALIGNMENT_BITS)
    limit = sum_limit(layer)
    held = torch.where(sums == -limit - 1, -limit, sums)  # a register holds one number more below zero than above
    yield Track(replace(SUM, unit=unit), limit, _largest(held))
    states = sums.cumsum(0)
    if layer.bias is not None:
        states[bias_start:] += per_channel(layer.bias << fraction_bits, states[0])
    sizes = _largest(states)
    yield Track(replace(STATE, unit=unit), MAX_INT32, sizes)
    # float32 holds as many bits, counted from the lowest that any of the numbers has.
    yield Track(replace(ROUNDED_STATE, unit=unit), _lowest_bit(states) << _FLOAT32_BITS, sizes)
    lowest = _lowest_bit(frames) * _lowest_bit(torch.from_numpy(layer.weight))
    # In whatever order weighted messages are added up, no sum on the way is larger than that of their sizes.
    sizes = _largest(message_sizes(layer, frames.device)(frames.abs()))
    yield Track(replace(PARTIAL_SUM, unit=unit), lowest << _FLOAT32_BITS, sizes)


def _lowest_bit(values: torch.Tensor) -> int:
    """The lowest bit that any of some whole numbers has; 1 if all are 0."""
    bits = int(np.bitwise_or.reduce(values.long().cpu().numpy(), axis=None))
    return bits & -bits or 1
