"""Neurons of the reference simulator: Lava's fixed-point arithmetic, step by step over whole batches.

The states are int32 as in Lava, decayed in float64, which holds every product of a 24-bit state and a 12-bit decay.
Sources: ``PyLifModelBitAcc`` (``lava/proc/lif/models.py``) and the fixed-point models of resonators
(``lava/proc/rf``, ``rf_iz``) and sigma-delta neurons (``lava/proc/sdn``) of lava-nc 0.10.0.
"""

from __future__ import annotations

import torch

from netx_export.network.description import CubaNeuron, ResonatorNeuron, SigmaDeltaNeuron
from netx_export.network.fixed_point import ALIGNMENT, ALIGNMENT_BITS, MESSAGE_BITS, STATE_LIMIT, UNITY_DECAY, IntArray
from netx_export.simulation.reference.loops import compiled_loops, one_thread
from netx_export.simulation.reference.synapses import WeightedSums

__all__ = [
    "CubaStates",
    "Rotation",
    "decayed",
    "integrate_and_fire",
    "kept",
    "membrane_potentials",
    "per_channel",
    "resonate_and_fire",
    "send_changes",
    "sigma_delta",
]

# Loihi aligns synaptic input, bias and threshold with its 24-bit states by shifting them up six bits.


def integrate_and_fire(
    synaptic_input: torch.Tensor,
    neuron: CubaNeuron,
    bias: IntArray | None = None,
    bias_start: int = 0,
    feedback: WeightedSums | None = None,
    scale: int = 1,
) -> torch.Tensor:
    """Loihi's current-based leaky integrate-and-fire neurons over ``(T, N, C, ...)``.

    Args:
        synaptic_input: whole numbers of any type.
        neuron: parameters of the neurons.
        bias: bias mantissa per channel, or None.
        bias_start: the step from which on the bias acts.
        feedback: what the spikes ``(N, C)`` of one step add to the synaptic input of the next, or None.
        scale: what aligns the synaptic input with the state: 64 for weighted sums.

    Returns:
        Spikes, uint8.
    """
    loops = compiled_loops(synaptic_input.device)
    if loops is None or (feedback is not None and not feedback.fits):
        return _step_by_step(synaptic_input, neuron, bias, bias_start, feedback, scale)
    by_sample = synaptic_input.transpose(0, 1).to(torch.int32).contiguous()
    state = by_sample[:1, 0]
    spikes = torch.empty_like(by_sample, dtype=torch.uint8)
    neurons = loops.Neurons(
        keep_current=kept(neuron.current_decay, state).flatten().numpy(),
        keep_voltage=kept(neuron.voltage_decay, state).flatten().numpy(),
        threshold=neuron.threshold * ALIGNMENT,
        drive=_drive(bias, state).flatten().numpy(),
        drive_start=bias_start,
        scale=scale,
    )
    none = torch.empty((0, 0), dtype=torch.int16)
    back = loops.Feedback(none.numpy(), 0) if feedback is None else loops.Feedback(*feedback.loaded)
    loops.integrate_and_fire(neurons, back, by_sample.flatten(2).numpy(), spikes.flatten(2).numpy())
    return spikes.transpose(0, 1)


def membrane_potentials(
    synaptic_input: torch.Tensor, neuron: CubaNeuron, bias: IntArray | None, bias_start: int, scale: int
) -> torch.Tensor:
    """What Lava's neurons hold as their voltage after each step, int32; arguments as :func:`integrate_and_fire`."""
    potentials = torch.empty_like(synaptic_input, dtype=torch.int32)
    _step_by_step(synaptic_input, neuron, bias, bias_start, None, scale, potentials)
    return potentials


def _drive(bias: IntArray | None, state: torch.Tensor) -> torch.Tensor:
    """What a bias adds to the voltages in each step."""
    return torch.zeros_like(state) if bias is None else (per_channel(bias, state) * ALIGNMENT).to(state.dtype)


@one_thread()
def _step_by_step(
    synaptic_input: torch.Tensor,
    neuron: CubaNeuron,
    bias: IntArray | None,
    bias_start: int,
    feedback: WeightedSums | None,
    scale: int,
    potentials: torch.Tensor | None = None,
) -> torch.Tensor:
    """The neurons in torch; what they hold after each step is written to ``potentials``."""
    rest = torch.zeros_like(synaptic_input[0], dtype=torch.int32)
    may_wrap = feedback is not None or _may_wrap(synaptic_input, neuron, scale)
    neurons = CubaStates(neuron, rest, scale, wraps=may_wrap, saturates=True)
    drive, synaptic = _drive(bias, rest), torch.empty_like(rest)
    spikes = torch.empty_like(synaptic_input, dtype=torch.uint8)
    for step, (frame, fired) in enumerate(zip(synaptic_input, spikes, strict=True)):
        synaptic.copy_(frame)
        if feedback is not None and step > 0:
            synaptic.add_(feedback(spikes[step - 1]).to(torch.int32))
        neurons.integrate(synaptic, drive if bias is not None and step >= bias_start else None)
        neurons.reset(neurons.fired(out=fired))
        if potentials is not None:
            potentials[step] = neurons.voltage
    return spikes


