"""What the command is told to accept, as ``[LAYER:]STATISTIC=LIMIT``."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

from netx_export.errors import NetxExportError
from netx_export.verification.result import Tolerance, Tolerances

__all__ = ["read_tolerances"]

_STATISTICS = [field.name for field in dataclasses.fields(Tolerance)]


def read_tolerances(texts: Sequence[str]) -> Tolerances:
    """A tolerance for all layers, or one for each of those that are named; None if there are no texts.

    Raises:
        NetxExportError: if a text is no limit of a statistic, or some name a layer and others do not.
    """
    limits: dict[str, dict[str, float]] = defaultdict(dict)
    for text in texts:
        layer, statistic, limit = _parts(text)
        if statistic in limits[layer]:
            raise NetxExportError(f"Expected each limit once but got a second one in --tolerance {text}.")
        limits[layer][statistic] = limit
    if "" in limits and len(limits) > 1:
        raise NetxExportError(
            "Expected --tolerance for all layers, or each time with the name of a layer, but got both. A layer that is "
            "not named has to be equal."
        )
    tolerances = {layer: Tolerance(**named) for layer, named in limits.items()}
    return tolerances.get("", tolerances or None)


def _parts(text: str) -> tuple[str, str, float]:
    place, _, number = text.partition("=")
    layer, _, statistic = place.rpartition(":")
    if statistic not in _STATISTICS:
        raise NetxExportError(
            f"Expected --tolerance [LAYER:]STATISTIC=LIMIT with one of {', '.join(_STATISTICS)} but got {text!r}."
        )
    try:
        limit = float(number)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise NetxExportError(f"Expected a number of at least 0 after `=` in --tolerance but got {text!r}.")
    return layer, statistic, limit
