"""Random files that this package did not write: refused, or run on the reference as stock netx runs them on Lava.

``SEARCH_EXAMPLES`` sets how many are tried; about one a second.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st
from lava_edges import write_layers

from netx_export import NetxFormatError, simulate

pytestmark = pytest.mark.lava
EXAMPLES = int(os.environ.get("SEARCH_EXAMPLES", "12"))
# One in so many numbers is drawn from beyond what Lava holds.
_STRANGE = 40
_DTYPES = [np.int64, np.int32, np.int16]


class _Maker:
    """Makes the parts of a file, all from one seed: hypothesis would mostly draw what is small, which is silent."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def one_of(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def chance(self, one_in: int) -> bool:
        return bool(self.rng.integers(one_in) == 0)

    def weights(self, *shape: int) -> np.ndarray:
        mixed = [(-60, 90), (-60, 90), (-256, 254), (0, 127), (-128, -2), (-4, 9), (-64, 255)]
        low, high = self.one_of(*mixed, (-64, -64)) if not self.chance(_STRANGE) else (0, 0)
        if self.chance(_STRANGE):
            low, high = self.one_of((-300, 300), (0, 700), (-900, -1), (-(2**29), 2**29))
        weights = self.rng.integers(low, high + 1, shape) * self.one_of(1, 1, 2) // self.one_of(1, 2)
        return weights.astype(self.one_of(np.int32, np.int64, np.float32))

    def number(self, values: np.ndarray | int) -> Any:
        """As a single number, or as an array, of a type in which it fits."""
        array = np.atleast_1d(values)
        room = 2**8 if self.chance(_STRANGE) else 2**12  # for Lava to shift it up
        fitting = [dtype for dtype in _DTYPES if np.abs(array).max() * room <= np.iinfo(dtype).max or dtype is np.int64]
        if self.chance(_STRANGE):
            fitting = [np.float32, np.uint64, np.uint16]
        array = array.astype(self.one_of(*fitting))
        return array[0] if array.size == 1 and self.chance(2) else array

    def decays(self, channels: int) -> np.ndarray:
        edges = [0, 1, 128, 1024, 4000, 4095, 4096]
        if self.chance(_STRANGE):
            edges = [-1, 4097, 5000, -(2**20)]
        return self.rng.choice(edges, self.one_of(1, channels))

    def bias(self, channels: int, largest: int) -> np.ndarray:
        scale = self.one_of(3, 60, 4095, largest - 1)
        if self.chance(_STRANGE):
            scale = 3 * largest
        return self.rng.integers(-scale - 1, scale + 1, channels) + self.one_of(0, 0.5, -0.5)

    def cuba(self, channels: int) -> dict[str, Any]:
        threshold = self.one_of(80, 80, 80, 300, 300, 0, 1, 1000, 20_000, 131_071, 131_072, 200_000)
        if self.chance(_STRANGE):
            threshold = self.one_of(-1, -(2**20), 2**26, 2**30)
        return {
            "type": np.bytes_(self.one_of("CUBA", "LOIHI")),
            "vThMant": self.number(threshold),
            "iDecay": self.number(self.decays(channels)),
            "vDecay": self.number(self.decays(channels)),
        }

    def resonator(self, channels: int) -> dict[str, Any]:
        angle, radius = self.rng.uniform(0, 2 * np.pi, channels), self.one_of(4096, 4000, 3000, 1)
        sin, cos = np.rint(radius * np.sin(angle)), np.rint(radius * np.cos(angle))
        if self.chance(_STRANGE):
            sin, cos = 2 * sin, self.one_of(2, 0, 1) * cos
        cut = self.one_of(1, channels)
        threshold = self.one_of(64, 1, 1000, 131_071) if not self.chance(_STRANGE) else self.one_of(0, -9, 2**25, 2**27)
        return {
            "type": np.bytes_(self.one_of("RF_PHASE", "RF_IZHIKEVICH")),
            "vThMant": self.number(threshold),
            "sinDecay": sin[:cut].astype(self.one_of(np.int64, np.float32, np.int16)),
            "cosDecay": cos[:cut].astype(self.one_of(np.int64, np.float64, np.int16)),
        }

    def sigma_delta(self) -> dict[str, Any]:
        threshold = self.one_of(0, 1, 5, 20, 1000, 2**19 - 1)
        if self.chance(_STRANGE):
            threshold = self.one_of(-1, 2**19, 2**21)
        return {"type": np.bytes_("SDNN"), "vThMant": self.number(threshold)}

    def dense(self, inputs: int, outputs: int, neuron: dict[str, Any], largest_bias: int) -> dict[str, Any]:
        resonates = "sinDecay" in neuron
        layer: dict[str, Any] = {"type": np.bytes_("dense"), "shape": np.array([outputs]), "neuron": neuron}
        for name in ("weight/real", "weight/imag") if resonates else ("weight",):
            layer[name] = self.weights(outputs, inputs)
        if not resonates and self.chance(3):
            layer["bias"] = self.bias(outputs, largest_bias)
        if "iDecay" in neuron and self.chance(4):
            layer["type"] = np.bytes_("dense_rec")
            layer["weight_rec"] = self.weights(outputs, outputs)
        elif "iDecay" in neuron and self.chance(4):
            shape = self.one_of((), outputs, inputs, (outputs, inputs))
            layer["delay"] = self.rng.integers(0, self.one_of(3, 63, 63, 100), shape)
        return layer

    def conv(self, shape: tuple[int, ...], neuron: dict[str, Any], largest_bias: int) -> dict[str, Any]:
        groups = self.one_of(1, shape[0])
        outputs = groups * self.one_of(1, 2)
        pairs = {
            name: np.array([self.one_of(*choices), self.one_of(*choices)])
            for name, choices in (("stride", (1, 1, 2)), ("padding", (0, 1, 2)), ("dilation", (1, 1, 2)))
        }
        kernel = np.array([self.one_of(1, 2, 3), self.one_of(1, 2, 3)])
        room = np.array(shape[1:]) + 2 * pairs["padding"] - 1
        kernel = np.where(pairs["dilation"] * (kernel - 1) > room, 1, kernel)
        spatial = (room - pairs["dilation"] * (kernel - 1)) // pairs["stride"] + 1
        layer = {
            "type": np.bytes_("conv"),
            "shape": np.array([outputs, *spatial]),
            "weight": self.weights(outputs, shape[0] // groups, *kernel),
            "groups": groups,
            "neuron": neuron,
            **pairs,
        }
        if self.chance(3):
            layer["bias"] = self.bias(outputs, largest_bias)
        return layer


def _file(seed: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The layers of a file, and input for it."""
    make = _Maker(seed)
    graded, image = make.chance(3), make.chance(3)
    largest_bias = 2**19 if graded else 2**15
    shape: tuple[int, ...] = (make.one_of(1, 2), 5, 6) if image else (make.one_of(1, 5, 20),)
    layers: list[dict[str, Any]] = [{"type": np.bytes_("input"), "shape": np.array(shape)}]
    inputs = shape
    if graded:
        layers[0]["neuron"] = make.sigma_delta()
    depth = make.one_of(1, 2, 3)
    if image:
        channels = 8
        for _ in range(make.one_of(1, 2)):
            layer = make.conv(shape, {}, largest_bias)
            channels = int(layer["shape"][0])
            layer["neuron"] = make.sigma_delta() if graded else make.cuba(channels)
            layers.append(layer)
            shape = tuple(int(size) for size in layer["shape"])
        depth = make.one_of(0, 1)
        if depth or make.chance(2):
            layers.append({"type": np.bytes_("flatten"), "shape": np.array([int(np.prod(shape))])})
    size = int(np.prod(shape))
    for _ in range(depth):
        outputs = make.one_of(1, 4, 9)
        neuron = make.sigma_delta() if graded else make.one_of(make.cuba, make.cuba, make.resonator)(outputs)
        layers.append(make.dense(size, outputs, neuron, largest_bias))
        size = outputs
    if graded and depth and make.chance(3) and "bias" not in layers[-1]:
        layers[-1]["neuron"]["sigma_output"] = True
    samples, steps = make.one_of(1, 3), make.one_of(2, 12, 40, 40, 90)
    if graded:
        return layers, make.rng.normal(size=(samples, *inputs, steps)).cumsum(-1) * make.one_of(0.1, 1, 4)
    return layers, make.rng.random((samples, *inputs, steps)) < make.one_of(0.1, 0.3, 0.7, 1.0)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32 - 1))
def test_a_random_file_is_refused_or_runs_as_on_lava(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    layers, values = _file(seed)
    path = tmp_path_factory.mktemp("random") / "other.net"
    write_layers(path, layers)
    note(str(layers))
    try:
        on_reference = simulate(path, values)
    except NetxFormatError:
        event("refused")
    else:
        on_lava = simulate(path, values, backend="lava")
        for name, layer in on_lava.layers.items():
            np.testing.assert_array_equal(on_reference.layers[name], layer, err_msg=name)
