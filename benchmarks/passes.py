"""Passes over memory of every loss, forward and backward, as a GPU makes them: counted on torch's meta device.

A pass is what cannot be avoided: the input read once, and the gradient written once. Each operation that is no view
reads all of its tensors and writes its results, and a scatter in place only its numbers; a compiler may join some.
Where large tensors do not fit into a cache, this is the time that a loss takes. Nothing is computed, so no GPU is
needed, and the figures are those of any machine.

    python -m benchmarks.passes --only 'ce_*'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lava_spikeloss as L
from benchmarks.losses import call
from benchmarks.peers import CASES, Case, Loss, Size, loss_of_enforcer
from benchmarks.report import Bound, Wish, bound_on, figure, main, table

__all__ = ["Traffic", "measure", "traffic"]

SIZE = Size(128, 100, 300)
_TINY = Size(4, 10, 12)
_NO_TRAFFIC = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
}


class Traffic(TorchDispatchMode):
    """Counts what operations read and write, and how much memory their results hold at one time, in bytes.

    Attributes:
        moved: read and written.
        kernels: operations that are no views.
        peak: the most that was held at one time, of what was made in here.
        waits: operations for which the host would wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moved = self.kernels = self.peak = self.waits = 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs)), _tensors(result)
        old = {_storage(tensor) for tensor in given}
        changed = function._schema.is_mutable
        new = [tensor for tensor in made if changed or _storage(tensor) not in old]
        if new and function not in _NO_TRAFFIC:
            self.kernels += 1
            self.moved += sum(map(_bytes, given)) + sum(map(_bytes, new)) - _untouched(function, given, kwargs)
        self.waits += function is torch.ops.aten._local_scalar_dense.default
        self._hold(new)
        return result

    def _hold(self, tensors: list[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._held[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._held.values()))


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> int:
    found: int = tensor.untyped_storage()._cdata
    return found


def _untouched(function: Any, given: list[torch.Tensor], kwargs: Any) -> int:
    """What is given and changed, but not read, or not as a whole: an output, or what some numbers are written into."""
    if kwargs and "out" in kwargs:
        return _bytes(kwargs["out"])
    if function is torch.ops.aten.scatter_.value:
        tensor, index = given
        return 2 * _bytes(tensor) - index.numel() * tensor.element_size()
    return 0


def _bytes(tensor: torch.Tensor) -> int:
    """Of the elements that lie in memory: an expanded dimension is one."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return torch.Size(sizes).numel() * tensor.element_size()


def traffic(run: Callable[[], object]) -> Traffic:
    """What a call moves."""
    with Traffic() as counted:
        run()
    return counted


def _plain(size: Size) -> Loss:
    return lambda x, labels: torch.nn.functional.cross_entropy(x, labels.unsqueeze(1).expand(-1, x.shape[-1]))


OPTIONS = [
    Case("F.cross_entropy of torch, per step", _plain),
    Case("ce_rate_loss, temperature", lambda s: L.CERateLoss(temperature=2.0)),
    Case("ce_rate_loss, smoothing", lambda s: L.CERateLoss(label_smoothing=0.1)),
    Case("ce_rate_loss, focal", lambda s: L.CERateLoss(focal_gamma=2.0)),
    Case("spike_max, window, probability", lambda s: L.SpikeMax(20)),
    Case("spike_max, window, scaled softmax", lambda s: L.SpikeMax(20, mode="softmax", scale=16.0)),
    Case("spike_moid, window, narrow", lambda s: L.SpikeMoid(20, alpha=0.05, theta=0.2)),
    Case("spike_time, not cut", lambda s: L.SpikeTime(length=None), lambda s: torch.zeros(s.n, s.c, s.t)),
    Case("sparsity_enforcer, min_rate", lambda s: loss_of_enforcer(L.SparsityEnforcer(min_rate=0.01)), lambda s: None),
]


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """One table, and its bounds."""
    cases = [case for case in CASES + OPTIONS if case.backward and wish.wants(case.name)]
    rows, counted = [], {}
    for case in cases:
        size = _TINY if wish.tiny else SIZE if SIZE in case.sizes else case.sizes[0]
        found = _count(case, case.loss(size), size)
        passes, peak = found.moved / (2 * _input(size)), found.peak / _input(size)
        counted[case.name] = (passes, peak, float(found.waits))
        rows.append([f"`{case.name}`", figure(passes), str(found.kernels), figure(peak)])
    if not rows:
        return [], []

    def of(names: Iterable[str], column: int) -> list[tuple[float, str]]:
        return [(counted[name][column], f"`{name}`") for name in names]

    cross_entropies = _named(counted, "ce_rate", "ce_count", "tet", "F.cross_entropy")
    bounds = [
        ("at most 5 passes for cross entropies with each option", cross_entropies, 0, 5.0),
        ("at most 10 passes for `SpikeTime`", _named(counted, "spike_time"), 0, 10.0),
        ("at most 10 passes for moving windows", _named(counted, ", window"), 0, 10.0),
        ("at most 3 inputs in memory", list(counted), 1, 3.05),
        ("the host never waits", list(counted), 2, 0.0),
    ]
    kept = [bound_on(text, of(names, column), limit, at_least=False) for text, names, column, limit in bounds if names]
    return [table(["loss", "passes", "kernels", "peak, in inputs"], rows)], kept


def _named(names: Iterable[str], *parts: str) -> list[str]:
    return [name for name in names if any(part in name for part in parts)]


def _input(size: Size) -> int:
    return 4 * size.n * size.c * size.t


def _count(case: Case, loss: Loss, size: Size) -> Traffic:
    target = case.target(size)
    x = case.input(size, "cpu").to("meta")
    return traffic(call(case, loss, x, target if target is None else target.to("meta")))


if __name__ == "__main__":
    main("passes", __doc__, measure)
