"""The SLAYER reader: a trained network of lava-dl blocks as plain data, and the spikes of each of its blocks.

The only file that knows torch modules. Blocks are recognised by the qualified names of their classes, so this module
imports without Lava.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netx_export.description import Conv, CubaNeuron, Dense, Flatten, Input, IntArray, Layer, NetworkDescription
from netx_export.errors import ExportError

__all__ = ["Recording", "describe", "fresh_state", "record"]

Block: TypeAlias = Any  # a lava-dl block; its classes cannot be named without importing Lava

_BLOCK_PACKAGES = ("lava.lib.dl.slayer.block.", "lava.lib.dl.bootstrap.block.")
_THRESHOLD_BITS = 17
_MAX_DELAY = 62
# SLAYER compares the membrane potential with threshold + 0.01 in float32. From 2^18 on the 0.01 is lost in rounding,
# and a neuron that reaches its threshold exactly fires in SLAYER but not on Loihi, which asks for more than it.
_MAX_EXACT_THRESHOLD = 2**18 >> 6


def describe(net: nn.Module, sample: torch.Tensor | None = None) -> NetworkDescription:
    """Read a SLAYER network into plain data without changing it.

    Args:
        net: a module whose SLAYER blocks, in the order in which they were registered, form a chain.
        sample: spikes ``(N, C, ..., T)``; needed if the network never ran, since SLAYER learns its shapes then.

    Raises:
        ExportError: for a block, neuron or option that cannot be exact on Lava, with the block's index and class.
    """
    blocks = find_blocks(net)
    if sample is None:
        return _describe_blocks(blocks, None)
    materialised = [_lazy_state(block) for block in blocks]
    with fresh_state(net):
        _forward(net, sample)
        for (index, block), before in zip(enumerate(blocks), materialised, strict=True):
            if before:
                raise _refusal(
                    index,
                    block,
                    f"its {before} are made at the first forward, and this network never ran one",
                    "Run the network forward once before you train it and before load_state_dict.",
                )
        return _describe_blocks(blocks, tuple(sample.shape[1:-1]))


@dataclass(frozen=True, eq=False)
class Recording:
    """The spikes of a forward pass: the network's output and each spiking block's, ``(N, C, ..., T)``."""

    output: npt.NDArray[np.float32]
    layers: dict[str, npt.NDArray[np.float32]]


def record(net: nn.Module, spikes: torch.Tensor, names: list[str], batch_size: int = 128) -> Recording:
    """Run the network in evaluation mode from rest and record every spiking block.

    Args:
        net: a SLAYER network; its state, mode and parameters are the same afterwards.
        spikes: input ``(N, C, ..., T)``.
        names: names for the spiking blocks, in order; those of ``NetworkDescription.spiking``.
        batch_size: samples per forward pass, which bounds the memory.
    """
    blocks = [block for block in find_blocks(net) if _kind(block) in _SPIKING]
    outputs: list[npt.NDArray[np.float32]] = []
    layers: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args, output: layers[name].append(_array(output))

    for batch in torch.split(spikes, batch_size):
        with fresh_state(net):
            handles = [block.register_forward_hook(keep(name)) for name, block in zip(names, blocks, strict=True)]
            try:
                outputs.append(_array(_forward(net, batch)))
            finally:
                for handle in handles:
                    handle.remove()
    return Recording(np.concatenate(outputs), {name: np.concatenate(parts) for name, parts in layers.items()})


def _forward(net: nn.Module, spikes: torch.Tensor) -> Any:
    """The network's output for spikes of any type on any device.

    Raises:
        ExportError: if the network cannot run on them.
    """
    parameter = next(net.parameters())
    try:
        with torch.no_grad():
            return net(spikes.to(parameter.device, parameter.dtype))
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        raise ExportError(
            f"The network cannot run on spikes of shape {tuple(spikes.shape)}: {error}. Give spikes of the shape "
            f"(N, C, ..., T) that it was trained on."
        ) from error


def _array(output: Any) -> npt.NDArray[np.float32]:
    """The spikes of a forward pass; networks written as in lava-dl's tutorials return (spikes, counts)."""
    tensor = output[0] if isinstance(output, tuple | list) else output
    array: npt.NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return array


