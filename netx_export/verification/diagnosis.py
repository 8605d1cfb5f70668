"""Why two runs of a network differ: the first difference, the membranes around it, and a cause with a name.

Up to the first layer that differs both runs are equal, so that layer's input is known. One assumption at a time is
changed (no wrap of the current, weights as in the file, no reset before the sample, ...) until one of them makes the
reference simulator's arithmetic give, spike for spike, what the other run gave. That one is the cause. If there is
none, the cause is not found, and the report says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netx_export.errors import NetxExportError
from netx_export.network.description import NetworkDescription, Resonator, SpikingLayer
from netx_export.network.exact_weights import loadable
from netx_export.network.fixed_point import ALIGNMENT_BITS, DEFAULT_SPIKE_EXP
from netx_export.run import OUTPUT, Spikes
from netx_export.simulation import reference
from netx_export.simulation.inputs import as_tensor, network_input
from netx_export.simulation.simulate import simulate
from netx_export.slayer import BATCH, describe, evaluation, line_up, reaching, run_layers
from netx_export.slayer.reading import output_delay
from netx_export.slayer.running import CannotRunError, forward
from netx_export.verification.neuron_trace import AS_LAVA, Assumptions, shifted, trace, variations
from netx_export.verification.result import Cause, Comparison
from netx_export.verification.sums import Origin

__all__ = ["CAUSES", "Data", "diagnose"]

CAUSES = (
    "weight altered on load",
    "wrapped current",
    "saturated voltage",
    "beyond its limit",
    "delay",
    "bias",
    "bias a step early",
    "reset step",
    "state carried over from an earlier batch",
    "dropout left in training mode",
    "batch norm left in training mode",
    "different delay_shift",
    "coarser messages",
    "file differs from the network",
    "readout on the host",
    "not found",
)

_FIELD_CAUSES = {
    "delay": "delay",
    "axon_delay": "delay",
    "bias": "bias",
    "delay_shift": "different delay_shift",
}
_CHECKED_NEURONS = 32  # a cause has to explain this many neurons of the sample
_STEPS_AROUND = 4
_EARLIER_SAMPLES = 8

Finding = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Data:
    """What was verified.

    Attributes:
        net: the SLAYER network, or None.
        description: the network in the file.
        inputs: all input ``(N, C, ..., T)``.
        begins_inside: whether the network's forward makes something else of it for its first block.
    """

    net: nn.Module | None
    description: NetworkDescription
    inputs: Any
    begins_inside: bool = False

    def samples(self, first: int, last: int | None = None) -> torch.Tensor:
        """Some samples, from ``first`` to before ``last``; one by default."""
        end = first + 1 if last is None else min(last, len(self.inputs))
        return self.choose(np.arange(first, end))

    def choose(self, samples: npt.NDArray[np.int64]) -> torch.Tensor:
        """The samples with these indices, as they were given."""
        if isinstance(self.inputs, torch.Tensor):
            return self.inputs[torch.from_numpy(samples)]
        return as_tensor(self.inputs[samples])

    def entering(self, samples: npt.NDArray[np.int64]) -> torch.Tensor:
        """The input of the file for these samples: what reaches the network's first block, if there is a network."""
        chosen = self.choose(samples)
        if self.net is None or not self.begins_inside:
            return chosen
        return line_up(chosen, reaching(self.net, chosen), self.description)


@dataclass(frozen=True, eq=False)
class _DataAgain(Data):
    """The same data, of which one batch goes through the network's forward again as it did when it was compared.

    A forward that encodes at random makes something else of a sample that comes alone.
    """

    batch: npt.NDArray[np.int64] = field(default_factory=lambda: np.arange(0))

    @cached_property
    def _entered(self) -> torch.Tensor:
        return super().entering(self.batch)

    def entering(self, samples: npt.NDArray[np.int64]) -> torch.Tensor:
        """The input of the file for these samples, which have to be some of the batch."""
        if not np.isin(samples, self.batch).all():
            return super().entering(samples)
        return self._entered[torch.from_numpy(np.array([self.row(sample) for sample in samples]))]

    def row(self, sample: int) -> int:
        """Where a sample lies in the batch."""
        return int(np.flatnonzero(self.batch == sample)[0])


