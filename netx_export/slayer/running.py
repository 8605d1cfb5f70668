"""Running a SLAYER network without leaving a trace in it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from lava_spikeloss.activity.hooks import Hook
from lava_spikeloss.slayer_blocks import is_bootstrap
from lava_spikeloss.training import reset_net
from lava_spikeloss.training.backend import compiled_inside
from netx_export.errors import ExportError
from netx_export.run import Run, Spikes
from netx_export.slayer.blocks import Block, find_blocks, is_layer
from netx_export.slayer.keeping import kept_attributes, kept_random_numbers

__all__ = [
    "BATCH",
    "CannotRunError",
    "Recording",
    "evaluation",
    "first_input",
    "forward",
    "record",
    "same_values",
    "tensors_in",
    "unread_in",
    "unwrapped",
    "values_in",
]

BATCH = 128  # samples per forward pass, which bounds the memory
_FEWEST = 4  # samples in a batch from which on compiled loops pay: one of the samples runs twice
_QUANTISE = ("lava.lib.dl.slayer.neuron.base", "Neuron.quantize_8bit")
_ABS = (torch.abs, torch.Tensor.abs)
_READ = (torch.Tensor, np.ndarray, np.generic, bool, int, float)  # as numbers, where a forward returns them
_BLOCK = 2**20  # weights to quantise at a time


class CannotRunError(ExportError):
    """A network's own forward failed."""


@dataclass(frozen=True, eq=False)
class Recording(Run):
    """What a network did between its first block and its last one.

    Its output is what the last block made, whatever the network goes on to make of that.

    Attributes:
        inputs: what reached the first block, in the shape of the network's input if it is that.
        begins_inside: whether the network's forward made something else of its input for its first block.
        ends_inside: whether the network returned something else than what its last block made.
    """

    inputs: torch.Tensor | Any = None
    begins_inside: bool = False
    ends_inside: bool = False


def record(
    net: nn.Module, inputs: torch.Tensor, names: list[str], batch_size: int = BATCH, *, compiled: bool = False
) -> Recording:
    """Run the network in evaluation mode from rest and record every spiking block.

    Args:
        net: a SLAYER network; its state, mode and parameters are the same afterwards.
        inputs: input ``(N, C, ..., T)``.
        names: names for the spiking blocks, in the order of the forward; those of ``NetworkDescription.spiking``.
        batch_size: samples per forward pass, which bounds the memory.
        compiled: whether to run most samples in compiled loops, where these make what the network's own code makes.

    Returns:
        The spikes of each block, what the last one made as the output, and what the first one took.

    Raises:
        ExportError: if the network cannot run on them, or runs a block not once in a forward pass, or on something
            else than one row per sample.
    """
    run = _passes if compiled else _own_passes
    passes = run(net, torch.split(inputs, batch_size), names)
    layers = {name: [each.layers[name] for each in passes] for name in names}
    begins_inside = any(each.inputs is not None for each in passes)
    reached = inputs
    try:
        if begins_inside:
            batches = zip(passes, torch.split(inputs, batch_size), strict=True)
            reached = torch.cat([batch if each.inputs is None else each.inputs for each, batch in batches])
        return Recording(
            np.concatenate([each.output for each in passes]),
            {name: np.concatenate(parts) for name, parts in layers.items()},
            inputs=reached,
            begins_inside=begins_inside,
            ends_inside=any(not each.returned for each in passes),
        )
    except (ValueError, RuntimeError) as error:
        raise ExportError(
            f"The network does not run its blocks on one row per sample, (N, C, ..., T), as a file does. {error}"
        ) from None


@dataclass(eq=False)
class _Batch:
    """One forward pass.

    Attributes:
        layers: what each spiking block made.
        output: what the last block made.
        returned: whether the network returned that.
        inputs: what reached the first block; None if that is what the network was given.
    """

    layers: dict[str, Spikes] = field(default_factory=dict)
    output: Spikes | Any = None
    returned: bool = False
    inputs: torch.Tensor | None = None

    def has_row(self, row: int, alone: _Batch) -> bool:
        """Whether a sample of this pass did in each layer, and at both ends, what it did in a pass of its own."""
        if self.inputs is None or alone.inputs is None:
            reached = self.inputs is alone.inputs
        else:
            reached = torch.equal(self.inputs[row : row + 1], alone.inputs)
        pairs = [(self.output, alone.output), *((made, alone.layers[name]) for name, made in self.layers.items())]
        return reached and all(np.array_equal(made[row : row + 1], one) for made, one in pairs)


