"""A compiled network's blocks and spikes need none of SLAYER's CUDA code: tensors of the CPU play those on CUDA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from slayer_nets import ADAPTIVE, CUBA, NETS, chain, resonator

from lava_spikeloss import training

pytest.importorskip("numba")
from lava_spikeloss.training import compiled_delays

pytestmark = pytest.mark.slayer

NAMES = ["dense", "conv", "recurrent", "kwta", "affine", "sigma-delta", "rf", "adrf", "graded", "persistent state"]
OTHERS = {
    "graded": lambda: chain(8, 16, 6, params={**CUBA, "graded_spike": True}, weight_scale=4),
    "adrf": lambda: resonator("adrf", **ADAPTIVE),
    "persistent state": lambda: chain(8, 16, 6, params={**CUBA, "persistent_state": True}, weight_scale=4),
}


def made_by(name: str, x: torch.Tensor, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    torch.manual_seed(1)
    net: Any = {**NETS, **OTHERS}[name]()
    with torch.no_grad():
        net(x)
    training.reset_net(net)
    if compiled:
        from lava.lib.dl.slayer.axon import delay

        training.set_backend(net, "compiled")
        monkeypatch.setattr(compiled_delays, "_is_on_cuda", lambda tensor: True)
        monkeypatch.setitem(delay.__globals__, "shift", lambda *_: pytest.fail("runs what needs nvcc"))
    if name in ("kwta", "persistent state"):  # lava-dl cannot train these
        with torch.no_grad():
            return [net(x), net(x)]
    x = x.clone().requires_grad_()
    y = net(x)
    (y * torch.linspace(-0.5, 1, y.numel()).reshape(y.shape)).sum().backward()
    return [y.detach(), *(one.grad for one in (x, *net.parameters()) if one.grad is not None)]


@pytest.mark.parametrize("name", NAMES)
def test_spikes_are_shifted_without_slayer_s_cuda_code(
    name: str, spikes: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = made_by(name, spikes, False, monkeypatch)
    found = made_by(name, spikes, True, monkeypatch)
    assert expected[0].any()
    assert [torch.equal(*pair) for pair in zip(found, expected, strict=True)] == [True] * len(expected)


class _OnCuda(torch.Tensor):
    is_cuda = True


@pytest.mark.parametrize(("name", "count"), [("rf", 2), ("adrf", 4), ("graded", 1)])
def test_spikes_that_look_a_step_back_need_no_cuda_code(name: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.axon import delay

    neuron = {**NETS, **OTHERS}[name]()[0].neuron
    states = torch.randn(count, 3, 4, 30)
    expected = neuron.spike(*states)
    training.set_backend(neuron, "compiled")
    monkeypatch.setitem(delay.__globals__, "shift", lambda *_: pytest.fail("runs what needs nvcc"))
    found = neuron.spike(*states.as_subclass(_OnCuda))
    assert expected.any()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_delay_is_laid_out_as_slayer_s(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from lava.lib.dl.slayer.axon import delay as slayers

    images = torch.rand(2, 3, 4, 5, steps).movedim(1, -1).contiguous().movedim(-1, 1)
    expected = slayers(images)
    monkeypatch.setattr(compiled_delays, "_is_on_cuda", lambda tensor: True)
    found = compiled_delays.delay(slayers, images)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()


def test_other_delays_are_slayer_s() -> None:
    from lava.lib.dl.slayer.axon import delay as slayers

    x = torch.rand(1, 2, 6)
    assert torch.equal(compiled_delays.delay(slayers, x, 2), slayers(x, 2))
