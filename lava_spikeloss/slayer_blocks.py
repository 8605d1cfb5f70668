"""Which modules are SLAYER's, and which state they hold: the one place that knows, for both packages.

Modules are recognised by the attributes that they work with. So nothing here imports Lava, and subclasses of a SLAYER
block, and blocks of your own that are built alike, are treated as SLAYER's own. The attributes have to be those of the
module itself: a wrapper that hands on what it wraps, such as ``torch.compile`` makes, is not a second block.

Only :func:`kind`, :func:`synapse_kind`, :func:`is_delta` and :func:`is_sigma` go by class. An export has to know which
module of lava-dl it reads, and accepts nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

__all__ = [
    "HELD_BACK",
    "STATES",
    "effective_weight",
    "family",
    "is_affine",
    "is_any_block",
    "is_block",
    "is_bootstrap",
    "is_delay",
    "is_delta",
    "is_kwta",
    "is_leaky",
    "is_neuron",
    "is_norm",
    "is_pool",
    "is_recurrent",
    "is_sigma",
    "is_spiking",
    "is_stateful",
    "is_synapse",
    "kind",
    "kwta_feedback",
    "merged_steps",
    "named",
    "passes_over_norm",
    "self_feeding_neurons",
    "shifts_output",
    "spiking_blocks",
    "states",
    "synapse_kind",
    "synapses",
    "weight_magnitude",
]

HELD_BACK = (  # spikes on their way out; None before the first forward
    "delay_buffer",  # by the one-step shift of a block
    "delay_history",  # by an axonal delay in step mode "s"; ours, since SLAYER drops it
)
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
    *HELD_BACK,
)

_BLOCK_PACKAGES = ("lava.lib.dl.slayer.block.", "lava.lib.dl.bootstrap.block.")


def _has(module: torch.nn.Module, *names: str) -> bool:
    """Whether a module has these attributes itself, and does not hand on those of a module that it wraps."""
    own = (vars(module), module._parameters, module._buffers, module._modules)
    return all(any(name in place for place in own) or hasattr(type(module), name) for name in names)


# -- blocks ------------------------------------------------------------------------------------------------------------


def is_any_block(module: torch.nn.Module) -> bool:
    """A SLAYER block, with neurons or without: Flatten, Average, TimeDecimation, an Input of spikes."""
    return _has(module, "count_log")


def is_block(module: torch.nn.Module) -> bool:
    """A SLAYER block with neurons."""
    return is_any_block(module) and isinstance(module._modules.get("neuron"), torch.nn.Module)


def is_affine(module: torch.nn.Module) -> bool:
    """An Affine block, whose output is a voltage, or without dynamics the current of its synapse."""
    return is_block(module) and isinstance(getattr(module, "dynamics", None), bool)


def is_spiking(module: torch.nn.Module) -> bool:
    """A block whose output is events: not a voltage, as of Affine, and not a sum, as of sigma-delta's Output."""
    return is_block(module) and not is_affine(module) and kind(module) != "sigma_delta.Output"


def is_recurrent(module: torch.nn.Module) -> bool:
    """A Recurrent block."""
    return is_block(module) and isinstance(module._modules.get("recurrent_synapse"), torch.nn.Module)


def is_kwta(module: torch.nn.Module) -> bool:
    """A K-winner-takes-all block."""
    return is_block(module) and _has(module, "num_winners")


def is_pool(module: torch.nn.Module) -> bool:
    """A Pool or Unpool block."""
    return kind(module).endswith((".Pool", ".Unpool"))


def is_bootstrap(module: torch.nn.Module) -> bool:
    """A block of ``lava.lib.dl.bootstrap``, whose forward runs as spiking neurons or as their rates."""
    return hasattr(type(module), "_forward_snn")


def merged_steps(module: torch.nn.Module) -> int:
    """How many steps a TimeDecimation block averages into one; 1 for any other module."""
    factor = getattr(module, "factor", None)
    return factor if is_any_block(module) and isinstance(factor, int) else 1


def shifts_output(block: Any) -> bool:
    """Whether ``block`` puts out its spikes a step later: sigma-delta's Input takes that option and ignores it."""
    ignored = hasattr(block.neuron, "delta") and not hasattr(block, "synapse")
    return getattr(block, "delay_shift", False) is True and not ignored


def passes_over_norm(module: torch.nn.Module) -> bool:
    """A sigma-delta Input or Output, which calls a part of its neuron, and never the norm that lies there."""
    return kind(module) in ("sigma_delta.Input", "sigma_delta.Output")


