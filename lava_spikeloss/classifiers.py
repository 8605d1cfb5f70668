"""Classifiers and accuracy that say when an output was silent, instead of calling it class 0."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from lava_spikeloss.arguments import check_count, check_spikes, check_tensor
from lava_spikeloss.losses.labels import IGNORED, judged_classes
from lava_spikeloss.losses.options import check_options
from lava_spikeloss.losses.reduction import check_population, collapse, pool_population
from lava_spikeloss.spike_trains import first_spike_times, moving_window_rate, spike_count

__all__ = [
    "SILENT",
    "Accuracy",
    "FirstSpikeClassifier",
    "RateClassifier",
    "WindowClassifier",
    "accuracy",
    "classify_first_spike",
    "classify_rate",
    "classify_window",
]

SILENT = -1
"""-1, the prediction for an output without a spike. No label may be -1, so a silent output counts as wrong."""


def classify_rate(spikes: torch.Tensor, population_code: bool = False, num_classes: int | None = None) -> torch.Tensor:
    r"""The class with most spikes, the lowest index of equals; :data:`SILENT` where no neuron fires.

    .. math:: \hat y_n = \text{arg max}_c\, \sum_t s_{nc}[t]

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - output: :math:`(N)`, int64

    Raises:
        ValueError: for an empty batch, or a number of classes that does not divide the neurons.

    Example:
        >>> classify_rate(torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]))
        tensor([ 1, -1])
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_options(population_code=population_code, num_classes=num_classes)
    counts = spike_count(collapse(spikes))
    classes = check_population(counts.shape[1], population_code, num_classes)
    fired = collapse(spikes != 0).flatten(1).any(1)
    return torch.where(fired, pool_population(counts, classes, "sum").argmax(1), SILENT)


def classify_window(spikes: torch.Tensor, window: int) -> torch.Tensor:
    r"""The class with most spikes in the last ``window`` steps, at every step; :data:`SILENT` where none fired.

    .. math:: \hat y_n[t] = \text{arg max}_c\, \sum_{k=0}^{W-1} s_{nc}[t-k]

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        window: :math:`W`, in steps.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - output: :math:`(N, T)`, int64

    Raises:
        TypeError: if ``window`` is not an integer.
        ValueError: for an empty batch, or a ``window`` below 1.

    Example:
        >>> classify_window(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]]), window=2)
        tensor([[-1, -1,  0,  0, -1]])
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_count("window", window)
    trains = collapse(spikes)
    fired = moving_window_rate((trains != 0).any(1), window) > 0
    return torch.where(fired, moving_window_rate(trains, window).argmax(1), SILENT)


def classify_first_spike(spikes: torch.Tensor) -> torch.Tensor:
    r"""The class that fires first, the lowest index of equals; :data:`SILENT` where no neuron fires.

    .. math:: \hat y_n = \text{arg min}_c\, t^{(1)}_{nc}

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - output: :math:`(N)`, int64

    Raises:
        ValueError: for an empty batch.

    Example:
        >>> classify_first_spike(torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]))
        tensor([ 1, -1])
    """
    check_spikes("spikes", spikes, min_dims=3)
    times = first_spike_times(collapse(spikes))
    earliest, index = times.min(1)
    first = torch.where(times == earliest.unsqueeze(1), 1, 0).argmax(1)
    return torch.where(earliest < spikes.shape[-1], first.to(index.dtype), SILENT)


@dataclass(frozen=True)
class Accuracy:
    """How many of ``total`` predictions that were judged were ``correct``, and how many outputs were ``silent``.

    >>> Accuracy(correct=3, silent=1, total=4).rate
    0.75
    """

    correct: int
    silent: int
    total: int

    @property
    def rate(self) -> float:
        """Share of correct predictions; a silent output is not correct. NaN if no prediction was judged."""
        return self.correct / self.total if self.total else math.nan

    @property
    def silent_rate(self) -> float:
        """Share of silent outputs; NaN if no prediction was judged."""
        return self.silent / self.total if self.total else math.nan


def accuracy(predictions: torch.Tensor, labels: torch.Tensor, num_classes: int | None = None) -> Accuracy:
    """Count correct and silent predictions. Reads the values: the host waits for the device.

    Args:
        predictions: class indices, :data:`SILENT` for a silent output.
        labels: class indices of the same shape, one per sample, or (with predictions per step) one for all steps; -100,
            ``ignore_index`` in torch, for those that are counted neither as right nor as wrong.
        num_classes: number of classes that a prediction chooses from. Without it only a negative label is known to be
            one that no output can have.

    Shape:
        - predictions: :math:`(N)` or :math:`(N, T)`
        - labels: :math:`(N)` or :math:`(N, T)`

    Raises:
        TypeError: if an argument is not a tensor of real numbers.
        ValueError: if the shapes do not fit, there is no prediction, or a label is no class that an output can have.

    Example:
        >>> accuracy(torch.tensor([0, 1, -1]), torch.tensor([0, 0, 0]))
        Accuracy(correct=1, silent=1, total=3)
        >>> accuracy(torch.tensor([0, 1, -1]), torch.tensor([0, 0, -100]))
        Accuracy(correct=1, silent=0, total=2)
    """
    check_spikes("predictions", predictions, min_dims=1)
    check_tensor("labels", labels)
    if num_classes is not None:
        check_count("num_classes", num_classes)
    if labels.shape != predictions.shape:
        if labels.shape != predictions.shape[:1]:
            raise ValueError(
                f"Expected argument `labels` to have shape {tuple(predictions.shape)} or ({predictions.shape[0]},) "
                f"but got {tuple(labels.shape)}."
            )
        labels = labels.unsqueeze(-1)
    classes = judged_classes(labels, num_classes).expand(predictions.shape)
    judged = classes != IGNORED
    return Accuracy(
        correct=int(((predictions == classes) & judged).sum()),
        silent=int(((predictions == SILENT) & judged).sum()),
        total=int(judged.sum()),
    )


class RateClassifier(torch.nn.Module):
    """Module form of :func:`classify_rate`, usable as ``classifier`` of ``slayer.utils.Assistant``.

    >>> RateClassifier()(torch.zeros(2, 3, 4))
    tensor([-1, -1])
    """

    def __init__(self, population_code: bool = False, num_classes: int | None = None) -> None:
        super().__init__()
        check_options(population_code=population_code, num_classes=num_classes)
        self.population_code = population_code
        self.num_classes = num_classes

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Predictions ``(N,)``."""
        return classify_rate(spikes, self.population_code, self.num_classes)


class WindowClassifier(torch.nn.Module):
    """Module form of :func:`classify_window`.

    >>> WindowClassifier(window=2)(torch.ones(1, 2, 3))
    tensor([[0, 0, 0]])
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        check_count("window", window)
        self.window = window

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Predictions ``(N, T)``."""
        return classify_window(spikes, self.window)


class FirstSpikeClassifier(torch.nn.Module):
    """Module form of :func:`classify_first_spike`.

    >>> FirstSpikeClassifier()(torch.zeros(1, 2, 3))
    tensor([-1])
    """

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Predictions ``(N,)``."""
        return classify_first_spike(spikes)
