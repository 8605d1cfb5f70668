# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Spike-train regression: a network that draws a photograph
#
# In the manner of lava-dl's Oxford example: noise comes in, and the output spikes draw a picture. Here the picture is
# one of the two photographs that lie inside scikit-learn, the flower. Each output neuron is a row of pixels, each time
# step a column, and a spike is a bright dot. The loss is `SpikeTime`, the van Rossum distance to the wished-for raster.
#
# It needs `pip install '.[demo]'` on Python 3.10.

# %%
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import torch
from lava.lib.dl.slayer.block import cuba
from sklearn.datasets import load_sample_image

from lava_spikeloss import SpikeTime
from lava_spikeloss.functional import van_rossum_distance
from netx_export import export, simulate, verify

torch.manual_seed(0)
torch.set_num_threads(1)
directory = Path(mkdtemp(prefix="photograph-"))

# %% [markdown]
# ## The photograph as a raster
#
# Grey, cut to a square, averaged down to 80 rows of 160 columns: time is cheaper than neurons. Each pixel is rounded to
# a spike or none, and what was rounded off goes to the pixels beside it, as in a newspaper (Floyd and Steinberg). The
# first steps stay empty, since a spike takes one step through each block.

# %%
ROWS, STEPS, LEAD = 80, 160, 4
photograph = load_sample_image("flower.jpg").mean(-1) / 255
photograph = photograph[:400, 120:520]
grey = photograph.reshape(ROWS, 400 // ROWS, -1).mean(1)
columns = np.linspace(0, 400, STEPS - LEAD + 1).astype(int)
grey = np.stack([grey[:, a:b].mean(1) for a, b in pairwise(columns)], axis=-1)


def dithered(brightness: np.ndarray) -> np.ndarray:
    left = np.pad(brightness, ((0, 1), (1, 1))).copy()
    spikes = np.zeros_like(brightness)
    for row, column in np.ndindex(brightness.shape):
        value = left[row, column + 1]
        spikes[row, column] = value > 0.5
        error = value - spikes[row, column]
        left[row, column + 2] += error * 7 / 16
        left[row + 1, column : column + 3] += error * np.array([3, 5, 1]) / 16
    return spikes


bright = (grey - grey.min()) / (grey.max() - grey.min())
raster = np.pad(dithered(0.6 * bright), ((0, 0), (LEAD, 0)))
target = torch.tensor(raster[None], dtype=torch.float32)
print(f"{int(target.sum())} spikes to draw, {target.mean():.1%} of all dots")

# %% [markdown]
# ## The input, and the network
#
# 200 trains of noise, always the same ones. The hidden block's 256 neurons are slow enough to overlap in time; the
# output block puts together a row from them.

# %%
noise = (torch.rand(1, 200, STEPS) < 0.05).float()
hidden = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.1, "tau_grad": 0.5, "scale_grad": 1.0}
output = {**hidden, "current_decay": 0.5, "voltage_decay": 0.3}
net = torch.nn.Sequential(
    cuba.Dense(hidden, 200, 256, weight_norm=True, weight_scale=4),
    cuba.Dense(output, 256, ROWS, weight_norm=True, weight_scale=4),
)

# %% [markdown]
# ## Training
#
# One sample, so one step of Adam per pass. `SpikeTime` filters both rasters with an exponential and compares them at
# every step, so that a spike at nearly the right place is nearly right. How far the raster is from the goal is told by
# the van Rossum distance per row, which is a square root of such a loss, without the cut at `length`.

# %%
PASSES = 300
TAU = 3.0
loss_function = SpikeTime(time_constant=TAU, length=30)
optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, PASSES)


def distance(drawn: torch.Tensor) -> float:
    return van_rossum_distance(drawn, target, TAU).mean().item()


curve = []
for index in range(PASSES):
    drawn = net(noise)
    loss = loss_function(drawn, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    curve.append(loss.item())
    if index == 0:
        at_start = drawn.detach()
    if index % 50 == 0:
        print(f"pass {index:3d}: loss {loss.item():8.1f}, van Rossum distance per row {distance(drawn.detach()):.2f}")
net.eval()
with torch.no_grad():
    drawn = net(noise)
silence = torch.zeros_like(target)
print(f"van Rossum distance per row: {distance(drawn):.2f}; of an empty picture {distance(silence):.2f}")

# %% [markdown]
# ## Export, and draw it on Lava

# %%
path = export(net, directory / "photograph.net", sample=noise).path
on_lava = simulate(path, noise, backend="lava").output
report = verify(net, path, noise, lava_samples=1)
print("every spike is equal on Lava:", report.exact)
assert (on_lava == drawn.numpy()).all()

# %% [markdown]
# ## The picture
#
# A bright dot is a spike. The fifth is what Lava drew, seen from some way off: blurred over a few dots, as the eye
# does.


# %%
def blurred(dots: np.ndarray) -> np.ndarray:
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    kernel /= kernel.sum()
    across = np.apply_along_axis(np.convolve, 1, dots, kernel, "same")
    return np.apply_along_axis(np.convolve, 0, across, kernel[3:-3] / kernel[3:-3].sum(), "same")


pictures = {
    "the photograph": np.pad(bright, ((0, 0), (LEAD, 0))),
    "as a raster": raster,
    "before training": at_start[0].numpy(),
    "drawn by the network, on Lava": on_lava[0],
    "the same, from far off": blurred(on_lava[0].astype(float)),
}
figure, axes = plt.subplots(2, 3, figsize=(12, 8), layout="constrained")
for axis, (title, dots) in zip(axes.flat[: len(pictures)], pictures.items(), strict=True):
    axis.imshow(dots, cmap="gray", aspect=STEPS / ROWS, interpolation="nearest")
    axis.set(title=title, xlabel="step", ylabel="output neuron")
axes[1, 2].semilogy(curve)
axes[1, 2].set(title="loss", xlabel="pass")
figure.savefig(directory / "photograph.png", dpi=110)
print("open", directory / "photograph.png")

# %%
alike = np.corrcoef(blurred(on_lava[0].astype(float)).ravel(), blurred(raster).ravel())[0, 1]
print(f"correlation of the two rasters, seen from far off: {alike:.2f}")
assert report.passed
assert curve[-1] < curve[0] / 2
assert distance(drawn) < 0.8 * distance(silence)
assert alike > 0.7
