"""Every loss, forward and backward: its time beside that of the peer that has it, and its memory. In float32.

Ours and the peer have turns in the same rounds. Values and gradients are compared before anything is timed. A peer gets
its data in the layout that it wants, which costs it nothing here.

    python -m benchmarks.losses --only 'spike_*'
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from benchmarks.memory import peak_allocated
from benchmarks.peers import CASES, SIZES, Case, Loss, Size, library
from benchmarks.report import Bound, Wish, bound_on, figure, main, table
from benchmarks.timing import joined, paired, ratio

__all__ = ["assert_equal", "call", "measure"]

_Run: TypeAlias = Callable[[], list[torch.Tensor]]
_Measured: TypeAlias = list[tuple[float, str]]
_TINY = Size(4, 10, 12)
_TOLERANCE = 1e-4


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """One table, and three bounds."""
    slower: _Measured = []
    looping: _Measured = []
    copies: _Measured = []
    rows = []
    for case in (case for case in CASES if wish.wants(case.name)):
        sizes = (_TINY,) if wish.tiny else case.sizes
        ratios = looping if case.peer and case.peer.loops in ("time", "elements") else slower
        cells = [_compare(case, size, wish, ratios) for size in sizes]
        cells += ["-"] * (len(SIZES) - len(cells))
        if case.backward:
            copies.append((_copies(case, sizes[-1], wish.device), case.name))
        name = f"`{case.name}`" + ("" if case.sizes == SIZES else f", {case.sizes[0]}")
        rows.append([name, _peer(case), *cells, figure(copies[-1][0]) if case.backward else "-"])
    bounds = [
        # Two sums of the same spikes take the same time, which scatters by this much on a busy machine.
        ("no loss slower than a peer's, within a tenth", slower, 0.9, True),
        ("10 times as fast as a peer that loops over time or elements", looping, 10.0, True),
        ("at most 3 copies of the input in memory", copies, 3.05, False),
    ]
    head = ["loss", "peer", *(str(size) for size in SIZES), "copies"]
    found = [bound_on(text, values, limit, at_least=least) for text, values, limit, least in bounds if values]
    return [table(head, rows)] if rows else [], found


def call(case: Case, loss: Loss, x: torch.Tensor, target: Any) -> _Run:
    """Forward and backward as a call; it gives the value, and the gradient if there is one."""
    if not case.backward:
        return lambda: [loss(x, target)]
    x.requires_grad_()

    def run() -> list[torch.Tensor]:
        value = loss(x, target)
        return [value, *torch.autograd.grad(value.sum(), x)]

    return run


def assert_equal(case: Case, ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    """Raise unless the peer's value and gradient are ours."""
    assert case.peer is not None
    value, *gradient = theirs
    theirs = [value.reshape(ours[0].shape), *(g.movedim(0, -1) if case.peer.time_first else g for g in gradient)]
    for mine, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            mine,
            their,
            rtol=_TOLERANCE,
            atol=_TOLERANCE * float(their.abs().max()),
            check_dtype=False,
            msg=lambda text: f"{case.name} is not what {case.peer.library} says: {text}",
        )


def _peer(case: Case) -> str:
    if case.peer is None:
        return "-"
    loops = f", over {case.peer.loops}" if case.peer.loops else ""
    return case.peer.library + loops + (f"; {case.peer.differs}" if case.peer.differs else "")


def _target(case: Case, size: Size, device: str) -> torch.Tensor | None:
    target = case.target(size)
    return target if target is None else target.to(device)


def _compare(case: Case, size: Size, wish: Wish, ratios: _Measured) -> str:
    """Milliseconds of ours; those of the peer, and how many times as fast ours is by the time on the processor."""
    # Where in memory the data lies makes a difference too, which is as large: three times anew, all of them kept.
    contestants = [_contestants(case, size, wish.device) for _ in range(1 if wish.tiny else 3)]
    times = joined([paired(runs, wish.effort(rounds=7)) for runs in contestants])
    ours = figure(1e3 * times["ours"].seconds)
    if "peer" not in times:
        return ours
    faster = ratio(times["peer"], times["ours"], clock="wall" if wish.device == "cuda" else "processor")
    ratios.append((faster, f"`{case.name}`, {size}"))
    return f"{ours} : {figure(1e3 * times['peer'].seconds)}, **{figure(faster)}**"


def _contestants(case: Case, size: Size, device: str) -> dict[str, _Run]:
    """Ours, and the peer if it is installed, compared with ours."""
    x, target = case.input(size, device), _target(case, size, device)
    runs = {"ours": call(case, case.loss(size), x.clone(), target)}
    module = library(case.peer.library) if case.peer else None
    if case.peer and module:
        theirs = x.movedim(-1, 0).contiguous() if case.peer.time_first else x
        runs["peer"] = call(case, case.peer.loss(module, size), theirs.clone(), target)
        if not case.peer.differs:
            assert_equal(case, runs["ours"](), runs["peer"]())
    return runs


def _copies(case: Case, size: Size, device: str) -> float:
    """What is held at the peak, the gradient with it, in copies of the input (and of a target as large as it)."""
    x, target = case.input(size, device), _target(case, size, device)
    given = x.nbytes + (target.nbytes if target is not None and target.shape == x.shape else 0)
    return peak_allocated(call(case, case.loss(size), x, target), device) / given


if __name__ == "__main__":
    main("losses", __doc__, measure)
