"""LoihiBudget, BudgetEnforcer and SynOpsLoss: what is used in training is what SpikeStatistics measures."""

import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slayer_nets import SLOW, chain

from lava_spikeloss import (
    LOIHI_1,
    LOIHI_2,
    BudgetEnforcer,
    BudgetLine,
    Constant,
    EnergyTable,
    LagrangeMultiplier,
    LoihiBudget,
    SparsityEnforcer,
    SpikeStatistics,
    SynOpsLoss,
)


def measure(net, x):
    statistics = SpikeStatistics().attach(net)
    net(x)
    statistics.detach()
    return statistics.compute()


def train_input(*shape):
    return (torch.rand(shape) < 0.5).float()


def test_every_line_of_a_budget_is_what_the_statistics_measure(lookalike):
    x = train_input(3, 6, 7)
    measured = measure(lookalike, x)
    idle = 52e-12 * 9 * 7  # of nine neurons in seven steps: less is refused
    lines = {"events_per_step": 0.1, "synops": 3.0, "energy": 1.01 * idle}
    for kind, limit in lines.items():
        for budget, used in (
            (LoihiBudget(**{kind: limit}), getattr(measured, kind)),
            (LoihiBudget(**{kind: {"0": limit}}), getattr(measured.layers["0"], kind)),
        ):
            (line,) = budget.lines(measured)
            assert (line.used, line.limit, line.fits) == (used, limit, used <= limit)
            enforcer = BudgetEnforcer(budget, lam=1.0, power=1).attach(lookalike)
            lookalike(x)
            assert enforcer.loss.item() == pytest.approx(max(0.0, used / limit - 1), rel=1e-5)
            enforcer.detach()


def test_a_use_fits_up_to_its_limit():
    assert BudgetLine("synops", used=5.0, limit=5.0).fits
    assert not BudgetLine("synops", used=math.nextafter(5.0, 6.0), limit=5.0).fits


def test_several_lines_add_up(lookalike):
    x = train_input(3, 6, 7)
    budget = LoihiBudget(events_per_step=0.1, synops={"0": 3.0, "1": 5.0})
    lines = budget.lines(measure(lookalike, x))
    assert [line.name for line in lines] == ["events_per_step", "0.synops", "1.synops"]
    enforcer = BudgetEnforcer(budget, lam=2.0).attach(lookalike)
    lookalike(x)
    expected = 2 * sum(max(0.0, line.used / line.limit - 1) ** 2 for line in lines)
    assert enforcer.loss.item() == pytest.approx(expected, rel=1e-5)
    enforcer.loss.backward()
    lookalike(x)
    enforcer.loss.backward()  # nobody called clear()
    assert lookalike[0].synapse.weight.grad.any()


def test_network_in_chunks_uses_as_much_as_in_one_go(lookalike):
    class Chunks(torch.nn.Module):
        def __init__(self, length):
            super().__init__()
            self.net, self.length = copy.deepcopy(lookalike), length

        def forward(self, x):
            return torch.cat([self.net(part) for part in x.split(self.length, dim=-1)], dim=-1)

    x = train_input(3, 6, 8)
    budget = LoihiBudget(events_per_step=0.1, synops=3.0, energy=1e-8)
    losses = []
    for length in (3, 8):
        net = Chunks(length)
        enforcer = BudgetEnforcer(budget, lam=1.0).attach(net)
        net(x)
        losses.append(enforcer.loss)
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("power", [1, 2])
def test_gradient_is_that_of_the_value(power):
    fan_out = torch.tensor([[3, 0], [1, 5]])

    def loss(x):
        enforcer = SynOpsLoss(0.5, 3.0, power=power)
        enforcer.append(x, fan_out)
        return enforcer.loss

    # where every event has the same size, magnitude and number agree up to a factor; the gradient is the magnitude's
    x = torch.ones(2, 2, 2, 3, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(x), x)
    synops = float(fan_out.sum()) * 3
    slope = 3.0 if power == 1 else 3.0 * 2 * (synops / 0.5 - 1)
    torch.testing.assert_close(gradient[0, ..., 0], slope * fan_out.double() / 2 / 0.5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), max_synops=st.floats(0.5, 200), power=st.sampled_from([1, 2]))
def test_synops_loss_equals_the_definition(seed, max_synops, power):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-2, 3, (3, 4, 5), generator=generator).float()
    fan_out = torch.randint(0, 9, (4,), generator=generator)
    synops = 0
    for n in range(3):
        for i in range(4):
            for t in range(5):
                synops += int(fan_out[i]) if x[n, i, t] != 0 else 0
    loss = SynOpsLoss(max_synops, lam=0.7, power=power)
    loss.append(x, fan_out)
    assert loss.loss.item() == pytest.approx(0.7 * max(0, synops / 3 / max_synops - 1) ** power, rel=1e-5, abs=1e-6)


