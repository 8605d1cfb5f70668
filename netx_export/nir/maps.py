"""What lies between two layers of neurons in a NIR graph, put together to one matrix or one convolution.

Matrices, convolutions, pools and scales are linear, so that any sequence of them is one linear map. netx has room for
one matrix or one convolution in front of each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.nn.grad import conv2d_input

from netx_export.network.fixed_point import MAX_DELAY, IntArray
from netx_export.nir.fitting import Fit, by_row
from netx_export.nir.library import FloatArray, Named, check_stated, numbers, pair, refuse, whole_number
from netx_export.nir.neurons import per_channel, spread

__all__ = ["Kernel", "LinearMap", "delay_steps", "flatten", "flattened", "linear_map"]


@dataclass(frozen=True)
class Kernel:
    """A convolution with real numbers; its sizes are those of :class:`netx_export.network.description.Conv`."""

    weight: FloatArray
    input_shape: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def reach(self) -> tuple[int, int]:
        """Height and width of what one output sees."""
        high, wide = ((size - 1) * step + 1 for size, step in zip(self.weight.shape[2:], self.dilation, strict=True))
        return high, wide

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the output."""
        sizes = zip(self.input_shape[1:], self.reach, self.stride, self.padding, strict=True)
        return (
            len(self.weight),
            *((size + 2 * padding - reach) // stride + 1 for size, reach, stride, padding in sizes),
        )

    @property
    def options(self) -> dict[str, Any]:
        """All but the weights and the shape of the input, by the names that ``Conv`` has for them."""
        return {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}

    def behind(self, rows: FloatArray, size: Sequence[int], padding: tuple[int, int]) -> FloatArray:
        """Weights ``rows`` on this convolution's output as weights on its input, of the spatial ``size``."""
        made = conv2d_input(  # which is the transposed convolution
            (len(rows), self.input_shape[0], *size),
            torch.from_numpy(self.weight),
            torch.from_numpy(rows),
            self.stride,
            padding,
            self.dilation,
            self.groups,
        )
        array: FloatArray = made.numpy()
        return array


@dataclass
class LinearMap:
    """The map from the spikes of one layer to the currents of the next.

    Attributes:
        name: the node that stands for its weights in messages.
        shape: shape of what it gives.
        weight: a matrix ``(out, in)``, a convolution, or None for the identity.
        bias: what it adds, one per row of the matrix or channel of the convolution; None without.
        before: delays of the inputs in steps.
        after: delays of the outputs in steps.
        flatten: whether an image comes in and a vector goes into the matrix.
        delays: the nodes that delay by more than 0 steps.
        factors: by which each value that it gives is still to be multiplied, in one axis; None if by 1. A matrix behind
            takes any of them, a convolution only those that are the same within a channel.
        scale: the node that they come from.
    """

    name: str
    shape: tuple[int, ...]
    weight: FloatArray | Kernel | None = None
    bias: FloatArray | None = None
    before: IntArray | None = None
    after: IntArray | None = None
    flatten: bool = False
    delays: list[str] = field(default_factory=list)
    factors: FloatArray | None = None
    scale: str = ""

    @property
    def rows(self) -> tuple[int, ...]:
        """Shape of the neurons behind it, as the weights make it."""
        return self.weight.shape if isinstance(self.weight, Kernel) else self.shape


def linear_map(
    nir: ModuleType, path: tuple[Named, ...], shape: tuple[int, ...], name: str, dt: float, fit: Fit
) -> LinearMap:
    """Put the nodes between two layers together.

    Args:
        nir: the library.
        path: the nodes in their order.
        shape: shape of the spikes that come in.
        name: the node to name if there is none on the way.
        dt: seconds per step.
        fit: makes delays whole steps.

    Raises:
        NetxFormatError: for a node that makes more of it than one matrix or one convolution with delays.
    """
    made = LinearMap(name, shape)
    for named in path:
        node = named[1]
        if isinstance(node, nir.Linear | nir.Affine):
            _matrix(made, named)
        elif isinstance(node, nir.Scale):
            _scale(made, named)
        elif isinstance(node, nir.Flatten):
            flatten(made, named)
        elif isinstance(node, nir.Delay):
            _delay(made, named, dt, fit)
        else:
            _image(made, named, _convolution(nir, named, made.shape))
    if not np.prod(made.shape):
        refuse(made.name, f"input of shape {shape}, in which there are no values")
    if made.weight is None:
        _pass_on(made)
    _take_factors(made)
    if isinstance(made.weight, Kernel) and made.delays:
        refuse(made.delays[0], "netx has delays in dense layers only, and an image goes on from here")
    return made


def _matrix(made: LinearMap, named: Named) -> None:
    name = named[0]
    weight = numbers(named, "weight")
    _drop_axes_of_one(made)
    if weight.ndim != 2 or not weight.size:
        refuse(name, f"weights of shape {weight.shape}; expected (out, in), neither of them 0")
    if made.shape != (weight.shape[1],):
        advice = "; flatten it first" if len(made.shape) > 1 else ""
        refuse(name, f"weights of shape {weight.shape} on input of shape {made.shape}{advice}")
    _refuse_between(made, name)
    own = _bias(named, len(weight))
    if made.factors is not None:
        weight, made.factors = weight * made.factors, None
    bias = None if made.bias is None else weight @ _each(made.bias, made.rows)
    bias = own if bias is None else bias if own is None else bias + own
    if isinstance(made.weight, Kernel):
        kernel = made.weight
        images = kernel.behind(weight.reshape(-1, *kernel.shape), kernel.input_shape[1:], kernel.padding)
        made.weight, made.flatten = images.reshape(len(weight), -1), True
    else:
        made.weight = weight if made.weight is None else weight @ made.weight
    made.bias, made.name, made.shape = bias, name, (len(weight),)
    made.after = None  # delays of 0 steps, or `_refuse_between` had refused them; their outputs are inputs now


def _drop_axes_of_one(made: LinearMap) -> None:
    """Take what comes in as a vector if all axes but the last have length 1, as that of a batch: no value moves."""
    if made.weight is None and len(made.shape) > 1 and int(np.prod(made.shape)) == made.shape[-1]:
        made.flatten, made.shape = True, made.shape[-1:]


def _pass_on(made: LinearMap) -> None:
    """Make the weights those of the identity: 1 from each input to the neuron in the same place."""
    if len(made.shape) != 3:  # three axes are an image, even if it has one pixel
        _drop_axes_of_one(made)
    if len(made.shape) not in (1, 3):
        refuse(made.name, f"expected input of shape (C,) or (C, H, W), without a batch, but got {made.shape}")
    made.weight = np.eye(made.shape[0]) if len(made.shape) == 1 else _each_channel(made.shape, (1, 1))


def _bias(named: Named, size: int) -> FloatArray | None:
    """The bias of so many rows; None if there is none, or nothing but zeros."""
    if getattr(named[1], "bias", None) is None:
        return None
    bias = numbers(named, "bias")
    if bias.size != 1 and bias.shape != (size,):
        refuse(named[0], f"a bias of shape {bias.shape} for {size} rows of weights")
    return np.broadcast_to(bias.reshape(-1), size) if bias.any() else None


def _each(bias: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """A bias per channel as one per neuron."""
    return np.repeat(bias, int(np.prod(shape)) // len(bias))


def _scale(made: LinearMap, named: Named) -> None:
    factors = spread(named, "scale", made.rows).reshape(-1)
    made.factors = factors if made.factors is None else made.factors * factors
    made.scale = named[0]
    if made.weight is None:
        made.name = named[0]


def _take_factors(made: LinearMap) -> None:
    """Multiply weights and bias by the factors behind them."""
    if made.factors is None:
        return
    if isinstance(made.weight, Kernel):
        factors = per_channel(made.scale, "scale", made.factors.reshape(made.rows))
        made.weight = replace(made.weight, weight=by_row(made.weight.weight, factors))
    else:
        assert made.weight is not None
        factors = made.factors
        made.weight = by_row(made.weight, factors)
    made.bias = None if made.bias is None else made.bias * factors
    made.factors = None


def flatten(made: LinearMap, named: Named) -> None:
    """Flatten what a map gives, all axes of a sample into one as netx does.

    Some frameworks count the axis of the batch in ``start_dim`` and ``end_dim``, others do not: both are tried.
    """
    name, node = named
    check_stated(name, (node.input_type or {}).get("input"), made.shape)
    first, last = whole_number(named, "start_dim"), whole_number(named, "end_dim")
    counted = _size(made.shape, first, last), _size((0, *made.shape), first, last)  # 0: a batch must not be flattened
    if int(np.prod(made.shape)) not in counted:
        refuse(name, f"flattens axes {first} to {last} of {made.shape}; netx flattens all of a sample")
    made.flatten = made.flatten or (made.weight is None and len(made.shape) > 1)
    made.shape = (int(np.prod(made.shape)),)


def _size(shape: tuple[int, ...], first: int, last: int) -> int:
    """How many values lie along the axes from the first to the last; 0 if there are no such axes."""
    axes = len(shape)
    if not all(-axes <= axis < axes for axis in (first, last)):
        return 0
    return int(np.prod(shape[first % axes : last % axes + 1]))


def _delay(made: LinearMap, named: Named, dt: float, fit: Fit) -> None:
    name = named[0]
    steps = delay_steps(named, made.shape, dt, fit).reshape(-1)
    if steps.any():
        made.delays.append(name)
        if isinstance(made.weight, Kernel):
            refuse(name, f"netx cannot hold a Delay around {made.name!r}, a convolution or pool")
        if made.bias is not None:
            refuse(name, "a delay behind a bias; netx delays spikes, not biases")
    if made.weight is None:
        made.before = steps if made.before is None else made.before + steps
    else:
        made.after = steps if made.after is None else made.after + steps
    total = sum(int(part.max()) for part in (made.before, made.after) if part is not None)
    if total > MAX_DELAY:
        both = " and ".join(made.delays)
        refuse(made.name, f"the delays of {both} add up to {total} steps; netx holds 0 to {MAX_DELAY}")


def delay_steps(named: Named, shape: tuple[int, ...], dt: float, fit: Fit) -> IntArray:
    """The delays of a node in steps, one per neuron."""
    seconds = spread(named, "delay", shape)
    steps = fit.whole(named[0], "delay", seconds / dt, lambda values: values * dt, unit="steps")
    if steps.min() < 0 or steps.max() > MAX_DELAY:
        refuse(named[0], f"delays from {steps.min()} to {steps.max()} steps; netx holds 0 to {MAX_DELAY}")
    return steps


def _refuse_between(made: LinearMap, name: str) -> None:
    if made.after is not None and made.after.any():
        refuse(name, f"there is a delay between it and {made.name!r}, and netx delays what comes in or what goes out")


def _convolution(nir: ModuleType, named: Named, shape: tuple[int, ...]) -> tuple[Kernel, FloatArray | None]:
    """A convolution or pool on images of this shape, and its bias."""
    name, node = named
    if len(shape) != 3:
        refuse(name, f"expected input of shape (C, H, W), without a batch, but got {shape}")
    if isinstance(node, nir.Conv2d):
        kernel = _checked(name, _conv2d(named, shape))
        return kernel, _bias(named, len(kernel.weight))
    size, padding = pair(named, "kernel_size", 1), pair(named, "padding", 0)
    kernel = replace(_each_channel(shape, size), stride=pair(named, "stride", 1), padding=padding)
    if isinstance(node, nir.AvgPool2d):
        if any(padding):
            refuse(name, f"padding of {padding}: NIR does not say whether a mean counts it")
        kernel = replace(kernel, weight=kernel.weight / np.prod(size))
    return _checked(name, kernel), None


def _conv2d(named: Named, shape: tuple[int, ...]) -> Kernel:
    name, node = named
    weight = numbers(named, "weight")
    if weight.ndim != 4 or not weight.size:
        refuse(name, f"weights of shape {weight.shape}; expected (out, in, height, width)")
    stride, dilation = pair(named, "stride", 1), pair(named, "dilation", 1)
    groups = whole_number(named, "groups")
    if groups < 1 or weight.shape[1] * groups != shape[0] or len(weight) % groups:
        refuse(name, f"weights of shape {weight.shape} in {groups} groups do not fit input of shape {shape}")
    stated = node.input_shape
    check_stated(name, None if stated is None else (shape[0], *np.reshape(stated, -1)[-2:]), shape)
    kernel = Kernel(weight, shape, stride, (0, 0), dilation, groups)
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(padding, str):
        return _padded(name, padding, kernel)
    return replace(kernel, padding=pair(named, "padding", 0))


def _padded(name: str, padding: str, kernel: Kernel) -> Kernel:
    """A convolution whose padding has a name. If "same" needs an odd sum, the larger half is behind, as in torch."""
    if padding == "valid":
        return kernel
    if padding != "same":
        refuse(name, f"padding {padding!r}; expected 'same', 'valid' or numbers")
    if kernel.stride != (1, 1):
        refuse(name, f"padding 'same' with a stride of {kernel.stride}, which NIR does not define; give numbers")
    both = kernel.reach[0] // 2, kernel.reach[1] // 2
    odd = [1 - size % 2 for size in kernel.reach]
    if any(odd):  # netx pads both sides alike: pad by the larger half, and begin the kernel with a row of zeros
        weight = np.pad(_spaced(kernel), [(0, 0), (0, 0), (odd[0], 0), (odd[1], 0)])
        kernel = replace(kernel, weight=weight, dilation=(1, 1))
    return replace(kernel, padding=both)


def _checked(name: str, kernel: Kernel) -> Kernel:
    if min(kernel.shape) < 1:
        refuse(name, f"kernels of {kernel.reach} reach beyond the input {kernel.input_shape}")
    return kernel


def _each_channel(shape: tuple[int, ...], size: tuple[int, int]) -> Kernel:
    """Sums over ``size`` of each channel by itself."""
    return Kernel(np.ones((shape[0], 1, *size)), shape, groups=shape[0])


def _image(made: LinearMap, named: Named, convolution: tuple[Kernel, FloatArray | None]) -> None:
    """Put a convolution behind what there is, which gives images too."""
    name = named[0]
    second, bias = convolution
    if made.factors is not None and made.weight is None:
        _pass_on(made)
    _take_factors(made)
    if made.delays:
        refuse(made.delays[0], f"netx cannot hold a Delay around {name!r}, a {type(named[1]).__name__}")
    if isinstance(made.weight, Kernel):
        full = _ungrouped(second)
        if made.bias is not None:
            if any(second.padding):
                refuse(name, f"it pads what has a bias already, of {made.name!r}, which then differs at the border")
            passed = full.sum((2, 3)) @ made.bias
            bias = passed if bias is None else passed + bias
        second = _one_behind(name, made.weight, second, full)
    made.weight, made.bias, made.shape = _checked(name, second), bias, second.shape
    made.before = made.after = None  # delays of 0 steps: others were refused above
    made.name = name


def _one_behind(name: str, first: Kernel, second: Kernel, full: FloatArray) -> Kernel:
    """Two convolutions as one."""
    for axis in range(2):
        # The second pads with zeros what the first gives. Made one, they would go on with the first convolution there,
        # beyond its last output, from the pixel `behind` on. That gives zeros only if no pixel is left from there on;
        # if so, there is none before the first output either.
        behind = first.shape[1 + axis] * first.stride[axis] - first.padding[axis]
        if second.padding[axis] and behind < first.input_shape[1 + axis]:
            refuse(
                name,
                "its padding lies around what a pool or convolution gives, of which other parts of the image take the "
                "place if both are made one convolution; leave the padding out, or make the sizes fit",
            )
    size = [
        (length - 1) * stride + reach
        for length, stride, reach in zip(full.shape[2:], first.stride, first.reach, strict=True)
    ]
    weight = first.behind(full, size, (0, 0))
    groups = 1
    if first.groups == first.input_shape[0] == len(first.weight):
        groups = second.groups
    elif second.groups == second.input_shape[0] == len(second.weight):
        groups = first.groups
    stride = first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]
    padding = [
        outer + inner * step for outer, inner, step in zip(first.padding, second.padding, first.stride, strict=True)
    ]
    return Kernel(_grouped(weight, groups), first.input_shape, stride, (padding[0], padding[1]), (1, 1), groups)


def _ungrouped(kernel: Kernel) -> FloatArray:
    """The kernels with all input channels, and with zeros between what is dilated."""
    out, inputs = kernel.weight.shape[:2]
    blocks = np.arange(kernel.groups)
    full = np.zeros((kernel.groups, out // kernel.groups, kernel.groups, inputs, *kernel.reach))
    full[blocks, :, blocks] = _spaced(kernel).reshape(kernel.groups, -1, inputs, *kernel.reach)
    return full.reshape(out, kernel.groups * inputs, *kernel.reach)


def _spaced(kernel: Kernel) -> FloatArray:
    """The kernels with zeros between what is dilated."""
    spaced = np.zeros((*kernel.weight.shape[:2], *kernel.reach))
    spaced[:, :, :: kernel.dilation[0], :: kernel.dilation[1]] = kernel.weight
    return spaced


def _grouped(weight: FloatArray, groups: int) -> FloatArray:
    """The kernels without the input channels of other groups, which are zero."""
    out, inputs, high, wide = weight.shape
    blocks = np.arange(groups)
    parts = weight.reshape(groups, out // groups, groups, inputs // groups, high, wide)[blocks, :, blocks]
    return np.ascontiguousarray(parts.reshape(out, inputs // groups, high, wide))


def flattened(made: LinearMap) -> bool:
    """Whether its convolution gives an image, which is then flattened to a vector."""
    return isinstance(made.weight, Kernel) and len(made.shape) == 1
