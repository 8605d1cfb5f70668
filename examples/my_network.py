"""Makes the network of first.py, and nothing else: for `--model my_network:make_network`."""

import torch
from lava.lib.dl.slayer.block import cuba


def make_network():
    neuron = {"threshold": 1.25, "current_decay": 1.0, "voltage_decay": 0.1, "scale_grad": 3.0}
    return torch.nn.Sequential(
        cuba.Dense(neuron, 64, 64, weight_norm=True, weight_scale=2),
        cuba.Dense(neuron, 64, 10, weight_norm=True, weight_scale=2),
    )
