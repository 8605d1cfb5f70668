"""A block by itself on random input: does it do what was read from it?

Reading trusts attributes, and a hook, a changed method or a changed constant can make a block do something else, at
places that a sample may not reach. Here each block is called on spikes of many rates and held against the reference
simulator of just what was read, whether there is a sample or not.
"""

from __future__ import annotations

import numpy as np
import torch

from lava_spikeloss.training import reset_net
from netx_export.errors import DescriptionError, ExportError
from netx_export.network.description import (
    HostLayer,
    Input,
    Layer,
    NetworkDescription,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.exact_weights import loadable
from netx_export.network.fixed_point import MESSAGE_SCALE
from netx_export.simulation import host, reference
from netx_export.simulation.simulate import run_layers
from netx_export.slayer.blocks import family, kind, refuse
from netx_export.slayer.passes import random_events, random_numbers
from netx_export.slayer.reading import BlockContext
from netx_export.slayer.running import forward

__all__ = ["check_block"]

_RATES = (0.2, 0.5, 0.05, 0.3, 0.1, 0.7, 0.02, 0.95)  # of a probe's samples; of a large image the first ones only
_STEPS = 32
_MAX_VALUES = 2**22  # of a probe, or of what the block makes of it: fewer samples of a large image
_QUIET = 0.25  # factor for the input of sigma-delta neurons, with which float32 holds their states exactly


def check_block(context: BlockContext, layers: list[Layer]) -> None:
    """Run a block, and what was read from it, on random input; inside of an ``evaluation``.

    Raises:
        ExportError: if the two differ.
    """
    chain = tuple(layers) if layers and isinstance(layers[0], Input) else (Input(context.shape, False), *layers)
    try:
        network = _with_neurons(chain)
    except (DescriptionError, ExportError):
        return  # the whole network will be refused for the same reason, with the layer's name in the message
    probe = _probe(context, size=max(context.size, int(np.prod(chain[-1].shape))))
    reset_net(context.block)
    made = forward(context.block, probe).to("cpu", torch.float64)
    expected = _on_host(chain, probe) if network is None else _simulated(network, probe)
    differing = (made != expected.to(torch.float64).reshape(made.shape)).numpy()
    if not differing.any():
        return
    beyond = [
        sample for sample in range(len(probe)) if network and not _stays_in_range(network, probe[sample : sample + 1])
    ]
    differing[beyond] = False
    if differing.any():
        refuse(
            context.index,
            context.block,
            f"run by itself on random input, {np.count_nonzero(differing)} of {differing.size} values that it makes "
            f"are not those of its weights and neuron parameters",
            "A hook, a changed method or a changed attribute makes it do something else: take that away, or load its "
            "trained parameters into a block made anew.",
        )


def _probe(context: BlockContext, size: int) -> torch.Tensor:
    """Spikes of many rates, or numbers, or changes of both signs: what the block may get.

    Args:
        context: the block.
        size: values of a step in what goes in or comes out, whichever is more.
    """
    samples = int(np.clip(_MAX_VALUES // (size * _STEPS), 1, len(_RATES)))
    shape = (samples, *context.shape, _STEPS)
    random = torch.Generator().manual_seed(0)
    if kind(context.block).endswith(".Input") and context.block.neuron is not None:
        return random_numbers(random, shape)
    rates = torch.tensor(_RATES[:samples]).reshape(-1, *[1] * (len(shape) - 1))
    events = random_events(random, shape, rates)
    return events * random_numbers(random, shape) * _QUIET if family(context.block) == "sigma_delta" else events


def _with_neurons(chain: tuple[Layer, ...]) -> NetworkDescription | None:
    """The network that a file would hold of these layers; None if none of them has neurons."""
    has_neurons = any(isinstance(layer, SpikingLayer) for layer in chain)
    return loadable(NetworkDescription(chain)) if has_neurons else None


def _simulated(network: NetworkDescription, probe: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(list(run_layers(network, _frames(network, probe)).values())[-1])


def _on_host(chain: tuple[Layer, ...], probe: torch.Tensor) -> torch.Tensor:
    """What an input layer, a flatten layer or a readout makes of the input."""
    first, last = chain[0], chain[-1]
    values = _encoded(first, probe) if isinstance(first, Input) else probe
    if isinstance(last, HostLayer):
        return torch.from_numpy(host.read_out(last, values.to(torch.uint8).numpy()))
    return values


def _encoded(layer: Input, values: torch.Tensor) -> torch.Tensor:
    """What leaves an input layer."""
    if layer.encoder is not None:
        events = host.encode(layer.encoder, values)
        values = events / MESSAGE_SCALE if isinstance(layer.encoder.neuron, SigmaDeltaNeuron) else events
    return torch.nn.functional.pad(values, (1, -1)) if layer.delay_shift else values


def _stays_in_range(description: NetworkDescription, sample: torch.Tensor) -> bool:
    """Whether no number leaves its limits on the chip or in SLAYER, where the two need not agree."""
    peaks = reference.peaks(description, _frames(description, sample))
    return not any(peak.exceeded for layer in peaks.values() for peak in layer)


def _frames(description: NetworkDescription, values: torch.Tensor) -> torch.Tensor:
    """What enters the first layer, as the reference simulator takes it."""
    return (values * MESSAGE_SCALE).to(torch.int32) if description.graded else values.to(torch.uint8)
