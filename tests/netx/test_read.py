"""``read``: every netx file, old dialects too; and nothing but ``NetxFormatError`` for what is none."""

from __future__ import annotations

import importlib.util
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from netx_export import NetxFormatError, read, simulate
from netx_export.check import check, estimate
from netx_export.description import (
    Affine,
    Average,
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    Input,
    NetworkDescription,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
)
from netx_export.hdf5 import write

NEURON = CubaNeuron(80, np.array([1024]), np.array([128]))
MLP = NetworkDescription((Input((3,)), Dense(np.array([[2, -4, 6], [8, 10, -12]]), NEURON)))


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    path = tmp_path / "mlp.net"
    write(MLP, path)
    return path


# -- what was written is read back


def _weights(*shape: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.int64, shape, elements=st.integers(-256, 254))


@st.composite
def _networks(draw: st.DrawFn) -> NetworkDescription:
    decays = arrays.arrays(np.int64, st.sampled_from([1, 4]), elements=st.integers(1, 4095))
    delays = arrays.arrays(np.int64, 4, elements=st.integers(0, 62))
    neuron = CubaNeuron(draw(st.integers(1, 2**17 - 1)), draw(decays), draw(decays))
    reset = draw(st.sampled_from(["phase", "izhikevich"]))
    four = arrays.arrays(np.int64, 4, elements=st.integers(1, 4095))
    resonator = ResonatorNeuron(draw(st.integers(1, 99)), draw(four), draw(four), reset)
    shift = draw(st.booleans())
    conv = Conv(
        draw(_weights(4, 1, 2, 2)), neuron, (2, 3, 4), (1, 2), (1, 0), (1, 1), 2, draw(st.none() | delays), shift
    )
    delay = draw(st.none() | delays | arrays.arrays(np.int64, (4, 4), elements=st.integers(0, 62)))
    spiking = [
        Dense(draw(_weights(4, 4)), neuron, delay, draw(st.none() | delays), shift, draw(st.none() | delays), None),
        Dense(draw(_weights(4, 4)), neuron, output_shape=(4, 1, 1)),
        Recurrent(draw(_weights(4, 4)), draw(_weights(4, 4)), neuron, draw(st.none() | delays), shift),
        Resonator(draw(_weights(4, 4)), draw(_weights(4, 4)), resonator, shift, draw(st.none() | delays)),
    ]
    chosen = draw(st.lists(st.sampled_from(spiking), min_size=1, max_size=4))
    encoder = draw(st.none() | st.builds(Encoder, st.just(NEURON), st.integers(-99, 99), st.integers(-99, 99)))
    ends = [(), (Average((2,)),), (Affine(draw(_weights(3, 4)), draw(st.none() | st.just(NEURON)), 64),)]
    start: tuple[Any, ...] = (Input((4,), shift, encoder),)
    if draw(st.booleans()):
        to_four = Dense(draw(_weights(4, int(np.prod(conv.shape)))), neuron)
        start = (Input((2, 3, 4), shift, encoder), conv, Flatten((int(np.prod(conv.shape)),)), to_four)
    metadata = draw(
        st.dictionaries(st.text(st.characters(codec="ascii", categories=["L"]), min_size=1), st.text("ab ü"))
    )
    return NetworkDescription((*start, *chosen, *draw(st.sampled_from(ends))), metadata)


@settings(max_examples=60)
@given(_networks())
def test_read_gives_what_was_written(tmp_path_factory: pytest.TempPathFactory, network: NetworkDescription) -> None:
    path = tmp_path_factory.mktemp("read") / "a.net"
    write(network, path)
    found = read(path)
    assert found == network
    assert str(found) == str(network)
    first = path.read_bytes()
    write(found, path)
    assert path.read_bytes() == first


def test_networks_that_differ_are_not_equal() -> None:
    other = NetworkDescription((Input((3,)), Dense(np.array([[2, -4, 6], [8, 10, -14]]), NEURON)))
    assert other != MLP
    assert NetworkDescription(MLP.layers, {"a": "b"}) != MLP
    assert MLP.layers[0] != MLP.layers[1]


