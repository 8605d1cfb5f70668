"""The reference simulator against the very functions of the installed Lava and netx, called without Lava's runtime.

So cheap that thousands of random cases fit, overflowing ones above all. What Lava does at an edge stands beside it, so
that the reference is held to it where Lava is not, too. The whole networks on Lava's runtime are in ``test_lava.py``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from netx_export.network.description import Conv, CubaNeuron, Resonator, ResonatorNeuron, SigmaDeltaNeuron
from netx_export.network.stock_loader import LoadedWeights, load_dense_weights
from netx_export.simulation import reference
from netx_export.simulation.reference.neurons import resonate_and_fire, sigma_delta
from netx_export.simulation.reference.synapses import dense_synapses, message_synapses, spike_synapses
from netx_export.verification import neuron_trace
from netx_export.verification.neuron_trace import trace

pytestmark = pytest.mark.usefixtures("loops")
_LAVA = pytest.param("lava", marks=pytest.mark.imports_lava)
on_reference_and_lava = pytest.mark.parametrize("run", ["reference", _LAVA])
in_every_form = pytest.mark.parametrize("run", ["reference", "neuron of a diagnosis", _LAVA])
CPU = torch.device("cpu")
decays = st.sampled_from([0, 1, 128, 1024, 4095, 4096]) | st.integers(0, 4096)


def _lava_neurons(activation: np.ndarray, neuron: CubaNeuron, bias: np.ndarray | None) -> np.ndarray:
    """Spikes ``(T, ...)`` of Lava's own LIF model, with the values that netx sets."""
    pytest.importorskip("lava.proc.lif.models")
    from lava.proc.lif.models import PyLifModelBitAcc

    model = PyLifModelBitAcc({})
    shape = activation.shape[1:]
    channels = (1, -1, *[1] * (len(shape) - 2))
    model.u, model.v = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    model.du = (neuron.current_decay - 1).reshape(channels).astype(np.uint16)
    model.dv = neuron.voltage_decay.reshape(channels).astype(np.uint16)
    model.bias_mant = np.zeros(shape, np.int16) if bias is None else np.broadcast_to(bias.reshape(channels), shape)
    model.bias_exp = np.int16(6)
    model.vth = np.int32(neuron.threshold)
    model.scale_bias()
    model.scale_threshold()
    spikes = []
    for step in activation.astype(np.int32):
        model.subthr_dynamics(step)
        spikes.append(model.spiking_activation())
        model.reset_voltage(spikes[-1])
    return np.stack(spikes)


@pytest.mark.imports_lava
@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([10, 1_000, 100_000, 140_000, 400_000]),
    shared=st.booleans(),
    shape=st.sampled_from([(2, 5), (1, 3, 2, 4)]),
    threshold=st.integers(1, 2**17 - 1) | st.sampled_from([0, 2**17, 2**24]),
    decay=st.tuples(decays, decays),
    biased=st.booleans(),
)
def test_neurons_equal_lavas_even_when_they_overflow(seed, scale, shared, shape, threshold, decay, biased):
    rng = np.random.default_rng(seed)
    channels = 1 if shared else shape[1]
    current_decay, voltage_decay = (np.full(channels, value) for value in decay)
    if not shared:
        current_decay[0], voltage_decay[-1] = rng.integers(0, 4097, 2)
    neuron = CubaNeuron(threshold, current_decay, voltage_decay)
    largest = rng.choice([60, 4096, 2**15])
    bias = rng.integers(-largest, largest, shape[1]) if biased else None
    activation = rng.integers(-scale, scale, (40, *shape)) + rng.integers(-scale, scale)
    spikes = reference.integrate_and_fire(torch.from_numpy(activation.astype(np.float64) * 64), neuron, bias)
    assert np.array_equal(spikes.numpy(), _lava_neurons(activation, neuron, bias))


