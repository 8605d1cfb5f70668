"""Functions of lava-dl that run over time, in compiled form: each takes the place of one, with its arguments.

Each is given lava-dl's own function too, and calls it for what is not covered: other devices and number types, graded
spikes, second derivatives. The loops of :mod:`loops` run on the CPU and on CUDA; all else that is compiled runs on the
CPU alone. Values and gradients are lava-dl's to the last bit, and so are the strides of what comes out, since what
follows adds up in their order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn.modules import module as all_modules

from lava_spikeloss.compiling import in_threads
from lava_spikeloss.training import compiled_loops, loops
from lava_spikeloss.training.backend import is_lavas, runs_compiled
from lava_spikeloss.training.compiled_delays import spike_apply
from lava_spikeloss.training.compiled_loops import WHOLE
from lava_spikeloss.training.compiled_synapses import covered, plain, sums_are_exact

__all__ = [
    "check_exact",
    "custom_recurrent",
    "filled",
    "leaky_dynamics",
    "one_each",
    "over_neurons",
    "per_row",
    "shared_out",
    "spike",
]

_NEVER = 2**63 - 1
_PIECE = 2**17  # numbers whose surrogate gradient is computed at a time: they stay in the processor's cache


def leaky_dynamics(
    slayers: Any,
    inputs: torch.Tensor,
    decay: torch.Tensor,
    state: torch.Tensor,
    scale: int,
    threshold: float | None = None,
    debug: bool = False,
    *,
    exact: bool = False,
) -> torch.Tensor:
    """``leaky_integrator.dynamics`` of lava-dl, whose module is ``slayers``; with the exact gradient of the decay."""
    if not (covered(inputs, decay, state) and one_each(inputs, decay, state)):
        check_exact(exact and decay.requires_grad)
        result: torch.Tensor = slayers.dynamics(inputs, decay, state, scale, threshold, debug)
        return result
    level = -1 if threshold is None else threshold
    return _Leak.apply(inputs, decay, state, scale, level, slayers, exact)  # type: ignore[no-untyped-call,no-any-return]


def check_exact(wanted: bool) -> None:
    """Raise where the exact gradient of a decay is wanted, and only lava-dl's own code runs."""
    if wanted and torch.is_grad_enabled():
        raise RuntimeError(
            "decay_gradient='exact' is there for first derivatives of float32 tensors on the CPU, or on a GPU where "
            "Triton runs, with one decay for all neurons or for each, outside of autocast and of torch's modes, such "
            "as FlopCounterMode or a default device other than that of the tensors. Compute so, or take SLAYER's "
            "gradient: set_backend(net, 'compiled')."
        )


def one_each(inputs: torch.Tensor, decay: torch.Tensor, state: torch.Tensor) -> bool:
    """Whether each neuron has one decay and one state: lava-dl lays decays along the last axis before time."""
    return (
        inputs.dim() > 1
        and inputs.numel() > 0
        and tuple(decay.shape) in ((1,), tuple(inputs.shape[-2:-1]))
        and (state.numel() == 1 or state.shape == inputs.shape[:-1])
    )


class _Leak(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: torch.Tensor,
        decay: torch.Tensor,
        state: torch.Tensor,
        scale: int,
        threshold: float,
        slayers: Any,
        exact: bool,
    ) -> torch.Tensor:
        neurons = inputs.shape[:-1]
        by_row = (per_row(WHOLE - decay.to(torch.int64), neurons), per_row(state, neurons))
        numbers = (np.float32(scale), _highest_silent(threshold * scale))
        (states,) = filled(inputs, lambda source, target: loops.run("integrate", source, *by_row, *numbers, target))
        ctx.save_for_backward(states, decay, state)
        ctx.slayers, ctx.numbers, ctx.exact = slayers, numbers, exact
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,) = gradients
        states, decay, state = ctx.saved_tensors
        if torch.is_grad_enabled() or not covered(gradient):  # second derivatives are asked for
            check_exact(ctx.exact and ctx.needs_input_grad[1])
            return *ctx.slayers._li_dynamics_bwd(gradient, states, decay), *[None] * 5
        kept = per_row(1 - decay / WHOLE, gradient.shape[:-1])
        (of_inputs,) = filled(gradient, lambda source, target: loops.run("integrate_backward", source, kept, target))
        if not ctx.needs_input_grad[1]:
            of_decay = None
        elif ctx.exact:
            of_decay = _exact_gradient_of_decay(gradient, states, kept, state, ctx.numbers, decay)
        else:
            of_decay = _gradient_of_decay(of_inputs, states, decay)
        return of_inputs, of_decay, *[None] * 5


def per_row(values: torch.Tensor, neurons: Sequence[int]) -> torch.Tensor:
    """A value for each row of samples and neurons, given one for each neuron or one for all."""
    spread = values.detach().reshape(()) if values.numel() == 1 else values.detach()
    return spread.expand(neurons).reshape(-1).contiguous()


