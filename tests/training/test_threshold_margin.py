"""The margin against neurons that have the scaled threshold."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from slayer_nets import CUBA, NETS, affine, dense, recurrent, sigma_delta

from lava_spikeloss.training import (
    ThresholdMargin,
    fresh_state,
    multi_step_forward,
    record_membrane,
    reset_net,
    set_step_mode,
)

TARGET = torch.tensor([0, 3, 5])
IS_TRUE = torch.nn.functional.one_hot(TARGET, 6).bool().unsqueeze(-1)
SPIKING = ["dense", "delayed", "mean-only norm", "weight-scale norm", "conv", "alif", "rf", "rf_iz", "adrf"]


def with_threshold(net: torch.nn.Module, factor: float) -> torch.nn.Module:
    neuron = net[-1].neuron
    neuron._threshold = round(neuron._threshold * factor * neuron.s_scale) / neuron.s_scale
    reset_net(net)  # an adaptive threshold rests at its new base
    return net


@pytest.mark.slayer
@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("mode", ["m", "s"])
def test_equals_two_nets_with_the_scaled_thresholds(name: str, mode: str, spikes: torch.Tensor) -> None:
    net = NETS[name]().train()
    with torch.no_grad():
        net(spikes)
    true_net, false_net = (with_threshold(twin_of(net, name), factor) for factor in (1.5, 0.5))
    nets = (net, true_net, false_net)
    outputs: list[list[torch.Tensor]] = [[], [], []]
    for candidate in nets:
        reset_net(candidate)
        if mode == "s":
            set_step_mode(candidate, "s")
    margin = ThresholdMargin(net[-1], true=1.5, false=0.5)
    for chunk in spikes.split(12, dim=-1):
        with margin(TARGET):
            outputs[0].append(net(chunk))
        outputs[1].append(true_net(chunk))
        outputs[2].append(false_net(chunk))
    margined, true_spikes, false_spikes = (torch.cat(pieces, dim=-1) for pieces in outputs)
    assert not torch.equal(true_spikes, false_spikes)
    assert torch.equal(margined, torch.where(IS_TRUE, true_spikes, false_spikes))
    statistics = {name: value for name, value in true_net.state_dict().items() if "running" in name}
    assert all(torch.equal(net.state_dict()[name], value) for name, value in statistics.items())


def twin_of(net: torch.nn.Module, name: str) -> torch.nn.Module:
    """A twin; weight-normed synapses cannot be deep-copied."""
    if name != "delayed":
        return copy.deepcopy(net)
    twin = NETS[name]()
    twin.load_state_dict(net.state_dict())
    return twin


@pytest.mark.slayer
def test_off_in_evaluation_and_gone_afterwards(spikes: torch.Tensor) -> None:
    net = dense().eval()
    plain = net(spikes)
    margin = ThresholdMargin(net[-1], true=1.5, false=0.5)
    with margin(TARGET):
        assert torch.equal(net(spikes), plain)
        net.train()
        assert not torch.equal(net(spikes), plain)
    assert torch.equal(net(spikes), plain)
    assert net[-1].neuron.threshold == 1.0
    assert "forward" not in vars(net[-1].neuron)


@pytest.mark.slayer
def test_recurrent_block_against_a_slow_loop(slayer: Any, spikes: torch.Tensor) -> None:
    block = recurrent()[1]
    x = (torch.rand(3, 16, 24) < 0.4).float()
    target = torch.tensor([0, 3, 11])
    is_true = torch.nn.functional.one_hot(target, 12).bool().unsqueeze(-1)
    with fresh_state(block), ThresholdMargin(block, true=2.0, false=0.5)(target):
        margined = block(x)

    neurons = [slayer.neuron.cuba.Neuron(**{**CUBA, "threshold": t}, persistent_state=True) for t in (2.0, 0.5)]
    z, spike, slow = block.input_synapse(x), torch.zeros(3, 12, 1), []
    for t in range(24):
        current = z[..., t : t + 1] + block.recurrent_synapse(spike)
        spike = torch.where(is_true, neurons[0](current), neurons[1](current))
        slow.append(spike)
    assert torch.equal(margined, slayer.axon.delay(torch.cat(slow, dim=-1), 1))
    assert margined.sum() > 0


@pytest.mark.slayer
def test_recording_a_membrane_at_the_same_time_is_refused(spikes: torch.Tensor) -> None:
    net = dense()
    with ThresholdMargin(net[-1])(TARGET), record_membrane(net[-1]), pytest.raises(RuntimeError, match="there are two"):
        net(spikes)


@pytest.mark.slayer
@pytest.mark.parametrize("ignore_index", [-100, 3])
def test_a_sample_that_losses_leave_out_has_no_true_class(ignore_index: int, spikes: torch.Tensor) -> None:
    net = dense()
    with ThresholdMargin(net[-1], 1.5, 0.5, ignore_index=ignore_index)(torch.tensor([0, ignore_index, 5])):
        margined = net(spikes)
    with ThresholdMargin(net[-1], 1.5, 0.5)(IS_TRUE[..., 0] & torch.tensor([[True], [False], [True]])):
        expected = net(spikes)
    assert torch.equal(margined, expected)
    with pytest.raises(ValueError, match="from -1 to"), ThresholdMargin(net[-1])(torch.tensor([0, -1, 5])):
        net(spikes)


@pytest.mark.slayer
def test_several_neurons_per_class(spikes: torch.Tensor) -> None:
    net = dense()
    population = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]])
    with ThresholdMargin(net[-1], 1.5, 0.5)(population):
        margined = net(spikes)
    with ThresholdMargin(net[-1], 1.5, 0.5)(torch.tensor([0, 2, 4])):
        first_only = net(spikes)
    assert torch.equal(margined[0, 0], first_only[0, 0])
    assert not torch.equal(margined, first_only)


@pytest.mark.slayer
def test_gradient_is_that_of_the_chosen_run(spikes: torch.Tensor) -> None:
    net = dense()
    true_net, false_net = (with_threshold(copy.deepcopy(net), factor) for factor in (1.5, 0.5))
    with ThresholdMargin(net[-1], 1.5, 0.5)(TARGET):
        net(spikes).sum().backward()
    (true_net(spikes) * IS_TRUE).sum().backward()
    (false_net(spikes) * ~IS_TRUE).sum().backward()
    expected = true_net[0].synapse.weight.grad + false_net[0].synapse.weight.grad
    assert expected.abs().sum() > 0
    torch.testing.assert_close(net[0].synapse.weight.grad, expected)


@pytest.mark.slayer
def test_with_slayers_assistant(slayer: Any, spikes: torch.Tensor) -> None:
    net = dense()
    error = slayer.loss.SpikeRate(true_rate=0.5, false_rate=0.05, reduction="sum")
    assistant = slayer.utils.Assistant(net, error, torch.optim.Adam(net.parameters(), lr=0.01))
    margin = ThresholdMargin(net[-1])
    with margin(TARGET):
        trained = assistant.train(spikes, TARGET)
    assert trained.requires_grad
    plain = assistant.test(spikes, TARGET)
    with margin(TARGET):
        assert torch.equal(assistant.test(spikes, TARGET), plain)


@pytest.mark.slayer
def test_in_step_by_step_forward(spikes: torch.Tensor) -> None:
    net = dense()
    with ThresholdMargin(net[-1])(TARGET):
        assert torch.equal(multi_step_forward(spikes, net), net(spikes))


@pytest.mark.slayer
@pytest.mark.parametrize("build", [lambda: affine()[-1], lambda: sigma_delta()[0], lambda: torch.nn.Linear(2, 2)])
def test_needs_a_block_that_spikes(build: Any) -> None:
    with pytest.raises(TypeError, match="`block` to"):
        ThresholdMargin(build())


@pytest.mark.slayer
def test_labels_of_samples_and_neurons_are_those_of_classes(spikes: torch.Tensor) -> None:
    one, other = (NETS["dense"]().train() for _ in range(2))
    other.load_state_dict(one.state_dict())
    with ThresholdMargin(one[-1], true=1.5, false=0.5)(TARGET):
        by_class = one(spikes)
    with ThresholdMargin(other[-1], true=1.5, false=0.5)(IS_TRUE[..., 0].float()):
        assert torch.equal(other(spikes), by_class)
    assert by_class.any()


@pytest.mark.slayer
def test_wrong_targets_and_factors(spikes: torch.Tensor, slayer: Any) -> None:
    block = slayer.block.cuba.Dense(dict(CUBA), 8, 6)
    with pytest.raises(ValueError, match="`true` to be greater than 0"):
        ThresholdMargin(block, true=0)
    with pytest.raises(ValueError, match=r"`false` to leave a threshold above 0 but got 0.0001: .* units of 1/4096"):
        ThresholdMargin(block, false=1e-4)
    ThresholdMargin(block, false=1 / 4096)
    margin = ThresholdMargin(block)
    with pytest.raises(ValueError, match=r"\(N,\) or \(N, C\) but got shape \(3, 6, 1\)"), margin(IS_TRUE):
        pass
    with pytest.raises(ValueError, match=r"shape \(3,\) or \(3, 6\)"), margin(torch.zeros(3, 5)):
        block(spikes)
    assert block.neuron.threshold == 1.0


@pytest.mark.slayer
@pytest.mark.parametrize("target", [torch.tensor([0, 9, 1]), torch.tensor([0, -1, 1]), torch.tensor([0.0, 1.0, 1.5])])
def test_labels_that_are_no_output_neuron_are_refused(target: torch.Tensor, spikes: torch.Tensor, slayer: Any) -> None:
    net = slayer.block.cuba.Dense(dict(CUBA), 8, 4)
    with ThresholdMargin(net)(target), pytest.raises(ValueError, match=r"`target` to hold (whole )?class indices"):
        net(spikes)


@pytest.mark.slayer
def test_a_margin_inside_a_margin_is_refused(spikes: torch.Tensor, slayer: Any) -> None:
    net = slayer.block.cuba.Dense(dict(CUBA), 8, 4, weight_scale=4)
    outer, inner = ThresholdMargin(net), ThresholdMargin(net, true=1.5)
    target = torch.tensor([0, 1, 2])
    with outer(target):
        expected = net(spikes)
        with pytest.raises(RuntimeError, match="one ThresholdMargin on a block at a time"), inner(target):
            pass
        assert torch.equal(net(spikes), expected)
    assert "forward" not in vars(net.neuron)
