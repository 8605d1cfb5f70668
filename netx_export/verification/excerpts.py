"""What a report shows of two runs: the spikes of one sample, and the rates of neurons in both."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from netx_export.network.description import Gives
from netx_export.run import Spikes
from netx_export.verification.result import Histogram, Raster

__all__ = ["histogram", "neuron_rates", "rasters"]

_RASTER_NEURONS = 100
_SCATTER_NEURONS = 400
_HISTOGRAM_BINS = 20


def rasters(
    pairs: Mapping[str, tuple[Spikes, Spikes]], gives: Mapping[str, Gives], sample: int, row: int
) -> dict[str, Raster]:
    """The spikes of each layer in one sample.

    Args:
        pairs: each layer in both runs ``(N, C, ..., T)``.
        gives: whether each layer sends spikes or messages, or sums up.
        sample: index of the sample in the data.
        row: its index in these runs.
    """
    return {name: _raster(sample, expected[row], got[row], gives[name]) for name, (expected, got) in pairs.items()}


def _raster(sample: int, expected: Spikes, got: Spikes, gives: Gives) -> Raster:
    """Some neurons in their order: as many as there is room for of those that differ, then of those that spike."""
    runs = [run.reshape(-1, run.shape[-1]) for run in (expected, got)]
    group = np.where((runs[0] != runs[1]).any(-1), 0, np.where(runs[0].any(-1), 1, 2))
    neurons = np.sort(np.argsort(group, kind="stable")[:_RASTER_NEURONS])
    one, other = (run[neurons] for run in runs)
    rows = tuple(neurons.tolist())
    if gives == "sums":  # which are there at every step
        return Raster(sample, rows, (), (), _positions(one != other))
    unequal = (one != other) & (one != 0) & (other != 0)
    return Raster(sample, rows, _positions(one != 0), _positions(other != 0), _positions(unequal))


def _positions(where: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    return tuple((int(row), int(step)) for row, step in np.argwhere(where))


def neuron_rates(
    expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32]
) -> tuple[tuple[int, float, float], ...]:
    """Rates of single neurons in both runs: those that differ most first, then others, evenly chosen."""
    distance = np.abs(expected - got)
    order = np.argsort(-distance, kind="stable")
    unequal = np.count_nonzero(distance)
    equal = order[unequal:]
    every = max(1, len(equal) // _SCATTER_NEURONS)
    chosen = [*order[:unequal], *equal[::every]][:_SCATTER_NEURONS]
    return tuple((int(neuron), float(expected[neuron]), float(got[neuron])) for neuron in chosen)


def histogram(expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32]) -> Histogram:
    """Number of neurons by their rates in both runs."""
    top = float(max(expected.max(), got.max())) or 1.0
    counts = [np.histogram(rates, _HISTOGRAM_BINS, (0.0, top))[0].tolist() for rates in (expected, got)]
    return Histogram(top, counts[0], counts[1])