def test_synops_per_layer_and_attached(lookalike):
    loss = SynOpsLoss({"a": 2.0, "b": 1e9})
    loss.append(torch.ones(1, 1, 1), torch.tensor([4]), layer="a")
    loss.append(torch.ones(1, 1, 1), torch.tensor([4]), layer="b")
    assert loss.loss.item() == 1.0
    x = train_input(3, 6, 7)
    synops = measure(lookalike, x).synops
    attached = SynOpsLoss(synops / 2).attach(lookalike)
    lookalike(x)
    assert attached.loss.item() == pytest.approx(1.0)


def test_pruned_weights_cost_nothing(lookalike):
    x = train_input(3, 6, 7)
    before = measure(lookalike, x)
    with torch.no_grad():
        lookalike[0].synapse.weight[:, :3] = 0
    after = measure(lookalike, x)
    kept = (x[:, 3:] != 0).sum().item() * 5 / 3
    assert after.layers["0"].synops == kept < before.layers["0"].synops


def test_energy_is_the_published_table_and_can_be_replaced():
    constants = [getattr(LOIHI_1, field.name) for field in dataclasses.fields(EnergyTable)[1:]]
    assert [constant.value for constant in constants] == [23.6e-12, 81e-12, 52e-12, 1.7e-12]
    assert all(c.source and c.status in ("firm", "secondary", "uncertain") and c.unit == "J" for c in constants)
    mine = dataclasses.replace(LOIHI_1, synaptic_operation=Constant(1.0, "J", "my board", "measured"))
    assert mine.energy(synops=2, events=0, updates=0) == 2.0
    assert LOIHI_2.energy(synops=2, events=0, updates=0) is None
    assert LOIHI_1.energy(synops=None, events=0, updates=0) is None


def test_budget_of_energy_for_loihi_2_is_unavailable():
    with pytest.raises(ValueError, match="those of Loihi 2 are unavailable"):
        LoihiBudget(energy=1e-6, table=LOIHI_2)
    LoihiBudget(synops=10, table=LOIHI_2)


def test_budget_below_the_idle_energy_is_refused(lookalike):
    x = train_input(3, 6, 7)
    idle = 52e-12 * (5 * 3 * 7) / 3  # of layer "0", per sample

    def loss(energy):
        enforcer = BudgetEnforcer(LoihiBudget(energy=energy)).attach(lookalike)
        lookalike(x)
        return enforcer.loss

    with pytest.raises(ValueError, match=r"`energy` above 1.82e-09 J, .* but got 1.82e-09 J"):
        loss({"0": idle})
    assert loss({"0": math.nextafter(idle, 1.0)}).requires_grad
    with pytest.raises(ValueError, match=r"`energy` above 3.28e-09 J, .* but got 3.24e-09 J"):
        loss(0.99 * idle / 5 * 9)  # of the whole network, whose layer "1" has four neurons
    assert loss(1.01 * idle / 5 * 9).requires_grad


def test_a_layer_without_events_uses_none_of_a_budget_of_events(lookalike):
    lookalike[1].dynamics = True  # as an Affine block: its synapse costs operations, its output is no events
    x = train_input(3, 6, 7)
    events = lookalike[0](x).sum().item()
    enforcer = BudgetEnforcer(LoihiBudget(events_per_step=0.5, synops={"1": 1.0}), lam=1.0, power=1).attach(lookalike)
    lookalike(x)
    assert enforcer.loss.item() == pytest.approx((events / (3 * 7) / 0.5 - 1) + (4 * events / 3 - 1), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, r"at least one of `events_per_step`, `synops`, `energy` but got none"),
        ({"synops": 0}, ValueError, r"`synops` to be greater than 0.0 but got 0"),
        ({"energy": {"a": -1.0}}, ValueError, r"`energy\['a'\]` to be greater than 0.0 but got -1.0"),
        ({"synops": "few"}, TypeError, r"`synops` to be a number but got str"),
    ],
)
def test_wrong_budgets(arguments, error, text):
    with pytest.raises(error, match=text):
        LoihiBudget(**arguments)


def test_a_layer_that_is_not_there_is_refused_when_the_net_is_attached(lookalike):
    enforcer = BudgetEnforcer(LoihiBudget(synops={"0": 1.0, "missing": 1.0}))
    with pytest.raises(ValueError, match=r"watched layers, \['0', '1'\], but got 'missing'"):
        enforcer.attach(lookalike)
    assert not lookalike._forward_pre_hooks
    with pytest.raises(ValueError, match=r"watched layers, \['1'\], but got '0'"):
        BudgetEnforcer(LoihiBudget(events_per_step={"0": 1.0})).attach(lookalike, exclude=["0"])


