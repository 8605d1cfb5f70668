"""The support table: a row for every block, neuron and option of lava-dl 0.6.0, and what becomes of it.

A row says how its network is built (:mod:`support_networks`), and either that it arrives exactly or why it is refused.
Reading the table needs no Lava.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import support_networks as nets
import torch
from support_networks import ADRF, ALIF, CUBA, RF, SDNN, Blocks, Chain, block
from torch import nn

__all__ = ["ADRF", "ALIF", "CASES", "CUBA", "EXACT", "REFUSED", "RF", "SDNN", "Case", "Chain", "network"]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        row: the block that the row is about, ``family.Class``, and what is special about it.
        build: makes the network's blocks.
        shape: shape of the input without batch and time.
        how: how it is written, or where it runs, if that is not plain.
        refused: the reason, a part of the error that it is refused with; empty if it arrives exactly.
        instead: what to use instead, a part of that error too.
        raises: a part of the error that lava-dl itself raises as soon as the block is made.
        silent: which layers are silent on its sample.
        quick: whether its test on Lava is in the quick group too.
    """

    row: str
    build: Callable[[], Blocks]
    shape: tuple[int, ...] = (12,)
    how: str = ""
    refused: str = ""
    instead: str = ""
    raises: str = ""
    silent: tuple[str, ...] = ()
    quick: bool = False

    @property
    def block(self) -> str:
        """The block that the row is about."""
        return self.row.partition(" ")[0]

    @property
    def option(self) -> str:
        """What is special about it; empty if nothing is."""
        return self.row.partition(" ")[2]

    @property
    def name(self) -> str:
        """Name of the test."""
        return f"{self.block} {self.option}"


def network(case: Case, seed: int = 0) -> tuple[Chain, torch.Tensor]:
    """The case's network after it has seen data, and a sample."""
    torch.manual_seed(seed)
    net = Chain(case.build())
    sample = (torch.rand(4, *case.shape, 24) < 0.3).float()
    if case.block.startswith(("sigma_delta", "head")):
        sample = torch.randn(4, *case.shape, 24).cumsum(-1) / 4
    if case.refused or case.raises:
        return net, sample
    if not case.block.startswith("bootstrap"):
        with torch.no_grad():
            for _ in range(5):  # makes delays and decays, and lets norms learn their mean
                net(sample)
    for module in net.modules():
        if isinstance(getattr(module, "delay", None), nn.Parameter):
            module.delay.data = torch.rand_like(module.delay) * 7
        for name in ("current_state", "voltage_state"):
            if hasattr(module, name):
                setattr(module, name, torch.zeros(1))
    return net, sample


_AS_CONV = "as a convolution"
_AS_DENSE = "as a dense layer"
_AS_OUTPUT = "as an output layer"
_AS_GROUPS = "as a grouped convolution"
_AS_RECURRENT = "as a recurrent layer"
_DELTAS = "on the host; the messages go to the layer behind it"
_HOST = "on the host"
_NOT_CALLED = "SLAYER never calls it"
_TO_NEXT = "as the next dense layer's input delay"
_SECOND_LAYER = ("conv2", "output")  # its names, where all its neurons are silent

