"""``check`` finds everything at once, and each limit at its very edge."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from netx_export import ExportError, NetxFormatError, SimulationError, check, export, read, simulate
from netx_export.checking import Finding, estimate
from netx_export.file.netx import content_hash, write, write_as_described
from netx_export.network.chip import LIMITS, Limit
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Flatten,
    Input,
    NetworkDescription,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
)
from netx_export.network.peaks import CURRENT, Peak, bounds, sum_limit
from netx_export.simulation import reference

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
        ("voltage decay", {"voltage_decay": np.array([1, 4095])}, {"voltage_decay": np.array([1, 4096])}),
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


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        ("weight", [[-256, 2, 2]], [[-257, 2, 2]]),
        ("weight", [[2, 2, 255]], [[2, 2, 256]]),
        ("weight exponent", [[255 * 2**7, 2, 2]], [[255 * 2**7 + 1, 2, 2]]),
    ],
)
def test_weights_at_the_limit(rule: str, inside: Any, outside: Any) -> None:
    assert rule not in _rules(check(_network(replace(DENSE, weight=np.array(inside)))))
    assert rule in _rules(check(_network(replace(DENSE, weight=np.array(outside)))))


def test_the_smallest_weights_have_the_lowest_exponent() -> None:
    network = _network(replace(DENSE, weight=np.array([[-1, -1, -1]])))
    assert "weight exponent" not in _rules(check(network))
    for low, found in ((-8, []), (-7, [-8])):
        limits = {**LIMITS["loihi2"], "weight exponent": Limit(low, 7, "my chip", "firm")}
        assert [finding.value for finding in check(network, limits) if finding.rule == "weight exponent"] == found


@pytest.mark.parametrize(("target", "odd"), [("loihi1", []), ("loihi2", [9])])
def test_bits_of_weights_depend_on_the_chip(target: str, odd: list[int]) -> None:
    for step, found in ((2, []), (1, odd)):
        network = _network(replace(DENSE, weight=np.array([[-256, 200, 128 + step]])))
        assert [finding.value for finding in check(network, target) if finding.rule == "weight bits"] == found


def test_a_current_that_just_fits_24_bits_by_its_bound() -> None:
    """64 * 31 * 4096 is below 2^23, and 64 * 32 * 4096 is 2^23, one more than the largest number.

    It is farthest from 0 where the inputs of one sign are active, and the others are not.
    """
    cases: list[tuple[list[list[int]], int, list[int]]] = [
        ([[31, -31, 0]], 1, []),
        ([[2, -32, 0]], 1, [2**23]),
        ([[30, -31, 2]], 1, [2**23]),
        ([[4, -64, 0]], 2, [2**23]),
    ]
    for weights, decay, found in cases:
        neuron = CubaNeuron(1, np.array([decay]), np.array([4095]))
        findings = check(_network(replace(DENSE, weight=np.array(weights), neuron=neuron)))
        assert [finding.value for finding in findings if finding.rule == "current may wrap"] == found


@pytest.mark.parametrize(
    ("weights", "bias", "current", "voltage", "found"),
    [
        ([[-31, 99, 0]], None, 4096, 1, []),
        ([[-32, 99, 0]], None, 4096, 1, [2**23]),
        ([[-31, 99, 0]], [-1], 4096, 1, [2**23]),
        ([[-31, 99, 0]], [1], 4096, 1, []),
        ([[-32, 99, 0]], [1], 4096, 1, [2**23]),
        ([[-2, 99, 0]], [-23], 1024, 1, []),
        ([[-2, 99, 0]], [-24], 1024, 1, [2**23]),
        ([[-31, 99, 0]], None, 64, 64, []),
        ([[-32, 99, 0]], None, 64, 64, [2**23]),
    ],
)
def test_a_voltage_that_just_fits_24_bits_by_its_bound(
    weights: Any, bias: Any, current: int, voltage: int, found: list[int]
) -> None:
    neuron = CubaNeuron(1, np.array([current]), np.array([voltage]))
    layer = Dense(np.array(weights), neuron, bias=None if bias is None else np.array(bias))
    findings = check(_network(layer))
    assert [finding.value for finding in findings if finding.rule == "voltage may saturate"] == found


@pytest.mark.parametrize(
    ("weight", "bias", "threshold", "may", "does"),
    [
        ([149, 1], None, 150, [], []),  # a voltage at its threshold is read; one above it makes the neuron fire
        ([149, 2], None, 150, [151], [151]),
        ([1, 0], [149], 150, [], []),
        ([1, 0], [150], 150, [151], [151]),
        ([200, -100], [-51], 150, [200], []),
        ([40, -151], None, 150, [], []),  # below zero it ends at 24 bits only
    ],
)
def test_a_voltage_that_is_read_is_held_against_its_threshold(
    weight: list[int], bias: list[int] | None, threshold: int, may: list[int], does: list[int]
) -> None:
    neuron = CubaNeuron(threshold, np.array([4096]), np.array([4096]))
    layer = Dense(np.array([weight]), neuron, bias=None if bias is None else np.array(bias), delay_shift=False)
    read = NetworkDescription((Input((2,)), layer), reads_voltage=True)
    found = check(read, sample=np.ones((1, 2, 4)))
    for rule, values in (("readout voltage may saturate", may), ("readout voltage saturates", does)):
        assert [finding.value for finding in found if finding.rule == rule] == [64 * value for value in values]
    fires = simulate(replace(read, reads_voltage=False), np.ones((1, 2, 4))).output.any()
    assert fires == bool(does)


def test_a_current_that_just_fits_24_bits_on_a_sample() -> None:
    """Without decay each spike adds 64 * 128, of which 2^10 make 2^23."""
    layer = Dense(np.array([[128, 2]]), CubaNeuron(131071, np.array([0]), np.array([4095])))
    network = NetworkDescription((Input((2,)), layer))
    for spikes, found in ((2**10 - 1, []), (2**10, [2**23])):
        sample = np.zeros((1, 2, 1100))
        sample[0, 0, :spikes] = 1
        findings = check(network, sample=sample)
        assert [finding.value for finding in findings if finding.rule == "current wraps"] == found


@pytest.mark.parametrize(("high", "rules"), [(8192, []), (8191, ["current may wrap", "current wraps"])])
def test_a_state_may_be_as_large_as_its_limit(high: int, rules: list[str]) -> None:
    layer = Dense(np.array([[128, 0]]), CubaNeuron(131071, np.array([4096]), np.array([4095])))
    limits = {**LIMITS["loihi2"], "state": Limit(-high, high, "my chip", "firm")}
    found = check(NetworkDescription((Input((2,)), layer)), limits, np.ones((1, 2, 3)))
    assert sorted(finding.rule for finding in found if finding.rule.startswith("current")) == rules


def test_a_peak_at_its_limit_does_not_exceed_it() -> None:
    assert [Peak(CURRENT, size, 9).exceeded for size in (8.0, 9.0, 9.5)] == [False, False, True]


def test_sums_of_mantissas_have_the_bits_that_the_shift_of_the_sum_leaves() -> None:
    """Weights that fill eight bits are not shifted, and those of half their size by one bit."""
    for weight, limit in (([[-256, 254]], 2**31 - 1), ([[-128, 127]], 2**30 - 1)):
        assert sum_limit(Dense(np.array(weight), _SIGMA_DELTA)) == limit
    assert sum_limit(Conv(np.array([[[[2]]]]), _SIGMA_DELTA, (1, 1, 1))) == 2**23 - 1


def test_message_bits_depend_on_the_chip() -> None:
    network = _network(replace(DENSE, neuron=SigmaDeltaNeuron(0, message_bits=24)))
    assert "message bits" in _rules(check(network, "loihi1"))
    assert "message bits" not in _rules(check(network, "loihi2"))
    wider = _network(replace(DENSE, neuron=SigmaDeltaNeuron(0, message_bits=25)))
    assert "message bits" in _rules(check(wider, "loihi2"))


def test_all_findings_come_errors_first() -> None:
    bad = CubaNeuron(200_000, np.array([0]), np.array([4096]))
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
    assert check(network)[0].hint.startswith("Give a sample to see whether it happens.")
    assert all("Give a sample" not in finding.hint for finding in check(network, sample=few))
    assert does not in _rules(check(network, sample=few))
    assert does in _rules(check(network, sample=np.ones((1, 400, 20))))


def test_a_voltage_that_does_not_decay_has_no_bound() -> None:
    def layer(weight: int) -> Dense:
        return Dense(np.array([[weight], [2]]), CubaNeuron(131071, np.array([4096]), np.array([0])))

    network = NetworkDescription((Input((1,), False), layer(-2)))
    assert "voltage saturates" in _rules(check(network, sample=np.ones((1, 1, 66_000))))
    assert [(finding.rule, finding.value) for finding in check(network)] == [("voltage may saturate", "without bound")]
    assert check(NetworkDescription((Input((1,), False), layer(2)))) == []  # one that goes up fires


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


@pytest.mark.parametrize(("target", "neurons", "bits"), [("loihi1", 1024, 2**20), ("loihi2", 8192, 2**20)])
def test_a_core_that_is_just_full(target: str, neurons: int, bits: int) -> None:
    for count, cores in ((neurons, 1), (neurons + 1, 2)):
        few = Dense(np.full((count, 3), 2), NEURON)
        assert estimate(_network(few), target)[0].cores == (cores, 128)
    for inputs, cores in ((bits // 8, 1), (bits // 8 + 1, 2)):
        wide = Dense(np.resize([2, 254, -256], (1, inputs)), NEURON)  # of 8 bits
        usage = estimate(NetworkDescription((Input((inputs,)), wide)), target)[0]
        assert usage.synapse_bits == (8 * inputs, bits)
        assert usage.cores[0] == cores


def test_the_network_takes_what_its_layers_take_of_all_cores() -> None:
    first, second, total = estimate(_network(DENSE, Dense(np.array([[2, -4], [8, 2], [2, 2]]), NEURON)), "loihi1")
    assert total.neurons == (first.neurons[0] + second.neurons[0], 1024 * 128) == (5, 131072)
    assert total.synapse_bits == (first.synapse_bits[0] + second.synapse_bits[0], 2**20 * 128)
    assert total.cores == (2, 128)
    assert total.layer == ""


def test_a_delay_takes_six_bits_of_each_synapse() -> None:
    plain, delayed = (
        estimate(_network(replace(DENSE, delay=delay)))[0].synapse_bits[0] for delay in (None, np.array([0, 1]))
    )
    assert delayed == plain + 6 * DENSE.weight.size


def test_limits_can_be_changed_and_have_to_be_known() -> None:
    tight = {**LIMITS["loihi2"], "threshold": Limit(1, 79, "my chip", "firm")}
    assert _rules(check(_network(DENSE), tight)) == ["threshold"]
    with pytest.raises(ValueError, match="'loihi1', 'loihi2'"):
        check(_network(DENSE), "loihi3")
    for target in (None, 5, ["loihi1"]):
        with pytest.raises(ValueError, match="'loihi1', 'loihi2'"):
            check(_network(DENSE), target)  # type: ignore[arg-type]
    assert all(limit.source and limit.low <= limit.high for table in LIMITS.values() for limit in table.values())


@pytest.mark.parametrize("wrong", [None, 5, [DENSE]])
def test_what_is_no_network_is_a_type_error(wrong: Any) -> None:
    for function in (check, estimate):
        with pytest.raises(TypeError, match="`network` to be the path of a netx file or a NetworkDescription but got"):
            function(wrong)


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
    for cores, levels in ((total.cores[0], []), (total.cores[0] - 1, ["warning"])):
        found = check(network, {**LIMITS["loihi2"], "cores": Limit(0, cores, "a part of a chip", "firm")})
        assert [finding.level for finding in found if finding.rule == "cores"] == levels


@pytest.mark.slayer
def test_a_slayer_network_gets_all_its_refusals() -> None:
    from lava.lib.dl.slayer import block
    from support_cases import ALIF, CUBA, Chain

    net = Chain([block.alif.Dense(ALIF, 3, 3), block.cuba.Dense(CUBA, 3, 3, delay=True), block.cuba.Dense(CUBA, 3, 3)])
    assert [finding.level for finding in check(net)] == ["error", "error"]
    assert [finding.layer for finding in check(net)] == ["Block 0 (alif.Dense)", "Block 1 (cuba.Dense)"]
    assert check(net)[0].value == "netx cannot load adaptive thresholds"
    assert check(net)[0].hint == "Use cuba blocks."
    none = check(torch.nn.Linear(2, 2))[0]
    assert (none.rule, none.layer, none.hint) == ("export", "", "")
    assert none.value.startswith("Linear holds no SLAYER block. Build")
    assert check(Chain([block.cuba.Dense(CUBA, 3, 3)]), sample=torch.ones(1, 3, 5)) == []
    assert "mantissa" in check(Chain([block.cuba.Dense({**CUBA, "threshold": 3000.0}, 3, 3)]))[0].value


@pytest.mark.slayer
@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("abc", "Expected an array or a tensor but got a str"),
        ({}, "Expected an array or a tensor but got a dict"),
        ([[1]], r"Expected spikes of shape \(N, C, ..., T\) .* but got \(1, 1\)"),
        (np.ones((0, 3, 5)), r"at least one sample and one step but got \(0, 3, 5\)"),
        (np.full((1, 3, 5), np.nan), "Expected finite input values but got NaN or infinity"),
        (np.ones((1, 3, 5), complex), "Expected a numeric type of up to 64 bits but got complex128"),
        (np.ones((1, 3, 5), object), "Expected a numeric type of up to 64 bits but got object"),
        (torch.ones(1, 3, 5).to_sparse(), "Expected a dense tensor of real numbers but got torch.sparse_coo"),
        (torch.ones(1, 3, 5, device="meta"), "Expected a tensor with values but got one without"),
    ],
    ids=str,
)
def test_a_sample_that_is_none_is_not_blamed_on_the_network(sample: Any, message: str) -> None:
    from lava.lib.dl.slayer import block
    from support_cases import CUBA, Chain

    with pytest.raises(SimulationError, match=message):
        check(Chain([block.cuba.Dense(CUBA, 3, 3)]), sample=sample)


@pytest.mark.slayer
def test_a_sample_of_any_type_will_do() -> None:
    from lava.lib.dl.slayer import block
    from support_cases import CUBA, Chain

    for sample in (np.ones((1, 3, 5), ">f4"), np.ones((1, 3, 5), "u2"), np.ones((1, 3, 5)).tolist()):
        assert check(Chain([block.cuba.Dense(CUBA, 3, 3)]), sample=sample) == []


_RF = ResonatorNeuron(100, np.array([400]), np.array([4060]), "phase")
_RESONATOR = Resonator(np.full((1, 400), 254), np.full((1, 400), -254), _RF)
_RESONATOR_IZ = replace(_RESONATOR, neuron=replace(_RF, reset="izhikevich"))


@pytest.mark.parametrize("layer", [_RESONATOR, _RESONATOR_IZ])
def test_resonators_that_saturate_by_bound_and_on_a_sample(layer: Resonator) -> None:
    network = NetworkDescription((Input((400,)), layer))
    few = np.zeros((1, 400, 5))
    few[0, :3, 2] = 1
    assert "state may saturate" in _rules(check(network))
    assert "state saturates" not in _rules(check(network, sample=few))
    found = {finding.rule: finding for finding in check(network, sample=np.ones((1, 400, 20)))}
    loud = found["state saturates"]
    assert (loud.level, loud.layer, loud.limit) == ("error", "resonator1", 2**23 - 1)
    assert loud.value > loud.limit
    assert "Lava clips it" in loud.hint
    short = replace(layer.neuron, cos_decay=np.array([2000]))
    weak = replace(layer, weight=layer.weight // 64, imaginary_weight=layer.imaginary_weight // 64, neuron=short)
    assert "state may saturate" not in _rules(check(NetworkDescription((Input((400,)), weak))))


def test_a_resonator_is_driven_farthest_by_the_inputs_of_one_sign() -> None:
    """Its state can be up to 250.7 times as large as its input, and 64 * 508 * 250.7 is below 2^23."""
    weight = np.array([[254, 254, -254, -254]])
    balanced = Resonator(weight, np.array([[2, 0, -2, 0]]), _RF)
    found = [replace(balanced, weight=one) for one in (weight, abs(weight))]
    rules = [_rules(check(NetworkDescription((Input((4,)), layer)))) for layer in found]
    assert ["state may saturate" in one for one in rules] == [False, True]


def test_a_resonator_that_loses_nothing_has_no_bound() -> None:
    layer = Resonator(DENSE.weight, DENSE.weight, replace(_RF, sin_decay=np.array([0]), cos_decay=np.array([4096])))
    assert [finding.value for finding in check(_network(layer)) if "saturate" in finding.rule] == ["without bound"]


_SIGMA_DELTA = SigmaDeltaNeuron(1)
_ENCODER = Encoder(SigmaDeltaNeuron(0))


def _sigma_delta(*layers: Any, shape: tuple[int, ...]) -> NetworkDescription:
    return NetworkDescription((Input(shape, False, _ENCODER), *layers))


def _loud(*shape: int) -> np.ndarray:
    return np.full(shape, 3.9) * np.array([1, 0.1, 1, 0.1, 0, 0])


def test_sigma_delta_convolutions_that_wrap_by_bound_and_on_a_sample() -> None:
    wide = Conv(np.full((1, 1, 3, 3), 250), _SIGMA_DELTA, (1, 6, 6), delay_shift=False)
    network = _sigma_delta(wide, shape=(1, 6, 6))
    assert "sum of messages may wrap" in _rules(check(network))
    loud = {finding.rule: finding for finding in check(network, sample=_loud(1, 1, 6, 6, 6))}["sum of messages wraps"]
    assert (loud.level, loud.layer, loud.limit) == ("error", "conv1", 2**23 - 1)
    assert loud.value == 9 * 250 * round(3.9 * 32) * 2 * 64
    assert "It reaches 137.3 in SLAYER's scale, where 32 fit" in loud.hint
    assert "Lava wraps it" in loud.hint
    assert "sum of messages wraps" not in _rules(check(network, sample=_loud(1, 1, 6, 6, 6) / 8))
    weak = replace(wide, weight=np.full((1, 1, 3, 3), 10))
    assert "sum of messages may wrap" not in _rules(check(_sigma_delta(weak, shape=(1, 6, 6))))


@pytest.mark.parametrize(("weight", "wraps"), [(-128, False), (128, True)])
def test_24_bits_hold_one_sum_more_below_zero_than_above(weight: int, wraps: bool) -> None:
    """Eight inputs of 2 make a sum of 2**23 or of -2**23."""
    layer = Conv(np.full((1, 2, 2, 2), weight), _SIGMA_DELTA, (2, 2, 2), delay_shift=False)
    found = {
        one.rule: one.value for one in check(_sigma_delta(layer, shape=(2, 2, 2)), sample=np.full((1, 2, 2, 2, 5), 2))
    }
    assert found.get("sum of messages wraps") == (2**23 if wraps else None)


@pytest.mark.parametrize(("inputs", "rounds"), [(8, False), (60, True)])
def test_sigma_delta_states_that_float32_rounds(inputs: int, rounds: bool) -> None:
    """With weights in steps of 2 and messages of all sizes float32 ends at 128 in SLAYER's scale."""
    rng = np.random.default_rng(0)
    layers = [Dense(rng.integers(5, 20, (9, 9)) * 2, _SIGMA_DELTA, delay_shift=False) for _ in range(2)]
    wide = Dense(rng.integers(5, 20, (inputs, 9)) * 2, _SIGMA_DELTA, delay_shift=False)
    last = Dense(np.full((1, inputs), 22), _SIGMA_DELTA, delay_shift=False)
    found = check(_sigma_delta(*layers, wide, last, shape=(9,)), sample=rng.random((2, 9, 20)) / 4)
    rounded = [finding for finding in found if finding.rule == "state rounds"]
    assert [(finding.level, finding.layer) for finding in rounded] == [("warning", "dense4")] * rounds
    for finding in rounded:
        assert finding.value > finding.limit == 2**25
        assert "where 128 fit. SLAYER computes in float32" in finding.hint


