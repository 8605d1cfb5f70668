"""Cross entropy with class weights, label smoothing and focal factor, for scores of a whole train or of every step."""

from __future__ import annotations

from math import e, log2

import torch
import torch.nn.functional as F

from lava_spikeloss._autograd import Gradient, separable
from lava_spikeloss._labels import labels_per_train, sample_weights
from lava_spikeloss._options import check_options
from lava_spikeloss._reduction import as_float, check_weight_length, compute_dtype

__all__ = ["cross_entropy", "cross_entropy_rule", "exp"]


def cross_entropy(
    scores: torch.Tensor,
    labels: torch.Tensor,
    *,
    weight: torch.Tensor | None,
    reduction: str,
    temperature: float,
    label_smoothing: float,
    focal_gamma: float,
) -> torch.Tensor:
    """Cross entropy of scores ``(N, C)`` or ``(N, C, T)`` with canonical labels, reduced over samples.

    ``weight``, ``label_smoothing`` and ``reduction`` as in ``torch.nn.CrossEntropyLoss``; with scores per step the loss
    of a sample is its mean over time.
    """
    check_options(
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )
    if temperature != 1:
        scores = as_float(scores) / temperature
    check_weight_length(weight, scores.shape[1])
    if weight is not None:
        weight = weight.to(compute_dtype(scores.dtype))
    labels = _labels_like(scores, labels)
    if focal_gamma:
        losses = _focal(as_float(scores), _targets(scores, labels, weight, label_smoothing), focal_gamma)
    elif scores.dim() == 3 and labels.dtype == torch.int64 and not label_smoothing:
        losses = _per_step(scores, labels.unsqueeze(1)).squeeze(1)
        losses = losses if weight is None else losses * weight[labels]
    elif scores.dim() == 3:
        losses = _per_step(scores, _targets(scores, labels, weight, label_smoothing)).squeeze(1)
    else:
        losses = F.cross_entropy(scores, labels, weight, reduction="none", label_smoothing=label_smoothing)
    steps = losses.shape[1] if losses.dim() == 2 else 1
    if reduction == "none":
        return losses.mean(1) if losses.dim() == 2 else losses
    if reduction == "sum":
        return losses.sum() / steps
    if weight is None:
        return losses.mean()
    return losses.sum() / sample_weights(labels, weight)[1]


def _labels_like(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Labels with the dimensions of the scores: averaged over time for ``(N, C)``, repeated for ``(N, C, T)``."""
    classes, indices = scores.shape[1], labels.dtype == torch.int64
    if scores.dim() == 2:
        return labels_per_train(labels, classes, scores.dtype)
    if not indices:
        labels = labels.to(compute_dtype(scores.dtype))
    if labels.dim() == (1 if indices else 2):
        labels = labels.unsqueeze(-1).expand(*labels.shape, scores.shape[-1])
    return labels


def cross_entropy_rule(
    scores: torch.Tensor, labels: torch.Tensor, out: torch.Tensor | None
) -> tuple[torch.Tensor, Gradient]:
    """Rule of the cross entropy ``(N, 1, ...)`` of scores ``(N, C, ...)`` with indices ``(N, 1, ...)`` or targets."""
    log_p = F.log_softmax(as_float(scores), dim=1)
    if labels.dtype == torch.int64:
        labels = labels.expand(-1, -1, *scores.shape[2:])
        minus_one = torch.full(labels.shape, -1.0, dtype=log_p.dtype, device=log_p.device)
        losses = -log_p.gather(1, labels)
        return losses, lambda: torch.scatter_add(exp(log_p, out), 1, labels, minus_one, out=out)
    losses = -(log_p * labels).sum(1, keepdim=True)
    return losses, lambda: torch.sub(exp(log_p) * labels.sum(1, keepdim=True), labels, out=out)


_per_step = separable(cross_entropy_rule)


def exp(x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """``torch.exp``, which takes three times as long as ``torch.exp2`` on CPUs."""
    return torch.exp2(x * log2(e), out=out)


def _targets(scores: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None, smoothing: float) -> torch.Tensor:
    """Labels as smoothed and weighted targets of the shape of the scores."""
    if labels.dtype == torch.int64:
        labels = torch.zeros_like(scores, dtype=compute_dtype(scores.dtype)).scatter(1, labels.unsqueeze(1), 1.0)
    if smoothing:
        labels = labels * (1 - smoothing) + smoothing / scores.shape[1]
    return labels if weight is None else labels * weight.reshape(-1, *[1] * (scores.dim() - 2))


def _focal(scores: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    log_p = F.log_softmax(scores, dim=1)
    factor = (-torch.expm1(log_p)).clamp(min=torch.finfo(scores.dtype).tiny).pow(gamma)
    return -(targets * factor * log_p).sum(1)
