"""Samples of different lengths in one batch: each costs what it costs alone, and its padding may be anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from loss_cases import CASES, WEIGHTED, Case
from loss_references import C, N, T

import lava_spikeloss as L
from lava_spikeloss import functional

LENGTHS = [4, T, 4]
PAIRS = [case for case in CASES if case.name.startswith("SpikeSimilarity")]
ONE_BY_ONE = [case for case in CASES if case.reducible and case not in PAIRS]
LABELLED = [case for case in ONE_BY_ONE if case.labelled]
WITH_STEPS = [case for case in LABELLED if not case.name.startswith(("STCA", "MSEMembrane"))]
# These would not fit into a train of four steps.
SHORT = {"SpikeTime-region": {"stop": 4}, "RegionCount": {"stop": 4}}


def for_each(cases: list[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def trial(case: Case, x: torch.Tensor, target: torch.Tensor | None, n: int, **options: Any) -> torch.Tensor:
    """The loss of one sample alone, cut to its length."""
    train = x[n : n + 1, ..., : LENGTHS[n]]
    given = [] if target is None else [target[n : n + 1]]
    if target is not None and target.dim() > 1 and target.shape[-1] == T:
        given = [target[n : n + 1, ..., : LENGTHS[n]]]
    extra = {
        name: tensor[n : n + 1, ..., : LENGTHS[n]] if tensor.dim() == 3 else tensor
        for name, tensor in case.extra.items()
    }
    return case.functional(train, *given, **extra, **{**case.options, **options})


def padding(x: torch.Tensor, value: float) -> torch.Tensor:
    x = x.clone()
    for n, length in enumerate(LENGTHS):
        x[n, ..., length:] = value
    return x


@for_each(ONE_BY_ONE)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_batch_is_its_samples_one_by_one(case: Case, reduction: str, as_tensor: bool) -> None:
    options = SHORT.get(case.name, {})
    lengths = torch.tensor(LENGTHS) if as_tensor else LENGTHS
    x = padding(case.input(), 7.0).requires_grad_()
    target = case.target
    if target is not None and target.dim() == 3:
        target = padding(target, 7.0)
    given = (x,) if target is None else (x, target)
    loss = case(*given, reduction=reduction, lengths=lengths, **options)
    alone = [trial(case, x, target, n, reduction=reduction, **options) for n in range(N)]
    if reduction == "none":
        expected = torch.cat(
            [F.pad(one, (0, loss.shape[-1] - one.shape[-1])) if one.dim() > 1 else one for one in alone]
        )
    else:
        expected = torch.stack(alone).mean() if reduction == "mean" else torch.stack(alone).sum()
    torch.testing.assert_close(loss, expected)
    (slope,) = torch.autograd.grad(loss.sum(), x, retain_graph=True)
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), x)[0])
    assert all((slope[n, ..., length:] == 0).all() for n, length in enumerate(LENGTHS))


@for_each(WITH_STEPS)
@pytest.mark.parametrize("inside", [False, True], ids=["whole", "some steps left out"])
def test_labels_per_step_end_with_their_sample(case: Case, inside: bool) -> None:
    options = SHORT.get(case.name, {})
    classes = 2 if case.extra else C
    labels = torch.randint(classes, (N, T), generator=torch.Generator().manual_seed(0))
    if inside:
        labels[1, 2:4] = -100
        labels[2, 0] = -100
    x = padding(case.input(), 7.0)
    for reduction in ("mean", "sum"):
        alone = torch.stack([trial(case, x, labels, n, reduction=reduction, **options) for n in range(N)])
        for value in (-100, 99):
            given = padding(labels, value)
            loss = case(x, given, reduction=reduction, lengths=LENGTHS, **options)
            torch.testing.assert_close(loss, alone.mean() if reduction == "mean" else alone.sum())


@for_each([case for case in WEIGHTED if case.name != "TET-lambda"])
def test_class_weights_weigh_the_samples(case: Case) -> None:
    """As without lengths: a mean is divided by the sum of the samples' weights."""
    weight, x = torch.tensor([0.5, 1.0, 2.0, 0.25], dtype=torch.float64), case.input()
    loss = case(x, case.target, weight=weight, lengths=LENGTHS, reduction="mean")
    alone = torch.stack([trial(case, x, case.target, n, weight=weight, reduction="sum") for n in range(N)])
    elements = case(x, case.target, reduction="none")[0].numel()
    torch.testing.assert_close(loss, alone.sum() / (elements * weight[case.target].sum()))


