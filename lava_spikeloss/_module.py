"""What every loss module shares: it stores the options of a functional, and calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch

from lava_spikeloss._options import check_options

__all__ = ["Loss"]


class Loss(torch.nn.Module):
    """A functional with its options: checked once when built, readable as attributes, shown by ``repr``.

    A subclass names its functional, ``class SpikeRate(Loss, function=spike_rate)``, and gets that functional's
    documentation below its own. A tensor among the options (class weights) becomes a buffer and moves with the module.
    """

    _function: ClassVar[Callable[..., torch.Tensor]]

    def __init_subclass__(cls, *, function: Callable[..., torch.Tensor], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._function = staticmethod(function)
        summary = cls.__doc__ or ""
        details = (function.__doc__ or "").strip()
        cls.__doc__ = f"{summary.rstrip()}\n\n    What :func:`{function.__name__}` computes:\n\n    {details}\n    "

    def __init__(self, **options: Any) -> None:
        super().__init__()
        check_options(**options)
        self._names = tuple(options)
        for name, value in options.items():
            if isinstance(value, torch.Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of ``input`` given ``target``."""
        return self._function(input, target, **{name: getattr(self, name) for name in self._names})

    def extra_repr(self) -> str:
        """The options, as they were given."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)
