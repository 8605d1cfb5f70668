"""``make mutants``: what is mutated, which tests are run for it, and that nothing else is changed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cosmic_ray", reason="needs the extra `mutants`")

import coverage

from tools.mutants import measuring, workers
from tools.mutants.mutations import Mutation, difference, mutations, sample
from tools.mutants.nearest import NearestTests
from tools.mutants.results import NO_TEST, PASSED, Result, Results, table
from tools.mutants.settings import Settings
from tools.mutants.workers import Job, Outcome, copy_of_the_project, run_all

OPERATORS = ("core/NumberReplacer", "core/AddNot", "core/ReplaceBinaryOperator_BitOr_BitAnd")
CODE = '''\
LIMIT = 7


@decorated(1)
def inside(value: int | None = 2, *, names: dict[1, 1] | None = None) -> int | None:
    """No more than 3."""
    if value > LIMIT:
        raise ValueError(f"got {value + 4}", 5)
    print(f"{value + 9}")
    return value + 6
'''


@pytest.fixture
def every(tmp_path: Path) -> Callable[[str], list[Mutation]]:
    """All mutations of a file with some code."""

    def of(code: str) -> list[Mutation]:
        (tmp_path / "code.py").write_text(code, encoding="utf-8")
        return mutations(tmp_path, [tmp_path / "code.py"], OPERATORS)

    return of


def test_annotations_decorators_docstrings_and_messages_are_left_alone(
    every: Callable[[str], list[Mutation]], tmp_path: Path
) -> None:
    added = {difference(tmp_path, mutation)[-1].replace(" ", "") for mutation in every(CODE)}
    assert added == {
        "+LIMIT=8",
        "+LIMIT=6",
        "+definside(value:int|None=3,*,names:dict[1,1]|None=None)->int|None:",
        "+definside(value:int|None=1,*,names:dict[1,1]|None=None)->int|None:",
        "+ifnotvalue>LIMIT:",
        "+returnvalue+7",
        "+returnvalue+5",
    }


def test_a_sample_has_one_mutation_at_a_place_and_depends_on_the_seed(every: Callable[[str], list[Mutation]]) -> None:
    code = "".join(f"name{number} = {number}\n" for number in range(50))
    chosen = [sample(every(code), 10, seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len({mutation.line for mutation in chosen[0]}) == 10
    assert len(sample(every(code), 100, 0)) == 50


def test_a_change_elsewhere_leaves_the_sample(every: Callable[[str], list[Mutation]]) -> None:
    code = "".join(f"name{number} = {number}\n" for number in range(50))
    before = [mutation.text for mutation in sample(every(code), 10, 0)]
    after = [mutation.text for mutation in sample(every("# a comment\nthing = None\n" + code), 10, 0)]
    assert before == after


NEAREST = """\
LIMIT = 7


def used(value):
    if value > LIMIT:
        return 1
    return 2


def compiled(value):
    return 3


def calls(value):
    return compiled(value)
"""


@pytest.fixture
def nearest(tmp_path: Path) -> NearestTests:
    """Tests of a file: `quick` and `slow` run line 5, `one` the return behind it, `calls` the last line."""
    (tmp_path / "code.py").write_text(NEAREST, encoding="utf-8")
    data = coverage.CoverageData(no_disk=True)
    lines = {"": (1, 4, 10, 14), "a.py::slow|run": (5,), "a.py::quick|run": (5,), "a.py::one|run": (6,)}
    for context, run in {**lines, "b.py::calls|setup": (15,)}.items():
        data.set_context(context)
        data.add_lines({"code.py": run})
    seconds = {"a.py::slow": 9.0, "a.py::quick": 1.0, "a.py::one": 1.0, "b.py::calls": 1.0, "b.py::shares": 0.1}
    return NearestTests(tmp_path, ["code.py"], data, seconds, {}, limit=5)


def _at(line: int) -> Mutation:
    return Mutation("code.py", line, 0, "", "core/NumberReplacer", 0)


@pytest.mark.parametrize(
    ("line", "tests"),
    [
        (5, ["a.py::quick"]),  # the slow one takes longer than all may together
        (6, ["a.py::one"]),
        (7, []),  # others run the function, but none this line
        (1, ["a.py::quick"]),  # the tests of the line that uses the name
        (11, ["b.py::calls", "b.py::shares"]),  # compiled: those of the caller, and those that share its fixture
    ],
)
def test_nearest_tests(line: int, tests: list[str], nearest: NearestTests) -> None:
    assert nearest.of(_at(line), set()) == tests


def test_the_configuration_names_tests_and_a_trial_leaves_some_out(nearest: NearestTests) -> None:
    nearest.named = {"code.py": ("b.py",)}
    assert nearest.of(_at(7), set()) == ["b.py::shares", "b.py::calls"]
    assert nearest.of(_at(7), {"b.py::shares"}) == ["b.py::calls"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one module and its tests."""
    root = tmp_path / "project"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    (root / "toy_module.py").write_text("LIMIT = 7\n", encoding="utf-8")
    test = "import toy_module\n\ndef test_limit():\n    assert toy_module.LIMIT == 7\n\ndef test_nothing():\n    pass\n"
    (root / "test_toy.py").write_text(test, encoding="utf-8")
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n", encoding="utf-8")
    monkeypatch.setattr(workers, "_IMPORTED_ONCE", ())
    return root


