"""How many samples ``verify`` runs on Lava if nobody says: as many as fit into a minute; the report says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from netx_export import verify
from netx_export.progress import Watch
from netx_export.verification import lava_samples
from netx_export.verification.lava_samples import LavaShare, draw, why_no_more
from netx_export.verification.report import to_html

MOST = "the most that are run unless more are asked for"
FITTING = "as many as fit into 60 s, at least one per worker"


class _Lava:
    """Says of every sample that it took so many seconds; the later ones may seem to take longer."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)

    def __call__(self, spikes: Any, workers: int, advance: Any) -> Any:
        advance(float(len(spikes)), self.seconds.pop(0))
        return None


def _ran(samples: Any, workers: int, automatic: bool, *seconds: float) -> tuple[list[list[int]], list[tuple[str, int]]]:
    """The parts that ran, and what the bar said."""
    said: list[tuple[str, int]] = []
    watch = Watch(expect=lambda title, total: said.append((title, total)))
    lava: Any = _Lava(*seconds)
    share = LavaShare(lava, np.asarray(samples), workers, automatic, "on Lava", watch)
    parts = []
    for part in share.parts():
        if len(part):
            share.run(torch.zeros(len(part), 1, 1))
            parts.append(part.tolist())
    return parts, said


@pytest.mark.parametrize(
    ("seconds", "workers", "number"),
    [(0.1, 1, 32), (20.0, 1, 3), (20.0, 2, 6), (29.0, 4, 8), (60.0, 2, 2), (500.0, 1, 1), (500.0, 3, 3)],
)
def test_as_many_samples_as_fit_into_a_minute(seconds: float, workers: int, number: int) -> None:
    order = np.random.default_rng(0).permutation(32)
    parts, said = _ran(order, workers, True, seconds, seconds)
    assert parts[0] == sorted(order[:workers])
    assert [sample for part in parts[1:] for sample in part] == sorted(order[workers:number])
    rounds = -(-number // workers)
    about = f"{max(1, rounds * seconds):.0f} s" if rounds * seconds < 90 else f"{rounds * seconds / 60:.0f} min"
    assert said[-1][0].startswith(f"on Lava: about {about} on Lava")
    assert said[-1][1] == number


def test_what_was_chosen_is_run_even_if_it_takes_longer_than_it_seemed() -> None:
    parts, said = _ran(range(32), 1, True, 10.0, 30.0)
    assert parts == [[0], [1, 2, 3, 4, 5]]
    assert said == [("on Lava: about 60 s on Lava", 6), ("on Lava: about 3 min on Lava", 6)]


def test_a_number_that_was_asked_for_is_run_at_once() -> None:
    assert _ran([3, 1, 2], 2, False, 1000.0)[0] == [[1, 2, 3]]


def test_fewer_samples_than_workers() -> None:
    assert _ran([4], 3, True, 1.0)[0] == [[4]]
    assert _ran([], 3, True)[0] == []


def test_each_beginning_of_the_draw_has_every_class_in_its_share() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = draw(100, "auto", labels, seed=0)
    assert len(order) == 32
    for number in (10, 20, 30):
        counts = np.bincount(labels[torch.from_numpy(order[:number])], minlength=3)
        assert np.abs(counts - number / 10 * np.array([6, 3, 1])).max() <= 1


def test_why_no_more_samples_were_run() -> None:
    assert why_no_more(12, 12) is None
    assert why_no_more(32, 32) is None
    assert why_no_more(32, 100) == MOST
    assert why_no_more(7, 100) == FITTING


@pytest.mark.lava
def test_the_report_says_how_many_were_run_and_why(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spikes = (np.random.default_rng(1).random((40, 4, 20)) < 0.5).astype(np.uint8)
    labels = np.arange(40) % 2

    def comparison(**options: Any) -> tuple[int, str | None]:
        report = verify(None, plain.path, spikes, labels, **options)
        assert report.exact
        (one,) = report.comparisons
        reason = "" if one.why_no_more is None else f", {one.why_no_more}"
        line = f"{one.samples} samples of 20 steps{reason}"
        assert f"reference against Lava: {line}\n" in str(report)
        assert f"<p>{line}.</p>" in to_html(report.to_dict())
        return one.samples, one.why_no_more

    assert comparison() == (32, MOST)
    assert comparison(lava_samples=5) == (5, None)
    assert comparison(lava_samples=32) == (32, None)
    monkeypatch.setattr(lava_samples, "_AUTO_SECONDS", 1e-9)
    assert comparison() == (1, "as many as fit into 0 s, at least one per worker")
    assert comparison(lava_workers=2)[0] == 2
    assert verify(None, plain.path, spikes[:1]).comparisons[0].why_no_more is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lava_samples": "all"}, ValueError, "`lava_samples` to be an integer or 'auto' but got 'all'"),
        ({"lava_workers": 0}, ValueError, "`lava_workers` to be at least 1 but got 0"),
        ({"lava_workers": "2"}, TypeError, "`lava_workers` to be an integer but got str"),
    ],
)
def test_what_is_no_number(options: Any, error: type[Exception], message: str, plain: Any) -> None:
    with pytest.raises(error, match=message):
        verify(None, plain.path, plain.spikes, recorded=plain.run, **options)
