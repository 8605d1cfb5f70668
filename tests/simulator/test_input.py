"""What goes into ``simulate``: every type that means 0 and 1 gives the same, everything else one clear error."""

from __future__ import annotations

import dataclasses
import re
import sys

import numpy as np
import pytest
import torch

from netx_export import ExportError, NetworkDescription, NetxFormatError, SimulationError, simulate
from netx_export.network.description import Conv, CubaNeuron, Dense, Encoder, Input, SigmaDeltaNeuron
from netx_export.simulation import lava_parent


@pytest.mark.parametrize("dtype", ["bool", "u1", "i1", "u2", "i4", "u8", "f2", "f4", "f8", ">f4", ">i2"])
def test_every_numeric_type_gives_the_same_spikes(mlp_file, mlp_spikes, dtype):
    assert np.array_equal(simulate(mlp_file, mlp_spikes.astype(dtype)).output, simulate(mlp_file, mlp_spikes).output)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float8_e5m2", "float64"])
def test_every_type_of_tensor_gives_the_same_spikes(mlp_file, mlp_spikes, dtype):
    tensor = torch.from_numpy(mlp_spikes).to(getattr(torch, dtype)).requires_grad_(dtype == "float64")
    assert np.array_equal(simulate(mlp_file, tensor).output, simulate(mlp_file, mlp_spikes).output)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "bfloat16", "float8_e5m2", "float64"])
def test_input_neurons_take_every_type_of_tensor(mlp, mlp_spikes, saved, dtype):
    encoder = Encoder(CubaNeuron(10, np.array([1024]), np.array([128])))
    path = saved(NetworkDescription((Input((12,), False, encoder), *mlp.layers[1:])))
    tensor = torch.from_numpy(mlp_spikes).to(getattr(torch, dtype))
    assert np.array_equal(simulate(path, tensor).output, simulate(path, mlp_spikes).output)
    if tensor.is_floating_point():
        with pytest.raises(SimulationError, match="finite input values"):
            simulate(path, torch.full(tensor.shape, float("nan")).to(tensor.dtype))


def test_lists_and_read_only_or_reversed_arrays_are_taken(mlp_file, mlp_spikes):
    expected = simulate(mlp_file, mlp_spikes).output
    mlp_spikes.flags.writeable = False
    assert np.array_equal(simulate(mlp_file, mlp_spikes).output, expected)
    assert np.array_equal(simulate(mlp_file, mlp_spikes[::-1]).output, expected[::-1])
    assert np.array_equal(simulate(mlp_file, mlp_spikes.tolist()).output, expected)


@pytest.mark.parametrize("axis", [0, -1])
def test_an_axis_of_one_that_is_turned_round_is_taken(mlp_file, mlp_spikes, axis):
    """numpy calls it contiguous, and torch refuses it; a chunk of one sample is made of the other."""
    one = mlp_spikes.take([3], axis)
    expected = simulate(mlp_file, one).output
    assert np.array_equal(simulate(mlp_file, np.flip(one, axis)).output, expected)


def test_a_chunk_of_one_sample_of_a_reversed_array_is_taken(mlp_file, mlp_spikes, monkeypatch):
    expected = simulate(mlp_file, mlp_spikes).output
    monkeypatch.setattr("netx_export.simulation.reference.chunk_size", lambda *_: 1)
    assert np.array_equal(simulate(mlp_file, mlp_spikes[::-1]).output, expected[::-1])


def test_a_tensor_that_torch_negates_only_when_it_is_read_is_taken(mlp_file, mlp_spikes):
    lazy = torch.complex(torch.zeros(mlp_spikes.shape), -torch.from_numpy(mlp_spikes).float()).conj().imag
    assert lazy.is_neg()
    assert np.array_equal(simulate(mlp_file, lazy).output, simulate(mlp_file, mlp_spikes).output)


