"""What is compared under the name of output is what the network returns, or the report says that it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from netx_export import ExportError, Tolerance, simulate, verify
from netx_export.verification.report import print_report, verdict_text

pytestmark = pytest.mark.slayer


class Returning(nn.Module):
    """The blocks, and what is made of their spikes afterwards."""

    def __init__(self, blocks: nn.Module, after: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.blocks = blocks
        self.after = after

    def forward(self, x: torch.Tensor) -> Any:
        return self.after(self.blocks(x))


OTHER_OUTPUTS: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "four of five outputs": (lambda spikes: spikes[:, [4, 3, 2, 1]], "(16, 4, 24)"),
    "rates": (lambda spikes: spikes.mean(-1), "(16, 5)"),
    "a window": (lambda spikes: spikes[..., 4:], "(16, 5, 20)"),
    "classes in pairs": (lambda spikes: spikes.repeat(1, 2, 1), "(16, 10, 24)"),
    "predictions": (lambda spikes: spikes.sum(-1).argmax(1), "(16,)"),
}


@pytest.mark.parametrize("kind", OTHER_OUTPUTS)
def test_an_output_that_the_file_does_not_have_is_not_compared(
    kind: str, mlp: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    after, shape = OTHER_OUTPUTS[kind]
    net = Returning(mlp.net, after)
    recorded = simulate(mlp.path, mlp.spikes).layers
    report = verify(net, mlp.path, mlp.spikes, mlp.labels, recorded=recorded, loss=lambda output, label: output.sum())
    assert report.passed  # of the layers, every one of which is equal
    trained, replayed = json.loads(report.to_json())["comparisons"]
    assert trained["output"] is None
    assert shape in trained["no_output"]
    # The file's output is no prediction of this network, wherever it was made.
    output = replayed["output"]
    assert output["differing"] == 0
    assert {output[name] for name in ("expected_accuracy", "got_loss", "changed_predictions")} == {None}
    assert output["confusion"] == []
    print_report(report.to_dict(), Console(width=300))
    terminal = capsys.readouterr().out
    report.save_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    said = f"the network returns an output of shape {shape} and the file one of (16, 5, 24); its last layer is compared"
    assert f"SKIPPED  output: not compared, since {said}" in terminal
    assert said in page
    for text in (terminal, page):
        assert "accuracy" not in text
        assert "predictions changed" not in text
    assert "every layer" not in verdict_text(report.to_dict())
    assert verdict_text(report.to_dict()).endswith("not compared: output (between SLAYER and reference).")


def test_an_output_of_the_same_shape_in_another_order_differs(mlp: Any) -> None:
    net = Returning(mlp.net, lambda spikes: spikes.flip(1))
    for tolerance in (None, Tolerance(rate=0.5), {"dense3": Tolerance(rate=0.5)}):
        report = verify(net, mlp.path, mlp.spikes, mlp.labels, lava_samples=0, tolerance=tolerance)
        output = report.comparisons[0].output
        assert output is not None
        assert not report.passed
        with torch.no_grad():
            predicted = mlp.net.eval()(mlp.spikes).flip(1)
        assert output.differing == int((predicted != mlp.net(mlp.spikes)).sum())
        silent = ~predicted.flatten(1).any(1)
        right = (predicted.sum(-1).argmax(1) == mlp.labels) & ~silent
        assert output.expected_accuracy == right.float().mean().item()


def test_the_network_returns_spikes_and_more(mlp: Any) -> None:
    net = Returning(mlp.net, lambda spikes: (spikes, spikes.sum(-1)))
    report = verify(net, mlp.path, mlp.spikes, mlp.labels, lava_samples=0)
    assert report.passed
    assert report.comparisons[0].output is not None
    assert verdict_text(report.to_dict()) == "every spike of every layer is equal."


@pytest.mark.parametrize(
    "after",
    [
        lambda spikes: {"spikes": spikes},
        lambda spikes: None,
        lambda spikes: "spikes",
        lambda spikes: spikes[:3],
        lambda spikes: spikes + 1j,
        lambda spikes: spikes.to_sparse(),
        lambda spikes: spikes.to("meta"),
        lambda spikes: torch.quantize_per_tensor(spikes, 1.0, 0, torch.quint8),
        lambda spikes: torch.nested.nested_tensor(list(spikes)),
    ],
)
def test_what_is_no_tensor_is_no_output(after: Any, mlp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report = verify(Returning(mlp.net, after), mlp.path, mlp.spikes, mlp.labels, lava_samples=0)
    assert report.passed
    assert report.comparisons[0].output is None
    print_report(report.to_dict(), Console(width=300))
    terminal = capsys.readouterr().out
    assert (
        "SKIPPED  output: not compared, since the network returns something else than a tensor with a row" in terminal
    )
    assert "accuracy" not in terminal


def test_an_output_that_is_another_one_in_some_batches_is_not_compared(
    mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of the samples that are left over may be smaller, and what was equal in the others is not all."""
    import sys

    monkeypatch.setattr(sys.modules[verify.__module__], "_CHUNK_SAMPLES", 10)
    net = Returning(mlp.net, lambda spikes: spikes if len(spikes) == 10 else spikes[:, :4])
    report = verify(net, mlp.path, mlp.spikes, mlp.labels, lava_samples=0)
    assert report.comparisons[0].output is None
    assert "(6, 4, 24)" in (report.comparisons[0].no_output or "")


