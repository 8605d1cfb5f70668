"""Checks of the options that losses share: a name means one thing in the whole library and is checked in one place.

A functional checks its options on every call, a module checks them when it is built: both call :func:`check_options`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from lava_spikeloss.arguments import check_choice, check_count, check_floating, check_number

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


def _time(name: str, value: object) -> None:
    """A number, or several in a list, a tuple or a tensor (whose shape its user checks)."""
    if isinstance(value, (list, tuple)):
        for item in value:
            check_number(name, item)
    elif not isinstance(value, torch.Tensor):
        check_number(name, value)


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
    "start": partial(check_count, minimum=0),
    "stop": _optional(check_count),
    "temperature": _positive,
    "label_smoothing": _rate,
    "focal_gamma": _not_negative,
    "correct_rate": _rate,
    "incorrect_rate": _rate,
    "time_scale": partial(check_choice, choices=("count", "rate")),
    "time_var_targets": _check_flag,
    "target_is_time": _check_flag,
    "multi_spike": _check_flag,
    "tolerance": _not_negative,
    "inverse": partial(check_choice, choices=("negate", "reciprocal")),
    "lam": _rate,
    "phi": check_number,
    "xi": _positive,
    "early_weight": _not_negative,
    "early_scale": _optional(_positive),
    "integration_time": _optional(_positive),
    "ceiling": check_number,
    "on_target": _time,
    "off_target": _time,
    "v_threshold": check_number,
    "kernel_type": partial(check_choice, choices=("linear", "sigmoid", "gaussian")),
    "loss_type": partial(check_choice, choices=("mse", "l1", "bce")),
    "T_in": partial(check_count, minimum=0),
    "true_count": _not_negative,
    "false_count": _not_negative,
    "lower": _optional(_not_negative),
    "upper": _optional(_not_negative),
    "power": partial(check_choice, choices=(1, 2)),
    "tau": _positive,
    "per_step": _check_flag,
    "error": partial(check_choice, choices=("mse", "l1", "smooth_l1")),
    "lam_high": _not_negative,
    "lam_low": _not_negative,
}


def check_options(**options: object) -> None:
    """Raise a ``TypeError`` or ``ValueError`` for the first option whose value is not allowed."""
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is not None:
            check(name, value)
