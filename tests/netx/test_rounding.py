"""Trained parameters that no file can hold: ``round_parameters`` changes them, and says what it changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support_networks import SDNN, Chain, block, delta_dense, delta_out, hidden, mean_norm, out
from torch import nn

from netx_export import ExportError, RoundedParameter, export, round_parameters

pytestmark = pytest.mark.slayer

TRAINED = {**SDNN, "requires_grad": True}


def _deltas(**neuron: Any) -> Chain:
    """Input, dense and output blocks with thresholds that are trained."""
    torch.manual_seed(0)
    params = {**TRAINED, **neuron}
    hidden_block = block("sigma_delta.Dense")(params, 12, 10, weight_scale=4)
    return Chain([block("sigma_delta.Input")(params), hidden_block, block("sigma_delta.Output")(params, 10, 5)])


def _sample() -> torch.Tensor:
    return torch.randn(4, 12, 24, generator=torch.Generator().manual_seed(0)).cumsum(-1) / 4


def _set(net: Chain, index: int, value: float | torch.Tensor) -> None:
    net.blocks[index].neuron.delta.threshold.data.copy_(torch.as_tensor(value))


def test_trained_thresholds_become_the_nearest_and_the_network_is_exported(tmp_path: Path) -> None:
    net = _deltas(norm=mean_norm())
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(4):
        net(_sample()).square().mean().backward()
        optimiser.step()
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ExportError, match=r"call netx_export\.round_parameters\(net\)"):
        export(net, tmp_path / "a.net", _sample())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items()), "not without being asked"
    changes = round_parameters(net)
    names = ["blocks.0.neuron.delta.threshold", "blocks.1.neuron.delta.threshold"]
    assert [change.name for change in changes] == names
    for change in changes:
        assert change.before == before[change.name].item()
        assert change.after == net.get_parameter(change.name).item() == round(before[change.name].item() * 64) / 64
    differing = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert differing == names
    assert round_parameters(net) == []
    assert export(net, tmp_path / "a.net", _sample()).proved


@pytest.mark.parametrize(
    ("trained", "nearest"),
    [(0.0156558, 1), (0.02343, 1), (0.02345, 2), (0.0001, 1), (-0.3, 1), (63.99, 4095), (90, 4095)],
)
def test_the_nearest_threshold(trained: float, nearest: int, tmp_path: Path) -> None:
    net = _deltas()
    net(_sample())  # which tells it the shape of its input
    _set(net, 1, trained)
    assert round_parameters(net)[-1] == RoundedParameter(
        "blocks.1.neuron.delta.threshold", torch.tensor(trained).item(), nearest / 64
    )
    assert export(net, tmp_path / "a.net").description.spiking["dense1"].neuron.threshold == nearest


def test_thresholds_of_each_neuron_become_one_near_their_mean(tmp_path: Path) -> None:
    net = _deltas(shared_param=False)
    net(_sample())
    for index in (0, 1):
        _set(net, index, 0.25)
    assert round_parameters(net) == []
    values = torch.linspace(0.1, 0.2, 10)
    _set(net, 1, values)
    assert round_parameters(net) == [
        RoundedParameter("blocks.1.neuron.delta.threshold", tuple(values.tolist()), (10 / 64,) * 10)
    ]
    assert export(net, tmp_path / "a.net", _sample()).proved


def test_a_bias_that_was_set(tmp_path: Path) -> None:
    net = _deltas()
    for one in net.blocks:
        one.neuron.set_bias(torch.full((10,), 0.3))  # which Input and Output never use
    assert [change.name for change in round_parameters(net)] == ["blocks.1.neuron.bias"]
    assert net.blocks[1].neuron.bias.tolist() == [19 / 64] * 10
    assert export(net, tmp_path / "a.net", _sample()).proved


def test_decays_that_loihi_has_no_room_for(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Chain([hidden({"requires_grad": True}), hidden({"requires_grad": True}), out(10)])
    net.blocks[1] = block("cuba.Dense")(
        {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03, "requires_grad": True}, 10, 10, weight_scale=8
    )
    net.blocks[0].neuron.current_decay.data.fill_(-3.0)
    net.blocks[0].neuron.voltage_decay.data.fill_(17.3)  # which SLAYER itself rounds
    net.blocks[1].neuron.voltage_decay.data.fill_(5000.0)
    with pytest.raises(ExportError, match=r"current_decay 0 .*round_parameters"):
        export(net, tmp_path / "a.net")
    assert round_parameters(net) == [
        RoundedParameter("blocks.0.neuron.current_decay", -3.0, 1.0),
        RoundedParameter("blocks.1.neuron.voltage_decay", 5000.0, 4095.0),
    ]
    assert round_parameters(net) == []
    export(net, tmp_path / "a.net")


def test_what_is_never_used_or_fits_stays(tmp_path: Path) -> None:
    net = Chain([*delta_dense()[:2], delta_out(10)])
    _set(net, 2, 0.123)  # of an Output, which sends nothing
    assert round_parameters(net) == []


def test_rounding_can_be_trained_around(tmp_path: Path) -> None:
    net = _deltas()
    _set(net, 1, 0.11)
    for change in round_parameters(net):
        net.get_parameter(change.name).requires_grad_(False)
    optimiser = torch.optim.SGD([value for value in net.parameters() if value.requires_grad], lr=0.01)
    net(_sample()).square().mean().backward()
    optimiser.step()
    assert net.blocks[1].neuron.delta.threshold.item() == 7 / 64


def test_nothing_is_rounded_if_something_is_not_finite() -> None:
    net = _deltas()
    _set(net, 0, 0.11)
    _set(net, 1, float("nan"))
    with pytest.raises(ExportError, match=r"Block 1 .*`neuron\.delta\.threshold` is not finite"):
        round_parameters(net)
    assert net.blocks[0].neuron.delta.threshold.item() == torch.tensor(0.11).item()


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"`net` to be a torch\.nn\.Module but got str"):
        round_parameters("net")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="holds no SLAYER block"):
        round_parameters(nn.Linear(2, 2))
