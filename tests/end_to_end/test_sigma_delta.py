"""The two sigma-delta networks that Lava is known for, from trained weights to a proved file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, relu

from lava_spikeloss.training import load
from netx_export import ExportError, export, round_parameters, verify

pytestmark = pytest.mark.slayer


class YoloKP(nn.Module):
    """lava-dl's YOLO-KP up to what its head sums up: its own forward cannot run on a CPU."""

    def __init__(self) -> None:
        from lava.lib.dl.slayer.object_detection.models import yolo_kp

        super().__init__()
        whole = yolo_kp.Network()
        self.input_blocks, self.blocks, self.heads = whole.input_blocks, whole.blocks, whole.heads
        load(Path(yolo_kp.__file__).parent / "Trained_yolo_kp" / "network.pt", whole)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in (*self.input_blocks, *self.blocks, *self.heads):
            x = block(x)
        return x


def moving_crop(size: int, height: int, steps: int, photograph: int) -> torch.Tensor:
    """A window ``(1, C, size, size, T)`` that moves over a photograph of so many lines, as YOLO-KP normalises it."""
    from sklearn.datasets import load_sample_images

    image = torch.tensor(load_sample_images().images[photograph]).permute(2, 0, 1)[None] / 255
    small = interpolate(image, (height, height * image.shape[3] // image.shape[2]), mode="bilinear", antialias=True)
    crop = torch.stack([small[..., :size, step : step + size] for step in range(steps)], -1)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (crop - mean.reshape(3, 1, 1, 1)) / deviation.reshape(3, 1, 1, 1)


@pytest.mark.slow
def test_yolo_kp_as_lava_dl_trained_it(tmp_path: Path) -> None:
    net = YoloKP()
    sample = torch.cat([moving_crop(96, 128, 8, photograph) for photograph in (0, 1)])
    result = export(net, tmp_path / "yolo.net", sample)
    assert result.proved
    assert set(result.deviations.values()) == {0.0}
    report = verify(net, result.path, sample, lava_samples=0)
    assert report.exact
    assert sum(layer.neurons for layer in report.layers) * 2 * 8 == 1_511_280


@pytest.mark.slow
@pytest.mark.lava
def test_yolo_kp_on_lava(tmp_path: Path) -> None:
    sample = moving_crop(32, 48, 2, 0)
    path = export(YoloKP(), tmp_path / "yolo.net", sample).path
    assert verify(None, path, sample, lava_samples=1).exact


@pytest.mark.slow
def test_a_head_that_wraps_is_refused_with_how_many_values_differ_and_why(tmp_path: Path) -> None:
    """An even image, unlike photographs, drives the head far."""
    with pytest.raises(
        ExportError,
        match=r"[\d,]+ of 4,590 values of conv10 differ, by up to 64, first at step .* The sum of messages of conv10 "
        r"reaches .* and goes beyond 8,388,607 \(32\), the most that 24 bits hold, .* Lava wraps it, SLAYER does not",
    ) as refusal:
        export(YoloKP(), tmp_path / "yolo.net", torch.full((1, 3, 96, 96, 2), 2.0), tolerance=100)
    assert "tolerance" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


class PilotNet(nn.Module):
    """The blocks and options of lava-dl's PilotNet SDNN, with fewer channels and half its image."""

    def __init__(self) -> None:
        from lava.lib.dl.slayer import neuron
        from lava.lib.dl.slayer.block import sigma_delta

        super().__init__()
        params: dict[str, Any] = {"threshold": 0.1, "tau_grad": 0.5, "scale_grad": 1, "activation": relu}
        params |= {"requires_grad": True, "shared_param": True}
        conv = {**params, "norm": neuron.norm.MeanOnlyBatchNorm}
        dense = {**conv, "dropout": neuron.Dropout(p=0.2)}
        both = {"weight_scale": 2, "weight_norm": True}
        self.blocks = nn.ModuleList(
            [
                sigma_delta.Input(params),
                sigma_delta.Conv(conv, 3, 6, 3, padding=0, stride=2, **both),
                sigma_delta.Conv(conv, 6, 8, 3, padding=0, stride=2, **both),
                sigma_delta.Conv(conv, 8, 12, 3, padding=(1, 0), stride=(2, 1), **both),
                sigma_delta.Flatten(),
                sigma_delta.Dense(dense, 12 * 2 * 9, 20, **both),
                sigma_delta.Dense(dense, 20, 10, **both),
                sigma_delta.Output(dense, 10, 1, **both),
            ]
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        events = torch.zeros(())
        for block in self.blocks:
            x = block(x)
            events = events + x.abs().mean()
        return x, events


def drives(samples: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    steps = torch.arange(6)
    edges = torch.rand(samples, 3, 17, 50, 1, generator=random) * 6
    return torch.sin(edges + steps / 4) + torch.rand(samples, 3, 1, 1, 6, generator=random) / 4


@pytest.fixture
def pilot_net() -> PilotNet:
    """Trained for a few steps, in which thresholds, weights and norms leave where they began."""
    torch.manual_seed(0)
    net, data = PilotNet(), drives(16)
    angle = data.mean((1, 2, 3))
    net(data)
    optimizer = torch.optim.RAdam(net.parameters(), lr=0.01)
    for batch in torch.randperm(16).repeat(3).split(8):
        output, events = net(data[batch])
        loss = (output.flatten() - angle[batch].flatten()).square().mean() + 0.01 * events
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def test_pilot_net_is_exact_once_its_thresholds_are_rounded(pilot_net: PilotNet, tmp_path: Path) -> None:
    for block in (block for block in pilot_net.blocks[1:-1] if hasattr(block, "neuron")):
        assert bool(block.neuron.norm.running_mean.abs().max() > 0.01)
    with pytest.raises(ExportError, match="round_parameters"):
        export(pilot_net, tmp_path / "pilot.net", drives(4))
    changed = round_parameters(pilot_net)
    assert [change.name for change in changed][:2] == [f"blocks.{index}.neuron.delta.threshold" for index in (0, 1)]
    assert export(pilot_net, tmp_path / "pilot.net", drives(4)).proved
    assert verify(pilot_net, tmp_path / "pilot.net", drives(16), lava_samples=0).exact


@pytest.mark.lava
def test_pilot_net_on_lava(pilot_net: PilotNet, tmp_path: Path) -> None:
    round_parameters(pilot_net)
    path = export(pilot_net, tmp_path / "pilot.net", drives(4)).path
    assert verify(pilot_net, path, drives(4), lava_samples=1).exact
