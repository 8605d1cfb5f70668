"""The errors of this package. Each message says which file or layer, what was expected, what came and what to do."""

from __future__ import annotations

from netx_export.printable import printable

__all__ = ["ExportError", "NetxExportError", "NetxFormatError", "SimulationError"]


class NetxExportError(Exception):
    """Base of all errors of this package; what a message quotes from a file or a path cannot disguise itself in it."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ExportError(NetxExportError):
    """The network cannot be exported exactly, or the file cannot be written."""


class NetxFormatError(NetxExportError):
    """The file is not a netx network, or holds something that a netx network cannot hold."""


class SimulationError(NetxExportError):
    """The simulation could not be run or did not finish."""