class CubaStates:
    """Currents and voltages of CUBA neurons: the definition of what Lava's ``PyLifModelBitAcc`` computes.

    The compiled loop and the single neuron of :mod:`netx_export.verification.neuron_trace` compute the same in other
    forms. Tests hold both against this class, and this class against Lava. It works in place, in half the time.

    Args:
        neuron: parameters of the neurons.
        rest: zeros ``(N, C, ...)``: int32 as in Lava, or float64 for what may leave its range.
        scale: what aligns the synaptic input with the states.
        wraps: whether a current that leaves 24 bits wraps around, as in Lava and not in SLAYER.
        saturates: whether a voltage stops at 24 bits, likewise.

    Attributes:
        current, voltage: the states.
    """

    def __init__(self, neuron: CubaNeuron, rest: torch.Tensor, scale: int, *, wraps: bool, saturates: bool) -> None:
        self.current, self.voltage = rest.clone(), rest.clone()
        self._keep_current = kept(neuron.current_decay, rest)
        self._keep_voltage = kept(neuron.voltage_decay, rest)
        self._scale, self._threshold = scale, neuron.threshold * ALIGNMENT
        self._wraps, self._saturates = wraps, saturates
        self._product, self._mask = torch.empty_like(self._keep_current), torch.empty_like(rest)

    def integrate(self, synaptic_input: torch.Tensor, drive: torch.Tensor | None) -> None:
        """Decay both states and add what comes in.

        Args:
            synaptic_input: what the spikes of this step add to the currents, before it is scaled.
            drive: what a bias adds to the voltages, or None.
        """
        current, voltage = self.current, self.voltage
        current.copy_(decayed(current, self._keep_current, out=self._product)).add_(synaptic_input, alpha=self._scale)
        if self._wraps:  # once: a current that is still beyond 24 bits then stays there
            current.sub_(torch.gt(current, STATE_LIMIT, out=self._mask), alpha=2 * STATE_LIMIT)
            current.add_(torch.le(current, -STATE_LIMIT, out=self._mask), alpha=2 * STATE_LIMIT)
        voltage.copy_(decayed(voltage, self._keep_voltage, out=self._product)).add_(current)
        if drive is not None:
            voltage.add_(drive)
        if self._saturates:
            voltage.clamp_(1 - STATE_LIMIT, STATE_LIMIT - 1)

    def fired(self, out: torch.Tensor) -> torch.Tensor:
        """Where the voltage is above the threshold."""
        return torch.gt(self.voltage, self._threshold, out=out)

    def reset(self, fired: torch.Tensor) -> None:
        """Put the voltage of neurons that fired to 0."""
        self.voltage.mul_(torch.eq(fired, 0, out=self._mask))  # faster than to fill in zeros where it is true


def resonate_and_fire(neuron: ResonatorNeuron, real_input: torch.Tensor, imag_input: torch.Tensor) -> torch.Tensor:
    """Loihi's resonate-and-fire neurons (``lava/proc/rf``, ``lava/proc/rf_iz``) over ``(T, N, C)``, step by step.

    Args:
        neuron: parameters of the neurons.
        real_input, imag_input: weighted sums into the real and the imaginary part of the state.

    Returns:
        Spikes, uint8.
    """
    loops = compiled_loops(real_input.device)
    if loops is None or {real_input.dtype, imag_input.dtype} != {torch.int32}:  # others are beyond it, or on a GPU
        return _rotate_step_by_step(neuron, real_input, imag_input)
    real, imag = (part.transpose(0, 1).contiguous() for part in (real_input, imag_input))
    spikes = torch.empty_like(real, dtype=torch.uint8)
    resonators = loops.Resonators(
        sin=_rotated(neuron.sin_decay, real[:1, 0]).flatten().numpy(),
        cos=_rotated(neuron.cos_decay, real[:1, 0]).flatten().numpy(),
        threshold=float(neuron.threshold * ALIGNMENT),
        phase=neuron.reset == "phase",
        scale=ALIGNMENT,
    )
    loops.resonate_and_fire(resonators, *(part.flatten(2).numpy() for part in (real, imag, spikes)))
    return spikes.transpose(0, 1)


@one_thread()
def _rotate_step_by_step(neuron: ResonatorNeuron, real_input: torch.Tensor, imag_input: torch.Tensor) -> torch.Tensor:
    rotation = Rotation(neuron, torch.zeros_like(real_input[0], dtype=torch.float64))
    spikes = torch.empty_like(real_input, dtype=torch.uint8)
    for fired, real, imag in zip(spikes, real_input, imag_input, strict=True):
        fired.copy_(rotation.settle(*rotation.advance(real.double() * ALIGNMENT, imag.double() * ALIGNMENT)))
    return spikes


