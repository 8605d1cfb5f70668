"""``docs/coming-from.md`` names only what exists, here and at the peers, and their names of arguments work."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import lava_spikeloss as L
import netx_export
from lava_spikeloss import functional, training
from lava_spikeloss.training import fuse

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text()
LAVA_DL, SNNTORCH, SPIKINGJELLY = re.split(r"^## From .*$", PAGE, flags=re.MULTILINE)[1:]
PLACES = {"training": training, "functional": functional, "lava_spikeloss": L, "netx_export": netx_export}


def rows(section: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(text: str) -> list[str]:
    """Dotted names that stand in backquotes, without what is called with them."""
    return [match.partition("(")[0] for match in re.findall(r"`([A-Za-z_][\w.]*(?:\([^`]*\))?)`", text)]


def test_every_name_of_a_table_exists_here() -> None:
    found = 0
    for left, right in rows(LAVA_DL) + rows(SPIKINGJELLY):
        if right.startswith("the same name"):
            place = {"training": training, "functional": functional}[names(right)[0].rpartition(".")[2]]
            for name in names(left):
                assert hasattr(place, name.removeprefix("functional.")), name
                found += 1
        for name in names(right):
            place, _, attribute = name.partition(".")
            if place in PLACES and attribute:
                for part in attribute.split("."):
                    assert hasattr(PLACES[place], part), name
                found += 1
    assert found > 20


def test_every_function_of_spikingjelly_exists_there() -> None:
    peer = pytest.importorskip("spikingjelly.activation_based.functional")
    found = [name for left, _ in rows(SPIKINGJELLY) for name in names(left) if name.startswith("functional.")]
    assert len(found) > 15
    for name in found:
        if name != "functional.ottt_online_training":  # of 2.0; older releases are tested against, too
            assert hasattr(peer, name.removeprefix("functional.")), name


def test_every_loss_and_accuracy_of_snntorch_exists_there_and_every_loss_here() -> None:
    peer = pytest.importorskip("snntorch.functional")
    found = {name for name in names(SNNTORCH) if name.endswith("_loss") or name.startswith("accuracy_")}
    assert len(found) > 5
    for name in found:
        assert hasattr(peer, name), name
        assert name.startswith("accuracy") or hasattr(functional, name), name


def test_every_module_that_is_named_exists() -> None:
    classes = {name for name in names(PAGE) if re.fullmatch(r"[A-Z]\w+(\.\w+)?", name)}
    known = {name for name in classes if name not in ("N", "T", "C", "Recurrent", "SILENT")}
    for name in known:
        place: Any = L
        for part in name.split("."):
            assert hasattr(place, part), name
            place = getattr(place, part)


def test_arguments_may_have_spikingjellys_names() -> None:
    x, labels = torch.rand(3, 4, 6), torch.tensor([0, 3, 1])
    expected = functional.temporal_efficient_training_cross_entropy(x, labels)
    torch.testing.assert_close(functional.temporal_efficient_training_cross_entropy(x_seq=x, target=labels), expected)
    torch.testing.assert_close(functional.delay(x, delay_steps=2), functional.delay(x, 2))  # type: ignore[call-arg]
    similar = functional.spike_similar_loss(spikes=x, labels=labels, kernel_type="linear", loss_type="l1")
    named = L.SpikeSimilarityLoss(kernel_type="linear", loss_type="l1")  # type: ignore[call-arg]
    torch.testing.assert_close(named(x, labels), similar)
    with pytest.raises(TypeError, match="one of the arguments `steps` and `delay_steps` but got both"):
        functional.delay(x, steps=1, delay_steps=1)  # type: ignore[call-arg]


def test_a_tensor_with_time_first_is_not_taken_where_any_would_do() -> None:
    x = torch.rand(6, 3, 4)  # steps, samples, classes
    with pytest.raises(TypeError, match="x_seq"):
        functional.delay(x_seq=x, delay_steps=2)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="`labels` to have shape"):
        functional.temporal_efficient_training_cross_entropy(x_seq=x, target=torch.tensor([0, 3, 1]))


def test_convolutions_and_norms_are_fused_under_spikingjellys_names() -> None:
    conv, norm = torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3).eval()
    assert training.fuse_convbn2d is fuse.fuse_conv_bn
    fused = training.fuse_convbn2d(conv2d=conv, bn2d=norm)  # type: ignore[call-arg]
    torch.testing.assert_close(fused.weight, training.fused_conv2d_weight_of_convbn2d(conv2d=conv, bn2d=norm))  # type: ignore[call-arg]
    torch.testing.assert_close(fused.bias, training.fused_conv2d_bias_of_convbn2d(conv, norm))
    training.scale_fused_conv2d_weight_of_convbn2d(conv2d=conv, bn2d=norm, k=2.0)  # type: ignore[call-arg]
    torch.testing.assert_close(training.fused_conv_weight(conv, norm), 2 * fused.weight)


@pytest.mark.slayer
@pytest.mark.parametrize("options", [{}, {"time_constant": 3, "length": 10}, {"time_constant": 4, "filter_order": 2}])
def test_spike_time_filters_as_lava_dls(options: dict[str, int]) -> None:
    slayer = importlib.import_module("lava.lib.dl.slayer")
    x = torch.rand(2, 3, 50)
    torch.testing.assert_close(L.SpikeTime(**options).filter(x), slayer.loss.SpikeTime(**options).filter(x))
