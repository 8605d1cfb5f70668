"""Puts back what a forward has changed in the attributes of modules, and the state of random number generators."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["kept_attributes", "kept_random_numbers"]

_CONTAINERS = (dict, list, set, deque)


@contextmanager
def kept_attributes(modules: list[nn.Module]) -> Iterator[None]:
    """Put back each module's attributes after the block, and what the containers, tensors and arrays in them held.

    Containers are refilled in place: a hook's handle removes it from the very dictionary it was put into. Parameters
    and buffers are not looked into.
    """
    attributes = [dict(module.__dict__) for module in modules]
    containers = [(found, found.copy()) for found in _containers(attributes)]
    arrays = [(array, _copy(array)) for array in _arrays(modules)]
    try:
        yield
    finally:
        for container, content in containers:
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(content)
        for module, before in zip(modules, attributes, strict=True):
            module.__dict__.clear()
            module.__dict__.update(before)
        for array, values in arrays:
            # Through `data`, so that a graph that the array is part of can still run backward.
            (array.data if isinstance(array, torch.Tensor) else array)[...] = values


@contextmanager
def kept_random_numbers(devices: Iterable[torch.device]) -> Iterator[None]:
    """Put back the state of torch's random numbers, of numpy's and of Python's after the block."""
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def _containers(attributes: list[dict[str, Any]]) -> list[Any]:
    """The containers among the attributes, and those that lie in them, each once."""
    found: dict[int, Any] = {}
    pending: list[Any] = [value for own in attributes for value in own.values() if isinstance(value, _CONTAINERS)]
    while pending:
        container = pending.pop()
        if id(container) not in found:
            found[id(container)] = container
            values = container.values() if isinstance(container, dict) else container
            pending += [value for value in values if isinstance(value, _CONTAINERS)]
    return list(found.values())


def _arrays(modules: list[nn.Module]) -> list[Any]:
    """The tensors and arrays among the attributes that can be written into, each once.

    Without those that are made of a parameter before each forward, as weight norm makes ``weight`` of ``weight_v``.
    """
    found = {}
    for module in modules:
        for name, value in module.__dict__.items():
            made = any(parameter.startswith(f"{name}_") for parameter in module._parameters)
            if not made and _is_writable(value):
                found[id(value)] = value
    return list(found.values())


def _is_writable(value: object) -> bool:
    if isinstance(value, np.ndarray):
        return value.flags.writeable
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_nested:
        return False
    if value.is_meta or value.is_inference():
        return False
    return 0 not in value.stride()  # elements of an expanded tensor share memory, and torch refuses to write into it


def _copy(array: Any) -> Any:
    return array.copy() if isinstance(array, np.ndarray) else array.detach().clone()
