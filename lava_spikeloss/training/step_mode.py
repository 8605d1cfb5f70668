"""Step mode: whole sequences from rest, or one chunk after the other with all state carried between them.

SLAYER's own persistent state is not enough for chunks. Its one-step shift writes in place into a view, which autograd
forbids. Its axonal delays and the shift of its Recurrent block drop the spikes that are delayed beyond the end. Its
Recurrent and KWTA blocks forget the spikes that they feed back. Neurons with a norm store the current after the norm,
and would need that before it. The forward hooks here supply what is missing; they make up step mode ``"s"``, and
setting the other mode removes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch.utils.hooks import RemovableHandle

from lava_spikeloss.arguments import check_choice
from lava_spikeloss.peers import also_called
from lava_spikeloss.slayer_blocks import (
    effective_weight,
    is_affine,
    is_block,
    is_delay,
    is_kwta,
    is_neuron,
    is_recurrent,
    is_stateful,
    self_feeding_neurons,
    shifts_output,
)
from lava_spikeloss.training.state import fresh_state, reset_net

__all__ = ["Carry", "in_step_mode", "recurrent_feedback", "set_step_mode", "streaming"]

Feedback = Callable[[Any, torch.Tensor], torch.Tensor]


class Carry:
    """How a net in step mode ``"s"`` carries its state from one forward to the next.

    Args:
        keep_graph: keep the graph of what is carried, for a single backward over several forwards.
        shift: apply the one-step shift of the blocks. Without it all layers work on the same step.
        feedback: what a Recurrent block's last spikes add to its input.
    """

    def __init__(self, keep_graph: bool = False, shift: bool = True, feedback: Feedback | None = None) -> None:
        self.keep_graph = keep_graph
        self.shift = shift
        self.feedback: Feedback = feedback or recurrent_feedback

    def store(self, value: torch.Tensor) -> torch.Tensor:
        """A copy: a view of one step would keep the whole sequence in memory."""
        return value.clone() if self.keep_graph else value.detach().clone()


def recurrent_feedback(block: Any, spikes: torch.Tensor) -> torch.Tensor:
    """``R s`` as SLAYER's own recurrent loop computes it; ``spikes`` is ``(N, C)``."""
    synapse = block.recurrent_synapse
    weight = effective_weight(synapse, synapse.weight.reshape(synapse.weight.shape[:2]))
    return torch.matmul(spikes, weight.transpose(0, 1))


