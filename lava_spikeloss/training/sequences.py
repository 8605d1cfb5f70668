"""Long sequences: step by step, in chunks, or with time merged into the batch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from lava_spikeloss.arguments import check_spikes
from lava_spikeloss.peers import also_called
from lava_spikeloss.slayer_blocks import is_stateful, merged_steps, named
from lava_spikeloss.training.step_mode import Carry, streaming

__all__ = ["chunk_multi_step_forward", "multi_step_forward", "seq_to_ann_forward"]

Net: TypeAlias = "torch.nn.Module | Sequence[torch.nn.Module]"


@also_called(x_seq="x", single_step_module="net")
def multi_step_forward(x: torch.Tensor, net: Net) -> Any:
    r"""Run ``net`` over the steps of ``x`` one at a time, with state carried between them.

    The output is that of ``net(x)``. ``net`` is called with each step as ``(N, C, ..., 1)``, so any net for whole
    sequences works. In training the graph between blocks is kept over all steps. SLAYER stores the states of its
    neurons without a graph, so the gradient leaves out the paths through the membranes. For back-propagation through
    time use ``net(x)``.

    A net in step mode ``"s"`` goes on from its state; any other starts at rest, and its old state is put back
    afterwards.

    Args:
        x: input ``(N, C, ..., T)``.
        net: a net of SLAYER blocks and stateless modules, or a list of them to run in turn.

    Returns:
        The output ``(N, C, ..., T)``. A net may return several, in tuples, lists or dictionaries, each with time last.

    Raises:
        TypeError: if ``x`` is not a tensor, ``net`` holds anything but modules, or it returns anything but tensors.
        ValueError: if ``x`` has fewer than three dimensions, a TimeDecimation block would average steps, or an output
            is not ``(N, C, ..., T)`` with the step that went in.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = slayer.block.cuba.Dense(neuron, 4, 4)
        >>> x = torch.ones(1, 4, 8)
        >>> torch.equal(multi_step_forward(x, net), net(x))
        True
    """
    check_spikes("x", x, min_dims=3)
    net = _one_module("net", net)
    factor = math.prod(merged_steps(module) for module in net.modules())
    if factor > 1:
        raise ValueError(
            f"Expected argument `net` to keep every step but TimeDecimation in it averages {factor} into one. Call "
            f"`chunk_multi_step_forward` with a `split` that is a multiple of {factor}."
        )
    with streaming(net, Carry(keep_graph=True)):
        return _joined(net, x, 1)


@also_called(split_size="split", x_seq="x", multi_step_module="net")
def chunk_multi_step_forward(split: int, x: torch.Tensor, net: Net) -> Any:
    r"""Run ``net`` over chunks of ``split`` steps, with state carried between them.

    The output is that of ``net(x)``, bit for bit, as long as the norms are in evaluation mode (in training a norm uses
    the statistics of one chunk), dropout is off, and the neurons' ``scale`` is a power of two, as it is by default, so
    that a float holds a state exactly. The last chunk may be shorter. Under ``torch.no_grad()`` the memory for
    intermediate results is that of one chunk, however long the sequence; otherwise each chunk keeps its graph. What is
    carried is detached: this is back-propagation through time, truncated at the borders of the chunks.

    A net in step mode ``"s"`` goes on from its state; any other starts at rest, and its old state is put back
    afterwards.

    Args:
        split: steps per chunk.
        x: input ``(N, C, ..., T)``.
        net: a net of SLAYER blocks and stateless modules, or a list of them to run in turn.

    Returns:
        The output ``(N, C, ..., T)``. A net may return several, in tuples, lists or dictionaries, each with time last.

    Raises:
        TypeError: if ``x`` is not a tensor, ``split`` not an integer, ``net`` holds anything but modules, or it returns
            anything but tensors.
        ValueError: if ``x`` has fewer than three dimensions, ``split`` is below one, a TimeDecimation block would
            average steps of two chunks into one, or an output is not ``(N, C, ..., T)`` with the steps that went in,
            or what TimeDecimation makes of them. (One without time, of which another dimension has the size of every
            chunk, cannot be told from that.)

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = slayer.block.cuba.Dense(neuron, 4, 4)
        >>> x = torch.ones(1, 4, 8)
        >>> torch.equal(chunk_multi_step_forward(3, x, net), net(x))
        True
    """
    check_spikes("x", x, min_dims=3)
    net = _one_module("net", net)
    _check_split(split, net)
    with streaming(net, Carry()):
        return _joined(net, x, split)


def _one_module(argument: str, net: Net) -> torch.nn.Module:
    """A list of modules as one that runs them in turn."""
    if isinstance(net, torch.nn.Module) and not isinstance(net, torch.nn.ModuleList):
        return net
    if not isinstance(net, Sequence | torch.nn.ModuleList) or not all(isinstance(m, torch.nn.Module) for m in net):
        raise TypeError(f"Expected argument `{argument}` to be a torch.nn.Module or a list of them but got {net!r}.")
    return torch.nn.Sequential(*net)


def _joined(net: torch.nn.Module, x: torch.Tensor, split: int) -> Any:
    """What ``net`` returns for each piece of ``split`` steps, as it would return it for the whole sequence."""
    given = x.split(split, dim=-1)
    outputs = [net(piece) for piece in given]
    merged = {1}  # an output may lie before or behind a TimeDecimation: how many steps it may have averaged into one
    for module in net.modules():
        merged |= {steps * merged_steps(module) for steps in merged}

    def join(pieces: list[torch.Tensor]) -> torch.Tensor:
        fitting = merged
        for piece, length in zip(pieces, (chunk.shape[-1] for chunk in given), strict=True):
            fitting = {steps for steps in fitting if piece.dim() > 2 and piece.shape[-1] == -(-length // steps)}
            if not fitting:
                raise ValueError(
                    f"Expected `net` to return outputs (N, C, ..., T) with time as their last dimension but got one of "
                    f"shape {tuple(piece.shape)} for {length} steps. Reduce over time after the whole sequence."
                )
        return torch.cat(pieces, dim=-1)

    return _combined(join, outputs) if len(outputs) > 1 else outputs[0]


def _combined(combine: Callable[[list[torch.Tensor]], torch.Tensor], outputs: list[Any]) -> Any:
    """Several outputs of the same structure as one, in which ``combine`` joins the tensors of each place."""
    first = outputs[0]
    if isinstance(first, torch.Tensor):
        return combine(outputs)
    if isinstance(first, dict):
        combined = copy.copy(first)  # copied, so that an OrderedDict, or a class of the user's, stays what it is
        combined.update({key: _combined(combine, [output[key] for output in outputs]) for key in first})
        return combined
    if isinstance(first, tuple | list):
        parts = [_combined(combine, list(group)) for group in zip(*outputs, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if first is None:
        return None
    raise TypeError(
        f"Expected the module to return tensors, or tuples, lists and dictionaries of them, but got "
        f"{type(first).__name__}."
    )


def _check_split(split: int, net: torch.nn.Module) -> None:
    if isinstance(split, bool) or not isinstance(split, int):
        raise TypeError(f"Expected argument `split` to be an int but got {type(split).__name__}.")
    if split < 1:
        raise ValueError(f"Expected argument `split` to be at least 1 but got {split}.")
    factor = math.prod(merged_steps(module) for module in net.modules())
    if split % factor:
        raise ValueError(
            f"Expected argument `split` to be a multiple of {factor}, the steps that TimeDecimation in `net` averages "
            f"into one, but got {split}."
        )


@also_called(x_seq="x", stateless_module="module")
def seq_to_ann_forward(x: torch.Tensor, module: Net) -> Any:
    r"""Run a stateless module over all steps at once, with time merged into the batch.

    .. math:: y[..., t] = f(x[..., t]) \text{, computed as one call on } (N \cdot T, C, ...)

    Batch norm inside ``module`` takes its statistics over samples and steps together.

    Args:
        x: input ``(N, C, ..., T)``.
        module: a module that maps ``(B, C, ...)`` to ``(B, ...)``, each sample by itself or through batch statistics,
            or a list of them to run in turn.

    Returns:
        The output ``(N, ..., T)``. A module may return several, in tuples, lists or dictionaries.

    Raises:
        TypeError: if ``x`` is not a tensor, ``module`` is none, or it returns anything but tensors.
        ValueError: if ``x`` has fewer than three dimensions, ``module`` holds neurons with state, or an output is not
            ``(B, ...)``.

    Example:
        >>> x = torch.rand(2, 3, 8, 8, 5)
        >>> seq_to_ann_forward(x, torch.nn.Conv2d(3, 4, 3)).shape
        torch.Size([2, 4, 6, 6, 5])
    """
    check_spikes("x", x, min_dims=3)
    module = _one_module("module", module)
    for part in module.modules():
        if is_stateful(part):
            raise ValueError(
                f"Expected argument `module` to be stateless but {named(module, part)} keeps a state over time: "
                "call `multi_step_forward` or the module itself."
            )
    steps = x.movedim(-1, 1)
    samples, length = steps.shape[:2]

    def unmerged(outputs: list[torch.Tensor]) -> torch.Tensor:
        (y,) = outputs
        if y.shape[:1] != (samples * length,):
            raise ValueError(
                f"Expected `module` to return one output for each of the {samples * length} samples and steps but got "
                f"one of shape {tuple(y.shape)}."
            )
        return y.reshape(samples, length, *y.shape[1:]).movedim(1, -1)

    return _combined(unmerged, [module(steps.flatten(0, 1))])
