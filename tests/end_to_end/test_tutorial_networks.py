"""lava-dl's own tutorial networks go from their kind of checkpoint to a proved file without changing their class."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lava_spikeloss import training
from netx_export import export, verify

pytestmark = pytest.mark.slayer

HERE = Path(__file__).parent.parent / "netx"
# By name, whether the file begins and ends inside of the network's forward.
NETWORKS = {
    "Oxford": (False, False),
    "NMNIST": (False, False),
    "XOR": (False, False),
    "BootstrapMNIST": (True, False),
    "PilotNet": (False, False),
    "yolo_kp": (True, True),
}


def made(name: str) -> tuple[nn.Module, torch.Tensor]:
    """A network as its class makes it, and what it takes."""
    import tutorial_networks

    torch.manual_seed(0)
    net: nn.Module = getattr(tutorial_networks, name)()
    return net, tutorial_networks.inputs(name)


def checkpoint(name: str, folder: Path) -> Path:
    """What the notebook saves: a plain state_dict of a network that ran; YOLO-KP's lies in the wheel."""
    if name == "yolo_kp":
        from lava.lib.dl.slayer.object_detection import models

        return Path(models.__file__).parent / "Trained_yolo_kp" / "network.pt"
    net, x = made(name)
    blocks: Any = net.blocks
    with torch.no_grad():
        for block in blocks if name != "BootstrapMNIST" else ():
            x = block(x)  # PilotNet's own forward runs on a GPU only
    for module in net.modules():
        if isinstance(getattr(module, "delay", None), nn.Parameter):
            module.delay.data = torch.rand_like(module.delay) * 5
    torch.save(net.state_dict(), folder / "network.pt")
    return folder / "network.pt"


@pytest.mark.parametrize(("name", "inside"), NETWORKS.items(), ids=NETWORKS)
def test_by_function(name: str, inside: tuple[bool, bool], tmp_path: Path) -> None:
    net, x = made(name)
    training.load(checkpoint(name, tmp_path), net)
    result = export(net, tmp_path / "a.net", x)
    assert result.proved
    assert (result.begins_inside, result.ends_inside) == inside
    report = verify(net, tmp_path / "a.net", x, lava_samples=0)
    assert report.exact
    assert report.passed
    assert (report.begins_inside, report.ends_inside) == inside


@pytest.mark.slow
@pytest.mark.parametrize(("name", "inside"), NETWORKS.items(), ids=NETWORKS)
def test_by_command(name: str, inside: tuple[bool, bool], tmp_path: Path) -> None:
    weights = checkpoint(name, tmp_path)
    np.savez(tmp_path / "data.npz", spikes=made(name)[1].numpy())
    options = ("--model", f"tutorial_networks:{name}", "--checkpoint", str(weights), "--data", "data.npz")
    said = [
        _run(["export", "a.net", *options], tmp_path),
        _run(["inspect", "a.net"], tmp_path),
        _run(["verify", "a.net", *options, "--lava-samples", "0"], tmp_path),
    ]
    assert "proved equal to the network" in said[0]
    assert "PASSED" in said[2]
    for begins_or_ends, is_inside in zip(("begins", "ends"), inside, strict=True):
        assert (f"It {begins_or_ends} inside" in said[0]) == is_inside
        assert (f"{begins_or_ends}: inside the network's forward" in said[1]) == is_inside
        assert (f"{begins_or_ends} with what" in said[2]) == is_inside


def _run(arguments: list[str], folder: Path) -> str:
    process = subprocess.run(
        [sys.executable, "-m", "netx_export", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parent.parent}", "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout
