"""The page on training tools names all of them, and the example script runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import lava_spikeloss.training

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text()


RETURNED = {"FPTTState", "MembraneRecord"}  # by functions, and described with them


@pytest.mark.parametrize("name", [name for name in lava_spikeloss.training.__all__ if name not in RETURNED])
def test_every_public_name_is_on_the_page(name: str) -> None:
    assert f"`{name}" in PAGE or f"training.{name}(" in PAGE


@pytest.mark.slayer
@pytest.mark.lava
def test_train_checkpoint_resume_export_verify(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("train_and_resume", ROOT / "examples" / "train_and_resume.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    uninterrupted, resumed = example.run(tmp_path, epochs=2, samples=128)
    assert resumed == uninterrupted


def test_importing_does_not_import_lava() -> None:
    code = "import sys, lava_spikeloss.training; sys.exit('lava' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
