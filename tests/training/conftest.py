"""SLAYER is an extra: its tests are skipped, with the reason, where it is not installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode: the tests share `slayer_nets` by its plain name

HAS_SLAYER = importlib.util.find_spec("lava") is not None and importlib.util.find_spec("lava.lib.dl") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if HAS_SLAYER:
        return
    skip = pytest.mark.skip(reason="lava-dl is not installed (extra `lava`, Python 3.10)")
    for item in items:
        if item.get_closest_marker("slayer") or item.get_closest_marker("lava"):
            item.add_marker(skip)


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
