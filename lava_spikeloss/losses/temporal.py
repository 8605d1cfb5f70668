"""Losses on the times of the first spikes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lava_spikeloss.arguments import check_spikes, check_tensor
from lava_spikeloss.losses.cross_entropy import cross_entropy
from lava_spikeloss.losses.labels import IGNORED, LabelForm, Labels, labels_per_train, read_labels, targets_per_train
from lava_spikeloss.losses.lengths import Lengths, padded
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import (
    check_population,
    check_weight_length,
    collapse,
    compute_dtype,
    pool_population,
    reduce,
    reduce_weighted,
)
from lava_spikeloss.spike_trains import times_of_ranks

__all__ = [
    "CETemporalLoss",
    "FirstSpikeLoss",
    "MSETemporalLoss",
    "ce_temporal_loss",
    "first_spike_loss",
    "mse_temporal_loss",
]

_LARGEST = 80.0  # its exponential is finite in float32, even when it is multiplied by a gradient

SpikeTimes = float | Sequence[float] | torch.Tensor


@padded()
def mse_temporal_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    target_is_time: bool = False,
    on_target: SpikeTimes = 0,
    off_target: SpikeTimes = -1,
    tolerance: float = 0,
    multi_spike: bool = False,
    reduction: Reduction = "mean",
    weight: torch.Tensor | None = None,
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "sum",
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Squared difference between the times of the first spikes and their targets.

    .. math::
        \ell_{ncf} = w_{y_n} \left(\frac{t^{(f)}_{nc} - \hat t^{(f)}_{nc}}{T}\right)^2 \quad
        \text{and 0 where } |t - \hat t| < \text{tolerance}

    A spike that never comes counts as one at the last step, :math:`T - 1`. The gradient is the surrogate of
    :func:`first_spike_times`; it reaches silent neurons.

    Args:
        spikes: output spikes of any dtype and sign; the dimensions between batch and time are collapsed into classes.
        labels: any form of label, or with ``target_is_time`` the target times, which are not changed.
        target_is_time: the labels are times, in steps; a negative time counts from the end, -1 is the last step.
        on_target: time at which the labelled class should fire, in steps; with ``multi_spike`` one for each spike.
        off_target: time at which every other class should fire; with ``multi_spike`` as many as ``on_target``.
        tolerance: an error below it costs nothing, in steps.
        multi_spike: compare the first :math:`F` spikes instead of the first one.
        reduction: ``"mean"`` over all elements (by the sum of the weights for class indices), ``"sum"``
            or ``"none"``.
        weight: weight of each class, :math:`w`: that of its label weighs a sample. Not with ``target_is_time``.
        population_code: several neurons per class, in contiguous groups, whose spikes form one train.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how the spikes of a group are pooled, ``"sum"`` or ``"mean"``.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`; as times :math:`(N, C)` or
          :math:`(C)`, with ``multi_spike`` :math:`(N, C, F)`
        - output: a scalar; for ``reduction="none"`` :math:`(N, C)`, with ``multi_spike`` :math:`(N, C, F)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, targets of different lengths,
            or an option out of its range.

    Reference:
        Eshraghian et al., "Training spiking neural networks using lessons from deep learning", Proc. IEEE 2023.

    Example:
        >>> spikes = torch.tensor([[[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
        >>> mse_temporal_loss(spikes, torch.tensor([0]))
        tensor(0.0312)
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_options(
        target_is_time=target_is_time,
        on_target=on_target,
        off_target=off_target,
        tolerance=tolerance,
        multi_spike=multi_spike,
        reduction=reduction,
        weight=weight,
        population_code=population_code,
        num_classes=num_classes,
        population_pooling=population_pooling,
    )
    trains, classes = _pooled(spikes, population_code, num_classes, population_pooling)
    steps, dtype = trains.shape[-1], compute_dtype(spikes.dtype)
    check_weight_length(weight, classes)
    if target_is_time:
        targets = _from_start(_given_times(labels, trains.shape[0], classes, multi_spike), steps)
        given = Labels(targets)
    else:
        given = read_labels(labels, spikes.shape, classes, label_form=label_form, ignore_index=ignore_index)
        given = labels_per_train(given, classes, dtype)
        on, off = (_from_start(_as_times(times, dtype, labels.device), steps) for times in (on_target, off_target))
        targets = off + (on - off) * targets_per_train(given, classes, dtype).values.unsqueeze(-1)
    times = times_of_ranks(trains, targets.shape[-1], silent=steps - 1)
    errors = times - targets.to(times.dtype)
    if tolerance:
        errors = torch.where(errors.abs() < tolerance, 0.0, errors)
    errors = (errors / steps).square()
    return reduce_weighted(errors if multi_spike else errors.squeeze(-1), given, weight, reduction)


@padded()
def ce_temporal_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    inverse: str = "negate",
    reduction: Reduction = "mean",
    weight: torch.Tensor | None = None,
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "sum",
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Cross entropy of the first-spike times: the labelled class should fire before the others.

    .. math::
        \ell_n = -w_{y_n} \log \operatorname{softmax}(x_n / \vartheta)_{y_n}, \qquad
        x = \begin{cases}
            -t^{(1)} & \text{inverse "negate"} \\
            1 / (t^{(1)} + 1) & \text{inverse "reciprocal"}
        \end{cases}

    A neuron that never fires counts as firing at the last step, :math:`T - 1`. The gradient is the surrogate of
    :func:`first_spike_times`; it reaches silent neurons.

    Args:
        spikes: output spikes of any dtype and sign; the dimensions between batch and time are collapsed into classes.
        labels: any form of label; labels per step are averaged over time.
        inverse: how an early spike becomes a large score, ``"negate"`` or ``"reciprocal"``.
        reduction: ``"mean"`` (by the sum of the weights for class indices), ``"sum"`` or ``"none"`` over samples.
        weight: weight of each class, :math:`w`, as in ``torch.nn.CrossEntropyLoss``.
        population_code: several neurons per class, in contiguous groups, whose spikes form one train.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how the spikes of a group are pooled, ``"sum"`` or ``"mean"``.
        temperature: :math:`\vartheta`, in steps for ``"negate"``: the number of steps makes the loss independent of
            it. For ``"reciprocal"`` a number below 1: with 1, two classes cannot fall below 0.313.
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
        >>> spikes = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        >>> ce_temporal_loss(spikes, torch.tensor([0]))
        tensor(0.3133)
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_options(
        inverse=inverse, population_code=population_code, num_classes=num_classes, population_pooling=population_pooling
    )
    trains, classes = _pooled(spikes, population_code, num_classes, population_pooling)
    times = times_of_ranks(trains, 1, silent=trains.shape[-1] - 1).squeeze(-1)
    return cross_entropy(
        -times if inverse == "negate" else 1 / (times + 1),
        read_labels(labels, spikes.shape, classes, label_form=label_form, ignore_index=ignore_index),
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )


@padded()
def first_spike_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    xi: float = 1.0,
    early_weight: float = 0.005,
    early_scale: float | None = None,
    reduction: Reduction = "mean",
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "sum",
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Time-to-first-spike cross entropy, with a term that asks for an early answer.

    .. math::
        \ell_n = \log \sum_c \exp\left(-\frac{t_c - t_y}{\xi}\right) + \alpha \left(e^{t_y / \beta} - 1\right)

    The first term depends on differences only: shifting all spikes in time does not change it. A neuron that never
    fires counts as firing at :math:`T`, after the end; the surrogate gradient of :func:`first_spike_times` reaches it.

    Args:
        spikes: output spikes of any dtype and sign; the dimensions between batch and time are collapsed into classes.
        labels: any form of label; several labels per sample are averaged with their weights.
        xi: :math:`\xi`, how far apart the spikes of two classes should be, in steps.
        early_weight: :math:`\alpha`, 0 for no such term.
        early_scale: :math:`\beta`, in steps; ``None`` for the length :math:`T` of the trial.
        reduction: ``"mean"`` and ``"sum"`` over samples, or ``"none"``.
        population_code: several neurons per class, in contiguous groups, whose spikes form one train.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how the spikes of a group are pooled, ``"sum"`` or ``"mean"``.
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
        Göltz et al., "Fast and energy-efficient neuromorphic deep learning with first-spike times", Nature Machine
        Intelligence 2021; Wunderlich and Pehle, "Event-based backpropagation", Scientific Reports 2021.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        >>> first_spike_loss(spikes, torch.tensor([0]), early_weight=0)
        tensor(0.3133)
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_options(
        xi=xi,
        early_weight=early_weight,
        early_scale=early_scale,
        reduction=reduction,
        population_code=population_code,
        num_classes=num_classes,
        population_pooling=population_pooling,
    )
    trains, classes = _pooled(spikes, population_code, num_classes, population_pooling)
    times = times_of_ranks(trains, 1, silent=trains.shape[-1]).squeeze(-1)
    given = read_labels(labels, spikes.shape, classes, label_form=label_form, ignore_index=ignore_index)
    targets, kept = targets_per_train(given, classes, times.dtype)
    losses = -(targets * torch.log_softmax(-times / xi, dim=1)).sum(1)
    if early_weight:
        scale = early_scale or trains.shape[-1]
        # The exponential of another class's time may overflow.
        late = torch.expm1(torch.where((targets > 0) | (times < _LARGEST * scale), times, 0.0) / scale)
        losses = losses + early_weight * (targets * late).sum(1)
    return reduce(losses, reduction, kept)


def _pooled(
    spikes: torch.Tensor, population_code: bool, num_classes: int | None, pooling: str
) -> tuple[torch.Tensor, int]:
    """Trains ``(N, C, T)`` that are not 0 where a neuron of the group fires, and the number of classes."""
    trains = collapse(spikes)
    classes = check_population(trains.shape[1], population_code, num_classes)
    pooled = pool_population(trains, classes, pooling)
    if classes == trains.shape[1]:
        return pooled, classes
    fired = pool_population(trains != 0, classes, "sum") > 0
    return pooled + (fired & (pooled == 0)), classes  # graded spikes of opposite sign do not cancel


def _from_start(times: torch.Tensor, steps: int) -> torch.Tensor:
    """Times that count from the end, -1 for the last step, as times from the start."""
    return torch.where(times < 0, times + steps, times)


def _as_times(value: SpikeTimes, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value.to(device=device, dtype=dtype)
    times = [value] if isinstance(value, (int, float)) else value
    # One fill for each: a copy from the host would make the host wait.
    return torch.cat([torch.full((1,), float(time), dtype=dtype, device=device) for time in times])


def _given_times(times: torch.Tensor, samples: int, classes: int, multi_spike: bool) -> torch.Tensor:
    """Target times ``(N, C, F)`` that the caller gave."""
    check_tensor("labels", times)
    if multi_spike and times.dim() == 3 and times.shape[:2] == (samples, classes):
        return times
    if not multi_spike and times.shape in ((classes,), (samples, classes)):
        return times.expand(samples, classes).unsqueeze(-1)
    expected = f"({samples}, {classes}, F)" if multi_spike else f"({samples}, {classes}) or ({classes},)"
    raise ValueError(f"Expected argument `labels` to hold times of shape {expected} but got {tuple(times.shape)}.")


class MSETemporalLoss(Loss, function=mse_temporal_loss):
    """Squared difference of first-spike times and target times.

    >>> spikes = torch.tensor([[[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    >>> MSETemporalLoss()(spikes, torch.tensor([0]))
    tensor(0.0312)
    """

    def __init__(
        self,
        target_is_time: bool = False,
        on_target: SpikeTimes = 0,
        off_target: SpikeTimes = -1,
        tolerance: float = 0,
        multi_spike: bool = False,
        reduction: Reduction = "mean",
        weight: torch.Tensor | None = None,
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "sum",
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            target_is_time=target_is_time,
            on_target=on_target,
            off_target=off_target,
            tolerance=tolerance,
            multi_spike=multi_spike,
            reduction=reduction,
            weight=weight,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
            label_form=label_form,
            ignore_index=ignore_index,
        )

    @property
    def labels_per_step(self) -> bool | None:
        """Not where they are times, ``(N, C)``."""
        return False if self.target_is_time else None


class CETemporalLoss(Loss, function=ce_temporal_loss):
    """Cross entropy of the first-spike times.

    >>> CETemporalLoss()(torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]), torch.tensor([0]))
    tensor(0.3133)
    """

    def __init__(
        self,
        inverse: str = "negate",
        reduction: Reduction = "mean",
        weight: torch.Tensor | None = None,
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "sum",
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            inverse=inverse,
            reduction=reduction,
            weight=weight,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
            temperature=temperature,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class FirstSpikeLoss(Loss, function=first_spike_loss):
    """Time-to-first-spike cross entropy with an early-spike term.

    >>> spikes = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    >>> FirstSpikeLoss(early_weight=0)(spikes, torch.tensor([0]))
    tensor(0.3133)
    """

    def __init__(
        self,
        xi: float = 1.0,
        early_weight: float = 0.005,
        early_scale: float | None = None,
        reduction: Reduction = "mean",
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "sum",
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            xi=xi,
            early_weight=early_weight,
            early_scale=early_scale,
            reduction=reduction,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
            label_form=label_form,
            ignore_index=ignore_index,
        )
