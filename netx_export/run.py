"""The spikes of the layers and the output of one run of a network, whoever ran it: SLAYER, a simulator or a chip.

``simulate`` returns it, ``export`` and ``verify`` compare two of it, and a ``.npz`` file holds its :attr:`Run.arrays`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["OUTPUT", "Run", "Spikes"]

OUTPUT = "output"  # the name of the output beside those of the layers

# Spike trains: 0 and 1 as uint8, or the numbers that sigma-delta neurons send or sum up. SLAYER has both in float32.
Spikes: TypeAlias = "npt.NDArray[Any]"


@dataclass(frozen=True, eq=False)
class Run:
    """The spikes of a network that was run on some samples.

    Attributes:
        output: the last layer's spikes ``(N, C, ..., T)``, or what is read out of them on the host, lined up so that
            it equals ``net(spikes)`` in SLAYER. A run that was simulated always has one; it is None where a network
            returns something else, or a recording does not hold it.
        layers: the spikes ``(N, C, ..., T)`` of each spiking layer, named by kind and index in the file (``dense1``),
            uint8; what sigma-delta neurons send or sum up, in SLAYER's scale, float64. What SLAYER itself made of
            either is float32.
        no_output: why there is no output, to be read after "since"; None if there is one.

    Raises:
        TypeError: if something is no numpy array of real numbers.
        ValueError: if a layer is not ``(N, C, ..., T)`` or bears the output's name, if not all have as many samples, or
            if there is neither an output nor a reason why there is none.

    Example:
        >>> import numpy as np
        >>> spikes = np.zeros((1, 10, 32), np.uint8)
        >>> Run(spikes, {"dense1": spikes}).silent
        ('dense1', 'output')
    """

    # `| Any`, as typeshed annotates what is rarely None: after `simulate`, where it never is, type checkers ask for no
    # check.
    output: Spikes | Any
    layers: dict[str, Spikes]
    no_output: str | None = None

    def __post_init__(self) -> None:
        if OUTPUT in self.layers:
            raise ValueError(f"Expected names of layers other than {OUTPUT!r}, which is the network's output.")
        for name, array in self.arrays.items():
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
                kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
                raise TypeError(f"Expected a numpy array of real numbers for {name} but got {kind}.")
            if array.ndim < (1 if name == OUTPUT else 3):
                raise ValueError(f"Expected spikes (N, C, ..., T) of {name} but got shape {array.shape}.")
        if (self.output is None) == (self.no_output is None):
            raise ValueError("Expected an output, or the reason why there is none.")
        samples = {name: len(array) for name, array in self.arrays.items()}
        if len(set(samples.values())) > 1:
            raise ValueError(f"Expected the same number of samples of everything but got {samples}.")

    @property
    def arrays(self) -> dict[str, Spikes]:
        """All layers, and the output under the name ``output`` if there is one."""
        return dict(self.layers) if self.output is None else {**self.layers, OUTPUT: self.output}

    @property
    def silent(self) -> tuple[str, ...]:
        """The names of those that are zero in every neuron at every step of every sample: they prove nothing."""
        return tuple(name for name, array in self.arrays.items() if not array.any())

    def choose(self, samples: npt.NDArray[np.int64]) -> Run:
        """The same run of some samples, given by their indices."""
        chosen = {name: array[samples] for name, array in self.arrays.items()}
        return Run(chosen.pop(OUTPUT, None), chosen, self.no_output)

    @staticmethod
    def of(arrays: Mapping[str, Spikes], no_output: str) -> Run:
        """A run whose :attr:`arrays` are these.

        Args:
            arrays: layers by their names, and the output under ``output``; or some of them.
            no_output: why there is no output, if there is none.
        """
        layers = {name: array for name, array in arrays.items() if name != OUTPUT}
        return Run(arrays.get(OUTPUT), layers, None if OUTPUT in arrays else no_output)
