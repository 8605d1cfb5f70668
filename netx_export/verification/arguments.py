"""What ``verify`` is given, checked before anything runs: each error names the argument and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lava_spikeloss.arguments import check_count, check_number
from lava_spikeloss.losses.labels import are_whole, judged_classes
from netx_export.network.description import NetworkDescription
from netx_export.run import OUTPUT
from netx_export.simulation.inputs import as_tensor, check_input, refuse_short
from netx_export.simulation.lava_python import check_lava_python
from netx_export.verification.lava_samples import LavaSamples
from netx_export.verification.result import OF_LAYERS, OF_OUTPUT, Tolerance, Tolerances

__all__ = [
    "Options",
    "check_labels",
    "check_loss",
    "check_names",
    "check_net",
    "check_numbers",
    "check_spikes",
    "number_of_outputs",
]

_UNSIGNED = ("torch.uint16", "torch.uint32", "torch.uint64")  # not every torch has them


@dataclass(frozen=True)
class Options:
    """How to verify. The attributes are the arguments of ``verify`` with these names."""

    CHANGING_THE_RESULT: ClassVar[tuple[str, ...]] = (
        *("lava_samples", "stop_early", "seed", "tolerance", "timeout"),
        *("delay_shift", "spike_exp"),
    )

    lava_samples: LavaSamples
    stop_early: bool
    seed: int
    timeout: float | None
    progress: bool
    tolerance: Tolerances
    delay_shift: bool | None
    spike_exp: int | None
    lava_python: str | os.PathLike[str] | None = None
    lava_workers: int | None = None

    def __post_init__(self) -> None:
        _check_lava_samples(self.lava_samples)
        if self.lava_workers is not None:
            check_count("lava_workers", self.lava_workers)
        check_count("seed", self.seed, minimum=0)
        if self.timeout is not None:
            check_number("timeout", self.timeout, above=0.0)
        for name in ("stop_early", "progress"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"Expected argument `{name}` to be True or False but got {getattr(self, name)!r}.")
        _check_tolerances(self.tolerance)
        check_lava_python(self.lava_python)


def _check_lava_samples(number: object) -> None:
    if not isinstance(number, str):
        check_count("lava_samples", number, minimum=0)
    elif number != "auto":
        raise ValueError(f"Expected argument `lava_samples` to be an integer or 'auto' but got {number!r}.")


def check_net(net: object) -> None:
    """Raise a ``TypeError`` unless it is a network, or None."""
    if net is not None and not isinstance(net, nn.Module):
        raise TypeError(f"Expected argument `net` to be a torch.nn.Module or None but got {type(net).__name__}.")


def check_loss(loss: object, labels: object) -> None:
    """Raise unless it is None, or a function that has labels to work with."""
    if loss is not None and not callable(loss):
        raise TypeError(f"Expected argument `loss` to be a function of output and labels but got {loss!r}.")
    if loss is not None and labels is None:
        raise ValueError("Argument `loss` needs `labels`, which it is called with, but there are none.")


def check_numbers(spikes: npt.ArrayLike | torch.Tensor) -> Any:
    """The input as an array or a tensor, of the shape and the type in which it was given.

    Raises:
        TypeError: if it is no array of real numbers.
    """
    array = _as_array("spikes", spikes)
    if not _has_numbers(array):
        raise TypeError(f"Expected argument `spikes` to be a dense array of real numbers but got {_describe(array)}.")
    return array


def check_spikes(array: Any, description: NetworkDescription) -> None:
    """Raise unless input fits a file.

    Raises:
        SimulationError: if it does not fit, or holds nothing. The values of the first sample are checked here, those
            of every other one before it runs.
    """
    fits = array.shape[1:-1] == description.input_shape and 0 not in array.shape
    # Where the shape does not fit, all of the input is passed on, so that the error names its shape.
    check_input(description, array[:1] if fits else array)
    refuse_short(description, array.shape[-1])


def number_of_outputs(description: NetworkDescription) -> int:
    """The number of classes that an output of a network can stand for."""
    last = description.readout or list(description.spiking.values())[-1]
    return int(np.prod(last.shape))


def check_labels(labels: npt.ArrayLike | torch.Tensor | None, samples: int, outputs: int) -> torch.Tensor | None:
    """Labels as a tensor on the CPU: int64 ``(N,)`` for class indices; anything else only serves the loss.

    Whole numbers ``(N,)`` are class indices, also in a floating-point type, as they are for the losses.

    Args:
        labels: as given.
        samples: their number.
        outputs: number of classes that an output can stand for.

    Raises:
        ValueError: if they are not finite numbers with one entry for each sample, or classes that no output can have.
    """
    if labels is None:
        return None
    array = _as_array("labels", labels)
    if array.ndim == 0 or len(array) != samples or not _has_numbers(array) or getattr(array, "is_meta", False):
        raise ValueError(
            f"Expected argument `labels` to be {samples} class indices, or other numbers of which the first axis is "
            f"the {samples} samples, but got {_describe(array)}."
        )
    tensor = (array if isinstance(array, torch.Tensor) else _of_numpy(array)).detach().cpu()
    if not bool(tensor.isfinite().all()):
        raise ValueError("Expected argument `labels` to hold finite numbers but got NaN or infinity.")
    if tensor.dim() > 1 or not are_whole(tensor):
        return tensor
    try:
        return judged_classes(tensor, outputs)
    except ValueError as error:
        raise ValueError(f"{error} Numbers that are no classes, but what a loss aims at, need a second axis.") from None


def _of_numpy(array: npt.NDArray[Any]) -> torch.Tensor:
    return as_tensor(array.astype(np.int64) if array.dtype.kind in "iu" else array)


def _as_array(name: str, value: Any) -> Any:
    """A tensor stays a tensor; anything else becomes an array, one of objects if numpy can make no other of it.

    Raises:
        ValueError: for an array of which some values are masked, since numpy would use what lies under the mask.
    """
    if isinstance(value, torch.Tensor):
        return _workable(value)
    if isinstance(value, np.ma.MaskedArray) and np.any(value.mask):
        raise ValueError(
            f"Expected argument `{name}` to be an array without masked values but got a masked one. Fill it first."
        )
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # rows of unequal length, tensors that require a gradient
        return np.array(type(value).__name__, dtype=object)


def _workable(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in a type that torch can index, which floats of 8 bits and wide unsigned integers are not."""
    if tensor.is_floating_point():
        return tensor.float() if tensor.element_size() == 1 else tensor
    return tensor.double() if str(tensor.dtype) in _UNSIGNED else tensor


