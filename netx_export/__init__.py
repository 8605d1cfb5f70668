"""Trained SLAYER networks to netx HDF5 files, and proof that the exported network runs as it was trained."""

from netx_export.checking import Finding, check
from netx_export.errors import DescriptionError, ExportError, NetxExportError, NetxFormatError, SimulationError
from netx_export.exporting import ExportResult, export
from netx_export.file.netx import read
from netx_export.network.description import NetworkDescription
from netx_export.run import Run as Simulation
from netx_export.simulation.simulate import simulate
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
    "Tolerance",
    "VerificationReport",
    "check",
    "export",
    "read",
    "round_parameters",
    "simulate",
    "verify",
]
