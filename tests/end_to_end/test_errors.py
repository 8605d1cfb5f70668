"""One clear sentence for each thing that goes wrong, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from netx_export import NetxExportError, NetxFormatError, SimulationError, read, simulate, verify
from netx_export.command.model import load_model
from netx_export.simulation import lava_parent


def left_behind() -> set[str]:
    """Shared memory of Python that no living process uses, and the children of this process."""
    shared = {f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if name.startswith(("psm_", "sem."))}
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return (shared - in_use()) | set(children)


def in_use() -> set[str]:
    """The shared memory that living processes have mapped, other tests' runs of Lava among them."""
    mapped: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # the process has just ended, or is another user's
            mapped.update(line.split()[-1] for line in maps.read_text().splitlines() if "/dev/shm/" in line)
    return mapped


def wait_until_nothing_is_left(before: set[str]) -> None:
    deadline = time.monotonic() + 10
    while left_behind() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left_behind() - before == set()


@pytest.mark.lava
def test_a_time_limit_ends_lava_and_leaves_nothing(trained: Any) -> None:
    lava_parent._workers[0].end()
    before = left_behind()
    with pytest.raises(SimulationError, match=r"did not finish within 6 s.*`timeout`"):
        simulate(trained.path, trained.spikes.repeat(50, 1, 1), backend="lava", timeout=6)
    wait_until_nothing_is_left(before)


@pytest.mark.lava
def test_lava_works_again_after_a_failure(trained: Any) -> None:
    with pytest.raises(SimulationError):
        simulate(trained.path, trained.spikes, backend="lava", timeout=0.01)
    assert simulate(trained.path, trained.spikes[:2], backend="lava").output.shape == (2, 10, 32)


@pytest.mark.lava
def test_an_error_inside_lava_is_told(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lava_parent, "_RESET_OFFSET", "no number")
    with pytest.raises(SimulationError, match=r"Lava could not run .*digits\.net: TypeError"):
        simulate(trained.path, trained.spikes[:1], backend="lava")


@pytest.mark.lava
def test_missing_lava_is_told(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lava_parent._workers[0].end()
    hide = "import sys; sys.modules['lava.lib.dl.netx'] = None; "
    monkeypatch.setattr(lava_parent, "_CHILD", hide + lava_parent._CHILD)
    with pytest.raises(SimulationError, match=r"pip install 'lava-spikeloss\[lava\]'|missing in .*lava-env"):
        simulate(trained.path, trained.spikes[:1], backend="lava")


@pytest.mark.slayer
@pytest.mark.parametrize(
    ("spikes", "message"),
    [
        (torch.zeros(2, 63, 8), r"Expected spikes of shape \(N, 64, T\).*got \(2, 63, 8\)"),
        (torch.zeros(2, 64), r"got \(2, 64\)"),
        (torch.zeros(0, 64, 8), "at least one sample"),
        (torch.full((2, 64, 8), 255.0), "values between 255 and 255"),
        (torch.full((2, 64, 8), 0.5), "values between 0.5 and 0.5"),
        (torch.full((2, 64, 8), float("nan")), "1024 values that are NaN"),
        (torch.full((2, 64, 8), -1.0), "values between -1 and -1"),
    ],
)
def test_input_that_does_not_fit(trained: Any, spikes: torch.Tensor, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        simulate(trained.path, spikes)


@pytest.mark.slayer
def test_labels_that_do_not_fit(trained: Any) -> None:
    with pytest.raises(ValueError, match=r"`labels` to be 24 class indices"):
        verify(trained.net, trained.path, trained.spikes, torch.zeros(3, dtype=torch.int64), lava_samples=0)


def test_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="Nothing to compare"):
        verify(None, "any.net", np.zeros((1, 1, 1)), lava_samples=0)


def test_a_file_that_is_no_net(tmp_path: Path) -> None:
    text = tmp_path / "text.net"
    text.write_text("not HDF5")
    with pytest.raises(NetxFormatError, match=r"text\.net: not an HDF5 file"):
        read(text)
    with pytest.raises(NetxFormatError, match="no such file"):
        read(tmp_path / "missing.net")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "missing.net"], "error: missing.net: no such file"),
        (["demo", "--out", "file/demo"], "error: Cannot write to file/demo"),
    ],
)
def test_the_command_fails_with_one_sentence(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "netx_export.command.cli", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_neither_package_imports_lava() -> None:
    imports = "import sys, lava_spikeloss, netx_export, netx_export.command.cli, netx_export.command.demo"
    code = f"{imports}; sys.exit(any(name.split('.')[0] == 'lava' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_lava_spikeloss_does_not_import_the_compiler_of_torch() -> None:
    """It would take half of the time that both take together."""
    code = "import sys, lava_spikeloss; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_a_checkpoint_that_cannot_be_read_is_not_said_to_be_something_else(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    for checkpoint, reason in (
        (tmp_path, "a directory, not a file"),
        (tmp_path / "missing.pt", "no such file"),
        (Path("a\0b"), "no path, for it holds a NUL character"),
    ):
        with pytest.raises(NetxExportError, match=f": {reason}. Give the path of a checkpoint"):
            load_model("torch.nn:Identity", checkpoint)
    torch.save({"weight": torch.zeros(2**24)}, path)
    code = (
        "import resource, sys, pathlib; from netx_export import NetxExportError\n"
        "from netx_export.command.model import load_model\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 2**25,) * 2)\n"
        "try: load_model('torch.nn:Identity', pathlib.Path(sys.argv[1]))\n"
        "except NetxExportError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert run.stdout == f"{path}: there is not enough memory to read it.\n", run.stderr


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(99), b"\x80\x02}q\x00(X\x05"])
def test_a_damaged_checkpoint_gives_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(NetxExportError, match=r"checkpoint\.pt: not a checkpoint that holds tensors alone"):
        load_model("torch.nn:Identity", path)
