"""NIR: what to_nir writes means what the docstring says, comes back equal, and runs the same in another simulator."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netx_export import ExportError, NetworkDescription, NetxFormatError, read, simulate
from netx_export.file.netx import write
from netx_export.network.description import (
    Average,
    Conv,
    CubaNeuron,
    Dense,
    Flatten,
    Input,
    Recurrent,
    Resonator,
    ResonatorNeuron,
    SigmaDeltaNeuron,
)
from netx_export.network.exact_weights import loadable
from netx_export.nir import from_nir, to_nir
from netx_export.simulation import reference

nir = pytest.importorskip("nir")
from nir_equations import euler  # noqa: E402

rng = np.random.default_rng(0)


def neuron(current: Any = 1024, voltage: Any = 128, threshold: int = 80) -> CubaNeuron:
    return CubaNeuron(threshold, np.atleast_1d(current), np.atleast_1d(voltage))


def weights(*shape: int) -> np.ndarray:
    return rng.integers(-64, 64, shape) * 2


def network(*layers: Any, shape: tuple[int, ...] = (6,), **options: Any) -> NetworkDescription:
    return NetworkDescription((Input(shape, delay_shift=False), *layers), **options)


DENSE = Dense(weights(5, 6), neuron())
CONV = Conv(weights(4, 2, 3, 3), neuron(), (2, 8, 8), padding=(1, 1))
NETWORKS = {
    "dense": network(DENSE, Dense(weights(3, 5), neuron(2048, 64))),
    "without input": NetworkDescription((DENSE,)),
    "LIF": network(Dense(weights(5, 6), neuron(4096, 410))),
    "IF": network(Dense(weights(5, 6), neuron(4096, 0))),
    "decays per neuron": network(Dense(weights(5, 6), neuron([100, 200, 300, 400, 500], [1, 2, 3, 4, 4095]))),
    "bias of CubaLIF": network(Dense(weights(5, 6), neuron(), bias=np.array([-3, 0, 1, 7, 4095]))),
    "bias of LIF": network(Dense(weights(5, 6), neuron(4096, 13), bias=np.array([-3, 0, 1, 7, 2]))),
    "bias of IF": network(Dense(weights(5, 6), neuron(4096, 0), bias=np.array([-3, 0, 1, 7, 2]))),
    "recurrent": network(Recurrent(weights(5, 6), weights(5, 5), neuron())),
    "recurrent LIF with a bias, then dense": network(
        Recurrent(weights(5, 6), weights(5, 5), neuron(4096, 410), np.array([-3, 0, 1, 7, 2]), delay_shift=False),
        Dense(weights(3, 5), neuron()),
    ),
    "recurrent with a bias, per neuron": network(
        Recurrent(weights(5, 6), weights(5, 5), neuron([99, 4096, 300, 5, 7], [1, 2, 3, 9, 4]), np.arange(5))
    ),
    "recurrent, delay of the output": network(
        Recurrent(weights(5, 6), weights(5, 5), neuron(), axon_delay=np.array([0, 1, 5, 62, 3]))
    ),
    "LIF, decays per neuron": network(Dense(weights(5, 6), neuron(4096, [100, 200, 300, 400, 500]))),
    "delay of neurons": network(Dense(weights(5, 6), neuron(), np.array([0, 1, 5, 62, 3]))),
    "delay of inputs": network(Dense(weights(5, 6), neuron(), np.array([0, 1, 5, 62, 3, 9]))),
    "delay of both": network(Dense(weights(5, 6), neuron(), np.arange(5)[:, None] + 2 * np.arange(6)[None, :])),
    "bias of a second layer, no shift before it": network(
        dataclasses.replace(DENSE, delay_shift=False), Dense(weights(3, 5), neuron(), bias=np.array([8, 9, 1]))
    ),
    "delay of the output": network(Dense(weights(5, 6), neuron(), axon_delay=np.array([0, 1, 5, 62, 3]))),
    "shifts and texts": network(dataclasses.replace(DENSE, delay_shift=False), DENSE.__class__(weights(2, 5), neuron()),
                                metadata={"rate_budget": "0.05", "note": "ü"}),
    "conv": network(CONV, Flatten((256,)), Dense(weights(3, 256), neuron()), shape=(2, 8, 8)),
    "conv, not square, in groups": network(
        Conv(weights(4, 1, 3, 2), neuron(), (2, 9, 7), (2, 1), (1, 0), (1, 2), groups=2, bias=np.array([1, 2, 3, 4])),
        shape=(2, 9, 7),
    ),
    "conv with LIF and bias": network(dataclasses.replace(CONV, neuron=neuron(4096, 3), bias=np.array([1, 0, -3, 4])),
                                      shape=(2, 8, 8)),
    "conv, decays per channel": network(dataclasses.replace(CONV, neuron=neuron([1, 2, 3, 4], 7)), shape=(2, 8, 8)),
    "pool": network(Conv(np.full((2, 1, 2, 2), 6), neuron(), (2, 8, 8), (2, 2), groups=2), shape=(2, 8, 8)),
    "pool that pads by more than half": network(
        Conv(np.full((2, 1, 2, 2), 6), neuron(), (2, 8, 8), (2, 2), (2, 1), groups=2), shape=(2, 8, 8)
    ),
    "delays by no step, and a bias": network(
        Dense(weights(5, 6), neuron(4096, 13), np.zeros(5, np.int64), np.array([-3, 0, 1, 7, 2]))
    ),
    "conv, delay of the output": network(dataclasses.replace(CONV, axon_delay=np.array([0, 2, 1, 4])), shape=(2, 8, 8)),
    "read by its voltage": network(
        DENSE, Dense(weights(3, 5), neuron(1024, 128, 2**17), delay_shift=False), reads_voltage=True
    ),
    "LI with a bias": network(
        Dense(weights(3, 6), neuron(4096, 13, 2**17), bias=np.array([-3, 0, 1]), delay_shift=False), reads_voltage=True
    ),
    "integrators": network(Dense(weights(3, 6), neuron(4096, 0, 2**17), delay_shift=False), reads_voltage=True),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip_is_equal(name: str, tmp_path: Path) -> None:
    description = NETWORKS[name]
    assert from_nir(to_nir(description)) == description
    nir.write(tmp_path / "net.nir", to_nir(description, dt=1e-3, scale=1.0))
    assert from_nir(tmp_path / "net.nir") == description


_ALTERED = Dense(np.full((4, 6), -64), neuron())  # which netx loads exactly as a convolution only


@pytest.mark.parametrize("shape", [(6,), (6, 1, 1), (1, 2, 3)])
@pytest.mark.parametrize("behind", [(), (Dense(weights(3, 4), neuron()),), (Dense(np.full((2, 4), -64), neuron()),)])
@pytest.mark.parametrize("without_input", [False, True])
def test_a_dense_layer_written_as_a_convolution_comes_back(shape: Any, behind: Any, without_input: bool) -> None:
    first = dataclasses.replace(_ALTERED, axon_delay=None if behind else np.array([0, 1, 2, 3]))
    flatten = [Flatten((6,))] if len(shape) > 1 else []
    described = network(*flatten, first, *behind, shape=shape)
    if without_input and not flatten:
        described = NetworkDescription(described.layers[1:])
    written = loadable(described)
    assert isinstance(next(iter(written.spiking.values())), Conv)
    back = from_nir(to_nir(written))
    assert back == from_nir(to_nir(back))
    assert loadable(back) == written


def test_an_image_of_neurons_with_delays_of_its_channels_comes_back() -> None:
    options: dict[str, Any] = {"axon_delay": np.array([3, 1]), "output_shape": (2, 2, 2)}
    for image in (Dense(weights(8, 2), neuron(), **options), Dense(np.full((8, 2), -64), neuron(), **options)):
        written = loadable(network(image, shape=(2,)))
        assert loadable(from_nir(to_nir(written))) == written


def test_a_network_that_ends_in_a_flatten_comes_back() -> None:
    description = network(CONV, Flatten((256,)), shape=(2, 8, 8))
    assert from_nir(to_nir(description)) == description


def test_a_delay_of_the_output_in_front_of_a_flatten_comes_back_from_the_nodes_alone() -> None:
    delayed = dataclasses.replace(CONV, axon_delay=np.array([0, 2, 1, 4]), delay_shift=False)
    description = network(delayed, Flatten((256,)), shape=(2, 8, 8))
    graph = to_nir(description)
    assert from_nir(graph) == description
    graph.metadata = {}
    assert from_nir(graph, dt=DT).layers[1].axon_delay.tolist() == [0, 2, 1, 4]  # type: ignore[union-attr]


def test_a_vector_is_flattened_no_more() -> None:
    graph = to_nir(network(Flatten((6,)), DENSE))
    assert not any(isinstance(node, nir.Flatten) for node in graph.nodes.values())
    assert [layer.kind for layer in from_nir(graph).layers] == ["input", "dense"]


def test_an_image_that_netx_takes_as_a_vector_is_flattened() -> None:
    back = from_nir(to_nir(network(Dense(weights(3, 6), neuron()), shape=(1, 2, 3))))
    assert [layer.kind for layer in back.layers] == ["input", "flatten", "dense"]


IN_GROUPS = {"conv, not square, in groups", "pool that pads by more than half"}


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in IN_GROUPS])
def test_graphs_pass_the_checks_of_the_library(name: str, tmp_path: Path) -> None:
    """Which takes kernels to be square, and knows no groups."""
    graph = to_nir(NETWORKS[name])
    nir.write(tmp_path / "graph.nir", graph)
    assert nir.read(tmp_path / "graph.nir").check_types()


@st.composite
def _random_networks(draw: st.DrawFn) -> NetworkDescription:
    """Chains of convolutions and dense layers, some of which are written as convolutions."""
    made = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def values(low: int, high: int, *size: int) -> np.ndarray:
        return made.integers(low, high + 1, size)

    def neurons(channels: int) -> CubaNeuron:
        voltage = values(1, 4095, draw(st.sampled_from([1, channels])))
        current = draw(st.sampled_from([np.array([4096]), values(1, 4096, draw(st.sampled_from([1, channels])))]))
        if current.size == 1 and current[0] == 4096 and draw(st.booleans()):
            voltage = np.array([0])
        return CubaNeuron(draw(st.sampled_from([1, 80, 131_071])), current, voltage)

    image = draw(st.booleans())
    shape = draw(st.sampled_from([(2, 5, 4), (4, 1, 1)])) if image else (draw(st.integers(1, 5)),)
    layers: list[Any] = [Input(shape, draw(st.booleans()))]
    for _ in range(draw(st.integers(0, 2)) if image else 0):
        groups, kernel = draw(st.sampled_from([1, 2])), draw(st.integers(1, min(2, *shape[1:])))
        weight = values(-128, 127, 4, shape[0] // groups, kernel, kernel) * 2
        bias = None if len(layers) > 1 or layers[0].delay_shift else draw(st.sampled_from([None, values(1, 99, 4)]))
        layers.append(Conv(weight, neurons(4), shape, (1, 2), (1, 0), groups=groups, bias=bias, delay_shift=False))
        shape = layers[-1].shape
    if image and (len(layers) == 1 or draw(st.booleans())):
        layers.append(Flatten((int(np.prod(shape)),)))
    size = int(np.prod(shape))
    for _ in range(draw(st.integers(1, 3)) if len(shape) == 1 or isinstance(layers[-1], Flatten) else 0):
        outputs = draw(st.integers(1, 5))
        weight = draw(st.sampled_from([values(-128, 127, outputs, size) * 2, np.full((outputs, size), -64)]))
        weight[0, 0] += 2 * (not weight.any())  # nothing but zeros is loaded as a convolution only, which has no delays
        delay = draw(st.sampled_from([None, None, values(0, 62, outputs), values(0, 62, size)]))
        shift = draw(st.booleans())
        if draw(st.integers(0, 3)) == 0:
            layers.append(
                Recurrent(weight, values(-127, 127, outputs, outputs) * 2, neurons(outputs), delay_shift=shift)
            )
        else:
            layers.append(Dense(weight, neurons(outputs), delay, delay_shift=shift))
        size = outputs
    if draw(st.booleans()) and not isinstance(layers[-1], Flatten):
        channels = layers[-1].shape[0]
        layers[-1] = dataclasses.replace(layers[-1], axon_delay=values(0, 62, channels))
    return NetworkDescription(tuple(layers), {"note": "x"})


@settings(max_examples=200)
@given(_random_networks())
def test_random_networks_come_back(description: NetworkDescription) -> None:
    try:
        written = loadable(description)
    except ExportError:  # delays in the way of a convolution
        written = description
    back = from_nir(to_nir(written))
    assert from_nir(to_nir(back)) == back
    assert loadable_or_not(back) == written
    spikes = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (2, *written.input_shape, 20), np.uint8))
    for expected, got in zip(
        reference.run(written, spikes).values(), reference.run(back, spikes).values(), strict=True
    ):
        assert torch.equal(expected.flatten(1), got.flatten(1))


def loadable_or_not(description: NetworkDescription) -> NetworkDescription:
    try:
        return loadable(description)
    except ExportError:
        return description


@pytest.mark.parametrize("name", ["dense", "conv", "pool"])
def test_a_file_goes_there_and_back(name: str, tmp_path: Path) -> None:
    write(NETWORKS[name], tmp_path / "there.net")
    write(from_nir(to_nir(tmp_path / "there.net")), tmp_path / "back.net")
    assert read(tmp_path / "back.net") == read(tmp_path / "there.net")
    assert (tmp_path / "back.net").read_bytes() == (tmp_path / "there.net").read_bytes()


def test_a_graph_of_single_precision_comes_back_equal() -> None:
    graph = to_nir(NETWORKS["decays per neuron"])
    for node in graph.nodes.values():
        for key, value in vars(node).items():
            if isinstance(value, np.ndarray) and value.dtype == np.float64:
                setattr(node, key, value.astype(np.float32))
    assert from_nir(graph) == NETWORKS["decays per neuron"]


def test_parameters_have_the_stated_units() -> None:
    graph = to_nir(network(Dense(np.full((1, 6), 32), neuron(1024, 128, 80), np.array([3]), np.array([16]))), dt=0.001)
    assert list(map(type, graph.nodes.values())) == [nir.Input, nir.Linear, nir.Delay, nir.CubaLIF, nir.Output]
    cell = graph.nodes["dense1"]
    assert graph.nodes["dense1_weight"].weight[0, 0] == 0.5
    assert graph.nodes["dense1_delay"].delay[0] == pytest.approx(0.003)
    assert (cell.tau_syn[0], cell.w_in[0]) == (0.004, 4)
    assert (cell.tau_mem[0], cell.r[0]) == (0.032, 32)
    assert (cell.v_threshold[0], cell.v_leak[0], cell.v_reset[0]) == (1.25, 0.25 * 32, 0)


def test_lif_neurons_have_the_resistance_that_norse_takes() -> None:
    """Norse steps ``v += dt / tau * (v_leak - v + i)``, whatever ``r`` is."""
    graph = to_nir(NETWORKS["LIF"])
    weight, cell = graph.nodes["dense1_weight"].weight, graph.nodes["dense1"]
    assert (cell.r == 1).all()
    assert weight * DT / cell.tau[:, None] == pytest.approx(NETWORKS["LIF"].spiking["dense1"].weight / 64)
    spikes = np.random.default_rng(3).integers(0, 2, (4, 6, 50))
    voltage = np.zeros((4, 5), np.float32)
    fired = []
    for frame in np.moveaxis(spikes, -1, 0).astype(np.float32):
        voltage = voltage + np.float32(DT) / np.float32(cell.tau) * (frame @ weight.T.astype(np.float32) - voltage)
        fired.append(voltage > cell.v_threshold)
        voltage = np.where(fired[-1], np.float32(0), voltage)
    expected = reference.run(NETWORKS["LIF"], torch.from_numpy(spikes.astype(np.uint8)))["dense1"].numpy()
    assert 0.1 < expected.mean() < 0.9
    assert (np.stack(fired, axis=-1) != expected).mean() < 0.01


def test_lif_neurons_of_different_decays_keep_their_gain() -> None:
    """snnTorch takes one gain for a layer, silently that of its first neuron."""
    cell = to_nir(NETWORKS["LIF, decays per neuron"]).nodes["dense1"]
    assert cell.r * DT / cell.tau == pytest.approx(1)


DT = 1e-4


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.reads_voltage])
def test_the_equations_of_nir_give_the_membrane_potential(name: str) -> None:
    description = NETWORKS[name]
    spikes = (np.random.default_rng(1).random((8, *description.input_shape, 90)) < 0.3).astype(np.uint8)
    expected = simulate(description, spikes, delay_shift=False).output
    got = euler(to_nir(description, dt=DT), spikes, DT)
    assert np.abs(expected).max() > 5
    assert np.abs(expected - got).max() < 0.05 * np.abs(expected).max()  # Loihi cuts fractions off


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if not network.reads_voltage])
def test_the_equations_of_nir_give_the_rates_of_the_reference(name: str) -> None:
    description = NETWORKS[name]
    spikes = (np.random.default_rng(1).random((8, *description.input_shape, 90)) < 0.3).astype(np.uint8)
    layers = list(reference.run(description, torch.from_numpy(spikes)).values())
    expected = layers[-1].numpy()
    got = euler(to_nir(description, dt=DT), spikes, DT)
    if description.layers[-1].axon_delay is not None:
        for channel, steps in enumerate(description.layers[-1].axon_delay):
            expected[:, channel] = np.roll(expected[:, channel], steps, axis=-1)
            expected[:, channel, ..., :steps] = 0
    assert 0.01 < expected.mean() < 0.9
    assert (expected != got).mean() < 0.02  # Loihi cuts fractions off, NIR has real numbers
    assert abs(expected.mean() - got.mean()) < 0.01


RESONATOR = Resonator(weights(5, 6), weights(5, 6), ResonatorNeuron(64, np.array([9]), np.array([99]), "phase"))
REFUSED = {
    "resonator1.*resonator layer": network(RESONATOR),
    "dense1.*sigma-delta": network(Dense(weights(5, 6), SigmaDeltaNeuron(3))),
    "average2.*on the host": network(DENSE, Average((1,))),
    "dense1.*synapses has a delay of its own": network(
        Dense(weights(2, 2), neuron(), np.array([[0, 1], [1, 0]])), shape=(2,)
    ),
    "dense2.*bias sets in 1 steps before": network(DENSE, Dense(weights(3, 5), neuron(), bias=np.array([8, 9, 1]))),
    "dense1.*current that never decays": network(Dense(weights(5, 6), neuron(0))),
    "dense1.*voltage that never decays": network(Dense(weights(5, 6), neuron(9, 0))),
    "dense1.*v_threshold of 0 netx units.* 1 to 131071": network(Dense(weights(5, 6), neuron(threshold=0))),
    "dense1.*v_threshold of 131072 netx units": network(Dense(weights(5, 6), neuron(threshold=131072))),
    "dense1_delay.*0 to 62": network(Dense(weights(5, 6), neuron(), np.array([0, 63, 1, 2, 3]))),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_nir_cannot_hold_is_refused_by_name(message: str) -> None:
    with pytest.raises(ExportError, match=message):
        to_nir(REFUSED[message])


def test_what_is_no_network_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="`network` to be the path of a netx file or a NetworkDescription but got int"):
        to_nir(5)  # type: ignore[arg-type]


def graph_of(*nodes: Any) -> Any:
    names = ["input", *[f"node{index}" for index in range(len(nodes))], "output"]
    shape = nodes[-1].output_type["output"]
    every = [nir.Input(input_type=nodes[0].input_type["input"]), *nodes, nir.Output(output_type=shape)]
    nodes, edges = dict(zip(names, every, strict=True)), list(itertools.pairwise(names))
    return nir.NIRGraph(nodes, edges, metadata={"dt": DT}, type_check=False)


def lif(size: int = 2, **changes: Any) -> Any:
    values = {"tau": 1e-3, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **changes}
    return nir.LIF(**{key: np.broadcast_to(np.asarray(value), (size,)).copy() for key, value in values.items()})


def cuba(size: int = 2, **changes: Any) -> Any:
    values = {"tau_syn": 1.6e-3, "tau_mem": 1.6e-3, "r": 16.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0,
              "w_in": 16.0, **changes}  # fmt: skip
    return nir.CubaLIF(
        **{key: np.asarray(value) if np.ndim(value) else np.full(size, value) for key, value in values.items()}
    )


LINEAR = nir.Linear(weight=np.array([[1.0, 0.5], [-0.5, 2.0]]))
FINE = nir.Linear(weight=np.array([[1.0, 1 / 64], [1 / 64, 2.0]]))  # whole at 64 and its multiples
FOREIGN = {
    "node1.*v_reset is not 0 but up to 1": (LINEAR, cuba(v_reset=-1.0)),
    "node1.*v_threshold from 0.33 to 1 netx units; netx holds one": (
        nir.Linear(np.array([[1.0, np.pi], [1.0, 0.0]])), cuba(v_threshold=[1 / 64, 0.33 / 64]),
    ),
    "node1.*does not fit steps": (LINEAR, lif(tau=5e-5, r=0.5)),
    "node1.*tau is up to 0.4 away from a whole number of 1/4096 as a decay": (LINEAR, lif()),
    "node0.*weight is up to 0.0619 away from": (nir.Linear(weight=np.array([[np.pi, np.e]])), cuba(1)),
    "node1.*expected CubaLIF, LIF or IF neurons here but got Threshold": (LINEAR, nir.Threshold(np.ones(2))),
    "node0.*gives its membrane potential, and netx reads that of the last layer only": (
        nir.CubaLI(np.full(2, 1.6e-3), np.full(2, 1.6e-3), np.ones(2), np.zeros(2)), LINEAR, cuba(),
    ),
    "node0.*the graph ends": (LINEAR,),
    "node2.*the graph ends": (LINEAR, cuba(), LINEAR),
    "node1.*v_threshold of 0 netx units, which is 0 at a scale of 64": (LINEAR, cuba(v_threshold=0.0)),
    "node1.*v_threshold of 0 netx units, .* 1 to 131071": (LINEAR, cuba(v_threshold=[1.0, 0.0])),
    "node1.*v_threshold of -64 netx units, which is -1 at .* 1 to 131071": (LINEAR, cuba(v_threshold=-1.0)),
    "node1.*v_threshold of 131136 netx units, which is 2049 at": (LINEAR, cuba(v_threshold=2049.0)),
    "node1.*v_threshold holds values that are not finite: nan": (LINEAR, cuba(v_threshold=np.nan)),
    "node1.*tau_mem holds values that are not finite: nan": (LINEAR, cuba(tau_mem=np.nan)),
    "node1.*tau holds values that are not finite: inf": (LINEAR, lif(tau=np.inf)),
    "node1.*tau_syn from -0.0016 to -0.0016 s has to be positive": (LINEAR, cuba(tau_syn=-1.6e-3)),
    "node1.*tau_syn from 1e\\+09 .* does not fit steps": (LINEAR, cuba(tau_syn=1e9)),
    "node1.*v_leak holds values that are not finite": (LINEAR, cuba(v_leak=np.nan)),
    "node1.*v_reset holds values that are not finite": (LINEAR, cuba(v_reset=np.nan)),
    "node1.*its bias is 64000, outside of -32768 to 32767: Lava holds it in 16 bits": (FINE, cuba(v_leak=16_000.0)),
    "node1.*r holds values that are not finite: nan": (LINEAR, cuba(r=np.nan)),
    "node1.*w_in holds values that are not finite: inf": (LINEAR, cuba(w_in=np.inf)),
    "node0.*weight holds values that are not finite": (nir.Linear(np.array([[0.0, np.nan]])), cuba(1)),
    "node0.*weights of shape \\(2, 0\\)": (nir.Linear(np.zeros((2, 0))), cuba()),
    "node1.*delay of shape \\(3,\\) for neurons of shape \\(2,\\)": (LINEAR, nir.Delay(np.zeros(3)), cuba()),
    "node1.*v_threshold of shape \\(3,\\) for neurons of shape \\(2,\\)": (LINEAR, cuba(3)),
    "node1.*the delays of node0 and node2 add up to 63 steps; netx holds 0 to 62": (
        nir.Delay(np.array([4e-3, 0])),
        LINEAR,
        nir.Delay(np.array([2.3e-3, 0])),
        cuba(),
    ),
    "node1.*delay is up to 0.1 away from a whole number of steps": (
        LINEAR, nir.Delay(np.array([1e-5, 0])), lif(tau=1.6e-3, r=16.0),
    ),
}  # fmt: skip


def test_numbers_at_the_limit_of_netx_are_taken() -> None:
    linear = nir.Linear(weight=np.array([[255 / 64, -4.0]]))
    layer = from_nir(graph_of(linear, nir.Delay(np.array([62e-4])), cuba(1, v_threshold=131_071 / 64))).spiking[
        "dense1"
    ]
    assert layer.weight.tolist() == [[255, -256]]
    assert layer.delay.tolist() == [62]  # type: ignore[union-attr]
    assert layer.neuron.threshold == 131_071
    slowest = from_nir(graph_of(linear, cuba(1, tau_syn=0.4096, w_in=4096.0))).spiking["dense1"].neuron
    shortest = 4096e-4 / 4095  # of a time constant
    fastest = from_nir(graph_of(linear, cuba(1, tau_mem=shortest, r=4096 / 4095))).spiking["dense1"].neuron
    assert (slowest.current_decay.tolist(), fastest.voltage_decay.tolist()) == ([1], [4095])  # type: ignore[union-attr]


BEYOND = {
    "weights from 0 to 256 netx units; netx holds -256 to 255": (nir.Linear(np.array([[4.0, 1 / 64]])), cuba(1)),
    "weights from -257 to 0 netx units": (nir.Linear(np.array([[-257 / 64]])), cuba(1, v_threshold=1 / 64)),
    "delays from 63 to 63 steps; netx holds 0 to 62": (
        nir.Linear(np.ones((1, 1))), nir.Delay(np.array([63e-4])), cuba(1),
    ),
    "delays from -1 to -1 steps": (nir.Linear(np.ones((1, 1))), nir.Delay(np.array([-1e-4])), cuba(1)),
    "v_threshold of 131072 netx units": (nir.Linear(np.ones((1, 1))), cuba(1, v_threshold=2048.0)),
    "v_threshold of 131071.003 netx units": (nir.Linear(np.ones((1, 1))), cuba(1, v_threshold=131071.003 / 64)),
    "tau_syn from 409.6 .* does not fit steps": (nir.Linear(np.ones((1, 1))), cuba(1, tau_syn=409.6)),
    "tau_mem from 0.0001 .* decays from 4096 to 4096 in 1/4096, and Loihi holds 1 to 4095": (
        nir.Linear(np.ones((1, 1))), cuba(1, tau_mem=1e-4, r=1.0),
    ),
    "tau_syn from 9.99756e-05 .* decays from 4097 to 4097 in 1/4096, and Loihi holds 1 to 4096": (
        nir.Linear(np.ones((1, 1))), cuba(1, tau_syn=4096e-4 / 4097, w_in=4096 / 4097),
    ),
    "weight is up to 0.0021 away from a whole number": (nir.Linear(np.array([[(1 + 2.1e-3) / 64, 254 / 64]])), cuba(1)),
}  # fmt: skip


@pytest.mark.parametrize("message", BEYOND)
def test_numbers_just_beyond_are_refused(message: str) -> None:
    with pytest.raises(NetxFormatError, match=message):
        from_nir(graph_of(*BEYOND[message]))


ALWAYS = [message for message in (*BEYOND, *FOREIGN) if "away from" not in message and "netx holds one" not in message]


@pytest.mark.parametrize("message", ALWAYS)
def test_what_is_out_of_range_is_refused_whatever_may_be_rounded(message: str) -> None:
    with pytest.raises(NetxFormatError, match=message):
        from_nir(graph_of(*{**BEYOND, **FOREIGN}[message]), scale=64, rounding="nearest")


def test_numbers_that_are_whole_but_for_single_precision_are_taken() -> None:
    layer = from_nir(graph_of(nir.Linear(np.array([[(1 + 1.9e-3) / 64]])), cuba(1))).spiking["dense1"]
    assert layer.weight.tolist() == [[1]]


@pytest.mark.parametrize("message", FOREIGN)
def test_what_netx_cannot_hold_is_refused_by_name(message: str) -> None:
    with pytest.raises(NetxFormatError, match=message):
        from_nir(graph_of(*FOREIGN[message]))


def test_graphs_that_are_no_chain_are_refused() -> None:
    graph = graph_of(LINEAR, lif())
    graph.edges.append(("node1", "node0"))
    with pytest.raises(NetxFormatError, match=r"node0.*takes from more than one node"):
        from_nir(graph)
    graph = graph_of(LINEAR, lif())
    graph.nodes["aside"] = lif()
    with pytest.raises(NetxFormatError, match=r"aside.*is not on the way from the input to the output"):
        from_nir(graph)
    with pytest.raises(NetxFormatError, match="no such file"):
        from_nir("nowhere.nir")
    with pytest.raises(NetxFormatError, match="Expected a nir"):
        from_nir(3)


def test_foreign_numbers_can_be_rounded() -> None:
    graph = graph_of(nir.Linear(weight=np.array([[0.1, -0.9]])), lif(1, tau=3.3e-3, r=33.0))
    description = from_nir(graph, scale=64, rounding="nearest")
    layer = description.spiking["dense1"]
    assert layer.weight.tolist() == [[6, -58]]
    assert layer.neuron.voltage_decay.tolist() == [124]


def test_texts_of_a_file_that_are_no_utf8_go_through(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    write(NETWORKS["dense"], path)
    with h5py.File(path, "r+") as file:
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(4)
        made = h5py.h5a.create(file["lava_spikeloss"].id, b"na\xefve", kind, h5py.h5s.create(h5py.h5s.SCALAR))
        made.write(np.array(b"\xe9t\xe9", "S4"))
    nir.write(tmp_path / "a.nir", to_nir(read(path)))
    assert from_nir(tmp_path / "a.nir").metadata == {r"na\xefve": r"\xe9t\xe9"}


DAMAGED = {
    "NIR node 'rnn.1': is of the type 'Izhikevich', which the installed nir .* does not know": ("type", "Izhikevich"),
    "NIR node 'rnn.1': its parameters make no CubaLIF .*'tau_mem'": ("tau_mem", None),
    "NIR node 'rnn.1': its parameters make no CubaLIF": ("tau_mem", "x"),
    "NIR node 'rnn.1': has no type": ("type", None),
}


@pytest.mark.parametrize("message", DAMAGED)
def test_a_node_of_a_file_that_is_none_is_told_by_its_name(message: str, tmp_path: Path) -> None:
    key, value = DAMAGED[message]
    inner = {"input": nir.Input(np.array([2])), "1": cuba(), "output": nir.Output(np.array([2]))}
    nested = nir.NIRGraph(inner, [("input", "1"), ("1", "output")], type_check=False)
    outer = {"input": nir.Input(np.array([2])), "rnn": nested, "output": nir.Output(np.array([2]))}
    nir.write(tmp_path / "a.nir", nir.NIRGraph(outer, [("input", "rnn"), ("rnn", "output")], type_check=False))
    with h5py.File(tmp_path / "a.nir", "r+") as file:
        node = file["node/nodes/rnn/nodes/1"]
        del node[key]
        if value is not None:
            node[key] = value
    with pytest.raises(NetxFormatError, match=f"a.nir: {message}"):
        from_nir(tmp_path / "a.nir", dt=DT)


@pytest.mark.parametrize(
    "names",
    [
        ("fc/1", "fc/2"), ("a.b", "a"), ("ü", "  "), ("0", "fc/lif/0"), ("fc", "fc/1"),
        ("fc", "fc/a/b"), ("fc", "fc/nodes"),
        ("fc/type", "lif"), ("fc/type/1", "fc/type/2"), ("fc/type", "fc/lif"),
    ],
)  # fmt: skip
def test_names_of_nodes_do_not_matter(names: tuple[str, str], tmp_path: Path) -> None:
    """HDF5 makes a slash in a name a group."""
    expected = from_nir(graph_of(LINEAR, cuba()))
    graph = graph_of(LINEAR, cuba())
    new = {"node0": names[0], "node1": names[1]}
    graph.nodes = {new.get(name, name): node for name, node in graph.nodes.items()}
    graph.edges = [tuple(new.get(end, end) for end in edge) for edge in graph.edges]
    assert from_nir(graph) == expected
    nir.write(tmp_path / "a.nir", graph)
    assert from_nir(tmp_path / "a.nir") == expected


def test_a_nir_file_that_is_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(NetxFormatError, match=r"a directory, not a file\. Give the path of a NIR file"):
        from_nir(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[false, true, true]", "[true]", "does not fit its nodes"),
        ('"axon_delay": {}', '"axon_delay": {"2": [1, 2]}', "does not fit its nodes"),
        ('"axon_delay": {}', '"axon_delay": {"2": [-1, 2, 3]}', "does not fit its nodes"),
        ('"output_shape": {}', '"output_shape": {"2": [2]}', "does not fit its nodes"),
        ('"dt": 0.0001', '"dt": [1]', "is none of to_nir's"),
        ('"scale": 64', '"scale": "x"', "is none of to_nir's"),
        ('"scale": 64', '"scale": 0', "is none of to_nir's"),
        ('"dt": 0.0001', '"dt": -1', "is none of to_nir's"),
        ('"dt": 0.0001', '"dt": NaN', "is none of to_nir's"),
        ('"dt": 0.0001', f'"dt": 1{400 * "0"}', "is none of to_nir's"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(old: str, new: str, message: str) -> None:
    graph = to_nir(NETWORKS["dense"])
    changed = graph.metadata["lava_spikeloss"].replace(old, new)
    assert changed != graph.metadata["lava_spikeloss"]
    graph.metadata["lava_spikeloss"] = changed
    with pytest.raises(NetxFormatError, match=message):
        from_nir(graph)


def test_a_delay_of_the_output_that_was_changed_or_added_is_not_overruled_by_the_metadata() -> None:
    delayed = to_nir(NETWORKS["delay of the output"])
    delayed.nodes["dense1_output_delay"].delay = np.full(5, 5 * DT)
    added = to_nir(NETWORKS["dense"])
    last = next(source for source, target in added.edges if target == "output")
    added.nodes["late"] = nir.Delay(delay=np.full(3, 2 * DT))
    added.edges = [*(edge for edge in added.edges if edge[1] != "output"), (last, "late"), ("late", "output")]
    for graph, steps in ((delayed, 5), (added, 2)):
        with pytest.raises(NetxFormatError, match=r"metadata `lava_spikeloss` does not fit its nodes.* Remove it"):
            from_nir(graph)
        graph.metadata = {}
        delay = from_nir(graph, dt=DT).layers[-1].axon_delay  # type: ignore[union-attr]
        assert (delay == steps).all()


def test_a_bias_behind_a_layer_that_slayer_shifts_is_not_taken_for_one_that_sets_in_early() -> None:
    """The graph's notes on shifts are of the network before the bias was put in."""
    graph = to_nir(network(Dense(weights(5, 6), neuron()), Dense(weights(3, 5), neuron())))
    graph.nodes["dense2"].v_leak = np.full(3, 4096 / 128)
    with pytest.raises(NetxFormatError, match=r"metadata `lava_spikeloss` does not fit its nodes.* Remove it"):
        from_nir(graph)
    graph.metadata = {}
    description = from_nir(graph, dt=DT)
    assert (description.spiking["dense2"].bias == 64).all()  # type: ignore[union-attr]
    assert description.lead == 0


