"""A compiled network trains as SLAYER's own does, to the last bit, and is in all else what it was."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slayer_nets import ADAPTIVE, CUBA, NETS, RESONATOR, chain, dense, kwta, recurrent, resonator

import netx_export
from lava_spikeloss import training
from lava_spikeloss.compiling import in_threads
from lava_spikeloss.training import backend as backends

pytest.importorskip("numba")
from lava_spikeloss.training import (  # they import numba
    compiled_adaptive,
    compiled_deltas,
    compiled_loops,
    compiled_neurons,
    compiled_resonators,
    compiled_synapses,
)

pytestmark = pytest.mark.slayer

FULL = 2**12  # a decay by this leaves nothing
DECAYS = st.sampled_from([0.0, 1.0, 7.0, 1024.0, 4095.0, 4096.0]) | st.integers(0, FULL).map(float)
THRESHOLDS = st.sampled_from([None, -1.0, 0.0, 1e-30, 1.0, 64.01, 65.0, 5e3, 2.0**51, 1e30]) | st.floats(0.01, 4)


@pytest.fixture(params=[1, 4], ids=["1 thread", "4 threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr("lava_spikeloss.compiling._WORTH_A_THREAD", 1)
    for name in ("_FEWEST_OUTPUTS", "_FEWEST_STEPS", "_HIGHEST_RATE"):  # small layers count too, at any rate
        monkeypatch.setattr(compiled_synapses, name, 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def same(ours: torch.Tensor | None, slayers: torch.Tensor | None) -> bool:
    """Equal to the last bit, and laid out alike."""
    if ours is None or slayers is None:
        return ours is slayers
    alike = (ours.shape, ours.stride(), ours.dtype) == (slayers.shape, slayers.stride(), slayers.dtype)
    return alike and torch.equal(ours.contiguous().view(torch.int32), slayers.contiguous().view(torch.int32))


def twins(build: Callable[[], Any], x: torch.Tensor) -> tuple[Any, Any]:
    """A network that ran once, and the same one compiled."""
    nets = []
    for _ in range(2):
        torch.manual_seed(1)
        net = build()
        with torch.no_grad():  # a KWTA block has no other way
            net(x[:1])
        training.reset_net(net)
        nets.append(net)
    training.set_backend(nets[1], "compiled")
    return nets[0], nets[1]


def trained(net: Any, x: torch.Tensor, steps: int = 3) -> list[torch.Tensor | None]:
    """Everything that some training steps make: outputs, gradients, parameters, buffers, states."""
    torch.manual_seed(2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    made: list[torch.Tensor | None] = []
    for _ in range(steps):
        optimizer.zero_grad()
        x = x.detach().requires_grad_()
        y = net(x)
        (y * torch.linspace(-0.5, 1, y.numel()).reshape(y.shape)).sum().backward()
        made += [y.detach(), x.grad, *(parameter.grad for parameter in net.parameters())]
        optimizer.step()
    made += [parameter.detach() for parameter in net.parameters()] + list(net.buffers())
    return made


def assert_same_training(build: Callable[[], Any], x: torch.Tensor, steps: int = 3) -> Any:
    slayers, ours = twins(build, x)
    expected, found = trained(slayers, x, steps), trained(ours, x, steps)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(expected)
    assert expected[0].any()
    return ours


# -- one integrator ----------------------------------------------------------------------------------------------------


def test_what_is_written_to_rows_comes_in_the_layout_that_it_was_asked_for() -> None:
    for model in (torch.randn(2, 3, 4), torch.randn(2, 4, 3).transpose(1, 2)):
        (doubled,) = compiled_neurons.filled(model, lambda source, target: torch.mul(source, 2, out=target))
        assert torch.equal(doubled, 2 * model)
        assert doubled.stride() == model.stride()


@st.composite
def integrators(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    count = draw(st.sampled_from([1, shape[1]]))
    if count > 1:
        shape[-1] = count  # else SLAYER cannot run decays per neuron, or has no fitting gradient for them
    steps = draw(st.sampled_from([1, 2, 3, 17, 400]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    size = draw(st.sampled_from([0.0, 0.3, 2.0, 1e3, 1e9, 1e16, 1e30]))  # the state overflows 24 and 64 bits
    inputs = size * torch.randn(*shape, steps, generator=generator)
    if draw(st.booleans()):  # laid out as a convolution in channels-last format does
        inputs = inputs.movedim(1, -1).contiguous().movedim(-1, 1)
    state = draw(st.sampled_from([torch.zeros(1), size * torch.randn(*shape, generator=generator)]))
    return {
        "inputs": inputs,
        "decay": torch.tensor([draw(DECAYS) for _ in range(count)]),
        "state": state,
        "w_scale": draw(st.sampled_from([4096, 1, 100, 2**20])),
        "threshold": draw(THRESHOLDS),
        "gradient": torch.randn(inputs.shape, generator=generator) * draw(st.sampled_from([1.0, 1e-36, 1e30])),
    }


def run_integrator(dynamics: Callable[..., torch.Tensor], case: dict[str, Any]) -> list[torch.Tensor]:
    inputs, decay = case["inputs"].clone().requires_grad_(), case["decay"].clone().requires_grad_()
    states = dynamics(inputs, decay, case["state"], case["w_scale"], case["threshold"])
    states.backward(case["gradient"])
    return [states.detach(), inputs.grad, decay.grad]


@given(integrators())
@settings(max_examples=300, deadline=None)
def test_an_integrator_makes_the_same_states_and_gradients(case: dict[str, Any]) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    expected = run_integrator(leaky_integrator.dynamics, case)
    found = run_integrator(lambda *arguments: compiled_neurons.leaky_dynamics(leaky_integrator, *arguments), case)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * 3


@given(integrators(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_resonator_makes_the_same_states_and_gradients(case: dict[str, Any], data: st.DataObject) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import resonator as slayers

    real, large = case["inputs"], data.draw(st.sampled_from([1.0, 1e8]))  # more than float32 holds
    sin, cos = (torch.tensor([float(data.draw(st.integers(-FULL, FULL))) for _ in case["decay"]]) for _ in range(2))
    size = (sin.square() + cos.square()).sqrt().clamp(min=FULL)
    sin, cos = ((FULL * decay / size).trunc() for decay in (sin, cos))  # as a neuron clamps them
    results = []
    for dynamics in (slayers.dynamics, partial(compiled_resonators.resonator_dynamics, slayers)):
        leaves = [one.clone().requires_grad_() for one in (real, real.flip(-1), sin, cos)]
        threshold = None if case["threshold"] is None else float(case["threshold"])
        states = dynamics(*leaves, case["state"], -case["state"], case["w_scale"], threshold)
        gradients = (large * case["gradient"], large * case["gradient"].flip(0))
        try:
            torch.autograd.backward(states, gradients)
            results.append([*(state.detach() for state in states), *(leaf.grad for leaf in leaves)])
        except Exception as error:  # lava-dl's own of what is not finite
            results.append([*(state.detach() for state in states), str(error)])
    pairs = list(zip(*results, strict=True))
    assert [one == other if isinstance(one, str) else same(one, other) for one, other in pairs] == [True] * len(pairs)


@pytest.mark.parametrize("phased", [False, True])
@given(integrators(), st.data())
@settings(max_examples=100, deadline=None)
def test_an_adaptive_threshold_rises_and_decays_alike(phased: bool, case: dict[str, Any], data: st.DataObject) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import adaptive_phase_th, adaptive_threshold

    ours = compiled_adaptive.phase_threshold if phased else compiled_adaptive.threshold
    slayers: Any = adaptive_phase_th if phased else adaptive_threshold
    decay, inputs = case["decay"], case["inputs"].clone().requires_grad_()
    others = (-inputs.flip(-1), case["state"].abs() * -1) if phased else ()
    step, rest = data.draw(st.sampled_from([(0.25, 1.0), (0.0, 0.0), (3.0, -2.0)]))
    arguments = (inputs, *others, -case["state"], decay, case["state"], decay.flip(0), step, rest, case["w_scale"])
    expected, found = slayers.dynamics(*arguments), ours(slayers, *arguments)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True, True]
    assert found[0].requires_grad is expected[0].requires_grad


@pytest.mark.parametrize("above", [0, 1, 2**24, 2**40])
def test_a_state_is_compared_with_the_threshold_as_float32(above: int) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    near = torch.tensor([[[float(above + near)] * 2 for near in range(-3, 4)]])
    case = {"inputs": near, "decay": torch.zeros(1), "state": torch.zeros(1), "w_scale": 1, "threshold": above + 0.01}
    case["gradient"] = torch.ones_like(near)
    expected = run_integrator(leaky_integrator.dynamics, case)
    found = run_integrator(lambda *arguments: compiled_neurons.leaky_dynamics(leaky_integrator, *arguments), case)
    assert same(found[0], expected[0])


@given(
    st.floats(0.01, 100), st.floats(0.01, 1000), st.floats(0.01, 10), st.integers(0, 99), st.sampled_from([1, 5, 70000])
)
@settings(max_examples=60, deadline=None)
def test_spikes_and_their_surrogate_gradient(threshold: float, tau: float, scale: float, seed: int, steps: int) -> None:
    from lava.lib.dl.slayer.spike.spike import Spike

    generator = torch.Generator().manual_seed(seed)
    voltage, gradient = (torch.randn(2, 3, steps, generator=generator) * threshold * size for size in (4, 1))
    results = []
    for apply in (Spike.apply, lambda *arguments: compiled_neurons.spike(Spike, *arguments)):
        v = voltage.clone().requires_grad_()
        spikes = apply(v, threshold, tau, scale, False, torch.zeros(1), 1)
        spikes.backward(gradient)
        results.append([spikes.detach(), v.grad])
    assert [same(*pair) for pair in zip(*results, strict=True)] == [True, True]


@st.composite
def changing(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))
    steps = draw(st.sampled_from([1, 2, 3, 17, 400]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    grid = draw(st.sampled_from([1.0, 64.0, 1e6, 1e-36]))  # on the first two, changes hit the threshold
    inputs = (2 * torch.randn(*shape, steps, generator=generator) * 64).round() / 64 * grid
    for value in draw(st.sampled_from([(), (-0.0,), (torch.inf, torch.nan)])):
        inputs.view(-1)[torch.randint(inputs.numel(), (1,), generator=generator)] = value
    if draw(st.booleans()):  # laid out as a convolution in channels-last format does
        inputs = inputs.movedim(1, -1).contiguous().movedim(-1, 1)
    count = draw(st.sampled_from([[1], [shape[1], *[1] * (len(shape) - 2)]]))
    level = draw(st.sampled_from([0.0, 1 / 64, 0.5, 1.0])) * grid
    return {
        "inputs": inputs,
        "threshold": (level * torch.randint(1, 3, count, generator=generator)).requires_grad_(draw(st.booleans())),
        "states": (torch.randn(2, *shape, generator=generator) * draw(st.sampled_from([0.0, 1.0]))).unbind(),
        "gradient": torch.randn(inputs.shape, generator=generator),
        "numbers": draw(st.sampled_from([(1, 1), (0.3, 2.0)])),
    }


@given(changing())
@settings(max_examples=300, deadline=None)
def test_a_delta_unit_sends_the_same_changes(case: dict[str, Any]) -> None:
    from lava.lib.dl.slayer.axon.delta import _DeltaUnit

    results = []
    for apply in (_DeltaUnit.apply, partial(compiled_deltas.delta_unit, _DeltaUnit)):
        inputs = case["inputs"].clone().requires_grad_()
        threshold = case["threshold"].detach().clone().requires_grad_(case["threshold"].requires_grad)
        error = torch.zeros(inputs.shape[:-1])
        sent, residual, _ = apply(inputs, threshold, *case["states"], error, False, *case["numbers"])
        results.append([sent.detach(), residual.detach().reshape(-1)])
        if tuple(threshold.shape) == (1,):  # lava-dl's own backward fails for thresholds per channel
            sent.backward(case["gradient"])
            results[-1] += [inputs.grad, threshold.grad]
    pairs = list(zip(*results, strict=True))
    assert [same(*pair) for pair in pairs] == [True] * len(pairs)


# -- sums of a dense synapse -------------------------------------------------------------------------------------------


def assert_same_sums(inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    results = []
    for conv3d in (torch.nn.functional.conv3d, partial(compiled_synapses.conv3d, torch.nn.functional)):
        x, w = inputs.clone().requires_grad_(), weight.clone().requires_grad_()
        sums = conv3d(x, w, None, (1, 1, 1), (0, 0, 0), (1, 1, 1), 1)
        sums.backward(torch.randn(sums.shape, generator=torch.Generator().manual_seed(3)))
        results.append([sums.detach(), x.grad, w.grad])
    assert [same(*pair) for pair in zip(*results, strict=True)] == [True] * 3
    return results[0][0]


@pytest.mark.parametrize("image", [(5, 1, 1), (70, 1, 1), (2, 3, 4)])
@pytest.mark.parametrize(("samples", "steps"), [(1, 64), (3, 131), (64, 1)])
@pytest.mark.parametrize("rate", [0.0, 0.03, 0.14, 0.6])
def test_sums_of_rare_spikes(image: tuple[int, ...], samples: int, steps: int, rate: float) -> None:
    spikes = (torch.rand(samples, *image, steps) < rate).float()
    assert_same_sums(spikes, (50 * torch.randn(32, *image, 1)).round() / 32)
    assert_same_sums(spikes, torch.randn(32, *image, 1))


@pytest.mark.parametrize(
    ("rate", "value", "step", "outputs", "compiled"),
    [
        (0.1, 1.0, 1 / 32, 32, True),
        (0.2, 1.0, 1 / 32, 32, False),  # not rare
        (0.1, 0.5, 1 / 32, 32, False),  # not spikes of 1
        (0.1, 1.0, 0.1, 32, False),  # not exact
        (0.1, 1.0, 1 / 32, 31, False),  # not worth it
    ],
)
def test_spikes_are_added_up_where_they_are_rare_and_sums_exact(
    rate: float, value: float, step: float, outputs: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, add_weights = [], compiled_loops.add_weights
    monkeypatch.setattr(compiled_loops, "add_weights", lambda *arguments: calls.append(1) or add_weights(*arguments))
    spikes = value * (torch.rand(2, 40, 1, 1, 50) < rate).float()
    assert_same_sums(spikes, (50 * torch.randn(outputs, 40, 1, 1, 1)).round() * step)
    assert bool(calls) is compiled


@pytest.mark.parametrize(
    ("weight", "exact"),
    [
        ([[0.0, 0.0]], True),
        ([[2.0**-140, 0.0]], False),
        ([[1.0, 2.0**-23]], False),
        ([[1.0, 2.0**-22]], True),
        ([[1.0, 2.0**-22], [4.0, 0.0]], False),
        ([[0.1, 0.2]], False),
        ([[float("nan"), 1.0]], False),
        ([[float("inf"), 1.0]], False),
        ([[2.0**120, 1.0]], False),
    ],
)
def test_sums_are_exact_on_a_grid_that_float32_holds(weight: list[list[float]], exact: bool) -> None:
    assert compiled_synapses.sums_are_exact(torch.tensor(weight)) is exact


def test_the_last_of_many_weights_counts_too() -> None:
    weight = torch.ones(1025, 1024)  # more than are looked at in one go
    assert compiled_synapses.sums_are_exact(weight)
    weight[-1, -1] = 0.1
    assert not compiled_synapses.sums_are_exact(weight)


def test_under_autocast_all_runs_as_before(spikes: torch.Tensor) -> None:
    slayers, ours = twins(lambda: chain(8, 40, 6, weight_scale=4), spikes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ours((spikes > 0.9).float()), slayers((spikes > 0.9).float()))
        assert not compiled_synapses.plain(spikes)


def test_rows_are_shared_out_among_the_threads(threads: int) -> None:
    parts: list[slice] = []
    in_threads(parts.append, rows=10, numbers=10)
    sizes = {1: [10], 4: [2, 3, 2, 3]}[threads]
    assert [part.stop - part.start for part in sorted(parts, key=lambda part: part.start)] == sizes
    assert sorted(row for part in parts for row in range(10)[part]) == list(range(10))


# -- networks ----------------------------------------------------------------------------------------------------------

TRAINED = {**CUBA, "requires_grad": True}
PER_NEURON = {**TRAINED, "shared_param": False, "current_decay": (0.1, 0.9), "voltage_decay": (0.0, 0.3)}


def normed(norm: str, **params: Any) -> torch.nn.Sequential:
    import lava.lib.dl.slayer as slayer

    return chain(8, 16, 6, params={**TRAINED, **params, "norm": getattr(slayer.neuron.norm, norm)}, weight_scale=4)


def dropped() -> torch.nn.Sequential:
    import lava.lib.dl.slayer as slayer

    return chain(8, 16, 6, params={**TRAINED, "dropout": slayer.neuron.Dropout(0.4)}, weight_scale=4)


def graded(blocks: int = 2, **params: Any) -> torch.nn.Sequential:
    import lava.lib.dl.slayer as slayer

    block = slayer.block.sigma_delta
    neuron = {"threshold": 0.1, "activation": torch.nn.functional.relu, **params}
    return torch.nn.Sequential(
        block.Input(dict(neuron)), *(block.Dense(dict(neuron), 8, 8) for _ in range(blocks)), block.Output(neuron, 8, 6)
    )


def graded_image(**params: Any) -> torch.nn.Sequential:
    import lava.lib.dl.slayer as slayer

    block = slayer.block.sigma_delta
    neuron = {"threshold": 0.1, "activation": torch.nn.functional.relu, **params}
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (2, 2, 2)),
        block.Conv(dict(neuron), 2, 4, 2, padding=1, weight_scale=2),
        block.Flatten(),
        block.Dense(dict(neuron), 36, 6),
    )


def per_neuron_recurrent() -> torch.nn.Sequential:
    import lava.lib.dl.slayer as slayer

    return torch.nn.Sequential(
        slayer.block.cuba.Recurrent(dict(PER_NEURON), 8, 12, weight_scale=4),
        slayer.block.cuba.Recurrent(dict(PER_NEURON), 12, 6, weight_scale=4, delay_shift=False),
    )


COVERED: dict[str, Callable[[], torch.nn.Module]] = {
    **{name: NETS[name] for name in ("dense", "recurrent", "recurrent delayed", "conv", "affine")},
    "decays trained": lambda: chain(8, 16, 6, params=TRAINED, weight_scale=4),
    "decays per neuron": lambda: chain(8, 16, 6, params=PER_NEURON, weight_scale=4),
    "weight norm, delays": lambda: dense(weight_norm=True, delay=True),
    "no shift": lambda: dense(delay_shift=False),
    "mean-only norm": lambda: normed("MeanOnlyBatchNorm"),
    "weight-scale norm": lambda: normed("WgtScaleBatchNorm"),
    "dropout": dropped,
    "persistent state": lambda: chain(8, 16, 6, params={**CUBA, "persistent_state": True}, delay_shift=False),
    "graded": lambda: chain(8, 16, 6, params={**CUBA, "graded_spike": True}, weight_scale=4),
    **{kind: partial(resonator, kind, requires_grad=True) for kind in ("rf", "rf_iz")},
    "rf, decays per neuron": lambda: resonator("rf", shared_param=False, period=(4, 20), requires_grad=True),
    "rf_iz, decays per neuron": lambda: resonator("rf_iz", shared_param=False, period=(4, 20), requires_grad=True),
    "rf_iz, persistent state": lambda: chain(
        8, 16, 6, family="rf_iz", params={**RESONATOR, "persistent_state": True}, weight_scale=6, delay_shift=False
    ),
    "sigma-delta": graded,
    "sigma-delta, threshold trained": lambda: graded(requires_grad=True),
    "sigma-delta, persistent state": lambda: graded(persistent_state=True),
    "sigma-delta, convolution": graded_image,
    "alif": lambda: chain(8, 16, 6, family="alif", params={**TRAINED, **ADAPTIVE}, weight_scale=6),
    "alif, decays per neuron": lambda: chain(
        8, 16, 6, family="alif", params={**PER_NEURON, **ADAPTIVE, "threshold_decay": (0.1, 0.5)}, weight_scale=6
    ),
    "alif, persistent state": lambda: chain(
        8, 16, 6, family="alif", params={**CUBA, **ADAPTIVE, "persistent_state": True}, delay_shift=False
    ),
    "adrf": lambda: resonator("adrf", **ADAPTIVE, requires_grad=True),
    "adrf, persistent state": lambda: chain(
        8, 16, 6, family="adrf", params={**RESONATOR, **ADAPTIVE, "persistent_state": True}, delay_shift=False
    ),
    "recurrent, decays per neuron": per_neuron_recurrent,
    "recurrent, shared decays": lambda: recurrent(delay_shift=False),
}


@pytest.mark.parametrize("name", COVERED)
def test_networks_train_alike(name: str, spikes: torch.Tensor, threads: int) -> None:
    assert_same_training(COVERED[name], spikes)


@st.composite
def drawn_networks(draw: st.DrawFn) -> dict[str, Any]:
    family = draw(st.sampled_from(["cuba", "alif", "rf", "rf_iz", "adrf"]))
    decays = st.sampled_from([0.1, 0.03, 0.3, 0.0, 0.9])
    params: dict[str, Any] = {
        "threshold": draw(st.sampled_from([0.5, 1.25, 0.1])),
        "requires_grad": draw(st.booleans()),
    }
    if family in ("cuba", "alif"):
        params |= {"current_decay": draw(decays), "voltage_decay": draw(decays), "shared_param": draw(st.booleans())}
    else:
        params |= {"period": draw(st.sampled_from([8, 4, 30])), "decay": draw(decays)}
    if family in ("alif", "adrf"):
        params |= {"threshold_step": draw(st.sampled_from([0.25, 0.0])), "threshold_decay": draw(decays)}
        params |= {"refractory_decay": draw(decays)}
    return {
        "sizes": draw(st.sampled_from([(8, 16, 5), (8, 40, 20, 3), (8, 1), (8, 6)])),
        "family": family,
        "params": params,
        "weight_scale": draw(st.sampled_from([5, 2, 10])),
        **{name: draw(st.booleans()) for name in ("weight_norm", "delay", "delay_shift")},
    }


@given(
    drawn_networks(),
    st.integers(1, 5),
    st.sampled_from([40, 3, 1]),
    st.sampled_from([1, 4]),
    st.sampled_from([0.5, 0.1]),
)
@settings(max_examples=30, deadline=None)
def test_drawn_networks_train_alike(
    network: dict[str, Any], samples: int, steps: int, threads: int, rate: float
) -> None:
    torch.manual_seed(0)
    x = (torch.rand(samples, 8, steps) < rate).float()
    sizes, options = network["sizes"], {key: value for key, value in network.items() if key != "sizes"}
    slayers, ours = twins(lambda: chain(*sizes, **options), x)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lava_spikeloss.compiling._WORTH_A_THREAD", 1)
            patch.setattr(compiled_synapses, "_FEWEST_OUTPUTS", 1)
            expected, found = trained(slayers, x, 2), trained(ours, x, 2)
    finally:
        torch.set_num_threads(before)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(expected)


@pytest.mark.parametrize("steps", [1, 17])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 33])
def test_recurrent_layers_of_every_shape_train_alike(size: int, samples: int, steps: int) -> None:
    """torch adds up in another order where a batch is so small that an array is as good as its transpose."""
    import lava.lib.dl.slayer as slayer

    for seed in range(3):
        torch.manual_seed(seed)
        x = (torch.rand(samples, 3, steps) < 0.4).float()
        slayers, ours = twins(lambda: slayer.block.cuba.Recurrent(dict(CUBA), 3, size, weight_scale=4), x)
        expected, found = trained(slayers, x), trained(ours, x)
        assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(expected)


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 8, 5), (2, 8, 700)])
@pytest.mark.parametrize("name", ["decays per neuron", "recurrent"])
def test_one_sample_one_step_and_many(name: str, shape: tuple[int, ...]) -> None:
    x = (torch.rand(shape) < 0.6).float()
    slayers, ours = twins(COVERED[name], (torch.rand(1, 8, 9) < 0.5).float())
    for net in (slayers, ours):
        for block in net:
            block.delay_shift = False
    expected, found = trained(slayers, x), trained(ours, x)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(expected)


def test_the_batch_may_change_its_size(spikes: torch.Tensor) -> None:
    for build in (COVERED["persistent state"], recurrent):
        slayers, ours = twins(build, spikes)
        for batch in (spikes, spikes[:2], spikes[:1], spikes):
            with torch.no_grad():
                assert same(ours(batch), slayers(batch))


@pytest.mark.parametrize("name", ["decays trained", "recurrent, decays per neuron"])
def test_decays_beyond_their_range_are_clamped(name: str, spikes: torch.Tensor) -> None:
    nets = twins(COVERED[name], spikes)
    for net in nets:
        net[0].neuron.current_decay.data -= 2000
        net[0].neuron.voltage_decay.data += 4000
    expected, found = (trained(net, spikes, steps=1) for net in nets)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(expected)
    assert nets[1][0].neuron.voltage_decay.max() == FULL


def test_a_network_that_never_ran_draws_its_decays_as_before(spikes: torch.Tensor) -> None:
    results = []
    for backend in ("accelerated", "compiled"):
        torch.manual_seed(3)
        net = COVERED["decays per neuron"]()
        training.set_backend(net, backend)
        results.append(trained(net, spikes))
    assert [same(*pair) for pair in zip(*results, strict=True)] == [True] * len(results[0])


def test_recurrent_neurons_that_somebody_watches_run_as_before(spikes: torch.Tensor) -> None:
    slayers, ours = twins(recurrent, spikes)
    calls = []
    ours[1].neuron.register_forward_hook(lambda *_: calls.append(1))
    assert same(ours(spikes), slayers(spikes))
    assert len(calls) == spikes.shape[-1]


def test_recurrent_neurons_with_somebody_s_own_spikes_run_as_before(spikes: torch.Tensor) -> None:
    def every_second(neuron: Any, voltage: torch.Tensor) -> torch.Tensor:
        fired: torch.Tensor = plain.spike(neuron, voltage)
        return fired * (torch.arange(fired.shape[1]) % 2)[:, None]

    net = recurrent()
    plain = type(net[1].neuron)
    nets = [net, copy.deepcopy(net)]
    for net in nets:
        net[1].neuron.__class__ = type("Own", (plain,), {"spike": every_second})
        net(spikes)
    training.set_backend(nets[1], "compiled")
    assert same(nets[1](spikes), nets[0](spikes))


@pytest.mark.parametrize("factor", [0.3, 2.0**20])
def test_recurrent_weights_with_inexact_sums_are_added_up_in_the_order_of_torch(
    factor: float, spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    slayers, ours = twins(recurrent, spikes)
    monkeypatch.setattr(compiled_loops, "recurrent_spikes", lambda *_: pytest.fail("sums rows"))
    for net in (slayers, ours):
        net[1].recurrent_synapse.pre_hook_fx = lambda weight: weight * factor
    assert same(ours(spikes), slayers(spikes))


def test_decays_that_slayer_cannot_spread_over_an_image_give_its_own_error() -> None:
    import lava.lib.dl.slayer as slayer

    block = slayer.block.cuba.Conv(dict(PER_NEURON), 1, 3, 1)
    errors = []
    for backend in ("accelerated", "compiled"):
        training.set_backend(block, backend)
        with pytest.raises(RuntimeError) as error:
            block(torch.ones(1, 1, 2, 2, 4))
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_none_of_slayer_s_loops_runs(spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator
    from lava.lib.dl.slayer.spike.spike import Spike
    from lava.lib.dl.slayer.utils import recurrent as recurrent_module

    nets = [twins(COVERED[name], spikes)[1] for name in ("dense", "recurrent", "mean-only norm", "affine")]
    for place in (leaky_integrator._LIDynamics, Spike, recurrent_module.CustomRecurrent):
        monkeypatch.setattr(place, "apply", lambda *_: pytest.fail("runs as before"))
    for net in nets:
        net(spikes).sum().backward()


@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("build", [dense, recurrent, kwta, lambda: normed("MeanOnlyBatchNorm")])
def test_step_modes_carry_the_same_state(build: Callable[[], Any], mode: str, spikes: torch.Tensor) -> None:
    slayers, ours = twins(build, spikes)
    for net in (slayers, ours):
        net.eval()
        training.set_step_mode(net, mode)
    for piece in (spikes[..., :7], spikes[..., 7:8], spikes[..., 8:]):
        assert same(ours(piece), slayers(piece))


def test_membranes_and_margins_are_those_of_the_network(spikes: torch.Tensor) -> None:
    found = []
    for net in twins(dense, spikes):
        with training.record_membrane(net[-1]) as record:
            net(spikes)
        with training.ThresholdMargin(net[-1])(torch.tensor([0, 1, 2])):
            found.append([record.potential.detach(), net(spikes).detach()])
    assert [same(*pair) for pair in zip(*found, strict=True)] == [True, True]


def test_second_derivatives(spikes: torch.Tensor) -> None:
    found = []
    for net in twins(dense, spikes):
        weight = net[0].synapse.weight
        (first,) = torch.autograd.grad((net(spikes) ** 2).sum(), weight, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), weight)
        found.append([first.detach(), second])
    assert [same(*pair) for pair in zip(*found, strict=True)] == [True, True]


def test_other_number_types_run_as_before(spikes: torch.Tensor) -> None:
    slayers, ours = twins(dense, spikes)
    assert torch.equal(ours.double()(spikes.double()), slayers.double()(spikes.double()))


# -- the choice --------------------------------------------------------------------------------------------------------


def is_compiled(net: torch.nn.Module) -> list[bool]:
    return [backends.is_compiled(module) for module in net.modules() if hasattr(module, "dynamics")]


@pytest.mark.parametrize("build", [graded, graded_image])
def test_thresholds_per_channel(build: Callable[..., Any], spikes: torch.Tensor) -> None:
    """lava-dl itself cannot run backward with them; the gradient of the inputs does not depend on them."""
    slayers, ours = twins(lambda: build(shared_param=False), spikes)
    for net in (slayers, ours):
        for module in net.modules():
            if backends.is_delta(module):
                module.threshold.data += torch.linspace(0, 0.2, len(module.threshold)).reshape(module.threshold.shape)
    x = spikes.clone().requires_grad_()
    made = ours(x)
    assert same(made.detach(), slayers(spikes).detach())
    made.sum().backward()
    assert x.grad is not None
    assert x.grad.any()


def test_a_cumulative_error_gives_slayer_s_own_error(spikes: torch.Tensor) -> None:
    errors = []
    for backend in ("accelerated", "compiled"):
        torch.manual_seed(0)
        net = graded()
        for module in net.modules():
            if backends.is_delta(module):
                module.cum_error = True
        training.set_backend(net, backend)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError) as error:
            net(spikes)
        errors.append(str(error.value))
    assert errors[0] == errors[1]


def test_adaptive_neurons_run_none_of_slayer_s_loops(spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import adaptive_phase_th, adaptive_threshold, leaky_integrator, resonator

    nets = [twins(COVERED[name], spikes)[1] for name in ("alif", "adrf")]
    for place in (
        adaptive_threshold._ATHDynamics,
        adaptive_phase_th._APTHDynamics,
        leaky_integrator._LIDynamics,
        resonator._ResDynamics,
    ):
        monkeypatch.setattr(place, "apply", lambda *_: pytest.fail("runs as before"))
    for net in nets:
        net(spikes).sum().backward()


def test_sigma_delta_neurons_are_not_named_and_run_none_of_slayer_s_loops(
    spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    from lava.lib.dl.slayer.axon.delta import _DeltaUnit

    net = graded()
    training.set_backend(net, "compiled")
    monkeypatch.setattr(_DeltaUnit, "apply", lambda *_: pytest.fail("runs as before"))
    net(spikes).sum().backward()
    assert not [warning for warning in recwarn if "Not compiled" in str(warning.message)]


def test_the_choice_is_undone(spikes: torch.Tensor) -> None:
    net = recurrent()
    classes = [type(module) for module in net.modules()]
    training.set_backend(net, "compiled")
    training.set_backend(net, "compiled")
    assert is_compiled(net) == [True] * 3
    assert backends.is_compiled(net[1])
    training.set_backend(net, "reference")
    assert [type(module) for module in net.modules()] == classes


def test_a_choice_that_cannot_be_undone_is_refused() -> None:
    """A parametrization derives a class from the compiled one, which stays in force under it."""
    net = dense()
    training.set_backend(net, "compiled")
    torch.nn.utils.parametrize.register_parametrization(net[1].synapse, "weight", torch.nn.Identity())
    classes = [type(module) for module in net.modules()]
    for backend, gradient in (("reference", "slayer"), ("accelerated", "slayer"), ("compiled", "exact")):
        with pytest.raises(ValueError, match=r"^The backend of `1.synapse` \(ParametrizedDense\) cannot be changed"):
            training.set_backend(net, backend, decay_gradient=gradient)  # type: ignore[arg-type]
    training.set_backend(net, "compiled")  # as it is
    assert [type(module) for module in net.modules()] == classes
    torch.nn.utils.parametrize.remove_parametrizations(net[1].synapse, "weight")
    training.set_backend(net, "reference")
    assert [type(module) for module in net.modules()] == [type(module) for module in dense().modules()]


def test_another_network_is_not_touched() -> None:
    from lava.lib.dl.slayer.neuron import cuba

    names = dict(vars(cuba.Neuron))
    net, other = dense(), dense()
    training.set_backend(net, "compiled")
    assert is_compiled(other) == [False, False]
    assert vars(cuba.Neuron) == names
    assert all(isinstance(block.neuron, cuba.Neuron) for block in net)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net, 0))])
def test_a_copy_is_compiled_and_stands_by_itself(copied: Callable[[Any], Any], spikes: torch.Tensor) -> None:
    slayers, ours = twins(recurrent, spikes)
    training.reset_net(slayers)
    twin = copied(ours)
    assert is_compiled(twin) == [True] * 3
    assert twin[1].neuron is not ours[1].neuron
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    expected, found = trained(slayers, spikes), trained(twin, spikes)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(expected)


def test_a_checkpoint_is_that_of_the_network(spikes: torch.Tensor) -> None:
    slayers, ours = twins(lambda: normed("MeanOnlyBatchNorm"), spikes)
    assert list(ours.state_dict()) == list(slayers.state_dict())
    slayers.load_state_dict(ours.state_dict())


def test_export_reads_a_compiled_network_as_before(spikes: torch.Tensor, tmp_path: Any) -> None:
    files = []
    for number, net in enumerate(twins(dense, spikes)):
        files.append(tmp_path / f"{number}.net")
        netx_export.export(net.eval(), files[-1], spikes)
    assert netx_export.read(files[0]) == netx_export.read(files[1])


class _OwnDynamics:
    """A neuron whose dynamics are somebody's own."""

    def dynamics(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        current, voltage = super().dynamics(x)  # type: ignore[misc]
        return current, 2 * voltage


def test_other_neurons_are_named_and_run_as_before(spikes: torch.Tensor) -> None:
    net = torch.nn.Sequential(*dense(), *chain(6, 5), *chain(5, 4, family="adrf_iz", params={**RESONATOR, **ADAPTIVE}))
    own = net[2].neuron
    own.__class__ = type("Own", (_OwnDynamics, type(own)), {})
    expected = net[2](net[:2](spikes))
    with pytest.warns(UserWarning, match=r"running as before: `2.neuron` \(Own\), `3.neuron` \(Neuron\)\.$"):
        training.set_backend(net, "compiled")
    assert is_compiled(net) == [True, True, False, False]
    assert same(net[2](net[:2](spikes)), expected)


def test_a_constant_of_slayer_that_is_changed_later_counts_at_once(
    spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lava.lib.dl.slayer.neuron import cuba

    found = []
    for net in twins(recurrent, spikes):
        monkeypatch.setattr(cuba, "TAU_RHO_MULT", 3)
        found.append(trained(net, spikes))
        monkeypatch.undo()
    assert [same(*pair) for pair in zip(*found, strict=True)] == [True] * len(found[0])


def test_what_somebody_put_into_slayer_is_not_compiled(spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    net = dense()
    training.set_backend(net, "compiled")
    own = leaky_integrator._li_dynamics_bwd
    monkeypatch.setattr(leaky_integrator, "_li_dynamics_bwd", lambda *arguments: own(*arguments))
    with pytest.warns(UserWarning, match=r"running as before: `0.neuron` \(Neuron\), `1.neuron` \(Neuron\)\.$"):
        training.set_backend(net, "compiled")
    assert is_compiled(net) == [False, False]


def _partial_integrator() -> tuple[Any, str, Any]:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    return leaky_integrator, "dynamics", partial(leaky_integrator.dynamics)


def _namespace_of_the_integrator() -> tuple[Any, str, Any]:
    from lava.lib.dl.slayer.neuron import cuba

    return cuba, "leaky_integrator", SimpleNamespace(**vars(cuba.leaky_integrator))


def _own_surrogate() -> tuple[Any, str, Any]:
    from lava.lib.dl.slayer.neuron import cuba

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, voltage: torch.Tensor, threshold: float, *_: Any) -> torch.Tensor:
            return (voltage >= threshold).to(voltage.dtype)

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
            return 7 * gradients[0], *[None] * 6

    return cuba, "Spike", Spike


def _own_slope() -> tuple[Any, str, Any]:
    from lava.lib.dl.slayer.spike import spike

    return spike, "_spike_backward", lambda voltage, *_: torch.ones_like(voltage)


@pytest.mark.parametrize("put", [_partial_integrator, _namespace_of_the_integrator, _own_surrogate, _own_slope])
def test_whatever_somebody_put_into_slayer_runs_and_gives_the_gradients(
    put: Callable[[], Any], spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*put())
    with pytest.warns(UserWarning, match=r"running as before: `0.neuron` \(Neuron\), `1.neuron` \(Neuron\)\.$"):
        slayers, ours = twins(dense, spikes)
    assert is_compiled(ours) == [False, False]
    expected, found = trained(slayers, spikes), trained(ours, spikes)
    assert [same(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(expected)


def test_somebody_s_own_sums_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    conv3d = torch.nn.functional.conv3d
    monkeypatch.setattr(torch.nn.functional, "conv3d", lambda *arguments, **options: conv3d(*arguments, **options) / 2)
    net = dense()
    training.set_backend(net, "compiled")
    assert [backends.is_compiled(block.synapse) for block in net] == [False, False]


def test_a_neuron_with_dynamics_of_its_own_is_named() -> None:
    net = dense()
    own = net[1].neuron.dynamics
    net[1].neuron.dynamics = lambda x: own(x)
    with pytest.warns(UserWarning, match=r"running as before: `1.neuron` \(Neuron\)\.$"):
        training.set_backend(net, "compiled")
    assert is_compiled(net) == [True, False]


def test_a_pickle_of_an_earlier_version_opens() -> None:
    net = dense()
    plain = type(net[0].neuron)
    training.set_backend(net, "compiled")
    make, arguments, *_ = net[0].neuron.__reduce_ex__(2)
    assert type(make(plain)) is type(make(*arguments)) is type(net[0].neuron)


def test_without_numba_it_is_refused_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "numba_runs", lambda: False)
    net = dense()
    with pytest.raises(ImportError, match=r"needs numba: pip install 'lava-spikeloss\[fast\]'"):
        training.set_backend(net, "compiled")
    assert is_compiled(net) == [False, False]


def test_a_copy_opens_where_numba_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    net = dense()
    training.set_backend(net, "compiled")
    monkeypatch.setattr(backends, "numba_runs", lambda: False)
    assert is_compiled(pickle.loads(pickle.dumps(net))) == [False, False]


def test_the_run_of_a_network_that_is_not_on_the_cpu_is_left_to_slayer() -> None:
    """On a GPU, kernels would run in the place of the code that the network was trained with."""
    net = dense()
    with backends.compiled_inside(net) as runs_loops:
        assert runs_loops
    with backends.compiled_inside(net.to("meta")) as runs_loops:
        assert not runs_loops
    assert is_compiled(net) == [False, False]


def test_what_torch_compile_leaves_in_lava_dl_s_modules_is_nobody_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    monkeypatch.setattr(leaky_integrator, "__resume_at_38_19", lambda: None, raising=False)
    net = chain(8, 12, 5)
    training.set_backend(net, "compiled")
    assert backends.is_compiled(net[0].neuron)
