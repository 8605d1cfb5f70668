"""What an export has to be judged by: the network's own forward, run and recorded here, on data that export never saw.

Nothing of ``netx_export.slayer`` is used: a network is run as its owner would run it.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_changes import HARMLESS
from random_forwards import CONDITIONAL, NEUTRAL, RANDOM
from random_networks import Block, Built, Network, Sample, build, given_sample, inputs
from torch import nn

from netx_export import ExportError, ExportResult, NetxExportError, check, export, simulate, verify

Array = Any


@dataclass(frozen=True)
class Verdict:
    """What came of a network: ``exported``, ``refused`` and why, and whether it was a plain one or ran on Lava."""

    outcome: str
    reason: str = ""
    plain: bool = False
    proved: bool = False
    on_lava: bool = False


@dataclass(frozen=True, eq=False)
class Run:
    """What a network's blocks made of an input, in the order in which they ran."""

    layers: list[Array]
    output: Any
    reached: torch.Tensor  # what the first block took


def examine(spec: Network, folder: Path, *, on_lava: bool = False) -> Verdict:
    """Export a network and judge the file by what the network does on other data.

    Raises:
        AssertionError: if a file differs from its network, something was changed, or a plain network was refused.
    """
    exported, twin = build(spec), build(spec)
    sample, path = given_sample(spec), folder / "network.net"
    path.unlink(missing_ok=True)
    before, kept = _trace(exported.net), None if sample is None else sample.detach().clone()
    try:
        result, reason = _try_to_export(exported.net, path, sample)
    except Exception as error:
        raise AssertionError(f"export ended in {error!r}\n{spec}") from error
    changed = _differences(before, _trace(exported.net))
    assert not changed, f"export changed the network: {changed}\n{spec}"
    assert sample is None or _same_tensor(sample, kept), f"export changed the sample\n{spec}"
    if result is None:
        _check_refusal(spec, twin, reason, path)
        return Verdict("refused", reason, is_plain(spec))
    for number, other in enumerate(_other_data(spec)):
        _judge(spec, exported if number else twin, result, other, verified=number == 1)
    if on_lava:
        _judge_on_lava(spec, path)
    return Verdict("exported", "", is_plain(spec), result.proved, on_lava)


def _try_to_export(net: nn.Module, path: Path, sample: torch.Tensor | None) -> tuple[ExportResult | None, str]:
    """The result, or why there is none. Where nothing but evidence is missing, silence is allowed."""
    try:
        return export(net, path, sample), ""
    except (ExportError, ValueError, TypeError) as error:
        reason = str(error)
    silent = re.search(r"allow_silent=(\[.*?\])", reason)
    if silent is None:
        return None, reason
    return export(net, path, sample, allow_silent=ast.literal_eval(silent[1])), ""


# ---------------------------------------------------------------------------------------- what the network itself does


def run(spec: Network, built: Built, x: torch.Tensor) -> Run:
    """The network's own forward in evaluation mode and from rest, each block's output recorded.

    Neurons that were asked to keep their state keep it, as they do for their owner.
    """
    built.net.eval()
    if not _asked_to_keep_state(spec):
        _rest(built.net)
    x = x.to(next(built.net.parameters(), x).dtype, copy=True)
    layers: list[Array] = []
    taken: list[torch.Tensor] = []
    handles = [block.register_forward_pre_hook(_keeping(taken), with_kwargs=True) for block in built.blocks]
    handles += [
        block.register_forward_hook(lambda module, args, output: layers.append(_array(output)))
        for block, described in zip(built.blocks, spec.blocks, strict=True)
        if described.spikes
    ]
    try:
        with torch.no_grad():
            output = built.net(x) if _forward_counts(spec) else _chain(built, x)
    finally:
        for handle in handles:
            handle.remove()
    return Run(layers, output, taken[0] if taken else x)


def _keeping(taken: list[torch.Tensor]) -> Any:
    def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        taken.append(first.detach().float().clone())

    return hook


def _forward_counts(spec: Network) -> bool:
    """Without a sample, export reads blocks and never runs the forward: only they can be judged."""
    return spec.sample is not None


