"""One skeleton for every loss: the same checks for every row of ``tests/shared/loss_cases.py``."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import loss_references as ref
import pytest
import torch
from accelerator import DEVICE, Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_cases import CASES, LABELLED, WEIGHTED, Case
from loss_references import C, N, T

import lava_spikeloss as L
from lava_spikeloss import functional

WEIGHT = [0.5, 1.0, 2.0, 0.25]
SIMILARITIES = [case for case in CASES if case.name.startswith("SpikeSimilarity")]
REDUCIBLE = [case for case in CASES if case.reducible]
# Labels of these are class indices of the outputs themselves.
CLASSIFYING = [case for case in LABELLED if case not in SIMILARITIES and not case.extra]


def for_each(cases: Iterable[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


every_case = for_each(CASES)
half_precision = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
quick = settings(max_examples=5, deadline=None)


@pytest.fixture(params=["cpu"] + (["cuda"] if torch.cuda.is_available() else []))
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def on(device: torch.device, case: Case) -> Case:
    """The case with its further tensors on a device."""
    return dataclasses.replace(case, extra={name: tensor.to(device) for name, tensor in case.extra.items()})


def gradient(case: Case, x: torch.Tensor, *target: torch.Tensor, **options: Any) -> torch.Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(case(x, *target, **options), x)[0]


def off_the_corners(case: Case) -> torch.Tensor:
    return (case.input(seed=1) + 1e-3).requires_grad_()


def test_every_loss_has_a_case() -> None:
    modules = {value for value in vars(L).values() if isinstance(value, type) and hasattr(value, "_function")}
    tested = {case.module for case in CASES} | {L.DECOLLELoss, L.SpikeSimilarityLoss}  # built by functions of their own
    assert modules <= tested
    assert {"DECOLLE", "SpikeSimilarity"} <= {case.name.partition("-")[0] for case in CASES}


# --- values and gradients ---------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("seed", range(3))
def test_value_is_the_definition(case: Case, seed: int) -> None:
    x = case.input(seed=seed)
    expected = torch.tensor(case.reference(x.tolist()), dtype=torch.float64)
    actual = case(*case.arguments(x), **({"reduction": "none"} if case.reducible else {}))
    torch.testing.assert_close(actual, expected.reshape(actual.shape), rtol=1e-6, atol=1e-7)


@every_case
def test_loss_is_a_finite_scalar_with_a_useful_gradient(case: Case) -> None:
    x = case.input(torch.float32).requires_grad_()
    loss = case(*case.arguments(x))
    loss.backward()
    assert loss.shape == ()
    assert loss.isfinite()
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


@for_each(REDUCIBLE)
def test_reduction(case: Case) -> None:
    given = case.arguments(case.input())
    values = case(*given, reduction="none")
    assert values.shape[0] == N
    torch.testing.assert_close(case(*given, reduction="sum"), values.sum())
    torch.testing.assert_close(case(*given, reduction="mean"), values.mean())


@for_each(REDUCIBLE)
def test_a_reduction_that_does_not_exist_is_an_error(case: Case) -> None:
    message = r"`reduction` to be one of 'mean', 'sum', 'none' but got 'avg'"
    with pytest.raises(ValueError, match=message):
        case(*case.arguments(case.input()), reduction="avg")
    with pytest.raises(ValueError, match=message):
        case.build(reduction="avg")


@for_each([case for case in CASES if not case.reducible])
def test_a_loss_of_all_samples_has_no_reduction(case: Case) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'reduction'"):
        case(*case.arguments(case.input()), reduction="sum")


CLAMPED = [case for case in CASES if case.name == "SpikeSimilarity-linear-bce"]
SMOOTH = [case for case in CASES if case.smooth and case not in CLAMPED]


@for_each(SMOOTH)
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_gradient_is_the_derivative(case: Case, reduction: str) -> None:
    options = {"reduction": reduction} if case.reducible else {}
    x = off_the_corners(case)
    assert torch.autograd.gradcheck(lambda v: case(v, *case.arguments(x)[1:], **options), (x,))


@for_each(CLAMPED)
def test_gradient_is_the_derivative_where_nothing_is_clamped(case: Case) -> None:
    """Two samples of different labels; the similarity of a sample with itself is clamped."""
    x, labels, others = off_the_corners(case).detach()[1:], torch.tensor([0, 1]), 1 - torch.eye(2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: case(v, labels, reduction="none") * others, (x.requires_grad_(),))


@for_each(SMOOTH)
def test_gradient_can_be_taken_twice_and_differentiated(case: Case) -> None:
    x = off_the_corners(case)
    target = case.arguments(x)[1:]
    loss = case(x, *target)
    first, second = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(torch.autograd.grad(loss, x, create_graph=True)[0], first)
    assert torch.autograd.gradgradcheck(lambda v: case(v, *target), (x,), atol=1e-4, fast_mode=True)


@for_each([case for case in CASES if "Temporal" in case.name or case.name == "FirstSpike"])
def test_surrogate_gradient_is_minus_one_at_the_spike(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference gradient: that by the spike times, put at the step of each spike with sign -1."""
    x = case.input(seed=2)
    x[0, 0] = 0  # a silent neuron
    x[0, 1, 1:] = 0  # fewer spikes than ranks
    target = case.arguments(x)[1:]
    actual = gradient(case, x, *target, reduction="sum")

    ranks = len(case.options["on_target"]) if case.options.get("multi_spike") else 1
    silent = T if case.name == "FirstSpike" else T - 1
    times = functional.first_spike_times(x, ranks, silent=silent).requires_grad_()
    monkeypatch.setattr("lava_spikeloss.losses.temporal.times_of_ranks", lambda *_, **given: times)
    case(x, *target, reduction="sum").backward()
    expected = torch.zeros_like(x)
    for n in range(N):
        for c in range(C):
            fired = [t for t in range(T) if x[n, c, t] != 0]
            for f in range(ranks):
                expected[n, c, fired[f] if f < len(fired) else T - 1] -= times.grad[n, c, f]
    torch.testing.assert_close(actual, expected)


