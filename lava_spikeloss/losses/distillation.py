"""Distillation: a spiking student learns the soft answers of a teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lava_spikeloss.arguments import check_spikes, check_tensor
from lava_spikeloss.losses.lengths import Lengths, padded
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import as_float, check_population, collapse, matmul, pool_population, reduce
from lava_spikeloss.spike_trains import spike_count

__all__ = ["DistillationLoss", "distillation_loss"]


@padded(None, trains=("teacher",))
def distillation_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    tau: float = 2.0,
    per_step: bool = False,
    reduction: Reduction = "mean",
    *,
    population_code: bool = False,
    num_classes: int | None = None,
    population_pooling: str = "sum",
    scale: float = 1.0,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Kullback-Leibler divergence of the student's answer from the teacher's, both softened.

    .. math::
        \ell_n = \tau^2 \operatorname{KL}\left(\operatorname{softmax}(z^t_n / \tau)\, \|\,
            \operatorname{softmax}(z^s_n / \tau)\right)

    :math:`z` is the mean over time, with ``per_step`` the output of each step, and the losses are averaged over time;
    :math:`z^s` is that of the student times ``scale``. There is no gradient for the teacher.

    Args:
        student: the student's output: spikes, currents or membrane potentials.
        teacher: the teacher's output, of the same shape, or its scores :math:`(N, C)`.
        tau: :math:`\tau`, the temperature.
        per_step: compare every step instead of the mean over time.
        reduction: ``"mean"`` and ``"sum"`` over samples, or ``"none"``.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.
        population_pooling: how the outputs of a group are pooled, ``"sum"`` or ``"mean"``.
        scale: of the student's outputs. Rates of spikes lie in [0, 1] and cannot reach the scores of a teacher without
            spikes, whose range is several times as wide: the width of that range makes them alike.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - student: :math:`(N, C, ..., T)`
        - teacher: the same (then pooled as the student), :math:`(N, C, T)` or :math:`(N, C)` with classes :math:`C`
        - output: a scalar, or :math:`(N)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a teacher of another shape, or an option out of its range.

    Reference:
        Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv 1503.02531.

    Example:
        >>> student = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
        >>> distillation_loss(student, torch.tensor([[1.0, 0.0]])).abs() < 1e-6
        tensor(True)
    """
    check_spikes("student", student, min_dims=3)
    check_options(
        tau=tau,
        per_step=per_step,
        reduction=reduction,
        population_code=population_code,
        num_classes=num_classes,
        population_pooling=population_pooling,
        scale=scale,
    )
    check_tensor("teacher", teacher)
    trains = collapse(student)
    classes = check_population(trains.shape[1], population_code, num_classes)
    outputs = pool_population(trains, classes, population_pooling)
    if teacher.shape == student.shape:
        teacher = pool_population(collapse(teacher), classes, population_pooling)
    wanted = as_float(_teacher_scores(teacher.detach(), outputs))
    if not per_step:
        outputs, wanted = spike_count(outputs).unsqueeze(-1) / outputs.shape[-1], wanted.mean(-1, keepdim=True)
    log_p = F.log_softmax(as_float(outputs) / (tau / scale), dim=1)
    log_q = F.log_softmax(wanted.to(log_p.dtype) / tau, dim=1)
    difference = log_p - log_q
    q = log_q.exp_().expand_as(difference)  # a teacher may have the same scores at every step
    divergence = matmul(q.flatten(1).unsqueeze(1), difference.flatten(1).unsqueeze(2)).flatten() / log_p.shape[-1]
    return reduce(-(tau**2) * divergence, reduction)


def _teacher_scores(teacher: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """The teacher's scores ``(N, C, T)``, or ``(N, C, 1)`` where they are the same at every step."""
    if teacher.shape == outputs.shape:
        return teacher
    if teacher.shape == outputs.shape[:2]:
        return teacher.unsqueeze(-1)
    samples, classes, steps = outputs.shape
    raise ValueError(
        f"Expected argument `teacher` to have the shape of `student`, ({samples}, C={classes}, T={steps}) "
        f"or ({samples}, C={classes}) but got {tuple(teacher.shape)}."
    )


class DistillationLoss(Loss, function=distillation_loss):
    """Divergence of the student's softened answer from the teacher's.

    >>> DistillationLoss(tau=1.0)(torch.zeros(1, 2, 4), torch.tensor([[0.0, 1.0]]))
    tensor(0.1109)
    """

    def __init__(
        self,
        tau: float = 2.0,
        per_step: bool = False,
        reduction: Reduction = "mean",
        *,
        population_code: bool = False,
        num_classes: int | None = None,
        population_pooling: str = "sum",
        scale: float = 1.0,
    ) -> None:
        super().__init__(
            tau=tau,
            per_step=per_step,
            reduction=reduction,
            population_code=population_code,
            num_classes=num_classes,
            population_pooling=population_pooling,
            scale=scale,
        )

    @property
    def labels_per_step(self) -> bool:
        """Never: scores of a teacher are ``(N, C)``."""
        return False
