"""Batch norms folded into the weights before them, and SLAYER's norms folded for export."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import parametrize

from lava_spikeloss.arguments import check_number
from lava_spikeloss.peers import also_called
from lava_spikeloss.slayer_blocks import (
    effective_weight,
    is_leaky,
    is_neuron,
    is_norm,
    is_spiking,
    named,
    passes_over_norm,
    weight_magnitude,
)

__all__ = [
    "fold_norms",
    "fuse_conv_bn",
    "fuse_convbn2d",
    "fused_conv2d_bias_of_convbn2d",
    "fused_conv2d_weight_of_convbn2d",
    "fused_conv_bias",
    "fused_conv_weight",
    "scale_fused_conv2d_bias_of_convbn2d",
    "scale_fused_conv2d_weight_of_convbn2d",
    "scale_fused_conv_bias",
    "scale_fused_conv_weight",
]


@also_called(conv2d="conv", bn2d="bn")
def fused_conv_weight(conv: torch.nn.Module, bn: torch.nn.Module) -> torch.Tensor:
    r"""Weight of the one convolution that equals ``conv`` followed by ``bn`` in evaluation.

    .. math:: W' = W \cdot \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} \text{ per output channel}

    For a SLAYER synapse :math:`W` is the weight as the forward uses it, quantised and weight-normed.

    Args:
        conv: a convolution of any dimension, transposed or not, with any groups, or a SLAYER synapse.
        bn: a batch norm with running statistics over its output channels, ``affine`` or not.

    Returns:
        The weight, shaped as ``conv.weight``.

    Raises:
        TypeError: for modules of another kind.
        ValueError: if the channels differ or ``bn`` keeps no running statistics.

    Example:
        >>> fused_conv_weight(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).shape
        torch.Size([4, 3, 3, 3])
    """
    conv, bn = _checked(conv, bn)
    return effective_weight(conv, _stored_weight(conv)) * _per_output(conv, _gain(bn))


@also_called(conv2d="conv", bn2d="bn")
def fused_conv_bias(conv: torch.nn.Module, bn: torch.nn.Module) -> torch.Tensor:
    r"""Bias of the one convolution that equals ``conv`` followed by ``bn`` in evaluation.

    .. math:: b' = (b - \mu) \cdot \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} + \beta

    Args:
        conv: as in :func:`fused_conv_weight`, with or without bias.
        bn: as in :func:`fused_conv_weight`.

    Returns:
        The bias, one number per output channel.

    Raises:
        TypeError: for modules of another kind.
        ValueError: if the channels differ or ``bn`` keeps no running statistics.

    Example:
        >>> fused_conv_bias(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4, affine=False)).shape
        torch.Size([4])
    """
    conv, bn = _checked(conv, bn)
    bias = _zero_if_none(conv.bias, bn)
    return (bias - _running(bn)[0]) * _gain(bn) + _zero_if_none(bn.bias, bn)


@also_called(conv2d="conv", bn2d="bn")
def fuse_conv_bn(conv: torch.nn.Module, bn: torch.nn.Module) -> torch.nn.Module:
    r"""One convolution that equals ``conv`` followed by ``bn`` in evaluation; both stay as they are.

    Weight and bias are those of :func:`fused_conv_weight` and :func:`fused_conv_bias`. A weight norm on ``conv`` is
    resolved in the copy. A SLAYER synapse keeps its quantisation, so each fused weight is rounded to the synapse's grid
    once more, by at most half a step; its bias is not rounded.

    Args:
        conv: as in :func:`fused_conv_weight`.
        bn: as in :func:`fused_conv_weight`.

    Returns:
        A module of the type of ``conv``, with a bias.

    Raises:
        TypeError: for modules of another kind.
        ValueError: if the channels differ or ``bn`` keeps no running statistics.

    Example:
        >>> conv, bn = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4).eval()
        >>> x = torch.rand(2, 3, 8, 8)
        >>> torch.allclose(fuse_conv_bn(conv, bn)(x), bn(conv(x)), atol=1e-6)
        True
    """
    with torch.no_grad():
        weight, bias = fused_conv_weight(conv, bn), fused_conv_bias(conv, bn)
    fused: torch.nn.Module = _without_weight_norm(conv)
    fused.weight = torch.nn.Parameter(weight, requires_grad=_stored_weight(conv).requires_grad)
    fused.bias = torch.nn.Parameter(bias)
    return fused


@also_called(conv2d="conv", bn2d="bn")
def scale_fused_conv_weight(conv: torch.nn.Module, bn: torch.nn.Module, k: float = 1.0, b: float = 0.0) -> None:
    r"""Change ``conv`` in place so that the fused weight :math:`W'` of the pair becomes :math:`k W' + b`.

    Args:
        conv: a convolution without weight norm or quantisation.
        bn: the batch norm behind it.
        k: factor.
        b: added to every fused weight.

    Raises:
        TypeError: for modules of another kind, for a ``conv`` under weight norm, whose weight is computed anew at every
            forward, and for one that quantises its weight.
        ValueError: if ``b`` is not zero and a channel's gain in ``bn`` is.

    Example:
        >>> conv, bn = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
        >>> before = fused_conv_weight(conv, bn)
        >>> scale_fused_conv_weight(conv, bn, k=2.0, b=0.5)
        >>> torch.allclose(fused_conv_weight(conv, bn), 2 * before + 0.5)
        True
    """
    conv, bn = _checked(conv, bn)
    _check_scale(k, b)
    if hasattr(conv, "weight_g") or parametrize.is_parametrized(conv, "weight"):
        raise TypeError("Expected argument `conv` to hold its weight itself but it is under a weight norm.")
    if getattr(conv, "_pre_hook_fx", None) is not None:
        raise TypeError("Expected argument `conv` to use its weight as it is but it quantises it: no scale is exact.")
    with torch.no_grad():
        gain = _gain(bn)
        if b != 0 and bool((gain == 0).any()):
            raise ValueError("Expected argument `bn` to have no channel of gain zero where `b` is not zero.")
        weight = k * conv.weight
        conv.weight.copy_(weight if b == 0 else weight + b / _per_output(conv, gain))


@also_called(conv2d="conv", bn2d="bn")
def scale_fused_conv_bias(conv: torch.nn.Module, bn: torch.nn.Module, k: float = 1.0, b: float = 0.0) -> None:
    r"""Change ``conv`` and ``bn`` in place so that the fused bias :math:`b'` of the pair becomes :math:`k b' + b`.

    Args:
        conv: a convolution, with or without bias.
        bn: the batch norm behind it.
        k: factor.
        b: added to every fused bias.

    Raises:
        TypeError: for modules of another kind.

    Example:
        >>> conv, bn = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
        >>> before = fused_conv_bias(conv, bn)
        >>> scale_fused_conv_bias(conv, bn, k=2.0, b=0.5)
        >>> torch.allclose(fused_conv_bias(conv, bn), 2 * before + 0.5)
        True
    """
    conv, bn = _checked(conv, bn)
    _check_scale(k, b)
    with torch.no_grad():
        mean, variance = _running(bn)
        for part in (conv.bias, mean, bn.bias):
            if part is not None:
                part.mul_(k)
        if bn.bias is not None:
            bn.bias.add_(b)
        else:
            mean.sub_(b * (variance + bn.eps).sqrt())


fuse_convbn2d = fuse_conv_bn
"""SpikingJelly's name of :func:`fuse_conv_bn`."""
fused_conv2d_weight_of_convbn2d = fused_conv_weight
"""SpikingJelly's name of :func:`fused_conv_weight`."""
fused_conv2d_bias_of_convbn2d = fused_conv_bias
"""SpikingJelly's name of :func:`fused_conv_bias`."""
scale_fused_conv2d_weight_of_convbn2d = scale_fused_conv_weight
"""SpikingJelly's name of :func:`scale_fused_conv_weight`."""
scale_fused_conv2d_bias_of_convbn2d = scale_fused_conv_bias
"""SpikingJelly's name of :func:`scale_fused_conv_bias`."""


