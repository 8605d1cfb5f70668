"""Several processes of Lava share the samples of a run: the result is that of one, in order; and what it is told."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest

from netx_export import NetworkDescription, SimulationError, simulate
from netx_export.network.description import CubaNeuron, Dense, Input
from netx_export.progress import time_on_lava
from netx_export.simulation import lava_parent
from netx_export.simulation.lava_parent import run_on_lava
from netx_export.simulation.lava_python import find_lava_python
from netx_export.simulation.lava_time import TimeLimit, number_of_workers, time_limit


def _delayed(mlp, rng):
    """The same with delays, which netx's reset does not clear: each sample is a run of its own."""
    start, first, last = mlp.layers
    return NetworkDescription((start, Dense(first.weight, first.neuron, rng.integers(0, 9, 12)), last))


@pytest.mark.lava
@pytest.mark.parametrize("samples", [5, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("delays", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_workers_give_what_one_gives_in_order(mlp, rng, saved, samples, delays):
    path = saved(_delayed(mlp, rng) if delays else mlp)
    spikes = rng.random((samples, 12, 20)) < 0.4
    expected = simulate(path, spikes)
    assert len({sample.tobytes() for sample in expected.layers["dense1"]}) == samples
    for _ in range(2):
        got = simulate(path, spikes, backend="lava", lava_workers=2)
        for name, raster in expected.layers.items():
            assert np.array_equal(got.layers[name], raster)


@pytest.mark.lava
@pytest.mark.slow
def test_more_blocks_than_workers(mlp, rng, saved, monkeypatch):
    """Blocks that are bounded by memory go to whichever worker is free; both have some."""
    monkeypatch.setattr(lava_parent, "_block_size", lambda *_: 2)
    path, spikes = saved(mlp), rng.random((9, 12, 20)) < 0.4
    simulate(path, spikes, backend="lava", lava_workers=2)  # both are there from now on
    before = [_cpu_seconds(worker) for worker in lava_parent._workers[:2]]
    got = simulate(path, spikes, backend="lava", lava_workers=2)
    assert np.array_equal(got.output, simulate(path, spikes).output)
    assert all(_cpu_seconds(worker) > start for worker, start in zip(lava_parent._workers, before, strict=False))


def _cpu_seconds(worker):
    with open(f"/proc/{worker._process.pid}/stat") as file:
        return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))


@pytest.mark.lava
def test_no_more_workers_than_samples_are_started(mlp_file, mlp_spikes):
    before = _started()
    simulate(mlp_file, mlp_spikes[:1], backend="lava", lava_workers=7)
    assert _started() == max(before, 1)


def _started():
    return sum(worker._process is not None for worker in lava_parent._workers)


@pytest.mark.lava
def test_another_python_is_asked_once_for_all_workers(mlp_file, mlp_spikes, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(lava_parent, "examine", asked.append)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{find_lava_python().path}" "$@"\n')
    python.chmod(0o755)
    for _ in range(2):  # the second time they are running
        got = simulate(mlp_file, mlp_spikes, backend="lava", lava_python=python, lava_workers=2)
        assert np.array_equal(got.output, simulate(mlp_file, mlp_spikes).output)
        assert [asked_python.path for asked_python in asked] == [str(python)]
    lava_parent._end_all()


@pytest.mark.lava
def test_a_network_that_is_far_from_its_next_reset_is_loaded_anew(mlp_file, mlp_spikes, monkeypatch):
    """Where that is sooner than to step there."""
    lava_parent._end_all()
    late = "worker._Network.is_late_for_a_reset = lambda self: True\nworker.serve("
    monkeypatch.setattr(lava_parent, "_CHILD", lava_parent._CHILD.replace("worker.serve(", late))
    actors = []
    for _ in range(2):
        got = simulate(mlp_file, mlp_spikes, backend="lava")
        assert np.array_equal(got.output, simulate(mlp_file, mlp_spikes).output)
        actors.append(_children(lava_parent._workers[0]._process.pid))
    lava_parent._end_all()
    assert actors[0] != actors[1]


def _children(pid: int) -> set[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return set(file.read().split())


@pytest.mark.lava
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_progress_adds_up_to_all_samples(mlp, mlp_file, mlp_spikes, workers):
    told = []
    run_on_lava(
        mlp_file,
        mlp,
        np.repeat(mlp_spikes, 40, axis=-1),
        advance=lambda samples, seconds: told.append((samples, seconds)),
        workers=workers,
    )
    assert sum(samples for samples, _ in told) == pytest.approx(len(mlp_spikes))
    assert len(told) > workers  # several times in each, as it takes seconds
    assert all(samples > 0 and seconds > 0 for samples, seconds in told)


def _large_network():
    neuron = CubaNeuron(200, np.array([1024]), np.array([128]))
    return NetworkDescription((Input((3000,), False), Dense(np.full((3000, 3000), 2), neuron)))


def test_as_many_workers_as_cores_if_there_is_work_for_them(mlp, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**24}.__getitem__)
    assert number_of_workers(None, mlp, 100, 1000) == 4
    assert number_of_workers(None, mlp, 3, 100_000) == 3  # no more than samples
    assert number_of_workers(None, mlp, 100, 10) == 1  # over before a second one has started
    assert number_of_workers(7, mlp, 100, 10) == 7  # as told
    assert number_of_workers(7, mlp, 5, 10) == 5
    assert number_of_workers(7, mlp, 0, 10) == 1  # the share of a rank that has no samples
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # as torchrun says: two processes share this machine
    assert number_of_workers(None, mlp, 100, 1000) == 2
    for nonsense in ("0", "", "two"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", nonsense)
        assert number_of_workers(None, mlp, 100, 1000) == 4


def test_workers_take_no_more_than_half_of_the_memory(mlp, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**20}.__getitem__)  # 4 GiB
    assert number_of_workers(None, mlp, 1000, 1000) == 3
    assert number_of_workers(None, _large_network(), 1000, 1000) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")  # as torchrun says: all three together
    assert number_of_workers(None, mlp, 1000, 1000) == 1


def test_the_time_limit_allows_for_workers_that_wait_for_a_core_to_start(mlp, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(2)))
    assert time_limit(mlp, 10, 100, 2) == time_limit(mlp, 10, 100)
    assert time_limit(mlp, 10, 100, 5) == time_limit(mlp, 10, 100) + 240


@pytest.mark.lava
def test_a_time_limit_that_other_parts_used_up(mlp, mlp_file, mlp_spikes):
    with pytest.raises(SimulationError, match=r"^Lava did not finish within 30 s and was ended\."):
        run_on_lava(mlp_file, mlp, mlp_spikes, TimeLimit(30.0, spent=30.0))


@pytest.mark.parametrize(
    ("seconds", "workers", "text"),
    [
        (0.01, 1, "about 1 s on Lava"),
        (48.3, 1, "about 48 s on Lava"),
        (250, 2, "about 4 min on Lava, 2 workers"),
        (89 * 60, 1, "about 89 min on Lava"),
        (9000, 16, "about 2 h on Lava, 16 workers"),
    ],
)
def test_how_a_time_is_told(seconds, workers, text):
    assert time_on_lava(seconds, workers) == text


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (0, ValueError, "`lava_workers` to be at least 1 but got 0"),
        (1.5, TypeError, "`lava_workers` to be an integer but got float"),
        (True, TypeError, "`lava_workers` to be an integer but got bool"),
    ],
)
def test_wrong_numbers_of_workers(number, error, message, mlp_file, mlp_spikes):
    with pytest.raises(error, match=message):
        simulate(mlp_file, mlp_spikes, lava_workers=number)


@pytest.mark.lava
def test_the_bar_says_how_long_lava_takes(mlp_file, mlp_spikes, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    simulate(mlp_file, mlp_spikes, backend="lava", progress=True)
    assert re.search(r"Simulating on lava: about \d+ s on Lava", capsys.readouterr().err)
