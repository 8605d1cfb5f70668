"""Files that other programs wrote: what Lava takes for another number is refused, the rest is Lava's bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from netx_export import NetxFormatError, read, simulate
from netx_export.file.netx import write
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    Input,
    Layer,
    NetworkDescription,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
)

RNG = np.random.default_rng(0)
CUBA = CubaNeuron(80, np.array([1024]), np.array([128]))
RF, RF_IZ = (ResonatorNeuron(64, np.array([900]), np.array([3900]), reset) for reset in ("phase", "izhikevich"))
SIGMA_DELTA = SigmaDeltaNeuron(5)


def _weights(*shape: int) -> Any:
    return 2 * RNG.integers(-30, 60, shape)


def _network(*layers: Layer, shape: tuple[int, ...] = (6,), encoder: Encoder | None = None) -> NetworkDescription:
    return NetworkDescription((Input(shape, False, encoder), *layers))


FIRST = Dense(_weights(5, 6), CUBA, bias=np.array([1, 2, -3, 40, 5]))
CONV = Conv(_weights(4, 1, 2, 3), CUBA, (2, 5, 5), padding=(1, 1), groups=2, bias=np.array([1, 2, 3, 4]))
NETWORKS = {
    "dense": _network(FIRST, Dense(_weights(4, 5), CUBA)),
    "delay": _network(Dense(_weights(5, 6), CUBA, np.array([0, 3, 7, 1, 2])), Dense(_weights(4, 5), CUBA)),
    "recurrent": _network(Recurrent(_weights(5, 6), _weights(5, 5), CUBA, np.array([1, 2, 3, 4, 5]))),
    "conv": _network(CONV, shape=(2, 5, 5)),
    "rf": _network(Resonator(_weights(5, 6), _weights(5, 6), RF)),
    "rf_iz": _network(Resonator(_weights(5, 6), _weights(5, 6), RF_IZ)),
    "sigma-delta": _network(
        Dense(_weights(5, 6), SIGMA_DELTA, bias=np.array([1, 2, -3, 4, 5])),
        Dense(_weights(4, 5), SigmaDeltaNeuron(0, sends=False)),
        encoder=Encoder(SigmaDeltaNeuron(2)),
    ),
}


def _file(folder: Path, network: NetworkDescription, **edits: Any) -> Path:
    """A network in a file, of which some datasets then hold something else, or are there no more."""
    path = folder / "other.net"
    write(network, path)
    with h5py.File(path, "r+") as file:
        for name, value in edits.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value
    return path


def _values(network: NetworkDescription) -> np.ndarray:
    rng = np.random.default_rng(1)
    shape = (2, *network.input_shape, 40)
    return rng.normal(size=shape).cumsum(-1) / 4 if network.encoder else rng.random(shape) < 0.5


def _assert_equals_lava(path: Path, values: np.ndarray) -> None:
    on_lava, on_reference = simulate(path, values, backend="lava"), simulate(path, values)
    for name, layer in on_lava.layers.items():
        np.testing.assert_array_equal(on_reference.layers[name], layer, err_msg=name)


BEYOND = [
    ("dense", "bias", np.array([40_000, 0, 0, 0, 0]), "bias is 40000, outside of -32768 to 32767: Lava holds it in 16"),
    ("dense", "bias", np.array([0, 0, -32_769, 0, 0]), "bias is -32769"),
    ("conv", "bias", np.array([0, 0, 32_768, 0]), "bias is 32768"),
    ("recurrent", "bias", np.array([0, 0, 0, 0, 2**20]), "bias is 1048576"),
    ("sigma-delta", "bias", np.array([2**19, 0, 0, 0, 0]), "bias is 524288, outside of -524288 to 524287"),
    ("dense", "neuron/iDecay", 4097, "current decay is 4097, outside of 0 to 4096"),
    ("conv", "neuron/iDecay", -1, "current decay is -1"),
    ("dense", "neuron/vDecay", np.array([1, 2, 3, 4, 5000]), "voltage decay is 5000"),
    ("recurrent", "neuron/vDecay", -(2**30), "voltage decay is -1073741824"),
    ("rf", "neuron/sinDecay", 8000, "sine decay is 8000"),
    ("rf_iz", "neuron/cosDecay", -4097.5, "cosine decay is -4097"),
    ("dense", "neuron/vThMant", -1, "threshold is -1"),
    ("delay", "neuron/vThMant", 2**25, "threshold is 33554432"),
    ("rf", "neuron/vThMant", 2**25, "threshold is 33554432"),
    ("rf_iz", "neuron/vThMant", 0, "threshold is 0, outside of 1"),
    ("sigma-delta", "neuron/vThMant", 2**19, "threshold is 524288, outside of 0 to 524287"),
    ("dense", "neuron/vThMant", 80.0, "`vThMant` is stored as float64, which netx hands on to Lava as it is"),
    ("sigma-delta", "neuron/vThMant", 5.5, "`vThMant` is stored as float64"),
    ("dense", "neuron/iDecay", np.uint64(1024), "`iDecay` is stored as uint64"),
    ("dense", "neuron/vDecay", np.array([128], np.float32), "`vDecay` is stored as float32"),
    ("dense", "neuron/vThMant", np.array([1000], np.int16), "1000 as an array of int16, in which Lava has no room"),
    ("rf", "neuron/vThMant", np.array([64], np.uint8), "64 as an array of uint8"),
    ("sigma-delta", "neuron/vThMant", np.array([8], np.int16), "8 as an array of int16.* by 12 bits"),
    ("conv", "bias", np.array([5]), r"a bias of shape \(1,\) does not fit 4 channels"),
    ("dense", "bias", np.array([[1], [2], [3], [4], [5]]), r"a bias of shape \(5, 1\)"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "value", "message"), BEYOND)
def test_what_lava_takes_for_another_number_is_refused(
    kind: str, name: str, value: Any, message: str, tmp_path: Path
) -> None:
    path = _file(tmp_path, NETWORKS[kind], **{f"layer/1/{name}": value})
    with pytest.raises(NetxFormatError, match=f"other.net: group /layer/1.*{message}"):
        read(path)


@pytest.mark.parametrize("sizes", ["stride", "padding", "dilation", "kernel", "groups"])
def test_sizes_of_a_convolution_that_lava_counts_in_8_bits_are_refused(sizes: str, tmp_path: Path) -> None:
    ones = np.ones((1, 1, 1, 1), int)
    edits: dict[str, dict[str, Any]] = {
        "stride": {"layer/0/shape": (1, 1, 200), "layer/1/shape": (1, 1, 2), "layer/1/stride": (1, 128)},
        "padding": {"layer/1/shape": (1, 1, 257), "layer/1/padding": (0, 128)},
        "dilation": {
            "layer/0/shape": (1, 1, 200), "layer/1/shape": (1, 1, 72), "layer/1/dilation": (1, 128),
            "layer/1/weight": np.ones((1, 1, 1, 2)),
        },
        "kernel": {"layer/0/shape": (1, 1, 130), "layer/1/shape": (1, 1, 3), "layer/1/weight": np.ones((1, 1, 1, 128))},
        "groups": {
            "layer/0/shape": (128, 1, 1), "layer/1/shape": (128, 1, 1), "layer/1/weight": np.ones((128, 1, 1, 1)),
            "layer/1/groups": 128,
        },
    }  # fmt: skip
    path = _file(tmp_path, _network(Conv(ones, CUBA, (1, 1, 1)), shape=(1, 1, 1)), **edits[sizes])
    with pytest.raises(NetxFormatError, match=f"{sizes}.* is 128, outside of 0 to 127: Lava holds it in 8 bits"):
        read(path)


def test_input_neurons_whose_numbers_leave_24_bits_are_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, NETWORKS["sigma-delta"], **{"layer/0/weight": 2**16})
    with pytest.raises(NetxFormatError, match=r"/layer/0: its largest weighted input is 16777216"):
        read(path)


def test_a_convolution_without_a_flatten_behind_it_is_refused(tmp_path: Path) -> None:
    layers = (CONV, Flatten((120,)), Dense(_weights(3, 120), CUBA))
    path = _file(tmp_path, _network(*layers, shape=(2, 5, 5)), lava_spikeloss=None)
    with h5py.File(path, "r+") as file:
        del file["layer/2"]
        file.move("layer/3", "layer/2")
    with pytest.raises(NetxFormatError, match=r"group /layer/2: .* without a flatten layer"):
        read(path)


def test_a_flatten_layer_behind_a_dense_one_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, NETWORKS["dense"], lava_spikeloss=None)
    with h5py.File(path, "r+") as file:
        file.move("layer/2", "layer/3")
        file["layer/2/type"], file["layer/2/shape"] = np.bytes_("flatten"), np.array([5])
    with pytest.raises(NetxFormatError, match="group /layer/3: netx cannot flatten what a dense layer sends"):
        read(path)


def test_an_output_of_sums_with_a_bias_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NetxFormatError, match="sums with a bias, which netx cannot load"):
        read(_file(tmp_path, NETWORKS["sigma-delta"], **{"layer/2/bias": np.array([1, 2, 3, 4])}))


def test_another_activation_than_netx_has_is_told(tmp_path: Path) -> None:
    path = _file(tmp_path, NETWORKS["sigma-delta"], **{"layer/1/neuron/activation": np.bytes_("sigmoid")})
    assert read(path).ignored == ("/layer/1/neuron/activation",)


EDGES = [
    ("dense", "bias", np.array([32_767, -32_768, 0, 1, 2])),
    ("delay", "bias", np.array([32_767, -32_768, 0, 1, 2])),
    ("dense", "bias", np.array([5])),
    ("dense", "bias", np.array([5.7, -5.7, 0.5, 3, -0.5])),
    ("conv", "bias", np.array([32_767, -32_768, 0, 1])),
    ("dense", "neuron/iDecay", np.array([0, 1, 4095, 4096, 2], np.uint16)),
    ("recurrent", "neuron/vDecay", np.array([0, 1, 4095, 4096, 2], np.int16)),
    ("dense", "neuron/iDecay", np.array([0], np.uint8)),
    ("dense", "neuron/vThMant", 0),
    ("delay", "neuron/vThMant", 0),
    ("dense", "neuron/vThMant", np.array([511], np.int16)),
    ("dense", "neuron/vThMant", np.uint8(80)),
    ("dense", "neuron/vThMant", 2**24),
    ("rf", "neuron/vThMant", 1),
    ("rf_iz", "neuron/vThMant", 1),
    ("rf_iz", "neuron/vThMant", 2**17),
    ("rf", "neuron/sinDecay", np.float32(900.25)),
    ("rf", "neuron/sinDecay", np.array([900], np.int16)),
    ("rf_iz", "neuron/cosDecay", np.array([4096, -4096, 0, 1, -1])),
    ("rf", "neuron/sinDecay", 0),
    ("sigma-delta", "bias", np.array([2**19 - 1, -(2**19), 0, 1, 2])),
    ("sigma-delta", "neuron/vThMant", np.array([2**19 - 1], np.int32)),
    ("sigma-delta", "neuron/vThMant", 0),
    ("delay", "delay", np.array([0, 100, 62, 63, 1])),
    ("delay", "delay", np.arange(30.0).reshape(5, 6) * 2.5),
    ("dense", "weight", np.array([[1000, -1000, 5, 6, 7, 8]] * 5)),
    ("conv", "weight", np.full((4, 1, 2, 3), 2**30 + 3)),
    ("conv", "weight", np.zeros((4, 1, 2, 3))),
]


@pytest.mark.lava
@pytest.mark.parametrize(("kind", "name", "value"), EDGES)
def test_numbers_at_the_edge_are_lavas_bit_for_bit(kind: str, name: str, value: Any, tmp_path: Path) -> None:
    path = _file(tmp_path, NETWORKS[kind], **{f"layer/1/{name}": value})
    _assert_equals_lava(path, _values(NETWORKS[kind]))