def test_class_weights_of_tet_are_those_of_its_first_term() -> None:
    x, labels, options = torch.rand(N, C, T), torch.tensor([0, 1, 2]), {"weight": torch.rand(C), "lengths": LENGTHS}
    ce, pull = functional.tet_loss(x, labels, **options), functional.tet_loss(x, labels, lam=1.0, lengths=LENGTHS)
    torch.testing.assert_close(functional.tet_loss(x, labels, lam=0.3, **options), 0.7 * ce + 0.3 * pull)


@pytest.mark.parametrize("name", ["ce_rate_loss", "mse_membrane_loss"])
def test_class_weights_of_steps_weigh_their_steps(name: str) -> None:
    weight, labels = torch.tensor([0.5, 1.0, 2.0, 0.25], dtype=torch.float64), torch.randint(C, (N, T))
    x, options = torch.rand(N, C, T, dtype=torch.float64), {"time_var_targets": True} if "membrane" in name else {}
    function, each, weights = getattr(functional, name), [], []
    for n, length in enumerate(LENGTHS):
        one, its = x[n : n + 1, :, :length], labels[n : n + 1, :length]
        each.append(function(one, its, weight=weight, reduction="none", label_form="indices", **options).mean())
        weights.append(weight[its].mean())
    loss = function(x, labels, weight=weight, lengths=LENGTHS, **options)
    torch.testing.assert_close(loss, torch.stack(each).sum() / torch.stack(weights).sum())


def test_samples_that_are_left_out_do_not_count_in_a_mean_over_samples() -> None:
    x, labels = torch.rand(N, C, T), torch.tensor([2, -100, 1])
    kept = [functional.ce_rate_loss(x[n : n + 1, :, : LENGTHS[n]], labels[n : n + 1]) for n in (0, 2)]
    torch.testing.assert_close(functional.ce_rate_loss(x, labels, lengths=LENGTHS), torch.stack(kept).mean())


def test_a_sample_as_long_as_there_are_classes_is_read_as_the_batch_is() -> None:
    x, labels = torch.rand(N, C, T), torch.randint(2, (N, T))
    alone = [
        functional.ce_rate_loss(x[n : n + 1, :, :l], labels[n : n + 1, :l], label_form="indices")
        for n, l in enumerate(LENGTHS)  # noqa: E741
    ]
    for given in (labels, labels.float()):
        torch.testing.assert_close(functional.ce_rate_loss(x, given, lengths=LENGTHS), torch.stack(alone).mean())


def test_padding_does_not_say_what_labels_are() -> None:
    x, labels = torch.rand(N, T, T), torch.randint(2, (N, T))
    for value in (-100, 5):
        with pytest.raises(ValueError, match="has two readings"):
            functional.ce_rate_loss(x, padding(labels, value), lengths=LENGTHS)


@for_each(PAIRS)
def test_similarity_counts_what_comes_after_the_end_as_silence(case: Case) -> None:
    x = case.input()
    torch.testing.assert_close(case(padding(x, 7.0), case.target, lengths=LENGTHS), case(padding(x, 0.0), case.target))


def test_information_is_of_the_potentials_before_the_end() -> None:
    membrane = torch.rand(N, C, T)
    mean = torch.cat([membrane[n, :, :length].flatten() for n, length in enumerate(LENGTHS)]).mean()
    loss = functional.information_maximization_loss(padding(membrane, 9.0), 0.2, lengths=LENGTHS)
    torch.testing.assert_close(loss, (mean - 0.2) ** 2)


def test_target_times_count_from_the_end_of_their_sample() -> None:
    spikes = torch.zeros(N, 1, T)
    for n, length in enumerate(LENGTHS):
        spikes[n, 0, length - 1] = 1
    for times in (torch.tensor([-1.0]), torch.full((N, 1), -1.0)):
        assert functional.mse_temporal_loss(spikes, times, target_is_time=True, lengths=LENGTHS) == 0


def test_positions_of_tet_and_their_labels_end_with_their_sample() -> None:
    x, labels = torch.rand(N, C, 2, T), torch.randint(C, (N, 2, T))
    labels[1, 0, :3] = -100
    for target in (labels, labels[..., 5], labels[:, 1]):
        alone = [
            functional.tet_loss(
                x[n : n + 1, ..., :l],
                target[n : n + 1, ..., :l] if target.shape[-1] == T else target[n : n + 1],
                label_form="indices",
            )
            for n, l in enumerate(LENGTHS)  # noqa: E741
        ]
        torch.testing.assert_close(functional.tet_loss(x, target, lengths=LENGTHS), torch.stack(alone).mean())


