"""Triton's kernels give the numbers of the loops on the CPU, to the last bit: in its interpreter, and on a GPU if here.

Without a GPU they are compiled for two, and what the GPU would be told is looked through for what is not exact.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_triton_interpreter import EXACT, NETWORKS, TRIALS, trained

pytest.importorskip("numba")
pytest.importorskip("triton", reason="Triton, which torch brings along on Linux, is not installed")
from lava_spikeloss import training
from lava_spikeloss.slayer_blocks import is_neuron
from lava_spikeloss.training import compiled_synapses, loops, triton_loops, triton_trial

SHARED = Path(__file__).parents[1] / "shared"
LOOPS = list(triton_trial.trials())
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch's CUDA knows is here")

# -- in the interpreter ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process of its own found, in which Triton interprets."""
    path = tmp_path_factory.mktemp("triton") / "found.json"
    slayer = "slayer" if importlib.util.find_spec("lava") else "no slayer"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join([str(SHARED), *sys.path])}
    program = [sys.executable, str(SHARED / "in_triton_interpreter.py"), str(path), slayer]
    run = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("name", TRIALS)
def test_each_kernel_gives_the_numbers_of_its_loop(name: str, interpreted: dict[str, Any]) -> None:
    assert interpreted["kernels"][name] == []


@pytest.mark.slayer
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_on_kernels_trains_as_slayer_s_own(name: str, interpreted: dict[str, Any]) -> None:
    assert interpreted["networks"][name] == [True, sorted(NETWORKS[name][1])]


@pytest.mark.slayer
@pytest.mark.parametrize("name", EXACT)
def test_exact_gradients_of_decays_are_those_of_the_loops(name: str, interpreted: dict[str, Any]) -> None:
    equal, ran = interpreted["networks"][f"exact, {name}"]
    assert equal
    assert EXACT[name][1] in ran


# -- compiled for GPUs that are not here -------------------------------------------------------------------------------


