"""A forward that does more than run its blocks is found out, whatever the sample shows of it."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support_cases import CUBA, Chain
from torch import nn

from netx_export import ExportError, export, simulate, verify

pytestmark = pytest.mark.slayer

Forward = Callable[[Any, torch.Tensor], Any]
Pair = namedtuple("Pair", ["spikes", "counts"])


@dataclass
class Made:
    """What a network may return several values in."""

    spikes: torch.Tensor
    hidden: Any = None


@dataclass(slots=True)
class Slotted:
    spikes: torch.Tensor
    hidden: Any = None


def dense(inputs: int = 6, outputs: int = 6, **neuron: Any) -> nn.Module:
    from lava.lib.dl.slayer.block import cuba

    block: nn.Module = cuba.Dense({**CUBA, **neuron}, inputs, outputs, weight_scale=8)
    return block


def network(forward: Forward) -> Chain:
    """Two blocks of six neurons, run by a forward of the test's own."""
    torch.manual_seed(0)
    cls = type("Network", (Chain,), {"forward": forward})
    net: Chain = cls([dense(), dense()])
    return net


def spikes(samples: int = 4, rate: float = 0.4) -> torch.Tensor:
    return (torch.rand(samples, 6, 24, generator=torch.Generator().manual_seed(1)) < rate).float()


