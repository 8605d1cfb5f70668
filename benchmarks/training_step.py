"""The share of a SLAYER training step that the loss and an attached sparsity enforcer take.

A network 2312-512-512-10, 32 samples of 300 steps. The step is forward, loss, enforcer, backward and the optimiser's
update. Loss and enforcer alone are timed on the spikes of such a step, with their backward, in the same rounds; their
gradient is added to one that is there already, as it is in the network.

    python -m benchmarks.training_step --only spike_max
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

import lava_spikeloss as L
from benchmarks.report import Bound, Wish, bound_on, figure, main, table
from benchmarks.timing import paired, ratio

__all__ = ["SIZES", "build", "measure"]

SIZES = (2312, 512, 512, 10)
_LOSSES = {
    "ce_count_loss": L.CECountLoss(),
    "mse_count_loss": L.MSECountLoss(0.8, 0.1),
    "spike_rate": L.SpikeRate(0.8, 0.1),
    "spike_max": L.SpikeMax(),
    "spike_moid": L.SpikeMoid(),
    "tet_loss": L.TETLoss(),
    "spike_rate, window": L.SpikeRate(0.8, 0.1, moving_window=20),
    "spike_moid, window": L.SpikeMoid(moving_window=20),
}


def measure(wish: Wish) -> tuple[list[str], list[Bound]]:
    """A row for every loss."""
    sizes, samples, steps = ((20, 8, 8, 4), 2, 10) if wish.tiny else (SIZES, 32, 300)
    net = build(sizes, wish.device)
    generator = torch.Generator().manual_seed(1)
    spikes = (torch.rand(samples, sizes[0], steps, generator=generator) < 0.02).float().to(wish.device)
    labels = torch.randint(sizes[-1], (samples,), generator=generator).to(wish.device)
    rows, shares = [], []
    for name in filter(wish.wants, _LOSSES):
        target = torch.nn.functional.one_hot(labels, sizes[-1]).float() if "moid" in name else labels
        enforcer = L.SparsityEnforcer(max_rate=0.01)
        runs = {
            "step": _step(net, spikes, target, _LOSSES[name], enforcer),
            "alone": _alone(net, spikes, target, _LOSSES[name]),
        }
        enforcer.attach(net)
        try:
            times = paired(runs, wish.effort(rounds=5, turn=0.0))
        finally:
            enforcer.detach()
        share = 100 * ratio(times["alone"], times["step"], clock="wall" if wish.device == "cuda" else "processor")
        shares.append((share, f"`{name}`"))
        step, alone = (1e3 * times[which].seconds for which in ("step", "alone"))
        rows.append([f"`{name}`", figure(step), figure(alone), f"{share:.2f} %"])
    if not rows:
        return [], []
    head = ["loss", "step, ms", "loss and enforcer, ms", "share"]
    return [table(head, rows)], [bound_on("loss and enforcer at most 2 % of a step", shares, 2.0, at_least=False)]


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
    layers: list[torch.Tensor] = []
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
    main("training_step", __doc__, measure)
