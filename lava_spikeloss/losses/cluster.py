"""Spike clusters, and the loss that adds or removes whole clusters."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lava_spikeloss.arguments import check_count, check_number, check_spikes
from lava_spikeloss.losses.labels import canonical_labels, targets_per_train
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import check_options
from lava_spikeloss.losses.reduction import as_float, collapse, compute_dtype, reduce

__all__ = ["STCALoss", "spike_cluster", "stca_loss"]


def spike_cluster(
    v: torch.Tensor,
    v_threshold: float | torch.Tensor,
    T_in: int,  # noqa: N803 - the peers' name
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Count each neuron's clusters of spikes, and find where one more or one fewer is nearest.

    A neuron spikes where :math:`v[t] \ge \theta`. Successive spikes at most ``T_in`` steps apart form a cluster.

    .. math::
        k^+ &= \text{arg max}_t\, \{ v[t] : \text{no spike within } T_\text{in} \text{ steps of } t \} \\
        k^- &= \text{the last spike of the cluster with the fewest spikes, the earliest of equals}

    A spike at :math:`k^+` would make a new cluster. Every neuron is treated on its own.

    Args:
        v: membrane potentials.
        v_threshold: :math:`\theta`, a number or one for each neuron.
        T_in: largest distance of spikes in a cluster, in steps; 0 makes every spike a cluster.

    Shape:
        - v: :math:`(*, T)`
        - v_threshold: broadcastable to :math:`(*)`
        - count: :math:`(*)`, int64
        - k_positive, k_negative: :math:`(*, T)`, bool; at most one ``True`` per neuron

    Returns:
        ``(count, k_positive, k_negative)``

    Raises:
        TypeError: if ``T_in`` is not an integer, or ``v_threshold`` neither a number nor a tensor.
        ValueError: if ``T_in`` is negative, or ``v`` is empty.

    Reference:
        Gu et al., "STCA: spatio-temporal credit assignment with delayed feedback in deep spiking neural networks",
        IJCAI 2019.

    Example:
        >>> v = torch.tensor([1.0, 1.0, 0.2, 0.5, 0.1, 1.0])
        >>> count, k_positive, k_negative = spike_cluster(v, 1.0, T_in=1)
        >>> count, k_positive.nonzero(), k_negative.nonzero()
        (tensor(2), tensor([[3]]), tensor([[5]]))
    """
    check_spikes("v", v, min_dims=1)
    check_count("T_in", T_in, minimum=0)
    if not isinstance(v_threshold, torch.Tensor):
        check_number("v_threshold", v_threshold)
    count, positive, negative = _nearest(v, v_threshold, T_in)
    return count.reshape(v.shape[:-1]), _mask(positive, v), _mask(negative, v)


