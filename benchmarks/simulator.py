"""Time the reference simulator against SLAYER's forward and Lava's CPU simulator on the same network and spikes.

Every round runs all of them once, one after the other in one process; the ratios are medians over the rounds of the
ratio within a round, so that a busy machine slows both sides. Each is timed by the wall clock and by the processor
(user and system time of this process and its children), which other work on the machine disturbs far less. Before
anything is timed, the spikes are compared.

    OMP_NUM_THREADS=1 python benchmarks/simulator.py --rounds 7
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lava.lib.dl.slayer as slayer
import numpy as np
import torch
from lava.lib.dl.netx import hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi1SimCfg
from lava.proc.io.source import RingBuffer

from netx_export import simulate
from netx_export.hdf5 import write
from netx_export.slayer import describe, record

SIZES = (2312, 512, 512, 10)
NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}


def build(sample: torch.Tensor, delay: bool) -> torch.nn.Sequential:
    torch.manual_seed(0)
    pairs = itertools.pairwise(SIZES)
    net = torch.nn.Sequential(
        *[slayer.block.cuba.Dense(NEURON, *pair, weight_scale=2, weight_norm=True, delay=delay) for pair in pairs]
    )
    with torch.no_grad():
        net(sample)
        for block in net:
            if delay:
                block.delay.delay.copy_(torch.randint(0, 20, block.delay.delay.shape))
    return net.eval()


def processor_seconds() -> float:
    """User and system time of this process and of its living children, such as Lava's processes."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and processor time of a call."""
    processor, wall = processor_seconds(), time.perf_counter()
    run()
    return time.perf_counter() - wall, processor_seconds() - processor


class Lava:
    """The stock network on Lava's runtime, without any recording: its steps alone."""

    def __init__(self, path: Path, spikes: torch.Tensor, sparse: bool) -> None:
        self._network = hdf5.Network(str(path), sparse_fc_layer=sparse)
        RingBuffer(data=spikes.numpy().astype(np.int32)).s_out.connect(self._network.inp)
        self.run(1)

    def run(self, steps: int) -> None:
        self._network.run(RunSteps(steps), Loihi1SimCfg(select_tag="fixed_pt"))

    def stop(self) -> None:
        self._network.stop()


def report(name: str, times: list[tuple[float, float]], reference: list[tuple[float, float]]) -> None:
    print(f"{name:38}", end="")
    for label, values, bases in zip(("wall", "processor"), np.transpose(times), np.transpose(reference), strict=True):
        ratio = statistics.median(value / base for value, base in zip(values, bases, strict=True))
        spread = f"{statistics.median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"
        print(f"  {label} {spread:32} {ratio:8.1f} x", end="")
    print(flush=True)


def compare(arguments: argparse.Namespace, directory: Path, delay: bool) -> None:
    shape = (arguments.samples, SIZES[0], arguments.steps)
    spikes = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) < arguments.rate).float()
    net = build(spikes[:1], delay)
    description = describe(net, spikes[:1])
    path = directory / f"delay-{delay}.net"
    write(description, path)

    expected, got = record(net, spikes, list(description.spiking)), simulate(path, spikes)
    equal = all(np.array_equal(expected.layers[name], got.layers[name]) for name in expected.layers)
    few = spikes[:1, :, : 20 if delay else 300]
    on_lava = simulate(path, few, backend="lava", timeout=3600)
    equal_lava = all(np.array_equal(simulate(path, few).layers[name], on_lava.layers[name]) for name in on_lava.layers)
    rates = ", ".join(f"{layer.mean():.3f}" for layer in got.layers.values())
    print(f"\naxonal delays: {delay}; equal to SLAYER: {equal}, to Lava: {equal_lava}; rates {rates}", flush=True)

    lava_steps = 4 if delay else arguments.steps
    scale = arguments.samples * arguments.steps / lava_steps
    dense, sparse = Lava(path, spikes[0], sparse=False), Lava(path, spikes[0], sparse=True)
    rare, frequent = [(torch.rand(shape) < rate).float() for rate in (0.01, 0.5)]
    times: dict[str, list[tuple[float, float]]] = {}
    for _ in range(arguments.rounds):
        with torch.no_grad():
            runs = {
                "reference": lambda: simulate(path, spikes),
                "reference, 1 % input rate": lambda: simulate(path, rare),
                "reference, 50 % input rate": lambda: simulate(path, frequent),
                "SLAYER forward": lambda: net(spikes),
                "Lava, dense synapses": lambda: dense.run(lava_steps),
                "Lava, sparse synapses": lambda: sparse.run(lava_steps),
            }
            for name, run in runs.items():
                factor = scale if name.startswith("Lava") else 1.0
                wall, processor = seconds(run)
                times.setdefault(name, []).append((factor * wall, factor * processor))
    dense.stop()
    sparse.stop()
    for name, values in times.items():
        report(name, values, times["reference"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rate", type=float, default=0.02)
    arguments = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as directory:
        for delay in (False, True):
            compare(arguments, Path(directory), delay)


if __name__ == "__main__":
    main()
