"""Sums of losses, tensors with time first, classifiers."""

from __future__ import annotations

import copy
import math

import pytest
import torch

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