def test_it_prints_as_a_table() -> None:
    header, _, dense = (" ".join(line.split()) for line in str(MLP).splitlines())
    start = "layer neuron shape neurons synapses weights bits exponent delay"
    assert header == f"{start} threshold current decay voltage decay"
    assert dense == "dense1 CUBA 2 2 6 -12..10 4 -4 80 1024 128"


# -- old dialects


def _edit(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def _put(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return change


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer/1/neuron/type", "LOIHI"),
        ("layer/1/shape", np.array([2, 1, 1])),
        ("layer/1/weight", np.array([[2, -4, 6], [8, 10, -12]], np.float32)),
        ("layer/1/weight", np.array([2.0, -4, 6, 8, 10, -12])),
        ("layer/1/neuron/theta", 5120),
        ("layer/1/neuron/wgtExp", 0),
        ("layer/1/neuron/iDecay", np.array([1024])),
        ("layer/1/inFeatures", None),
        ("lava_spikeloss", None),
        ("simulation/Ts", 1),
    ],
)
def test_old_dialects_say_the_same(mlp: Path, name: str, value: Any) -> None:
    _edit(mlp, _put(name, value))
    found = read(mlp)
    assert found.layers[1] == MLP.layers[1]
    assert found.ignored == ()


def test_kernels_with_five_axes_and_single_sizes(tmp_path: Path) -> None:
    path = tmp_path / "conv.net"
    layer = Conv(np.arange(-8, 10).reshape(2, 1, 3, 3), NEURON, (1, 4, 4), padding=(1, 1))
    write(NetworkDescription((Input((1, 4, 4)), layer)), path)
    _edit(path, _put("layer/1/weight", layer.weight.reshape(2, 1, 3, 3, 1).astype(np.float32)))
    _edit(path, _put("layer/1/padding", 1))
    assert read(path).layers[1] == layer


def test_a_dense_layer_without_neuron_gets_netxs_default(mlp: Path) -> None:
    _edit(mlp, _put("layer/1/neuron", None))
    neuron = read(mlp).layers[1].neuron  # type: ignore[union-attr]
    assert (neuron.threshold, neuron.current_decay[0], neuron.voltage_decay[0]) == (131072, 0, 4096)


def test_input_with_neuron_is_an_encoder(mlp: Path) -> None:
    for name, value in (("type", "LOIHI"), ("vThMant", 25), ("iDecay", 4096), ("vDecay", 1024)):
        _edit(mlp, _put(f"layer/0/neuron/{name}", value))
    _edit(mlp, _put("layer/0/weight", np.array([36.0])))
    found = read(mlp)
    assert found.encoder == Encoder(CubaNeuron(25, np.array([4096]), np.array([1024])), 36, 0)


def test_sigma_delta_can_be_read_and_checked_but_not_simulated(mlp: Path) -> None:
    _edit(mlp, _put("layer/1/neuron", None))
    for name, value in (("type", "SDNN"), ("vThMant", 0), ("sigma_output", True), ("messageBits", 24)):
        _edit(mlp, _put(f"layer/1/neuron/{name}", value))
    assert read(mlp).layers[1].neuron == SigmaDeltaNeuron(0, False, 24)  # type: ignore[union-attr]
    with pytest.raises(Exception, match="not simulated"):
        simulate(mlp, np.zeros((1, 3, 4)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("neuron/wgtExp", 2), ("neuron/weight_exp", 1), ("neuron/refDelay", 3), ("neuron/gradedSpike", True)],
)
def test_what_netx_ignores_is_said(mlp: Path, name: str, value: Any) -> None:
    _edit(mlp, _put(f"layer/1/{name}", value))
    assert len(read(mlp).ignored) == 1
    assert name in read(mlp).ignored[0]
    assert [finding.rule for finding in check(mlp) if finding.level == "warning"][:1] == ["ignored field"]


