"""Drop-ins for ``lava.lib.dl.slayer.loss``: same constructors and defaults, same values and gradients where right.

Where lava-dl's losses have no useful gradient these have one: a silent target is pushed up, a saturated output learns.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Any

import torch
import torch.nn.functional as F

from lava_spikeloss._autograd import Gradient, Rule, separable
from lava_spikeloss._loops import array, loops_for
from lava_spikeloss.arguments import check_region, check_same_shape, check_spikes
from lava_spikeloss.losses.counts import count, joined, of_counts
from lava_spikeloss.losses.cross_entropy import cross_entropy_rule
from lava_spikeloss.losses.labels import (
    canonical_labels,
    labels_per_train,
    targets_per_step,
    wanted_values,
    with_classes,
)
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import check_options
from lava_spikeloss.losses.reduction import (
    as_float,
    check_population,
    collapse,
    compute_dtype,
    pool_population,
    reduce,
)
from lava_spikeloss.spike_trains import (
    exponential_filter,
    is_leaky_sum,
    low_pass,
    moving_window_rate,
    window_sum,
)

__all__ = ["SpikeMax", "SpikeMoid", "SpikeRate", "SpikeTime", "spike_max", "spike_moid", "spike_rate", "spike_time"]

_EPS = 1e-6  # lava-dl's, in the denominator of a probability


def _of_rates(rule: Rule) -> Callable[..., torch.Tensor]:
    """The reduced losses of ``rule`` for rates ``(N, C)``, or for those of a moving window, ``(N, C, T)``.

    Rates are counts of spikes ``(N, C, T)`` over ``divisor``. With a window of trains ``(N, C, T)`` the way from
    the spikes to a sample's loss is one rule: neither rates nor their gradient are kept.
    """
    of_rates, of_spikes = separable(rule), of_counts(rule)

    @separable
    def of_trains(
        trains: torch.Tensor, labels: torch.Tensor, out: torch.Tensor | None, window: int, mean: bool, *options: Any
    ) -> tuple[torch.Tensor, Gradient]:
        losses, gradient = rule(moving_window_rate(trains, window), labels, None, *options)
        share = losses.shape[1:].numel() if mean else 1
        per_sample = losses.sum((1, 2), keepdim=True) / share
        return per_sample, lambda: window_sum(gradient(), window, window * share, ahead=True, out=out)

    def loss(
        x: torch.Tensor, labels: torch.Tensor, divisor: int, window: int | None, reduction: str, *options: Any
    ) -> torch.Tensor:
        if window is None:
            return of_spikes(x, labels, divisor, reduction, *options)
        if reduction == "none":
            return of_rates(moving_window_rate(x, window), labels, *options)
        return reduce(of_trains(x, labels, window, reduction == "mean", *options), reduction)

    return loss


def spike_time(
    spikes: torch.Tensor,
    desired: torch.Tensor,
    time_constant: float = 5,
    length: int | None = 100,
    filter_order: int = 1,
    reduction: str = "sum",
    *,
    start: int = 0,
    stop: int | None = None,
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
    check_options(time_constant=time_constant, length=length, filter_order=filter_order, reduction=reduction)
    region = check_region(start, stop, spikes.shape[-1])
    if reduction == "none":
        difference = as_float(spikes) - desired.to(compute_dtype(spikes.dtype))
        return exponential_filter(difference, time_constant, length, filter_order)[..., region].square()
    rows = spikes.reshape(-1, spikes.shape[-1]), desired.reshape(-1, spikes.shape[-1])
    total = 2 * _half_filtered_squares(*rows, region.start, region.stop, time_constant, length, filter_order).sum()
    return total / spikes[..., region].numel() if reduction == "mean" else total


@separable
def _half_filtered_squares(
    spikes: torch.Tensor,
    desired: torch.Tensor,
    out: torch.Tensor | None,
    start: int,
    stop: int,
    *kernel: Any,
) -> tuple[torch.Tensor, Gradient]:
    """Half of the sum ``(*, 1)`` of the squares of the filtered difference in a region."""
    outside = start, spikes.shape[-1] - stop
    loops = loops_for(spikes)
    if loops and out is not None and out.is_contiguous() and is_leaky_sum(out, *kernel) and not any(outside):
        halves = out.new_empty(len(out), 1)
        wanted = array(desired.to(out.dtype))
        loops.filtered_squares(array(spikes), wanted, exp(-1 / kernel[0]), array(halves), array(out))
        return halves, lambda: out
    difference = as_float(spikes)
    difference = difference - desired.to(difference.dtype)
    error = low_pass(difference, *kernel)[..., start:stop]
    losses = torch.linalg.vector_norm(error, dim=-1, keepdim=True).square().div(2)
    return losses, lambda: low_pass(F.pad(error, outside), *kernel, reverse=True)


def spike_rate(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    true_rate: float,
    false_rate: float,
    moving_window: int | None = None,
    reduction: str = "sum",
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "mean",
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
    x, labels, divisor = _spikes_or_trains(
        spikes, labels, moving_window, population_code, num_classes, population_pooling, integers_are_steps=True
    )
    if moving_window is None:
        wanted = wanted_values(labels, x.shape[1], compute_dtype(x.dtype), true_rate, false_rate)
        return F.mse_loss(count(x) / divisor, wanted, reduction=reduction)
    return _squared_errors(x, labels, divisor, moving_window, reduction, true_rate, false_rate)


@_of_rates
def _squared_errors(
    rates: torch.Tensor, labels: torch.Tensor, out: torch.Tensor | None, true_rate: float, false_rate: float
) -> tuple[torch.Tensor, Gradient]:
    errors = rates - wanted_values(labels, rates.shape[1], rates.dtype, true_rate, false_rate)
    return errors.square(), lambda: torch.mul(errors, 2, out=out)


def spike_max(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    moving_window: int | None = None,
    mode: str = "probability",
    reduction: str = "sum",
    *,
    scale: float = 1.0,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "sum",
) -> torch.Tensor:
    r"""Negative log-likelihood of the label, with a class's share of the spikes as its probability.

    .. math::
        L = -\sum_n \sum_c y_{nc} \log p_{nc}, \qquad
        p_c = \begin{cases}
            r_c / (\sum_k r_k + 10^{-6}) & \text{mode "probability"} \\
            \operatorname{softmax}(\text{scale} \cdot r)_c & \text{mode "softmax"} \\
            m_c / \sum_k m_k,\ m = \max(r, 1/W) & \text{mode "count"}
        \end{cases}

    :math:`r` is the rate over the whole train, or with a moving window that of its last :math:`W` steps; then the sum
    runs over time too. In mode "probability" a sample whose labelled class is silent is treated as in mode "count":
    every class counts as if it had fired at least once. There the gradient passes the maximum unchanged, so
    :math:`\partial L / \partial m_c = (p_c - y_c) / m_c`: a silent label is pushed up.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label. Without a window, labels per step are averaged over time.
        moving_window: :math:`W`, in steps. ``None`` takes the rate over the whole train, :math:`W = T`.
        mode: ``"probability"`` or ``"softmax"`` as in lava-dl, or ``"count"`` as its authors run it.
        reduction: ``"sum"`` or ``"mean"`` over samples (and steps, with a window), or ``"none"``.
        scale: inverse temperature of mode "softmax". Rates end at 1, so with ``scale=1`` ten classes cannot fall
            below 1.461; the number of steps as ``scale`` makes it the softmax of spike counts.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how a group's rates are pooled, ``"sum"`` or ``"mean"``.

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
    x, labels, divisor = _spikes_or_trains(
        spikes, labels, moving_window, population_code, num_classes, population_pooling, integers_are_steps=True
    )
    if mode == "softmax" and moving_window is None:
        targets = labels.squeeze(1) if labels.dtype == torch.int64 else labels
        return F.cross_entropy(count(x) * (scale / divisor), targets, reduction=reduction)
    if mode == "softmax":
        losses = _softmax_cross_entropy(x, labels, divisor, moving_window, reduction, scale)
    else:
        one_spike = 1 / (moving_window or spikes.shape[-1])
        losses = _share_cross_entropy(x, labels.detach(), divisor, moving_window, reduction, one_spike, mode == "count")
    return losses.squeeze(1) if reduction == "none" else losses


