"""Online training against the equations of the papers, written out slowly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from slayer_nets import CUBA, RESONATOR, chain, delayed, normed

from lava_spikeloss.training import (
    fptt_online_training,
    fptt_online_training_init_w_ra,
    multi_step_forward,
    ottt_online_training,
    record_membrane,
    reset_net,
    sltt_online_training,
)

LABELS = torch.tensor([0, 1, 2])
cross_entropy = torch.nn.functional.cross_entropy


def two_layers(**options: Any) -> torch.nn.Module:
    params = {**CUBA, "tau_grad": 0.01, "scale_grad": 10, **options}  # SLAYER's own surrogate is very flat
    return chain(8, 16, 3, params=params, weight_scale=4, delay_shift=False)


def surrogate(neuron: Any, voltage: torch.Tensor) -> torch.Tensor:
    """The derivative that SLAYER gives its CUBA spikes."""
    tau = 100 * neuron.tau_rho
    threshold = neuron.threshold + neuron.threshold_eps
    return 0.1 * neuron.scale_rho / (2 * tau) * torch.exp(-(voltage - threshold).abs() / tau)


def slow_spatial_training(net: Any, x: torch.Tensor, rate: float, online: bool, trace: bool) -> None:
    """OTTT (with trace) or SLTT (without), from the equations: plain matrices, no autograd through the net."""
    for block in net:
        block.neuron.persistent_state = True
    weights = [block.synapse.weight.detach().reshape(block.synapse.weight.shape[:2]) for block in net]
    keeps = [1 - round(4096 * CUBA["current_decay"]) / 4096, 1 - round(4096 * CUBA["voltage_decay"]) / 4096]
    currents, filtered = [0.0, 0.0], [0.0, 0.0]
    sums = [torch.zeros_like(w) for w in weights]
    for t in range(x.shape[-1]):
        spikes, inputs, slopes, used = x[..., t], [], [], []
        for layer, block in enumerate(net):
            used.append(block.neuron.quantize_8bit(weights[layer]))
            currents[layer] = keeps[0] * currents[layer] + spikes
            filtered[layer] = keeps[1] * filtered[layer] + currents[layer]
            inputs.append(filtered[layer] if trace else spikes)
            with torch.no_grad(), record_membrane(block) as record:
                spikes = block.neuron((spikes @ used[layer].T).unsqueeze(-1))[..., 0]
            slopes.append(surrogate(block.neuron, record.potential[..., 0]))
        softmax = spikes.softmax(dim=1)
        error = (softmax - torch.nn.functional.one_hot(LABELS, 3)) / len(LABELS)  # of the mean cross entropy
        delta = [torch.zeros(0), error * slopes[1]]
        delta[0] = (delta[1] @ used[1]) * slopes[0]
        for layer in range(2):
            sums[layer] += delta[layer].T @ inputs[layer]
            if online:
                weights[layer] -= rate * sums[layer]
                sums[layer] = torch.zeros_like(sums[layer])
    for layer in range(2):
        weights[layer] -= rate * sums[layer]


@pytest.mark.slayer
@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize(("function", "trace"), [(ottt_online_training, True), (sltt_online_training, False)])
def test_spatial_training_follows_the_equations(
    function: Callable[..., torch.Tensor], trace: bool, online: bool, spikes: torch.Tensor
) -> None:
    net, slow = two_layers(), two_layers()
    slow.load_state_dict(net.state_dict())
    before = [block.synapse.weight.detach().clone() for block in net]
    rate = 0.1 if trace else 1.0
    function(net, torch.optim.SGD(net.parameters(), lr=rate), spikes, LABELS, cross_entropy, online)
    slow_spatial_training(slow, spikes, rate, online, trace)
    for block, reference, start in zip(net, slow, before, strict=True):
        assert (reference.synapse.weight - start).abs().max() > 1 / 32
        torch.testing.assert_close(block.synapse.weight, reference.synapse.weight, atol=2e-5, rtol=1e-5)


@pytest.mark.slayer
def test_ottt_of_one_layer_is_back_propagation_through_time(spikes: torch.Tensor) -> None:
    net = two_layers()[1:]
    x = (torch.rand(3, 16, 24) < 0.3).float()
    twin = copy.deepcopy(net)
    sum(cross_entropy(step, LABELS) for step in twin(x).unbind(dim=-1)).backward()
    start = net[0].synapse.weight.detach().clone()
    ottt_online_training(net, torch.optim.SGD(net.parameters(), lr=1.0), x, LABELS, cross_entropy, online=False)
    torch.testing.assert_close(start - net[0].synapse.weight, twin[0].synapse.weight.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.slayer
def test_ottt_trains_recurrent_weights_by_their_trace(slayer: Any, spikes: torch.Tensor) -> None:
    """One recurrent layer: the gradient of R is that of the same layer with its own past spikes as a second input."""
    block = slayer.block.cuba.Recurrent(dict(CUBA), 8, 3, weight_scale=4)
    with torch.no_grad():
        output = multi_step_forward(spikes, block)  # shifted by one: these are the spikes fed back
        reset_net(block)
    z = block.input_synapse(spikes) + block.recurrent_synapse(output)
    unrolled = slayer.neuron.cuba.Neuron(**CUBA)(z)
    assert torch.equal(unrolled[..., :-1], output[..., 1:])
    sum(cross_entropy(step, LABELS) for step in unrolled.unbind(dim=-1)).backward()
    expected = [block.input_synapse.weight.grad.clone(), block.recurrent_synapse.weight.grad.clone()]
    start = [block.input_synapse.weight.detach().clone(), block.recurrent_synapse.weight.detach().clone()]
    ottt_online_training(block, torch.optim.SGD(block.parameters(), lr=1.0), spikes, LABELS, cross_entropy, False)
    now = [block.input_synapse.weight, block.recurrent_synapse.weight]
    for gradient, before, after in zip(expected, start, now, strict=True):
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(before - after, gradient, atol=1e-6, rtol=1e-4)


def slow_fptt(net: Any, x: torch.Tensor, rate: float, alpha: float, state: Any, epochs: int) -> None:
    """The two equations of the paper, with the objective written out and a copy of the net for the second gradient."""
    for _ in range(epochs):
        for block in net:
            block.neuron.persistent_state = True
        reset_net(net)
        for t in range(x.shape[-1]):
            before = copy.deepcopy(net)
            weights = [block.synapse.weight for block in net]
            loss = cross_entropy(net(x[..., t : t + 1])[..., 0], LABELS)
            for weight, average, gradient in zip(weights, state.averages, state.gradients, strict=True):
                loss = loss + alpha / 2 * (weight - average - gradient / (2 * alpha)).pow(2).sum()
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.data -= rate * gradient
            for block, copied in zip(net, before, strict=True):
                copied.synapse.weight.data = block.synapse.weight.data.clone()
            again = [block.synapse.weight for block in before]
            loss = cross_entropy(before(x[..., t : t + 1])[..., 0], LABELS)
            state.gradients = list(torch.autograd.grad(loss, again))
            state.averages = [
                0.5 * (average + weight.detach()) - gradient / (2 * alpha)
                for average, weight, gradient in zip(state.averages, weights, state.gradients, strict=True)
            ]


@pytest.mark.slayer
def test_fptt_follows_the_equations(spikes: torch.Tensor) -> None:
    net = two_layers()
    slow = copy.deepcopy(net)
    x, rate, alpha = spikes[..., :12], 0.5, 0.2
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    state = fptt_online_training_init_w_ra(optimizer)
    reference = copy.deepcopy(state)
    start = net[0].synapse.weight.detach().clone()
    for _ in range(2):
        fptt_online_training(net, optimizer, x, LABELS, cross_entropy, alpha, state)
    slow_fptt(slow, x, rate, alpha, reference, epochs=2)
    assert (net[0].synapse.weight - start).abs().max() > 1 / 32
    for block, other in zip(net, slow, strict=True):
        torch.testing.assert_close(block.synapse.weight, other.synapse.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(state.averages, reference.averages, atol=1e-5, rtol=1e-4)


def test_the_running_average_is_no_alias() -> None:
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    state = fptt_online_training_init_w_ra(optimizer)
    before = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.add_(1)
    assert torch.equal(state.averages[0], before)


def test_the_penalty_is_a_sum_over_the_weights() -> None:
    """One step with a loss of zero leaves only the penalty: W - eta * alpha * (W - average)."""
    net = torch.nn.Conv1d(4, 3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    state = fptt_online_training_init_w_ra(optimizer)
    state.averages[0] += 1.0
    before = net.weight.detach().clone()
    fptt_online_training(net, optimizer, torch.rand(3, 4, 1), LABELS, lambda y, _: 0 * y.sum(), 0.5, state)
    torch.testing.assert_close(net.weight, before + 0.1 * 0.5)


def fptt(net: Any, optimizer: torch.optim.Optimizer, x: Any, target: Any = LABELS) -> torch.Tensor:
    state = fptt_online_training_init_w_ra(optimizer)
    return fptt_online_training(net, optimizer, x, target, cross_entropy, 0.5, state)


def ottt(net: Any, optimizer: torch.optim.Optimizer, x: Any, target: Any = LABELS) -> torch.Tensor:
    return ottt_online_training(net, optimizer, x, target, cross_entropy, online=True)


def sltt(net: Any, optimizer: torch.optim.Optimizer, x: Any, target: Any = LABELS) -> torch.Tensor:
    return sltt_online_training(net, optimizer, x, target, cross_entropy, online=True)


METHODS = {"ottt": ottt, "sltt": sltt, "fptt": fptt}


@pytest.mark.slayer
@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_for_backward_does_not_grow_with_time(method: str, spikes: torch.Tensor) -> None:
    largest = []
    for repeats in (1, 4):
        net = two_layers()
        sizes: list[int] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x)
        with hooks:
            METHODS[method](net, torch.optim.SGD(net.parameters(), lr=0.1), spikes.repeat(1, 1, repeats))
        largest.append(max(sizes))
    assert largest[0] == largest[1]


@pytest.mark.slayer
@pytest.mark.parametrize("method", METHODS)
def test_the_net_is_left_as_it_was_but_for_its_weights(method: str, spikes: torch.Tensor) -> None:
    net = normed("MeanOnlyBatchNorm").train()
    METHODS[method](net, torch.optim.SGD(net.parameters(), lr=0.1), torch.cat([spikes, spikes])[:3])
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()) == 0
    assert [block.delay_shift for block in net] == [True, True]
    assert [block.neuron.persistent_state for block in net] == [False, False]
    assert all(parameter.grad is None for parameter in net.parameters())
    net.eval()
    assert torch.equal(net(spikes), net(spikes))


@pytest.mark.slayer
@pytest.mark.parametrize("method", METHODS)
def test_the_shift_between_blocks_does_not_change_the_training(method: str, spikes: torch.Tensor) -> None:
    nets = [two_layers(), two_layers()]
    nets[1].load_state_dict(nets[0].state_dict())
    for block in nets[1]:
        block.delay_shift = True
    for net in nets:
        METHODS[method](net, torch.optim.SGD(net.parameters(), lr=0.1), spikes)
    assert torch.equal(nets[0][0].synapse.weight, nets[1][0].synapse.weight)


@pytest.mark.slayer
def test_what_has_no_gradient_within_a_step_is_refused(slayer: Any, spikes: torch.Tensor) -> None:
    net = delayed()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for method in METHODS.values():
        with pytest.raises(ValueError, match=r"no axonal delays.*`0\.delay` \(Delay\)"):
            method(net, optimizer, spikes)
    resonator = slayer.block.rf.Dense(dict(RESONATOR), 8, 3)
    with pytest.raises(ValueError, match=r"use `sltt_online_training`"):
        METHODS["ottt"](resonator, optimizer, spikes)
    per_neuron = two_layers(shared_param=False)
    per_neuron(spikes)
    with pytest.raises(ValueError, match=r"one decay per layer but got `0\.neuron`"):
        METHODS["ottt"](per_neuron, optimizer, spikes)


@pytest.mark.slayer
@pytest.mark.parametrize("kind", ["rf", "rf_iz", "sigma_delta", "alif"])
def test_sltt_works_for_other_neurons(kind: str, spikes: torch.Tensor) -> None:
    import slayer_nets

    net = slayer_nets.NETS[kind.replace("_delta", "-delta")]()
    target = torch.tensor([0, 1, 2])
    before = [parameter.detach().clone() for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0)
    loss = sltt_online_training(net, optimizer, spikes, target, cross_entropy, online=True)
    assert loss.isfinite()
    after = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("target", [torch.zeros(3, 24), torch.zeros(3, 6, 24)])
def test_targets_per_step(target: torch.Tensor) -> None:
    net = torch.nn.Conv1d(8, 6, 1)
    seen: list[torch.Size] = []

    def loss(output: torch.Tensor, target_t: torch.Tensor) -> torch.Tensor:
        seen.append(target_t.shape)
        assert output.shape == (3, 6)
        return output.sum()

    sltt_online_training(net, torch.optim.SGD(net.parameters(), lr=0.1), torch.rand(3, 8, 24), target, loss, True)
    assert seen == [target.shape[:-1]] * 24


@pytest.mark.parametrize("method", ["sltt", "fptt"])
def test_the_loss_that_comes_back_is_the_mean_over_the_steps(method: str) -> None:
    net, x = torch.nn.Conv1d(8, 6, 1), torch.rand(3, 8, 5)
    expected = torch.stack([cross_entropy(step, LABELS) for step in net(x).unbind(dim=-1)]).mean()
    loss = METHODS[method](net, torch.optim.SGD(net.parameters(), lr=0.0), x)
    torch.testing.assert_close(loss, expected.detach())


def test_the_second_forward_of_a_step_is_no_data_for_a_norm() -> None:
    net = torch.nn.Sequential(torch.nn.Conv1d(8, 6, 1), torch.nn.BatchNorm1d(6))
    twin = copy.deepcopy(net)
    x = torch.rand(3, 8, 5)
    for model, method in ((net, "fptt"), (twin, "sltt")):
        METHODS[method](model, torch.optim.SGD(model.parameters(), lr=0.0), x)
    torch.testing.assert_close(net[1].running_mean, twin[1].running_mean)
    torch.testing.assert_close(net[1].running_var, twin[1].running_var)


@pytest.mark.parametrize(
    ("x", "target", "error", "text"),
    [
        (torch.rand(3, 8, 24).tolist(), LABELS, TypeError, r"`x` to be a torch.Tensor but got list"),
        (torch.rand(3, 8, 24), [0, 1, 2], TypeError, r"`target` to be a torch.Tensor but got list"),
        (torch.rand(3, 8, 24), torch.tensor(1), ValueError, r"`target` to be \(3,\), .* but got shape \(\)"),
        (torch.rand(3, 8, 24), torch.zeros(2), ValueError, r"`target` to be \(3,\), .* but got shape \(2,\)"),
        (torch.rand(3, 8, 24), torch.zeros(3, 6), ValueError, r"`target` .* 3 samples first and 24 steps last"),
        (torch.rand(3, 8), LABELS, ValueError, r"`x` to have the layout \(N, C, ..., T\)"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_wrong_data_is_refused_before_anything_changes(
    method: str, x: Any, target: Any, error: type[Exception], text: str
) -> None:
    net = torch.nn.Conv1d(8, 6, 1)
    net.weight.grad = gradient = torch.ones_like(net.weight)
    with pytest.raises(error, match=text):
        METHODS[method](net, torch.optim.SGD(net.parameters(), lr=0.1), x, target)
    assert net.weight.grad is gradient


def test_wrong_arguments() -> None:
    net = torch.nn.Conv1d(8, 6, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    x = torch.rand(3, 8, 24)
    state = fptt_online_training_init_w_ra(optimizer)
    with pytest.raises(ValueError, match="`alpha` to be greater than 0"):
        fptt_online_training(net, optimizer, x, LABELS, cross_entropy, 0.0, state)
    other = fptt_online_training_init_w_ra(torch.optim.SGD([net.bias], lr=0.1))
    with pytest.raises(ValueError, match="its 1 averages are not those of the 2 parameters"):
        fptt_online_training(net, optimizer, x, LABELS, cross_entropy, 0.5, other)
