"""What a SLAYER block's parameters come to on Loihi: weights, delays, bias and neuron parameters as integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lava_spikeloss.slayer_blocks import passes_over_norm
from netx_export.network.description import CubaNeuron, ResonatorNeuron, SigmaDeltaNeuron
from netx_export.network.fixed_point import (
    ALIGNMENT,
    ALIGNMENT_BITS,
    MAX_BIAS,
    MAX_CONV_SIZE,
    MAX_DELAY,
    MAX_INT32,
    MAX_THRESHOLD,
    MIN_BIAS,
    UNITY_DECAY,
    WEIGHT_SCALE,
    IntArray,
)
from netx_export.network.stock_loader import load_resonator_decays, rotation_that_loads
from netx_export.slayer.blocks import Block, Head, family, refuse

__all__ = [
    "DECAY_LIMITS",
    "ROUND",
    "BlockContext",
    "add_set_bias",
    "axon_delay",
    "combined_delay",
    "cuba_neuron",
    "decay_of_forward",
    "fewer_groups",
    "fold_norm",
    "integers",
    "matrix",
    "nearest_sigma_delta_threshold",
    "output_delay",
    "pool_kernel",
    "refuse_bias",
    "refuse_constant",
    "refuse_norm",
    "resonator_neuron",
    "sigma_delta_neuron",
    "sums_neuron",
    "weights",
]

_THRESHOLD_EPS = 0.01  # SLAYER's `threshold_eps`, in units of the state
_QUANTISE = "Use pre_hook_fx=neuron.quantize_8bit, the default."
_QUANTISE_HEAD = (
    f"Give its synapse a pre_hook_fx that makes whole numbers of 1/{WEIGHT_SCALE}, as lava.lib.dl.slayer.utils."
    f"quantize_hook_fx does."
)
ROUND = "Or call netx_export.round_parameters(net), which makes trained numbers the nearest that fit, and evaluate it."
# Of the decays that a CUBA neuron has on Loihi, in units of 1/4096.
DECAY_LIMITS = {"current_decay": (1, UNITY_DECAY), "voltage_decay": (0, UNITY_DECAY - 1)}
_MAX_SYNAPSES = 2**24
_BLOCK = 2**20  # weights to convert at a time
# SLAYER compares the membrane potential with threshold + 0.01 in float32. From 2^18 on the 0.01 is lost in rounding,
# and a neuron that reaches its threshold exactly fires in SLAYER but not on Loihi, which asks for more than it.
_MAX_EXACT_THRESHOLD = 2**18 >> ALIGNMENT_BITS
# A resonator fires at its threshold, so nothing is lost until the state itself leaves its 24 bits.
_MAX_RESONATOR_THRESHOLD = MAX_THRESHOLD + 1
# SLAYER's float32 holds sigma-delta states, in units of 2^-18, up to 64.
_MAX_SIGMA_DELTA_THRESHOLD = 2**12
# Numbers of every size that a state can have: two activations that agree on them are taken for the same.
_PROBE = torch.cat([sign * 2.0 ** torch.arange(-18, 25) for sign in (-1, 1)])


@dataclass(frozen=True, eq=False)
class BlockContext:
    """A block, and what it gets from the block before it.

    Attributes:
        index, block: the block, and its position in the network.
        shape: shape of its input in SLAYER.
        flat: whether its input is a vector in netx.
        image: whether it is channels, height and width there, the same as in SLAYER.
        order: for each value of its input, which one of those that the block before made; None if they are in order.
        input_delay: axonal delays of the block before that have to become this one's input delays, one for each value
            that the block before made, or None.
    """

    index: int
    block: Block
    shape: tuple[int, ...]
    flat: bool
    image: bool
    order: IntArray | None = None
    input_delay: IntArray | None = None

    @property
    def size(self) -> int:
        """Number of values in the input."""
        return int(np.prod(self.shape))

    @property
    def channel_order(self) -> IntArray | None:
        """The same as ``order`` for whole channels; None if they are in order, or not whole."""
        if self.order is None:
            return None
        pixels = self.size // self.shape[0]
        channels = self.order[::pixels] // pixels
        whole = (channels[:, np.newaxis] * pixels + np.arange(pixels)).reshape(-1)
        return channels if np.array_equal(whole, self.order) else None

    @property
    def convolves(self) -> bool:
        """Whether a convolution of its input can be one in netx."""
        return self.image and (self.order is None or self.channel_order is not None)

    def as_made(self, weight: IntArray) -> IntArray:
        """Weights ``(out, in)`` in the order in which the block before made the inputs."""
        return weight if self.order is None else weight[:, np.argsort(self.order)]

    @property
    def weight_scale(self) -> int:
        """What a weight of 1 is in the block's integers."""
        return WEIGHT_SCALE if isinstance(self.block, Head) else int(self.block.neuron.w_scale)

    def refuse_input_delay(self, what: str) -> None:
        """Refuse delays on the way into a layer that cannot have any in netx."""
        if self.input_delay is not None:
            refuse(
                self.index,
                self.block,
                f"the axonal delay of the block before would have to be made by {what}, and netx drops it there",
                "Use delay=False in the block before this one.",
            )


