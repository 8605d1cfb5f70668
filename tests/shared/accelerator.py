"""An accelerator to test against where there is none: it tells on tensors of two devices, and on a host that waits.

Tensors of torch's "meta" device play those of the accelerator: they have a shape, a dtype and a device, but no values.
What the host reads of them is made up: a number is 1, and of the places of nonzero elements there are three.

On CUDA the host waits for the device when it reads a value, when the shape of a result depends on values, and when a
tensor is copied between ordinary memory and the device. A number in a call, such as ``torch.full``'s, is no such copy.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("meta")
FOUND = 3
SHAPE_FROM_VALUES = {
    "bincount", "masked_select", "nonzero", "repeat_interleave", "unique_consecutive", "unique_dim", "_unique2",
}  # fmt: skip


class Accelerator(TorchDispatchMode):
    """Inside, :attr:`waits` counts what makes the host wait, and mixing devices is a RuntimeError."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.constructors = _Constructors(self.waits)

    def __enter__(self) -> Accelerator:
        self.constructors.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.constructors.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in given if tensor.device == DEVICE]
        if name in ("_to_copy", "to", "copy_"):
            return self._copy(name, func, args, kwargs)
        if not there:
            return func(*args, **kwargs)
        _check_devices(func, args, given)
        if name in ("_local_scalar_dense", "item", "is_nonzero"):
            self.waits["value"] += 1
            return torch.ones((), dtype=given[0].dtype).item()
        if name == "equal":
            self.waits["value"] += 1
            return True
        if name in SHAPE_FROM_VALUES or _has_mask(name, args):
            self.waits["shape"] += 1
            return _made_up(name, func, args, kwargs)
        return func(*args, **kwargs)

    def _copy(self, name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        source, target = (args[1], args[0].device) if name == "copy_" else (args[0], _target(args, kwargs))
        self.waits.update(["copy"] if source.device != target else [])
        if target == DEVICE or source.device != DEVICE:
            return func(*args, **kwargs)
        if name == "copy_":
            return args[0].fill_(1)
        return torch.ones(source.shape, dtype=kwargs.get("dtype") or source.dtype)


class _Constructors(TorchFunctionMode):
    """Counts tensors of the accelerator made from numbers of the host, which torch copies where no dispatcher sees."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and result.device == DEVICE:
            data = args[1] if func is torch.Tensor.new_tensor else args[0]
            self.waits.update([] if isinstance(data, torch.Tensor) else ["copy"])
        return result


def _check_devices(func: Any, args: tuple[Any, ...], given: list[torch.Tensor]) -> None:
    """A tensor of the host may be a single number in an operation by elements, and nothing else."""
    host = [tensor for tensor in given if tensor.device != DEVICE]
    writes_to_host = func._schema.is_mutable and args[0].device != DEVICE
    by_elements = torch.Tag.pointwise in func.tags
    if host and (writes_to_host or not by_elements or any(tensor.dim() for tensor in host)):
        shapes = [tuple(tensor.shape) for tensor in host]
        raise RuntimeError(f"{func} got tensors of the host, {shapes}, together with tensors of the accelerator")


def _target(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device:
    """The device that a tensor is to be copied to; in inference mode there are calls with the device in any place."""
    devices = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.device)]
    return devices[0] if devices else args[0].device


def _has_mask(name: str, args: tuple[Any, ...]) -> bool:
    indexes = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indexes)


def _made_up(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if name == "nonzero":
        return torch.empty((min(FOUND, args[0].numel()), args[0].dim()), dtype=torch.int64, device=DEVICE)
    # A made-up answer to a call that nobody thought of would make a test mean nothing.
    raise AssertionError(f"{func} would make the host wait, and what it answers is not made up here")
