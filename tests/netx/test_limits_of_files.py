"""Files at the limits of what is read: the last that is taken, and the first that is refused."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from netx_export import NetxFormatError, read
from netx_export.file.content import OWN_GROUP
from netx_export.file.netx import write, write_as_described
from netx_export.file.safe_hdf5 import Budget, SafeGroup
from netx_export.network.description import (
    Affine,
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    Input,
    NetworkDescription,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
)

NEURON = CubaNeuron(80, np.array([1024]), np.array([128]))
DENSE = Dense(np.array([[2, -4, 6], [8, 10, -12]]), NEURON)
MLP = NetworkDescription((Input((3,)), DENSE))
CONV = Conv(np.array([[[[2, -4]]], [[[6, 8]]]]), NEURON, (1, 1, 4))
IMAGE = NetworkDescription((Input((1, 1, 4)), CONV))


def _file(folder: Path, network: NetworkDescription = MLP, **edits: Any) -> Path:
    """A network in a file, of which some datasets then hold something else, or are there no more."""
    path = folder / "a.net"
    write(network, path)
    with h5py.File(path, "r+") as file:
        for name, value in edits.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value
    return path


def _refused(path: Path, message: str) -> None:
    with pytest.raises(NetxFormatError, match=message):
        read(path)


# -- the network


@pytest.mark.parametrize(("count", "message"), [(10_000, "group /layer/0"), (10_001, "1 to 10000 layers, .* 10001")])
def test_layers(count: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    with h5py.File(path, "w", libver="latest") as file:
        layers, one = file.create_group("layer"), file.create_group("one")
        for index in range(count):
            layers[str(index)] = one
    _refused(path, message)


def test_a_file_without_layers(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.net", "w") as file:
        file.create_group("layer")
    _refused(tmp_path / "a.net", "1 to 10000 layers, but it has 0")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], r"/layer/1: .*delay_shift.* holds 1 of 2"),
        ([[1, 1]], "delay_shift` to have 1 axes"),
        ([[1], [1]], "1 axes"),
    ],
)
def test_shifts_that_are_not_one_for_each_layer(value: Any, message: str, tmp_path: Path) -> None:
    _refused(_file(tmp_path, **{"lava_spikeloss/delay_shift": np.array(value)}), message)


def test_a_file_of_others_has_the_shifts_of_slayer(tmp_path: Path) -> None:
    network = NetworkDescription((Input((3,), False), Dense(DENSE.weight, NEURON, delay_shift=False)))
    assert [layer.delay_shift for layer in read(_file(tmp_path, network)).layers] == [False, False]  # type: ignore[union-attr]
    path = _file(tmp_path, network, lava_spikeloss=None)
    assert [layer.delay_shift for layer in read(path).layers] == [True, True]  # type: ignore[union-attr]


def test_an_input_before_a_convolution_has_its_shape_in_the_file(tmp_path: Path) -> None:
    """netx learns the shape of a convolution's input from it."""
    path = _file(tmp_path, NetworkDescription((Input((4,)), CONV)))
    with h5py.File(path) as file:
        assert file["layer/0/shape"][()].tolist() == [1, 1, 4]
    assert read(path).input_shape == (4,)


@pytest.mark.parametrize(
    ("shape", "fits"), [((2, 1, 1), True), ((1, 2), True), ((1, 1), False), ((3,), False), ((2, 2), False)]
)
def test_a_shape_in_slayer_has_as_many_values(shape: tuple[int, ...], fits: bool, tmp_path: Path) -> None:
    path = _file(tmp_path, **{"lava_spikeloss/shape/1": np.array(shape)})
    if fits:
        assert read(path).layers[1].shape == shape
    else:
        _refused(path, "/layer/1.*which does not fit")


def test_one_bias_is_that_of_every_neuron_of_a_dense_layer_only(tmp_path: Path) -> None:
    assert read(_file(tmp_path, **{"layer/1/bias": np.array([5])})).layers[1].bias.tolist() == [5, 5]  # type: ignore[union-attr]
    for value in (np.array([1, 2, 3]), np.array([[1, 2]])):
        _refused(_file(tmp_path, **{"layer/1/bias": value}), r"a bias of shape .* does not fit 2 channels")
    _refused(_file(tmp_path, IMAGE, **{"layer/1/bias": np.array([5])}), r"a bias of shape \(1,\) does not fit 2")


