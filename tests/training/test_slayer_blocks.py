"""Which modules are taken for SLAYER's: one answer for enforcers, training tools and the export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lookalike import LookalikeBlock, Synapse, lookalike_net
from slayer_nets import ADAPTIVE, CUBA, RESONATOR, SIGMA_DELTA

from lava_spikeloss import SparsityEnforcer, SpikeStatistics
from lava_spikeloss.slayer_blocks import (
    is_affine,
    is_block,
    is_bootstrap,
    is_kwta,
    is_pool,
    is_recurrent,
    is_spiking,
    is_synapse,
    kind,
    merged_steps,
    spiking_blocks,
    synapses,
)
from lava_spikeloss.training import firing_rate_, set_step_mode
from netx_export import ExportError, export
from netx_export.slayer.blocks import is_layer
from netx_export.slayer.chain import run_blocks

# What each block of lava-dl is: has neurons, puts out events, is a layer of neurons in a file.
SPIKES, SUMS, HOST = (True, True, True), (True, False, True), (True, False, False)
ENCODES, NO_NEURONS = (True, True, False), (False, False, False)
BLOCKS: dict[str, tuple[Callable[[Any], torch.nn.Module], tuple[bool, bool, bool]]] = {
    "cuba.Input": (lambda block: block.Input(dict(CUBA)), ENCODES),
    "cuba.Flatten": (lambda block: block.Flatten(), NO_NEURONS),
    "cuba.Average": (lambda block: block.Average(2), NO_NEURONS),
    "cuba.Affine": (lambda block: block.Affine(dict(CUBA), 4, 2), HOST),
    "cuba.Dense": (lambda block: block.Dense(dict(CUBA), 4, 2), SPIKES),
    "cuba.Conv": (lambda block: block.Conv(dict(CUBA), 1, 2, 3), SPIKES),
    "cuba.ConvT": (lambda block: block.ConvT(dict(CUBA), 1, 2, 3), SPIKES),
    "cuba.Pool": (lambda block: block.Pool(dict(CUBA), 2), SPIKES),
    "cuba.Unpool": (lambda block: block.Unpool(dict(CUBA), 2), SPIKES),
    "cuba.KWTA": (lambda block: block.KWTA(dict(CUBA), 4, 2, num_winners=1), SPIKES),
    "cuba.Recurrent": (lambda block: block.Recurrent(dict(CUBA), 4, 2), SPIKES),
    "alif.Dense": (lambda block: block.Dense({**CUBA, **ADAPTIVE}, 4, 2), SPIKES),
    "rf.Dense": (lambda block: block.Dense(dict(RESONATOR), 4, 2), SPIKES),
    "rf_iz.Conv": (lambda block: block.Conv(dict(RESONATOR), 1, 2, 3), SPIKES),
    "adrf.Dense": (lambda block: block.Dense({**RESONATOR, **ADAPTIVE}, 4, 2), SPIKES),
    "sigma_delta.Input": (lambda block: block.Input(dict(SIGMA_DELTA)), ENCODES),
    "sigma_delta.Dense": (lambda block: block.Dense(dict(SIGMA_DELTA), 4, 2), SPIKES),
    "sigma_delta.Output": (lambda block: block.Output(dict(SIGMA_DELTA), 4, 2), SUMS),
}


@pytest.mark.slayer
@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_of_lava_dl(name: str, slayer: Any) -> None:
    build, expected = BLOCKS[name]
    block = build(getattr(slayer.block, name.partition(".")[0]))
    assert kind(block) == name
    assert (is_block(block), is_spiking(block), is_layer(block)) == expected
    assert is_affine(block) == name.endswith("Affine")
    assert is_recurrent(block) == name.endswith("Recurrent")
    assert is_kwta(block) == name.endswith("KWTA")
    assert is_pool(block) == name.endswith(("Pool", "Unpool"))
    assert not is_bootstrap(block)
    parts = [name for name, module in block.named_modules() if is_synapse(module)]
    called = [name for (_, name), _ in synapses(block)]
    assert called == [part for part in parts if part != "recurrent_synapse"]


@pytest.mark.slayer
def test_blocks_without_neurons_and_bootstrap_blocks(slayer: Any) -> None:
    from lava.lib.dl import bootstrap

    plain_input, decimation = slayer.block.cuba.Input(None), slayer.block.cuba.TimeDecimation(4)
    assert [is_block(block) for block in (plain_input, decimation)] == [False, False]
    assert [merged_steps(block) for block in (plain_input, decimation)] == [1, 4]
    for name, expected in (("Dense", SPIKES), ("Affine", HOST)):
        block = getattr(bootstrap.block.cuba, name)(dict(CUBA), 4, 2)
        assert kind(block) == f"cuba.{name}"
        assert is_bootstrap(block)
        assert (is_block(block), is_spiking(block), is_layer(block)) == expected


@pytest.mark.slayer
def test_a_subclass_is_what_it_derives_from_whatever_its_name(slayer: Any) -> None:
    class Output(slayer.block.cuba.Dense):
        """Bears the name of sigma-delta's Output, which puts out no events."""

    net = torch.nn.Sequential(Output(dict(CUBA), 8, 6, weight_scale=4))
    assert kind(net[0]) == "cuba.Dense"
    enforcer, statistics = SparsityEnforcer(0.0).attach(net), SpikeStatistics().attach(net)
    net(torch.ones(1, 8, 12))
    assert enforcer.loss > 0
    assert statistics.compute().layers["0"].counts.any()


