"""Simulate a file on several processes, on one machine or more: each takes its share of the samples.

torchrun --nproc-per-node 2 examples/simulate_shares.py first.net test.npz shares
"""

import os
import sys
from pathlib import Path

import numpy as np

from netx_export import simulate

file, data, folder = sys.argv[1:]
rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])  # torchrun sets them

spikes = np.load(data)["spikes"]
samples = np.array_split(np.arange(len(spikes)), ranks)[rank]
if len(samples):
    run = simulate(file, spikes[samples])  # or backend="lava"
    Path(folder).mkdir(exist_ok=True)
    np.savez(Path(folder, f"{rank}.npz"), samples=samples, output=run.output, **run.layers)
