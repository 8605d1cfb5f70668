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
ORDER = ("cuba", "bootstrap.cuba", "rf", "rf_iz", "sigma_delta", "alif", "adrf", "adrf_iz")
START, END = "<!-- made by tools/support_table.py -->\n", "<!-- end of the table -->\n"
HEAD = """\
# What arrives in Lava, and what is refused

Made by `tools/support_table.py` from the table that the tests run through (`tests/netx/support_cases.py`): every block
of lava-dl 0.6.0 is in it. *Exact* means: every spike of every layer equals SLAYER's, on the reference simulator and on
Lava's fixed-point simulator, through the stock `lava.lib.dl.netx.hdf5.Network`. *Refused* means: `export` writes
nothing and says which block it is, why, and what to use instead. `head.Conv` and `head.Dense` are what lava-dl's YOLO
networks end with: a synapse, and a `dendrite.Sigma` registered right behind it.

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
    """The README with its short table: a row for each kind of block, a column for each family of neurons."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    blocks = {case.block for case in [*EXACT, *REFUSED] if not case.block.startswith("head.")}
    kinds = sorted({block.rpartition(".")[2] for block in blocks})
    families = sorted({block.rpartition(".")[0] for block in blocks}, key=ORDER.index)
    head = "".join(f" `{family}` |" for family in families)
    rows = [f"| block |{head}\n", f"|---|{'---|' * len(families)}\n"]
    for kind in kinds:
        cells = (_cell(f"{family}.{kind}") if f"{family}.{kind}" in blocks else "" for family in families)
        rows.append(f"| `{kind}` | {' | '.join(cells)} |\n")
    return f"{before}{START}{''.join(rows)}{END}{after}"


def _cell(block: str) -> str:
    """What becomes of a block: a number counts those of its options that are refused."""
    refused = sum(case.block == block for case in REFUSED)
    if all(case.block != block for case in EXACT):
        return "refused"
    return f"exact, {refused} refused" if refused else "exact"


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
