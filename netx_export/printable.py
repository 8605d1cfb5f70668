"""Texts of files and paths made safe to print: control characters could steer a terminal, line breaks forge a line."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""A text in one line, in which characters that do not print are escaped as Python writes them.

    Those are control characters, line breaks, marks of writing direction, and half of a surrogate pair.

    Example:
        >>> from netx_export.printable import printable
        >>> print(printable("Größe\n\x1b[1mPASSED"))
        Größe\n\x1b[1mPASSED
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )
