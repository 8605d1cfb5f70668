"""``netx-export lava-env`` and ``netx-export doctor``: from a Python without Lava to one that Lava runs on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netx_export import NetxExportError, SimulationError
from netx_export.command import demo, doctor, lava_env
from netx_export.command.lava_env import find_base, make_lava_env
from netx_export.simulation import trial
from netx_export.simulation.lava_python import VARIABLE, PythonFacts, find_lava_python, remember, remembered

HAS_LAVA = os.environ.get(VARIABLE)
BASE = sys.executable


pytestmark = pytest.mark.usefixtures("nothing_named")


def _script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def _command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run ``netx-export`` as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "netx_export", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine on which nothing is found unless a test puts it there: an empty PATH, and a Python of 3.12."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin")
    monkeypatch.setattr("sys.executable", _script(tmp_path / "this", "echo 3.12"))
    return tmp_path


def test_a_python_is_found_by_its_name(machine):
    python = _script(machine / "bin" / "python3.10", "echo 3.10")
    assert find_base(None) == python


def test_a_name_that_does_not_run_is_passed_over_for_what_uv_finds(machine):
    _script(machine / "bin" / "python3.10", "exit 127")  # as pyenv puts one on the PATH for each version
    python = _script(machine / "uv" / "python", "echo 3.10")
    _script(machine / "bin" / "uv", f'[ "$*" = "python find 3.10" ] && echo {python}')
    assert find_base(None) == python


def test_the_newest_that_pyenv_has_is_found(machine):
    _script(machine / "bin" / "uv", "exit 2")
    for version in ("3.9.1", "3.10.2", "3.10.13", "3.11.1"):
        _script(machine / "pyenv" / "versions" / version / "bin" / "python", f"echo {version.rpartition('.')[0]}")
    _script(machine / "bin" / "pyenv", f"echo {machine / 'pyenv'}")
    assert find_base(None) == str(machine / "pyenv" / "versions" / "3.10.13" / "bin" / "python")


def test_no_python_is_found(machine):
    message = r"Lava needs a Python 3\.10, and none was found.*uv python install 3\.10.*--python"
    with pytest.raises(NetxExportError, match=message):
        find_base(None)


@pytest.mark.parametrize(("text", "what"), [("echo 3.9", r"Python 3\.9"), ("exit 1", "no Python that runs")])
def test_a_named_python_of_another_version_is_refused(machine, text, what):
    path = _script(machine / "other", text)
    with pytest.raises(NetxExportError, match=rf"Lava runs on Python 3\.10 only, and {path} is {what}\."):
        find_base(path)
    _script(machine / "bin" / "python3.10", "echo 3.10")
    with pytest.raises(NetxExportError, match=what):
        find_base(path)


def test_a_directory_with_something_else_is_left_as_it_is(machine):
    (machine / "mine").mkdir()
    (machine / "mine" / "pyvenv.cfg").write_text("home = elsewhere")
    python = _script(machine / "bin" / "python3.10", "echo 3.10")
    told: list[str] = []
    with pytest.raises(NetxExportError, match="mine is there and was not made by netx-export lava-env"):
        make_lava_env(machine / "mine", told.append, python=python)
    assert [file.name for file in (machine / "mine").iterdir()] == ["pyvenv.cfg"]
    assert told == []


# A Python 3.10 that makes environments of shell scripts, but as venv not in a link, whose pip does what a test says.
_MAKES = """case "$3" in
venv) [ ! -L "$4" ] || exit 1; mkdir -p "$4/bin"; cp "{pip}" "$4/bin/python";;
*) echo 3.10;;
esac"""


def _python_that_makes(machine: Path, pip: str) -> str:
    script = _script(machine / "pip", f'[ "$3" = pip ] || {{ echo 3.10; exit; }}\n{pip}')
    return _script(machine / "bin" / "python3.10", _MAKES.format(pip=script))


def _ignore(sentence: str) -> None:
    """For what a user would be told."""


def _entries(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("there", ["nothing", "empty", "a link"])
def test_when_it_fails_what_was_there_is_left(machine, there):
    python, directory = _python_that_makes(machine, 'touch "${0%/*}/half"; exit 3'), machine / "größer als sonst"
    if there == "empty":
        directory.mkdir()
    if there == "a link":
        (machine / "target").mkdir()
        directory.symlink_to("target")
    before = _entries(machine)
    with pytest.raises(NetxExportError, match="pip could not install what Lava needs: it ended with status 3"):
        make_lava_env(directory, _ignore, python=python)
    assert _entries(machine) == before


def test_a_link_to_a_directory_is_followed(machine, monkeypatch):
    (machine / "target").mkdir()
    (machine / "lava").symlink_to("target")
    made, _ = _made_on(machine, monkeypatch, real="target")
    assert (machine / "lava").is_symlink()
    assert remembered() == made["python"]


def test_when_it_fails_the_second_time_the_first_environment_stays(machine, monkeypatch):
    made, _ = _made_on(machine, monkeypatch)
    before = _entries(machine / "lava")
    monkeypatch.undo()
    _script(machine / "lava" / "bin" / "python", '[ "$3" = pip ] && exit 3; echo 3.10')
    with pytest.raises(NetxExportError, match="it ended with status 3"):
        make_lava_env(machine / "lava", _ignore, python=_script(machine / "base", "echo 3.10"))
    assert _entries(machine / "lava") == before
    assert Path(made["python"]).is_file()


def test_an_environment_whose_python_is_gone_is_made_anew(machine):
    (machine / "lava" / "lib").mkdir(parents=True)
    (machine / "lava" / "bin").mkdir()
    (machine / "lava" / "bin" / "python").symlink_to(machine / "gone")
    (machine / "lava" / lava_env._MARK).touch()
    python = _python_that_makes(machine, 'ls "${0%/*}" "${0%/*}/.." >&2; exit 3')
    with pytest.raises(NetxExportError, match="pip could not install what Lava needs"):
        make_lava_env(machine / "lava", _ignore, python=python)
    assert list((machine / "lava").iterdir()) == []


def test_two_commands_do_not_work_in_one_directory(machine):
    """The second is refused while the first one installs, and leaves what that one made."""
    second = f'"{BASE}" -m netx_export lava-env "{machine}/lava" --python "{machine}/bin/python3.10" 2>"{machine}/said"'
    pip = f'[ -e "{machine}/said" ] || {second}\nls "{machine}/lava" >"{machine}/left"; exit 3'
    python = _python_that_makes(machine, pip)
    with pytest.raises(NetxExportError, match="pip could not install what Lava needs"):
        make_lava_env(machine / "lava", _ignore, python=python)
    said = " ".join((machine / "said").read_text().split())
    assert f"error: Another netx-export lava-env is at work in {machine / 'lava'}. Wait until it has ended, or" in said
    assert (machine / "left").read_text().split() == ["bin", lava_env._MARK]
    assert not (machine / "lava").exists()


def test_what_cannot_be_looked_into_or_made_is_told(machine, monkeypatch):
    python = _script(machine / "bin" / "python3.10", "echo 3.10")
    (machine / "file").touch()
    with pytest.raises(NetxExportError, match=r"file is there and was not made by netx-export lava-env"):
        make_lava_env(machine / "file", _ignore, python=python)
    with pytest.raises(NetxExportError, match=r"Cannot write to .*file/lava: Not a directory"):
        make_lava_env(machine / "file" / "lava", _ignore, python=python)
    with pytest.raises(NetxExportError, match=r"Cannot write to .*a: File name too long"):
        make_lava_env(machine / ("a" * 300), _ignore, python=python)

    def closed(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)  # permissions do not stop root
    (machine / "closed").mkdir()
    with pytest.raises(NetxExportError, match=r"Cannot look into .*closed: Permission denied\. Name another directory"):
        make_lava_env(machine / "closed", _ignore, python=python)


def test_an_empty_directory_that_cannot_be_written_to_is_told(machine, monkeypatch):
    python = _script(machine / "bin" / "python3.10", "echo 3.10")

    def read_only(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", read_only)
    (machine / "lava").mkdir()
    told: list[str] = []
    with pytest.raises(
        NetxExportError, match=r"Cannot write to .*lava: Read-only file system\. Name another directory"
    ):
        make_lava_env(machine / "lava", told.append, python=python)
    assert told == []


def test_an_option_of_pip_is_no_torch(machine):
    with pytest.raises(NetxExportError, match=r"Expected --torch to be a requirement, .* but got '--help'"):
        make_lava_env(machine / "lava", _ignore, torch="--help")


def test_an_index_without_torch_is_told_before_another_torch_is_downloaded(machine):
    pip = 'case "$*" in *--index-url*) exit 1;; esac; touch "${0%/*}/../../another_torch"'
    python = _python_that_makes(machine, pip)
    with pytest.raises(NetxExportError, match=r"pip could not install torch from https://packages\.example: it"):
        make_lava_env(machine / "lava", _ignore, python=python, torch_index="https://packages.example")
    assert not (machine / "another_torch").exists()


@pytest.mark.parametrize("step", ["venv", "pip"])
def test_ctrl_c_leaves_nothing_and_what_was_remembered_stays(machine, step):
    """As sent to the command alone, which then has to end what it started; pip is let take back what it began."""
    remember("/the/one/before")
    says = "echo Traceback >&2" if step == "venv" else "true"  # as Python's own venv does
    sleep = f"""trap '{says}; echo taken back > "{machine}/taken-back"; exit 1' INT
