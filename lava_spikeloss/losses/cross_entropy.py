"""Cross entropy with class weights, label smoothing and focal factor, for scores of a whole train or of every step."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lava_spikeloss.losses.labels import Labels, labels_per_train, sample_weights, wanted_values, with_classes
from lava_spikeloss.losses.options import check_options
from lava_spikeloss.losses.reduction import as_float, check_weight_length, reduce, reduce_steps

__all__ = ["cross_entropy"]


def cross_entropy(
    scores: torch.Tensor,
    labels: Labels,
    *,
    weight: torch.Tensor | None,
    reduction: str,
    temperature: float,
    label_smoothing: float,
    focal_gamma: float,
) -> torch.Tensor:
    """Cross entropy of scores ``(N, C)`` or ``(N, C, T)`` with labels, reduced over samples.

    ``weight``, ``label_smoothing``, ``reduction`` and what is left out as in ``torch.nn.CrossEntropyLoss``; with scores
    per step the loss of a sample is its mean over time, over the steps that are kept.
    """
    check_options(
        weight=weight,
        reduction=reduction,
        temperature=temperature,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )
    scores = as_float(scores)
    if temperature != 1:
        scores = scores / temperature
    check_weight_length(weight, scores.shape[1])
    if weight is not None:
        weight = weight.to(scores.dtype)
    if scores.dim() == 3 and not focal_gamma and labels.values.dim() == (1 if _are_indices(labels) else 2):
        log_p = F.log_softmax(scores, dim=1).sum(-1) / scores.shape[-1]  # one label for all steps: their mean will do
        labels = _labels_like(log_p, labels)
        return _reduce(_losses(log_p, _targets(log_p, labels, weight, label_smoothing)), labels, weight, reduction)
    labels = _labels_like(scores, labels)
    # The mean over time of a sample some steps of which are left out is not the sum divided by all steps.
    over_time = scores.dim() == 3 and reduction != "mean"
    each = "none" if over_time and labels.kept is not None else reduction
    if focal_gamma:
        targets = _targets(scores, labels, weight, label_smoothing)
        loss = _reduce(_losses(F.log_softmax(scores, dim=1), targets, focal_gamma), labels, weight, each)
    else:
        loss = _plain(scores, labels, weight, label_smoothing, each)
    if not over_time:
        return loss
    if each == "none":
        return reduce_steps(loss, reduction, labels.kept)
    return loss / scores.shape[-1]


def _plain(
    scores: torch.Tensor, labels: Labels, weight: torch.Tensor | None, smoothing: float, reduction: str
) -> torch.Tensor:
    if labels.kept is None or _are_indices(labels):  # torch leaves class indices out by itself
        return F.cross_entropy(scores, labels.values, weight, reduction=reduction, label_smoothing=smoothing)
    losses = F.cross_entropy(scores, labels.values, weight, reduction="none", label_smoothing=smoothing)
    return reduce(losses, reduction, labels.kept)


def _reduce(losses: torch.Tensor, labels: Labels, weight: torch.Tensor | None, reduction: str) -> torch.Tensor:
    """As ``torch.nn.CrossEntropyLoss`` does: the mean of class indices is divided by the sum of their weights."""
    if reduction == "mean" and weight is not None:
        return reduce(losses, "sum", labels.kept) / sample_weights(labels, weight)[1]
    return reduce(losses, reduction, labels.kept)


def _are_indices(labels: Labels) -> bool:
    return labels.values.dtype == torch.int64


def _labels_like(scores: torch.Tensor, labels: Labels) -> Labels:
    """Labels with the dimensions of the scores: averaged over time for ``(N, C)``, repeated for ``(N, C, T)``."""
    if scores.dim() == 2:
        return labels_per_train(labels, scores.shape[1], scores.dtype)
    values, kept = labels
    indices = _are_indices(labels)
    if not indices:
        values = values.to(scores.dtype)
    if values.dim() == (1 if indices else 2):
        values = values.unsqueeze(-1).expand(*values.shape, scores.shape[-1])
        kept = None if kept is None else kept.unsqueeze(-1).expand(values.shape[0], scores.shape[-1])
    return Labels(values, kept)


def _targets(scores: torch.Tensor, given: Labels, weight: torch.Tensor | None, smoothing: float) -> torch.Tensor:
    """Labels as smoothed and weighted targets; class indices that are neither stay, ``(N, 1)`` or ``(N, 1, T)``."""
    classes, labels = scores.shape[1], with_classes(given)
    if smoothing:
        false = smoothing / int(classes)  # sizes are tensors in torch.jit.trace
        labels = wanted_values(labels, classes, scores.dtype, 1 - smoothing + false, false)
    if weight is None:
        return labels
    if labels.dtype == torch.int64:
        labels = wanted_values(labels, classes, weight.dtype, 1, 0)
    return labels * weight.reshape(-1, *[1] * (labels.dim() - 2))


def _losses(log_p: torch.Tensor, targets: torch.Tensor, gamma: float = 0.0) -> torch.Tensor:
    """Cross entropy of logarithms ``(N, C)`` or ``(N, C, T)`` of probabilities, each with its focal factor."""
    if targets.dtype == torch.int64:
        terms = picked = log_p.gather(1, targets)
    else:  # an impossible class that nobody labelled costs nothing, as where labels are picked: 0 times infinity is NaN
        picked, terms = log_p, targets * log_p.masked_fill((targets == 0) & log_p.isinf(), 0)
    if gamma:
        terms = terms * (-torch.expm1(picked)).clamp(min=torch.finfo(log_p.dtype).tiny).pow(gamma)
    return -terms.sum(1)
