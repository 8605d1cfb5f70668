"""``check`` finds everything at once, and each limit at its very edge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from netx_export import check, simulate
from netx_export.check import Finding, estimate
from netx_export.description import (
    Conv,
    CubaNeuron,
    Dense,
    Flatten,
    Input,
    NetworkDescription,
    Recurrent,
    SigmaDeltaNeuron,
)
from netx_export.hdf5 import content_hash, write
from netx_export.limits import LIMITS, Limit

NEURON = CubaNeuron(80, np.array([1024]), np.array([1024]))
DENSE = Dense(np.array([[2, -4, 6], [8, 10, -12]]), NEURON)


def _network(*layers: Any) -> NetworkDescription:
    return NetworkDescription((Input((3,)), *layers))


def _rules(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings]


@pytest.mark.parametrize("target", ["loihi1", "loihi2"])
def test_nothing_to_find(target: str) -> None:
    assert check(_network(DENSE), target) == []


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        ("threshold", {"threshold": 131071}, {"threshold": 131072}),
        ("threshold", {"threshold": 1}, {"threshold": 0}),
        ("current decay", {"current_decay": np.array([1, 4096])}, {"current_decay": np.array([0, 4096])}),
        ("current decay", {"current_decay": np.array([4096])}, {"current_decay": np.array([4097])}),
        ("voltage decay", {"voltage_decay": np.array([1, 4095])}, {"voltage_decay": np.array([1, 4096])}),
        ("voltage decay", {"voltage_decay": np.array([1])}, {"voltage_decay": np.array([-1])}),
    ],
)
def test_neurons_at_the_limit(rule: str, inside: dict[str, Any], outside: dict[str, Any]) -> None:
    assert rule not in _rules(check(_network(replace(DENSE, neuron=replace(NEURON, **inside)))))
    found = check(_network(replace(DENSE, neuron=replace(NEURON, **outside))))
    assert [(finding.level, finding.layer) for finding in found if finding.rule == rule] == [("error", "dense1")]


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        ("delay", {"delay": np.array([0, 62])}, {"delay": np.array([0, 63])}),
        ("bias", {"bias": np.array([-4096, 4095])}, {"bias": np.array([-4097, 4095])}),
        ("bias", {"bias": np.array([-4096, 4095])}, {"bias": np.array([0, 4096])}),
        ("weight", {"weight": np.array([[-256, 254, 2]])}, {"weight": np.array([[-258, 254, 2]])}),
        ("weights altered", {"weight": np.array([[-64, 2, 0]])}, {"weight": np.array([[-64, -64, -64]])}),
        ("weight bits", {"weight": np.array([[0, -128, 2]])}, {"weight": np.array([[0, -130, -129]])}),
        ("weight exponent", {"weight": np.array([[2, -2, 2]])}, {"weight": np.array([[300, 2, 2]]) * 2**9}),
    ],
)
def test_layers_at_the_limit(rule: str, inside: dict[str, Any], outside: dict[str, Any]) -> None:
    assert rule not in _rules(check(_network(replace(DENSE, **inside))))
    assert rule in _rules(check(_network(replace(DENSE, **outside))))


def test_message_bits_depend_on_the_chip() -> None:
    network = _network(replace(DENSE, neuron=SigmaDeltaNeuron(0, message_bits=24)))
    assert "message bits" in _rules(check(network, "loihi1"))
    assert "message bits" not in _rules(check(network, "loihi2"))
    wider = _network(replace(DENSE, neuron=SigmaDeltaNeuron(0, message_bits=25)))
    assert "message bits" in _rules(check(wider, "loihi2"))


def test_all_findings_come_errors_first() -> None:
    bad = CubaNeuron(200_000, np.array([0]), np.array([5000]))
    layers = (replace(DENSE, neuron=bad, delay=np.array([70, 0])), Dense(np.full((2, 2), -64), NEURON))
    found = check(NetworkDescription((Input((3,)), *layers), ignored=("/layer/1/neuron/refDelay = 3",)))
    rules = {"threshold", "current decay", "voltage decay", "delay", "weights altered", "ignored field"}
    assert rules <= set(_rules(found))
    levels = [finding.level for finding in found]
    assert levels == sorted(levels)
    assert all(finding.hint for finding in found)


_MANY = Dense(np.full((1, 400), 254), CubaNeuron(4000, np.array([100]), np.array([4095])))
_INHIBITED = Dense(np.full((1, 400), -254), CubaNeuron(4000, np.array([2000]), np.array([1])))


@pytest.mark.parametrize(
    ("layer", "may", "does"),
    [(_MANY, "current may wrap", "current wraps"), (_INHIBITED, "voltage may saturate", "voltage saturates")],
)
def test_states_of_24_bits_by_bound_and_on_a_sample(layer: Dense, may: str, does: str) -> None:
    network = NetworkDescription((Input((400,)), layer))
    few = np.zeros((1, 400, 5))
    few[0, :3, 2] = 1
    assert may in _rules(check(network))
    assert does not in _rules(check(network, sample=few))
    assert does in _rules(check(network, sample=np.ones((1, 400, 20))))


def test_states_of_recurrent_layers_count_their_own_spikes() -> None:
    layer = Recurrent(np.array([[254]]), np.array([[254]]), CubaNeuron(1, np.array([1]), np.array([4095])))
    network = NetworkDescription((Input((1,)), layer))
    sample = np.zeros((1, 1, 700))
    sample[..., 0] = 1
    assert "current wraps" in _rules(check(network, sample=sample))
    assert "current wraps" not in _rules(check(network, sample=sample[..., :400]))


def test_a_changed_file_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    network = _network(DENSE)
    write(NetworkDescription(network.layers, {"content sha256": content_hash(network)}), path)
    assert check(path) == []
    with h5py.File(path, "r+") as file:
        file["layer/1/weight"][0, 0] = 4
    assert _rules(check(path)) == ["content hash"]


def test_limits_can_be_changed_and_have_to_be_known() -> None:
    tight = {**LIMITS["loihi2"], "threshold": Limit(1, 79, "my chip", "firm")}
    assert _rules(check(_network(DENSE), tight)) == ["threshold"]
    with pytest.raises(ValueError, match="'loihi1', 'loihi2'"):
        check(_network(DENSE), "loihi3")
    assert all(limit.source and limit.low <= limit.high for table in LIMITS.values() for limit in table.values())


def test_the_estimate_counts_neurons_and_synapses() -> None:
    conv = Conv(np.full((2, 1, 3, 3), 2), NEURON, (1, 66, 66))
    dense = Dense(np.array([[2, -4] * 4096]), NEURON, delay=np.array([3]))
    network = NetworkDescription((Input((1, 66, 66)), conv, Flatten((8192,)), dense))
    for target, neurons, kernels in (("loihi1", 1024, 64 * 64), ("loihi2", 8192, 1)):
        first, second, total = estimate(network, target)
        assert first.neurons == (8192, neurons)
        assert first.synapse_bits[0] == 18 * kernels * 8
        assert first.cores == (8192 // neurons, 128)
        assert second.synapse_bits[0] % 8192 == 0
        assert total.cores[0] == first.cores[0] + second.cores[0]
    assert "cores" in _rules(check(network, {**LIMITS["loihi1"], "cores": Limit(0, 8, "a part of a chip", "firm")}))


@pytest.mark.slayer
def test_a_slayer_network_gets_all_its_refusals() -> None:
    from lava.lib.dl.slayer import block
    from support_cases import ALIF, CUBA, Chain

    net = Chain([block.alif.Dense(ALIF, 3, 3), block.cuba.Dense(CUBA, 3, 3, delay=True), block.cuba.Dense(CUBA, 3, 3)])
    assert [finding.level for finding in check(net)] == ["error", "error"]
    assert check(torch.nn.Linear(2, 2))[0].rule == "export"
    assert check(Chain([block.cuba.Dense(CUBA, 3, 3)]), sample=torch.ones(1, 3, 5)) == []
    assert "mantissa" in check(Chain([block.cuba.Dense({**CUBA, "threshold": 3000.0}, 3, 3)]))[0].value


@pytest.mark.lava
def test_current_that_wraps_is_what_lava_does_and_slayer_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    write(NetworkDescription((Input((400,)), _MANY)), path)
    spikes = np.ones((1, 400, 20), np.uint8)
    lava = simulate(path, spikes, backend="lava").output
    np.testing.assert_array_equal(simulate(path, spikes).output, lava)
    assert 0 < lava.sum() < 20
