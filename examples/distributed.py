"""Train on several processes. Needs the extra `demo`.

torchrun --nproc-per-node 2 examples/distributed.py
"""

import os

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lava_spikeloss import SparsityEnforcer, SpikeRate
from netx_export import export
from netx_export.command.demo import build_network, load_digits

on_gpu = torch.cuda.is_available()
torch.distributed.init_process_group("nccl" if on_gpu else "gloo")
rank = torch.distributed.get_rank()
device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if on_gpu else "cpu")
torch.manual_seed(0)
torch.set_num_threads(1)

digits = load_digits()
data = TensorDataset(digits.train_spikes, digits.train_labels)
sampler = DistributedSampler(data)
net = build_network().to(device)
with torch.no_grad():
    net(digits.train_spikes[:2].to(device))  # SLAYER makes its lazy parameters now
parallel = DistributedDataParallel(net)
enforcer = SparsityEnforcer(max_rate=0.027, lam=1000.0).attach(net, exclude=["1"])
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
loss_function = SpikeRate(true_rate=0.7, false_rate=0.02, reduction="mean")
for epoch in range(2):
    sampler.set_epoch(epoch)
    for spikes, labels in DataLoader(data, batch_size=16, sampler=sampler):
        error = 160 * loss_function(parallel(spikes.to(device)), labels.to(device))
        optimizer.zero_grad()
        (error + enforcer.loss).backward()  # the rate of the batch on all processes
        optimizer.step()
    if rank == 0:
        print(f"epoch {epoch}: error {error.item():.2f}")
if rank == 0:
    print(export(net.cpu(), "distributed.net", sample=digits.test_spikes[:8]).description)
# With gloo, torch 2.3 may wait for ever in `destroy_process_group()`;
# the end of the process does the same.
