"""The verification report for people: lines for the terminal, and one HTML file. Both are made of the JSON alone."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape
from rich.console import Console
from rich.text import Text

from lava_spikeloss.losses.labels import IGNORED
from netx_export.file.atomic import make_directory, replacing
from netx_export.printable import printable
from netx_export.provenance import recorded_deviations
from netx_export.run import OUTPUT
from netx_export.verification import drawing

__all__ = ["print_report", "save_html", "save_report", "to_frame", "to_html", "to_text", "verdict_text"]

_WORDS = {"exact": "PASSED", "within tolerance": "PASSED", "different": "FAILED", "untested": "UNTESTED"}
_SKIPPED = "SKIPPED"  # not compared: it counts neither for nor against the network
_STYLES = {"PASSED": "bold green", "FAILED": "bold red", "UNTESTED": "bold yellow", _SKIPPED: "yellow"}
_NOT_RECORDED = "the recording does not hold it"
_MOST_CLASSES = 40  # a table of predictions of more classes is not readable


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
        for name, reason in _not_compared(comparison).items():
            _print(console, _SKIPPED, f"{name}: not compared, since {reason}")
        if comparison["output"] is not None:
            _print(console, _WORDS[comparison["output"]["status"]], _output_line(comparison["output"]))
        if comparison["cause"] is not None:
            _print(console, "", _cause_line(comparison["cause"]))
    for line in filter(None, [_places_line(report), _deviations_line(report)]):
        _print(console, "", line)
    _print(console, "PASSED" if report["passed"] else "FAILED", verdict_text(report))


def _print(console: Console, word: str, text: str, style: str = "") -> None:
    # As plain Text: what a file says is not markup, nor does it move the cursor.
    heading = (f"{word:<8} " if word else "", _STYLES.get(word, ""))
    console.print(Text.assemble(heading, (printable(text), style)), soft_wrap=True)


def _not_compared(comparison: Mapping[str, Any]) -> dict[str, str]:
    """What was left out of a comparison, each with the reason."""
    left_out = dict.fromkeys(comparison["unrecorded"], _NOT_RECORDED)
    return left_out if comparison["no_output"] is None else {**left_out, OUTPUT: comparison["no_output"]}


def _title(comparison: Mapping[str, Any]) -> str:
    reason = "stopped early" if comparison["stopped"] else comparison.get("why_no_more")  # older reports have none
    return (
        f"{comparison['expected']} against {comparison['got']}: {comparison['samples']:,} samples of "
        f"{comparison['steps']} steps{f', {reason}' if reason else ''}"
    )


def _layer_line(layer: Mapping[str, Any]) -> str:
    parts = [f"{layer['name']}: {layer['expected']['spikes']:,} {layer['gives']} of {layer['neurons']:,} neurons"]
    if layer["got"]["rate"] is not None:
        rate = f"rate {_percent(layer['got']['rate'])}"
        trained, budget = (None if layer[key] is None else _percent(layer[key]) for key in ("trained_rate", "budget"))
        parts += [rate if budget is None else f"{rate} of {budget} allowed"]
        parts += [] if trained is None else [f"{trained} at export"]
    untested = layer["status"] == "untested"
    parts.append(f"it {_untested(layer)}, so nothing is known of it" if untested else f"{layer['differing']:,} differ")
    return ", ".join(parts)


def _untested(layer: Mapping[str, Any]) -> str:
    """Why a layer, or the output, shows nothing."""
    if layer.get("unbounded_losses"):
        return f"has no finite loss in {layer['unbounded_losses']:,} samples"
    return "never spiked" if layer.get("gives") == "spikes" else "gave nothing but zeros"


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
    if output["ignored"]:
        plural = "" if output["ignored"] == 1 else "s"
        parts.append(f"{output['ignored']:,} sample{plural} without a label left out")
    if output["expected_loss"] is not None and output["got_loss"] is not None:
        parts.append(f"loss {output['expected_loss']:.6g} and {output['got_loss']:.6g}")
    if output["unbounded_losses"]:
        parts.append(f"loss infinite or NaN in {output['unbounded_losses']:,} samples")
    if output["status"] == "untested":
        parts.append(f"it {_untested(output)}, so nothing is known of it")
    return ", ".join(parts)


def _cause_line(cause: Mapping[str, Any]) -> str:
    return f"Cause: {cause['name']}. {cause['detail']} {_place(cause)}"


def _places_line(report: Mapping[str, Any]) -> str:
    """Where the file begins and ends inside of the network's forward; nothing if it is all of it."""
    begins = "begins with what reaches the network's first block" if report.get("begins_inside") else ""
    ends = (
        "ends with what its last block makes, which is not what the network returns"
        if report.get("ends_inside")
        else ""
    )
    places = " and ".join(filter(None, [begins, ends]))
    return f"The file lies inside of the network's forward: it {places}. The rest stays on the host." if places else ""