def weights(context: BlockContext, synapse: Any, raw: torch.Tensor | None = None) -> IntArray:
    """The integer weights that the forward pass uses: weight norm, mask and quantisation applied.

    Args:
        context: the block.
        synapse: the synapse of the block.
        raw: what to take instead of the synapse's own weights.
    """
    weight = _weight_of_next_forward(context, synapse) if raw is None else raw
    quantise = synapse.pre_hook_fx
    if quantise is None:
        return integers(context, weight)
    if quantise == getattr(context.block.neuron, "quantize_8bit", None):  # it takes each weight by itself
        return integers(context, weight, quantise)
    return integers(context, quantise(weight))


def integers(
    context: BlockContext, weight: torch.Tensor, quantise: Callable[[torch.Tensor], torch.Tensor] = lambda block: block
) -> IntArray:
    """Weights in SLAYER's scale as the integers that they stand for, int32."""
    array = np.empty(tuple(weight.shape), np.int32)
    blocks = weight.detach().reshape(-1).split(_BLOCK)  # one by one, since float64 takes twice the weights' memory
    for block, target in zip(blocks, torch.from_numpy(array).view(-1).split(_BLOCK), strict=True):
        scaled = quantise(block).double() * context.weight_scale
        rounded = scaled.round()
        if not bool(((scaled == rounded) & (rounded.abs() <= MAX_INT32)).all()):
            refuse(
                context.index,
                context.block,
                "its weights are not quantised or not finite, so no chip can hold them",
                _QUANTISE_HEAD if isinstance(context.block, Head) else _QUANTISE,
            )
        target.copy_(rounded)
    return array


def _weight_of_next_forward(context: BlockContext, synapse: Any) -> torch.Tensor:
    """The weight as the next forward will see it, made as the forward makes it, inside of an ``evaluation``.

    First the block puts its mask on the attribute that is there, the one of the last forward. Then hooks of the
    synapse may make it anew, as those of weight norm, spectral norm and pruning do.
    """
    mask = getattr(context.block, "mask", None)
    if mask is not None:
        synapse.weight.data *= mask
    like = synapse.weight
    inputs = (torch.zeros(1, *context.shape, 1, device=like.device, dtype=like.dtype),)
    attributes = dict(synapse.__dict__)
    for key, hook in synapse._forward_pre_hooks.items():
        if key in synapse._forward_pre_hooks_with_kwargs:
            hook(synapse, inputs, {})
        else:
            hook(synapse, inputs)
    weight: torch.Tensor = synapse.weight
    synapse.__dict__.update(attributes)  # else what was made would be held until the last layer is read
    return weight


