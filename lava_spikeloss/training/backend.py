"""Which code SLAYER's neurons run: lava-dl's own, or compiled loops that give the same numbers.

The compiled form of a method is lava-dl's own method, in which a few of the functions that it calls are replaced. A
module gets such methods by a class that is derived from its own, and is in all else what it was. So lava-dl itself
stays as it is; the module can be copied, pickled and replicated; and giving it back its own class undoes all.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Literal

import torch

from lava_spikeloss.arguments import check_choice
from lava_spikeloss.compiling import numba_runs
from lava_spikeloss.slayer_blocks import (
    is_any_block,
    is_delta,
    is_neuron,
    is_recurrent,
    named,
    self_feeding_neurons,
    synapse_kind,
)

__all__ = ["compiled_inside", "is_compiled", "is_lavas", "remade", "runs_compiled", "set_backend"]

# The methods of lava-dl that have a compiled form: (module, method) to what is replaced in it, (name that the method
# looks up in its module for what takes the time, or on CUDA a compiler; attribute of that, if any; our function in the
# place of it).
_SLAYER = "lava.lib.dl.slayer"
_INTEGRATOR = ("leaky_integrator", "dynamics", "compiled_neurons.leaky_dynamics")
_RESONATOR = ("resonator", "dynamics", "compiled_resonators.resonator_dynamics")
_PHASE_SPIKE = ("complex", "Spike.apply", "compiled_delays.spike_apply")
_COMPILED = {
    (f"{_SLAYER}.neuron.cuba", "Neuron.dynamics"): (_INTEGRATOR,),
    (f"{_SLAYER}.neuron.cuba", "Neuron.spike"): (("Spike", "apply", "compiled_neurons.spike"),),
    (f"{_SLAYER}.neuron.alif", "Neuron.dynamics"): (
        _INTEGRATOR,
        ("adaptive_threshold", "dynamics", "compiled_adaptive.threshold"),
    ),
    (f"{_SLAYER}.neuron.rf", "Neuron.dynamics"): (_RESONATOR,),
    (f"{_SLAYER}.neuron.rf", "Neuron.spike"): (_PHASE_SPIKE,),
    (f"{_SLAYER}.neuron.rf_iz", "Neuron.dynamics"): (_RESONATOR,),
    (f"{_SLAYER}.neuron.adrf", "Neuron.dynamics"): (
        _RESONATOR,
        ("adaptive_phase_th", "dynamics", "compiled_adaptive.phase_threshold"),
    ),
    (f"{_SLAYER}.neuron.adrf", "Neuron.spike"): (_PHASE_SPIKE,),
    (f"{_SLAYER}.axon.delta", "Delta.forward"): (("_DeltaUnit", "apply", "compiled_deltas.delta_unit"),),
    (f"{_SLAYER}.block.base", "AbstractRecurrent.forward"): (
        ("recurrent", "custom_recurrent", "compiled_neurons.custom_recurrent"),
        ("delay", "", "compiled_delays.delay"),
    ),
    (f"{_SLAYER}.synapse.layer", "Dense.forward"): (("F", "conv3d", "compiled_synapses.conv3d"),),
    **{
        (f"{_SLAYER}.block.base", f"Abstract{kind}.forward"): (("step_delay", "", "compiled_delays.step_delay"),)
        for kind in ("Input", "Dense", "Conv", "Pool", "ConvT", "Unpool", "KWTA")  # of blocks
    },
}
_DECAYS = (_INTEGRATOR, _RESONATOR)  # whose decays have a gradient
_METHODS = ("dynamics", "spike", "forward")
_WRITTEN_BY = ("lava", "torch", "numpy", "enum", "abc")  # what lava-dl's modules define and import


def set_backend(
    net: torch.nn.Module,
    backend: Literal["accelerated", "reference", "compiled"],
    *,
    decay_gradient: Literal["slayer", "exact"] = "slayer",
) -> None:
    r"""Choose which implementation SLAYER's neurons run on.

    ``"accelerated"`` is SLAYER's default: its CUDA kernels for tensors on CUDA, its Python reference for tensors on the
    CPU. ``"reference"`` takes the result of the Python reference on CUDA too. SLAYER offers that only as its debug
    mode, which also runs the kernel and raises if the two disagree, so a CUDA compiler is needed either way. On the
    CPU both are the same computation.

    ``"compiled"`` runs that computation on the CPU in loops compiled by numba (the extra ``fast``), with the same
    spikes, states and gradients to the last bit, SLAYER's gradient of the decays included. It covers CUBA, ALIF, RF,
    RF_IZ, ADRF and sigma-delta neurons, Recurrent blocks of CUBA neurons without a norm, dropout or graded spikes, and
    the sums of dense synapses where spikes are rare and weights quantised, so that no order of adding can change them.
    A warning names the other neurons, which run as before; so do those of which a method, or something that it calls,
    is not lava-dl's own. So does what the loops do not cover in a forward: autocast, torch's modes such as
    ``FlopCounterMode``, numbers that are not float32, graded spikes. Call this again after adding a module.

    For tensors on CUDA the same loops over time are kernels that Triton compiles, where it is installed and gives on
    that GPU what the CPU gives, which is tried at first use; elsewhere a warning says so, and SLAYER's CUDA code runs.
    The shift by a step of ``delay_shift`` needs no CUDA compiler then either; axonal delays do. What torch computes
    around the loops is rounded as torch does on that GPU: surrogate gradients, sums of weights and of gradients.

    SLAYER's gradient of a decay is wrong in three ways: it is 4096 times too large, since the parameter counts in
    4096ths; it ignores that a spike resets the state; and that of an integrator has the wrong sign, as it is the
    gradient of what is kept. With ``decay_gradient="exact"`` the compiled loops give the derivative of the states
    instead, with the spikes held at their steps. An integrator's states are
    :math:`y_t = (1 - d / 4096)\, (1 - s_{t-1})\, y_{t-1} + x_t`, so that for gradients :math:`g_t` of the states

    .. math::
        \frac{\partial L}{\partial d} = -\frac{1}{4096} \sum_t \lambda_t (1 - s_{t-1})\, y_{t-1}, \qquad
        \lambda_t = g_t + (1 - d / 4096)\, (1 - s_t)\, \lambda_{t+1},

    and a resonator's gradients follow in the same way. A learning rate for decays that was tuned to SLAYER's gradient
    has to be tuned again. Gradients of inputs are SLAYER's with either.

    Args:
        net: any module; those without a SLAYER neuron stay as they are.
        backend: ``"accelerated"``, ``"reference"`` or ``"compiled"``.
        decay_gradient: ``"slayer"``, or with ``"compiled"`` also ``"exact"``.

    Raises:
        ValueError: for another backend or gradient; for the exact gradient with another backend than ``"compiled"``,
            or of trained decays for which it is not there: in Recurrent and KWTA blocks, which run a step at a time,
            in adaptive neurons, and in neurons that are not compiled; or if a parametrization of torch was registered
            on a compiled module, whose class cannot be taken back then.
        ImportError: for ``"compiled"`` where numba is not installed or does not run.

    Example:
        >>> set_backend(torch.nn.Linear(2, 2), "reference")
    """
    check_choice("backend", backend, ("accelerated", "reference", "compiled"))
    check_choice("decay_gradient", decay_gradient, ("slayer", "exact"))
    if backend == "compiled" and not numba_runs():
        raise ImportError("The compiled backend needs numba: pip install 'lava-spikeloss[fast]'.")
    exact = decay_gradient == "exact"
    if exact:
        _check_exact(net, backend)
    neurons: list[Any] = [module for module in net.modules() if is_neuron(module)]
    blocks = [module for module in net.modules() if is_any_block(module) and not is_recurrent(module)]
    chosen = [*_with_loops(net), *blocks]
    _check_classes(net, chosen, exact if backend == "compiled" else None)
    for module in chosen:
        plain = _plain_class(module)
        module.__class__ = _compiled_class(plain, exact) if backend == "compiled" else plain
    for neuron in neurons:
        neuron.debug = backend == "reference"
    left = [named(net, neuron) for neuron in neurons if not any(map(is_compiled, neuron.modules()))]
    if backend == "compiled" and left:
        warnings.warn(f"Not compiled, and so running as before: {', '.join(left)}.", stacklevel=2)


def _check_classes(net: torch.nn.Module, chosen: list[Any], exact: bool | None) -> None:
    """Raise if a class was derived from a compiled one that is not to be; ``exact`` is None if none is to be."""
    kept = [named(net, module) for module in chosen if getattr(_plain_class(module), "_exact_decays", exact) != exact]
    if kept:
        raise ValueError(
            f"The backend of {', '.join(kept)} cannot be changed: since it was chosen, another class was derived from "
            f"the compiled one, as torch.nn.utils.parametrize does. Undo that, choose the backend, and do it again."
        )


def _check_exact(net: torch.nn.Module, backend: str) -> None:
    """Raise if decays are trained of which there is no exact gradient."""
    if backend != "compiled":
        raise ValueError(
            f"decay_gradient='exact' is there for the backend 'compiled', and got {backend!r}, whose code is lava-dl's."
        )
    fed = self_feeding_neurons(net)
    left = [
        named(net, module)
        for module in net.modules()
        if is_neuron(module)
        and any("decay" in name and one.requires_grad for name, one in module.named_parameters())  # or parametrized
        and (module in fed or hasattr(module, "threshold_decay") or not _can_be_compiled(module))
    ]
    if left:
        raise ValueError(
            f"decay_gradient='exact' is not there for {', '.join(left)}, whose decays are trained: Recurrent and KWTA "
            f"blocks run their neurons a step at a time, which says nothing of a decay, an adaptive threshold has no "
            f"gradient in SLAYER, and other neurons are not compiled. Switch that off (`requires_grad_(False)` of the "
            f"decays), or take decay_gradient='slayer'."
        )


def _can_be_compiled(module: Any) -> bool:
    """Whether neither a neuron nor its class has somebody's own dynamics."""
    return "dynamics" not in vars(module) and bool(_compiled_methods(_plain_class(module)))


