"""Ours against snnTorch, SpikingJelly and elephant, where those are right. Runs where they are installed."""

from __future__ import annotations

import pytest
import torch

import lava_spikeloss as L
from lava_spikeloss import functional

LABELS = torch.tensor([0, 3, 1, 1, 2])


@pytest.fixture
def spikes() -> torch.Tensor:
    return (torch.rand(5, 4, 20, generator=torch.Generator().manual_seed(0)) < 0.3).float()


@pytest.fixture
def membrane() -> torch.Tensor:
    return torch.randn(5, 4, 20, generator=torch.Generator().manual_seed(1))


def same_value_and_gradient(ours: object, theirs: object, x: torch.Tensor, *targets: torch.Tensor) -> None:
    """``theirs`` takes time first."""
    mine, their = x.clone().requires_grad_(), x.movedim(-1, 0).clone().requires_grad_()
    loss, their_loss = ours(mine, *targets), theirs(their, *targets)  # type: ignore[operator]
    loss.backward()
    their_loss.backward()
    torch.testing.assert_close(loss, their_loss.reshape(()), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine.grad, their.grad.movedim(0, -1), rtol=1e-4, atol=1e-6)


class TestSnnTorch:
    @pytest.fixture(autouse=True)
    def peer(self) -> None:
        self.snn = pytest.importorskip("snntorch.functional")

    @pytest.mark.parametrize("name", ["ce_rate_loss", "ce_count_loss", "mse_count_loss", "ce_temporal_loss"])
    def test_spike_losses(self, name: str, spikes: torch.Tensor) -> None:
        same_value_and_gradient(getattr(functional, name), getattr(self.snn, name)(), spikes, LABELS)

    @pytest.mark.parametrize("name", ["ce_max_membrane_loss", "mse_membrane_loss"])
    def test_membrane_losses(self, name: str, membrane: torch.Tensor) -> None:
        same_value_and_gradient(getattr(functional, name), getattr(self.snn, name)(), membrane, LABELS)

    def test_options(self, spikes: torch.Tensor, membrane: torch.Tensor) -> None:
        rates = {"correct_rate": 0.8, "incorrect_rate": 0.2}
        same_value_and_gradient(L.MSECountLoss(**rates), self.snn.mse_count_loss(**rates), spikes, LABELS)
        levels = {"on_target": 1.5, "off_target": 0.25}
        same_value_and_gradient(L.MSEMembraneLoss(**levels), self.snn.mse_membrane_loss(**levels), membrane, LABELS)
        reciprocal = {"inverse": "reciprocal"}
        same_value_and_gradient(L.CETemporalLoss(**reciprocal), self.snn.ce_temporal_loss(**reciprocal), spikes, LABELS)
        groups = {"population_code": True, "num_classes": 2}
        two = LABELS % 2
        same_value_and_gradient(L.CECountLoss(**groups), self.snn.ce_count_loss(**groups), spikes, two)
        same_value_and_gradient(L.MSECountLoss(**groups), self.snn.mse_count_loss(**groups), spikes, two)

    def test_times_as_targets(self, spikes: torch.Tensor) -> None:
        times = torch.randint(0, 20, (5, 4)).float()
        options = {"target_is_time": True}
        same_value_and_gradient(L.MSETemporalLoss(**options), self.snn.mse_temporal_loss(**options), spikes, times)

    def test_times_of_classes(self, spikes: torch.Tensor) -> None:
        times = {"on_target": 2, "off_target": spikes.shape[-1] - 1}
        same_value_and_gradient(L.MSETemporalLoss(**times), self.snn.mse_temporal_loss(**times), spikes, LABELS)
        at_the_end = {**times, "off_target": -1}
        ours = functional.mse_temporal_loss(spikes, LABELS, **at_the_end)
        assert ours == functional.mse_temporal_loss(spikes, LABELS, **times)
        theirs = self.snn.mse_temporal_loss(**at_the_end)(spikes.movedim(-1, 0), LABELS)
        assert theirs == functional.mse_temporal_loss(spikes, LABELS, on_target=2, off_target=0)  # as the page says

    def test_of_several_spikes_theirs_passes_over_those_at_steps_of_other_neurons(self) -> None:
        """If this fails the peer was mended, and docs/coming-from.md wants an update."""
        first = torch.zeros(11, 1, 2)  # (T, N, C)
        first[[0, 1, 5], 0, 0] = 1
        first[1, 0, 1] = 1
        times = torch.tensor([[[0.0, 1.0]], [[1.0, 10.0]]])
        options = {"target_is_time": True, "multi_spike": True}
        theirs = self.snn.mse_temporal_loss(**options)(first, times.clone())
        torch.testing.assert_close(theirs, torch.tensor((5 - 1) ** 2 / 11**2 / times.numel()))
        assert L.TimeFirst(L.MSETemporalLoss(**options))(first, times) == 0

    def test_module_keyword_names(self) -> None:
        import inspect

        for name, ours in (
            ("ce_rate_loss", L.CERateLoss), ("ce_count_loss", L.CECountLoss), ("mse_count_loss", L.MSECountLoss),
            ("ce_max_membrane_loss", L.CEMaxMembraneLoss), ("mse_membrane_loss", L.MSEMembraneLoss),
            ("mse_temporal_loss", L.MSETemporalLoss), ("ce_temporal_loss", L.CETemporalLoss),
        ):  # fmt: skip
            theirs = inspect.signature(getattr(self.snn, name).__init__).parameters
            assert set(theirs) - {"self"} <= set(inspect.signature(ours).parameters), name

    def test_their_defects_are_still_there(self, spikes: torch.Tensor) -> None:
        """If one of these fails the peer was mended, and docs/losses.md wants an update."""
        first = spikes.movedim(-1, 0)
        assert self.snn.ce_rate_loss()(first, LABELS).shape == (1,)
        weighted = self.snn.ce_count_loss(weight=torch.ones(4), reduction="sum")(first, LABELS)
        assert weighted.shape == (5,)
        graded = torch.zeros(6, 1, 1)
        graded[4:] = 0.5
        times = torch.tensor([[4.0]])
        assert self.snn.mse_temporal_loss(target_is_time=True)(graded, times) > 0
        assert functional.mse_temporal_loss(graded.movedim(0, -1), times, target_is_time=True) == 0


