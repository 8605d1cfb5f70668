"""Verification end to end: SLAYER against the reference simulator, all spikes of all layers, and then against Lava.

Network 2312-512-512-10, 128 samples of 300 steps, 2 % input rate. SLAYER's forward alone, as lava-dl
runs it, is timed in the same rounds. A comparison needs one too, and runs it in compiled loops where numba runs.

    python -m benchmarks.verification --only reference
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from benchmarks.report import Bound, Wish, figure, main, table
from benchmarks.timing import paired, ratio
from benchmarks.training_step import SIZES, build

__all__ = ["measure"]

_ON_LAVA = {"reference": 0, "reference and Lava": 4}


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A row with Lava and one without."""
    from netx_export import export, verify

    sizes, samples, steps = ((20, 8, 4), 4, 10) if wish.tiny else (SIZES, 128, 300)
    spikes = (torch.rand(samples, sizes[0], steps, generator=torch.Generator().manual_seed(1)) < 0.02).float()
    labels = torch.arange(samples) % sizes[-1]
    net = build(sizes, "cpu").eval()
    rows = []
    with tempfile.TemporaryDirectory() as directory, torch.no_grad():
        net(spikes[:1])
        path = Path(directory, "network.net")
        export(net, path)
        for name in filter(wish.wants, ["reference"] if wish.tiny else _ON_LAVA):
            count = _ON_LAVA[name]
            report = verify(net, path, spikes, labels, lava_samples=count)
            if not report.exact:
                raise AssertionError(f"The exported network is not the trained one: {report.to_json()[:2000]}")
            runs = {
                "verify": lambda count=count: verify(net, path, spikes, labels, lava_samples=count),
                "SLAYER": lambda: net(spikes),
            }
            times = paired(runs, wish.effort(rounds=2 if count else 5, turn=0.0))
            cost = ratio(times["verify"], times["SLAYER"], clock="wall")
            speed = samples / times["verify"].seconds
            rows.append([name + (f", {count} of the samples on Lava" if count else ""), figure(speed), figure(cost)])
    return [table(["against", "samples per second", "times SLAYER's forward"], rows)] if rows else [], []


if __name__ == "__main__":
    main("verification", __doc__, measure)
