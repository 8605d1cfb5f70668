"""What a network is given, checked: an array or a tensor of the file's shape, of zeros and ones or of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from netx_export.errors import SimulationError
from netx_export.network.description import NetworkDescription
from netx_export.simulation import host, reference

__all__ = [
    "Array",
    "as_tensor",
    "check_input",
    "check_shape",
    "network_input",
    "refuse_shape",
    "refuse_short",
    "sample_tensor",
]

Array: TypeAlias = "npt.NDArray[np.generic] | torch.Tensor"  # the input, once it is known to be one of both
_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)
_PART = 2**17  # numbers of an input to check at a time


def check_input(description: NetworkDescription, spikes: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
    """The input as a tensor ``(N, C, ..., T)``: zeros and ones, uint8, or the numbers that an encoder takes.

    Raises:
        SimulationError: if it has the wrong shape, holds no step or no sample, or anything but zeros and ones.
    """
    array = check_shape(description, spikes)
    with _values_of(array):
        return _binary(array) if description.encoder is None else _finite(array)


def sample_tensor(sample: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
    """Input of a network that is still to be described, as a tensor; of two axes it can be if a forward adds the steps.

    Raises:
        SimulationError: if it is no array of finite real numbers, or holds no step or no sample.
    """
    array = _dense(sample)
    if array.ndim < 2 or 0 in array.shape:
        refuse_shape(tuple(array.shape))
    with _values_of(array):
        return _finite(array)


def refuse_shape(shape: tuple[int, ...], cause: object = "") -> NoReturn:
    """Raise the error of a sample that has too few axes, or nothing in one; the cause is why a forward adds none."""
    message = f"Expected spikes of shape (N, C, ..., T) with at least one sample and one step but got {shape}. {cause}"
    raise SimulationError(message.rstrip())


@contextmanager
def _values_of(array: Array) -> Iterator[None]:
    """Name the cause where torch fails inside because a tensor has no values."""
    try:
        yield
    except RuntimeError:
        if not (isinstance(array, torch.Tensor) and array.is_meta):
            raise
        raise SimulationError("Expected a tensor with values but got one without, on torch's meta device.") from None


def network_input(description: NetworkDescription, spikes: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
    """What enters the first layer: spikes, or messages, behind the steps in which only biases act."""
    tensor = check_input(description, spikes)
    encoder = description.encoder
    encoded = tensor if encoder is None else host.encode(encoder, tensor, description.fraction_bits)
    return torch.nn.functional.pad(encoded, (description.lead, 0)) if description.lead else encoded


def _finite(values: Array) -> torch.Tensor:
    tensor = as_tensor(values)
    if tensor.is_floating_point() and not _all_finite(tensor.float() if _is_short(tensor) else tensor):
        raise SimulationError("Expected finite input values but got NaN or infinity.")
    return tensor


def _all_finite(values: torch.Tensor) -> bool:
    """Whether all are: NaN and infinity reach the smallest or the largest, which are found without a copy."""
    return all(bool(end.isfinite()) for end in torch.aminmax(values))


def check_shape(description: NetworkDescription, spikes: npt.ArrayLike | torch.Tensor) -> Array:
    """The input as an array or a tensor of the network's shape; its values are not looked at.

    Raises:
        SimulationError: if it has the wrong shape, or holds no step or no sample.
    """
    array = _dense(spikes)
    expected = description.input_shape
    shape = tuple(array.shape)
    if shape[1:-1] == expected and len(shape) == len(expected) + 2 and 0 not in shape:
        return array
    raise SimulationError(
        f"Expected spikes of shape (N, {', '.join(map(str, expected))}, T) with at least one sample and one step but "
        f"got {shape}. {_layout_advice(array, expected)}"
    )


def _dense(spikes: npt.ArrayLike | torch.Tensor) -> Array:
    """The input as an array, or as a dense tensor.

    Raises:
        SimulationError: if it is neither.
    """
    if isinstance(spikes, torch.Tensor):
        if spikes.is_nested or spikes.layout != torch.strided or spikes.is_complex() or spikes.is_quantized:
            layout = "nested" if spikes.is_nested else spikes.layout
            raise SimulationError(f"Expected a dense tensor of real numbers but got {layout}, {spikes.dtype}.")
        return spikes.detach()
    try:
        array = np.asarray(spikes)
    except (RuntimeError, TypeError, ValueError) as error:  # whatever a list of lists or of tensors may hold
        raise SimulationError(f"Expected an array or a tensor but got a {type(spikes).__name__}: {error}") from None
    if array.ndim == 0 and array.dtype.kind not in "biuf":
        raise SimulationError(f"Expected an array or a tensor but got a {type(spikes).__name__}.")
    if isinstance(spikes, np.ma.MaskedArray) and np.any(spikes.mask):
        raise SimulationError("Expected an array without masked values but got a masked one. Fill it first.")
    return array


def _layout_advice(array: Array, expected: tuple[int, ...]) -> str:
    """How to transpose an input of the wrong shape: each way that its sizes allow."""
    turn = "spikes.permute({})" if isinstance(array, torch.Tensor) else "np.transpose(spikes, ({}))"
    ways = [
        f"if it is ({', '.join(layout)}), {_turned(layout, turn)}"
        for layout in _layouts(len(expected))
        if len(layout) == array.ndim and 0 not in array.shape and _fits(layout, array.shape, expected)
    ]
    if not ways:
        return "Samples are the first axis and time is the last."
    doubt = " Its sizes do not say which it is." if len(ways) > 1 else ""
    return f"Samples come first, then channels before height and width, and time last: {'; '.join(ways)}.{doubt}"


def _layouts(axes: int) -> list[tuple[str, ...]]:
    """The orders in which other libraries, and netx, have samples, time and the axes of a network's input."""
    names = tuple("CHW"[:axes])
    orders = dict.fromkeys([names, names[1:] + names[:1], names[::-1]]) if axes > 1 else [names]
    return [
        layout
        for order in orders
        for layout in (
            (*order, "T"),
            ("T", *order),
            ("N", *order),
            ("N", "T", *order),
            ("T", "N", *order),
            ("N", *order, "T"),
        )
    ]


