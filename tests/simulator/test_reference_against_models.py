"""The reference simulator against the very functions of the installed Lava and netx, called without Lava's runtime.

So cheap that thousands of random cases fit, overflowing ones above all. The whole networks on Lava's runtime are in
``test_lava.py``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netx_export.network.description import Conv, CubaNeuron, SigmaDeltaNeuron
from netx_export.network.stock_loader import load_dense_weights
from netx_export.simulation import reference
from netx_export.simulation.reference.synapses import dense_synapses, message_synapses, spike_synapses

pytestmark = [pytest.mark.lava, pytest.mark.usefixtures("loops")]
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


@pytest.mark.parametrize(
    "activation",
    [
        [131_071, 0, 131_072, 0, 131_073, 0],  # the last current that is not wrapped, and the first that is
        [-131_071, -131_071, 131_071, 2, 0, 0],  # the voltage stops at one above -2^23, and one step over 64 fires
        [-131_071, -131_072, -131_073, 1, 1, 1],
    ],
)
def test_neurons_equal_lavas_at_the_edges_of_24_bits(activation):
    neuron = CubaNeuron(1, np.array([4096]), np.array([0]))
    values = np.array(activation).reshape(-1, 1, 1)
    spikes = reference.integrate_and_fire(torch.from_numpy(values * 64), neuron)
    assert np.array_equal(spikes.numpy(), _lava_neurons(values, neuron, None))


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
    if not weight.any():
        return  # the stock loader raises OverflowError
    shifted, bits, exponent, _ = optimize_weight_bits(weight)
    sign = determine_sign_mode(shifted)
    mantissa = truncate_weights(clip_weights(shifted, sign, num_bits=8), sign, bits)
    spikes = rng.random((4, 7)) < 0.5
    sums = np.stack([mantissa[:, row].sum(axis=1) for row in spikes])
    expected = np.left_shift(sums, exponent) if exponent > 0 else np.right_shift(sums, -exponent)
    frames = torch.from_numpy(spikes[np.newaxis].astype(np.uint8))
    assert np.array_equal(dense_synapses(load_dense_weights(weight), CPU)(frames)[0].numpy(), expected)


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


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("multiple", [1, 2, 3, 5, 255, 256, 257])  # at 256 times it Lava's int32 ends too
def test_sums_of_messages_at_the_edge_of_24_bits_equal_lavas(multiple, beyond, sign):
    """The edge and its multiples, put together of three summands, two of which may lie beyond float32."""
    edge = sign * (multiple * 2**23 + beyond)
    layer = Conv(np.array([[[[1, 256, 256]]]]), SigmaDeltaNeuron(1), (1, 1, 3))
    big, small = divmod(edge, 256)
    messages = np.array([[[small, big // 2, big - big // 2]]])
    assert np.array_equal(_our_convolution(layer, messages), _lava_convolution(layer, messages))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bits=st.integers(1, 24), taps=st.integers(1, 5), groups=st.sampled_from([1, 2]))
def test_convolutions_of_messages_equal_lavas(seed, bits, taps, groups):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-256, 256, (4, 4 // groups, taps, taps))
    layer = Conv(weight, SigmaDeltaNeuron(1), (4, 6, 7), (1, 2), (2, 1), groups=groups)
    messages = rng.integers(-(2**bits), 2**bits, (4, 6, 7))
    assert np.array_equal(_our_convolution(layer, messages), _lava_convolution(layer, messages))
