"""Files that are replaced as a whole: links and permissions stay, killed writers' leftovers go, full disks are told."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from netx_export import ExportError, Simulation, SimulationError
from netx_export.file.atomic import replacing
from netx_export.file.netx import annotate, write
from netx_export.file.npz import save_simulation
from netx_export.network.description import CubaNeuron, Dense, Input, NetworkDescription
from netx_export.verification.report import save_report

NOBODY = 65534


def _put(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def _in_child(act: Callable[[], None]) -> int:
    """Do something in a process of its own; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _killed_while_writing(path: Path) -> None:
    def write_and_die() -> None:
        with replacing(path) as temporary:
            temporary.write_text("part")
            os.kill(os.getpid(), signal.SIGKILL)

    assert _in_child(write_and_die) == -signal.SIGKILL


@contextmanager
def _writer_that_lives(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has begun to write a file, and goes on when it is told to."""
    code = (
        "import sys; from pathlib import Path; from netx_export.file.atomic import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('whole'); print('ready', flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


# -- what killed writers left behind


@pytest.mark.parametrize("name", ["a.net", "b.net", "ü" * 120])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path, name: str) -> None:
    _killed_while_writing(tmp_path / name)
    assert len(list(tmp_path.iterdir())) == 1
    _put(tmp_path / "a.net", "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.net"]


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    with _writer_that_lives(tmp_path / "a.net") as other:
        _put(tmp_path / "a.net", "new")
        _put(tmp_path / "b.net", "new")
        other.communicate("\n", timeout=60)
    assert other.returncode == 0
    assert (tmp_path / "a.net").read_text() == "whole"
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.net", tmp_path / "b.net"]


def test_what_this_process_is_writing_stays(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.net") as first:
        first.write_text("first")
        _put(tmp_path / "b.net", "second")
    assert (tmp_path / "a.net").read_text() == "first"


def test_many_writers_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each makes and locks its directory while the others look for leftovers."""

    def write_often() -> None:
        for turn in range(60):
            _put(tmp_path / f"{os.getpid() % 2}.net", str(turn))

    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            status = 99
            try:
                write_often()
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    assert {path.name for path in tmp_path.iterdir()} <= {"0.net", "1.net"}


def test_files_of_the_user_and_of_other_machines_stay(tmp_path: Path) -> None:
    names = [".a.net.backup.tmp", ".a.net.abcdefgh.tmp", "a.net.tmp"]
    for name in names:
        (tmp_path / name).write_text("mine")
    _killed_while_writing(tmp_path / "a.net")
    left = next(path for path in tmp_path.iterdir() if path.is_dir())
    elsewhere = left.rename(tmp_path / left.name.replace(".netx.tmp", "-other.netx.tmp"))
    _put(tmp_path / "a.net", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, elsewhere.name, "a.net"])


# -- links and permissions


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "dangling"])
@pytest.mark.parametrize("relative", [True, False])
def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path, there: bool, relative: bool) -> None:
    (tmp_path / "data").mkdir()
    target, link = tmp_path / "data" / "target.net", tmp_path / "link.net"
    link.symlink_to(Path("data", "target.net") if relative else target)
    if there:
        target.write_text("old")
    _put(link, "new")
    assert link.is_symlink()
    assert not target.is_symlink()
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "link.net", "target.net"]


class _OfBytes(os.PathLike[bytes]):
    def __fspath__(self) -> bytes:
        return b"x.net"


@pytest.mark.parametrize(("path", "got"), [(None, "NoneType"), (3, "int"), (b"x.net", "bytes"), (_OfBytes, "bytes")])
@pytest.mark.parametrize("act", [lambda path: write(NETWORK, path), lambda path: save_report({}, path)])
def test_what_is_no_path_is_a_type_error(path: object, got: str, act: Callable[[object], None]) -> None:
    with pytest.raises(TypeError, match=f"`path` to be a str or an os.PathLike but got {got}"):
        act(path() if path is _OfBytes else path)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.net").symlink_to("b.net")
    (tmp_path / "b.net").symlink_to("a.net")
    with pytest.raises(ExportError, match=r"Cannot write .*a\.net: Too many levels of symbolic links"):
        _put(tmp_path / "a.net", "new")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o777])
