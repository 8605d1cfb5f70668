"""The tables of Loihi numbers, from the tables that the code uses, while the site is built."""

from __future__ import annotations

from typing import Any

from lava_spikeloss import LOIHI_1
from netx_export.network.chip import LIMITS, Limit


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    if page.file.src_uri != "loihi-numbers.md":
        return markdown
    return markdown.replace("LIMITS\n", _limits(), 1).replace("ENERGY\n", _energies(), 1)


def _limits() -> str:
    rows = ["| rule | Loihi 1 | Loihi 2 | source | status |", "|---|---|---|---|---|"]
    for name, one in LIMITS["loihi1"].items():
        two = LIMITS["loihi2"][name]
        if one == two:
            rows.append(f"| {name} | {_range(one)} | {_range(two)} | {one.source} | {one.status} |")
            continue
        for limit, cells in ((one, (_range(one), "")), (two, ("", _range(two)))):
            rows.append(f"| {name} | {cells[0]} | {cells[1]} | {limit.source} | {limit.status} |")
    return "\n".join(rows) + "\n"


def _range(limit: Limit) -> str:
    return f"{limit.low:,} to {limit.high:,}" if limit.low else f"up to {limit.high:,}"


def _energies() -> str:
    rows = ["| operation | energy | source | status |", "|---|---|---|---|"]
    for name in ("synaptic_operation", "neuron_update_active", "neuron_update_inactive", "spike_within_tile"):
        constant = getattr(LOIHI_1, name)
        rows.append(
            f"| {name.replace('_', ' ')} | {constant.value * 1e12:.1f} pJ | {constant.source} | {constant.status} |"
        )
    return "\n".join(rows) + "\n"
