"""Write the tables in ``docs/support.md``, ``docs/forwards.md`` and ``README.md`` from what the tests run through.

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
from support_forwards import FORWARDS, Forward  # noqa: E402

TARGET = ROOT / "docs" / "support.md"
FORWARD = ROOT / "docs" / "forwards.md"
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


FORWARD_HEAD = """\
# What a forward may do

A network is exported as it is written. Its forward is run on your sample, and on random values in the place of what its
blocks make, by which each value is known again wherever it goes. What counts is what happens to values, not which
functions are called, nor in which order modules were registered; a module that the forward does not run is no obstacle.

- **Between two blocks** a forward may rearrange values. They arrive in the file as a flatten layer, or as another order
  of the next layer's weights. It may not compute with them, drop or repeat them, or mix samples or steps.
- **Before the first block** it may do what it likes, as long as spikes come of it, or numbers for input neurons. That
  stays on the host: the file *begins inside* of the forward, and takes what reaches the first block.
- **Behind the last block** it may do what it likes with what that made. That stays on the host too: the file *ends
  inside*.
- **Branches**, skip connections, concatenations, second outputs and blocks that run twice are in no file: netx connects
  each layer to the one before it. They are refused, with both ends named.

`export`'s result, `verify`'s report and `netx-export inspect` say where a file begins and ends. `verify(net, path, x)`
gives `x` to the network and what reaches its first block to the file, and compares what its last block makes.
`simulate` knows the file alone: give it what the network's forward makes of its input.

A bootstrap network, whose forward takes a `mode`, is given that of lava-dl's scheduler for spiking neurons.

Made by `tools/support_table.py` from the table that the tests run through (`tests/netx/support_forwards.py`). `a` and
`b` are convolutions, `c` is a dense layer; `net.d` is another one. A refusal names the block, counted in the order of
the forward.

| what it does | what it returns | in the file |
|---|---|---|
"""


def forwards() -> str:
    """The document of what a forward may do."""
    return FORWARD_HEAD + "".join(map(_forward_row, FORWARDS))


def _forward_row(forward: Forward) -> str:
    at = "" if forward.at is None else f"block {forward.at}, "
    becomes = f"refused: {at}*{forward.refused}*" if forward.refused else f"exact: {forward.becomes}"
    return f"| {forward.does} | `{forward.code}` | {becomes} |\n"


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
    wanted = {TARGET: document(), FORWARD: forwards(), README: readme()}
    if "--check" in sys.argv[1:]:
        return int(any(not file.is_file() or file.read_text(encoding="utf-8") != text for file, text in wanted.items()))
    for file, text in wanted.items():
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
