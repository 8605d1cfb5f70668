"""Graphs in the forms that other frameworks write: converted they fire as NIR's equations say, or are refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netx_export import ExportError, NetworkDescription, NetxFormatError, read, simulate
from netx_export.file.netx import write
from netx_export.network.description import Flatten
from netx_export.nir import Rounding, from_nir, roundings
from netx_export.simulation import reference

nir = pytest.importorskip("nir")
from nir_equations import euler  # noqa: E402

DT = 1e-4
rng = np.random.default_rng(5)


def chain(*nodes: Any, shape: tuple[int, ...], output: tuple[int, ...], **options: Any) -> Any:
    names = ["input", *map(str, range(len(nodes))), "output"]
    every = [nir.Input(input_type=np.array(shape)), *nodes, nir.Output(output_type=np.array(output))]
    edges = list(itertools.pairwise(names))
    return nir.NIRGraph(dict(zip(names, every, strict=True)), edges, type_check=False, **options)


def spikes_for(graph: Any, rate: float = 0.3, steps: int = 60) -> np.ndarray:
    shape = next(node for node in graph.nodes.values() if isinstance(node, nir.Input)).input_type["input"]
    return (np.random.default_rng(1).random((8, *shape, steps)) < rate).astype(np.uint8)


def agree(graph: Any, description: NetworkDescription, *, dt: float = DT, differing: float = 0.02) -> None:
    """Loihi cuts off fractions, so that a few spikes may differ; a wrong gain, delay or order changes most."""
    spikes = spikes_for(graph)
    expected = euler(graph, spikes, dt)
    got = list(reference.run(description, torch.from_numpy(spikes)).values())[-1].numpy().reshape(expected.shape)
    assert 0.02 < expected.mean() < 0.9
    assert (expected != got).mean() <= differing


def even(*shape: int, high: int = 12) -> np.ndarray:
    """Weights that are whole numbers of 1/8."""
    return rng.integers(-high // 2, high, shape) / 8


def single(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def lif(*shape: int, tau: float = 1.6e-3, gain: float = 1.0, threshold: Any = 2.0, leak: Any = 0.0) -> Any:
    full = lambda value: np.broadcast_to(np.asarray(value, np.float64), shape).copy()  # noqa: E731
    return nir.LIF(full(tau), full(gain * tau / DT), full(leak), full(threshold))


def cuba(*shape: int, tau: float = 8e-4, gain: float = 1.0, threshold: Any = 4.0, leak: Any = 0.0) -> Any:
    full = lambda value: np.broadcast_to(np.asarray(value, np.float64), shape).copy()  # noqa: E731
    w_in = gain * 4
    return nir.CubaLIF(full(4e-4), full(tau), full(tau / DT), full(leak), full(threshold), w_in=full(w_in))


LINEAR = nir.Linear(even(5, 6))
IMAGE = nir.Conv2d(None, even(4, 2, 3, 3, high=5), 1, 1, 1, 1, np.zeros(4))
PLAIN = nir.Conv2d(None, even(4, 2, 3, 3, high=5), 1, 0, 1, 1, np.zeros(4))
SUMS = nir.Conv2d(None, np.ones((2, 4, 1, 1)), 1, 0, 1, 1, np.zeros(2))
EXACT = {
    "scalars, as snnTorch writes them": chain(
        LINEAR, nir.LIF(single(1.6e-3), single(16), single(0), single(4)), shape=(6,), output=(5,)
    ),
    "single numbers": chain(LINEAR, lif(1), shape=(6,), output=(5,)),
    "scalars of a current": chain(
        LINEAR, nir.CubaLIF(*map(single, [4e-4, 8e-4, 8, 0, 8]), w_in=single(4)), shape=(6,), output=(5,)
    ),
    "r = 1, as norse writes it": chain(LINEAR, lif(5, gain=1 / 16, threshold=0.25), shape=(6,), output=(5,)),
    "w_in = 1": chain(LINEAR, cuba(5, gain=0.25, threshold=2.0), shape=(6,), output=(5,)),
    "IF with r = 1, as sinabs writes it": chain(LINEAR, nir.IF(np.ones(5), np.full(5, 4.0)), shape=(6,), output=(5,)),
    "a scale before the weights": chain(nir.Scale(np.full(6, 2.0)), LINEAR, lif(5), shape=(6,), output=(5,)),
    "scales around the weights": chain(
        nir.Scale(np.arange(1, 7) / 4), LINEAR, nir.Scale(np.array([1, 2, 0.5, 1, 1])), lif(5), shape=(6,), output=(5,)
    ),
    "two matrices": chain(LINEAR, nir.Linear(np.eye(3, 5)), lif(3, threshold=1.0), shape=(6,), output=(3,)),
    "no weights at all": chain(lif(6, threshold=2.0), shape=(6,), output=(6,)),
    "images without weights": chain(lif(2, 4, 4, threshold=2.0), shape=(2, 4, 4), output=(2, 4, 4)),
    "thresholds per neuron": chain(LINEAR, lif(5, threshold=[1, 2, 4, 2, 1]), shape=(6,), output=(5,)),
    "thresholds per channel": chain(
        IMAGE, lif(4, 6, 6, threshold=np.array([1, 2, 4, 2]).reshape(4, 1, 1)), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "one threshold per channel": chain(
        IMAGE, nir.LIF(*[np.full((4, 1, 1), value) for value in (1.6e-3, 16, 0, 4)]), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "another scale than 64": chain(
        nir.Linear(np.array([[0.1, -0.3, 0.7]])), lif(1, threshold=1.0), shape=(3,), output=(1,)
    ),
    "weights beyond 4": chain(
        nir.Linear(np.array([[10.0, -3.0, 7.0]])), lif(1, threshold=11.0), shape=(3,), output=(1,)
    ),
    "a leak": chain(LINEAR, lif(5, leak=[8, 0, 4, -8, 16]), shape=(6,), output=(5,)),
    "a bias of LIF": chain(nir.Affine(even(5, 6), np.arange(5) / 8), lif(5), shape=(6,), output=(5,)),
    "a bias of LIF with r = 1": chain(
        nir.Affine(even(5, 6), np.arange(5) / 8), lif(5, gain=1 / 16, threshold=0.25), shape=(6,), output=(5,)
    ),
    "a bias of CubaLIF whose current decays at once": chain(
        nir.Affine(even(5, 6), np.arange(5) / 8),
        nir.CubaLIF(*[np.full(5, value) for value in (1e-4, 8e-4, 8, 0, 4)], w_in=np.ones(5)),
        shape=(6,), output=(5,),
    ),
    "sum pool, then convolution": chain(
        nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])), IMAGE, lif(4, 3, 3, threshold=8.0),
        shape=(2, 6, 6), output=(4, 3, 3),
    ),
    "overlapping pool, then convolution": chain(
        nir.SumPool2d(3, 2, 1), PLAIN, lif(4, 2, 2, threshold=8.0), shape=(2, 8, 8), output=(4, 2, 2)
    ),
    "convolution, then average pool": chain(
        nir.Conv2d(None, even(4, 1, 3, 2, high=5), (2, 1), (1, 0), (1, 2), 2, np.arange(4) / 8),
        nir.AvgPool2d(2, 2, 0), lif(4, 2, 3), shape=(2, 9, 8), output=(4, 2, 3),
    ),
    "two convolutions": chain(
        PLAIN, nir.Conv2d(None, rng.integers(-1, 3, (2, 2, 2, 2)).astype(float), 2, 0, 1, 2, np.zeros(2)),
        lif(2, 2, 2, threshold=8.0), shape=(2, 7, 7), output=(2, 2, 2),
    ),
    "pool, flatten, weights": chain(
        nir.AvgPool2d(2, 2, 0), nir.Flatten(np.array([2, 3, 3]), 0), nir.Linear(even(5, 18)), lif(5, threshold=2.0),
        shape=(2, 7, 6), output=(5,),
    ),
    "convolution with bias, flatten, weights": chain(
        nir.Conv2d(None, even(4, 2, 3, 3, high=5), 1, 1, 1, 1, np.arange(4) / 32.0), nir.Flatten(None, 0),
        nir.Linear(rng.integers(-1, 3, (5, 64)).astype(float)), lif(5, threshold=8.0), shape=(2, 4, 4), output=(5,),
    ),
    "flatten that counts the batch": chain(
        nir.Flatten(np.array([2, 3, 3]), 1), nir.Linear(even(5, 18)), lif(5, threshold=4.0),
        shape=(2, 3, 3), output=(5,),
    ),
    "an input with a batch of one": chain(LINEAR, lif(5), shape=(1, 6), output=(5,)),
    "neurons with a batch of one": chain(lif(1, 6), shape=(1, 6), output=(1, 6)),
    "a scale and neurons with a batch of one": chain(
        nir.Scale(np.arange(1.0, 7).reshape(1, 6)), lif(1, 6, threshold=6.0), shape=(1, 6), output=(1, 6)
    ),
    "convolution, flatten, neurons": chain(
        PLAIN, nir.Flatten(np.array([4, 2, 2]), 0), lif(16), nir.Linear(even(3, 16)), lif(3),
        shape=(2, 4, 4), output=(3,),
    ),
    "padding by name": chain(
        nir.Conv2d(None, even(4, 2, 3, 5, high=5), 1, "same", 1, 1, np.zeros(4)), lif(4, 6, 6),
        nir.Conv2d(None, even(2, 4, 2, 3, high=5), 1, "valid", 1, 1, np.zeros(2)), lif(2, 5, 4),
        shape=(2, 6, 6), output=(2, 5, 4),
    ),
    "a leak of an image": chain(IMAGE, lif(4, 6, 6, leak=8.0), shape=(2, 6, 6), output=(4, 6, 6)),
    "delays of scalars": chain(LINEAR, nir.Delay(single(3e-4)), lif(5), shape=(6,), output=(5,)),
    "a bias of the neurons whose currents decay at once": chain(
        nir.Affine(even(2, 6), np.array([0, 0.5])),
        nir.CubaLIF(np.array([4e-4, 1e-4]), *[np.full(2, value) for value in (8e-4, 8, 0, 4)], w_in=np.array([4.0, 1])),
        shape=(6,), output=(2,),
    ),
    "an even kernel with padding by name": chain(
        nir.Conv2d(None, even(4, 2, 2, 4, high=5), 1, "same", 1, 1, np.arange(4) / 8), lif(4, 5, 6),
        shape=(2, 5, 6), output=(4, 5, 6),
    ),
    "an even kernel, dilated, in groups, with padding by name": chain(
        nir.Conv2d((7, 7), even(4, 1, 2, 3, high=5), 1, "same", (3, 2), 2, np.zeros(4)), lif(4, 7, 7),
        shape=(2, 7, 7), output=(4, 7, 7),
    ),
    "a scale of each value of an image, flatten, weights": chain(
        nir.Scale(np.arange(1.0, 19).reshape(2, 3, 3) / 4), nir.Flatten(np.array([2, 3, 3]), 0),
        nir.Linear(even(5, 18, high=4) * 2), lif(5, threshold=16.0), shape=(2, 3, 3), output=(5,),
    ),
    "convolution with a bias, scale of each value, flatten, weights": chain(
        nir.Conv2d(None, even(4, 2, 3, 3, high=5), 1, 0, 1, 1, np.arange(4) / 32.0), nir.Scale(np.full((4, 2, 2), 2.0)),
        nir.Scale(1 + np.arange(16).reshape(4, 2, 2) % 2), nir.Flatten(None, 0),
        nir.Linear(rng.integers(-1, 3, (5, 16)).astype(float)), lif(5, threshold=24.0), shape=(2, 4, 4), output=(5,),
    ),
    "a scale, then a convolution": chain(
        nir.Scale(np.array([1.0, 2]).reshape(2, 1, 1)), IMAGE, nir.Scale(np.array([1, 2, 0.5, 1]).reshape(4, 1, 1)),
        lif(4, 6, 6), shape=(2, 6, 6), output=(4, 6, 6),
    ),
    "delays by no step, where none can be": chain(
        nir.Delay(np.zeros((2, 6, 6))), IMAGE, nir.Delay(single(0)), lif(4, 6, 6, threshold=4.0), nir.Flatten(None, 0),
        nir.Affine(even(5, 144, high=8), np.ones(5)), nir.Delay(np.zeros(5)), nir.Linear(np.eye(3, 5)),
        lif(3, threshold=16.0), shape=(2, 6, 6), output=(3,),
    ),
    "delays by no step between matrices, steps behind them": chain(
        LINEAR, nir.Delay(np.zeros(5)), nir.Linear(np.eye(3, 5)), nir.Delay(np.array([1, 0, 2]) * DT), lif(3),
        shape=(6,), output=(3,),
    ),
    "delays by no step of what a convolution gives": chain(
        PLAIN, nir.Delay(np.zeros((4, 4, 4))), SUMS, nir.Delay(single(0)), nir.Flatten(None, 0),
        nir.Linear(np.eye(5, 32)), nir.Delay(np.arange(5) * DT), lif(5), shape=(2, 6, 6), output=(5,),
    ),
}  # fmt: skip
# Graphs that the library does not write: numbers without an axis, and convolutions before it has inferred their types.
UNWRITTEN = {
    name
    for name, graph in EXACT.items()
    for node in graph.nodes.values()
    if isinstance(node, nir.Conv2d)
    or any(np.ndim(value) == 0 for value in vars(node).values() if isinstance(value, np.ndarray))
}
STEPS = {"IF with r = 1, as sinabs writes it": 1.0}


@pytest.mark.parametrize("name", EXACT)
def test_a_graph_that_netx_can_express_is_converted_exactly(name: str, tmp_path: Path) -> None:
    graph, dt = EXACT[name], STEPS.get(name, DT)
    description = from_nir(graph, dt=dt)
    assert roundings(description) == ()
    agree(graph, description, dt=dt)
    assert from_nir(graph, dt=dt, rounding="nearest") == description
    if name not in UNWRITTEN:
        nir.write(tmp_path / "graph.nir", graph)
        assert from_nir(tmp_path / "graph.nir", dt=dt) == description


@pytest.mark.parametrize("rounding", ["refuse", "nearest"])
def test_without_a_scale_currents_get_one_at_which_they_cannot_wrap_around(rounding: str) -> None:
    """At 64 all numbers would be whole too, but 900 spikes at once would wrap the current around."""
    graph = chain(nir.Linear(np.full((1, 900), 2.0)), cuba(1, threshold=1000.0), shape=(900,), output=(1,))
    spikes = np.ones((1, 900, 20), np.uint8)
    description = from_nir(graph, dt=DT, rounding=rounding)
    assert roundings(description) == ()
    assert simulate(description, spikes).output.sum() == euler(graph, spikes, DT).sum() == 20
    asked = from_nir(graph, dt=DT, scale=64)
    assert asked.spiking["dense1"].neuron.threshold == 64000  # type: ignore[union-attr]
    unknown = chain(nir.Linear(np.array([[2.0, *[255 / 64] * 899]])), graph.nodes["1"], shape=(900,), output=(1,))
    assert from_nir(unknown, dt=DT).spiking["dense1"].neuron.threshold == 64000  # type: ignore[union-attr]


def test_a_scale_at_which_the_bias_is_whole_too_is_found_among_many_for_the_weights() -> None:
    graph = chain(
        nir.Affine(np.array([[1 / 100]]), np.array([1 / 13100])), lif(1, threshold=1.0), shape=(1,), output=(1,)
    )
    layer = from_nir(graph, dt=DT).spiking["dense1"]
    assert layer.bias is not None  # type: ignore[union-attr]
    assert (layer.weight[0, 0], layer.bias[0], layer.neuron.threshold) == (131, 1, 13100)  # type: ignore[union-attr]


def recurrent(cell: Any, back: Any, inner: tuple[str, str] = ("lif", "w_rec"), nested: bool = False) -> Any:
    """``fc``, a layer that leads back to itself, ``out``; as snnTorch writes it nested."""
    neurons, weights = inner
    shape = {"input": nir.Input(np.array([4])), "output": nir.Output(np.array([4]))}
    outer = {"input": nir.Input(np.array([6])), "output": nir.Output(np.array([3]))}
    ends = {"fc": nir.Linear(FORWARD), "out": nir.Linear(OUT), "last": lif(3)}
    loop = [(neurons, weights), (weights, neurons)]
    if nested:
        inside = nir.NIRGraph(
            {neurons: cell, weights: back, **shape}, [("input", neurons), *loop, (neurons, "output")], type_check=False
        )
        nodes = {**outer, **ends, "rnn": inside}
        edges = [("input", "fc"), ("fc", "rnn"), ("rnn", "out"), ("out", "last"), ("last", "output")]
    else:
        nodes = {**outer, **ends, neurons: cell, weights: back}
        edges = [("input", "fc"), ("fc", neurons), *loop, (neurons, "out"), ("out", "last"), ("last", "output")]
    return nir.NIRGraph(nodes, edges, type_check=False)


FORWARD, BACK, OUT = even(4, 6), even(4, 4, high=6), even(3, 4)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("cell", [lif(4), cuba(4), lif(1), lif(4, gain=1 / 16, threshold=[0.25, 0.5, 0.25, 0.125])])
@pytest.mark.parametrize("back", [nir.Linear(BACK), nir.Linear(np.diag([1.0, -1, 2, 0.5]))])
def test_what_leads_back_to_itself_becomes_a_recurrent_layer(nested: bool, cell: Any, back: Any) -> None:
    graph = recurrent(cell, back, nested=nested)
    description = from_nir(graph, dt=DT)
    assert [layer.kind for layer in description.layers] == ["input", "recurrent", "dense"]
    agree(graph, description)


def test_a_bias_on_the_way_back_is_added() -> None:
    graph = recurrent(lif(4), nir.Affine(BACK, np.array([0.5, 0.25, 1, 0])), nested=True)
    description = from_nir(graph, dt=DT)
    assert description.spiking["recurrent1"].bias.tolist() == [32, 16, 64, 0]  # type: ignore[union-attr]
    agree(graph, description)


def test_an_edge_from_neurons_to_themselves_is_a_weight_of_one() -> None:
    graph = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    graph.edges.append(("1", "1"))
    assert (from_nir(graph, dt=DT).spiking["recurrent1"].recurrent_weight == 64 * np.eye(5)).all()  # type: ignore[union-attr]


def test_nested_graphs_without_a_loop_are_unfolded(tmp_path: Path) -> None:
    inner = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    twice = chain(inner, shape=(6,), output=(5,))
    outer = chain(twice, nir.Linear(OUT[:, :1] * np.ones((3, 5))), lif(3), shape=(6,), output=(3,))
    flat = chain(LINEAR, lif(5), outer.nodes["1"], lif(3), shape=(6,), output=(3,))
    assert from_nir(outer, dt=DT) == from_nir(flat, dt=DT)
    nir.write(tmp_path / "graph.nir", outer)
    assert from_nir(tmp_path / "graph.nir", dt=DT) == from_nir(flat, dt=DT)
    outer.nodes["0"].nodes["0"].nodes["1"].tau[:] = np.nan
    with pytest.raises(NetxFormatError, match=r"NIR node '0\.0\.1': tau holds values that are not finite: nan"):
        from_nir(outer, dt=DT)


def test_a_nested_graph_whose_kernels_are_not_square_is_read_from_a_file(tmp_path: Path) -> None:
    """The library's own reader checks nested graphs, and takes kernels to be square."""
    flat = chain(
        nir.Conv2d((6, 6), even(4, 2, 1, 3), 1, 0, 1, 1, np.zeros(4)), lif(4, 6, 4), shape=(2, 6, 6), output=(4, 6, 4)
    )
    nir.write(tmp_path / "graph.nir", chain(flat, shape=(2, 6, 6), output=(4, 6, 4)))
    assert from_nir(tmp_path / "graph.nir", dt=DT) == from_nir(flat, dt=DT)


