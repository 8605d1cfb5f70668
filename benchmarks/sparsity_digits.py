"""Train handwritten digits to a budget of hidden events, and compare with hand-tuned constant factors.

    python benchmarks/sparsity_digits.py --jobs 2

Needs the extra `demo` (lava-dl and scikit-learn). Every run has the same 64-128-10 CUBA network, data, optimiser and
number of steps; only the weighting factor of the sparsity loss differs. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import time
from typing import NamedTuple

import lava.lib.dl.slayer as slayer
import torch
from sklearn.datasets import load_digits

from lava_spikeloss import LagrangeMultiplier, SparsityEnforcer, SpikeStatistics

STEPS_PER_SAMPLE = 16
HIDDEN = "blocks.0"
EPOCHS = 16
BATCHES = 23  # per epoch
BUDGETS = (0.08, 0.04, 0.02, 0.01)
CONSTANTS = tuple(10 ** (exponent / 2) for exponent in range(2, 12))  # ten factors from 10 to 316,000
SEEDS = (0, 1, 2)  # of the multiplier; the constants and the plain network have the first


class Job(NamedTuple):
    budget: float | None  # None: no sparsity loss
    constant: float | None  # None: a Lagrange multiplier
    seed: int


class Digits(NamedTuple):
    train: torch.Tensor
    train_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor


class Result(NamedTuple):
    train_rate: float
    test_rate: float
    accuracy: float


class Net(torch.nn.Module):
    """64-128-10 fully connected CUBA neurons."""

    def __init__(self) -> None:
        super().__init__()
        cuba = {"threshold": 1.25, "current_decay": 1.0, "voltage_decay": 0.1, "scale_grad": 3.0}
        sizes = ((64, 128), (128, 10))
        self.blocks = torch.nn.ModuleList(
            slayer.block.cuba.Dense(dict(cuba), i, o, weight_norm=True, weight_scale=2) for i, o in sizes
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def load() -> Digits:
    """The digits as regular spikes: a pixel of brightness p in [0, 1] fires p times per step, each at its own phase."""
    digits = load_digits()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(digits.target), generator=generator)
    pixels = torch.tensor(digits.data, dtype=torch.float32)[order] / 16
    labels = torch.tensor(digits.target)[order]
    phase = torch.rand(pixels.shape[1], 1, generator=generator)
    spikes = (pixels[..., None] * torch.arange(STEPS_PER_SAMPLE + 1) + phase).floor().diff()
    split = 1437
    return Digits(spikes[:split], labels[:split], spikes[split:], labels[split:])


def train(job: Job) -> Result:
    """Train one network; the learning rate falls along a cosine, so that the last steps are small."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    digits, net = load(), Net()
    enforcer = None
    if job.budget is not None:
        lam = job.constant or LagrangeMultiplier()
        enforcer = SparsityEnforcer(job.budget, lam).attach(net, exclude=["blocks.1"])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * BATCHES)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(digits.train)).chunk(BATCHES):
            counts = net(digits.train[batch]).sum(-1)
            loss = torch.nn.functional.cross_entropy(counts, digits.train_labels[batch])
            if enforcer is not None:
                loss = loss + enforcer.loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return evaluate(net, digits)


@torch.no_grad()
def evaluate(net: Net, digits: Digits) -> Result:
    """Rates of the hidden layer on both sets, and accuracy on the test set."""
    rates = []
    for spikes in (digits.train, digits.test):
        activity = SpikeStatistics().attach(net)
        output = net(spikes)
        activity.detach()
        rates.append(activity.compute().layers[HIDDEN].rate)
    accuracy = (output.sum(-1).argmax(1) == digits.test_labels).float().mean().item()
    return Result(*rates, accuracy)


def table(results: dict[Job, Result]) -> str:
    """One row per budget; a constant is best if it has the highest accuracy of those inside the budget."""
    rows = [
        "| budget | multiplier: rate, training set | rate, test set | accuracy | "
        "best constant | its rate, training set | rate, test set | accuracy | constants inside |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for budget in BUDGETS:
        found = [results[Job(budget, None, seed)] for seed in SEEDS]
        tuned = {constant: results[Job(budget, constant, SEEDS[0])] for constant in CONSTANTS}
        inside = {constant: result for constant, result in tuned.items() if result.train_rate <= budget}
        best = max(inside, key=lambda constant: inside[constant].accuracy, default=None)
        ours = [
            " / ".join(f"{100 * result[i]:.{digits}f}" for result in found) for i, digits in ((0, 3), (1, 3), (2, 1))
        ]
        theirs = ["none", "", "", ""]
        if best is not None:
            rate, test_rate, accuracy = (100 * value for value in inside[best])
            theirs = [f"{best:,.0f}", f"{rate:.3f}", f"{test_rate:.3f}", f"{accuracy:.1f}"]
        cells = [f"{100 * budget:.0f}", *ours, *theirs, f"{len(inside)} of {len(tuned)}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="networks trained at a time")
    arguments = parser.parse_args()
    jobs = [Job(None, None, SEEDS[0])]
    jobs += [Job(budget, None, seed) for budget in BUDGETS for seed in SEEDS]
    jobs += [Job(budget, constant, SEEDS[0]) for budget in BUDGETS for constant in CONSTANTS]
    start, results = time.perf_counter(), {}
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for job, result in zip(jobs, pool.imap(train, jobs), strict=True):
            results[job] = result
            print(job, result, flush=True)
    plain = results[jobs[0]]
    print(f"\n{table(results)}\n")
    print(f"All in percent; columns of three: seeds {', '.join(map(str, SEEDS))}.")
    print(f"Without a sparsity loss: {100 * plain.test_rate:.1f} % rate, {100 * plain.accuracy:.1f} % accuracy.")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