class Rotation:
    """The complex states of resonators: each step rotates them, lets them decay, and adds the input."""

    def __init__(self, neuron: ResonatorNeuron, rest: torch.Tensor) -> None:
        self._phase = neuron.reset == "phase"
        self._threshold = float(neuron.threshold * ALIGNMENT)
        self._sin, self._cos = _rotated(neuron.sin_decay, rest), _rotated(neuron.cos_decay, rest)
        self._real = self._imag = rest

    def advance(self, real_input: torch.Tensor, imag_input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both parts of the next state, before they are clipped."""
        real = decayed(self._real, self._cos) - decayed(self._imag, self._sin) + real_input
        imag = decayed(self._real, self._sin) + decayed(self._imag, self._cos) + imag_input
        return real, imag

    def settle(self, real: torch.Tensor, imag: torch.Tensor) -> torch.Tensor:
        """Clip both parts and make them the state, reset where neurons fire; whether each neuron fires."""
        real, imag = (part.clamp(1 - STATE_LIMIT, STATE_LIMIT - 1) for part in (real, imag))
        if self._phase:
            fired = (real >= self._threshold) & (imag >= 0) & (self._imag < 0)
        else:
            fired = imag >= self._threshold
            real, imag = real.masked_fill(fired, 0), imag.masked_fill(fired, self._threshold - 1)
        self._real, self._imag = real, imag
        return fired


def _rotated(decay: IntArray, state: torch.Tensor) -> torch.Tensor:
    """The share of a state that one part of the rotation makes of it in a step."""
    return per_channel(decay, state) / UNITY_DECAY


def sigma_delta(
    neuron: SigmaDeltaNeuron,
    bias: IntArray | None,
    bias_start: int,
    weighted: torch.Tensor,
    fraction_bits: int = MESSAGE_BITS,
) -> torch.Tensor:
    """Sigma-delta neurons (``lava/proc/sdn``) over ``(T, N, C, ...)``, int32, which wraps as in Lava.

    A message's fraction has ``fraction_bits``, by which threshold and bias are shifted up to meet the sums.
    """
    if not neuron.sends:
        return weighted.cumsum(0, dtype=torch.int32)
    drive = _message_drive(bias, weighted[0], fraction_bits)
    threshold = neuron.threshold << fraction_bits
    loops = compiled_loops(weighted.device)
    if loops is not None:
        by_sample = weighted.transpose(0, 1).contiguous()
        sent = torch.empty_like(by_sample)
        arrays = drive[0].flatten().numpy(), by_sample.flatten(2).numpy(), sent.flatten(2).numpy()
        loops.sigma_delta(arrays[0], bias_start, threshold, ALIGNMENT_BITS, *arrays[1:])
        return sent.transpose(0, 1)
    sums = weighted.cumsum(0, dtype=torch.int32)
    sums[bias_start:] += drive
    return send_changes(sums.clamp_(min=0), threshold) >> ALIGNMENT_BITS


def _message_drive(bias: IntArray | None, state: torch.Tensor, fraction_bits: int) -> torch.Tensor:
    """What a bias adds to the sums of messages."""
    return torch.zeros_like(state) if bias is None else per_channel(bias << fraction_bits, state).to(state.dtype)


def send_changes(values: torch.Tensor, threshold: int) -> torch.Tensor:
    """The changes of int32 along their first axis that reach a threshold; smaller ones add to the residue."""
    loops = compiled_loops(values.device)
    if loops is None:
        return _changes_step_by_step(values, threshold)
    by_sample = values.transpose(0, 1).contiguous()
    sent = torch.empty_like(by_sample)
    loops.send_changes(by_sample.flatten(2).numpy(), threshold, sent.flatten(2).numpy())
    return sent.transpose(0, 1)


@one_thread()
def _changes_step_by_step(values: torch.Tensor, threshold: int) -> torch.Tensor:
    sent = torch.empty_like(values)
    before = residue = torch.zeros_like(values[0])
    for value, message in zip(values, sent, strict=True):
        change = value - before + residue
        message.copy_(change.masked_fill(change.abs() < threshold, 0))
        before, residue = value, change - message
    return sent


def decayed(state: torch.Tensor, keep: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """What is left of a state after a step, float64, cut off towards zero as in Lava."""
    return torch.mul(state, keep, out=out).trunc_()


def kept(decay: IntArray, state: torch.Tensor) -> torch.Tensor:
    """The share of a state that is left after a step."""
    return per_channel(UNITY_DECAY - decay, state) / UNITY_DECAY


def per_channel(values: IntArray, state: torch.Tensor) -> torch.Tensor:
    """One value, or one per channel, for each neuron of a state ``(N, C, ...)``, float64."""
    tensor = torch.as_tensor(values, dtype=torch.float64, device=state.device)
    return tensor.reshape(-1, *[1] * (state.dim() - 2)).expand_as(state).contiguous()


def _may_wrap(synaptic_input: torch.Tensor, neuron: CubaNeuron, scale: int) -> bool:
    """Whether a current could leave 24 bits: the sum of a geometric series bounds it, and the number of steps."""
    low, high = torch.aminmax(synaptic_input)
    peak = max(float(high), -float(low)) * scale
    decay = int(neuron.current_decay.min())
    steps = len(synaptic_input) if decay == 0 else min(len(synaptic_input), UNITY_DECAY / decay)
    return peak * steps >= STATE_LIMIT
