"""SparsityEnforcer against its definition, against lava-dl, and on watched networks."""

import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slayer_nets import SLOW, chain

from lava_spikeloss import LagrangeMultiplier, SparsityEnforcer, SpikeStatistics


def reference(x: torch.Tensor, max_rate: float, min_rate: float, per: str, power: int) -> float:
    """The penalty of one layer, one group at a time."""
    channels = x.reshape(x.shape[0], x.shape[1], -1, x.shape[-1]).double().abs()
    groups = {
        "layer": [channels],
        "channel": [channels[:, c] for c in range(channels.shape[1])],
        "neuron": [channels[:, c, i] for c in range(channels.shape[1]) for i in range(channels.shape[2])],
    }[per]
    rates = [float(group.sum()) / group.numel() for group in groups]
    return sum(max(0.0, r - max_rate) ** power + max(0.0, min_rate - r) ** power for r in rates)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(1, 6)),
    per=st.sampled_from(["layer", "channel", "neuron"]),
    power=st.sampled_from([1, 2]),
    bounds=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    lam=st.floats(0, 3),
    seed=st.integers(0, 99),
)
def test_equals_the_definition(shape, per, power, bounds, lam, seed):
    x = torch.randint(-1, 3, shape, generator=torch.Generator().manual_seed(seed)).double()
    enforcer = SparsityEnforcer(bounds[1], lam, per=per, min_rate=bounds[0], power=power)
    enforcer.append(x)
    enforcer.append(2 * x)
    expected = lam * sum(reference(layer, bounds[1], bounds[0], per, power) for layer in (x, 2 * x))
    assert enforcer.loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.slayer
@pytest.mark.parametrize("shape", [(4, 10, 20), (2, 3, 5, 5, 20), (7,)])
def test_default_has_value_and_gradient_of_lava_dl(shape):
    import lava.lib.dl.slayer as slayer

    x = (torch.rand(shape) < 0.3).float().requires_grad_()
    ours, theirs = SparsityEnforcer(0.1, 2.0), slayer.loss.SparsityEnforcer(0.1, 2.0)
    for enforcer in (ours, theirs):
        enforcer.append(x)
        enforcer.append(0.5 * x)
    assert torch.equal(ours.loss, theirs.loss)
    torch.testing.assert_close(torch.autograd.grad(ours.loss, x), torch.autograd.grad(theirs.loss, x))


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
@pytest.mark.parametrize("power", [1, 2])
def test_gradient_is_that_of_the_value(per, power):
    def loss(x):
        enforcer = SparsityEnforcer(0.5, 3.0, per=per, min_rate=0.4, power=power)
        enforcer.append(x)
        return enforcer.loss

    assert torch.autograd.gradcheck(loss, (torch.randn(2, 3, 2, 4, dtype=torch.double, requires_grad=True),))


@pytest.mark.parametrize("neurons", [10, 1000])
def test_pull_on_a_neuron_does_not_depend_on_the_size_of_its_layer(neurons):
    x = torch.zeros(2, neurons, 5)
    x[:, 0] = 1.0
    x.requires_grad_()
    enforcer = SparsityEnforcer(0.02, per="neuron")
    enforcer.append(x)
    enforcer.loss.backward()
    torch.testing.assert_close(x.grad[:, 0], torch.full((2, 5), 2 * 0.98 / 10))
    assert not x.grad[:, 1:].any()


@pytest.mark.parametrize("side", [4, 32])
def test_pull_on_the_weight_of_a_channel_does_not_depend_on_its_area(side):
    weight = torch.ones(1, 3, 1, 1, 1, requires_grad=True)
    enforcer = SparsityEnforcer(0.02, per="channel")
    enforcer.append(weight * torch.ones(2, 3, side, side, 5))
    enforcer.loss.backward()
    torch.testing.assert_close(weight.grad.flatten(), torch.full((3,), 2 * 0.98))


def test_a_multiplier_keeps_its_margin_inside_both_bounds():
    x = torch.zeros(1, 2, 100)
    x[:, 0, :40] = 1.0
    x[:, 1, :10] = 1.0
    multiplier = LagrangeMultiplier(margin=0.25, damping=0.0, start=1.0)
    enforcer = SparsityEnforcer(0.5, multiplier, per="neuron", min_rate=0.2)
    enforcer.append(x.requires_grad_())
    over = [0.4 / (0.75 * 0.5) - 1, 0.1 / (0.75 * 0.5) - 1]
    under = [1 - 0.4 / (1.25 * 0.2), 1 - 0.1 / (1.25 * 0.2)]
    expected = sum(max(0.1, violation) * violation for violation in (*over, *under))
    assert enforcer.loss.item() == pytest.approx(expected, rel=1e-5)


