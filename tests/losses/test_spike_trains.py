"""Spike-train primitives against loops written from their definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_spikeloss import functional, spike_trains
from lava_spikeloss.spike_trains import exponential_filter, moving_window_rate, spike_count, window_mean, window_sum

quick = settings(max_examples=20, deadline=None)


def random_trains(seed: int, rows: int, steps: int, rate: float = 0.4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, steps, generator=generator, dtype=torch.float64)
    return values * (torch.rand(rows, steps, generator=generator) < rate)


@quick
@given(seed=st.integers(0, 999), steps=st.integers(1, 40), window=st.integers(1, 50))
def test_moving_window_rate(seed: int, steps: int, window: int) -> None:
    x = random_trains(seed, 3, steps)
    expected = [[sum(row[max(0, t - window + 1) : t + 1]) / window for t in range(steps)] for row in x.tolist()]
    torch.testing.assert_close(moving_window_rate(x, window), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("window", [1, 3, 7, 9])
def test_moving_window_gradients(window: int) -> None:
    x = random_trains(0, 2, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: moving_window_rate(v, window), (x,))
    assert torch.autograd.gradgradcheck(lambda v: moving_window_rate(v, window).square(), (x,))


def _scaled_window(x: torch.Tensor, window: int) -> torch.Tensor:
    return window_mean(x, window, scale=2.5)


def test_scaled_windows_are_scaled() -> None:
    x = random_trains(0, 2, 7)
    torch.testing.assert_close(_scaled_window(x, 3), 2.5 * moving_window_rate(x, 3))


@pytest.mark.parametrize("function", [moving_window_rate, window_sum, _scaled_window])
@pytest.mark.parametrize("window", [1, 2, 3, 6, 7, 8, 50])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("time_first", [False, True])
def test_windows_as_a_gpu_sums_them_are_those_of_running_sums(
    function: Callable[[torch.Tensor, int], torch.Tensor],
    window: int,
    steps: int,
    time_first: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With torch's pooling: values, gradients, second derivatives, forward mode and batches of samples."""
    x, weights = (random_trains(seed, 6, steps, rate=0.8).view(2, 3, steps) for seed in (1, 2))
    if time_first:
        x = x.movedim(-1, 0).contiguous().movedim(0, -1)

    def loss(v: torch.Tensor) -> torch.Tensor:
        return (function(v, window).square() * weights).sum()

    def results() -> list[torch.Tensor]:
        return [
            function(x, window),
            torch.func.vmap(lambda v: function(v, window))(x),
            torch.func.grad(loss)(x),
            torch.func.jvp(loss, (x,), (weights,))[1],
            torch.autograd.functional.jacobian(loss, x),
            torch.autograd.functional.hessian(loss, x),
        ]

    monkeypatch.setattr(spike_trains, "_pools", lambda x, window: False)
    expected = results()
    monkeypatch.setattr(spike_trains, "_pools", lambda x, window: True)
    torch.testing.assert_close(results(), expected)
    assert torch.equal(function(torch.zeros(2, 5), window), torch.zeros(2, 5))


def test_windows_are_pooled_where_they_are_short_and_not_on_a_cpu() -> None:
    x = torch.zeros(2, 300)
    assert [spike_trains._pools(x, 20), spike_trains._pools(x.to("meta"), 20)] == [False, True]
    assert not spike_trains._pools(x.to("meta"), 65)
    assert not spike_trains._pools(torch.empty(2**23, 256, device="meta"), 20)  # torch counts in 32 bits
    assert moving_window_rate(torch.empty(70_000, 2, 3, 40, device="meta"), 10).shape == (70_000, 2, 3, 40)


def test_a_silent_window_is_exactly_zero() -> None:
    x = torch.rand(5, 1000)
    x[:, 500:] = 0
    assert (moving_window_rate(x, 20)[:, 519:] == 0).all()


