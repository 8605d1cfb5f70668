"""NIR's equations in steps of forward Euler, written down from its documentation: nothing here knows netx.

A graph is stepped node by node, nested graphs as nodes of their own. What leads back to neurons that it comes from gets
there one step later.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import nir
import numpy as np
import torch
from torch.nn.functional import avg_pool2d, conv2d

ROUNDING_ERROR = 1e-9  # of sums of float64: a membrane potential that equals the threshold lies not above it


def euler(graph: Any, spikes: np.ndarray, dt: float) -> np.ndarray:
    """What a graph gives for spikes ``(N, ..., T)``, in the same layout."""
    stepped = Graph(graph, dt)
    return np.stack([stepped(spikes[..., step].astype(np.float64)) for step in range(spikes.shape[-1])], axis=-1)


def fired(graph: Any, spikes: np.ndarray, dt: float) -> dict[str, np.ndarray]:
    """The spikes of every node of neurons, those of nested graphs as ``graph.node``."""
    stepped = Graph(graph, dt)
    steps = []
    for step in range(spikes.shape[-1]):
        stepped(spikes[..., step].astype(np.float64))
        steps.append(dict(stepped.fired()))
    return {name: np.stack([values[name] for values in steps], axis=-1) for name in steps[0]}


class Graph:
    """A graph with the state of its nodes."""

    def __init__(self, graph: Any, dt: float) -> None:
        self.nodes = {name: _stepped(node, dt) for name, node in graph.nodes.items()}
        self.sources = {name: [source for source, target in graph.edges if target == name] for name in graph.nodes}
        self.input = next(name for name, node in graph.nodes.items() if isinstance(node, nir.Input))
        self.output = next(name for name, node in graph.nodes.items() if isinstance(node, nir.Output))
        stateful = {
            name
            for name, node in graph.nodes.items()
            if isinstance(node, nir.LIF | nir.CubaLIF | nir.IF | nir.NIRGraph)
        }
        late = {
            (source, target) for source, target in graph.edges if source in stateful and self._reaches(target, source)
        }
        self.late = late
        self.order = self._ordered(late)
        self.before: dict[str, Any] = {}

    def _reaches(self, start: str, goal: str) -> bool:
        seen, open_ = set(), [start]
        while open_:
            name = open_.pop()
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                open_ += [target for target, sources in self.sources.items() if name in sources]
        return False

    def _ordered(self, late: set[tuple[str, str]]) -> list[str]:
        order: list[str] = []
        while len(order) < len(self.nodes):
            order.append(
                next(
                    name
                    for name in self.nodes
                    if name not in order
                    and all(source in order or (source, name) in late for source in self.sources[name])
                )
            )
        return order

    def __call__(self, incoming: np.ndarray) -> np.ndarray:
        now: dict[str, Any] = {self.input: incoming}
        for name in self.order:
            if name == self.input:
                continue
            values = [
                self.before.get(source) if (source, name) in self.late else now[source] for source in self.sources[name]
            ]
            if all(value is None for value in values):  # the first step of what leads back
                node = self.nodes[name].node
                values = [np.zeros((len(incoming), node.weight.shape[1]))]
            now[name] = self.nodes[name](sum(value for value in values if value is not None))
        self.before = now
        return now[self.output]

    def fired(self) -> Iterator[tuple[str, np.ndarray]]:
        """The spikes of this step."""
        for name, node in self.nodes.items():
            if isinstance(node, Graph):
                yield from ((f"{name}.{inner}", values) for inner, values in node.fired())
            elif isinstance(node.node, nir.LIF | nir.CubaLIF | nir.IF):
                yield name, self.before[name]


def _stepped(node: Any, dt: float) -> Any:
    return Graph(node, dt) if isinstance(node, nir.NIRGraph) else _Node(node, dt)


class _Node:
    def __init__(self, node: Any, dt: float) -> None:
        self.node = node
        self.dt = dt
        self.current: Any = 0.0
        self.voltage: Any = 0.0
        self.queue: list[np.ndarray] = []

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return getattr(self, type(self.node).__name__.lower())(values)

    def get(self, name: str) -> np.ndarray:
        return np.asarray(getattr(self.node, name), np.float64)

    def input(self, values: np.ndarray) -> np.ndarray:
        return values

    output = input

    def linear(self, values: np.ndarray) -> np.ndarray:
        return values @ self.get("weight").T

    def affine(self, values: np.ndarray) -> np.ndarray:
        return values @ self.get("weight").T + self.get("bias")

    def scale(self, values: np.ndarray) -> np.ndarray:
        return values * self.get("scale")

    def flatten(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(len(values), -1)

    def conv2d(self, values: np.ndarray) -> np.ndarray:
        node = self.node
        padding = node.padding if isinstance(node.padding, str) else _pair(node.padding)
        weight, bias = torch.from_numpy(self.get("weight")), torch.from_numpy(self.get("bias"))
        options = _pair(node.stride), padding, _pair(node.dilation), int(node.groups)
        return conv2d(torch.from_numpy(values), weight, bias, *options).numpy()

    def avgpool2d(self, values: np.ndarray) -> np.ndarray:
        sizes = (_pair(getattr(self.node, name)) for name in ("kernel_size", "stride", "padding"))
        return avg_pool2d(torch.from_numpy(values), *sizes).numpy()

    def sumpool2d(self, values: np.ndarray) -> np.ndarray:
        return self.avgpool2d(values) * np.prod(_pair(self.node.kernel_size))

    def delay(self, values: np.ndarray) -> np.ndarray:
        self.queue.append(values)
        out = np.zeros_like(values)
        for index in np.ndindex(values.shape[1:]):
            steps = int(np.rint(np.broadcast_to(self.get("delay"), values.shape[1:])[index] / self.dt))
            if steps < len(self.queue):
                out[(slice(None), *index)] = self.queue[-1 - steps][(slice(None), *index)]
        return out

    def cubalif(self, values: np.ndarray) -> np.ndarray:
        self.current = self.current + self.dt / self.get("tau_syn") * (self.get("w_in") * values - self.current)
        return self.leaky("tau_mem", self.current)

    def lif(self, values: np.ndarray) -> np.ndarray:
        return self.leaky("tau", values)

    def leaky(self, tau: str, current: np.ndarray) -> np.ndarray:
        change = self.get("v_leak") - self.voltage + self.get("r") * current
        return self.fire(self.voltage + self.dt / self.get(tau) * change)

    def if_(self, values: np.ndarray) -> np.ndarray:
        return self.fire(self.voltage + self.dt * self.get("r") * values)

    def cubali(self, values: np.ndarray) -> np.ndarray:
        self.cubalif(values)
        return self.voltage

    def li(self, values: np.ndarray) -> np.ndarray:
        self.lif(values)
        return self.voltage

    def i(self, values: np.ndarray) -> np.ndarray:
        self.if_(values)
        return self.voltage

    def fire(self, voltage: np.ndarray) -> np.ndarray:
        if not hasattr(self.node, "v_threshold"):
            self.voltage = voltage
            return np.zeros_like(voltage)
        spikes = voltage > self.get("v_threshold") + ROUNDING_ERROR
        self.voltage = np.where(spikes, self.get("v_reset"), voltage)
        return spikes.astype(np.float64)


setattr(_Node, "if", _Node.if_)


def _pair(values: Any) -> tuple[int, int]:
    first, second = np.broadcast_to(np.asarray(values), 2)
    return int(first), int(second)
