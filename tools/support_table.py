"""Write the support table in ``docs/support.md`` from the list that the tests run through.

python tools/support_table.py          # write it
python tools/support_table.py --check  # exit with 1 if it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "netx"))

from support_cases import EXACT, REFUSED, Case  # noqa: E402

TARGET = ROOT / "docs" / "support.md"
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

| block | option | result |
|---|---|---|
"""


def table() -> str:
    """The whole document."""
    return HEAD + "".join(_row(case) for case in sorted([*EXACT, *REFUSED], key=lambda case: case.block.lower()))


def _row(case: Case) -> str:
    if case.raises:
        result = f"refused by lava-dl itself: {case.how}"
    elif case.refused:
        result = f"refused: {case.how or case.refused}"
    else:
        result = f"exact, {case.how}" if case.how else "exact"
    return f"| `{case.block}` | {case.option} | {result} |\n"


def main() -> int:
    """Write the document, or compare it."""
    if "--check" in sys.argv[1:]:
        return int(not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != table())
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(table(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