def test_a_network_that_writes_into_its_input_is_found_out(mlp: Any) -> None:
    """The file gets the input as the caller gave it, and so does the caller get it back."""

    class Writing(Returning):
        def forward(self, x: torch.Tensor) -> Any:
            x[:, :4] = 0
            return self.blocks(x)

    before = mlp.spikes.clone()
    report = verify(Writing(mlp.net, nn.Identity()), mlp.path, mlp.spikes, lava_samples=0)
    assert not report.passed
    assert torch.equal(mlp.spikes, before)


@pytest.mark.parametrize("times", [0, 2])
def test_a_block_that_runs_not_once_is_said_to(times: int, mlp: Any) -> None:
    class Other(Returning):
        def forward(self, x: torch.Tensor) -> Any:
            spikes = self.blocks[1](self.blocks[0](x))  # type: ignore[index]
            return [self.blocks[2](spikes) for _ in range(times)]  # type: ignore[index]

    message = f"runs its spiking block 3, which is dense3 in the file, {times} times in a forward pass"
    with pytest.raises(ExportError, match=message):
        verify(Other(mlp.net, nn.Identity()), mlp.path, mlp.spikes, lava_samples=0)


def test_a_network_that_runs_a_block_on_other_rows_than_its_samples_is_told_so(mlp: Any) -> None:
    class Folding(Returning):
        def forward(self, x: torch.Tensor) -> Any:
            spikes = self.blocks[1](self.blocks[0](x))  # type: ignore[index]
            return self.blocks[2](spikes.repeat(2, 1, 1))[: len(x)]  # type: ignore[index]

    message = r"does not run its blocks on one row per sample.*'dense2': 16, 'dense3': 32"
    with pytest.raises(ExportError, match=message):
        verify(Folding(mlp.net, nn.Identity()), mlp.path, mlp.spikes, lava_samples=0)


def test_the_verdict_is_not_lost_with_a_network_that_cannot_run_again(mlp: Any, tmp_path: Path) -> None:
    """To find the cause it runs on one sample, and in training mode, which not every network can."""

    class Batches(Returning):
        def forward(self, x: torch.Tensor) -> Any:
            if len(x) == 1 or self.training:
                raise RuntimeError("Expected more than 1 value per channel when training")
            return self.blocks(x * (torch.arange(x.shape[1])[:, None] != 3))

    report = verify(Batches(mlp.net, nn.Identity()), mlp.path, mlp.spikes, lava_samples=0)
    assert not report.passed
    assert report.comparisons[0].cause is not None
