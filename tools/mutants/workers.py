"""Runs tests on mutated copies of the project, each in a process that is forked from this one.

What takes seconds to import, torch and Lava, is imported once, here. The project's own modules are not: each process
imports those of its copy. Nothing is changed outside of the copies.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib
import os
import py_compile
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.mutants.plugin import FAILED_FILE, PROFILE
from tools.mutants.settings import PACKAGES

__all__ = ["Job", "Outcome", "copy_of_the_project", "environment", "run_all"]

_IMPORTED_ONCE = ("torch", "h5py", "numba", "hypothesis", "lava.lib.dl.slayer", "lava.lib.dl.netx", "nir")
_SECONDS_BESIDE = 60  # for the start and the collection of tests
_SLOWER = 4  # tests may take that many times as long as they do without a mutation
_MEMORY = 16 << 30  # bytes


@dataclass(frozen=True)
class Job:
    """Tests to run on a copy in which one file is changed.

    Attributes:
        name: names the job.
        tests: the tests, in the order in which they are run.
        seconds: how long they take without a mutation.
        file: the file to change, from the root of the project; none to change nothing.
        code: its changed code.
        stop_at_first: whether the first failing test ends the job.
    """

    name: str
    tests: tuple[str, ...]
    seconds: float
    file: str = ""
    code: str = ""
    stop_at_first: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        result: ``passed``, ``failed``, ``too slow`` or ``crashed``.
        failed: the tests that failed.
        seconds: how long it took.
    """

    job: Job
    result: str
    failed: tuple[str, ...]
    seconds: float


def copy_of_the_project(root: Path, folder: Path) -> Path:
    """Copy what git tracks or would add; what Python compiles is kept beside it and checked by content."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():  # and not deleted
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    for package in folder.glob("*/__init__.py"):
        # By its time and size, as usual, a mutated file could pass for the one before.
        compileall.compile_dir(package.parent, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return folder


def environment(copy: Path) -> dict[str, str]:
    """The environment in which the tests of a copy run, and the processes that they start."""
    return {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}


def run_all(jobs: Iterable[Job], copies: list[Path], scratch: Path, done: Callable[[Outcome], None]) -> None:
    """Run jobs, one on each copy at a time, and tell of each when it is done."""
    for module in _IMPORTED_ONCE:
        with contextlib.suppress(ImportError):  # an extra
            importlib.import_module(module)
    waiting = iter(jobs)
    free = list(copies)
    running: list[_Running] = []
    try:
        while True:
            while free and (job := next(waiting, None)) is not None:
                running.append(_Running(job, free.pop(), scratch))
            if not running:
                return
            time.sleep(0.05)
            for one in [one for one in running if one.over()]:
                running.remove(one)
                free.append(one.copy)
                done(one.finish())
    finally:
        for one in running:
            one.kill()


class _Running:
    """A job under way in a process of its own."""

    def __init__(self, job: Job, copy: Path, scratch: Path) -> None:
        self.job = job
        self.copy = copy
        self._folder = scratch / f"job-{copy.name}"
        self._folder.mkdir()
        self._status: int | None = None
        self._original = (copy / job.file).read_bytes() if job.file else b""
        self._change(job.code.encode())
        self._start = time.monotonic()
        self._process = os.fork()
        if self._process == 0:
            os._exit(_tests(job, copy, self._folder))

    def over(self) -> bool:
        """Whether the process has ended; one that takes too long is ended."""
        process, status = os.waitpid(self._process, os.WNOHANG)
        if process:
            self._status = os.waitstatus_to_exitcode(status)
            return True
        if time.monotonic() - self._start > _SLOWER * self.job.seconds + _SECONDS_BESIDE:
            self.kill()
            return True
        return False

    def kill(self) -> None:
        """End the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):  # it has no group of its own yet
            os.kill(self._process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # it had ended
            os.waitpid(self._process, 0)

    def finish(self) -> Outcome:
        """What became of the job; the copy is as it was before."""
        self._change(self._original)
        failed = self._folder / "failed"
        tests = tuple(failed.read_text(encoding="utf-8").splitlines()) if failed.is_file() else ()
        shutil.rmtree(self._folder, ignore_errors=True)
        return Outcome(self.job, self._result(), tests, time.monotonic() - self._start)

    def _result(self) -> str:
        if self._status is None:
            return "too slow"
        if self._status == pytest.ExitCode.OK:
            return "passed"
        # Where a module cannot be imported, tests that are asked for are not found: an error of usage.
        tests_ran = (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED, pytest.ExitCode.USAGE_ERROR)
        return "failed" if self._status in tests_ran else "crashed"

    def _change(self, code: bytes) -> None:
        if self.job.file:
            (self.copy / self.job.file).write_bytes(code)


def _tests(job: Job, copy: Path, folder: Path) -> int:
    """Run the job's tests in this process, which was forked for it."""
    try:
        os.setsid()
        with open(folder / "log", "wb") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        os.chdir(copy)
        os.environ.update(environment(copy), **{FAILED_FILE: str(folder / "failed"), **_places(folder)})
        tempfile.tempdir = None
        if "numba" in sys.modules:
            sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(copy))
        _import_modules_with_examples(job.tests)
        options = ["-q", "-p", "tools.mutants.plugin", "-p", "no:cacheprovider", f"--hypothesis-profile={PROFILE}"]
        stop = ["--exitfirst"] if job.stop_at_first else []
        return int(pytest.main([*options, *stop, f"--basetemp={folder / 'tests'}", *job.tests]))
    except BaseException:
        traceback.print_exc()
        return int(pytest.ExitCode.INTERRUPTED)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _import_modules_with_examples(tests: Iterable[str]) -> None:
    """Import them as a user does, with the package first: pytest would begin inside, and some end in a circle then."""
    files = {test.partition("::")[0] for test in tests if test.startswith(tuple(f"{name}/" for name in PACKAGES))}
    for file in sorted(files):
        importlib.import_module(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))


def _places(folder: Path) -> dict[str, str]:
    """Where the tests of a job write: what one mutant leaves there must not reach the next."""
    names = {"TMPDIR": "tmp", "NUMBA_CACHE_DIR": "numba", "HYPOTHESIS_STORAGE_DIRECTORY": "hypothesis"}
    for name in names.values():
        (folder / name).mkdir()
    return {variable: str(folder / name) for variable, name in names.items()}
