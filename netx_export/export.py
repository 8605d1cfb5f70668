"""``export``: a trained SLAYER network to a netx file that was proved to run as the network does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from lava_spikeloss import LoihiBudget
from lava_spikeloss._arguments import check_tensor
from netx_export.atomic import replacing
from netx_export.check import Finding, check
from netx_export.description import NetworkDescription
from netx_export.errors import ExportError
from netx_export.hdf5 import annotate, content_hash, read, write
from netx_export.provenance import budget_texts, check_texts, rate_texts, source_hash, versions
from netx_export.rewriting import loadable
from netx_export.simulation import simulate
from netx_export.slayer import Recording, describe, record

__all__ = ["ExportResult", "export"]


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
    budget: float | LoihiBudget | None = None,
    metadata: Mapping[str, str] | None = None,
) -> ExportResult:
    """Write a trained SLAYER network to a netx HDF5 file that the stock ``netx.hdf5.Network`` loads.

    The network is not changed. Given a sample, the file is read back, run on the reference simulator and compared with
    ``net(sample)``, spike for spike in every layer; if anything differs, nothing is written and the error says where.
    ``path`` holds either what it held before or the whole new file, never a part of it.

    The file records where it comes from: versions, hashes, the target, the budget, and the event rate of each layer on
    the sample. :func:`netx_export.verify` compares the rates that it counts with both.

    Args:
        net: a module whose blocks of ``lava.lib.dl.slayer.block`` form a chain.
        path: the file to write.
        sample: binary input spikes ``(N, C, ..., T)``, or numbers if the network begins with input neurons; always give
            one, for without it nothing is proved.
        target: the chip whose limits apply; recorded in the file.
        budget: what the network was trained to keep to: the event rate of its hidden layers in spikes per neuron and
            step, or a :class:`lava_spikeloss.LoihiBudget`, whose layers are spiking blocks by their name in ``net``.
        metadata: further texts to record in the file; the stock loader ignores them.

    Returns:
        The path, the network as plain data, and whether it was proved.

    Raises:
        ExportError: if a block, neuron or option cannot be exact on Lava, the exported network differs from ``net``, or
            the file cannot be written.
        ValueError: for an unknown target, a budget that does not fit the network, or a text in ``metadata`` that HDF5
            cannot hold.
        TypeError: if ``sample`` is no tensor, ``metadata`` holds anything but texts, or ``budget`` is neither a number
            nor a budget.

    Example:
        >>> from netx_export import export
        >>> result = export(net, "digits.net", sample=spikes[:16], budget=0.03)  # doctest: +SKIP
        >>> print(result.description)  # doctest: +SKIP
    """
    if target not in ("loihi1", "loihi2"):
        raise ValueError(f"Expected argument `target` to be 'loihi1' or 'loihi2' but got {target!r}.")
    if sample is not None:
        check_tensor("sample", sample)
    texts = check_texts(metadata or {})
    plain = loadable(describe(net, sample))
    texts |= {**versions(), "target": target, "source sha256": source_hash(net), **budget_texts(net, plain, budget)}
    texts["content sha256"] = content_hash(plain)
    gives = {name: layer.neuron.gives for name, layer in plain.spiking.items()}
    with replacing(path) as temporary:
        write(NetworkDescription(plain.layers, texts), temporary)
        del plain  # what counts from here on is what is in the file, and the network's own run needs the memory
        if sample is not None:
            trained = record(net, sample, list(gives))
            annotate(temporary, rate_texts(gives, trained))
            _prove(trained, temporary, sample, graded=any(what != "spikes" for what in gives.values()))
        written = read(temporary)
    return ExportResult(Path(path), written, proved=sample is not None, findings=check(written, target))


def _prove(trained: Recording, path: Path, sample: torch.Tensor, *, graded: bool) -> None:
    """Compare the file on the reference simulator with what the network itself did."""
    exported = simulate(path, sample.detach().cpu())
    pairs = [(name, raster, exported.layers[name]) for name, raster in trained.layers.items()]
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
                f"{expected[tuple(first)]:g} in SLAYER, {got[tuple(first)]:g} in the file. {_advice(graded)}"
            )


def _advice(graded: bool) -> str:
    chain = "Does the network's forward do more than run its blocks one after the other?"
    if not graded:
        return chain
    return (
        f"{chain} Or do its sigma-delta states leave the range of about 128 up to which float32, in which SLAYER "
        f"computes, holds them exactly? Then scale the weights or the input down."
    )
