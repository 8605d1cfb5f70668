"""What an exported file does on a sample, held against what the network itself did: equal, but for float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from netx_export.errors import ExportError, SimulationError
from netx_export.file.netx import read
from netx_export.network.description import Gives, NetworkDescription
from netx_export.network.peaks import Peak
from netx_export.run import OUTPUT, Spikes
from netx_export.simulation import reference
from netx_export.simulation.inputs import check_input, network_input
from netx_export.simulation.simulate import simulate
from netx_export.slayer import Recording, line_up

__all__ = ["prove"]

_OWN_FORWARD = "Does the network's forward do something else on some data than on others?"


def prove(trained: Recording, path: Path, sample: torch.Tensor, tolerance: float) -> dict[str, float]:
    """Compare the file on the reference simulator with what the network itself did.

    Whatever the tolerance, a difference passes only where float32, in which SLAYER computes, cannot hold the numbers of
    sigma-delta neurons: spikes have to be equal, and so has all of a sample in which Lava wraps a number.

    Args:
        trained: what the network did on the sample.
        path: the file.
        sample: the network's input.
        tolerance: the largest deviation of a layer or the output that is accepted; 0 for none.

    Returns:
        The largest deviation of each layer, and of the output, as described at :func:`netx_export.export`.

    Raises:
        ExportError: if something differs by more than that, or for another reason.
    """
    description = read(path)
    sample = _entering(trained, sample, description)
    exported = simulate(description, sample)
    pairs = [_Pair(name, expected, exported.arrays[name]) for name, expected in trained.arrays.items()]
    for pair in pairs:
        if pair.expected.shape != pair.got.shape:
            raise ExportError(
                f"Not exported: {pair.words} has shape {pair.expected.shape} in the network but {pair.got.shape} in "
                f"the file."
            )
    different = [pair for pair in pairs if not pair.equal]
    if not different:
        return dict.fromkeys(trained.arrays, 0.0)
    deviations = {pair.name: pair.deviation(_gives(description, pair.name)) for pair in pairs}
    first = different[0].first_place
    cause = _cause_of_all(description, sample, different, first[0])
    if cause.rounds and not np.array_equal(trained.output.ravel(), pairs[len(trained.layers) - 1].expected.ravel()):
        cause = _Cause(_OWN_FORWARD)  # in a file the output is what the last layer gives; in the network it is not
    # Not "any above it": NaN is neither above nor within a tolerance, and has to be refused.
    if cause.rounds and all(deviation <= tolerance for deviation in deviations.values()):
        return deviations
    advice = f" {_advice(deviations, tolerance)}" if cause.rounds else ""
    raise ExportError(
        f"Not exported: the file does not run as the network does. {different[0].summary(first)} {cause.text}{advice}"
    )


def _entering(trained: Recording, sample: torch.Tensor, description: NetworkDescription) -> torch.Tensor:
    """What goes into the file: what reached the network's first block."""
    entering = line_up(sample, trained.inputs, description).detach().cpu()
    if trained.begins_inside:
        try:
            check_input(description, entering)
        except SimulationError as error:
            raise ExportError(
                f"Not exported: what the network's forward makes of the sample for its first block is no input of a "
                f"file. {error}"
            ) from None
    return entering


