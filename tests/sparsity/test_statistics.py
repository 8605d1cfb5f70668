"""SpikeStatistics against its definition, one neuron and one sample at a time."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lava_spikeloss import LOIHI_2, SpikeStatistics, fan_out


def reference(spikes: np.ndarray) -> dict[str, np.ndarray]:
    """Every statistic of one layer from its definition. ``spikes`` is (N, neurons, T)."""
    samples, neurons, steps = spikes.shape
    nan = np.full(neurons, np.nan)
    result = {key: nan.copy() for key in ("rates", "isi", "isi_cv", "first_spike", "fano")}
    fired = spikes != 0
    for i in range(neurons):
        counts = fired[:, i].sum(-1)
        intervals, firsts = [], []
        for n in range(samples):
            times = np.flatnonzero(fired[n, i])
            intervals.extend(np.diff(times))
            firsts.extend(times[:1])
        result["rates"][i] = counts.sum() / (samples * steps)
        if intervals:
            result["isi"][i] = np.mean(intervals)
        if len(intervals) > 1:
            result["isi_cv"][i] = np.std(intervals) / np.mean(intervals)
        if firsts:
            result["first_spike"][i] = np.mean(firsts)
        if counts.sum():
            result["fano"][i] = np.var(counts) / np.mean(counts)
    population = fired.sum(1)
    result["synchrony"] = np.var(population) / np.mean(population) if population.any() else np.nan
    result["silent"] = np.mean(result["rates"] == 0)
    result["saturated"] = np.mean(result["rates"] >= 0.9)
    return result


def trains(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Ternary events whose rate differs from neuron to neuron; some neurons are silent, some saturated."""
    generator = torch.Generator().manual_seed(seed)
    rate = torch.rand(shape[1:-1], generator=generator)[..., None] * 1.6 - 0.3
    fired = (torch.rand(shape, generator=generator) < rate).long()
    return fired * (torch.randint(0, 2, shape, generator=generator) * 2 - 1)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1000),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 12)),
    parts=st.integers(1, 4),
)
def test_equals_the_definition_however_it_is_batched(seed, shape, parts):
    spikes = trains(seed, shape)
    statistics = SpikeStatistics()
    for batch in spikes.chunk(parts):
        statistics.update({"layer": batch})
    layer = statistics.compute().layers["layer"]
    expected = reference(spikes.reshape(shape[0], -1, shape[-1]).numpy())
    for key, value in expected.items():
        np.testing.assert_allclose(np.ravel(getattr(layer, key)), np.ravel(value), rtol=1e-12, atol=1e-12, err_msg=key)
    assert torch.equal(layer.counts, (spikes != 0).sum((0, -1)))
    assert (layer.samples, layer.steps) == (shape[0], shape[0] * shape[-1])


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype_of_the_same_spikes_gives_the_same_statistics(dtype):
    spikes = (torch.rand(3, 4, 10) < 0.3).float()
    results = []
    for version in (spikes, spikes.to(dtype)):
        statistics = SpikeStatistics()
        statistics.update({"layer": version})
        results.append(statistics.compute().to_dict())
    assert results[0] == results[1]


def test_a_regular_train_has_no_variation_and_a_silent_net_no_numbers():
    regular = torch.zeros(7, 1, 100)
    regular[..., 3::7] = 1
    statistics = SpikeStatistics()
    statistics.update({"regular": regular, "silent": torch.zeros(2, 3, 4)})
    layers = statistics.compute().layers
    assert layers["regular"].isi.tolist() == [7.0]
    assert layers["regular"].isi_cv.tolist() == [0.0]
    assert layers["regular"].fano.tolist() == [0.0]
    silent = layers["silent"].to_dict()
    assert (silent["silent"], silent["rate"], silent["events"]) == (1.0, 0.0, 0)
    assert [silent[key] for key in ("isi", "isi_cv", "first_spike", "fano", "synchrony")] == [None] * 5


def test_merged_statistics_are_those_of_all_samples():
    spikes = trains(3, (6, 4, 10))
    parts = [SpikeStatistics(fan_out={("in", "layer"): torch.arange(4)}) for _ in range(3)]
    for part, samples in zip(parts, (spikes, spikes[:2], spikes[2:]), strict=True):
        part.update({"layer": samples}, {"in": samples})
    whole, one, other = parts
    one.merge(other)
    assert one.compute().to_dict() == whole.compute().to_dict()
    assert torch.equal(one.compute().layers["layer"].counts, whole.compute().layers["layer"].counts)