def test_a_node_whose_name_begins_with_that_of_a_nested_graph_is_read_from_a_file(tmp_path: Path) -> None:
    """HDF5 puts it into the graph's group."""
    inner = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    graph = chain(inner, nir.Linear(np.eye(5) * 4), lif(5), shape=(6,), output=(5,))
    graph.nodes["0/1"] = graph.nodes.pop("1")
    graph.edges = [tuple("0/1" if end == "1" else end for end in edge) for edge in graph.edges]
    nir.write(tmp_path / "graph.nir", graph)
    assert from_nir(tmp_path / "graph.nir", dt=DT) == from_nir(graph, dt=DT)


def test_an_edge_without_its_node_is_told_with_the_node_that_may_be_meant() -> None:
    """Two of the NIR paper's files are like this."""
    graph = recurrent(lif(4), nir.Linear(BACK), nested=True)
    graph.nodes["rnn"].nodes["lif1"] = graph.nodes["rnn"].nodes.pop("lif")
    with pytest.raises(
        NetxFormatError, match=r"An edge inside of 'rnn' goes from 'input' to 'lif'.* no node 'lif'. 'lif1'"
    ):
        from_nir(graph, dt=DT)


def test_an_edge_that_is_there_twice_is_refused() -> None:
    graph = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    graph.edges.append(("0", "1"))
    with pytest.raises(NetxFormatError, match="edge from '0' to '1' is there twice"):
        from_nir(graph, dt=DT)


