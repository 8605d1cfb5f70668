"""What the tests of activity share."""

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
