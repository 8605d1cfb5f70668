"""Random networks: each is refused with a reason, or its file does on other data what the network does itself.

A few in every run; thousands by ``make search``, see ``search.py``.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import judging
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_networks import Block, Network, networks

pytestmark = pytest.mark.slayer

CUBA = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.03}
SMALL = Network((6,), (Block("cuba.Dense", (6, 5), CUBA, {"weight_scale": 4}),))
QUICK = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@settings(QUICK, max_examples=60)
@given(spec=networks())
def test_a_network_is_refused_or_its_file_runs_as_it_does(spec: Network, folder: Path) -> None:
    judging.examine(spec, folder)


@pytest.mark.lava
@settings(QUICK, max_examples=6)
@given(spec=networks())
def test_its_file_runs_on_lava_as_on_the_reference(spec: Network, folder: Path) -> None:
    judging.examine(spec, folder, on_lava=True)


def test_the_judge_exports_a_plain_network(folder: Path) -> None:
    assert judging.examine(SMALL, folder) == judging.Verdict("exported", plain=True, proved=True)


def test_the_judge_notices_one_weight(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export is right and its file is spoiled afterwards, as if it had been wrong."""
    export = judging.export

    def spoiled(*args: object) -> object:
        result = export(*args)
        with h5py.File(result.path, "r+") as file:
            file["layer/1/weight"][0, 0] += 40
        return result

    monkeypatch.setattr(judging, "export", spoiled)
    with pytest.raises(AssertionError, match="values of dense1 differ"):
        judging.examine(SMALL, folder)


def test_the_judge_notices_a_changed_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = judging.export

    def careless(net: object, *args: object) -> object:
        result = export(net, *args)
        net.blocks[0].synapse.weight.data[0] += 1e-6
        return result

    monkeypatch.setattr(judging, "export", careless)
    with pytest.raises(AssertionError, match="export changed the network"):
        judging.examine(SMALL, folder)