def _deviations_line(report: Mapping[str, Any]) -> str:
    """How far the file deviated at its export; nothing if it was equal."""
    deviations, tolerance = recorded_deviations(report["metadata"])
    told = ", ".join(f"{name} by {size:.6g}" for name, size in deviations.items())
    return f"Exported within a tolerance of {tolerance:g}: it deviated from SLAYER in {told}." if told else ""


def _place(cause: Mapping[str, Any]) -> str:
    place = cause["place"]
    if place is None:
        return ""
    neuron = ", ".join(map(str, place["neuron"]))
    return f"First seen in layer {cause['layer']}, neuron {neuron}, sample {place['sample']}, step {place['step']}."


def _percent(share: float) -> str:
    return f"{share:.2%}"


def verdict_text(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence. A pass speaks of what was compared, and names what was not."""
    kinds = {layer["gives"] for comparison in report["comparisons"] for layer in comparison["layers"]}
    thing = "spike" if kinds == {"spikes"} else "value"
    if not report["passed"]:
        return _failure(report, thing)
    left_out = [
        f"{', '.join(names)} (between {comparison['expected']} and {comparison['got']})"
        for comparison in report["comparisons"]
        if (names := _not_compared(comparison))
    ]
    what = f"every {thing} that was compared is equal" if left_out else f"every {thing} of every layer is equal"
    if not report["exact"]:
        what = f"some {thing}s differ, all within the tolerance that was given"
    return f"{what}; not compared: {'; '.join(left_out)}." if left_out else f"{what}."


def _failure(report: Mapping[str, Any], thing: str) -> str:
    for comparison in report["comparisons"]:
        runs = f"{comparison['expected']} and {comparison['got']}"
        named = [(f"layer {layer['name']}", layer) for layer in comparison["layers"]]
        for name, one in [*named, ("the output", comparison["output"])]:
            if one is not None and one["status"] == "untested":
                advice = (
                    "Give a loss that is finite" if one.get("unbounded_losses") else "Give it input that changes that"
                )
                return f"{name} {_untested(one)}, so nothing is known of it. {advice}."
            if one is not None and one["status"] == "different":
                things = "values" if one is comparison["output"] else f"{thing}s"
                return f"{one['differing']:,} {things} of {name} differ between {runs}."
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
    """Write the page of a report, as :func:`to_html` makes it, into a file.

    Raises:
        ExportError: if the file cannot be written.
    """
    page = to_html(report)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def to_html(report: Mapping[str, Any]) -> str:
    """A report, as made by ``VerificationReport.to_dict`` or read from its JSON, as a page that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("netx_export.verification"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_controls,
    )
    environment.filters.update(percent=_percent, place=_place, number=_number, joule=_joule)
    environment.tests["graded"] = _is_graded
    return environment.get_template("report.html.j2").render(
        report=report,
        verdict=verdict_text(report),
        deviations=_deviations_line(report),
        places=_places_line(report),
        words=_WORDS,
        not_compared=_not_compared,
        confusion=_confusion,
        top_rate=_top_rate,
        draw=drawing,
    )


def to_text(report: Mapping[str, Any]) -> str:
    """What :func:`print_report` prints, without colours."""
    text = io.StringIO()
    print_report(report, Console(file=text, color_system=None, force_jupyter=False))
    return text.getvalue().rstrip()


def to_frame(report: Mapping[str, Any]) -> str:
    """The page as an element for a notebook, whose styles it is not to mix with."""
    return f'<iframe srcdoc="{escape(to_html(report))}" style="width: 100%; height: 40rem; border: 0"></iframe>'


def _without_controls(value: Any) -> Any:
    """What is put into the page: of a text, each line without control characters, or halves of characters."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.split("\n")))


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
    return max((rate or 0.0 for rate in (*sides, *others)), default=0.0) or 1.0


def _is_graded(comparison: Mapping[str, Any]) -> bool:
    return any(layer["gives"] != "spikes" for layer in comparison["layers"])


def _confusion(output: Mapping[str, Any]) -> dict[str, Any] | None:
    """Samples by label and predicted class, or by class in the one run and the other if there are no labels."""
    labelled = output["expected_accuracy"] is not None
    cells: Counter[tuple[int, int]] = Counter()
    for label, expected, got, number in output["confusion"]:
        if not labelled or label != IGNORED:
            cells[label if labelled else expected, got] += number
    rows, columns = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    if max(len(rows), len(columns)) > _MOST_CLASSES:
        return None
    top = max(cells.values())
    table = [
        (row, [(row == column, cells[row, column], cells[row, column] / top) for column in columns]) for row in rows
    ]
    return {"labelled": labelled, "columns": columns, "rows": table}