@contextmanager
def compiled_inside(net: torch.nn.Module) -> Iterator[bool]:
    """Compiled loops inside, on the CPU where numba runs, whichever backend was chosen; afterwards all is as it was.

    A network on a GPU stays as it is: SLAYER's CUDA code has integers of 32 bits, and may differ from the loops.

    For a forward that somebody else wrote: each module keeps its class, by which that may go, and somebody's own
    methods stay in force, whether they are a module's, its class's or lava-dl's. What a forward itself puts in their
    place, and takes back, stays unseen: compare with a run outside.

    Yields:
        Whether any module runs compiled loops that it does not run outside.
    """
    placed: list[tuple[dict[str, Any], str]] = []
    methods_of: Any = cache(_compiled_methods)
    try:
        on_cpu = all(parameter.device.type == "cpu" for parameter in net.parameters())
        for module in _with_loops(net) if on_cpu and numba_runs() else ():
            own = vars(module)
            for name, method in methods_of(type(module)).items():
                if name not in own:
                    own[name] = MethodType(method, module)
                    placed.append((own, name))
        yield bool(placed)
    finally:
        for own, name in placed:
            own.pop(name, None)


def is_compiled(module: object) -> bool:
    """Whether a neuron, block or synapse runs compiled loops in the method that takes the time."""
    return runs_compiled(getattr(module, _longest(module), None))


