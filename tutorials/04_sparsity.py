# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Sparsity: what a budget costs
#
# Five budgets for the hidden block's event rate, from 8 % to 0.5 %: for each a network is trained under it, exported,
# and its rate measured on Lava. The result is a curve: accuracy and energy over the budget.
#
# It needs `pip install '.[demo]'` on Python 3.10.

# %%
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from lava.lib.dl.slayer.block import cuba

from lava_spikeloss import LagrangeMultiplier, SparsityEnforcer, SpikeRate
from netx_export import export, verify
from netx_export.command.demo import load_digits

torch.set_num_threads(1)
directory = Path(mkdtemp(prefix="sparsity-"))
digits = load_digits()

# %% [markdown]
# ## Training under a budget
#
# `SparsityEnforcer` watches the hidden block. Its factor is a `LagrangeMultiplier`: it rises while the rate is above
# the goal, and falls while there is room, so that no factor has to be guessed for each budget. The goal lies a tenth
# inside the budget. Nobody knows the rate on data that was not seen before; the tenth is for that.

# %%
BUDGETS = (0.08, 0.04, 0.02, 0.01, 0.005)
EPOCHS = 6
LAVA_SAMPLES = 8


def train(budget: float) -> torch.nn.Sequential:
    torch.manual_seed(0)
    neuron = {"threshold": 1.25, "current_decay": 1.0, "voltage_decay": 0.1, "scale_grad": 3.0}
    net = torch.nn.Sequential(
        cuba.Dense(neuron, 64, 64, weight_norm=True, weight_scale=2),
        cuba.Dense(neuron, 64, 10, weight_norm=True, weight_scale=2),
    )
    loss_function = SpikeRate(true_rate=0.7, false_rate=0.02)
    enforcer = SparsityEnforcer(max_rate=0.9 * budget, lam=LagrangeMultiplier()).attach(net, exclude=["1"])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(digits.train_labels)).split(32):
            output = net(digits.train_spikes[batch])
            loss = loss_function(output, digits.train_labels[batch]) + enforcer.loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    enforcer.detach()
    return net.eval()


# %% [markdown]
# ## Train, export, verify
#
# `verify` runs all 450 test digits in SLAYER and on the reference simulator, and some of them on Lava. Accuracy, rate
# and energy are those of the exported file on all test digits; the rate on Lava is that of its few digits.


# %%
class Point(NamedTuple):
    accuracy: float
    rate: float
    rate_on_lava: float
    energy: float
    output_energy: float


points = {}
for budget in BUDGETS:
    net = train(budget)
    path = export(net, directory / f"{budget}.net", sample=digits.test_spikes[:8], budget=budget).path
    report = verify(net, path, digits.test_spikes, digits.test_labels, lava_samples=LAVA_SAMPLES)
    assert report.passed
    everything, on_lava = report.comparisons
    points[budget] = Point(
        accuracy=everything.output.got_accuracy,
        rate=everything.layers[0].got.rate,
        rate_on_lava=on_lava.layers[0].got.rate,
        energy=everything.got_energy,
        output_energy=everything.layers[1].got.energy,
    )
    point = points[budget]
    print(
        f"budget {budget:5.1%}: accuracy {point.accuracy:.1%}, rate {point.rate:.2%}, Lava {point.rate_on_lava:.2%}, "
        f"{point.energy * 1e9:.0f} nJ a digit, output block {point.output_energy * 1e9:.0f} nJ"
    )

# %% [markdown]
# ## The curve
#
# The energy is a lower bound for Loihi 1, from published constants. Most of it is paid where the input's spikes arrive,
# at the hidden block's synapses, and the input is the same for all. It falls with the budget all the same, by more than
# the output block saves: weights that are rounded to zero cost nothing, and a tight budget makes more of them.
#
# Six passes are few. What longer training gives under the same budgets is in the documentation's page on sparsity.

# %%
percent = [100 * budget for budget in BUDGETS]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
left.plot(percent, [100 * point.accuracy for point in points.values()], "o-", color="tab:blue")
left.set(title="accuracy on 450 test digits", ylabel="%", ylim=(0, 105))
right.plot(percent, [1e9 * point.energy for point in points.values()], "o-", color="tab:blue", label="energy per digit")
right.set(title="energy, and the rate that was kept", ylabel="nJ per digit")
right.set_ylim(0, 1.15e9 * max(point.energy for point in points.values()))
rates = right.twinx()
rates.plot(
    percent, [100 * point.rate for point in points.values()], "s--", color="tab:orange", label="rate, test digits"
)
rates.plot(percent, [100 * point.rate_on_lava for point in points.values()], "x", color="black", label="rate, on Lava")
rates.plot(percent, percent, ":", color="grey", label="budget")
rates.set(ylabel="hidden rate in %", yscale="log", ylim=(0.2, 10))
for axis in (left, right):
    axis.set(xscale="log", xlabel="budget in %")
    axis.set_xticks(percent, [f"{value:g}" for value in percent])
    axis.minorticks_off()
    axis.invert_xaxis()
figure.legend(
    *(a + b for a, b in zip(right.get_legend_handles_labels(), rates.get_legend_handles_labels(), strict=True)),
    loc="outside lower right",
    ncols=4,
    frameon=False,
)
figure.savefig(directory / "sparsity.png", dpi=110)
print("open", directory / "sparsity.png")

# %%
for budget, point in points.items():
    assert point.rate < budget
    assert point.rate_on_lava < budget
assert points[0.08].accuracy > 0.9
assert points[0.08].accuracy > points[0.005].accuracy
assert points[0.005].energy < points[0.08].energy
