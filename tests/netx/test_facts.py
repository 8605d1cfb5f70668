"""What is known to break in lava-dl 0.6.0, one by one: the stock way fails as we say, and ours does not.

What the support table has a row for (delays, norms, pooling, adaptive neurons, ...) is tested there.
"""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support_cases import CUBA, EXACT, Chain, network

from netx_export import ExportError, SimulationError, check, export, read, simulate
from netx_export.file.netx import write
from netx_export.network.description import CubaNeuron, Dense, NetworkDescription
from netx_export.simulation import lava_parent
from netx_export.simulation.lava_python import find_lava_python

pytestmark = pytest.mark.slayer


def _case(name: str) -> Any:
    return next(case for case in EXACT if case.name == name)


def _dense(**neuron: Any) -> Chain:
    from lava.lib.dl.slayer import block

    torch.manual_seed(0)
    return Chain([block.cuba.Dense({**CUBA, **neuron}, 6, 4, weight_scale=5)])


def _stock_export(net: Chain, path: Path) -> None:
    """``export_hdf5`` as in lava-dl's tutorials."""
    with h5py.File(path, "w") as file:
        layers = file.create_group("layer")
        for index, block in enumerate(net.blocks):
            block.export_hdf5(layers.create_group(f"{index}"))


def test_weight_norm_survives(tmp_path: Path) -> None:
    net, sample = network(_case("cuba.Dense weight_norm"))
    export(net, tmp_path / "a.net", sample)
    assert net.blocks[0].synapse.weight_norm_enabled
    assert hasattr(net.blocks[0].synapse, "weight_g")
    _stock_export(net, tmp_path / "b.net")
    assert not hasattr(net.blocks[0].synapse, "weight_g")


def test_before_the_first_forward(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="no native HDF5 equivalent"):
        _stock_export(_dense(), tmp_path / "b.net")
    assert export(_dense(), tmp_path / "a.net", torch.ones(1, 6, 9)).proved


def test_a_recurrent_state_of_the_last_batch_is_no_part_of_the_network(tmp_path: Path) -> None:
    net, sample = network(_case("cuba.Recurrent "))
    export(net, tmp_path / "a.net", sample)
    net(torch.ones_like(sample))
    export(net, tmp_path / "b.net", sample)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_a_dictionary_that_recurrent_wrote_into_does_not_matter(tmp_path: Path) -> None:
    from lava.lib.dl.slayer import block

    shared = copy.deepcopy(CUBA)
    torch.manual_seed(0)
    net = Chain([block.cuba.Recurrent(shared, 6, 4, weight_scale=5), block.cuba.Dense(shared, 4, 3, weight_scale=5)])
    assert "persistent_state" in shared
    sample = (torch.rand(3, 6, 30) < 0.5).float()
    with torch.no_grad():
        net(sample)
    assert export(net, tmp_path / "a.net", sample).proved


@pytest.mark.parametrize(("trained", "loaded"), [(5000.0, 4096), (1024.4, 1024)])
def test_decays_that_training_pushed_out_of_range(trained: float, loaded: int, tmp_path: Path) -> None:
    net = _dense(requires_grad=True)
    net.blocks[0].neuron.current_decay.data.fill_(trained)
    description = export(net, tmp_path / "a.net", torch.ones(1, 6, 9)).description
    assert description.spiking["dense1"].neuron.current_decay[0] == loaded  # type: ignore[union-attr]


def test_a_decay_that_training_pushed_below_zero_is_refused(tmp_path: Path) -> None:
    net = _dense(requires_grad=True)
    net.blocks[0].neuron.current_decay.data.fill_(-3.0)  # SLAYER clamps it to 0
    with pytest.raises(ExportError, match="current_decay 0 "):
        export(net, tmp_path / "a.net", torch.ones(1, 6, 9))


def test_thresholds_beyond_17_bits(tmp_path: Path) -> None:
    net = _dense(threshold=3000.0)
    net(torch.ones(1, 6, 9))
    _stock_export(net, tmp_path / "b.net")
    assert "threshold" in [finding.rule for finding in check(tmp_path / "b.net")]
    with pytest.raises(ExportError, match="mantissa 192000"):
        export(net, tmp_path / "a.net", torch.ones(1, 6, 9))


def test_files_of_the_stock_export_are_read_as_ours(tmp_path: Path) -> None:
    net, sample = network(_case("cuba.Conv stride, padding, dilation, groups, not square"))
    ours = export(net, tmp_path / "a.net", sample).description
    _stock_export(net, tmp_path / "b.net")
    with h5py.File(tmp_path / "b.net", "r+") as file:  # the stock export does not say what goes in
        for index in (2, 1, 0):
            file.move(f"layer/{index}", f"layer/{index + 1}")
        file["layer/0/type"], file["layer/0/shape"] = "input", np.array([2, 7, 8])
    assert read(tmp_path / "b.net").layers[1:] == ours.layers[1:]