@dataclass(frozen=True, eq=False)
class _Pair:
    """One layer, or the output, in the network and in the file.

    Attributes:
        name: of the layer, or ``output``.
        expected: what SLAYER made of the sample.
        got: what the file made of it.
    """

    name: str
    expected: Spikes
    got: Spikes

    @property
    def words(self) -> str:
        return "the output" if self.name == OUTPUT else self.name

    @property
    def equal(self) -> bool:
        return np.array_equal(self.expected, self.got)

    @property
    def first_place(self) -> tuple[int, ...]:
        """The place of the earliest difference: sample, neuron and step."""
        places = np.argwhere(self.expected != self.got)
        return tuple(places[places[:, -1].argmin()].tolist())

    def differs_in(self, index: int) -> bool:
        return not np.array_equal(self.expected[index], self.got[index])

    def deviation(self, gives: Gives) -> float:
        """The largest difference of a value; of messages, of what a neuron has sent up to some step too."""
        if self.equal:
            return 0.0
        difference = self.expected.astype(np.float64) - self.got
        drift = difference.cumsum(-1) if gives == "messages" else difference
        return float(np.maximum(np.abs(difference), np.abs(drift)).max())

    def summary(self, place: tuple[int, ...]) -> str:
        """How many values differ, by how much, and the one at a place."""
        by = np.abs(self.expected.astype(np.float64) - self.got).max()
        return (
            f"{np.count_nonzero(self.expected != self.got):,} of {self.expected.size:,} values of {self.words} differ, "
            f"by up to {by:.6g}, first at step {place[-1]} in neuron {place[1:-1]} of sample {place[0]}: "
            f"{self.expected[place]:g} in SLAYER, {self.got[place]:g} in the file."
        )


def _gives(description: NetworkDescription, name: str) -> Gives:
    """What a layer gives, or the output of a network that ends without a host."""
    last = list(description.spiking)[-1]
    return description.gives[last if name == OUTPUT else name]


@dataclass(frozen=True)
class _Cause:
    """Why a sample differs.

    Attributes:
        text: said to the user.
        rounds: whether it is what SLAYER's float32 rounds off, and nothing else.
    """

    text: str
    rounds: bool = False


def _cause_of_all(description: NetworkDescription, sample: torch.Tensor, different: list[_Pair], first: int) -> _Cause:
    """Why samples differ, told of the ``first`` one unless another differs for a reason other than rounding."""
    cause = _cause(description, sample, different, first)
    for index in range(len(sample)):
        if cause.rounds and any(pair.differs_in(index) for pair in different):
            found = _cause(description, sample, different, index)
            cause = cause if found.rounds else found
    return cause


def _cause(description: NetworkDescription, sample: torch.Tensor, different: list[_Pair], index: int) -> _Cause:
    """Why one sample differs: the numbers of the first layer that differs tell, since its inputs are still equal."""
    first = next(pair for pair in different if pair.differs_in(index))
    step = _Pair(first.name, first.expected[index], first.got[index]).first_place[-1]
    peaks = reference.peaks(description, network_input(description, sample[index : index + 1]))
    own = [peak for peak in peaks.get(first.name, ()) if peak.step is not None and peak.step <= step]
    if not own:
        return _Cause(_OWN_FORWARD)
    if own[0].quantity.beyond != "round":
        return _Cause(_beyond(first.name, own[0], index))
    for name, found in peaks.items():
        for peak in found:
            if peak.exceeded and peak.quantity.beyond != "round":
                return _Cause(f"{_beyond(name, peak, index)} No tolerance covers that.")
    return _Cause(_beyond(first.name, own[0], index), rounds=True)


def _beyond(name: str, peak: Peak, index: int) -> str:
    quantity, limit = peak.quantity, peak.limit
    holds = "float32 holds exactly" if quantity.beyond == "round" else f"{limit.bit_length() + 1} bits hold"
    return (
        f"The {quantity.name} of {name} reaches {peak.size:,.0f} in sample {index}, {peak.size / quantity.unit:.4g} in "
        f"SLAYER's scale, and goes beyond {limit:,} ({limit / quantity.unit:.4g}), the most that {holds}, first at "
        f"step {peak.step}. {quantity.hint}"
    )


def _advice(deviations: dict[str, float], tolerance: float) -> str:
    above = {name: deviation for name, deviation in deviations.items() if not deviation <= tolerance}
    told = ", ".join(f"{name} {deviation:.6g}" for name, deviation in above.items())
    return (
        f"If it is near enough, tolerance={max(above.values())!r} writes the file and states the deviation; beyond "
        f"what is accepted are {told}."
    )