def test_one_delay_is_that_of_every_neuron(tmp_path: Path) -> None:
    assert read(_file(tmp_path, **{"layer/1/delay": 5})).layers[1].delay.tolist() == [5, 5]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("weight", "fits"),
    [
        (CONV.weight, True),
        (CONV.weight[..., None], True),
        (CONV.weight[..., None].repeat(2, axis=4), False),
        (CONV.weight[:, 0], False),
        (CONV.weight[..., None, None], False),
    ],
)
def test_axes_of_kernels(weight: Any, fits: bool, tmp_path: Path) -> None:
    path = _file(tmp_path, IMAGE, **{"layer/1/weight": weight})
    if fits:
        assert read(path) == IMAGE
    else:
        _refused(path, r"/layer/1: kernels of shape .* expected 4-D on 3-D")


@pytest.mark.parametrize("shape", [[4], [1, 4]])
def test_a_convolution_of_a_vector(shape: list[int], tmp_path: Path) -> None:
    path = _file(tmp_path, IMAGE, **{"layer/0/shape": shape, "lava_spikeloss": None})
    _refused(path, r"/layer/1: kernels of shape \(2, 1, 1, 2\) on input of shape")


def test_a_convolution_says_the_shape_that_its_kernels_make(tmp_path: Path) -> None:
    _refused(
        _file(tmp_path, IMAGE, **{"layer/1/shape": [2, 1, 4]}), r"is \(2, 1, 4\), but its kernels make \(2, 1, 3\)"
    )


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [("stride", [1, 1], [1, 0]), ("padding", [0, 0], [-1, 0]), ("dilation", [1, 1], [0, 1]), ("stride", 1, [1, 1, 1])],
)
def test_sizes_of_a_convolution(name: str, inside: Any, outside: Any, tmp_path: Path) -> None:
    assert read(_file(tmp_path, IMAGE, **{f"layer/1/{name}": inside})) == IMAGE
    _refused(_file(tmp_path, IMAGE, **{f"layer/1/{name}": outside}), f"/layer/1: `{name}` is .*expected 2 numbers >= ")


def test_groups_of_a_convolution(tmp_path: Path) -> None:
    for groups in (0, -1, 2):
        _refused(_file(tmp_path, IMAGE, **{"layer/1/groups": groups}), f"/layer/1: .* in {groups} groups do not fit")


AFFINE = NetworkDescription((Input((3,)), DENSE, Affine(np.array([[2, -4]]), NEURON)))
RF = {"type": np.bytes_("RF_PHASE"), "sinDecay": 9, "cosDecay": 9, "vThMant": 9}


def test_a_readout_of_other_neurons_or_scales(tmp_path: Path) -> None:
    assert read(_file(tmp_path, AFFINE)) == AFFINE
    _refused(_file(tmp_path, AFFINE, **{"lava_spikeloss/readout/scale": 0}), "/lava_spikeloss/readout: its scale is 0")
    edits = {"lava_spikeloss/readout/neuron": None}
    edits |= {f"lava_spikeloss/readout/neuron/{name}": value for name, value in RF.items()}
    _refused(_file(tmp_path, AFFINE, **edits), "/lava_spikeloss/readout: an affine readout needs CUBA neurons or none")


def test_an_encoder_of_resonators(tmp_path: Path) -> None:
    path = _file(tmp_path, **{f"layer/0/neuron/{name}": value for name, value in RF.items()})
    _refused(path, "/layer/0: RF neurons cannot encode the input")


def test_an_encoder_without_weight_and_bias_passes_its_input_on(tmp_path: Path) -> None:
    network = NetworkDescription((Input((3,), encoder=Encoder(NEURON, 36, 3)), DENSE))
    edits = dict.fromkeys(["lava_spikeloss/encoder/weight", "lava_spikeloss/encoder/bias"])
    assert read(_file(tmp_path, network, **edits)).encoder == Encoder(NEURON, 64, 0)


# -- neurons

_RESONATOR = Resonator(DENSE.weight, DENSE.weight, ResonatorNeuron(64, np.array([900]), np.array([3900]), "phase"))
_KINDS = {"cuba": DENSE, "rf": _RESONATOR, "sigma-delta": Dense(DENSE.weight, SigmaDeltaNeuron(5))}


