# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # When verification fails
#
# Five exports that went wrong, and how to read what `verify` says about each. All five faults are made on purpose; all
# of them happen without an error message if nobody compares the spikes. The last section repairs what can be repaired,
# and ends with a network that is equal on Lava.
#
# It needs `pip install '.[demo]'` on Python 3.10.

# %%
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import torch
from lava.lib.dl.slayer.block import cuba

from lava_spikeloss import SpikeRate
from netx_export import ExportError, VerificationReport, export, simulate, verify
from netx_export.command.demo import load_digits
from netx_export.verification.result import Cause

torch.manual_seed(0)
torch.set_num_threads(1)
directory = Path(mkdtemp(prefix="failing-"))

# %% [markdown]
# ## A network that works
#
# Two blocks, trained for two passes over scikit-learn's digits. It is exported while it is whole.

# %%
digits = load_digits()
spikes, labels = digits.test_spikes[:48], digits.test_labels[:48]
neuron = {"threshold": 1.25, "current_decay": 1.0, "voltage_decay": 0.1, "scale_grad": 3.0}
net = torch.nn.Sequential(
    cuba.Dense(neuron, 64, 48, weight_norm=True, weight_scale=2),
    cuba.Dense(neuron, 48, 10, weight_norm=True, weight_scale=2),
)
loss_function = SpikeRate(true_rate=0.7, false_rate=0.02)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)


