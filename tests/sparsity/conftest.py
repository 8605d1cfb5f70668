"""Networks to watch: one that needs torch only and looks like SLAYER, and one that is SLAYER."""

import importlib.util
import itertools

import pytest
import torch
from lookalike import lookalike_net


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def lookalike() -> torch.nn.Sequential:
    """Six inputs, blocks "0" of five and "1" of four neurons."""
    return lookalike_net(6, 5, 4)


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
