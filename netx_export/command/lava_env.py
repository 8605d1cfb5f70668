"""``netx-export lava-env``: an environment of Lava's own, with a Python 3.10 and what the stock loader needs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from netx_export.errors import NetxExportError
from netx_export.file.atomic import alone_in, make_directory
from netx_export.simulation.lava_python import LAVA_NEEDS, VARIABLE, LavaPython, examine, find_lava_python, remember

__all__ = ["default_directory", "find_base", "make_lava_env"]

# What the stock loader and Lava's simulator import. lava-nc and lava-dl ask for more, such as pytest and scikit-learn,
# and for a torch and a numpy of their time; the versions here are those of their pins that matter.
_LAVA = ["lava-nc==0.10.0", "lava-dl==0.6.0"]
_NEEDS = [
    *("numpy>=1.24.4,<2", "scipy>=1.10.1,<2", "h5py>=3.7,<4", "networkx<=2.8.7", "asteval>=0.9.31,<0.10"),
    *("matplotlib>=3.5.2,<4", "pillow>=10.0.1", "opencv-python-headless>=4.8.1.78,<4.12"),  # 4.12 asks for numpy 2
]
_TORCH = ["torch==2.3.1", "torchvision==0.18.1"]
_MARK = "made-by-netx-export-lava-env"
_STANDARD_ERROR = 2
_SECONDS_TO_END = 5.0
_SECONDS = 60.0  # that a Python may take to print its version: from a slow disk it starts slowly
_HOW_TO_GET_ONE = (
    "Get one with `uv python install 3.10`, `pyenv install 3.10` or `conda create -n python310 python=3.10`, or from "
    "your system's packages; then name it with --python unless it is called python3.10."
)


def make_lava_env(
    directory: Path,
    tell: Callable[[str], None],
    *,
    python: str | None = None,
    torch: str | None = None,
    torch_index: str | None = None,
) -> dict[str, Any]:
    """Make an environment, prove that Lava runs in it, and remember it.

    Args:
        directory: where; it may be there if it is empty, or such an environment, which then is brought up to date.
        tell: called with each sentence for the user.
        python: a Python 3.10, or None for one that is found.
        torch: what pip is to install as torch, or None for the version that lava-dl asks for.
        torch_index: address of a package index with torch's builds for the CPU, from which torch is taken.

    Returns:
        What was made, as plain data.

    Raises:
        NetxExportError: if there is no Python 3.10, the directory is something else, another such command is at work in
            it, pip fails, or Lava does not run.
    """
    _check_torch(torch)
    base = find_base(python)
    directory = Path(os.path.realpath(directory))  # venv refuses a link
    was_there = os.path.isdir(directory)
    _check_directory(directory)
    make_directory(directory)
    path = _python_of(directory)
    with _alone_in(directory):
        is_new = _begin(directory)
        try:
            tell(f"Making an environment for Lava in {directory}, with {base}.")
            tell(_size(torch, torch_index, directory))
            _run([base, "-I", "-m", "venv", str(directory)], f"{base} could not make an environment", quiet=True)
            _install(path, torch, torch_index)
            tell("Installed. Running a network of two layers on Lava.")
            proved = _proved(path, tell)
        except BaseException:
            if is_new:  # also at Ctrl-C: half an environment is of no use
                _take_back(directory, was_there)
            raise
    return {**proved, **_kept(path, tell)}


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep other commands like this one out of a directory."""
    with ExitStack() as held:
        try:
            held.enter_context(alone_in(directory))
        except BlockingIOError:
            raise NetxExportError(
                f"Another netx-export lava-env is at work in {directory}. Wait until it has ended, or name another "
                f"directory."
            ) from None
        yield


def _python_of(directory: Path) -> str:
    return str(directory / "bin" / "python")


