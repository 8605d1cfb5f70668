"""What ``write`` makes of a network, and which files of before and after can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from netx_export import ExportError, NetxFormatError, check, read, simulate
from netx_export.file.netx import FORMAT_VERSION, content_hash, write, write_as_described
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
from netx_export.network.exact_weights import loads_exactly

FORMAT_1 = Path(__file__).parent / "data" / "format_1.net"  # written by the last release that wrote no version
NEURON = CubaNeuron(80, np.array([1024]), np.array([128]))
# netx loads these weights as zeros, so that the bias alone would drive the neurons.
ALTERED = Dense(np.full((2, 3), -64), NEURON, bias=np.array([100, 100]))


def _network(*layers: Any) -> NetworkDescription:
    return NetworkDescription((Input((3,), False), *layers))


# -- weights that the stock loader alters


def test_weights_that_would_be_altered_are_written_so_that_they_arrive(tmp_path: Path) -> None:
    write(_network(ALTERED, Dense(np.array([[2, -4]]), NEURON)), tmp_path / "a.net")
    first, second = read(tmp_path / "a.net").spiking.values()
    assert isinstance(first, Conv)
    assert loads_exactly(first)
    np.testing.assert_array_equal(first.weight.reshape(2, 3), ALTERED.weight)
    np.testing.assert_array_equal(second.weight, [[2, -4]])


@pytest.mark.lava
def test_they_arrive_on_lava(tmp_path: Path) -> None:
    """As described the layer spikes at every step; as written the input keeps it silent where there is enough of it."""
    spikes = np.repeat((np.arange(3) < np.arange(4)[:, None])[:, :, None], 20, axis=2)
    outputs = []
    for put in (write, write_as_described):
        put(_network(ALTERED), tmp_path / "a.net")
        outputs.append(simulate(tmp_path / "a.net", spikes, backend="lava").output)
        np.testing.assert_array_equal(simulate(tmp_path / "a.net", spikes).output, outputs[-1])
    written, described = outputs
    assert written[0].any()
    assert not written[3].any()
    assert described[3].any()


def test_weights_that_cannot_arrive_are_not_written(tmp_path: Path) -> None:
    network = _network(Recurrent(np.full((2, 3), -64), np.full((2, 2), -64), NEURON))
    with pytest.raises(ExportError, match="Layer recurrent1: its weights, from -64 to -64"):
        write(network, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())
    write_as_described(network, tmp_path / "a.net")
    assert read(tmp_path / "a.net") == network


def test_a_network_that_nir_gives_is_written_so_that_it_arrives(tmp_path: Path) -> None:
    pytest.importorskip("nir")
    from netx_export.nir import from_nir, to_nir

    description = from_nir(to_nir(_network(ALTERED)))
    assert not all(map(loads_exactly, description.spiking.values()))
    write(description, tmp_path / "a.net")
    assert all(map(loads_exactly, read(tmp_path / "a.net").spiking.values()))


# -- versions


def test_a_file_says_the_version_of_its_format(tmp_path: Path) -> None:
    write(_network(Dense(np.array([[2, -4, 6]]), NEURON)), tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as file:
        assert file["lava_spikeloss/format_version"][()] == FORMAT_VERSION == 2


def _of_version(version: int, path: Path) -> Path:
    write(_network(Dense(np.array([[2, -4, 6]]), NEURON)), path)
    with h5py.File(path, "r+") as file:
        file["lava_spikeloss/format_version"][()] = version
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_known_versions_are_read(version: int, tmp_path: Path) -> None:
    assert read(_of_version(version, tmp_path / "a.net")).layers


@pytest.mark.parametrize("version", [3, 10**6])
def test_files_of_a_newer_version_are_refused(version: int, tmp_path: Path) -> None:
    path = _of_version(version, tmp_path / "a.net")
    with pytest.raises(NetxFormatError, match=rf"a.net: it was written in version {version} .* Install a newer"):
        read(path)


def test_files_of_the_first_version_are_read_and_their_hash_still_holds(tmp_path: Path) -> None:
    network = read(FORMAT_1)
    kinds = ["input", "conv", "flatten", "dense", "recurrent", "resonator", "affine"]
    assert [layer.kind for layer in network.layers] == kinds
    assert network.metadata["target"] == "loihi2"
    assert "content hash" not in [finding.rule for finding in check(FORMAT_1)]
    changed = tmp_path / "changed.net"
    changed.write_bytes(FORMAT_1.read_bytes())
    with h5py.File(changed, "r+") as file:
        file["layer/3/delay"][0] += 1
    assert "content hash" in [finding.rule for finding in check(changed)]


# -- the content hash


RF = ResonatorNeuron(64, np.array([900]), np.array([3900]), "phase")
DENSE = Dense(np.array([[2, -4, 6], [8, 10, -12]]), NEURON)
NEXT = Dense(np.array([[2, -4]]), NEURON)
CONV = Conv(np.array([[[[2, -4]]]]), NEURON, (1, 1, 4))
SIGMA_DELTA = replace(DENSE, neuron=SigmaDeltaNeuron(5))
RESONATOR = Resonator(DENSE.weight, DENSE.weight, RF)
RECURRENT = Recurrent(DENSE.weight, np.array([[2, 4], [6, 8]]), NEURON)
THREE, TWO = Input((3,)), Input((2,))


def _decays(current: Any, voltage: Any, threshold: int = 80) -> CubaNeuron:
    return CubaNeuron(threshold, np.array(current), np.array(voltage))


DIFFERENT: list[tuple[Any, ...]] = [
    (THREE, DENSE),
    (THREE, replace(DENSE, weight=np.array([[2, -4, 6], [8, 10, -14]]))),
    (THREE, replace(DENSE, neuron=_decays([1024], [128], 81))),
    (THREE, replace(DENSE, neuron=_decays([1023], [128]))),
    (THREE, replace(DENSE, neuron=_decays([1024], [129]))),
    (THREE, replace(DENSE, neuron=_decays([1024, 1024], [128]))),
    (THREE, replace(DENSE, bias=np.array([0, 0]))),
    (THREE, replace(DENSE, bias=np.array([0, 1]))),
    (THREE, replace(DENSE, delay=np.array([0, 1]))),
    (THREE, replace(DENSE, axon_delay=np.array([0, 1]))),
    (THREE, replace(DENSE, output_shape=(2, 1, 1))),
    (THREE, replace(DENSE, output_shape=(1, 2))),
    (THREE, replace(DENSE, delay_shift=False)),
    (replace(THREE, delay_shift=False), DENSE),
    (Input((3, 1, 1)), DENSE),
    (replace(THREE, encoder=Encoder(NEURON)), DENSE),
    (replace(THREE, encoder=Encoder(NEURON, 63)), DENSE),
    (replace(THREE, encoder=Encoder(NEURON, 64, 1)), DENSE),
    (THREE, SIGMA_DELTA),
    (replace(THREE, encoder=Encoder(SigmaDeltaNeuron(1))), SIGMA_DELTA),
    (replace(THREE, encoder=Encoder(SigmaDeltaNeuron(2))), SIGMA_DELTA),
    (THREE, replace(DENSE, neuron=SigmaDeltaNeuron(5, sends=False))),
    (THREE, replace(DENSE, neuron=SigmaDeltaNeuron(5, message_bits=24))),
    (THREE, RESONATOR),
    (THREE, replace(RESONATOR, imaginary_weight=-DENSE.weight)),
    (THREE, replace(RESONATOR, neuron=replace(RF, reset="izhikevich"))),
    (THREE, replace(RESONATOR, neuron=replace(RF, sin_decay=np.array([901])))),
    (THREE, replace(RESONATOR, neuron=replace(RF, cos_decay=np.array([3901])))),
    (THREE, RECURRENT),
    (THREE, replace(RECURRENT, recurrent_weight=np.array([[2, 4], [6, 10]]))),
    (TWO, NEXT),
    (TWO, NEXT, Dense(np.array([[2]]), NEURON)),
    (THREE, Flatten((3,)), DENSE),
    (THREE, DENSE, Average((1,))),
    (THREE, DENSE, Average((2,))),
    (THREE, DENSE, Affine(NEXT.weight, None)),
    (THREE, DENSE, Affine(NEXT.weight, None, 32)),
    (THREE, DENSE, Affine(NEXT.weight, NEURON)),
    (THREE, DENSE, Affine(-NEXT.weight, NEURON)),
    (Input((1, 1, 4)), CONV),
    (Input((1, 1, 4)), replace(CONV, stride=(2, 1))),
    (Input((1, 1, 4)), replace(CONV, stride=(1, 2))),
    (Input((1, 1, 4)), replace(CONV, dilation=(2, 1))),
    (Input((1, 1, 4)), replace(CONV, padding=(0, 1))),
]


def test_networks_that_differ_have_different_hashes() -> None:
    hashes = [content_hash(NetworkDescription(layers)) for layers in DIFFERENT]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize("layers", DIFFERENT, ids=lambda layers: "-".join(layer.kind for layer in layers))
def test_a_network_that_was_written_and_read_has_the_same_hash(layers: tuple[Any, ...], tmp_path: Path) -> None:
    network = NetworkDescription(layers)
    if any(getattr(layer.neuron, "message_bits", 16) != 16 for layer in network.spiking.values()):
        with pytest.raises(ExportError, match="16 bits only"):
            write_as_described(network, tmp_path / "a.net")
    else:
        write_as_described(network, tmp_path / "a.net")
        assert content_hash(read(tmp_path / "a.net")) == content_hash(network)


def test_neither_types_nor_names_nor_texts_change_the_hash() -> None:
    class Renamed(Dense):
        pass

    expected = content_hash(NetworkDescription((THREE, DENSE)))
    same = Renamed(DENSE.weight.astype(np.int32), NEURON)
    assert content_hash(NetworkDescription((THREE, same), {"note": "x"})) == expected


def test_the_hash_of_a_network_stays_what_it_is() -> None:
    """Files record it: another way to reckon it asks for another version of the format."""
    assert content_hash(NetworkDescription((THREE, DENSE))).startswith("dc84c4efce8e8f61")
