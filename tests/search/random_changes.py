"""What people do to a network after they built it: one small function for each, by name, done to one of its blocks.

A function that does not apply to a block returns without a change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

Change = Callable[[Any], object]


def _synapses(block: Any) -> list[Any]:
    """All real synapses of a block."""
    found = [getattr(block, name, None) for name in ("synapse", "input_synapse", "recurrent_synapse")]
    return [part for synapse in found if synapse is not None for part in _parts(synapse)]


def _parts(synapse: Any) -> list[Any]:
    return [synapse.real, synapse.imag] if synapse.complex else [synapse]


def _to_synapses(change: Callable[[Any], object]) -> Change:
    def to_all(block: Any) -> None:
        for synapse in _synapses(block):
            change(synapse)

    return to_all


def _to_neuron(*needed: str) -> Callable[[Callable[[Any], object]], Change]:
    """A change of a block's neuron, if there is one that has these attributes."""

    def decorate(change: Callable[[Any], object]) -> Change:
        def to_neuron(block: Any) -> None:
            neuron = getattr(block, "neuron", None)
            if neuron is not None and all(hasattr(neuron, name) for name in needed):
                change(neuron)

        return to_neuron

    return decorate


def _set(name: str, value: Callable[[Any], Any]) -> Change:
    """The attribute of the neuron, made of what it was."""
    return _to_neuron(name)(lambda neuron: setattr(neuron, name, value(getattr(neuron, name))))


def _set_block(name: str, value: Callable[[Any], Any]) -> Change:
    def change(block: Any) -> None:
        if hasattr(block, name):
            setattr(block, name, value(getattr(block, name)))

    return change


def _add_to_data(name: str, amount: float) -> Change:
    return _to_neuron(name)(lambda neuron: setattr(getattr(neuron, name), "data", getattr(neuron, name).data + amount))


