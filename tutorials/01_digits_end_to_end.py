# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Handwritten digits, end to end
#
# Train a spiking network with a loss and an event-rate budget, export it to a netx file, run the file on Lava's
# simulator, and prove that every spike is where it was in training. This is what `netx-export demo` does, step by step.
#
# Open it as a notebook with `jupytext --to notebook 01_digits_end_to_end.py`, or run it as a script. It needs
# `pip install '.[demo]'` on Python 3.10.

# %%
from pathlib import Path
from tempfile import mkdtemp

import torch
from lava.lib.dl.slayer.block import cuba

from lava_spikeloss import SparsityEnforcer, SpikeRate
from netx_export import export, simulate, verify
from netx_export.command.demo import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
directory = Path(mkdtemp(prefix="digits-"))

# %% [markdown]
# ## The data
#
# Scikit-learn's scans of handwritten digits, 8 by 8 pixels. Each pixel becomes a train of evenly spaced spikes over 32
# steps, one per step where the ink is full. Spikes are tensors `(N, C, T)`, time last.

# %%
digits = load_digits()
print(digits.train_spikes.shape, digits.test_spikes.shape)
print("one sample, one row of pixels, the first 16 steps:")
print(digits.train_spikes[0, 32:40, :16].int().numpy())

# %% [markdown]
# ## The network
#
# Two of SLAYER's CUBA blocks. Weights are rounded to what Loihi can hold in every forward pass, so the network trains
# with the numbers that will be exported.

# %%
neuron = {"threshold": 1.25, "current_decay": 1.0, "voltage_decay": 0.1, "scale_grad": 3.0}
net = torch.nn.Sequential(
    cuba.Dense(neuron, 64, 128, weight_norm=True, weight_scale=2),
    cuba.Dense(neuron, 128, 10, weight_norm=True, weight_scale=2),
)

# %% [markdown]
# ## The loss, and the budget
#
# `SpikeRate` asks the neuron of the right class to fire in 70 % of the steps and the others in 2 %. The enforcer
# watches the hidden block and adds a penalty where its mean event rate is above 2.7 %, a bit below the budget of 3 %.

# %%
BUDGET = 0.03
loss_function = SpikeRate(true_rate=0.7, false_rate=0.02)
enforcer = SparsityEnforcer(max_rate=0.9 * BUDGET, lam=1000.0).attach(net, exclude=["1"])
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

for epoch in range(8):
    right = 0
    for batch in torch.randperm(len(digits.train_labels)).split(32):
        spikes, labels = digits.train_spikes[batch], digits.train_labels[batch]
        output = net(spikes)
        loss = loss_function(output, labels) + enforcer.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right += int((output.sum(-1).argmax(1) == labels).sum())
    print(f"epoch {epoch}: {right / len(digits.train_labels):.1%} of the training digits right")
enforcer.detach()

# %% [markdown]
# ## Export
#
# Give `export` a sample: it reads the file back, runs it on the reference simulator and compares every spike of every
# layer with the network. If one differed, it would say which, and write nothing.

# %%
result = export(net, directory / "digits.net", sample=digits.test_spikes[:16], budget=BUDGET)
print(result.description)
print("proved on the sample:", result.proved)

# %% [markdown]
# ## Simulate
#
# The reference simulator runs the whole test set at once. `backend="lava"` runs the stock `netx.hdf5.Network` on Lava's
# fixed-point simulator in a process of its own, and lines its spikes up with SLAYER's.

# %%
reference = simulate(result.path, digits.test_spikes)
on_lava = simulate(result.path, digits.test_spikes[:5], backend="lava")
print("equal:", (reference.output[:5] == on_lava.output).all())

# %% [markdown]
# ## Verify
#
# All test digits in SLAYER against the reference, and 30 of them against Lava. The HTML report shows the rasters side
# by side, the event rates against the budget, and the verdict.

# %%
report = verify(net, result.path, digits.test_spikes, digits.test_labels, lava_samples=30)
for layer in report.layers:
    print(f"{layer.name}: {layer.got.rate:.2%} of steps with a spike in Lava, {layer.differing} spikes differ")
report.save_html(directory / "report.html")
print("open", directory / "report.html")

# %%
assert report.passed
assert report.layers[0].got.rate < BUDGET
