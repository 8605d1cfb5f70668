"""The benchmarks still run, measure what they say, and write their figures into the page."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import lava_spikeloss
from benchmarks import __main__ as everything
from benchmarks import (
    backends,
    digit_networks,
    learning,
    losses,
    networks,
    passes,
    profiles,
    report,
    simulator,
    training_step,
    verification,
)
from benchmarks.memory import peak_allocated, peak_resident
from benchmarks.peers import CASES
from benchmarks.report import Bound, Wish, bound_on, figure, fill_page, table
from benchmarks.timing import Effort, Times, joined, paired, ratio
from lava_spikeloss.losses.module import Loss

TINY = Wish(tiny=True)


class TestTinyRun:
    def test_losses(self) -> None:
        (rows,), bounds = losses.measure(TINY)
        assert [row.split("`")[1] for row in rows.splitlines()[2:]] == [case.name for case in CASES]
        assert len(bounds) >= 1  # peers may not be installed

    @pytest.mark.slayer
    @pytest.mark.parametrize("part", [training_step, networks, verification, backends])
    def test_networks(self, part: ModuleType) -> None:
        if part is backends:
            pytest.importorskip("numba")
        (rows,), _ = part.measure(TINY)
        assert len(rows.splitlines()) >= 3

    @pytest.mark.slayer
    def test_profiles(self) -> None:
        pytest.importorskip("numba")
        (rows,), _ = profiles.measure(Wish("simulate, 2312-*", tiny=True))
        # From Python 3.13 on its profiler counts what a compiled loop takes to the function that calls it.
        assert f"`{'compiled.add_weights' if sys.version_info < (3, 13) else 'synapses.__call__'}` " in rows
        shares = re.findall(r"([0-9.]+) %", rows)
        assert sum(map(float, shares)) == pytest.approx(100, abs=1)

    @pytest.mark.slow
    @pytest.mark.lava
    def test_simulators(self) -> None:
        (rows,), _ = simulator.measure(Wish("no delays", tiny=True))
        assert "Lava, by `simulate`" in rows

    @pytest.mark.slow
    @pytest.mark.lava
    def test_sigma_delta_on_simulators(self) -> None:
        (rows,), _ = simulator.measure(Wish("sigma-delta", tiny=True))
        assert len(rows.splitlines()) == 5

    @pytest.mark.slow
    @pytest.mark.slayer
    def test_kinds_of_networks_on_the_reference(self) -> None:
        (rows,), _ = simulator.measure(Wish("kinds", tiny=True))
        assert len(rows.splitlines()) == 5

    def test_only_what_is_asked_for(self) -> None:
        (rows,), _ = losses.measure(Wish("region_*", tiny=True))
        assert [row.split("`")[1] for row in rows.splitlines()[2:]] == ["region_count_loss"]
        assert losses.measure(Wish("nothing", tiny=True)) == ([], [])


def test_every_loss_is_measured() -> None:
    modules = [value for value in vars(lava_spikeloss).values() if isinstance(value, type) and issubclass(value, Loss)]
    ours = {one._function.__name__ for one in modules} | {"sparsity_enforcer", "spike_cluster"}
    assert ours == {case.name.partition(",")[0] for case in CASES}


def test_a_peer_that_is_not_equal_is_not_timed() -> None:
    case = next(case for case in CASES if case.name == "ce_count_loss")
    value, gradient = torch.ones(()), torch.arange(24.0).reshape(2, 3, 4)
    time_first = gradient.movedim(-1, 0)
    losses.assert_equal(case, [value, gradient], [value.reshape(1), time_first])
    with pytest.raises(AssertionError, match="ce_count_loss is not what snnTorch says"):
        losses.assert_equal(case, [value, gradient], [1.1 * value, time_first])
    with pytest.raises(AssertionError, match="ce_count_loss is not what snnTorch says"):
        losses.assert_equal(case, [value, gradient], [value, 2 * time_first])


def test_backends_that_differ_are_not_timed() -> None:
    net, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(net.state_dict())
    backends.assert_equal({"reference": net, "compiled": other}, torch.ones(1, 2))
    other.register_forward_hook(lambda *arguments: 2 * arguments[-1])
    with pytest.raises(AssertionError, match="The backends differ"):
        backends.assert_equal({"reference": net, "compiled": other}, torch.ones(1, 2))


class TestTiming:
    def test_every_contestant_has_a_turn_in_every_round(self) -> None:
        calls: list[str] = []
        runs = {name: lambda name=name: calls.append(name) for name in "abc"}
        times = paired(runs, Effort(rounds=4, turn=0.0))
        assert {name: (len(one.wall), len(one.processor)) for name, one in times.items()} == dict.fromkeys(
            "abc", (4, 4)
        )
        rounds = ["".join(calls[3:][start : start + 3]) for start in range(0, 12, 3)]  # behind one call each to warm up
        assert rounds == ["abc", "bca", "cab", "abc"]

    def test_seconds_are_those_of_one_call(self) -> None:
        times = paired({"sleep": lambda: time.sleep(0.001)}, Effort(rounds=3, turn=0.2))["sleep"]
        assert 0.001 <= min(times.wall) < 0.02  # of some hundred calls in a turn

    def test_processor_time_is_that_of_work(self) -> None:
        times = paired({"sleep": lambda: time.sleep(0.05), "work": lambda: sum(range(10**6))}, Effort(3, 0.0))
        assert min(times["sleep"].processor) < 0.02
        assert min(times["work"].processor) > 0.001

    def test_the_median_of_the_ratios_within_a_round(self) -> None:
        other, ours = Times([9.0, 9.0, 9.0], [2.0, 9.0, 8.0]), Times([3.0, 3.0, 3.0], [1.0, 3.0, 2.0])
        assert ratio(other, ours) == 3.0
        assert ratio(other, Times([9.0, 3.0, 1.0], [1.0, 1.0, 1.0]), clock="wall") == 3.0
        assert Times([5.0, 1.0, 2.0]).seconds == 2.0

    def test_measurements_are_joined_round_by_round(self) -> None:
        several = [{"a": Times([1.0, 2.0], [3.0, 4.0])}, {"a": Times([5.0], [6.0])}]
        assert joined(several) == {"a": Times([1.0, 2.0, 5.0], [3.0, 4.0, 6.0])}


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

    @pytest.mark.parametrize("case", [case for case in CASES if case.backward], ids=lambda case: case.name)
    def test_no_loss_holds_more_than_three_copies(self, case: losses.Case) -> None:
        size = losses.Size(16, 20, 100)
        assert losses._copies(case, size, "cpu") < 3.2  # of few numbers those of single neurons count too


class TestReport:
    def test_a_bound_names_what_is_nearest_to_it(self) -> None:
        found = bound_on("fast", [(1.5, "a"), (1.0, "b"), (2.0, "c")], 1.0, at_least=True)
        assert found == Bound("fast", "1: b", True)
        assert not bound_on("fast", [(0.99, "a")], 1.0, at_least=True).kept
        assert bound_on("small", [(2.0, "a"), (1.0, "b")], 2.0, at_least=False) == Bound("small", "2: a", True)
        assert not bound_on("small", [(2.01, "a")], 2.0, at_least=False).kept

    def test_figures(self) -> None:
        assert [figure(value) for value in (0.01234, 1.234, 99.9, 1234.5)] == ["0.0123", "1.23", "99.9", "1,234"]

    def test_table(self) -> None:
        assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"

    def test_a_section_is_filled_between_its_marks(self) -> None:
        page = "head\n<!-- a: measured -->\nold\n<!-- a: end -->\n<!-- b: measured -->\n<!-- b: end -->\ntail\n"
        filled = fill_page(page, "a", "new\n\n")
        assert filled == page.replace("old", "new")
        assert fill_page(filled, "a", "new") == filled
        with pytest.raises(ValueError, match="the marks <!-- c: measured --> and <!-- c: end --> once"):
            fill_page(page, "c", "new")

    def test_the_page_has_a_place_for_every_part(self) -> None:
        page = report.PAGE.read_text()
        for part in ("machine", *everything.PARTS):
            assert fill_page(page, part, "figures") != page

    def test_the_command_line(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        for name, value in report.KEEP_MEMORY.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["losses", "--only", "ce_*", "--tiny"])
        threads, asked = torch.get_num_threads(), []

        def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
            print("noise of a library")
            asked.append(wish)
            return ["| figures |"], [Bound("fast", "0.5: a", False)]

        try:
            with pytest.raises(SystemExit) as stopped:
                report.main("losses", "doc", measure)
        finally:
            torch.set_num_threads(threads)
        assert stopped.value.code == report.BROKEN
        assert asked == [Wish("ce_*", tiny=True)]
        out = capsys.readouterr().out
        assert "`python -m benchmarks.losses --only ce_* --tiny`" in out
        assert "| fast | **broken** | 0.5: a |" in out
        assert "| figures |" in out
        assert "noise" not in out

    def test_a_run_on_changed_code_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the benchmarks write themselves, between their parts, is no change."""
        code, page = tmp_path / "code.py", tmp_path / "docs/benchmarks.md"
        for file in (code, page):
            file.parent.mkdir(exist_ok=True)
            file.write_text("before")
        name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        for command in (["init", "--quiet"], ["add", "."], [*name, "commit", "--quiet", "--message", "a"]):
            subprocess.run(["git", *command], cwd=tmp_path, check=True, timeout=60)
        monkeypatch.setattr(report, "ROOT", tmp_path)
        monkeypatch.setattr(report, "PAGE", page)
        commit = report._commit()
        assert re.fullmatch("[0-9a-f]{7,}", commit)
        page.write_text("after")
        assert report._commit() == commit
        code.write_text("after")
        assert report._commit() == f"{commit}-dirty"


