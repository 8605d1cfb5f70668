"""Results: lines with their target, and the run that each comes from, as JSON checked against a schema.

A part that is measured again replaces its lines and leaves all others; each line names the run that it comes from.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonschema
import torch

from benchmarks._targets import TARGETS
from benchmarks._timing import Spread

__all__ = ["LATEST", "Line", "describe_run", "load", "merge", "save"]

HERE = Path(__file__).parent
LATEST = HERE / "results" / "latest.json"
_SCHEMA = json.loads((HERE / "results.schema.json").read_text())
_LIBRARIES = ("torch", "numpy", "numba", "h5py", "lava-spikeloss", "snntorch", "spikingjelly", "lava-dl", "lava-nc")


@dataclass(frozen=True)
class Line:
    """One measured figure.

    Attributes:
        part: the benchmark that measured it.
        labels: what was measured, in the order that makes its name.
        what: the quantity.
        value: its median, with quartiles.
        unit: of the value; empty for a pure number.
        better: whether lower or higher is better.
        seconds: what our own side took, median.
        target: the name of its target in ``_targets.py``, if it has one.
        note: what one has to know beside it.
    """

    part: str
    labels: dict[str, str]
    what: str
    value: Spread
    unit: str
    better: Literal["lower", "higher"]
    seconds: float | None = None
    target: str | None = None
    note: str = ""
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", "/".join([self.part, *self.labels.values(), self.what]))

    def as_dict(self, run: int) -> dict[str, Any]:
        """The line as the schema has it."""
        target = None
        if self.target is not None:
            one = TARGETS[self.target]
            target = {"name": self.target, "limit": one.limit, "reached": one.reached(self.value.median)}
        return {
            "id": self.id,
            "part": self.part,
            "labels": self.labels,
            "what": self.what,
            "value": self.value.median,
            "low": self.value.low,
            "high": self.value.high,
            "unit": self.unit,
            "better": self.better,
            "seconds": self.seconds,
            "target": target,
            "note": self.note,
            "run": run,
        }


def describe_run(command: str) -> dict[str, Any]:
    """Machine, versions and command, as the schema has them."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "command": command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count() or 0,
            "threads": torch.get_num_threads(),
            "load": round(os.getloadavg()[0], 2),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "versions": versions,
    }


def _commit() -> str:
    """The commit, "-dirty" if more has changed since than what the benchmarks themselves write."""
    code = (":/", ":!/benchmarks/results", ":!/docs/benchmarks.md")
    commit = _git("rev-parse", "--short", "HEAD")
    return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no", "--", *code) else commit


def _git(*command: str) -> str:
    with suppress(OSError):
        return subprocess.run(["git", *command], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return ""


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def load(path: Path) -> dict[str, Any]:
    """Results from a file.

    Raises:
        jsonschema.ValidationError: if they do not follow the schema.
    """
    results: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(results, _SCHEMA)
    return results


def merge(old: dict[str, Any] | None, run: dict[str, Any], lines: Iterable[Line]) -> dict[str, Any]:
    """Old results with the lines of a new run in the place of those of the same name."""
    runs = [*(old["runs"] if old else []), run]
    rows = {row["id"]: row for row in (old["lines"] if old else [])}
    rows.update({line.id: line.as_dict(len(runs) - 1) for line in lines})
    used = sorted({row["run"] for row in rows.values()})
    place = {number: index for index, number in enumerate(used)}
    return {
        "schema": 1,
        "runs": [runs[number] for number in used],
        "lines": [{**row, "run": place[row["run"]]} for _, row in sorted(rows.items())],
    }


def save(results: dict[str, Any], path: Path) -> None:
    """Write results, whole or not at all.

    Raises:
        jsonschema.ValidationError: if they do not follow the schema.
    """
    jsonschema.validate(results, _SCHEMA)
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
