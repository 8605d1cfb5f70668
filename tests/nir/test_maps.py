"""Any sequence of linear nodes, put together, maps as its nodes do one after the other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netx_export import NetxFormatError

nir = pytest.importorskip("nir")
from nir_equations import Graph  # noqa: E402

from netx_export.nir.fitting import Fit  # noqa: E402
from netx_export.nir.maps import Kernel, LinearMap, linear_map  # noqa: E402

FIT = Fit("refuse", 64, True)


@st.composite
def _paths(draw: st.DrawFn) -> tuple[list[Any], tuple[int, ...]]:
    """Up to four nodes, images first, that fit each other."""
    made = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    start = shape = (2, draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    nodes: list[Any] = []
    pair = st.tuples(st.integers(1, 3), st.integers(1, 2))
    for kind in draw(st.lists(st.sampled_from(["conv", "pool", "mean", "scale", "dense"]), min_size=1, max_size=4)):
        if kind == "dense":
            nodes.append(nir.Flatten(None, 0))
            nodes.append(nir.Affine(made.normal(size=(3, int(np.prod(shape)))), made.normal(size=3)))
            shape = (3,)
        elif kind == "scale":
            per_channel = made.normal(size=shape[0]).reshape(-1, *[1] * (len(shape) - 1))
            nodes.append(nir.Scale(np.broadcast_to(per_channel, shape).copy()))
        elif len(shape) == 3:
            size, stride, padding = draw(pair), draw(pair), draw(st.sampled_from([(0, 0), (1, 0), (1, 1)]))
            if kind == "conv":
                groups, dilation = draw(st.sampled_from([1, 2])), draw(st.sampled_from([(1, 1), (1, 2)]))
                weight = made.normal(size=(4, shape[0] // groups, *size))
                bias = made.normal(size=4) * draw(st.booleans())
                nodes.append(nir.Conv2d(None, weight, stride, padding, dilation, groups, bias))
            else:
                padding = (0, 0) if kind == "mean" else tuple(np.minimum(padding, np.array(size) // 2))
                nodes.append((nir.AvgPool2d if kind == "mean" else nir.SumPool2d)(size, stride, padding))
            shape = _shape_behind(nodes[-1], shape)
            if min(shape) < 1:
                nodes.pop()
                break
    return nodes, start


def _shape_behind(node: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    size = node.weight.shape[2:] if isinstance(node, nir.Conv2d) else node.kernel_size
    dilation = getattr(node, "dilation", (1, 1))
    spatial = [
        (length + 2 * padding - step * (kernel - 1) - 1) // stride + 1
        for length, padding, step, kernel, stride in zip(
            shape[1:], node.padding, dilation, size, node.stride, strict=True
        )
    ]
    return (len(node.weight) if isinstance(node, nir.Conv2d) else shape[0], *spatial)


def _applied(made: LinearMap, values: np.ndarray) -> np.ndarray:
    if isinstance(made.weight, Kernel):
        bias = None if made.bias is None else torch.from_numpy(made.bias.copy())
        weight, options = torch.from_numpy(made.weight.weight), made.weight.options
        out = torch.nn.functional.conv2d(torch.from_numpy(values), weight, bias, **options).numpy()
        return out.reshape(len(values), *made.shape)
    assert made.weight is not None
    return values.reshape(len(values), -1) @ made.weight.T + (0 if made.bias is None else made.bias)


def _together(path: tuple[tuple[str, Any], ...], shape: tuple[int, ...]) -> LinearMap | str:
    try:
        return linear_map(nir, path, shape, "neurons", 1e-4, FIT)
    except NetxFormatError as refused:
        return str(refused)


@settings(max_examples=300, deadline=None)
@given(_paths())
def test_nodes_put_together_map_as_one_after_the_other(drawn: tuple[list[Any], tuple[int, ...]]) -> None:
    nodes, shape = drawn
    named = [(str(index), node) for index, node in enumerate(nodes)]
    made = _together(tuple(named), shape)
    if isinstance(made, str):  # nothing else is refused: all fits
        assert "its padding lies around" in made or "it pads what has a bias" in made
        return
    every = {"input": nir.Input(np.array(shape)), **dict(named), "output": nir.Output(np.array(made.shape))}
    graph = nir.NIRGraph(every, list(itertools.pairwise(every)), type_check=False)
    values = np.random.default_rng(0).normal(size=(3, *shape))
    np.testing.assert_allclose(_applied(made, values), Graph(graph, 1e-4)(values).reshape(3, *made.shape), atol=1e-8)


def test_a_pool_before_a_convolution_leaves_its_groups() -> None:
    conv = nir.Conv2d(None, np.ones((4, 1, 3, 3)), 1, 1, 1, 2, np.zeros(4))
    made = linear_map(nir, (("pool", nir.SumPool2d(2, 2, 0)), ("conv", conv)), (2, 8, 8), "", 1e-4, FIT)
    assert isinstance(made.weight, Kernel)
    assert made.weight.weight.shape == (4, 1, 6, 6)
    assert (made.weight.groups, made.weight.stride, made.weight.padding) == (2, (2, 2), (2, 2))
