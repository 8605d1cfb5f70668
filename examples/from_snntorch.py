"""Trained in snnTorch, to netx through NIR. Needs snntorch and nirtorch, and the extras `nir` and `demo`."""

import nirtorch
import snntorch
import torch
from snntorch import utils
from snntorch.export_nir import _extract_snntorch_module
from snntorch.functional import mse_count_loss

from netx_export import simulate
from netx_export.command.demo import load_digits
from netx_export.file.netx import write
from netx_export.nir import from_nir, roundings

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()  # scikit-learn's, as spikes (N, 64, 32): time is the last axis


def neurons(**options):
    """What NIR says of a neuron is all that it does: it starts again at 0, at once."""
    return snntorch.Leaky(beta=0.9, init_hidden=True, reset_mechanism="zero", reset_delay=False, **options)


net = torch.nn.Sequential(
    torch.nn.Linear(64, 64, bias=False), neurons(), torch.nn.Linear(64, 10, bias=False), neurons(output=True)
)


def run(spikes):
    """Spikes of the last layer, time first."""
    utils.reset(net)
    return torch.stack([net(frame)[0] for frame in spikes.unbind(-1)])


optimizer = torch.optim.Adam(net.parameters(), lr=0.002)
loss_function = mse_count_loss(correct_rate=0.7, incorrect_rate=0.05)
for _ in range(8):
    for batch in torch.randperm(len(digits.train_labels)).split(32):
        loss = loss_function(run(digits.train_spikes[batch]), digits.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

utils.reset(net)
graph = nirtorch.extract_nir_graph(net, _extract_snntorch_module, torch.rand(64), model_name="snntorch")
description = from_nir(graph, dt=1e-4, rounding="nearest")  # snnTorch writes time constants for steps of 0.1 ms
for rounding in roundings(description):
    share = abs(rounding.after / rounding.before - 1)
    print(f"{rounding.node} {rounding.parameter}: {rounding.changed} of {rounding.of} rounded, one by {share:.2%}")
write(description, "from_snntorch.net")

with torch.no_grad():
    trained = run(digits.test_spikes).movedim(0, -1)
imported = simulate("from_snntorch.net", digits.test_spikes).output
for name, spikes in {"snnTorch": trained, "netx": imported}.items():
    hits = (torch.as_tensor(spikes).sum(-1).argmax(1) == digits.test_labels).float().mean()
    print(f"{name}: {int(spikes.sum())} spikes, {float(hits):.1%} of the digits")
