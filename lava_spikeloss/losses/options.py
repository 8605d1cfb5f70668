"""Checks of the options that losses share: a name means one thing in the whole library and is checked in one place.

A functional checks its options on every call, a module checks them when it is built: both call :func:`check_options`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch

from lava_spikeloss.arguments import check_choice, check_count, check_floating, check_integer, check_number
from lava_spikeloss.compiling import torch_compiles
from lava_spikeloss.losses.labels import check_label_form

__all__ = ["REDUCTIONS", "Mode", "Reduction", "check_options"]

Reduction = Literal["mean", "sum", "none"]
"""The argument ``reduction``."""

Mode = Literal["probability", "softmax", "logsoftmax", "count"]
"""The argument ``mode`` of ``SpikeMax``."""

REDUCTIONS = get_args(Reduction)


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


def _check_times(name: str, value: object) -> None:
    """A number, or several in a list, a tuple or a tensor."""
    if isinstance(value, torch.Tensor):
        shape = tuple(value.shape)
    elif isinstance(value, (list, tuple)):
        shape = (len(value),)
        for item in value:
            check_number(name, item)
    else:
        check_number(name, value)
        return
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"Expected argument `{name}` to hold a list of times but got shape {shape}.")


def _check_readout(name: str, value: object) -> None:
    check_floating(name, value)  # type: ignore[arg-type]  # raises for anything that is not a tensor
    if isinstance(value, torch.Tensor) and value.dim() != 2:
        raise ValueError(f"Expected argument `{name}` to have shape (C, M) but got {tuple(value.shape)}.")


def _check_kernel_arguments(name: str, value: object) -> None:
    if not isinstance(value, tuple):
        raise TypeError(f"Expected argument `{name}` to be a tuple but got {type(value).__name__}.")


def _check_mode(name: str, value: object) -> None:
    if value != "logsoftmax":  # what lava-dl's scripts call its softmax
        check_choice(name, value, ("probability", "softmax", "count"))


def _check_learnable(name: str, value: object, above: float | None = None) -> None:
    """A number, or a floating-point tensor of one or of one for each class."""
    if not isinstance(value, torch.Tensor):
        check_number(name, value, above=above)
        return
    check_floating(name, value)
    if value.dim() > 1:
        raise ValueError(f"Expected argument `{name}` to be a number or of shape (C,) but got {tuple(value.shape)}.")
    if above is not None and value.is_cpu and not torch_compiles() and not _all_above(value, above):
        raise ValueError(f"Expected argument `{name}` to be greater than {above} but got {value.detach().tolist()}.")


def _all_above(value: torch.Tensor, above: float) -> bool:
    try:
        return bool((value > above).all())
    except RuntimeError:  # inside torch.func.vmap values cannot be read
        return True


_rate = partial(check_number, minimum=0, maximum=1)
_positive = partial(check_number, above=0)
_not_negative = partial(check_number, minimum=0)
_similarity_kernel = partial(check_choice, choices=("linear", "sigmoid", "gaussian"))
_similarity_loss = partial(check_choice, choices=("mse", "l1", "bce"))

_CHECKS: dict[str, Callable[[str, object], None]] = {
    "reduction": partial(check_choice, choices=REDUCTIONS),
    "weight": _check_weight,
    "population_code": _check_flag,
    "num_classes": _optional(check_count),
    "population_pooling": partial(check_choice, choices=("sum", "mean")),
    "true_rate": _rate,
    "false_rate": _rate,
    "moving_window": _optional(check_count),
    "alpha": partial(_check_learnable, above=0),
    "theta": _check_learnable,
    "mode": _check_mode,
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
    "on_target": _check_times,
    "off_target": _check_times,
    "v_threshold": check_number,
    "kernel_type": _similarity_kernel,
    "kernel": _similarity_kernel,
    "loss_type": _similarity_loss,
    "loss": _similarity_loss,
    "args": _check_kernel_arguments,
    "readout": _check_readout,
    "T_in": partial(check_count, minimum=0),
    "true_count": _not_negative,
    "false_count": _not_negative,
    "lower": _optional(_not_negative),
    "upper": _optional(_not_negative),
    "power": partial(check_choice, choices=(1, 2)),
    "per": partial(check_choice, choices=("neuron", "layer")),
    "tau": _positive,
    "per_step": _check_flag,
    "error": partial(check_choice, choices=("mse", "l1", "smooth_l1")),
    "lam_high": _not_negative,
    "lam_low": _not_negative,
    "label_form": check_label_form,
    "ignore_index": check_integer,
}


def _check_population_code(options: dict[str, Any]) -> None:
    if options["num_classes"] is not None and not options.get("population_code", True):
        raise ValueError(
            f"Expected argument `population_code` to be True with `num_classes={options['num_classes']}` but got "
            f"False, with which each output neuron is a class."
        )
    if options["population_code"] and options["num_classes"] is None:
        raise ValueError("Expected argument `num_classes` to be given with `population_code=True` but got None.")


def _check_region(options: dict[str, Any]) -> None:
    start, stop = options["start"], options["stop"]
    if stop is not None and start >= stop:
        raise ValueError(
            f"Expected arguments `start` and `stop` to name steps with start < stop but got [{start}, {stop})."
        )


def _check_bounds(options: dict[str, Any]) -> None:
    lower, upper = options["lower"], options["upper"]
    if lower is None and upper is None:
        raise ValueError("Expected argument `lower` or `upper` to be a number but got None for both.")
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"Expected argument `lower` to be at most `upper`, {upper}, but got {lower}.")


def _check_targets(options: dict[str, Any]) -> None:
    """On and off are one number each, or with ``multi_spike`` as many times."""
    if options.get("target_is_time"):
        if options["weight"] is not None:
            raise ValueError("Expected argument `weight` to be None with `target_is_time=True`: times name no class.")
        return
    numbers = {}
    for name in ("on_target", "off_target"):
        single = isinstance(options[name], (int, float))
        if not (single or options.get("multi_spike")):
            got = type(options[name]).__name__
            raise TypeError(f"Expected argument `{name}` to be a number without `multi_spike=True` but got {got}.")
        numbers[name] = 1 if single else len(options[name])
    on, off = numbers.values()
    if on != off:
        raise ValueError(f"Expected argument `off_target` to hold as many times as `on_target`, {on}, but got {off}.")


# Checks of options that depend on each other, by the name of one; the others are always given with it.
_TOGETHER: dict[str, Callable[[dict[str, Any]], None]] = {
    "num_classes": _check_population_code,
    "stop": _check_region,
    "upper": _check_bounds,
    "off_target": _check_targets,
}


def check_options(**options: Any) -> None:
    """Check the options of a loss, each by its name, and those that have to fit each other.

    Raises:
        TypeError: for a name that no loss has as an option, or a value of the wrong type.
        ValueError: for a value that is not allowed.
    """
    for name, value in options.items():
        if name not in _CHECKS:
            raise TypeError(f"Expected options of a loss but got `{name}`, which no loss has.")
        _CHECKS[name](name, value)
    for name, check in _TOGETHER.items():
        if name in options:
            check(options)
