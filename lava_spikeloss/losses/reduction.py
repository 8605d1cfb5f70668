"""Reduction, precision and population pooling: each in one place for the whole library."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F

from lava_spikeloss.losses.labels import Labels, sample_weights

__all__ = [
    "as_float",
    "check_population",
    "check_weight_length",
    "collapse",
    "compute_dtype",
    "kept_samples",
    "matmul",
    "mean_of_steps",
    "pool_population",
    "reduce",
    "reduce_counts",
    "reduce_steps",
    "reduce_weighted",
    "squared_errors",
]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype a loss is accumulated in: float64 stays, everything else (half, bool, integers) becomes float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def as_float(x: torch.Tensor) -> torch.Tensor:
    """``x`` in the dtype it is accumulated in; no copy for float32 and float64."""
    return x.to(compute_dtype(x.dtype))


def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a @ b`` in their own dtype, also under autocast. (The meta device has no autocast to switch off.)"""
    if a.device.type == "meta":
        return a @ b
    with torch.autocast(a.device.type, enabled=False):
        return a @ b


def reduce(values: torch.Tensor, reduction: str, kept: torch.Tensor | None = None) -> torch.Tensor:
    """Mean, sum or nothing, of what is kept: see :class:`Labels`. With labels per step the last dimension is time."""
    if kept is not None:
        return _reduce_kept(values, reduction, kept)
    if reduction == "none":
        return values
    total = values.sum()
    return total if reduction == "sum" else total / values.numel()  # the gradient of mean() is as large as the values


def reduce_counts(
    counts: torch.Tensor, wanted: torch.Tensor, divisor: float, reduction: str, kept: torch.Tensor | None
) -> torch.Tensor:
    """The squared errors of counts ``(N, C)``, divided by ``divisor``, reduced.

    Where nothing is left out torch computes and adds them up in one call, which saves a loss this small a tenth of its
    time; of larger tensors, torch 2.3 would make a copy more.
    """
    if kept is not None or reduction == "none":
        return reduce(squared_errors(counts, wanted), reduction, kept) / divisor
    # Not torch's mean: torch 2.3 has no forward-mode derivative of its gradient.
    total = F.mse_loss(counts, wanted, reduction="sum")
    return total / (divisor if reduction == "sum" else divisor * counts.numel())


def _reduce_kept(values: torch.Tensor, reduction: str, kept: torch.Tensor) -> torch.Tensor:
    """What is left out is 0, and does not count in a mean; a mean of nothing is NaN, as torch's."""
    if reduction == "none":
        return torch.where(kept.reshape(kept.shape[0], *[1] * (values.dim() - kept.dim()), *kept.shape[1:]), values, 0)
    others = tuple(range(1, values.dim() - kept.dim() + 1))  # the dimensions between samples and time
    total = torch.where(kept, values.sum(others) if others else values, 0).sum()
    return total if reduction == "sum" else total / (kept.sum() * (values.numel() // kept.numel()))


def mean_of_steps(values: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Mean over time of values ``(N, ..., T)``, of the steps that are kept where some are not; 0 if none is."""
    if kept is None or kept.dim() == 1:
        return values.sum(-1) / values.shape[-1]
    steps = kept.reshape(kept.shape[0], *[1] * (values.dim() - 2), kept.shape[1])
    return torch.where(steps, values, 0).sum(-1) / steps.sum(-1).clamp(min=1)


def reduce_steps(values: torch.Tensor, reduction: str, kept: torch.Tensor | None) -> torch.Tensor:
    """Reduce the means over time of values ``(N, ..., T)``; as in torch, a mean counts every step that is kept once."""
    if reduction == "mean" and kept is not None and kept.dim() == 2:
        return _reduce_kept(values, reduction, kept)
    return reduce(mean_of_steps(values, kept), reduction, kept_samples(kept))


def kept_samples(kept: torch.Tensor | None) -> torch.Tensor | None:
    """Which samples have a step that is kept, ``(N,)``."""
    return kept.any(1) if kept is not None and kept.dim() == 2 else kept


def squared_errors(x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """``(x - wanted) ** 2``, whose gradient needs fewer copies in this form; ``wanted`` may be broadcast to ``x``."""
    return F.mse_loss(as_float(x), wanted.expand_as(x), reduction="none")


def reduce_weighted(errors: torch.Tensor, labels: Labels, weight: torch.Tensor | None, reduction: str) -> torch.Tensor:
    """Reduce errors ``(N, C, ...)`` with each sample weighted by the class weight of its label.

    As in ``torch.nn.CrossEntropyLoss``: the mean of class indices is divided by the sum of their weights.
    """
    if weight is None:
        return reduce(errors, reduction, labels.kept)
    weights, total = sample_weights(labels, weight.to(errors.dtype))
    errors = errors * weights.reshape(weights.shape[0], *[1] * (errors.dim() - 1))
    if reduction == "mean":
        return errors.flatten(1).mean(1).sum() / total
    return reduce(errors, reduction)


def collapse(x: torch.Tensor) -> torch.Tensor:
    """``(N, ..., T)`` as ``(N, C, T)``: all dimensions between batch and time become one."""
    return x if x.dim() == 3 else x.reshape(x.shape[0], prod(x.shape[1:-1]), x.shape[-1])


def check_population(neurons: int, population_code: bool, num_classes: int | None) -> int:
    """The number of classes that ``neurons`` outputs code for."""
    if not population_code:
        return neurons
    if num_classes is None or neurons % num_classes:
        raise ValueError(
            f"Expected argument `num_classes` to divide the number of output neurons, {neurons}, but got {num_classes}."
        )
    return num_classes


def check_weight_length(weight: torch.Tensor | None, num_classes: int) -> None:
    """Raise a ``ValueError`` unless there is one weight per class."""
    if weight is not None and weight.shape[0] != num_classes:
        raise ValueError(
            f"Expected argument `weight` to hold one value per class, {num_classes}, but got {weight.shape[0]}."
        )


def pool_population(x: torch.Tensor, num_classes: int, pooling: str) -> torch.Tensor:
    """Pool ``(N, C * group, ...)`` to ``(N, C, ...)``: class ``c`` owns the ``c``-th contiguous group of neurons.

    In the dtype of accumulation; what needs no pooling is returned as it is.
    """
    if x.shape[1] == num_classes:
        return x
    groups = as_float(x).reshape(x.shape[0], num_classes, x.shape[1] // num_classes, *x.shape[2:])
    return groups.sum(2) if pooling == "sum" else groups.mean(2)