def _passes(net: nn.Module, batches: Sequence[torch.Tensor], names: list[str]) -> list[_Batch]:
    """A pass of each batch, in compiled loops where these make what the network's own code makes."""
    passes = []
    for batch in batches:
        made = _compiled_pass(net, batch, names) if len(batch) >= _FEWEST else _own_pass(net, batch, names)
        if made is None:
            return _own_passes(net, batches, names)
        passes.append(made)
    return passes


def _own_passes(net: nn.Module, batches: Sequence[torch.Tensor], names: list[str]) -> list[_Batch]:
    return [_own_pass(net, batch, names) for batch in batches]


def _compiled_pass(net: nn.Module, batch: torch.Tensor, names: list[str]) -> _Batch | None:
    """Run one batch in compiled loops; None if the network's own code makes something else of a sample, or fails."""
    try:
        with evaluation(net), compiled_inside(net) as runs_loops:
            made = _record_batch(net, batch, names)
        # lava-dl may have been changed in a way that `compiled_inside` cannot see, or the forward changes it while it
        # runs. Then values differ: so the sample with the most events also runs as the network does by itself.
        busiest = int(batch.reshape(len(batch), -1).count_nonzero(dim=1).argmax())
        alike = not runs_loops or made.has_row(busiest, _own_pass(net, batch[busiest : busiest + 1], names))
    except ExportError:
        return None
    return made if alike else None


def _own_pass(net: nn.Module, batch: torch.Tensor, names: list[str]) -> _Batch:
    """Run one batch as the network does by itself."""
    with evaluation(net):
        return _record_batch(net, batch, names)


def _record_batch(net: nn.Module, batch: torch.Tensor, names: list[str]) -> _Batch:
    """Run one batch, inside of an ``evaluation``, which removes the hooks afterwards."""
    calls: dict[int, int] = {}  # how often each spiking block ran, in the order in which they ran first
    kept = _Batch()
    made: list[torch.Tensor] = []

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        if not made:
            taken = first_input(args, kwargs)
            kept.inputs = None if same_values(batch, taken) else taken.detach().clone()

    def after(block: Block) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            made[:] = [output.detach().clone()]  # a forward may write into it later
            if is_layer(block):
                calls[id(block)] = calls.get(id(block), 0) + 1
                if len(calls) <= len(names):
                    kept.layers[names[len(calls) - 1]] = _array(output)

        return hook

    blocks = find_blocks(net)
    for block in blocks:
        block.register_forward_pre_hook(before, with_kwargs=True)
        block.register_forward_hook(after(block))
    output = forward(net, batch)
    _check_calls(list(calls.values()), names, sum(map(is_layer, blocks)))
    kept.output = _array(made[0])
    kept.returned = any(torch.equal(each.to(made[0]), made[0]) for each in tensors_in(output))
    return kept


def _check_calls(calls: list[int], names: list[str], registered: int) -> None:
    """Raise unless each spiking block ran once in a forward pass, as its layer in a file does."""
    if len(calls) > len(names) or registered < len(names):
        raise ExportError(
            f"The network has {max(len(calls), registered)} spiking blocks but the file has {len(names)} spiking "
            f"layers, so one is not an export of the other. Give the network that the file was exported from."
        )
    for number, name in enumerate(names):
        ran = calls[number] if number < len(calls) else 0
        if ran != 1:
            raise ExportError(
                f"The network runs its spiking block {number + 1}, which is {name} in the file, {ran} times in a "
                f"forward pass, and a file runs each layer once. Give the network that the file was exported from."
            )


def same_values(given: torch.Tensor, taken: torch.Tensor) -> bool:
    """Whether a block got the network's input, if in another shape: channels may be split up or joined in order."""
    given = given.to(taken)
    if given.dim() < 3 or (given.shape[0], given.shape[-1]) != (taken.shape[0], taken.shape[-1]):
        return False
    return given.numel() == taken.numel() and torch.equal(given.flatten(1, -2), taken.flatten(1, -2))


