"""Formulas as MathML while the site is built: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.exceptions import PluginError

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    return _FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    display = "block" if match[1] == "div" else "inline"
    formula = str(convert(html.unescape(match[2]).strip(), display=display))
    if "\\" in formula:  # a command that the converter does not know is left as it is
        raise PluginError(f"Not known to latex2mathml: {match[2]}")
    return formula
