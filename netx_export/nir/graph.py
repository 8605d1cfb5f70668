"""The order of a NIR graph's nodes: layers of neurons one after the other, with what lies on the way to each.

Nested graphs are read as if their nodes stood in the outer one. netx holds a chain of layers, of which one may lead
back to itself; all else is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn, TypeAlias

import numpy as np

from netx_export.errors import NetxFormatError
from netx_export.nir.library import Named, refuse

__all__ = ["Chain", "Stage", "chain_of", "flat", "gives_voltage", "is_neuron"]

Edge: TypeAlias = tuple[str, str]
Nodes: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One layer of neurons.

    Attributes:
        path: the nodes on the way to it from the layer before, or from the input.
        neuron: the node of its neurons.
        loop: the nodes on the way back from the neurons to themselves; None if there is no way back.
    """

    path: tuple[Named, ...]
    neuron: Named
    loop: tuple[Named, ...] | None


@dataclass(frozen=True)
class Chain:
    """A whole graph.

    Attributes:
        shape: shape of the input.
        stages: its layers in their order.
        tail: the nodes between the last layer and the output.
        output: the node at its end.
    """

    shape: tuple[int, ...]
    stages: tuple[Stage, ...]
    tail: tuple[Named, ...]
    output: Named


def _is_linear(nir: ModuleType, node: Any) -> bool:
    """Whether a node can lie between two layers of neurons."""
    image = nir.Conv2d | nir.SumPool2d | nir.AvgPool2d
    return isinstance(node, nir.Linear | nir.Affine | nir.Scale | nir.Flatten | nir.Delay | image)


def is_neuron(nir: ModuleType, node: Any) -> bool:
    """Whether a node is one that netx has neurons for."""
    return isinstance(node, nir.CubaLIF | nir.LIF | nir.IF) or gives_voltage(nir, node)


def gives_voltage(nir: ModuleType, node: Any) -> bool:
    """Whether a node gives its membrane potential, as netx's last layer can."""
    return isinstance(node, nir.CubaLI | nir.LI | nir.I)


def chain_of(nir: ModuleType, graph: Any) -> Chain:
    """The layers of a graph.

    Raises:
        NetxFormatError: if it is no chain, with the node at which it is not.
    """
    nodes, edges = flat(nir, graph)
    inputs = [name for name, node in nodes.items() if isinstance(node, nir.Input)]
    if len(inputs) != 1:
        raise NetxFormatError(f"Expected a NIR graph with one Input node but it has {len(inputs)}.")
    return _Walk(nir, nodes, edges).chain(inputs[0])


def flat(nir: ModuleType, graph: Any, inside: str = "", around: tuple[Any, ...] = ()) -> tuple[Nodes, list[Edge]]:
    """The nodes and edges of a graph, with nested graphs unfolded: their nodes are named ``graph.node``."""
    if any(graph is other for other in around):
        refuse(inside[:-1], "a graph that holds itself")
    given = _checked_edges(nir, graph, inside)
    nodes: Nodes = {}
    edges: list[Edge] = []
    enter = {name: f"{inside}{name}" for name in graph.nodes}
    leave = dict(enter)
    outer = set(enter.values())
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            nodes[f"{inside}{name}"] = node
            continue
        inner, inner_edges = flat(nir, node, f"{inside}{name}.", (*around, graph))
        enter[name] = _only(nir.Input, f"{inside}{name}", node)
        leave[name] = _only(nir.Output, f"{inside}{name}", node)
        clash = next((other for other in inner if other in nodes or other in outer), None)
        if clash is not None:
            refuse(clash, "there are two nodes of this name once the nested graphs are unfolded; rename one")
        nodes |= inner
        edges += inner_edges
    edges += [(leave[source], enter[target]) for source, target in given]
    wires = {port for port in (*enter.values(), *leave.values()) if port not in outer}
    return {name: node for name, node in nodes.items() if name not in wires}, _without(wires, edges)


def _checked_edges(nir: ModuleType, graph: Any, inside: str) -> list[Edge]:
    """The edges of a graph.

    Refused are those from or to nodes that are not there, the wrong way through inputs and outputs, or there twice.
    """
    where = f" inside of {inside[:-1]!r}" if inside else ""
    given = _unpacked(graph.edges)
    if given is None:
        raise NetxFormatError(
            f"Expected the edges{where} to be a list but got a {type(graph.edges).__name__}. Make a list of them."
        )
    edges = [_edge(edge, where) for edge in given]
    ends = {end for edge in edges for end in edge}
    for source, target in edges:
        missing = next((end for end in (source, target) if end not in graph.nodes), None)
        if missing is not None:
            alone = [name for name in graph.nodes if name not in ends]
            advice = f" {alone[0]!r} has no edge: if it is the one, give it that name." if len(alone) == 1 else ""
            raise NetxFormatError(
                f"An edge{where} goes from {source!r} to {target!r}, and the graph has no node {missing!r}.{advice}"
            )
        if isinstance(graph.nodes[source], nir.Output) or isinstance(graph.nodes[target], nir.Input):
            raise NetxFormatError(
                f"An edge{where} goes from {source!r} to {target!r}; nothing follows an Output or precedes an Input."
            )
    twice = next((edge for edge, times in Counter(edges).items() if times > 1), None)
    if twice is not None:
        raise NetxFormatError(f"The edge{where} from {twice[0]!r} to {twice[1]!r} is there twice; take one away.")
    return edges