def test_synchrony_tells_a_choir_from_a_crowd():
    crowd = torch.rand(20, 100, 200) < 0.05
    choir = crowd[:, :1].expand(-1, 100, -1)
    statistics = SpikeStatistics()
    statistics.update({"crowd": crowd, "choir": choir})
    layers = statistics.compute().layers
    assert layers["crowd"].synchrony == pytest.approx(0.95, abs=0.05)
    assert layers["choir"].synchrony == pytest.approx(95, rel=0.1)


def test_large_sums_do_not_cancel():
    statistics = SpikeStatistics()
    batch = torch.ones(1000, 1, 1000, dtype=torch.bool)
    batch[0, 0, 500] = False
    for _ in range(20):
        statistics.update({"layer": batch})
    layer = statistics.compute().layers["layer"]
    p = 1 / 1000
    assert layer.fano.item() == pytest.approx(p * (1 - p) / (1000 - p), rel=1e-12)


def test_operations_and_energy_from_plain_arrays():
    inputs, hidden = torch.ones(2, 3, 5), torch.zeros(2, 4, 5)
    hidden[0, 0, 0] = 7  # one graded event is one event
    statistics = SpikeStatistics(
        fan_out={("input", "hidden"): torch.tensor([4, 4, 2]), ("hidden", "output"): torch.tensor([10, 1, 1, 1])}
    )
    statistics.update({"hidden": hidden, "output": torch.zeros(2, 10, 5)}, inputs={"input": inputs})
    result = statistics.compute()
    assert (result.layers["hidden"].synops, result.layers["output"].synops) == (50.0, 5.0)
    assert result.synops == 55.0
    expected = 55 * 23.6e-12 + 0.5 * (81 - 52 + 1.7) * 1e-12 + 14 * 5 * 52e-12
    assert result.energy == pytest.approx(expected, rel=1e-12)
    assert sum(layer.energy for layer in result.layers.values()) == pytest.approx(expected, rel=1e-12)
    assert result.events_per_step == pytest.approx(1 / 10)


def test_what_is_not_known_is_unavailable():
    spikes = {"layer": torch.ones(1, 2, 3)}
    unmeasured, loihi_2 = SpikeStatistics(), SpikeStatistics(energy=LOIHI_2, fan_out={("layer", "x"): torch.ones(2)})
    for statistics in (unmeasured, loihi_2):
        statistics.update(spikes)
    assert (unmeasured.compute().synops, unmeasured.compute().energy) == (None, None)
    assert (loihi_2.compute().synops, loihi_2.compute().energy) == (6.0, None)
    assert loihi_2.compute().to_dict()["energy"] == "unavailable"
    assert json.loads(json.dumps(loihi_2.compute().to_dict()))["layers"]["layer"]["energy"] == "unavailable"


def test_attached_counts_what_the_synapses_receive(lookalike):
    with torch.no_grad():
        lookalike[0].synapse.weight[:, 2] = 0  # input 2 drives nothing
        lookalike[1].synapse.weight[0] = 0  # neuron 0 of the last layer hears nobody
    statistics = SpikeStatistics().attach(lookalike)
    x = (torch.rand(3, 6, 8) < 0.5).float()
    lookalike(x)
    lookalike(x)
    by_hand = SpikeStatistics(
        fan_out={("x", "0"): torch.tensor([5, 5, 0, 5, 5, 5]), ("0", "1"): torch.tensor([3, 3, 3, 3, 3])}
    )
    hidden = lookalike[0](x)
    for _ in range(2):
        by_hand.update({"0": hidden, "1": lookalike[1](hidden)}, inputs={"x": x})
    statistics.detach()
    by_hand_result = by_hand.compute().to_dict()
    assert by_hand_result["synops"] > 0
    # calling the blocks by hand above was watched too: the third of three equal passes
    assert statistics.compute().to_dict()["synops"] == by_hand_result["synops"]
    assert statistics.compute().to_dict()["energy"] == by_hand_result["energy"]
    assert statistics.compute().layers["1"].rate == by_hand.compute().layers["1"].rate


def test_a_net_that_is_attached_again_counts_once(lookalike):
    x = (torch.rand(3, 6, 8) < 0.5).float()
    once, twice = SpikeStatistics().attach(lookalike), SpikeStatistics().attach(lookalike).attach(lookalike)
    lookalike(x)
    assert twice.compute().to_dict() == once.compute().to_dict()


def test_reset_pickle_and_compile(lookalike):
    torch._dynamo.reset()
    x = (torch.rand(3, 6, 8) < 0.5).float()
    statistics = SpikeStatistics().attach(lookalike)
    lookalike(x)
    once = statistics.compute().to_dict()
    assert pickle.loads(pickle.dumps(statistics)).compute().to_dict() == once
    statistics.reset()
    torch.compile(lookalike, backend="eager")(x)
    assert statistics.compute().to_dict() == once