class _Hooks(ABC):
    """Hooks of one module that can be removed and installed again."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.handles: list[RemovableHandle] = []
        self.install()

    @abstractmethod
    def install(self) -> None:
        """Register the hooks."""

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []


class _SequenceStart(_Hooks):
    """Mode ``"m"``: a block that needs persistent state to work starts every forward at rest."""

    def install(self) -> None:
        self.handles = [self.module.register_forward_pre_hook(self.start)]

    def start(self, block: torch.nn.Module, args: tuple[Any, ...]) -> None:
        reset_net(block)


class _CarryingDelay(_Hooks):
    """An axonal delay that is given the end of the previous chunk before the present one."""

    def __init__(self, module: Any, carry: Carry) -> None:
        self.carry = carry
        self.prefix = 0
        super().__init__(module)

    def install(self) -> None:
        self.handles = [
            self.module.register_forward_pre_hook(self.prepend),
            self.module.register_forward_hook(self.strip),
        ]

    def prepend(self, delay: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        (x,) = args
        longest = int(delay.delay.detach().max())
        capacity = longest if delay.max_delay is None else int(delay.max_delay)
        self.prefix = min(longest, capacity)
        history = getattr(delay, "delay_history", None)
        if history is None or history.shape[:-1] != x.shape[:-1]:
            history = x.new_zeros(*x.shape[:-1], 0)
        padding = x.new_zeros(*x.shape[:-1], max(0, self.prefix - history.shape[-1]))
        sequence = torch.cat([padding, history, x], dim=-1)
        delay.delay_history = self.carry.store(sequence[..., max(0, sequence.shape[-1] - capacity) :])
        return (sequence[..., sequence.shape[-1] - x.shape[-1] - self.prefix :],)

    def strip(self, delay: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        return output[..., self.prefix :]


class _CarryingNeuron(_Hooks):
    """A leaky neuron with a norm: its state is the current before the norm, and SLAYER stores that after it."""

    def __init__(self, module: Any, call: Any) -> None:
        self.call = call  # when the forward of this module ends, the neuron has stored its state
        self.last: torch.Tensor | None = None
        super().__init__(module)

    def install(self) -> None:
        self.handles = [
            self.module.norm.register_forward_pre_hook(self.record),
            self.call.register_forward_hook(self.restore),
        ]

    def record(self, norm: Any, args: tuple[torch.Tensor]) -> None:
        self.last = args[0][..., -1].detach().clone()

    def restore(self, call: Any, args: tuple[Any, ...], output: Any) -> None:
        self.module.current_state, self.last = self.last, None


class _CarryingBlock(_Hooks):
    """The one-step shift and the recurrent spikes of a block."""

    def __init__(self, module: Any, carry: Carry) -> None:
        self.carry = carry
        self.shifts = False
        self.last: torch.Tensor | None = None
        super().__init__(module)

    def install(self) -> None:
        block = self.module
        self.handles = [
            block.register_forward_pre_hook(self.take_over_shift),
            block.register_forward_hook(self.finish, always_call=True),
        ]
        if getattr(block, "delay", None) is not None:  # SLAYER shifts before it delays
            self.handles.append(block.delay.register_forward_pre_hook(self.shift_before_delay))
        if is_recurrent(block) or is_kwta(block):
            self.handles.append(block.neuron.register_forward_hook(self.record))
        if is_recurrent(block):
            self.handles.append(block.input_synapse.register_forward_hook(self.feed_back))

    def take_over_shift(self, block: Any, args: tuple[Any, ...]) -> None:
        self.shifts = shifts_output(block)
        if self.shifts:
            block.delay_shift = False

    def shift_before_delay(self, delay: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (self.shifted(args[0]),)

    def record(self, neuron: Any, args: tuple[Any, ...], spikes: torch.Tensor) -> None:
        self.last = spikes[..., -1].detach().clone()

    def feed_back(self, synapse: Any, args: tuple[Any, ...], z: torch.Tensor) -> torch.Tensor:
        spikes = self.module.spike_state
        if spikes.shape != z.shape[:-1]:
            return z
        first = z[..., :1] + self.carry.feedback(self.module, spikes).unsqueeze(-1)
        return torch.cat([first, z[..., 1:]], dim=-1)

    def finish(self, block: Any, args: tuple[Any, ...], output: Any) -> Any:
        if self.last is not None:
            block.spike_state, self.last = self.last, None
        if not self.shifts:
            return output
        block.delay_shift = True
        if output is None:  # the forward raised
            return None
        return output if getattr(block, "delay", None) is not None else self.shifted(output)

    def shifted(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.shifts and self.carry.shift):
            return x
        held = getattr(self.module, "delay_buffer", None)
        if held is None or held.shape != x.shape[:-1]:
            held = torch.zeros_like(x[..., 0])
        self.module.delay_buffer = self.carry.store(x[..., -1])
        return torch.cat([held.unsqueeze(-1), x[..., :-1]], dim=-1)


def _carrying_hooks(net: torch.nn.Module, carry: Carry) -> dict[torch.nn.Module, list[_Hooks]]:
    hooks: dict[torch.nn.Module, list[_Hooks]] = {}
    self_feeding = self_feeding_neurons(net)
    affine: dict[Any, Any] = {block.neuron: block for block in _modules(net) if is_affine(block)}
    # Blocks before delays: hooks run in the order of their registration, and a block shifts before its delay delays.
    for module in net.modules():
        if is_block(module):
            hooks.setdefault(module, []).append(_CarryingBlock(module, carry))
    for module in _modules(net):
        if is_delay(module):
            hooks.setdefault(module, []).append(_CarryingDelay(module, carry))
        # A block that feeds back its spikes runs step by step: its norm acts on the stored current by definition.
        stores_wrongly = is_neuron(module) and _norm_follows_current(module) and module not in self_feeding
        if stores_wrongly:
            hooks.setdefault(module, []).append(_CarryingNeuron(module, affine.get(module, module)))
    return hooks


def _norm_follows_current(neuron: Any) -> bool:
    """CUBA normalises the current; ALIF and the resonators normalise the input."""
    return (
        getattr(neuron, "norm", None) is not None
        and hasattr(neuron, "current_state")
        and not hasattr(neuron, "threshold_state")
    )


def _modules(net: torch.nn.Module) -> Iterator[Any]:
    yield from net.modules()


def _sequence_hooks(net: torch.nn.Module) -> dict[torch.nn.Module, list[_Hooks]]:
    hooks: dict[torch.nn.Module, list[_Hooks]] = {
        module: [_SequenceStart(module)] for module in net.modules() if is_recurrent(module) or is_kwta(module)
    }
    for module in hooks:
        if is_kwta(module):  # it keeps its state, and SLAYER's shift, which writes in place, would fail in training
            hooks[module].append(_CarryingBlock(module, Carry()))
    return hooks


def in_step_mode(net: torch.nn.Module) -> bool:
    """Whether ``net`` is in step mode ``"s"``."""
    return any(vars(module).get("_step_mode") == "s" for module in net.modules())


def _hooks(net: torch.nn.Module) -> list[_Hooks]:
    return [hooks for module in net.modules() for hooks in vars(module).get("_step_hooks", [])]


@also_called(step_mode="mode")
def set_step_mode(net: torch.nn.Module, mode: Literal["s", "m"]) -> None:
    r"""Let every forward of ``net`` be a whole sequence (``"m"``), or continue where the last one ended (``"s"``).

    In mode ``"s"`` a sequence may be cut anywhere along time: the outputs of its pieces, one after the other, are the
    output of the whole. That holds for the neurons, the one-step shift between blocks, axonal delays, and the spikes
    that Recurrent and KWTA blocks feed back, all of which SLAYER forgets or cannot differentiate by itself. What is
    carried is detached, so each forward can have its own backward and optimizer step. In mode ``"m"`` every forward
    starts at rest, even those of Recurrent and KWTA blocks, which otherwise go on from the last forward.

    The mode is stored in the modules, and in hooks on them; the dictionaries that the blocks were built from are not
    changed. Call this again after adding a module. Each call leaves the net at rest. In mode ``"s"`` the host reads the
    longest axonal delay of each layer at every forward, and waits for it on CUDA.

    Args:
        net: any module; those without SLAYER neurons stay as they are.
        mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: for another mode.

    Example:
        >>> import lava.lib.dl.slayer as slayer
        >>> neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.5}
        >>> net = slayer.block.cuba.Dense(neuron, 4, 4)
        >>> x = torch.ones(1, 4, 8)
        >>> whole = net(x)
        >>> set_step_mode(net, "s")
        >>> torch.equal(torch.cat([net(x[..., :5]), net(x[..., 5:])], dim=-1), whole)
        True
    """
    check_choice("mode", mode, ("s", "m"))
    for hooks in _hooks(net):
        hooks.remove()
    always = self_feeding_neurons(net)
    for module in _modules(net):
        if is_stateful(module):
            module.persistent_state = mode == "s" or module in always
            module._step_mode = mode
    installed = _carrying_hooks(net, Carry()) if mode == "s" else _sequence_hooks(net)
    for module in _modules(net):
        vars(module).pop("_step_hooks", None)
        if module in installed:
            module._step_hooks = installed[module]
    reset_net(net)


@contextmanager
def streaming(net: torch.nn.Module, carry: Carry, from_rest: bool = False) -> Iterator[None]:
    """Inside, ``net`` carries its state from one forward to the next; afterwards it is in the mode of before.

    A net in step mode ``"s"`` goes on from its state and keeps the new one. Any other, and with ``from_rest`` that too,
    starts at rest, and its old state is put back.
    """
    neurons: list[Any] = [module for module in net.modules() if is_stateful(module)]
    flags = [neuron.persistent_state for neuron in neurons]
    suspended = _hooks(net)
    with ExitStack() as stack:
        if from_rest or not in_step_mode(net):
            stack.enter_context(fresh_state(net))
        for hooks in suspended:
            hooks.remove()
        for neuron in neurons:
            neuron.persistent_state = True
        installed = _carrying_hooks(net, carry)
        try:
            yield
        finally:
            for per_module in installed.values():
                for hooks in per_module:
                    hooks.remove()
            for hooks in suspended:
                hooks.install()
            for neuron, flag in zip(neurons, flags, strict=True):
                neuron.persistent_state = flag
