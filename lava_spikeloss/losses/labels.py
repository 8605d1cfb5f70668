"""Every form a label may have, which of them was given, and what it becomes: one of four canonical tensors.

======================  =============  ================  =======================================================
form                    the numbers    canonical dtype   comes from
======================  =============  ================  =======================================================
``(N,)``                indices        int64             class indices, of integers or of whole floats
``(N, T)``              indices        int64             class indices per step
``(N, C)``              targets        floating          one-hot, multi-hot or probabilities, in [0, 1]
``(N, C, T)``           targets        floating          the same per step
======================  =============  ================  =======================================================

The shape tells the form, except that ``(N, T)`` and ``(N, C)`` are one shape when ``C == T``. There

1. the argument ``label_form``, ``"indices"`` or ``"targets"``, decides where it is given;
2. floating and bool numbers are targets;
3. integers with a number other than 0 and 1 can only be indices, and with a number that no class has only targets;
4. integers that are all 0 and 1 could be either: an error says so (``torch.nn.functional.one_hot`` gives such).

So that no batch is read in another way than the one before, nothing else decides. For rule 3 the numbers have to be
read: on an accelerator the host waits for that, in this one case, and inside of ``torch.compile``, ``torch.func.vmap``
and on the meta device, where there is nothing to read, integers need ``label_form``.

The numbers are checked, against the number of classes or as targets against [0, 1], on the CPU in eager mode. On an
accelerator looking at values would make the host wait, and where there are none to look at an impossible class meets
the assertion of torch's indexing.

Samples and steps to leave out have the label ``ignore_index``, among class indices and among the answers of one output;
canonical indices have :data:`IGNORED` there. The labels that predictions are compared with are class indices too
(:func:`judged_classes`).
"""

from __future__ import annotations

from math import inf, prod
from typing import Literal, NamedTuple

import torch

from lava_spikeloss.arguments import check_choice, check_integer, check_tensor
from lava_spikeloss.compiling import torch_compiles, torch_transforms

__all__ = [
    "IGNORED",
    "Form",
    "LabelForm",
    "Labels",
    "are_whole",
    "as_signed",
    "check_label_form",
    "class_indices",
    "judged_classes",
    "label_forms",
    "labels_per_train",
    "only_indices",
    "read_form",
    "read_labels",
    "sample_weights",
    "targets_per_step",
    "targets_per_train",
    "wanted_values",
    "with_classes",
]

IGNORED = -100
"""The label of samples to leave out: the default ``ignore_index`` of ``torch.nn.CrossEntropyLoss``."""

LabelForm = Literal["indices", "targets"]
"""What the numbers of labels are: the argument ``label_form``."""

_IMPOSSIBLE = -1  # an index at which torch's indexing raises, where labels were not checked
_SHOWN = 5  # how many impossible labels an error lists
_WIDE_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)
_ROUNDING = 1e-3  # a target may lie outside of its limits by this much or more, as sums of rounded probabilities do


class Labels(NamedTuple):
    """Labels in a canonical form.

    Attributes:
        values: as in the table of this module; indices to leave out are :data:`IGNORED`, answers of one output 0.
        kept: False for each sample ``(N,)``, or step ``(N, T)``, to leave out; None where it is known to be none.
    """

    values: torch.Tensor
    kept: torch.Tensor | None = None


class Form(NamedTuple):
    """One form that a loss takes labels in.

    Attributes:
        numbers: what the numbers are.
        axes: what the dimensions are, such as ``"N, T=6"``.
        shape: their sizes.
        per_step: whether the last of them is time.
        yes_or_no: whether they answer for the one output, so that some may be left out as class indices are.
    """

    numbers: LabelForm
    axes: str
    shape: tuple[int, ...]
    per_step: bool = False
    yes_or_no: bool = False