EXACT = [
    Case("cuba.Dense", nets.dense, quick=True),
    Case("cuba.Dense weight_norm", lambda: nets.dense(weight_norm=True), quick=True),
    Case("cuba.Dense mask", lambda: nets.dense(mask=nets.random_mask(10, 12))),
    Case("cuba.Dense mask and weight_norm", lambda: nets.dense(mask=nets.random_mask(10, 12), weight_norm=True)),
    Case("cuba.Dense delay", lambda: nets.dense(delay=True), quick=True),
    Case("cuba.Dense delay, in the last block", lambda: [nets.hidden(delay=True), nets.out(10, delay=True)]),
    Case("cuba.Dense delay_shift=False", lambda: nets.dense(delay_shift=False)),
    Case("cuba.Dense per-neuron decays", lambda: nets.dense(nets.PER_NEURON), quick=True),
    Case("cuba.Dense decays trained", lambda: nets.dense({"requires_grad": True})),
    Case("cuba.Dense decays at their limits", lambda: nets.dense({"current_decay": 1, "voltage_decay": 0})),
    Case("cuba.Dense another scale", lambda: nets.dense({"scale": 1 << 7})),
    Case("cuba.Dense dropout", lambda: nets.dense({"dropout": nets.dropout()})),
    Case("cuba.Dense MeanOnlyBatchNorm", lambda: nets.dense({"norm": nets.mean_norm()}), quick=True),
    Case("cuba.Dense MeanOnlyBatchNorm in every block", nets.dense_with_four_norms, quick=True),
    Case("cuba.Dense MeanOnlyBatchNorm behind delays", nets.norms_behind_delays, how=_TO_NEXT, quick=True),
    Case(
        "cuba.Dense MeanOnlyBatchNorm and delay",
        lambda: nets.dense({"norm": nets.mean_norm()}, delay=True),
        how=_TO_NEXT,
    ),
    Case(
        "cuba.Dense WgtScaleBatchNorm, current_decay 1",
        lambda: nets.dense(nets.scaled(current_decay=1.0)),
        how="norm folded into the weights",
    ),
    Case("cuba.Dense input (W, H, C), without Flatten", nets.dense_on_images, (2, 3, 5)),
    Case(
        "cuba.Dense weights that netx would alter: all -1",
        lambda: nets.equal_weights(-1.0),
        how=_AS_CONV,
        silent=_SECOND_LAYER,
    ),
    Case(
        "cuba.Dense weights that netx would alter: all 0",
        lambda: nets.equal_weights(0.0),
        how=_AS_CONV,
        silent=_SECOND_LAYER,
        quick=True,
    ),
    Case("cuba.Conv", lambda: nets.conv(size=4 * 5 * 6), (2, 7, 8), quick=True),
    Case("cuba.Conv stride, padding, dilation, groups, not square", nets.conv_with_options, (2, 7, 8), quick=True),
    Case("cuba.Conv weight_norm", lambda: nets.conv(weight_norm=True), (2, 7, 8)),
    Case(
        "cuba.Conv MeanOnlyBatchNorm",
        lambda: nets.conv({"norm": nets.mean_norm()}, size=4 * 5 * 6),
        (2, 7, 8),
        quick=True,
    ),
    Case(
        "cuba.Conv delay",
        lambda: nets.conv(delay=True, size=4 * 5 * 6),
        (2, 7, 8),
        how=f"{_TO_NEXT}, in the last block on the host",
        quick=True,
    ),
    Case("cuba.Conv delay, in the last block", lambda: nets.conv(delay=True), (2, 7, 8), how=_HOST),
    Case("cuba.Conv more than 127 groups", lambda: nets.conv_in_groups(134), (134, 1, 2), how="in fewer groups"),
    Case("cuba.ConvT", nets.conv_transposed, (2, 3, 2), how=_AS_DENSE, quick=True),
    Case("cuba.Pool", lambda: nets.pool(2, 2 * 3 * 4), (2, 6, 8), how=_AS_GROUPS, quick=True),
    Case("cuba.Pool size not a multiple", lambda: nets.pool(2, 2 * 4 * 4), (2, 7, 7), how=_AS_GROUPS),
    Case("cuba.Pool across channels", lambda: nets.pool(3, 2 * 2 * 2), (2, 5, 7), how=_AS_DENSE),
    Case("cuba.Pool stride", lambda: nets.pool((1, 2), 2 * 4 * 7, stride=1), (2, 4, 8), how=_AS_DENSE),
    Case("cuba.Pool delay", lambda: nets.pool(2, 2 * 3 * 4, delay=True), (2, 6, 8), how=_TO_NEXT),
    Case("cuba.Unpool then Conv", nets.unpool_then_conv, (2, 2, 3), how="both as dense layers"),
    Case("cuba.Flatten first", lambda: [block("cuba.Flatten")(), nets.out(24)], (2, 3, 4), quick=True),
    Case(
        "cuba.Input without a neuron",
        lambda: [block("cuba.Input")(None, delay_shift=False), *nets.conv()],
        (2, 7, 8),
        quick=True,
    ),
    Case(
        "cuba.Input with a neuron",
        lambda: [block("cuba.Input")(CUBA, weight=1.3, bias=0.2), *nets.dense()],
        how=_HOST,
        quick=True,
    ),
    Case("cuba.Recurrent", nets.recurrent, quick=True),
    Case("cuba.Recurrent weight_norm", lambda: nets.recurrent(weight_norm=True)),
    Case("cuba.Recurrent delay", lambda: nets.recurrent(delay=True), how=_TO_NEXT, quick=True),
    Case(
        "cuba.Recurrent MeanOnlyBatchNorm, current_decay 1",
        lambda: nets.recurrent({"norm": nets.mean_norm(), "current_decay": 1.0}),
        quick=True,
    ),
    Case("cuba.Recurrent per-neuron decays", lambda: nets.recurrent({"shared_param": False})),
    Case("cuba.KWTA half win", lambda: nets.winners(5), how=_AS_RECURRENT, quick=True),
    Case("cuba.KWTA current_decay 1", lambda: nets.winners(2, current_decay=1.0, threshold=8), how=_AS_RECURRENT),
    Case("cuba.Average last", lambda: [nets.hidden(), block("cuba.Average")(5)], how=_HOST, quick=True),
    Case("cuba.Affine last", lambda: [nets.hidden(), block("cuba.Affine")(CUBA, 10, 3)], how=_HOST),
    Case("cuba.Affine last, dynamics=False, mask, weight_norm", nets.affine_with_options, how=_HOST),
    Case("rf.Dense", lambda: [nets.resonators("rf.Dense"), nets.out(10)], quick=True),
    Case("rf.Dense per-neuron periods, mask", lambda: nets.resonators_with_periods("rf.Dense")),
    Case("rf.Dense weight_norm", lambda: [nets.resonators("rf.Dense", weight_norm=True)]),
    Case("rf.Dense delay", lambda: [nets.resonators("rf.Dense", delay=True), nets.out(10)], how=_TO_NEXT),
    Case("rf.Conv", lambda: [nets.resonators("rf.Conv")], (2, 4, 4), how=_AS_DENSE),
    Case("rf.ConvT", lambda: [nets.resonators("rf.ConvT")], (2, 4, 4), how=_AS_DENSE),
    Case("rf.Pool", lambda: [nets.resonators("rf.Pool")], (2, 4, 4), how=_AS_DENSE),
    Case("rf.Unpool", lambda: [nets.resonators("rf.Unpool")], (2, 4, 4), how=_AS_DENSE),
    Case(
        "rf.Input without a neuron",
        lambda: [block("rf.Input")(None, delay_shift=False), nets.resonators("rf.Dense")],
    ),
    Case("rf.Flatten", lambda: [block("rf.Flatten")(), nets.resonators("rf.Dense")], (2, 3, 2)),
    Case("rf.Average last", lambda: [nets.resonators("rf.Dense"), block("rf.Average")(5)], how=_HOST),
    Case("rf_iz.Dense", lambda: [nets.resonators("rf_iz.Dense"), nets.out(10)], quick=True),
    Case("rf_iz.Dense per-neuron periods, mask", lambda: nets.resonators_with_periods("rf_iz.Dense")),
    Case("rf_iz.Dense weight_norm", lambda: [nets.resonators("rf_iz.Dense", weight_norm=True)]),
    Case("rf_iz.Dense delay", lambda: [nets.resonators("rf_iz.Dense", delay=True), nets.out(10)], how=_TO_NEXT),
    Case("rf_iz.Conv", lambda: [nets.resonators("rf_iz.Conv")], (2, 4, 4), how=_AS_DENSE),
    Case("rf_iz.ConvT", lambda: [nets.resonators("rf_iz.ConvT")], (2, 4, 4), how=_AS_DENSE),
    Case("rf_iz.Pool", lambda: [nets.resonators("rf_iz.Pool")], (2, 4, 4), how=_AS_DENSE),
    Case("rf_iz.Unpool", lambda: [nets.resonators("rf_iz.Unpool")], (2, 4, 4), how=_AS_DENSE),
    Case(
        "rf_iz.Input without a neuron",
        lambda: [block("rf_iz.Input")(None, delay_shift=False), nets.resonators("rf_iz.Dense")],
    ),
    Case("rf_iz.Flatten", lambda: [block("rf_iz.Flatten")(), nets.resonators("rf_iz.Dense")], (2, 3, 2)),
    Case("rf_iz.Average last", lambda: [nets.resonators("rf_iz.Dense"), block("rf_iz.Average")(5)], how=_HOST),
    Case("bootstrap.cuba.Dense", lambda: [nets.bootstrap_dense(12, 10), nets.bootstrap_dense(10, 5)], quick=True),
    Case("bootstrap.cuba.Conv MeanOnlyBatchNorm, then Flatten", nets.bootstrap_conv, (2, 7, 8)),
    Case(
        "bootstrap.cuba.Flatten first",
        lambda: [block("bootstrap.cuba.Flatten")(), nets.bootstrap_dense(24, 5)],
        (2, 3, 4),
    ),
    Case("bootstrap.cuba.Input with a neuron", nets.bootstrap_input, how=_HOST),
    Case(
        "bootstrap.cuba.Affine last",
        lambda: [nets.bootstrap_dense(12, 10), block("bootstrap.cuba.Affine")(CUBA, 10, 3)],
        how=_HOST,
    ),
    Case("sigma_delta.Input", nets.delta_dense, how=_DELTAS, quick=True),
    Case("sigma_delta.Input weight and bias", lambda: nets.delta_dense_behind(weight=0.7, bias=-0.3), how=_DELTAS),
    Case("sigma_delta.Input MeanOnlyBatchNorm", nets.deltas_with_norms, (2, 7, 8), how=_NOT_CALLED, quick=True),
    Case("sigma_delta.Dense", nets.delta_dense),
    Case("sigma_delta.Dense MeanOnlyBatchNorm", lambda: nets.delta_dense({"norm": nets.mean_norm()})),
    Case(
        "sigma_delta.Dense WgtScaleBatchNorm that divides by 2",
        lambda: nets.delta_dense({"norm": lambda: nets.scale_norm(2.0)}),
        quick=True,
    ),
    Case("sigma_delta.Dense weight_norm", lambda: nets.delta_dense(weight_norm=True)),
    Case(
        "sigma_delta.Dense set_bias to whole numbers of 1/64",
        lambda: nets.delta_dense_with_bias(3 / 64, -0.25, 0.0),
        quick=True,
    ),
    Case(
        "sigma_delta.Conv set_bias, each channel",
        lambda: nets.delta_conv_with_bias(torch.tensor([5, -3, 0, 20]).reshape(4, 1, 1) / 64),
        (2, 7, 8),
    ),
    Case("sigma_delta.Dense delay", lambda: nets.delta_dense(delay=True), quick=True),
    Case("sigma_delta.Dense delay, MeanOnlyBatchNorm", nets.delayed_deltas, how=_TO_NEXT, quick=True),
    Case("sigma_delta.Dense delay_shift=True", lambda: nets.delta_dense(delay_shift=True)),
    Case("sigma_delta.Dense dropout", lambda: nets.delta_dense({"dropout": nets.dropout()})),
    Case("sigma_delta.Dense shared_param=False", lambda: nets.delta_dense({"shared_param": False})),
    Case("sigma_delta.Dense threshold trained to a whole 1/64", lambda: nets.delta_dense_with_threshold(5 / 64)),
    Case("sigma_delta.Conv", lambda: nets.delta_image("sigma_delta.Conv", 4 * 5 * 6, 2, 4, 3), (2, 7, 8), quick=True),
    Case(
        "sigma_delta.Conv MeanOnlyBatchNorm",
        lambda: nets.normed_delta_image("sigma_delta.Conv", 4 * 5 * 6, 2, 4, 3),
        (2, 7, 8),
    ),
    Case("sigma_delta.Conv stride, padding, dilation, groups", nets.delta_conv_with_options, (2, 7, 8)),
    Case(
        "sigma_delta.ConvT",
        lambda: nets.delta_image("sigma_delta.ConvT", 3 * 6 * 6, 2, 3, 3),
        (2, 4, 4),
        how=_AS_DENSE,
    ),
    Case(
        "sigma_delta.ConvT MeanOnlyBatchNorm",
        lambda: nets.normed_delta_image("sigma_delta.ConvT", 3 * 6 * 6, 2, 3, 3),
        (2, 4, 4),
        how=_AS_DENSE,
    ),
    Case("sigma_delta.Pool", lambda: nets.delta_image("sigma_delta.Pool", 2 * 3 * 4, 2), (2, 6, 8), how=_AS_DENSE),
    Case("sigma_delta.Unpool", lambda: nets.delta_image("sigma_delta.Unpool", 2 * 8 * 8, 2), (2, 4, 4), how=_AS_DENSE),
    Case("sigma_delta.Flatten", lambda: nets.deltas(block("sigma_delta.Flatten")(), nets.delta_out(24)), (2, 3, 4)),
    Case("sigma_delta.Output", lambda: nets.deltas(nets.delta_out(12))),
    Case(
        "sigma_delta.Output MeanOnlyBatchNorm",
        lambda: nets.deltas(block("sigma_delta.Output")({**SDNN, "norm": lambda: nets.mean_norm(0.5)}, 12, 5)),
        how=_NOT_CALLED,
    ),
    Case(
        "sigma_delta.Output weights that netx would alter",
        lambda: nets.with_equal_weights(-1.0, nets.deltas(nets.delta_out(12))),
        how=_AS_CONV,
    ),
    Case("head.Conv", nets.deltas_with_head, (2, 7, 8), how=_AS_OUTPUT, quick=True),
    Case("head.Dense", lambda: nets.delta_dense()[:2] + nets.head("Dense", 10, 5), how=_AS_OUTPUT),
    Case(
        "head.Dense of images, weight_norm",
        lambda: nets.deltas(*nets.head("Dense", (8, 7, 2), 5, weight_norm=True)),
        (2, 7, 8),
        how=_AS_OUTPUT,
    ),
]