def test_a_compiled_block_is_one_block() -> None:
    """``torch.compile`` makes a module that hands on the attributes of the block that it wraps."""
    torch._dynamo.reset()
    net, x = lookalike_net(6, 5, 4), (torch.rand(2, 6, 8) < 0.5).float()
    plain = SparsityEnforcer(0.0).attach(net)
    net(x)
    expected = plain.loss
    plain.detach()
    compiled = torch.nn.Sequential(torch.compile(net[0], backend="eager"), net[1])
    assert [name for name, _ in spiking_blocks(compiled)] == ["0._orig_mod", "1"]
    assert [key for key, _ in synapses(compiled)] == [("0._orig_mod", "0._orig_mod.synapse"), ("1", "1.synapse")]
    enforcer = SparsityEnforcer(0.0).attach(compiled)
    compiled(x)
    torch.testing.assert_close(enforcer.loss, expected)


def test_a_compiled_synapse_is_one_synapse() -> None:
    net = lookalike_net(6, 5)
    net[0].synapse = torch.compile(net[0].synapse, backend="eager")
    assert [key for key, _ in synapses(net)] == [("0", "0.synapse._orig_mod")]


@pytest.mark.slayer
def test_a_compiled_block_gets_the_hooks_of_step_mode_once(slayer: Any) -> None:
    block = slayer.block.cuba.Dense(dict(CUBA), 4, 2)
    net = torch.nn.Sequential(torch.compile(block, backend="eager"))
    set_step_mode(net, "s")
    assert (len(net[0]._forward_hooks), len(block._forward_hooks)) == (0, 1)


def test_a_block_of_your_own_is_watched_but_not_exported(tmp_path: Any) -> None:
    net = torch.nn.Sequential(LookalikeBlock(6, 5))
    assert (is_spiking(net[0]), kind(net[0])) == (True, "")
    enforcer = SparsityEnforcer(0.0).attach(net)
    net(torch.ones(1, 6, 3))
    assert enforcer.loss > 0
    with pytest.raises(ExportError, match="holds no SLAYER block"):
        export(net, tmp_path / "own.net", torch.ones(1, 6, 3))


@pytest.mark.slayer
def test_a_block_of_your_own_beside_slayers_is_refused_by_the_export(slayer: Any) -> None:
    net = torch.nn.Sequential(slayer.block.cuba.Dense(dict(CUBA), 6, 6), LookalikeBlock(6, 5))
    with pytest.raises(ExportError, match=r"`1\.synapse\.weight` \(5, 6, 1, 1, 1\) lies outside of any SLAYER block"):
        run_blocks(net, None)


@pytest.mark.slayer
def test_an_abstract_block_with_other_neurons_is_no_block_of_lava_dl_that_can_be_exported(slayer: Any) -> None:
    class Mine(slayer.block.base.AbstractDense):
        def __init__(self) -> None:
            super().__init__({}, 6, 5)
            self.neuron = torch.nn.Identity()
            self.synapse = slayer.synapse.Dense(6, 5)

    block = Mine()
    assert (is_spiking(block), kind(block)) == (True, "base.AbstractDense")
    with pytest.raises(ExportError, match="this block is not known"):
        export(torch.nn.Sequential(block), "unwritten.net", torch.ones(1, 6, 3))


def test_parametrized_synapses_are_synapses() -> None:
    net = lookalike_net(6, 5)
    torch.nn.utils.parametrizations.weight_norm(net[0].synapse)
    assert [key for key, _ in synapses(net)] == [("0", "0.synapse")]
    statistics = SpikeStatistics().attach(net)
    net(torch.ones(1, 6, 1))
    assert statistics.compute().layers["0"].synops == 6 * 5


class _Twice(LookalikeBlock):
    """Calls a second synapse, whose name ends as that of a Recurrent block's does."""

    def __init__(self) -> None:
        super().__init__(6, 5)
        self.own_recurrent_synapse = Synapse(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(self.synapse(x) + self.own_recurrent_synapse(x))


def test_a_synapse_that_is_called_counts_whatever_its_name() -> None:
    net = torch.nn.Sequential(_Twice())
    statistics = SpikeStatistics().attach(net)
    net(torch.ones(1, 6, 1))
    assert statistics.compute().layers["0"].synops == 2 * 6 * 5


def test_synapses_belong_to_the_nearest_block() -> None:
    """lava-dl's own ``SequentialNetwork`` has the option ``count_log`` of a block, and no neurons."""
    net = torch.nn.Module()
    net.count_log = False
    net.inner, net.free = LookalikeBlock(6, 5), Synapse(6, 5)
    assert [key for key, _ in synapses(net)] == [("inner", "inner.synapse"), ("free", "free")]


@pytest.mark.slayer
def test_the_firing_rate_of_a_block_without_events_is_not_set(slayer: Any) -> None:
    block = slayer.block.sigma_delta
    net = torch.nn.Sequential(block.Dense(dict(SIGMA_DELTA), 8, 16), block.Output(dict(SIGMA_DELTA), 16, 6))
    before = net[1].synapse.weight.detach().clone()
    assert list(firing_rate_(net, torch.rand(4, 8, 16))) == ["0"]
    assert torch.equal(net[1].synapse.weight, before)
