"""The small networks of the support table, in lava-dl's blocks. Only building one needs Lava, not importing this."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

Blocks = list[Any]
CUBA = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
RF = {"threshold": 1.0, "period": 7, "decay": 0.05}
SDNN = {"threshold": 0.1, "activation": torch.relu}
PER_NEURON = {"shared_param": False, "current_decay": (0.1, 0.9), "voltage_decay": (0.01, 0.5)}
ALIF = {**CUBA, "threshold_step": 0.5, "threshold_decay": 0.1, "refractory_decay": 0.1}
ADRF = {**RF, "threshold_step": 0.5, "threshold_decay": 0.1, "refractory_decay": 0.1}


class Chain(nn.Module):
    """Blocks one after the other, as in lava-dl's tutorials."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def block(name: str) -> Any:
    """The class of a block by its name in the table, as in ``cuba.Dense`` or ``bootstrap.cuba.Dense``."""
    from lava.lib.dl import bootstrap, slayer

    family, _, kind = name.rpartition(".")
    if family == "bootstrap.cuba":
        return getattr(bootstrap.block.cuba, kind)
    return getattr(getattr(slayer.block, family), kind)


# Parts of blocks.


def mean_norm(mean: float | None = None) -> Any:
    """SLAYER's MeanOnlyBatchNorm: the class, whose mean is learnt, or one with a fixed mean."""
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    if mean is None:
        return MeanOnlyBatchNorm
    norm = MeanOnlyBatchNorm()
    norm.running_mean.fill_(mean)
    norm.update = False
    return norm


def scale_norm(deviation: float) -> Any:
    """SLAYER's WgtScaleBatchNorm with a fixed deviation."""
    from lava.lib.dl.slayer.neuron.norm import WgtScaleBatchNorm

    norm = WgtScaleBatchNorm()
    norm.running_var.fill_(deviation**2 * 0.99)
    norm.update = False
    return norm


def dropout() -> Any:
    """SLAYER's dropout, which does nothing outside of training."""
    from lava.lib.dl.slayer.neuron import Dropout

    return Dropout(0.3)


def random_mask(outputs: int, inputs: int, share: float = 0.5) -> torch.Tensor:
    """A mask that keeps about this share of the weights."""
    return torch.rand(outputs, inputs) < share


def scaled(**neuron: Any) -> dict[str, Any]:
    """CUBA neurons with a norm that divides their current by a half."""
    return {"norm": lambda: scale_norm(0.5), **neuron}


def with_equal_weights(value: float, blocks: Blocks) -> Blocks:
    """The same blocks; each weight of the last one has this value."""
    for parameter in blocks[-1].synapse.parameters():
        parameter.data.fill_(value)
    return blocks


# Networks of CUBA neurons.


def out(inputs: int, **options: Any) -> Any:
    """The last block of most networks."""
    return block("cuba.Dense")(CUBA, inputs, 5, weight_scale=4, **options)


def hidden(neuron: dict[str, Any] | None = None, **options: Any) -> Any:
    """A dense block of ten neurons behind twelve inputs."""
    return block("cuba.Dense")({**CUBA, **(neuron or {})}, 12, 10, weight_scale=4, **options)


def dense(neuron: dict[str, Any] | None = None, **options: Any) -> Blocks:
    """A dense block with options, then another one."""
    return [hidden(neuron, **options), out(10)]


def equal_weights(value: float) -> Blocks:
    """Two dense blocks; each weight of the second has this value."""
    return with_equal_weights(value, dense())


def dense_on_images() -> Blocks:
    """A dense block that takes images as they are, then another one."""
    return [block("cuba.Dense")(CUBA, (5, 3, 2), 10, weight_scale=4), out(10)]


def dense_with_four_norms() -> Blocks:
    """Four blocks, each with its own norm of a fixed mean."""
    return [
        block("cuba.Dense")(
            {**CUBA, "norm": lambda mean=mean: mean_norm(mean)}, 12, 12, weight_scale=4, delay_shift=shift
        )
        for mean, shift in ((-1.5, True), (-0.5, False), (0.25, True), (-0.25, True))
    ]


def norms_behind_delays() -> Blocks:
    """Two blocks with a norm and a delay, then one more."""
    second = {**CUBA, "norm": lambda: mean_norm(-0.5)}
    first = hidden({"norm": mean_norm()}, delay=True)
    return [first, block("cuba.Dense")(second, 10, 10, weight_scale=4, delay=True), out(10)]


def conv(neuron: dict[str, Any] | None = None, kernel: Any = 3, size: int = 0, **options: Any) -> Blocks:
    """A convolution; with the number of its neurons, a dense block behind it."""
    first = block("cuba.Conv")({**CUBA, **(neuron or {})}, 2, 4, kernel, weight_scale=4, **options)
    return [first, block("cuba.Flatten")(), out(size)] if size else [first]


