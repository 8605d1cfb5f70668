"""Samples of different lengths in one batch: what comes after a sample's end is padding, whatever its numbers are.

Each sample costs exactly what it costs alone, cut to its length. Samples of one length go through the loss together,
so a batch takes as many calls as it has different lengths. The lengths are read on the host, which waits for them where
they lie on an accelerator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from math import prod
from typing import Any, NamedTuple, ParamSpec, TypeAlias

import torch
import torch.nn.functional as F

from lava_spikeloss.arguments import check_count, check_spikes, check_tensor
from lava_spikeloss.losses.labels import Form, as_signed, label_forms, read_form
from lava_spikeloss.losses.options import check_options

__all__ = ["Lengths", "check_lengths", "classes_of_call", "padded", "silent_after_the_end"]

Lengths: TypeAlias = Sequence[int] | torch.Tensor
"""The number of steps of each sample: the argument ``lengths``."""

P = ParamSpec("P")
Arguments = dict[str, Any]


def check_lengths(lengths: Lengths, samples: int, steps: int) -> list[int]:
    """``lengths`` as a list.

    Raises:
        TypeError: for a length that is no integer.
        ValueError: unless there is one of each sample, from 1 to the number of steps.
    """
    listed: list[Any] = lengths.flatten().tolist() if isinstance(lengths, torch.Tensor) else list(lengths)
    if len(listed) != samples:
        raise ValueError(
            f"Expected argument `lengths` to hold a length for each of {samples} samples but got {len(listed)}."
        )
    for length in listed:
        check_count("lengths", length)
        if length > steps:
            raise ValueError(f"Expected argument `lengths` to hold at most T={steps} steps but got {length}.")
    return listed


def silent_after_the_end(spikes: torch.Tensor, lengths: Lengths) -> torch.Tensor:
    """Spikes ``(N, ..., T)`` with zeros after each sample's end."""
    listed = check_lengths(lengths, spikes.shape[0], spikes.shape[-1])
    ends = torch.tensor(listed, device=spikes.device).reshape(-1, *[1] * (spikes.dim() - 1))
    return as_signed(spikes).masked_fill(torch.arange(spikes.shape[-1], device=spikes.device) >= ends, 0)


def classes_of_call(arguments: Arguments, x: torch.Tensor) -> int:
    """How many classes a loss that is called with these arguments has."""
    if arguments.get("population_code"):
        return int(arguments["num_classes"])
    if "readout" in arguments:
        return int(arguments["readout"].shape[0])
    return prod(x.shape[1:-1])


def _forms(arguments: Arguments, x: torch.Tensor) -> list[Form]:
    forms = label_forms(x.shape, classes_of_call(arguments, x))
    if "time_var_targets" in arguments:
        return [form for form in forms if form.per_step == arguments["time_var_targets"]]
    return forms


def _has_window(arguments: Arguments) -> bool:
    return arguments.get("moving_window") is not None


@dataclass(frozen=True)
class _Kind:
    """What a loss is like; the attributes are the arguments of :func:`padded`."""

    labels: str | None
    trains: tuple[str, ...]
    forms: Callable[[Arguments, torch.Tensor], list[Form]]
    weighs_steps: bool
    gives_steps: Callable[[Arguments], bool]


class _Part(NamedTuple):
    """What the samples of one length cost.

    Attributes:
        rows: which samples of the batch they are.
        values: what ``reduction="none"`` gives, with zeros for steps after the end.
        means: the mean of each sample, times its class weight.
        weights: what a sample counts in a mean over samples: its class weight, 0 if it is left out.
    """

    rows: list[int]
    values: torch.Tensor
    means: torch.Tensor
    weights: torch.Tensor


def padded(
    labels: str | None = "labels",
    *,
    trains: tuple[str, ...] = (),
    forms: Callable[[Arguments, torch.Tensor], list[Form]] = _forms,
    weighs_steps: bool = False,
    gives_steps: Callable[[Arguments], bool] = _has_window,
) -> Callable[[Callable[P, torch.Tensor]], Callable[P, torch.Tensor]]:
    """Decorator of a loss: with its argument ``lengths`` each sample is cut to its length.

    A loss may have an argument ``form``, to be told the form of the whole batch's labels.

    Args:
        labels: name of the loss's argument for labels; None if it has none.
        trains: names of further arguments with time last.
        forms: the forms of labels that a call takes.
        weighs_steps: whether class weights of labels per step weigh their steps.
        gives_steps: whether a call with ``reduction="none"`` gives a value for each step, the last dimension.
    """
    kind = _Kind(labels, trains, forms, weighs_steps, gives_steps)

    def decorate(function: Callable[P, torch.Tensor]) -> Callable[P, torch.Tensor]:
        signature = inspect.signature(function)

        @wraps(function)
        def loss(*args: P.args, **kwargs: P.kwargs) -> torch.Tensor:
            if kwargs.get("lengths") is None:
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return _of_lengths(function, kind, dict(bound.arguments))

        return loss

    return decorate


