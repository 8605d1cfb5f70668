"""``netx-export verify``, ``simulate`` and ``check``: exit codes, a line per layer, and never a traceback."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lava_spikeloss.training import save
from netx_export import SimulationError, read, simulate
from netx_export.command import cli
from netx_export.file.netx import write
from netx_export.file.npz import load_simulation
from netx_export.network.description import Dense, Encoder, Input, NetworkDescription, SigmaDeltaNeuron

pytestmark = pytest.mark.slayer

Command = Callable[..., int]
NEURON = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}

MODEL = """
import torch
from torch import nn

def make():
    from lava.lib.dl.slayer.block import cuba
    neuron = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
    return nn.Sequential(
        cuba.Dense(neuron, 12, 16, weight_scale=3),
        cuba.Dense(neuron, 16, 12, weight_scale=3),
        cuba.Dense(neuron, 12, 5, weight_scale=3),
    )

def broken():
    raise RuntimeError("no such luck")

def other():
    return 3

trained = make()

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.blocks = make()

    def forward(self, x):
        return self.blocks((x[..., None] > torch.linspace(0, 1, 20)).to(x.dtype)).mean(-1)

def loud():
    print("hello from the user's module")
    return make()
"""


@pytest.fixture
def here(mlp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with net.net, spoiled.net, data.npz, checkpoints and a module."""

    def lower(file: Any) -> None:
        file["layer/2/neuron/vThMant"][...] = file["layer/2/neuron/vThMant"][()] - 5

    mlp.spoiled(tmp_path / "net.net", lambda file: None)
    mlp.spoiled(tmp_path / "spoiled.net", lower)
    np.savez(tmp_path / "data.npz", spikes=mlp.spikes.numpy().astype(np.uint8), labels=mlp.labels.numpy())
    torch.save(mlp.net.state_dict(), tmp_path / "weights.pt")
    torch.save({"state_dict": mlp.net.state_dict(), "epoch": 3}, tmp_path / "nested.pt")
    torch.save({**mlp.net.state_dict(), "extra": torch.zeros(1)}, tmp_path / "other.pt")
    torch.save(mlp.net, tmp_path / "pickled.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "model_of_the_test.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "model_of_the_test", raising=False)
    return tmp_path


