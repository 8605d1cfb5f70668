"""Primitives on spike trains: counts, rates, filters. Time is the last dimension of every tensor."""

from __future__ import annotations

from math import comb, exp, isqrt
from typing import Any

import torch
import torch.nn.functional as F

from lava_spikeloss._arguments import check_count, check_number, check_spikes
from lava_spikeloss._autograd import apply
from lava_spikeloss._reduction import as_float, compute_dtype

__all__ = ["exponential_filter", "moving_window_rate", "spike_count"]


def spike_count(spikes: torch.Tensor) -> torch.Tensor:
    r"""Number of spikes of each neuron, or the sum of the values of graded spikes.

    .. math:: n = \sum_{t=0}^{T-1} s[t]

    Args:
        spikes: any dtype; half, bool and integer spikes are counted in float32.

    Shape:
        - spikes: :math:`(*, T)`
        - output: :math:`(*)`, in spikes

    Example:
        >>> spike_count(torch.tensor([[0, 1, 1], [0, 0, 0]]))
        tensor([2., 0.])
    """
    check_spikes("spikes", spikes, min_dims=1)
    return spikes.sum(-1, dtype=compute_dtype(spikes.dtype))


def moving_window_rate(spikes: torch.Tensor, window: int) -> torch.Tensor:
    r"""Spike rate over the last ``window`` steps, at every step. Before the first step there are no spikes.

    .. math:: r[t] = \frac{1}{W} \sum_{k=0}^{W-1} s[t-k]

    Computed from one running sum, so the cost does not grow with the window. A silent window is exactly 0.

    Args:
        spikes: any dtype; half, bool and integer spikes are summed in float32.
        window: :math:`W`, in steps, at least 1. It may be longer than the train.

    Shape:
        - spikes: :math:`(*, T)`
        - output: :math:`(*, T)`, in spikes per step

    Raises:
        TypeError: if ``window`` is not an integer.
        ValueError: if ``window`` is below 1.

    Example:
        >>> moving_window_rate(torch.tensor([1.0, 1.0, 0.0, 0.0]), 2)
        tensor([0.5000, 1.0000, 0.5000, 0.0000])
    """
    check_spikes("spikes", spikes, min_dims=1)
    check_count("window", window)
    return apply(_MovingWindow, as_float(spikes), window)


class _MovingWindow(torch.autograd.Function):
    """Causal moving average; its gradient is the anti-causal one, from a running sum as well."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, window: int) -> torch.Tensor:
        ctx.window = window
        total = x.cumsum(-1)
        rate = total / window
        if window < x.shape[-1]:
            rate[..., window:].sub_(total[..., :-window], alpha=1 / window)
        return rate

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _anticausal_mean(grad, ctx.window), None


def _anticausal_mean(x: torch.Tensor, window: int) -> torch.Tensor:
    steps = x.shape[-1]
    total = F.pad(x.cumsum(-1), (1, 0))
    last = torch.arange(steps, device=x.device).add(window).clamp(max=steps)
    return (total.index_select(-1, last) - total[..., :-1]) / window


def exponential_filter(
    x: torch.Tensor, time_constant: float, length: int | None = None, filter_order: int = 1
) -> torch.Tensor:
    r"""Causal exponential low-pass filter, exact for any length of the train.

    .. math::
        y[t] = \sum_{k=0}^{L-1} \varepsilon_n[k]\, x[t-k], \qquad
        \varepsilon_n[k] = \binom{k+n-1}{n-1} e^{-k/\tau}

    :math:`\varepsilon_n` is :math:`e^{-k/\tau}` convolved :math:`n` times with itself. The recurrence
    :math:`y[t] = e^{-1/\tau} y[t-1] + x[t]` is solved for blocks of steps with two small matrix products.

    Args:
        x: any dtype; half, bool and integers are filtered in float32.
        time_constant: :math:`\tau`, in steps, above 0.
        length: :math:`L`, in steps: where the kernel is cut. ``None`` does not cut it.
        filter_order: :math:`n`, at least 1.

    Shape:
        - x: :math:`(*, T)`
        - output: :math:`(*, T)`

    Raises:
        TypeError: if ``length`` or ``filter_order`` is not an integer, or ``time_constant`` not a number.
        ValueError: if one of them is out of its range.

    Example:
        >>> exponential_filter(torch.tensor([1.0, 0.0, 1.0]), time_constant=1.0)
        tensor([1.0000, 0.3679, 1.1353])
    """
    check_spikes("x", x, min_dims=1)
    check_number("time_constant", time_constant, above=0)
    check_count("filter_order", filter_order)
    if length is not None:
        check_count("length", length)
    steps = x.shape[-1]
    y = as_float(x)
    cut = length if length is not None and length < steps else None
    if cut is not None and filter_order > 1:
        return _filter_by_matrix(y, [comb(k + filter_order - 1, k) * exp(-k / time_constant) for k in range(cut)])
    for _ in range(filter_order):
        y = apply(_LeakySum, y, exp(-1 / time_constant))
    if cut is not None:  # the tail of the kernel is the whole kernel, delayed and scaled
        y = y - F.pad(y[..., :-cut], (cut, 0)) * exp(-cut / time_constant)
    return y


class _LeakySum(torch.autograd.Function):
    """``y[t] = decay * y[t-1] + x[t]``; its gradient is the same recurrence in reversed time."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, decay: float) -> torch.Tensor:
        ctx.decay = decay
        return _leaky_sum(x, decay, reverse=False)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _leaky_sum(grad, ctx.decay, reverse=True), None


def _leaky_sum(x: torch.Tensor, decay: float, *, reverse: bool) -> torch.Tensor:
    steps = x.shape[-1]
    block = _block_length(steps)
    blocks = -(-steps // block)
    rows = x.reshape(-1, steps)
    if blocks * block != steps:
        rows = F.pad(rows, (0, blocks * block - steps))
    within = _powers(decay, block, x)  # [from, to] inside a block
    between = _powers(decay**block, blocks, x).roll(1, 1).triu(1)  # end of an earlier block to the start of this one
    reach = torch.pow(decay, torch.arange(1, block + 1, device=x.device, dtype=x.dtype))
    if reverse:
        within, between, reach = within.T, between.T, reach.flip(0)
    with torch.autocast(x.device.type, enabled=False):
        y = (rows.reshape(-1, block) @ within).view(-1, blocks, block)
        carry = y[..., 0 if reverse else -1] @ between
    y = torch.addcmul(y, carry.unsqueeze(-1), reach)
    return y.view(-1, blocks * block)[:, :steps].reshape(x.shape)


def _powers(base: float, size: int, like: torch.Tensor) -> torch.Tensor:
    """Upper triangular matrix of ``base ** (column - row)``."""
    index = torch.arange(size, device=like.device, dtype=like.dtype)
    return torch.pow(base, (index - index.unsqueeze(1)).clamp(min=0)).triu()


def _block_length(steps: int) -> int:
    """About the square root of ``steps``, a divisor of it if there is one near."""
    root = isqrt(steps - 1) + 1
    divisors = [size for size in range(root, 2 * root) if steps % size == 0]
    return divisors[0] if divisors else root


def _filter_by_matrix(x: torch.Tensor, kernel: list[float]) -> torch.Tensor:
    steps = x.shape[-1]
    index = torch.arange(steps, device=x.device)
    lag = index - index.unsqueeze(1)
    taps = x.new_tensor(kernel)
    toeplitz = taps[lag.clamp(0, len(kernel) - 1)] * ((lag >= 0) & (lag < len(kernel)))
    with torch.autocast(x.device.type, enabled=False):
        return x @ toeplitz