def conv_with_options() -> Blocks:
    """A convolution with an unusual value for every option."""
    return conv(kernel=(3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=2, size=4 * 7 * 5)


def conv_in_groups(groups: int) -> Blocks:
    """A convolution of one channel in each of its groups."""
    return [block("cuba.Conv")(CUBA, groups, groups, 1, groups=groups, weight_scale=9)]


def delayed_convs() -> Blocks:
    """A convolution with a delay of three steps, then another convolution."""
    first = conv(delay=True)[0]
    first(torch.rand(1, 2, 7, 8, 5))
    first.delay.delay.data.fill_(3)
    return [first, block("cuba.Conv")(CUBA, 4, 4, 3)]


def conv_transposed() -> Blocks:
    """A transposed convolution, then a dense block."""
    first = block("cuba.ConvT")(CUBA, 2, 3, 3, stride=2, weight_scale=4)
    return [first, block("cuba.Flatten")(), out(3 * 7 * 5)]


def pool(kernel: Any, size: int, **options: Any) -> Blocks:
    """Pooling to a number of neurons, then a dense block."""
    return [block("cuba.Pool")(dict(CUBA), kernel, weight_scale=2, **options), block("cuba.Flatten")(), out(size)]


def unpool_then_conv() -> Blocks:
    """Unpooling, then a convolution and a dense block."""
    return [block("cuba.Unpool")(dict(CUBA), 2, weight_scale=2), *conv(size=4 * 2 * 4)]


def recurrent(neuron: dict[str, Any] | None = None, **options: Any) -> Blocks:
    """A recurrent block, then a dense one."""
    return [block("cuba.Recurrent")({**CUBA, **(neuron or {})}, 12, 10, weight_scale=4, **options), out(10)]


def recurrent_with_equal_weights(value: float) -> Blocks:
    """A recurrent block by itself; each of its weights has this value."""
    only = recurrent()[0]
    for parameter in (only.input_synapse.weight, only.recurrent_synapse.weight):
        parameter.data.fill_(value)
    return [only]


def winners(number: int, **neuron: Any) -> Blocks:
    """A block in which so many of ten neurons win, then a dense one."""
    return [block("cuba.KWTA")({**CUBA, **neuron}, 12, 10, number, weight_scale=4), out(10)]


def affine_with_options() -> Blocks:
    """A dense block, then an Affine with an unusual value for every option."""
    options = {"dynamics": False, "weight_norm": True, "mask": random_mask(3, 10)}
    return [hidden(), block("cuba.Affine")(CUBA, 10, 3, **options)]


def bootstrap_input() -> Blocks:
    """Bootstrap's Input with neurons, then a dense block."""
    return [block("bootstrap.cuba.Input")(CUBA, weight=1.3, bias=0.2), bootstrap_dense(12, 5)]


def bootstrap_conv() -> Blocks:
    """Bootstrap's convolution with a norm, then Flatten and a dense block."""
    neuron = {**CUBA, "norm": mean_norm()}
    return [
        block("bootstrap.cuba.Conv")(neuron, 2, 4, 3, weight_scale=4, delay_shift=True),
        block("bootstrap.cuba.Flatten")(),
        bootstrap_dense(120, 5),
    ]


def bootstrap_dense(inputs: int, outputs: int) -> Any:
    """One of bootstrap's dense blocks."""
    return block("bootstrap.cuba.Dense")(CUBA, inputs, outputs, weight_scale=4)


# Networks of resonators, and of sigma-delta neurons.

_SIZES: dict[str, tuple[Any, ...]] = {
    "Dense": (12, 10),
    "Conv": (2, 3, 3),
    "ConvT": (2, 3, 3),
    "Pool": (2,),
    "Unpool": (2,),
}


def resonators(name: str, neuron: dict[str, Any] | None = None, **options: Any) -> Any:
    """A block of resonators."""
    arguments = _SIZES[name.rpartition(".")[2]]
    return block(name)({**RF, **(neuron or {})}, *arguments, weight_scale=4, **options)


def resonators_with_periods(name: str) -> Blocks:
    """Resonators, each with its own period, and a mask, then a dense block."""
    first = resonators(name, {"shared_param": False, "period": (5, 30)}, mask=random_mask(10, 12, 0.7))
    return [first, out(10)]


def deltas(*blocks: Any) -> Blocks:
    """Sigma-delta blocks behind an Input that has neurons."""
    return [block("sigma_delta.Input")(dict(SDNN)), *blocks]


def delta_out(inputs: int) -> Any:
    """The last block of sigma-delta networks."""
    return block("sigma_delta.Output")(dict(SDNN), inputs, 5, weight_scale=2)


def delta_dense(neuron: dict[str, Any] | None = None, **options: Any) -> Blocks:
    """A dense sigma-delta block with options, between Input and Output."""
    first = block("sigma_delta.Dense")({**SDNN, **(neuron or {})}, 12, 10, weight_scale=4, **options)
    return deltas(first, delta_out(10))


def delayed_deltas() -> Blocks:
    """Dense sigma-delta blocks with a norm and a delay each, the last one too."""
    neuron = {**SDNN, "norm": mean_norm()}
    return deltas(
        block("sigma_delta.Dense")(neuron, 12, 10, weight_scale=4, delay=True, delay_shift=True),
        block("sigma_delta.Dense")(neuron, 10, 8, weight_scale=4, delay=True),
        block("sigma_delta.Dense")(neuron, 8, 5, weight_scale=4, delay=True),
    )


def delayed_delta_convs() -> Blocks:
    """A sigma-delta convolution with a delay of three steps, then another convolution."""
    first = block("sigma_delta.Conv")(SDNN, 2, 4, 3, weight_scale=2, delay=True)
    first(torch.rand(1, 2, 7, 8, 5))
    first.delay.delay.data.fill_(3)
    return deltas(first, block("sigma_delta.Conv")(SDNN, 4, 4, 3))


def delta_dense_behind(**options: Any) -> Blocks:
    """A dense sigma-delta block behind an Input with options."""
    return [block("sigma_delta.Input")(dict(SDNN), **options), *delta_dense()[1:]]


def delta_conv_with_options() -> Blocks:
    """A sigma-delta convolution with an unusual value for every option."""
    options = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    return delta_image("sigma_delta.Conv", 4 * 4 * 6, 2, 4, (3, 2), **options)


def delta_image(name: str, size: int, *arguments: Any, neuron: dict[str, Any] | None = None, **options: Any) -> Blocks:
    """A sigma-delta block for images with a number of neurons, between Input and Output."""
    layer = block(name)({**SDNN, **(neuron or {})}, *arguments, weight_scale=2, **options)
    return deltas(layer, block("sigma_delta.Flatten")(), delta_out(size))


def normed_delta_image(name: str, size: int, *arguments: Any, **options: Any) -> Blocks:
    """As :func:`delta_image`, with a norm that has its own mean for each channel."""
    return delta_image(name, size, *arguments, neuron={"norm": mean_norm()}, **options)


def deltas_with_norms() -> Blocks:
    """Sigma-delta blocks as PilotNet has them, each with a norm, in blocks that delay their output and that do not."""
    neuron = {**SDNN, "norm": mean_norm()}
    return [
        block("sigma_delta.Input")(neuron),
        block("sigma_delta.Conv")(neuron, 2, 4, 3, weight_scale=2, weight_norm=True),
        block("sigma_delta.Conv")(neuron, 4, 3, 3, stride=2, weight_scale=2, delay_shift=True),
        block("sigma_delta.Flatten")(),
        block("sigma_delta.Dense")(neuron, 3 * 2 * 2, 10, weight_scale=2, delay_shift=True),
        block("sigma_delta.Dense")(neuron, 10, 10, weight_scale=2),
        block("sigma_delta.Output")(neuron, 10, 5, weight_scale=2),
    ]


def head(name: str, *arguments: Any, **options: Any) -> Blocks:
    """A head as lava-dl's YOLO networks have it: a synapse of this name, and a Sigma."""
    from lava.lib.dl import slayer

    options = {"pre_hook_fx": slayer.utils.quantize_hook_fx, "weight_scale": 2, **options}
    return [getattr(slayer.synapse, name)(*arguments, **options), slayer.dendrite.Sigma()]


def deltas_with_head() -> Blocks:
    """The blocks of a small YOLO-KP."""
    neuron = {**SDNN, "norm": mean_norm()}
    first = block("sigma_delta.Conv")(neuron, 2, 4, 3, weight_scale=2, weight_norm=True)
    return deltas(first, *head("Conv", 4, 5, 2, stride=(2, 1), padding=1))


def delta_dense_with_bias(*values: float) -> Blocks:
    """A dense sigma-delta block with a norm whose bias was set: the values by turns."""
    blocks = delta_dense({"norm": mean_norm()})
    blocks[1].neuron.set_bias(torch.tensor(values).repeat(10)[:10])
    return blocks


def delta_conv_with_bias(bias: torch.Tensor) -> Blocks:
    """A sigma-delta convolution whose bias was set."""
    blocks = delta_image("sigma_delta.Conv", 4 * 5 * 6, 2, 4, 3)
    blocks[1].neuron.set_bias(bias)
    return blocks


def delta_dense_with_threshold(value: float) -> Blocks:
    """A dense sigma-delta block whose threshold was trained to a value."""
    blocks = delta_dense({"requires_grad": True})
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
_NEURONS = {"sigma_delta": SDNN, "alif": ALIF, "adrf": ADRF, "adrf_iz": ADRF, "rf": RF, "rf_iz": RF}


def alone(name: str) -> Blocks:
    """A block without options by itself; one that has no neurons behind a dense block."""
    family, _, kind = name.partition(".")
    if kind in ("Flatten", "Average", "TimeDecimation"):
        arguments = () if kind == "Flatten" else (4,)
        return [block("cuba.Dense")(CUBA, 12, 8), block(name)(*arguments)]
    return [block(name)(dict(_NEURONS[family]), *_ARGUMENTS[kind])]
