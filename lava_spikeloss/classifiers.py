"""Classifiers and accuracy that say when an output was silent, instead of calling it class 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from lava_spikeloss.arguments import check_choice, check_count, check_integer, check_spikes, check_tensor
from lava_spikeloss.compiling import torch_compiles
from lava_spikeloss.losses.labels import IGNORED, judged_classes
from lava_spikeloss.losses.options import check_options
from lava_spikeloss.losses.reduction import as_float, check_population, collapse, pool_population
from lava_spikeloss.spike_trains import first_spike_times, moving_window_rate, spike_count

__all__ = [
    "SILENT",
    "Accuracy",
    "FirstSpikeClassifier",
    "MembraneClassifier",
    "RateClassifier",
    "WindowClassifier",
    "accuracy",
    "classify_first_spike",
    "classify_membrane",
    "classify_rate",
    "classify_window",
]

SILENT = -1
"""-1, the prediction for an output without a spike. No label may be -1, so a silent output counts as wrong."""


def classify_rate(spikes: torch.Tensor, population_code: bool = False, num_classes: int | None = None) -> torch.Tensor:
    r"""The class with most spikes, the lowest index of equals; :data:`SILENT` where no neuron fires.

    .. math:: \hat y_n = \text{arg max}_c\, \sum_t s_{nc}[t]

    One class alone answers yes or no: 1 where it fires, 0 where it is silent.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - output: :math:`(N)`, int64

    Raises:
        ValueError: for an empty batch, NaN among the spikes (on the CPU; elsewhere such a sample is :data:`SILENT`), or
            a number of classes that does not divide the neurons.

    Example:
        >>> classify_rate(torch.tensor([[[0.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]))
        tensor([ 1, -1])
    """
    trains, classes = _trains_and_classes(spikes, population_code, num_classes)
    counts = pool_population(spike_count(trains), classes, "sum")
    return _answer(counts.argmax(1), (trains != 0).flatten(1).any(1), counts.isnan().any(1), classes)


def classify_window(
    spikes: torch.Tensor, window: int, population_code: bool = False, num_classes: int | None = None
) -> torch.Tensor:
    r"""The class with most spikes in the last ``window`` steps, at every step; :data:`SILENT` where none fired.

    .. math:: \hat y_n[t] = \text{arg max}_c\, \sum_{k=0}^{W-1} s_{nc}[t-k]

    One class alone answers yes or no: 1 where it fired, 0 where it was silent.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        window: :math:`W`, in steps.
        population_code: several neurons per class, in contiguous groups.
        num_classes: number of classes, needed with ``population_code``.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - output: :math:`(N, T)`, int64

    Raises:
        TypeError: if ``window`` is not an integer.
        ValueError: for an empty batch, NaN among the spikes (on the CPU; elsewhere the steps from there on are
            :data:`SILENT`), a ``window`` below 1, or a number of classes that does not divide the neurons.

    Example:
        >>> classify_window(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]]), window=2)
        tensor([[-1, -1,  0,  0, -1]])
    """
    check_count("window", window)
    trains, classes = _trains_and_classes(spikes, population_code, num_classes)
    rates = moving_window_rate(pool_population(trains, classes, "sum"), window)
    fired = moving_window_rate((trains != 0).any(1), window) > 0
    return _answer(rates.argmax(1), fired, rates.isnan().any(1), classes)


def classify_first_spike(
    spikes: torch.Tensor, population_code: bool = False, num_classes: int | None = None
) -> torch.Tensor:
    r"""The class that fires first, the lowest index of equals; :data:`SILENT` where no neuron fires.

    .. math:: \hat y_n = \text{arg min}_c\, t^{(1)}_{nc}

    One class alone answers yes or no: 1 where it fires, 0 where it is silent.

    Args:
        spikes: output spikes; the dimensions between batch and time are collapsed into classes.
        population_code: several neurons per class, in contiguous groups: a class fires when one of them does.
        num_classes: number of classes, needed with ``population_code``.

    Shape:
        - spikes: :math:`(N, C, ..., T)`
        - output: :math:`(N)`, int64

    Raises:
        ValueError: for an empty batch, NaN among the spikes (on the CPU; elsewhere such a sample is :data:`SILENT`), or
            a number of classes that does not divide the neurons.

    Example:
        >>> classify_first_spike(torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]))
        tensor([ 1, -1])
    """
    trains, classes = _trains_and_classes(spikes, population_code, num_classes)
    times = first_spike_times(pool_population(trains != 0, classes, "sum") > 0)
    earliest, index = times.min(1)
    first = torch.where(times == earliest.unsqueeze(1), 1, 0).argmax(1)
    unknown = spike_count(trains).isnan().any(1)
    return _answer(first.to(index.dtype), earliest < spikes.shape[-1], unknown, classes)


def classify_membrane(
    membrane: torch.Tensor, over_time: str = "max", population_code: bool = False, num_classes: int | None = None
) -> torch.Tensor:
    r"""The class with the highest membrane potential, the lowest index of equals.

    .. math:: \hat y_n = \text{arg max}_c\, \max_t v_{nc}[t]

    The output of a readout that does not spike, trained with :func:`ce_max_membrane_loss` for instance. A potential is
    never silent. One class alone answers yes or no: 1 where its potential is above 0.

    Args:
        membrane: membrane potentials; the dimensions between batch and time are collapsed into classes.
        over_time: ``"max"`` for the largest potential, ``"mean"`` for the mean over time.
        population_code: several neurons per class, in contiguous groups, whose potentials are added.
        num_classes: number of classes, needed with ``population_code``.

    Shape:
        - membrane: :math:`(N, C, ..., T)`
        - output: :math:`(N)`, int64

    Raises:
        ValueError: for an empty batch, NaN among the potentials (on the CPU; elsewhere such a sample is
            :data:`SILENT`), a number of classes that does not divide the neurons, or another ``over_time``.

    Example:
        >>> classify_membrane(torch.tensor([[[0.2, 0.9, 0.1], [0.5, 0.5, 0.5]]]))
        tensor([0])
        >>> classify_membrane(torch.tensor([[[0.2, 0.9, 0.1], [0.5, 0.5, 0.5]]]), "mean")
        tensor([1])
    """
    check_choice("over_time", over_time, ("max", "mean"))
    trains, classes = _trains_and_classes(membrane, population_code, num_classes, "membrane")
    potentials = as_float(pool_population(trains, classes, "sum"))
    scores = potentials.amax(-1) if over_time == "max" else potentials.mean(-1)
    above = scores.amax(1) > 0 if classes == 1 else torch.ones_like(scores[:, 0], dtype=torch.bool)
    return _answer(scores.argmax(1), above, scores.isnan().any(1), classes)


def _trains_and_classes(
    x: torch.Tensor, population_code: bool, num_classes: int | None, name: str = "spikes"
) -> tuple[torch.Tensor, int]:
    """Trains ``(N, C, T)`` without NaN, as far as values can be looked at, and the number of classes."""
    check_spikes(name, x, min_dims=3)
    check_options(population_code=population_code, num_classes=num_classes)
    if x.is_cpu and not torch_compiles() and _has_nan(x):
        raise ValueError(f"Expected argument `{name}` to hold numbers but got NaN, which is no class.")
    trains = collapse(x)
    return trains, check_population(trains.shape[1], population_code, num_classes)


def _has_nan(x: torch.Tensor) -> bool:
    try:
        return bool(x.isnan().any())
    except RuntimeError:  # inside torch.func.vmap values cannot be read
        return False


def _answer(best: torch.Tensor, fired: torch.Tensor, unknown: torch.Tensor, classes: int) -> torch.Tensor:
    """The best class where something fired; of one class alone, whether it fired. Nothing where it is not known."""
    answer = fired.to(best.dtype) if classes == 1 else torch.where(fired, best, SILENT)
    return torch.where(unknown, SILENT, answer)


@dataclass(frozen=True)
class Accuracy:
    """How many of ``total`` predictions that were judged were ``correct``, and how many outputs were ``silent``.

    Those of several batches can be added.

    >>> Accuracy(correct=3, silent=1, total=4).rate
    0.75
    >>> sum([Accuracy(correct=3, silent=1, total=4), Accuracy(correct=1, silent=0, total=4)])
    Accuracy(correct=4, silent=1, total=8)
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

    def __add__(self, other: Accuracy) -> Accuracy:
        """Of both batches together."""
        if not isinstance(other, Accuracy):
            return NotImplemented
        return Accuracy(self.correct + other.correct, self.silent + other.silent, self.total + other.total)

    def __radd__(self, other: int) -> Accuracy:
        """So that Python's ``sum``, which starts from 0, adds batches."""
        return self if isinstance(other, int) and other == 0 else NotImplemented


