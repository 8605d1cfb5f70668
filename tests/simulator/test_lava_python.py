"""Lava on a Python of its own: which one is taken, and that nothing but numbers passes between it and this one."""

from __future__ import annotations

import importlib.machinery
import os
import site
import sys
import types
import venv
from pathlib import Path

import numpy as np
import pytest

from netx_export import SimulationError, simulate, verify
from netx_export.simulation import lava_parent, lava_python
from netx_export.simulation.lava_python import VARIABLE, LavaPython, examine, find_lava_python, remember

pytestmark = pytest.mark.usefixtures("nothing_named")


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def _environment(directory: Path) -> Path:
    """An environment of another path with the same packages; returns its Python."""
    venv.create(directory, symlinks=True)
    packages = next(directory.glob("lib/python*/site-packages"))
    (packages / "packages.pth").write_text("\n".join(site.getsitepackages()))
    return directory / "bin" / "python"


@pytest.fixture(scope="module")
def another_python(tmp_path_factory) -> str:
    """A Python with Lava that is not this one."""
    if sys.version_info[:2] != lava_python.LAVA_NEEDS:
        return find_lava_python().path
    return str(_environment(tmp_path_factory.mktemp("environment")))


def test_the_argument_comes_first_then_the_variable_then_what_is_remembered(tmp_path, monkeypatch, without_lava_here):
    paths = [str(_script(tmp_path / name, "")) for name in ("argument", "variable", "remembered")]
    remember(paths[2])
    assert find_lava_python().path == paths[2]
    monkeypatch.setenv(VARIABLE, paths[1])
    assert find_lava_python().path == paths[1]
    assert find_lava_python(paths[0]).path == paths[0]
    assert find_lava_python(Path(paths[0])).path == paths[0]


@pytest.mark.parametrize(("installed", "expected"), [(True, sys.executable), (False, "remembered")])
def test_a_python_that_has_lava_runs_it_itself(tmp_path, monkeypatch, installed, expected):
    monkeypatch.setattr("sys.version_info", (3, 10, 13))
    lava = types.ModuleType("lava")
    lava.__spec__ = importlib.machinery.ModuleSpec("lava", None)
    monkeypatch.setitem(sys.modules, "lava", lava if installed else None)
    remember(str(_script(tmp_path / "remembered", "")))
    found = find_lava_python()
    assert found.path == str(tmp_path / expected)
    assert found.is_this_one == installed


def test_a_python_of_the_right_version_is_tried_if_no_other_is_known(monkeypatch):
    monkeypatch.setattr("sys.version_info", (3, 10, 13))
    monkeypatch.setitem(sys.modules, "lava", None)
    assert find_lava_python().is_this_one


def test_no_python_for_lava_says_how_to_get_one(without_lava_here, mlp_file, mlp_spikes):
    message = r"^Lava runs on Python 3\.10 only, and this is Python 3\.12\..*: netx-export lava-env\..* " + VARIABLE
    with pytest.raises(SimulationError, match=message):
        simulate(mlp_file, mlp_spikes, backend="lava")


def test_an_environment_is_named_by_its_directory_too(tmp_path):
    (tmp_path / "bin").mkdir()
    _script(tmp_path / "bin" / "python", "")
    assert find_lava_python(tmp_path).path == str(tmp_path / "bin" / "python")


def test_a_python_is_found_on_the_path(tmp_path, monkeypatch):
    _script(tmp_path / "some-python", "")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert find_lava_python("some-python").path == str(tmp_path / "some-python")


@pytest.mark.parametrize("origin", ["argument", "variable", "remembered"])
def test_a_python_that_is_not_there(origin, tmp_path, monkeypatch, without_lava_here):
    gone = str(tmp_path / "gone")
    named = {"argument": "`lava_python`", "variable": VARIABLE, "remembered": "netx-export lava-env"}[origin]
    if origin == "variable":
        monkeypatch.setenv(VARIABLE, gone)
    if origin == "remembered":
        remember(gone)
    with pytest.raises(SimulationError, match=f"There is no Python {gone}, which is named by {named}"):
        find_lava_python(gone if origin == "argument" else None)


@pytest.mark.parametrize("name", [os.path.join(sys.prefix, "bin", "python"), sys.prefix], ids=["file", "directory"])
def test_this_python_of_another_version_is_refused_by_its_version(name, monkeypatch):
    monkeypatch.setattr("sys.executable", os.path.join(sys.prefix, "bin", "python"))
    monkeypatch.setattr("sys.version_info", (3, 12, 1))
    with pytest.raises(SimulationError, match=r"3\.10 only, and .*, named by `lava_python`, is Python 3\.12\.1\. Name"):
        find_lava_python(name)


def test_what_is_no_path_is_refused_before_anything_is_read(mlp_spikes):
    message = "Expected argument `lava_python` to be the path of a Python or None but got 3"
    with pytest.raises(TypeError, match=message):
        simulate("no.net", mlp_spikes, lava_python=3)
    with pytest.raises(TypeError, match=message):
        verify(None, "no.net", mlp_spikes, lava_python=3)


