"""Runs Triton's kernels in its interpreter, on the CPU: a program, since the interpreter changes Triton for good.

It writes what it found to the file that it is given, as JSON: of each trial the loops that gave other numbers than the
CPU's, and of each network whether it trained as SLAYER's own, and which loops it ran.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from slayer_nets import ADAPTIVE, CUBA, chain, conv, recurrent, resonator, sigma_delta

FEW = {"rows": 9, "steps": 5}  # in one program, which is quicker
TRIALS: dict[str, dict[str, Any]] = {
    "two programs": {"rows": 33},
    "one step": {"steps": 1},
    "two steps, one neuron": {"steps": 2, "rows": 1},
    "a whole program": {"rows": 32, "steps": 4, "seed": 1},
    "no threshold": {**FEW, "threshold": -1.0, "seed": 2},
    "never reached": {**FEW, "threshold": 1e6, "scale": 4096, "seed": 3},
    "scales that are no power of two": {**FEW, "rows": 16, "scale": 100, "seed": 4},
    "a scale of one": {**FEW, "scale": 1, "size": 9.0, "seed": 5},
    "all at rest": {**FEW, "size": 0.0, "seed": 6},
    "states beyond 24 bits": {**FEW, "size": 1e6, "scale": 4096, "seed": 7},
    "states that overflow": {**FEW, "size": 1e16, "seed": 8},
    "inputs that overflow": {**FEW, "size": 1e30, "seed": 9},
    "subnormal gradients": {**FEW, "size": 1e-39, "seed": 10},
}

TRAINED = {**CUBA, "requires_grad": True}
PER_NEURON = {**TRAINED, "shared_param": False, "current_decay": (0.1, 0.9), "voltage_decay": (0.0, 0.3)}


def watched_recurrent() -> torch.nn.Module:
    """Neurons that feed each other, a step at a time, as on CUDA: a hook asks for each."""
    net = recurrent()
    net[1].neuron.register_forward_hook(lambda *_: None)
    return net


NETWORKS: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "decays trained": (lambda: chain(8, 16, 6, params=TRAINED, weight_scale=4), {"integrate", "integrate_backward"}),
    "decays per neuron": (
        lambda: chain(8, 16, 6, params=PER_NEURON, weight_scale=4, delay_shift=False),
        {"integrate", "integrate_backward"},
    ),
    "persistent state": (
        lambda: chain(8, 16, 6, params={**CUBA, "persistent_state": True}, delay_shift=False),
        {"integrate", "integrate_backward"},
    ),
    "convolution": (conv, {"integrate", "integrate_backward"}),
    "recurrent": (watched_recurrent, {"integrate", "integrate_backward"}),
    "sigma-delta": (sigma_delta, {"send_changes"}),
    "rf": (lambda: resonator("rf", requires_grad=True), {"resonate", "resonate_backward"}),
    "rf_iz": (lambda: resonator("rf_iz", requires_grad=True), {"resonate", "resonate_backward"}),
    "alif": (
        lambda: chain(8, 16, 6, family="alif", params={**TRAINED, **ADAPTIVE}, weight_scale=6),
        {"integrate", "integrate_backward", "adapt"},
    ),
    "adrf": (
        lambda: resonator("adrf", **ADAPTIVE, requires_grad=True),
        {"resonate", "resonate_backward", "adapt"},
    ),
}
EXACT: dict[str, tuple[Callable[[], Any], str]] = {
    "decays per neuron": (lambda: chain(8, 16, 6, params=PER_NEURON, weight_scale=4), "decay_gradient"),
    "rf_iz": (lambda: resonator("rf_iz", requires_grad=True), "turn_gradient"),
}


def trained(
    build: Callable[[], Any], backend: Any = "compiled", device: str | torch.device = "cpu", **options: Any
) -> list[torch.Tensor]:
    """Outputs and gradients of two training steps."""
    from lava_spikeloss import training

    torch.manual_seed(1)
    net, made = build(), []
    x = (torch.rand(2, 8, 8) < 0.5).float()
    with torch.no_grad():
        net(x)  # the first one shapes the states
    training.reset_net(net)
    training.set_backend(net, backend, **options)
    net, x = net.to(device), x.to(device).requires_grad_()
    for _ in range(2):
        y = net(x)
        (y * torch.linspace(-0.5, 1, y.numel(), device=device).reshape(y.shape)).sum().backward()
        made += [y.detach(), x.grad.clone(), *(one.grad.clone() for one in net.parameters() if one.grad is not None)]
    assert made[0].any()
    return [one.cpu() for one in made]


def complete_the_interpreter() -> None:
    """Give Triton 2.3's interpreter what later ones have: float64, and numbers of 64 bits as arguments."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    if hasattr(interpreter, "InterpreterBuilder"):
        return
    of_others = interpreter._implicit_cvt

    def argument(value: Any) -> Any:
        if type(value) is not int:
            return of_others(value)
        return tl.tensor(interpreter.TensorHandle(np.array([value], dtype=np.int64), tl.int64), tl.int64)

    interpreter._implicit_cvt = argument
    interpreter.Builder.get_double_ty = lambda self: tl.float64


def unwatched(argument: Any) -> Any:
    """The same numbers for autograd not to see that the interpreter copies each argument back to where it is."""
    if isinstance(argument, tuple):
        return tuple(map(unwatched, argument))
    return argument.data if isinstance(argument, torch.Tensor) else argument


def kernels() -> dict[str, Any]:
    from lava_spikeloss.training import triton_trial

    cpu = torch.device("cpu")
    return {
        name: [
            loop
            for loop, arguments in triton_trial.trials(**options).items()
            if not triton_trial._agree(loop, arguments, cpu)
        ]
        for name, options in TRIALS.items()
    }


def networks() -> dict[str, Any]:
    from lava_spikeloss.training import loops

    expected = {name: trained(build, "accelerated") for name, (build, _) in NETWORKS.items()}
    exact = {name: trained(build, decay_gradient="exact") for name, (build, _) in EXACT.items()}
    ran: set[str] = set()

    def run(loop: str, *arguments: Any) -> None:
        ran.add(loop)
        loops.run_in_triton(loop, *map(unwatched, arguments))

    loops.run = run
    found = {}
    for name, (build, _) in NETWORKS.items():
        ran.clear()
        equal = all(map(torch.equal, trained(build), expected[name]))
        found[name] = [equal, sorted(ran)]
    for name, (build, _) in EXACT.items():
        ran.clear()
        equal = all(map(torch.equal, trained(build, decay_gradient="exact"), exact[name]))
        found[f"exact, {name}"] = [equal, sorted(ran)]
    return found


if __name__ == "__main__":
    assert os.environ["TRITON_INTERPRET"] == "1"  # Triton looks for it when it is imported
    slayer_is_there = sys.argv[2] == "slayer"
    if slayer_is_there:
        import lava.lib.dl.slayer  # noqa: F401  # torchvision, which it imports, cannot be once the interpreter ran
    complete_the_interpreter()
    found = {"kernels": kernels(), "networks": networks() if slayer_is_there else {}}
    Path(sys.argv[1]).write_text(json.dumps(found))
