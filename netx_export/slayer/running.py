"""Running a SLAYER network without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lava_spikeloss.activity.hooks import Hook
from lava_spikeloss.slayer_blocks import is_bootstrap
from lava_spikeloss.training import reset_net
from netx_export.errors import ExportError
from netx_export.run import Run, Spikes
from netx_export.slayer.blocks import layer_blocks
from netx_export.slayer.keeping import kept_attributes, kept_random_numbers

__all__ = [
    "CannotRunError",
    "evaluation",
    "first_input",
    "forward",
    "main_output",
    "record",
    "unwrapped",
]

_QUANTISE = ("lava.lib.dl.slayer.neuron.base", "Neuron.quantize_8bit")
_BLOCK = 2**20  # weights to quantise at a time
_NO_OUTPUT = "the network returns something else than a tensor with a row of numbers per sample"


class CannotRunError(ExportError):
    """A network's own forward failed."""


def record(net: nn.Module, inputs: torch.Tensor, names: list[str], batch_size: int = 128) -> Run:
    """Run the network in evaluation mode from rest and record every spiking block.

    Args:
        net: a SLAYER network; its state, mode and parameters are the same afterwards.
        inputs: input ``(N, C, ..., T)``.
        names: names for the spiking blocks, in order; those of ``NetworkDescription.spiking``.
        batch_size: samples per forward pass, which bounds the memory.

    Returns:
        The spikes of each block, and as the output what the network returned, or the first part of it; None if that is
        no dense tensor of real numbers with a row per sample, all of one shape.

    Raises:
        ExportError: if the network cannot run on them, or runs a block not once in a forward pass, or on something
            else than one row per sample.
    """
    blocks = layer_blocks(net)
    outputs: list[Spikes | None] = []
    layers: dict[str, list[Spikes]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, output: layers[name].append(_array(output))

    for batch in torch.split(inputs, batch_size):
        with evaluation(net):
            for name, block in zip(names, blocks, strict=True):
                block.register_forward_hook(keep(name))
            output = main_output(forward(net, batch), len(batch))
            _check_calls({name: len(parts) for name, parts in layers.items()}, len(outputs))
            outputs.append(None if output is None else _array(output))
    known = [output for output in outputs if output is not None]
    alike = len(known) == len(outputs) and len({output.shape[1:] for output in known}) == 1
    recorded = {name: np.concatenate(parts) for name, parts in layers.items()}
    try:
        return Run(np.concatenate(known) if alike else None, recorded, None if alike else _NO_OUTPUT)
    except ValueError as error:
        raise ExportError(
            f"The network does not run its blocks on one row per sample, (N, C, ..., T), as a file does. {error}"
        ) from None


def _check_calls(calls: dict[str, int], before: int) -> None:
    """Raise unless each block ran once in a forward pass, as its layer in a file does, after ``before`` passes."""
    for number, (name, ran) in enumerate(calls.items(), 1):
        if ran != before + 1:
            raise ExportError(
                f"The network runs its spiking block {number}, which is {name} in the file, {ran - before} times in a "
                f"forward pass, and a file runs each layer once. Give the network that the file was exported from."
            )


def unwrapped(net: nn.Module) -> nn.Module:
    """The network that ``torch.compile`` or a parallel wrapper holds, whose forward compiles nothing and waits for no
    other process; the wrapper, if it was made to do something of its own.
    """
    while not (net._forward_pre_hooks or net._forward_hooks):
        if isinstance(net, nn.parallel.DistributedDataParallel | nn.DataParallel) and "forward" not in net.__dict__:
            net = net.module
        elif _is_compiled(net):
            net = net._orig_mod
        else:
            break
    return net


def _is_compiled(module: Any) -> bool:
    """Whether a module is what ``torch.compile`` made of another, with the forward that it gave it."""
    return isinstance(module._modules.get("_orig_mod"), nn.Module) and hasattr(
        module.__dict__.get("forward"), "_torchdynamo_orig_callable"
    )


def forward(net: nn.Module, inputs: torch.Tensor) -> Any:
    """The network's output for input of any type on any device, of which it gets a copy: it may write into it.

    Raises:
        CannotRunError: if the network cannot run on it.
    """
    parameter = next(net.parameters(), torch.zeros(0))
    try:
        with torch.no_grad(), _sparing_synapses(net):
            return unwrapped(net)(inputs.detach().to(parameter.device, parameter.dtype, copy=True))
    except ExportError:
        raise
    except Exception as error:  # whatever the network's own forward raises
        raise CannotRunError(
            f"The network cannot run on input of shape {tuple(inputs.shape)}: {type(error).__name__}: {error}. Give "
            f"spikes of the shape (N, C, ..., T) that it was trained on, and a network whose forward takes only them."
        ) from error


@contextmanager
def _sparing_synapses(net: nn.Module) -> Iterator[None]:
    """Synapses that quantise their weights block by block inside, and keep none that weight norm made afterwards."""
    synapses: list[Any] = [module for module in net.modules() if hasattr(module, "_pre_hook_fx")]
    attributes = [dict(synapse.__dict__) for synapse in synapses]
    try:
        for synapse in synapses:
            quantise = synapse._pre_hook_fx
            if (getattr(quantise, "__module__", ""), getattr(quantise, "__qualname__", "")) == _QUANTISE:
                synapse._pre_hook_fx = partial(_in_blocks, quantise)
        yield
    finally:
        for synapse, before in zip(synapses, attributes, strict=True):
            synapse.__dict__.update(before)


def _in_blocks(quantise: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor) -> torch.Tensor:
    """Quantised weights. SLAYER takes each weight by itself, so that taking all at once only takes one more copy."""
    quantised = torch.empty_like(weight)
    rows = max(1, _BLOCK // weight[0].numel())
    for block, target in zip(weight.split(rows), quantised.split(rows), strict=True):
        target.copy_(quantise(block))
    return quantised


def first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """What a block is called on, by position or by keyword."""
    tensor: torch.Tensor = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
    return tensor


def main_output(output: Any, samples: int) -> torch.Tensor | None:
    """What a forward returns, or the first part of it: networks as in lava-dl's tutorials return (spikes, counts).

    None if that is no dense tensor of real numbers with a row per sample, as a dictionary is none.
    """
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first if isinstance(first, torch.Tensor) and _is_plain(first) and first.shape[:1] == (samples,) else None


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether float32 can say what it holds: of complex numbers it would keep the real parts alone."""
    dense = tensor.layout == torch.strided and not tensor.is_nested
    return dense and not (tensor.is_complex() or tensor.is_quantized or tensor.is_meta)


def _array(output: torch.Tensor) -> npt.NDArray[np.float32]:
    """A copy, since the network's forward may go on to write into what a block made."""
    array: npt.NDArray[np.float32] = output.detach().to("cpu", torch.float32, copy=True).numpy()
    return array


@contextmanager
def evaluation(net: nn.Module) -> Iterator[None]:
    """Evaluation mode from rest inside; afterwards the network is as it was before, whatever ran inside.

    That is more than ``lava_spikeloss.training.fresh_state`` puts back: a SLAYER forward writes into the network even
    in evaluation mode, not only neuron states and delay buffers, but shapes, masked weights, clamped delays and decays
    too. So parameters, buffers, attributes, hooks, mode and random number generators come back. A deep copy is no way
    out, since torch refuses to copy weight-normed modules.

    Inside, bootstrap blocks run as spiking neurons, whatever mode the network's forward gives them, nothing is
    compiled, and neither enforcers nor statistics count.

    Raises:
        ExportError: inside of ``torch.autocast``.
    """
    _refuse_autocast(net)
    modules = list(net.modules())
    tensors = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    values = [(tensor, tensor.data, tensor.detach().clone()) for tensor in tensors.values()]
    devices = {tensor.device for tensor in tensors.values() if tensor.device.type == "cuda"}
    with kept_random_numbers(devices), kept_attributes(modules):
        try:
            net.eval()
            for module in modules:
                _copy_masked_weights(module)
                _leave_unwatched(module)
                _leave_uncompiled(module)
                _run_as_spiking(module)
            reset_net(net)
            yield
        finally:
            with torch.no_grad():
                for tensor, storage, value in values:
                    tensor.data = storage
                    storage.copy_(value)


def _refuse_autocast(net: nn.Module) -> None:
    one = torch.ones(1, 1, device=next(net.parameters(), torch.zeros(0)).device)
    if (one @ one).dtype != one.dtype:
        raise ExportError(
            f"torch.autocast is on. It rounds what SLAYER sums up to {(one @ one).dtype}, and Loihi does not: the "
            f"network would spike otherwise there. Call this outside of autocast, or inside of "
            f"torch.autocast({one.device.type!r}, enabled=False), and evaluate the network so too."
        )


def _leave_unwatched(module: nn.Module) -> None:
    """Take off the hooks of enforcers and statistics, which are not to count what only an export or a check runs."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, hook in hooks.items() if isinstance(hook, Hook)]:
            del hooks[key]


def _copy_masked_weights(module: Any) -> None:
    """Have a block put its mask on a copy of weights that are no parameter, as of those that weight norm made.

    Those that lie where a parameter does are put back with it.
    """
    if getattr(module, "mask", None) is None:
        return
    places = {parameter.data_ptr() for parameter in module.synapse.parameters()}
    for part in module.synapse.modules():
        if "weight" in part.__dict__ and part.weight.data_ptr() not in places:
            part.__dict__["weight"] = part.weight.detach().clone()


def _leave_uncompiled(module: Any) -> None:
    """Run a module inside of the network as it was written, whatever ``torch.compile`` made of it."""
    module._compiled_call_impl = None
    if _is_compiled(module):
        module.__dict__["forward"] = module._orig_mod.__call__


def _run_as_spiking(module: Any) -> None:
    """Have a bootstrap block run as spiking neurons, whatever mode the network's forward gives it."""
    if is_bootstrap(module):
        module.register_forward_pre_hook(_as_spiking, with_kwargs=True)


def _as_spiking(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A bootstrap block's arguments with its mode set to spiking."""
    return args[:1], {**kwargs, "mode": type(module.mode).SNN}
