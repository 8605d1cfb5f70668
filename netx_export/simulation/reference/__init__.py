"""The reference simulator: a netx network in Lava's fixed-point arithmetic, for whole batches, in torch.

Each layer runs in local time, of which step 0 is the first step at which anything of a sample can reach its neurons. In
local time, the synaptic input of a layer at step t is its weights times the spikes that the layer before sent at step
t: the synapses of a layer are one product over the whole sequence, and only the neurons go step by step. The steps by
which Lava and SLAYER shift the output of each layer are applied afterwards, in ``simulate``.

The synapses of a layer are in :mod:`~netx_export.simulation.reference.synapses`, its neurons in
:mod:`~netx_export.simulation.reference.neurons`. Their inner loops exist in torch, for every device, and compiled by
numba, for a CPU (:mod:`~netx_export.simulation.reference.compiled`).

Tensors are time first inside, ``(T, N, C, ...)``, but stored sample by sample, ``(N, T, C, ...)``: in each step the
neurons of a sample lie side by side, and a sample is transposed from and to the outer ``(N, C, ..., T)`` within the
processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch

from netx_export.errors import SimulationError
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Flatten,
    NetworkDescription,
    Recurrent,
    Resonator,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.fixed_point import ALIGNMENT
from netx_export.network.peaks import Peak
from netx_export.network.stock_loader import load_dense_weights
from netx_export.simulation.reference.loops import compiled_loops, in_parallel, one_thread
from netx_export.simulation.reference.neurons import (
    CubaStates,
    decayed,
    integrate_and_fire,
    membrane_potentials,
    resonate_and_fire,
    send_changes,
    sigma_delta,
)
from netx_export.simulation.reference.synapses import (
    dense_synapses,
    message_synapses,
    recurrent_sums,
    spike_synapses,
)
from netx_export.simulation.reference.tracking import Track, track

__all__ = [
    "CubaStates",
    "chunk_size",
    "compiled_loops",
    "decayed",
    "in_parallel",
    "integrate_and_fire",
    "one_thread",
    "peaks",
    "prepare",
    "run",
    "send_changes",
]

_Stage: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"

# Working memory per chunk of samples; on a CPU small enough for the states to stay in its cache. The compiled loops
# take little time per call, and there is a chunk on each thread.
_CHUNK_BYTES = {"compiled": 2**25, "cpu": 2**28, "cuda": 2**31}
_BYTES_PER_SPIKE = 12
_BYTES_PER_MESSAGE = 64


def chunk_size(description: NetworkDescription, steps: int, device: torch.device) -> int:
    """Samples to simulate at a time, so that the working memory is bounded for any number of samples."""
    shapes = [description.input_shape, *(layer.shape for layer in description.spiking.values())]
    largest = max(int(torch.Size(shape).numel()) for shape in shapes)
    size = largest * steps * (_BYTES_PER_MESSAGE if description.graded else _BYTES_PER_SPIKE)
    loops = "compiled" if compiled_loops(device) else device.type
    return max(1, _CHUNK_BYTES.get(loops, _CHUNK_BYTES["cpu"]) // size)


def prepare(description: NetworkDescription, device: torch.device) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    """Load a network's weights for a device, once for many batches: a function that does what :func:`run` does."""
    names = iter(description.spiking)
    stages: list[tuple[str | None, _Stage]] = []
    for layer in description.layers:
        if isinstance(layer, Flatten):
            stages.append((None, _flatten))
        elif isinstance(layer, SpikingLayer):
            name = next(names)
            start = _bias_start(description, name)
            if description.reads_voltage and name == list(description.spiking)[-1]:
                stages.append((name, _readout(layer, start, device)))
            else:
                stages.append((name, _layer(layer, start, device, description.fraction_bits)))
    return partial(_run_stages, stages)


def _flatten(frames: torch.Tensor) -> torch.Tensor:
    return frames.flatten(2)


