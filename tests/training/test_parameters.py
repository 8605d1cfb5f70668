"""Shared dictionaries and learning rates of decays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from slayer_nets import ADAPTIVE, CUBA, NETS, alif, dense, resonator

from lava_spikeloss.training import build_block, check_neuron_params, parameter_groups, set_step_mode


@pytest.mark.slayer
@pytest.mark.parametrize("name", ["Recurrent", "KWTA", "Pool", "Unpool"])
def test_build_block_leaves_the_dictionary(name: str, slayer: Any) -> None:
    arguments = {"Recurrent": (4, 4), "KWTA": (4, 4, 2), "Pool": (2,), "Unpool": (2,)}[name]
    params = {**CUBA, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    before = dict(params)
    block = build_block(getattr(slayer.block.cuba, name), params, *arguments)
    assert isinstance(block, getattr(slayer.block.cuba, name))
    assert params == before
    getattr(slayer.block.cuba, name)(params, *arguments)  # SLAYER alone writes into it
    assert params != before


@pytest.mark.slayer
@pytest.mark.parametrize("given", [False, True])
def test_the_check_names_the_victims(given: bool, slayer: Any) -> None:
    block = slayer.block.cuba
    shared = {**CUBA, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    meant = dict(shared)
    net = torch.nn.Sequential(
        block.Conv(shared, 1, 2, 3),
        block.Pool(shared, 2),
        block.Conv(shared, 2, 2, 3),
        block.Recurrent(shared, 4, 4),
        block.Dense(shared, 4, 2),
    )
    findings = check_neuron_params(net, meant if given else None)
    persistent = [finding for finding in findings if "keeps its state" in finding]
    normless = [finding for finding in findings if "has no norm" in finding]
    assert [finding.split()[0] for finding in persistent] == ["`4`"]
    assert [finding.split()[0] for finding in normless] == ["`2`", "`3`", "`4`"]


@pytest.mark.slayer
@pytest.mark.parametrize("name", NETS)
def test_the_check_is_silent_on_sound_nets(name: str) -> None:
    net = NETS[name]()
    assert check_neuron_params(net) == []
    set_step_mode(net, "s")
    assert check_neuron_params(net) == []


@pytest.mark.slayer
def test_a_persistent_state_that_was_asked_for_is_no_finding(slayer: Any) -> None:
    params = {**CUBA, "persistent_state": True}
    net = torch.nn.Sequential(slayer.block.cuba.Dense(params, 4, 4), slayer.block.cuba.Recurrent(params, 4, 4))
    assert check_neuron_params(net, params) == []


def membrane_fit(slayer: Any, groups: Callable[[torch.nn.Module], Any]) -> tuple[float, float]:
    """Distance of a CUBA neuron's decays from those that made a given membrane potential, before and after training."""
    x = torch.rand(4, 1, 40, generator=torch.Generator().manual_seed(0))

    def membrane(neuron: Any) -> torch.Tensor:
        return neuron.dynamics(x)[1]

    target = membrane(slayer.neuron.cuba.Neuron(100.0, 0.30, 0.10)).detach()
    neuron = slayer.neuron.cuba.Neuron(100.0, 0.40, 0.20, requires_grad=True)

    def distance() -> float:
        return abs(neuron.current_decay.item() / 4096 - 0.30) + abs(neuron.voltage_decay.item() / 4096 - 0.10)

    before = distance()
    optimizer = torch.optim.Adam(groups(neuron))
    for _ in range(300):
        optimizer.zero_grad()
        (membrane(neuron) - target).pow(2).mean().backward()
        optimizer.step()
    return before, distance()


@pytest.mark.slayer
def test_decays_move_and_move_the_right_way(slayer: Any) -> None:
    before, after = membrane_fit(slayer, lambda neuron: parameter_groups(neuron, lr=0.003))
    assert before == pytest.approx(0.2, abs=1e-3)
    assert after < 0.02


@pytest.mark.slayer
def test_without_the_groups_they_do_not(slayer: Any) -> None:
    """What SLAYER's stored decays do at an ordinary learning rate."""
    before, after = membrane_fit(slayer, lambda neuron: [{"params": list(neuron.parameters()), "lr": 0.003}])
    assert after == pytest.approx(before, abs=1e-3)


