"""What the losses on activity share: watching a network, clearing by themselves, and the weighting factor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from lava_spikeloss.activity.constraint import LagrangeMultiplier
from lava_spikeloss.activity.hooks import Watcher
from lava_spikeloss.arguments import check_choice, check_number

__all__ = ["Enforcer", "Factor", "magnitude"]

Factor = float | Callable[[int], float] | LagrangeMultiplier


class Enforcer(torch.nn.Module, ABC):
    """Base of a loss on what was collected since the last clear. Subclasses give excess and violations."""

    def __init__(self, lam: Factor, power: int) -> None:
        super().__init__()
        if not callable(lam):
            check_number("lam", lam)
        check_choice("power", power, (1, 2))
        self.lam = lam
        self.power = power
        self.backward_passes = 0
        self._watcher = Watcher()
        self.clear()

    def detach(self) -> None:
        """Take the hooks off the network; what was collected stays until :meth:`clear`."""
        self._watcher.release()

    def clear(self) -> None:
        """Forget what was collected so far."""
        self._collected: dict[str, Any] = {}
        self._spent = False

    @property
    def loss(self) -> torch.Tensor:
        """The loss of what was collected, a scalar; zero, and fit for ``backward()``, if that is nothing."""
        if not self._collected:
            return torch.zeros((), requires_grad=True)
        if isinstance(self.lam, LagrangeMultiplier):
            loss: torch.Tensor = self.lam(self._violations(self.lam.margin))
        else:
            lam = self.lam(self.backward_passes) if callable(self.lam) else self.lam
            penalties = (excess.pow(self.power).sum() for excess in self._excesses())
            loss = lam * sum(penalties, start=torch.zeros(()))
        if loss.requires_grad:
            loss.register_hook(self._after_backward)
        return loss

    @abstractmethod
    def _excesses(self) -> list[torch.Tensor]:
        """How much each constraint is broken, zero where it holds: for a factor that is given."""

    @abstractmethod
    def _violations(self, margin: float) -> dict[str, torch.Tensor]:
        """How much each constraint is broken, relative to its budget less ``margin``: for a factor that is found."""

    def _start(self) -> None:
        """Start anew if the last backward pass used the graph up: running it backward twice would raise."""
        if self._spent:
            self.clear()

    def _after_backward(self, gradient: torch.Tensor) -> None:
        self.backward_passes += 1
        self._spent = True

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a pickle holds the settings, not the graph of the last forward."""
        return self.__dict__ | {"_collected": {}, "_spent": False}


def magnitude(x: torch.Tensor, dims: list[int], dtype: torch.dtype) -> torch.Tensor:
    """Sum of absolute values over dimensions, accumulated in ``dtype``."""
    return x.abs().sum(dims, dtype=dtype)