# Sums of weights that come in at each step, decays of current and voltage, and the steps at which a neuron with a
# threshold of 1 spikes.
@in_every_form
@pytest.mark.parametrize(
    ("activation", "decay", "steps"),
    [
        ([1, 0, 0], (4096, 0), []),  # a voltage at the threshold does not spike
        ([1, 1, 0], (4096, 0), [1]),
        ([131_072, 131_073, 131_073], (4096, 4096), [0]),  # a current of 2^23 does not wrap; one beyond does
        ([131_071, 131_073, 0], (4096, 0), [0]),
        ([-131_071, 131_071, 1, 1], (4096, 0), [3]),
        ([-131_072, 0, 0], (4096, 4096), [0]),  # a current of -2^23 wraps, one above it does not
        ([400_000, 0, 0], (4096, 4096), [0]),  # a current is wrapped once, however far it goes
        # The voltage stops at 131071 63/64 on both sides.
        ([-131_000, -131_000, 131_071, 1, 1, 1], (4096, 0), [4]),
        ([-131_000, -131_000, 131_071, 2, 1, 1], (4096, 0), [3, 5]),
        # What decays is cut off towards zero, above it and below.
        ([2, 0], (2047, 4096), [0]),
        ([-2, 2], (2049, 4096), [1]),
        ([-2, 2], (4096, 2049), [1]),
        ([-131_000, -131_000, 0, 0, 130_977], (4096, 1), []),  # the voltage stopped at 1 - 2^23, not one above it
        ([-131_000, -131_000, 131_041], (4096, 1), [2]),  # nor one below
    ],
)
def test_neurons_spike_at_the_edges_of_24_bits_as_lavas_do(activation, decay, steps, run):
    neuron = CubaNeuron(1, *map(np.atleast_1d, decay))
    assert _spiking_steps(activation, neuron, run) == steps


@in_every_form
@pytest.mark.parametrize(("threshold", "steps"), [(2**17 - 1, [1]), (2**17, []), (2**24, [])])
def test_a_threshold_beyond_the_highest_voltage_is_never_reached(threshold, steps, run):
    neuron = CubaNeuron(threshold, np.array([4096]), np.array([0]))
    assert _spiking_steps([131_071, 131_071], neuron, run) == steps


def _spiking_steps(activation: list[int], neuron: CubaNeuron, run: str) -> list[int]:
    values = np.array(activation).reshape(-1, 1, 1)
    if run == "lava":
        spikes = _lava_neurons(values, neuron, None)
    elif run == "reference":
        spikes = reference.integrate_and_fire(torch.from_numpy(values), neuron, scale=64).numpy()
    else:  # a pixel with an input for each step
        layer = Conv(values.reshape(1, -1, 1, 1), neuron, (len(values), 1, 1))
        spikes = trace(layer, (0, 0, 0), np.eye(len(values), dtype=np.uint8)).spikes
    return np.flatnonzero(spikes).tolist()


class _Port:
    """One of a Lava model's ports: what a test puts into it is received, and what the model sends is kept."""

    def __init__(self) -> None:
        self.data: np.ndarray | None = None

    def recv(self) -> np.ndarray:
        assert self.data is not None
        return self.data

    def send(self, data: np.ndarray) -> None:
        self.data = data


def _lava_resonators(neuron: ResonatorNeuron, real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    """Spikes ``(T, N, C)`` of Lava's own resonators, with the values that netx sets."""
    pytest.importorskip("lava.proc.rf.models")
    from lava.proc.rf.models import PyRFModelFixed
    from lava.proc.rf_iz.models import PyRF_IZModelFixed

    model = (PyRFModelFixed if neuron.reset == "phase" else PyRF_IZModelFixed)({})
    model.real, model.imag = np.zeros(real.shape[1:], np.int32), np.zeros(real.shape[1:], np.int32)
    model.sin_decay, model.cos_decay = (decay.astype(np.int32) for decay in (neuron.sin_decay, neuron.cos_decay))
    model.state_exp, model.decay_bits, model.vth = np.int32(6), np.int32(12), np.int32(neuron.threshold << 6)
    model.a_real_in, model.a_imag_in, model.s_out = _Port(), _Port(), _Port()
    spikes = []
    for model.a_real_in.data, model.a_imag_in.data in zip(real, imag, strict=True):
        model.run_spk()
        spikes.append(model.s_out.data)
    return np.stack(spikes)


def _our_resonators(neuron: ResonatorNeuron, real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    return resonate_and_fire(neuron, torch.from_numpy(real), torch.from_numpy(imag)).numpy()


@pytest.mark.imports_lava
@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([2, 10, 1_000, 100_000]),
    threshold=st.integers(1, 2**17 - 1) | st.sampled_from([1, 2, 10, 2**25 - 1]),
    turns=st.booleans(),
    reset=st.sampled_from(["phase", "izhikevich"]),
)
def test_resonators_equal_lavas_even_when_they_saturate(seed, scale, threshold, turns, reset):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, 5) * turns  # without a turn, the parts of the state are sums, and hit limits
    radius = rng.choice([4096, 4095, 3000, 1], 5)
    neuron = ResonatorNeuron(
        threshold, np.trunc(radius * np.sin(angle)).astype(int), np.trunc(radius * np.cos(angle)).astype(int), reset
    )
    inputs = rng.integers(-scale, scale + 1, (2, 40, 2, 5), dtype=np.int32)
    assert np.array_equal(_our_resonators(neuron, *inputs), _lava_resonators(neuron, *inputs))


