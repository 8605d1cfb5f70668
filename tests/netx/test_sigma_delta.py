"""Sigma-delta networks: the simulator equals Lava, also where numbers overflow, and what it cannot do it refuses."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from shipped import shipped

from netx_export import ExportError, NetxFormatError, SimulationError, check, export, read, simulate, verify
from netx_export.checking import _bits
from netx_export.file.netx import write
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    Encoder,
    Input,
    Layer,
    NetworkDescription,
    SigmaDeltaNeuron,
)
from netx_export.run import Run
from netx_export.simulation.host import encode
from netx_export.simulation.reference import peaks, send_changes

ENCODER = Encoder(SigmaDeltaNeuron(2))
NEURON = SigmaDeltaNeuron(5)
OUTPUT = SigmaDeltaNeuron(0, sends=False)


def _weights(*shape: int, largest: int = 60, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-largest // 2, largest // 2 + 1, shape) * 2


def _file(path: Path, *layers: Layer, shape: tuple[int, ...] = (12,), encoder: Encoder | None = ENCODER) -> Path:
    write(NetworkDescription((Input(shape, False, encoder), *layers)), path)
    return path


def _values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).cumsum(-1) / 4


def _assert_equals_lava(path: Path | NetworkDescription, values: torch.Tensor, **options: Any) -> Run:
    reference, lava = (simulate(path, values, backend=backend, **options) for backend in ("reference", "lava"))
    for name, layer in reference.layers.items():
        assert layer.any(), f"{name} is silent"
        np.testing.assert_array_equal(layer, lava.layers[name], err_msg=name)
    np.testing.assert_array_equal(reference.output, lava.output)
    return reference


def _written(path: Path) -> NetworkDescription:
    layers = (
        Conv(_weights(4, 2, 3, 3), NEURON, (2, 7, 8), bias=np.array([3, -3, 0, 40]), delay_shift=False),
        Conv(_weights(3, 4, 2, 2), NEURON, (4, 5, 6), delay_shift=False),
    )
    _file(path, *layers, shape=(2, 7, 8), encoder=Encoder(SigmaDeltaNeuron(3), 40, -7))
    return NetworkDescription((Input((2, 7, 8), False, Encoder(SigmaDeltaNeuron(3), 40, -7)), *layers))


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert _written(tmp_path / "a.net") == read(tmp_path / "a.net")


def test_message_bits_that_netx_cannot_load_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"dense1: its neurons send messages of 8 bits, and netx loads .* 16 bits only"
    ):
        _file(tmp_path / "a.net", Dense(_weights(5, 12), SigmaDeltaNeuron(5, message_bits=8)))


@pytest.mark.lava
def test_a_bias_and_an_encoder_with_weight_and_bias(tmp_path: Path) -> None:
    _written(tmp_path / "a.net")
    _assert_equals_lava(tmp_path / "a.net", _values(2, 2, 7, 8, 12))


@pytest.mark.lava
@pytest.mark.parametrize("spike_exp", [0, 2, 4, 6])
def test_messages_of_another_fraction_are_those_of_netx_with_this_spike_exp(spike_exp: int, tmp_path: Path) -> None:
    _written(tmp_path / "conv.net")
    layers = Dense(_weights(9, 12), NEURON, bias=np.arange(-4, 5)), Dense(_weights(5, 9), OUTPUT)
    _file(tmp_path / "dense.net", *layers)
    for path, shape in (tmp_path / "conv.net", (2, 7, 8)), (tmp_path / "dense.net", (12,)):
        values = _values(2, *shape, 12)
        reference = _assert_equals_lava(path, values, spike_exp=spike_exp)
        for name, layer in reference.layers.items():
            units = layer * 2 ** (12 + spike_exp if not read(path).spiking[name].neuron.sends else 6 + spike_exp)
            np.testing.assert_array_equal(units, units.round(), err_msg=name)
        if spike_exp < 4:  # these weights and inputs are whole at 4 bits
            assert not np.array_equal(reference.output, simulate(path, values).output)


@pytest.mark.imports_lava
@pytest.mark.parametrize("spike_exp", [3, 4, 6])
def test_the_input_is_sent_as_lavas_delta_neurons_send_it(spike_exp: int) -> None:
    from lava.proc.sdn.models import PyDeltaModelFixed

    frames = np.random.default_rng(0).integers(-128, 128, (30, 1, 5)) * 2
    zeros = np.zeros((1, 5), np.int32)
    model = SimpleNamespace(act=zeros, residue=zeros, cum_error=False, vth=7 << (spike_exp + 6))
    sent = []
    for frame in frames.astype(np.int32) << (spike_exp + 6):
        sent.append(PyDeltaModelFixed.delta_dynamics(model, frame) >> 6)
        model.act = frame
    encoded = encode(Encoder(SigmaDeltaNeuron(7)), torch.from_numpy(frames / 64).movedim(0, -1), 6 + spike_exp)
    np.testing.assert_array_equal(encoded.movedim(-1, 0), np.stack(sent))


@pytest.mark.parametrize("spike_exp", [-1, 7, 4.0, True, "4"])
def test_another_spike_exp_is_refused(spike_exp: Any, tmp_path: Path) -> None:
    path = _file(tmp_path / "a.net", Dense(_weights(5, 12), NEURON))
    with pytest.raises(ValueError, match=r"`spike_exp` to be a whole number from 0 to 6.* but got"):
        simulate(path, _values(1, 12, 4), spike_exp=spike_exp)


@pytest.mark.lava
def test_sums_that_leave_32_bits_wrap_as_in_lava(tmp_path: Path) -> None:
    layers = [
        Dense(_weights(size, before, largest=250), neuron, delay_shift=False)
        for before, size, neuron in ((12, 200, NEURON), (200, 200, NEURON), (200, 5, OUTPUT))
    ]
    path = _file(tmp_path / "a.net", *layers)
    values = _values(3, 12, 20) * 8
    _assert_equals_lava(path, values)
    assert np.abs(simulate(path, values).output).max() > 2**12, "nothing came near 32 bits"


@pytest.mark.lava
def test_sums_that_leave_24_bits_wrap_in_a_convolution_as_in_lava(tmp_path: Path) -> None:
    wide = Conv(np.full((1, 1, 2, 2), 250), NEURON, (1, 6, 6), delay_shift=False)
    path = _file(tmp_path / "a.net", wide, shape=(1, 6, 6))
    on = torch.rand(2, 1, 6, 6, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    _assert_equals_lava(path, on * 3.9)


@pytest.mark.lava
def test_sums_that_leave_24_bits_again_and_again_wrap_as_in_lava(tmp_path: Path) -> None:
    wide = Conv(np.full((1, 1, 5, 5), 250), NEURON, (1, 9, 9), padding=(2, 2), delay_shift=False)
    path = _file(tmp_path / "a.net", wide, Conv(-wide.weight, NEURON, (1, 9, 9), delay_shift=False), shape=(1, 9, 9))
    signs = 2 * (torch.rand(2, 1, 9, 9, 12, generator=torch.Generator().manual_seed(0)) < 0.7) - 1
    _assert_equals_lava(path, signs * 3.9)


def _delays(*shape: int) -> Any:
    return np.random.default_rng(1).integers(0, 7, shape)


@pytest.mark.lava
@pytest.mark.parametrize("delay", [_delays(5), _delays(10), _delays(5, 10)], ids=["neurons", "inputs", "synapses"])
def test_delays(delay: Any, tmp_path: Path) -> None:
    first = Dense(_weights(10, 12), NEURON, delay=_delays(12), delay_shift=False)
    last = Dense(_weights(5, 10), OUTPUT, delay=delay, delay_shift=False)
    _assert_equals_lava(_file(tmp_path / "a.net", first, last), _values(2, 12, 24))


@pytest.mark.lava
def test_delayed_sums_that_leave_32_bits_wrap_as_in_lava(tmp_path: Path) -> None:
    first = Dense(_weights(200, 12, largest=250), NEURON, delay_shift=False)
    second = Dense(_weights(200, 200, largest=250), NEURON, delay=_delays(200), delay_shift=False)
    path = _file(tmp_path / "a.net", first, second, Dense(_weights(5, 200), OUTPUT, delay=_delays(5, 200)))
    _assert_equals_lava(path, _values(2, 12, 20) * 16)


def test_a_sum_is_that_of_messages_which_arrive_together() -> None:
    def peak(delay: Any) -> float:
        layer = Dense(np.array([[40, 60]]), OUTPUT, delay=delay, delay_shift=False)
        network = NetworkDescription((Input((2,), False, ENCODER), layer))
        messages = torch.zeros(1, 2, 8, dtype=torch.int32)
        messages[..., 1] = 100
        return peaks(network, messages)["dense1"][0].size

    assert (peak(None), peak(np.array([[2, 2]])), peak(np.array([0, 3]))) == (10_000, 10_000, 6_000)


@pytest.mark.parametrize(
    ("layers", "encoder"),
    [
        ((Dense(_weights(5, 12), NEURON),), None),
        ((Dense(_weights(5, 12), NEURON), Dense(_weights(5, 5), CubaNeuron(5, np.array([1]), np.array([1])))), ENCODER),
    ],
    ids=["spikes into sigma-delta", "sigma-delta into spikes"],
)
def test_what_is_not_simulated_is_refused(layers: Any, encoder: Encoder | None, tmp_path: Path) -> None:
    path = _file(tmp_path / "a.net", *layers, encoder=encoder)
    with pytest.raises(SimulationError, match="not simulated here"):
        simulate(path, np.zeros((1, 12, 4)))


def test_chunks_of_samples_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _file(tmp_path / "a.net", Dense(_weights(9, 12), NEURON), Dense(_weights(5, 9), OUTPUT))
    values = _values(5, 12, 16)
    whole = simulate(path, values)
    monkeypatch.setattr("netx_export.simulation.reference._CHUNK_BYTES", {"cpu": 1, "compiled": 1})
    np.testing.assert_array_equal(simulate(path, values).output, whole.output)


@pytest.mark.slayer
def test_changes_of_the_input_that_lava_dl_recorded() -> None:
    folder = shipped("netx", "gts", "tinynet_sdnn")
    wave = np.sin(2 * np.pi * np.arange(15) / 15)
    values = torch.from_numpy((np.load(folder / "input_bias.npy")[..., None] * wave).astype(int)).movedim(-1, 0)
    np.testing.assert_array_equal(send_changes(values << 6, 20 << 6).movedim(0, -1), np.load(folder / "input.npy"))


@pytest.mark.lava
@pytest.mark.parametrize(
    ("name", "shape"),
    [("square_network.net", (3, 33, 33)), pytest.param("network.net", (3, 33, 100), marks=pytest.mark.slow)],
)
def test_the_network_that_lava_dl_ships(name: str, shape: tuple[int, ...]) -> None:
    _assert_equals_lava(shipped("netx", "gts", "pilotnet_sdnn", name), _values(2, *shape, 4))


def _with_a_head(folder: Path) -> Path:
    """A file as lava-dl's YOLO networks write themselves: blocks, then a synapse with ``dendrite.Sigma`` behind it."""
    from lava.lib.dl.slayer import dendrite, synapse, utils
    from lava.lib.dl.slayer.block import sigma_delta
    from lava.lib.dl.slayer.object_detection.models.yolo_kp import Network

    torch.manual_seed(0)
    neuron = {"threshold": 0.1, "activation": torch.relu}
    blocks = [sigma_delta.Input(neuron), sigma_delta.Conv(neuron, 2, 4, 3, weight_scale=3, padding=1)]
    head = SimpleNamespace(heads=[synapse.Conv(4, 3, 1, pre_hook_fx=utils.quantize_hook_fx), dendrite.Sigma()])
    run = torch.nn.Sequential(*blocks, *head.heads)
    values = _values(2, 2, 6, 5, 12)
    with torch.no_grad(), h5py.File(folder / "head.net", "w") as file:
        torch.save(run(values), folder / "trained.pt")
        for index, block in enumerate(blocks):
            block.export_hdf5(file.create_group(f"layer/{index}"))
        Network.export_hdf5_head(head, file.create_group("layer/2"))
    return folder / "head.net"


