"""``simulate``: run a netx file, on the reference simulator or on Lava, and line the result up with SLAYER."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from netx_export import host, reference
from netx_export.description import IntArray, NetworkDescription
from netx_export.errors import SimulationError
from netx_export.hdf5 import read
from netx_export.lava_backend import run_on_lava

__all__ = ["Simulation", "check_input", "simulate"]

SpikeArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Simulation:
    """The spikes of a simulated network.

    Attributes:
        output: the last layer's spikes ``(N, C, ..., T)``, lined up so that they equal ``net(spikes)`` in SLAYER; what
            the host makes of them, if the network ends in an average or an affine layer.
        layers: the same for each spiking layer, named by kind and index in the file (``dense1``).
    """

    output: SpikeArray | npt.NDArray[np.float32]
    layers: dict[str, SpikeArray]


def simulate(
    path: str | os.PathLike[str],
    spikes: npt.ArrayLike | torch.Tensor,
    *,
    backend: Literal["reference", "lava"] = "reference",
    timeout: float | None = None,
) -> Simulation:
    """Run a netx file on a batch of input spikes; each sample starts from rest.

    Args:
        path: a netx HDF5 file.
        spikes: binary input ``(N, C, ..., T)``; a tensor on a CUDA device is simulated there by the reference.
        backend: ``"reference"`` (our own batched simulator) or ``"lava"`` (the stock ``netx.hdf5.Network`` on Lava's
            fixed-point CPU simulator, in a child process; needs the extra ``lava`` and Python 3.10).
        timeout: seconds that Lava may take; None for a limit in proportion to the work.

    Returns:
        The spikes of every layer.

    Raises:
        NetxFormatError: if the file cannot be read.
        SimulationError: if the input does not fit the network, or Lava is missing, fails or runs out of time.
        ValueError: for an unknown back end.

    Example:
        >>> import numpy as np
        >>> from netx_export import simulate
        >>> simulation = simulate("digits.net", np.zeros((1, 64, 32)))  # doctest: +SKIP
        >>> simulation.output.shape  # doctest: +SKIP
        (1, 10, 32)
    """
    if backend not in ("reference", "lava"):
        raise ValueError(f"Expected argument `backend` to be 'reference' or 'lava' but got {backend!r}.")
    description = read(path)
    tensor = torch.nn.functional.pad(check_input(description, spikes), (description.lead, 0))
    if backend == "reference":
        with torch.no_grad():
            layers = {name: layer.cpu().numpy() for name, layer in reference.run(description, tensor).items()}
    else:
        layers = run_on_lava(path, description, tensor.cpu().numpy(), timeout)
    shifted = {name: _shift(layers[name], steps)[..., description.lead :] for name, steps in description.shifts.items()}
    aligned = {name: _delay(shifted[name], layer.axon_delay) for name, layer in description.spiking.items()}
    spikes_out = list(aligned.values())[-1]
    readout = description.readout
    return Simulation(output=spikes_out if readout is None else host.read_out(readout, spikes_out), layers=aligned)


def check_input(description: NetworkDescription, spikes: npt.ArrayLike | torch.Tensor) -> torch.Tensor:
    """The input as a uint8 tensor ``(N, C, ..., T)``.

    Raises:
        SimulationError: if it has the wrong shape, holds no step or no sample, or anything but zeros and ones.
    """
    tensor: Any = spikes if isinstance(spikes, torch.Tensor) else torch.from_numpy(np.asarray(spikes))
    shape = description.input_shape
    if tuple(tensor.shape[1:-1]) != shape or tensor.numel() == 0:
        raise SimulationError(
            f"Expected spikes of shape (N, {', '.join(map(str, shape))}, T) with at least one sample and one step but "
            f"got {tuple(tensor.shape)}. Time is the last axis."
        )
    if description.encoder is not None:
        return host.encode(description.encoder, tensor)
    binary: torch.Tensor = tensor.to(torch.uint8)
    if not bool(((binary == tensor) & (binary <= 1)).all()):
        low, high = float(tensor.double().min()), float(tensor.double().max())
        raise SimulationError(
            f"Expected spikes of 0 and 1, since netx makes every other value a 1, but got values between {low:g} and "
            f"{high:g}. Encode the input as spikes first."
        )
    return binary


def _shift(spikes: SpikeArray, steps: int) -> SpikeArray:
    """Shift along time, zeros in front, as SLAYER's blocks do on the way to the next block."""
    if steps == 0:
        return spikes
    shifted = np.zeros_like(spikes)
    shifted[..., steps:] = spikes[..., :-steps]
    return shifted


def _delay(spikes: SpikeArray, delay: IntArray | None) -> SpikeArray:
    """Shift each channel by its own number of steps, where SLAYER does so and the file leaves it to the next layer."""
    if delay is None:
        return spikes
    delayed = np.zeros_like(spikes)
    for steps in np.unique(delay):
        delayed[:, delay == steps] = _shift(spikes[:, delay == steps], int(steps))
    return delayed