def accuracy(
    predictions: torch.Tensor, labels: torch.Tensor, num_classes: int | None = None, *, ignore_index: int = IGNORED
) -> Accuracy:
    """Count correct and silent predictions. Reads the values: the host waits for the device.

    Args:
        predictions: class indices, :data:`SILENT` for a silent output.
        labels: class indices of the same shape, one per sample, or (with predictions per step) one for all steps.
        num_classes: number of classes that a prediction chooses from; 1 for an output that answers yes, 1, or no, 0.
            Without it only a negative label is known to be one that no output can have.
        ignore_index: the label of those that are counted neither as right nor as wrong, -100 as in torch.

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
            shapes = dict.fromkeys([tuple(predictions.shape), tuple(predictions.shape[:1])])  # the two may be one
            expected = " or ".join(map(str, shapes))
            raise ValueError(f"Expected argument `labels` to have shape {expected} but got {tuple(labels.shape)}.")
        labels = labels.unsqueeze(-1)
    check_integer("ignore_index", ignore_index)
    classes = judged_classes(labels, num_classes, ignore_index=ignore_index).expand(predictions.shape)
    judged = classes != IGNORED
    return Accuracy(
        correct=int(((predictions == classes) & judged).sum()),
        silent=int(((predictions == SILENT) & judged).sum()),
        total=int(judged.sum()),
    )


class _Classifier(torch.nn.Module):
    """What the classifiers share: the population code, and a ``repr`` with the options."""

    __call__: Callable[..., torch.Tensor]  # for type checkers, to which torch's says nothing

    def __init__(self, population_code: bool, num_classes: int | None) -> None:
        super().__init__()
        check_options(population_code=population_code, num_classes=num_classes)
        self.population_code = population_code
        self.num_classes = num_classes

    def extra_repr(self) -> str:
        """The options, as they were given."""
        options = {name: value for name, value in vars(self).items() if name != "training" and not name.startswith("_")}
        return ", ".join(f"{name}={value!r}" for name, value in options.items())


class RateClassifier(_Classifier):
    """Module form of :func:`classify_rate`, usable as ``classifier`` of ``slayer.utils.Assistant``.

    >>> RateClassifier()(torch.zeros(2, 3, 4))
    tensor([-1, -1])
    """

    def __init__(self, population_code: bool = False, num_classes: int | None = None) -> None:
        super().__init__(population_code, num_classes)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Predictions ``(N,)``."""
        return classify_rate(spikes, self.population_code, self.num_classes)


