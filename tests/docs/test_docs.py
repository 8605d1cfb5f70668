"""The documentation's links lead somewhere, and it says nothing that the code has left behind."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from inspect import Parameter
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"
PAGES = sorted((ROOT / "docs").glob("**/*.md"))
PUBLIC_MODULES = [
    "lava_spikeloss",
    "lava_spikeloss.functional",
    "lava_spikeloss.training",
    "netx_export",
    "netx_export.nir",
]
# They hand their arguments on to something that the user passes: a module, losses, a block of SLAYER.
HAND_ON = {"TimeFirst.forward", "WeightedSum.forward", "build_block"}
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def test_the_example_files_are_shown_whole() -> None:
    pages = [
        ("getting-started.md", "first.py"),
        ("tasks/trained-network.md", "my_network.py"),
        ("tasks/several-gpus.md", "distributed.py"),
        ("tasks/nir.md", "snntorch_rates.py"),
        ("tasks/nir.md", "from_snntorch.py"),
    ]
    for name, example in pages:
        page = (ROOT / "docs" / name).read_text()
        assert f'--8<-- "examples/{example}"' in page  # a formatter of Markdown once took this for Python


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for match in _LINK.finditer(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        target = (match[1] or match[2]).partition("#")[0]
        if target and "://" not in target and not target.startswith("../../actions/"):  # badges: pages of GitHub
            assert (page.parent / target).exists(), f"{page.name}: {target}"


# The released source file is built without them, as pyproject.toml says, and its tests have to run there too.
@pytest.mark.skipif(not WORKFLOWS.is_dir(), reason="a released source file has no workflows")
def test_each_badge_is_of_a_workflow_that_is_there() -> None:
    shown = set(re.findall(r"\.\./actions/workflows/([^/)]+)", (ROOT / "README.md").read_text()))
    assert shown
    assert shown <= {file.name for file in WORKFLOWS.iterdir()}


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "api").glob("*.md")), ids=lambda page: page.name)
def test_a_page_of_the_reference_begins_with_a_table_of_names(page: Path) -> None:
    """``docs/_tools/api_tables.py`` puts it in the place of the word."""
    assert re.search(r"^NAMES\b", page.read_text().partition("\n:::")[0], re.MULTILINE)


def test_a_link_that_leads_nowhere_ends_make_docs(tmp_path: Path) -> None:
    """With ``--quiet`` mkdocs counts no warning, so that ``--strict`` finds none."""
    pytest.importorskip("mkdocs", reason="builds a site: needs the extra docs")
    build = re.search(r"-m (mkdocs build .*)", (ROOT / "Makefile").read_text())
    assert build is not None
    (tmp_path / "mkdocs.yml").write_text("site_name: a site")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[a page](nowhere.md)")
    command = [sys.executable, "-m", *build[1].split()]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode
    assert "nowhere.md" in ended.stderr


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    for public in module.__all__:
        thing = getattr(module, public)
        assert not callable(thing) or (thing.__doc__ or "").strip(), f"{name}.{public}"


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_the_signature_of_everything_public_shows_its_arguments(name: str) -> None:
    """An editor shows ``inspect.signature``: a bare ``*args, **kwargs`` tells a user nothing."""
    found = dict(_public_callables(importlib.import_module(name)))
    assert found
    for called, thing in found.items():
        parameters = inspect.signature(thing).parameters.values()
        catch_all = {parameter.kind for parameter in parameters} >= {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
        assert catch_all == (called in HAND_ON), f"{name}.{called}{inspect.signature(thing)}"


def _public_callables(module: ModuleType) -> Iterator[tuple[str, Callable[..., object]]]:
    """The functions, classes and own methods of a module."""
    for public in module.__all__:
        thing = getattr(module, public)
        if callable(thing):
            yield public, thing
        if isinstance(thing, type):
            for name, method in inspect.getmembers(thing, callable):
                home = str(getattr(method, "__module__", ""))
                if home.startswith(("lava_spikeloss", "netx_export")) and not name.startswith("_"):
                    yield f"{public}.{name}", method


@pytest.mark.parametrize("name", ["lava_spikeloss", "netx_export"])
def test_a_package_knows_its_version(name: str) -> None:
    assert importlib.import_module(name).__version__ == version("lava-spikeloss")


@pytest.mark.parametrize("package", ["lava_spikeloss", "netx_export"])
def test_no_formula_goes_on_at_the_margin(package: str) -> None:
    cut = re.compile(r"^( *)\.\. math:: .+\n\1(?=\S)(.+)", re.MULTILINE)
    found = [match[2] for file in sorted((ROOT / package).glob("**/*.py")) for match in cut.finditer(file.read_text())]
    assert not found  # indent these lines, or they are read as text


def test_the_gallery_shows_every_loss() -> None:
    import lava_spikeloss
    from lava_spikeloss.losses.module import Loss

    page = (ROOT / "docs" / "loss-gallery.md").read_text()
    things = [getattr(lava_spikeloss, name) for name in lava_spikeloss.__all__]
    losses = [thing.__name__ for thing in things if isinstance(thing, type) and issubclass(thing, Loss)]
    assert len(losses) > 15
    for name in losses:
        assert f"### {name}\n" in page, name
        assert (ROOT / "docs" / "images" / "losses" / f"{name}.png").exists()


def test_the_table_of_reductions_holds_every_loss_with_its_default() -> None:
    import lava_spikeloss
    from lava_spikeloss.losses.module import Loss

    spec = importlib.util.spec_from_file_location("loss_defaults", ROOT / "docs" / "_tools" / "loss_defaults.py")
    assert spec is not None
    assert spec.loader is not None
    defaults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(defaults)
    things = [getattr(lava_spikeloss, name) for name in lava_spikeloss.__all__]
    losses = [thing for thing in things if isinstance(thing, type) and issubclass(thing, Loss)]
    assert sorted(defaults.CASES) == sorted(loss.__name__ for loss in losses)
    rows = {row.split("`")[1]: row.split(" | ") for row in defaults.table().splitlines()[2:]}
    for loss in losses:
        default = inspect.signature(loss).parameters.get("reduction")
        assert rows[loss.__name__][1] == (f"`{default.default}`" if default else "mean, always")
    value, samples, steps = (float(cell.strip(" |")) for cell in rows["SpikeMoid"][2:])
    assert samples == pytest.approx(2 * value, rel=0.05)  # a sum over samples, of rates
    assert steps == pytest.approx(value, rel=0.05)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert citation["version"] == version[1]
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"]
    assert {"message", "title", "license"} <= citation.keys()


@pytest.mark.parametrize("module", ["lava_spikeloss", "lava_spikeloss.functional", "lava_spikeloss.training"])
def test_every_public_name_is_on_a_page_of_the_reference(module: str) -> None:
    """The pages list names by family, so a new one is on none by itself. The build of the site looks at all modules."""
    reference = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    listed = re.findall(rf"^::: {re.escape(module)}\n    options: .*?(?<!_)members: \[(.*?)\]", reference, re.MULTILINE)
    names = {name for members in listed for name in members.split(", ")}
    separately = set(re.findall(rf"^::: {re.escape(module)}\.(?:\w+\.)*(\w+)$", reference, re.MULTILINE))
    assert not set(importlib.import_module(module).__all__) - names - separately
