"""Every form a label may have, brought to one of four canonical tensors.

======================  ====================  =======================================================
canonical form          dtype                 comes from
======================  ====================  =======================================================
``(N,)``                int64                 class indices, of integers or of whole floats
``(N, T)``              int64                 class indices per step
``(N, C)``              floating              one-hot, multi-hot or probabilities
``(N, C, T)``           floating              the same per step
======================  ====================  =======================================================

An ``(N, C)`` label and an ``(N, T)`` label look alike when ``C == T``. A bool or floating tensor is then taken as
``(N, C)``; an integer tensor as ``(N, T)`` where the loss is evaluated per step, else as ``(N, C)``.

Class indices are checked against the number of classes on the CPU in eager mode. On an accelerator looking at values
would make the host wait, and inside of ``torch.compile`` and ``torch.func.vmap`` there are none to look at: there an
impossible class meets the assertion of torch's indexing.

The labels that predictions are compared with are class indices too (:func:`judged_classes`); samples to leave out have
the label :data:`IGNORED`.
"""

from __future__ import annotations

from math import prod

import torch

from lava_spikeloss.arguments import check_tensor
from lava_spikeloss.compiling import torch_compiles

__all__ = [
    "IGNORED",
    "are_whole",
    "canonical_labels",
    "class_indices",
    "judged_classes",
    "labels_per_train",
    "sample_weights",
    "targets_per_step",
    "targets_per_train",
    "wanted_values",
    "with_classes",
]

IGNORED = -100
"""The label of samples to leave out: the default ``ignore_index`` of ``torch.nn.CrossEntropyLoss``."""

_SHOWN = 5  # how many impossible labels an error lists


def canonical_labels(
    labels: torch.Tensor, shape: torch.Size, num_classes: int, *, integers_are_steps: bool = False, name: str = "labels"
) -> torch.Tensor:
    """Bring ``labels`` for spikes of ``shape`` ``(N, ..., T)`` to one of the canonical forms of this module."""
    check_tensor(name, labels)
    samples, steps = shape[0], shape[-1]
    given = labels.shape
    if given == (samples,):
        return class_indices(labels, num_classes, name)
    per_class = (
        [(samples, num_classes), tuple(shape[:-1])] if prod(shape[1:-1]) == num_classes else [(samples, num_classes)]
    )
    per_class_and_step = [(*form, steps) for form in per_class]
    looks_like_steps = given == (samples, steps)
    integer = not labels.is_floating_point() and labels.dtype != torch.bool
    if given in per_class and not (looks_like_steps and integer and integers_are_steps):
        return _targets(labels).reshape(samples, num_classes)
    if looks_like_steps:
        return class_indices(labels, num_classes, name)
    if given in per_class_and_step:
        return _targets(labels).reshape(samples, num_classes, steps)
    raise ValueError(
        f"Expected argument `{name}` to have shape ({samples},), ({samples}, T={steps}), ({samples}, C={num_classes}) "
        f"or ({samples}, C={num_classes}, T={steps}) but got {tuple(given)}."
    )