class WindowClassifier(_Classifier):
    """Module form of :func:`classify_window`.

    >>> WindowClassifier(window=2)(torch.ones(1, 2, 3))
    tensor([[0, 0, 0]])
    """

    def __init__(self, window: int, population_code: bool = False, num_classes: int | None = None) -> None:
        check_count("window", window)
        super().__init__(population_code, num_classes)
        self.window = window

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Predictions ``(N, T)``."""
        return classify_window(spikes, self.window, self.population_code, self.num_classes)


class FirstSpikeClassifier(_Classifier):
    """Module form of :func:`classify_first_spike`.

    >>> FirstSpikeClassifier()(torch.zeros(1, 2, 3))
    tensor([-1])
    """

    def __init__(self, population_code: bool = False, num_classes: int | None = None) -> None:
        super().__init__(population_code, num_classes)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Predictions ``(N,)``."""
        return classify_first_spike(spikes, self.population_code, self.num_classes)


class MembraneClassifier(_Classifier):
    """Module form of :func:`classify_membrane`.

    >>> MembraneClassifier()(torch.tensor([[[0.1, 0.2], [0.3, -1.0]]]))
    tensor([1])
    """

    def __init__(self, over_time: str = "max", population_code: bool = False, num_classes: int | None = None) -> None:
        check_choice("over_time", over_time, ("max", "mean"))
        super().__init__(population_code, num_classes)
        self.over_time = over_time

    def forward(self, membrane: torch.Tensor) -> torch.Tensor:
        """Predictions ``(N,)``."""
        return classify_membrane(membrane, self.over_time, self.population_code, self.num_classes)