@quick
@given(
    seed=st.integers(0, 999),
    steps=st.integers(1, 60),
    tau=st.floats(0.05, 200),
    length=st.none() | st.integers(1, 70),
    order=st.integers(1, 3),
)
def test_exponential_filter(seed: int, steps: int, tau: float, length: int | None, order: int) -> None:
    x = random_trains(seed, 2, steps)
    kernel = [1.0] + [0.0] * (steps - 1)
    for _ in range(order):
        kernel = [sum(kernel[k - j] * math.exp(-j / tau) for j in range(k + 1)) for k in range(steps)]
    taps = min(steps if length is None else length, steps)
    expected = [
        [sum(kernel[k] * row[t - k] for k in range(min(taps, t + 1))) for t in range(steps)] for row in x.tolist()
    ]
    actual = exponential_filter(x, tau, length, order)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("length", "order"), [(None, 1), (None, 2), (4, 1), (4, 2)])
@pytest.mark.parametrize("steps", [1, 7, 9])
def test_exponential_filter_gradients(length: int | None, order: int, steps: int) -> None:
    x = random_trains(1, 2, steps).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: exponential_filter(v, 2.0, length, order), (x,))
    assert torch.autograd.gradgradcheck(lambda v: exponential_filter(v, 2.0, length, order).square(), (x,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool])
def test_first_spike_times_are_exact(dtype: torch.dtype) -> None:
    """Late times do not fit in half precision, so half-precision spikes give float32 times."""
    spikes = torch.zeros(3, 5001)
    spikes[0, 4097], spikes[0, 4999] = -0.25, 7
    spikes[1, 0] = 0.5
    times = functional.first_spike_times(spikes.to(dtype), num_spikes=2)
    assert times.dtype == torch.float32
    assert times.tolist() == [[4097, 4999], [0, 5001], [5001, 5001]]
    assert functional.first_spike_times(spikes.to(dtype), silent=-1).tolist() == [4097, 0, -1]


@quick
@given(seed=st.integers(0, 999), steps=st.integers(1, 20), ranks=st.integers(1, 4))
def test_first_spike_times_and_index_agree_with_a_loop(seed: int, steps: int, ranks: int) -> None:
    x = random_trains(seed, 4, steps, rate=0.2).requires_grad_()
    times = functional.first_spike_times(x, ranks)
    upstream = torch.arange(1.0, 4 * ranks + 1, dtype=torch.float64).reshape(4, ranks)
    times.backward(upstream)
    expected, gradient = torch.zeros(4, ranks, dtype=torch.float64), torch.zeros(4, steps, dtype=torch.float64)
    mask = torch.zeros(4, steps, dtype=torch.bool)
    for i, row in enumerate(x.tolist()):
        fired = [t for t, v in enumerate(row) if v != 0]
        mask[i, fired[:1]] = True
        for f in range(ranks):
            expected[i, f] = fired[f] if f < len(fired) else steps
            gradient[i, fired[f] if f < len(fired) else steps - 1] -= upstream[i, f]
    torch.testing.assert_close(times.detach(), expected)
    torch.testing.assert_close(x.grad, gradient)
    assert torch.equal(functional.first_spike_index(x), mask)


def test_first_spike_index_takes_graded_negative_and_bool_spikes() -> None:
    spikes = torch.tensor([[0.0, -0.5, 1.0], [0.0, 0.0, 0.1], [0.0, 0.0, 0.0]])
    expected = [[False, True, False], [False, False, True], [False, False, False]]
    assert functional.first_spike_index(spikes).tolist() == expected
    assert functional.first_spike_index(spikes != 0).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
@pytest.mark.parametrize("steps", [0, 2, 5, 9, 10**13])
def test_delay(dtype: torch.dtype, steps: int) -> None:
    x = (torch.rand(2, 3, 4, 5) < 0.5).to(dtype)
    y = functional.delay(x, steps)
    assert y.dtype == dtype
    assert y.shape == x.shape
    for t in range(5):
        expected = x[..., t - steps] if t >= steps else torch.zeros_like(x[..., 0])
        assert torch.equal(y[..., t], expected)


