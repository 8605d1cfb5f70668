"""SLAYER blocks at the limits of Loihi's registers: the last that is exported, and the first that is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support_cases import CUBA, RF, SDNN, Chain

from netx_export import ExportError, export
from netx_export.slayer import describe
from netx_export.slayer.reading import fewer_groups

pytestmark = pytest.mark.slayer


def _blocks(family: str = "cuba") -> Any:
    from lava.lib.dl.slayer import block

    return getattr(block, family)


def _norms() -> Any:
    from lava.lib.dl.slayer.neuron import norm

    return norm


def _sample(*shape: int, rate: float = 0.4) -> torch.Tensor:
    return (torch.rand(4, *shape, 30) < rate).float()


def _dense(inputs: int = 3, outputs: int = 3, neuron: dict[str, Any] | None = None, **options: Any) -> Any:
    return _blocks().Dense({**CUBA, **(neuron or {})}, inputs, outputs, weight_scale=4, **options)


def _ran(*blocks: Any, shape: tuple[int, ...] = (3,)) -> Chain:
    torch.manual_seed(0)
    net = Chain(list(blocks))
    with torch.no_grad():
        net(_sample(*shape))
    return net.eval()


def _refused(net: Chain, message: str, sample: torch.Tensor | None = None) -> None:
    with pytest.raises(ExportError, match=message):
        describe(net, sample)


# -- thresholds, of which SLAYER holds 64 per unit


def _cuba(threshold: float) -> Chain:
    return _ran(_dense(neuron={"threshold": threshold}))


def _resonators(threshold: float) -> Chain:
    return _ran(_blocks("rf").Dense({**RF, "threshold": threshold}, 3, 3, weight_scale=4))


def _sigma_delta(threshold: float) -> Chain:
    blocks = _blocks("sigma_delta")
    dense = blocks.Dense({**SDNN, "threshold": threshold}, 3, 3, weight_scale=4)
    return _ran(blocks.Input(dict(SDNN)), dense)


def test_what_is_refused_of_an_input_names_it_as_the_first_block() -> None:
    _refused(_ran(_blocks().Input({**CUBA, "threshold": 100.0}), _dense()), r"Block 0 \(cuba\.Input\)")


@pytest.mark.parametrize(
    ("make", "low", "high"), [(_cuba, 1, 4095), (_resonators, 1, 2**17 - 1), (_sigma_delta, 1, 4095)]
)
def test_thresholds(make: Callable[[float], Chain], low: int, high: int) -> None:
    for mantissa in (low, high):
        layer = describe(make(mantissa / 64), _sample(3)).spiking
        assert next(iter(layer.values())).neuron.threshold == mantissa
    for mantissa in (low - 1, high + 1):
        _refused(make(mantissa / 64), "threshold", _sample(3))


# -- decays


@pytest.mark.parametrize(("name", "low", "high"), [("current_decay", 1, 4096), ("voltage_decay", 0, 4095)])
def test_decays_that_are_not_trained(name: str, low: int, high: int) -> None:
    net = _ran(_dense(neuron={"requires_grad": False}))
    parameter = getattr(net.blocks[0].neuron, name)
    for decay in (low, high):
        parameter.data.fill_(decay)
        assert getattr(describe(net).spiking["dense1"].neuron, name).tolist() == [decay]
    for decay in (low - 1, high + 1):
        parameter.data.fill_(decay)
        _refused(
            net, f"{name} .* does not fit Loihi's 12-bit register. Use a {name} between {low}/4096 and {high}/4096"
        )


def test_trained_decays_are_clamped_as_the_forward_does() -> None:
    net = _ran(_dense(neuron={"requires_grad": True}))
    net.blocks[0].neuron.current_decay.data.fill_(5000.0)
    net.blocks[0].neuron.voltage_decay.data.fill_(-7.0)
    neuron = describe(net, _sample(3)).spiking["dense1"].neuron
    assert (neuron.current_decay.tolist(), neuron.voltage_decay.tolist()) == ([4096], [0])  # type: ignore[union-attr]


# -- delays


def _delayed(steps: float, max_delay: int = 62, **neuron: Any) -> Any:
    block = _dense(neuron=neuron, delay=True)
    block.delay.init, block.delay.max_delay = True, max_delay
    block.delay.delay = torch.nn.Parameter(torch.tensor([[0.0], [1.5], [steps]]))
    return block


def test_axonal_delays_end_at_62_steps() -> None:
    delays = [describe(Chain([_delayed(steps, 99)])).spiking["dense1"].delay for steps in (62, 62.9)]  # type: ignore[union-attr]
    assert [delay.tolist() for delay in delays if delay is not None] == [[0, 1, 62], [0, 1, 62]]
    _refused(Chain([_delayed(63, 99)]), r"an axonal delay of 63 steps. The limit is 62")


def test_axonal_delays_are_clamped_as_the_forward_does() -> None:
    for steps, clamped in ((80.0, 62), (-3.0, 0)):
        net = Chain([_delayed(steps)])
        assert describe(net, _sample(3)).spiking["dense1"].delay.tolist() == [0, 1, clamped]  # type: ignore[union-attr]


def test_delays_of_two_blocks_add_up_to_62_steps() -> None:
    def net(last: float) -> Chain:
        """The first has a bias, so that its delay is made on the way into the second."""
        made = _ran(_delayed(30, norm=_norms().MeanOnlyBatchNorm), _delayed(last))
        made.blocks[0].neuron.norm.running_mean.fill_(0.5)
        return made

    delay = describe(net(32)).spiking["dense2"].delay  # type: ignore[union-attr]
    assert delay.tolist() == [[0, 1, 30], [1, 2, 31], [32, 33, 62]]  # type: ignore[union-attr]
    _refused(net(33), r"Block 1 .* add up to 63 steps. The limit is 62")


def test_a_delay_beside_a_bias_is_made_behind_the_neuron(tmp_path: Path) -> None:
    """The bias does not wait on the way in, and SLAYER's delays what the neuron sends."""
    torch.manual_seed(0)
    net = Chain([_dense(12, 9, {"norm": _norms().MeanOnlyBatchNorm}, delay=True), _dense(9, 5)])
    sample = _sample(12)
    for _ in range(5):
        net(sample)
    net.blocks[0].delay.delay.data = torch.rand_like(net.blocks[0].delay.delay) * 7
    layer = export(net, tmp_path / "a.net", sample).description.spiking["dense1"]
    assert layer.bias is not None  # type: ignore[union-attr]
    assert layer.delay is None  # type: ignore[union-attr]
    assert layer.axon_delay is not None


