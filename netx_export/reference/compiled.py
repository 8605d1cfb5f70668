"""The reference simulator's two inner loops, compiled by numba for the CPU; they release the GIL.

Importing this module needs numba. The same loops in torch are in
:mod:`~netx_export.reference.synapses` and :mod:`~netx_export.reference.neurons`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["add_weights", "integrate_and_fire"]

_STATE_LIMIT = 2**23


def _compile(loop: Callable[..., None]) -> Any:
    try:
        return numba.njit(nogil=True, cache=True)(loop)
    except RuntimeError:  # there is no place where numba may keep what it compiled
        return numba.njit(nogil=True)(loop)


@_compile
def _add_rows(spikes: npt.NDArray[np.uint8], weight: npt.NDArray[Any], total: npt.NDArray[np.int32]) -> None:
    """Add the rows of ``weight`` whose inputs spike to ``total``."""
    active = np.empty(len(spikes) + 1, np.int32)
    count = 0
    for index in range(len(spikes)):  # without a branch, which rare spikes would mislead
        active[count] = index
        count += spikes[index]
    for place in range(0, count - 1, 2):  # in pairs, so that the total is read and written half as often
        first, second = weight[active[place]], weight[active[place + 1]]
        for output in range(len(total)):
            total[output] += np.int32(first[output]) + np.int32(second[output])
    if count % 2:
        last = weight[active[count - 1]]
        for output in range(len(total)):
            total[output] += last[output]


@_compile
def add_weights(spikes: npt.NDArray[np.uint8], weight: npt.NDArray[Any], sums: npt.NDArray[np.int32]) -> None:
    """Write the product of ``(rows, in)`` spikes and ``(in, out)`` integer weights to ``sums``."""
    sums[:] = 0
    for row in range(len(spikes)):
        _add_rows(spikes[row], weight, sums[row])


@_compile
def integrate_and_fire(
    synaptic_input: npt.NDArray[np.int32],
    keep_current: npt.NDArray[np.float64],
    keep_voltage: npt.NDArray[np.float64],
    threshold: int,
    drive: npt.NDArray[np.int32],
    drive_start: int,
    feedback: npt.NDArray[Any],
    feedback_shift: int,
    scale: int,
    spikes: npt.NDArray[np.uint8],
) -> None:
    """Loihi's current-based leaky integrate-and-fire neurons, each sample ``(T, C)`` by itself.

    Args:
        synaptic_input: ``(N, T, C)``.
        keep_current, keep_voltage: what is left of the states after a step, ``(C,)``.
        threshold: in units of the states.
        drive: what a bias adds to the voltage, ``(C,)``.
        drive_start: the step from which on it does.
        feedback: what a spike adds to the input of the next step, ``(C, C)``, or ``(0, 0)`` without recurrence.
        feedback_shift: bits by which these sums are shifted down.
        scale: what aligns the synaptic input with the states.
        spikes: the result, ``(N, T, C)``.
    """
    samples, steps, neurons = synaptic_input.shape
    recurrent = np.zeros(neurons, np.int32)
    for sample in range(samples):
        current = np.zeros(neurons, np.int32)
        voltage = np.zeros(neurons, np.int32)
        recurrent[:] = 0
        for step in range(steps):
            frame, fired = synaptic_input[sample, step], spikes[sample, step]
            driven = step >= drive_start
            for neuron in range(neurons):
                incoming = np.int32(frame[neuron] + recurrent[neuron])
                # A cast cuts off towards zero, as Lava's decay does; int32 wraps as Lava's does.
                u = np.int32(np.int32(current[neuron] * keep_current[neuron]) + np.int32(incoming * scale))
                if u > _STATE_LIMIT:
                    u = np.int32(u - 2 * _STATE_LIMIT)
                elif u <= -_STATE_LIMIT:
                    u = np.int32(u + 2 * _STATE_LIMIT)
                v = np.int32(np.int32(voltage[neuron] * keep_voltage[neuron]) + u + driven * drive[neuron])
                v = np.int32(min(max(int(v), 1 - _STATE_LIMIT), _STATE_LIMIT - 1))
                fire = v > threshold
                current[neuron] = u
                voltage[neuron] = 0 if fire else v
                fired[neuron] = fire
            if len(feedback) > 0:
                recurrent[:] = 0
                _add_rows(fired, feedback, recurrent)
                recurrent >>= feedback_shift
