"""One class for the spikes of a run, whoever ran it; one that cannot be is refused when it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import netx_export
from netx_export.run import Run

SPIKES = np.array([[[0, 1, 1]], [[1, 0, 0]]], np.uint8)


def test_what_simulate_returns_is_a_run():
    assert netx_export.Simulation is Run


@pytest.mark.parametrize(
    ("output", "layers", "error", "message"),
    [
        (SPIKES, {"dense1": SPIKES[:1]}, ValueError, r"same number of samples .* \{'dense1': 1, 'output': 2\}"),
        (SPIKES, {"dense1": SPIKES[0]}, ValueError, r"\(N, C, \.\.\., T\) of dense1 but got shape \(1, 3\)"),
        (np.array(1), {}, ValueError, r"of output but got shape \(\)"),
        (SPIKES, {"output": SPIKES}, ValueError, "names of layers other than 'output'"),
        (SPIKES, {"dense1": SPIKES.tolist()}, TypeError, "real numbers for dense1 but got list"),
        (SPIKES.astype(complex), {"dense1": SPIKES}, TypeError, "real numbers for output but got complex128"),
        (SPIKES.astype(object), {}, TypeError, "but got object"),
        (None, {"dense1": SPIKES}, ValueError, "an output, or the reason why there is none"),
    ],
)
def test_what_is_no_run_is_refused(output: Any, layers: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        Run(output, layers)


def test_a_reason_for_no_output_beside_one_is_refused():
    with pytest.raises(ValueError, match="an output, or the reason"):
        Run(SPIKES, {}, "the recording does not hold it")


def test_an_output_may_be_a_number_per_sample():
    """What a network returns is whatever its forward makes of the spikes."""
    assert Run(np.ones(2), {"dense1": SPIKES}).output.shape == (2,)


def test_samples_are_chosen_from_layers_and_output_alike():
    chosen = Run(2 * SPIKES, {"dense1": SPIKES}).choose(np.array([1]))
    assert chosen.output.tolist() == [[[2, 0, 0]]]
    assert chosen.layers["dense1"].tolist() == [[[1, 0, 0]]]
    assert Run.of({"dense1": SPIKES}, "it is not known").choose(np.array([1])).no_output == "it is not known"


def test_silence_is_zero_everywhere():
    assert Run(0 * SPIKES, {"dense1": SPIKES, "dense2": -0.0 * SPIKES}).silent == ("dense2", "output")
