"""What a part prints, in Markdown: its figures, and whether its bounds are kept. The page is made of these."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import fnmatch
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.timing import TINY, Effort

__all__ = [
    "BROKEN",
    "KEEP_MEMORY",
    "PAGE",
    "Bound",
    "Wish",
    "bound_on",
    "figure",
    "fill_page",
    "machine",
    "main",
    "table",
]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/benchmarks.md"
# Fresh memory costs a page fault every 4 KiB, which meets one contestant or the other by chance.
# So glibc is told to keep what is freed, when a process starts.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
BROKEN = 3  # the status of a part with a broken bound; 1 is that of any failure in Python
_LIBRARIES = ("torch", "numpy", "numba", "h5py", "snntorch", "spikingjelly", "lava-dl", "lava-nc")


@dataclass(frozen=True)
class Wish:
    """What to measure: subjects whose name fits a pattern, or a tiny version that only shows that all still runs."""

    only: str = "*"
    tiny: bool = False

    def wants(self, subject: str) -> bool:
        """Whether to measure a subject."""
        return fnmatch.fnmatchcase(subject, self.only)

    def effort(self, rounds: int = Effort.rounds, turn: float = Effort.turn) -> Effort:
        """How long to measure."""
        return TINY if self.tiny else Effort(rounds, turn)

    @property
    def device(self) -> str:
        """Where to measure."""
        return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Bound:
    """A promise, and what comes nearest to breaking it."""

    text: str
    worst: str
    kept: bool


def bound_on(text: str, values: Sequence[tuple[float, str]], limit: float, *, at_least: bool) -> Bound:
    """A bound on many values, each given with its subject: all are at least, or at most, the limit."""
    value, subject = min(values) if at_least else max(values)
    return Bound(text, f"{figure(value)}: {subject}", value >= limit if at_least else value <= limit)


def figure(value: float) -> str:
    """A number with three digits, in full."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main(part: str, description: str | None, measure: Callable[[Wish], tuple[list[str], list[Bound]]]) -> None:
    """Run one part from the command line and print its section; status 3 if a bound is broken.

    Args:
        part: the module's name.
        description: its docstring.
        measure: gives tables and bounds.
    """
    if not KEEP_MEMORY.items() <= os.environ.items():
        command = [sys.executable, "-m", f"benchmarks.{part}", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **KEEP_MEMORY})
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{part}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="*", metavar="PATTERN", help="measure only what has such a name: 'ce_*'")
    parser.add_argument("--tiny", action="store_true", help="small and few: figures that mean nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load, start = os.getloadavg()[0], datetime.datetime.now(datetime.timezone.utc)
    with _output_as_errors():
        tables, bounds = measure(Wish(arguments.only, arguments.tiny))
    if not tables:
        parser.exit(2, f"Nothing in benchmarks.{part} has a name like {arguments.only!r}.\n")
    command = " ".join(["python", "-m", f"benchmarks.{part}", *sys.argv[1:]])
    print(f"`{command}`, {start:%Y-%m-%d %H:%M} UTC, commit `{_commit()}`, load before {load:.1f}.\n")
    if bounds:
        rows = [[bound.text, "kept" if bound.kept else "**broken**", bound.worst] for bound in bounds]
        print(table(["bound", "outcome", "nearest to it"], rows))
    print("\n".join(tables))
    raise SystemExit(0 if all(bound.kept for bound in bounds) else BROKEN)


@contextlib.contextmanager
def _output_as_errors() -> Iterator[None]:
    """What libraries say when they are imported, here and in children, is no figure of the page."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def machine() -> str:
    """Processor, system and versions, as a sentence."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES if _installed(name)]
    system = f"{_processor()}, {os.cpu_count()} cores, one torch thread; {platform.system()} {platform.machine()}"
    device = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{system}{device}; Python {platform.python_version()}, {', '.join(versions)}.\n"


def fill_page(text: str, name: str, section: str) -> str:
    """The page with a section between its two marks."""
    begin, end = f"<!-- {name}: measured -->\n", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"Expected the page to have the marks {begin.strip()} and {end} once.")
    before, rest = text.split(begin)
    return before + begin + section.rstrip() + "\n" + end + rest.split(end)[1]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _commit() -> str:
    """The commit that was measured, marked if code is changed; what the benchmarks write themselves is no change."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if found.returncode:
        return "unknown"
    page = PAGE.relative_to(ROOT).as_posix()
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", f":!{page}"], check=False)
    return found.stdout.strip() + ("-dirty" if changed.returncode else "")
