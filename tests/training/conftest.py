"""What the tests of the training tools share."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.fixture
def slayer() -> Any:
    import lava.lib.dl.slayer as slayer

    return slayer


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def spikes() -> torch.Tensor:
    """A batch of dense input spikes, ``(3, 8, 24)``."""
    return (torch.rand(3, 8, 24) < 0.5).float()