# --- modules, compilers, transforms -----------------------------------------------------------------------------------


@every_case
def test_module_equals_functional(case: Case) -> None:
    given = case.arguments(case.input())
    module = case.build()
    for twin in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(twin(*given), case(*given), rtol=0, atol=0)
    assert not list(module.parameters())


@every_case
def test_compiles_to_one_graph(case: Case) -> None:
    torch._dynamo.reset()
    module = case.build()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    x, y = case.input().requires_grad_(), case.input().requires_grad_()
    loss, expected = compiled(*case.arguments(x)), module(*case.arguments(y))
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(x.grad, y.grad)


INDUCTOR = ("SpikeTime", "SpikeMax", "SpikeMoid-window", "MSETemporal-multi", "TET", "STCA")  # 20 seconds each


@pytest.mark.slow
@for_each([case for case in CASES if case.name in INDUCTOR])
def test_compiles_with_inductor(case: Case) -> None:
    """The default compiler, with its own kernels: the same loss and gradient."""
    torch._dynamo.reset()
    x, y = case.input(torch.float32).requires_grad_(), case.input(torch.float32).requires_grad_()
    loss = torch.compile(case.build(), fullgraph=True)(*case.arguments(x))
    expected = case(*case.arguments(y))
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-5)


@every_case
def test_function_transforms(case: Case) -> None:
    """``torch.func``: gradient, Jacobian, tangents, and all of them over a batch of inputs."""
    x = off_the_corners(case).detach()
    target = case.arguments(x)[1:]
    expected = gradient(case, x, *target)

    def loss(v: torch.Tensor) -> torch.Tensor:
        return case(v, *target)

    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    torch.testing.assert_close(torch.func.jacrev(loss)(x), expected)
    torch.testing.assert_close(torch.func.jvp(loss, (x,), (torch.ones_like(x),))[1], expected.sum())
    both = torch.stack((x, case.input(seed=2)))
    torch.testing.assert_close(torch.func.vmap(loss)(both), torch.stack([loss(one) for one in both]))
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(both)[0], expected)


@for_each([case for case in CASES if "n" in case.free and case.target is not None and case not in SIMILARITIES])
def test_gradients_of_each_sample(case: Case) -> None:
    """Inputs and labels in a batch of ``torch.func.vmap``, where no label can be looked at."""

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return case(x.unsqueeze(0), y.unsqueeze(0), reduction="sum")

    x, target = case.arguments(off_the_corners(case).detach())
    expected = gradient(case, x, target, reduction="sum")
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x, target), expected)


