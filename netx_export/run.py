"""What a run shows: nothing about a layer that gave nothing but zeros.

``export`` and ``verify`` go by the same: a comparison is a proof only where there was something to compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

__all__ = ["OUTPUT", "silent"]

OUTPUT = "output"


def silent(layers: Mapping[str, npt.NDArray[Any]], output: npt.NDArray[Any]) -> tuple[str, ...]:
    """The names of the layers, and ``output``, that were zero in every neuron at every step of every sample."""
    return tuple(name for name, values in {**layers, OUTPUT: output}.items() if not values.any())
