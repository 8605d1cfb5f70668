"""Two gloo processes with half the batch each against one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[list[dict], dict]:
    """What each of the two ranks found, and what one process found with the whole batch."""
    folder, script = tmp_path_factory.mktemp("gloo"), Path(__file__).with_name("distributed_rank.py")
    repository = script.parents[2]
    paths = os.pathsep.join(map(str, (repository, repository / "tests" / "shared")))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    jobs = [("0", "2"), ("1", "2"), ("0", "1")]
    processes = [
        subprocess.Popen([sys.executable, str(script), *job, str(folder)], env=environment, cwd=repository)
        for job in jobs
    ]
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
    ranks = [torch.load(folder / name, weights_only=True) for name in ("0", "1")]
    return ranks, torch.load(folder / "whole", weights_only=True)


@pytest.mark.parametrize("kind", ["constant", "multiplier", "budget", "statistics"])
def test_two_ranks_are_one_process(runs, kind):
    ranks, whole = runs
    for rank in ranks:
        assert rank[kind].keys() == whole[kind].keys()
        for key, value in whole[kind].items():
            torch.testing.assert_close(
                rank[kind][key], value, rtol=1e-6, atol=1e-6, msg=lambda m, key=key: f"{key}: {m}"
            )


def test_it_was_no_empty_comparison(runs):
    _, whole = runs
    for kind in ("constant", "multiplier", "budget"):
        assert whole[kind]["loss 2"] > 0
        assert any(value.any() for key, value in whole[kind].items() if key.startswith("gradient"))
    assert any(value.any() for key, value in whole["multiplier"].items() if key.startswith("multiplier"))


def test_a_rank_without_data_adds_nothing(runs):
    for rank in runs[0]:
        assert rank["absent"]["layers only samples"] == 2
        assert rank["absent"]["layers only rate"] == 1.0


def test_ranks_without_any_data_have_no_events(runs):
    for rank in runs[0]:
        assert rank["nothing"] == {"events_per_step": 0}
