"""What is compared under the name of output is what the last block makes; what is made of it is told apart."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from netx_export import ExportError, simulate, verify
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


OTHER_OUTPUTS: dict[str, Callable[[torch.Tensor], Any]] = {
    "four of five outputs": lambda spikes: spikes[:, [4, 3, 2, 1]],
    "rates": lambda spikes: spikes.mean(-1),
    "a window": lambda spikes: spikes[..., 4:],
    "classes in pairs": lambda spikes: spikes.repeat(1, 2, 1),
    "classes in another order": lambda spikes: spikes.flip(1),
    "predictions": lambda spikes: spikes.sum(-1).argmax(1),
    "nothing": lambda spikes: None,
    "a word": lambda spikes: "spikes",
    "some samples": lambda spikes: spikes[:3],
    "complex numbers": lambda spikes: spikes + 1j,
    "no values": lambda spikes: spikes.to("meta"),
    "quantised": lambda spikes: torch.quantize_per_tensor(spikes, 1.0, 0, torch.quint8),
    "nested": lambda spikes: torch.nested.nested_tensor(list(spikes)),
}


@pytest.mark.parametrize("after", OTHER_OUTPUTS.values(), ids=OTHER_OUTPUTS)
def test_what_the_network_makes_of_its_last_block_is_told_apart(
    after: Callable[[torch.Tensor], Any], mlp: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = simulate(mlp.path, mlp.spikes).layers
    net = Returning(mlp.net, after)
    report = verify(net, mlp.path, mlp.spikes, mlp.labels, recorded=recorded, loss=lambda output, label: output.sum())
    assert report.exact
    assert (report.begins_inside, report.ends_inside) == (False, True)
    assert json.loads(report.to_json())["ends_inside"] is True
    for comparison in json.loads(report.to_json())["comparisons"]:
        # The file's output is no prediction of this network, wherever it was made.
        output = comparison["output"]
        assert output["differing"] == 0
        assert {output[name] for name in ("expected_accuracy", "got_loss", "changed_predictions")} == {None}
        assert output["confusion"] == []
    print_report(report.to_dict(), Console(width=300))
    terminal = capsys.readouterr().out
    report.save_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in (terminal, page):
        assert "it ends with what its last block makes, which is not what the network returns" in text
        assert "accuracy" not in text
        assert "predictions changed" not in text


def test_what_is_a_network_as_a_whole_is_not_said_to_be_inside_of_one(
    mlp: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    report = verify(mlp.net, mlp.path, mlp.spikes, lava_samples=0)
    assert (report.begins_inside, report.ends_inside) == (False, False)
    print_report(report.to_dict(), Console(width=300))
    assert "inside" not in capsys.readouterr().out


def test_the_network_returns_spikes_and_more(mlp: Any) -> None:
    net = Returning(mlp.net, lambda spikes: (spikes, spikes.sum(-1)))
    report = verify(net, mlp.path, mlp.spikes, mlp.labels, lava_samples=0)
    assert report.passed
    assert report.comparisons[0].output is not None
    assert verdict_text(report.to_dict()) == "every spike of every layer is equal."


@pytest.mark.parametrize(
    "after",
    [
        lambda spikes: {"rates": spikes.mean(-1), "spikes": spikes},
        lambda spikes: (None, [spikes]),
        lambda spikes: spikes.to_sparse(),
    ],
)
def test_the_output_is_found_wherever_it_lies_in_what_is_returned(after: Any, mlp: Any) -> None:
    report = verify(Returning(mlp.net, after), mlp.path, mlp.spikes, mlp.labels, lava_samples=0)
    assert report.exact
    assert not report.ends_inside
    assert report.comparisons[0].output is not None
    assert report.comparisons[0].output.expected_accuracy is not None


def test_what_a_network_writes_into_its_input_goes_into_the_file_too(mlp: Any) -> None:
    """The network gets the input as the caller gave it, and so does the caller get it back."""

    class Writing(Returning):
        def forward(self, x: torch.Tensor) -> Any:
            x[:, :4] = 0
            return self.blocks(x)

    before = mlp.spikes.clone()
    report = verify(Writing(mlp.net, nn.Identity()), mlp.path, mlp.spikes, lava_samples=0)
    assert report.exact
    assert report.begins_inside
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

    message = r"does not run its blocks on one row per sample.*'dense2': 8, 'dense3': 16"
    with pytest.raises(ExportError, match=message):
        verify(Folding(mlp.net, nn.Identity()), mlp.path, mlp.spikes, lava_samples=0)


def test_the_verdict_is_not_lost_with_a_network_that_cannot_run_again(mlp: Any, tmp_path: Path) -> None:
    """To find the cause it runs on one sample, and in training mode, which not every network can."""

    class Batches(Returning):
        def forward(self, x: torch.Tensor) -> Any:
            if len(x) == 1 or self.training:
                raise RuntimeError("Expected more than 1 value per channel when training")
            hidden = self.blocks[0](x) * (torch.arange(16)[:, None] < 8)  # type: ignore[index]
            return self.blocks[2](self.blocks[1](hidden))  # type: ignore[index]

    report = verify(Batches(mlp.net, nn.Identity()), mlp.path, mlp.spikes, lava_samples=0)
    assert not report.passed
    assert report.comparisons[0].cause is not None


def test_an_output_that_is_another_one_in_some_batches_is_not_compared(
    mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of the samples that are left over may be smaller, and what was equal in the others is not all."""
    monkeypatch.setattr(sys.modules[verify.__module__], "_CHUNK_SAMPLES", 8)
    net = Returning(mlp.net, lambda spikes: spikes if len(spikes) == 8 else spikes[:, :4])
    with pytest.raises(ExportError, match="does behind its last block shows on all samples, and did not on the first"):
        verify(net, mlp.path, mlp.spikes[:13], mlp.labels[:13], lava_samples=0)