def matrix(context: BlockContext, synapse: Any) -> tuple[IntArray, tuple[int, ...]]:
    """Any synapse as the matrix ``(out, in)`` that it multiplies its input with, and the shape of its output."""
    device = next(synapse.parameters()).device
    output = synapse(torch.zeros(1, *context.shape, 1, device=device))
    if output.numel() * context.size > _MAX_SYNAPSES:
        refuse(
            context.index,
            context.block,
            f"netx has no such layer, and as a dense one it has {output.numel() * context.size} synapses",
            f"Use it on fewer neurons ({_MAX_SYNAPSES} synapses at most).",
        )
    each = torch.eye(context.size, device=device).reshape(context.size, *context.shape, 1)
    columns = synapse(each).reshape(context.size, -1)
    return integers(context, columns.T), tuple(output.shape[1:-1])


def pool_kernel(context: BlockContext, synapse: Any) -> tuple[IntArray, dict[str, tuple[int, int]]] | None:
    """A pooling synapse as a convolution in one group per channel; None if it mixes channels.

    SLAYER pools all channels as one tall image, so windows cross from one channel to the next unless they tile it. It
    pads at the bottom and right only; a convolution pads on all sides, so its kernel has zeros at the top and left.
    """
    kernel, stride, padding, dilation = (
        np.array(getattr(synapse, name)[:2]) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    size = np.array(context.shape[1:])
    added = size % kernel
    tiles = (stride == kernel).all() and not padding.any() and (dilation == 1).all()
    if not tiles or (size[0] + added[0]) % kernel[0]:
        return None
    window = weights(context, synapse)[0, 0, ..., 0]
    padded = np.pad(window, [(added[0], 0), (added[1], 0)])
    pairs = {"stride": (int(stride[0]), int(stride[1])), "padding": (int(added[0]), int(added[1]))}
    return np.repeat(padded[np.newaxis, np.newaxis], context.shape[0], axis=0), pairs


def fewer_groups(weight: IntArray, groups: int, most: int = MAX_CONV_SIZE) -> tuple[IntArray, int]:
    """The same convolution in no more groups than Lava can count, with zeros between channels that had been apart."""
    fewer = next(count for count in range(min(groups, most), 0, -1) if groups % count == 0)
    joined = groups // fewer
    inputs, outputs = weight.shape[1], len(weight) // groups
    wide = np.zeros((len(weight), joined * inputs, *weight.shape[2:]), np.int64)
    for channel, kernel in enumerate(weight):
        start = channel // outputs % joined * inputs
        wide[channel, start : start + inputs] = kernel
    return wide, fewer


def output_delay(block: Any) -> IntArray | None:
    """Steps by which a block delays its output: one number, or one per channel; None if it has no delays."""
    delay = block.delay
    if delay is None:
        return None
    clamped = delay.delay.detach().clamp(0, delay.max_delay)  # as the forward does
    steps: IntArray = torch.floor(clamped / delay.sampling_time).cpu().numpy().astype(np.int64).reshape(-1)
    return steps


def axon_delay(context: BlockContext) -> IntArray | None:
    """The block's axonal delay per output channel, in steps; None if it has none."""
    array = output_delay(context.block)
    if array is None:
        return None
    if array.max() > MAX_DELAY:
        refuse(context.index, context.block, f"an axonal delay of {array.max()} steps", f"The limit is {MAX_DELAY}.")
    return array if array.any() else None


def combined_delay(context: BlockContext, shape: tuple[int, ...], own: IntArray | None) -> IntArray | None:
    """Delays on the way into a dense layer: those that the block before could not make, and its own."""
    if context.input_delay is None:
        return own
    if own is None and shape[0] != shape[1]:
        return context.input_delay
    total = context.input_delay[np.newaxis, :] + (np.zeros(shape[0], np.int64) if own is None else own)[:, np.newaxis]
    if total.max() > MAX_DELAY:
        refuse(
            context.index,
            context.block,
            f"its axonal delay and that of the block before add up to {total.max()} steps",
            f"The limit is {MAX_DELAY}; shorten one of the two.",
        )
    return total


def refuse_norm(context: BlockContext) -> None:
    """Refuse any norm, for layers that have no bias in netx."""
    neuron = context.block.neuron
    norms = [getattr(neuron, name, None) for name in ("norm", "real_norm", "imag_norm")]
    for norm in norms:
        if norm is not None:
            refuse(
                context.index, context.block, f"its norm {type(norm).__name__} has no bias in netx", "Use norm=None."
            )


def fold_norm(context: BlockContext, weight: IntArray) -> tuple[IntArray, IntArray | None]:
    """Weights and bias mantissas with the block's norm in them."""
    norm = None if passes_over_norm(context.block) else getattr(context.block.neuron, "norm", None)
    if norm is None:
        return weight, None
    name = type(norm).__name__
    if name not in ("MeanOnlyBatchNorm", "WgtScaleBatchNorm"):
        refuse(context.index, context.block, f"its norm {name} is not known", "Use MeanOnlyBatchNorm.")
    bias: IntArray = -integers(context, norm.pre_hook_fx(norm.running_mean.detach())).astype(np.int64)
    if name == "WgtScaleBatchNorm":
        weight, bias = _scaled(context, norm, weight, bias)
    refuse_bias(context, bias)
    return weight, bias if bias.any() else None


def add_set_bias(context: BlockContext, bias: IntArray | None, shape: tuple[int, ...]) -> IntArray | None:
    """Bias mantissas, one for each neuron of a layer of this shape, with those that ``set_bias`` has set."""
    spread = None if bias is None else np.repeat(bias, int(np.prod(shape)) // len(bias))
    neuron = context.block.neuron
    if not getattr(neuron, "bias_is_set", False) or passes_over_norm(context.block):
        return spread
    try:
        mantissas = (neuron.bias.detach().double() * WEIGHT_SCALE).expand(shape).reshape(-1).cpu().numpy()
    except RuntimeError:
        refuse(context.index, context.block, f"its bias is of shape {tuple(neuron.bias.shape)}", f"Set one of {shape}.")
    if (mantissas != np.rint(mantissas)).any():
        refuse(
            context.index,
            context.block,
            f"its bias is not made of whole numbers of 1/{WEIGHT_SCALE}",
            f"Call set_bias with such numbers. {ROUND}",
        )
    total: IntArray = mantissas.astype(np.int64) + (0 if spread is None else spread)
    refuse_bias(context, total)
    return total if total.any() else None


def refuse_bias(context: BlockContext, bias: IntArray) -> None:
    """Refuse bias mantissas that do not fit Loihi's 13 bits."""
    for worst in (bias.min(), bias.max()):
        if not MIN_BIAS <= worst <= MAX_BIAS:
            refuse(context.index, context.block, f"a bias of {worst}", f"Loihi holds {MIN_BIAS} to {MAX_BIAS}.")


def _scaled(context: BlockContext, norm: Any, weight: IntArray, bias: IntArray) -> tuple[IntArray, IntArray]:
    """Weights and bias divided by the norm's power of two; refused where that is not the same as a divided current."""
    deviation = float(norm.std(norm.running_var).item())
    if deviation == 1:
        return weight, bias
    scaled_weight, scaled_bias = weight / deviation, bias / deviation
    whole = all(np.array_equal(values, np.rint(values)) for values in (scaled_weight, scaled_bias))
    # The sum that a sigma-delta neuron keeps never decays, so nothing of it is rounded.
    graded = family(context.block) == "sigma_delta"
    undecayed = graded or (_decay(context, context.block.neuron.current_decay) == UNITY_DECAY).all()
    if not (undecayed and whole):
        what, condition = ("sum", "") if graded else ("current", " and current_decay is 1")
        refuse(
            context.index,
            context.block,
            f"its WgtScaleBatchNorm divides the {what} by {deviation:g}, netx ignores that, and the weights cannot "
            f"be divided instead unless they stay whole{condition}",
            "Use MeanOnlyBatchNorm.",
        )
    return scaled_weight.astype(np.int64), scaled_bias.astype(np.int64)


def cuba_neuron(context: BlockContext, *, repeats: int = 1, threshold: int | None = None) -> CubaNeuron:
    """The block's leaky integrate-and-fire neurons; ``repeats`` spreads a channel's decays over its neurons."""
    neuron = context.block.neuron
    _refuse_foreign_neuron(context)
    _refuse_changed_constants(context)
    if neuron.graded_spike:
        refuse(context.index, context.block, "netx makes graded CUBA spikes binary", "Train with graded_spike=False.")
    current_decay, voltage_decay = _decay(context, neuron.current_decay), _decay(context, neuron.voltage_decay)
    if threshold is None:
        threshold = _threshold(context, _MAX_EXACT_THRESHOLD)
        _refuse_decays(context, current_decay=current_decay, voltage_decay=voltage_decay)
        refuse_constant(context, "threshold_eps", neuron.threshold_eps, _THRESHOLD_EPS / neuron.s_scale)
    return CubaNeuron(threshold, _spread(current_decay, repeats), _spread(voltage_decay, repeats))


def resonator_neuron(context: BlockContext, repeats: int = 1) -> ResonatorNeuron:
    """The block's resonate-and-fire neurons."""
    neuron = context.block.neuron
    _refuse_foreign_neuron(context)
    _refuse_changed_constants(context)
    if neuron.graded_spike:
        refuse(context.index, context.block, "netx makes graded spikes binary", "Train with graded_spike=False.")
    if neuron.requires_grad:
        neuron.clamp()  # as the forward does; the state is put back afterwards
    sin, cos = (_rounded(decay) for decay in (neuron.sin_decay, neuron.cos_decay))
    _refuse_rotation(context, sin, cos)
    return ResonatorNeuron(
        threshold=_threshold(context, _MAX_RESONATOR_THRESHOLD),
        sin_decay=_spread(sin, repeats),
        cos_decay=_spread(cos, repeats),
        reset="izhikevich" if family(context.block) == "rf_iz" else "phase",
    )


def sums_neuron(context: BlockContext) -> SigmaDeltaNeuron:
    """The neurons of an output, which only sum up; nothing else of a sigma-delta neuron is used there."""
    if not isinstance(context.block, Head):
        _refuse_foreign_neuron(context)
        _refuse_other_scale(context)
    return SigmaDeltaNeuron(threshold=0, sends=False)


def _refuse_other_scale(context: BlockContext) -> None:
    scale = context.block.neuron.w_scale
    if scale != WEIGHT_SCALE:
        refuse(
            context.index,
            context.block,
            f"its scale is {scale}, and netx counts messages and sums by one of {WEIGHT_SCALE}",
            f"Use the default scale of {WEIGHT_SCALE}.",
        )


def sigma_delta_neuron(context: BlockContext, *, activates: bool = True) -> SigmaDeltaNeuron:
    """The block's sigma-delta neurons; those of an input have no activation."""
    neuron = context.block.neuron
    _refuse_foreign_neuron(context)
    _refuse_changed_constants(context)
    _refuse_other_scale(context)
    refuse_constant(context, "delta.scale", neuron.delta.scale, neuron.s_scale)
    if activates and not torch.equal(neuron.activation(_PROBE), torch.relu(_PROBE)):
        reason = "its activation is not relu, and netx knows no other"
        refuse(context.index, context.block, reason, "Use activation=torch.relu.")
    return SigmaDeltaNeuron(_sigma_delta_threshold(context))


def _sigma_delta_threshold(context: BlockContext) -> int:
    """The threshold that is trained; lava-dl's own export writes the one that the block was made with."""
    values = context.block.neuron.delta.threshold
    threshold = nearest_sigma_delta_threshold(values)
    if bool((values.detach().double() * WEIGHT_SCALE != threshold).any()):
        refuse(
            context.index,
            context.block,
            f"its threshold of {values.flatten()[0]:g} is not the same whole number of 1/{WEIGHT_SCALE} for all "
            f"neurons",
            f"Use a threshold between 1/{WEIGHT_SCALE} and {_MAX_SIGMA_DELTA_THRESHOLD / WEIGHT_SCALE:g} that is not "
            f"trained. {ROUND}",
        )
    return threshold


def nearest_sigma_delta_threshold(values: torch.Tensor) -> int:
    """The one threshold that a file can hold, in units of 1/64, which is nearest to the mean of these."""
    mean = float(values.detach().double().mean()) * WEIGHT_SCALE
    return min(max(round(mean), 1), _MAX_SIGMA_DELTA_THRESHOLD - 1)


def _refuse_changed_constants(context: BlockContext) -> None:
    """Refuse neurons whose constants were changed after they were made: a file has no place for the changed ones."""
    neuron = context.block.neuron
    refuse_constant(context, "p_scale", neuron.p_scale, 1 if family(context.block) == "sigma_delta" else UNITY_DECAY)
    refuse_constant(context, "s_scale", neuron.s_scale, neuron.w_scale * ALIGNMENT)
    if not (isinstance(neuron.w_scale, int) and neuron.w_scale > 0):
        refuse(context.index, context.block, f"its w_scale is {neuron.w_scale!r}", "Use a positive integer as scale.")
    if neuron.drop is not None and not isinstance(neuron.drop, nn.modules.dropout._DropoutNd):
        refuse(
            context.index,
            context.block,
            f"its dropout {neuron.drop!r} is no torch module, so it acts in evaluation mode too",
            "Use dropout=slayer.neuron.Dropout(p).",
        )


def refuse_constant(context: BlockContext, name: str, value: Any, expected: Any) -> None:
    if value != expected:
        refuse(
            context.index,
            context.block,
            f"its neuron's `{name}` is {value!r} where its other constants ask for {expected!r}: one of them was "
            f"changed after it was made, and a file cannot say so",
            "Make the block anew with the constants that you want, and load its trained parameters.",
        )


def _refuse_rotation(context: BlockContext, sin: IntArray, cos: IntArray) -> None:
    loaded = load_resonator_decays(*rotation_that_loads(sin, cos))
    if not all(np.array_equal(*pair) for pair in zip(loaded, (sin, cos), strict=True)):
        refuse(
            context.index,
            context.block,
            f"its sin_decay, from {sin.min()} to {sin.max()}, and cos_decay, from {cos.min()} to {cos.max()}, do not "
            f"come out of netx's period and decay as they go in",
            "Use a decay above 0 and a period of at least 4 steps.",
        )


def _refuse_foreign_neuron(context: BlockContext) -> None:
    neuron = type(context.block.neuron)
    expected = f"lava.lib.dl.slayer.neuron.{family(context.block)}"
    if neuron.__module__ != expected:
        refuse(context.index, context.block, f"its neuron {neuron.__qualname__} is not lava-dl's", f"Use {expected}.")


def _threshold(context: BlockContext, limit: int) -> int:
    neuron = context.block.neuron
    mantissa = float(neuron.threshold * neuron.w_scale)
    if not 0 < mantissa < limit:
        refuse(
            context.index,
            context.block,
            f"threshold {neuron.threshold} has the mantissa {mantissa:g}",
            f"It has to lie between 1 and {limit - 1}, beyond which SLAYER or Loihi rounds it or cannot hold it.",
        )
    refuse_constant(context, "threshold", neuron.threshold, int(mantissa) / neuron.w_scale)
    return int(mantissa)


def _decay(context: BlockContext, parameter: torch.Tensor) -> IntArray:
    return _rounded(decay_of_forward(context.block.neuron, parameter))


def decay_of_forward(neuron: Any, decay: torch.Tensor) -> torch.Tensor:
    """A decay as the forward uses it, before it is rounded: SLAYER clamps the decays that it trains, and no others."""
    return decay.clamp(0, UNITY_DECAY) if neuron.requires_grad else decay


def _rounded(parameter: torch.Tensor) -> IntArray:
    whole: IntArray = torch.round(parameter.detach()).cpu().numpy().astype(np.int64).reshape(-1)
    return whole


def _refuse_decays(context: BlockContext, **decays: IntArray) -> None:
    for name, (low, high) in DECAY_LIMITS.items():
        decay = decays[name]
        worst = decay.min() if decay.min() < low else decay.max()
        if not low <= worst <= high:
            refuse(
                context.index,
                context.block,
                f"{name} {worst / UNITY_DECAY:g} does not fit Loihi's 12-bit register",
                f"Use a {name} between {low}/{UNITY_DECAY} and {high}/{UNITY_DECAY}. {ROUND}",
            )


def _spread(values: IntArray, repeats: int) -> IntArray:
    return values if values.size == 1 else np.repeat(values, repeats)
