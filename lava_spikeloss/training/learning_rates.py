"""Learning rates in the units of each parameter."""

from __future__ import annotations

from typing import Any

import torch

from lava_spikeloss.arguments import check_number
from lava_spikeloss.slayer_blocks import is_neuron

__all__ = ["parameter_groups"]

DECAYS = ("current_decay", "voltage_decay", "sin_decay", "cos_decay", "threshold_decay", "refractory_decay")
WRONG_SIGN = ("current_decay", "voltage_decay")


def parameter_groups(net: torch.nn.Module, lr: float, decay_lr: float | None = None) -> list[dict[str, Any]]:
    r"""Parameter groups for an optimizer that trains SLAYER's decays as well as its weights.

    SLAYER stores a decay times 4096 (``neuron.p_scale``) and rounds it to an integer in the forward, so a step of an
    ordinary learning rate rounds to nothing. The groups of decays get the learning rate times that scale: a rate of
    0.01 means for a decay, which lies between 0 and 1, what it means for a weight. They have no weight decay.

    SLAYER's gradient for current and voltage decays also has the wrong sign (it is the gradient with respect to what is
    kept, ``1 - decay``, on the CPU and in the CUDA kernels alike), so their group descends with ``maximize=True``. That
    is an option of the optimizers in ``torch.optim``. LBFGS and Muon ignore it without a word, and so do NAdam and
    RAdam before torch 2.4: do not train these decays with those. The resonators' decays have the right sign. The
    threshold and refractory decays of adaptive neurons get no gradient from SLAYER, and do not change.

    Args:
        net: the net to train.
        lr: learning rate of everything else.
        decay_lr: learning rate of the decays, in units of the decay. Default: ``lr``.

    Returns:
        Groups for ``torch.optim.Adam(groups)`` and its like; empty ones are left out.

    Raises:
        TypeError: if a learning rate is not a number.
        ValueError: if a learning rate is negative.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5, "requires_grad": True}
        >>> groups = parameter_groups(slayer.block.cuba.Dense(neuron, 4, 4), lr=0.01)
        >>> [(len(group["params"]), group["lr"]) for group in groups]
        [(1, 0.01), (2, 40.96)]
    """
    check_number("lr", lr, minimum=0)
    rate = lr if decay_lr is None else decay_lr
    check_number("decay_lr", rate, minimum=0)
    scaled: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    taken: set[torch.nn.Parameter] = set()
    for neuron in _neurons(net):
        for name in DECAYS:
            decay = getattr(neuron, name, None)
            if decay is not None and decay.requires_grad and decay not in taken:
                scaled.setdefault((neuron.p_scale, name in WRONG_SIGN), []).append(decay)
                taken.add(decay)
    rest = [parameter for parameter in net.parameters() if parameter.requires_grad and parameter not in taken]
    groups: list[dict[str, Any]] = [{"params": rest, "lr": lr}]
    for (scale, maximize), parameters in scaled.items():
        groups.append({"params": parameters, "lr": rate * scale, "weight_decay": 0.0, "maximize": maximize})
    return [group for group in groups if group["params"]]


def _neurons(net: torch.nn.Module) -> list[Any]:
    return [module for module in net.modules() if is_neuron(module)]
