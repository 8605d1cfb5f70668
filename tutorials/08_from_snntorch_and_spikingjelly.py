# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # From snnTorch or SpikingJelly
#
# The training code you know, beside ours, step by step. Theirs is shown as text, in the way their tutorials write it,
# and is not run here; ours runs from top to bottom and ends verified on Lava.
#
# It needs `pip install '.[demo]'` on Python 3.10. Neither snnTorch nor SpikingJelly is needed.

# %%
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch
from lava.lib.dl.slayer.block import cuba

from lava_spikeloss import CECountLoss, RateClassifier, TimeFirst
from lava_spikeloss.classifiers import accuracy
from netx_export import export, verify
from netx_export.command.demo import load_digits

torch.manual_seed(0)
torch.set_num_threads(1)
directory = Path(mkdtemp(prefix="coming-from-"))
digits = load_digits()

# %% [markdown]
# ## 1. Time goes last
#
# | snnTorch, SpikingJelly | here |
# |---|---|
# | `spikes.shape == (T, N, 64)` | `spikes.shape == (N, 64, T)` |
#
# If your data is `(T, N, C)`, one line moves the axis; the way back is the same with its arguments swapped.

# %%
time_first = digits.train_spikes[:5].movedim(-1, 0)  # as you have it
time_last = time_first.movedim(0, -1)  # as SLAYER wants it
print(tuple(time_first.shape), "becomes", tuple(time_last.shape))
assert torch.equal(time_last, digits.train_spikes[:5])

# %% [markdown]
# ## 2. The network: decays, not factors
#
# snnTorch:
#
# ```python
# class Net(nn.Module):
#     def __init__(self):
#         super().__init__()
#         self.fc1 = nn.Linear(64, 64, bias=False)
#         self.lif1 = snn.Leaky(beta=0.9, threshold=1.25, reset_mechanism="zero")
#         self.fc2 = nn.Linear(64, 10, bias=False)
#         self.lif2 = snn.Leaky(beta=0.9, threshold=1.25, reset_mechanism="zero")
# ```
#
# SpikingJelly:
#
# ```python
# net = nn.Sequential(
#     layer.Linear(64, 64, bias=False),
#     neuron.LIFNode(tau=10.0, decay_input=False, v_threshold=1.25, v_reset=0.0),
#     layer.Linear(64, 10, bias=False),
#     neuron.LIFNode(tau=10.0, decay_input=False, v_threshold=1.25, v_reset=0.0),
# )
# functional.set_step_mode(net, "m")
# ```
#
# Ours: a block is synapse and neuron in one. `beta=0.9` and `tau=10` are both `voltage_decay=0.1`. Their neurons have
# no synaptic current, so it decays at once: `current_decay=1.0`. The width of the surrogate gradient is an argument of
# the neuron (`tau_grad`, `scale_grad`) instead of a `spike_grad` or `surrogate_function`. The two are the same neuron
# on paper, not spike for spike: weights are rounded to what Loihi holds, and a block's spikes come out one step later.

# %%
neuron = {"threshold": 1.25, "current_decay": 1.0, "voltage_decay": 0.1, "scale_grad": 3.0}
net = torch.nn.Sequential(
    cuba.Dense(neuron, 64, 64, weight_norm=True, weight_scale=2),
    cuba.Dense(neuron, 64, 10, weight_norm=True, weight_scale=2),
)

# %% [markdown]
# ## 3. The forward: no loop over time, nothing to reset
#
# snnTorch:
#
# ```python
# def forward(self, spikes):
#     mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
#     record = []
#     for step in range(spikes.shape[0]):
#         spk1, mem1 = self.lif1(self.fc1(spikes[step]), mem1)
#         spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
#         record.append(spk2)
#     return torch.stack(record)
# ```
#
# SpikingJelly:
#
# ```python
# output = net(spikes)
# functional.reset_net(net)
# ```
#
# Ours runs the whole sequence, and these blocks start every batch at rest. (Recurrent blocks do not by themselves:
# `lava_spikeloss.training.set_step_mode(net, "m")` sees to it.)

