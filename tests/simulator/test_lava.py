"""The reference simulator against whole networks on Lava's runtime, spike for spike in every layer."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace

import numpy as np
import pytest
from shipped import shipped

from netx_export import NetworkDescription, SimulationError, read, simulate
from netx_export.file.netx import write
from netx_export.network.description import Conv, CubaNeuron, Dense, Flatten, Input
from netx_export.simulation import lava_parent
from netx_export.simulation.lava_parent import run_on_lava

pytestmark = pytest.mark.lava


def _neuron(rng, channels=None, threshold=200):
    if channels is None:
        return CubaNeuron(threshold, np.array([1024]), np.array([128]))
    return CubaNeuron(threshold, rng.integers(0, 4097, channels), rng.integers(0, 4097, channels))


def _dense(rng, inputs, outputs, low=-60, high=90, per_neuron=False, threshold=200, **options):
    neuron = _neuron(rng, outputs if per_neuron else None, threshold)
    return Dense(2 * rng.integers(low, high, (outputs, inputs)), neuron, **options)


def _mlp(rng, **options):
    return Input((12,), False), _dense(rng, 12, 9, **options), _dense(rng, 9, 5, **options)


def _conv(rng, outputs, input_shape, kernel=(3, 3), groups=1, **options):
    weight = 2 * rng.integers(-60, 90, (outputs, input_shape[0] // groups, *kernel))
    return Conv(weight, _neuron(rng), input_shape, groups=groups, **options)


def _convs(rng, bias=False):
    first = _conv(
        rng, 4, (2, 7, 9), (2, 3), stride=(1, 2), padding=(1, 2), bias=rng.integers(-50, 50, 4) if bias else None
    )
    second = _conv(rng, 6, first.shape, groups=2, dilation=(2, 1))
    flat = int(np.prod(second.shape))
    return Input((2, 7, 9), False), first, second, Flatten((flat,)), _dense(rng, flat, 5)


NETWORKS = {
    "dense": _mlp,
    "one decay per neuron": lambda rng: _mlp(rng, per_neuron=True),
    "current wraps and voltage clips": lambda rng: (
        Input((12,), False),
        Dense(
            np.full((9, 12), 254) - 2 * np.eye(9, 12, dtype=np.int64),
            CubaNeuron(2**17 - 1, np.array([0]), np.array([0])),
        ),
        _dense(rng, 9, 5),
    ),
    "excitatory": lambda rng: _mlp(rng, low=0, high=127),
    "inhibitory with bias": lambda rng: (
        Input((12,), False),
        _dense(rng, 12, 9, low=-20, high=-1, bias=rng.integers(200, 900, 9)),
        _dense(rng, 9, 5),
    ),
    "weights altered on load": lambda rng: (
        Input((12,), False),
        Dense(np.where(rng.random((9, 12)) < 0.5, -128, 0), _neuron(rng), bias=rng.integers(500, 2000, 9)),
        Dense(rng.integers(-60, 200, (5, 9)), _neuron(rng)),
    ),
    "biases in every layer": lambda rng: (
        Input((12,), False),
        _dense(rng, 12, 9, bias=rng.integers(-50, 50, 9)),
        _dense(rng, 9, 5, bias=rng.integers(-50, 50, 5)),
        _dense(rng, 5, 4, bias=rng.integers(0, 99, 4)),
    ),
    "a bias behind a delay": lambda rng: (
        Input((12,), False),
        _dense(rng, 12, 9, delay=rng.integers(0, 9, 9)),
        _dense(rng, 9, 5, bias=rng.integers(0, 90, 5)),
    ),
    "delays per input": lambda rng: (
        Input((12,), False),
        _dense(rng, 12, 9, delay=rng.integers(0, 63, 12)),
        _dense(rng, 9, 5, delay=rng.integers(0, 5, 9)),
    ),
    "delays per neuron": lambda rng: (
        Input((12,), False),
        _dense(rng, 12, 9, delay=rng.integers(0, 9, 9)),
        _dense(rng, 9, 5),
    ),
    "convolutions": _convs,
    "convolutions with bias": lambda rng: _convs(rng, bias=True),
    "flattened image": lambda rng: (Input((2, 3, 4), False), Flatten((24,)), _dense(rng, 24, 5)),
    "no input layer": lambda rng: (_dense(rng, 12, 9),),
}


def _assert_backends_agree(path, spikes, spiking=True):
    on_lava = simulate(path, spikes, backend="lava")
    on_reference = simulate(path, spikes)
    for name, expected in on_lava.layers.items():
        assert np.array_equal(on_reference.layers[name], expected), name
        assert not spiking or expected.any(), f"{name} never spiked"


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_equals_lava(name, rng, saved):
    network = NetworkDescription(NETWORKS[name](rng))
    spikes = (rng.random((4, *network.input_shape, 24)) < 0.4).astype(np.uint8)
    _assert_backends_agree(saved(network), spikes)


def test_a_saturating_network_equals_lava(rng, saved):
    """Fan-in and rate so high that current and voltage leave 24 bits all the time."""
    weight = 254 - 508 * (rng.random((6, 1500)) < 0.1)
    neuron = CubaNeuron(2**17 - 1, np.array([8]), np.array([0]))
    network = NetworkDescription((Input((1500,), False), Dense(weight, neuron)))
    _assert_backends_agree(saved(network), rng.random((2, 1500, 30)) < 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_random_networks_equal_lava(seed, saved):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 30, rng.integers(2, 6))
    layers = [Input((int(sizes[0]),), False)]
    delays, biases = rng.random() < 0.3, rng.random() < 0.3
    for inputs, outputs in itertools.pairwise(sizes):
        weight = rng.integers(rng.integers(-256, 1), rng.integers(1, 256), (outputs, inputs))
        neuron = _neuron(rng, int(outputs), int(rng.integers(1, 2000)))
        delay = rng.integers(0, 63, rng.choice([inputs, outputs])) if delays else None
        bias = rng.integers(-300, 300, outputs) if biases and not delays else None
        layers.append(Dense(weight, neuron, delay, bias))
    spikes = rng.random((3, int(sizes[0]), int(rng.integers(1, 60)))) < rng.random()
    _assert_backends_agree(saved(NetworkDescription(tuple(layers))), spikes, spiking=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny.net", "ntidigits.net", "mnist.net", "pilotnet_lif/network.net"])
def test_networks_that_lava_dl_ships_equal_lava(name, rng):
    path = next(path for path in sorted(shipped("netx").rglob("*.net")) if path.as_posix().endswith(name))
    spikes = rng.random((2, *read(path).input_shape, 20)) < 0.1
    _assert_backends_agree(path, spikes, spiking=False)


def test_blocks_of_samples_and_a_second_call_change_nothing(mlp_file, mlp_spikes, monkeypatch):
    expected = simulate(mlp_file, mlp_spikes)
    monkeypatch.setattr(lava_parent, "_block_size", lambda *_: 4)
    for _ in range(2):
        got = simulate(mlp_file, mlp_spikes, backend="lava")
        for name in expected.layers:
            assert np.array_equal(expected.layers[name], got.layers[name])


def test_fewer_steps_than_layers(rng, saved):
    network = NetworkDescription((*_mlp(rng), _dense(rng, 5, 4), _dense(rng, 4, 3)))
    for steps in (1, 2, 3):
        _assert_backends_agree(saved(network), rng.random((3, 12, steps)) < 0.7, spiking=False)


def test_a_changed_file_is_loaded_anew(rng, tmp_path, mlp_spikes):
    path = tmp_path / "changing.net"
    for _ in range(2):
        write(NetworkDescription(_mlp(rng)), path)
        _assert_backends_agree(path, mlp_spikes)


def _inverted(mlp):
    """The same network with another first layer."""
    start, first, *others = mlp.layers
    return NetworkDescription((start, replace(first, weight=-first.weight), *others))


def test_a_file_rewritten_in_place_with_the_same_size_and_time_is_loaded_anew(mlp, tmp_path, mlp_spikes):
    path = tmp_path / "network.net"
    write(mlp, path)
    before, content = path.stat(), path.read_bytes()
    simulate(path, mlp_spikes, backend="lava")
    write(_inverted(mlp), tmp_path / "other.net")
    path.write_bytes((tmp_path / "other.net").read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert [after.st_size, after.st_mtime_ns, after.st_ino] == [before.st_size, before.st_mtime_ns, before.st_ino]
    assert path.read_bytes() != content
    expected, got = (simulate(path, mlp_spikes, backend=backend).layers for backend in ("reference", "lava"))
    for name, raster in expected.items():
        assert np.array_equal(got[name], raster)


def test_a_file_that_changes_after_it_was_read_is_refused(mlp, mlp_file, mlp_spikes):
    description = read(mlp_file)
    write(_inverted(mlp), mlp_file)
    with pytest.raises(SimulationError, match=r"\.net was changed while it was simulated"):
        run_on_lava(mlp_file, description, mlp_spikes)
    mlp_file.write_bytes(b"part of a file")
    with pytest.raises(SimulationError, match=r"\.net was changed while it was simulated"):
        run_on_lava(mlp_file, description, mlp_spikes)
    mlp_file.unlink()
    with pytest.raises(SimulationError, match=r"Cannot copy .*\.net for Lava: No such file or directory"):
        run_on_lava(mlp_file, description, mlp_spikes)


def test_a_file_that_changes_while_lava_runs_does_not_matter(mlp_file, mlp_spikes, monkeypatch):
    """Even before Lava's process has loaded it."""
    expected = simulate(mlp_file, mlp_spikes)
    request = lava_parent._workers[0].request
    monkeypatch.setattr(lava_parent, "_BLOCK_BYTES", 1)  # one sample at a time

    def change_first(*arguments):
        mlp_file.write_bytes(b"part of a file")
        return request(*arguments)

    monkeypatch.setattr(lava_parent._workers[0], "request", change_first)
    lava_parent._workers[0].end()
    got = simulate(mlp_file, mlp_spikes, backend="lava")
    for name, raster in expected.layers.items():
        assert np.array_equal(got.layers[name], raster)
