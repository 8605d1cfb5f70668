"""The origin of a file, as texts beside the network: versions, the rates of the trained network, and its budgets.

The stock loader ignores these texts. ``verify`` reads back the rates and the budgets, ``check`` the deviations; their
names are known here alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lava_spikeloss import LOIHI_1, LoihiBudget
from lava_spikeloss.arguments import check_number
from netx_export.file.safe_hdf5 import check_storable
from netx_export.network.description import Gives, NetworkDescription
from netx_export.run import Run
from netx_export.slayer import Chain, unwrapped

__all__ = [
    "budget_texts",
    "check_texts",
    "deviation_texts",
    "layer_budgets",
    "place_texts",
    "rate_texts",
    "recorded_budgets",
    "recorded_deviations",
    "recorded_rates",
    "run_texts",
    "silence_texts",
    "source_hash",
    "versions",
]

_MAX_TEXT = 60_000  # bytes of one text that the caller gives
_MAX_TEXTS, _MAX_ALL_TEXTS = 5_000, 2**23  # half of what is read back, which leaves room for what is recorded here
_RATES = "trained rates"
_DEVIATIONS, _TOLERANCE = "deviations at export", "tolerance at export"
_BUDGET = "_budget"
_KINDS = ("events_per_step", "synops", "energy")


def versions() -> dict[str, str]:
    """Versions of what made the file; lava-dl's is that of the network's blocks."""
    found = {"torch": str(torch.__version__)}
    for name in ("lava-spikeloss", "lava-dl"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def run_texts(network: str | os.PathLike[str] | NetworkDescription) -> dict[str, str]:
    """What is verified, when, and by which versions."""
    file = "a description" if isinstance(network, NetworkDescription) else Path(os.fsdecode(network)).name
    found = {"file": file, "date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC", **versions()}
    with suppress(PackageNotFoundError):
        found["lava-nc"] = version("lava-nc")
    return {**found, "Python": platform.python_version()}


def source_hash(net: nn.Module) -> str:
    """SHA-256 over the network's parameters and buffers, under their names."""
    digest = hashlib.sha256()
    for name, tensor in unwrapped(net).state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_texts(metadata: Mapping[str, str]) -> dict[str, str]:
    """A copy of the texts that the caller wants to have in the file.

    Raises:
        TypeError: if it is no mapping, or something in it is no text.
        ValueError: if there are too many texts or too long ones, a name is empty, or either holds a NUL character or
            half of a surrogate pair.
    """
    if not isinstance(metadata, Mapping):
        raise TypeError(f"Expected argument `metadata` to map texts to texts but got {type(metadata).__name__}.")
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"Expected argument `metadata` to map texts to texts but got {key!r}: {value!r}.")
    check_storable(metadata)
    sizes = [(len(key.encode()), len(value.encode())) for key, value in metadata.items()]
    for key, both in zip(metadata, sizes, strict=True):
        if max(both) > _MAX_TEXT:
            raise ValueError(f"Expected texts of at most {_MAX_TEXT} bytes in `metadata` but {key[:80]!r} is longer.")
    size = sum(map(sum, sizes))
    if len(metadata) > _MAX_TEXTS or size > _MAX_ALL_TEXTS:
        raise ValueError(
            f"Expected at most {_MAX_TEXTS} texts of {_MAX_ALL_TEXTS} bytes together in `metadata` but got "
            f"{len(metadata)} of {size} bytes."
        )
    return dict(metadata)


def rate_texts(gives: Mapping[str, Gives], trained: Run) -> dict[str, str]:
    """The event rate of each layer that sends events, and how much data it was measured on."""
    sending = {name: trained.layers[name] for name, what in gives.items() if what != "sums"}
    rates = {name: np.count_nonzero(raster) / raster.size for name, raster in sending.items()}
    samples, steps = (next(iter(trained.layers.values())).shape[axis] for axis in (0, -1))
    return {_RATES: json.dumps(rates), f"{_RATES} measured on": f"{samples} samples of {steps} steps"}