# %%
with torch.no_grad():
    output = net(time_last)
    assert torch.equal(net(time_last), output)
print("output", tuple(output.shape))

# %% [markdown]
# ## 4. The loss has its old name
#
# | snnTorch | SpikingJelly | here |
# |---|---|---|
# | `SF.ce_rate_loss()` | | `CERateLoss()` |
# | `SF.ce_count_loss()` | `F.cross_entropy(output.sum(0), y)` | `CECountLoss()` |
# | `SF.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)` | | `MSECountLoss(correct_rate=0.8, incorrect_rate=0.2)` |
# | | `functional.temporal_efficient_training_cross_entropy(output, y)` | `TETLoss()` |
#
# `TimeFirst` wraps a loss for tensors `(T, N, C)`. The `temperature` is an addition: 1 gives snnTorch's values, and 4
# keeps a gradient where counts differ by many.

# %%
loss_function = CECountLoss(temperature=4.0)
labels = digits.train_labels[:5]
loss = loss_function(output, labels)
assert torch.equal(TimeFirst(loss_function)(output.movedim(-1, 0), labels), loss)

# %% [markdown]
# ## 5. The training loop
#
# The same in all three, but for the shape. snnTorch:
#
# ```python
# for spikes, labels in loader:          # (T, N, 64)
#     output = net(spikes)               # (T, N, 10)
#     loss = loss_function(output, labels)
#     optimizer.zero_grad()
#     loss.backward()
#     optimizer.step()
# print(SF.accuracy_rate(net(test_spikes), test_labels))
# ```

# %%
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
curve = []
for epoch in range(5):
    for batch in torch.randperm(len(digits.train_labels)).split(32):
        output = net(digits.train_spikes[batch])
        loss = loss_function(output, digits.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        result = accuracy(RateClassifier()(net(digits.test_spikes)), digits.test_labels)
    curve.append(result.rate)
    print(f"epoch {epoch}: {result.rate:.1%} of the test digits right, {result.silent} outputs silent")

# %% [markdown]
# ## 6. What they do not have: a file for Lava, with a proof
#
# A silent output counts as wrong here; `argmax` of a silent output would be class 0, and right in one of ten.

# %%
path = export(net, directory / "network.net", sample=digits.test_spikes[:8]).path
report = verify(net, path, digits.test_spikes, digits.test_labels, lava_samples=10)
for comparison in report.comparisons:
    differing = sum(layer.differing for layer in comparison.layers)
    print(f"{comparison.expected} against {comparison.got}, {comparison.samples} samples: {differing} spikes differ")

# %% [markdown]
# ## The picture
#
# One test digit: what comes in, what the two layers do on Lava, and the accuracy over the epochs.

# %%
figure, axes = plt.subplots(1, 4, figsize=(12, 3.6), layout="constrained")
comparison = report.comparisons[-1]
sample = comparison.layers[0].raster.sample
axes[0].imshow(digits.test_spikes[sample].sum(-1).reshape(8, 8), cmap="gray_r")
axes[0].set(title=f"a {int(digits.test_labels[sample])}, spikes per pixel", xticks=[], yticks=[])
for axis, layer in zip(axes[1:3], comparison.layers, strict=True):
    rows, steps = zip(*layer.raster.got, strict=True)
    axis.scatter(steps, [layer.raster.neurons[row] for row in rows], marker="|", s=14, color="black")
    axis.set(title=f"{layer.name} on Lava", xlabel="step", ylabel="neuron")
axes[3].plot(range(1, len(curve) + 1), [100 * value for value in curve], "o-")
axes[3].set(title="test accuracy in %", xlabel="epoch", ylim=(0, 105))
figure.savefig(directory / "coming_from.png", dpi=110)
print("open", directory / "coming_from.png")

# %%
assert report.passed
assert curve[-1] > 0.85
