"""Losses on spike counts and rates; keyword names as in snnTorch, definitions as in its documentation."""

from __future__ import annotations

import torch

from lava_spikeloss.arguments import check_region, check_spikes
from lava_spikeloss.losses.cross_entropy import cross_entropy
from lava_spikeloss.losses.labels import (
    IGNORED,
    LabelForm,
    labels_per_train,
    read_labels,
    wanted_values,
    with_classes,
)
from lava_spikeloss.losses.lengths import Lengths, padded
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import (
    check_population,
    check_weight_length,
    collapse,
    compute_dtype,
    pool_population,
    reduce_counts,
    reduce_weighted,
    squared_errors,
)
from lava_spikeloss.spike_trains import spike_count

__all__ = [
    "CECountLoss",
    "CERateLoss",
    "MSECountLoss",
    "RegionCountLoss",
    "ce_count_loss",
    "ce_rate_loss",
    "mse_count_loss",
    "region_count_loss",
]


@padded(weighs_steps=True)
def ce_rate_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    population_code: bool = False,
    num_classes: int | None = None,
    reduction: Reduction = "mean",
    weight: torch.Tensor | None = None,
    *,
    population_pooling: str = "sum",
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Cross entropy of the spikes of every step, averaged over time.

    .. math::
        \ell_n = \frac{1}{T} \sum_{t=0}^{T-1} -w_{y_n} \log \operatorname{softmax}(s_n[t] / \vartheta)_{y_n}

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        reduction: ``"mean"`` (by the sum of the weights for class indices), ``"sum"`` or ``"none"`` over samples.
        weight: weight of each class, :math:`w`, as in ``torch.nn.CrossEntropyLoss``.
        population_pooling: how the spikes of a group are pooled, ``"sum"`` or ``"mean"``.
        temperature: :math:`\vartheta`, in spikes. Binary spikes and ``1`` cannot bring ten classes below 1.461.
        label_smoothing: as in ``torch.nn.CrossEntropyLoss``, in [0, 1].
        focal_gamma: :math:`\gamma` of the focal factor :math:`(1 - p)^\gamma`; 0 for none.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar, or :math:`(N)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Eshraghian et al., "Training spiking neural networks using lessons from deep learning", Proc. IEEE 2023.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> ce_rate_loss(spikes, torch.tensor([0]))
        tensor(0.5032)
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_options(population_code=population_code, num_classes=num_classes, population_pooling=population_pooling)
    trains = collapse(spikes)
    classes = check_population(trains.shape[1], population_code, num_classes)
    return cross_entropy(
        pool_population(trains, classes, population_pooling),
        read_labels(labels, spikes.shape, classes, label_form=label_form, ignore_index=ignore_index),
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )


@padded()
def ce_count_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    population_code: bool = False,
    num_classes: int | None = None,
    reduction: Reduction = "mean",
    weight: torch.Tensor | None = None,
    *,
    population_pooling: str = "sum",
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Cross entropy of the spike counts.

    .. math::
        \ell_n = -w_{y_n} \log \operatorname{softmax}\left(\frac{1}{\vartheta}\sum_t s_n[t]\right)_{y_n}

    With a population code the counts of a class's contiguous group of neurons are pooled.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label; labels per step are averaged over time.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        reduction: ``"mean"`` (by the sum of the weights for class indices), ``"sum"`` or ``"none"`` over samples.
        weight: weight of each class, :math:`w`, as in ``torch.nn.CrossEntropyLoss``.
        population_pooling: how the counts of a group are pooled, ``"sum"`` or ``"mean"``.
        temperature: :math:`\vartheta`, in spikes. Counts are large: with ``1`` a class 110 spikes behind gets a
            gradient of exactly 0 in float32; the number of steps makes it the softmax of rates.
        label_smoothing: as in ``torch.nn.CrossEntropyLoss``, in [0, 1].
        focal_gamma: :math:`\gamma` of the focal factor :math:`(1 - p)^\gamma`; 0 for none.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar, or :math:`(N)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Eshraghian et al., "Training spiking neural networks using lessons from deep learning", Proc. IEEE 2023;
        focal factor: Lin et al., "Focal loss for dense object detection", ICCV 2017.

    Example:
        >>> spikes = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
        >>> ce_count_loss(spikes, torch.tensor([0]))
        tensor(0.3133)
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_options(population_code=population_code, num_classes=num_classes, population_pooling=population_pooling)
    trains = collapse(spikes)
    classes = check_population(trains.shape[1], population_code, num_classes)
    return cross_entropy(
        pool_population(spike_count(trains), classes, population_pooling),
        read_labels(labels, spikes.shape, classes, label_form=label_form, ignore_index=ignore_index),
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )


