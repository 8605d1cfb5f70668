"""Networks that need torch only, of blocks that have what the library looks for in a SLAYER block."""

from __future__ import annotations

import itertools

import torch

__all__ = ["LookalikeBlock", "Synapse", "lookalike_net"]


class _Neuron(torch.nn.Module):
    """Fires where the input is positive, with the gradient of a sigmoid."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        smooth = torch.sigmoid(z)
        return (z > 0).to(z.dtype) + (smooth - smooth.detach())


class Synapse(torch.nn.Conv3d):
    """Dense over ``(N, C, T)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, (1, 1, 1), bias=False)
        self.weight_norm_enabled = False
        self._pre_hook_fx = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight if self._pre_hook_fx is None else self._pre_hook_fx(self.weight)
        z = torch.nn.functional.conv3d(x.reshape(x.shape[0], -1, 1, 1, x.shape[-1]), weight)
        return z.reshape(x.shape[0], -1, x.shape[-1])


class LookalikeBlock(torch.nn.Module):
    """A fully connected block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.synapse = Synapse(inputs, outputs)
        self.neuron = _Neuron()
        self.count_log = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(self.synapse(x))


def lookalike_net(*sizes: int) -> torch.nn.Sequential:
    """Fully connected blocks ``"0"``, ``"1"`` and so on, from ``sizes[0]`` inputs to ``sizes[-1]`` outputs."""
    return torch.nn.Sequential(*(LookalikeBlock(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)))