def _asked_to_keep_state(spec: Network) -> bool:
    if any(block.kind in ("cuba.Recurrent", "cuba.KWTA") for block in spec.blocks):
        return False  # these keep it unasked
    options = any((block.neuron or {}).get("persistent_state") for block in spec.blocks)
    return options or any("persistent" in name for _, name in spec.changes)


def _chain(built: Built, x: torch.Tensor) -> torch.Tensor:
    for block in built.blocks:
        mode = {"mode": type(block.mode).SNN} if hasattr(block, "_forward_snn") else {}
        x = block(x, **mode)
    return x


def _rest(net: nn.Module) -> None:
    """SLAYER's own state put to rest; what the network itself remembers stays, as it does for its owner."""
    for module in net.modules():
        if getattr(module, "delay_buffer", None) is not None:
            module.delay_buffer = None
        for name in (
            *("current_state", "voltage_state", "real_state", "imag_state", "spike_state"),
            *("pre_state", "residual_state", "error_state"),
        ):
            state = getattr(module, name, None)
            if isinstance(state, torch.Tensor):
                setattr(module, name, torch.zeros(1, dtype=state.dtype))


def _array(output: Any) -> Array:
    tensor = output[0] if isinstance(output, tuple | list) else output
    return tensor.detach().double().flatten(1, -2).numpy().copy()


# ----------------------------------------------------------------------------------------------------------- judgement


def _other_data(spec: Network) -> list[torch.Tensor]:
    """Quiet, loud and other-sized data, always the same for a network."""
    loud = 3.0 if spec.graded else 0.9
    usual = (spec.sample.samples if spec.sample else 4, 16, 0.4)
    kinds = [usual, (6, 24, loud), (6, 24, 0.15), (1, 7, 0.5)]  # two of a shape, for a network that remembers
    return [
        inputs(spec, Sample(samples, steps, rate), seed=1000 + spec.seed + number)
        for number, (samples, steps, rate) in enumerate(kinds)
    ]


def _judge(spec: Network, built: Built, result: ExportResult, x: torch.Tensor, *, verified: bool) -> None:
    try:
        truth = run(spec, built, x)
    except Exception as error:
        if result.proved:
            raise AssertionError(f"proved, but the network cannot run: {error!r}\n{spec}") from error
        return
    if result.begins_inside and not result.proved and not _takes(result, _entering(truth, result, x)):
        return  # a silent sample hid that no spikes reach the first block, and the file says so of any other
    what = _first_difference(truth, result, x)
    if verified:
        _check_verify(spec, built, result, x, equal=not what)
    if what and not _out_of_range(result.path, _entering(truth, result, x)) and not beyond_any_sample(spec):
        proved = "proved" if result.proved else "without a sample"
        raise AssertionError(f"exported ({proved}), but {what}, on data of shape {tuple(x.shape)}\n{spec}")


def _first_difference(truth: Run, result: ExportResult, x: torch.Tensor) -> str:
    """Where the file does something else than the network did; empty if nowhere."""
    try:
        simulation = simulate(result.path, _entering(truth, result, x))
    except NetxExportError as error:
        return f"the file cannot run on what its network ran on: {error}"
    if len(simulation.layers) != len(truth.layers):
        return f"the file has {len(simulation.layers)} spiking layers, the network ran {len(truth.layers)}"
    for (name, got), expected in zip(simulation.layers.items(), truth.layers, strict=True):
        got = got.reshape(len(got), -1, got.shape[-1])
        if got.shape != expected.shape:
            return f"{name} has shape {got.shape}, in the network {expected.shape}"
        if not np.array_equal(got, expected):
            return f"{(got != expected).sum()} of {got.size} values of {name} differ"
    if result.ends_inside or any(_is_output(part, simulation.output) for part in _parts(truth.output)):
        return ""  # what is returned is made of the output by the host, or it is among that
    return "nothing that the network returns is the file's output"


def _parts(returned: Any) -> list[Any]:
    if isinstance(returned, dict):
        return list(returned.values())
    return list(returned) if isinstance(returned, tuple | list) else [returned]


def _is_output(part: Any, output: Array) -> bool:
    return isinstance(part, torch.Tensor | np.ndarray) and np.array_equal(np.asarray(part, dtype=np.float64), output)


