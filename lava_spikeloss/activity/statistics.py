"""Statistics of spikes over many batches and over all ranks: exact integer sums, divided at the end."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from lava_spikeloss.activity.distributed import is_distributed
from lava_spikeloss.activity.energy import LOIHI_1, EnergyTable
from lava_spikeloss.activity.fan_out import fan_out, feedback_fan_out
from lava_spikeloss.activity.hooks import Watcher, events_of, untraced, watched
from lava_spikeloss.arguments import check_number, check_spikes, check_tensor

__all__ = ["LayerStatistics", "NetworkStatistics", "SpikeStatistics"]

_Sums = dict[str, torch.Tensor]  # what is added up for one layer; all int64
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """What one layer did over all samples. Times are in steps, counted from 0; a value that is not defined is NaN.

    Attributes:
        samples: number of samples :math:`N`.
        steps: time steps summed over samples (:math:`N T` where all samples are equally long).
        counts: events of each neuron, int64, shape of the layer ``(C, ...)``.
        rates: events per step of each neuron.
        isi: mean interval between successive events of each neuron within a sample.
        isi_cv: coefficient of variation of these intervals.
        first_spike: mean time of each neuron's first event, over the samples in which it has one.
        fano: variance over mean of each neuron's count per sample.
        synchrony: variance over mean of the events of the whole layer per step. About 1 for independent neurons that
            fire rarely; close to the number of neurons if they fire together.
        silent: fraction of neurons without any event.
        saturated: fraction of neurons whose rate reaches ``saturated_rate``.
        synops: synaptic operations per sample that this layer's synapses perform, or ``None`` if not measured.
        energy: energy per sample in joule, or ``None`` if unavailable.

    Examples:
        >>> statistics = SpikeStatistics()
        >>> statistics.update({"hidden": torch.tensor([[[0, 1, 0, 1], [0, 0, 0, 0]]])})
        >>> layer = statistics.compute().layers["hidden"]
        >>> layer.rate, layer.counts.tolist(), layer.silent
        (0.25, [2, 0], 0.5)
    """

    samples: int
    steps: int
    counts: torch.Tensor
    rates: torch.Tensor
    isi: torch.Tensor
    isi_cv: torch.Tensor
    first_spike: torch.Tensor
    fano: torch.Tensor
    synchrony: float
    silent: float
    saturated: float
    synops: float | None
    energy: float | None

    @property
    def rate(self) -> float:
        """Events per neuron and step."""
        return float(self.rates.mean())

    @property
    def events_per_step(self) -> float:
        """Events of the whole layer per step of a sample."""
        return float(self.rates.sum())

    def to_dict(self) -> dict[str, Any]:
        """The scalars, ready for JSON: means over the neurons for which a value is defined, ``None`` where none is."""
        values = {
            "neurons": self.counts.numel(),
            "samples": self.samples,
            "events": int(self.counts.sum()),
            "rate": self.rate,
            "events_per_step": self.events_per_step,
            "silent": self.silent,
            "saturated": self.saturated,
            "isi": float(self.isi.nanmean()),
            "isi_cv": float(self.isi_cv.nanmean()),
            "first_spike": float(self.first_spike.nanmean()),
            "fano": float(self.fano.nanmean()),
            "synchrony": self.synchrony,
            "synops": self.synops,
        }
        known = {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()
        }
        return known | {"energy": "unavailable" if self.energy is None else self.energy}


@dataclass(frozen=True, eq=False)
class NetworkStatistics:
    """The statistics of all layers, and their totals.

    Attributes:
        layers: name to :class:`LayerStatistics`.
        synops: synaptic operations per sample of the whole network, including those of layers without neurons, such as
            a last layer that only integrates; ``None`` if not measured.
        energy: energy per sample in joule; ``None`` if unavailable.

    Examples:
        >>> statistics = SpikeStatistics()
        >>> statistics.update({"hidden": torch.ones(2, 3, 4), "output": torch.zeros(2, 1, 4)})
        >>> statistics.compute().events_per_step
        3.0
    """

    layers: dict[str, LayerStatistics]
    synops: float | None
    energy: float | None

    @property
    def events_per_step(self) -> float:
        """Events of the whole network per step of a sample."""
        return sum(layer.events_per_step for layer in self.layers.values())

    def to_dict(self) -> dict[str, Any]:
        """All scalars, ready for JSON."""
        return {
            "events_per_step": self.events_per_step,
            "synops": self.synops,
            "energy": "unavailable" if self.energy is None else self.energy,
            "layers": {name: layer.to_dict() for name, layer in self.layers.items()},
        }

    def write(self, writer: Any, step: int, prefix: str = "spikes") -> None:
        """Write every scalar and a histogram of the rates to a TensorBoard ``SummaryWriter`` or its like.

        Args:
            writer: has ``add_scalar(tag, value, step)`` and ``add_histogram(tag, values, step)``.
            step: the global step.
            prefix: start of every tag.
        """
        for name, layer in self.layers.items():
            for key, value in layer.to_dict().items():
                if isinstance(value, int | float):
                    writer.add_scalar(f"{prefix}/{name}/{key}", value, step)
            writer.add_histogram(f"{prefix}/{name}/rates", layer.rates, step)


class SpikeStatistics:
    r"""Rates, counts, intervals, first spikes, synchrony, synaptic operations and energy of layers of spikes.

    Feed it batch by batch with :meth:`update`, or :meth:`attach` it to a network; :meth:`compute` gives the result.
    An event is a nonzero entry, whatever its size or sign: that is what a chip sends, and what costs energy. All sums
    are int64, so neither the order nor the size of the batches changes the result. Intervals and first spikes are taken
    within a sample. Under ``torch.distributed``, :meth:`compute` sums over all ranks.

    .. math::
        \text{rate}_i = \frac{K_i}{N T}, \qquad
        \text{CV}_i = \frac{\sqrt{\operatorname{Var} \Delta}}{\operatorname{E} \Delta}, \qquad
        F_i = \frac{\operatorname{Var}_n k_{n,i}}{\operatorname{E}_n k_{n,i}}, \qquad
        S_l = \frac{1}{N} \sum_i K_i f_{i \to l}

    Where :math:`k_{n,i}` counts the events of neuron :math:`i` in sample :math:`n`, :math:`K_i = \sum_n k_{n,i}`,
    :math:`\Delta` runs over its intervals, :math:`f_{i \to l}` is its fan-out into layer :math:`l`, and variances are
    those of the population (divided by the number of values).

    Args:
        fan_out: for :meth:`update`: the fan-out of each neuron of a source into a target layer, keyed by
            ``(source, target)``; see :func:`lava_spikeloss.fan_out`. In an attached network it is counted.
        energy: the energy of each operation; on Loihi 2 it is unavailable.
        saturated_rate: rate from which a neuron counts as saturated. Below 1 by default, since a SLAYER block is silent
            in its first step by construction.

    Raises:
        TypeError: a fan-out is not a tensor, or ``energy`` is not an :class:`EnergyTable`.
        ValueError: ``saturated_rate`` is not in (0, 1], or a key of ``fan_out`` is not a pair.

    Shape:
        - Spikes: :math:`(N, C, ..., T)` of any dtype.

    Source:
        ISI and CV, Fano factor: Gerstner et al., *Neuronal Dynamics* (2014), chapter 7; operations: Sorbaro et al.,
        Frontiers in Neuroscience 14 (2020); energy: Davies et al., IEEE Micro 38(1) (2018).

    Examples:
        >>> spikes = torch.tensor([[[1, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0]]])
        >>> statistics = SpikeStatistics(fan_out={("hidden", "output"): torch.tensor([10, 10])})
        >>> statistics.update({"hidden": spikes})
        >>> hidden = statistics.compute().layers["hidden"]
        >>> hidden.rates.tolist(), hidden.isi.tolist(), hidden.silent
        ([0.5, 0.0], [2.0, nan], 0.5)
        >>> statistics.compute().synops
        30.0
    """

    def __init__(
        self,
        *,
        fan_out: Mapping[tuple[str, str], torch.Tensor] | None = None,
        energy: EnergyTable = LOIHI_1,
        saturated_rate: float = 0.9,
    ) -> None:
        check_number("saturated_rate", saturated_rate, above=0.0, maximum=1.0)
        if not isinstance(energy, EnergyTable):
            raise TypeError(f"Expected argument `energy` to be an EnergyTable but got {type(energy).__name__}.")
        self.fan_out = dict(fan_out or {})
        for key, counts in self.fan_out.items():
            if not (isinstance(key, tuple) and len(key) == 2):
                raise ValueError(f"Expected the keys of argument `fan_out` to be (source, target) but got {key!r}.")
            check_tensor(f"fan_out[{key!r}]", counts)
        self.energy = energy
        self.saturated_rate = saturated_rate
        self._watcher = Watcher()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._sums: dict[str, _Sums] = {}
        self._operations: dict[tuple[str, str], _Sums] = {}  # by target layer and synapse

    def attach(
        self, net: torch.nn.Module, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
    ) -> SpikeStatistics:
        """Update at each forward of ``net`` with every SLAYER block, and count the operations of every SLAYER synapse.

        Args:
            net: the network. Copies and pickles of it are not watched.
            include: names of further modules that return spikes.
            exclude: names of modules to leave out.

        Returns:
            This object.

        Raises:
            TypeError: ``net`` is not a module.
            ValueError: a name is not in ``net``, or nothing is left to watch.
        """
        modules, synapses = watched(net, include, exclude)
        self.detach()
        self._watcher.watch(modules.items(), self._record_spikes)
        self._watcher.watch(synapses.items(), self._record_operations)
        return self

    def detach(self) -> None:
        """Remove the hooks from the network; the sums stay until :meth:`reset`."""
        self._watcher.release()

    def update(self, spikes: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor] | None = None) -> None:
        """Add one batch. The host waits for the device, for the number of events of each layer.

        Args:
            spikes: name of a layer to its spikes.
            inputs: spikes that enter the network from outside. They cause operations, but belong to no layer.

        Raises:
            TypeError: spikes are not a tensor.
            ValueError: a tensor has another shape than before or than its fan-out, or spikes of a source are missing.
        """
        sources = {**spikes, **(inputs or {})}
        for (source, target), fan_out_of_source in self.fan_out.items():
            if source not in sources:
                raise ValueError(f"Expected spikes of {source!r}, a source in `fan_out`, but got {list(sources)}.")
            self._add_operations((target, source), sources[source], fan_out_of_source)
        for name, layer in spikes.items():
            self._add_spikes(name, layer)

    def merge(self, other: SpikeStatistics) -> None:
        """Add everything that ``other`` has collected."""
        for name, sums in other._sums.items():
            _add(self._sums, name, sums)
        for key, operations in other._operations.items():
            _add(self._operations, key, operations)

    def compute(self) -> NetworkStatistics:
        """The statistics of all batches so far. Under ``torch.distributed`` of all ranks, each of which has to call it.

        Raises:
            ValueError: a layer has another shape on another rank.
        """
        sums, operations = _reduce(self._sums), _reduce(self._operations)
        synops: dict[str, float] = defaultdict(float)
        for (target, _), part in operations.items():
            synops[target] += int(part["synops"]) / int(part["samples"])
        layers = {name: self._layer(part, synops[name] if operations else None) for name, part in sums.items()}
        total = sum(synops.values()) if operations else None
        energy = self.energy.energy(
            synops=total,
            events=sum(int(layer.counts.sum()) / layer.samples for layer in layers.values()),
            updates=sum(layer.counts.numel() * layer.steps / layer.samples for layer in layers.values()),
        )
        return NetworkStatistics(layers=layers, synops=total, energy=energy)

    @untraced  # the number of events is not known to a graph
    def _record_spikes(self, name: str, module: Any, inputs: Any, output: Any) -> None:
        spikes = events_of(output).detach()
        self._add_spikes(name, spikes)
        feedback = feedback_fan_out(module, spikes.shape[1:-1])
        if feedback is not None:
            self._add_operations((name, "recurrent"), spikes, feedback)

    @untraced
    def _record_operations(self, key: tuple[str, str], module: torch.nn.Module, inputs: Any, output: Any) -> None:
        spikes = inputs[0].detach()
        self._add_operations(key, spikes, fan_out(module, spikes.shape[1:-1]))

    def _add_operations(self, key: tuple[str, str], spikes: torch.Tensor, fan_out_of_source: torch.Tensor) -> None:
        check_spikes("spikes", spikes, min_dims=3)
        if fan_out_of_source.shape != spikes.shape[1:-1]:
            raise ValueError(
                f"Expected a fan-out into {key[0]!r} of shape {tuple(spikes.shape[1:-1])}, that of the neurons, "
                f"but got {tuple(fan_out_of_source.shape)}."
            )
        counts = (spikes != 0).sum(-1, dtype=torch.int32).sum(0)  # int32 first: summing into int64 is slow
        synops = (counts * fan_out_of_source.to(counts)).sum()
        samples = torch.full_like(synops, spikes.shape[0])
        _add(self._operations, key, {"synops": synops, "samples": samples})

    def _add_spikes(self, name: str, spikes: torch.Tensor) -> None:
        check_spikes("spikes", spikes, min_dims=3)
        if name in self._sums and self._sums[name]["counts"].shape != spikes.shape[1:-1]:
            raise ValueError(
                f"Expected spikes of {name!r} with neurons of shape {tuple(self._sums[name]['counts'].shape)}, "
                f"as before, but got {tuple(spikes.shape[1:-1])}."
            )
        _add(self._sums, name, _sums_of(spikes))

    def _layer(self, sums: _Sums, synops: float | None) -> LayerStatistics:
        sums = {key: value.cpu() for key, value in sums.items()}
        counts, samples, steps = sums["counts"], int(sums["samples"]), int(sums["steps"])
        rates = counts.double() / steps
        isi, isi_variance = _mean_and_variance(sums["gaps"], sums["gap_times"], sums["gap_squares"])
        count, count_variance = _mean_and_variance(sums["samples"], counts, sums["squares"])
        population, population_variance = _mean_and_variance(sums["steps"], counts.sum(), sums["population_squares"])
        return LayerStatistics(
            samples=samples,
            steps=steps,
            counts=counts,
            rates=rates,
            isi=isi,
            isi_cv=torch.where(sums["gaps"] > 1, isi_variance.sqrt() / isi, torch.nan),
            first_spike=sums["first_times"].double() / sums["first_samples"],
            fano=count_variance / count,
            synchrony=float(population_variance / population),
            silent=float((counts == 0).double().mean()),
            saturated=float((rates >= self.saturated_rate).double().mean()),
            synops=synops,
            energy=self.energy.energy(
                synops=synops, events=int(counts.sum()) / samples, updates=counts.numel() * steps / samples
            ),
        )


def _sums_of(spikes: torch.Tensor) -> _Sums:
    """All sums of one batch of one layer, computed from a list of its events: ``train`` and ``time`` of each."""
    samples, steps, shape = spikes.shape[0], spikes.shape[-1], spikes.shape[1:-1]
    neurons = math.prod(shape)
    train, time = (spikes.reshape(samples * neurons, steps) != 0).nonzero(as_tuple=True)  # by train, then by time
    gap = (time[1:] - time[:-1]) * (train[1:] == train[:-1])  # zero from one train to the next
    is_first = torch.ones_like(train)
    is_first[1:] = (gap == 0).long()

    def per_neuron(index: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(neurons).index_add_(0, index % neurons, values).view(shape)

    ones = torch.ones_like(train)
    per_train = ones.new_zeros(samples * neurons).index_add_(0, train, ones)
    population = ones.new_zeros(samples * steps).index_add_(0, train // neurons * steps + time, ones)
    return {
        "counts": per_neuron(train, ones),
        "squares": per_train.square().view(samples, *shape).sum(0),
        "first_times": per_neuron(train, time * is_first),
        "first_samples": per_neuron(train, is_first),
        "gaps": per_neuron(train[1:], (gap > 0).long()),
        "gap_times": per_neuron(train[1:], gap),
        "gap_squares": per_neuron(train[1:], gap.square()),
        "samples": ones.new_full((), samples),
        "steps": ones.new_full((), samples * steps),
        "population_squares": population.square().sum(),
    }


def _mean_and_variance(
    n: torch.Tensor, total: torch.Tensor, squares: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and population variance from the number, the sum and the sum of squares of integers; NaN if there are none.

    The whole part of the mean is subtracted while all are integers, so that no digits cancel in floating point.
    """
    whole = total // n.clamp(min=1)
    shifted = squares - 2 * whole * total + n * whole * whole
    mean = total.double() / n
    return mean, shifted.double() / n - (mean - whole).square()


