"""Budgets of events, synaptic operations and energy, and the losses that keep a network within them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from lava_spikeloss.activity.constraint import LagrangeMultiplier
from lava_spikeloss.activity.distributed import is_distributed, sum_over_ranks
from lava_spikeloss.activity.energy import LOIHI_1, EnergyTable
from lava_spikeloss.activity.enforcer import Enforcer, Factor, sum_of_magnitudes
from lava_spikeloss.activity.fan_out import fan_out as count_fan_out
from lava_spikeloss.activity.fan_out import feedback_fan_out
from lava_spikeloss.activity.hooks import events_of, watched
from lava_spikeloss.activity.statistics import NetworkStatistics
from lava_spikeloss.arguments import check_number, check_spikes, check_tensor

__all__ = ["BudgetEnforcer", "BudgetLine", "LoihiBudget", "SynOpsLoss"]

Limit = float | Mapping[str, float] | None
_KINDS = ("events_per_step", "synops", "energy")


class BudgetLine(NamedTuple):
    """One line of a budget: what is used, and what may be used.

    Attributes:
        name: the line's name, as in ``LoihiBudget``: ``"synops"``, for one layer with the layer's name in front.
        used: what the network uses.
        limit: what it may use.

    Examples:
        >>> BudgetLine("synops", used=900.0, limit=1000.0).fits
        True
    """

    name: str
    used: float
    limit: float

    @property
    def fits(self) -> bool:
        """Whether the use is within the limit."""
        return self.used <= self.limit


@dataclass(frozen=True)
class LoihiBudget:
    """What a network may use. Each limit is a number for the whole network, or a mapping from layer to number.

    Attributes:
        events_per_step: events of all neurons together per time step of a sample.
        synops: synaptic operations per inference, that is per sample: events times exact fan-out, counted at the layer
            whose synapses they reach.
        energy: energy per inference in joule, by ``table``: a lower bound, see :class:`EnergyTable`.
        table: the energy of each operation. For Loihi 2 none is published, so a budget of energy is refused there.

    Raises:
        ValueError: no limit is given, a limit is not above zero, or there is a limit on ``energy`` and ``table`` holds
            no energies.
        TypeError: a limit is not a number, or ``table`` is not an :class:`EnergyTable`.

    Examples:
        >>> budget = LoihiBudget(synops=20_000, events_per_step={"blocks.0": 4.0})
        >>> LoihiBudget(energy=1e-6, table=EnergyTable("Loihi 2"))
        Traceback (most recent call last):
        ...
        ValueError: Expected a `table` with energies for a budget of `energy`, but those of Loihi 2 are unavailable.
    """

    events_per_step: Limit = None
    synops: Limit = None
    energy: Limit = None
    table: EnergyTable = LOIHI_1

    def __post_init__(self) -> None:
        if all(getattr(self, kind) is None for kind in _KINDS):
            raise ValueError(f"Expected at least one of {', '.join(f'`{kind}`' for kind in _KINDS)} but got none.")
        for kind in _KINDS:
            for layer, limit in self.limits(kind):
                check_number(kind if layer is None else f"{kind}[{layer!r}]", limit, above=0.0)
        if not isinstance(self.table, EnergyTable):
            raise TypeError(f"Expected argument `table` to be an EnergyTable but got {type(self.table).__name__}.")
        if self.energy is not None and self.table.prices is None:
            raise ValueError(
                "Expected a `table` with energies for a budget of `energy`, "
                f"but those of {self.table.chip} are unavailable."
            )

    def limits(self, kind: str) -> Iterator[tuple[str | None, float]]:
        """Layer and limit of every line of one kind; the layer is ``None`` for the whole network."""
        limit = getattr(self, kind)
        if isinstance(limit, Mapping):
            yield from limit.items()
        elif limit is not None:
            yield None, limit

    def lines(self, statistics: NetworkStatistics) -> list[BudgetLine]:
        """Every line of the budget, with what a measured network uses of it.

        Raises:
            ValueError: a layer of the budget, or one of its quantities, was not measured.
        """
        lines = []
        for kind in _KINDS:
            for layer, limit in self.limits(kind):
                if layer is not None and layer not in statistics.layers:
                    raise ValueError(f"Expected statistics of {layer!r} but got those of {list(statistics.layers)}.")
                used = getattr(statistics if layer is None else statistics.layers[layer], kind)
                if used is None:
                    raise ValueError(f"Expected statistics with `{kind}` but it was not measured, or is unavailable.")
                lines.append(BudgetLine(kind if layer is None else f"{layer}.{kind}", used, limit))
        return lines


class _Use(NamedTuple):
    """What one layer used in the whole batch, differentiable."""

    events: torch.Tensor | float = 0.0
    synops: torch.Tensor | float = 0.0
    updates: torch.Tensor | float = 0  # neurons times samples times steps
    steps: torch.Tensor | float = 0  # samples times steps
    samples: torch.Tensor | float = 0


class BudgetEnforcer(Enforcer):
    r"""Loss that brings an attached network into a :class:`LoihiBudget`.

    .. math::
        L = \lambda \sum_k \max\left(0,\, \frac{u_k}{b_k} - 1\right)^p

    Where :math:`u_k` is what the network uses of line :math:`k` of the budget and :math:`b_k` its limit. By default the
    factor is a :class:`LagrangeMultiplier` for each line, which needs no tuning. An event is a nonzero output,
    whatever its size; gradients flow through its magnitude. The fan-out is counted from the current weights, and is
    held constant in the gradient. Under ``torch.distributed`` the uses are those of the global batch.

    Args:
        budget: what the network may use.
        lam: a number, a function of the number of backward passes so far, or a :class:`LagrangeMultiplier`.
        power: the exponent :math:`p`, 1 or 2; a multiplier does not use it.

    Raises:
        TypeError: ``budget`` is not a :class:`LoihiBudget`, or ``lam`` is not one of the above.
        ValueError: ``power`` is neither 1 nor 2.

    Source:
        Operations: Sorbaro et al., Frontiers in Neuroscience 14 (2020); constraints: Gallego-Posada et al., NeurIPS
        2022.

    Examples:
        >>> enforcer = BudgetEnforcer(LoihiBudget(synops=20_000))  # then enforcer.attach(net)
        >>> enforcer.loss
        tensor(0., requires_grad=True)
    """

    def __init__(self, budget: LoihiBudget, lam: Factor | None = None, *, power: int = 2) -> None:
        super().__init__(LagrangeMultiplier() if lam is None else lam, power)
        if not isinstance(budget, LoihiBudget):
            raise TypeError(f"Expected argument `budget` to be a LoihiBudget but got {type(budget).__name__}.")
        self.budget = budget

    def extra_repr(self) -> str:
        return f"budget={self.budget}, power={self.power}"

    def attach(
        self, net: torch.nn.Module, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
    ) -> BudgetEnforcer:
        """Collect events of every SLAYER block of ``net`` and operations of every SLAYER synapse, at each forward.

        What an earlier forward left is cleared when ``net`` is called. Copies and pickles of ``net`` are not watched.

        Args:
            net: the network.
            include: names of further modules that return spikes.
            exclude: names of modules to leave out, together with their synapses.

        Returns:
            This enforcer.

        Raises:
            TypeError: ``net`` is not a module.
            ValueError: a name is not in ``net``, nothing is left to watch, or the budget names a layer that is not
                watched.
        """
        modules, synapses = watched(net, include, exclude)
        self._check_layers([*modules, *(block for block, _ in synapses)])
        self.detach()
        self._watcher.before(net, self.clear)
        self._watcher.watch(modules.items(), self._record_events)
        self._watcher.watch(synapses.items(), self._record_operations)
        return self

    def _record_events(self, name: str, module: Any, inputs: Any, output: Any) -> None:
        x = events_of(output)
        per_neuron = _events(x)
        steps = x.shape[0] * x.shape[-1]
        self._use(name, _Use(events=per_neuron.sum(), updates=x.numel(), steps=steps, samples=x.shape[0]))
        feedback = feedback_fan_out(module, per_neuron.shape)
        if feedback is not None:
            self._use(name, _Use(synops=_operations(per_neuron, feedback)))

    def _record_operations(self, key: tuple[str, str], module: torch.nn.Module, inputs: Any, output: Any) -> None:
        per_neuron = _events(inputs[0])
        synops = _operations(per_neuron, count_fan_out(module, per_neuron.shape))
        self._use(key[0], _Use(synops=synops, samples=inputs[0].shape[0]))

    def _use(self, name: str, more: _Use) -> None:
        """Add to what a layer used. Samples are not added up: all synapses and all chunks of time see the same ones."""
        before = self._collected.get(name, _Use())
        self._collected[name] = _Use(
            before.events + more.events,
            before.synops + more.synops,
            before.updates + more.updates,
            before.steps + more.steps,
            max(before.samples, more.samples),
        )

    def _global_uses(self) -> dict[str, _Use]:
        """The uses of the global batch: one collective for all layers."""
        if not is_distributed():
            return self._collected
        parts = [part for use in self._collected.values() for part in use]
        device = next((part.device for part in parts if isinstance(part, torch.Tensor)), None)
        flat = torch.stack([torch.as_tensor(part, dtype=torch.float64, device=device) for part in parts])
        total = sum_over_ranks(flat).view(len(self._collected), len(_Use._fields))
        return {name: _Use(*row) for name, row in zip(self._collected, total, strict=True)}

    def _relative_uses(self) -> dict[str, torch.Tensor]:
        """The use of every line of the budget, as a part of its limit."""
        uses = self._global_uses()
        self._check_layers(list(uses))
        relative = {}
        for kind in _KINDS:
            for layer, limit in self.budget.limits(kind):
                names = list(uses) if layer is None else [layer]
                if kind == "energy":
                    self._check_idle(names, limit)
                quantities = (self._quantity(kind, name, uses[name]) for name in names)
                used = torch.zeros(()) + sum(quantities)
                relative[kind if layer is None else f"{layer}.{kind}"] = used / limit
        return relative

    def _check_layers(self, watched_layers: list[str]) -> None:
        for kind in _KINDS:
            for layer, _ in self.budget.limits(kind):
                if layer is not None and layer not in watched_layers:
                    names = list(dict.fromkeys(watched_layers))
                    raise ValueError(f"Expected the budget to name watched layers, {names}, but got {layer!r}.")

    def _quantity(self, kind: str, name: str, use: _Use) -> torch.Tensor | float:
        if kind == "events_per_step":
            has_neurons = self._collected[name].steps > 0  # asked of this rank, where the number is known to the host
            return use.events / use.steps if has_neurons else 0.0
        if kind == "synops":
            return use.synops / use.samples
        per_synop, per_event, per_update = self._prices()
        return (per_synop * use.synops + per_event * use.events + per_update * use.updates) / use.samples

    def _prices(self) -> tuple[float, float, float]:
        prices = self.budget.table.prices
        assert prices is not None  # or the budget of energy would have been refused
        return prices

    def _check_idle(self, names: Iterable[str], limit: float) -> None:
        """Refuse a budget that idle neurons alone use up: no training can reach it."""
        _, _, per_update = self._prices()
        idle = sum(per_update * self._collected[name].updates / self._collected[name].samples for name in names)
        if idle >= limit:
            raise ValueError(
                f"Expected a budget of `energy` above {idle:.3g} J, the idle neurons', but got {limit:.3g} J."
            )

    def _excesses(self) -> list[torch.Tensor]:
        return [torch.relu(used - 1.0) for used in self._relative_uses().values()]

    def _violations(self, margin: float) -> dict[str, torch.Tensor]:
        return {name: used / (1.0 - margin) - 1.0 for name, used in self._relative_uses().items()}


class SynOpsLoss(BudgetEnforcer):
    r"""Penalty on synaptic operations per sample above ``max_synops``.

    .. math::
        L = \lambda \sum_l \max\left(0,\, \frac{S_l}{S_{\text{max},l}} - 1\right)^p, \qquad
        S_l = \frac{1}{N} \sum_{n,i,t} [s_{n,i,t} \ne 0]\, f_{i \to l}

    With one number for the whole network there is one term, on the sum over its layers. Where Sorbaro et al. write
    :math:`\lambda' (S - S_\text{max})^2`, their factor is :math:`\lambda' = \lambda / S_\text{max}^2`.

    Args:
        max_synops: operations per sample, for the whole network or as a mapping from layer to number.
        lam: a number, a function of the number of backward passes so far, or a :class:`LagrangeMultiplier`.
        power: the exponent :math:`p`, 1 or 2.

    Raises:
        TypeError: a limit is not a number.
        ValueError: a limit is not above zero, or ``power`` is neither 1 nor 2.

    Shape:
        - Spikes: :math:`(N, C, ..., T)`.
        - Loss: scalar, at least float32.

    Source:
        Sorbaro et al., "Optimizing the energy consumption of spiking neural networks for neuromorphic applications",
        Frontiers in Neuroscience 14 (2020).

    Examples:
        >>> loss = SynOpsLoss(max_synops=100)
        >>> loss.append(torch.ones(2, 3, 10), fan_out=torch.tensor([5, 5, 0]))
        >>> loss.loss
        tensor(0.)
        >>> loss.append(torch.ones(2, 1, 10), fan_out=torch.tensor([5]))  # 150 operations per sample
        >>> loss.loss
        tensor(0.2500)
    """

    def __init__(self, max_synops: float | Mapping[str, float], lam: Factor = 1.0, *, power: int = 2) -> None:
        super().__init__(LoihiBudget(synops=max_synops), lam, power=power)

    def append(self, x: torch.Tensor, fan_out: torch.Tensor, layer: str | None = None) -> None:
        """Collect the operations that spikes ``x``, ``(N, C, ..., T)``, cause through ``fan_out``, ``(C, ...)``.

        Args:
            x: the spikes.
            fan_out: for each neuron the number of synapses it drives; see :func:`fan_out`.
            layer: the layer they reach; needed if ``max_synops`` is a mapping.

        Raises:
            TypeError: ``x`` or ``fan_out`` is not a tensor.
            ValueError: a shape does not fit, or ``layer`` is not given where it is needed.
        """
        check_spikes("x", x, min_dims=3)
        check_tensor("fan_out", fan_out)
        if layer is None and isinstance(self.budget.synops, Mapping):
            raise ValueError(f"Expected argument `layer`, one of {list(self.budget.synops)}, but got none.")
        if fan_out.shape != x.shape[1:-1]:
            raise ValueError(
                f"Expected argument `fan_out` of shape {tuple(x.shape[1:-1])} but got {tuple(fan_out.shape)}."
            )
        self._clear_if_used()
        name = f"append[{len(self._collected)}]" if layer is None else layer
        self._use(name, _Use(synops=_operations(_events(x), fan_out), samples=x.shape[0]))


def _events(x: torch.Tensor) -> torch.Tensor:
    """Number of events of each neuron, over batch and time; its gradient is that of their magnitude."""
    number = (x != 0).sum((0, -1), dtype=torch.int32).to(torch.promote_types(x.dtype, torch.float32))  # int64 is larger
    if not x.is_floating_point():
        return number
    size = sum_of_magnitudes(x, [0, x.dim() - 1])
    return number + (size - size.detach())


def _operations(events: torch.Tensor, fan_out: torch.Tensor) -> torch.Tensor:
    return (events * fan_out.to(events)).sum()
