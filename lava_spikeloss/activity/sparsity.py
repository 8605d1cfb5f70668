"""Losses that hold the event rate of every layer, channel or neuron between two bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from lava_spikeloss.activity.constraint import LagrangeMultiplier
from lava_spikeloss.activity.distributed import is_distributed, sum_over_ranks
from lava_spikeloss.activity.enforcer import Enforcer, Factor, magnitude
from lava_spikeloss.activity.hooks import events_of, watched
from lava_spikeloss.arguments import check_choice, check_number, check_spikes

__all__ = ["SparsityEnforcer"]


class _Activity(NamedTuple):
    """What one layer did since the last clear, summed over batch and time within each group of neurons."""

    events: torch.Tensor  # sum of magnitudes; its gradient is the sign of an event, and zero where there is none
    rising: torch.Tensor  # the same number; its gradient is one also where there is no event
    size: int | torch.Tensor  # neurons times samples times steps in each group


class SparsityEnforcer(Enforcer):
    r"""Penalty on event rates above ``max_rate`` and below ``min_rate``.

    .. math::
        L = \lambda \sum_l \sum_{g \in l}
            \left[\max(0,\, r_g - r_\text{max})^p + \max(0,\, r_\text{min} - r_g)^p\right],
        \qquad r_g = \frac{1}{|g|\,N\,T} \sum_{n,\, i \in g,\, t} |s_{n,i,t}|

    Where :math:`g` runs over the groups of layer :math:`l`: the whole layer, each channel, or each neuron. By default
    value and gradient are those of ``lava.lib.dl.slayer.loss.SparsityEnforcer``, for which it is a drop-in.

    The sum over groups makes the pull on a neuron (``per="neuron"``) and on a channel's shared weights
    (``per="channel"``) independent of the size of the layer; ``per="layer"`` spreads one rate over all neurons, so
    there each neuron's share falls with their number, as in lava-dl.

    Spikes come by :meth:`append`, or by themselves from a network given to :meth:`attach`. Under
    ``torch.distributed`` the rates are those of the global batch, and the gradient is right after the averaging that
    DistributedDataParallel does; every rank then has to read :attr:`loss` equally often.

    Args:
        max_rate: upper bound, in events (by magnitude) per neuron and time step.
        lam: the factor :math:`\lambda`: a number, or a function of the number of backward passes so far, or a
            :class:`LagrangeMultiplier` that finds a factor for each group so that its rate ends within the bounds.
        per: the group that has to keep the bounds: ``"layer"``, ``"channel"`` or ``"neuron"``.
        min_rate: lower bound, in the unit of ``max_rate``. The pull reaches silent neurons too.
        power: the exponent :math:`p`, 1 or 2.

    Raises:
        TypeError: an argument is not a number where one is expected.
        ValueError: an argument is out of range, or ``min_rate`` is above ``max_rate``.

    Shape:
        - Spikes: :math:`(N, C, ..., T)`; any shape with ``per="layer"``.
        - Loss: scalar, at least float32.

    Source:
        lava-dl 0.6.0; per neuron with both bounds: Zenke & Vogels, Neural Computation 33 (2021); Cramer et al., IEEE
        TNNLS 33 (2022).

    Examples:
        >>> spikes = torch.zeros(4, 100, 50)
        >>> spikes[:, 0] = 1.0  # one neuron of a hundred fires at every step
        >>> whole, each = SparsityEnforcer(max_rate=0.02), SparsityEnforcer(max_rate=0.02, per="neuron")
        >>> whole.append(spikes)
        >>> each.append(spikes)
        >>> print(f"{whole.loss:.4f} {each.loss:.4f}")
        0.0000 0.9604
    """

    def __init__(
        self,
        max_rate: float = 0.01,
        lam: Factor = 1.0,
        *,
        per: str = "layer",
        min_rate: float = 0.0,
        power: int = 2,
    ) -> None:
        super().__init__(lam, power)
        if isinstance(lam, LagrangeMultiplier):
            check_number("max_rate", max_rate, above=0.0)  # violations are relative to it
        check_number("max_rate", max_rate, minimum=0.0)
        check_choice("per", per, ("layer", "channel", "neuron"))
        check_number("min_rate", min_rate, minimum=0.0, maximum=max_rate)
        self.max_rate = max_rate
        self.per = per
        self.min_rate = min_rate

    def extra_repr(self) -> str:
        return (
            f"max_rate={self.max_rate}, lam={self.lam}, per={self.per!r}, min_rate={self.min_rate}, power={self.power}"
        )

    def attach(
        self, net: torch.nn.Module, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
    ) -> SparsityEnforcer:
        """Collect the spikes of every SLAYER block of ``net`` at each forward, and of the modules in ``include``.

        What an earlier forward left is cleared when ``net`` is called, so :meth:`clear` is never needed. A module that
        runs several times within one call of ``net`` counts with all its steps. A network that was attached before is
        released. Copies and pickles of ``net`` are not watched: attach them by themselves.

        Args:
            net: the network; also inside ``torch.compile`` or DistributedDataParallel.
            include: names of further modules (as in ``net.named_modules()``) that return spikes.
            exclude: names of modules to leave out, for instance the output layer.

        Returns:
            This enforcer.

        Raises:
            ValueError: a name is not in ``net``, or nothing is left to watch.
        """
        modules, _ = watched(net, include, exclude)
        self.detach()
        self._watcher.before(net, self.clear)
        self._watcher.watch(modules.items(), self._record)
        return self

    def append(self, x: torch.Tensor) -> None:
        """Collect the spikes of one more layer, ``(N, C, ..., T)``, graded and negative events by their magnitude."""
        self._start()
        self._collect(f"append[{len(self._collected)}]", x)

    def _record(self, name: str, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._collect(name, events_of(output))

    def _collect(self, name: str, x: torch.Tensor) -> None:
        check_spikes("x", x, min_dims=1 if self.per == "layer" else 3)
        dims = {"layer": list(range(x.dim())), "channel": [0, *range(2, x.dim())], "neuron": [0, x.dim() - 1]}[self.per]
        dtype = torch.promote_types(x.dtype, torch.float32)  # sums of half-precision spikes overflow, their rates round
        if not x.is_floating_point():
            x = x.to(dtype)
        events = magnitude(x, dims, dtype)
        rising = torch.where(x < 0, -x, x).sum(dims, dtype=dtype) if self.min_rate else events
        size = x.numel() // events.numel()
        if name in self._collected:
            before = self._collected[name]
            self._collected[name] = _Activity(before.events + events, before.rising + rising, before.size + size)
        else:
            self._collected[name] = _Activity(events, rising, size)

    def _global_activity(self) -> dict[str, _Activity]:
        """The activity of the global batch: one collective for all layers."""
        if not is_distributed():
            return self._collected
        layers = list(self._collected.values())
        sizes = [layer.events.new_full((1,), layer.size, dtype=torch.float64) for layer in layers]  # no copy from host
        sums = [part.flatten().double() for layer in layers for part in (layer.events, layer.rising)]
        lengths = [len(layers), *(part.numel() for part in sums)]
        total = torch.split(sum_over_ranks(torch.cat([*sizes, *sums])), lengths)
        return {
            name: _Activity(
                total[1 + 2 * i].view(layer.events.shape).to(layer.events.dtype),
                total[2 + 2 * i].view(layer.rising.shape).to(layer.rising.dtype),
                total[0][i],
            )
            for i, (name, layer) in enumerate(self._collected.items())
        }

    def _excesses(self) -> list[torch.Tensor]:
        activities = self._global_activity().values()
        over = [torch.relu(activity.events / activity.size - self.max_rate) for activity in activities]
        if not self.min_rate:
            return over
        return over + [torch.relu(self.min_rate - activity.rising / activity.size) for activity in activities]

    def _violations(self, margin: float) -> dict[str, torch.Tensor]:
        activities = self._global_activity()
        highest, lowest = self.max_rate * (1 - margin), self.min_rate * (1 + margin)
        over = {name: activity.events / activity.size / highest - 1 for name, activity in activities.items()}
        if not self.min_rate:
            return over
        return over | {f"{name}.min": 1 - a.rising / a.size / lowest for name, a in activities.items()}
