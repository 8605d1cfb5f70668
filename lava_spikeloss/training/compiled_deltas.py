"""The delta unit of sigma-delta neurons compiled, as :mod:`lava_spikeloss.training.compiled_neurons` has others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from lava_spikeloss.training import loops
from lava_spikeloss.training.compiled_neurons import filled, per_row
from lava_spikeloss.training.compiled_synapses import covered

__all__ = ["delta_unit"]

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def delta_unit(
    slayers: Any,
    inputs: torch.Tensor,
    threshold: torch.Tensor,
    before: torch.Tensor,
    residual: torch.Tensor,
    error: torch.Tensor,
    cum_error: bool,
    tau_grad: float,
    scale_grad: float,
) -> Triple:
    """``_DeltaUnit.apply`` of lava-dl, whose class is ``slayers``."""
    tensors = (inputs, threshold, before, residual)
    alike = before.shape == residual.shape == inputs.shape[:-1] and threshold.dim() <= before.dim()
    result: Triple
    if cum_error or not covered(*tensors) or not alike or inputs.numel() == 0:
        result = slayers.apply(*tensors, error, cum_error, tau_grad, scale_grad)
    else:
        result = _Delta.apply(*tensors, error, tau_grad, scale_grad, slayers)  # type: ignore[no-untyped-call]
    return result


class _Delta(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Triple:
        inputs, threshold, before, residual, error, tau_grad, scale_grad, slayers = arguments
        by_row = [per_row(values, inputs.shape[:-1]) for values in (threshold, before, residual)]
        left = torch.empty_like(residual, memory_format=torch.contiguous_format)

        def fill(source: torch.Tensor, *targets: torch.Tensor) -> None:
            sent, changes = targets if len(targets) == 2 else (targets[0], None)
            loops.run("send_changes", *by_row, source, changes, sent, left.view(-1))

        sent, *changes = filled(inputs, fill, 2 if ctx.needs_input_grad[1] else 1)
        numbers = (torch.tensor(number, dtype=inputs.dtype, device=inputs.device) for number in (tau_grad, scale_grad))
        ctx.save_for_backward(*changes, threshold, *numbers)
        ctx.slayers = slayers
        return sent, left, error

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        of_inputs = of_threshold = None
        if ctx.needs_input_grad[1]:
            saved = SimpleNamespace(saved_tensors=ctx.saved_tensors)
            of_inputs, of_threshold, *_ = ctx.slayers.backward(saved, *gradients)
        elif ctx.needs_input_grad[0]:
            gradient = gradients[0]
            of_inputs = torch.cat([gradient[..., :-1] - gradient[..., 1:], gradient[..., -1:]], dim=-1)
        return of_inputs, of_threshold, *[None] * 6
