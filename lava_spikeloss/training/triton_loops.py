"""The loops of :mod:`lava_spikeloss.training.compiled_loops` for CUDA: kernels that Triton compiles, of the same names.

A program runs one row in each of its threads. Importing this module needs Triton. The kernels keep to what means the
same in Triton's compiler and in its interpreter, from Triton 2.3 on: no division of integers, whose sign they round
differently, and no division in float32, which is not exact on a GPU. So that no product is fused with a sum, they have
to be compiled with :data:`OPTIONS`.
"""

# Triton reads the annotations of a kernel: what is a constant to it, and nothing else.

import triton
import triton.language as tl

__all__ = [
    "OPTIONS",
    "ROWS",
    "adapt",
    "decay_gradient",
    "integrate",
    "integrate_backward",
    "resonate",
    "resonate_backward",
    "send_changes",
    "turn_gradient",
]

ROWS = 32  # of a program
OPTIONS = {"num_warps": 1, "enable_fp_fusion": False}  # a thread for each row


@triton.jit
def _rows(rows, steps, size: tl.constexpr):
    """The rows of a program, which of them there are, and where the numbers of each begin."""
    row = tl.program_id(0) * size + tl.arange(0, size)
    return row, row < rows, row.to(tl.int64) * steps


@triton.jit
def _decayed(state, kept):
    """A state times ``kept / 4096``, cut off towards zero; what exceeds 64 bits wraps."""
    product = state * kept
    return tl.where(product > 0, product >> 12, 0 - ((0 - product) >> 12))


@triton.jit
def _whole(value):
    """A float as an integer, cut off towards zero; the lowest one for what 64 bits do not hold, as on x86."""
    fits = (value >= -9223372036854775808.0) & (value < 9223372036854775808.0)
    return tl.where(fits, tl.where(fits, value, 0.0).to(tl.int64), -9223372036854775808)


@triton.jit
def _over(value, scale):
    """A quotient in float32: float64 has more than twice as many bits, so that rounding it again changes nothing."""
    return (value.to(tl.float64) / scale).to(tl.float32)


@triton.jit
def _rounded(value):
    """A float32 as the nearest whole float64: above 2**23 each is whole, and 1.5 * 2**52 has no room for a fraction."""
    wide = value.to(tl.float64)
    return tl.where((value > -8388608.0) & (value < 8388608.0), wide + 6755399441055744.0 - 6755399441055744.0, wide)


@triton.jit
def integrate(inputs, kept, start, scale, highest_silent, states, rows, steps, size: tl.constexpr):
    row, there, first = _rows(rows, steps, size)
    keeps = tl.load(kept + row, mask=there)
    old = _whole(tl.load(start + row, mask=there) * scale)
    for step in range(steps):
        new = _decayed(old, keeps) + _whole(tl.load(inputs + first + step, mask=there) * scale)
        tl.store(states + first + step, _over(new.to(tl.float32), scale), mask=there)
        old = tl.where(new <= highest_silent, new, 0)


@triton.jit
def integrate_backward(gradient, kept, summed, rows, steps, size: tl.constexpr):
    row, there, first = _rows(rows, steps, size)
    last = first + (steps - 1)
    keeps = tl.load(kept + row, mask=there)
    later = tl.load(gradient + last, mask=there)
    tl.store(summed + last, later, mask=there)
    for back in range(1, steps):
        later = keeps * later + tl.load(gradient + (last - back), mask=there)
        tl.store(summed + (last - back), later, mask=there)


