"""The verification report for people: lines for the terminal, and one HTML file. Both are made of the JSON alone."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jinja2
from rich.console import Console
from rich.text import Text

from netx_export import drawing
from netx_export.atomic import make_directory, replacing
from netx_export.printable import printable

__all__ = ["print_report", "save_html", "save_report"]

_WORDS = {"exact": "PASSED", "within tolerance": "PASSED", "different": "FAILED", "untested": "UNTESTED"}
_STYLES = {"PASSED": "bold green", "FAILED": "bold red", "UNTESTED": "bold yellow"}
_MOST_CLASSES = 40  # beyond, a table of predictions is not readable


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print a line with a verdict for each layer of each comparison, and one for the whole report.

    Args:
        report: as made by ``VerificationReport.to_dict``.
        console: where to print.
    """
    for comparison in report["comparisons"]:
        _print(console, "", _title(comparison), "bold")
        for layer in comparison["layers"]:
            _print(console, _WORDS[layer["status"]], _layer_line(layer))
        for line in comparison["budget"]:
            over = line["got"] is not None and line["got"] > line["limit"]
            _print(console, "", _budget_line(line), "red" if over else "")
        for name in comparison["unrecorded"]:
            _print(console, "UNTESTED", f"{name}: not in the recording")
        if comparison["output"] is not None:
            _print(console, _WORDS[comparison["output"]["status"]], _output_line(comparison["output"]))
        if comparison["cause"] is not None:
            _print(console, "", _cause_line(comparison["cause"]))
    _print(console, "PASSED" if report["passed"] else "FAILED", verdict_text(report))


def _print(console: Console, word: str, text: str, style: str = "") -> None:
    # As plain Text: what a file says is not markup.
    start = (f"{word:<8} " if word else "", _STYLES.get(word, ""))
    console.print(Text.assemble(start, (printable(text), style)), soft_wrap=True)


def _title(comparison: Mapping[str, Any]) -> str:
    return (
        f"{comparison['expected']} against {comparison['got']}: {comparison['samples']:,} samples of "
        f"{comparison['steps']} steps{', stopped early' if comparison['stopped'] else ''}"
    )


def _layer_line(layer: Mapping[str, Any]) -> str:
    parts = [f"{layer['name']}: {layer['expected']['spikes']:,} {layer['gives']} of {layer['neurons']:,} neurons"]
    if layer["got"]["rate"] is not None:
        rate = f"rate {_percent(layer['got']['rate'])}"
        trained, budget = (None if layer[key] is None else _percent(layer[key]) for key in ("trained_rate", "budget"))
        parts += [rate if budget is None else f"{rate} of {budget} allowed"]
        parts += [] if trained is None else [f"{trained} at export"]
    untested = layer["status"] == "untested"
    parts.append(f"it {_silent(layer)}, so nothing is known of it" if untested else f"{layer['differing']:,} differ")
    return ", ".join(parts)


def _silent(layer: Mapping[str, Any]) -> str:
    return "never spiked" if layer["gives"] == "spikes" else "gave nothing but zeros"


def _budget_line(line: Mapping[str, Any]) -> str:
    number = _joule if line["name"].endswith("energy") else _number
    used = "not known" if line["got"] is None else number(line["got"])
    return f"Budget of {line['name'].replace('_', ' ')}: {used} of {number(line['limit'])} allowed"


def _output_line(output: Mapping[str, Any]) -> str:
    parts = [f"output: {output['differing']:,} values differ"]
    if output["changed_predictions"] is not None:
        parts.append(f"{output['changed_predictions']:,} predictions changed")
    if output["expected_accuracy"] is not None:
        parts.append(f"accuracy {_percent(output['expected_accuracy'])} and {_percent(output['got_accuracy'])}")
    if output["expected_loss"] is not None:
        parts.append(f"loss {output['expected_loss']:.6g} and {output['got_loss']:.6g}")
    return ", ".join(parts)


def _cause_line(cause: Mapping[str, Any]) -> str:
    return f"Cause: {cause['name']}. {cause['detail']} {_place(cause)}"


