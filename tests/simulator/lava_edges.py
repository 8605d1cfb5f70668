"""Small files at the edges of Lava's arithmetic, and what Lava made of them.

Lava runs on Python 3.10 alone, and its wraps, limits and roundings have to be kept on every Python. So what it did is
stored beside this file, and compared with the reference simulator everywhere. With Lava installed, this makes it anew:

    python tests/simulator/lava_edges.py
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from netx_export import simulate

__all__ = ["EDGES", "STORED", "as_text", "record", "write_layers"]

STORED = Path(__file__).with_name("lava_edges.json")

Layers = list[dict[str, Any]]


def write_layers(path: Path, layers: Layers) -> Path:
    """Write a file as others may write it: our own writer refuses what Lava would alter."""

    def put(group: h5py.Group, content: dict[str, Any]) -> None:
        for name, value in content.items():
            if isinstance(value, dict):
                put(group.create_group(name), value)
            else:
                group[name] = value

    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            put(file.create_group(f"layer/{index}"), layer)
    return path


def _cuba(threshold: int, current_decay: Any, voltage_decay: Any) -> dict[str, Any]:
    decays = {"iDecay": np.atleast_1d(current_decay), "vDecay": np.atleast_1d(voltage_decay)}
    return {"type": np.bytes_("CUBA"), "vThMant": threshold, **decays}


def _resonator(threshold: int, sin: Any, cos: Any, kind: str) -> dict[str, Any]:
    decays = {"sinDecay": np.atleast_1d(sin), "cosDecay": np.atleast_1d(cos)}
    return {"type": np.bytes_(f"RF_{kind}"), "vThMant": threshold, **decays}


def _input(*shape: int, **more: Any) -> dict[str, Any]:
    return {"type": np.bytes_("input"), "shape": np.array(shape), **more}


def _dense(weight: Any, neuron: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": np.bytes_("dense"), "shape": np.array([len(weight)]), "weight": weight, "neuron": neuron, **more}


def _pixels(weight: Any, neuron: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Channels of a single pixel: a convolution's weights reach Lava as they are, however large."""
    weight = np.asarray(weight)[:, :, np.newaxis, np.newaxis]
    ones, zeros = np.array([1, 1]), np.array([0, 0])
    shape = {"type": np.bytes_("conv"), "shape": np.array([len(weight), 1, 1]), "weight": weight, "groups": 1}
    return {**shape, "stride": ones, "padding": zeros, "dilation": ones, "neuron": neuron, **more}


def _pattern(rows: int, columns: int, low: int, high: int, step: int = 7919) -> np.ndarray:
    """Numbers from ``low`` to ``high`` without an order that is seen; the same with every version of numpy."""
    places = np.arange(rows * columns, dtype=np.int64) * step + 104_729
    return (low + places % 1_000_003 % (high - low + 1)).reshape(rows, columns)


def _spikes(channels: int, steps: int, one_in: int) -> np.ndarray:
    return (_pattern(channels, steps, 0, one_in - 1) == 0).astype(np.uint8)[np.newaxis]


def _steps(channels: int, *steps: list[int]) -> np.ndarray:
    """Which channels spike in each step."""
    spikes = np.zeros((1, channels, len(steps)), np.uint8)
    for step, spiking in enumerate(steps):
        spikes[0, spiking, step] = 1
    return spikes


def _images(spikes: np.ndarray) -> np.ndarray:
    return spikes[:, :, np.newaxis, np.newaxis]


# Sums of inputs that reach 2^17 in both directions, where a current of 24 bits ends, one less and one more of it; 0, 1.
_EDGE = np.array([[131_071, 1, 1, -131_071, -1, -1, 2]])
_AT_THE_EDGE = _steps(7, [0], [], [0, 1], [], [0, 1, 2], [], [3], [], [3, 4], [], [3, 4, 5], [], [3, 6], [3], [0], [0])


def _current_at_24_bits() -> tuple[Layers, np.ndarray]:
    weight = np.repeat(_EDGE, 4, axis=0)
    neuron = _cuba(1, [4096, 4096, 0, 2048], [0, 4096, 4096, 0])
    return [_input(7, 1, 1), _pixels(weight, neuron)], _images(_AT_THE_EDGE)