class TestPasses:
    def test_reads_and_writes_are_counted(self) -> None:
        x = torch.empty(10, 100, device="meta", requires_grad=True)
        counted = passes.traffic(lambda: (x.t() * 2).sum())
        # reads and writes the product, reads it again and writes a number; the view costs nothing
        assert (counted.moved, counted.kernels) == (4 * (1000 + 1000 + 1000 + 1), 2)
        assert 4000 <= counted.peak <= 4004 + 4
        assert counted.waits == 0

    def test_an_expanded_tensor_is_read_once_and_one_written_in_place_is_read_and_written(self) -> None:
        x, row = torch.empty(10, 100, device="meta"), torch.empty(1, 100, device="meta").expand(10, 100)
        counted = passes.traffic(lambda: x.add_(row))
        assert counted.moved == 4 * (1000 + 100 + 1000)

    def test_an_output_that_is_given_is_written_but_not_read(self) -> None:
        x, sums = torch.empty(10, 100, device="meta"), torch.empty(10, 100, device="meta")
        assert passes.traffic(lambda: torch.cumsum(x, -1, out=sums)).moved == 4 * (1000 + 1000)

    def test_of_a_tensor_that_numbers_are_scattered_into_only_these_are_written(self) -> None:
        x, index = torch.empty(10, 100, device="meta"), torch.empty(10, 1, dtype=torch.long, device="meta")
        assert passes.traffic(lambda: x.scatter_(1, index, 1.0)).moved == 8 * 10 + 4 * 10

    def test_every_loss_keeps_the_bounds(self) -> None:
        (rows,), bounds = passes.measure(Wish())
        assert {case.name for case in CASES if case.backward} <= {row.split("`")[1] for row in rows.splitlines()[2:]}
        assert all(bound.kept for bound in bounds), bounds
        assert passes.measure(Wish("nothing")) == ([], [])


