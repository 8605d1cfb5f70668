"""A table of names, one line each, where a page of the API reference says `NAMES`, while the site is built.

``NAMES`` is the names that the page describes, ``NAMES of rates.md in lava_spikeloss`` those of a module that another
one describes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from griffe import GriffeLoader, ModulesCollection, Object
from rst_roles import _markdown

API = Path(__file__).resolve().parent.parent / "api"
_TABLE = re.compile(r"^NAMES(?: of (?P<page>\S+))?(?: in (?P<module>\S+))?$", re.MULTILINE)
_DIRECTIVE = re.compile(r"^::: (?P<object>\S+)(?:\n    options: (?P<options>\{.*\}))?$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    if not page.file.src_uri.startswith("api/"):
        return markdown
    return _TABLE.sub(lambda wanted: _table(wanted, markdown), markdown)


def _table(wanted: re.Match[str], own: str) -> str:
    source = (API / wanted["page"]).read_text() if wanted["page"] else own
    rows = ["| name | what it is |", "|---|---|"]
    for module, name in _described(source):
        if wanted["module"] in (None, module):
            shown = name.replace("_", "_<wbr>")  # a narrow screen may break a name there, and nowhere else
            rows.append(f"| [<code>{shown}</code>][{module}.{name}] | {_summary(module, name)} |")
    return "\n".join(rows)


def _described(markdown: str) -> Iterator[tuple[str, str]]:
    for directive in _DIRECTIVE.finditer(markdown):
        options = yaml.safe_load(directive["options"] or "{}")
        if "members" in options:
            yield from ((directive["object"], member) for member in options["members"])
        else:
            module, _, name = directive["object"].rpartition(".")
            yield module, name


def _summary(module: str, name: str) -> str:
    """The first sentence of the docstring."""
    found = _packages()[f"{module}.{name}"]
    described: Object = found.final_target if found.is_alias else found
    if described.docstring is None:
        raise ValueError(f"{module}.{name} has no docstring.")
    paragraph = _markdown(described.docstring.value).partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=\.) ", paragraph, maxsplit=1)[0].replace("|", "\\|")


@cache
def _packages() -> ModulesCollection:
    loader = GriffeLoader(search_paths=[API.parent.parent])
    for package in ("lava_spikeloss", "netx_export"):
        loader.load(package)
    loader.resolve_aliases()
    return loader.modules_collection