@padded()
def mse_count_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    correct_rate: float = 1,
    incorrect_rate: float = 0,
    population_code: bool = False,
    num_classes: int | None = None,
    reduction: Reduction = "mean",
    weight: torch.Tensor | None = None,
    *,
    population_pooling: str = "sum",
    time_scale: str = "count",
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Squared difference between each class's spike count and the count that its label asks for.

    .. math::
        \ell_{nc} = \frac{w_{y_n}}{T} \left(k_{nc} - G\,T\,\hat r_{nc}\right)^2, \qquad
        \hat r_{nc} = r_\text{correct}\, y_{nc} + r_\text{incorrect}\, (1 - y_{nc})

    :math:`k` is the spike count, :math:`G` the number of neurons per class (1 without a population code, and for
    ``population_pooling="mean"``). The target count :math:`T \hat r` is not rounded.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label; labels per step are averaged over time.
        correct_rate: rate of the labelled class, in spikes per step, in [0, 1].
        incorrect_rate: rate of every other class, in spikes per step, in [0, 1].
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        reduction: ``"mean"`` over samples and classes (by the sum of the weights for class indices), ``"sum"``
            or ``"none"``.
        weight: weight of each class, :math:`w`: that of its label weighs a sample.
        population_pooling: how the counts of a group are pooled, ``"sum"`` or ``"mean"``.
        time_scale: ``"count"`` divides by :math:`T` as above; a silent net's loss then grows with :math:`T`.
            ``"rate"`` divides by :math:`T^2`: the squared difference of rates, which does not.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar, or :math:`(N, C)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Shrestha and Orchard, "SLAYER", NeurIPS 2018; Eshraghian et al., Proc. IEEE 2023.

    Example:
        >>> spikes = torch.tensor([[[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
        >>> mse_count_loss(spikes, torch.tensor([0]), correct_rate=0.75)
        tensor(0.1250)
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_options(
        correct_rate=correct_rate,
        incorrect_rate=incorrect_rate,
        population_code=population_code,
        num_classes=num_classes,
        reduction=reduction,
        weight=weight,
        population_pooling=population_pooling,
        time_scale=time_scale,
    )
    trains = collapse(spikes)
    steps = trains.shape[-1]
    classes = check_population(trains.shape[1], population_code, num_classes)
    check_weight_length(weight, classes)
    dtype = compute_dtype(spikes.dtype)
    given = labels_per_train(
        read_labels(labels, spikes.shape, classes, label_form=label_form, ignore_index=ignore_index), classes, dtype
    )
    neurons = trains.shape[1] // classes if population_pooling == "sum" else 1
    full = int(steps * neurons)  # sizes are tensors in torch.jit.trace
    wanted = wanted_values(with_classes(given), classes, dtype, full * correct_rate, full * incorrect_rate)
    counts = pool_population(spike_count(trains), classes, population_pooling)
    divisor = steps if time_scale == "count" else steps**2
    if weight is None:
        return reduce_counts(counts, wanted, divisor, reduction, given.kept)
    return reduce_weighted(squared_errors(counts, wanted) / divisor, given, weight, reduction)


@padded()
def region_count_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    true_count: float,
    false_count: float,
    start: int = 0,
    stop: int | None = None,
    reduction: Reduction = "sum",
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "sum",
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Squared difference between the number of spikes in a target region and the desired number.

    .. math::
        L = \frac{1}{2 (b - a)} \sum_{n,c} \left(\sum_{t=a}^{b-1} s_{nc}[t] - \hat k_{nc}\right)^2, \qquad
        \hat k_{nc} = k_\text{true}\, y_{nc} + k_\text{false}\, (1 - y_{nc})

    The gradient is the same at every step of the region :math:`[a, b)`: the error in spikes per step. Steps outside
    the region are free. For spike times in a region see ``start`` and ``stop`` of :func:`spike_time`.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        labels: any form of label; labels per step are averaged over time.
        true_count: spikes that the labelled class should fire in the region.
        false_count: spikes that every other class should fire in the region.
        start: :math:`a`, first step of the region.
        stop: :math:`b`, first step after the region; ``None`` for the end of the train.
        reduction: ``"sum"`` and ``"mean"`` over all elements, or ``"none"``.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how the counts of a group are pooled, ``"sum"`` or ``"mean"``.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar, or :math:`(N, C)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, an empty region, a label out of range, or an option out of its range.

    Reference:
        The ``NumSpikes`` loss of Shrestha and Orchard, "SLAYER", NeurIPS 2018.

    Example:
        >>> spikes = torch.tensor([[[1.0, 1.0, 1.0, 0.0]]])
        >>> region_count_loss(spikes, torch.tensor([0]), true_count=2, false_count=0, start=2)
        tensor(0.2500)
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_options(
        true_count=true_count,
        false_count=false_count,
        start=start,
        stop=stop,
        reduction=reduction,
        population_code=population_code,
        num_classes=num_classes,
        population_pooling=population_pooling,
    )
    region = check_region(start, stop, spikes.shape[-1])
    trains = collapse(spikes)[..., region]
    classes = check_population(trains.shape[1], population_code, num_classes)
    dtype = compute_dtype(spikes.dtype)
    given = labels_per_train(
        read_labels(labels, spikes.shape, classes, label_form=label_form, ignore_index=ignore_index), classes, dtype
    )
    wanted = wanted_values(with_classes(given), classes, dtype, true_count, false_count)
    counts = pool_population(spike_count(trains), classes, population_pooling)
    return reduce_counts(counts, wanted, 2 * (region.stop - region.start), reduction, given.kept)


