"""Resetting, detaching, putting aside."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from slayer_nets import NETS, alif, dense, kwta, recurrent, recurrent_delayed

from lava_spikeloss.slayer_blocks import states
from lava_spikeloss.training import detach_net, fresh_state, reset_net, set_backend, set_step_mode
from netx_export.slayer import evaluation, record

FROM_REST = [fresh_state, evaluation]  # what starts a net at rest, and puts its state back


def all_states(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {f"{path}.{name}": value for path, module in net.named_modules() for name, value in states(module)}


@pytest.mark.slayer
@pytest.mark.parametrize("name", NETS)
def test_reset_brings_back_the_first_forward(name: str, spikes: torch.Tensor) -> None:
    net = NETS[name]()
    reset_net(net)
    with torch.no_grad():
        first = net(spikes)
        net(1 - spikes)
        assert reset_net(net) is None
        assert torch.equal(net(spikes), first)


@pytest.mark.slayer
def test_recurrent_state_survives_without_reset(spikes: torch.Tensor) -> None:
    """What SLAYER does, and why a reset is needed."""
    net = recurrent()
    assert not torch.equal(net(spikes), net(spikes))


@pytest.mark.slayer
def test_modules_added_later_are_reset_too(spikes: torch.Tensor) -> None:
    net = dense()
    reset_net(net)
    net.append(type(recurrent()[1])({"threshold": 1.0, "current_decay": 0.3, "voltage_decay": 0.1}, 6, 4))
    first = net(spikes)
    reset_net(net)
    assert torch.equal(net(spikes), first)


@pytest.mark.slayer
def test_adaptive_thresholds_rest_at_their_base(spikes: torch.Tensor) -> None:
    net = alif()
    set_step_mode(net, "s")
    net(spikes)
    assert not torch.equal(net[0].neuron.threshold_state, torch.ones(3, 16))
    reset_net(net)
    assert torch.equal(net[0].neuron.threshold_state, torch.ones(1))


@pytest.mark.slayer
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_a_reset_net_has_forgotten_the_size_of_its_batch(name: str, batch: int, spikes: torch.Tensor) -> None:
    net = NETS[name]()
    set_step_mode(net, "s")
    with torch.no_grad():
        first = net(spikes)
        reset_net(net)
        assert torch.equal(net(spikes[:batch]), first[:batch])
    reset_net(net)
    assert {tuple(value.shape) for value in all_states(net).values()} == {(1,)}


@pytest.mark.slayer
@pytest.mark.parametrize("from_rest", FROM_REST)
@pytest.mark.parametrize("name", NETS)
def test_a_net_at_rest_for_a_while_gets_its_old_state_back(name: str, from_rest: Any, spikes: torch.Tensor) -> None:
    net = NETS[name]().eval()
    set_step_mode(net, "s")
    with torch.no_grad():
        first, second = net(spikes), net(spikes)
        reset_net(net)
        net(spikes)
        before = {name: value.clone() for name, value in all_states(net).items()}
        assert any(value.any() for value in before.values())
        with from_rest(net):
            assert torch.equal(net(spikes), first)
        after = all_states(net)
        assert after.keys() == before.keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert torch.equal(net(spikes), second)


@pytest.mark.slayer
@pytest.mark.parametrize("from_rest", FROM_REST)
def test_a_net_at_rest_for_a_while_keeps_nothing_of_it(from_rest: Any, spikes: torch.Tensor) -> None:
    net = recurrent_delayed().eval()
    set_step_mode(net, "s")
    with from_rest(net):
        first = net(spikes)
    assert torch.equal(net(spikes), first)


@pytest.mark.slayer
@pytest.mark.parametrize("from_rest", FROM_REST)
def test_the_old_state_comes_back_after_an_error_too(from_rest: Any, spikes: torch.Tensor) -> None:
    net = recurrent()
    net(spikes)
    before = net[1].neuron.voltage_state
    with pytest.raises(RuntimeError, match="channels"), from_rest(net):
        net(spikes[:, :5])
    assert net[1].neuron.voltage_state is before


@pytest.mark.slayer
def test_a_recording_starts_at_rest_in_step_mode_too(spikes: torch.Tensor) -> None:
    """The history of an axonal delay is state of the last forward as well as a membrane is."""
    net, names = recurrent_delayed(), ["dense1", "recurrent1", "dense2"]
    expected = record(net, spikes, names).layers
    set_step_mode(net, "s")
    net(1 - spikes)
    recorded = record(net, spikes, names).layers
    assert all(np.array_equal(recorded[name], expected[name]) for name in names)


@pytest.mark.slayer
def test_detach_keeps_the_values_and_cuts_the_graph(spikes: torch.Tensor) -> None:
    net = kwta()
    buffer = torch.rand(3, 6, requires_grad=True) * 2
    net[1].delay_buffer = buffer
    detach_net(net)
    assert net[1].delay_buffer.grad_fn is None
    assert torch.equal(net[1].delay_buffer, buffer)


@pytest.mark.slayer
def test_backend_sets_every_neuron(spikes: torch.Tensor) -> None:
    net = dense()
    accelerated = net(spikes)
    set_backend(net, "reference")
    assert [block.neuron.debug for block in net] == [True, True]
    assert torch.equal(net(spikes), accelerated)  # on the CPU both are the reference
    set_backend(net, "accelerated")
    assert [block.neuron.debug for block in net] == [False, False]


def test_safe_on_any_module() -> None:
    net = torch.nn.Sequential(torch.nn.LSTM(2, 2), torch.nn.BatchNorm1d(2), torch.nn.ModuleDict())
    before = copy.deepcopy(net.state_dict())
    for function in (reset_net, detach_net, lambda n: set_step_mode(n, "s"), lambda n: set_backend(n, "reference")):
        assert function(net) is None
    with fresh_state(net):
        pass
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_other_modules_states_are_left_alone() -> None:
    module = torch.nn.Linear(1, 1)
    module.voltage_state = torch.ones(3)  # not SLAYER's
    reset_net(module)
    assert torch.equal(module.voltage_state, torch.ones(3))


@pytest.mark.parametrize(
    ("function", "argument"), [(set_step_mode, "mode"), (set_backend, "backend")], ids=["mode", "backend"]
)
def test_unknown_choice(function: object, argument: str) -> None:
    with pytest.raises(ValueError, match=f"`{argument}` to be one of .* but got 'x'"):
        function(torch.nn.Identity(), "x")  # type: ignore[operator]


@pytest.mark.slayer
def test_a_net_in_step_mode_can_be_copied(spikes: torch.Tensor) -> None:
    net = recurrent_delayed().eval()
    set_step_mode(net, "s")
    twin = copy.deepcopy(net)
    with torch.no_grad():
        first = net(spikes)
        assert torch.equal(twin(spikes), first)
        assert torch.equal(twin(spikes), net(spikes))
    set_step_mode(twin, "m")
    assert sum(len(m._forward_hooks) for m in twin.modules()) == 0
    assert sum(len(m._forward_hooks) for m in net.modules()) > 0
