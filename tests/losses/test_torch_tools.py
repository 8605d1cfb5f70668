"""torch's own tools on every loss: forward-mode derivatives, traces, compilers, tensors without values, any memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from loss_cases import CASES, Case
from loss_references import T
from torch._subclasses.fake_tensor import FakeTensorMode

import lava_spikeloss as L
from lava_spikeloss import functional

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
SIZES = [(3, 7), (5, 12), (4, 33)]  # samples and steps


def repeated(x: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """``x`` repeated along a dimension until it has ``size``."""
    return x[(slice(None),) * dim + (torch.arange(size) % x.shape[dim],)]


def resized(case: Case, x: torch.Tensor, samples: int, steps: int) -> torch.Tensor:
    """An input, target or further tensor of a case for so many samples and steps; class indices stay ``(N,)``."""
    x = repeated(x, 0, samples)
    return repeated(x, 2, steps) if x.dim() == 3 else x


def sized(
    case: Case, samples: int, steps: int, dtype: torch.dtype = torch.float32
) -> tuple[Callable[..., torch.Tensor], list[torch.Tensor]]:
    """The loss of a case as a function of its input and targets, and these."""
    given = [resized(case, tensor, samples, steps) for tensor in case.arguments(case.input(dtype))]
    extra = {name: resized(case, t, samples, steps) if t.dim() == 3 else t for name, t in case.extra.items()}

    def loss(*arguments: torch.Tensor) -> torch.Tensor:
        return case.functional(*arguments, **extra, **case.options)

    return loss, given


def value_and_gradient(loss: Callable[..., torch.Tensor], x: torch.Tensor, *target: torch.Tensor) -> list[torch.Tensor]:
    x = x.detach().requires_grad_()
    value = loss(x, *target)
    return [value.detach(), *torch.autograd.grad(value, x)]


@pytest.fixture(params=[1, 8], ids=["one thread", "eight threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


# --- derivatives ------------------------------------------------------------------------------------------------------


@every_case
@both_precisions
def test_forward_mode_derivative_is_that_of_the_gradient(case: Case, dtype: torch.dtype) -> None:
    x, *target = case.arguments(case.input(dtype))
    direction = case.input(dtype, seed=3)
    expected = (value_and_gradient(case, x, *target)[1] * direction).sum()
    with forward_ad.dual_level():
        dual = case(forward_ad.make_dual(x, direction), *target)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, expected)
    jacobian = torch.func.jacfwd(lambda v: case(v, *target))(x)
    torch.testing.assert_close((jacobian * direction).sum(), expected)


@every_case
@both_precisions
def test_forward_mode_derivative_of_a_gradient(case: Case, dtype: torch.dtype) -> None:
    """A product of the Hessian with a vector is the same by both ways where the loss is smooth."""
    x, *target = case.arguments(case.input(dtype, seed=1) + 1e-3)
    direction = case.input(dtype, seed=3)
    slope = torch.func.grad(lambda v: case(v, *target))
    _, forward = torch.func.jvp(slope, (x,), (direction,))
    _, reverse = torch.func.vjp(slope, x)
    torch.testing.assert_close(forward, reverse(direction)[0], rtol=1e-3, atol=1e-4)


@every_case
def test_gradients_may_be_taken_of_several_losses_at_once(case: Case) -> None:
    x, *target = case.arguments(case.input(torch.float64))

    def loss(v: torch.Tensor) -> torch.Tensor:
        value = case(v, *target)
        return torch.stack((value, 3 * value))

    found = torch.autograd.functional.jacobian(loss, x, vectorize=True)
    torch.testing.assert_close(found, torch.autograd.functional.jacobian(loss, x))


@pytest.mark.parametrize("steps", [6, 1100])  # short, and long enough to be summed in float64
@pytest.mark.parametrize("window", [1, 3, 2000])
def test_gradients_of_windows_may_be_taken_in_batches(steps: int, window: int) -> None:
    spikes = torch.rand(2, steps, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rate = functional.moving_window_rate(spikes, window)
    directions = torch.rand(3, *rate.shape, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad(rate, spikes, directions, retain_graph=True, is_grads_batched=True)
    one_by_one = [torch.autograd.grad(rate, spikes, one, retain_graph=True)[0] for one in directions]
    torch.testing.assert_close(found, torch.stack(one_by_one))


def test_a_hessian_of_a_window_may_be_taken_in_batches() -> None:
    spikes = torch.rand(1, 2, 6, generator=torch.Generator().manual_seed(0))

    def loss(v: torch.Tensor) -> torch.Tensor:
        return functional.spike_rate(v, torch.tensor([1]), 0.9, 0.1, moving_window=3)

    found = torch.autograd.functional.hessian(loss, spikes, vectorize=True)
    torch.testing.assert_close(found, torch.autograd.functional.hessian(loss, spikes))


# --- compilers --------------------------------------------------------------------------------------------------------


@every_case
@both_precisions
def test_a_trace_is_the_loss_of_other_values(case: Case, dtype: torch.dtype) -> None:
    module, (x, *target) = case.build(), case.arguments(case.input(dtype))
    traced = torch.jit.trace(module, (x, *target), check_trace=False)
    other = case.input(dtype, seed=5)
    torch.testing.assert_close(value_and_gradient(traced, other, *target), value_and_gradient(module, other, *target))


SMOOTHED = [
    L.CECountLoss(label_smoothing=0.1, focal_gamma=2),
    L.CERateLoss(label_smoothing=0.1),
    L.TETLoss(label_smoothing=0.1),
]


@pytest.mark.parametrize("loss", SMOOTHED, ids=lambda loss: type(loss).__name__)
def test_a_trace_knows_label_smoothing(loss: torch.nn.Module) -> None:
    spikes = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
    traced = torch.jit.trace(loss, (spikes, torch.tensor([2])), check_trace=False)
    torch.testing.assert_close(traced(1 - spikes, torch.tensor([0])), loss(1 - spikes, torch.tensor([0])))


@every_case
def test_one_compiled_module_takes_batches_and_trains_of_any_length(case: Case) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(case.build(), fullgraph=True, dynamic=True, backend="aot_eager")
    for samples, steps in [(3, T)] if case.extra else SIZES:  # the further tensors have the batch's size
        loss, given = sized(case, samples, steps)
        found, expected = value_and_gradient(compiled, *given), value_and_gradient(loss, *given)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


FIRST_CALLS = """
import sys, torch
from loss_cases import CASES
for case in CASES:
    x, *target = case.arguments(case.input(torch.float32))
    loss = lambda v: case(v, *target)
    torch.func.vmap(torch.func.grad(loss))(torch.stack((x, x)))
    torch.func.jacfwd(loss)(x)
    assert "torch._dynamo" not in sys.modules or not torch.__version__.startswith("2.3"), case.name
