"""Cross entropy with class weights, label smoothing and focal factor, for scores of a whole train or of every step."""

from __future__ import annotations

from math import log

import torch
import torch.nn.functional as F

from lava_spikeloss._autograd import Gradient, separable
from lava_spikeloss.losses.labels import labels_per_train, sample_weights, wanted_values, with_classes
from lava_spikeloss.losses.options import check_options
from lava_spikeloss.losses.reduction import as_float, check_weight_length, compute_dtype

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
    elif scores.dim() == 2:
        return F.cross_entropy(scores, labels, weight, reduction=reduction, label_smoothing=label_smoothing)
    elif weight is not None and labels.dtype == torch.int64 and not label_smoothing:
        losses = _per_step(scores, with_classes(labels)).squeeze(1) * weight[labels]
    else:
        losses = _per_step(scores, _targets(scores, labels, weight, label_smoothing)).squeeze(1)
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
        return labels_per_train(labels, classes, compute_dtype(scores.dtype))
    if not indices:
        labels = labels.to(compute_dtype(scores.dtype))
    if labels.dim() == (1 if indices else 2):
        labels = labels.unsqueeze(-1).expand(*labels.shape, scores.shape[-1])
    return labels


def cross_entropy_rule(
    scores: torch.Tensor, labels: torch.Tensor, out: torch.Tensor | None
) -> tuple[torch.Tensor, Gradient]:
    """Rule of the cross entropy ``(N, 1, ...)`` of scores ``(N, C, ...)`` with indices ``(N, 1, ...)`` or targets."""
    scores = as_float(scores)
    below = torch.sub(scores, scores.detach().amax(1, keepdim=True), out=out)
    if labels.dtype == torch.int64:
        labels = labels.expand(-1, -1, *scores.shape[2:])
        labelled, share = below.gather(1, labels), None
    else:
        share = labels.sum(1, keepdim=True)
        labelled = (below * labels).sum(1, keepdim=True)
    p = exp(below, out)
    total = p.sum(1, keepdim=True)
    if share is None:
        minus_one = torch.full(labels.shape, -1.0, dtype=p.dtype, device=p.device)
        return total.log() - labelled, lambda: torch.mul(p, 1 / total, out=out).scatter_add_(1, labels, minus_one)
    return total.log() * share - labelled, lambda: torch.sub(torch.mul(p, share / total, out=out), labels, out=out)


_per_step = separable(cross_entropy_rule)


def exp(x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Exponential, at least 1e-28 in float32: numbers near the smallest one take up to a hundred times as long."""
    return torch.clamp(x, min=0.75 * log(torch.finfo(x.dtype).tiny), out=out).exp_()


def _targets(scores: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None, smoothing: float) -> torch.Tensor:
    """Labels as smoothed and weighted targets; class indices that are neither stay, ``(N, 1)`` or ``(N, 1, T)``."""
    classes, labels = scores.shape[1], with_classes(labels)
    if smoothing:
        false = smoothing / classes
        labels = wanted_values(labels, classes, compute_dtype(scores.dtype), 1 - smoothing + false, false)
    if weight is None:
        return labels
    if labels.dtype == torch.int64:
        labels = wanted_values(labels, classes, weight.dtype, 1, 0)
    return labels * weight.reshape(-1, *[1] * (labels.dim() - 2))


def _focal(scores: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    log_p = F.log_softmax(scores, dim=1)
    factor = (-torch.expm1(log_p)).clamp(min=torch.finfo(scores.dtype).tiny).pow(gamma)
    if targets.dtype == torch.int64:
        return -(factor * log_p).gather(1, targets).squeeze(1)
    return -(targets * factor * log_p).sum(1)
