# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # YOLO-KP: from trained weights to a proved file
#
# lava-dl ships a trained object detector: YOLO-KP, a sigma-delta network for an eight-chip Loihi 2 board. Here its
# weights are taken out of the installed wheel, run on windows that move over photographs, exported, verified, and asked
# what a higher threshold would save.
#
# It needs `pip install '.[demo]'` on Python 3.10.

# %%
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import torch
from lava.lib.dl.slayer.object_detection.models import yolo_kp
from sklearn.datasets import load_sample_images
from torch.nn.functional import interpolate

from lava_spikeloss.training import load
from netx_export import ExportError, export, simulate, verify

torch.set_num_threads(1)
directory = Path(mkdtemp(prefix="yolo-"))

# %% [markdown]
# ## The network
#
# Its own `forward` does more than its blocks: it normalises the image before, counts events between, and makes boxes
# behind, and on a CPU it fails (it takes `abs` of a bool). A file holds the blocks and the head, a synapse and a
# `dendrite.Sigma` that sums up what arrives. So they get a module of their own.
#
# SLAYER makes the norms' means at the first forward in training; `load` gives them the shape that they have in the
# file.


# %%
class YoloKP(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        whole = yolo_kp.Network()
        self.input_blocks, self.blocks, self.heads = whole.input_blocks, whole.blocks, whole.heads
        load(Path(yolo_kp.__file__).parent / "Trained_yolo_kp" / "network.pt", whole)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        for block in (*self.input_blocks, *self.blocks, *self.heads):
            frames = block(frames)
        return frames


net = YoloKP().eval()
print(f"{sum(parameter.numel() for parameter in net.parameters()):,} parameters")

# %% [markdown]
# ## The data
#
# Windows of 96 x 96 pixels that move over scikit-learn's two photographs, a pixel to the right in each step, normalised
# as YOLO-KP does it. Nothing moves in them but the window: even so, every pixel may change a little in every step.

# %%
SIZE, STEPS = 96, 16
MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1, 1)


def moving_window(photograph: torch.Tensor) -> torch.Tensor:
    small = interpolate(photograph[None], (128, 192), mode="bilinear", antialias=True)[0]
    window = torch.stack([small[:, 16 : 16 + SIZE, 20 + step : 20 + step + SIZE] for step in range(STEPS)], -1)
    return (window - MEAN) / DEVIATION


photographs = [torch.tensor(image).permute(2, 0, 1) / 255 for image in load_sample_images().images]
frames = torch.stack([moving_window(photograph) for photograph in photographs])
print("frames", tuple(frames.shape))

# %% [markdown]
# ## Export and verify
#
# `export` folds weight norm and the norms' means into weights and biases, reads the head as an output layer, and writes
# the file only if it does on the frames what SLAYER does, in every number. `verify` compares again, and the file with
# Lava's own simulator: on a window of 32 x 32 pixels, since Lava's convolutions take long.

# %%
result = export(net, directory / "yolo_kp.net", sample=frames)
print(result.description)
print("proved:", result.proved)
report = verify(net, result.path, frames, lava_samples=0)
values = sum(layer.neurons for layer in report.layers) * len(frames) * STEPS
print(f"{values:,} values, of which {sum(layer.differing for layer in report.layers)} differ")

corner = frames[:1, :, 32:64, 32:64, :2]
on_lava = verify(None, export(YoloKP().eval(), directory / "corner.net", sample=corner).path, corner, lava_samples=1)
print("on Lava:", "every value is equal" if on_lava.exact else "FAILED")

# %% [markdown]
# ## What it cannot hold
#
# On Lava, a convolution's sum of one step has 24 bits: 32 in SLAYER's scale. Beyond, it wraps. On photographs the head
# stays below; on an even bright image, of which all pixels arrive in the first step, it does not. That is no rounding,
# and no `tolerance` lets it through.

# %%
try:
    export(YoloKP().eval(), directory / "even.net", sample=torch.full((1, 3, SIZE, SIZE, 2), 2.0), tolerance=1.0)
except ExportError as error:
    print(error)
