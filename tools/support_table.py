"""Write the support tables in ``docs/support.md`` and ``README.md`` from the list that the tests run through.

python tools/support_table.py          # write them
python tools/support_table.py --check  # exit with 1 if one is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "netx"))

from support_cases import EXACT, REFUSED, Case  # noqa: E402

TARGET = ROOT / "docs" / "support.md"
README = ROOT / "README.md"
START, END = "<!-- made by tools/support_table.py -->\n", "<!-- end of the table -->\n"
HEAD = """\
# What arrives in Lava, and what is refused

Made by `tools/support_table.py` from the table that the tests run through (`tests/netx/support_cases.py`): every block
of lava-dl 0.6.0 is in it. *Exact* means: every spike of every layer equals SLAYER's, on the reference simulator and on
Lava's fixed-point simulator, through the stock `lava.lib.dl.netx.hdf5.Network`. *Refused* means: `export` writes
nothing and says which block it is, why, and what to use instead.

A sigma-delta network sends numbers, and *exact* means that they are equal too. SLAYER computes them in float32, which
holds their sums exactly up to 128 (2^24 steps of 2^-17). In 120 random networks of three layers, all 58 whose states
stayed below 123 were equal in every number; all 62 with states above 176 differed, by at most 0.007. The proof at
export refuses such a network on its sample; whether another input drives the states beyond 128 is not known from it.

| block | option | result | instead |
|---|---|---|---|
"""


def table() -> str:
    """The whole document."""
    return HEAD + "".join(_row(case) for case in sorted([*EXACT, *REFUSED], key=lambda case: case.block.lower()))


def _row(case: Case) -> str:
    if case.raises:
        result = f"refused by lava-dl itself: {case.how}"
    elif case.refused:
        result = f"refused: {case.refused}{f' ({case.how})' if case.how else ''}"
    else:
        result = f"exact, {case.how}" if case.how else "exact"
    return f"| `{case.block}` | {case.option} | {result} | {case.instead} |\n"


def readme() -> str:
    """The README with its short table: a row for each block that can be exact, and one for all that cannot."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    exact = {case.block: [other.option for other in EXACT if other.block == case.block] for case in EXACT}
    never = sorted({case.block for case in REFUSED} - set(exact), key=str.lower)
    rows = [
        f"| `{block}` | {_listed(options)} | {sum(case.block == block for case in REFUSED) or ''} |\n"
        for block, options in sorted(exact.items(), key=lambda item: item[0].lower())
    ]
    rows.append(f"| {', '.join(f'`{block}`' for block in never)} | | all |\n")
    return f"{before}{START}| block | exact | refused |\n|---|---|---|\n{''.join(rows)}{END}{after}"


def _listed(options: list[str]) -> str:
    named = "; ".join(option for option in options if option)
    return f"yes; also: {named}" if named else "yes"


def main() -> int:
    """Write the tables, or compare them."""
    wanted = {TARGET: table(), README: readme()}
    if "--check" in sys.argv[1:]:
        return int(any(not file.is_file() or file.read_text(encoding="utf-8") != text for file, text in wanted.items()))
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
