"""Cross entropy with class weights, label smoothing and focal factor, for scores of a whole train or of every step."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lava_spikeloss._labels import labels_per_train, sample_weights
from lava_spikeloss._options import check_options
from lava_spikeloss._reduction import check_weight_length

__all__ = ["cross_entropy"]


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
        scores = scores / temperature
    check_weight_length(weight, scores.shape[1])
    if weight is not None:
        weight = weight.to(scores.dtype)
    labels = _labels_like(scores, labels)
    if focal_gamma:
        losses = _focal(scores, labels, weight, label_smoothing, focal_gamma)
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
    steps = scores.shape[-1]
    if labels.dim() == (1 if indices else 2):
        labels = labels.unsqueeze(-1).expand(*labels.shape, steps)
    return labels if indices else labels.to(scores.dtype)


def _focal(
    scores: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None, smoothing: float, gamma: float
) -> torch.Tensor:
    classes = scores.shape[1]
    indices = labels.dtype == torch.int64
    targets = torch.zeros_like(scores).scatter(1, labels.unsqueeze(1), 1.0) if indices else labels
    targets = targets * (1 - smoothing) + smoothing / classes
    if weight is not None:
        targets = targets * weight.reshape(-1, *[1] * (scores.dim() - 2))
    log_p = F.log_softmax(scores, dim=1)
    factor = (-torch.expm1(log_p)).clamp(min=torch.finfo(scores.dtype).tiny).pow(gamma)
    return -(targets * factor * log_p).sum(1)
