"""Checkpoints of SLAYER networks, including the parts that SLAYER creates at the first forward."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from lava_spikeloss.slayer_blocks import STATES, is_any_block, is_delay, is_norm, is_pool, is_stateful, states, synapses
from lava_spikeloss.training.state import reset_net

__all__ = ["load", "save"]

# Attributes that SLAYER sets at the first forward.
LAZY_ATTRIBUTES = ("shape", "num_neurons", "input_shape", "init", "num_features", "bias_is_set", "shared_param")
# Tensors that are a single number until the first forward.
LAZY_TENSORS = ("delay", "running_mean", "threshold", "bias")
FORMAT = 1
# What torch's AveragedModel keeps beside the module that it averages.
_OF_WRAPPERS = ("n_averaged",)


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
    r"""Read a checkpoint into ``net``, fresh or used: one that :func:`save` wrote, or any ``state_dict``.

    Parameters keep their identity, so an optimizer that was built before is still that of ``net``. Nothing is changed
    if the file does not fit. Tensors go to the devices where ``net`` has its own. Put a net for step mode ``"s"`` into
    that mode before, since entering a mode resets the state.

    A ``state_dict``, as ``torch.save(net.state_dict(), path)`` writes it, may lie in other dictionaries and lists
    (``{"state_dict": ..., "epoch": 3}``), and its names may have what ``DistributedDataParallel`` and ``torch.compile``
    put in (``module.``, ``_orig_mod.``), or the one attribute before them in which a larger module holds the net
    (``net.``, as of Lightning), if all names begin with it. Delays, decays and thresholds per neuron, and norms get
    their shape from the file, and the first forward keeps them, where SLAYER would draw them anew. The neurons start at
    rest.

    A single delay of exactly 0 may be one that training led there, or one that SLAYER has not drawn yet: in such a file
    they are alike. It is kept where the block has one output channel; of other blocks, and of those that do not tell
    their channels (an Input block, a delay on its own), the first forward draws the delays. :func:`save` tells them.

    Args:
        path: the file. Only tensors and plain data are loaded from it; nothing in it is executed.
        net: a net built as the saved one was.
        optimizer: an optimizer built as the saved one was; for a file that :func:`save` wrote.

    Returns:
        The plain data given to :func:`save` as ``extra``; nothing for a ``state_dict``.

    Raises:
        OSError: if there is no such file, or it may not be read.
        TypeError: if ``path`` is no path.
        ValueError: if the file is damaged or empty, or holds other modules or shapes than ``net``, no checkpoint,
            objects other than tensors and plain data, tensors that are not dense or of another kind of numbers,
            several dictionaries that fit, or two tensors for one of ``net``; or if ``optimizer`` is given and the file
            holds none.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> net, twin = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        >>> torch.save(net.state_dict(), folder.name + "/net.pt")
        >>> load(folder.name + "/net.pt", twin)
        {}
        >>> torch.equal(net.weight, twin.weight)
        True
    """
    if not (hasattr(path, "read") or isinstance(path, str | os.PathLike)):  # torch reads open files too
        raise TypeError(f"Expected argument `path` to be a str or an os.PathLike but got {type(path).__name__}.")
    try:
        contents = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, MemoryError):  # no such file, or no memory: the file may be whole
        raise
    except Exception as error:  # a damaged file makes torch and pickle raise almost anything
        raise ValueError(
            f"Expected `{path}` to hold tensors and plain data alone but got a file that holds other objects, or a "
            f"damaged one. Save the net's state_dict: torch.save(net.state_dict(), path)."
        ) from error
    return load_contents(contents, path, net, optimizer)


def load_contents(
    contents: Any, path: str | os.PathLike[str], net: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Any]:
    """What :func:`load` does once ``torch.load`` has read the file at ``path``."""
    if isinstance(contents, dict) and isinstance(contents.get("format"), int):
        checkpoint = _saved_by_us(contents, path, net)
    else:
        checkpoint = _from_state_dict(contents, path, net)
    if optimizer is not None:
        if checkpoint.optimizer is None:
            raise ValueError(f"Expected `{path}` to hold the state of an optimizer but it was saved without one.")
        optimizer.load_state_dict(checkpoint.optimizer)  # first: it raises if the state is another optimizer's
    modules = dict(net.named_modules())
    _load_parameters(net, checkpoint.parameters)
    for name, attributes in checkpoint.lazy.items():
        for attribute, value in attributes.items():
            setattr(modules[name], attribute, torch.Size(value) if isinstance(value, list) else value)
    reset_net(net)
    _load_states(modules, checkpoint.states)
    return checkpoint.extra


@dataclass(frozen=True, eq=False)
class _Checkpoint:
    """What goes into a net, by the names of its tensors and modules."""

    parameters: dict[str, torch.Tensor]
    lazy: dict[str, dict[str, Any]]
    states: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    optimizer: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def _saved_by_us(contents: dict[str, Any], path: str | os.PathLike[str], net: torch.nn.Module) -> _Checkpoint:
    parts = [part.name for part in fields(_Checkpoint)]
    if contents["format"] != FORMAT or not contents.keys() >= set(parts):
        raise ValueError(f"Expected `{path}` to be a checkpoint written by `save` but its format is another.")
    if not _is_whole(contents):
        raise ValueError(f"Expected `{path}` to be a checkpoint as `save` writes it but it was changed since.")
    checkpoint = _Checkpoint(**{part: contents[part] for part in parts})
    modules = dict(net.named_modules())
    problems = [
        f"`{name}` is missing in the net" for name in checkpoint.lazy | checkpoint.states if name not in modules
    ]
    _refuse([*_misfits(net, checkpoint.parameters), *problems])
    return checkpoint


def _is_whole(contents: dict[str, Any]) -> bool:
    """Whether every part holds what :func:`save` writes there, so that no other attribute is set on a module."""
    tensors, lazy, states = contents["parameters"], contents["lazy"], contents["states"]
    return (
        isinstance(tensors, dict)
        and all(isinstance(value, torch.Tensor) for value in tensors.values())
        and _holds(lazy, LAZY_ATTRIBUTES, (bool, int, list, tuple, type(None)))
        and _holds(states, STATES, torch.Tensor)
        and isinstance(contents["optimizer"], dict | None)
        and isinstance(contents["extra"], dict)
    )


def _holds(modules: Any, names: Collection[str], types: Any) -> bool:
    """Whether this is a dictionary of dictionaries, each of some of these names with values of these types."""
    return isinstance(modules, dict) and all(
        isinstance(attributes, dict)
        and attributes.keys() <= set(names)
        and all(isinstance(value, types) for value in attributes.values())
        for attributes in modules.values()
    )


def _from_state_dict(contents: Any, path: str | os.PathLike[str], net: torch.nn.Module) -> _Checkpoint:
    """The only ``state_dict`` in the file that fits the net."""
    found = {place: _renamed(tensors, net) for place, tensors in _state_dicts(contents)}
    if not found:
        raise ValueError(
            f"Expected `{path}` to hold a state_dict, or a checkpoint written by `save`, but got neither. Write one "
            f"with torch.save(net.state_dict(), path)."
        )
    misfits = {place: _misfits(net, tensors) for place, tensors in found.items()}
    fitting = [place for place in found if not misfits[place]]
    if len(fitting) > 1:
        raise ValueError(
            f"Expected `{path}` to hold one state_dict of `net` but got {len(fitting)}: "
            f"{', '.join(place or 'the file itself' for place in fitting)}. "
            f"Save the one that you mean in a file of its own."
        )
    names = _parameters(net).keys()
    nearest = fitting[0] if fitting else max(found, key=lambda place: len(found[place].keys() & names))
    _refuse(misfits[nearest])
    return _Checkpoint(found[nearest], _flags_of_what_was_made(net, found[nearest]))


def _state_dicts(contents: Any, place: str = "") -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """The tensors of every dictionary that holds some, by its place in the file, as ``['model']['weights']``."""
    if isinstance(contents, dict):
        tensors = {key: value for key, value in contents.items() if isinstance(value, torch.Tensor)}
        if (tensors and all(isinstance(key, str) for key in tensors)) or (not contents and not place):
            yield place, tensors
        entries = list(contents.items())
    else:
        entries = list(enumerate(contents)) if isinstance(contents, list | tuple) else []
    for key, value in entries:
        yield from _state_dicts(value, f"{place}[{key!r}]")


def _renamed(tensors: dict[str, torch.Tensor], net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Tensors under their names in ``net``, without states, which some releases of lava-dl saved too."""
    present = {short: name for name, short in _unwrapped(_parameters(net)).items()}
    kept = {
        name: value
        for name, value in tensors.items()
        if name.rpartition(".")[2] not in STATES and (name not in _OF_WRAPPERS or name in present)
    }
    names = {name: present.get(short, name) for name, short in _alone(_unwrapped(kept), present).items()}
    _refuse_two_for_one(names)
    return {names[name]: value for name, value in kept.items()}