# --- types and devices ------------------------------------------------------------------------------------------------


@every_case
@half_precision
def test_half_precision_is_accumulated_in_float32(case: Case, dtype: torch.dtype) -> None:
    half = case.input(dtype).requires_grad_()
    full = half.detach().float().requires_grad_()
    loss, expected = case(*case.arguments(half)), case(*case.arguments(full))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    loss.backward()
    expected.backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad, full.grad.to(dtype), rtol=1e-2, atol=1e-4)


@for_each([case for case in CASES if not case.membrane])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_bool_and_integer_spikes(case: Case, dtype: torch.dtype) -> None:
    spikes = case.input() > 0.5
    expected = case(*case.arguments(spikes.float()))
    torch.testing.assert_close(case(*case.arguments(spikes.to(dtype))), expected)


@every_case
def test_autocast_does_not_change_the_value(case: Case, device: torch.device) -> None:
    given, case = [tensor.to(device) for tensor in case.arguments(case.input(torch.float32))], on(device, case)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        loss = case(*given)
    torch.testing.assert_close(loss, case(*given), rtol=1e-5, atol=1e-6)


@every_case
def test_device(case: Case, device: torch.device) -> None:
    x, *target = (tensor.to(device) for tensor in case.arguments(case.input()))
    x.requires_grad_()
    loss = on(device, case)(x, *target)
    loss.backward()
    assert loss.device.type == x.grad.device.type == device.type
    torch.testing.assert_close(loss.cpu(), case(*case.arguments(case.input())))


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_host_and_accelerator_are_neither_mixed_nor_made_to_wait(case: Case, dtype: torch.dtype) -> None:
    x, *target = (tensor.to(DEVICE) for tensor in case.arguments(case.input(dtype)))
    x.requires_grad_()
    case = on(DEVICE, case)
    with Accelerator() as accelerator:
        loss = case(x, *target)
        loss.backward()
    assert not accelerator.waits
    assert loss.device == DEVICE
    assert (x.grad.shape, x.grad.dtype, x.grad.device) == (x.shape, dtype, DEVICE)


@for_each([case for case in LABELLED if not case.extra])
@pytest.mark.parametrize("form", ["indices", "int32", "one-hot", "multi-hot"])
def test_no_form_of_label_makes_the_host_wait(case: Case, form: str) -> None:
    one_hot = torch.nn.functional.one_hot(case.target, C)
    forms = {"indices": case.target, "int32": case.target.int(), "one-hot": one_hot, "multi-hot": one_hot > 0}
    x, labels = case.input(torch.float32).to(DEVICE), forms[form].to(DEVICE)
    with Accelerator() as accelerator:
        case(x, labels)
    assert not accelerator.waits


PER_STEP = [case for case in CLASSIFYING if not case.name.startswith(("STCA", "MSEMembrane"))]


@for_each(PER_STEP)
def test_labels_per_step_do_not_make_the_host_wait(case: Case) -> None:
    x, labels = case.input(torch.float32).to(DEVICE), case.target.unsqueeze(1).expand(N, T).to(DEVICE)
    with Accelerator() as accelerator:
        case(x, labels)
    assert not accelerator.waits


@for_each(WEIGHTED)
def test_class_weights_do_not_make_the_host_wait(case: Case) -> None:
    x, labels, weight = (v.to(DEVICE) for v in (case.input(torch.float32), case.target, torch.tensor(WEIGHT)))
    with Accelerator() as accelerator:
        case(x, labels, weight=weight)
    assert not accelerator.waits


