"""The reference simulator's inner loops, compiled by numba for the CPU; they release the GIL.

Importing this module needs numba. Where each is called, the same is there in torch, for GPUs and where numba is not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lava_spikeloss.compiling import compiled
from netx_export.network.fixed_point import STATE_LIMIT

__all__ = ["Feedback", "Neurons", "add_weights", "delay", "integrate_and_fire", "place_spikes"]

_WRAP = np.int32(2 * STATE_LIMIT)


@compiled
def _find(spikes: npt.NDArray[np.uint8], active: npt.NDArray[np.int32]) -> int:
    """Write the places of spikes to the front of ``active``, which has one place more; their number."""
    count = 0
    for index in range(len(spikes)):  # without a branch, which rare spikes would mislead
        active[count] = index
        count += spikes[index]
    return count


@compiled
def _add_rows(
    spikes: npt.NDArray[np.uint8],
    weight: npt.NDArray[Any],
    active: npt.NDArray[np.int32],
    total: npt.NDArray[np.int32],
) -> None:
    """Write the sum of the rows of ``weight`` whose inputs spike to ``total``; ``active`` is as in :func:`_find`."""
    total[:] = 0
    count = _find(spikes, active)
    whole = count - count % 4
    for place in range(0, whole, 4):  # by four, so that the total is read and written a quarter as often
        first, second = weight[active[place]], weight[active[place + 1]]
        third, fourth = weight[active[place + 2]], weight[active[place + 3]]
        for output in range(len(total)):
            total[output] += (
                np.int32(first[output]) + np.int32(second[output]) + np.int32(third[output]) + np.int32(fourth[output])
            )
    for place in range(whole, count):
        row = weight[active[place]]
        for output in range(len(total)):
            total[output] += row[output]


@compiled
def add_weights(spikes: npt.NDArray[np.uint8], weight: npt.NDArray[Any], sums: npt.NDArray[np.int32]) -> None:
    """Write the product of ``(rows, in)`` spikes and ``(in, out)`` integer weights to ``sums``."""
    active = np.empty(spikes.shape[1] + 1, np.int32)
    for row in range(len(spikes)):
        _add_rows(spikes[row], weight, active, sums[row])


@compiled
def delay(values: npt.NDArray[Any], steps: npt.NDArray[np.int64], delayed: npt.NDArray[Any]) -> None:
    """Write ``(N, T, C)`` values, each channel later by its own number of steps, zeros in front, to ``delayed``."""
    samples, duration, channels = values.shape
    for sample in range(samples):
        for step in range(duration):
            for channel in range(channels):
                source = step - steps[channel]
                delayed[sample, step, channel] = values[sample, source, channel] if source >= 0 else 0


@compiled
def place_spikes(spikes: npt.NDArray[np.uint8], shift: npt.NDArray[np.int64], target: npt.NDArray[np.uint8]) -> None:
    """Set ``(N, C, T)`` zeros of ``target`` to 1 where ``(N, T, C)`` spikes are after a shift of each channel."""
    samples, duration, channels = spikes.shape
    active = np.empty(channels + 1, np.int32)
    for sample in range(samples):
        for step in range(duration):
            for index in range(_find(spikes[sample, step], active)):
                channel = active[index]
                place = step + shift[channel]
                if 0 <= place < target.shape[2]:
                    target[sample, channel, place] = 1


class Neurons(NamedTuple):
    """The neurons of a layer, each array ``(C,)``.

    Attributes:
        keep_current, keep_voltage: what is left of the states after a step.
        threshold: in units of the states.
        drive: what a bias adds to the voltage.
        drive_start: the step from which on it does.
        scale: what aligns the synaptic input with the states.
    """

    keep_current: npt.NDArray[np.float64]
    keep_voltage: npt.NDArray[np.float64]
    threshold: int
    drive: npt.NDArray[np.int32]
    drive_start: int
    scale: int


class Feedback(NamedTuple):
    """What the spikes of one step add to the synaptic input of the next.

    Attributes:
        weight: ``(C, C)``, from each neuron in its row, or ``(0, 0)`` without recurrence.
        shift: bits by which the sums are shifted down.
    """

    weight: npt.NDArray[Any]
    shift: int


@compiled
def integrate_and_fire(
    neurons: Neurons, feedback: Feedback, synaptic_input: npt.NDArray[np.int32], spikes: npt.NDArray[np.uint8]
) -> None:
    """Write the spikes ``(N, T, C)`` of neurons with an input ``(N, T, C)``: ``CubaStates`` in another form."""
    samples, steps, size = synaptic_input.shape
    recurrent, active = np.zeros(size, np.int32), np.empty(size + 1, np.int32)
    for sample in range(samples):
        current = np.zeros(size, np.int32)
        voltage = np.zeros(size, np.int32)
        recurrent[:] = 0
        for step in range(steps):
            frame, fired = synaptic_input[sample, step], spikes[sample, step]
            driven = np.int32(step >= neurons.drive_start)
            for index in range(size):
                incoming = np.int32(np.int32(frame[index] + recurrent[index]) * neurons.scale)
                # A cast cuts off towards zero, as Lava's decay does; int32 wraps as Lava's does.
                u = np.int32(np.int32(current[index] * neurons.keep_current[index]) + incoming)
                u = np.int32(u + _WRAP * (np.int32(u <= -STATE_LIMIT) - np.int32(u > STATE_LIMIT)))
                v = np.int32(np.int32(voltage[index] * neurons.keep_voltage[index]) + u + driven * neurons.drive[index])
                v = min(max(v, np.int32(1 - STATE_LIMIT)), np.int32(STATE_LIMIT - 1))
                fire = v > neurons.threshold
                current[index] = u
                voltage[index] = np.int32(0) if fire else v
                fired[index] = fire
            if len(feedback.weight) > 0:
                _add_rows(fired, feedback.weight, active, recurrent)
                recurrent >>= feedback.shift
