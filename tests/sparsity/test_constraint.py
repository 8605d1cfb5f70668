"""LagrangeMultiplier: on problems with a known solution, inside the enforcers, and over checkpoints."""

import copy
import io
import math

import pytest
import torch
from budget_training import train_within_budget
from slayer_nets import SLOW, chain

from lava_spikeloss import LagrangeMultiplier, SparsityEnforcer


def solve(multiplier, objective, constraints, x, steps=2000, lr=0.01):
    optimizer = torch.optim.SGD([x], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (objective(x) + multiplier(constraints(x))).backward()
        optimizer.step()


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_finds_the_constrained_minimum_whatever_the_scale_of_the_task(scale):
    # min scale |x - (3, 1)|^2 with x_0 + x_1 <= 2: x = (2, 0), and the multiplier of (x_0 + x_1) / 2 - 1 is 4 scale
    x = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
    goal = torch.tensor([3.0, 1.0])
    multiplier = LagrangeMultiplier()
    lr = 0.01 / scale
    solve(multiplier, lambda x: scale * (x - goal).square().sum(), lambda x: {"sum": x.sum() / 2 - 1}, x, lr=lr)
    torch.testing.assert_close(x.detach(), torch.tensor([2.0, 0.0]), atol=0.01, rtol=0)
    assert multiplier.multipliers["sum"].item() == pytest.approx(4 * scale, rel=0.02)


def test_a_constraint_that_does_not_bind_has_no_force():
    x = torch.nn.Parameter(torch.tensor([3.0, 1.0]))
    multiplier = LagrangeMultiplier()
    solve(multiplier, lambda x: x.square().sum(), lambda x: {"each": x / 2 - 1}, x)
    torch.testing.assert_close(x.detach(), torch.zeros(2), atol=1e-4, rtol=0)
    assert multiplier.multipliers["each"].max() < 1e-5


def test_a_constraint_that_cannot_be_met_leaves_the_loss_finite():
    multiplier = LagrangeMultiplier(lr=1.0)
    violation = torch.ones((), requires_grad=True)
    for _ in range(200):
        multiplier({"x": violation}).backward()
    assert torch.isfinite(multiplier({"x": violation}))
    assert torch.isfinite(violation.grad)
    for _ in range(40):  # and it comes back
        multiplier({"x": -violation}).backward()
    assert multiplier.multipliers["x"].item() == pytest.approx(1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_violation_that_is_not_finite_shows_and_leaves_the_multiplier(value):
    multiplier = LagrangeMultiplier(warmup=10)
    broken, sound = (torch.tensor([other, 1.0], requires_grad=True) for other in (value, 1.0))
    multiplier({"x": broken}).backward()
    first = multiplier.multipliers["x"].clone()
    assert first[0].item() == pytest.approx(0.001)  # as if it had been met
    multiplier({"x": sound}).backward()
    second = multiplier.multipliers["x"].clone()
    assert (second > first).all()
    term = multiplier({"x": broken})
    term.backward()
    assert not torch.isfinite(term)
    third = multiplier.multipliers["x"]
    assert third[0] == second[0]
    assert third[1] > second[1]


def test_every_element_is_a_constraint_of_its_own():
    x = torch.nn.Parameter(torch.full((3,), 3.0))
    limit = torch.tensor([1.0, 2.0, 4.0])
    multiplier = LagrangeMultiplier()
    solve(multiplier, lambda x: (x - 3).square().sum(), lambda x: {"x": x / limit - 1}, x)
    torch.testing.assert_close(x.detach(), torch.tensor([1.0, 2.0, 3.0]), atol=0.01, rtol=0)


def test_value_gradient_and_step_are_the_formula():
    multiplier = LagrangeMultiplier(lr=0.3, damping=2.0, start=1e-3)
    g = torch.tensor([0.05, -0.025, 7.0], dtype=torch.double, requires_grad=True)
    pressure = torch.tensor([0.5, -0.25, 1.0], dtype=torch.double)
    first = torch.tensor([1e-4, 1e-4, 7e-3], dtype=torch.double)
    force = first * torch.exp(2 * pressure)
    term = multiplier({"g": g})
    torch.testing.assert_close(term, (force * g).sum().detach(), check_dtype=False)
    term.backward()
    torch.testing.assert_close(g.grad, force)
    torch.testing.assert_close(multiplier.multipliers["g"], first * torch.exp(0.3 * pressure))


def test_warmup_leads_the_goal_geometrically_from_the_first_use_to_the_budget():
    multiplier = LagrangeMultiplier(warmup=4, damping=0.0, lr=1e-9, start=1e-3)
    use, goals = torch.tensor(15.0, requires_grad=True), []  # sixteen budgets
    for _ in range(6):
        term = multiplier({"use": use})
        goals.append(16 / (term.item() / 15e-3 + 1))
        term.backward()
    assert goals == pytest.approx([16, 8, 4, 2, 1, 1], rel=1e-4)


def test_reading_the_term_does_not_move_the_multiplier():
    multiplier = LagrangeMultiplier()
    g = torch.tensor(0.5, requires_grad=True)
    first = multiplier({"g": g})
    assert multiplier({"g": g}).item() == first.item()
    with torch.no_grad():
        multiplier({"g": g})
    assert multiplier.steps == 0
    first.backward()
    assert multiplier.steps == 1


def test_checkpoint_into_a_fresh_module_and_copy():
    x = torch.rand(2, 3, 4, requires_grad=True)

    def enforcer():
        return SparsityEnforcer(0.1, LagrangeMultiplier(warmup=5), per="neuron")

    trained = enforcer()
    for _ in range(8):
        trained.append(x)
        trained.loss.backward()
    buffer = io.BytesIO()
    torch.save(trained.state_dict(), buffer)
    buffer.seek(0)
    loaded = enforcer()
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    twin = copy.deepcopy(trained)
    for other in (loaded, twin):
        trained.clear()
        for module in (trained, other):
            module.append(x)
        assert torch.equal(trained.loss, other.loss)


def test_a_module_that_was_loaded_goes_its_own_way():
    source, twin = LagrangeMultiplier(), LagrangeMultiplier()
    source({"g": torch.tensor(1.0, requires_grad=True)}).backward()
    kept = source.state_dict()
    twin.load_state_dict(kept)
    before = twin.multipliers["g"].item()
    source({"g": torch.tensor(1.0, requires_grad=True)}).backward()
    assert twin.multipliers["g"].item() == before
    source.load_state_dict(kept)  # the best epoch, say
    assert source.multipliers["g"].item() == before


def test_the_ends_of_the_ranges():
    LagrangeMultiplier(damping=0.0, warmup=0, margin=0.0)
    LagrangeMultiplier(margin=0.5)
    for name, value in (("warmup", -1), ("margin", -0.01), ("margin", math.nextafter(0.5, 1.0)), ("lr", -1)):
        with pytest.raises(ValueError, match=f"`{name}` to be"):
            LagrangeMultiplier(**{name: value})


@pytest.mark.parametrize(("sign", "end"), [(-1.0, 1e-6), (1.0, 1e9)])
def test_a_multiplier_stays_where_it_can_come_back_from(sign, end):
    multiplier = LagrangeMultiplier(lr=30.0)
    violation = torch.tensor(sign, requires_grad=True)
    for _ in range(3):
        multiplier({"x": violation}).backward()
    assert multiplier.multipliers["x"].item() == pytest.approx(end)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`lr` to be greater than 0.0 but got 0"):
        LagrangeMultiplier(0)
    with pytest.raises(ValueError, match=r"`damping` to be at least 0.0"):
        LagrangeMultiplier(damping=-1)
    with pytest.raises(ValueError, match=r"`margin` to be at most 0.5"):
        LagrangeMultiplier(margin=0.6)
    with pytest.raises(ValueError, match=r"`start` to be greater than 0.0"):
        LagrangeMultiplier(start=0.0)
    with pytest.raises(TypeError, match=r"`warmup` to be a number but got NoneType"):
        LagrangeMultiplier(warmup=None)
    with pytest.raises(ValueError, match=r"`max_rate` to be greater than 0.0"):
        SparsityEnforcer(0.0, LagrangeMultiplier())


class _Rates(torch.nn.Module):
    """Neurons whose spikes are Bernoulli with rates that are parameters; the gradient is that of the rate."""

    def __init__(self, rates):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.logit(torch.tensor(rates)))

    def forward(self, samples, steps):
        p = torch.sigmoid(self.logits)[:, None].expand(samples, -1, steps)
        return torch.bernoulli(p.detach()) + p - p.detach()


@pytest.mark.parametrize("bounds", [(0.08, 0.0), (0.01, 0.0), (0.08, 0.03)])
def test_every_neuron_ends_within_its_bounds(bounds):
    max_rate, min_rate = bounds
    neurons = _Rates([0.5, 0.2, 0.02, 0.003])
    wanted = torch.tensor([0.5, 0.5, 0.02, 0.003])  # what the task would like
    passes = 600
    enforcer = SparsityEnforcer(max_rate, LagrangeMultiplier(warmup=passes // 2), per="neuron", min_rate=min_rate)
    optimizer = torch.optim.Adam(neurons.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, passes)
    for _ in range(passes):
        spikes = neurons(64, 50)
        enforcer.append(spikes)
        loss = (spikes.mean((0, 2)) - wanted).square().sum() + enforcer.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    rates = torch.sigmoid(neurons.logits.detach())
    expected = wanted.clamp(min_rate, max_rate)
    for rate, value in zip(rates.tolist(), expected.tolist(), strict=True):
        if value in (max_rate, min_rate):
            assert rate == pytest.approx(value, rel=0.02)
        else:
            assert math.isclose(rate, value, rel_tol=0.3)


@pytest.mark.slayer
def test_slayer_net_ends_within_two_percent_of_its_budget():
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    pixels, labels = torch.tensor(digits.data[:256], dtype=torch.float32) / 16, torch.tensor(digits.target[:256])
    spikes = (pixels[..., None] * torch.arange(13) + torch.rand(64, 1)).floor().diff()
    net, passes, budget = chain(64, 64, 10, params=SLOW), 200, 0.02
    enforcer = SparsityEnforcer(budget, LagrangeMultiplier(warmup=passes // 3)).attach(net, exclude=["1"])
    train_within_budget(net, spikes, labels, enforcer, passes, lr=0.01)
    enforcer.detach()
    rate = net[0](spikes).mean().item()
    assert rate == pytest.approx(budget, rel=0.02)