@_of_rates
def _softmax_cross_entropy(
    rates: torch.Tensor, labels: torch.Tensor, out: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, Gradient]:
    losses, gradient = cross_entropy_rule(rates * scale, labels, None)
    return losses, lambda: torch.mul(gradient(), scale, out=out)


@_of_rates
def _share_cross_entropy(
    rates: torch.Tensor, labels: torch.Tensor, out: torch.Tensor | None, one_spike: float, always_lift: bool
) -> tuple[torch.Tensor, Gradient]:
    """Negative log-likelihood ``(N, 1, ...)`` of ``m / sum m``: ``m`` are the rates, lifted to one spike if needed.

    The gradient passes the lifting unchanged.
    """
    indices = labels.dtype == torch.int64
    if indices:
        labels = labels.expand(-1, -1, *rates.shape[2:])
    eps = 0.0 if always_lift else _EPS
    if always_lift:
        lifted = rates.clamp(min=one_spike)
    elif indices:
        lifted = torch.maximum(rates, (rates.gather(1, labels) <= 0).to(rates.dtype) * one_spike)
    else:
        silent = ((rates <= 0) & (labels > 0)).any(1, keepdim=True)
        lifted = torch.maximum(rates, silent.to(rates.dtype) * one_spike)
    total = lifted.sum(1, keepdim=True) + eps
    if indices:
        labelled = lifted.gather(1, labels)
        losses = total.log() - labelled.log()
        return losses, lambda: (1 / total).expand_as(lifted).scatter_add(1, labels, -1 / labelled)
    weight = labels.sum(1, keepdim=True)
    losses = weight * total.log() - torch.xlogy(labels, lifted).sum(1, keepdim=True)
    return losses, lambda: weight / total - labels / (lifted + (labels <= 0))