touch "{machine}/started"; while :; do sleep 0.1; done"""
    python = _python_that_makes(machine, sleep)
    if step == "venv":
        _script(Path(python), f'[ "$3" = venv ] || {{ echo 3.10; exit; }}; mkdir -p "$4/bin"\n{sleep}')
    command = [BASE, "-m", "netx_export", "lava-env", machine / "lava dir", "--python", python, "--json"]
    attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    run = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=attend
    )
    deadline = time.monotonic() + 120
    while not (machine / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output) == (130, "")
    assert errors.endswith("error: interrupted; nothing was left half-written\n")
    assert "Traceback" not in errors
    assert (machine / "taken-back").is_file()
    assert not (machine / "lava dir").exists()
    assert remembered() == "/the/one/before"


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, "about 3 GB to download and 5.5 GB on disk"),
        ({"torch": "torch==9.9"}, "mostly that of torch==9.9"),
        ({"torch_index": "https://packages.example"}, "for the CPU take about 1.5 GB"),
    ],
)
def test_the_size_is_said_before_anything_is_made(machine, options, size, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    python = _script(machine / "bin" / "python3.10", '[ "$3" = venv ] && exit 3; echo 3.10')
    told: list[str] = []
    with pytest.raises(NetxExportError, match="could not make an environment: it ended with status 3"):
        make_lava_env(machine / "lava", told.append, python=python, **options)
    assert size in told[1]
    assert " GB are free there." in told[1]


def test_what_pip_is_asked_for(machine, monkeypatch):
    commands: list[list[str]] = []

    def run(command: list[str], failure: str, **options: Any) -> None:
        commands.append(command)
        _script(machine / "lava" / "bin" / "python", "echo 3.10")

    monkeypatch.setattr(lava_env, "_run", run)
    monkeypatch.setattr(lava_env, "_proved", lambda path, tell: {"python": path})
    monkeypatch.setattr(lava_env, "_kept", lambda path, tell: {})
    python = _script(machine / "bin" / "python3.10", "echo 3.10")
    for options in ({}, {"torch": "wheels/torch.whl", "torch_index": "https://packages.example"}):
        made = make_lava_env(machine / "lava", lambda sentence: None, python=python, **options)
    assert made == {"python": str(machine / "lava" / "bin" / "python")}
    usual, lava, index, named = commands[1], commands[2], commands[4], commands[5]
    assert {"torch==2.3.1", "torchvision==0.18.1", "numpy>=1.24.4,<2"} < set(usual)
    assert lava[-3:] == ["--no-deps", "lava-nc==0.10.0", "lava-dl==0.6.0"]
    assert {"wheels/torch.whl", "torchvision", "--extra-index-url", "https://packages.example"} < set(named)
    assert "torch==2.3.1" not in named
    assert index[-4:] == ["--no-deps", "--index-url", "https://packages.example", "wheels/torch.whl"]


def _made_on(machine, monkeypatch, real="lava") -> tuple[dict[str, Any], list[str]]:
    """An environment whose making and whose run on Lava are taken as done, and what the user was told.

    Args:
        real: the name of the directory that holds it, if the one of the name "lava" is a link to it.
    """
    python = _script(machine / "bin" / "python3.10", "echo 3.10")
    facts = PythonFacts((3, 10, 9), {"lava-nc": "0.10.0"})
    there = machine / real / "bin" / "python"
    monkeypatch.setattr(lava_env, "_run", lambda *command, **options: _script(there, "echo 3.10"))
    monkeypatch.setattr(lava_env, "examine", lambda python: facts)
    monkeypatch.setattr(trial, "try_lava", lambda python: 70)
    told: list[str] = []
    made = make_lava_env(machine / "lava", told.append, python=python)
    assert there.is_file()
    assert (made["python"], made["spikes"]) == (str(there), 70)
    return made, told


def test_an_environment_stays_where_another_is_named_that_is_not_there(machine, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(machine / "gone"))
    made, told = _made_on(machine, monkeypatch)
    assert (remembered(), made["taken"]) == (made["python"], None)
    names = f"names {machine / 'gone'}, where there is no Python 3.10"
    assert told[-1] == f"But {VARIABLE} comes first, and {names}. Unset it."


def test_an_environment_stays_where_it_cannot_be_remembered(machine, monkeypatch):
    (machine / "config").write_text("a file where a directory is wanted")
    made, told = _made_on(machine, monkeypatch)
    assert made["remembered"] is None
    reason = rf"But it cannot be remembered: Cannot write to .*config.*\. .*--lava-python {made['python']}"
    assert any(re.match(reason, sentence) for sentence in told)


@pytest.fixture
def python_310(monkeypatch) -> str:
    """A Python 3.10 with Lava."""
    if HAS_LAVA is not None:
        monkeypatch.setenv(VARIABLE, HAS_LAVA)
    python = find_lava_python().path
    monkeypatch.delenv(VARIABLE, raising=False)
    return python


@pytest.mark.lava
def test_when_pip_fails_nothing_is_kept_or_remembered(python_310, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    run = _command("lava-env", tmp_path / "lava", "--python", python_310, "--json")
    assert run.returncode == 2
    assert run.stdout == ""
    assert "error: pip could not install what Lava needs: it ended with status 1, and says above why." in run.stderr
    assert "No matching distribution found" in run.stderr
    assert not (tmp_path / "lava").exists()
    assert remembered() is None


@pytest.mark.lava
def test_an_environment_is_proved_remembered_and_found(python_310, tmp_path, monkeypatch):
    """Of packages that are there already, which its pip would download."""
    monkeypatch.setitem(sys.modules, "lava", None)  # as if it were not installed here

    def install(command: list[str], failure: str, **options: Any) -> None:
        if "venv" in command:
            run(command, failure, **options)
            ask = "import site; print('\\n'.join(site.getsitepackages()))"
            packages = subprocess.run([python_310, "-c", ask], capture_output=True, text=True, check=True).stdout
            next(Path(tmp_path, "lava").glob("lib/*/site-packages")).joinpath("there.pth").write_text(packages)

    run = lava_env._run
    monkeypatch.setattr(lava_env, "_run", install)
    told: list[str] = []
    made = make_lava_env(tmp_path / "lava", told.append, python=python_310)
    python = str(tmp_path / "lava" / "bin" / "python")
    assert made["python"] == made["taken"] == remembered() == find_lava_python().path == python
    assert made["packages"]["lava-nc"] == "0.10.0"
    assert made["spikes"] > 50
    assert told[-2].startswith(f"Lava runs: all {made['spikes']} spikes")
    again: list[str] = []
    monkeypatch.setenv(VARIABLE, python_310)
    make_lava_env(tmp_path / "lava", again.append, python=python_310)
    assert again[-1] == f"But {python_310}, named by {VARIABLE}, comes first."
    json.dumps(made)


@pytest.mark.lava
def test_other_spikes_on_lava_are_no_proof(python_310, monkeypatch):
    simulate = trial.simulate

    def with_one_spike_less(*arguments: Any, backend: str = "reference", **options: Any) -> Any:
        run = simulate(*arguments, backend=backend, **options)
        if backend == "lava":
            np.put(run.layers["dense2"], np.flatnonzero(run.layers["dense2"])[0], 0)
        return run

    monkeypatch.setattr(trial, "simulate", with_one_spike_less)
    with pytest.raises(SimulationError, match="gives other spikes than the reference simulator in dense2"):
        trial.try_lava(python_310)


@pytest.mark.lava
def test_doctor_tells_that_all_is_well(python_310, monkeypatch):
    monkeypatch.setenv(VARIABLE, python_310)
    run = _command("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(run.stdout)}
    assert run.returncode == 0
    assert found["SLAYER"]["state"] == found["Lava"]["state"] == "works"
    assert f"{python_310}, named by {VARIABLE}: Python 3.10." in found["Lava's Python"]["found"]
    assert "lava-nc 0.10.0" in found["Lava's Python"]["found"]


def test_doctor_fails_for_a_python_that_is_named_and_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    run = _command("doctor")
    assert run.returncode == 1
    assert f"fails    Lava: There is no Python {tmp_path / 'gone'}, which is named by {VARIABLE}." in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def _found() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor._lava()}


def test_doctor_says_how_to_get_lava(monkeypatch, without_lava_here):
    lava = _found()["Lava"]
    assert lava.state == "missing"
    assert "netx-export lava-env" in lava.found
    monkeypatch.setattr("sys.version_info", (3, 10, 13))
    monkeypatch.setitem(sys.modules, "lava", None)
    lava = _found()["Lava"]
    assert (lava.state, lava.found) == ("missing", "not installed here")
    assert "pip install 'lava-spikeloss[lava]'" in lava.advice


def test_doctor_fails_for_what_was_remembered_and_does_not_work(tmp_path, without_lava_here):
    remember(_script(tmp_path / "python", "exit 1"))
    found = _found()
    assert {found["Lava's Python"].state, found["Lava"].state} == {"fails"}


@pytest.mark.parametrize("error", ["ImportError", "SystemError"])
def test_doctor_fails_for_a_numba_that_does_not_run(tmp_path, monkeypatch, error):
    (tmp_path / "numba.py").write_text(f"raise {error}('it knows no such numpy')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    run = _command("doctor")
    assert run.returncode == 1
    assert "fails    compiled simulator: numba is installed but does not run" in run.stdout
    assert "it knows no such numpy. Install a numba that knows this numpy, or remove it." in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


@pytest.mark.parametrize("compiler", [True, False])
def test_a_gpu_without_a_cuda_compiler_is_not_for_slayer(compiler, tmp_path, monkeypatch):
    if compiler:
        _script(tmp_path / "bin" / "nvcc", "")
    monkeypatch.setattr("torch.utils.cpp_extension.CUDA_HOME", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert demo._device().type == ("cuda" if compiler else "cpu")
    found = list(doctor._slayer_on_cuda())
    assert [finding.state for finding in found] == ["missing"] * (not compiler)
    assert compiler or 'set_backend(net, "compiled")' in found[0].advice
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert demo._device().type == "cpu"
    assert not list(doctor._slayer_on_cuda())


@pytest.mark.parametrize(("version", "state"), [("(not installed as a package)", "missing"), ("0.6.0", "fails")])
def test_doctor_tells_slayer_that_is_missing_from_slayer_that_fails(version, state, monkeypatch):
    monkeypatch.setitem(sys.modules, "lava.lib.dl.slayer", None)
    monkeypatch.setattr(doctor, "_version", lambda name: version)
    slayer = doctor._slayer()
    assert slayer.state == state
    assert "train-anywhere" in slayer.advice
