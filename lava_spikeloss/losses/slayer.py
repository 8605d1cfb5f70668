"""Drop-ins for ``lava.lib.dl.slayer.loss``: same constructors and defaults, same values and gradients.

Where lava-dl's losses have no useful gradient these have one: a silent target is pushed up, a saturated output learns.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from lava_spikeloss.arguments import check_region, check_same_shape, check_spikes
from lava_spikeloss.compiling import torch_transforms
from lava_spikeloss.losses.labels import (
    IGNORED,
    Form,
    LabelForm,
    Labels,
    label_forms,
    labels_per_train,
    read_labels,
    targets_per_step,
    wanted_values,
    with_classes,
)
from lava_spikeloss.losses.lengths import Lengths, classes_of_call, padded
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import Mode, Reduction, check_options
from lava_spikeloss.losses.reduction import (
    as_float,
    check_population,
    collapse,
    compute_dtype,
    pool_population,
    reduce,
    squared_errors,
)
from lava_spikeloss.spike_trains import exponential_filter, low_pass, spike_count, window_mean, window_sum

__all__ = ["SpikeMax", "SpikeMoid", "SpikeRate", "SpikeTime", "spike_max", "spike_moid", "spike_rate", "spike_time"]

_EPS = 1e-6  # lava-dl's, in the denominator of a probability


@padded(None, trains=("desired",), gives_steps=lambda arguments: arguments["stop"] is None)
def spike_time(
    spikes: torch.Tensor,
    desired: torch.Tensor,
    time_constant: float = 5,
    length: int | None = 100,
    filter_order: int = 1,
    reduction: Reduction = "sum",
    *,
    start: int = 0,
    stop: int | None = None,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Squared difference of two low-pass filtered spike trains, similar to the van Rossum distance.

    .. math::
        L = \sum_{t=\text{start}}^{\text{stop}-1} \left(\varepsilon * (s - \hat s)\right)[t]^2, \qquad
        \varepsilon[k] = e^{-k/\tau},\ 0 \le k < L

    The filter is linear: the difference is filtered once.

    Args:
        spikes: output spikes :math:`s`.
        desired: desired spikes :math:`\hat s`, of any dtype.
        time_constant: :math:`\tau`, in steps.
        length: where the kernel is cut, in steps. ``None`` does not cut it.
        filter_order: how often the kernel is convolved with itself, 1 for once :math:`\varepsilon`.
        reduction: ``"sum"`` and ``"mean"`` over all elements, or ``"none"``.
        start: first step of the region that is compared.
        stop: first step after that region; ``None`` for the end of the train.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes, desired: :math:`(*, T)`
        - output: a scalar, or :math:`(*, \text{stop} - \text{start})` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the shapes differ, or an argument is out of its range.

    Reference:
        van Rossum, "A novel spike distance", 2001; Shrestha and Orchard, "SLAYER", NeurIPS 2018.

    Example:
        >>> spike_time(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]), time_constant=1.0)
        tensor(1.1353)
    """
    check_spikes("spikes", spikes, min_dims=1)
    check_same_shape("desired", desired, "spikes", spikes)
    check_options(
        time_constant=time_constant,
        length=length,
        filter_order=filter_order,
        reduction=reduction,
        start=start,
        stop=stop,
    )
    region = check_region(start, stop, spikes.shape[-1])
    filtered = low_pass(
        as_float(spikes) - desired.to(compute_dtype(spikes.dtype)), time_constant, length, filter_order
    )[..., region]
    return reduce(squared_errors(filtered, filtered.new_zeros(())), reduction)