def _add(table: dict[_Key, _Sums], name: _Key, sums: _Sums) -> None:
    before = table.get(name)
    table[name] = sums if before is None else {key: before[key] + value for key, value in sums.items()}


def _reduce(table: dict[_Key, _Sums]) -> dict[_Key, _Sums]:
    """Sum over ranks, one collective for all layers. A rank that did not see a layer adds zeros."""
    if not is_distributed():
        return table
    layout = {name: {key: tuple(value.shape) for key, value in sums.items()} for name, sums in table.items()}
    layouts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(layouts, layout)
    merged = {name: shapes for layout in layouts for name, shapes in layout.items()}
    for rank, layout in enumerate(layouts):
        different = [name for name, shapes in layout.items() if shapes != merged[name]]
        if different:
            raise ValueError(f"Expected the same shape on every rank but rank {rank} differs for {different}.")
    device = next((value.device for sums in table.values() for value in sums.values()), _collective_device())
    parts = [
        table[name][key].to(device) if name in table else torch.zeros(shape, dtype=torch.int64, device=device)
        for name, shapes in merged.items()
        for key, shape in shapes.items()
    ]
    if not parts:
        return {}
    flat = torch.cat([part.flatten() for part in parts])
    dist.all_reduce(flat)
    reduced = iter(torch.split(flat, [part.numel() for part in parts]))
    return {name: {key: next(reduced).view(shape) for key, shape in shapes.items()} for name, shapes in merged.items()}


def _collective_device() -> torch.device:
    return torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
