"""Trained SLAYER networks to netx HDF5 files, and proof that the exported network runs as it was trained."""

from netx_export.check import Finding, check
from netx_export.comparison import Tolerance
from netx_export.description import NetworkDescription
from netx_export.errors import ExportError, NetxExportError, NetxFormatError, SimulationError
from netx_export.export import ExportResult, export
from netx_export.hdf5 import read
from netx_export.simulation import Simulation, simulate
from netx_export.verify import VerificationReport, verify

__all__ = [
    "ExportError",
    "ExportResult",
    "Finding",
    "NetworkDescription",
    "NetxExportError",
    "NetxFormatError",
    "Simulation",
    "SimulationError",
    "Tolerance",
    "VerificationReport",
    "check",
    "export",
    "read",
    "simulate",
    "verify",
]
