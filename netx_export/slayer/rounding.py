"""``round_parameters``: trained parameters that no file can hold become the nearest that one can."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lava_spikeloss.slayer_blocks import passes_over_norm
from netx_export.network.fixed_point import MAX_BIAS, MIN_BIAS, WEIGHT_SCALE
from netx_export.slayer.blocks import Block, family, find_blocks, kind
from netx_export.slayer.describing import SUMS, refuse_not_finite
from netx_export.slayer.reading import DECAY_LIMITS, decay_of_forward, nearest_sigma_delta_threshold

__all__ = ["RoundedParameter", "round_parameters"]


@dataclass(frozen=True)
class RoundedParameter:
    """A parameter that was changed.

    Attributes:
        name: its name in ``net.named_parameters()``.
        before: what it held, in SLAYER's own units: a number, or one for each neuron or channel.
        after: what it holds now.
    """

    name: str
    before: float | tuple[float, ...]
    after: float | tuple[float, ...]


def round_parameters(net: nn.Module) -> list[RoundedParameter]:
    """Change trained parameters that a netx file cannot hold, in place, to the nearest values that it can.

    - Thresholds of sigma-delta neurons: whole numbers of 1/64, from 1/64 to 4095/64, and one for all neurons of a
      layer. Where they differ, it is the one nearest to their mean.
    - Biases of sigma-delta neurons that ``set_bias`` has set: whole numbers of 1/64.
    - Decays of CUBA neurons, in units of 1/4096, that SLAYER itself rounds to a number which Loihi has no room for:
      ``current_decay`` from 1 to 4096, ``voltage_decay`` from 0 to 4095.

    Nothing else is changed, and nothing at all by :func:`netx_export.export`. A network does something else afterwards,
    if by little: evaluate it. If that is not good enough, train it on with the rounded parameters frozen.

    Args:
        net: a module whose SLAYER blocks form a chain, after its training.

    Returns:
        What was changed, in the order of the network; nothing the second time.

    Raises:
        ExportError: if the network holds no SLAYER block, parameters outside of them, or numbers that are not finite.
        TypeError: if ``net`` is no module.

    Example:
        >>> import lava.lib.dl.slayer as slayer  # doctest: +SKIP
        >>> for change in round_parameters(net):  # doctest: +SKIP
        ...     print(change.name, change.before, change.after)
        ...     net.get_parameter(change.name).requires_grad_(False)
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"Expected argument `net` to be a torch.nn.Module but got {type(net).__name__}.")
    blocks = find_blocks(net)
    for index, block in enumerate(blocks):
        refuse_not_finite(index, block)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    changed = []
    with torch.no_grad():
        for parameter, nearest in (pair for block in blocks for pair in _nearest(block)):
            if not torch.equal(parameter, nearest):
                changed.append(RoundedParameter(names[id(parameter)], _numbers(parameter), _numbers(nearest)))
                parameter.copy_(nearest)
    return changed


def _nearest(block: Block) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The parameters of a block that have limits in a file, each with the nearest values within them."""
    neuron: Any = getattr(block, "neuron", None)
    if family(block) == "sigma_delta" and hasattr(neuron, "delta") and kind(block) not in SUMS:
        threshold = neuron.delta.threshold
        yield threshold, torch.full_like(threshold, nearest_sigma_delta_threshold(threshold) / WEIGHT_SCALE)
        if neuron.bias_is_set and not passes_over_norm(block):
            mantissas = (neuron.bias * WEIGHT_SCALE).round().clamp(MIN_BIAS, MAX_BIAS)
            yield neuron.bias, mantissas / WEIGHT_SCALE
    if family(block) == "cuba" and neuron is not None and not kind(block).endswith(".Affine"):
        for name, (low, high) in DECAY_LIMITS.items():
            yield getattr(neuron, name), _within(neuron, getattr(neuron, name), low, high)


def _within(neuron: Any, decay: torch.Tensor, low: int, high: int) -> torch.Tensor:
    """Decays that are within the limits when rounded, as they are; the others at the nearest limit."""
    rounded = decay_of_forward(neuron, decay).round()
    return torch.where((rounded >= low) & (rounded <= high), decay, rounded.clamp(low, high))


def _numbers(parameter: torch.Tensor) -> float | tuple[float, ...]:
    values: list[float] = parameter.flatten().tolist()
    return values[0] if len(values) == 1 else tuple(values)
