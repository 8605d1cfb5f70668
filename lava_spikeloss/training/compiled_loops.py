"""The loops over time of SLAYER's neurons, compiled by numba for the CPU: bit for bit what lava-dl's Python computes.

Importing this module needs numba. Rows are the neurons of all samples; arrays are written in place.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lava_spikeloss.compiling import compiled

__all__ = ["integrate", "integrate_backward", "recurrent_spikes"]

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
_compiled = partial(compiled, error_model="numpy")  # a division by zero is infinite, as in torch


@_compiled
def _decayed(state: Any, kept: Any) -> Any:
    """A state times ``kept / 4096``, cut off towards zero; what exceeds 64 bits wraps as in lava-dl."""
    product = state * kept
    return product >> 12 if product > 0 else -(-product >> 12)


@_compiled
def integrate(
    inputs: Floats, kept: Integers, start: Floats, scale: np.float32, highest_silent: int, states: Floats
) -> None:
    """Write the states ``(rows, T)`` of leaky integrators to ``states``.

    ``kept`` is what each row keeps of its state in a step, of 4096; ``start`` its state before. Above
    ``highest_silent``, in units of ``1 / scale``, a neuron fires, and the next step starts at zero.
    """
    steps = inputs.shape[1]
    for row in range(len(inputs)):
        old = np.int64(start[row] * scale)
        for step in range(steps):
            new = _decayed(old, kept[row]) + np.int64(inputs[row, step] * scale)
            states[row, step] = np.float32(new) / scale
            old = new if new <= highest_silent else np.int64(0)


@_compiled
def integrate_backward(gradient: Floats, kept: Floats, summed: Floats) -> None:
    """Write the gradient of the inputs, given that of the states, both ``(rows, T)``, to ``summed``."""
    steps = gradient.shape[1]
    for row in range(len(gradient)):
        later = gradient[row, steps - 1]
        summed[row, steps - 1] = later
        for step in range(steps - 2, -1, -1):
            later = kept[row] * later + gradient[row, step]
            summed[row, step] = later


@_compiled
def recurrent_spikes(
    inputs: Floats,
    weight: Floats,
    kept: Integers,
    states: Floats,
    scale: np.float32,
    threshold: np.float32,
    voltages: Floats,
    spikes: Floats,
) -> None:
    """Write the voltages and spikes ``(N, C, T)`` of neurons that feed each other to ``voltages`` and ``spikes``.

    ``weight`` is ``(C, C)``, from the neuron in its row, ``kept`` ``(2, C)`` what is kept of current and voltage in a
    step, of 4096, and ``states`` ``(2, N, C)`` holds both, before and after.
    """
    samples, size, steps = inputs.shape
    for sample in range(samples):
        current, voltage = states[0, sample], states[1, sample]
        feedback = np.zeros(size, np.float32)
        for step in range(steps):
            for index in range(size):
                drive = inputs[sample, index, step] + feedback[index]
                u = _decayed(np.int64(current[index] * scale), kept[0, index]) + np.int64(drive * scale)
                current[index] = np.float32(u) / scale
                v = _decayed(np.int64(voltage[index] * scale), kept[1, index]) + np.int64(current[index] * scale)
                voltage[index] = np.float32(v) / scale
                voltages[sample, index, step] = voltage[index]
            feedback[:] = 0
            for index in range(size):
                fires = voltage[index] >= threshold
                spikes[sample, index, step] = fires
                if fires:
                    voltage[index] = 0
                    feedback += weight[index]
