"""A chain of SLAYER blocks, read block by block into plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from lava_spikeloss.slayer_blocks import is_bootstrap, kwta_feedback, passes_over_norm
from netx_export.errors import DescriptionError, ExportError, NetxExportError
from netx_export.network.description import (
    Affine,
    Average,
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    Input,
    Layer,
    NetworkDescription,
    Recurrent,
    Resonator,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.fixed_point import (
    MAX_CONV_SIZE,
    MAX_WEIGHT,
    MESSAGE_SCALE,
    MIN_WEIGHT,
    UNITY_DECAY,
    WEIGHT_SCALE,
    IntArray,
)
from netx_export.slayer.blocks import Block, family, is_layer, kind, refuse
from netx_export.slayer.chain import Chain, chain_of, run_blocks
from netx_export.slayer.probing import check_block
from netx_export.slayer.reading import (
    BlockContext,
    add_set_bias,
    axon_delay,
    combined_delay,
    cuba_neuron,
    fewer_groups,
    fold_norm,
    integers,
    matrix,
    pool_kernel,
    refuse_bias,
    refuse_constant,
    refuse_norm,
    resonator_neuron,
    sigma_delta_neuron,
    sums_neuron,
    weights,
)
from netx_export.slayer.running import evaluation

__all__ = [
    "SUMS",
    "Examined",
    "describe",
    "examine",
    "keeps_state",
    "read_chain",
    "refuse_not_finite",
]


def describe(net: nn.Module, sample: torch.Tensor | None = None) -> NetworkDescription:
    """Read a SLAYER network into plain data without changing it.

    Args:
        net: a module whose forward runs SLAYER blocks one after the other; without a sample, those that it holds, in
            the order in which they were registered.
        sample: its input; needed if the network never ran, since SLAYER learns its shapes then.

    Raises:
        ExportError: for a block, neuron or option that cannot be exact on Lava, with the block's index and class.
    """
    return read_chain(net, sample)[0]


def read_chain(net: nn.Module, sample: torch.Tensor | None = None) -> tuple[NetworkDescription, Chain]:
    """The same, and the chain of blocks that the network is."""
    blocks = _supported_blocks(net, sample, _refuse_block)
    with evaluation(net), torch.no_grad():
        chain = chain_of(net, blocks, sample)
        return _describe_chain(chain), chain


def _supported_blocks(
    net: nn.Module, sample: torch.Tensor | None, refuse_one: Callable[[int, Block], None]
) -> list[Block]:
    """The blocks that a network runs, none of which is refused by itself, as ``refuse_one`` does."""
    blocks = run_blocks(net, sample)
    for index, block in enumerate(blocks):
        refuse_one(index, block)
    _refuse_without_neurons(blocks)
    _refuse_mixture(blocks)
    _refuse_behind_sums(blocks)
    _refuse_kept_state(blocks)
    return blocks


@dataclass(frozen=True)
class Examined:
    """What a network is, or why it cannot be exported.

    Attributes:
        read: the network as plain data, and its chain of blocks; None if it is refused.
        refused: all blocks that are not supported, else the first thing that does not fit.
        coming: what will be refused once training has raised axonal delays that are still below a step, or means of
            norms that are still 0; each with its cause, ``delay`` or ``norm``.
    """

    read: tuple[NetworkDescription, Chain] | None
    refused: list[ExportError]
    coming: list[tuple[str, ExportError]]


def examine(net: nn.Module, sample: torch.Tensor | None = None) -> Examined:
    """Read a network, and collect what is refused of it, or will be."""
    coming: list[tuple[str, ExportError]] = []
    try:
        blocks = _supported_blocks(net, sample, _refuse_block_that_ran)
        # A network that never ran is refused, but only after a look at what its delays may become.
        lazy = [refusal for each in enumerate(blocks) if (refusal := _refusal(partial(_refuse_lazy, *each)))]
        with evaluation(net), torch.no_grad():
            chain = chain_of(net, blocks, sample)
            with evaluation(net):  # which puts back the delays
                known = _with_images(chain)
                means = [("norm", refusal) for refusal in _refused_means(known)]
                coming = [*means, *(("delay", refusal) for refusal in _refused_delays(known))]
            if lazy:
                return Examined(None, lazy, coming)
            return Examined((_describe_chain(chain), chain), [], coming)
    except ExportError as error:
        return Examined(None, _block_refusals(net, sample) or [error], coming)


def _block_refusals(net: nn.Module, sample: torch.Tensor | None) -> list[ExportError]:
    """Why single blocks of a network cannot be exported, for all blocks that are not supported."""
    try:
        blocks = run_blocks(net, sample)
    except ExportError:
        return []
    attempts = [partial(_refuse_block, index, block) for index, block in enumerate(blocks)]
    return [refusal for attempt in attempts if (refusal := _refusal(attempt))]


def _with_images(chain: Chain) -> Chain:
    """The chain as it is if it is known what goes in; if not, its convolutions, with images of some size going in."""
    blocks = chain.blocks
    if chain.inputs is not None or _refusal(partial(_input_shape, blocks[0])) is None:
        return chain
    end = next((index for index, block in enumerate(blocks) if not kind(block).endswith(_ON_IMAGES)), len(blocks))
    synapse: Any = next((block.synapse for block in blocks[:end] if kind(block).endswith((".Conv", ".ConvT"))), None)
    for size in _IMAGE_SIZES if synapse is not None else ():
        images = torch.zeros(1, getattr(synapse, "real", synapse).in_channels, size, size, 1)
        stand_in = Chain(chain.links[:end], images)
        try:
            _describe_chain(stand_in, probes=False)
        except (NetxExportError, RuntimeError):  # torch's own, for an image that is smaller than a kernel
            continue
        return stand_in
    return chain


def _refused_means(chain: Chain) -> list[ExportError]:
    """What is refused of a chain once norms have learnt a mean, one after the other, inside of an ``evaluation``.

    A norm that is not refused keeps it: a mean makes a bias, and behind a bias not all delays can be made.
    """
    found = []
    for block in chain.layers:
        norm: Any = getattr(getattr(block, "neuron", None), "norm", None)
        learns = getattr(norm, "update", False) and not bool(norm.running_mean.any())
        if not learns or _refusal(partial(_describe_chain, chain, probes=False)) is not None:
            continue  # there is something else to mend first
        norm.running_mean.data = torch.ones_like(norm.running_mean)
        refusal = _refusal(partial(_describe_chain, chain, probes=False))
        if refusal is not None:
            why = f"its norm learns a mean in training, and then {refusal.reason}"
            found.append(ExportError(why, _named(chain, block), refusal.advice))
            norm.running_mean.data = torch.zeros_like(norm.running_mean)
    return found


def _refused_delays(chain: Chain) -> list[ExportError]:
    """What would be refused if the delays of one block, and of no other, were a step long: tried block by block.

    Inside of an ``evaluation``, which puts the delays back.
    """
    delayed = [block for block in chain.layers if getattr(block, "delay", None) is not None]
    for block in delayed:
        _set_delays(block, torch.zeros(1))
    try:
        spiking = _describe_chain(chain, probes=False).spiking.values()
    except ExportError:
        return []  # the network is refused for another reason, which is to be mended first
    channels = {id(block): layer.shape[0] for block, layer in zip(chain.layers, spiking, strict=True)}
    found = []
    for block in delayed:
        _set_delays(block, torch.ones(channels[id(block)]))
        refusal = _refusal(partial(_describe_chain, chain, probes=False))
        if refusal is not None:
            found.append(_refused_delay(chain, block, refusal))
        _set_delays(block, torch.zeros(1))
    return found


def _set_delays(block: Block, steps: torch.Tensor) -> None:
    """Set the axonal delays of a block, inside of an ``evaluation``, which puts them back."""
    delay: Any = block.delay
    delay.delay.data = steps.to(delay.delay) * delay.sampling_time


def _refused_delay(chain: Chain, block: Block, refusal: ExportError) -> ExportError:
    """What will be refused once the delays of a block have grown, in words for a network whose delays have not."""
    behind = [other for other in chain.layers[chain.layers.index(block) + 1 :] if _named(chain, other) == refusal.block]
    why = f"{kind(behind[0])} behind it cannot make them in netx" if behind else f"then {refusal.reason}"
    return ExportError(
        f"its axonal delays may grow in training, and {why}",
        _named(chain, block),
        "Use delay=False in this block, unless you keep its delays below a step.",
    )


def _named(chain: Chain, block: Block) -> str:
    index = next(index for index, other in enumerate(chain.blocks) if other is block)
    return f"Block {index} ({kind(block)})"


def _refusal(attempt: Callable[[], object]) -> ExportError | None:
    """The error that an attempt ends in; None if it succeeds."""
    try:
        attempt()
    except ExportError as error:
        return error
    return None


def _refuse_block(index: int, block: Block) -> None:
    _refuse_block_that_ran(index, block)
    _refuse_lazy(index, block)


def _refuse_block_that_ran(index: int, block: Block) -> None:
    _refuse_unsupported(index, block)
    _refuse_precision(index, block)
    refuse_not_finite(index, block)
    _refuse_options(index, block)
    _refuse_decays_along_the_width(index, block)


def _refuse_without_neurons(blocks: list[Block]) -> None:
    if not any(is_layer(block) for block in blocks):
        raise ExportError(
            f"Not exported: the network has no block with neurons that a chip could run, only "
            f"{', '.join(map(kind, blocks))}, which run on the host."
        )


def _refuse_mixture(blocks: list[Block]) -> None:
    """Refuse sigma-delta neurons beside others: messages count in units of 1/4096, spikes in units of 1."""
    graded = [family(block) == "sigma_delta" for block in blocks]
    others = [index for index, block in enumerate(blocks) if not graded[index] and not kind(block).endswith(".Flatten")]
    changes = [index for index, block in enumerate(blocks) if graded[index] and not kind(block).endswith(".Flatten")]
    if not changes:
        return
    if others and others[0] < changes[0]:
        reason = f"to it a spike counts 1/{MESSAGE_SCALE} on Lava, for messages are counted so, and 1 in SLAYER"
        refuse(changes[0], blocks[changes[0]], reason, _ONE_FAMILY)
    if kind(blocks[0]) != "sigma_delta.Input" or blocks[0].neuron is None:
        refuse(
            changes[0],
            blocks[changes[0]],
            "only by input neurons can a file say that changes go in, which netx by default takes for spikes",
            "Begin the network with a sigma_delta.Input that has neurons.",
        )
    if others:
        reason = f"on Lava it takes the messages before it for {MESSAGE_SCALE} times what they are in SLAYER"
        refuse(others[0], blocks[others[0]], reason, _ONE_FAMILY)


def _refuse_behind_sums(blocks: list[Block]) -> None:
    """Refuse blocks behind an output, which does not send the changes of its sums, but the sums at every step."""
    outputs = [index for index, block in enumerate(blocks) if kind(block) in SUMS]
    for index in range(outputs[0] + 1 if outputs else len(blocks), len(blocks)):
        if not kind(blocks[index]).endswith(".Flatten"):
            refuse(
                index,
                blocks[index],
                f"it comes behind a {kind(blocks[outputs[0]])}, which gives out sums, {WEIGHT_SCALE} times as fine as "
                f"the messages that a layer takes",
                "End the network with the block that gives out sums.",
            )


def keeps_state(block: Block) -> bool:
    """Whether SLAYER carries the state of a block's neurons from one batch to the next."""
    neuron: Any = getattr(block, "neuron", None)
    parts = [neuron, getattr(neuron, "sigma", None), getattr(neuron, "delta", None)]
    return any(getattr(part, "persistent_state", False) for part in parts)