def silence_texts(unseen: Sequence[str]) -> dict[str, str]:
    """The layers of which the sample showed nothing; no text if there are none."""
    return {"silent at export": ", ".join(unseen)} if unseen else {}


def deviation_texts(deviations: Mapping[str, float], tolerance: float) -> dict[str, str]:
    """How far each layer deviates, and what was accepted; no text if all are equal."""
    if not any(deviations.values()):
        return {}
    return {_DEVIATIONS: json.dumps(dict(deviations)), _TOLERANCE: repr(float(tolerance))}


def place_texts(begins_inside: bool, ends_inside: bool) -> dict[str, str]:
    """Where a file begins and ends, if that is inside of the network's forward; no text if it is all of it."""
    begins = "inside the network's forward: the file takes what that makes of its input for the first block"
    ends = "inside the network's forward: the file gives what the last block made, before what follows in that"
    return {**({"begins": begins} if begins_inside else {}), **({"ends": ends} if ends_inside else {})}


def recorded_deviations(metadata: Mapping[str, str]) -> tuple[dict[str, float], float]:
    """What :func:`deviation_texts` recorded in a file; a text that is something else holds none."""
    with suppress(KeyError, ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        found = json.loads(metadata[_DEVIATIONS]).items()
        return {name: float(size) for name, size in found if size > 0}, float(metadata[_TOLERANCE])
    return {}, 0.0


def recorded_rates(metadata: Mapping[str, str]) -> dict[str, float]:
    """The rates that a file records, by layer; a text that is something else holds none."""
    with suppress(KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {name: float(rate) for name, rate in json.loads(metadata[_RATES]).items() if 0 <= rate <= 1}
    return {}


def budget_texts(
    net: nn.Module, chain: Chain, description: NetworkDescription, budget: float | LoihiBudget | None
) -> dict[str, str]:
    """Each line of a budget, under the names that the layers have in the file.

    Raises:
        TypeError: if the budget is neither a number nor a :class:`LoihiBudget`.
        ValueError: if it is no rate, names something else than a spiking block, or counts energy by another table than
            verification does.
    """
    if budget is None:
        return {}
    if not isinstance(budget, LoihiBudget):
        check_number("budget", budget, above=0.0, maximum=1.0)
        return {f"rate{_BUDGET}": repr(float(budget))}
    if budget.energy is not None and budget.table != LOIHI_1:
        raise ValueError(
            f"Expected argument `budget` to count energy by LOIHI_1, as `verify` does, but got the table of "
            f"{budget.table.chip}. Give a budget of `synops` instead."
        )
    blocks = {id(block): layer for block, layer in zip(chain.layers, description.spiking, strict=True)}
    layers = {name: blocks[id(module)] for name, module in net.named_modules() if id(module) in blocks}
    texts = {}
    for kind in _KINDS:
        for block, limit in budget.limits(kind):
            if block is not None and block not in layers:
                raise ValueError(f"Expected `budget` to name spiking blocks, {list(layers)}, but got {block!r}.")
            texts[f"{kind if block is None else f'{layers[block]}.{kind}'}{_BUDGET}"] = repr(float(limit))
    return texts


def recorded_budgets(description: NetworkDescription) -> dict[str, float]:
    """The budgets that a file records: of the network, then of its layers; a text that is no number is no budget."""
    of_layers = [f"{layer}.{kind}" for layer in description.spiking for kind in _KINDS]
    budgets = {}
    for name in ("rate", *_KINDS, *of_layers):
        with suppress(KeyError, ValueError):
            budgets[name] = float(description.metadata[name + _BUDGET])
    return {name: limit for name, limit in budgets.items() if math.isfinite(limit)}


def layer_budgets(description: NetworkDescription) -> dict[str, float]:
    """The event rate that each layer was to stay under: its own, or the one of all hidden layers."""
    budgets = recorded_budgets(description)
    names = list(description.spiking)
    rates = dict.fromkeys(names[:-1], budgets["rate"]) if "rate" in budgets else {}
    for name, layer in description.spiking.items():
        if f"{name}.events_per_step" in budgets:
            rates[name] = budgets[f"{name}.events_per_step"] / int(np.prod(layer.shape))
    return rates