def spike_moid(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    moving_window: int | None = None,
    reduction: str = "sum",
    alpha: float = 1,
    theta: float = 0,
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "mean",
) -> torch.Tensor:
    r"""Binary cross entropy of each class, with the sigmoid of its spike rate as the probability.

    .. math::
        L = -\sum_{n,c} y_{nc} \log p_{nc} + (1 - y_{nc}) \log (1 - p_{nc}), \qquad
        p = \sigma\!\left(\frac{r - \theta}{\alpha}\right)

    The value is lava-dl's: where the sigmoid rounds to 0 or 1 a wrong answer costs 100. The gradient is that of the
    logits, :math:`(p - y) / \alpha` by the rate, so a confident wrong answer keeps learning. With a moving
    window of :math:`W` steps the rate is that of the last :math:`W` steps, and the sum runs over time too.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label, of any dtype; several classes may be true at once.
            Without a window, labels per step are averaged over time.
        moving_window: :math:`W`, in steps. ``None`` takes the rate over the whole train.
        reduction: ``"sum"`` and ``"mean"`` over all elements, or ``"none"``.
        alpha: temperature of the sigmoid, in spikes per step, above 0.
        theta: rate at which a class is as likely as not, in spikes per step.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how a group's rates are pooled, ``"mean"`` or ``"sum"``.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`; with :math:`C = T` a label of two
          dimensions is :math:`(N, C)`
        - output: a scalar; for ``reduction="none"`` :math:`(N, C)`, with a window :math:`(N, C, T)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        The loss of ``lava.lib.dl.slayer``, introduced with lava-dl 0.5.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> spike_moid(spikes, torch.tensor([[1, 0]]), alpha=0.1, theta=0.25)
        tensor(0.1578)
    """
    check_options(reduction=reduction, alpha=alpha, theta=theta)
    x, labels, divisor = _spikes_or_trains(
        spikes, labels, moving_window, population_code, num_classes, population_pooling, integers_are_steps=False
    )
    return _sigmoid_cross_entropy(x, labels.detach(), divisor, moving_window, reduction, alpha, theta)


