"""Initial weights: their spread, and the rates they lead to."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from slayer_nets import CUBA, NETS, dense, normed
from torch.nn.utils import prune

from lava_spikeloss.training import (
    firing_rate_,
    fresh_state,
    kaiming_normal_,
    kaiming_normal_conv_linear_weight,
)

LAYERS = {
    "linear": lambda: (torch.nn.Linear(300, 100), 300, 100),
    "conv": lambda: (torch.nn.Conv2d(40, 60, 3), 360, 540),
    "groups": lambda: (torch.nn.Conv2d(40, 60, 3, groups=2), 180, 270),
    "transposed": lambda: (torch.nn.ConvTranspose2d(40, 60, 3), 360, 540),
    "transposed groups": lambda: (torch.nn.ConvTranspose2d(40, 60, 3, groups=2), 180, 270),
    "weight norm": lambda: (torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(300, 100)), 300, 100),
    "weight norm of all": lambda: (
        torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(300, 100), dim=None),
        300,
        100,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_standard_deviation_follows_the_fan(name: str, mode: str) -> None:
    layer, fan_in, fan_out = LAYERS[name]()
    bias = layer.bias.detach().clone()
    kaiming_normal_(layer, mode=mode)
    fan = fan_in if mode == "fan_in" else fan_out
    assert layer.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)
    assert layer.weight.mean().abs() < 0.01
    assert torch.equal(layer.bias, bias)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_the_older_weight_norm_over_any_dimension(dim: int | None) -> None:
    """As SLAYER uses it: the weight in use is made of its two parts in the forward."""
    layer = torch.nn.utils.weight_norm(torch.nn.Linear(300, 100), dim=dim)
    kaiming_normal_(layer)
    layer(torch.ones(1, 300))
    assert layer.weight.std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.03)


def test_pruned_weights_stay_zero_and_the_others_are_drawn() -> None:
    layer = torch.nn.Linear(300, 100)
    prune.random_unstructured(layer, "weight", 0.5)
    before, kept = layer.weight.clone(), layer.weight_mask.bool()
    kaiming_normal_(layer)
    drawn = layer.weight.clone()
    layer(torch.ones(1, 300))
    assert torch.equal(layer.weight, drawn)  # what the next forward uses
    assert bool((drawn[kept] != before[kept]).all())
    assert not drawn[~kept].any()
    assert drawn[kept].std().item() == pytest.approx((2 / 300) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    "computed",
    [
        torch.nn.utils.spectral_norm,
        torch.nn.utils.parametrizations.spectral_norm,
        torch.nn.utils.parametrizations.orthogonal,
        lambda layer: prune.random_unstructured(torch.nn.utils.weight_norm(layer), "weight_v", 0.5),
    ],
)
def test_a_weight_that_is_computed_in_another_way_is_refused_and_nothing_is_drawn(computed: Any) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(6, 6), computed(torch.nn.Linear(6, 6)))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(TypeError, match=r"Expected the weight of `1` .* to be a parameter"):
        kaiming_normal_(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_gain_of_the_nonlinearity() -> None:
    layer = torch.nn.Linear(300, 100)
    kaiming_normal_(layer, nonlinearity="linear")
    assert layer.weight.std().item() == pytest.approx((1 / 300) ** 0.5, rel=0.03)
    with pytest.raises(ValueError, match="`mode` to be one of"):
        kaiming_normal_(layer, mode="fan")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "layer", [torch.nn.Linear(300, 100), torch.nn.Conv2d(40, 60, 3), torch.nn.Conv1d(40, 60, 3, groups=2)]
)
def test_weights_under_spikingjellys_name_are_as_wide_as_there(layer: Any) -> None:
    torch.nn.init.kaiming_normal_(layer.weight, a=5**0.5)  # all of the function there, for each layer
    there, bias = layer.weight.std().item(), layer.bias.clone()
    kaiming_normal_conv_linear_weight(layer)
    assert layer.weight.std().item() == pytest.approx(there, rel=0.05)
    assert torch.equal(layer.bias, bias)


def test_weights_are_as_wide_as_those_of_an_installed_spikingjelly() -> None:
    peer = pytest.importorskip("spikingjelly.activation_based.functional")
    ours, theirs = torch.nn.Linear(300, 100), torch.nn.Linear(300, 100)
    kaiming_normal_conv_linear_weight(ours)
    peer.kaiming_normal_conv_linear_weight(theirs)
    assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.05)


@pytest.mark.slayer
@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize("kind", ["Dense", "Conv", "ConvTranspose"])
def test_every_slayer_synapse_is_reached(kind: str, weight_norm: bool, slayer: Any) -> None:
    arguments = (300, 100) if kind == "Dense" else (60, 40, 3)
    synapse = getattr(slayer.synapse, kind)(*arguments, weight_norm=weight_norm)
    kaiming_normal_(synapse)
    synapse.pre_hook_fx = None
    if kind == "Dense":
        synapse(torch.ones(1, 300, 2))
    else:
        synapse(torch.ones(1, 60, 4, 4, 2))  # weight norm computes the weight in the forward
    fan = 300 if kind == "Dense" else 540
    assert synapse.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.03)


@pytest.mark.slayer
def test_recurrent_and_complex_synapses_are_reached_and_pools_are_not(slayer: Any) -> None:
    net = torch.nn.Sequential(
        slayer.block.cuba.Recurrent(dict(CUBA), 4, 4),
        slayer.block.rf.Dense({"threshold": 1, "period": 8, "decay": 0.1}, 4, 4),
        slayer.block.cuba.Pool(dict(CUBA), 2),
    )
    before = {name: value.clone() for name, value in net.state_dict().items() if name.endswith("weight")}
    kaiming_normal_(net)
    changed = [name for name, value in before.items() if not torch.equal(net.state_dict()[name], value)]
    assert changed == [
        "0.input_synapse.weight",
        "0.recurrent_synapse.weight",
        "1.synapse.real.weight",
        "1.synapse.imag.weight",
    ]


def deep(depth: int = 6, **options: Any) -> torch.nn.Module:
    import lava.lib.dl.slayer as slayer

    params = {"threshold": 1.25, "current_decay": 0.6, "voltage_decay": 0.3}
    sizes = [16, *[64] * depth, 8]
    return torch.nn.Sequential(*(slayer.block.cuba.Dense(dict(params), a, b, **options) for a, b in pairwise(sizes)))


def rates(net: torch.nn.Module, x: torch.Tensor) -> list[float]:
    found = []
    with torch.no_grad(), fresh_state(net):
        for block in net:
            x = block(x)
            found.append(x.mean().item())
    return found


@pytest.mark.slayer
@pytest.mark.parametrize("weight_norm", [False, True])
def test_a_deep_net_fires_at_the_rate_in_every_layer(weight_norm: bool) -> None:
    x = (torch.rand(16, 16, 64) < 0.2).float()
    net = deep(weight_norm=weight_norm)
    assert rates(net, x)[-1] == 0, "SLAYER's own start is silent at this depth"
    reached = firing_rate_(net, x, rate=0.1, tolerance=0.1)
    assert list(reached) == [str(index) for index in range(7)]
    assert rates(net, x) == pytest.approx(list(reached.values()))
    assert all(0.089 < rate < 0.111 for rate in reached.values())


@pytest.mark.slayer
def test_it_shortens_the_dead_start() -> None:
    """A deep net on a small task: after the same steps the initialised one has learned, the other is still silent."""
    x = (torch.rand(32, 16, 48) < 0.2).float()
    labels = torch.randint(8, (32,))
    losses = []
    for initialise in (False, True):
        torch.manual_seed(1)
        net = deep(4)
        if initialise:
            firing_rate_(net, x, rate=0.1)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(25):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x).sum(dim=-1), labels)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    chance = torch.tensor(8.0).log().item()
    assert losses[0] == pytest.approx(chance, abs=0.01)
    assert losses[1] < 0.9 * chance


@pytest.mark.slayer
@pytest.mark.parametrize("name", ["conv", "recurrent", "alif", "rf", "kwta", "mean-only norm", "sigma-delta"])
def test_every_kind_of_block(name: str, spikes: torch.Tensor) -> None:
    net = NETS[name]()
    with torch.no_grad(), fresh_state(net):
        net(spikes)
    reached = firing_rate_(net, spikes, rate=0.2)
    assert all(0 < rate < 0.5 for rate in reached.values())
    assert sum(len(m._forward_pre_hooks) for m in net.modules()) == 0


@pytest.mark.slayer
def test_trials_are_no_data_for_the_norms(spikes: torch.Tensor) -> None:
    net = normed("MeanOnlyBatchNorm").train()
    before = [block.neuron.norm.running_mean.clone() for block in net]
    firing_rate_(net, spikes)
    assert all(torch.equal(block.neuron.norm.running_mean, mean) for block, mean in zip(net, before, strict=True))


@pytest.mark.slayer
def test_a_silent_sample_is_an_error(spikes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"`0` \(Dense\) to fire .* silent up to"):
        firing_rate_(dense(), torch.zeros_like(spikes))
    with pytest.raises(ValueError, match="`net` to have a spiking block"):
        firing_rate_(torch.nn.Conv1d(8, 2, 1), spikes)
    with pytest.raises(ValueError, match=r"`rate` to be at most 0\.5"):
        firing_rate_(dense(), spikes, rate=0.9)