PRIMITIVES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "first_spike_index": functional.first_spike_index,
    "first_spike_times": functional.first_spike_times,
    "spike_count": functional.spike_count,
    "moving_window_rate": lambda x: functional.moving_window_rate(x, 3),
    "exponential_filter": lambda x: functional.exponential_filter(x, 2.0),
    "exponential_filter-cut": lambda x: functional.exponential_filter(x, 2.0, length=4, filter_order=2),
    "delay": lambda x: functional.delay(x, 2),
    "delay-channels": lambda x: functional.delay(x, torch.arange(C, device=DEVICE)),
    "van_rossum_distance": lambda x: functional.van_rossum_distance(x, x, 2.0),
    "victor_purpura_distance": lambda x: functional.victor_purpura_distance(x, x, 0.5),
    "redundant_one_hot": lambda x: functional.redundant_one_hot(torch.zeros(N, dtype=torch.long, device=DEVICE), C, 2),
    "RateClassifier": L.RateClassifier(),
    "FirstSpikeClassifier": L.FirstSpikeClassifier(),
    "WindowClassifier": L.WindowClassifier(3),
}


@pytest.mark.parametrize("name", PRIMITIVES)
def test_no_primitive_makes_the_host_wait(name: str) -> None:
    x = torch.ones(N, C, T, device=DEVICE)
    with Accelerator() as accelerator:
        result = PRIMITIVES[name](x)
    assert result.device == DEVICE
    assert not accelerator.waits


# --- inputs -----------------------------------------------------------------------------------------------------------


@every_case
def test_arguments_are_not_changed(case: Case) -> None:
    given = case.arguments(case.input())
    before = [tensor.clone() for tensor in given]
    given[0].requires_grad_()
    case(*given).backward()
    assert all(torch.equal(*pair) for pair in zip(given, before, strict=True))


@every_case
def test_input_may_lie_in_memory_in_any_order(case: Case) -> None:
    x = case.input()
    strided = x.transpose(0, -1).contiguous().transpose(0, -1)
    target = case.arguments(x)[1:]
    torch.testing.assert_close(gradient(case, strided, *target), gradient(case, x, *target))


@every_case
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["silent", "all firing"])
def test_silence_and_firing_at_every_step_are_defined(case: Case, fill: float) -> None:
    x = torch.full_like(case.input(torch.float32), fill, requires_grad=True)
    loss = case(*case.arguments(x))
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


@for_each([case for case in CASES if "stop" not in case.options and not case.extra])
@pytest.mark.parametrize("fill", [0.0, 1.0], ids=["silent", "all firing"])
def test_a_single_step_is_defined(case: Case, fill: float) -> None:
    x = torch.full((N, case.neurons, 1), fill, requires_grad=True)
    target = [tensor[..., :1] if tensor.dim() == 3 else tensor for tensor in case.arguments(x)[1:]]
    loss = case(x, *target)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


@for_each([case for case in LABELLED if not case.extra])
def test_one_sample_of_one_class(case: Case) -> None:
    options = {"num_classes": 1} if "num_classes" in case.options else {}
    x = torch.ones(1, 2 if options else 1, T, requires_grad=True)
    loss = case(x, torch.tensor([0]), **options)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


@every_case
def test_empty_batch_is_an_error(case: Case) -> None:
    with pytest.raises(ValueError, match=r"to hold at least one element but got shape \(0, "):
        case(*(tensor[:0] for tensor in case.arguments(case.input())))


@every_case
def test_input_that_is_no_tensor_is_an_error(case: Case) -> None:
    with pytest.raises(TypeError, match=r"to be a torch.Tensor but got list"):
        case([[1.0]], *case.arguments(case.input())[1:])


# --- labels -----------------------------------------------------------------------------------------------------------


@for_each([case for case in LABELLED if case not in SIMILARITIES])
@pytest.mark.parametrize("label", [-1, C])
def test_label_out_of_range_is_an_error(case: Case, label: int) -> None:
    x, labels = case.arguments(case.input())
    labels[1] = label
    classes = len(ref.READOUT) if case.extra else C
    with pytest.raises(ValueError, match=rf"to hold class indices in \[0, {classes}\) but got values from"):
        case(x, labels)


@for_each(LABELLED)
def test_label_of_another_shape_is_an_error(case: Case) -> None:
    with pytest.raises(ValueError, match=r"to have shape \(3,\)"):
        case(case.input(), torch.zeros(N + 1, dtype=torch.long))


@for_each([case for case in LABELLED if case not in SIMILARITIES])
@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float32, torch.float64])
def test_label_dtypes(case: Case, dtype: torch.dtype) -> None:
    x, labels = case.arguments(case.input())
    torch.testing.assert_close(case(x, labels.to(dtype)), case(x, labels))