def _has_numbers(array: Any) -> bool:
    if isinstance(array, torch.Tensor):
        return array.layout == torch.strided and not array.is_complex() and not array.is_quantized
    return array.dtype.kind in "biuf" and array.dtype.itemsize <= np.dtype(np.float64).itemsize


def _describe(array: Any) -> str:
    if isinstance(array, torch.Tensor) and array.layout != torch.strided:
        return f"a {array.layout} tensor of shape {tuple(array.shape)}"
    return f"{array.dtype} of shape {tuple(array.shape)}"


def check_names(tolerances: Tolerances, description: NetworkDescription) -> None:
    """Raise a ``ValueError`` if a tolerance names no layer, or a statistic that the layer does not have."""
    if not isinstance(tolerances, Mapping):
        return
    known = [*description.spiking, OUTPUT]
    unknown = [name for name in tolerances if name not in known]
    if unknown:
        raise ValueError(f"Expected the names in `tolerance` to be among {', '.join(known)} but got {unknown}.")
    for name, tolerance in tolerances.items():
        lacking = sorted(set(tolerance.limits) & (OF_LAYERS if name == OUTPUT else OF_OUTPUT))
        if lacking:
            owner = "only layers have" if name == OUTPUT else "only the output has"
            raise ValueError(f"Argument `tolerance` asks {', '.join(lacking)} of {name}, which {owner}.")


def _check_tolerances(tolerances: object) -> None:
    each = tolerances.values() if isinstance(tolerances, Mapping) else [tolerances]
    for one in each:
        if not isinstance(one, Tolerance) and tolerances is not None:
            raise TypeError(
                f"Expected argument `tolerance` to be a Tolerance, such as Tolerance(rate=0.01), or a mapping from "
                f"names of layers to them, but got {one!r}."
            )