@dataclass(frozen=True, eq=False)
class _Scene:
    """The first layer that differs, in the sample of its earliest difference.

    Attributes:
        layer: the layer.
        name: its name.
        sample: index of the sample.
        shift: steps by which SLAYER delays the layer's output.
        lead: empty steps before the sample, in which biases act already.
        bias_start: step, counted from the first of these, from which the layer's bias acts.
        inputs: what comes into the layer, ``(C, ..., lead + T)``: equal in both runs.
        reference, other: what the reference makes of it, and what the other run gave.
        source: where the other run comes from.
        spikes: whether the layer gives spikes, rather than numbers.
    """

    layer: SpikingLayer
    name: str
    sample: int
    shift: int
    lead: int
    bias_start: int
    inputs: Spikes
    reference: Spikes
    other: Spikes
    source: str
    spikes: bool

    def delay(self, neuron: tuple[int, ...]) -> int:
        """Steps by which a neuron's spikes come later in the compared runs than in local time."""
        axon_delay = self.layer.axon_delay
        return self.shift - self.lead + (0 if axon_delay is None else int(axon_delay[neuron[0]]))

    def explains(self, inputs: Spikes, feedback: Spikes, assumed: Assumptions = AS_LAVA) -> bool:
        """Whether the other run's spikes, of some neurons, follow from other inputs or other assumptions.

        Inputs may begin before the sample; only the spikes in the sample are compared.
        """
        steps = self.other.shape[-1]
        for neuron in self._neurons():
            spikes = trace(self.layer, neuron, inputs, feedback, self.bias_start, assumed).spikes
            seen = shifted(spikes[-self.inputs.shape[-1] :], self.delay(neuron))[:steps]
            if not np.array_equal(seen, self.other[neuron] != 0):
                return False
        return True

    def _neurons(self) -> list[tuple[int, ...]]:
        """Some neurons: those that differ in this sample, the earliest first, then some that do not.

        Many assumptions explain one neuron that differs; those that would have changed its neighbours too are wrong.
        """
        different = self.reference != self.other
        first = np.where(different.any(-1), different.argmax(-1), different.shape[-1])
        order = np.argsort(first, axis=None, kind="stable")
        return [tuple(np.unravel_index(index, first.shape)) for index in order[:_CHECKED_NEURONS]]

    def in_local_time(self, spikes: npt.NDArray[Any]) -> Spikes:
        """The layer's spikes in local time; the last steps, which the compared runs do not hold, are silent."""
        widths = [(0, 0)] * (spikes.ndim - 1) + [(self.lead, 0)]
        return shifted(np.pad(spikes != 0, widths), -self.shift).astype(np.uint8)


def diagnose(data: Data, comparison: Comparison, origin: Origin | None, order: npt.NDArray[np.int64]) -> Cause | None:
    """The cause of a comparison's first difference; None if there is no difference.

    Args:
        data: what was verified.
        comparison: its result.
        origin: where the two runs part; None if no layer differs.
        order: the samples part by part as they were run; within a part several workers may have run some side by side.
    """
    if origin is None:
        return _output_cause(data.description, comparison)
    data = _DataAgain(data.net, data.description, data.inputs, data.begins_inside, origin.batch)
    is_expected = comparison.expected == "reference"
    layer = data.description.spiking[origin.layer]
    place = origin.place
    scene = _Scene(
        layer=layer,
        name=origin.layer,
        sample=place.sample,
        shift=data.description.shifts[origin.layer],
        lead=data.description.lead,
        bias_start=data.description.lead - data.description.bias_starts.get(origin.layer, 0),
        inputs=_layer_inputs(data, origin.layer, np.array([place.sample]))[0],
        reference=origin.expected if is_expected else origin.got,
        other=origin.got if is_expected else origin.expected,
        source=comparison.got if is_expected else comparison.expected,
        spikes=data.description.gives[origin.layer] == "spikes",
    )
    name, detail = next(_findings(data, scene, order), ("not found", "No single assumption explains it."))
    detail += _say_unseen(list(data.description.spiking), origin.layer, comparison.unrecorded)
    steps = tuple(range(max(0, place.step - _STEPS_AROUND), min(comparison.steps, place.step + _STEPS_AROUND + 1)))
    membranes = _reference_membrane(scene, place.neuron, steps), _slayer_membrane(data, scene, place.neuron, steps)
    return Cause(
        name=name,
        detail=detail,
        layer=origin.layer,
        place=place,
        steps=steps,
        threshold=layer.neuron.threshold << ALIGNMENT_BITS if scene.spikes else None,
        expected_membrane=membranes[not is_expected],
        got_membrane=membranes[is_expected],
    )