def _alone(names: dict[str, str], present: Collection[str]) -> dict[str, str]:
    """Names without the attribute in which a larger module holds the net, if all begin with it and the rest is the net.

    If others stand beside it, the attribute may hold another copy of the net, as of averaged weights.
    """
    attribute = f"{next(iter(names.values()), '').partition('.')[0]}."
    alone = {name: short.removeprefix(attribute) for name, short in names.items()}
    held = all(short.startswith(attribute) for short in names.values())
    return alone if held and set(alone.values()) == set(present) else names


def _refuse_two_for_one(names: dict[str, str]) -> None:
    """Raise if two names of the file are one name in the net, so that the file may be read in two ways."""
    read: dict[str, list[str]] = {}
    for name, target in names.items():
        read.setdefault(target, []).append(name)
    several = [f"`{'` and `'.join(group)}` for `{target}`" for target, group in read.items() if len(group) > 1]
    if several:
        raise ValueError(
            f"Expected the file to hold each tensor of `net` once but got {'; '.join(several)}. "
            f"Save the one that you mean in a file of its own."
        )


def _unwrapped(names: Iterable[str]) -> dict[str, str]:
    """What is left of names without the parts that torch.compile, and DistributedDataParallel, put into them."""
    short = {name: ".".join(part for part in name.split(".") if part != "_orig_mod") for name in names}
    while short and all(rest.startswith("module.") for rest in short.values()):
        short = {name: rest.removeprefix("module.") for name, rest in short.items()}
    return short if len(set(short.values())) == len(short) else {name: name for name in short}


