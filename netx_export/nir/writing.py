"""From a network for netx to a NIR graph."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from netx_export.errors import ExportError
from netx_export.file.netx import as_description
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Flatten,
    Input,
    Layer,
    NetworkDescription,
    Recurrent,
)
from netx_export.network.fixed_point import MAX_DELAY, MAX_THRESHOLD, UNITY_DECAY, WEIGHT_SCALE, IntArray
from netx_export.nir.library import DEFAULT_DT, OWN_KEY, FloatArray, check_positive, library

__all__ = ["to_nir"]

# Of a netx unit. Neurons fire above their threshold, and a float32 sum of weights that are no whole numbers of 1/64 may
# lie above a threshold that it should equal.
_TIE = 1e-3


def to_nir(
    network: str | os.PathLike[str] | NetworkDescription, *, dt: float = DEFAULT_DT, scale: float = WEIGHT_SCALE
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
        either); at the end, ``CubaLI``, ``LI`` or ``I`` for what is read by its voltage. A recurrent layer's neurons
        are a graph of their own, where a ``Linear`` leads back to them. What NIR cannot express (SLAYER's shifts and
        shapes, texts) is kept in its metadata.

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
    check_positive(dt=dt, scale=scale)
    description = as_description(network)
    writer = _Writer(library(), dt, scale)
    return writer.graph(_in_nirs_form(description))


@dataclass
class _Writer:
    nir: ModuleType
    dt: float
    scale: float
    readout: str = ""  # name of a last layer that is read by its voltage
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
        if description.reads_voltage:
            self.readout = _names(description)[-1]
        self.nodes["input"] = self.nir.Input(input_type=np.array(description.input_shape))
        shape: tuple[int, ...] = description.input_shape
        last = max(index for index, layer in enumerate(description.layers) if not isinstance(layer, Flatten))
        for index, (name, layer) in enumerate(zip(_names(description), description.layers, strict=True)):
            if isinstance(layer, Flatten):
                self.nodes[name] = self.nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0)
            elif isinstance(layer, Dense):
                self.dense(name, layer)
            elif isinstance(layer, Recurrent):
                self.recurrent(name, layer)
            elif isinstance(layer, Conv):
                self.conv(name, layer)
            elif not isinstance(layer, Input):
                self.refuse(name, f"a {layer.kind} layer is none of NIR's nodes here (CUBA, LIF and IF)")
            shape = _shape(layer)
            if index == last and isinstance(layer, Dense | Conv | Recurrent) and layer.axon_delay is not None:
                self.output_delay(name, layer.axon_delay, shape)
        self.nodes["output"] = self.nir.Output(output_type=np.array(shape))
        names = list(self.nodes)
        edges = list(itertools.pairwise(names))
        return self.nir.NIRGraph(
            nodes=self.nodes, edges=edges, metadata={OWN_KEY: self.metadata(description)}, type_check=False
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

    def output_delay(self, name: str, steps: IntArray, shape: tuple[int, ...]) -> None:
        """Delays of channels, which may be neurons of the file, behind the last neurons."""
        each = np.repeat(steps, shape[0] // len(steps))
        self.delay(f"{name}_output_delay", np.broadcast_to(each.reshape(-1, *[1] * (len(shape) - 1)), shape))

    def dense(self, name: str, layer: Dense) -> None:
        before, after = self.split_delay(name, layer)
        if before is not None:
            self.delay(f"{name}_input_delay", before)
        if after is not None and after.any() and self.input_bias(name, layer) is not None:
            self.refuse(name, "a bias that does not wait for its delays; give it either the one or the others")
        self.matrix(name, layer)
        if after is not None:
            self.delay(f"{name}_delay", after)
        self.neuron(name, layer, (int(layer.weight.shape[0]),))

    def recurrent(self, name: str, layer: Recurrent) -> None:
        """Neurons that lead back to themselves, as snnTorch and Norse read them: in a graph of their own."""
        self.matrix(name, layer)
        size = len(layer.weight)
        self.neuron(name, layer, (size,))
        nodes = {
            "input": self.nir.Input(input_type=np.array([size])),
            "lif": self.nodes[name],
            "w_rec": self.nir.Linear(weight=self.as_written(layer, layer.recurrent_weight)),
            "output": self.nir.Output(output_type=np.array([size])),
        }
        edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
        self.nodes[name] = self.nir.NIRGraph(nodes=nodes, edges=edges, metadata={}, type_check=False)

    def matrix(self, name: str, layer: Dense | Recurrent) -> None:
        weight, bias = self.as_written(layer, layer.weight), self.input_bias(name, layer)
        node = self.nir.Linear(weight=weight) if bias is None else self.nir.Affine(weight=weight, bias=bias)
        self.nodes[f"{name}_weight"] = node

    def as_written(self, layer: Dense | Conv | Recurrent, values: IntArray) -> FloatArray:
        """Weights or a bias as NIR has them: divided by the gain, by which the neurons behind them multiply."""
        written: FloatArray = values / self.scale / _gain(layer.neuron)
        return written

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
            factor = float(self.as_written(layer, layer.weight).flat[0])
            self.nodes[f"{name}_weight"] = self.nir.Scale(scale=np.full(layer.spatial_shape, factor))
        else:
            self.nodes[f"{name}_weight"] = self.nir.Conv2d(
                input_shape=tuple(layer.input_shape[1:]),
                weight=self.as_written(layer, layer.weight),
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

    def input_bias(self, name: str, layer: Dense | Conv | Recurrent) -> FloatArray | None:
        """The bias, if the weights' node can carry it: only where nothing lies between current and voltage."""
        if (
            layer.bias is None
            or not isinstance(layer.neuron, CubaNeuron)
            or (layer.neuron.current_decay != UNITY_DECAY).any()
        ):
            return None
        if not layer.bias.any():
            self.refuse(name, "a bias of zeros; leave it out")
        return self.as_written(layer, layer.bias)

    def neuron(self, name: str, layer: Dense | Conv | Recurrent, shape: tuple[int, ...]) -> None:
        neuron = layer.neuron
        if not isinstance(neuron, CubaNeuron):
            self.refuse(name, "sigma-delta neurons have no counterpart in NIR")
        current, voltage = (_spread(values, shape) for values in (neuron.current_decay, neuron.voltage_decay))
        firing = self.firing(name, neuron, shape)
        if (current < 1).any():
            self.refuse(name, "a current that never decays has no finite time constant")
        instant = bool((current == UNITY_DECAY).all())
        if instant and not voltage.any():
            kind = self.nir.IF if firing else self.nir.I
            self.nodes[name] = kind(r=np.full(shape, 1 / self.dt), **firing)
            return
        if (voltage < 1).any():
            self.refuse(name, "a voltage that never decays has no finite time constant behind a current that does")
        tau, r = self.dt * UNITY_DECAY / voltage, UNITY_DECAY / voltage
        if instant:
            kind = self.nir.LIF if firing else self.nir.LI
            self.nodes[name] = kind(tau=tau, r=r * _gain(neuron), v_leak=np.zeros(shape), **firing)
            return
        bias = np.zeros(shape) if layer.bias is None else _spread(layer.bias, shape) / self.scale
        kind = self.nir.CubaLIF if firing else self.nir.CubaLI
        self.nodes[name] = kind(
            tau_syn=self.dt * UNITY_DECAY / current,
            tau_mem=tau,
            r=r,
            v_leak=bias * r,
            w_in=UNITY_DECAY / current,
            **firing,
        )

    def firing(self, name: str, neuron: CubaNeuron, shape: tuple[int, ...]) -> dict[str, FloatArray]:
        """Threshold and reset; none of neurons that are read by their voltage."""
        if name == self.readout:
            return {}
        if not 1 <= neuron.threshold <= MAX_THRESHOLD:
            text = f"v_threshold of {neuron.threshold} netx units"
            self.refuse(name, f"{text}; neurons that can fire, and not without input, have 1 to {MAX_THRESHOLD}")
        above = _TIE if _gain(neuron) != 1 else 0.0
        return {"v_threshold": np.full(shape, (neuron.threshold + above) / self.scale), "v_reset": np.zeros(shape)}


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
    kept = description.metadata, description.ignored
    return NetworkDescription(tuple(layers), *kept, reads_voltage=description.reads_voltage)


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