def _voltage_at_24_bits() -> tuple[Layers, np.ndarray]:
    """The voltage goes down to its limit and comes up again, to just at the threshold, and to just above it."""
    weight = np.array([[131_071, -131_071, 1]] * 3)
    bias = np.array([0, -9, 9])
    down, up = [[1]] * 3, [[0]] * 2
    steps = [*down, *up, [2], [2], [2], [], *down, [0], [0, 2], [0, 2]]
    return [_input(3, 1, 1), _pixels(weight, _cuba(1, 4096, 0), bias=bias)], _images(_steps(3, *steps))


def _sums_of_a_convolution_at_24_bits() -> tuple[Layers, np.ndarray]:
    weight = 64 * np.repeat(_EDGE, 3, axis=0) + np.array([[0] * 7, [1] + [0] * 6, [0, 0, 0, -1, 0, 0, 0]])
    return [_input(7, 1, 1), _pixels(weight, _cuba(1000, 4096, [0, 2048, 4096]))], _images(_AT_THE_EDGE)


def _decays() -> tuple[Layers, np.ndarray]:
    """What decays is cut off towards zero, above it and below."""
    decays = np.array([0, 1, 2, 128, 1024, 2048, 4095, 4096])
    neuron = _cuba(40, decays, decays[::-1])
    layer = _dense(_pattern(8, 12, -60, 60), neuron, bias=np.array([0, 1, -1, 9, -9, 3, 0, 2]))
    return [_input(12), layer, _dense(_pattern(8, 8, -90, 120), _cuba(80, decays[::-1], decays))], _spikes(12, 60, 4)


def _integrators(weight: np.ndarray, **more: Any) -> dict[str, Any]:
    """Neurons that add up all they get, with a bias a little above what inhibits them: each unit moves a spike."""
    bias = np.round(np.maximum(0, -4 * weight.mean(1))).astype(int) + np.array([20, 50, 90, 10])
    return _dense(weight, _cuba(300, 4096, 0), bias=bias, **more)


def _altered_weights(weight: np.ndarray) -> Callable[[], tuple[Layers, np.ndarray]]:
    return lambda: ([_input(12), _integrators(weight)], _spikes(12, 60, 3))


# netx cuts delays off at 62 steps.
_LONG_DELAYS = [0, 1, 61, 62, 63, 64, 100, 2, 0, 5, 62, 63]


def _delays(
    shape: tuple[int, ...], weight: np.ndarray, delays: list[int] = _LONG_DELAYS
) -> Callable[[], tuple[Layers, np.ndarray]]:
    delay = np.resize(np.array(delays), shape)
    return lambda: ([_input(12), _integrators(weight, delay=delay)], _spikes(12, 90, 3))


def _recurrent(weights: list[np.ndarray], decay: int, bias: int) -> Callable[[], tuple[Layers, np.ndarray]]:
    layer = _dense(weights[0], _cuba(200, decay, 512), weight_rec=weights[1])
    layer |= {"type": np.bytes_("dense_rec"), "bias": np.arange(6) + bias}
    return lambda: ([_input(12), layer], _spikes(12, 50, 3))


def _resonators(kind: str, threshold: int) -> Callable[[], tuple[Layers, np.ndarray]]:
    """Resonators that turn, decay, or do neither: the state of those grows until it is cut off at 24 bits.

    Four groups of inputs drive the real and the imaginary part up and down.
    """
    sin, cos = np.array([0, 0, 1500, -2896, 4096, 1]), np.array([4096, 4000, 3000, 2896, 0, 4095])
    layer = _dense(np.zeros((6, 0)), _resonator(threshold, sin, cos, kind))
    del layer["weight"]
    groups = np.kron(np.array([[254, -254, 0, 0], [0, 0, 254, -254]]), np.ones((6, 16), int))
    layer["weight/real"], layer["weight/imag"] = groups[:6] - groups[:6] // 127 * _pattern(6, 64, 0, 9), groups[6:]
    real_up, real_down, imag_up, imag_down = (list(range(first, first + 16)) for first in (0, 16, 32, 48))
    probe = [imag_down, imag_up]  # a resonator that resets at no spike spikes when its imaginary part comes up
    steps = [real_up] * 38 + probe + [real_down, *probe] * 35  # until the real part is below the threshold
    steps += [real_up] * 35 + [imag_up] * 36 + [imag_down] * 72 + [imag_up + real_down] * 36
    return lambda: ([_input(64), layer], _steps(64, *steps))


def _sigma_delta(threshold: int, **more: Any) -> dict[str, Any]:
    return {"type": np.bytes_("SDNN"), "vThMant": threshold, **more}


