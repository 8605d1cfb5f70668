"""The compiled loops against those in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netx_export import NetworkDescription, reference
from netx_export.description import CubaNeuron, Input, Recurrent
from netx_export.reference.synapses import recurrent_sums

pytest.importorskip("numba")


def _recurrent(rng: np.random.Generator, scale: int) -> NetworkDescription:
    weight, recurrent = rng.integers(-scale, 2 * scale, (9, 12)), rng.integers(-scale, scale, (9, 9))
    threshold = int(rng.integers(1, min(40 * scale, 2**17)))
    neuron = CubaNeuron(threshold, rng.integers(0, 4097, 9), rng.integers(0, 4097, 9))
    layer = Recurrent(weight, recurrent, neuron, bias=rng.integers(-99, 99, 9))
    return NetworkDescription((Input((12,), False), layer))


@pytest.mark.parametrize("scale", [1, 3, 60, 2**20])
@pytest.mark.parametrize("seed", range(10))
def test_compiled_loops_give_what_torch_gives(seed, scale, monkeypatch):
    """Also where currents wrap and voltages saturate."""
    rng = np.random.default_rng(seed)
    _assert_same_in_torch(_recurrent(rng, scale), rng, monkeypatch)


def test_compiled_recurrence_rounds_as_torch_does(rng, monkeypatch):
    """Lava clips -256, to which the loader shifts -1, to -255, and its shift back down rounds the sums."""
    neuron = CubaNeuron(60, np.array([1024]), np.array([512]))
    layer = Recurrent(-rng.integers(0, 2, (9, 12)), -rng.integers(0, 2, (9, 9)), neuron, bias=np.full(9, 20))
    assert recurrent_sums(layer, torch.device("cpu")).exponent < 0
    assert _assert_same_in_torch(NetworkDescription((Input((12,), False), layer)), rng, monkeypatch).any()


def _assert_same_in_torch(network, rng, monkeypatch):
    spikes = torch.from_numpy((rng.random((3, 12, 40)) < 0.2).astype(np.uint8))
    compiled = reference.run(network, spikes)["recurrent1"]
    monkeypatch.setattr("netx_export.reference.loops._compiled", lambda: None)
    assert torch.equal(reference.run(network, spikes)["recurrent1"], compiled)
    return compiled
