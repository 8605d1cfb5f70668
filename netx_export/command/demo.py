"""The whole way on real data: train handwritten digits, export, simulate on Lava, prove that nothing changed."""

from __future__ import annotations

import dataclasses
import io
import os
import shlex
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from lava_spikeloss import LagrangeMultiplier, SparsityEnforcer, SpikeRate
from lava_spikeloss.compiling import cuda_compiler
from netx_export.errors import NetxExportError
from netx_export.exporting import export
from netx_export.file.atomic import make_directory
from netx_export.printable import printable
from netx_export.verification.report import print_report, save_report
from netx_export.verification.verify import VerificationReport, verify

__all__ = ["Digits", "encode", "load_digits", "run_demo", "train"]

STEPS = 32
HIDDEN_NEURONS = 256
RATE_BUDGET = 0.03
_BATCH = 32
_SEED = 0
_PROVENANCE = {"data": "scikit-learn digits", "network": f"64-{HIDDEN_NEURONS}-10"}


@dataclass(frozen=True, eq=False)
class Digits:
    """Handwritten digits as spikes ``(N, 64, T)`` with their classes, in a fixed stratified split."""

    train_spikes: torch.Tensor
    train_labels: torch.Tensor
    test_spikes: torch.Tensor
    test_labels: torch.Tensor


def load_digits() -> Digits:
    """Scikit-learn's 1,797 scans of handwritten digits, 8 by 8 pixels, which lie inside scikit-learn.

    Raises:
        NetxExportError: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits as load_scans
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise NetxExportError("The demo needs scikit-learn: pip install 'lava-spikeloss[demo]'.") from None
    scans = load_scans()
    parts = train_test_split(
        encode(scans.data / 16), scans.target, test_size=0.25, random_state=0, stratify=scans.target
    )
    train_spikes, test_spikes, train_labels, test_labels = map(torch.from_numpy, parts)
    return Digits(train_spikes, train_labels, test_spikes, test_labels)


def encode(intensity: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Intensities ``(N, C)`` from 0 to 1 as evenly spaced spikes ``(N, C, T)``, one per step at full intensity."""
    spikes_until = np.floor(intensity[..., np.newaxis] * np.arange(STEPS + 1) + 0.5)
    return np.diff(spikes_until, axis=-1).astype(np.float32)


def build_network() -> nn.Module:
    """64 inputs, one hidden layer and ten outputs of SLAYER's CUBA blocks.

    Raises:
        NetxExportError: without lava-dl.
    """
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # warnings of parts that are not used here
            from lava.lib.dl.slayer.block import cuba
    except ImportError:
        raise NetxExportError(
            "The demo needs lava-dl: on Python 3.10 pip install 'lava-spikeloss[demo]'; for a newer one "
            "docs/tasks/train-anywhere.md says how to install it."
        ) from None
    warnings.filterwarnings("ignore", message=".*weight_norm.* is deprecated.*")  # it is how SLAYER does it
    neuron = {"threshold": 1.25, "current_decay": 1.0, "voltage_decay": 0.1, "scale_grad": 3.0}
    return nn.Sequential(
        cuba.Dense(neuron, 64, HIDDEN_NEURONS, weight_norm=True, weight_scale=2),
        cuba.Dense(neuron, HIDDEN_NEURONS, 10, weight_norm=True, weight_scale=2),
    )


def train(net: nn.Module, digits: Digits, epochs: int, device: torch.device) -> list[dict[str, float]]:
    """Train on spike rates under a budget for the hidden layer's event rate; figures per epoch.

    The goal lies a tenth inside the budget, since nobody knows the rate on digits that were not seen in training.
    """
    loss_function = SpikeRate(true_rate=0.7, false_rate=0.02)
    enforcer = SparsityEnforcer(RATE_BUDGET, LagrangeMultiplier(margin=0.1)).attach(net, exclude=["1"])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    history = []
    for epoch in track(range(epochs), description="training"):
        sums = torch.zeros(2, device=device)
        for batch in torch.randperm(len(digits.train_labels)).split(_BATCH):
            spikes, labels = digits.train_spikes[batch].to(device), digits.train_labels[batch].to(device)
            output = net(spikes)
            loss = loss_function(output, labels)
            optimizer.zero_grad()
            (loss + enforcer.loss).backward()
            optimizer.step()
            sums += torch.stack([loss.detach(), (output.sum(-1).argmax(1) == labels).sum()])
        total, right = (sums / len(digits.train_labels)).tolist()
        schedule.step()
        history.append({"epoch": epoch, "loss": total, "training accuracy": right})
    enforcer.detach()
    return history


def run_demo(
    out: str | os.PathLike[str], console: Console, *, epochs: int = 25, lava_samples: int | None = None
) -> VerificationReport:
    """Train, export, verify and report into a directory.

    Writes ``digits.net``, ``report.json`` and ``report.html``.

    Args:
        out: directory; made if it does not exist.
        console: where the table is printed.
        epochs: passes over the training data.
        lava_samples: number of test samples, on Lava and in SLAYER; None for all.

    Raises:
        NetxExportError: if something is missing, or a file cannot be written.
    """
    directory = make_directory(out)
    digits = load_digits()
    torch.set_num_threads(1)  # the operations are so small that a second thread costs more than it brings
    device = _device()
    torch.manual_seed(_SEED)
    net = build_network().to(device)
    console.print(f"Training on {len(digits.train_labels)} digits, on {device}.")
    history = train(net, digits, epochs, device)
    path = directory / "digits.net"
    export(net, path, sample=digits.test_spikes[:32], budget=RATE_BUDGET, metadata=_PROVENANCE)
    spikes, labels = digits.test_spikes[:lava_samples], digits.test_labels[:lava_samples]
    running = f"Running {len(spikes)} test digits in SLAYER and on Lava."
    console.print(printable(f"Exported to {path}. {running}"), markup=False)
    report = verify(net, path, spikes, labels, lava_samples=len(spikes), progress=console.is_terminal)
    command = shlex.join(["netx-export", "demo", "--out", str(out)])
    report = dataclasses.replace(report, training=history, run={**report.run, "command": command})
    save_report(report.to_dict(), directory)
    console.print(_table(report))
    print_report(report.to_dict(), console)
    written = f"Wrote {path}, {directory / 'report.json'} and {directory / 'report.html'}."
    console.print(printable(written), markup=False)
    return report


def _device() -> torch.device:
    """The GPU only where SLAYER can compile its code for it: on the CPU this takes a minute."""
    return torch.device("cuda" if torch.cuda.is_available() and cuda_compiler() else "cpu")


def _table(report: VerificationReport) -> Table:
    """SLAYER beside Lava, on the same samples: the reference simulator stands between the two."""
    trained, on_lava = report.comparisons
    table = Table(title=f"{trained.samples} test digits, event rates per neuron and step", box=box.SIMPLE)
    for name in ("layer", "neurons", "spikes", "SLAYER", "Lava", "budget", "differ"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    for ours, theirs in zip(trained.layers, on_lava.layers, strict=True):
        rates = (ours.expected.rate, theirs.got.rate, ours.budget)
        table.add_row(
            *(ours.name, f"{ours.neurons:,}", f"{ours.expected.spikes:,}"),
            *("" if rate is None else f"{rate:.2%}" for rate in rates),
            f"{ours.differing + theirs.differing:,}",
        )
    accuracies = (
        (trained.output.expected_accuracy, on_lava.output.got_accuracy) if trained.output and on_lava.output else ()
    )
    table.add_row("accuracy", "", "", *(f"{accuracy:.2%}" for accuracy in accuracies))
    return table
