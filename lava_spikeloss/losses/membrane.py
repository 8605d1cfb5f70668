"""Losses on membrane potentials, ``(N, C, ..., T)`` with time last."""

from __future__ import annotations

from math import inf

import torch

from lava_spikeloss.arguments import check_spikes, check_tensor
from lava_spikeloss.losses.cross_entropy import cross_entropy
from lava_spikeloss.losses.labels import (
    IGNORED,
    LabelForm,
    Labels,
    as_signed,
    label_forms,
    read_labels,
    sample_weights,
    targets_per_step,
)
from lava_spikeloss.losses.lengths import Lengths, check_lengths, padded, silent_after_the_end
from lava_spikeloss.losses.module import Loss, Regularizer
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import (
    as_float,
    check_weight_length,
    collapse,
    compute_dtype,
    kept_samples,
    matmul,
    reduce,
    reduce_steps,
    reduce_weighted,
    squared_errors,
)
from lava_spikeloss.spike_trains import spike_count

__all__ = [
    "CEMaxMembraneLoss",
    "CEMembraneIntegralLoss",
    "InformationMaximizationLoss",
    "MSEMembraneLoss",
    "MembraneSuppressionLoss",
    "ce_max_membrane_loss",
    "ce_membrane_integral_loss",
    "information_maximization_loss",
    "membrane_suppression_loss",
    "mse_membrane_loss",
]


