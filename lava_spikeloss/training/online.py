"""Online training: an update per time step, with memory that does not grow with the sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from lava_spikeloss.arguments import check_number, check_spikes, check_tensor
from lava_spikeloss.peers import also_called
from lava_spikeloss.slayer_blocks import is_affine, is_block, is_delay, is_leaky, is_recurrent, named
from lava_spikeloss.training.state import restore, snapshot
from lava_spikeloss.training.step_mode import Carry, recurrent_feedback, streaming

__all__ = [
    "FPTTState",
    "fptt_online_training",
    "fptt_online_training_init_w_ra",
    "ottt_online_training",
    "sltt_online_training",
]

StepLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class FPTTState:
    """What forward propagation through time keeps from one step to the next: an entry per trainable parameter.

    Attributes:
        averages: the running averages of the parameters.
        gradients: the gradients of the last loss at the parameters after its update.
    """

    averages: list[torch.Tensor]
    gradients: list[torch.Tensor]


def fptt_online_training_init_w_ra(optimizer: torch.optim.Optimizer) -> FPTTState:
    r"""Start the running averages of :func:`fptt_online_training` at the parameters.

    The averages are copies: an update of a parameter does not change them.

    Args:
        optimizer: the optimizer whose parameters are trained.

    Returns:
        The state to hand to every call of :func:`fptt_online_training`.

    Example:
        >>> net = torch.nn.Linear(2, 2)
        >>> state = fptt_online_training_init_w_ra(torch.optim.SGD(net.parameters(), lr=0.1))
        >>> torch.equal(state.averages[0], net.weight)
        True
    """
    parameters = _trainable(optimizer)
    return FPTTState([p.detach().clone() for p in parameters], [torch.zeros_like(p) for p in parameters])


@also_called(model="net", x_seq="x", target_seq="target", f_loss_t="loss", w_ra="state")
def fptt_online_training(
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    target: torch.Tensor,
    loss: StepLoss,
    alpha: float,
    state: FPTTState,
) -> torch.Tensor:
    r"""One pass of forward propagation through time over a batch: an optimizer step at every time step.

    .. math::
        W_{t+1} &= W_t - \eta \nabla_W \left[ \ell_t(W) + \frac{\alpha}{2}
            \left\| W - \bar W_t - \frac{1}{2\alpha} \nabla \ell_{t-1}(W_t) \right\|^2 \right]_{W = W_t} \\
        \bar W_{t+1} &= \tfrac12 (\bar W_t + W_{t+1}) - \frac{1}{2\alpha} \nabla \ell_t(W_{t+1})

    The update :math:`-\eta\nabla` is that of the optimizer. Both gradients of step :math:`t` start from the same state
    of the neurons, the one before the step; the next step goes on from the state after the first forward. The norm is
    a sum over all weights.

    All layers work on the same step: the one-step shift of SLAYER's blocks only delays their spikes, and within one
    step no gradient would pass it. Axonal delays are refused for the same reason. The sequence starts at rest, and the
    earlier state of ``net`` is put back afterwards. Decays get no gradient within one step.

    Args:
        net: the net, in training mode.
        optimizer: any optimizer of its parameters.
        x: input ``(N, C, ..., T)``.
        target: class indices ``(N,)`` used at every step, or targets with time last, ``(N, T)`` or ``(N, C, T)``.
        loss: takes the output of one step ``(N, C, ...)`` and its target ``(N,)`` or ``(N, C)``.
        alpha: weight of the penalty.
        state: from :func:`fptt_online_training_init_w_ra`; updated in place.

    Returns:
        The mean loss over the steps, without a graph.

    Raises:
        TypeError: if ``x`` or ``target`` is not a tensor.
        ValueError: if ``alpha`` is not positive, the shapes do not fit, the state belongs to other parameters, or
            ``net`` has axonal delays.

    References:
        Kag and Saligrama, "Training recurrent neural networks via forward propagation through time", ICML 2021.
        Yin, Corradi and Bohté, "Accurate online training of dynamical spiking neural networks through forward
        propagation through time", Nature Machine Intelligence 2023.

    Example:
        >>> net = torch.nn.Conv1d(4, 2, 1)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> state = fptt_online_training_init_w_ra(optimizer)
        >>> x, labels = torch.rand(3, 4, 10), torch.tensor([0, 1, 0])
        >>> cross_entropy = torch.nn.functional.cross_entropy
        >>> loss = fptt_online_training(net, optimizer, x, labels, cross_entropy, 0.5, state)
    """
    _check(net, x, target)
    check_number("alpha", alpha, above=0)
    parameters = _trainable(optimizer)
    if [p.shape for p in parameters] != [average.shape for average in state.averages]:
        raise ValueError(
            "Expected argument `state` to come from `fptt_online_training_init_w_ra(optimizer)` but its "
            f"{len(state.averages)} averages are not those of the {len(parameters)} parameters of `optimizer`."
        )
    total = torch.zeros((), device=x.device)
    with _online(net):
        for x_t, target_t in _steps(x, target):
            before = snapshot(net)
            total += _gradients(net, optimizer, loss, x_t, target_t)
            after = snapshot(net)
            _add_penalty(parameters, state, alpha)
            optimizer.step()
            restore(before)  # the second forward of the step starts where the first one did, and leaves no trace
            _gradients(net, optimizer, loss, x_t, target_t)
            restore(after)
            _update_averages(parameters, state, alpha)
    optimizer.zero_grad()
    return total / x.shape[-1]


@also_called(model="net", x_seq="x", target_seq="target", f_loss_t="loss")
def ottt_online_training(
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    target: torch.Tensor,
    loss: StepLoss,
    online: bool,
) -> torch.Tensor:
    r"""One pass of online training through time over a batch.

    .. math::
        \nabla_W L = \sum_t \delta[t] \, \hat a[t]^\top, \qquad
        \hat a[t] = \sum_{\tau \le t} \kappa[t - \tau] \, s[\tau]

    Where :math:`s` are the spikes that enter a synapse, :math:`\kappa` is the response of the neurons behind it to one
    spike, and :math:`\delta[t]` is the gradient of the loss of step :math:`t` with respect to the membrane potentials,
    passed down through the layers within that step. SLAYER's CUBA neuron filters twice, so

    .. math:: a_c[t] = (1 - d_c)\, a_c[t-1] + s[t], \qquad \hat a[t] = (1 - d_v)\, \hat a[t-1] + a_c[t]

    with its current decay :math:`d_c` and voltage decay :math:`d_v`. As in the paper (and in SLAYER's own backward) the
    reset is left out of the derivative. For one layer this is the gradient of back-propagation through time; for
    several it leaves out the paths that go through an earlier step of a later layer. Only the traces are kept, so
    memory does not depend on the number of steps. Shift, delays, state and decays are handled as in
    :func:`fptt_online_training`.

    Args:
        net: the net, in training mode; every synapse in front of CUBA or ALIF neurons with one decay per layer.
        optimizer: any optimizer of its parameters.
        x: input ``(N, C, ..., T)``.
        target: class indices ``(N,)`` used at every step, or targets with time last, ``(N, T)`` or ``(N, C, T)``.
        loss: takes the output of one step ``(N, C, ...)`` and its target ``(N,)`` or ``(N, C)``.
        online: update at every step; otherwise once, with the sum of the gradients of all steps.

    Returns:
        The mean loss over the steps, without a graph.

    Raises:
        TypeError: if ``x`` or ``target`` is not a tensor.
        ValueError: if the shapes do not fit, or ``net`` has axonal delays or neurons without such a trace (use
            :func:`sltt_online_training`).

    References:
        Xiao, Meng, Zhang, He and Lin, "Online training through time for spiking neural networks", NeurIPS 2022.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = slayer.block.cuba.Dense(neuron, 4, 2)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> x, labels = torch.ones(3, 4, 10), torch.tensor([0, 1, 0])
        >>> cross_entropy = torch.nn.functional.cross_entropy
        >>> loss = ottt_online_training(net, optimizer, x, labels, cross_entropy, online=True)
    """
    _check(net, x, target)
    traces = _Traces(net)
    return _spatial_training(net, optimizer, x, target, loss, online, traces)


def sltt_online_training(
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    target: torch.Tensor,
    loss: StepLoss,
    online: bool,
) -> torch.Tensor:
    r"""One pass of spatial learning through time over a batch: the gradient within each step, and nothing through time.

    .. math:: \nabla_W L = \sum_t \delta[t]\, s[t]^\top

    As :func:`ottt_online_training`, with the spikes themselves in place of their traces. It works for every kind of
    SLAYER neuron, and costs one forward and one backward per step.

    Args:
        net: the net, in training mode.
        optimizer: any optimizer of its parameters.
        x: input ``(N, C, ..., T)``.
        target: class indices ``(N,)`` used at every step, or targets with time last, ``(N, T)`` or ``(N, C, T)``.
        loss: takes the output of one step ``(N, C, ...)`` and its target ``(N,)`` or ``(N, C)``.
        online: update at every step; otherwise once, with the sum of the gradients of all steps.

    Returns:
        The mean loss over the steps, without a graph.

    Raises:
        TypeError: if ``x`` or ``target`` is not a tensor.
        ValueError: if the shapes do not fit, or ``net`` has axonal delays.

    References:
        Meng, Xiao, Yan, Wang, Lin and Luo, "Towards memory- and time-efficient backpropagation for training spiking
        neural networks", ICCV 2023.

    Example:
        >>> net = torch.nn.Conv1d(4, 2, 1)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> x, labels = torch.rand(3, 4, 10), torch.tensor([0, 1, 0])
        >>> cross_entropy = torch.nn.functional.cross_entropy
        >>> loss = sltt_online_training(net, optimizer, x, labels, cross_entropy, online=False)
    """
    _check(net, x, target)
    return _spatial_training(net, optimizer, x, target, loss, online, None)


def _spatial_training(
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    x: torch.Tensor,
    target: torch.Tensor,
    loss: StepLoss,
    online: bool,
    traces: _Traces | None,
) -> torch.Tensor:
    total = torch.zeros((), device=x.device)
    optimizer.zero_grad()
    with _online(net, traces):
        for x_t, target_t in _steps(x, target):
            step_loss = loss(net(x_t)[..., 0], target_t)
            step_loss.backward()
            total += step_loss.detach()
            if online:
                optimizer.step()
                optimizer.zero_grad()
    if not online:
        optimizer.step()
        optimizer.zero_grad()
    return total / x.shape[-1]


@contextmanager
def _online(net: torch.nn.Module, traces: _Traces | None = None) -> Iterator[None]:
    """Inside, ``net`` runs step by step from rest, all layers on the same step."""
    feedback = traces.feedback if traces is not None else None
    with ExitStack() as stack:
        stack.enter_context(streaming(net, Carry(shift=False, feedback=feedback), from_rest=True))
        if traces is not None:
            stack.enter_context(traces.attached())
        yield


def _check(net: torch.nn.Module, x: torch.Tensor, target: torch.Tensor) -> None:
    check_spikes("x", x, min_dims=3)
    check_tensor("target", target)
    if target.shape[:1] != x.shape[:1] or (target.dim() > 1 and target.shape[-1] != x.shape[-1]):
        raise ValueError(
            f"Expected argument `target` to be ({x.shape[0]},), or {x.shape[0]} samples first and {x.shape[-1]} steps "
            f"last, but got shape {tuple(target.shape)}."
        )
    for module in net.modules():
        if is_delay(module):
            raise ValueError(
                "Expected argument `net` to have no axonal delays, since no gradient passes them within one step, but "
                f"got {named(net, module)}: train this net by back-propagation through time, `net(x)`."
            )


def _steps(x: torch.Tensor, target: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for t in range(x.shape[-1]):
        yield x[..., t : t + 1], target if target.dim() == 1 else target[..., t]


def _trainable(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


def _gradients(
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: StepLoss,
    x_t: torch.Tensor,
    target_t: torch.Tensor,
) -> torch.Tensor:
    optimizer.zero_grad()
    step_loss = loss(net(x_t)[..., 0], target_t)
    step_loss.backward()
    return step_loss.detach()


def _add_penalty(parameters: list[torch.Tensor], state: FPTTState, alpha: float) -> None:
    for parameter, average, gradient in zip(parameters, state.averages, state.gradients, strict=True):
        penalty = alpha * (parameter.detach() - average) - gradient / 2
        parameter.grad = penalty if parameter.grad is None else parameter.grad + penalty


def _update_averages(parameters: list[torch.Tensor], state: FPTTState, alpha: float) -> None:
    for index, parameter in enumerate(parameters):
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()
        state.averages[index] = (state.averages[index] + parameter.detach()) / 2 - gradient / (2 * alpha)
        state.gradients[index] = gradient


class _Traces:
    """The presynaptic traces of OTTT. The output of a synapse stays; its weights get the gradient of the trace."""

    def __init__(self, net: torch.nn.Module) -> None:
        modules: list[Any] = [module for module in net.modules() if is_block(module)]
        # An Affine block without dynamics puts out the current of its synapse: nothing filters it.
        blocks = [block for block in modules if not (is_affine(block) and not block.dynamics)]
        for block in blocks:
            _check_trace(net, block)
        self.synapses: dict[Any, Any] = {}
        for block in blocks:
            synapse = block.input_synapse if is_recurrent(block) else getattr(block, "synapse", None)
            if synapse is not None:
                self.synapses[synapse] = block.neuron
        self.filtered: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        # Before all other hooks, since that of a Recurrent block adds what it feeds back to the result of this one.
        handles = [synapse.register_forward_hook(self._replace_gradient, prepend=True) for synapse in self.synapses]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.filtered = {}

    def feedback(self, block: Any, spikes: torch.Tensor) -> torch.Tensor:
        """What a Recurrent block feeds back, with the trace of its own spikes for the gradient of its weights."""
        trace = self._updated(block.recurrent_synapse, block.neuron, spikes)
        return _with_gradient_of(recurrent_feedback(block, trace), recurrent_feedback(block, spikes))

    def _replace_gradient(self, synapse: Any, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        (x,) = args
        trace = self._updated(synapse, self.synapses[synapse], x)
        return _with_gradient_of(synapse.forward(trace), output)

    def _updated(self, synapse: Any, neuron: Any, x: torch.Tensor) -> torch.Tensor:
        """The trace after this step; its derivative with respect to ``x`` is one, as that of the spikes themselves."""
        current, voltage = self.filtered.get(synapse, (torch.zeros_like(x), torch.zeros_like(x)))
        keep: torch.Tensor = 1 - neuron.current_decay.detach().round() / neuron.p_scale
        current = keep * current + x
        keep = 1 - neuron.voltage_decay.detach().round() / neuron.p_scale
        voltage = keep * voltage + current
        self.filtered[synapse] = (current.detach(), voltage.detach())
        return voltage


def _check_trace(net: torch.nn.Module, block: Any) -> None:
    neuron = block.neuron
    if not is_leaky(neuron) or neuron.current_decay.numel() > 1 or neuron.voltage_decay.numel() > 1:
        raise ValueError(
            "Expected argument `net` to have CUBA or ALIF neurons with one decay per layer but got "
            f"{named(net, neuron)} of {type(neuron).__module__}: use `sltt_online_training`, which needs no trace."
        )


def _with_gradient_of(differentiable: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    replaced: torch.Tensor = _Replaced.apply(differentiable, value.detach())  # type: ignore[no-untyped-call]
    return replaced


class _Replaced(torch.autograd.Function):
    """The value of the second argument with the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, differentiable: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None
