"""What needs Lava is skipped, with its reason, where Lava is not installed."""

from __future__ import annotations

import importlib.util

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("lava") is not None:
        return
    missing = pytest.mark.skip(reason="needs lava-dl: Python 3.10 and the extra `lava`")
    for item in items:
        if item.get_closest_marker("lava") or item.get_closest_marker("slayer"):
            item.add_marker(missing)