def compiled_for(capability: int, loop: str, fixed: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """A kernel in PTX and machine code, for the kinds of arguments that it is given in a trial, some of them fixed."""
    kernel = getattr(triton_loops, loop)
    arguments = [*loops._one_by_one(triton_trial.trials()[loop]), 40, 7, triton_loops.ROWS]
    types, constants = {}, {}
    for name, argument in zip(kernel.arg_names, arguments, strict=True):
        if isinstance(argument, bool) or name == "size" or name in (fixed or {}):
            constants[name] = {name: argument, **(fixed or {})}[name]
        else:
            types[name] = _type(argument)
    return _compiled(kernel, types, constants, capability, {**triton_loops.OPTIONS, **options})


def _type(argument: Any) -> str:
    if isinstance(argument, torch.Tensor):
        return {torch.float32: "*fp32", torch.float64: "*fp64", torch.int64: "*i64"}[argument.dtype]
    return "fp32" if isinstance(argument, np.float32) else "i64"


def _compiled(
    kernel: Any, types: dict[str, str], constants: dict[str, Any], capability: int, options: dict[str, Any]
) -> dict[str, Any]:
    import triton
    from triton.compiler import ASTSource

    if importlib.util.find_spec("triton.backends"):
        from triton.backends.compiler import GPUTarget

        source = ASTSource(kernel, {**types, **dict.fromkeys(constants, "constexpr")}, constants)
        made: dict[str, Any] = triton.compile(source, GPUTarget("cuda", capability, 32), options).asm
        return made
    return _compiled_by_the_stages(kernel, types, constants, capability, options)


def _compiled_by_the_stages(
    kernel: Any, types: dict[str, str], constants: dict[str, Any], capability: int, options: dict[str, Any]
) -> dict[str, Any]:
    """As Triton 2.3's ``compile`` does, which then also links with a driver that is not here."""
    from triton.compiler import ASTSource
    from triton.compiler.backends.cuda import CUDABackend

    place = kernel.arg_names.index
    source = ASTSource(
        kernel,
        {place(name): kind for name, kind in types.items()},
        {place(name): value for name, value in constants.items()},
    )
    backend = CUDABackend(("cuda", capability))
    chosen, stages, made = backend.parse_options(options), {}, {}
    backend.add_stages(stages, chosen)
    made["source"], about = source.make_ir(chosen), {"ids_of_folded_args": ()}
    for name, stage in stages.items():
        made[name] = stage(list(made.values())[-1], about)
    return made


def inexact(ptx: str) -> list[str]:
    """The instructions that round otherwise than IEEE's operations one by one, or could be made such."""
    on_floats = re.findall(r"\b(?:fma|mad|add|sub|mul|div|rcp|sqrt|ex2)\.\S*f(?:16|32|64)\b", ptx)
    exact = r"(add|sub|mul)\.rn\.f(32|64)|div\.rn\.f64"
    return sorted({one for one in on_floats if not re.fullmatch(exact, one)} | set(re.findall(r"\S+\.ftz\S*", ptx)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_gpu_is_told_to_round_each_operation(loop: str, capability: int, cache: None) -> None:
    made = compiled_for(capability, loop)
    assert f".target sm_{capability}" in made["ptx"]
    assert inexact(made["ptx"]) == []
    assert made["cubin"]


@pytest.mark.parametrize("loop", LOOPS)
def test_kernels_compile_for_one_neuron_and_step_and_changes_that_nobody_wants(loop: str, cache: None) -> None:
    fixed = {"rows": 1, "steps": 1, "changes": None}  # Triton takes these values for constants
    assert inexact(compiled_for(90, loop, fixed)["ptx"]) == []


def test_without_the_option_products_would_be_fused_with_sums(cache: None) -> None:
    assert inexact(compiled_for(80, "integrate_backward", enable_fp_fusion=True)["ptx"]) == ["fma.rn.f32"]


# -- whether they are used ---------------------------------------------------------------------------------------------

CPU = torch.device("cpu")


@pytest.fixture
def tried_anew() -> Iterator[None]:
    triton_trial.triton_runs.cache_clear()
    yield
    triton_trial.triton_runs.cache_clear()


@pytest.fixture(params=["good", "wrong", "failing"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tried_anew: None) -> str:
    """A device, played by the CPU, on which the kernels run so."""

    def wrong(loop: str, *arguments: Any) -> None:
        loops.run_in_numba(loop, *arguments)
        if loop in ("resonate", "adapt"):
            arguments[-1][1][-1, -1] += 2**-20

    def failing(loop: str, *arguments: Any) -> None:
        raise RuntimeError("Failed to find C compiler.")

    ways: dict[str, Callable[..., None]] = {"good": loops.run_in_numba, "wrong": wrong, "failing": failing}
    monkeypatch.setattr(triton_trial, "run_in_triton", ways[request.param])
    name: str = request.param
    return name


def test_kernels_are_used_where_they_give_the_numbers_of_the_cpu(kernels: str) -> None:
    told = {
        "good": "",
        "wrong": "on cpu .* run as they should there: other numbers than on the CPU in adapt, resonate$",
        "failing": r"on cpu .* run as they should there: RuntimeError: Failed to find C compiler\.$",
    }[kernels]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert triton_trial.triton_runs(CPU) is (kernels == "good")
        triton_trial.triton_runs(CPU)  # tells it once
    messages = [str(one.message) for one in caught]
    assert len(messages) == (1 if told else 0)
    assert all(re.search(told, one, re.IGNORECASE) for one in messages)


def test_where_memory_is_short_kernels_are_tried_again_later(monkeypatch: pytest.MonkeyPatch, tried_anew: None) -> None:
    def short(loop: str, *arguments: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(triton_trial, "run_in_triton", short)
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"^CUDA out of memory\.$"):
        triton_trial.triton_runs(CPU)
    monkeypatch.setattr(triton_trial, "run_in_triton", loops.run_in_numba)
    assert triton_trial.triton_runs(CPU)


def test_torch_s_default_device_may_be_another(monkeypatch: pytest.MonkeyPatch, tried_anew: None) -> None:
    monkeypatch.setattr(triton_trial, "run_in_triton", loops.run_in_numba)
    with torch.device("meta"):
        assert triton_trial.triton_runs(CPU)


def test_without_triton_a_warning_says_so(monkeypatch: pytest.MonkeyPatch, tried_anew: None) -> None:
    monkeypatch.delitem(sys.modules, "lava_spikeloss.training.triton_loops")
    monkeypatch.delattr(training, "triton_loops")
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.warns(UserWarning, match="do not run as they should there: ModuleNotFoundError: .*triton"):
        assert not triton_trial.triton_runs(CPU)


class _OnCuda(torch.Tensor):
    is_cuda = True


@pytest.mark.parametrize(("kind", "expected"), [(torch.Tensor, "numba"), (_OnCuda, "triton")])
def test_tensors_go_to_the_loops_of_their_device(
    kind: type[torch.Tensor], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[str] = []
    for name in ("numba", "triton"):
        monkeypatch.setattr(loops, f"run_in_{name}", lambda *_, name=name: went.append(name))
    loops.run("integrate_backward", *(torch.zeros(shape).as_subclass(kind) for shape in ((3, 4), (3,), (3, 4))))
    assert went == [expected]


def test_tensors_of_two_devices_or_of_another_kind_are_left_to_slayer() -> None:
    here, there = torch.zeros(2), torch.zeros(2, device="meta")
    assert compiled_synapses.covered(here, here)
    assert not compiled_synapses.covered(here, there)
    assert not compiled_synapses.covered(there, there)


# -- on a GPU ----------------------------------------------------------------------------------------------------------

GPU = torch.device("cuda", 0)


@on_a_gpu
@pytest.mark.parametrize("name", TRIALS)
def test_on_a_gpu_each_kernel_gives_the_numbers_of_its_loop(name: str) -> None:
    trials = triton_trial.trials(**TRIALS[name]).items()
    assert [loop for loop, arguments in trials if not triton_trial._agree(loop, arguments, GPU)] == []


def dynamics(build: Callable[[], Any], device: torch.device) -> list[torch.Tensor]:
    """The states of each neuron, and the gradients of its inputs, given those of its states."""
    torch.manual_seed(1)
    made = []
    for neuron in (module for module in build().modules() if is_neuron(module)):
        turns = hasattr(neuron, "real_state")
        x, gradient = torch.randn(3, 5, 24), torch.randn(3, 5, 24)
        neuron.dynamics((x, x) if turns else x)  # the first one shapes the states
        training.reset_net(neuron)
        training.set_backend(neuron, "compiled")
        x = x.to(device).requires_grad_()
        made_of = neuron.to(device).dynamics((x, x.flip(-1)) if turns else x)
        states = [one for one in made_of if one.requires_grad]
        torch.autograd.backward(states, [gradient.to(device)] * len(states))
        made += [*(one.detach().cpu() for one in states), x.grad.cpu()]
    return made


@on_a_gpu
@pytest.mark.slayer
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"convolution", "sigma-delta"}))
def test_on_a_gpu_neurons_have_the_states_and_gradients_of_the_cpu(name: str) -> None:
    here, there = (dynamics(NETWORKS[name][0], device) for device in (CPU, GPU))
    assert here
    assert all(map(torch.equal, there, here))


@on_a_gpu
@pytest.mark.slayer
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"sigma-delta"}))  # whose sums of messages are not exact
def test_on_a_gpu_a_network_spikes_as_on_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients differ in their last bits: torch's exponential and sums of floats do, from device to device."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    here, there = (trained(NETWORKS[name][0], device=device) for device in (CPU, GPU))
    assert torch.equal(there[0], here[0])
    for ours, theirs in zip(there, here, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