# -- biases, which a norm or the number of winners makes


def _biased(mantissa: int) -> Chain:
    net = _ran(_dense(neuron={"norm": _norms().MeanOnlyBatchNorm}))
    norm = net.blocks[0].neuron.norm
    norm.pre_hook_fx = lambda mean: mean  # SLAYER's own ends at 256
    norm.running_mean.fill_(-mantissa / 64)
    return net


@pytest.mark.parametrize("mantissa", [-4096, 4095])
def test_biases_have_13_bits(mantissa: int) -> None:
    assert describe(_biased(mantissa)).spiking["dense1"].bias.tolist() == [mantissa] * 3  # type: ignore[union-attr]
    beyond = mantissa + (1 if mantissa > 0 else -1)
    _refused(_biased(beyond), f"a bias of {beyond}. Loihi holds -4096 to 4095")


def test_a_norm_and_the_number_of_winners_together_have_13_bits() -> None:
    def net(mean: float) -> Chain:
        neuron = {**CUBA, "threshold": 60.0, "current_decay": 1.0, "norm": _norms().MeanOnlyBatchNorm}
        made = _ran(_blocks().KWTA(neuron, 3, 4, 1, weight_scale=4))
        made.blocks[0].input_shape = (3,)
        norm = made.blocks[0].neuron.norm
        norm.pre_hook_fx = lambda values: values
        norm.running_mean.fill_(mean)
        return made

    own = int(describe(net(0.0)).spiking["recurrent1"].bias[0])  # type: ignore[union-attr, index]
    assert own > 0
    edge = (own - 4095) / 64
    assert describe(net(edge)).spiking["recurrent1"].bias.max() == 4095  # type: ignore[union-attr]
    _refused(net(edge - 1 / 64), "a bias of 4096. Loihi holds -4096 to 4095")