def _say_unseen(names: list[str], layer: str, unrecorded: tuple[str, ...]) -> str:
    """What is assumed of layers that were not compared: one of them may have caused the difference behind it."""
    unseen = [name for name in names[: names.index(layer)] if name in unrecorded]
    return f" It is taken for granted that {', '.join(unseen)}, not in the recording, is equal." if unseen else ""


def _output_cause(description: NetworkDescription, comparison: Comparison) -> Cause | None:
    """Why the output differs, though no layer that was compared does."""
    if comparison.output is None or not comparison.output.differing:
        return None
    if comparison.unrecorded:
        name = "not found"
        detail = f"The output alone tells no cause: {', '.join(comparison.unrecorded)} is not in the recording."
    elif description.readout is None:
        name = "not found"
        other = comparison.got if comparison.expected == "reference" else comparison.expected
        detail = f"All spikes are equal, but the output of {other} is not what the last layer gave."
    else:
        name, detail = "readout on the host", "All spikes are equal, but what the host makes of them is not."
    return Cause(name, detail, OUTPUT, None, (), None, None, None)


def _layer_inputs(data: Data, name: str, samples: npt.NDArray[np.int64]) -> Spikes:
    """What comes into a layer in some samples ``(N, C, ..., lead + T)``, in local time."""
    inputs = _inputs(data, samples)
    names = list(data.description.spiking)
    position = names.index(name)
    if position == 0:
        frames: Spikes = inputs.cpu().numpy()
        return frames
    return _in_local_time(data, inputs, names[position - 1])


def _inputs(data: Data, samples: npt.NDArray[np.int64]) -> torch.Tensor:
    return network_input(data.description, data.entering(samples))


def _in_local_time(data: Data, inputs: torch.Tensor, name: str) -> Spikes:
    with torch.no_grad():
        raster: Spikes = reference.run(data.description, inputs)[name].cpu().numpy()
    return raster


def _findings(data: Data, scene: _Scene, order: npt.NDArray[np.int64]) -> Iterator[Finding]:
    """Everything that explains the difference, the most certain first."""
    if data.description.reads_voltage and scene.name == list(data.description.spiking)[-1]:
        return  # a layer that is read by its voltage is no block of neurons in SLAYER
    if scene.source == "SLAYER":
        yield from _file_findings(data, scene)
    yield from _shift_findings(scene)
    yield from _message_findings(data, scene)
    if scene.spikes:
        yield from _neuron_findings(scene)
        with suppress(CannotRunError):  # some networks run on batches, but not on so few samples
            yield from _reset_findings(data, scene, order)
    if scene.source == "SLAYER":
        yield from _limit_findings(data, scene)
    yield from _training_findings(data, scene)


def _file_findings(data: Data, scene: _Scene) -> Iterator[Finding]:
    """Where the numbers in the file are not those of the network itself."""
    assert data.net is not None
    try:
        trained = loadable(describe(data.net, data.samples(scene.sample))).spiking.get(scene.name)
    except NetxExportError:
        return  # a network that cannot be described cannot be compared with its file
    if type(trained) is not type(scene.layer):
        yield "file differs from the network", "The network in the file has other layers than the one given."
        return
    for name, in_network, in_file in _unequal_fields(trained, scene.layer):
        yield _FIELD_CAUSES.get(name, "file differs from the network"), _say_field(name, in_network, in_file)