@pytest.mark.slayer
def test_the_files_that_lava_dl_ships() -> None:
    spec = importlib.util.find_spec("lava")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    site = Path(next(iter(spec.submodule_search_locations))).parent
    files = sorted((site / "tests/lava/lib/dl/netx").rglob("*.net"))
    assert len(files) >= 6
    for path in files:
        network = read(path)
        assert len(str(network).splitlines()) == len(network.layers) + 1
        for target in ("loihi1", "loihi2"):
            assert all(finding.hint for finding in check(path, target))
            assert estimate(path, target)[-1].cores[0] > 0


# -- what is no netx network


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("layer", None, "layer"),
        ("layer/1", None, "at least one layer with neurons"),
        ("layer/1/type", None, "/layer/1"),
        ("layer/1/type", 5, "/layer/1"),
        ("layer/1/type", np.bytes_("pool"), "'pool' are not supported"),
        ("layer/1/type", "ö", "/layer/1"),
        ("layer/1/shape", None, "/layer/1"),
        ("layer/1/shape", np.array([-2]), "shape"),
        ("layer/1/shape", np.array([0]), "shape"),
        ("layer/1/shape", np.array([2**40, 2**40]), "/layer/1"),
        ("layer/0/shape", np.array([2**40]), "/layer/0"),
        ("layer/1/shape", np.array([2.5, np.nan]), "finite"),
        ("layer/1/shape", np.array([1, 1, 1, 2]), "shape"),
        ("layer/1/weight", None, "weight"),
        ("layer/1/weight", np.array([[2, np.nan, 6], [8, 10, -12]]), "finite"),
        ("layer/1/weight", np.array([[2, np.inf, 6], [8, 10, -12]]), "finite"),
        ("layer/1/weight", np.array([[2, 2**40, 6], [8, 10, -12]]), "absurd"),
        ("layer/1/weight", np.zeros((0, 3)), "empty"),
        ("layer/1/weight", np.zeros((2, 5)), "5 inputs comes after one of 3"),
        ("layer/1/weight", np.zeros((3, 2)), "rows"),
        ("layer/1/weight", np.zeros((2, 3, 1)), "rows"),
        ("layer/1/weight", np.array([[b"a"]]), "numbers"),
        ("layer/1/weight", np.zeros((2, 3), np.complex64), "numbers"),
        ("layer/1/weight", h5py.Empty("f"), "/layer/1"),
        ("layer/1/weight", h5py.SoftLink("/layer/0/shape"), "link"),
        ("layer/1/weight", h5py.ExternalLink("/etc/passwd", "/x"), "link"),
        ("layer", h5py.ExternalLink("other.net", "/layer"), "link"),
        ("layer/1", h5py.SoftLink("/layer/1"), "link"),
        ("layer/1/bias", np.zeros(3), "bias"),
        ("layer/1/delay", np.zeros(5), "delays"),
        ("layer/1/delay", np.array([-1, 2]), "delays"),
        ("layer/1/neuron/type", "ALIF", "'ALIF' are not supported"),
        ("layer/1/neuron/type", "RF_PHASE", "/layer/1"),
        ("layer/1/neuron/vThMant", np.array([1, 2]), "vThMant"),
        ("layer/1/neuron/vThMant", "80", "vThMant"),
        ("layer/1/neuron/iDecay", np.array([1, 2, 3]), "decays"),
        ("layer/1/neuron", 5, "neuron"),
        ("layer/2/type", "average", "shape"),
        ("layer/7/type", "dense", "layer/2"),
        ("lava_spikeloss", 5, "lava_spikeloss"),
        ("lava_spikeloss/delay_shift", np.zeros(0), "delay_shift"),
        ("lava_spikeloss/delay_shift", np.zeros(1), "/layer/1"),
        ("lava_spikeloss/delay_shift", None, "delay_shift"),
        ("lava_spikeloss/axon_delay/1", np.array([1, 2, 3]), "axonal"),
        ("lava_spikeloss/shape/1", np.array([5]), "does not fit"),
        ("lava_spikeloss/readout/type", "affine", "readout"),
        ("lava_spikeloss/encoder/weight", 5, "neuron"),
    ],
)
def test_wrong_content_names_the_group(mlp: Path, name: str, value: Any, match: str) -> None:
    _edit(mlp, _put(name, value))
    with pytest.raises(NetxFormatError, match=match) as error:
        read(mlp)
    assert str(mlp) in str(error.value)


