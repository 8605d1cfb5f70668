"""Long sequences: step by step, in chunks, or with time merged into the batch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from lava_spikeloss.arguments import check_spikes
from lava_spikeloss.slayer_blocks import is_stateful, merged_steps, named
from lava_spikeloss.training.step_mode import Carry, streaming

__all__ = ["chunk_multi_step_forward", "multi_step_forward", "seq_to_ann_forward"]


def multi_step_forward(x: torch.Tensor, net: torch.nn.Module) -> torch.Tensor:
    r"""Run ``net`` over the steps of ``x`` one at a time, with state carried between them.

    The output is that of ``net(x)``. ``net`` is called with each step as ``(N, C, ..., 1)``, so any net for whole
    sequences works. In training the graph between blocks is kept over all steps. SLAYER stores the states of its
    neurons without a graph, so the gradient leaves out the paths through the membranes. For back-propagation through
    time use ``net(x)``.

    A net in step mode ``"s"`` goes on from its state; any other starts at rest, and its old state is put back
    afterwards.

    Args:
        x: input ``(N, C, ..., T)``.
        net: a net of SLAYER blocks and stateless modules.

    Returns:
        The output ``(N, C, ..., T)``.

    Raises:
        TypeError: if ``x`` is not a tensor.
        ValueError: if ``x`` has fewer than three dimensions.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = slayer.block.cuba.Dense(neuron, 4, 4)
        >>> x = torch.ones(1, 4, 8)
        >>> torch.equal(multi_step_forward(x, net), net(x))
        True
    """
    check_spikes("x", x, min_dims=3)
    with streaming(net, Carry(keep_graph=True)):
        return torch.cat([net(step) for step in _pieces(1, x)], dim=-1)


def chunk_multi_step_forward(split: int, x: torch.Tensor, net: torch.nn.Module) -> torch.Tensor:
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
        net: a net of SLAYER blocks and stateless modules.

    Returns:
        The output ``(N, C, ..., T)``.

    Raises:
        TypeError: if ``x`` is not a tensor or ``split`` not an integer.
        ValueError: if ``x`` has fewer than three dimensions, ``split`` is below one, or a TimeDecimation block would
            average steps of two chunks into one.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = slayer.block.cuba.Dense(neuron, 4, 4)
        >>> x = torch.ones(1, 4, 8)
        >>> torch.equal(chunk_multi_step_forward(3, x, net), net(x))
        True
    """
    check_spikes("x", x, min_dims=3)
    _check_split(split, net)
    with streaming(net, Carry()):
        return torch.cat([net(chunk) for chunk in _pieces(split, x)], dim=-1)


def _pieces(split: int, x: torch.Tensor) -> Iterator[torch.Tensor]:
    return (x[..., start : start + split] for start in range(0, x.shape[-1], split))


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


def seq_to_ann_forward(x: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
    r"""Run a stateless module over all steps at once, with time merged into the batch.

    .. math:: y[..., t] = f(x[..., t]) \text{, computed as one call on } (N \cdot T, C, ...)

    Batch norm inside ``module`` takes its statistics over samples and steps together.

    Args:
        x: input ``(N, C, ..., T)``.
        module: a module that maps ``(B, C, ...)`` to ``(B, ...)``, each sample by itself or through batch statistics.

    Returns:
        The output ``(N, ..., T)``.

    Raises:
        TypeError: if ``x`` is not a tensor.
        ValueError: if ``x`` has fewer than three dimensions, or ``module`` holds neurons with state.

    Example:
        >>> x = torch.rand(2, 3, 8, 8, 5)
        >>> seq_to_ann_forward(x, torch.nn.Conv2d(3, 4, 3)).shape
        torch.Size([2, 4, 6, 6, 5])
    """
    check_spikes("x", x, min_dims=3)
    for part in module.modules():
        if is_stateful(part):
            raise ValueError(
                f"Expected argument `module` to be stateless but {named(module, part)} keeps a state over time: "
                "call `multi_step_forward` or the module itself."
            )
    steps = x.movedim(-1, 1)
    y: torch.Tensor = module(steps.flatten(0, 1))
    return y.reshape(*steps.shape[:2], *y.shape[1:]).movedim(1, -1)
