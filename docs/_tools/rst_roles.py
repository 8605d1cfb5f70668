"""Docstrings use a few roles and directives of reStructuredText; the site reads Markdown."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

_BLOCK = re.compile(r"^( *)\.\. math::((?: .+)?\n(?:\n|\1 +.*\n?)*)", re.MULTILINE)
_MATH_ROLE = re.compile(r":math:`([^`]+)`")
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`([^`]+)`")
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_LITERAL = re.compile(r"(?<!`)``(?!`)")
_DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)  # outside of any section


# Each of their pages shows a part of them, which the page itself introduces.
_INTRODUCED = {"lava_spikeloss", "lava_spikeloss.functional", "netx_export"}


class RstRoles(Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.path in _INTRODUCED:
            obj.docstring = None
        if obj.docstring is not None:
            obj.docstring.value = _markdown(obj.docstring.value)

    def on_class_instance(self, *, node: Any, cls: Any, **_: Any) -> None:
        """A loss module refers to its function, which explains the options."""
        functions = [keyword.value.id for keyword in getattr(node, "keywords", []) if keyword.arg == "function"]
        if functions:
            link = f"[`{functions[0]}`][lava_spikeloss.functional.{functions[0]}]"
            cls.docstring.value += f"\n\nFormula, options and shapes: {link}."


def _markdown(text: str) -> str:
    text = _BLOCK.sub(lambda match: f"{match[1]}$$\n{_dedented(match[2], match[1])}\n{match[1]}$$\n\n", text + "\n")
    text = _EXAMPLE.sub("Examples:", text)
    text = _DOCTEST.sub(lambda match: f"```pycon\n{match[0]}\n```", text)
    text = _MATH_ROLE.sub(r"$\1$", text)
    text = _ROLE.sub(r"`\1`", text)
    return _LITERAL.sub("`", text).rstrip("\n")


def _dedented(block: str, indent: str) -> str:
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    if any("&" in line for line in lines) and "\\begin" not in block:  # Sphinx aligns such lines by itself
        lines = [r"\begin{align*}", *lines, r"\end{align*}"]
    return "\n".join(indent + line for line in lines)
