"""Verification end to end: SLAYER against the reference simulator, all spikes of all layers, and then against Lava.

Network 2312-512-512-10, 300 steps, 2 % input rate. SLAYER's forward alone, timed in the same rounds, is what no
comparison with SLAYER can do without.

    python -m benchmarks.verification
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks._command import Wish, main
from benchmarks._results import Line
from benchmarks._timing import Effort, paired, ratio, spread
from benchmarks.training_step import build

__all__ = ["measure"]

_ON_LAVA = 4


def measure(wish: Wish) -> Iterator[Line]:
    """Lines with Lava and without."""
    from netx_export import export, verify

    sizes, samples, steps = ((20, 8, 4), 4, 10) if wish.tiny else ((2312, 512, 512, 10), 128, 300)
    spikes = (torch.rand(samples, sizes[0], steps, generator=torch.Generator().manual_seed(1)) < 0.02).float()
    labels = torch.arange(samples) % sizes[-1]
    net = build(sizes, "cpu").eval()
    with torch.no_grad():
        net(spikes[:1])
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "network.net")
        export(net, path)
        for name, on_lava in (("reference", 0), ("reference and Lava", _ON_LAVA)):
            if not wish.wants(name) or (wish.tiny and on_lava):
                continue
            report = verify(net, path, spikes, labels, lava_samples=on_lava)
            if not report.exact:
                raise AssertionError(f"The exported network is not the trained one: {report.to_json()[:2000]}")
            runs = {
                "verify": lambda count=on_lava: verify(net, path, spikes, labels, lava_samples=count),
                "SLAYER": lambda: torch.no_grad()(net)(spikes),
            }
            effort = Effort(fewest=2, most=2 if on_lava or wish.tiny else 5, seconds=60, turn=0.0)
            times = paired(runs, effort)
            note = f"{on_lava} of the samples on Lava" if on_lava else ""
            subject = {"network": "-".join(map(str, sizes)), "samples": str(samples), "against": name}
            speed, seconds = spread([samples / one for one in times["verify"]]), spread(times["verify"]).median
            yield Line("verification", subject, "speed", speed, "samples/s", "higher", seconds, note=note)
            cost = ratio(times["verify"], times["SLAYER"])
            yield Line("verification", subject, "times SLAYER's forward", cost, "x", "lower", seconds, note=note)


if __name__ == "__main__":
    main("verification", __doc__, measure)