def test_a_layer_without_spikes_is_refused_by_the_loss():
    loss = SynOpsLoss({"a": 1.0, "b": 1.0})
    loss.append(torch.ones(1, 1, 1), torch.tensor([4]), layer="a")
    with pytest.raises(ValueError, match=r"watched layers, \['a'\], but got 'b'"):
        _ = loss.loss


def test_a_budget_of_what_was_not_measured_is_refused(lookalike):
    with pytest.raises(ValueError, match=r"statistics of 'missing' but got those of \['0', '1'\]"):
        LoihiBudget(synops={"missing": 1.0}).lines(measure(lookalike, train_input(1, 6, 2)))
    statistics = SpikeStatistics()
    statistics.update({"0": torch.ones(1, 2, 3)})
    with pytest.raises(ValueError, match=r"`synops`.*not measured"):
        LoihiBudget(synops=1.0).lines(statistics.compute())


@pytest.mark.parametrize(
    ("max_synops", "arguments", "error", "text"),
    [
        (1.0, {"fan_out": torch.ones(3)}, ValueError, r"`fan_out` of shape \(2,\) but got \(3,\)"),
        (1.0, {"fan_out": [1, 1]}, TypeError, r"`fan_out` to be a torch.Tensor but got list"),
        ({"a": 1.0}, {"fan_out": torch.ones(2)}, ValueError, r"`layer`, one of \['a'\], but got none"),
    ],
)
def test_wrong_operations(max_synops, arguments, error, text):
    with pytest.raises(error, match=text):
        SynOpsLoss(max_synops).append(torch.ones(1, 2, 3), **arguments)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: BudgetEnforcer(1000.0), r"`budget` to be a LoihiBudget but got float"),
        (lambda: LoihiBudget(synops=1.0, table="Loihi 1"), r"`table` to be an EnergyTable but got str"),
        (lambda: EnergyTable("mine", 1e-12), r"`synaptic_operation` to be a Constant or None but got float"),
        (lambda: Constant("1e-12", "J", "my board", "measured"), r"`value` to be a number but got str"),
    ],
)
def test_a_wrong_type_is_refused_when_it_is_given(build, text):
    with pytest.raises(TypeError, match=text):
        build()


def test_budget_enforcer_in_compiled_net(lookalike):
    torch._dynamo.reset()
    x = train_input(3, 6, 7)
    enforcer = BudgetEnforcer(LoihiBudget(synops=1.0), lam=1.0).attach(lookalike)
    lookalike(x)
    expected = enforcer.loss.item()
    torch.compile(lookalike, backend="eager")(x)
    assert enforcer.loss.item() == expected


@pytest.mark.slayer
@pytest.mark.parametrize("kind", ["events_per_step", "synops", "energy"])
def test_slayer_net_is_trained_into_its_budget(kind):
    net = chain(20, 40, 5, params=SLOW)
    x = train_input(8, 20, 12)
    start = measure(net, x)
    limit = 0.5 * getattr(start, kind)
    if kind != "events_per_step":  # what the input costs stays, whatever the network learns
        limit = getattr(start.layers["0"], kind) + 0.5 * getattr(start.layers["1"], kind)
    budget = LoihiBudget(**{kind: limit})
    enforcer = BudgetEnforcer(budget, LagrangeMultiplier(lr=0.1, damping=1.0)).attach(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
    for _ in range(60):
        net(x)
        optimizer.zero_grad()
        enforcer.loss.backward()
        optimizer.step()
    enforcer.detach()
    (line,) = budget.lines(measure(net, x))
    assert line.fits
    assert math.isfinite(line.used)
    assert line.used < getattr(start, kind)


@pytest.mark.parametrize("lam", [1.0, LagrangeMultiplier()])
def test_training_never_waits_for_the_device(lam):
    """Tensors on the meta device have no values: reading one on the host, as a synchronisation does, raises."""
    x = torch.empty(2, 3, 4, device="meta", requires_grad=True)
    for per in ("layer", "channel", "neuron"):
        enforcer = SparsityEnforcer(0.1, copy.deepcopy(lam), per=per, min_rate=0.05)
        enforcer.append(x)
        enforcer.loss.backward()
    operations = SynOpsLoss(10.0, copy.deepcopy(lam))
    operations.append(x, torch.empty(3, device="meta"))
    operations.loss.backward()
