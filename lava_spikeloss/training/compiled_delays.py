"""The delay by a step of lava-dl, and what calls it, without the CUDA code that nvcc would have to build.

On the CPU lava-dl's own run, as they are: there is nothing to gain.
"""

from __future__ import annotations

from functools import cache, partial
from types import FunctionType
from typing import Any

import torch

from lava_spikeloss.training.backend import remade

__all__ = ["delay", "spike_apply", "step_delay"]


def delay(slayers: Any, inputs: torch.Tensor, delay_val: int = 1, sampling_time: int = 1) -> torch.Tensor:
    """``delay`` of lava-dl, which is ``slayers``."""
    if not _is_on_cuda(inputs) or (delay_val, sampling_time) != (1, 1):
        made: torch.Tensor = slayers(inputs, delay_val, sampling_time)
        return made
    delayed = torch.zeros(inputs.shape, dtype=inputs.dtype, device=inputs.device)
    delayed[..., 1:] = inputs[..., :-1]
    return delayed


def step_delay(slayers: Any, module: Any, x: torch.Tensor) -> torch.Tensor:
    """``step_delay`` of lava-dl, which is ``slayers``, with :func:`delay`."""
    function = _with_our_delay(slayers) if _is_on_cuda(x) else slayers
    delayed: torch.Tensor = function(module, x)
    return delayed


def spike_apply(slayers: Any, states: torch.Tensor, *arguments: Any) -> torch.Tensor:
    """``apply`` of one of lava-dl's classes of spikes, which is ``slayers``, with :func:`delay`."""
    spike = _class_with_our_delay(slayers) if _is_on_cuda(states) else slayers
    spikes: torch.Tensor = spike.apply(states, *arguments)
    return spikes


def _is_on_cuda(tensor: torch.Tensor) -> bool:
    return tensor.is_cuda


@cache
def _with_our_delay(function: FunctionType) -> FunctionType:
    return remade(function, {"delay": partial(delay, function.__globals__["delay"])})


@cache
def _class_with_our_delay(spike: Any) -> Any:
    return type(spike)(spike.__name__, (spike,), {"forward": staticmethod(_with_our_delay(spike.forward))})
