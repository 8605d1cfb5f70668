"""``simulate`` and ``Simulator``: run a netx file, on the reference or on Lava, and line the result up with SLAYER."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from lava_spikeloss.arguments import check_count, check_number
from netx_export.errors import NetxFormatError
from netx_export.file.netx import as_it_runs
from netx_export.network.description import NetworkDescription
from netx_export.network.exact_weights import loads
from netx_export.network.fixed_point import STATE_SCALE, WEIGHT_SCALE, IntArray
from netx_export.progress import time_on_lava, watched
from netx_export.run import Run, Spikes
from netx_export.simulation import host, reference
from netx_export.simulation.inputs import Array, check_shape, network_input, refuse_short
from netx_export.simulation.lava_parent import run_on_lava
from netx_export.simulation.lava_python import check_lava_python
from netx_export.simulation.lava_time import TimeLimit, number_of_workers

__all__ = [
    "LavaSimulator",
    "Simulator",
    "run_layers",
    "simulate",
]


def simulate(
    path: str | os.PathLike[str] | NetworkDescription,
    spikes: npt.ArrayLike | torch.Tensor,
    *,
    backend: Literal["reference", "lava"] = "reference",
    delay_shift: bool | None = None,
    spike_exp: int | None = None,
    timeout: float | None = None,
    progress: bool = False,
    lava_python: str | os.PathLike[str] | None = None,
    layers: Sequence[str] | Literal["all"] | None = "all",
    lava_workers: int | None = None,
) -> Run:
    """Run a netx file on a batch of input spikes; each sample starts from rest.

    The samples are simulated in chunks, so that beyond input and result the memory is the same for any number of them.
    To run one file many times, prepare it once: :class:`Simulator`.

    Args:
        path: a netx HDF5 file, or what :func:`netx_export.read` made of one.
        spikes: binary input ``(N, C, ..., T)``, or numbers if the file has input neurons, which then run on the host; a
            tensor on a CUDA device is simulated there by the reference.
        backend: ``"reference"`` (our own batched simulator) or ``"lava"`` (the stock ``netx.hdf5.Network`` on Lava's
            fixed-point CPU simulator, in a child process; needs Python 3.10 with the extra ``lava``, or an environment
            of Lava's own, as ``netx-export lava-env`` makes it).
        delay_shift: whether SLAYER delays the output of each block by one step, as for :func:`netx_export.read`; None
            for what the file or the description says.
        spike_exp: of sigma-delta networks, the option of ``netx.hdf5.Network``: by how many bits the fraction of a
            message is longer than that of a weight, 0 to 6. With fewer than 6, messages are coarser than SLAYER's. None
            for what the description says, or 6 for a file, which does not say it.
        timeout: seconds that Lava may take; None for a limit in proportion to the work.
        progress: whether to show a progress bar.
        lava_python: the Python 3.10 that runs Lava, or the directory of its environment; None for the one that the
            environment variable ``NETX_EXPORT_LAVA_PYTHON`` names, else this one if Lava is installed in it, else the
            one that ``netx-export lava-env`` made.
        layers: the names of the layers whose spikes to keep; None for the output alone.
        lava_workers: how many processes of Lava share the samples, each of about half a gigabyte; None for one per core
            that may be used, as long as each has some twenty seconds of work.

    Returns:
        The output, and the spikes of every layer, or of those asked for. A last layer that is read by its voltage, such
        as lava-dl's Affine, gives its membrane potential after each step, in SLAYER's scale; lava-dl's tutorials read
        it at the last one.

    Raises:
        NetxFormatError: if the file cannot be read, or netx cannot load it.
        ExportError: if no file can hold a description that is to run on Lava.
        SimulationError: if the input does not fit the network, or is so short that no output depends on it, or if Lava
            is missing, fails or runs out of time.
        ValueError: for an unknown back end, a layer that is not in the network, a `spike_exp` that is not from 0 to 6,
            a time limit that is not above 0, or fewer than one worker.
        TypeError: if `path` is neither a path nor a description, the time limit no number, the number of workers no
            integer, `delay_shift` neither a bool nor None, or `lava_python` no path.

    Example:
        >>> import numpy as np
        >>> from netx_export import simulate
        >>> simulation = simulate("digits.net", np.zeros((1, 64, 32)))  # doctest: +SKIP
        >>> simulation.output.shape  # doctest: +SKIP
        (1, 10, 32)
    """
    if backend not in ("reference", "lava"):
        raise ValueError(f"Expected argument `backend` to be 'reference' or 'lava' but got {backend!r}.")
    if timeout is not None:
        check_number("timeout", timeout, above=0.0)
    check_lava_python(lava_python)
    if lava_workers is not None:
        check_count("lava_workers", lava_workers)
    simulator = Simulator(path, delay_shift=delay_shift, spike_exp=spike_exp)
    if backend == "reference":
        return simulator(spikes, layers=layers, progress=progress)
    limit = None if timeout is None else TimeLimit(timeout)
    on_lava = LavaSimulator(path, simulator.description, limit, lava_python)
    return _run(simulator.description, spikes, layers, partial(_run_watched, on_lava, lava_workers, progress))


class Simulator:
    """A netx network, read and prepared once for the reference simulator, to be run many times.

    Calling it gives what :func:`simulate` gives for the file as it was. Each call starts from rest.

    Args:
        path: a netx HDF5 file, or what :func:`netx_export.read` made of one.
        delay_shift: as for :func:`simulate`.
        spike_exp: as for :func:`simulate`.

    Attributes:
        description: the network.

    Raises:
        NetxFormatError: if the file cannot be read, or netx cannot load it.
        ValueError: for a `spike_exp` that is not from 0 to 6.
        TypeError: if `path` is neither a path nor a description, or `delay_shift` neither a bool nor None.

    Example:
        >>> import numpy as np
        >>> from netx_export import Simulator
        >>> simulator = Simulator("digits.net")  # doctest: +SKIP
        >>> for spikes in batches:  # doctest: +SKIP
        ...     output = simulator(spikes, layers=None).output
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | NetworkDescription,
        *,
        delay_shift: bool | None = None,
        spike_exp: int | None = None,
    ) -> None:
        self.description = as_it_runs(path, delay_shift, spike_exp)
        _refuse_unloadable(path, self.description)
        self._prepared: dict[torch.device, Callable[[torch.Tensor], dict[str, torch.Tensor]]] = {}

    def __call__(
        self,
        spikes: npt.ArrayLike | torch.Tensor,
        *,
        layers: Sequence[str] | Literal["all"] | None = "all",
        progress: bool = False,
    ) -> Run:
        """Run a batch.

        Args:
            spikes: as for :func:`simulate`.
            layers: the names of the layers whose spikes to keep; None for the output alone.
            progress: whether to show a progress bar.

        Raises:
            SimulationError: if the input does not fit the network, or is so short that no output depends on it.
            ValueError: for a layer that is not in the network.
        """

        def run(array: Array, kept: Collection[str]) -> dict[str, Spikes]:
            with watched("Simulating on reference", len(array), progress) as watch:
                return self._run_chunks(array, kept, watch.advance)

        return _run(self.description, spikes, layers, run)

    def _run_chunks(self, spikes: Array, kept: Collection[str], advance: Callable[[float], None]) -> dict[str, Spikes]:
        """Run chunk by chunk; each layer is written directly into the result."""
        description, (samples, steps) = self.description, (spikes.shape[0], spikes.shape[-1])
        layers = {name: _empty(description, name, samples, steps) for name in kept}
        device = spikes.device if isinstance(spikes, torch.Tensor) else torch.device("cpu")
        run = self._on(device)

        def run_chunk(chunk: slice) -> None:
            with torch.inference_mode():
                rasters = run(network_input(description, spikes[chunk]))
                for name, target in layers.items():
                    _line_up(description, name, rasters[name], torch.from_numpy(target[chunk]))
            advance(len(spikes[chunk]))

        size = reference.chunk_size(description, steps + description.lead, device)
        chunks = [slice(start, start + size) for start in range(0, samples, size)]
        reference.in_parallel(run_chunk, chunks, device)
        return layers

    def _on(self, device: torch.device) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
        if device not in self._prepared:
            self._prepared[device] = reference.prepare(self.description, device)
        return self._prepared[device]


