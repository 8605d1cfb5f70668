"""What can go wrong around Lava: each fault gives one clear error, and leaves no process and no shared memory.

Also where several workers share the samples: what happens to one of them ends the others.
"""

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
from netx_export.simulation import lava_parent, lava_time

pytestmark = pytest.mark.lava
STEPS = 20_000  # half a minute on Lava: longer than any of these tests waits
WORKERS = [1, pytest.param(2, marks=pytest.mark.slow)]


@pytest.fixture
def long_spikes(rng):
    return (rng.random((2, 12, STEPS)) < 0.2).astype(np.uint8)


@pytest.fixture
def fresh_child():
    """No child before and none afterwards."""
    lava_parent._end_all()
    yield
    lava_parent._end_all()


def _members(group: int) -> list[int]:
    """The processes of a group that are not zombies."""
    members = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                members.append(int(status.parent.name))
    return members


def _started(pid: int) -> int:
    """When a process was started; the numbers of processes begin anew at times."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


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
    """A long simulation in a thread, waited for until each of its workers runs on Lava."""

    def __init__(self, path, spikes, workers):
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(simulate, path, spikes, backend="lava", lava_workers=workers)
        _wait_until(lambda: len(_leaders()) == workers)
        self.leaders = _leaders()
        _wait_until(lambda: all(len(_shared_memory(_members(leader))) > 10 for leader in self.leaders))
        time.sleep(1)
        self.members = [member for leader in self.leaders for member in _members(leader)]
        self.memory = _shared_memory(self.members)

    def error(self, seconds=30.0) -> str:
        with pytest.raises(SimulationError) as caught:
            self._future.result(seconds)
        return str(caught.value)

    def assert_nothing_is_left(self):
        assert len(self.memory) > 10 * len(self.leaders)
        assert [_members(leader) for leader in self.leaders] == [[] for _ in self.leaders]
        assert [name for name in self.memory if Path(name).exists()] == []


def _leaders() -> list[int]:
    """The children that there are now."""
    return [worker._process.pid for worker in lava_parent._workers if worker._process is not None]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("fresh_child")
def test_killed(mlp_file, long_spikes, mlp_spikes, workers):
    run = _Run(mlp_file, long_spikes, workers)
    os.kill(run.leaders[-1], signal.SIGKILL)
    assert run.error() == "Lava's process ended without a result. It may have run out of memory."
    run.assert_nothing_is_left()
    got = simulate(mlp_file, mlp_spikes, backend="lava", lava_workers=workers)
    assert np.array_equal(got.output, simulate(mlp_file, mlp_spikes).output)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("fresh_child")
def test_killed_with_all_of_lavas_own_processes(mlp_file, long_spikes, workers):
    """Then nobody holds the pipe open, by which the end of a process is noticed else."""
    run = _Run(mlp_file, long_spikes, workers)
    os.killpg(run.leaders[-1], signal.SIGKILL)
    assert run.error() == "Lava's process ended without a result. It may have run out of memory."
    assert [_members(leader) for leader in run.leaders] == [[] for _ in run.leaders]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.usefixtures("fresh_child")
def test_one_of_lavas_own_processes_killed_as_if_out_of_memory(mlp_file, long_spikes, workers):
    run = _Run(mlp_file, long_spikes, workers)
    os.kill(max(_members(run.leaders[-1]), key=_started), signal.SIGKILL)
    assert "a process of the simulation ended (exit code -9). It may have run out of memory" in run.error()
    run.assert_nothing_is_left()


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.usefixtures("fresh_child")
def test_hanging(mlp_file, mlp_spikes, workers):
    simulate(mlp_file, mlp_spikes, backend="lava", lava_workers=workers)
    group = _leaders()[-1]
    memory = _shared_memory([member for leader in _leaders() for member in _members(leader)])
    os.killpg(group, signal.SIGSTOP)
    with pytest.raises(SimulationError, match=r"^Lava did not finish within 1 s and was ended\. Give a larger"):
        simulate(mlp_file, mlp_spikes, backend="lava", timeout=1, lava_workers=workers)
    assert _members(group) == []
    lava_parent._end_all()
    assert not any(Path(name).exists() for name in memory)


def test_the_time_limit_follows_the_work(mlp):
    limit = lava_time.time_limit
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
    assert lava_parent._workers[0]._process is None


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_child")
def test_out_of_memory(mlp_file, mlp_spikes, monkeypatch):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (300 * 2**20,) * 2)"
    monkeypatch.setattr(lava_parent, "_CHILD", limit + lava_parent._CHILD)
    with pytest.raises(SimulationError, match="Lava"):
        simulate(mlp_file, mlp_spikes, backend="lava")
    assert lava_parent._workers[0]._process is None


@pytest.mark.usefixtures("fresh_child")
def test_lava_missing(mlp_file, mlp_spikes, monkeypatch):
    monkeypatch.setattr(lava_parent, "_CHILD", "import sys; sys.modules['lava'] = None" + lava_parent._CHILD)
    message = r"Install Lava with: pip install 'lava-spikeloss\[lava\]'|missing in .*lava-env"
    with pytest.raises(SimulationError, match=message):
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
spikes = np.random.default_rng(0).random((2, 12, {steps})) < 0.2
simulation = simulate({path!r}, spikes, backend="lava", lava_workers={workers})
print(simulation.output.shape, flush=True)
"""


