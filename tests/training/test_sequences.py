"""Sequences in pieces against the whole-sequence forward."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from slayer_nets import NETS, delayed, dense, recurrent

from lava_spikeloss.training import (
    chunk_multi_step_forward,
    fresh_state,
    multi_step_forward,
    reset_net,
    seq_to_ann_forward,
    set_step_mode,
)


def hooks(net: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@pytest.mark.slayer
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("split", [1, 5, 24])
def test_chunks_equal_the_whole_sequence(name: str, split: int, spikes: torch.Tensor) -> None:
    net = NETS[name]()
    with fresh_state(net), torch.no_grad():
        whole = net(spikes)
    assert whole.abs().sum() > 0, "a silent net proves nothing"
    before = hooks(net)
    assert torch.equal(chunk_multi_step_forward(split, spikes, net), whole)
    assert hooks(net) == before
    with fresh_state(net), torch.no_grad():
        assert torch.equal(net(spikes), whole)


@pytest.mark.slayer
@pytest.mark.parametrize("name", NETS)
def test_step_mode_carries_on_and_whole_sequences_start_at_rest(name: str, spikes: torch.Tensor) -> None:
    net = NETS[name]()
    with fresh_state(net), torch.no_grad():
        whole = net(spikes)
    set_step_mode(net, "s")
    pieces = [net(spikes[..., :7]), net(spikes[..., 7:8]), net(spikes[..., 8:])]
    assert torch.equal(torch.cat(pieces, dim=-1), whole)
    set_step_mode(net, "m")
    for _ in range(2):
        again = net(spikes)
        assert torch.equal(again, whole)
    again.sum().backward()  # SLAYER alone cannot differentiate a KWTA block


@pytest.mark.slayer
def test_chunks_go_on_from_the_state_of_a_net_in_step_mode(spikes: torch.Tensor) -> None:
    net = recurrent()
    whole = multi_step_forward(spikes, net)
    set_step_mode(net, "s")
    pieces = [chunk_multi_step_forward(3, spikes[..., :10], net), net(spikes[..., 10:])]
    assert torch.equal(torch.cat(pieces, dim=-1), whole)


@pytest.mark.slayer
@pytest.mark.parametrize("name", NETS)
def test_step_mode_can_be_trained_step_by_step(name: str, spikes: torch.Tensor) -> None:
    net = NETS[name]()
    set_step_mode(net, "s")
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for step in spikes.split(6, dim=-1):
        optimizer.zero_grad()
        net(step).sum().backward()
        optimizer.step()


@pytest.mark.slayer
def test_set_step_mode_leaves_the_callers_dictionary(slayer: Any, spikes: torch.Tensor) -> None:
    params = {"threshold": 1.0, "current_decay": 0.3, "voltage_decay": 0.1}
    net = slayer.block.cuba.Dense(params, 8, 4)
    set_step_mode(net, "s")
    assert params == {"threshold": 1.0, "current_decay": 0.3, "voltage_decay": 0.1}
    assert net.neuron.persistent_state is True
    set_step_mode(net, "m")
    assert net.neuron.persistent_state is False
    assert hooks(net) == 0


@pytest.mark.slayer
def test_truncated_gradient_is_that_of_the_chunks_alone(spikes: torch.Tensor) -> None:
    """The gradient of the whole is the sum of the gradients of the chunks, each started from the detached state."""
    net = dense()
    chunk_multi_step_forward(8, spikes, net).sum().backward()
    truncated = net[0].synapse.weight.grad.clone()
    net.zero_grad()
    set_step_mode(net, "s")
    for chunk in spikes.split(8, dim=-1):
        net(chunk).sum().backward()
    assert truncated.abs().sum() > 0
    torch.testing.assert_close(net[0].synapse.weight.grad, truncated)


@pytest.mark.slayer
def test_one_chunk_has_the_gradient_of_the_whole(spikes: torch.Tensor) -> None:
    net = delayed()
    weighting = torch.rand(3, 6, 24)
    gradients = []
    for forward in (net, lambda x: chunk_multi_step_forward(24, x, net)):
        net.zero_grad()
        (forward(spikes) * weighting).sum().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert all(g.abs().sum() > 0 for g in gradients[0])
    for chunked, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole)


@pytest.mark.slayer
def test_step_by_step_keeps_the_graph_between_blocks(spikes: torch.Tensor) -> None:
    net = dense()
    multi_step_forward(spikes, net).sum().backward()
    assert net[0].synapse.weight.grad.abs().sum() > 0


@pytest.mark.slayer
def test_streams_of_another_batch_size_start_at_rest(spikes: torch.Tensor) -> None:
    net = delayed()
    set_step_mode(net, "s")
    net(spikes)
    carried = net(spikes[:1])
    reset_net(net)
    assert torch.equal(net(spikes[:1]), carried)


@pytest.mark.slayer
def test_an_error_inside_leaves_the_net_as_it_was(spikes: torch.Tensor) -> None:
    net = recurrent()
    with pytest.raises(RuntimeError, match="channels"):
        chunk_multi_step_forward(4, spikes, _Breaking(net))
    assert hooks(net) == 0
    assert not net[2].neuron.current_state.any()
    assert [block.delay_shift for block in net] == [True, True, True]
    assert net[0].neuron.persistent_state is False


class _Breaking(torch.nn.Module):
    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net[2](self.net[0](x))  # 16 channels where 12 are expected: SLAYER raises


@pytest.mark.slayer
def test_an_input_block_that_ignores_its_shift_is_not_shifted(slayer: Any, spikes: torch.Tensor) -> None:
    params = {"threshold": 0.2, "activation": torch.nn.functional.relu}
    net = slayer.block.sigma_delta.Input(params, delay_shift=True)
    assert torch.equal(chunk_multi_step_forward(7, spikes, net), net(spikes))


@pytest.mark.slayer
def test_decimation_must_fit_the_chunk(slayer: Any, spikes: torch.Tensor) -> None:
    net = torch.nn.Sequential(slayer.block.cuba.TimeDecimation(4))
    assert chunk_multi_step_forward(8, spikes, net).shape == (3, 8, 6)
    with pytest.raises(ValueError, match="multiple of 4"):
        chunk_multi_step_forward(6, spikes, net)


@pytest.mark.slayer
def test_memory_in_evaluation_is_that_of_one_chunk() -> None:
    net = dense().eval()
    largest = []

    def watch(module: torch.nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        largest.append(max(args[0].numel(), output.numel()))

    handle = net[0].neuron.register_forward_hook(watch)
    with torch.no_grad():
        for steps in (32, 256):
            chunk_multi_step_forward(16, torch.ones(1, 8, steps), net)
    handle.remove()
    assert set(largest) == {16 * 16}


@pytest.mark.parametrize("split", [0, -1])
def test_split_below_one(split: int) -> None:
    with pytest.raises(ValueError, match="`split` to be at least 1"):
        chunk_multi_step_forward(split, torch.zeros(1, 2, 3), torch.nn.Identity())


@pytest.mark.parametrize("split", [1.5, True, "2"])
def test_split_of_another_type(split: Any) -> None:
    with pytest.raises(TypeError, match="`split` to be an int"):
        chunk_multi_step_forward(split, torch.zeros(1, 2, 3), torch.nn.Identity())


@pytest.mark.parametrize("forward", [multi_step_forward, lambda x, net: chunk_multi_step_forward(2, x, net)])
def test_plain_modules_need_no_slayer(forward: Any) -> None:
    x = torch.rand(2, 3, 5)
    assert torch.equal(forward(x, torch.nn.Conv1d(3, 3, 1)), forward(x, torch.nn.Identity())) is False
    assert torch.equal(forward(x, torch.nn.Identity()), x)


def test_seq_to_ann_is_the_module_at_every_step() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 5))
    x = torch.rand(2, 3, 6, 6, 7)
    slow = torch.stack([module(x[..., t]) for t in range(7)], dim=-1)
    torch.testing.assert_close(seq_to_ann_forward(x, module), slow)


def test_seq_to_ann_batch_norm_sees_samples_and_steps() -> None:
    x = torch.rand(4, 3, 6)
    y = seq_to_ann_forward(x, torch.nn.BatchNorm1d(3))
    mean = x.mean(dim=(0, 2), keepdim=True)
    std = x.var(dim=(0, 2), keepdim=True, unbiased=False).add(1e-5).sqrt()
    torch.testing.assert_close(y, (x - mean) / std)


@pytest.mark.slayer
def test_seq_to_ann_refuses_neurons(spikes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"`0\.neuron` \(Neuron\) keeps a state"):
        seq_to_ann_forward(spikes, dense())


# -- nets that return more than a tensor, and lists of modules ---------------------------------------------------------


class Heads(NamedTuple):
    spikes: torch.Tensor
    others: Any


class Returns(torch.nn.Module):
    """Returns what ``arrange`` makes of the spikes of two blocks."""

    def __init__(self, arrange: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.net = dense()
        self.arrange = arrange

    def forward(self, x: torch.Tensor) -> Any:
        hidden = self.net[0](x)
        return self.arrange(hidden, self.net[1](hidden))


ARRANGED: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, b],
    "dict": lambda a, b: {"hidden": a, "spikes": b},
    "ordered": lambda a, b: OrderedDict(hidden=a, spikes=b),
    "namedtuple": lambda a, b: Heads(b, {"hidden": (a, None)}),
}


def assert_alike(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert torch.equal(got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        assert_alike(list(got.values()), list(expected.values()))
    elif expected is not None:
        for one, other in zip(got, expected, strict=True):
            assert_alike(one, other)


@pytest.mark.slayer
@pytest.mark.parametrize("arranged", ARRANGED)
def test_whatever_holds_the_outputs_is_returned(arranged: str, spikes: torch.Tensor) -> None:
    net = Returns(ARRANGED[arranged])
    with torch.no_grad():
        whole = net(spikes)
        for split in (7, 24, 100):
            assert_alike(chunk_multi_step_forward(split, spikes, net), whole)
        assert_alike(multi_step_forward(spikes, net), whole)


def test_seq_to_ann_returns_whatever_holds_the_outputs() -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return Heads(x + 1, {"halves": [x / 2, None]})

    x = torch.rand(2, 3, 4)
    assert_alike(seq_to_ann_forward(x, Two()), Heads(x + 1, {"halves": [x / 2, None]}))


@pytest.mark.slayer
@pytest.mark.parametrize("container", [list, tuple, torch.nn.ModuleList])
def test_lists_of_modules_run_in_turn(container: Any, spikes: torch.Tensor) -> None:
    net = recurrent()
    with torch.no_grad():
        whole = multi_step_forward(spikes, net)
        assert torch.equal(multi_step_forward(spikes, container(net)), whole)
        assert torch.equal(chunk_multi_step_forward(5, spikes, container(net)), whole)
    layers = container([torch.nn.Flatten(), torch.nn.Linear(8, 3)])
    assert torch.equal(seq_to_ann_forward(spikes, layers), seq_to_ann_forward(spikes, torch.nn.Sequential(*layers)))


@pytest.mark.parametrize("net", [None, [torch.nn.Identity(), torch.relu], "net"])
def test_what_is_no_module_is_refused(net: Any) -> None:
    x = torch.zeros(1, 2, 3)
    for call in (lambda: multi_step_forward(x, net), lambda: chunk_multi_step_forward(2, x, net)):
        with pytest.raises(TypeError, match=r"Expected argument `net` to be a torch\.nn\.Module or a list of them"):
            call()
    with pytest.raises(TypeError, match="Expected argument `module`"):
        seq_to_ann_forward(x, net)


class _Rates(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x, x.mean(-1)


def test_outputs_without_time_are_not_joined() -> None:
    x = torch.rand(2, 3, 4)
    with pytest.raises(ValueError, match=r"time as their last dimension but got one of shape \(2, 3\) for 2 steps"):
        chunk_multi_step_forward(2, x, _Rates())
    with pytest.raises(ValueError, match="Reduce over time after the whole sequence"):
        multi_step_forward(x, _Rates())
    assert_alike(chunk_multi_step_forward(4, x, _Rates()), (x, x.mean(-1)))


class _Mean(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(-1)


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_outputs_without_time_are_not_joined_where_their_sizes_could_be_steps(classes: int) -> None:
    x = torch.rand(2, classes, 8)
    for run in (lambda: chunk_multi_step_forward(4, x, _Mean()), lambda: multi_step_forward(x, _Mean())):
        with pytest.raises(ValueError, match=rf"but got one of shape \(2, {classes}\) for [14] steps"):
            run()


@pytest.mark.parametrize(("places", "steps"), [(2, 8), (4, 7)])
def test_places_are_not_joined_as_steps(places: int, steps: int) -> None:
    """The last chunk, where it is shorter, tells what has no time too."""
    x = torch.rand(2, 3, 5, places, steps)
    with pytest.raises(ValueError, match=rf"but got one of shape \(2, 3, 5, {places}\) for [34] steps"):
        chunk_multi_step_forward(4, x, _Mean())


@pytest.mark.slayer
def test_outputs_before_and_after_a_decimation_are_joined(slayer: Any) -> None:
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.merge = slayer.block.cuba.TimeDecimation(4)

        def forward(self, x: torch.Tensor) -> Any:
            return x, self.merge(x)

    x = torch.rand(2, 3, 22)
    assert_alike(chunk_multi_step_forward(8, x, Both()), Both()(x))
    with pytest.raises(ValueError, match="TimeDecimation in it averages 4 into one"):
        multi_step_forward(x, Both())


@pytest.mark.parametrize("value", [3, "spikes", {1, 2}])
def test_outputs_that_are_no_tensors_are_named(value: Any) -> None:
    class Other(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return x, value

    x = torch.rand(2, 3, 4)
    with pytest.raises(TypeError, match=f"but got {type(value).__name__}"):
        chunk_multi_step_forward(2, x, Other())
    with pytest.raises(TypeError, match=f"but got {type(value).__name__}"):
        seq_to_ann_forward(x, Other())


def test_seq_to_ann_wants_an_output_for_each_step() -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(0)

    with pytest.raises(ValueError, match=r"each of the 8 samples and steps but got one of shape \(3,\)"):
        seq_to_ann_forward(torch.rand(2, 3, 4), Sum())
