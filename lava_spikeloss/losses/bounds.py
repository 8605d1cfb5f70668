"""Bounds on the number of spikes of each neuron."""

from __future__ import annotations

import torch

from lava_spikeloss.arguments import check_spikes
from lava_spikeloss.losses.lengths import Lengths, padded
from lava_spikeloss.losses.module import Regularizer
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import reduce
from lava_spikeloss.spike_trains import spike_count

__all__ = ["CountBoundsLoss", "count_bounds_loss"]


@padded(None)
def count_bounds_loss(
    spikes: torch.Tensor,
    lower: float | None = None,
    upper: float | None = None,
    power: int = 2,
    reduction: Reduction = "mean",
    *,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Keep each neuron's spike count between two bounds: no silent neurons, no bursting ones.

    .. math:: \ell = \operatorname{relu}(\theta_l - n)^p + \operatorname{relu}(n - \theta_u)^p, \qquad n = \sum_t s[t]

    Args:
        spikes: spikes of a layer.
        lower: :math:`\theta_l`, in spikes per sample; ``None`` for no lower bound.
        upper: :math:`\theta_u`, in spikes per sample; ``None`` for no upper bound.
        power: :math:`p`, 1 or 2.
        reduction: ``"mean"`` and ``"sum"`` over samples and neurons, or ``"none"``.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(*, T)`
        - output: a scalar, or :math:`(*)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, no bound at all, a lower bound above the upper one, or an option out of range.

    Reference:
        Zenke and Vogels, "The remarkable robustness of surrogate gradient learning", Neural Computation 2021;
        Cramer et al., arXiv 1910.07407.

    Example:
        >>> spikes = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]])
        >>> count_bounds_loss(spikes, lower=1, upper=2, reduction="none")
        tensor([[1., 1.]])
    """
    check_spikes("spikes", spikes, min_dims=1)
    check_options(lower=lower, upper=upper, power=power, reduction=reduction)
    counts = spike_count(spikes)
    below = 0.0 if lower is None else (lower - counts).relu() ** power
    above = 0.0 if upper is None else (counts - upper).relu() ** power
    return reduce(torch.as_tensor(below + above), reduction)


class CountBoundsLoss(Regularizer, function=count_bounds_loss):
    """Keep each neuron's spike count between two bounds.

    >>> CountBoundsLoss(lower=1, upper=2)(torch.ones(1, 2, 3))
    tensor(1.)
    """

    def __init__(
        self, lower: float | None = None, upper: float | None = None, power: int = 2, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(lower=lower, upper=upper, power=power, reduction=reduction)
