"""The reference simulator's inner loops, compiled by numba for the CPU; they release the GIL.

Importing this module needs numba. Where each is called, the same is there in torch, for GPUs and where numba is not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lava_spikeloss.compiling import compiled
from netx_export.network.fixed_point import STATE_LIMIT

__all__ = [
    "Feedback",
    "Neurons",
    "Resonators",
    "Taps",
    "add_messages",
    "add_weights",
    "convolve_events",
    "delay",
    "integrate_and_fire",
    "place",
    "resonate_and_fire",
    "send_changes",
    "sigma_delta",
]

_WRAP = np.int32(2 * STATE_LIMIT)


@compiled
def _find(events: npt.NDArray[Any], active: npt.NDArray[np.int32]) -> int:
    """Write the places of spikes or messages to the front of ``active``, which has one place more; their number."""
    count = 0
    for index in range(len(events)):  # without a branch, which the processor would mispredict
        active[count] = index
        count += events[index] != 0
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
def add_messages(messages: npt.NDArray[np.int32], weight: npt.NDArray[Any], sums: npt.NDArray[np.int32]) -> None:
    """Write the product of ``(rows, in)`` messages and ``(in, out)`` integer weights to ``sums``, modulo 2**32."""
    active = np.empty(messages.shape[1] + 1, np.int32)
    for row in range(len(messages)):
        total = sums[row]
        total[:] = 0
        for place in range(_find(messages[row], active)):
            message, weights = messages[row, active[place]], weight[active[place]]
            for output in range(len(total)):
                total[output] += np.int32(message * weights[output])


class Taps(NamedTuple):
    """Along one axis of an image: which taps of a kernel a pixel meets, and where in the result each adds to.

    Attributes:
        met: how many taps each pixel meets.
        weight: for each pixel its taps, as steps in a kernel's flat weights.
        target: likewise the places in the result, as steps in its flat numbers.
    """

    met: npt.NDArray[np.uint64]  # all of them unsigned: numba looks whether a signed index is negative
    weight: npt.NDArray[np.uint64]
    target: npt.NDArray[np.uint64]


@compiled
def convolve_events(
    events: npt.NDArray[Any],
    taps: tuple[Taps, Taps],
    weight: npt.NDArray[Any],
    groups: int,
    sums: npt.NDArray[np.int32],
) -> None:
    """Write the convolutions of ``(rows, C, H, W)`` events to ``sums``, ``(rows, out, pixels)``, wrapped at 24 bits.

    ``weight`` holds a flat kernel ``(H, W, outputs of its group)`` of each input channel, ``taps`` those of both axes.
    The sums have to fit int32.
    """
    channels, height, width = events.shape[1:]
    outputs, pixels = sums.shape[1:]
    together = np.uint64(outputs // groups)
    vertical, horizontal = taps
    total, active = np.empty(pixels * outputs, np.int32), np.empty(width + 1, np.int32)
    for row in range(len(events)):
        total[:] = 0
        for channel in range(channels):
            kernel, first = weight[channel], np.uint64(channel // (channels // groups)) * together
            for y in range(height):
                line = events[row, channel, y]
                for place in range(_find(line, active)):
                    x = active[place]
                    for i in range(vertical.met[y]):
                        for j in range(horizontal.met[x]):
                            source = vertical.weight[y, i] + horizontal.weight[x, j]
                            target = vertical.target[y, i] + horizontal.target[x, j] + first
                            for output in range(together):
                                total[target + output] += np.int32(line[x] * kernel[source + output])
        by_pixel = total.reshape(pixels, outputs)
        for output in range(outputs):
            for pixel in range(pixels):
                sums[row, output, pixel] = (by_pixel[pixel, output] + STATE_LIMIT) % (2 * STATE_LIMIT) - STATE_LIMIT


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
def place(events: npt.NDArray[Any], shift: npt.NDArray[np.int64], unit: int, target: npt.NDArray[Any]) -> None:
    """Write ``(N, T, C)`` events in their ``unit`` to ``(N, C, T)`` zeros of ``target``, each channel shifted."""
    samples, duration, channels = events.shape
    active = np.empty(channels + 1, np.int32)
    for sample in range(samples):
        for step in range(duration):
            for index in range(_find(events[sample, step], active)):
                channel = active[index]
                place = step + shift[channel]
                if 0 <= place < target.shape[2]:
                    target[sample, channel, place] = events[sample, step, channel] / unit


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


class Resonators(NamedTuple):
    """The resonators of a layer, each array ``(C,)``.

    Attributes:
        sin, cos: what is left of the state after a step, and turns with it.
        threshold: in units of the state.
        phase: whether a neuron fires as its phase passes 0, and is not reset; else as its imaginary part is high.
        scale: what aligns the synaptic input with the state.
    """

    sin: npt.NDArray[np.float64]
    cos: npt.NDArray[np.float64]
    threshold: float
    phase: bool
    scale: int


@compiled
def resonate_and_fire(
    neurons: Resonators,
    real_input: npt.NDArray[np.int32],
    imag_input: npt.NDArray[np.int32],
    spikes: npt.NDArray[np.uint8],
) -> None:
    """Write the spikes ``(N, T, C)`` of resonators with inputs ``(N, T, C)``: ``Rotation`` in another form."""
    samples, steps, size = spikes.shape
    for sample in range(samples):
        state = np.zeros(size), np.zeros(size)
        for step in range(steps):
            rows = real_input[sample, step], imag_input[sample, step], spikes[sample, step]
            _rotate(neurons, state, *rows)


@compiled
def _rotate(
    neurons: Resonators,
    state: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    real_input: npt.NDArray[np.int32],
    imag_input: npt.NDArray[np.int32],
    fired: npt.NDArray[np.uint8],
) -> None:
    sin, cos, threshold, phase, scale = neurons
    reals, imags = state
    low, high = float(1 - STATE_LIMIT), float(STATE_LIMIT - 1)
    for index in range(len(fired)):
        real, before = reals[index], imags[index]
        turned = np.trunc(real * cos[index]) - np.trunc(before * sin[index]) + float(real_input[index]) * scale
        imag = np.trunc(real * sin[index]) + np.trunc(before * cos[index]) + float(imag_input[index]) * scale
        turned, imag = min(max(turned, low), high), min(max(imag, low), high)
        if phase:
            fire = (turned >= threshold) & (imag >= 0.0) & (before < 0.0)
            reals[index], imags[index] = turned, imag
        else:
            fire = imag >= threshold
            reals[index], imags[index] = (0.0 if fire else turned), (threshold - 1.0 if fire else imag)
        fired[index] = fire


@compiled
def send_changes(values: npt.NDArray[np.int32], threshold: int, sent: npt.NDArray[np.int32]) -> None:
    """Write the changes of ``(N, T, C)`` values that reach a threshold to ``sent``."""
    samples, steps, size = values.shape
    for sample in range(samples):
        before, residue = np.zeros(size, np.int32), np.zeros(size, np.int32)
        for step in range(steps):
            _send_changes(values[sample, step], threshold, before, residue, sent[sample, step])


@compiled
def _send_changes(
    values: npt.NDArray[np.int32],
    threshold: int,
    before: npt.NDArray[np.int32],
    residue: npt.NDArray[np.int32],
    sent: npt.NDArray[np.int32],
) -> None:
    for index in range(len(values)):
        change = np.int32(values[index] - before[index] + residue[index])
        size = np.int32(-change if change < 0 else change)  # the lowest int32 stays negative, as in Lava
        reaches = size >= threshold
        sent[index] = change if reaches else 0
        residue[index] = 0 if reaches else change
        before[index] = values[index]


@compiled
def sigma_delta(
    drive: npt.NDArray[np.int32],
    drive_start: int,
    threshold: int,
    shift: int,
    weighted: npt.NDArray[np.int32],
    sent: npt.NDArray[np.int32],
) -> None:
    """Write the messages of sigma-delta neurons with weighted sums ``(N, T, C)`` to ``sent``, shifted down.

    ``drive`` is what a bias adds to the sums from the step ``drive_start`` on.
    """
    samples, steps, size = weighted.shape
    values = np.empty(size, np.int32)
    for sample in range(samples):
        sums, before, residue = np.zeros(size, np.int32), np.zeros(size, np.int32), np.zeros(size, np.int32)
        for step in range(steps):
            driven = np.int32(step >= drive_start)
            for index in range(size):
                sums[index] += weighted[sample, step, index]  # int32 wraps as Lava's does
                values[index] = max(np.int32(sums[index] + driven * drive[index]), np.int32(0))
            _send_changes(values, threshold, before, residue, sent[sample, step])
            sent[sample, step] >>= shift
