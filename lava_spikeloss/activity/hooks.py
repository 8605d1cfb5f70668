"""Watching a network through forward hooks, which its copies and pickles do not take along."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any, NamedTuple, TypeVar, cast

import torch

from lava_spikeloss.compiling import torch_compiles
from lava_spikeloss.slayer_blocks import spiking_blocks, synapses

__all__ = ["Hook", "Watched", "Watcher", "events_of", "untraced", "watched"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def untraced(function: _Function) -> _Function:
    """Keep ``torch.compile`` out of ``function``: its graph ends before it and starts again after it."""

    @wraps(function)
    def outside_graphs(*args: Any, **kwargs: Any) -> Any:
        # Only now, since `disable` imports the compiler, which takes as long as torch itself.
        run = torch.compiler.disable(function) if torch_compiles() else function
        return run(*args, **kwargs)

    return cast(_Function, outside_graphs)


class Hook:
    """A forward hook that does nothing in a copy or a pickle of its network.

    Otherwise a deep copy of the network would copy its watcher too, with the graph of the last forward.
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
        """Remove all hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Watcher:
        return Watcher()

    def __reduce__(self) -> tuple[type[Watcher], tuple[()]]:
        return Watcher, ()


class Watched(NamedTuple):
    """What of a network is watched."""

    modules: dict[str, torch.nn.Module]  # by name; their outputs are events
    synapses: dict[tuple[str, str], torch.nn.Module]  # by the names of block and synapse; their inputs are events


def watched(net: torch.nn.Module, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Watched:
    """Every spiking SLAYER block of ``net`` and the modules named in ``include``, and every SLAYER synapse.

    Modules named in ``exclude`` are left out, together with their synapses.

    Raises:
        TypeError: ``net`` is not a module.
        ValueError: a name is not in ``net``, or no module is left to watch.
    """
    if not isinstance(net, torch.nn.Module):
        raise TypeError(f"Expected argument `net` to be a torch.nn.Module but got {type(net).__name__}.")
    named, included, excluded = dict(net.named_modules()), _names(include), _names(exclude)
    missing = [name for name in (*included, *excluded) if name not in named]
    if missing:
        raise ValueError(f"Expected the names of modules in `net` but got {missing}; it has {list(named)}.")
    found = dict(spiking_blocks(net)) | {name: named[name] for name in included}
    modules = {name: module for name, module in found.items() if name not in excluded}
    if not modules:
        raise ValueError("Expected `net` to hold a SLAYER block that spikes, or a module named in `include`.")
    return Watched(modules, {key: module for key, module in synapses(net) if key[0] not in excluded})


def _names(names: Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def events_of(output: Any) -> torch.Tensor:
    """The spikes in what a module returned: its output, or the first item of a tuple such as (spikes, count)."""
    spikes = output[0] if isinstance(output, tuple) else output
    if not isinstance(spikes, torch.Tensor):
        raise TypeError(f"Expected a watched module to return a tensor of spikes but got {type(spikes).__name__}.")
    return spikes