else:
    raise AssertionError("the head's sums wrap, and that should have been refused")

# %% [markdown]
# ## Messages, layer by layer
#
# A neuron sends a message when its value has changed by at least its threshold, 6/64 in every layer here. In the first
# step everything is new. Later, only what changed: the share of neurons that send is the work that is left.

# %%
THRESHOLD = 6 / 64


def messages(file: Path) -> dict[str, torch.Tensor]:
    """The share of a layer's neurons that send, in each step."""
    layers = simulate(file, frames).layers
    hidden = list(layers)[:-1]  # the head sums up, and sends nothing
    return {name: torch.from_numpy(layers[name] != 0).double().mean((0, 1, 2, 3)) for name in hidden}


shares = messages(result.path)
print("layer   first step   later steps")
for name, share in shares.items():
    print(f"{name:7} {share[0]:9.1%} {share[1:].mean():12.1%}")

# %% [markdown]
# ## What a higher threshold would save
#
# All thresholds together times 1, 2 and 4, each network exported and verified anew. What is saved are synaptic
# operations: messages times the synapses that each arrives at. What it costs is seen in the head: of all boxes that it
# judges, how far the confidence moves, and how many keep the class that is most likely.
#
# A file holds thresholds in steps of 1/64: `netx_export.round_parameters` rounds others. These need no rounding.


# %%
def with_threshold(factor: int) -> YoloKP:
    changed = YoloKP().eval()
    with torch.no_grad():
        for block in (*changed.input_blocks, *changed.blocks):
            block.neuron.delta.threshold.fill_(factor * THRESHOLD)
    return changed


def judged(head: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Confidence and most likely class of each box in each step: three boxes a place, of 5 + 80 numbers each."""
    boxes = head.unflatten(1, (3, 85))
    return boxes[:, :, 4].sigmoid(), boxes[:, :, 5:].argmax(2)


costs = {}
with torch.no_grad():
    confidence, label = judged(net(frames))
print("threshold   messages   operations a step   confidence moves   class kept")
for factor in (1, 2, 4):
    candidate = with_threshold(factor)
    path = export(candidate, directory / f"times{factor}.net", sample=frames).path
    checked = verify(candidate, path, frames, lava_samples=0)
    assert checked.exact
    operations = sum(layer.got.synops for layer in checked.layers) / STEPS
    sent = torch.stack(list(messages(path).values())).mean()
    with torch.no_grad():
        other_confidence, other_label = judged(candidate(frames))
    moved, kept = (other_confidence - confidence).abs().mean(), (other_label == label).double().mean()
    costs[factor] = operations
    print(f"{factor * 6:6}/64 {sent:11.1%} {operations:19,.0f} {moved:18.4f} {kept:12.1%}")

# %% [markdown]
# Twice the threshold saves almost half of the operations, four times three quarters, and both move what the head says.
# Without labels this says how far the detector moves from itself, not how well it detects. To know that, evaluate the
# network with the higher threshold on labelled data, or train it on with it: thresholds are parameters.
#
# ## The picture
#
# Left, a window in its first and its last step. Right, the share of neurons that send, in each layer and step.

# %%
figure = plt.figure(figsize=(11, 4), layout="constrained")
grid = figure.add_gridspec(2, 2, width_ratios=(1, 3))
for row, step in enumerate((0, STEPS - 1)):
    axis = figure.add_subplot(grid[row, 0])
    axis.imshow((frames[0, ..., step] * DEVIATION[..., 0] + MEAN[..., 0]).permute(1, 2, 0).clamp(0, 1))
    axis.set(title=f"step {step}", xticks=[], yticks=[])
axis = figure.add_subplot(grid[:, 1])
for name, share in shares.items():
    axis.plot(100 * share, "o-", markersize=3, label=name)
axis.set(xlabel="step", ylabel="neurons that send, in %", ylim=(0, None))
axis.legend(frameon=False, ncols=3)
figure.savefig(directory / "messages.png", dpi=110)
print("open", directory / "messages.png")

# %%
assert result.proved
assert report.exact
assert on_lava.exact
assert costs[4] < costs[2] < costs[1]
