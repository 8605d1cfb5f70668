"""Under torchrun each rank verifies its share, and every one gets the report that one process would have made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from netx_export import simulate
from netx_export.description import CubaNeuron, Dense, Input, NetworkDescription
from netx_export.hdf5 import write

NEURON = CubaNeuron(900, np.array([1024]), np.array([128]))
SCRIPT = """
import os
import sys
from pathlib import Path
import numpy as np
import torch
import torch.distributed as dist
from netx_export import verify

def loss(output, label):
    return torch.nn.functional.cross_entropy(output.sum(-1), label)

directory = Path(sys.argv[1])
if len(sys.argv) > 2:
    # torchrun's own way of meeting is a port; a file cannot be taken by somebody else
    dist.init_process_group("gloo", f"file://{directory}/store", rank=int(sys.argv[2]), world_size=2)
name = f"rank{dist.get_rank()}" if dist.is_initialized() else "alone"
data = np.load(directory / "data.npz")
recorded = {"dense1": data["dense1"], "dense2": data["dense2"]}
report = verify(None, directory / "net.net", data["spikes"], data["labels"], recorded=recorded, loss=loss)
(directory / f"{name}.json").write_text(report.to_json())
if dist.is_initialized():
    dist.barrier()
os._exit(0)  # gloo's threads may abort a process that ends by itself
"""


def start(directory: Path, *rank: str) -> subprocess.Popen[bytes]:
    script = directory / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(directory), *rank], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def test_two_processes_make_the_report_of_one(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    layers = (
        Input((8,), delay_shift=False),
        Dense(draw.integers(-60, 100, (9, 8)) * 2, NEURON),
        Dense(draw.integers(-60, 100, (5, 9)) * 2, NEURON),
    )
    write(NetworkDescription(layers), tmp_path / "net.net")
    spikes = (draw.random((7, 8, 20)) < 0.4).astype(np.uint8)  # seven samples: the shares are not equal
    recorded = simulate(tmp_path / "net.net", spikes).layers
    recorded["dense1"][5, 3, 7] ^= 1  # in the second rank's share
    recorded["dense2"][2, 1, 9] ^= 1  # in the first one's
    np.savez(tmp_path / "data.npz", spikes=spikes, labels=np.arange(7) % 5, **recorded)
    processes = [start(tmp_path), start(tmp_path, "0"), start(tmp_path, "1")]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    alone, *ranks = ((tmp_path / f"{name}.json").read_text() for name in ("alone", "rank0", "rank1"))
    assert ranks == [alone, alone]
    (comparison,) = json.loads(alone)["comparisons"]
    assert comparison["samples"] == 7
    assert [layer["differing"] for layer in comparison["layers"]] == [1, 1]
    assert comparison["cause"]["place"] == {"sample": 5, "neuron": [3], "step": 7}
    assert comparison["layers"][0]["raster"]["sample"] == 5
