"""Small SLAYER networks that spike: one of every kind of block and neuron."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

CUBA = {"threshold": 1.0, "current_decay": 0.3, "voltage_decay": 0.1}
SLOW = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}  # as in lava-dl's tutorials
ADAPTIVE = {"threshold_step": 0.25, "threshold_decay": 0.1, "refractory_decay": 0.1}
RESONATOR = {"threshold": 0.5, "period": 8, "decay": 0.1}
SIGMA_DELTA = {"threshold": 0.2, "activation": torch.nn.functional.relu}


def _slayer() -> Any:
    import lava.lib.dl.slayer as slayer

    return slayer


def chain(*sizes: int, family: str = "cuba", params: dict[str, Any] = CUBA, **options: Any) -> torch.nn.Sequential:
    """Fully connected blocks, from ``sizes[0]`` inputs to ``sizes[-1]`` outputs."""
    block = getattr(_slayer().block, family)
    return torch.nn.Sequential(
        *(block.Dense(dict(params), inputs, outputs, **options) for inputs, outputs in itertools.pairwise(sizes))
    )


def dense(**options: Any) -> torch.nn.Module:
    return chain(8, 16, 6, weight_scale=4, **options)


def delayed() -> torch.nn.Module:
    net = dense(delay=True, weight_norm=True)
    with torch.no_grad():
        net(torch.zeros(1, 8, 4))  # SLAYER draws the delays at the first forward
        for block in net:
            block.delay.delay.data = torch.linspace(0, 7.5, len(block.delay.delay))  # longer than a chunk
    return net


def normed(norm: str) -> torch.nn.Module:
    net = chain(8, 16, 6, params={**CUBA, "norm": getattr(_slayer().neuron.norm, norm)}, weight_scale=4)
    net(torch.rand(4, 8, 20).round())  # training mode: running statistics
    return net.eval()


def recurrent(**options: Any) -> torch.nn.Module:
    block = _slayer().block.cuba
    return torch.nn.Sequential(
        block.Dense(dict(CUBA), 8, 16, weight_scale=4),
        block.Recurrent(dict(CUBA), 16, 12, weight_scale=4, **options),
        block.Dense(dict(CUBA), 12, 6, weight_scale=4),
    )


def recurrent_delayed() -> torch.nn.Module:
    net = recurrent(delay=True)
    with torch.no_grad():
        net(torch.zeros(1, 8, 4))
        net[1].delay.delay.data = torch.linspace(0, 5, 12)
    return net


def kwta() -> torch.nn.Module:
    block = _slayer().block.cuba
    return torch.nn.Sequential(
        block.Dense(dict(CUBA), 8, 16, weight_scale=4),
        block.KWTA(dict(CUBA), 16, 6, num_winners=3, weight_scale=4),
    )


def conv() -> torch.nn.Module:
    block = _slayer().block.cuba
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (2, 2, 2)),
        block.Conv(dict(CUBA), 2, 4, 2, padding=1, weight_scale=4),
        block.Pool(dict(CUBA), 3, weight_scale=1),
        block.ConvT(dict(CUBA), 4, 4, 2, weight_scale=4),
        block.Unpool(dict(CUBA), 2, weight_scale=2),
        block.Flatten(),
        block.Dense(dict(CUBA), 64, 6, weight_scale=4),
    )


def affine() -> torch.nn.Module:
    slayer = _slayer()
    params = {**CUBA, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    net = torch.nn.Sequential(
        slayer.block.cuba.Input({**CUBA, "threshold": 0.5}, weight=1.0, bias=0.1),
        slayer.block.cuba.Affine(params, 8, 6, weight_scale=4),
    )
    net(torch.rand(4, 8, 20).round())
    return net.eval()


def alif() -> torch.nn.Module:
    return chain(8, 16, 6, family="alif", params={**CUBA, **ADAPTIVE}, weight_scale=6)


def resonator(kind: str, **extra: Any) -> torch.nn.Module:
    return chain(8, 16, 6, family=kind, params={**RESONATOR, **extra}, weight_scale=6)


def sigma_delta() -> torch.nn.Module:
    block = _slayer().block.sigma_delta
    return torch.nn.Sequential(
        block.Dense(dict(SIGMA_DELTA), 8, 16),
        block.Dense(dict(SIGMA_DELTA), 16, 6, delay_shift=True),
        block.Output(dict(SIGMA_DELTA), 6, 6),
    )


NETS: dict[str, Callable[[], torch.nn.Module]] = {
    "dense": dense,
    "delayed": delayed,
    "mean-only norm": lambda: normed("MeanOnlyBatchNorm"),
    "weight-scale norm": lambda: normed("WgtScaleBatchNorm"),
    "recurrent": recurrent,
    "recurrent delayed": recurrent_delayed,
    "kwta": kwta,
    "conv": conv,
    "affine": affine,
    "alif": alif,
    "rf": lambda: resonator("rf"),
    "rf_iz": lambda: resonator("rf_iz"),
    "adrf": lambda: resonator("adrf", **ADAPTIVE),
    "sigma-delta": sigma_delta,
}