@dataclass(frozen=True)
class LavaSimulator:
    """A netx file that Lava runs, as a :class:`Simulator` is one that the reference simulator runs.

    Attributes:
        path: the file, or its description.
        description: what was read from it.
        limit: of the time that it may take, or None for one in proportion to the work.
        lava_python: as for :func:`simulate`.
    """

    path: str | os.PathLike[str] | NetworkDescription
    description: NetworkDescription
    limit: TimeLimit | None
    lava_python: str | os.PathLike[str] | None

    def __call__(
        self, spikes: npt.ArrayLike | torch.Tensor, workers: int, advance: Callable[[float, float], None]
    ) -> Run:
        """Run a batch.

        Args:
            spikes: as for :func:`simulate`.
            workers: how many processes share the samples.
            advance: told of how many samples, or parts of one, are done, and the seconds that a worker needs for one.
        """
        return _run(self.description, spikes, "all", partial(self.run, workers, advance))

    def run(
        self, workers: int, advance: Callable[[float, float], None], spikes: Array, kept: Collection[str]
    ) -> dict[str, Spikes]:
        """The layers that are kept, lined up with SLAYER."""
        description = self.description
        frames = network_input(description, spikes).cpu().numpy()
        workers = min(workers, len(frames))
        rasters = run_on_lava(self.path, description, frames, self.limit, advance, self.lava_python, workers)
        layers = {}
        for name in kept:
            raster = rasters[name]
            layers[name] = _empty(description, name, len(raster), spikes.shape[-1])
            _line_up(description, name, torch.from_numpy(raster), torch.from_numpy(layers[name]))
        return layers


