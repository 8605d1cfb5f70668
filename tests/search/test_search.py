"""Random networks: each is refused with a reason, or its file does on other data what the network does itself.

A few in every run; thousands by ``make search``, see ``search.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import judging
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_networks import Block, Network, Sample, networks
from single_peculiarities import CUBA, KINDS, TO_BE_REFUSED

pytestmark = pytest.mark.slayer

SMALL = Network((6,), (Block("cuba.Dense", (6, 5), CUBA, {"weight_scale": 4}),))
QUICK = settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
DENSE, GRADED = KINDS["dense"], KINDS["sigma-delta"]
# Found by the search, each once a file that did something else than its network, or an error of another kind.
FOUND = {
    "the input is overwritten": replace(DENSE, operations=((0, "zero a channel in place"),)),
    "the input is overwritten with numbers": replace(DENSE, operations=((0, "mul_"),)),
    "the input is overwritten after it was read": replace(DENSE, operations=((1, "overwrite after use"),)),
    "resonators hide a doubled input": replace(KINDS["resonators"], operations=((0, "twice"),)),
    "a silent sample hides a doubled input": replace(DENSE, operations=((0, "twice"),), sample=Sample(rate=0.0)),
    "one sample hides a change of their order": replace(DENSE, operations=((1, "flip samples"),), sample=Sample(1)),
    "one step hides a change of their order": replace(GRADED, operations=((1, "flip time"),), sample=Sample(4, 1, 0.9)),
    "decays run along the width": replace(TO_BE_REFUSED["decays per channel"], seed=1),
    "state is kept": TO_BE_REFUSED["keeps its state"],
    "a scale was changed": replace(DENSE, changes=((1, "w_scale"),), seed=1),
    "a threshold was changed": replace(KINDS["recurrent"], changes=((0, "threshold off the grid"),)),
    "spectral norm and a mask": replace(KINDS["dense with options"], changes=((0, "old spectral norm"),)),
    "pruned, then trained": replace(DENSE, changes=((0, "pruned, then trained"),), sample=None),
    "spectral norm without a sample": replace(DENSE, changes=((0, "old spectral norm"),), sample=None),
    "a hook without a sample": replace(DENSE, changes=((0, "block hook"),), sample=None),
    "a bias without a sample": replace(DENSE, changes=((0, "synapse bias"),), sample=None),
    "a mask of halves": replace(KINDS["dense with options"], changes=((0, "mask of halves"),), sample=None),
    "sigma-delta parts that keep state": replace(GRADED, changes=((1, "delta persistent"),)),
    "called by keyword": replace(DENSE, by_keyword=True),
    "returns a dictionary": replace(DENSE, returns="dict"),
    "returns an array": replace(DENSE, returns="numpy"),
    "returns nothing": replace(DENSE, returns="none"),
    "a block that torch does not know of": replace(KINDS["sigma-delta convolution"], holder="unregistered"),
    "sparse sample": replace(DENSE, sample=Sample(form="sparse")),
    "sample of NaN": replace(DENSE, sample=Sample(form="NaN")),
    "a hook on a wrapper": replace(KINDS["average"], holder="data parallel", change_of_all="network hook"),
    "no samples": replace(KINDS["sigma-delta convolution"], sample=Sample(form="no samples")),
    "mask and weight norm": Network(
        (5,), (Block("cuba.Dense", (5, 6), CUBA, {"weight_scale": 4, "weight_norm": True, "mask": 0.6}),)
    ),
    "resonators without weights": replace(KINDS["resonators"], changes=((0, "weights all zero"),)),
    "outputs that share no parameter": replace(
        GRADED,
        blocks=(
            GRADED.blocks[0],
            Block("sigma_delta.Output", (6, 3), {**GRADED.blocks[0].neuron, "shared_param": False}),
        ),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("search")


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_once_stays_mended(name: str, folder: Path) -> None:
    judging.examine(FOUND[name], folder)


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
