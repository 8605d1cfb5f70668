"""A small network that was really trained, exported once for all tests here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn


@dataclass(frozen=True, eq=False)
class Trained:
    net: nn.Module
    path: Path
    spikes: torch.Tensor
    labels: torch.Tensor


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """64-32-10, one epoch on a part of the digits: far from good, but with spikes in every layer."""
    from lava.lib.dl.slayer.block import cuba

    from netx_export import export
    from netx_export.command.demo import Digits, load_digits, train

    digits = load_digits()
    part = Digits(
        digits.train_spikes[:256], digits.train_labels[:256], digits.test_spikes[:24], digits.test_labels[:24]
    )
    torch.manual_seed(0)
    neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
    net = nn.Sequential(
        cuba.Dense(neuron, 64, 32, weight_norm=True, weight_scale=4),
        cuba.Dense(neuron, 32, 10, weight_norm=True, weight_scale=4),
    )
    train(net, part, epochs=2, device=torch.device("cpu"))
    path = tmp_path_factory.mktemp("trained") / "digits.net"
    export(net, path, sample=part.test_spikes[:8], budget=0.08)
    return Trained(net, path, part.test_spikes, part.test_labels)