_BEFORE = "Run the network forward once before you train it and before load_state_dict."
_THRESHOLD = "It has to lie between 1 and 4095, beyond which SLAYER or Loihi rounds it or cannot hold it."
_NO_FEEDBACK = "netx has no recurrent layer of resonators"
_NOT_ON_CPU = "lava-dl cannot run it on the CPU"
_UNMADE = "lava-dl cannot make it"

# Reasons, and what to use instead.
_ACTIVATION = ("its activation is not relu, and netx knows no other", "Use activation=torch.relu.")
_ADAPTIVE = ("netx cannot load adaptive thresholds", "Use cuba blocks.")
_ADAPTIVE_RF = ("netx would load it as resonators without adaptation", "Use rf blocks.")
_ADAPTIVE_RF_IZ = ("netx would load it as resonators without adaptation", "Use rf_iz blocks.")
_CONSTANT_CURRENT = (
    "its norm or number of winners makes a constant current, and netx has only a bias on the voltage",
    "Use current_decay=1, where the two are the same; or no norm, and half of the neurons as winners.",
)
_COUNT_LOG = ("lava-dl itself cannot run count_log=True", "Use count_log=False, and count what the block returns.")
_CURRENT_DECAY = (
    "current_decay 0 does not fit Loihi's 12-bit register",
    "Use a current_decay between 1/4096 and 4096/4096.",
)
_DECIMATION = ("netx has no layer that merges steps", "Merge the steps of the data beforehand.")
_DELAYED_CONV = (
    "the axonal delay of the block before would have to be made by a convolution, and netx drops it there",
    "Use delay=False in the block before this one.",
)
_DELTA_AVERAGE = ("netx has no average of graded changes", "Take the average of what the network gives out.")
_DELTA_BIAS = ("its bias is not made of whole numbers of 1/64", "Or call netx_export.round_parameters(net)")
_BIAS_PER_NEURON = (
    "its bias differs among the neurons of a channel",
    "Call set_bias with one number for each channel, of shape (channels, 1, 1).",
)
_DELTA_THRESHOLD = (
    "is not the same whole number of 1/64 for all neurons",
    "Use a threshold between 1/64 and 64 that is not trained.",
)
_EQUAL_RECURRENT = (
    "would be altered when netx and Lava load them",
    "Keep weights of both signs in recurrent1, between -254 and 254 in steps of 2.",
)
_GRADED = ("netx makes graded spikes binary", "Train with graded_spike=False.")
_GRADED_CUBA = ("netx makes graded CUBA spikes binary", "Train with graded_spike=False.")
_INPUT_DELAYS = ("lava-dl itself cannot run an Input that has no neuron and delays", "Use delay_shift=False.")
_INPUT_NEURONS = ("only cuba neurons can encode the input", "Use cuba.Input, or give spikes.")
_LATE_INPUT = ("an Input makes sense only at the start of a network", "Remove it.")
_LONG_KERNEL = (
    "a kernel size, stride, padding or dilation of 128 overflows Lava's 8-bit variables",
    "The limit is 127.",
)
_MIXED = (
    "on Lava it takes the messages before it for 4096 times what they are in SLAYER",
    "Use sigma_delta blocks only, or none.",
)
_SPIKES_BEFORE = (
    "to it a spike counts 1/4096 on Lava, for messages are counted so, and 1 in SLAYER",
    "Use sigma_delta blocks only, or none.",
)
_NORM = ("its norm MeanOnlyBatchNorm has no bias in netx", "Use norm=None.")
_NOT_QUANTISED = ("its weights are not quantised or not finite", "Use pre_hook_fx=neuron.quantize_8bit, the default.")
_NO_DECAYS = ("its per-neuron decays are made at the first forward, and this network never ran one", _BEFORE)
_NO_DELAYS = ("its axonal delays are made at the first forward, and this network never ran one", _BEFORE)
_NO_DELTA_INPUT = (
    "only by input neurons can a file say that changes go in, which netx by default takes for spikes",
    "Begin the network with a sigma_delta.Input that has neurons.",
)
_PERSISTENT = ("start each sample from rest", "Use persistent_state=False")
_SCALED = ("its WgtScaleBatchNorm divides the current by 0.5, netx ignores that", "Use MeanOnlyBatchNorm.")
_VOLTAGE_DECAY = (
    "voltage_decay 1 does not fit Loihi's 12-bit register",
    "Use a voltage_decay between 0/4096 and 4095/4096.",
)


