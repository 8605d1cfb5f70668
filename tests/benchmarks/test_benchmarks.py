"""The benchmarks still run, measure what they say, and their results can be kept and compared."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

import lava_spikeloss
from benchmarks import (
    _results,
    compare,
    growth,
    losses,
    memory,
    networks,
    simulator,
    table,
    training_step,
    verification,
)
from benchmarks._cases import CASES, CLUSTER, SIMILARITIES
from benchmarks._command import Wish
from benchmarks._memory import peak_allocated, peak_resident
from benchmarks._results import LATEST, Line, describe_run, load, merge, save
from benchmarks._targets import TARGETS
from benchmarks._timing import Effort, Spread, paired, ratio, slope, spread
from lava_spikeloss.losses.module import Loss, Regularizer

TINY = Wish(tiny=True)


def line(value: float = 2.0, low: float = 1.9, high: float = 2.1, **options: Any) -> Line:
    given = {"part": "losses", "labels": {"loss": "a"}, "what": "times the floor", "unit": "x", "better": "lower"}
    return Line(**{**given, "value": Spread(value, low, high), **options})


def results(*lines: Line) -> dict[str, Any]:
    return merge(None, describe_run("python -m benchmarks.losses"), lines)


class TestTinyRun:
    @pytest.mark.parametrize("measure", [losses.measure, memory.measure, growth.measure])
    def test_losses(self, measure: Callable[[Wish], Iterator[Line]], tmp_path: Path) -> None:
        self.check(list(measure(TINY)), tmp_path)

    @pytest.mark.slayer
    @pytest.mark.parametrize("measure", [training_step.measure, networks.measure, verification.measure])
    def test_networks(self, measure: Callable[[Wish], Iterator[Line]], tmp_path: Path) -> None:
        self.check(list(measure(TINY)), tmp_path)

    @pytest.mark.slow
    @pytest.mark.lava
    def test_simulators(self, tmp_path: Path) -> None:
        lines = list(simulator.measure(Wish("no delays", tiny=True)))
        self.check(lines, tmp_path)
        assert [one.what for one in lines if "Lava" in one.what]

    def check(self, lines: list[Line], tmp_path: Path) -> None:
        assert lines
        assert len({one.id for one in lines}) == len(lines)
        assert all(one.value.low <= one.value.median <= one.value.high for one in lines)
        save(results(*lines), tmp_path / "results.json")
        assert len(load(tmp_path / "results.json")["lines"]) == len(lines)
        assert table.tables(load(tmp_path / "results.json"))

    def test_only_what_is_asked_for(self) -> None:
        assert {one.labels["loss"] for one in memory.measure(Wish("ce_r*", tiny=True))} == {"ce_rate_loss"}


def test_every_loss_is_measured() -> None:
    modules = [value for value in vars(lava_spikeloss).values() if isinstance(value, type)]
    ours = {one._function.__name__ for one in modules if issubclass(one, Loss | Regularizer)}
    ours |= {"sparsity_enforcer", "spike_cluster"}
    measured = {case.name.partition(",")[0] for case in [*CASES, CLUSTER, *SIMILARITIES]}
    assert ours == measured


def test_a_peer_that_is_not_equal_is_not_timed() -> None:
    case = next(case for case in CASES if case.name == "ce_count_loss")
    ours, theirs = torch.ones(()), torch.full((), 1.1)
    gradients = torch.ones(2, 3, 4), torch.ones(4, 2, 3)
    with pytest.raises(AssertionError, match="ce_count_loss is not what snnTorch says"):
        losses.assert_equal(case, case.peers[0], torch.float32, [ours, gradients[0]], [theirs, gradients[1]])
    with pytest.raises(AssertionError, match="ce_count_loss is not what snnTorch says"):
        losses.assert_equal(case, case.peers[0], torch.float32, [ours, gradients[0]], [ours, 2 * gradients[1]])
    losses.assert_equal(case, case.peers[0], torch.float32, [ours, gradients[0]], [ours, gradients[1]])


class TestTiming:
    def test_every_contestant_has_a_turn_in_every_round(self) -> None:
        calls: list[str] = []
        runs = {name: lambda name=name: calls.append(name) for name in "abc"}
        times = paired(runs, Effort(fewest=4, most=4, turn=0.0))
        assert {name: len(seconds) for name, seconds in times.items()} == {"a": 4, "b": 4, "c": 4}
        rounds = ["".join(calls[3:][start : start + 3]) for start in range(0, 12, 3)]  # behind one call each to warm up
        assert rounds == ["abc", "bca", "cab", "abc"]

    def test_seconds_are_those_of_one_call(self) -> None:
        times = paired({"sleep": lambda: time.sleep(0.001)}, Effort(fewest=3, most=3, turn=0.2))
        assert 0.001 <= min(times["sleep"]) < 0.02  # of some hundred calls in a turn

    def test_it_ends_when_the_time_is_over(self) -> None:
        times = paired({"sleep": lambda: time.sleep(0.01)}, Effort(fewest=2, most=1000, seconds=0.05, turn=0.0))
        assert 2 <= len(times["sleep"]) < 20

    def test_statistics(self) -> None:
        assert spread([5.0, 1.0, 2.0, 3.0, 4.0]) == Spread(3.0, 2.0, 4.0)
        assert spread([7.0]) == Spread(7.0, 7.0, 7.0)
        assert ratio([2.0, 9.0, 8.0], [1.0, 3.0, 2.0]) == Spread(3.0, 2.5, 3.5)
        assert slope([1, 2, 4], [[3.0], [12.0], [48.0]]).median == pytest.approx(2.0)


class TestMemory:
    def test_peak_of_tensors(self) -> None:
        x = torch.ones(1000, 1000)
        numbers = 1000  # torch makes tensors of single numbers too
        assert 2 * 4_000_000 <= peak_allocated(lambda: (x * 2) + 1, "cpu") < 2 * 4_000_000 + numbers
        assert 4_000_000 <= peak_allocated(lambda: x.add(1), "cpu") < 4_000_000 + numbers
        assert peak_allocated(lambda: x.view(-1), "cpu") == 0

    def test_what_an_earlier_call_left_does_not_count(self) -> None:
        x, kept = torch.ones(1000, 1000), []
        peaks = [peak_allocated(lambda: kept.append(x.add(1)), "cpu") for _ in range(3)]
        assert all(4_000_000 <= peak < 4_001_000 for peak in peaks)

    # The kernel counts the peak, which no other place than /proc tells for a part of a process's life.
    @pytest.mark.skipif(sys.platform != "linux", reason="the peak memory of a process is read from Linux's /proc")
    def test_peak_of_a_process(self) -> None:
        size = 64 * 2**20
        value, grown = peak_resident(lambda: float(np.ones(size // 8).sum()))
        assert value == size // 8
        assert size <= grown + 2**20 < 1.5 * size


class TestResults:
    def test_a_run_on_changed_code_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the benchmarks write themselves, between their parts, is no change."""
        code, page, results = (tmp_path / name for name in ("code.py", "docs/benchmarks.md", "benchmarks/results/a"))
        for file in (code, page, results):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("before")
        name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (["init", "--quiet"], ["add", "."], [*name, "commit", "--quiet", "--message", "a"]):
            subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=60)
        monkeypatch.setattr(_results, "HERE", tmp_path / "benchmarks")
        commit = describe_run("a")["commit"]
        assert re.fullmatch("[0-9a-f]{7,}", commit)
        page.write_text("after")
        results.write_text("after")
        assert describe_run("a")["commit"] == commit
        code.write_text("after")
        assert describe_run("a")["commit"] == f"{commit}-dirty"

    def test_the_target_is_in_the_line(self) -> None:
        name, target = "count", TARGETS["count"]
        for value, reached in ((target.limit, True), (target.limit + 0.1, False)):
            row = line(value, target=name).as_dict(0)
            assert row["target"] == {"name": name, "limit": target.limit, "reached": reached}
        assert line(9.9, target="peer, over time").as_dict(0)["target"]["reached"] is False

    def test_a_new_run_replaces_its_lines_only(self) -> None:
        other = line(labels={"loss": "b"})
        old = results(line(1.0, 1.0, 1.0), other)
        new = merge(old, describe_run("again"), [line(3.0, 3.0, 3.0)])
        assert [(one["labels"]["loss"], one["value"], one["run"]) for one in new["lines"]] == [("a", 3, 1), ("b", 2, 0)]
        last = merge(new, describe_run("third"), [line(), other])
        assert [run["command"] for run in last["runs"]] == ["third"]
        assert {one["run"] for one in last["lines"]} == {0}

    @pytest.mark.parametrize(
        "damage",
        [
            {"schema": 2},
            {"lines": []},
            {"lines": [{**line().as_dict(0), "unit": "furlongs"}]},
            {"lines": [{**line().as_dict(0), "value": "fast"}]},
            {"lines": [{**line().as_dict(0), "seconds": 0}]},
            {"lines": [{**line().as_dict(0), "target": {"name": "count"}}]},
            {"lines": [{**line().as_dict(0), "surprise": 1}]},
            {"runs": [{"command": "python"}]},
        ],
    )
    def test_what_breaks_the_schema_is_not_written(self, damage: dict[str, Any], tmp_path: Path) -> None:
        path = tmp_path / "results.json"
        save(results(line()), path)
        before = path.read_bytes()
        with pytest.raises(jsonschema.ValidationError):
            save({**results(line()), **damage}, path)
        assert path.read_bytes() == before
        path.write_text(json.dumps({**results(line()), **damage}))
        with pytest.raises(jsonschema.ValidationError):
            load(path)

    def test_nothing_is_left_behind(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="JSON"):
            save(results(line(float("nan"))), tmp_path / "results.json")
        assert list(tmp_path.iterdir()) == []


