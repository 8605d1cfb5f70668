"""Watching a network through forward hooks, without a trace in its copies.

A SLAYER block is recognised by what it has, not by its class, so this file needs torch only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

import torch

__all__ = ["Hook", "Watcher", "events_of", "spiking_blocks", "synapses", "untraced", "watched"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_NOT_EVENTS = {"AbstractAffine", "Output"}  # SLAYER blocks that end in a voltage or an accumulated value


def spiking_blocks(net: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield name and module of every SLAYER block in ``net`` whose output is events."""
    for name, module in net.named_modules():
        has_neuron = isinstance(getattr(module, "neuron", None), torch.nn.Module)
        is_block = has_neuron and hasattr(module, "count_log")
        if is_block and _NOT_EVENTS.isdisjoint(kind.__name__ for kind in type(module).__mro__):
            yield name, module


def synapses(net: torch.nn.Module, exclude: Iterable[str] = ()) -> Iterator[tuple[tuple[str, str], torch.nn.Module]]:
    """Yield ``(block, name)`` and module of every SLAYER synapse of ``net``, of a complex one both parts.

    The recurrent synapse of a recurrent block is not among them: its block does not call it.
    """
    named = dict(net.named_modules())
    for name, module in named.items():
        is_synapse = hasattr(module, "weight_norm_enabled") and isinstance(
            getattr(module, "weight", None), torch.Tensor
        )
        if is_synapse and not name.endswith("recurrent_synapse"):
            parts = name.split(".")
            above = (".".join(parts[:length]) for length in range(len(parts) - 1, -1, -1))
            block = next((prefix for prefix in above if hasattr(named[prefix], "count_log")), name)
            if block not in exclude:
                yield (block, name), module


def untraced(function: _Function) -> _Function:
    """Keep ``torch.compile`` out of ``function``: its graph ends before it and starts again after it."""
    return cast(_Function, torch.compiler.disable(function))


class Hook:
    """A forward hook that falls silent in a copy or a pickle of the network it hangs on.

    Without this a deep copy of the network would copy its watcher too, with the graph of the last forward.
    """

    def __init__(self, callback: Callable[..., None] | None) -> None:
        self.callback = callback

    def __call__(self, *args: Any) -> None:
        if self.callback is not None:
            self.callback(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook(None)

    def __reduce__(self) -> tuple[type[Hook], tuple[None]]:
        return Hook, (None,)


class Watcher:
    """The hooks of one observer on one network."""

    def __init__(self) -> None:
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def watch(
        self,
        modules: Iterable[tuple[Any, torch.nn.Module]],
        record: Callable[..., None],
    ) -> None:
        """Call ``record(name, module, inputs, output)`` after each of ``modules``."""
        for name, module in modules:
            self._handles.append(module.register_forward_hook(Hook(partial(record, name))))

    def before(self, net: torch.nn.Module, start: Callable[[], None]) -> None:
        """Call ``start()`` before each forward of ``net``."""
        self._handles.append(net.register_forward_pre_hook(Hook(lambda *_: start())))

    def release(self) -> None:
        """Take all hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Watcher:
        return Watcher()

    def __reduce__(self) -> tuple[type[Watcher], tuple[()]]:
        return Watcher, ()


def watched(net: torch.nn.Module, include: Iterable[str], exclude: Iterable[str]) -> dict[str, torch.nn.Module]:
    """Every spiking SLAYER block of ``net`` and the modules named in ``include``, without those in ``exclude``."""
    named = dict(net.named_modules())
    missing = [name for name in (*include, *exclude) if name not in named]
    if missing:
        raise ValueError(f"Expected the names of modules in `net` but got {missing}; it has {list(named)}.")
    found = dict(spiking_blocks(net)) | {name: named[name] for name in include}
    chosen = {name: module for name, module in found.items() if name not in set(exclude)}
    if not chosen:
        raise ValueError("Expected `net` to hold a SLAYER block that spikes, or a module named in `include`.")
    return chosen


def events_of(output: Any) -> torch.Tensor:
    """The spikes in what a module returned: its output, or the first item of a tuple such as (spikes, count)."""
    spikes = output[0] if isinstance(output, tuple) else output
    if not isinstance(spikes, torch.Tensor):
        raise TypeError(f"Expected a watched module to return a tensor of spikes but got {type(spikes).__name__}.")
    return spikes
