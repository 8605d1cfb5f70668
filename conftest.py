"""What needs SLAYER or Lava, tests and docstring examples alike, is skipped with its reason where that is missing."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from pathlib import Path

import hypothesis
import pytest

# Doctests are looked for in every module, and these cannot be imported without numba (the extra `fast`) or Triton.
_NEEDED = {
    "netx_export/simulation/reference/compiled.py": "numba",
    "lava_spikeloss/training/triton_loops.py": "triton",
}
collect_ignore = [module for module, needed in _NEEDED.items() if not importlib.util.find_spec(needed)]

_THIS_RUNS_LAVA = sys.version_info[:2] == (3, 10)

# The first example of a property test may import Lava or compile, which takes seconds: no deadline.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slayer_is_there = importlib.util.find_spec("lava") is not None
    missing = {
        "slayer": None if slayer_is_there else "needs SLAYER: docs/tasks/train-anywhere.md says how to install it",
        "lava": _why_lava_does_not_run() if slayer_is_there else "needs SLAYER, and a Python 3.10 with Lava",
        "imports_lava": None if slayer_is_there and _THIS_RUNS_LAVA else "needs the extra `lava` in Python 3.10",
    }
    for item in items:
        for reason in {missing[need] for need in _needs(item)} - {None}:
            item.add_marker(pytest.mark.skip(reason=reason))
    if slayer_is_there and any(_needs(item) for item in items):
        # Lava chooses at import how multiprocessing starts processes, and cannot after torch.compile has done so.
        importlib.import_module("lava.magma.runtime.message_infrastructure.multiprocessing")


def _why_lava_does_not_run() -> str | None:
    """None if there is a Python that runs Lava: this one, or one in an environment of Lava's own."""
    from netx_export.errors import SimulationError
    from netx_export.simulation.lava_python import find_lava_python

    try:
        find_lava_python()
    except SimulationError as error:
        return str(error)
    return None


def _needs(item: pytest.Item) -> list[str]:
    if isinstance(item, pytest.DoctestItem):
        return ["slayer"] * any("import lava." in example.source for example in item.dtest.examples)
    return [name for name in ("slayer", "lava", "imports_lava") if item.get_closest_marker(name)]


@pytest.fixture
def nothing_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No Python for Lava is named or remembered on this machine."""
    monkeypatch.delenv("NETX_EXPORT_LAVA_PYTHON", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def without_lava_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Python that Lava does not run on."""
    for name in ("numba", "lava.lib.dl.slayer", "pydantic"):  # on import these look at the true version
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    monkeypatch.setattr("sys.version_info", (3, 12, 1))
