"""Export: it proves itself, leaves the network alone, and leaves no half-written file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from lava_spikeloss import SparsityEnforcer, SpikeRate
from netx_export import ExportError, export, read, simulate

pytestmark = pytest.mark.slayer

NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}


def spikes(*shape: int, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def dense(**options: Any) -> nn.Module:
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(1)
    return nn.Sequential(
        cuba.Dense(NEURON, 12, 16, weight_scale=3, **options), cuba.Dense(NEURON, 16, 5, weight_scale=3, **options)
    )


def test_a_weight_normed_network_goes_on_training_after_export(tmp_path: Path) -> None:
    net, twin = dense(weight_norm=True), dense(weight_norm=True)
    x, labels = spikes(6, 12, 20), torch.arange(6) % 5
    losses: dict[str, list[float]] = {"exported": [], "twin": []}
    for name, model in (("exported", net), ("twin", twin)):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(6):
            loss = SpikeRate(0.4, 0.0)(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())
            if name == "exported" and step == 2:
                before = {key: value.clone() for key, value in model.state_dict().items()}
                export(model, tmp_path / "net.net", sample=x)
                after = model.state_dict()
                assert list(after) == list(before)
                assert "0.synapse.weight_g" in after
                assert all(torch.equal(after[key], before[key]) for key in before)
    assert losses["exported"] == losses["twin"]
    assert losses["exported"][-1] < losses["exported"][3]


def test_export_leaves_mode_state_hooks_and_random_numbers_alone(tmp_path: Path) -> None:
    net = dense()
    x = spikes(3, 12, 20)
    enforcer = SparsityEnforcer().attach(net)
    calls: list[int] = []
    handle = net[0].register_forward_hook(lambda *_: calls.append(1))
    net.train()
    net(x)
    state = [module.__dict__.keys() for module in net.modules()]
    voltage = net[0].neuron.voltage_state.clone()
    torch.manual_seed(5)
    expected_random = torch.rand(3)
    torch.manual_seed(5)
    export(net, tmp_path / "net.net", sample=x[:, :, :7])
    assert torch.equal(torch.rand(3), expected_random)
    assert all(module.training for module in net.modules())
    assert [module.__dict__.keys() for module in net.modules()] == state
    assert torch.equal(net[0].neuron.voltage_state, voltage)
    called = len(calls)
    handle.remove()
    enforcer.detach()
    net(x)
    assert len(calls) == called, "the handle of a hook that was there before the export no longer removes it"


def test_works_straight_after_load_state_dict(tmp_path: Path) -> None:
    trained = dense()
    fresh = dense()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.5)
    fresh.load_state_dict(copy.deepcopy(trained.state_dict()))
    x = spikes(3, 12, 20)
    result = export(fresh, tmp_path / "net.net", sample=x)
    assert result.proved
    np.testing.assert_array_equal(simulate(result.path, x).output, trained(x).detach().numpy())


def test_same_network_same_bytes(tmp_path: Path) -> None:
    x = spikes(2, 12, 20)
    for name in ("a.net", "b.net"):
        export(dense(), tmp_path / name, sample=x)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(0)
    net = nn.Sequential(
        cuba.Conv(NEURON, 2, 4, (3, 5), stride=(1, 2), padding=(1, 2), dilation=(2, 1), groups=2, weight_scale=4),
        cuba.Flatten(),
        cuba.Dense(NEURON, 4 * 7 * 5, 6, weight_scale=3, delay=True, delay_shift=False),
    )
    x = spikes(2, 2, 9, 10, 16)
    net(x)
    net[2].delay.delay.data = torch.tensor([0.0, 1.5, 3.0, 2.0, 0.9, 5.0])
    result = export(net, tmp_path / "net.net", sample=x, metadata={"rate_budget": "0.1"})
    conv, flatten, last = result.description.layers[1:]
    assert conv.shape == (4, 7, 5)
    assert (conv.stride, conv.padding, conv.dilation, conv.groups) == ((1, 2), (1, 2), (2, 1), 2)
    assert flatten.shape == (140,)
    assert last.delay.tolist() == [0, 1, 3, 2, 0, 5]
    assert (conv.delay_shift, last.delay_shift) == (True, False)
    assert read(result.path).metadata["rate_budget"] == "0.1"
    used = net[2].synapse.pre_hook_fx(net[2].synapse.weight, descale=True).reshape(6, 140)
    np.testing.assert_array_equal(last.weight, used.detach().numpy())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = dense()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.blocks[0](x)
        output: torch.Tensor = self.blocks[1]((hidden + hidden.roll(1, 1)).clamp(max=1))
        return output


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = dense()
        self.readout = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first[1](self.readout(self.first[0](x).mT).mT)


def refused(build: str) -> nn.Module:
    from lava.lib.dl.slayer.block import alif, cuba, sigma_delta

    networks = {
        "alif": lambda: nn.Sequential(
            dense()[0],
            alif.Dense({**NEURON, "threshold_step": 0.1, "threshold_decay": 0.1, "refractory_decay": 0.1}, 16, 5),
        ),
        "sigma_delta": lambda: nn.Sequential(sigma_delta.Dense({"threshold": 0.1, "activation": torch.relu}, 12, 5)),
        "graded": lambda: nn.Sequential(cuba.Dense({**NEURON, "graded_spike": True}, 12, 5)),
        "threshold": lambda: nn.Sequential(cuba.Dense({**NEURON, "threshold": 3000.0}, 12, 5)),
        "unquantised": lambda: nn.Sequential(cuba.Dense(NEURON, 12, 5, pre_hook_fx=lambda w, descale=False: w)),
        "no block": lambda: nn.Linear(12, 5),
        "outside": Branch,
        "residual": Residual,
    }
    return networks[build]()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("alif", r"Block 1 \(alif\.Dense\) cannot be exported"),
        ("sigma_delta", r"Block 0 \(sigma_delta\.Dense\) cannot be exported"),
        ("graded", r"Block 0 \(cuba\.Dense\).*graded.*graded_spike=False"),
        ("threshold", r"Block 0 \(cuba\.Dense\).*3000\.0"),
        ("unquantised", r"Block 0 \(cuba\.Dense\).*not quantised.*pre_hook_fx"),
        ("no block", "Linear holds no SLAYER block"),
        ("outside", r"Block 1 \(cuba\.Dense\).*the network's forward computes with the values"),
        ("residual", r"Block 1 \(cuba\.Dense\).*its input is not what the block before it made"),
    ],
)
def test_refused_with_a_reason_and_without_a_file(build: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export(refused(build), tmp_path / "net.net", sample=spikes(4, 12, 30))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "net.net"
    x = spikes(4, 12, 30)
    export(dense(), path, sample=x)
    before = path.read_bytes()
    with pytest.raises(ExportError):
        export(refused("residual"), path, sample=x)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_sample_of_the_wrong_shape(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"cannot run on input of shape \(4, 13, 30\)"):
        export(dense(), tmp_path / "net.net", sample=spikes(4, 13, 30))


def test_an_unwritable_path(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"Cannot write .*missing.*net\.net: No such file or directory"):
        export(dense(), tmp_path / "missing" / "net.net", sample=spikes(4, 12, 30))


def test_the_stock_format_is_kept(tmp_path: Path) -> None:
    """The fields that lava-dl's own export writes, and nothing else in the group that it reads."""
    net = dense()
    x = spikes(4, 12, 30)
    export(net, tmp_path / "ours.net", sample=x)
    net(x)
    with h5py.File(tmp_path / "theirs.net", "w") as file:
        for index, block in enumerate(net):
            block.export_hdf5(file.create_group(f"layer/{index}"))
    with h5py.File(tmp_path / "ours.net") as ours, h5py.File(tmp_path / "theirs.net") as theirs:
        for index in range(2):
            mine, stock = ours[f"layer/{index + 1}"], theirs[f"layer/{index}"]
            assert set(mine) == set(stock)
            assert set(mine["neuron"]) == set(stock["neuron"])
            np.testing.assert_array_equal(mine["weight"][()], stock["weight"][()])
