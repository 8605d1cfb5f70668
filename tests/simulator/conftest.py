"""Random networks, written to files, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from netx_export import NetworkDescription
from netx_export.file.netx import write_as_described
from netx_export.network.description import CubaNeuron, Dense, Input


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=["torch", "compiled"], scope="module")
def loops(request: pytest.FixtureRequest) -> Iterator[str]:
    """The reference simulator with its inner loops in torch and compiled."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr("netx_export.simulation.reference.loops._compiled", lambda: None)
        else:
            pytest.importorskip("numba")
        yield request.param


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[NetworkDescription], Path]:
    """Write a network to a file of its own."""

    def save(network: NetworkDescription) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.net"
        write_as_described(network, path)
        return path

    return save


@pytest.fixture
def mlp(rng: np.random.Generator) -> NetworkDescription:
    """12-9-5, about a tenth of whose neurons fire at each step on input of a fifth."""

    def dense(inputs: int, outputs: int) -> Dense:
        neuron = CubaNeuron(200, np.array([1024]), np.array([128]))
        return Dense(2 * rng.integers(-60, 90, (outputs, inputs)), neuron)

    return NetworkDescription((Input((12,), False), dense(12, 9), dense(9, 5)))


@pytest.fixture
def mlp_file(mlp: NetworkDescription, saved: Callable[[NetworkDescription], Path]) -> Path:
    return saved(mlp)


@pytest.fixture
def mlp_spikes(rng: np.random.Generator) -> np.ndarray:
    return (rng.random((6, 12, 20)) < 0.2).astype(np.uint8)
