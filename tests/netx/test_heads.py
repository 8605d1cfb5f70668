"""Heads as in lava-dl's YOLO networks, a synapse and a Sigma: exported as an output layer, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support_networks import SDNN, Chain, block, delta_dense, delta_out, deltas_with_head, head, hidden
from torch import nn

from netx_export import ExportError, export, simulate, verify

pytestmark = pytest.mark.slayer


def _sample(*shape: int) -> torch.Tensor:
    return torch.randn(2, *shape, 12, generator=torch.Generator().manual_seed(0)).cumsum(-1) / 4


def _with(*last: nn.Module, seed: int = 0) -> Chain:
    torch.manual_seed(seed)
    return Chain([*delta_dense()[:2], *last])


class Yolo(nn.Module):
    """As YOLO-KP: its blocks and its head lie in lists of their own, and its forward says more than its output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        first, second, *heads = deltas_with_head()
        self.input_blocks, self.blocks, self.heads = (nn.ModuleList(part) for part in ([first], [second], heads))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        counts = []
        for part in (self.input_blocks, self.blocks, self.heads):
            for one in part:
                x = one(x)
                counts.append((x != 0).float().mean())
        return x, counts


@pytest.mark.lava
def test_a_head_in_a_list_of_its_own(tmp_path: Path) -> None:
    net, sample = Yolo(), _sample(2, 7, 8)
    for _ in range(3):
        net(sample)
    net.eval()
    result = export(net, tmp_path / "a.net", sample)
    assert result.proved
    last = result.description.spiking["conv2"]
    assert (last.neuron.gives, last.shape) == ("sums", (5, 3, 7))
    assert verify(net, tmp_path / "a.net", sample, lava_samples=1).passed
    assert torch.equal(torch.from_numpy(simulate(tmp_path / "a.net", sample).output).float(), net(sample)[0])


def _hooks(net: nn.Module) -> list[int]:
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in net.modules()]


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    net = Yolo()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    hooks = _hooks(net)
    export(net, tmp_path / "a.net", _sample(2, 7, 8))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert _hooks(net) == hooks
    assert net.heads[1].shape is None


def test_two_heads_are_refused_with_their_names(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(delta_dense()[:2])
            self.head1, self.head2 = (nn.Sequential(*head("Dense", 10, outputs)) for outputs in (5, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for one in self.blocks:
                x = one(x)
            made: torch.Tensor = self.head1(x)
            self.head2(x)
            return made

    with pytest.raises(ExportError, match=r"has 2 heads, `head1\.0` \(Dense\) and `head2\.0` \(Dense\)"):
        export(Branching(), tmp_path / "a.net", _sample(12))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda synapse, sigma, x: sigma(synapse(x) * 2), "its input is not what the block before it made"),
        (lambda synapse, sigma, x: sigma(synapse(x * 2)), "its input is not what the block before it made"),
        (lambda synapse, sigma, x: sigma(synapse(x)) + x.mean(), "does not return what its last block made"),
        (lambda synapse, sigma, x: synapse(x), "does not run it by calling it"),
        (lambda synapse, sigma, x: sigma(sigma(synapse(x))), "runs it again"),
    ],
    ids=["between the halves", "before it", "behind it", "without its Sigma", "twice summed up"],
)
def test_a_forward_that_does_more_at_its_head_is_refused(change: Any, reason: str, tmp_path: Path) -> None:
    class Changed(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            *blocks, synapse, sigma = self.blocks
            for one in blocks:
                x = one(x)
            made: torch.Tensor = change(synapse, sigma, x)
            return made

    net = Changed([*delta_dense()[:2], *head("Dense", 10, 5)])
    with pytest.raises(ExportError, match=reason):
        export(net, tmp_path / "a.net", _sample(12))
    assert not list(tmp_path.iterdir())


def test_a_head_that_does_something_else_is_refused(tmp_path: Path) -> None:
    synapse, sigma = head("Dense", 10, 5)
    sigma.register_forward_hook(lambda module, args, output: output.clamp(-1, 1))
    with pytest.raises(ExportError, match=r"Block 2 \(head\.Dense\) .* not those of its weights"):
        export(_with(synapse, sigma), tmp_path / "a.net", _sample(12))


def test_a_head_that_keeps_its_sums_is_refused(tmp_path: Path) -> None:
    synapse, sigma = head("Dense", 10, 5)
    sigma.persistent_state = True
    with pytest.raises(ExportError, match=r"Block 2 \(head\.Dense\) .* keep their state from one batch to the next"):
        export(_with(synapse, sigma), tmp_path / "a.net", _sample(12))


def test_a_synapse_without_a_sigma_is_no_head(tmp_path: Path) -> None:
    net = _with(head("Dense", 10, 5)[0])
    with pytest.raises(ExportError, match=r"Parameter `blocks\.2\.weight` .* lies outside of any SLAYER block"):
        export(net, tmp_path / "a.net")
    result = export(net, tmp_path / "a.net", _sample(12))
    assert result.ends_inside
    assert list(result.description.spiking) == ["dense1"]


def test_a_head_behind_spikes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"sigma_delta|head"):
        export(Chain([hidden(), *head("Dense", 10, 5)]), tmp_path / "a.net", (_sample(12) > 0).float())


@pytest.mark.parametrize("last", ["head", "Output"])
def test_a_block_behind_sums_is_refused(last: str, tmp_path: Path) -> None:
    ends = head("Dense", 10, 5) if last == "head" else [delta_out(10)]
    net = _with(*ends, block("sigma_delta.Dense")(SDNN, 5, 4, weight_scale=4))
    with pytest.raises(ExportError, match=r"Block 3 .* it comes behind a .*, which gives out sums"):
        export(net, tmp_path / "a.net")
