"""Spikes in files: what was saved comes back, and every other file is refused with its name and what is wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from netx_export import Simulation, SimulationError, simulate
from netx_export.file.npz import load_simulation, load_spikes, save_simulation, save_spikes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.npz"


def test_spikes_come_back_with_and_without_labels(path, mlp_spikes):
    save_spikes(path, mlp_spikes)
    spikes, labels = load_spikes(path)
    assert np.array_equal(spikes, mlp_spikes)
    assert labels is None
    save_spikes(path, mlp_spikes, np.arange(6))
    assert np.array_equal(load_spikes(path)[1], np.arange(6))


def test_other_names_can_be_asked_for(path, mlp_spikes):
    np.savez(path, x=mlp_spikes, y=np.arange(6))
    spikes, labels = load_spikes(path, "x", "y")
    assert np.array_equal(spikes, mlp_spikes)
    assert np.array_equal(labels, np.arange(6))


def test_a_simulation_comes_back(path, mlp_file, mlp_spikes):
    saved = simulate(mlp_file, mlp_spikes)
    save_simulation(path, saved)
    loaded = load_simulation(path)
    assert np.array_equal(loaded.output, saved.output)
    assert loaded.layers.keys() == saved.layers.keys()
    for name in saved.layers:
        assert np.array_equal(loaded.layers[name], saved.layers[name])


def test_graded_messages_and_sums_come_back(path):
    messages = np.arange(-6, 6).reshape(1, 3, 4) / 4096
    saved = Simulation(messages / 64, {"dense1": messages, "dense2": np.zeros((1, 2, 4))})
    save_simulation(path, saved)
    loaded = load_simulation(path)
    assert loaded.layers.keys() == saved.layers.keys()
    for name, array in {**saved.layers, "output": saved.output}.items():
        came = {**loaded.layers, "output": loaded.output}[name]
        assert came.dtype == np.float64
        assert np.array_equal(came, array)


@pytest.mark.parametrize("dtype", [bool, np.int64, np.float32])
def test_recorded_spikes_of_any_dtype_are_uint8(path, dtype):
    spikes = np.array([[[0, 1, 1], [1, 0, 0]]])
    np.savez(path, output=spikes.astype(dtype))
    output = load_simulation(path).output
    assert output.dtype == np.uint8
    assert np.array_equal(output, spikes)


class _Trap:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((1, 2, 3))}, r"data\.npz: expected an array `spikes` \(N, C, \.\.\., T\) but got `x`\."),
        ({}, "but got an empty file"),
        ({"spikes": np.zeros((2, 3))}, r"expected `spikes` of shape \(N, C, \.\.\., T\) but got \(2, 3\)"),
        ({"spikes": np.zeros((2, 3, 4)), "labels": np.zeros(3)}, r"each of the 2 samples .* shape \(3,\)"),
        ({"spikes": np.array([[[_Trap()]]])}, "expected arrays of numbers only"),
    ],
    ids=["other name", "empty", "too few axes", "too many labels", "pickle"],
)
def test_a_file_without_fitting_spikes_is_refused(path, arrays, message):
    np.savez(path, **arrays)
    with pytest.raises(SimulationError, match=message):
        load_spikes(path)


def test_a_file_that_is_no_archive_is_refused(path, mlp_spikes):
    with path.open("wb") as file:
        np.save(file, mlp_spikes)
    with pytest.raises(SimulationError, match=r"data\.npz: expected a \.npz file with `spikes`"):
        load_spikes(path)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_cut_off_file_is_refused(path, mlp_spikes, keep):
    save_spikes(path, mlp_spikes)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(SimulationError, match=r"data\.npz: .* or one without its end"):
        load_spikes(path)


def test_a_damaged_file_is_refused(path, mlp_spikes):
    save_spikes(path, mlp_spikes)
    content = bytearray(path.read_bytes())
    content[120:160] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(SimulationError, match=r"data\.npz"):
        load_spikes(path)


@pytest.mark.parametrize("values", [np.nan, np.inf, "1", 1j])
def test_a_recording_of_anything_but_finite_numbers_is_refused(path, values):
    np.savez(path, output=np.full((1, 2, 3), values))
    with pytest.raises(SimulationError, match="expected finite numbers in `output`"):
        load_simulation(path)


def test_a_recording_of_unequal_numbers_of_samples_is_refused(path):
    np.savez(path, output=np.ones((2, 2, 3)), dense1=np.ones((1, 2, 3)))
    with pytest.raises(SimulationError, match=r"data\.npz: Expected the same number of samples of everything"):
        load_simulation(path)


def test_a_directory_that_cannot_be_written(tmp_path, mlp_spikes):
    with pytest.raises(SimulationError, match="Cannot write"):
        save_spikes(tmp_path / "missing" / "data.npz", mlp_spikes)


# -- archives that are no numpy's


def _npy(shape=(1, 2, 3), dtype="<f8", data=bytes(48)):
    """An array as numpy saves it, with a header of one's own."""
    file = io.BytesIO()
    np.lib.format.write_array_header_2_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue() + data


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"spikes.npy": b"just a text"}, "`spikes.npy` is no array"),
        ({"spikes": b"just a text"}, "`spikes` is no array"),
        ({"spikes.npy": b""}, "`spikes.npy` is no array"),
        ({"spikes.npy": _npy(), "spikes": _npy()}, "two arrays of one name"),
        ({"spikes.npy": _npy((10**9, 10**9, 10**9))}, "shorter or longer than its shape"),
        ({"spikes.npy": _npy((-1, -2, 3))}, "shorter or longer than its shape"),
        ({"spikes.npy": _npy(data=bytes(8))}, "shorter or longer than its shape"),
        ({"spikes.npy": _npy(data=bytes(80))}, "shorter or longer than its shape"),
        ({"spikes.npy": _npy((1, 10**18, 3), "|S0", b"")}, "arrays of numbers only"),
        ({"spikes.npy": _npy((1, 2, 3), [("a", "<i4"), ("b", "<i4")])}, "arrays of numbers only"),
        ({"spikes.npy": _npy(dtype="|O")}, "arrays of numbers only"),
        ({"spikes.npy": b"\x93NUMPY\x09\x09" + bytes(99)}, "damaged"),
        ({"spikes.npy": b"\x93NUMPY\x01\x00\x28\x23" + b"-" * 9000}, "the file is damaged"),
        ({"../../a\x1b[2J.npy": _npy()}, r"but got `\.\./\.\./a\\x1b\[2J`"),
        ({f"{index:03}.npy": _npy() for index in range(50)}, "`006`, `007` and 42 more"),
    ],
)
def test_members_that_are_no_arrays_are_refused(path, members, message):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(SimulationError, match=rf"data\.npz: .*{message}") as error:
        load_spikes(path)
    assert str(error.value).isprintable()


