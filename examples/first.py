"""A first network: trained, exported, and verified on Lava. Needs the extra `demo`."""

import torch
from lava.lib.dl.slayer.block import cuba

from lava_spikeloss import SparsityEnforcer, SpikeRate
from netx_export import export, verify
from netx_export.command.demo import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()  # scikit-learn's, as spikes (N, 64, 32): time is the last axis

neuron = {"threshold": 1.25, "current_decay": 1.0, "voltage_decay": 0.1, "scale_grad": 3.0}


def make_network():
    return torch.nn.Sequential(
        cuba.Dense(neuron, 64, 64, weight_norm=True, weight_scale=2),
        cuba.Dense(neuron, 64, 10, weight_norm=True, weight_scale=2),
    )


net = make_network()
loss_function = SpikeRate(true_rate=0.7, false_rate=0.02)
enforcer = SparsityEnforcer(max_rate=0.027, lam=1000.0).attach(net, exclude=["1"])
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for epoch in range(5):
    for batch in torch.randperm(len(digits.train_labels)).split(32):
        output = net(digits.train_spikes[batch])
        loss = loss_function(output, digits.train_labels[batch]) + enforcer.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.2f}")
enforcer.detach()

sample = digits.test_spikes[:16]
result = export(net, "first.net", sample=sample, budget=0.03)
print(result.description)

report = verify(net, "first.net", digits.test_spikes, digits.test_labels, lava_samples=20)
for comparison in report.comparisons:
    for layer in comparison.layers:
        print(f"{comparison.got}, {layer.name}: {layer.differing} spikes differ")
report.save_html("report.html")
print("PASSED" if report.passed else "FAILED")
