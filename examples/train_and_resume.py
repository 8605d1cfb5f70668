"""Train a network with a recurrent block, axonal delays and norms; stop in the middle, go on from the checkpoint,
export, verify on Lava.

The resumed training is compared with the uninterrupted one, loss by loss. Needs the extra `demo`.

    python examples/train_and_resume.py --out run
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from lava.lib.dl import slayer
from sklearn.datasets import load_digits

from lava_spikeloss.training import (
    ThresholdMargin,
    build_block,
    check_neuron_params,
    firing_rate_,
    fold_norms,
    load,
    parameter_groups,
    save,
    set_step_mode,
)
from netx_export import export, verify

STEPS = 32
BATCH = 64


def build() -> torch.nn.Sequential:
    block = slayer.block.cuba
    neuron = {
        "threshold": 1.25,
        "current_decay": 0.25,
        "voltage_decay": 0.1,
        "tau_grad": 0.03,
        "scale_grad": 3,
        "requires_grad": True,
    }
    normed = {**neuron, "norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    net = torch.nn.Sequential(
        build_block(block.Dense, normed, 64, 64, weight_norm=True),
        build_block(block.Recurrent, neuron, 64, 48),
        build_block(block.Dense, {**neuron, "norm": slayer.neuron.norm.WgtScaleBatchNorm}, 48, 32, delay=True),
        build_block(block.Dense, neuron, 32, 10),
    )
    assert check_neuron_params(net) == []
    set_step_mode(net, "m")  # the recurrent block starts every batch at rest
    return net


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_digits()
    rates = torch.tensor(data.data, dtype=torch.float32) / 32
    generator = torch.Generator().manual_seed(0)
    spikes = torch.rand(*rates.shape, STEPS, generator=generator) < rates.unsqueeze(-1)
    return spikes.float(), torch.tensor(data.target)


def train(
    net: torch.nn.Sequential, optimizer: torch.optim.Optimizer, x: torch.Tensor, y: torch.Tensor, epochs: range
) -> list[float]:
    """Mean loss of each epoch; the order of the samples depends on the number of the epoch alone."""
    margin = ThresholdMargin(net[-1])
    losses = []
    for epoch in epochs:
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(epoch))
        total = 0.0
        for batch in order.split(BATCH):
            optimizer.zero_grad()
            with margin(y[batch]):
                counts = net(x[batch]).sum(dim=-1)
            loss = torch.nn.functional.cross_entropy(counts, y[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(y))
    return losses


def accuracy(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    net.eval()
    with torch.no_grad():
        correct = net(x).sum(dim=-1).argmax(dim=1) == y
    net.train()
    return 100 * correct.float().mean().item()


def run(out: Path, epochs: int, samples: int) -> tuple[list[float], list[float]]:
    """Losses after the middle of the training: of the uninterrupted run and of the resumed one."""
    out.mkdir(parents=True, exist_ok=True)
    x, y = (part[:samples] for part in digits())
    torch.manual_seed(0)
    net = build()
    with torch.no_grad():
        net(x[:BATCH])  # SLAYER makes delays and norms at the first forward
    rates = firing_rate_(net, x[:BATCH], rate=0.1)
    print("firing rates at the start:", {name: round(rate, 3) for name, rate in rates.items()})
    optimizer = torch.optim.Adam(parameter_groups(net, lr=0.003, decay_lr=0.0003))
    train(net, optimizer, x, y, range(epochs // 2))
    save(out / "middle.pt", net, optimizer, epoch=epochs // 2)
    uninterrupted = train(net, optimizer, x, y, range(epochs // 2, epochs))
    print(f"uninterrupted: {uninterrupted}, accuracy on the training set {accuracy(net, x, y):.1f} %")

    torch.manual_seed(1)
    resumed = build()
    optimizer = torch.optim.Adam(parameter_groups(resumed, lr=0.003, decay_lr=0.0003))
    epoch = load(out / "middle.pt", resumed, optimizer)["epoch"]
    again = train(resumed, optimizer, x, y, range(epoch, epochs))
    print(f"resumed:       {again}, accuracy on the training set {accuracy(resumed, x, y):.1f} %")

    # Not exact, as the voltages decay: so the accuracy is that of the folded net, and so is what is verified below.
    folded = fold_norms(resumed, exact=False)
    print(f"norms folded for export: accuracy on the training set {accuracy(folded, x, y):.1f} %")
    folded.eval()
    export(folded, out / "network.net", sample=x[:4])
    report = verify(folded, out / "network.net", x[:4], y[:4], lava_samples=1)
    print(f"exported network verified: passed {report.passed}, exact {report.exact}")
    if not report.passed:
        raise SystemExit("The exported network does not run as it was trained.")
    return uninterrupted, again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("run"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--samples", type=int, default=1797)
    args = parser.parse_args()
    uninterrupted, resumed = run(args.out, args.epochs, args.samples)
    if resumed != uninterrupted:
        raise SystemExit("The resumed training differs from the uninterrupted one.")
    print("The resumed training equals the uninterrupted one.")


if __name__ == "__main__":
    main()
