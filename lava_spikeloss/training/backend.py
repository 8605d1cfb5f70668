"""Which code SLAYER's neurons run: lava-dl's own, or compiled loops that give the same numbers.

A module that runs compiled loops is of a class derived from its own, and in all else what it was. That class holds
lava-dl's own methods once more, with a few of the functions that they call replaced. So lava-dl itself is left as it
is, what is compiled is copied, pickled and replicated with the network, and taking the class away undoes it.
"""

from __future__ import annotations

import importlib
import warnings
from functools import cache, partial
from types import FunctionType, SimpleNamespace
from typing import Any, Literal

import torch

from lava_spikeloss.arguments import check_choice
from lava_spikeloss.compiling import numba_runs
from lava_spikeloss.slayer_blocks import is_neuron, is_recurrent, named, synapse_kind

__all__ = ["set_backend"]

# The methods of lava-dl that are compiled, by module and name. The time is spent in one function that each calls, as
# an attribute of something: the name of that something, the attribute, and our function that takes its place.
_SLAYER = "lava.lib.dl.slayer"
_COMPILED = {
    (f"{_SLAYER}.neuron.cuba", "dynamics"): ("leaky_integrator", "dynamics", "compiled_neurons.leaky_dynamics"),
    (f"{_SLAYER}.neuron.cuba", "spike"): ("Spike", "apply", "compiled_neurons.spike"),
    (f"{_SLAYER}.neuron.rf", "dynamics"): ("resonator", "dynamics", "compiled_resonators.resonator_dynamics"),
    (f"{_SLAYER}.neuron.rf_iz", "dynamics"): ("resonator", "dynamics", "compiled_resonators.resonator_dynamics"),
    (f"{_SLAYER}.block.base", "forward"): ("recurrent", "custom_recurrent", "compiled_neurons.custom_recurrent"),
    (f"{_SLAYER}.synapse.layer", "forward"): ("F", "conv3d", "compiled_synapses.conv3d"),
}


def set_backend(net: torch.nn.Module, backend: Literal["accelerated", "reference", "compiled"]) -> None:
    r"""Choose which implementation SLAYER's neurons run on.

    ``"accelerated"`` is SLAYER's default: its CUDA kernels for tensors on CUDA, its Python reference for tensors on the
    CPU. ``"reference"`` takes the result of the Python reference on CUDA too. SLAYER offers that only as its debug
    mode, which also runs the kernel and raises if the two disagree, so a CUDA compiler is needed either way. On the
    CPU both are the same computation.

    ``"compiled"`` runs that computation on the CPU in loops compiled by numba (the extra ``fast``), with the same
    spikes, states and gradients to the last bit, SLAYER's gradient of the decays included. It covers CUBA, RF and RF_IZ
    neurons, Recurrent blocks of CUBA neurons without a norm, dropout or graded spikes, and the sums of dense synapses
    where spikes are rare and weights quantised, so that no order of adding can change them. A warning names the other
    neurons, which run as before. So does what the loops do not cover in a forward: CUDA, autocast, numbers that are not
    float32, graded spikes. Call this again after adding a module.

    Args:
        net: any module; those without a SLAYER neuron stay as they are.
        backend: ``"accelerated"``, ``"reference"`` or ``"compiled"``.

    Raises:
        ValueError: for another backend.
        ImportError: for ``"compiled"`` where numba is not installed or does not run.

    Example:
        >>> set_backend(torch.nn.Linear(2, 2), "reference")
    """
    check_choice("backend", backend, ("accelerated", "reference", "compiled"))
    if backend == "compiled" and not numba_runs():
        raise ImportError("The compiled backend needs numba: pip install 'lava-spikeloss[fast]'.")
    neurons: list[Any] = [module for module in net.modules() if is_neuron(module)]
    others: list[Any] = [module for module in net.modules() if is_recurrent(module) or synapse_kind(module) == "Dense"]
    for module in neurons + others:
        plain = vars(type(module)).get("_plain_class", type(module))
        module.__class__ = _compiled_class(plain) if backend == "compiled" else plain
    for neuron in neurons:
        neuron.debug = backend == "reference"
    left = [named(net, neuron) for neuron in neurons if not is_compiled(neuron)]
    if backend == "compiled" and left:
        warnings.warn(f"Not compiled, and so running as before: {', '.join(left)}.", stacklevel=2)


def is_compiled(module: object) -> bool:
    """Whether a neuron, block or synapse runs compiled loops."""
    return "_plain_class" in vars(type(module))


@cache
def _compiled_class(plain: Any) -> Any:
    """A subclass of a class of modules, with compiled loops; the class itself if its methods are not lava-dl's own."""
    found = {name: _compiled_method(getattr(plain, name, None), name) for name in ("dynamics", "spike", "forward")}
    methods = {name: method for name, method in found.items() if method is not None}
    if ("dynamics" if hasattr(plain, "dynamics") else "forward") not in methods:
        return plain
    known_as = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(plain)(
        plain.__name__, (plain,), {**known_as, **methods, "_plain_class": plain, "__reduce_ex__": _reduced}
    )


def _compiled_method(method: Any, name: str) -> FunctionType | None:
    """lava-dl's own method, with our function in the place of the one that takes the time; None for another method."""
    looked_up, attribute, ours = _COMPILED.get((getattr(method, "__module__", ""), name), ("", "", ""))
    if not isinstance(method, FunctionType) or looked_up not in method.__code__.co_names:
        return None
    module, _, function = ours.partition(".")
    replacement = getattr(importlib.import_module(f"lava_spikeloss.training.{module}"), function)  # it needs numba
    slayers = method.__globals__[looked_up]
    replaced = SimpleNamespace(**{**vars(slayers), attribute: partial(replacement, slayers)})
    names = {**method.__globals__, looked_up: replaced}
    return FunctionType(method.__code__, names, name, method.__defaults__, method.__closure__)


def _reduced(self: Any, protocol: Any) -> tuple[Any, ...]:
    """Copies and pickles name the plain class: the derived one cannot be imported by its name."""
    parts: Any = object.__reduce_ex__(self, max(protocol, 2))
    return _compiled_instance, (type(self)._plain_class,), *parts[2:]


def _compiled_instance(plain: Any) -> Any:
    return object.__new__(_compiled_class(plain) if numba_runs() else plain)
