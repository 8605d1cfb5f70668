"""Checkpoints: into a fresh model, and on with training."""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from slayer_nets import CUBA, NETS, dense, recurrent

from lava_spikeloss.training import load, reset_net, save


def rich_net() -> torch.nn.Module:
    """Recurrent blocks, delays, decays per neuron, norms, weight norm and a torch layer."""
    import lava.lib.dl.slayer as slayer

    block = slayer.block.cuba
    per_neuron = {
        "threshold": 1.0,
        "current_decay": [0.2, 0.4],
        "voltage_decay": [0.05, 0.2],
        "shared_param": False,
        "requires_grad": True,
    }
    return torch.nn.Sequential(
        block.Dense(dict(per_neuron), 8, 16, weight_scale=4, delay=True, weight_norm=True),
        torch.nn.Conv1d(16, 16, 1),
        block.Recurrent(dict(CUBA), 16, 12, weight_scale=4, delay=True),
        block.Dense({**CUBA, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}, 12, 12, weight_scale=4),
        block.Dense({**CUBA, "norm": slayer.neuron.norm.WgtScaleBatchNorm}, 12, 6, weight_scale=4, delay=True),
    )


def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = (torch.rand(4, 8, 24, generator=generator) < 0.5).float()
        optimizer.zero_grad()
        loss = (net(x).mean(dim=-1) - 0.3).pow(2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slayer
def test_a_resumed_training_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    net = rich_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    train(net, optimizer, range(3))
    save(tmp_path / "net.pt", net, optimizer, epoch=3)
    uninterrupted = train(net, optimizer, range(3, 8))

    torch.manual_seed(99)  # other initial weights and delays
    twin = rich_net()
    twin_optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    assert load(tmp_path / "net.pt", twin, twin_optimizer) == {"epoch": 3}
    assert train(twin, twin_optimizer, range(3, 8)) == uninterrupted
    assert len(set(uninterrupted)) > 1


@pytest.mark.slayer
@pytest.mark.parametrize("name", NETS)
def test_every_block_loads_into_a_fresh_model(
    name: str, tmp_path: Path, spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = NETS[name]()
    net.eval()
    with torch.no_grad():
        net(spikes)
        save(tmp_path / "net.pt", net)
        expected = net(spikes)
        torch.manual_seed(99)
        with monkeypatch.context() as patch:  # build without the forward by which some of `NETS` are prepared
            patch.setattr(torch.nn.Sequential, "forward", lambda self, x: x)
            twin = NETS[name]()
        load(tmp_path / "net.pt", twin)
        assert torch.equal(twin.eval()(spikes), expected)
        reset_net(twin)
        assert twin(spikes[:1]).shape[0] == 1


@pytest.mark.slayer
def test_plain_load_state_dict_fails_where_this_one_works(tmp_path: Path, spikes: torch.Tensor) -> None:
    """What SLAYER does, and why this module exists."""
    net = dense(delay=True)
    net(spikes)
    with pytest.raises(RuntimeError, match="size mismatch"):
        dense(delay=True).load_state_dict(net.state_dict())


@pytest.mark.slayer
def test_file_loads_with_weights_only(tmp_path: Path) -> None:
    net = rich_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    train(net, optimizer, range(1))
    save(tmp_path / "net.pt", net, optimizer, rng=torch.get_rng_state(), note="a", rates=[0.1, 0.2])
    assert torch.load(tmp_path / "net.pt", weights_only=True)["extra"]["note"] == "a"
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.slayer
def test_parameters_keep_their_identity(tmp_path: Path, spikes: torch.Tensor) -> None:
    net = dense(delay=True)
    net(spikes)
    save(tmp_path / "net.pt", net)
    twin = dense(delay=True)
    before = [id(parameter) for parameter in twin.parameters()]
    load(tmp_path / "net.pt", twin)
    assert [id(parameter) for parameter in twin.parameters()] == before
    assert twin[0].delay.delay.shape == (16,)


@pytest.mark.slayer
def test_a_net_of_another_kind_is_refused_untouched(tmp_path: Path, spikes: torch.Tensor) -> None:
    net = dense()
    save(tmp_path / "net.pt", net)
    other = recurrent()
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"`1\.input_synapse\.weight` is missing in the file"):
        load(tmp_path / "net.pt", other)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_wrong_shapes_name_the_parameter(tmp_path: Path) -> None:
    save(tmp_path / "net.pt", torch.nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"`weight` has shape \(2, 3\) in the file and \(1, 3\) in the net"):
        load(tmp_path / "net.pt", torch.nn.Linear(3, 1))


def test_a_plain_bias_does_not_grow(tmp_path: Path) -> None:
    save(tmp_path / "net.pt", torch.nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="`running_mean` has shape"):
        load(tmp_path / "net.pt", torch.nn.BatchNorm1d(1))


def test_attributes_of_other_modules_are_not_kept(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    net.shape, net.init = "round", torch.nn.init.zeros_  # SLAYER's names, with a meaning of the module's own
    save(tmp_path / "net.pt", net)
    twin = torch.nn.Linear(2, 2)
    load(tmp_path / "net.pt", twin)
    assert torch.equal(twin.weight, net.weight)
    assert not hasattr(twin, "shape")


def test_an_optimizer_must_be_in_the_file(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    save(tmp_path / "net.pt", net)
    with pytest.raises(ValueError, match="saved without one"):
        load(tmp_path / "net.pt", net, torch.optim.SGD(net.parameters(), lr=0.1))


def test_another_file_is_refused(tmp_path: Path) -> None:
    for contents in ([1, 2], {"epoch": 3}, {"weight": 1.0}, torch.zeros(2)):
        torch.save(contents, tmp_path / "net.pt")
        with pytest.raises(ValueError, match=r"to hold a state_dict, or a checkpoint written by `save`, but got"):
            load(tmp_path / "net.pt", torch.nn.Identity())
    for contents in ({"format": 2}, {"format": 1, "model": {"weight": torch.zeros(2)}}):
        torch.save(contents, tmp_path / "net.pt")
        with pytest.raises(ValueError, match="written by `save` but its format is another"):
            load(tmp_path / "net.pt", torch.nn.Identity())


def test_a_pickled_net_is_not_executed(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"Save the net's state_dict: torch\.save\(net\.state_dict\(\), path\)"):
        load(tmp_path / "net.pt", torch.nn.Linear(2, 2))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pt"
    save(whole, torch.nn.Linear(2, 2))
    contents = whole.read_bytes()
    damaged = (b"", b"hello", b"a text\nof two lines\n", contents[:10], contents[: len(contents) // 2], contents[:-1])
    for number, written in enumerate((*damaged, b"\x80\x02}q\x00.", contents[: len(contents) // 2] * 2)):
        file = tmp_path / f"{number}.pt"
        file.write_bytes(written)
        with pytest.raises(ValueError, match=rf"Expected `.*{number}\.pt` to hold"):
            load(file, torch.nn.Linear(2, 2))


@pytest.mark.parametrize("path", [None, 3, b"net.pt"])
def test_what_is_no_path_is_no_damaged_file(path: Any) -> None:
    with pytest.raises(TypeError, match=f"`path` to be a str or an os.PathLike but got {type(path).__name__}"):
        load(path, torch.nn.Linear(2, 2))


def test_a_file_that_is_not_there_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "net.pt", torch.nn.Linear(2, 2))


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    save(tmp_path / "net.pt", net, epoch=1)
    with pytest.raises(AttributeError):
        save(tmp_path / "net.pt", net, epoch=lambda: 2)  # cannot be pickled
    assert load(tmp_path / "net.pt", net) == {"epoch": 1}


# -- a plain state_dict ------------------------------------------------------------------------------------------------


def per_neuron(kind: str) -> torch.nn.Module:
    """Two blocks whose neurons each have numbers of their own, drawn at the first forward."""
    import lava.lib.dl.slayer as slayer

    params: dict[str, Any] = {
        "cuba": {"current_decay": [0.2, 0.4], "voltage_decay": [0.05, 0.2]},
        "alif": {
            "current_decay": [0.2, 0.4],
            "voltage_decay": [0.05, 0.2],
            "threshold_step": 0.25,
            "threshold_decay": [0.1, 0.3],
            "refractory_decay": [0.1, 0.3],
        },
        "rf": {"period": [6, 12], "decay": [0.05, 0.2]},
        "rf_iz": {"period": [6, 12], "decay": [0.05, 0.2]},
        "sigma_delta": {"activation": torch.relu, "requires_grad": True},
    }[kind]
    block = getattr(slayer.block, kind)
    neuron = {"threshold": 0.5, "shared_param": False, **params}
    return torch.nn.Sequential(
        block.Dense(dict(neuron), 8, 16, weight_scale=4, delay=True), block.Dense(dict(neuron), 16, 1, weight_scale=4)
    )


def per_neuron_images() -> torch.nn.Module:
    import lava.lib.dl.slayer as slayer

    neuron = {"threshold": 0.1, "activation": torch.relu, "shared_param": False}
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (2, 2, 2)), slayer.block.sigma_delta.Conv(neuron, 2, 4, 2, weight_scale=4)
    )


def change_thresholds(net: torch.nn.Module) -> None:
    for name, parameter in net.named_parameters():
        if name.endswith("threshold"):
            parameter.data = parameter.data * torch.linspace(0.5, 1.5, parameter.numel()).reshape(parameter.shape)


KINDS: dict[str, Callable[[], torch.nn.Module]] = {
    **{f"{kind} per neuron": partial(per_neuron, kind) for kind in ("cuba", "alif", "rf", "rf_iz", "sigma_delta")},
    "images": per_neuron_images,
    "rich": rich_net,
    **NETS,
}


@pytest.mark.slayer
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_loads_into_a_fresh_net(
    kind: str, training: bool, tmp_path: Path, spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = KINDS[kind]()
    with torch.no_grad():  # SLAYER alone cannot differentiate a KWTA block
        net(spikes)
    change_thresholds(net)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    torch.manual_seed(99)
    with monkeypatch.context() as patch:  # build without the forward by which some of `NETS` are prepared
        patch.setattr(torch.nn.Sequential, "forward", lambda self, x: x)
        twin = KINDS[kind]()
    twin.train(training)
    assert load(tmp_path / "net.pt", twin) == {}
    twin.eval()
    net.eval()
    reset_net(net)
    with torch.no_grad():
        expected = net(spikes)
        assert expected.any(), "a silent net proves nothing"
        assert torch.equal(twin(spikes), expected)
        saved = torch.load(tmp_path / "net.pt", weights_only=True)
        stay = [name for name in saved if not name.endswith("spike_state")]
        assert all(torch.equal(twin.state_dict()[name], saved[name]) for name in stay)


@pytest.mark.slayer
def test_a_loaded_net_that_never_ran_is_saved_and_copied_whole(tmp_path: Path, spikes: torch.Tensor) -> None:
    net = per_neuron("cuba")
    net(spikes)
    torch.save(net.state_dict(), tmp_path / "plain.pt")
    first, second = per_neuron("cuba"), per_neuron("cuba")
    load(tmp_path / "plain.pt", first)
    save(tmp_path / "ours.pt", copy.deepcopy(first))
    load(tmp_path / "ours.pt", second)
    assert torch.equal(second(spikes), net(spikes))


@pytest.mark.slayer
def test_what_was_not_made_yet_is_drawn_at_the_first_forward(tmp_path: Path, spikes: torch.Tensor) -> None:
    torch.save(per_neuron("cuba").state_dict(), tmp_path / "net.pt")
    net = per_neuron("cuba")
    load(tmp_path / "net.pt", net)
    net(spikes)
    assert net[0].neuron.current_decay.unique().numel() > 1
    assert net[0].delay.delay.shape == (16,)


@pytest.mark.slayer
@pytest.mark.parametrize("family", ["cuba", "rf"])
@pytest.mark.parametrize("layer", ["Dense", "Conv"])
def test_a_single_delay_that_training_led_to_0_stays_there(
    family: str, layer: str, tmp_path: Path, spikes: torch.Tensor
) -> None:
    import lava.lib.dl.slayer as slayer

    neuron = {"cuba": CUBA, "rf": {"threshold": 0.5, "period": 8, "decay": 0.1}}[family]
    size = (8, 1) if layer == "Dense" else (8, 1, 1)
    make = getattr(getattr(slayer.block, family), layer)
    x = spikes if layer == "Dense" else spikes.reshape(*spikes.shape[:2], 1, 1, -1)
    net, twin, fresh = (torch.nn.Sequential(make(dict(neuron), *size, delay=True)) for _ in range(3))
    net(x)
    net[0].delay.delay.data.zero_()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    load(tmp_path / "net.pt", twin)
    twin(x)
    assert torch.equal(twin[0].delay.delay, net[0].delay.delay)
    torch.save(fresh.state_dict(), tmp_path / "fresh.pt")
    load(tmp_path / "fresh.pt", net)
    assert net(x).isfinite().all()


@pytest.mark.slayer
def test_the_delays_of_a_pool_are_drawn_for_each_of_its_channels(tmp_path: Path) -> None:
    import lava.lib.dl.slayer as slayer

    net = torch.nn.Sequential(slayer.block.cuba.Pool(dict(CUBA), 2, delay=True))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    load(tmp_path / "net.pt", net)
    net(torch.ones(1, 3, 4, 4, 2))
    assert net[0].delay.delay.shape == (3,)


@pytest.mark.slayer
def test_a_bias_of_sigma_delta_neurons_is_used(tmp_path: Path, spikes: torch.Tensor) -> None:
    net, twin = NETS["sigma-delta"](), NETS["sigma-delta"]()
    net[1].neuron.set_bias(torch.linspace(0, 1, 6))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    load(tmp_path / "net.pt", twin)
    assert torch.equal(twin(spikes), net(spikes))
    assert twin[1].neuron.bias_is_set


@pytest.mark.slayer
def test_the_neurons_start_at_rest(tmp_path: Path, spikes: torch.Tensor) -> None:
    net, used = recurrent(), recurrent()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    used(spikes)  # SLAYER keeps the state of Recurrent blocks
    load(tmp_path / "net.pt", used)
    assert torch.equal(used(spikes), net(spikes))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda state: {"run": {"model": state}, "history": [0.5], "loss": torch.zeros(1)},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: {"model": {name.replace("0.", "0._orig_mod."): value for name, value in state.items()}},
        lambda state: (7, [{"loss": torch.zeros(1)}, state]),
        lambda state: {**state, "epoch": 3},
        lambda state: {"state_dict": {f"net.{name}": value for name, value in state.items()}},
        lambda state: {**{f"module.{name}": value for name, value in state.items()}, "n_averaged": torch.tensor(4)},
    ],
    ids=[
        "state_dict",
        "deep",
        "data parallel",
        "compiled",
        "a compiled part",
        "in a list",
        "beside an epoch",
        "Lightning",
        "averaged",
    ],
)
def test_a_state_dict_is_found_wherever_it_lies(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    net, twin = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)) for _ in range(2))
    torch.save(wrap(net.state_dict()), tmp_path / "net.pt")
    load(tmp_path / "net.pt", twin)
    assert torch.equal(twin[0].weight, net[0].weight)


def test_a_wrapped_net_takes_the_state_dict_of_the_net_alone(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    for wrapper in (torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(2, 3))), _Compiled()):
        load(tmp_path / "net.pt", wrapper)
        assert torch.equal(next(wrapper.parameters()), net[0].weight)


class _Compiled(torch.nn.Module):
    """Named as ``torch.compile`` names what it wraps."""

    def __init__(self) -> None:
        super().__init__()
        self._orig_mod = torch.nn.Sequential(torch.nn.Linear(2, 3))


def test_two_state_dicts_that_fit_are_named(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 3)
    torch.save({"model": net.state_dict(), "ema": torch.nn.Linear(2, 3).state_dict()}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"got 2: \['model'\], \['ema'\]"):
        load(tmp_path / "net.pt", net)


class _Averaging(torch.nn.Sequential):
    """A net that keeps averages of its own weights in an attribute."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Linear(2, 3))
        self.ema = torch.nn.Sequential(torch.nn.Linear(2, 3))


def _named(prefix: str) -> dict[str, torch.Tensor]:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3))
    return {f"{prefix}{name}": value for name, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({**_named(""), **_named("ema.")}, "`ema.0.weight` is missing in the net; `ema.0.bias` is missing in the net"),
        ({**_named("ema."), **_named("")}, "`ema.0.weight` is missing in the net; `ema.0.bias` is missing in the net"),
        (_Averaging().state_dict(), "`ema.0.weight` is missing in the net; `ema.0.bias` is missing in the net"),
        ({**_named("net."), **_named("ema.")}, "`net.0.weight` is missing in the net"),
        ({**_named("net."), "loss.weight": torch.ones(3)}, "`loss.weight` is missing in the net"),
        ({**_named(""), **_named("_orig_mod.")}, "`_orig_mod.0.weight` is missing in the net"),
        ({**_named(""), "ema": _named("")}, "got 2: the file itself, ['ema']"),
    ],
    ids=[
        "beside it",
        "before it",
        "of a net that averages",
        "in two attributes",
        "beside a loss",
        "compiled",
        "in a dictionary",
    ],
)
def test_a_second_copy_in_the_file_is_not_taken_for_the_net(held: dict[str, Any], message: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "net.pt")
    net = torch.nn.Sequential(torch.nn.Linear(2, 3))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path / "net.pt", net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_two_names_of_the_file_for_one_of_a_wrapped_net_are_refused(wrapper: str, tmp_path: Path) -> None:
    net = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(2, 3))) if wrapper == "module." else _Compiled()
    torch.save({**_named(""), **_named(wrapper)}, tmp_path / "net.pt")
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=rf"got `0\.weight` and `{wrapper}0\.weight` for `{wrapper}0\.weight`; `0"):
        load(tmp_path / "net.pt", net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_tied_weights_that_differ_in_the_file_are_refused(tmp_path: Path) -> None:
    apart, tied = (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)) for _ in range(2))
    tied[1].weight = tied[0].weight
    before = copy.deepcopy(tied.state_dict())
    torch.save(apart.state_dict(), tmp_path / "apart.pt")
    save(tmp_path / "saved.pt", apart)
    for file in ("apart.pt", "saved.pt"):
        with pytest.raises(
            ValueError, match=r"`0\.weight` and `1\.weight` are one tensor in the net and differ in the"
        ):
            load(tmp_path / file, tied)
    assert all(torch.equal(value, before[name]) for name, value in tied.state_dict().items())
    with torch.no_grad():
        tied[0].weight[0, 0] = torch.nan
    torch.save(tied.state_dict(), tmp_path / "tied.pt")
    assert load(tmp_path / "tied.pt", tied) == {}
    assert tied[1].weight is tied[0].weight


@pytest.mark.slayer
def test_what_does_not_fit_is_listed_and_nothing_changes(tmp_path: Path, spikes: torch.Tensor) -> None:
    state = rich_net().state_dict()
    del state["1.weight"], state["0.delay.delay"]
    torch.save({"model": {**state, "new": torch.zeros(1)}, "epoch": 1}, tmp_path / "net.pt")
    net = rich_net()
    net(spikes)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=r"`0\.delay\.delay` is missing in the file; `1\.weight` is") as refused:
        load(tmp_path / "net.pt", net)
    assert "`new` is missing in the net" in str(refused.value)
    torch.save(rich_net().state_dict(), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"`0\.delay\.delay` has shape \(1,\) in the file and \(16,\) in the net"):
        load(tmp_path / "net.pt", net)
    torch.save(before, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="saved without one"):
        load(tmp_path / "net.pt", net, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.Tensor.to_sparse, r"`0\.weight` is not dense in the file"),
        (lambda value: value.to("meta"), r"`0\.weight` is not dense in the file"),
        (torch.Tensor.int, r"`0\.weight` is torch\.int32 in the file and torch\.float32 in the net"),
        (lambda value: value + 1j, r"`0\.weight` is torch\.complex64 in the file and torch\.float32 in the net"),
    ],
    ids=["sparse", "meta", "whole numbers", "complex"],
)
def test_tensors_of_another_kind_are_refused_and_nothing_changes(
    change: Callable[[torch.Tensor], torch.Tensor], message: str, tmp_path: Path
) -> None:
    saved = torch.nn.Sequential(torch.nn.Linear(2, 3)).state_dict()
    torch.save({**saved, "0.weight": change(saved["0.weight"])}, tmp_path / "net.pt")
    net = torch.nn.Sequential(torch.nn.Linear(2, 3))
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "net.pt", net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.slayer
@pytest.mark.parametrize(
    ("name", "channels"), [("0.delay.delay", 16), ("0.neuron.current_decay", 16), ("3.neuron.norm.running_mean", 12)]
)
def test_what_slayer_makes_for_each_channel_fits_the_channels(
    name: str, channels: int, tmp_path: Path, spikes: torch.Tensor
) -> None:
    saved = rich_net()
    saved(spikes)
    state = saved.state_dict()
    assert state[name].numel() == channels
    torch.save({**state, name: torch.ones(15)}, tmp_path / "net.pt")
    message = f"`{name}` has shape (15,) in the file and (1,) in the net, whose block has {channels} channels"
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path / "net.pt", rich_net())


@pytest.mark.parametrize(
    "part",
    [
        {"parameters": 3},
        {"parameters": {"weight": 3}},
        {"lazy": [1]},
        {"lazy": {"": {"forward": 1}}},
        {"lazy": {"": {"shape": "text"}}},
        {"states": {"": {"spike_state": 3}}},
        {"optimizer": 3},
        {"extra": None},
    ],
    ids=str,
)
def test_a_checkpoint_that_was_changed_is_refused_untouched(part: dict[str, Any], tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    save(tmp_path / "net.pt", net)
    torch.save({**torch.load(tmp_path / "net.pt", weights_only=True), **part}, tmp_path / "net.pt")
    twin = torch.nn.Linear(2, 2)
    before = copy.deepcopy(twin.state_dict())
    with pytest.raises(ValueError, match="as `save` writes it but it was changed since"):
        load(tmp_path / "net.pt", twin)
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    assert "forward" not in vars(twin)


def test_an_optimizer_of_another_net_leaves_the_net_as_it_was(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    before = net.weight.clone()
    other = torch.nn.Linear(2, 2)
    save(tmp_path / "net.pt", other, torch.optim.SGD(other.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="parameter group"):
        load(tmp_path / "net.pt", net, torch.optim.SGD([net.weight], lr=0.1))
    assert torch.equal(net.weight, before)


def test_a_net_with_another_module_of_no_parameters_is_refused_untouched(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    save(tmp_path / "net.pt", net)
    contents = torch.load(tmp_path / "net.pt", weights_only=True)
    torch.save({**contents, "lazy": {"flatten": {"input_shape": [1]}}}, tmp_path / "net.pt")
    twin = torch.nn.Linear(2, 2)
    before = twin.weight.clone()
    with pytest.raises(ValueError, match="`flatten` is missing in the net"):
        load(tmp_path / "net.pt", twin)
    assert torch.equal(twin.weight, before)


@pytest.mark.slayer
@pytest.mark.parametrize("name", ["yolo_kp", "tiny_yolov3_str"])
def test_the_checkpoints_in_the_wheel_of_lava_dl(name: str) -> None:
    from lava.lib.dl.slayer import object_detection

    network = importlib.import_module(f"lava.lib.dl.slayer.object_detection.models.{name}").Network
    path = Path(object_detection.__file__).parent / "models" / f"Trained_{name}" / "network.pt"
    state = torch.load(path, weights_only=True, map_location="cpu")
    net = network(num_classes=80)
    assert load(path, net) == {}
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert not any(getattr(module, "bias_is_set", False) for module in net.modules())