class TestCompare:
    def test_beyond_the_spread(self) -> None:
        slower = [line(2.0, 1.9, 2.1), line(3.0, 2.2, 3.5)]
        assert [len(one) for one in compare.changes(*map(results, slower))] == [1, 0]
        assert [len(one) for one in compare.changes(*map(results, reversed(slower)))] == [0, 1]

    def test_within_the_spread(self) -> None:
        assert compare.changes(results(line(2.0, 1.9, 2.5)), results(line(3.0, 2.4, 3.5))) == ([], [])

    def test_higher_may_be_better(self) -> None:
        pair = [line(2.0, better="higher"), line(3.0, 2.9, 3.1, better="higher")]
        assert [len(one) for one in compare.changes(*map(results, pair))] == [0, 1]

    def test_the_largest_change_comes_first(self) -> None:
        names = "abc"
        old = results(*[line(labels={"loss": name}) for name in names])
        values = {"a": 4.0, "b": 9.0, "c": 5.0}
        new = results(*[line(value, value, value, labels={"loss": name}) for name, value in values.items()])
        assert [text.split("/")[1] for text in compare.changes(old, new)[0]] == ["b", "c", "a"]

    def test_what_is_not_the_same(self) -> None:
        old, new = results(line()), results(line(labels={"loss": "b"}))
        new["runs"][0]["versions"]["torch"] = "9.9"
        found = compare.differences(old, new)
        assert f"torch: {old['runs'][0]['versions']['torch']} -> 9.9" in found
        assert "only in old: losses/a/times the floor" in found
        assert "only in new: losses/b/times the floor" in found

    def test_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        paths = [str(tmp_path / name) for name in ("old.json", "new.json")]
        for path, one in zip(paths, (line(), line(9.0, 8.0, 10.0)), strict=True):
            save(results(one), Path(path))
        for order, status in ((paths, 1), (paths[::-1], 0)):
            monkeypatch.setattr(sys, "argv", ["compare", *order])
            with pytest.raises(SystemExit) as stopped:
                compare.main()
            assert stopped.value.code == status
            assert "losses/a/times the floor" in capsys.readouterr().out


class TestTable:
    def test_a_missed_target_needs_a_reason(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(table, "REASONS", {})
        reached = {name: dataclasses.replace(line(), target=name) for name in TARGETS}
        rows = [
            dataclasses.replace(one, value=Spread(*[TARGETS[name].limit] * 3), what=name).as_dict(0)
            for name, one in reached.items()
        ]
        assert table.without_reason(rows) == []
        missed = {**rows[0], "target": {**rows[0]["target"], "reached": False}}
        assert table.without_reason([missed, *rows]) == [next(iter(TARGETS))]
        assert next(iter(TARGETS)) in table.without_reason(rows[1:])  # not measured

    def test_the_worst_line_stands_in_the_table(self) -> None:
        lines = [line(value, target="count", labels={"loss": name}) for name, value in (("a", 1.0), ("b", 7.5))]
        row = next(row for row in table.tables(results(*lines)).splitlines() if TARGETS["count"].text in row)
        assert "reached 1 of 2" in row
        assert "7.5 x: b" in row

    def test_the_page_shows_the_results(self) -> None:
        latest = load(LATEST)
        assert table.tables(latest) in table.PAGE.read_text()
        assert table.without_reason(latest["lines"]) == []
