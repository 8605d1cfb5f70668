"""What the library promises as a whole: names, docstrings, doctests, and that it needs torch only."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import lava_spikeloss
from lava_spikeloss import functional

PUBLIC = [(lava_spikeloss, name) for name in lava_spikeloss.__all__] + [
    (functional, name) for name in functional.__all__
]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_every_public_name_is_documented_with_an_example(module: object, name: str) -> None:
    value = getattr(module, name)
    if not callable(value):
        return
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
