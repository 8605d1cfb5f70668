"""A block that does something else than its weights and parameters say is found out without any sample."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_cases import CUBA, RF, SDNN, Chain
from torch import nn
from torch.nn.utils import parametrizations, prune

from netx_export import ExportError, export, simulate
from netx_export.slayer import record

pytestmark = pytest.mark.slayer


def blocks_of(family: str) -> Any:
    import lava.lib.dl.slayer.block as block

    return getattr(block, family)


def network(**neuron: Any) -> Chain:
    torch.manual_seed(0)
    dense = blocks_of("cuba").Dense
    return Chain([dense({**CUBA, **neuron}, 6, 8, weight_scale=8), dense(dict(CUBA), 8, 5, weight_scale=8)])


def resonators(**neuron: Any) -> Chain:
    torch.manual_seed(0)
    return Chain([blocks_of("rf").Dense({**RF, **neuron}, 6, 5, weight_scale=8)])


def sigma_delta(**neuron: Any) -> Chain:
    torch.manual_seed(0)
    family = blocks_of("sigma_delta")
    return Chain([family.Input(dict(SDNN)), family.Dense({**SDNN, **neuron}, 6, 5, weight_scale=4)])


def spikes(samples: int = 4) -> torch.Tensor:
    return (torch.rand(samples, 6, 24, generator=torch.Generator().manual_seed(1)) < 0.4).float()


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (network, "_threshold", 1.3),
        (network, "_threshold", torch.tensor(1.3)),
        (network, "w_scale", 32),
        (network, "w_scale", 128),
        (network, "s_scale", 2048),
        (network, "p_scale", 2048),
        (network, "threshold_eps", 0.3),
        (network, "threshold_eps", 0.0),
        (network, "graded_spike", True),
        (network, "persistent_state", True),
        (network, "drop", torch.zeros_like),
        (resonators, "_threshold", 1.3),
        (resonators, "w_scale", 32),
        (resonators, "s_scale", 2048),
        (resonators, "p_scale", 2048),
        (resonators, "persistent_state", True),
        (sigma_delta, "w_scale", 32),
        (sigma_delta, "s_scale", 2048),
        (sigma_delta, "activation", nn.functional.relu6),
        (sigma_delta, "activation", torch.abs),
        (sigma_delta, "delta.scale", 64),
        (sigma_delta, "delta.cum_error", True),
        (sigma_delta, "delta.persistent_state", True),
        (sigma_delta, "sigma.persistent_state", True),
    ],
)
@pytest.mark.parametrize("sampled", [True, False])
def test_a_constant_that_was_changed_afterwards(
    make: Callable[[], Chain], name: str, value: Any, sampled: bool, tmp_path: Path
) -> None:
    net = make()
    net(spikes())
    *path, last = name.split(".")
    part: Any = net.blocks[-1 if make is sigma_delta else 0].neuron
    for step in path:
        part = getattr(part, step)
    setattr(part, last, value)
    with pytest.raises(ExportError, match=r"Block [01] \("):
        export(net, tmp_path / "a.net", spikes() if sampled else None)
    assert not list(tmp_path.iterdir())


def _scaled(factor: float) -> Callable[..., torch.Tensor]:
    return lambda module, args, output: output * factor


def _zeroed(module: nn.Module, args: Any) -> Any:
    return (args[0] * torch.tensor([1.0, 1, 1, 0, 0, 1]).reshape(1, -1, 1),)


def _instead(part: Any, name: str, function: Callable[[Any], Callable[..., Any]]) -> None:
    setattr(part, name, function(getattr(part, name)))


CHANGES: dict[str, Callable[[Any], object]] = {
    "a hook of the block": lambda block: block.register_forward_hook(lambda module, args, output: 1 - output),
    "a hook of the synapse": lambda block: block.synapse.register_forward_hook(_scaled(1.5)),
    "a hook before the synapse": lambda block: block.synapse.register_forward_pre_hook(_zeroed),
    "a hook of the neuron": lambda block: block.neuron.register_forward_hook(lambda module, args, output: 1 - output),
    "a hook before the neuron": lambda block: block.neuron.register_forward_pre_hook(lambda module, args: -args[0]),
    "a method of the neuron": lambda block: _instead(block.neuron, "spike", lambda old: lambda v: 1 - old(v)),
    "a method of the synapse": lambda block: _instead(block.synapse, "forward", lambda old: lambda x: 2 * old(x)),
    "a method of the block": lambda block: _instead(block, "forward", lambda old: lambda x: old(x.flip(1))),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sampled", [True, False])
def test_a_block_that_was_changed_from_outside(change: str, sampled: bool, tmp_path: Path) -> None:
    net = network()
    net(spikes())
    CHANGES[change](net.blocks[0])
    with pytest.raises(ExportError, match=r"Block 0 \(cuba.Dense\).*run by itself on random input"):
        export(net, tmp_path / "a.net", spikes() if sampled else None)
    assert not list(tmp_path.iterdir())


def _prune(synapse: nn.Module) -> None:
    prune.l1_unstructured(synapse, "weight", 0.5)


def _fixed_hook(synapse: Any) -> None:
    """A hook of the user's own that makes the weights, as pruning does."""
    raw = synapse._parameters.pop("weight")
    synapse.register_parameter("raw", raw)
    synapse.weight = raw.detach() * 0

    def make(module: Any, args: Any) -> None:
        module.weight = module.raw * 0.5

    synapse.register_forward_pre_hook(make)


