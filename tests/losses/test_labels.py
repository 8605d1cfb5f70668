"""Labels are never misread: what their shape, type and numbers say, what is left out, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo  # torch 2.3 fails where it is imported inside of torch.func.vmap
import torch.nn.functional as F

import lava_spikeloss as L
from lava_spikeloss import functional
from lava_spikeloss.losses.labels import Labels, wanted_values, with_classes

C = T = 5
N = 4
INDICES = torch.tensor([3, 0, 4, 1])
STEPS = torch.tensor([[3, 0, 4, 1, 2], [0, 0, 0, 0, 4], [2, 2, 2, 1, 1], [1, 0, 1, 0, 1]])
ONE_HOT = F.one_hot(INDICES, C)  # int64

UNSIGNED = [torch.uint16, torch.uint32, torch.uint64]  # which torch compares on no device

LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "spike_rate": lambda x, y, **k: functional.spike_rate(x, y, 0.8, 0.1, **k),
    "spike_rate-window": lambda x, y, **k: functional.spike_rate(x, y, 0.8, 0.1, moving_window=3, **k),
    "spike_max": functional.spike_max,
    "spike_max-count": lambda x, y, **k: functional.spike_max(x, y, mode="count", **k),
    "spike_max-softmax": lambda x, y, **k: functional.spike_max(x, y, mode="softmax", **k),
    "spike_max-window": lambda x, y, **k: functional.spike_max(x, y, moving_window=3, **k),
    "spike_moid": functional.spike_moid,
    "spike_moid-window": lambda x, y, **k: functional.spike_moid(x, y, moving_window=3, **k),
    "ce_rate": functional.ce_rate_loss,
    "ce_rate-focal": lambda x, y, **k: functional.ce_rate_loss(x, y, focal_gamma=2.0, **k),
    "ce_count": functional.ce_count_loss,
    "ce_count-focal": lambda x, y, **k: functional.ce_count_loss(x, y, focal_gamma=2.0, label_smoothing=0.1, **k),
    "mse_count": functional.mse_count_loss,
    "region_count": lambda x, y, **k: functional.region_count_loss(x, y, 3, 0, 1, 4, **k),
    "ce_max_membrane": functional.ce_max_membrane_loss,
    "ce_membrane_integral": functional.ce_membrane_integral_loss,
    "membrane_suppression": functional.membrane_suppression_loss,
    "mse_temporal": functional.mse_temporal_loss,
    "ce_temporal": functional.ce_temporal_loss,
    "first_spike": functional.first_spike_loss,
    "tet": functional.tet_loss,
    "tet-lambda": lambda x, y, **k: functional.tet_loss(x, y, 0.3, **k),
    "stca": lambda x, y, **k: functional.stca_loss(x, y, T_in=1, **k),
    "decolle": lambda x, y, **k: functional.decolle_loss(x, y, torch.eye(C, x.shape[1], dtype=x.dtype), **k),
}
# Per step is the loss itself, or its target; the others average labels per step over time.
PER_STEP = [
    *("spike_rate-window", "spike_max-window", "spike_moid-window"),
    *("ce_rate", "ce_rate-focal", "tet", "tet-lambda", "decolle", "membrane_suppression"),
]
# A mean over time of what each step costs by itself.
OVER_TIME = ["ce_rate", "ce_rate-focal", "tet", "tet-lambda", "decolle", "membrane_suppression"]
every_loss = pytest.mark.parametrize("name", LOSSES)


def trains(steps: int = T, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(N, C, steps, generator=generator) < 0.5).to(dtype)
    return spikes * torch.rand(N, C, steps, generator=generator).to(dtype)


# --- as many steps as classes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "stca"])  # whose integers are counts
def test_an_integer_one_hot_that_could_be_classes_of_steps_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"`labels` .* has two readings: class indices \(4, T=5\), and targets"):
        LOSSES[name](trains(), ONE_HOT)


@every_loss
def test_an_error_of_two_readings_says_how_to_be_clear(name: str) -> None:
    x, expected = trains(), LOSSES[name](trains(), INDICES)
    for targets, options in ((ONE_HOT.float(), {}), (ONE_HOT > 0, {}), (ONE_HOT, {"label_form": "targets"})):
        torch.testing.assert_close(LOSSES[name](x, targets, **options), expected)
    zeros_and_ones = STEPS.clamp(max=1)
    if name != "stca":  # whose targets are counts, of whole trains
        per_step = LOSSES[name](x, F.one_hot(zeros_and_ones, C).transpose(1, 2).double())
        torch.testing.assert_close(LOSSES[name](x, zeros_and_ones, label_form="indices"), per_step)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "stca"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, *UNSIGNED])
def test_integers_that_only_classes_can_be_are_classes_of_steps(name: str, dtype: torch.dtype) -> None:
    expected = LOSSES[name](trains(), F.one_hot(STEPS, C).transpose(1, 2).double())
    torch.testing.assert_close(LOSSES[name](trains(), STEPS.to(dtype)), expected)


@every_loss
@pytest.mark.parametrize("dtype", UNSIGNED)
@pytest.mark.parametrize("lengths", [None, [5, 4, 5, 4]])
def test_unsigned_labels_are_as_good_as_signed_ones(name: str, dtype: torch.dtype, lengths: list[int] | None) -> None:
    for labels in [INDICES] if name == "stca" else [INDICES, STEPS]:
        given = labels.to(dtype)
        found = LOSSES[name](trains(), given, label_form="indices", lengths=lengths)
        torch.testing.assert_close(found, LOSSES[name](trains(), labels, label_form="indices", lengths=lengths))
        assert given.dtype == dtype
    with pytest.raises(ValueError, match=r"to hold class indices in \[0, 5\) but got values from 7 to 7"):
        LOSSES[name](trains(), torch.full((N,), 7).to(dtype), lengths=lengths)


@pytest.mark.parametrize("name", [*(name for name in LOSSES if name != "decolle"), "spike_time", "similarity"])
@pytest.mark.parametrize("dtype", UNSIGNED)
@pytest.mark.parametrize("lengths", [None, [5, 4, 5, 4]])
def test_unsigned_trains_are_as_good_as_signed_ones(name: str, dtype: torch.dtype, lengths: list[int] | None) -> None:
    others = {"spike_time": lambda x, y, **k: functional.spike_time(x, x.flip(0), **k)}
    loss = {"similarity": functional.spike_similar_loss, **others, **LOSSES}[name]
    spikes = (trains() > 0.5).to(dtype)
    found = loss(spikes, INDICES, lengths=lengths)
    torch.testing.assert_close(found, loss(spikes.to(torch.int64), INDICES, lengths=lengths))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "stca"])
def test_an_error_of_floats_that_may_be_classes_of_steps_says_how_to_be_clear(name: str) -> None:
    with pytest.raises(ValueError, match="from 0 to 4; class indices need `label_form='indices'`"):
        LOSSES[name](trains(), STEPS.double())
    with pytest.raises(ValueError, match=r"from 0 to 4\.$"):
        LOSSES[name](trains(), STEPS.double().unsqueeze(-1).expand(N, C, T))  # which are no class indices
    expected = LOSSES[name](trains(), STEPS)
    torch.testing.assert_close(LOSSES[name](trains(), STEPS.double(), label_form="indices"), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("lengths", [None, [T, 3, 4, T]])
def test_integers_for_stca_are_numbers_of_clusters_and_never_classes_of_steps(
    dtype: torch.dtype, lengths: list[int] | None
) -> None:
    x, options = trains(), {"lengths": lengths, "v_threshold": 0.3, "reduction": "none"}
    for counts in (STEPS, ONE_HOT):
        expected = LOSSES["stca"](x, counts.double(), **options)
        torch.testing.assert_close(LOSSES["stca"](x, counts.to(dtype), **options), expected)
        torch.testing.assert_close(LOSSES["stca"](x, counts, label_form="targets", **options), expected)


def test_clusters_are_of_a_whole_train() -> None:
    for labels, options in (
        (STEPS, {"label_form": "indices"}),
        (torch.zeros(N, 7, dtype=torch.long), {}),
        (torch.ones(N, C, 7), {}),
    ):
        with pytest.raises(ValueError, match=r"`desired` to have shape \(4,\)"):
            LOSSES["stca"](trains(T if options else 7), labels, **options)


def test_one_output_and_one_step_can_be_told_by_a_1() -> None:
    x = torch.rand(2, 1, 1)
    assert functional.mse_count_loss(x, torch.tensor([[1], [0]])).isfinite()
    with pytest.raises(ValueError, match="has two readings"):
        functional.mse_count_loss(x, torch.tensor([[0], [0]]))


def test_a_population_code_has_as_many_classes_as_it_is_told() -> None:
    x, options = torch.rand(N, 2 * C, T), {"population_code": True, "num_classes": C}
    with pytest.raises(ValueError, match="has two readings"):
        functional.ce_count_loss(x, ONE_HOT, **options)
    assert functional.ce_count_loss(x, STEPS, **options).isfinite()


def test_where_no_number_can_be_read_integers_need_a_form() -> None:
    x, steps = torch.rand(N, C, T, device="meta"), torch.zeros(N, T, dtype=torch.long, device="meta")
    with pytest.raises(ValueError, match="has two readings"):
        functional.ce_rate_loss(x, steps)
    assert functional.ce_rate_loss(x, steps, label_form="indices").shape == ()

    def per_sample(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return functional.ce_rate_loss(x.unsqueeze(0), y.unsqueeze(0), label_form="indices")

    torch.testing.assert_close(
        torch.func.vmap(per_sample)(trains(), STEPS), functional.ce_rate_loss(trains(), STEPS, reduction="none")
    )


def test_a_label_form_that_does_not_fit_the_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"to have shape \(4,\) or \(4, T=7\) with `label_form='indices'`"):
        functional.ce_count_loss(trains(7), ONE_HOT, label_form="indices")
    with pytest.raises(ValueError, match=r"`label_form` to be one of None, 'indices', 'targets' but got 'classes'"):
        L.CECountLoss(label_form="classes")  # type: ignore[arg-type]


def test_positions_of_tet_that_could_be_steps_are_refused() -> None:
    x, labels = torch.rand(2, 3, 4, 4), torch.randint(3, (2, 4))
    with pytest.raises(ValueError, match="two readings: class indices of 4 positions, and of T=4 steps"):
        functional.tet_loss(x, labels)
    assert functional.tet_loss(x, labels.unsqueeze(-1).expand(2, 4, 4)).isfinite()


def test_positions_of_tet_that_could_be_classes() -> None:
    x, classes = torch.rand(2, 3, 3, 7), torch.tensor([[0, 2, 1], [0, 1, 2]])
    torch.testing.assert_close(
        functional.tet_loss(x, classes), functional.tet_loss(x, classes.unsqueeze(-1).expand(2, 3, 7))
    )
    with pytest.raises(ValueError, match="has two readings"):
        functional.tet_loss(x, F.one_hot(torch.tensor([1, 2]), 3))
    expected = functional.tet_loss(x, torch.tensor([1, 2]))
    torch.testing.assert_close(functional.tet_loss(x, F.one_hot(torch.tensor([1, 2]), 3).float()), expected)


# --- numbers that no label has ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in LOSSES
        for value in (-0.5, 1.5, math.nan, math.inf, -math.inf)
        if (name, value) != ("stca", 1.5)  # counts may be more than 1
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_targets_outside_of_0_to_1_are_refused(name: str, value: float, dtype: torch.dtype) -> None:
    for steps in (T, 7):
        labels = ONE_HOT.to(dtype)
        labels[1, 2] = value
        with pytest.raises(ValueError, match=r"to hold targets (in|of at least)"):
            LOSSES[name](trains(steps), labels)
        message = r"to have shape" if name == "stca" else r"to hold targets in"
        with pytest.raises(ValueError, match=message):
            LOSSES[name](trains(steps), labels.unsqueeze(-1).repeat(1, 1, steps))


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "stca"])
def test_a_multi_hot_with_more_than_1_is_refused(name: str) -> None:
    for labels in (2 * ONE_HOT, -ONE_HOT):
        with pytest.raises(ValueError, match=r"to hold targets in \[0, 1\]"):
            LOSSES[name](trains(7), labels)


@every_loss
@pytest.mark.parametrize("form", [INDICES, ONE_HOT])
def test_complex_labels_are_refused(name: str, form: torch.Tensor) -> None:
    with pytest.raises(TypeError, match=r"to hold real numbers but got torch\.complex64"):
        LOSSES[name](trains(), form.to(torch.complex64))


def test_probabilities_may_be_rounded() -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        labels = ONE_HOT.to(dtype) * (1 + torch.finfo(dtype).eps)
        for loss in LOSSES.values():
            torch.testing.assert_close(loss(trains(), labels), loss(trains(), ONE_HOT.to(dtype)), rtol=1e-2, atol=1e-3)


def test_a_trajectory_may_have_any_value() -> None:
    membrane = torch.tensor([[[3.0, -2.0]]])
    assert functional.mse_membrane_loss(membrane, membrane.clone(), time_var_targets=True) == 0


def test_similarity_takes_classes_in_one_column_and_refuses_what_is_not_multi_hot() -> None:
    x, labels = trains(), torch.tensor([0, 7, 7, 2])
    expected = functional.spike_similar_loss(x, labels)
    torch.testing.assert_close(functional.spike_similar_loss(x, labels.unsqueeze(1)), expected)
    with pytest.raises(ValueError, match=r"to hold targets in \[0, 1\]"):
        functional.spike_similar_loss(x, labels.unsqueeze(1).expand(N, 2))
    with pytest.raises(TypeError, match="to hold real numbers"):
        functional.spike_similar_loss(x, labels.to(torch.complex64))


# --- what is left out -------------------------------------------------------------------------------------------------


def gradient(name: str, x: torch.Tensor, y: torch.Tensor, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    loss = LOSSES[name](x, y, **options)
    return loss.detach(), torch.autograd.grad(loss.sum(), x)[0]


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [-100, -7, 0])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_a_sample_that_is_left_out_is_as_if_it_were_not_there(
    name: str, reduction: str, ignored: int, dtype: torch.dtype
) -> None:
    x, keep = trains(7), torch.tensor([True, False, True, True])
    y = torch.where(keep, INDICES.clamp(min=1), ignored).to(dtype)
    options = {} if ignored == -100 else {"ignore_index": ignored}
    loss, slope = gradient(name, x, y, reduction=reduction, **options)
    expected, expected_slope = gradient(name, x[keep], y[keep], reduction=reduction)
    torch.testing.assert_close(loss[keep] if reduction == "none" else loss, expected)
    torch.testing.assert_close(slope[keep], expected_slope)
    assert (slope[1] == 0).all()
    if reduction == "none":
        assert (loss[1] == 0).all()


def test_a_mean_of_nothing_is_nan_as_torchs() -> None:
    for loss in LOSSES.values():
        assert loss(trains(), torch.full((N,), -100), reduction="mean").isnan()
        assert loss(trains(), torch.full((N,), -100), reduction="sum") == 0


KEEP = torch.rand(N, 7, generator=torch.Generator().manual_seed(1)) < 0.6
CLASSES = torch.randint(C, (N, 7), generator=torch.Generator().manual_seed(2))
MARKED = torch.where(KEEP, CLASSES, -100)


@pytest.mark.parametrize("name", OVER_TIME)
def test_a_sample_is_the_loss_of_its_steps_that_are_kept(name: str) -> None:
    """These take a mean over time of what each step costs by itself."""
    x = trains(7)
    alone = [LOSSES[name](x[n : n + 1, :, KEEP[n]], CLASSES[n : n + 1, KEEP[n]], reduction="sum") for n in range(N)]
    losses = LOSSES[name](x, MARKED, reduction="none")
    torch.testing.assert_close(losses.flatten(1).sum(1) if losses.dim() > 1 else losses, torch.stack(alone))
    torch.testing.assert_close(LOSSES[name](x, MARKED, reduction="sum"), torch.stack(alone).sum())
    nothing = MARKED.clone()
    nothing[2] = -100
    assert (LOSSES[name](x, nothing, reduction="none")[2] == 0).all()
    torch.testing.assert_close(LOSSES[name](x, nothing, reduction="sum"), torch.stack(alone).sum() - alone[2])


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1], dtype=torch.float64)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [0.0, 1e-12])
def test_cross_entropy_leaves_out_what_torchs_does(weight: torch.Tensor | None, smoothing: float, gamma: float) -> None:
    x, y = trains(7).requires_grad_(), trains(7).requires_grad_()
    for labels in (MARKED, torch.tensor([-100, 0, 4, 1]).unsqueeze(1).expand(N, 7)):
        expected = F.cross_entropy(x, labels, weight, label_smoothing=smoothing)
        loss = functional.ce_rate_loss(y, labels, weight=weight, label_smoothing=smoothing, focal_gamma=gamma)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(torch.autograd.grad(loss, y), torch.autograd.grad(expected, x))


@pytest.mark.parametrize("name", ["spike_rate-window", "spike_max-window", "spike_moid-window"])
def test_a_window_whose_label_is_left_out_costs_nothing(name: str) -> None:
    x = trains(7).requires_grad_()
    losses = LOSSES[name](x, CLASSES, reduction="none")
    kept = losses.movedim(-1, 1)[KEEP]
    marked = LOSSES[name](x, MARKED, reduction="none").movedim(-1, 1)
    torch.testing.assert_close(marked[KEEP], kept)
    assert (marked[~KEEP] == 0).all()
    torch.testing.assert_close(LOSSES[name](x, MARKED, reduction="sum"), kept.sum())
    mean = LOSSES[name](x, MARKED, reduction="mean")
    torch.testing.assert_close(mean, kept.mean())
    torch.testing.assert_close(torch.autograd.grad(mean, x, retain_graph=True), torch.autograd.grad(kept.mean(), x))


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in (*PER_STEP, "stca")])
def test_labels_per_step_are_averaged_over_the_steps_that_are_kept(name: str) -> None:
    share = torch.stack([F.one_hot(CLASSES[n, KEEP[n]], C).double().mean(0) for n in range(N)])
    torch.testing.assert_close(LOSSES[name](trains(7), MARKED), LOSSES[name](trains(7), share))


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1], dtype=torch.float64)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_membrane_targets_of_steps_that_are_left_out(weight: torch.Tensor | None, reduction: str) -> None:
    membrane, options = trains(7), {"weight": weight, "reduction": reduction}
    loss = functional.mse_membrane_loss(membrane, MARKED, time_var_targets=True, **options)
    squares = (membrane - F.one_hot(CLASSES, C).transpose(1, 2)).square() * KEEP.unsqueeze(1)
    weights = torch.ones(N, 7, dtype=torch.float64) if weight is None else weight[CLASSES]
    squares, weights = squares * weights.unsqueeze(1), weights * KEEP
    each = squares.sum(-1) / KEEP.sum(1, keepdim=True)
    expected = {"mean": squares.sum() / (C * weights.sum()), "sum": each.sum(), "none": each}[reduction]
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_class_weights_of_samples_that_are_left_out_do_not_count(reduction: str) -> None:
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0, 0.1], dtype=torch.float64)
    x, y, keep = trains(7), torch.tensor([3, -100, 4, 1]), torch.tensor([True, False, True, True])
    for loss in (functional.mse_count_loss, functional.mse_membrane_loss, functional.ce_count_loss):
        given = loss(x, y, weight=weight, reduction=reduction)
        torch.testing.assert_close(
            given[keep] if reduction == "none" else given, loss(x[keep], y[keep], weight=weight, reduction=reduction)
        )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("column", [False, True])
def test_pairs_with_a_sample_that_is_left_out_do_not_count(reduction: str, column: bool) -> None:
    x, y, keep = trains(7), torch.tensor([3, -100, 3, 1]), torch.tensor([True, False, True, True])
    loss = functional.spike_similar_loss(x, y.unsqueeze(1) if column else y, reduction=reduction)
    torch.testing.assert_close(loss, functional.spike_similar_loss(x[keep], y[keep], reduction=reduction))


@every_loss
def test_what_is_left_out_is_left_out_on_a_device_too(name: str) -> None:
    """Where no number can be read, as on an accelerator: here inside of torch.func.vmap."""
    labels = torch.tensor([3, -100, 4, 1])

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](x.unsqueeze(0), y.unsqueeze(0), reduction="sum")

    batched = torch.func.vmap(loss)(trains(7), labels)
    torch.testing.assert_close(batched.sum(), LOSSES[name](trains(7), labels, reduction="sum"))
    assert batched[1] == 0


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        *(pytest.param(name, INDICES, id=f"{name}-per train") for name in LOSSES),
        *(pytest.param(name, STEPS, id=f"{name}-per step") for name in LOSSES if name != "stca"),  # takes none
    ],
)
@pytest.mark.filterwarnings("error:There is a performance drop")  # torch loops over the batch
def test_samples_and_labels_are_batched_without_a_loop(name: str, labels: torch.Tensor) -> None:
    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](x.unsqueeze(0), y.unsqueeze(0), label_form="indices", reduction="sum")

    expected = [loss(x, y) for x, y in zip(trains(), labels, strict=True)]
    torch.testing.assert_close(torch.func.vmap(loss)(trains(), labels), torch.stack(expected))


def test_wanted_values_lie_in_memory_as_trains_do_however_labels_lie() -> None:
    time_first = STEPS.T.contiguous().T
    assert wanted_values(with_classes(Labels(time_first)), C, torch.float32, 1, 0).is_contiguous()


@every_loss
def test_no_impossible_class_is_read_as_another_where_labels_are_not_checked(name: str) -> None:
    """As on an accelerator, where torch's indexing asserts: here inside of torch.compile."""

    def raises(labels: torch.Tensor, **options: Any) -> None:
        torch._dynamo.reset()
        compiled = torch.compile(lambda x, y: LOSSES[name](x, y, **options), backend="eager")
        with pytest.raises(Exception, match=r"out of (bounds|range)"):
            compiled(trains(7), labels)

    for labels in (torch.tensor([-1, -7, 0, 1]), torch.tensor([0, C, 1, 2])):
        raises(labels)
    if name != "stca":  # which takes no labels per step
        raises(torch.where(KEEP, CLASSES, -7))
    raises(torch.tensor([0, -100, 1, 2]), ignore_index=255)