class TestLearning:
    def test_every_loss_has_a_lesson_and_the_gallery_shows_what_it_recommends(self) -> None:
        gallery = Path(learning.PAGE).read_text()
        settings = [setting for lesson in learning.LESSONS for setting in (lesson.default, lesson.recommended)]
        written = " ".join(text for setting in settings for text in vars(setting).values())
        modules = [v for v in vars(lava_spikeloss).values() if isinstance(v, type) and issubclass(v, Loss)]
        for module in modules:
            assert f"{module.__name__}(" in written or module.__module__.endswith("module"), module
        for lesson in learning.LESSONS:
            name = lesson.name.partition(",")[0]
            page = gallery.partition(f"### {name}\n")[2].partition("\n### ")[0]
            for text in filter(None, vars(lesson.recommended).values()):
                assert f"`{text}`" in page, (lesson.name, text)

    @pytest.mark.parametrize("lesson", learning.LESSONS, ids=lambda lesson: lesson.name)
    def test_every_lesson_runs(self, lesson: learning.Lesson) -> None:
        pytest.importorskip("sklearn")
        networks = digit_networks.Networks(decays=((1.0, 0.1),), seeds=(0,))
        (result,) = learning.learn(lesson, lesson.recommended, networks, epochs=0)
        assert 0 <= result.right <= 100
        samples = torch.arange(64)
        target = learning.TARGETS[lesson.target]()
        for setting in (lesson.default, lesson.recommended):
            output = networks(digit_networks.digits().x[samples].unsqueeze(0)).of(0)
            loss = learning._of_output(setting.build(), target)(output, samples)
            assert loss.shape == ()
            assert loss.isfinite()
            (slope,) = torch.autograd.grad(loss, networks.weights[0])
            assert slope.isfinite().all()
            assert slope.any(), setting

    def test_networks_side_by_side_learn_what_each_learns_alone(self) -> None:
        pytest.importorskip("sklearn")
        setting = learning.Setting("CECountLoss()")
        lesson = learning.Lesson("CECountLoss", setting, setting)
        alone = [
            learning.learn(lesson, setting, digit_networks.Networks((pair,), (1,)), epochs=1)[0]
            for pair in digit_networks.DECAYS
        ]
        together = learning.learn(lesson, setting, digit_networks.Networks(seeds=(1,)), epochs=1)
        for one, other in zip(alone, together, strict=True):
            assert abs(one.right - other.right) < 2  # sums in another order
        assert min(result.right for result in alone) > 30  # ten classes

    @pytest.mark.slayer
    def test_neurons_are_those_of_slayer(self) -> None:
        import lava.lib.dl.slayer as slayer

        x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0)).mul(32).round().div(64)
        for decays in digit_networks.DECAYS:
            names = ("threshold", "current_decay", "voltage_decay", "tau_grad", "scale_grad")
            neuron = slayer.neuron.cuba.Neuron(
                **dict(zip(names, (digit_networks.THRESHOLD, *decays, 0.03, 3), strict=True))
            )
            theirs, ours = x.clone().requires_grad_(), x.clone().requires_grad_()
            spikes, _ = digit_networks.cuba(ours.movedim(1, 2).unsqueeze(0), torch.tensor([decays]))
            spikes, expected = spikes[0].movedim(1, 2), neuron(theirs)
            assert (spikes != expected).float().mean() < 0.02  # SLAYER rounds its states
            assert expected.sum() > 5
            spikes.sum().backward()
            expected.sum().backward()
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0.05, atol=1e-3)