def test_declared_terabytes_are_not_read(mlp: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["layer/1/weight"]
        file.create_dataset("layer/1/weight", (2**30, 2**30), "f8", chunks=(1024, 1024), fillvalue=1.0)

    _edit(mlp, change)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(NetxFormatError, match="too large"):
        read(mlp)
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_many_large_datasets_share_one_budget(tmp_path: Path) -> None:
    path, size = tmp_path / "many.net", 2**12
    write(NetworkDescription((Input((1,)), *[Dense(np.array([[2]]), NEURON)] * 3)), path)

    def change(file: h5py.File) -> None:
        for index in range(4):
            _put(f"layer/{index}/shape", np.array([size]))(file)
        for index in range(1, 4):
            del file[f"layer/{index}/weight"]
            file.create_dataset(f"layer/{index}/weight", (size, size), "i1", chunks=(size, size), fillvalue=2)

    _edit(path, change)
    with pytest.raises(NetxFormatError, match=r"/layer/2: `weight` .* too large"):
        read(path)


def test_data_in_other_files_are_not_opened(mlp: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(48))

    def change(file: h5py.File) -> None:
        del file["layer/1/weight"]
        file.create_dataset("layer/1/weight", (2, 3), "f8", external=[(str(secret), 0, 48)])

    _edit(mlp, change)
    with pytest.raises(NetxFormatError, match="another file"):
        read(mlp)


def test_virtual_datasets_are_not_opened(mlp: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["layer/1/weight"]
        layout = h5py.VirtualLayout((2, 3), "f8")
        layout[:] = h5py.VirtualSource("other.h5", "x", (2, 3))
        file.create_virtual_dataset("layer/1/weight", layout)

    _edit(mlp, change)
    with pytest.raises(NetxFormatError, match="another file"):
        read(mlp)


def test_no_file_a_directory_and_no_hdf5(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not HDF5")
    (tmp_path / "empty").touch()
    for name, match in (("missing", "no such file"), (".", "no such file"), ("text", "HDF5"), ("empty", "HDF5")):
        with pytest.raises(NetxFormatError, match=match):
            read(tmp_path / name)
    with pytest.raises(NetxFormatError):
        read("a\0b")


def test_truncated_anywhere(mlp: Path, tmp_path: Path) -> None:
    whole = mlp.read_bytes()
    part = tmp_path / "part.net"
    for length in range(0, len(whole), 101):
        part.write_bytes(whole[:length])
        with pytest.raises(NetxFormatError):
            read(part)


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_anywhere(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.net"
    write(NetworkDescription(MLP.layers, {"target": "loihi2"}), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(NetxFormatError):
        read(path)


def test_a_text_whose_size_is_damaged(tmp_path: Path) -> None:
    """HDF5 itself would go on for ever, and in a process of its own it can be stopped."""
    path = tmp_path / "a.net"
    write(NetworkDescription(MLP.layers, {"target": "loihi2"}), path)
    content = bytearray(path.read_bytes())
    first_size = content.index(b"GCOL") + 24
    content[first_size + 1] = 8  # so the next text lies 2048 bytes further, among zeros
    path.write_bytes(content)
    code = f"from netx_export import read; read({str(path)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "NetxFormatError" in run.stderr.splitlines()[-1]
    assert "heap of its texts" in run.stderr


def test_more_texts_than_can_be_walked_in_bounded_time(mlp: Path) -> None:
    """Each of these heaps holds all that come after it, so that their lengths add up to a square."""
    text, count = struct.pack("<H6xQ", 1, 16), 5_000
    heaps = (struct.pack("<5s3xQ", b"GCOL\x01", 32 * (count - place) - 16) for place in range(count))
    mlp.write_bytes(mlp.read_bytes() + b"".join(text + heap for heap in heaps))
    with pytest.raises(NetxFormatError, match="more than 1048576 texts"):
        read(mlp)