@contextmanager
def fresh_state(net: nn.Module) -> Iterator[None]:
    """Evaluation mode and neurons at rest inside; parameters, buffers, attributes, mode and RNG as before afterwards.

    A SLAYER forward writes into the network even in evaluation mode: neuron states, delay buffers, shapes, masked
    weights, clamped delays and decays. A deep copy is no way out, since torch refuses to copy weight-normed modules.
    """
    modules = list(net.modules())
    attributes = [_Attributes(module) for module in modules]
    tensors = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}.values()
    storages = [(tensor, tensor.data, tensor.detach().clone()) for tensor in tensors]
    random_state = torch.get_rng_state()
    try:
        net.eval()
        for module in modules:
            _rest(module)
        yield
    finally:
        for kept in attributes:
            kept.restore()
        for tensor, storage, values in storages:
            tensor.data = storage.copy_(values)
        torch.set_rng_state(random_state)


class _Attributes:
    """A module's attributes at one moment, with the contents of its dictionaries of parameters, buffers and hooks.

    The dictionaries themselves stay the same objects, since the handles that users hold on their hooks point to them.
    """

    def __init__(self, module: nn.Module) -> None:
        self._live = module.__dict__
        self._values = dict(module.__dict__)
        self._contents = {key: copy.copy(value) for key, value in module.__dict__.items() if isinstance(value, dict)}

    def restore(self) -> None:
        self._live.clear()
        self._live.update(self._values)
        for key, contents in self._contents.items():
            self._live[key].clear()
            self._live[key].update(contents)


def _rest(module: Any) -> None:
    """Put one module's carried-over state to rest."""
    if hasattr(module, "delay_buffer"):
        module.delay_buffer = None
    for name in ("current_state", "voltage_state", "real_state", "imag_state", "threshold_state"):
        state = getattr(module, name, None)
        if isinstance(state, torch.Tensor):
            setattr(module, name, torch.zeros(1, dtype=state.dtype, device=state.device))


def find_blocks(net: nn.Module) -> list[Block]:
    """The SLAYER blocks of a network in order of registration.

    Raises:
        ExportError: if there are none, or if the network has parameters outside of them.
    """
    blocks = [module for module in net.modules() if _kind(module)]
    if not blocks:
        raise ExportError(
            f"{type(net).__name__} holds no SLAYER block. Build the network from blocks of lava.lib.dl.slayer.block."
        )
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    for name, parameter in net.named_parameters():
        if id(parameter) not in inside:
            raise ExportError(
                f"Parameter `{name}` {tuple(parameter.shape)} lies outside of any SLAYER block, so it cannot be "
                f"exported. Use blocks of lava.lib.dl.slayer.block for everything that is trained."
            )
    return blocks


def _kind(module: nn.Module) -> str | None:
    """``cuba.Dense`` and the like: the lava-dl block that a module is or derives from, if any."""
    for base in type(module).__mro__:
        for package in _BLOCK_PACKAGES:
            if base.__module__.startswith(package):
                return f"{base.__module__.removeprefix(package)}.{base.__qualname__}"
    return None


def _refusal(index: int, block: Block, reason: str, advice: str) -> ExportError:
    return ExportError(f"Block {index} ({_kind(block)}) cannot be exported: {reason}. {advice}")


def _lazy_state(block: Block) -> str:
    """What of a block's parameters has not been made yet, in words; empty if everything has."""
    if getattr(block, "delay", None) is not None and not block.delay.init:
        return "axonal delays"
    neuron = getattr(block, "neuron", None)
    if neuron is not None and not neuron.shared_param and neuron.shape is None:
        return "per-neuron decays"
    return ""


def _describe_blocks(blocks: list[Block], input_shape: tuple[int, ...] | None) -> NetworkDescription:
    layers: list[Layer] = []
    for index, block in enumerate(blocks):
        reader = _READERS.get(_kind(block) or "")
        if reader is None:
            raise _refusal(index, block, "this block is not supported", f"Supported: {', '.join(sorted(_READERS))}.")
        if index == 0 and _kind(block) != "cuba.Input":
            # The file always says what goes in: netx needs it for a convolution, people for everything.
            layers.append(Input(input_shape or _input_shape(index, block), delay_shift=False))
        layers.append(reader(index, block, layers[-1].shape if layers else ()))
    return NetworkDescription(tuple(layers))


def _input_shape(index: int, block: Block) -> tuple[int, ...]:
    if _kind(block) == "cuba.Dense":
        return (int(block.synapse.in_channels),)
    raise _refusal(index, block, "the shape of its input is not known", "Give export a sample.")


def _read_input(index: int, block: Block, input_shape: tuple[int, ...]) -> Layer:
    if block.neuron is not None:
        raise _refusal(index, block, "an Input with neurons is not connected by netx", "Encode the input beforehand.")
    if block.input_shape is None:
        raise _refusal(index, block, "it never ran forward, so its shape is not known", "Give export a sample.")
    return Input(tuple(int(size) for size in block.input_shape), bool(block.delay_shift))


