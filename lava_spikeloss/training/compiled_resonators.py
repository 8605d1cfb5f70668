"""``resonator.dynamics`` of lava-dl in compiled form, as :mod:`lava_spikeloss.training.compiled_neurons` has others."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lava_spikeloss.training import loops
from lava_spikeloss.training.compiled_loops import WHOLE
from lava_spikeloss.training.compiled_neurons import check_exact, one_each, over_neurons, per_row, shared_out
from lava_spikeloss.training.compiled_synapses import covered

__all__ = ["resonator_dynamics"]

Pair = tuple[torch.Tensor, torch.Tensor]


def resonator_dynamics(
    slayers: Any,
    real_input: torch.Tensor,
    imag_input: torch.Tensor,
    sin_decay: torch.Tensor,
    cos_decay: torch.Tensor,
    real_state: torch.Tensor,
    imag_state: torch.Tensor,
    scale: int,
    threshold: float | None = None,
    debug: bool = False,
    *,
    exact: bool = False,
) -> Pair:
    """``resonator.dynamics`` of lava-dl, whose module is ``slayers``; with the exact gradients of the decays."""
    tensors = (real_input, imag_input, sin_decay, cos_decay, real_state, imag_state)
    takes_all = (
        covered(*tensors)
        and _alike(real_input, imag_input)
        and one_each(real_input, sin_decay, real_state)
        and one_each(real_input, cos_decay, imag_state)
        and not isinstance(threshold, int)  # which lava-dl would not round to float32
    )
    if not takes_all:
        check_exact(exact and (sin_decay.requires_grad or cos_decay.requires_grad))
        result: Pair = slayers.dynamics(*tensors, scale, threshold, debug)
        return result
    return _Resonate.apply(*tensors, scale, -1.0 if threshold is None else threshold, slayers, exact)  # type: ignore[no-untyped-call,no-any-return]


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and one.is_contiguous() and other.is_contiguous()


class _Resonate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Pair:
        real_input, imag_input, sin_decay, cos_decay, real_state, imag_state, scale, threshold, slayers, exact = (
            arguments
        )
        neurons, rows = real_input.shape[:-1], (-1, real_input.shape[-1])
        inputs = tuple(one.detach().reshape(rows) for one in (real_input, imag_input))
        turn = tuple(per_row(decay.to(torch.int64), neurons) for decay in (sin_decay, cos_decay))
        start = tuple(per_row(state, neurons) for state in (real_state, imag_state))
        real, imag = torch.empty_like(real_input), torch.empty_like(imag_input)
        level = threshold * scale
        numbers = (np.float32(scale), level >= 0, np.float32(level), np.float32(level - 1))
        loops.run("resonate", inputs, turn, start, *numbers, (real.view(rows), imag.view(rows)))
        ctx.save_for_backward(real, imag, sin_decay, cos_decay, real_state, imag_state)
        ctx.slayers, ctx.numbers, ctx.exact = slayers, numbers, exact
        return real, imag

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        made = None if torch.is_grad_enabled() else _backward(ctx, [one.contiguous() for one in gradients])
        if made is None:  # second derivatives are asked for, or lava-dl has to raise its error for what is not finite
            check_exact(ctx.exact and any(ctx.needs_input_grad[2:4]))
            made = ctx.slayers._res_dynamics_bwd(*gradients, *ctx.saved_tensors[:4])
        return *made, *[None] * 6


def _backward(ctx: Any, gradients: list[torch.Tensor]) -> Any:
    real, imag, sin_decay, cos_decay, *_ = ctx.saved_tensors
    rows = (-1, real.shape[-1])
    given = tuple(one.view(rows) for one in gradients)
    turn = tuple(per_row(decay / WHOLE, real.shape[:-1]) for decay in (sin_decay, cos_decay))
    of_real, of_imag = (torch.empty_like(one) for one in gradients)
    loops.run("resonate_backward", given, turn, (of_real.view(rows), of_imag.view(rows)))
    if not (of_real.isfinite().all() and of_imag.isfinite().all()):
        return None
    if not any(ctx.needs_input_grad[2:4]):
        return of_real, of_imag, None, None
    if ctx.exact:
        return of_real, of_imag, *_exact_gradients(ctx, given, turn)
    of_sin = -of_real[..., 1:] * imag[..., :-1] + of_imag[..., 1:] * real[..., :-1]
    of_cos = of_real[..., 1:] * real[..., :-1] + of_imag[..., 1:] * imag[..., :-1]
    if of_sin.isnan().any() or of_cos.isnan().any():
        return None
    return of_real, of_imag, over_neurons(of_sin, cos_decay), over_neurons(of_cos, cos_decay)


def _exact_gradients(ctx: Any, given: tuple[torch.Tensor, ...], turn: tuple[torch.Tensor, ...]) -> Pair:
    """The derivatives of the states by sine and cosine of the turn, in their units of ``1 / 4096``."""
    real, imag, sin_decay, cos_decay, *starts = ctx.saved_tensors
    states = tuple(one.reshape(given[0].shape) for one in (real, imag))
    start = tuple(per_row(state, real.shape[:-1]) for state in starts)
    sums = tuple(torch.empty(len(given[0]), dtype=torch.float64, device=real.device) for _ in range(2))
    loops.run("turn_gradient", given, states, turn, start, *ctx.numbers, sums)
    return shared_out(sums[0], sin_decay), shared_out(sums[1], cos_decay)
