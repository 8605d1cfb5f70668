"""``export``: a trained SLAYER network to a netx file that was proved to run as the network does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from netx_export.description import Dense, NetworkDescription
from netx_export.errors import ExportError
from netx_export.hdf5 import read, replacing, write
from netx_export.loading import load_dense_weights
from netx_export.simulation import simulate
from netx_export.slayer import describe, record

__all__ = ["ExportResult", "export"]


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What was exported.

    Attributes:
        path: the file.
        description: the network in it, as plain data; prints as a table.
        proved: whether the file was read back, simulated on the sample and found equal to the network.
    """

    path: Path
    description: NetworkDescription
    proved: bool


def export(
    net: nn.Module,
    path: str | os.PathLike[str],
    sample: torch.Tensor | None = None,
    *,
    target: Literal["loihi1", "loihi2"] = "loihi2",
    metadata: Mapping[str, str] | None = None,
) -> ExportResult:
    """Write a trained SLAYER network to a netx HDF5 file that the stock ``netx.hdf5.Network`` loads.

    The network is not changed. Given a sample, the file is read back, run on the reference simulator and compared with
    ``net(sample)``, spike for spike in every layer; if anything differs, nothing is written and the error says where.
    ``path`` holds either what it held before or the whole new file, never a part of it.

    Args:
        net: a module whose blocks of ``lava.lib.dl.slayer.block`` form a chain.
        path: the file to write.
        sample: binary input spikes ``(N, C, ..., T)``; always give one, for without it nothing is proved.
        target: the chip whose limits apply; recorded in the file.
        metadata: further texts to record in the file; the stock loader ignores them.

    Returns:
        The path, the network as plain data, and whether it was proved.

    Raises:
        ExportError: if a block, neuron or option cannot be exact on Lava, the exported network differs from ``net``, or
            the file cannot be written.
        ValueError: for an unknown target.

    Example:
        >>> from netx_export import export
        >>> result = export(net, "digits.net", sample=spikes[:16])  # doctest: +SKIP
        >>> print(result.description)  # doctest: +SKIP
    """
    if target not in ("loihi1", "loihi2"):
        raise ValueError(f"Expected argument `target` to be 'loihi1' or 'loihi2' but got {target!r}.")
    plain = describe(net, sample)
    for name, layer in plain.spiking.items():
        if isinstance(layer, Dense):
            _check_weights(name, layer)
    provenance = {"lava-spikeloss": version("lava-spikeloss"), "torch": str(torch.__version__), "target": target}
    description = NetworkDescription(plain.layers, {**provenance, **(metadata or {})})
    with replacing(path) as temporary:
        write(description, temporary)
        if sample is not None:
            _prove(net, temporary, sample)
    return ExportResult(Path(path), read(path), proved=sample is not None)


def _check_weights(name: str, layer: Dense) -> None:
    """Refuse weights that netx's weight optimisation or Lava's clipping and truncation would alter."""
    try:
        exact = load_dense_weights(layer.weight).equals(layer.weight)
    except OverflowError:
        raise ExportError(
            f"Layer {name}: all weights are zero, which the stock netx loader cannot load. Train it or remove it."
        ) from None
    if not exact:
        raise ExportError(
            f"Layer {name}: its weights, from {layer.weight.min()} to {layer.weight.max()}, would be altered when netx "
            f"and Lava load them. Keep weights of both signs in the layer, between -254 and 254 in steps of 2."
        )


def _prove(net: nn.Module, path: Path, sample: torch.Tensor) -> None:
    """Compare the file on the reference simulator with the network itself."""
    names = list(read(path).spiking)
    trained = record(net, sample, names)
    exported = simulate(path, sample.detach().cpu())
    pairs = [(name, trained.layers[name], exported.layers[name]) for name in names]
    for name, expected, got in [*pairs, ("the output", trained.output, exported.output)]:
        if expected.shape != got.shape:
            raise ExportError(
                f"Not exported: {name} has shape {expected.shape} in the network but {got.shape} in the file. The "
                f"network's forward does more than run its blocks one after the other; export can only write a chain."
            )
        different = np.argwhere(expected != got)
        if len(different):
            first = min(different.tolist(), key=lambda place: place[-1])
            raise ExportError(
                f"Not exported: the file does not run as the network does. {len(different)} of {expected.size} values "
                f"of {name} differ, first at step {first[-1]} in neuron {tuple(first[1:-1])} of sample {first[0]}: "
                f"{expected[tuple(first)]:g} in SLAYER, {got[tuple(first)]:g} in the file. Does the network's forward "
                f"do more than run its blocks one after the other?"
            )
