"""What happens at a limit, and one past it: options, silence, saturation, rounding."""

from __future__ import annotations

import math
import typing
from typing import Any

import pytest
import torch

import lava_spikeloss as L
from lava_spikeloss import functional
from lava_spikeloss.losses.options import check_options


def trains(counts: list[list[int]], steps: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Spikes ``(N, C, T)``, each neuron firing as often as it is told from the first step on."""
    return (torch.arange(steps) < torch.tensor(counts).unsqueeze(-1)).to(dtype).requires_grad_()


# --- options ----------------------------------------------------------------------------------------------------------

RATE = ([0, 0.5, 1], [-0.01, 1.01, math.nan])
POSITIVE = ([1e-9, 7], [0, -1, math.inf])
NOT_NEGATIVE = ([0, 0.5], [-0.01, math.inf])
ANY_NUMBER = ([-2.5, 0, 7], [math.inf, math.nan])
COUNT_OR_NONE = ([None, 1, 7], [0, -1])
FLAG = ([True, False], [])
OPTIONS: dict[str, tuple[list[Any], list[Any]]] = {
    "true_rate": RATE,
    "false_rate": RATE,
    "correct_rate": RATE,
    "incorrect_rate": RATE,
    "label_smoothing": RATE,
    "lam": RATE,
    "alpha": POSITIVE,
    "scale": POSITIVE,
    "time_constant": POSITIVE,
    "temperature": POSITIVE,
    "tau": POSITIVE,
    "xi": POSITIVE,
    "early_scale": ([None, *POSITIVE[0]], POSITIVE[1]),
    "integration_time": ([None, *POSITIVE[0]], POSITIVE[1]),
    "focal_gamma": NOT_NEGATIVE,
    "tolerance": NOT_NEGATIVE,
    "early_weight": NOT_NEGATIVE,
    "true_count": NOT_NEGATIVE,
    "false_count": NOT_NEGATIVE,
    "lam_high": NOT_NEGATIVE,
    "lam_low": NOT_NEGATIVE,
    "theta": ANY_NUMBER,
    "phi": ANY_NUMBER,
    "ceiling": ANY_NUMBER,
    "v_threshold": ANY_NUMBER,
    "moving_window": COUNT_OR_NONE,
    "length": COUNT_OR_NONE,
    "filter_order": ([1, 3], [0]),
    "T_in": ([0, 5], [-1]),
    "population_code": FLAG,
    "time_var_targets": FLAG,
    "target_is_time": FLAG,
    "multi_spike": FLAG,
    "per_step": FLAG,
    "reduction": (["mean", "sum", "none"], ["Mean", None]),
    "population_pooling": (["sum", "mean"], ["max"]),
    "mode": (["probability", "softmax", "count"], ["softmx"]),
    "time_scale": (["count", "rate"], ["counts"]),
    "inverse": (["negate", "reciprocal"], ["invert"]),
    "kernel_type": (["linear", "sigmoid", "gaussian"], ["polynomial"]),
    "kernel": (["linear", "sigmoid", "gaussian"], ["polynomial"]),
    "loss_type": (["mse", "l1", "bce"], ["mae"]),
    "loss": (["mse", "l1", "bce"], ["mae"]),
    "error": (["mse", "l1", "smooth_l1"], ["bce"]),
    "power": ([1, 2], [0, 3]),
    "weight": ([None, torch.ones(3)], [torch.ones(2, 2)]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_option_at_its_limits(name: str) -> None:
    allowed, refused = OPTIONS[name]
    for value in allowed:
        check_options(**{name: value})
    for value in refused:
        with pytest.raises(ValueError, match=f"`{name}` to (be|have)"):
            check_options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("true_rate", "0.5"),
        ("true_rate", True),
        ("moving_window", 2.0),
        ("population_code", 1),
        ("weight", [1.0, 2.0]),
        ("weight", torch.ones(3, dtype=torch.int64)),
        ("on_target", "0"),
        ("num_classes", 2.0),
        ("readout", [[1.0]]),
        ("args", [1.0]),
    ],
)
def test_option_of_another_type(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"`{name}`"):
        check_options(**{name: value})


def test_option_that_no_loss_has() -> None:
    with pytest.raises(TypeError, match="`tempature`, which no loss has"):
        check_options(tempature=1.0)


REGIONS = {"start": 4, "stop": 4}
GROUPS = {"population_code": True}
TIMES = {"on_target": [0, 1], "off_target": [2, 3]}
BUILT = [
    ("RateClassifier", lambda: L.RateClassifier(**GROUPS), ValueError, "`num_classes` to be given"),
    ("SpikeRate-groups", lambda: L.SpikeRate(0.8, 0.1, **GROUPS), ValueError, "`num_classes` to be given"),
    ("CECount-groups", lambda: L.CECountLoss(**GROUPS), ValueError, "`num_classes` to be given"),
    ("CECount-classes", lambda: L.CECountLoss(num_classes=0), ValueError, "`num_classes` to be at least 1 but got 0"),
    ("SpikeTime-region", lambda: L.SpikeTime(**REGIONS), ValueError, r"start < stop but got \[4, 4\)"),
    ("RegionCount-region", lambda: L.RegionCountLoss(3, 0, **REGIONS), ValueError, r"start < stop but got \[4, 4\)"),
    ("CountBounds-none", lambda: L.CountBoundsLoss(), ValueError, "`lower` or `upper` to be a number"),
    ("CountBounds-per", lambda: L.CountBoundsLoss(1, per="net"), ValueError, "`per` to be one of 'neuron', 'layer'"),
    ("CountBounds-crossed", lambda: L.CountBoundsLoss(3, 2), ValueError, "`lower` to be at most `upper`, 2, but got 3"),
    ("MSETemporal-list", lambda: L.MSETemporalLoss(**TIMES), TypeError, "`on_target` to be a number without `multi_s"),
    ("MSETemporal-one", lambda: L.MSETemporalLoss(on_target=[0, 1], multi_spike=True), ValueError, "`on_target`, 2"),
    ("MSETemporal-empty", lambda: L.MSETemporalLoss(on_target=[], multi_spike=True), ValueError, r"shape \(0,\)"),
    ("MSETemporal-weight", lambda: L.MSETemporalLoss(True, weight=torch.ones(2)), ValueError, "times name no class"),
    ("MSEMembrane-list", lambda: L.MSEMembraneLoss(on_target=[1.0, 2.0]), TypeError, "`on_target` to be a number"),
    ("Similarity-none", lambda: L.SpikeSimilarityLoss("gaussian"), ValueError, "`args` to hold sigma for 'gaussian'"),
    ("Similarity-zero", lambda: L.SpikeSimilarityLoss("gaussian", "mse", 0), ValueError, "`sigma` to be greater"),
    ("DECOLLE-neurons", lambda: L.DECOLLELoss(0, 2), ValueError, "`num_neurons` to be at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "error", "message"), [row[1:] for row in BUILT], ids=[row[0] for row in BUILT])
def test_options_are_checked_when_a_loss_is_built(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_bounds_may_be_equal() -> None:
    loss = L.CountBoundsLoss(lower=2, upper=2, reduction="none")
    assert loss(trains([[1, 2, 4]], 5)).tolist() == [[1, 0, 4]]
    with pytest.raises(ValueError, match=r"`lower` to be at most `upper`, 2, but got 2\.5"):
        functional.count_bounds_loss(trains([[1]], 2), 2.5, 2)


@pytest.mark.parametrize("power", [1, 2])
def test_a_lower_bound_of_a_layer_wakes_it_as_a_whole(power: int) -> None:
    """The same push on every neuron and step of a sample with too few spikes; none on one that has enough."""
    spikes = torch.zeros(3, 2, 2, 5)
    spikes[1, 0, 1, 2] = 1
    spikes[2, ..., 0] = 1
    spikes.requires_grad_()
    values = functional.count_bounds_loss(spikes, 4, power=power, reduction="none", per="layer")
    assert values.tolist() == [4**power, 3**power, 0]
    values.sum().backward()
    push = [-power * 4.0 ** (power - 1), -power * 3.0 ** (power - 1), 0.0]
    torch.testing.assert_close(spikes.grad, torch.tensor(push).view(3, 1, 1, 1).expand(3, 2, 2, 5))
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        functional.count_bounds_loss(torch.zeros(5), 4, per="layer")


def test_a_loss_on_classes_leaves_a_silent_layer_silent_and_the_bound_does_not() -> None:
    """The gradients of a silent sample's outputs add up to 0, so nothing says that they should fire more."""
    spikes, labels = torch.zeros(4, 10, 16), torch.tensor([0, 3, 3, 9])
    softmax, first = L.SpikeMax(mode="softmax"), L.FirstSpikeLoss(early_weight=0)
    for loss in (L.SpikeMax(), L.SpikeMax(mode="count"), softmax, L.CECountLoss(), first):
        x = spikes.clone().requires_grad_()
        loss(x, labels).backward()
        torch.testing.assert_close(x.grad.sum((1, 2)), torch.zeros(4), atol=1e-3, rtol=0)
        x = spikes.clone().requires_grad_()
        (loss + 0.1 * L.CountBoundsLoss(lower=4, per="layer"))(x, labels).backward()
        assert (x.grad.sum((1, 2)) < -1).all()


def test_a_region_may_be_a_single_step_at_either_end() -> None:
    spikes = trains([[1]], 4)
    assert functional.region_count_loss(spikes, torch.tensor([0]), 0, 0, 0, 1) == 0.5
    assert functional.region_count_loss(spikes, torch.tensor([0]), 0, 0, 3, 4) == 0
    with pytest.raises(ValueError, match=r"steps of a train of length 4 with start < stop but got \[3, 5\)"):
        functional.region_count_loss(spikes, torch.tensor([0]), 0, 0, 3, 5)


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, 8])
def test_spike_max_lifts_a_sample_with_a_silent_labelled_class(window: int | None) -> None:
    """Every class counts as if it had fired once: shares of 1 and 3 spikes, of 8 steps."""
    spikes, labels = trains([[0, 3]], 8), torch.tensor([[1.0, 1.0]])
    loss = functional.spike_max(spikes, labels, window, reduction="none")
    expected = 2 * math.log(4 / 8 + 1e-6) - math.log(1 / 8) - math.log(3 / 8)
    assert float(loss.flatten()[-1]) == pytest.approx(expected, rel=1e-6)