def _mask(step: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """True at a step ``(*, 1)``, nowhere for step :math:`T`."""
    steps = torch.arange(like.shape[-1], dtype=step.dtype, device=like.device)
    return (step == steps).reshape(like.shape)


def _nearest(
    v: torch.Tensor, v_threshold: float | torch.Tensor, reach: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Number of clusters, and the steps of :func:`spike_cluster`, :math:`T` for none, each ``(trains, 1)``."""
    rows = v.detach().reshape(-1, v.shape[-1])
    if not isinstance(v_threshold, torch.Tensor):
        v_threshold = torch.full((), v_threshold, dtype=compute_dtype(v.dtype), device=v.device)
    return _nearest_of_rows(as_float(rows), v_threshold.expand(v.shape[:-1]).reshape(-1, 1), reach)


def _nearest_of_rows(
    v: torch.Tensor, v_threshold: torch.Tensor, reach: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    steps = v.shape[-1]
    fired = (v >= v_threshold).to(torch.float32)  # torch's sums of bool take several times as long
    before = F.pad(fired.cumsum(-1), (1, 0))  # spikes before each step, and before the end
    step = torch.arange(steps, device=v.device)
    none_earlier = before[:, :-1] == before[:, (step - reach).clamp(min=0)]
    none_later = before[:, 1:] == before[:, (step + reach + 1).clamp(max=steps)]
    starts, ends = (fired > 0) & none_earlier, (fired > 0) & none_later
    free = (fired == 0) & none_earlier & none_later

    before_cluster = torch.where(starts, before[:, :-1], 0.0).cummax(-1).values
    size = torch.where(ends, before[:, 1:] - before_cluster, steps + 1.0)
    smallest, negative = size.min(-1, keepdim=True)
    positive = torch.where(free, v, -torch.inf).argmax(-1, keepdim=True)
    return (
        starts.sum(-1, keepdim=True),
        torch.where(free.gather(-1, positive), positive, steps),
        torch.where(smallest <= steps, negative, steps),
    )


def stca_loss(
    membrane: torch.Tensor,
    desired: torch.Tensor,
    v_threshold: float = 1.0,
    T_in: int = 5,  # noqa: N803 - the peers' name
    reduction: str = "sum",
    *,
    true_count: float = 1,
    false_count: float = 0,
) -> torch.Tensor:
    r"""Give each output neuron the desired number of spike clusters, by the one potential that is nearest to it.

    .. math::
        \ell = \begin{cases}
            v[k^-] - \theta & \text{too many clusters} \\
            \theta - v[k^+] & \text{too few clusters} \\
            0 & \text{otherwise, or where there is no such step}
        \end{cases}

    The gradient is 1 or -1 at that one step, and 0 everywhere else; see :func:`spike_cluster`.

    Args:
        membrane: membrane potentials of the output neurons.
        desired: desired number of clusters of each neuron, or class indices.
        v_threshold: :math:`\theta`, the firing threshold.
        T_in: largest distance of spikes in a cluster, in steps.
        reduction: ``"sum"`` and ``"mean"`` over samples and neurons, or ``"none"``.
        true_count: clusters of the labelled class, when ``desired`` are class indices.
        false_count: clusters of every other class, when ``desired`` are class indices.

    Shape:
        - membrane: :math:`(N, C, ..., T)`
        - desired: :math:`(N, C)` or :math:`(N)`
        - output: a scalar, or :math:`(N, C)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a label out of range or of another shape, or an option out of its range.

    Reference:
        Gu et al., "STCA: spatio-temporal credit assignment with delayed feedback in deep spiking neural networks",
        IJCAI 2019.

    Example:
        >>> membrane = torch.tensor([[[0.2, 0.7, 0.1], [0.0, 1.5, 0.0]]])
        >>> stca_loss(membrane, torch.tensor([0]), T_in=1, reduction="none")
        tensor([[0.3000, 0.5000]])
    """
    check_spikes("membrane", membrane, min_dims=3)
    check_options(
        v_threshold=v_threshold, T_in=T_in, reduction=reduction, true_count=true_count, false_count=false_count
    )
    v = collapse(membrane)
    desired = canonical_labels(desired, membrane.shape, v.shape[1], name="desired")
    wanted = targets_per_train(desired, v.shape[1], compute_dtype(v.dtype))
    if desired.dtype == torch.int64:
        wanted = false_count + (true_count - false_count) * wanted
    count, positive, negative = (found.reshape(v.shape[:2]) for found in _nearest(v, v_threshold, T_in))
    step = torch.where(count > wanted, negative, positive)
    sign = torch.sign(count - wanted) * (step < v.shape[-1])
    nearest = as_float(v.gather(-1, step.clamp(max=v.shape[-1] - 1).unsqueeze(-1)).squeeze(-1))
    return reduce(sign * (nearest - v_threshold), reduction)


class STCALoss(Loss, function=stca_loss):
    """Give each output neuron the desired number of spike clusters.

    >>> STCALoss(T_in=1)(torch.tensor([[[0.2, 0.7, 0.1], [0.0, 1.5, 0.0]]]), torch.tensor([0]))
    tensor(0.8000)
    """

    def __init__(
        self,
        v_threshold: float = 1.0,
        T_in: int = 5,  # noqa: N803 - the peers' name
        reduction: str = "sum",
        *,
        true_count: float = 1,
        false_count: float = 0,
    ) -> None:
        super().__init__(
            v_threshold=v_threshold, T_in=T_in, reduction=reduction, true_count=true_count, false_count=false_count
        )
