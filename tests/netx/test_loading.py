"""What we say the stock loader makes of numbers, against the stock loader."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from netx_export import read
from netx_export.errors import ExportError, NetxFormatError
from netx_export.file.netx import write
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Flatten,
    Input,
    NetworkDescription,
    Recurrent,
    Resonator,
    ResonatorNeuron,
)
from netx_export.network.exact_weights import loadable
from netx_export.network.stock_loader import LoadedWeights, load_resonator_decays, load_weights, weight_format

pytestmark = pytest.mark.slayer

_RANGES = st.sampled_from(
    [(-1, 1), (0, 4), (-4, 0), (-64, -64), (-128, 0), (-256, 254), (-256, -1), (-400, 400), (0, 300)]
)
_STEPS = st.sampled_from([1, 2, 4, 8, 64, 128])


@st.composite
def _matrices(draw: st.DrawFn, rows: int = 2) -> np.ndarray:
    low, high = draw(_RANGES)
    values = arrays.arrays(np.int64, (rows, draw(st.integers(1, 4))), elements=st.integers(low, high))
    step = draw(_STEPS)
    return draw(values) // step * step


def _stock(weight: np.ndarray, split: int) -> list[tuple[np.ndarray, int]]:
    """What netx and Lava themselves make of one matrix, or of two that netx optimises together."""
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimised, bits, exponent, _ = optimize_weight_bits(weight.copy())
    loaded = []
    for part in (optimised[:, :split], optimised[:, split:]):
        if part.size:
            sign = determine_sign_mode(part)
            clipped = clip_weights(part, sign, num_bits=8)
            loaded.append((truncate_weights(clipped, sign, bits), exponent))
    return loaded


@pytest.mark.imports_lava
@given(_matrices())
@example(np.array([[-256, 1]]))
@example(np.array([[300, 0]]))
@example(np.array([[255, 0]]))
@example(np.array([[255, -1]]))
@example(np.array([[-300, 0]]))
@example(np.array([[-257, 1]]))
@example(np.array([[-130, -129]]))
def test_one_matrix(weight: np.ndarray) -> None:
    _assert_as_stock(weight)


@pytest.mark.imports_lava
@given(_matrices(), _matrices())
def test_two_matrices_together(weight: np.ndarray, recurrent: np.ndarray) -> None:
    _assert_as_stock(weight, recurrent)


def _assert_as_stock(*weights: np.ndarray) -> None:
    try:
        stock = _stock(np.hstack(weights), weights[0].shape[1])
    except OverflowError:
        with pytest.raises(NetxFormatError, match="matrix of zeros"):
            load_weights(*weights)
    else:
        for (mantissa, exponent), loaded in zip(stock, load_weights(*weights), strict=True):
            assert exponent == loaded.exponent
            np.testing.assert_array_equal(loaded.mantissa, mantissa)


@pytest.mark.imports_lava
@pytest.mark.parametrize("weight", [[[-64, -64]], [[0, -128]], [[-256, -254]], [[300, 2]]])
def test_the_facts_that_are_known_to_break(weight: list[list[int]]) -> None:
    matrix = np.array(weight)
    assert not load_weights(matrix)[0].equals(matrix)
    _assert_as_stock(matrix)


def test_weights_whose_sums_are_rounded_are_not_the_same() -> None:
    """Each for itself is shifted to what it was, but the sum of two of them is shifted once."""
    weight = np.array([[-128, -128]])
    loaded = load_weights(weight, np.array([[1]]))[0]
    assert loaded.mantissa.tolist() == [[-255, -255]]
    assert loaded.exponent == -1
    assert loaded.effective.tolist() == weight.tolist()
    assert -510 >> 1 != -256
    assert not loaded.equals(weight)


@given(arrays.arrays(np.int64, (2, 3), elements=st.integers(-128, 127).map(lambda value: 2 * value)))
def test_every_matrix_that_slayer_can_make_is_written_so_that_it_loads_exactly(weight: np.ndarray) -> None:
    neuron = CubaNeuron(80, np.array([1024]), np.array([128]))
    network = NetworkDescription((Input((3,)), Dense(weight, neuron), Dense(np.array([[2, -4]]), neuron)))
    written = loadable(network)
    layer = next(iter(written.spiking.values()))
    if isinstance(layer, Conv):
        np.testing.assert_array_equal(layer.weight.reshape(2, 3), weight)
        assert layer.shape == (2,)
        assert isinstance(written.layers[2], Flatten)
    else:
        assert load_weights(weight)[0].equals(weight)


_NEURON = CubaNeuron(80, np.array([1024]), np.array([128]))
_KEPT, _ALTERED = Dense(np.array([[2, -4], [6, -8]]), _NEURON), Dense(np.full((2, 2), -64), _NEURON)
_RESONATOR = Resonator(_KEPT.weight, _ALTERED.weight, ResonatorNeuron(64, np.array([9]), np.array([99]), "phase"))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            (Recurrent(_ALTERED.weight, _ALTERED.weight, _NEURON),),
            r"recurrent1: its weights, from -64 .* -64 at \(0, 0\)\).* but it is recurrent\. .* signs in recurrent1",
        ),
        (
            (Recurrent(_KEPT.weight, _KEPT.weight, _NEURON), _KEPT, _ALTERED),
            r"dense3: its weights, from -64 to -64 .* but recurrent1 before it, .*, is recurrent\. .* signs in dense3",
        ),
        ((replace(_ALTERED, delay=np.array([1, 2])),), r"dense1: its weights, from -64 .* but it has delays"),
        (
            (_KEPT, replace(_KEPT, delay=np.array([1, 2])), _ALTERED, _KEPT, _ALTERED),
            "dense3: its weights, from -64 to -64 .* but dense2 before it, .*, has delays, .* signs in dense3",
        ),
        ((_RESONATOR,), "resonator1: its weights, from -64 to -64 .* but it has neurons that no convolution has"),
        ((_RESONATOR, _ALTERED), "resonator1: its weights"),
        ((Dense(np.array([[300, 2]]), _NEURON),), "dense1: .* from 2 to 300 .* outside of the -256 to 255"),
        ((_KEPT, Dense(np.array([[-300, -2]]), _NEURON)), "dense2: its weights, from -300 to -2"),
    ],
)
def test_what_cannot_be_written_is_refused_for_the_layer_whose_weights_need_it(layers: Any, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        loadable(NetworkDescription((Input((2,)), *layers)))


@pytest.mark.parametrize("shape", [(1, 1, 128), (1, 128, 1)])
def test_an_input_that_no_kernel_covers_is_refused(shape: tuple[int, int, int]) -> None:
    def network(size: int) -> NetworkDescription:
        inputs = tuple(min(axis, size) for axis in shape)
        return NetworkDescription((Input(inputs), Flatten((size,)), Dense(np.full((2, size), -64), _NEURON)))

    assert loadable(network(127)).layers[1].weight.size == 254  # type: ignore[union-attr]
    message = rf"dense2: .* whole input of {shape[1]}x{shape[2]}, and Lava counts their sizes up to 127"
    with pytest.raises(ExportError, match=message):
        loadable(network(128))


@pytest.mark.parametrize(("inside", "outside"), [([[255, -2]], [[256, -2]]), ([[-256, -254]], [[-257, -254]])])
def test_weights_that_a_convolution_holds(inside: Any, outside: Any) -> None:
    written = loadable(NetworkDescription((Input((2,)), Dense(np.array(inside), _NEURON))))
    assert isinstance(written.layers[1], Conv)
    assert written.layers[1].weight.reshape(1, 2).tolist() == inside
    with pytest.raises(ExportError, match=r"dense1: .* outside of the -256 to 255 that Loihi holds"):
        loadable(NetworkDescription((Input((2,)), Dense(np.array(outside), _NEURON))))


def test_only_layers_up_to_the_last_altered_one_are_rewritten() -> None:
    kinds = [layer.kind for layer in loadable(NetworkDescription((_KEPT, _ALTERED, _KEPT, _KEPT))).layers]
    assert kinds == ["input", "conv", "conv", "flatten", "dense", "dense"]
    assert loadable(NetworkDescription((_KEPT, _KEPT))) == NetworkDescription((_KEPT, _KEPT))


def test_a_network_without_an_input_layer_is_rewritten_too() -> None:
    written = loadable(NetworkDescription((_ALTERED, _KEPT)))
    assert [layer.kind for layer in written.layers] == ["input", "conv", "flatten", "dense"]
    assert written.input_shape == (2,)


def test_a_dense_layer_as_a_convolution_keeps_the_delays_of_its_channels(tmp_path: Path) -> None:
    """A transposed convolution is dense in a file, but its delays are those of its channels."""
    image = Dense(np.full((8, 2), -64), _NEURON, axon_delay=np.array([3, 1]), output_shape=(2, 2, 2))
    written = loadable(NetworkDescription((Input((2,)), image)))
    assert isinstance(written.layers[1], Conv)
    write(written, tmp_path / "a.net")
    assert read(tmp_path / "a.net") == written


def test_all_zero_has_no_format() -> None:
    with pytest.raises(NetxFormatError, match="matrix of zeros"):
        weight_format(np.zeros((2, 2), np.int64))


@pytest.mark.imports_lava
@given(st.integers(1, 4095) | st.integers(-4095, -1), st.integers(-4095, 4095))
def test_a_resonators_rotation_is_written_so_that_it_loads_exactly(sin: int, cos: int) -> None:
    from lava.lib.dl.slayer.neuron.rf import neuron_params
    from lava.proc.rf.process import RF

    from netx_export.network.stock_loader import rotation_that_loads

    written = rotation_that_loads(np.array([sin]), np.array([cos]))
    stock = neuron_params({"sinDecay": written[0], "cosDecay": written[1], "vThMant": 64})
    process = RF(shape=(1,), period=stock["period"], alpha=stock["decay"], state_exp=6, decay_bits=12)
    assert (int(process.sin_decay.init[0]), int(process.cos_decay.init[0])) == (sin, cos)
    assert [int(value[0]) for value in load_resonator_decays(*written)] == [sin, cos]


@pytest.mark.parametrize(("exponent", "effective"), [(3, 40), (0, 5), (-1, 2)])
def test_the_exponent_shifts_weights_up_and_rounds_them_down(exponent: int, effective: int) -> None:
    assert LoadedWeights(np.array([[5]]), exponent).effective.tolist() == [[effective]]
