"""Distances of spike trains, in continuous time and exact."""

from __future__ import annotations

import torch

from lava_spikeloss.arguments import check_number, check_same_shape, check_spikes
from lava_spikeloss.losses.reduction import as_float, compute_dtype
from lava_spikeloss.spike_trains import low_pass

__all__ = ["van_rossum_distance", "victor_purpura_distance"]


def van_rossum_distance(spikes: torch.Tensor, other: torch.Tensor, time_constant: float) -> torch.Tensor:
    r"""Van Rossum distance of spike trains, exact: in continuous time and without an end.

    .. math::
        D &= \sqrt{\frac{2}{\tau} \int_0^\infty \left( \sum_i e^{-(t - t_i)/\tau} [t \ge t_i]
            - \sum_j e^{-(t - u_j)/\tau} [t \ge u_j] \right)^2 \mathrm{d}t} \\
          &= \sqrt{\sum_{t,u} d[t]\, d[u]\, e^{-|t - u| / \tau}}, \qquad d = s - s'

    One spike more or less is at distance 1 (elephant's convention), two far apart spikes at distance
    :math:`\sqrt 2`. Differentiable wherever it is not 0; there the gradient is 0.

    Args:
        spikes: spikes; graded ones weigh as much as their value.
        other: spikes to compare them with.
        time_constant: :math:`\tau`, in steps.

    Shape:
        - spikes, other: :math:`(*, T)`
        - output: :math:`(*)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the shapes differ, or ``time_constant`` is not above 0.

    Reference:
        van Rossum, "A novel spike distance", Neural Computation 2001; Houghton and Kreuz, "On the efficient calculation
        of van Rossum distances", Network 2012.

    Example:
        >>> spikes, other = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> van_rossum_distance(spikes, other, time_constant=1.0)
        tensor(1.1244)
    """
    check_spikes("spikes", spikes, min_dims=1)
    check_same_shape("other", other, "spikes", spikes)
    check_number("time_constant", time_constant, above=0)
    difference = as_float(spikes) - other.to(compute_dtype(spikes.dtype))
    before = low_pass(difference, time_constant) * 2 - difference  # so that each pair of steps counts twice
    square = (difference * before).sum(-1)
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def victor_purpura_distance(spikes: torch.Tensor, other: torch.Tensor, cost: float) -> torch.Tensor:
    r"""Victor-Purpura distance: the cheapest way to turn one spike train into the other.

    .. math::
        D = \min \left( \#\text{inserted} + \#\text{deleted} + q \sum_\text{moved} |\Delta t| \right)

    A metric. Let :math:`F[t]` be how many more spikes of one train than of the other have come by step :math:`t` and
    :math:`D[t]` how many of them were given up; the cost is :math:`\sum_t q |F[t] - D[t]| + |D[t] - D[t-1]|`.
    It splits into one two-state problem per level of :math:`F`, and these are folded pairwise over time:
    :math:`\log_2 T` steps instead of a loop. Needs memory for :math:`T^2` numbers per pair of trains. No gradient.

    Args:
        spikes: spikes of any dtype; whatever is not 0 is one spike.
        other: spikes to compare them with.
        cost: :math:`q`, of moving a spike by one step, at least 0. 0 compares counts.

    Shape:
        - spikes, other: :math:`(*, T)`
        - output: :math:`(*)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the shapes differ, or ``cost`` is negative.

    Reference:
        Victor and Purpura, "Metric-space analysis of spike trains", Network 1997.

    Example:
        >>> victor_purpura_distance(torch.tensor([1, 0, 0, 1]), torch.tensor([0, 1, 0, 0]), cost=0.5)
        tensor(1.5000)
    """
    check_spikes("spikes", spikes, min_dims=1)
    check_same_shape("other", other, "spikes", spikes)
    check_number("cost", cost, minimum=0)
    first, second = (spikes != 0).to(torch.int32), (other != 0).to(torch.int32)
    surplus = (first - second).cumsum(-1, dtype=torch.int32)
    lowest = surplus.amin(-1, keepdim=True).clamp(max=0)
    levels = lowest + torch.arange(1, surplus.shape[-1] + 1, dtype=torch.int32, device=surplus.device)
    above = surplus.unsqueeze(-2) >= levels.unsqueeze(-1)  # (*, levels, T)
    start, end = (levels <= 0).long(), above[..., -1].long()
    table = _fold(_steps(above, cost))  # cost from each of two states before the train to each after it
    return table.flatten(-2).gather(-1, (2 * start + end).unsqueeze(-1)).squeeze(-1).sum(-1)


def _steps(above: torch.Tensor, cost: float) -> torch.Tensor:
    """Cost ``(*, T, 2, 2)`` of going from a state before a step to a state after it."""
    wrong = torch.stack((above, ~above), -1).to(torch.float32).mul(cost)
    change = torch.eye(2, device=above.device).logical_not()
    return wrong.unsqueeze(-2).add(change)


def _fold(tables: torch.Tensor) -> torch.Tensor:
    """Product in the (min, +) algebra over the dimension before the last two, in pairs."""
    while tables.shape[-3] > 1:
        even = tables.shape[-3] // 2 * 2
        left, right = tables[..., 0:even:2, :, :], tables[..., 1:even:2, :, :]
        pairs = (left.unsqueeze(-1) + right.unsqueeze(-3)).amin(-2)
        tables = torch.cat((pairs, tables[..., even:, :, :]), -3)
    return tables.squeeze(-3)
