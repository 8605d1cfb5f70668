"""A firing threshold that depends on the label while training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lava_spikeloss.arguments import check_integer, check_number, check_tensor
from lava_spikeloss.losses.labels import IGNORED, class_indices
from lava_spikeloss.slayer_blocks import is_block, is_spiking, states
from lava_spikeloss.training.state import restore, snapshot

__all__ = ["ThresholdMargin"]


class ThresholdMargin:
    r"""Scale the threshold of an output block per sample and class while training.

    .. math:: \theta_{nc} = \theta \cdot \begin{cases}
        m_\text{true} & c \text{ is a class of sample } n \\ m_\text{false} & \text{otherwise} \end{cases}

    With 1.1 and 0.9 the true class has to reach a higher threshold than the neuron's own, and the false ones fire at a
    lower one. So the trained net has a margin at the threshold that it is used with. In evaluation (``block.training``
    is false) nothing changes.

    A SLAYER neuron has one number as threshold. So inside the ``with`` block the neurons run twice on the same current,
    once with each threshold, and each neuron and sample takes spikes and state of the run with its own threshold. Since
    neurons of a block do not depend on each other, the result is exact for every kind of reset: bit for bit that of a
    block built with that threshold. The surrogate gradient is centred on the scaled threshold and keeps its width.

    Args:
        block: a SLAYER block with spiking neurons, usually the last one.
        true: factor for the classes of the sample.
        false: factor for the others.
        ignore_index: the class index of samples that losses leave out: none of their classes is true.

    Raises:
        TypeError: if ``block`` is no SLAYER block, its neuron has no threshold of one number, or ``ignore_index`` is no
            integer.
        ValueError: if a factor is not positive, or so small that the threshold rounds to 0, at which a neuron at rest
            would spike.

    References:
        `set_threshold_margin` of SpikingJelly.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = torch.nn.Sequential(slayer.block.cuba.Dense(neuron, 4, 2))
        >>> margin = ThresholdMargin(net[-1])
        >>> with margin(torch.tensor([0])):
        ...     spikes = net(torch.ones(1, 4, 8))
    """

    def __init__(
        self, block: torch.nn.Module, true: float = 1.1, false: float = 0.9, *, ignore_index: int = IGNORED
    ) -> None:
        if not is_block(block):
            raise TypeError(
                f"Expected argument `block` to be a SLAYER block with a neuron but got {type(block).__name__}."
            )
        check_number("true", true, above=0)
        check_number("false", false, above=0)
        check_integer("ignore_index", ignore_index)
        self.block: Any = block
        if not (is_spiking(block) and isinstance(self.block.neuron.threshold, (int, float))):
            raise TypeError(
                "Expected argument `block` to have spiking neurons with one threshold but got "
                f"{type(block).__module__}.{type(block).__name__}."
            )
        self.true = true
        self.false = false
        self.ignore_index = ignore_index
        for name, factor in (("true", true), ("false", false)):
            if _scaled(self.block.neuron, self.block.neuron._threshold, factor) == 0:
                raise ValueError(
                    f"Expected argument `{name}` to leave a threshold above 0 but got {factor}: the neuron's, "
                    f"{self.block.neuron.threshold}, times that rounds to 0 in units of 1/{self.block.neuron.s_scale}."
                )

    @contextmanager
    def __call__(self, target: torch.Tensor) -> Iterator[None]:
        """Apply the margin to the forwards inside the ``with`` block.

        Args:
            target: class indices ``(N,)``, or ``(N, C)`` with true and false classes as non-zero and zero. With several
                output neurons per class it is ``(N, neurons)``.

        Raises:
            TypeError: if ``target`` is not a tensor.
            ValueError: if it has another shape, or (checked on the CPU) indices that are no output neurons.
            RuntimeError: inside another margin on the same block.
        """
        check_tensor("target", target)
        if target.dim() not in (1, 2):
            raise ValueError(
                f"Expected argument `target` to be class indices (N,) or (N, C) but got shape {tuple(target.shape)}."
            )
        neuron = self.block.neuron
        if "forward" in vars(neuron):
            raise RuntimeError(
                "Expected one ThresholdMargin on a block at a time but there is another around this one."
            )
        neuron.forward = _TwoRuns(self, target)  # an attribute of this neuron hides the method of its class
        try:
            yield
        finally:
            del neuron.forward


class _TwoRuns:
    """One forward of the neurons for the true classes, a second for the false ones, and the choice between them."""

    def __init__(self, margin: ThresholdMargin, target: torch.Tensor) -> None:
        self.margin = margin
        self.neuron = margin.block.neuron
        self.target = target
        self.nominal = self.neuron._threshold

    def __call__(self, current: Any) -> torch.Tensor:
        neuron, margin = self.neuron, self.margin
        if not margin.block.training:
            return self._forward(current)
        if "spike" in vars(neuron):
            raise RuntimeError("Expected one membrane potential to record, but inside a ThresholdMargin there are two.")
        before = snapshot(neuron)
        try:
            true_spikes, true_states = self._run(current, margin.true)
            restore(before)  # running statistics too: they must move once, not twice
            false_spikes, false_states = self._run(current, margin.false)
        finally:
            neuron._threshold = self.nominal
        mask = _true_mask(self.target, true_spikes, margin.ignore_index)
        for name, value in false_states.items():
            setattr(neuron, name, torch.where(mask[..., 0], true_states[name], value))
        return torch.where(mask, true_spikes, false_spikes)

    def _forward(self, current: Any) -> torch.Tensor:
        spikes: torch.Tensor = type(self.neuron).forward(self.neuron, current)
        return spikes

    def _run(self, current: Any, factor: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        neuron = self.neuron
        neuron._threshold = _scaled(neuron, self.nominal, factor)
        offset = neuron._threshold - self.nominal
        adaptive = hasattr(neuron, "threshold_state")
        if adaptive:  # an adaptive threshold moves with its base
            neuron.threshold_state = neuron.threshold_state + offset
        spikes = self._forward(current)
        if adaptive:
            neuron.threshold_state = neuron.threshold_state - offset
        return spikes, dict(states(neuron))


def _scaled(neuron: Any, threshold: float, factor: float) -> float:
    """A threshold times a factor, as a multiple of the states' unit: reset and spike then agree on who reaches it."""
    return float(round(threshold * factor * neuron.s_scale) / neuron.s_scale)


def _true_mask(target: torch.Tensor, spikes: torch.Tensor, ignore_index: int) -> torch.Tensor:
    """``(N, C, 1, ..., 1)``, true where the neuron stands for a class of the sample."""
    samples, neurons = spikes.shape[:2]
    if target.dim() == 1:
        target = class_indices(target, neurons, "target", ignore_index)
    target = target.to(spikes.device)
    mask = target.unsqueeze(1) == torch.arange(neurons, device=spikes.device) if target.dim() == 1 else target != 0
    if mask.shape != (samples, neurons):
        raise ValueError(
            f"Expected argument `target` to have shape ({samples},) or ({samples}, {neurons}), by sample and output "
            f"neuron, but got {tuple(target.shape)}."
        )
    return mask.reshape(samples, neurons, *[1] * (spikes.dim() - 2))
