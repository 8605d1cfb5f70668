"""What can go wrong around Lava: each fault gives one clear error, and leaves no process and no shared memory."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from netx_export import SimulationError, simulate
from netx_export.simulation import lava_parent

pytestmark = pytest.mark.lava
STEPS = 20_000  # half a minute on Lava: longer than any of these tests waits


@pytest.fixture
def long_spikes(rng):
    return (rng.random((1, 12, STEPS)) < 0.2).astype(np.uint8)


@pytest.fixture
def fresh_child():
    """No child before and none afterwards."""
    lava_parent._worker.end()
    yield
    lava_parent._worker.end()


def _members(group: int) -> list[int]:
    """The processes of a group that are not zombies."""
    members = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                members.append(int(status.parent.name))
    return members


def _shared_memory(pids: list[int]) -> set[str]:
    names: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            names.update(re.findall(r"/dev/shm/psm_\w+", Path(f"/proc/{pid}/maps").read_text()))
    return names


def _wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


class _Run:
    """A long simulation in a thread, waited for until it runs on Lava."""

    def __init__(self, path, spikes):
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(simulate, path, spikes, backend="lava")
        _wait_until(lambda: lava_parent._worker._process is not None)
        self.leader = lava_parent._worker._process.pid
        _wait_until(lambda: len(_shared_memory(_members(self.leader))) > 10)
        time.sleep(1)
        self.members = _members(self.leader)
        self.memory = _shared_memory(self.members)

    def error(self, seconds=30.0) -> str:
        with pytest.raises(SimulationError) as caught:
            self._future.result(seconds)
        return str(caught.value)

    def assert_nothing_is_left(self):
        assert len(self.memory) > 10
        assert _members(self.leader) == []
        assert [name for name in self.memory if Path(name).exists()] == []


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_child")
def test_killed(mlp_file, long_spikes, mlp_spikes):
    run = _Run(mlp_file, long_spikes)
    os.kill(run.leader, signal.SIGKILL)
    assert run.error() == "Lava's process ended without a result. It may have run out of memory."
    run.assert_nothing_is_left()
    assert np.array_equal(simulate(mlp_file, mlp_spikes, backend="lava").output, simulate(mlp_file, mlp_spikes).output)


@pytest.mark.usefixtures("fresh_child")
def test_one_of_lavas_own_processes_killed_as_if_out_of_memory(mlp_file, long_spikes):
    run = _Run(mlp_file, long_spikes)
    os.kill(max(run.members), signal.SIGKILL)
    assert "a process of the simulation ended (exit code -9). It may have run out of memory" in run.error()
    run.assert_nothing_is_left()


@pytest.mark.usefixtures("fresh_child")
def test_hanging(mlp_file, mlp_spikes):
    simulate(mlp_file, mlp_spikes, backend="lava")
    group = lava_parent._worker._process.pid
    memory = _shared_memory(_members(group))
    os.killpg(group, signal.SIGSTOP)
    with pytest.raises(SimulationError, match=r"^Lava did not finish within 1 s and was ended\. Give a larger"):
        simulate(mlp_file, mlp_spikes, backend="lava", timeout=1)
    assert _members(group) == []
    assert not any(Path(name).exists() for name in memory)


def test_the_time_limit_follows_the_work(mlp):
    limit = lava_parent._time_limit
    assert limit(mlp, 10, 100) - 120 == pytest.approx((limit(mlp, 21, 100) - 120) / 2)


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_child")
def test_garbage_on_standard_output(mlp_file, mlp_spikes, monkeypatch):
    noise = "import os; print('noise' * 100000); os.write(1, bytes(range(256))); os.write(2, b'{}')\n"
    monkeypatch.setattr(lava_parent, "_CHILD", noise.replace("{", "{{").replace("}", "}}") + lava_parent._CHILD)
    got = simulate(mlp_file, mlp_spikes, backend="lava")
    assert np.array_equal(got.output, simulate(mlp_file, mlp_spikes).output)


@pytest.mark.usefixtures("fresh_child")
def test_garbage_instead_of_a_reply(mlp_file, mlp_spikes, monkeypatch):
    monkeypatch.setattr(lava_parent, "_CHILD", "import os, time; os.write({fd}, b'noise\\n'); time.sleep(99) # {file}")
    with pytest.raises(SimulationError, match="sent what is no reply: b'noise"):
        simulate(mlp_file, mlp_spikes, backend="lava")
    assert lava_parent._worker._process is None


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_child")
def test_out_of_memory(mlp_file, mlp_spikes, monkeypatch):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (300 * 2**20,) * 2)"
    monkeypatch.setattr(lava_parent, "_CHILD", limit + lava_parent._CHILD)
    with pytest.raises(SimulationError, match="Lava"):
        simulate(mlp_file, mlp_spikes, backend="lava")
    assert lava_parent._worker._process is None


@pytest.mark.usefixtures("fresh_child")
def test_lava_missing(mlp_file, mlp_spikes, monkeypatch):
    monkeypatch.setattr(lava_parent, "_CHILD", "import sys; sys.modules['lava'] = None" + lava_parent._CHILD)
    with pytest.raises(SimulationError, match=r"Install Lava with: pip install 'lava-spikeloss\[lava\]'"):
        simulate(mlp_file, mlp_spikes, backend="lava")


@pytest.mark.usefixtures("fresh_child")
def test_a_full_disk(mlp_file, mlp_spikes, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lava_parent.np, "save", full)
    with pytest.raises(SimulationError, match=r"Cannot exchange spikes .*No space left on device"):
        simulate(mlp_file, mlp_spikes, backend="lava")


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_child")
def test_no_file_of_the_users_directory_is_run(mlp_file, mlp_spikes, tmp_path, monkeypatch):
    for name in ("lava", "numpy", "json", "threading", "lava_worker", "errors", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    simulate(mlp_file, mlp_spikes, backend="lava")
    assert not (tmp_path / "was_run").exists()


SCRIPT = """
import numpy as np
from netx_export import simulate
print("started", flush=True)
simulation = simulate({path!r}, (np.random.default_rng(0).random((1, 12, {steps})) < 0.2), backend="lava")
print(simulation.output.shape, flush=True)
"""


def _script(path, steps, directory, **options) -> subprocess.Popen:
    file = directory / "script.py"
    file.write_text(SCRIPT.format(path=str(path), steps=steps))
    environment = {**os.environ, "PYTHONPATH": str(Path(lava_parent.__file__).parents[1])}
    attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    return subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        env=environment,
        cwd=directory,
        preexec_fn=attend,
        **options,
    )


def _lava_group(script: subprocess.Popen) -> int:
    """The process group of a script's Lava child; other children, as an import may start them, lead no group."""
    children = Path(f"/proc/{script.pid}/task/{script.pid}/children")
    leaders: list[int] = []

    def found() -> bool:
        for child in map(int, children.read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                leaders.extend([child] * (os.getpgid(child) == child))
        return bool(leaders)

    _wait_until(found)
    return leaders[0]


@pytest.mark.slow
def test_a_script_without_a_main_guard(mlp_file, tmp_path):
    script = _script(mlp_file, 10, tmp_path)
    output, _ = script.communicate(timeout=120)
    assert output.decode().splitlines() == ["started", "(1, 5, 10)"]


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "parent killed"])
def test_the_users_program_ends_during_a_run(mlp_file, tmp_path, sign):
    script = _script(mlp_file, STEPS, tmp_path, stderr=subprocess.PIPE)
    group = _lava_group(script)
    _wait_until(lambda: len(_shared_memory(_members(group))) > 10)
    time.sleep(1)
    memory = _shared_memory(_members(group))
    script.send_signal(sign)
    _, errors = script.communicate(timeout=60)
    assert sign == signal.SIGKILL or errors.decode().rstrip().endswith("KeyboardInterrupt")
    _wait_until(lambda: _members(group) == [], 15)
    assert not any(Path(name).exists() for name in memory)


