"""The four SLAYER losses in the place of lava-dl's: same values and gradients, in its tests and in its Assistant."""

from __future__ import annotations

import importlib.util
import inspect
import unittest

import pytest
import torch
from shipped import shipped

import lava_spikeloss as L

pytestmark = pytest.mark.slayer
slayer = pytest.importorskip("lava.lib.dl.slayer", reason="needs lava-dl")

NAMES = ["SpikeTime", "SpikeRate", "SpikeMax", "SpikeMoid"]


@pytest.mark.parametrize("name", NAMES)
def test_constructor_begins_as_lava_dls(name: str) -> None:
    ours = list(inspect.signature(getattr(L, name)).parameters.values())
    theirs = list(inspect.signature(getattr(slayer.loss, name)).parameters.values())
    for mine, their in zip(ours, theirs, strict=False):
        assert (mine.name, mine.default, mine.kind) == (their.name, their.default, their.kind)
    assert all(p.kind == inspect.Parameter.KEYWORD_ONLY for p in ours[len(theirs) :])


def trains(seed: int, graded: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    spikes = (torch.rand(6, 5, 60, generator=generator) < 0.3).float()
    spikes[..., 0] = 1  # nobody is silent: there lava-dl is right
    return spikes * torch.rand(6, 5, 60, generator=generator) if graded else spikes


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.one_hot(labels, 5).float()


PER_SAMPLE = torch.tensor([0, 4, 2, 2, 1, 3])
PER_STEP = torch.randint(5, (6, 60), generator=torch.Generator().manual_seed(1))
LEFT_OUT = torch.tensor([0, -100, 2, 2, -100, 3])
MULTI_HOT = (torch.rand(6, 5, generator=torch.Generator().manual_seed(2)) < 0.5).float()
CASES = [
    ("SpikeTime", {}, trains(9, False)),
    ("SpikeTime", {"time_constant": 30, "length": 20}, trains(9, False)),
    ("SpikeTime", {"time_constant": 9, "length": 30, "filter_order": 3}, trains(9, False)),
    ("SpikeRate", {"true_rate": 0.9, "false_rate": 0.1}, PER_SAMPLE),
    ("SpikeRate", {"true_rate": 0.9, "false_rate": 0.1, "moving_window": 20}, PER_STEP),
    ("SpikeMax", {}, PER_SAMPLE),
    ("SpikeMax", {"mode": "softmax"}, PER_SAMPLE),
    ("SpikeMax", {"mode": "logsoftmax"}, PER_SAMPLE),
    ("SpikeMax", {}, LEFT_OUT),
    ("SpikeMax", {"mode": "softmax", "moving_window": 20}, LEFT_OUT),
    ("SpikeMax", {"moving_window": 20}, PER_SAMPLE),
    ("SpikeMax", {"moving_window": 20}, PER_STEP),
    ("SpikeMax", {"moving_window": 20, "mode": "softmax"}, PER_STEP),
    ("SpikeMoid", {"alpha": 0.3, "theta": 0.2}, MULTI_HOT),
    ("SpikeMoid", {"alpha": 0.3, "theta": 0.2, "moving_window": 20}, MULTI_HOT),
    ("SpikeMoid", {"moving_window": 7}, torch.nn.functional.one_hot(PER_STEP, 5).transpose(1, 2).float()),
]


@pytest.mark.parametrize(("name", "options", "target"), CASES)
@pytest.mark.parametrize("reduction", ["default", "mean"])
@pytest.mark.parametrize("graded", [False, True])
def test_value_and_gradient_are_lava_dls(
    name: str, options: dict[str, object], target: torch.Tensor, reduction: str, graded: bool
) -> None:
    options = options if reduction == "default" else {**options, "reduction": reduction}
    x = trains(0, graded)
    results = []
    for module in (L, slayer.loss):
        spikes = x.clone().requires_grad_()
        if options.get("moving_window") and name == "SpikeMax" and options.get("mode") != "softmax":
            spikes = x.clone().clamp(min=0.01).requires_grad_()  # no silent window either
        loss = getattr(module, name)(**options)(spikes, target)
        loss.backward()
        results.append((loss.detach(), spikes.grad))
    (ours, gradient), (theirs, their_gradient) = results
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-5, atol=1e-5 * float(their_gradient.abs().max()))


