"""Primitives on spike trains: counts, rates, filters. Time is the last dimension of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import exp, isqrt
from typing import Any

import torch
import torch.nn.functional as F

from lava_spikeloss.arguments import check_count, check_number, check_spikes, check_tensor
from lava_spikeloss.compiling import torch_compiles, torch_transforms
from lava_spikeloss.losses.labels import Labels, as_signed, class_indices, targets_per_train
from lava_spikeloss.losses.reduction import as_float, compute_dtype, matmul
from lava_spikeloss.peers import also_called

__all__ = [
    "delay",
    "exponential_filter",
    "first_spike_index",
    "first_spike_times",
    "moving_window_rate",
    "redundant_one_hot",
    "spike_count",
]


_LONG = 1024  # steps up to which running sums in float32 are exact enough
_WIDE = 64  # steps up to which a GPU may sum each window by itself: an estimate, not measured on one


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

    On a CPU, and for a wide window, computed from running sums, so that the cost does not grow with the window. A
    silent window is exactly 0.

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
    return window_mean(spikes, window)


def window_sum(x: torch.Tensor, window: int) -> torch.Tensor:
    """Sum over the last ``window`` steps of trains ``(*, T)``, at every step: :func:`moving_window_rate` in spikes."""
    return _filtered(as_float(x), partial(_window_sum, window=window))


def window_mean(x: torch.Tensor, window: int, scale: float = 1.0) -> torch.Tensor:
    """:func:`moving_window_rate` without its checks, times ``scale``."""
    return _filtered(as_float(x), partial(_window_mean, window=window, scale=scale))


def _window_mean(x: torch.Tensor, reverse: bool, window: int, scale: float) -> torch.Tensor:
    if _pools(x, window):
        return _pooled(x, reverse, window, window, scale)
    return _difference(x, reverse, window).div_(window / scale)


def _window_sum(x: torch.Tensor, reverse: bool, window: int) -> torch.Tensor:
    """Sum over the last ``window`` steps, in reversed time over the next ones; of a silent window exactly 0."""
    return _pooled(x, reverse, window, 1) if _pools(x, window) else _difference(x, reverse, window)


def _pools(x: torch.Tensor, window: int) -> bool:
    """Whether a window is summed step by step: fewer passes over memory, but each sum reads its whole window.

    On a GPU it reads the window from a cache; a CPU takes several times as long as for running sums. On a GPU torch
    counts what it pools in 32 bits.
    """
    return x.device.type != "cpu" and window <= _WIDE and x.numel() < 2**31


def _pooled(x: torch.Tensor, reverse: bool, window: int, divisor: int, scale: float = 1.0) -> torch.Tensor:
    """:func:`_window_sum` times ``scale / divisor``, by torch's pooling, which centres a window on its step."""
    steps = x.shape[-1]
    window = min(window, steps)
    half = window // 2
    short = window - 1 - half  # sums of fewer steps at the end of the train where windows are cut, and torch has none
    rows = x.reshape(-1, 1, steps)
    sums = F.avg_pool2d(rows, (1, window), 1, (0, half), divisor_override=divisor).view(*x.shape[:-1], -1)
    if reverse:
        cut = x[..., steps - short :].flip(-1).cumsum(-1).div_(divisor)
        cut = cut.flip(-1)
        return _joined((sums[..., half:], cut), scale)
    cut = x[..., :short].cumsum(-1).div_(divisor)
    return _joined((cut, sums[..., : steps - short]), scale)


def _joined(parts: tuple[torch.Tensor, torch.Tensor], scale: float) -> torch.Tensor:
    """Two parts of trains, one after the other, times ``scale``: multiplied as they are copied."""
    if scale == 1:
        return torch.cat(parts, -1)
    if torch_transforms():  # which take no output to write to
        return torch.cat(parts, -1) * scale
    begin, end = parts
    whole = begin.new_empty(*begin.shape[:-1], begin.shape[-1] + end.shape[-1])
    torch.mul(begin, scale, out=whole[..., : begin.shape[-1]])
    torch.mul(end, scale, out=whole[..., begin.shape[-1] :])
    return whole


