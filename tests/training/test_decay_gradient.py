"""The exact gradient of decays is the derivative of the states, with the spikes at their steps."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slayer_nets import ADAPTIVE, CUBA, chain, kwta, recurrent, resonator
from torch.utils.flop_counter import FlopCounterMode

from lava_spikeloss import training
from lava_spikeloss.training import backend as backends

pytest.importorskip("numba")
from lava_spikeloss.training import compiled_neurons, compiled_resonators  # they import numba

pytestmark = pytest.mark.slayer

SCALE = 2**24  # so fine that whole numbers are as good as real ones
TRAINED = {**CUBA, "requires_grad": True}


def by_formula(
    x: torch.Tensor, decay: torch.Tensor, start: torch.Tensor, threshold: float | None, spikes: torch.Tensor
) -> torch.Tensor:
    """The states of an integrator in real numbers, with the spikes given."""
    state, states = start.double(), []
    for step in range(x.shape[-1]):
        state = (1 - decay / 4096) * state + x[..., step].double()
        states.append(state)
        state = state * (1 - spikes[..., step])
    return torch.stack(states, dim=-1)


def turned_by_formula(
    x: torch.Tensor,
    decays: tuple[torch.Tensor, torch.Tensor],
    start: torch.Tensor,
    threshold: float,
    spikes: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The states of a resonator that gets the same input on both sides, likewise."""
    (sin, cos), real, imag, states = (decay / 4096 for decay in decays), start.double(), -start.double(), []
    for step in range(x.shape[-1]):
        real, imag = cos * real - sin * imag + x[..., step], sin * real + cos * imag + x[..., step]
        states.append((real, imag))
        fired = spikes[..., step]
        real, imag = real * (1 - fired), imag * (1 - fired) + fired * (threshold - 1 / SCALE)
    return tuple(torch.stack(side, dim=-1) for side in zip(*states, strict=True))  # type: ignore[return-value]


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.sampled_from([(1, 1), (3, 4), (2, 3, 4)]))
    steps = draw(st.sampled_from([1, 2, 30]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    return {
        "x": torch.rand(*shape, steps, generator=generator) - 0.3,
        "start": draw(st.sampled_from([torch.zeros(1), torch.rand(shape, generator=generator)])),
        "count": draw(st.sampled_from([1, shape[-1]])),
        "threshold": draw(st.sampled_from([None, 0.5, 1.0])),
        "gradient": torch.randn(*shape, steps, generator=generator),
        "generator": generator,
    }


@given(cases())
@settings(max_examples=60, deadline=None)
def test_an_integrator_s_is_that_of_its_formula(case: dict[str, Any]) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    x, start, threshold, gradient = (case[name] for name in ("x", "start", "threshold", "gradient"))
    decay = torch.randint(10, 3000, (case["count"],), generator=case["generator"]).float().requires_grad_()
    states = compiled_neurons.leaky_dynamics(leaky_integrator, x, decay, start, SCALE, threshold, exact=True)
    states.backward(gradient)
    exact = decay.detach().double().requires_grad_()
    spikes = (states >= (threshold or torch.inf)).double()
    by_formula(x, exact, start.expand(x.shape[:-1]), threshold, spikes).backward(gradient.double())
    torch.testing.assert_close(decay.grad, exact.grad.float(), rtol=1e-4, atol=1e-6)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_a_resonator_s_are_those_of_its_formula(case: dict[str, Any]) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import resonator as slayers

    x, start, threshold, gradient = (case[name] for name in ("x", "start", "threshold", "gradient"))
    angle = torch.rand(case["count"], generator=case["generator"]) + 0.2
    decays = [(4000 * turn).trunc().requires_grad_() for turn in (angle.sin(), angle.cos())]
    states = compiled_resonators.resonator_dynamics(slayers, x, x, *decays, start, -start, SCALE, threshold, exact=True)
    torch.autograd.backward(states, (gradient, gradient.flip(0)))
    exact = [decay.detach().double().requires_grad_() for decay in decays]
    spikes = (states[1] >= (threshold or torch.inf)).double()
    of_formula = turned_by_formula(x, (exact[0], exact[1]), start.expand(x.shape[:-1]), threshold or 0.0, spikes)
    torch.autograd.backward(of_formula, (gradient.double(), gradient.flip(0).double()))
    for found, expected in zip(decays, exact, strict=True):
        torch.testing.assert_close(found.grad, expected.grad.float(), rtol=1e-4, atol=1e-6)


def test_without_spikes_it_is_what_a_small_change_makes() -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.rand(2, 3, 40, generator=generator) for _ in range(2))

    def loss(decay: torch.Tensor, exact: bool = True) -> torch.Tensor:
        start = torch.zeros(1)
        states = compiled_neurons.leaky_dynamics(leaky_integrator, x, decay, start, SCALE, exact=exact)
        return (states * weight).double().sum()

    decay = torch.tensor([400.0], requires_grad=True)
    loss(decay).backward()  # type: ignore[no-untyped-call]
    exact = float(decay.grad)  # type: ignore[arg-type]
    assert exact == pytest.approx(float(loss(decay + 1) - loss(decay - 1)) / 2, rel=1e-3)
    decay.grad = None
    loss(decay, exact=False).backward()  # type: ignore[no-untyped-call]
    assert float(decay.grad) == pytest.approx(-4096 * exact, rel=1e-4)  # type: ignore[arg-type]


PER_NEURON = {**TRAINED, "shared_param": False, "current_decay": (0.1, 0.9), "voltage_decay": (0.0, 0.3)}
BUILDS: dict[str, Callable[[], Any]] = {
    "shared": lambda: chain(8, 16, 6, params=TRAINED, weight_scale=4),
    "per neuron": lambda: chain(8, 16, 6, params=PER_NEURON, weight_scale=4),
    "rf": lambda: resonator("rf", requires_grad=True),
    "rf_iz": lambda: resonator("rf_iz", requires_grad=True),
}


def gradients(net: Any, spikes: torch.Tensor) -> dict[str, torch.Tensor]:
    """The output, and all gradients."""
    net.zero_grad()
    x = spikes.clone().requires_grad_()
    y = net(x)
    (y * torch.linspace(-0.5, 1, y.numel()).reshape(y.shape)).sum().backward()
    found = {name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None}
    return {"output": y.detach(), "input": x.grad, **found}


@pytest.mark.parametrize("name", BUILDS)
def test_all_other_gradients_are_slayer_s(name: str, spikes: torch.Tensor) -> None:
    torch.manual_seed(0)
    net = BUILDS[name]()
    expected = gradients(net, spikes)
    training.set_backend(net, "compiled", decay_gradient="exact")
    found = gradients(net, spikes)
    for key, value in expected.items():
        assert torch.equal(found[key], value) is ("decay" not in key), key
        assert found[key].shape == value.shape
    training.set_backend(net, "compiled")
    again = gradients(net, spikes)
    assert all(torch.equal(again[key], value) for key, value in expected.items())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_has_the_same_gradient(copied: Callable[[Any], Any], spikes: torch.Tensor) -> None:
    net = BUILDS["shared"]()
    training.set_backend(net, "compiled", decay_gradient="exact")
    twin = copied(net)
    expected, found = gradients(net, spikes), gradients(twin, spikes)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_copy_that_opens_where_numba_is_not_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net = BUILDS["shared"]()
    training.set_backend(net, "compiled", decay_gradient="exact")
    packed = pickle.dumps(net)
    monkeypatch.setattr(backends, "numba_runs", lambda: False)
    with pytest.warns(UserWarning, match="their gradients are SLAYER's"):
        pickle.loads(packed)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "accelerated"])
