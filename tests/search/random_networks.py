"""Random SLAYER networks as people write them: what describes one, how it is built, and how one is drawn.

A :class:`Network` is plain data whose ``repr`` can be pasted into a test: ``examine(Network(...), folder)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from random_changes import CHANGES, CHANGES_OF_ALL
from random_forwards import OPERATIONS, RETURNS
from torch import nn

Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple[int, ...]
_HOST = ("Input", "Flatten", "Average", "Affine")  # blocks without spikes of their own


@dataclass(frozen=True)
class Block:
    """A block of lava-dl: its class, and what its constructor gets, with random or unprintable values by name."""

    kind: str
    sizes: tuple[Any, ...] = ()
    neuron: dict[str, Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def spikes(self) -> bool:
        return self.kind.rpartition(".")[2] not in _HOST


@dataclass(frozen=True)
class Sample:
    """Input that is given to export."""

    samples: int = 4
    steps: int = 16
    rate: float = 0.4
    form: str = "float32"


@dataclass(frozen=True)
class Network:
    """A network and how it is used.

    Attributes:
        shape: shape of the input without batch and time.
        blocks: the blocks as they are registered.
        order: the blocks as forward runs them; None for as they are registered.
        operations: what forward does besides, as pairs (before which run of a block, name in ``OPERATIONS``).
        returns: what forward returns, a name in ``RETURNS``.
        by_keyword: whether blocks are called by keyword.
        holder: how the blocks are held, a name in ``HOLDERS``.
        changes: what was done after construction, as pairs (block, name in ``CHANGES``).
        change_of_all: what was done to the network as a whole, a name in ``CHANGES_OF_ALL``.
        shared: whether blocks with the same neurons were made from one dictionary, which lava-dl writes into.
        ran: whether the network had seen data before its changes.
        training: whether it is in training mode when it is exported.
        sample: what export gets; None for nothing.
        seed: of all that is random in it.
    """

    shape: Shape
    blocks: tuple[Block, ...]
    order: tuple[int, ...] | None = None
    operations: tuple[tuple[int, str], ...] = ()
    returns: str = "tensor"
    by_keyword: bool = False
    holder: str = "list"
    changes: tuple[tuple[int, str], ...] = ()
    change_of_all: str = ""
    shared: bool = False
    ran: bool = True
    training: bool = False
    sample: Sample | None = Sample()
    seed: int = 0

    @property
    def graded(self) -> bool:
        """Whether it takes numbers, not spikes."""
        return self.blocks[0].kind.endswith(".Input") and self.blocks[0].neuron is not None


# ------------------------------------------------------------------------------------------------------------ building


class Written(nn.Module):
    """A network whose forward does what its description says."""

    def __init__(self, spec: Network, blocks: list[Any]) -> None:
        super().__init__()
        self.spec, self.seed = spec, spec.seed
        self.memory: torch.Tensor | None = None
        self.calls = 0
        self.chain = HOLDERS[spec.holder](self, blocks)

    def forward(self, x: torch.Tensor) -> Any:
        self.seen = [x]
        order = self.spec.order if self.spec.order is not None else range(len(self.spec.blocks))
        for position, index in enumerate(order):
            x = self._between(position, x)
            self.seen.append(x)
            x = self._run(self.chain()[index], x)
        x = self._between(len(order), x)
        output = RETURNS[self.spec.returns](x, self)
        del self.seen
        return output

    def _between(self, position: int, x: torch.Tensor) -> torch.Tensor:
        for place, name in self.spec.operations:
            if place == position:
                x = OPERATIONS[name](x, self)
        return x

    def _run(self, block: Any, x: torch.Tensor) -> torch.Tensor:
        mode = {"mode": type(block.mode).SNN} if hasattr(block, "_forward_snn") else {}
        return block(x=x, **mode) if self.spec.by_keyword else block(x, **mode)


class Wrapper(nn.Module):
    """A network inside of another that only passes on."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def _module_list(net: nn.Module, blocks: list[Any]) -> Callable[[], list[Any]]:
    net.blocks = nn.ModuleList(blocks)
    return lambda: list(net.blocks)