def test_bounds_of_sigma_delta_layers_follow_messages_from_the_input_on() -> None:
    """What is 3 times -256 to 254, less 5 * 64, and 2 * 64 more or less that may be left unsent."""
    encoder = Encoder(SigmaDeltaNeuron(2), weight=3, bias=-5)
    layers = (
        Dense(np.array([[2, -4]]), SigmaDeltaNeuron(3)),
        Dense(np.array([[-2]]), _SIGMA_DELTA, bias=np.array([7])),
    )
    low, high = -256 * 3 - 320 - 128, 254 * 3 - 320 + 128
    highest, lowest = 2 * high - 4 * low, 2 * low - 4 * high
    first, second = bounds(NetworkDescription((Input((2,), False, encoder), *layers))).values()
    assert [peak.size for peak in first] == [6 * (high - low), max(highest, -lowest)]
    reach = -64 * 3, highest / 64 + 64 * 3
    assert second[0].size == 2 * (reach[1] - reach[0])
    assert second[1].size == max(-2 * reach[0] + 7 * 2**12, 2 * reach[1])


def test_bounds_without_input_neurons_take_messages_of_16_bits() -> None:
    layer = Dense(np.array([[2, -4]]), _SIGMA_DELTA)
    assert bounds(NetworkDescription((Input((2,)), layer)))["dense1"][0].size == 6 * 2**16


