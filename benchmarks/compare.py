"""What became slower or faster between two results, beyond their spread.

A line counts as changed if the quartiles of its rounds no longer overlap. Ratios within a round compare well between
machines, seconds do not; where machine or versions differ, that is said first. Ends with status 1 if anything is worse.

    python -m benchmarks.compare OLD.json NEW.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks._results import load

__all__ = ["changes", "differences", "main"]


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Descriptions of the lines that became worse, and of those that became better, the largest change first."""
    before = {line["id"]: line for line in old["lines"]}
    found: tuple[list[tuple[float, str]], list[tuple[float, str]]] = ([], [])
    for line in new["lines"]:
        one = before.get(line["id"])
        if one is None or (line["low"] <= one["high"] and one["low"] <= line["high"]):
            continue
        better = (line["value"] < one["value"]) == (line["better"] == "lower")
        change = line["value"] / one["value"] if one["value"] > 0 else float("inf")
        text = f"{_figure(one)} -> {_figure(line)}  {line['id']}"
        found[better].append((max(change, 1 / change if change > 0 else float("inf")), text))
    worse, improved = ([text for _, text in sorted(one, reverse=True)] for one in found)
    return worse, improved


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What is not the same on both sides: machine, versions, lines."""
    found = []
    for name in ("machine", "versions"):
        sides = [{key: value for run in one["runs"] for key, value in run[name].items()} for one in (old, new)]
        for key in sorted(set(sides[0]) | set(sides[1])):
            values = [side.get(key) for side in sides]
            if values[0] != values[1] and key != "load":
                found.append(f"{key}: {values[0]} -> {values[1]}")
    ids = [{line["id"] for line in one["lines"]} for one in (old, new)]
    found += [f"only in {side}: {name}" for side, i in (("old", 0), ("new", 1)) for name in sorted(ids[i] - ids[1 - i])]
    return found


def _figure(line: dict[str, Any]) -> str:
    return f"{line['value']:10.4g} {line['unit']} ({line['low']:.4g} to {line['high']:.4g})"


def main() -> None:
    """Print what changed between two files."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    arguments = parser.parse_args()
    old, new = load(arguments.old), load(arguments.new)
    worse, better = changes(old, new)
    for title, texts in (("Not the same", differences(old, new)), ("Worse", worse), ("Better", better)):
        print(f"{title}: {len(texts)}", *texts, sep="\n  ")
    raise SystemExit(1 if worse else 0)


if __name__ == "__main__":
    main()