@_of_rates
def _sigmoid_cross_entropy(
    rates: torch.Tensor, labels: torch.Tensor, out: torch.Tensor | None, alpha: float, theta: float
) -> tuple[torch.Tensor, Gradient]:
    """Value from the probability, with each logarithm at least -100, as lava-dl; gradient from the logit."""
    p = ((rates - theta) / alpha).sigmoid()
    wrong = -(-p).log1p().clamp(min=-100)
    if labels.dtype == torch.int64:
        labels = labels.expand(-1, -1, *rates.shape[2:])
        right = -p.gather(1, labels).log().clamp(min=-100)
        one = torch.ones_like(right)
        return wrong.scatter(1, labels, right), lambda: p.scatter_add(1, labels, -one) / alpha
    right = -p.log().clamp(min=-100)
    return torch.lerp(wrong, right, labels.expand_as(p)), lambda: (p - labels) / alpha


def _spikes_or_trains(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    moving_window: int | None,
    population_code: bool,
    num_classes: int | None,
    population_pooling: str,
    *,
    integers_are_steps: bool,
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Trains ``(N, C, T)`` and their labels; without a window trains to be counted, and what makes counts rates.

    Labels are class indices, with a dimension of 1 for the classes, or targets. Both broadcast.
    """
    check_spikes("spikes", spikes)
    check_options(moving_window=moving_window, population_code=population_code, population_pooling=population_pooling)
    trains = collapse(spikes)
    classes = check_population(trains.shape[1], population_code, num_classes)
    labels = canonical_labels(
        labels, spikes.shape, classes, integers_are_steps=integers_are_steps and moving_window is not None
    )
    dtype = compute_dtype(spikes.dtype)
    if moving_window is None:
        spikes, divisor = joined(trains, classes, population_pooling)
        return spikes, with_classes(labels_per_train(labels, classes, dtype)), divisor * trains.shape[-1]
    pooled = pool_population(trains, classes, population_pooling)
    if labels.dtype == torch.int64:
        return pooled, labels.reshape(labels.shape[0], 1, -1), 1
    return pooled, targets_per_step(labels, classes, dtype), 1


class SpikeTime(Loss, function=spike_time):
    """Spike-time loss, a drop-in for ``slayer.loss.SpikeTime``.

    >>> SpikeTime(time_constant=1)(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
    tensor(1.1353)
    """

    def __init__(
        self,
        time_constant: float = 5,
        length: int | None = 100,
        filter_order: int = 1,
        reduction: str = "sum",
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
        reduction: str = "sum",
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "mean",
    ) -> None:
        super().__init__(
            true_rate=true_rate,
            false_rate=false_rate,
            moving_window=moving_window,
            reduction=reduction,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
        )


class SpikeMax(Loss, function=spike_max):
    """Negative log-likelihood of spike shares, a drop-in for ``slayer.loss.SpikeMax``.

    >>> SpikeMax()(torch.zeros(1, 2, 4), torch.tensor([0]))  # all silent: log 2, not inf
    tensor(0.6931)
    """

    def __init__(
        self,
        moving_window: int | None = None,
        mode: str = "probability",
        reduction: str = "sum",
        *,
        scale: float = 1.0,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "sum",
    ) -> None:
        super().__init__(
            moving_window=moving_window,
            mode=mode,
            reduction=reduction,
            scale=scale,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
        )


class SpikeMoid(Loss, function=spike_moid):
    """Binary cross entropy of sigmoid rates, a drop-in for ``slayer.loss.SpikeMoid``.

    >>> spikes = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    >>> SpikeMoid(alpha=0.1, theta=0.25)(spikes, torch.tensor([[1, 0]]))
    tensor(0.1578)
    """

    def __init__(
        self,
        moving_window: int | None = None,
        reduction: str = "sum",
        alpha: float = 1,
        theta: float = 0,
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "mean",
    ) -> None:
        super().__init__(
            moving_window=moving_window,
            reduction=reduction,
            alpha=alpha,
            theta=theta,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
        )
