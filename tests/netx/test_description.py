"""A network description says at once, and of which layer, what no netx network can be."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from netx_export import DescriptionError, NetxExportError
from netx_export.network.description import (
    Affine,
    Average,
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


def ints(*values: Any) -> np.ndarray:
    return np.array(values)


NEURON = CubaNeuron(80, ints(1024), ints(128))
RF = ResonatorNeuron(64, ints(900), ints(3900), "phase")
SIGMA_DELTA = SigmaDeltaNeuron(5)
DENSE = Dense(ints([2, -4, 6], [8, 10, -12]), NEURON)
NEXT = Dense(ints([2, -4], [6, -8]), NEURON)
RECURRENT = Recurrent(DENSE.weight, NEXT.weight, NEURON)
RESONATOR = Resonator(DENSE.weight, DENSE.weight, RF)
CONV = Conv(2 * np.arange(-4, 4).reshape(4, 1, 1, 2), NEURON, (2, 3, 3), groups=2)  # to (4, 3, 2)
AFFINE = Affine(NEXT.weight, NEURON)


def _accepted(*layers: Any) -> None:
    assert NetworkDescription(tuple(layers)).layers == layers


def _refused(message: str, *layers: Any) -> None:
    with pytest.raises(DescriptionError, match=message):
        NetworkDescription(tuple(layers))


def test_it_is_a_value_error_and_one_of_this_package() -> None:
    with pytest.raises(ValueError, match=r"^dense1: it takes 3 values, and the layer before it gives 4\.$") as error:
        NetworkDescription((Input((4,)), DENSE))
    assert isinstance(error.value, NetxExportError)
    assert isinstance(error.value, DescriptionError)
    assert error.value.index == 1


def _neuron(layer: Any, **changes: Any) -> Any:
    return replace(layer, neuron=replace(layer.neuron, **changes))


# Each with the greatest or smallest number that is held, and the first that is not.
EDGES: list[tuple[str, Any, Any]] = [
    ("its threshold is -1", _neuron(DENSE, threshold=0), _neuron(DENSE, threshold=-1)),
    ("its threshold is 16777217", _neuron(DENSE, threshold=2**24), _neuron(DENSE, threshold=2**24 + 1)),
    ("its threshold is 0, outside of 1", _neuron(RESONATOR, threshold=1), _neuron(RESONATOR, threshold=0)),
    ("its threshold is 33554432", _neuron(RESONATOR, threshold=2**25 - 1), _neuron(RESONATOR, threshold=2**25)),
    *[
        (
            f"its threshold is {beyond}",
            replace(DENSE, neuron=SigmaDeltaNeuron(edge)),
            replace(DENSE, neuron=SigmaDeltaNeuron(beyond)),
        )
        for edge, beyond in ((0, -1), (2**19 - 1, 2**19))
    ],
    *[
        (
            f"its {name.replace('_', ' ')} is {beyond}",
            _neuron(DENSE, **{name: ints(edge)}),
            _neuron(DENSE, **{name: ints(beyond)}),
        )
        for name in ("current_decay", "voltage_decay")
        for edge, beyond in ((0, -1), (4096, 4097))
    ],
    *[
        (
            f"its {name} decay is {beyond}",
            _neuron(RESONATOR, **{key: ints(edge)}),
            _neuron(RESONATOR, **{key: ints(beyond)}),
        )
        for name, key in (("sine", "sin_decay"), ("cosine", "cos_decay"))
        for edge, beyond in ((-4096, -4097), (4096, 4097))
    ],
    ("its bias is -32769", replace(DENSE, bias=ints(-(2**15), 0)), replace(DENSE, bias=ints(-(2**15) - 1, 0))),
    ("its bias is 32768", replace(DENSE, bias=ints(2**15 - 1, 0)), replace(DENSE, bias=ints(2**15, 0))),
    *[
        (
            f"its bias is {beyond}, outside of -524288 to 524287",
            replace(DENSE, neuron=SIGMA_DELTA, bias=ints(edge, 0)),
            replace(DENSE, neuron=SIGMA_DELTA, bias=ints(beyond, 0)),
        )
        for edge, beyond in ((-(2**19), -(2**19) - 1), (2**19 - 1, 2**19))
    ],
    (
        "its weight goes from -12 to 2147483648",
        replace(DENSE, weight=ints([2, -4, 2**31 - 1], [8, 10, -12])),
        replace(DENSE, weight=ints([2, -4, 2**31], [8, 10, -12])),
    ),
    (
        "its weight goes from -2147483649",
        replace(DENSE, weight=ints([2, -4, -(2**31)], [8, 10, -12])),
        replace(DENSE, weight=ints([2, -4, -(2**31) - 1], [8, 10, -12])),
    ),
    ("its weight is an array of float64", DENSE, replace(DENSE, weight=DENSE.weight / 1)),
    ("its weight is a list", DENSE, replace(DENSE, weight=DENSE.weight.tolist())),
    (r"its weight has the shape \(6,\); expected 2 axes", DENSE, replace(DENSE, weight=DENSE.weight.reshape(6))),
    (r"its weight has the shape \(0, 3\)", DENSE, replace(DENSE, weight=np.zeros((0, 3), int))),
    ("its neurons are of ResonatorNeuron", DENSE, replace(DENSE, neuron=RF)),
    ("its neurons are of SigmaDeltaNeuron", RECURRENT, replace(RECURRENT, neuron=SIGMA_DELTA)),
    ("its neurons are of CubaNeuron", RESONATOR, replace(RESONATOR, neuron=NEURON)),
    ("its reset is 'none'", _neuron(RESONATOR, reset="izhikevich"), _neuron(RESONATOR, reset="none")),
    ("its threshold is 80.5", DENSE, _neuron(DENSE, threshold=80.5)),
    (
        r"decays of shape \(3,\) do not fit 2",
        _neuron(DENSE, current_decay=ints(1, 2)),
        _neuron(DENSE, current_decay=ints(1, 2, 3)),
    ),
    (r"decays of shape \(1, 1\)", _neuron(RESONATOR, cos_decay=ints(1, 2)), _neuron(RESONATOR, cos_decay=ints([1]))),
    ("its current_decay is an array of float64", DENSE, _neuron(DENSE, current_decay=ints(0.5))),
    (r"a bias of shape \(1,\) does not fit 2", replace(DENSE, bias=ints(1, 2)), replace(DENSE, bias=ints(1))),
    ("its bias is an array of float64", replace(DENSE, bias=ints(1, 2)), replace(DENSE, bias=ints(1.5, 2))),
    (
        "sums with a bias",
        replace(DENSE, neuron=SIGMA_DELTA, bias=ints(1, 2)),
        replace(DENSE, neuron=SigmaDeltaNeuron(0, sends=False), bias=ints(1, 2)),
    ),
    ("its delays go down to -1 steps", replace(DENSE, delay=ints(0, 63)), replace(DENSE, delay=ints(-1, 0))),
    (r"delays of shape \(4,\)", replace(DENSE, delay=ints(1, 2, 3)), replace(DENSE, delay=ints(1, 2, 3, 4))),
    (
        r"delays of shape \(3, 2\)",
        replace(DENSE, delay=np.ones((2, 3), int)),
        replace(DENSE, delay=np.ones((3, 2), int)),
    ),
    (
        r"axonal delays of shape \(3,\) do not fit 2",
        replace(DENSE, axon_delay=ints(0, 1)),
        replace(DENSE, axon_delay=ints(0, 1, 2)),
    ),
    (
        "its axonal delays go down to -1 steps",
        replace(DENSE, axon_delay=ints(0, 1)),
        replace(DENSE, axon_delay=ints(-1, 1)),
    ),
    (
        r"output shape \(3, 1\) does not fit the \(2,\)",
        replace(DENSE, output_shape=(2, 1, 1)),
        replace(DENSE, output_shape=(3, 1)),
    ),
    (
        "expected a tuple of 1 to 3 whole numbers of at least 1",
        replace(DENSE, output_shape=(2, 1, 1)),
        replace(DENSE, output_shape=(2, 1, 1, 1)),
    ),
    (
        r"recurrent weights of shape \(2, 3\) do not fit 2 neurons",
        RECURRENT,
        replace(RECURRENT, recurrent_weight=DENSE.weight),
    ),
    (r"imaginary weights of shape \(2, 2\)", RESONATOR, replace(RESONATOR, imaginary_weight=NEXT.weight)),
]


@pytest.mark.parametrize(("message", "inside", "outside"), EDGES, ids=[edge[0] for edge in EDGES])
def test_a_layer_at_the_limit_and_one_beyond(message: str, inside: Any, outside: Any) -> None:
    _accepted(Input((3,)), inside)
    _refused(f"{outside.kind}1: .*{message}", Input((3,)), outside)


CONVOLUTIONS: list[tuple[str, Any, Any]] = [
    (r"its stride is \(0, 1\)", CONV, replace(CONV, stride=(0, 1))),
    ("its stride is 128", replace(CONV, stride=(127, 1)), replace(CONV, stride=(128, 1))),
    (r"its padding is \(-1, 0\)", replace(CONV, padding=(0, 0)), replace(CONV, padding=(-1, 0))),
    ("its padding is 128", replace(CONV, padding=(127, 0)), replace(CONV, padding=(128, 0))),
    (r"its dilation is \(0, 1\)", CONV, replace(CONV, dilation=(0, 1))),
    ("its dilation is 128", replace(CONV, dilation=(127, 1)), replace(CONV, dilation=(128, 1))),
    (r"its dilation is \(1,\)", CONV, replace(CONV, dilation=(1,))),
    (
        "1 input channels and 4 output channels in 1 groups",
        replace(CONV, weight=np.ones((4, 2, 1, 2), int), groups=1),
        replace(CONV, weight=np.ones((4, 1, 1, 2), int), groups=1),
    ),
    ("3 output channels in 2 groups", CONV, replace(CONV, weight=CONV.weight[:3])),
    ("in 0 groups", CONV, replace(CONV, groups=0)),
    (
        r"its kernels of \(1, 4\) reach beyond",
        replace(CONV, weight=np.ones((4, 1, 1, 3), int)),
        replace(CONV, weight=np.ones((4, 1, 1, 4), int)),
    ),
    (r"its weight has the shape \(4, 2\); expected 4 axes", CONV, replace(CONV, weight=CONV.weight.reshape(4, 2))),
    (r"its input shape is \(2, 9\); expected a tuple of 3 whole", CONV, replace(CONV, input_shape=(2, 9))),
    (r"a bias of shape \(2,\) does not fit 4", replace(CONV, bias=ints(1, 2, 3, 4)), replace(CONV, bias=ints(1, 2))),
    (
        "sum of a kernel's weights is 134217729",
        replace(CONV, neuron=SIGMA_DELTA, weight=np.array([[[[2**26, 2**26]]]] * 4)),
        replace(CONV, neuron=SIGMA_DELTA, weight=np.array([[[[2**26, 2**26 + 1]]]] * 4)),
    ),
    ("its neurons are of ResonatorNeuron", CONV, replace(CONV, neuron=RF)),
    (
        r"its output shape \(4, 5\) does not fit the \(4, 3, 2\)",
        replace(CONV, output_shape=(24,)),
        replace(CONV, output_shape=(4, 5)),
    ),
]


@pytest.mark.parametrize(("message", "inside", "outside"), CONVOLUTIONS, ids=[edge[0] for edge in CONVOLUTIONS])
def test_a_convolution_at_the_limit_and_one_beyond(message: str, inside: Any, outside: Any) -> None:
    _accepted(Input((2, 3, 3)), inside)
    _refused(f"conv1: .*{message}", Input((2, 3, 3)), outside)


def test_sizes_of_kernels_and_groups_end_at_127() -> None:
    for size, last in ((127, True), (128, False)):
        wide = Conv(np.ones((1, 1, 1, size), int), NEURON, (1, 1, 200))
        grouped = Conv(np.ones((size, 1, 1, 1), int), NEURON, (size, 1, 1), groups=size)
        for name, layer in (("kernel size", wide), ("groups", grouped)):
            if last:
                _accepted(Input(layer.input_shape), layer)
            else:
                _refused(
                    f"conv1: its {name} is 128, outside of 0 to 127: Lava holds it in 8 bits",
                    Input(layer.input_shape),
                    layer,
                )


ORDERS: list[tuple[str, tuple[Any, ...]]] = [
    ("expected at least one layer with neurons", ()),
    ("expected at least one layer with neurons", (Input((3,)),)),
    ("expected at least one layer with neurons", (Input((3,)), Flatten((3,)), Average((3,)))),
    ("dense1: it takes 3 values, and the layer before it gives 2", (Input((2,)), DENSE)),
    ("flatten1: it takes 4 values, and the layer before it gives 3", (Input((3,)), Flatten((4,)), DENSE)),
    ("average2: its 3 means .* into which 2 values do not part", (Input((3,)), DENSE, Average((3,)))),
    ("affine2: it takes 3 values, and the layer before it gives 2", (Input((3,)), DENSE, Affine(DENSE.weight, None))),
    ("input1: an input layer makes sense only as the first layer", (Input((3,)), Input((3,)), DENSE)),
    ("dense3: it comes after average2, and that makes sense only", (Input((3,)), DENSE, Average((2,)), NEXT)),
    ("affine3: it comes after affine2", (Input((3,)), DENSE, AFFINE, AFFINE)),
    ("conv0: netx learns the shape .* begin with an input layer", (CONV,)),
    ("conv2: netx cannot connect a convolution to a flatten", (Input((2, 3, 3)), Flatten((18,)), CONV)),
    (r"conv2: its input \(2, 3, 4\) is not the \(4, 3, 2\) that comes in",
     (Input((2, 3, 3)), CONV, replace(CONV, input_shape=(2, 3, 4)))),
    ("dense2: netx cannot connect a dense layer to a convolution without a flatten",
     (Input((2, 3, 3)), CONV, Dense(np.ones((2, 24), int), NEURON))),
    ("dense3: netx cannot flatten what a dense layer sends", (Input((3,)), DENSE, Flatten((2,)), NEXT)),
    ("layer 1: it is a str; expected one of netx_export.network.layers", (Input((3,)), "dense")),
    (r"input0: its shape is \(\); expected a tuple of 1 to 3", (Input(()), DENSE)),
    (r"input0: its shape is \(3, 0\)", (Input((3, 0)), DENSE)),
    ("input0: its neurons are of ResonatorNeuron", (Input((3,), encoder=Encoder(RF)), DENSE)),  # type: ignore[arg-type]
    (r"input0: decays of shape \(2,\) do not fit 3",
     (Input((3,), encoder=Encoder(CubaNeuron(80, ints(1, 2), ints(1)))), DENSE)),
    ("input0: the weight of its neurons is 0.5", (Input((3,), encoder=Encoder(NEURON, 0.5)), DENSE)),  # type: ignore[arg-type]
    ("input0: the bias of its neurons is 0.5", (Input((3,), encoder=Encoder(NEURON, 64, 0.5)), DENSE)),  # type: ignore[arg-type]
    ("input0: its largest weighted input is 8388864", (Input((3,), encoder=Encoder(NEURON, 2**15 + 1)), DENSE)),
    ("input0: its largest weighted input is 8388608", (Input((3,), encoder=Encoder(NEURON, 0, -(2**17))), DENSE)),
    ("affine2: its scale is 0", (Input((3,)), DENSE, replace(AFFINE, scale=0))),
    ("affine2: its neurons are of SigmaDelta", (Input((3,)), DENSE, replace(AFFINE, neuron=SIGMA_DELTA))),
    ("affine2: its voltage decay is 4097",
     (Input((3,)), DENSE, replace(AFFINE, neuron=CubaNeuron(0, ints(1), ints(4097))))),
]  # fmt: skip


@pytest.mark.parametrize(("message", "layers"), ORDERS, ids=[order[0] for order in ORDERS])
def test_layers_that_make_no_network(message: str, layers: tuple[Any, ...]) -> None:
    _refused(message, *layers)


def test_sums_of_weights_end_where_messages_meet_a_convolution() -> None:
    """Spikes are 0 and 1, and dense weights are brought to eight bits."""
    _accepted(Input((2, 3, 3)), replace(CONV, weight=np.full((4, 1, 1, 2), 2**30)))
    _accepted(Input((3,)), replace(DENSE, neuron=SIGMA_DELTA, weight=np.full((2, 3), 2**30)))


def test_layers_that_just_make_one() -> None:
    flat = Dense(np.ones((2, 24), int), NEURON)
    _accepted(DENSE)  # older files of lava-dl have no input layer
    _accepted(Flatten((3,)), DENSE)
    _accepted(Input((3, 1, 1)), Flatten((3,)), DENSE, Flatten((2,)))
    _accepted(Input((3,)), DENSE, Average((1,)))
    _accepted(Input((3,)), DENSE, replace(AFFINE, neuron=None, scale=1))
    _accepted(Input((18,)), CONV, Flatten((24,)), flat)
    _accepted(Input((2, 3, 3)), CONV, Conv(np.ones((1, 4, 1, 1), int), NEURON, (4, 3, 2)))
    _accepted(Input((3,), encoder=Encoder(NEURON, -(2**15) + 1)), DENSE)
    _accepted(Input((3,), encoder=Encoder(NEURON, 0, 2**17 - 1)), DENSE)


def test_a_printed_network_says_what_runs_on_the_host() -> None:
    dense = Dense(2 * np.arange(-24, 24).reshape(2, 24), NEURON)
    lines = str(NetworkDescription((Input((2, 3, 3), False), CONV, Flatten((24,)), dense, Average((2,))))).splitlines()
    assert ["on the host" in line for line in lines] == [False, False, False, False, False, True]


@pytest.mark.parametrize("width", [60, 80])
def test_a_printed_network_fits_a_narrow_terminal(width: int) -> None:
    conv = Conv(np.ones((4, 2, 3, 3), np.int64), NEURON, stride=(2, 1), input_shape=(2, 9, 9))
    dense = Dense(np.ones((5, 112), np.int64), NEURON)
    description = NetworkDescription((Input((2, 9, 9)), conv, Flatten((4 * 4 * 7,)), dense))
    blocks = [block.splitlines() for block in description.table(width).split("\n\n")]
    assert all(len(line) <= width for block in blocks for line in block)
    assert all(
        [line.split()[0] for line in block] == ["layer", "input0", "conv1", "flatten2", "dense3"] for block in blocks
    )
    headings = re.split(r"  +", "  ".join([blocks[0][0], *(block[0].removeprefix("layer") for block in blocks[1:])]))
    assert headings == re.split(r"  +", str(description).splitlines()[0])
    assert len(blocks) == {60: 4, 80: 3}[width]
    assert description.table(10_000) == str(description)


def test_a_network_shows_itself_in_a_notebook_as_a_table() -> None:
    description = NetworkDescription((Dense(np.array([[-3, 4]]), NEURON),))
    page = description._repr_html_()
    assert page.startswith("<table><thead><tr><th>layer</th><th>neuron</th>")
    assert "<tr><td>dense0</td><td>CUBA</td><td>1</td><td>1</td><td>2</td><td>-3..4</td>" in page


WRONG_TYPES: list[tuple[str, Any]] = [
    ("dense1: its neurons are of NoneType", replace(DENSE, neuron=None)),
    ("dense1: its neurons are of str", replace(DENSE, neuron="cuba")),
    ("dense1: its threshold is True; expected a whole number", _neuron(DENSE, threshold=True)),
    ("dense1: its current_decay is a int; expected an array", _neuron(DENSE, current_decay=5)),
    ("dense1: its bias is a list; expected an array", replace(DENSE, bias=[1, 2])),
    (r"dense1: delays of shape \(0,\) do not fit", replace(DENSE, delay=np.zeros(0, int))),
    (r"dense1: axonal delays of shape \(0,\) do not fit 2", replace(DENSE, axon_delay=np.zeros(0, int))),
    ("dense1: its output shape is 2; expected a tuple of 1 to 3 whole numbers", replace(DENSE, output_shape=2)),
    ("dense1: its delay_shift is 'yes'; expected True or False", replace(DENSE, delay_shift="yes")),
    (
        "dense1: its message_bits are 16.5; expected a whole number",
        replace(DENSE, neuron=SigmaDeltaNeuron(5, True, 16.5)),
    ),
    ("dense1: its message_bits are 0", replace(DENSE, neuron=SigmaDeltaNeuron(5, message_bits=0))),
    ("dense1: its sends is 'no'; expected True or False", replace(DENSE, neuron=SigmaDeltaNeuron(5, "no"))),
    ("conv1: its stride is 1; expected a tuple of 2 whole numbers of at least 1", replace(CONV, stride=1)),
    ("conv1: its dilation is None; expected a tuple of 2 whole numbers", replace(CONV, dilation=None)),
    ("conv1: its groups are 2.0; expected a whole number", replace(CONV, groups=2.0)),
    ("conv1: its input shape is None; expected a tuple of 3 whole numbers", replace(CONV, input_shape=None)),
    (r"conv1: its input shape is \(2.0, 3, 3\)", replace(CONV, input_shape=(2.0, 3, 3))),
    ("flatten1: its shape is 3; expected a tuple of 1 to 3 whole numbers", Flatten(3)),
    ("average1: its shape is 3; expected a tuple of 1 to 3 whole numbers", Average(3)),
]


@pytest.mark.parametrize(("message", "layer"), WRONG_TYPES, ids=[wrong[0] for wrong in WRONG_TYPES])
def test_what_is_of_a_wrong_type_is_named(message: str, layer: Any) -> None:
    _refused(message, Input((2, 3, 3) if isinstance(layer, Conv) else (3,)), layer)


@pytest.mark.parametrize("shape", [3, None, "abc"])
def test_an_input_whose_shape_is_no_tuple_is_named(shape: Any) -> None:
    _refused(
        f"input0: its shape is {shape!r}; expected a tuple of 1 to 3 whole numbers of at least 1", Input(shape), DENSE
    )


@pytest.mark.parametrize(
    ("message", "encoder"),
    [
        ("its encoder is a str; expected an Encoder or None", "rate"),
        ("its neurons are of NoneType", Encoder(None)),  # type: ignore[arg-type]
        ("its sends is 'no'; expected True or False", Encoder(SigmaDeltaNeuron(5, "no"))),  # type: ignore[arg-type]
    ],
)
def test_an_encoder_that_is_none_is_named(message: str, encoder: Any) -> None:
    _refused(f"input0: {message}", Input((3,), encoder=encoder), DENSE)


def test_an_array_is_no_tuple_of_sizes() -> None:
    _refused(r"its shape is array\(\[3\]\); expected a tuple of 1 to 3 whole", Input(np.array([3])), DENSE)


@pytest.mark.parametrize("flag", [None, 1, "no"])
def test_whether_a_voltage_is_read_is_true_or_false(flag: Any) -> None:
    with pytest.raises(
        DescriptionError, match=f"expected argument `reads_voltage` to be True or False, but got {flag!r}"
    ):
        NetworkDescription((DENSE,), reads_voltage=flag)


def test_truth_values_of_numpy_are_taken() -> None:
    _accepted(replace(DENSE, delay_shift=np.False_))


@pytest.mark.parametrize("layers", [None, DENSE, 3])
def test_layers_that_are_no_tuple_are_named(layers: Any) -> None:
    with pytest.raises(DescriptionError, match=f"expected a tuple of layers, but got a {type(layers).__name__}"):
        NetworkDescription(layers)


@pytest.mark.parametrize(
    ("metadata", "named"),
    [(3, "3"), (None, "None"), ({"long": "x" * 1000, "a": 1}, "'a': 1"), ({"long": "x" * 1000, 1: "a"}, "1: 'a'")],
    ids=["a number", "none", "no text", "no name"],
)
def test_metadata_that_no_file_could_hold_are_named(metadata: Any, named: str) -> None:
    with pytest.raises(
        DescriptionError, match=rf"^expected argument `metadata` to map texts to texts, but got {named}\.$"
    ):
        NetworkDescription((DENSE,), metadata)


@pytest.mark.parametrize("value", [-(2**31), 2**31 - 1])
def test_numbers_of_64_bits_are_taken_where_32_hold_them(value: int) -> None:
    beyond = value + (1 if value > 0 else -1)
    for name in ("weight", "bias"):
        values = ints([2, -4, 6], [8, 10, value]) if name == "weight" else ints(1, value)
        with pytest.raises(DescriptionError, match=rf"its {name} goes from .*{beyond}.*, and a file holds 32 bits"):
            NetworkDescription((replace(DENSE, **{name: np.where(values == value, beyond, values)}),))
    _accepted(replace(DENSE, weight=ints([2, -4, 6], [8, 10, value])))


def test_weights_that_are_no_whole_numbers_are_refused_by_their_type() -> None:
    _refused(
        "dense0: its weight is an array of float64; expected an array of whole numbers",
        replace(DENSE, weight=DENSE.weight / 1),
    )
    _refused("dense0: its weight is a list; expected an array of whole numbers", replace(DENSE, weight=[[2, -4, 6]]))
