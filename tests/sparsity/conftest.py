"""Networks to watch: one that needs torch only and looks like SLAYER, and one that is SLAYER."""

import importlib.util
import itertools

import pytest
import torch


class _Neuron(torch.nn.Module):
    """Fires where the input is positive; the gradient passes straight through."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (z > 0).to(z.dtype) + (torch.sigmoid(z) - torch.sigmoid(z).detach())


class _Synapse(torch.nn.Conv3d):
    """Dense over (N, C, T), with the marks of a SLAYER synapse."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, (1, 1, 1), bias=False)
        self.weight_norm_enabled = False
        self._pre_hook_fx = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight if self._pre_hook_fx is None else self._pre_hook_fx(self.weight)
        z = torch.nn.functional.conv3d(x.reshape(x.shape[0], -1, 1, 1, x.shape[-1]), weight)
        return z.reshape(x.shape[0], -1, x.shape[-1])


class LookalikeBlock(torch.nn.Module):
    """A block with what the library looks for in a SLAYER block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.synapse = _Synapse(inputs, outputs)
        self.neuron = _Neuron()
        self.count_log = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(self.synapse(x))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def lookalike() -> torch.nn.Sequential:
    """Six inputs, blocks "0" of five and "1" of four neurons."""
    return torch.nn.Sequential(LookalikeBlock(6, 5), LookalikeBlock(5, 4))


@pytest.fixture
def make_slayer():
    """A function that builds a fully connected SLAYER CUBA network of the given sizes."""
    if importlib.util.find_spec("lava") is None:  # it can be installed on Python 3.10 only
        pytest.skip("needs the extra `lava`")
    import lava.lib.dl.slayer as slayer

    class Net(torch.nn.Module):
        def __init__(self, *sizes: int) -> None:
            super().__init__()
            cuba = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "requires_grad": False}
            pairs = itertools.pairwise(sizes)
            self.blocks = torch.nn.ModuleList(slayer.block.cuba.Dense(dict(cuba), i, o) for i, o in pairs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    return Net
