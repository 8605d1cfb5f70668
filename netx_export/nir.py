"""To and from NIR, the neuromorphic intermediate representation (needs the extra ``nir``).

NIR describes continuous time, netx steps. Both directions use forward Euler with a step of ``dt`` seconds: what Loihi
computes, but for its rounding. A simulator of floating-point numbers therefore gives nearly the same spikes, not the
same: compare rates.

Units, with ``d`` a decay of the netx file in 1/4096 and ``s`` the scale, 64 unless you say otherwise:

| NIR                                   | netx                                                  |
|---------------------------------------|-------------------------------------------------------|
| ``weight``, of any layer              | weight / s                                            |
| ``v_threshold``                       | threshold mantissa / s                                |
| ``tau_syn``, ``tau_mem``, ``tau`` (s) | dt * 4096 / d                                         |
| ``w_in``, ``r`` of a leaky neuron     | 4096 / d, so that a spike adds its weight in one step |
| ``r`` of ``IF``                       | 1 / dt                                                |
| ``v_leak`` of ``CubaLIF``             | (bias mantissa / s) * 4096 / d of the voltage         |
| ``bias`` of a layer before a ``LIF``  | bias mantissa / s                                     |
| ``delay`` (s)                         | dt * steps                                            |

A NIR graph has no step of delay from layer to layer, as Lava and SLAYER have: each layer gets the spikes of the one
before it in the same step.
"""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from netx_export.errors import DescriptionError, ExportError, NetxExportError, NetxFormatError
from netx_export.file.netx import as_description
from netx_export.file.opening import why_unreadable
from netx_export.network.description import Conv, CubaNeuron, Dense, Flatten, Input, Layer, NetworkDescription
from netx_export.network.fixed_point import (
    DEFAULT_THRESHOLD,
    MAX_DELAY,
    MAX_WEIGHT,
    MIN_WEIGHT,
    UNITY_DECAY,
    WEIGHT_SCALE,
    IntArray,
)
from netx_export.network.validation import layer_problem

__all__ = ["from_nir", "to_nir"]

Rounding = Literal["refuse", "nearest"]
FloatArray: TypeAlias = npt.NDArray[np.float64]

_OWN_KEY = "lava_spikeloss"
_DT = 1e-4  # what snnTorch and others assume
_TOLERANCE = 2e-3  # of one unit: float32 keeps 4096 to 2e-4


def to_nir(
    network: str | os.PathLike[str] | NetworkDescription, *, dt: float = _DT, scale: float = WEIGHT_SCALE
) -> Any:
    """Convert a network to a NIR graph.

    Args:
        network: a netx file, or what :func:`netx_export.read` made of one.
        dt: seconds per step, 0.0001 by default; any value gives the same spikes in a simulator that takes the same
            step.
        scale: netx units per NIR unit, 64 as in SLAYER.

    Returns:
        A ``nir.NIRGraph``: a chain of ``Linear``, ``Affine``, ``Conv2d``, ``SumPool2d`` with ``Scale``, ``Flatten``,
        ``Delay``, and ``CubaLIF``, ``LIF`` (if the current decays at once) or ``IF`` (if the voltage does not decay
        either). What NIR cannot express (SLAYER's shifts and shapes, texts) is kept in its metadata.

    Raises:
        ExportError: for a layer or neuron that these nodes cannot represent, with its name.
        NetxFormatError: if the file cannot be read.
        NetxExportError: without the library ``nir``.
        ValueError: if ``dt`` or ``scale`` is not positive.
        TypeError: if ``network`` is neither a path nor a description.

    Example:
        >>> from netx_export.nir import to_nir
        >>> graph = to_nir("digits.net")  # doctest: +SKIP
        >>> nir.write("digits.nir", graph)  # doctest: +SKIP
    """
    _check_positive(dt=dt, scale=scale)
    description = as_description(network)
    writer = _Writer(_library(), dt, scale)
    return writer.graph(_in_nirs_form(description))


