"""What a verifier is worth: deliberate faults, each proven harmless on the data, or caught in the layer it was put in.

A fault is put into a copy of the file. Harmless means that the spoiled file's network does, spike for spike in every
layer, what the right one's does. Everything else has to fail, with the first difference in the layer of the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netx_export import simulate, verify
from netx_export.verification.diagnosis import CAUSES
from netx_export.verification.result import Cause

pytestmark = pytest.mark.slayer

Change = Callable[[Any], None]


def add(dataset: str, place: Any, amount: int) -> Change:
    """Change one number, or all, of a dataset."""

    def change(file: Any) -> None:
        values = file[dataset][()]
        if np.ndim(values):
            values[place] += amount
        else:
            values = values + amount
        put(file, dataset, values)

    return change


def put(file: Any, dataset: str, values: Any) -> None:
    del file[dataset]
    file[dataset] = values


def remap(dataset: str, function: Callable[[Any], Any]) -> Change:
    return lambda file: put(file, dataset, np.ascontiguousarray(function(file[dataset][()])))


def drop(dataset: str) -> Change:
    def change(file: Any) -> None:
        del file[dataset]

    return change


def shift(layer: int) -> Change:
    def change(file: Any) -> None:
        values = file["lava_spikeloss/delay_shift"][()]
        values[layer] = 1 - values[layer]
        file["lava_spikeloss/delay_shift"][...] = values

    return change


def transposed_flatten(weight: Any) -> Any:
    """A dense layer behind a flatten whose inputs come in netx's order, (W, H, C), not in SLAYER's."""
    return weight.reshape(-1, 3, 3, 3).transpose(0, 3, 2, 1).reshape(weight.shape)


def swapped_neighbours(values: Any) -> Any:
    swapped = values.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    return swapped


def stuck(weight: Any) -> Any:
    """One row as if its memory had failed."""
    zeroed = weight.copy()
    zeroed[0] = 0
    return zeroed


# network, fault, the layer it lies in, the change
FAULTS: list[tuple[str, str, str, Change]] = [
    *(
        (
            "mlp",
            f"a weight of layer {layer} by {step:+d} at {place}",
            f"dense{layer}",
            add(f"layer/{layer}/weight", place, step),
        )
        for layer, place, step in (
            (1, (0, 0), 2),
            (1, (5, 7), -2),
            (1, (15, 11), 2),
            (2, (0, 3), 2),
            (2, (4, 4), -2),
            (3, (0, 0), 2),
            (3, (4, 11), -2),
        )
    ),
    *(
        ("mlp", f"{name} of layer {layer} by {step:+d}", f"dense{layer}", add(f"layer/{layer}/neuron/{name}", (), step))
        for name in ("vThMant", "iDecay", "vDecay")
        for layer, step in ((1, 1), (2, -1), (3, 1))
    ),
    ("mlp", "all thresholds of a layer by one in float", "dense2", add("layer/2/neuron/vThMant", (), 64)),
    ("mlp", "a weight's sign", "dense1", remap("layer/1/weight", lambda w: np.where(w == w.max(), -w, w))),
    ("mlp", "two neurons swapped", "dense1", remap("layer/1/weight", swapped_neighbours)),
    ("mlp", "two inputs swapped", "dense2", remap("layer/2/weight", lambda w: swapped_neighbours(w.T).T)),
    ("mlp", "a row lost", "dense2", remap("layer/2/weight", stuck)),
    ("mlp", "weights in half the resolution", "dense1", remap("layer/1/weight", lambda w: w // 4 * 4)),
    ("mlp", "weights clipped", "dense1", remap("layer/1/weight", lambda w: np.clip(w, -40, 40))),
    ("mlp", "weights doubled", "dense3", remap("layer/3/weight", lambda w: 2 * w)),
    ("mlp", "weights transposed in memory", "dense1", remap("layer/1/weight", lambda w: w.T.reshape(w.shape))),
    ("mlp", "delay_shift of the first layer", "dense1", shift(1)),
    ("mlp", "delay_shift of the last layer", "dense3", shift(3)),
    ("delayed", "delays dropped", "dense1", drop("layer/1/delay")),
    ("delayed", "one delay by +1", "dense1", add("layer/1/delay", 3, 1)),
    ("delayed", "one delay by -1", "dense1", add("layer/1/delay", 4, -1)),
    ("delayed", "all delays by +1", "dense1", add("layer/1/delay", slice(None), 1)),
    ("delayed", "delays reversed", "dense1", remap("layer/1/delay", lambda d: d[::-1])),
    ("delayed", "delays on the wrong neurons", "dense1", remap("layer/1/delay", lambda d: np.roll(d, 1))),
    ("conv", "one kernel weight by +2", "conv1", add("layer/1/weight", (0, 0, 0, 0), 2)),
    ("conv", "one kernel weight by -2", "conv2", add("layer/2/weight", (1, 2, 1, 1), -2)),
    ("conv", "kernel axes swapped", "conv1", remap("layer/1/weight", lambda w: w.swapaxes(2, 3))),
    ("conv", "kernels mirrored", "conv2", remap("layer/2/weight", lambda w: w[:, :, ::-1, ::-1])),
    ("conv", "input channels swapped", "conv1", remap("layer/1/weight", lambda w: w[:, ::-1])),
    ("conv", "output channels rolled", "conv2", remap("layer/2/weight", lambda w: np.roll(w, 1, 0))),
    ("conv", "transposed flatten", "dense4", remap("layer/4/weight", transposed_flatten)),
    ("conv", "threshold by +1", "conv1", add("layer/1/neuron/vThMant", (), 1)),
    ("recurrent", "one recurrent weight", "recurrent1", add("layer/1/weight_rec", (0, 1), 2)),
    ("recurrent", "recurrent weights transposed", "recurrent1", remap("layer/1/weight_rec", lambda w: w.T)),
    ("recurrent", "no recurrence", "recurrent1", remap("layer/1/weight_rec", np.zeros_like)),
    ("recurrent", "one weight behind it", "dense2", add("layer/2/weight", (0, 0), 2)),
    ("biased", "bias dropped", "dense1", drop("layer/1/bias")),
    ("biased", "one bias by +1", "dense1", add("layer/1/bias", 2, 1)),
    ("biased", "bias with the other sign", "dense1", remap("layer/1/bias", lambda b: -b)),
]


def test_there_are_enough_of_them() -> None:
    assert len(FAULTS) >= 30


@pytest.mark.parametrize(
    ("kind", "fault", "layer", "change"), FAULTS, ids=[f"{fault[0]}: {fault[1]}" for fault in FAULTS]
)
def test_a_fault_is_harmless_or_caught_where_it_is(
    kind: str, fault: str, layer: str, change: Change, exported: Callable[[str], Any], tmp_path: Path
) -> None:
    subject = exported(kind)
    spoiled = subject.spoiled(tmp_path / "spoiled.net", change)
    right = simulate(subject.path, subject.spikes).layers
    wrong = simulate(spoiled, subject.spikes).layers
    harmless = all(np.array_equal(right[name], wrong[name]) for name in right)

    report = verify(subject.net, spoiled, subject.spikes, subject.labels, lava_samples=0)

    assert report.exact == harmless
    assert report.passed == harmless
    if not harmless:
        (comparison,) = report.comparisons
        assert next(one.name for one in comparison.layers if one.status == "different") == layer
        check_cause(comparison.cause, layer, right[layer], wrong[layer])


def check_cause(cause: Cause | None, layer: str, right: np.ndarray, wrong: np.ndarray) -> None:
    """Assert that the cause has a name, and lies in this layer at the first step at which it differs."""
    assert cause is not None
    assert cause.layer == layer
    assert cause.name in CAUSES
    assert cause.name != "not found"
    place = (cause.place.sample, *cause.place.neuron, cause.place.step)
    assert right[place] != wrong[place]
    assert np.array_equal(right[..., : cause.place.step], wrong[..., : cause.place.step])


@pytest.mark.parametrize(("kind", "fault", "layer", "change"), FAULTS[::5], ids=[fault[1] for fault in FAULTS[::5]])
def test_without_the_network_a_recording_catches_it_too(
    kind: str, fault: str, layer: str, change: Change, exported: Callable[[str], Any], tmp_path: Path
) -> None:
    subject = exported(kind)
    right = simulate(subject.path, subject.spikes).layers
    spoiled = subject.spoiled(tmp_path / "spoiled.net", change)
    report = verify(None, spoiled, subject.spikes, recorded=right)
    different = [one.name for one in report.layers if one.status == "different"]
    wrong = simulate(spoiled, subject.spikes).layers
    assert different == [name for name in right if not np.array_equal(right[name], wrong[name])]
    assert different[:1] in ([], [layer])
