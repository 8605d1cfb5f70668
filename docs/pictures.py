"""Draws the loss gallery's pictures from the losses themselves: python docs/pictures.py

Each picture shows value (line) and gradient (dashed) of a loss against the one thing that it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import torch

mpl.use("Agg")
from matplotlib import pyplot as plt

import lava_spikeloss as ls
from lava_spikeloss import functional

FOLDER = Path(__file__).parent / "images" / "losses"
STEPS = 20
LABEL = torch.tensor([0])


@dataclass
class Picture:
    """A loss as a function of one number.

    Attributes:
        name: class of the loss, or name of the function.
        axis: what the number is.
        inputs: the number's values.
        make: the loss's input for one value, as a leaf that takes a gradient, and the loss of it.
        gradient: which part of the gradient to draw, summed up; None for no gradient.
    """

    name: str
    axis: str
    inputs: Sequence[float]
    make: Callable[[float], tuple[torch.Tensor, torch.Tensor]]
    gradient: Callable[[torch.Tensor], torch.Tensor] | None = None
    note: str = ""


def trains(counts: Sequence[int], steps: int = STEPS) -> torch.Tensor:
    """Evenly spaced spikes ``(1, C, T)``, so many per class."""
    until = torch.tensor(counts).unsqueeze(-1) * torch.arange(steps + 1) / steps
    return (until + 0.5).floor().diff(dim=-1).unsqueeze(0).float().requires_grad_()


def at(times: Sequence[int], steps: int = STEPS) -> torch.Tensor:
    """One spike ``(1, C, T)`` per class at its time."""
    spikes = torch.zeros(1, len(times), steps)
    for index, time in enumerate(times):
        spikes[0, index, time] = 1
    return spikes.requires_grad_()


def count(loss: Callable[..., torch.Tensor], others: int = 5) -> Callable[[float], tuple[torch.Tensor, torch.Tensor]]:
    def make(value: float) -> tuple[torch.Tensor, torch.Tensor]:
        spikes = trains([int(value), others, others])
        return spikes, loss(spikes, LABEL)

    return make


def time(loss: Callable[..., torch.Tensor]) -> Callable[[float], tuple[torch.Tensor, torch.Tensor]]:
    def make(value: float) -> tuple[torch.Tensor, torch.Tensor]:
        spikes = at([int(value), 10, 10])
        return spikes, loss(spikes, LABEL)

    return make


def membrane(loss: Callable[..., torch.Tensor], row: int = 0) -> Callable[[float], tuple[torch.Tensor, torch.Tensor]]:
    def make(value: float) -> tuple[torch.Tensor, torch.Tensor]:
        potential = torch.full((1, 3, STEPS), 0.2)
        potential[0, row] = value
        potential.requires_grad_()
        return potential, loss(potential, LABEL)

    return make


def of_label(gradient: torch.Tensor) -> torch.Tensor:
    return gradient[0, 0].mean()


COUNTS = range(STEPS + 1)
LABEL_COUNT = "spikes of the labelled class (the others: 5)"
LABEL_TIME = "step of the labelled class's spike (the others: 10)"
POTENTIAL = "membrane potential of the labelled class (the others: 0.2)"
POTENTIALS = [index / 20 for index in range(-20, 41)]


def shifted_spike(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    spikes = at([int(value)])
    return spikes, ls.SpikeTime(time_constant=3)(spikes, at([10]).detach())


def clusters(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    potential = torch.zeros(1, 1, 40)
    for index in range(int(value)):
        potential[0, 0, 8 * index + 2 : 8 * index + 4] = 1.5
    potential.requires_grad_()
    return potential, ls.STCALoss(T_in=3, true_count=2)(potential, torch.tensor([0]))


def similarity(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    spikes = trains([5, 10, 15])[0].T.reshape(1, -1).repeat(2, 1).detach()
    spikes[1, : int(value * spikes.shape[1])] = 1 - spikes[0, : int(value * spikes.shape[1])]
    return spikes, ls.SpikeSimilarityLoss("gaussian", "mse", 5.0)(spikes, torch.tensor([1, 1]))


def distillation(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    student = trains([int(value), 5, 5])
    return student, ls.DistillationLoss()(student, trains([10, 5, 5]).detach())


def information(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    potential = torch.full((1, 3, STEPS), value, requires_grad=True)
    return potential, ls.InformationMaximizationLoss()(potential)


def bounds(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    spikes = trains([int(value)])
    return spikes, ls.CountBoundsLoss(lower=3, upper=12)(spikes)


def region(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    spikes = trains([int(value), 5, 5], 10)
    padded = torch.nn.functional.pad(spikes, (0, 10))
    return spikes, ls.RegionCountLoss(8, 1, stop=10)(padded, LABEL)


def local(value: float) -> tuple[torch.Tensor, torch.Tensor]:
    loss = ls.DECOLLELoss(3, 3)
    loss.readout.copy_(torch.eye(3))
    spikes = trains([int(value), 5, 5])
    return spikes, loss(spikes, LABEL)


def distance(function: Callable[..., torch.Tensor]) -> Callable[[float], tuple[torch.Tensor, torch.Tensor]]:
    def make(value: float) -> tuple[torch.Tensor, torch.Tensor]:
        spikes = at([int(value)]).detach()
        return spikes, function(spikes, at([10]).detach()).sum()

    return make


PICTURES = [
    Picture("SpikeTime", "step of the spike (desired: 10)", range(STEPS), shifted_spike),
    Picture("SpikeRate", LABEL_COUNT, COUNTS, count(ls.SpikeRate(0.6, 0.05)), of_label),
    Picture("SpikeMax", LABEL_COUNT, COUNTS, count(ls.SpikeMax()), of_label),
    Picture("SpikeMoid", LABEL_COUNT, COUNTS, count(ls.SpikeMoid(alpha=0.1, theta=0.3)), of_label),
    Picture("CERateLoss", LABEL_COUNT, COUNTS, count(ls.CERateLoss())),
    Picture("CECountLoss", LABEL_COUNT, COUNTS, count(ls.CECountLoss()), of_label),
    Picture("MSECountLoss", LABEL_COUNT, COUNTS, count(ls.MSECountLoss(0.6, 0.05)), of_label),
    Picture("RegionCountLoss", "spikes of the labelled class in the region (wanted: 8)", range(11), region, of_label),
    Picture("CountBoundsLoss", "spikes of a neuron (bounds: 3 and 12)", COUNTS, bounds, of_label),
    Picture("TETLoss", LABEL_COUNT, COUNTS, count(ls.TETLoss())),
    Picture("CEMaxMembraneLoss", POTENTIAL, POTENTIALS, membrane(ls.CEMaxMembraneLoss())),
    Picture("CEMembraneIntegralLoss", POTENTIAL, POTENTIALS, membrane(ls.CEMembraneIntegralLoss()), of_label),
    Picture("MSEMembraneLoss", POTENTIAL, POTENTIALS, membrane(ls.MSEMembraneLoss()), of_label),
    Picture(
        "MembraneSuppressionLoss",
        "membrane potential of a false class (ceiling: 0.5)",
        POTENTIALS,
        membrane(ls.MembraneSuppressionLoss(0.5), row=1),
        lambda gradient: gradient[0, 1].mean(),
    ),
    Picture("InformationMaximizationLoss", "mean membrane potential (threshold: 1)", POTENTIALS, information, of_label),
    Picture("CETemporalLoss", LABEL_TIME, range(STEPS), time(ls.CETemporalLoss())),
    Picture("MSETemporalLoss", LABEL_TIME, range(STEPS), time(ls.MSETemporalLoss(on_target=3, tolerance=1))),
    Picture("FirstSpikeLoss", LABEL_TIME, range(STEPS), time(ls.FirstSpikeLoss(xi=2.0))),
    Picture("STCALoss", "clusters of spikes (wanted: 2)", range(6), clusters),
    Picture("SpikeSimilarityLoss", "share of places where two trains differ", POTENTIALS[20:41], similarity),
    Picture("DistillationLoss", "student's spikes of a class (teacher's: 10)", COUNTS, distillation, of_label),
    Picture("DECOLLELoss", "spikes of the neuron that reads for the label (the others: 5)", COUNTS, local, of_label),
    Picture("van_rossum_distance", "step of the spike (other train: 10)", range(STEPS),
            distance(lambda one, two: functional.van_rossum_distance(one, two, 3.0))),
    Picture("victor_purpura_distance", "step of the spike (other train: 10)", range(STEPS),
            distance(lambda one, two: functional.victor_purpura_distance(one, two, 0.2))),
]  # fmt: skip


def draw(picture: Picture) -> None:
    values, gradients = [], []
    for value in picture.inputs:
        leaf, loss = picture.make(value)
        values.append(float(loss))
        if picture.gradient is not None:
            (gradient,) = torch.autograd.grad(loss, leaf)
            gradients.append(float(picture.gradient(gradient)))
    figure, axes = plt.subplots(figsize=(3.4, 2.3), layout="constrained")
    axes.plot(list(picture.inputs), values, color="#00639b", label="value")
    if gradients:
        twin = axes.twinx()
        twin.plot(list(picture.inputs), gradients, color="#b3541e", linestyle="--", label="gradient")
        twin.tick_params(axis="y", colors="#b3541e", labelsize=7)
        twin.set_ylabel("gradient", color="#b3541e", fontsize=7)
    axes.set_xlabel(picture.axis, fontsize=7)
    axes.set_ylabel("value", color="#00639b", fontsize=7)
    axes.tick_params(labelsize=7)
    figure.savefig(FOLDER / f"{picture.name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    torch.manual_seed(0)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for picture in PICTURES:
        draw(picture)
    print(f"Drew {len(PICTURES)} pictures into {FOLDER}.")


if __name__ == "__main__":
    main()
