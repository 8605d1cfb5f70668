"""Synapses of the reference simulator: weighted sums of spikes or messages, exact, over whole sequences at once.

Each function prepares a layer's weights for a device and returns a function of what comes in, time first. Sums are
taken in a type in which no partial sum can round, as in ``PyDenseModelBitAcc`` (``lava/proc/dense/models.py``) and
``PyConvModelFixed`` (``lava/proc/conv/models.py``) of lava-nc 0.10.0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property, partial, reduce
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from netx_export.network.description import Conv, Dense, Recurrent, SpikingLayer
from netx_export.network.fixed_point import MAX_DELAY, MAX_INT32, STATE_LIMIT, IntArray
from netx_export.network.stock_loader import LoadedWeights, load_dense_weights, load_weights
from netx_export.simulation.reference.loops import compiled_loops, exact_convolutions, one_thread

__all__ = [
    "Synapses",
    "WeightedSums",
    "dense_synapses",
    "message_sizes",
    "message_sums",
    "message_synapses",
    "recurrent_sums",
    "spike_synapses",
]

Synapses: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"

_CAST_LIMIT = MAX_INT32 + 1
# Up to this share of active inputs it is faster to add up weights than to multiply matrices, in torch and compiled, or
# to convolve; for messages in a dense layer it always is.
_SPARSE_RATE = {"torch": 0.15, "compiled": 0.3, "spikes": 0.06, "messages": 0.25}
# Numbers to multiply by weights at a time; on a CPU few enough to stay in its cache, on a GPU enough to fill it.
_BLOCK_SPIKES = {"cpu": 2**19, "cuda": 2**28}
# From so many channels on, torch's convolution of each channel by itself takes several at a time.
_VECTOR_CHANNELS = 8


def spike_synapses(layer: SpikingLayer, device: torch.device) -> Synapses:
    """Weighted sums ``(T, N, C, ...)`` of spikes from outside of the layer: integers of any type."""
    if isinstance(layer, Conv):
        return partial(_by_rows, Convolution(layer, device, "spikes"))
    if isinstance(layer, Dense) and layer.delay is not None:
        return _delayed(load_dense_weights(layer.weight), layer.delay, partial(WeightedSums, device=device))
    weights = [layer.weight, layer.recurrent_weight] if isinstance(layer, Recurrent) else [layer.weight]
    return dense_synapses(load_weights(*weights)[0], device)


def dense_synapses(loaded: LoadedWeights, device: torch.device) -> Synapses:
    """Sums ``(T, N, out)`` of loaded weights over spikes ``(T, N, in, ...)``."""
    return partial(_by_rows, WeightedSums(loaded, device))


def recurrent_sums(layer: Recurrent, device: torch.device) -> WeightedSums:
    """What a recurrent layer's spikes ``(rows, C)`` of one step add to its input at the next."""
    return WeightedSums(load_weights(layer.weight, layer.recurrent_weight)[1], device)


def _delayed(loaded: LoadedWeights, delays: IntArray, summing: Callable[[LoadedWeights], Synapses]) -> Synapses:
    """Sums of loaded weights with delays per neuron, per input or per synapse; ``summing`` makes those of one delay."""
    delay, shape = delays.clip(0, MAX_DELAY), loaded.mantissa.shape  # as netx does
    if delay.ndim == 2 or (delay.shape != shape[:1] and loaded.rounds):
        return _synaptic_delays(loaded, np.broadcast_to(delay, shape), summing)
    sums = partial(_by_rows, summing(loaded))
    if delay.shape == shape[:1]:
        return lambda frames: _delay(sums(frames), delay)
    return lambda frames: sums(_delay(frames.flatten(2), delay))


