"""How the command gets a trained network, from a factory and a checkpoint, and joins the processes of torchrun."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from lava_spikeloss.training.checkpoint import load_contents
from netx_export.errors import NetxExportError
from netx_export.file.opening import why_unreadable

__all__ = ["joined_ranks", "load_model", "no_exit"]


def load_model(name: str, checkpoint: Path | None) -> nn.Module:
    """Make a network, and load its trained parameters.

    Args:
        name: ``module:factory``; the module is looked for in the working directory too, the factory is called without
            arguments.
        checkpoint: a file with its ``state_dict``, or one that :func:`lava_spikeloss.training.save` wrote, or None if
            the factory returns the trained network. Only tensors and plain data are loaded from it; nothing in it is
            executed.

    Raises:
        NetxExportError: if one of them does not do what it should.
    """
    net = _make(name)
    if checkpoint is None:
        return net
    contents = _load(checkpoint)
    try:
        load_contents(contents, checkpoint, net)
    except ValueError as error:
        raise NetxExportError(f"{checkpoint} does not fit the network of --model {name}: {error}") from error
    return net


@contextmanager
def no_exit() -> Iterator[None]:
    """Turn ``sys.exit`` in the user's modules, which is no verdict, into an error."""
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich ends a process so if nobody reads its output
            raise
        raise NetxExportError(
            f"sys.exit was called, with status {end.code}, before there was a result. If a module of --model runs as a "
            f'script, keep that part under `if __name__ == "__main__":`.'
        ) from None


def _make(name: str) -> nn.Module:
    module_name, _, factory_name = name.partition(":")
    if not module_name or not factory_name:
        raise NetxExportError(f"Expected --model module:factory but got {name!r}.")
    sys.path.insert(0, os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
        net = factory if isinstance(factory, nn.Module) else factory()
    except Exception as error:  # the user's code may raise anything
        raise NetxExportError(f"--model {name} could not make the network: {_say(error)}") from error
    finally:
        sys.path.remove(os.getcwd())
    if net is factory:
        raise NetxExportError(
            f"--model {name} is a network, not what makes one. Give a function, or a class, that is called without "
            f"arguments and returns the network."
        )
    if not isinstance(net, nn.Module):
        raise NetxExportError(f"Expected --model {name} to return a torch.nn.Module but got {type(net).__name__}.")
    return net


def _load(checkpoint: Path) -> Any:
    problem = why_unreadable(checkpoint)
    if problem:
        raise NetxExportError(f"{checkpoint}: {problem}. Give the path of a checkpoint.")
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch and pickle raise almost anything
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise NetxExportError(f"{checkpoint}: there is not enough memory to read it.") from None
        raise NetxExportError(
            f"{checkpoint}: not a checkpoint that holds tensors alone ({type(error).__name__}), and nothing else is "
            f"loaded. Save the network's state_dict: torch.save(net.state_dict(), path)."
        ) from error


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def joined_ranks() -> Iterator[int]:
    """This process's rank among those that torchrun started, joined to them inside; 0 if there is only one."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield 0
        return
    # The group lasts as long as the process: to destroy it makes a rank of torch 2.3 wait for ever in one run of three.
    try:
        dist.init_process_group("gloo")
    except Exception as error:  # whatever torch makes of variables of the environment that torchrun did not set
        raise NetxExportError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']!r}, as torchrun sets it, but this process cannot join the "
            f"others: {_say(error)}. Run the command by torchrun, or unset WORLD_SIZE."
        ) from error
    yield dist.get_rank()