# Inputs into the real and the imaginary part of a state that does not turn; what is left of it after a step, in units
# of 1/4096; and the steps that spike.
@in_every_form
@pytest.mark.parametrize(
    ("reset", "real", "imag", "keep", "steps"),
    [
        ("phase", [9, 1, -1], [-1, 1, 0], 4096, [1]),  # a real part at the threshold spikes, and an imaginary one of 0
        (
            "phase",
            [9, 0, 1],
            [-1, 1, 0],
            4096,
            [],
        ),  # one below does not, nor does one without a turn from below 0
        ("phase", [10, 0, 0], [0, 1, 0], 4096, []),
        ("izhikevich", [0, 0], [10, 0], 4096, [0]),  # one at the threshold spikes, and is put to 1/64 below it
        ("izhikevich", [0, 0, 0], [9, 1, 1], 4096, [1, 2]),
        # Behind the limit of 24 bits, 131071 63/64 on both sides; without it neither would spike so soon again.
        ("phase", [200_000, -131_062, 0], [-1, 0, 1], 4096, []),
        ("phase", [200_000, -131_061, 0], [-1, 0, 1], 4096, [2]),
        ("phase", [10, 0, 0], [-200_000, 131_071, 1], 4096, [2]),
        ("izhikevich", [0, 0], [-200_000, 131_081], 4096, []),
        ("izhikevich", [0, 0], [-200_000, 131_082], 4096, [1]),
        # Nor does it stop one unit earlier or later, which shows where it decays.
        ("phase", [131_000, 131_000, 0, 0, -130_966], [0, 0, 0, -1, 1], 4095, [4]),
        ("izhikevich", [0] * 6, [-131_000, -131_000, 0, 0, 0, 130_954], 4095, []),
        ("izhikevich", [0] * 5, [-131_000, -131_000, 0, 0, 130_986], 4095, [4]),
    ],
)
def test_resonators_spike_at_their_edges_as_lavas_do(reset, real, imag, keep, steps, run, monkeypatch):
    neuron = ResonatorNeuron(10, np.array([0]), np.array([keep]), reset)
    inputs = [np.array(part, np.int32).reshape(-1, 1, 1) for part in (real, imag)]
    if run == "neuron of a diagnosis":  # with an input for each step, whose weights no loader alters
        monkeypatch.setattr(neuron_trace, "load_weights", lambda weight: [LoadedWeights(weight, 0)])
        layer = Resonator(inputs[0].reshape(1, -1), inputs[1].reshape(1, -1), neuron)
        spikes = trace(layer, (0,), np.eye(len(real), dtype=np.uint8)).spikes
    else:
        spikes = (_lava_resonators if run == "lava" else _our_resonators)(neuron, *inputs)
    assert np.flatnonzero(spikes).tolist() == steps


def _our_sigma_delta(neuron: SigmaDeltaNeuron, bias: np.ndarray | None, weighted: np.ndarray) -> np.ndarray:
    return sigma_delta(neuron, bias, 0, torch.from_numpy(weighted)).numpy()