def _messages(scale: float, last: dict[str, Any], image: bool = False) -> Callable[[], tuple[Layers, np.ndarray]]:
    """Numbers that sigma-delta neurons send; of the larger ones, sums wrap at 24 bits in a convolution, at 32 else."""
    values = _pattern(5, 40, -100, 100)[np.newaxis] * scale
    size = int(scale) + 1
    first, second = _pattern(6, 5, -120 * size, 120 * size), _pattern(4, 6, -127, 127, 6131)
    if image:
        layers = _pixels(first, _sigma_delta(3), bias=np.arange(-3, 3)), _pixels(second, last)
        return lambda: ([_input(5, 1, 1, neuron=_sigma_delta(1)), *layers], _images(values))
    first = _pattern(6, 5, -127, 127)
    layers = _dense(first, _sigma_delta(3), bias=np.arange(-3, 3) * 2**9), _dense(second, last)
    return lambda: ([_input(5, neuron=_sigma_delta(1)), *layers], values)


def _rounding(rows: int, columns: int) -> np.ndarray:
    """Weights of which Lava takes -64 for -63.5, and rounds the sums down."""
    return np.array([0, -64, -63])[_pattern(rows, columns, 0, 2)]


EDGES: dict[str, Callable[[], tuple[Layers, np.ndarray]]] = {
    "a current wraps beyond 24 bits": _current_at_24_bits,
    "a voltage stops at 24 bits": _voltage_at_24_bits,
    "sums of a convolution wrap at 24 bits": _sums_of_a_convolution_at_24_bits,
    "decays are cut off towards zero": _decays,
    "weights of -64 load as zeros": _altered_weights(np.full((4, 12), -64)),
    "weights of 0 and -128 load as 0 and -64": _altered_weights(np.where(_pattern(4, 12, 0, 1) > 0, -128, 0)),
    "a weight of -256 loads as -254": _altered_weights(np.where(_pattern(4, 12, 0, 3) > 0, 90, -256)),
    "an excitatory weight of 300 loads as 0": _altered_weights(_pattern(4, 12, 250, 300)),
    "sums of weights round down": _altered_weights(_rounding(4, 12)),
    "a delay of each neuron ends at 62": _delays((4,), _pattern(4, 12, -60, 127)),
    "a delay of each input ends at 62": _delays((12,), _pattern(4, 12, -60, 127)),
    "a delay of each synapse ends at 62": _delays((4, 12), _pattern(4, 12, -60, 127)),
    "sums of weights round down for each delay": _delays((12,), _rounding(4, 12), [0, 1, 2, 3]),
    "recurrent currents": _recurrent([_pattern(6, 12, -60, 90), _pattern(6, 6, -60, 90, 6131)], 1024, bias=30),
    "recurrent sums round down": _recurrent([_rounding(6, 12), _rounding(6, 6)], 2048, bias=450),
    "resonators stop at 24 bits": _resonators("PHASE", 64),
    "resonators of a high threshold": _resonators("PHASE", 131_071),
    "Izhikevich resonators stop at 24 bits": _resonators("IZHIKEVICH", 131_071),
    "Izhikevich resonators spike again": _resonators("IZHIKEVICH", 64),
    "messages": _messages(0.01, _sigma_delta(5)),
    "sums of messages": _messages(0.01, _sigma_delta(5, sigma_output=True)),
    "messages of images": _messages(0.01, _sigma_delta(5), image=True),
    "messages whose sums wrap at 24 bits": _messages(300.0, _sigma_delta(5), image=True),
}


def record(name: str, backend: Any) -> dict[str, Any]:
    """What each layer of an edge does in a back end, as it is stored."""
    layers, inputs = EDGES[name]()
    with tempfile.TemporaryDirectory() as directory:
        run = simulate(write_layers(Path(directory, "edge.net"), layers), inputs, backend=backend, delay_shift=True)
    return {layer: as_text(spikes) for layer, spikes in run.layers.items()}


def as_text(spikes: np.ndarray) -> list[str]:
    """A line for each neuron of the only sample: 0 and 1 of spikes, Lava's own integers of messages and sums."""
    rows = spikes.reshape(-1, spikes.shape[-1])
    if spikes.dtype == np.uint8:
        return ["".join(map(str, row)) for row in rows.tolist()]
    return [" ".join(str(int(number * 2**18)) for number in row) for row in rows.tolist()]


if __name__ == "__main__":
    stored = {name: record(name, "lava") for name in EDGES}
    versions = {name: version(name) for name in ("lava-nc", "lava-dl")}
    STORED.write_text(json.dumps({"versions": versions, "edges": stored}, indent=1) + "\n")
