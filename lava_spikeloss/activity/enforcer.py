"""Losses that keep what a network does within bounds: what they share, and the one on event rates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from lava_spikeloss.activity.constraint import LagrangeMultiplier
from lava_spikeloss.activity.distributed import is_distributed, sum_over_ranks
from lava_spikeloss.activity.hooks import Watcher, events_of, watched
from lava_spikeloss.arguments import check_choice, check_number, check_spikes
from lava_spikeloss.compiling import torch_transforms

__all__ = ["Enforcer", "Factor", "SparsityEnforcer", "sum_of_magnitudes"]

Factor = float | Callable[[int], float] | LagrangeMultiplier


class Enforcer(torch.nn.Module, ABC):
    """Base of a loss on what was collected from a network since :meth:`clear`.

    A subclass collects into ``_collected``, by name of a layer, and says by how much that breaks its constraints.
    """

    def __init__(self, lam: Factor, power: int) -> None:
        super().__init__()
        if not callable(lam):
            check_number("lam", lam, minimum=0)  # a negative one would reward what is over the budget
        check_choice("power", power, (1, 2))
        self.lam = lam
        self.power = power
        self.backward_passes = 0
        self._watcher = Watcher()
        self.clear()

    def detach(self) -> None:
        """Remove the hooks from the network; what was collected stays until :meth:`clear`."""
        self._watcher.release()

    def clear(self) -> None:
        """Forget what was collected so far."""
        self._collected: dict[str, Any] = {}
        self._graph_is_used = False

    @property
    def loss(self) -> torch.Tensor:
        """The loss of what was collected, a scalar. Before anything was collected, a zero that can run backward."""
        if not self._collected:
            return torch.zeros((), requires_grad=True)
        if isinstance(self.lam, LagrangeMultiplier):
            loss: torch.Tensor = self.lam(self._violations(self.lam.margin))
        else:
            lam = self.lam(self.backward_passes) if callable(self.lam) else self.lam
            check_number("lam", float(lam), minimum=0)
            penalties = (excess.pow(self.power).sum() for excess in self._excesses())
            loss = lam * sum(penalties, start=torch.zeros(()))
        if loss.requires_grad:
            loss.register_hook(self._after_backward)
        return loss

    @abstractmethod
    def _excesses(self) -> list[torch.Tensor]:
        """By how much each constraint is broken, zero where it holds: for a factor that is given."""

    @abstractmethod
    def _violations(self, margin: float) -> dict[str, torch.Tensor]:
        """By how much each constraint is broken, as a part of its budget less ``margin``; negative where it holds.

        For a :class:`LagrangeMultiplier`, which finds a factor for each.
        """

    def _clear_if_used(self) -> None:
        """Clear if a backward pass freed the graph of what was collected: a second one through it would raise."""
        if self._graph_is_used:
            self.clear()

    def _after_backward(self, gradient: torch.Tensor) -> None:
        self.backward_passes += 1
        self._graph_is_used = True

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle holds the settings, not the graph of the last forward."""
        return self.__dict__ | {"_collected": {}, "_graph_is_used": False}


def sum_of_magnitudes(x: torch.Tensor, dims: list[int]) -> torch.Tensor:
    """The sum of ``|x|`` over ``dims``, at least in float32: in half precision it would overflow."""
    magnitudes: torch.Tensor = x.abs() if torch_transforms() else _Magnitudes.apply(x)  # type: ignore[no-untyped-call, unused-ignore]
    return magnitudes.sum(dims, dtype=torch.promote_types(x.dtype, torch.float32))


class _Magnitudes(torch.autograd.Function):
    """``x.abs()``, whose gradient is made in one tensor; torch takes two, each as large as the spikes of a layer."""

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.abs()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        sign: torch.Tensor = ctx.saved_tensors[0].sgn()
        keeps_graph = torch.is_grad_enabled()  # for second derivatives, which need the sign as it was
        return sign * grad if keeps_graph or torch_transforms() else sign.mul_(grad)

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor) -> torch.Tensor:
        sign: torch.Tensor = ctx.saved_tensors[0].sgn()
        return sign * tangent


class _Activity(NamedTuple):
    """What one layer did since the last clear, summed over batch and time within each group of neurons."""

    events: torch.Tensor  # sum of magnitudes; its gradient is the sign of an event, and zero where there is none
    upward: torch.Tensor  # the same number; its gradient is one also where there is no event
    size: int | torch.Tensor  # neurons times samples times steps in each group


