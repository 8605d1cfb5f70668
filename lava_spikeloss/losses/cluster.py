"""Spike clusters, and the loss that adds or removes whole clusters."""

from __future__ import annotations

from math import inf, prod
from typing import Any

import torch
import torch.nn.functional as F

from lava_spikeloss.arguments import check_count, check_number, check_spikes
from lava_spikeloss.losses.labels import (
    IGNORED,
    Form,
    LabelForm,
    as_signed,
    label_forms,
    read_labels,
    targets_per_train,
)
from lava_spikeloss.losses.lengths import Lengths, padded
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import as_float, collapse, compute_dtype, reduce
from lava_spikeloss.spike_trains import first_steps, running_counts

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
    return count.squeeze(-1), _mask(positive, v), _mask(negative, v)


def _mask(step: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """True at a step ``(*, 1)``, nowhere for step :math:`T`."""
    steps = like.shape[-1]
    nowhere = torch.zeros(*like.shape[:-1], steps + 1, dtype=torch.bool, device=like.device)
    return nowhere.scatter(-1, step, True)[..., :steps]


def _nearest(
    v: torch.Tensor, v_threshold: float | torch.Tensor, reach: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Number of clusters, and the steps of :func:`spike_cluster`, :math:`T` for none, each ``(*, 1)``."""
    v = as_signed(v.detach()).contiguous()
    steps = v.shape[-1]
    reach = min(reach, steps - 1)
    threshold = v_threshold.unsqueeze(-1) if isinstance(v_threshold, torch.Tensor) else v_threshold
    fired = v >= threshold
    total = running_counts(F.pad(fired, (reach + 1, reach)))
    positive = _highest_of(v, free=total[..., 2 * reach + 1 :] == total[..., :steps])  # no spike within reach
    begins = fired & (total[..., reach : reach + steps] == total[..., :steps])  # no spike within reach before
    del fired
    begins = first_steps(begins, (steps + reach) // (reach + 1))  # there are at most so many
    count = (begins < steps).sum(-1, keepdim=True)
    return count, positive, _end_of_smallest(begins, total, reach + 1, steps)


def _highest_of(v: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """The step of the highest potential among those that are free; :math:`T` for none."""
    step = torch.where(free, v, -torch.inf).max(-1, keepdim=True).indices
    return torch.where(free.gather(-1, step), step, v.shape[-1])


def _end_of_smallest(begins: torch.Tensor, total: torch.Tensor, before: int, steps: int) -> torch.Tensor:
    """The last step of the cluster with the fewest spikes; :math:`T` for none.

    Args:
        begins: the first step of each cluster, :math:`T` for those that are not there.
        total: how many spikes have come by each step, after zeros.
        before: how many zeros.
        steps: :math:`T`.
    """
    exists = begins < steps
    spikes_before = total.gather(-1, begins + before - 1)
    spikes_through = torch.cat((spikes_before[..., 1:], total[..., -1:]), -1)
    size = torch.where(exists, spikes_through - spikes_before, torch.inf)
    smallest = size.min(-1, keepdim=True).indices
    last = torch.searchsorted(total, spikes_through.gather(-1, smallest)) - before
    return torch.where(exists[..., :1], last, steps)


def _forms_of_call(arguments: dict[str, Any], membrane: torch.Tensor) -> list[Form]:
    return _forms_of_a_train(membrane)


def _forms_of_a_train(membrane: torch.Tensor) -> list[Form]:
    """The forms without time: integers of shape ``(N, C)`` are counts, also where :math:`C = T`."""
    forms = label_forms(membrane.shape, prod(membrane.shape[1:-1]))
    return [form for form in forms if not form.per_step]


@padded("desired", forms=_forms_of_call)
def stca_loss(
    membrane: torch.Tensor,
    desired: torch.Tensor,
    v_threshold: float = 1.0,
    T_in: int = 5,  # noqa: N803 - the peers' name
    reduction: Reduction = "sum",
    *,
    true_count: float = 1,
    false_count: float = 0,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
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
        desired: desired number of clusters of each neuron in the whole train, or class indices.
        v_threshold: :math:`\theta`, the firing threshold.
        T_in: largest distance of spikes in a cluster, in steps.
        reduction: ``"sum"`` and ``"mean"`` over samples and neurons, or ``"none"``.
        true_count: clusters of the labelled class, when ``desired`` are class indices.
        false_count: clusters of every other class, when ``desired`` are class indices.
        label_form: what the numbers of ``desired`` are, ``"indices"`` or ``"targets"``; their shape says it too.
        ignore_index: the class index of samples that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

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
    v = as_signed(collapse(membrane))
    given = read_labels(
        desired,
        membrane.shape,
        v.shape[1],
        label_form=label_form,
        ignore_index=ignore_index,
        forms=_forms_of_a_train(membrane),
        limits=(0, inf),  # counts
        name="desired",
    )
    wanted, kept = targets_per_train(given, v.shape[1], compute_dtype(v.dtype))
    if given.values.dtype == torch.int64:
        wanted = false_count + (true_count - false_count) * wanted
    count, positive, negative = (found.squeeze(-1) for found in _nearest(v, v_threshold, T_in))
    step = torch.where(count > wanted, negative, positive)
    sign = torch.sign(count - wanted) * (step < v.shape[-1])
    nearest = as_float(v.gather(-1, step.clamp(max=v.shape[-1] - 1).unsqueeze(-1)).squeeze(-1))
    return reduce(sign * (nearest - v_threshold), reduction, kept)


class STCALoss(Loss, function=stca_loss):
    """Give each output neuron the desired number of spike clusters.

    In short trains the default may leave most outputs silent: set ``v_threshold`` to that of the neurons, lower
    ``T_in``, and ask for more clusters. The documentation's loss gallery has settings for 16 steps.

    >>> STCALoss(T_in=1)(torch.tensor([[[0.2, 0.7, 0.1], [0.0, 1.5, 0.0]]]), torch.tensor([0]))
    tensor(0.8000)
    """

    def __init__(
        self,
        v_threshold: float = 1.0,
        T_in: int = 5,  # noqa: N803 - the peers' name
        reduction: Reduction = "sum",
        *,
        true_count: float = 1,
        false_count: float = 0,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            v_threshold=v_threshold,
            T_in=T_in,
            reduction=reduction,
            true_count=true_count,
            false_count=false_count,
            label_form=label_form,
            ignore_index=ignore_index,
        )

    @property
    def labels_per_step(self) -> bool:
        """Never: they are clusters of each neuron in the whole train."""
        return False
