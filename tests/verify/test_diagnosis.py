"""Each cause is named, in the right place, with the membranes that show it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from netx_export import read, simulate, verify
from netx_export.file.netx import write_as_described
from netx_export.network.description import CubaNeuron, Dense, Encoder, Input, NetworkDescription, SigmaDeltaNeuron
from netx_export.slayer import evaluation
from netx_export.verification.neuron_trace import Assumptions, shifted, trace
from netx_export.verification.result import Cause
from netx_export.verification.verify import VerificationReport

NEURON = CubaNeuron(1000, np.array([1024]), np.array([128]))


def cause_of(report: VerificationReport) -> Cause:
    cause = report.comparisons[-1].cause
    assert cause is not None
    return cause


def file_of(layer: Dense, path: Path) -> Path:
    write_as_described(NetworkDescription((Input(layer.input_shape, delay_shift=False), layer)), path)
    return path


def random_spikes(channels: int, samples: int = 3, steps: int = 30) -> Any:
    return (np.random.default_rng(1).random((samples, channels, steps)) < 0.4).astype(np.uint8)


def weights(outputs: int, inputs: int) -> Any:
    return np.random.default_rng(2).integers(-60, 100, (outputs, inputs)) * 2


def recorded_under(layer: Dense, inputs: Any, assumed: Assumptions) -> dict[str, Any]:
    """The spikes of a machine of which something else is true."""
    own = [[trace(layer, (n,), sample, assumed=assumed).spikes for n in range(layer.shape[0])] for sample in inputs]
    return {"dense1": shifted(np.array(own), 1)}


DELAYED = Dense(weights(6, 8), NEURON, delay=np.array([0, 1, 2, 3, 4, 5]))
STRONG = CubaNeuron(2**16, np.array([0]), np.array([4096]))
LEAKLESS = CubaNeuron(2**14, np.array([4096]), np.array([0]))
BIASED = Dense(weights(6, 8), NEURON, bias=np.array([40, 0, 90, -50, 300, 7]))
# netx fills eight bits with these, and Lava then cuts off what it takes for unused ones: -128 becomes -64.
ALTERED = Dense(
    np.where(np.arange(48).reshape(6, 8) % 3, 0, -128),
    CubaNeuron(1, np.array([4096]), np.array([4096])),
    bias=np.full(6, 100),
)


@pytest.mark.parametrize(
    ("layer", "assumed", "name"),
    [
        (Dense(np.full((1, 300), 254), STRONG), Assumptions(wraps=False), "wrapped current"),
        (
            Dense(np.where(np.arange(300) % 2, 254, -254)[np.newaxis] + np.array([[-40] * 300]) // 2 * 2, LEAKLESS),
            Assumptions(saturates=False),
            "saturated voltage",
        ),
        (DELAYED, Assumptions(delayed=False), "delay"),
        (DELAYED, Assumptions(extra_delay=1), "different delay_shift"),  # of a whole layer they are the same thing
        (BIASED, Assumptions(early_bias=1), "bias a step early"),
        (BIASED, Assumptions(has_bias=False), "bias"),
        (ALTERED, Assumptions(loaded_weights=False), "weight altered on load"),
    ],
)
def test_what_a_neuron_can_show(layer: Dense, assumed: Assumptions, name: str, tmp_path: Path) -> None:
    path = file_of(layer, tmp_path / "net.net")
    inputs = random_spikes(layer.input_shape[0])
    if name == "saturated voltage":
        # First far below, then up again: from where it stopped, or from where it would have been.
        inputs[:, 1::2, :15] = 0
        inputs[:, 0::2, 15:] = 0
    recorded = recorded_under(layer, inputs, assumed)
    report = verify(None, path, inputs, recorded=recorded)
    assert not report.passed
    cause = cause_of(report)
    assert (cause.name, cause.layer) == (name, "dense1")
    assert cause.expected_membrane is not None
    assert len(cause.expected_membrane) == len(cause.steps)
    assert cause.got_membrane is None  # of a recording only the spikes are known


def simulated(path: Path, inputs: Any) -> Any:
    return simulate(path, inputs).layers["dense1"]


def test_state_carried_over(tmp_path: Path) -> None:
    path = file_of(Dense(weights(6, 8), NEURON), tmp_path / "net.net")
    inputs = random_spikes(8)
    stream = np.concatenate([*inputs], axis=-1)[np.newaxis]
    # The stream's own time, cut into samples as an endless run would be.
    own = shifted(simulated(path, np.pad(stream, [(0, 0), (0, 0), (0, 1)])), -1)[..., :-1]
    recorded = shifted(np.stack(np.split(own[0], 3, axis=-1)), 1)
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": recorded}))
    assert cause.name == "state carried over from an earlier batch"
    assert cause.place is not None
    assert cause.place.sample > 0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_reset_that_comes_early(steps: int, tmp_path: Path) -> None:
    path = file_of(Dense(weights(6, 8), NEURON), tmp_path / "net.net")
    inputs = random_spikes(8)
    leaked = np.concatenate([np.roll(inputs, 1, axis=0)[..., -steps:], inputs], axis=-1)
    leaked[0, :, :steps] = 0
    recorded = shifted(simulated(path, leaked), -steps)[..., : inputs.shape[-1]]
    recorded[..., 0] = 0
    # What lies under the last, unknown steps is cut off on both sides.
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": recorded}))
    assert cause.name == "reset step"
    assert f"{steps} step(s) before" in cause.detail


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_a_reset_that_comes_late(steps: int, tmp_path: Path) -> None:
    path = file_of(Dense(weights(6, 8), NEURON), tmp_path / "net.net")
    inputs = random_spikes(8)
    late = inputs.copy()
    late[..., :steps] = 0
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": simulated(path, late)}))
    assert cause.name == ("reset step" if steps < 4 else "not found")
    assert steps == 4 or f"reset {steps} step(s) after the sample began" in cause.detail


def test_one_neuron_is_not_enough_for_a_cause_that_all_neurons_would_show(tmp_path: Path) -> None:
    path = file_of(Dense(weights(6, 8), NEURON), tmp_path / "net.net")
    inputs = random_spikes(8, samples=1)
    late = inputs.copy()
    late[..., 0] = 0
    recorded, of_late = simulated(path, inputs).copy(), simulated(path, late)
    different = np.flatnonzero((recorded != of_late).any(-1))
    assert len(different) > 1
    recorded[:, different[0]] = of_late[:, different[0]]
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": recorded}))
    assert cause.name == "not found"


def test_noise_has_no_cause(tmp_path: Path) -> None:
    path = file_of(Dense(weights(6, 8), NEURON), tmp_path / "net.net")
    inputs = random_spikes(8)
    recorded = simulated(path, inputs)
    recorded[1, 3, 10:20] ^= 1
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": recorded}))
    assert cause.name == "not found"
    assert cause.place is not None
    assert (cause.place.sample, cause.place.neuron, cause.place.step) == (1, (3,), 10)


@pytest.mark.slayer
def test_both_membranes_are_equal_where_both_runs_are(exported: Callable[[str], Any], tmp_path: Path) -> None:
    """The membrane in SLAYER and in the reference, in one unit: equal up to the step at which a changed bias acts."""
    for kind in ("mlp", "delayed", "conv", "recurrent", "biased", "unshifted", "resonator", "izhikevich"):
        subject = exported(kind)
        name = list(read(subject.path).spiking)[-1]
        group = f"layer/{name.lstrip('abcdefghijklmnopqrstuvwxyz')}/neuron/vThMant"

        def raise_threshold(file: Any, group: str = group) -> None:
            file[group][...] = file[group][()] + 3

        spoiled = subject.spoiled(tmp_path / f"{kind}.net", raise_threshold)
        cause = cause_of(verify(subject.net, spoiled, subject.spikes, lava_samples=0))
        assert cause.layer == name
        assert cause.place is not None
        assert cause.expected_membrane is not None
        assert cause.got_membrane is not None
        until = cause.steps.index(cause.place.step) + 1
        assert cause.expected_membrane[:until] == pytest.approx(cause.got_membrane[:until], abs=0.02), kind


@pytest.mark.parametrize(
    ("step", "steps"), [(0, range(5)), (4, range(9)), (5, range(1, 10)), (15, range(11, 20)), (19, range(15, 20))]
)
def test_membranes_are_shown_four_steps_around(step: int, steps: range, plain: Any) -> None:
    recorded = plain.changed(output=None)
    recorded["dense1"][5:, 2, step:] ^= 1
    cause = cause_of(verify(None, plain.path, plain.spikes, recorded=recorded))
    assert cause.place is not None
    assert (cause.place.sample, cause.place.neuron, cause.place.step) == (5, (2,), step)
    assert cause.steps == tuple(steps)
    assert cause.threshold == 200 * 64
    assert cause.expected_membrane is not None
    fires = [membrane > 200 * 64 for membrane in cause.expected_membrane]
    assert fires == plain.run["dense1"][5, 2, list(steps)].astype(bool).tolist()


@pytest.mark.parametrize("steps", [-3, -2, -1, 1, 2, 3])
def test_a_layer_that_comes_steps_later_or_earlier(steps: int, tmp_path: Path) -> None:
    path = file_of(Dense(weights(6, 8), NEURON), tmp_path / "net.net")
    inputs = random_spikes(8)
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": shifted(simulated(path, inputs), steps)}))
    if abs(steps) == 3:
        assert cause.name == "not found"
    else:
        assert cause.name == "different delay_shift"
        assert (
            f"spikes {abs(steps)} step(s) {'later' if steps > 0 else 'earlier'} than in the reference" in cause.detail
        )


@pytest.mark.parametrize("steps", [1, 2])
def test_the_end_of_a_layer_that_comes_earlier_is_not_known_to_the_reference(steps: int, tmp_path: Path) -> None:
    path = file_of(Dense(weights(6, 8), NEURON), tmp_path / "net.net")
    inputs = random_spikes(8, steps=30)
    recorded = simulated(path, np.concatenate([inputs, inputs[..., :steps]], axis=-1))[..., steps:]
    assert recorded[..., -steps:].any()
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": recorded}))
    assert cause.name == "different delay_shift"
    recorded[..., 29 - steps] ^= 1  # the last step that is known
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": recorded}))
    assert cause.name == "not found"


@pytest.mark.parametrize("before", [7, 8, 9])
def test_state_is_followed_through_eight_earlier_samples(before: int, tmp_path: Path) -> None:
    """Of neurons that keep all they get, so that each earlier sample counts."""
    layer = Dense(np.full((6, 1), 2) * np.arange(1, 7)[:, np.newaxis], CubaNeuron(90, np.array([4096]), np.array([0])))
    path = file_of(layer, tmp_path / "net.net")
    inputs = np.zeros((10, 1, 12), np.uint8)
    inputs[:, 0, ::2] = 1
    recorded = simulated(path, inputs)
    stream = np.tile(inputs[:1], (1, 1, before + 1))
    recorded[9] = simulated(path, np.pad(stream, [(0, 0), (0, 0), (0, 1)]))[0, :, 12 * before : 12 * before + 12]
    recorded[9, :, 0] = 0  # the last spike of the sample before, which SLAYER cuts off
    cause = cause_of(verify(None, path, inputs, recorded={"dense1": recorded}))
    assert cause.place is not None
    assert cause.place.sample == 9
    assert cause.name == ("not found" if before == 9 else "state carried over from an earlier batch")
    assert before == 9 or "the state in which sample 8 left them" in cause.detail


@pytest.mark.parametrize("one", [0, 64])
def test_the_sigma_delta_neurons_of_a_difference_have_no_membrane(one: int, tmp_path: Path) -> None:
    layers = Input((3,), False, Encoder(SigmaDeltaNeuron(1))), Dense(2 * np.ones((2, 3), int), SigmaDeltaNeuron(1))
    write_as_described(NetworkDescription(layers), tmp_path / "net.net")
    values = np.random.default_rng(0).random((2, 3, 20))
    recorded = simulate(tmp_path / "net.net", values).layers
    recorded["dense1"][1, 0, 7] += (one + 1) / 4096
    cause = cause_of(verify(None, tmp_path / "net.net", values, recorded=recorded))
    assert (cause.name, cause.threshold, cause.expected_membrane) == ("not found", None, None)


class Dropping(nn.Module):
    """Forgets to look at its mode."""

    def __init__(self, blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.blocks  # type: ignore[misc]
        hidden = torch.nn.functional.dropout(first(x), 0.3, training=True) * 0.7
        output: torch.Tensor = nn.Sequential(*others)(hidden)
        return output


@pytest.mark.slayer
def test_dropout_left_in_training_mode(mlp: Any) -> None:
    cause = cause_of(verify(Dropping(mlp.net), mlp.path, mlp.spikes, lava_samples=0))
    assert (cause.name, cause.layer) == ("dropout left in training mode", "dense2")


class Normalising(nn.Module):
    """What batch norm in training mode does: a sample's spikes depend on the other samples."""

    def __init__(self, blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = self.blocks  # type: ignore[misc]
        hidden = first(x)
        output: torch.Tensor = nn.Sequential(*others)(hidden * (1 + (hidden - hidden[:1]).abs().mean(0)))
        return output


@pytest.mark.slayer
def test_batch_norm_left_in_training_mode(mlp: Any) -> None:
    cause = cause_of(verify(Normalising(mlp.net), mlp.path, mlp.spikes, lava_samples=0))
    assert (cause.name, cause.layer) == ("batch norm left in training mode", "dense2")


@pytest.mark.slayer
def test_a_recording_of_a_network_in_training_mode(exported: Callable[[str], Any]) -> None:

    subject = exported("biased")
    with evaluation(subject.net), torch.no_grad():
        subject.net.train()
        recorded = subject.net[0](subject.spikes).numpy()
    report = verify(subject.net, subject.path, subject.spikes, recorded={"dense1": recorded})
    assert report.comparisons[0].passed
    assert report.comparisons[1].unrecorded == ("dense2",)
    assert cause_of(report).name == "batch norm left in training mode"


@pytest.mark.slayer
@pytest.mark.parametrize("sample", [127, 128, 255, 256])
def test_the_batch_of_a_network_in_training_mode_is_one_of_128(sample: int, exported: Callable[[str], Any]) -> None:
    """As `verify` itself runs the network; the other samples of the batch decide over a sample's spikes."""
    subject = exported("biased")
    rates = torch.linspace(0.1, 0.6, 260).reshape(-1, 1, 1)
    spikes = (torch.rand(260, 12, 24, generator=torch.Generator().manual_seed(7)) < rates).float()
    recorded = {"dense1": simulate(subject.path, spikes).layers["dense1"]}
    batch = slice(sample // 128 * 128, sample // 128 * 128 + 128)
    with evaluation(subject.net), torch.no_grad():
        subject.net.train()
        recorded["dense1"][sample] = subject.net[0](spikes[batch]).numpy()[sample - batch.start]
    cause = cause_of(verify(subject.net, subject.path, spikes, recorded=recorded))
    assert cause.place is not None
    assert (cause.place.sample, cause.name) == (sample, "batch norm left in training mode")


@pytest.mark.slayer
def test_a_recurrent_network_that_was_not_reset(exported: Callable[[str], Any]) -> None:
    """SLAYER keeps a recurrent block's state from one forward to the next, even in evaluation mode."""
    subject = exported("recurrent")

    with evaluation(subject.net), torch.no_grad():
        first = subject.net[0](subject.spikes).numpy()
        second = subject.net[0](subject.spikes).numpy()
    assert verify(None, subject.path, subject.spikes, recorded={"recurrent1": first}).passed
    cause = cause_of(verify(None, subject.path, subject.spikes, recorded={"recurrent1": second}))
    assert cause.name == "state carried over from an earlier batch"


@pytest.mark.slayer
def test_a_current_that_wraps_on_the_chip_and_not_in_slayer(tmp_path: Path) -> None:
    from lava.lib.dl.slayer.block import cuba

    from netx_export import export

    net = nn.Sequential(cuba.Dense({"threshold": 1.0, "current_decay": 0.001, "voltage_decay": 0.5}, 400, 2))
    net[0].synapse.weight.data.fill_(3.9)
    net[0].synapse.weight.data[0] = -3.9  # both signs, or the file would hold other weights
    spikes = torch.ones(2, 400, 30)
    export(net, tmp_path / "net.net", spikes[:, :, :1], allow_silent=["dense1", "output"])
    cause = cause_of(verify(net, tmp_path / "net.net", spikes, lava_samples=0))
    assert (cause.name, cause.layer) == ("wrapped current", "dense1")
    assert cause.expected_membrane is not None
    assert min(cause.expected_membrane) < -(2**23)
