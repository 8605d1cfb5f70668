"""Forward and backward of every loss: against each peer that has it, and against the floor.

The floor is what no loss can beat: reading the input once and writing its gradient once, which is a copy of the input,
timed in the same rounds. Values (and gradients, in float32) are compared before anything is timed. Peers get the data
in the layout that they want, which costs them nothing here.

    python -m benchmarks.losses --only 'spike_*'
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch

from benchmarks._cases import CASES, CLUSTER, SIMILARITIES, Case, Loss, Peer, Size, library
from benchmarks._command import Wish, main
from benchmarks._results import Line
from benchmarks._timing import paired, ratio, spread

__all__ = ["LARGEST", "SIZES", "assert_equal", "call", "measure"]

_Run: TypeAlias = Callable[[], list[torch.Tensor]]
LARGEST = Size(128, 100, 300)
SIZES = [Size(128, 10, 100), Size(128, 100, 100), LARGEST, Size(32, 11, 1000)]
_LARGEST_ON_CUDA = Size(512, 512, 300)
_DTYPES = [torch.float32, torch.bfloat16]
# In bfloat16 a rate has 8 bits, and a sum over classes or steps is rounded on the way.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def measure(wish: Wish) -> Iterator[Line]:
    """All lines of the losses."""
    for device in wish.devices:
        for case in filter(lambda case: wish.wants(case.name), [*CASES, CLUSTER, *SIMILARITIES]):
            for size in _sizes(case, device, wish.tiny):
                for dtype in _DTYPES if case in CASES else _DTYPES[:1]:
                    yield from _compare(case, size, dtype, device, wish)
        if wish.wants("copy"):
            for size in _sizes(CASES[0], device, wish.tiny):
                yield _bandwidth(size, device, wish)


def _bandwidth(size: Size, device: str, wish: Wish) -> Line:
    """What the floor comes to: bytes read and written in a second."""
    x = CASES[0].input(size, torch.float32, device)
    _, copy = _base(CASES[0], x)
    times = paired({"copy": copy}, wish.effort)["copy"]
    gigabytes = 2 * x.numel() * x.element_size() / 1e9
    labels = {"loss": "copy", "size": str(size), "dtype": "float32", "device": device}
    speed = spread([gigabytes / seconds for seconds in times])
    return Line("losses", labels, "bandwidth", speed, "GB/s", "higher", spread(times).median)


def _sizes(case: Case, device: str, tiny: bool) -> list[Size]:
    if tiny:
        return [Size(4, 10, 12)]
    if case is CLUSTER:
        return [Size(1, 1000, 200)]
    if case in SIMILARITIES:
        return [Size(256, 512, 50)]
    return [*SIZES, _LARGEST_ON_CUDA] if device == "cuda" else SIZES


def call(case: Case, loss: Loss, x: torch.Tensor, target: Any) -> _Run:
    """Forward and backward as a call; it gives the values that have to be equal, then the gradient."""
    if not case.backward:
        return lambda: loss(x, target)
    x.requires_grad_()

    def run() -> list[torch.Tensor]:
        value = loss(x, target)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return [value, gradient]

    return run


def _contestants(case: Case, size: Size, dtype: torch.dtype, device: str) -> tuple[dict[str, _Run], list[Peer]]:
    """Ours and the peers that are installed and can, compared with ours."""
    x = case.input(size, dtype, device)
    target = case.target(size)
    target = target if target is None else target.to(device)
    runs = {"ours": call(case, case.loss(size), x.clone(), target)}
    peers = []
    for peer in case.peers:
        module = library(peer.library)
        if module is None or (peer.float32_only and dtype != torch.float32):
            continue
        theirs = x.movedim(-1, 0).contiguous() if peer.time_first else x.clone()
        runs[peer.library] = call(case, peer.loss(module, size), theirs, target)
        peers.append(peer)
        if not peer.differs:
            assert_equal(case, peer, dtype, runs["ours"](), runs[peer.library]())
    return runs, peers


def assert_equal(
    case: Case, peer: Peer, dtype: torch.dtype, ours: list[torch.Tensor], theirs: list[torch.Tensor]
) -> None:
    """Raise unless the values are equal; in float32 the gradients too."""
    tolerance = _TOLERANCE[dtype]
    if case.backward:
        gradient = theirs[1].movedim(0, -1) if peer.time_first else theirs[1]
        theirs = [theirs[0].reshape(ours[0].shape), gradient]
    for mine, their in zip(ours, theirs, strict=True):
        if dtype != torch.float32 and mine.dim() > 0:
            continue
        torch.testing.assert_close(
            mine,
            their,
            rtol=tolerance,
            atol=tolerance * float(their.abs().max()) if mine.is_floating_point() else 0,
            check_dtype=False,
            msg=lambda text: f"{case.name} is not what {peer.library} says, in {dtype}: {text}",
        )


def _base(case: Case, x: torch.Tensor) -> tuple[str, Callable[[], object]]:
    """What no loss can beat: a copy of the input; for similarity, all pairs of samples and their gradient."""
    if case.kind == "similarity":
        rows = x.flatten(1)
        return "times two matrix products", lambda: (rows @ rows.T) @ rows
    copy = torch.empty_like(x)
    return "times the floor", lambda: copy.copy_(x)


def _compare(case: Case, size: Size, dtype: torch.dtype, device: str, wish: Wish) -> Iterator[Line]:
    runs, peers = _contestants(case, size, dtype, device)
    what, base = _base(case, case.input(size, dtype, device))
    times = paired({**runs, "base": base}, wish.effort)
    seconds = spread(times["ours"]).median
    labels = {"loss": case.name, "size": str(size), "dtype": str(dtype).removeprefix("torch."), "device": device}
    limited = case.kind == "similarity" or (case.kind and device == "cpu" and size == LARGEST)
    target = case.kind if limited else None
    yield Line("losses", labels, what, ratio(times["ours"], times["base"]), "x", "lower", seconds, target)
    for peer in peers:
        faster = ratio(times[peer.library], times["ours"])
        note = "; ".join(filter(None, [peer.loops and f"it loops over {peer.loops}", peer.differs]))
        what = f"times as fast as {peer.library}"
        yield Line("losses", labels, what, faster, "x", "higher", seconds, peer.target, note)
    if device == "cuda":
        yield from _on_cuda(case, runs["ours"], times, labels, size)


def _on_cuda(
    case: Case, run: _Run, times: dict[str, list[float]], labels: dict[str, str], size: Size
) -> Iterator[Line]:
    share = spread([100 * base / ours for base, ours in zip(times["base"], times["ours"], strict=True)])
    target = "bandwidth" if case.kind == "count" and not case.membrane and size == _LARGEST_ON_CUDA else None
    yield Line("losses", labels, "share of the copy bandwidth", share, "%", "higher", target=target)
    waits = spread([float(_waits_for_device(run))])
    yield Line("losses", labels, "waits for the device", waits, "", "lower", target="no synchronisation")


def _waits_for_device(run: _Run) -> bool:
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


if __name__ == "__main__":
    main("losses", __doc__, measure, keep_memory=True)
