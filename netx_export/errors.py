"""The errors of this package. Each message says which file or layer, what was expected, what came and what to do."""

from __future__ import annotations

from netx_export.printable import printable

__all__ = ["DescriptionError", "ExportError", "NetxExportError", "NetxFormatError", "SimulationError"]


class NetxExportError(Exception):
    """Base of all errors of this package; what a message quotes from a file or a path cannot disguise itself in it."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ExportError(NetxExportError):
    """The network cannot be exported exactly, or the file cannot be written.

    Attributes:
        block: the block that cannot be exported, as ``Block 1 (cuba.Dense)``; empty if it is not about one block.
        reason: why; of an error that is about no block, its whole message.
        advice: what to use instead; empty if the message says it.
    """

    def __init__(self, reason: str, block: str = "", advice: str = "") -> None:
        super().__init__(f"{block} cannot be exported: {reason}. {advice}" if block else reason)
        self.block = block
        self.reason = reason
        self.advice = advice


class DescriptionError(NetxExportError, ValueError):
    """The layers given to a :class:`netx_export.NetworkDescription` make no network that netx could load.

    Attributes:
        reason: what is wrong.
        index: index of the layer with which it is wrong; None if it is the whole network.
    """

    def __init__(self, reason: str, index: int | None = None, kind: str = "layer ") -> None:
        super().__init__(f"{reason}." if index is None else f"{kind}{index}: {reason}.")
        self.reason = reason
        self.index = index


class NetxFormatError(NetxExportError):
    """The file is not a netx network, or holds something that a netx network cannot hold."""


class SimulationError(NetxExportError):
    """The simulation could not be run or did not finish."""
