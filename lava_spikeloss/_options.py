"""Checks of the options that losses share: a name means one thing in the whole library and is checked in one place.

A functional checks its options on every call, a module checks them when it is built: both call :func:`check_options`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from lava_spikeloss._arguments import check_choice, check_count, check_floating, check_number

__all__ = ["REDUCTIONS", "check_options"]

REDUCTIONS = ("mean", "sum", "none")


def _check_weight(name: str, value: object) -> None:
    if value is None:
        return
    check_floating(name, value)  # type: ignore[arg-type]  # raises for anything that is not a tensor
    if isinstance(value, torch.Tensor) and value.dim() != 1:
        raise ValueError(f"Expected argument `{name}` to have shape (C,) but got {tuple(value.shape)}.")


def _optional(check: Callable[[str, object], None]) -> Callable[[str, object], None]:
    def checked(name: str, value: object) -> None:
        if value is not None:
            check(name, value)

    return checked


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"Expected argument `{name}` to be a bool but got {type(value).__name__}.")


_rate = partial(check_number, minimum=0, maximum=1)
_positive = partial(check_number, above=0)
_not_negative = partial(check_number, minimum=0)

_CHECKS: dict[str, Callable[[str, object], None]] = {
    "reduction": partial(check_choice, choices=REDUCTIONS),
    "weight": _check_weight,
    "population_code": _check_flag,
    "population_pooling": partial(check_choice, choices=("sum", "mean")),
    "true_rate": _rate,
    "false_rate": _rate,
    "moving_window": _optional(check_count),
    "alpha": _positive,
    "theta": check_number,
    "mode": partial(check_choice, choices=("probability", "softmax", "count")),
    "scale": _positive,
    "time_constant": _positive,
    "length": _optional(check_count),
    "filter_order": check_count,
}


def check_options(**options: object) -> None:
    """Raise a ``TypeError`` or ``ValueError`` for the first option whose value is not allowed."""
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is not None:
            check(name, value)
