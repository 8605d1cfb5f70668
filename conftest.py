"""What needs Lava, tests and docstring examples alike, is skipped with its reason where Lava is not installed."""

from __future__ import annotations

import importlib
import importlib.util

import hypothesis
import pytest

# Doctests are looked for in every module, and this one cannot be imported without numba (the extra `fast`).
_COMPILED = ["netx_export/simulation/reference/compiled.py"]
collect_ignore = [] if importlib.util.find_spec("numba") else _COMPILED

# The first example of a property test may import Lava or compile, which takes seconds: no deadline.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if importlib.util.find_spec("lava") is not None:
        if any(_needs_lava(item) for item in items):
            # Lava chooses at import how multiprocessing starts processes, and cannot after torch.compile has done so.
            importlib.import_module("lava.magma.runtime.message_infrastructure.multiprocessing")
        return
    missing = pytest.mark.skip(reason="needs lava-dl: Python 3.10 and the extra `lava`")
    for item in items:
        if _needs_lava(item):
            item.add_marker(missing)


def _needs_lava(item: pytest.Item) -> bool:
    if isinstance(item, pytest.DoctestItem):
        return any("import lava." in example.source for example in item.dtest.examples)
    return any(item.get_closest_marker(name) for name in ("lava", "slayer"))