def test_silent_neuron_is_pulled_up():
    x = torch.zeros(2, 3, 4, requires_grad=True)
    enforcer = SparsityEnforcer(0.5, min_rate=0.1, per="neuron")
    enforcer.append(x)
    enforcer.loss.backward()
    assert (x.grad < 0).all()


def test_empty_loss_is_a_zero_that_can_be_backpropagated():
    loss = SparsityEnforcer().loss
    assert loss.shape == ()
    assert loss.item() == 0.0
    loss.backward()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_integer_spikes_count(dtype):
    enforcer = SparsityEnforcer(0.25, power=1)
    enforcer.append(torch.ones(2, 3, 4).to(dtype))
    assert enforcer.loss.item() == 0.75


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_neither_overflows_nor_rounds_small_rates_away(dtype):
    x = torch.zeros(400, 200, 50)
    x[..., :1] = 1.0  # 80,000 events: more than a float16 can count
    losses = []
    for spikes in (x.to(dtype).requires_grad_(), x.clone().requires_grad_()):
        enforcer = SparsityEnforcer(0.0199)
        enforcer.append(spikes)
        losses.append(enforcer.loss)
    assert losses[0].dtype == torch.float32
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0.0)


def test_schedule_counts_backward_passes():
    x = torch.ones(1, 1, 1, requires_grad=True)
    enforcer = SparsityEnforcer(0.0, lam=lambda step: 10.0**step)
    values = []
    for _ in range(3):
        enforcer.append(x)
        values.append(enforcer.loss.item())
        enforcer.loss.backward()
    assert values == [1.0, 10.0, 100.0]


def test_forgetting_clear_cannot_raise_and_costs_nothing():
    weight = torch.ones(2, requires_grad=True)
    enforcer = SparsityEnforcer(0.0)
    values = []
    for _ in range(3):
        hidden = weight[0] * torch.ones(1, 2, 3)
        enforcer.append(hidden)
        enforcer.append(weight[1] * hidden)
        values.append(enforcer.loss.item())
        enforcer.loss.backward()
    assert values == [2.0, 2.0, 2.0]


def test_reading_the_loss_does_not_clear():
    enforcer = SparsityEnforcer(0.0)
    for expected in (1.0, 2.0):
        enforcer.append(torch.ones(1, 2, 3))
        assert enforcer.loss.item() == expected
    enforcer.clear()
    assert enforcer.loss.item() == 0.0


# -- watching a network ------------------------------------------------------------------------------------------------


def test_attach_collects_every_block_at_each_forward(lookalike):
    x = torch.rand(3, 6, 7)
    watching, by_hand = SparsityEnforcer(0.1).attach(lookalike), SparsityEnforcer(0.1)
    for _ in range(3):
        output = lookalike(x)
        by_hand.clear()
        by_hand.append(lookalike[0](x))
        by_hand.append(output)
    lookalike(x)
    assert torch.equal(watching.loss, by_hand.loss)
    watching.loss.backward()
    lookalike(x)
    watching.loss.backward()  # nobody called clear()


def test_detach_and_reattach(lookalike):
    enforcer = SparsityEnforcer(0.0).attach(lookalike).attach(lookalike)
    lookalike(torch.rand(1, 6, 7))
    loss = enforcer.loss.item()
    assert loss > 0
    enforcer.detach()
    lookalike(torch.zeros(1, 6, 7))
    assert enforcer.loss.item() == loss
    assert not lookalike._forward_pre_hooks
    assert not lookalike[0]._forward_hooks


def test_include_and_exclude():
    plain = torch.nn.Sequential(torch.nn.Sigmoid(), torch.nn.Tanh())
    with pytest.raises(ValueError, match="SLAYER block"):
        SparsityEnforcer().attach(plain)
    with pytest.raises(ValueError, match=r"names of modules.*'2'.*'0', '1'"):
        SparsityEnforcer().attach(plain, include=["2"])
    enforcer = SparsityEnforcer(0.0).attach(plain, include=["1"])
    x = torch.rand(2, 3, 4)
    assert enforcer.attach(plain, include=["0", "1"], exclude=["0"]) is enforcer
    expected = SparsityEnforcer(0.0)
    expected.append(plain(x))
    torch.testing.assert_close(enforcer.loss, expected.loss)


def test_names_of_modules_may_come_from_a_generator(lookalike):
    plain = torch.nn.Sequential(torch.nn.Sigmoid(), torch.nn.Tanh())
    SparsityEnforcer().attach(plain, include=(name for name in ("0", "1")), exclude=(name for name in ("0",)))
    assert [len(module._forward_hooks) for module in plain] == [0, 1]
    SpikeStatistics().attach(lookalike, exclude=iter(["0"]))
    assert [len(block.synapse._forward_hooks) for block in lookalike] == [0, 1]