def _script(path, steps, directory, workers=1, **options) -> subprocess.Popen:
    file = directory / "script.py"
    file.write_text(SCRIPT.format(path=str(path), steps=steps, workers=workers))
    environment = {**os.environ, "PYTHONPATH": str(Path(lava_parent.__file__).parents[2])}
    attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore Ctrl-C
    return subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        env=environment,
        cwd=directory,
        preexec_fn=attend,
        **options,
    )


def _lava_groups(script: subprocess.Popen, workers: int) -> list[int]:
    """The process groups of a script's Lava children; other children, as an import may start them, lead no group."""
    children = Path(f"/proc/{script.pid}/task")
    leaders: set[int] = set()

    def found() -> bool:
        for child in [int(pid) for task in children.glob("*/children") for pid in task.read_text().split()]:
            with contextlib.suppress(ProcessLookupError):
                leaders.update([child] * (os.getpgid(child) == child))
        return len(leaders) == workers

    _wait_until(found)
    return sorted(leaders)


@pytest.mark.slow
def test_a_script_without_a_main_guard(mlp_file, tmp_path):
    script = _script(mlp_file, 10, tmp_path)
    output, _ = script.communicate(timeout=120)
    assert output.decode().splitlines() == ["started", "(2, 5, 10)"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "parent killed"])
def test_the_users_program_ends_during_a_run(mlp_file, tmp_path, temporary, sign, workers):
    script = _script(mlp_file, STEPS, tmp_path, workers, stderr=subprocess.PIPE)
    groups = _lava_groups(script, workers)
    _wait_until(lambda: all(len(_shared_memory(_members(group))) > 10 for group in groups))
    time.sleep(1)
    memory = _shared_memory([member for group in groups for member in _members(group)])
    script.send_signal(sign)
    _, errors = script.communicate(timeout=60)
    assert sign == signal.SIGKILL or errors.decode().rstrip().endswith("KeyboardInterrupt")
    _wait_until(lambda: not any(map(_members, groups)), 15)
    assert not any(Path(name).exists() for name in memory)
    _wait_until(lambda: not list(temporary.glob("netx-????????")), 15)


@pytest.fixture
def temporary(monkeypatch):
    """An empty place for temporary files; pytest's own directories have too long a path for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setenv("TMPDIR", directory)
        yield Path(directory)


@pytest.mark.parametrize("workers", WORKERS)
def test_the_users_program_is_killed_before_the_run(mlp_file, tmp_path, temporary, workers):
    """The child still imports Lava; however long the run would be, it ends as soon as it begins, and leaves no file."""
    script = _script(mlp_file, STEPS, tmp_path, workers)
    groups = _lava_groups(script, workers)
    script.kill()
    script.communicate(timeout=60)
    try:
        _wait_until(lambda: not any(map(_members, groups)), 60)
    finally:
        for group in filter(_members, groups):
            os.killpg(group, signal.SIGTERM)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("workers", WORKERS)
def test_no_file_is_left_behind(mlp_file, tmp_path, temporary, workers):
    assert _script(mlp_file, 10, tmp_path, workers).wait(120) == 0
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
    before = _members(lava_parent._workers[0]._process.pid)
    simulate(mlp_file, mlp_spikes[:2], backend="lava")
    assert _members(lava_parent._workers[0]._process.pid) == before


def test_threads_take_turns(mlp_file, mlp_spikes):
    expected = simulate(mlp_file, mlp_spikes).output
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(simulate, mlp_file, mlp_spikes[i : i + 2], backend="lava") for i in (0, 2, 4)]
    assert np.array_equal(np.concatenate([run.result().output for run in runs]), expected)


def test_a_fork_leaves_the_child_to_its_parent(mlp_file, mlp_spikes):
    simulate(mlp_file, mlp_spikes, backend="lava")
    leader = lava_parent._workers[0]._process.pid
    fork = multiprocessing.get_context("fork").Process(target=atexit._run_exitfuncs)
    fork.start()
    fork.join()
    simulate(mlp_file, mlp_spikes, backend="lava")
    assert lava_parent._workers[0]._process.pid == leader


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