def test_a_threshold_reached_exactly_does_not_fire(tmp_path: Path) -> None:
    net = _dense(threshold=1.0, current_decay=1.0, voltage_decay=0.5)
    net.blocks[0].synapse.weight.data.fill_(1.0)
    net.blocks[0].synapse.weight.data[0] = -0.5  # keeps the layer's signs mixed
    sample = torch.zeros(1, 6, 4)
    sample[0, 0, 1] = 1
    export(net, tmp_path / "a.net", sample, allow_silent=["dense1", "output"])
    assert simulate(tmp_path / "a.net", sample).output.sum() == 0


@pytest.mark.lava
def test_a_file_that_lava_ran_can_be_exported_again(tmp_path: Path) -> None:
    net, sample = network(_case("cuba.Dense "))
    path = tmp_path / "a.net"
    for _ in range(2):
        export(net, path, sample)
        simulate(path, sample[:1], backend="lava")
    assert read(path).layers


@pytest.mark.lava
def test_what_the_stock_loader_alters_is_simulated_as_altered(tmp_path: Path) -> None:
    """A file from elsewhere runs on the reference as it runs on Lava, even where both differ from its training."""
    net = _dense()
    net.blocks[0].synapse.weight.data.fill_(-1.0)
    net.blocks[0].synapse.weight.data[0, 0] = -3.99
    net(torch.ones(1, 6, 9))
    _stock_export(net, tmp_path / "b.net")
    spikes = (np.random.default_rng(0).random((2, 6, 30)) < 0.5).astype(np.uint8)
    assert "weights altered" in [finding.rule for finding in check(tmp_path / "b.net")]
    on_lava = simulate(tmp_path / "b.net", spikes, backend="lava")
    np.testing.assert_array_equal(simulate(tmp_path / "b.net", spikes).output, on_lava.output)


def test_input_neurons_take_numbers_and_no_nan(tmp_path: Path) -> None:
    net, _ = network(_case("cuba.Input with a neuron"))
    sample = torch.rand(2, 12, 24) * 3 - 1
    export(net, tmp_path / "a.net", sample)
    with torch.no_grad():
        np.testing.assert_array_equal(simulate(tmp_path / "a.net", sample).output, net(sample).numpy())
    sample[0, 0, 0] = float("nan")
    with pytest.raises(SimulationError, match="finite"):
        simulate(tmp_path / "a.net", sample)


@pytest.mark.parametrize(("name", "written"), [("Pool", "norm"), ("Unpool", "norm"), ("KWTA", "persistent_state")])
def test_other_blocks_that_write_into_the_callers_dictionary(name: str, written: str, tmp_path: Path) -> None:
    """The block behind takes what was written; what counts is what the network then does."""
    from lava.lib.dl.slayer import block
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    torch.manual_seed(0)
    given = {**CUBA, "current_decay": 1.0, "norm": None if name == "KWTA" else MeanOnlyBatchNorm}
    shared = dict(given)
    make = getattr(block.cuba, name)
    first = make(shared, 6, 4, 2, weight_scale=5) if name == "KWTA" else make(shared, 2, weight_scale=4)
    shape, size = {"KWTA": ((6,), 4), "Pool": ((2, 4, 4), 8), "Unpool": ((2, 4, 4), 128)}[name]
    assert shared.get(written) != given.get(written)
    flatten = [block.cuba.Flatten()] if len(shape) == 3 else []
    net = Chain([first, *flatten, block.cuba.Dense(shared, size, 3, weight_scale=5)])
    before = dict(shared)
    assert export(net, tmp_path / "a.net", (torch.rand(3, *shape, 30) < 0.5).float()).proved
    assert shared == before


@pytest.mark.imports_lava
def test_a_file_that_netx_left_open_in_this_process_can_be_written_again(tmp_path: Path) -> None:
    from lava.lib.dl.netx.utils import NetDict

    net, sample = network(_case("cuba.Dense "))
    path = tmp_path / "a.net"
    export(net, path, sample)
    opened = NetDict(str(path))
    with pytest.raises(OSError, match="unable to truncate"):
        _stock_export(net, path)
    net.blocks[0].synapse.weight.data.neg_()
    written = export(net, path, sample).description
    assert read(path) == written
    opened.f.close()


@pytest.mark.imports_lava
def test_a_bias_under_the_wrong_keyword(tmp_path: Path) -> None:
    """Lava's LIF takes ``bias=`` for nothing; a bias of ours arrives."""
    from lava.proc.lif.process import LIF

    assert int(np.max(LIF(shape=(1,), bias=7).bias_mant.init)) == 0
    assert int(np.max(LIF(shape=(1,), bias_mant=7).bias_mant.init)) == 7
    neuron = CubaNeuron(80, np.array([1024]), np.array([128]))
    write(NetworkDescription((Dense(np.array([[2, -2]]), neuron, bias=np.array([7])),)), tmp_path / "a.net")
    silence = np.zeros((1, 2, 40))
    got = simulate(tmp_path / "a.net", silence, backend="lava").output
    assert got.any()
    np.testing.assert_array_equal(got, simulate(tmp_path / "a.net", silence).output)