@pytest.mark.parametrize(
    ("kind", "dtype", "largest"),
    [
        ("cuba", "i2", 511),
        ("cuba", "u1", 3),
        ("cuba", "i1", 1),
        ("rf", "i2", 511),
        ("sigma-delta", "i2", 7),
        ("sigma-delta", "u2", 15),
    ],
)
def test_thresholds_that_lava_shifts_up_in_the_type_of_an_array(
    kind: str, dtype: str, largest: int, tmp_path: Path
) -> None:
    network = NetworkDescription((Input((3,)), _KINDS[kind]))
    path = _file(tmp_path, network, **{"layer/1/neuron/vThMant": np.array([largest], dtype)})
    assert read(path).layers[1].neuron.threshold == largest  # type: ignore[union-attr]
    for value in (np.array([largest + 1], dtype),):
        path = _file(tmp_path, network, **{"layer/1/neuron/vThMant": value})
        _refused(path, rf"`vThMant` is {largest + 1} as an array of .*, in which Lava has no room to shift it up")
    path = _file(tmp_path, network, **{"layer/1/neuron/vThMant": np.array(largest + 1, dtype)})  # which it makes int64
    assert read(path).layers[1].neuron.threshold == largest + 1  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "neutral"), [("wgtExp", 0), ("weight_exp", 0), ("refDelay", 1), ("gradedSpike", 0)])
def test_what_netx_ignores_is_noted_unless_it_means_nothing(name: str, neutral: int, tmp_path: Path) -> None:
    assert read(_file(tmp_path, **{f"layer/1/neuron/{name}": neutral})).ignored == ()
    for value in (neutral + 1, neutral - 1):
        found = read(_file(tmp_path, **{f"layer/1/neuron/{name}": value})).ignored
        assert found == (f"/layer/1/neuron/{name} = {value}",)


def test_complex_weights_and_resonators_go_together(tmp_path: Path) -> None:
    pair = {"layer/1/weight": None, "layer/1/weight/real": DENSE.weight, "layer/1/weight/imag": DENSE.weight}
    _refused(_file(tmp_path, **pair), "/layer/1: complex weights go with RF neurons, and only with them")
    network = NetworkDescription((Input((3,)), _RESONATOR))
    _refused(_file(tmp_path, network, **{"layer/1/weight": DENSE.weight}), "complex weights go with RF neurons")


# -- numbers and texts


@pytest.mark.parametrize(
    ("inside", "outside"), [(2**31 - 1, 2**31), (-(2**31) + 1, -(2**31)), (2**31 - 1, np.inf), (0, np.nan)]
)
def test_numbers_have_32_bits(inside: float, outside: float, tmp_path: Path) -> None:
    def weight(value: float) -> np.ndarray:
        return np.array([[value, -4, 6], [8, 10, -12]])

    assert read(_file(tmp_path, **{"layer/1/weight": weight(inside)})).layers[1].weight[0, 0] == inside  # type: ignore[union-attr]
    path = _file(tmp_path, **{"layer/1/weight": weight(outside)})
    _refused(path, "`weight` is empty, or holds values that are not finite or absurd")


@pytest.mark.parametrize(("length", "message"), [(256, "layers of type 'xxx"), (257, "a text of at most 256 bytes")])
def test_names_of_types(length: int, message: str, tmp_path: Path) -> None:
    _refused(_file(tmp_path, **{"layer/1/type": np.bytes_("x" * length)}), message)


@pytest.mark.parametrize("count", [10_000, 10_001])
def test_attributes(count: int, tmp_path: Path) -> None:
    path = _file(tmp_path)
    with h5py.File(path, "r+", libver="latest") as file:
        del file["lava_spikeloss"]
        group = file.create_group("lava_spikeloss")
        group["delay_shift"] = [1, 1]
        for index in range(count):
            group.attrs[str(index)] = "x"
    if count == 10_000:
        assert len(read(path).metadata) == count
    else:
        _refused(path, "expected at most 10000 attributes")


def test_one_text_has_a_mebibyte_and_all_have_sixteen(tmp_path: Path) -> None:
    """What is written is read back; another program's file that holds a byte more is refused."""
    path = tmp_path / "a.net"
    most = {f"{index:02}": "x" * (2**20 - 2) for index in range(16)}
    for texts, longer, reason in (
        (most, "x" * (2**20 - 1), "its texts are more than 16777216 bytes"),
        ({"00": "x" * 2**20}, "x" * (2**20 + 1), "a text that says to be 1048577 bytes long"),
    ):
        write(NetworkDescription(MLP.layers, texts), path)
        assert read(path).metadata == texts
        with pytest.raises(ValueError, match="in `metadata` but got"):
            write(NetworkDescription(MLP.layers, {**texts, "00": longer}), path)
        with h5py.File(path, "r+") as file:
            file[OWN_GROUP].attrs["00"] = longer
        _refused(path, reason)