def _run_stages(stages: list[tuple[str | None, _Stage]], spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    layers: dict[str, torch.Tensor] = {}
    frames = spikes.movedim(-1, 1).contiguous().transpose(0, 1)
    for name, stage in stages:
        frames = stage(frames)
        if name is not None:
            layers[name] = frames.movedim(0, -1)
    return layers


def run(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Simulate a batch from rest.

    Args:
        description: the network.
        spikes: binary input ``(N, C, ..., T)``, uint8 or bool, or messages, int32, on the device to run on, beginning
            with ``description.lead`` empty steps, in which a bias may act already.

    Returns:
        For each spiking layer its spikes ``(N, C, ..., T)``, uint8, in local time; for sigma-delta neurons their
        messages or sums, int32.
    """
    return prepare(description, spikes.device)(spikes)


def _bias_start(description: NetworkDescription, name: str) -> int:
    return description.lead - description.bias_starts.get(name, 0)


def peaks(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, tuple[Peak, ...]]:
    """How far each layer's numbers go on a batch from rest, as far as they have a limit.

    Args:
        description: the network.
        spikes: as for :func:`run`.

    Returns:
        For each spiking layer: current and voltage of CUBA neurons, of a readout the voltages below and above zero; the
        larger part of a resonator's state; the sum of a step's messages and the state of sigma-delta neurons, the
        latter also as float32 holds it in SLAYER.
    """
    tracks: dict[str, list[Track]] = {}
    for chunk in spikes.split(chunk_size(description, spikes.shape[-1], spikes.device)):
        for name, found in _tracks(description, chunk).items():
            pairs = zip(tracks[name], found, strict=True) if name in tracks else ((one, one) for one in found)
            tracks[name] = [one.joined(other) for one, other in pairs]
    shifts = {name: shift - description.lead for name, shift in description.shifts.items()}
    return {name: tuple(one.peak(shifts[name]) for one in found) for name, found in tracks.items()}


def _tracks(description: NetworkDescription, spikes: torch.Tensor) -> dict[str, list[Track]]:
    frames = spikes.movedim(-1, 0)
    found = {}
    readout = list(description.spiking)[-1] if description.reads_voltage else None
    for name, raster in run(description, spikes).items():
        sent = raster.movedim(-1, 0)
        start, read = _bias_start(description, name), name == readout
        found[name] = track(description.spiking[name], start, frames, sent, description.fraction_bits, read=read)
        frames = sent
    return found


def _layer(layer: SpikingLayer, bias_start: int, device: torch.device, fraction_bits: int) -> _Stage:
    """A layer as a function from its input to what its neurons send, both time first."""
    graded = isinstance(layer.neuron, SigmaDeltaNeuron)
    stage = (
        _graded_layer(layer, bias_start, device, fraction_bits) if graded else _spiking_layer(layer, bias_start, device)
    )

    def checked(frames: torch.Tensor) -> torch.Tensor:
        _refuse_mixture(layer, frames)
        return stage(frames).reshape(*frames.shape[:2], *layer.shape)

    return checked


def _graded_layer(layer: SpikingLayer, bias_start: int, device: torch.device, fraction_bits: int) -> _Stage:
    assert isinstance(layer, Dense | Conv)  # there are no others
    assert isinstance(layer.neuron, SigmaDeltaNeuron)
    sums, neuron, bias = message_synapses(layer, device), layer.neuron, layer.bias
    return lambda frames: sigma_delta(neuron, bias, bias_start, sums(frames), fraction_bits)


def _spiking_layer(layer: SpikingLayer, bias_start: int, device: torch.device) -> _Stage:
    if isinstance(layer, Resonator):
        resonator = layer.neuron
        real, imag = (dense_synapses(load_dense_weights(w), device) for w in (layer.weight, layer.imaginary_weight))
        return lambda frames: resonate_and_fire(resonator, real(frames), imag(frames))
    assert isinstance(layer.neuron, CubaNeuron)
    sums, neuron, bias = spike_synapses(layer, device), layer.neuron, layer.bias
    feedback = recurrent_sums(layer, device) if isinstance(layer, Recurrent) else None
    return lambda frames: integrate_and_fire(sums(frames), neuron, bias, bias_start, feedback, ALIGNMENT)


def _readout(layer: SpikingLayer, bias_start: int, device: torch.device) -> _Stage:
    """A last layer that is read by its membrane potential."""
    assert isinstance(layer, Dense)
    assert isinstance(layer.neuron, CubaNeuron)
    sums, neuron, bias = spike_synapses(layer, device), layer.neuron, layer.bias
    return lambda frames: membrane_potentials(sums(frames), neuron, bias, bias_start, ALIGNMENT).reshape(
        *frames.shape[:2], *layer.shape
    )


def _refuse_mixture(layer: SpikingLayer, frames: torch.Tensor) -> None:
    sigma_delta = isinstance(layer.neuron, SigmaDeltaNeuron)
    if sigma_delta != (frames.dtype == torch.int32):
        raise SimulationError(
            "Sigma-delta neurons are not simulated here together with spikes; such a file can be read and checked "
            "only. All layers have to be of sigma-delta neurons, the input layer included."
        )
