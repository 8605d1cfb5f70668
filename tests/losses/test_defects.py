"""Defects of the peers' losses, each as a case where ours gives the right value. Needs no peer."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import lava_spikeloss as L
from lava_spikeloss import functional


def spikes_of_counts(counts: list[list[int]], steps: int) -> torch.Tensor:
    spikes = torch.zeros(len(counts), len(counts[0]), steps)
    for n, row in enumerate(counts):
        for c, k in enumerate(row):
            spikes[n, c, :k] = 1
    return spikes.requires_grad_()


LABELS = torch.tensor([0, 1, 1])
WEIGHT = torch.tensor([1.0, 3.0])


class TestSnnTorch:
    def test_ce_rate_population_code_pools_its_own_group(self) -> None:
        spikes = torch.zeros(1, 4, 3, requires_grad=True)
        L.CERateLoss(population_code=True, num_classes=2)(spikes, torch.tensor([1])).backward()
        assert (spikes.grad[0, 2:] < 0).all()
        assert (spikes.grad[0, :2] > 0).all()

    @pytest.mark.parametrize("loss", [functional.ce_rate_loss, functional.ce_count_loss])
    def test_class_weights_are_normalised_and_sum_is_a_scalar(self, loss: object) -> None:
        spikes = spikes_of_counts([[1, 0], [3, 2], [0, 4]], 5)
        plain = loss(spikes, LABELS, reduction="none")  # type: ignore[operator]
        weights = torch.tensor([1.0, 3.0, 3.0])
        expected = (plain * weights).sum() / weights.sum()
        torch.testing.assert_close(loss(spikes, LABELS, weight=WEIGHT), expected)  # type: ignore[operator]
        total = loss(spikes, LABELS, weight=WEIGHT, reduction="sum")  # type: ignore[operator]
        assert total.shape == ()
        torch.testing.assert_close(total, (plain * weights).sum())

    def test_ce_rate_keeps_shape_and_dtype(self) -> None:
        loss = L.CERateLoss()(torch.zeros(1, 2, 3, dtype=torch.float64), torch.tensor([0]))
        assert loss.shape == ()
        assert loss.dtype == torch.float64

    def test_ce_count_of_a_gap_of_110_has_a_gradient(self) -> None:
        spikes = spikes_of_counts([[110, 0]], 200)
        L.CECountLoss(temperature=200.0)(spikes, torch.tensor([0])).backward()
        p = 1 / (1 + math.exp(110 / 200))
        torch.testing.assert_close(spikes.grad[0, 1], torch.full((200,), p / 200))
        behind = spikes_of_counts([[110, 0]], 200)
        L.CECountLoss()(behind, torch.tensor([1])).backward()
        assert (behind.grad[0, 1] == -1).all()

    def test_mse_count_does_not_truncate_the_target(self) -> None:
        spikes = spikes_of_counts([[29, 0]], 100)
        assert L.MSECountLoss(correct_rate=0.29)(spikes, torch.tensor([0])) < 1e-9

    def test_mse_count_weight_weighs_samples(self) -> None:
        spikes = spikes_of_counts([[1, 0], [3, 2]], 5)  # as many samples as classes
        plain = functional.mse_count_loss(spikes, LABELS[:2], reduction="none")
        weighted = functional.mse_count_loss(spikes, LABELS[:2], reduction="none", weight=WEIGHT)
        torch.testing.assert_close(weighted, plain * torch.tensor([[1.0], [3.0]]))

    def test_mse_count_of_a_silent_net_does_not_grow_with_time(self) -> None:
        values = [L.MSECountLoss(0.8, time_scale="rate")(torch.zeros(1, 2, t), torch.tensor([0])) for t in (10, 1000)]
        torch.testing.assert_close(values[0], values[1])

    def test_mse_membrane_time_varying_targets(self) -> None:
        v = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        assert L.MSEMembraneLoss(time_var_targets=True)(v, torch.tensor([[0, 1]])) == 0
        assert L.MSEMembraneLoss(time_var_targets=True)(v, torch.tensor([[0.0, 1.0]])) == 0  # C = T: still (N, T)
        assert L.MSEMembraneLoss(time_var_targets=True)(v, torch.tensor([[1, 0]])) > 0.99
        with pytest.raises(ValueError, match=r"`labels` to be \(N,\) or \(N, C\) with `time_var_targets=False`"):
            L.MSEMembraneLoss()(torch.zeros(1, 2, 3), torch.tensor([[0, 1, 0]]))
        with pytest.raises(ValueError, match=r"`labels` to be \(N, T\) or \(N, C, T\) with `time_var_targets=True`"):
            L.MSEMembraneLoss(time_var_targets=True)(torch.zeros(1, 2, 3), torch.tensor([0]))

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_mse_membrane_weights_of_labels_per_step(self, reduction: str) -> None:
        v, labels = torch.randn(3, 2, 5), torch.randint(2, (3, 5), generator=torch.Generator().manual_seed(0))
        loss = L.MSEMembraneLoss(time_var_targets=True, weight=WEIGHT, reduction=reduction)(v, labels)
        rows = [
            [
                sum(float(WEIGHT[y]) * (float(v[n, c, t]) - (y == c)) ** 2 for t, y in enumerate(labels[n].tolist()))
                / 5
                for c in range(2)
            ]
            for n in range(3)
        ]
        expected = torch.tensor(rows)
        if reduction == "mean":  # divided by the sum of the weights of all steps, as torch does for (N, C, T) scores
            expected = expected.sum() * 5 / 2 / WEIGHT[labels].sum()
        torch.testing.assert_close(loss, expected.sum() if reduction == "sum" else expected)

    def test_mse_membrane_negative_off_target(self) -> None:
        v = torch.tensor([[[1.0], [-2.0]]])
        assert L.MSEMembraneLoss(off_target=-2)(v, torch.tensor([0])) == 0

    def test_mse_temporal_default_targets_leave_a_late_false_class_alone(self) -> None:
        spikes = torch.zeros(1, 2, 8, requires_grad=True)
        loss = L.MSETemporalLoss(reduction="none")(spikes, torch.tensor([0]))
        torch.testing.assert_close(loss, torch.tensor([[(7 / 8) ** 2, 0.0]]))
        loss.sum().backward()
        assert spikes.grad[0, 0, -1] < 0  # the silent target is pushed up
        assert (spikes.grad[0, 1] == 0).all()

    def test_mse_temporal_on_target_is_for_the_label_only(self) -> None:
        loss = L.MSETemporalLoss(on_target=5, off_target=2, reduction="none")
        spikes = torch.zeros(1, 4, 8)
        spikes[0, 1, 5] = 1
        spikes[0, [0, 2, 3], 2] = 1
        assert (loss(spikes, torch.tensor([1])) == 0).all()

    def test_mse_temporal_ranks_of_multiple_spikes(self) -> None:
        spikes = torch.zeros(2, 2, 8)
        spikes[0, 0, [1, 3]] = 1
        spikes[0, 1, [1, 4]] = 1  # shares a step with the neuron above
        spikes[1, 0, [1, 2]] = 1
        spikes[1, 1, [0, 7]] = 1
        times = torch.tensor([[[1.0, 3], [1, 4]], [[1, 2], [0, 7]]])
        assert L.MSETemporalLoss(target_is_time=True, multi_spike=True)(spikes, times) == 0

    def test_mse_temporal_gradient_accumulates_over_ranks(self) -> None:
        spikes = torch.zeros(1, 1, 4, requires_grad=True)  # both spikes missing: both at the last step
        loss = L.MSETemporalLoss(target_is_time=True, multi_spike=True, reduction="sum")
        loss(spikes, torch.tensor([[[0.0, 1.0]]])).backward()
        assert spikes.grad[0, 0].tolist() == [0, 0, 0, -(2 * 3 / 16 + 2 * 2 / 16)]

    def test_mse_temporal_targets_are_not_mutated(self) -> None:
        times = torch.tensor([[-1, 2]])
        L.MSETemporalLoss(target_is_time=True)(torch.zeros(1, 2, 4), times)
        assert times.tolist() == [[-1, 2]]

    @pytest.mark.parametrize("value", [0.5, -3.0])
    def test_mse_temporal_graded_and_negative_spikes(self, value: float) -> None:
        spikes = torch.zeros(1, 1, 6)
        spikes[0, 0, 4:] = value
        assert L.MSETemporalLoss(target_is_time=True)(spikes, torch.tensor([[4.0]])) == 0

    def test_mse_temporal_bfloat16_times_are_not_rounded(self) -> None:
        spikes = torch.zeros(1, 1, 1000, dtype=torch.bfloat16)
        spikes[0, 0, 601] = 1
        assert L.MSETemporalLoss(target_is_time=True)(spikes, torch.tensor([[601]])) == 0

    def test_mse_temporal_argument_errors(self) -> None:
        spikes, labels = torch.zeros(1, 2, 4), torch.tensor([0])
        with pytest.raises(TypeError, match=r"`on_target` to be a number without `multi_spike=True` but got list"):
            functional.mse_temporal_loss(spikes, labels, on_target=[0, 1], off_target=[2, 3])
        with pytest.raises(ValueError, match=r"`off_target` to hold as many times as `on_target`, 2, but got 1"):
            functional.mse_temporal_loss(spikes, labels, on_target=[0, 1], off_target=[2], multi_spike=True)
        with pytest.raises(ValueError, match=r"`weight` to be None with `target_is_time=True`"):
            functional.mse_temporal_loss(spikes, torch.zeros(1, 2), target_is_time=True, weight=torch.ones(2))
        with pytest.raises(ValueError, match=r"to hold times of shape \(1, 2, F\) but got \(1, 2\)"):
            functional.mse_temporal_loss(spikes, torch.zeros(1, 2), target_is_time=True, multi_spike=True)
        with pytest.raises(ValueError, match=r"`tolerance` to be at least 0 but got -1"):
            L.MSETemporalLoss(tolerance=-1)

    def test_ce_temporal_can_be_independent_of_the_number_of_steps(self) -> None:
        values = []
        for steps in (10, 1000):
            spikes = torch.zeros(1, 2, steps)
            spikes[0, 0, 0] = spikes[0, 1, steps // 2] = 1
            values.append(L.CETemporalLoss(temperature=float(steps))(spikes, torch.tensor([1])))
        torch.testing.assert_close(values[0], values[1])

    def test_ce_temporal_reciprocal_can_fall_below_its_floor(self) -> None:
        spikes = torch.zeros(1, 2, 50)
        spikes[0, 0, 0] = 1
        assert L.CETemporalLoss("reciprocal", temperature=0.1)(spikes, torch.tensor([0])) < 1e-3
        with pytest.raises(ValueError, match=r"`inverse` to be one of 'negate', 'reciprocal' but got 'invert'"):
            L.CETemporalLoss("invert")

    def test_accuracy_does_not_call_silence_class_0(self) -> None:
        result = functional.accuracy(functional.classify_rate(torch.zeros(3, 2, 5)), torch.zeros(3, dtype=torch.long))
        assert (result.correct, result.silent) == (0, 3)

    @pytest.mark.parametrize("neurons", [5, 7])
    def test_population_that_does_not_divide_is_an_error(self, neurons: int) -> None:
        with pytest.raises(ValueError, match=rf"`num_classes` to divide the number of output neurons, {neurons}"):
            functional.ce_count_loss(torch.zeros(1, neurons, 3), torch.tensor([0]), True, 2)
        with pytest.raises(ValueError, match=r"`num_classes` to be given with `population_code=True`"):
            functional.ce_count_loss(torch.zeros(1, neurons, 3), torch.tensor([0]), True)


class TestSpikingJelly:
    def test_gaussian_kernel_is_1_on_its_diagonal(self) -> None:
        x = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)) * 100
        assert (functional.kernel_dot_product(x, x.clone(), "gaussian", 1.0).diagonal() == 1).all()
        y = x.clone()
        y[0, 0] += 1
        torch.testing.assert_close(
            functional.kernel_dot_product(x, y, "gaussian", 1.0)[0, 0].double(),
            torch.exp(-((x[0] - y[0]).double().square().sum()) / 2),
            rtol=1e-5, atol=0, check_dtype=False,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("kernel", "args"), [("linear", ()), ("polynomial", (2,)), ("sigmoid", (0.1,)), ("gaussian", (2.0,))]
    )
    def test_kernels_take_batches_of_different_sizes(self, kernel: str, args: tuple[float, ...]) -> None:
        x, y = torch.rand(3, 5, dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)
        product = functional.kernel_dot_product(x, y, kernel, *args)
        for i in range(3):
            for j in range(4):
                dot, apart = float(x[i] @ y[j]), float((x[i] - y[j]).square().sum())
                expected = {
                    "linear": dot,
                    "polynomial": dot**2,
                    "sigmoid": 1 / (1 + math.exp(-0.1 * dot)),
                    "gaussian": math.exp(-apart / 8),
                }[kernel]
                assert float(product[i, j]) == pytest.approx(expected, rel=1e-9)
        x.requires_grad_()
        assert torch.autograd.gradcheck(lambda v: functional.kernel_dot_product(v, y, kernel, *args), (x,))

    def test_kernel_errors(self) -> None:
        x = torch.zeros(2, 3)
        with pytest.raises(ValueError, match=r"`kernel` to be one of 'linear', 'polynomial', 'sigmoid', 'gaussian'"):
            functional.kernel_dot_product(x, x, "cubic")
        with pytest.raises(ValueError, match=r"`args` to hold sigma for 'gaussian' but got \(\)"):
            functional.kernel_dot_product(x, x, "gaussian")
        with pytest.raises(ValueError, match=r"`sigma` to be greater than 0 but got 0"):
            functional.kernel_dot_product(x, x, "gaussian", 0)
        with pytest.raises(ValueError, match=r"`y` to have rows of length 3 but got 4"):
            functional.kernel_dot_product(x, torch.zeros(2, 4))
        with pytest.raises(ValueError, match=r"`x` to have shape \(N, M\) but got \(2, 3, 1\)"):
            functional.kernel_dot_product(x.unsqueeze(-1), x)

    @pytest.mark.parametrize("seed", range(50))
    def test_linear_bce_of_cosines_that_round_above_1(self, seed: int) -> None:
        spikes = (torch.rand(16, 10, 20, generator=torch.Generator().manual_seed(seed)) < 0.3).float().requires_grad_()
        labels = torch.arange(16) % 3
        loss = functional.spike_similar_loss(spikes, labels, "linear", "bce")
        loss.backward()
        assert loss.isfinite()
        assert spikes.grad.isfinite().all()

    @pytest.mark.parametrize("loss", ["mse", "l1", "bce"])
    def test_a_silent_sample_gets_a_finite_gradient(self, loss: str) -> None:
        spikes = torch.zeros(3, 4, 5)
        spikes[1:, :2] = 1
        spikes.requires_grad_()
        functional.spike_similar_loss(spikes, torch.tensor([0, 0, 0]), "linear", loss).backward()
        assert spikes.grad.isfinite().all()
        assert 0 < spikes.grad[0].abs().max() < (1e4 if loss == "bce" else 1)

    def test_gaussian_bce(self) -> None:
        x = torch.rand(3, 2, 4, dtype=torch.float64, requires_grad=True)
        labels = torch.tensor([0, 1, 1])
        p = functional.kernel_dot_product(x.flatten(1), x.flatten(1), "gaussian", 1.0)
        same = (labels.unsqueeze(1) == labels).double()
        expected = F.binary_cross_entropy(p, same, reduction="none")
        actual = functional.spike_similar_loss(x, labels, "gaussian", "bce", 1.0, reduction="none")
        torch.testing.assert_close(actual, expected)
        actual.sum().backward()
        assert x.grad.isfinite().all()

    def test_identical_samples_of_different_classes_stay_finite(self) -> None:
        spikes = torch.ones(2, 3, 4, requires_grad=True)
        loss = functional.spike_similar_loss(spikes, torch.tensor([0, 1]), "gaussian", "bce", 1.0)
        loss.backward()
        assert loss.isfinite()
        assert spikes.grad.isfinite().all()

    def test_similarity_of_multi_hot_labels(self) -> None:
        x = torch.rand(3, 2, 4)
        multi_hot = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
        loss = functional.spike_similar_loss(x, multi_hot, "linear", "l1", reduction="none")
        cosine = F.cosine_similarity(x.flatten(1).unsqueeze(1), x.flatten(1).unsqueeze(0), dim=-1)
        same = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
        torch.testing.assert_close(loss, (cosine - same).abs(), rtol=1e-5, atol=1e-6)

    def test_tet_takes_positions_weights_smoothing_and_labels_per_step(self) -> None:
        x = torch.randn(2, 3, 4, 5, 6)
        weight = torch.tensor([1.0, 2.0, 0.5])
        for labels, target in (
            (torch.tensor([0, 2]), torch.tensor([0, 2]).reshape(2, 1, 1, 1).expand(2, 4, 5, 6)),
            (torch.randint(3, (2, 4, 5)), None),
            (torch.randint(3, (2, 4, 5, 6)), None),
            (torch.randint(3, (2, 6)), None),
        ):
            if target is None:
                target = labels.reshape(2, 1, 1, 6) if labels.dim() == 2 else labels
                target = (target if target.dim() == 4 else target.unsqueeze(-1)).expand(2, 4, 5, 6)
            expected = F.cross_entropy(x, target, weight, label_smoothing=0.1)
            actual = functional.tet_loss(x, labels, weight=weight, label_smoothing=0.1)
            torch.testing.assert_close(actual, expected)
            assert functional.tet_loss(x, labels, lam=0.5, reduction="none").shape == (2, 4, 5)

    def test_spike_cluster_of_a_neuron_does_not_depend_on_others(self) -> None:
        v = torch.tensor([[0.2, 0.4, 0.3], [-9.0, 5.0, 5.0]])
        _, alone, _ = functional.spike_cluster(v[:1], 1.0, 1)
        _, together, _ = functional.spike_cluster(v, 1.0, 1)
        assert torch.equal(alone, together[:1])

    @pytest.mark.parametrize(
        ("v", "distance", "count", "positive", "negative"),
        [
            ([1.0], 3, 1, [], [0]),
            ([0.5], 3, 0, [0], []),
            ([1.0, 1.0, 0.0, 1.0], 0, 3, [2], [0]),
            ([1.0, 1.0, 1.0], 1, 1, [], [2]),
            ([1.0, 0.0, 1.0, 1.0], 1, 2, [], [0]),
            ([0.0, 0.0, 0.0], 1, 0, [0], []),
        ],
    )
    def test_spike_cluster_edges(
        self, v: list[float], distance: int, count: int, positive: list[int], negative: list[int]
    ) -> None:
        found, k_positive, k_negative = functional.spike_cluster(torch.tensor(v), 1.0, distance)
        assert int(found) == count
        assert k_positive.nonzero().flatten().tolist() == positive
        assert k_negative.nonzero().flatten().tolist() == negative

    def test_stca_gradient_is_on_one_step_of_each_wrong_neuron(self) -> None:
        v = torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(1)).clamp(max=0.9)
        v[0, 0, 5] = 1.5  # one cluster, right
        v.requires_grad_()
        functional.stca_loss(v, torch.tensor([[1, 1, 1, 1]]), T_in=2).backward()
        assert (v.grad != 0).sum() == 3
        assert (v.grad[0, 1:].min(1).values == -1).all()

    def test_first_spike_index_takes_graded_spikes(self) -> None:
        assert functional.first_spike_index(torch.tensor([0.0, 0.3, 0.3])).tolist() == [False, True, False]


class TestLavaDl:
    @pytest.mark.parametrize("window", [None, 3])
    @pytest.mark.parametrize("others", [0, 4])
    def test_spike_max_pushes_a_silent_target_up(self, window: int | None, others: int) -> None:
        spikes = spikes_of_counts([[0, others, others]], 8)
        loss = L.SpikeMax(moving_window=window)(spikes, torch.tensor([0]))
        loss.backward()
        assert loss.isfinite()
        assert loss > 0
        assert spikes.grad.isfinite().all()
        assert (spikes.grad[0, 0] < 0).all()
        assert (spikes.grad[0, 1:] >= 0).all()

    def test_spike_max_of_a_silent_target_is_that_of_counts(self) -> None:
        """p = c / sum c with c = max(count, 1), gradient (p - y) / c."""
        spikes = spikes_of_counts([[0, 3, 0]], 8)
        loss = L.SpikeMax()(spikes, torch.tensor([0]))
        loss.backward()
        c, y = torch.tensor([1.0, 3.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
        p = c / c.sum()
        torch.testing.assert_close(loss, -p[0].log(), rtol=1e-5, atol=0)
        torch.testing.assert_close(spikes.grad[0, :, 0], (p - y) / c, rtol=1e-5, atol=1e-6)

    def test_spike_max_softmax_can_fall_below_its_floor(self) -> None:
        spikes = spikes_of_counts([[20] + [0] * 9], 20)
        floor = math.log(1 + 9 / math.e)
        torch.testing.assert_close(L.SpikeMax(mode="softmax")(spikes, torch.tensor([0])), torch.tensor(floor))
        assert L.SpikeMax(mode="softmax", scale=20)(spikes, torch.tensor([0])) < 1e-6

    def test_spike_max_misspelt_mode_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"`mode` to be one of 'probability', 'softmax', 'count' but got 'softmx'"):
            L.SpikeMax(mode="softmx")

    @pytest.mark.parametrize("rate", [-0.1, 1.1])
    def test_spike_rate_out_of_range_is_an_error(self, rate: float) -> None:
        with pytest.raises(ValueError, match=r"`true_rate` to be at (least 0|most 1) but got"):
            L.SpikeRate(rate, 0)

    @pytest.mark.parametrize("alpha", [0.01, 1.0])
    def test_spike_moid_confident_wrong_answer_learns(self, alpha: float) -> None:
        spikes = spikes_of_counts([[10, 0]], 10)
        L.SpikeMoid(alpha=alpha, theta=0.5)(spikes, torch.tensor([[0, 1]])).backward()
        assert (spikes.grad[0, 0] > 0).all()
        assert (spikes.grad[0, 1] < 0).all()
        if alpha == 0.01:  # the gradient of a saturated sigmoid: (p - y) / (alpha T), p = 1
            torch.testing.assert_close(spikes.grad[0, 0], torch.full((10,), 10.0))

    @pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float64])
    def test_spike_time_takes_any_dtype(self, dtype: torch.dtype) -> None:
        x, y = torch.rand(2, 3, 9) < 0.4, torch.rand(2, 3, 9) < 0.4
        torch.testing.assert_close(
            L.SpikeTime()(x.to(dtype), y.to(dtype)), L.SpikeTime()(x.float(), y.float()), check_dtype=False
        )

    def test_spike_time_without_a_length_does_not_cut_its_kernel(self) -> None:
        spikes, desired = torch.zeros(1, 400, dtype=torch.float64), torch.zeros(1, 400, dtype=torch.float64)
        spikes[0, 0] = 1
        tau = 50.0
        full = sum(math.exp(-2 * k / tau) for k in range(400))
        cut = sum(math.exp(-2 * k / tau) for k in range(100))
        assert float(L.SpikeTime(tau, length=None)(spikes, desired)) == pytest.approx(full, rel=1e-12)
        assert float(L.SpikeTime(tau)(spikes, desired)) == pytest.approx(cut, rel=1e-12)

    def test_window_classifier_returns_its_predictions(self) -> None:
        assert L.WindowClassifier(2)(torch.ones(1, 2, 3)).tolist() == [[0, 0, 0]]


class TestLabels:
    """How labels are read at all is tested in test_labels.py."""

    def test_spatial_dimensions_are_collapsed(self) -> None:
        x = torch.rand(2, 3, 2, 5)
        target = torch.rand(2, 3, 2) < 0.5
        torch.testing.assert_close(L.SpikeMoid()(x, target), L.SpikeMoid()(x.flatten(1, 2), target.flatten(1)))

    def test_fractional_class_indices_are_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"`labels` to hold whole class indices but got fractions"):
            L.CECountLoss()(torch.zeros(2, 3, 4), torch.tensor([0.5, 1.0]))

    @pytest.mark.parametrize(
        ("labels", "scores"), [(torch.tensor([0, 2]), (2, 3)), (torch.tensor([[0.2, 0.8, 0], [0, 0, 1]]), (2, 3))]
    )
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    def test_cross_entropy_is_torchs(self, labels: torch.Tensor, scores: tuple[int, int], reduction: str) -> None:
        x, weight = torch.rand(*scores, 7), torch.tensor([1.0, 2.0, 0.5])
        for smoothing in (0.0, 0.3):
            expected = F.cross_entropy(x.sum(-1), labels, weight, reduction=reduction, label_smoothing=smoothing)
            loss = L.CECountLoss(weight=weight, reduction=reduction, label_smoothing=smoothing)
            torch.testing.assert_close(loss(x, labels), expected)
            nearly_plain = L.CECountLoss(
                weight=weight, reduction=reduction, label_smoothing=smoothing, focal_gamma=1e-9
            )
            torch.testing.assert_close(nearly_plain(x, labels), expected, rtol=1e-5, atol=1e-6)

    def test_an_infinite_class_index_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="`labels` to hold whole class indices"):
            functional.ce_count_loss(torch.zeros(1, 2, 3), torch.tensor([math.inf]))


POOLED = {
    "spike_rate": lambda x, y, **k: functional.spike_rate(x, y, 0.8, 0.1, **k),
    "spike_rate-window": lambda x, y, **k: functional.spike_rate(x, y, 0.8, 0.1, moving_window=3, **k),
    "spike_max": functional.spike_max,
    "spike_max-window": lambda x, y, **k: functional.spike_max(x, y, moving_window=3, **k),
    "spike_moid": functional.spike_moid,
    "spike_moid-window": lambda x, y, **k: functional.spike_moid(x, y, moving_window=3, **k),
    "ce_rate": functional.ce_rate_loss,
    "ce_count": functional.ce_count_loss,
    "mse_count": lambda x, y, **k: functional.mse_count_loss(x, y, 0.0, 0.0, **k),  # its target grows with the group
    "region_count": lambda x, y, **k: functional.region_count_loss(x, y, 3, 0, 1, 5, **k),
    "mse_temporal": functional.mse_temporal_loss,
    "ce_temporal": functional.ce_temporal_loss,
    "first_spike": functional.first_spike_loss,
    "tet": lambda x, y, **k: functional.tet_loss(x, y, 0.3, **k),
    "distillation": lambda x, y, **k: functional.distillation_loss(x, torch.eye(3)[y], **k),
}


class TestPopulationCode:
    @pytest.mark.parametrize(
        "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int64]
    )
    @pytest.mark.parametrize("pooling", ["sum", "mean"])
    @pytest.mark.parametrize("name", POOLED)
    def test_is_the_loss_of_the_pooled_spikes_in_every_dtype(self, name: str, pooling: str, dtype: torch.dtype) -> None:
        labels = torch.tensor([2, 0, 1])
        spikes = (torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0)) < 0.4).double()
        groups = spikes.reshape(3, 3, 3, 7)
        pooled = groups.sum(2) if pooling == "sum" else groups.mean(2)
        options = {"population_code": True, "num_classes": 3, "population_pooling": pooling}
        loss = POOLED[name](spikes.to(dtype), labels, **options)
        torch.testing.assert_close(loss.double(), POOLED[name](pooled, labels), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", ["mse_temporal", "ce_temporal", "first_spike"])
    @pytest.mark.parametrize("pooling", ["sum", "mean"])
    def test_graded_spikes_of_opposite_sign_do_not_cancel(self, name: str, pooling: str) -> None:
        opposite = torch.tensor([[[0.0, 1, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]], requires_grad=True)
        equal = opposite.detach().abs().requires_grad_()
        for spikes in (opposite, equal):
            POOLED[name](
                spikes, torch.tensor([0]), population_code=True, num_classes=2, population_pooling=pooling
            ).backward()
        assert opposite.grad[0, 0, 1] < 0
        torch.testing.assert_close(opposite.grad, equal.grad)


class TestRange:
    @pytest.mark.parametrize("loss", ["mse", "l1", "bce"])
    def test_gaussian_similarity_of_large_graded_spikes(self, loss: str) -> None:
        torch.manual_seed(0)
        base = 1000 * torch.rand(1, 10, 50)
        spikes = torch.cat([base, base + 0.02 * torch.randn_like(base), base + 0.05 * torch.randn_like(base)])
        labels = torch.tensor([0, 1, 1])
        exact = functional.spike_similar_loss(spikes.double(), labels, "gaussian", loss, 1.0)
        ours = functional.spike_similar_loss(spikes, labels, "gaussian", loss, 1.0)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("early_weight", [0.005, 0.0])
    def test_first_spike_of_a_late_false_class_with_a_short_scale_is_finite(self, early_weight: float) -> None:
        spikes = torch.zeros(1, 2, 300)
        spikes[0, 0, 2] = 1
        loss = functional.first_spike_loss(
            spikes.requires_grad_(), torch.tensor([0]), early_weight=early_weight, early_scale=3.0
        )
        loss.backward()
        assert loss.isfinite()
        assert spikes.grad.isfinite().all()
        assert loss.item() == pytest.approx(early_weight * math.expm1(2 / 3), abs=1e-6)

    @pytest.mark.parametrize("loss", [functional.ce_count_loss, functional.spike_max, functional.first_spike_loss])
    def test_complex_spikes_are_an_error(self, loss: object) -> None:
        with pytest.raises(TypeError, match=r"`spikes` to be a real tensor but got torch.complex64"):
            loss(torch.ones(1, 2, 3, dtype=torch.complex64), torch.tensor([0]))  # type: ignore[operator]