@pytest.mark.parametrize("neuron", [CubaNeuron(100, np.array([2048]), np.array([2048])), _SIGMA_DELTA])
def test_bounds_of_a_large_layer_take_little_memory(neuron: Any) -> None:
    weight = np.resize(np.array([2, -4], np.int32), (500, 2000))
    network = NetworkDescription((Input((2000,)), Dense(weight, neuron)))
    tracemalloc.start()
    bounds(network)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < weight.nbytes / 10


def test_sigma_delta_states_that_leave_32_bits() -> None:
    layers = [Dense(np.full((200, n), 250), _SIGMA_DELTA, delay_shift=False) for n in (12, 200, 200)]
    network = _sigma_delta(*layers, shape=(12,))
    assert "state may wrap" in _rules(check(network))
    found = [(finding.rule, finding.layer) for finding in check(network, sample=_loud(1, 12, 6))]
    assert {("state wraps", "dense2"), ("sum of messages wraps", "dense2")} <= set(found)
    assert ("state wraps", "dense1") not in found


def test_peaks_say_where_and_by_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is SLAYER's, and chunks of samples change nothing."""
    network = NetworkDescription((Input((400,)), Dense(np.full((400, 400), 2), NEURON), _MANY))
    spikes = torch.zeros((3, 400, 12), dtype=torch.uint8)
    spikes[1, :, 4:] = 1
    found = reference.peaks(network, spikes)
    current = found["dense2"][0]
    assert current.quantity.name == "current"
    assert current.exceeded
    assert current.step == 8  # the second in which the first layer fires, 5, and SLAYER's step for each of three layers
    assert found["dense1"][0].step is None
    monkeypatch.setattr(reference, "chunk_size", lambda *_: 1)
    assert reference.peaks(network, spikes) == found


