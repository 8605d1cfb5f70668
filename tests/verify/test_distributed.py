"""Under torchrun each rank verifies its share, and every one gets the report that one process would have made.

Ranks that were not given the same are refused, all of them, and the error of one is an error of all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netx_export import simulate
from netx_export.file.netx import write
from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription

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


# Each case is what rank 1 is given otherwise. All run one after the other in the same two processes: a rank that one of
# them left waiting would spoil the next.
CASES = """
import json
import os
import sys
import shutil
from pathlib import Path
import numpy as np
import torch
import torch.distributed as dist
from netx_export import Tolerance, verify

directory, rank = Path(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo", f"file://{directory}/store", rank=rank, world_size=2)
data = dict(np.load(directory / "data.npz"))
spikes, labels = data.pop("spikes"), data.pop("labels")
wrong = {**data, "dense1": 1 - data["dense1"]}
shutil.copy(directory / "net.net", directory / f"other{rank}.net")
if rank == 1:
    with open(directory / "other1.net", "ab") as file:
        file.write(bytes(1))

def fails_late(output, label):
    if rank == 1:
        raise RuntimeError("no such luck")
    return 0.0

given = {"path": directory / "net.net", "spikes": spikes, "labels": labels, "recorded": data}
cases = {
    "the same": {},
    "spikes": {"spikes": 1 - spikes},
    "fewer samples": {
        "spikes": spikes[:4], "labels": labels[:4], "recorded": {name: layer[:4] for name, layer in data.items()}
    },
    "labels": {"labels": labels[::-1]},
    "no labels": {"labels": None},
    "the file": {"path": directory / f"other{rank}.net"},
    "the recording": {"recorded": wrong},
    "a tolerance": {"tolerance": Tolerance(rate=0.5)},
    "a tolerance by name": {"tolerance": {"dense1": Tolerance(rate=0.5)}},
    "stop_early": {"stop_early": True},
    "seed": {"seed": 1},
    "lava_samples": {"lava_samples": 1},
    "timeout": {"timeout": 9.0},
    "a missing file": {"path": directory / "missing.net"},
    "impossible labels": {"labels": labels - 1},
}
messages = {}
for name, otherwise in cases.items():
    try:
        report = verify(None, **{**given, **(otherwise if rank == 1 else {})})
        messages[name] = f"passed: {report.passed}, {report.comparisons[0].samples} samples"
    except Exception as error:
        messages[name] = f"{type(error).__name__}: {error}"
for name, options in {
    "a loss that fails on one rank": {"loss": fails_late},
    "one sample": {"spikes": spikes[:1], "labels": labels[:1], "recorded": {n: a[:1] for n, a in data.items()}},
    "stopped": {"recorded": wrong, "stop_early": True},
}.items():
    try:
        report = verify(None, **{**given, **options})
        messages[name] = f"passed: {report.passed}, {report.comparisons[0].samples} samples"
    except Exception as error:
        messages[name] = f"{type(error).__name__}: {error}"
(directory / f"messages{rank}.json").write_text(json.dumps(messages))
dist.barrier()
os._exit(0)
"""

NETWORKS = """
import json
import os
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from lava.lib.dl.slayer.block import cuba
from netx_export import export, verify

directory, rank = Path(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo", f"file://{directory}/store", rank=rank, world_size=2)
torch.manual_seed(0)
neuron = {"threshold": 0.5, "current_decay": 0.25, "voltage_decay": 0.03}
blocks = cuba.Recurrent(dict(neuron), 6, 8, weight_scale=3), cuba.Dense(dict(neuron), 8, 4, weight_scale=3)
net = torch.nn.Sequential(*blocks)
spikes = (torch.rand(8, 6, 20, generator=torch.Generator().manual_seed(1)) < 0.4).float()
with torch.no_grad():
    net.eval()(spikes)
if rank == 0:
    export(net, directory / "net.net", sample=spikes)
dist.barrier()
messages = {}

def attempt(name):
    try:
        messages[name] = f"passed: {verify(net, directory / 'net.net', spikes, lava_samples=0).passed}"
    except Exception as error:
        messages[name] = f"{type(error).__name__}: {error}"

with torch.no_grad():
    net(spikes[rank : 3 + 2 * rank])  # what this leaves behind is of another size on each rank
attempt("the same")
if rank == 1:
    net[1].synapse.weight.data[0, 0] += 1
attempt("a weight")
(directory / f"messages{rank}.json").write_text(json.dumps(messages))
dist.barrier()
os._exit(0)
"""


def start(directory: Path, *rank: str, text: str = SCRIPT) -> subprocess.Popen[bytes]:
    script = directory / "script.py"
    if not script.exists():  # written again, it would be empty for a moment in which another process may read it
        script.write_text(text)
    return subprocess.Popen(
        [sys.executable, str(script), str(directory), *rank], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def two_ranks(directory: Path, text: str) -> list[dict[str, str]]:
    """What the two ranks had to say."""
    processes = [start(directory, rank, text=text) for rank in "01"]
    try:
        assert [process.wait(timeout=180) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return [json.loads((directory / f"messages{rank}.json").read_text()) for rank in "01"]


def data(directory: Path) -> tuple[Any, dict[str, Any]]:
    """A file, spikes for it, and what they do: seven samples, so that the shares are not equal."""
    draw = np.random.default_rng(0)
    layers = (
        Input((8,), delay_shift=False),
        Dense(draw.integers(-60, 100, (9, 8)) * 2, NEURON),
        Dense(draw.integers(-60, 100, (5, 9)) * 2, NEURON),
    )
    write(NetworkDescription(layers), directory / "net.net")
    spikes = (draw.random((7, 8, 20)) < 0.4).astype(np.uint8)
    return spikes, simulate(directory / "net.net", spikes).layers


def test_ranks_that_were_not_given_the_same_are_refused(tmp_path: Path) -> None:
    spikes, recorded = data(tmp_path)
    np.savez(tmp_path / "data.npz", spikes=spikes, labels=np.arange(7) % 5, **recorded)
    ours, theirs = two_ranks(tmp_path, CASES)
    assert ours["the same"] == theirs["the same"] == "passed: True, 7 samples"
    assert ours["one sample"] == theirs["one sample"] == "passed: True, 1 samples"
    assert ours["stopped"] == theirs["stopped"] == "passed: False, 7 samples"
    for name, differing in {
        "spikes": "`spikes`",
        "fewer samples": "`spikes`, `labels`, `recorded`",
        "labels": "`labels`",
        "no labels": "`labels`",
        "the file": "`path`",
        "the recording": "`recorded`",
        "a tolerance": "`tolerance`",
        "a tolerance by name": "`tolerance`",
        "stop_early": "`stop_early`",
        "seed": "`seed`",
        "lava_samples": "`lava_samples`",
        "timeout": "`timeout`",
    }.items():
        assert ours[name] == theirs[name], name
        assert f"but {differing} of rank 1 differs from that of rank 0" in ours[name]
    for name, error in {
        "a missing file": "NetxFormatError: ",
        "impossible labels": "ValueError: Expected argument `labels`",
        "a loss that fails on one rank": "ValueError: Argument `loss` raised RuntimeError",
    }.items():
        assert theirs[name].startswith(error)
        assert ours[name] == f"SimulationError: Rank 1 failed, so nothing was verified. {theirs[name]}"


@pytest.mark.slayer
def test_networks_that_are_not_the_same_are_refused(tmp_path: Path) -> None:
    """What the last batch left in a recurrent block does not count: each sample starts from rest."""
    ours, theirs = two_ranks(tmp_path, NETWORKS)
    assert ours == theirs
    assert ours["the same"] == "passed: True"
    assert "but `net` of rank 1 differs from that of rank 0" in ours["a weight"]


def test_two_processes_make_the_report_of_one(tmp_path: Path) -> None:
    spikes, recorded = data(tmp_path)
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


def test_two_processes_simulate_shares_of_what_one_simulates(tmp_path: Path) -> None:
    spikes, expected = data(tmp_path)
    np.savez(tmp_path / "data.npz", spikes=spikes)
    example = Path(__file__).parents[2] / "examples" / "simulate_shares.py"
    arguments = [sys.executable, str(example), *(str(tmp_path / name) for name in ("net.net", "data.npz", "shares"))]
    processes = [
        subprocess.Popen(arguments, env={**os.environ, "RANK": rank, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"})
        for rank in "01"
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    shares = [np.load(tmp_path / "shares" / f"{rank}.npz") for rank in "01"]
    assert [share["samples"].tolist() for share in shares] == [[0, 1, 2, 3], [4, 5, 6]]
    for name, layer in {**expected, "output": expected["dense2"]}.items():
        np.testing.assert_array_equal(np.concatenate([share[name] for share in shares]), layer)


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.parametrize(("number", "samples"), [("auto", 7), ("3", 3), ("1", 1)])
def test_the_command_under_torchrun_shares_the_samples_on_lava(tmp_path: Path, number: str, samples: int) -> None:
    spikes, _ = data(tmp_path)
    np.savez(tmp_path / "data.npz", spikes=spikes)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    verify = ["-m", "netx_export", "verify", "net.net", "--data", "data.npz", "--lava-samples", number]
    verify += ["--lava-workers", "2"]
    result = subprocess.run([*command, *verify], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"reference against Lava: {samples} samples of 20 steps\n" in result.stdout
