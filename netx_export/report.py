"""The verification report for people: a table for the terminal, and one HTML file with pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from rich import box
from rich.console import Console
from rich.table import Table

from netx_export.errors import NetxExportError
from netx_export.hdf5 import replacing

__all__ = ["print_report", "save_html"]

_EXPECTED_COLOUR = "#2f7fd1"
_GOT_COLOUR = "#e07b39"
_DIFFERENT_COLOUR = "#d62728"
_INK = "#808890"  # readable on white and on black


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print each comparison of a report, as made by ``VerificationReport.to_dict``, as a table with its verdict."""
    for comparison in report["comparisons"]:
        console.print(_table(comparison))
        console.print(_accuracy_line(comparison), style="dim")
    verdict = "[bold green]PASSED" if report["passed"] else "[bold red]FAILED"
    console.print(f"{verdict}[/]: {_verdict_text(report)}")


def _table(comparison: Mapping[str, Any]) -> Table:
    expected, got = comparison["expected"], comparison["got"]
    table = Table(
        title=f"{expected} against {got}: {comparison['samples']} samples of {comparison['steps']} steps",
        box=box.SIMPLE,
    )
    table.add_column("layer")
    columns = ("neurons", "spikes", f"{expected} rate", f"{got} rate", "budget", "differ", "verdict")
    for column in columns:
        table.add_column(column, justify="right")
    for layer in comparison["layers"]:
        budget = "" if layer["budget"] is None else f"{layer['budget']:.2%}"
        table.add_row(
            layer["name"],
            f"{layer['neurons']:,}",
            f"{layer['expected_spikes']:,}",
            f"{layer['expected_rate']:.2%}",
            f"{layer['got_rate']:.2%}",
            budget,
            f"{layer['differing']:,}",
            layer["status"],
        )
    return table


def _accuracy_line(comparison: Mapping[str, Any]) -> str:
    if comparison["expected_accuracy"] is None:
        return f"Predictions that changed: {comparison['changed_predictions']}"
    return (
        f"Accuracy: {comparison['expected_accuracy']:.2%} in {comparison['expected']}, "
        f"{comparison['got_accuracy']:.2%} in {comparison['got']}; "
        f"predictions that changed: {comparison['changed_predictions']}"
    )


def _verdict_text(report: Mapping[str, Any]) -> str:
    if report["passed"]:
        return "every spike of every layer is equal."
    for comparison in report["comparisons"]:
        for layer in comparison["layers"]:
            if layer["status"] == "untested":
                return (
                    f"layer {layer['name']} never spiked, so nothing is known of it. Give it input that makes it spike."
                )
            if layer["status"] == "different":
                first = layer["first"]
                place = f"step {first['step']} in neuron {first['neuron']} of sample {first['sample']}"
                runs = f"{comparison['expected']} and {comparison['got']}"
                return (
                    f"{layer['differing']:,} spikes of layer {layer['name']} differ between {runs}, first at {place}."
                )
    raise AssertionError("a failed report has a layer that is different or untested")


def save_html(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Render a report, as made by ``VerificationReport.to_dict``, into one HTML file that needs nothing else.

    Raises:
        NetxExportError: without matplotlib.
        ExportError: if the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("netx_export"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        report=report,
        verdict=_verdict_text(report),
        colours={"expected": _EXPECTED_COLOUR, "got": _GOT_COLOUR, "different": _DIFFERENT_COLOUR},
        accuracy_line=_accuracy_line,
        rasters=_rasters,
        histograms=_histograms,
        training=_training_curve(report["training"]) if report["training"] else None,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _rasters(comparison: Mapping[str, Any]) -> str:
    """Rasters of the first sample, one row per layer, both runs side by side; differences in red."""
    layers = comparison["layers"]
    figure = _figure(9, 0.6 + 1.9 * len(layers))
    axes = figure.subplots(len(layers), 2, sharex=True, squeeze=False)
    for row, layer in zip(axes, layers, strict=True):
        raster = layer["raster"]
        expected, got = ({tuple(place) for place in raster[side]} for side in ("expected", "got"))
        both = ((comparison["expected"], expected, _EXPECTED_COLOUR), (comparison["got"], got, _GOT_COLOUR))
        for axis, (title, spikes, colour) in zip(row, both, strict=True):
            _scatter(axis, spikes & expected & got, colour)
            _scatter(axis, spikes - (expected & got), _DIFFERENT_COLOUR)
            axis.set_xlim(-0.5, comparison["steps"] - 0.5)
            axis.set_ylim(-0.5, raster["neurons"] - 0.5)
            axis.set_title(f"{layer['name']} in {title}", fontsize=9, color=_INK)
        row[0].set_ylabel("neuron", color=_INK)
    for axis in axes[-1]:
        axis.set_xlabel("step", color=_INK)
    return _svg(figure)


def _scatter(axis: Any, places: set[tuple[int, int]], colour: str) -> None:
    neurons, steps = zip(*sorted(places), strict=True) if places else ((), ())
    axis.plot(steps, neurons, "|", color=colour, markersize=4)


def _histograms(comparison: Mapping[str, Any]) -> str:
    """Neurons per event rate, one panel per layer, with the budget as a line."""
    layers = comparison["layers"]
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    figure = _figure(9, 2.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis, layer in zip(axes.flat, layers, strict=False):
        top = 100 * layer["histogram_top"]
        edges = [top * edge / len(layer["histogram"][0]) for edge in range(len(layer["histogram"][0]) + 1)]
        axis.stairs(
            layer["histogram"][0], edges, fill=True, color=_EXPECTED_COLOUR, alpha=0.5, label=comparison["expected"]
        )
        axis.stairs(layer["histogram"][1], edges, color=_GOT_COLOUR, linewidth=1.5, label=comparison["got"])
        axis.axvline(100 * layer["expected_rate"], color=_INK, linewidth=1, label="mean")
        if layer["budget"] is not None:
            axis.axvline(100 * layer["budget"], color=_DIFFERENT_COLOUR, linestyle="--", linewidth=1, label="budget")
        axis.set_title(layer["name"], fontsize=9, color=_INK)
        axis.set_xlabel("event rate in %", color=_INK)
        axis.legend(fontsize=7, frameon=False, labelcolor=_INK)
    for axis in axes.flat[len(layers) :]:
        axis.remove()
    axes[0, 0].set_ylabel("neurons", color=_INK)
    return _svg(figure)


def _training_curve(training: Sequence[Mapping[str, float]]) -> str:
    """One panel for each figure that was recorded per epoch."""
    names = [name for name in training[0] if name != "epoch"]
    figure = _figure(9, 2.6)
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axis.plot([row["epoch"] for row in training], [row[name] for row in training], color=_EXPECTED_COLOUR)
        axis.set_title(name, fontsize=9, color=_INK)
        axis.set_xlabel("epoch", color=_INK)
    return _svg(figure)


def _figure(width: float, height: float) -> Any:
    """A figure without a window: pyplot would choose a back end for the whole process."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NetxExportError("The report's pictures need matplotlib: pip install 'lava-spikeloss[report]'.") from None
    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    for axis in figure.axes:
        axis.set_facecolor("none")
        axis.tick_params(colors=_INK, labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(_INK)
    figure.patch.set_alpha(0)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    drawing = buffer.getvalue()
    return drawing[drawing.index("<svg") :]
