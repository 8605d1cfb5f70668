"""What a file holds and how it is called reaches the terminal as text: it moves no cursor and forges no line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from rich.console import Console

from netx_export import verify
from netx_export.command import cli
from netx_export.file.netx import write
from netx_export.file.npz import save_spikes
from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription
from netx_export.verification.report import print_report, save_html

EVIL = "\x1b[2J\x1b]0;title\x07\x9b1m\nPASSED every spike of every layer is equal.\r\u202e\u2028[bold red]x[/]"
NEURON = CubaNeuron(80, np.array([1024]), np.array([128]))
NETWORK = NetworkDescription((Input((3,)), Dense(np.array([[2, -4, 6], [8, 10, -12]]), NEURON)), {EVIL: EVIL})


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose name, texts and attributes all try to write on the terminal by themselves."""
    monkeypatch.chdir(tmp_path)
    path = Path(EVIL.replace("/", "") + ".net")
    write(NETWORK, path)
    with h5py.File(path, "r+") as file:
        file["layer/1/neuron/wgtExp"] = 3
        file["lava_spikeloss"].attrs["number" + EVIL] = 5
    return path


def _run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["netx-export", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code, *capfd.readouterr()


def _assert_harmless(printed: str) -> None:
    for line in printed.splitlines():
        assert line.isprintable(), line
        assert not line.startswith("PASSED")
    assert printed.count("\n") == len(printed.splitlines())


def test_inspect_and_check(evil: Path, monkeypatch: Any, capfd: Any) -> None:
    status, out, _ = _run(monkeypatch, capfd, "inspect", str(evil))
    assert status == 0
    assert "[bold red]x[/]" in out  # nor is it markup
    _assert_harmless(out)
    status, out, _ = _run(monkeypatch, capfd, "check", str(evil))
    assert "attribute number" in out
    _assert_harmless(out)
    _, out, _ = _run(monkeypatch, capfd, "check", str(evil), "--json")
    assert any(EVIL in str(finding["value"]) for finding in json.loads(out))
    _assert_harmless(out)


def test_errors_and_what_was_written(evil: Path, monkeypatch: Any, capfd: Any) -> None:
    save_spikes("data.npz", np.ones((1, 3, 4)))
    status, out, _ = _run(
        monkeypatch, capfd, "simulate", str(evil), "--data", "data.npz", "--out", EVIL.replace("/", "")
    )
    assert status == 0
    _assert_harmless(out)
    np.savez("other.npz", **{EVIL.replace("/", ""): np.ones(3)})
    for arguments in (["simulate", str(evil), "--data", "other.npz", "--out", "o.npz"], ["inspect", EVIL]):
        status, _, errors = _run(monkeypatch, capfd, *arguments)
        assert status == 2
        _assert_harmless(errors)
    with h5py.File(evil, "r+") as file:
        del file["layer/1/type"]
        file["layer/1/type"] = EVIL
    status, _, errors = _run(monkeypatch, capfd, "inspect", str(evil))
    assert status == 2
    assert "not supported" in errors
    _assert_harmless(errors)


def test_reports(evil: Path, tmp_path: Path, capsys: Any) -> None:
    ones = np.ones((1, 3, 20), np.uint8)
    report = verify(None, evil, ones, lava_samples=0, recorded={"dense1": np.zeros((1, 2, 20))}).to_dict()
    assert report["metadata"][EVIL] == EVIL
    report["comparisons"][0]["unrecorded"] = [EVIL]
    print_report(report, Console(width=10_000))
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.splitlines())
    save_html(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert not set(page) & (set(EVIL) - set("\n") - {c for c in EVIL if c.isprintable()})
    assert "PASSED every spike of every layer is equal.\\r" in page


@pytest.mark.parametrize("command", ["inspect", "check", "simulate", "verify"])
def test_a_folder_is_not_said_to_be_missing(command: str, tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    data = tmp_path / "data.npz"
    save_spikes(data, np.ones((1, 3, 4)))
    (tmp_path / "folder").mkdir()
    more = {"simulate": ["--data", str(data), "--out", "o.npz"], "verify": ["--data", str(data)]}.get(command, [])
    status, _, errors = _run(monkeypatch, capfd, command, str(tmp_path / "folder"), *more)
    assert (status, errors) == (
        2,
        f"error: {tmp_path}/folder: a directory, not a file. Give the path of a netx HDF5 file.\n",
    )


def test_a_terminal_that_knows_ascii_only(tmp_path: Path) -> None:
    """The answer is not lost with a letter."""
    path = tmp_path / "a.net"
    write(NetworkDescription(NETWORK.layers, {"name": "Größe"}), path)
    command = [sys.executable, "-m", "netx_export.command.cli", "inspect", str(path)]
    run = subprocess.run(
        command, capture_output=True, timeout=60, env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    )
    assert run.returncode == 0, run.stderr
    assert rb"name: Gr\xf6\xdfe" in run.stdout


@pytest.mark.parametrize("unread", ["stdout", "stderr"])
@pytest.mark.parametrize("command", ["--help", "inspect a.net", "check a.net", "inspect missing.net"])
def test_output_that_nobody_reads_is_no_error(command: str, unread: str, tmp_path: Path) -> None:
    """As behind `| head`: nothing is printed about it, and the status is not that of a network that failed."""
    write(NetworkDescription(NETWORK.layers, {f"text {n}": "a" * 1000 for n in range(40)}), tmp_path / "a.net")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        run = subprocess.run(
            [sys.executable, "-m", "netx_export.command.cli", *command.split()],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, unread: writer},  # type: ignore[call-overload]
            cwd=tmp_path,
            timeout=60,
            env={"PYTHONPATH": ":".join(sys.path)},
            check=False,
        )
    finally:
        os.close(writer)
    fails = "missing.net" in command
    assert run.returncode == (2 if fails or unread == "stdout" else 0)
    assert unread == "stderr" or bool(run.stderr) == fails


@pytest.mark.parametrize(
    ("spiking", "recorded_spike", "status", "last"),
    [
        (True, False, 0, "PASSED   every spike of every layer is equal."),
        (True, True, 1, "FAILED   1 spikes of layer dense1 differ between reference and recording."),
        (False, False, 1, "FAILED   layer dense1 never spiked, so nothing is known of it. Give it input that"),
    ],
)
def test_the_exit_status_is_0_only_for_a_network_of_which_something_was_shown(
    spiking: bool,
    recorded_spike: bool,
    status: int,
    last: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    layer = Dense(np.array([[20, 24, 26], [28, 30, 32]]), NEURON)
    write(NetworkDescription((Input((3,)), layer)), "a.net")
    save_spikes("data.npz", np.full((2, 3, 20), int(spiking)))
    assert _run(monkeypatch, capfd, "simulate", "a.net", "--data", "data.npz", "--out", "spikes.npz")[0] == 0
    recorded = dict(np.load("spikes.npz"))
    recorded["dense1"][1, 0, 3] ^= recorded_spike
    recorded["output"][1, 0, 3] ^= recorded_spike
    np.savez("recorded.npz", **recorded)
    got, out, _ = _run(monkeypatch, capfd, "verify", "a.net", "--data", "data.npz", "--recorded", "recorded.npz")
    assert out.splitlines()[-1].startswith(last)
    assert got == status
