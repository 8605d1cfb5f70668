"""Random rearrangements between random blocks arrive in the file; a value that is lost on the way never does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_networks import CUBA
from torch import nn

from netx_export import ExportError, export, simulate

pytestmark = pytest.mark.slayer

Rearrangement = Callable[[torch.Tensor], torch.Tensor]
SETTINGS = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Chained(nn.Module):
    """Blocks with something done to what each of them takes, and to what the last one made."""

    def __init__(self, blocks: list[nn.Module], between: list[Rearrangement]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for rearrange, block in zip(self.between, self.blocks, strict=False):
            x = block(rearrange(x))
        return self.between[-1](x) if len(self.between) > len(self.blocks) else x


@st.composite
def rearrangements(draw: st.DrawFn) -> Rearrangement:
    """Something that keeps every value, in a shape that a convolution takes."""
    kind = draw(st.sampled_from(["none", "swap", "flip", "roll", "channels", "pixels", "all"]))
    seed = draw(st.integers(0, 99))

    def rearrange(x: torch.Tensor) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        if kind == "swap":
            return x.transpose(2, 3)
        if kind == "flip":
            return x.flip([(1,), (2,), (3,), (1, 2), (2, 3)][seed % 5])
        if kind == "roll":
            return x.roll(1 + seed % 3, 1 + seed % 3)
        if kind == "channels":
            return x[:, torch.randperm(x.shape[1], generator=random)]
        if kind == "none":
            return x
        first = 1 if kind == "all" else 2
        flat = x.flatten(first, -2)
        return flat.index_select(first, torch.randperm(flat.shape[first], generator=random)).reshape(x.shape)

    return rearrange


def _blocks(kinds: list[str]) -> list[nn.Module]:
    from lava.lib.dl.slayer.block import cuba, rf

    shape = [2, 4, 4]
    blocks: list[nn.Module] = []
    for kind in kinds:
        size = shape[0] * shape[1] * shape[2]
        if kind == "conv":
            blocks.append(cuba.Conv(CUBA, shape[0], 4, 3, padding=1, groups=2, weight_scale=8, delay_shift=False))
            shape = [4, *shape[1:]]
        elif kind == "pool":
            blocks.append(cuba.Pool(CUBA, 1, weight_scale=2))
        elif kind == "dense":
            blocks.append(_Shaped(cuba.Dense(CUBA, size, size, weight_scale=8), tuple(shape)))
        else:
            blocks.append(_Shaped(rf.Dense({"threshold": 1.0, "period": 7, "decay": 0.05}, size, size), tuple(shape)))
    return blocks


class _Shaped(nn.Module):
    """A dense block that takes and gives images."""

    def __init__(self, block: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.block = block
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.block(x.flatten(1, -2))
        return made.unflatten(1, self.shape)


KINDS = st.lists(st.sampled_from(["conv", "pool", "dense", "resonators"]), min_size=2, max_size=3)


def _spikes() -> torch.Tensor:
    return (torch.rand(3, 2, 4, 4, 16, generator=torch.Generator().manual_seed(0)) < 0.4).float()


@SETTINGS
@given(kinds=KINDS, between=st.lists(rearrangements(), min_size=4, max_size=4), seed=st.integers(0, 9))
def test_random_rearrangements_are_in_the_file(kinds: list[str], between: list[Rearrangement], seed: int) -> None:
    torch.manual_seed(seed)
    blocks = _blocks(kinds)
    net = Chained(blocks, between[: len(blocks)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.net"
        result = export(net, path, _spikes(), allow_silent=_names(net))
        assert result.proved or result.silent
        if not result.begins_inside:
            with torch.no_grad():
                made = net.eval()(_spikes()).flatten(1, -2).numpy()
            assert (simulate(path, _spikes()).output.reshape(made.shape) == made).all()


@SETTINGS
@given(
    kinds=KINDS,
    between=st.lists(rearrangements(), min_size=3, max_size=3),
    where=st.integers(1, 2),
    spoil=st.sampled_from(["zero", "copy", "swap steps", "swap samples", "negate"]),
)
def test_a_single_value_that_is_lost_is_found(
    kinds: list[str], between: list[Rearrangement], where: int, spoil: str
) -> None:
    where = min(where, len(kinds) - 1)
    kept = between[where]
    between[where] = lambda x: _spoiled(kept(x), spoil)
    net = Chained(_blocks(kinds), between[: len(kinds)])
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(ExportError, match=rf"Block {where} .*its input is not what the block before it made"):
            export(net, Path(folder) / "a.net", _spikes(), allow_silent=_names(net))
        assert not list(Path(folder).iterdir())


def _spoiled(x: torch.Tensor, spoil: str) -> torch.Tensor:
    spoilt: Any = x.clone()
    if spoil == "zero":
        spoilt[:, 0, 0, 1] = 0
    elif spoil == "copy":
        spoilt[:, 0, 0, 1] = x[:, 1, 1, 1]
    elif spoil == "swap steps":
        spoilt[:, 0, 0, 1] = x[:, 0, 0, 1].flip(-1)
    elif spoil == "swap samples":
        spoilt[:, 0, 0, 1] = x[:, 0, 0, 1].flip(0)
    else:
        spoilt[:, 0, 0, 1] = 1 - x[:, 0, 0, 1]
    return spoilt


def _names(net: Chained) -> list[str]:
    """All names that its layers could have in a file."""
    from netx_export.slayer import describe

    try:
        return [*describe(net, _spikes()).spiking, "output"]
    except ExportError:
        return []
