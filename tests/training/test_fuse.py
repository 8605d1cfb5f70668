"""Fused pairs against the pair itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from slayer_nets import ADAPTIVE, CUBA, RESONATOR, normed

from lava_spikeloss.training import (
    fold_norms,
    fresh_state,
    fuse_conv_bn,
    fused_conv_bias,
    fused_conv_weight,
    scale_fused_conv_bias,
    scale_fused_conv_weight,
)

CONVS = {
    "bias": lambda: (torch.nn.Conv2d(4, 6, 3), torch.nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "no bias": lambda: (torch.nn.Conv2d(4, 6, 3, bias=False), torch.nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "not affine": lambda: (torch.nn.Conv2d(4, 6, 3), torch.nn.BatchNorm2d(6, affine=False), (2, 4, 5, 5)),
    "groups": lambda: (torch.nn.Conv2d(4, 6, 3, groups=2), torch.nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "1d": lambda: (torch.nn.Conv1d(4, 6, 3, stride=2), torch.nn.BatchNorm1d(6), (2, 4, 9)),
    "3d": lambda: (torch.nn.Conv3d(4, 6, 3, padding=1), torch.nn.BatchNorm3d(6), (2, 4, 5, 5, 5)),
    "transposed": lambda: (torch.nn.ConvTranspose2d(4, 6, 3), torch.nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "transposed groups": lambda: (torch.nn.ConvTranspose2d(4, 6, 3, groups=2), torch.nn.BatchNorm2d(6), (2, 4, 5, 5)),
    "weight norm": lambda: (
        torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(4, 6, 3)),
        torch.nn.BatchNorm2d(6),
        (2, 4, 5, 5),
    ),
}


def seen(bn: Any) -> Any:
    """Running statistics and gains that are not those of a fresh norm."""
    bn.running_mean.uniform_(-1, 1)
    bn.running_var.uniform_(0.5, 2)
    if bn.affine:
        torch.nn.init.uniform_(bn.weight, -2, 2)
        torch.nn.init.uniform_(bn.bias, -1, 1)
    return bn.eval()


@pytest.mark.parametrize("name", CONVS)
def test_one_convolution_equals_the_pair(name: str) -> None:
    conv, bn, shape = CONVS[name]()
    conv, bn = conv.double(), seen(bn).double()
    x = torch.rand(shape, dtype=torch.float64)
    expected = bn(conv(x))
    before = copy.deepcopy((conv.state_dict(), bn.state_dict()))
    fused = fuse_conv_bn(conv, bn)
    torch.testing.assert_close(fused(x), expected)
    assert type(fused).forward is type(conv).forward
    for module, saved in zip((conv, bn), before, strict=True):
        assert all(torch.equal(value, saved[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("name", [name for name in CONVS if name != "weight norm"])
def test_scaling_acts_on_the_fused_pair(name: str) -> None:
    conv, bn, _ = CONVS[name]()
    conv, bn = conv.double(), seen(bn).double()
    weight, bias = fused_conv_weight(conv, bn).detach(), fused_conv_bias(conv, bn).detach()
    scale_fused_conv_weight(conv, bn, k=1.5, b=0.25)
    torch.testing.assert_close(fused_conv_weight(conv, bn), 1.5 * weight + 0.25)
    torch.testing.assert_close(fused_conv_bias(conv, bn), bias)
    scale_fused_conv_bias(conv, bn, k=-2.0, b=0.125)
    torch.testing.assert_close(fused_conv_bias(conv, bn), -2 * bias + 0.125)
    torch.testing.assert_close(fused_conv_weight(conv, bn), 1.5 * weight + 0.25)


@pytest.mark.slayer
@pytest.mark.parametrize("weight_norm", [False, True])
@pytest.mark.parametrize("kind", ["Dense", "Conv", "ConvTranspose"])
def test_slayer_synapses(kind: str, weight_norm: bool, slayer: Any) -> None:
    quantise = slayer.neuron.cuba.Neuron(**CUBA).quantize_8bit
    synapse_class = getattr(slayer.synapse, kind)
    arguments = (4, 6) if kind == "Dense" else (4, 6, 3)
    synapse = synapse_class(*arguments, weight_scale=4, weight_norm=weight_norm, pre_hook_fx=quantise)
    bn = seen(torch.nn.BatchNorm1d(6) if kind == "Dense" else torch.nn.BatchNorm3d(6))
    x = torch.rand(2, 4, 9) if kind == "Dense" else torch.rand(2, 4, 5, 5, 9)
    expected = bn(synapse(x))
    fused = fuse_conv_bn(synapse, bn)
    exact = quantise(fused.weight) - fused.weight
    assert exact.abs().max() <= 1 / 64  # half a step of the grid
    fused.pre_hook_fx = None
    torch.testing.assert_close(fused(x), expected, atol=1e-5, rtol=1e-5)
    synapse(x).sum().backward()  # the original still learns
    assert (synapse.weight_v if weight_norm else synapse.weight).grad.abs().sum() > 0


@pytest.mark.slayer
def test_a_mean_is_folded_exactly() -> None:
    net = normed("MeanOnlyBatchNorm")
    x = (torch.rand(32, 8, 64) < 0.5).float()
    folded = fold_norms(net)
    assert torch.equal(folded(x), net(x))
    folded.train()
    assert torch.equal(folded(x), net(x)), "a folded norm is fixed"


def dividing(norm: Any, current_decay: float, voltage_decay: float, deviation: float) -> torch.nn.Module:
    """Neurons with random weights behind a norm that divides by ``deviation``."""
    import lava.lib.dl.slayer as slayer

    decays = {"current_decay": current_decay, "voltage_decay": voltage_decay}
    block = slayer.block.cuba.Dense({"threshold": 1.0, **decays, "norm": norm}, 8, 16, weight_scale=12)
    block(torch.ones(1, 8, 4))
    block.neuron.norm.running_mean = 0.3 * torch.randn(16)
    block.neuron.norm.running_var = torch.tensor([(0.9 * deviation) ** 2])
    return block.eval()


@pytest.mark.slayer
@pytest.mark.parametrize("deviation", [0.125, 0.5, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("voltage_decay", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("current_decay", [0.0, 0.3, 1.0])
def test_a_division_is_folded_exactly_or_refused(
    current_decay: float, voltage_decay: float, deviation: float, slayer: Any
) -> None:
    net = dividing(slayer.neuron.norm.WgtScaleBatchNorm, current_decay, voltage_decay, deviation)
    x = (torch.rand(64, 8, 64) < 0.5).float()
    rounds = voltage_decay == 0.1 or (deviation > 1 and current_decay == 0.3)
    if deviation != 1 and rounds:
        with pytest.raises(ValueError, match=rf"`neuron` \(Neuron\) to be folded without rounding.* by {deviation:g}"):
            fold_norms(net)
        near = fold_norms(net, exact=False)
        assert (near(x) != net(x)).float().mean() < 0.002
    else:
        folded = fold_norms(net)
        assert net(x).any()
        assert torch.equal(folded(x), net(x))
        assert folded.neuron.threshold == deviation
        assert net.neuron.threshold == 1.0


@pytest.mark.slayer
def test_what_is_refused_would_differ(slayer: Any) -> None:
    net = dividing(slayer.neuron.norm.WgtScaleBatchNorm, 0.3, 0.1, 0.125)
    net.synapse.weight.data *= 0.05  # so many steps to the threshold, each rounded
    net.neuron.norm.running_mean.zero_()
    x = (torch.rand(64, 8, 64) < 0.5).float()
    assert not torch.equal(fold_norms(net, exact=False)(x), net(x))


@pytest.mark.slayer
@pytest.mark.parametrize("kind", ["Affine", "ALIF", "RF"])
def test_a_division_in_other_neurons_is_refused(kind: str, slayer: Any) -> None:
    def build(norm: Any) -> torch.nn.Module:
        block, alif = slayer.block, {**CUBA, **ADAPTIVE, "norm": norm}
        builders = {
            "Affine": lambda: block.cuba.Affine({**CUBA, "norm": norm}, 8, 6, weight_scale=4),
            "ALIF": lambda: block.alif.Dense(alif, 8, 6, weight_scale=4),
            "RF": lambda: block.rf.Dense({**RESONATOR, "norm": norm}, 8, 6, weight_scale=4),
        }
        net = builders[kind]()
        net((torch.rand(4, 8, 16) < 0.5).float())
        return net.eval()

    net = build(slayer.neuron.norm.WgtScaleBatchNorm)
    for buffer in (buffer for name, buffer in net.named_buffers() if name.endswith("running_var")):
        buffer.fill_(4.0)
    with pytest.raises(TypeError, match=r"in spiking CUBA neurons only but got `neuron` \(Neuron\)"):
        fold_norms(net, exact=False)
    mean_only = build(slayer.neuron.norm.MeanOnlyBatchNorm)
    x = (torch.rand(4, 8, 16) < 0.5).float()
    with fresh_state(mean_only):
        expected = mean_only(x)
    folded = fold_norms(mean_only).train()
    with fresh_state(folded):
        assert torch.equal(folded(x), expected)


@pytest.mark.slayer
def test_a_folded_net_has_the_gradient_of_the_original() -> None:
    net = normed("WgtScaleBatchNorm")
    folded = fold_norms(net, exact=False)
    x = (torch.rand(8, 8, 24) < 0.5).float()
    for candidate in (net, folded):
        with fresh_state(candidate):
            candidate(x).sum().backward()
    expected = net[1].synapse.weight.grad
    torch.testing.assert_close(
        folded[1].synapse.weight.grad, expected, atol=0.01 * expected.abs().max().item(), rtol=0.01
    )


@pytest.mark.slayer
def test_norms_that_slayer_never_calls_are_left_out(slayer: Any) -> None:
    neuron = {"threshold": 0.1, "activation": torch.relu, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    block = slayer.block.sigma_delta
    blocks = [block.Input(neuron), block.Dense(neuron, 8, 6, weight_scale=4), block.Output(neuron, 6, 3)]
    net = torch.nn.Sequential(*blocks)
    x = torch.randn(4, 8, 16)
    for _ in range(3):
        net(x)
    net.eval()
    folded = fold_norms(net)
    assert torch.equal(folded(x), net(x))
    assert [part.neuron.norm is None for part in folded] == [True, False, True]
    assert not any(part.neuron.norm is None for part in net), "the network itself stays as it is"


@pytest.mark.slayer
def test_norms_without_data_are_refused(slayer: Any) -> None:
    net = torch.nn.Sequential(slayer.block.cuba.Dense({**CUBA, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}, 4, 4))
    with pytest.raises(ValueError, match=r"`0\.neuron\.norm` \(MeanOnlyBatchNorm\) to have seen data"):
        fold_norms(net)


@pytest.mark.slayer
def test_thresholds_off_the_grid_are_refused(slayer: Any) -> None:
    block = slayer.block.cuba.Dense({**CUBA, "threshold": 65 / 64, "norm": slayer.neuron.norm.WgtScaleBatchNorm}, 4, 4)
    block(torch.ones(1, 4, 4) * 1e-3)
    with pytest.raises(ValueError, match=r"`neuron` \(Neuron\) to stay a multiple of 1/64"):
        fold_norms(block, exact=False)


@pytest.mark.slayer
def test_a_threshold_on_the_grid_is_folded_whether_odd_or_even(slayer: Any) -> None:
    net = dividing(slayer.neuron.norm.WgtScaleBatchNorm, 1.0, 0.0, 0.5)
    for mantissa in (128, 130):  # halved, an even and an odd number of sixty-fourths
        net.neuron._threshold = mantissa / 64
        assert fold_norms(net).neuron.threshold == mantissa / 128
    net.neuron._threshold = 129 / 64
    with pytest.raises(ValueError, match=r"to stay a multiple of 1/64 .* becomes 2.015625 \* 0.5 = 1.0078125"):
        fold_norms(net)


@pytest.mark.slayer
def test_a_synapse_that_quantises_cannot_be_scaled(slayer: Any) -> None:
    synapse = slayer.synapse.Conv(4, 6, 3, pre_hook_fx=slayer.neuron.cuba.Neuron(**CUBA).quantize_8bit)
    before = synapse.weight.detach().clone()
    with pytest.raises(TypeError, match="`conv` to use its weight as it is but it quantises it"):
        scale_fused_conv_weight(synapse, torch.nn.BatchNorm3d(6), k=1.1)
    assert torch.equal(synapse.weight, before)


@pytest.mark.parametrize("function", [fused_conv_weight, fused_conv_bias, fuse_conv_bn, scale_fused_conv_bias])
def test_wrong_modules(function: Any) -> None:
    conv, bn = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
    with pytest.raises(TypeError, match="`conv` to be a convolution"):
        function(torch.nn.Linear(3, 4), bn)
    with pytest.raises(TypeError, match="`bn` to be a batch norm"):
        function(conv, torch.nn.ReLU())
    with pytest.raises(ValueError, match="4 output channels of `conv` but it has 5"):
        function(conv, torch.nn.BatchNorm2d(5))
    with pytest.raises(ValueError, match="track_running_stats=False"):
        function(conv, torch.nn.BatchNorm2d(4, track_running_stats=False))


@pytest.mark.parametrize("function", [scale_fused_conv_weight, scale_fused_conv_bias])
def test_a_scale_is_a_finite_number(function: Any) -> None:
    conv, bn = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
    with pytest.raises(TypeError, match="`k` to be a number but got Tensor"):
        function(conv, bn, k=torch.ones(4))
    with pytest.raises(ValueError, match="`b` to be finite but got nan"):
        function(conv, bn, b=float("nan"))


def test_an_offset_needs_a_gain() -> None:
    conv, bn = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
    torch.nn.init.zeros_(bn.weight)
    with pytest.raises(ValueError, match="no channel of gain zero"):
        scale_fused_conv_weight(conv, bn, b=1.0)


@pytest.mark.parametrize("norm", [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm])
def test_a_weight_that_every_forward_computes_anew_cannot_be_scaled(norm: Any) -> None:
    conv = norm(torch.nn.Conv2d(4, 6, 3))
    with pytest.raises(TypeError, match="`conv` to hold its weight itself but it is under a weight norm"):
        scale_fused_conv_weight(conv, torch.nn.BatchNorm2d(6), k=2.0)


@pytest.mark.slayer
def test_the_norm_of_a_sigma_delta_output_is_left_out(slayer: Any) -> None:
    neuron = {"threshold": 0.1, "activation": torch.relu, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    net = torch.nn.Sequential(
        slayer.block.sigma_delta.Dense(neuron, 6, 5), slayer.block.sigma_delta.Output(neuron, 5, 3)
    )
    x = torch.rand(2, 6, 8)
    net(x)
    net.eval()
    folded = fold_norms(net)
    assert folded[1].neuron.norm is None
    assert net[1].neuron.norm is not None
    assert torch.equal(folded(x), net(x))