class TestSpikingJelly:
    @pytest.fixture(autouse=True)
    def peer(self) -> None:
        self.sj = pytest.importorskip("spikingjelly.activation_based.functional")

    def test_tet(self, membrane: torch.Tensor) -> None:
        theirs = self.sj.temporal_efficient_training_cross_entropy
        same_value_and_gradient(functional.temporal_efficient_training_cross_entropy, theirs, membrane, LABELS)

    @pytest.mark.parametrize(
        ("kernel", "args", "losses"),
        [
            ("linear", (), ["mse", "l1"]),  # for "bce" theirs raises: its cosines round above 1
            ("sigmoid", (0.1,), ["mse", "l1", "bce"]),
            ("gaussian", (3.0,), ["mse", "l1", "bce"]),
        ],
    )
    def test_similarity(self, spikes: torch.Tensor, kernel: str, args: tuple[float, ...], losses: list[str]) -> None:
        one_hot = torch.nn.functional.one_hot(LABELS, 4).float()
        for loss in losses:
            theirs = self.sj.spike_similar_loss(spikes, one_hot, kernel, loss, *args)
            ours = functional.spike_similar_loss(spikes, LABELS, kernel, loss, *args)
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(("kernel", "args"), [("polynomial", (2,)), ("sigmoid", (0.1,)), ("gaussian", (3.0,))])
    def test_kernels(self, kernel: str, args: tuple[float, ...]) -> None:
        x, y = torch.rand(4, 6), torch.rand(4, 6)
        torch.testing.assert_close(
            functional.kernel_dot_product(x, y, kernel, *args), self.sj.kernel_dot_product(x, y, kernel, *args)
        )

    def test_helpers(self, spikes: torch.Tensor) -> None:
        assert torch.equal(functional.first_spike_index(spikes), self.sj.first_spike_index(spikes))
        assert torch.equal(functional.redundant_one_hot(LABELS, 4, 3), self.sj.redundant_one_hot(LABELS, 4, 3))
        theirs = self.sj.delay(spikes.movedim(-1, 0), 3).movedim(0, -1)
        assert torch.equal(functional.delay(spikes, 3), theirs)

    def test_their_defects_are_still_there(self) -> None:
        graded = torch.tensor([[0.0, 0.3, 0.3]])
        assert not torch.equal(functional.first_spike_index(graded), self.sj.first_spike_index(graded))


class TestElephant:
    @pytest.fixture(autouse=True)
    def peer(self) -> None:
        self.dissimilarity = pytest.importorskip("elephant.spike_train_dissimilarity")
        neo, self.units = pytest.importorskip("neo"), pytest.importorskip("quantities")
        self.spikes = torch.rand(5, 40, generator=torch.Generator().manual_seed(0)) < 0.2
        self.trains = [
            neo.SpikeTrain([float(t) for t, v in enumerate(row) if v] * self.units.s, t_stop=40 * self.units.s)
            for row in self.spikes.tolist()
        ]

    def pairs(self, distance: object, parameter: float) -> torch.Tensor:
        rows = [distance(self.spikes, row.expand_as(self.spikes), parameter) for row in self.spikes]  # type: ignore[operator]
        return torch.stack(rows)

    @pytest.mark.parametrize("cost", [0.0, 0.3, 2.0])
    def test_victor_purpura(self, cost: float) -> None:
        theirs = torch.tensor(self.dissimilarity.victor_purpura_distance(self.trains, cost * self.units.Hz)).float()
        torch.testing.assert_close(self.pairs(functional.victor_purpura_distance, cost), theirs, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("tau", [0.5, 5.0])
    def test_van_rossum(self, tau: float) -> None:
        theirs = torch.tensor(self.dissimilarity.van_rossum_distance(self.trains, tau * self.units.s)).float()
        torch.testing.assert_close(self.pairs(functional.van_rossum_distance, tau), theirs, rtol=1e-5, atol=1e-5)
