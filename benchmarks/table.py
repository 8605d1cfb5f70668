"""The tables of ``docs/benchmarks.md``, from the results. Nothing in them is typed by hand but the reasons.

    python -m benchmarks.table           # write them
    python -m benchmarks.table --check   # end with status 1 if they are out of date

Ends with status 1, too, if a target is missed without a reason in ``reasons.py``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._cases import CASES, CLUSTER, SIMILARITIES
from benchmarks._results import LATEST, load
from benchmarks._targets import TARGETS, Target
from benchmarks.losses import LARGEST, SIZES
from benchmarks.reasons import REASONS

__all__ = ["main", "tables", "without_reason"]

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
START, END = "<!-- made by benchmarks/table.py -->\n", "<!-- end of the tables -->\n"
_Row = dict[str, Any]


def tables(results: dict[str, Any]) -> str:
    """All tables, as Markdown."""
    lines = results["lines"]
    parts = [
        _runs(results),
        "## Targets\n\n" + _targets(lines),
        f"## Losses, {LARGEST}, on the CPU\n\n" + _LOSSES + _bandwidth(lines) + _losses(lines),
        "## Against each peer, on the CPU\n\n" + _PEERS + _peers(lines),
        "## Networks\n\n" + _NETWORKS + _networks(lines),
        "## Clusters, similarity, training, verification and simulators\n\n" + _others(lines),
    ]
    on_cuda = [line for line in lines if line["labels"].get("device") == "cuda"]
    if on_cuda:
        parts.append("## On CUDA\n\n" + _plain(on_cuda))
    return "\n".join(parts)


_LOSSES = """\
Forward and backward, one thread. *Floor*: a copy of the input, which reads it once and writes its gradient once. Below
1 it goes where every step has the same gradient, which torch then stores once. *Memory*: at the peak, beyond input and
gradient, in copies of the input. *Growth*: slope of the logarithm of time over that of samples, classes and steps.

"""
_PEERS = """\
How many times as fast ours is, float32 / bfloat16, by samples x classes x steps. A dash: the peer raises on bfloat16.

"""
_NETWORKS = """\
Seconds, and in brackets the peak memory in copies of the float32 weights. *Proved*: the file is read back, simulated on
a sample and compared with the network.

