"""How large the numbers of a network get, on a batch or at most on any input, and beyond which size they change.

Beyond its limit Lava wraps or clips a number, or SLAYER rounds it, so that the two no longer agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    NetworkDescription,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.fixed_point import (
    ALIGNMENT,
    MAX_INT32,
    MAX_QUANTISED,
    MAX_STATE,
    MESSAGE_BITS,
    MIN_QUANTISED,
    NETX_MESSAGE_BITS,
    STATE_SCALE,
    SUM_SCALE,
    UNITY_DECAY,
    WEIGHT_SCALE,
    IntArray,
)
from netx_export.network.stock_loader import weight_format

__all__ = [
    "CURRENT",
    "PARTIAL_SUM",
    "READ_VOLTAGE",
    "ROTATION",
    "ROUNDED_STATE",
    "STATE",
    "SUM",
    "VOLTAGE",
    "Peak",
    "Quantity",
    "bounds",
    "read_limit",
    "sum_limit",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """One of the numbers of a layer that has a limit.

    Attributes:
        name: what it is called.
        beyond: what becomes of it beyond its limit.
        unit: how many of its units are 1 in SLAYER.
        hint: what Lava or SLAYER does to it there, and what helps.
    """

    name: str
    beyond: Literal["wrap", "saturate", "round"]
    unit: int
    hint: str


CURRENT = Quantity(
    "current",
    "wrap",
    STATE_SCALE,
    "Lava wraps it, SLAYER does not. Use a higher current_decay, smaller weights or fewer inputs.",
)
VOLTAGE = Quantity(
    "voltage",
    "saturate",
    STATE_SCALE,
    "Lava clips it, SLAYER does not. Use a higher voltage_decay or weaker inhibition.",
)
READ_VOLTAGE = Quantity(
    "readout voltage",
    "saturate",
    STATE_SCALE,
    "Above its limit Lava clips it, or lets the neuron fire, which begins at 0 again. Scale the layer's weights and "
    "bias down.",
)
ROTATION = Quantity(
    "state",
    "saturate",
    STATE_SCALE,
    "Lava clips it, SLAYER does not. Use a higher decay, smaller weights or fewer inputs.",
)
SUM = Quantity(
    "sum of messages",
    "wrap",
    SUM_SCALE,
    "Lava wraps it, SLAYER does not. Scale the input or the layer's weights down.",
)
STATE = Quantity(
    "state", "wrap", SUM_SCALE, "Lava wraps it, SLAYER does not. Scale the input or the layer's weights down."
)
ROUNDED_STATE = Quantity(
    "state",
    "round",
    SUM_SCALE,
    "SLAYER computes in float32, which rounds it, and Lava does not. Scale the input or the layer's weights down.",
)
PARTIAL_SUM = Quantity(
    "partial sum of messages",
    "round",
    SUM_SCALE,
    "SLAYER adds a step's messages up in float32, in an order of its own. At worst it goes through this size, which "
    "float32 rounds, and Lava does not. Scale the input or the layer's weights down.",
)
# Without input neurons that bound them, messages are taken to have the bits that netx gives them, with the sign.
_MESSAGES = (-(2.0 ** (NETX_MESSAGE_BITS - 1)), 2.0 ** (NETX_MESSAGE_BITS - 1))


@dataclass(frozen=True)
class Peak:
    """The largest size that one of a layer's numbers reaches, or would reach if it had no limit.

    Attributes:
        quantity: the number.
        size: its largest size, in Lava's units.
        limit: the largest size that is held as it is.
        step: the first step beyond the limit, counted as SLAYER does; None if there is none, or no batch was run.
    """

    quantity: Quantity
    size: float
    limit: int
    step: int | None = None

    @property
    def exceeded(self) -> bool:
        """Whether the number goes beyond its limit."""
        return self.size > self.limit


def sum_limit(layer: Dense | Conv) -> int:
    """The largest sum of a step's messages that Lava holds.

    A convolution sums up in float64 and wraps at 24 bits (lava-nc 0.10.0, ``signed_clamp`` of ``lava/proc/conv``); a
    dense layer sums up mantissas, which are shifted up, in int32.
    """
    if isinstance(layer, Conv):
        return MAX_STATE
    return MAX_INT32 >> max(0, -weight_format(layer.weight)[1])


def bounds(description: NetworkDescription) -> dict[str, tuple[Peak, ...]]:
    """How far some input could drive each layer's numbers, from weights and decays alone."""
    reach = _encoded_reach(description.encoder)
    found: dict[str, tuple[Peak, ...]] = {}
    readout = list(description.spiking)[-1] if description.reads_voltage else None
    for name, layer in description.spiking.items():
        if isinstance(layer.neuron, SigmaDeltaNeuron):
            found[name], reach = _sigma_delta_bounds(layer, layer.neuron, reach)
        elif isinstance(layer.neuron, ResonatorNeuron):
            found[name] = (_resonator_bound(layer, layer.neuron),)
        else:
            found[name] = tuple(_cuba_bounds(layer, layer.neuron, read=name == readout))
    return found