def _attributes(net: nn.Module, blocks: list[Any]) -> Callable[[], list[Any]]:
    for index, block in enumerate(blocks):
        setattr(net, f"layer{index}", block)
    return lambda: [getattr(net, f"layer{index}") for index in range(len(blocks))]


def _backwards(net: nn.Module, blocks: list[Any]) -> Callable[[], list[Any]]:
    """Registered the other way round than they run."""
    net.blocks = nn.ModuleList(blocks[::-1])
    return lambda: list(net.blocks)[::-1]


def _nested(net: nn.Module, blocks: list[Any]) -> Callable[[], list[Any]]:
    half = len(blocks) // 2
    net.first, net.last = nn.Sequential(*blocks[:half]), nn.ModuleDict({"blocks": nn.Sequential(*blocks[half:])})
    return lambda: [*net.first, *net.last["blocks"]]


def _by_kind(net: nn.Module, blocks: list[Any]) -> Callable[[], list[Any]]:
    """Two lists, of blocks with weights and of those without, as convolutions and pools are often kept."""
    with_weights = [any(True for _ in block.parameters()) for block in blocks]
    net.layers = nn.ModuleList(block for block, has in zip(blocks, with_weights, strict=True) if has)
    net.others = nn.ModuleList(block for block, has in zip(blocks, with_weights, strict=True) if not has)

    def chain() -> list[Any]:
        layers, others = iter(net.layers), iter(net.others)
        return [next(layers) if has else next(others) for has in with_weights]

    return chain


def _unregistered(net: nn.Module, blocks: list[Any]) -> Callable[[], list[Any]]:
    """The last block in a plain list, which torch does not look into."""
    net.blocks, net.hidden = nn.ModuleList(blocks[:-1]), [blocks[-1]]
    return lambda: [*net.blocks, *net.hidden]


def _with_spare_block(net: nn.Module, blocks: list[Any]) -> Callable[[], list[Any]]:
    from lava.lib.dl.slayer.block import cuba

    net.spare = cuba.Dense({"threshold": 1, "current_decay": 0.5, "voltage_decay": 0.1}, 3, 2)
    return _module_list(net, blocks)


def _with_parameter(net: nn.Module, blocks: list[Any]) -> Callable[[], list[Any]]:
    net.temperature = nn.Parameter(torch.ones(1))
    return _module_list(net, blocks)


HOLDERS: dict[str, Callable[[nn.Module, list[Any]], Callable[[], list[Any]]]] = {
    "list": _module_list,
    "attributes": _attributes,
    "nested": _nested,
    "sequential": _module_list,  # replaced by nn.Sequential itself, see `build`
    "wrapped": _module_list,
    "data parallel": _module_list,
    "by kind": _by_kind,
    "backwards": _backwards,
    "spare block": _with_spare_block,
    "spare parameter": _with_parameter,
    "unregistered": _unregistered,
}
_WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {"wrapped": Wrapper, "data parallel": nn.DataParallel}


@dataclass(frozen=True, eq=False)
class Built:
    """A network as torch module, and its blocks as they were registered in its description."""

    net: nn.Module
    blocks: list[Any]


def build(spec: Network) -> Built:
    """The network that a description says, the same each time."""
    torch.manual_seed(spec.seed)
    known: list[tuple[Any, Any]] = []
    blocks = [make_block(block, known if spec.shared else []) for block in spec.blocks]
    # A bootstrap block runs as spiking neurons only if it is told to, which nn.Sequential does not.
    if spec.holder == "sequential" and not any(block.kind.startswith("bootstrap.") for block in spec.blocks):
        net: nn.Module = nn.Sequential(*blocks)
    else:
        net = _WRAPPERS.get(spec.holder, lambda net: net)(Written(spec, blocks))
    if spec.ran:
        _let_it_see_data(spec, net, blocks)
    for index, name in spec.changes:
        CHANGES[name](blocks[index])
    if spec.change_of_all:
        CHANGES_OF_ALL[spec.change_of_all](net)
    net.train(spec.training)
    return Built(net, blocks)


