"""Examples in docstrings that build a SLAYER network are skipped where Lava is not installed."""

from __future__ import annotations

import importlib.util

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("lava") is not None:
        return
    missing = pytest.mark.skip(reason="needs lava-dl: Python 3.10 and the extra `lava`")
    for item in items:
        is_example = isinstance(item, pytest.DoctestItem)
        if is_example and any("import lava." in example.source for example in item.dtest.examples):
            item.add_marker(missing)
