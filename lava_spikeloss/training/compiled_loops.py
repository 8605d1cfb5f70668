"""The loops over time of SLAYER's neurons, compiled by numba for the CPU: bit for bit what lava-dl's Python computes.

Importing this module needs numba. Rows are the neurons of all samples; arrays are written in place.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from lava_spikeloss.compiling import compiled

__all__ = [
    "WHOLE",
    "adapt",
    "add_weights",
    "count_spikes",
    "decay_gradient",
    "integrate",
    "integrate_backward",
    "recurrent_spikes",
    "resonate",
    "resonate_backward",
    "send_changes",
    "turn_gradient",
]

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_DECAY_BITS = 12
WHOLE = 1 << _DECAY_BITS  # decays count in 4096ths: one of 4096 leaves nothing of a state
_BLOCK = 64  # steps whose sums are kept side by side, in the processor's cache
_PIECE = 2**12  # values to count before looking whether there were others than 0 and 1
_compiled = partial(compiled, error_model="numpy")  # a division by zero is infinite, as in torch


@_compiled
def _decayed(state: Any, kept: Any) -> Any:
    """A state times ``kept / WHOLE``, cut off towards zero; what exceeds 64 bits wraps as in lava-dl."""
    product = state * kept
    return product >> _DECAY_BITS if product > 0 else -(-product >> _DECAY_BITS)


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
def decay_gradient(
    gradient: Floats,
    states: Floats,
    kept: Floats,
    start: Floats,
    scale: np.float32,
    highest_silent: int,
    sums: Doubles,
) -> None:
    """Write each row's derivative by its decay, in units of ``1 / 4096``, to ``sums``; spikes are held at their steps.

    Where a neuron fires, the next step starts at zero, so that nothing later depends on what came before.
    """
    for row in range(len(gradient)):
        later, total = 0.0, 0.0
        for step in range(gradient.shape[1] - 1, -1, -1):
            fires = np.rint(states[row, step] * scale) > highest_silent
            later = gradient[row, step] + (0.0 if fires else kept[row] * later)
            before = states[row, step - 1] if step > 0 else start[row]
            reset = step > 0 and np.rint(before * scale) > highest_silent
            total -= 0.0 if reset else later * before
        sums[row] = total / WHOLE


@_compiled
def _add_rows(weight: Floats, active: npt.NDArray[np.int32], total: Floats) -> None:
    """Write the sum of the active rows of ``weight`` to ``total``, in another order than torch: it has to be exact."""
    total[:] = 0
    whole = len(active) - len(active) % 4
    for place in range(0, whole, 4):  # by four, so that the total is read and written a quarter as often
        first, second = weight[active[place]], weight[active[place + 1]]
        third, fourth = weight[active[place + 2]], weight[active[place + 3]]
        for output in range(len(total)):
            total[output] += first[output] + second[output] + third[output] + fourth[output]
    for place in range(whole, len(active)):
        row = weight[active[place]]
        for output in range(len(total)):
            total[output] += row[output]


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
    """Write the voltages ``(T, N, C)`` and spikes ``(N, C, T)`` of neurons that feed each other.

    Inputs are ``(N, C, T)`` too. ``weight`` is ``(C, C)``, from the neuron in its row, ``kept`` ``(2, C)`` what is kept
    of current and voltage in a step, of 4096, and ``states`` ``(2, N, C)`` holds both, before and after. Neurons lie
    side by side, so that the processor takes several at once.
    """
    samples, size, steps = inputs.shape
    frames, fired = np.empty((steps, size), np.float32), np.empty((steps, size), np.float32)
    for sample in range(samples):
        current, voltage = states[0, sample], states[1, sample]
        feedback, active = np.zeros(size, np.float32), np.empty(size + 1, np.int32)
        for index in range(size):
            for step in range(steps):
                frames[step, index] = inputs[sample, index, step]
        for step in range(steps):
            frame, reached = frames[step], voltages[step, sample]
            for index in range(size):
                drive = frame[index] + feedback[index]
                u = _decayed(np.int64(current[index] * scale), kept[0, index]) + np.int64(drive * scale)
                current[index] = np.float32(u) / scale
                v = _decayed(np.int64(voltage[index] * scale), kept[1, index]) + np.int64(current[index] * scale)
                reached[index] = np.float32(v) / scale
                fires = reached[index] >= threshold
                fired[step, index] = fires
                voltage[index] = 0 if fires else reached[index]
            count = 0
            for index in range(size):
                active[count] = index
                count += fired[step, index] != 0
            _add_rows(weight, active[:count], feedback)
        for index in range(size):
            for step in range(steps):
                spikes[sample, index, step] = fired[step, index]


@_compiled
def send_changes(
    threshold: Floats,
    before: Floats,
    residual: Floats,
    inputs: Floats,
    changes: Floats | None,
    sent: Floats,
    left: Floats,
) -> None:
    """Write what changes in each row ``(rows, T)`` to ``changes``, and of that what reaches the threshold to ``sent``.

    A row starts with the value ``before`` and a ``residual`` that was not sent; what is not sent at its end goes to
    ``left``. Where nobody asks for the changes, they are not kept.
    """
    for row in range(len(inputs)):
        old, rest = before[row], residual[row]
        for step in range(inputs.shape[1]):
            change = inputs[row, step] - old + rest
            message = change if abs(change) >= threshold[row] else np.float32(0) * change
            if changes is not None:
                changes[row, step] = change
            sent[row, step] = message
            old, rest = inputs[row, step], change - message
        left[row] = rest


@_compiled
def count_spikes(values: Floats) -> int:
    """How many of the values are 1, if all others are 0; else -1."""
    count = 0
    for first in range(0, values.size, _PIECE):
        piece, others = values[first : first + _PIECE], False
        for index in range(len(piece)):  # through the index numba compares many at once, in a quarter of the time
            count += piece[index] == 1
            others |= (piece[index] != 0) & (piece[index] != 1)
        if others:
            return -1
    return count


@_compiled
def add_weights(spikes: Floats, weight: Floats, sums: Floats) -> None:
    """Write the product of ``(in, out)`` weights and the spikes ``(N, in, T)`` to ``sums``, ``(N, out, T)``."""
    samples, inputs, steps = spikes.shape
    outputs = weight.shape[1]
    active, counts = np.empty((steps, inputs + 1), np.int32), np.empty(steps, np.int64)
    block = np.empty((_BLOCK, outputs), np.float32)
    for sample in range(samples):
        counts[:] = 0
        for index in range(inputs):
            for step in range(steps):  # without a branch, which the processor would mispredict
                active[step, counts[step]] = index
                counts[step] += spikes[sample, index, step] != 0
        for first in range(0, steps, _BLOCK):
            length = min(_BLOCK, steps - first)
            for place in range(length):
                _add_rows(weight, active[first + place, : counts[first + place]], block[place])
            for output in range(outputs):
                for place in range(length):
                    sums[sample, output, first + place] = block[place, output]


@_compiled
def resonate(
    inputs: tuple[Floats, Floats],
    turn: tuple[Integers, Integers],
    start: tuple[Floats, Floats],
    scale: np.float32,
    resets: bool,
    threshold: np.float32,
    reset_to: np.float32,
    states: tuple[Floats, Floats],
) -> None:
    """Write the real and imaginary states ``(rows, T)`` of resonators to ``states``.

    ``turn`` is the sine and cosine by which each row turns and decays in a step, of 4096; ``start`` its states before.
    Neurons that reset do so where the imaginary state reaches the threshold, both in units of ``1 / scale``.
    """
    steps = inputs[0].shape[1]
    for row in range(len(inputs[0])):
        sin, cos = turn[0][row], turn[1][row]
        x, y = np.int64(start[0][row] * scale), np.int64(start[1][row] * scale)
        for step in range(steps):
            real = _decayed(x, cos) - _decayed(y, sin) + np.int64(inputs[0][row, step] * scale)
            imag = _decayed(x, sin) + _decayed(y, cos) + np.int64(inputs[1][row, step] * scale)
            states[0][row, step] = np.float32(real) / scale
            states[1][row, step] = np.float32(imag) / scale
            fires = resets and np.float32(imag) >= threshold
            x = np.int64(0) if fires else real
            y = np.int64(reset_to if fires else np.float32(imag)) if resets else imag  # through float32, as in lava-dl


@_compiled
def resonate_backward(
    gradients: tuple[Floats, Floats], turn: tuple[Floats, Floats], summed: tuple[Floats, Floats]
) -> None:
    """Write the gradients of the inputs, given those of the states, all ``(rows, T)``, to ``summed``."""
    steps = gradients[0].shape[1]
    for row in range(len(gradients[0])):
        sin, cos = turn[0][row], turn[1][row]
        real, imag = gradients[0][row, steps - 1], gradients[1][row, steps - 1]
        summed[0][row, steps - 1], summed[1][row, steps - 1] = real, imag
        for step in range(steps - 2, -1, -1):
            later = real
            real = cos * later + sin * imag + gradients[0][row, step]
            imag = -sin * later + cos * imag + gradients[1][row, step]
            summed[0][row, step], summed[1][row, step] = real, imag


@_compiled
def turn_gradient(
    gradients: tuple[Floats, Floats],
    states: tuple[Floats, Floats],
    turn: tuple[Floats, Floats],
    start: tuple[Floats, Floats],
    scale: np.float32,
    resets: bool,
    threshold: np.float32,
    reset_to: np.float32,
    sums: tuple[Doubles, Doubles],
) -> None:
    """Write each row's derivatives by sine and cosine, in units of ``1 / 4096``, to ``sums``; spikes stay in place.

    Where a neuron fires, the next step starts from a fixed state, which does not depend on what came before.
    """
    for row in range(len(gradients[0])):
        sin, cos = turn[0][row], turn[1][row]
        real, imag, of_sin, of_cos = 0.0, 0.0, 0.0, 0.0
        for step in range(gradients[0].shape[1] - 1, -1, -1):
            goes_on = not (resets and np.rint(states[1][row, step] * scale) >= threshold)
            later = real if goes_on else 0.0
            imag = imag if goes_on else 0.0
            real = cos * later + sin * imag + gradients[0][row, step]
            imag = -sin * later + cos * imag + gradients[1][row, step]
            x = states[0][row, step - 1] if step > 0 else start[0][row]
            y = states[1][row, step - 1] if step > 0 else start[1][row]
            if step > 0 and resets and np.rint(y * scale) >= threshold:
                x, y = np.float32(0), reset_to / scale
            of_sin += imag * x - real * y
            of_cos += real * x + imag * y
        sums[0][row], sums[1][row] = of_sin / WHOLE, of_cos / WHOLE


@_compiled
def adapt(
    inputs: Floats,
    phase: tuple[Floats, Floats],
    kept: tuple[Integers, Integers],
    start: tuple[Floats, Floats],
    step_up: int,
    rest: int,
    scale: np.float32,
    phased: bool,
    states: tuple[Floats, Floats],
) -> None:
    """Write thresholds and refractory states ``(rows, T)`` that rise with each spike to ``states``.

    ``kept`` and ``start`` are of both, as for :func:`integrate`; a threshold decays to ``rest`` and rises by
    ``step_up``, in units of ``1 / scale``. Neurons that are phased fire only where their ``phase``, of which the second
    array is the state before, passes zero from below.
    """
    for row in range(len(inputs)):
        level, refractory = np.int64(start[0][row] * scale), np.int64(start[1][row] * scale)
        before = np.int64(phase[1][row] * scale)
        for step in range(inputs.shape[1]):
            refractory = _decayed(refractory, kept[1][row])
            level = _decayed(level - rest, kept[0][row]) + rest
            states[0][row, step] = np.float32(level) / scale
            states[1][row, step] = np.float32(refractory) / scale
            now = np.int64(phase[0][row, step] * scale)
            fires = np.int64(inputs[row, step] * scale) >= level + refractory
            if fires and (not phased or (now >= 0 and before < 0)):
                refractory += 2 * level
                level += step_up
            before = now