def _let_it_see_data(spec: Network, net: nn.Module, blocks: list[Any]) -> None:
    """A few passes in training mode, which make delays and decays; norms learn. What cannot run is left as it is."""
    net.train()
    values = inputs(spec, Sample(samples=3, steps=12), seed=spec.seed + 1)
    try:
        with torch.no_grad():
            for _ in range(2):
                net(values.clone())
    except Exception:  # a forward may raise anything, and what export then says of it is what is judged
        return
    for module in net.modules():
        if isinstance(module, Written):
            module.memory, module.calls = None, 0
    for block in blocks:
        if getattr(block, "delay", None) is not None:
            block.delay.delay.data = torch.rand_like(block.delay.delay) * 6


def make_block(block: Block, known: list[tuple[Any, Any]]) -> Any:
    """The block of lava-dl that a description says; ``known`` holds the dictionaries of neurons made before."""
    import lava.lib.dl.bootstrap.block as bootstrap
    from lava.lib.dl.slayer import block as slayer_blocks

    family, _, name = block.kind.rpartition(".")
    package: Any = bootstrap if family == "bootstrap" else slayer_blocks
    module = package.cuba if family == "bootstrap" else getattr(package, family)
    options = dict(block.options)
    if "mask" in options:
        options["mask"] = torch.rand(block.sizes[1], block.sizes[0]) < options["mask"]
    neuron = [] if name in ("Flatten", "Average") else [_neuron(block.neuron, known)]
    return getattr(module, name)(*neuron, *block.sizes, **options)


def _neuron(parameters: dict[str, Any] | None, known: list[tuple[Any, Any]]) -> dict[str, Any] | None:
    from lava.lib.dl.slayer import neuron

    if parameters is None:
        return None
    for described, dictionary in known:
        if described == parameters:
            return dictionary
    named: dict[str, Callable[[Any], Any]] = {
        "dropout": neuron.Dropout,
        "norm": lambda name: getattr(neuron.norm, name),
        "activation": lambda name: getattr(torch, name),
    }
    made = {name: named[name](value) if name in named else value for name, value in parameters.items()}
    known.append((parameters, made))
    return made


def inputs(spec: Network, sample: Sample, seed: int) -> torch.Tensor:
    """Spikes, or numbers for a network with input neurons, ``(N, C, ..., T)``, float32."""
    generator = torch.Generator().manual_seed(seed)
    size = (sample.samples, *spec.shape, sample.steps)
    if spec.graded:
        return torch.randn(size, generator=generator).cumsum(-1) * sample.rate
    return (torch.rand(size, generator=generator) < sample.rate).float()


def given_sample(spec: Network) -> torch.Tensor | None:
    """What export gets."""
    if spec.sample is None:
        return None
    return FORMS[spec.sample.form](inputs(spec, spec.sample, spec.seed + 2))


FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "float32": lambda x: x,
    "float64": lambda x: x.double(),
    "float16": lambda x: x.half(),
    "int64": lambda x: x.long(),
    "uint8": lambda x: x.to(torch.uint8),
    "bool": lambda x: x > 0,
    "not contiguous": lambda x: x.movedim(-1, 1).contiguous().movedim(1, -1),
    "every second step": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "requires grad": lambda x: x.requires_grad_(),
    "zeros": torch.zeros_like,
    "expanded": lambda x: x[:1].expand_as(x),
    "no steps": lambda x: x[..., :0],
    "no samples": lambda x: x[:0],
    "NaN": lambda x: x + float("nan"),
    "sparse": lambda x: x.to_sparse(),
}


# ------------------------------------------------------------------------------------------------------------- drawing

_THRESHOLDS = (0.5, 0.25, 1.0, 1.25, 0.3, 2.0, 1 / 64)
_DECAYS = (0.25, 0.1, 1.0, 0.5, 0.03)
_VOLTAGE_DECAYS = (0.03, 0.1, 0.25, 0.0, 0.9)
_WEIGHT_SCALES = (4, 8, 3, 5, 1)
_IMAGES = st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(2, 5))
# These have to be exported. Half of them are drawn rarely, as in `_some`.
_CUBA_OPTIONS: tuple[dict[str, Any], ...] = (
    {"requires_grad": True},
    {"dropout": 0.3},
    {"scale": 1 << 7},
    {"scale": 1 << 5},
)
# These may be refused, or exported if that is exact.
_ODD_CUBA: tuple[dict[str, Any], ...] = (
    {"graded_spike": True},
    {"persistent_state": True},
    {"current_decay": 0},
    {"current_decay": 1 / 4096},
    {"current_decay": 1.5},
    {"voltage_decay": 1},
    {"voltage_decay": 4095 / 4096},
    {"voltage_decay": 1e-5},
    {"threshold": 64},
    {"threshold": 63.98},
    {"threshold": 0.001},
    {"scale": 100},
    {"norm": "WgtScaleBatchNorm"},
)
_ODD_OPTIONS: tuple[dict[str, Any], ...] = (
    {"weight_scale": 100},
    {"weight_scale": 0},
    {"weight_scale": -20},
    {"pre_hook_fx": None},
    {"count_log": True},
)
_ODD_RESONATORS: tuple[dict[str, Any], ...] = (
    {"graded_spike": True},
    {"persistent_state": True},
    {"norm": "MeanOnlyBatchNorm"},
    {"period": 4},
    {"decay": 0.0},
    {"decay": 0.999},
    {"threshold": 0.01},
    {"threshold": 3000},
    {"requires_grad": True},
)
_ODD_SIGMA_DELTA: tuple[dict[str, Any], ...] = (
    {"persistent_state": True},
    {"cum_error": True},
    {"norm": "WgtScaleBatchNorm"},
    {"activation": "abs"},
    {"threshold": 0.001},
    {"threshold": 63.9},
    {"scale": 1 << 7},
    {"requires_grad": True},
    {"shared_param": False},
)


@st.composite
def networks(draw: Draw) -> Network:
    """A network with none to three peculiarities: in its options, its forward, its history or its sample."""
    odd = draw(st.integers(0, 3))
    shape, blocks = draw(st.sampled_from((_spiking, _spiking, _spiking, _sigma_delta, _bootstrap)))(draw, odd > 2)
    spec: dict[str, Any] = {"shape": shape, "blocks": blocks, "seed": draw(st.integers(0, 999))}
    spec["ran"] = draw(_mostly(True, False)) if odd else True
    spec["training"] = draw(st.booleans())
    spec["sample"] = Sample(draw(st.integers(2, 5)), draw(st.integers(8, 20)), draw(st.sampled_from((0.4, 0.2, 0.7))))
    spec["shared"] = draw(st.booleans())
    for peculiarity in draw(st.lists(st.sampled_from(_PECULIARITIES), min_size=1, max_size=2)) if odd else ():
        peculiarity(draw, spec)
    return Network(**spec)


def _mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """Mostly the usual value, which is also what an example shrinks to."""
    return st.sampled_from((usual,) * (3 * len(others) + 2) + others)


def _operation(draw: Draw, spec: dict[str, Any]) -> None:
    place = draw(st.integers(0, len(spec["blocks"])))
    spec["operations"] = (*spec.get("operations", ()), (place, draw(st.sampled_from(list(OPERATIONS)))))


def _change(draw: Draw, spec: dict[str, Any]) -> None:
    index = draw(st.integers(0, len(spec["blocks"]) - 1))
    spec["changes"] = (*spec.get("changes", ()), (index, draw(st.sampled_from(list(CHANGES)))))


def _change_of_all(draw: Draw, spec: dict[str, Any]) -> None:
    spec["change_of_all"] = draw(st.sampled_from(list(CHANGES_OF_ALL)))


def _returns(draw: Draw, spec: dict[str, Any]) -> None:
    spec["returns"] = draw(st.sampled_from(list(RETURNS)))


def _holder(draw: Draw, spec: dict[str, Any]) -> None:
    spec["holder"] = draw(st.sampled_from(list(HOLDERS)))
    spec["by_keyword"] = draw(st.booleans())