def blocks(net: Any, x: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = net.blocks[1](net.blocks[0](x))
    return made


def _silences_its_input(net: Any, x: torch.Tensor) -> torch.Tensor:
    x[:, :4] = 0
    return blocks(net, x)


def _scales_its_input(net: Any, x: torch.Tensor) -> torch.Tensor:
    return blocks(net, x.mul_(0.5))


def _normalises(net: Any, x: torch.Tensor) -> torch.Tensor:
    return blocks(net, (x - x.mean()) / (x.std() + 1))


def _writes_between(net: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = net.blocks[0](x)
    hidden[:, 0] = 0
    return net.blocks[1](hidden)


def _residual(net: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = net.blocks[0](x)
    return net.blocks[1](hidden) + hidden


def _flips_between(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.blocks[1](net.blocks[0](x).flip(1))


def _doubles(net: Any, x: torch.Tensor) -> torch.Tensor:
    return 2 * blocks(net, x)


def _flips_its_output(net: Any, x: torch.Tensor) -> torch.Tensor:
    return blocks(net, x).flip(1)


def _returns_what_is_hidden(net: Any, x: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = net.blocks[0](x)
    net.blocks[1](hidden)
    return hidden


def _remembers(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Mixes in what its first block made at the last call, if that was of the same size."""
    hidden = net.blocks[0](x)
    before, net.memory = getattr(net, "memory", hidden), hidden.clone()
    return net.blocks[1](torch.maximum(hidden, before) if before.shape == hidden.shape else hidden)


def _writes_into_its_output(net: Any, x: torch.Tensor) -> torch.Tensor:
    return blocks(net, x).mul_(0.5)


BETWEEN = r"Block 1 \(cuba.Dense\).*its input is not what the block before it made"
OUTPUT = "does not return what its last block made"
SAMPLES = pytest.mark.parametrize(
    "sample", [spikes(), torch.zeros(2, 6, 24), torch.ones(2, 6, 24)], ids=["real", "0", "1"]
)


@SAMPLES
@pytest.mark.parametrize(
    ("forward", "match"),
    [
        (_writes_between, BETWEEN),
        (_residual, OUTPUT),
        (_returns_what_is_hidden, OUTPUT),
        (_remembers, BETWEEN),
        (lambda net, x: {"spikes": blocks(net, x) + x}, f"{OUTPUT}.*takes what the network was given and what"),
        (lambda net, x: None, "runs none of its SLAYER blocks"),
        (lambda net, x: net.blocks[1].forward(net.blocks[0](x)), r"Block 1 .*does not run it by calling it\. Call the"),
    ],
)
def test_what_a_forward_does_beside_its_blocks_is_found(
    forward: Forward, match: str, sample: torch.Tensor, tmp_path: Path
) -> None:
    before = sample.clone()
    with pytest.raises(ExportError, match=match):
        export(network(forward), tmp_path / "a.net", sample)
    assert torch.equal(sample, before)
    assert not list(tmp_path.iterdir())


@SAMPLES
@pytest.mark.parametrize(
    ("forward", "begins_inside", "ends_inside"),
    [
        (_silences_its_input, True, False),
        (_flips_between, False, False),
        (_doubles, False, True),
        (_flips_its_output, False, True),
        (_writes_into_its_output, False, True),
        (lambda net, x: {"spikes": blocks(net, x)}, False, False),
        (lambda net, x: blocks(net, x).to_sparse(), False, False),
        (lambda net, x: (blocks(net, x).mean(-1), blocks), False, True),
    ],
)
def test_what_a_forward_does_around_its_blocks_is_found(
    forward: Forward, begins_inside: bool, ends_inside: bool, sample: torch.Tensor, tmp_path: Path
) -> None:
    before = sample.clone()
    result = export(network(forward), tmp_path / "a.net", sample, allow_silent=["dense1", "dense2", "output"])
    assert (result.begins_inside, result.ends_inside) == (begins_inside, ends_inside)
    assert torch.equal(sample, before)


@pytest.mark.parametrize("several", [Made, Slotted, Pair, lambda *made: list(made)])
def test_each_value_that_a_network_returns_counts_by_itself(several: Callable[..., Any], tmp_path: Path) -> None:
    """Rates follow from the last block alone, whatever is returned beside them and in what."""

    def with_hidden(net: Any, x: torch.Tensor) -> Any:
        hidden = net.blocks[0](x)
        return several(net.blocks[1](hidden).mean(-1), hidden)

    result = export(network(with_hidden), tmp_path / "a.net", spikes())
    assert (result.proved, result.ends_inside) == (True, True)
    result = export(network(lambda net, x: several(blocks(net, x), x)), tmp_path / "b.net", spikes())
    assert (result.proved, result.ends_inside) == (True, False)


@pytest.mark.parametrize(
    "behind",
    [
        lambda spikes: spikes.mean(-1) + torch.rand(1),
        lambda spikes: nn.functional.dropout(spikes, 0.5, training=True),
    ],
    ids=["noise", "dropout"],
)
def test_chance_behind_the_last_block_is_told(behind: Callable[[Any], Any], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"{OUTPUT}.*what it returns changes from run to run, by chance or"):
        export(network(lambda net, x: behind(blocks(net, x))), tmp_path / "a.net", spikes())


def test_the_error_of_a_forward_that_fails_on_two_axes_is_shown(tmp_path: Path) -> None:
    def failing(net: Any, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("the table of codes is empty")

    with pytest.raises(ValueError, match=r"`sample` to be of shape \(N, C.*but got \(4, 6\)\..*the table of codes is"):
        export(network(failing), tmp_path / "a.net", torch.ones(4, 6))


@pytest.mark.parametrize("forward", [_scales_its_input, _normalises])
def test_a_forward_that_makes_numbers_of_spikes_before_its_first_block_is_refused(
    forward: Forward, tmp_path: Path
) -> None:
    with pytest.raises(
        ExportError, match=r"makes of the sample for its first block is no input.*Expected spikes of 0 and"
    ):
        export(network(forward), tmp_path / "a.net", spikes())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(1, 6, 24), (4, 6, 1), (1, 6, 1)])
@pytest.mark.parametrize(
    "between",
    [
        lambda x: x.flip(0) if len(x) > 1 else x,
        lambda x: x.roll(1, -1),
        lambda x: x.cummax(-1).values,
        lambda x: x.cummax(0).values,
    ],
)
def test_small_samples_hide_nothing(
    between: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...], tmp_path: Path
) -> None:
    net = network(lambda net, x: net.blocks[1](between(net.blocks[0](x))))
    with pytest.raises(ExportError, match=BETWEEN):
        export(net, tmp_path / "a.net", torch.ones(shape), allow_silent=["dense1", "dense2", "output"])


def test_a_forward_that_takes_one_size_only_is_run_on_that(tmp_path: Path) -> None:
    net = network(lambda net, x: blocks(net, x.reshape(4, 6, 24)))
    assert export(net, tmp_path / "a.net", spikes()).proved
    assert not export(network(lambda net, x: blocks(net, x.reshape(1, 6, 24))), tmp_path / "b.net", spikes(1)).silent


@pytest.mark.parametrize(
    ("change", "inside"),
    [
        (lambda net: net.register_forward_pre_hook(lambda module, args: (args[0].flip(1),)), (True, False)),
        (lambda net: net.register_forward_hook(lambda module, args, output: output.flip(1)), (False, True)),
        (lambda net: setattr(net, "forward", lambda x: net.module(x.flip(1))), (True, False)),
    ],
)
def test_what_a_wrapper_does_of_its_own_counts(
    change: Callable[[nn.Module], object], inside: tuple[bool, bool], tmp_path: Path
) -> None:
    net = nn.DataParallel(network(blocks))
    change(net)
    result = export(net, tmp_path / "a.net", spikes())
    assert (result.begins_inside, result.ends_inside) == inside


@pytest.mark.parametrize(
    "forward",
    [
        lambda net, x: net.blocks[1](x=net.blocks[0](x=x)),
        lambda net, x: Pair(blocks(net, x), [1, 2]),
        lambda net, x: [blocks(net, x), None],
        lambda net, x: blocks(net, x.clone()).detach().contiguous(),
        lambda net, x: nn.functional.dropout(blocks(net, x), 0.5, net.training),
    ],
    ids=["by keyword", "namedtuple", "list", "copies", "dropout"],
)
def test_what_changes_no_value_is_exported(forward: Forward, tmp_path: Path) -> None:
    assert export(network(forward), tmp_path / "a.net", spikes()).proved


def test_verification_leaves_the_callers_spikes_alone_and_sees_what_the_blocks_saw(tmp_path: Path) -> None:
    export(network(blocks), tmp_path / "a.net", spikes())
    data = spikes(16)
    before = data.clone()
    report = verify(network(_silences_its_input), tmp_path / "a.net", data, lava_samples=0)
    assert torch.equal(data, before)
    assert report.exact
    assert report.begins_inside


def test_a_recorded_layer_is_what_the_block_made_not_what_was_written_into_it_later(tmp_path: Path) -> None:
    export(network(blocks), tmp_path / "a.net", spikes())
    report = verify(network(_writes_into_its_output), tmp_path / "a.net", spikes(16), lava_samples=0)
    assert [layer.differing for layer in report.layers] == [0, 0]
    assert report.comparisons[0].output is not None
    assert report.comparisons[0].output.differing == 0
    assert report.ends_inside


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrapped_networks_are_exported_as_what_they_hold(
    wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    net = network(blocks)
    plain = export(net, tmp_path / "a.net", spikes())
    wrapped = export(wrap(net), tmp_path / "b.net", spikes())
    assert wrapped.description == plain.description
    assert wrapped.proved


@pytest.mark.parametrize("before", [True, False], ids=["after its first run", "before its first run"])
@pytest.mark.parametrize("where", ["around", "inside", "in place"])
def test_a_compiled_network_works_after_its_export(where: str, before: bool, tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import sigma_delta  # torch 2.3 can compile no CUBA block

    neuron = {"threshold": 0.1, "activation": torch.relu}
    torch.manual_seed(0)
    net: Any = Chain(
        [sigma_delta.Input(neuron), sigma_delta.Dense(neuron, 6, 5, weight_scale=4), sigma_delta.Output(neuron, 5, 3)]
    )
    values = torch.randn(4, 6, 24).cumsum(-1) / 4
    expected = net(values)
    compiled = net
    if where == "around":
        compiled = torch.compile(net, backend="eager")
    elif where == "inside":
        net.blocks[1] = torch.compile(net.blocks[1], backend="eager")
    else:
        net.compile(backend="eager")
    if before:
        compiled(values)
    assert export(compiled, tmp_path / "a.net", values).proved
    assert torch.equal(compiled(values), expected)


def test_a_chain_may_end_in_a_flatten(tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(0)
    net = Chain([cuba.Conv(CUBA, 2, 3, 3, weight_scale=4), cuba.Flatten()])
    sample = (torch.rand(4, 2, 6, 6, 24) < 0.4).float()
    assert export(net, tmp_path / "a.net", sample).proved
    assert simulate(tmp_path / "a.net", sample).output.shape == (4, 48, 24)
    assert verify(net, tmp_path / "a.net", sample, lava_samples=0).passed


@pytest.mark.parametrize("name", ["Flatten", "Average", "Input", "Affine"])
def test_a_network_without_neurons_is_refused_for_that(name: str, tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import cuba

    made = {"Flatten": (), "Average": (2,), "Input": (dict(CUBA),), "Affine": (dict(CUBA), 6, 5)}[name]
    with pytest.raises(ExportError, match=f"no block with neurons that a chip could run, only cuba.{name}"):
        export(Chain([getattr(cuba, name)(*made)]), tmp_path / "a.net", spikes())


PARALLEL = """
import os, sys
import torch
import torch.distributed as dist
from lava.lib.dl.slayer.block import cuba
from netx_export import export

folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
torch.manual_seed(0)
net = torch.nn.Sequential(cuba.Dense({"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}, 6, 5))
net.register_buffer("steps", torch.zeros(1))  # buffers are what a forward waits for
net = torch.nn.parallel.DistributedDataParallel(net)
if rank == 0:
    export(net, f"{folder}/a.net", torch.ones(2, 6, 24), allow_silent=["dense1", "output"])
dist.barrier()
os._exit(0)  # gloo's threads may abort a process that ends by itself
"""


def test_one_rank_exports_a_parallel_network_without_the_others(tmp_path: Path) -> None:
    ranks = [subprocess.Popen([sys.executable, "-c", PARALLEL, str(tmp_path), rank]) for rank in ("0", "1")]
    try:
        assert [rank.wait(timeout=90) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    assert (tmp_path / "a.net").is_file()
