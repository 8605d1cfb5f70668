"""A forward is exported as it is written: what it does around and between its blocks is in the file, on the host, or
refused for what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support_forwards import FORWARDS, SHAPE, Forward, Images, sample
from support_networks import CUBA, RF
from torch import nn

from netx_export import ExportError, export, read, simulate, verify

pytestmark = pytest.mark.slayer

EXACT = [forward for forward in FORWARDS if not forward.refused]
REFUSED = [forward for forward in FORWARDS if forward.refused]


@pytest.mark.parametrize("forward", EXACT, ids=lambda forward: forward.does)
def test_what_a_forward_does_is_in_the_file_or_on_the_host(forward: Forward, tmp_path: Path) -> None:
    net, path, spikes = Images(forward.code), tmp_path / "a.net", sample()
    result = export(net, path, spikes)
    assert result.proved
    assert (result.begins_inside, result.ends_inside) == (forward.begins_inside, forward.ends_inside)
    recorded = read(path).metadata
    assert ("begins" in recorded, "ends" in recorded) == (forward.begins_inside, forward.ends_inside)
    report = verify(net, path, sample(12), lava_samples=0)
    assert report.exact
    assert report.passed
    assert (report.begins_inside, report.ends_inside) == (forward.begins_inside, forward.ends_inside)
    if isinstance(returned := net.eval()(spikes), torch.Tensor) and not (forward.begins_inside or forward.ends_inside):
        assert (simulate(path, spikes).output == returned.detach().numpy()).all()


@pytest.mark.parametrize("forward", REFUSED, ids=lambda forward: forward.does)
def test_what_no_file_can_do_is_refused_in_its_own_words(forward: Forward, tmp_path: Path) -> None:
    spikes = sample()
    with pytest.raises(ExportError, match=re.escape(forward.refused)) as caught:
        export(Images(forward.code), tmp_path / "a.net", spikes)
    assert caught.value.block.partition(" (")[0] == ("" if forward.at is None else f"Block {forward.at}")
    assert torch.equal(spikes, sample())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [list, dict], ids=["in a list", "in a dictionary"])
def test_a_block_that_is_no_part_of_the_network_is_not_taken_for_what_the_forward_does(
    place: type, tmp_path: Path
) -> None:
    from lava.lib.dl.slayer.block import cuba

    net = Images("c(b(net.hidden[0](a(x))).flatten(1, -2))")
    block = cuba.Conv(CUBA, 4, 4, 1, weight_scale=8)
    net.hidden = [block] if place is list else {0: block}
    with pytest.raises(ExportError, match=r"runs a cuba\.Conv that is no part of the network.*torch\.nn\.ModuleList"):
        export(net, tmp_path / "a.net", sample())


def with_strays(code: str) -> Images:
    """A network that keeps blocks outside of itself: in plain lists, or made by its forward."""
    from lava.lib.dl.slayer.block import cuba

    net = Images(code)
    net.new_flatten = cuba.Flatten
    net.kept_flatten = [cuba.Flatten()]
    net.frozen = [cuba.Conv(CUBA, 2, 2, 1, weight_scale=8)]
    net.hidden = [cuba.Conv(CUBA, 4, 4, 1, weight_scale=8)]
    net.teacher = [cuba.Dense(CUBA, 72, 5, weight_scale=8)]
    return net


@pytest.mark.parametrize(
    ("code", "inside"),
    [
        ("c(net.new_flatten()(b(a(x))))", (False, False)),
        ("c(net.kept_flatten[0](b(a(x))))", (False, False)),
        ("c(b(a(net.frozen[0](x))).flatten(1, -2))", (True, False)),
        ("(c(b(a(x)).flatten(1, -2)), net.teacher[0](x.flatten(1, -2)))", (False, False)),
        ("(h := a(x), net.hidden[0](h), c(b(h).flatten(1, -2)))[-1]", (False, False)),
        ("net.hidden[0](c(b(a(x)).flatten(1, -2))[:, :4, None, None])", (False, True)),
    ],
    ids=[
        "flatten in the forward",
        "flatten in a list",
        "encoder",
        "teacher",
        "between, for nothing",
        "behind the chain",
    ],
)
def test_blocks_outside_of_the_network_may_do_what_the_host_does(
    code: str, inside: tuple[bool, bool], tmp_path: Path
) -> None:
    net = with_strays(code)
    result = export(net, tmp_path / "a.net", sample())
    assert result.proved
    assert (result.begins_inside, result.ends_inside) == inside
    assert verify(net, tmp_path / "a.net", sample(12), lava_samples=0).exact


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "(net.teacher[0](x.flatten(1, -2)), c(b(net.hidden[0](a(x))).flatten(1, -2)))[1]",
            "runs a cuba.Conv that is no part of the network",
        ),
        (
            "c(b(a(x)).flatten(1, -2)) + net.teacher[0](x.flatten(1, -2))",
            "runs a cuba.Dense that is no part of the network",
        ),
        (
            "c(b(net.hidden[0](a(x)) * (torch.rand(4) < 0.5)[:, None, None, None]).flatten(1, -2))",
            "runs a cuba.Conv that is no part of the network",
        ),
        (
            "(net.teacher[0](x.flatten(1, -2)), c(b(a(x) * (torch.rand(4) < 0.5).view(4, 1, 1, 1)).flatten(1, -2)))[1]",
            "changes from run to run",
        ),
        ("(h := a(x), net.hidden[0](h), c(b(h * 2).flatten(1, -2)))[-1]", "multiplies the values"),
        ("c(net.new_flatten()(b(a(x)) * 2))", "multiplies the values"),
    ],
    ids=["beside a teacher", "added to the output", "with chance", "chance beside it", "beside it", "beside a flatten"],
)
def test_a_block_outside_of_the_network_is_blamed_only_for_what_depends_on_it(
    code: str, message: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    with pytest.raises(ExportError, match=re.escape(message)):
        export(with_strays(code), tmp_path / "a.net", sample())


class Permuted(nn.Module):
    """One block, run in a way of the test's own on a sample ``(N, T, C)``."""

    def __init__(self, run: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        from lava.lib.dl.slayer.block import cuba

        torch.manual_seed(0)
        self.block = cuba.Dense(CUBA, 30, 30, weight_scale=8)
        self.run = run

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.run(self.block, x.permute(0, 2, 1))


def _few(spikes: torch.Tensor) -> torch.Tensor:
    if spikes.mean() > 0.5:
        raise ValueError("too many spikes")
    return spikes


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda block, x: block(block(x)), "runs it again: first behind the network's input, then behind Block 0"),
        (lambda block, x: block(block(block(x).flip(1)) * 2), "runs it again: first behind the network's input"),
        (lambda block, x: block(x) + block(x.flip(1)), "runs it again: first behind the network's input"),
        (lambda block, x: torch.cat([block(step) for step in x.split(1, -1)], -1), "runs it 12 times, as a loop"),
        (lambda block, x: torch.cat([block(part) for part in x.split(1)]), "runs it 4 times, as a loop"),
        (lambda block, x: torch.cat([block(part) for part in x.split(2)]), "runs it 2 times, as a loop"),
        (lambda block, x: torch.cat([block(part) for part in x[..., 2:].split(1, -1)], -1), "runs it 10 times, as a"),
        (lambda block, x: block(block(x[..., :6]).repeat(1, 1, 4)), "runs it again: first behind"),
        (lambda block, x: block(_few(block(x[..., :6])).repeat(1, 1, 4) * 0), "runs it again: first behind"),
    ],
    ids=[
        "twice",
        "three times",
        "two branches",
        "steps",
        "samples",
        "two halves",
        "all but the first steps",
        "twice, first on half of the steps",
        "where it fails on other spikes",
    ],
)
def test_a_block_with_shared_weights_is_not_taken_for_a_loop(
    run: Callable[[nn.Module, torch.Tensor], torch.Tensor], message: str, tmp_path: Path
) -> None:
    spikes = (torch.rand(4, 12, 30, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    with pytest.raises(ExportError, match=message):
        export(Permuted(run), tmp_path / "a.net", spikes)


def test_a_forward_that_fails_on_other_spikes_between_its_blocks_is_said_to(tmp_path: Path) -> None:
    net = Images("c(b(net.checked(a(x))).flatten(1, -2))")

    def checked(spikes: torch.Tensor) -> torch.Tensor:
        if spikes.mean() > 0.45:
            raise ValueError("too many spikes")
        return spikes

    net.checked = checked
    assert net(sample()).any()
    with pytest.raises(ExportError, match=r"other spikes in the place of those.*with these it fails: too many spikes"):
        export(net, tmp_path / "a.net", sample())


class Behind(nn.Module):
    """A convolution with delays, and a block that takes what it made in another order."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        from lava.lib.dl.slayer.block import cuba

        torch.manual_seed(2)
        self.first = cuba.Conv(CUBA, 2, 4, 5, weight_scale=6, delay=isinstance(block, cuba.Dense))
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.block(self.first(x).permute(0, 3, 1, 2, 4).flip(2).flatten(1, -2))
        return made


def behind(name: str) -> nn.Module:
    from lava.lib.dl.slayer.block import cuba, rf

    torch.manual_seed(3)
    blocks = {
        "dense": lambda: cuba.Dense(CUBA, 16, 16, weight_scale=8, delay=True),
        "recurrent": lambda: cuba.Recurrent(dict(CUBA), 16, 5, weight_scale=8),
        "kwta": lambda: cuba.KWTA({**CUBA, "current_decay": 1.0}, 16, 6, 3, weight_scale=8),
        "resonators": lambda: rf.Dense(RF, 16, 5, weight_scale=8),
        "affine": lambda: cuba.Affine(dict(CUBA), 16, 5, weight_scale=8),
        "average": lambda: cuba.Average(4),
    }
    net = Behind(blocks[name]())
    with torch.no_grad():
        net(sample())
    for module in net.modules():
        if isinstance(getattr(module, "delay", None), nn.Parameter):
            module.delay.data = torch.arange(module.delay.numel()).float() % 5
    return net


@pytest.mark.parametrize("name", ["dense", "recurrent", "kwta", "resonators", "affine"])
def test_every_kind_of_layer_takes_values_in_another_order(name: str, tmp_path: Path) -> None:
    net = behind(name)
    assert export(net, tmp_path / "a.net", sample()).proved
    assert verify(net, tmp_path / "a.net", sample(8), lava_samples=0).exact


def test_means_of_values_in_another_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"Block 1 \(cuba.Average\).*mean of groups of values that come in another order"
    ):
        export(behind("average"), tmp_path / "a.net", sample())


class Encoding(nn.Module):
    """Makes spikes of numbers, or images of vectors, before its first block."""

    def __init__(self, block: nn.Module, encode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.block = block
        self.encode = encode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.block(self.encode(x))
        return made


def test_a_forward_may_add_the_steps(tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(0)
    net = Encoding(
        cuba.Dense(CUBA, 6, 5, weight_scale=8), lambda x: (x[..., None] > torch.linspace(0, 1, 20)).to(x.dtype)
    )
    values = torch.rand(4, 6)
    result = export(net, tmp_path / "a.net", values)
    assert result.proved
    assert result.begins_inside
    assert verify(net, tmp_path / "a.net", torch.rand(9, 6), lava_samples=0).exact


def test_a_convolution_begins_with_the_image_that_its_forward_makes(tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(0)
    net = Encoding(cuba.Conv(CUBA, 2, 3, 3, weight_scale=6), lambda x: x.unflatten(1, SHAPE))
    result = export(net, tmp_path / "a.net", sample().flatten(1, 3))
    assert result.proved
    assert result.begins_inside
    assert result.description.input_shape == SHAPE
    assert verify(net, tmp_path / "a.net", sample(8).flatten(1, 3), lava_samples=0).exact


def test_a_bootstrap_forward_may_compare_its_mode(tmp_path: Path) -> None:
    from lava.lib.dl import bootstrap

    class Modal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.block = bootstrap.block.cuba.Dense(CUBA, 6, 5, weight_scale=8)

        def forward(self, x: torch.Tensor, mode: object) -> torch.Tensor:
            if mode != bootstrap.Mode.SNN:
                raise RuntimeError("not spiking")
            made: torch.Tensor = self.block(x, mode=mode)
            return made

    spikes = (torch.rand(4, 6, 20) < 0.5).float()
    assert export(Modal(), tmp_path / "a.net", spikes).proved


def test_what_shows_late_in_a_sample_is_refused(tmp_path: Path) -> None:
    """Nothing that the network does is said to be inside of the file but what was looked into."""
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(0)
    quiet = (torch.rand(12, 6, 20) < 0.4).float()
    quiet[10] = 1
    net = Encoding(cuba.Dense(CUBA, 6, 5, weight_scale=8), lambda x: torch.where(x.mean((1, 2), True) == 1, 1 - x, x))
    with pytest.raises(ExportError, match="before its first block shows on the whole sample, and did not on its first"):
        export(net, tmp_path / "a.net", quiet)