def _fits(layout: tuple[str, ...], shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    sizes = dict(zip("CHW", expected, strict=False))  # a vector has neither height nor width
    return all(sizes.get(axis, size) == size for axis, size in zip(layout, shape, strict=True))


def _turned(layout: tuple[str, ...], turn: str) -> str:
    """The expression that transposes a layout into the expected one."""
    order = [layout.index(axis) for axis in "NCHWT" if axis in layout]
    turned = "spikes" if order == sorted(order) else turn.format(", ".join(map(str, order)))
    if "N" not in layout:
        return f"{turned}[None]"
    return turned if "T" in layout else f"{turned}[..., None]"


@reference.one_thread()
def _binary(spikes: Array) -> torch.Tensor:
    """Zeros and ones of any type as uint8, laid out in memory as the reference reads them, each sample time first."""
    tensor = as_tensor(spikes)
    fired = _fired_on_host(tensor) if tensor.device.type == "cpu" else _fired(tensor)
    if fired is None:
        raise SimulationError(
            f"Expected spikes of 0 and 1, since netx makes every other value a 1, but got {_describe_values(tensor)}."
        )
    shape = (len(tensor), tensor.shape[-1], *tensor.shape[1:-1])
    return fired.reshape(shape).movedim(1, -1).view(torch.uint8)


def _fired(values: torch.Tensor) -> torch.Tensor | None:
    """Where ``(N, C, ..., T)`` is 1, as ``(N, T, C)``; None if it is anything but 0 and 1."""
    fired = values != 0
    if bool((values == fired).all()):
        return fired.flatten(1, -2).mT.contiguous()
    return None


def _fired_on_host(values: torch.Tensor) -> torch.Tensor | None:
    """The same part by part, while a part is in the cache; numpy compares in a third of torch's time."""
    numbers = (values.float() if _is_short(values) else values).flatten(1, -2).numpy()
    together = max(1, _PART // numbers.shape[-1])
    fired = np.empty(numbers.shape[1:], np.bool_)
    turned = torch.empty((len(numbers), *fired.shape[::-1]), dtype=torch.bool)
    for sample, frames in zip(numbers, turned, strict=True):
        for start in range(0, len(sample), together):
            part, found = sample[start : start + together], fired[start : start + together]
            np.not_equal(part, 0, out=found)
            if np.count_nonzero(found) + np.count_nonzero(part != 1) != part.size:
                return None
        frames.copy_(torch.from_numpy(fired).t())  # torch turns matrices fastest
    return turned


def _is_short(values: torch.Tensor) -> bool:
    """Whether these are floats of so few bits that numpy, and in part torch, cannot compute with them."""
    return values.is_floating_point() and values.dtype not in _NUMPY_FLOATS


def as_tensor(array: Array) -> torch.Tensor:
    """An array as a tensor of the same numbers, in a type that torch computes with.

    Raises:
        SimulationError: if it holds no numbers that torch has.
    """
    if isinstance(array, torch.Tensor):
        return array.resolve_neg()
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise SimulationError(f"Expected a numeric type of up to 64 bits but got {array.dtype}.")
    if (array.dtype.kind == "u" and array.dtype.itemsize > 1) or not array.dtype.isnative:
        array = array.astype(np.float64)  # torch knows no such type
    array = np.require(array, requirements=["C", "W"])
    # numpy leaves an axis of length 1 reversed, with a negative stride, which torch does not take.
    return torch.from_numpy(array.copy() if min(array.strides, default=0) < 0 else array)


def _describe_values(tensor: torch.Tensor) -> str:
    values = tensor.double()
    if bool(values.isnan().any()):
        return f"{int(values.isnan().sum())} values that are NaN; find out where they come from"
    low, high = float(values.min()), float(values.max())
    advice = "divide by 255 if these are spikes, encode them as spikes if not" if high == 255 else "encode them first"
    return f"values between {low:g} and {high:g}; {advice}"


def refuse_short(description: NetworkDescription, steps: int) -> None:
    """Raise for samples of so few steps that the output of a sigma-delta network cannot depend on them.

    Raises:
        SimulationError: if the layers delay whatever comes in by as many steps.
    """
    if not description.graded:
        return  # a spiking network is silent then, which nobody takes for a result
    shift = list(description.shifts.values())[-1]
    if steps <= shift:
        raise SimulationError(
            f"Expected samples of more than {shift} steps but got {steps}: the network's output comes {shift} steps "
            f"after its input, so that it cannot depend on them. Give longer samples, or `delay_shift=False` if it was "
            f"trained so."
        )
