"""What passes was compared, on every sample, and gave something: a pass says no more than was seen."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from netx_export import SimulationError, Tolerance, verify
from netx_export import verify as verify_function
from netx_export.network.description import Affine
from netx_export.verification.report import print_report, save_html, verdict_text
from netx_export.verification.verify import VerificationReport

VERIFY = sys.modules[verify_function.__module__]


def printed(report: VerificationReport, capsys: pytest.CaptureFixture[str]) -> str:
    print_report(report.to_dict(), Console(width=200))
    return capsys.readouterr().out


def page(report: VerificationReport, tmp_path: Path) -> str:
    save_html(json.loads(report.to_json()), tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def compare(subject: Any, recorded: Any, **options: Any) -> VerificationReport:
    return verify(None, subject.path, subject.spikes, recorded=recorded, **options)


class TestSilence:
    def test_an_output_of_nothing_but_zeros_is_untested(
        self, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every layer spikes, but the weights of the readout are 0: any other readout of zeros would do the same."""
        subject = small(Affine(np.zeros((2, 3), np.int64), None))
        report = compare(subject, subject.run)
        (comparison,) = report.comparisons
        assert [layer.status for layer in comparison.layers] == ["exact", "exact"]
        assert comparison.output is not None
        assert comparison.output.status == "untested"
        assert report.exact
        assert not report.passed
        sentence = "the output gave nothing but zeros, so nothing is known of it."
        assert sentence in verdict_text(report.to_dict())
        assert sentence in page(report, tmp_path)
        assert "UNTESTED output: 0 values differ" in printed(report, capsys)

    def test_an_output_that_gives_something_is_tested(self, with_readout: Any) -> None:
        report = compare(with_readout, with_readout.run)
        assert report.passed
        assert report.comparisons[0].output is not None
        assert report.comparisons[0].output.status == "exact"


class TestStoppingEarly:
    @pytest.fixture(autouse=True)
    def small_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(VERIFY, "_CHUNK_SAMPLES", 3)

    def wrong_at_the_end(self, subject: Any) -> dict[str, Any]:
        """One spike too many in the first sample, and a layer that is wrong everywhere from the fourth on."""
        layer = subject.run["dense1"].copy()
        layer[0, 0, 0] ^= 1
        layer[3:] = 1 - layer[3:]
        return subject.changed(dense1=layer)

    @pytest.mark.parametrize("tolerance", [Tolerance(rate=0.05), {"dense1": Tolerance(rate=0.05)}])
    def test_a_tolerance_is_kept_by_all_samples_or_not_at_all(self, plain: Any, tolerance: Any) -> None:
        report = compare(plain, self.wrong_at_the_end(plain), tolerance=tolerance, stop_early=True)
        assert not report.passed
        assert report.comparisons[0].samples == 12
        assert not report.comparisons[0].stopped

    def test_within_the_tolerance_all_samples_have_run(self, plain: Any) -> None:
        layer = plain.run["dense1"].copy()
        layer[0, 0, 0] ^= 1
        report = compare(plain, plain.changed(dense1=layer), tolerance=Tolerance(rate=0.05), stop_early=True)
        assert report.passed
        assert report.comparisons[0].samples == 12

    @pytest.mark.parametrize(
        "tolerance",
        [None, {"dense2": Tolerance(rate=0.9)}, Tolerance(value=0.5), Tolerance(value=0.5, rate=1.0)],
    )
    def test_it_stops_where_nothing_can_make_it_pass(self, plain: Any, tolerance: Any) -> None:
        report = compare(plain, self.wrong_at_the_end(plain), tolerance=tolerance, stop_early=True)
        assert report.comparisons[0].stopped
        assert report.comparisons[0].samples == 3
        assert not report.passed
        assert verdict_text(report.to_dict()).startswith("1 spikes of layer dense1 differ")

    def test_an_output_without_a_tolerance_stops_it(self, with_readout: Any) -> None:
        output = with_readout.run["output"].copy()
        output[0, 0, 0] += 1
        tolerance = {"dense1": Tolerance(rate=0.5)}
        report = compare(with_readout, with_readout.changed(output=output), tolerance=tolerance, stop_early=True)
        assert report.comparisons[0].samples == 3
        assert not report.passed


