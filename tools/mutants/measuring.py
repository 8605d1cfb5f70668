"""One run of all quick tests, to see which lines each of them runs and how long it takes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import coverage

from tools.mutants.nearest import NearestTests
from tools.mutants.plugin import PROFILE, SECONDS_FILE
from tools.mutants.settings import PACKAGES, ROOT, Settings
from tools.mutants.workers import environment

__all__ = ["fingerprint", "nearest_tests"]


def nearest_tests(settings: Settings, copy: Path, folder: Path, state: str) -> NearestTests:
    """What is known about the tests; they are run to find out, unless the folder has it for this state of the code."""
    covered = folder / f"coverage-{state}"
    seconds = folder / f"seconds-{state}.json"
    if not seconds.is_file():
        print("Running all quick tests once, to see which lines each of them runs.", flush=True)
        _measure(settings, copy)
        if not json.loads((copy / "seconds.json").read_text(encoding="utf-8")):
            sys.exit("No test passed, so no mutation can be tried. What is above says why.")
        shutil.copy(copy / ".coverage", covered)
        shutil.copy(copy / "seconds.json", seconds)  # last: without it nothing counts as known
    data = coverage.CoverageData(str(covered))
    data.read()
    return NearestTests(
        root=ROOT,
        sources=[str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")],
        covered=data,
        seconds=json.loads(seconds.read_text(encoding="utf-8")),
        named=settings.nearest,
        limit=settings.test_seconds,
    )


def _measure(settings: Settings, copy: Path) -> None:
    """Run the tests; those that fail here, as some may that watch the interpreter, are left out."""
    (copy / ".coveragerc").write_text("[run]\nrelative_files = true\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow"]
    command += ["-n", str(settings.workers), "--dist", "worksteal"]
    command += ["--cov-context=test", "--cov-report=", "--cov-config=.coveragerc"]
    command += [f"--cov={package}" for package in PACKAGES]
    command += [f"--ignore={path}" for path in settings.leave_out_tests]
    command += ["-p", "tools.mutants.plugin", "-p", "no:cacheprovider", f"--hypothesis-profile={PROFILE}"]
    variables = {**environment(copy), SECONDS_FILE: str(copy / "seconds.json")}
    subprocess.run(command, cwd=copy, env=variables, check=False)


def fingerprint(*names: str) -> str:
    """Names the content of some files, and of the Python files of some folders."""
    digest = hashlib.sha256()
    for name in names:
        files = [ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*.py"))
        for file in files:
            digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