@padded()
def ce_max_membrane_loss(
    membrane: torch.Tensor,
    labels: torch.Tensor,
    reduction: Reduction = "mean",
    weight: torch.Tensor | None = None,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Cross entropy of each class's largest membrane potential.

    .. math:: \ell_n = -w_{y_n} \log \operatorname{softmax}\left(\max_t v_n[t] / \vartheta\right)_{y_n}

    The gradient of a maximum goes to its first step.

    Args:
        membrane: membrane potentials; the dimensions between batch and time are collapsed into classes.
        labels: any form of label; labels per step are averaged over time.
        reduction: ``"mean"`` (by the sum of the weights for class indices), ``"sum"`` or ``"none"`` over samples.
        weight: weight of each class, :math:`w`, as in ``torch.nn.CrossEntropyLoss``.
        temperature: :math:`\vartheta`, in units of the membrane potential.
        label_smoothing: as in ``torch.nn.CrossEntropyLoss``, in [0, 1].
        focal_gamma: :math:`\gamma` of the focal factor :math:`(1 - p)^\gamma`; 0 for none.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - membrane: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar, or :math:`(N)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Zenke's SpyTorch; Eshraghian et al., Proc. IEEE 2023.

    Example:
        >>> membrane = torch.tensor([[[0.0, 2.0, 1.0], [0.5, 1.0, 0.0]]])
        >>> ce_max_membrane_loss(membrane, torch.tensor([0]))
        tensor(0.3133)
    """
    check_spikes("membrane", membrane, min_dims=3)
    potentials = as_signed(collapse(membrane))
    return cross_entropy(
        potentials.max(-1).values,
        read_labels(labels, membrane.shape, potentials.shape[1], label_form=label_form, ignore_index=ignore_index),
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )


@padded()
def ce_membrane_integral_loss(
    membrane: torch.Tensor,
    labels: torch.Tensor,
    integration_time: float | None = None,
    reduction: Reduction = "mean",
    weight: torch.Tensor | None = None,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Cross entropy of the membrane potential's integral, with earlier steps weighing more.

    .. math::
        \ell_n = -w_{y_n} \log \operatorname{softmax}(x_n / \vartheta)_{y_n}, \qquad
        x_n = \sum_{t=0}^{T-1} e^{-t / \tau}\, v_n[t]

    The gradient reaches every step, so it also reaches neurons that never fire.

    Args:
        membrane: membrane potentials; the dimensions between batch and time are collapsed into classes.
        labels: any form of label; labels per step are averaged over time.
        integration_time: :math:`\tau`, in steps; ``None`` for the length :math:`T` of the trial.
        reduction: ``"mean"`` (by the sum of the weights for class indices), ``"sum"`` or ``"none"`` over samples.
        weight: weight of each class, :math:`w`, as in ``torch.nn.CrossEntropyLoss``.
        temperature: :math:`\vartheta`, in units of the membrane potential times steps.
        label_smoothing: as in ``torch.nn.CrossEntropyLoss``, in [0, 1].
        focal_gamma: :math:`\gamma` of the focal factor :math:`(1 - p)^\gamma`; 0 for none.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - membrane: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar, or :math:`(N)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Nowotny, Turner and Knight, "Loss shaping enhances exact gradient learning with EventProp in spiking neural
        networks", arXiv 2212.01232.

    Example:
        >>> membrane = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> ce_membrane_integral_loss(membrane, torch.tensor([0]))
        tensor(0.5156)
    """
    check_spikes("membrane", membrane, min_dims=3)
    check_options(integration_time=integration_time)
    potentials = as_float(collapse(membrane))
    steps = potentials.shape[-1]
    time = torch.arange(steps, dtype=potentials.dtype, device=potentials.device)
    integral = matmul(potentials, torch.exp(-time / (integration_time or steps)))
    return cross_entropy(
        integral,
        read_labels(labels, membrane.shape, potentials.shape[1], label_form=label_form, ignore_index=ignore_index),
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )


@padded(weighs_steps=True)
def mse_membrane_loss(
    membrane: torch.Tensor,
    labels: torch.Tensor,
    time_var_targets: bool = False,
    on_target: float = 1,
    off_target: float = 0,
    reduction: Reduction = "mean",
    weight: torch.Tensor | None = None,
    *,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Squared difference between the membrane potential of every step and its target.

    .. math::
        \ell_{nc} = \frac{w_{y_n}}{T} \sum_{t=0}^{T-1} \left(v_{nc}[t] - \hat v_{nc}[t]\right)^2, \qquad
        \hat v = v_\text{on}\, y + v_\text{off}\, (1 - y)

    Args:
        membrane: membrane potentials; the dimensions between batch and time are collapsed into classes.
        labels: any form of label. :math:`(N, C, T)` with the default targets is the wanted trajectory itself.
        time_var_targets: the labels are per step: :math:`(N, T)` or :math:`(N, C, T)`; other forms are then an error,
            and these are an error without it.
        on_target: potential of the labelled class, of either sign.
        off_target: potential of every other class, of either sign.
        reduction: ``"mean"`` over samples and classes (by the sum of the weights for class indices), ``"sum"``
            or ``"none"``.
        weight: weight of each class, :math:`w`: that of its label weighs a sample. Labels per step weigh their step.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - membrane: :math:`(N, C, ..., T)`
        - labels: :math:`(N)` or :math:`(N, C)`; with ``time_var_targets`` :math:`(N, T)` or :math:`(N, C, T)`
        - output: a scalar, or :math:`(N, C)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Eshraghian et al., "Training spiking neural networks using lessons from deep learning", Proc. IEEE 2023.

    Example:
        >>> membrane = torch.tensor([[[1.0, 0.5], [0.0, 0.0]]])
        >>> mse_membrane_loss(membrane, torch.tensor([0]), off_target=-1)
        tensor(0.5625)
    """
    check_spikes("membrane", membrane, min_dims=3)
    check_options(
        time_var_targets=time_var_targets,
        on_target=on_target,
        off_target=off_target,
        reduction=reduction,
        weight=weight,
    )
    potentials = collapse(membrane)
    classes, dtype = potentials.shape[1], compute_dtype(membrane.dtype)
    check_weight_length(weight, classes)
    check_tensor("labels", labels)
    every_form = label_forms(membrane.shape, classes)
    forms = [form for form in every_form if form.per_step == time_var_targets]
    others = [form.shape for form in every_form if form.per_step != time_var_targets]
    if labels.shape in others and labels.shape not in [form.shape for form in forms]:
        raise ValueError(
            f"Expected argument `labels` to be {'(N, T) or (N, C, T)' if time_var_targets else '(N,) or (N, C)'} "
            f"with `time_var_targets={time_var_targets}` but got {tuple(labels.shape)}."
        )
    given = read_labels(
        labels,
        membrane.shape,
        classes,
        label_form=label_form,
        ignore_index=ignore_index,
        forms=forms,
        limits=(-inf, inf) if time_var_targets else (0, 1),  # a trajectory may have any value
    )
    targets = off_target + (on_target - off_target) * targets_per_step(given, classes, dtype)
    errors = squared_errors(potentials, targets)
    if not time_var_targets:
        return reduce_weighted(errors.sum(-1) / potentials.shape[-1], given, weight, reduction)
    if weight is not None:
        return _reduce_weighted_steps(errors, given, weight.to(dtype), reduction)
    return reduce_steps(errors, reduction, given.kept)


def _reduce_weighted_steps(errors: torch.Tensor, labels: Labels, weight: torch.Tensor, reduction: str) -> torch.Tensor:
    """Reduce errors ``(N, C, T)`` whose weights ``(N, T)`` differ from step to step."""
    weights, total = sample_weights(labels, weight)
    errors = errors * weights.unsqueeze(1)
    if reduction == "mean":
        return errors.sum() / (errors.shape[1] * total)
    return reduce_steps(errors, reduction, labels.kept)


@padded()
def membrane_suppression_loss(
    membrane: torch.Tensor,
    labels: torch.Tensor,
    ceiling: float = 0.0,
    reduction: Reduction = "mean",
    *,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Push down the membrane potential of the false classes: they should not even come near to firing.

    .. math::
        \ell_{nc} = \frac{1 - y_{nc}}{T} \sum_{t=0}^{T-1} \operatorname{relu}\left(v_{nc}[t] - v_\text{max}\right)^2

    Meant beside a loss on spikes that is a mean too, such as :func:`ce_count_loss`, with a weight of about 0.1; with 1
    the outputs may fall silent.

    Args:
        membrane: membrane potentials; the dimensions between batch and time are collapsed into classes.
        labels: any form of label; labels per step are applied per step.
        ceiling: :math:`v_\text{max}`, the potential above which a false class is pushed down.
        reduction: ``"mean"`` and ``"sum"`` over samples and classes, or ``"none"``.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - membrane: :math:`(N, C, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - output: a scalar, or :math:`(N, C)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        After Shrestha, Zhu and Sun, "Spikemax: spike-based loss methods for classification", IJCNN 2022.

    Example:
        >>> membrane = torch.tensor([[[2.0, 2.0], [1.0, -1.0]]])
        >>> membrane_suppression_loss(membrane, torch.tensor([0]), reduction="sum")
        tensor(0.5000)
    """
    check_spikes("membrane", membrane, min_dims=3)
    check_options(ceiling=ceiling, reduction=reduction)
    potentials = collapse(membrane)
    classes, steps = potentials.shape[1:]
    given = read_labels(labels, membrane.shape, classes, label_form=label_form, ignore_index=ignore_index)
    false = 1 - targets_per_step(given, classes, compute_dtype(membrane.dtype))
    above = as_float(potentials).clamp(min=ceiling)
    squares = squared_errors(above, above.new_full((), ceiling))
    if false.shape[-1] == 1:  # one label for all steps can wait for their sum
        return reduce(squares.sum(-1) * false.squeeze(-1) / steps, reduction, kept_samples(given.kept))
    return reduce_steps(squares * false, reduction, given.kept)


def information_maximization_loss(
    membrane: torch.Tensor,
    v_threshold: float = 1.0,
    *,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Keep a layer's mean membrane potential at its threshold, where its spikes carry most information.

    .. math:: L = \left(\frac{1}{N C T} \sum_{n,c,t} v_{nc}[t] - \theta\right)^2

    With half of the potentials above the threshold the binary spikes have the largest entropy. One value per layer;
    add up the layers.

    Args:
        membrane: membrane potentials of a layer.
        v_threshold: :math:`\theta`, its firing threshold.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding.

    Shape:
        - membrane: :math:`(*, T)`
        - output: a scalar

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch.

    Reference:
        Guo et al., "IM-Loss: information maximization loss for spiking neural networks", NeurIPS 2022.

    Example:
        >>> information_maximization_loss(torch.tensor([[[0.0, 1.0]]]), v_threshold=1.0)
        tensor(0.2500)
    """
    check_spikes("membrane", membrane, min_dims=1)
    check_options(v_threshold=v_threshold)
    steps: float = membrane.shape[-1]
    if lengths is not None:
        steps = sum(check_lengths(lengths, membrane.shape[0], membrane.shape[-1])) / membrane.shape[0]
        membrane = silent_after_the_end(membrane, lengths)
    mean = spike_count(membrane).mean() / steps
    return squared_errors(mean, torch.full_like(mean, v_threshold))


class CEMaxMembraneLoss(Loss, function=ce_max_membrane_loss):
    """Cross entropy of each class's largest membrane potential.

    Where the outputs can spike, 0.01 times ``CountBoundsLoss(lower=4, per="layer")`` of their spikes keeps them from
    falling silent on the way.

    >>> CEMaxMembraneLoss()(torch.tensor([[[0.0, 2.0, 1.0], [0.5, 1.0, 0.0]]]), torch.tensor([0]))
    tensor(0.3133)
    """

    def __init__(
        self,
        reduction: Reduction = "mean",
        weight: torch.Tensor | None = None,
        *,
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            reduction=reduction,
            weight=weight,
            temperature=temperature,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class CEMembraneIntegralLoss(Loss, function=ce_membrane_integral_loss):
    """Cross entropy of the exponentially weighted membrane integral.

    >>> CEMembraneIntegralLoss()(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([0]))
    tensor(0.5156)
    """

    def __init__(
        self,
        integration_time: float | None = None,
        reduction: Reduction = "mean",
        weight: torch.Tensor | None = None,
        *,
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            integration_time=integration_time,
            reduction=reduction,
            weight=weight,
            temperature=temperature,
            label_smoothing=label_smoothing,
            focal_gamma=focal_gamma,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class MSEMembraneLoss(Loss, function=mse_membrane_loss):
    """Squared difference of membrane potentials and targets.

    The default targets, 1 and 0, may leave classes without spikes: put them at both sides of 0, beyond the threshold,
    such as 2 and -2 for a threshold of 1.25.

    >>> MSEMembraneLoss(off_target=-1)(torch.tensor([[[1.0, 0.5], [0.0, 0.0]]]), torch.tensor([0]))
    tensor(0.5625)
    """

    def __init__(
        self,
        time_var_targets: bool = False,
        on_target: float = 1,
        off_target: float = 0,
        reduction: Reduction = "mean",
        weight: torch.Tensor | None = None,
        *,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            time_var_targets=time_var_targets,
            on_target=on_target,
            off_target=off_target,
            reduction=reduction,
            weight=weight,
            label_form=label_form,
            ignore_index=ignore_index,
        )

    @property
    def labels_per_step(self) -> bool:
        """As ``time_var_targets`` says."""
        return bool(self.time_var_targets)


class MembraneSuppressionLoss(Loss, function=membrane_suppression_loss):
    """Push down the membrane potential of the false classes.

    >>> membrane = torch.tensor([[[2.0, 2.0], [1.0, -1.0]]])
    >>> MembraneSuppressionLoss(reduction="sum")(membrane, torch.tensor([0]))
    tensor(0.5000)
    """

    def __init__(
        self,
        ceiling: float = 0.0,
        reduction: Reduction = "mean",
        *,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            ceiling=ceiling,
            reduction=reduction,
            label_form=label_form,
            ignore_index=ignore_index,
        )


class InformationMaximizationLoss(Regularizer, function=information_maximization_loss):
    """Keep a layer's mean membrane potential at its threshold.

    >>> InformationMaximizationLoss(v_threshold=1.0)(torch.tensor([[[0.0, 1.0]]]))
    tensor(0.2500)
    """

    def __init__(self, v_threshold: float = 1.0) -> None:
        super().__init__(v_threshold=v_threshold)