def test_without_a_test_that_passes_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pytest cannot collect the tests: every mutation would count as one that no test notices."""
    monkeypatch.setattr(measuring, "_measure", lambda _, copy: (copy / "seconds.json").write_text("{}"))
    with pytest.raises(SystemExit, match="No test passed"):
        measuring.nearest_tests(Settings.read(), tmp_path, tmp_path / "results", "now")


def _outcomes(project: Path, tmp_path: Path, *codes: str) -> list[str]:
    """What becomes of the project with some codes for its module, on two copies."""
    copies = [copy_of_the_project(project, tmp_path / name) for name in ("one", "two")]
    tests = ("test_toy.py::test_nothing", "test_toy.py::test_limit")
    jobs = [Job(str(number), tests, 0.1, "toy_module.py", code) for number, code in enumerate(codes)]
    outcomes: list[Outcome] = []
    run_all(jobs, copies, tmp_path, outcomes.append)
    for copy in (project, *copies):
        assert (copy / "toy_module.py").read_text(encoding="utf-8") == "LIMIT = 7\n"
    return [f"{one.result} {','.join(one.failed)}" for one in sorted(outcomes, key=lambda one: one.job.name)]


def test_a_mutant_is_caught_by_a_test_that_fails(project: Path, tmp_path: Path) -> None:
    codes = ("LIMIT = 8\n", "LIMIT = 7  # the same\n", "LIMIT = 6\n", "1 / 0\n")
    assert _outcomes(project, tmp_path, *codes) == [
        "failed test_toy.py::test_limit",
        "passed ",
        "failed test_toy.py::test_limit",
        "failed test_toy.py",
    ]


def test_examples_of_a_module_inside_a_package_are_run(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package imports its modules one by one, and to begin with one of them would end in a circle."""
    monkeypatch.setattr(workers, "PACKAGES", ("toy_package",))
    package = project / "toy_package"
    package.mkdir()
    (package / "__init__.py").write_text("from toy_package.toy_inside import VALUE\n", encoding="utf-8")
    inside = '"""A module.\n\n>>> VALUE\n1\n"""\nimport toy_package\n\nVALUE = 1\n'
    (package / "toy_inside.py").write_text(inside, encoding="utf-8")
    (project / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "--import-mode=importlib --doctest-modules"\n', encoding="utf-8"
    )
    copy = copy_of_the_project(project, tmp_path / "one")
    outcomes: list[Outcome] = []
    job = Job("example", ("toy_package/toy_inside.py::toy_package.toy_inside",), 0.1)
    run_all([job], [copy], tmp_path, outcomes.append)
    assert outcomes[0].result == "passed"


def test_a_mutant_that_never_ends_or_dies_is_caught(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_SECONDS_BESIDE", 2)
    codes = ("while True: pass\n", "import os; os.kill(os.getpid(), 9)\n")
    assert _outcomes(project, tmp_path, *codes) == ["too slow ", "crashed "]


def test_an_interruption_ends_the_tests_and_leaves_the_project(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workers.time, "sleep", interrupt)
    kill = workers._Running.kill
    monkeypatch.setattr(workers._Running, "kill", lambda self: (started.append(self), kill(self)))
    with pytest.raises(KeyboardInterrupt):
        _outcomes(project, tmp_path, "while True: pass\n")
    assert (project / "toy_module.py").read_text(encoding="utf-8") == "LIMIT = 7\n"
    with pytest.raises(ProcessLookupError):
        workers.os.kill(started[0]._process, 0)


def _result(name: str, outcome: str, by: str = "", state: str = "now") -> Result:
    return Result(name, ("-a", "+b"), outcome, by, 3, 1.0, state)


def test_what_was_caught_stays_caught_when_tests_change(tmp_path: Path) -> None:
    results = Results(tmp_path / "results", "before")
    results.add(_result("caught", "failed", "test", "before"))
    results.add(_result("survived", PASSED, "", "before"))
    assert set(Results(tmp_path / "results", "before").of) == {"caught", "survived"}
    assert set(Results(tmp_path / "results", "now").of) == {"caught"}


def test_what_only_an_unreliable_test_caught_is_forgotten(tmp_path: Path) -> None:
    results = Results(tmp_path / "results", "now")
    results.add(_result("first", "failed", "reliable"))
    results.add(_result("second", "failed", "by chance"))
    results.forget_those_caught_by({"by chance"})
    assert set(results.of) == set(Results(tmp_path / "results", "now").of) == {"first"}


def test_the_table_counts_and_lists_survivors() -> None:
    chosen = [Mutation("room/a.py", 3, column, "", "core/AddNot", 0) for column in range(4)]
    outcomes = ("failed", "too slow", PASSED, NO_TEST)
    results = {one.name: _result(one.name, outcome) for one, outcome in zip(chosen, outcomes, strict=True)}
    lines = table(chosen, results).splitlines()
    assert lines[1].split() == ["room", "4", "2"]
    assert lines[2].split() == ["all", "4", "2", "50.0", "%"]
    assert "Outcomes: failed 1, too slow 1, passed 1, no test runs this line 1" in lines
    assert [line for line in lines if line.startswith("room/")] == [
        "room/a.py:3 (3 tests passed)",
        "room/a.py:3 (no test runs this line)",
    ]
