"""Temporal efficient training."""

from __future__ import annotations

from math import prod

import torch

from lava_spikeloss.arguments import check_spikes
from lava_spikeloss.losses.cross_entropy import cross_entropy
from lava_spikeloss.losses.labels import canonical_labels
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import check_options
from lava_spikeloss.losses.reduction import check_population, pool_population, reduce, squared_errors

__all__ = ["TETLoss", "temporal_efficient_training_cross_entropy", "tet_loss"]


def tet_loss(
    x: torch.Tensor,
    labels: torch.Tensor,
    lam: float = 0.0,
    phi: float = 1.0,
    reduction: str = "mean",
    weight: torch.Tensor | None = None,
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "sum",
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
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
    classes = check_population(x.shape[1], population_code, num_classes)
    outputs = pool_population(x, classes, population_pooling)
    rows, labels = _rows_per_position(outputs, labels)
    ce = cross_entropy(
        rows,
        canonical_labels(labels, rows.shape, classes, integers_are_steps=True),
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )
    if reduction == "none":
        ce = ce.reshape(x.shape[0], *x.shape[2:-1])
    if lam == 0:
        return ce
    squares = squared_errors(outputs, torch.full((), phi, dtype=ce.dtype, device=x.device))
    pull = squares.sum((1, -1)) / (classes * x.shape[-1])
    return torch.lerp(ce, reduce(pull, reduction), lam)


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


def _rows_per_position(x: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs ``(N * positions, C, T)``, with each sample's labels repeated, or each position's own."""
    samples, classes, steps = x.shape[0], x.shape[1], x.shape[-1]
    places = tuple(x.shape[2:-1])
    positions = prod(places)
    if not places:
        return x, labels
    rows = x.movedim(1, -2).reshape(samples * positions, classes, steps)
    if not isinstance(labels, torch.Tensor) or labels.dim() == 0 or labels.shape[0] != samples:
        return rows, labels  # canonical_labels will say what is wrong
    if labels.shape == (samples, *places):
        return rows, labels.reshape(-1)
    if labels.shape == (samples, *places, steps):
        return rows, labels.reshape(-1, steps)
    return rows, labels.repeat_interleave(positions, dim=0)


class TETLoss(Loss, function=tet_loss):
    """Temporal efficient training.

    >>> TETLoss(lam=0.5, phi=1.0)(torch.ones(1, 2, 4), torch.tensor([0]))
    tensor(0.3466)
    """

    def __init__(
        self,
        lam: float = 0.0,
        phi: float = 1.0,
        reduction: str = "mean",
        weight: torch.Tensor | None = None,
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "sum",
        temperature: float = 1.0,
        label_smoothing: float = 0.0,
        focal_gamma: float = 0.0,
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
        )