def _refused(
    row: str, build: Callable[[], Blocks], why: tuple[str, str], shape: tuple[int, ...] = (12,), how: str = ""
) -> Case:
    return Case(row, build, shape, how, refused=why[0], instead=why[1])


REFUSED = [
    _refused("cuba.Dense graded spikes", lambda: nets.dense({"graded_spike": True}), _GRADED_CUBA),
    _refused("cuba.Dense not quantised", lambda: nets.dense(pre_hook_fx=None), _NOT_QUANTISED),
    _refused(
        "cuba.Dense threshold of 64 or more",
        lambda: nets.dense({"threshold": 64}),
        ("threshold 64.0 has the mantissa 4096", _THRESHOLD),
    ),
    _refused(
        "cuba.Dense threshold of 0",
        lambda: nets.dense({"threshold": 0.001}),
        ("threshold 0.0 has the mantissa 0", _THRESHOLD),
    ),
    _refused("cuba.Dense current_decay of 0", lambda: nets.dense({"current_decay": 0}), _CURRENT_DECAY),
    _refused("cuba.Dense voltage_decay of 1", lambda: nets.dense({"voltage_decay": 1}), _VOLTAGE_DECAY),
    _refused("cuba.Dense WgtScaleBatchNorm, current_decay below 1", lambda: nets.dense(nets.scaled()), _SCALED),
    _refused("cuba.Dense delay never run", lambda: nets.dense(delay=True), _NO_DELAYS),
    _refused("cuba.Dense per-neuron decays never run", lambda: nets.dense({"shared_param": False}), _NO_DECAYS),
    _refused("cuba.Dense count_log", lambda: nets.dense(count_log=True), _COUNT_LOG),
    _refused("cuba.Dense after sigma_delta.Input", lambda: nets.deltas(*nets.dense()), _MIXED),
    _refused(
        "cuba.Conv per-channel decays",
        lambda: nets.conv({"shared_param": False}),
        _NO_DECAYS,
        shape=(2, 7, 8),
        how=_NOT_ON_CPU,
    ),
    _refused("cuba.Conv delay, then Conv", nets.delayed_convs, _DELAYED_CONV, shape=(2, 7, 8)),
    _refused(
        "cuba.Conv kernel of more than 127",
        lambda: [block("cuba.Conv")(CUBA, 1, 1, (128, 1))],
        _LONG_KERNEL,
        shape=(1, 129, 1),
    ),
    _refused(
        "cuba.Input without a neuron, delay_shift", lambda: [block("cuba.Input")(None), *nets.dense()], _INPUT_DELAYS
    ),
    _refused(
        "cuba.Input not first", lambda: [*nets.dense(), block("cuba.Input")(None, delay_shift=False)], _LATE_INPUT
    ),
    _refused("cuba.KWTA other numbers of winners", lambda: nets.winners(2, threshold=8), _CONSTANT_CURRENT),
    _refused(
        "cuba.Recurrent weights that netx would alter: all -1",
        lambda: nets.recurrent_with_equal_weights(-1.0),
        _EQUAL_RECURRENT,
    ),
    _refused(
        "cuba.Recurrent MeanOnlyBatchNorm, current_decay below 1",
        lambda: nets.recurrent({"norm": lambda: nets.mean_norm(0.5)}),
        _CONSTANT_CURRENT,
    ),
    _refused("cuba.TimeDecimation", lambda: nets.alone("cuba.TimeDecimation"), _DECIMATION),
    _refused("rf.Dense norm", lambda: [nets.resonators("rf.Dense", {"norm": nets.mean_norm()})], _NORM),
    _refused("rf.Dense graded spikes", lambda: [nets.resonators("rf.Dense", {"graded_spike": True})], _GRADED),
    _refused("rf.Input with a neuron", lambda: nets.alone("rf.Input"), _INPUT_NEURONS),
    _refused("rf.KWTA", lambda: nets.alone("rf.KWTA"), (_NO_FEEDBACK, "Use cuba.KWTA.")),
    _refused("rf.Recurrent", lambda: nets.alone("rf.Recurrent"), (_NO_FEEDBACK, "Use cuba.Recurrent.")),
    _refused("rf.TimeDecimation", lambda: nets.alone("rf.TimeDecimation"), _DECIMATION),
    _refused("rf_iz.Dense norm", lambda: [nets.resonators("rf_iz.Dense", {"norm": nets.mean_norm()})], _NORM),
    _refused("rf_iz.Dense graded spikes", lambda: [nets.resonators("rf_iz.Dense", {"graded_spike": True})], _GRADED),
    _refused("rf_iz.Input with a neuron", lambda: nets.alone("rf_iz.Input"), _INPUT_NEURONS),
    _refused("rf_iz.KWTA", lambda: nets.alone("rf_iz.KWTA"), (_NO_FEEDBACK, "Use cuba.KWTA.")),
    _refused("rf_iz.Recurrent", lambda: nets.alone("rf_iz.Recurrent"), (_NO_FEEDBACK, "Use cuba.Recurrent.")),
    _refused("rf_iz.TimeDecimation", lambda: nets.alone("rf_iz.TimeDecimation"), _DECIMATION),
    _refused("sigma_delta.Dense without sigma_delta.Input", lambda: nets.alone("sigma_delta.Dense"), _NO_DELTA_INPUT),
    _refused(
        "sigma_delta.Dense cum_error",
        lambda: nets.delta_dense({"cum_error": True}),
        ("netx ignores cum_error", "Use cum_error=False."),
    ),
    _refused("sigma_delta.Dense persistent_state", lambda: nets.delta_dense({"persistent_state": True}), _PERSISTENT),
    _refused(
        "sigma_delta.Dense another activation", lambda: nets.delta_dense({"activation": torch.sigmoid}), _ACTIVATION
    ),
    _refused(
        "sigma_delta.Dense another scale",
        lambda: nets.delta_dense({"scale": 1 << 7}),
        ("its scale is 128", "Use the default scale of 64."),
    ),
    _refused(
        "sigma_delta.Dense WgtScaleBatchNorm",
        lambda: nets.delta_dense({"norm": lambda: nets.scale_norm(8.0)}),
        ("its WgtScaleBatchNorm divides the sum by 8", "Use MeanOnlyBatchNorm."),
    ),
    _refused("sigma_delta.Dense set_bias", lambda: nets.delta_dense_with_bias(0.3), _DELTA_BIAS),
    _refused(
        "sigma_delta.Conv set_bias, each neuron",
        lambda: nets.delta_conv_with_bias(torch.arange(4 * 5 * 6).reshape(4, 5, 6) / 64),
        _BIAS_PER_NEURON,
        (2, 7, 8),
    ),
    _refused("sigma_delta.Conv delay, then Conv", nets.delayed_delta_convs, _DELAYED_CONV, (2, 7, 8)),
    _refused("sigma_delta.Dense threshold trained", lambda: nets.delta_dense_with_threshold(0.11), _DELTA_THRESHOLD),
    _refused("sigma_delta.Dense threshold of 0", lambda: nets.delta_dense({"threshold": 0.001}), _DELTA_THRESHOLD),
    _refused(
        "sigma_delta.Dense after cuba.Dense",
        lambda: [nets.hidden(), block("sigma_delta.Dense")(SDNN, 10, 5)],
        _SPIKES_BEFORE,
    ),
    _refused("sigma_delta.Conv without sigma_delta.Input", lambda: nets.alone("sigma_delta.Conv"), _NO_DELTA_INPUT),
    _refused("sigma_delta.Output without sigma_delta.Input", lambda: nets.alone("sigma_delta.Output"), _NO_DELTA_INPUT),
    _refused(
        "head.Dense without pre_hook_fx",
        lambda: nets.delta_dense()[:2] + nets.head("Dense", 10, 5, pre_hook_fx=None),
        (
            "its weights are not quantised or not finite",
            "Give its synapse a pre_hook_fx that makes whole numbers of 1/64",
        ),
    ),
    _refused("sigma_delta.Average", lambda: nets.alone("sigma_delta.Average"), _DELTA_AVERAGE),
    _refused("alif.Input", lambda: nets.alone("alif.Input"), _ADAPTIVE),
    _refused("alif.Flatten", lambda: nets.alone("alif.Flatten"), _ADAPTIVE),
    _refused("alif.Average", lambda: nets.alone("alif.Average"), _ADAPTIVE),
    _refused("alif.TimeDecimation", lambda: nets.alone("alif.TimeDecimation"), _ADAPTIVE),
    _refused("alif.Dense", lambda: nets.alone("alif.Dense"), _ADAPTIVE),
    _refused("alif.Conv", lambda: nets.alone("alif.Conv"), _ADAPTIVE),
    _refused("alif.ConvT", lambda: nets.alone("alif.ConvT"), _ADAPTIVE),
    _refused("alif.Pool", lambda: nets.alone("alif.Pool"), _ADAPTIVE),
    _refused("alif.Unpool", lambda: nets.alone("alif.Unpool"), _ADAPTIVE),
    _refused("alif.KWTA", lambda: nets.alone("alif.KWTA"), _ADAPTIVE),
    _refused("alif.Recurrent", lambda: nets.alone("alif.Recurrent"), _ADAPTIVE),
    _refused("adrf.Input", lambda: nets.alone("adrf.Input"), _ADAPTIVE_RF),
    _refused("adrf.Flatten", lambda: nets.alone("adrf.Flatten"), _ADAPTIVE_RF),
    _refused("adrf.Average", lambda: nets.alone("adrf.Average"), _ADAPTIVE_RF),
    _refused("adrf.TimeDecimation", lambda: nets.alone("adrf.TimeDecimation"), _ADAPTIVE_RF),
    _refused("adrf.Dense", lambda: nets.alone("adrf.Dense"), _ADAPTIVE_RF),
    _refused("adrf.Conv", lambda: nets.alone("adrf.Conv"), _ADAPTIVE_RF),
    _refused("adrf.ConvT", lambda: nets.alone("adrf.ConvT"), _ADAPTIVE_RF),
    _refused("adrf.Pool", lambda: nets.alone("adrf.Pool"), _ADAPTIVE_RF),
    _refused("adrf.Unpool", lambda: nets.alone("adrf.Unpool"), _ADAPTIVE_RF),
    _refused("adrf.KWTA", lambda: nets.alone("adrf.KWTA"), _ADAPTIVE_RF),
    _refused("adrf.Recurrent", lambda: nets.alone("adrf.Recurrent"), _ADAPTIVE_RF),
    _refused("adrf_iz.Input", lambda: nets.alone("adrf_iz.Input"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.Flatten", lambda: nets.alone("adrf_iz.Flatten"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.Average", lambda: nets.alone("adrf_iz.Average"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.TimeDecimation", lambda: nets.alone("adrf_iz.TimeDecimation"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.Dense", lambda: nets.alone("adrf_iz.Dense"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.Conv", lambda: nets.alone("adrf_iz.Conv"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.Pool", lambda: nets.alone("adrf_iz.Pool"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.Unpool", lambda: nets.alone("adrf_iz.Unpool"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.KWTA", lambda: nets.alone("adrf_iz.KWTA"), _ADAPTIVE_RF_IZ),
    _refused("adrf_iz.Recurrent", lambda: nets.alone("adrf_iz.Recurrent"), _ADAPTIVE_RF_IZ),
    Case("rf.Affine", lambda: nets.alone("rf.Affine"), how=_UNMADE, raises="threshold", instead="Use cuba.Affine."),
    Case(
        "rf_iz.Affine",
        lambda: nets.alone("rf_iz.Affine"),
        how=_UNMADE,
        raises="threshold",
        instead="Use cuba.Affine.",
    ),
    Case(
        "adrf_iz.ConvT",
        lambda: nets.alone("adrf_iz.ConvT"),
        how=_UNMADE,
        raises="ConvT",
        instead="Use rf_iz blocks.",
    ),
]

CASES = [*EXACT, *REFUSED]
