"""Spikes in files: what was saved comes back, and every other file is refused with its name and what is wrong."""

from __future__ import annotations

import os

import numpy as np
import pytest

from netx_export import Simulation, SimulationError, simulate
from netx_export.data import load_simulation, load_spikes, save_simulation, save_spikes


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
    with pytest.raises(SimulationError, match=r"data\.npz"):
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


def test_a_directory_that_cannot_be_written(tmp_path, mlp_spikes):
    with pytest.raises(SimulationError, match="Cannot write"):
        save_spikes(tmp_path / "missing" / "data.npz", mlp_spikes)
