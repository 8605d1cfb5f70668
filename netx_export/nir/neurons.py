"""The neurons of a NIR node, stepped by forward Euler: decays, gains and drives per step."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from netx_export.network.fixed_point import UNITY_DECAY, IntArray
from netx_export.nir.fitting import Fit
from netx_export.nir.graph import gives_voltage
from netx_export.nir.library import FloatArray, Named, numbers, refuse

__all__ = ["Cell", "cell_of", "per_channel", "spread"]

_ONE = 1e-5  # a gain this close to 1 is 1 in single precision
_SAME = 1e-6  # and numbers this close to each other are the same


@dataclass(frozen=True)
class Cell:
    """Neurons of one layer, all values one per channel.

    Attributes:
        current_decay: in 1/4096.
        voltage_decay: in 1/4096.
        gain: what an input of 1 adds to the current.
        drive: what is added to the membrane potential at each step.
        threshold: in NIR's unit; None of neurons that give their membrane potential.
    """

    current_decay: IntArray
    voltage_decay: IntArray
    gain: FloatArray
    drive: FloatArray
    threshold: FloatArray | None


def cell_of(nir: ModuleType, neuron: Named, shape: tuple[int, ...], dt: float, fit: Fit) -> Cell:
    """What a node of neurons does in steps of ``dt``.

    Raises:
        NetxFormatError: for a parameter that Loihi's neurons do not have, or not in this range.
    """
    node = neuron[1]

    def value(parameter: str) -> FloatArray:
        return per_channel(neuron[0], parameter, spread(neuron, parameter, shape))

    threshold = None if gives_voltage(nir, node) else value("v_threshold")
    if threshold is not None and value("v_reset").any():
        worst = np.abs(value("v_reset")).max()
        refuse(neuron[0], f"v_reset is not 0 but up to {worst:g}; Loihi's neurons start again at 0")
    instant = np.full(shape[0], UNITY_DECAY)
    none = np.zeros(shape[0])
    if isinstance(node, nir.IF | nir.I):
        return Cell(instant, np.zeros(shape[0], np.int64), _gain(value("r") * dt), none, threshold)
    leaky = "tau" if isinstance(node, nir.LIF | nir.LI) else "tau_mem"
    tau = _tau(neuron[0], leaky, value(leaky))
    voltage = _decay(neuron[0], leaky, tau, dt, UNITY_DECAY - 1, fit)
    gain, drive = _gain(value("r") * dt / tau), value("v_leak") * dt / tau
    if isinstance(node, nir.LIF | nir.LI):
        return Cell(instant, voltage, gain, drive, threshold)
    tau = _tau(neuron[0], "tau_syn", value("tau_syn"))
    current = _decay(neuron[0], "tau_syn", tau, dt, UNITY_DECAY, fit)
    return Cell(current, voltage, gain * _gain(value("w_in") * dt / tau), drive, threshold)


def spread(named: Named, parameter: str, shape: tuple[int, ...]) -> FloatArray:
    """A parameter for every neuron of a layer: it may be given once, once per channel, or for each."""
    values = numbers(named, parameter)
    if values.size == 1:
        return np.full(shape, values.reshape(()))
    while values.ndim > len(shape) and len(values) == 1:  # an axis of 1, as that of a batch, changes nothing
        values = values[0]
    if values.shape == (shape[0], *[1] * (len(shape) - 1)):
        return np.broadcast_to(values, shape)
    if values.shape not in (shape, (int(np.prod(shape)),)):
        refuse(named[0], f"{parameter} of shape {values.shape} for neurons of shape {shape}")
    return values.reshape(shape)


def per_channel(name: str, parameter: str, values: FloatArray) -> FloatArray:
    """The one value of each channel."""
    channels = values.reshape(len(values), -1)
    first: FloatArray = channels[:, 0]
    if not np.allclose(channels, first[:, None], rtol=_SAME, atol=0):
        refuse(name, f"{parameter} differs within a channel; netx holds one per channel")
    return first


def _tau(name: str, parameter: str, seconds: FloatArray) -> FloatArray:
    if not (seconds > 0).all():
        refuse(name, f"{parameter} from {seconds.min():g} to {seconds.max():g} s has to be positive")
    return seconds


def _decay(name: str, parameter: str, seconds: FloatArray, dt: float, highest: int, fit: Fit) -> IntArray:
    """A time constant in seconds as a decay in 1/4096."""
    decay = dt * UNITY_DECAY / seconds
    low, high = float(decay.min()), float(decay.max())
    if np.rint(low) < 1 or np.rint(high) > highest:
        refuse(
            name,
            f"{parameter} from {seconds.min():g} to {seconds.max():g} s does not fit steps of {dt:g} s: that makes "
            f"decays from {low:.6g} to {high:.6g} in 1/4096, and Loihi holds 1 to {highest}",
        )
    return fit.whole(
        name, parameter, decay, lambda values: dt * UNITY_DECAY / values, unit="1/4096 as a decay per step"
    )


def _gain(gain: FloatArray) -> FloatArray:
    return np.where(np.abs(gain - 1) <= _ONE, 1.0, gain)