def unwrapped(net: nn.Module) -> nn.Module:
    """The network inside of ``torch.compile`` or a parallel wrapper: its own forward compiles nothing and waits for no
    other process. A wrapper that has hooks or a forward of its own is left as it is.
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
    """Whether a module was made by ``torch.compile``, and still has the forward that it got there."""
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
        with torch.no_grad(), _sparing_synapses(net), _AbsOfTruth():  # type: ignore[no-untyped-call]
            own = unwrapped(net)
            return own(inputs.detach().to(parameter.device, parameter.dtype, copy=True), **_mode(own))
    except ExportError:
        raise
    except Exception as error:  # whatever the network's own forward raises
        raise CannotRunError(
            f"The network cannot run on input of shape {tuple(inputs.shape)}: {type(error).__name__}: {error}. Give "
            f"what it was trained on, spikes of shape (N, C, ..., T) say, and a network whose forward takes only that."
        ) from error


class _AbsOfTruth(TorchFunctionMode):
    """``torch.abs`` of boolean tensors, with which lava-dl's PilotNet and YOLO-KP count their events.

    torch has it on a GPU only: on a CPU their forwards would fail.
    """

    leaves_sums = True  # so that compiled loops run under it

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _ABS and args and getattr(args[0], "dtype", None) == torch.bool:
            return args[0].clone()
        return func(*args, **(kwargs or {}))


def _mode(net: nn.Module) -> dict[str, Any]:
    """The ``mode`` that a bootstrap network's forward asks for, as lava-dl's scheduler gives it: spiking."""
    block: Any = next(filter(is_bootstrap, net.modules()), None)
    if block is None or is_bootstrap(net) or "mode" not in inspect.signature(net.forward).parameters:
        return {}
    modes = type(block.mode)
    layer_mode: Any = sys.modules[modes.__module__].LayerMode

    class Spiking(layer_mode):  # type: ignore[misc]  # of the scheduler; and equal to the mode of a single block
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return other is self.base_mode

    return {"mode": Spiking(0, modes.SNN)}


@contextmanager
def _sparing_synapses(net: nn.Module) -> Iterator[None]:
    """Inside, synapses quantise their weights block by block; afterwards they hold no weights made by weight norm."""
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
    """Quantised weights, a block of them at a time, which saves a copy: SLAYER quantises each weight by itself."""
    quantised = torch.empty_like(weight)
    rows = max(1, _BLOCK // weight[0].numel())
    for block, target in zip(weight.split(rows), quantised.split(rows), strict=True):
        target.copy_(quantise(block))
    return quantised


def first_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """What a block is called on, by position or by keyword."""
    tensor: torch.Tensor = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
    return tensor


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Copies of the tensors in what a forward returns, however deep they lie, dense and of real numbers.

    Numbers and arrays are tensors too.
    """
    if isinstance(value, torch.Tensor):
        return _dense(value.detach())
    if isinstance(value, _READ):
        array = np.asarray(value)
        return [torch.from_numpy(array.copy())] if array.dtype.kind in "bif" else []
    return [tensor for each in values_in(value) or () for tensor in tensors_in(each)]


def values_in(value: Any) -> list[Any] | None:
    """The values of a tuple, list, mapping or dataclass, the things a forward may return several values in; None of
    anything else.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, each.name) for each in fields(value) if hasattr(value, each.name)]
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, tuple | list) else None


def unread_in(value: Any) -> list[str]:
    """The types of all in what a forward returns that is neither looked into nor read as numbers, but None."""
    values = values_in(value)
    if values is not None:
        return [name for each in values for name in unread_in(each)]
    return [] if value is None or isinstance(value, _READ) else [type(value).__name__]


def _dense(tensor: torch.Tensor) -> list[torch.Tensor]:
    """A copy of a tensor, if it holds numbers that can be compared."""
    if tensor.is_nested or tensor.is_meta or tensor.is_quantized:
        return []
    dense = (tensor.to_dense() if tensor.layout != torch.strided else tensor).clone()
    return [torch.view_as_real(dense) if dense.is_complex() else dense]


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
    """Take off the hooks of enforcers and statistics: they must not count what only an export or a check runs."""
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, hook in hooks.items() if isinstance(hook, Hook)]:
            del hooks[key]


def _copy_masked_weights(module: Any) -> None:
    """Let a block write its mask into a copy of weights that are no parameter, such as those that weight norm made.

    Weights that share the memory of a parameter need no copy: they come back with the parameter.
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
    """Let a bootstrap block run as spiking neurons, whatever mode the network's forward gives it."""
    if is_bootstrap(module):
        module.register_forward_pre_hook(_as_spiking, with_kwargs=True)


def _as_spiking(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A bootstrap block's arguments with its mode set to spiking."""
    return args[:1], {**kwargs, "mode": type(module.mode).SNN}