@pytest.mark.parametrize("bad", [0, -1.0, np.nan, np.inf, "1", True, [1], 10**400])
@pytest.mark.parametrize("argument", ["dt", "scale"])
def test_a_step_or_scale_that_is_no_positive_number_is_a_value_error(argument: str, bad: Any) -> None:
    for call in (to_nir, from_nir):
        with pytest.raises(ValueError, match=f"Expected argument `{argument}` to be a positive number but got"):
            call(NETWORKS["dense"] if call is to_nir else to_nir(NETWORKS["dense"]), **{argument: bad})


def test_complex_weights_are_no_numbers() -> None:
    with pytest.raises(NetxFormatError, match="'node0': weight holds no numbers"):
        from_nir(graph_of(nir.Linear(np.array([[1 + 2j, 1]])), cuba(1)))


# snnTorch is a peer, not a dependency: a test environment need not have it.
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ["snntorch", "nirtorch"])), reason="needs snntorch and nirtorch"
)
@pytest.mark.parametrize("name", ["dense", "LIF", "conv", "recurrent"])
def test_snntorch_gives_the_same_rates(name: str) -> None:
    from snntorch.import_nir import import_from_nir

    description = NETWORKS[name]
    spikes = (np.random.default_rng(2).random((16, *description.input_shape, 100)) < 0.3).astype(np.uint8)
    expected = list(reference.run(description, torch.from_numpy(spikes)).values())[-1].numpy()
    module = import_from_nir(to_nir(description))
    got = np.zeros_like(expected)
    with torch.no_grad():
        for sample, frames in enumerate(torch.from_numpy(spikes).float()):  # its Flatten counts axes without a batch
            for neurons in module.modules():
                getattr(neurons, "reset_mem", lambda: None)()  # else they go on where the last sample ended
            state = None
            for step in range(frames.shape[-1]):
                out, state = module(frames[..., step], state)
                got[sample, ..., step] = out
    rates, others = expected.mean((0, 2)), got.mean((0, 2))
    assert rates.max() > 0.05
    assert np.abs(rates - others).max() < 0.01


# Norse is one too; the extra `peers` has both, and the weekly workflow installs it.
@pytest.mark.skipif(not all(map(importlib.util.find_spec, ["norse", "nirtorch"])), reason="needs norse and nirtorch")
@pytest.mark.parametrize("name", ["dense", "LIF", "IF", "conv", "conv with LIF and bias", "recurrent"])
def test_norse_gives_the_same_spikes(name: str) -> None:
    import norse.torch

    description = NETWORKS[name]
    spikes = (np.random.default_rng(2).random((16, *description.input_shape, 100)) < 0.3).astype(np.uint8)
    expected = list(reference.run(description, torch.from_numpy(spikes)).values())[-1].numpy()
    module = norse.torch.from_nir(to_nir(description, dt=1e-3), dt=1e-3)
    got = np.zeros_like(expected)
    with torch.no_grad():
        for sample, frames in enumerate(torch.from_numpy(spikes).float()):  # its Flatten counts axes without a batch
            state = None
            for step in range(frames.shape[-1]):
                out, state = module(frames[..., step], *([] if state is None else [state]))
                got[sample, ..., step] = out
    assert 0.05 < expected.mean() < 0.9
    assert (expected != got).mean() < 2e-3
