"""A trial: a random sample of mutations, the nearest tests of each, and a table of what the tests noticed.

Settings are environment variables: MUTANTS (300), SEED (0), WORKERS (one per core). Results are written to the folder
``mutants`` as they come, and a trial that was interrupted goes on where it was. What was caught stays caught until the
code changes; survivors are tried again when the tests change.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

from tools.mutants.measuring import fingerprint, nearest_tests
from tools.mutants.mutations import Mutation, difference, mutated, mutations, sample
from tools.mutants.results import NO_TEST, PASSED, Result, Results, table
from tools.mutants.settings import PACKAGES, ROOT, Settings
from tools.mutants.workers import Job, Outcome, copy_of_the_project, run_all

__all__ = ["main"]

_FOLDER = ROOT / "mutants"
_TESTS = ("tests", "conftest.py", "pyproject.toml")
_SETUP_SECONDS = 5  # a test at most, which was quick since another one had made its fixtures or compiled its loops


def main() -> int:
    """Try the sample and print the table; 1 where it cannot be trusted, for tests fail without a mutation too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = Settings.read()
    scratch = Path(tempfile.mkdtemp(prefix="mutants-"))
    _FOLDER.mkdir(exist_ok=True)
    try:
        copies = [copy_of_the_project(ROOT, scratch / f"copy-{number}") for number in range(settings.workers)]
        return _Trial(settings, copies, scratch).run()
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.")
        return 130
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Trial:
    """One trial, on copies of the project; other temporary files lie in ``scratch``."""

    def __init__(self, settings: Settings, copies: list[Path], scratch: Path) -> None:
        self._copies = copies
        self._scratch = scratch
        self._state = fingerprint(*PACKAGES, *_TESTS)
        self._results = Results(_FOLDER / f"results-{fingerprint(*PACKAGES)}.jsonl", self._state)
        self._chosen = sample(mutations(ROOT, settings.sources(), settings.operators), settings.count, settings.seed)
        self._nearest = nearest_tests(settings, copies[0], _FOLDER, self._state)
        self._unreliable = _FOLDER / "unreliable.txt"
        self._changes: dict[str, tuple[str, ...]] = {}

    def run(self) -> int:
        """Try those without a result, and print the table; 1 if a test that caught one fails without it, too."""
        pending = [mutation for mutation in self._chosen if mutation.name not in self._results.of]
        known = len(self._chosen) - len(pending)
        print(f"{len(self._chosen)} mutations, {known} of them with a result from before.", flush=True)
        run_all(self._jobs(pending), self._copies, self._scratch, self._keep)
        failing = self._failing_without_mutation()
        if failing:
            self._distrust(failing)
            return 1
        result = table(self._chosen, self._results.of)
        (_FOLDER / "table.txt").write_text(result + "\n", encoding="utf-8")
        print(result)
        return 0

    def _jobs(self, pending: list[Mutation]) -> list[Job]:
        """The tests of each mutation; what no test runs has its result at once."""
        without = (
            set(self._unreliable.read_text(encoding="utf-8").splitlines()) if self._unreliable.is_file() else set()
        )
        jobs = []
        for mutation in pending:
            tests = tuple(self._nearest.of(mutation, without))
            job = Job(mutation.name, tests, self._seconds(tests), mutation.file, mutated(ROOT, mutation))
            self._changes[mutation.name] = tuple(difference(ROOT, mutation))
            if tests:
                jobs.append(job)
            else:
                self._keep(Outcome(job, NO_TEST, (), 0.0))
        return jobs

    def _keep(self, outcome: Outcome) -> None:
        name, by = outcome.job.name, outcome.failed[0] if outcome.failed else ""
        print(f"{outcome.result:8} {outcome.seconds:5.0f} s  {name}  {by[:100]}", flush=True)
        seconds, tests = round(outcome.seconds, 1), len(outcome.job.tests)
        self._results.add(Result(name, self._changes[name], outcome.result, by, tests, seconds, self._state))

    def _failing_without_mutation(self) -> list[str]:
        """The tests that caught something and fail on the code as it is, too: they may have caught it by chance."""
        killers = sorted({result.by for result in self._results.of.values() if result.by})
        shares = [tuple(killers[number :: len(self._copies)]) for number in range(len(self._copies))]
        jobs = [
            Job("without mutation", share, self._seconds(share) + _SETUP_SECONDS * len(share), stop_at_first=False)
            for share in shares
            if share
        ]
        outcomes: list[Outcome] = []
        run_all(jobs, self._copies, self._scratch, outcomes.append)
        for outcome in outcomes:
            if outcome.result != PASSED and not outcome.failed:
                raise RuntimeError(f"without a mutation the tests end as: {outcome.result}")
        return sorted({test for outcome in outcomes for test in outcome.failed})

    def _distrust(self, failing: list[str]) -> None:
        """Forget what only these tests caught, and leave them out from now on."""
        self._results.forget_those_caught_by(set(failing))
        with self._unreliable.open("a", encoding="utf-8") as file:
            file.writelines(f"{test}\n" for test in failing)
        print("These tests fail without a mutation, too. Run the same command again; it leaves them out:")
        print("\n".join(f"  {test[:100]}" for test in failing))

    def _seconds(self, tests: tuple[str, ...]) -> float:
        return sum(self._nearest.seconds.get(test, 0.0) for test in tests)