FAULTS = {
    "no Python": ("echo noise", "does not work as a Python with numpy. Name a Python 3.10"),
    "an error": ("echo one >&2; echo two >&2; exit 1", "does not work as a Python with numpy: two. Name"),
    "what is no answer": ("echo '{\"version\": 3}'", "does not work as a Python with numpy"),
    "a list": ("echo '[]'", "does not work as a Python with numpy"),
    "another version": (
        'echo noise; echo \'{"version": [3, 9, 2], "packages": {}}\'',
        "Lava runs on Python 3.10 only, and ",
    ),
    "a silent one": ("exec sleep 60", "said nothing for"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_python_for_lava_is_told(fault, tmp_path, monkeypatch, mlp_file, mlp_spikes):
    text, message = FAULTS[fault]
    monkeypatch.setattr(lava_python, "_PROBE_SECONDS", 1.0 if "sleep" in text else 30.0)
    path = _script(tmp_path / "python", text)
    lava_parent._end_all()  # a child of other tests, of this Python, may wait for work
    with pytest.raises(SimulationError) as caught:
        simulate(mlp_file, mlp_spikes, backend="lava", lava_python=path)
    assert message in str(caught.value)
    assert f"{path}, named by `lava_python`," in str(caught.value)
    assert lava_parent._workers[0]._process is None


def test_what_cannot_be_started_is_told(tmp_path, mlp_file, mlp_spikes):
    path = tmp_path / "python"
    path.write_text("no program")
    with pytest.raises(SimulationError, match=r"cannot be started: Permission denied\. Name a Python 3\.10"):
        simulate(mlp_file, mlp_spikes, backend="lava", lava_python=path)


def test_the_probe_runs_nothing_of_the_users_directory_or_path(tmp_path, monkeypatch):
    for name in ("json", "sitecustomize", "numpy", "importlib"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'was_run')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    python = LavaPython(str(_environment(tmp_path / "environment")), "a test")
    if sys.version_info[:2] == lava_python.LAVA_NEEDS:
        assert examine(python).packages["numpy"] == np.__version__
    else:
        with pytest.raises(SimulationError, match=r"Lava runs on Python 3\.10 only"):
            examine(python)
    assert not (tmp_path / "was_run").exists()


def test_arrays_of_objects_are_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "was_run"), "w"))

    np.save(tmp_path / "0.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(SimulationError, match="what is no array of numbers"):
        lava_parent._load(tmp_path / "0.npy", (1, 1))
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [b"", b"noise", b"\x93NUMPY"])
def test_what_is_no_array_is_told(content, tmp_path):
    (tmp_path / "0.npy").write_bytes(content)
    with pytest.raises(SimulationError, match="what is no array of numbers"):
        lava_parent._load(tmp_path / "0.npy", (1, 1))


def test_an_array_of_another_run_is_told(tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((1, 3, 5), np.uint8))
    assert lava_parent._load(tmp_path / "0.npy", (1, 3)).shape == (1, 3, 5)
    with pytest.raises(SimulationError, match=r"wrote \(1, 3\) runs and steps where \(1, 4\) were run"):
        lava_parent._load(tmp_path / "0.npy", (1, 4))


@pytest.mark.lava
def test_every_layer_equals_lava_on_another_python(another_python, mlp_file, mlp_spikes, tmp_path, monkeypatch):
    """Whatever is on this Python's path, as modules of another version would be."""
    (tmp_path / "numpy.py").write_text("raise SystemExit")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv(VARIABLE, another_python)
    on_lava, on_reference = (simulate(mlp_file, mlp_spikes, backend=backend) for backend in ("lava", "reference"))
    for name, expected in on_reference.layers.items():
        assert expected.any()
        assert np.array_equal(on_lava.layers[name], expected)
    assert Path(lava_parent._workers[0]._process.args[0]) == Path(another_python)


@pytest.mark.lava
def test_another_python_is_started_anew_and_a_named_one_is_the_one_that_verifies(
    another_python, mlp_file, mlp_spikes, tmp_path
):
    verify(None, mlp_file, mlp_spikes, lava_samples=1, lava_python=another_python)
    first = lava_parent._workers[0]._process
    link = tmp_path / "python"
    link.write_text(f'#!/bin/sh\nexec "{another_python}" "$@"\n')
    link.chmod(0o755)
    verify(None, mlp_file, mlp_spikes, lava_samples=1, lava_python=link)
    second = lava_parent._workers[0]._process
    assert first.poll() is not None
    assert (first.args[0], second.args[0]) == (another_python, str(link))


@pytest.mark.lava
def test_a_module_that_another_python_lacks(another_python, mlp_file, mlp_spikes, monkeypatch):
    lava_parent._workers[0].end()
    monkeypatch.setattr(lava_parent, "_CHILD", "import sys; sys.modules['lava'] = None" + lava_parent._CHILD)
    with pytest.raises(SimulationError, match=r"It is missing in .*python, named by `lava_python`\. .*lava-env"):
        simulate(mlp_file, mlp_spikes, backend="lava", lava_python=another_python)


def test_what_is_remembered_is_one_line_in_the_users_configuration(tmp_path):
    file = remember("/some/python")
    assert file == tmp_path / "config" / "netx-export" / "lava-python"
    assert file.read_text() == "/some/python\n"
    file.write_text("\n")
    assert lava_python.remembered() is None
