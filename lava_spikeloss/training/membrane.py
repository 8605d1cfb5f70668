"""Membrane potentials of SLAYER blocks, for the losses that work on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lava_spikeloss.slayer_blocks import is_neuron, is_recurrent, is_spiking

__all__ = ["MembraneRecord", "record_membrane"]


class MembraneRecord:
    """The membrane potentials of one block, filled in by the forwards inside :func:`record_membrane`."""

    def __init__(self) -> None:
        self.pieces: list[torch.Tensor] = []

    @property
    def potential(self) -> torch.Tensor:
        """Potentials ``(N, C, ..., T)`` of all forwards so far, laid end to end along time."""
        if not self.pieces:
            raise RuntimeError("Expected a forward inside `record_membrane` before `potential` is read.")
        return torch.cat(self.pieces, dim=-1)


@contextmanager
def record_membrane(block: torch.nn.Module) -> Iterator[MembraneRecord]:
    r"""Record what the neurons of ``block`` compare with their threshold.

    That is the voltage for CUBA and ALIF, the imaginary state for RF_IZ and ADRF_IZ, and the real state for RF and
    ADRF. At a step with a spike it is the value before the reset. It is part of the graph of the forward, so membrane
    losses have gradients in the weights; the block computes and learns as it would without being recorded. The spikes
    of a block with ``delay_shift`` come out one step after the potential has crossed the threshold.

    SLAYER evaluates a Recurrent block outside the graph; the potentials of such a block have no gradient.
    The output of an Affine block is its membrane potential: there is nothing to record.

    Args:
        block: a SLAYER block with spiking neurons.

    Returns:
        A record whose ``potential`` is ``(N, C, ..., T)``.

    Raises:
        TypeError: if ``block`` has no spiking neurons with a membrane.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 4, 2))
        >>> with record_membrane(net[-1]) as record:
        ...     spikes = net(torch.ones(1, 4, 8))
        >>> record.potential.shape
        torch.Size([1, 2, 8])
    """
    neuron: Any = getattr(block, "neuron", None)
    if not (is_spiking(block) and is_neuron(neuron) and hasattr(neuron, "spike")):
        raise TypeError(
            "Expected argument `block` to be a SLAYER block with spiking neurons but got "
            f"{type(block).__module__}.{type(block).__name__}."
        )
    record = MembraneRecord()
    index = 1 if type(neuron).__module__.endswith("_iz") else 0
    detached = is_recurrent(block)

    def spike(*potentials: torch.Tensor) -> torch.Tensor:
        potential = potentials[index]
        record.pieces.append(potential.detach() if detached else potential)
        spikes: torch.Tensor = type(neuron).spike(neuron, *potentials)
        return spikes

    neuron.spike = spike  # an attribute of this neuron hides the method of its class
    try:
        yield record
    finally:
        del neuron.spike
