"""Initial weights: drawn by fan, and scaled for a firing rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from lava_spikeloss.arguments import check_choice, check_number, check_spikes
from lava_spikeloss.slayer_blocks import is_neuron, is_spiking, named, weight_magnitude
from lava_spikeloss.training.state import fresh_state, restore, snapshot

__all__ = ["firing_rate_", "kaiming_normal_", "kaiming_normal_conv_linear_weight"]

LARGEST_GAIN = 2.0**12  # a block that is still silent with weights this many times as large never fires
BISECTIONS = 24


def kaiming_normal_(
    net: torch.nn.Module,
    a: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    nonlinearity: str = "relu",
) -> None:
    r"""Draw the weights of every trainable convolution, linear layer and SLAYER synapse in ``net`` anew.

    .. math:: W \sim N\left(0, \frac{g^2}{\text{fan}}\right), \qquad g = \text{gain}(\text{nonlinearity}, a)

    The fan is that of the operation: for a transposed convolution the input channels of a group times the kernel, where
    :func:`torch.nn.init.kaiming_normal_` counts the output channels. Under weight norm, direction and magnitude are set
    so that the weight in use is the one drawn; weights that were pruned stay zero. Recurrent weights and both parts of
    complex synapses are drawn too; the fixed weights of Pool and Unpool, and biases, stay.

    Args:
        net: any module.
        a: negative slope, for ``leaky_relu``.
        mode: which fan.
        nonlinearity: a name known to :func:`torch.nn.init.calculate_gain`.

    Raises:
        ValueError: for another mode or an unknown nonlinearity.
        TypeError: for a weight that a hook or parametrization computes in another way; no weight is drawn then.

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015.

    Example:
        >>> net = torch.nn.Linear(1000, 200)
        >>> kaiming_normal_(net)
        >>> abs(net.weight.std().item() - (2 / 1000) ** 0.5) < 1e-3
        True
    """
    check_choice("mode", mode, ("fan_in", "fan_out"))
    gain: float = torch.nn.init.calculate_gain(nonlinearity, a)
    for layer in _layers(net):
        drawn = torch.randn_like(_weight_like(layer)) * gain / math.sqrt(_fan(layer, mode))
        _set_weight(layer, drawn)


def kaiming_normal_conv_linear_weight(net: torch.nn.Module) -> None:
    r"""Draw weights anew as SpikingJelly does: :func:`kaiming_normal_` for a leaky ReLU of slope :math:`\sqrt 5`.

    .. math:: W \sim N\left(0, \frac{1}{3\, \text{fan}_\text{in}}\right)

    The spread is that of torch's own uniform initial weights, and :math:`\sqrt 6` times as small as the one that
    :func:`kaiming_normal_` gives by default.

    Args:
        net: any module. What is drawn, and what stays, is told by :func:`kaiming_normal_`.

    Raises:
        TypeError: for a weight that a hook or parametrization computes in another way; no weight is drawn then.

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015.

    Example:
        >>> net = torch.nn.Linear(1000, 200)
        >>> kaiming_normal_conv_linear_weight(net)
        >>> abs(net.weight.std().item() - (1 / 3000) ** 0.5) < 1e-3
        True
    """
    kaiming_normal_(net, a=math.sqrt(5), nonlinearity="leaky_relu")


def firing_rate_(
    net: torch.nn.Module, sample: torch.Tensor, rate: float = 0.1, tolerance: float = 0.1
) -> dict[str, float]:
    r"""Scale the weights of ``net`` block by block until each fires at the rate asked for on a sample of data.

    For each SLAYER block in order of execution, when those before it are scaled already, the factor :math:`g` in

    .. math:: W \leftarrow g W, \qquad \overline{s^l(g)} = \text{rate}

    is found by bisection, :math:`\overline{s^l}` being the spikes per neuron and step. This is layer-sequential
    unit-variance initialisation with the firing rate in place of the variance, and with the aim of fluctuation-driven
    initialisation: no layer starts silent, so every layer has a gradient from the first step on. The directions of the
    weights stay as drawn: call :func:`kaiming_normal_` first for another distribution. The host reads the rate of each
    trial, and waits for it on CUDA.

    Args:
        net: a net with SLAYER blocks.
        sample: input ``(N, C, ..., T)``, a batch of typical data.
        rate: spikes per neuron and step, above 0 and at most 0.5.
        tolerance: the relative difference to ``rate`` at which the bisection stops.

    Returns:
        The rate reached by each block. It differs from ``rate`` where no factor leads to it: 8-bit weights are clipped,
        and a norm cancels the scale of what it normalises.

    Raises:
        TypeError: if ``sample`` is not a tensor, or a hook or parametrization computes a weight in another way than
            weight norm or pruning.
        ValueError: if a number is out of range, ``net`` has no block to scale, or a block is silent at any factor.

    References:
        Mishkin and Matas, "All you need is a good init", ICLR 2016.
        Rossbroich, Gygax and Zenke, "Fluctuation-driven initialization for spiking neural network training",
        Neuromorphic Computing and Engineering 2022.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = torch.nn.Sequential(
        ...     slayer.block.cuba.Dense(neuron, 16, 32), slayer.block.cuba.Dense(neuron, 32, 8)
        ... )
        >>> rates = firing_rate_(net, (torch.rand(8, 16, 32) < 0.3).float(), rate=0.1)
        >>> all(0.08 < reached < 0.12 for reached in rates.values())
        True
    """
    check_spikes("sample", sample, min_dims=3)
    check_number("rate", rate, above=0, maximum=0.5)
    check_number("tolerance", tolerance, above=0)
    reached: dict[str, float] = {}
    with torch.no_grad(), _trial(net):
        for block in _blocks_in_order(net, sample):
            x = _input_of(block, net, sample)
            reached[named(net, block).split("`")[1]] = _bisect(net, block, x, rate, tolerance)
    if not reached:
        raise ValueError("Expected argument `net` to have a spiking block with trainable weights but it has none.")
    return reached


def _bisect(net: torch.nn.Module, block: Any, x: torch.Tensor, rate: float, tolerance: float) -> float:
    scales: list[Any] = [_stored(layer) for layer in _layers(block)]
    drawn = [scale.clone() for scale in scales]

    def fires(gain: float) -> float:
        for scale, weight in zip(scales, drawn, strict=True):
            scale.copy_(gain * weight)
        with _trial(block):
            return float((block(x) != 0).float().mean())

    low, high = 0.0, 1.0
    while fires(high) < rate and high < LARGEST_GAIN:
        low, high = high, 2 * high
    best, best_rate = high, fires(high)
    if best_rate == 0:
        raise ValueError(
            f"Expected {named(net, block)} to fire for some scale of its weights but it is silent up to {high}: "
            "give a `sample` with spikes in it, or draw other weights."
        )
    for _ in range(BISECTIONS):
        if abs(best_rate - rate) <= tolerance * rate:
            break
        middle = (low + high) / 2
        current = fires(middle)
        low, high = (middle, high) if current < rate else (low, middle)
        if abs(current - rate) < abs(best_rate - rate):
            best, best_rate = middle, current
    return fires(best)


@contextmanager
def _trial(net: torch.nn.Module) -> Iterator[None]:
    """Inside, ``net`` starts at rest; afterwards its states and running statistics are what they were before."""
    before = snapshot(net)
    try:
        with fresh_state(net):
            yield
    finally:
        restore(before)


def _blocks_in_order(net: torch.nn.Module, sample: torch.Tensor) -> list[Any]:
    """Spiking blocks with trainable weights, in order of execution."""
    order: list[Any] = []
    handles = [
        block.register_forward_pre_hook(lambda module, args: order.append(module))
        for block in net.modules()
        if is_spiking(block) and is_neuron(block.neuron) and any(_layers(block))
    ]
    try:
        net(sample)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))


def _input_of(block: Any, net: torch.nn.Module, sample: torch.Tensor) -> torch.Tensor:
    inputs: list[torch.Tensor] = []
    handle = block.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    try:
        with fresh_state(net):
            net(sample)
    finally:
        handle.remove()
    return inputs[0]


def _layers(net: torch.nn.Module) -> list[Any]:
    """The layers with trainable weights.

    Raises:
        TypeError: for a weight that is computed from others in a way in which it cannot be given another value.
    """
    layers = [module for module in net.modules() if isinstance(module, (_ConvNd, torch.nn.Linear))]
    trained = [layer for layer in layers if _is_trained(layer)]
    for layer in trained:
        if _stored(layer) is None:
            raise TypeError(
                f"Expected the weight of {named(net, layer)} to be a parameter, under weight norm, or pruned, but a "
                f"hook or parametrization computes it from others. Take that away first."
            )
    return trained


def _is_trained(layer: torch.nn.Module) -> bool:
    return any(parameter.requires_grad for name, parameter in layer.named_parameters() if name != "bias")


def _weight_like(layer: Any) -> torch.Tensor:
    """A tensor with the shape, type and device of the weight."""
    weight: torch.Tensor = layer.weight_v if hasattr(layer, "weight_v") else layer.weight
    return weight


def _stored(layer: Any) -> torch.Tensor | None:
    """The parameter that scales the weight: under weight norm its magnitude, else the weight itself, pruned or not."""
    own: dict[str, torch.Tensor | None] = layer._parameters
    if "weight_g" in own:
        return own["weight_g"] if "weight_v" in own else None
    if parametrize.is_parametrized(layer, "weight"):
        made_by = [type(step).__name__ for step in layer.parametrizations.weight]
        scale: torch.Tensor | None = layer.parametrizations.weight.original0 if made_by == ["_WeightNorm"] else None
        return scale
    if _is_pruned(layer):
        return own["weight_orig"]
    return own.get("weight")


def _is_pruned(layer: Any) -> bool:
    return "weight_orig" in layer._parameters and "weight_mask" in layer._buffers


def _set_weight(layer: Any, weight: torch.Tensor) -> None:
    with torch.no_grad():
        if hasattr(layer, "weight_g"):
            layer.weight_v.copy_(weight)
            layer.weight_g.copy_(weight_magnitude(layer, weight))
        elif parametrize.is_parametrized(layer, "weight"):
            layer.weight = weight  # torch splits it into direction and magnitude
        elif _is_pruned(layer):
            layer.weight_orig.copy_(weight)
            layer.weight = layer.weight_orig * layer.weight_mask  # as the next forward would make it
        else:
            layer.weight.copy_(weight)


def _fan(layer: Any, mode: str) -> int:
    if isinstance(layer, torch.nn.Linear):
        return layer.in_features if mode == "fan_in" else layer.out_features
    channels = layer.in_channels if mode == "fan_in" else layer.out_channels
    return int(channels // layer.groups * math.prod(layer.kernel_size))
