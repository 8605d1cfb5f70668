"""Hashes of what is verified: is it the same on each rank, and is the file still the one that was read?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

import torch

from netx_export.file.netx import content_hash
from netx_export.file.opening import check_path
from netx_export.network.description import NetworkDescription
from netx_export.provenance import source_hash
from netx_export.run import Run
from netx_export.slayer import evaluation
from netx_export.verification.diagnosis import Data

__all__ = ["fingerprint", "hash_source"]

_SAMPLES = 256  # samples to hash at a time: the input may be a file that is larger than memory
_BLOCK = 2**20


def hash_source(source: str | os.PathLike[str] | NetworkDescription) -> str:
    """A hash of a file's content, or of a description: its layers, and the texts beside them.

    Empty for a file that cannot be read; :func:`netx_export.read` says why it cannot.

    Raises:
        TypeError: if it is neither a path nor a description.
    """
    if isinstance(source, NetworkDescription):
        return f"{content_hash(source)} {source.spike_exp} {sorted(source.metadata.items())}"
    check_path("path", source, "netx file or a NetworkDescription")
    digest = hashlib.sha256()
    try:
        with open(source, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except (OSError, ValueError):  # a ValueError for a path with a NUL character
        return ""
    return digest.hexdigest()


def fingerprint(data: Data, recorded: Run | None, labels: torch.Tensor | None) -> dict[str, str]:
    """Hashes of the arguments of ``verify`` that hold data, by the names of these arguments."""
    return {
        "`net`": _hash_network(data),
        "`spikes`": _hash(_inputs(data)),
        "`labels`": _hash([] if labels is None else [("labels", labels)]),
        "`recorded`": _hash([] if recorded is None else _tensors(recorded)),
    }


def _hash_network(data: Data) -> str:
    """A hash of the network at rest, since the states that the last batch left in it differ from rank to rank."""
    if data.net is None:
        return ""
    with evaluation(data.net):
        return source_hash(data.net)


def _inputs(data: Data) -> Iterator[tuple[str, torch.Tensor]]:
    for start in range(0, len(data.inputs), _SAMPLES):
        yield "spikes", data.samples(start, start + _SAMPLES)


def _tensors(run: Run) -> Iterator[tuple[str, torch.Tensor]]:
    for name, array in run.arrays.items():
        yield name, torch.from_numpy(array)


def _hash(parts: Iterable[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in parts:
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
