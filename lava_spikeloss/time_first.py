"""Tensors with time first, as other libraries have them, for losses that take time last."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from lava_spikeloss.arguments import check_spikes
from lava_spikeloss.losses.labels import only_indices
from lava_spikeloss.losses.module import Loss, Term

__all__ = ["TimeFirst"]


class TimeFirst(Term):
    r"""Adapter for tensors with time first, as in snnTorch and SpikingJelly: ``TimeFirst(loss)(spikes, labels)``.

    .. math:: L_\text{first}(s, y) = L(s^\top, y^\top), \qquad s^\top_{nc}[t] = s_{tnc}

    Moves the first dimension of the input to the end, and of every further tensor that has time first: one of the
    input's shape, of shape :math:`(F, N, C, ...)` such as multi-spike targets, or labels per step :math:`(T, N)`.
    With as many steps as samples and classes, labels :math:`(T, N)` and :math:`(N, C)` are one shape. A loss that takes
    one of them alone gets it: :math:`(T, N)` with ``time_var_targets``, :math:`(N, C)` with ``target_is_time`` and in
    ``STCALoss``, ``SpikeSimilarityLoss`` and ``DistillationLoss``. Otherwise integers that are not all 0 and 1 are
    :math:`(T, N)`, as are all labels of a loss with ``label_form="indices"``; others are :math:`(N, C)`.

    Args:
        loss: a module for tensors with time last.

    Shape:
        - input: :math:`(T, N, C, ...)`
        - target: :math:`(N)`, :math:`(T, N)`, :math:`(N, C)` or :math:`(T, N, C)`
        - output: as the loss

    Raises:
        TypeError: if ``loss`` is not a module.

    Example:
        >>> from lava_spikeloss import CECountLoss
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])
        >>> TimeFirst(CECountLoss())(spikes, torch.tensor([0]))
        tensor(0.3133)
    """

    def __init__(self, loss: torch.nn.Module) -> None:
        super().__init__()
        if not isinstance(loss, torch.nn.Module):
            raise TypeError(f"Expected argument `loss` to be a torch.nn.Module but got {type(loss).__name__}.")
        self.loss = loss

    def forward(self, input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The loss, of tensors with time last."""
        check_spikes("input", input)
        moved = [self._time_last(value, input.shape) for value in args]
        named = {name: self._time_last(value, input.shape) for name, value in kwargs.items()}
        loss: torch.Tensor = self.loss(input.movedim(0, -1), *moved, **named)
        return loss

    def _time_last(self, value: Any, shape: torch.Size) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        train = value.dim() == len(shape) and value.shape[1:] == shape[1:] and value.dim() > 2
        return value.movedim(0, -1) if train or self._is_steps(value, shape) else value

    def _is_steps(self, value: torch.Tensor, shape: torch.Size) -> bool:
        """Whether a tensor is labels per step ``(T, N)``."""
        if value.shape != shape[:2]:
            return False
        inside = list(self.loss.modules())
        known = {module.labels_per_step for module in inside if isinstance(module, Loss)} - {None}
        if known:
            return True in known
        classes = {prod(shape[2:]), *(_classes_of(module) for module in inside)}
        if shape[0] != shape[1] or shape[1] not in classes:
            return True
        return only_indices(value) or any(getattr(module, "label_form", None) == "indices" for module in inside)


def _classes_of(module: torch.nn.Module) -> int | None:
    """How many classes a loss with a population code, or a readout of its own, has; None where its input tells it."""
    readout = getattr(module, "readout", None)
    return readout.shape[0] if isinstance(readout, torch.Tensor) else getattr(module, "num_classes", None)
