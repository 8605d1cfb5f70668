"""SLAYER's own run, as `verify` takes it: in compiled loops where numba runs, and in all else the user's."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from slayer_nets import NETS, chain, recurrent
from support_cases import CUBA, Chain
from torch.overrides import TorchFunctionMode

from lava_spikeloss import training
from lava_spikeloss.training import backend
from netx_export import ExportError, export, read, verify
from netx_export.slayer import record as record_run
from netx_export.slayer.running import CannotRunError, evaluation, forward

compiled_loops: Any = pytest.importorskip("lava_spikeloss.training.compiled_loops", reason="needs numba")

pytestmark = pytest.mark.slayer
record = functools.partial(record_run, compiled=True)


def network() -> Chain:
    from lava.lib.dl.slayer.block import cuba

    torch.manual_seed(0)
    return Chain([cuba.Dense(CUBA, 6, 8, weight_scale=8), cuba.Dense(CUBA, 8, 5, weight_scale=8)])


def spikes(samples: int = 4) -> torch.Tensor:
    return (torch.rand(samples, 6, 24, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def without_numba(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backend, "numba_runs", lambda: False)


def own_output(net: torch.nn.Module, x: torch.Tensor) -> np.ndarray[Any, Any]:
    """What the user's own forward makes."""
    net = copy.deepcopy(net).eval()
    training.reset_net(net)
    with torch.no_grad():
        made: np.ndarray[Any, Any] = net(x).numpy()
    return made


