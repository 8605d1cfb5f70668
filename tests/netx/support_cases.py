"""Every block, neuron and option of lava-dl 0.6.0, and what comes of it: the support table is made of this list.

Each case says how to build the network, and either that it arrives exactly or why it is refused. It imports without
Lava: a case builds its blocks from the modules that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Blocks = list[Any]
CUBA = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
RF = {"threshold": 1.0, "period": 7, "decay": 0.05}
SDNN = {"threshold": 0.1, "activation": torch.relu}
ALIF = {**CUBA, "threshold_step": 0.5, "threshold_decay": 0.1, "refractory_decay": 0.1}
ADRF = {**RF, "threshold_step": 0.5, "threshold_decay": 0.1, "refractory_decay": 0.1}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        block: the block that the row is about, ``module.Class``.
        option: what is special about it.
        build: makes the network's blocks from ``lava.lib.dl.slayer.block`` (or bootstrap's) and slayer itself.
        shape: shape of the input without batch and time.
        how: how it is written, or where it runs, if that is not plain.
        refused: the reason, a part of the error that it is refused with; empty if it arrives exactly.
        instead: what to use instead, a part of that error too.
        raises: a part of the error that lava-dl itself raises as soon as the block is made or run.
        silent: what is silent on its sample.
        slow: whether its test on Lava is left for the slow group.
    """

    block: str
    option: str
    build: Callable[[Any], Blocks]
    shape: tuple[int, ...] = (12,)
    how: str = ""
    refused: str = ""
    instead: str = ""
    raises: str = ""
    silent: tuple[str, ...] = ()
    slow: bool = True

    @property
    def name(self) -> str:
        """Name of the test."""
        return f"{self.block} {self.option}"


class Chain(nn.Module):
    """Blocks one after the other, as in lava-dl's tutorials."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def network(case: Case, seed: int = 0) -> tuple[Chain, torch.Tensor]:
    """The case's network after it has seen data, and a sample."""
    import lava.lib.dl.bootstrap.block as bootstrap
    import lava.lib.dl.slayer as slayer
    from lava.lib.dl.slayer import block

    torch.manual_seed(seed)
    modules = type("Modules", (), {"slayer": slayer, "block": block, "bootstrap": bootstrap})
    net = Chain(case.build(modules))
    sample = (torch.rand(4, *case.shape, 24) < 0.3).float()
    if case.block.startswith("sigma_delta"):
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


def _mean_only(m: Any) -> Any:
    return m.slayer.neuron.norm.MeanOnlyBatchNorm


def _scaled(m: Any) -> Any:
    return m.slayer.neuron.norm.WgtScaleBatchNorm


def _out(m: Any, size: int, **options: Any) -> Any:
    return m.block.cuba.Dense(CUBA, size, 5, weight_scale=4, **options)


def _dense(m: Any, neuron: dict[str, Any] | None = None, **options: Any) -> Blocks:
    return [m.block.cuba.Dense({**CUBA, **(neuron or {})}, 12, 10, weight_scale=4, **options), _out(m, 10)]


def _with_weights(blocks: Blocks, value: float) -> Blocks:
    for parameter in blocks[0].synapse.parameters():
        parameter.data.fill_(value)
    return blocks


def _conv(m: Any, neuron: dict[str, Any] | None = None, kernel: Any = 3, size: int = 0, **options: Any) -> Blocks:
    conv = m.block.cuba.Conv({**CUBA, **(neuron or {})}, 2, 4, kernel, weight_scale=4, **options)
    return [conv, m.block.cuba.Flatten(), _out(m, size)] if size else [conv]


def _pool(m: Any, kernel: Any, size: int, weight_scale: float = 2, **options: Any) -> Blocks:
    pool = m.block.cuba.Pool(dict(CUBA), kernel, weight_scale=weight_scale, **options)
    return [pool, m.block.cuba.Flatten(), _out(m, size)]


def _recurrent(m: Any, neuron: dict[str, Any] | None = None, **options: Any) -> Blocks:
    return [m.block.cuba.Recurrent({**CUBA, **(neuron or {})}, 12, 10, weight_scale=4, **options), _out(m, 10)]


