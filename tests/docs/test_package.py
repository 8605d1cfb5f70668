"""The package's page on an index of packages leads to the repository that was released."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

pytest.importorskip("hatchling", reason="builds the package: needs the extra dev")

ROOT = Path(__file__).parent.parent.parent
REPOSITORY = "https://github.com/someone/a-clone"
_BUILD = "import sys; from hatchling import build; build.build_sdist(sys.argv[1]); build.build_wheel(sys.argv[1])"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What the package is built from; not this folder, where an unpacked sdist has metadata that is made already."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("lava_spikeloss", "netx_export"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize("address", [REPOSITORY, f"{REPOSITORY}/"])
def test_wheel_and_sdist_lead_to_the_repository_that_is_named(clone: Path, address: str) -> None:
    _build(clone, address)
    for metadata in _metadata(clone):
        tag = f"v{metadata['Version']}"
        named = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
        assert sorted(named) == ["Changelog", "Documentation", "Homepage", "Issues", "Source"]
        links = [*named.values(), *_links(metadata)]
        assert len(links) > 15
        for link in links:
            assert link.startswith("https://")
            in_repository = re.fullmatch(rf"{REPOSITORY}/(?:blob|raw)/{tag}/([^#]+)(?:#.+)?", link)
            assert not in_repository or (ROOT / in_repository[1]).is_file(), link
        assert f"{REPOSITORY}/raw/{tag}/docs/images/report.png" in links
        assert f"{REPOSITORY}/blob/{tag}/docs/training.md#without-a-cuda-compiler" in links
        assert f"{REPOSITORY}/actions/workflows/test.yml/badge.svg" in links
        assert _code(metadata.get_payload()) == _code((ROOT / "README.md").read_text())


def test_readme_has_no_links_of_a_kind_that_stays_relative() -> None:
    """``hatch_build.py`` finds those of ``[text](target)``, which also are what the other tests look at."""
    others = r"(?:src|href)=|^ *\[[^\]]+\]:|\]\(<|~~~"  # in HTML, as a reference, in angles; code between tildes
    assert not re.findall(others, (ROOT / "README.md").read_text(), re.MULTILINE)


def test_without_a_name_readme_stays_as_it_is_and_the_build_says_so(clone: Path) -> None:
    said = _build(clone, "").stderr
    assert set(said.splitlines()) == {
        "No repository is named: README's links stay relative. LAVA_SPIKELOSS_REPOSITORY=URL names one."
    }
    for metadata in _metadata(clone):
        assert metadata.get_all("Project-URL") is None
        assert str(metadata.get_payload()).strip() == (ROOT / "README.md").read_text().strip()


@pytest.mark.parametrize(
    "address",
    ["someone/a-clone", "https://github.com/someone", "https://name:key@github.com/a/b", f"{REPOSITORY}.git"],
)
def test_what_is_no_address_of_a_repository_is_refused(clone: Path, address: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _build(clone, address)
    assert "Expected LAVA_SPIKELOSS_REPOSITORY to be an address like https://HOST/OWNER/NAME" in refused.value.stderr
    assert not list(clone.glob("dist/*"))


def _build(clone: Path, address: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LAVA_SPIKELOSS_REPOSITORY": address}
    command = [sys.executable, "-c", _BUILD, "dist"]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=True)


def _metadata(clone: Path) -> list[Message]:
    (wheel,), (sdist,) = clone.glob("dist/*.whl"), clone.glob("dist/*.tar.gz")
    with ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        texts = [file.read(name).decode()]
    with tarfile.open(sdist) as archive:
        read = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert read is not None
        texts.append(read.read().decode())
    return list(map(message_from_string, texts))


def _links(metadata: Message) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)", re.sub(r"```.*?```", "", str(metadata.get_payload()), flags=re.DOTALL))


def _code(text: object) -> list[str]:
    return re.findall(r"```.*?```", str(text), re.DOTALL)