def _run_watched(
    on_lava: LavaSimulator, wanted: int | None, progress: bool, spikes: Array, kept: Collection[str]
) -> dict[str, Spikes]:
    """Run on Lava, with a bar that says how long all samples are likely to take."""
    title, samples = "Simulating on lava", len(spikes)
    workers = number_of_workers(wanted, on_lava.description, samples, spikes.shape[-1])
    with watched(title, samples, progress) as watch:

        def advance(done: float, seconds: float) -> None:
            watch.expect(f"{title}: {time_on_lava(seconds * samples / workers, workers)}", samples)
            watch.advance(done)

        return on_lava.run(workers, advance, spikes, kept)


def _run(
    description: NetworkDescription,
    spikes: npt.ArrayLike | torch.Tensor,
    layers: Sequence[str] | Literal["all"] | None,
    run: Callable[[Array, Collection[str]], dict[str, Spikes]],
) -> Run:
    """Check what is to be run and kept, run it, and make the output of the last layer."""
    names = _chosen(description, layers)
    array = check_shape(description, spikes)
    refuse_short(description, array.shape[-1])
    last = list(description.spiking)[-1]
    kept = {**dict.fromkeys(names), last: None}
    found = run(array, kept)
    return Run(_output(description, found[last]), {name: found[name] for name in names})


def _chosen(description: NetworkDescription, layers: Sequence[str] | Literal["all"] | None) -> list[str]:
    """The names of the layers whose spikes are kept, in the order of the network."""
    known = list(description.spiking)
    if layers is None:
        return []
    if isinstance(layers, str) and layers == "all":
        return known
    # A generator gives its names once only.
    chosen = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else None
    if chosen is None or not all(name in known for name in chosen):
        raise ValueError(
            f"Expected argument `layers` to be a list of some of the layers {', '.join(known)}, or 'all' of them, or "
            f"None but got {layers!r}."
        )
    return [name for name in known if name in chosen]


