"""Labels mean to ``verify`` what they mean to the losses and to ``accuracy``; none is misread without a word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from netx_export import simulate, verify
from netx_export.network.description import Affine
from netx_export.verification.output_sums import sum_outputs
from netx_export.verification.report import print_report
from netx_export.verification.result import OutputComparison


def output_of(subject: Any, labels: Any, **options: Any) -> OutputComparison:
    report = verify(None, subject.path, subject.spikes, labels, recorded=subject.run, **options)
    output = report.comparisons[0].output
    assert output is not None
    return output


def right(subject: Any, labels: Any) -> float:
    """Share of the samples whose label is predicted; silent outputs predict nothing."""
    output = subject.run["output"]
    predicted = np.where(output.any((1, 2)), output.sum(-1).argmax(1), -1)
    return float((predicted == labels).mean())


LABELS = np.arange(12) % 3


@pytest.mark.parametrize(
    ("changes", "found"), [({3: -1}, "got -1, "), ({0: 77, 5: -1}, "got -1, 77, "), ({1: 3}, "got 3, ")]
)
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.float32])
def test_a_label_that_no_output_can_have_is_refused(
    changes: dict[int, int], found: str, dtype: Any, plain: Any
) -> None:
    labels = LABELS.astype(dtype)
    for place, label in changes.items():
        labels[place] = label
    for given in (labels, torch.from_numpy(labels), labels.tolist()):
        with pytest.raises(ValueError, match=f"`labels` .*0 to 2, one for each of 3 outputs.*{found}"):
            output_of(plain, given)


def test_silence_is_right_for_no_label(small: Any) -> None:
    """-1 is what a silent output predicts."""
    subject = small()
    subject.spikes[3] = 0
    labels = np.where(np.arange(12) == 3, -1, LABELS)
    with pytest.raises(ValueError, match="got -1, which no output can have"):
        verify(None, subject.path, subject.spikes, labels, lava_samples=1)


def test_what_is_to_be_ignored_counts_for_nothing(
    plain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = LABELS.copy()
    labels[[0, 4, 5]] = -100
    kept = labels != -100

    def loss(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(output.sum(-1), label)  # NaN for an ignored sample alone

    report = verify(None, plain.path, plain.spikes, labels, recorded=plain.run, loss=loss)
    output = report.comparisons[0].output
    assert output is not None
    assert report.passed
    assert output.ignored == 3
    predicted = plain.run["output"].sum(-1).argmax(1)
    assert output.got_accuracy == (predicted[kept] == labels[kept]).mean()
    sums = torch.from_numpy(plain.run["output"].sum(-1)).float()
    assert output.got_loss == pytest.approx(float(loss(sums[..., None], torch.from_numpy(labels))))
    print_report(report.to_dict(), Console(width=200))
    assert "3 samples without a label left out" in capsys.readouterr().out
    report.save_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "3 samples without a label left out" in page
    assert "<th>-100</th>" not in page


def test_one_ignored_sample_is_one(plain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = LABELS.copy()
    labels[0] = -100
    report = verify(None, plain.path, plain.spikes, labels, recorded=plain.run)
    print_report(report.to_dict(), Console(width=200))
    report.save_html(tmp_path / "report.html")
    assert "1 sample without a label left out" in capsys.readouterr().out
    assert "1 sample without a label left out" in (tmp_path / "report.html").read_text()


def test_nothing_but_ignored_samples_has_no_accuracy(plain: Any, tmp_path: Path) -> None:
    report = verify(None, plain.path, plain.spikes, np.full(12, -100), recorded=plain.run)
    output = report.comparisons[0].output
    assert output is not None
    assert (output.expected_accuracy, output.ignored) == (None, 12)
    report.save_html(tmp_path / "report.html")
    report.to_json()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8])
def test_whole_numbers_of_any_type_are_classes(dtype: torch.dtype, plain: Any) -> None:
    output = output_of(plain, torch.from_numpy(LABELS).to(dtype))
    assert output.got_accuracy == right(plain, LABELS) > 0


def test_true_and_false_are_classes(plain: Any) -> None:
    assert output_of(plain, LABELS > 0).got_accuracy == right(plain, (LABELS > 0).astype(int))


@pytest.mark.parametrize("readout", [False, True])
def test_one_output_answers_yes_or_no(readout: bool, small: Any) -> None:
    """1 where it fires, or where what is read out of it is above 0 in sum; 0 elsewhere."""
    subject = small(Affine(np.array([[64, -64, 32]]), None)) if readout else small(outputs=1)
    subject.spikes[:5] = 0
    run = simulate(subject.path, subject.spikes)
    subject = replace(subject, run={**run.layers, "output": run.output})
    yes = subject.run["output"].sum((1, 2)) > 0
    assert 0 < yes.sum() < 12
    for labels in (yes, yes.astype(np.int64), yes.astype(np.float32)):
        assert output_of(subject, labels).got_accuracy == 1
    assert output_of(subject, ~yes).got_accuracy == 0
    labels = np.where(np.arange(12) == 2, -100, yes)
    assert output_of(subject, labels).ignored == 1
    with pytest.raises(ValueError, match=r"`labels` .*0 for no and 1 for yes.* got 2, which no output can have"):
        output_of(subject, 2 * yes)


def test_nan_is_no_class() -> None:
    output = np.zeros((2, 3, 4), np.float32)
    output[0, 0, 0] = np.nan
    output[1, 2, 1] = 1
    sums = sum_outputs(output, output, np.arange(2), torch.tensor([0, 2]), None, has_classes=True)
    assert dict(sums.confusion) == {(0, -1, -1): 1, (2, 2, 2): 1}


def test_fractions_serve_the_loss_alone(plain: Any) -> None:
    targets = LABELS / 4 + 0.1
    seen: list[float] = []
    output = output_of(plain, targets, loss=lambda output, label: seen.append(float(label)) or 0.5)
    assert seen == pytest.approx(targets.tolist())
    assert (output.got_accuracy, output.got_loss) == (None, 0.5)


@pytest.mark.parametrize("labels", [np.eye(3)[LABELS], np.eye(3, dtype=np.int64)[LABELS], np.full((12, 20), 77)])
def test_labels_of_more_axes_serve_the_loss_alone(labels: Any, plain: Any) -> None:
    shapes: list[Any] = []
    output = output_of(plain, labels, loss=lambda output, label: shapes.append((label.shape, label.dtype)) or 0.0)
    assert shapes == [(torch.Size((1, *labels.shape[1:])), torch.from_numpy(labels).dtype)] * 12
    assert output.got_accuracy is None


def test_whole_numbers_that_a_loss_aims_at_are_told_how_to_say_so(plain: Any) -> None:
    with pytest.raises(ValueError, match="Numbers that are no classes, but what a loss aims at, need a second axis"):
        output_of(plain, np.arange(12) * 100, loss=lambda output, label: 0.0)


@pytest.mark.parametrize(
    "labels",
    [
        np.full(12, np.nan),
        np.array([0.0, np.inf] * 6),
        np.zeros(12, complex),
        np.array(["0"] * 12),
        np.array([0] * 12, dtype=object),
        [[0], [0, 1]] * 6,
        np.zeros(12, "M8[s]"),
        np.zeros(11),
        np.float64(3),
        torch.zeros(12).to_sparse(),
        torch.zeros(12, dtype=torch.complex64),
        torch.zeros(12, device="meta"),
        3,
        {"labels": 3},
    ],
    ids=str,
)
def test_labels_that_are_none_are_refused(labels: Any, plain: Any) -> None:
    with pytest.raises(ValueError, match="Expected argument `labels` to "):
        output_of(plain, labels)


def test_labels_may_require_a_gradient(plain: Any) -> None:
    assert output_of(plain, torch.zeros(12, requires_grad=True)).got_accuracy == right(plain, 0)