def _takes(result: ExportResult, entering: torch.Tensor) -> bool:
    try:
        simulate(result.path, entering)
    except NetxExportError:
        return False
    return True


def _entering(truth: Run, result: ExportResult, x: torch.Tensor) -> torch.Tensor:
    """What goes into the file: the data, or if it says that it begins inside of the forward, what reached a block."""
    if not result.begins_inside:
        return x
    return truth.reached.reshape(len(x), *result.description.input_shape, -1)


def _out_of_range(path: Path, x: torch.Tensor) -> bool:
    """Whether `check` says of this data that states leave what Lava, or SLAYER, can hold: then the two may differ."""
    with_data, without = ({(one.rule, one.layer) for one in check(path, sample=sample)} for sample in (x, None))
    return bool(with_data - without)


def beyond_any_sample(spec: Network) -> bool:
    """Whether forward does one thing on some data and another on other data, which no sample can show."""
    return any(name in CONDITIONAL for _, name in spec.operations)


def _check_verify(spec: Network, built: Built, result: ExportResult, x: torch.Tensor, *, equal: bool) -> None:
    """`verify` has to come to the same judgement."""
    if not _forward_counts(spec) or beyond_any_sample(spec) or _is_random(spec):
        return
    try:
        report = verify(built.net, result.path, x.clone(), lava_samples=0)
    except NetxExportError as error:
        if equal:
            raise AssertionError(f"verify refuses what is equal: {error}\n{spec}") from error
        return
    assert report.exact == equal, f"verify says exact={report.exact}, but equal={equal}\n{spec}"
    assert equal or not report.passed, f"verify passes what is different\n{spec}"


def _is_random(spec: Network) -> bool:
    """Whether two runs of the network differ, so that two comparisons may."""
    return any(name in RANDOM for _, name in (*spec.operations, *spec.changes))


def _judge_on_lava(spec: Network, path: Path) -> None:
    x = _other_data(spec)[0]
    reference, lava = simulate(path, x), simulate(path, x, backend="lava")
    for name, expected in reference.layers.items():
        different = int((expected != lava.layers[name]).sum())
        assert not different, f"{different} of {expected.size} values of {name} differ on Lava\n{spec}"


# ------------------------------------------------------------------------------------------------------------ refusals


def is_plain(spec: Network) -> bool:
    """Whether a network is a chain of supported options, given a sample that it can run on: it has to be exported."""
    if spec.order is not None or spec.returns not in ("tensor", "tuple") or spec.sample is None:
        return False
    if spec.change_of_all not in ("", "hook that looks at the network", "no gradients"):
        return False
    if any(name not in NEUTRAL for _, name in spec.operations) or any(name not in HARMLESS for _, name in spec.changes):
        return False
    if spec.holder in ("spare block", "spare parameter", "unregistered", "backwards", "by kind"):
        return False
    if spec.sample.form in ("no steps", "no samples", "NaN", "sparse") or (spec.graded and spec.sample.form == "bool"):
        return False
    if spec.graded and spec.sample.form in ("float16", "int64", "uint8"):
        return False
    return all(_supported(spec, index) for index in range(len(spec.blocks)))


def _supported(spec: Network, index: int) -> bool:
    block = spec.blocks[index]
    neuron, options = block.neuron or {}, block.options
    if {"graded_spike", "persistent_state", "cum_error"} & set(neuron) or {"pre_hook_fx", "count_log"} & set(options):
        return False
    if options.get("weight_scale", 1) not in (1, 2, 3, 4, 8):
        return False
    if "mask" in options and math.prod(block.sizes) < 9:
        return False  # it may leave no weight at all, which netx cannot load
    if not spec.ran and ("delay" in options or neuron.get("shared_param") is False):
        return False
    checks = (_supported_delay(spec, index), _supported_neuron(block), _supported_norm(block))
    return all(checks)


def _supported_delay(spec: Network, index: int) -> bool:
    """A delay is made by the next layer, so that has to be a dense one, or there has to be none."""
    if "delay" not in spec.blocks[index].options:
        return True
    behind = [block.kind for block in spec.blocks[index + 1 :] if block.spikes]
    return not behind or behind[0] in ("cuba.Dense", "sigma_delta.Dense", "sigma_delta.Output")


