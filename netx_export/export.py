"""``export``: a trained SLAYER network to a netx file that was proved to run as the network does."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from netx_export.check import Finding, check
from netx_export.description import NetworkDescription
from netx_export.errors import ExportError
from netx_export.hdf5 import content_hash, read, replacing, write
from netx_export.rewriting import loadable
from netx_export.simulation import simulate
from netx_export.slayer import describe, record

__all__ = ["ExportResult", "export"]

_MAX_TEXT = 60_000  # HDF5 holds attributes of less than 64 KiB


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What was exported.

    Attributes:
        path: the file.
        description: the network in it, as plain data; prints as a table.
        proved: whether the file was read back, simulated on the sample and found equal to the network.
        findings: what :func:`netx_export.check` finds on the target chip.
    """

    path: Path
    description: NetworkDescription
    proved: bool
    findings: list[Finding]


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
        sample: binary input spikes ``(N, C, ..., T)``, or numbers if the network begins with input neurons; always give
            one, for without it nothing is proved.
        target: the chip whose limits apply; recorded in the file.
        metadata: further texts to record in the file; the stock loader ignores them.

    Returns:
        The path, the network as plain data, and whether it was proved.

    Raises:
        ExportError: if a block, neuron or option cannot be exact on Lava, the exported network differs from ``net``, or
            the file cannot be written.
        ValueError: for an unknown target, or a text in ``metadata`` that is too long.
        TypeError: if ``metadata`` holds anything but texts.

    Example:
        >>> from netx_export import export
        >>> result = export(net, "digits.net", sample=spikes[:16])  # doctest: +SKIP
        >>> print(result.description)  # doctest: +SKIP
    """
    if target not in ("loihi1", "loihi2"):
        raise ValueError(f"Expected argument `target` to be 'loihi1' or 'loihi2' but got {target!r}.")
    plain = loadable(describe(net, sample))
    provenance = {**_versions(), "target": target, "source sha256": _source_hash(net)}
    own = {**provenance, "content sha256": content_hash(plain)}
    description = NetworkDescription(plain.layers, {**_texts(metadata or {}), **own})
    with replacing(path) as temporary:
        write(description, temporary)
        if sample is not None:
            _prove(net, temporary, sample)
        written = read(temporary)
    return ExportResult(Path(path), written, proved=sample is not None, findings=check(written, target))


def _versions() -> dict[str, str]:
    """Versions of what made the file; lava-dl's is that of the network's blocks."""
    found = {"torch": str(torch.__version__)}
    for name in ("lava-spikeloss", "lava-dl"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _texts(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"Expected argument `metadata` to map texts to texts but got {key!r}: {value!r}.")
        if len(value.encode()) > _MAX_TEXT:
            raise ValueError(f"Expected texts of at most {_MAX_TEXT} bytes in `metadata` but {key!r} is longer.")
    return dict(metadata)


def _source_hash(net: nn.Module) -> str:
    """SHA-256 over the network's parameters and buffers, under their names."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _prove(net: nn.Module, path: Path, sample: torch.Tensor) -> None:
    """Compare the file on the reference simulator with the network itself."""
    description = read(path)
    names = list(description.spiking)
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
                f"{expected[tuple(first)]:g} in SLAYER, {got[tuple(first)]:g} in the file. {_advice(description)}"
            )


def _advice(description: NetworkDescription) -> str:
    chain = "Does the network's forward do more than run its blocks one after the other?"
    if not description.graded:
        return chain
    return (
        f"{chain} Or do its sigma-delta states leave the range of about 128 up to which float32, in which SLAYER "
        f"computes, holds them exactly? Then scale the weights or the input down."
    )