def label_forms(shape: tuple[int, ...], num_classes: int, *, yes_or_no: bool = False) -> list[Form]:
    """The forms of labels for spikes of ``shape`` ``(N, ..., T)``.

    Args:
        shape: of the spikes.
        num_classes: :math:`C`.
        yes_or_no: where there is one output, its labels need no dimension for it: they are targets, 1 for yes.
    """
    samples, steps = shape[0], shape[-1]
    yes_or_no = yes_or_no and num_classes == 1
    single: LabelForm = "targets" if yes_or_no else "indices"
    forms = [
        Form(single, f"{samples},", (samples,), yes_or_no=yes_or_no),
        Form(single, f"{samples}, T={steps}", (samples, steps), per_step=True, yes_or_no=yes_or_no),
        Form("targets", f"{samples}, C={num_classes}", (samples, num_classes)),
        Form("targets", f"{samples}, C={num_classes}, T={steps}", (samples, num_classes, steps), per_step=True),
    ]
    if len(shape) > 3 and prod(shape[1:-1]) == num_classes:  # classes that lie in space, as their spikes do
        places = ", ".join(map(str, shape[:-1]))
        forms += [
            Form("targets", places, tuple(shape[:-1])),
            Form("targets", f"{places}, T={steps}", tuple(shape), per_step=True),
        ]
    return forms


def read_form(
    labels: torch.Tensor, forms: list[Form], label_form: LabelForm | None, num_classes: int, name: str = "labels"
) -> Form:
    """The one form that labels have.

    Raises:
        ValueError: if they have none of them, or could have several.
    """
    check_tensor(name, labels)
    if labels.dtype in (torch.complex64, torch.complex128):  # torch 2.3 cannot trace is_complex()
        raise TypeError(f"Expected argument `{name}` to hold real numbers but got {labels.dtype}.")
    fitting = [form for form in forms if form.shape == labels.shape and label_form in (None, form.numbers)]
    if not fitting:
        wanted = [form for form in forms if label_form in (None, form.numbers)]
        listed = " or ".join(f"({form.axes})" for form in wanted)
        given = "" if label_form is None else f" with `label_form={label_form!r}`"
        raise ValueError(f"Expected argument `{name}` to have shape {listed}{given} but got {tuple(labels.shape)}.")
    indices, targets = ([form for form in fitting if form.numbers == one] for one in ("indices", "targets"))
    if not targets or (indices and only_indices(labels)):
        if len(indices) > 1:
            raise ValueError(_positions_or_steps(labels, name))
        return indices[0]
    if not indices or labels.is_floating_point() or labels.dtype == torch.bool:
        return targets[0]
    if num_classes == 1 and _has(labels, labels == 1):
        return targets[0]
    raise ValueError(_two_readings(labels, indices[0], targets[0], name))


def as_signed(numbers: torch.Tensor) -> torch.Tensor:
    """Numbers as int64 where they are unsigned and wider than a byte: torch neither orders nor picks such numbers."""
    return numbers.to(torch.int64) if numbers.dtype in _WIDE_UNSIGNED else numbers


def only_indices(labels: torch.Tensor) -> bool:
    """Whether there are integers other than 0 and 1 among ``labels``, which no target can be."""
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return False
    numbers = as_signed(labels)
    return _has(labels, (numbers < 0) | (numbers > 1))


