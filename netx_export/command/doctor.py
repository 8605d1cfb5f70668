"""``netx-export doctor``: what is installed, what works, and what to do about the rest."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from lava_spikeloss.compiling import cuda_compiler, numba_runs
from netx_export.errors import NetxExportError
from netx_export.simulation.lava_python import VARIABLE, LavaPython, examine, find_lava_python, remembered

__all__ = ["Finding", "examine_everything"]

_TRAIN_ANYWHERE = "docs/tasks/train-anywhere.md says how to install it"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: ``"works"``; ``"missing"`` of what can be done without; ``"fails"`` of what is there and does not work.
        found: versions, or what is wrong.
        advice: what to do; empty if nothing.
    """

    name: str
    state: Literal["works", "missing", "fails"]
    found: str
    advice: str = ""


def examine_everything() -> Iterator[Finding]:
    """Look at one thing after the other; the last, a run on Lava, takes some seconds."""
    yield Finding("Python", "works", f"{platform.python_version()} in {sys.prefix}, {platform.platform()}")
    packages = ("lava-spikeloss", "torch", "numpy", "h5py")
    yield Finding("packages", "works", ", ".join(f"{name} {_version(name)}" for name in packages))
    yield _accelerator()
    yield _compiled_loops()
    yield _slayer()
    yield from _slayer_on_cuda()
    yield from _lava()


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # for instance a checkout that is only on the path
        return "(not installed as a package)"


def _accelerator() -> Finding:
    import torch

    name = "accelerator"
    if not torch.cuda.is_available():
        return Finding(name, "missing", "torch sees no GPU: everything runs on the CPU")
    device = torch.cuda.get_device_name()
    try:
        torch.ones(2, device="cuda").sum().item()
    except RuntimeError as error:  # for instance by a GPU that is newer than this torch
        advice = "Install a torch that knows this GPU, or hide it with CUDA_VISIBLE_DEVICES=."
        return Finding(name, "fails", f"{device}: {_one_line(error)}", advice)
    return Finding(name, "works", f"{device}, CUDA {torch.version.cuda}")


def _compiled_loops() -> Finding:
    name = "compiled simulator"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        runs = numba_runs()
    if runs:
        return Finding(name, "works", f"numba {_version('numba')}")
    if importlib.util.find_spec("numba") is None:
        advice = "The simulator is up to three times as fast with: pip install numba"
        return Finding(name, "missing", "numba is not installed", advice)
    reason = " ".join(" ".join(str(warning.message) for warning in told).split())
    return Finding(name, "fails", reason, "Install a numba that knows this numpy, or remove it.")


def _slayer() -> Finding:
    quiet = io.StringIO()  # on import lava-dl warns of parts that are not used here
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            importlib.import_module("lava.lib.dl.slayer")
    except Exception as error:  # an incomplete installation may raise anything
        there = _version("lava-dl")[0].isdigit()
        advice = f"Training and export need SLAYER: {_TRAIN_ANYWHERE}."
        return Finding("SLAYER", "fails" if there else "missing", _one_line(error), advice)
    return Finding("SLAYER", "works", f"lava-dl {_version('lava-dl')}")


def _slayer_on_cuda() -> Iterator[Finding]:
    """What SLAYER lacks to train on a GPU that is there."""
    import torch

    if torch.cuda.is_available() and not cuda_compiler():
        advice = (
            'Call set_backend(net, "compiled"), whose kernels need Triton and a C compiler instead. For axonal delays '
            f"install the nvcc of CUDA {torch.version.cuda}."
        )
        yield Finding("SLAYER on the GPU", "missing", "no nvcc, with which SLAYER compiles its CUDA code", advice)


def _lava() -> Iterator[Finding]:
    """The Python that runs Lava, and a run on it."""
    try:
        python = find_lava_python()
    except NetxExportError as error:
        named = os.environ.get(VARIABLE) or remembered()
        yield Finding("Lava", "fails" if named else "missing", _one_line(error))
        return
    if python.is_this_one and importlib.util.find_spec("lava") is None:
        yield Finding("Lava", "missing", "not installed here", f"{python.how_to_install()} Or: netx-export lava-env")
        return
    yield _checked("Lava's Python", lambda: _described(python))
    yield _checked("Lava", _run_on_lava)


def _described(python: LavaPython) -> str:
    facts = examine(python)
    versions = [f"{name} {number}" for name, number in facts.packages.items()]
    version = ".".join(map(str, facts.version))
    return f"{python.path}, named by {python.origin}: {', '.join([f'Python {version}', *versions])}"


def _run_on_lava() -> str:
    from netx_export.simulation.trial import try_lava

    return f"all {try_lava()} spikes of a network of two layers are those of the reference simulator"


def _checked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "works", look())
    except NetxExportError as error:
        return Finding(name, "fails", _one_line(error))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
