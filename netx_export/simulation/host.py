"""What runs on the host beside the chip: input neurons before the network, and the readout behind it.

Stock netx does not connect an input layer that has neurons, and has no average and no weighted sum without spikes. So
the file's own group says what to do, and :func:`netx_export.simulate` does it, as SLAYER does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from netx_export.network.description import Affine, CubaNeuron, Encoder, HostLayer, SigmaDeltaNeuron
from netx_export.network.fixed_point import (
    ALIGNMENT_BITS,
    MAX_QUANTISED,
    MESSAGE_BITS,
    MIN_QUANTISED,
    STATE_LIMIT,
    UNITY_DECAY,
    WEIGHT_SCALE,
    IntArray,
)
from netx_export.simulation import reference

__all__ = ["encode", "read_out"]


def encode(encoder: Encoder, values: torch.Tensor, fraction_bits: int = MESSAGE_BITS) -> torch.Tensor:
    """Input of any size as spikes, uint8, or as sigma-delta messages, int32, in local time.

    Args:
        encoder: the input neurons.
        values: numbers ``(N, C, ..., T)``; SLAYER rounds them to 1/32 between -4 and 3.97.
        fraction_bits: of the fraction of a sigma-delta message.
    """
    quantised = (values.float() * 32).round_().mul_(2).clamp_(MIN_QUANTISED, MAX_QUANTISED).double()
    current = quantised.mul_(encoder.weight).add_(encoder.bias * WEIGHT_SCALE)
    frames = current.movedim(-1, 1).contiguous().transpose(0, 1)  # stored sample by sample, as the reference wants it
    if isinstance(encoder.neuron, SigmaDeltaNeuron):
        # As Lava's Delta: in units of 1/64 of a message, whose bits beyond the message are cut off when it is sent.
        states = frames.to(torch.int32) << (fraction_bits - ALIGNMENT_BITS)
        spikes = reference.send_changes(states, encoder.neuron.threshold << fraction_bits) >> ALIGNMENT_BITS
    elif _may_leave_24_bits(frames, encoder.neuron):
        spikes = _fire_without_limits(frames, encoder.neuron)
    else:
        spikes = reference.integrate_and_fire(frames, encoder.neuron)
    return spikes.movedim(0, -1)


def _may_leave_24_bits(frames: torch.Tensor, neuron: CubaNeuron) -> bool:
    """Whether a state could leave the 24 bits that Lava has: a geometric series bounds it, or the number of steps."""
    lowest = [int(decay.min()) for decay in _decays(neuron)]
    gains = [len(frames) if decay == 0 else min(len(frames), UNITY_DECAY / decay) for decay in lowest]
    low, high = torch.aminmax(frames)
    return max(float(high), -float(low)) * gains[0] * gains[1] >= STATE_LIMIT


def _fire_without_limits(frames: torch.Tensor, neuron: CubaNeuron) -> torch.Tensor:
    """The neurons as SLAYER has them on the host, whose states neither wrap nor saturate; ``(T, N, C, ...)``."""
    neurons = reference.CubaStates(neuron, torch.zeros_like(frames[0]), 1, wraps=False, saturates=False)
    spikes = torch.empty_like(frames, dtype=torch.uint8)
    for frame, fired in zip(frames, spikes, strict=True):
        neurons.integrate(frame, None)
        neurons.reset(neurons.fired(out=fired))
    return spikes


def _decays(neuron: CubaNeuron) -> tuple[IntArray, IntArray]:
    return neuron.current_decay, neuron.voltage_decay


def read_out(readout: HostLayer, spikes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """The last layer's spikes ``(N, C, ..., T)`` as the network's output."""
    tensor = torch.from_numpy(spikes).float()
    if isinstance(readout, Affine):
        return _affine(readout, tensor.flatten(1, -2))
    groups = tensor.reshape(len(tensor), readout.shape[0], -1, tensor.shape[-1])
    mean: npt.NDArray[np.float32] = groups.mean(dim=2).numpy()
    return mean


def _affine(readout: Affine, spikes: torch.Tensor) -> npt.NDArray[np.float32]:
    state: Any = torch.matmul(torch.as_tensor(readout.weight, dtype=torch.float64), spikes.double())
    scale = readout.scale
    if readout.neuron is not None:
        state, scale = state * WEIGHT_SCALE, scale * WEIGHT_SCALE
        for decay in _decays(readout.neuron):
            state = _integrate(state, torch.as_tensor(decay))
    output: npt.NDArray[np.float32] = (state / scale).float().numpy()
    return output


def _integrate(values: torch.Tensor, decay: torch.Tensor) -> torch.Tensor:
    """Leaky integration along time in whole numbers."""
    keep = (UNITY_DECAY - decay.double()) / UNITY_DECAY
    state = torch.zeros_like(values[..., 0])
    states = []
    for step in range(values.shape[-1]):
        state = reference.decayed(state, keep) + values[..., step]
        states.append(state)
    return torch.stack(states, dim=-1)