def train(epochs: int) -> None:
    for _ in range(epochs):
        for batch in torch.randperm(len(digits.train_labels)).split(32):
            loss = loss_function(net(digits.train_spikes[batch]), digits.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


train(2)
path = export(net, directory / "digits.net", sample=spikes[:8]).path

# %% [markdown]
# ## How to read a report
#
# A report holds comparisons: SLAYER against the reference simulator, and the reference against Lava or a recording.
# Read them in this order:
#
# 1. `report.comparisons`: the first that did not pass says between which two runs the spikes changed.
# 2. `cause.layer` and `cause.place`: the first layer that differs, and its earliest difference. What comes later, and
#    in later layers, follows from it.
# 3. `cause.name` and `cause.detail`: what was tried, and what gives exactly the other run's spikes. If nothing does,
#    the name is "not found", and no cause is made up.
# 4. `cause.steps`, `expected_membrane`, `got_membrane`: what the neuron's membrane did around that step.


# %%
def read_out(report: VerificationReport) -> Cause | None:
    failed = next(comparison for comparison in report.comparisons if not comparison.passed)
    print(f"{failed.expected} against {failed.got}, {failed.samples} samples: FAILED")
    for layer in failed.layers:
        print(f"  {layer.name}: {layer.status}, {layer.differing} differ of {layer.expected_spikes} spikes")
    cause = failed.cause
    if cause is None:
        return None
    print(f"  cause: {cause.name}. {cause.detail}")
    if cause.place is not None:
        print(f"  first in {cause.layer}, {cause.place}")
    return cause


# %% [markdown]
# ## 1. Trained on after the export
#
# The commonest one: the file is older than the network. Both of them classify digits; they are two networks all the
# same.

# %%
train(1)
report = verify(net, path, spikes, labels, lava_samples=0)
stale = read_out(report)
output = report.comparisons[0].output
print(f"accuracy in SLAYER {output.expected_accuracy:.1%}, from the file {output.got_accuracy:.1%}")
assert stale.name == "file differs from the network"

# %% [markdown]
# Accuracies do not tell: here the older network may well be the better one on these few digits. The detail says how
# many weights differ, and which is the first. What to do: export again, after the last step of the optimizer.

# %%
path = export(net, directory / "digits.net", sample=spikes[:8]).path
assert verify(net, path, spikes, lava_samples=0).passed

# %% [markdown]
# ## 2. A current that wraps
#
# Loihi keeps a synaptic current in 24 bits. A neuron with many strong inputs and a slow current can go past the end,
# and comes out at the other end with the other sign. SLAYER has no such end. Here the sample given to `export` is two
# steps long: enough for a spike, so that there is something to prove, and too short for the current to go that far.

# %%
slow = torch.nn.Sequential(cuba.Dense({"threshold": 1.0, "current_decay": 0.001, "voltage_decay": 0.5}, 400, 2))
with torch.no_grad():
    slow[0].synapse.weight[0] = -3.9
    slow[0].synapse.weight[1] = 3.9
busy = torch.ones(2, 400, 30)
export(slow, directory / "slow.net", sample=busy[..., :2])
wrapped = read_out(verify(slow, directory / "slow.net", busy, lava_samples=0))
assert wrapped.name == "wrapped current"

# %% [markdown]
# The membranes show it: SLAYER's goes on, that of the file jumps to the other sign. What to do: a larger
# `current_decay`, smaller weights, fewer inputs that fire at once; and give `export` samples as long and as busy as
# those of the application. `netx_export.check(net, sample=...)` warns of it too.

# %%
for step, in_slayer, in_file in zip(wrapped.steps, wrapped.expected_membrane, wrapped.got_membrane, strict=True):
    print(f"step {step:2d}: {in_slayer:15,.0f} in SLAYER {in_file:15,.0f} from the file")

# %% [markdown]
# ## 3. Dropout that is always on
#
# A network of one's own that calls `dropout(..., training=True)` between its layers, so that `net.eval()` has no
# effect. The file holds no dropout.


# %%
class Dropping(torch.nn.Module):
    def __init__(self, blocks: torch.nn.Module) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.dropout(self.blocks[0](x), 0.2, training=True)
        return self.blocks[1:](hidden * 0.8)


dropping = read_out(verify(Dropping(net), path, spikes, lava_samples=0))
assert dropping.name == "dropout left in training mode"

# %% [markdown]
# What to do: `torch.nn.Dropout`, or `training=self.training`, and `net.eval()`.

# %% [markdown]
# ## 4. A machine that was not reset between samples
#
# Somebody ran the file elsewhere, one sample after the other in one endless stream, and sent a recording of the first
# layer. `verify(..., recorded=...)` compares it. The machine is played by the reference simulator here: all samples in
# one long one, cut apart afterwards. A layer's spikes arrive one step after they were made, so they are moved back by
# that step before the cut, and forward after it.

# %%
stream = torch.cat(list(spikes), dim=-1)[None]
STEPS = spikes.shape[-1]
made = simulate(path, torch.nn.functional.pad(stream, (0, 1))).layers["dense1"][0, :, 1:]
recorded = np.zeros((len(spikes), len(made), STEPS), dtype=made.dtype)
recorded[..., 1:] = np.stack(np.split(made, len(spikes), axis=-1))[..., :-1]
carried = read_out(verify(net, path, spikes, recorded={"dense1": recorded}))
assert carried.name == "state carried over from an earlier batch"
assert carried.place.sample > 0  # the first sample has nothing before it

# %% [markdown]
# The first sample is right, and some later one is not: state leaks from one into the next. What to do: reset the
# neurons before each sample, or leave enough empty steps between them.

# %% [markdown]
# ## 5. A layer that proves nothing
#
# With a threshold that is never reached no neuron spikes. SLAYER and the file agree on nothing at all, and no layer
# behind it is tested either. That is no proof: `export` refuses it unless the silent layers are named, and then proves
# nothing; and the report does not pass, it says `untested`.

# %%
dead = torch.nn.Sequential(cuba.Dense({**neuron, "threshold": 60.0}, 64, 48), cuba.Dense(neuron, 48, 10))
try:
    export(dead, directory / "dead.net", sample=spikes[:8])
except ExportError as error:
    print(error)
silent = ["dense1", "dense2", "output"]
assert not export(dead, directory / "dead.net", sample=spikes[:8], allow_silent=silent).proved
report = verify(dead, directory / "dead.net", spikes, lava_samples=0)
assert read_out(report) is None
assert report.exact
assert not report.passed
assert [layer.status for layer in report.layers] == ["untested", "untested"]

# %% [markdown]
# What to do: lower the threshold or raise the starting weights (`lava_spikeloss.training.firing_rate_`), and give
# samples that make every layer spike.

# %% [markdown]
# ## The pictures
#
# Left, the recording that was not reset: spikes of one sample, in black where both runs have them. Right, the membrane
# of the wrapped current. `report.save_html(...)` draws the same for every layer.

# %%
comparison = verify(None, path, spikes, recorded={"dense1": recorded}).comparisons[0]
layer = comparison.layers[0]
expected, got = set(layer.raster.expected), set(layer.raster.got)
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for places, colour, words in (
    (expected & got, "black", "both"),
    (expected - got, "tab:orange", "missing in the recording"),
    (got - expected, "tab:red", "only in the recording"),
):
    rows, steps = zip(*sorted(places), strict=True) if places else ((), ())
    left.scatter(steps, rows, marker="s", s=9, color=colour, label=f"{words}: {len(places)}")
left.set(title=f"state carried over: sample {layer.raster.sample}", xlabel="step", ylabel="neuron")
left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, frameon=False, fontsize="small")
right.plot(wrapped.steps, wrapped.expected_membrane, "o-", color="black", label="SLAYER")
right.plot(wrapped.steps, wrapped.got_membrane, "s-", color="tab:red", label="from the file")
right.axhline(0, color="grey", linewidth=0.6)
right.set(title="wrapped current: the membrane", xlabel="step", ylabel="chip's units")
right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize="small")
figure.savefig(directory / "failing.png", dpi=110)
print("open", directory / "failing.png")

# %% [markdown]
# ## And a report that passes
#
# The network of the beginning, exported after its training, in evaluation mode, from rest, on samples that make every
# layer spike. Ten of them run on Lava.

# %%
report = verify(net, path, spikes, labels, lava_samples=10)
for comparison in report.comparisons:
    differing = sum(layer.differing for layer in comparison.layers)
    print(f"{comparison.expected} against {comparison.got}, {comparison.samples} samples: {differing} differ")
report.save_html(directory / "report.html")
assert report.passed
assert report.exact