def spiking_blocks(net: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Name and module of every block in ``net`` whose output is events."""
    return ((name, module) for name, module in net.named_modules() if is_spiking(module))


def kind(module: torch.nn.Module) -> str:
    """The block of lava-dl that a module is or derives from, as ``"cuba.Dense"``; empty if it is none."""
    return _class_in(module, *_BLOCK_PACKAGES)


def _class_in(module: torch.nn.Module, *packages: str) -> str:
    """The class of these packages that a module is of or derives from; empty if there is none."""
    for base in type(module).__mro__:
        for package in packages:
            if base.__module__.startswith(package):
                return f"{base.__module__.removeprefix(package)}.{base.__qualname__}".removeprefix(".")
    return ""


def family(block: torch.nn.Module) -> str:
    """The kind of neurons that a block of lava-dl is made of: ``"cuba"``, ``"rf"`` and so on."""
    return kind(block).partition(".")[0]


# -- neurons, delays, norms and their state ----------------------------------------------------------------------------


def is_stateful(module: torch.nn.Module) -> bool:
    """A neuron, or its sigma or delta part."""
    return isinstance(vars(module).get("persistent_state"), bool) and not is_block(module)


def is_neuron(module: torch.nn.Module) -> bool:
    """A SLAYER neuron."""
    return is_stateful(module) and _has(module, "w_scale", "debug")


def is_leaky(module: torch.nn.Module) -> bool:
    """A neuron with SLAYER's current and voltage integrators: CUBA, ALIF."""
    return is_neuron(module) and _has(module, "current_decay", "voltage_decay")


def is_delay(module: torch.nn.Module) -> bool:
    """A learnable axonal delay."""
    return _has(module, "max_delay") and isinstance(getattr(module, "delay", None), torch.Tensor)


def is_norm(module: object) -> bool:
    """One of SLAYER's norms."""
    return isinstance(module, torch.nn.Module) and _has(module, "running_mean", "pre_hook_fx")


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


# -- synapses ----------------------------------------------------------------------------------------------------------


def is_synapse(module: torch.nn.Module) -> bool:
    """A SLAYER synapse with a weight of its own; of a complex one, each of its two parts."""
    return _has(module, "weight_norm_enabled") and isinstance(getattr(module, "weight", None), torch.Tensor)


def synapses(net: torch.nn.Module) -> Iterator[tuple[tuple[str, str], torch.nn.Module]]:
    """``(block, name)`` and module of every SLAYER synapse of ``net`` that its block calls.

    The recurrent synapse of a Recurrent block is not among them, since the block only reads its weight.
    """
    modules = dict(net.named_modules())
    blocks: list[Any] = [module for module in modules.values() if is_recurrent(module)]
    only_read = {part for block in blocks for part in block.recurrent_synapse.modules()}
    for name, module in modules.items():
        if not is_synapse(module) or module in only_read:
            continue
        parts = name.split(".")
        above = (".".join(parts[:length]) for length in range(len(parts) - 1, -1, -1))
        block = next((prefix for prefix in above if is_block(modules[prefix])), name)
        yield (block, name), module


def effective_weight(synapse: Any, weight: torch.Tensor) -> torch.Tensor:
    """``weight`` as the forward of ``synapse`` uses it: quantised, if it quantises."""
    quantise = getattr(synapse, "_pre_hook_fx", None)
    effective: torch.Tensor = weight if quantise is None else quantise(weight)
    return effective


def kwta_feedback(block: Any) -> torch.Tensor:
    """The weights ``(out, in)`` by which the neurons of a K-winner-takes-all block drive each other, quantised."""
    excitation = block.self_excitation.detach().clamp(0, 1)  # as the forward does
    weight = (1 + excitation) * torch.eye(block.num_neurons, device=excitation.device) - 1
    quantise = block.neuron.quantize_8bit
    quantised: torch.Tensor = weight if quantise is None else quantise(weight)
    return quantised


def weight_magnitude(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """The norm of ``weight`` over the dimensions that the weight norm of ``layer`` normalises."""
    over_all = layer.weight_g.dim() == 0
    normed_over = None if over_all else [dim for dim, size in enumerate(layer.weight_g.shape) if size == 1]
    norm: torch.Tensor = torch.linalg.vector_norm(weight, dim=normed_over, keepdim=not over_all)
    return norm


def synapse_kind(module: torch.nn.Module) -> str:
    """The synapse of lava-dl that a module is or derives from, as ``"Conv"``; empty if it is none."""
    return _class_in(module, "lava.lib.dl.slayer.synapse.layer")


def is_delta(module: torch.nn.Module) -> bool:
    """lava-dl's ``axon.Delta``, which sends on what changes."""
    return _class_in(module, "lava.lib.dl.slayer.axon.delta") == "Delta"


def is_sigma(module: torch.nn.Module) -> bool:
    """lava-dl's ``dendrite.Sigma``, which sums up what it gets."""
    return _class_in(module, "lava.lib.dl.slayer.dendrite.sigma") == "Sigma"


# -- messages ----------------------------------------------------------------------------------------------------------


def named(net: torch.nn.Module, module: torch.nn.Module) -> str:
    """The path of ``module`` in ``net``, for messages."""
    for name, candidate in net.named_modules():
        if candidate is module:
            return f"`{name or 'net'}` ({type(module).__name__})"
    return type(module).__name__
