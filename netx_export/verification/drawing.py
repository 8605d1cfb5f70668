"""The pictures of the report as SVG: numbers in, a few lines of text out. Colours and sizes are the page's.

No plotting library, because the page is to follow the reader's light or dark mode and to be small, and verification
should need none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

__all__ = ["curve", "histogram", "raster", "scatter", "with_axes"]

_Event = tuple[int, int]  # row and step


def with_axes(picture: str, x: tuple[object, object], y: tuple[object, object]) -> Markup:
    """A picture with what stands at the lower and at the upper end of its two axes."""
    left, right, bottom, top = (f"<span>{escape(end)}</span>" for end in (*x, *y))
    return Markup(
        f'<div class="plot"><div class="y">{top}{bottom}</div>{picture}<div class="x">{left}{right}</div></div>'
    )


def raster(layer_raster: Mapping[str, Any], side: str, steps: int) -> str:
    """One run's events, a row per neuron from the bottom up; in red where the other has none or another value.

    Args:
        layer_raster: ``raster`` of a layer in the report.
        side: ``"expected"`` or ``"got"``.
        steps: length of the sample.
    """
    rows = len(layer_raster["neurons"])
    expected, got, unequal = (
        {(row, step) for row, step in layer_raster[events]} for events in ("expected", "got", "unequal")
    )
    own, other = (expected, got) if side == "expected" else (got, expected)
    # A single difference among many steps has to stay visible on a phone.
    width, height = max(1.0, steps / 50), max(1.0, rows / 25)
    return (
        f'<svg class="raster" viewBox="0 0 {steps} {rows}" preserveAspectRatio="none" role="img">'
        f'<path class="{side}" d="{_boxes((own & other) - unequal, rows, 1, 0.8)}"/>'
        f'<path class="missing" d="{_boxes(other - own, rows, width, height)}"/>'
        f'<path class="extra" d="{_boxes((own - other) | unequal, rows, width, height)}"/></svg>'
    )


def _boxes(events: Iterable[_Event], rows: int, width: float, height: float) -> str:
    """A box for each event; one long box where they touch, as in a neuron that spikes at every step."""
    runs: list[list[int]] = []
    for row, step in sorted(events):
        if width == 1 and runs and runs[-1][0] == row and runs[-1][1] + runs[-1][2] == step:
            runs[-1][2] += 1
        else:
            runs.append([row, step, 1])
    return "".join(
        _box(step + 0.5 - width / 2, rows - row - 0.5 - height / 2, width * length, height)
        for row, step, length in runs
    )


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{x:g} {y:g}h{width:g}v{height:g}h-{width:g}z"


def scatter(neuron_rates: Sequence[tuple[int, float, float]], top: float) -> str:
    """Each neuron's rate in one run over its rate in the other, from 0 to ``top``; on the diagonal they are equal."""
    dots = "".join(
        f'<circle class="{"expected" if expected == got else "extra"}" cx="{_scaled(expected, top)}" '
        f'cy="{100 - _scaled(got, top)}" r="{1.3 if expected == got else 2}"/>'
        for _, expected, got in neuron_rates
    )
    return (
        '<svg class="scatter" viewBox="-2 -2 104 104" role="img">'
        f'<path class="axis" d="M0 0V100H100"/><path class="diagonal" d="M0 100L100 0"/>{dots}</svg>'
    )


def histogram(counts: Mapping[str, Any]) -> str:
    """How many neurons have which rate: one run filled, the other as an outline over it.

    Args:
        counts: ``histogram`` of a layer in the report.
    """
    highest = max(*counts["expected"], *counts["got"], 1)
    filled, outline = (_steps(counts[side], highest) for side in ("expected", "got"))
    return (
        '<svg class="histogram" viewBox="-2 -2 104 64" role="img"><path class="axis" d="M0 60H100"/>'
        f'<path class="filled" d="{filled}"/><path class="outline" d="{outline}"/></svg>'
    )


def _steps(counts: Sequence[int], highest: int) -> str:
    width = 100 / len(counts)
    return "M0 60" + "".join(f"V{60 - 60 * count / highest:.2f}h{width:g}" for count in counts) + "V60"


def _scaled(value: float, top: float) -> float:
    return round(100 * value / top, 2)


def curve(values: Sequence[float]) -> str:
    """A line through some values, from the smallest to the largest."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    points = " ".join(
        f"{100 * index / max(1, len(values) - 1):.2f},{60 - 60 * (value - low) / span:.2f}"
        for index, value in enumerate(values)
    )
    return (
        '<svg class="curve" viewBox="-2 -2 104 64" role="img"><path class="axis" d="M0 0V60H100"/>'
        f'<polyline class="expected" points="{points}"/></svg>'
    )
