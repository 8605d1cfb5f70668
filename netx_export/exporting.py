"""``export``: a trained SLAYER network to a netx file that was proved to run as the network does."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from lava_spikeloss import LoihiBudget
from lava_spikeloss.arguments import check_number, check_tensor
from netx_export.checking import Finding, check, check_fit, deviation_findings
from netx_export.errors import ExportError
from netx_export.file.atomic import replacing
from netx_export.file.netx import annotate, content_hash, fill, read
from netx_export.network.description import NetworkDescription
from netx_export.network.exact_weights import loadable
from netx_export.provenance import (
    budget_texts,
    check_texts,
    deviation_texts,
    place_texts,
    rate_texts,
    silence_texts,
    source_hash,
    versions,
)
from netx_export.proving import prove
from netx_export.run import OUTPUT, Run
from netx_export.slayer import CannotRunError, Chain, Recording, keeps_state, read_chain, record

__all__ = ["ExportResult", "export"]


@dataclass(frozen=True, eq=False)
class ExportResult:
    """What was exported.

    Attributes:
        path: the file.
        description: the network in it, as plain data; prints as a table.
        proved: whether the file was read back, simulated on the sample and found equal to the network in every number,
            with evidence in every layer: none was silent.
        findings: what :func:`netx_export.check` warns of on the target chip, whether a proof is missing, and which
            layers deviate; none is an error.
        silent: the layers, and ``output``, that were silent on the sample, so that nothing was shown of them.
        deviations: the largest deviation of each layer, and of ``output``, from the network on the sample; 0 of what is
            equal. Empty without a sample.
        begins_inside: whether the network's forward makes something else of its input for its first block, such as
            spikes of images; the file begins behind that, and takes what reaches the first block.
        ends_inside: whether the network returns something else than what its last block made, such as rates; the file
            ends before that, and gives what the last block made.
    """

    path: Path
    description: NetworkDescription
    proved: bool
    findings: list[Finding]
    silent: tuple[str, ...] = ()
    deviations: Mapping[str, float] = field(default_factory=dict)
    begins_inside: bool = False
    ends_inside: bool = False


def export(
    net: nn.Module,
    path: str | os.PathLike[str],
    sample: torch.Tensor | None = None,
    *,
    target: Literal["loihi1", "loihi2"] = "loihi2",
    budget: float | LoihiBudget | None = None,
    metadata: Mapping[str, str] | None = None,
    allow_silent: Collection[str] = (),
    tolerance: float | None = None,
) -> ExportResult:
    """Write a trained SLAYER network to a netx HDF5 file that the stock ``netx.hdf5.Network`` loads.

    Neither the network nor the sample is changed. Each block is run by itself on random spikes and held against what
    was read from it. Given a sample, the file is read back, run on the reference simulator and compared with
    ``net(sample)``, spike for spike in every layer; if anything differs, or a layer is silent, so that nothing is shown
    of it, nothing is written and the error says where. ``path`` holds either what it held before or the whole new file,
    never a part of it.

    Networks run in evaluation mode and each sample starts from rest, in Recurrent and KWTA blocks too, whose state
    SLAYER keeps from one batch to the next; a finding says so.

    The file records where it comes from: versions, hashes, the target, the budget, and the event rate of each layer on
    the sample. :func:`netx_export.verify` compares the rates that it counts with both.

    Args:
        net: a module whose blocks of ``lava.lib.dl.slayer.block`` form a chain.
        path: the file to write.
        sample: binary input spikes ``(N, C, ..., T)``, or numbers if the network begins with input neurons; always give
            one, for without it nothing is proved.
        target: the chip whose limits apply; recorded in the file. A network of which :func:`netx_export.check` finds
            an error on that chip is not written.
        budget: what the network was trained to keep to: the event rate of its hidden layers in spikes per neuron and
            step, or a :class:`lava_spikeloss.LoihiBudget`, whose layers are spiking blocks by their name in ``net``.
        metadata: further texts to record in the file; the stock loader ignores them.
        allow_silent: names of layers (``dense2``; ``output``) that may be silent on the sample. If one is, the file
            records it, and the result is not ``proved``.
        tolerance: how far a layer of sigma-delta neurons, or the output of such a network, may deviate on the sample
            where SLAYER's float32 cannot hold its numbers; None, or 0, asks for equality. It is in units of what the
            layer gives: the largest difference of a sum, or of a message, and of all that a neuron has sent up to some
            step. The file records tolerance and deviations, and the result is not ``proved`` but within that bound.
            Spikes have to be equal whatever the tolerance, and so has all of a sample in which Lava wraps a number.

    Returns:
        The path, the network as plain data, whether it was proved, and how far it deviates.

    Raises:
        ExportError: if a block, neuron or option cannot be exact on Lava, the network holds what the target chip cannot
            hold, the exported network differs from ``net``, a layer is silent on the sample, or the file cannot be
            written.
        ValueError: for an unknown target, a budget that does not fit the network, a text in ``metadata`` that HDF5
            cannot hold, a name in ``allow_silent`` that no layer has, or a tolerance that is negative or not finite.
        TypeError: if ``net`` is no module, ``sample`` no dense tensor of real numbers, ``metadata`` holds anything but
            texts, ``budget`` is neither a number nor a budget, ``allow_silent`` is no collection of names, or
            ``tolerance`` no number.

    Example:
        >>> from netx_export import export
        >>> result = export(net, "digits.net", sample=spikes[:16], budget=0.03)  # doctest: +SKIP
        >>> print(result.description)  # doctest: +SKIP
    """
    _check_arguments(net, sample, target, tolerance)
    texts = check_texts(metadata or {})
    description, chain = _read(net, sample)
    plain = loadable(description)
    findings = check(plain, target)
    _refuse_errors(findings, target)
    if sample is not None:
        check_fit(plain, chain.inputs if chain.begins_inside else sample, begins_inside=chain.begins_inside)
    allowed = _check_names(allow_silent, [*plain.spiking, OUTPUT])
    texts |= {
        **versions(),
        "target": target,
        "source sha256": source_hash(net),
        **budget_texts(net, chain, plain, budget),
    }
    texts |= place_texts(chain.begins_inside, chain.ends_inside)
    texts["content sha256"] = content_hash(plain)
    gives = plain.gives
    unseen: tuple[str, ...] = ()
    deviations: dict[str, float] = {}
    with replacing(path) as temporary:
        fill(NetworkDescription(plain.layers, texts), temporary)
        del plain, description  # from here on only the file counts, and the run of the network needs the memory
        if sample is not None:
            trained = record(net, sample, list(gives))
            _check_places(trained, chain)
            deviations = prove(trained, temporary, sample, tolerance or 0.0)
            unseen = _check_evidence(trained, allowed)
            proof = {**silence_texts(unseen), **deviation_texts(deviations, tolerance or 0.0)}
            annotate(temporary, {**rate_texts(gives, trained), **proof})
        written = read(temporary)
    proved = sample is not None and not unseen and not any(deviations.values())
    findings += [*_missing_proof(sample is not None, unseen), *deviation_findings(written)]
    findings += _kept_state(chain, list(gives))
    inside = (chain.begins_inside, chain.ends_inside)
    return ExportResult(Path(path), written, proved, findings, unseen, deviations, *inside)


def _check_arguments(net: object, sample: torch.Tensor | None, target: object, tolerance: object) -> None:
    if target not in ("loihi1", "loihi2"):
        raise ValueError(f"Expected argument `target` to be 'loihi1' or 'loihi2' but got {target!r}.")
    if not isinstance(net, nn.Module):
        raise TypeError(f"Expected argument `net` to be a torch.nn.Module but got {type(net).__name__}.")
    if tolerance is not None:
        check_number("tolerance", tolerance, minimum=0.0)
    if sample is not None:
        _check_sample(sample)


def _check_sample(sample: torch.Tensor) -> None:
    check_tensor("sample", sample)
    if sample.layout != torch.strided or sample.is_complex() or sample.is_quantized or sample.is_meta:
        raise TypeError(
            f"Expected argument `sample` to be a dense tensor of real numbers but got {sample.layout}, {sample.dtype} "
            f"on {sample.device}."
        )
    if sample.dim() < 2 or 0 in sample.shape:
        raise _wrong_shape(sample)
    if not bool(sample.isfinite().all()):
        raise ValueError("Expected argument `sample` to hold finite numbers but got NaN or infinity.")


def _wrong_shape(sample: torch.Tensor, cause: str = "") -> ValueError:
    """The error of a sample with too few axes; the cause is why the network's forward cannot add them."""
    return ValueError(
        f"Expected argument `sample` to be of shape (N, C, ..., T) with at least one sample and one step but got "
        f"{tuple(sample.shape)}{cause or '.'}"
    )