def test_delay_per_channel_with_gradient() -> None:
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    for steps in ([0, 2, 7], torch.tensor([0, 2, 7]), torch.tensor([0, 2, 7], dtype=torch.int8)):
        y = functional.delay(x, steps)
        for c, d in enumerate([0, 2, 7]):
            torch.testing.assert_close(y[:, c], functional.delay(x[:, c], d))
        assert torch.autograd.gradcheck(lambda v, steps=steps: functional.delay(v, steps), (x,))


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        (-1, ValueError, r"`steps` to be at least 0 but got -1"),
        ([0, -2, 1], ValueError, r"`steps` to be at least 0 but got -2"),
        (torch.tensor([0, -2, 1]), ValueError, r"`steps` to be at least 0 but got -2"),
        (torch.tensor([0.0, 1.0, 1.0]), TypeError, r"`steps` to hold integers but got torch.float32"),
        (1.5, TypeError, r"`steps` to be an integer but got float"),
        ([1, 2], ValueError, r"`steps` to hold one delay per channel of `x`, shape \(N, C, ..., T\), but got \(2,\)"),
    ],
)
def test_delay_errors(steps: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        functional.delay(torch.zeros(2, 3, 5), steps)  # type: ignore[arg-type]


def test_redundant_one_hot() -> None:
    code = functional.redundant_one_hot(torch.tensor([2, 0]), num_classes=3, n=2)
    assert code.tolist() == [[0, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0]]
    with pytest.raises(ValueError, match=r"class indices in \[0, 3\)"):
        functional.redundant_one_hot(torch.tensor([3]), 3, 2)
    with pytest.raises(ValueError, match=r"`n` to be at least 1 but got 0"):
        functional.redundant_one_hot(torch.tensor([0]), 3, 0)
    with pytest.raises(ValueError, match=r"`labels` to have shape \(N,\) but got \(1, 1\)"):
        functional.redundant_one_hot(torch.tensor([[0]]), 3, 1)


def test_counts_of_half_precision_do_not_saturate() -> None:
    assert spike_count(torch.ones(1, 5000, dtype=torch.bfloat16)).tolist() == [5000]


def victor_purpura(a: list[float], b: list[float], q: float) -> float:
    """The dynamic program over spikes of Victor and Purpura."""
    t, u = ([i for i, v in enumerate(s) if v] for s in (a, b))
    g = [[float(i + j) for j in range(len(u) + 1)] for i in range(len(t) + 1)]
    for i in range(1, len(t) + 1):
        for j in range(1, len(u) + 1):
            g[i][j] = min(g[i - 1][j] + 1, g[i][j - 1] + 1, g[i - 1][j - 1] + q * abs(t[i - 1] - u[j - 1]))
    return g[-1][-1]


@quick
@given(seed=st.integers(0, 999), steps=st.integers(1, 24), cost=st.floats(0, 4), rate=st.floats(0, 1))
def test_victor_purpura_is_the_dynamic_program_and_a_metric(seed: int, steps: int, cost: float, rate: float) -> None:
    x, y, z = random_trains(seed, 24, steps, rate).reshape(3, 8, steps)
    distance = functional.victor_purpura_distance(x, y, cost)
    expected = [victor_purpura(a, b, cost) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    torch.testing.assert_close(distance, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(distance, functional.victor_purpura_distance(y, x, cost))
    assert (functional.victor_purpura_distance(x, x, cost) == 0).all()
    detour = functional.victor_purpura_distance(x, z, cost) + functional.victor_purpura_distance(z, y, cost)
    assert (distance <= detour + 1e-4).all()


@quick
@given(seed=st.integers(0, 999), steps=st.integers(1, 30), tau=st.floats(0.1, 50))
def test_van_rossum_is_the_double_sum_and_a_metric(seed: int, steps: int, tau: float) -> None:
    x, y, z = random_trains(seed, 12, steps).reshape(3, 4, steps)
    expected = []
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        d = [u - v for u, v in zip(a, b, strict=True)]
        square = sum(d[i] * d[j] * math.exp(-abs(i - j) / tau) for i in range(steps) for j in range(steps))
        expected.append(math.sqrt(max(0.0, square)))
    distance = functional.van_rossum_distance(x, y, tau)
    torch.testing.assert_close(distance, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)
    detour = functional.van_rossum_distance(x, z, tau) + functional.van_rossum_distance(z, y, tau)
    assert (distance <= detour + 1e-9).all()


def test_van_rossum_gradient_is_finite_even_at_distance_zero() -> None:
    x = torch.rand(2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: functional.van_rossum_distance(v, torch.zeros_like(v), 2.0), (x,))
    same = torch.ones(1, 7, requires_grad=True)
    functional.van_rossum_distance(same, torch.ones(1, 7), 2.0).sum().backward()
    assert (same.grad == 0).all()


@pytest.mark.parametrize("distance", [functional.van_rossum_distance, functional.victor_purpura_distance])
def test_distance_errors(distance: object) -> None:
    with pytest.raises(ValueError, match=r"`other` to have the shape of `spikes`, \(2, 3\), but got \(2, 4\)"):
        distance(torch.zeros(2, 3), torch.zeros(2, 4), 1.0)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"to be (at least|greater than) 0 but got -1"):
        distance(torch.zeros(2, 3), torch.zeros(2, 3), -1)  # type: ignore[operator]


def brute_force_clusters(v: list[float], distance: int) -> tuple[int, list[int], list[int]]:
    spikes = [t for t, u in enumerate(v) if u >= 1]
    clusters: list[list[int]] = []
    for t in spikes:
        if clusters and t - clusters[-1][-1] <= distance:
            clusters[-1].append(t)
        else:
            clusters.append([t])
    free = [t for t in range(len(v)) if all(abs(t - s) > distance for s in spikes)]
    positive = [max(free, key=lambda t: v[t])] if free else []
    return len(clusters), positive, [min(clusters, key=len)[-1]] if clusters else []


@quick
@given(seed=st.integers(0, 999), steps=st.integers(1, 25), distance=st.integers(0, 6), scale=st.floats(0.2, 3))
def test_spike_cluster(seed: int, steps: int, distance: int, scale: float) -> None:
    v = torch.randn(2, 5, steps, generator=torch.Generator().manual_seed(seed)) * scale
    count, positive, negative = functional.spike_cluster(v, 1.0, distance)
    assert positive.dtype == negative.dtype == torch.bool
    assert positive.shape == negative.shape == v.shape
    for n in range(2):
        for c in range(5):
            expected = brute_force_clusters(v[n, c].tolist(), distance)
            found = (
                int(count[n, c]),
                positive[n, c].nonzero().flatten().tolist(),
                negative[n, c].nonzero().flatten().tolist(),
            )
            assert found == expected


def test_spike_cluster_takes_a_threshold_per_neuron() -> None:
    v = torch.tensor([[0.5, 0.1], [0.5, 0.1]])
    count, _, _ = functional.spike_cluster(v, torch.tensor([0.4, 0.6]), 1)
    assert count.tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"`T_in` to be at least 0 but got -1"):
        functional.spike_cluster(v, 1.0, -1)


def test_spike_cluster_takes_integer_potentials() -> None:
    v = torch.tensor([[64, 64, 10, 20, 0, 64], [0, 0, 0, 0, 0, 0]])
    for found, expected in zip(
        functional.spike_cluster(v, 64, 1), functional.spike_cluster(v.float(), 64, 1), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_spikes_are_counted_in_float32(dtype: torch.dtype) -> None:
    trains = (torch.arange(3 * 300 * 700) % 2).to(dtype).reshape(3, 700, 300).mT  # several blocks, not contiguous
    x = trains.requires_grad_()
    count = spike_count(x)
    assert count.dtype == torch.float32
    assert torch.equal(count, x.detach().float().sum(-1))
    (gradient,) = torch.autograd.grad(count.square().sum(), x, create_graph=True)
    assert torch.equal(gradient, (2 * count).to(dtype).unsqueeze(-1).expand_as(x))
    (second,) = torch.autograd.grad(gradient.sum(dtype=torch.float32), x)
    assert torch.equal(second, torch.full_like(x, 2 * x.shape[-1]))
    assert spike_count(torch.ones(4096, dtype=dtype)) == 4096


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_trains_are_delayed_as_signed_ones(dtype: torch.dtype) -> None:
    spikes = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
    delayed = functional.delay(spikes.to(dtype), [0, 2])
    assert delayed.dtype == dtype
    assert delayed.tolist() == [[[1, 2, 3], [0, 0, 4]]]