def test_a_matrix_of_zeros_is_found_and_refused(tmp_path: Path) -> None:
    """netx divides by its largest weight."""
    layers = {
        "dense1": Dense(np.zeros((2, 3), np.int64), NEURON),
        "recurrent1": Recurrent(np.zeros((2, 3), np.int64), np.zeros((2, 2), np.int64), NEURON),
        "resonator1": Resonator(np.full((2, 3), 2), np.zeros((2, 3), np.int64), _RF),
    }
    for name, layer in layers.items():
        path = tmp_path / f"{name}.net"
        write_as_described(_network(layer), path)
        assert str(read(path))
        sample = np.ones((1, 3, 5))
        found = [(finding.rule, finding.layer) for finding in check(path, sample=sample) if finding.level == "error"]
        assert found == [("weights all zero", name)]
        assert estimate(path)[0].cores[0] == 1
        for backend in ("reference", "lava"):
            with pytest.raises(NetxFormatError, match=rf"{name}.net: {name}: .* nothing but zeros.*netx cannot load"):
                simulate(path, sample, backend=backend)


@pytest.mark.lava
def test_current_that_wraps_is_what_lava_does_and_slayer_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    write(NetworkDescription((Input((400,)), _MANY)), path)
    spikes = np.ones((1, 400, 20), np.uint8)
    lava = simulate(path, spikes, backend="lava").output
    np.testing.assert_array_equal(simulate(path, spikes).output, lava)
    assert 0 < lava.sum() < 20