# -- sizes of datasets


def _group(path: Path, make: Callable[[h5py.File], object]) -> h5py.File:
    with h5py.File(path, "w") as file:
        make(file)
    return h5py.File(path, "r")


@pytest.mark.parametrize(
    ("dtype", "largest"), [("i1", 2**25), pytest.param(np.longdouble, 2**24, id="numbers of 16 bytes count twice")]
)
def test_numbers_of_a_file(dtype: Any, largest: int, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    message = r"`x` of shape .* is too large to be a network"
    with (
        _group(path, lambda file: file.create_dataset("x", (largest + 1,), dtype)) as file,  # of which none is written
        pytest.raises(NetxFormatError, match=message),
    ):
        SafeGroup(file, Budget()).numbers("x")
    if dtype == "i1":
        with _group(path, lambda file: file.create_dataset("x", (largest,), dtype)) as file:
            assert SafeGroup(file, Budget()).numbers("x").size == largest


def test_sizes_of_a_shape(tmp_path: Path) -> None:
    for sizes, fits in (((2**25,), True), ((2**25 + 1,), False), ((2**12, 2**13), True), ((2**13, 2**13), False)):
        with _group(tmp_path / "a.h5", lambda file, sizes=sizes: file.create_dataset("x", data=sizes)) as file:  # type: ignore[misc]
            if fits:
                assert SafeGroup(file, Budget()).shape("x") == sizes
            else:
                with pytest.raises(NetxFormatError, match="expected 1 to 3 sizes"):
                    SafeGroup(file, Budget()).shape("x")


@pytest.mark.parametrize(("chunks", "fits"), [(2**16, True), (2**16 + 1, False)])
def test_chunks_of_a_file(chunks: int, fits: bool, tmp_path: Path) -> None:
    with _group(tmp_path / "a.h5", lambda file: file.create_dataset("x", (chunks,), "i1", chunks=(1,))) as file:
        if fits:
            assert SafeGroup(file, Budget()).numbers("x").size == chunks
        else:
            with pytest.raises(NetxFormatError, match="more than any network has"):
                SafeGroup(file, Budget()).numbers("x")


@pytest.mark.parametrize(("extra", "fits"), [(0, True), (1, False)])
def test_what_is_stored_of_a_chunk(extra: int, fits: bool, tmp_path: Path) -> None:
    """A chunk may take twice its size and a kibibyte in the file, however it is packed."""
    size = 24

    def make(file: h5py.File) -> None:
        made = file.create_dataset("x", (6,), "i4", chunks=(6,), compression="gzip")
        packed = zlib.compress(np.arange(6, dtype="i4").tobytes())
        made.id.write_direct_chunk((0,), packed.ljust(2 * size + 1024 + extra, b"\0"))

    with _group(tmp_path / "a.h5", make) as file:
        if fits:
            assert SafeGroup(file, Budget()).numbers("x").tolist() == list(range(6))
        else:
            with pytest.raises(NetxFormatError, match=r"the chunk at \(0,\) does not unpack to 24 bytes"):
                SafeGroup(file, Budget()).numbers("x")


def test_flatten_layers_hold_as_many_values_as_come_in(tmp_path: Path) -> None:
    network = NetworkDescription((Input((3, 1, 1)), Flatten((3,)), DENSE))
    write_as_described(network, tmp_path / "a.net")
    assert read(tmp_path / "a.net") == network
    _refused(_file(tmp_path, network, **{"layer/1/shape": [4]}), "/layer/1: it takes 4 values, and .* gives 3")


def test_a_packed_chunk_that_is_damaged(tmp_path: Path) -> None:
    path = _file(tmp_path)
    with h5py.File(path, "r+") as file:
        weight = file["layer/1/weight"][()]
        del file["layer/1/weight"]
        packed = file.create_dataset("layer/1/weight", data=weight, chunks=weight.shape, compression="gzip")
        file.flush()
        _, content = packed.id.read_direct_chunk((0, 0))
        packed.id.write_direct_chunk((0, 0), content[:2] + bytes(len(content) - 2))
    _refused(path, r"`/layer/1/weight`: the chunk at \(0, 0\) does not unpack to")
