"""Sums of losses, tensors with time first, classifiers."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch._dynamo  # torch 2.3 fails where it is imported inside of torch.func.vmap

import lava_spikeloss as L
from lava_spikeloss import functional


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return (torch.rand(4, 3, 10) < 0.4).float(), torch.tensor([0, 2, 1, 1])


def test_arithmetic_is_the_weighted_sum(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    rate, count, bounds = L.SpikeRate(0.8, 0.1), L.CECountLoss(), L.CountBoundsLoss(upper=2)
    expected = 2 * rate(*batch) + 0.5 * count(*batch) + 0.1 * 3 * bounds(batch[0])
    for total in (
        2 * rate + count * 0.5 + 0.1 * (3 * bounds),
        L.WeightedSum((2, rate), (0.5, count), (0.3, bounds)),
        sum([count * 0.5, 0.3 * bounds], start=2 * rate),
    ):
        assert isinstance(total, L.WeightedSum)
        assert len(total.losses) == 3
        torch.testing.assert_close(total(*batch), expected)
        torch.testing.assert_close(copy.deepcopy(total)(*batch), expected)


def test_sum_takes_any_module_and_compiles(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    class Mean(torch.nn.Module):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return input.mean()

    for total in (L.CECountLoss() + Mean(), Mean() + L.CECountLoss()):
        expected = L.CECountLoss()(*batch) + batch[0].mean()
        torch.testing.assert_close(total(*batch), expected)
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(total, fullgraph=True, backend="aot_eager")(*batch), expected)


def test_weights_move_with_the_sum() -> None:
    total = 1.0 * L.CECountLoss(weight=torch.ones(3)) + L.SpikeMax()
    assert total.to(torch.float64).losses[0].weight.dtype == torch.float64


def test_pythons_sum_of_a_list(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    losses = [L.SpikeRate(0.8, 0.1), 0.5 * L.CECountLoss(), L.CountBoundsLoss(upper=2)]
    total = sum(losses)
    assert isinstance(total, L.WeightedSum)
    assert total.factors == [1.0, 0.5, 1.0]
    torch.testing.assert_close(total(*batch), sum(loss(*batch) for loss in losses))
    with pytest.raises(TypeError, match=r"unsupported operand"):
        1 + L.SpikeMax()  # type: ignore[operator]


def test_sum_errors() -> None:
    with pytest.raises(ValueError, match=r"`terms` to hold at least one \(factor, loss\) but got none"):
        L.WeightedSum()
    with pytest.raises(TypeError, match=r"`terms` to hold modules but got function"):
        L.WeightedSum((1.0, lambda x, y: x))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`factor` to be finite but got inf"):
        float("inf") * L.SpikeMax()
    with pytest.raises(TypeError, match=r"unsupported operand"):
        L.SpikeMax() + 1.0  # type: ignore[operator]


def test_time_first_moves_time_and_what_goes_with_it(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = batch
    first = x.movedim(-1, 0)
    per_step = torch.randint(3, (4, 10))
    for loss, target, moved in (
        (L.CECountLoss(), y, y),
        (L.SpikeRate(0.9, 0.1, moving_window=3), per_step, per_step.T),
        (L.SpikeMoid(), torch.nn.functional.one_hot(y, 3), torch.nn.functional.one_hot(y, 3)),
        (L.SpikeTime(), x.flip(-1), first.flip(0)),
        (L.MSETemporalLoss(target_is_time=True, multi_spike=True), x[..., :2], first[:2]),
    ):
        torch.testing.assert_close(L.TimeFirst(loss)(first, moved), loss(x, target))
    summed = 0.5 * L.TimeFirst(L.CECountLoss()) + L.TimeFirst(L.CountBoundsLoss(upper=1))
    assert summed(first, y).isfinite()
    with pytest.raises(TypeError, match=r"`loss` to be a torch.nn.Module but got str"):
        L.TimeFirst("loss")  # type: ignore[arg-type]


def test_classifiers_say_when_an_output_was_silent() -> None:
    spikes = torch.zeros(4, 3, 6)
    spikes[0, 1, 3] = 1
    spikes[1, 2, 1:3] = 1
    spikes[1, 0, 0] = 1
    spikes[2, 0, 5] = spikes[2, 1, 5] = 1  # a tie: the lower index
    assert functional.classify_rate(spikes).tolist() == [1, 2, 0, L.SILENT]
    assert functional.classify_first_spike(spikes).tolist() == [1, 0, 0, L.SILENT]
    window = functional.classify_window(spikes, 2)
    assert window.tolist()[:2] == [[-1, -1, -1, 1, 1, -1], [0, 0, 2, 2, -1, -1]]
    assert (window[3] == L.SILENT).all()
    for module, function in (
        (L.RateClassifier(), functional.classify_rate),
        (L.FirstSpikeClassifier(), functional.classify_first_spike),
    ):
        assert torch.equal(module(spikes), function(spikes))
    assert torch.equal(L.WindowClassifier(2)(spikes), window)
    grouped = spikes.repeat_interleave(2, dim=1)
    assert functional.classify_rate(grouped, population_code=True, num_classes=3).tolist() == [1, 2, 0, L.SILENT]


def test_negative_graded_spikes_are_not_silence() -> None:
    assert functional.classify_rate(torch.tensor([[[-1.0], [-2.0]]])).tolist() == [0]


@pytest.mark.parametrize(
    "classify",
    [
        functional.classify_rate,
        functional.classify_first_spike,
        pytest.param(lambda x, **k: functional.classify_membrane(x, "mean", **k), id="membrane"),
        lambda x, **k: functional.classify_window(x, 20, **k)[:, -1],
    ],
)
def test_classifiers_know_the_population_code(classify: Any) -> None:
    spikes = torch.zeros(3, 6, 6)
    spikes[0, 5, 2:5] = 1  # the second class, by its last neuron
    spikes[0, 0, 3] = 1
    spikes[1, 1, 1] = 1
    options = {"population_code": True, "num_classes": 2}
    assert classify(spikes, **options).tolist()[:2] == [1, 0]
    with pytest.raises(ValueError, match="`population_code` to be True with `num_classes=2` but got False"):
        classify(spikes, num_classes=2)
    with pytest.raises(ValueError, match="`num_classes` to divide the number of output neurons, 6, but got 4"):
        classify(spikes, population_code=True, num_classes=4)


def test_a_first_spike_of_a_group_is_that_of_its_first_neuron_whatever_its_sign() -> None:
    spikes = torch.zeros(1, 4, 5)
    spikes[0, 0, 1], spikes[0, 1, 1], spikes[0, 2, 3] = 1, -1, 1
    assert functional.classify_first_spike(spikes, population_code=True, num_classes=2).tolist() == [0]


@pytest.mark.parametrize("loss", [L.CECountLoss, L.SpikeMax, L.MSECountLoss, L.TETLoss, L.FirstSpikeLoss])
def test_a_number_of_classes_without_a_population_code_is_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match="`population_code` to be True with `num_classes=3` but got False"):
        loss(num_classes=3)


def test_the_membrane_classifier_takes_the_largest_or_the_mean_potential() -> None:
    membrane = torch.tensor([[[-2.0, 3.0, -2.0], [1.0, 1.0, 1.0]]])
    assert functional.classify_membrane(membrane).tolist() == [0]
    assert functional.classify_membrane(membrane, "mean").tolist() == [1]
    assert L.MembraneClassifier("mean")(membrane).tolist() == [1]
    with pytest.raises(ValueError, match="`over_time` to be one of 'max', 'mean' but got 'sum'"):
        L.MembraneClassifier("sum")


def test_one_output_answers_yes_or_no() -> None:
    spikes = torch.zeros(3, 1, 4)
    spikes[0, 0, 2] = 1
    for classifier in (L.RateClassifier(), L.FirstSpikeClassifier(), L.MembraneClassifier()):
        predictions = classifier(spikes)
        assert predictions.tolist() == [1, 0, 0]
        assert functional.accuracy(predictions, torch.tensor([1, 0, 1]), num_classes=1) == L.Accuracy(2, 0, 3)
    assert L.WindowClassifier(2)(spikes).tolist() == [[0, 0, 1, 1], [0] * 4, [0] * 4]
    group = L.RateClassifier(population_code=True, num_classes=1)
    assert group(spikes.expand(3, 2, 4)).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match=r"\(0 for no and 1 for yes\), or -100 .* got 2, which no output can have"):
        functional.accuracy(torch.tensor([1]), torch.tensor([2]), num_classes=1)


@pytest.mark.parametrize("value", [math.nan, -math.nan])
def test_nan_is_no_class(value: float) -> None:
    spikes = torch.zeros(2, 3, 4)
    spikes[1, 2, 1] = 1
    spikes[0, 0, 0] = value
    for classifier in (L.RateClassifier(), L.FirstSpikeClassifier(), L.WindowClassifier(2), L.MembraneClassifier()):
        with pytest.raises(ValueError, match=r"`(spikes|membrane)` to hold numbers but got NaN"):
            classifier(spikes)
        as_on_a_device = torch.func.vmap(lambda x, c=classifier: c(x.unsqueeze(0)).squeeze(0))(spikes)
        assert (as_on_a_device[0] == L.SILENT).all()
        assert (as_on_a_device[1] == 2).any()


def test_accuracies_of_batches_add_up() -> None:
    first, second = L.Accuracy(3, 1, 4), L.Accuracy(1, 0, 2)
    assert first + second == sum([first, second]) == L.Accuracy(4, 1, 6)
    with pytest.raises(TypeError):
        first + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        1 + first  # type: ignore[operator]


def test_another_label_may_be_the_one_to_ignore() -> None:
    predictions, labels = torch.tensor([0, 1, 1]), torch.tensor([0, 255, 0])
    assert functional.accuracy(predictions, labels, 3, ignore_index=255) == L.Accuracy(1, 0, 2)
    with pytest.raises(ValueError, match=r"or 255 for what is left out, but got -100, which no output can have"):
        functional.accuracy(predictions, torch.tensor([0, -100, 0]), 3, ignore_index=255)


def test_classifiers_show_their_options() -> None:
    assert repr(L.WindowClassifier(3)) == "WindowClassifier(population_code=False, num_classes=None, window=3)"
    assert "num_classes=4" in repr(L.FirstSpikeClassifier(population_code=True, num_classes=4))
    assert "over_time='max'" in repr(L.MembraneClassifier())


def test_accuracy_counts_silent_outputs_apart() -> None:
    result = functional.accuracy(torch.tensor([0, 1, -1, 2]), torch.tensor([0, 2, 0, 2]))
    assert result == L.Accuracy(correct=2, silent=1, total=4)
    assert (result.rate, result.silent_rate) == (0.5, 0.25)
    steps = functional.accuracy(torch.tensor([[0, -1], [1, 1]]), torch.tensor([0, 0]))
    assert steps == L.Accuracy(correct=1, silent=1, total=4)
    with pytest.raises(ValueError, match=r"`labels` to have shape \(2, 2\) or \(2,\) but got \(3,\)"):
        functional.accuracy(torch.zeros(2, 2), torch.zeros(3))
    with pytest.raises(TypeError, match=r"`labels` to be a torch.Tensor but got list"):
        functional.accuracy(torch.zeros(2), [0, 1])  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.float32, torch.float64])
def test_a_label_that_no_output_can_have_is_refused(dtype: torch.dtype) -> None:
    """A silent output predicts -1, and a label of -1 would make that right."""
    predictions = torch.tensor([-1, 3, 0])
    with pytest.raises(ValueError, match=r"`labels` .* got -1, which no output can have \(1 of 3 labels\)"):
        functional.accuracy(predictions, torch.tensor([-1, 3, 0], dtype=dtype))
    with pytest.raises(ValueError, match=r"0 to 9, one for each of 10 outputs.* got -2, 77, which no output can have"):
        functional.accuracy(predictions, torch.tensor([77, 3, -2], dtype=dtype), num_classes=10)
    assert functional.accuracy(predictions, torch.tensor([9, 3, 0], dtype=dtype), num_classes=10).correct == 2


def test_what_is_to_be_ignored_is_neither_right_nor_wrong() -> None:
    predictions = torch.tensor([-1, 3, 0, 2])
    result = functional.accuracy(predictions, torch.tensor([-100, 3, -100, 1]))
    assert result == L.Accuracy(correct=1, silent=0, total=2)
    steps = functional.accuracy(torch.tensor([[0, -1], [1, 1]]), torch.tensor([-100, 1]))
    assert steps == L.Accuracy(correct=2, silent=0, total=2)
    nothing = functional.accuracy(predictions, torch.full((4,), -100))
    assert nothing.total == 0
    assert math.isnan(nothing.rate)
    assert math.isnan(nothing.silent_rate)


@pytest.mark.parametrize("labels", [[0.5, 1.0], [float("nan"), 1.0], [float("inf"), 0.0]])
def test_labels_that_are_no_whole_numbers_are_refused(labels: list[float]) -> None:
    with pytest.raises(ValueError, match="`labels` to hold whole class indices but got fractions or NaN"):
        functional.accuracy(torch.tensor([0, 1]), torch.tensor(labels))


def test_complex_labels_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`labels` to hold class indices but got torch\.complex64"):
        functional.accuracy(torch.tensor([0, 1]), torch.tensor([0, 1j]))
