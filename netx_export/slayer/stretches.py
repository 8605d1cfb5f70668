"""Why a forward is no chain of its blocks: what it does in the stretch before a block, or before it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from netx_export.errors import ExportError
from netx_export.slayer.blocks import kind, refuse
from netx_export.slayer.passes import INPUT, Draw, Pass, Passes, Seen, random_events, same_numbers
from netx_export.slayer.running import evaluation

__all__ = ["refuse_output", "refuse_stretch"]

_ONLY_A_CHAIN = (
    "Only a chain can be exported: each block takes what the block before it made, all of it and nothing else, in "
    "whatever order."
)
_CHANGES = "changes from run to run, by chance or by what the forward remembers"
_TRIALS = 4  # random outputs of the last block: two of them may decode to the same class


def refuse_stretch(passes: Passes, position: int) -> NoReturn:
    """Raise the error that says what the forward does before a part that does not take what the part before made."""
    part = passes.parts[position]
    _refuse_strays(passes, lambda run, other: run.taken[position].equals(other.taken[position]))
    first, again = (passes.at_random(Draw(0)).taken[position] for _ in range(2))
    if not first.equals(again):
        refuse(part.index, part.block, f"its input is not what the block before it made: it {_CHANGES}", _ONLY_A_CHAIN)
    sources = _sources(passes, lambda run, other: run.taken[position].equals(other.taken[position]), position)
    if sources == [position - 1]:
        what = f"the network's forward {_change(passes, position)}"
    else:
        what = f"it takes {_made_by(passes, sources)}" if sources else "it depends on no block"
    refuse(part.index, part.block, f"its input is not what the block before it made: {what}", _ONLY_A_CHAIN)


def _refuse_strays(passes: Passes, same: Callable[[Pass, Pass], bool]) -> None:
    """Raise if what is compared depends on a block with weights that is no part of the network.

    That is the better reason, where the forward cannot be exported anyway. Elsewhere such a block belongs to the host,
    as whatever else the forward does before its first block, behind its last one, or beside them.
    """
    for number, name in enumerate(_strays(passes)[0]):
        first, again, other = (_strays(passes, number, seed)[1] for seed in (0, 0, 1))
        if same(first, again) and not same(first, other):
            raise ExportError(
                f"The network's forward runs a {name} that is no part of the network, as if it lay in a plain "
                f"list or dictionary: it is neither trained nor saved with it. Put its blocks into attributes, a "
                f"torch.nn.ModuleList or a torch.nn.ModuleDict."
            )


def _strays(passes: Passes, replaced: int | None = None, seed: int = 0) -> tuple[list[str], Pass]:
    """The blocks with weights that a forward runs and the network does not hold, call by call, and that pass.

    One of these calls may have random spikes in the place of what it makes. Each pass is an evaluation of its own, so
    that all draw the same random numbers and the forward remembers the same.
    """
    held = {id(module) for module in passes.net.modules()}
    names: list[str] = []

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        if id(module) in held or not kind(module) or next(module.parameters(), None) is None:
            return output
        names.append(kind(module))
        if len(names) - 1 != replaced or not isinstance(output, torch.Tensor):
            return output
        return random_events(torch.Generator().manual_seed(seed), tuple(output.shape), 0.5).to(output)

    with evaluation(passes.net), register_module_forward_hook(after):
        run = passes.at_random(Draw(0))
    return names, run


def _made_by(passes: Passes, sources: list[int]) -> str:
    blocks = dict.fromkeys(passes.parts[source].name for source in sources if source != INPUT)
    made = f"what {' and '.join(blocks)} made" if blocks else ""
    given = "what the network was given" if INPUT in sources else ""
    return " and ".join(filter(None, [given, made]))


def _sources(passes: Passes, same: Callable[[Pass, Pass], bool], end: int) -> list[int]:
    """The parts before ``end``, or INPUT for the network's input, of which one alone changes what is compared."""
    first = passes.at_random(Draw(0))
    return [source for source in (INPUT, *range(end)) if not same(first, passes.at_random(Draw(0), {source: Draw(1)}))]


