"""The table of forwards: what people write around and between their blocks, and what becomes of it.

Each forward runs ``a`` and ``b``, convolutions of images of 2x6x6, and ``c``, a dense layer; some run more blocks of
``net``. Reading the table needs no Lava.
"""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import torch
from support_networks import CUBA
from torch import nn

__all__ = ["FORWARDS", "Forward", "Images", "sample"]

SHAPE = (2, 6, 6)
Pair = namedtuple("Pair", ["spikes", "counts"])


@dataclass(frozen=True)
class Forward:
    """One row of the table.

    Attributes:
        does: what the forward does, in words.
        code: what it returns, as it is written.
        becomes: what that is in a file, if it is exact.
        refused: words of the refusal, if it is not.
        at: the block that it names as the one that cannot be exported; None if it is the whole network.
        begins_inside, ends_inside: whether the file begins or ends inside of the forward.
    """

    does: str
    code: str
    becomes: str = ""
    refused: str = ""
    at: int | None = None
    begins_inside: bool = False
    ends_inside: bool = False


class Images(nn.Module):
    """Blocks, registered in another order than they run, some of them unused, and a forward of the table."""

    def __init__(self, code: str) -> None:
        super().__init__()
        from lava.lib.dl.slayer.block import cuba

        torch.manual_seed(1)
        self.c = cuba.Dense(CUBA, 16, 5, weight_scale=8)
        self.d = cuba.Dense(CUBA, 16, 16, weight_scale=8)
        self.b = cuba.Conv(CUBA, 4, 4, 3, weight_scale=8)
        self.a = cuba.Conv(CUBA, 2, 4, 3, weight_scale=5)
        self.flatten = nn.Flatten(1, -2)
        self.block_flatten = cuba.Flatten()
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(16, 16)
        self.temperature = nn.Parameter(torch.tensor(2.0))
        self.code = compile(code, code, "eval")

    def forward(self, x: torch.Tensor) -> Any:
        """What the row says."""
        names: dict[str, Any] = {
            "net": self,
            "x": x,
            "a": self.a,
            "b": self.b,
            "c": self.c,
            "torch": torch,
            "Pair": Pair,
        }
        return eval(self.code, names)


def sample(samples: int = 4) -> torch.Tensor:
    """Spikes for it."""
    return (torch.rand(samples, *SHAPE, 20, generator=torch.Generator().manual_seed(1)) < 0.4).float()


_FLATTEN = "a Flatten"
_COLUMNS = "columns of the next weights in another order"
_KERNELS = "channels of the next kernels in another order"
_DENSE = "the next convolution as a dense layer, its columns in another order"
_NOTHING = "no value changes"
_BEFORE = "the file begins behind it"
_AFTER = "the file ends before it"