def _kwta(m: Any, winners: int, **neuron: Any) -> Blocks:
    return [m.block.cuba.KWTA({**CUBA, **neuron}, 12, 10, winners, weight_scale=4), _out(m, 10)]


def _rf(m: Any, family: str, block: str = "Dense", neuron: dict[str, Any] | None = None, **options: Any) -> Any:
    arguments = {"Dense": (12, 10), "Conv": (2, 3, 3), "ConvT": (2, 3, 3), "Pool": (2,), "Unpool": (2,)}[block]
    cls = getattr(getattr(m.block, family), block)
    return cls({**RF, **(neuron or {})}, *arguments, weight_scale=4, **options)


def _sd(m: Any, *blocks: Any) -> Blocks:
    return [m.block.sigma_delta.Input(dict(SDNN)), *blocks]


def _sd_dense(m: Any, neuron: dict[str, Any] | None = None, **options: Any) -> Blocks:
    first = m.block.sigma_delta.Dense({**SDNN, **(neuron or {})}, 12, 10, weight_scale=4, **options)
    return _sd(m, first, _sd_out(m, 10))


def _sd_out(m: Any, size: int) -> Any:
    return m.block.sigma_delta.Output(dict(SDNN), size, 5, weight_scale=2)


def _sd_image(m: Any, block: str, size: int, *arguments: Any, **options: Any) -> Blocks:
    layer = getattr(m.block.sigma_delta, block)(dict(SDNN), *arguments, weight_scale=2, **options)
    return _sd(m, layer, m.block.sigma_delta.Flatten(), _sd_out(m, size))


def _sd_with_bias(m: Any) -> Blocks:
    blocks = _sd_dense(m)
    blocks[1].neuron.set_bias(torch.full((10,), 0.3))
    return blocks


def _sd_with_threshold(m: Any, value: float) -> Blocks:
    blocks = _sd_dense(m, {"requires_grad": True})
    blocks[1].neuron.delta.threshold.data.fill_(value)
    return blocks


_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "Input": (),
    "Dense": (12, 10),
    "Affine": (12, 10),
    "Output": (12, 10),
    "Conv": (2, 4, 3),
    "ConvT": (2, 4, 3),
    "Pool": (2,),
    "Unpool": (2,),
    "KWTA": (12, 10, 5),
    "Recurrent": (12, 10),
}


def _any_block(family: str, name: str) -> Callable[[Any], Blocks]:
    def build(m: Any) -> Blocks:
        cls = getattr(getattr(m.block, family), name)
        if name in ("Flatten", "Average", "TimeDecimation"):
            arguments: tuple[Any, ...] = () if name == "Flatten" else (4,)
            return [m.block.cuba.Dense(CUBA, 12, 8), cls(*arguments)]
        neuron = {"sigma_delta": SDNN, "alif": ALIF, "adrf": ADRF, "adrf_iz": ADRF}.get(family, RF)
        return [cls(dict(neuron), *_ARGUMENTS[name])]

    return build


_ADAPTIVE = (
    *("Input", "Flatten", "Average", "TimeDecimation", "Dense", "Conv", "ConvT", "Pool", "Unpool", "KWTA", "Recurrent"),
)
_DENSE_ONLY = "as a dense layer"
_DELTAS = "on the host; the messages go to the layer behind it"
_TO_NEXT = "as the next dense layer's input delay"

