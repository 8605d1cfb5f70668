"""Files that are replaced as a whole: whatever happens, a path holds what it held before or all of what is new.

Until it is whole, a new file lies in a directory of its own beside its path. Its writer holds a lock on that directory,
which the system releases when the writer ends, however it ends: so the next writer can tell what a killed writer has
left from what another one is still writing.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from netx_export.errors import ExportError

if sys.platform != "win32":
    import fcntl

__all__ = ["alone_in", "make_directory", "replacing"]

# Locks of another machine on a network drive may not be seen here: only directories of this one are ever removed.
_SUFFIX = f".{''.join(c if c.isalnum() else '-' for c in socket.gethostname())[:64]}.netx.tmp"
_LONGEST_PREFIX = 32  # characters, of up to 4 bytes: a name has 255 bytes


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of ``path``, if the block succeeds.

    Whatever happens, ``path`` holds either what it held before or the whole new file, written and on disk. A symbolic
    link stays, and what it leads to is replaced; so do the permissions of a file that was there. What killed processes
    left beside it is removed.

    Raises:
        ExportError: if the directory does not exist or cannot be written to, the disk is full, or ``path`` is something
            else than a file.
        TypeError: if it is no path.
    """
    target = Path(os.path.realpath(_checked(path)))
    try:
        mode = _permissions(target)
        _remove_leftovers(target.parent)
        directory, lock = _temporary_directory(target)
    except OSError as error:
        raise ExportError(f"Cannot write {path}: {error.strerror}. Choose a path that can be written.") from None
    try:
        temporary = directory / target.name
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    except OSError as error:
        raise ExportError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Hold the lock on a directory, where there are locks, for the block.

    Raises:
        BlockingIOError: if another process holds it.
    """
    lock = _locked(directory, wait=False)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def make_directory(path: str | os.PathLike[str]) -> Path:
    """Make a directory, and those that it lies in, unless it is there.

    Raises:
        ExportError: if it cannot be made.
        TypeError: if it is no path.
    """
    folder = Path(_checked(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"Cannot write to {folder}: {error.strerror}. Choose another directory.") from None
    return folder


def _checked(path: str | os.PathLike[str]) -> str:
    """The path as text, if it is one that can be written to."""
    text = path.__fspath__() if isinstance(path, os.PathLike) else path  # os.fspath would raise an error of its own
    if not isinstance(text, str):
        raise TypeError(f"Expected argument `path` to be a str or an os.PathLike but got {type(text).__name__}.")
    if "\0" in text:
        raise ExportError(f"Cannot write {path}: its name holds a NUL character. Choose another path.")
    return text


def _permissions(target: Path) -> int | None:
    """The permissions of a file that is there; None if there is nothing, so that a new file gets the usual ones."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):  # of a device, for example, a rename would make a file
        raise ExportError(f"Cannot write {target}: it is there and no file. Choose the path of a file.")
    return stat.S_IMODE(status.st_mode)


def _temporary_directory(target: Path) -> tuple[Path, int | None]:
    """A new directory beside the target, and the lock that says that its writer lives, where there are locks."""
    while True:
        directory = Path(tempfile.mkdtemp(_SUFFIX, f".{target.name[:_LONGEST_PREFIX]}.", target.parent))
        lock = _locked(directory, wait=True)
        if directory.exists():
            return directory, lock
        if lock is not None:  # before it was locked, another writer took it for a leftover and removed it
            os.close(lock)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary directories whose writers have ended: those that can be locked."""
    for directory in folder.glob(f".*{_SUFFIX}"):
        with suppress(BlockingIOError):
            lock = _locked(directory, wait=False)
            if lock is not None:
                shutil.rmtree(directory, ignore_errors=True)
                os.close(lock)


def _locked(directory: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock on a directory; None where there are no locks.

    Raises:
        BlockingIOError: if another process holds it, and is not to be waited for.
    """
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return descriptor