def _read_flatten(index: int, block: Block, input_shape: tuple[int, ...]) -> Layer:
    return Flatten((int(np.prod(input_shape)),))


def _read_dense(index: int, block: Block, input_shape: tuple[int, ...]) -> Layer:
    _refuse_norm(index, block)
    weight = _weight(index, block)
    return Dense(
        weight=weight.reshape(weight.shape[0], -1),
        neuron=_read_neuron(index, block),
        delay=_read_delay(index, block),
        delay_shift=bool(block.delay_shift),
    )


def _read_conv(index: int, block: Block, input_shape: tuple[int, ...]) -> Layer:
    _refuse_norm(index, block)
    if block.delay is not None:
        raise _refusal(index, block, "netx drops a convolution's axonal delay", "Use delay=False in this block.")
    synapse = block.synapse
    return Conv(
        weight=_weight(index, block)[..., 0],
        neuron=_read_neuron(index, block),
        input_shape=input_shape,
        stride=_pair(synapse.stride),
        padding=_pair(synapse.padding),
        dilation=_pair(synapse.dilation),
        groups=int(synapse.groups),
        delay_shift=bool(block.delay_shift),
    )


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _refuse_norm(index: int, block: Block) -> None:
    if block.neuron.norm is not None:
        raise _refusal(
            index, block, f"its norm {type(block.neuron.norm).__name__} is not supported", "Train without norm."
        )


def _weight(index: int, block: Block) -> IntArray:
    """The integer weights that the forward pass uses: weight norm, mask and quantisation applied."""
    synapse = block.synapse
    weight = _unhooked_weight(synapse)
    if getattr(block, "mask", None) is not None:
        weight = weight * block.mask
    if synapse.pre_hook_fx is not None:
        weight = synapse.pre_hook_fx(weight)
    scaled = (weight.detach().double() * block.neuron.w_scale).cpu().numpy()
    rounded = np.rint(scaled)
    if not np.array_equal(scaled, rounded):
        raise _refusal(
            index,
            block,
            "its weights are not quantised, so no chip can hold them",
            "Use pre_hook_fx=neuron.quantize_8bit, the default.",
        )
    array: IntArray = rounded.astype(np.int64)
    return array


def _unhooked_weight(synapse: Any) -> torch.Tensor:
    """The weight as the next forward will compute it; under weight norm, the attribute is that of the last one."""
    for hook in synapse._forward_pre_hooks.values():
        if type(hook).__name__ == "WeightNorm":
            weight: torch.Tensor = hook.compute_weight(synapse)
            return weight
    plain: torch.Tensor = synapse.weight
    return plain


def _read_delay(index: int, block: Block) -> IntArray | None:
    if block.delay is None:
        return None
    delay: IntArray = torch.floor(block.delay.delay.detach()).cpu().numpy().astype(np.int64).reshape(-1)
    delay = np.maximum(delay, 0)
    if delay.max() > _MAX_DELAY:
        raise _refusal(index, block, f"an axonal delay of {delay.max()} steps", f"Loihi's limit is {_MAX_DELAY}.")
    return delay


def _read_neuron(index: int, block: Block) -> CubaNeuron:
    neuron = block.neuron
    if neuron.graded_spike:
        raise _refusal(index, block, "netx makes graded CUBA spikes binary", "Train with graded_spike=False.")
    threshold = int(neuron.v_th_mant)
    if not 0 < threshold < min(2**_THRESHOLD_BITS, _MAX_EXACT_THRESHOLD):
        raise _refusal(
            index,
            block,
            f"threshold {neuron.threshold} has the mantissa {threshold}",
            f"It has to lie between 1 and {_MAX_EXACT_THRESHOLD - 1}, beyond which SLAYER itself rounds it.",
        )
    return CubaNeuron(
        threshold=threshold,
        current_decay=_decay(index, block, neuron.current_decay),
        voltage_decay=_decay(index, block, neuron.voltage_decay),
    )


def _decay(index: int, block: Block, parameter: torch.Tensor) -> IntArray:
    decay: IntArray = torch.round(parameter.detach()).clamp(0, 4096).cpu().numpy().astype(np.int64).reshape(-1)
    return decay


_READERS: dict[str, Callable[[int, Block, tuple[int, ...]], Layer]] = {
    "cuba.Input": _read_input,
    "cuba.Flatten": _read_flatten,
    "cuba.Dense": _read_dense,
    "cuba.Conv": _read_conv,
}
_SPIKING = {"cuba.Dense", "cuba.Conv"}
