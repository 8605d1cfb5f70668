"""What SLAYER networks become in a file that has another form than theirs, and what runs on the host beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support_networks
import torch
from support_cases import CUBA, Chain

from lava_spikeloss.slayer_blocks import kwta_feedback
from netx_export import export, read, simulate
from netx_export.file.netx import write
from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription
from netx_export.network.exact_weights import loadable

pytestmark = pytest.mark.slayer


def _spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(0)) < 0.5).float()


def _chain(*blocks: Any) -> Chain:
    return Chain(blocks).eval()


def _assert_exact(net: Chain, sample: torch.Tensor, path: Path, *, backends: tuple[Any, ...] = ("reference",)) -> None:
    with torch.no_grad():
        expected = net(sample).numpy()
    assert expected.any()
    for backend in backends:
        np.testing.assert_array_equal(simulate(path, sample, backend=backend).output, expected)


@pytest.mark.lava
def test_a_chain_that_ends_in_a_flatten(tmp_path: Path) -> None:
    from lava.lib.dl.slayer import block

    torch.manual_seed(0)
    net = _chain(block.cuba.Conv(CUBA, 2, 3, 3, weight_scale=5), block.cuba.Flatten())
    sample = _spikes(2, 2, 6, 6, 20)
    result = export(net, tmp_path / "a.net", sample)
    assert result.proved
    assert result.description.layers[-1].kind == "flatten"
    _assert_exact(net, sample, result.path, backends=("reference", "lava"))


@pytest.mark.lava
def test_a_transposed_convolution_with_delays_whose_weights_only_a_convolution_loads(tmp_path: Path) -> None:
    from lava.lib.dl.slayer import block
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    norm = MeanOnlyBatchNorm()  # its bias makes the neurons fire, which all have but inhibition
    norm.running_mean.fill_(-6.0)
    norm.update = False
    net = _chain(block.cuba.ConvT({**CUBA, "norm": lambda **_: norm}, 2, 3, 3, weight_scale=5, delay=True))
    sample = _spikes(2, 2, 2, 2, 20)
    with torch.no_grad():
        net(sample)
        net.blocks[0].synapse.weight.fill_(-1.0)
        net.blocks[0].delay.delay.copy_(torch.tensor([3.0, 1.0, 0.0]).reshape(net.blocks[0].delay.delay.shape))
    result = export(net, tmp_path / "a.net", sample)
    assert [layer.kind for layer in result.description.spiking.values()] == ["conv"]
    _assert_exact(net, sample, result.path, backends=("reference", "lava"))


def test_input_neurons_with_decays_of_their_own(tmp_path: Path) -> None:
    from lava.lib.dl.slayer import block

    torch.manual_seed(0)
    net = _chain(block.cuba.Input({**CUBA, "shared_param": False}), block.cuba.Dense(CUBA, 12, 4, weight_scale=9))
    sample = _spikes(2, 12, 20) * 3
    with torch.no_grad():
        net(sample)
        net.blocks[0].neuron.current_decay.copy_(torch.linspace(100, 3000, 12))
    result = export(net, tmp_path / "a.net", sample)
    assert result.description.encoder is not None
    assert result.description.encoder.neuron.current_decay.shape == (12,)  # type: ignore[union-attr]
    _assert_exact(net, sample, result.path)


def test_input_neurons_do_not_wrap_where_lava_would(tmp_path: Path) -> None:
    """They run on the host, as SLAYER has them: a current beyond 24 bits does not come back from the other side."""
    from lava.lib.dl.slayer import block

    torch.manual_seed(0)
    slow = {**CUBA, "threshold": 60.0, "current_decay": 1.2 / 4096, "voltage_decay": 0.9}
    net = _chain(block.cuba.Input(slow), block.cuba.Dense(CUBA, 3, 4, weight_scale=5))
    sample = torch.tensor([3.9, -3.9, 1.0]).reshape(1, 3, 1).repeat(1, 1, 900)
    export(net, tmp_path / "a.net", sample[..., :200])
    _assert_exact(net, sample, tmp_path / "a.net")


@pytest.mark.parametrize(("excitation", "clamped"), [(-0.5, 0.0), (1.5, 1.0)])
def test_the_excitation_of_winners_is_clamped_before_the_first_forward_too(excitation: float, clamped: float) -> None:
    block = support_networks.winners(5)[0]
    feedback = []
    for value in (excitation, clamped):
        block.self_excitation.data.fill_(value)
        feedback.append(kwta_feedback(block))
    assert torch.equal(*feedback)


def test_delays_that_are_all_zero_hinder_no_layer_from_being_written_as_a_convolution(tmp_path: Path) -> None:
    neuron = CubaNeuron(threshold=80, current_decay=np.array([1024]), voltage_decay=np.array([128]))
    weight = np.full((3, 4), -64)  # of a dense layer the stock loader would alter them
    delayed = Dense(weight, neuron, bias=np.array([60, 90, 120]), delay=np.zeros_like(weight))
    write(NetworkDescription((Input((4,)), delayed)), tmp_path / "a.net")
    write(NetworkDescription((Input((4,)), replace(delayed, delay=None))), tmp_path / "plain.net")
    assert [layer.kind for layer in read(tmp_path / "a.net").spiking.values()] == ["conv"]
    assert read(tmp_path / "a.net").layers == read(tmp_path / "plain.net").layers


def test_a_network_without_an_input_layer_gets_one_that_shifts_nothing() -> None:
    weight = np.full((1, 3), -64)  # netx loads a dense matrix of nothing but negative weights as another
    neuron = CubaNeuron(80, np.array([1024]), np.array([128]))
    plain = NetworkDescription((Dense(weight, neuron, bias=np.array([40])),))
    first, *_ = loadable(plain).layers
    assert first == Input((3,), delay_shift=False)