def test_one_name_may_be_a_string():
    net = torch.nn.Sequential(*(torch.nn.Sigmoid() for _ in range(13)))
    SparsityEnforcer().attach(net, include="12")
    assert [index for index, module in enumerate(net) if module._forward_hooks] == [12]


def test_only_a_net_can_be_attached():
    with pytest.raises(TypeError, match=r"`net` to be a torch.nn.Module but got list"):
        SparsityEnforcer().attach([torch.nn.Sigmoid()])


def test_module_that_runs_in_chunks_counts_with_all_its_steps(lookalike):
    class Chunks(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = lookalike

        def forward(self, x):
            return torch.cat([self.net(part) for part in x.split(2, dim=-1)], dim=-1)

    x = torch.randn(3, 6, 7)  # the neurons fire now and then
    outer, bounds = Chunks(), {"max_rate": 0.1, "min_rate": 0.05, "per": "neuron"}
    chunked, whole = SparsityEnforcer(**bounds).attach(outer), SparsityEnforcer(**bounds)
    outer(x)
    loss = chunked.loss
    chunked.detach()
    whole.append(lookalike[0](x))
    whole.append(lookalike(x))
    torch.testing.assert_close(loss, whole.loss)


def test_copies_and_pickles_of_the_net_are_not_watched(lookalike):
    x = torch.rand(3, 6, 7)
    enforcer = SparsityEnforcer(0.0).attach(lookalike)
    lookalike(x)
    loss = enforcer.loss.item()
    buffer = io.BytesIO()
    torch.save(lookalike.state_dict(), buffer)
    for twin in (copy.deepcopy(lookalike), copy.copy(enforcer)):
        assert twin is not None
    twin = copy.deepcopy(lookalike)
    twin(torch.zeros(3, 6, 7))
    assert enforcer.loss.item() == loss
    again = SparsityEnforcer(0.0).attach(twin)
    twin(x)
    assert again.loss.item() == loss


def test_enforcer_inside_its_net_can_be_copied_and_pickled(lookalike):
    lookalike[0].enforcer = SparsityEnforcer(0.3, per="channel").attach(lookalike)
    lookalike(torch.rand(3, 6, 7))
    twin = copy.deepcopy(lookalike[0].enforcer)
    assert twin.loss.item() == 0.0
    assert (twin.max_rate, twin.per) == (0.3, "channel")
    twin = pickle.loads(pickle.dumps(lookalike[0].enforcer))
    assert twin.loss.item() == 0.0
    assert lookalike[0].enforcer.loss.item() > 0.0
    copy.deepcopy(lookalike)(torch.rand(3, 6, 7))


def test_pickled_slayer_like_net_runs_unwatched():
    net = torch.nn.Sequential(torch.nn.Sigmoid())
    enforcer = SparsityEnforcer(0.0).attach(net, include=["0"])
    net(torch.rand(2, 3, 4))
    loss = enforcer.loss.item()
    pickle.loads(pickle.dumps(net))(torch.zeros(2, 3, 4))
    assert enforcer.loss.item() == loss


def test_dropped_net_is_freed(lookalike):
    net = copy.deepcopy(lookalike)
    enforcer = SparsityEnforcer(0.0).attach(net)
    net(torch.rand(2, 6, 3))
    alive = weakref.ref(net)
    del net
    gc.collect()
    assert alive() is None
    assert enforcer.loss.item() > 0.0


@pytest.mark.parametrize("compiled_first", [False, True])
def test_compiles_into_one_graph(lookalike, compiled_first):
    torch._dynamo.reset()
    x = torch.rand(3, 6, 7)
    eager = SparsityEnforcer(0.1, per="neuron", min_rate=0.01).attach(lookalike)
    lookalike(x)
    expected = eager.loss.item()
    eager.detach()
    compiled = torch.compile(lookalike, backend="aot_eager", fullgraph=True)
    enforcer = SparsityEnforcer(0.1, per="neuron", min_rate=0.01)
    enforcer.attach(compiled if compiled_first else lookalike)
    for _ in range(3):
        compiled(x)
        loss = enforcer.loss
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.slayer
def test_slayer_net_and_assistant_unchanged():
    import lava.lib.dl.slayer as slayer

    net = chain(12, 16, 3, params=SLOW)
    enforcer = SparsityEnforcer(0.01, lam=20.0).attach(net)
    rate_loss = slayer.loss.SpikeRate(0.2, 0.03)
    assistant = slayer.utils.Assistant(
        net,
        lambda output, label: rate_loss(output, label) + enforcer.loss,
        torch.optim.Adam(net.parameters(), lr=0.01),
        slayer.utils.LearningStats(),
        slayer.classifier.Rate.predict,
    )
    x, label = (torch.rand(4, 12, 20) < 0.5).float(), torch.tensor([0, 1, 2, 0])
    losses = []
    for _ in range(20):
        assistant.train(x, label)
        losses.append(enforcer.loss.item())
    assistant.test(x, label)
    assert losses[-1] < losses[0] / 2


@pytest.mark.slayer
def test_only_blocks_that_put_out_events_are_watched():
    import lava.lib.dl.slayer as slayer

    cuba, block = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.1}, slayer.block
    sigma_delta = {"threshold": 0.1, "activation": torch.nn.functional.relu}
    net = torch.nn.ModuleDict(
        {
            "input": block.cuba.Input(dict(cuba)),
            "plain_input": block.cuba.Input(None),
            "conv": block.cuba.Conv(dict(cuba), 1, 2, 3),
            "pool": block.cuba.Pool(dict(cuba), 2),
            "flatten": block.cuba.Flatten(),
            "dense": block.rf.Dense({"threshold": 1.0, "period": 5, "decay": 0.1}, 8, 4),
            "recurrent": block.cuba.Recurrent(dict(cuba), 4, 4),
            "affine": block.cuba.Affine(dict(cuba), 4, 4),
            "delta": block.sigma_delta.Dense(dict(sigma_delta), 4, 4),
            "output": block.sigma_delta.Output(dict(sigma_delta), 4, 4),
        }
    )
    enforcer = SparsityEnforcer().attach(net)
    hooked = {name for name, module in net.items() if module._forward_hooks}
    assert hooked == {"input", "conv", "pool", "dense", "recurrent", "delta"}
    enforcer.detach()