def _flags_of_what_was_made(net: torch.nn.Module, saved: dict[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """Attributes that keep SLAYER's first forward from drawing anew what the file holds.

    A ``state_dict`` does not hold them, so they follow from its values. A tensor with the single number of a fresh net
    had not been drawn when the file was written, or drawing it again makes no difference. The exception is a delay.
    """
    present = net.state_dict()
    single = {block for block, channels in _block_channels(net).items() if channels == 1}
    made = {
        name
        for name in _lazy_tensors(net)
        if saved[name].numel() > 1 or not torch.equal(saved[name].flatten(), present[name].cpu().flatten())
    }
    flags: dict[str, dict[str, Any]] = {}
    for path, module in net.named_modules():
        prefix = f"{path}." if path else ""
        if is_delay(module) and (f"{prefix}delay" in made or path.rpartition(".")[0] in single):
            flags[path] = {"init": True}
        if is_stateful(module) and f"{prefix}bias" in made:
            flags[path] = {"bias_is_set": True}
        # A neuron that knows its shape has a number for each neuron already; with shared parameters it has one for all.
        drawn = getattr(module, "shared_param", True) is False and getattr(module, "shape", None) is None
        if is_stateful(module) and drawn and any(name.startswith(prefix) for name in made):
            flags[path] = {**flags.get(path, {}), "shared_param": True}
    return flags


def _block_channels(net: torch.nn.Module) -> dict[str, int]:
    """Output channels of the blocks that tell them, by their paths. (A pool works on any number of channels.)"""
    modules = dict(net.named_modules())
    found: Iterator[tuple[str, Any]] = ((block, synapse) for (block, _), synapse in synapses(net))
    return {block: int(synapse.out_channels) for block, synapse in found if not is_pool(modules[block])}


def _channels(net: torch.nn.Module) -> dict[str, int]:
    """How many numbers a lazy tensor of a block comes to have, by name; but for a bias, which has any shape."""
    blocks = _block_channels(net)
    return {
        name: blocks[block]
        for name in _lazy_tensors(net)
        if not name.endswith("bias")
        for block in _above(name)
        if block in blocks
    }


def _above(name: str) -> list[str]:
    """The paths of the modules that a tensor is a part of."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:length]) for length in range(len(parts) + 1)]


def _parameters(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dictionary without states, such as the last spikes of Recurrent blocks, which have a batch size."""
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


def _misfits(net: torch.nn.Module, saved: dict[str, torch.Tensor]) -> list[str]:
    """What keeps tensors from being those of ``net``; nothing if they fit."""
    present = _parameters(net)
    lazy = _lazy_tensors(net)
    missing = [f"`{name}` is missing in the file" for name in present if name not in saved]
    left_over = [f"`{name}` is missing in the net" for name in saved if name not in present]
    channels = _channels(net)
    unlike = [
        f"`{name}` {problem}"
        for name in present
        if name in saved
        and (
            problem := _other_kind(saved[name], present[name])
            or _other_shape(saved[name], present[name], channels.get(name) if name in lazy else None, lazy=name in lazy)
        )
    ]
    return [*missing, *left_over, *unlike] or _torn(net, saved)


def _torn(net: torch.nn.Module, saved: dict[str, torch.Tensor]) -> list[str]:
    """Names of one tensor of ``net``, such as tied weights, under which the file holds other values each."""
    present = net.state_dict(keep_vars=True)
    first: dict[int, str] = {}  # name under which each tensor comes first
    pairs = [(first.setdefault(id(present[name]), name), name) for name in present if name in saved]
    return [
        f"`{one}` and `{other}` are one tensor in the net and differ in the file"
        for one, other in pairs
        if one != other
        and not torch.equal(*(saved[name].to(present[name].dtype).nan_to_num() for name in (one, other)))
    ]


def _other_kind(saved: torch.Tensor, present: torch.Tensor) -> str:
    """Why a tensor cannot take the values of another, whatever its shape; empty if it can."""
    if saved.layout != torch.strided or saved.is_meta or saved.is_quantized:
        return "is not dense in the file"
    if saved.is_complex() != present.is_complex() or saved.is_floating_point() != present.is_floating_point():
        return f"is {saved.dtype} in the file and {present.dtype} in the net"
    return ""


def _other_shape(saved: torch.Tensor, present: torch.Tensor, channels: int | None, *, lazy: bool) -> str:
    """Why a tensor has a shape that another cannot take, a lazy one once for each channel; empty if it has not."""
    if saved.shape == present.shape or (lazy and present.shape == (1,) and channels in (None, saved.numel())):
        return ""
    expected = f"{tuple(present.shape)} in the net"
    if lazy and present.shape == (1,):
        expected += f", whose block has {channels} channels"
    return f"has shape {tuple(saved.shape)} in the file and {expected}"


def _refuse(misfits: list[str]) -> None:
    if misfits:
        raise ValueError(f"Expected argument `net` to be built as the saved one was, but: {'; '.join(misfits)}.")


def _load_parameters(net: torch.nn.Module, saved: dict[str, torch.Tensor]) -> None:
    present = net.state_dict(keep_vars=True)
    for name, value in saved.items():
        # `.data` keeps the parameter's identity while its shape changes; SLAYER itself does the same.
        present[name].data = value.to(present[name].device, present[name].dtype, copy=True)


def _load_states(modules: dict[str, torch.nn.Module], saved: dict[str, dict[str, torch.Tensor]]) -> None:
    for path, module in modules.items():
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
