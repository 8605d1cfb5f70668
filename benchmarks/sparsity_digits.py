"""Train handwritten digits to a budget of hidden events, and compare with hand-tuned constant factors.

    OMP_NUM_THREADS=1 python -m benchmarks.sparsity_digits --jobs 2

Needs the extra `demo` (lava-dl and scikit-learn). Every run has the same 64-128-10 CUBA network, data, optimiser and
number of steps; only the weighting factor of the sparsity loss differs, and the seed. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import time
from typing import NamedTuple

import lava.lib.dl.slayer as slayer
import torch

from benchmarks.digit_networks import Digits, digits
from lava_spikeloss import LagrangeMultiplier, SparsityEnforcer, SpikeStatistics

HIDDEN = "blocks.0"
EPOCHS = 16
BATCHES = 23  # per epoch
BUDGETS = (0.08, 0.04, 0.02, 0.01)
CONSTANTS = tuple(10 ** (exponent / 2) for exponent in range(2, 12))  # ten factors from 10 to 316,000
SEEDS = (0, 1, 2)
TOLERANCE = 1.02  # within two per cent of the budget counts as inside, for multiplier and constants alike


class Job(NamedTuple):
    budget: float | None  # None: no sparsity loss
    constant: float | None  # None: a Lagrange multiplier
    seed: int


class Result(NamedTuple):
    train_rate: float  # of the hidden layer
    test_rate: float
    train_loss: float  # without the sparsity loss
    accuracy: float  # on the test set


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


def train(job: Job) -> Result:
    """Train one network; the learning rate falls along a cosine, so that the last steps are small."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    data, net = digits(), Net()
    enforcer = None
    if job.budget is not None:
        lam = job.constant or LagrangeMultiplier()
        enforcer = SparsityEnforcer(job.budget, lam).attach(net, exclude=["blocks.1"])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * BATCHES)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(data.x)).chunk(BATCHES):
            counts = net(data.x[batch].transpose(1, 2)).sum(-1)
            loss = torch.nn.functional.cross_entropy(counts, data.labels[batch])
            if enforcer is not None:
                loss = loss + enforcer.loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return evaluate(net, data)


@torch.no_grad()
def evaluate(net: Net, data: Digits) -> Result:
    """Rates of the hidden layer on both sets, task loss on the training set, accuracy on the test set."""
    rates, outputs = [], []
    for spikes in (data.x.transpose(1, 2), data.test_x.transpose(1, 2)):
        activity = SpikeStatistics().attach(net)
        outputs.append(net(spikes).sum(-1))
        activity.detach()
        rates.append(activity.compute().layers[HIDDEN].rate)
    train_loss = torch.nn.functional.cross_entropy(outputs[0], data.labels).item()
    accuracy = (outputs[1].argmax(1) == data.test_labels).float().mean().item()
    return Result(*rates, train_loss, accuracy)


def mean_accuracy(runs: list[Result]) -> float:
    return statistics.mean(run.accuracy for run in runs)


def row(budget: str, factor: str, runs: list[Result]) -> str:
    """One row of the table; each column has one number per seed."""
    columns = (
        " / ".join(f"{100 * run.train_rate:.3f}" for run in runs),
        " / ".join(f"{100 * run.test_rate:.3f}" for run in runs),
        " / ".join(f"{run.train_loss:.3f}" for run in runs),
        " / ".join(f"{100 * run.accuracy:.1f}" for run in runs),
        f"{100 * mean_accuracy(runs):.1f}",
    )
    return f"| {budget} | {factor} | {' | '.join(columns)} |"


def table(results: dict[Job, Result]) -> str:
    """Two rows per budget; the best constant has the highest mean accuracy of those inside the budget at every seed."""

    def runs(budget: float | None, constant: float | None) -> list[Result]:
        return [results[Job(budget, constant, seed)] for seed in SEEDS]

    rows = [
        "| budget | factor | rate, training set | rate, test set | training loss | accuracy | mean |",
        "|---|---|---|---|---|---|---|",
        row("none", "none", runs(None, None)),
    ]
    for budget in BUDGETS:
        tuned = {constant: runs(budget, constant) for constant in CONSTANTS}
        inside = {
            constant: found
            for constant, found in tuned.items()
            if all(run.train_rate <= TOLERANCE * budget for run in found)
        }
        rows.append(row(f"{100 * budget:.0f}", "multiplier", runs(budget, None)))
        for best in sorted(inside, key=lambda constant: mean_accuracy(inside[constant]))[-1:]:
            factor = f"{best:,.0f}, best of the {len(inside)} constants inside"
            rows.append(row(f"{100 * budget:.0f}", factor, inside[best]))
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="networks trained at a time")
    arguments = parser.parse_args()
    jobs = [Job(None, None, seed) for seed in SEEDS]
    jobs += [Job(budget, constant, seed) for budget in BUDGETS for constant in (None, *CONSTANTS) for seed in SEEDS]
    start, results = time.perf_counter(), {}
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for job, result in zip(jobs, pool.imap(train, jobs), strict=True):
            results[job] = result
            print(job, result, flush=True)
    print(f"\n{table(results)}\n")
    print(f"Rates and accuracies in percent; three numbers: seeds {', '.join(map(str, SEEDS))}.")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