def _edge(edge: Any, where: str) -> Edge:
    """The two names of an edge, however they are kept together."""
    ends = _unpacked(edge)
    if ends is None or len(ends) != 2 or not all(isinstance(end, str | int | np.integer) for end in ends):
        raise NetxFormatError(f"Expected an edge{where} to be the names of two nodes but got {edge!r}.")
    return ends[0], ends[1]


def _unpacked(values: Any) -> list[Any] | None:
    """The items of what can be read more than once; None of all else, as of a text, a number and a generator."""
    if isinstance(values, str | bytes) or not isinstance(values, Sized) or not isinstance(values, Iterable):
        return None
    try:
        return list(values)
    except TypeError:  # an array without an axis
        return None


def _only(kind: type, name: str, graph: Any) -> str:
    ports = [inner for inner, node in graph.nodes.items() if isinstance(node, kind)]
    if len(ports) != 1:
        refuse(name, f"a nested graph with {len(ports)} {kind.__name__} nodes; expected one")
    return f"{name}.{ports[0]}"


def _without(wires: set[str], edges: list[Edge]) -> list[Edge]:
    """Edges that lead past the inputs and outputs of nested graphs."""
    for wire in wires:
        before = [source for source, target in edges if target == wire]
        behind = [target for source, target in edges if source == wire]
        edges = [edge for edge in edges if wire not in edge]
        edges += [(source, target) for source in before for target in behind]
    return edges


class _Walk:
    """From the input along the edges to the output."""

    def __init__(self, nir: ModuleType, nodes: dict[str, Any], edges: list[Edge]) -> None:
        self.nir = nir
        self.nodes = nodes
        self.following: dict[str, list[str]] = {name: [] for name in nodes}
        self.entering = Counter(target for _, target in edges)
        for source, target in edges:
            self.following[source].append(target)

    def chain(self, start: str) -> Chain:
        seen = {start}
        stages: list[Stage] = []
        path, end = self.onward(start, [self.stretch(first) for first in self.following[start]])
        while is_neuron(self.nir, self.nodes[end]):
            stretches = [self.stretch(first) for first in self.following[end]]
            loops = [names for names, target in stretches if target == end]
            if len(loops) > 1:
                refuse(end, "leads back to itself on more than one way; netx holds one matrix of recurrent weights")
            if self.entering[end] > 1 + len(loops):
                refuse(end, "takes from more than one node; netx holds a chain")
            seen |= {*path, end, *(loops[0] if loops else ())}
            stages.append(Stage(self.named(path), (end, self.nodes[end]), self.named(loops[0]) if loops else None))
            path, end = self.onward(end, [stretch for stretch in stretches if stretch[1] != end])
            if end in seen:
                refuse(end, "takes from more than one node; netx holds a chain")
        if not stages:
            self.refuse_end([*path, start][0])
        seen |= {*path, end}
        left = [name for name in self.nodes if name not in seen]
        if left:
            refuse(left[0], "is not on the way from the input to the output")
        return Chain(self.shape(start), tuple(stages), self.named(path), (end, self.nodes[end]))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the input, without which nothing else has one."""
        sizes = np.asarray((self.nodes[name].input_type or {}).get("input"))
        if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "iu" or sizes.min() < 0:
            refuse(name, f"a shape of {sizes.tolist()}; expected whole numbers")
        return tuple(int(size) for size in sizes)

    def named(self, names: list[str]) -> tuple[Named, ...]:
        return tuple((name, self.nodes[name]) for name in names)

    def onward(self, name: str, stretches: list[tuple[list[str], str]]) -> tuple[list[str], str]:
        """The one way on from a node."""
        if not stretches:
            refuse(name, "expected an Output node at the end")
        if len(stretches) > 1:
            first, second = (([*names, end])[0] for names, end in stretches[:2])
            refuse(name, f"goes to both {first!r} and {second!r}; netx holds a chain")
        return stretches[0]

    def stretch(self, name: str) -> tuple[list[str], str]:
        """The nodes from here on that are no neurons, and the neurons or the output behind them."""
        names: list[str] = []
        while not (is_neuron(self.nir, self.nodes[name]) or isinstance(self.nodes[name], self.nir.Output)):
            node = self.nodes[name]
            if node is None:
                refuse(name, "is None: what wrote the graph has no NIR node for it")
            if not _is_linear(self.nir, node):
                kind = type(node).__name__
                refuse(name, f"expected CubaLIF, LIF or IF neurons here but got {kind}, which netx has nowhere")
            if self.entering[name] > 1 or name in names:
                refuse(name, "takes from more than one node; netx holds a chain")
            names.append(name)
            behind = self.following[name]
            if not behind:
                self.refuse_end(name)
            if len(behind) > 1:
                refuse(name, f"goes to both {behind[0]!r} and {behind[1]!r}; netx holds a chain")
            name = behind[0]
        return names, name

    def refuse_end(self, name: str) -> NoReturn:
        refuse(name, "expected CubaLIF, LIF or IF neurons after it, but the graph ends")