class SparsityEnforcer(Enforcer):
    r"""Penalty on event rates above ``max_rate`` and below ``min_rate``.

    .. math::
        L = \lambda \sum_l \sum_{g \in l}
            \left[\max(0,\, r_g - r_\text{max})^p + \max(0,\, r_\text{min} - r_g)^p\right]

    .. math::
        r_g = \frac{1}{|g|\,N\,T} \sum_{n,\, i \in g,\, t} |s_{n,i,t}|

    Where :math:`g` runs over the groups of layer :math:`l`: the whole layer, each channel, or each neuron. By default
    value and gradient are those of ``lava.lib.dl.slayer.loss.SparsityEnforcer``, for which it is a drop-in.

    The sum over groups makes the gradient of a neuron (``per="neuron"``) and of a channel's shared weights
    (``per="channel"``) independent of the size of the layer. With ``per="layer"`` one rate is shared by all neurons, so
    the gradient of each falls with their number, as in lava-dl.

    Give spikes to :meth:`append`, or a network to :meth:`attach`. Under ``torch.distributed`` the rates are those of
    the global batch, and the gradient is right after the averaging that DistributedDataParallel does; every rank then
    has to read :attr:`loss` equally often.

    Args:
        max_rate: upper bound, in events (by magnitude) per neuron and time step.
        lam: the factor :math:`\lambda`, at least 0: a number, a function of the number of backward passes so far, or a
            :class:`LagrangeMultiplier` that finds a factor for each group so that its rate ends within the bounds.
        per: the group that has to keep the bounds: ``"layer"``, ``"channel"`` or ``"neuron"``.
        min_rate: lower bound, in the unit of ``max_rate``. Silent neurons get its gradient too.
        power: the exponent :math:`p`, 1 or 2.

    Raises:
        TypeError: an argument has to be a number and is none.
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

        What an earlier forward left is cleared when ``net`` is called, so :meth:`clear` is never needed. If a module
        runs several times within one call of ``net``, all its steps count. A network that was attached before is
        detached. Copies and pickles of ``net`` are not watched: attach them too.

        Args:
            net: the network; also inside ``torch.compile`` or DistributedDataParallel.
            include: names of further modules (as in ``net.named_modules()``) that return spikes.
            exclude: names of modules to leave out, for instance the output layer.

        Returns:
            This enforcer.

        Raises:
            TypeError: ``net`` is not a module.
            ValueError: a name is not in ``net``, or nothing is left to watch.
        """
        modules, _ = watched(net, include, exclude)
        self.detach()
        self._watcher.before(net, self.clear)
        self._watcher.watch(modules.items(), self._record)
        return self

    def append(self, x: torch.Tensor) -> None:
        """Collect the spikes of one more layer, ``(N, C, ..., T)``; graded and negative events by their magnitude."""
        self._clear_if_used()
        self._collect(f"append[{len(self._collected)}]", x)

    def _record(self, name: str, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        self._collect(name, events_of(output))

    def _collect(self, name: str, x: torch.Tensor) -> None:
        check_spikes("x", x, min_dims=1 if self.per == "layer" else 3)
        if not x.is_floating_point():
            x = x.float()
        every_dim, last = list(range(x.dim())), x.dim() - 1
        dims = {"layer": every_dim, "channel": [0, *every_dim[2:]], "neuron": [0, last]}[self.per]
        events = upward = sum_of_magnitudes(x, dims)
        if self.min_rate:
            upward = events + torch.where(x == 0, x, 0).sum(dims, dtype=events.dtype)  # adds 0, with a gradient
        size = x.numel() // events.numel()
        if name in self._collected:
            before = self._collected[name]
            events, upward, size = before.events + events, before.upward + upward, before.size + size
        self._collected[name] = _Activity(events, upward, size)

    def _global_activity(self) -> dict[str, _Activity]:
        """The activity of the global batch: one collective for all layers."""
        if not is_distributed():
            return self._collected
        layers = list(self._collected.values())
        # Made on the device: a copy from the host would have to wait.
        sizes = [layer.events.new_full((1,), layer.size, dtype=torch.float64) for layer in layers]
        sums = [part.flatten().double() for layer in layers for part in (layer.events, layer.upward)]
        lengths = [len(layers), *(part.numel() for part in sums)]
        totals = iter(torch.split(sum_over_ranks(torch.cat([*sizes, *sums])), lengths))
        total_sizes = next(totals)
        return {
            name: _Activity(
                next(totals).view_as(layer.events).to(layer.events.dtype),
                next(totals).view_as(layer.upward).to(layer.upward.dtype),
                size,
            )
            for (name, layer), size in zip(self._collected.items(), total_sizes, strict=True)
        }

    def _excesses(self) -> list[torch.Tensor]:
        activities = self._global_activity().values()
        over = [torch.relu(activity.events / activity.size - self.max_rate) for activity in activities]
        if not self.min_rate:
            return over
        return over + [torch.relu(self.min_rate - activity.upward / activity.size) for activity in activities]

    def _violations(self, margin: float) -> dict[str, torch.Tensor]:
        activities = self._global_activity()
        highest, lowest = self.max_rate * (1 - margin), self.min_rate * (1 + margin)
        over = {name: activity.events / activity.size / highest - 1 for name, activity in activities.items()}
        if not self.min_rate:
            return over
        return over | {f"{name}.min": 1 - a.upward / a.size / lowest for name, a in activities.items()}
