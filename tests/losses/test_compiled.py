"""The compiled loops against torch, which does the same on GPUs and where numba is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from lava_spikeloss import _loops
from lava_spikeloss.functional import (
    ce_count_loss,
    ce_max_membrane_loss,
    exponential_filter,
    first_spike_times,
    moving_window_rate,
    spike_cluster,
    spike_count,
    spike_rate,
    spike_time,
)
from lava_spikeloss.spike_trains import first_maximum

pytest.importorskip("numba")

SHAPES = [(1, 1), (1, 7), (2, 300), (3, 2), (4, 40), (5, 33), (2, 3, 50)]  # also rows that are no multiple of four


@pytest.fixture(autouse=True)
def one_thread():
    """With many of them torch's operations are as fast."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_torch(monkeypatch):
    """Run a function without the compiled loops."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(_loops, "_compiled_loops", lambda: None)
            return function()

    return run


@pytest.fixture(params=range(3))
def generator(request):
    return torch.Generator().manual_seed(request.param)


def _spikes(shape, generator, rate=0.2):
    return (torch.rand(shape, generator=generator) < rate).float()


def _with_gradient(function, x):
    x = x.clone().requires_grad_()
    value = function(x)
    weight = torch.linspace(-1, 2, value.numel()).to(value.dtype).view_as(value)
    return value.detach(), torch.autograd.grad((value * weight).sum(), x)[0]


def test_loops_are_compiled_for_few_threads():
    assert _loops.loops_for(torch.ones(1)) is not None
    torch.set_num_threads(64)
    assert _loops.loops_for(torch.ones(1)) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_in_bfloat16(shape, generator, in_torch):
    spikes = (_spikes(shape, generator, 0.5) * torch.randint(-3, 9, shape, generator=generator)).bfloat16()
    assert torch.equal(_loops_count(spikes), in_torch(lambda: _loops_count(spikes)))
    assert torch.equal(_loops_count(spikes), spikes.float().sum(-1))
    assert torch.equal(_loops_count(spikes.transpose(0, -1)), spikes.transpose(0, -1).float().sum(-1))


def _loops_count(spikes):
    """Counted by the loop at any size."""
    return spike_count(spikes.expand(2**17, *spikes.shape)[: 2**17 // spikes.numel() + 1])[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("window", [1, 2, 20, 400])
@pytest.mark.parametrize("shape", SHAPES)
def test_moving_windows(shape, window, dtype, generator, in_torch):
    spikes = _spikes(shape, generator).to(dtype)
    compiled = _with_gradient(lambda x: moving_window_rate(x, window), spikes)
    plain = in_torch(lambda: _with_gradient(lambda x: moving_window_rate(x, window), spikes))
    assert torch.equal(compiled[0], plain[0])
    torch.testing.assert_close(compiled[1], plain[1], rtol=1e-4, atol=1e-4)  # running sums end at 150


def test_a_silent_window_after_graded_spikes_is_0():
    x = torch.zeros(3, 50)
    x[:, :20] = torch.rand(3, 20, generator=torch.Generator().manual_seed(0)) * 1e3
    assert moving_window_rate(x, 10)[:, 30:].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", [(5.0, None, 1), (0.1, None, 1), (500.0, None, 2), (30.0, 20, 1)])
@pytest.mark.parametrize("shape", SHAPES)
def test_filters(shape, kernel, dtype, generator, in_torch):
    x = torch.randn(shape, generator=generator).to(dtype)
    compiled = _with_gradient(lambda x: exponential_filter(x, *kernel), x)
    plain = in_torch(lambda: _with_gradient(lambda x: exponential_filter(x, *kernel), x))
    tolerance = 1e-3 if dtype == torch.float32 and kernel[2] > 1 else 1e-5
    torch.testing.assert_close(compiled, plain, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_of_filtered_and_of_windowed_trains(shape, reduction, dtype, generator, in_torch):
    """Their gradient is written into the place that is kept for it."""
    spikes, desired = _spikes(shape, generator, 0.5).to(dtype), _spikes(shape, generator, 0.5).bool()
    trains, labels = spikes.reshape(-1, 1, shape[-1]), torch.zeros(spikes.shape[:-1].numel(), dtype=torch.int64)
    for function, x in (
        (lambda x: spike_time(x, desired, reduction=reduction), spikes),
        (lambda x: spike_time(x, desired, 3.0, 5, reduction=reduction), spikes),
        (lambda x: spike_rate(x, labels, 0.3, 0.1, moving_window=6, reduction=reduction), trains),
    ):
        plain = in_torch(lambda function=function, x=x: _with_gradient(function, x))
        tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(_with_gradient(function, x), plain, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_spikes", [None, 1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_first_spikes(shape, num_spikes, dtype, generator, in_torch):
    spikes = _spikes(shape, generator, 0.05).to(dtype) * -0.5  # and 0 becomes -0, which is no spike
    compiled = _with_gradient(lambda x: first_spike_times(x, num_spikes), spikes)
    plain = in_torch(lambda: _with_gradient(lambda x: first_spike_times(x, num_spikes), spikes))
    assert torch.equal(compiled[0], plain[0])
    torch.testing.assert_close(compiled[1], plain[1], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_first_maxima(shape, dtype, generator, in_torch):
    x = torch.randint(-3, 4, shape, generator=generator).to(dtype)
    x[x == 2] = torch.inf
    x[x == -3] = -torch.inf
    assert all(torch.equal(*pair) for pair in zip(first_maximum(x), in_torch(lambda: first_maximum(x)), strict=True))


def test_a_maximum_with_a_nan_is_nan_at_the_last_step(in_torch):
    x = torch.tensor([[0.0, torch.nan, 1.0]])
    for top, step in (first_maximum(x), in_torch(lambda: first_maximum(x))):
        assert top.isnan().all()
        assert step == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("reach", [0, 1, 5, 1000])
@pytest.mark.parametrize("shape", SHAPES)
def test_clusters(shape, reach, dtype, generator, in_torch):
    v = torch.randn(shape, generator=generator).round(decimals=1).to(dtype)  # with equal maxima
    per_neuron = torch.rand(shape[:-1], generator=generator, dtype=torch.float64) * 3
    for threshold in (-9.0, 0.5, 2.0, 9.0, per_neuron):
        found = spike_cluster(v, threshold, reach), in_torch(lambda t=threshold: spike_cluster(v, t, reach))
        assert all(torch.equal(*pair) for pair in zip(*found, strict=True)), threshold


@pytest.mark.parametrize("place", [0, 3, 9])
def test_clusters_of_potentials_with_a_nan(place, generator, in_torch):
    v = torch.randn(30, 10, generator=generator)
    v[:, place] = torch.nan
    found = spike_cluster(v, 1.5, 1), in_torch(lambda: spike_cluster(v, 1.5, 1))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_memory_that_is_not_contiguous(generator, in_torch):
    x = torch.randn(6, 50, 4, generator=generator).transpose(1, 2)
    for function in (
        lambda x: moving_window_rate(x, 7),
        lambda x: exponential_filter(x, 5.0),
        lambda x: first_spike_times(x, 2),
        lambda x: ce_max_membrane_loss(x, torch.arange(6) % 4),
        lambda x: ce_count_loss(x, torch.arange(6) % 4),
        lambda x: spike_rate(x, torch.arange(6) % 4, 0.5, 0.1, moving_window=7),
        lambda x: spike_time(x[0].T.contiguous().T, torch.ones(4, 50)),
    ):
        plain = in_torch(lambda function=function: _with_gradient(function, x))
        torch.testing.assert_close(_with_gradient(function, x), plain, rtol=1e-4, atol=1e-4)
    found = spike_cluster(x, 0.5, 2), in_torch(lambda: spike_cluster(x, 0.5, 2))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_gradients_can_be_differentiated():
    x = torch.rand(3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: moving_window_rate(x, 5).square(), x)
    assert torch.autograd.gradgradcheck(lambda x: exponential_filter(x, 5.0).square(), x)


def test_others_see_each_operation():
    """A trace of the loops would be a constant, and a fake tensor has no numbers."""
    with torch._subclasses.FakeTensorMode() as mode:
        assert _loops.loops_for(mode.from_tensor(torch.ones(1))) is None
    assert _loops.loops_for(torch.ones(1, requires_grad=True)) is None
    v = torch.rand(2, 4, 30)
    traced = torch.jit.trace(lambda v: spike_cluster(v, 0.5, 2), (torch.rand(2, 4, 30),))
    assert all(torch.equal(*pair) for pair in zip(traced(v), spike_cluster(v, 0.5, 2), strict=True))


@pytest.mark.parametrize("error", ["ImportError", "SystemError"])
def test_a_numba_that_does_not_run_is_not_needed(error, tmp_path):
    """Numba refuses a numpy that is newer than it knows."""
    (tmp_path / "numba.py").write_text(f"raise {error}('Numba needs NumPy 2.1 or less')\n")
    script = (
        "import torch; from lava_spikeloss import functional as s; x = torch.ones(1, 2, 3)\n"
        "print(s.first_spike_times(x), s.spike_cluster(x, 1.0, 1)[0])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout == "tensor([[0., 0.]]) tensor([[1, 1]])\n", ran.stderr
    assert ran.stderr.count("numba is installed but does not run") == 1