def _place(cause: Mapping[str, Any]) -> str:
    place = cause["place"]
    if place is None:
        return ""
    neuron = ", ".join(map(str, place["neuron"]))
    return f"First seen in layer {cause['layer']}, neuron {neuron}, sample {place['sample']}, step {place['step']}."


def _percent(share: float) -> str:
    return f"{share:.2%}"


def verdict_text(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence."""
    kinds = {layer["gives"] for comparison in report["comparisons"] for layer in comparison["layers"]}
    thing = "spike" if kinds == {"spikes"} else "value"
    if report["passed"]:
        equal = f"every {thing} of every layer is equal."
        return equal if report["exact"] else f"some {thing}s differ, all within the tolerance that was given."
    for comparison in report["comparisons"]:
        runs = f"{comparison['expected']} and {comparison['got']}"
        for layer in comparison["layers"]:
            if layer["status"] == "untested":
                return (
                    f"layer {layer['name']} {_silent(layer)}, so nothing is known of it. Give it input that changes "
                    f"that."
                )
            if layer["status"] == "different":
                return f"{layer['differing']:,} {thing}s of layer {layer['name']} differ between {runs}."
        output = comparison["output"]
        if output is not None and output["status"] == "different":
            return f"{output['differing']:,} values of the output differ between {runs}."
    raise AssertionError("a failed report has something that is different or untested")


def save_report(report: Mapping[str, Any], directory: str | os.PathLike[str]) -> None:
    """Write ``report.json`` and ``report.html`` into a directory, which is made if it does not exist.

    Raises:
        ExportError: if they cannot be written; none is left half-written.
    """
    folder = make_directory(directory)
    with replacing(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
    save_html(report, folder / "report.html")


def save_html(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Render a report, as made by ``VerificationReport.to_dict`` or read from its JSON, into one HTML file.

    Raises:
        ExportError: if the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("netx_export"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable_lines,
    )
    environment.filters.update(percent=_percent, place=_place, number=_number, joule=_joule)
    environment.tests["graded"] = _is_graded
    page = environment.get_template("report.html.j2").render(
        report=report,
        verdict=verdict_text(report),
        words=_WORDS,
        confusion=_confusion,
        top_rate=_top_rate,
        draw=drawing,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _printable_lines(value: Any) -> Any:
    """A text of a file without characters that do not print; line breaks are of no harm in HTML."""
    return "\n".join(map(printable, value.split("\n"))) if type(value) is str else value  # drawings are no plain texts


def _number(value: float | None) -> str:
    """For a table: nothing for None, whole numbers with commas, others short."""
    if value is None:
        return "-"
    if isinstance(value, int) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _joule(value: float | None) -> str:
    if value is None:
        return "-"
    for unit, size in (("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6), ("nJ", 1e-9), ("pJ", 1e-12)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return "0 J"


def _top_rate(comparison: Mapping[str, Any]) -> float:
    """The largest rate or budget among the layers, which the bars end at."""
    sides = [layer[side]["rate"] for layer in comparison["layers"] for side in ("expected", "got")]
    others = [layer[key] for layer in comparison["layers"] for key in ("trained_rate", "budget")]
    return max(rate or 0.0 for rate in (*sides, *others)) or 1.0


def _is_graded(comparison: Mapping[str, Any]) -> bool:
    return any(layer["gives"] != "spikes" for layer in comparison["layers"])


def _confusion(output: Mapping[str, Any]) -> dict[str, Any] | None:
    """Samples by label and predicted class, or by class in the one run and the other if there are no labels."""
    labelled = output["expected_accuracy"] is not None
    cells: Counter[tuple[int, int]] = Counter()
    for label, expected, got, number in output["confusion"]:
        cells[label if labelled else expected, got] += number
    rows, columns = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    if max(len(rows), len(columns)) > _MOST_CLASSES:
        return None
    top = max(cells.values())
    table = [
        (row, [(row == column, cells[row, column], cells[row, column] / top) for column in columns]) for row in rows
    ]
    return {"labelled": labelled, "columns": columns, "rows": table}