MAKERS: dict[str, Callable[[Any], object]] = {
    "pruning": _prune,
    "spectral norm": lambda synapse: nn.utils.spectral_norm(synapse, n_power_iterations=9),
    "spectral norm, parametrized": lambda synapse: parametrizations.spectral_norm(synapse, n_power_iterations=9),
    "weight norm": lambda synapse: synapse.enable_weight_norm(),
    "weight norm, parametrized": lambda synapse: parametrizations.weight_norm(synapse),
    "a hook": _fixed_hook,
}


@pytest.mark.parametrize("made_by", MAKERS)
@pytest.mark.parametrize("after", ["step", "load_state_dict"])
@pytest.mark.parametrize("sampled", [True, False])
def test_weights_are_those_of_the_next_forward(made_by: str, after: str, sampled: bool, tmp_path: Path) -> None:
    net = network()
    net(spikes())
    for block in net.blocks:
        MAKERS[made_by](block.synapse)
        for parameter in block.synapse.parameters():
            parameter.data *= 3  # spectral norm makes small ones of them
    net(spikes())
    with torch.no_grad():
        if after == "step":
            for block in net.blocks:
                for parameter in block.synapse.parameters():
                    parameter += 0.7 * torch.rand_like(parameter)
        else:
            state = {
                name: value + 0.7 if "weight_orig" in name or "raw" in name else value
                for name, value in copy.deepcopy(net.state_dict()).items()
            }
            net.load_state_dict(state)
    result = export(net, tmp_path / "a.net", spikes() if sampled else None, allow_silent=["dense1", "dense2", "output"])
    net.eval()
    with torch.no_grad():
        expected = net(spikes(16))
    assert result.proved == (sampled and not result.silent)
    np.testing.assert_array_equal(simulate(tmp_path / "a.net", spikes(16)).output, expected.numpy())


@pytest.mark.parametrize("family", ["cuba", "rf"])
@pytest.mark.parametrize("width", [4, 5])
def test_decays_per_channel_of_images_are_refused_on_a_cpu(family: str, width: int, tmp_path: Path) -> None:
    """SLAYER runs where width and channels agree, but along the wrong axis."""
    torch.manual_seed(0)
    neuron = {**(CUBA if family == "cuba" else {**RF, "decay": (0.05, 0.3)}), "shared_param": False}
    if family == "cuba":
        neuron |= {"current_decay": (0.1, 0.5), "voltage_decay": (0.03, 0.3)}
    net = Chain([blocks_of(family).Conv(neuron, 2, 4, 3, weight_scale=4)])
    sample = (torch.rand(4, 2, width + 2, width + 2, 24) < 0.4).float()
    if width == 4:
        net(sample)
    else:  # as if it came from a GPU
        net.blocks[0].neuron.shape = (4, width, width)
        for decay in net.blocks[0].neuron.parameters():
            decay.data = torch.linspace(300, 900, 4)
    with pytest.raises(ExportError, match="along the width of an image"):
        export(net, tmp_path / "a.net", sample)