def test_permissions_stay(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.net"
    path.write_text("old")
    path.chmod(mode)
    _put(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    _put(tmp_path / "a.net", "new")
    assert (tmp_path / "a.net").stat().st_mode == (tmp_path / "usual").stat().st_mode


# -- where nothing can be written


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\0b.net", "NUL character"),
        ("missing/a.net", "No such file or directory"),
        ("file/a.net", "Not a directory"),
        ("x" * 300, "File name too long"),
        (".", "it is there and no file"),
    ],
)
def test_a_path_that_cannot_be_written_is_told(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=f"Cannot write .*{reason}"):
        _put(tmp_path / name, "new")
    with pytest.raises(SimulationError, match=f"Cannot write .*{reason}"):
        save_simulation(tmp_path / name, Simulation(np.zeros((1, 1, 1)), {}))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "reason"), [("a\0b", "NUL character"), ("file", "File exists"), ("file/a", "Not a directory")]
)
def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match=f"Cannot write .*{reason}"):
        save_report({}, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("mode", [0o000, 0o555, 0o666], ids=["closed", "read-only", "not to be entered"])
def test_a_closed_folder_is_told(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "a.net").touch()
    os.chmod(tmp_path, 0o755)
    os.chmod(tmp_path.parent, 0o755)
    os.chmod(tmp_path.parent.parent, 0o755)

    def act() -> None:
        if os.geteuid() == 0:  # whom permissions do not stop
            os.setuid(NOBODY)
        with pytest.raises(ExportError, match=r"Cannot write .*a\.net: Permission denied"):
            _put(folder / "a.net", "new")

    folder.chmod(mode)
    status = _in_child(act)
    folder.chmod(0o700)
    assert status == 0
    assert [path.name for path in folder.iterdir()] == ["a.net"]


# -- full disks


NETWORK = NetworkDescription(
    (Input((60,)), *[Dense(np.full((60, 60), 2), CubaNeuron(80, np.array([1024]), np.array([128])))] * 4),
    {"text": "x" * 9000},
)


def _writing(kind: str) -> Callable[[Path], None]:
    def network(path: Path) -> None:
        write(NETWORK, path)

    def more_texts(path: Path) -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(path.with_name("small.net").read_bytes())
            annotate(temporary, {"more": "x" * 9000})

    def simulation(path: Path) -> None:
        save_simulation(path, Simulation(np.random.default_rng(0).random((8, 40, 40)), {}))

    return {"network": network, "annotate": more_texts, "simulation": simulation}[kind]


@pytest.mark.parametrize("kind", ["network", "annotate", "simulation"])
@pytest.mark.parametrize("missing", [1, 5000, 60_000])
def test_a_disk_that_fills_up_while_a_file_is_written(tmp_path: Path, kind: str, missing: int) -> None:
    """By a limit on the size of files, which the system tells in the same way as a full disk."""
    path, act = tmp_path / "a.net", _writing(kind)
    write(NETWORK, tmp_path / "small.net")
    act(path)
    size = path.stat().st_size
    path.write_text("old")
    code = (
        "import importlib.util, pathlib, resource\n"
        "from netx_export import NetxExportError\n"
        f"spec = importlib.util.spec_from_file_location('t', {__file__!r}); t = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(t)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({max(0, size - missing)},) * 2)\n"
        f"try: t._writing({kind!r})(pathlib.Path({str(path)!r}))\n"
        "except NetxExportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == f"Cannot write {path}: File too large.\n"
    assert (run.returncode, run.stderr) == (0, "")  # nor a crash when the program ends
    assert path.read_text() == "old"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.net", "small.net"]
