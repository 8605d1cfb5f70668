"""The command line that every part shares."""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks._results import LATEST, Line, describe_run, load, merge, save
from benchmarks._timing import Effort

__all__ = ["Wish", "main"]

# Fresh memory costs a page fault every 4 KiB, which meets one contestant or the other by chance.
# So glibc is told to keep what is freed.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**25)}


@dataclass(frozen=True)
class Wish:
    """What to measure: subjects whose name fits a pattern, or a tiny version that only shows that all still runs."""

    only: str = "*"
    tiny: bool = False

    def wants(self, subject: str) -> bool:
        """Whether to measure a subject."""
        return fnmatch.fnmatchcase(subject, self.only)

    @property
    def effort(self) -> Effort:
        """How long to measure."""
        return Effort(fewest=2, most=2, seconds=0.0, turn=0.0) if self.tiny else Effort()

    @property
    def devices(self) -> list[str]:
        """Where to measure."""
        return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def main(
    part: str, description: str | None, measure: Callable[[Wish], Iterator[Line]], *, keep_memory: bool = False
) -> None:
    """Run one part from the command line, print its lines, and put them into the results.

    Args:
        part: the module's name.
        description: its docstring.
        measure: gives the lines.
        keep_memory: whether freed memory stays with the process, which takes page faults out of short times.
    """
    if keep_memory and not _KEEP_MEMORY.items() <= os.environ.items():  # glibc reads them when a process starts
        command = [sys.executable, "-m", f"benchmarks.{part}", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **_KEEP_MEMORY})
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{part}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="*", metavar="PATTERN", help="measure only what has such a name: 'ce_*'")
    parser.add_argument("--tiny", action="store_true", help="small and few: figures that mean nothing")
    parser.add_argument("--out", type=Path, default=LATEST, help=f"the results to add to (default: {LATEST})")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = describe_run(" ".join(["python", "-m", f"benchmarks.{part}", *sys.argv[1:]]))
    lines = []
    for line in measure(Wish(arguments.only, arguments.tiny)):
        lines.append(line)
        print(_text(line), flush=True)
    if not lines:
        parser.exit(1, f"Nothing in benchmarks.{part} has a name like {arguments.only!r}.\n")
    save(merge(load(arguments.out) if arguments.out.exists() else None, run, lines), arguments.out)


def _text(line: Line) -> str:
    row = line.as_dict(0)
    verdict = "" if row["target"] is None else ("reached" if row["target"]["reached"] else "missed")
    seconds = "" if line.seconds is None else f"{1e3 * line.seconds:11.3f} ms"
    value = f"{line.value.median:10.3f} {line.unit:9} ({line.value.low:.3f} to {line.value.high:.3f})"
    return f"{line.id:90} {seconds:14} {value:50} {verdict:8} {line.note}"
