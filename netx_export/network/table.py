"""A network as a table, for people to read."""

from __future__ import annotations

from html import escape
from typing import TypeAlias

import numpy as np

from netx_export.network.fixed_point import IntArray
from netx_export.network.layers import (
    Affine,
    Average,
    Conv,
    CubaNeuron,
    Input,
    Layer,
    Neuron,
    ResonatorNeuron,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.stock_loader import weight_format

__all__ = ["html_table", "table"]

_Column: TypeAlias = "tuple[str, ...]"
_GAP = "  "

_HEADER = (
    *("layer", "neuron", "shape", "neurons", "synapses", "weights", "bits", "exponent"),
    *("delay", "threshold", "current decay", "voltage decay"),
)
_OPTIONAL = ("bias", "kernel", "stride", "padding", "dilation", "groups")  # shown if any layer has them
_PAIRS = ("stride", "padding", "dilation")


def table(layers: tuple[Layer, ...], *, reads_voltage: bool = False, width: int | None = None) -> str:
    """A line for each layer, in columns as wide as what is in them.

    Args:
        layers: the layers.
        reads_voltage: whether the last one is read by its membrane potential.
        width: where the columns do not fit into so many characters, those that are left follow in a table below, which
            begins with the layers' names again.
    """
    names, *others = _columns(layers, reads_voltage)
    blocks: list[list[_Column]] = [[names]]
    for column in others:
        if width is not None and len(blocks[-1]) > 1 and _width([*blocks[-1], column]) > width:
            blocks.append([names])
        blocks[-1].append(column)
    return "\n\n".join(_text(block) for block in blocks)


def html_table(layers: tuple[Layer, ...], *, reads_voltage: bool = False) -> str:
    """The same as an HTML table."""
    header, *rows = zip(*_columns(layers, reads_voltage), strict=True)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _columns(layers: tuple[Layer, ...], reads_voltage: bool) -> list[_Column]:
    """The columns that are shown, each beginning with its heading."""
    rows = [[*_row(f"{layer.kind}{index}", layer), *_optional_cells(layer)] for index, layer in enumerate(layers)]
    if reads_voltage:
        rows[-1][1] += ", read by voltage"
    return [column for column in zip((*_HEADER, *_OPTIONAL), *rows, strict=True) if _is_shown(column)]


def _width(columns: list[_Column]) -> int:
    return sum(max(map(len, column)) for column in columns) + len(_GAP) * (len(columns) - 1)


def _text(columns: list[_Column]) -> str:
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(_GAP.join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True))


def _row(name: str, layer: Layer) -> tuple[str, ...]:
    shape = "x".join(map(str, layer.shape))
    if isinstance(layer, Input) and layer.encoder is not None:
        return (name, _neuron_kind(layer.encoder.neuron), shape, *[""] * 6, *_neuron_cells(layer.encoder.neuron))
    if isinstance(layer, Affine):
        return (name, "on the host", shape, "", str(layer.weight.size), _range(layer.weight), *[""] * 6)
    if not isinstance(layer, SpikingLayer):
        return (name, "on the host" if isinstance(layer, Average) else "", shape, *[""] * 9)
    bits, exponent = _weight_format(layer)
    delays = [delay for delay in (getattr(layer, "delay", None), layer.axon_delay) if delay is not None]
    return (
        name,
        _neuron_kind(layer.neuron),
        shape,
        str(int(np.prod(layer.shape))),
        str(_synapses(layer)),
        _range(layer.weight),
        bits,
        exponent,
        " + ".join(map(_range, delays)),
        *_neuron_cells(layer.neuron),
    )


def _is_shown(column: _Column) -> bool:
    return column[0] not in _OPTIONAL or any(column[1:])


def _optional_cells(layer: Layer) -> tuple[str, ...]:
    """Bias, and the geometry of a convolution, vertical before horizontal."""
    bias = getattr(layer, "bias", None)
    first = "" if bias is None else _range(bias)
    if isinstance(layer, Input) and layer.encoder is not None and layer.encoder.bias:
        first = str(layer.encoder.bias)
    if not isinstance(layer, Conv):
        return (first, *[""] * (len(_OPTIONAL) - 1))
    pairs = [layer.weight.shape[2:], *(getattr(layer, name) for name in _PAIRS)]
    return (first, *("x".join(map(str, pair)) for pair in pairs), str(layer.groups))


def _synapses(layer: SpikingLayer) -> int:
    """Number of weights that the file holds: a convolution's kernels are shared."""
    others = [getattr(layer, name, np.empty(0)) for name in ("recurrent_weight", "imaginary_weight")]
    return int(layer.weight.size) + sum(int(other.size) for other in others)


def _weight_format(layer: SpikingLayer) -> tuple[str, str]:
    """Weight bits and exponent that the stock loader decides on; a convolution's are fixed."""
    if isinstance(layer, Conv):
        return "8", "0"
    if not any(part.any() for part in layer.loaded_together[0]):
        return "none", "none"
    bits, exponent = weight_format(*layer.loaded_together[0])
    return str(bits), str(exponent)


def _neuron_kind(neuron: Neuron) -> str:
    if isinstance(neuron, ResonatorNeuron):
        return "RF" if neuron.reset == "phase" else "RF_IZ"
    if isinstance(neuron, CubaNeuron):
        return "CUBA"
    return "SDNN" if neuron.sends else "SDNN, sums only"


def _neuron_cells(neuron: Neuron) -> tuple[str, str, str]:
    """Threshold and decays; a resonator's are those of its rotation."""
    if isinstance(neuron, SigmaDeltaNeuron):
        return (str(neuron.threshold), "", "")
    if isinstance(neuron, ResonatorNeuron):
        return (str(neuron.threshold), f"sin {_range(neuron.sin_decay)}", f"cos {_range(neuron.cos_decay)}")
    return (str(neuron.threshold), _range(neuron.current_decay), _range(neuron.voltage_decay))


def _range(values: IntArray) -> str:
    if values.size == 0:
        return ""
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low}..{high}"
