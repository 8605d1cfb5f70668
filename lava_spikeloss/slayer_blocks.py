"""What a SLAYER module looks like from outside.

Modules are recognised by their attributes, so that nothing here imports Lava and a subclass of a SLAYER block is
treated like the block itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

__all__ = [
    "is_block",
    "is_delay",
    "is_kwta",
    "is_leaky",
    "is_neuron",
    "is_recurrent",
    "is_stateful",
    "magnitude",
    "named",
    "self_feeding_neurons",
    "shifts_output",
    "states",
]

STATES = (
    "current_state",
    "voltage_state",
    "real_state",
    "imag_state",
    "threshold_state",
    "refractory_state",
    "pre_state",
    "residual_state",
    "error_state",
    "spike_state",  # last spikes of Recurrent and KWTA
    "delay_buffer",  # what the one-step shift of a block holds back
    "delay_history",  # what an axonal delay holds back; ours, since SLAYER drops it
)


def is_stateful(module: torch.nn.Module) -> bool:
    """A neuron, or its sigma or delta part."""
    return isinstance(getattr(module, "persistent_state", None), bool) and not is_block(module)


def is_neuron(module: torch.nn.Module) -> bool:
    """A SLAYER neuron."""
    return is_stateful(module) and hasattr(module, "w_scale") and hasattr(module, "debug")


def is_leaky(module: torch.nn.Module) -> bool:
    """A neuron with SLAYER's current and voltage integrators: CUBA, ALIF."""
    return is_neuron(module) and hasattr(module, "current_decay") and hasattr(module, "voltage_decay")


def is_delay(module: torch.nn.Module) -> bool:
    """A learnable axonal delay."""
    return hasattr(module, "max_delay") and isinstance(getattr(module, "delay", None), torch.nn.Parameter)


def is_block(module: torch.nn.Module) -> bool:
    """A SLAYER block with a neuron in it."""
    return isinstance(getattr(module, "neuron", None), torch.nn.Module) and hasattr(module, "count_log")


def is_recurrent(module: torch.nn.Module) -> bool:
    """A Recurrent block."""
    return is_block(module) and hasattr(module, "recurrent_synapse")


def is_kwta(module: torch.nn.Module) -> bool:
    """A K-winner-takes-all block."""
    return is_block(module) and hasattr(module, "num_winners")


def shifts_output(block: Any) -> bool:
    """Whether ``block`` puts out its spikes a step later: sigma-delta's Input takes that option and ignores it."""
    ignored = hasattr(block.neuron, "delta") and not hasattr(block, "synapse")
    return getattr(block, "delay_shift", False) is True and not ignored


def self_feeding_neurons(net: torch.nn.Module) -> set[torch.nn.Module]:
    """Neurons that their block calls step by step: their state must persist for SLAYER to work at all."""
    blocks: list[Any] = [module for module in net.modules() if is_recurrent(module) or is_kwta(module)]
    return {part for block in blocks for part in block.neuron.modules() if is_stateful(part)}


def states(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of every state tensor that ``module`` itself holds."""
    if not (is_stateful(module) or is_block(module) or is_delay(module)):
        return
    for name in STATES:
        value = getattr(module, name, None)
        if isinstance(value, torch.Tensor):
            yield name, value


def named(net: torch.nn.Module, module: torch.nn.Module) -> str:
    """The path of ``module`` in ``net``, for messages."""
    for name, candidate in net.named_modules():
        if candidate is module:
            return f"`{name or 'net'}` ({type(module).__name__})"
    return type(module).__name__


def magnitude(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """The norm of ``weight`` over the dimensions that the weight norm of ``layer`` normalises."""
    over_all = layer.weight_g.dim() == 0
    normed_over = None if over_all else [dim for dim, size in enumerate(layer.weight_g.shape) if size == 1]
    norm: torch.Tensor = torch.linalg.vector_norm(weight, dim=normed_over, keepdim=not over_all)
    return norm