def test_the_input_is_left_alone(mlp_file, mlp_spikes):
    before = mlp_spikes.copy()
    simulate(mlp_file, mlp_spikes)
    assert np.array_equal(mlp_spikes, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 255, "values between 0 and 255; divide by 255"),
        (lambda x: x * 0.5, r"values between 0 and 0\.5; encode them first"),
        (lambda x: np.where(x, 1, np.nan), "values that are NaN"),
        (lambda x: np.where(x, 1, -1), "values between -1 and 1"),
        (lambda x: np.where(x, np.inf, 0), "values between 0 and inf"),
        (lambda x: x.astype(np.float32) * np.float32(0.999), r"values between 0 and 0\.999"),
        (lambda x: np.where(np.arange(20) == 7, 1 - 2**-24, 1 + 0 * x).astype(np.float32), "values between 1 and 1"),
        (lambda x: x + 1e-30, "values between 1e-30 and 1"),
        (lambda x: x.astype(str), "numeric type of up to 64 bits but got <U"),
        (lambda x: x.astype(object), "bits but got object"),
        (lambda x: x.astype(complex), "bits but got complex128"),
        (lambda x: x.astype(np.longdouble), "bits but got float128"),
        (lambda x: torch.from_numpy(x).to_sparse(), r"dense tensor of real numbers but got torch\.sparse_coo"),
        (
            lambda x: torch.quantize_per_tensor(torch.from_numpy(x).float(), 1.0, 0, torch.quint8),
            "but got .* torch.quint8",
        ),
        (
            lambda x: torch.nested.nested_tensor([torch.ones(12, 3), torch.ones(12, 4)]),
            "dense tensor .* but got nested",
        ),
        (lambda x: torch.from_numpy(x).to("meta"), "tensor with values but got one without"),
        (lambda x: np.ma.array(x, mask=x > 0), "but got a masked one"),
        (lambda x: [[1], [1, 0]], "Expected an array or a tensor but got a list: .*inhomogeneous"),
        (lambda x: [torch.ones(12, 3, requires_grad=True)], "Expected an array or a tensor but got a list"),
        (lambda x: None, "Expected an array or a tensor but got a NoneType"),
        (lambda x: {"spikes": x}, "Expected an array or a tensor but got a dict"),
        (lambda x: (frame for frame in x), "Expected an array or a tensor but got a generator"),
        (lambda x: torch.from_numpy(x).to(torch.complex64), r"real numbers but got torch\.strided, torch\.complex64"),
    ],
)
def test_anything_but_zeros_and_ones_is_refused(mlp_file, mlp_spikes, change, message):
    with pytest.raises(SimulationError, match=message):
        simulate(mlp_file, change(mlp_spikes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], r"but got \(12, 20\)\. .* time last: if it is \(C, T\), spikes\[None\]\.$"),
        (lambda x: x[:, :11], r"shape \(N, 12, T\) .* but got \(6, 11, 20\)"),
        (lambda x: x[..., :0], r"one step but got \(6, 12, 0\)"),
        (lambda x: x[:0], r"at least one sample .* but got \(0, 12, 20\)"),
        (lambda x: x[:, :, None], r"but got \(6, 12, 1, 20\)"),
        (lambda x: 1, r"but got \(\)"),
    ],
)
def test_a_wrong_shape_is_refused_with_advice(mlp_file, mlp_spikes, change, message):
    with pytest.raises(SimulationError, match=message):
        simulate(mlp_file, change(mlp_spikes))


_MLP = {"N": 6, "C": 12, "T": 20}
_IMAGE = {"N": 6, "C": 2, "H": 3, "W": 4, "T": 5}
_OF_VECTORS = ["NTC", "TNC", "CT", "TC", "NC"]
_OF_IMAGES = ["NHWCT", "NTCHW", "TNCHW", "NTHWC", "TNHWC", "NTWHC", "NWHCT", "CHWT", "TCHW", "WHCT", "NCHW"]


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("layout", [*_OF_VECTORS, *_OF_IMAGES])
def test_a_layout_of_others_is_refused_with_advice_that_works(mlp_file, mlp_spikes, saved, rng, layout, as_tensor):
    sizes, path, spikes = _MLP, mlp_file, mlp_spikes
    if "H" in layout:
        conv = Conv(np.ones((1, 2, 1, 1), np.int64), CubaNeuron(1, np.array([0]), np.array([0])), (2, 3, 4))
        sizes, path = _IMAGE, saved(NetworkDescription((Input((2, 3, 4), False), conv)))
        spikes = (rng.random(tuple(_IMAGE.values())) < 0.2).astype(np.uint8)
    spikes = spikes if "N" in layout else spikes[:1]
    spikes = spikes if "T" in layout else spikes[..., :1]
    axes = [list(sizes).index(axis) for axis in layout]
    turned = spikes.transpose(*axes, *(axis for axis in range(spikes.ndim) if axis not in axes))
    given = turned.reshape([sizes[axis] for axis in layout])
    with pytest.raises(SimulationError) as error:
        simulate(path, torch.from_numpy(given.copy()) if as_tensor else given)
    found = re.search(rf"if it is \({', '.join(layout)}\), (.*?[\])])(;|\.)", str(error.value))
    assert found, error.value
    advised = eval(found[1], {"np": np, "spikes": torch.from_numpy(given.copy()) if as_tensor else given})
    assert np.array_equal(simulate(path, advised).output, simulate(path, spikes).output)


