"""``export``: proves itself, never changes the model, and never leaves half a file behind."""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import re
import signal
import sys
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support_cases import CUBA, EXACT, Chain, network

from lava_spikeloss import LOIHI_1, LoihiBudget, SparsityEnforcer, SpikeStatistics
from netx_export import ExportError, check, export, read, simulate, verify
from netx_export.file.atomic import replacing
from netx_export.file.netx import write
from netx_export.network.chip import LIMITS, Limit
from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription
from netx_export.network.exact_weights import loadable
from netx_export.run import Run
from netx_export.slayer import describe, evaluation, read_chain, record
from netx_export.slayer.reading import BlockContext, weights
from netx_export.slayer.running import forward

pytestmark = pytest.mark.slayer


def _case(name: str) -> Any:
    return next(case for case in EXACT if case.name == name)


def _blocks() -> Any:
    from lava.lib.dl.slayer import block

    return block.cuba


@pytest.fixture
def digits() -> tuple[Chain, torch.Tensor]:
    return network(_case("cuba.Dense "))


def _state(net: torch.nn.Module) -> dict[str, Any]:
    """Everything that a forward or an export could change."""
    state: dict[str, Any] = {}
    for name, module in net.named_modules():
        for key, value in module.__dict__.items():
            state[f"{name}.{key}"] = _frozen(value)
    return state


