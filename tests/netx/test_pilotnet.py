"""PilotNet as lava-dl's tutorial trains it: exported by the documented lines, equal in every number on Lava."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_networks import Chain, block, mean_norm
from torch.nn.functional import mse_loss

from netx_export import ExportError, export, round_parameters, verify

pytestmark = pytest.mark.slayer


def _pilotnet() -> Chain:
    from lava.lib.dl import slayer

    neuron = {"threshold": 0.1, "tau_grad": 0.1, "scale_grad": 1, "requires_grad": True, "activation": torch.relu}
    normed = {**neuron, "norm": mean_norm()}
    dense = {**normed, "dropout": slayer.neuron.Dropout(p=0.2)}
    options = {"weight_scale": 2, "weight_norm": True}

    def made(name: str, params: dict[str, Any], *sizes: Any, **more: Any) -> Any:
        return block(f"sigma_delta.{name}")(params, *sizes, **options, **more)

    return Chain(
        [
            block("sigma_delta.Input")(neuron),
            made("Conv", normed, 3, 24, 3, stride=2),
            made("Conv", normed, 24, 36, 3, stride=2),
            made("Conv", normed, 36, 64, 3, padding=(1, 0), stride=(2, 1)),
            made("Conv", normed, 64, 64, 3),
            block("sigma_delta.Flatten")(),
            made("Dense", dense, 64 * 40, 100),
            made("Dense", dense, 100, 50),
            made("Dense", dense, 50, 10),
            made("Output", dense, 10, 1),
        ]
    )


def _frames(samples: int, steps: int) -> torch.Tensor:
    """Smooth images that move by a pixel at each step."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(samples, 3, 9, 18, generator=random) / 2
    wide = torch.nn.functional.interpolate(coarse, size=(33, 100 + steps), mode="bilinear")
    return torch.stack([wide[..., step : step + 100] for step in range(steps)], dim=-1)


def _trained() -> Chain:
    torch.manual_seed(0)
    net, frames = _pilotnet(), _frames(2, 6)
    net(frames)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.002)
    for _ in range(4):
        optimiser.zero_grad()
        mse_loss(net(frames), torch.full((2, 1, 6), 0.5)).backward()
        optimiser.step()
    net.eval()
    return net


@pytest.mark.lava
def test_pilotnet_from_training_to_a_proved_file(tmp_path: Path) -> None:
    net, frames = _trained(), _frames(3, 6)
    with pytest.raises(ExportError, match=r"call netx_export\.round_parameters\(net\)"):
        export(net, tmp_path / "pilotnet.net", frames)
    changes = round_parameters(net)
    assert len(changes) == 8, "every threshold but the one that Output never uses"
    assert all(change.before != change.after for change in changes)
    result = export(net, tmp_path / "pilotnet.net", frames)
    assert result.proved
    biases = [layer.bias for layer in result.description.spiking.values() if hasattr(layer, "bias")]
    assert sum(bias is not None and bool(np.any(bias)) for bias in biases) == 7, "every norm but that of Output"
    report = verify(net, tmp_path / "pilotnet.net", frames, lava_samples=1)
    assert report.passed