def _order(draw: Draw, spec: dict[str, Any]) -> None:
    """A block left out, run twice, or two exchanged; many of these cannot run, and some can."""
    order = list(range(len(spec["blocks"])))
    index = draw(st.integers(0, len(order) - 1))
    what = draw(st.sampled_from(("twice", "left out", "exchanged", "the whole again")))
    if what == "twice":
        order.insert(index, index)
    elif what == "left out" and len(order) > 1:
        del order[index]
    elif what == "exchanged" and index:
        order[index - 1], order[index] = order[index], order[index - 1]
    elif what == "the whole again":
        order *= 2
    spec["order"] = tuple(order)


def _odd_sample(draw: Draw, spec: dict[str, Any]) -> None:
    if draw(st.integers(0, 3)) == 3:
        spec["sample"] = None
        return
    spec["sample"] = Sample(
        draw(st.integers(1, 6)),
        draw(st.integers(1, 24)),
        draw(st.sampled_from((0.4, 0.02, 0.0, 1.0))),
        draw(st.sampled_from(list(FORMS))),
    )


_PECULIARITIES = (
    *(_operation, _operation, _operation, _change, _change, _change, _change),
    *(_change_of_all, _returns, _holder, _order, _odd_sample),
)


def _some(draw: Draw, options: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """One of these now and then."""
    return dict(draw(_mostly({}, *options))) if draw(st.booleans()) else {}


def _cuba(draw: Draw, odd: bool, *, image: bool = False, recurrent: bool = False) -> dict[str, Any]:
    neuron = {
        "threshold": draw(st.sampled_from(_THRESHOLDS)),
        "current_decay": draw(st.sampled_from(_DECAYS)),
        "voltage_decay": draw(st.sampled_from(_VOLTAGE_DECAYS)),
    }
    if draw(_mostly(False, True)) and (odd or not image):
        neuron |= {"shared_param": False, "current_decay": (0.1, 0.9), "voltage_decay": (0.01, 0.5)}
    if draw(_mostly(False, True)) and not recurrent:
        neuron["norm"] = "MeanOnlyBatchNorm"
    return neuron | _some(draw, _CUBA_OPTIONS) | (_some(draw, _ODD_CUBA) if odd else {})


def _resonator(draw: Draw, odd: bool) -> dict[str, Any]:
    neuron = {
        "threshold": draw(st.sampled_from((0.5, 1.0, 0.25, 2.0))),
        "period": draw(st.sampled_from((7, 4.5, 12, 30))),
        "decay": draw(st.sampled_from((0.05, 0.2, 0.01))),
    }
    if odd and draw(_mostly(False, True)):
        neuron |= {"shared_param": False, "period": (5, 30)}
    return neuron | (_some(draw, _ODD_RESONATORS) if odd else {})


def _options(draw: Draw, odd: bool, *names: str) -> dict[str, Any]:
    """Options of a block, each now and then, and the scale of its weights always."""
    options: dict[str, Any] = {"weight_scale": draw(st.sampled_from(_WEIGHT_SCALES))}
    choices = {"weight_norm": True, "delay": True, "delay_shift": False, "mask": 0.6}
    options |= {name: choices[name] for name in names if draw(_mostly(False, True))}
    return options | (_some(draw, _ODD_OPTIONS) if odd else {})


def _spiking(draw: Draw, odd: bool) -> tuple[Shape, tuple[Block, ...]]:
    """CUBA neurons and resonators: an image part or none, a Flatten between, a part of vectors."""
    blocks: list[Block] = []
    first: Shape = draw(_IMAGES) if draw(st.booleans()) else (draw(st.integers(1, 12)),)
    if draw(_mostly(False, True)):
        blocks.append(_input(draw, odd))
    shape = first
    if len(shape) == 3:
        for _ in range(draw(st.integers(0, 2))):
            shape = _append_image_block(draw, odd, blocks, shape)
        if draw(_mostly(True, False)):
            blocks.append(Block("cuba.Flatten"))
            shape = (_size(shape),)
        else:
            shape = _append_whole_image(draw, odd, blocks, shape)
    for _ in range(draw(st.integers(0 if blocks and blocks[-1].spikes else 1, 3))):
        shape = _append_vector_block(draw, odd, blocks, shape)
    readout = draw(_mostly("", "Average", "Affine"))
    if readout == "Average":
        blocks.append(Block("cuba.Average", (shape[0] if shape[0] % 2 else shape[0] // 2,)))
    elif readout == "Affine":
        options = {} if draw(st.booleans()) else {"dynamics": False}
        blocks.append(Block("cuba.Affine", (shape[0], 3), _cuba(draw, False, recurrent=True), options))
    return first, tuple(blocks)


def _size(shape: Shape) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _input(draw: Draw, odd: bool) -> Block:
    if draw(st.booleans()):
        return Block("cuba.Input", (), None, {"delay_shift": False})
    options = {"weight": 1.3, "bias": 0.2, "delay_shift": False}
    return Block("cuba.Input", (), _cuba(draw, odd, image=True, recurrent=True), _chosen(draw, options))


def _chosen(draw: Draw, options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if draw(st.booleans())}


def _append_image_block(draw: Draw, odd: bool, blocks: list[Block], shape: Shape) -> Shape:
    names = ("Conv", "Conv", "Pool", "ConvT", "Unpool")
    name, family = draw(st.sampled_from(names)), draw(_mostly("cuba", "rf", "rf_iz"))
    extra = ("weight_norm", "delay_shift") if name in ("Conv", "ConvT") else ("delay_shift",)
    options = _options(draw, odd, *extra, *(("delay",) if odd else ()))
    sizes, geometry = _geometry(draw, name, shape)
    neuron = _cuba(draw, odd, image=True) if family == "cuba" else _resonator(draw, False)
    return _append(blocks, shape, Block(f"{family}.{name}", sizes, neuron, {**options, **geometry}))


def _geometry(draw: Draw, name: str, shape: Shape) -> tuple[tuple[Any, ...], dict[str, Any]]:
    kernel = draw(st.sampled_from((2, 1, 3, (1, 2), (3, 2))))
    if name in ("Pool", "Unpool"):
        return (draw(st.sampled_from((2, 1, (1, 2)))),), _chosen(draw, {"stride": 2}) if draw(_mostly(0, 1)) else {}
    choices = {"stride": 2, "padding": 1, "dilation": 2, "groups": shape[0]}
    geometry = {option: value for option, value in choices.items() if draw(_mostly(False, True))}
    channels = draw(st.integers(1, 3))
    return (shape[0], channels * geometry.get("groups", 1), kernel), geometry


def _append(blocks: list[Block], shape: Shape, block: Block) -> Shape:
    """Add a block, unless it does not run there or becomes too large, and say what shape comes out."""
    try:
        made = make_block(block, [])
        mode = {"mode": type(made.mode).SNN} if hasattr(made, "_forward_snn") else {}
        with torch.no_grad():
            output = made(torch.zeros(1, *shape, 2), **mode)
    except Exception:  # some of the odd blocks; those that are tried on purpose come through `changes`
        return shape
    if not 0 < output[0, ..., 0].numel() <= 60:
        return shape
    blocks.append(block)
    return tuple(output.shape[1:-1])


def _append_whole_image(draw: Draw, odd: bool, blocks: list[Block], shape: Shape) -> Shape:
    """A dense block that takes an image as it is."""
    size = draw(st.integers(1, 8))
    blocks.append(Block("cuba.Dense", (shape[::-1], size), _cuba(draw, False), _options(draw, odd)))
    return (size, 1, 1)


def _append_vector_block(draw: Draw, odd: bool, blocks: list[Block], shape: Shape) -> Shape:
    vectors_only = ("cuba.Recurrent", "cuba.KWTA") if len(shape) == 1 else ()
    kind = draw(_mostly("cuba.Dense", "rf.Dense", "rf_iz.Dense", *vectors_only))
    size = draw(st.sampled_from((shape[0], 1, 2, 4, 6, 10))) if shape[0] <= 12 else draw(st.integers(1, 8))
    sizes: tuple[Any, ...] = (shape[0], size)
    if kind == "cuba.Dense":
        block = Block(kind, sizes, _cuba(draw, odd), _options(draw, odd, "weight_norm", "delay", "delay_shift", "mask"))
    elif kind == "cuba.Recurrent":
        neuron = _cuba(draw, odd, recurrent=True)
        block = Block(kind, sizes, neuron, _options(draw, odd, "weight_norm", "delay", "delay_shift"))
    elif kind == "cuba.KWTA":
        neuron = _cuba(draw, odd, recurrent=True) | draw(_mostly({}, {"current_decay": 1.0}))
        size = 2 * size
        block = Block(kind, (shape[0], size, draw(_mostly(size // 2, 1))), neuron, _options(draw, odd, "delay_shift"))
    else:
        block = Block(kind, sizes, _resonator(draw, odd), _options(draw, odd, "weight_norm", "delay_shift", "mask"))
    blocks.append(block)
    return (size, *shape[1:])


def _sigma_delta(draw: Draw, odd: bool) -> tuple[Shape, tuple[Block, ...]]:
    def neuron() -> dict[str, Any]:
        common = {"threshold": draw(st.sampled_from((0.1, 0.25, 1 / 64, 1.0))), "activation": "relu"}
        common |= _chosen(draw, {"norm": "MeanOnlyBatchNorm"})
        return common | (_some(draw, _ODD_SIGMA_DELTA) if odd else {})

    first: Shape = draw(_IMAGES) if draw(st.booleans()) else (draw(st.integers(1, 8)),)
    blocks = [Block("sigma_delta.Input", (), neuron(), _chosen(draw, {"weight": 0.7, "bias": -0.3}))]
    shape = first
    if len(shape) == 3:
        for _ in range(draw(st.integers(0, 2))):
            sizes, geometry = _geometry(draw, name := draw(st.sampled_from(("Conv", "Pool", "ConvT", "Unpool"))), shape)
            options = {**_options(draw, odd, "delay_shift"), **geometry}
            shape = _append(blocks, shape, Block(f"sigma_delta.{name}", sizes, neuron(), options))
        blocks.append(Block("sigma_delta.Flatten"))
        shape = (_size(shape),)
    for _ in range(draw(st.integers(0, 2))):
        size = draw(st.integers(1, 8))
        options = _options(draw, odd, "weight_norm", "delay", "delay_shift")
        blocks.append(Block("sigma_delta.Dense", (shape[0], size), neuron(), options))
        shape = (size,)
    if len(blocks) < 2 or not blocks[-1].spikes or draw(st.booleans()):
        blocks.append(Block("sigma_delta.Output", (shape[0], 3), neuron(), {"weight_scale": 2}))
    return first, tuple(blocks)


def _bootstrap(draw: Draw, odd: bool) -> tuple[Shape, tuple[Block, ...]]:
    first: Shape = draw(_IMAGES) if draw(st.booleans()) else (draw(st.integers(1, 10)),)
    blocks: list[Block] = []
    if draw(_mostly(False, True)):
        neuron = _cuba(draw, False, image=True, recurrent=True)
        blocks.append(Block("bootstrap.Input", (), neuron, {"weight": 1.3, "bias": 0.2}))
    shape = first
    if len(shape) == 3:
        if draw(st.booleans()):
            sizes, geometry = _geometry(draw, "Conv", shape)
            options = {**_options(draw, odd, "delay_shift"), **geometry}
            shape = _append(blocks, shape, Block("bootstrap.Conv", sizes, _cuba(draw, odd, image=True), options))
        blocks.append(Block("bootstrap.Flatten"))
        shape = (_size(shape),)
    for _ in range(draw(st.integers(1, 2))):
        size = draw(st.integers(1, 8))
        options = _options(draw, odd, "weight_norm", "delay_shift")
        blocks.append(Block("bootstrap.Dense", (shape[0], size), _cuba(draw, odd), options))
        shape = (size,)
    if draw(st.booleans()):
        blocks.append(Block("bootstrap.Affine", (shape[0], 3), _cuba(draw, False, recurrent=True)))
    return first, tuple(blocks)
