"""How many samples ``verify`` runs on Lava if nobody says: as many as fit into a minute; the report says why."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from netx_export import verify
from netx_export.progress import Watch
from netx_export.simulation import reference, simulate
from netx_export.simulation.lava_time import TimeLimit
from netx_export.verification import lava_samples
from netx_export.verification import verify as verify_module
from netx_export.verification.lava_samples import LavaShare, draw, why_no_more
from netx_export.verification.report import to_html

MOST = "the most that are run unless more are asked for"
FITTING = "as many as fit into about 60 s, at least one per worker"


@dataclass(frozen=True)
class _Lava:
    """Says of every sample that it took so many seconds; the later ones may seem to take longer."""

    seconds: list[float]
    limit: TimeLimit | None = None

    def __call__(self, spikes: Any, workers: int, advance: Any) -> Any:
        advance(float(len(spikes)), self.seconds.pop(0))
        return None


def _ran(samples: Any, workers: int, automatic: bool, *seconds: float) -> tuple[list[list[int]], list[tuple[str, int]]]:
    """The parts that ran, and what the bar said."""
    said: list[tuple[str, int]] = []
    watch = Watch(expect=lambda title, total: said.append((title, total)))
    lava: Any = _Lava(list(seconds))
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


@dataclass(frozen=True)
class _TimedLava:
    """Needs so many seconds to start, and for each sample, by a clock of its own, and ends at its time limit."""

    to_start: float
    seconds: float
    limit: TimeLimit
    clock: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(now=0.0, started=False))

    def __call__(self, spikes: Any, workers: int, advance: Any) -> Any:
        took = 0.0 if self.clock.started else self.to_start
        took += self.seconds * -(-len(spikes) // workers)
        assert took <= self.limit.left
        self.clock.started = True
        self.clock.now += took
        advance(float(len(spikes)), self.seconds)


@pytest.mark.parametrize(
    ("timeout", "seconds", "workers", "number"),
    [
        (8.0, 2.0, 1, 1),
        (30.0, 2.0, 1, 6),
        (30.0, 2.0, 2, 12),
        (59.0, 2.0, 1, 14),
        (200.0, 20.0, 1, 3),
        (9.0, 0.01, 1, 32),
    ],
)
def test_no_more_samples_than_the_time_limit_allows(
    timeout: float, seconds: float, workers: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lava: Any = _TimedLava(5.0, seconds, TimeLimit(timeout))
    monkeypatch.setattr(lava_samples, "time", SimpleNamespace(monotonic=lambda: lava.clock.now))
    share = LavaShare(lava, np.arange(32), workers, True, "on Lava", Watch())
    ran = 0
    for part in share.parts():
        if len(part):
            share.run(torch.zeros(len(part), 1, 1))
            ran += len(part)
    assert ran == number


@pytest.mark.parametrize("number", ["auto", 6])
def test_the_time_limit_is_that_of_all_parts_together(plain: Any, number: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def run_on_lava(path: Any, description: Any, frames: Any, limit: TimeLimit | None, *others: Any) -> Any:
        assert limit is not None
        limits.append(limit)
        others[0](float(len(frames)), 0.01)
        run = reference.run(description, torch.from_numpy(frames))
        return {name: raster.numpy() for name, raster in run.items()}

    monkeypatch.setattr(simulate, "run_on_lava", run_on_lava)
    monkeypatch.setattr(verify_module, "_CHUNK_BYTES", 1)  # each sample is a part
    assert verify(None, plain.path, plain.spikes, lava_samples=number, timeout=50.0).exact
    assert len(limits) > 4
    assert {limit.seconds for limit in limits} == {50.0}
    spent = [limit.spent for limit in limits]
    assert spent[0] == 0.0
    assert (np.diff(spent) > 0).all()


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
    assert why_no_more(12, 12, None) is None
    assert why_no_more(32, 32, None) is None
    assert why_no_more(32, 100, None) == MOST
    assert why_no_more(7, 100, None) == why_no_more(7, 100, 120.0) == FITTING
    assert why_no_more(7, 100, 30.0) == FITTING.replace("60 s", "15 s")


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
    assert comparison() == (1, "as many as fit into about 1e-09 s, at least one per worker")
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
