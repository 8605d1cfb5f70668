"""Running a SLAYER network without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lava_spikeloss._hooks import Hook
from netx_export.errors import ExportError
from netx_export.slayer.blocks import Block, find_blocks, refuse, spikes

__all__ = ["Recording", "check_chain", "forward", "fresh_state", "record"]

_QUANTISE = ("lava.lib.dl.slayer.neuron.base", "Neuron.quantize_8bit")
_BLOCK = 2**20  # weights to quantise at a time


@dataclass(frozen=True, eq=False)
class Recording:
    """The spikes of a forward pass: the network's output and each spiking block's, ``(N, C, ..., T)``."""

    output: npt.NDArray[np.float32]
    layers: dict[str, npt.NDArray[np.float32]]


def record(net: nn.Module, inputs: torch.Tensor, names: list[str], batch_size: int = 128) -> Recording:
    """Run the network in evaluation mode from rest and record every spiking block.

    Args:
        net: a SLAYER network; its state, mode and parameters are the same afterwards.
        inputs: input ``(N, C, ..., T)``.
        names: names for the spiking blocks, in order; those of ``NetworkDescription.spiking``.
        batch_size: samples per forward pass, which bounds the memory.
    """
    blocks = [block for block in find_blocks(net) if spikes(block)]
    outputs: list[npt.NDArray[np.float32]] = []
    layers: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, output: layers[name].append(_array(output))

    for batch in torch.split(inputs, batch_size):
        with fresh_state(net):
            for name, block in zip(names, blocks, strict=True):
                block.register_forward_hook(keep(name))
            outputs.append(_array(forward(net, batch)))
    return Recording(np.concatenate(outputs), {name: np.concatenate(parts) for name, parts in layers.items()})


def check_chain(net: nn.Module, blocks: list[Block], sample: torch.Tensor) -> None:
    """Run the network in a :func:`fresh_state`, and refuse it if its blocks do not run one after the other.

    Raises:
        ExportError: for a block that does not run exactly once, in order, on what the block before it made.
    """
    calls: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    def keep(index: int) -> Callable[..., None]:
        return lambda module, args, output: calls.append((index, args[0].detach(), _tensor(output).detach()))

    for index, block in enumerate(blocks):
        block.register_forward_hook(keep(index))
    forward(net, sample)
    if len(calls) < len(blocks):
        missing = min(set(range(len(blocks))) - {index for index, _, _ in calls})
        refuse(missing, blocks[missing], "the network's forward does not run it", "Remove it from the network.")
    for position, (index, _, _) in enumerate(calls):
        if index != position:
            refuse(
                index,
                blocks[index],
                "the network's forward runs it again, or not in the order in which the blocks were registered",
                "Only a chain can be exported: register the blocks in the order of the forward, each for one use.",
            )
    for (_, _, made), (index, taken, _) in pairwise(calls):
        if made.shape != taken.shape or not torch.equal(made, taken):
            refuse(
                index,
                blocks[index],
                "its input is not what the block before it made",
                "Only a chain can be exported: no branches, residual connections, or operations between the blocks.",
            )


def forward(net: nn.Module, inputs: torch.Tensor) -> Any:
    """The network's output for input of any type on any device.

    Raises:
        ExportError: if the network cannot run on it.
    """
    parameter = next(net.parameters(), torch.zeros(0))
    try:
        with torch.no_grad(), _sparing_synapses(net):
            return net(inputs.to(parameter.device, parameter.dtype))
    except ExportError:
        raise
    except Exception as error:  # whatever the network's own forward raises
        raise ExportError(
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


def _tensor(output: Any) -> torch.Tensor:
    """The spikes of a forward pass; networks written as in lava-dl's tutorials return (spikes, counts)."""
    tensor: torch.Tensor = output[0] if isinstance(output, tuple | list) else output
    return tensor


def _array(output: Any) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = _tensor(output).detach().to("cpu", torch.float32).numpy()
    return array


@contextmanager
def fresh_state(net: nn.Module) -> Iterator[None]:
    """Evaluation mode and neurons at rest inside; parameters, buffers, attributes, hooks, mode and RNG as before after.

    A SLAYER forward writes into the network even in evaluation mode: neuron states, delay buffers, shapes, masked
    weights, clamped delays and decays. A deep copy is no way out, since torch refuses to copy weight-normed modules.
    Bootstrap blocks run as spiking neurons inside, whatever mode the network's forward gives them.

    Raises:
        ExportError: inside of ``torch.autocast``.
    """
    _refuse_autocast(net)
    modules = list(net.modules())
    attributes = [dict(module.__dict__) for module in modules]
    contents = [(value, value.copy()) for own in attributes for value in own.values() if isinstance(value, dict)]
    tensors = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    values = [(tensor, tensor.data, tensor.detach().clone()) for tensor in tensors.values()]
    devices = {tensor.device for tensor in tensors.values() if tensor.device.type == "cuda"}
    with torch.random.fork_rng(devices=devices):
        try:
            net.eval()
            for module in modules:
                _leave_unwatched(module)
                _rest(module)
            yield
        finally:
            # Dictionaries are refilled in place: a hook's handle removes it from the very dictionary it was put into.
            for dictionary, content in contents:
                dictionary.clear()
                dictionary.update(content)
            for module, before in zip(modules, attributes, strict=True):
                module.__dict__.clear()
                module.__dict__.update(before)
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


def _rest(module: Any) -> None:
    """Put one module's carried-over state to rest."""
    if hasattr(module, "delay_buffer"):
        module.delay_buffer = None
    for name in ("current_state", "voltage_state", "real_state", "imag_state", "spike_state"):
        state = getattr(module, name, None)
        if isinstance(state, torch.Tensor):
            setattr(module, name, torch.zeros(1, dtype=state.dtype, device=state.device))
    if type(module).__module__.startswith("lava.lib.dl.bootstrap.block.") or hasattr(module, "_forward_snn"):
        module.register_forward_pre_hook(_as_spiking, with_kwargs=True)


def _as_spiking(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A bootstrap block's arguments with its mode set to spiking."""
    return args[:1], {**kwargs, "mode": type(module.mode).SNN}