class Late(nn.Module):
    """What it does before its blocks, or behind them, shows only where there are spikes."""

    def __init__(self, blocks: nn.Module, before: Callable[[Any], Any], behind: Callable[[Any], Any]) -> None:
        super().__init__()
        self.blocks = blocks
        self.before, self.behind = before, behind

    def forward(self, x: torch.Tensor) -> Any:
        return self.behind(self.blocks(self.before(x)))


@pytest.mark.parametrize(
    ("before", "behind", "place"),
    [
        (lambda x: x, lambda spikes: -spikes, "behind its last block"),
        (lambda x: x.flip(1), lambda spikes: spikes, "before its first block"),
    ],
    ids=["behind", "before"],
)
def test_silent_first_samples_do_not_hide_that_a_file_lies_inside_of_a_forward(
    before: Callable[[Any], Any], behind: Callable[[Any], Any], place: str, mlp: Any
) -> None:
    """An accuracy would be that of the file's output, which the network does not return."""
    spikes = mlp.spikes.clone()
    spikes[:8] = 0
    net = Late(mlp.net, before, behind)
    with torch.no_grad():
        labels = net.eval()(spikes).sum(-1).argmax(-1)
    with pytest.raises(ExportError, match=f"forward does {place} shows on all samples"):
        verify(net, mlp.path, spikes, labels, lava_samples=0)
    assert verify(net, mlp.path, spikes.flip(0), labels.flip(0), lava_samples=0).exact  # with data that shows it first


class AtRandom(nn.Module):
    """A network that makes spikes of rates at random."""

    def __init__(self, blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, rates: torch.Tensor) -> Any:
        return self.blocks((torch.rand(rates.shape) < rates).to(rates.dtype))


def test_a_forward_that_encodes_at_random_is_verified_on_more_than_a_batch(mlp: Any) -> None:
    rates = torch.rand(140, 12, 24) / 2
    report = verify(AtRandom(mlp.net), mlp.path, rates, lava_samples=0)
    assert report.begins_inside
    assert report.exact


def test_a_cause_is_found_in_a_network_that_encodes_at_random(mlp: Any, tmp_path: Path) -> None:
    """It is looked for on the spikes that were compared, and not on others that were drawn again."""

    def change(file: Any) -> None:
        file["layer/1/neuron/vThMant"][...] = file["layer/1/neuron/vThMant"][()] + 40

    path = mlp.spoiled(tmp_path / "spoiled.net", change)
    rates = torch.rand(16, 12, 24) / 2
    rates[:3] = 0  # what is drawn for a sample alone is what is drawn for the first of a batch
    report = verify(AtRandom(mlp.net), path, rates, lava_samples=0)
    cause = report.comparisons[0].cause
    assert cause is not None
    assert cause.layer == "dense1"
    assert cause.place is not None
    assert cause.threshold is not None
    assert cause.expected_membrane is not None
    # SLAYER spikes by the network's own threshold where the file, with a higher one, does not.
    membrane = cause.expected_membrane[cause.steps.index(cause.place.step)]
    assert cause.threshold - (40 << 6) <= membrane < cause.threshold


def test_spikes_that_are_drawn_before_the_blocks_are_not_taken_for_dropout(mlp: Any) -> None:
    class Masking(AtRandom):
        def forward(self, rates: torch.Tensor) -> Any:
            hidden = self.blocks[0]((torch.rand(rates.shape) < rates).to(rates.dtype))  # type: ignore[index]
            if len(rates) > 8:
                hidden = hidden * (torch.arange(16)[:, None] < 8)
            return self.blocks[2](self.blocks[1](hidden))  # type: ignore[index]

    cause = verify(Masking(mlp.net), mlp.path, torch.rand(16, 12, 24) / 2, lava_samples=0).comparisons[0].cause
    assert cause is not None
    assert cause.layer == "dense2"
    assert cause.name == "not found"


def test_a_network_that_refuses_few_samples_is_not_run_on_what_it_makes_something_else_of(mlp: Any) -> None:
    """Simulator and Lava would be compared on input that the file never gets."""

    def before(x: torch.Tensor) -> torch.Tensor:
        if len(x) < 2:
            raise RuntimeError("more than one sample, please")
        return x.flip(1)

    with pytest.raises(ExportError, match="more than one sample, please"):
        verify(Late(mlp.net, before, nn.Identity()), mlp.path, mlp.spikes, lava_samples=1)
