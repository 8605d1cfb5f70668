"""Small networks that learn digits, all of them at once: for measuring what a loss teaches.

The networks are 64-128-10 of CUBA neurons, with SLAYER's dynamics and surrogate gradient in floating point. Those of
several seeds and decays are trained side by side, as one more dimension of every tensor, in much less time than one
after the other. They share no weights, and Adam treats every weight on its own, so each learns as it would alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

import torch

__all__ = ["DECAYS", "SEEDS", "STEPS", "Digits", "Networks", "Output", "cuba", "digits", "train"]

SIZES = (64, 128, 10)
STEPS = 16
THRESHOLD = 1.25
# SLAYER's surrogate gradient for CUBA neurons, height / (2 width) * exp(-distance / width), with the tau_grad of 0.03
# and the scale_grad of 3 of its tutorials; lava-dl multiplies them with 100 and 0.1.
SURROGATE_WIDTH = 100 * 0.03 * THRESHOLD
SURROGATE_HEIGHT = 0.1 * 3
DECAYS = ((1.0, 0.1), (0.25, 0.03))  # of current and voltage
SEEDS = (0, 1, 2)
EPOCHS = 8
BATCH = 64
LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Digits:
    """Spikes ``(N, T, 64)`` and labels: scikit-learn's digits, of which the last 360 are tested."""

    x: torch.Tensor
    labels: torch.Tensor
    test_x: torch.Tensor
    test_labels: torch.Tensor


@dataclass(frozen=True)
class Output:
    """What networks do: spikes of the hidden layer ``(G, N, 128, T)``, spikes and potentials of the outputs."""

    hidden: torch.Tensor
    spikes: torch.Tensor
    potentials: torch.Tensor

    def of(self, network: int) -> Output:
        """What one network does, ``(N, C, T)``."""
        return Output(self.hidden[network], self.spikes[network], self.potentials[network])


LossOfOutput: TypeAlias = Callable[[Output, torch.Tensor], torch.Tensor]


@cache
def digits() -> Digits:
    """Regular spikes: a pixel of brightness p in [0, 1] fires p times per step, each pixel at its own phase."""
    from sklearn.datasets import load_digits

    data = load_digits()
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(data.target), generator=generator)
    pixels = torch.tensor(data.data, dtype=torch.float32)[order] / 16
    labels = torch.tensor(data.target)[order]
    phase = torch.rand(pixels.shape[1], generator=generator)
    spikes = (pixels.unsqueeze(1) * torch.arange(STEPS + 1).unsqueeze(1) + phase).floor().diff(dim=1)
    return Digits(spikes[:-360], labels[:-360], spikes[-360:], labels[-360:])


class _Cuba(torch.autograd.Function):
    """Spikes and potentials ``(G, N, T, C)`` of neurons. As in SLAYER the gradient passes a reset unchanged."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, decays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keep_current, keep_voltage = (1 - decays).unbind(1)
        current, voltage = torch.zeros_like(x[:, :, 0]), torch.zeros_like(x[:, :, 0])
        potentials = torch.empty_like(x)
        for step in range(x.shape[2]):
            current = current.mul_(keep_current.view(-1, 1, 1)).add_(x[:, :, step])
            voltage = voltage.mul_(keep_voltage.view(-1, 1, 1)).add_(current)
            potentials[:, :, step] = voltage
            voltage.masked_fill_(voltage >= THRESHOLD, 0)
        ctx.save_for_backward(potentials, keep_current, keep_voltage)
        return (potentials >= THRESHOLD).to(x.dtype), potentials

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        potentials, keep_current, keep_voltage = ctx.saved_tensors
        of_spikes, of_potentials = grads
        surrogate = torch.exp(-(potentials - THRESHOLD).abs() / SURROGATE_WIDTH)
        grad = of_potentials + of_spikes * surrogate * (SURROGATE_HEIGHT / (2 * SURROGATE_WIDTH))
        kernel = _leaky(keep_voltage, grad.shape[2]) @ _leaky(keep_current, grad.shape[2])
        return kernel.transpose(1, 2).unsqueeze(1) @ grad, None


def cuba(x: torch.Tensor, decays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Spikes and potentials of neurons with input ``(G, N, T, C)`` and decays ``(G, 2)`` of current and voltage."""
    spikes, potentials = _Cuba.apply(x, decays)  # type: ignore[no-untyped-call]
    return spikes, potentials


def _leaky(keep: torch.Tensor, steps: int) -> torch.Tensor:
    """Matrices ``(G, T, T)`` of leaky sums, [to, from]."""
    time = torch.arange(steps)
    lag = time.unsqueeze(1) - time
    return (keep.view(-1, 1, 1) ** lag.clamp(min=0)).tril()


class Networks(torch.nn.Module):
    """One network for each pair of decays and each seed, with the weights that torch's layers start from."""

    decays: torch.Tensor

    def __init__(self, decays: tuple[tuple[float, float], ...] = DECAYS, seeds: tuple[int, ...] = SEEDS) -> None:
        super().__init__()
        self.names = [(pair, seed) for pair in decays for seed in seeds]
        self.register_buffer("decays", torch.tensor([pair for pair, _ in self.names]))
        generators = [torch.Generator().manual_seed(seed) for _, seed in self.names]
        self.weights = torch.nn.ParameterList(
            torch.stack([(2 * torch.rand(a, b, generator=g) - 1) / a**0.5 for g in generators])
            for a, b in pairwise(SIZES)
        )

    def forward(self, x: torch.Tensor) -> Output:
        """What the networks do with samples ``(G, N, T, 64)``."""
        layers = []
        for weight in self.weights:
            shape = (*x.shape[:-1], weight.shape[-1])
            layers.append(cuba((x.flatten(1, 2) @ weight).view(shape), self.decays))
            x = layers[-1][0]
        (hidden, _), (spikes, potentials) = layers
        return Output(*(tensor.transpose(2, 3) for tensor in (hidden, spikes, potentials)))

    @torch.no_grad()
    def test(self, x: torch.Tensor) -> Output:
        """What they do with the same samples ``(N, T, 64)``."""
        output: Output = self(x.expand(len(self.names), *x.shape))
        return output


def train(losses: list[LossOfOutput], networks: Networks, epochs: int = EPOCHS) -> None:
    """Train each network with its own loss of ``(output, indices of the samples)``."""
    x = digits().x
    optimizer = torch.optim.Adam(networks.parameters(), lr=LEARNING_RATE)
    orders = [torch.Generator().manual_seed(100 + seed) for _, seed in networks.names]
    for _ in range(epochs):
        shuffled = torch.stack([torch.randperm(len(x), generator=order) for order in orders])
        for batch in shuffled.split(BATCH, dim=1):
            output = networks(x[batch])
            total = sum(loss(output.of(index), batch[index]) for index, loss in enumerate(losses))
            optimizer.zero_grad()
            total.backward()  # type: ignore[union-attr]
            optimizer.step()
