"""The share of a SLAYER training step that the loss and an attached sparsity enforcer take.

A network 2312-512-512-10, 32 samples of 300 steps. The step is forward, loss, enforcer, backward and the optimiser's
update. Loss and enforcer alone are timed on the spikes of such a step, with their backward, in the same rounds; their
gradient is added to one that is there already, as it is in the network.

    python -m benchmarks.training_step
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch

import lava_spikeloss as L
from benchmarks._command import Wish, main
from benchmarks._results import Line
from benchmarks._timing import Effort, paired, spread

__all__ = ["measure"]

_LOSSES = {
    "ce_count_loss": L.CECountLoss(),
    "mse_count_loss": L.MSECountLoss(0.8, 0.1),
    "spike_rate": L.SpikeRate(0.8, 0.1),
    "spike_max": L.SpikeMax(),
    "spike_moid": L.SpikeMoid(),
}


def measure(wish: Wish) -> Iterator[Line]:
    """A line for every loss."""
    sizes, samples, steps = ((20, 8, 8, 4), 2, 10) if wish.tiny else ((2312, 512, 512, 10), 32, 300)
    for device in wish.devices:
        net = build(sizes, device)
        generator = torch.Generator().manual_seed(1)
        spikes = (torch.rand(samples, sizes[0], steps, generator=generator) < 0.02).float().to(device)
        labels = torch.randint(sizes[-1], (samples,), generator=generator).to(device)
        for name in filter(wish.wants, _LOSSES):
            yield _line(name, net, spikes, labels, device, wish)


def build(sizes: tuple[int, ...], device: str, delays: bool = False) -> torch.nn.Sequential:
    """A SLAYER network of CUBA neurons."""
    import lava.lib.dl.slayer as slayer

    torch.manual_seed(0)
    neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
    blocks = [
        slayer.block.cuba.Dense(neuron, *pair, weight_scale=2, weight_norm=True, delay=delays)
        for pair in itertools.pairwise(sizes)
    ]
    return torch.nn.Sequential(*blocks).to(device)


def _line(
    name: str, net: torch.nn.Sequential, spikes: torch.Tensor, labels: torch.Tensor, device: str, wish: Wish
) -> Line:
    loss, enforcer = _LOSSES[name], L.SparsityEnforcer(max_rate=0.01)
    classes = net[-1].synapse.out_channels
    target = torch.nn.functional.one_hot(labels, classes).float() if name == "spike_moid" else labels
    step = _step(net, spikes, target, loss, enforcer)
    alone = _alone(net, spikes, target, loss)
    effort = wish.effort if wish.tiny else Effort(fewest=5, most=5, turn=0.0)
    enforcer.attach(net)
    try:
        times = paired({"step": step, "alone": alone}, effort)
    finally:
        enforcer.detach()
    share = [100 * one / other for one, other in zip(times["alone"], times["step"], strict=True)]
    return Line(
        "training_step",
        {"loss": name, "input": "x".join(map(str, spikes.shape)), "device": device},
        "share of the step",
        spread(share),
        "%",
        "lower",
        spread(times["alone"]).median,
        "share, cuda" if device == "cuda" else "share",
        f"the step takes {spread(times['step']).median:.3f} s",
    )


def _step(
    net: torch.nn.Sequential,
    spikes: torch.Tensor,
    target: torch.Tensor,
    loss: torch.nn.Module,
    enforcer: L.SparsityEnforcer,
) -> Callable[[], None]:
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-6)

    def run() -> None:
        optimiser.zero_grad()
        (loss(net(spikes), target) + enforcer.loss).backward()
        optimiser.step()

    return run


def _alone(
    net: torch.nn.Sequential, spikes: torch.Tensor, target: torch.Tensor, loss: torch.nn.Module
) -> Callable[[], None]:
    layers = []
    with torch.no_grad():
        for block in net:
            layers.append(block(layers[-1] if layers else spikes))
    for layer in layers:
        layer.requires_grad_()
        layer.grad = torch.zeros_like(layer)
    enforcer = L.SparsityEnforcer(max_rate=0.01)

    def run() -> None:
        enforcer.clear()
        for layer in layers:
            enforcer.append(layer)
        (loss(layers[-1], target) + enforcer.loss).backward()

    return run


if __name__ == "__main__":
    main("training_step", __doc__, measure, keep_memory=True)
