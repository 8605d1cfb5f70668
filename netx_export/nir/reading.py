"""From a NIR graph to a network for netx."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from netx_export.errors import DescriptionError, NetxFormatError
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Flatten,
    Input,
    Layer,
    NetworkDescription,
    Recurrent,
    SpikingLayer,
)
from netx_export.network.fixed_point import DEFAULT_THRESHOLD, UNITY_DECAY, WEIGHT_SCALE, IntArray
from netx_export.network.validation import layer_problem
from netx_export.nir.fitting import Fit, Fitted, Reals, Rounding, RoundingMode
from netx_export.nir.graph import Stage, chain_of, gives_voltage
from netx_export.nir.library import (
    OWN_KEY,
    FloatArray,
    Named,
    check_positive,
    check_stated,
    library,
    read_file,
    refuse,
)
from netx_export.nir.maps import Kernel, LinearMap, delay_steps, flatten, flattened, linear_map
from netx_export.nir.neurons import Cell, cell_of
from netx_export.nir.steps import step_of

__all__ = ["from_nir", "roundings"]

_ROUNDED_KEY = "nir_rounded"
_CHANGED = f"The graph's metadata `{OWN_KEY}` does not fit its nodes, which were changed, or not this `dt`. Remove it."


def from_nir(
    graph: Any, *, dt: float | None = None, scale: float | None = None, rounding: RoundingMode = "refuse"
) -> NetworkDescription:
    """Convert a NIR graph to a network for netx.

    :func:`netx_export.file.netx.write` makes a file of it.

    Args:
        graph: a ``nir.NIRGraph`` that is a chain of layers, each of which may lead back to itself, or the path of a NIR
            file.
        dt: seconds per step; None for the one in the metadata of the graph or of its nodes. Without one there, the
            error names the values with which the time constants come nearest to Loihi's decays.
        scale: netx units per NIR unit; None for the one in the graph's metadata, else 64. Without one there, a layer
            whose numbers are not whole at 64, whose currents may wrap around there, whose threshold is above 16,383
            units there, or whose weights the stock loader alters there, gets the largest scale at which none of this
            is so, if there is one. Weights, biases and threshold have one factor in common: this changes no spike but
            where Loihi cuts off fractions or clips. Only a threshold that is out of range at 64 is refused all the
            same: give a ``scale`` then.
        rounding: what to do with a number that is not a whole number of netx units: ``"refuse"`` it, or take the
            ``"nearest"``, at the largest scale that fits if none is given. :func:`roundings` then says what was changed
            and how far. A constant current in front of neurons that filter it is likewise refused, or taken as the bias
            that it settles at. A value out of range is always refused.

    Raises:
        NetxFormatError: for a node, parameter or connection that netx cannot hold, with the node's name; without
            ``dt``.
        NetxExportError: without the library ``nir``.
        ValueError: for an unknown ``rounding``, or if ``dt`` or ``scale`` is not positive.

    Example:
        >>> from netx_export.nir import from_nir
        >>> from netx_export.file.netx import write
        >>> write(from_nir("digits.nir"), "digits.net")  # doctest: +SKIP
    """
    if rounding not in ("refuse", "nearest"):
        raise ValueError(f"Expected argument `rounding` to be 'refuse' or 'nearest' but got {rounding!r}.")
    nir = library()
    if isinstance(graph, str | os.PathLike):
        graph = read_file(nir, Path(graph))
    own = _own_metadata(graph)
    free = scale is None and "scale" not in own
    scale = own.get("scale", WEIGHT_SCALE) if scale is None else scale
    check_positive(**({} if dt is None else {"dt": dt}), scale=scale)
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float64 is refused where it is to be whole
        if dt is None:
            dt = own["dt"] if "dt" in own else step_of(nir, graph)
        return _Reader(nir, dt, Fit(rounding, scale, free)).network(graph, own)


def roundings(network: NetworkDescription) -> tuple[Rounding, ...]:
    """What :func:`from_nir` with ``rounding="nearest"`` changed in a network, in the order of its layers.

    It is kept among the network's texts, so that a file made of it says it too.

    Args:
        network: what ``from_nir`` returned, or what :func:`netx_export.read` made of a file of it.

    Returns:
        One :class:`Rounding` per parameter with changed numbers; none if the network is what the graph says.

    Raises:
        NetxFormatError: if the text is not one that ``from_nir`` wrote.

    Example:
        >>> from netx_export.nir import from_nir, roundings
        >>> for rounding in roundings(from_nir("lif.nir", dt=1e-4, rounding="nearest")):  # doctest: +SKIP
        ...     print(rounding.node, rounding.parameter, rounding.before, rounding.after)
        1 tau 0.0025 0.0024975610
    """
    try:
        return tuple(Rounding(**entry) for entry in json.loads(network.metadata.get(_ROUNDED_KEY, "[]")))
    except (TypeError, ValueError):
        raise NetxFormatError(f"The network's text `{_ROUNDED_KEY}` is none of from_nir's.") from None


def _own_metadata(graph: Any) -> dict[str, Any]:
    """What ``to_nir`` noted, if the graph comes from there."""
    if not isinstance(getattr(graph, "nodes", None), Mapping) or not isinstance(
        getattr(graph, "edges", None), Iterable
    ):
        raise NetxFormatError(
            "Expected a nir.NIRGraph, whose nodes are a dict and whose edges a list, or the path of a NIR file but got "
            f"{type(graph).__name__}."
        )
    text = (getattr(graph, "metadata", None) or {}).get(OWN_KEY, "{}")
    try:
        own = json.loads(text)
    except (TypeError, ValueError):
        raise NetxFormatError(f"The graph's metadata `{OWN_KEY}` cannot be read. Remove it.") from None
    if not isinstance(own, dict) or not all(_is_positive(own.get(key, 1.0)) for key in ("dt", "scale")):
        raise NetxFormatError(f"The graph's metadata `{OWN_KEY}` is none of to_nir's. Remove it.")
    return own


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= sys.float_info.max


@dataclass(frozen=True)
class _Reader:
    nir: ModuleType
    dt: float
    fit: Fit

    def network(self, graph: Any, own: Mapping[str, Any]) -> NetworkDescription:
        chain = chain_of(self.nir, graph)
        shape = chain.shape
        layers: list[Layer] = [Input(shape, delay_shift=False)]
        for stage in chain.stages:
            if gives_voltage(self.nir, stage.neuron[1]):
                self.check_readout(stage, last=stage is chain.stages[-1])
            made = self.stage(stage, shape)
            layers += made
            shape = made[-1].shape
        layers = self.with_tail(layers, chain.tail)
        name, output = chain.output
        check_stated(name, (output.output_type or {}).get("output"), layers[-1].shape)
        layers, metadata = _restored(layers, own)
        if self.fit.found:
            metadata[_ROUNDED_KEY] = self.fit.as_text()
        reads_voltage = gives_voltage(self.nir, chain.stages[-1].neuron[1])
        try:
            network = NetworkDescription(tuple(layers), metadata, reads_voltage=reads_voltage)
        except DescriptionError as error:
            raise NetxFormatError(f"The graph makes no network for netx: {error}") from None
        if network.lead:  # somebody added a bias behind layers whose outputs SLAYER shifts: `to_nir` writes none
            raise NetxFormatError(_CHANGED)
        return network

    def check_readout(self, stage: Stage, last: bool) -> None:
        """Refuse neurons that give their membrane potential where netx cannot read it."""
        name, gives = stage.neuron[0], "gives its membrane potential, and netx"
        if not last:
            refuse(name, f"{gives} reads that of the last layer only")
        if stage.loop is not None:
            refuse(name, f"{gives}'s recurrent layers lead back spikes")

    def stage(self, stage: Stage, shape: tuple[int, ...]) -> list[Layer]:
        """One layer of neurons, with a Flatten in front of it or behind it where the graph has one."""
        name = stage.neuron[0]
        made = linear_map(self.nir, stage.path, shape, name, self.dt, self.fit)
        cell = cell_of(self.nir, stage.neuron, made.rows, self.dt, self.fit)
        if cell.threshold is None and isinstance(made.weight, Kernel):
            refuse(name, "gives its membrane potential, and netx reads that of dense layers only, not of images")
        loop = None if stage.loop is None else self.loop(stage, made)
        fitted = self.fitted(name, made, loop, cell)
        threshold = DEFAULT_THRESHOLD if cell.threshold is None else fitted.threshold
        neuron = CubaNeuron(threshold, _shared(cell.current_decay), _shared(cell.voltage_decay))
        layer = _layer(made, shape, fitted, neuron)
        problem = layer_problem(layer)
        if problem is not None:
            refuse(name, problem)
        before = [Flatten((int(np.prod(shape)),))] if made.flatten else []
        behind = [Flatten(made.shape)] if flattened(made) else []
        return [*before, layer, *behind]

    def loop(self, stage: Stage, made: LinearMap) -> LinearMap:
        """The way back from the neurons to themselves."""
        assert stage.loop is not None
        name = stage.neuron[0]
        if isinstance(made.weight, Kernel):
            refuse(name, "leads back to itself, and netx has no recurrent convolutions")
        loop = linear_map(self.nir, stage.loop, made.shape, name, self.dt, self.fit)
        if made.delays or loop.delays:
            refuse([*made.delays, *loop.delays][0], "a delay of a recurrent layer, of which netx has none")
        if loop.shape != made.shape:
            refuse(loop.name, f"leads back with {loop.shape} values to {made.shape} neurons")
        return loop

    def fitted(self, name: str, made: LinearMap, loop: LinearMap | None, cell: Cell) -> Fitted:
        weight = made.weight.weight if isinstance(made.weight, Kernel) else made.weight
        assert weight is not None
        gain = cell.gain.reshape(-1, *[1] * (weight.ndim - 1))
        names = made.name, name if loop is None else loop.name, name
        recurrent = None
        if loop is not None:
            assert isinstance(loop.weight, np.ndarray)
            recurrent = loop.weight * gain
        bias = self.bias([made] if loop is None else [made, loop], cell)
        dense, delayed = isinstance(made.weight, np.ndarray), _delay(made) is not None
        if cell.threshold is None:  # whose voltage is read in units of the scale: there is no other to choose
            unit = np.full(len(weight), 1 / self.fit.scale)
            reals = Reals(names, weight * gain, recurrent, bias, unit, cell.current_decay)
            return replace(self.fit, free=False).layer(reals, dense, delayed)
        reals = Reals(names, weight * gain, recurrent, bias, cell.threshold, cell.current_decay)
        return self.fit.layer(reals, dense, delayed)

    def bias(self, maps: list[LinearMap], cell: Cell) -> FloatArray | None:
        """What is added to the membrane potential at each step: the neurons' own drive, and constant currents."""
        total = cell.drive
        for part in maps:
            if part.bias is not None:
                settled = part.bias * cell.gain * UNITY_DECAY / cell.current_decay
                self.note_settling(part.name, settled, cell)
                total = total + settled
        return total if total.any() else None

    def note_settling(self, name: str, settled: FloatArray, cell: Cell) -> None:
        """Refuse a constant current that neurons filter, or note what taking it as a bias adds."""
        share = cell.current_decay / UNITY_DECAY
        extra = np.abs(settled) * (1 - share) / share
        if not extra.any():  # currents that decay at once are settled from the start
            return
        if self.fit.rounding == "refuse":
            refuse(
                name,
                "a bias that the synaptic current would filter; Loihi's acts on the voltage. rounding='nearest' takes "
                "the bias at which the current settles, and says how much that adds in the first steps",
            )
        of_threshold = extra if cell.threshold is None else extra / cell.threshold
        worst = int(of_threshold.argmax())
        note = (
            "in the first step: NIR's current comes near to its constant value, Loihi's bias has it from the start. "
            f"That adds {extra[worst]:.3g} to the membrane potential in all"
        )
        if cell.threshold is not None:
            note += f", {of_threshold[worst]:.3g} of the threshold"
        before, after = float(settled[worst] * share[worst]), float(settled[worst])
        self.fit.found.append(Rounding(name, "bias", int((extra > 0).sum()), settled.size, before, after, note))

    def with_tail(self, layers: list[Layer], tail: tuple[Named, ...]) -> list[Layer]:
        """Delays and a Flatten between the last neurons and the output."""
        for name, node in tail:
            if isinstance(node, self.nir.Delay):
                self.delay_output(layers, (name, node))
            elif isinstance(node, self.nir.Flatten):
                made = LinearMap(name, layers[-1].shape)
                flatten(made, (name, node))
                layers += [Flatten(made.shape)] if made.flatten else []
            else:
                refuse(name, "expected CubaLIF, LIF or IF neurons after it, but the graph ends")
        return layers

    def delay_output(self, layers: list[Layer], named: Named) -> None:
        name, last = named[0], layers[-1]
        steps = delay_steps(named, last.shape, self.dt, self.fit).reshape(last.shape[0], -1)
        if not isinstance(last, SpikingLayer):
            if steps.any():
                refuse(name, "a delay behind a Flatten; netx delays channels of neurons, so put it in front of that")
        elif (steps != steps[:, :1]).any():
            refuse(name, "delays that differ within a channel")
        elif last.axon_delay is None or not last.axon_delay.any():
            layers[-1] = replace(last, axon_delay=steps[:, 0])
        elif steps.any():
            refuse(name, "a second delay behind the last neurons; give the sum of both in one")