def filled(model: torch.Tensor, fill: Callable[..., None], count: int = 1) -> list[torch.Tensor]:
    """What ``fill`` makes of the rows ``(rows, T)`` of a tensor: tensors with its shape and strides.

    It is given the rows, and as many tensors alike to write to.
    """
    results = [torch.empty_like(model) for _ in range(count)]
    targets = [one if one.is_contiguous() else torch.empty(model.shape, device=model.device) for one in results]
    fill(*(one.reshape(-1, model.shape[-1]) for one in (model.detach().contiguous(), *targets)))
    return [one if one is target else one.copy_(target) for one, target in zip(results, targets, strict=True)]


@cache
def _highest_silent(threshold: float) -> int:
    """The largest whole state below a threshold, both taken as float32, as in lava-dl; no limit without a threshold."""
    if not (threshold > 0 and np.float32(threshold) <= 2.0**63):
        return _NEVER
    return bisect_left(range(_NEVER), True, key=lambda state: bool(np.float32(state) >= np.float32(threshold))) - 1


def _gradient_of_decay(of_inputs: torch.Tensor, states: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
    """The gradient of a decay in lava-dl: with respect to what is kept, not what decays, and 4096 times as large."""
    return over_neurons(of_inputs[..., 1:] * states[..., :-1], decay)


def _exact_gradient_of_decay(
    gradient: torch.Tensor,
    states: torch.Tensor,
    kept: torch.Tensor,
    state: torch.Tensor,
    numbers: tuple[Any, ...],
    decay: torch.Tensor,
) -> torch.Tensor:
    """The derivative of the states by what decays, in its units of ``1 / 4096``."""
    rows, start = (-1, gradient.shape[-1]), per_row(state, gradient.shape[:-1])
    given, made = (one.detach().contiguous().reshape(rows) for one in (gradient, states))
    sums = torch.empty(len(given), dtype=torch.float64, device=given.device)
    loops.run("decay_gradient", given, made, kept, start, *numbers, sums)
    return shared_out(sums, decay)


def shared_out(sums: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
    """The sums of the rows that share a decay, of which lava-dl lays one along the last axis before time."""
    return sums.reshape(-1, decay.numel()).sum(dim=0).to(decay.dtype).reshape(decay.shape)


def over_neurons(product: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
    """The sum of ``(N, C, ..., T)`` numbers over all that share a decay, in lava-dl's order."""
    if decay.numel() == 1:
        return product.flatten().sum(dim=0, keepdim=True)
    per_neuron = product.sum(dim=[0, -1])
    return per_neuron if per_neuron.dim() == 1 else per_neuron.reshape(len(per_neuron), -1).sum(dim=1)


def spike(
    slayers: Any,
    voltage: torch.Tensor,
    threshold: Any,
    tau_rho: float,
    scale_rho: float,
    graded: bool,
    voltage_last: torch.Tensor,
    scale: int,
) -> torch.Tensor:
    """``Spike.apply`` of lava-dl, whose class is ``slayers``."""
    if graded or isinstance(threshold, torch.Tensor) or not plain(voltage):
        return spike_apply(slayers, voltage, threshold, tau_rho, scale_rho, graded, voltage_last, scale)
    return _Spike.apply(voltage, threshold, tau_rho, scale_rho)  # type: ignore[no-untyped-call,no-any-return]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, voltage: torch.Tensor, threshold: float, tau_rho: float, scale_rho: float) -> torch.Tensor:
        ctx.save_for_backward(voltage)
        ctx.shape_of_gradient = (threshold, tau_rho, scale_rho)
        return torch.ge(voltage, threshold).to(voltage.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (gradient,), (voltage,) = gradients, ctx.saved_tensors
        threshold, tau, scale = (torch.tensor(number, dtype=voltage.dtype) for number in ctx.shape_of_gradient)
        if torch.is_grad_enabled():  # second derivatives are asked for
            return scale / 2 / tau * torch.exp(-torch.abs(voltage - threshold) / tau) * gradient, None, None, None
        return _surrogate(voltage, threshold, tau, scale, gradient), None, None, None


def _surrogate(
    voltage: torch.Tensor,
    threshold: torch.Tensor,
    tau: torch.Tensor,
    scale: torch.Tensor,
    gradient: torch.Tensor | None = None,
) -> torch.Tensor:
    """``scale / 2 / tau * exp(-|voltage - threshold| / tau)``, times a gradient; in place, a piece at a time."""
    result, factor = torch.empty_like(voltage), torch.ones(()) if gradient is None else gradient
    whole = (result, voltage, factor.expand_as(voltage))
    flat = all(tensor.is_contiguous() for tensor in whole[:2])
    pieces = zip(*(tensor.reshape(-1).split(_PIECE) for tensor in whole), strict=True) if flat else [whole]
    for target, v, g in pieces:
        torch.sub(v, threshold, out=target).abs_().neg_().div_(tau).exp_().mul_(scale / 2 / tau).mul_(g)
    return result


def custom_recurrent(slayers: Any, z: torch.Tensor, neuron: Any, synapse: Any) -> torch.Tensor:
    """``recurrent.custom_recurrent`` of lava-dl, whose module is ``slayers``."""
    matrix, quantise = synapse.weight.reshape(synapse.weight.shape[:2]), synapse.pre_hook_fx
    weight = matrix if quantise is None else quantise(matrix)
    if _runs_alone(neuron) and plain(z, weight) and z.shape[1:-1] == neuron.shape and sums_are_exact(weight):
        return _Recurrent.apply(z, weight, neuron)  # type: ignore[no-untyped-call,no-any-return]
    result: torch.Tensor = slayers.CustomRecurrent.apply(z, neuron, weight)
    return result


def _runs_alone(neuron: Any) -> bool:
    """Whether a neuron does nothing in a step but decay, add, spike and reset, and no hook watches it."""
    kinds = ("forward_pre_hooks", "forward_hooks", "backward_pre_hooks", "backward_hooks")
    watched = any(getattr(neuron, f"_{kind}") or getattr(all_modules, f"_global_{kind}") for kind in kinds)
    does_more = neuron.norm is not None or neuron.drop is not None or neuron.graded_spike
    return (
        runs_compiled(neuron.dynamics)
        and runs_compiled(neuron.spike)
        and is_lavas(neuron.forward)
        and type(neuron).__call__ is torch.nn.Module.__call__
        and neuron.persistent_state is True
        and not (watched or does_more)
        and plain(neuron.current_state, neuron.voltage_state, neuron.current_decay, neuron.voltage_decay)
    )


class _Recurrent(torch.autograd.Function):
    """Neurons that feed each other. As in lava-dl the gradient runs back through their spikes, not their states."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, weight: torch.Tensor, neuron: Any) -> torch.Tensor:
        kept, states = _decays(neuron).numpy(), _states(neuron, z.shape[:-1])
        threshold, scale = neuron.threshold + neuron.threshold_eps, np.float32(neuron.s_scale)
        inputs, from_neuron = z.detach().contiguous().numpy(), weight.detach().t().contiguous().numpy()
        voltages, spikes = torch.empty(z.movedim(-1, 0).shape), torch.empty(z.shape)

        def run(part: slice) -> None:
            compiled_loops.recurrent_spikes(
                inputs[part],
                from_neuron,
                kept,
                states.numpy()[:, part],
                scale,
                np.float32(threshold),
                voltages.numpy()[:, part],
                spikes.numpy()[part],
            )

        in_threads(run, len(z), z.numel())
        neuron.current_state, neuron.voltage_state = states
        ctx.save_for_backward(voltages, spikes, weight)
        ctx.neuron, ctx.threshold = neuron, threshold
        return torch.empty_like(z).copy_(spikes)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        neuron = ctx.neuron
        voltages, spikes, weight = ctx.saved_tensors
        constants = type(neuron).spike.__globals__
        tau, scale = neuron.tau_rho * constants["TAU_RHO_MULT"], neuron.scale_rho * constants["SCALE_RHO_MULT"]
        numbers = (torch.tensor(number, dtype=torch.float32) for number in (ctx.threshold, tau, scale))
        of_drive, later = gradient.movedim(-1, 0).clone(memory_format=torch.contiguous_format), torch.zeros(())
        steps = zip(_surrogate(voltages, *numbers).unbind(), of_drive.unbind(), strict=True)
        for slope, step in reversed(list(steps)):
            later = torch.matmul(step.add_(later).mul_(slope), weight)
        _leave_no_gradient(neuron.current_decay, neuron.voltage_decay)
        of_z = torch.empty_like(gradient).copy_(of_drive.movedim(0, -1))
        if not ctx.needs_input_grad[1]:
            return of_z, None, None
        outgoing = of_z[..., 1:].transpose(0, 1).reshape(len(weight), -1)
        return of_z, torch.matmul(outgoing, spikes[..., :-1].transpose(1, 2).reshape(-1, len(weight))), None


def _decays(neuron: Any) -> torch.Tensor:
    """How much current and voltage keep in a step, in units of 1/4096: ``(2, C)``."""
    if neuron.requires_grad is True:
        neuron.clamp()
    decays = (neuron.current_decay, neuron.voltage_decay)
    kept = [WHOLE - decay.detach().round().to(torch.int64) for decay in decays]
    return torch.stack([one.expand(neuron.shape) for one in kept])


def _states(neuron: Any, shape: torch.Size) -> torch.Tensor:
    """The current and voltage to start from: ``(2, N, C)``, at rest if the last batch had another size."""
    states = (neuron.current_state, neuron.voltage_state)
    if len(states[0]) != shape[0]:
        return torch.zeros(2, *shape)
    return torch.stack([state.expand(shape) for state in states])


def _leave_no_gradient(*decays: torch.Tensor) -> None:
    """Zeros as the gradient of the decays, as in lava-dl, which runs each step by itself."""
    for decay in decays:
        if decay.requires_grad and decay.grad is None:
            decay.grad = torch.zeros_like(decay)
