"""What the library promises as a whole: names, docstrings, and that it needs torch only."""

from __future__ import annotations

import ast
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
    code = (
        "import sys; import torch; before = set(sys.modules); import lava_spikeloss, lava_spikeloss.functional;"
        "print({m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names) - {'torch'})"
    )
    root = Path(lava_spikeloss.__file__).parents[1]
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    torchs_own = {"numpy", "sympy", "mpmath", "cython_runtime"}
    loaded = {name for name in ast.literal_eval(output) if not name.startswith("_")}
    assert loaded - torchs_own == {"lava_spikeloss"}