def test_another_backend_has_none(backend: Any) -> None:
    with pytest.raises(ValueError, match=f"is there for the backend 'compiled', and got '{backend}'"):
        training.set_backend(BUILDS["shared"](), backend, decay_gradient="exact")


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="decay_gradient"):
        training.set_backend(BUILDS["shared"](), "compiled", decay_gradient="right")  # type: ignore[arg-type]


def with_trained(build: Callable[[], Any]) -> Any:
    net = build()
    net[1].neuron.current_decay.requires_grad_()
    return net


def with_parametrized() -> Any:
    net = with_trained(recurrent)
    torch.nn.utils.parametrize.register_parametrization(net[1].neuron, "current_decay", torch.nn.Identity())
    return net


@pytest.mark.parametrize(
    "build",
    [
        with_parametrized,
        lambda: with_trained(recurrent),
        lambda: with_trained(kwta),
        lambda: with_trained(lambda: chain(8, 9, 6, family="alif", params={**CUBA, **ADAPTIVE})),
    ],
)
def test_trained_decays_without_one_are_refused_by_name(build: Callable[[], Any]) -> None:
    net = build()
    with pytest.raises(
        ValueError, match=r"is not there for `1.neuron` \((Parametrized)?Neuron\), whose decays are trained"
    ):
        training.set_backend(net, "compiled", decay_gradient="exact")
    assert not any(backends.is_compiled(module) for module in net.modules())


def test_decays_that_are_not_trained_need_none(spikes: torch.Tensor) -> None:
    net = recurrent()
    training.set_backend(net, "compiled", decay_gradient="exact")
    assert all(backends.is_compiled(block.neuron) for block in net)
    assert net(spikes).any()


def test_what_the_loops_do_not_cover_is_refused_where_a_gradient_is_wanted(spikes: torch.Tensor) -> None:
    for build in (BUILDS["shared"], BUILDS["rf"]):
        net = build()
        training.set_backend(net, "compiled", decay_gradient="exact")
        net.double()
        with torch.no_grad():
            net(spikes.double())
        with pytest.raises(RuntimeError, match="'exact' is there for first derivatives of float32 tensors on the CPU"):
            net(spikes.double())


def test_a_neuron_with_dynamics_of_its_own_has_none() -> None:
    net = BUILDS["shared"]()
    own = net[0].neuron.dynamics
    net[0].neuron.dynamics = lambda x: own(x)
    with pytest.raises(ValueError, match=r"is not there for `0.neuron` \(Neuron\), whose decays are trained"):
        training.set_backend(net, "compiled", decay_gradient="exact")


def test_it_is_there_where_the_cpu_is_set_as_the_default_device(spikes: torch.Tensor) -> None:
    found = []
    for device in (None, "cpu"):
        torch.manual_seed(1)
        net = BUILDS["shared"]()
        training.set_backend(net, "compiled", decay_gradient="exact")
        torch.set_default_device(device)
        try:
            net(spikes).sum().backward()
        finally:
            torch.set_default_device(None)
        found.append(net[0].neuron.current_decay.grad)
    assert torch.equal(*found)


def test_where_a_mode_of_torch_looks_on_that_is_the_reason(spikes: torch.Tensor) -> None:
    net = BUILDS["shared"]()
    training.set_backend(net, "compiled", decay_gradient="exact")
    with pytest.raises(RuntimeError, match="outside of autocast and of torch's modes"), FlopCounterMode(display=False):
        net(spikes)


@pytest.mark.parametrize("name", ["shared", "rf"])
def test_second_derivatives_are_refused(name: str, spikes: torch.Tensor) -> None:
    net = BUILDS[name]()
    training.set_backend(net, "compiled", decay_gradient="exact")
    with pytest.raises(RuntimeError, match="first derivatives"):
        torch.autograd.grad(net(spikes).sum(), list(net.parameters()), create_graph=True, allow_unused=True)
