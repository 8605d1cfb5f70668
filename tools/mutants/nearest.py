"""Which tests could notice a mutation: those that run its lines, by coverage, the quickest first.

Lines that are run where coverage cannot see them have no tests by it. Those outside of functions are run at import, and
those of compiled functions by no interpreter: for both, the tests are those of the lines that use the name. For other
processes pyproject.toml names the tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import coverage

from tools.mutants.mutations import Mutation

__all__ = ["NearestTests"]


@dataclass
class NearestTests:
    """Chooses tests for mutations.

    Attributes:
        root: folder of the project.
        sources: the project's own files, from there.
        covered: what coverage found, with a context for each phase of each test.
        seconds: how long each test takes that passes without a mutation.
        named: the tests that pyproject.toml names for a file.
        limit: how many seconds the tests of one mutation may take together.
    """

    root: Path
    sources: list[str]
    covered: coverage.CoverageData
    seconds: dict[str, float]
    named: dict[str, tuple[str, ...]]
    limit: float

    def of(self, mutation: Mutation, without: Set[str]) -> list[str]:
        """The tests of a mutation, in the order in which they are run."""
        chosen: list[str] = []
        left = self.limit
        for test in self._in_order(self._contexts_for(mutation)):
            if test not in without and self.seconds[test] <= left:
                left -= self.seconds[test]
                chosen.append(test)
        return chosen

    def _in_order(self, contexts: set[str]) -> list[str]:
        """Tests that run a line themselves, then those whose fixtures may: a fixture is run for the first test only."""
        themselves = {context.rpartition("|")[0] for context in contexts}
        files = tuple(context.partition("::")[0] + "::" for context in contexts if context.endswith("|setup"))
        others = {test for test in self.seconds if test.startswith(files)} - themselves if files else set()
        groups = (sorted(group & self.seconds.keys(), key=self._quickest_first) for group in (themselves, others))
        return [test for group in groups for test in _each_function_once_first(group)]

    def _quickest_first(self, test: str) -> tuple[float, str]:
        return self.seconds[test], test

    def _contexts_for(self, mutation: Mutation) -> set[str]:
        """The tests that could notice a mutation, each with its phase, as coverage names them."""
        prefixes = self.named.get(mutation.file, ())
        named = {f"{test}|run" for test in self.seconds if test.startswith(prefixes)} if prefixes else set()
        around = _around(self._trees[mutation.file], mutation.line)
        if any(isinstance(node, _FUNCTIONS) for node in around):
            statement = next(node for node in reversed(around) if isinstance(node, ast.stmt))
            found = self._of_lines(mutation.file, {mutation.line, *_own_lines(statement)})
            if found or self._of_lines(mutation.file, _all_lines(around[0])):
                return found | named
        return self._of_users(set(_defined(around))) | named

    def _of_users(self, names: set[str]) -> set[str]:
        """The tests of all lines that use one of some names."""
        used = [(file, lines) for file, uses in self._uses.items() for name, lines in uses.items() if name in names]
        return {context for file, lines in used for context in self._of_lines(file, lines)}

    def _of_lines(self, file: str, lines: Iterable[int]) -> set[str]:
        return {context for line in lines for context in self._contexts(file).get(line, ()) if context}

    def _contexts(self, file: str) -> dict[int, list[str]]:
        if file not in self._contexts_of_file:
            self._contexts_of_file[file] = self.covered.contexts_by_lineno(file)
        return self._contexts_of_file[file]

    @cached_property
    def _contexts_of_file(self) -> dict[str, dict[int, list[str]]]:
        return {}

    @cached_property
    def _trees(self) -> dict[str, ast.Module]:
        return {file: ast.parse((self.root / file).read_text(encoding="utf-8")) for file in self.sources}

    @cached_property
    def _uses(self) -> dict[str, dict[str, set[int]]]:
        """For each file and name the lines that use it."""
        uses: dict[str, dict[str, set[int]]] = {}
        for file, tree in self._trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    uses.setdefault(file, {}).setdefault(node.id, set()).add(node.lineno)
                elif isinstance(node, ast.Attribute):
                    uses.setdefault(file, {}).setdefault(node.attr, set()).add(node.lineno)
        return uses


_FUNCTIONS = (ast.FunctionDef, ast.Lambda)


def _around(tree: ast.Module, line: int) -> list[ast.AST]:
    """The statements and functions around a line, from outside to inside."""
    parts = (node for node in ast.walk(tree) if isinstance(node, (ast.stmt, ast.Lambda)))
    around = [node for node in parts if line in _all_lines(node)]
    return sorted(around, key=lambda node: -len(_all_lines(node)))


def _all_lines(node: ast.AST) -> range:
    assert isinstance(node, (ast.stmt, ast.expr))
    assert node.end_lineno is not None
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
    return range(first, node.end_lineno + 1)


def _own_lines(statement: ast.stmt) -> range:
    """The lines of a statement without those that it holds; all of a function's, whose own are run at import."""
    body = getattr(statement, "body", None)
    if body is None or isinstance(statement, ast.FunctionDef):
        return _all_lines(statement)
    return range(statement.lineno, body[0].lineno)


def _defined(around: list[ast.AST]) -> Iterator[str]:
    """The names that the statements around a line define."""
    for node in around:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _each_function_once_first(tests: Iterable[str]) -> Iterator[str]:
    """One case of each test function, then the second of each, and so on."""
    cases: dict[str, list[str]] = {}
    for test in tests:
        cases.setdefault(test.partition("[")[0], []).append(test)
    rounds = zip_longest(*cases.values())
    return (test for one_round in rounds for test in one_round if test is not None)
