"""The output of two runs, added up: values that differ, predicted classes, and the task loss of each sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lava_spikeloss import SILENT
from lava_spikeloss.losses.labels import IGNORED
from netx_export.run import Spikes
from netx_export.verification.result import (
    Deviation,
    OutputComparison,
    Status,
    Tolerance,
    all_kept,
    deviations,
    status,
)

__all__ = ["Loss", "OutputSums", "are_classes", "compare_outputs", "largest_difference", "sum_outputs"]

Loss = Callable[[torch.Tensor, torch.Tensor], Any]


@dataclass
class OutputSums:
    """What the outputs of some samples add up to."""

    differing: int = 0
    events: int = 0  # number of values in the expected run that are not 0
    largest: float = 0.0  # the largest difference of a value
    is_last_layer: bool = True  # whether the output is what the last layer gave, in both runs
    confusion: Counter[tuple[int | None, int, int]] = field(default_factory=Counter)
    expected_losses: list[float] = field(default_factory=list)
    got_losses: list[float] = field(default_factory=list)

    def merge(self, other: OutputSums) -> None:
        """Add other samples."""
        self.differing += other.differing
        self.events += other.events
        self.largest = max(self.largest, other.largest)
        self.is_last_layer &= other.is_last_layer
        self.confusion.update(other.confusion)
        self.expected_losses += other.expected_losses
        self.got_losses += other.got_losses


def largest_difference(expected: Spikes, got: Spikes) -> float:
    """The largest difference of two values in the same place; infinity if one of them is NaN."""
    largest = float(np.abs(np.subtract(expected, got, dtype=np.float64)).max(initial=0.0))
    return math.inf if math.isnan(largest) else largest


def are_classes(labels: torch.Tensor | None) -> bool:
    """Whether these labels, checked before, are class indices."""
    return labels is not None and labels.dim() == 1 and labels.dtype == torch.int64


def sum_outputs(
    expected: Spikes,
    got: Spikes,
    samples: npt.NDArray[np.int64],
    labels: torch.Tensor | None,
    loss: Loss | None,
    has_classes: bool,
) -> OutputSums:
    """Add up the outputs ``(N, C, ..., T)`` of some samples in two runs.

    Args:
        expected, got: the outputs.
        samples: indices of the samples in the data.
        labels: their labels, or None.
        loss: the task loss, or None.
        has_classes: whether the largest sum over time is a predicted class.
    """
    sums = OutputSums(
        differing=int(np.count_nonzero(expected != got)),
        events=int(np.count_nonzero(expected)),
        largest=largest_difference(expected, got),
    )
    if has_classes:
        classes = labels.tolist() if labels is not None and are_classes(labels) else [None] * len(got)
        sums.confusion.update(zip(classes, _predict(expected).tolist(), _predict(got).tolist(), strict=True))
    if loss is not None and labels is not None:
        sums.expected_losses = _losses(loss, expected, labels, samples)
        same = np.array_equal(expected, got)
        sums.got_losses = list(sums.expected_losses) if same else _losses(loss, got, labels, samples)
    return sums


def _predict(output: Spikes) -> npt.NDArray[np.int64]:
    """The class with the largest sum over time, the first of equals; none where the whole output was silent or NaN.

    One output alone answers yes, 1, where its sum is above 0, or no, 0.
    """
    sums = output.reshape(len(output), -1, output.shape[-1]).sum(-1, dtype=np.float64)
    if sums.shape[1] == 1:
        classes = (sums[:, 0] > 0).astype(np.int64)
    else:
        classes = np.where(output.reshape(len(output), -1).any(1), sums.argmax(1), SILENT)
    return np.where(np.isnan(sums).any(1), SILENT, classes)


def _losses(loss: Loss, output: Spikes, labels: torch.Tensor, samples: npt.NDArray[np.int64]) -> list[float]:
    """The loss of each sample by itself, so that no batch size changes it; none of samples that are left out."""
    # Copies, since the user's loss may write into what it is given.
    tensor, labels = torch.from_numpy(np.array(output, np.float32)), labels.clone()
    left_out = labels == IGNORED if are_classes(labels) else torch.zeros(len(labels), dtype=torch.bool)
    parts = zip(tensor.split(1), labels.split(1), samples.tolist(), left_out.tolist(), strict=True)
    with torch.no_grad():
        return [_loss(loss, one, label, sample) for one, label, sample, skip in parts if not skip]


def _loss(loss: Loss, output: torch.Tensor, label: torch.Tensor, sample: int) -> float:
    call = f"for sample {sample}, an output {tuple(output.shape)} with labels {tuple(label.shape)}"
    try:
        value = loss(output, label)
    except Exception as error:  # whatever the user's loss raises
        raise ValueError(f"Argument `loss` raised {type(error).__name__} {call}: {error}") from error
    has_one = isinstance(value, torch.Tensor | np.ndarray) and math.prod(value.shape) == 1
    if has_one and not (isinstance(value, torch.Tensor) and value.is_meta):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        got = f"shape {tuple(value.shape)}" if hasattr(value, "shape") else f"{type(value).__name__}"
        raise TypeError(f"Expected argument `loss` to return one real number {call}, but got {got}.")
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def compare_outputs(sums: OutputSums, samples: int, tolerance: Tolerance | None) -> OutputComparison:
    """What all samples show, and the verdict on it.

    Args:
        sums: of all samples.
        samples: their number.
        tolerance: what is accepted of the output; a tolerance that asks nothing of it covers nothing.
    """
    confusion = sorted(sums.confusion.items(), key=lambda item: (item[0][0] is not None, item[0]))
    judged = [(key, number) for key, number in confusion if key[0] not in (None, IGNORED)]
    total = sum(number for _, number in judged)
    accuracies = [sum(number for key, number in judged if key[side] == key[0]) / max(1, total) for side in (1, 2)]
    changed = sum(number for (_, expected, got), number in confusion if expected != got) if confusion else None
    losses = [_mean(losses) for losses in (sums.expected_losses, sums.got_losses)]
    pairs = zip(sums.expected_losses, sums.got_losses, strict=True)
    unbounded = sum(not (math.isfinite(one) and math.isfinite(other)) for one, other in pairs)
    listed = deviations(
        {
            "value": sums.largest,
            "changed_predictions": None if changed is None else changed / samples,
            "accuracy": max(0.0, accuracies[0] - accuracies[1]) if judged else None,
            "loss": None if losses[0] is None or losses[1] is None else abs(losses[0] - losses[1]),
        },
        tolerance,
    )
    return OutputComparison(
        expected_accuracy=accuracies[0] if judged else None,
        got_accuracy=accuracies[1] if judged else None,
        ignored=sum(number for key, number in confusion if key[0] == IGNORED),
        expected_loss=losses[0],
        got_loss=losses[1],
        unbounded_losses=unbounded,
        changed_predictions=changed,
        differing=sums.differing,
        confusion=tuple((*key, number) for key, number in confusion),
        deviations=listed,
        status=_verdict(sums, listed, unbounded),
    )


def _mean(losses: list[float]) -> float | None:
    mean = math.fsum(loss / len(losses) for loss in losses) if all(map(math.isfinite, losses)) else math.inf
    return mean if losses and math.isfinite(mean) else None


def _verdict(sums: OutputSums, listed: tuple[Deviation, ...], unbounded: int) -> Status:
    asks_for_loss = any(one.name == "loss" and one.tolerance is not None for one in listed)
    if unbounded and asks_for_loss and not sums.differing:  # the outputs are equal, but their losses cannot be compared
        return "untested"
    return status(sums.differing, sums.events, covered=bool(all_kept(one.passed for one in listed)))