class CERateLoss(Loss, function=ce_rate_loss):
    """Cross entropy of the spikes of every step, averaged over time.

    >>> CERateLoss()(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), torch.tensor([0]))
    tensor(0.5032)
    """

    def __init__(
        self,
        population_code: bool = False,
        num_classes: int | None = None,
        reduction: Reduction = "mean",
        weight: torch.Tensor | None = None,
        *,
        population_pooling: str = "sum",
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            population_code=population_code,
            num_classes=num_classes,
            reduction=reduction,
            weight=weight,
            population_pooling=population_pooling,
            temperature=temperature,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class CECountLoss(Loss, function=ce_count_loss):
    """Cross entropy of the spike counts.

    >>> CECountLoss(population_code=True, num_classes=2)(torch.ones(1, 6, 4), torch.tensor([1]))
    tensor(0.6931)
    """

    def __init__(
        self,
        population_code: bool = False,
        num_classes: int | None = None,
        reduction: Reduction = "mean",
        weight: torch.Tensor | None = None,
        *,
        population_pooling: str = "sum",
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            population_code=population_code,
            num_classes=num_classes,
            reduction=reduction,
            weight=weight,
            population_pooling=population_pooling,
            temperature=temperature,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class MSECountLoss(Loss, function=mse_count_loss):
    """Squared difference of spike counts and target counts.

    >>> MSECountLoss(correct_rate=0.5)(torch.ones(1, 2, 4), torch.tensor([0]))
    tensor(2.5000)
    """

    def __init__(
        self,
        correct_rate: float = 1,
        incorrect_rate: float = 0,
        population_code: bool = False,
        num_classes: int | None = None,
        reduction: Reduction = "mean",
        weight: torch.Tensor | None = None,
        *,
        population_pooling: str = "sum",
        time_scale: str = "count",
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            correct_rate=correct_rate,
            incorrect_rate=incorrect_rate,
            population_code=population_code,
            num_classes=num_classes,
            reduction=reduction,
            weight=weight,
            population_pooling=population_pooling,
            time_scale=time_scale,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class RegionCountLoss(Loss, function=region_count_loss):
    """Squared difference of spike counts and target counts in a region of time.

    >>> RegionCountLoss(true_count=2, false_count=0, start=2)(torch.ones(1, 1, 4), torch.tensor([0]))
    tensor(0.)
    """

    def __init__(
        self,
        true_count: float,
        false_count: float,
        start: int = 0,
        stop: int | None = None,
        reduction: Reduction = "sum",
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "sum",
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            true_count=true_count,
            false_count=false_count,
            start=start,
            stop=stop,
            reduction=reduction,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
            label_form=label_form,
            ignore_index=ignore_index,
        )