def runs_compiled(method: object) -> bool:
    """Whether a method is one of lava-dl in compiled form."""
    return hasattr(method, "in_compiled_loops")


def _with_loops(net: torch.nn.Module) -> list[Any]:
    """The modules that can have compiled loops."""
    return [
        module
        for module in net.modules()
        if is_neuron(module) or is_recurrent(module) or synapse_kind(module) == "Dense" or is_delta(module)
    ]


def _plain_class(module: object) -> Any:
    """The class that a module has without compiled loops."""
    return vars(type(module)).get("_plain_class", type(module))


def _compiled_class(plain: Any, exact: bool) -> Any:
    """A class of modules with compiled loops; the class itself if the methods are not lava-dl's own."""
    methods = _compiled_methods(plain, exact)
    return _derived_class(plain, exact, *(getattr(plain, name) for name in methods)) if methods else plain


@cache
def _derived_class(plain: Any, exact: bool, *own: FunctionType) -> Any:
    known_as = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
    added = {"_plain_class": plain, "_exact_decays": exact, "__reduce_ex__": _reduced}
    return type(plain)(plain.__name__, (plain,), {**known_as, **_compiled_methods(plain, exact), **added})


def _compiled_methods(plain: Any, exact: bool = False) -> dict[str, FunctionType]:
    """The methods of a class in compiled form; none if the one that takes the time is somebody's own."""
    found = {name: _compiled_method(getattr(plain, name, None), exact) for name in _METHODS}
    methods = {name: method for name, method in found.items() if method is not None}
    return methods if _longest(plain) in methods else {}


def _longest(module: object) -> str:
    """The name of the method that takes the time, of a module or class."""
    return "dynamics" if hasattr(module, "dynamics") else "forward"


def _compiled_method(method: Any, exact: bool) -> FunctionType | None:
    """lava-dl's own method, with our functions in the place of those that take the time; None for another method."""
    written_in = getattr(method, "__module__", "")
    replacements = _COMPILED.get((written_in, getattr(method, "__qualname__", "")), ())
    if not isinstance(method, FunctionType) or not replacements or runs_compiled(method):
        return None
    looks_up = {looked_up for looked_up, *_ in replacements} <= set(method.__code__.co_names)
    replaces_lavas = all(_is_lavas_or_torchs(method.__globals__.get(name), part) for name, part, _ in replacements)
    if not (looks_up and replaces_lavas and _is_own(method) and _is_untouched(sys.modules[written_in], set())):
        return None
    replaced = {each[0]: _replaced(method.__globals__[each[0]], each, exact) for each in replacements}
    made = remade(method, replaced)
    made.in_compiled_loops = True  # type: ignore[attr-defined]
    return made


def remade(function: FunctionType, replaced: dict[str, Any]) -> FunctionType:
    """A function of lava-dl that finds other things under some of the global names that it looks up."""
    names = _Names(function.__globals__, replaced)
    made = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    return made