def _difference(x: torch.Tensor, reverse: bool, window: int) -> torch.Tensor:
    """:func:`_window_sum` as a difference of two running sums."""
    steps = x.shape[-1]
    window = min(window, steps)
    # The running sum of a long train is large beside a window's, and their difference would lose digits.
    total = x.cumsum(-1, dtype=torch.float64 if steps > _LONG else x.dtype)
    # The first window begins with the train. In reversed time the last ones end with it, each a step shorter.
    first, shorter = (total[..., window - 1 : window], window - 1) if reverse else (total[..., :window], 0)
    differences = [
        (total[..., window:], total[..., : steps - window]),
        (total[..., -1:], total[..., steps - window : steps - window + shorter]),
    ]
    if torch_transforms():  # which take no output to write to
        return torch.cat((first, *(end - start for end, start in differences)), -1).to(x.dtype)
    sums, begin = torch.empty_like(total), first.shape[-1]
    sums[..., :begin] = first
    for end, start in differences:
        torch.sub(end, start, out=sums[..., begin : begin + start.shape[-1]])
        begin += start.shape[-1]
    return sums.to(x.dtype)


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
    return low_pass(as_float(x), time_constant, length, filter_order)


def low_pass(x: torch.Tensor, time_constant: float, length: int | None = None, filter_order: int = 1) -> torch.Tensor:
    """:func:`exponential_filter` of floating-point numbers, without its checks."""
    cut = length if length is not None and length < x.shape[-1] else None
    if cut is not None and filter_order > 1:
        return _filter_by_matrix(x, time_constant, cut, filter_order)
    y = x
    for _ in range(filter_order):
        y = _filtered(y, partial(_leaky_sum, decay=exp(-1 / time_constant)))
    if cut is None or exp(-cut / time_constant) <= torch.finfo(x.dtype).eps / 2:  # what is cut is lost in rounding
        return y
    return y - delay(y, cut) * exp(-cut / time_constant)  # the tail of the kernel is the kernel, delayed and scaled


def _leaky_sum(x: torch.Tensor, reverse: bool, decay: float) -> torch.Tensor:
    """``y[t] = decay * y[t-1] + x[t]``, in reversed time with ``y[t+1]``, without a loop over time.

    A product with a triangular matrix sums within each block of steps. A second one tells what the blocks before leave
    to the first step of each block, from where it decays through the block.
    """
    steps = x.shape[-1]
    block = _block_length(steps)
    count = (steps + block - 1) // block
    padded = F.pad(x, (0, count * block - steps)) if count * block != steps else x
    blocks = padded.contiguous().view(-1, count, block)  # also of trains with time first in memory
    within = _powers(decay, block, x)  # [from, to] inside a block
    between = _powers(decay**block, count, x).roll(1, 1).triu(1) * decay  # end of a block to the start of later ones
    if reverse:
        within, between = within.T, between.T
    start, end = (-1, 0) if reverse else (0, -1)
    carry = matmul(matmul(blocks, within[:, end].contiguous()), between)
    sums = matmul(blocks.view(-1, block), within)
    sums.addr_(carry.view(-1), within[start])
    return sums.view(*x.shape[:-1], count * block)[..., :steps]


class _Filter(torch.autograd.Function):
    """A causal filter. Its gradient is the same filter in reversed time; that of autograd would take more copies."""

    @staticmethod
    def forward(x: torch.Tensor, kernel: Callable[..., torch.Tensor], reverse: bool) -> torch.Tensor:
        return kernel(x, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        _, ctx.kernel, ctx.reverse = inputs

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _filtered(grad, ctx.kernel, not ctx.reverse), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *options: None) -> torch.Tensor:
        return _filtered(tangent, ctx.kernel, ctx.reverse)


def _filtered(x: torch.Tensor, kernel: Callable[..., torch.Tensor], reverse: bool = False) -> torch.Tensor:
    """``kernel(x, reverse)`` with the gradient of a :class:`_Filter`."""
    if torch_transforms():
        return kernel(x, reverse)
    filtered: torch.Tensor = _Filter.apply(x, kernel, reverse)  # type: ignore[no-untyped-call, unused-ignore]
    return filtered


def _powers(base: float, size: int, like: torch.Tensor) -> torch.Tensor:
    """Upper triangular matrix of ``base ** (column - row)``."""
    index = torch.arange(size, device=like.device, dtype=like.dtype)
    powers = torch.pow(base, (index - index.unsqueeze(1)).clamp(min=0)).triu()
    return F.threshold(powers, torch.finfo(like.dtype).tiny ** 0.75, 0.0)  # a CPU is slow with subnormal products