class _Writer:
    def __init__(self):
        self.scalars, self.histograms = {}, {}

    def add_scalar(self, tag, value, step):
        self.scalars[tag, step] = value

    def add_histogram(self, tag, values, step):
        self.histograms[tag, step] = values


def test_tensorboard_in_two_lines():
    statistics, writer = SpikeStatistics(), _Writer()
    statistics.update({"hidden": torch.ones(1, 2, 3)})
    statistics.compute().write(writer, 7)
    assert writer.scalars["spikes/hidden/rate", 7] == 1.0
    assert writer.histograms["spikes/hidden/rates", 7].tolist() == [1.0, 1.0]
    assert all(math.isfinite(value) for value in writer.scalars.values())


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"fan_out": {("a", "b"): [1, 1]}}, TypeError, r"`fan_out\[\('a', 'b'\)\]` to be a torch.Tensor but got list"),
        ({"fan_out": {"ab": torch.ones(2)}}, ValueError, r"keys of argument `fan_out` to be .* but got 'ab'"),
        ({"energy": None}, TypeError, r"`energy` to be an EnergyTable but got NoneType"),
        ({"saturated_rate": math.nextafter(1.0, 2.0)}, ValueError, r"`saturated_rate` to be at most 1.0"),
    ],
)
def test_a_wrong_option_is_refused_when_it_is_given(arguments, error, text):
    with pytest.raises(error, match=text):
        SpikeStatistics(**arguments)


def test_a_neuron_is_saturated_from_the_rate_on():
    spikes = torch.zeros(1, 3, 10)
    for neuron, events in enumerate((4, 5, 6)):
        spikes[:, neuron, :events] = 1
    statistics = SpikeStatistics(saturated_rate=0.5)
    statistics.update({"layer": spikes})
    assert statistics.compute().layers["layer"].saturated == pytest.approx(2 / 3)
    SpikeStatistics(saturated_rate=1.0)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`saturated_rate` to be greater than 0.0 but got 0"):
        SpikeStatistics(saturated_rate=0)
    statistics = SpikeStatistics()
    statistics.update({"a": torch.ones(1, 2, 3)})
    with pytest.raises(ValueError, match=r"'a' with neurons of shape \(2,\), as before, but got \(3,\)"):
        statistics.update({"a": torch.ones(1, 3, 3)})
    with pytest.raises(ValueError, match=r"layout \(N, C, ..., T\)"):
        statistics.update({"b": torch.ones(2, 3)})
    with pytest.raises(ValueError, match=r"fan-out into 'b' of shape \(2,\).*got \(3,\)"):
        SpikeStatistics(fan_out={("a", "b"): torch.ones(3)}).update({"a": torch.ones(1, 2, 3)})
    with pytest.raises(ValueError, match=r"spikes of 'z', a source in `fan_out`"):
        SpikeStatistics(fan_out={("z", "b"): torch.ones(3)}).update({"a": torch.ones(1, 2, 3)})


@pytest.mark.slayer
def test_attached_to_slayer_blocks_of_every_kind():
    import lava.lib.dl.slayer as slayer

    cuba = {"threshold": 0.1, "current_decay": 0.5, "voltage_decay": 0.1, "requires_grad": False}
    block = slayer.block
    net = torch.nn.Sequential(
        block.cuba.Conv(dict(cuba), 1, 2, 3, padding=1, weight_norm=True),
        block.cuba.Flatten(),
        block.rf.Dense({"threshold": 0.1, "period": 5, "decay": 0.1}, 2 * 4 * 4, 6),
        block.cuba.Recurrent(dict(cuba), 6, 5),
        block.cuba.Affine(dict(cuba), 5, 3),
    )
    seen = {}
    for name, module in net.named_children():
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
    statistics = SpikeStatistics().attach(net)
    net((torch.rand(2, 1, 4, 4, 10) < 0.5).float())
    result = statistics.compute()
    assert list(result.layers) == ["0", "2", "3"]

    def operations(synapse, spikes):
        counts = (spikes != 0).sum((0, -1))
        return float((counts * fan_out(synapse, spikes.shape[1:-1])).sum()) / 2

    expected = {
        "0": operations(net[0].synapse, seen["0"][0]),
        "2": operations(net[2].synapse.real, seen["2"][0]) + operations(net[2].synapse.imag, seen["2"][0]),
        "3": operations(net[3].input_synapse, seen["3"][0]) + operations(net[3].recurrent_synapse, seen["3"][1]),
    }
    assert {name: layer.synops for name, layer in result.layers.items()} == expected
    assert all(value > 0 for value in expected.values())
    assert result.synops == sum(expected.values()) + operations(net[4].synapse, seen["4"][0])
