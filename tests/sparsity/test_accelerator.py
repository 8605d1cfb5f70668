"""Budgets and statistics on an accelerator: nothing of theirs makes the host wait in training.

Statistics wait where it is said: for the number of events of each layer, and for the result.
"""

from __future__ import annotations

import pytest
import torch
from accelerator import DEVICE, Accelerator

from lava_spikeloss import (
    BudgetEnforcer,
    LagrangeMultiplier,
    LoihiBudget,
    SparsityEnforcer,
    SpikeStatistics,
    SynOpsLoss,
)

RATES = {"max_rate": 0.1, "min_rate": 0.01}
ENFORCERS = {
    "layer": lambda: SparsityEnforcer(**RATES),
    "channel": lambda: SparsityEnforcer(**RATES, per="channel"),
    "neuron, found factor": lambda: SparsityEnforcer(**RATES, per="neuron", lam=LagrangeMultiplier(warmup=2)),
    "budget": lambda: BudgetEnforcer(LoihiBudget(synops=3.0, events_per_step=0.2, energy={"0": 3e-7})),
    "operations": lambda: SynOpsLoss(max_synops=10),
}


@pytest.mark.parametrize("name", ENFORCERS)
def test_an_enforcer_does_not_make_the_host_wait(name: str, lookalike: torch.nn.Sequential) -> None:
    net, enforcer = lookalike.to(DEVICE), ENFORCERS[name]()
    enforcer.attach(net)
    x = torch.ones(3, 6, 8, device=DEVICE)
    with Accelerator() as accelerator:
        for _ in range(3):
            output = net(x)
            loss = output.square().mean() + enforcer.loss
            loss.backward()
    assert not accelerator.waits
    assert enforcer.backward_passes == 3
    assert all(parameter.grad.device == DEVICE for parameter in net.parameters())
    if isinstance(enforcer.lam, LagrangeMultiplier):
        assert {multiplier.device for multiplier in enforcer.lam.multipliers.values()} == {DEVICE}


def test_loaded_multipliers_are_copied_to_the_device_once() -> None:
    saved = LagrangeMultiplier(warmup=10)
    saved({"rate": torch.ones((), requires_grad=True)}).backward()
    loaded = LagrangeMultiplier(warmup=10)
    loaded.load_state_dict(saved.state_dict())
    with Accelerator() as accelerator:
        for _ in range(3):
            loaded({"rate": torch.ones((), requires_grad=True, device=DEVICE)}).backward()
    assert accelerator.waits == {"copy": 2}  # a multiplier and where its constraint began


@pytest.mark.parametrize("enforcer", [SparsityEnforcer(**RATES), SynOpsLoss(max_synops=10)])
def test_spikes_given_by_hand_do_not_make_the_host_wait(enforcer: SparsityEnforcer | SynOpsLoss) -> None:
    x = torch.ones(3, 6, 8, device=DEVICE, requires_grad=True)
    with Accelerator() as accelerator:
        enforcer.append(x, **({"fan_out": torch.ones(6, device=DEVICE)} if isinstance(enforcer, SynOpsLoss) else {}))
        enforcer.loss.backward()
    assert not accelerator.waits


def test_statistics_wait_once_for_the_events_of_each_layer(lookalike: torch.nn.Sequential) -> None:
    net = lookalike.to(DEVICE)
    statistics = SpikeStatistics().attach(net)
    with Accelerator() as accelerator:
        for _ in range(2):
            net(torch.ones(3, 6, 8, device=DEVICE))
    assert accelerator.waits == {"shape": 2 * 2}
    with Accelerator() as accelerator:
        statistics.compute()
    assert "copy" in accelerator.waits