def _unequal_fields(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    for item in dataclasses.fields(one):
        values = getattr(one, item.name), getattr(other, item.name)
        if dataclasses.is_dataclass(values[0]) and type(values[0]) is type(values[1]):
            yield from _unequal_fields(*values)
        elif not np.array_equal(*values):
            yield item.name, *values


def _say_field(name: str, in_network: Any, in_file: Any) -> str:
    words = name.replace("_", " ")
    if isinstance(in_network, np.ndarray) and isinstance(in_file, np.ndarray) and in_network.shape == in_file.shape:
        places = np.argwhere(in_network != in_file)
        first = tuple(places[0].tolist())
        return (
            f"{len(places)} of {in_network.size} values of its {words} differ: [{', '.join(map(str, first))}] is "
            f"{in_network[first]} in the network and {in_file[first]} in the file."
        )
    described = [np.shape(one) if isinstance(one, np.ndarray) else one for one in (in_network, in_file)]
    return f"Its {words} is {described[0]} in the network and {described[1]} in the file."


def _shift_findings(scene: _Scene) -> Iterator[Finding]:
    for steps in (1, -1, 2, -2):
        moved = shifted(scene.reference, steps)
        # Moved to earlier steps, the last ones would show what the reference does after its end, which is not known.
        seen = slice(0, moved.shape[-1] + min(0, steps))
        if np.array_equal(moved[..., seen], scene.other[..., seen]):
            direction = "later" if steps > 0 else "earlier"
            yield (
                "different delay_shift",
                f"In {scene.source}, the whole layer spikes {abs(steps)} step(s) {direction} than in the reference.",
            )


def _message_findings(data: Data, scene: _Scene) -> Iterator[Finding]:
    given = data.description.spike_exp
    if given == DEFAULT_SPIKE_EXP:
        return
    finest = simulate(data.description, data.entering(np.array([scene.sample])), spike_exp=DEFAULT_SPIKE_EXP)
    if np.array_equal(finest.layers[scene.name][0], scene.other):
        yield (
            "coarser messages",
            f"The simulators ran with spike_exp={given}; with {DEFAULT_SPIKE_EXP} the reference gives what "
            f"{scene.source} gives.",
        )


def _neuron_findings(scene: _Scene) -> Iterator[Finding]:
    for name, words, assumed in variations(scene.layer):
        if scene.explains(scene.inputs, scene.in_local_time(scene.other), assumed):
            yield name, f"{scene.source} does what the reference does if {words}."


def _limit_findings(data: Data, scene: _Scene) -> Iterator[Finding]:
    """Numbers of the layer that went beyond what Lava or SLAYER holds by the step of the first difference."""
    parted = int(np.flatnonzero((scene.reference != scene.other).reshape(-1, scene.other.shape[-1]).any(0))[0])
    sample = _inputs(data, np.array([scene.sample]))
    for peak in reference.peaks(data.description, sample)[scene.name]:
        if peak.step is not None and peak.step <= parted:
            yield (
                "beyond its limit",
                f"The layer's {peak.quantity.name} reaches {peak.size / peak.quantity.unit:.4g} in SLAYER's scale, "
                f"beyond {peak.limit / peak.quantity.unit:.4g} from step {peak.step} on. {peak.quantity.hint}",
            )


def _reset_findings(data: Data, scene: _Scene, order: npt.NDArray[np.int64]) -> Iterator[Finding]:
    inputs, feedback = scene.inputs, scene.in_local_time(scene.other)
    for steps in (1, 2, 3):
        late = inputs.copy()
        late[..., : scene.lead + steps] = 0
        if scene.explains(late, feedback):
            yield "reset step", f"In {scene.source}, the neurons are reset {steps} step(s) after the sample began."
    position = int(np.flatnonzero(order == scene.sample)[0])
    # The sample itself may be the one that ran before it, if the same batch was run twice.
    before = [order[position : position + 1]]
    before += [order[first:position] for first in range(position - 1, max(-1, position - _EARLIER_SAMPLES - 1), -1)]
    for samples in before:
        earlier = np.concatenate([*_layer_inputs(data, scene.name, samples)], axis=-1)
        own = np.concatenate([*_in_local_time(data, _inputs(data, samples), scene.name)], axis=-1)
        for steps in (1, 2, 3):
            leaked = np.concatenate([earlier[..., -steps:], inputs], axis=-1)
            if scene.explains(leaked, np.concatenate([own[..., -steps:], feedback], axis=-1)):
                yield (
                    "reset step",
                    f"In {scene.source}, the neurons are reset {steps} step(s) before the sample begins, so that they "
                    f"still see the end of the one before.",
                )
        whole = np.concatenate([earlier, inputs], axis=-1)
        # SLAYER keeps a recurrent neuron's state, but not the spikes that would come back to it.
        forgotten = own.copy()
        forgotten[..., -1] = 0
        if any(scene.explains(whole, np.concatenate([one, feedback], axis=-1)) for one in (own, forgotten)):
            which = "it" if samples[0] == scene.sample else f"sample {samples[-1]}"
            yield (
                "state carried over from an earlier batch",
                f"In {scene.source}, the neurons begin sample {scene.sample} in the state in which {which} left them.",
            )


def _training_findings(data: Data, scene: _Scene) -> Iterator[Finding]:
    """What the network does as in training: its spikes depend on chance, or on the other samples of the batch."""
    if data.net is None:
        return
    # A network that cannot run in training mode, or on one sample, is no reason to lose the verdict.
    with suppress(NetxExportError):
        yield from _findings_in_training(data, scene)


def _findings_in_training(data: Data, scene: _Scene) -> Iterator[Finding]:
    sample = data.samples(scene.sample)
    if _enters_at_random(data, sample):
        return  # two runs differ whatever the mode, since the network draws its spikes
    alone, again = (_with_seed(data, scene, sample, seed) for seed in (0, 1))
    dropout = (
        "dropout left in training mode",
        "The network drops spikes at random: two runs of the same sample are not equal. Call net.eval().",
    )
    if not np.array_equal(alone, again):
        yield dropout
    elif np.array_equal(alone[0], scene.other):
        return  # it differs in evaluation mode too, so that no mode is the cause
    training, once_more = (_with_seed(data, scene, sample, seed, training=True) for seed in (0, 1))
    if not np.array_equal(training, once_more) and not np.any((scene.other != 0) & (scene.reference == 0)):
        yield dropout
    if scene.source == "SLAYER" and np.array_equal(alone[0], scene.reference):
        yield (
            "batch norm left in training mode",
            "The sample by itself runs as the file does, and in its batch it does not. Call net.eval().",
        )
    start = scene.sample // BATCH * BATCH
    batch = _with_seed(data, scene, data.samples(start, start + BATCH), 0, training=True)
    if np.array_equal(batch[scene.sample - start], scene.other):
        yield "batch norm left in training mode", "It does what the network does in training mode. Call net.eval()."


def _enters_at_random(data: Data, inputs: torch.Tensor) -> bool:
    """Whether chance decides what the network makes of its input for its first block."""
    if data.net is None or not data.begins_inside:
        return False
    reached = []
    for seed in (0, 1):
        with evaluation(data.net):
            torch.manual_seed(seed)
            reached.append(reaching(data.net, inputs))
    return not torch.equal(*reached)


def _with_seed(data: Data, scene: _Scene, inputs: torch.Tensor, seed: int, training: bool = False) -> npt.NDArray[Any]:
    """The layer's spikes in SLAYER from rest, with this seed of the random number generator."""
    assert data.net is not None
    made: list[torch.Tensor] = []
    with evaluation(data.net):
        data.net.train(training)
        _block(data, scene.name).register_forward_hook(lambda module, args, output: made.append(output))
        torch.manual_seed(seed)
        forward(data.net, inputs)
    spikes: npt.NDArray[Any] = made[0].detach().cpu().numpy()
    return spikes


def _block(data: Data, name: str) -> Any:
    assert data.net is not None
    return run_layers(data.net, data.samples(0))[list(data.description.spiking).index(name)]


def _reference_membrane(scene: _Scene, neuron: tuple[int, ...], steps: tuple[int, ...]) -> tuple[float, ...] | None:
    if not scene.spikes:
        return None
    own = scene.in_local_time(scene.reference)
    membrane = trace(scene.layer, neuron, scene.inputs, own, scene.bias_start).membrane
    return _at(membrane, steps, scene.delay(neuron))


def _slayer_membrane(
    data: _DataAgain, scene: _Scene, neuron: tuple[int, ...], steps: tuple[int, ...]
) -> tuple[float, ...] | None:
    """The membrane in SLAYER, in the chip's units; None for a run that is not SLAYER's."""
    if data.net is None or scene.source != "SLAYER" or not scene.spikes:
        return None
    block = _block(data, scene.name)
    parts: list[torch.Tensor] = []
    row = data.row(scene.sample)
    phase = isinstance(scene.layer, Resonator) and scene.layer.neuron.reset == "phase"
    with evaluation(data.net):
        dynamics = block.neuron.dynamics

        def recording(*arguments: Any) -> Any:
            states = dynamics(*arguments)
            parts.append((states[0] if phase else states[1]).detach()[row])
            return states

        block.neuron.__dict__["dynamics"] = recording  # `evaluation` takes it away again
        try:
            forward(data.net, data.choose(data.batch))
        except NetxExportError:  # the network ran once, but does not run again
            return None
    membrane = torch.cat(parts, dim=-1).reshape(*scene.layer.shape, -1)[neuron].cpu().numpy() * block.neuron.s_scale
    # What SLAYER delays is the output; a file may have the delay on the way into the neurons instead.
    axonal = output_delay(block)
    delay = 0 if axonal is None else int(np.broadcast_to(axonal, scene.layer.shape[:1])[neuron[0]])
    return _at(membrane, steps, delay + int(scene.layer.delay_shift))


def _at(membrane: npt.NDArray[Any], steps: tuple[int, ...], delay: int) -> tuple[float, ...]:
    """A membrane at some steps of the compared runs, in which it comes later; at rest before its first step."""
    return tuple(float(membrane[step - delay]) if step >= delay else 0.0 for step in steps)