def _block_length(steps: int) -> int:
    """About the square root of ``steps``: a multiple of 4, for which products are fast, that divides it if one does."""
    if torch_compiles():
        return 16 if steps <= 256 else 64 if steps <= 4096 else 256  # few sizes, so that little is compiled anew
    root = isqrt(steps - 1) + 1
    sizes = range(max(12, root // 8 * 4), 2 * root + 12, 4)
    divisors = [size for size in sizes if steps % size == 0]
    return divisors[0] if divisors else sizes[0]


def _filter_by_matrix(x: torch.Tensor, time_constant: float, length: int, order: int) -> torch.Tensor:
    steps = x.shape[-1]
    # The kernel is made where it is used: a copy from the host would make the host wait.
    k = torch.arange(length, device=x.device, dtype=torch.float64)
    kernel = torch.exp(-k / time_constant)
    for i in range(1, order):
        kernel = kernel * (k + i) / i
    taps = F.pad(kernel.to(x.dtype), (1, 1))  # 0 before the kernel and behind it
    step = torch.arange(steps, device=x.device)
    lag = step - step.unsqueeze(1)  # [from, to]
    return matmul(x, taps[(lag + 1).clamp(0, length + 1)])


def first_spike_index(spikes: torch.Tensor) -> torch.Tensor:
    r"""Mask of each neuron's first spike; all ``False`` for a neuron that never fires.

    .. math:: m[t] = \left(s[t] \ne 0\right) \wedge \forall u < t: s[u] = 0

    Args:
        spikes: any dtype; everything that is not 0 is a spike, so graded and negative spikes count.

    Shape:
        - spikes: :math:`(*, T)`
        - output: :math:`(*, T)`, bool

    Example:
        >>> first_spike_index(torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]]))
        tensor([[False,  True, False],
                [False, False, False]])
    """
    check_spikes("spikes", spikes, min_dims=1)
    fired = spikes != 0
    return fired & (fired.cumsum(-1, dtype=torch.int32) == 1)


def first_spike_times(spikes: torch.Tensor, num_spikes: int | None = None, silent: float | None = None) -> torch.Tensor:
    r"""Time of each neuron's first spike, or of its first ``num_spikes`` spikes, with a surrogate gradient.

    .. math:: t^{(f)} = \min \left\{ t : \sum_{u \le t} [s[u] \ne 0] = f \right\}

    Times are exact: a spike is whatever is not 0, and half-precision spikes give float32 times. The derivative of a
    spike time is not defined; the surrogate says that a stronger spike comes earlier by as much,

    .. math:: \frac{\partial t^{(f)}}{\partial s[t]} = -1 \text{ at } t = t^{(f)},

    and at the last step for a spike that never comes, so that silent neurons learn too. Ranks that share a step add up.

    Args:
        spikes: any dtype.
        num_spikes: :math:`F`, how many spikes; ``None`` for the first one, without a dimension for it.
        silent: time of a spike that never comes; ``None`` for :math:`T`, one step after the end.

    Shape:
        - spikes: :math:`(*, T)`
        - output: :math:`(*)`, or :math:`(*, F)`, in steps

    Raises:
        TypeError: if ``num_spikes`` is not an integer or ``silent`` not a number.
        ValueError: if ``num_spikes`` is below 1.

    Reference:
        The sign estimator is that of Eshraghian et al., Proc. IEEE 2023.

    Example:
        >>> first_spike_times(torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]), num_spikes=2)
        tensor([[1., 2.],
                [3., 3.]])
    """
    check_spikes("spikes", spikes, min_dims=1)
    if num_spikes is not None:
        check_count("num_spikes", num_spikes)
    if silent is not None:
        check_number("silent", silent)
    times = times_of_ranks(spikes, num_spikes or 1, spikes.shape[-1] if silent is None else silent)
    return times.squeeze(-1) if num_spikes is None else times


def times_of_ranks(spikes: torch.Tensor, ranks: int, silent: float) -> torch.Tensor:
    """:func:`first_spike_times` ``(*, ranks)``, without its checks."""
    step = first_steps(spikes, ranks)
    times = step.to(compute_dtype(spikes.dtype)).masked_fill(step == spikes.shape[-1], silent)
    if spikes.is_floating_point():
        picked = (spikes if ranks == 1 else as_float(spikes)).gather(-1, step.clamp(max=spikes.shape[-1] - 1))
        times = times - (picked - picked.detach())  # minus 0, with a gradient of -1
    return times


def first_steps(spikes: torch.Tensor, ranks: int) -> torch.Tensor:
    """The first ``ranks`` steps ``(*, ranks)`` of trains ``(*, T)`` that are not 0; ``T`` where there are fewer."""
    steps, fired = spikes.shape[-1], spikes.bool()  # several times as fast as a comparison with 0
    if ranks == 1:
        found, step = fired.max(-1, keepdim=True)
        return torch.where(found, step, steps)
    rank = torch.arange(1, ranks + 1, dtype=torch.float32, device=spikes.device)
    counts = running_counts(fired).contiguous()  # else torch warns of the copy that it makes
    return torch.searchsorted(counts, rank.expand(*spikes.shape[:-1], ranks).contiguous())


def running_counts(fired: torch.Tensor) -> torch.Tensor:
    """How often a mask ``(*, T)`` was true up to each step, in float32: torch's sums of it are several times as fast.

    By way of bytes, since torch takes five times as long from bool to float32. Not inside of torch's compiler, which in
    version 2.3 cannot do that.
    """
    counts = fired.to(torch.float32) if torch_compiles() else fired.to(torch.uint8).to(torch.float32)
    return counts.cumsum(-1) if torch_transforms() else counts.cumsum_(-1)  # torch.func.vmap loops over the latter


@also_called(delay_steps="steps")  # not x_seq: the peer's has time first, and any tensor can be delayed along either
def delay(x: torch.Tensor, steps: int | Sequence[int] | torch.Tensor) -> torch.Tensor:
    r"""Delay a sequence, with zeros in front.

    .. math:: y_{nc}[t] = x_{nc}[t - d_c] \text{ for } t \ge d_c, \text{ else } 0

    Args:
        x: any dtype.
        steps: :math:`d`, one delay for all, or one for each channel (dimension 1), in steps. A tensor's values are
            checked on the CPU only: looking at them on an accelerator would make the host wait. So does copying a list
            or a tensor of the CPU there.

    Shape:
        - x: :math:`(*, T)`; :math:`(N, C, ..., T)` for delays per channel
        - steps: a number, or :math:`(C)`
        - output: that of x

    Raises:
        TypeError: if a delay is not an integer.
        ValueError: if a delay is negative, or there is not one for each channel.

    Example:
        >>> delay(torch.tensor([[[1, 2, 3], [1, 2, 3]]]), [0, 2])
        tensor([[[1, 2, 3],
                 [0, 0, 1]]])
    """
    check_spikes("x", x, min_dims=1)
    if not isinstance(steps, (torch.Tensor, Sequence)):
        check_count("steps", steps, minimum=0)
        steps = min(int(steps), x.shape[-1])
        return F.pad(x[..., : x.shape[-1] - steps], (steps, 0))
    delays = _channel_delays(x, steps)
    source = torch.arange(x.shape[-1], device=x.device) - delays
    source = source.reshape(1, x.shape[1], *[1] * (x.dim() - 3), x.shape[-1])
    delayed = as_signed(x).gather(-1, source.clamp(min=0).expand_as(x))
    return delayed.masked_fill(source < 0, 0).to(x.dtype)


def _channel_delays(x: torch.Tensor, steps: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """Delays ``(C, 1)``, checked."""
    if not isinstance(steps, torch.Tensor):
        for value in steps:
            check_count("steps", value, minimum=0)
        delays = torch.tensor(list(steps), device=x.device)
    elif steps.is_floating_point() or steps.dtype == torch.bool:
        raise TypeError(f"Expected argument `steps` to hold integers but got {steps.dtype}.")
    else:
        delays = steps
    if x.dim() < 3 or delays.shape != (x.shape[1],):
        raise ValueError(
            f"Expected argument `steps` to hold one delay per channel of `x`, shape (N, C, ..., T), "
            f"but got {tuple(delays.shape)} for {tuple(x.shape)}."
        )
    if delays.device.type == "cpu" and not torch_compiles() and bool((delays < 0).any()):
        raise ValueError(f"Expected argument `steps` to be at least 0 but got {int(delays.min())}.")
    return delays.to(x.device).unsqueeze(-1)


def redundant_one_hot(labels: torch.Tensor, num_classes: int, n: int) -> torch.Tensor:
    r"""One-hot code with ``n`` neurons per class: the target of a population code.

    .. math:: z_{nj} = [\lfloor j / n \rfloor = y_n]

    Args:
        labels: class indices.
        num_classes: :math:`C`.
        n: neurons per class.

    Shape:
        - labels: :math:`(N)`
        - output: :math:`(N, C n)`, float32, ones at :math:`y n, ..., (y + 1) n - 1`

    Raises:
        TypeError: if ``num_classes`` or ``n`` is not an integer.
        ValueError: if a label is out of range, or the labels are not of shape :math:`(N)`.

    Example:
        >>> redundant_one_hot(torch.tensor([1, 0]), num_classes=2, n=2)
        tensor([[0., 0., 1., 1.],
                [1., 1., 0., 0.]])
    """
    check_count("num_classes", num_classes)
    check_count("n", n)
    check_tensor("labels", labels)
    if labels.dim() != 1:
        raise ValueError(f"Expected argument `labels` to have shape (N,) but got {tuple(labels.shape)}.")
    indices = class_indices(labels, num_classes)
    return targets_per_train(Labels(indices), num_classes, torch.float32).values.repeat_interleave(n, dim=1)
