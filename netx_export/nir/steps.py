"""How long one step is: what the graph says, or which values would suit its time constants."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from netx_export.errors import NetxFormatError
from netx_export.network.fixed_point import UNITY_DECAY
from netx_export.nir.graph import flat, is_neuron
from netx_export.nir.library import DEFAULT_DT, FloatArray, Named, numbers

__all__ = ["step_of"]

_WHOLE = 2e-3  # of 1/4096: decays this close to whole numbers are whole in single precision
_SAME = 1e-4  # steps that differ by less, as a share, are one
_SINGLE = 1e-6  # what single precision may change, as a share
_USUAL = (DEFAULT_DT, 1e-3)


@dataclass(frozen=True)
class _Candidate:
    dt: float
    off: float  # how far the decays are from whole numbers of 1/4096
    why: str = ""

    def __str__(self) -> str:
        decays = "all decays are whole" if self.off <= _WHOLE else f"decays are up to {self.off:.2g}/4096 off"
        return f"dt={self.dt:.9g} ({self.why}{decays})"


def step_of(nir: ModuleType, graph: Any) -> float:
    """Seconds per step as the metadata of the graph, of its nodes or of nested graphs give them under ``dt``.

    Raises:
        NetxFormatError: if there are none, or different ones; with the values that would suit best.
    """
    nodes, _ = flat(nir, graph)
    given = sorted(value for value in map(_noted, _with_all_inside(nir, graph)) if value is not None)
    if given and given[-1] - given[0] > _SINGLE * given[-1]:
        raise NetxFormatError(f"The graph's metadata give different `dt`: {given[0]:g} and {given[-1]:g}. Give one.")
    if given:
        return given[0]
    neurons = [named for named in nodes.items() if is_neuron(nir, named[1])]
    offered = "; ".join(map(str, _candidates(nir, neurons)))
    raise NetxFormatError(
        "NIR counts in seconds, and the graph does not say how long a step is. Give `dt`, the step with which the "
        "network was trained or is to run" + (f". Best first: {offered}." if offered else ".")
    )


def _with_all_inside(nir: ModuleType, node: Any) -> Iterator[Any]:
    """A node and, of a graph, all its nodes, nested graphs and theirs."""
    yield node
    if isinstance(node, nir.NIRGraph):
        for inner in node.nodes.values():
            yield from _with_all_inside(nir, inner)


def _noted(node: Any) -> float | None:
    metadata = getattr(node, "metadata", None)
    value = metadata.get("dt") if isinstance(metadata, dict) else None
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not (number > 0 and np.isfinite(number)):
        raise NetxFormatError(f"The graph's metadata give a `dt` of {value!r}, which is no positive number. Give `dt`.")
    return number


def _candidates(nir: ModuleType, neurons: list[Named]) -> list[_Candidate]:
    """Steps that suit the neurons, best first: the one at which their gains are 1, one that makes all decays whole, and
    the usual ones."""
    taus = _taus(neurons)
    unity = _common_step(nir, neurons)
    found: list[_Candidate] = []
    if unity is not None and not _possible(unity, taus):
        unity = None
    if unity is not None:
        found.append(_Candidate(unity, _off(unity, taus), "an input of 1 adds 1 per step; "))
    if not taus.size:
        return found
    near = DEFAULT_DT if unity is None else unity
    lattice = [dt for dt in taus[0] * np.arange(1, UNITY_DECAY) / UNITY_DECAY if _possible(dt, taus)]
    best = sorted(lattice, key=lambda dt: (max(_off(dt, taus), _WHOLE), abs(float(np.log(dt / near)))))[:1]
    for dt in [*best, *_USUAL]:
        if _possible(dt, taus) and all(abs(dt - other.dt) > _SAME * dt for other in found):
            found.append(_Candidate(float(dt), _off(dt, taus)))
    return found


def _taus(neurons: list[Named]) -> FloatArray:
    """All time constants, the shortest first."""
    names = ("tau", "tau_mem", "tau_syn")
    every = [numbers(named, name).reshape(-1) for named in neurons for name in names if hasattr(named[1], name)]
    taus: FloatArray = np.unique(np.concatenate([np.zeros(0), *every]))
    return taus[taus > 0]


def _possible(dt: float, taus: FloatArray) -> bool:
    decays = np.rint(dt * UNITY_DECAY / taus)
    return not taus.size or bool(decays.min() >= 1 and decays.max() < UNITY_DECAY)


def _off(dt: float, taus: FloatArray) -> float:
    decays = dt * UNITY_DECAY / taus
    return float(np.abs(decays - np.rint(decays)).max(initial=0))


def _common_step(nir: ModuleType, neurons: list[Named]) -> float | None:
    """The step with which an input of 1 adds 1 in all neurons, if it is a round number as steps are."""
    steps = [_unity_step(nir, named) for named in neurons]
    first = steps[0] if steps else None
    if first is None:
        return None
    rounded = float(f"{first:.1e}")
    same = all(step is not None and abs(step - rounded) <= _SAME * rounded for step in steps)
    return rounded if same else None


def _unity_step(nir: ModuleType, named: Named) -> float | None:
    """The step with which an input of 1 adds 1 to the current, if it is one for all neurons of a node."""
    node = named[1]
    steps: list[FloatArray] = []
    with np.errstate(divide="ignore", invalid="ignore"):  # a gain of 0 is no reason to stop here
        if isinstance(node, nir.IF | nir.I):
            steps.append(1 / numbers(named, "r"))
        else:
            steps.append(
                numbers(named, "tau" if isinstance(node, nir.LIF | nir.LI) else "tau_mem") / numbers(named, "r")
            )
        if isinstance(node, nir.CubaLIF | nir.CubaLI):
            steps.append(numbers(named, "tau_syn") / numbers(named, "w_in"))
    every = np.concatenate([step.reshape(-1) for step in steps])
    same = every.size and (every > 0).all() and np.isfinite(every).all() and np.ptp(every) <= _SAME * every.max()
    return float(every[0]) if same else None
