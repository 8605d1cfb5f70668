"""What is mutated and how much: the table ``[tool.mutants]`` of pyproject.toml and three environment variables."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PACKAGES", "ROOT", "Settings"]

PACKAGES = ("lava_spikeloss", "netx_export")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """Settings of one run.

    Attributes:
        files: patterns of the files to mutate.
        leave_out: patterns of files among them to leave as they are.
        operators: names of Cosmic Ray's operators, each a kind of change.
        leave_out_tests: tests that could not notice much, or run the code in other processes.
        test_seconds: how long the tests of one mutant may take, by their times without a mutation.
        nearest: tests for files whose lines are run where coverage cannot see them.
        count: how many mutants are tried (MUTANTS).
        seed: which ones (SEED).
        workers: how many are tried at the same time (WORKERS; one per core).
    """

    files: tuple[str, ...]
    leave_out: tuple[str, ...]
    operators: tuple[str, ...]
    leave_out_tests: tuple[str, ...]
    test_seconds: float
    nearest: dict[str, tuple[str, ...]]
    count: int
    seed: int
    workers: int

    @classmethod
    def read(cls) -> Settings:
        """The settings of pyproject.toml and of the environment."""
        table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutants"]
        return cls(
            files=tuple(table["files"]),
            leave_out=tuple(table["leave-out"]),
            operators=tuple(table["operators"]),
            leave_out_tests=tuple(table["leave-out-tests"]),
            test_seconds=table["test-seconds"],
            nearest={file: tuple(tests) for file, tests in table["nearest"].items()},
            count=int(os.environ.get("MUTANTS", "300")),
            seed=int(os.environ.get("SEED", "0")),
            workers=int(os.environ.get("WORKERS", os.cpu_count() or 1)),
        )

    def sources(self, root: Path = ROOT) -> list[Path]:
        """The files to mutate."""
        found = {path for pattern in self.files for path in root.glob(pattern)}
        return sorted(found - {path for pattern in self.leave_out for path in root.glob(pattern)})