@pytest.mark.parametrize("name", NETS)
def test_what_is_recorded_is_the_same_with_and_without_numba(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, x = NETS[name](), (torch.rand(4, 8, 70) < 0.4).float()
    with torch.no_grad():
        net(x)
    names = [str(number) for number in range(sum(type(block).__name__ not in ("Input", "Flatten") for block in net))]
    names = names[: -1 if name in ("conv", "affine") else None]
    fast = record(net, x, names)
    without_numba(monkeypatch)
    plain = record(net, x, names)
    assert plain.output.any()
    assert np.array_equal(fast.output, plain.output)
    assert all(np.array_equal(fast.layers[layer], plain.layers[layer]) for layer in names)


def test_the_loops_run_where_numba_does(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    integrate = compiled_loops.integrate
    monkeypatch.setattr(compiled_loops, "integrate", lambda *arguments: calls.append(1) or integrate(*arguments))
    record(network(), spikes(), ["dense1", "dense2"])
    assert len(calls) == 4
    without_numba(monkeypatch)
    record(network(), spikes(), ["dense1", "dense2"])
    assert len(calls) == 4


def test_a_file_is_the_same_with_and_without_numba(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    fast = export(net, tmp_path / "fast.net", spikes())
    without_numba(monkeypatch)
    plain = export(net, tmp_path / "plain.net", spikes())
    assert (fast.proved, plain.proved) == (True, True)
    assert read(tmp_path / "fast.net") == read(tmp_path / "plain.net")


def traces(net: torch.nn.Module) -> list[Any]:
    """By what a module shows which code it runs."""
    return [(type(module), module.__dict__.keys(), getattr(module, "debug", None)) for module in net.modules()]


@pytest.mark.parametrize("chosen", ["accelerated", "reference", "compiled"])
def test_the_user_s_own_choice_is_kept(chosen: Any, tmp_path: Path) -> None:
    net = network()
    with torch.no_grad():
        net(spikes())
    training.set_backend(net, chosen)
    before = [(cls, set(keys), debug) for cls, keys, debug in traces(net)]
    export(net, tmp_path / "a.net", spikes())
    assert verify(net, tmp_path / "a.net", spikes(), lava_samples=0).passed
    assert traces(net) == before


def test_an_error_of_the_forward_leaves_nothing_behind() -> None:
    class Fails(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            super().forward(x)
            assert all(backend.is_compiled(block.neuron) for block in self.blocks)
            raise KeyError("own")

    net = Fails(list(network().blocks))
    with torch.no_grad():
        Chain.forward(net, spikes())
    before = [(cls, set(keys), debug) for cls, keys, debug in traces(net)]
    with pytest.raises(CannotRunError, match="KeyError: 'own'"), backend.compiled_inside(net):
        forward(net, spikes())  # outside of an evaluation, which puts all back
    assert traces(net) == before


# -- what somebody changed ---------------------------------------------------------------------------------------------


def _louder(dynamics: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(dynamics)  # so that it goes by the same name
    def louder(*arguments: Any, **options: Any) -> Any:
        made = dynamics(*arguments, **options)
        return (made[0], 2 * made[1]) if isinstance(made, tuple) else 2 * made

    return louder


def of_an_instance(net: Any, patch: pytest.MonkeyPatch) -> None:
    neuron = net.blocks[0].neuron
    neuron.dynamics = _louder(neuron.dynamics)


def of_a_class(net: Any, patch: pytest.MonkeyPatch) -> None:
    neuron = type(net.blocks[0].neuron)
    patch.setattr(neuron, "dynamics", _louder(neuron.dynamics))


def of_a_derived_class(net: Any, patch: pytest.MonkeyPatch) -> None:
    neuron = net.blocks[0].neuron
    neuron.__class__ = type("Louder", (type(neuron),), {"dynamics": _louder(type(neuron).dynamics)})


def of_the_integrator(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    patch.setattr(leaky_integrator, "dynamics", _louder(leaky_integrator.dynamics))


def of_its_steps(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    patch.setattr(leaky_integrator, "_li_dynamics_fwd", _louder(leaky_integrator._li_dynamics_fwd))


def of_its_function(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics.leaky_integrator import _LIDynamics

    patch.setattr(_LIDynamics, "forward", staticmethod(_louder(_LIDynamics.forward)))


def of_the_spikes(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.spike.spike import Spike

    patch.setattr(Spike, "forward", staticmethod(lambda ctx, voltage, *_: torch.zeros_like(voltage)))


def of_the_rounding(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron import cuba

    patch.setattr(cuba, "quantize", lambda decay: decay / 2)


def of_the_integrator_as_an_object(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    patch.setattr(leaky_integrator, "dynamics", functools.partial(_louder(leaky_integrator.dynamics)))


def of_the_integrator_s_place(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron import cuba

    own = cuba.leaky_integrator
    patch.setattr(cuba, "leaky_integrator", SimpleNamespace(**{**vars(own), "dynamics": _louder(own.dynamics)}))


def of_the_class_of_spikes(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron import cuba

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, voltage: torch.Tensor, threshold: float, *_: Any) -> torch.Tensor:
            return (voltage >= threshold / 2).to(voltage.dtype)

    patch.setattr(cuba, "Spike", Spike)


def of_the_file(net: Any, patch: pytest.MonkeyPatch) -> None:
    """As if the installed lava-dl was edited: other code in the file of the same name."""
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    path = leaky_integrator.__file__
    edited = Path(path).read_text().replace("decay_int = (1 << 12) -", "decay_int = (1 << 13) -")
    names = dict(vars(leaky_integrator))
    exec(compile(edited, path, "exec"), names)
    for name in ("dynamics", "_LIDynamics", "_li_dynamics_fwd"):
        patch.setattr(leaky_integrator, name, names[name])


def of_a_method_inside_the_forward(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.cuba import Neuron

    class Patching(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with mock.patch.object(Neuron, "dynamics", _louder(Neuron.dynamics)):
                return super().forward(x)

    net.__class__ = Patching


def of_lava_dl_inside_the_forward(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.dynamics import leaky_integrator

    class Patching(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with mock.patch.object(leaky_integrator, "_li_dynamics_fwd", _louder(leaky_integrator._li_dynamics_fwd)):
                return super().forward(x)

    net.__class__ = Patching


def of_the_class_inside_the_forward(net: Any, patch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.neuron.cuba import Neuron

    louder = type("Louder", (Neuron,), {"dynamics": _louder(Neuron.dynamics)})

    class Switching(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                block.neuron.__class__ = louder
            made = super().forward(x)
            for block in self.blocks:
                block.neuron.__class__ = Neuron
            return made

    net.__class__ = Switching


def of_a_constant(net: Any, patch: pytest.MonkeyPatch) -> None:
    for block in net.blocks:
        block.neuron.threshold_eps = 0.5


CHANGES = [
    of_an_instance,
    of_a_class,
    of_a_derived_class,
    of_the_integrator,
    of_its_steps,
    of_its_function,
    of_the_spikes,
    of_the_rounding,
    of_the_integrator_as_an_object,
    of_the_integrator_s_place,
    of_the_class_of_spikes,
    of_the_file,
    of_a_method_inside_the_forward,
    of_lava_dl_inside_the_forward,
    of_the_class_inside_the_forward,
    of_a_constant,
]


@pytest.mark.parametrize("change", CHANGES)
def test_somebody_s_own_dynamics_are_what_is_recorded(
    change: Callable[[Any, pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    as_built = record(net, spikes(), ["dense1", "dense2"]).output
    change(net, monkeypatch)
    expected = own_output(net, spikes())
    assert not np.array_equal(expected, as_built)
    assert np.array_equal(record(net, spikes(), ["dense1", "dense2"]).output, expected)
    with pytest.raises(ExportError):
        export(net, tmp_path / "a.net", spikes())


@pytest.mark.parametrize(
    ("name", "in_class"),
    [*((name, place) for name in ("dynamics", "spike", "forward") for place in (True, False)), ("__call__", True)],
)
def test_a_recurrent_neuron_of_somebody_s_own_is_what_is_recorded(name: str, in_class: bool) -> None:
    torch.manual_seed(0)
    net, x = recurrent(), (torch.rand(4, 8, 40) < 0.5).float()
    with torch.no_grad():
        net(x)
    names = ["dense1", "recurrent", "dense2"]
    as_built, plain = record(net, x, names).output, type(net[1].neuron)

    def weaker(neuron: Any, value: torch.Tensor) -> Any:
        return getattr(plain, name)(neuron, value / 2 if name == "spike" else value * 0.7)

    if in_class:
        net[1].neuron.__class__ = type("Weaker", (plain,), {name: weaker})
    else:
        setattr(net[1].neuron, name, MethodType(weaker, net[1].neuron))
    expected = own_output(net, x)
    assert not np.array_equal(expected, as_built)
    assert np.array_equal(record(net, x, names).output, expected)


def test_a_recurrent_synapse_of_somebody_s_own_is_what_is_recorded() -> None:
    torch.manual_seed(0)
    net, x = recurrent(), (torch.rand(4, 8, 40) < 0.5).float()
    with torch.no_grad():
        net(x)
    names = ["dense1", "recurrent", "dense2"]
    as_built, synapse = record(net, x, names).output, net[1].recurrent_synapse

    class Coarse(type(synapse)):  # type: ignore[misc]
        @property
        def pre_hook_fx(self) -> Callable[[torch.Tensor], torch.Tensor]:
            return lambda weight: (weight * 2).round() / 2

    synapse.__class__ = Coarse
    expected = own_output(net, x)
    assert not np.array_equal(expected, as_built)
    assert np.array_equal(record(net, x, names).output, expected)
    with evaluation(net), backend.compiled_inside(net):
        assert np.array_equal(forward(net, x).numpy(), expected)


class ByFirstSample(Chain):
    """Changes lava-dl or not, by the first sample of a batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from lava.lib.dl.slayer.neuron.cuba import Neuron

        change = _louder(Neuron.dynamics) if x[0, 0, 0] > 0 else Neuron.dynamics
        with mock.patch.object(Neuron, "dynamics", change):
            return super().forward(x)


def spikes_by_first_sample() -> torch.Tensor:
    """Of the first five the busiest does not show by itself what the forward does with all."""
    x = spikes(10)
    x[1] = 1
    x[:, 0, 0] = torch.tensor([1, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    return x


def test_a_proof_runs_each_sample_as_the_network_does(tmp_path: Path) -> None:
    with pytest.raises(ExportError):
        export(ByFirstSample(list(network().blocks)), tmp_path / "a.net", spikes_by_first_sample()[:5])


def test_where_one_batch_runs_otherwise_all_run_as_the_network_does() -> None:
    net, x = ByFirstSample(list(network().blocks)), spikes_by_first_sample()
    expected = np.concatenate([own_output(net, batch) for batch in x.split(5)])
    as_built = own_output(Chain(list(net.blocks)), x)
    assert not np.array_equal(as_built[:5], expected[:5])
    assert np.array_equal(record(net, x, ["dense1", "dense2"], batch_size=5).output, expected)


def test_an_encoder_in_the_forward_is_recorded_as_it_runs() -> None:
    class Encoding(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward((x * 2 > torch.rand(x.shape)).float())

    net, x = Encoding(list(network().blocks)), spikes() * 0.4
    with evaluation(net):
        expected = forward(net, x).numpy()
    assert np.array_equal(record(net, x, ["dense1", "dense2"]).output, expected)


def test_a_forward_for_batches_of_one_size_is_recorded_as_it_runs() -> None:
    class Fixed(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.reshape(4, 6, 24))

    net = Fixed(list(network().blocks))
    assert np.array_equal(record(net, spikes(), ["dense1", "dense2"]).output, own_output(net, spikes()))


def test_few_samples_run_as_the_network_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_loops, "integrate", lambda *_: pytest.fail("runs compiled"))
    net = network()
    assert np.array_equal(record(net, spikes(3), ["dense1", "dense2"]).output, own_output(net, spikes(3)))


def test_a_mode_that_changes_sums_is_obeyed() -> None:
    class Halved(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            return made / 2 if func is torch.nn.functional.conv3d else made

    class Under(torch.nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with Halved():  # type: ignore[no-untyped-call]
                made: torch.Tensor = super().forward(x)
            return made

    torch.manual_seed(0)
    net, x = Under(*chain(8, 40, 5, weight_scale=8)), (torch.rand(4, 8, 40) < 0.14).float()
    assert np.array_equal(record(net, x, ["dense1", "dense2"]).output, own_output(net, x))


def test_a_forward_may_go_by_the_classes_of_its_modules() -> None:
    class Choosy(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            from lava.lib.dl.slayer.block import cuba
            from lava.lib.dl.slayer.neuron.cuba import Neuron

            for block in self.blocks:
                assert (type(block), type(block.neuron)) == (cuba.Dense, Neuron)
            return super().forward(x)

    net = Choosy(list(network().blocks))
    assert np.array_equal(record(net, spikes(), ["dense1", "dense2"]).output, own_output(net, spikes()))