def test_spike_max_does_not_lift_a_silent_class_without_a_label() -> None:
    spikes = trains([[0, 3]], 8)
    for labels in (torch.tensor([[0.0, 1.0]]), torch.tensor([1])):
        assert float(functional.spike_max(spikes, labels)) == pytest.approx(1e-6 * 8 / 3, abs=1e-7)


def test_spike_max_gradient_passes_the_lifting() -> None:
    """p = m / sum m, and the derivative by a rate is (p - y) / m, also where m is lifted to one spike."""
    for labels in (torch.tensor([[1.0, 0.0]]), torch.tensor([0])):
        spikes = trains([[0, 3]], 8, torch.float64)
        functional.spike_max(spikes, labels, mode="count").backward()
        expected = torch.tensor([(1 / 4 - 1) / (1 / 8), (3 / 4) / (3 / 8)], dtype=torch.float64) / 8
        torch.testing.assert_close(spikes.grad[0, :, 0], expected)


def test_a_silent_sample_is_like_no_other_and_gets_the_gradient_of_length_1() -> None:
    spikes = torch.zeros(2, 1, 4)
    spikes[1, 0, :2] = 1
    spikes.requires_grad_()
    similarity = 1 - functional.spike_similar_loss(spikes, torch.tensor([0, 0]), "linear", "l1", reduction="none")
    assert similarity[0, 1] == 0
    (gradient,) = torch.autograd.grad(similarity[0, 1], spikes)
    torch.testing.assert_close(gradient[0], spikes.detach()[1] / math.sqrt(2))  # the other one's direction


