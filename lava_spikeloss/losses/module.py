"""What every loss module shares: it stores the options of a functional, calls it, and can be added and weighted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from lava_spikeloss.arguments import check_number
from lava_spikeloss.losses.lengths import Lengths
from lava_spikeloss.losses.options import check_options

__all__ = ["Loss", "Regularizer", "Term", "WeightedSum"]


class Term(torch.nn.Module):
    """A module that can be added to another one and multiplied with a number."""

    __call__: Callable[..., torch.Tensor]  # for type checkers, to which torch's says nothing

    def __add__(self, other: torch.nn.Module) -> WeightedSum:
        return WeightedSum((1.0, self), (1.0, other)) if isinstance(other, torch.nn.Module) else NotImplemented

    def __radd__(self, other: torch.nn.Module | int) -> Term:
        if isinstance(other, int) and other == 0:  # Python's sum() starts from 0
            return self
        return WeightedSum((1.0, other), (1.0, self)) if isinstance(other, torch.nn.Module) else NotImplemented

    def __mul__(self, factor: float) -> WeightedSum:
        return WeightedSum((factor, self)) if isinstance(factor, (int, float)) else NotImplemented

    __rmul__ = __mul__


class WeightedSum(Term):
    r"""Weighted sum of losses, itself a loss: written out, or as arithmetic on losses.

    .. math:: L = \sum_i \lambda_i L_i

    Every term is called with the same arguments, so the sum can be the ``error`` of ``slayer.utils.Assistant``.

    Args:
        terms: pairs of a factor and a module; sums among them are flattened.

    Shape:
        - as its terms; with ``reduction="none"`` their outputs have to broadcast

    Raises:
        TypeError: if a term is not a module, or a factor not a number.
        ValueError: if there is no term, or a factor is not finite.

    Example:
        >>> from lava_spikeloss import CountBoundsLoss, SpikeMax
        >>> loss = SpikeMax() + 0.1 * CountBoundsLoss(upper=1)
        >>> loss(torch.ones(1, 2, 4), torch.tensor([0]))
        tensor(1.5931)
        >>> loss = WeightedSum((1.0, SpikeMax()), (0.1, CountBoundsLoss(upper=1)))
        >>> loss(torch.ones(1, 2, 4), torch.tensor([0]))
        tensor(1.5931)
    """

    factors: list[float]
    losses: torch.nn.ModuleList

    def __init__(self, *terms: tuple[float, torch.nn.Module]) -> None:
        super().__init__()
        if not terms:
            raise ValueError("Expected argument `terms` to hold at least one (factor, loss) but got none.")
        factors: list[float] = []
        losses: list[torch.nn.Module] = []
        for factor, loss in terms:
            check_number("factor", factor)
            if not isinstance(loss, torch.nn.Module):
                raise TypeError(f"Expected argument `terms` to hold modules but got {type(loss).__name__}.")
            inner = zip(loss.factors, loss.losses, strict=True) if isinstance(loss, WeightedSum) else [(1.0, loss)]
            for inner_factor, inner_loss in inner:
                factors.append(factor * inner_factor)
                losses.append(inner_loss)
        self.factors = factors
        self.losses = torch.nn.ModuleList(losses)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The weighted sum of all terms, each called with these arguments."""
        values = [factor * loss(*args, **kwargs) for factor, loss in zip(self.factors, self.losses, strict=True)]
        total: torch.Tensor = sum(values[1:], values[0])
        return total

    def extra_repr(self) -> str:
        """The factors."""
        return f"factors={self.factors}"


class Loss(Term):
    """A functional with its options: checked once when built, readable as attributes, shown by ``repr``.

    A subclass names its functional, ``class SpikeRate(Loss, function=spike_rate)``, and gets that functional's
    documentation below its own. A tensor among the options (class weights) becomes a buffer, a parameter stays one;
    both move with the module.
    """

    _function: ClassVar[Callable[..., torch.Tensor]]

    def __init_subclass__(cls, *, function: Callable[..., torch.Tensor] | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if function is None:
            return
        cls._function = staticmethod(function)
        summary = (cls.__doc__ or "").rstrip()
        cls.__doc__ = f"{summary}\n\n    Module form of :func:`{function.__name__}`:\n\n    {function.__doc__}"

    def __init__(self, **options: Any) -> None:
        super().__init__()
        check_options(**options)
        self._names = tuple(options)
        for name, value in options.items():
            if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, input: torch.Tensor, target: torch.Tensor, *, lengths: Lengths | None = None) -> torch.Tensor:
        """Loss of ``input`` given ``target``, of samples of these ``lengths``."""
        return self._function(input, target, lengths=lengths, **self._options())

    @property
    def labels_per_step(self) -> bool | None:
        """Whether labels with two dimensions are per step, ``(N, T)``; None where they say it themselves."""
        return None

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def extra_repr(self) -> str:
        """The options, as they were given."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)


class Regularizer(Loss):
    """A loss without a target: it takes one and ignores it, so that it can stand wherever a loss stands."""

    def forward(
        self, input: torch.Tensor, target: torch.Tensor | None = None, *, lengths: Lengths | None = None
    ) -> torch.Tensor:
        """Loss of ``input``, of samples of these ``lengths``; ``target`` is not used."""
        return self._function(input, lengths=lengths, **self._options())