def _supported_neuron(block: Block) -> bool:
    neuron = block.neuron or {}
    family = block.kind.rpartition(".")[0]
    if family in ("cuba", "bootstrap"):
        return _supported_cuba(block.kind.rpartition(".")[2], neuron)
    if family in ("rf", "rf_iz"):
        return 0.1 < neuron.get("threshold", 1) < 100 and "requires_grad" not in neuron
    usual = neuron.get("threshold", 0.1) in (0.1, 0.25, 1 / 64, 1.0) and neuron.get("activation", "relu") == "relu"
    return usual and not {"scale", "requires_grad"} & set(neuron)


def _supported_cuba(name: str, neuron: dict[str, Any]) -> bool:
    scale = neuron.get("scale", 64)
    if scale not in ((64,) if name == "Input" else (32, 64, 128)) or not 1 <= neuron.get("threshold", 1) * scale < 4096:
        return False
    if neuron.get("shared_param") is False:
        return name not in ("Conv", "ConvT", "Pool", "Unpool", "Input")
    current_decay, voltage_decay = neuron.get("current_decay", 1), neuron.get("voltage_decay", 0)
    return bool(1 / 64 < current_decay <= 1 and 0 <= voltage_decay < 0.99)


def _supported_norm(block: Block) -> bool:
    neuron = block.neuron or {}
    if block.kind == "cuba.KWTA":
        return block.sizes[2] * 2 == block.sizes[1] or neuron.get("current_decay") == 1.0
    if neuron.get("norm") == "WgtScaleBatchNorm":
        return False
    return "norm" not in neuron or block.kind.rpartition(".")[0] in ("cuba", "bootstrap", "sigma_delta")


def _check_refusal(spec: Network, twin: Built, reason: str, path: Path) -> None:
    assert len(reason) > 20, f"refused without a reason: {reason!r}\n{spec}"
    assert not path.exists(), f"refused, but a file was left\n{spec}"
    if not is_plain(spec):
        return
    sample = given_sample(spec)
    assert sample is not None
    try:
        run(spec, twin, sample.detach().float())
    except Exception:  # then there is nothing to export
        return
    justified = _weights_would_change(spec, reason) or _left_a_limit(reason)
    assert justified, f"a plain network was refused: {reason}\n{spec}"


def _weights_would_change(spec: Network, reason: str) -> bool:
    """Whether a layer that cannot be written as a convolution is refused for weights that netx would alter."""
    altered = "would be altered when netx and Lava load them" in reason
    return altered and any(not _can_be_convolution(block) for block in spec.blocks)


def _left_a_limit(reason: str) -> bool:
    """Whether the sample itself is too loud, which can be the cause only if it was so before the first difference."""
    steps = re.search(r"first at step (\d+).* beyond \d+ at step (\d+)", reason)
    return steps is not None and int(steps[2]) <= int(steps[1])


def _can_be_convolution(block: Block) -> bool:
    name = block.kind.rpartition(".")[2]
    return name not in ("Recurrent", "KWTA") and "delay" not in block.options and not block.kind.startswith("rf")


# -------------------------------------------------------------------------------------------- what must not be changed


def _trace(net: nn.Module) -> dict[str, Any]:
    """All that a network holds: parameters, buffers, attributes, modes, hooks; and the random state."""
    trace: dict[str, Any] = {"random state": torch.get_rng_state().numpy().tobytes()}
    for prefix, module in net.named_modules():
        for name, value in module.__dict__.items():
            content = value.items() if isinstance(value, dict) else [("", value)]
            trace |= {f"{prefix}.{name}.{key}": _content(one) for key, one in content}
    return trace


def _content(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        dense = value.detach().to_dense().reshape(-1).contiguous()
        return str(value.dtype), tuple(value.shape), dense.view(torch.uint8).numpy().tobytes()
    return value if isinstance(value, bool | int | float | str | tuple) else id(value)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name, ...) != after.get(name, ...))


def _same_tensor(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    assert other is not None
    one = one.detach()
    if one.is_sparse:
        return torch.equal(one.to_dense(), other.to_dense())
    return one.shape == other.shape and bool(((one == other) | (one != one)).all())
