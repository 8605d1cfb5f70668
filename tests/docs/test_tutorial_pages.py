"""A tutorial becomes a notebook with outputs, and that a page with pictures."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tools.tutorials import execute, executed

ROOT = Path(__file__).parent.parent.parent
TUTORIAL = """\
# %% [markdown]
# # A line
#
# It is drawn.

# %%
import sys
print("what imports print")

# %%
import matplotlib.pyplot as plt
print("a warning", file=sys.stderr)
print("one")
print("two")
figure, axis = plt.subplots()
"""


@pytest.fixture
def tutorial(tmp_path: Path) -> Path:
    path = tmp_path / "99_a_line.py"
    path.write_text(TUTORIAL)
    return path


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tutorial_pages", ROOT / "docs" / "_tools" / "tutorial_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.lava
def test_the_page_of_a_tutorial_shows_what_it_printed_and_drew(
    tutorial: Path, pages: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")  # of the terminal, in which nothing is shown
    assert executed(tutorial, tmp_path) is None
    execute(tutorial, tmp_path)
    notebook = executed(tutorial, tmp_path)
    assert notebook is not None
    markdown, pictures = pages.page(notebook, tutorial.stem)
    assert list(pictures) == ["99_a_line_1.png"]
    assert pictures["99_a_line_1.png"].startswith(b"\x89PNG")
    assert "![The picture that this cell draws](99_a_line_1.png)" in markdown
    assert markdown.startswith("# A line\n\nIt is drawn.\n\n[Download this page as a notebook](99_a_line.ipynb)")
    assert "```` { .text .output }\none\ntwo\n````" in markdown
    assert markdown.count("what imports print") == 1  # in the cell, not below it
    assert markdown.count("a warning") == 1


@pytest.mark.lava
def test_a_changed_tutorial_has_to_be_executed_again(tutorial: Path, tmp_path: Path) -> None:
    execute(tutorial, tmp_path)
    tutorial.write_text(TUTORIAL.replace('print("two")', 'print("three")'))
    assert executed(tutorial, tmp_path) is None


@pytest.mark.lava
def test_a_cell_that_raises_leaves_no_notebook(tutorial: Path, tmp_path: Path) -> None:
    tutorial.write_text(TUTORIAL + "\n# %%\nassert figure is None\n")
    with pytest.raises(CellExecutionError, match="AssertionError"):
        execute(tutorial, tmp_path)
    assert not list(tmp_path.glob("*.ipynb"))


def test_a_long_message_is_folded_and_a_table_is_not(pages: ModuleType) -> None:
    message, row = "Not exported: " + "a reason, " * 30 + "in the end.", "layer  " + "neurons  " * 30
    cell = nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("stream", text=f"{message}\n{row.strip()}\n")])
    markdown, _ = pages.page(nbformat.v4.new_notebook(cells=[cell]), "99_a_line")
    lines = markdown.split("```` { .text .output }\n")[1].splitlines()
    assert row.strip() in lines
    assert " ".join(lines[: lines.index(row.strip())]) == message
    assert max(len(line) for line in lines if line != row.strip()) <= 115


def test_links_to_a_tutorial_lead_to_its_page(pages: ModuleType) -> None:
    class Page:
        class file:  # noqa: N801  (as mkdocs has it)
            src_uri = "tasks/train.md"

    markdown = pages.on_page_markdown("[first](../../tutorials/01_digits_end_to_end.py)", page=Page)
    assert markdown == "[first](../tutorials/01_digits_end_to_end.md)"
