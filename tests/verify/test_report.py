"""The JSON keeps to its documented schema; the page is made of the JSON alone, in one file, and escapes everything."""

from __future__ import annotations

import dataclasses
import errno
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netx_export import ExportError, NetxExportError, Tolerance, simulate, verify
from netx_export.verification.report import (
    _joule,
    _number,
    print_report,
    save_html,
    save_report,
    to_html,
    verdict_text,
)
from netx_export.verification.verify import SCHEMA, VerificationReport

SCHEMA_DOC = Path(__file__).parents[2] / "docs" / "report-schema.md"


def schema() -> dict[str, dict[str, str]]:
    """The tables of the document: object to field to type."""
    objects: dict[str, dict[str, str]] = {}
    for section in SCHEMA_DOC.read_text().split("\n## ")[1:]:
        rows = re.findall(r"^\| (\w+) \| ([^|]+) \|", section, re.MULTILINE)
        objects[section.splitlines()[0]] = {name: kind.strip() for name, kind in rows if name != "field"}
    return objects


def check(value: Any, kind: str, objects: dict[str, dict[str, str]], path: str) -> None:
    """Assert that a value is of a type in the document's words."""
    if kind.endswith(" or null") and not kind.startswith(("(", "list", "map")):
        if value is None:
            return
        kind = kind.removesuffix(" or null")
    if kind.startswith("list of number or null"):
        kind = "list of number"
        if value is None:
            return
    plain = {"boolean": bool, "integer": int, "text": str, "number": (int, float)}
    if kind in plain:
        assert isinstance(value, plain[kind]), f"{path}: {value!r} is no {kind}"  # type: ignore[arg-type]
        assert kind == "boolean" or not isinstance(value, bool), path
    elif kind.startswith("list of "):
        assert isinstance(value, list), path
        for index, item in enumerate(value):
            check(item, kind.removeprefix("list of "), objects, f"{path}[{index}]")
    elif kind.startswith("map of "):
        for key, item in value.items():
            check(item, kind.removeprefix("map of "), objects, f"{path}.{key}")
    elif kind.startswith("("):
        kinds = kind.strip("()").split(", ")
        assert len(value) == len(kinds), path
        for item, one in zip(value, kinds, strict=True):
            check(item, one, objects, path)
    else:
        assert set(value) == set(objects[kind]), f"{path} is no {kind}"
        for name, one in objects[kind].items():
            check(value[name], one, objects, f"{path}.{name}")


@pytest.fixture(scope="module")
def reports(mlp: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, VerificationReport]:
    def lower(file: Any) -> None:
        file["layer/2/neuron/vThMant"][...] = file["layer/2/neuron/vThMant"][()] - 5

    spoiled = mlp.spoiled(tmp_path_factory.mktemp("spoiled") / "spoiled.net", lower)
    right = simulate(mlp.path, mlp.spikes)
    return {
        "passed": verify(mlp.net, mlp.path, mlp.spikes, mlp.labels, lava_samples=0, loss=_loss),
        "failed": verify(mlp.net, spoiled, mlp.spikes, mlp.labels, lava_samples=0, loss=_loss),
        "tolerated": verify(
            mlp.net, spoiled, mlp.spikes, lava_samples=0, tolerance=Tolerance(rate=0.5, changed_predictions=1.0)
        ),
        "recorded": verify(None, spoiled, mlp.spikes, recorded={"dense3": right.layers["dense3"]}),
        "untested": verify(None, mlp.path, np.zeros_like(mlp.spikes), recorded={"dense1": 0 * right.layers["dense1"]}),
    }


