"""``check``: everything about a network that does not fit a chip, or that the stock loader would change or ignore."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netx_export.errors import ExportError, SimulationError
from netx_export.file.content import content_hash, content_hash_of_format_1
from netx_export.file.netx import as_description
from netx_export.network.chip import LIMITS, Limits
from netx_export.network.description import (
    Conv,
    CubaNeuron,
    Dense,
    NetworkDescription,
    SigmaDeltaNeuron,
    SpikingLayer,
)
from netx_export.network.exact_weights import loads, loads_exactly
from netx_export.network.fixed_point import MAX_STATE, IntArray
from netx_export.network.peaks import Peak, bounds
from netx_export.network.stock_loader import weight_format
from netx_export.provenance import recorded_deviations
from netx_export.simulation import reference
from netx_export.simulation.inputs import check_input, network_input, refuse_shape, sample_tensor
from netx_export.slayer import CannotRunError, Examined, examine, line_up, reaching

__all__ = ["Finding", "Usage", "check", "check_fit", "deviation_findings", "estimate"]

Level = Literal["error", "warning"]
_UNLOADABLE = "weights all zero"
_NEURON_RULES = ("threshold", "current decay", "voltage decay")
_ON_NO_SAMPLE = "Give a sample to see whether it happens."
_ON_THE_SAMPLE = "On the sample it happens only where another finding says so."
_KERNEL_BITS = 8  # of a weight of a convolution, which netx does not fit to fewer
_DELAY_BITS = 6  # that hold 0 to 62 steps


@dataclass(frozen=True)
class Finding:
    """Something that does not fit.

    Attributes:
        rule: name of the rule that it breaks.
        level: ``error`` if the network would not run as it was trained, or holds what the chip cannot hold;
            ``warning`` if it may not run so, or takes more than one chip.
        layer: kind and index of the layer (``dense1``), or the block (``Block 1 (cuba.Dense)``); empty for the network.
        value: what was found.
        limit: what would fit; empty if there is nothing to compare with.
        hint: what to do; empty if the value says it.
    """

    rule: str
    level: Level
    layer: str
    value: Any
    limit: Any
    hint: str


@dataclass(frozen=True)
class Usage:
    """What a layer, or the network, takes of a chip, as pairs (used, limit).

    Attributes:
        layer: kind and index of the layer; empty for the network.
        neurons: neurons, and how many one core has room for.
        synapse_bits: bits of synaptic memory, and how many one core has.
        cores: cores that this takes at least, and how many the chip has.
    """

    layer: str
    neurons: tuple[int, int]
    synapse_bits: tuple[int, int]
    cores: tuple[int, int]


def check(
    network: str | os.PathLike[str] | NetworkDescription | nn.Module,
    target: str | Limits = "loihi2",
    sample: npt.ArrayLike | torch.Tensor | None = None,
) -> list[Finding]:
    """Collect everything about a network that does not fit a chip.

    Args:
        network: a netx file, what :func:`netx_export.read` made of one, or a SLAYER network.
        target: ``"loihi1"``, ``"loihi2"``, or a table of limits like those in :data:`netx_export.network.chip.LIMITS`.
        sample: input ``(N, C, ..., T)`` on which to look for numbers that leave their registers: currents, voltages,
            states of resonators, sums and states of sigma-delta neurons.

    Returns:
        All findings, errors first.

    Raises:
        NetxFormatError: if a file cannot be read.
        SimulationError: if the sample does not fit the network, or is no dense ``(N, C, ..., T)`` of finite numbers.
        ValueError: for an unknown target.
        TypeError: if ``network`` is none of the three.

    Example:
        >>> from netx_export import check
        >>> for finding in check("digits.net"):  # doctest: +SKIP
        ...     print(finding.level, finding.layer, finding.rule, finding.value, finding.hint)
    """
    limits = _limits(target)
    if isinstance(network, nn.Module):
        return _check_module(network, limits, None if sample is None else sample_tensor(sample))
    return _sorted(_check_description(as_description(network), limits, sample))


def _check_module(net: nn.Module, limits: Limits, sample: torch.Tensor | None) -> list[Finding]:
    examined = examine(net, sample)
    if sample is not None and sample.dim() < 3:
        _refuse_two_axes(tuple(sample.shape), examined)
    coming = [_refused(error, rule, "warning") for rule, error in examined.coming]
    if examined.read is None:
        return [*map(_refused, examined.refused), *coming]
    description, chain = examined.read
    if sample is not None and chain.begins_inside:
        try:
            sample = line_up(sample, reaching(net, sample), description)
            check_fit(description, sample, begins_inside=True)
        except ExportError as error:
            return _sorted([*_check_description(description, limits, None), _refused(error), *coming])
    return _sorted([*_check_description(description, limits, sample), *coming])


def _refuse_two_axes(shape: tuple[int, ...], examined: Examined) -> None:
    """Raise for a sample of two axes if the forward cannot run on it, or adds no steps to it."""
    failed = next((error for error in examined.refused if isinstance(error, CannotRunError)), None)
    if failed is not None:
        refuse_shape(shape, failed)
    if examined.read is not None and not examined.read[1].begins_inside:
        refuse_shape(shape)


def _refused(error: ExportError, rule: str = "export", level: Level = "error") -> Finding:
    return Finding(rule, level, error.block, error.reason, "", error.advice)


def check_fit(description: NetworkDescription, entering: torch.Tensor | None, *, begins_inside: bool) -> None:
    """Raise unless a file can take the sample, or what the network's forward makes of it for its first block.

    Raises:
        ExportError: if it cannot; the message begins with the one of the two that is at fault.
    """
    what = "What the network's forward makes of the sample for its first block" if begins_inside else "The sample"
    assert entering is not None
    try:
        check_input(description, entering)
    except SimulationError as error:
        raise ExportError(f"{what} is no input of this network. {error}") from None


def _sorted(findings: list[Finding]) -> list[Finding]:
    """Errors first."""
    return sorted(findings, key=lambda finding: finding.level != "error")


def _check_description(
    description: NetworkDescription, limits: Limits, sample: npt.ArrayLike | torch.Tensor | None
) -> list[Finding]:
    findings = [*_check_network(description, limits)]
    for name, layer in description.spiking.items():
        findings += _check_layer(name, layer, limits)
    if any(finding.rule == _UNLOADABLE for finding in findings):
        return findings  # there is nothing that could run
    seen = _ON_NO_SAMPLE if sample is None else _ON_THE_SAMPLE
    findings += _check_bounds(description, limits, seen)
    if sample is not None:
        findings += _check_states(description, sample, limits)
    if description.reads_voltage:
        readout = list(description.spiking)[-1]
        findings = [_as_readout(finding, seen) if finding.layer == readout else finding for finding in findings]
    return findings


def _as_readout(finding: Finding, seen: str) -> Finding:
    """The same finding for a layer that is read by its voltage: lava-dl chose its neuron, so training cannot help."""
    if finding.rule in _NEURON_RULES:
        hint = "lava-dl writes a layer so that is read by its voltage. Lava's simulator takes it as it is."
        return dataclasses.replace(finding, level="warning", hint=hint)
    if finding.rule.endswith((" may wrap", " may saturate")):
        return dataclasses.replace(finding, hint=seen)
    return finding


def estimate(network: str | os.PathLike[str] | NetworkDescription, target: str | Limits = "loihi2") -> list[Usage]:
    """What each layer, and last the network, takes of a chip at least.

    A lower bound: one weight takes its bits and nothing else (a delay 6 more), a convolution stores its kernels once on
    Loihi 2 and one weight per synapse on Loihi 1, and no core is shared by two layers.

    Args:
        network: a netx file, or what :func:`netx_export.read` made of one.
        target: as for :func:`check`.

    Raises:
        NetxFormatError: if a file cannot be read.
        ValueError: for an unknown target.
        TypeError: if ``network`` is neither.

    Example:
        >>> import numpy as np
        >>> from netx_export.checking import estimate
        >>> from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription
        >>> neuron = CubaNeuron(threshold=80, current_decay=np.array([1024]), voltage_decay=np.array([128]))
        >>> estimate(NetworkDescription((Input((2,)), Dense(np.array([[8, -4]]), neuron))))[0].neurons
        (1, 8192)
    """
    limits = _limits(target)
    description = as_description(network)
    usages = [_usage(name, layer, limits) for name, layer in description.spiking.items()]
    cores = limits["cores"].high
    total = Usage(
        layer="",
        neurons=(sum(usage.neurons[0] for usage in usages), limits["neurons per core"].high * cores),
        synapse_bits=(sum(usage.synapse_bits[0] for usage in usages), limits["synapse bits per core"].high * cores),
        cores=(sum(usage.cores[0] for usage in usages), cores),
    )
    return [*usages, total]


def _limits(target: str | Limits) -> Limits:
    if isinstance(target, Mapping):
        return target
    if not isinstance(target, str) or target not in LIMITS:
        raise ValueError(f"Expected argument `target` to be one of {', '.join(map(repr, LIMITS))} but got {target!r}.")
    return LIMITS[target]


def _check_network(description: NetworkDescription, limits: Limits) -> Iterator[Finding]:
    for field in description.ignored:
        yield Finding("ignored field", "warning", "", field, "", "netx does not read it; retrain without it.")
    yield from deviation_findings(description)
    used, limit = estimate(description, limits)[-1].cores
    if used > limit:
        yield Finding("cores", "warning", "", used, limit, "Make the network smaller, or use more chips.")
    recorded = description.metadata.get("content sha256")
    if recorded is None:
        return
    found = content_hash(description)
    if recorded not in (found, content_hash_of_format_1(description)):
        hint = "The file was changed since its export. Export the network again."
        yield Finding("content hash", "warning", "", found, recorded, hint)


def deviation_findings(description: NetworkDescription) -> Iterator[Finding]:
    """What a file records of how far it deviates from the network that it was exported from."""
    deviations, tolerance = recorded_deviations(description.metadata)
    hint = "SLAYER's float32 could not hold the network's numbers. Verify the file on your data, with a Tolerance."
    for name, size in deviations.items():
        yield Finding("deviation at export", "warning", name, size, tolerance, hint)


def _check_layer(name: str, layer: SpikingLayer, limits: Limits) -> Iterator[Finding]:
    extremes = np.array([extreme for part in _weights(layer) for extreme in (part.min(), part.max())])
    yield from _outside("weight", name, extremes, limits, "Quantise with neuron.quantize_8bit.")
    yield from _check_format(name, layer, limits)
    neuron = layer.neuron
    if not isinstance(neuron, SigmaDeltaNeuron):
        thresholds = np.array([neuron.threshold])
        yield from _outside("threshold", name, thresholds, limits, "Train with a threshold that fits 17 bits.")
    if isinstance(neuron, CubaNeuron):
        hint = "Train with a decay that fits 12 bits."
        yield from _outside("current decay", name, neuron.current_decay, limits, hint)
        yield from _outside("voltage decay", name, neuron.voltage_decay, limits, hint)
    if isinstance(neuron, SigmaDeltaNeuron):
        bits = np.array([neuron.message_bits])
        yield from _outside("message bits", name, bits, limits, "Send smaller changes, or use a chip with payloads.")
    for attribute in ("delay", "bias"):
        values = getattr(layer, attribute, None)
        if values is not None:
            yield from _outside(attribute, name, values, limits, f"Train with a smaller {attribute}.")


def _weights(layer: SpikingLayer) -> list[IntArray]:
    """All matrices or kernels of a layer."""
    others = (getattr(layer, name, None) for name in ("recurrent_weight", "imaginary_weight"))
    return [layer.weight, *(other for other in others if other is not None)]


def _outside(rule: str, layer: str, values: IntArray, limits: Limits, hint: str) -> Iterator[Finding]:
    """An error for the worst value below, and one for the worst value above what is possible."""
    limit = limits[rule]
    for worst in {int(values.min()), int(values.max())}:
        if not limit.low <= worst <= limit.high:
            yield Finding(rule, "error", layer, worst, (limit.low, limit.high), f"{hint} Source: {limit.source}.")


def _check_format(name: str, layer: SpikingLayer, limits: Limits) -> Iterator[Finding]:
    """What netx's weight optimisation and Lava's clipping make of the weights."""
    hint = "Export the trained network with netx_export.export, which writes it in another way."
    if not loads(layer):
        yield Finding(_UNLOADABLE, "error", name, "nothing but zeros", "at least one other weight", hint)
        return
    if not loads_exactly(layer):
        yield Finding("weights altered", "error", name, "weights change when netx loads them", "the same weights", hint)
    for weights in layer.loaded_together:
        bits, exponent = weight_format(*weights)
        yield from _outside("weight bits", name, np.array([bits]), limits, "Use weights in steps of 2.")
        yield from _outside("weight exponent", name, np.array([exponent]), limits, "Use larger weights.")


def _check_bounds(description: NetworkDescription, limits: Limits, seen: str) -> Iterator[Finding]:
    """Whether some input could drive a number beyond its limit, from weights and decays alone."""
    for name, peak in _peaks_of_layers(bounds(description)):
        limit = _limit(peak, limits)
        if peak.size > limit:
            rule, value = f"{peak.quantity.name} may {peak.quantity.beyond}", _whole(peak.size)
            yield Finding(rule, "warning", name, value, limit, f"{seen} {peak.quantity.hint}")


def _check_states(
    description: NetworkDescription, sample: npt.ArrayLike | torch.Tensor, limits: Limits
) -> Iterator[Finding]:
    """Whether a number goes beyond its limit on a sample."""
    spikes = network_input(description, sample)
    for name, peak in _peaks_of_layers(reference.peaks(description, spikes)):
        limit = _limit(peak, limits)
        if peak.size > limit:
            quantity = peak.quantity
            level: Level = "warning" if quantity.beyond == "round" else "error"
            scaled = (
                f"It reaches {peak.size / quantity.unit:.4g} in SLAYER's scale, where {limit / quantity.unit:.4g} fit."
            )
            rule = f"{quantity.name} {quantity.beyond}s"
            yield Finding(rule, level, name, _whole(peak.size), limit, f"{scaled} {quantity.hint}")
    if description.graded:
        yield from _check_messages(description, spikes)


def _check_messages(description: NetworkDescription, spikes: torch.Tensor) -> Iterator[Finding]:
    """Whether a sigma-delta neuron sends a message that needs more bits than it declares."""
    neurons = {name: layer.neuron for name, layer in description.spiking.items() if description.gives[name] != "sums"}
    if description.encoder is not None:
        neurons = {"input0": description.encoder.neuron, **neurons}
    needed = dict.fromkeys(neurons, 0)
    for chunk in spikes.split(reference.chunk_size(description, spikes.shape[-1], spikes.device)):
        sent = {"input0": chunk, **reference.run(description, chunk)}
        needed = {name: max(bits, _bits(sent[name])) for name, bits in needed.items()}
    for name, neuron in neurons.items():
        declared = neuron.message_bits if isinstance(neuron, SigmaDeltaNeuron) else 1
        if needed[name] > declared:
            hint = "Lava's simulator sends it whole, but netx asks a chip for no more. Scale the input or weights down."
            yield Finding("message beyond its bits", "warning", name, needed[name], declared, hint)


def _bits(messages: torch.Tensor) -> int:
    """Bits of the largest of some whole numbers, with its sign."""
    low, high = (int(value) for value in torch.aminmax(messages))
    return 1 + max((~low if low < 0 else low).bit_length(), high.bit_length() if high > 0 else 0)


def _peaks_of_layers(peaks: Mapping[str, tuple[Peak, ...]]) -> Iterator[tuple[str, Peak]]:
    return ((name, peak) for name, found in peaks.items() for peak in found)


def _limit(peak: Peak, limits: Limits) -> int:
    """The limit of a number; what has 24 bits has those of the chip."""
    state = limits["state"].high
    return state if peak.limit == MAX_STATE else peak.limit


def _whole(size: float) -> int | str:
    return int(size) if np.isfinite(size) else "without bound"


def _usage(name: str, layer: SpikingLayer, limits: Limits) -> Usage:
    neurons_per_core, bits_per_core = limits["neurons per core"].high, limits["synapse bits per core"].high
    neurons = math.prod(layer.shape)
    bits = _synapse_bits(layer, shared_kernels=limits["shared kernels"].high > 0)
    cores = max(math.ceil(neurons / neurons_per_core), math.ceil(bits / bits_per_core))
    return Usage(name, (neurons, neurons_per_core), (bits, bits_per_core), (cores, limits["cores"].high))


def _synapse_bits(layer: SpikingLayer, *, shared_kernels: bool) -> int:
    weights = sum(int(part.size) for part in _weights(layer))
    if isinstance(layer, Conv):
        positions = 1 if shared_kernels else math.prod(layer.spatial_shape[1:])
        return weights * positions * _KERNEL_BITS
    loadable = [group for group in layer.loaded_together if any(part.any() for part in group)]
    bits = max((weight_format(*group)[0] for group in loadable), default=1)
    delayed = isinstance(layer, Dense) and layer.delay is not None
    return weights * (max(bits, 1) + _DELAY_BITS * delayed)