def _synaptic_delays(loaded: LoadedWeights, delay: IntArray, summing: Callable[[LoadedWeights], Synapses]) -> Synapses:
    """With a delay on each synapse: the synapses of each delay are summed up, and the sums delayed."""
    groups = []
    for steps in np.unique(delay):
        group = LoadedWeights(np.where(delay == steps, loaded.mantissa, 0), loaded.exponent)
        groups.append((summing(group), np.full(len(delay), steps)))
    return lambda frames: reduce(torch.add, (_delay(_by_rows(sums, frames), steps) for sums, steps in groups))


def _delay(values: torch.Tensor, delay: IntArray) -> torch.Tensor:
    """Shift each channel of ``(T, N, C)`` by its own number of steps, zeros in front."""
    loops = compiled_loops(values.device)
    if loops is not None:
        by_sample = values.transpose(0, 1).contiguous()
        delayed = torch.empty_like(by_sample)
        loops.delay(by_sample.numpy(), delay.astype(np.int64), delayed.numpy())
        return delayed.transpose(0, 1)
    steps = torch.arange(len(values), device=values.device)
    source = (steps.unsqueeze(-1) - torch.as_tensor(delay, device=values.device)).unsqueeze(1)
    return values.gather(0, source.clamp(min=0).expand_as(values)).mul_(source >= 0)


def _by_rows(function: Synapses, frames: torch.Tensor) -> torch.Tensor:
    """Apply a function of rows to every sample and step of ``(T, N, ...)``, as they follow each other in memory."""
    by_sample = frames.transpose(0, 1)
    rows = function(by_sample.flatten(0, 1))
    return rows.reshape(*by_sample.shape[:2], *rows.shape[1:]).transpose(0, 1)


class WeightedSums:
    """Sums ``(rows, out)`` of loaded weights over spikes ``(rows, in)``, in time proportional to the number of spikes.

    Attributes:
        integers: the weights ``(in, out)`` in a short integer type, for compiled loops.
        exponent: bits by which a sum is shifted at the end, rounding down: none or negative.
        fits: whether sums stay within int32, in which compiled loops take them.
    """

    def __init__(self, loaded: LoadedWeights, device: torch.device) -> None:
        weight = loaded.mantissa if loaded.rounds else loaded.effective
        self.exponent = loaded.exponent if loaded.rounds else 0
        self._largest = max(int(weight.max()), -int(weight.min()))
        self._largest_sum = self._largest * weight.shape[1]
        self.fits = self._largest_sum <= MAX_INT32
        self.integers = torch.from_numpy(_short(weight).T.copy())
        self._device = device

    @property
    def loaded(self) -> tuple[npt.NDArray[Any], int]:
        """The integers, and the bits by which compiled loops have to shift their sums down."""
        return self.integers.numpy(), -self.exponent

    @cached_property
    def matrix(self) -> torch.Tensor:
        """The weights ``(in, out)`` in a floating-point type in which their sums are exact."""
        return self.integers.to(self._device, _exact_dtype(self._largest_sum, self._largest))

    def __call__(self, spikes: torch.Tensor) -> torch.Tensor:
        rows = spikes.flatten(1)
        loops = compiled_loops(spikes.device)
        if loops is None or not self.fits:
            sums = _in_blocks(rows, self.matrix)
            return (sums * 2.0**self.exponent).floor() if self.exponent else sums
        if _active_share(rows) > _SPARSE_RATE["compiled"]:
            sums = (rows.to(self.matrix.dtype) @ self.matrix).to(torch.int32)
        else:
            sums = torch.empty((len(rows), self.integers.shape[1]), dtype=torch.int32)
            loops.add_weights(rows.contiguous().numpy(), self.integers.numpy(), sums.numpy())
        return sums >> -self.exponent if self.exponent else sums


def _active_share(inputs: torch.Tensor) -> float:
    """The share of inputs on a CPU that spike or send a message."""
    events = inputs.view(torch.bool) if inputs.dtype == torch.uint8 else inputs  # of which numpy counts bytes faster
    return np.count_nonzero(events.numpy()) / inputs.numel()