def test_modules_take_what_is_left_out_and_the_form() -> None:
    loss = L.CERateLoss(ignore_index=-1, label_form="indices")
    assert "label_form='indices', ignore_index=-1" in repr(loss)
    marked = torch.where(KEEP, CLASSES, -1)
    torch.testing.assert_close(loss(trains(7), marked), functional.ce_rate_loss(trains(7), MARKED))
    with pytest.raises(TypeError, match="`ignore_index` to be an integer but got NoneType"):
        L.SpikeMax(ignore_index=None)  # type: ignore[arg-type]


def test_what_nothing_may_be_left_out_of_says_so() -> None:
    with pytest.raises(ValueError, match=r"class indices in \[0, 5\) but got values from -100"):
        functional.redundant_one_hot(torch.tensor([-100, 1]), 5, 2)


# --- soft targets that learn, and parameters --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "stca"])  # a count has no gradient
@pytest.mark.parametrize("per_step", [False, True])
def test_soft_targets_get_a_gradient(name: str, per_step: bool) -> None:
    x = trains(7) + 0.1
    targets = torch.rand(N, C, *[7] * per_step, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    targets = targets.mul(0.8).add(0.1)
    assert torch.autograd.gradcheck(lambda y: LOSSES[name](x, y), (targets.requires_grad_(),))
    at_0, near_0 = targets.detach().clone(), targets.detach().clone()
    at_0[:, 1], near_0[:, 1] = 0, 1e-9
    slopes = [torch.autograd.grad(LOSSES[name](x, y.requires_grad_()), y)[0] for y in (at_0, near_0)]
    torch.testing.assert_close(slopes[0], slopes[1])


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("size", [(), (1,), (C,)])
def test_spike_moid_learns_its_threshold_and_temperature(window: int | None, size: tuple[int, ...]) -> None:
    x, y = trains(7), torch.rand(N, C, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    alpha = torch.full(size, 0.7, dtype=torch.float64).add(torch.rand(size)).requires_grad_()
    theta = torch.rand(size, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, t: functional.spike_moid(x, y, window, alpha=a, theta=t), (alpha, theta))
    module = L.SpikeMoid(window, alpha=torch.nn.Parameter(alpha.detach()), theta=theta.detach())
    assert [name for name, _ in module.named_parameters()] == ["alpha"]
    assert [name for name, _ in module.named_buffers()] == ["theta"]
    torch.testing.assert_close(module(x, y), functional.spike_moid(x, y, window, alpha=alpha, theta=theta))


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("per_step", [False, True])
def test_spike_moid_of_soft_targets_has_derivatives_of_each_kind(window: int | None, per_step: bool) -> None:
    """Backward, forward and second ones, by spikes and targets."""
    shape = (N, C, T) if per_step else (N, C)
    y = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).requires_grad_()
    x = trains(7)[:, :, :T].clone().requires_grad_()

    def loss(v: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return functional.spike_moid(v, wanted, window, alpha=0.3, theta=0.2)

    assert torch.autograd.gradcheck(loss, (x, y), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(loss, (x, y))


def test_spike_moid_refuses_a_temperature_that_is_none() -> None:
    for alpha, error in (
        (torch.tensor([1.0, 0.0]), ValueError),
        (torch.ones(1, 2), ValueError),
        (torch.tensor(1), TypeError),
    ):
        with pytest.raises(error, match="`alpha` to be"):
            L.SpikeMoid(alpha=alpha)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_spike_moid_of_one_output_leaves_answers_out(window: int | None, reduction: str) -> None:
    x, yes = trains(7)[:, :1], torch.tensor([1, -100, 0, 1])
    kept = torch.tensor([0, 2, 3])

    def loss(x: torch.Tensor, labels: torch.Tensor, **options: Any) -> torch.Tensor:
        value = functional.spike_moid(x, labels, window, reduction=reduction, **options)
        return value[kept] if len(value.shape) and len(value) == N else value

    for labels in (yes, yes.float()):
        torch.testing.assert_close(loss(x, labels), loss(x[kept], labels[kept]))
        torch.testing.assert_close(loss(x, labels, lengths=[7, 7, 7, 7]), loss(x[kept], labels[kept]))
    torch.testing.assert_close(loss(x, yes.where(yes >= 0, 9), ignore_index=9), loss(x[kept], yes[kept]))


def test_spike_moid_of_one_output_leaves_steps_out() -> None:
    x, yes = trains(6)[:, :1], torch.tensor([[1, 0, -100, 1, -100, 1]]).expand(N, 6)
    mean = torch.full((N, 1), 3 / 4)
    torch.testing.assert_close(functional.spike_moid(x, yes), functional.spike_moid(x, mean))
    values = functional.spike_moid(x, yes.clamp(min=0), 2, reduction="none")[..., [0, 1, 3, 5]]
    torch.testing.assert_close(functional.spike_moid(x, yes, 2), values.sum())
    torch.testing.assert_close(functional.spike_moid(x, yes, 2, reduction="mean"), values.mean())
    torch.testing.assert_close(functional.spike_moid(x, yes, 2, reduction="mean", lengths=[6] * N), values.mean())


@pytest.mark.parametrize("window", [None, 3])
def test_spike_moid_of_one_output_takes_yes_or_no(window: int | None) -> None:
    x, yes = trains(7)[:, :1], torch.tensor([1, 0, 0, 1])
    expected = functional.spike_moid(x, yes.unsqueeze(1).float(), window)
    for labels in (yes, yes.float(), yes > 0):
        torch.testing.assert_close(functional.spike_moid(x, labels, window), expected)
    per_step = yes.unsqueeze(1).expand(N, 7)
    torch.testing.assert_close(functional.spike_moid(x, per_step, window), expected)
    with pytest.raises(ValueError, match=r"targets in \[0, 1\]"):
        functional.spike_moid(x, yes + 1, window)