def _of_lengths(function: Callable[..., torch.Tensor], kind: _Kind, arguments: Arguments) -> torch.Tensor:
    """The loss of a batch whose samples are cut to their lengths; a mean is over samples."""
    name = next(iter(arguments))
    x: torch.Tensor = arguments[name]
    check_spikes(name, x)
    lengths = check_lengths(arguments.pop("lengths"), x.shape[0], x.shape[-1])
    no_options = {name, kind.labels, *kind.trains, "form"}
    check_options(**{option: value for option, value in arguments.items() if option not in no_options})
    reduction = arguments.pop("reduction")
    if kind.labels is not None:
        check_tensor(kind.labels, arguments[kind.labels])
    for key, value in arguments.items():  # torch takes no rows of numbers that are unsigned and wider than a byte
        if isinstance(value, torch.Tensor):
            arguments[key] = as_signed(value)
    form = _form_of_labels(kind, arguments, x, lengths)
    rows_of: dict[int, list[int]] = {}
    for row, length in enumerate(lengths):
        rows_of.setdefault(length, []).append(row)
    parts = [_part(function, kind, arguments, form, rows, length) for length, rows in rows_of.items()]
    if reduction == "none":
        order = torch.tensor([row for part in parts for row in part.rows], device=x.device)
        return torch.cat([part.values for part in parts])[order.argsort()]
    if reduction == "sum":
        return torch.stack([part.values.sum() for part in parts]).sum()
    weights = torch.stack([part.weights.sum() for part in parts]).sum()
    return torch.stack([part.means.sum() for part in parts]).sum() / weights


def _form_of_labels(kind: _Kind, arguments: Arguments, x: torch.Tensor, lengths: list[int]) -> Form | None:
    """How the labels of the whole batch are read, so that those of no sample are read in another way."""
    if kind.labels is None or arguments.get("target_is_time"):
        return None
    labels = arguments[kind.labels]
    if labels.dim() > 1 and (labels.shape[0], labels.shape[-1]) == (x.shape[0], x.shape[-1]):
        labels = silent_after_the_end(labels, lengths)  # padding does not say what labels are
    return read_form(
        labels, kind.forms(arguments, x), arguments["label_form"], classes_of_call(arguments, x), kind.labels
    )


def _part(
    function: Callable[..., torch.Tensor],
    kind: _Kind,
    arguments: Arguments,
    form: Form | None,
    rows: list[int],
    length: int,
) -> _Part:
    cut = _cut(kind, arguments, form, rows, length)
    values = function(**cut, reduction="none")
    kept, weights = _kept_and_weights(kind, cut, form, values)
    if kept.dim() == 1 or bool(kept.all()):
        means = values.reshape(len(rows), -1).mean(1)
    else:  # steps that are left out inside of a sample: only the loss knows what its mean divides by
        alone = [function(**_cut(kind, arguments, form, [row], length), reduction="mean") for row in rows]
        means = torch.where(kept.flatten(1).any(1), torch.stack(alone) * weights, 0)
    if kind.gives_steps(arguments):
        values = F.pad(values, (0, arguments[next(iter(arguments))].shape[-1] - length))
    return _Part(rows, values, means, weights)


def _cut(kind: _Kind, arguments: Arguments, form: Form | None, rows: list[int], length: int) -> Arguments:
    """The arguments of a call with some samples, cut to a length."""
    name = next(iter(arguments))
    cut = dict(arguments)
    for train in (name, *kind.trains):
        cut[train] = _cut_train(arguments[train], arguments[name], rows, length)
    if kind.labels is not None:
        cut[kind.labels] = _cut_labels(arguments[kind.labels], form, rows, length)
    if form is not None:
        cut["label_form"] = form.numbers
    if "form" in arguments:  # for a loss that needs more than `label_form`: the axes too
        cut["form"] = form
    return cut


def _cut_train(train: Any, x: torch.Tensor, rows: list[int], length: int) -> Any:
    """The rows of trains, cut; of what has no time, such as a teacher's scores ``(N, C)``, the rows alone."""
    if not isinstance(train, torch.Tensor) or train.shape[:1] != x.shape[:1]:
        return train  # the loss will say what is wrong
    of_rows = train[torch.tensor(rows, device=train.device)]
    has_time = train.shape[-1] == x.shape[-1] and (train.dim() > 2 or train.dim() == x.dim())
    return of_rows[..., :length] if has_time else of_rows


def _cut_labels(labels: torch.Tensor, form: Form | None, rows: list[int], length: int) -> torch.Tensor:
    if form is None and labels.dim() == 1:  # times of classes, the same for all samples
        return labels
    of_rows = labels[torch.tensor(rows, device=labels.device)]
    return of_rows[..., :length] if form is not None and form.per_step else of_rows


def _kept_and_weights(
    kind: _Kind, cut: Arguments, form: Form | None, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which samples ``(n,)`` or steps ``(n, T)`` are kept, and what each sample counts in a mean."""
    everything = torch.ones(values.shape[0], dtype=torch.bool, device=values.device)
    if form is None or kind.labels is None or (form.numbers == "targets" and not form.yes_or_no):
        return everything, everything.to(values.dtype)
    labels = cut[kind.labels].to(torch.int64)
    kept = labels != cut["ignore_index"]
    weight = cut.get("weight")
    of_samples = kept.flatten(1).any(1) if kept.dim() > 1 else kept
    if weight is None or (form.per_step and not kind.weighs_steps):
        return kept, of_samples.to(values.dtype)
    weights = torch.where(kept, weight.to(values.dtype)[torch.where(kept, labels, 0)], 0)
    if weights.dim() > 1:
        weights = weights.flatten(1).sum(1) / kept.flatten(1).sum(1).clamp(min=1)
    return kept, weights
