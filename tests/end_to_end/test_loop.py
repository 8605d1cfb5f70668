"""Train, export, load with the stock loader, simulate on Lava, verify: the path of the demo on a smaller network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netx_export import simulate, verify
from netx_export.simulation import lava_parent

pytestmark = pytest.mark.lava


def test_every_spike_of_every_layer_is_equal_in_lava(trained: Any) -> None:
    report = verify(trained.net, trained.path, trained.spikes, trained.labels, lava_samples=16)
    against_reference, against_lava = report.comparisons
    assert (against_reference.samples, against_lava.samples) == (24, 16)
    assert [layer.name for layer in report.layers] == ["dense1", "dense2"]
    for comparison in report.comparisons:
        assert all(layer.expected_spikes > 20 and layer.differing == 0 for layer in comparison.layers)
    assert report.passed
    assert report.exact


def test_a_wrong_reset_offset_is_caught(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """netx's own default resets one step early, and the last step of one sample leaks into the next."""
    monkeypatch.setattr(lava_parent, "_RESET_OFFSET", 0)
    report = verify(trained.net, trained.path, trained.spikes, lava_samples=16)
    against_reference, against_lava = report.comparisons
    assert against_reference.passed
    assert not against_lava.passed
    assert not report.exact
    first = against_lava.layers[0].first
    assert first is not None
    assert first.sample > 0  # the first sample has nothing to inherit


def test_lava_output_equals_the_network_itself(trained: Any) -> None:
    simulation = simulate(trained.path, trained.spikes[:4], backend="lava")
    trained.net.eval()
    expected = trained.net(trained.spikes[:4]).detach().numpy()
    assert expected.sum() > 0
    np.testing.assert_array_equal(simulation.output, expected)


def test_without_a_network_reference_and_lava_are_compared(trained: Any) -> None:
    report = verify(None, trained.path, trained.spikes, lava_samples=3)
    (comparison,) = report.comparisons
    assert (comparison.expected, comparison.got, comparison.samples) == ("reference", "Lava", 3)
    assert report.passed


def test_report_files(trained: Any, tmp_path: Path) -> None:
    report = verify(trained.net, trained.path, trained.spikes, trained.labels, lava_samples=4)
    content = json.loads(report.to_json())
    assert content["passed"] is True
    assert content["exact"] is True
    assert content["comparisons"][1]["layers"][0]["budget"] == 0.08
    report.save_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('<svg class="raster"') == 2 * 2 * 2  # comparisons, layers, runs
    assert "PASSED" in page
    assert "http-equiv" not in page
    assert 'src="' not in page  # nothing to fetch