@pytest.fixture
def command(here: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["netx-export", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        assert isinstance(code, int)
        return code

    return run


TRAINED = ("--model", "model_of_the_test:make", "--checkpoint", "weights.pt")


def test_a_pass(command: Command, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", "net.net", "--data", "data.npz", *TRAINED, "--lava-samples", "0", "--report", "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:4]] == ["PASSED   dense1", "PASSED   dense2", "PASSED   dense3"]
    assert lines[-1] == "PASSED   every spike of every layer is equal."
    assert json.loads((here / "out" / "report.json").read_text())["passed"] is True
    assert "PASSED" in (here / "out" / "report.html").read_text()


def test_a_fail(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    trained = ("--model", "model_of_the_test:make", "--checkpoint", "nested.pt")
    assert command("verify", "spoiled.net", "--data", "data.npz", *trained, "--lava-samples", "0") == 1
    out = capsys.readouterr().out
    assert "\nFAILED   dense2: " in out
    assert "Cause: file differs from the network. Its threshold is 80 in the network and 75 in the file." in out


def test_a_checkpoint_of_recurrent_blocks_after_a_batch_of_another_size(
    exported: Any, command: Command, here: Path
) -> None:
    """They keep the last batch's spikes, as a buffer of its size."""
    recurrent = exported("recurrent")
    recurrent.net(recurrent.spikes[:7])
    torch.save(recurrent.net.state_dict(), here / "recurrent.pt")
    lines = ["import torch", "from lava.lib.dl.slayer.block import cuba", f"NEURON = {NEURON}", "def make():"]
    lines += ["    layers = cuba.Recurrent(dict(NEURON), 12, 10, weight_scale=3), cuba.Dense(dict(NEURON), 10, 5)"]
    (here / "recurrent_of_the_test.py").write_text("\n".join([*lines, "    return torch.nn.Sequential(*layers)"]))
    np.savez(here / "data.npz", spikes=recurrent.spikes.numpy())
    trained = ("--model", "recurrent_of_the_test:make", "--checkpoint", "recurrent.pt")
    assert command("verify", str(recurrent.path), "--data", "data.npz", *trained, "--lava-samples", "0") == 0


def test_json_is_all_that_is_printed(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    loud = ("--model", "model_of_the_test:loud", "--checkpoint", "weights.pt")
    assert command("verify", "net.net", "--data", "data.npz", *loud, "--lava-samples", "0", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["exact"] is True
    assert "hello" in printed.err


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        (("simulate", "net.net", "--data", "data.npz", "--out", "spikes.npz"), b"Simulating on reference"),
        (("verify", "net.net", "--data", "data.npz", *TRAINED, "--lava-samples", "0"), b"SLAYER against reference"),
    ],
)
def test_a_terminal_shows_progress_and_nothing_else_does(
    arguments: tuple[str, ...], title: bytes, command: Command, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(*arguments) == 0
    assert not capfd.readouterr().err
    mine, theirs = pty.openpty()
    run = subprocess.run(
        [sys.executable, "-m", "netx_export.command.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=theirs,
        check=True,
    )
    os.close(theirs)
    assert title in os.read(mine, 2**16)
    os.close(mine)
    assert b"\x1b" not in run.stdout


@pytest.mark.parametrize(("columns", "widest"), [(60, 60), (300, 130)])
def test_inspect_fits_the_terminal(columns: int, widest: int, here: Path) -> None:
    mine, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "netx_export", "inspect", "net.net"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": str(columns)},
        stdout=theirs,
        check=True,
    )
    os.close(theirs)
    lines = os.read(mine, 2**16).decode().split("content sha256")[0].splitlines()
    os.close(mine)
    assert widest - 20 < max(map(len, lines)) <= widest
    assert any("voltage decay" in line for line in lines)


def test_simulate_then_verify_against_the_recording(command: Command, here: Path, mlp: Any) -> None:
    assert command("simulate", "net.net", "--data", "data.npz", "--out", "spikes.npz") == 0
    recorded = load_simulation(here / "spikes.npz")
    right = simulate(mlp.path, mlp.spikes)
    assert np.array_equal(recorded.output, right.output)
    assert sorted(recorded.layers) == ["dense1", "dense2", "dense3"]
    assert command("verify", "net.net", "--data", "data.npz", "--recorded", "spikes.npz") == 0
    assert command("verify", "spoiled.net", "--data", "data.npz", "--recorded", "spikes.npz") == 1


def test_a_recording_of_a_part_passes_for_that_part(
    command: Command, here: Path, mlp: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    right = simulate(mlp.path, mlp.spikes)
    np.savez(here / "part.npz", dense1=right.layers["dense1"])
    arguments = ("verify", "net.net", "--data", "data.npz", "--recorded", "part.npz")
    assert command(*arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    left_out = "dense2, dense3, output (between reference and recording)"
    assert lines[-1] == f"PASSED   every spike that was compared is equal; not compared: {left_out}."
    assert [line.split(":")[0] for line in lines[2:5]] == [
        f"SKIPPED  {name}" for name in ("dense2", "dense3", "output")
    ]
    assert command(*arguments, "--json") == 0
    (comparison,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert comparison["unrecorded"] == ["dense2", "dense3"]
    assert comparison["no_output"] == "the recording does not hold it"


def test_labels_that_no_output_can_have(command: Command, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(here / "wrong.npz", spikes=np.load("data.npz")["spikes"], labels=np.arange(16) % 5 - 1)
    assert command("verify", "net.net", "--data", "wrong.npz", *TRAINED, "--lava-samples", "0") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: wrong.npz: Expected")  # no name of a Python class before it
    assert "`labels` to hold class indices (0 to 4, one for each of 5 outputs)" in error
    assert "got -1, which no output can have" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("size", ["2", "abc"])
def test_variables_of_torchrun_without_torchrun(
    size: str, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.delenv("RANK", raising=False)
    assert command("verify", "net.net", "--data", "data.npz", *TRAINED, "--lava-samples", "0") == 2
    error = capsys.readouterr().err
    assert f"error: WORLD_SIZE is '{size}', as torchrun sets it, but this process cannot join the others" in error


def test_check(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", "net.net", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert command("check", "net.net") == 0
    assert "0 findings for loihi2." in capsys.readouterr().out


def _spikes(change: Callable[[Any], Any]) -> Callable[[], dict[str, Any]]:
    return lambda: {"spikes": change(np.load("data.npz")["spikes"])}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (_spikes(lambda x: x[:, :-1]), "Expected spikes of shape (N, 12, T)"),
        (_spikes(lambda x: x[0]), "(N, C, ..., T)"),
        (_spikes(lambda x: x.swapaxes(1, 2)), "got (16, 24, 12)"),
        (_spikes(lambda x: x * 255), "values between 0 and 255"),
        (_spikes(lambda x: np.where(x, np.nan, 0.0)), "NaN|nan"),
        (_spikes(lambda x: x * 0.5), "values between 0 and 0.5"),
        (_spikes(lambda x: x.astype(str)), "numeric type|numpy.str_|real numbers"),
        (_spikes(lambda x: x.astype(object)), "expected arrays of numbers only"),
        (_spikes(lambda x: x[:0]), "at least one sample"),
        (lambda: {"inputs": np.load("data.npz")["spikes"]}, "expected an array `spikes`"),
        (
            lambda: {"spikes": np.load("data.npz")["spikes"], "labels": np.arange(3)},
            "`labels` has the shape (3,). Samples are the first axis and time is the last.",
        ),
    ],
)
def test_data_that_does_not_fit(
    arrays: Callable[[], dict[str, Any]], message: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("wrong.npz", **arrays())
    for name in ("simulate", "verify"):
        rest = ("--out", "x.npz") if name == "simulate" else (*TRAINED, "--lava-samples", "0")
        if name == "simulate" and "label" in message:
            continue  # it has no use for labels
        assert command(name, "net.net", "--data", "wrong.npz", *rest) == 2
        error = capsys.readouterr().err
        assert any(part in error for part in message.split("|")), error
        assert "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.net", "--data", "data.npz"), "missing.net: no such file"),
        (("data.npz", "--data", "data.npz"), "data.npz: not an HDF5 file"),
        (("net.net", "--data", "missing.npz"), "missing.npz: no such file"),
        (("net.net", "--data", "net.net"), "net.net: expected a .npz file"),
        (
            ("net.net", "--data", "data.npz", "--recorded", "net.net"),
            "net.net: expected a .npz file with the spikes of layers",
        ),
        (("net.net", "--data", "data.npz", "--recorded", "data.npz"), "holds ['labels', 'spikes']"),
        (("net.net", "--data", "data.npz", "--lava-samples", "0"), "Nothing to compare: give --model or --recorded"),
        (("net.net", "--data", "data.npz", "--checkpoint", "weights.pt"), "--checkpoint needs --model"),
        (
            ("net.net", "--data", "data.npz", "--model", "nowhere:make"),
            "No module named 'nowhere'",
        ),
        (("net.net", "--data", "data.npz", "--model", "model_of_the_test"), "Expected --model module:factory but got"),
        (("net.net", "--data", "data.npz", "--model", "model_of_the_test:broken"), "RuntimeError: no such luck"),
        (("net.net", "--data", "data.npz", "--model", "model_of_the_test:other"), "torch.nn.Module but got int"),
        (("net.net", "--data", "data.npz", "--model", "model_of_the_test:trained"), "is a network, not what makes one"),
        *(
            (("net.net", "--data", "data.npz", "--model", "model_of_the_test:make", "--checkpoint", file), message)
            for file, message in (
                ("missing.pt", "missing.pt: no such file"),
                ("pickled.pt", "pickled.pt: not a checkpoint that holds tensors alone"),
                ("data.npz", "data.npz: not a checkpoint that holds tensors alone"),
                ("list.pt", "to hold a state_dict, or a checkpoint written by `save`, but got neither"),
                ("other.pt", "other.pt does not fit the network of --model model_of_the_test:make: Expected"),
            )
        ),
    ],
)
def test_what_could_not_run(
    arguments: tuple[str, ...], message: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("verify", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_report_that_cannot_be_written(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("verify", "net.net", "--data", "data.npz", *TRAINED, "--lava-samples", "0")
    assert command(*arguments, "--report", "data.npz/report") == 2
    printed = capsys.readouterr()
    assert "Cannot write to data.npz/report" in printed.err
    assert printed.out.splitlines()[-1] == "PASSED   every spike of every layer is equal."


@pytest.mark.parametrize("closes", ["sys.exit(1)", "sys.exit(0)"])
@pytest.mark.parametrize("name", ["verify", "export"])
def test_a_module_that_ends_the_process_gives_no_verdict(
    name: str, closes: str, command: Command, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "script_of_the_test.py").write_text(f"import sys\n{closes}\n")
    assert command(name, "net.net", "--data", "data.npz", "--model", "script_of_the_test:make") == 2
    status = closes.removeprefix("sys.exit(").removesuffix(")")
    error = capsys.readouterr().err
    assert f"error: sys.exit was called, with status {status}, before there was a result. If a module of" in error


@pytest.mark.parametrize(
    ("end", "status"), [("no licence", 2), (["no", "licence"], 2), (3, 3), (0, 0), (None, 0)]
)  # fmt: skip
def test_an_end_of_the_process_with_a_text_is_no_success(
    end: Any, status: int, command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netx_export.simulation.simulate.simulate", lambda *_, **__: sys.exit(end))
    assert command("simulate", "net.net", "--data", "data.npz", "--out", "spikes.npz") == status
    assert ("licence" in capsys.readouterr().err) == (status == 2)


@pytest.mark.parametrize("name", ["the sample.npz", "a sample of real data, tolerance=1.npz", "The sample.npz"])
def test_a_path_is_told_as_it_was_given(name: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("simulate", "net.net", "--data", name, "--out", "spikes.npz") == 2
    assert name in capsys.readouterr().err


def test_samples_that_are_too_short_are_told_in_the_words_of_the_command(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = Dense(np.array([[2, -6, 128], [64, 4, 0], [2, 2, 2]]), SigmaDeltaNeuron(2))
    write(NetworkDescription((Input((3,), True, Encoder(SigmaDeltaNeuron(2))), layer, layer)), "graded.net")
    np.savez("short.npz", spikes=np.zeros((1, 3, 1)))
    assert command("simulate", "graded.net", "--data", "short.npz", "--out", "spikes.npz") == 2
    assert "Give longer samples, or --no-delay-shift if it was trained so." in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_named", "without_lava_here")
@pytest.mark.parametrize("name", ["simulate", "verify", "doctor"])
def test_without_lava_the_options_that_leave_it_out_are_told(
    name: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    lava = ("net.net", "--data", "data.npz", "--backend", "lava", "--out", "spikes.npz")
    arguments = {"simulate": lava, "verify": lava[:3], "doctor": ()}[name]
    command(name, *arguments)
    told = "".join(capsys.readouterr())
    assert "in simulate with --backend reference, in verify with --lava-samples 0, or make an environment" in told
    assert "backend='" not in told


def test_a_full_disk(command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert command("simulate", "net.net", "--data", "data.npz", "--out", "spikes.npz") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not Path("spikes.npz").exists()
    assert not list(Path().glob(".*tmp"))


def test_ctrl_c(here: Path) -> None:
    """The exit status is neither that of a pass nor that of a fail, and nothing is left behind."""
    (here / "slow.py").write_text("import time\n\ndef make():\n    print('ready', flush=True)\n    time.sleep(60)\n")
    arguments = ["verify", "net.net", "--data", "data.npz", "--model", "slow:make", "--report", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "netx_export.command.cli", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )
    assert process.stderr is not None
    while "ready" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in error
    assert "Traceback" not in error
    assert not (here / "out").exists()


# -- export, check --data, tolerances, and what the command says of itself ---------------------------------------------


def started(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "netx_export", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_export_then_verify_as_a_process(here: Path, mlp: Any) -> None:
    save(here / "ours.pt", mlp.net)
    made = ("--model", "model_of_the_test:loud", "--data", "data.npz")
    exported = started("export", "new.net", *made, "--checkpoint", "ours.pt", "--target", "loihi1")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.splitlines()[-1] == "Wrote new.net: proved equal to the network, on 16 samples."
    assert read("new.net").metadata["target"] == "loihi1"
    assert "hello" in exported.stderr
    checked = started("verify", "new.net", *made, "--checkpoint", "weights.pt", "--lava-samples", "0")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("checkpoint", ["nested.pt", "parallel.pt", "ours.pt"])
def test_every_form_of_checkpoint(
    checkpoint: str, command: Command, here: Path, mlp: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    save(here / "ours.pt", mlp.net)
    torch.save({f"module.{name}": value for name, value in mlp.net.state_dict().items()}, here / "parallel.pt")
    trained = ("--model", "model_of_the_test:make", "--checkpoint", checkpoint)
    assert command("export", "new.net", "--data", "data.npz", *trained) == 0
    assert "proved equal" in capsys.readouterr().out
    assert np.array_equal(simulate("new.net", mlp.spikes).output, simulate("net.net", mlp.spikes).output)


def test_a_checkpoint_with_delays(exported: Any, command: Command, here: Path) -> None:
    """They have no shape in a network that never ran."""
    delayed = exported("delayed")
    torch.save(delayed.net.state_dict(), here / "delayed.pt")
    lines = ["import torch", "from lava.lib.dl.slayer.block import cuba", f"NEURON = {NEURON}", "def make():"]
    lines += ["    layers = cuba.Dense(NEURON, 12, 14, weight_scale=3, delay=True), cuba.Dense(NEURON, 14, 5)"]
    (here / "delayed_of_the_test.py").write_text("\n".join([*lines, "    return torch.nn.Sequential(*layers)"]))
    np.savez(here / "data.npz", spikes=delayed.spikes.numpy())
    trained = ("--model", "delayed_of_the_test:make", "--checkpoint", "delayed.pt")
    assert command("export", "new.net", "--data", "data.npz", *trained) == 0
    assert command("verify", str(delayed.path), "--data", "data.npz", *trained, "--lava-samples", "0") == 0


def test_what_float32_rounds_is_exported_within_a_tolerance(
    command: Command, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["import torch", "from lava.lib.dl.slayer.block import sigma_delta"]
    lines += ["NEURON = {'threshold': 0.1, 'activation': torch.relu}", "def make():", "    torch.manual_seed(0)"]
    lines += ["    dense = [sigma_delta.Dense(NEURON, *size, weight_scale=24) for size in ((20, 128), (128, 128))]"]
    lines += ["    output = sigma_delta.Output(NEURON, 128, 5, weight_scale=24)"]
    lines += ["    return torch.nn.Sequential(sigma_delta.Input(NEURON), *dense, output)"]
    (here / "loud_of_the_test.py").write_text("\n".join(lines))
    np.savez("loud.npz", spikes=np.random.default_rng(0).normal(size=(3, 20, 40)).cumsum(-1) / 4)
    line = ("export", "new.net", "--data", "loud.npz", "--model", "loud_of_the_test:make")
    assert command(*line) == 2
    needed = re.search(r"near enough, (--tolerance=[0-9.e-]+) writes the file", capsys.readouterr().err)
    assert needed is not None
    assert not Path("new.net").exists()
    assert command(*line, needed.group(1)) == 0
    assert re.search(
        r"Wrote new.net: within 0\.\d+ of the network, not proved equal, on 3 samples", capsys.readouterr().out
    )
    assert command(*line, "--tolerance=-1") == 2
    assert "argument --tolerance" in capsys.readouterr().err


def test_silence_is_refused_in_the_words_of_the_command(
    command: Command, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("silent.npz", spikes=np.zeros((2, 12, 8)))
    assert command("export", "new.net", "--data", "silent.npz", *TRAINED) == 2
    error = capsys.readouterr().err
    assert "or name each with --allow-silent: ['dense1', 'dense2', 'dense3', 'output']" in error
    assert "Give --data with real samples on which every layer spikes" in error
    assert not Path("new.net").exists()
    silent = [text for name in ("dense1", "dense2", "dense3", "output") for text in ("--allow-silent", name)]
    assert command("export", "new.net", "--data", "silent.npz", *TRAINED, *silent) == 0
    assert "Wrote new.net: not proved, on 2 samples." in capsys.readouterr().out


def test_data_without_steps_of_a_network_that_adds_them(
    command: Command, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("numbers.npz", spikes=np.random.default_rng(0).random((6, 12)), labels=np.zeros(6, int))
    counting = ("--data", "numbers.npz", "--model", "model_of_the_test:Counting")
    assert command("export", "new.net", *counting) == 0
    assert "It begins inside the network's forward" in capsys.readouterr().out
    assert command("verify", "new.net", *counting, "--lava-samples", "0") == 0
    for line in (
        ("export", "other.net", "--data", "numbers.npz", *TRAINED),
        ("check", "new.net", "--data", "numbers.npz"),
    ):
        assert command(*line) == 2
        assert "(6, 12)" in capsys.readouterr().err
    assert not Path("other.net").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "data.npz", "--data", "data.npz", *TRAINED),
        ("export", "weights.pt", "--data", "data.npz", *TRAINED),
        ("simulate", "net.net", "--data", "data.npz", "--out", "./data.npz"),
        ("simulate", "net.net", "--data", "data.npz", "--out", "net.net"),
    ],
    ids=["data", "checkpoint", "spikes", "network"],
)
def test_what_is_read_is_not_written_over(
    arguments: tuple[str, ...], command: Command, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in here.iterdir()}
    assert command(*arguments) == 2
    assert "this file is read, and would be written over" in capsys.readouterr().err
    assert all((here / name).read_bytes() == content for name, content in before.items())


@pytest.mark.parametrize("kind", [complex, str, "datetime64[s]"], ids=str)
def test_spikes_that_are_no_numbers_are_named_with_their_file(
    kind: Any, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("wrong.npz", spikes=np.ones((2, 12, 8), int).astype(kind))
    for line in (("export", "new.net", *TRAINED), ("check", "net.net"), ("simulate", "net.net", "--out", "x.npz")):
        assert command(*line, "--data", "wrong.npz") == 2
        assert "wrong.npz: expected real numbers of up to 64 bits in `spikes` but got" in capsys.readouterr().err


def test_data_of_another_shape_is_named_as_given(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("wrong.npz", spikes=np.ones((16, 11, 8)))
    assert command("export", "new.net", "--data", "wrong.npz", *TRAINED) == 2
    assert command("check", "net.net", "--data", "wrong.npz") == 2
    assert "got (16, 11, 8)" in capsys.readouterr().err


def test_check_on_data(command: Command, here: Path, mlp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def strengthen(file: Any) -> None:
        file["layer/2/weight"][...] = 254
        file["layer/2/neuron/iDecay"][...] = 0

    mlp.spoiled(here / "strong.net", strengthen)
    np.savez("long.npz", spikes=np.ones((1, 12, 2000)))
    command("check", "strong.net")
    without = capsys.readouterr().out
    command("check", "strong.net", "--data", "long.npz")
    assert capsys.readouterr().out != without


def test_tolerances(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("simulate", "spoiled.net", "--data", "data.npz", "--out", "spikes.npz") == 0
    recorded = ("verify", "net.net", "--data", "data.npz", "--recorded", "spikes.npz", "--seed", "3", "--timeout", "9")
    assert command(*recorded) == 1
    assert command(*recorded, "--tolerance", "rate=1", "--tolerance", "value=1") == 0
    layers = [text for name in ("dense2", "dense3", "output") for text in ("--tolerance", f"{name}:value=1")]
    assert command(*recorded, *layers) == 0
    assert command(*recorded, *layers[:2]) == 1


def test_options_of_a_run_reach_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def refuse(*_: Any, **options: Any) -> None:
        given.update(options)
        raise SimulationError("enough was seen")

    monkeypatch.setattr("netx_export.verification.verify.verify", refuse)
    options = ("--lava-samples", "5", "--seed", "3", "--timeout", "9", "--no-delay-shift", "--spike-exp", "4")
    assert command("verify", "net.net", "--data", "data.npz", *options) == 2
    expected = {"lava_samples": 5, "seed": 3, "timeout": 9.0, "delay_shift": False, "spike_exp": 4}
    assert {name: given[name] for name in expected} == expected
    assert given["lava_workers"] is None
    assert command("verify", "net.net", "--data", "data.npz", "--lava-workers", "2") == 2
    assert (given["lava_samples"], given["lava_workers"]) == ("auto", 2)
    assert command("verify", "net.net", "--data", "data.npz", "--lava-samples", "auto") == 2
    assert given["lava_samples"] == "auto"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tolerance", "rates=1"), "with one of differing, value, rate, "),
        (("--tolerance", "rate=much"), "Expected a number of at least 0 after `=` in --tolerance but got 'rate=much'"),
        (("--tolerance", "rate=-1"), "Expected a number of at least 0"),
        (("--tolerance", "rate=1", "--tolerance", "rate=2"), "a second one in --tolerance rate=2"),
        (("--tolerance", "rate=1", "--tolerance", "dense1:rate=2"), "but got both"),
        (("--timeout", "0"), "Expected --timeout to be"),
        (("--lava-samples", "-1"), "Expected a number of at least 0, or auto, but got '-1'"),
        (("--lava-samples", "many"), "Expected a number of at least 0, or auto, but got 'many'"),
        (("--lava-workers", "0"), "Invalid value for '--lava-workers'"),
        (("--recorded", "."), ".: a directory, not a file"),
    ],
)
def test_options_of_verify_that_are_wrong(
    arguments: tuple[str, ...], message: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("verify", "net.net", "--data", "data.npz", *arguments) == 2
    assert message in capsys.readouterr().err


def test_version_help_and_completion_need_neither_torch_nor_slayer(here: Path) -> None:
    (here / "torch.py").write_text("raise RuntimeError('torch was imported')")
    path = os.pathsep.join([str(here), *sys.path])
    version = started("--version", PYTHONPATH=path)
    assert version.stdout.startswith("netx-export 0")
    assert "export" in started("--help", PYTHONPATH=path).stdout
    assert "--tolerance" in started("verify", "--help", PYTHONPATH=path, COLUMNS="200").stdout
    completed = started(
        PYTHONPATH=path, _NETX_EXPORT_COMPLETE="complete_bash", COMP_WORDS="netx-export ins", COMP_CWORD="1"
    )
    assert (completed.returncode, completed.stdout.split()) == (0, ["inspect"]), completed.stderr
    assert started("check", "net.net", PYTHONPATH=path).returncode == 2  # the trap works


@pytest.mark.parametrize("library", ["libtorch_cpu", "/h5py/"])
def test_ctrl_c_at_the_start(library: str, here: Path) -> None:
    """In the middle of what is imported, which takes a second or more."""
    process = subprocess.Popen(
        [sys.executable, "-m", "netx_export", "export", "new.net", "--data", "data.npz", *TRAINED],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "error: interrupted; nothing was left half-written"
    assert "Traceback" not in error
    assert not (here / "new.net").exists()
