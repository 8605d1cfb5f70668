"""Trained SLAYER networks to netx HDF5 files, and proof that the exported network runs as it was trained."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a type checker sees; at run time each name is imported when it is used first, below
    from netx_export.checking import Finding, check
    from netx_export.errors import DescriptionError, ExportError, NetxExportError, NetxFormatError, SimulationError
    from netx_export.exporting import ExportResult, export
    from netx_export.file.netx import read
    from netx_export.network.description import NetworkDescription
    from netx_export.run import Run as Simulation
    from netx_export.simulation.simulate import Simulator, simulate
    from netx_export.slayer import RoundedParameter, round_parameters
    from netx_export.verification.result import Tolerance
    from netx_export.verification.verify import VerificationReport, verify

__all__ = [
    "DescriptionError",
    "ExportError",
    "ExportResult",
    "Finding",
    "NetworkDescription",
    "NetxExportError",
    "NetxFormatError",
    "RoundedParameter",
    "Simulation",
    "SimulationError",
    "Simulator",
    "Tolerance",
    "VerificationReport",
    "check",
    "export",
    "read",
    "round_parameters",
    "simulate",
    "verify",
]

_HOMES = {  # torch takes a second to import: the command, which prints its help, should not
    "DescriptionError": ("netx_export.errors", "DescriptionError"),
    "ExportError": ("netx_export.errors", "ExportError"),
    "ExportResult": ("netx_export.exporting", "ExportResult"),
    "Finding": ("netx_export.checking", "Finding"),
    "NetworkDescription": ("netx_export.network.description", "NetworkDescription"),
    "NetxExportError": ("netx_export.errors", "NetxExportError"),
    "NetxFormatError": ("netx_export.errors", "NetxFormatError"),
    "RoundedParameter": ("netx_export.slayer", "RoundedParameter"),
    "Simulation": ("netx_export.run", "Run"),
    "SimulationError": ("netx_export.errors", "SimulationError"),
    "Simulator": ("netx_export.simulation.simulate", "Simulator"),
    "Tolerance": ("netx_export.verification.result", "Tolerance"),
    "VerificationReport": ("netx_export.verification.verify", "VerificationReport"),
    "check": ("netx_export.checking", "check"),
    "export": ("netx_export.exporting", "export"),
    "read": ("netx_export.file.netx", "read"),
    "round_parameters": ("netx_export.slayer", "round_parameters"),
    "simulate": ("netx_export.simulation.simulate", "simulate"),
    "verify": ("netx_export.verification.verify", "verify"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":  # looked up only now: a copy of the sources that is not installed has none
        return version("lava-spikeloss")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, own_name = _HOMES[name]
    value = globals()[name] = getattr(import_module(module), own_name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
