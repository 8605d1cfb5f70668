"""A SLAYER network of each kind that users have, untrained; its scales make the layers as busy as trained ones.

The convolutions are those of lava-dl's tutorials: DVS gestures, N-MNIST and PilotNet. Nothing here is trained, so what
they say means nothing; how long they take depends on sizes and rates alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["KINDS", "Kind"]

_CUBA = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
_RESONATOR = {"threshold": 1, "period": 10, "decay": 0.1}


@dataclass(frozen=True)
class Kind:
    """A network and its input.

    Attributes:
        build: makes the network.
        shape: of the input, without batch and time.
        steps: of a sample.
        samples: of a batch.
        rate: of the spikes that come in; None for a video, of any numbers.
    """

    build: Callable[[], torch.nn.Sequential]
    shape: tuple[int, ...]
    steps: int
    samples: int
    rate: float | None

    def network(self) -> torch.nn.Sequential:
        """The network, whose blocks know the shape of what comes in."""
        torch.manual_seed(0)
        net = self.build()
        with torch.no_grad():
            net(self.input(1)[..., :4])
        return net.eval()

    def input(self, samples: int) -> torch.Tensor:
        """Input for so many samples."""
        shape = (samples, *self.shape, self.steps)
        values = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        return values if self.rate is None else (values < self.rate).float()


def _block(family: str = "cuba") -> Any:
    import lava.lib.dl.slayer as slayer

    return getattr(slayer.block, family)


def _dense(*sizes: int, scale: float = 2) -> list[torch.nn.Module]:
    dense = _block().Dense
    return [dense(dict(_CUBA), *pair, weight_scale=scale, weight_norm=True) for pair in itertools.pairwise(sizes)]


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> torch.nn.Module:
    scaled = {"weight_scale": 1.5, "weight_norm": True}
    module: torch.nn.Module = _block().Conv(
        dict(_CUBA), inputs, outputs, size, stride=stride, padding=padding, **scaled
    )
    return module


def _pool(size: int) -> torch.nn.Module:
    module: torch.nn.Module = _block().Pool({**_CUBA, "threshold": 10}, size)
    return module


def _gestures_with_pools() -> torch.nn.Sequential:
    first = [_pool(4), _convolution(2, 16, 5, padding=2), _pool(2), _convolution(16, 32, 3, padding=1), _pool(2)]
    return torch.nn.Sequential(*first, _block().Flatten(), *_dense(2048, 512, 11))


def _gestures() -> torch.nn.Sequential:
    first = [_convolution(2, 16, 5, 4, 2), _convolution(16, 32, 3, 2, 1), _convolution(32, 32, 3, 2, 1)]
    return torch.nn.Sequential(*first, _block().Flatten(), *_dense(2048, 512, 11))


def _digits() -> torch.nn.Sequential:
    first = [_convolution(2, 8, 3, 2, 1), _convolution(8, 16, 3, 2, 1), _convolution(16, 32, 3, 2, 1)]
    return torch.nn.Sequential(*first, _block().Flatten(), *_dense(800, 256, 10))


def _pilotnet() -> torch.nn.Sequential:
    sizes = [(3, 24, 3, 2), (24, 36, 3, 2), (36, 64, 3, (2, 1), (1, 0)), (64, 64, 3)]
    first = [_block().Input({**_CUBA, "threshold": 4}), *(_convolution(*size) for size in sizes)]
    return torch.nn.Sequential(*first, _block().Flatten(), *_dense(2560, 100, 50, 10, 1, scale=8))


def _speech() -> torch.nn.Sequential:
    # Without weight norm: lava-dl never renews the normed weights of the feedback, so that they cannot be trained.
    recurrent = _block().Recurrent(dict(_CUBA), 256, 256, weight_scale=1)
    return torch.nn.Sequential(*_dense(700, 256), recurrent, *_dense(256, 20))


def _wide() -> torch.nn.Sequential:
    return torch.nn.Sequential(*_dense(5000, 5000, 1000))


def _resonators(family: str) -> torch.nn.Sequential:
    dense = _block(family).Dense
    return torch.nn.Sequential(
        *(dense(dict(_RESONATOR), *pair, weight_scale=8) for pair in itertools.pairwise((256, 256, 256, 10)))
    )


KINDS = {
    "DVS gestures, pools": Kind(_gestures_with_pools, (2, 128, 128), 50, 2, 0.02),
    "DVS gestures": Kind(_gestures, (2, 128, 128), 50, 2, 0.02),
    "N-MNIST": Kind(_digits, (2, 34, 34), 300, 4, 0.02),
    "PilotNet SNN": Kind(_pilotnet, (3, 33, 100), 32, 2, None),
    "SHD": Kind(_speech, (700,), 100, 32, 0.02),
    "RF": Kind(lambda: _resonators("rf"), (256,), 100, 32, 0.05),
    "RF_IZ": Kind(lambda: _resonators("rf_iz"), (256,), 100, 32, 0.05),
    "30M synapses": Kind(_wide, (5000,), 32, 1, 0.02),
    "one tiny sample": Kind(lambda: torch.nn.Sequential(*_dense(34, 24, 5)), (34,), 20, 1, 0.1),
}