def from_nir(
    graph: Any, *, dt: float | None = None, scale: float | None = None, rounding: Rounding = "refuse"
) -> NetworkDescription:
    """Convert a NIR graph to a network for netx.

    :func:`netx_export.file.netx.write` makes a file of it.

    Args:
        graph: a ``nir.NIRGraph`` that is a chain, or the path of a NIR file.
        dt: seconds per step; None for the one in the graph's metadata, else 0.0001.
        scale: netx units per NIR unit; None for the one in the graph's metadata, else 64.
        rounding: what to do with a number that is not a whole number of netx units: ``"refuse"`` it, or take the
            ``"nearest"``. A value out of range is always refused.

    Raises:
        NetxFormatError: for a node, parameter or connection that netx cannot hold, with the node's name.
        NetxExportError: without the library ``nir``.
        ValueError: for an unknown ``rounding``, or if ``dt`` or ``scale`` is not positive.

    Example:
        >>> from netx_export.nir import from_nir
        >>> from netx_export.file.netx import write
        >>> write(from_nir("digits.nir"), "digits.net")  # doctest: +SKIP
    """
    if rounding not in ("refuse", "nearest"):
        raise ValueError(f"Expected argument `rounding` to be 'refuse' or 'nearest' but got {rounding!r}.")
    nir = _library()
    if isinstance(graph, str | os.PathLike):
        graph = _read_file(nir, Path(graph))
    own = _own_metadata(graph)
    dt = own.get("dt", _DT) if dt is None else dt
    scale = own.get("scale", WEIGHT_SCALE) if scale is None else scale
    _check_positive(dt=dt, scale=scale)
    return _Reader(nir, dt, scale, rounding).network(graph, own)


def _library() -> ModuleType:
    try:
        import nir
    except ImportError:
        raise NetxExportError("NIR graphs need the library nir: pip install 'lava-spikeloss[nir]'.") from None
    library: ModuleType = nir
    return library


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and np.isfinite(value)):
            raise ValueError(f"Expected argument `{name}` to be a positive number but got {value!r}.")