def _output(description: NetworkDescription, spikes: Spikes) -> Spikes:
    """What the network gives out, made of the last layer's spikes."""
    if description.readout is not None:
        return host.read_out(description.readout, spikes)
    # The file of a network that ends with a Flatten holds it, and netx and Lava pass over it.
    return spikes.reshape(len(spikes), *description.layers[-1].shape, spikes.shape[-1])


def _refuse_unloadable(path: str | os.PathLike[str] | NetworkDescription, description: NetworkDescription) -> None:
    """Raise for a layer that netx fails to load, though :func:`read` and :func:`check` can say what is in it."""
    for name, layer in description.spiking.items():
        if not loads(layer):
            place = "" if isinstance(path, NetworkDescription) else f"{path}: "
            raise NetxFormatError(
                f"{place}{name}: its weights are nothing but zeros, and netx cannot load such a matrix. Export the "
                f"network with netx_export.export, which writes such a layer as a convolution."
            )


def run_layers(description: NetworkDescription, frames: torch.Tensor) -> dict[str, Spikes]:
    """The output of each spiking layer for spikes, uint8, or messages, int32, that enter the first one."""
    spikes = torch.nn.functional.pad(frames, (description.lead, 0))
    layers = {name: _empty(description, name, len(frames), frames.shape[-1]) for name in description.spiking}
    for name, raster in reference.run(description, spikes).items():
        _line_up(description, name, raster, torch.from_numpy(layers[name]))
    return layers


def _empty(description: NetworkDescription, name: str, samples: int, steps: int) -> Spikes:
    dtype = np.uint8 if description.gives[name] == "spikes" else np.float64
    return np.zeros((samples, *description.spiking[name].shape, steps), dtype)


def _unit(description: NetworkDescription, name: str) -> int:
    """How many of Lava's units of a layer's numbers are 1 in SLAYER."""
    if not description.graded:
        return int(STATE_SCALE)
    messages = 1 << description.fraction_bits
    return messages * WEIGHT_SCALE if description.gives[name] == "sums" else messages


def _line_up(description: NetworkDescription, name: str, raster: torch.Tensor, target: torch.Tensor) -> None:
    """Write a layer's spikes to the steps at which SLAYER has them.

    They come in local time, behind the steps in which only biases act.
    """
    layer, raster = description.spiking[name], raster.cpu()  # all at once: the host waits for each copy from a GPU
    # SLAYER delays each channel of this output, where a file leaves that to the next layer.
    delay = np.zeros(layer.shape[0], np.int64) if layer.axon_delay is None else layer.axon_delay
    shift = delay + (description.shifts[name] - description.lead)
    loops = reference.compiled_loops(raster.device)
    unit = 1 if description.gives[name] == "spikes" else _unit(description, name)
    if loops is None:
        _copy_shifted(raster if unit == 1 else raster.double() / unit, target, shift)
        return
    frames = raster.movedim(-1, 1).flatten(2).contiguous()
    each = np.repeat(shift, frames.shape[2] // len(shift))
    loops.place(frames.numpy(), each, unit, target.flatten(1, -2).numpy())


def _copy_shifted(source: torch.Tensor, target: torch.Tensor, shift: IntArray) -> None:
    """``target[:, c, ..., t] = source[:, c, ..., t - shift[c]]`` wherever both are."""
    for steps in np.unique(shift).tolist():
        late, early = max(0, steps), max(0, -steps)
        both = max(0, min(target.shape[-1] - late, source.shape[-1] - early))
        chosen = shift == steps
        channels = slice(None) if chosen.all() else torch.from_numpy(np.flatnonzero(chosen))
        target[:, channels, ..., late : late + both] = source[:, channels, ..., early : early + both]