def test_lava_dls_own_loss_tests_pass_with_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their module looks the classes up in ``slayer.loss`` when a test runs."""
    spec = importlib.util.spec_from_file_location("their_tests", shipped("slayer", "test_loss.py"))
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    calls = []

    class Counted(L.SpikeMoid):
        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            calls.append(self)
            return super().forward(input, target)

    for name in NAMES:
        monkeypatch.setattr(slayer.loss, name, Counted if name == "SpikeMoid" else getattr(L, name))
    suite = unittest.defaultTestLoader.loadTestsFromModule(theirs)
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun == 3
    assert len(calls) == 3  # it was ours that ran
    assert result.wasSuccessful(), result.failures + result.errors


class Net(torch.nn.Module):
    """A small SLAYER classifier."""

    def __init__(self) -> None:
        super().__init__()
        neuron = {"threshold": 1.0, "current_decay": 0.5, "voltage_decay": 0.2, "requires_grad": False}
        self.blocks = torch.nn.ModuleList(
            [slayer.block.cuba.Dense(neuron, 12, 24), slayer.block.cuba.Dense(neuron, 24, 3)]
        )
        self.device = torch.device("cpu")

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            spikes = block(spikes)
        return spikes


ERRORS = {
    "SpikeRate": lambda: L.SpikeRate(0.4, 0.03, reduction="sum"),
    "SpikeMax": lambda: L.SpikeMax(reduction="mean"),
    "SpikeMoid": lambda: L.SpikeMoid(reduction="mean", alpha=0.1, theta=0.2),
    "SpikeRate-window": lambda: L.SpikeRate(0.4, 0.03, moving_window=10, reduction="mean"),
    "CECountLoss": L.CECountLoss,
    "MSETemporalLoss": L.MSETemporalLoss,
    "sum": lambda: L.SpikeMax(reduction="mean") + 0.5 * L.MSECountLoss(0.4, 0.03) + 0.01 * L.CountBoundsLoss(upper=10),
}


@pytest.mark.parametrize("name", ERRORS)
def test_trains_in_the_assistant(name: str) -> None:
    torch.manual_seed(0)
    net = Net()
    labels = torch.arange(30) % 3
    rates = torch.full((30, 12), 0.05)
    for n, y in enumerate(labels.tolist()):
        rates[n, 4 * y : 4 * y + 4] = 0.6
    spikes = (torch.rand(30, 12, 20) < rates.unsqueeze(-1)).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    stats = slayer.utils.LearningStats()
    assistant = slayer.utils.Assistant(net, ERRORS[name](), optimizer, stats, classifier=L.RateClassifier())
    losses = []
    for _ in range(15):
        assistant.train(spikes, labels)
        losses.append(stats.training.loss)
        stats.training.reset()
    assistant.valid(spikes, labels)
    assert losses[-1] < losses[0]
    assert stats.validation.accuracy is not None


def test_spike_time_trains_in_the_assistant() -> None:
    torch.manual_seed(0)
    net = Net()
    spikes, desired = (torch.rand(4, 12, 20) < 0.5).float(), (torch.rand(4, 3, 20) < 0.3).float()
    stats = slayer.utils.LearningStats()
    assistant = slayer.utils.Assistant(net, L.SpikeTime(), torch.optim.Adam(net.parameters(), lr=0.02), stats)
    losses = []
    for _ in range(15):
        assistant.train(spikes, desired)
        losses.append(stats.training.loss)
        stats.training.reset()
    assert losses[-1] < losses[0]
