"""What is to be reached, as data. Why a target is missed is written by hand, in ``reasons.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True)
class Target:
    """A limit that every line which names it has to keep.

    Attributes:
        text: what is promised, as a row of the table in the documentation.
        limit: the bound.
        better: on which side of it a line has to be.
    """

    text: str
    limit: float
    better: Literal["lower", "higher"]

    def reached(self, value: float) -> bool:
        """Whether a measured value keeps the limit."""
        return value <= self.limit if self.better == "lower" else value >= self.limit


TARGETS = {
    "peer": Target("no loss slower than a peer's", 1.0, "higher"),
    "peer, over time": Target("10 times as fast as a peer that loops over time", 10.0, "higher"),
    "peer, over elements": Target("100 times as fast as a peer that loops over elements", 100.0, "higher"),
    "count": Target("count, rate and membrane losses within 1.5 times the floor, largest size", 1.5, "lower"),
    "step": Target("per-step, windowed and first-spike losses within 4 times the floor, largest size", 4.0, "lower"),
    "van Rossum": Target("van Rossum loss within 4 times the floor, largest size", 4.0, "lower"),
    "similarity": Target("similarity within 1.3 times of two matrix products", 1.3, "lower"),
    "memory": Target("at most one copy of the input beyond input and gradient", 1.0, "lower"),
    "share": Target("loss and enforcer at most 2 % of a SLAYER training step, CPU", 2.0, "lower"),
    "share, cuda": Target("loss and enforcer at most 1 % of a SLAYER training step, CUDA", 1.0, "lower"),
    "bandwidth": Target("count and rate losses at 70 % of the copy bandwidth or more, CUDA", 70.0, "higher"),
    "no synchronisation": Target("no loss waits for the device, CUDA", 0.0, "lower"),
    "export time": Target("30 million synapses exported in less than 10 s", 10.0, "lower"),
    "export memory": Target("30 million synapses exported with at most 3 copies of the weights", 3.0, "lower"),
    "reference, SLAYER": Target("reference simulator 5 times as fast as SLAYER's forward", 5.0, "higher"),
    "reference, Lava": Target("reference simulator 200 times as fast as Lava", 200.0, "higher"),
    "reference, Lava delays": Target("reference simulator 1,000 times as fast as Lava with delays", 1000.0, "higher"),
}
