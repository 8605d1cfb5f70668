"""Adaptive thresholds of lava-dl compiled, as :mod:`lava_spikeloss.training.compiled_neurons` has other dynamics.

They have no gradient in lava-dl: the surrogate gradient of the spikes goes to the states that are compared with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lava_spikeloss.training import loops
from lava_spikeloss.training.compiled_loops import WHOLE
from lava_spikeloss.training.compiled_neurons import filled, one_each, per_row
from lava_spikeloss.training.compiled_synapses import covered

__all__ = ["phase_threshold", "threshold"]

Pair = tuple[torch.Tensor, torch.Tensor]


def threshold(slayers: Any, inputs: torch.Tensor, *arguments: Any, debug: bool = False) -> Pair:
    """``adaptive_threshold.dynamics`` of lava-dl, whose module is ``slayers``."""
    if not _covered(inputs, arguments):
        made: Pair = slayers.dynamics(inputs, *arguments, debug=debug)
        return made
    return _Adapt.apply(inputs, None, None, *arguments)  # type: ignore[no-untyped-call,no-any-return]


def phase_threshold(
    slayers: Any,
    real: torch.Tensor,
    imag: torch.Tensor,
    imag_state: torch.Tensor,
    *arguments: Any,
    debug: bool = False,
) -> Pair:
    """``adaptive_phase_th.dynamics`` of lava-dl, whose module is ``slayers``."""
    alike = covered(imag, imag_state) and imag.shape == real.shape
    if not (alike and one_each(imag, arguments[1], imag_state) and _covered(real, arguments)):
        made: Pair = slayers.dynamics(real, imag, imag_state, *arguments, debug=debug)
        return made
    return _Adapt.apply(real, imag, imag_state, *arguments)  # type: ignore[no-untyped-call,no-any-return]


def _covered(inputs: torch.Tensor, arguments: tuple[Any, ...]) -> bool:
    refractory, refractory_decay, level, level_decay, *_ = arguments
    pairs = ((refractory_decay, refractory), (level_decay, level))
    return covered(inputs, *arguments[:4]) and all(one_each(inputs, decay, state) for decay, state in pairs)


class _Adapt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, imag: Any, imag_state: Any, *arguments: Any) -> Pair:
        refractory, refractory_decay, level, level_decay, step, rest, scale = arguments
        neurons, rows = inputs.shape[:-1], (-1, inputs.shape[-1])
        kept = tuple(per_row(WHOLE - decay.to(torch.int64), neurons) for decay in (level_decay, refractory_decay))
        start = tuple(per_row(state, neurons) for state in (level, refractory))
        now = (inputs if imag is None else imag).detach().contiguous().reshape(rows)
        before = per_row(inputs.new_zeros(1) if imag is None else imag_state, neurons)
        numbers = (int(step * scale), int(rest * scale), np.float32(scale), imag is not None)

        def fill(source: torch.Tensor, *targets: torch.Tensor) -> None:
            loops.run("adapt", source, (now, before), kept, start, *numbers, targets)

        made = filled(inputs, fill, 2)
        return made[0], made[1]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return (None,) * 10