@padded()
def spike_rate(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    true_rate: float,
    false_rate: float,
    moving_window: int | None = None,
    reduction: Reduction = "sum",
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "mean",
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Squared difference between each class's spike rate and the rate that its label asks for.

    .. math::
        L = \sum_{n,c} (r_{nc} - \hat r_{nc})^2, \qquad
        \hat r_{nc} = r_\text{true}\, y_{nc} + r_\text{false}\, (1 - y_{nc})

    With a moving window of :math:`W` steps the rate is that of the last :math:`W` steps, and the sum also runs over
    time.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label. Without a window, labels per step are averaged over time.
        true_rate: rate of the labelled class, in spikes per step, in [0, 1].
        false_rate: rate of every other class, in spikes per step, in [0, 1].
        moving_window: :math:`W`, in steps. ``None`` takes the rate over the whole train.
        reduction: ``"sum"`` and ``"mean"`` over all elements, or ``"none"``.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how a group's rates are pooled, ``"mean"`` or ``"sum"``.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar; for ``reduction="none"`` :math:`(N, C)`, with a window :math:`(N, C, T)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Shrestha and Orchard, "SLAYER", NeurIPS 2018; the loss of ``lava.lib.dl.slayer``.

    Example:
        >>> spikes = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
        >>> spike_rate(spikes, torch.tensor([0]), true_rate=0.5, false_rate=0.0)
        tensor(0.2500)
    """
    check_options(true_rate=true_rate, false_rate=false_rate, reduction=reduction)
    counts, steps = _counts(spikes, moving_window, population_code, num_classes, population_pooling)
    given = read_labels(labels, spikes.shape, counts.shape[1], label_form=label_form, ignore_index=ignore_index)
    labels, kept = _labels_like(counts, given)
    wanted = wanted_values(labels, counts.shape[1], counts.dtype, true_rate * steps, false_rate * steps)
    return reduce(squared_errors(counts, wanted), reduction, kept) / steps**2


@padded()
def spike_max(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    moving_window: int | None = None,
    mode: Mode = "probability",
    reduction: Reduction = "sum",
    *,
    scale: float = 1.0,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "sum",
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Negative log-likelihood of the label, with a class's share of the spikes as its probability.

    .. math::
        L = -\sum_n \sum_c y_{nc} \log p_{nc}

    .. math::
        p_c = \begin{cases}
            r_c / (\sum_k r_k + 10^{-6}) & \text{mode "probability"} \\
            \operatorname{softmax}(\text{scale} \cdot r)_c & \text{mode "softmax"} \\
            m_c / \sum_k m_k,\ m = \max(r, 1/W) & \text{mode "count"}
        \end{cases}

    :math:`r` is the rate over the whole train, or with a moving window that of its last :math:`W` steps; then the sum
    runs over time too. In mode "probability" a sample whose labelled class is silent is treated as in mode "count":
    every class counts as if it had fired at least once. There the gradient passes the maximum unchanged, so
    :math:`\partial L / \partial m_c = (p_c - y_c) / m_c`: a silent label is pushed up.

    In mode "probability", lava-dl's, outputs may fall silent all the same, for these gradients sum to 0 where all of
    them are. Mode "softmax" with the number of steps as ``scale``, mode "count", or
    ``CountBoundsLoss(lower=4, per="layer")`` beside ``reduction="mean"`` keep them awake.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label. Without a window, labels per step are averaged over time.
        moving_window: :math:`W`, in steps. ``None`` takes the rate over the whole train, :math:`W = T`.
        mode: ``"probability"`` or ``"softmax"`` as in lava-dl (``"logsoftmax"`` in its scripts is the same), or
            ``"count"`` as its authors run it.
        reduction: ``"sum"`` or ``"mean"`` over samples (and steps, with a window), or ``"none"``.
        scale: inverse temperature of mode "softmax". Rates end at 1, so with ``scale=1`` ten classes cannot fall
            below 1.461; the number of steps as ``scale`` makes it the softmax of spike counts.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how a group's rates are pooled, ``"sum"`` or ``"mean"``.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar; for ``reduction="none"`` :math:`(N)`, with a window :math:`(N, T)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Shrestha, Zhu and Sun, "Spikemax: spike-based loss methods for classification", IJCNN 2022.

    Example:
        >>> spikes = torch.tensor([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])
        >>> spike_max(spikes, torch.tensor([0]))
        tensor(0.2877)
    """
    check_options(mode=mode, reduction=reduction, scale=scale)
    by_softmax = mode in ("softmax", "logsoftmax")
    scaled = float(scale) if by_softmax else None
    counts, steps = _counts(spikes, moving_window, population_code, num_classes, population_pooling, scaled)
    given = read_labels(labels, spikes.shape, counts.shape[1], label_form=label_form, ignore_index=ignore_index)
    labels, kept = _labels_like(counts, given)
    if labels.dtype == torch.int64:
        labels = labels.expand(-1, -1, *counts.shape[2:])
    if by_softmax:
        targets = labels.squeeze(1) if labels.dtype == torch.int64 else labels.expand_as(counts)
        return reduce(F.cross_entropy(counts, targets, reduction="none"), reduction, kept)
    eps = 0.0 if mode == "count" else _EPS * steps
    if labels.dtype == torch.int64:
        share = counts.gather(1, labels)
        least = _least(mode, share <= 0)
        total = _as_if(counts.sum(1), counts.detach().clamp(min=least).sum(1)) + eps
        share = _as_if(share, share.detach().clamp(min=least)).squeeze(1)
        return reduce(total.log() - share.log(), reduction, kept)
    least = _least(mode, ((counts <= 0) & (labels > 0)).any(1, keepdim=True))
    shares = _as_if(counts, counts.detach().clamp(min=least))
    total = shares.sum(1) + eps
    log_shares = torch.where(shares > 0, shares, 1.0).log()  # the share of a class without a label may be 0
    return reduce(labels.sum(1) * total.log() - (labels * log_shares).sum(1), reduction, kept)


def _least(mode: Mode, label_is_silent: torch.Tensor) -> torch.Tensor:
    """The count that every class has at least: 1 in mode "count" and where a labelled class is silent, else 0."""
    least = torch.ones_like(label_is_silent) if mode == "count" else label_is_silent
    return least.to(torch.int64)


def _as_if(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """``value`` with the gradient of ``x``."""
    return value + (x - x.detach())


def _forms_with_yes_or_no(arguments: dict[str, Any], spikes: torch.Tensor) -> list[Form]:
    return label_forms(spikes.shape, classes_of_call(arguments, spikes), yes_or_no=True)


@padded(forms=_forms_with_yes_or_no)
def spike_moid(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    moving_window: int | None = None,
    reduction: Reduction = "sum",
    alpha: float | torch.Tensor = 1,
    theta: float | torch.Tensor = 0,
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "mean",
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Binary cross entropy of each class, with the sigmoid of its spike rate as the probability.

    .. math::
        L = -\sum_{n,c} y_{nc} \log p_{nc} + (1 - y_{nc}) \log (1 - p_{nc}), \qquad
        p = \sigma\!\left(\frac{r - \theta}{\alpha}\right)

    The value is lava-dl's: where the sigmoid rounds to 0 or 1 a wrong answer costs 100. The gradient is that of the
    logits, :math:`(p - y) / \alpha` by the rate, so a confident wrong answer keeps learning. With a moving
    window of :math:`W` steps the rate is that of the last :math:`W` steps, and the sum runs over time too.

    With the defaults, lava-dl's, a silent class is as likely as not, and a classifier falls silent: set ``theta``
    between the rates of false and true classes and ``alpha`` well below it, such as 0.2 and 0.05.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label, of any dtype; several classes may be true at once.
            Without a window, labels per step are averaged over time.
        moving_window: :math:`W`, in steps. ``None`` takes the rate over the whole train.
        reduction: ``"sum"`` and ``"mean"`` over all elements, or ``"none"``.
        alpha: temperature of the sigmoid, in spikes per step, above 0: a number, or a tensor, one for all classes or
            :math:`(C)`, to which a gradient flows.
        theta: rate at which a class is as likely as not, in spikes per step; a number or a tensor as well.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how a group's rates are pooled, ``"mean"`` or ``"sum"``.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`; of one output :math:`(N)` and
          :math:`(N, T)` are targets, 1 for yes, or ``ignore_index``
        - output: a scalar; for ``reduction="none"`` :math:`(N, C)`, with a window :math:`(N, C, T)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        The loss of ``lava.lib.dl.slayer``, introduced with lava-dl 0.5.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> spike_moid(spikes, torch.tensor([[1.0, 0.0]]), alpha=0.1, theta=0.25)
        tensor(0.1578)
    """
    check_options(reduction=reduction, alpha=alpha, theta=theta)
    counts, steps = _counts(spikes, moving_window, population_code, num_classes, population_pooling)
    given = read_labels(
        labels,
        spikes.shape,
        counts.shape[1],
        label_form=label_form,
        ignore_index=ignore_index,
        forms=label_forms(spikes.shape, counts.shape[1], yes_or_no=True),
    )
    labels, kept = _labels_like(counts, given)
    targets = wanted_values(labels, counts.shape[1], counts.dtype, 1, 0)
    beyond = counts - steps * _for_classes(theta, counts)  # exact near the threshold: a narrow sigmoid needs each digit
    del counts  # with a window it is as large as the input
    if isinstance(alpha, torch.Tensor):
        beyond, width = beyond / (steps * _for_classes(alpha, beyond)), 1.0
    else:
        width = steps * alpha
    if reduction == "none" or beyond.dim() == 2:
        return reduce(_logistic_losses(beyond, width, targets), reduction, kept)
    summed = (1,) if kept is not None and kept.dim() == 2 else (1, 2)  # each step that may be left out has its own sum
    losses = _logistic_losses(beyond, width, targets, summed)
    return reduce(losses if reduction == "sum" else losses / (beyond.numel() // losses.numel()), reduction, kept)


def _for_classes(value: float | torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """A number, or a tensor of one for all classes or ``(C,)``, as it goes with counts ``(N, C)`` or ``(N, C, T)``."""
    if isinstance(value, torch.Tensor):
        return value.to(counts.dtype).reshape(-1, *[1] * (counts.dim() - 2))
    return torch.full((), value, dtype=counts.dtype, device=counts.device)


def _logistic_losses(
    beyond: torch.Tensor, width: float, targets: torch.Tensor, dims: tuple[int, ...] = ()
) -> torch.Tensor:
    """Binary cross entropy of the logits ``beyond / width``, summed over ``dims``, which stay with size 1.

    The value is that of the probability, whose logarithms end at -100 as lava-dl's; the gradient that of the logit.
    """
    if beyond.dim() == 3 and not torch_transforms():  # fewer passes over what is as large as the trains
        return _LogisticLosses.of(beyond, (beyond / width).sigmoid(), targets, width, dims)
    logits = beyond / width
    values = F.binary_cross_entropy(logits.detach().sigmoid(), targets.detach().expand_as(logits), reduction="none")
    slopes = F.softplus(logits, threshold=40) - targets * logits
    return _summed(values + (slopes - slopes.detach()), dims)


class _LogisticLosses(torch.autograd.Function):
    """:func:`_logistic_losses` of the probabilities ``p``, whose own gradient serves for second derivatives only."""

    @classmethod
    def of(cls, *arguments: Any) -> torch.Tensor:
        losses: torch.Tensor = cls.apply(*arguments)  # type: ignore[no-untyped-call, unused-ignore]
        return losses

    @staticmethod
    def forward(
        beyond: torch.Tensor, p: torch.Tensor, targets: torch.Tensor, width: float, dims: tuple[int, ...]
    ) -> torch.Tensor:
        return _summed(F.binary_cross_entropy(p, targets.expand_as(p), reduction="none"), dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        beyond, p, targets, ctx.width, ctx.dims = inputs
        ctx.save_for_backward(beyond if targets.requires_grad else None, p, targets)
        ctx.save_for_forward(beyond, p, targets)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        beyond, p, targets = ctx.saved_tensors
        slope = grad / ctx.width
        by_beyond = torch.addcmul(targets * -slope, p, slope)  # (p - targets) * slope in one pass
        by_targets = (-beyond * slope).sum_to_size(targets.shape) if ctx.needs_input_grad[2] else None
        return by_beyond, None, by_targets, None, None

    @staticmethod
    def jvp(ctx: Any, beyond: torch.Tensor | None, p: Any, targets: torch.Tensor | None, *_: None) -> torch.Tensor:
        at, probability, wanted = ctx.saved_tensors
        change = torch.zeros_like(probability)
        if beyond is not None:
            change = change + (probability - wanted) * beyond
        if targets is not None:
            change = change - at * targets
        return _summed(change / ctx.width, ctx.dims)


def _summed(values: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    return values.sum(dims, keepdim=True) if dims else values


def _counts(
    spikes: torch.Tensor,
    moving_window: int | None,
    population_code: bool,
    num_classes: int | None,
    population_pooling: str,
    scale: float | None = None,
) -> tuple[torch.Tensor, int]:
    """Spike counts ``(N, C)`` of whole trains, or ``(N, C, T)`` of a moving window, and in how many steps.

    A loss divides them by the steps last, where there is least to divide; with a ``scale`` they are rates, times it.
    """
    check_spikes("spikes", spikes)
    check_options(
        moving_window=moving_window,
        population_code=population_code,
        num_classes=num_classes,
        population_pooling=population_pooling,
    )
    trains = collapse(spikes)
    classes = check_population(trains.shape[1], population_code, num_classes)
    if moving_window is None:
        counts, steps = pool_population(spike_count(trains), classes, population_pooling), int(trains.shape[-1])
        return counts if scale is None else counts / (steps / scale), steps
    pooled = pool_population(trains, classes, population_pooling)
    windows = window_sum(pooled, moving_window) if scale is None else window_mean(pooled, moving_window, scale)
    return windows, int(moving_window)


def _labels_like(counts: torch.Tensor, given: Labels) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Labels of counts ``(N, C)`` or ``(N, C, T)``, and which of them are kept.

    These are class indices, ``(N, 1)``, or with counts per step ``(N, 1, 1)`` or ``(N, 1, T)``; or targets, ``(N, C)``,
    ``(N, C, 1)`` or ``(N, C, T)``.
    """
    classes = counts.shape[1]
    if counts.dim() == 2:
        given = labels_per_train(given, classes, counts.dtype)
        return with_classes(given), given.kept
    if given.values.dtype == torch.int64:
        return with_classes(given).reshape(counts.shape[0], 1, -1), given.kept
    return targets_per_step(given, classes, counts.dtype), given.kept


class SpikeTime(Loss, function=spike_time):
    """Spike-time loss, a drop-in for ``slayer.loss.SpikeTime``.

    Where wanted spikes are rare outputs may fall silent: ``reduction="mean"`` and 0.01 times
    ``CountBoundsLoss(lower=4, per="layer")`` beside it keep them awake.

    >>> SpikeTime(time_constant=1)(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
    tensor(1.1353)
    """

    def __init__(
        self,
        time_constant: float = 5,
        length: int | None = 100,
        filter_order: int = 1,
        reduction: Reduction = "sum",
        *,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        super().__init__(
            time_constant=time_constant,
            length=length,
            filter_order=filter_order,
            reduction=reduction,
            start=start,
            stop=stop,
        )

    def filter(self, x: torch.Tensor) -> torch.Tensor:
        """Trains ``(*, T)`` after the loss's low-pass filter: what it compares."""
        return exponential_filter(x, self.time_constant, self.length, self.filter_order)


class SpikeRate(Loss, function=spike_rate):
    """Spike-rate loss, a drop-in for ``slayer.loss.SpikeRate``.

    >>> SpikeRate(true_rate=0.5, false_rate=0.0)(torch.ones(1, 2, 4), torch.tensor([0]))
    tensor(1.2500)
    """

    def __init__(
        self,
        true_rate: float,
        false_rate: float,
        moving_window: int | None = None,
        reduction: Reduction = "sum",
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "mean",
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            true_rate=true_rate,
            false_rate=false_rate,
            moving_window=moving_window,
            reduction=reduction,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class SpikeMax(Loss, function=spike_max):
    """Negative log-likelihood of spike shares, a drop-in for ``slayer.loss.SpikeMax``.

    >>> SpikeMax()(torch.zeros(1, 2, 4), torch.tensor([0]))  # all silent: log 2, not inf
    tensor(0.6931)
    """

    def __init__(
        self,
        moving_window: int | None = None,
        mode: Mode = "probability",
        reduction: Reduction = "sum",
        *,
        scale: float = 1.0,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "sum",
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            moving_window=moving_window,
            mode=mode,
            reduction=reduction,
            scale=scale,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class SpikeMoid(Loss, function=spike_moid):
    """Binary cross entropy of sigmoid rates, a drop-in for ``slayer.loss.SpikeMoid``.

    >>> spikes = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    >>> SpikeMoid(alpha=0.1, theta=0.25)(spikes, torch.tensor([[1.0, 0.0]]))
    tensor(0.1578)
    """

    def __init__(
        self,
        moving_window: int | None = None,
        reduction: Reduction = "sum",
        alpha: float | torch.Tensor = 1,
        theta: float | torch.Tensor = 0,
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "mean",
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            moving_window=moving_window,
            reduction=reduction,
            alpha=alpha,
            theta=theta,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
            label_form=label_form,
            ignore_index=ignore_index,
        )
