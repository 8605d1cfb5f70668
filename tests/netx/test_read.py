"""``read``: every netx file, old dialects too; and nothing but ``NetxFormatError`` for what is none."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from shipped import shipped

from netx_export import NetxFormatError, SimulationError, Simulator, read, simulate, verify
from netx_export.checking import check, estimate
from netx_export.file import safe_hdf5
from netx_export.file.netx import write, write_as_described
from netx_export.file.npz import load_simulation, load_spikes, save_spikes
from netx_export.network.description import (
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
from netx_export.network.table import table
from netx_export.provenance import run_texts

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
    write_as_described(network, path)
    found = read(path)
    assert found == network
    assert str(found) == str(network)
    first = path.read_bytes()
    write_as_described(found, path)
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


def test_a_narrow_table_has_a_column_beside_the_names_in_each_of_its_parts() -> None:
    heads = [part.splitlines()[0].split(maxsplit=1) for part in table(MLP.layers, width=1).split("\n\n")]
    assert " ".join(head for _, head in heads) == " ".join(table(MLP.layers).splitlines()[0].split()[1:])
    assert [name for name, _ in heads] == ["layer"] * 11


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
    files = sorted(shipped("netx").rglob("*.net"))
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
        ("layer/1/weight", np.zeros((2, 5)), "takes 5 values, and the layer before it gives 3"),
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
    (tmp_path / "link").symlink_to("link")
    os.mkfifo(tmp_path / "pipe")
    for name, match in (
        ("missing", "no such file"),
        ("text/a.net", "no such file"),
        (".", "a directory, not a file"),
        ("pipe", "no regular file"),
        ("link", "Too many levels of symbolic links"),
        ("text", "not an HDF5 file"),
        ("empty", "not an HDF5 file"),
    ):
        with pytest.raises(NetxFormatError, match=match):
            read(tmp_path / name)
    with pytest.raises(NetxFormatError, match=r"a\\x00b: no path, for it holds a NUL"):
        read("a\0b")


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (read, "netx file"),
        (lambda path: simulate(path, np.zeros((1, 3, 4))), "netx file or a NetworkDescription"),
        (Simulator, "netx file or a NetworkDescription"),
        (lambda path: verify(None, path, np.zeros((1, 3, 4))), "netx file or a NetworkDescription"),
        (load_spikes, ".npz file"),
        (load_simulation, ".npz file"),
    ],
)
def test_a_number_is_no_path_and_no_open_file_is_closed(mlp: Path, function: Callable[[Any], Any], kind: str) -> None:
    with mlp.open("rb") as file:
        for wrong in (None, file.fileno(), [mlp]):
            with pytest.raises(TypeError, match=f"`path` to be the path of a {kind} but got {type(wrong).__name__}"):
                function(wrong)
        assert file.read(4) == b"\x89HDF"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"a\0b": "x"}, "without NUL characters"),  # HDF5 would end the name there
        ({"a": "x\0y"}, "without NUL characters"),
        ({"": "x"}, "Expected names"),
        ({"a": "\ud800"}, "UTF-8 can hold"),
        ({"a" * 60_001: "x"}, "which is longer"),
        ({"a": "x" * (2**20 + 1)}, "which is longer"),
        ({str(number): "x" for number in range(10_001)}, "at most 10000 texts"),
        ({str(number): "x" * 2**20 for number in range(16)}, "16777216 bytes together"),
    ],
    ids=["NUL in a name", "NUL", "no name", "surrogate", "long name", "long text", "too many", "too much"],
)
def test_metadata_that_no_file_holds_is_refused(
    metadata: dict[str, str], reason: str, mlp: Path, tmp_path: Path
) -> None:
    network = replace(read(mlp), metadata=metadata)
    with pytest.raises(ValueError, match=reason):
        write(network, tmp_path / "a.net")
    assert not (tmp_path / "a.net").exists()


def test_the_largest_metadata_and_strings_of_numpy_are_read_back(mlp: Path, tmp_path: Path) -> None:
    texts = {"a" * 60_000: "x" * 2**20, "b": np.str_("y")}
    write(replace(read(mlp), metadata=texts), tmp_path / "a.net")
    assert read(tmp_path / "a.net").metadata == texts


def test_a_path_of_bytes_leads_to_the_same_file(mlp: Path, tmp_path: Path) -> None:
    spikes = tmp_path / "spikes.npz"
    save_spikes(spikes, np.zeros((1, 3, 4)))
    assert read(bytes(mlp)) == read(mlp)  # type: ignore[arg-type]
    np.testing.assert_array_equal(load_spikes(bytes(spikes))[0], load_spikes(spikes)[0])  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match=r"expected an array `other` .* but got `spikes`"):
        load_spikes(bytes(spikes), "other")  # type: ignore[arg-type]
    assert run_texts(bytes(mlp))["file"] == mlp.name  # type: ignore[arg-type]


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


# -- what would fill the memory


def _read_within(path: Path, megabytes: int, seconds: int = 20) -> str:
    """What reading says in a process of its own, which ends where it takes more memory or time than that."""
    answer, end = os.pipe()
    child = os.fork()
    if child == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**20 * megabytes,) * 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            said = f"read {read(path).metadata}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(end, said.encode()[:4096])  # no more than a pipe takes
        os._exit(0)
    os.close(end)
    with os.fdopen(answer) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


def _dataset(name: str, shape: tuple[int, ...], dtype: str, **options: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, dtype, **options)[...] = 2

    return change


def _bomb(file: h5py.File) -> None:
    _dataset("layer/1/weight", (2, 3), "i4", chunks=(2, 3), compression="gzip")(file)
    file["layer/1/weight"].id.write_direct_chunk((0, 0), zlib.compress(bytes(2**28)))


def _damaged_chunk(file: h5py.File) -> None:
    _dataset("layer/1/weight", (2, 3), "i4", chunks=(2, 3), compression="gzip")(file)
    file["layer/1/weight"].id.write_direct_chunk((0, 0), b"this is not packed by gzip")


def _bomb_in_two_layers(file: h5py.File) -> None:
    once = zlib.compress(bytes(2**28))
    del file["layer/1/weight"]
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((2, 3))
    for _ in range(2):
        properties.set_deflate(9)
    space = h5py.h5s.create_simple((2, 3))
    made = h5py.h5d.create(file["layer/1"].id, b"weight", h5py.h5t.STD_I32LE, space, properties)
    made.write_direct_chunk((0, 0), zlib.compress(once))


def _many_layers_of_chunks(file: h5py.File) -> None:
    """Some thousand times the same layer, of which no chunk was ever written: 10 kB."""
    del file["layer"]
    layer = file.create_group("layer/0")
    layer["type"], layer["shape"] = np.bytes_("dense"), [128]
    layer.create_dataset("weight", (128, 128), "i1", chunks=(1, 1))
    for index in range(1, 2000):
        file[f"layer/{index}"] = layer
    del file["lava_spikeloss"]


LARGE = [
    pytest.param(
        _dataset("layer/1/weight", (2, 3), "i1", maxshape=(None, None), chunks=(2**14, 2**14), compression="gzip"),
        "too large",
        id="a chunk of 256 MB",
    ),
    pytest.param(_bomb, "does not unpack to 24 bytes", id="a chunk that unpacks to 256 MB"),
    pytest.param(_damaged_chunk, "does not unpack to 24 bytes", id="a damaged chunk"),
    pytest.param(_bomb_in_two_layers, "packed in another way", id="packed twice"),
    pytest.param(
        _dataset("layer/1/weight", (2, 3), "i4", compression="lzf"), "packed in another way", id="another filter"
    ),
    pytest.param(
        _dataset("layer/1/weight", (300, 300), "i4", chunks=(1, 1)), "chunks of all datasets", id="many chunks"
    ),
    pytest.param(_many_layers_of_chunks, "chunks of all datasets", id="many layers of chunks"),
    pytest.param(_dataset("layer/1/type", (1,), "S80000000", chunks=(1,)), "at most 256 bytes", id="a long type"),
    pytest.param(
        _dataset("layer/1/shape", (2**24,), "i1", chunks=(2**20,)), "expected 1 to 3 sizes", id="a shape of many axes"
    ),
    pytest.param(
        lambda file: file["lava_spikeloss"].attrs.update(text="x" * 30_000_000), "30000000 bytes", id="a long text"
    ),
]


@pytest.mark.parametrize(("change", "message"), LARGE)
def test_memory_and_time_are_bounded(mlp: Path, change: Callable[[h5py.File], None], message: str) -> None:
    _edit(mlp, change)
    found = _read_within(mlp, megabytes=150)
    assert re.search(message, found), found


def test_more_attributes_than_a_network_has(mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_hdf5, "_MAX_ATTRIBUTES", 50)
    _edit(mlp, lambda file: file["lava_spikeloss"].attrs.update({f"{index}": "x" for index in range(51)}))
    with pytest.raises(NetxFormatError, match="at most 50 attributes"):
        read(mlp)


def test_many_attributes_that_share_one_text(mlp: Path) -> None:
    """Each names the same place in the file: 400 of 100 kB are in the file once, and in memory 400 times."""
    count, text = 400, "x" * 100_000
    _edit(mlp, lambda file: file["lava_spikeloss"].attrs.update({f"{index:03}": text for index in range(count)}))
    content = mlp.read_bytes()
    places = re.finditer(re.escape(struct.pack("<I", len(text))) + rb".{8}.{4}", content, re.DOTALL)
    before = b"\x08" + bytes(5) + b"\x01" + bytes(7)  # characters of 8 bits, and no axes
    first, *others = [place for place in places if content.endswith(before, 0, place.start())]
    assert len(others) >= count - 1
    shared = bytearray(content)
    for place in others:
        shared[place.start() : place.end()] = first[0]
    mlp.write_bytes(shared)
    assert "its texts are more than 16777216 bytes" in _read_within(mlp, megabytes=100)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_texts_that_say_to_be_gigabytes_long(tmp_path: Path, libver: str) -> None:
    """HDF5 would make room for them before it looks whether they are there."""
    path = tmp_path / "a.net"
    write(NetworkDescription(MLP.layers, {"target": "loihi2"}), path)
    with h5py.File(path, "r+", libver=libver) as file:
        texts = dict(file["lava_spikeloss"].attrs)
        for key in texts:
            del file["lava_spikeloss"].attrs[key]
        del file["layer/1/neuron/type"]
        file["layer/1/neuron/type"] = "CUBA"
        file["lava_spikeloss"].attrs["target"] = "loihi2"
        offset = file["layer/1/neuron/type"].id.get_offset()
    content = path.read_bytes()
    place = struct.Struct("<IQ")
    _, heap = place.unpack_from(content, offset)
    of_attribute = content.index(place.pack(len("loihi2"), heap))
    for start, message in ((offset, "`type` to be a text of at most"), (of_attribute, "says to be 4294967295 bytes")):
        damaged = bytearray(content)
        damaged[start : start + 4] = b"\xff" * 4
        path.write_bytes(damaged)
        assert message in _read_within(path, megabytes=250)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (2, 2)},
        {"chunks": (1, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (2, 2), "fletcher32": True},
        {"maxshape": (None, None), "compression": "gzip", "compression_opts": 1},
        {"maxshape": (None, None), "chunks": (64, 64)},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["i1", ">i4", "f2", "f4", ">f8", "u8", np.longdouble])
def test_weights_may_be_stored_in_any_usual_way(mlp: Path, options: dict[str, Any], dtype: str) -> None:
    def change(file: h5py.File) -> None:
        del file["layer/1/weight"]
        values = np.array([[2, 4, 6], [8, 10, 12]])
        file.create_dataset("layer/1/weight", data=values.astype(dtype), **options)

    _edit(mlp, change)
    assert np.array_equal(read(mlp).layers[1].weight, [[2, 4, 6], [8, 10, 12]])  # type: ignore[union-attr]


TEXTS: list[dict[str, Any]] = [
    {"dtype": h5py.string_dtype(), "chunks": (1,)},
    {"dtype": h5py.string_dtype("ascii"), "chunks": (5,), "maxshape": (None,), "compression": "gzip"},
    {"dtype": "S10", "chunks": (1,), "compression": "gzip", "shuffle": True},
    {"dtype": h5py.string_dtype("utf-8", 9)},
]


@pytest.mark.parametrize("options", TEXTS, ids=str)
def test_types_may_be_stored_in_any_usual_way(mlp: Path, options: dict[str, Any]) -> None:
    def change(file: h5py.File) -> None:
        for name, text in (("layer/1", "dense"), ("layer/1/neuron", "CUBA")):
            del file[name]["type"]
            file[name].create_dataset("type", (1,), **options)[0] = text

    _edit(mlp, change)
    assert read(mlp).layers == MLP.layers


def test_a_text_whose_length_cannot_be_told_is_not_called_too_long(mlp: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["layer/1/type"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        kind, space = h5py.h5t.py_create(h5py.string_dtype(), logical=True), h5py.h5s.create(h5py.h5s.SCALAR)
        h5py.Dataset(h5py.h5d.create(file["layer/1"].id, b"type", kind, space, properties))[()] = "dense"

    _edit(mlp, change)
    with pytest.raises(NetxFormatError, match="the length of `type` cannot be told before it is read"):
        read(mlp)


def test_a_long_text_in_a_chunk_is_refused_unread(mlp: Path) -> None:
    """Its length is in the chunk, and HDF5 would make room for it."""

    def change(file: h5py.File) -> None:
        del file["layer/1/type"]
        made = file["layer/1"].create_dataset("type", (1,), h5py.string_dtype(), ["dense"], chunks=(1,))
        content = made.id.read_direct_chunk((0,))[1]
        made.id.write_direct_chunk((0,), struct.pack("<I", 2**31) + content[4:])

    _edit(mlp, change)
    assert "`type` to be a text of at most" in _read_within(mlp, megabytes=100)


def test_a_convolution_of_resonators_is_named(mlp: Path) -> None:
    def change(file: h5py.File) -> None:
        del file["layer/1/type"], file["layer/1/weight"]
        file["layer/1/type"] = np.bytes_("conv")
        for part in ("real", "imag"):
            file[f"layer/1/weight/{part}"] = np.ones((2, 3, 1, 1))

    _edit(mlp, change)
    with pytest.raises(NetxFormatError, match="netx has no convolution with RF neurons"):
        read(mlp)


# -- texts that are no UTF-8, or that a terminal would obey


def _attribute(file: h5py.File, name: bytes, value: bytes, *, fixed: bool) -> None:
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(len(value) if fixed else h5py.h5t.VARIABLE)
    kind.set_strpad(h5py.h5t.STR_NULLPAD if fixed else h5py.h5t.STR_NULLTERM)
    made = h5py.h5a.create(file["lava_spikeloss"].id, name, kind, h5py.h5s.create(h5py.h5s.SCALAR))
    made.write(np.array(value, f"S{len(value)}" if fixed else h5py.string_dtype("ascii")))


@pytest.mark.parametrize("fixed", [True, False])
def test_texts_that_are_no_utf8_are_escaped(mlp: Path, tmp_path: Path, fixed: bool) -> None:
    def change(file: h5py.File) -> None:
        _attribute(file, b"na\xefve", b"caf\xe9", fixed=fixed)
        _attribute(file, "größe".encode(), "über".encode(), fixed=fixed)

    _edit(mlp, change)
    metadata = read(mlp).metadata
    assert metadata == {r"na\xefve": r"caf\xe9", "größe": "über"}
    assert json.loads(json.dumps(metadata)) == metadata
    write(read(mlp), tmp_path / "again.net")
    assert read(tmp_path / "again.net").metadata == metadata


def test_attributes_that_are_no_text_are_noted(mlp: Path) -> None:
    def change(file: h5py.File) -> None:
        file["lava_spikeloss"].attrs.update(number=5, texts=["a", "b"], empty=h5py.Empty("S1"), text="yes")

    _edit(mlp, change)
    found = read(mlp)
    assert found.metadata == {"text": "yes"}
    assert [re.sub(".*attribute ", "", text) for text in found.ignored] == [
        "empty, which is no text",
        "number, which is no text",
        "texts, which is no text",
    ]


def test_an_error_cannot_be_disguised(mlp: Path, tmp_path: Path) -> None:
    """A type that clears the screen and says that all is well, in a file whose name does the same."""
    _edit(mlp, _put("layer/1/type", np.bytes_(b"\x1b[2J\nPASSED \xff")))
    path = mlp.rename(tmp_path / "a\n\x1b[2JPASSED\u202e.net")
    with pytest.raises(NetxFormatError) as error:
        read(path)
    assert str(error.value).isprintable()
    assert "PASSED" in str(error.value)


# -- files that cannot be read, and are not damaged


def test_a_file_that_is_being_written_is_not_said_to_be_damaged(mlp: Path) -> None:
    code = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    command = [sys.executable, "-c", code, str(mlp)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(NetxFormatError, match="another program has locked it"):
            read(mlp)
        other.communicate("\n", timeout=60)
    assert read(mlp).layers[1] == MLP.layers[1]


def test_a_file_whose_writer_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    code = (
        "import h5py, os, signal, sys; file = h5py.File(sys.argv[1], 'w', libver='latest'); file['x'] = 1\n"
        "file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], timeout=60, check=False)
    with pytest.raises(NetxFormatError, match="has not closed it"):
        read(path)


def test_a_file_that_may_not_be_read(mlp: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    mlp.chmod(0)
    become_nobody = "import os; os.geteuid() or os.setuid(65534)"  # permissions do not stop root
    code = f"from netx_export import read; {become_nobody}; read({str(mlp)!r})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr.splitlines()[-1].endswith(
        f"{mlp}: cannot be read: Permission denied. Give the path of a netx HDF5 file."
    )


def test_a_file_on_a_broken_disk(mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Unable to synchronously open file (errno = 5, error message = 'Input/output error')")

    monkeypatch.setattr(h5py, "File", broken)
    with pytest.raises(NetxFormatError, match=r"mlp\.net: cannot be read: Input/output error"):
        read(mlp)


def test_a_file_for_which_there_is_not_enough_memory(mlp: Path) -> None:
    size = 5600
    _edit(mlp, _put("layer/0/shape", np.array([size])))
    _edit(mlp, _put("layer/1/shape", np.array([size])))
    _edit(mlp, _put("layer/1/weight", np.full((size, size), 2, np.int8)))
    # In a process that is new: what the tests before this one have freed could be had again here, limit or not.
    code = (
        "import resource, sys; from pathlib import Path; from netx_export import read\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**20 * int(sys.argv[2]),) * 2)\n"
        "print(len(read(sys.argv[1]).layers), 'layers')"
    )
    for megabytes, said in ((50, "mlp.net: there is not enough memory to read it"), (500, "2 layers")):
        command = [sys.executable, "-c", code, str(mlp), str(megabytes)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert said in (run.stdout + run.stderr).splitlines()[-1]