def test_equal_decays_of_all_channels_have_no_wrong_axis(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Chain([blocks_of("cuba").Conv({**CUBA, "shared_param": False}, 2, 4, 3, weight_scale=4)])
    sample = (torch.rand(4, 2, 6, 6, 24) < 0.4).float()
    net(sample)
    for decay in (net.blocks[0].neuron.current_decay, net.blocks[0].neuron.voltage_decay):
        decay.data.fill_(300.0)
    assert export(net, tmp_path / "a.net", sample).proved


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats_are_refused_for_what_they_are(dtype: torch.dtype, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=re.escape(f"is {dtype}, in which SLAYER's sums are rounded")):
        export(network().to(dtype), tmp_path / "a.net", spikes())


def test_input_neurons_with_decays_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cuba = blocks_of("cuba")
    net = Chain([cuba.Input({**CUBA, "shared_param": False}), cuba.Dense(dict(CUBA), 6, 5, weight_scale=8)])
    values = torch.rand(4, 6, 24) * 2
    net(values)
    net.blocks[0].neuron.current_decay.data = torch.linspace(400, 3000, 6)
    assert export(net, tmp_path / "a.net", values).proved


def test_a_block_asked_to_keep_its_state_is_refused_and_one_that_was_made_to_is_named(tmp_path: Path) -> None:
    cuba = blocks_of("cuba")
    with pytest.raises(ExportError, match=r"Block 0 \(cuba.Dense\).*keep their state"):
        export(network(persistent_state=True), tmp_path / "a.net", spikes())
    torch.manual_seed(0)
    shared = dict(CUBA)
    net = Chain([cuba.Recurrent(shared, 6, 5, weight_scale=8), cuba.Dense(shared, 5, 4, weight_scale=8)])
    findings = export(net, tmp_path / "a.net", spikes()).findings
    assert [finding.layer for finding in findings if finding.rule == "persistent state"] == ["recurrent1", "dense2"]


def test_a_block_is_run_from_rest_though_the_network_ran_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Chain([blocks_of("cuba").Recurrent(dict(CUBA), 6, 5, weight_scale=8)])
    net(torch.ones(8, 6, 24))  # as many samples as a block is run on by itself
    before = net.blocks[0].neuron.voltage_state.clone()
    result = export(net, tmp_path / "a.net", spikes())
    assert result.proved
    assert torch.equal(net.blocks[0].neuron.voltage_state, before)
    trained = record(net, spikes(16), ["recurrent1"])
    np.testing.assert_array_equal(simulate(tmp_path / "a.net", spikes(16)).output, trained.output)


@pytest.mark.parametrize("side", [64, 96, 112, 160, 384])
def test_a_large_image_is_probed_by_fewer_samples(side: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Chain([blocks_of("cuba").Conv(dict(CUBA), 2, 1, 8, stride=8, weight_scale=4)])
    sample = (torch.rand(1, 2, side, side, 6) < 0.3).float()
    assert export(net, tmp_path / "a.net", sample).proved
    net.blocks[0].synapse.register_forward_hook(lambda module, args, output: -output)
    with pytest.raises(ExportError, match="run by itself on random input"):
        export(net, tmp_path / "a.net", sample)


def test_a_block_that_makes_much_of_little_is_run_on_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(sys.modules["netx_export.slayer.probing"], "_MAX_VALUES", 2**14)
    torch.manual_seed(0)
    net = Chain([blocks_of("cuba").Conv(dict(CUBA), 1, 16, 3, padding=1, weight_scale=8)])
    net.blocks[0].register_forward_hook(lambda module, args, output: made.append(output.numel()))
    assert not export(net, tmp_path / "a.net", (torch.rand(1, 1, 8, 8, 4) < 0.5).float()).silent
    assert max(made[4:-1]) == 16 * 8 * 8 * 32  # after the four runs of the chain, one sample of 32 steps


@pytest.mark.parametrize("shift", [True, False, 1, 0, "yes", None], ids=repr)
def test_a_delay_shift_is_read_as_slayer_reads_it(shift: Any, tmp_path: Path) -> None:
    net = network()
    net.blocks[0].delay_shift = shift
    result = export(net, tmp_path / "a.net", spikes())
    assert result.proved
    assert result.description.layers[1].delay_shift is (shift is True)