@pytest.mark.slayer
@pytest.mark.parametrize("trained", [False, True], ids=["before training", "after training"])
def test_learned_delays_that_no_layer_could_make_are_warned_of(trained: bool) -> None:
    from lava.lib.dl.slayer import block
    from support_cases import CUBA, Chain

    cuba = block.cuba
    net = Chain(
        [
            *(cuba.Conv(CUBA, 2, 2, 3, padding=1, delay=True, weight_scale=8) for _ in range(2)),
            cuba.Flatten(),
            cuba.Dense(CUBA, 32, 4, delay=True, weight_scale=8),
            cuba.Recurrent(dict(CUBA), 4, 3, weight_scale=8),
        ]
    )
    if trained:
        with torch.no_grad():
            net(torch.ones(1, 2, 4, 4, 8))
    found = [finding for finding in check(net, sample=torch.ones(1, 2, 4, 4, 8)) if finding.rule == "delay"]
    # The second one's are made by the dense layer behind it, and that layer's own on the way into it.
    assert [(finding.level, finding.layer) for finding in found] == [("warning", "Block 0 (cuba.Conv)")]
    assert "cuba.Conv behind it cannot make them" in found[0].value
    assert "delay=False" in found[0].hint


def _delayed(kind: str) -> Any:
    """A delayed block behind which another one cannot make its delays, or can."""
    from lava.lib.dl.slayer import block
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm
    from support_cases import CUBA, RF, Chain

    cuba, rf = block.cuba, block.rf
    normed = {**CUBA, "norm": MeanOnlyBatchNorm}
    return Chain(
        {
            "resonators": lambda: [rf.Dense(RF, 6, 5, delay=True, weight_scale=8), rf.Dense(RF, 5, 4, weight_scale=8)],
            "a bias": lambda: [
                cuba.Dense(normed, 6, 5, delay=True, weight_scale=8),
                cuba.Recurrent(dict(CUBA), 5, 4, weight_scale=8),
            ],
            "a bias before dense": lambda: [
                cuba.Dense(normed, 6, 5, delay=True, weight_scale=8),
                cuba.Dense(CUBA, 5, 4, weight_scale=8),
            ],
            "dense": lambda: [
                cuba.Dense(CUBA, 6, 5, delay=True, weight_scale=8),
                cuba.Recurrent(dict(CUBA), 5, 4, weight_scale=8),
            ],
            "a recurrent bias": lambda: [cuba.Recurrent(dict(normed), 6, 5, weight_scale=8)],
        }[kind]()
    )


