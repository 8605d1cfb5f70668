"""Results of mutants, kept in a file as they come."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.mutants.mutations import Mutation

__all__ = ["NO_TEST", "PASSED", "Result", "Results", "table"]

PASSED = "passed"
NO_TEST = "no test runs this line"


@dataclass(frozen=True)
class Result:
    """What the tests made of one mutation.

    Attributes:
        name: the mutation's name.
        change: the lines that it removes and adds.
        outcome: how the tests ended; they noticed nothing if that is ``passed`` or ``no test runs this line``.
        by: the first test that failed.
        tests: how many tests were chosen.
        seconds: how long they took.
        state: names the tests as they were then.
    """

    name: str
    change: tuple[str, ...]
    outcome: str
    by: str
    tests: int
    seconds: float
    state: str

    @property
    def caught(self) -> bool:
        """Whether the tests noticed."""
        return self.outcome not in (PASSED, NO_TEST)


class Results:
    """Results in a file: what was caught stays caught, survivors are forgotten when the tests change."""

    def __init__(self, file: Path, state: str) -> None:
        self._file = file
        self.of: dict[str, Result] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            fields = json.loads(line)
            result = Result(**{**fields, "change": tuple(fields["change"])})
            if result.caught or result.state == state:
                self.of[result.name] = result

    def add(self, result: Result) -> None:
        """Keep a result, in the file too."""
        self.of[result.name] = result
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")

    def forget_those_caught_by(self, tests: set[str]) -> None:
        """Forget what is only known from some tests."""
        self.of = {name: result for name, result in self.of.items() if result.by not in tests}
        lines = [json.dumps(asdict(result)) + "\n" for result in self.of.values()]
        self._file.write_text("".join(lines), encoding="utf-8")


def table(chosen: list[Mutation], results: dict[str, Result]) -> str:
    """For each folder how many were caught, and every survivor."""
    done = [(mutation, results[mutation.name]) for mutation in chosen if mutation.name in results]
    folders = sorted({_folder(mutation.file) for mutation, _ in done})
    lines = [f"{'':40}{'tried':>7}{'caught':>8}"]
    for folder in folders:
        inside = [result for mutation, result in done if _folder(mutation.file) == folder]
        lines.append(f"{folder:40}{len(inside):7}{sum(result.caught for result in inside):8}")
    caught = sum(result.caught for _, result in done)
    lines.append(f"{'all':40}{len(done):7}{caught:8}  {100 * caught / max(1, len(done)):.1f} %")
    how = Counter(result.outcome for _, result in done)
    lines += ["", "Outcomes: " + ", ".join(f"{outcome} {count}" for outcome, count in how.most_common())]
    survivors = [(mutation, result) for mutation, result in done if not result.caught]
    lines += ["", "Survivors:" if survivors else "No survivors."]
    for mutation, result in sorted(survivors, key=lambda survivor: (survivor[0].file, survivor[0].line)):
        why = NO_TEST if result.outcome == NO_TEST else f"{result.tests} tests passed"
        lines += [f"{mutation.file}:{mutation.line} ({why})", *(f"  {changed}" for changed in result.change)]
    return "\n".join(lines)


def _folder(file: str) -> str:
    return file.rpartition("/")[0]
