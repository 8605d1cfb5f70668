"""What the documentation shows as Python runs: each page by itself, the task pages one after the other, the scripts."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Examples for users of these packages are shown, and not run where the packages are not installed.
OPTIONAL = [name for name in ("lightning", "tensorboard", "nir") if importlib.util.find_spec(name) is None]


def examples(page: Path) -> list[str]:
    imports_missing = re.compile("|".join(rf"^(?:from|import) .*{name}" for name in OPTIONAL) or r"(?!)", re.MULTILINE)
    return [block for block in _BLOCK.findall(page.read_text()) if not imports_missing.search(block)]


PAGES = [page for page in [*sorted((ROOT / "docs").glob("**/*.md")), ROOT / "CONTRIBUTING.md"] if examples(page)]


def menu(section: str) -> list[Path]:
    """The pages of a section in the order in which the site shows them."""
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    (pages,) = [entry[section] for entry in navigation if section in entry]
    return [ROOT / "docs" / path for page in pages for path in page.values()]


@dataclass(frozen=True)
class First:
    """`first.py` after it ran in a folder of its own, and what it printed."""

    module: ModuleType
    folder: Path
    output: str


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    folder = tmp_path_factory.mktemp("first")
    spec = importlib.util.spec_from_file_location("first", ROOT / "examples" / "first.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(folder)
        spec.loader.exec_module(module)
    return First(module, folder, output.getvalue())


def untouched(module: ModuleType) -> ModuleType:
    """The module as it is after its import, with a network that no other page has trained."""
    copy = ModuleType(module.__name__)
    copy.__dict__.update(module.__dict__)
    copy.net = module.make_network()
    copy.net.load_state_dict(module.net.state_dict())
    return copy


def run(page: Path, namespace: dict[str, object]) -> None:
    for block in examples(page):
        exec(compile(block, page.name, "exec"), namespace)


@pytest.fixture
def reader(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with what `first.py` left, for pages that go on from it."""
    monkeypatch.chdir(tmp_path)
    page = request.node.callspec.params["page"] if hasattr(request.node, "callspec") else None
    if page is None or re.search(r"from first import|first\.net", page.read_text()):
        first = request.getfixturevalue("first")
        shutil.copytree(first.folder, tmp_path, dirs_exist_ok=True)
        monkeypatch.setitem(sys.modules, "first", untouched(first.module))


@pytest.mark.lava
@pytest.mark.usefixtures("reader")
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page: Path) -> None:
    run(page, {})


@pytest.mark.lava
@pytest.mark.usefixtures("reader")
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_the_task_pages_run_one_after_the_other_in_one_python() -> None:
    namespace: dict[str, object] = {}
    pages = menu("Tasks")
    assert len(pages) > 8
    for page in pages:
        run(page, namespace)


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_the_example_of_the_readme_runs(first: First, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digits = first.module.digits
    run(
        ROOT / "README.md",
        {  # what a reader's own script has
            "Network": lambda: untouched(first.module).net,
            "loader": [(digits.train_spikes[:32], digits.train_labels[:32])],
            "test_spikes": digits.test_spikes[:40],
            "test_labels": digits.test_labels[:40],
        },
    )
    assert (tmp_path / "report.html").exists()


@pytest.mark.lava
def test_getting_started_shows_what_it_prints(first: First) -> None:
    page = (ROOT / "docs" / "getting-started.md").read_text()
    shown = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    printed = [line.rstrip() for line in first.output.splitlines()]
    expected = [line.rstrip() for line in shown[1].splitlines()]
    # Weights may differ in the last place from machine to machine; the verdict may not.
    assert printed[-5:] == expected[-5:]
    assert printed[-9].split() == expected[0].split()


# snnTorch is a peer, not a dependency: a test environment need not have it.
@pytest.mark.lava
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ["nir", "snntorch", "nirtorch"])), reason="needs nir, snntorch and nirtorch"
)
def test_the_rates_of_snntorch_are_in_the_same_report(first: First) -> None:
    command = [sys.executable, str(ROOT / "examples" / "snntorch_rates.py")]
    result = subprocess.run(command, cwd=first.folder, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    verdicts = re.findall(r"^(dense\d): (.*?),", result.stdout, re.MULTILINE)
    assert verdicts == [("dense1", "within tolerance"), ("dense2", "within tolerance")]
    assert result.stdout.splitlines()[-1] == "PASSED"
    assert "reference against recording" in (first.folder / "snntorch.html").read_text()


# It trains in snnTorch, which a test environment need not have either.
@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ["nir", "snntorch", "nirtorch", "sklearn"])),
    reason="needs nir, snntorch, nirtorch and scikit-learn",
)
def test_a_network_from_snntorch_keeps_its_accuracy(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "from_snntorch.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    trained, imported = (
        float(re.search(rf"^{name}: \d+ spikes, ([\d.]+)% of", result.stdout, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("snnTorch", "netx")
    )
    assert trained > 95
    assert abs(imported - trained) <= 1


@pytest.mark.lava
@pytest.mark.slow
def test_the_example_of_several_processes_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command.append(str(ROOT / "examples" / "distributed.py"))
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "distributed.net").exists()
