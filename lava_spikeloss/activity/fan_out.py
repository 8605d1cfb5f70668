"""How many synapses each neuron drives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lava_spikeloss.activity.hooks import untraced
from lava_spikeloss.slayer_blocks import effective_weight, is_kwta, is_recurrent, kwta_feedback

__all__ = ["fan_out", "feedback_fan_out"]


class _WithMask:
    """Stands in for a synapse in its own ``forward``: its weight is ``mask``, without bias and quantisation."""

    def __init__(self, synapse: torch.nn.Module, mask: torch.Tensor) -> None:
        self.synapse = synapse
        self.weight = mask
        self.bias = None
        self._pre_hook_fx = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.synapse, name)


@untraced  # runs autograd inside a hook, which cannot be traced
def fan_out(synapse: torch.nn.Module, shape: Sequence[int]) -> torch.Tensor:
    r"""Count the synapses with a nonzero weight that leave each input neuron.

    .. math::
        f_i = \sum_j \left|\{k : w_k \ne 0,\ k \text{ leads from } i \text{ to } j\}\right|

    The count is exact: at the border of a convolution, with stride, padding, dilation and groups, and for weights that
    are pruned or that the synapse's quantisation (``pre_hook_fx``) rounds to zero. It is a gradient: that of the summed
    output of the synapse's own ``forward``, with ones in place of its nonzero weights, with respect to its input.

    Args:
        synapse: a SLAYER synapse (``Dense``, ``Conv``, ``Pool``, ``ConvTranspose``, ``Unpool``; of a complex synapse
            one of its parts ``real`` and ``imag``), or a convolution of ``torch.nn`` over inputs with time last.
        shape: shape of the input neurons, ``(C, ...)``, without batch and time.

    Returns:
        The counts, int64.

    Shape:
        - Counts: ``shape``.

    Raises:
        TypeError: ``synapse`` is not a module with a weight.

    Source:
        Sorbaro et al., Frontiers in Neuroscience 14 (2020), for the use of the exact fan-out at borders.

    Examples:
        >>> synapse = torch.nn.Conv3d(1, 2, (3, 3, 1), padding=(1, 1, 0))
        >>> fan_out(synapse, (1, 4, 4))[0]
        tensor([[ 8, 12, 12,  8],
                [12, 18, 18, 12],
                [12, 18, 18, 12],
                [ 8, 12, 12,  8]])
    """
    if not isinstance(getattr(synapse, "weight", None), torch.Tensor):
        raise TypeError(f"Expected argument `synapse` to be a module with a weight but got {type(synapse).__name__}.")
    with torch.no_grad():
        # Sums of ones are exact in float32 up to 16 million.
        mask = (effective_weight(synapse, synapse.weight) != 0).float()
    with torch.enable_grad():
        ones = torch.ones(1, *shape, 1, device=mask.device, requires_grad=True)
        reached = type(synapse).forward(_WithMask(synapse, mask), ones)
        (counts,) = torch.autograd.grad(reached.sum(), ones)
    return counts[0, ..., 0].round().long()


@untraced
def feedback_fan_out(block: Any, shape: Sequence[int]) -> torch.Tensor | None:
    """How many neurons of its own block each neuron drives: of a Recurrent or KWTA block; None for any other module.

    The block does not call these synapses, but reads or makes their weights.
    """
    if is_recurrent(block):
        return fan_out(block.recurrent_synapse, shape)
    if is_kwta(block):
        return (kwta_feedback(block) != 0).sum(0).reshape(torch.Size(shape))
    return None
