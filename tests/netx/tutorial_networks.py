"""lava-dl's own tutorial networks, written as its notebooks write them: the same blocks, the same forwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

slayer: Any = pytest.importorskip("lava.lib.dl.slayer", reason="lava-dl's networks are made of its blocks")
bootstrap: Any = pytest.importorskip("lava.lib.dl.bootstrap")


class Oxford(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        neuron = {"threshold": 0.1, "current_decay": 1, "voltage_decay": 0.1, "requires_grad": True}
        self.blocks = nn.ModuleList(
            [slayer.block.cuba.Dense(neuron, 200, 256), slayer.block.cuba.Dense(neuron, 256, 200)]
        )

    def forward(self, spike: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            spike = block(spike)
        return spike


class NMNIST(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        neuron = {
            "threshold": 1.25,
            "current_decay": 0.25,
            "voltage_decay": 0.03,
            "tau_grad": 0.03,
            "scale_grad": 3,
            "requires_grad": True,
        }
        dropping = {**neuron, "dropout": slayer.neuron.Dropout(p=0.05)}
        dense = slayer.block.cuba.Dense
        self.blocks = nn.ModuleList(
            [
                dense(dropping, 34 * 34 * 2, 512, weight_norm=True, delay=True),
                dense(dropping, 512, 512, weight_norm=True, delay=True),
                dense(neuron, 512, 10, weight_norm=True),
            ]
        )

    def forward(self, spike: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            spike = block(spike)
        return spike


class XOR(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        neuron = {
            "threshold": 0.1,
            "current_decay": 0.9,
            "voltage_decay": 0.9,
            "tau_grad": 1,
            "scale_grad": 1,
            "scale": 1 << 6,
            "norm": None,
            "dropout": None,
            "shared_param": True,
            "persistent_state": False,
            "requires_grad": False,
            "graded_spike": False,
        }
        cuba = slayer.block.cuba
        self.blocks = nn.ModuleList(
            [
                cuba.Input(neuron_params=neuron, count_log=False),
                cuba.Dense(neuron_params=neuron, in_neurons=2, out_neurons=32, count_log=False),
                cuba.Dense(neuron_params=neuron, in_neurons=32, out_neurons=32, count_log=False),
                cuba.Affine(neuron_params=neuron, in_neurons=32, out_neurons=1, dynamics=False, count_log=False),
            ]
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = []
        for block in self.blocks:
            x = block(x)
            count.append(torch.mean(x).item())
        return x, torch.as_tensor(count)


class BootstrapMNIST(nn.Module):
    def __init__(self, time_steps: int = 16) -> None:
        super().__init__()
        self.time_steps = time_steps
        neuron = {"threshold": 1.25, "current_decay": 1, "voltage_decay": 0.03, "tau_grad": 1, "scale_grad": 1}
        cuba, dense = bootstrap.block.cuba, {"weight_norm": True, "weight_scale": 2}
        self.blocks = nn.ModuleList(
            [
                cuba.Input(neuron, weight=1, bias=0),
                cuba.Dense(neuron, 28 * 28, 512, **dense),
                cuba.Dense(neuron, 512, 512, **dense),
                cuba.Affine(neuron, 512, 10, **dense),
            ]
        )

    def forward(self, x: torch.Tensor, mode: Any) -> torch.Tensor:
        samples, channels, height, width = x.shape
        if mode.base_mode == bootstrap.Mode.ANN:
            x = x.reshape([samples, channels, height, width, 1])
        else:
            x = slayer.utils.time.replicate(x, self.time_steps)
        x = x.reshape(samples, -1, x.shape[-1])
        for block, own in zip(self.blocks, mode):  # noqa: B905  # the mode goes on for ever
            x = block(x, mode=own)
        return x


def event_rate_loss(x: torch.Tensor, max_rate: float = 0.01) -> torch.Tensor:
    mean_event_rate = torch.mean(torch.abs(x))
    return functional.mse_loss(functional.relu(mean_event_rate - max_rate), torch.zeros_like(mean_event_rate))


class PilotNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        neuron = {
            "threshold": 0.1,
            "tau_grad": 0.5,
            "scale_grad": 1,
            "requires_grad": True,
            "shared_param": True,
            "activation": functional.relu,
        }
        conv = {**neuron, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
        dense = {**conv, "dropout": slayer.neuron.Dropout(p=0.2)}
        block, options = slayer.block.sigma_delta, {"weight_scale": 2, "weight_norm": True}
        self.blocks = nn.ModuleList(
            [
                block.Input(neuron),
                block.Conv(conv, 3, 24, 3, padding=0, stride=2, **options),
                block.Conv(conv, 24, 36, 3, padding=0, stride=2, **options),
                block.Conv(conv, 36, 64, 3, padding=(1, 0), stride=(2, 1), **options),
                block.Conv(conv, 64, 64, 3, padding=0, stride=1, **options),
                block.Flatten(),
                block.Dense(dense, 64 * 40, 100, **options),
                block.Dense(dense, 100, 50, **options),
                block.Dense(dense, 50, 10, **options),
                block.Output(dense, 10, 1, **options),
            ]
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, Any, torch.Tensor]:
        count, event_cost = [], 0.0
        for block in self.blocks:
            x = block(x)
            if hasattr(block, "neuron"):
                event_cost += event_rate_loss(x)
                count.append(torch.sum(torch.abs((x[..., 1:]) > 0).to(x.dtype)).item())
        return x, event_cost, torch.FloatTensor(count).reshape((1, -1)).to(x.device)


def yolo_kp() -> nn.Module:
    from lava.lib.dl.slayer.object_detection.models import yolo_kp

    net: nn.Module = yolo_kp.Network()
    return net


def inputs(name: str) -> torch.Tensor:
    """What the network takes, made up."""
    torch.manual_seed(5)
    if name == "Oxford":
        return (torch.rand(1, 200, 100) < 0.05).float()
    if name == "NMNIST":
        return (torch.rand(2, 34 * 34 * 2, 30) < 0.05).float()
    if name == "XOR":
        return torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])[..., None].repeat(1, 1, 32)
    if name == "BootstrapMNIST":
        return torch.rand(4, 1, 28, 28) * 2 - 1
    return (torch.randn(1, 3, *((33, 100) if name == "PilotNet" else (32, 32)), 4).cumsum(-1) / 8).sigmoid()
