"""Makes notebooks with outputs of the tutorials, in ``build/tutorials``: python -m tools.tutorials

Only those are executed whose cells have changed. The tests execute all of them in the same way
(``tests/test_tutorials.py``), and the site shows what they left (``docs/_tools/tutorial_pages.py``).
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = sorted((ROOT / "tutorials").glob("[0-9]*.py"))
EXECUTED = ROOT / "build" / "tutorials"
SECONDS_PER_CELL = 900


def execute(tutorial: Path, folder: Path = EXECUTED) -> Path:
    """Runs a tutorial from its first cell to its last and writes the notebook; a cell that raises is raised."""
    notebook = jupytext.read(tutorial)
    # Inside a kernel matplotlib has to show its figures, whatever the environment says.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    with tempfile.TemporaryDirectory() as scratch:
        client = NotebookClient(
            notebook,
            timeout=SECONDS_PER_CELL,
            kernel_name="python3",
            coalesce_streams=True,
            resources={"metadata": {"path": scratch}},
        )
        client.execute(env=environment, stderr=subprocess.DEVNULL)
    _leave_out_other_packages_messages(notebook)
    notebook.metadata["executed_with"] = _versions()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{tutorial.stem}.ipynb"
    unfinished = target.with_suffix(".unfinished")
    nbformat.write(notebook, unfinished)
    unfinished.replace(target)
    return target


def executed(tutorial: Path, folder: Path = EXECUTED) -> NotebookNode | None:
    """The notebook with outputs, or None if there is none of the tutorial as it is now."""
    target = folder / f"{tutorial.stem}.ipynb"
    if not target.is_file():
        return None
    notebook = nbformat.read(target, as_version=4)
    return notebook if _sources(notebook) == _sources(jupytext.read(tutorial)) else None


def _sources(notebook: NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def _leave_out_other_packages_messages(notebook: NotebookNode) -> None:
    """What importing (the first cell of code) prints, and warnings, which name files of this machine."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].outputs = []
    for cell in code:
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lava-nc", "lava-dl"))
    return f"Python {platform.python_version()}, {packages}"


def main() -> int:
    """Executes what has changed, and says what it is at, since a tutorial may take a minute or more."""
    changed = [tutorial for tutorial in TUTORIALS if executed(tutorial) is None]
    for number, tutorial in enumerate(changed, start=1):
        print(f"Executing {tutorial.name} ({number} of {len(changed)})", flush=True)
        execute(tutorial)
    return 0


if __name__ == "__main__":
    sys.exit(main())
