"""Which Python runs Lava: this one, or that of an environment of Lava's own, as ``netx-export lava-env`` makes it.

Lava runs on Python 3.10 alone, with versions of torch and numpy that are as old. Since it runs in a process of its own
anyway, that process can be of another Python than the one that trains and verifies.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netx_export.errors import SimulationError
from netx_export.file.atomic import make_directory, replacing

__all__ = [
    "LAVA_NEEDS",
    "VARIABLE",
    "LavaPython",
    "PythonFacts",
    "check_lava_python",
    "examine",
    "find_lava_python",
    "remember",
    "remembered",
]

VARIABLE = "NETX_EXPORT_LAVA_PYTHON"
LAVA_NEEDS = (3, 10)
_PACKAGES = ("lava-nc", "lava-dl", "torch", "numpy", "h5py")
_ADVICE = "Name a Python 3.10 with Lava, or make an environment with: netx-export lava-env."
_PROBE_SECONDS = 60.0
# Without the directory that it is started in, where a file named like a module would be run. It prints its version also
# where that is so old that nothing behind it would work.
_PROBE = f"""
import sys
sys.path = [entry for entry in sys.path if entry]
import json
facts = dict(version=list(sys.version_info[:3]), packages=dict())
if sys.version_info[:2] == {LAVA_NEEDS}:
    import numpy
    from importlib import metadata
    for name in {_PACKAGES}:
        try:
            facts["packages"][name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
print(json.dumps(facts))
"""


@dataclass(frozen=True)
class LavaPython:
    """A Python that is to run Lava.

    Attributes:
        path: the executable, as an absolute path.
        origin: who named it, for messages: it is put after the words "named by".
    """

    path: str
    origin: str

    @property
    def is_this_one(self) -> bool:
        """Whether it is the Python that runs now; links are not followed, for environments differ in nothing else."""
        return self.path == os.path.abspath(sys.executable)

    @property
    def command(self) -> list[str]:
        """How to start it: another Python has to ignore PYTHONPATH and the like, which are meant for this one."""
        return [self.path] if self.is_this_one else [self.path, "-E"]

    def how_to_install(self) -> str:
        """What to do when a module of Lava is missing there."""
        if self.is_this_one:
            return "Install Lava with: pip install 'lava-spikeloss[lava]'."
        return f"It is missing in {self.path}, named by {self.origin}. Make an environment with: netx-export lava-env."


@dataclass(frozen=True)
class PythonFacts:
    """What a Python said of itself.

    Attributes:
        version: as 3.10.13.
        packages: versions of Lava and of what its results could depend on, of those that are installed.
    """

    version: tuple[int, ...]
    packages: Mapping[str, str]


def find_lava_python(named: str | os.PathLike[str] | None = None) -> LavaPython:
    """The Python that is to run Lava; nothing is started.

    It is the one that the caller names; else the one in ``NETX_EXPORT_LAVA_PYTHON``; else this one, if Lava is
    installed in it; else the one that ``netx-export lava-env`` remembered; else this one, if it could run Lava at all.

    Args:
        named: an executable, or the directory of an environment.

    Raises:
        SimulationError: if there is none, it is not there, or it is this one and not a Python 3.10.
    """
    if named is not None:
        return _existing(os.fspath(named), "`lava_python`")
    if os.environ.get(VARIABLE):
        return _existing(os.environ[VARIABLE], VARIABLE)
    this = LavaPython(os.path.abspath(sys.executable), "this Python")
    could_run = sys.version_info[:2] == LAVA_NEEDS
    if could_run and importlib.util.find_spec("lava") is not None:
        return this
    path = remembered()
    if path is not None:
        return _existing(path, "netx-export lava-env, which remembered it")
    if could_run:
        return this  # what it lacks is said when Lava is started
    version = ".".join(map(str, sys.version_info[:2]))
    raise SimulationError(
        f"Lava runs on Python 3.10 only, and this is Python {version}. Use backend='reference', or make an environment "
        f"for Lava with: netx-export lava-env. If there is one already, name its Python in {VARIABLE}."
    )


def check_lava_python(named: object) -> None:
    """Raise a ``TypeError`` unless it is a path, or None."""
    if named is not None and not isinstance(named, str | os.PathLike):
        raise TypeError(f"Expected argument `lava_python` to be the path of a Python or None but got {named!r}.")


def examine(python: LavaPython) -> PythonFacts:
    """Start a Python and ask it for its version and for Lava's.

    Raises:
        SimulationError: if it does not start, is no Python that Lava runs on, or has no numpy.
    """
    who = f"{python.path}, named by {python.origin},"
    try:
        run = subprocess.run(
            [*python.command, "-c", _PROBE], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS
        )
    except OSError as error:
        raise SimulationError(f"{who} cannot be started: {error.strerror}. {_ADVICE}") from None
    except subprocess.TimeoutExpired:
        raise SimulationError(f"{who} said nothing for {_PROBE_SECONDS:.0f} s. {_ADVICE}") from None
    facts = _facts(run.stdout)
    if facts is None:
        last = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        reason = f": {last[:200]}" if last else ""
        raise SimulationError(f"{who} does not work as a Python with numpy{reason}. {_ADVICE}")
    _check_version(python, facts.version)
    return facts


def _check_version(python: LavaPython, version: tuple[int, ...]) -> None:
    if version[:2] != LAVA_NEEDS:
        number = ".".join(map(str, version))
        raise SimulationError(
            f"Lava runs on Python 3.10 only, and {python.path}, named by {python.origin}, is Python {number}. {_ADVICE}"
        )


def _facts(output: bytes) -> PythonFacts | None:
    """What the probe printed in its last line, behind whatever else that Python may print; None if it is not that."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, IndexError):
        said: Any = json.loads(output.splitlines()[-1])
        packages = {str(name): str(version) for name, version in said["packages"].items()}
        return PythonFacts(tuple(map(int, said["version"])), packages)
    return None


def _existing(name: str, origin: str) -> LavaPython:
    """The Python of this name: an executable, one on the PATH, or that of an environment.

    Raises:
        SimulationError: if there is no such file, or it is this Python and Lava does not run on it.
    """
    path = os.path.abspath(os.path.join(name, "bin", "python") if os.path.isdir(name) else shutil.which(name) or name)
    if not os.path.isfile(path):
        raise SimulationError(f"There is no Python {path}, which is named by {origin}. {_ADVICE}")
    python = LavaPython(path, origin)
    if python.is_this_one:  # any other is asked for its version when it is started
        _check_version(python, sys.version_info[:3])
    return python


def remembered() -> str | None:
    """The Python that ``netx-export lava-env`` remembered for this user; None if there is none."""
    with suppress(OSError, RuntimeError):  # nothing there, or a user without a home
        return os.fsdecode(_memory().read_bytes().strip()) or None
    return None


def remember(path: str) -> Path:
    """Remember a Python for this user; returns the file that holds its path.

    Raises:
        ExportError: if the file cannot be written.
        RuntimeError: if the user has no home.
    """
    file = _memory()
    make_directory(file.parent)
    with replacing(file) as temporary:
        temporary.write_bytes(os.fsencode(path) + b"\n")
    return file


def _memory() -> Path:
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(folder) if os.path.isabs(folder) else Path.home() / ".config") / "netx-export" / "lava-python"
