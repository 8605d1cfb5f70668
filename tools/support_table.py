"""Write the support tables in ``docs/support.md`` and ``README.md`` from the list that the tests run through.

python tools/support_table.py          # write them
python tools/support_table.py --check  # exit with 1 if one is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "netx"))

from support_cases import EXACT, REFUSED, Case  # noqa: E402

TARGET = ROOT / "docs" / "support.md"
README = ROOT / "README.md"
FAMILIES = ("cuba", "bootstrap.cuba", "rf", "rf_iz", "sigma_delta", "head", "alif", "adrf", "adrf_iz")
START, END = "<!-- made by tools/support_table.py -->\n", "<!-- end of the table -->\n"
HEAD = """\
# What arrives in Lava, and what is refused

*Exact* means: every spike of every layer equals SLAYER's, on the reference simulator and on Lava's fixed-point
simulator, through the stock `lava.lib.dl.netx.hdf5.Network`. *Refused* means: `export` writes nothing and says which
block it is, why, and what to use instead. Where a cell is empty, lava-dl has no such block; the numbers count options
that are refused.

"""
ORIGIN = """
Made by `tools/support_table.py` from the table that the tests run through (`tests/netx/support_cases.py`): every block
of lava-dl 0.6.0 is in it, with every option.
"""
NOTES = {
    "sigma_delta": """\
A sigma-delta network sends numbers, and *exact* means that they are equal too. SLAYER computes them in float32, which
holds their sums exactly up to 128 (2^24 steps of 2^-17). In 120 random networks of three layers, all 58 whose states
stayed below 123 were equal in every number; all 62 with states above 176 differed, by at most 0.007. The proof at
export refuses such a network on its sample; whether another input drives the states beyond 128 is not known from it.

""",
    "head": """\
`head.Conv` and `head.Dense` are what lava-dl's YOLO networks end with: a synapse, and a `dendrite.Sigma` registered
right behind it.

""",
}


def document() -> str:
    """The whole page: what works comes first."""
    exact = [f"\n### {family}\n\n{NOTES.get(family, '')}{rows}" for family, rows in _by_family(EXACT, _arriving)]
    refused = [f"\n### {family}, refused\n\n{rows}" for family, rows in _by_family(REFUSED, _refused)]
    grid = f'<div class="narrow" markdown>\n\n{overview()}\n</div>\n'
    return f"{HEAD}{grid}{ORIGIN}\n## Exact\n{''.join(exact)}\n## Refused\n{''.join(refused)}"


def _by_family(cases: Iterable[Case], table: Callable[[list[Case]], str]) -> Iterator[tuple[str, str]]:
    cases = sorted(cases, key=lambda case: case.block.lower())
    for family in sorted({_family(case) for case in cases}, key=FAMILIES.index):
        yield family, table([case for case in cases if _family(case) == family])


def _family(case: Case) -> str:
    return case.block.rpartition(".")[0]


def _arriving(cases: list[Case]) -> str:
    rows = [f"| `{case.block}` | {case.option} | {case.how or 'as it is'} |\n" for case in cases]
    return f"| block | option | in the file |\n|---|---|---|\n{''.join(rows)}"


def _refused(cases: list[Case]) -> str:
    rows = [f"| `{case.block}` | {case.option} | {_reason(case)} | {case.instead} |\n" for case in cases]
    return f"| block | option | why | instead |\n|---|---|---|---|\n{''.join(rows)}"


def _reason(case: Case) -> str:
    if case.raises:
        return f"by lava-dl itself: {case.how}"
    return f"{case.refused} ({case.how})" if case.how else case.refused


def readme() -> str:
    """The README with its short table."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}{overview()}{END}{after}"


def overview() -> str:
    """A row for each kind of block, a column for each family of neurons."""
    blocks = {case.block for case in [*EXACT, *REFUSED] if not case.block.startswith("head.")}
    kinds = sorted({block.rpartition(".")[2] for block in blocks})
    families = sorted({block.rpartition(".")[0] for block in blocks}, key=FAMILIES.index)
    head = "".join(f" `{family}` |" for family in families)
    rows = [f"| block |{head}\n", f"|---|{'---|' * len(families)}\n"]
    for kind in kinds:
        cells = (_cell(f"{family}.{kind}") if f"{family}.{kind}" in blocks else "" for family in families)
        rows.append(f"| `{kind}` | {' | '.join(cells)} |\n")
    return "".join(rows)


def _cell(block: str) -> str:
    """What becomes of a block: a number counts those of its options that are refused."""
    refused = sum(case.block == block for case in REFUSED)
    if all(case.block != block for case in EXACT):
        return "refused"
    return f"exact, {refused} refused" if refused else "exact"


def main() -> int:
    """Write the tables, or compare them."""
    wanted = {TARGET: document(), README: readme()}
    if "--check" in sys.argv[1:]:
        return int(any(not file.is_file() or file.read_text(encoding="utf-8") != text for file, text in wanted.items()))
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
