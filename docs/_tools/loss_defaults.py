"""The table of default reductions and sizes, from the losses themselves, while the site is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

import lava_spikeloss as ls

SAMPLES, CLASSES, STEPS, RATE = 32, 10, 32, 0.1


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    return markdown.replace("LOSSES\n", table(), 1) if page.file.src_uri == "choosing-a-loss.md" else markdown


def table() -> str:
    rows = ["| loss | reduction by default | value | twice the samples | twice the steps |", "|---|---|---|---|---|"]
    for name, value in CASES.items():
        here, samples, steps = value(SAMPLES, STEPS), value(2 * SAMPLES, STEPS), value(SAMPLES, 2 * STEPS)
        sizes = f"{_number(here)} | {_number(samples)} | {_number(steps)}"
        rows.append(f"| [`{name}`](loss-gallery.md#{name.lower()}) | {reduction(name)} | {sizes} |")
    return "\n".join(rows) + "\n"


def reduction(name: str) -> str:
    parameter = inspect.signature(getattr(ls, name)).parameters.get("reduction")
    return f"`{parameter.default}`" if parameter else "mean, always"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def _spikes(samples: int, steps: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(samples, CLASSES, steps, generator=generator) < RATE).float()


def _membrane(samples: int, steps: int) -> torch.Tensor:
    return torch.rand(samples, CLASSES, steps, generator=torch.Generator().manual_seed(0))


def _labels(samples: int) -> torch.Tensor:
    return torch.arange(samples) % CLASSES


def _of(
    loss: Callable[..., torch.Tensor], inputs: Callable[[int, int], torch.Tensor] = _spikes
) -> Callable[[int, int], float]:
    return lambda samples, steps: loss(inputs(samples, steps), _labels(samples)).item()


def _of_trains(loss: Callable[..., torch.Tensor]) -> Callable[[int, int], float]:
    """Against the spike trains of other samples."""
    return lambda samples, steps: loss(_spikes(samples, steps), _spikes(samples, steps).flip(0)).item()


CASES: dict[str, Callable[[int, int], float]] = {
    "SpikeRate": _of(ls.SpikeRate(0.2, 0.03)),
    "SpikeMax": _of(ls.SpikeMax()),
    "SpikeMoid": _of(ls.SpikeMoid()),
    "CECountLoss": _of(ls.CECountLoss()),
    "CERateLoss": _of(ls.CERateLoss()),
    "MSECountLoss": _of(ls.MSECountLoss(correct_rate=0.2, incorrect_rate=0.03)),
    "RegionCountLoss": _of(ls.RegionCountLoss(true_count=6, false_count=1)),
    "CountBoundsLoss": _of(ls.CountBoundsLoss(lower=1, upper=2)),
    "SpikeTime": _of_trains(ls.SpikeTime()),
    "FirstSpikeLoss": _of(ls.FirstSpikeLoss()),
    "CETemporalLoss": _of(ls.CETemporalLoss()),
    "MSETemporalLoss": _of(ls.MSETemporalLoss()),
    "STCALoss": _of(ls.STCALoss(v_threshold=0.9, T_in=1), _membrane),
    "TETLoss": _of(ls.TETLoss()),
    "DECOLLELoss": _of(ls.DECOLLELoss(CLASSES, CLASSES, generator=torch.Generator().manual_seed(0))),
    "CEMaxMembraneLoss": _of(ls.CEMaxMembraneLoss(), _membrane),
    "CEMembraneIntegralLoss": _of(ls.CEMembraneIntegralLoss(), _membrane),
    "MSEMembraneLoss": _of(ls.MSEMembraneLoss(), _membrane),
    "MembraneSuppressionLoss": _of(ls.MembraneSuppressionLoss(), _membrane),
    "InformationMaximizationLoss": lambda samples, steps: ls.InformationMaximizationLoss()(
        _membrane(samples, steps)
    ).item(),
    "SpikeSimilarityLoss": _of(ls.SpikeSimilarityLoss()),
    "DistillationLoss": _of_trains(ls.DistillationLoss()),
}