EXACT = [
    Case("cuba.Dense", "", lambda m: _dense(m), slow=False),
    Case("cuba.Dense", "weight_norm", lambda m: _dense(m, weight_norm=True), slow=False),
    Case("cuba.Dense", "mask", lambda m: _dense(m, mask=torch.rand(10, 12) < 0.5)),
    Case("cuba.Dense", "mask and weight_norm", lambda m: _dense(m, mask=torch.rand(10, 12) < 0.5, weight_norm=True)),
    Case("cuba.Dense", "delay", lambda m: _dense(m, delay=True), slow=False),
    Case("cuba.Dense", "delay, in the last block", lambda m: [*_dense(m, delay=True)[:1], _out(m, 10, delay=True)]),
    Case("cuba.Dense", "delay_shift=False", lambda m: [*_dense(m, delay_shift=False)[:1], _out(m, 10)]),
    Case(
        "cuba.Dense",
        "per-neuron decays",
        lambda m: _dense(m, {"shared_param": False, "current_decay": (0.1, 0.9), "voltage_decay": (0.01, 0.5)}),
        slow=False,
    ),
    Case("cuba.Dense", "decays trained", lambda m: _dense(m, {"requires_grad": True})),
    Case("cuba.Dense", "decays at their limits", lambda m: _dense(m, {"current_decay": 1, "voltage_decay": 0})),
    Case("cuba.Dense", "another scale", lambda m: _dense(m, {"scale": 1 << 7})),
    Case("cuba.Dense", "dropout", lambda m: _dense(m, {"dropout": m.slayer.neuron.Dropout(0.3)})),
    Case("cuba.Dense", "MeanOnlyBatchNorm", lambda m: _dense(m, {"norm": _mean_only(m)}), slow=False),
    Case(
        "cuba.Dense",
        "MeanOnlyBatchNorm in every block",
        lambda m: [
            m.block.cuba.Dense(
                {**CUBA, "norm": lambda b=mean: _fixed_mean(m, b)}, 12, 12, weight_scale=4, delay_shift=shift
            )
            for mean, shift in ((-1.5, True), (-0.5, False), (0.25, True), (-0.25, True))
        ],
        slow=False,
    ),
    Case(
        "cuba.Dense",
        "MeanOnlyBatchNorm behind delays",
        lambda m: [
            *_dense(m, {"norm": _mean_only(m)}, delay=True)[:1],
            m.block.cuba.Dense({**CUBA, "norm": lambda: _fixed_mean(m, -0.5)}, 10, 10, weight_scale=4, delay=True),
            _out(m, 10),
        ],
        how=_TO_NEXT,
        slow=False,
    ),
    Case(
        "cuba.Dense",
        "MeanOnlyBatchNorm and delay",
        lambda m: _dense(m, {"norm": _mean_only(m)}, delay=True),
        how=_TO_NEXT,
    ),
    Case(
        "cuba.Dense",
        "WgtScaleBatchNorm, current_decay 1",
        lambda m: _dense(m, {"norm": lambda: _fixed_scale(m, 0.5), "current_decay": 1.0}),
        how="norm folded into the weights",
    ),
    Case(
        "cuba.Dense",
        "input (W, H, C), without Flatten",
        lambda m: [m.block.cuba.Dense(CUBA, (5, 3, 2), 10, weight_scale=4), _out(m, 10)],
        (2, 3, 5),
    ),
    Case(
        "cuba.Dense",
        "weights that netx would alter: all -1",
        lambda m: [*_dense(m)[:1], *_with_weights([_out(m, 10)], -1.0)],
        how="as a convolution",
        silent=("conv2", "output"),
    ),
    Case(
        "cuba.Dense",
        "weights that netx would alter: all 0",
        lambda m: [*_dense(m)[:1], *_with_weights([_out(m, 10)], 0.0)],
        how="as a convolution",
        silent=("conv2", "output"),
        slow=False,
    ),
    Case("cuba.Conv", "", lambda m: _conv(m, size=4 * 5 * 6), (2, 7, 8), slow=False),
    Case(
        "cuba.Conv",
        "stride, padding, dilation, groups, not square",
        lambda m: _conv(m, kernel=(3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2, size=4 * 7 * 5),
        (2, 7, 8),
        slow=False,
    ),
    Case("cuba.Conv", "weight_norm", lambda m: _conv(m, weight_norm=True), (2, 7, 8)),
    Case(
        "cuba.Conv",
        "MeanOnlyBatchNorm",
        lambda m: _conv(m, {"norm": _mean_only(m)}, size=4 * 5 * 6),
        (2, 7, 8),
        slow=False,
    ),
    Case(
        "cuba.Conv",
        "delay",
        lambda m: _conv(m, delay=True, size=4 * 5 * 6),
        (2, 7, 8),
        how=f"{_TO_NEXT}, in the last block on the host",
        slow=False,
    ),
    Case("cuba.Conv", "delay, in the last block", lambda m: _conv(m, delay=True), (2, 7, 8), how="on the host"),
    Case(
        "cuba.Conv",
        "more than 127 groups",
        lambda m: [m.block.cuba.Conv(CUBA, 134, 134, 1, groups=134, weight_scale=9)],
        (134, 1, 2),
        how="in fewer groups",
    ),
    Case("cuba.Flatten", "first", lambda m: [m.block.cuba.Flatten(), _out(m, 24)], (2, 3, 4), slow=False),
    Case(
        "cuba.Input",
        "without a neuron",
        lambda m: [m.block.cuba.Input(None, delay_shift=False), *_conv(m)],
        (2, 7, 8),
        slow=False,
    ),
    Case(
        "cuba.Input",
        "with a neuron",
        lambda m: [m.block.cuba.Input(CUBA, weight=1.3, bias=0.2), *_dense(m)],
        how="on the host",
        slow=False,
    ),
    Case("cuba.Recurrent", "", lambda m: _recurrent(m), slow=False),
    Case("cuba.Recurrent", "weight_norm", lambda m: _recurrent(m, weight_norm=True)),
    Case("cuba.Recurrent", "delay", lambda m: _recurrent(m, delay=True), how=_TO_NEXT, slow=False),
    Case(
        "cuba.Recurrent",
        "MeanOnlyBatchNorm, current_decay 1",
        lambda m: _recurrent(m, {"norm": _mean_only(m), "current_decay": 1.0}),
        slow=False,
    ),
    Case("cuba.Recurrent", "per-neuron decays", lambda m: _recurrent(m, {"shared_param": False})),
    Case("cuba.Pool", "", lambda m: _pool(m, 2, 2 * 3 * 4), (2, 6, 8), how="as a grouped convolution", slow=False),
    Case(
        "cuba.Pool", "size not a multiple", lambda m: _pool(m, 2, 2 * 4 * 4), (2, 7, 7), how="as a grouped convolution"
    ),
    Case("cuba.Pool", "across channels", lambda m: _pool(m, 3, 2 * 2 * 2), (2, 5, 7), how=_DENSE_ONLY),
    Case("cuba.Pool", "stride", lambda m: _pool(m, (1, 2), 2 * 4 * 7, stride=1), (2, 4, 8), how=_DENSE_ONLY),
    Case("cuba.Pool", "delay", lambda m: _pool(m, 2, 2 * 3 * 4, delay=True), (2, 6, 8), how=_TO_NEXT),
    Case(
        "cuba.ConvT",
        "",
        lambda m: [
            m.block.cuba.ConvT(CUBA, 2, 3, 3, stride=2, weight_scale=4),
            m.block.cuba.Flatten(),
            _out(m, 3 * 7 * 5),
        ],
        (2, 3, 2),
        how=_DENSE_ONLY,
        slow=False,
    ),
    Case(
        "cuba.Unpool",
        "then Conv",
        lambda m: [m.block.cuba.Unpool(dict(CUBA), 2, weight_scale=2), *_conv(m, size=4 * 2 * 4)],
        (2, 2, 3),
        how="both as dense layers",
    ),
    Case("cuba.KWTA", "half win", lambda m: _kwta(m, 5), how="as a recurrent layer", slow=False),
    Case(
        "cuba.KWTA",
        "current_decay 1",
        lambda m: _kwta(m, 2, current_decay=1.0, threshold=8),
        how="as a recurrent layer",
    ),
    Case("cuba.Average", "last", lambda m: [*_dense(m)[:1], m.block.cuba.Average(5)], how="on the host", slow=False),
    Case("cuba.Affine", "last", lambda m: [*_dense(m)[:1], m.block.cuba.Affine(CUBA, 10, 3)], how="on the host"),
    Case(
        "cuba.Affine",
        "last, dynamics=False, mask, weight_norm",
        lambda m: [
            *_dense(m)[:1],
            m.block.cuba.Affine(CUBA, 10, 3, dynamics=False, weight_norm=True, mask=torch.rand(3, 10) < 0.5),
        ],
        how="on the host",
    ),
    *[
        case
        for family in ("rf", "rf_iz")
        for case in (
            Case(f"{family}.Dense", "", lambda m, f=family: [_rf(m, f), _out(m, 10)], slow=False),
            Case(
                f"{family}.Dense",
                "per-neuron periods, mask",
                lambda m, f=family: [
                    _rf(m, f, neuron={"shared_param": False, "period": (5, 30)}, mask=torch.rand(10, 12) < 0.7),
                    _out(m, 10),
                ],
            ),
            Case(f"{family}.Dense", "weight_norm", lambda m, f=family: [_rf(m, f, weight_norm=True)]),
            Case(f"{family}.Dense", "delay", lambda m, f=family: [_rf(m, f, delay=True), _out(m, 10)], how=_TO_NEXT),
            Case(
                f"{family}.Input",
                "without a neuron",
                lambda m, f=family: [getattr(m.block, f).Input(None, delay_shift=False), _rf(m, f)],
            ),
            Case(
                f"{family}.Flatten",
                "",
                lambda m, f=family: [getattr(m.block, f).Flatten(), _rf(m, f)],
                (2, 3, 2),
            ),
            Case(
                f"{family}.Average",
                "last",
                lambda m, f=family: [_rf(m, f), getattr(m.block, f).Average(5)],
                how="on the host",
            ),
            *[
                Case(f"{family}.{name}", "", lambda m, f=family, n=name: [_rf(m, f, n)], (2, 4, 4), how=_DENSE_ONLY)
                for name in ("Conv", "ConvT", "Pool", "Unpool")
            ],
        )
    ],
    Case(
        "bootstrap.cuba.Dense",
        "",
        lambda m: [
            m.bootstrap.cuba.Dense(CUBA, 12, 10, weight_scale=4),
            m.bootstrap.cuba.Dense(CUBA, 10, 5, weight_scale=4),
        ],
        slow=False,
    ),
    Case(
        "bootstrap.cuba.Conv",
        "MeanOnlyBatchNorm, then Flatten",
        lambda m: [
            m.bootstrap.cuba.Conv({**CUBA, "norm": _mean_only(m)}, 2, 4, 3, weight_scale=4, delay_shift=True),
            m.bootstrap.cuba.Flatten(),
            m.bootstrap.cuba.Dense(CUBA, 120, 5, weight_scale=4),
        ],
        (2, 7, 8),
    ),
    Case(
        "bootstrap.cuba.Flatten",
        "first",
        lambda m: [m.bootstrap.cuba.Flatten(), m.bootstrap.cuba.Dense(CUBA, 24, 5, weight_scale=4)],
        (2, 3, 4),
    ),
    Case(
        "bootstrap.cuba.Input",
        "with a neuron",
        lambda m: [
            m.bootstrap.cuba.Input(CUBA, weight=1.3, bias=0.2),
            m.bootstrap.cuba.Dense(CUBA, 12, 5, weight_scale=4),
        ],
        how="on the host",
    ),
    Case(
        "bootstrap.cuba.Affine",
        "last",
        lambda m: [m.bootstrap.cuba.Dense(CUBA, 12, 10, weight_scale=4), m.bootstrap.cuba.Affine(CUBA, 10, 3)],
        how="on the host",
    ),
    Case("sigma_delta.Input", "", lambda m: _sd_dense(m), how=_DELTAS, slow=False),
    Case(
        "sigma_delta.Input",
        "weight and bias",
        lambda m: [m.block.sigma_delta.Input(dict(SDNN), weight=0.7, bias=-0.3), *_sd_dense(m)[1:]],
        how=_DELTAS,
    ),
    Case("sigma_delta.Dense", "", lambda m: _sd_dense(m)),
    Case("sigma_delta.Dense", "weight_norm", lambda m: _sd_dense(m, weight_norm=True)),
    Case("sigma_delta.Dense", "delay_shift=True", lambda m: _sd_dense(m, delay_shift=True)),
    Case("sigma_delta.Dense", "dropout", lambda m: _sd_dense(m, {"dropout": m.slayer.neuron.Dropout(0.3)})),
    Case("sigma_delta.Dense", "shared_param=False", lambda m: _sd_dense(m, {"shared_param": False})),
    Case("sigma_delta.Dense", "threshold trained to a whole 1/64", lambda m: _sd_with_threshold(m, 5 / 64)),
    Case("sigma_delta.Conv", "", lambda m: _sd_image(m, "Conv", 4 * 5 * 6, 2, 4, 3), (2, 7, 8), slow=False),
    Case(
        "sigma_delta.Conv",
        "stride, padding, dilation, groups",
        lambda m: _sd_image(
            m, "Conv", 4 * 4 * 6, 2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2
        ),
        (2, 7, 8),
    ),
    Case("sigma_delta.Flatten", "", lambda m: _sd(m, m.block.sigma_delta.Flatten(), _sd_out(m, 24)), (2, 3, 4)),
    Case("sigma_delta.Output", "", lambda m: _sd(m, _sd_out(m, 12))),
    Case(
        "sigma_delta.Output",
        "weights that netx would alter",
        lambda m: _sd(m, *_with_weights([_sd_out(m, 12)], -1.0)),
        how="as a convolution",
    ),
    Case("sigma_delta.Pool", "", lambda m: _sd_image(m, "Pool", 2 * 3 * 4, 2), (2, 6, 8), how=_DENSE_ONLY),
    Case("sigma_delta.ConvT", "", lambda m: _sd_image(m, "ConvT", 3 * 6 * 6, 2, 3, 3), (2, 4, 4), how=_DENSE_ONLY),
    Case("sigma_delta.Unpool", "", lambda m: _sd_image(m, "Unpool", 2 * 8 * 8, 2), (2, 4, 4), how=_DENSE_ONLY),
]


def _fixed_scale(m: Any, deviation: float) -> Any:
    norm = _scaled(m)()
    norm.running_var.fill_(deviation**2 * 0.99)
    norm.update = False
    return norm


def _fixed_mean(m: Any, mean: float) -> Any:
    norm = _mean_only(m)()
    norm.running_mean.fill_(mean)
    norm.update = False
    return norm


_BEFORE = "Run the network forward once before you train it and before load_state_dict."
_NO_DELAYS = ("its axonal delays are made at the first forward, and this network never ran one", _BEFORE)
_NO_DECAYS = ("its per-neuron decays are made at the first forward, and this network never ran one", _BEFORE)
_BINARY = "Train with graded_spike=False."
_NORM = "Use norm=None."
_DECIMATION = ("netx has no layer that merges steps", "Merge the steps of the data beforehand.")
_THRESHOLD = "It has to lie between 1 and 4095, beyond which SLAYER or Loihi rounds it or cannot hold it."
_CURRENT = (
    "its norm or number of winners makes a constant current, and netx has only a bias on the voltage",
    "Use current_decay=1, where the two are the same; or no norm, and half of the neurons as winners.",
)
_SD_THRESHOLD = (
    "is not the same whole number of 1/64 for all neurons",
    "Use a threshold between 1/64 and 64 that is not trained.",
)
_UNMADE = "lava-dl cannot make it"


def _refused(block: str, option: str, build: Callable[[Any], Blocks], why: tuple[str, str], **more: Any) -> Case:
    return Case(block, option, build, refused=why[0], instead=why[1], **more)


REFUSED = [
    _refused(
        "cuba.Dense",
        "graded spikes",
        lambda m: _dense(m, {"graded_spike": True}),
        ("netx makes graded CUBA spikes binary", _BINARY),
    ),
    _refused(
        "cuba.Dense",
        "not quantised",
        lambda m: _dense(m, pre_hook_fx=None),
        ("its weights are not quantised or not finite", "Use pre_hook_fx=neuron.quantize_8bit, the default."),
    ),
    _refused(
        "cuba.Dense",
        "threshold of 64 or more",
        lambda m: _dense(m, {"threshold": 64}),
        ("threshold 64.0 has the mantissa 4096", _THRESHOLD),
    ),
    _refused(
        "cuba.Dense",
        "threshold of 0",
        lambda m: _dense(m, {"threshold": 0.001}),
        ("threshold 0.0 has the mantissa 0", _THRESHOLD),
    ),
    _refused(
        "cuba.Dense",
        "current_decay of 0",
        lambda m: _dense(m, {"current_decay": 0}),
        ("current_decay 0 does not fit Loihi's 12-bit register", "Use a current_decay between 1/4096 and 4096/4096."),
    ),
    _refused(
        "cuba.Dense",
        "voltage_decay of 1",
        lambda m: _dense(m, {"voltage_decay": 1}),
        ("voltage_decay 1 does not fit Loihi's 12-bit register", "Use a voltage_decay between 0/4096 and 4095/4096."),
    ),
    _refused(
        "cuba.Dense",
        "WgtScaleBatchNorm, current_decay below 1",
        lambda m: _dense(m, {"norm": lambda: _fixed_scale(m, 0.5)}),
        ("its WgtScaleBatchNorm divides the current by 0.5, netx ignores that", "Use MeanOnlyBatchNorm."),
    ),
    _refused("cuba.Dense", "delay never run", lambda m: _dense(m, delay=True), _NO_DELAYS),
    _refused("cuba.Dense", "per-neuron decays never run", lambda m: _dense(m, {"shared_param": False}), _NO_DECAYS),
    _refused(
        "cuba.Dense",
        "count_log",
        lambda m: _dense(m, count_log=True),
        ("lava-dl itself cannot run count_log=True", "Use count_log=False, and count what the block returns."),
    ),
    _refused(
        "cuba.Input",
        "without a neuron, delay_shift",
        lambda m: [m.block.cuba.Input(None), *_dense(m)],
        ("lava-dl itself cannot run an Input that has no neuron and delays", "Use delay_shift=False."),
    ),
    _refused(
        "cuba.Input",
        "not first",
        lambda m: [*_dense(m), m.block.cuba.Input(None, delay_shift=False)],
        ("an Input makes sense only at the start of a network", "Remove it."),
    ),
    _refused("cuba.KWTA", "other numbers of winners", lambda m: _kwta(m, 2, threshold=8), _CURRENT),
    _refused(
        "cuba.Conv",
        "per-channel decays",
        lambda m: _conv(m, {"shared_param": False}),
        _NO_DECAYS,
        shape=(2, 7, 8),
        how="lava-dl cannot run it on the CPU",
    ),
    _refused(
        "cuba.Conv",
        "delay, then Conv",
        lambda m: _delayed_convs(m),
        (
            "the axonal delay of the block before would have to be made by a convolution, and netx drops it there",
            "Use delay=False in the block before this one.",
        ),
        shape=(2, 7, 8),
    ),
    _refused(
        "cuba.Conv",
        "kernel of more than 127",
        lambda m: [m.block.cuba.Conv(CUBA, 1, 1, (128, 1))],
        ("a kernel size, stride, padding or dilation of 128 overflows Lava's 8-bit variables", "The limit is 127."),
        shape=(1, 129, 1),
    ),
    _refused(
        "cuba.Recurrent",
        "weights that netx would alter: all -1",
        lambda m: _same_recurrent(m, -1.0),
        (
            "would be altered when netx and Lava load them",
            "Keep weights of both signs in recurrent1, between -254 and 254 in steps of 2.",
        ),
    ),
    _refused(
        "cuba.Recurrent",
        "MeanOnlyBatchNorm, current_decay below 1",
        lambda m: _recurrent(m, {"norm": lambda: _fixed_mean(m, 0.5)}),
        _CURRENT,
    ),
    *[
        _refused(f"{family}.TimeDecimation", "", _any_block(family, "TimeDecimation"), _DECIMATION)
        for family in ("cuba", "rf", "rf_iz")
    ],
    *[
        _refused(
            f"{family}.{name}",
            "",
            _any_block(family, name),
            ("netx has no recurrent layer of resonators", f"Use cuba.{name}."),
        )
        for family in ("rf", "rf_iz")
        for name in ("KWTA", "Recurrent")
    ],
    *[
        _refused(f"{family}.Dense", option, lambda m, f=family, n=neuron: [_rf(m, f, neuron=n(m))], why)
        for family in ("rf", "rf_iz")
        for option, neuron, why in (
            ("norm", lambda m: {"norm": _mean_only(m)}, ("its norm MeanOnlyBatchNorm has no bias in netx", _NORM)),
            ("graded spikes", lambda m: {"graded_spike": True}, ("netx makes graded spikes binary", _BINARY)),
        )
    ],
    *[
        _refused(
            f"{family}.Input",
            "with a neuron",
            _any_block(family, "Input"),
            ("only cuba neurons can encode the input", "Use cuba.Input, or give spikes."),
        )
        for family in ("rf", "rf_iz")
    ],
    *[
        _refused(
            f"alif.{name}",
            "",
            _any_block("alif", name),
            ("netx cannot load adaptive thresholds", "Use cuba blocks."),
        )
        for name in _ADAPTIVE
    ],
    *[
        _refused(
            f"{family}.{name}",
            "",
            _any_block(family, name),
            ("netx would load it as resonators without adaptation", f"Use {resonators} blocks."),
        )
        for family, resonators in (("adrf", "rf"), ("adrf_iz", "rf_iz"))
        for name in _ADAPTIVE
        if (family, name) != ("adrf_iz", "ConvT")
    ],
    *[
        Case(f"{family}.{name}", "", _any_block(family, name), raises=text, how=_UNMADE, instead=instead)
        for family, name, text, instead in (
            ("rf", "Affine", "threshold", "Use cuba.Affine."),
            ("rf_iz", "Affine", "threshold", "Use cuba.Affine."),
            ("adrf_iz", "ConvT", "ConvT", "Use rf_iz blocks."),
        )
    ],
    *[
        _refused(
            f"sigma_delta.{name}",
            "without sigma_delta.Input",
            _any_block("sigma_delta", name),
            (
                "netx takes the input of graded changes for spikes unless input neurons make it",
                "Begin the network with a sigma_delta.Input that has neurons.",
            ),
        )
        for name in ("Dense", "Conv", "Output")
    ],
    _refused(
        "sigma_delta.Average",
        "",
        _any_block("sigma_delta", "Average"),
        ("netx has no average of graded changes", "Take the average of what the network gives out."),
    ),
    _refused(
        "cuba.Dense",
        "after sigma_delta.Input",
        lambda m: [m.block.sigma_delta.Input(dict(SDNN)), *_dense(m)],
        ("graded changes are no spikes", "Use sigma_delta blocks only, or none."),
    ),
    *[
        _refused("sigma_delta.Dense", option, build, why)
        for option, build, why in (
            (
                "cum_error",
                lambda m: _sd_dense(m, {"cum_error": True}),
                ("netx ignores cum_error", "Use cum_error=False."),
            ),
            (
                "persistent_state",
                lambda m: _sd_dense(m, {"persistent_state": True}),
                ("start each sample from rest", "Use persistent_state=False"),
            ),
            (
                "another activation",
                lambda m: _sd_dense(m, {"activation": torch.sigmoid}),
                ("its activation is not relu, and netx knows no other", "Use activation=torch.relu."),
            ),
            (
                "another scale",
                lambda m: _sd_dense(m, {"scale": 1 << 7}),
                ("its scale is 128", "Use the default scale of 64."),
            ),
            (
                "norm",
                lambda m: _sd_dense(m, {"norm": _mean_only(m)}),
                ("its norm MeanOnlyBatchNorm has no bias in netx", _NORM),
            ),
            (
                "bias",
                lambda m: _sd_with_bias(m),
                ("its bias is a number of no fixed precision", "Do not call set_bias."),
            ),
            ("delay", lambda m: _sd_dense(m, delay=True), ("it has an axonal delay", "Use delay=False.")),
            ("threshold trained", lambda m: _sd_with_threshold(m, 0.11), _SD_THRESHOLD),
            ("threshold of 0", lambda m: _sd_dense(m, {"threshold": 0.001}), _SD_THRESHOLD),
        )
    ],
]


def _delayed_convs(m: Any) -> Blocks:
    first = _conv(m, delay=True)[0]
    first(torch.rand(1, 2, 7, 8, 5))
    first.delay.delay.data.fill_(3)
    return [first, m.block.cuba.Conv(CUBA, 4, 4, 3)]


def _same_recurrent(m: Any, value: float) -> Blocks:
    block = _recurrent(m)[0]
    for parameter in (block.input_synapse.weight, block.recurrent_synapse.weight):
        parameter.data.fill_(value)
    return [block]


CASES = [*EXACT, *REFUSED]