@pytest.mark.parametrize("lam", [0.0, 0.4])
@pytest.mark.parametrize("lengths", [[4, 2], [3, 4], [3, 3], [2, 2]])
def test_positions_of_tet_are_told_from_steps_by_the_whole_batch(lengths: list[int], lam: float) -> None:
    """Samples that are cut to as many steps as there are positions are read as the others are."""
    x, positions, steps = torch.rand(2, 5, 3, 4), torch.randint(2, 5, (2, 3)), torch.randint(2, 5, (2, 4))
    for labels in (positions, steps):
        everywhere = labels.unsqueeze(-1).expand(2, 3, 4) if labels is positions else steps.unsqueeze(1).expand(2, 3, 4)
        expected = functional.tet_loss(x, everywhere, lam, lengths=lengths)
        torch.testing.assert_close(functional.tet_loss(x, labels, lam, lengths=lengths), expected)


@pytest.mark.parametrize("lengths", [None, [4, 2], [3, 3]])
def test_positions_of_tet_that_could_be_steps_are_refused_at_any_length(lengths: list[int] | None) -> None:
    x, labels = torch.rand(2, 5, 4, 4), torch.randint(2, 5, (2, 4))
    with pytest.raises(ValueError, match="two readings: class indices of 4 positions, and of T=4 steps"):
        functional.tet_loss(x, labels, lengths=lengths)


MODULES = ("SpikeRate", "CountBounds", "InformationMaximization")


@for_each([*PAIRS, *[case for case in CASES if case.name in MODULES]])
def test_modules_take_lengths(case: Case) -> None:
    given = case.arguments(case.input())
    torch.testing.assert_close(case.build()(*given, lengths=LENGTHS), case(*given, lengths=LENGTHS))


def test_the_module_with_a_readout_takes_lengths() -> None:
    x, labels = torch.rand(N, C, T), torch.tensor([0, 1, 1])
    module = L.DECOLLELoss(C, 2)
    expected = functional.decolle_loss(x, labels, module.readout, lengths=LENGTHS)
    torch.testing.assert_close(module(x, labels, lengths=LENGTHS), expected)
    assert not torch.isclose(module(x, labels), expected)


def test_sums_and_time_first_pass_lengths_on() -> None:
    x, labels = torch.rand(N, C, T), torch.tensor([0, 1, 2])
    total = L.CECountLoss() + 0.5 * L.CountBoundsLoss(upper=1)
    expected = functional.ce_count_loss(x, labels, lengths=LENGTHS) + 0.5 * functional.count_bounds_loss(
        x, upper=1, lengths=LENGTHS
    )
    torch.testing.assert_close(total(x, labels, lengths=LENGTHS), expected)
    torch.testing.assert_close(L.TimeFirst(total)(x.movedim(-1, 0), labels, lengths=torch.tensor(LENGTHS)), expected)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([4, 5], ValueError, "`lengths` to hold a length for each of 3 samples but got 2"),
        ([4, 5, 7], ValueError, "`lengths` to hold at most T=6 steps but got 7"),
        ([4, 5, 0], ValueError, "`lengths` to be at least 1 but got 0"),
        ([4, 5, 2.0], TypeError, "`lengths` to be an integer but got float"),
        (torch.ones(3), TypeError, "`lengths` to be an integer but got float"),
    ],
)
def test_impossible_lengths_are_an_error(lengths: Any, error: type[Exception], message: str) -> None:
    x, labels = torch.rand(N, C, T), torch.tensor([0, 1, 2])
    for call in (
        lambda: functional.ce_count_loss(x, labels, lengths=lengths),
        lambda: functional.spike_similar_loss(x, labels, lengths=lengths),
        lambda: functional.information_maximization_loss(x, lengths=lengths),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("ce_count_loss", {"population_code": True}, ValueError, "`num_classes` to be given with"),
        ("ce_rate_loss", {"population_code": True, "num_classes": 2.0}, TypeError, "`num_classes` to be an integer"),
        ("ce_rate_loss", {"label_form": "classes"}, ValueError, "`label_form` to be one of None, 'indices'"),
        ("ce_rate_loss", {"reduction": "median"}, ValueError, "`reduction` to be one of"),
        ("decolle_loss", {"readout": [[1.0]]}, TypeError, "`readout` to be a"),
        ("decolle_loss", {"readout": torch.tensor(1.0)}, ValueError, r"`readout` to have shape \(C, \w\) but got \(\)"),
        ("decolle_loss", {"readout": torch.ones(C)}, ValueError, r"`readout` to have shape \(C, "),
    ],
)
def test_options_are_checked_before_samples_are_cut(
    name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    x, labels = torch.rand(N, C, T), torch.tensor([0, 1, 2])
    for lengths in (None, LENGTHS):
        with pytest.raises(error, match=message):
            getattr(functional, name)(x, labels, **options, lengths=lengths)
