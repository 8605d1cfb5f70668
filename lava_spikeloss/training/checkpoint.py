"""Checkpoints of SLAYER networks, including the parts that SLAYER creates at the first forward."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lava_spikeloss.slayer_blocks import HELD_BACK, STATES, is_any_block, is_delay, is_norm, is_stateful, states

__all__ = ["load", "save"]

# Attributes that SLAYER sets at the first forward.
LAZY_ATTRIBUTES = ("shape", "num_neurons", "input_shape", "init", "num_features", "bias_is_set")
# Tensors that are a single number until the first forward.
LAZY_TENSORS = ("delay", "running_mean", "threshold", "bias")
FORMAT = 1


def save(
    path: str | os.PathLike[str],
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    **extra: Any,
) -> None:
    r"""Write ``net``, and ``optimizer`` if given, to ``path`` so that training goes on as if it had not stopped.

    The file holds parameters and buffers, the shapes and flags that SLAYER knows only after a first forward (of delays,
    decays per neuron and norms), and the state of the neurons, from which Recurrent blocks go on in the next forward.
    It consists of tensors, numbers, strings, lists and dictionaries: ``torch.load(path, weights_only=True)`` reads it.
    It is written beside ``path`` first and then moved, so an interruption leaves the old file whole.

    Args:
        path: the file.
        net: a net of SLAYER blocks and other modules.
        optimizer: the optimizer in use.
        extra: plain data to keep in the file too: an epoch, a learning-rate schedule, ``rng=torch.get_rng_state()``.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> net = torch.nn.Linear(2, 2)
        >>> save(folder.name + "/net.pt", net, epoch=3)
        >>> load(folder.name + "/net.pt", torch.nn.Linear(2, 2))
        {'epoch': 3}
    """
    checkpoint = {
        "format": FORMAT,
        "parameters": _parameters(net),
        "lazy": {path: _lazy_attributes(module) for path, module in net.named_modules() if _lazy_attributes(module)},
        "states": {path: dict(states(module)) for path, module in net.named_modules() if dict(states(module))},
        "optimizer": optimizer.state_dict() if optimizer is not None else None,
        "extra": extra,
    }
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    torch.save(_detached(checkpoint), partial)
    partial.replace(target)


def load(
    path: str | os.PathLike[str],
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
) -> dict[str, Any]:
    r"""Read what :func:`save` wrote into ``net``, fresh or used, and into ``optimizer``.

    Parameters keep their identity, so an optimizer that was built before is still that of ``net``. Nothing is changed
    if the file does not fit. Tensors go to the devices where ``net`` has its own. Put a net for step mode ``"s"`` into
    that mode before, since entering a mode resets the state.

    Args:
        path: the file.
        net: a net built as the saved one was.
        optimizer: an optimizer built as the saved one was.

    Returns:
        The plain data given to :func:`save` as ``extra``.

    Raises:
        ValueError: if the file holds other modules or shapes than ``net``, or ``optimizer`` is given and the file holds
            none.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> net, twin = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        >>> save(folder.name + "/net.pt", net)
        >>> _ = load(folder.name + "/net.pt", twin)
        >>> torch.equal(net.weight, twin.weight)
        True
    """
    checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise ValueError(f"Expected `{path}` to be a checkpoint written by `save` but its format is another.")
    if optimizer is not None and checkpoint["optimizer"] is None:
        raise ValueError(f"Expected `{path}` to hold the state of an optimizer but it was saved without one.")
    _check_fit(net, checkpoint["parameters"])
    modules = dict(net.named_modules())
    _load_parameters(net, checkpoint["parameters"])
    for name, attributes in checkpoint["lazy"].items():
        for attribute, value in attributes.items():
            setattr(modules[name], attribute, torch.Size(value) if isinstance(value, list) else value)
    _load_states(modules, checkpoint["states"])
    if optimizer is not None:
        optimizer.load_state_dict(checkpoint["optimizer"])
    extra: dict[str, Any] = checkpoint["extra"]
    return extra


def _parameters(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dictionary without states, as the last spikes of Recurrent blocks, which have the size of a batch."""
    return {name: value for name, value in net.state_dict().items() if name.rpartition(".")[2] not in STATES}


def _lazy_attributes(module: torch.nn.Module) -> dict[str, Any]:
    if not (is_any_block(module) or _is_lazy(module)):
        return {}
    found = {name: vars(module)[name] for name in LAZY_ATTRIBUTES if name in vars(module)}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    return [int(size) for size in value] if isinstance(value, (list, tuple)) else int(value)


def _is_lazy(module: torch.nn.Module) -> bool:
    """A neuron or part of one, an axonal delay, or one of SLAYER's norms."""
    return is_stateful(module) or is_delay(module) or is_norm(module)


def _lazy_tensors(net: torch.nn.Module) -> set[str]:
    """Names of the tensors whose shape SLAYER changes at the first forward."""
    return {
        f"{path}.{name}" if path else name
        for path, module in net.named_modules()
        if _is_lazy(module)
        for name in module.state_dict(keep_vars=True)
        if name in LAZY_TENSORS or name.endswith("_decay")
    }


def _check_fit(net: torch.nn.Module, saved: dict[str, torch.Tensor]) -> None:
    present = _parameters(net)
    lazy = _lazy_tensors(net)
    problems = [f"`{name}` is missing in the file" for name in present.keys() - saved.keys()]
    problems += [f"`{name}` is missing in the net" for name in saved.keys() - present.keys()]
    problems += [
        f"`{name}` has shape {tuple(saved[name].shape)} in the file and {tuple(present[name].shape)} in the net"
        for name in present.keys() & saved.keys()
        if saved[name].shape != present[name].shape and not (name in lazy and present[name].shape == (1,))
    ]
    if problems:
        raise ValueError(
            "Expected argument `net` to be built as the saved one was, but: " + "; ".join(sorted(problems)) + "."
        )


def _load_parameters(net: torch.nn.Module, saved: dict[str, torch.Tensor]) -> None:
    present = net.state_dict(keep_vars=True)
    for name, value in saved.items():
        # `.data` keeps the parameter's identity while its shape changes; SLAYER itself does the same.
        present[name].data = value.to(present[name].device, present[name].dtype, copy=True)


def _load_states(modules: dict[str, torch.nn.Module], saved: dict[str, dict[str, torch.Tensor]]) -> None:
    for path, module in modules.items():
        for name in HELD_BACK:
            if hasattr(module, name):
                setattr(module, name, None)
        for name, value in saved.get(path, {}).items():
            setattr(module, name, value.to(_device(module)))


def _device(module: torch.nn.Module) -> torch.device:
    return next(_tensors(module), torch.empty(0)).device


def _tensors(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _detached(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()  # a view would be written with everything it is a view of
    if isinstance(value, dict):
        return {key: _detached(entry) for key, entry in value.items()}
    return value