def _refuse_kept_state(blocks: list[Block]) -> None:
    """Refuse neurons that were asked to keep their state.

    Recurrent and KWTA blocks always keep it. They set the option in the dictionary of parameters that they are given,
    which other blocks may share: in a network with one of them nobody need have asked for it. There every batch goes on
    from the one before in any case.
    """
    if any(kind(block).endswith((".Recurrent", ".KWTA")) for block in blocks):
        return
    for index, block in enumerate(blocks):
        if keeps_state(block):
            refuse(
                index,
                block,
                "its neurons keep their state from one batch to the next (persistent_state=True), and those of a file "
                "start each sample from rest",
                "Use persistent_state=False, and evaluate the network so: training.set_step_mode(net, 'm') sets it in "
                "one that was trained in steps.",
            )


def _describe_chain(chain: Chain, *, probes: bool = True) -> NetworkDescription:
    """The chain as plain data, each block of it held against what it does by itself if it is probed."""
    check = check_block if probes else _check_nothing
    layers: list[Layer] = []
    shape: tuple[int, ...] = ()
    order: IntArray | None = None  # which values of the last layer's output the next block takes, one after the other
    input_delay: IntArray | None = None  # axonal delays that the next dense layer has to take over, one per value
    for index, link in enumerate(chain.links):
        block = link.block
        if index == 0:
            # The file always says what goes in: netx needs it for a convolution, people for everything.
            given = None if chain.inputs is None else tuple(chain.inputs.shape[1:-1])
            layers.append(_read_input(block, given or _input_shape(block)))
            shape = layers[0].shape
            if kind(block).endswith(".Input"):
                check(BlockContext(0, block, shape, False, True), layers)
                continue
        shape = link.shape or shape
        order = _composed(order, link.order)
        flat = _is_flat(layers[-1])
        context = BlockContext(index, block, shape, flat, not flat and shape == layers[-1].shape, order, input_delay)
        read = _READERS[kind(block)](context)
        # Run by itself, a block gets input that was neither delayed nor put in another order by what is before it.
        alone = replace(context, order=None, input_delay=None)
        check(context, read if order is input_delay is None else _READERS[kind(block)](alone))
        layers += read
        last = layers[-1]
        if kind(block).endswith(".Flatten"):
            shape = (int(np.prod(shape)),)
            continue
        shape, order = last.shape, None
        if is_layer(block):
            input_delay = _per_value(last)
    if order is not None:
        refuse(
            len(chain.links) - 1,
            chain.blocks[-1],
            "it gives out values in another order than the layer before made them, and no layer follows that could",
            "Rearrange them behind the last block.",
        )
    if kind(chain.blocks[-1]).endswith(".Flatten") and layers[-1].shape != shape:
        layers.append(Flatten(shape))
    try:
        return NetworkDescription(tuple(layers))
    except DescriptionError as error:
        raise ExportError(f"Not exported: {error}") from None


