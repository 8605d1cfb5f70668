"""All mutations of the code that Cosmic Ray can make and a test should notice, and a random sample of them."""

from __future__ import annotations

import ast
import difflib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

__all__ = ["Mutation", "difference", "mutated", "mutations", "sample"]


@dataclass(frozen=True)
class Mutation:
    """One change to one place of a file.

    Attributes:
        file: the file, from the root of the project.
        line: the line of the place, from 1.
        column: the column of the place, from 0.
        text: the line itself.
        operator: Cosmic Ray's name of the kind of change.
        occurrence: which of the operator's changes to this file it is.
    """

    file: str
    line: int
    column: int
    text: str
    operator: str
    occurrence: int

    @property
    def name(self) -> str:
        """Names the mutation in the file of results."""
        return f"{self.file}:{self.line}:{self.column} {self.operator} {self.occurrence}"


def mutations(root: Path, files: Iterable[Path], operators: Iterable[str]) -> list[Mutation]:
    """All mutations of some files that a test should notice."""
    return [mutation for file in files for mutation in _of_file(root, file, operators)]


def _of_file(root: Path, file: Path, operators: Iterable[str]) -> Iterator[Mutation]:
    code = file.read_text(encoding="utf-8")
    lines = code.splitlines()
    unguarded = list(_unguarded(ast.parse(code)))
    nodes = list(ast_nodes(get_ast(code)))
    for name in operators:
        operator = get_operator(name)()
        places = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, (line, column) in enumerate(places):
            if not any(start <= (line, column) < end for start, end in unguarded):
                yield Mutation(str(file.relative_to(root)), line, column, lines[line - 1].strip(), name, occurrence)


_Place = tuple[int, int]  # line and column


def _unguarded(tree: ast.Module) -> Iterator[tuple[_Place, _Place]]:
    """Where no test should notice a change, from one place to another.

    Annotations, decorators and the marks between parameters are for tools. What is in an f-string or behind ``raise``
    is the text of a message.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (_extent(decorator) for decorator in node.decorator_list)
            yield from _signature_without_defaults(node)
        elif isinstance(node, ast.ClassDef):
            yield from (_extent(decorator) for decorator in node.decorator_list)
        elif isinstance(node, ast.AnnAssign):
            yield _extent(node.annotation)
        elif isinstance(node, ast.JoinedStr):
            yield _extent(node)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield _extent(node.exc)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield _extent(node)


def _signature_without_defaults(function: ast.FunctionDef) -> Iterator[tuple[_Place, _Place]]:
    start: _Place = (function.lineno, function.col_offset)
    for default in [*function.args.defaults, *function.args.kw_defaults]:
        if default is not None:
            default_start, default_end = _extent(default)
            yield start, default_start
            start = default_end
    yield start, _extent(function.body[0])[0]


def _extent(node: ast.expr | ast.stmt) -> tuple[_Place, _Place]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def sample(every: Iterable[Mutation], count: int, seed: int) -> list[Mutation]:
    """A random choice of places, one mutation at each.

    A place counts once, however many changes can be made to it. The choice depends on the seed, the file and the text
    of the line, so that a change elsewhere in the code leaves the others as they were.
    """
    at_place: dict[tuple[str, int, int], list[Mutation]] = {}
    for mutation in every:
        at_place.setdefault((mutation.file, mutation.line, mutation.column), []).append(mutation)

    def random_rank(mutation: Mutation, *more: object) -> str:
        key = (seed, mutation.file, mutation.text, mutation.column, *more)
        return hashlib.sha256(repr(key).encode()).hexdigest()

    places = sorted(at_place.values(), key=lambda changes: random_rank(changes[0]))
    return [min(changes, key=lambda change: random_rank(change, change.name)) for changes in places[:count]]


def mutated(root: Path, mutation: Mutation) -> str:
    """The file's code with the mutation."""
    code = (root / mutation.file).read_text(encoding="utf-8")
    changed = mutate_code(code, get_operator(mutation.operator)(), mutation.occurrence)
    assert changed is not None, f"{mutation.name} is no mutation of this code"
    return str(changed)


def difference(root: Path, mutation: Mutation) -> list[str]:
    """The lines that the mutation removes and adds."""
    before = (root / mutation.file).read_text(encoding="utf-8").splitlines()
    lines = difflib.unified_diff(before, mutated(root, mutation).splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and not line.startswith(("---", "+++"))]