def test_what_is_beside_the_spikes_does_not_matter(path, mlp_spikes):
    save_spikes(path, mlp_spikes)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("readme.txt", "recorded on a Tuesday")
    assert np.array_equal(load_spikes(path)[0], mlp_spikes)
    with pytest.raises(SimulationError, match=r"but got `readme\.txt`, `spikes`"):
        load_spikes(path, "x")
    with pytest.raises(SimulationError, match=r"`readme\.txt` is no array"):
        load_simulation(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(path, method):
    """They would unpack any number of bytes at once."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("spikes.npy", _npy())
    with pytest.raises(SimulationError, match="packed in another way"):
        load_spikes(path)


def test_a_file_that_is_too_large_for_the_memory_is_not_said_to_be_damaged(path, monkeypatch):
    """Half a megabyte that unpacks to a thousand times as much."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("spikes.npy", "w") as member:
        member.write(_npy((1, 2, 2**28), "|u1", b""))
        for _ in range(2**29 // 2**24):
            member.write(bytes(2**24))
    code = (
        "import resource, sys; from netx_export import SimulationError; from netx_export.file.npz import load_spikes\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**28,) * 2)\n"
        "try: load_spikes(sys.argv[1])\n"
        "except SimulationError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert run.stdout == f"{path}: there is not enough memory for its arrays. Split it into files of fewer samples.\n"
    monkeypatch.setattr("netx_export.file.npz._free_memory", lambda: 2**29)
    with pytest.raises(SimulationError, match=r"take 0\.5 GiB of memory, of which 0\.5 GiB are free"):
        load_spikes(path)


def test_what_is_no_file_and_what_cannot_be_read(tmp_path, path, mlp_spikes, monkeypatch):
    with pytest.raises(SimulationError, match=r"missing\.npz: no such file\. Give the path of a \.npz file"):
        load_spikes(tmp_path / "missing.npz")
    with pytest.raises(SimulationError, match="a directory, not a file"):
        load_spikes(tmp_path)
    with pytest.raises(SimulationError, match="NUL character"):
        load_spikes("a\0b.npz")
    save_spikes(path, mlp_spikes)

    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(zipfile.ZipFile, "open", broken)
    with pytest.raises(SimulationError, match=r"data\.npz: cannot be read: Input/output error"):
        load_spikes(path)


def test_a_layer_may_have_any_name(path):
    """Also that of an argument of numpy's."""
    saved = Simulation(np.zeros((1, 2, 3), np.uint8), {"file": np.ones((1, 2, 3), np.uint8)})
    save_simulation(path, saved)
    assert np.array_equal(load_simulation(path).layers["file"], saved.layers["file"])