def _check_nothing(context: BlockContext, layers: list[Layer]) -> None:
    """Stands for ``check_block`` where delays were changed, so that a block would not do what was read."""


def _composed(before: IntArray | None, after: IntArray | None) -> IntArray | None:
    """One order of values after another; None is the order in which they are."""
    if before is None or after is None:
        return after if before is None else before
    return before[after]


def _is_flat(layer: Layer) -> bool:
    """Whether netx sees the layer's output as a vector, whatever shape it has in SLAYER."""
    return not isinstance(layer, Conv) and (len(layer.shape) == 1 or isinstance(layer, SpikingLayer))


def _per_value(layer: Layer) -> IntArray | None:
    if not isinstance(layer, SpikingLayer) or layer.axon_delay is None:
        return None
    return np.repeat(layer.axon_delay, int(np.prod(layer.shape[1:])))


def _refuse_unsupported(index: int, block: Block) -> None:
    if index == 0 and kind(block) in _INPUTS:
        if block.neuron is not None and family(block) not in ("cuba", "sigma_delta"):
            refuse(0, block, "only cuba neurons can encode the input", "Use cuba.Input, or give spikes.")
        return
    if kind(block) in _READERS:
        return
    refuse(index, block, *_REFUSALS.get(family(block), _BLOCK_REFUSALS.get(kind(block).partition(".")[2], _UNKNOWN)))