_STOCK = """
import json, sys
import numpy as np
from lava.lib.dl.netx import hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi1SimCfg, Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

def run(frames, configuration, steps):
    net = hdf5.Network(net_config=sys.argv[1])
    source, sink = Source(data=frames), Sink(shape=net.out.shape, buffer=steps)
    source.s_out.connect(net.inp)
    net.out.connect(sink.a_in)
    net.run(condition=RunSteps(num_steps=steps), run_cfg=configuration)
    spikes = sink.data.get()
    net.stop()
    return spikes.astype(int).tolist()

frames = np.load(sys.argv[2])
fixed, steps = Loihi1SimCfg(select_tag="fixed_pt"), frames.shape[-1]
runs = run(frames, fixed, steps), run(frames, Loihi2SimCfg(), steps), run(frames, fixed, 2 * steps)
print("RUNS", json.dumps(runs))
"""


@pytest.mark.lava
def test_the_default_run_configuration_and_a_source_that_replays(tmp_path: Path) -> None:
    """As in netx's tutorials: floating point gives other spikes, and a RingBuffer begins anew after its data.

    In a process of its own, since a run that fails inside hangs for ever.
    """
    net, _ = network(_case("cuba.Dense "))
    sample = (torch.rand(1, 12, 30, generator=torch.Generator().manual_seed(1)) < 0.3).float()
    path = export(net, tmp_path / "a.net", sample).path
    np.save(tmp_path / "frames.npy", sample[0].numpy().astype(int))
    arguments = [*find_lava_python().command, "-c", _STOCK, str(path), str(tmp_path / "frames.npy")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RUNS "))
    fixed, default, longer = (np.array(run) for run in json.loads(line.removeprefix("RUNS ")))

    def line_up(run: Any, expected: Any) -> bool:
        """Whether the run is what we expect, up to the steps that it comes later or earlier."""
        steps = expected.shape[-1]
        return any(np.array_equal(run[:, shift:steps], expected[:, : steps - shift]) for shift in range(4)) or any(
            np.array_equal(run[:, : steps - shift], expected[:, shift:]) for shift in range(1, 4)
        )

    with torch.no_grad():
        trained = net(sample)[0].numpy()
        padded = torch.nn.functional.pad(sample, (0, 30))
        trained_longer = net(padded)[0].numpy()
    assert trained.sum() > 10
    assert line_up(fixed, trained)
    assert not line_up(default, trained)
    assert not line_up(longer, trained_longer)
    for inputs, expected in ((sample, trained), (padded, trained_longer)):
        np.testing.assert_array_equal(simulate(path, inputs, backend="lava").output[0], expected)


@pytest.mark.lava
def test_delays_take_netxs_sparse_layers_which_are_faster_and_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, sample = network(_case("cuba.Dense delay"))
    path = export(net, tmp_path / "a.net", sample).path
    delayed = [layer.delay is not None for layer in read(path).spiking.values()]  # type: ignore[union-attr]
    assert any(delayed)
    chosen = []
    for sparse in (None, True, False):
        if sparse is not None:
            monkeypatch.setattr(lava_parent, "_sparse_is_faster", lambda description, sparse=sparse: sparse)
        chosen.append(lava_parent._sparse_is_faster(read(path)))
        output = simulate(path, sample[:2], backend="lava").output
        np.testing.assert_array_equal(output, simulate(path, sample[:2]).output)
    assert chosen == [True, True, False]


@pytest.mark.lava
@pytest.mark.slow
def test_an_error_inside_a_run_ends_with_a_message_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lava's own ``stop()`` would wait for ever."""
    net, sample = network(_case("cuba.Dense "))
    path = export(net, tmp_path / "a.net", sample).path
    lava_parent._workers[0].end()
    failing = "import lava.proc.lif.models as m; m.PyLifResetModelBitAcc.run_spk = lambda self: 1 / 0; "
    mark = f"MARK_OF_{tmp_path.name}"
    monkeypatch.setenv(mark, "1")
    with monkeypatch.context() as patched:
        patched.setattr(lava_parent, "_CHILD", failing + lava_parent._CHILD)
        with pytest.raises(SimulationError, match="Lava"):
            simulate(path, sample[:1], backend="lava", timeout=60)
    deadline = time.monotonic() + 10
    while left := _processes_with(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    np.testing.assert_array_equal(simulate(path, sample[:1], backend="lava").output, simulate(path, sample[:1]).output)
    assert _processes_with(mark), "no process was found where one has to be"


def _processes_with(mark: str) -> list[str]:
    """Processes that were started with this name in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append(process.name)
    return found
