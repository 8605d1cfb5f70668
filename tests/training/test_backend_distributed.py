"""Under DistributedDataParallel a compiled network gets the gradients of SLAYER's own, on every rank."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

pytestmark = pytest.mark.slayer

SHARED = Path(__file__).parents[1] / "shared"
SCRIPT = """
import os
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from slayer_nets import CUBA, chain, recurrent
from torch.nn.parallel import DistributedDataParallel
from lava_spikeloss import training
from lava_spikeloss.training.backend import is_compiled

directory, rank = Path(sys.argv[1]), int(sys.argv[2])
dist.init_process_group("gloo", f"file://{directory}/store", rank=rank, world_size=2)
torch.manual_seed(3)
spikes = (torch.rand(6, 8, 24) < 0.5).float()[rank::2]


def trained(build, backend, inside):
    torch.manual_seed(0)
    net = build()
    if inside:
        training.set_backend(net, backend)
    parallel = DistributedDataParallel(net)
    if not inside:
        training.set_backend(parallel, backend)
    assert any(map(is_compiled, parallel.modules())) is (backend == "compiled")
    optimiser = torch.optim.SGD(parallel.parameters(), lr=0.05)
    made = []
    for _ in range(2):
        optimiser.zero_grad()
        output = parallel(spikes)
        (output * torch.linspace(-0.5, 1, output.numel()).reshape(output.shape)).sum().backward()
        made += [output.detach(), *(each.grad.clone() for each in parallel.parameters() if each.grad is not None)]
        optimiser.step()
    return made


builds = [lambda: chain(8, 16, 6, params={**CUBA, "requires_grad": True}, weight_scale=4), recurrent]
equal = []
for build in builds:
    expected = trained(build, "accelerated", True)
    assert expected[0].any() and len(expected) > 4
    for inside in (True, False):
        found = trained(build, "compiled", inside)
        equal.append(all(torch.equal(*pair) for pair in zip(found, expected, strict=True)))
(directory / f"rank{rank}").write_text(str(equal))
dist.barrier()
os._exit(0)  # gloo's threads may abort a process that ends by itself
"""


def test_gradients_are_those_of_slayer_on_two_ranks(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SHARED), *sys.path])}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), str(rank)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    assert [(tmp_path / f"rank{rank}").read_text() for rank in range(2)] == ["[True, True, True, True]"] * 2