def _refuse_precision(index: int, block: Block) -> None:
    for name, values in (*block.named_parameters(), *block.named_buffers()):
        if values.dtype in (torch.bfloat16, torch.float16):
            reason = f"its `{name}` is {values.dtype}, in which SLAYER's sums are rounded, and Loihi's are not"
            refuse(index, block, reason, "Call net.float(), and evaluate the network so.")


def refuse_not_finite(index: int, block: Block) -> None:
    """Refuse parameters and buffers that hold NaN or infinity."""
    for name, values in (*block.named_parameters(), *block.named_buffers()):
        if not bool(torch.isfinite(values.detach()).all()):
            refuse(index, block, f"its `{name}` is not finite", "Go back to parameters from before training failed.")


def _refuse_options(index: int, block: Block) -> None:
    """Refuse options on which lava-dl's own forward fails, or which a file cannot express."""
    neuron: Any = getattr(block, "neuron", None)
    sends_changes = hasattr(neuron, "delta") and kind(block) not in SUMS
    mask = getattr(block, "mask", None)
    unsupported = {
        "lava-dl itself cannot run count_log=True": (
            getattr(block, "count_log", False),
            "Use count_log=False, and count what the block returns.",
        ),
        "lava-dl itself cannot run an Input that has no neuron and delays": (
            kind(block) in _INPUTS and neuron is None and block.delay_shift is True,
            "Use delay_shift=False.",
        ),
        "SLAYER multiplies its weights by its mask at each forward again, and that holds more than 0 and 1": (
            mask is not None and not bool(((mask == 0) | (mask == 1)).all()),
            "Use a mask of 0 and 1.",
        ),
        "netx ignores cum_error": (sends_changes and neuron.delta.cum_error, "Use cum_error=False."),
    }
    for reason, (found, advice) in unsupported.items():
        if found:
            refuse(index, block, reason, advice)