def _short(weight: IntArray) -> IntArray:
    """Weights in the shortest type: where few are summed up, to fetch them from memory takes the time."""
    low, high = int(weight.min()), int(weight.max())
    limits = (np.iinfo(dtype) for dtype in (np.int8, np.int16, np.int32, np.int64))
    return weight.astype(next(limit.dtype for limit in limits if limit.min <= low and high <= limit.max))


def _in_blocks(spikes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The product of ``(rows, in)`` spikes and ``(in, out)`` weights."""
    sums = torch.empty((len(spikes), weight.shape[1]), dtype=weight.dtype, device=weight.device)
    for block, target in zip(*_blocks(spikes, sums), strict=True):
        active = _active(block.reshape(-1))
        if len(active) > _SPARSE_RATE["torch"] * block.numel():
            torch.mm(block.to(weight.dtype), weight, out=target)
        else:
            _sum_active(active, weight, target)
    return sums


def _active(spikes: torch.Tensor) -> torch.Tensor:
    """The indices of spikes in a flat raster; numpy finds rare ones in a third of torch's time. A GPU is waited for."""
    if spikes.device.type != "cpu":
        return spikes.nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(spikes.numpy().view(np.bool_)))


@one_thread()
def _sum_active(active: torch.Tensor, weight: torch.Tensor, sums: torch.Tensor) -> None:
    """Write the sum of the weights of each row's active inputs, given by their indices in the flattened rows."""
    inputs = len(weight)
    starts = torch.arange(0, len(sums) * inputs, inputs, device=active.device)
    sums.copy_(F.embedding_bag(active % inputs, weight, torch.searchsorted(active, starts), mode="sum"))


def _wrap_activation(sums: torch.Tensor, largest: int) -> torch.Tensor:
    """What Lava keeps of a convolution's sums, 24 bits of the int32 that it casts them to; changes ``sums``.

    Lava 0.10.0 sums up in float64, by scipy: ``TORCH_IS_AVAILABLE`` in its ``proc/conv/utils.py`` is false. So nothing
    is rounded as float32 would, and ``signed_clamp`` wraps at 24 bits.

    Args:
        sums: whole numbers in a floating-point type.
        largest: a size that none of them exceeds.
    """
    if largest >= _CAST_LIMIT:
        above, below = _cast_beyond()
        sums.masked_fill_(sums >= _CAST_LIMIT, above).masked_fill_(sums < -_CAST_LIMIT, below)
    if largest < STATE_LIMIT:
        return sums
    return sums.to(torch.int32).add_(STATE_LIMIT).bitwise_and_(2 * STATE_LIMIT - 1).sub_(STATE_LIMIT)


def _largest(values: torch.Tensor) -> int:
    """The largest size of whole numbers."""
    low, high = torch.aminmax(values)
    return max(int(high), -int(low))


@cache
def _cast_beyond() -> tuple[int, int]:
    """What numpy's cast makes of numbers above and below int32: it depends on the processor, on which Lava runs too."""
    with np.errstate(invalid="ignore"):
        above, below = np.array([2.0 * _CAST_LIMIT, -2.0 * _CAST_LIMIT]).astype(np.int32)
    return int(above), int(below)


def _exact_dtype(largest_sum: int, largest_weight: int) -> torch.dtype:
    """The fastest type in which sums of such integers are exact in every order.

    A weight of up to 256 is exact in TF32 and bfloat16 too, in which torch may be set to multiply float32 on a GPU.
    """
    return torch.float32 if largest_sum < 2**24 and largest_weight <= 256 else torch.float64


def message_synapses(layer: Dense | Conv, device: torch.device) -> Synapses:
    """Weighted sums of messages, int32, time first, as Lava holds them: those of a convolution wrap at 24 bits."""
    if isinstance(layer, Conv):
        return partial(_by_rows, Convolution(layer, device, "messages"))
    loaded = load_dense_weights(layer.weight)
    if layer.delay is not None:
        return _delayed(loaded, layer.delay, partial(MessageSums, device=device))
    return partial(_by_rows, MessageSums(loaded, device))