def _lava_sigma_delta(neuron: SigmaDeltaNeuron, bias: np.ndarray | None, weighted: np.ndarray) -> np.ndarray:
    """Messages or sums ``(T, N, C, ...)`` of Lava's own sigma-delta neurons, with the values that netx sets."""
    pytest.importorskip("lava.proc.sdn.models")
    from lava.proc.sdn.models import PySigmaDeltaModelFixed, PySigmaModelFixed
    from lava.proc.sdn.process import ActivationMode

    model = (PySigmaDeltaModelFixed if neuron.sends else PySigmaModelFixed)({"act_mode": ActivationMode.RELU})
    model.sigma, model.act, model.residue, model.error, model.bias = np.zeros((5, *weighted.shape[1:]), np.int32)
    if bias is not None:
        model.bias = np.broadcast_to(bias.reshape(-1, *[1] * (weighted.ndim - 3)), weighted.shape[1:]).astype(np.int32)
        model.bias = np.left_shift(model.bias, 12)
    model.vth, model.cum_error = np.int32(neuron.threshold << 12), False
    model.spike_exp, model.state_exp = np.int32(6), np.int32(6)
    model.a_in, model.s_out = _Port(), _Port()
    sent = []
    for model.a_in.data in weighted:
        model.run_spk()
        sent.append(model.s_out.data)
    return np.stack(sent)


@pytest.mark.imports_lava
@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    largest=st.sampled_from([3, 4096, 2**20, 2**31 - 1]),
    threshold=st.sampled_from([0, 1, 5, 2**19 - 1]),
    sends=st.booleans(),
    shape=st.sampled_from([(2, 5), (1, 3, 2, 4)]),
    biased=st.booleans(),
)
def test_sigma_delta_neurons_equal_lavas_even_when_they_wrap(seed, largest, threshold, sends, shape, biased):
    rng = np.random.default_rng(seed)
    weighted = rng.integers(-largest, largest + 1, (40, *shape), dtype=np.int32)
    neuron = SigmaDeltaNeuron(threshold, sends)
    bias = rng.integers(-(2**19), 2**19, shape[1]) if biased and sends else None
    sent = _our_sigma_delta(neuron, bias, weighted)
    assert np.array_equal(sent, _lava_sigma_delta(neuron, bias, weighted))


# Sums of weighted messages, in units of 1/64 of what is sent, and what a neuron with the smallest threshold sends.
@on_reference_and_lava
@pytest.mark.parametrize(
    ("weighted", "sent"),
    [
        ([4095, 1, 0], [0, 64, 0]),  # a change at the threshold is sent, 1/64 below it is kept for the next
        ([4096, -4095, -1], [64, 0, -64]),
        ([8191, 4095, 2], [127, 0, 64]),  # the lowest six bits are cut off, downwards
        ([-8191, 8191 + 4096, 0], [0, 64, 0]),  # the sum goes below 0, the activation does not
        ([2**31 - 1, 1, 2**31 - 1], [2**25 - 1, -(2**25), 0]),  # the sum wraps at 32 bits, to below 0
    ],
)
def test_sigma_delta_neurons_send_at_their_edges_what_lavas_do(weighted, sent, run):
    values = np.array(weighted, np.int32).reshape(-1, 1, 1)
    got = (_lava_sigma_delta if run == "lava" else _our_sigma_delta)(SigmaDeltaNeuron(1), None, values)
    assert got.flatten().tolist() == sent


@pytest.mark.imports_lava
@settings(max_examples=500, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    low=st.integers(-300, 300),
    span=st.integers(0, 600),
    step=st.sampled_from([1, 2, 3, 4, 8, 64, 128]),
)
def test_sums_of_loaded_weights_equal_lavas(seed, low, span, step):
    pytest.importorskip("lava.lib.dl.netx.utils")
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    rng = np.random.default_rng(seed)
    weight = rng.integers(low, low + span + 1, (3, 7)) // step * step
    assume(weight.any())  # on zeros the stock loader raises OverflowError
    shifted, bits, exponent, _ = optimize_weight_bits(weight)
    sign = determine_sign_mode(shifted)
    mantissa = truncate_weights(clip_weights(shifted, sign, num_bits=8), sign, bits)
    spikes = rng.random((4, 7)) < 0.5
    sums = np.stack([mantissa[:, row].sum(axis=1) for row in spikes])
    expected = np.left_shift(sums, exponent) if exponent > 0 else np.right_shift(sums, -exponent)
    frames = torch.from_numpy(spikes[np.newaxis].astype(np.uint8))
    assert np.array_equal(dense_synapses(load_dense_weights(weight), CPU)(frames)[0].numpy(), expected)