def _gain(neuron: Any) -> float:
    """The gain that neurons are written with: 1, or for LIF neurons that of ``r = 1``, which Norse expects.

    snnTorch takes one gain for all neurons of a layer, so those of different decays keep a gain of 1.
    """
    if not isinstance(neuron, CubaNeuron) or (neuron.current_decay != UNITY_DECAY).any():
        return 1.0
    decays = np.unique(neuron.voltage_decay)
    return float(decays[0]) / UNITY_DECAY if decays.size == 1 and decays[0] > 0 else 1.0


def _names(description: NetworkDescription) -> list[str]:
    return [f"{layer.kind}{index}" for index, layer in enumerate(description.layers)]


def _spread(values: IntArray, shape: tuple[int, ...]) -> FloatArray:
    """One value, or one per channel, for every neuron."""
    channels = values.reshape(-1, *[1] * (len(shape) - 1)) if values.size > 1 else values.reshape(())
    return np.broadcast_to(channels, shape).astype(np.float64)


def _is_pool(layer: Conv) -> bool:
    """Whether it is a pool as other frameworks have it, which pad by half of its size at most."""
    channels = layer.input_shape[0]
    same = bool((layer.weight == layer.weight.flat[0]).all())
    covered = all(2 * padding <= size for padding, size in zip(layer.padding, layer.weight.shape[2:], strict=True))
    return same and covered and layer.groups == channels == len(layer.weight) and layer.dilation == (1, 1)