def _frozen(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (id(value), value.data_ptr(), value.detach().numpy().tobytes())
    if isinstance(value, dict):
        return (id(value), {key: _frozen(item) for key, item in value.items()})
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return repr(value) if isinstance(value, str | int | float | tuple | list | type(None)) else id(value)


@pytest.mark.parametrize(
    "name",
    [
        "cuba.Dense ",
        "cuba.Dense weight_norm",
        "cuba.Dense mask",
        "cuba.Dense mask and weight_norm",
        "cuba.Dense delay",
        "cuba.Dense decays trained",
        "cuba.Dense MeanOnlyBatchNorm",
        "cuba.Recurrent ",
        "cuba.KWTA half win",
        "rf.Dense ",
        "bootstrap.cuba.Dense ",
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_export_changes_nothing_in_the_model(name: str, training: bool, tmp_path: Path) -> None:
    net, sample = network(_case(name))
    net.train(training)
    before, rng, sample_before = _state(net), torch.get_rng_state(), sample.clone()
    numpy_rng, python_rng = np.random.get_state()[1].tolist(), random.getstate()
    export(net, tmp_path / "a.net", sample)
    assert _state(net) == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert np.random.get_state()[1].tolist() == numpy_rng
    assert random.getstate() == python_rng
    assert torch.equal(sample, sample_before)


def test_a_failed_export_changes_nothing_either(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    net, _ = digits
    before = _state(net)
    with pytest.raises(ExportError, match="cannot run"):
        export(net, tmp_path / "a.net", torch.zeros(1, 13, 5))
    assert _state(net) == before


def test_the_callers_neuron_params_stay_as_they_are(tmp_path: Path) -> None:
    params = copy.deepcopy(CUBA)
    net = Chain([_blocks().Dense(params, 4, 3, weight_scale=9)])
    export(net, tmp_path / "a.net", torch.ones(1, 4, 40), allow_silent=["dense1", "output"])
    assert params == CUBA


def test_enforcers_and_statistics_do_not_count_what_export_runs(
    digits: tuple[Chain, torch.Tensor], tmp_path: Path
) -> None:
    net, sample = digits
    enforcer, statistics = SparsityEnforcer(0.01, 1.0).attach(net), SpikeStatistics().attach(net)
    net(sample[:2])
    loss, before = enforcer.loss, statistics.compute().to_dict()
    export(net, tmp_path / "a.net", sample)
    assert torch.equal(enforcer.loss, loss)
    assert statistics.compute().to_dict() == before
    net(sample[:1])
    assert statistics.compute().to_dict() != before  # they still watch
    enforcer.detach()
    statistics.detach()


def test_hooks_can_still_be_removed(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    net, sample = digits
    calls: list[int] = []
    handle = net.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    export(net, tmp_path / "a.net", sample)
    handle.remove()
    calls.clear()
    net(sample)
    assert not calls


@pytest.mark.parametrize("name", ["cuba.Dense ", "cuba.Dense weight_norm", "cuba.Dense delay"])
def test_training_goes_on_as_if_nothing_had_happened(name: str, tmp_path: Path) -> None:
    def train(exporting: bool) -> list[torch.Tensor]:
        net, sample = network(_case(name))
        optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
        for step in range(4):
            optimiser.zero_grad()
            net(sample).sum().backward()
            optimiser.step()
            if exporting and step == 1:
                export(net, tmp_path / "a.net", sample)
        return [parameter.detach().clone() for parameter in net.parameters()]

    for plain, exported in zip(train(False), train(True), strict=True):
        assert torch.equal(plain, exported)


def test_works_straight_after_load_state_dict(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    trained, sample = digits
    fresh = Chain(_case("cuba.Dense ").build())
    fresh.load_state_dict(trained.state_dict())
    export(fresh, tmp_path / "fresh.net", sample)
    export(trained, tmp_path / "trained.net", sample)
    assert (tmp_path / "fresh.net").read_bytes() == (tmp_path / "trained.net").read_bytes()


def test_the_same_network_gives_the_same_bytes_later_too(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    net, sample = digits
    export(net, tmp_path / "a.net", sample, metadata={"b": "1", "a": "2"})
    time.sleep(1.1)  # HDF5's timestamps count seconds
    export(net, tmp_path / "b.net", sample, metadata={"a": "2", "b": "1"})
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_the_parts_in_which_weights_are_taken_change_nothing(
    digits: tuple[Chain, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, sample = digits
    export(net, tmp_path / "a.net", sample)
    for module in ("netx_export.file.content", "netx_export.slayer.reading", "netx_export.slayer.running"):
        monkeypatch.setattr(sys.modules[module], "_BLOCK", 7)
    export(net, tmp_path / "b.net", sample)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_a_run_holds_no_more_weights_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron import base

    net, sample = network(_case("cuba.Dense weight_norm"))
    block, quantise = net.blocks[0], base.quantize
    weight, quantiser, sizes = block.synapse.weight, block.synapse.pre_hook_fx, []

    def watched(values: torch.Tensor, step: float) -> torch.Tensor:
        sizes.append(values.numel())
        return quantise(values, step)

    monkeypatch.setattr(sys.modules["netx_export.slayer.running"], "_BLOCK", 1)
    monkeypatch.setattr(base, "quantize", watched)
    with evaluation(net):
        forward(net, sample)
        assert block.synapse.weight is weight
        assert block.synapse.pre_hook_fx == quantiser
    assert max(sizes) == max(one.synapse.weight[0].numel() for one in net.blocks)


def test_reading_weights_keeps_nothing_that_was_made_of_them() -> None:
    net, sample = network(_case("cuba.Dense weight_norm"))
    block = net.blocks[0]
    made = block.synapse.weight
    with evaluation(net), torch.no_grad():
        weights(BlockContext(0, block, tuple(sample.shape[1:-1]), flat=True, image=False), block.synapse)
        assert block.synapse.weight is made


def test_the_description_is_gone_before_the_network_runs(
    digits: tuple[Chain, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporting = sys.modules["netx_export.exporting"]
    described: list[weakref.ref[Any]] = []

    def described_by(*arguments: Any) -> Any:
        found, chain = read_chain(*arguments)
        described.extend(weakref.ref(layer.weight) for layer in found.spiking.values())
        return found, chain

    def recorded_by(*arguments: Any) -> Run:
        assert described
        assert not any(weight() is not None for weight in described)
        return record(*arguments)

    monkeypatch.setattr(exporting, "read_chain", described_by)
    monkeypatch.setattr(exporting, "record", recorded_by)
    assert export(digits[0], tmp_path / "a.net", digits[1]).proved


def test_the_file_says_where_it_came_from(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    net, sample = digits
    result = export(net, tmp_path / "a.net", sample, target="loihi1", metadata={"budget": "0.1", "rates": "[0.05]"})
    metadata = result.description.metadata
    assert metadata["target"] == "loihi1"
    assert metadata["budget"] == "0.1"
    assert metadata["torch"] == torch.__version__
    assert {"lava-dl", "source sha256", "content sha256", "rates"} <= set(metadata)
    net.blocks[0].synapse.weight.data.neg_()
    changed = export(net, tmp_path / "a.net", sample).description.metadata
    assert changed["source sha256"] != metadata["source sha256"]
    assert changed["content sha256"] != metadata["content sha256"]


def test_the_rates_of_training_are_recorded_without_being_asked_for(
    digits: tuple[Chain, torch.Tensor], tmp_path: Path
) -> None:
    net, sample = digits
    metadata = export(net, tmp_path / "a.net", sample).description.metadata
    net.eval()
    with torch.no_grad():
        hidden = net.blocks[0](sample)
        rates = {"dense1": hidden.mean().item(), "dense2": net.blocks[1](hidden).mean().item()}
    assert json.loads(metadata["trained rates"]) == pytest.approx(rates)
    assert min(rates.values()) > 0
    assert metadata["trained rates measured on"] == "4 samples of 24 steps"
    unproved = export(net, tmp_path / "a.net").description.metadata
    assert not [key for key in (*metadata, *unproved) if "budget" in key]
    assert "trained rates" not in unproved


def test_the_budget_is_recorded_under_the_names_of_the_file(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    net, sample = digits

    def budgets(budget: Any) -> dict[str, str]:
        metadata = export(net, tmp_path / "a.net", sample, budget=budget).description.metadata
        return {key: text for key, text in metadata.items() if "budget" in key}

    assert budgets(0.03) == {"rate_budget": "0.03"}
    assert budgets(LoihiBudget(synops=2000, energy=1e-6)) == {"synops_budget": "2000.0", "energy_budget": "1e-06"}
    of_blocks = LoihiBudget(events_per_step={"blocks.1": 4.0}, synops={"blocks.0": 7, "blocks.1": 8})
    assert budgets(of_blocks) == {
        "dense2.events_per_step_budget": "4.0",
        "dense1.synops_budget": "7.0",
        "dense2.synops_budget": "8.0",
    }


@pytest.mark.parametrize(
    ("budget", "error", "match"),
    [
        (0.0, ValueError, "`budget` to be greater than 0"),
        (1.5, ValueError, "`budget` to be at most 1"),
        ("0.1", TypeError, "`budget` to be a number but got str"),
        (
            LoihiBudget(synops={"blocks": 7}),
            ValueError,
            r"spiking blocks, \['blocks.0', 'blocks.1'\], but",
        ),
        (LoihiBudget(energy=1e-6, table=replace(LOIHI_1, chip="mine")), ValueError, "by LOIHI_1.*the table of mine"),
    ],
)
def test_budgets_that_do_not_fit(
    budget: Any, error: type[Exception], match: str, digits: tuple[Chain, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        export(digits[0], tmp_path / "a.net", digits[1], budget=budget)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("metadata", "error"),
    [("a", TypeError), ({"a": 1}, TypeError), ({1: "a"}, TypeError), ({"a": "x" * 70_000}, ValueError)],
)
def test_metadata_has_to_be_short_texts(
    metadata: Any, error: type[Exception], digits: tuple[Chain, torch.Tensor], tmp_path: Path
) -> None:
    with pytest.raises(error, match="metadata"):
        export(digits[0], tmp_path / "a.net", digits[1], metadata=metadata)


def test_target_has_to_be_known(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target"):
        export(digits[0], tmp_path / "a.net", digits[1], target="loihi3")  # type: ignore[arg-type]


def test_a_network_that_the_target_cannot_hold_is_not_written(tmp_path: Path) -> None:
    net, sample = network(_case("sigma_delta.Dense "))
    with pytest.raises(ExportError, match=r"fit loihi1\. dense1: message bits of 16, limit \(0, 0\)\. .*dense2"):
        export(net, tmp_path / "a.net", sample, target="loihi1")
    assert not list(tmp_path.iterdir())
    result = export(net, tmp_path / "a.net", sample, target="loihi2")
    assert result.proved
    assert "error" not in [finding.level for finding in result.findings]


def test_a_network_that_takes_more_than_one_chip_is_written_with_a_warning(
    digits: tuple[Chain, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {**LIMITS["loihi2"], "cores": Limit(0, 1, "a part of a chip", "firm")}
    monkeypatch.setattr("netx_export.checking.LIMITS", {"loihi2": small})
    result = export(digits[0], tmp_path / "a.net", digits[1])
    assert result.proved
    assert [(finding.rule, finding.level) for finding in result.findings if finding.rule == "cores"] == [
        ("cores", "warning")
    ]


class _Residual(Chain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.blocks[0](x)
        return self.blocks[1](first + x)


class _HiddenResidual(Chain):
    """Differs from a chain behind its last block only, where no block sees it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = super().forward(x)
        return torch.maximum(spikes, self.blocks[0](x))


class _Reused(Chain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[1](self.blocks[0](self.blocks[0](x)))


@pytest.mark.parametrize(
    ("cls", "match"),
    [
        (_Residual, r"Block 1 \(cuba.Dense\).*not what the block before it made"),
        (_HiddenResidual, "runs it again|does not run as the network does"),
        (_Reused, "runs it again"),
    ],
)
def test_what_is_not_a_chain_is_refused(cls: type[Chain], match: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = cls([_blocks().Dense(CUBA, 6, 6, weight_scale=5), _blocks().Dense(CUBA, 6, 6, weight_scale=5)])
    with pytest.raises(ExportError, match=match):
        export(net, tmp_path / "a.net", (torch.rand(2, 6, 20) < 0.4).float())
    assert not list(tmp_path.iterdir())


class _CustomDense:
    """Makes a block class whose forward does something else than its base."""

    @staticmethod
    def make() -> type:
        class Inverting(_blocks().Dense):  # type: ignore[misc]
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return 1 - super().forward(x)

        return Inverting


def test_a_custom_forward_cannot_slip_through(tmp_path: Path) -> None:
    net = Chain([_CustomDense.make()(CUBA, 6, 6)])
    with pytest.raises(ExportError, match=r"Block 0 \(cuba.Dense\).* run by itself on random input"):
        export(net, tmp_path / "a.net", torch.ones(1, 6, 9))
    assert not list(tmp_path.iterdir())


def test_parameters_outside_of_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"Parameter `blocks\.1\.weight`"):
        export(Chain([_blocks().Dense(CUBA, 6, 6), torch.nn.Linear(9, 9)]), tmp_path / "a.net")
    with pytest.raises(ExportError, match="no SLAYER block"):
        export(torch.nn.Linear(2, 2), tmp_path / "a.net")


def test_neurons_that_are_not_lava_dls_are_refused(tmp_path: Path) -> None:
    net = Chain([_blocks().Dense(CUBA, 6, 6)])
    net.blocks[0].neuron.__class__ = type("Mine", (type(net.blocks[0].neuron),), {"__module__": "mine"})
    with pytest.raises(ExportError, match="neuron Mine is not"):
        export(net, tmp_path / "a.net", torch.ones(1, 6, 9))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("index", "name"), [(0, "weight"), (1, "delay.delay"), (2, "neuron.voltage_decay"), (3, "synapse.weight")]
)
@pytest.mark.parametrize("with_sample", [True, False])
def test_what_is_not_finite_is_refused_by_name(
    index: int, name: str, value: float, with_sample: bool, tmp_path: Path
) -> None:
    blocks = _blocks()
    dense = [blocks.Dense(CUBA, 6, 6, delay=True), blocks.Dense(CUBA, 6, 6)]
    net = Chain([blocks.Input(CUBA, weight=1.0, bias=0.0), *dense, blocks.Affine(CUBA, 6, 3)])
    sample = torch.ones(1, 6, 9)
    net(sample)
    tensors = {**dict(net.blocks[index].named_parameters()), **dict(net.blocks[index].named_buffers())}
    tensors[name].data.fill_(value)
    with pytest.raises(ExportError, match=f"Block {index} .* its `{name}` is not finite"):
        export(net, tmp_path / "a.net", sample if with_sample else None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_refused_by_name(dtype: torch.dtype, digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    net, sample = digits
    path = tmp_path / "net.net"
    with torch.autocast("cpu", dtype=dtype):
        for given in (sample, None):
            with pytest.raises(ExportError, match=f"^torch.autocast is on. .* {dtype}, .* outside of autocast"):
                export(net, path, sample=given)
        assert "torch.autocast is on" in check(net, sample=sample)[0].value
        assert not path.exists()
        with torch.autocast("cpu", enabled=False):
            assert export(net, path, sample=sample).proved
        with pytest.raises(ExportError, match="autocast"):
            verify(net, path, sample, lava_samples=0)


def test_without_a_sample_nothing_is_proved(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    assert not export(digits[0], tmp_path / "a.net").proved
    assert export(digits[0], tmp_path / "a.net", digits[1]).proved


def test_the_old_file_stays_if_the_new_one_fails(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    path.write_bytes(b"old")
    with pytest.raises(ExportError):
        export(digits[0], path, torch.zeros(1, 99, 5))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_stays_as_it_is(
    digits: tuple[Chain, torch.Tensor], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.net"
    make(path)
    before = path.stat()
    with pytest.raises(ExportError, match="no file"):
        export(digits[0], path, digits[1])
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mode == before.st_mode
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "metadata",
    [
        {"": "a"},
        {"a\0b": "c"},
        {"a": "b\0"},
        {"a": "\ud800"},
        {"\udcff": "a"},
        {"a" * 70_000: "b"},
        {"a": "b" * 70_000},
        {str(index): "a" for index in range(5_001)},
        {str(index): "a" * 59_000 for index in range(200)},
    ],
    ids=lambda metadata: ascii(metadata)[:20],
)
def test_texts_that_hdf5_cannot_hold(
    digits: tuple[Chain, torch.Tensor], tmp_path: Path, metadata: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="metadata"):
        export(digits[0], tmp_path / "a.net", digits[1], metadata=metadata)
    assert not list(tmp_path.iterdir())


def test_a_sample_that_is_no_tensor(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="sample"):
        export(digits[0], tmp_path / "a.net", digits[1].numpy())  # type: ignore[arg-type]


def test_a_directory_that_is_not_there(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Cannot write"):
        export(digits[0], tmp_path / "no" / "a.net", digits[1])


def test_the_file_is_closed_and_can_be_replaced(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    for _ in range(2):
        export(digits[0], tmp_path / "a.net", digits[1])
    with h5py.File(tmp_path / "a.net", "r+") as file:
        assert "layer" in file
    assert (tmp_path / "a.net").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _network_of(value: int) -> NetworkDescription:
    neuron = CubaNeuron(80, np.array([1024]), np.array([128]))
    return NetworkDescription((Input((3,)), Dense(np.array([[value, -2, 4]]), neuron)))


def _replace(path: Path, on_line: Callable[[], None]) -> None:
    """Replace the file, and call ``on_line`` before each line of Python that this takes."""

    def trace(*_: Any) -> Any:
        on_line()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with replacing(path) as temporary:
            write(_network_of(20), temporary)
    finally:
        sys.settrace(before)


def _killing_after(lines: int) -> Callable[[], None]:
    """A function that ends this process at once when it is called once more than ``lines`` times."""
    left = itertools.count(lines, -1)
    return lambda: os.kill(os.getpid(), signal.SIGKILL) if next(left) == 0 else None


def _killed_while_replacing(path: Path, lines: int) -> int:
    """Replace the file in a process that is killed after so many lines; its exit status, 0 if they were too many."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            _replace(path, _killing_after(lines))
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_at_any_moment_the_path_holds_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path, lines = tmp_path / "a.net", itertools.count()
    write(_network_of(10), path)
    old = path.read_bytes()
    _replace(path, lambda: None)  # the first time takes lines that no other does, such as imports
    new = path.read_bytes()
    # Counted where a killed writer has left something to remove, as each of those below finds it.
    _killed_while_replacing(path, 1000)
    assert len(list(tmp_path.iterdir())) == 2
    _replace(path, lambda: next(lines))
    total = next(lines)
    found = set()
    moments = [*range(0, total - 60, max(1, total // 60)), *range(total - 60, total)]
    for moment in moments:
        path.write_bytes(old)
        # The number of lines varies a little, since the garbage collector runs in between: the last may come too late.
        assert _killed_while_replacing(path, moment) in (-signal.SIGKILL, 0)
        found.add(path.read_bytes())
        assert len(list(tmp_path.iterdir())) <= 2  # and no more than the last one has left behind
    assert found == {old, new}
    _replace(path, lambda: None)
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_forward_would_change_stays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    mask = torch.rand(5, 6) < 0.5
    blocks = [
        _blocks().Dense({**CUBA, "requires_grad": True}, 6, 5, weight_scale=5, mask=mask, delay=True),
        _blocks().Dense(CUBA, 5, 3),
    ]
    net, sample = Chain(blocks), torch.ones(1, 6, 80)
    net(sample)
    with torch.no_grad():
        blocks[0].synapse.weight.fill_(0.5)  # the next forward masks it,
        blocks[0].synapse.weight[0] = -0.5
        blocks[0].delay.delay.fill_(-3)  # clamps this,
        blocks[0].neuron.voltage_decay.fill_(-7)  # and this
    before = _state(net)
    export(net, tmp_path / "a.net", sample)
    assert _state(net) == before


class _Noting(Chain):
    """Writes down each of its forwards in attributes of many kinds, draws random numbers, and keeps what it made."""

    def __init__(self, blocks: list[Any]) -> None:
        super().__init__(blocks)
        self.calls: list[int] = []
        self.sizes, self.recent, self.counts = {0}, deque([0], maxlen=3), Counter({"samples": 1})
        self.rates: dict[str, list[float]] = {"first": []}
        self.steps, self.total, self.expanded = torch.zeros(3), np.zeros(3), torch.zeros(1).expand(3)
        self.not_writable = np.zeros(3)
        self.not_writable.flags.writeable = False
        self.sparse, self.meta = torch.eye(3).to_sparse(), torch.zeros(3, device="meta")
        self.nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
        self.rates["all"] = self.rates  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(x))
        self.sizes.add(len(self.calls))
        self.recent.append(len(self.calls))
        self.counts.update(samples=len(x))
        self.steps += x.shape[-1]
        self.total += np.random.rand() + random.random()
        self.hidden = self.blocks[0](x)
        self.rates["first"].append(float(self.hidden.mean()))
        return self.blocks[1](self.hidden)


def test_what_a_forward_notes_in_attributes_stays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = _Noting([_blocks().Dense(CUBA, 6, 6, weight_scale=8), _blocks().Dense(CUBA, 6, 6, weight_scale=8)])
    sample = (torch.rand(2, 6, 20) < 0.4).float()
    net(sample)
    names = ("calls", "sizes", "recent", "counts", "rates", "steps", "total", "expanded")
    values = {name: getattr(net, name) for name in names}
    before, states = copy.deepcopy(values), (random.getstate(), np.random.get_state()[2])
    loss = (net.hidden**2).sum()
    assert export(net, tmp_path / "a.net", sample).proved
    assert (random.getstate(), np.random.get_state()[2]) == states
    assert all(getattr(net, name) is value for name, value in values.items())
    assert str(values) == str(before)
    loss.backward()


def test_a_network_made_in_inference_mode_is_exported_outside_of_it(tmp_path: Path) -> None:
    with torch.inference_mode():
        net, sample = network(_case("cuba.Dense weight_norm"))
    assert export(net, tmp_path / "a.net", sample).proved


def test_old_temporary_files_of_a_killed_export_do_no_harm(digits: tuple[Chain, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / ".a.net.x.tmp").write_bytes(b"part of a file")
    export(digits[0], tmp_path / "a.net", digits[1])
    assert read(tmp_path / "a.net").layers


@st.composite
def _chains(draw: st.DrawFn) -> tuple[list[dict[str, Any]], int]:
    sizes = draw(st.lists(st.integers(1, 8), min_size=2, max_size=4))
    blocks = [
        {
            "in_neurons": size_in,
            "out_neurons": size_out,
            "weight_scale": draw(st.sampled_from([1, 4, 16])),
            "weight_norm": draw(st.booleans()),
            "delay": draw(st.booleans()),
            "delay_shift": draw(st.booleans()),
            "threshold": draw(st.sampled_from([0.1, 1.25, 10.0])),
            "current_decay": draw(st.sampled_from([0.001, 0.25, 1.0])),
            "voltage_decay": draw(st.sampled_from([0.0, 0.03, 0.9])),
            "norm": draw(st.booleans()),
        }
        for size_in, size_out in pairwise(sizes)
    ]
    return blocks, draw(st.integers(0, 2**16))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=_chains())
def test_random_networks_are_exact_or_refused(drawn: tuple[list[dict[str, Any]], int], tmp_path: Path) -> None:
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    options, seed = drawn
    torch.manual_seed(seed)
    blocks = []
    for option in options:
        neuron = {name: option.pop(name) for name in CUBA} | {"norm": MeanOnlyBatchNorm if option.pop("norm") else None}
        blocks.append(_blocks().Dense(neuron, **option))
    net = Chain(blocks)
    sample = (torch.rand(3, options[0]["in_neurons"], 20) < 0.5).float()
    net(sample)
    for block in net.blocks:
        if block.delay is not None:
            block.delay.delay.data.uniform_(0, 40)
    path, refused = tmp_path / "a.net", ""
    try:
        names = loadable(describe(net, sample)).spiking
        result = export(net, path, sample, allow_silent=[*names, "output"])
    except ExportError as error:
        refused = str(error)
    assert path.exists() == (not refused)
    if refused:
        assert re.search("would be altered|add up to|cannot load such a matrix", refused), refused
    else:
        fresh = (torch.rand(3, options[0]["in_neurons"], 30) < 0.3).float()
        trained, simulated = record(net, fresh, list(result.description.spiking)), simulate(path, fresh)
        path.unlink()  # the next example is exported to the same path
        for name, raster in trained.layers.items():
            np.testing.assert_array_equal(simulated.layers[name], raster)