def _read(net: nn.Module, sample: torch.Tensor | None) -> tuple[NetworkDescription, Chain]:
    """The network as plain data, and its chain of blocks; of two axes a sample can be if the forward adds the steps."""
    if sample is None or sample.dim() > 2:
        return read_chain(net, sample)
    try:
        description, chain = read_chain(net, sample)
    except CannotRunError as error:
        raise _wrong_shape(sample, f". {error}") from error
    if not chain.begins_inside:
        raise _wrong_shape(sample)
    return description, chain


def _refuse_errors(findings: list[Finding], target: str) -> None:
    errors = [
        f"{error.layer}: {error.rule} of {error.value}, limit {error.limit}. {error.hint}"
        for error in findings
        if error.level == "error"
    ]
    if errors:
        raise ExportError(
            f"Not exported: the network does not fit {target}. {' '.join(errors)} Or export it for another target."
        )


def _check_places(trained: Recording, chain: Chain) -> None:
    """Raise if the network does something before its first block or behind its last that a part of the sample hid."""
    before, behind = trained.begins_inside > chain.begins_inside, trained.ends_inside > chain.ends_inside
    if before or behind:
        place = "before its first block" if before else "behind its last block"
        raise ExportError(
            f"Not exported: what the network's forward does {place} shows on the whole sample, and did not on its "
            f"first few. Does the network's forward do something else on some data than on others? Put some of that "
            f"first."
        )


