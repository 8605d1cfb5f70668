"""What is called proved was seen: a silent layer shows nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support_cases import CUBA, Chain

from netx_export import ExportError, export, read, verify

pytestmark = pytest.mark.slayer


def network(weight: float = 1.0) -> Chain:
    """Its second layer never spikes if its weights are negative."""
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(0)
    net = Chain([cuba.Dense(CUBA, 6, 5, weight_scale=8), cuba.Dense(CUBA, 5, 4, weight_scale=8)])
    net.blocks[1].synapse.weight.data.abs_().mul_(weight)
    return net


def spikes(rate: float = 0.4) -> torch.Tensor:
    return (torch.rand(4, 6, 24, generator=torch.Generator().manual_seed(1)) < rate).float()


def test_a_silent_sample_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="dense1, dense2, output gave nothing but zeros on the sample"):
        export(network(), tmp_path / "a.net", torch.zeros(4, 6, 24))
    assert not list(tmp_path.iterdir())


def test_a_silent_layer_is_refused_by_name_or_listed_if_that_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    with pytest.raises(ExportError, match=r"dense2, output gave nothing.*allow_silent=\['dense2', 'output'\]"):
        export(network(-1.0), path, spikes())
    with pytest.raises(ExportError, match="Not exported: output gave nothing"):
        export(network(-1.0), path, spikes(), allow_silent=["dense2"])
    result = export(network(-1.0), path, spikes(), allow_silent=["dense2", "output"])
    assert (result.proved, result.silent) == (False, ("dense2", "output"))
    assert read(path).metadata["silent at export"] == "dense2, output"
    assert [finding.layer for finding in result.findings if finding.rule == "not proved"] == ["dense2", "output"]
    assert not verify(network(-1.0), path, spikes(), lava_samples=0).passed


def test_what_may_be_silent_and_is_not_is_proved(tmp_path: Path) -> None:
    result = export(network(), tmp_path / "a.net", spikes(), allow_silent=["dense1", "dense2", "output"])
    assert (result.proved, result.silent) == (True, ())
    assert "silent at export" not in read(tmp_path / "a.net").metadata


def test_without_a_sample_nothing_is_proved_and_a_finding_says_so(tmp_path: Path) -> None:
    result = export(network(), tmp_path / "a.net")
    assert not result.proved
    assert [finding.value for finding in result.findings if finding.rule == "not proved"] == ["no sample"]


@pytest.mark.parametrize(
    ("allowed", "error", "match"),
    [
        (["dense9"], ValueError, r"among dense1, dense2, output but got \['dense9'\]"),
        ("dense2", TypeError, "collection of names"),
        (True, TypeError, "collection of names"),
    ],
)
def test_wrong_names_of_silent_layers(allowed: object, error: type[Exception], match: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=match):
        export(network(), tmp_path / "a.net", spikes(), allow_silent=allowed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sample", "error"),
    [
        (torch.zeros(0, 6, 24), ValueError),
        (torch.zeros(4, 6, 0), ValueError),
        (torch.zeros(6, 24), ValueError),
        (torch.zeros(4, 6, 24).to_sparse(), TypeError),
        (torch.zeros(4, 6, 24, dtype=torch.complex64), TypeError),
        (torch.zeros(4, 6, 24, device="meta"), TypeError),
    ],
)
def test_samples_that_are_none(sample: torch.Tensor, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match="Expected argument `sample`"):
        export(network(), tmp_path / "a.net", sample)
    assert not list(tmp_path.iterdir())