@pytest.mark.slayer
def test_slayers_leaky_gradient_has_the_wrong_sign_and_the_resonators_the_right_one(slayer: Any) -> None:
    """The reason for `maximize`: against finite differences of the reference implementation."""
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator, resonator

    x, rest = torch.rand(1, 1, 10), torch.zeros(1, 1)

    def leaky(decay: torch.Tensor) -> torch.Tensor:
        return leaky_integrator.dynamics(x, decay, rest, 1 << 20)[..., -1].sum()

    def resonating(cosine: torch.Tensor) -> torch.Tensor:
        real, _ = resonator.dynamics(x, x, torch.tensor([800.0]), cosine, rest, rest, 1 << 20)
        return real[..., -1].sum()

    for function, value, sign in ((leaky, 1000.0, -1), (resonating, 3000.0, 1)):
        decay = torch.tensor([value], requires_grad=True)
        function(decay).backward()
        difference = (function(torch.tensor([value + 50])) - function(torch.tensor([value - 50]))) / 100
        assert decay.grad is not None
        assert decay.grad.item() == pytest.approx(sign * 4096 * difference.item(), rel=0.02)


@pytest.mark.slayer
def test_groups_hold_every_trainable_parameter_once(slayer: Any) -> None:
    net = torch.nn.Sequential(
        slayer.block.cuba.Dense({**CUBA, "requires_grad": True}, 4, 4),
        slayer.block.rf.Dense({"threshold": 1, "period": 8, "decay": 0.1, "requires_grad": True}, 4, 4),
        slayer.block.cuba.Dense(dict(CUBA), 4, 4),
    )
    groups = parameter_groups(net, lr=0.1, decay_lr=0.01)
    assert [(len(g["params"]), g["lr"], g.get("maximize")) for g in groups] == [
        (4, 0.1, None),
        (2, 40.96, True),
        (2, 40.96, False),
    ]
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters() if p.requires_grad)


OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "ASGD", "Rprop")
SINCE_TORCH_2_4 = ("NAdam", "RAdam")


@pytest.mark.parametrize("name", [*OPTIMIZERS, *SINCE_TORCH_2_4])
def test_which_optimizers_know_maximize(name: str) -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimizer = getattr(torch.optim, name)([{"params": [parameter], "maximize": True}], lr=0.1)
    parameter.grad = torch.ones(3)
    optimizer.step()
    old = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 4)
    assert bool((parameter > 0).all()) == (name in OPTIMIZERS or not old)


@pytest.mark.slayer
@pytest.mark.parametrize("kind", ["alif", "adrf"])
def test_decays_without_a_gradient_stay(kind: str) -> None:
    net = alif() if kind == "alif" else resonator("adrf", **ADAPTIVE)
    for block in net:
        for name, parameter in block.neuron.named_parameters():
            parameter.requires_grad_(name.endswith("_decay"))
    optimizer = torch.optim.AdamW(parameter_groups(net, lr=0.1), weight_decay=0.5)
    neuron = net[0].neuron
    before = neuron.threshold_decay.item(), neuron.refractory_decay.item()
    for _ in range(5):
        optimizer.zero_grad()
        net((torch.rand(4, 8, 16) < 0.5).float()).sum().backward()
        optimizer.step()
    assert (neuron.threshold_decay.item(), neuron.refractory_decay.item()) == before


@pytest.mark.slayer
def test_neurons_that_blocks_share_are_grouped_once(slayer: Any) -> None:
    net = torch.nn.Sequential(*(slayer.block.cuba.Dense({**CUBA, "requires_grad": True}, 4, 4) for _ in range(2)))
    net[1].neuron.current_decay = net[0].neuron.current_decay
    groups = parameter_groups(net, lr=0.1)
    assert [len(group["params"]) for group in groups] == [2, 3]
    torch.optim.Adam(groups)  # refuses parameters that come twice


@pytest.mark.slayer
def test_fixed_decays_make_no_group() -> None:
    assert len(parameter_groups(dense(), lr=0.1)) == 1


def test_plain_nets_have_one_group() -> None:
    net = torch.nn.Linear(2, 2)
    (group,) = parameter_groups(net, lr=0.1)
    assert group["params"] == list(net.parameters())


@pytest.mark.parametrize("argument", ["lr", "decay_lr"])
def test_negative_rate(argument: str) -> None:
    rates = {"lr": 0.1, "decay_lr": 0.1, argument: -1.0}
    with pytest.raises(ValueError, match=f"`{argument}` to be at least 0"):
        parameter_groups(torch.nn.Linear(2, 2), **rates)


@pytest.mark.slayer
def test_a_state_that_is_kept_on_purpose_is_no_finding(slayer: Any) -> None:
    net = torch.nn.Sequential(slayer.block.cuba.Dense({**CUBA, "persistent_state": True}, 4, 2))
    assert check_neuron_params(net) == []
    assert check_neuron_params(net, {**CUBA, "persistent_state": True}) == []
    (finding,) = check_neuron_params(net, CUBA)
    assert "`0` (Dense) keeps its state between forwards" in finding
