"""Why a file cannot be opened, in words that are true: that it is damaged is said of no file that was not read."""

from __future__ import annotations

import os
import stat

__all__ = ["why_unreadable"]


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
        if not stat.S_ISREG(kind):  # to open a pipe, say, would wait for its other end
            return "no regular file"
        with open(path, "rb"):
            return None
    except ValueError:
        return "no path, for it holds a NUL character"
    except (FileNotFoundError, NotADirectoryError):
        return "no such file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