def _replaced(slayers: Any, replacement: tuple[str, str, str], exact: bool) -> Any:
    """What lava-dl looks up, with what is to be replaced of it replaced."""
    _, attribute, ours = replacement
    module, _, function = ours.partition(".")
    found = getattr(importlib.import_module(f"lava_spikeloss.training.{module}"), function)  # it needs numba
    options = {"exact": True} if exact and replacement in _DECAYS else {}
    return _with_replaced(slayers, attribute, partial(found, **options))


def _with_replaced(other: Any, attribute: str, ours: Any) -> Any:
    """Another thing with one attribute replaced, or an attribute of that; all of it if none is named."""
    name, _, inner = attribute.partition(".")
    if inner:
        return _Replaced(other, **{name: _with_replaced(getattr(other, name), inner, ours)})
    return _Replaced(other, **{name: partial(ours, other)}) if name else partial(ours, other)


class _Names(dict[str, Any]):
    """The global names of a module, as they are whenever one is looked up, with some replaced."""

    def __init__(self, names: dict[str, Any], replaced: dict[str, Any]) -> None:
        super().__init__(replaced, __builtins__=names["__builtins__"])
        self.names = names

    def __missing__(self, name: str) -> Any:
        return self.names[name]


class _Replaced(SimpleNamespace):
    """What another thing is, with some of its attributes replaced."""

    def __init__(self, other: Any, **replaced: Any) -> None:
        super().__init__(**replaced)
        self._other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._other, name)


def _is_untouched(place: Any, seen: set[int]) -> bool:
    """Whether the functions that a module of lava-dl, or a class in it, defines and calls are those of its files.

    If somebody has replaced any of them, the replacement has to run. A function or class that is imported from another
    module of lava-dl calls what is in that one: so that module is looked at too.
    """
    seen.add(id(place))
    for name, value in list(vars(place).items()):
        if isinstance(place, ModuleType) and name.startswith("__"):
            continue  # what torch.compile leaves in a module, under names that no code of lava-dl looks up
        function = getattr(value, "__func__", value)  # of a static method
        if callable(function) and not _is_known(function):
            return False
        home = _home(function)
        rests_on = (function, sys.modules.get(home)) if home.startswith(_SLAYER) else ()
        further = [each for each in rests_on if isinstance(each, ModuleType | type)]
        if not all(id(each) in seen or _is_untouched(each, seen) for each in further):
            return False
    return True


def _is_lavas_or_torchs(place: Any, attribute: str) -> bool:
    """Whether a module or class is one of lava-dl or torch, and so is what it has by the name of an attribute."""
    part = place
    for name in filter(None, attribute.split(".")):
        part = getattr(part, name, None)
    return _home(place).partition(".")[0] in ("lava", "torch") and _is_known(getattr(part, "__func__", part))


def _home(value: Any) -> str:
    """The name of the module that a function or class is from, or of a module itself; empty for anything else."""
    if isinstance(value, ModuleType):
        return value.__name__
    return (value.__module__ or "") if isinstance(value, FunctionType | type) else ""


def _is_known(value: Any) -> bool:
    """Whether something that can be called is part of Python, lava-dl or what lava-dl imports, as in their files.

    A partial function, or an object with a ``__call__``, can do anything, and is none.
    """
    if isinstance(value, FunctionType):
        return _is_own(value)
    if isinstance(value, type):
        return value.__module__.partition(".")[0] in (*_WRITTEN_BY, "builtins")
    return type(value).__module__ == "builtins"


def is_lavas(method: Any) -> bool:
    """Whether a bound method is one that lava-dl has in its files."""
    function = getattr(method, "__func__", None)
    return isinstance(function, FunctionType) and function.__module__.startswith(_SLAYER) and _is_own(function)


def _is_own(function: FunctionType) -> bool:
    """Whether a function is one that lava-dl, or what it imports, has in its files."""
    written_in = sys.modules.get(function.__module__ or "")
    own = function.__module__.partition(".")[0] in _WRITTEN_BY if function.__module__ else False
    return own and function.__code__.co_filename == getattr(written_in, "__file__", None)


def _reduced(self: Any, protocol: Any) -> tuple[Any, ...]:
    """Copies and pickles name the plain class: the derived one cannot be imported by its name."""
    parts: Any = object.__reduce_ex__(self, max(protocol, 2))
    return _compiled_instance, (type(self)._plain_class, type(self)._exact_decays), *parts[2:]


def _compiled_instance(plain: Any, exact: bool = False) -> Any:  # pickles of old versions have no `exact`
    if exact and not numba_runs():
        warnings.warn(
            "Neurons with exact gradients of their decays were loaded where numba does not run: here "
            "their gradients are SLAYER's.",
            stacklevel=2,
        )
    return object.__new__(_compiled_class(plain, exact) if numba_runs() else plain)
