"""Small SLAYER networks of each kind with their files, and ways to spoil a file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
RESONATOR = {"threshold": 1.0, "period": 7, "decay": 0.05}


@dataclass(frozen=True, eq=False)
class Exported:
    """A network, its file, and data on which every layer spikes."""

    net: nn.Module
    path: Path
    spikes: torch.Tensor
    labels: torch.Tensor

    def spoiled(self, path: Path, change: Callable[[Any], None]) -> Path:
        """A copy of the file in which something was changed."""
        shutil.copy(self.path, path)
        with h5py.File(path, "r+") as file:
            change(file)
        return path


def build(kind: str) -> tuple[nn.Module, tuple[int, ...]]:
    from lava.lib.dl.slayer.block import cuba, rf, rf_iz

    dense = partial(cuba.Dense, NEURON, weight_scale=3)
    conv = partial(cuba.Conv, NEURON, weight_scale=4)
    networks: dict[str, Callable[[], list[Any]]] = {
        "mlp": lambda: [dense(12, 16), dense(16, 12), dense(12, 5)],
        "delayed": lambda: [dense(12, 14, delay=True), dense(14, 5)],
        "conv": lambda: [conv(2, 4, 3, padding=1), conv(4, 3, 3, stride=2), cuba.Flatten(), dense(27, 5)],
        "recurrent": lambda: [cuba.Recurrent(dict(NEURON), 12, 10, weight_scale=3), dense(10, 5)],
        "readout": lambda: [dense(12, 14), cuba.Affine(NEURON, 14, 5, weight_scale=3)],
        "unshifted": lambda: [dense(12, 14, delay_shift=False), dense(14, 5, delay=True, delay_shift=False)],
        "resonator": lambda: [dense(12, 14), rf.Dense(RESONATOR, 14, 5, weight_scale=4)],
        "izhikevich": lambda: [dense(12, 14), rf_iz.Dense(RESONATOR, 14, 5, weight_scale=4)],
        "biased": lambda: [cuba.Dense({**NEURON, "norm": _mean_only()}, 12, 14, weight_scale=3), dense(14, 5)],
    }
    torch.manual_seed(3)
    return nn.Sequential(*networks[kind]()), (2, 8, 8) if kind == "conv" else (12,)


def _mean_only() -> Any:
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    return MeanOnlyBatchNorm


def export_kind(kind: str, directory: Path) -> Exported:
    from netx_export import export

    net, shape = build(kind)
    spikes = (torch.rand(16, *shape, 24, generator=torch.Generator().manual_seed(7)) < 0.3).float()
    with torch.no_grad():
        for _ in range(3):  # makes the delays, and lets the norm learn its mean
            net(spikes)
    for module in net.modules():
        if isinstance(getattr(module, "delay", None), nn.Parameter):
            module.delay.data = torch.arange(module.delay.numel()).float() % 5
    net.eval()
    path = directory / f"{kind}.net"
    export(net, path, sample=spikes[:4], budget=0.5)
    return Exported(net, path, spikes, torch.arange(16) % 5)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    directory = tmp_path_factory.mktemp("exported")
    made: dict[str, Exported] = {}

    def of_kind(kind: str) -> Exported:
        if kind not in made:
            made[kind] = export_kind(kind, directory)
        return made[kind]

    return of_kind


@pytest.fixture(scope="session")
def mlp(exported: Callable[[str], Exported]) -> Exported:
    return exported("mlp")


@pytest.fixture(scope="session")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A sigma-delta network with values for it."""
    from lava.lib.dl.slayer.block import sigma_delta

    from lava_spikeloss import LoihiBudget
    from netx_export import export

    torch.manual_seed(0)
    neuron = {"threshold": 0.1, "activation": torch.relu}
    net = torch.nn.Sequential(
        sigma_delta.Input(dict(neuron)),
        sigma_delta.Dense(dict(neuron), 12, 10, weight_scale=4),
        sigma_delta.Output(dict(neuron), 10, 5, weight_scale=2),
    )
    values = torch.randn(16, 12, 24).cumsum(-1) / 4
    path = tmp_path_factory.mktemp("graded") / "graded.net"
    export(net, path, sample=values[:4], budget=LoihiBudget(synops=900, events_per_step=5))
    return Exported(net, path, values, torch.arange(16) % 5)


def small_network(readout: Any = None, outputs: int = 3) -> Any:
    """A file's network without SLAYER, 4-6-3 neurons, and what is read out of them, if anything."""
    from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription

    neuron = CubaNeuron(200, np.array([1024]), np.array([128]))
    draw = np.random.default_rng(0)
    layers = [Dense(draw.integers(-20, 40, shape) * 2, neuron) for shape in ((6, 4), (outputs, 6))]
    return NetworkDescription((Input((4,), delay_shift=False), *layers, *([] if readout is None else [readout])))


@dataclass(frozen=True, eq=False)
class Recorded:
    """A file, input for it, and what the reference simulator makes of it."""

    path: Path
    spikes: Any
    run: dict[str, Any]

    def changed(self, **changes: Any) -> dict[str, Any]:
        """The recording with other arrays; None leaves one out."""
        run = {name: array.copy() for name, array in self.run.items()} | changes
        return {name: array for name, array in run.items() if array is not None}


def record(description: Any, path: Path, samples: int = 12) -> Recorded:
    from netx_export import simulate
    from netx_export.file.netx import write

    write(description, path)
    spikes = (np.random.default_rng(1).random((samples, 4, 20)) < 0.5).astype(np.uint8)
    simulation = simulate(path, spikes)
    return Recorded(path, spikes, {**simulation.layers, "output": simulation.output})


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Recorded]:
    """A small network with a readout, or none, and as many outputs as it is told."""
    return lambda readout=None, outputs=3: record(small_network(readout, outputs), tmp_path / "small.net")


@pytest.fixture
def plain(small: Callable[..., Recorded]) -> Recorded:
    """Its output is what its last layer, dense2, spikes."""
    return small()


@pytest.fixture
def with_readout(small: Callable[..., Recorded]) -> Recorded:
    """Its output is read out of dense2 on the host."""
    from netx_export.network.description import Affine

    return small(Affine(np.array([[64, -64, 32], [32, 64, 16]]), None))