def _layer(made: LinearMap, shape: tuple[int, ...], fitted: Fitted, neuron: CubaNeuron) -> SpikingLayer:
    if isinstance(made.weight, Kernel):
        options = made.weight.options
        return Conv(fitted.weight, neuron, shape, **options, bias=fitted.bias, delay_shift=False)
    if fitted.recurrent is not None:
        return Recurrent(fitted.weight, fitted.recurrent, neuron, fitted.bias, delay_shift=False)
    return Dense(fitted.weight, neuron, _delay(made), fitted.bias, delay_shift=False)


def _delay(made: LinearMap) -> IntArray | None:
    """The delays as a dense layer has them: with one axis they are its neurons', if it has as many as inputs."""
    before, after = made.before, made.after
    if before is None or (after is None and before.size != made.shape[0]):
        return after if before is None else before
    return before[None, :] + (np.zeros(made.shape[0], np.int64) if after is None else after)[:, None]


def _shared(values: IntArray) -> IntArray:
    """One value if all are equal."""
    return values[:1] if (values == values[0]).all() else values


def _restored(layers: list[Layer], own: Mapping[str, Any]) -> tuple[list[Layer], dict[str, str]]:
    """Put back what NIR cannot express and ``to_nir`` noted in the graph's metadata."""
    if not own:
        return layers, {}
    try:
        if not own["input"]:
            layers = layers[1:]
        shifts = own["delay_shift"]
        last = max(index for index, layer in enumerate(layers) if isinstance(layer, SpikingLayer))
        restored = [
            _with(layer, shift, own["axon_delay"].get(str(index)), own["output_shape"].get(str(index)), index == last)
            for index, (layer, shift) in enumerate(zip(layers, shifts, strict=True))
        ]
        return restored, {str(key): str(value) for key, value in own["metadata"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise NetxFormatError(_CHANGED) from None


def _with(layer: Layer, shift: bool, axon_delay: list[int] | None, shape: list[int] | None, last: bool) -> Layer:
    if isinstance(layer, Flatten):
        return layer
    changes: dict[str, Any] = {"delay_shift": bool(shift)}
    if isinstance(layer, Dense | Conv | Recurrent):
        output_shape = None if shape is None else tuple(int(size) for size in shape)
        delay = None if axon_delay is None else np.array(axon_delay, np.int64)
        made = layer.spatial_shape if isinstance(layer, Conv) else (len(layer.weight),)
        if output_shape is not None and np.prod(output_shape) != np.prod(made):
            raise ValueError("another size")
        if delay is not None and (delay.shape != (output_shape or made)[:1] or delay.min() < 0):
            raise ValueError("delays of other channels")
        if last and not np.array_equal(_each_delay(delay, made[0]), _each_delay(layer.axon_delay, made[0])):
            raise ValueError("the nodes hold these delays, and others")
        changes |= {"axon_delay": delay, "output_shape": output_shape}
    return replace(layer, **changes)


def _each_delay(delay: IntArray | None, channels: int) -> IntArray:
    """One delay for each channel that the weights make; one channel of the output may be several of these."""
    return np.zeros(channels, np.int64) if delay is None else np.repeat(delay, channels // len(delay))
