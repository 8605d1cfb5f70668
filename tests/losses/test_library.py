"""What the library promises as a whole: names, docstrings, doctests, and that it needs torch only."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lava_spikeloss
from lava_spikeloss import functional

PUBLIC = [
    (module, name)
    for module in (lava_spikeloss, functional)
    for name in module.__all__
    if callable(getattr(module, name))  # constants have their documentation beside them
]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_every_public_name_is_documented_with_an_example(module: object, name: str) -> None:
    value = getattr(module, name)
    text = inspect.getdoc(value) or ""
    assert ">>> " in text
    if inspect.isfunction(value) and name != "accuracy":
        assert "Shape:" in text
        assert ".. math::" in text or name == "redundant_one_hot"
        assert "Args:" in text
        if "loss" in name:
            assert "Raises:" in text
            assert "Reference:" in text


def test_imports_need_torch_only() -> None:
    not_needed = ("lava", "h5py", "rich", "typer", "jinja2", "matplotlib", "sklearn", "netx_export")
    code = (
        f"import sys, lava_spikeloss, lava_spikeloss.functional; print([n for n in {not_needed} if n in sys.modules])"
    )
    root = Path(lava_spikeloss.__file__).parents[1]
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert output.strip() == "[]"


@pytest.mark.parametrize("error", ["ImportError", "SystemError"])
def test_a_numba_that_does_not_run_is_not_used(error: str, tmp_path: Path) -> None:
    """It refuses a numpy that is newer than it knows: one warning, and torch does the work."""
    (tmp_path / "numba.py").write_text(f"raise {error}('Numba needs NumPy 2.1 or less')\n")
    ran = subprocess.run(
        [sys.executable, "-c", "from lava_spikeloss.compiling import numba_runs; print(numba_runs(), numba_runs())"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout == "False False\n", ran.stderr
    assert ran.stderr.count("numba is installed but does not run") == 1


def test_without_numba_nothing_is_said(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *args: None if name == 'numba' else find(name, *args)\n"
        "from lava_spikeloss.compiling import numba_runs; print(numba_runs())"
    )
    root = Path(lava_spikeloss.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=root)
    assert (ran.stdout, "numba" in ran.stderr) == ("False\n", False)