@triton.jit
def decay_gradient(gradient, states, kept, start, scale, highest_silent, sums, rows, steps, size: tl.constexpr):
    row, there, first = _rows(rows, steps, size)
    keeps = tl.load(kept + row, mask=there).to(tl.float64)
    later = tl.full((size,), 0.0, tl.float64)
    total = tl.full((size,), 0.0, tl.float64)
    state = tl.load(states + (first + (steps - 1)), mask=there)
    for back in range(1, steps):
        place = first + (steps - back)
        before = tl.load(states + (place - 1), mask=there)
        given = tl.load(gradient + place, mask=there).to(tl.float64)
        later = given + tl.where(_rounded(state * scale) > highest_silent, 0.0, keeps * later)
        total = total - tl.where(_rounded(before * scale) > highest_silent, 0.0, later * before.to(tl.float64))
        state = before
    given = tl.load(gradient + first, mask=there).to(tl.float64)
    later = given + tl.where(_rounded(state * scale) > highest_silent, 0.0, keeps * later)
    total = total - later * tl.load(start + row, mask=there).to(tl.float64)
    tl.store(sums + row, total * 0.000244140625, mask=there)


@triton.jit
def send_changes(threshold, before, residual, inputs, changes, sent, left, rows, steps, size: tl.constexpr):
    row, there, first = _rows(rows, steps, size)
    limit = tl.load(threshold + row, mask=there)
    old = tl.load(before + row, mask=there)
    rest = tl.load(residual + row, mask=there)
    for step in range(steps):
        value = tl.load(inputs + first + step, mask=there)
        change = value - old + rest
        message = tl.where((change >= limit) | (change <= 0.0 - limit), change, 0.0 * change)
        if changes is not None:
            tl.store(changes + first + step, change, mask=there)
        tl.store(sent + first + step, message, mask=there)
        old = value
        rest = change - message
    tl.store(left + row, rest, mask=there)


@triton.jit
def resonate(
    real_input,
    imag_input,
    sin_decay,
    cos_decay,
    real_start,
    imag_start,
    scale,
    resets: tl.constexpr,
    threshold,
    reset_to,
    real_states,
    imag_states,
    rows,
    steps,
    size: tl.constexpr,
):
    row, there, first = _rows(rows, steps, size)
    sin, cos = tl.load(sin_decay + row, mask=there), tl.load(cos_decay + row, mask=there)
    x = _whole(tl.load(real_start + row, mask=there) * scale)
    y = _whole(tl.load(imag_start + row, mask=there) * scale)
    for step in range(steps):
        of_real = _whole(tl.load(real_input + first + step, mask=there) * scale)
        of_imag = _whole(tl.load(imag_input + first + step, mask=there) * scale)
        real = _decayed(x, cos) - _decayed(y, sin) + of_real
        imag = _decayed(x, sin) + _decayed(y, cos) + of_imag
        rounded = imag.to(tl.float32)
        tl.store(real_states + first + step, _over(real.to(tl.float32), scale), mask=there)
        tl.store(imag_states + first + step, _over(rounded, scale), mask=there)
        if resets:
            x = tl.where(rounded >= threshold, 0, real)
            y = _whole(tl.where(rounded >= threshold, reset_to, rounded))
        else:
            x = real
            y = imag


@triton.jit
def resonate_backward(
    of_real, of_imag, sin_decay, cos_decay, real_summed, imag_summed, rows, steps, size: tl.constexpr
):
    row, there, first = _rows(rows, steps, size)
    last = first + (steps - 1)
    sin, cos = tl.load(sin_decay + row, mask=there), tl.load(cos_decay + row, mask=there)
    real, imag = tl.load(of_real + last, mask=there), tl.load(of_imag + last, mask=there)
    tl.store(real_summed + last, real, mask=there)
    tl.store(imag_summed + last, imag, mask=there)
    for back in range(1, steps):
        place = last - back
        later = real
        real = cos * later + sin * imag + tl.load(of_real + place, mask=there)
        imag = cos * imag - sin * later + tl.load(of_imag + place, mask=there)
        tl.store(real_summed + place, real, mask=there)
        tl.store(imag_summed + place, imag, mask=there)


