"""Local readouts and membrane potentials."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from slayer_nets import NETS, affine, dense, recurrent, sigma_delta

from lava_spikeloss.training import LocalReadouts, fresh_state, multi_step_forward, record_membrane

SPIKING = ["dense", "delayed", "mean-only norm", "conv", "alif", "rf", "rf_iz", "adrf"]


@pytest.mark.slayer
@pytest.mark.parametrize("name", SPIKING)
def test_potential_is_what_the_neuron_computes(name: str, spikes: torch.Tensor) -> None:
    net = NETS[name]()
    block = net[-1]
    currents: list[Any] = []
    handle = block.neuron.register_forward_hook(lambda module, args, output: currents.append(args[0]))
    with record_membrane(block) as record:
        output = net(spikes)
    handle.remove()
    with torch.no_grad():
        assert torch.equal(net(spikes), output)
        potentials = block.neuron.dynamics(currents[0])
    expected = {"rf": 0, "adrf": 0}.get(name, 1)
    assert torch.equal(record.potential, potentials[expected])
    assert "spike" not in vars(block.neuron)


@pytest.mark.slayer
def test_potential_crosses_the_threshold_where_spikes_are(spikes: torch.Tensor) -> None:
    net = dense(delay_shift=False)
    with record_membrane(net[-1]) as record:
        output = net(spikes)
    assert torch.equal((record.potential > 1.0).float(), output)


@pytest.mark.slayer
def test_a_loss_on_the_potential_reaches_the_weights(spikes: torch.Tensor) -> None:
    net = dense()
    with record_membrane(net[-1]) as record:
        net(spikes)
    record.potential.pow(2).mean().backward()
    assert all(block.synapse.weight.grad.abs().sum() > 0 for block in net)


@pytest.mark.slayer
def test_steps_are_laid_end_to_end(spikes: torch.Tensor) -> None:
    net = dense()
    with record_membrane(net[-1]) as record:
        net(spikes)
    with record_membrane(net[-1]) as stepwise:
        multi_step_forward(spikes, net)
    assert torch.equal(stepwise.potential, record.potential)


@pytest.mark.slayer
def test_recurrent_blocks_give_values_only(spikes: torch.Tensor) -> None:
    net = recurrent()
    with record_membrane(net[1]) as record, fresh_state(net):
        output = net(spikes)
    assert record.potential.shape == (3, 12, 24)
    assert not record.potential.requires_grad
    output.sum().backward()


@pytest.mark.slayer
@pytest.mark.parametrize("build", [lambda: affine()[-1], lambda: sigma_delta()[0], lambda: torch.nn.Linear(2, 2)])
def test_blocks_without_spikes_are_refused(build: Any) -> None:
    with pytest.raises(TypeError, match="`block` to be a SLAYER block with spiking neurons"), record_membrane(build()):
        pass


@pytest.mark.slayer
def test_reading_before_a_forward() -> None:
    with record_membrane(dense()[0]) as record, pytest.raises(RuntimeError, match="Expected a forward"):
        _ = record.potential


def plain() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv1d(4, 8, 1), torch.nn.Tanh(), torch.nn.Conv1d(8, 6, 1))


def test_readout_is_a_fixed_product_per_step() -> None:
    net, x = plain(), torch.rand(2, 4, 5)
    readouts = LocalReadouts([net[0]], num_classes=3, seed=7)
    with readouts.attached() as outputs:
        net(x)
    uniform = torch.rand(3, 8, generator=torch.Generator().manual_seed(7))
    matrix = (2 * uniform - 1) / math.sqrt(8)
    slow = torch.stack([net[0](x)[..., t] @ matrix.T for t in range(5)], dim=-1)
    torch.testing.assert_close(outputs[0], slow)


def test_a_local_loss_trains_its_own_block_only() -> None:
    net = plain()
    with LocalReadouts([net[0], net[2]], num_classes=3).attached() as outputs:
        net(torch.rand(2, 4, 5))
    outputs[1].pow(2).sum().backward()
    assert net[2].weight.grad.abs().sum() > 0
    assert net[0].weight.grad is None
    outputs[0].pow(2).sum().backward()
    assert net[0].weight.grad.abs().sum() > 0
    assert not net[0]._forward_hooks
    assert not net[0]._forward_pre_hooks


@pytest.mark.slayer
def test_readouts_of_slayer_blocks(spikes: torch.Tensor) -> None:
    net = NETS["conv"]()
    with LocalReadouts([net[1], net[-1]], num_classes=4).attached() as outputs:
        net(spikes)
    assert [output.shape for output in outputs] == [(3, 4, 24), (3, 4, 24)]
    sum(output.mean(dim=-1).pow(2).sum() for output in outputs).backward()
    assert all(net[index].synapse.weight.grad.abs().sum() > 0 for index in (1, 6))
    assert net[3].synapse.weight.grad is None


def test_readouts_need_blocks() -> None:
    with pytest.raises(ValueError, match="`blocks` to hold at least one"):
        LocalReadouts([], num_classes=2)
    with pytest.raises(ValueError, match="`num_classes` to be at least 1"):
        LocalReadouts([torch.nn.Identity()], num_classes=0)
    with pytest.raises(TypeError, match="`num_classes` to be an integer but got float"):
        LocalReadouts([torch.nn.Identity()], num_classes=2.0)
    with pytest.raises(TypeError, match="`blocks` to hold modules but got str"):
        LocalReadouts(["0"], num_classes=2)
    LocalReadouts([torch.nn.Identity()], num_classes=1)
