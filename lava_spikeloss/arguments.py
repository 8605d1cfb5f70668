"""Checks of arguments: one message style for the whole library.

Each function raises a ``TypeError`` or ``ValueError`` that names the argument, what was expected and what came.
None of them looks at the values inside a tensor, so none of them makes the host wait for a device.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import torch

__all__ = [
    "check_choice",
    "check_count",
    "check_floating",
    "check_integer",
    "check_number",
    "check_region",
    "check_same_shape",
    "check_spikes",
    "check_tensor",
]


def check_tensor(name: str, value: object) -> None:
    """Raise a ``TypeError`` unless ``value`` is a tensor."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"Expected argument `{name}` to be a torch.Tensor but got {type(value).__name__}.")


def check_spikes(name: str, value: torch.Tensor, min_dims: int = 2) -> None:
    """Raise unless ``value`` is a real, non-empty tensor ``(N, ..., T)`` of at least ``min_dims`` dimensions."""
    check_tensor(name, value)
    if value.dtype == torch.complex64 or value.dtype == torch.complex128:  # torch 2.3 cannot trace is_complex()
        raise TypeError(f"Expected argument `{name}` to be a real tensor but got {value.dtype}.")
    if value.dim() < min_dims:
        layout = "(N, C, ..., T)" if min_dims >= 3 else "(..., T)"
        raise ValueError(
            f"Expected argument `{name}` to have the layout {layout} with at least {min_dims} dimensions, time last, "
            f"but got shape {tuple(value.shape)}."
        )
    if value.numel() == 0:
        raise ValueError(f"Expected argument `{name}` to hold at least one element but got shape {tuple(value.shape)}.")


def check_floating(name: str, value: torch.Tensor) -> None:
    """Raise a ``TypeError`` unless ``value`` is a floating-point tensor."""
    check_tensor(name, value)
    if not value.is_floating_point():
        raise TypeError(f"Expected argument `{name}` to be a floating-point tensor but got {value.dtype}.")


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise a ``ValueError`` unless ``value`` is one of ``choices``."""
    if value not in choices:
        allowed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"Expected argument `{name}` to be one of {allowed} but got {value!r}.")


def check_number(
    name: str, value: object, *, minimum: float | None = None, above: float | None = None, maximum: float | None = None
) -> None:
    """Raise unless ``value`` is a finite real number with ``minimum <= value <= maximum`` and ``value > above``."""
    if isinstance(value, bool) or not isinstance(value, (float, int, Real)):  # a check for Real alone is slow
        raise TypeError(f"Expected argument `{name}` to be a number but got {type(value).__name__}.")
    number = float(value)
    if minimum is not None and not number >= minimum:
        expected = f"at least {minimum}"
    elif above is not None and not number > above:
        expected = f"greater than {above}"
    elif maximum is not None and not number <= maximum:
        expected = f"at most {maximum}"
    elif number - number != 0:  # true for inf and nan
        expected = "finite"
    else:
        return
    raise ValueError(f"Expected argument `{name}` to be {expected} but got {value!r}.")


def check_integer(name: str, value: object) -> None:
    """Raise a ``TypeError`` unless ``value`` is an integer."""
    if isinstance(value, bool) or not isinstance(value, (int, Integral)):  # a check for Integral alone is slow
        raise TypeError(f"Expected argument `{name}` to be an integer but got {type(value).__name__}.")


def check_count(name: str, value: object, *, minimum: int = 1) -> None:
    """Raise unless ``value`` is an integer of at least ``minimum``."""
    check_integer(name, value)
    if int(value) < minimum:  # type: ignore[call-overload]  # an integer, as was just checked
        raise ValueError(f"Expected argument `{name}` to be at least {minimum} but got {value!r}.")


def check_region(start: int, stop: int | None, steps: int) -> slice:
    """The steps ``[start, stop)`` of a train of ``steps``; raise unless they lie inside it and are at least one."""
    check_count("start", start, minimum=0)
    if stop is not None:
        check_count("stop", stop)
    end = steps if stop is None else stop
    if not start < end <= steps:
        raise ValueError(
            f"Expected arguments `start` and `stop` to name steps of a train of length {steps} with start < stop "
            f"but got [{start}, {end})."
        )
    return slice(start, end)


def check_same_shape(name: str, value: torch.Tensor, other_name: str, other: torch.Tensor) -> None:
    """Raise a ``ValueError`` unless two tensors have the same shape."""
    check_tensor(name, value)
    if value.shape != other.shape:
        raise ValueError(
            f"Expected argument `{name}` to have the shape of `{other_name}`, {tuple(other.shape)}, "
            f"but got {tuple(value.shape)}."
        )
