"""Every row of the support table: what is called exact equals SLAYER, what is refused says so."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support_cases
import torch
from support_cases import CASES, EXACT, REFUSED, Case, network

from netx_export import ExportError, export, read, simulate
from netx_export.slayer import record

pytestmark = pytest.mark.slayer


def _parameters(cases: list[Case]) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in cases]


def _on_lava(third: str) -> list[Any]:
    """The exact rows; of the slow ones those of one third (``0``, ``1`` or ``2``), or all."""
    if third not in ("0", "1", "2", "all"):
        raise ValueError(f"LAVA_THIRD has to be 0, 1, 2 or all, got {third!r}")
    parameters = [pytest.param(case, id=case.name) for case in EXACT if case.quick]
    for index, case in enumerate(case for case in EXACT if not case.quick):
        marks = [pytest.mark.slow]
        if third not in ("all", str(index % 3)):
            marks.append(pytest.mark.skip(reason=f"LAVA_THIRD={third} leaves it to LAVA_THIRD={index % 3}"))
        parameters.append(pytest.param(case, id=case.name, marks=marks))
    return parameters


@pytest.mark.parametrize("case", _parameters(EXACT))
def test_exact_on_the_reference(case: Case, tmp_path: Path) -> None:
    net, sample = network(case)
    result = export(net, tmp_path / "a.net", sample, allow_silent=case.silent)
    assert (result.proved, result.silent) == (not case.silent, case.silent)
    trained = record(net, sample, list(result.description.spiking))
    simulated = simulate(tmp_path / "a.net", sample)
    _assert_equal(trained, simulated)
    assert any(raster.any() for raster in trained.layers.values()), "a silent network proves nothing"
    assert read(tmp_path / "a.net") == result.description


@pytest.mark.lava
@pytest.mark.parametrize("case", _on_lava(os.environ.get("LAVA_THIRD", "all")))
def test_exact_on_lava(case: Case, tmp_path: Path) -> None:
    net, sample = network(case)
    result = export(net, tmp_path / "a.net", sample, allow_silent=case.silent)
    trained = record(net, sample[:2], list(result.description.spiking))
    _assert_equal(trained, simulate(tmp_path / "a.net", sample[:2], backend="lava"))


def _assert_equal(trained: Any, simulated: Any) -> None:
    for name, raster in trained.layers.items():
        np.testing.assert_array_equal(simulated.layers[name], raster, err_msg=name)
    np.testing.assert_array_equal(simulated.output, trained.output)


def test_each_slow_row_is_in_one_third() -> None:
    def skipped(row: Any) -> bool:
        return any(mark.name == "skip" for mark in row.marks)

    for rows in zip(*(_on_lava(third) for third in "012"), strict=True):
        case = rows[0].values[0]
        assert sum(not skipped(row) for row in rows) == (3 if case.quick else 1), case.name
    assert not any(skipped(row) for row in _on_lava("all"))


@pytest.mark.parametrize("case", _parameters([case for case in REFUSED if case.raises]))
def test_refused_by_lava_dl_itself(case: Case) -> None:
    with pytest.raises(AttributeError, match=case.raises):
        network(case)


@pytest.mark.parametrize("case", _parameters([case for case in REFUSED if case.refused]))
def test_refused_by_name(case: Case, tmp_path: Path) -> None:
    net, sample = network(case)
    with pytest.raises(ExportError) as error:
        export(net, tmp_path / "a.net", sample)
    assert not list(tmp_path.iterdir())
    assert case.refused in str(error.value)
    assert case.instead in str(error.value)
    if "altered" not in case.refused:
        assert f"({case.block})" in str(error.value) or case.option == "delay, then Conv"


def test_no_block_of_lava_dl_is_left_out() -> None:
    import lava.lib.dl.bootstrap.block as bootstrap
    from lava.lib.dl.slayer import block

    families = ("cuba", "rf", "rf_iz", "alif", "adrf", "adrf_iz", "sigma_delta")
    modules = {family: getattr(block, family) for family in families} | {"bootstrap.cuba": bootstrap.cuba}
    found = {
        f"{family}.{name}"
        for family, module in modules.items()
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, torch.nn.Module) and cls.__module__ == module.__name__ and not name.startswith("Abstract")
    }
    assert found == {case.block for case in CASES if not case.block.startswith("head.")}


def test_no_refusal_is_silent() -> None:
    """Each says why, and what to use instead."""
    assert all((case.refused or case.raises) and case.instead for case in REFUSED)
    assert not any(case.refused or case.instead for case in EXACT)


def test_names_are_unique() -> None:
    names = [case.name for case in support_cases.CASES]
    assert len(names) == len(set(names))


def test_the_document_is_up_to_date() -> None:
    tool = Path(__file__).resolve().parents[2] / "tools" / "support_table.py"
    assert subprocess.run([sys.executable, str(tool), "--check"], check=False).returncode == 0, f"run {tool.name}"