def _refuse_lazy(index: int, block: Block) -> None:
    """Refuse a network whose trained parameters have not been made yet: they would be random."""
    neuron = getattr(block, "neuron", None)
    lazy = []
    if getattr(block, "delay", None) is not None and not block.delay.init:
        lazy.append("axonal delays")
    sums_only = kind(block) in SUMS  # an Output has thresholds that it never uses
    if neuron is not None and not sums_only and not neuron.shared_param and neuron.shape is None:
        lazy.append("per-neuron thresholds" if family(block) == "sigma_delta" else "per-neuron decays")
    if lazy:
        refuse(
            index,
            block,
            f"its {' and '.join(lazy)} are made at the first forward, and this network never ran one",
            "Run the network forward once before you train it and before load_state_dict.",
        )


def _refuse_decays_along_the_width(index: int, block: Block) -> None:
    """Refuse decays per channel on images, which SLAYER on a CPU takes for decays per column."""
    neuron: Any = getattr(block, "neuron", None)
    if neuron is None or neuron.shape is None or len(neuron.shape) == 1:
        return
    decays = [torch.round(getattr(neuron, name)) for name in _DECAYS if hasattr(neuron, name)]
    if any(decay.device.type == "cpu" and bool((decay != decay[0]).any()) for decay in decays):
        refuse(
            index,
            block,
            "SLAYER on a CPU applies decays per channel along the width of an image, not along its channels",
            "Use shared_param=True in this block, or export on the GPU that it was trained on.",
        )


def _input_shape(block: Block) -> tuple[int, ...]:
    """The shape of a first block's input, of a network that runs without a sample."""
    if getattr(block, "input_shape", None) is not None:
        return tuple(int(size) for size in block.input_shape)
    if not kind(block).endswith((".Dense", ".Recurrent", ".KWTA", ".Output")):
        refuse(0, block, "the shape of its input is not known", "Give a sample of the network's input, which shows it.")
    synapse: Any = getattr(block, "input_synapse", None) or block.synapse
    weight = getattr(synapse, "real", synapse).weight
    shape = tuple(int(size) for size in weight.shape[1:-1])
    return shape[:1] if shape[1:] == (1, 1) else shape


def _read_input(block: Block, shape: tuple[int, ...]) -> Input:
    if not kind(block).endswith(".Input"):
        return Input(shape, delay_shift=False)
    if block.neuron is None:
        return Input(shape, block.delay_shift is True)
    context = BlockContext(0, block, shape, False, True)
    if not passes_over_norm(block):
        refuse_norm(context)
    scale = block.neuron.w_scale
    if scale != WEIGHT_SCALE:
        refuse(
            0, block, f"its neurons have the scale {scale}", f"Use the default scale of {WEIGHT_SCALE} in this block."
        )
    if block.pre_hook_fx != block.neuron.quantize_8bit:
        refuse(0, block, "it does not quantise its input as SLAYER does", "Use pre_hook_fx=neuron.quantize_8bit.")
    weight, bias = (
        default if parameter is None else int(torch.round(block.pre_hook_fx(parameter.detach(), descale=True)).item())
        for parameter, default in ((block.weight, scale), (block.bias, 0))
    )
    if family(block) == "sigma_delta":  # the forward of its Input never shifts
        return Input(shape, False, Encoder(sigma_delta_neuron(context, activates=False), weight, bias))
    return Input(shape, block.delay_shift is True, Encoder(cuba_neuron(context), weight, bias))