@pytest.mark.slayer
def test_a_head_that_lava_dl_writes_is_an_output_layer_of_sums(tmp_path: Path) -> None:
    path = _with_a_head(tmp_path)
    assert list(read(path).spiking.values())[-1].neuron == OUTPUT
    with h5py.File(path, "r+") as file:
        del file["layer/1/neuron/vThMant"]
    with pytest.raises(NetxFormatError, match="group /layer/1/neuron: expected a dataset `vThMant`"):
        read(path)


@pytest.mark.lava
def test_a_head_that_lava_dl_writes_runs_as_on_lava(tmp_path: Path) -> None:
    _assert_equals_lava(_with_a_head(tmp_path), _values(2, 2, 6, 5, 12))


@pytest.mark.slayer
def test_a_file_of_lava_dl_says_no_delay_shift_and_is_read_with_that_of_its_blocks(tmp_path: Path) -> None:
    path, values = _with_a_head(tmp_path), _values(2, 2, 6, 5, 12)
    trained = torch.load(tmp_path / "trained.pt").numpy()
    np.testing.assert_array_equal(simulate(path, values).output, trained)
    shifted = simulate(path, values, delay_shift=True).output
    np.testing.assert_array_equal(shifted[..., 3:], trained[..., :-3])
    assert not shifted[..., :3].any()
    np.testing.assert_array_equal(simulate(read(path, delay_shift=True), values).output, shifted)
    assert read(path, delay_shift=False) == read(path)
    with pytest.raises(TypeError, match="`delay_shift` to be True, False or None but got 1"):
        read(path, delay_shift=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("recorded", [True, False])
def test_what_our_own_files_record_of_delay_shift_holds_unless_told_otherwise(recorded: bool, tmp_path: Path) -> None:
    layers = Dense(_weights(9, 12), NEURON, delay_shift=recorded), Dense(_weights(5, 9), OUTPUT, delay_shift=recorded)
    path, values = _file(tmp_path / "a.net", *layers), _values(2, 12, 9)
    plain = simulate(path, values, delay_shift=False).output
    shifted = np.pad(plain, ((0, 0), (0, 0), (3, 0)))[..., :-3]  # of the input layer too
    np.testing.assert_array_equal(simulate(path, values, delay_shift=True).output, shifted)
    own = np.pad(plain, ((0, 0), (0, 0), (2, 0)))[..., :-2] if recorded else plain
    np.testing.assert_array_equal(simulate(path, values).output, own)


@pytest.mark.lava
def test_delay_shift_makes_no_difference_on_lava_but_to_the_place_of_the_result(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.net", Dense(_weights(9, 12), NEURON), Dense(_weights(5, 9), OUTPUT, delay_shift=False))
    for network in path, read(path):
        for delay_shift in True, False:
            _assert_equals_lava(network, _values(2, 12, 9), delay_shift=delay_shift)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_samples_so_short_that_no_output_depends_on_them_are_refused(steps: int, tmp_path: Path) -> None:
    layers = [Dense(_weights(12, 12), NEURON) for _ in range(2)]
    path = _file(tmp_path / "a.net", *layers, Dense(_weights(5, 12), OUTPUT))
    values = 3 * _values(2, 12, 4)
    assert simulate(path, values).output.any()
    for run in simulate, partial(verify, None):
        with pytest.raises(SimulationError, match=f"samples of more than 3 steps but got {steps}: the"):
            run(path, values[..., :steps])
    assert simulate(path, values[..., :steps], delay_shift=False).output.any()


@pytest.mark.lava
def test_a_message_that_needs_more_bits_than_declared_is_a_finding_and_runs_whole_on_lava(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.net", Dense(_weights(9, 12, largest=250), NEURON), Dense(_weights(5, 9), OUTPUT))
    values = 3 * _values(2, 12, 9)
    run = _assert_equals_lava(path, values)
    found = [finding for finding in check(path, sample=values) if finding.rule == "message beyond its bits"]
    assert [(finding.layer, finding.level, finding.limit) for finding in found] == [("dense1", "warning", 16)]
    largest = int(np.abs(run.layers["dense1"]).max() * 2**12)
    assert found[0].value == 1 + largest.bit_length() > 16
    assert not [finding for finding in check(path, sample=values / 64) if finding.rule == "message beyond its bits"]


@pytest.mark.parametrize(("message", "bits"), [(0, 1), (1, 2), (-1, 1), (-2, 2), (2**15 - 1, 16), (-(2**15), 16)])
def test_bits_of_a_message_are_counted_with_its_sign(message: int, bits: int) -> None:
    assert _bits(torch.tensor([message])) == bits
    assert _bits(torch.tensor([message, 2**15])) == 17


def test_a_table_shows_biases_the_geometry_of_convolutions_and_what_only_sums_up() -> None:
    geometry: Any = {"stride": (2, 1), "padding": (0, 3), "dilation": (1, 2), "groups": 2}
    conv = Conv(_weights(4, 1, 3, 2), NEURON, (2, 7, 8), bias=np.array([3, -3, 0, 40]), **geometry)
    first, last = Input((2, 7, 8), False, Encoder(SigmaDeltaNeuron(3), 40, -7)), Dense(_weights(5, 12), OUTPUT)
    header, *rows = str(NetworkDescription((first, conv))).splitlines()
    assert header.split()[-6:] == ["bias", "kernel", "stride", "padding", "dilation", "groups"]
    assert rows[0].split()[-1] == "-7"
    assert rows[1].split()[-6:] == ["-3..40", "3x2", "2x1", "0x3", "1x2", "2"]
    header, row = str(NetworkDescription((last,))).splitlines()
    assert header.endswith("voltage decay")
    assert "SDNN, sums only" in row


@pytest.mark.slayer
def test_states_beyond_float32_are_refused_by_the_proof(tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import sigma_delta

    torch.manual_seed(0)
    neuron = {"threshold": 0.1, "activation": torch.relu}
    net = torch.nn.Sequential(
        sigma_delta.Input(neuron),
        sigma_delta.Dense(neuron, 20, 128, weight_scale=24),
        sigma_delta.Dense(neuron, 128, 128, weight_scale=24),
        sigma_delta.Output(neuron, 128, 5, weight_scale=24),
    )
    with pytest.raises(ExportError, match="float32"):
        export(net, tmp_path / "a.net", _values(4, 20, 60))
    assert not list(tmp_path.iterdir())
