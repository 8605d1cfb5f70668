"""A network of two layers on Lava: whether Lava runs here at all, and gives what the reference simulator gives."""

from __future__ import annotations

import os

import numpy as np

from netx_export.errors import SimulationError
from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription
from netx_export.simulation.simulate import simulate

__all__ = ["try_lava"]


def try_lava(lava_python: str | os.PathLike[str] | None = None, timeout: float | None = None) -> int:
    """Run a file of two layers on Lava and on the reference simulator; returns how many spikes both gave.

    Args:
        lava_python: the Python that runs Lava, or None for the one that is found.
        timeout: seconds that Lava may take; None for a limit in proportion to the work.

    Raises:
        SimulationError: if Lava is missing, fails, or gives other spikes.
    """
    rng = np.random.default_rng(0)
    network = NetworkDescription((Input((12,), False), _layer(rng, 12, 9), _layer(rng, 9, 5)))
    spikes = (rng.random((2, 12, 20)) < 0.2).astype(np.uint8)
    expected = simulate(network, spikes)
    got = simulate(network, spikes, backend="lava", lava_python=lava_python, timeout=timeout)
    for name, raster in expected.layers.items():
        if not np.array_equal(got.layers[name], raster):
            raise SimulationError(
                f"Lava runs, but gives other spikes than the reference simulator in {name} of a network of two layers. "
                f"Make its environment anew with: netx-export lava-env."
            )
    return sum(int(raster.sum()) for raster in expected.layers.values())


def _layer(rng: np.random.Generator, inputs: int, outputs: int) -> Dense:
    """Weights of both signs, and neurons of which about a tenth fire at each step."""
    return Dense(2 * rng.integers(-60, 90, (outputs, inputs)), CubaNeuron(200, np.array([1024]), np.array([128])))