@pytest.fixture
def temporary(monkeypatch):
    """An empty place for temporary files; pytest's own directories have too long a path for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)


def test_the_users_program_is_killed_before_the_run(mlp_file, tmp_path, temporary):
    """The child still imports Lava; however long the run would be, it ends as soon as it begins, and leaves no file."""
    script = _script(mlp_file, STEPS, tmp_path)
    group = _lava_group(script)
    script.kill()
    script.communicate(timeout=60)
    try:
        _wait_until(lambda: _members(group) == [], 60)
    finally:
        if _members(group):
            os.killpg(group, signal.SIGTERM)
    assert not list(temporary.iterdir())


def test_no_file_is_left_behind(mlp_file, tmp_path, temporary):
    assert _script(mlp_file, 10, tmp_path).wait(120) == 0
    assert not list(temporary.iterdir())


def test_a_path_too_long_for_sockets_is_refused(mlp_file, mlp_spikes, tmp_path, monkeypatch, fresh_child):
    directory = tmp_path / ("long" * 20)
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    with pytest.raises(SimulationError, match=r"too long for the sockets .* set TMPDIR to a path of at most 75 bytes"):
        simulate(mlp_file, mlp_spikes, backend="lava")
    assert not list(directory.iterdir())


def test_further_calls_reuse_the_compiled_network(mlp_file, mlp_spikes):
    simulate(mlp_file, mlp_spikes, backend="lava")
    before = _members(lava_parent._worker._process.pid)
    simulate(mlp_file, mlp_spikes[:2], backend="lava")
    assert _members(lava_parent._worker._process.pid) == before


def test_threads_take_turns(mlp_file, mlp_spikes):
    expected = simulate(mlp_file, mlp_spikes).output
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(simulate, mlp_file, mlp_spikes[i : i + 2], backend="lava") for i in (0, 2, 4)]
    assert np.array_equal(np.concatenate([run.result().output for run in runs]), expected)


def test_a_fork_leaves_the_child_to_its_parent(mlp_file, mlp_spikes):
    simulate(mlp_file, mlp_spikes, backend="lava")
    leader = lava_parent._worker._process.pid
    fork = multiprocessing.get_context("fork").Process(target=atexit._run_exitfuncs)
    fork.start()
    fork.join()
    simulate(mlp_file, mlp_spikes, backend="lava")
    assert lava_parent._worker._process.pid == leader


def test_a_wrong_python(mlp_file, mlp_spikes, tmp_path, monkeypatch):
    monkeypatch.delenv("NETX_EXPORT_LAVA_PYTHON", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("sys.version_info", (3, 12, 1))
    with pytest.raises(SimulationError, match=r"^Lava runs on Python 3\.10 only, and this is Python 3\.12"):
        simulate(mlp_file, mlp_spikes, backend="lava")


def test_a_platform_without_process_groups(mlp_file, mlp_spikes, monkeypatch):
    monkeypatch.delattr(lava_parent.os, "killpg")
    with pytest.raises(SimulationError, match="process groups"):
        simulate(mlp_file, mlp_spikes, backend="lava")


def test_works_from_a_thread_that_is_not_the_main_one(mlp_file, mlp_spikes):
    outputs = []
    thread = threading.Thread(target=lambda: outputs.append(simulate(mlp_file, mlp_spikes, backend="lava").output))
    thread.start()
    thread.join()
    assert np.array_equal(outputs[0], simulate(mlp_file, mlp_spikes).output)
