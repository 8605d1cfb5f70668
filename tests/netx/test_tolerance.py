"""A file that is written within a tolerance deviates by float32's rounding alone, and says by how much."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console
from support_cases import CUBA, Chain

from netx_export import ExportError, check, export, read, simulate, verify
from netx_export.file.netx import annotate
from netx_export.network.description import Conv, Dense, Encoder, Input, NetworkDescription, SigmaDeltaNeuron
from netx_export.network.peaks import PARTIAL_SUM
from netx_export.simulation import reference
from netx_export.verification.report import print_report
from netx_export.verification.result import Tolerance

pytestmark = pytest.mark.slayer

NEURON = {"threshold": 0.1, "activation": torch.relu}


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).cumsum(-1) / 4


def loud(cls: type[Chain] = Chain, weight_scale: float = 24) -> Chain:
    """Dense layers whose states leave what float32 holds: of 20 inputs, 5 sums come out."""
    from lava.lib.dl.slayer.block import sigma_delta

    torch.manual_seed(0)
    return cls(
        [
            sigma_delta.Input(NEURON),
            sigma_delta.Dense(NEURON, 20, 128, weight_scale=weight_scale),
            sigma_delta.Dense(NEURON, 128, 128, weight_scale=weight_scale),
            sigma_delta.Output(NEURON, 128, 5, weight_scale=weight_scale),
        ]
    )


SAMPLE = values(3, 20, 40)


def test_states_beyond_float32_are_written_within_the_tolerance_and_it_is_said_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    net = loud()
    result = export(net, path, SAMPLE, tolerance=0.5)
    assert (result.proved, result.silent) == (False, ())
    assert list(result.deviations) == ["dense1", "dense2", "dense3", "output"]
    assert result.deviations["dense1"] == 0 < result.deviations["output"] <= 0.5

    metadata = read(path).metadata
    assert json.loads(metadata["deviations at export"]) == result.deviations
    assert float(metadata["tolerance at export"]) == 0.5
    deviating = {name: size for name, size in result.deviations.items() if size}
    for findings in (result.findings, check(path)):
        found = [finding for finding in findings if finding.rule == "deviation at export"]
        assert {finding.layer: finding.value for finding in found} == deviating
        assert {(finding.level, finding.limit) for finding in found} == {("warning", 0.5)}

    assert not verify(net, path, SAMPLE, lava_samples=0).passed
    report = verify(net, path, SAMPLE, lava_samples=0, tolerance=Tolerance(value=max(deviating.values())))
    assert (report.passed, report.exact) == (True, False)


def test_the_report_says_how_far_the_file_deviated_at_its_export(tmp_path: Path, capsys: Any) -> None:
    result = export(loud(), tmp_path / "a.net", SAMPLE, tolerance=0.5)
    report = verify(loud(), tmp_path / "a.net", SAMPLE, lava_samples=0)
    print_report(report.to_dict(), Console(width=200))
    report.save_html(tmp_path / "report.html")
    output = f"{result.deviations['output']:.6g}"
    for text in (capsys.readouterr().out, (tmp_path / "report.html").read_text()):
        assert re.search(rf"Exported within a tolerance of 0\.5: .* dense2 by .*, output by {output}", text)
    exact = export(loud(weight_scale=2), tmp_path / "b.net", SAMPLE).path
    print_report(verify(None, exact, SAMPLE, recorded=simulate(exact, SAMPLE).arrays).to_dict(), Console(width=200))
    assert "tolerance" not in capsys.readouterr().out


def test_the_deviation_is_the_largest_of_a_message_and_of_what_was_sent_so_far(tmp_path: Path) -> None:
    net = loud()
    sample = values(3, 20, 120)
    result = export(net, tmp_path / "a.net", sample, tolerance=0.5)
    kept: dict[str, Any] = {}
    for name, block in zip(("dense1", "dense2", "dense3"), net.blocks[1:], strict=True):
        block.register_forward_hook(lambda _, __, output, name=name: kept.update({name: output.double().numpy()}))
    with torch.no_grad():
        output = net.eval()(sample).double().numpy()
    run = simulate(tmp_path / "a.net", sample)
    for name, trained in kept.items():
        difference = trained - run.layers[name]
        sides = [difference, difference.cumsum(-1)] if name != "dense3" else [difference]
        assert result.deviations[name] == max(np.abs(side).max() for side in sides)
    difference = kept["dense2"] - run.layers["dense2"]
    assert result.deviations["dense2"] == np.abs(difference.cumsum(-1)).max() > np.abs(difference).max()
    assert result.deviations["output"] == np.abs(output - run.output).max()


@pytest.mark.parametrize("tolerance", [None, 0, 1e-6])
def test_what_deviates_by_more_is_refused_and_the_tolerance_that_would_do_is_named(
    tolerance: float | None, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"float32.*tolerance=[0-9.e-]+ writes the file") as refusal:
        export(loud(), tmp_path / "a.net", SAMPLE, tolerance=tolerance)
    assert not list(tmp_path.iterdir())
    needed = float(str(refusal.value).split("tolerance=")[1].split()[0])
    assert max(export(loud(), tmp_path / "a.net", SAMPLE, tolerance=needed).deviations.values()) == needed
    with pytest.raises(ExportError, match="beyond what is accepted"):
        export(loud(), tmp_path / "b.net", SAMPLE, tolerance=math.nextafter(needed, 0))


def test_what_is_equal_is_proved_whatever_the_tolerance(tmp_path: Path) -> None:
    quiet = loud(weight_scale=2)
    result = export(quiet, tmp_path / "a.net", SAMPLE, tolerance=1)
    assert result.proved
    assert set(result.deviations.values()) == {0.0}
    assert not any("at export" in key for key in read(tmp_path / "a.net").metadata)
    assert not any(finding.rule == "deviation at export" for finding in check(tmp_path / "a.net"))


@pytest.mark.parametrize("weight_scale", [12, 13, 14, 15])
def test_sums_that_float32_rounds_on_the_way_to_a_state_that_it_holds_are_rounding_too(
    weight_scale: float, tmp_path: Path
) -> None:
    """Whether they are depends on the order in which a processor adds them up."""
    assert (
        max(
            export(
                loud(weight_scale=weight_scale), tmp_path / "a.net", SAMPLE[..., :2], tolerance=1
            ).deviations.values()
        )
        < 1e-3
    )


def test_the_size_of_partial_sums_is_that_of_all_weighted_messages() -> None:
    layer = Dense(np.array([[2, -6, 128], [64, 4, 0]]), SigmaDeltaNeuron(0, sends=False), delay_shift=False)
    description = NetworkDescription((Input((3,), False, Encoder(SigmaDeltaNeuron(2))), layer))
    messages = torch.tensor([[[0, 500], [0, -70], [4, -30]]], dtype=torch.int32)
    found = next(peak for peak in reference.peaks(description, messages)["dense1"] if peak.quantity == PARTIAL_SUM)
    assert (found.size, found.limit, found.step) == (64 * 500 + 4 * 70, 2 * 2 << 24, None)
    image = Conv(layer.weight.reshape(2, 3, 1, 1), layer.neuron, (3, 1, 1), delay_shift=False)
    description = NetworkDescription((Input((3, 1, 1), False, Encoder(SigmaDeltaNeuron(2))), image))
    other = reference.peaks(description, messages.reshape(1, 3, 1, 1, 2))["conv1"]
    assert next(peak for peak in other if peak.quantity == PARTIAL_SUM) == found


def test_the_size_of_partial_sums_is_that_of_messages_that_delays_bring_together() -> None:
    weight, delay = np.array([[64, -64], [-64, 64]]), np.array([[0, 3], [0, 3]])
    layer = Dense(weight, SigmaDeltaNeuron(1), delay, delay_shift=False)
    messages = torch.zeros(1, 2, 8, dtype=torch.int32)
    messages[0, 0, 4], messages[0, 1, 1] = 1000, -1000
    peaks = reference.peaks(NetworkDescription((Input((2,), False), layer)), messages)["dense1"]
    assert {peak.quantity.name: peak.size for peak in peaks if "sum" in peak.quantity.name} == {
        "sum of messages": 64 * 2000,
        "partial sum of messages": 64 * 2000,
    }


def wrapping(cls: type[Chain] = Chain) -> Chain:
    """A convolution whose sum of one step leaves 24 bits, behind which the same wraps on Lava and not in SLAYER."""
    from lava.lib.dl.slayer.block import sigma_delta

    torch.manual_seed(0)
    net = cls([sigma_delta.Input(NEURON), sigma_delta.Conv(NEURON, 1, 2, 3, weight_scale=1)])
    with torch.no_grad():
        net.blocks[1].synapse.weight.fill_(1.5)
    return net


def test_a_wrap_is_no_rounding_whatever_the_tolerance(tmp_path: Path) -> None:
    sample = torch.zeros(2, 1, 6, 6, 5)
    sample[..., 2:] = 3
    sample[1] /= 4
    with pytest.raises(
        ExportError,
        match=r"32 of 320 values of conv1 differ, by up to 40.5, first at step 2 .* sum of messages of conv1 reaches "
        r"10,616,832 in sample 0, 40.5 in SLAYER's scale, and goes beyond 8,388,607 \(32\), the most that 24 bits "
        r"hold, first at step 2\. Lava wraps it, SLAYER does not",
    ) as refusal:
        export(wrapping(), tmp_path / "a.net", sample, tolerance=1e9)
    assert "tolerance" not in str(refusal.value)
    assert export(wrapping(), tmp_path / "a.net", sample[1:], tolerance=1e9).proved


def test_a_wrap_behind_a_rounding_is_found_too(tmp_path: Path) -> None:
    """In one sample the first layer is rounded, in another a later one wraps, or both in one sample."""
    from lava.lib.dl.slayer.block import sigma_delta

    torch.manual_seed(0)
    convolutions = [sigma_delta.Conv(NEURON, 40, channels, 1) for channels in (40, 40, 2)]
    net = Chain([sigma_delta.Input(NEURON), *convolutions])
    with torch.no_grad():
        for block, largest in zip(convolutions, (0.15, 3.0, 0.02), strict=True):
            block.synapse.weight.copy_(torch.rand(block.synapse.weight.shape) * largest)
    slow = torch.rand(1, 40, 1, 1, 48) / 4 + 3.4 * torch.linspace(0, 1, 48)
    assert export(net, tmp_path / "a.net", slow, tolerance=1e9).deviations["conv2"] > 0
    sudden = 3.4 * (torch.arange(48) > 45).expand_as(slow)
    with pytest.raises(
        ExportError, match=r"values of conv2 differ.* of conv2 reaches .* in sample 1, .* Lava wraps it"
    ):
        export(net, tmp_path / "b.net", torch.cat([slow, sudden]), tolerance=1e9)
    with torch.no_grad():
        convolutions[2].synapse.weight.fill_(1.5)
    with pytest.raises(ExportError, match=r"values of conv2 differ.* of conv3 reaches .* No tolerance covers that"):
        export(net, tmp_path / "b.net", slow, tolerance=1e9)


def test_spikes_have_to_be_equal_whatever_the_tolerance(tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import cuba

    slow = {**CUBA, "threshold": 10.0, "current_decay": 0.001, "voltage_decay": 0.02}
    torch.manual_seed(0)
    net = Chain([cuba.Dense(slow, 300, 4, weight_scale=1)])
    with torch.no_grad():
        net.blocks[0].synapse.weight.fill_(3.9)
    with pytest.raises(ExportError, match=r"current of dense1 reaches .* the most that 24 bits hold, .* Lava wraps it"):
        export(net, tmp_path / "a.net", torch.ones(1, 300, 20), tolerance=1e9)


class Adding(Chain):
    """Adds something before its last block, or behind it, from its ``first`` run on a sample on."""

    runs: ClassVar[list[int]] = []
    first, before, added = 10**9, False, 0.125

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.runs.extend([1] * torch.equal(x[0], LATE[0]))  # no attribute, which would be put back after each run
        added = self.added if len(self.runs) >= self.first else 0.0
        for block in self.blocks[:-1]:
            x = block(x)
        output = self.blocks[-1](x + added if added and self.before else x)
        return output + added if added and not self.before else output


LATE = torch.cat([torch.zeros(3, 20, 4), SAMPLE], -1)


@pytest.mark.parametrize("weight_scale", [2, 24])
@pytest.mark.parametrize(("before", "added"), [(False, 0.125), (False, math.nan), (True, 0.125)])
def test_what_the_forward_does_is_no_rounding(before: bool, added: float, weight_scale: float, tmp_path: Path) -> None:
    net = loud(Adding, weight_scale)
    net.before, net.added = before, added
    Adding.runs.clear()
    export(net, tmp_path / "a.net", LATE, tolerance=1)
    net.first = len(Adding.runs)  # the last run, with which the file is compared
    Adding.runs.clear()
    with pytest.raises(ExportError, match="Does the network's forward do something else"):
        export(net, tmp_path / "b.net", LATE, tolerance=1e9)


@pytest.mark.parametrize(
    ("tolerance", "error"),
    [(-0.1, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("0.1", TypeError), (True, TypeError)],
)
def test_a_tolerance_is_a_number(tolerance: Any, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match="Expected argument `tolerance` to be"):
        export(loud(), tmp_path / "a.net", SAMPLE, tolerance=tolerance)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["", "[]", "nothing", '{"dense1": "much"}', '{"dense1": 1}', '{"dense1": 1%s}' % ("0" * 400)]
)
def test_a_damaged_record_of_deviations_says_nothing(text: str, tmp_path: Path) -> None:
    path = export(loud(weight_scale=2), tmp_path / "a.net", SAMPLE).path
    annotate(path, {"deviations at export": text})
    assert not any(finding.rule == "deviation at export" for finding in check(path))
