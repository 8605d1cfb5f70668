"""The training tools on an accelerator: they add nothing to what SLAYER itself makes the host wait for.

SLAYER reads values at every forward and backward (it looks for NaN) and copies its decays there, with or without these
tools; so what is counted around a tool is compared with the same forwards and backwards without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerator import DEVICE, Accelerator
from slayer_nets import NETS
from torch.nn.functional import cross_entropy

from lava_spikeloss import training
from lava_spikeloss.slayer_blocks import is_block

STEPS = 6
LABELS = torch.zeros(2, dtype=torch.long, device=DEVICE)
# The Python dynamics of the resonators, and KWTA without a step mode, do not run here, nor do gradients of weight norm.
NAMES = ["dense", "mean-only norm", "weight-scale norm", "recurrent", "conv", "alif", "sigma-delta"]

Action = Callable[[torch.nn.Module, torch.Tensor], Any]


def waits(action: Action, net: torch.nn.Module) -> Counter[str]:
    net = net.to(DEVICE)
    x = torch.ones(2, 8, STEPS, device=DEVICE)
    with Accelerator() as accelerator:
        action(net, x)
    return accelerator.waits


def slayer_net(name: str) -> torch.nn.Module:
    net = NETS[name]()
    with torch.no_grad():
        net(torch.ones(2, 8, STEPS))  # SLAYER shapes its states at the first forward
    training.reset_net(net)
    return net


def last_block(net: torch.nn.Module) -> torch.nn.Module:
    return [module for module in net.modules() if is_block(module)][-1]


def plain(net: torch.nn.Module, x: torch.Tensor) -> None:
    net(x).sum().backward()


def chunks(net: torch.nn.Module, x: torch.Tensor) -> None:
    net(x[..., :3])
    net(x[..., 3:])


def steps(net: torch.nn.Module, x: torch.Tensor) -> None:
    for step in x.split(1, -1):
        net(step)


def trained_steps(net: torch.nn.Module, x: torch.Tensor) -> None:
    for step in x.split(1, -1):
        net(step).sum().backward()


def twice(net: torch.nn.Module, x: torch.Tensor) -> None:
    trained_steps(net, x)
    trained_steps(net, x)


def step_mode(net: torch.nn.Module, x: torch.Tensor) -> None:
    training.set_step_mode(net, "s")
    chunks(net, x)


def sequence_mode(net: torch.nn.Module, x: torch.Tensor) -> None:
    training.set_step_mode(net, "m")
    plain(net, x)


def fresh(net: torch.nn.Module, x: torch.Tensor) -> None:
    with training.fresh_state(net):
        plain(net, x)


def recorded(net: torch.nn.Module, x: torch.Tensor) -> None:
    with training.record_membrane(last_block(net)) as record:
        net(x)
    record.potential.sum().backward()


def online(function: Callable[..., torch.Tensor]) -> Action:
    def action(net: torch.nn.Module, x: torch.Tensor) -> None:
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
        if function is training.fptt_online_training:
            state = training.fptt_online_training_init_w_ra(optimizer)
            function(net, optimizer, x, LABELS, cross_entropy, 0.5, state)
        else:
            function(net, optimizer, x, LABELS, cross_entropy, True)

    return action


FORWARDS: list[tuple[str, Action, Action]] = [
    ("step mode", step_mode, chunks),
    ("chunks", lambda net, x: training.chunk_multi_step_forward(3, x, net), chunks),
    ("steps", lambda net, x: training.multi_step_forward(x, net), steps),
]
TRAINING: list[tuple[str, Action, Action]] = [
    ("sequence mode", sequence_mode, plain),
    ("fresh state", fresh, plain),
    ("FPTT", online(training.fptt_online_training), twice),
    ("SLTT", online(training.sltt_online_training), trained_steps),
]


@pytest.mark.slayer
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tool", "without"), [case[1:] for case in FORWARDS], ids=[case[0] for case in FORWARDS])
def test_forwards_wait_for_nothing_that_slayer_does_not(name: str, tool: Action, without: Action) -> None:
    with torch.no_grad():
        assert waits(tool, slayer_net(name)) <= waits(without, slayer_net(name))


@pytest.mark.slayer
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tool", "without"), [case[1:] for case in TRAINING], ids=[case[0] for case in TRAINING])
def test_training_waits_for_nothing_that_slayer_does_not(name: str, tool: Action, without: Action) -> None:
    assert waits(tool, slayer_net(name)) <= waits(without, slayer_net(name))


@pytest.mark.slayer
@pytest.mark.parametrize("name", ["dense", "recurrent", "alif", "conv"])
def test_tools_on_one_block_wait_for_nothing_that_slayer_does_not(name: str) -> None:
    expected = waits(plain, slayer_net(name))
    assert waits(recorded, slayer_net(name)) <= expected
    if name != "conv":  # its Pool has no trace to train by
        assert waits(online(training.ottt_online_training), slayer_net(name)) <= waits(trained_steps, slayer_net(name))


@pytest.mark.slayer
def test_a_threshold_margin_costs_a_second_run_of_its_neurons() -> None:
    def action(net: torch.nn.Module, x: torch.Tensor) -> None:
        with training.ThresholdMargin(net[0])(LABELS):
            plain(net, x)

    once = waits(plain, slayer_net("dense")[:1])
    assert waits(action, slayer_net("dense")[:1]) <= once + once


@pytest.mark.slayer
def test_step_mode_reads_the_longest_of_each_layers_delays_once_per_forward() -> None:
    with torch.no_grad():
        found, expected = waits(step_mode, slayer_net("delayed")), waits(chunks, slayer_net("delayed"))
    assert found - expected == {"value": 2 * 2}


def plain_net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv1d(8, 5, 1), torch.nn.BatchNorm1d(5), torch.nn.Conv1d(5, 3, 1))


@pytest.mark.parametrize("function", [training.fptt_online_training, training.sltt_online_training])
def test_online_training_itself_does_not_wait(function: Callable[..., torch.Tensor]) -> None:
    assert not waits(online(function), plain_net())


def test_local_readouts_are_copied_to_the_device_once() -> None:
    net = plain_net().to(DEVICE)
    readouts = training.LocalReadouts([net[0], net[2]], num_classes=2)

    def action(net: torch.nn.Module, x: torch.Tensor) -> None:
        with readouts.attached() as outputs:
            net(x)
        assert all(output.device == DEVICE for output in outputs)

    assert waits(action, net) == {"copy": 2}
    assert not waits(action, net)


@pytest.mark.parametrize(
    "tool",
    [
        lambda net: training.kaiming_normal_(net),
        lambda net: training.parameter_groups(net, 0.1),
        lambda net: training.reset_net(net),
        lambda net: training.detach_net(net),
        lambda net: training.set_step_mode(net, "s"),
        lambda net: training.set_backend(net, "reference"),
        lambda net: training.check_neuron_params(net),
        lambda net: training.fuse_conv_bn(net[0], net[1]),
        lambda net: training.scale_fused_conv_bias(net[0], net[1], k=2.0, b=0.5),
        lambda net: training.scale_fused_conv_weight(net[0], net[1], k=2.0),
        lambda net: training.seq_to_ann_forward(torch.ones(2, 8, 3, STEPS, device=DEVICE), net[0]),
    ],
)
def test_what_needs_no_values_reads_none(tool: Callable[[torch.nn.Module], object]) -> None:
    assert not waits(lambda net, _: tool(net), plain_net())
