"""To and from NIR, the neuromorphic intermediate representation (needs the extra ``nir``).

NIR describes continuous time, netx steps. Both directions use forward Euler with a step of ``dt`` seconds: what Loihi
computes, but for its rounding. A simulator of floating-point numbers therefore gives nearly the same spikes, not the
same: compare rates.

Units, with ``d`` a decay of the netx file in 1/4096 and ``s`` the scale, 64 unless you say otherwise:

| NIR                                   | netx                                                  |
|---------------------------------------|-------------------------------------------------------|
| ``weight``, of any layer              | weight / s, over the gain of its neurons              |
| ``v_threshold``                       | threshold mantissa / s                                |
| ``tau_syn``, ``tau_mem``, ``tau`` (s) | dt * 4096 / d                                         |
| gain of a neuron                      | (r * dt / tau_mem) * (w_in * dt / tau_syn)            |
| ``v_leak``                            | (bias mantissa / s) * 4096 / d of the voltage         |
| ``bias`` of a layer before a ``LIF``  | bias mantissa / s, over the gain of its neurons       |
| ``delay`` (s)                         | dt * steps                                            |

What :func:`to_nir` writes has ``r = 1`` in ``LIF``, as Norse expects it, if all neurons of the layer have one decay;
all else has gains of 1. The ``v_threshold`` of such a ``LIF`` is (threshold mantissa + 0.001) / s: its weights are
mostly not exact in float32, in which a membrane potential that equals the threshold could otherwise lie above it.

A NIR graph has no step of delay from layer to layer, as Lava and SLAYER have: each layer gets the spikes of the one
before it in the same step. What leads back to the neurons it comes from gets there one step later.
"""

from __future__ import annotations

from netx_export.nir.fitting import Rounding
from netx_export.nir.reading import from_nir, roundings
from netx_export.nir.writing import to_nir

__all__ = ["Rounding", "from_nir", "roundings", "to_nir"]
