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
    per: str = "neuron",
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Keep each neuron's spike count between two bounds: no silent neurons, no bursting ones.

    .. math:: \ell = \operatorname{relu}(\theta_l - n)^p + \operatorname{relu}(n - \theta_u)^p, \qquad n = \sum_t s[t]

    With ``per="layer"`` :math:`n` is the sum over all neurons of a sample. A lower bound then wakes a silent layer:
    losses that compare classes push one silent output up and the others down, and these gradients sum to 0, while that
    of the bound is the same :math:`-p\,(\theta_l - n)^{p-1}` for every neuron and step of the sample. It is 0 once
    the layer answers: add ``0.01`` to ``0.1`` times ``CountBoundsLoss(lower=4, per="layer")`` to a loss that is a mean.

    Args:
        spikes: spikes of a layer.
        lower: :math:`\theta_l`, in spikes per sample; ``None`` for no lower bound.
        upper: :math:`\theta_u`, in spikes per sample; ``None`` for no upper bound.
        power: :math:`p`, 1 or 2.
        reduction: ``"mean"`` and ``"sum"`` over samples and neurons, or ``"none"``.
        per: what is counted, each ``"neuron"`` or the whole ``"layer"``.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes: :math:`(*, T)`, with ``per="layer"`` :math:`(N, ..., T)`
        - output: a scalar; for ``reduction="none"`` :math:`(*)`, with ``per="layer"`` :math:`(N)`

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
    check_options(lower=lower, upper=upper, power=power, reduction=reduction, per=per)
    check_spikes("spikes", spikes, min_dims=1 if per == "neuron" else 2)
    counts = spike_count(spikes if per == "neuron" else spikes.flatten(1))
    below = 0.0 if lower is None else (lower - counts).relu() ** power
    above = 0.0 if upper is None else (counts - upper).relu() ** power
    return reduce(torch.as_tensor(below + above), reduction)


class CountBoundsLoss(Regularizer, function=count_bounds_loss):
    """Keep each neuron's spike count between two bounds.

    >>> CountBoundsLoss(lower=1, upper=2)(torch.ones(1, 2, 3))
    tensor(1.)
    """

    def __init__(
        self,
        lower: float | None = None,
        upper: float | None = None,
        power: int = 2,
        reduction: Reduction = "mean",
        *,
        per: str = "neuron",
    ) -> None:
        super().__init__(lower=lower, upper=upper, power=power, reduction=reduction, per=per)
