"""The simulator shares its threads out among samples, and gives them back."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from netx_export import simulate
from netx_export.errors import SimulationError
from netx_export.simulation.reference.loops import exact_convolutions, in_parallel


def test_the_number_of_threads_is_as_before(mlp_file, mlp_spikes):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        simulate(mlp_file, mlp_spikes)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        alone = simulate(mlp_file, mlp_spikes)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(alone.output, simulate(mlp_file, mlp_spikes).output)


def test_each_sample_has_one_thread_of_torch_even_if_there_is_no_other():
    """Where several would meet in small operations, each may wait for a tick of a busy machine's scheduler."""
    pytest.importorskip("numba")
    before, found = torch.get_num_threads(), []
    try:
        torch.set_num_threads(4)
        for samples in (1, 3):
            in_parallel(lambda _: found.append(torch.get_num_threads()), range(samples), torch.device("cpu"))
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert found == [1] * 4


def test_samples_on_many_threads_come_out_in_order(mlp_file, rng, monkeypatch):
    spikes = rng.random((40, 12, 20)) < 0.3
    expected = simulate(mlp_file, spikes).output
    monkeypatch.setattr("netx_export.simulation.reference.chunk_size", lambda *_: 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert np.array_equal(simulate(mlp_file, spikes).output, expected)
    finally:
        torch.set_num_threads(before)


def test_an_error_in_one_chunk_ends_all_and_gives_the_threads_back(mlp_file, monkeypatch):
    spikes = np.zeros((40, 12, 20))
    spikes[17, 3, 2] = 0.5
    monkeypatch.setattr("netx_export.simulation.reference.chunk_size", lambda *_: 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(SimulationError, match="0 and 1"):
            simulate(mlp_file, spikes)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_no_thread_turns_inexact_convolutions_on_for_the_others():
    """One that is done with a convolution while another computes one; there are several with compiled loops only."""
    pytest.importorskip("numba")
    before, threads = torch._C._get_nnpack_enabled(), torch.get_num_threads()
    found = []

    def convolve(_: int) -> None:
        with exact_convolutions():
            pass
        found.append(torch._C._get_nnpack_enabled())

    try:
        torch.backends.nnpack.set_flags(True)
        torch.set_num_threads(2)
        in_parallel(convolve, range(4), torch.device("cpu"))
        assert found == [False] * 4
        assert torch._C._get_nnpack_enabled()
    finally:
        torch.set_num_threads(threads)
        torch.backends.nnpack.set_flags(before)


def test_a_simulation_that_ends_leaves_exact_convolutions_to_one_that_still_runs():
    """As in a program that calls `simulate` from several threads."""
    before = torch._C._get_nnpack_enabled()
    first, found = ExitStack(), []
    try:
        torch.backends.nnpack.set_flags(True)
        with first:
            first.enter_context(exact_convolutions())
            with exact_convolutions():
                first.close()
                found.append(torch._C._get_nnpack_enabled())
        found.append(torch._C._get_nnpack_enabled())
        with exact_convolutions():
            torch.backends.nnpack.set_flags(True)  # as the user's own program may
            with exact_convolutions():
                found.append(torch._C._get_nnpack_enabled())
        assert found == [False, True, False]
    finally:
        torch.backends.nnpack.set_flags(before)