def test_where_several_layouts_fit_all_are_named(mlp_file, mlp_spikes):
    with pytest.raises(SimulationError) as error:
        simulate(mlp_file, mlp_spikes.transpose(2, 0, 1))
    assert "if it is (N, T, C), np.transpose(spikes, (0, 2, 1));" in str(error.value)
    assert "if it is (T, N, C), np.transpose(spikes, (1, 2, 0))." in str(error.value)
    assert str(error.value).endswith("Its sizes do not say which it is.")


@pytest.mark.parametrize(
    ("timeout", "error"), [("a", TypeError), (True, TypeError), (-1, ValueError), (np.nan, ValueError)]
)
def test_a_time_limit_that_is_none_is_refused(mlp_file, mlp_spikes, timeout, error):
    for backend in ("reference", "lava"):
        with pytest.raises(error, match="Expected argument `timeout` to be"):
            simulate(mlp_file, mlp_spikes, backend=backend, timeout=timeout)


def test_an_unknown_back_end_is_refused(mlp_file, mlp_spikes):
    with pytest.raises(ValueError, match="Expected argument `backend` to be 'reference' or 'lava' but got 'loihi'"):
        simulate(mlp_file, mlp_spikes, backend="loihi")


def test_progress_is_shown_on_request_and_never_on_standard_output(mlp_file, mlp_spikes, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws on a terminal only
    simulate(mlp_file, mlp_spikes)
    assert capsys.readouterr() == ("", "")
    simulate(mlp_file, mlp_spikes, progress=True)
    shown = capsys.readouterr()
    assert "Simulating on reference" in shown.err
    assert shown.out == ""


# The refusal is that of every other Python: on 3.10 the same call runs Lava, which is tested where Lava is installed.
@pytest.mark.skipif(sys.version_info[:2] == (3, 10), reason="Lava can be there on Python 3.10")
@pytest.mark.usefixtures("nothing_named")
def test_lava_needs_python_3_10(mlp_file, mlp_spikes):
    with pytest.raises(SimulationError, match=r"Lava runs on Python 3\.10 only"):
        simulate(mlp_file, mlp_spikes, backend="lava")


@pytest.mark.parametrize("backend", ["reference", pytest.param("lava", marks=pytest.mark.lava)])
def test_a_description_runs_as_its_file_does(mlp, mlp_file, mlp_spikes, backend):
    expected, got = (simulate(network, mlp_spikes, backend=backend) for network in (mlp_file, mlp))
    assert got.arrays.keys() == expected.arrays.keys()
    for name, spikes in expected.arrays.items():
        assert spikes.any()
        assert np.array_equal(got.arrays[name], spikes)


def test_a_description_that_netx_cannot_load_is_refused_by_the_name_of_its_layer(mlp, mlp_spikes):
    start, first, last = mlp.layers
    silenced = NetworkDescription((start, first, dataclasses.replace(last, weight=0 * last.weight)))
    with pytest.raises(NetxFormatError, match=r"^dense2: its weights are nothing but zeros"):
        simulate(silenced, mlp_spikes)


@pytest.mark.lava
def test_a_description_runs_on_lava_with_the_weights_that_lava_makes_of_it(mlp_spikes):
    """Weights of -64 are loaded as zeros, so that the bias alone drives the neurons: on both simulators."""
    neuron = CubaNeuron(80, np.array([1024]), np.array([128]))
    layer = Dense(np.full((3, 12), -64), neuron, bias=np.array([100, 200, 300]))
    network = NetworkDescription((Input((12,), False), layer))
    on_lava = simulate(network, mlp_spikes, backend="lava")
    assert on_lava.output.any(axis=2).all()
    np.testing.assert_array_equal(simulate(network, mlp_spikes).output, on_lava.output)


def test_a_description_that_no_file_holds_does_not_run_on_lava(mlp, mlp_spikes, monkeypatch):
    monkeypatch.setattr(lava_parent, "read", lambda path: NetworkDescription(mlp.layers[:2]))
    with pytest.raises(SimulationError, match=r"no file holds this description as it is\. What is read back"):
        simulate(mlp, mlp_spikes, backend="lava")

    def refuse(path):
        raise NetxFormatError(f"{path}: group /layer/1: its threshold is too high.")

    monkeypatch.setattr(lava_parent, "read", refuse)
    with pytest.raises(SimulationError, match=r"as it is\. group /layer/1: its threshold is too high\.$"):
        simulate(mlp, mlp_spikes, backend="lava")


def test_a_description_that_netx_loads_otherwise_does_not_run_on_lava(mlp_spikes):
    neuron = SigmaDeltaNeuron(1, message_bits=8)
    layers = Input((12,), False, Encoder(SigmaDeltaNeuron(1))), Dense(2 * np.ones((5, 12), int), neuron)
    with pytest.raises(ExportError, match="16 bits only"):
        simulate(NetworkDescription(layers), mlp_spikes, backend="lava")
