"""Local learning: a fixed random readout at every layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lava_spikeloss.arguments import check_count

__all__ = ["LocalReadouts"]


class LocalReadouts:
    r"""Fixed random readouts of hidden blocks, for losses that train each block from its own output (DECOLLE).

    .. math:: y^l[t] = G^l\, s^l[t], \qquad G^l_{ij} \sim U\left(-\tfrac{1}{\sqrt{M_l}}, \tfrac{1}{\sqrt{M_l}}\right)

    Where :math:`s^l` are the :math:`M_l` output spikes of block :math:`l`, flattened. The matrices are never trained.
    Inside :meth:`attached` the input of each block is cut from the graph, so a loss on :math:`y^l` has gradients in
    block :math:`l` only. The matrices depend on ``seed`` and the sizes alone: they need not be saved.

    Args:
        blocks: the blocks to read out, any modules with output ``(N, C, ..., T)``.
        num_classes: width of each readout.
        seed: of the random matrices.

    Raises:
        TypeError: if a block is not a module, or ``num_classes`` not an integer.
        ValueError: if there is no block, or fewer than one class.

    References:
        Kaiser, Mostafa and Neftci, "Synaptic plasticity dynamics for deep continuous local learning (DECOLLE)",
        Frontiers in Neuroscience 2020.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Conv1d(4, 8, 1), torch.nn.ReLU(), torch.nn.Conv1d(8, 2, 1))
        >>> readouts = LocalReadouts([net[0], net[2]], num_classes=2)
        >>> with readouts.attached() as outputs:
        ...     y = net(torch.rand(1, 4, 8))
        >>> [output.shape for output in outputs]
        [torch.Size([1, 2, 8]), torch.Size([1, 2, 8])]
        >>> loss = sum(output.mean(dim=-1).pow(2).sum() for output in outputs)
    """

    def __init__(self, blocks: Iterable[torch.nn.Module], num_classes: int, seed: int = 0) -> None:
        self.blocks = list(blocks)
        check_count("num_classes", num_classes)
        if not self.blocks:
            raise ValueError("Expected argument `blocks` to hold at least one module but got none.")
        for block in self.blocks:
            if not isinstance(block, torch.nn.Module):
                raise TypeError(f"Expected argument `blocks` to hold modules but got {type(block).__name__}.")
        self.num_classes = num_classes
        self.seed = seed
        self._matrices: dict[torch.nn.Module, torch.Tensor] = {}

    @contextmanager
    def attached(self) -> Iterator[list[torch.Tensor]]:
        """Read out the forwards inside the ``with`` block.

        Returns:
            A list that each forward appends to: one readout ``(N, num_classes, T)`` per block, in order of execution.
        """
        outputs: list[torch.Tensor] = []

        def cut(block: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(value.detach() if isinstance(value, torch.Tensor) else value for value in args)

        def read(block: torch.nn.Module, args: tuple[Any, ...], spikes: torch.Tensor) -> None:
            flat = spikes.flatten(1, -2)
            outputs.append(torch.einsum("km,nmt->nkt", self._matrix(block, flat), flat))

        handles = [block.register_forward_pre_hook(cut) for block in self.blocks]
        handles += [block.register_forward_hook(read) for block in self.blocks]
        try:
            yield outputs
        finally:
            for handle in handles:
                handle.remove()

    def _matrix(self, block: torch.nn.Module, flat: torch.Tensor) -> torch.Tensor:
        size = flat.shape[1]
        matrix = self._matrices.get(block)
        if matrix is None or matrix.shape[1] != size:
            generator = torch.Generator().manual_seed(self.seed + self.blocks.index(block))
            matrix = (2 * torch.rand(self.num_classes, size, generator=generator) - 1) / math.sqrt(size)
        self._matrices[block] = matrix.to(flat)  # kept on the device, since each copy to it makes the host wait
        return self._matrices[block]
