"""Published energies of Loihi's operations, each with its source. Where none is published there is no estimate."""

from __future__ import annotations

from dataclasses import dataclass

from lava_spikeloss.arguments import check_number

__all__ = ["LOIHI_1", "LOIHI_2", "Constant", "EnergyTable"]

_DAVIES = "Davies et al., IEEE Micro 38(1), 2018, table 2 (0.75 V, pre-silicon)"


@dataclass(frozen=True)
class Constant:
    """A number with its source.

    Attributes:
        value: the number, in ``unit``.
        unit: for instance ``"J"``.
        source: where it was read or measured.
        status: ``"firm"`` (two independent sources agree), ``"secondary"`` (one transcription), ``"uncertain"``
            (sources disagree), or a word of your own, such as ``"measured"``.

    Raises:
        TypeError: ``value`` is not a number.
        ValueError: ``value`` is not finite.

    Examples:
        >>> Constant(2.4e-11, "J", "our board, 25 degrees", "measured").value
        2.4e-11
    """

    value: float
    unit: str
    source: str
    status: str

    def __post_init__(self) -> None:
        check_number("value", self.value)


@dataclass(frozen=True)
class EnergyTable:
    r"""Energy of the operations of one chip; an entry is ``None`` where nothing is published.

    .. math::
        E = e_\text{synop}\,S + e_\text{spike}\,K + e_\text{active}\,K + e_\text{inactive}\,(U - K)

    Where :math:`S` counts synaptic operations, :math:`K` events and :math:`U` neuron updates (neurons times steps).
    This is a lower bound. It counts the update of a neuron as active only in the steps in which it sends an event, and
    each event as sent once and within its tile. It leaves out hops between tiles, barriers, input and output, and
    leakage.

    Replace an entry by your own: ``dataclasses.replace(LOIHI_1, synaptic_operation=Constant(...))``.

    Raises:
        TypeError: an entry is neither a :class:`Constant` nor ``None``.

    Examples:
        >>> LOIHI_1.energy(synops=1000, events=10, updates=100)
        2.9107e-08
        >>> print(LOIHI_2.energy(synops=1000, events=10, updates=100))
        None
    """

    chip: str
    synaptic_operation: Constant | None = None
    neuron_update_active: Constant | None = None
    neuron_update_inactive: Constant | None = None
    spike_within_tile: Constant | None = None

    def __post_init__(self) -> None:
        for name in ("synaptic_operation", "neuron_update_active", "neuron_update_inactive", "spike_within_tile"):
            entry = getattr(self, name)
            if not isinstance(entry, Constant | None):
                raise TypeError(f"Expected argument `{name}` to be a Constant or None but got {type(entry).__name__}.")

    @property
    def prices(self) -> tuple[float, float, float] | None:
        """Joule per synaptic operation, per event on top of an idle update, and per neuron update; or ``None``."""
        if not (
            self.synaptic_operation
            and self.neuron_update_active
            and self.neuron_update_inactive
            and self.spike_within_tile
        ):
            return None
        idle = self.neuron_update_inactive.value
        event = self.spike_within_tile.value + self.neuron_update_active.value - idle
        return self.synaptic_operation.value, event, idle

    def energy(self, *, synops: float | None, events: float, updates: float) -> float | None:
        """Energy in joule, or ``None`` if a constant or the number of operations is unavailable."""
        if self.prices is None or synops is None:
            return None
        per_synop, per_event, per_update = self.prices
        return per_synop * synops + per_event * events + per_update * updates


LOIHI_1 = EnergyTable(
    chip="Loihi 1",
    synaptic_operation=Constant(23.6e-12, "J", f"{_DAVIES}: synaptic spike operation, a minimum", "secondary"),
    neuron_update_active=Constant(81e-12, "J", f"{_DAVIES}: neuron update, active", "secondary"),
    neuron_update_inactive=Constant(52e-12, "J", f"{_DAVIES}: neuron update, inactive", "secondary"),
    spike_within_tile=Constant(1.7e-12, "J", f"{_DAVIES}: spike within a tile", "secondary"),
)
"""Loihi 1, the only chip of the family whose energy per operation is published."""

LOIHI_2 = EnergyTable(chip="Loihi 2")
"""Loihi 2: no energy per operation is published, so no entry and no estimate is available."""
