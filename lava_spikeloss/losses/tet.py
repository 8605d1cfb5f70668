"""Temporal efficient training."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from lava_spikeloss.arguments import check_spikes
from lava_spikeloss.losses.cross_entropy import cross_entropy
from lava_spikeloss.losses.labels import IGNORED, Form, LabelForm, Labels, label_forms, read_form, read_labels
from lava_spikeloss.losses.lengths import Lengths, padded
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import (
    check_population,
    compute_dtype,
    pool_population,
    reduce_steps,
    squared_errors,
)
from lava_spikeloss.peers import also_called

__all__ = ["TETLoss", "temporal_efficient_training_cross_entropy", "tet_loss"]


def tet_loss(
    x: torch.Tensor,
    labels: torch.Tensor,
    lam: float = 0.0,
    phi: float = 1.0,
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
    r"""Cross entropy of every step's output, averaged over time, with a pull of the outputs towards a constant.

    .. math::
        L = (1 - \lambda) \frac{1}{T} \sum_{t=0}^{T-1} \operatorname{CE}(x[t], y)
            + \lambda \frac{1}{T} \sum_{t=0}^{T-1} \operatorname{MSE}(x[t], \phi)

    Further dimensions between classes and time are positions (of a segmentation, say), each with a prediction.

    Args:
        x: output of every step: spikes, currents or membrane potentials.
        labels: any form of label; a label :math:`(N)` holds for all positions.
        lam: :math:`\lambda`, in [0, 1]: the share of the second term.
        phi: :math:`\phi`, the value towards which outputs are pulled, the firing threshold in the paper.
        reduction: ``"mean"`` (by the sum of the weights for class indices), ``"sum"`` or ``"none"`` over samples
            and positions.
        weight: weight of each class in the cross entropy, as in ``torch.nn.CrossEntropyLoss``.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how the outputs of a group are pooled, ``"sum"`` or ``"mean"``.
        temperature: the outputs are divided by it before the cross entropy.
        label_smoothing: as in ``torch.nn.CrossEntropyLoss``, in [0, 1].
        focal_gamma: :math:`\gamma` of the focal factor :math:`(1 - p)^\gamma`; 0 for none.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - x: :math:`(N, C, T)` or :math:`(N, C, *, T)` with positions :math:`*`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)`, :math:`(N, C, T)`; with positions also
          :math:`(N, *)` and :math:`(N, *, T)`
        - output: a scalar; for ``reduction="none"`` :math:`(N)`, with positions :math:`(N, *)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Deng et al., "Temporal efficient training of spiking neural network via gradient re-weighting", ICLR 2022.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        >>> tet_loss(x, torch.tensor([0]))
        tensor(0.5032)
    """
    check_spikes("x", x, min_dims=3)
    check_options(
        lam=lam,
        phi=phi,
        reduction=reduction,
        population_code=population_code,
        num_classes=num_classes,
        population_pooling=population_pooling,
    )
    given: dict[str, Any] = {
        "reduction": reduction,
        "population_code": population_code,
        "num_classes": num_classes,
        "population_pooling": population_pooling,
        "label_form": label_form,
        "ignore_index": ignore_index,
        "lengths": lengths,
    }
    ce = _cross_entropy_of_steps(
        x,
        labels,
        weight=weight,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
        **given,
    )
    return ce if lam == 0 else torch.lerp(ce, _pull(x, labels, phi=phi, **given), lam)


def _forms_of_call(arguments: dict[str, Any], x: torch.Tensor) -> list[Form]:
    return _label_forms(x, arguments["num_classes"] if arguments["population_code"] else x.shape[1])


@padded(forms=_forms_of_call, weighs_steps=True)
def _cross_entropy_of_steps(
    x: torch.Tensor,
    labels: torch.Tensor,
    *,
    reduction: str,
    weight: torch.Tensor | None,
    population_code: bool,
    num_classes: int | None,
    population_pooling: str,
    temperature: float,
    label_smoothing: float,
    focal_gamma: float,
    label_form: LabelForm | None,
    ignore_index: int,
    form: Form | None = None,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    outputs = pool_population(x, check_population(x.shape[1], population_code, num_classes), population_pooling)
    rows, given = _rows_per_position(outputs, labels, label_form, ignore_index, form)
    ce = cross_entropy(
        rows,
        given,
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )
    return ce.reshape(x.shape[0], *x.shape[2:-1]) if reduction == "none" else ce


@padded(forms=_forms_of_call)
def _pull(
    x: torch.Tensor,
    labels: torch.Tensor,
    *,
    phi: float,
    reduction: str,
    population_code: bool,
    num_classes: int | None,
    population_pooling: str,
    label_form: LabelForm | None,
    ignore_index: int,
    form: Form | None = None,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    """Mean over classes and time of the squared distance from ``phi``; labels say what is left out."""
    outputs = pool_population(x, check_population(x.shape[1], population_code, num_classes), population_pooling)
    rows, given = _rows_per_position(outputs, labels, label_form, ignore_index, form)
    squares = squared_errors(rows, torch.full((), phi, dtype=compute_dtype(x.dtype), device=x.device))
    pull = reduce_steps(squares.sum(1) / rows.shape[1], reduction, given.kept)
    return pull.reshape(x.shape[0], *x.shape[2:-1]) if reduction == "none" else pull


@also_called(x_seq="x", target="labels")
def temporal_efficient_training_cross_entropy(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    r"""Cross entropy of every step's output, averaged over time: :func:`tet_loss` without its second term.

    .. math:: L = \frac{1}{T} \sum_{t=0}^{T-1} \operatorname{CE}(x[t], y)

    Args:
        x: output of every step, time last.
        labels: as in :func:`tet_loss`.

    Shape:
        - x: :math:`(N, C, *, T)`
        - labels: :math:`(N)`, and what :func:`tet_loss` takes
        - output: a scalar

    Raises:
        TypeError: if an argument is not a tensor.
        ValueError: for an empty batch, or a label out of range or of another shape.

    Reference:
        Deng et al., "Temporal efficient training of spiking neural network via gradient re-weighting", ICLR 2022.

    Example:
        >>> temporal_efficient_training_cross_entropy(torch.zeros(2, 4, 3), torch.tensor([0, 3]))
        tensor(1.3863)
    """
    return tet_loss(x, labels)


def _label_forms(outputs: torch.Tensor, classes: int) -> list[Form]:
    """The forms of labels for outputs ``(N, C, *, T)``: those of every loss, and class indices of each position."""
    samples, _, *places, steps = outputs.shape
    forms = label_forms((samples, classes, steps), classes)
    if places:
        axes = ", ".join(map(str, (samples, *places)))
        forms += [
            Form("indices", f"{axes} positions", (samples, *places)),
            Form("indices", f"{axes} positions, T={steps}", (samples, *places, steps), per_step=True),
        ]
    return forms


def _rows_per_position(
    x: torch.Tensor, labels: torch.Tensor, label_form: LabelForm | None, ignore_index: int, form: Form | None
) -> tuple[torch.Tensor, Labels]:
    """Outputs ``(N * positions, C, T)``, with each sample's labels repeated, or each position's own.

    ``form`` is that of the labels of a whole batch, from which these samples were cut; None where they are all.
    """
    classes, steps, places = x.shape[1], x.shape[-1], x.shape[2:-1]
    rows = x.movedim(1, -2).reshape(-1, classes, steps) if places else x
    if form is None:
        form = read_form(labels, _label_forms(x, classes), label_form, classes)
    if places and form.numbers == "indices" and len(form.shape) - form.per_step == 1 + len(places):
        labels = labels.reshape(-1, steps) if form.per_step else labels.reshape(-1)
    elif places:
        labels = labels.repeat_interleave(prod(places), dim=0)
    return rows, read_labels(labels, rows.shape, classes, label_form=form.numbers, ignore_index=ignore_index)


class TETLoss(Loss, function=tet_loss):
    """Temporal efficient training.

    >>> TETLoss(lam=0.5, phi=1.0)(torch.ones(1, 2, 4), torch.tensor([0]))
    tensor(0.3466)
    """

    def __init__(
        self,
        lam: float = 0.0,
        phi: float = 1.0,
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
            lam=lam,
            phi=phi,
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