class MessageSums:
    """Weighted sums ``(rows, out)`` of a dense layer over messages ``(rows, in)``, int32, which wraps as in Lava."""

    def __init__(self, loaded: LoadedWeights, device: torch.device) -> None:
        self._bits = max(0, -loaded.exponent)  # weights that would be shifted the other way are loaded as zeros
        self._integers = torch.from_numpy(_short(loaded.mantissa).T.copy())
        self._device = device

    @cached_property
    def _matrix(self) -> torch.Tensor:
        return self._integers.to(self._device, torch.float64)

    def __call__(self, messages: torch.Tensor) -> torch.Tensor:
        rows = messages.flatten(1)
        loops = compiled_loops(rows.device)
        if loops is None:
            return (rows.double() @ self._matrix).long().to(torch.int32) >> self._bits
        sums = torch.empty((len(rows), self._integers.shape[1]), dtype=torch.int32)
        loops.add_messages(rows.contiguous().numpy(), self._integers.numpy(), sums.numpy())
        return sums >> self._bits


class Convolution:
    """Convolutions ``(rows, C, H, W)`` of spikes, uint8, or messages, int32, of which Lava keeps 24 bits, int32."""

    def __init__(self, layer: Conv, device: torch.device, events: Literal["spikes", "messages"]) -> None:
        self._layer, self._events, self._pools = layer, events, _pools(layer)
        self._largest_sum = int(np.abs(layer.weight).reshape(len(layer.weight), -1).sum(1).max())
        # cuDNN may take a Winograd algorithm, which is not exact on integers; in float64 it has none, and an error of
        # its Fourier transforms is far below the half that :func:`_convolve` rounds away.
        exact = device.type == "cpu" and events == "spikes"
        dtype = _exact_dtype(self._largest_sum, int(np.abs(layer.weight).max())) if exact else torch.float64
        self._kernel = torch.as_tensor(layer.weight, dtype=dtype, device=device)

    def __call__(self, events: torch.Tensor) -> torch.Tensor:
        rows = events.reshape(-1, *self._layer.input_shape).contiguous()
        largest = self._largest_sum * (1 if self._events == "spikes" else _largest(rows))
        sums = torch.empty((len(rows), *self._layer.spatial_shape), dtype=torch.int32, device=rows.device)
        loops = compiled_loops(rows.device)
        if loops is None or largest >= _CAST_LIMIT or _active_share(rows) > _SPARSE_RATE[self._events]:
            for block, target in zip(*_blocks(rows, sums), strict=True):
                target.copy_(_wrap_activation(_convolve(self._layer, self._kernel, self._pools, block), largest))
            return sums
        taps = tuple(loops.Taps(*axis) for axis in self._taps)
        loops.convolve_events(rows.numpy(), taps, self._integers, self._layer.groups, sums.flatten(2).numpy())
        return sums

    @cached_property
    def _integers(self) -> npt.NDArray[Any]:
        """For each input channel a flat kernel ``(H, W, outputs of its group)``."""
        grouped = self._layer.weight.reshape(self._layer.groups, -1, *self._layer.weight.shape[1:])
        kernels = np.moveaxis(grouped, 1, -1)
        return _short(kernels).reshape(self._layer.input_shape[0], -1)

    @cached_property
    def _taps(self) -> tuple[tuple[npt.NDArray[np.uint64], ...], ...]:
        """For both axes what :class:`~netx_export.simulation.reference.compiled.Taps` holds."""
        outputs, height, width = self._layer.spatial_shape
        together = outputs // self._layer.groups
        vertical = _axis_taps(self._layer, 0, height, self._layer.weight.shape[3] * together, width * outputs)
        return vertical, _axis_taps(self._layer, 1, width, together, outputs)