def _install(path: str, torch: str | None, torch_index: str | None) -> None:
    pip = [path, "-I", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    wanted = _TORCH if torch is None else [torch, "torchvision"]
    index = []
    if torch_index is not None:
        # From there alone: of an index that it cannot read pip says little, and takes the build with CUDA.
        _run(
            [*pip, "--no-deps", "--index-url", torch_index, wanted[0]],
            f"pip could not install torch from {torch_index}",
        )
        index = ["--extra-index-url", torch_index]
    _run([*pip, *index, *wanted, *_NEEDS], "pip could not install what Lava needs")
    _run([*pip, "--no-deps", *_LAVA], "pip could not install Lava")


def _proved(path: str, tell: Callable[[str], None]) -> dict[str, Any]:
    from netx_export.simulation.trial import try_lava  # imports torch

    facts = examine(LavaPython(path, "netx-export lava-env"))
    spikes = try_lava(path)
    tell(f"Lava runs: all {spikes} spikes of a network of two layers are those of the reference simulator.")
    version = ".".join(map(str, facts.version))
    return {"python": path, "version": version, "packages": dict(facts.packages), "spikes": spikes}


def _kept(path: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """Remember an environment that works. If that fails the user is told, and the environment stays."""
    return {"remembered": _remembered(path, tell), "taken": _taken(path, tell)}


def _remembered(path: str, tell: Callable[[str], None]) -> str | None:
    """The file that remembers it from now on; None if it cannot be written."""
    try:
        file = remember(path)
    except (NetxExportError, RuntimeError) as error:  # a RuntimeError if the user has no home directory
        tell(f"But it cannot be remembered: {error} Until it can, name it with --lava-python {path}, or in {VARIABLE}.")
        return None
    tell(f"{file} remembers it: simulate and verify find it from now on.")
    return str(file)


def _taken(path: str, tell: Callable[[str], None]) -> str | None:
    """The Python that simulate and verify take from now on; None if there is none."""
    named = os.environ.get(VARIABLE)
    try:
        taken = find_lava_python()
    except NetxExportError:
        if named:
            tell(f"But {VARIABLE} comes first, and names {named}, where there is no Python 3.10. Unset it.")
        return None
    if taken.path != path:
        tell(f"But {taken.path}, named by {taken.origin}, comes first.")
    return taken.path


def default_directory() -> Path:
    """Where the environment lies if the user names no place."""
    folder = os.environ.get("XDG_DATA_HOME", "")
    return (Path(folder) if os.path.isabs(folder) else Path.home() / ".local" / "share") / "netx-export" / "lava"


def find_base(named: str | None) -> str:
    """A Python 3.10 to make an environment with: the one that is named, else one that is there.

    Raises:
        NetxExportError: if the named one is none, or none is found.
    """
    wanted = ".".join(map(str, LAVA_NEEDS))
    if named is not None:
        path = shutil.which(named) or named
        version = _version(path)
        if version != wanted:
            what = f"Python {version}" if version else "no Python that runs"
            raise NetxExportError(f"Lava runs on Python {wanted} only, and {named} is {what}. {_HOW_TO_GET_ONE}")
        return path
    for path in _candidates(wanted):
        if _version(path) == wanted:
            return path
    raise NetxExportError(
        f"Lava needs a Python {wanted}, and none was found: this is another, no python{wanted} on the PATH runs, and "
        f"neither uv nor pyenv has one. {_HOW_TO_GET_ONE}"
    )


def _candidates(wanted: str) -> Iterator[str]:
    """Where a Python may be, the nearest first; not all of them need to be there, or to be of that version."""
    yield sys.executable
    yield from filter(None, [shutil.which(f"python{wanted}")])
    yield from _lines("uv", "python", "find", wanted)
    for root in _lines("pyenv", "root"):
        found = Path(root, "versions").glob(f"{wanted}.*/bin/python")
        yield from sorted(map(str, found), key=lambda path: (len(path), path), reverse=True)  # 3.10.13 before 3.10.9


def _lines(*command: str) -> list[str]:
    """What a command prints, in lines; nothing if it is not there or fails."""
    with suppress(OSError, subprocess.SubprocessError):
        run = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, check=True)
        return os.fsdecode(run.stdout).splitlines()
    return []


def _version(path: str) -> str:
    """The version of a Python as "3.10"; an empty text if it does not run."""
    return "".join(_lines(path, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"))


def _check_torch(torch: str | None) -> None:
    """Raise an error for what pip would take for one of its options."""
    if torch is not None and torch.startswith("-"):
        raise NetxExportError(f"Expected --torch to be a requirement, as torch==2.3.1, or a file but got {torch!r}.")


def _check_directory(directory: Path) -> None:
    """Raise unless there is nothing yet, or an environment that was made here, perhaps by an older version.

    Raises:
        NetxExportError: if there is something else, such as an environment that the user trains in.
    """
    try:
        if not os.path.lexists(directory) or (directory.is_dir() and not any(directory.iterdir())):
            return
        is_ours = (directory / _MARK).is_file()
    except OSError as error:
        raise NetxExportError(f"Cannot look into {directory}: {error.strerror}. Name another directory.") from None
    if not is_ours:
        raise NetxExportError(
            f"{directory} is there and was not made by netx-export lava-env. Name another directory, or remove it."
        )


def _begin(directory: Path) -> bool:
    """Mark a directory as ours, and clear an environment whose Python does not run, as when that is gone.

    Returns:
        Whether there is no environment in it now.

    Raises:
        NetxExportError: if it cannot be written to.
    """
    try:
        (directory / _MARK).touch()
        if not _version(_python_of(directory)):
            _clear(directory)
        return not any(entry.name != _MARK for entry in directory.iterdir())
    except OSError as error:
        raise NetxExportError(f"Cannot write to {directory}: {error.strerror}. Name another directory.") from None


def _clear(directory: Path) -> None:
    """Remove what is in an environment, but the mark: if this is interrupted, the next call knows that it is ours."""
    for entry in directory.glob("*"):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != _MARK:
            entry.unlink(missing_ok=True)


def _take_back(directory: Path, was_there: bool) -> None:
    """Remove half an environment; of a directory that was there before, what is in it."""
    _clear(directory)
    if was_there:
        (directory / _MARK).unlink(missing_ok=True)
    else:
        shutil.rmtree(directory, ignore_errors=True)


def _size(torch: str | None, torch_index: str | None, directory: Path) -> str:
    there = next(folder for folder in (directory, *directory.parents) if os.path.exists(folder))
    free = f"{shutil.disk_usage(there).free / 1e9:.0f} GB are free there."
    if torch is not None:
        return f"The stock loader imports torch: the size is mostly that of {torch}. {free}"
    if torch_index is not None:
        return f"The stock loader imports torch. Its builds for the CPU take about 1.5 GB on disk. {free}"
    if sys.platform != "linux":
        return f"The stock loader imports torch, with which it takes about 1.5 GB on disk. {free}"
    return (
        "The stock loader imports torch, whose usual build comes with CUDA: about 3 GB to download and 5.5 GB on "
        f"disk. With --torch-index and PyTorch's index of builds for the CPU it is a fraction of that. {free}"
    )


def _run(command: list[str], failure: str, *, quiet: bool = False) -> None:
    """Run a command, whose progress the user sees on standard error.

    Args:
        command: what to run.
        failure: what could not be done if it fails.
        quiet: show what it prints only if it fails.

    Raises:
        NetxExportError: if it fails.
    """
    sys.stderr.flush()
    output, errors = (subprocess.PIPE, subprocess.STDOUT) if quiet else (_STANDARD_ERROR, None)
    try:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors) as process:
            try:
                printed, _ = process.communicate()
            except BaseException:
                _interrupt(process)
                raise
    except OSError as error:
        raise NetxExportError(f"{failure}: {error.strerror}.") from None
    if process.returncode != 0:
        os.write(_STANDARD_ERROR, printed or b"")
        raise NetxExportError(f"{failure}: it ended with status {process.returncode}, and says above why.")


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Let pip take back what it began, and remove what it downloaded; a terminal has sent it Ctrl-C already."""
    for sign in (None, signal.SIGINT, signal.SIGKILL):
        if sign is not None:
            process.send_signal(sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SECONDS_TO_END)
            return