class _Halved(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


class _AlwaysDrop(nn.Module):
    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return spikes * torch.arange(spikes.shape[-1]).remainder(3).ne(0)


def _step(synapse: Any) -> None:
    """What an optimiser does: all parameters of the synapse move."""
    for parameter in synapse.parameters():
        parameter.data.mul_(1.3).add_(0.05)


def _pruned(synapse: Any) -> None:
    if isinstance(synapse._parameters.get("weight"), nn.Parameter):
        prune.random_unstructured(synapse, "weight", 0.5)


def _pruned_then_trained(synapse: Any) -> None:
    _pruned(synapse)
    _step(synapse)


def _old_spectral_norm(synapse: Any) -> None:
    if isinstance(synapse._parameters.get("weight"), nn.Parameter):
        nn.utils.spectral_norm(synapse)
        _step(synapse)


def _spectral_norm(synapse: Any) -> None:
    if isinstance(synapse._parameters.get("weight"), nn.Parameter):
        parametrizations.spectral_norm(synapse)
        _step(synapse)


def _parametrized(synapse: Any) -> None:
    if isinstance(synapse._parameters.get("weight"), nn.Parameter):
        parametrize.register_parametrization(synapse, "weight", _Halved())


def _wrapped_quantiser(change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    def rewrap(synapse: Any) -> None:
        quantise = synapse._pre_hook_fx
        if quantise is not None:
            synapse._pre_hook_fx = lambda weight, descale=False: change(quantise(weight, descale))

    return _to_synapses(rewrap)


def _bias(synapse: Any) -> None:
    synapse.bias = nn.Parameter(torch.full((synapse.out_channels,), 0.5))


def _block_bias(block: Any) -> None:
    block.bias = torch.tensor(0.5)


def _mask_of_halves(block: Any) -> None:
    if getattr(block, "mask", None) is not None:
        block.mask = block.mask * 0.5


def _half_of_the_output(block: Any) -> None:
    block.register_forward_hook(
        lambda module, args, output: output * output.flip(1) if torch.is_tensor(output) else output
    )


def _flip_in_forward(block: Any) -> None:
    own = block.forward
    block.forward = lambda *args, **kwargs: own(*args, **kwargs).flip(1)


def _with_delay(change: Callable[[Any], object]) -> Change:
    def to_delay(block: Any) -> None:
        if getattr(block, "delay", None) is not None:
            change(block.delay)

    return to_delay


def _move_norm(neuron: Any) -> None:
    if neuron.norm is not None:
        neuron.norm.running_mean = neuron.norm.running_mean + 0.71


def _unquantised_norm(neuron: Any) -> None:
    if neuron.norm is not None:
        neuron.norm.running_mean = neuron.norm.running_mean + 0.71
        neuron.norm.pre_hook_fx = lambda values, descale=False: values


def _norm_with_a_hook(neuron: Any) -> None:
    if neuron.norm is not None:
        neuron.norm.register_forward_hook(lambda module, args, output: output + 0.5)


def _sigma_delta_bias(neuron: Any) -> None:
    if neuron.shape is not None:  # those of an Output block never learn it
        neuron.set_bias(torch.full(tuple(neuron.shape), 0.3))


def _own_spike(neuron: Any) -> None:
    own = neuron.spike
    neuron.spike = lambda voltage: own(voltage) * own(voltage).roll(1, -1)


def _subclass(block: Any) -> None:
    base = type(block)
    block.__class__ = type("Doubling", (base,), {"forward": lambda self, x, **mode: base.forward(self, 2 * x, **mode)})


def _own_quantiser(neuron: Any) -> None:
    own = neuron.quantize_8bit
    neuron.quantize_8bit = lambda weight, descale=False: own(weight, descale) * 2


def _fill(value: float) -> Change:
    return _to_synapses(lambda synapse: [parameter.data.fill_(value) for parameter in synapse.parameters()])


def _change_output(net: nn.Module) -> None:
    net.register_forward_hook(lambda module, args, output: output.flip(1) if torch.is_tensor(output) else output)


def _own_network_forward(net: nn.Module) -> None:
    own = net.forward
    net.forward = lambda x: own(x.flip(1))


# Done to the whole network.
CHANGES_OF_ALL: dict[str, Change] = {
    "hook that looks at the network": lambda net: net.register_forward_hook(lambda module, args, output: None),
    "network hook": _change_output,
    "network pre-hook": lambda net: net.register_forward_pre_hook(lambda module, args: (args[0].flip(1),)),
    "own forward of the network": _own_network_forward,
    "eval does nothing": lambda net: setattr(net, "train", lambda mode=True: net),
    "double": lambda net: net.double(),
    "no gradients": lambda net: net.requires_grad_(False),
}
# After these a file still says all that the network does.
HARMLESS: dict[str, Change] = {
    "no change": lambda block: None,
    "threshold on the grid": _set("_threshold", lambda value: 0.5 if isinstance(value, float) else value),
    "gradient scales": _to_neuron("tau_rho")(lambda neuron: setattr(neuron, "tau_rho", 3.0)),
    "weights move": _to_synapses(_step),
    "frozen": lambda block: block.requires_grad_(False),
    "hook that looks": lambda block: block.register_forward_hook(lambda module, args, output: None),
    "pruned": _to_synapses(_pruned),
    "parametrized": _to_synapses(_parametrized),
    "whole decays": _to_neuron("current_decay", "voltage_decay")(
        lambda neuron: (neuron.current_decay.data.fill_(1000), neuron.voltage_decay.data.fill_(77))
    ),
    "state left over": _to_neuron("current_state")(
        lambda neuron: setattr(neuron, "current_state", torch.full_like(neuron.current_state, 3.0))
    ),
}
CHANGES: dict[str, Change] = {
    **HARMLESS,
    "threshold off the grid": _set("_threshold", lambda value: value + 0.006 if isinstance(value, float) else value),
    "threshold_eps": _set("threshold_eps", lambda value: 0.3),
    "w_scale": _set("w_scale", lambda value: 2 * value),
    "s_scale": _set("s_scale", lambda value: 2 * value),
    "p_scale": _set("p_scale", lambda value: value // 2),
    "graded_spike": _set("graded_spike", lambda value: True),
    "persistent_state": _set("persistent_state", lambda value: True),
    "neuron trained": _set("requires_grad", lambda value: True),
    "decay off the grid": _add_to_data("current_decay", 0.4),
    "decay too high": _add_to_data("current_decay", 5000),
    "decay below zero": _add_to_data("voltage_decay", -4000),
    "resonator decay": _add_to_data("sin_decay", -700.4),
    "resonator gain": _add_to_data("cos_decay", 4000),
    "activation": _set("activation", lambda value: torch.sigmoid),
    "activation relu6": _set("activation", lambda value: nn.functional.relu6),
    "activation hardtanh": _set("activation", lambda value: lambda x: x.clamp(0, 3)),
    "delta threshold": _to_neuron("delta")(lambda neuron: neuron.delta.threshold.data.add_(1 / 64)),
    "delta threshold off the grid": _to_neuron("delta")(lambda neuron: neuron.delta.threshold.data.add_(0.003)),
    "delta scale": _to_neuron("delta")(lambda neuron: setattr(neuron.delta, "scale", 64)),
    "delta cum_error": _to_neuron("delta")(lambda neuron: setattr(neuron.delta, "cum_error", True)),
    "sigma persistent": _to_neuron("sigma")(lambda neuron: setattr(neuron.sigma, "persistent_state", True)),
    "delta persistent": _to_neuron("delta")(lambda neuron: setattr(neuron.delta, "persistent_state", True)),
    "sigma-delta bias": _to_neuron("delta")(_sigma_delta_bias),
    "always drops": _set("drop", lambda value: _AlwaysDrop()),
    "own spike": _to_neuron("spike")(_own_spike),
    "neuron hook": _to_neuron("w_scale")(
        lambda neuron: neuron.register_forward_hook(lambda module, args, output: output.flip(1))
    ),
    "synapse hook": _to_synapses(
        lambda synapse: synapse.register_forward_hook(lambda module, args, output: output + 0.5)
    ),
    "synapse pre-hook": _to_synapses(
        lambda synapse: synapse.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    ),
    "block pre-hook": lambda block: block.register_forward_pre_hook(lambda module, args: (args[0].flip(1), *args[1:])),
    "block hook": _half_of_the_output,
    "own forward": _flip_in_forward,
    "pruned, then trained": _to_synapses(_pruned_then_trained),
    "old spectral norm": _to_synapses(_old_spectral_norm),
    "spectral norm": _to_synapses(_spectral_norm),
    "quantiser doubles": _wrapped_quantiser(lambda weight: 2 * weight),
    "quantiser off the grid": _wrapped_quantiser(lambda weight: weight + 0.004),
    "quantiser of odd steps": _wrapped_quantiser(lambda weight: weight + 1 / 64),
    "quantiser of two signs": _wrapped_quantiser(torch.sign),
    "quantiser that is random": _wrapped_quantiser(lambda weight: weight + torch.randint(0, 2, weight.shape) / 32),
    "synapse bias": _to_synapses(_bias),
    "block bias": _block_bias,
    "mask of halves": _mask_of_halves,
    "delay_shift": _set_block("delay_shift", lambda value: not value),
    "self_excitation": _set_block("self_excitation", lambda value: nn.Parameter(torch.tensor([0.3]))),
    "winners": _set_block("num_winners", lambda value: 1),
    "dynamics": _set_block("dynamics", lambda value: not value),
    "input weight": _set_block("weight", lambda value: None if value is None else nn.Parameter(1.7 * value.detach())),
    "input hook": _set_block("pre_hook_fx", lambda value: lambda x, descale=False: x),
    "delays sampled": _with_delay(lambda delay: setattr(delay, "sampling_time", 2)),
    "delays cut": _with_delay(lambda delay: setattr(delay, "max_delay", 2)),
    "delays off the grid": _with_delay(lambda delay: delay.delay.data.add_(0.7)),
    "norm moves": _to_neuron("norm")(_move_norm),
    "norm not quantised": _to_neuron("norm")(_unquantised_norm),
    "norm with a hook": _to_neuron("norm")(_norm_with_a_hook),
    "stride": _to_synapses(lambda synapse: setattr(synapse, "stride", (1, 1, 1))),
    "groups": _to_synapses(lambda synapse: setattr(synapse, "groups", 1)),
    "subclass": _subclass,
    "own quantiser": _to_neuron("quantize_8bit")(_own_quantiser),
    "weights all high": _fill(10.0),
    "weights all low": _fill(-10.0),
    "weights all zero": _fill(0.0),
    "weights all one step": _fill(1 / 32),
    "double": lambda block: block.double(),
    "half": lambda block: block.half(),
    "not finite": _to_synapses(lambda synapse: next(synapse.parameters()).data.view(-1)[:1].fill_(float("nan"))),
}
