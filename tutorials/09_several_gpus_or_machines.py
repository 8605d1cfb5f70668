# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Several GPUs or machines
#
# Training on several processes with `torchrun`: one per GPU, on one machine or on several. Here two processes share a
# CPU, over gloo, so that it runs anywhere; with GPUs the same script uses nccl. Only this was run: two processes on a
# CPU.
#
# It needs `pip install '.[demo]'` on Python 3.10.

# %%
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch

from netx_export import export, verify
from netx_export.command.demo import build_network, load_digits

torch.set_num_threads(1)
directory = Path(mkdtemp(prefix="several-"))

# %% [markdown]
# ## The script
#
# `torchrun` starts a script of its own in each process. What is not as on one process:
#
# - SLAYER makes some of its parameters at the first forward, so one is run before `DistributedDataParallel` looks.
# - `DistributedSampler` gives each process its share of the digits.
# - The gradients of all processes are averaged, so the loss takes the mean over its batch.
# - The enforcer is attached to the network as ever. Its rate is that of the batch on all processes together, so both of
#   them see the same penalty.

# %%
SCRIPT = """
import json
import os
import sys

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lava_spikeloss import SparsityEnforcer, SpikeRate
from netx_export.command.demo import build_network, load_digits

on_gpu = torch.cuda.is_available()
torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
rank = torch.distributed.get_rank()
device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
torch.manual_seed(0)
torch.set_num_threads(1)

digits = load_digits()
data = TensorDataset(digits.train_spikes, digits.train_labels)
sampler = DistributedSampler(data)
net = build_network().to(device)
with torch.no_grad():
    net(digits.train_spikes[:2].to(device))
parallel = DistributedDataParallel(net)
enforcer = SparsityEnforcer(max_rate=0.027, lam=1000.0).attach(net, exclude=["1"])
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
loss_function = SpikeRate(true_rate=0.7, false_rate=0.02, reduction="mean")
curve = []
for epoch in range(2):
    sampler.set_epoch(epoch)
    for spikes, labels in DataLoader(data, batch_size=16, sampler=sampler):
        error = 160 * loss_function(parallel(spikes.to(device)), labels.to(device))
        penalty = enforcer.loss
        optimizer.zero_grad()
        (error + penalty).backward()
        optimizer.step()
        curve.append([error.item(), penalty.item()])
torch.save(net.cpu().state_dict(), f"{sys.argv[1]}/rank{rank}.pt")
with open(f"{sys.argv[1]}/rank{rank}.json", "w") as file:
    json.dump(curve, file)
# With gloo, torch 2.3 may wait for ever in `destroy_process_group()`; the end of the process does the same.
"""
script = directory / "train.py"
_ = script.write_text(SCRIPT)

# %% [markdown]
# ## Two processes
#
# In a shell: `torchrun --standalone --nproc-per-node 2 train.py out`. On two machines, on each of them:
# `torchrun --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint FIRST_MACHINE:29400 train.py out`.

# %%
subprocess.run(
    [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, directory],
    env={**os.environ, "OMP_NUM_THREADS": "1"},
    check=True,
    timeout=300,
)
states = [torch.load(directory / f"rank{rank}.pt") for rank in (0, 1)]
curves = [json.loads((directory / f"rank{rank}.json").read_text()) for rank in (0, 1)]
same = all(torch.equal(states[0][name], states[1][name]) for name in states[0])
print("both processes hold the same weights:", same)

# %% [markdown]
# ## Export and verify, on one process
#
# `verify` can share its samples out too: under `torchrun` each process takes a part of them, and all get the report.

# %%
digits = load_digits()
net = build_network()
with torch.no_grad():
    net(digits.test_spikes[:2])
net.load_state_dict(states[0])
net.eval()
path = export(net, directory / "digits.net", sample=digits.test_spikes[:8], budget=0.03).path
report = verify(net, path, digits.test_spikes, digits.test_labels, lava_samples=8)
output = report.comparisons[0].output
print(f"passed {report.passed}, accuracy {output.got_accuracy:.1%}, hidden rate {report.layers[0].got.rate:.2%}")

# %% [markdown]
# ## The picture
#
# The loss of each process's own share of a batch, and the penalty, which is the same on both.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for rank, (curve, style) in enumerate(zip(curves, ("-", "--"), strict=True)):
    left.plot([error for error, _ in curve], style, label=f"process {rank}", linewidth=1)
    right.plot([penalty for _, penalty in curve], style, label=f"process {rank}", linewidth=1.5 + rank)
left.set(title="loss", xlabel="step of the optimizer", yscale="log")
right.set(title="penalty of the enforcer", xlabel="step of the optimizer")
for axis in (left, right):
    axis.legend(frameon=False)
figure.savefig(directory / "several.png", dpi=110)
print("open", directory / "several.png")

# %%
assert same
assert all(abs(one[1] - other[1]) <= 1e-4 * (1 + abs(one[1])) for one, other in zip(*curves, strict=True))
assert report.passed
assert output.got_accuracy > 0.8