def _axis_taps(
    layer: Conv, axis: int, places: int, weight_step: int, target_step: int
) -> tuple[npt.NDArray[np.uint64], ...]:
    """Which taps each pixel meets along an axis of so many places in the result: their number, weights and targets."""
    taps = np.arange(layer.weight.shape[2 + axis])
    start = np.arange(layer.input_shape[1 + axis])[:, np.newaxis] + layer.padding[axis] - taps * layer.dilation[axis]
    place, between = np.divmod(start, layer.stride[axis])
    meets = (between == 0) & (place >= 0) & (place < places)
    order = np.argsort(~meets, axis=1, kind="stable")  # those that it meets come first
    found = meets.sum(1), order * weight_step, np.take_along_axis(np.where(meets, place, 0), order, 1) * target_step
    met, weight, target = (array.astype(np.uint64) for array in found)
    return met, weight, target


def message_sums(layer: Dense | Conv, device: torch.device) -> Synapses:
    """Weighted sums of messages before Lava cuts them off, float64, time first."""
    if isinstance(layer, Conv):
        weight = torch.as_tensor(layer.weight, dtype=torch.float64, device=device)
        return partial(_by_rows, partial(_convolve, layer, weight, _pools(layer)))
    return _dense_sums(load_dense_weights(layer.weight), layer.delay, device)


def message_sizes(layer: Dense | Conv, device: torch.device) -> Synapses:
    """Sums, of either sign, of the sizes of weighted messages, given the sizes of messages, float64, time first."""
    if isinstance(layer, Conv):
        return message_sums(replace(layer, weight=np.abs(layer.weight)), device)
    loaded = load_dense_weights(layer.weight)
    # Lava rounds sums down, which makes no negative one smaller in size than it is.
    return _dense_sums(LoadedWeights(-np.abs(loaded.mantissa), loaded.exponent), layer.delay, device)


def _dense_sums(loaded: LoadedWeights, delay: IntArray | None, device: torch.device) -> Synapses:
    if delay is not None:
        return _delayed(loaded, delay, partial(_whole_sums, device=device))
    return partial(_by_rows, _whole_sums(loaded, device))


def _whole_sums(loaded: LoadedWeights, device: torch.device) -> Synapses:
    weight = torch.as_tensor(loaded.mantissa, dtype=torch.float64, device=device).t()
    return lambda rows: (rows.flatten(1).double() @ weight * 2.0**loaded.exponent).floor()


def _convolve(layer: Conv, kernel: torch.Tensor, pools: bool, rows: torch.Tensor) -> torch.Tensor:
    """Convolutions of spikes or messages in the type of the kernel, in which they are exact."""
    inputs = rows.reshape(-1, *layer.input_shape).to(kernel.dtype)
    if pools:
        sums = F.avg_pool2d(inputs, layer.weight.shape[2:], layer.stride, layer.padding, divisor_override=1)
        return sums.mul_(kernel[:, 0, :1, :1])
    with exact_convolutions():
        sums = F.conv2d(inputs, kernel, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return sums if sums.device.type == "cpu" else sums.round_()  # a GPU may have taken them by Fourier transforms


def _pools(layer: Conv) -> bool:
    """Whether each output is the sum of a window of one channel, all of it weighted alike, and best taken as a pool.

    A ``Pool`` is written so. With more channels torch's convolution is faster.
    """
    one_each = layer.groups == len(layer.weight) == layer.input_shape[0]
    narrow = all(2 * pad <= size for pad, size in zip(layer.padding, layer.weight.shape[2:], strict=True))
    few = layer.groups < _VECTOR_CHANNELS  # so that there are few weights to compare
    alike = few and one_each and bool((layer.weight == layer.weight[:, :, :1, :1]).all())
    return alike and narrow and layer.dilation == (1, 1)


def _blocks(rows: torch.Tensor, sums: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Inputs and sums of so many rows at a time that what is made of them stays in a CPU's cache, or fills a GPU."""
    together = _BLOCK_SPIKES.get(rows.device.type, _BLOCK_SPIKES["cpu"])
    size = max(1, together * len(rows) // max(rows.numel(), sums.numel()))
    return rows.split(size), sums.split(size)