@pytest.mark.slayer
@pytest.mark.parametrize(
    ("kind", "delayed", "behind"),
    [
        ("resonators", "rf.Dense", "rf.Dense"),
        ("a bias", "cuba.Dense", "cuba.Recurrent"),
        ("a bias before dense", "", ""),
        ("dense", "", ""),
    ],
)
def test_a_warning_of_delays_is_what_export_refuses_once_they_have_grown(
    kind: str, delayed: str, behind: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = _delayed(kind)
    spikes = (torch.rand(4, 6, 24) < 0.4).float()
    for _ in range(2):  # in training, in which the norm learns its mean
        net(spikes)
    delay = net.blocks[0].delay.delay
    before = delay.detach().clone()
    found = [finding for finding in check(net, sample=spikes) if finding.rule == "delay"]
    assert torch.equal(delay, before)
    assert [finding.layer for finding in found] == ([f"Block 0 ({delayed})"] if delayed else [])
    assert all(f"{behind} behind it cannot make them in netx" in finding.value for finding in found)
    delay.data.fill_(1)
    if not behind:
        assert export(net.eval(), tmp_path / "a.net", spikes).proved
    else:
        with pytest.raises(ExportError, match=f"Block 1 .{behind}.*the axonal delay of the block before"):
            export(net.eval(), tmp_path / "a.net", spikes)


@pytest.mark.slayer
@pytest.mark.parametrize("trained", [False, True], ids=["before training", "after training"])
@pytest.mark.parametrize(("kernel", "large"), [(3, 5), (17, 20)], ids=["small kernels", "large kernels"])
def test_delays_before_a_convolution_are_warned_of_without_a_sample(trained: bool, kernel: int, large: int) -> None:
    from lava.lib.dl.slayer import block
    from support_cases import CUBA, Chain

    cuba = block.cuba
    net = Chain(
        [
            cuba.Pool(dict(CUBA), 1),
            cuba.Conv(CUBA, 2, 3, kernel, delay=True, weight_scale=8),
            cuba.Conv(CUBA, 3, 2, 2, delay=True, weight_scale=8),
            cuba.Flatten(),
            cuba.Dense(CUBA, 2 * (large - kernel) ** 2, 4),
        ]
    )
    if trained:
        net(torch.ones(1, 2, large, large, 4))
    found = check(net)
    assert [finding.layer for finding in found if finding.rule == "delay"] == ["Block 1 (cuba.Conv)"]
    assert "cuba.Conv behind it cannot make them" in found[-1].value
    assert found[0].level == "error"


@pytest.mark.slayer
@pytest.mark.parametrize(
    ("kind", "rule", "at", "words"),
    [
        ("a bias", "delay", "Block 0 (cuba.Dense)", "cuba.Recurrent behind it cannot make them in netx"),
        ("a bias before dense", "", "", ""),
        ("a recurrent bias", "norm", "Block 0 (cuba.Recurrent)", "learns a mean in training, and then its norm"),
    ],
)
def test_what_export_refuses_once_a_norm_has_learnt_its_mean_is_warned_of(
    kind: str, rule: str, at: str, words: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = _delayed(kind)
    spikes = (torch.rand(4, 6, 24) < 0.4).float()
    found = [finding for finding in check(net, sample=spikes) if finding.level == "warning"]
    assert [(finding.rule, finding.layer) for finding in found] == ([(rule, at)] if rule else [])
    assert all(words in finding.value for finding in found)
    assert not net.blocks[0].neuron.norm.running_mean.any()
    net(spikes)  # in training, in which the norm learns its mean
    if net.blocks[0].delay is not None:
        net.blocks[0].delay.delay.data.fill_(1)
    if rule:
        with pytest.raises(ExportError, match=r"the axonal delay of the block before|its norm or number of winners"):
            export(net.eval(), tmp_path / "a.net", spikes)
    else:
        assert export(net.eval(), tmp_path / "a.net", spikes).proved


@pytest.mark.slayer
def test_what_a_forward_makes_of_a_sample_is_not_blamed_on_the_sample() -> None:
    from lava.lib.dl.slayer import block
    from support_cases import CUBA, Chain

    class Halving(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x / 2)

    (found,) = check(Halving([block.cuba.Dense(CUBA, 6, 5)]), sample=torch.ones(2, 6, 8))
    assert (found.rule, found.level) == ("export", "error")
    assert found.value.startswith("What the network's forward makes of the sample for its first block is no input of")
    assert "Expected spikes of 0 and 1" in found.value


@pytest.mark.slayer
def test_a_sample_without_steps_is_checked_where_the_forward_adds_them() -> None:
    from lava.lib.dl.slayer import block
    from support_cases import CUBA, Chain

    class Steps(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward((x[..., None] > torch.linspace(0, 1, 20)).to(x.dtype))

    assert check(Steps([block.cuba.Dense(CUBA, 6, 5)]), sample=torch.rand(3, 6)) == []
    alif = {**CUBA, "threshold_step": 0.1, "threshold_decay": 0.1, "refractory_decay": 0.1}
    (found,) = check(Steps([block.alif.Dense(alif, 6, 5)]), sample=torch.rand(3, 6))
    assert (found.layer, found.value, found.hint) == (
        "Block 0 (alif.Dense)",
        "netx cannot load adaptive thresholds",
        "Use cuba blocks.",
    )
    with pytest.raises(
        SimulationError, match=r"shape \(N, C, ..., T\) .* got \(3, 7\)\. The network cannot run on input"
    ):
        check(Steps([block.cuba.Dense(CUBA, 6, 5)]), sample=torch.rand(3, 7))


@pytest.mark.slayer
def test_a_network_is_checked_without_a_sample_where_its_weights_say_what_goes_in() -> None:
    from lava.lib.dl.slayer import block
    from support_cases import CUBA, RF, Chain

    for first in (
        block.cuba.Dense(CUBA, 6, 5),
        block.cuba.Dense(CUBA, (2, 3, 5), 5),
        block.cuba.Recurrent(dict(CUBA), 6, 5),
        block.cuba.KWTA(dict(CUBA), 6, 5, 2),
        block.rf.Dense(RF, 6, 5),
    ):
        assert check(Chain([first])) == []
    (unknown,) = check(Chain([block.cuba.Conv(CUBA, 2, 3, 3)]))
    assert unknown.hint == "Give a sample of the network's input, which shows it."


@pytest.mark.slayer
def test_numbers_are_looked_for_in_what_reaches_the_first_block() -> None:
    from lava.lib.dl.slayer import block
    from support_cases import CUBA, Chain

    class Inverting(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(1 - x)

    net = Inverting([block.cuba.Dense({**CUBA, "current_decay": 0.001}, 900, 3, weight_scale=1)])
    with torch.no_grad():
        net.blocks[0].synapse.weight.fill_(3.9)
    rules = [{finding.rule for finding in check(net, sample=sample)} for sample in (_steady(0), _steady(1))]
    assert "current wraps" in rules[0]
    assert "current wraps" not in rules[1]


def _steady(value: int) -> torch.Tensor:
    return torch.full((1, 900, 20), value)
