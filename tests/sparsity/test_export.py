"""The promise: a network trained to a budget keeps it after export, measured on Lava."""

from pathlib import Path

import pytest
import torch
from budget_training import train_within_budget

from lava_spikeloss import BudgetEnforcer, LagrangeMultiplier, LoihiBudget, SpikeStatistics, fan_out

HIDDEN, OUTPUT = "0", "1"


@pytest.mark.lava
def test_the_budget_of_training_holds_on_lava(tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import cuba

    from netx_export import export, simulate

    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (24,), generator=generator)
    rates = 0.1 + 0.5 * torch.rand(4, 16, generator=generator)[labels]
    spikes = (torch.rand(24, 16, 16, generator=generator) < rates[..., None]).float()
    torch.manual_seed(0)
    neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
    net = torch.nn.Sequential(cuba.Dense(neuron, 16, 24, weight_scale=2), cuba.Dense(neuron, 24, 4, weight_scale=2))

    def measured_in_slayer():
        statistics = SpikeStatistics().attach(net)
        net(spikes)
        statistics.detach()
        return statistics.compute()

    start = measured_in_slayer()
    budget = LoihiBudget(
        events_per_step={HIDDEN: 0.4 * start.layers[HIDDEN].events_per_step},
        synops=start.layers[HIDDEN].synops + 0.5 * start.layers[OUTPUT].synops,
    )
    passes = 150
    enforcer = BudgetEnforcer(budget, LagrangeMultiplier(warmup=passes // 3, start=0.001)).attach(net)
    train_within_budget(net, spikes, labels, enforcer, passes)
    enforcer.detach()

    path = tmp_path / "budget.net"
    export(net, path, sample=spikes[:4])
    on_lava = simulate(path, spikes, backend="lava")
    layers = dict(zip((HIDDEN, OUTPUT), map(torch.from_numpy, on_lava.layers.values()), strict=True))
    statistics = SpikeStatistics(
        fan_out={
            ("input", HIDDEN): fan_out(net[0].synapse, (16,)),
            (HIDDEN, OUTPUT): fan_out(net[1].synapse, (24,)),
        }
    )
    statistics.update(layers, inputs={"input": spikes})
    measured = statistics.compute()
    assert measured.to_dict() == measured_in_slayer().to_dict()
    lines = budget.lines(measured)
    assert [line.name for line in lines] == ["0.events_per_step", "synops"]
    assert all(line.fits for line in lines), lines
    assert all(line.used > 0.5 * line.limit for line in lines), lines  # inside, but not silent