def _change(passes: Passes, position: int) -> str:
    """What happens to the values that the part before made, and to no other values, on their way to this part."""
    run = passes.at_random(Draw(0), keep=(position - 1, position))
    made, taken = Seen.of(run.kept["made", position - 1]), Seen.of(run.kept["taken", position])
    if (made.rows, made.steps) != (taken.rows, taken.steps):
        return f"makes {taken.rows} rows of {taken.steps} steps of {made.rows} rows of {made.steps} steps"
    for axis, name in ((-1, "steps"), (0, "samples")):
        if _crosses(passes, position, axis):
            return f"takes values of other {name}, or mixes {name}"
    known = torch.isin(taken.codes, made.codes)
    values = run.kept["taken", position].flatten(1, -2)
    constant = ~known & (values == values[:1, :, :1]).all(-1).all(0).cpu()
    if not (known | constant).all():
        return _arithmetic(run, position, int((~known & ~constant).sum()), len(known))
    if constant.any():
        return f"puts constants in the place of {int(constant.sum())} of {len(constant)} values"
    dropped = int((~torch.isin(made.codes, taken.codes)).sum())
    if dropped:
        return f"drops {dropped} of {len(made.codes)} values"
    if len(taken.codes) > len(made.codes):
        return f"takes {len(taken.codes)} values of {len(made.codes)}, some of them more than once"
    return "does something else on some data, or at a later run, than on others"


def _arithmetic(run: Pass, position: int, number: int, total: int) -> str:
    events = [Seen.of((run.kept[key] != 0).float()).codes for key in (("made", position - 1), ("taken", position))]
    does = "multiplies the values" if torch.isin(events[1], events[0]).all() else "computes with the values"
    return f"{does}: {number} of {total} are none of those that were made"


def _crosses(passes: Passes, position: int, axis: int) -> bool:
    """Whether what a part takes at one place along samples or steps depends on what was made for it at another."""
    early, late = (_taken(passes, position, Draw(seed)) for seed in (0, 1))
    size = early.shape[axis]
    for start in {1, size - 1}:
        mixed = _taken(passes, position, Draw(0, 1, axis, start))
        expected = (early.narrow(axis, 0, start), late.narrow(axis, start, size - start))
        if not torch.equal(mixed, torch.cat(expected, axis)):
            return True
    return False


def _taken(passes: Passes, position: int, draw: Draw) -> torch.Tensor:
    """What a part takes if the part before it makes these random values, and all others make the same as ever."""
    return passes.at_random(Draw(0), {position - 1: draw}, keep=(position,)).kept["taken", position]


def refuse_output(passes: Passes) -> None:
    """Raise if nothing that the network returns depends on the last block and on no other.

    Such as what is decoded of its spikes, which the host may go on doing behind the file.
    """
    last = len(passes.parts) - 1
    first, own = passes.at_random(Draw(0)), passes.own()
    others = passes.at_random(Draw(0), dict.fromkeys((INPUT, *range(last)), Draw(1)))
    varied = [(first, passes.at_random(Draw(0), {last: Draw(seed)})) for seed in range(1, _TRIALS)]
    varied.append((own, passes.own({last: Draw(0)})))
    for component in range(len(first.returned)):
        if _same(first, others, component) and not all(_same(*pair, component) for pair in varied):
            return
    _refuse_strays(passes, _same_output)
    if not _same_output(first, passes.at_random(Draw(0))):
        raise ExportError(
            f"Not exported: the network does not return what its last block made, nor anything that follows from it "
            f"alone: what it returns {_CHANGES}. Return what the last block made, or what is computed of that alone."
        )
    sources = _sources(passes, _same_output, last + 1)
    if not sources and first.unread:
        types = ", ".join(sorted(set(first.unread)))
        raise ExportError(
            f"Not exported: the network returns its result in an object of type {types}, which is not looked into, so "
            f"what it follows from is not seen. Return tensors, arrays or numbers, by themselves or in tuples, lists, "
            f"dictionaries or dataclasses."
        )
    what = f"takes {_made_by(passes, sources)}" if sources else "depends on no block"
    raise ExportError(
        f"Not exported: the network does not return what its last block made, nor anything that follows from it alone: "
        f"what it returns {what}. A file ends with its last layer, and holds neither skip connections nor a second "
        f"output. Return what the last block made, or what is computed of that alone."
    )


def _same(one: Pass, other: Pass, component: int) -> bool:
    if len(one.returned) != len(other.returned):
        return False
    return same_numbers(one.returned[component], other.returned[component])


def _same_output(one: Pass, other: Pass) -> bool:
    return len(one.returned) == len(other.returned) and all(
        _same(one, other, component) for component in range(len(one.returned))
    )
