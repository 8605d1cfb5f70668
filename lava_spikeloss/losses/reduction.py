"""Reduction, precision and population pooling: each in one place for the whole library."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F

from lava_spikeloss.losses.labels import sample_weights

__all__ = [
    "as_float",
    "check_population",
    "check_weight_length",
    "collapse",
    "compute_dtype",
    "matmul",
    "pool_population",
    "reduce",
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


def reduce(values: torch.Tensor, reduction: str) -> torch.Tensor:
    """Mean, sum or nothing."""
    if reduction == "none":
        return values
    total = values.sum()
    return total if reduction == "sum" else total / values.numel()  # the gradient of mean() is as large as the values


def squared_errors(x: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """``(x - wanted) ** 2``, whose gradient needs fewer copies in this form; ``wanted`` may be broadcast to ``x``."""
    return F.mse_loss(as_float(x), wanted.expand_as(x), reduction="none")


def reduce_weighted(
    errors: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None, reduction: str
) -> torch.Tensor:
    """Reduce errors ``(N, C, ...)`` with each sample weighted by the class weight of its canonical label.

    As in ``torch.nn.CrossEntropyLoss``: the mean of class indices is divided by the sum of their weights.
    """
    if weight is None:
        return reduce(errors, reduction)
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