def _cuba_bounds(layer: SpikingLayer, neuron: CubaNeuron, *, read: bool) -> Iterator[Peak]:
    excitation, inhibition = _excitation_and_inhibition(_matrices(layer))
    current = _accumulated(ALIGNMENT * _of_one_sign(excitation, inhibition), neuron.current_decay)
    yield Peak(CURRENT, float(current.max()), MAX_STATE)
    bias = getattr(layer, "bias", None)

    def voltage(weights: FloatArray, sign: int) -> float:
        """The largest size; a bias goes into the voltage, and not into the current."""
        drive = np.maximum(0 if bias is None else sign * ALIGNMENT * bias, 0)
        steady = _accumulated(sign * ALIGNMENT * weights, neuron.current_decay)
        return float(_accumulated(steady + drive, neuron.voltage_decay).max())

    yield Peak(VOLTAGE, voltage(inhibition, -1), MAX_STATE)
    if read:  # else a neuron that fires is reset, however high its voltage was
        yield Peak(READ_VOLTAGE, voltage(excitation, 1), read_limit(neuron))


def read_limit(neuron: CubaNeuron) -> int:
    """The highest voltage that can be read: above the threshold the neuron fires."""
    limit: int = min(neuron.threshold * ALIGNMENT, MAX_STATE)
    return limit


def _accumulated(sizes: FloatArray, decay: IntArray) -> FloatArray:
    """The limit of a state that decays, and to which ``sizes`` are added in each step; infinite without decay."""
    grown: FloatArray = np.where(
        sizes > 0, np.where(decay > 0, sizes * UNITY_DECAY / np.maximum(decay, 1), np.inf), 0.0
    )
    return grown


def _matrices(layer: SpikingLayer) -> list[IntArray]:
    """The weights of a layer, and of its feedback, by the neurons or channels that get them."""
    weight = layer.weight.reshape(len(layer.weight), -1)
    return [weight, layer.recurrent_weight] if isinstance(layer, Recurrent) else [weight]


def _excitation_and_inhibition(matrices: Sequence[IntArray]) -> tuple[FloatArray, FloatArray]:
    """The sums of all positive and of all negative weights into each neuron, or each channel of a convolution."""
    excitation, inhibition = np.zeros((2, len(matrices[0])))
    for matrix in matrices:
        for neuron, row in enumerate(matrix):  # one by one, so that a large layer takes no memory
            excitation[neuron] += np.maximum(row, 0).sum()
            inhibition[neuron] += np.minimum(row, 0).sum()
    return excitation, inhibition


def _of_one_sign(excitation: FloatArray, inhibition: FloatArray) -> FloatArray:
    """The largest size of a sum of weighted spikes: all inputs of one sign spike, and none of the others."""
    return np.maximum(excitation, -inhibition)


def _resonator_bound(layer: SpikingLayer, neuron: ResonatorNeuron) -> Peak:
    """The state as a complex number shrinks by the same factor at each step."""
    assert isinstance(layer, Resonator)
    parts = (layer.weight, layer.imaginary_weight)
    inputs = np.hypot(*(_of_one_sign(*_excitation_and_inhibition([weight])) for weight in parts))
    lost = 1 - np.hypot(neuron.sin_decay, neuron.cos_decay) / UNITY_DECAY
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing is lost, which has no bound
        sizes = np.where(lost > 0, ALIGNMENT * inputs / lost, np.where(inputs > 0, np.inf, 0))
    return Peak(ROTATION, float(sizes.max()), MAX_STATE)


def _encoded_reach(encoder: Encoder | None) -> tuple[float, float]:
    """The lowest and the highest value that the sum of all messages of an input neuron can have."""
    if encoder is None or not isinstance(encoder.neuron, SigmaDeltaNeuron):
        return _MESSAGES
    ends = [level * encoder.weight + WEIGHT_SCALE * encoder.bias for level in (MIN_QUANTISED, MAX_QUANTISED)]
    unsent = ALIGNMENT * encoder.neuron.threshold
    return min(0, *ends) - unsent, max(0, *ends) + unsent


def _sigma_delta_bounds(
    layer: SpikingLayer, neuron: SigmaDeltaNeuron, reach: tuple[float, float]
) -> tuple[tuple[Peak, ...], tuple[float, float]]:
    """A layer's bounds for incoming messages whose sum is within ``reach``, and the reach of those that it sends."""
    assert isinstance(layer, Dense | Conv)
    excitation, inhibition = _excitation_and_inhibition(_matrices(layer))
    low, high = reach
    step = float((excitation - inhibition).max()) * (high - low)
    bias = 0 if layer.bias is None else layer.bias * 2.0**MESSAGE_BITS
    highest = float((excitation * high + inhibition * low + np.maximum(bias, 0)).max())
    lowest = float((excitation * low + inhibition * high + np.minimum(bias, 0)).min())
    found = Peak(SUM, step, sum_limit(layer)), Peak(STATE, max(highest, -lowest), MAX_INT32)
    unsent = ALIGNMENT * neuron.threshold
    return found, (-unsent, highest / ALIGNMENT + unsent)