@dataclass
class _Writer:
    nir: ModuleType
    dt: float
    scale: float
    nodes: dict[str, Any] = field(default_factory=dict)

    def graph(self, description: NetworkDescription) -> Any:
        if description.encoder is not None:
            self.refuse("input0", "its input neurons run on the host, and NIR's inputs have none")
        if description.readout is not None:
            self.refuse(_names(description)[-1], "it runs on the host, and has no counterpart among NIR's nodes here")
        for name, steps in description.bias_starts.items():
            if steps > 0:
                reason = f"its bias sets in {steps} steps before its input can arrive, and NIR's starts with the input"
                self.refuse(name, f"{reason}; train with delay_shift=False in the layers before it")
        self.nodes["input"] = self.nir.Input(input_type=np.array(description.input_shape))
        shape: tuple[int, ...] = description.input_shape
        for name, layer in zip(_names(description), description.layers, strict=True):
            if isinstance(layer, Flatten):
                self.nodes[name] = self.nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0)
            elif isinstance(layer, Dense):
                self.dense(name, layer)
            elif isinstance(layer, Conv):
                self.conv(name, layer)
            elif not isinstance(layer, Input):
                self.refuse(name, f"a {layer.kind} layer is none of NIR's nodes here (feed-forward CUBA, LIF and IF)")
            shape = _shape(layer)
        last = description.layers[-1]
        if isinstance(last, Dense | Conv) and last.axon_delay is not None:
            each = np.repeat(last.axon_delay, shape[0] // len(last.axon_delay))  # the file's channels may be neurons
            delay = np.broadcast_to(each.reshape(-1, *[1] * (len(shape) - 1)), shape)
            self.delay(f"{_names(description)[-1]}_output_delay", delay)
        self.nodes["output"] = self.nir.Output(output_type=np.array(shape))
        names = list(self.nodes)
        edges = list(itertools.pairwise(names))
        return self.nir.NIRGraph(
            nodes=self.nodes, edges=edges, metadata={_OWN_KEY: self.metadata(description)}, type_check=False
        )

    def metadata(self, description: NetworkDescription) -> str:
        layers = description.layers
        own: dict[str, Any] = {
            "dt": self.dt,
            "scale": self.scale,
            "input": isinstance(layers[0], Input),
            "delay_shift": [bool(getattr(layer, "delay_shift", False)) for layer in layers],
            "axon_delay": {},
            "output_shape": {},
            "metadata": dict(description.metadata),
        }
        for index, layer in enumerate(layers):
            for name in ("axon_delay", "output_shape"):
                value = getattr(layer, name, None)
                if value is not None:
                    own[name][str(index)] = [int(number) for number in value]
        return json.dumps(own)

    def refuse(self, name: str, reason: str) -> NoReturn:
        raise ExportError(f"No NIR graph: {name}: {reason}.")

    def delay(self, name: str, steps: npt.NDArray[Any]) -> None:
        if steps.min() < 0 or steps.max() > MAX_DELAY:
            self.refuse(name, f"delays from {steps.min()} to {steps.max()} steps; netx holds 0 to {MAX_DELAY}")
        self.nodes[name] = self.nir.Delay(delay=steps * self.dt)

    def dense(self, name: str, layer: Dense) -> None:
        before, after = self.split_delay(name, layer)
        if before is not None:
            self.delay(f"{name}_input_delay", before)
        weight = layer.weight / self.scale
        bias = self.input_bias(name, layer)
        if bias is None:
            self.nodes[f"{name}_weight"] = self.nir.Linear(weight=weight)
        elif after is not None:
            self.refuse(name, "a bias that does not wait for its delays; give it either the one or the others")
        else:
            self.nodes[f"{name}_weight"] = self.nir.Affine(weight=weight, bias=bias)
        if after is not None:
            self.delay(f"{name}_delay", after)
        self.neuron(name, layer, (int(layer.weight.shape[0]),))

    def split_delay(self, name: str, layer: Dense) -> tuple[IntArray | None, IntArray | None]:
        """Delays before and after the weights."""
        delay = layer.delay
        if delay is None:
            return None, None
        if delay.ndim == 1:
            return (None, delay) if delay.size == layer.weight.shape[0] else (delay, None)
        after = delay.min(axis=1)
        before = delay[0] - after[0]
        if not np.array_equal(after[:, None] + before[None, :], delay):
            self.refuse(name, "each of its synapses has a delay of its own; NIR delays neurons")
        return before, after

    def conv(self, name: str, layer: Conv) -> None:
        bias = self.input_bias(name, layer)
        if bias is None and _is_pool(layer):
            self.nodes[f"{name}_pool"] = self.nir.SumPool2d(
                kernel_size=np.array(layer.weight.shape[2:]),
                stride=np.array(layer.stride),
                padding=np.array(layer.padding),
            )
            factor = float(layer.weight.flat[0]) / self.scale
            self.nodes[f"{name}_weight"] = self.nir.Scale(scale=np.full(layer.spatial_shape, factor))
        else:
            self.nodes[f"{name}_weight"] = self.nir.Conv2d(
                input_shape=tuple(layer.input_shape[1:]),
                weight=layer.weight / self.scale,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
                groups=layer.groups,
                bias=np.zeros(len(layer.weight)) if bias is None else bias,
            )
        # The library works these shapes out only for square kernels in one group.
        entry = self.nodes.get(f"{name}_pool", self.nodes[f"{name}_weight"])
        entry.input_type = {"input": np.array(layer.input_shape)}
        entry.output_type = {"output": np.array(layer.spatial_shape)}
        self.neuron(name, layer, layer.spatial_shape)

    def input_bias(self, name: str, layer: Dense | Conv) -> FloatArray | None:
        """The bias, if the weights' node can carry it: only where nothing lies between current and voltage."""
        if (
            layer.bias is None
            or not isinstance(layer.neuron, CubaNeuron)
            or (layer.neuron.current_decay != UNITY_DECAY).any()
        ):
            return None
        if not layer.bias.any():
            self.refuse(name, "a bias of zeros; leave it out")
        bias: FloatArray = layer.bias / self.scale
        return bias

    def neuron(self, name: str, layer: Dense | Conv, shape: tuple[int, ...]) -> None:
        neuron = layer.neuron
        if not isinstance(neuron, CubaNeuron):
            self.refuse(name, "sigma-delta neurons have no counterpart in NIR")
        current, voltage = (_spread(values, shape) for values in (neuron.current_decay, neuron.voltage_decay))
        threshold = np.full(shape, neuron.threshold / self.scale)
        zeros = np.zeros(shape)
        for text in _outside_thresholds(neuron.threshold):
            self.refuse(name, text)
        if (current < 1).any():
            self.refuse(name, "a current that never decays has no finite time constant")
        instant = bool((current == UNITY_DECAY).all())
        if instant and not voltage.any():
            self.nodes[name] = self.nir.IF(r=np.full(shape, 1 / self.dt), v_threshold=threshold, v_reset=zeros)
            return
        if (voltage < 1).any():
            self.refuse(name, "a voltage that never decays has no finite time constant behind a current that does")
        tau, r = self.dt * UNITY_DECAY / voltage, UNITY_DECAY / voltage
        if instant:
            self.nodes[name] = self.nir.LIF(tau=tau, r=r, v_leak=zeros, v_threshold=threshold, v_reset=zeros)
            return
        bias = zeros if layer.bias is None else _spread(layer.bias, shape) / self.scale
        self.nodes[name] = self.nir.CubaLIF(
            tau_syn=self.dt * UNITY_DECAY / current,
            tau_mem=tau,
            r=r,
            v_leak=bias * r,
            v_threshold=threshold,
            v_reset=zeros,
            w_in=UNITY_DECAY / current,
        )


def _in_nirs_form(description: NetworkDescription) -> NetworkDescription:
    """The same network with a Flatten wherever an image becomes a vector and nowhere else.

    A dense layer that is written as a convolution becomes dense again where a vector goes in, of which NIR has no
    convolution; :func:`netx_export.file.netx.write` makes it a convolution again.
    """
    layers: list[Layer] = []
    shape = description.input_shape
    for layer in description.layers:
        plain = _as_dense(layer) if isinstance(layer, Conv) and len(shape) == 1 else layer
        if isinstance(plain, Flatten) and len(shape) == 1:
            continue
        if isinstance(plain, Dense) and len(shape) > 1:
            layers.append(Flatten((int(np.prod(shape)),)))
        layers.append(plain)
        shape = _shape(plain)
    return NetworkDescription(tuple(layers), description.metadata, description.ignored)


def _shape(layer: Layer) -> tuple[int, ...]:
    """The shape that a layer's weights make, which SLAYER's ``output_shape`` may rearrange."""
    if isinstance(layer, Dense):
        return (len(layer.weight),)
    return layer.spatial_shape if isinstance(layer, Conv) else layer.shape


def _as_dense(layer: Conv) -> Dense:
    """A convolution whose kernels cover its whole input, as the dense layer that it was made of."""
    size = len(layer.weight)
    return Dense(
        layer.weight.reshape(size, -1),
        layer.neuron,
        bias=layer.bias,
        delay_shift=layer.delay_shift,
        axon_delay=layer.axon_delay,
        output_shape=None if layer.shape == (size,) else layer.shape,
    )


def _outside_thresholds(threshold: int) -> list[str]:
    if 1 <= threshold <= DEFAULT_THRESHOLD:
        return []
    return [f"v_threshold of {threshold} netx units; netx neurons can have 1 to {DEFAULT_THRESHOLD}"]


def _names(description: NetworkDescription) -> list[str]:
    return [f"{layer.kind}{index}" for index, layer in enumerate(description.layers)]


def _spread(values: IntArray, shape: tuple[int, ...]) -> FloatArray:
    """One value, or one per channel, for every neuron."""
    channels = values.reshape(-1, *[1] * (len(shape) - 1)) if values.size > 1 else values.reshape(())
    return np.broadcast_to(channels, shape).astype(np.float64)


def _is_pool(layer: Conv) -> bool:
    channels = layer.input_shape[0]
    same = bool((layer.weight == layer.weight.flat[0]).all())
    return same and layer.groups == channels == len(layer.weight) and layer.dilation == (1, 1)


def _read_file(nir: ModuleType, path: Path) -> Any:
    problem = why_unreadable(path)
    if problem:
        raise NetxFormatError(f"{path}: {problem}. Give the path of a NIR file.")
    try:
        return nir.read(path, type_check=False)  # its check knows no groups and no kernels that are not square
    except Exception as error:  # a damaged file makes HDF5 and nir raise almost anything
        raise NetxFormatError(f"{path}: not a NIR graph ({type(error).__name__}: {error}).") from None


def _own_metadata(graph: Any) -> dict[str, Any]:
    """What ``to_nir`` noted, if the graph comes from there."""
    if not hasattr(graph, "nodes") or not hasattr(graph, "edges"):
        raise NetxFormatError(f"Expected a nir.NIRGraph or the path of a NIR file but got {type(graph).__name__}.")
    text = (getattr(graph, "metadata", None) or {}).get(_OWN_KEY, "{}")
    try:
        own = json.loads(text)
    except (TypeError, ValueError):
        raise NetxFormatError(f"The graph's metadata `{_OWN_KEY}` cannot be read. Remove it.") from None
    if not isinstance(own, dict) or not all(isinstance(own.get(key, 1.0), int | float) for key in ("dt", "scale")):
        raise NetxFormatError(f"The graph's metadata `{_OWN_KEY}` is none of to_nir's. Remove it.")
    return own


@dataclass
class _Reader:
    nir: ModuleType
    dt: float
    scale: float
    rounding: Rounding

    def network(self, graph: Any, own: dict[str, Any]) -> NetworkDescription:
        chain = self.chain(graph)
        shape = tuple(int(size) for size in chain[0][1].input_type["input"])
        layers: list[Layer] = [Input(shape, delay_shift=False)]
        rest = chain[1:-1]
        while rest:
            name, node = rest[0]
            if isinstance(node, self.nir.Flatten):
                layers.append(self.flatten(name, node, shape))
                rest = rest[1:]
            else:
                taken, rest = self.spiking(rest)
                layers.append(self.layer(taken, shape))
                self.refuse_problem(taken["neuron"][0], layers[-1])
            shape = layers[-1].shape
        layers, metadata = self.restore(layers, own)
        try:
            return NetworkDescription(tuple(layers), metadata)
        except DescriptionError as error:
            raise NetxFormatError(f"The graph makes no network for netx: {error}") from None

    def refuse(self, name: str, reason: str) -> NoReturn:
        raise NetxFormatError(f"NIR node {name!r}: {reason}.")

    def refuse_problem(self, name: str, layer: Layer) -> None:
        """Refuse a layer that no network could hold, naming the node that it comes from."""
        problem = layer_problem(layer)
        if problem is not None:
            self.refuse(name, problem)

    def chain(self, graph: Any) -> list[tuple[str, Any]]:
        """Nodes from the one input to the one output."""
        following: dict[str, str] = {}
        for source, target in graph.edges:
            if source in following:
                self.refuse(source, f"goes to both {following[source]!r} and {target!r}; netx holds a chain")
            if target in following.values():
                self.refuse(target, "takes from more than one node; netx holds a chain")
            following[source] = target
        inputs = [name for name, node in graph.nodes.items() if isinstance(node, self.nir.Input)]
        if len(inputs) != 1:
            raise NetxFormatError(f"Expected a NIR graph with one Input node but it has {len(inputs)}.")
        names = [inputs[0]]
        while names[-1] in following and len(names) <= len(graph.nodes):
            names.append(following[names[-1]])
        left = [name for name in graph.nodes if name not in names]
        if left:
            self.refuse(left[0], "is not on the way from the input to the output")
        chain = [(name, graph.nodes[name]) for name in names]
        if not isinstance(chain[-1][1], self.nir.Output):
            self.refuse(names[-1], "expected an Output node at the end")
        return chain

    def flatten(self, name: str, node: Any, shape: tuple[int, ...]) -> Flatten:
        axes = len(shape)
        if node.start_dim not in (0, -axes) or node.end_dim not in (-1, axes - 1):
            self.refuse(name, f"flattens axes {node.start_dim} to {node.end_dim} of {shape}; netx flattens all")
        return Flatten((int(np.prod(shape)),))

    def spiking(self, rest: list[tuple[str, Any]]) -> tuple[dict[str, tuple[str, Any]], list[tuple[str, Any]]]:
        """The nodes of one layer by their role, weights and neurons with the delays around them; and those left."""
        nir = self.nir
        taken: dict[str, tuple[str, Any]] = {}
        order: tuple[tuple[str, tuple[type, ...]], ...] = (
            ("before", (nir.Delay,)),
            ("weight", (nir.Linear, nir.Affine, nir.Conv2d, nir.SumPool2d)),
            ("scale", (nir.Scale,)),
            ("after", (nir.Delay,)),
            ("neuron", (nir.CubaLIF, nir.LIF, nir.IF)),
        )
        for role, kinds in order:
            if rest and isinstance(rest[0][1], kinds):
                taken[role], rest = rest[0], rest[1:]
            elif role in ("weight", "neuron"):
                self.unexpected(role, taken, rest)
        if rest and isinstance(rest[0][1], nir.Delay) and len(rest) == 1:
            taken["output"], rest = rest[0], []
        return taken, rest

    def unexpected(self, role: str, taken: dict[str, tuple[str, Any]], rest: list[tuple[str, Any]]) -> NoReturn:
        wanted = "weights" if role == "weight" else "CubaLIF, LIF or IF neurons"
        if not rest:
            self.refuse(list(taken.values())[-1][0], f"expected {wanted} after it, but the graph ends")
        name, node = rest[0]
        self.refuse(name, f"expected {wanted} here but got {type(node).__name__}, which netx cannot hold at this place")

    def layer(self, taken: dict[str, tuple[str, Any]], shape: tuple[int, ...]) -> Layer:
        name, node = taken["weight"]
        if isinstance(node, self.nir.Linear | self.nir.Affine):
            if "scale" in taken:
                self.refuse(taken["scale"][0], "a Scale can only follow a SumPool2d; multiply the weights instead")
            return self.dense(taken, shape)
        for role in ("before", "after"):
            if role in taken:
                self.refuse(taken[role][0], f"netx cannot hold a Delay around {name!r}, a {type(node).__name__}")
        return self.conv(taken, shape)

    def dense(self, taken: dict[str, tuple[str, Any]], shape: tuple[int, ...]) -> Dense:
        name, node = taken["weight"]
        weight = self.weight(name, node.weight)
        if weight.ndim != 2 or not weight.size or shape != (weight.shape[1],):
            self.refuse(name, f"weights of shape {weight.shape} on input of shape {shape}; flatten it first")
        neuron, bias = self.neuron(taken["neuron"], (len(weight),), getattr(node, "bias", None), name)
        before, after = (
            self.steps(taken[role], size) if role in taken else None
            for role, size in zip(("before", "after"), weight.shape[::-1], strict=True)
        )
        if after is not None and getattr(node, "bias", None) is not None and np.any(node.bias):
            self.refuse(taken["after"][0], "a delay behind a bias; netx delays spikes, not biases")
        delay = after
        if before is not None:
            if after is not None or before.size == len(weight):
                delay = before[None, :] + (np.zeros(len(weight), np.int64) if after is None else after)[:, None]
            else:
                delay = before
        if delay is not None and delay.max() > MAX_DELAY:
            both = " and ".join(taken[role][0] for role in ("before", "after"))
            self.refuse(name, f"the delays of {both} add up to {delay.max()} steps; netx holds 0 to {MAX_DELAY}")
        return Dense(weight, neuron, delay, bias, False, self.output_delay(taken))

    def conv(self, taken: dict[str, tuple[str, Any]], shape: tuple[int, ...]) -> Conv:
        name, node = taken["weight"]
        if len(shape) != 3:
            self.refuse(name, f"expected input of shape (C, H, W) but got {shape}")
        if isinstance(node, self.nir.SumPool2d):
            factor = np.asarray(taken["scale"][1].scale) if "scale" in taken else np.ones(())
            if (factor != factor.flat[0]).any():
                self.refuse(taken["scale"][0], "one factor for all neurons of a pooling layer")
            kernel = np.full((shape[0], 1, *_pair(node.kernel_size)), float(factor.flat[0]))
            options: dict[str, Any] = {"stride": _pair(node.stride), "padding": _pair(node.padding), "groups": shape[0]}
            bias = None
        else:
            if "scale" in taken:
                self.refuse(taken["scale"][0], "a Scale can only follow a SumPool2d; multiply the weights instead")
            kernel, bias = np.asarray(node.weight), node.bias
            if isinstance(node.padding, str):
                self.refuse(name, f"padding {node.padding!r}; give numbers")
            options = {key: _pair(getattr(node, key)) for key in ("stride", "padding", "dilation")}
            options["groups"] = int(node.groups)
        weight = self.weight(name, kernel)
        no_neuron = CubaNeuron(0, np.zeros(1, np.int64), np.zeros(1, np.int64))
        outline = Conv(weight, no_neuron, shape, **options)
        self.refuse_problem(name, outline)
        neuron, biases = self.neuron(taken["neuron"], outline.spatial_shape, bias, name)
        return Conv(
            weight, neuron, shape, **options, bias=biases, delay_shift=False, axon_delay=self.output_delay(taken)
        )

    def neuron(
        self, named: tuple[str, Any], shape: tuple[int, ...], input_bias: Any, weight_name: str
    ) -> tuple[CubaNeuron, IntArray | None]:
        """Neuron parameters, and the bias on the voltage."""
        name, node = named
        if tuple(np.shape(node.v_threshold)) != shape:
            self.refuse(name, f"neurons of shape {np.shape(node.v_threshold)} behind weights that make {shape}")
        if np.any(node.v_reset):
            self.refuse(name, "v_reset is not 0; Loihi's neurons start again at 0")
        threshold = self.single(name, "v_threshold", self.whole(name, "v_threshold", node.v_threshold * self.scale))
        for text in _outside_thresholds(threshold):
            self.refuse(name, text)
        input_bias = None if input_bias is None or not np.any(input_bias) else np.asarray(input_bias)
        if isinstance(node, self.nir.IF):
            self.gain(name, "r", node.r * self.dt)
            currents, voltages, drive = np.full(shape, UNITY_DECAY), np.zeros(shape, np.int64), np.zeros(shape)
        elif isinstance(node, self.nir.LIF):
            currents, voltages = np.full(shape, UNITY_DECAY), self.decay(name, "tau", node.tau)
            self.gain(name, "r", node.r * self.dt / node.tau)
            drive = node.v_leak * self.dt / node.tau
        else:
            currents, voltages = self.decay(name, "tau_syn", node.tau_syn), self.decay(name, "tau_mem", node.tau_mem)
            self.gain(name, "r", node.r * self.dt / node.tau_mem)
            self.gain(name, "w_in", node.w_in * self.dt / node.tau_syn)
            drive = node.v_leak * self.dt / node.tau_mem
            if input_bias is not None and (currents != UNITY_DECAY).any():
                self.refuse(weight_name, "a bias that the synaptic current would filter; Loihi's acts on the voltage")
        neuron = CubaNeuron(
            threshold,
            self.per_channel(name, "tau_syn", currents),
            self.per_channel(name, "tau_mem", voltages),
        )
        bias = None
        if input_bias is not None or np.any(drive):
            total = np.broadcast_to(drive, shape).astype(np.float64)
            if input_bias is not None:
                total = total + input_bias.reshape(-1, *[1] * (len(shape) - 1))
            values = self.per_channel(name, "bias", self.whole(name, "bias", total * self.scale))
            bias = np.broadcast_to(values, shape[:1]).copy()
        return neuron, bias

    def weight(self, name: str, values: npt.ArrayLike) -> IntArray:
        weight = self.whole(name, "weight", np.asarray(values) * self.scale)
        low, high = weight.min(initial=0), weight.max(initial=0)
        if low < MIN_WEIGHT or high > MAX_WEIGHT:
            self.refuse(name, f"weights from {low} to {high} netx units; netx holds {MIN_WEIGHT} to {MAX_WEIGHT}")
        return weight

    def decay(self, name: str, parameter: str, tau: npt.ArrayLike) -> IntArray:
        """A time constant in seconds as a decay in 1/4096."""
        seconds = np.asarray(tau, np.float64)
        if not (seconds > 0).all():
            self.refuse(name, f"{parameter} from {seconds.min():g} to {seconds.max():g} s has to be positive")
        decay = self.whole(name, f"{parameter} as a decay in 1/4096", self.dt * UNITY_DECAY / seconds)
        if decay.max() > UNITY_DECAY or decay.min() < 1:
            self.refuse(
                name, f"{parameter} from {seconds.min():g} to {seconds.max():g} s does not fit steps of {self.dt:g} s"
            )
        return decay

    def gain(self, name: str, parameter: str, gain: npt.ArrayLike) -> None:
        """Loihi's neurons add what comes in as it is."""
        if not np.allclose(gain, 1, rtol=1e-5):
            low, high = np.min(gain), np.max(gain)
            self.refuse(
                name, f"{parameter} multiplies its input by {low:g} to {high:g} per step; put it into the weights"
            )

    def whole(self, name: str, parameter: str, values: npt.ArrayLike) -> IntArray:
        numbers = np.asarray(values, np.float64)
        if not np.isfinite(numbers).all():
            self.refuse(name, f"{parameter} holds values that are not finite")
        rounded = np.rint(numbers)
        worst = float(np.abs(numbers - rounded).max(initial=0))
        if worst > _TOLERANCE and self.rounding == "refuse":
            self.refuse(
                name,
                f"{parameter} is up to {worst:.3g} away from a whole number of netx units. "
                f"Use rounding='nearest', and verify what it does",
            )
        whole: IntArray = rounded.astype(np.int64)
        return whole

    def single(self, name: str, parameter: str, values: IntArray) -> int:
        if (values != values.flat[0]).any():
            self.refuse(name, f"{parameter} from {values.min()} to {values.max()}; netx holds one for all neurons")
        return int(values.flat[0])

    def per_channel(self, name: str, parameter: str, values: IntArray) -> IntArray:
        """One value if all are equal, else one per channel."""
        channels = values.reshape(len(values), -1)
        if (channels != channels[:, :1]).any():
            self.refuse(name, f"{parameter} differs within a channel; netx holds one per channel")
        first: IntArray = channels[:, 0]
        return first[:1] if (first == first[0]).all() else first

    def steps(self, named: tuple[str, Any], size: int | None = None) -> IntArray:
        """Delays in steps, of so many neurons where they have to be that many."""
        if size is not None and np.shape(named[1].delay) != (size,):
            self.refuse(named[0], f"delays of shape {np.shape(named[1].delay)} for {size} neurons")
        steps = self.whole(named[0], "delay in steps", np.asarray(named[1].delay) / self.dt)
        if steps.min() < 0 or steps.max() > MAX_DELAY:
            self.refuse(named[0], f"delays from {steps.min()} to {steps.max()} steps; netx holds 0 to {MAX_DELAY}")
        return steps

    def output_delay(self, taken: dict[str, tuple[str, Any]]) -> IntArray | None:
        if "output" not in taken:
            return None
        steps = self.steps(taken["output"]).reshape(len(taken["output"][1].delay), -1)
        if (steps != steps[:, :1]).any():
            self.refuse(taken["output"][0], "delays that differ within a channel")
        first: IntArray = steps[:, 0]
        return first

    def restore(self, layers: list[Layer], own: dict[str, Any]) -> tuple[list[Layer], dict[str, str]]:
        """Put back what NIR cannot express and :func:`to_nir` noted in the graph's metadata."""
        if not own:
            return layers, {}
        try:
            if not own["input"]:
                layers = layers[1:]
            shifts = own["delay_shift"]
            restored = [
                _with(layer, shift, own["axon_delay"].get(str(index)), own["output_shape"].get(str(index)))
                for index, (layer, shift) in enumerate(zip(layers, shifts, strict=True))
            ]
            return restored, {str(key): str(value) for key, value in own["metadata"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise NetxFormatError(
                f"The graph's metadata `{_OWN_KEY}` does not fit its nodes, which were changed. Remove it."
            ) from None


def _with(layer: Layer, shift: bool, axon_delay: list[int] | None, shape: list[int] | None) -> Layer:
    if isinstance(layer, Flatten):
        return layer
    changes: dict[str, Any] = {"delay_shift": bool(shift)}
    if isinstance(layer, Dense | Conv):
        output_shape = None if shape is None else tuple(int(size) for size in shape)
        delay = None if axon_delay is None else np.array(axon_delay, np.int64)
        if output_shape is not None and np.prod(output_shape) != np.prod(_shape(layer)):
            raise ValueError("another size")
        if delay is not None and (delay.shape != (output_shape or _shape(layer))[:1] or delay.min() < 0):
            raise ValueError("delays of other channels")
        changes |= {"axon_delay": delay, "output_shape": output_shape}
    return replace(layer, **changes)


def _pair(values: Any) -> tuple[int, int]:
    first, second = np.broadcast_to(np.asarray(values), 2)
    return int(first), int(second)