@pytest.mark.imports_lava
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2]),
    largest=st.sampled_from([127, 256, 2**22, 2**31]),
)
def test_convolutions_equal_lavas(seed, kernel, stride, padding, dilation, groups, largest):
    pytest.importorskip("lava.proc.conv.utils")
    from lava.proc.conv.utils import conv, signed_clamp

    rng = np.random.default_rng(seed)
    weight = rng.integers(-largest, largest, (4, 4 // groups, *kernel))
    neuron = CubaNeuron(1, np.array([0]), np.array([0]))
    layer = Conv(weight, neuron, (4, 8, 9), stride, padding, dilation, groups)
    spikes = rng.random((4, 8, 9)) < 0.5
    lava_weight = weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int32)  # as netx loads it
    pairs = [np.array(pair[::-1]) for pair in (kernel, stride, padding, dilation)]
    sums = conv(spikes.transpose(2, 1, 0), lava_weight, *pairs, groups)
    expected = signed_clamp(sums, bits=24).transpose(2, 1, 0)
    frames = torch.from_numpy(spikes[np.newaxis, np.newaxis].astype(np.uint8))
    assert np.array_equal(spike_synapses(layer, CPU)(frames)[0, 0].numpy(), expected)


def _lava_convolution(layer: Conv, messages: np.ndarray) -> np.ndarray:
    """What Lava's own convolution gives for one step of messages ``(C, H, W)``, in 24 bits."""
    pytest.importorskip("lava.proc.conv.models")
    from lava.proc.conv.models import PyConvModelFixed
    from lava.proc.conv.utils import conv

    weight = layer.weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int32)  # as netx loads it
    sizes = (layer.weight.shape[2:], layer.stride, layer.padding, layer.dilation)
    pairs = [np.array(pair[::-1], np.int8) for pair in sizes]  # as Lava holds them
    sums = conv(messages.transpose(2, 1, 0).astype(np.int32), weight, *pairs, np.int8(layer.groups))
    return PyConvModelFixed({}).clamp_precision(sums).astype(np.int32).transpose(2, 1, 0)


def _our_convolution(layer: Conv, messages: np.ndarray) -> np.ndarray:
    frames = torch.from_numpy(messages[np.newaxis, np.newaxis].astype(np.int32))
    return message_synapses(layer, CPU)(frames)[0, 0].numpy()


@pytest.mark.imports_lava
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("multiple", [1, 2, 3, 5, 255, 256, 257])  # at 256 times it Lava's int32 ends too
@pytest.mark.parametrize("width", [3, 40])  # with many messages matrices are multiplied, with few they are added up
def test_sums_of_messages_at_the_edge_of_24_bits_equal_lavas(multiple, beyond, sign, width):
    """The edge and its multiples, put together of three summands, two of which may lie beyond float32."""
    edge = sign * (multiple * 2**23 + beyond)
    layer = Conv(np.array([[[[1, 256, 256]]]]), SigmaDeltaNeuron(1), (1, 1, width))
    big, small = divmod(edge, 256)
    messages = np.zeros((1, 1, width), np.int64)
    messages[0, 0, :3] = small, big // 2, big - big // 2
    assert np.array_equal(_our_convolution(layer, messages), _lava_convolution(layer, messages))


@pytest.mark.imports_lava
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("multiple", [1, 2, 3, 255, 256, 257])
def test_sums_of_spikes_at_the_edge_of_24_bits_equal_lavas(multiple, beyond, sign):
    edge = sign * (multiple * 2**23 + beyond)
    neuron = CubaNeuron(1, np.array([0]), np.array([0]))
    layer = Conv(np.array([[[[1, edge // 2, edge - edge // 2 - 1]]]]), neuron, (1, 1, 3))
    frames = torch.ones((1, 1, 1, 1, 3), dtype=torch.uint8)
    expected = _lava_convolution(layer, np.ones((1, 1, 3)))
    assert np.array_equal(spike_synapses(layer, CPU)(frames)[0, 0].numpy(), expected)


@pytest.mark.imports_lava
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.integers(1, 24),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2, 4]),
    rate=st.sampled_from([0.01, 0.1, 1.0]),
)
def test_convolutions_of_messages_equal_lavas(seed, bits, kernel, stride, padding, dilation, groups, rate):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-256, 256, (4, 4 // groups, *kernel))
    layer = Conv(weight, SigmaDeltaNeuron(1), (4, 8, 9), stride, padding, dilation, groups)
    messages = rng.integers(-(2**bits), 2**bits, (4, 8, 9)) * (rng.random((4, 8, 9)) < rate)
    assert np.array_equal(_our_convolution(layer, messages), _lava_convolution(layer, messages))
