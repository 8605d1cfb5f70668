"""A page for each tutorial, with outputs and pictures, and the notebook to download, while the site is built."""

from __future__ import annotations

import base64
import logging
import re
import sys
import textwrap
from pathlib import Path, PurePosixPath
from typing import Any

import jupytext
import nbformat

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tools.tutorials import TUTORIALS, executed  # noqa: E402

log = logging.getLogger("mkdocs.tutorials")
_COLUMNS = 115  # so many fit on the page
_FRONT_MATTER = "---\nhide: [toc] # lines of code need its room\n---\n\n"
_LINK = re.compile(r"\((?:\.\./)+tutorials/(\w+)\.py\)")


def on_files(files: Any, *, config: Any) -> Any:
    from mkdocs.structure.files import File  # here, for the tests of this file, which need no mkdocs

    for tutorial in TUTORIALS:
        notebook = executed(tutorial)
        if notebook is None:  # strict builds end with this
            log.warning("%s is shown without outputs. `python -m tools.tutorials` executes it.", tutorial.name)
            notebook = jupytext.read(tutorial)
        markdown, pictures = page(notebook, tutorial.stem)
        contents: dict[str, str | bytes] = {f"{tutorial.stem}.md": _FRONT_MATTER + markdown, **pictures}
        contents[f"{tutorial.stem}.ipynb"] = nbformat.writes(notebook)
        for name, content in contents.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The sources of the documentation refer to the tutorials' files, the site to their pages."""
    up = "../" * (len(PurePosixPath(page.file.src_uri).parts) - 1)
    return _LINK.sub(lambda match: f"({up}tutorials/{match[1]}.md)", markdown)


def page(notebook: nbformat.NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """The notebook as Markdown, and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            if len(parts) == 1:
                parts.append(_about(notebook, name))
            continue
        parts.append(f"````python\n{cell.source}\n````")
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                picture = f"{name}_{len(pictures) + 1}.png"
                pictures[picture] = base64.b64decode(output.data["image/png"])
                parts.append(f"![The picture that this cell draws]({picture})")
            else:
                text = output.text if output.output_type == "stream" else output.data["text/plain"]
                parts.append(f"```` {{ .text .output }}\n{_folded(text.rstrip())}\n````")
    return "\n\n".join(parts) + "\n", pictures


def _folded(text: str) -> str:
    """A message is one long line, which a terminal folds; a table, with gaps between its columns, stays as it is."""
    return "\n".join(line if "  " in line.lstrip() else textwrap.fill(line, _COLUMNS) for line in text.split("\n"))


def _about(notebook: nbformat.NotebookNode, name: str) -> str:
    versions = notebook.metadata.get("executed_with")
    executed_with = f" Its outputs were made with {versions}." if versions else ""
    return f"[Download this page as a notebook]({name}.ipynb){{ download }}, with its outputs.{executed_with}"
