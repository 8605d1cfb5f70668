"""The stand-in for an accelerator says where a real one would have made the host wait, or raised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accelerator import DEVICE, Accelerator

HERE = torch.ones(3, 4)
THERE = torch.ones(3, 4, device=DEVICE)


@pytest.mark.parametrize(
    ("waits_for", "operation"),
    [
        ("value", lambda: THERE.sum().item()),
        ("value", lambda: bool(THERE.sum() > 0)),
        ("value", lambda: torch.equal(THERE, THERE)),
        ("shape", THERE.nonzero),
        ("copy", THERE.cpu),
        ("copy", THERE.tolist),
        ("copy", lambda: HERE.to(DEVICE)),
        ("copy", lambda: torch.zeros(3, 4).copy_(THERE)),
        ("copy", lambda: torch.zeros(3, 4, device=DEVICE).copy_(HERE)),
        ("copy", lambda: torch.tensor([1.0, 2.0], device=DEVICE)),
        ("copy", lambda: torch.as_tensor([1.0, 2.0], device=DEVICE)),
        ("copy", lambda: THERE.new_tensor([1.0, 2.0])),
    ],
)
def test_waiting_is_counted(waits_for: str, operation: Callable[[], object]) -> None:
    with Accelerator() as accelerator:
        operation()
    assert accelerator.waits == {waits_for: 1}


@pytest.mark.parametrize(
    "operation",
    [
        lambda: HERE + THERE,
        lambda: torch.cat([HERE, THERE]),
        lambda: THERE[torch.tensor([0, 1])],
        lambda: THERE @ torch.ones(4),
        lambda: torch.stack([torch.ones(()), THERE.sum()]),
        lambda: torch.zeros(()).add_(THERE.sum()),
    ],
)
def test_mixing_devices_is_an_error(operation: Callable[[], object]) -> None:
    with Accelerator(), pytest.raises(RuntimeError, match="together with tensors of the accelerator"):
        operation()


@pytest.mark.parametrize(
    "operation",
    [
        lambda: THERE + torch.tensor(1.0),
        lambda: torch.where(THERE > 0, 0.0, THERE),
        lambda: torch.full((3,), 2.0, device=DEVICE),
        lambda: torch.arange(3, device=DEVICE),
        lambda: THERE.to(torch.float64),
        lambda: HERE.nonzero(),
        lambda: HERE.sum().item(),
    ],
)
def test_what_does_not_wait_is_not_counted(operation: Callable[[], object]) -> None:
    with Accelerator() as accelerator:
        operation()
    assert not accelerator.waits