# -- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"max_rate": -0.1}, ValueError, r"`max_rate` to be at least 0.0 but got -0.1"),
        ({"max_rate": "1"}, TypeError, r"`max_rate` to be a number but got str"),
        ({"lam": "big"}, TypeError, r"`lam` to be a number"),
        ({"lam": -0.1}, ValueError, r"`lam` to be at least 0 but got -0.1"),
        ({"lam": float("nan")}, ValueError, r"`lam` to be at least 0 but got nan"),
        ({"per": "batch"}, ValueError, r"`per` to be one of 'layer', 'channel', 'neuron' but got 'batch'"),
        ({"max_rate": 0.1, "min_rate": 0.2}, ValueError, r"`min_rate` to be at most 0.1 but got 0.2"),
        ({"power": 3}, ValueError, r"`power` to be one of 1, 2 but got 3"),
    ],
)
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        SparsityEnforcer(**arguments)


def test_a_schedule_that_falls_below_0():
    """It would reward what is over the budget."""
    enforcer = SparsityEnforcer(0.1, lambda passes: 0.5 - passes)
    enforcer.append(torch.ones(1, 2, 3, requires_grad=True))
    enforcer.loss.backward()
    enforcer.clear()
    enforcer.append(torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match=r"`lam` to be at least 0 but got -0.5"):
        _ = enforcer.loss


def test_wrong_spikes():
    with pytest.raises(ValueError, match=r"`x` to have the layout \(N, C, ..., T\).*\(2, 3\)"):
        SparsityEnforcer(per="neuron").append(torch.ones(2, 3))
    with pytest.raises(TypeError, match=r"`x` to be a torch.Tensor but got list"):
        SparsityEnforcer().append([1.0])
    with pytest.raises(ValueError, match=r"at least one element"):
        SparsityEnforcer().append(torch.ones(0, 3, 4))


@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
def test_derivatives_of_each_kind(per: str) -> None:
    """Backward, forward, second, and many at once; with graded, negative and missing events."""
    x = torch.tensor([[[0.0, 2.0, -1.0], [0.5, 0.0, 1.0]]], dtype=torch.float64, requires_grad=True)

    def loss(spikes: torch.Tensor) -> torch.Tensor:
        enforcer = SparsityEnforcer(0.1, per=per)
        enforcer.append(spikes)
        return enforcer.loss

    (found,) = torch.autograd.grad(loss(x), x)
    rates = {"layer": x.abs().mean((0, 1, 2)), "channel": x.abs().mean((0, 2)), "neuron": x.abs().mean((0, 2))}[per]
    (expected,) = torch.autograd.grad((rates - 0.1).relu().square().sum(), x)
    torch.testing.assert_close(found, expected)
    assert (found[x == 0] == 0).all()
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    direction = torch.linspace(-1, 1, 6, dtype=torch.float64).view_as(x)
    torch.testing.assert_close(torch.func.jvp(loss, (x,), (direction,))[1], (expected * direction).sum())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, direction)
        slope = torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent
    torch.testing.assert_close(slope, (expected * direction).sum())
    hessian = torch.autograd.functional.hessian(loss, x)
    torch.testing.assert_close(torch.autograd.functional.hessian(loss, x, vectorize=True), hessian)
    torch.testing.assert_close(hessian, torch.autograd.functional.jacobian(torch.func.grad(loss), x))