def _neuron(context: BlockContext, repeats: int = 1) -> CubaNeuron | SigmaDeltaNeuron:
    if kind(context.block) in SUMS:
        return sums_neuron(context)
    if family(context.block) == "sigma_delta":
        return sigma_delta_neuron(context)
    return cuba_neuron(context, repeats=repeats)


def _read_flatten(context: BlockContext) -> list[Layer]:
    return [] if context.flat else [Flatten((context.size,))]


def _read_dense(context: BlockContext) -> list[Layer]:
    weight = weights(context, context.block.synapse)
    return _dense_layers(context, weight.reshape(len(weight), -1), _own_shape(context.block, len(weight)))


def _read_as_dense(context: BlockContext) -> list[Layer]:
    """A block without a counterpart in netx, as the matrix of its weights."""
    return _dense_layers(context, *matrix(context, context.block.synapse))


def _dense_layers(context: BlockContext, weight: IntArray, shape: tuple[int, ...]) -> list[Layer]:
    neuron = _neuron(context, repeats=len(weight) // shape[0])
    weight, norm_bias = fold_norm(context, weight)
    bias = add_set_bias(context, norm_bias, shape)
    own_delay = axon_delay(context)
    # A delay on the way in would not delay the bias, so beside a bias the delay has to be made behind the neuron.
    delay_on_the_way_in = bias is None and len(weight) == shape[0]
    layer = Dense(
        weight=context.as_made(weight),
        neuron=neuron,
        delay=combined_delay(context, weight.shape, own_delay if delay_on_the_way_in else None),
        bias=bias,
        delay_shift=context.block.delay_shift is True,
        axon_delay=None if delay_on_the_way_in else own_delay,
        output_shape=None if shape == (len(weight),) else shape,
    )
    return [*_flattened(context, weight), layer]


def _read_recurrent(context: BlockContext) -> list[Layer]:
    block = context.block
    weight = weights(context, block.input_synapse)
    # The recurrence reads the attribute itself: weight norm's hook, which would renew it, runs on a call only.
    recurrent = weights(context, block.recurrent_synapse, block.recurrent_synapse.weight)
    return _recurrent_layers(context, weight.reshape(len(weight), -1), recurrent.reshape(len(recurrent), -1))


def _read_kwta(context: BlockContext) -> list[Layer]:
    block = context.block
    weight = weights(context, block.synapse)
    recurrent = integers(context, kwta_feedback(block))
    return _recurrent_layers(context, weight.reshape(len(weight), -1), recurrent, _winners_current(context))


def _winners_current(context: BlockContext) -> int:
    """The constant current that sets the number of winners."""
    block, neuron = context.block, context.block.neuron
    size, winners = block.num_neurons, block.num_winners
    current = torch.tensor([neuron.threshold * (size - 2 * winners) / size / neuron.w_scale])
    return int(integers(context, neuron.quantize_8bit(current))[0])


def _recurrent_layers(
    context: BlockContext, weight: IntArray, recurrent_weight: IntArray, current: int = 0
) -> list[Layer]:
    context.refuse_input_delay("a recurrent layer")
    joined, bias = fold_norm(context, np.hstack([weight, recurrent_weight]))
    if current:
        bias = np.array([current]) + (0 if bias is None else bias)
        refuse_bias(context, bias)
    neuron = cuba_neuron(context)
    if bias is not None and (neuron.current_decay != UNITY_DECAY).any():
        # The state that a recurrent block keeps is the current behind the norm: the norm acts like input.
        refuse(
            context.index,
            context.block,
            "its norm or number of winners makes a constant current, and netx has only a bias on the voltage",
            "Use current_decay=1, where the two are the same; or no norm, and half of the neurons as winners.",
        )
    layer = Recurrent(
        weight=context.as_made(joined[:, : weight.shape[1]]),
        recurrent_weight=joined[:, weight.shape[1] :],
        neuron=neuron,
        bias=None if bias is None else np.broadcast_to(bias, len(weight)).copy(),
        delay_shift=context.block.delay_shift is True,
        axon_delay=axon_delay(context),
    )
    return [*_flattened(context, weight), layer]


def _read_conv(context: BlockContext) -> list[Layer]:
    if not context.convolves:
        return _read_as_dense(context)
    synapse = context.block.synapse
    pairs = {name: _pair(getattr(synapse, name)) for name in ("stride", "padding", "dilation")}
    return _conv_layers(context, weights(context, synapse)[..., 0], pairs, int(synapse.groups))


def _read_pool(context: BlockContext) -> list[Layer]:
    found = pool_kernel(context, context.block.synapse) if context.convolves else None
    if found is None:
        return _read_as_dense(context)
    kernel, pairs = found
    return _conv_layers(context, kernel, pairs, groups=context.shape[0])


def _conv_layers(
    context: BlockContext, weight: IntArray, pairs: dict[str, tuple[int, int]], groups: int
) -> list[Layer]:
    context.refuse_input_delay("a convolution")
    neuron = _neuron(context)
    weight, bias = fold_norm(context, weight)
    weight, groups = fewer_groups(weight, groups) if context.order is None else _reordered(context, weight, groups)
    largest = max(max(pair) for pair in (*pairs.values(), weight.shape[2:]))
    if largest > MAX_CONV_SIZE:
        refuse(
            context.index,
            context.block,
            f"a kernel size, stride, padding or dilation of {largest} overflows Lava's 8-bit variables",
            f"The limit is {MAX_CONV_SIZE}.",
        )
    if weight.min() < MIN_WEIGHT or weight.max() > MAX_WEIGHT:
        low, high = weight.min(), weight.max()
        refuse(
            context.index,
            context.block,
            f"its weights reach from {low} to {high}",
            f"Loihi holds {MIN_WEIGHT} to {MAX_WEIGHT}.",
        )
    layer = Conv(
        weight=weight,
        neuron=neuron,
        input_shape=context.shape,
        groups=groups,
        bias=None,
        delay_shift=context.block.delay_shift is True,
        axon_delay=axon_delay(context),
        **pairs,
    )
    return [replace(layer, bias=_bias_per_channel(context, bias, layer.shape))]


def _reordered(context: BlockContext, weight: IntArray, groups: int) -> tuple[IntArray, int]:
    """Kernels for channels in the order in which the block before made them, in one group."""
    ungrouped, one = fewer_groups(weight, groups, most=1)
    assert context.channel_order is not None
    return ungrouped[:, np.argsort(context.channel_order)], one


def _bias_per_channel(context: BlockContext, bias: IntArray | None, shape: tuple[int, ...]) -> IntArray | None:
    neurons = add_set_bias(context, bias, shape)
    if neurons is None:
        return None
    channels = neurons.reshape(shape[0], -1)
    if (channels != channels[:, :1]).any():
        refuse(
            context.index,
            context.block,
            "its bias differs among the neurons of a channel, and that of a convolution is exported per channel only",
            "Call set_bias with one number for each channel, of shape (channels, 1, 1).",
        )
    return channels[:, 0].copy()


def _read_resonator(context: BlockContext) -> list[Layer]:
    synapse = context.block.synapse
    parts = [weights(context, part) for part in (synapse.real, synapse.imag)]
    real, imaginary = (part.reshape(len(part), -1) for part in parts)
    return _resonator_layers(context, real, imaginary, _own_shape(context.block, len(real)))


def _read_resonator_as_dense(context: BlockContext) -> list[Layer]:
    synapse = context.block.synapse
    (real, shape), (imaginary, _) = (matrix(context, part) for part in (synapse.real, synapse.imag))
    return _resonator_layers(context, real, imaginary, shape)


def _resonator_layers(
    context: BlockContext, real: IntArray, imaginary: IntArray, shape: tuple[int, ...]
) -> list[Layer]:
    context.refuse_input_delay("a layer of resonators")
    refuse_norm(context)
    layer = Resonator(
        weight=context.as_made(real),
        imaginary_weight=context.as_made(imaginary),
        neuron=resonator_neuron(context, repeats=len(real) // shape[0]),
        delay_shift=context.block.delay_shift is True,
        axon_delay=axon_delay(context),
        output_shape=None if shape == (len(real),) else shape,
    )
    return [*_flattened(context, real), layer]


def _read_average(context: BlockContext) -> list[Layer]:
    if context.order is not None:
        refuse(
            context.index,
            context.block,
            "it takes the mean of groups of values that come in another order than the block before made them",
            "Let the block before it make them in that order.",
        )
    return [Average((int(context.block.num_outputs),))]


def _read_affine(context: BlockContext) -> list[Layer]:
    block = context.block
    refuse_norm(context)
    weight = weights(context, block.synapse)
    dynamics = block.dynamics and not is_bootstrap(block)  # a bootstrap Affine has none, whatever it says
    neuron = cuba_neuron(context, threshold=0) if dynamics else None
    if dynamics:
        refuse_constant(context, "_threshold", block.neuron._threshold, -1)
    return [Affine(context.as_made(weight.reshape(len(weight), -1)), neuron, int(block.neuron.w_scale))]


def _flattened(context: BlockContext, weight: IntArray) -> list[Layer]:
    """What has to come before a dense layer with these weights: nothing, or a Flatten."""
    if weight.shape[1] != context.size:
        refuse(
            context.index,
            context.block,
            f"its {weight.shape[1]} inputs do not fit what comes in, {'x'.join(map(str, context.shape))}",
            "Put a Flatten block before it.",
        )
    return [] if context.flat else [Flatten((context.size,))]


def _own_shape(block: Block, size: int) -> tuple[int, ...]:
    """Shape of a dense block's output: after a block without Flatten, it keeps two axes of length 1."""
    return (size,) if block.neuron.shape is None else tuple(int(length) for length in block.neuron.shape)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return int(values[0]), int(values[1])


_DECAYS = ("current_decay", "voltage_decay", "sin_decay", "cos_decay")
_ON_IMAGES = (".Input", ".Conv", ".ConvT", ".Pool", ".Unpool")
_IMAGE_SIZES = (16, 64)  # for a chain of unknown input: small ones cost little, and some chains need large ones
_INPUTS = {"cuba.Input", "rf.Input", "rf_iz.Input", "sigma_delta.Input"}
_ONE_FAMILY = "Use sigma_delta blocks only, or none."
SUMS = {"sigma_delta.Output", "head.Conv", "head.Dense"}
_READERS: dict[str, Callable[[BlockContext], list[Layer]]] = {
    **{f"{name}.Flatten": _read_flatten for name in ("cuba", "rf", "rf_iz", "sigma_delta")},
    **{f"{name}.Average": _read_average for name in ("cuba", "rf", "rf_iz")},
    "cuba.Affine": _read_affine,
    "cuba.Dense": _read_dense,
    "cuba.Conv": _read_conv,
    "cuba.Pool": _read_pool,
    "cuba.ConvT": _read_as_dense,
    "cuba.Unpool": _read_as_dense,
    "cuba.Recurrent": _read_recurrent,
    "cuba.KWTA": _read_kwta,
    "sigma_delta.Dense": _read_dense,
    "sigma_delta.Output": _read_dense,
    "sigma_delta.Conv": _read_conv,
    "head.Conv": _read_conv,
    "head.Dense": _read_dense,
    **{f"sigma_delta.{name}": _read_as_dense for name in ("Pool", "ConvT", "Unpool")},
    **{f"{name}.Dense": _read_resonator for name in ("rf", "rf_iz")},
    **{
        f"{name}.{block}": _read_resonator_as_dense
        for name in ("rf", "rf_iz")
        for block in ("Conv", "Pool", "ConvT", "Unpool")
    },
}
# Reason and advice, by family of neurons and by block.
_REFUSALS = {
    "alif": ("netx cannot load adaptive thresholds", "Use cuba blocks."),
    "adrf": ("netx would load it as resonators without adaptation", "Use rf blocks."),
    "adrf_iz": ("netx would load it as resonators without adaptation", "Use rf_iz blocks."),
}
_BLOCK_REFUSALS = {
    "Average": ("netx has no average of graded changes", "Take the average of what the network gives out."),
    "Input": ("an Input makes sense only at the start of a network", "Remove it."),
    "TimeDecimation": ("netx has no layer that merges steps", "Merge the steps of the data beforehand."),
    "KWTA": ("netx has no recurrent layer of resonators", "Use cuba.KWTA."),
    "Recurrent": ("netx has no recurrent layer of resonators", "Use cuba.Recurrent."),
}
_UNKNOWN = ("this block is not known", "Use the blocks of lava.lib.dl.slayer.block.cuba.")