@triton.jit
def _turned_back(real, imag, sin, cos, of_real, of_imag, fires):
    """The gradients of a resonator's states in a step, given those in the next one; none comes through a reset."""
    later = tl.where(fires, 0.0, real)
    imag = tl.where(fires, 0.0, imag)
    return cos * later + sin * imag + of_real, cos * imag - sin * later + of_imag


@triton.jit
def turn_gradient(
    of_real,
    of_imag,
    real_states,
    imag_states,
    sin_decay,
    cos_decay,
    real_start,
    imag_start,
    scale,
    resets: tl.constexpr,
    threshold,
    reset_to,
    sin_sums,
    cos_sums,
    rows,
    steps,
    size: tl.constexpr,
):
    row, there, first = _rows(rows, steps, size)
    sin = tl.load(sin_decay + row, mask=there).to(tl.float64)
    cos = tl.load(cos_decay + row, mask=there).to(tl.float64)
    real = tl.full((size,), 0.0, tl.float64)
    imag = tl.full((size,), 0.0, tl.float64)
    of_sin = tl.full((size,), 0.0, tl.float64)
    of_cos = tl.full((size,), 0.0, tl.float64)
    state = tl.load(imag_states + (first + (steps - 1)), mask=there)
    limit = threshold if resets else float("inf")
    for back in range(1, steps):
        place = first + (steps - back)
        given = tl.load(of_real + place, mask=there).to(tl.float64)
        other = tl.load(of_imag + place, mask=there).to(tl.float64)
        real, imag = _turned_back(real, imag, sin, cos, given, other, _rounded(state * scale) >= limit)
        state = tl.load(imag_states + (place - 1), mask=there)
        reset = _rounded(state * scale) >= limit
        x = tl.where(reset, 0.0, tl.load(real_states + (place - 1), mask=there)).to(tl.float64)
        y = tl.where(reset, _over(tl.where(reset, reset_to, 0.0), scale), state).to(tl.float64)
        of_sin = of_sin + (imag * x - real * y)
        of_cos = of_cos + (real * x + imag * y)
    given = tl.load(of_real + first, mask=there).to(tl.float64)
    other = tl.load(of_imag + first, mask=there).to(tl.float64)
    real, imag = _turned_back(real, imag, sin, cos, given, other, _rounded(state * scale) >= limit)
    x = tl.load(real_start + row, mask=there).to(tl.float64)
    y = tl.load(imag_start + row, mask=there).to(tl.float64)
    tl.store(sin_sums + row, (of_sin + (imag * x - real * y)) * 0.000244140625, mask=there)
    tl.store(cos_sums + row, (of_cos + (real * x + imag * y)) * 0.000244140625, mask=there)


@triton.jit
def adapt(
    inputs,
    phase,
    phase_before,
    level_kept,
    refractory_kept,
    level_start,
    refractory_start,
    step_up,
    rest,
    scale,
    phased: tl.constexpr,
    levels,
    refractories,
    rows,
    steps,
    size: tl.constexpr,
):
    row, there, first = _rows(rows, steps, size)
    keeps, refractory_keeps = tl.load(level_kept + row, mask=there), tl.load(refractory_kept + row, mask=there)
    level = _whole(tl.load(level_start + row, mask=there) * scale)
    refractory = _whole(tl.load(refractory_start + row, mask=there) * scale)
    before = _whole(tl.load(phase_before + row, mask=there) * scale)
    for step in range(steps):
        refractory = _decayed(refractory, refractory_keeps)
        level = _decayed(level - rest, keeps) + rest
        tl.store(levels + first + step, _over(level.to(tl.float32), scale), mask=there)
        tl.store(refractories + first + step, _over(refractory.to(tl.float32), scale), mask=there)
        fires = _whole(tl.load(inputs + first + step, mask=there) * scale) >= level + refractory
        if phased:
            now = _whole(tl.load(phase + first + step, mask=there) * scale)
            fires = fires & (now >= 0) & (before < 0)
            before = now
        refractory = tl.where(fires, refractory + 2 * level, refractory)
        level = tl.where(fires, level + step_up, level)
