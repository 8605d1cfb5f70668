"""The true reason why a file cannot be opened: one that could not be read is not called damaged."""

from __future__ import annotations

import os
import stat

__all__ = ["check_path", "why_unreadable"]


def check_path(name: str, path: object, kind: str) -> None:
    """Raise a ``TypeError`` unless an argument is a path. An integer is none: Python would read, and close, that file.

    Args:
        name: of the argument.
        path: its value.
        kind: of the file, and what else the argument may be, for the message.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise TypeError(f"Expected argument `{name}` to be the path of a {kind} but got {type(path).__name__}.")


def why_unreadable(path: str | os.PathLike[str]) -> str | None:
    """What is in the way of reading a file, in words that follow its path and a colon; None if nothing is.

    Example:
        >>> from netx_export.file.opening import why_unreadable
        >>> why_unreadable("missing.net")
        'no such file'
    """
    try:
        kind = os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            return "a directory, not a file"
        if not stat.S_ISREG(kind):  # to open a pipe would wait for a writer
            return "no regular file"
        with open(path, "rb"):
            return None
    except ValueError:
        return "no path, for it holds a NUL character"
    except (FileNotFoundError, NotADirectoryError):
        return "no such file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
