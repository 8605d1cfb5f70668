"""Online training against back-propagation through time on handwritten digits: test accuracy and peak memory.

Every measurement runs in a process of its own, so that its peak is its own. Needs the extra `demo`.

    python benchmarks/online_digits.py                  # accuracy at T = 32, memory for T = 32, 128, 512
    python benchmarks/online_digits.py --epochs 3       # a quicker look
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

METHODS = ("bptt", "fptt", "ottt", "sltt")
# Of Adam, at the start; it falls to zero in a straight line. Chosen in steps of about three, up to 0.03 (0.01 for
# fptt), by the accuracy on 300 held-out training samples: best for all but sltt, which 0.03 gives half a point more.
LEARNING_RATE = 0.01
MEMORY_BATCHES = 2


def build(hidden: int) -> Any:
    import torch
    from lava.lib.dl.slayer import block

    neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.1, "tau_grad": 0.03, "scale_grad": 3}
    return torch.nn.Sequential(block.cuba.Dense(dict(neuron), 64, hidden), block.cuba.Dense(dict(neuron), hidden, 10))


def digits(steps: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Spikes ``(N, 64, T)`` whose rate is half the brightness, and labels; the last 360 samples are the test set."""
    import torch
    from sklearn.datasets import load_digits

    data = load_digits()
    rates = torch.tensor(data.data, dtype=torch.float32) / 32
    labels = torch.tensor(data.target)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    rates, labels = rates[order], labels[order]
    spikes = (torch.rand(*rates.shape, steps, generator=generator) < rates.unsqueeze(-1)).float()
    return spikes[:-360], labels[:-360], spikes[-360:], labels[-360:]


def step_loss(output: Any, target: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(5 * output, target)


def trainer(method: str, net: Any, optimizer: Any) -> Any:
    from lava_spikeloss import training

    if method == "bptt":
        return lambda x, y: back_propagate(net, optimizer, x, y)
    if method == "fptt":
        state = training.fptt_online_training_init_w_ra(optimizer)
        return lambda x, y: training.fptt_online_training(net, optimizer, x, y, step_loss, 0.5, state)
    function = {"ottt": training.ottt_online_training, "sltt": training.sltt_online_training}[method]
    return lambda x, y: function(net, optimizer, x, y, step_loss, online=False)


def back_propagate(net: Any, optimizer: Any, x: Any, y: Any) -> None:
    """The same loss per step, over the whole sequence at once."""
    output = net(x)
    labels = y.unsqueeze(1).expand(-1, x.shape[-1])
    optimizer.zero_grad()
    step_loss(output, labels).backward()
    optimizer.step()


def accuracy(args: argparse.Namespace) -> dict[str, float]:
    import torch

    torch.manual_seed(args.seed)
    net = build(args.hidden)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    x, y, test_x, test_y = digits(args.steps, args.seed)
    train = trainer(args.method, net, optimizer)
    batches = args.epochs * math.ceil(len(y) / args.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, batches)
    start = time.perf_counter()
    for _ in range(args.epochs):
        for batch in torch.randperm(len(y)).split(args.batch):
            train(x[batch], y[batch])
            schedule.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        correct = (net(test_x).sum(dim=-1).argmax(dim=1) == test_y).float().mean().item()
    return {"accuracy": round(100 * correct, 2), "seconds per epoch": round(seconds / args.epochs, 2)}


def memory(args: argparse.Namespace) -> dict[str, float]:
    import torch

    net = build(args.hidden)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    train = trainer(args.method, net, optimizer)
    x, y = torch.zeros(args.batch, 64, args.steps), torch.zeros(args.batch, dtype=torch.long)
    x[:, ::4] = 1
    train(x[..., :2], y)  # loads what is loaded at first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(MEMORY_BATCHES):
        train(x, y)
    return {"MiB": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)}


def measure(**options: Any) -> dict[str, float]:
    command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in options.items())]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(answer.splitlines()[-1])
    return result


def report(args: argparse.Namespace) -> None:
    import torch

    print(f"Python {platform.python_version()}, torch {torch.__version__}, {platform.machine()}, one thread")
    print(f"{args.hidden} hidden neurons, batch {args.batch}, T = {args.steps}, {args.epochs} epochs, seeds 0, 1, 2")
    shared = {"epochs": args.epochs, "hidden": args.hidden, "batch": args.batch}
    for method in METHODS:
        runs = [measure(task="accuracy", method=method, seed=s, steps=args.steps, **shared) for s in range(3)]
        found = [run["accuracy"] for run in runs]
        seconds = statistics.median(run["seconds per epoch"] for run in runs)
        print(f"{method}  accuracy {statistics.mean(found):5.2f} %  {found}  {seconds} s per epoch", flush=True)
    for method in METHODS:
        peaks = [measure(task="memory", method=method, steps=steps, **shared)["MiB"] for steps in (32, 128, 512)]
        print(f"{method}  peak memory above the loaded net, T = 32, 128, 512: {peaks} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("report", "accuracy", "memory"), default="report")
    parser.add_argument("--method", choices=METHODS, default="bptt")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.task == "report":
        report(args)
        return
    import torch

    torch.set_num_threads(1)
    print(json.dumps(accuracy(args) if args.task == "accuracy" else memory(args)))


if __name__ == "__main__":
    main()
