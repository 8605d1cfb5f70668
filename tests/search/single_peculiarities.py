"""Every change, operation, return and holder by itself, on one network of each kind: what the search begins with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from random_changes import CHANGES, CHANGES_OF_ALL
from random_forwards import OPERATIONS, RETURNS
from random_networks import FORMS, HOLDERS, Block, Network, Sample

CUBA = {"threshold": 0.5, "current_decay": 0.25, "voltage_decay": 0.03}
RF = {"threshold": 0.25, "period": 7, "decay": 0.05}
GRADED = {"threshold": 0.1, "activation": "relu"}
SCALE = {"weight_scale": 4}


def _cuba(name: str, *sizes: Any, neuron: dict[str, Any] | None = None, **options: Any) -> Block:
    return Block(f"cuba.{name}", sizes, {**CUBA, **(neuron or {})}, {**SCALE, **options})


_OUT = _cuba("Dense", 6, 6)
KINDS = {
    "dense": Network((6,), (_cuba("Dense", 6, 6), _OUT)),
    "dense with options": Network(
        (6,),
        (
            _cuba("Dense", 6, 6, neuron={"shared_param": False, "norm": "MeanOnlyBatchNorm"}, delay=True, mask=0.6),
            _cuba("Dense", 6, 6, neuron={"requires_grad": True}, weight_norm=True, delay_shift=False),
        ),
    ),
    "convolution": Network(
        (2, 4, 4), (_cuba("Conv", 2, 2, 3, padding=1), Block("cuba.Flatten"), _cuba("Dense", 32, 6)), seed=1
    ),
    "pool": Network((2, 4, 4), (_cuba("Pool", 2), Block("cuba.Flatten"), _cuba("Dense", 8, 6))),
    "recurrent": Network((6,), (_cuba("Recurrent", 6, 6), _OUT)),
    "winners": Network((6,), (_cuba("KWTA", 6, 6, 3), _OUT)),
    "input and readout": Network(
        (6,), (Block("cuba.Input", (), CUBA, {"weight": 1.3, "bias": 0.2}), _OUT, Block("cuba.Affine", (6, 3), CUBA))
    ),
    "average": Network((6,), (_OUT, Block("cuba.Average", (3,)))),
    "resonators": Network((6,), (Block("rf.Dense", (6, 6), RF, SCALE), Block("rf_iz.Dense", (6, 6), RF, SCALE))),
    "sigma-delta": Network(
        (6,),
        (
            Block("sigma_delta.Input", (), GRADED),
            Block("sigma_delta.Dense", (6, 6), GRADED, SCALE),
            Block("sigma_delta.Output", (6, 3), GRADED, {"weight_scale": 2}),
        ),
    ),
    "sigma-delta convolution": Network(
        (2, 4, 4),
        (Block("sigma_delta.Input", (), GRADED), Block("sigma_delta.Conv", (2, 2, 3), GRADED, SCALE)),
    ),
    "bootstrap": Network(
        (6,), (Block("bootstrap.Dense", (6, 6), CUBA, SCALE), Block("bootstrap.Dense", (6, 6), CUBA, SCALE))
    ),
}

# Whatever else is done to them.
TO_BE_REFUSED = {
    "decays per channel": Network((3, 2, 3), (_cuba("Conv", 3, 3, 1, neuron={"shared_param": False}),)),
    "keeps its state": Network((6,), (_cuba("Dense", 6, 6, neuron={"persistent_state": True}), _OUT)),
}
_SMALL_SAMPLES = (Sample(samples=1), Sample(steps=1, rate=0.9))


def each() -> Iterator[Network]:
    """All of them, one peculiarity in each, on a real sample; operations on small samples too, changes without one."""
    yield from TO_BE_REFUSED.values()
    for base in KINDS.values():
        yield base
        yield dataclasses.replace(base, by_keyword=True)
        yield dataclasses.replace(base, ran=False)
        places = range(len(base.blocks) + 1)
        peculiar: list[dict[str, Any]] = [
            *({"operations": ((place, name),)} for name in OPERATIONS for place in places),
            *({"operations": ((1, name),), "sample": small} for name in OPERATIONS for small in _SMALL_SAMPLES),
            *({"changes": ((index, name),)} for name in CHANGES for index in places[:-1]),
            *({"changes": ((index, name),), "sample": None} for name in CHANGES for index in places[:-1]),
            *({"change_of_all": name} for name in CHANGES_OF_ALL),
            *({"change_of_all": name, "holder": "data parallel"} for name in CHANGES_OF_ALL),
            *({"returns": name} for name in RETURNS),
            *({"holder": name} for name in HOLDERS),
            *({"sample": Sample(form=name)} for name in FORMS),
            *({"sample": Sample(steps=steps)} for steps in (1, 2)),
        ]
        for difference in peculiar:
            yield dataclasses.replace(base, **difference)