def _check_scale(k: float, b: float) -> None:
    check_number("k", k)
    check_number("b", b)


def _checked(conv: Any, bn: Any) -> tuple[Any, Any]:
    if not isinstance(conv, _ConvNd):
        raise TypeError(
            f"Expected argument `conv` to be a convolution or a SLAYER synapse but got {type(conv).__name__}."
        )
    if not isinstance(bn, _BatchNorm):
        raise TypeError(f"Expected argument `bn` to be a batch norm but got {type(bn).__name__}.")
    if bn.num_features != conv.out_channels:
        raise ValueError(
            f"Expected argument `bn` to normalise the {conv.out_channels} output channels of `conv` "
            f"but it has {bn.num_features} features."
        )
    _running(bn)
    return conv, bn


def _running(bn: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError(
            "Expected argument `bn` to keep running statistics but it was built with track_running_stats=False."
        )
    return bn.running_mean, bn.running_var


def _gain(bn: Any) -> torch.Tensor:
    gain: torch.Tensor = (_running(bn)[1] + bn.eps).rsqrt()
    if bn.weight is not None:
        gain = gain * bn.weight
    return gain


def _zero_if_none(bias: torch.Tensor | None, bn: Any) -> torch.Tensor:
    return torch.zeros_like(_running(bn)[0]) if bias is None else bias


def _per_output(conv: Any, values: torch.Tensor) -> torch.Tensor:
    """``values``, one per output channel, shaped to multiply the weight."""
    ones = [1] * (conv.weight.dim() - 2)
    if not isinstance(conv, _ConvTransposeNd):
        return values.reshape(-1, 1, *ones)
    # A transposed weight is (in, out / groups, ...), its inputs in the order of the groups.
    per_group = values.reshape(int(conv.groups), 1, -1).expand(-1, conv.in_channels // conv.groups, -1)
    return per_group.reshape(conv.in_channels, -1, *ones)


def _stored_weight(conv: Any) -> torch.Tensor:
    """The weight before quantisation; under SLAYER's weight norm it is computed only in the forward."""
    if not hasattr(conv, "weight_g"):
        weight: torch.Tensor = conv.weight
        return weight
    normalised: torch.Tensor = conv.weight_g * conv.weight_v / weight_magnitude(conv, conv.weight_v)
    return normalised


def _without_weight_norm(module: Any) -> Any:
    twin = _copied(module)
    if hasattr(twin, "weight_g"):
        torch.nn.utils.remove_weight_norm(twin)
        twin.weight_norm_enabled = False
    if parametrize.is_parametrized(twin):
        # `remove_parametrizations` takes the weight off the class, which the original shares with its copy.
        twin.__class__ = parametrize.type_before_parametrizations(twin)
        del twin.parametrizations
    return twin


def _copied(module: torch.nn.Module) -> Any:
    """A deep copy. What weight norm made is cut from its graph first, since torch copies no tensor with a graph."""
    normed: list[Any] = [part for part in module.modules() if hasattr(part, "weight_g") and "weight" in vars(part)]
    for part in normed:
        part.weight = part.weight.detach()
    return copy.deepcopy(module)


def fold_norms(net: torch.nn.Module, exact: bool = True) -> torch.nn.Module:
    r"""A copy of ``net`` whose SLAYER norms do no more than a chip can: add a bias.

    A ``WgtScaleBatchNorm`` divides the current by a power of two. The division is moved to the other side of the
    comparison: threshold and membrane are multiplied by that power, and the weights keep all their bits. So no weight
    exponent is left, which lava-dl would write into the file and netx would not read.

    .. math::
        \frac{c - \mu}{\sigma} \text{ against } \theta
        \quad\Longleftrightarrow\quad c - \mu \text{ against } \sigma\theta

    The norm becomes a ``MeanOnlyBatchNorm`` with a fixed mean, whose bias SLAYER exports. One that was a
    ``MeanOnlyBatchNorm`` already has nothing to fold; in the copy its mean is fixed too. The norm of a sigma-delta
    Input or Output, which SLAYER never calls, is left out.

    States are integers, so the two sides are equal only if nothing is rounded: neither the voltage as it decays (true
    of a voltage decay of 0 or 1), nor the current as it is divided (true if :math:`\sigma < 1`, or for a current decay
    of 0 or 1). Otherwise a few spikes differ, since the membrane is rounded at another scale, and the net is refused
    unless ``exact`` is false. Train such a copy on, or test it before it is exported: the exported file spikes as the
    copy does. The width of its surrogate gradient is multiplied along with the threshold.

    Args:
        net: a net in which every norm that is called has seen training data.
        exact: refuse a net whose copy would not have the same spikes.

    Returns:
        The copy.

    Raises:
        TypeError: for a ``WgtScaleBatchNorm`` that divides, unless its neurons are spiking CUBA neurons.
        ValueError: if a norm has seen no data, a threshold does not stay a multiple of the chip's unit, or the copy
            would not be exact.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {
        ...     "threshold": 1.0, "current_decay": 0.5, "voltage_decay": 1.0,
        ...     "norm": slayer.neuron.norm.WgtScaleBatchNorm,
        ... }
        >>> net = slayer.block.cuba.Dense(neuron, 4, 2)
        >>> spikes = net(torch.ones(2, 4, 8))
        >>> type(fold_norms(net).neuron.norm).__name__
        'MeanOnlyBatchNorm'
    """
    folded: torch.nn.Module = _copied(net)
    modules: list[Any] = list(folded.modules())
    spiking = {block.neuron for block in modules if is_spiking(block)}
    for block in modules:
        if passes_over_norm(block) and block.neuron is not None:
            block.neuron.norm = None
    for neuron, name in _norms(folded):
        scale = _scale(folded, getattr(neuron, name))
        if scale != 1:
            _check_foldable(folded, neuron, neuron in spiking)
            if exact:
                _check_rounding(folded, neuron, scale)
            _scale_threshold(folded, neuron, scale)
        setattr(neuron, name, _mean_only(getattr(neuron, name)))
    return folded


def _norms(net: torch.nn.Module) -> Iterator[tuple[Any, str]]:
    """SLAYER's norms, by the neuron and the name there."""
    for module in net.modules():
        for name in ("norm", "real_norm", "imag_norm"):
            if is_neuron(module) and is_norm(getattr(module, name, None)):
                yield module, name


def _scale(net: torch.nn.Module, norm: Any) -> float:
    """What the norm divides by."""
    if norm.num_features is None:
        raise ValueError(f"Expected {named(net, norm)} to have seen data but it has not: train or run the net first.")
    return float(norm.std(norm.running_var)) if hasattr(norm, "running_var") else 1.0


def _check_foldable(net: torch.nn.Module, neuron: Any, spiking: bool) -> None:
    """Only a spiking CUBA neuron compares what its norm puts out with one threshold, and with nothing else."""
    if not (spiking and is_leaky(neuron)) or hasattr(neuron, "threshold_state"):
        raise TypeError(
            f"Expected a WgtScaleBatchNorm in spiking CUBA neurons only but got {named(net, neuron)} of "
            f"{type(neuron).__module__}: use a MeanOnlyBatchNorm there."
        )


def _check_rounding(net: torch.nn.Module, neuron: Any, scale: float) -> None:
    whole_voltage = _decays_whole(neuron, neuron.voltage_decay)
    # An undecayed current is made of weights, on a grid coarser than any division of the norm.
    whole_current = scale < 1 or _decays_whole(neuron, neuron.current_decay)
    if not (whole_voltage and whole_current):
        raise ValueError(
            f"Expected the norm of {named(net, neuron)} to be folded without rounding but it divides by {scale:g}, and "
            "membranes of another scale are rounded differently: a few spikes would differ. Use a MeanOnlyBatchNorm, "
            "or `fold_norms(net, exact=False)` and test the copy."
        )


def _decays_whole(neuron: Any, decay: torch.Tensor) -> bool:
    """Whether a state that decays so is never rounded: all of it decays in every step, or nothing."""
    steps = decay.detach().round().clamp(0, neuron.p_scale)
    return bool(((steps == 0) | (steps == neuron.p_scale)).all())


def _scale_threshold(net: torch.nn.Module, neuron: Any, scale: float) -> None:
    threshold = neuron._threshold * scale
    if (threshold * neuron.w_scale) % 1:
        raise ValueError(
            f"Expected the threshold of {named(net, neuron)} to stay a multiple of 1/{neuron.w_scale} when its norm is "
            f"folded but it becomes {neuron._threshold} * {scale} = {threshold}: choose one with more factors of two."
        )
    neuron._threshold = threshold
    neuron.tau_rho *= scale


def _mean_only(norm: Any) -> Any:
    """A norm that subtracts what this one does, always the same, and does not divide."""
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    mean_only = MeanOnlyBatchNorm(norm.num_features, norm.momentum, norm.pre_hook_fx)
    mean_only.running_mean = norm.running_mean.clone()
    mean_only.update = False
    return mean_only.train(norm.training)
