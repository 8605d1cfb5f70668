"""The sums of a dense synapse from its spikes alone, where they are rare and every order of adding gives the same."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from lava_spikeloss.compiling import in_threads
from lava_spikeloss.training import compiled_loops
from lava_spikeloss.training.triton_trial import triton_runs

__all__ = ["conv3d", "covered", "plain", "sums_are_exact"]

_FEWEST_OUTPUTS = 32  # for fewer, finding the spikes costs more than torch's product
_FEWEST_STEPS = 64  # of all samples together: for fewer, looking through the weights costs more
_PIECE = 2**20  # weights to look at together, so that large layers need no copies
_HIGHEST_RATE = 0.15  # above it, torch's product is faster


def covered(*tensors: torch.Tensor) -> bool:
    """Whether loops over time take all of the tensors: :func:`plain` ones, or such on a GPU where Triton runs."""
    device = tensors[0].device
    return _ordinary(device, tensors) and (device.type == "cpu" or (device.type == "cuda" and triton_runs(device)))


def plain(*tensors: torch.Tensor) -> bool:
    """Whether all are ordinary tensors of float32 on the CPU, with which torch would compute in float32, unwatched."""
    return _ordinary(torch.device("cpu"), tensors)


def _ordinary(device: torch.device, tensors: tuple[torch.Tensor, ...]) -> bool:
    autocast = torch.is_autocast_cpu_enabled() if device.type == "cpu" else torch.is_autocast_enabled()
    float32 = torch.get_default_dtype() == torch.float32 and not autocast
    return (float32 and not _a_mode_is_on(device)) and all(
        type(tensor) in (torch.Tensor, torch.nn.Parameter) and tensor.device == device and tensor.dtype == torch.float32
        for tensor in tensors
    )


def _a_mode_is_on(device: torch.device) -> bool:
    """Whether somebody's torch mode is to see each of torch's operations, and may change what it makes."""
    foreign = [mode for mode in _get_current_function_mode_stack() if not _leaves_sums(mode, device)]
    return bool(foreign) or torch._C._len_torch_dispatch_stack() > 0


def _leaves_sums(mode: object, device: torch.device) -> bool:
    """Whether a mode changes nothing that is computed here: as a default device that is the CPU or the tensors' own."""
    default = isinstance(mode, DeviceContext) and mode.device.type in ("cpu", device.type)
    return hasattr(mode, "leaves_sums") or default


def sums_are_exact(weight: torch.Tensor) -> bool:
    """Whether float32 holds all sums of entries in a row of ``(out, in)`` weights, so that their order is free.

    Quantised weights are whole multiples of one step; so are their sums, as long as they stay below 2**24 steps.
    """
    pieces = weight.detach().split(max(1, _PIECE // weight.shape[1]))
    largest = max(float(rows.abs().sum(dim=1).max()) for rows in pieces)  # a norm takes torch forty times as long
    if not 2.0**-100 < largest < 2.0**100:  # float32 could not hold the step of such weights
        return largest == 0
    finest = 2.0 ** (math.ceil(math.log2(largest)) - 23)  # with such sums, exact to the last but one bit
    return all(torch.equal(steps, steps.round()) for steps in (rows / finest for rows in pieces))


def conv3d(
    slayers: Any, inputs: torch.Tensor, weight: torch.Tensor, bias: Any, stride: Any, padding: Any, *rest: Any
) -> torch.Tensor:
    """``conv3d`` of ``torch.nn.functional``, which is ``slayers``, as lava-dl's dense synapse calls it."""
    as_built = bias is None and not any(padding) and set(stride) == {1}
    dense = as_built and plain(inputs, weight) and _is_dense(inputs, weight)
    if dense and _are_rare_spikes(inputs) and sums_are_exact(weight.reshape(len(weight), -1)):
        return _Dense.apply(inputs, weight, (stride, padding, *rest))  # type: ignore[no-untyped-call,no-any-return]
    result: torch.Tensor = slayers.conv3d(inputs, weight, bias, stride, padding, *rest)
    return result


def _is_dense(inputs: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether the kernel is as large as the image, and there is enough to gain."""
    steps = len(inputs) * inputs.shape[-1]
    covers = tuple(weight.shape[1:]) == (*inputs.shape[1:-1], 1)
    return covers and len(weight) >= _FEWEST_OUTPUTS and steps >= _FEWEST_STEPS


def _are_rare_spikes(inputs: torch.Tensor) -> bool:
    """Whether the inputs are spikes of 1, and rare."""
    spikes: int = compiled_loops.count_spikes(inputs.detach().reshape(-1).numpy())
    return 0 <= spikes <= _HIGHEST_RATE * inputs.numel()


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, weight: torch.Tensor, options: tuple[Any, ...]) -> torch.Tensor:
        spikes = inputs.detach().reshape(len(inputs), -1, inputs.shape[-1]).contiguous().numpy()
        rows = weight.detach().reshape(len(weight), -1).t().contiguous().numpy()
        sums = torch.empty(len(inputs), len(weight), inputs.shape[-1])
        target = sums.numpy()
        in_threads(lambda part: compiled_loops.add_weights(spikes[part], rows, target[part]), len(spikes), spikes.size)
        ctx.save_for_backward(inputs, weight)
        ctx.options = options
        return sums[:, :, None, None]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        inputs, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        made = torch.ops.aten.convolution_backward(  # type: ignore[attr-defined]  # torch's own, which has a derivative
            *gradients,
            inputs,
            weight,
            None,
            stride,
            padding,
            dilation,
            False,
            [0, 0, 0],
            groups,
            [*ctx.needs_input_grad[:2], False],
        )
        return made[0], made[1], None
