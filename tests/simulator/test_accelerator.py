"""The reference simulator on an accelerator: what it waits for is known, and does not grow with batch or layer.

By design the host waits for the number of spikes that enter a layer, which decides how their weights are summed up,
and for the range of the sums, which decides whether a state can overflow. A recurrent layer sums up its own spikes at
every step. Weights and parameters are copied to the device, and the spikes of each layer from it.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from accelerator import DEVICE, Accelerator

from netx_export import NetworkDescription, Simulator
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    Input,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.simulation import reference
from netx_export.simulation.inputs import network_input

STEPS = 7
CUBA = CubaNeuron(200, np.array([1024]), np.array([128]))
WEIGHT = np.full((5, 12), 20)
LAYERS = {
    "dense": Dense(WEIGHT, CUBA, bias=np.arange(5)),
    "dense, delays of neurons": Dense(WEIGHT, CUBA, delay=np.arange(5)),
    "dense, delays of inputs": Dense(WEIGHT, CUBA, delay=np.arange(12)),
    "dense, delays of synapses": Dense(WEIGHT, CUBA, delay=np.arange(60).reshape(5, 12) % 3),
    "dense, wide weights": Dense(WEIGHT * 1000 + 1, CUBA),
    "convolution": Conv(np.full((4, 3, 2, 2), 20), CUBA, (3, 2, 2), bias=np.arange(4)),
    "recurrent": Recurrent(WEIGHT, np.full((5, 5), -20), CUBA),
    "resonator": Resonator(
        WEIGHT, WEIGHT, ResonatorNeuron(200, np.array([1000]), np.array([3900]), "phase"), output_shape=(5,)
    ),
    "resonator with reset": Resonator(
        WEIGHT, WEIGHT, ResonatorNeuron(200, np.array([1000]), np.array([3900]), "izhikevich"), output_shape=(5,)
    ),
    "sigma-delta": Dense(WEIGHT, SigmaDeltaNeuron(5), bias=np.arange(5), delay_shift=False),
    "sigma-delta convolution": Conv(np.full((4, 3, 2, 2), 20), SigmaDeltaNeuron(5), (3, 2, 2), delay_shift=False),
}


def network(layer: SpikingLayer) -> NetworkDescription:
    shape = layer.input_shape if isinstance(layer, Conv) else (12,)
    graded = isinstance(layer.neuron, SigmaDeltaNeuron)
    encoder = Encoder(SigmaDeltaNeuron(2)) if graded else None
    return NetworkDescription((Input(shape, False, encoder), layer))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_runs_on_the_device_of_its_input(name: str) -> None:
    description = network(LAYERS[name])
    spikes = torch.ones(2, *description.input_shape, STEPS, device=DEVICE)
    with Accelerator():
        (raster,) = reference.run(description, network_input(description, spikes)).values()
    assert raster.device == DEVICE
    assert raster.shape == (2, *LAYERS[name].shape, STEPS)
    assert raster.dtype == (torch.int32 if description.graded else torch.uint8)


def waits_of_two_layers(samples: int, steps: int, second: SpikingLayer) -> Counter[str]:
    """Of a run with weights that are there already."""
    first = Conv(np.full((4, 3, 2, 2), 20), CUBA, (3, 4, 4))
    description = NetworkDescription((Input((3, 4, 4), False), first, Flatten((36,)), second))
    run = reference.prepare(description, DEVICE)
    spikes = torch.ones(samples, 3, 4, 4, steps, dtype=torch.uint8, device=DEVICE)
    with Accelerator():
        run(spikes)  # weights are laid out at the first run
    with Accelerator() as accelerator:
        run(spikes)
    return accelerator.waits


def test_the_host_waits_for_one_count_of_spikes_and_one_range_of_each_layer() -> None:
    dense = Dense(np.full((5, 36), 20), CUBA)
    for samples, steps in ((2, 7), (5, 20)):
        found = waits_of_two_layers(samples, steps, dense)
        assert found["shape"] == 1  # a convolution needs no count
        assert found["value"] == 2 * 2  # lowest and highest


def test_a_recurrent_layer_waits_at_every_step() -> None:
    recurrent = Recurrent(np.full((5, 36), 20), np.full((5, 5), -20), CUBA)
    for samples, steps in ((2, 7), (5, 20)):
        assert waits_of_two_layers(samples, steps, recurrent)["shape"] == steps


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_input_and_output_are_waited_for_once_for_all_samples(dtype: torch.dtype) -> None:
    description = network(LAYERS["dense"])

    def waits(samples: int) -> Counter[str]:
        with Accelerator() as accelerator:
            spikes = torch.ones(samples, 12, STEPS, dtype=dtype, device=DEVICE)
            layers = Simulator(description)(spikes).layers
        assert [layer.shape for layer in layers.values()] == [(samples, 5, STEPS)]
        return accelerator.waits

    assert waits(2) == waits(9)
