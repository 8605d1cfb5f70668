"""What Loihi chips hold: every number with where it was read and how sure it is.

``firm``: two independent public sources agree; ``secondary``: one transcription; ``uncertain``: sources disagree. To
check against other numbers, pass a changed copy of a table: ``check(net, {**LIMITS["loihi2"], "cores": Limit(...)})``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from netx_export.network.fixed_point import (
    MAX_BIAS,
    MAX_DELAY,
    MAX_STATE,
    MAX_THRESHOLD,
    MAX_WEIGHT,
    MIN_BIAS,
    MIN_WEIGHT,
    UNITY_DECAY,
)

__all__ = ["LIMITS", "Limit", "Limits"]


@dataclass(frozen=True)
class Limit:
    """The lowest and highest value that is possible, where it was read, and how sure it is."""

    low: int
    high: int
    source: str
    status: Literal["firm", "secondary", "uncertain"]


Limits: TypeAlias = Mapping[str, Limit]

_LAVA = "lava-nc 0.10.0, lava/proc/lif/models.py"
_SHARED = {
    "weight": Limit(MIN_WEIGHT, MAX_WEIGHT, "lava-nc 0.10.0, lava/utils/weightutils.py; Davies et al. 2018", "firm"),
    "weight exponent": Limit(-8, 7, "brian2_loihi; nengo-loihi says -7 to 7", "uncertain"),
    "delay": Limit(0, MAX_DELAY, "lava-dl 0.6.0, netx/utils.py; brian2_loihi", "firm"),
    "threshold": Limit(1, MAX_THRESHOLD, f"{_LAVA}; nengo-loihi; brian2_loihi", "firm"),
    "current decay": Limit(1, UNITY_DECAY, f"{_LAVA}: 12 bits, plus 1; brian2_loihi", "firm"),
    "voltage decay": Limit(0, UNITY_DECAY - 1, f"{_LAVA}: 12 bits; brian2_loihi", "firm"),
    "bias": Limit(MIN_BIAS, MAX_BIAS, f"{_LAVA}: 13 bits", "firm"),
    "state": Limit(-MAX_STATE, MAX_STATE, f"{_LAVA}: 24 bits; current wraps, voltage is clipped", "uncertain"),
}
LIMITS: Mapping[str, Limits] = MappingProxyType(
    {
        "loihi1": MappingProxyType(
            {
                **_SHARED,
                "weight bits": Limit(0, 9, "Davies et al. 2018", "firm"),
                "message bits": Limit(0, 0, "Davies et al. 2018: spikes carry no payload", "firm"),
                "neurons per core": Limit(0, 1024, "nengo-loihi; Davies et al. 2018", "firm"),
                "synapse bits per core": Limit(0, 16384 * 64, "nengo-loihi; Davies et al. 2018", "firm"),
                "cores": Limit(0, 128, "nengo-loihi; Davies et al. 2018", "firm"),
                "shared kernels": Limit(0, 0, "nengo-loihi: every synapse has its own weight", "firm"),
            }
        ),
        "loihi2": MappingProxyType(
            {
                **_SHARED,
                "weight bits": Limit(0, 8, "arXiv 2601.10035, quoted", "secondary"),
                "message bits": Limit(0, 24, "lava-nc 0.10.0 ports; 32 on the chip", "secondary"),
                "neurons per core": Limit(
                    0, 8192, "Intel technology brief, quoted; less for large states", "secondary"
                ),
                "synapse bits per core": Limit(0, 128 * 1024 * 8, "Intel technology brief, quoted", "secondary"),
                "cores": Limit(0, 128, "open-neuromorphic; others say 120", "uncertain"),
                "shared kernels": Limit(0, 1, "Intel technology brief, quoted", "secondary"),
            }
        ),
    }
)