FORWARDS = [
    # rearrangements
    Forward("`torch.nn.Flatten`", "c(net.flatten(b(a(x))))", _FLATTEN),
    Forward("lava-dl's Flatten", "c(net.block_flatten(b(a(x))))", _FLATTEN),
    Forward("`flatten`", "c(b(a(x)).flatten(1, -2))", _FLATTEN),
    Forward("`reshape`", "c(b(a(x)).reshape(len(x), 16, -1))", _FLATTEN),
    Forward("`view` with axes of 1", "c(b(a(x)).contiguous().view(len(x), 16, 1, 1, -1))", _FLATTEN),
    Forward("`unsqueeze` and `squeeze`", "c(b(a(x)).flatten(1, -2).unsqueeze(2).squeeze(2))", _FLATTEN),
    Forward("channels last, then flat", "c(b(a(x)).permute(0, 2, 3, 1, 4).flatten(1, -2))", _COLUMNS),
    Forward("a `flip`, then a Flatten", "c(net.block_flatten(b(a(x)).flip(1)))", _COLUMNS),
    Forward(
        "between dense layers",
        "c(net.d(b(a(x)).flatten(1, -2)).reshape(len(x), 4, 4, -1).mT.mT.flip(2).flatten(1, 2))",
        _COLUMNS,
    ),
    Forward(
        "channel shuffle", "c(b(a(x).unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)).flatten(1, -2))", _KERNELS
    ),
    Forward("channels by index", "c(b(a(x)[:, [2, 0, 3, 1]]).flatten(1, -2))", _KERNELS),
    Forward("height and width swapped", "c(b(a(x).transpose(2, 3)).flatten(1, -2))", _DENSE),
    Forward(
        "to another shape and back",
        "c(b(a(x).reshape(len(x), 64, -1).reshape(len(x), 4, 4, 4, -1)).flatten(1, -2))",
        _NOTHING,
    ),
    Forward("slices that drop nothing", "c(b(torch.cat([(h := a(x))[:, :2], h[:, 2:]], 1)).flatten(1, -2))", _NOTHING),
    Forward("dropout, `clone`, `clamp`", "c(net.dropout(b(a(x)).clone().clamp(0, 1).flatten(1, -2)))", _NOTHING),
    Forward("what leaves 0 and 1 as they are", "c((b(a(x)) > 0.5).float().square().flatten(1, -2))", _NOTHING),
    # before the first block
    Forward("spikes inverted", "c(b(a(1 - x)).flatten(1, -2))", _BEFORE, begins_inside=True),
    Forward(
        "a threshold, with a parameter",
        "c(b(a((x.cumsum(-1) > net.temperature).float())).flatten(1, -2))",
        _BEFORE,
        begins_inside=True,
    ),
    Forward(
        "height and width of the input swapped",
        "c(b(a(x.transpose(2, 3))).flatten(1, -2))",
        _BEFORE,
        begins_inside=True,
    ),
    Forward("each step twice", "c(b(a(x.repeat_interleave(2, -1))).flatten(1, -2))", _BEFORE, begins_inside=True),
    Forward(
        "the input in another shape", "c(net.d(x[:, :, :4, :2].reshape(len(x), 16, -1)))", _BEFORE, begins_inside=True
    ),
    # after the last block
    Forward("rates", "c(b(a(x)).flatten(1, -2)).mean(-1)", _AFTER, ends_inside=True),
    Forward(
        "softmax with a temperature",
        "(c(b(a(x)).flatten(1, -2)).mean(-1) / net.temperature).softmax(1)",
        _AFTER,
        ends_inside=True,
    ),
    Forward("classes", "c(b(a(x)).flatten(1, -2)).sum(-1).argmax(1)", _AFTER, ends_inside=True),
    Forward("twice as much", "2 * c(b(a(x)).flatten(1, -2))", _AFTER, ends_inside=True),
    Forward(
        "spikes and counts",
        "(s := c((h := b(a(x))).flatten(1, -2)), [h.mean().item(), s.mean().item()])",
        "as it is: one part of it is the output",
    ),
    Forward("a namedtuple", "Pair(c(b(a(x)).flatten(1, -2)), None)", "as it is: one part of it is the output"),
    Forward(
        "a dictionary",
        "{'rates': (s := c(b(a(x)).flatten(1, -2))).mean(-1), 'spikes': s}",
        "as it is: one part of it is the output",
    ),
    Forward(
        "a dictionary of rates and hidden spikes",
        "{'hidden': (h := a(x)), 'rates': c(b(h).flatten(1, -2)).mean(-1)}",
        _AFTER,
        ends_inside=True,
    ),
    Forward(
        "before and after",
        "c(b(a(1 - x)).flatten(1, -2)).mean(-1)",
        "the file lies between",
        begins_inside=True,
        ends_inside=True,
    ),
    # refused
    Forward("a factor", "c(b(0.5 * a(x)).flatten(1, -2))", refused="multiplies the values", at=1),
    Forward(
        "a sum with a number",
        "c(b(a(x) + 1).flatten(1, -2))",
        refused="computes with the values",
        at=1,
    ),
    Forward(
        "pooling by hand",
        "c(a(x).unflatten(2, (2, 2)).mean(3).unflatten(3, (2, 2)).mean(4).flatten(1, -2))",
        refused="computes with the values",
        at=1,
    ),
    Forward(
        "a layer of torch",
        "c(net.linear(b(a(x)).flatten(1, -2).mT).mT)",
        refused="computes with the values",
        at=2,
    ),
    Forward(
        "a step later",
        "c(b(a(x).roll(1, -1)).flatten(1, -2))",
        refused="takes values of other steps, or mixes steps",
        at=1,
    ),
    Forward(
        "once a spike, always one",
        "c(b(a(x).cummax(-1).values).flatten(1, -2))",
        refused="takes values of other steps, or mixes steps",
        at=1,
    ),
    Forward(
        "every other step",
        "c(b(a(x)[..., ::2]).flatten(1, -2))",
        refused="makes 4 rows of 10 steps of 4 rows of 20 steps",
        at=1,
    ),
    Forward(
        "samples in another order",
        "c(b(a(x).flip(0)).flatten(1, -2))",
        refused="takes values of other samples, or mixes samples",
        at=1,
    ),
    Forward(
        "time as samples",
        "c(b(a(x)).movedim(-1, 1).flatten(0, 1).flatten(1)[..., None])",
        refused="takes 80 rows for 4 samples",
        at=2,
    ),
    Forward(
        "channels dropped and repeated",
        "c(b(a(x)[:, [0, 1, 2, 2]]).flatten(1, -2))",
        refused="drops 16 of 64 values",
        at=1,
    ),
    Forward(
        "values twice",
        "c(b(a(x)).flatten(1, -2)[:, :8].repeat(1, 2, 1))",
        refused="drops 8 of 16 values",
        at=2,
    ),
    Forward(
        "a channel silenced",
        "c(b(a(x) * torch.tensor([1.0, 1, 0, 1])[:, None, None, None]).flatten(1, -2))",
        refused="puts constants in the place of 16 of 64 values",
        at=1,
    ),
    Forward(
        "padding between the blocks",
        "c(torch.nn.functional.pad(b(a(x)).flatten(1, -2)[:, :15], (0, 0, 0, 1)))",
        refused="puts constants in the place of 1 of 16 values",
        at=2,
    ),
    Forward(
        "a skip connection",
        "c((b(h := a(x)) + h[:, :, :2, :2]).flatten(1, -2))",
        refused="it takes what Block 0 (cuba.Conv) and Block 1 (cuba.Conv) made",
        at=2,
    ),
    Forward(
        "a concatenation",
        "c(torch.cat([b(h := a(x))[:, :2], h[:, :2, :2, :2]], 1).flatten(1, -2))",
        refused="it takes what Block 0 (cuba.Conv) and Block 1 (cuba.Conv) made",
        at=2,
    ),
    Forward(
        "a branch",
        "(c(f := b(a(x)).flatten(1, -2)), net.d(f))[1]",
        refused="it takes what Block 1 (cuba.Conv) made",
        at=3,
    ),
    Forward(
        "two heads",
        "(c(f := b(a(x)).flatten(1, -2)), net.d(f))",
        refused="it takes what Block 1 (cuba.Conv) made",
        at=3,
    ),
    Forward(
        "the input once more",
        "c((b(a(x)) + x.mean((1, 2, 3), True)).flatten(1, -2))",
        refused="it takes what the network was given and what Block 1 (cuba.Conv) made",
        at=2,
    ),
    Forward(
        "a skip connection to the output",
        "c(f := b(a(x)).flatten(1, -2)) + f[:, :5]",
        refused="what it returns takes what Block 1 (cuba.Conv) and Block 2 (cuba.Dense) made",
    ),
    Forward(
        "what is hidden is returned",
        "(h := a(x), c(b(h).flatten(1, -2)))[0]",
        refused="what it returns takes what Block 0 (cuba.Conv) made",
    ),
    Forward(
        "nothing is returned", "(c(b(a(x)).flatten(1, -2)), None)[1]", refused="what it returns depends on no block"
    ),
    Forward(
        "it is returned in an object that is not looked into",
        "iter([c(b(a(x)).flatten(1, -2))])",
        refused="returns its result in an object of type list_iterator, which is not looked into",
    ),
    Forward(
        "a loop over the steps",
        "torch.cat([c(b(a(step)).flatten(1, -2)) for step in x.split(1, -1)], -1)",
        refused="runs it 20 times, as a loop over steps or samples does, first on 4 rows of 1 steps",
        at=0,
    ),
    Forward(
        "a block twice",
        "c(net.d(net.d(b(a(x)).flatten(1, -2))))",
        refused="runs it again: first behind Block 1 (cuba.Conv), then behind Block 2 (cuba.Dense)",
        at=2,
    ),
    Forward(
        "a block by its parts",
        "c(b.neuron(b.synapse(a(x))).flatten(1, -2))",
        refused="does not run it by calling it",
        at=2,
    ),
    Forward(
        "chance between the blocks",
        "c(b(a(x) * (torch.rand(4) < 0.5)[:, None, None, None]).flatten(1, -2))",
        refused="changes from run to run",
        at=1,
    ),
    Forward(
        "numbers before the first block",
        "c(b(a(x - x.mean())).flatten(1, -2))",
        refused="makes of the sample for its first block is no input of this network. Expected spikes of 0 and 1",
    ),
]