# -- weights


@pytest.mark.parametrize(("inside", "outside"), [(255, 256), (-256, -257)])
def test_weights_of_a_convolution(inside: int, outside: int) -> None:
    net, sample = _ran(_blocks().Conv(CUBA, 1, 1, 2, pre_hook_fx=None), shape=(1, 3, 3)), _sample(1, 3, 3)
    weight = net.blocks[0].synapse.weight.data
    weight.fill_(inside / 64)
    assert describe(net, sample).spiking["conv1"].weight.flat[0] == inside
    weight.view(-1)[0] = outside / 64
    _refused(net, rf"its weights reach from .*{outside}.*\. Loihi holds -256 to 255", sample)


def test_weights_that_are_no_whole_numbers_are_refused() -> None:
    net = _ran(_dense(pre_hook_fx=None))
    net.blocks[0].synapse.weight.data.fill_(1.5 / 64)
    _refused(net, "its weights are not quantised")


def test_a_mask_that_no_forward_has_applied_yet_counts() -> None:
    net = _ran(_dense())
    net.blocks[0].mask = torch.eye(3).reshape(net.blocks[0].synapse.weight.shape)
    weight = describe(net, _sample(3)).spiking["dense1"].weight
    assert weight.diagonal().any()
    assert not (weight * (1 - np.eye(3, dtype=int))).any()


@pytest.mark.parametrize("what", ["stride", "padding", "dilation", "kernel_size"])
def test_sizes_of_a_convolution_end_at_127(what: str) -> None:
    def net(size: int) -> Chain:
        options: dict[str, Any] = {"kernel_size": (1, 2), what: (1 if what != "padding" else 0, size)}
        return _ran(_blocks().Conv(CUBA, 1, 1, weight_scale=4, **options), shape=(1, 1, 200))

    sample = _sample(1, 1, 200)
    assert describe(net(127), sample).spiking["conv1"].shape[0] == 1
    _refused(net(128), "a kernel size, stride, padding or dilation of 128 overflows Lava's 8-bit variables", sample)


def test_a_block_that_becomes_dense_has_16777216_synapses_at_most() -> None:
    def net(width: int) -> Chain:
        return _ran(_blocks().ConvT(CUBA, 1, 1, (1, width), weight_scale=4), shape=(1, 64, 64))

    sample = _sample(1, 64, 64)
    assert describe(net(1), sample).spiking["dense2"].weight.size == 2**24
    _refused(net(2), r"as a dense one it has 17039360 synapses. Use it on fewer neurons \(16777216", sample)


@pytest.mark.parametrize("groups", [2, 126, 127, 128, 129, 254, 381])
def test_groups_that_lava_cannot_count_are_joined(groups: int) -> None:
    rng = np.random.default_rng(groups)
    weight = rng.integers(-9, 9, (2 * groups, 3, 1, 2))
    wide, fewer = fewer_groups(weight, groups)
    assert fewer <= 127
    assert groups % fewer == 0
    assert fewer == groups or groups > 127
    inputs = torch.from_numpy(rng.integers(0, 2, (1, 3 * groups, 2, 3))).double()
    expected = F.conv2d(inputs, torch.from_numpy(weight).double(), groups=groups)
    assert torch.equal(F.conv2d(inputs, torch.from_numpy(wide).double(), groups=fewer), expected)
