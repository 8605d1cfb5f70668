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

from netx_export.errors import NetxExportError
from netx_export.file.opening import why_unreadable

__all__ = ["joined_ranks", "load_model"]


def load_model(name: str, checkpoint: Path | None, sample: Any) -> nn.Module:
    """Make a network, and load its trained parameters.

    Args:
        name: ``module:factory``; the module is looked for in the working directory too, the factory is called without
            arguments.
        checkpoint: a file with its ``state_dict``, or None if the factory returns the trained network. Only tensors
            are loaded from it; nothing in it is executed.
        sample: one sample of input: SLAYER makes some parameters at the first forward only.

    Raises:
        NetxExportError: if one of them does not do what it should.
    """
    net = _make(name)
    if checkpoint is None:
        return net
    state = _load(checkpoint)
    try:
        with torch.no_grad():
            net(torch.as_tensor(sample).to(torch.float32))
        # The spikes of the last batch, by which recurrent blocks begin the next one, are of its size.
        last = {name: value for name, value in net.state_dict().items() if name.endswith("spike_state")}
        net.load_state_dict({**state, **last})
    except Exception as error:  # whatever the user's network raises
        raise NetxExportError(f"{checkpoint} does not fit the network of --model {name}: {_say(error)}") from error
    return net


def _make(name: str) -> nn.Module:
    module_name, _, factory_name = name.partition(":")
    if not module_name or not factory_name:
        raise NetxExportError(f"Expected --model module:factory but got {name!r}.")
    sys.path.insert(0, os.getcwd())
    try:
        net = getattr(importlib.import_module(module_name), factory_name)()
    except Exception as error:  # the user's code may raise anything
        raise NetxExportError(f"--model {name} could not make the network: {_say(error)}") from error
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(net, nn.Module):
        raise NetxExportError(f"Expected --model {name} to return a torch.nn.Module but got {type(net).__name__}.")
    return net


def _load(checkpoint: Path) -> dict[str, torch.Tensor]:
    problem = why_unreadable(checkpoint)
    if problem:
        raise NetxExportError(f"{checkpoint}: {problem}. Give the path of a checkpoint.")
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch and pickle raise almost anything
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise NetxExportError(f"{checkpoint}: there is not enough memory to read it.") from None
        raise NetxExportError(
            f"{checkpoint}: not a checkpoint that holds tensors alone ({type(error).__name__}), and nothing else is "
            f"loaded. Save the network's state_dict: torch.save(net.state_dict(), path)."
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise NetxExportError(
            f"{checkpoint}: expected a state_dict, alone or under 'state_dict'. Save it with "
            f"torch.save(net.state_dict(), path)."
        )
    return state


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