@for_each(PER_STEP + [case for case in LABELLED if case.extra])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_label_forms_agree(case: Case, dtype: torch.dtype) -> None:
    """Class indices, one-hot, and both of them per step say the same."""
    x, labels = case.arguments(case.input())
    expected = case(x, labels)
    one_hot = torch.nn.functional.one_hot(labels, len(ref.READOUT) if case.extra else C)
    torch.testing.assert_close(case(x, one_hot.to(dtype)), expected)
    torch.testing.assert_close(case(x, labels.unsqueeze(1).expand(N, T)), expected)
    torch.testing.assert_close(case(x, one_hot.unsqueeze(-1).expand(N, -1, T).to(dtype)), expected)


# Weights act inside of the formula of the others, and are compared with torch's in test_defects.py.
WEIGHING_SAMPLES = [case for case in WEIGHTED if case.name not in ("CECount-smoothed", "TET-lambda")]


@for_each(WEIGHING_SAMPLES)
def test_class_weights_are_those_of_cross_entropy_loss(case: Case) -> None:
    """Each sample weighs as much as its class; a mean is divided by the sum of the weights."""
    weight, given = torch.tensor(WEIGHT), case.arguments(case.input())
    plain = case(*given, reduction="none")
    each = torch.tensor([WEIGHT[y] for y in ref.LABELS], dtype=torch.float64)
    expected = plain * each.reshape(N, *[1] * (plain.dim() - 1))
    torch.testing.assert_close(case(*given, reduction="none", weight=weight), expected)
    torch.testing.assert_close(case(*given, reduction="sum", weight=weight), expected.sum())
    mean = expected.sum() / each.sum() / (plain.numel() / N)
    torch.testing.assert_close(case(*given, reduction="mean", weight=weight), mean)
    module = case.build(weight=weight)
    assert dict(module.named_buffers())["weight"] is weight
    torch.testing.assert_close(module(*given), mean)


@for_each(WEIGHTED)
def test_class_weights_of_another_number_are_an_error(case: Case) -> None:
    given, weight = case.arguments(case.input()), torch.tensor(WEIGHT)
    with pytest.raises(ValueError, match=r"`weight` to hold one value per class, 4, but got 3"):
        case(*given, weight=weight[:3])
    with pytest.raises(ValueError, match=r"`weight` to have shape \(C,\) but got \(2, 2\)"):
        case.build(weight=weight.reshape(2, 2))


# --- what may be put into another order -------------------------------------------------------------------------------


@for_each([case for case in CASES if "n" in case.free])
@quick
@given(seed=st.integers(0, 2**16), order=st.permutations(range(N)))
def test_order_of_samples_does_not_matter(case: Case, seed: int, order: list[int]) -> None:
    given = case.arguments(case.input(seed=seed))
    torch.testing.assert_close(case(*(tensor[order] for tensor in given)), case(*given))


@for_each([case for case in REDUCIBLE if "n" in case.free and case not in SIMILARITIES])
@quick
@given(seed=st.integers(0, 2**16), order=st.permutations(range(N)))
def test_each_sample_has_its_own_loss(case: Case, seed: int, order: list[int]) -> None:
    given = case.arguments(case.input(seed=seed))
    moved = case(*(tensor[order] for tensor in given), reduction="none")
    torch.testing.assert_close(moved, case(*given, reduction="none")[order])


@for_each([case for case in LABELLED if "c" in case.free])
@quick
@given(seed=st.integers(0, 2**16), order=st.permutations(range(C)))
def test_names_of_classes_do_not_matter(case: Case, seed: int, order: list[int]) -> None:
    x, labels = case.arguments(case.input(seed=seed))
    renamed = torch.tensor([order.index(y) for y in labels.tolist()])
    torch.testing.assert_close(case(x[:, order], renamed), case(x, labels))


@for_each([case for case in CASES if "t" in case.free])
@quick
@given(seed=st.integers(0, 2**16), order=st.permutations(range(T)))
def test_order_of_steps_does_not_matter(case: Case, seed: int, order: list[int]) -> None:
    x, *target = case.arguments(case.input(seed=seed))
    torch.testing.assert_close(case(x[..., order], *target), case(x, *target))