"""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ["---"] * len(header), *rows))


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _figure(line: _Row | None) -> str:
    return "" if line is None else f"{_number(line['value'])} {line['unit']}".strip()


def _runs(results: dict[str, Any]) -> str:
    rows = []
    for index, run in enumerate(results["runs"]):
        if any(line["run"] == index for line in results["lines"]):
            command = run["command"].replace("|", "\\|")
            rows.append([f"`{command}`", run["started"], f"`{run['commit']}`", f"{run['machine']['load']:.1f}"])
    machines = {_machine(run) for run in results["runs"]}
    return "\n\n".join(sorted(machines)) + "\n\n" + _table(["command", "started", "commit", "load before"], rows)


def _machine(run: dict[str, Any]) -> str:
    machine = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    device = f", {machine['cuda']}" if machine["cuda"] else ""
    cores = f"{machine['cores']} cores, torch threads: {machine['threads']}"
    return f"{machine['processor']}, {cores}{device}; {machine['platform']}; {versions}."


def _targets(lines: list[_Row]) -> str:
    rows = []
    for name, target in TARGETS.items():
        own = [line for line in lines if line["target"] and line["target"]["name"] == name]
        reached = sum(line["target"]["reached"] for line in own)
        worst = _worst(target, own)
        verdict = "not measured" if not own else f"reached, {reached} of {len(own)}"
        if reached < len(own):
            verdict = f"**missed**, reached {reached} of {len(own)}"
        subject = "" if worst is None else f"{_figure(worst)}: {_subject(worst)}"
        reason = REASONS.get(name, "") if not own or reached < len(own) else ""
        rows.append([target.text, verdict, subject, reason])
    return _table(["target", "outcome", "the worst", "why"], rows)


def _worst(target: Target, lines: list[_Row]) -> _Row | None:
    sign = 1 if target.better == "lower" else -1
    return max(lines, key=lambda line: sign * line["value"], default=None)


def _subject(line: _Row) -> str:
    hidden = {"cpu"} | ({"float32"} if line["part"] != "memory" else set())
    return ", ".join([*(value for value in line["labels"].values() if value not in hidden), line["what"]])


def without_reason(lines: list[_Row]) -> list[str]:
    """Names of targets that are missed or not measured, and nobody wrote why."""
    reached: dict[str, bool] = {}
    for line in lines:
        if line["target"]:
            name = line["target"]["name"]
            reached[name] = reached.get(name, True) and line["target"]["reached"]
    return [name for name in TARGETS if not reached.get(name, False) and not REASONS.get(name)]


def _find(lines: list[_Row], part: str, what: str, **labels: str) -> _Row | None:
    """The only line with these labels."""
    found = [
        line
        for line in lines
        if line["part"] == part and line["what"] == what and labels.items() <= line["labels"].items()
    ]
    return found[0] if found else None


def _bandwidth(lines: list[_Row]) -> str:
    copy = _find(lines, "losses", "bandwidth", loss="copy", size=str(LARGEST), device="cpu")
    return (
        ""
        if copy is None
        else f"The copy reads and writes {_figure(copy)} together, {1e3 * copy['seconds']:.2f} ms.\n\n"
    )


def _losses(lines: list[_Row]) -> str:
    rows = []
    for case in CASES:
        own = {"loss": case.name, "device": "cpu", "size": str(LARGEST)}
        single, half = (
            _find(lines, "losses", "times the floor", dtype=dtype, **own) for dtype in ("float32", "bfloat16")
        )
        if single is None:
            continue
        memory = _find(lines, "memory", "peak extra memory", dtype="float32", **own)
        growth = [_find(lines, "growth", "slope", loss=case.name, axis=axis, device="cpu") for axis in ("n", "c", "t")]
        rows.append(
            [
                f"`{case.name}`",
                f"{1e3 * single['seconds']:.2f}",
                _number(single["value"]),
                "" if half is None else _number(half["value"]),
                "" if memory is None else _number(round(memory["value"], 2)),
                ", ".join(f"{slope['value']:.2f}" for slope in growth if slope is not None),
            ]
        )
    return _table(["loss", "ms", "times the floor", "in bfloat16", "memory", "growth"], rows)


def _peers(lines: list[_Row]) -> str:
    own = [line for line in lines if line["what"].startswith("times as fast as") and line["labels"].get("loss")]
    sizes = [str(size) for size in SIZES]
    rows = []
    for case in CASES:
        for peer in case.peers:
            cells = []
            for size in sizes:
                wanted = {"loss": case.name, "size": size, "device": "cpu"}
                pair = [
                    _find(own, "losses", f"times as fast as {peer.library}", dtype=dtype, **wanted)
                    for dtype in ("float32", "bfloat16")
                ]
                cells.append(" / ".join("-" if one is None else _number(one["value"]) for one in pair))
            loops = f"{peer.library}, over {peer.loops}" if peer.loops else peer.library
            rows.append([f"`{case.name}`", loops, *cells])
    return _table(["loss", "peer, and what it loops over", *sizes], rows)


def _networks(lines: list[_Row]) -> str:
    own = [line for line in lines if line["part"] == "networks"]
    networks = list(dict.fromkeys(line["labels"]["network"] for line in sorted(own, key=_synapses)))
    actions = ("export", "export, proved", "read", "check")
    rows = []
    for network in networks:
        cells = []
        for action in actions:
            seconds = _find(own, "networks", "time", network=network, action=action)
            memory = _find(own, "networks", "peak memory", network=network, action=action)
            cells.append(_figure(seconds) + ("" if memory is None else f" ({_number(memory['value'])})"))
        rows.append([network, *cells])
    return _table(["synapses", *actions], rows)


def _synapses(line: _Row) -> int:
    sizes = [int(size) for size in line["labels"]["layers"].split("-")]
    return sum(one * other for one, other in itertools.pairwise(sizes))


def _plain(lines: Iterable[_Row]) -> str:
    rows = [
        [_subject(line), f"{_figure(line)} ({_number(line['low'])} to {_number(line['high'])})", line["note"]]
        for line in lines
    ]
    return _table(["what", "median (quartiles)", "note"], rows)


def _others(lines: list[_Row]) -> str:
    single = {case.name for case in (CLUSTER, *SIMILARITIES)}
    return _plain(
        line
        for line in lines
        if line["labels"].get("device") != "cuda"
        and (
            line["part"] in ("training_step", "verification", "simulator")
            or (line["part"] == "losses" and line["labels"]["loss"] in single)
        )
    )


def main() -> None:
    """Write the tables into the page, or check that they are there."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.table", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    results = load(LATEST)
    page = PAGE.read_text()
    head, rest = page.split(START)
    text = head + START + "\n" + tables(results) + "\n" + END + rest.split(END)[1]
    if not arguments.check:
        PAGE.write_text(text)
    elif text != page:
        parser.exit(1, f"{PAGE} is out of date: run `python -m benchmarks.table`.\n")
    missing = without_reason(results["lines"])
    if missing:
        parser.exit(1, f"No reason in benchmarks/reasons.py for: {', '.join(missing)}.\n")


if __name__ == "__main__":
    main()