"""


def test_first_call_in_a_process_may_be_inside_of_vmap() -> None:
    """torch 2.3 would import its compiler there, and fail for the rest of the process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", FIRST_CALLS], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


# --- tensors without values -------------------------------------------------------------------------------------------


@every_case
def test_tensors_of_the_meta_device(case: Case) -> None:
    given = [tensor.to("meta") for tensor in case.arguments(case.input(torch.float32))]
    extra = {name: tensor.to("meta") for name, tensor in case.extra.items()}
    value, gradient = value_and_gradient(lambda *v: case.functional(*v, **extra, **case.options), *given)
    assert (value.shape, value.device.type, value.dtype) == ((), "meta", torch.float32)
    assert (gradient.shape, gradient.device.type) == (given[0].shape, "meta")


@every_case
def test_fake_tensors(case: Case) -> None:
    loss, given = sized(case, 3, 7)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        value, gradient = value_and_gradient(loss, *(mode.from_tensor(tensor) for tensor in given))
    assert (value.shape, value.dtype) == ((), torch.float32)
    assert gradient.shape == given[0].shape


# --- memory -----------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "time first": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "classes last": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "reversed": lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
    "every second": lambda x: torch.stack((x, x), -1)[..., 0],
}
LENGTHS = [12, 24, 32, 40, 60, 64, 100, 128, 200]


@every_case
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("threads")
def test_trains_may_lie_in_memory_in_any_order(case: Case, layout: str) -> None:
    for steps in LENGTHS:
        loss, (x, *target) = sized(case, 3, steps)
        found = value_and_gradient(loss, LAYOUTS[layout](x), *target)
        torch.testing.assert_close(found, value_and_gradient(loss, x, *target), rtol=1e-4, atol=1e-6)


@every_case
def test_trains_may_share_their_memory(case: Case) -> None:
    """Expanded trains, as of a batch that is one sample."""
    loss, (x, *target) = sized(case, 3, 24)
    same = x[:1].expand_as(x)
    found = value_and_gradient(loss, same, *target)
    torch.testing.assert_close(found, value_and_gradient(loss, same.contiguous(), *target), rtol=1e-4, atol=1e-4)


FILTERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exponential_filter": lambda x: functional.exponential_filter(x, 5.0),
    "exponential_filter-cut": lambda x: functional.exponential_filter(x, 5.0, length=9),
    "exponential_filter-order2": lambda x: functional.exponential_filter(x, 5.0, length=9, filter_order=2),
    "moving_window_rate": lambda x: functional.moving_window_rate(x, 5),
    "van_rossum_distance": lambda x: functional.van_rossum_distance(x, x.flip(0), 5.0),
    "first_spike_times": lambda x: functional.first_spike_times(x, 3),
    "time first": lambda x: L.TimeFirst(L.SpikeTime())(x.movedim(-1, 0), x.movedim(-1, 0).flip(1)),
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("threads")
def test_filters_of_trains_in_any_memory(name: str, layout: str) -> None:
    def summed(x: torch.Tensor) -> torch.Tensor:
        return FILTERS[name](x).sum()

    for shape in [(3, 4, steps) for steps in LENGTHS] + [(3, 2, 2, 32)]:
        x = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()
        lying = LAYOUTS[layout](x)
        torch.testing.assert_close(value_and_gradient(summed, lying), value_and_gradient(summed, x))