@pytest.mark.parametrize(
    "bad",
    [
        (),
        [],
        np.array(["0", "1", "output"]),
        (["0"], "1"),
        ("0", None),
        (("0",), ("1",)),
        "01",
        None,
        1,
        np.array("01"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("nested", [False, True])
def test_an_edge_that_is_not_of_two_names_is_refused(bad: Any, nested: bool) -> None:
    graph = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    graph.edges.append(bad)
    outer = chain(graph, shape=(6,), output=(5,)) if nested else graph
    where = " inside of '0'" if nested else ""
    with pytest.raises(NetxFormatError, match=f"Expected an edge{where} to be the names of two nodes but got "):
        from_nir(outer, dt=DT)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("step", [DT, None])
def test_edges_that_can_be_read_only_once_are_refused_unread(step: float | None, nested: bool) -> None:
    graph = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    graph.edges = (edge for edge in graph.edges)
    outer = chain(graph, shape=(6,), output=(5,)) if nested else graph
    with pytest.raises(NetxFormatError, match=r"Expected the edges.* to be a list but got a generator\. Make a list"):
        from_nir(outer, dt=step)
    assert len(list(graph.edges)) == 3


@pytest.mark.parametrize("bad", [None, "01", 1, np.array("01")], ids=repr)
def test_edges_that_are_no_list_are_refused(bad: Any) -> None:
    graph = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    graph.edges = bad
    with pytest.raises(NetxFormatError, match="edges"):
        from_nir(chain(graph, shape=(6,), output=(5,)), dt=DT)
    with pytest.raises(NetxFormatError, match="edges"):
        from_nir(graph, dt=DT)


@pytest.mark.parametrize(
    "kind", [set, tuple, np.array, lambda edges: list(map(list, edges)), lambda edges: dict(edges).items()]
)
def test_edges_may_be_kept_in_any_form(kind: Any) -> None:
    graph = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    expected = from_nir(graph, dt=DT)
    graph.edges = kind(graph.edges)
    assert from_nir(graph, dt=DT) == expected


def branching() -> Any:
    graph = chain(LINEAR, lif(5), nir.Linear(np.eye(5)), lif(5), shape=(6,), output=(5,))
    graph.nodes["aside"] = nir.Linear(np.eye(5))
    graph.edges += [("1", "aside"), ("aside", "3")]
    return graph


def long_loop() -> Any:
    graph = chain(LINEAR, lif(5), nir.Linear(np.eye(5)), lif(5), shape=(6,), output=(5,))
    graph.nodes["back"] = nir.Linear(np.eye(5))
    graph.edges += [("3", "back"), ("back", "1")]
    return graph


def with_two_loops() -> Any:
    graph = recurrent(lif(4), nir.Linear(BACK))
    graph.nodes["more"] = nir.Linear(BACK)
    graph.edges += [("lif", "more"), ("more", "lif")]
    return graph


def in_a_loop(*nodes: Any) -> Any:
    graph = recurrent(lif(4), nodes[0])
    for index, node in enumerate(nodes[1:]):
        last = "w_rec" if index == 0 else f"more{index - 1}"
        graph.nodes[f"more{index}"] = node
        graph.edges.remove((last, "lif"))
        graph.edges += [(last, f"more{index}"), (f"more{index}", "lif")]
    return graph


def nested_with_two_inputs() -> Any:
    graph = recurrent(lif(4), nir.Linear(BACK), nested=True)
    graph.nodes["rnn"].nodes["second"] = nir.Input(np.array([4]))
    return graph


def padded(padding: str) -> Any:
    node = nir.Conv2d(None, even(4, 2, 3, 3), 1, 1, 1, 1, np.zeros(4))
    node.padding = padding  # which the library checks in a new node only
    return node


def with_edge(*edge: str) -> Any:
    graph = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    graph.edges.append(edge)
    return graph


def in_itself() -> Any:
    graph = chain(LINEAR, lif(5), shape=(6,), output=(5,))
    graph.nodes["again"] = graph
    return graph


REFUSED = {
    "'0': expected input of shape \\(C,\\) or \\(C, H, W\\), without a batch, but got \\(2, 5\\)": chain(
        lif(2, 5), shape=(2, 5), output=(2, 5)
    ),
    "'0': expected input of .* without a batch, but got \\(1, 2, 5, 5\\)": chain(
        nir.Scale(np.ones((1, 2, 5, 5))), lif(1, 2, 5, 5), shape=(1, 2, 5, 5), output=(1, 2, 5, 5)
    ),
    "'1': goes to both '2' and 'aside'; netx holds a chain": branching(),
    "'1': takes from more than one node": long_loop(),
    "'lif': leads back to itself on more than one way": with_two_loops(),
    "'w_rec': weights of shape \\(4, 3\\) on input of shape \\(4,\\)": in_a_loop(nir.Linear(BACK[:, :3])),
    "'w_rec': leads back with \\(3,\\) values to \\(4,\\) neurons": in_a_loop(nir.Linear(BACK[:3])),
    "'more0': a delay of a recurrent layer": in_a_loop(nir.Linear(BACK), nir.Delay(np.full(4, DT))),
    "'rnn': a nested graph with 2 Input nodes; expected one": nested_with_two_inputs(),
    "'1': v_threshold differs within a channel": chain(
        IMAGE, lif(4, 6, 6, threshold=np.arange(1, 7)), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "'1': scale differs within a channel": chain(
        IMAGE, nir.Scale(np.arange(144.0).reshape(4, 6, 6)), lif(4, 6, 6), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "'1': its padding lies around what a pool or convolution gives": chain(
        nir.SumPool2d(2, 2, 0), IMAGE, lif(4, 3, 3), shape=(2, 7, 7), output=(4, 3, 3)
    ),
    "'1': its padding .* a pool or convolution gives": chain(
        nir.SumPool2d(3, 1, 0), IMAGE, lif(4, 4, 4), shape=(2, 6, 6), output=(4, 4, 4)
    ),
    "'1': it pads what has a bias already, of '0'": chain(
        nir.Conv2d(None, np.ones((2, 2, 1, 1)), 1, 0, 1, 1, np.ones(2)), IMAGE, lif(4, 6, 6),
        shape=(2, 6, 6), output=(4, 6, 6),
    ),
    "'0': padding of \\(1, 1\\): NIR does not say whether a mean counts it": chain(
        nir.AvgPool2d(2, 2, 1), IMAGE, lif(4, 4, 4), shape=(2, 6, 6), output=(4, 4, 4)
    ),
    "'0': weights of shape \\(4, 2, 3, 3\\) in 1 groups do not fit input of shape \\(3, 6, 6\\)": chain(
        IMAGE, lif(4, 6, 6), shape=(3, 6, 6), output=(4, 6, 6)
    ),
    "'0': kernels of \\(3, 3\\) reach beyond the input \\(2, 2, 6\\)": chain(
        PLAIN, lif(4, 1, 4), shape=(2, 2, 6), output=(4, 1, 4)
    ),
    "'0': stride of .*0.0.*; expected one or two whole numbers from 1 to 127": chain(
        nir.Conv2d(None, even(4, 2, 3, 3), 0, 0, 1, 1, np.zeros(4)), lif(4, 6, 6), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "'0': padding 'same' with a stride of .2, 1., which NIR does not define; give numbers": chain(
        nir.Conv2d(None, even(4, 2, 2, 2), (2, 1), "same", 1, 1, np.zeros(4)), lif(4, 6, 6),
        shape=(2, 6, 6), output=(4, 6, 6),
    ),
    "'0': padding 'full'; expected 'same', 'valid' or numbers": chain(
        padded("full"), lif(4, 6, 6), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "'0': groups of .2.0, 1.0.; expected one whole number": chain(
        nir.Conv2d(None, even(4, 1, 3, 3), 1, 1, 1, np.array([2, 1]), np.zeros(4)), lif(4, 6, 6),
        shape=(2, 6, 6), output=(4, 6, 6),
    ),
    "'0': it says that it takes values of shape .2, 9, 9., but gets .2, 6, 6.": chain(
        nir.Conv2d((9, 9), even(4, 2, 3, 3), 1, 1, 1, 1, np.zeros(4)), lif(4, 6, 6), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "'0': it says that it takes values of shape .2, 3, 4., but gets .2, 3, 3.": chain(
        nir.Flatten(np.array([2, 3, 4]), 0), nir.Linear(even(5, 18)), lif(5), shape=(2, 3, 3), output=(5,)
    ),
    "'output': it says that it takes values of shape .7,., but gets .5,.": chain(
        LINEAR, lif(5), shape=(6,), output=(7,)
    ),
    "'0': weights of shape .5, 6. on input of shape .7,..$": chain(LINEAR, lif(5), shape=(7,), output=(5,)),
    "'0': input of shape .0,., in which there are no values": chain(lif(0), shape=(0,), output=(0,)),
    "'0': is None: what wrote the graph has no NIR node for it": chain(None, lif(5), shape=(6,), output=(5,)),
    "'1': gives its membrane potential, and netx reads that of dense layers only": chain(
        IMAGE, nir.LI(*(np.full((4, 6, 6), value) for value in (1.6e-3, 16, 0))), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "'lif': gives its membrane potential, and netx's recurrent layers lead back spikes": nir.NIRGraph(
        {"input": nir.Input(np.array([5])), "lif": nir.LI(*(np.full(5, value) for value in (1.6e-3, 16, 0))),
         "w_rec": nir.Linear(np.eye(5)), "output": nir.Output(np.array([5]))},
        [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")], type_check=False,
    ),
    "'output' to 'input'; nothing follows an Output or precedes an Input": with_edge("output", "input"),
    "'1' to 'input'; nothing follows an Output": with_edge("1", "input"),
    "'output' to 'output'; nothing follows": with_edge("output", "output"),
    "Expected an edge to be the names of two nodes but got .'0', '1', 'output'.": with_edge("0", "1", "output"),
    "'again': a graph that holds itself": in_itself(),
    "'input': expected CubaLIF, LIF or IF neurons after it": chain(shape=(6,), output=(6,)),
    "'0': a bias of shape \\(3,\\) for 4 rows": chain(
        nir.Conv2d(None, even(4, 2, 3, 3), 1, 1, 1, 1, np.zeros(3)), lif(4, 6, 6), shape=(2, 6, 6), output=(4, 6, 6)
    ),
    "'0': expected input of shape \\(C, H, W\\), without a batch, but got \\(6,\\)": chain(
        IMAGE, lif(4), shape=(6,), output=(4,)
    ),
    "'0': weights of shape \\(5, 6\\) on input of shape \\(1, 2, 3\\); flatten it first": chain(
        LINEAR, lif(5), shape=(1, 2, 3), output=(5,)
    ),
    "'0': flattens axes 0 to 1 of \\(2, 3, 3\\)": chain(
        nir.Flatten(np.array([2, 3, 3]), 0, 1), lif(18), shape=(2, 3, 3), output=(18,)
    ),
    "'0': netx has delays in dense layers only": chain(
        nir.Delay(np.full((2, 4, 4), DT)), lif(2, 4, 4), shape=(2, 4, 4), output=(2, 4, 4)
    ),
    "'1': netx cannot hold a Delay around '0', a convolution": chain(
        PLAIN, nir.Delay(np.full((4, 2, 2), DT)), lif(4, 2, 2), shape=(2, 4, 4), output=(4, 2, 2)
    ),
    "'2': there is a delay between it and '0'": chain(
        LINEAR, nir.Delay(np.full(5, DT)), nir.Linear(np.eye(5)), lif(5), shape=(6,), output=(5,)
    ),
    "'1': a delay behind a bias": chain(
        nir.Affine(even(5, 6), np.ones(5)), nir.Delay(np.full(5, DT)), lif(5), shape=(6,), output=(5,)
    ),
    "'3': a second delay behind the last neurons; give the sum of both in one": chain(
        LINEAR, lif(5), nir.Delay(np.full(5, DT)), nir.Delay(np.full(5, DT)), shape=(6,), output=(5,)
    ),
    "'3': a delay behind a Flatten; .* put it in front of that": chain(
        IMAGE, lif(4, 6, 6), nir.Flatten(None, 0), nir.Delay(np.full(144, DT)), shape=(2, 6, 6), output=(144,)
    ),
    "'2': expected CubaLIF, LIF or IF neurons after it, but the graph ends": chain(
        LINEAR, lif(5), nir.Linear(np.eye(5)), shape=(6,), output=(5,)
    ),
    "'0': a bias that the synaptic current would filter": chain(
        nir.Affine(even(5, 6), np.ones(5)), cuba(5), shape=(6,), output=(5,)
    ),
    "'0': kernel_size of .*1000000000.*; expected one or two whole numbers from 1 to 127": chain(
        nir.SumPool2d(10**9, 1, 0), lif(2, 6, 6), shape=(2, 6, 6), output=(2, 6, 6)
    ),
    "'input': a shape of \\[-1\\]; expected whole numbers": chain(LINEAR, lif(5), shape=(-1,), output=(5,)),
    "'input': a shape of None; expected whole numbers": nir.NIRGraph(
        {"input": nir.Input({"input": None}), "0": lif(5), "output": nir.Output(np.array([5]))},
        [("input", "0"), ("0", "output")], type_check=False,
    ),
    "Expected a NIR graph with one Input node but it has 0": nir.NIRGraph({"0": lif(5)}, [], type_check=False),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_netx_cannot_express_is_refused_by_name(message: str) -> None:
    with pytest.raises(NetxFormatError, match=message):
        from_nir(REFUSED[message], dt=DT)


def on_images(input_shape: Any = None, flattened: Any = None, output: Any = (4, 6, 6)) -> Any:
    """A convolution on images of (2, 6, 6), with a Flatten behind it if that is to say a shape."""
    conv = nir.Conv2d(None, even(4, 2, 3, 3, high=5), 1, 1, 1, 1, np.zeros(4))
    conv.input_shape = input_shape
    between = [] if flattened is None else [nir.Flatten(None, 0)]
    graph = chain(conv, *between, lif(144 if between else 1), shape=(2, 6, 6), output=(1,))
    graph.nodes["output"].output_type = {"output": output}
    if between:
        graph.nodes["1"].input_type = {"input": flattened}
    return graph


@pytest.mark.parametrize(
    "says",
    [
        {"output": [None, 2]}, {"output": (None,)}, {"output": np.array([-1, 6, 6])}, {"output": None},
        {"output": (1, 4, 6, 6)}, {"output": (144,)}, {"output": np.array([1, 144])}, {"output": np.array(144)},
        {"input_shape": (6, 6)}, {"input_shape": (None, 6)}, {"input_shape": np.array([-1, -1])},
        {"flattened": (4, 6, 6)}, {"flattened": (None, 4, 6, 6)}, {"flattened": (1, 4, 6, 6)}, {"flattened": (144,)},
    ],
)  # fmt: skip
def test_a_shape_that_a_node_says_of_itself_may_be_unknown_flattened_or_with_a_batch_of_one(says: Any) -> None:
    assert from_nir(on_images(**says), dt=DT).spiking


@pytest.mark.parametrize(
    ("says", "node"),
    [
        ({"input_shape": (4, 9)}, "0"), ({"flattened": (6, 6, 4)}, "1"), ({"output": (4, 4, 9)}, "output"),
        ({"output": (6, 6, 4)}, "output"), ({"output": (4, 36)}, "output"), ({"output": (144, 2)}, "output"),
    ],
)  # fmt: skip
def test_a_node_that_says_another_shape_of_as_many_values_is_refused(says: Any, node: str) -> None:
    with pytest.raises(NetxFormatError, match=f"'{node}': it says that it takes values of shape .*, but gets .*6, 6"):
        from_nir(on_images(**says), dt=DT)


FLATTENED = [(0, -1), (0, 2), (-3, -1), (-3, 2), (1, -1), (1, 3), (-3, 3)]  # the last three count a batch


@pytest.mark.parametrize(("first", "last"), itertools.product(range(-4, 5), range(-4, 5)))
def test_a_flatten_is_taken_if_it_leaves_one_axis_of_a_sample(first: int, last: int) -> None:
    """Of axes 1 to 2 neither reading does: without a batch they leave the first of (2, 3, 3), with it the last."""
    graph = chain(nir.Flatten(None, first, last), lif(1), shape=(2, 3, 3), output=(18,))
    if (first, last) in FLATTENED:
        assert from_nir(graph, dt=DT).layers[1] == Flatten((18,))
    else:
        with pytest.raises(NetxFormatError, match=f"'0': flattens axes {first} to {last} of .2, 3, 3.; netx flattens"):
            from_nir(graph, dt=DT)


@pytest.mark.parametrize("bad", [None, np.nan, 0.5, "x", np.array([0, 1])])
def test_a_flatten_of_no_axis_is_refused(bad: Any) -> None:
    with pytest.raises(NetxFormatError, match="'0': start_dim "):
        from_nir(chain(nir.Flatten(None, bad), lif(1), shape=(2, 3, 3), output=(18,)), dt=DT)


def test_a_scale_of_a_large_input_takes_no_matrix() -> None:
    """One of all inputs would take 80 GB."""
    graph = chain(nir.Scale(np.full(100_000, 2.0)), nir.Linear(np.ones((1, 100_000)) / 64), lif(1, threshold=100.0),
                  shape=(100_000,), output=(1,))  # fmt: skip
    weight = from_nir(graph, dt=DT, scale=64).spiking["dense1"].weight
    assert (weight.shape, weight.min(), weight.max()) == ((1, 100_000), 2, 2)


def test_a_delay_by_no_step_on_the_way_back_is_none() -> None:
    graph = in_a_loop(nir.Linear(BACK), nir.Delay(np.zeros(4)))
    assert from_nir(graph, dt=DT) == from_nir(recurrent(lif(4), nir.Linear(BACK)), dt=DT)


def test_delays_by_no_step_at_the_end_are_none() -> None:
    image = chain(IMAGE, lif(4, 6, 6), nir.Flatten(None, 0), shape=(2, 6, 6), output=(144,))
    delayed = chain(IMAGE, lif(4, 6, 6), nir.Flatten(None, 0), nir.Delay(np.zeros(144)), shape=(2, 6, 6), output=(144,))
    assert from_nir(delayed, dt=DT) == from_nir(image, dt=DT)
    twice = chain(LINEAR, lif(5), nir.Delay(np.full(5, DT)), nir.Delay(np.zeros(5)), shape=(6,), output=(5,))
    assert (from_nir(twice, dt=DT).layers[-1].axon_delay == 1).all()  # type: ignore[union-attr]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rounding", ["refuse", "nearest"])
@pytest.mark.parametrize(
    ("nodes", "refused"),
    [
        ([nir.Linear(np.array([[1.0, -1e300]])), lif(1)], "'0': weight"),
        ([nir.Linear(np.full((1, 2), 1e200)), nir.Linear(np.array([[1e200]])), lif(1)], "'1': weight"),
        ([nir.Linear(np.array([[1.0, 1]])), lif(1, gain=1e300)], "'0': weight"),
        ([nir.Linear(np.array([[1.0, 1]])), nir.CubaLIF(*[np.full(1, v) for v in (4e-4, 8e-4, 1e200, 0, 1)],
          w_in=np.full(1, 1e200))], "'0': weight"),
        ([nir.Linear(np.array([[1.0, 1]])), lif(1, leak=1e300)], "'1': (a )?bias"),
        ([nir.Affine(np.array([[1.0, 1]]), np.array([-1e300])), lif(1)], "'1': (a )?bias"),
        ([nir.Linear(np.array([[1.0, 1]])), nir.Delay(np.array([1e300])), lif(1)], "'1': delay of up to 1e.304 steps"),
    ],
)  # fmt: skip
def test_numbers_beyond_all_bounds_are_refused_as_they_are(nodes: Any, refused: str, rounding: Any) -> None:
    with pytest.raises(NetxFormatError, match=refused) as error:
        from_nir(chain(*nodes, shape=(2,), output=(1,)), dt=DT, rounding=rounding)
    assert "-9223372036854775808" not in str(error.value)
    assert "weights of up to 1 " not in str(error.value)


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([nir.Linear(np.array([[1.1, np.pi]])), lif(1, threshold=0.01)],
         r"'0': weights of up to 314\.159 times the threshold; with a threshold of 1 netx holds up to 255"),
        ([nir.Affine(np.array([[1.1, np.pi]]), np.array([5000.0])), lif(1, threshold=1.0)],
         r"'1': a bias of up to 5000 times the threshold; with .* 4095; give a `scale` to run it on Lava"),
        ([nir.Linear(np.full((1, 2), 200.1)), nir.CubaLIF(*[np.full(1, v) for v in (0.4096, 1.6e-3, 16, 0, 1)],
          w_in=np.full(1, 4096.0))],
         r"'1': its inputs could add up to a current of 1\.63922e\+06 times the threshold, .* above 131071 with"),
    ],
)  # fmt: skip
def test_what_leaves_no_threshold_is_the_reason(nodes: Any, reason: str) -> None:
    with pytest.raises(NetxFormatError, match=reason):
        from_nir(chain(*nodes, shape=(2,), output=(1,)), dt=DT, rounding="nearest")


def test_the_step_comes_from_the_metadata_of_the_graph_or_of_a_node(tmp_path: Path) -> None:
    expected = from_nir(EXACT["single numbers"], dt=DT)
    for graph in (
        chain(LINEAR, lif(1), shape=(6,), output=(5,), metadata={"dt": DT}),
        chain(LINEAR, nir.LIF(*[np.full(1, value) for value in (1.6e-3, 16, 0, 2)], metadata={"dt": np.float32(DT)}),
              shape=(6,), output=(5,)),
        chain(LINEAR, nir.LIF(*[np.full(1, value) for value in (1.6e-3, 16, 0, 2)], metadata={"dt": np.float32(DT)}),
              shape=(6,), output=(5,), metadata={"dt": DT}),
    ):  # fmt: skip
        assert from_nir(graph) == expected
        nir.write(tmp_path / "graph.nir", graph)
        assert from_nir(tmp_path / "graph.nir") == expected


def test_a_large_image_is_flattened_at_the_end_in_no_memory() -> None:
    """A matrix of what it gives would take 32 GiB."""
    graph = chain(lif(16, 64, 64), nir.Flatten(np.array([16, 64, 64]), 0), shape=(16, 64, 64), output=(2**16,))
    assert from_nir(graph, dt=DT).layers[-1] == Flatten((2**16,))


@pytest.mark.parametrize("bad", ["x", np.nan, -1.0, 0.0, np.ones(2)])
def test_a_step_in_the_metadata_that_is_none_is_refused(bad: Any) -> None:
    with pytest.raises(NetxFormatError, match="metadata give a `dt` of"):
        from_nir(chain(LINEAR, lif(1), shape=(6,), output=(5,), metadata={"dt": bad}))


def test_different_steps_in_the_metadata_are_refused() -> None:
    weights = nir.Linear(LINEAR.weight, metadata={"dt": 1e-3})
    graph = chain(weights, lif(1), shape=(6,), output=(5,), metadata={"dt": DT})
    with pytest.raises(NetxFormatError, match=r"different `dt`: 0\.0001 and 0\.001"):
        from_nir(graph)


def test_the_step_in_the_metadata_of_a_nested_graph_counts() -> None:
    inner = chain(LINEAR, lif(1), shape=(6,), output=(5,), metadata={"dt": DT})
    assert from_nir(chain(inner, shape=(6,), output=(5,))) == from_nir(EXACT["single numbers"], dt=DT)
    with pytest.raises(NetxFormatError, match=r"different `dt`: 0\.0001 and 0\.001"):
        from_nir(chain(inner, shape=(6,), output=(5,), metadata={"dt": 1e-3}))


@pytest.mark.parametrize(
    ("neurons", "offered"),
    [
        (lif(5), r"first: dt=0.0001 \(an input of 1 adds 1 per step; all decays are whole\); dt=0.001 \(all"),
        (lif(5, tau=1e-3), r"first: dt=0.0001 \(an input of 1 adds .* 0.4/4096 off\); dt=0.000100097656 \(all"),
        (lif(5, tau=2.5e-3, gain=0.04), r"first: dt=0.000100097656 \(all decays.*; dt=0.0001 \(.*0.16/4096 off"),
        (cuba(5), r"first: dt=0.0001 \(an input of 1 adds 1 per step; all decays are whole\)"),
        (nir.IF(np.ones(5), np.ones(5)), r"first: dt=1 \(an input of 1 adds 1 per step; all decays are whole\)\.$"),
        (nir.IF(np.zeros(5), np.ones(5)), r"is to run\.$"),
        (nir.LIF(np.zeros(5), np.ones(5), np.zeros(5), np.ones(5)), r"is to run\.$"),
    ],
)  # fmt: skip
def test_without_a_step_the_best_are_offered(neurons: Any, offered: str) -> None:
    with pytest.raises(NetxFormatError, match=offered):
        from_nir(chain(LINEAR, neurons, shape=(6,), output=(5,)))


def test_every_offered_step_that_makes_decays_whole_converts() -> None:
    graph = chain(
        LINEAR, lif(5, tau=1e-3), nir.Linear(np.eye(5) * 8), lif(5, tau=3e-3, threshold=1.0), shape=(6,), output=(5,)
    )
    with pytest.raises(NetxFormatError) as refused:
        from_nir(graph)
    dt = float(str(refused.value).split("; dt=")[1].split(" (all decays are whole)")[0])
    for layer, tau in zip(from_nir(graph, dt=dt, rounding="nearest").spiking.values(), (1e-3, 3e-3), strict=True):
        assert layer.neuron.voltage_decay * tau == pytest.approx(4096 * dt)


def test_what_was_rounded_is_told_and_kept_in_the_file(tmp_path: Path) -> None:
    weight = np.array([[0.1, -0.9], [np.pi / 10, np.e / 10]])
    graph = chain(nir.Linear(weight), lif(2, tau=3.3e-3, threshold=1.0), shape=(2,), output=(2,))
    description = from_nir(graph, dt=DT, rounding="nearest")
    decays, weights = roundings(description)
    assert decays == Rounding("1", "tau", 2, 2, pytest.approx(3.3e-3), pytest.approx(4096 * DT / 124))
    layer = description.spiking["dense1"]
    effective = layer.weight / layer.neuron.threshold
    worst = np.unravel_index(np.abs(effective - weight).argmax(), weight.shape)
    expected = Rounding("0", "weight", 4, 4, pytest.approx(weight[worst]), pytest.approx(effective[worst]))
    assert weights == expected
    assert np.abs(effective - weight).max() <= 1 / layer.neuron.threshold
    write(description, tmp_path / "graph.net")
    assert roundings(read(tmp_path / "graph.net")) == (decays, weights)


def test_of_a_given_scale_the_threshold_and_the_bias_are_rounded_too() -> None:
    graph = chain(nir.Affine(np.eye(2), np.array([0.01, 0.5])), lif(2, threshold=[0.7, 1.4]), shape=(2,), output=(2,))
    threshold, bias = roundings(from_nir(graph, dt=DT, scale=64, rounding="nearest"))
    assert threshold == Rounding("1", "v_threshold", 1, 1, pytest.approx(1.4), pytest.approx(90 / 64))
    assert bias == Rounding("1", "bias", 1, 2, pytest.approx(0.01), pytest.approx(1 / 128))


def test_recurrent_weights_are_rounded_to_what_the_stock_loader_loads(tmp_path: Path) -> None:
    graph = recurrent(lif(4), nir.Linear(rng.normal(size=(4, 4))))
    description = from_nir(graph, dt=DT, rounding="nearest")
    write(description, tmp_path / "graph.net")
    agree(graph, read(tmp_path / "graph.net"), differing=0.1)


def test_a_constant_current_that_is_filtered_is_taken_as_the_bias_at_which_it_settles() -> None:
    graph = chain(nir.Affine(even(5, 6), np.array([1.0, 0, 0.5, 0, 0.25])), cuba(5, leak=4.0), shape=(6,), output=(5,))
    description = from_nir(graph, dt=DT, rounding="nearest")
    (settling,) = roundings(description)
    # The gain of a current of 1 is 4 once it has settled, and in the first step a quarter of it is there.
    assert (settling.node, settling.parameter, settling.changed, settling.of) == ("0", "bias", 3, 5)
    assert (settling.before, settling.after) == (1.0, 4.0)
    assert "adds 12 to the membrane potential in all, 3 of the threshold" in settling.note
    layer = description.spiking["dense1"]
    assert (layer.bias / layer.neuron.threshold * 4).tolist() == [4.5, 0.5, 2.5, 0.5, 1.5]  # type: ignore[union-attr]


def test_a_number_that_would_be_lost_is_not_taken_as_whole() -> None:
    """A weight of a thousandth of a unit is within the tolerance of 0, and may be all that there is."""
    graph = chain(nir.Linear(np.array([[1e-5, 1.0]])), lif(1, threshold=1.0), shape=(2,), output=(1,))
    with pytest.raises(NetxFormatError, match="'0': weight is up to"):
        from_nir(graph, dt=DT, scale=64)
    (rounding,) = roundings(from_nir(graph, dt=DT, scale=64, rounding="nearest"))
    assert (rounding.changed, rounding.before, rounding.after) == (1, pytest.approx(1e-5), 0)


def test_currents_are_kept_from_wrapping_around() -> None:
    """At the largest weights, the slow currents of 900 inputs would exceed 24 bits."""
    graph = chain(
        nir.Linear(np.full((1, 900), np.pi) + np.arange(900) / 9001),
        cuba(1, threshold=100.0),
        shape=(900,),
        output=(1,),
    )
    layer = from_nir(graph, dt=DT, rounding="nearest").spiking["dense1"]
    assert layer.weight.max() < 140
    assert 64 * layer.weight.sum() * 4 <= 2**23 - 1 < 64 * layer.weight.sum() * 4 * 1.1


@pytest.mark.parametrize("down", [-0.001, -0.0011371])
def test_a_free_scale_leaves_membrane_potentials_room_below_zero(down: float) -> None:
    """Lava clips them at -131,071 units, one threshold at the largest scale; here they fall to -4 of it."""
    neuron = nir.LIF(*(np.full(1, value) for value in (0.4096 / 16, 256.0, 0.0, 1.0)))
    graph = chain(nir.Linear(np.array([[down] * 20 + [0.0015] * 20])), neuron, shape=(40,), output=(1,))
    spikes = np.zeros((1, 40, 900), np.uint8)
    spikes[:, :20, :200] = 1
    spikes[:, 20:, 200:] = 1
    expected, got = euler(graph, spikes, DT), simulate(from_nir(graph, dt=DT, rounding="nearest"), spikes).output
    assert expected.sum() == 17
    assert abs(int(got.sum()) - 17) <= 1
    assert abs(int(expected.argmax()) - int(got.argmax())) < 10


@pytest.mark.parametrize("rounding", ["refuse", "nearest"])
@pytest.mark.parametrize("back", [None, 3.0])
def test_a_threshold_that_is_whole_at_64_leaves_room_below_zero_too(back: float | None, rounding: str) -> None:
    """At 64 it is 129,984 units, and Lava clips membrane potentials at -131,071."""
    neuron = nir.IF(np.full(1, 1 / DT), np.full(1, 2031.0))
    graph = chain(nir.Linear(np.array([[-2.0] * 200 + [2.0] * 200])), neuron, shape=(400,), output=(1,))
    if back is not None:
        graph.nodes["back"] = nir.Linear(np.array([[back]]))
        graph.edges += [("1", "back"), ("back", "1")]
    spikes = np.zeros((1, 400, 200), np.uint8)
    spikes[:, :200, :20] = 1
    spikes[:, 200:, 20:] = 1
    description = from_nir(graph, dt=DT, rounding=rounding)
    assert roundings(description) == ()
    expected, got = euler(graph, spikes, DT), simulate(description, spikes).output
    assert expected.sum() > 10
    assert (expected.reshape(-1) == got.reshape(-1)).all()


def test_weights_too_large_for_the_smallest_threshold_are_refused() -> None:
    graph = chain(nir.Linear(np.array([[300.0, np.pi]])), lif(1, threshold=1.0), shape=(2,), output=(1,))
    with pytest.raises(NetxFormatError, match=r"'0': weights of up to 300 times the threshold.* up to 255"):
        from_nir(graph, dt=DT, rounding="nearest")


@pytest.mark.parametrize("back", [-0.5, 0.5, -1 / 3])
def test_a_single_recurrent_weight_arrives(back: float, tmp_path: Path) -> None:
    """An odd weight would be loaded as another one, and of a recurrent layer there is no other form to write."""
    weight = np.random.default_rng(0).normal(0.1, 0.25, (1, 20))
    graph = chain(nir.Linear(weight), lif(1, threshold=1.0), shape=(20,), output=(1,))
    graph.nodes["back"] = nir.Linear(np.array([[back]]))
    graph.edges += [("1", "back"), ("back", "1")]
    write(from_nir(graph, dt=DT, rounding="nearest"), tmp_path / "graph.net")
    agree(graph, read(tmp_path / "graph.net"), differing=0.1)


def test_odd_recurrent_weights_that_cannot_be_doubled_are_rounded_if_they_may_be(tmp_path: Path) -> None:
    """As they are the stock loader alters them, if the weights in front of the neurons are all positive."""
    graph = recurrent(lif(4, threshold=4.0), nir.Linear(np.array([[3, -101, 15, 21]] * 4) / 64))
    graph.nodes["fc"] = nir.Linear(np.array([[200, 100, 150, 50, 130, 60]] * 4) / 64)
    exact = from_nir(graph, dt=DT)
    assert exact.spiking["recurrent1"].recurrent_weight[0].tolist() == [3, -101, 15, 21]  # type: ignore[union-attr]
    with pytest.raises(ExportError, match="would be altered"):
        write(exact, tmp_path / "graph.net")
    rounded = from_nir(graph, dt=DT, rounding="nearest")
    assert {rounding.node for rounding in roundings(rounded)} == {"fc", "w_rec"}
    write(rounded, tmp_path / "graph.net")
    agree(graph, read(tmp_path / "graph.net"), differing=0.1)


def test_delayed_weights_that_the_stock_loader_alters_are_rounded_if_they_may_be(tmp_path: Path) -> None:
    """A convolution, as which they would arrive, has no delays."""
    weight = np.array([[-255, 255, 101, 3, -77, 9]] * 2) / 64
    graph = chain(nir.Linear(weight), nir.Delay(np.array([DT, 2 * DT])), lif(2, threshold=4.0), shape=(6,), output=(2,))
    with pytest.raises(ExportError, match="would be altered"):
        write(from_nir(graph, dt=DT), tmp_path / "graph.net")
    rounded = from_nir(graph, dt=DT, rounding="nearest")
    assert [rounding.parameter for rounding in roundings(rounded)] == ["weight"]
    write(rounded, tmp_path / "graph.net")
    agree(graph, read(tmp_path / "graph.net"), differing=0.1)


@pytest.mark.parametrize("rounding", ["refuse", "nearest"])
def test_of_all_exact_scales_of_delayed_weights_one_that_the_stock_loader_takes_is_found(
    rounding: str, tmp_path: Path
) -> None:
    """At the largest one, three times the one that serves, the loader alters them."""
    weight = np.array([[-255, 255, 105, 3, -75, 9]] * 2) / 64
    graph = chain(nir.Linear(weight), nir.Delay(np.array([DT, 2 * DT])), lif(2, threshold=3.0), shape=(6,), output=(2,))
    description = from_nir(graph, dt=DT, rounding=rounding)
    assert roundings(description) == ()
    write(description, tmp_path / "graph.net")
    agree(graph, read(tmp_path / "graph.net"))


def test_recurrent_weights_that_are_odd_at_64_are_doubled(tmp_path: Path) -> None:
    graph = recurrent(lif(4), nir.Linear(np.array([[1, -3, 5, 7]] * 4) / 64))
    write(from_nir(graph, dt=DT), tmp_path / "graph.net")
    back = read(tmp_path / "graph.net").spiking["recurrent1"].recurrent_weight  # type: ignore[union-attr]
    assert (back / back[0, 0] == [1, -3, 5, 7]).all()
    assert back[0, 0] % 2 == 0


@pytest.mark.parametrize("scale", [None, 32, 63.5])
def test_a_leaky_integrator_at_the_end_is_read_by_its_voltage(scale: float | None, tmp_path: Path) -> None:
    """As norse networks end."""
    unit = 1 / (scale or 64)
    weights = np.random.default_rng(2).integers(-60, 90, (3, 5)) * unit * 16
    last = nir.LI(np.full(3, 1.6e-3), np.ones(3), np.zeros(3))
    graph = chain(LINEAR, lif(5), nir.Linear(weights), last, shape=(6,), output=(3,))
    if scale == 63.5:
        graph.nodes["0"] = nir.Linear(LINEAR.weight * 64 / 63.5)
        graph.nodes["1"] = lif(5, threshold=2 * 64 / 63.5)
    description = from_nir(graph, dt=DT, scale=scale)
    write(description, tmp_path / "graph.net")
    spikes = spikes_for(graph)
    expected = euler(graph, spikes, DT)
    got = simulate(tmp_path / "graph.net", spikes, delay_shift=False).output * 64 * unit
    assert np.abs(expected).max() > 2
    assert np.abs(expected - got).mean() < 0.02 * np.abs(expected).max()


def test_the_weights_of_what_is_read_by_its_voltage_are_rounded_at_the_scale() -> None:
    last = nir.LI(np.full(1, 1.6e-3), np.full(1, 16.0), np.zeros(1))
    graph = chain(nir.Linear(np.array([[0.1, np.pi]])), last, shape=(2,), output=(1,))
    with pytest.raises(NetxFormatError, match=r"weight is up to 0\.4 away"):
        from_nir(graph, dt=DT)
    assert from_nir(graph, dt=DT, rounding="nearest").spiking["dense1"].weight.tolist() == [[6, 201]]


@pytest.mark.parametrize("gain", [1 + 8e-6, 1 - 8e-6])
@pytest.mark.parametrize("rounding", ["refuse", "nearest"])
def test_a_gain_that_single_precision_left_beside_1_is_1(gain: float, rounding: str) -> None:
    graph = chain(nir.Linear(np.array([[250, -131]]) / 64), lif(1, gain=gain, threshold=3.0), shape=(2,), output=(1,))
    description = from_nir(graph, dt=DT, rounding=rounding)
    assert description.spiking["dense1"].weight.tolist() == [[250, -131]]
    assert not [rounded for rounded in roundings(description) if rounded.parameter == "weight"]
