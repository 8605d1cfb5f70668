"""Checkpoints: into a fresh model, and on with training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from slayer_nets import CUBA, NETS, dense, recurrent

from lava_spikeloss.training import load, reset_net, save


def rich_net() -> torch.nn.Module:
    """Recurrent blocks, delays, decays per neuron, norms, weight norm and a torch layer."""
    import lava.lib.dl.slayer as slayer

    block = slayer.block.cuba
    per_neuron = {
        "threshold": 1.0,
        "current_decay": [0.2, 0.4],
        "voltage_decay": [0.05, 0.2],
        "shared_param": False,
        "requires_grad": True,
    }
    return torch.nn.Sequential(
        block.Dense(dict(per_neuron), 8, 16, weight_scale=4, delay=True, weight_norm=True),
        torch.nn.Conv1d(16, 16, 1),
        block.Recurrent(dict(CUBA), 16, 12, weight_scale=4, delay=True),
        block.Dense({**CUBA, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}, 12, 12, weight_scale=4),
        block.Dense({**CUBA, "norm": slayer.neuron.norm.WgtScaleBatchNorm}, 12, 6, weight_scale=4, delay=True),
    )


def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = (torch.rand(4, 8, 24, generator=generator) < 0.5).float()
        optimizer.zero_grad()
        loss = (net(x).mean(dim=-1) - 0.3).pow(2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slayer
def test_a_resumed_training_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    net = rich_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    train(net, optimizer, range(3))
    save(tmp_path / "net.pt", net, optimizer, epoch=3)
    uninterrupted = train(net, optimizer, range(3, 8))

    torch.manual_seed(99)  # other initial weights and delays
    twin = rich_net()
    twin_optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    assert load(tmp_path / "net.pt", twin, twin_optimizer) == {"epoch": 3}
    assert train(twin, twin_optimizer, range(3, 8)) == uninterrupted
    assert len(set(uninterrupted)) > 1


@pytest.mark.slayer
@pytest.mark.parametrize("name", NETS)
def test_every_block_loads_into_a_fresh_model(
    name: str, tmp_path: Path, spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = NETS[name]()
    net.eval()
    with torch.no_grad():
        net(spikes)
        save(tmp_path / "net.pt", net)
        expected = net(spikes)
        torch.manual_seed(99)
        with monkeypatch.context() as patch:  # build without the forward by which some of `NETS` are prepared
            patch.setattr(torch.nn.Sequential, "forward", lambda self, x: x)
            twin = NETS[name]()
        load(tmp_path / "net.pt", twin)
        assert torch.equal(twin.eval()(spikes), expected)
        reset_net(twin)
        assert twin(spikes[:1]).shape[0] == 1


@pytest.mark.slayer
def test_plain_load_state_dict_fails_where_this_one_works(tmp_path: Path, spikes: torch.Tensor) -> None:
    """What SLAYER does, and why this module exists."""
    net = dense(delay=True)
    net(spikes)
    with pytest.raises(RuntimeError, match="size mismatch"):
        dense(delay=True).load_state_dict(net.state_dict())


@pytest.mark.slayer
def test_file_loads_with_weights_only(tmp_path: Path) -> None:
    net = rich_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    train(net, optimizer, range(1))
    save(tmp_path / "net.pt", net, optimizer, rng=torch.get_rng_state(), note="a", rates=[0.1, 0.2])
    assert torch.load(tmp_path / "net.pt", weights_only=True)["extra"]["note"] == "a"
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.slayer
def test_parameters_keep_their_identity(tmp_path: Path, spikes: torch.Tensor) -> None:
    net = dense(delay=True)
    net(spikes)
    save(tmp_path / "net.pt", net)
    twin = dense(delay=True)
    before = [id(parameter) for parameter in twin.parameters()]
    load(tmp_path / "net.pt", twin)
    assert [id(parameter) for parameter in twin.parameters()] == before
    assert twin[0].delay.delay.shape == (16,)


@pytest.mark.slayer
def test_a_net_of_another_kind_is_refused_untouched(tmp_path: Path, spikes: torch.Tensor) -> None:
    net = dense()
    save(tmp_path / "net.pt", net)
    other = recurrent()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"`1\.input_synapse\.weight` is missing in the file"):
        load(tmp_path / "net.pt", other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_wrong_shapes_name_the_parameter(tmp_path: Path) -> None:
    save(tmp_path / "net.pt", torch.nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"`weight` has shape \(2, 3\) in the file and \(1, 3\) in the net"):
        load(tmp_path / "net.pt", torch.nn.Linear(3, 1))


def test_a_plain_bias_does_not_grow(tmp_path: Path) -> None:
    save(tmp_path / "net.pt", torch.nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="`running_mean` has shape"):
        load(tmp_path / "net.pt", torch.nn.BatchNorm1d(1))


def test_attributes_of_other_modules_are_not_kept(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    net.shape, net.init = "round", torch.nn.init.zeros_  # SLAYER's names, with a meaning of the module's own
    save(tmp_path / "net.pt", net)
    twin = torch.nn.Linear(2, 2)
    load(tmp_path / "net.pt", twin)
    assert torch.equal(twin.weight, net.weight)
    assert not hasattr(twin, "shape")


def test_an_optimizer_must_be_in_the_file(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    save(tmp_path / "net.pt", net)
    with pytest.raises(ValueError, match="saved without one"):
        load(tmp_path / "net.pt", net, torch.optim.SGD(net.parameters(), lr=0.1))


def test_another_file_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="checkpoint written by `save`"):
        load(tmp_path / "net.pt", torch.nn.Identity())


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    save(tmp_path / "net.pt", net, epoch=1)
    with pytest.raises(AttributeError):
        save(tmp_path / "net.pt", net, epoch=lambda: 2)  # cannot be pickled
    assert load(tmp_path / "net.pt", net) == {"epoch": 1}