def _check_names(allow_silent: Collection[str], known: list[str]) -> frozenset[str]:
    if isinstance(allow_silent, str) or not isinstance(allow_silent, Collection):
        raise TypeError(f"Expected argument `allow_silent` to be a collection of names but got {allow_silent!r}.")
    unknown = [name for name in allow_silent if name not in known]
    if unknown:
        raise ValueError(f"Expected the names in `allow_silent` to be among {', '.join(known)} but got {unknown}.")
    return frozenset(allow_silent)


def _check_evidence(trained: Run, allowed: frozenset[str]) -> tuple[str, ...]:
    """What was silent on the sample; an error unless that is allowed."""
    refused = [name for name in trained.silent if name not in allowed]
    if refused:
        raise ExportError(
            f"Not exported: {', '.join(refused)} gave nothing but zeros on the sample, so nothing is proved of them. "
            f"Give a sample of real data on which every layer spikes; or name them in allow_silent={refused}, and the "
            f"file is written without a proof."
        )
    return trained.silent


def _missing_proof(given: bool, unseen: tuple[str, ...]) -> list[Finding]:
    if not given:
        return [Finding("not proved", "warning", "", "no sample", "a sample", "Give export a sample of real data.")]
    hint = "Give a sample on which it spikes."
    return [Finding("not proved", "warning", name, "silent on the sample", "events", hint) for name in unseen]


def _kept_state(chain: Chain, names: list[str]) -> list[Finding]:
    hint = "Call lava_spikeloss.training.reset_net(net) before each batch, and both do the same."
    return [
        Finding("persistent state", "warning", name, "SLAYER keeps it between batches", "from rest in the file", hint)
        for name, block in zip(names, chain.layers, strict=True)
        if keeps_state(block)
    ]