def targets_per_train(labels: torch.Tensor, num_classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Canonical labels as ``(N, C)`` targets of a whole spike train; labels per step are averaged over time."""
    if labels.dtype == torch.int64:
        steps = labels.unsqueeze(-1) if labels.dim() == 1 else labels
        zeros = torch.zeros(labels.shape[0], num_classes, dtype=dtype, device=labels.device)
        share = torch.full(steps.shape, 1 / steps.shape[-1], dtype=dtype, device=labels.device)
        return zeros.scatter_add(1, steps, share)
    targets = labels.to(dtype)
    return targets if targets.dim() == 2 else targets.mean(-1)


def targets_per_step(labels: torch.Tensor, num_classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Canonical labels as targets ``(N, C, T)``, or ``(N, C, 1)`` where all steps share one label."""
    if labels.dtype == torch.int64:
        steps = labels.unsqueeze(-1) if labels.dim() == 1 else labels
        zeros = torch.zeros(steps.shape[0], num_classes, steps.shape[-1], dtype=dtype, device=labels.device)
        return zeros.scatter(1, steps.unsqueeze(1), 1.0)
    targets = labels.to(dtype)
    return targets if targets.dim() == 3 else targets.unsqueeze(-1)


def labels_per_train(labels: torch.Tensor, num_classes: int, dtype: torch.dtype) -> torch.Tensor:
    """Canonical labels of a whole train: class indices ``(N,)`` stay, everything else becomes ``(N, C)`` targets."""
    if labels.dtype == torch.int64 and labels.dim() == 1:
        return labels
    return targets_per_train(labels, num_classes, dtype)


def with_classes(labels: torch.Tensor) -> torch.Tensor:
    """Canonical class indices with a dimension of 1 for the classes, ``(N, 1)`` or ``(N, 1, T)``; targets stay."""
    return labels.unsqueeze(1) if labels.dtype == torch.int64 else labels


def wanted_values(
    labels: torch.Tensor, num_classes: int, dtype: torch.dtype, true: float, false: float
) -> torch.Tensor:
    """``true`` for the labelled class, ``false`` for the others, in between for targets in between, ``(N, C, ...)``.

    Labels are those of :func:`with_classes`.
    """
    if labels.dtype == torch.int64:
        shape = labels.shape[0], num_classes, *labels.shape[2:]
        return torch.full(shape, false, dtype=dtype, device=labels.device).scatter(1, labels, true)
    targets = labels.to(dtype)
    return torch.lerp(torch.full_like(targets, false), torch.full_like(targets, true), targets)


def sample_weights(labels: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class weights of canonical labels, ``(N,)`` or ``(N, T)``, and what a mean divides their weighted sum by.

    As in ``torch.nn.CrossEntropyLoss``: the sum of the weights for class indices, their number for targets.
    """
    if labels.dtype == torch.int64:
        weights = weight[labels]
        return weights, weights.sum()
    column = weight if labels.dim() == 2 else weight.unsqueeze(-1)
    weights = (labels.to(weight.dtype) * column).sum(1)
    return weights, torch.full((), weights.numel(), dtype=weights.dtype, device=weights.device)


def class_indices(labels: torch.Tensor, num_classes: int, name: str = "labels") -> torch.Tensor:
    """``labels`` as int64 class indices, checked where that does not make the host wait."""
    check_tensor(name, labels)
    if labels.numel() == 0:
        raise ValueError(f"Expected argument `{name}` to hold at least one label but got shape {tuple(labels.shape)}.")
    indices = labels if labels.dtype == torch.int64 else labels.to(torch.int64)
    if labels.is_cpu and not torch_compiles():
        try:
            whole, possible = are_whole(labels), torch.equal(indices.clamp(0, num_classes - 1), indices)
        except RuntimeError:  # inside torch.func.vmap values cannot be read
            return indices
        if not whole:
            raise ValueError(f"Expected argument `{name}` to hold whole class indices but got fractions.")
        if not possible:
            raise ValueError(
                f"Expected argument `{name}` to hold class indices in [0, {num_classes}) "
                f"but got values from {int(labels.min())} to {int(labels.max())}."
            )
    return indices


def are_whole(labels: torch.Tensor) -> bool:
    """Whether all values are whole numbers, in any dtype; infinity and NaN are not."""
    return not labels.is_floating_point() or bool((labels - labels.floor() == 0).all())


def judged_classes(labels: torch.Tensor, num_classes: int | None, name: str = "labels") -> torch.Tensor:
    """``labels`` of any shape as int64 class indices to compare predictions with; some may be :data:`IGNORED`.

    Reads the values: the host waits for the device.

    Args:
        labels: class indices, of integers or of whole floats.
        num_classes: number of outputs; None if it is not known, and only negative labels can be told to be wrong.
        name: of the argument.

    Raises:
        TypeError: for complex numbers.
        ValueError: for fractions, and for a label that no output can have.
    """
    check_tensor(name, labels)
    if labels.is_complex():
        raise TypeError(f"Expected argument `{name}` to hold class indices but got {labels.dtype}.")
    if not are_whole(labels):
        raise ValueError(f"Expected argument `{name}` to hold whole class indices but got fractions or NaN.")
    possible = (labels >= 0) if num_classes is None else (labels >= 0) & (labels < num_classes)
    impossible = labels[~possible & (labels != IGNORED)]
    if impossible.numel():
        found = [str(int(value)) for value in impossible.unique()]
        more = ", ..." if len(found) > _SHOWN else ""
        classes = (
            "at least 0" if num_classes is None else f"0 to {num_classes - 1}, one for each of {num_classes} outputs"
        )
        raise ValueError(
            f"Expected argument `{name}` to hold class indices ({classes}), or {IGNORED} for what is left out, but got "
            f"{', '.join(found[:_SHOWN])}{more}, which no output can have ({impossible.numel()} of {labels.numel()} "
            f"labels)."
        )
    return labels.to(torch.int64)


def _targets(labels: torch.Tensor) -> torch.Tensor:
    return labels if labels.is_floating_point() else labels.to(torch.float32)
