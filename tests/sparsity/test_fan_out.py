"""The fan-out of every neuron: counted by probing, and the same in a network and in the file that it becomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slayer_nets import CUBA, RESONATOR

from lava_spikeloss import SpikeStatistics, fan_out
from lava_spikeloss.activity.fan_out import feedback_fan_out
from lava_spikeloss.slayer_blocks import synapses
from netx_export import NetworkDescription
from netx_export.network.description import Conv, CubaNeuron, Input
from netx_export.network.fan_out import fan_outs
from netx_export.slayer import describe

SHAPE = (2, 6, 7)
CONVOLUTIONS = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 2)),
        "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "groups": st.sampled_from([1, 2]),
    }
)


def prune(net: torch.nn.Module, kept: float) -> None:
    """Weights on both sides of what rounds to zero, of which about ``kept`` are not zero."""
    for name, weight in net.named_parameters():
        if name.endswith("weight") and weight.requires_grad:
            weight.data = (torch.rand_like(weight) < kept) * torch.randn_like(weight) * torch.rand_like(weight) ** 2


def count_by_probing(synapse: torch.nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """Fan-out of each input: send one spike, and add up how many outputs it reaches through positive weights."""
    counts = torch.zeros(shape, dtype=torch.long)
    for index in np.ndindex(*shape):
        x = torch.zeros(1, *shape, 1)
        x[(0, *index, 0)] = 1
        counts[index] = (synapse(x) != 0).sum()
    return counts


@pytest.mark.slayer
@settings(max_examples=40)
@given(options=CONVOLUTIONS, kind=st.sampled_from(["Conv", "ConvTranspose"]), seed=st.integers(0, 99))
def test_fan_out_of_convolutions(options: dict[str, Any], kind: str, seed: int) -> None:
    import lava.lib.dl.slayer as slayer

    torch.manual_seed(seed)
    synapse = getattr(slayer.synapse, kind)(2, 4, **options)
    synapse.weight.data = (torch.rand_like(synapse.weight) < 0.6) * torch.rand_like(synapse.weight)
    assert torch.equal(fan_out(synapse, SHAPE), count_by_probing(synapse, SHAPE))


@pytest.mark.slayer
@pytest.mark.parametrize("complex_synapse", [False, True])
def test_fan_out_sees_quantised_weights(complex_synapse: bool) -> None:
    import lava.lib.dl.slayer as slayer

    neuron = slayer.neuron.cuba.Neuron(1.0, 0.5, 0.5)
    module = slayer.synapse.complex.Dense if complex_synapse else slayer.synapse.Dense
    synapse = module(3, 4, pre_hook_fx=neuron.quantize_8bit)
    for part in (synapse.real, synapse.imag) if complex_synapse else (synapse,):
        with torch.no_grad():
            part.weight.fill_(0.5)
            part.weight[:2, 1] = 0.9 / 64  # below half a quantisation step of 2/64
            part.weight[:, 2] = 0
        assert fan_out(part, (3,)).tolist() == [4, 2, 0]


@pytest.mark.slayer
@pytest.mark.parametrize(("kind", "shape"), [("Pool", (3, 4, 6)), ("Pool", (2, 5, 4)), ("Unpool", (2, 3, 4))])
def test_fan_out_of_pooling(kind: str, shape: tuple[int, ...]) -> None:
    import lava.lib.dl.slayer as slayer

    synapse = getattr(slayer.synapse, kind)(2)
    assert torch.equal(fan_out(synapse, shape), count_by_probing(synapse, shape))


def test_fan_out_wants_a_synapse() -> None:
    with pytest.raises(TypeError, match=r"`synapse` to be a module with a weight but got ReLU"):
        fan_out(torch.nn.ReLU(), (3,))


# -- a network and the file that it becomes ----------------------------------------------------------------------------


def build(family: str, kind: str, options: dict[str, Any], neurons: int) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """A net of one block, and the shape of its input."""
    import lava.lib.dl.slayer as slayer

    params = dict(CUBA if family == "cuba" else RESONATOR)
    block = getattr(getattr(slayer.block, family), kind)
    if kind in ("Dense", "Recurrent"):
        return torch.nn.Sequential(block(params, 5, neurons)), (5,)
    if kind == "KWTA":
        params["current_decay"] = 1.0  # the constant current of its number of winners is a bias then
        return torch.nn.Sequential(block(params, 5, neurons, num_winners=2, self_excitation=neurons % 2 / 2)), (5,)
    if kind in ("Pool", "Unpool"):
        return torch.nn.Sequential(block(params, options["kernel_size"])), SHAPE
    return torch.nn.Sequential(block(params, 2, 4, **options)), SHAPE


BLOCKS = [("cuba", kind) for kind in ("Dense", "Recurrent", "KWTA", "Conv", "ConvT", "Pool", "Unpool")]
BLOCKS += [(family, kind) for family in ("rf", "rf_iz") for kind in ("Dense", "Conv", "Pool")]


@pytest.mark.slayer
@pytest.mark.parametrize(("family", "kind"), BLOCKS)
@settings(max_examples=8)
@given(options=CONVOLUTIONS, neurons=st.integers(2, 6), kept=st.sampled_from([0.0, 0.4, 1.0]), seed=st.integers(0, 99))
def test_a_network_drives_as_many_synapses_as_its_file(
    family: str, kind: str, options: dict[str, Any], neurons: int, kept: float, seed: int
) -> None:
    torch.manual_seed(seed)
    net, shape = build(family, kind, options, neurons)
    prune(net, kept)
    spikes = (torch.rand(2, *shape, 12) < 0.5).float()
    description = describe(net, spikes)
    (layer,) = description.spiking
    of_the_file = fan_outs(description, "input")

    of_the_net = {("input", layer): sum(fan_out(synapse, shape) for _, synapse in synapses(net))}
    feedback = feedback_fan_out(net[0], description.spiking[layer].shape)
    if feedback is not None:
        of_the_net[layer, layer] = feedback
    assert of_the_net.keys() == of_the_file.keys()
    assert all(torch.equal(of_the_net[key], of_the_file[key]) for key in of_the_net)

    attached, recorded = SpikeStatistics().attach(net), SpikeStatistics(fan_out=of_the_file)
    with torch.no_grad():  # SLAYER's KWTA block cannot run with a graph
        recorded.update({layer: net(spikes)}, {"input": spikes})
    assert attached.compute().synops == recorded.compute().synops


@settings(max_examples=60)
@given(options=CONVOLUTIONS, kept=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_convolution_of_torch_drives_as_many_as_that_of_a_file(
    options: dict[str, Any], kept: float, seed: int
) -> None:
    torch.manual_seed(seed)
    kernel = options.pop("kernel_size")
    pairs = {
        name: (*value, 1 if name in ("stride", "dilation") else 0)
        for name, value in options.items()
        if name != "groups"
    }
    synapse = torch.nn.Conv3d(2, 4, (*kernel, 1), **pairs, groups=options["groups"])
    prune(synapse, kept)
    neuron = CubaNeuron(64, np.array([4096]), np.array([0]))
    weight = (synapse.weight[..., 0] != 0).long().numpy()
    sizes = {name: value for name, value in options.items() if name != "kernel_size"}
    description = NetworkDescription((Input(SHAPE, False), Conv(weight, neuron, SHAPE, **sizes)))
    (counts,) = fan_outs(description, "input").values()
    assert torch.equal(counts, fan_out(synapse, SHAPE))