def _loss(output: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(output.sum(-1), labels)


KINDS = ["passed", "failed", "tolerated", "recorded", "untested"]


@pytest.mark.slayer
@pytest.mark.parametrize("kind", KINDS)
def test_json_keeps_to_its_schema(kind: str, reports: dict[str, VerificationReport]) -> None:
    report = json.loads(reports[kind].to_json())
    check(report, "report", schema(), "report")
    assert report["schema"] == SCHEMA
    assert f"version of this schema: {SCHEMA}" in SCHEMA_DOC.read_text()


@pytest.mark.slayer
def test_the_verdicts_in_words(reports: dict[str, VerificationReport]) -> None:
    passed = {kind: report.passed for kind, report in reports.items()}
    assert passed == {"passed": True, "failed": False, "tolerated": True, "recorded": False, "untested": False}
    texts = {kind: verdict_text(report.to_dict()) for kind, report in reports.items()}
    assert texts["passed"] == "every spike of every layer is equal."
    assert "spikes of layer dense2 differ between SLAYER and reference." in texts["failed"]
    assert "within the tolerance" in texts["tolerated"]
    assert "spikes of layer dense3 differ between reference and recording." in texts["recorded"]
    assert "layer dense1 never spiked, so nothing is known of it." in texts["untested"]


class Page(HTMLParser):
    """Every tag closed, and everything that a browser would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values.pop("href")[1:]] if values.get("href", "").startswith("#") else []
        self.fetched += [f"{tag} {name}" for name in values if name in ("src", "href", "srcset") or name[:2] == "on"]
        self.fetched += [tag] if tag in ("script", "link", "iframe", "img", "object") else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slayer
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_one_file_made_of_the_json(
    kind: str, reports: dict[str, VerificationReport], tmp_path: Path
) -> None:
    reports[kind].save_html(tmp_path / "direct.html")
    save_html(json.loads(reports[kind].to_json()), tmp_path / "from_json.html")
    text = (tmp_path / "direct.html").read_text()
    assert text == (tmp_path / "from_json.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.fetched == []
    assert "url(" not in text
    assert "@import" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    layers = sum(len(comparison.layers) for comparison in reports[kind].comparisons)
    assert text.count('class="raster"') == 2 * layers
    assert text.count('class="scatter"') == layers
    assert ("Cause: " in text) == (kind in ("failed", "tolerated", "recorded"))


@pytest.mark.slayer
def test_the_page_says_what_ran_and_leads_to_each_of_its_parts(reports: dict[str, VerificationReport]) -> None:
    report = dataclasses.replace(
        reports["failed"], run={**reports["failed"].run, "command": "netx-export verify a.net"}
    )
    assert report.run["file"] == "spoiled.net"
    assert report.run["torch"] == torch.__version__
    text = to_html(report.to_dict())
    for said in report.run.values():
        assert said in text
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.links) <= set(page.ids)
    assert {"comparison-1", "energy", "network", "layer-1-3"} <= set(page.links)


@pytest.mark.slayer
@pytest.mark.parametrize("layers", [8, 9])
def test_the_pictures_of_many_layers_are_folded(layers: int, reports: dict[str, VerificationReport]) -> None:
    report = reports["passed"].to_dict()
    report["comparisons"][0]["layers"] = report["comparisons"][0]["layers"][:1] * layers
    assert to_html(report).count("<details>") == (0 if layers == 8 else layers + 2)


@pytest.mark.slayer
def test_axes_have_numbers_at_their_ends(reports: dict[str, VerificationReport]) -> None:
    text = to_html(reports["passed"].to_dict())
    raster = reports["passed"].layers[0].raster
    steps = reports["passed"].comparisons[0].steps
    first, last = raster.neurons[0], raster.neurons[-1]
    assert f'<div class="y"><span>{last}</span><span>neuron {first}</span></div><svg class="raster"' in text
    assert f'</svg><div class="x"><span>step 0</span><span>{steps - 1}</span></div>' in text
    assert text.count('class="plot"') == text.count("<svg")


@pytest.mark.slayer
def test_a_report_prints_as_in_the_terminal_and_shows_itself_in_a_notebook(
    reports: dict[str, VerificationReport], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    print_report(reports["failed"].to_dict(), Console())
    assert str(reports["failed"]) == capsys.readouterr().out.rstrip()
    frame = reports["failed"]._repr_html_()
    assert frame.startswith('<iframe srcdoc="')
    assert html.unescape(frame[len('<iframe srcdoc="') :].split('"')[0]) == to_html(reports["failed"].to_dict())


@pytest.mark.slayer
def test_reports_with_the_same_result_are_equal_whenever_it_was_found(reports: dict[str, VerificationReport]) -> None:
    report = reports["passed"]
    later = {**report.run, "date": "2001-01-01 00:00 UTC"}
    assert dataclasses.replace(report, run=later) == report
    assert dataclasses.replace(report, run=later, comparisons=()) != report


@pytest.mark.slayer
def test_a_report_has_its_text_in_a_notebook_too(
    reports: dict[str, VerificationReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = str(reports["failed"])
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert text
    assert str(reports["failed"]) == text


@pytest.mark.slayer
def test_everything_is_escaped(reports: dict[str, VerificationReport], tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'&"
    report = reports["failed"].to_dict()

    def spoil(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: spoil(item) for key, item in value.items()} | ({evil: evil} if "target" in value else {})
        if isinstance(value, list | tuple):
            return [spoil(item) for item in value]
        return evil if isinstance(value, str) and value not in ("different", "exact", "J") else value

    spoiled = {**spoil(report), "training": [{"epoch": 0, evil: 1.0}, {"epoch": 1, evil: 2.0}]}
    save_html(spoiled, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    assert Page(text).fetched == []
    assert text.count("&lt;script&gt;") > 20


@pytest.mark.slayer
def test_the_terminal_takes_no_markup_from_a_file(
    reports: dict[str, VerificationReport], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    report = reports["failed"].to_dict()
    report["comparisons"][0]["layers"][0]["name"] = "[bold]x[/nothing]"
    print_report(report, Console())
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("PASSED   [bold]x[/nothing]: ") for line in lines)
    assert any(line.startswith("FAILED   dense2: ") for line in lines)


EVIL = {
    "a lone surrogate": "caf\udce9",
    "an escape that clears the screen": "\x1b[2J\x1b[1;1HPASSED",
    "a forged line": "x\rPASSED   every spike of every layer is equal.",
    "the end of a script": "</script></pre><script>alert(1)</script>",
    "text from right to left": "\u202egnihtyreve",
    "a NUL": "a\0b",
    "the other controls": "".join(map(chr, [*range(1, 10), *range(11, 32), *range(127, 160)])),
}


@pytest.mark.slayer
@pytest.mark.parametrize("kind", EVIL)
def test_a_report_is_written_whatever_the_texts_in_a_file(
    kind: str, reports: dict[str, VerificationReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    evil = EVIL[kind]
    report = dataclasses.replace(reports["recorded"], metadata={evil: evil}, network=f"{evil}\nsecond line").to_dict()
    report["comparisons"][0]["cause"]["detail"] = evil
    report["comparisons"][0]["unrecorded"] = (evil,)
    report["comparisons"][0]["no_output"] = evil
    save_report(report, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["metadata"] == {evil: evil}
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "second line</pre>" in page
    assert Page(page).fetched == []
    print_report(report, Console(width=300, force_terminal=True, no_color=True))
    terminal = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out)  # bold, by which the terminal shows a title
    for text in (page, terminal):
        assert all(c.isprintable() or c == "\n" for c in text)
    assert terminal.count("\nPASSED   every spike") == 0


@pytest.mark.slayer
def test_a_full_disk_leaves_the_old_report(
    reports: dict[str, VerificationReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report.json", "report.html"):
        (tmp_path / name).write_text("old")
    written = Path.write_text

    def full(self: Path, data: str, *arguments: Any, **options: Any) -> int:
        written(self, data[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ExportError, match=r"Cannot write .*report\.json.*No space left on device"):
        save_report(reports["passed"].to_dict(), tmp_path)
    with pytest.raises(ExportError, match=r"Cannot write .*report\.html.*No space left on device"):
        reports["passed"].save_html(tmp_path / "report.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


@pytest.mark.slayer
def test_a_directory_that_cannot_be_made(reports: dict[str, VerificationReport], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetxExportError, match="Cannot write to"):
        save_report(reports["passed"].to_dict(), tmp_path / "file" / "report")


@pytest.mark.slayer
def test_a_training_curve_is_shown(reports: dict[str, VerificationReport], tmp_path: Path) -> None:
    curve = [{"epoch": 0, "loss": 2.0}, {"epoch": 1, "loss": 1.0}]
    dataclasses.replace(reports["passed"], training=curve).save_html(tmp_path / "report.html")
    assert "loss: 2 → 1" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("got", "red"), [(99.0, False), (100.0, False), (100.5, True), (None, False)])
def test_what_goes_beyond_the_budget_is_red(
    got: float | None, red: bool, plain: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    report = verify(None, plain.path, plain.spikes, recorded=plain.run).to_dict()
    report["comparisons"][0]["budget"] = [{"name": "synops", "limit": 100.0, "expected": 200.0, "got": got}]
    print_report(report, Console(width=300, force_terminal=True, color_system="standard"))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "Budget of synops" in line)
    used = "not known" if got is None else f"{got:g}"
    assert line == ("\x1b[31m" if red else "") + f"Budget of synops: {used} of 100 allowed" + ("\x1b[0m" if red else "")


@pytest.mark.parametrize("classes", [40, 41])
def test_a_table_of_predictions_has_at_most_forty_classes(classes: int, plain: Any, tmp_path: Path) -> None:
    report = verify(None, plain.path, plain.spikes, recorded=plain.run).to_dict()
    cells = [(None, number, number, 1) for number in range(classes)]
    report["comparisons"][0]["output"]["confusion"] = cells
    save_html(report, tmp_path / "report.html")
    assert ('class="confusion"' in (tmp_path / "report.html").read_text()) == (classes == 40)


@pytest.mark.parametrize(
    ("joule", "text"),
    [(None, "-"), (0.0, "0 J"), (9e-13, "0 J"), (1e-12, "1 pJ"), (9.99e-10, "999 pJ"), (1e-9, "1 nJ"), (2.0, "2 J")],
)
def test_energies_are_in_the_largest_unit_that_they_reach(joule: float | None, text: str) -> None:
    assert _joule(joule) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (12345, "12,345"), (999.96, "1000"), (1000.4, "1,000"), (0.12345, "0.1235")]
)
def test_numbers_of_a_table_are_short(value: float | None, text: str) -> None:
    assert _number(value) == text