def _has(labels: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether a mask of labels is true anywhere; False where no value can be read."""
    if torch_compiles() or labels.is_meta:
        return False
    try:
        return bool(mask.any())
    except RuntimeError:  # inside torch.func.vmap, or a tensor without values
        return False


def _two_readings(labels: torch.Tensor, indices: Form, targets: Form, name: str) -> str:
    return (
        f"Argument `{name}` of integers, shape {tuple(labels.shape)}, has two readings: class indices "
        f"({indices.axes}), and targets, one for each class, ({targets.axes}). Say which, with `label_form='indices'` "
        f"or `label_form='targets'`, or give targets as floating-point numbers, `{name}.float()`."
    )


def _positions_or_steps(labels: torch.Tensor, name: str) -> str:
    samples, steps = labels.shape
    return (
        f"Argument `{name}` of shape {tuple(labels.shape)} has two readings: class indices of {steps} positions, "
        f"and of T={steps} steps. Give one for each step of each position, ({samples}, {steps}, T={steps})."
    )


def read_labels(
    labels: torch.Tensor,
    shape: torch.Size,
    num_classes: int,
    *,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    forms: list[Form] | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    name: str = "labels",
) -> Labels:
    """Bring ``labels`` for spikes of ``shape`` ``(N, ..., T)`` to one of the canonical forms of this module.

    Args:
        labels: as given.
        shape: of the spikes.
        num_classes: :math:`C`.
        label_form: what the numbers are; None where the labels say it themselves.
        ignore_index: the class index of what is left out.
        forms: that the loss takes; None for those of :func:`label_forms`.
        limits: of targets.
        name: of the argument.
    """
    check_label_form("label_form", label_form)
    check_integer("ignore_index", ignore_index)
    check_tensor(name, labels)
    if forms is None and label_form is None and labels.dtype == torch.int64 and labels.shape == shape[:1]:
        return _read_indices(labels, num_classes, ignore_index, name)  # as in most calls; no other form has one axis
    forms = forms or label_forms(shape, num_classes)
    form = read_form(labels, forms, label_form, num_classes, name)
    if form.numbers == "indices":
        return _read_indices(labels, num_classes, ignore_index, name)
    if not labels.is_floating_point() and labels.dtype != torch.bool:
        labels = labels.to(torch.int64)
    kept = _kept_answers(labels, ignore_index) if form.yes_or_no else None
    if kept is not None:
        labels = labels.masked_fill(~kept, 0)
    could_be = any(other.numbers == "indices" and other.shape == labels.shape for other in forms)
    targets = _within(limits, labels, name, hint="; class indices need `label_form='indices'`" if could_be else "")
    targets = targets if targets.is_floating_point() else targets.to(torch.float32)
    canonical = (shape[0], num_classes, shape[-1]) if form.per_step else (shape[0], num_classes)
    return Labels(targets.reshape(canonical), kept)


def _kept_answers(labels: torch.Tensor, ignore_index: int) -> torch.Tensor | None:
    """Which of the labels of one output are not to be left out; None where they can be read, and it is all of them."""
    kept = labels != ignore_index
    try:
        all_of_them = labels.is_cpu and not torch_compiles() and bool(kept.all())
    except RuntimeError:  # inside torch.func.vmap values cannot be read
        return kept
    return None if all_of_them else kept


def check_label_form(name: str, value: object) -> None:
    """Raise a ``ValueError`` unless it says what the numbers of labels are, or is None."""
    check_choice(name, value, (None, "indices", "targets"))


def class_indices(
    labels: torch.Tensor, num_classes: int, name: str = "labels", ignore_index: int | None = None
) -> torch.Tensor:
    """``labels`` as int64 class indices, :data:`IGNORED` for those that are ``ignore_index``.

    They are checked where that does not make the host wait.
    """
    return _read_indices(labels, num_classes, ignore_index, name).values


def _read_indices(labels: torch.Tensor, num_classes: int, ignore_index: int | None, name: str) -> Labels:
    if labels.numel() == 0:
        raise ValueError(f"Expected argument `{name}` to hold at least one label but got shape {tuple(labels.shape)}.")
    labels = as_signed(labels)
    indices = labels.to(torch.int64)
    if ignore_index not in range(num_classes) and _are_classes(labels, indices, num_classes):
        return Labels(indices)  # as in most calls
    if ignore_index is None:
        _check_indices(labels, indices, num_classes, name)
        return Labels(indices)
    kept = indices != ignore_index
    marked = indices
    if ignore_index != IGNORED:  # a class may have this number, and IGNORED is then a label that no class has
        marked = indices.masked_fill(indices == IGNORED, _IMPOSSIBLE).masked_fill(~kept, IGNORED)
    return Labels(
        marked, kept if _check_indices(labels, torch.where(kept, indices, 0), num_classes, name, kept) else None
    )


def _are_classes(labels: torch.Tensor, indices: torch.Tensor, num_classes: int) -> bool:
    """Whether each label is a class; False also where values cannot be read."""
    if not labels.is_cpu or torch_compiles():
        return False
    try:
        return are_whole(labels) and torch.equal(indices.clamp(0, num_classes - 1), indices)
    except RuntimeError:  # inside torch.func.vmap
        return False


def _check_indices(
    labels: torch.Tensor, indices: torch.Tensor, num_classes: int, name: str, kept: torch.Tensor | None = None
) -> bool:
    """Raise for labels that are no class; whether some are, or on a device or in a compiler may be, to leave out."""
    if not labels.is_cpu or torch_compiles():
        return kept is not None
    try:
        whole, possible = are_whole(labels), torch.equal(indices.clamp(0, num_classes - 1), indices)
        some_left_out = kept is not None and not bool(kept.all())
    except RuntimeError:  # inside torch.func.vmap values cannot be read
        return kept is not None
    if not whole:
        raise ValueError(f"Expected argument `{name}` to hold whole class indices but got fractions.")
    if not possible:
        judged = labels if kept is None else labels[kept]
        raise ValueError(
            f"Expected argument `{name}` to hold class indices in [0, {num_classes}) "
            f"but got values from {int(judged.min())} to {int(judged.max())}."
        )
    return some_left_out


def _within(limits: tuple[float, float], targets: torch.Tensor, name: str, hint: str = "") -> torch.Tensor:
    """``targets``, without what rounding put outside of ``limits``, where their values can be looked at.

    Raises:
        ValueError: for targets that are NaN, or outside of ``limits`` by more than rounding.
    """
    low, high = limits
    if not targets.is_cpu or torch_compiles() or targets.dtype == torch.bool or low == -inf:
        return targets
    rounding = max(_ROUNDING, 4 * torch.finfo(targets.dtype).eps) if targets.is_floating_point() else 0.0
    try:
        smallest, largest = (float(value) for value in targets.detach().aminmax())
    except RuntimeError:  # inside torch.func.vmap values cannot be read
        return targets
    if low <= smallest and largest <= high and largest < inf:
        return targets
    if low - rounding <= smallest and largest <= high + rounding and largest < inf:
        return targets.clamp(low, high)
    allowed = f"in [{low:g}, {high:g}]" if high < inf else f"of at least {low:g}"
    raise ValueError(
        f"Expected argument `{name}` of shape {tuple(targets.shape)} to hold targets {allowed}, one for each class, "
        f"but got values from {smallest:g} to {largest:g}{hint}."
    )


def targets_per_train(labels: Labels, num_classes: int, dtype: torch.dtype) -> Labels:
    """Labels as ``(N, C)`` targets of a whole train; labels per step are averaged over the steps that are kept."""
    values, kept = labels
    if values.dtype == torch.int64:
        steps = values.unsqueeze(-1) if values.dim() == 1 else values
        zeros = torch.zeros(steps.shape[0], num_classes, dtype=dtype, device=steps.device)
        if kept is None or values.dim() == 1:
            share = torch.full(steps.shape, 1 / steps.shape[-1], dtype=dtype, device=steps.device)
        else:
            share, kept = _shares(kept, dtype), kept.any(1)
        return Labels(zeros.scatter_add(1, _possible(steps, labels.kept), share), kept)
    targets = values.to(dtype)
    if kept is not None and kept.dim() == 2:
        return Labels((targets * _shares(kept, dtype).unsqueeze(1)).sum(-1), kept.any(1))
    return Labels(targets if targets.dim() == 2 else targets.mean(-1), kept)


def _shares(kept: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What each step ``(N, T)`` counts in the mean of those that are kept."""
    return kept.to(dtype) / kept.sum(1, keepdim=True).clamp(min=1)


def targets_per_step(labels: Labels, num_classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Labels as targets ``(N, C, T)``, or ``(N, C, 1)`` where all steps share one; of any value where left out."""
    values, kept = labels
    if values.dtype == torch.int64:
        steps = _possible(values, kept).reshape(values.shape[0], 1, -1)
        return wanted_values(steps, num_classes, dtype, 1, 0)
    targets = values.to(dtype)
    return targets if targets.dim() == 3 else targets.unsqueeze(-1)


def _possible(indices: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Indices with a class in the place of :data:`IGNORED`, so that they can index."""
    return indices if kept is None else indices.masked_fill(indices == IGNORED, 0)


def labels_per_train(labels: Labels, num_classes: int, dtype: torch.dtype) -> Labels:
    """Labels of a whole train: class indices ``(N,)`` stay, everything else becomes ``(N, C)`` targets."""
    if labels.values.dtype == torch.int64 and labels.values.dim() == 1:
        return labels
    return targets_per_train(labels, num_classes, dtype)


def with_classes(labels: Labels) -> torch.Tensor:
    """Class indices, all possible, with a dimension of 1 for the classes, ``(N, 1)`` or ``(N, 1, T)``; targets stay."""
    values, kept = labels
    return _possible(values, kept).unsqueeze(1) if values.dtype == torch.int64 else values


def wanted_values(
    labels: torch.Tensor, num_classes: int, dtype: torch.dtype, true: float, false: float
) -> torch.Tensor:
    """``true`` for the labelled class, ``false`` for the others, in between for targets in between, ``(N, C, ...)``.

    Labels are those of :func:`with_classes`.
    """
    if labels.dtype == torch.int64:
        shape = labels.shape[0], num_classes, *labels.shape[2:]
        everywhere = torch.full(shape, false, dtype=dtype, device=labels.device)
        if torch_transforms():  # torch.func.vmap over labels cannot write into it
            return everywhere.scatter(1, labels, true)
        return everywhere.scatter_(1, labels, true)
    targets = labels.to(dtype)
    return torch.lerp(torch.full_like(targets, false), torch.full_like(targets, true), targets)


def sample_weights(labels: Labels, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class weights of labels, ``(N,)`` or ``(N, T)``, 0 for what is left out, and what a mean divides their sum by.

    As in ``torch.nn.CrossEntropyLoss``: the sum of the weights for class indices, their number for targets.
    """
    values, kept = labels
    if values.dtype == torch.int64:
        weights = weight[_possible(values, kept)]
        weights = weights if kept is None else torch.where(kept, weights, 0)
        return weights, weights.sum()
    column = weight if values.dim() == 2 else weight.unsqueeze(-1)
    weights = (values.to(weight.dtype) * column).sum(1)
    if kept is not None:
        return torch.where(kept, weights, 0), kept.sum().to(weights.dtype)
    return weights, torch.full((), weights.numel(), dtype=weights.dtype, device=weights.device)


def are_whole(labels: torch.Tensor) -> bool:
    """Whether all values are whole numbers, in any dtype; infinity and NaN are not."""
    return not labels.is_floating_point() or bool((labels - labels.floor() == 0).all())


def judged_classes(
    labels: torch.Tensor, num_classes: int | None, name: str = "labels", ignore_index: int = IGNORED
) -> torch.Tensor:
    """``labels`` of any shape as int64 class indices to compare predictions with; :data:`IGNORED` for what is left out.

    Reads the values: the host waits for the device.

    Args:
        labels: class indices, of integers or of whole floats.
        num_classes: number of outputs, of which one alone answers yes, 1, or no, 0; None if it is not known, and only
            negative labels can be told to be wrong.
        name: of the argument.
        ignore_index: the label of what is left out.

    Raises:
        TypeError: for complex numbers.
        ValueError: for fractions, and for a label that no output can have.
    """
    check_tensor(name, labels)
    if labels.is_complex():
        raise TypeError(f"Expected argument `{name}` to hold class indices but got {labels.dtype}.")
    if not are_whole(labels):
        raise ValueError(f"Expected argument `{name}` to hold whole class indices but got fractions or NaN.")
    labels = labels.to(torch.int64)
    possible = (labels >= 0) if num_classes is None else (labels >= 0) & (labels < max(2, num_classes))
    left_out = labels == ignore_index
    impossible = labels[~possible & ~left_out]
    if impossible.numel():
        found = [str(int(value)) for value in impossible.unique()]
        more = ", ..." if len(found) > _SHOWN else ""
        raise ValueError(
            f"Expected argument `{name}` to hold class indices ({_possible_classes(num_classes)}), or {ignore_index} "
            f"for what is left out, but got {', '.join(found[:_SHOWN])}{more}, which no output can have "
            f"({impossible.numel()} of {labels.numel()} labels)."
        )
    return labels.masked_fill(left_out, IGNORED)


def _possible_classes(num_classes: int | None) -> str:
    if num_classes is None:
        return "at least 0"
    return (
        "0 for no and 1 for yes"
        if num_classes == 1
        else f"0 to {num_classes - 1}, one for each of {num_classes} outputs"
    )