class TestRecordingsOfAPart:
    @pytest.mark.parametrize(
        ("held", "left_out"),
        [
            (["dense1"], ["dense2", "output"]),
            (["dense2"], ["dense1"]),
            (["output"], ["dense1"]),
            (["dense1", "dense2"], []),
        ],
    )
    def test_what_is_missing_is_listed(
        self, held: list[str], left_out: list[str], plain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = compare(plain, {name: plain.run[name] for name in held})
        assert report.passed
        assert report.exact
        self.check_texts(report, left_out, tmp_path, capsys)

    @pytest.mark.parametrize(
        ("held", "left_out"),
        [
            (["output"], ["dense1", "dense2"]),
            (["dense1"], ["dense2", "output"]),
            (["dense2"], ["dense1", "output"]),
            (["dense1", "output"], ["dense2"]),
        ],
    )
    def test_a_readout_is_no_layer(
        self,
        held: list[str],
        left_out: list[str],
        with_readout: Any,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        report = compare(with_readout, {name: with_readout.run[name] for name in held})
        assert report.passed
        self.check_texts(report, left_out, tmp_path, capsys)

    @staticmethod
    def check_texts(
        report: VerificationReport, left_out: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (comparison,) = json.loads(report.to_json())["comparisons"]
        listed = [*comparison["unrecorded"], *(["output"] if comparison["no_output"] else [])]
        assert listed == left_out
        assert (comparison["output"] is None) == ("output" in left_out)
        terminal, html = printed(report, capsys), page(report, tmp_path)
        for name in left_out:
            assert f"SKIPPED  {name}: not compared, since the recording does not hold it" in terminal
            assert f"Not compared: {name}" in html
        verdict = terminal.splitlines()[-1]
        if left_out:
            assert "every layer" not in verdict
            assert verdict.endswith(f"not compared: {', '.join(left_out)} (between reference and recording).")
        else:
            assert verdict == "PASSED   every spike of every layer is equal."
        assert verdict.removeprefix("PASSED   ") in html

    def test_an_output_alone_that_differs_blames_nothing(self, with_readout: Any) -> None:
        """The layers before it are not known, so that it need not be the host."""
        output = with_readout.run["output"].copy()
        output[1, 0, 5] += 1
        report = compare(with_readout, {"output": output})
        assert not report.passed
        cause = report.comparisons[0].cause
        assert cause is not None
        assert cause.name == "not found"
        assert "dense1, dense2 is not in the recording" in cause.detail
        whole = compare(with_readout, with_readout.changed(output=output)).comparisons[0].cause
        assert whole is not None
        assert whole.name == "readout on the host"

    def test_a_layer_that_differs_behind_one_that_is_not_known(self, plain: Any) -> None:
        layer = plain.run["dense2"].copy()
        layer[1, 0, 5] ^= 1
        cause = compare(plain, {"dense2": layer}).comparisons[0].cause
        assert cause is not None
        assert "taken for granted that dense1, not in the recording, is equal" in cause.detail

    def test_a_recording_that_is_neither_arrays_nor_a_path(self, plain: Any) -> None:
        with pytest.raises(TypeError, match="`recorded` to be a mapping from names of layers to arrays, or the path"):
            compare(plain, [plain.run])
        with pytest.raises(SimulationError, match="spikes of dense1 to be an array of numbers"):
            compare(plain, {"dense1": [[1], [1, 0]]})
        with pytest.raises(SimulationError, match=r"holds \['3'\]"):
            compare(plain, {3: plain.run["dense1"]})

    def test_numbers_that_no_sum_can_be_are_refused(self, with_readout: Any) -> None:
        """Squared, they would leave the range of floating point, after everything had run."""
        with pytest.raises(SimulationError, match="of output to be finite numbers that float32 can hold"):
            compare(with_readout, {"output": np.full_like(with_readout.run["output"], 1e300, np.float64)})


class TestTolerances:
    """A tolerance accepts what it asks about, and nothing else."""

    def test_an_output_is_not_covered_by_what_layers_may_do(self, with_readout: Any) -> None:
        output = with_readout.run["output"] + 1000
        recorded = with_readout.changed(output=output)
        for tolerance in (Tolerance(rate=0.5), {"dense2": Tolerance(rate=0.5)}, {"dense2": Tolerance(value=1.0)}):
            report = compare(with_readout, recorded, tolerance=tolerance)
            assert not report.passed
            assert verdict_text(report.to_dict()).endswith(
                "values of the output differ between reference and recording."
            )
        assert compare(with_readout, recorded, tolerance={"output": Tolerance(value=1000.0)}).passed
        assert not compare(with_readout, recorded, tolerance={"output": Tolerance(value=999.0)}).passed

    def test_an_output_in_another_order_than_the_last_layer(self, plain: Any) -> None:
        """Its layers are equal, so no statistic of a layer has anything against it."""
        recorded = plain.changed(output=plain.run["output"][:, ::-1])
        assert not compare(plain, recorded).passed
        assert not compare(plain, recorded, tolerance=Tolerance(rate=0.5)).passed
        assert not compare(plain, recorded, tolerance={"dense2": Tolerance(rate=0.5)}).passed

    def test_spikes_of_the_last_layer_are_covered_as_the_output_too(self, plain: Any) -> None:
        layer = plain.run["dense2"].copy()
        layer[0, 0, 0] ^= 1
        recorded = plain.changed(dense2=layer, output=None)
        for tolerance in (Tolerance(rate=0.5), {"dense2": Tolerance(rate=0.5)}):
            report = compare(plain, recorded, tolerance=tolerance)
            assert report.passed
            assert not report.exact

    def test_accuracy_is_not_kept_by_an_output_that_was_not_compared(self, plain: Any) -> None:
        layer = 1 - plain.run["dense1"]
        labels = np.arange(12) % 3
        for tolerance in (Tolerance(accuracy=1.0), Tolerance(rate=1.0, accuracy=1.0)):
            assert not compare(plain, {"dense1": layer}, labels=labels, tolerance=tolerance).passed
            whole = compare(plain, plain.changed(dense1=layer), labels=labels, tolerance=tolerance)
            assert whole.passed
            assert not compare(plain, plain.changed(dense1=layer), tolerance=tolerance).passed  # nobody knows it
        by_name = {"dense1": Tolerance(rate=1.0), "output": Tolerance(accuracy=1.0)}
        assert not compare(plain, {"dense1": layer}, labels=labels, tolerance=by_name).passed

    @pytest.mark.parametrize(
        ("name", "tolerance", "message"),
        [
            ("dense1", Tolerance(accuracy=0.1), "asks accuracy of dense1, which only the output has"),
            ("output", Tolerance(rate=0.1), "asks rate of output, which only layers have"),
        ],
    )
    def test_statistics_that_do_not_exist_are_refused(
        self, name: str, tolerance: Tolerance, message: str, plain: Any
    ) -> None:
        with pytest.raises(ValueError, match=message):
            compare(plain, plain.run, tolerance={name: tolerance})

    @pytest.mark.slayer
    def test_nan_is_within_no_tolerance(self, mlp: Any) -> None:
        spoil = mlp.net[-1].register_forward_hook(lambda module, args, output: output * math.nan)
        try:
            with pytest.raises(SimulationError, match="The network gives NaN or infinity in dense3"):
                verify(mlp.net, mlp.path, mlp.spikes, lava_samples=0, tolerance=Tolerance(value=1.0))
        finally:
            spoil.remove()


class TestLosses:
    LABELS = np.arange(12) % 3

    def loss_of(self, first: float) -> Any:
        """A loss that is ``first`` on the sample of label 0, and 1 on others."""
        return lambda output, label: torch.tensor(first if int(label) == 0 else 1.0)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_one_that_is_not_finite_is_counted_and_written(
        self, value: float, plain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report = compare(plain, plain.run, labels=self.LABELS, loss=self.loss_of(value))
        assert report.passed  # nothing was asked of it
        output = json.loads(report.to_json())["comparisons"][0]["output"]
        assert (output["unbounded_losses"], output["expected_loss"], output["got_loss"]) == (4, None, None)
        assert "loss infinite or NaN in 4 samples" in printed(report, capsys)
        assert "loss infinite or NaN in 4 samples" in page(report, tmp_path)

    def test_one_that_is_not_finite_keeps_no_tolerance(self, plain: Any) -> None:
        options = {"labels": self.LABELS, "loss": self.loss_of(math.nan)}
        for tolerance in (Tolerance(loss=1.0), {"output": Tolerance(loss=1.0)}):
            report = compare(plain, plain.run, tolerance=tolerance, **options)
            assert not report.passed
            assert "the output has no finite loss in 4 samples" in verdict_text(report.to_dict())
            report.to_json()
        different = plain.changed(dense2=1 - plain.run["dense2"], output=None)
        assert not compare(plain, different, tolerance=Tolerance(loss=1.0, rate=1.0), **options).passed

    def test_losses_that_add_up_to_infinity(self, plain: Any) -> None:
        report = compare(plain, plain.run, labels=self.LABELS, loss=lambda *_: 1.7e308)
        assert report.comparisons[0].output is not None
        assert report.comparisons[0].output.expected_loss == pytest.approx(1.7e308)
        signs = iter([-1.7e308] * 12 + [1.7e308] * 12)
        different = plain.changed(dense2=1 - plain.run["dense2"], output=None)
        report = compare(plain, different, labels=self.LABELS, loss=lambda *_: next(signs))
        report.to_json()

    @pytest.mark.parametrize(
        ("loss", "error", "message"),
        [
            (lambda output, label: output.nonsense, ValueError, "`loss` raised AttributeError for sample 0"),
            (lambda output: output.sum(), ValueError, "`loss` raised TypeError for sample 0"),
            (
                lambda output, label: output,
                TypeError,
                r"to return one real number for sample 0.* got shape \(1, 3, 20\)",
            ),
            (lambda output, label: None, TypeError, "to return one real number for sample 0.* got NoneType"),
            (lambda output, label: "1.0", TypeError, "to return one real number for sample 0.* got str"),
            (lambda output, label: torch.tensor(1j), TypeError, "to return one real number for sample 0.* got complex"),
            (lambda output, label: True, TypeError, "to return one real number for sample 0.* got bool"),
            (lambda output, label: torch.zeros((), device="meta"), TypeError, "one real number for sample 0"),
            (3, TypeError, "`loss` to be a function of output and labels but got 3"),
        ],
    )
    def test_one_that_fails_is_named(self, loss: Any, error: type[Exception], message: str, plain: Any) -> None:
        with pytest.raises(error, match=message):
            compare(plain, plain.run, labels=self.LABELS, loss=loss)

    def test_one_without_labels_is_refused(self, plain: Any) -> None:
        with pytest.raises(ValueError, match="`loss` needs `labels`"):
            compare(plain, plain.run, loss=self.loss_of(1.0))

    def test_a_whole_number_beyond_all_floats_is_not_finite(self, plain: Any) -> None:
        report = compare(plain, plain.run, labels=self.LABELS, loss=lambda *_: 10**400)
        assert report.comparisons[0].output is not None
        assert report.comparisons[0].output.unbounded_losses == 12

    def test_both_runs_get_the_labels_as_they_are(self, plain: Any) -> None:
        seen = []

        def counting_from_one(output: torch.Tensor, label: torch.Tensor) -> float:
            seen.append(label.item())
            return float(label.sub_(1))

        different = plain.changed(dense2=1 - plain.run["dense2"], output=None)
        compare(plain, different, labels=self.LABELS, loss=counting_from_one)
        assert seen == 2 * self.LABELS.tolist()

    def test_it_may_do_with_the_output_what_it_likes(self, with_readout: Any) -> None:
        before = with_readout.changed()
        recorded = {name: array.astype(np.float32) for name, array in before.items()}
        report = compare(
            with_readout, recorded, labels=self.LABELS % 2, loss=lambda output, label: output.zero_().sum()
        )
        assert report.passed
        assert all(np.array_equal(recorded[name], before[name]) for name in before)


def test_a_file_that_is_replaced_meanwhile_proves_nothing(plain: Any, tmp_path: Path) -> None:
    content = plain.path.read_bytes()

    def replacing(output: torch.Tensor, label: torch.Tensor) -> float:
        plain.path.write_bytes(content + b"\0")
        return 0.0

    with pytest.raises(SimulationError, match="changed while it was verified"):
        compare(plain, plain.run, labels=np.zeros(12), loss=replacing)
