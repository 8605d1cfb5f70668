"""What people write between, before and behind the blocks of a network: one small function for each, by name.

Each takes the spikes ``(N, C, ..., T)`` and the network, whose ``seen`` holds what entered it and each block so far.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional

Operation: TypeAlias = Callable[[torch.Tensor, Any], Any]
Named = namedtuple("Named", "spikes counts")


def _in_place(write: Callable[[torch.Tensor], object]) -> Operation:
    """An operation that writes into its tensor and passes that on."""

    def operation(x: torch.Tensor, net: Any) -> torch.Tensor:
        write(x)
        return x

    return operation


def _pattern(size: int, net: Any) -> torch.Tensor:
    """A rearrangement of ``size`` numbers that is the network's own."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(net.seed))


def _zero_channel(x: torch.Tensor) -> None:
    x[:, :1] = 0


def _zero_step(x: torch.Tensor) -> None:
    x[..., x.shape[-1] // 2 :] = 0


def _turn(x: torch.Tensor) -> torch.Tensor:
    """Height and width exchanged, where both are equal."""
    return x.transpose(2, 3) if x.dim() == 5 and x.shape[2] == x.shape[3] else x


def _shuffle(x: torch.Tensor) -> torch.Tensor:
    groups = 2 if x.shape[1] % 2 == 0 else 1
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def _residual(x: torch.Tensor, net: Any) -> torch.Tensor:
    before = net.seen[-1]
    return x + before if before.shape == x.shape else x


def _skip_from_start(x: torch.Tensor, net: Any) -> torch.Tensor:
    """The input again, where a vector of the right size comes out of it."""
    first = net.seen[0].flatten(1, -2)
    return (x + first.reshape(x.shape)).clamp(max=1) if first.shape[1] == x[0, ..., 0].numel() else x


def _after_use(x: torch.Tensor, net: Any) -> torch.Tensor:
    """What the block before has read is overwritten behind it."""
    net.seen[-1].zero_()
    return x


def _remember(x: torch.Tensor, net: Any) -> torch.Tensor:
    before, net.memory = net.memory, x.detach().clone()
    return x if before is None or before.shape != x.shape else torch.maximum(x, before)


def _second_call(x: torch.Tensor, net: Any) -> torch.Tensor:
    net.calls += 1
    return x.flip(1) if net.calls > 1 else x


NEUTRAL: dict[str, Operation] = {
    "identity": lambda x, net: nn.Identity()(x),
    "dropout": lambda x, net: functional.dropout(x, 0.5, net.training),
    "dropout in place": lambda x, net: functional.dropout(x, 0.5, net.training, inplace=True),
    "detach": lambda x, net: x.detach(),
    "clone": lambda x, net: x.clone(),
    "contiguous": lambda x, net: x.contiguous(),
    "float64 and back": lambda x, net: x.double().to(x.dtype),
    "flip in training": lambda x, net: x.flip(1) if net.training else x,
    "there and back": lambda x, net: x.transpose(1, -1).transpose(1, -1),
}
IN_PLACE: dict[str, Operation] = {
    "zero a channel in place": _in_place(_zero_channel),
    "zero half the steps in place": _in_place(_zero_step),
    "mul_": _in_place(lambda x: x.mul_(2)),
    "add_": _in_place(lambda x: x.add_(1)),
    "clamp_": _in_place(lambda x: x.clamp_(max=0.5)),
    "masked_fill_": _in_place(lambda x: x.masked_fill_(x.flip(1) > 0, 0)),
    "copy_": _in_place(lambda x: x.copy_(x.flip(1))),
    "random dropout in place": lambda x, net: functional.dropout(x, 0.5, True, inplace=True),
    "zero data": _in_place(lambda x: x.data.zero_()),
    "bernoulli_": _in_place(lambda x: x.bernoulli_(0.4)),
    "overwrite after use": _after_use,
}
REARRANGED: dict[str, Operation] = {
    "flip channels": lambda x, net: x.flip(1),
    "flip time": lambda x, net: x.flip(-1),
    "flip samples": lambda x, net: x.flip(0),
    "roll time": lambda x, net: x.roll(1, -1),
    "roll channels": lambda x, net: x.roll(1, 1),
    "permute channels": lambda x, net: x.index_select(1, _pattern(x.shape[1], net)),
    "permute neurons": lambda x, net: x.flatten(1, -2)[:, _pattern(x[0, ..., 0].numel(), net)].reshape(x.shape),
    "turn image": lambda x, net: _turn(x),
    "flatten": lambda x, net: x.flatten(1, -2),
    "flatten another way": lambda x, net: x.movedim(1, -2).flatten(1, -2),
    "reshape across time": lambda x, net: x.transpose(1, -1).reshape(x.shape),
    "channel shuffle": lambda x, net: _shuffle(x),
    "repeat first channel": lambda x, net: x[:, :1].expand_as(x),
    "drop last step": lambda x, net: x[..., :-1],
    "sort": lambda x, net: x.sort(1, descending=True)[0],
    "delay": lambda x, net: functional.pad(x, (1, 0))[..., :-1],
}
ARITHMETIC: dict[str, Operation] = {
    "twice": lambda x, net: 2 * x,
    "half": lambda x, net: x / 2,
    "plus 1e-7": lambda x, net: x + 1e-7,
    "plus 1e-3": lambda x, net: x + 1e-3,
    "times 0.999": lambda x, net: 0.999 * x,
    "invert": lambda x, net: 1 - x,
    "minus": lambda x, net: -x,
    "relu": lambda x, net: torch.relu(x),
    "clamp to one": lambda x, net: x.clamp(max=1),
    "clamp to half": lambda x, net: x.clamp(max=0.5),
    "threshold": lambda x, net: (x > 0.5).to(x.dtype),
    "mask": lambda x, net: x * (_pattern(x.shape[1], net) > 0).to(x.dtype).reshape(-1, *[1] * (x.dim() - 2)),
    "residual": _residual,
    "skip from start": _skip_from_start,
    "cumulative maximum": lambda x, net: x.cummax(-1)[0],
    "mean over samples": lambda x, net: x * (x.mean(0, keepdim=True) < 0.9).to(x.dtype),
    "noise": lambda x, net: x + 1e-3 * torch.randn_like(x),
    "lower precision": lambda x, net: x.bfloat16(),
    "float64": lambda x, net: x.double(),
}
# What a sample shows on one side of a condition only. No sample can prove these; see `judging.beyond_any_sample`.
CONDITIONAL: dict[str, Operation] = {
    "flip if loud": lambda x, net: x.flip(1) if x.mean() > 0.35 else x,
    "flip if long": lambda x, net: x.flip(1) if x.shape[-1] > 16 else x,
    "flip if many samples": lambda x, net: x.flip(1) if len(x) > 4 else x,
    "flip loud samples": lambda x, net: torch.stack([one.flip(0) if one.mean() > 0.35 else one for one in x]),
}
STATEFUL: dict[str, Operation] = {"remember": _remember, "second call": _second_call}
# Two runs of these differ.
RANDOM = ("random dropout in place", "bernoulli_", "noise", "quantiser that is random")
OPERATIONS = {**NEUTRAL, **IN_PLACE, **REARRANGED, **ARITHMETIC, **CONDITIONAL, **STATEFUL}

RETURNS: dict[str, Operation] = {
    "tensor": lambda x, net: x,
    "tuple": lambda x, net: (x, x.mean()),
    "counts first": lambda x, net: (x.sum(-1), x),
    "list": lambda x, net: [x],
    "dict": lambda x, net: {"spikes": x},
    "namedtuple": lambda x, net: Named(x, x.sum(-1)),
    "with hidden": lambda x, net: (x, net.seen[-1]),
    "hidden first": lambda x, net: (net.seen[-1], x),
    "rates": lambda x, net: x.mean(-1),
    "flipped": lambda x, net: x.flip(1),
    "rolled": lambda x, net: x.roll(1, 1),
    "sliced": lambda x, net: x[:, 1:],
    "time first": lambda x, net: x.movedim(-1, 1),
    "doubled": lambda x, net: 2 * x,
    "numpy": lambda x, net: x.detach().numpy(),
    "none": lambda x, net: None,
}