def test_information_loss_of_decolle_asks_for_a_layer_that_is_not_quiet() -> None:
    readout, spikes, labels = torch.zeros(2, 3), torch.zeros(2, 3, 4), torch.tensor([0, 1])
    membrane = torch.stack((torch.full((3, 4), -30.0), torch.zeros(3, 4)))  # one sample quiet, one at 0.5
    loss = functional.decolle_loss(spikes, labels, readout, membrane, lam_high=3.0, lam_low=2.0, reduction="none")
    torch.testing.assert_close(loss, 0.5 + torch.tensor([2.0 * 0.1, 3.0 * 0.01]))
    with pytest.raises(ValueError, match="`membrane` to be given with `lam_high` or `lam_low`"):
        functional.decolle_loss(spikes, labels, readout, lam_low=0.1)


# --- saturation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [torch.tensor([0]), torch.tensor([[1, 0]])], ids=["index", "targets"])
def test_spike_moid_costs_100_where_the_sigmoid_rounds_to_0_or_1(labels: torch.Tensor) -> None:
    spikes = trains([[0, 4]], 4)
    loss = functional.spike_moid(spikes, labels, alpha=0.001, theta=0.5, reduction="none")
    assert loss.tolist() == [[100, 100]]


@pytest.mark.parametrize("alpha", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize("window", [None, 10])
def test_spike_moid_of_a_rate_at_the_threshold_is_as_likely_as_not(window: int | None, alpha: float) -> None:
    """However narrow the sigmoid is: between large numbers a small difference would lose its digits."""
    loss = L.SpikeMoid(window, reduction="none", alpha=alpha, theta=0.7)(trains([[7]], 10), torch.tensor([[1.0]]))
    assert loss.flatten()[-1].item() == pytest.approx(math.log(2), rel=1e-6)


def test_spike_moid_gradient_is_exact_far_from_the_threshold() -> None:
    """At a logit of 30 the label's class still has a gradient, p - 1 = -9e-14."""
    spikes = trains([[4]], 4, torch.float64)
    functional.spike_moid(spikes, torch.tensor([[1]]), alpha=1 / 30).backward()
    expected = -1 / (1 + math.exp(30)) * 30 / 4
    assert float(spikes.grad[0, 0, 0]) == pytest.approx(expected, rel=1e-2, abs=0)  # p - 1 has few digits in float64


@pytest.mark.parametrize("gamma", [0.25, 0.5, 1.0])
def test_focal_gradient_of_a_certain_answer_is_finite(gamma: float) -> None:
    spikes = trains([[200, 0]], 200)
    loss = functional.ce_count_loss(spikes, torch.tensor([0]), focal_gamma=gamma)
    loss.backward()
    assert float(loss) == pytest.approx(0, abs=1e-15)
    assert spikes.grad.isfinite().all()


@pytest.mark.parametrize("labels", [[0, 1], [[0] * 4, [1] * 4], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
@pytest.mark.parametrize("low", [-math.inf, -3e38])
def test_a_masked_class_that_nobody_labelled_costs_nothing_with_class_weights(
    labels: list[Any], gamma: float, low: float
) -> None:
    potentials = torch.tensor([[[0.5, 1.0, -1.0, 0.0], [0.25, 0.0, 2.0, 1.0]]]).repeat(2, 1, 1)
    masked = torch.cat((potentials, torch.full((2, 1, 4), low)), 1).requires_grad_()
    expected = functional.tet_loss(
        potentials, torch.tensor([0, 1]), weight=torch.tensor([1.0, 2.0]), focal_gamma=gamma, reduction="sum"
    )
    loss = functional.tet_loss(
        masked, torch.tensor(labels), weight=torch.tensor([1.0, 2.0, 0.5]), focal_gamma=gamma, reduction="sum"
    )
    torch.testing.assert_close(loss, expected)
    assert torch.autograd.grad(loss, masked)[0].isfinite().all()


@pytest.mark.parametrize(
    ("spikes", "labels"),
    [(torch.eye(2), [0, 0]), (torch.ones(2, 2), [0, 1])],
    ids=["no common spike, one label", "equal, two labels"],
)
def test_a_logarithm_of_a_cosine_ends_at_that_of_1e_4(spikes: torch.Tensor, labels: list[int]) -> None:
    trains = spikes.double().unsqueeze(1)
    loss = functional.spike_similar_loss(trains, torch.tensor(labels), "linear", "bce", reduction="none")
    assert float(loss[0, 1]) == pytest.approx(-math.log(1e-4), rel=1e-9)


def test_equal_samples_of_different_labels_cost_as_if_they_were_1e_4_apart() -> None:
    labels = torch.tensor([0, 1])
    loss = functional.spike_similar_loss(torch.ones(2, 1, 2), labels, "gaussian", "bce", 1.0, reduction="none")
    assert float(loss[0, 1]) == pytest.approx(-math.log(-math.expm1(-1e-4)), rel=1e-5)


# --- targets between 0 and 1, and what is not to learn ----------------------------------------------------------------


def test_membrane_suppression_of_an_unsure_label_is_partial() -> None:
    membrane, labels = torch.full((1, 2, 3), 2.0), torch.tensor([[0.75, 0.25]])
    loss = functional.membrane_suppression_loss(membrane, labels, reduction="none")
    torch.testing.assert_close(loss, torch.tensor([[0.25 * 4, 0.75 * 4]]))


def test_stca_asks_for_as_many_clusters_as_it_is_told() -> None:
    """Two for the labelled class, one for the other: first each has one too few or too many, then the right number."""
    membrane = torch.tensor(
        [[[2.0, 0.0, 0.5, 0.0], [2.0, 0.0, 3.0, 0.0]], [[2.0, 0.0, 3.0, 0.5], [2.0, 0.0, 0.5, 0.0]]]
    )
    options = {"T_in": 0, "true_count": 2, "false_count": 1, "reduction": "none"}
    assert functional.stca_loss(membrane, torch.tensor([0, 0]), **options).tolist() == [[0.5, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize("name", ["spike_rate", "mse_count_loss", "region_count_loss"])
def test_an_unsure_label_asks_for_what_lies_between(name: str) -> None:
    options = {"spike_rate": (0.8, 0.1), "mse_count_loss": (0.8, 0.1), "region_count_loss": (8.0, 1.0)}
    spikes, labels = trains([[5, 5]], 10, torch.float64), torch.tensor([[4 / 7, 0.0]], dtype=torch.float64)
    loss = getattr(functional, name)(spikes, labels, *options[name], reduction="none")
    scale = {"spike_rate": 100, "mse_count_loss": 10, "region_count_loss": 20}[name]
    torch.testing.assert_close(loss * scale, torch.tensor([[0.0, 16.0]], dtype=torch.float64))


def test_a_teacher_does_not_learn() -> None:
    student, teacher = torch.rand(2, 3, 4, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    functional.distillation_loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("per_step", [False, True])
def test_class_weights_of_unsure_labels(per_step: bool) -> None:
    """Each sample, or step, weighs the sum of its targets times the weights; a mean is not divided by weights."""
    weight = torch.tensor([1.0, 3.0], dtype=torch.float64)
    membrane = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = labels if per_step else labels[..., 0]
    squares = (membrane - (labels if per_step else labels.unsqueeze(-1))).square()
    weights = (labels * (weight.unsqueeze(-1) if per_step else weight)).sum(1, keepdim=True)
    expected = (squares * (weights if per_step else weights.unsqueeze(-1))).mean(-1)
    for reduction, total in (("none", expected), ("sum", expected.sum()), ("mean", expected.mean())):
        loss = functional.mse_membrane_loss(membrane, labels, per_step, weight=weight, reduction=reduction)
        torch.testing.assert_close(loss, total)


# --- times ------------------------------------------------------------------------------------------------------------


def test_an_error_of_just_the_tolerance_costs() -> None:
    spikes = trains([[1]], 8)  # at step 0
    for tolerance, cost in ((2.0, (2 / 8) ** 2), (2.1, 0.0)):
        loss = functional.mse_temporal_loss(spikes, torch.tensor([[2.0]]), True, tolerance=tolerance)
        assert float(loss) == cost


@pytest.mark.parametrize(("wanted", "step"), [(0.0, 0), (-1.0, 7), (-8.0, 0), (7.0, 7)])
def test_times_count_from_the_start_or_from_the_end(wanted: float, step: int) -> None:
    spikes = torch.zeros(1, 1, 8)
    spikes[0, 0, step] = 1
    assert functional.mse_temporal_loss(spikes, torch.tensor([[wanted]]), True) == 0
    assert functional.mse_temporal_loss(spikes, torch.tensor([wanted]), True) == 0  # one for each class
    assert functional.mse_temporal_loss(spikes, torch.tensor([0]), on_target=wanted) == 0


def test_first_spike_loss_without_an_early_term() -> None:
    spikes = trains([[1, 0]], 4, torch.float64)
    loss = functional.first_spike_loss(spikes, torch.tensor([0]), early_weight=0)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-6)  # silence counts as firing at T


# --- filters and windows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "left"), [(183, 0.0), (184, math.exp(-40))])
def test_a_kernel_is_cut_unless_rounding_hides_it(length: int, left: float) -> None:
    """exp(-183 / 5) is just above half a unit of rounding in float64, exp(-184 / 5) below: there it is not cut."""
    impulse = torch.zeros(300, dtype=torch.float64)
    impulse[0] = 1
    filtered = functional.exponential_filter(impulse, 5.0, length)
    assert float(filtered[200]) == pytest.approx(left, rel=1e-6, abs=1e-30)


def test_a_kernel_that_is_as_long_as_the_train_is_whole() -> None:
    x = torch.rand(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = functional.exponential_filter(x, 50.0)
    assert torch.equal(functional.exponential_filter(x, 50.0, 7), whole)
    cut = functional.exponential_filter(x, 50.0, 6)
    assert torch.equal(cut[:6], whole[:6])
    assert float(whole[6] - cut[6]) == pytest.approx(float(x[0]) * math.exp(-6 / 50), rel=1e-9)


@pytest.mark.parametrize("steps", [1, 11, 12, 13, 144, 1000, 1009])
def test_a_long_train_is_filtered_block_by_block(steps: int) -> None:
    """Against the recurrence, with rows that are no multiple of a block, in both directions."""
    x = torch.rand(2, steps, dtype=torch.float64, generator=torch.Generator().manual_seed(steps))
    x.requires_grad_()
    filtered = functional.exponential_filter(x, 20.0)
    weights = torch.linspace(-1, 2, steps, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((filtered * weights).sum(), x)
    sums, back = [torch.zeros(2, dtype=torch.float64)], [torch.zeros((), dtype=torch.float64)]
    for t in range(steps):
        sums.append(sums[-1] * math.exp(-1 / 20) + x.detach()[:, t])
        back.append(back[-1] * math.exp(-1 / 20) + weights[steps - 1 - t])
    torch.testing.assert_close(filtered, torch.stack(sums[1:], -1), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, torch.stack(back[:0:-1]).expand(2, -1), rtol=1e-9, atol=1e-12)


def test_a_window_ahead_is_silent_where_nothing_follows() -> None:
    """The gradient of a window, too, is exactly 0 where no later step has one."""
    x = torch.rand(50, requires_grad=True)
    rate = functional.moving_window_rate(x, 10)
    (gradient,) = torch.autograd.grad(rate[:20].square().sum(), x)
    assert (gradient[20:] == 0).all()
    assert (gradient[:20] > 0).all()


def test_spike_clusters_of_potentials_below_every_number() -> None:
    v = torch.full((2, 5), -torch.inf)
    v[1, 2] = 1.0
    count, positive, negative = functional.spike_cluster(v, 1.0, 1)
    assert count.tolist() == [0, 1]
    assert positive[0].nonzero().flatten().tolist() == [0]
    assert positive.sum() <= 2
    assert negative.nonzero().tolist() == [[1, 2]]


def test_spike_clusters_may_reach_beyond_the_train() -> None:
    v = torch.tensor([1.0, 0.0, 0.0, 1.0])
    for reach in (3, 4, 1000):
        count, positive, negative = functional.spike_cluster(v, 1.0, reach)
        assert (int(count), positive.any(), negative.nonzero().flatten().tolist()) == (1, False, [3])
    assert int(functional.spike_cluster(v, 1.0, 2)[0]) == 2


@pytest.mark.parametrize(("steps", "tolerance"), [(100_000, 1e-6), (1024, 1e-5)])
def test_a_window_of_a_long_graded_train_keeps_its_digits(steps: int, tolerance: float) -> None:
    x = torch.rand(2, steps, generator=torch.Generator().manual_seed(0)).requires_grad_()
    x.data[:, -30:] = 0
    weights = torch.rand(2, steps, generator=torch.Generator().manual_seed(1))
    exact = x.detach().double().requires_grad_()
    rate, expected = functional.moving_window_rate(x, 20), functional.moving_window_rate(exact, 20)
    assert rate.dtype == torch.float32
    torch.testing.assert_close(rate.double(), expected, rtol=0, atol=tolerance)
    assert (rate[:, -10:] == 0).all()
    (slope,) = torch.autograd.grad((rate * weights).sum(), x)
    (expected_slope,) = torch.autograd.grad((expected * weights).sum(), exact)
    torch.testing.assert_close(slope.double(), expected_slope, rtol=0, atol=tolerance)


def test_target_times_of_float64_spikes_keep_their_digits() -> None:
    spikes = torch.zeros(1, 1, 10, dtype=torch.float64)
    spikes[0, 0, 3] = 1
    loss = functional.mse_temporal_loss(spikes, torch.tensor([0]), on_target=0.1)
    assert float(loss) == pytest.approx(((3 - 0.1) / 10) ** 2, rel=1e-15)
    soft = torch.tensor([[0.1]], dtype=torch.float64)
    loss = functional.mse_temporal_loss(spikes, soft, on_target=1, off_target=2)
    assert float(loss) == pytest.approx(((3 - (2 - 0.1)) / 10) ** 2, rel=1e-15)


def test_a_student_of_spikes_reaches_its_teacher_with_a_scale() -> None:
    """Rates in [0, 1] stand for scores in [0, 8]."""
    teacher = torch.tensor([[8.0, 0.0, 4.0]])
    student = trains([[10, 0, 5]], 10)
    assert functional.distillation_loss(student, teacher) > 1
    assert float(functional.distillation_loss(student, teacher, scale=8.0)) == pytest.approx(0, abs=1e-6)
    assert float(L.DistillationLoss(scale=8.0)(student, teacher)) == pytest.approx(0, abs=1e-6)
    per_step = functional.distillation_loss(student, teacher, per_step=True, scale=8.0)
    torch.testing.assert_close(per_step, functional.distillation_loss(8 * student, teacher, per_step=True))


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [L.SpikeMax, L.CECountLoss, L.CountBoundsLoss, L.DistillationLoss, L.SpikeTime])
def test_type_checkers_know_the_reductions(loss: type[torch.nn.Module]) -> None:
    hints = typing.get_type_hints(loss.__init__)
    assert typing.get_args(hints["reduction"]) == ("mean", "sum", "none")
    assert "mode" not in hints or typing.get_args(hints["mode"])[-1] == "count"


@pytest.mark.parametrize("module", [L.SpikeMax, L.WeightedSum, L.TimeFirst, L.CountBoundsLoss, L.RateClassifier])
def test_type_checkers_know_what_a_call_returns(module: type[torch.nn.Module]) -> None:
    own = next(base for base in module.__mro__ if "__call__" in vars(base).get("__annotations__", {}))
    assert own is not torch.nn.Module
    assert own.__annotations__["__call__"] == "Callable[..., torch.Tensor]"


# --- time first -------------------------------------------------------------------------------------------------------


def test_labels_per_step_are_moved_where_their_shape_is_that_of_steps_and_samples() -> None:
    """Labels ``(T, N)``; those of another shape are left alone, whatever their first size is."""
    spikes = torch.rand(5, 2, 3)  # steps, samples, classes
    steps = torch.randint(0, 3, (5, 2))
    expected = L.CERateLoss()(spikes.movedim(0, -1), steps.T)
    torch.testing.assert_close(L.TimeFirst(L.CERateLoss())(spikes, steps), expected)
    soft = torch.rand(2, 3)  # samples and classes: no step at all
    expected = L.MSECountLoss()(spikes.movedim(0, -1), soft)
    torch.testing.assert_close(L.TimeFirst(L.MSECountLoss())(spikes, soft), expected)


def test_labels_that_could_be_one_hot_are_not_moved() -> None:
    """With as many steps as samples and classes a square of labels is one-hot for the samples."""
    spikes, labels = torch.rand(3, 3, 3), torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    expected = L.SpikeMoid()(spikes.movedim(0, -1), labels)
    torch.testing.assert_close(L.TimeFirst(L.SpikeMoid())(spikes, labels), expected)
    torch.testing.assert_close(L.TimeFirst(L.SpikeMoid())(spikes, target=labels), expected)


@pytest.mark.parametrize("population", [False, True])
def test_square_labels_per_step_are_moved_where_their_numbers_or_the_loss_say_so(population: bool) -> None:
    options = {"population_code": True, "num_classes": 3} if population else {}
    spikes, zeros_and_ones = torch.rand(3, 3, 6 if population else 3), torch.tensor([[0, 1, 1], [0, 0, 1], [1, 0, 1]])
    for loss, steps in (
        (L.CERateLoss(**options), zeros_and_ones + 1),
        (L.CERateLoss(label_form="indices", **options), zeros_and_ones),
    ):
        torch.testing.assert_close(L.TimeFirst(loss)(spikes, steps), loss(spikes.movedim(0, -1), steps.T))
    targets = torch.rand(3, 3)
    torch.testing.assert_close(
        L.TimeFirst(L.CERateLoss(**options))(spikes, targets), L.CERateLoss(**options)(spikes.movedim(0, -1), targets)
    )


SQUARE = torch.nn.functional.threshold(torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0)), 0.5, 0)
WHOLE = torch.tensor([[2, 1, 1], [0, 2, 0], [0, 0, 2]])  # integers that rule 3 of labels would take for classes
MULTI_HOT = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("loss", "target"),
    [
        (L.STCALoss(v_threshold=0.3, T_in=0), WHOLE),
        (L.MSETemporalLoss(target_is_time=True), WHOLE),
        (L.DistillationLoss(), WHOLE),
        (L.STCALoss(v_threshold=0.3, T_in=0) + L.CountBoundsLoss(upper=1), WHOLE),
    ],
    ids=lambda value: "" if isinstance(value, torch.Tensor) else type(value).__name__,
)
def test_a_loss_without_labels_per_step_gets_a_square_of_numbers_as_it_is(
    loss: torch.nn.Module, target: torch.Tensor
) -> None:
    expected = loss(SQUARE.movedim(0, -1), target)
    assert loss(SQUARE.movedim(0, -1), target.T) != expected
    torch.testing.assert_close(L.TimeFirst(loss)(SQUARE, target), expected)


def test_targets_of_a_readout_and_of_any_number_of_classes_are_not_moved() -> None:
    spikes = torch.rand(3, 3, 5)  # five neurons, which are not the classes
    for loss in (L.DECOLLELoss(5, 3), L.SpikeSimilarityLoss()):
        expected = loss(spikes.movedim(0, -1), MULTI_HOT)
        assert loss(spikes.movedim(0, -1), MULTI_HOT.T) != expected
        torch.testing.assert_close(L.TimeFirst(loss)(spikes, MULTI_HOT), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_targets_that_vary_in_time_are_moved_whatever_their_numbers(dtype: torch.dtype) -> None:
    steps = torch.tensor([[0, 1, 1], [0, 0, 1], [1, 0, 1]]).to(dtype)
    loss = L.MSEMembraneLoss(time_var_targets=True)
    torch.testing.assert_close(L.TimeFirst(loss)(SQUARE, steps), loss(SQUARE.movedim(0, -1), steps.T))


# --- given counts ----------------------------------------------------------------------------------------------------


def test_counts_of_classes_are_for_class_indices_and_given_counts_stay_as_they_are() -> None:
    membrane = torch.rand(2, 3, 20) * 0.9
    membrane[..., 5] = 1.5  # one cluster each
    counts = torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 2.0]])
    loss = L.STCALoss(T_in=1, true_count=2, false_count=1, reduction="none")
    torch.testing.assert_close(loss(membrane, torch.tensor([0, 2])), loss(membrane, counts))
    assert not torch.equal(loss(membrane, counts), L.STCALoss(T_in=1, reduction="none")(membrane, torch.tensor([0, 2])))
