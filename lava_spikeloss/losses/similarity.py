"""Losses on how similar the spike trains of different samples are."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from lava_spikeloss.arguments import check_choice, check_number, check_spikes, check_tensor
from lava_spikeloss.compiling import torch_transforms
from lava_spikeloss.losses.labels import IGNORED, Form, LabelForm, read_form, read_labels
from lava_spikeloss.losses.lengths import Lengths, silent_after_the_end
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import as_float, matmul, reduce
from lava_spikeloss.peers import also_called

__all__ = ["SpikeSimilarityLoss", "kernel_dot_product", "spike_similar_loss"]

_KERNELS = {"linear": None, "polynomial": "d", "sigmoid": "alpha", "gaussian": "sigma"}
_SMALLEST = 1e-4  # smaller probabilities count as this one in a logarithm, so that gradients stay finite


def kernel_dot_product(x: torch.Tensor, y: torch.Tensor, kernel: str = "linear", *args: float) -> torch.Tensor:
    r"""Inner product of every row of ``x`` with every row of ``y``, in the space of a kernel.

    .. math::
        \kappa(x_i, y_j) = \begin{cases}
            x_i^\top y_j & \text{"linear"} \\
            (x_i^\top y_j)^d & \text{"polynomial"} \\
            \sigma(\alpha\, x_i^\top y_j) & \text{"sigmoid"} \\
            \exp(-\lVert x_i - y_j \rVert^2 / 2 \sigma^2) & \text{"gaussian"}
        \end{cases}

    The gaussian's distances are computed in float64 and are never negative.

    Args:
        x: rows of any dtype.
        y: rows, of the same length; there may be another number of them.
        kernel: ``"linear"``, ``"polynomial"``, ``"sigmoid"`` or ``"gaussian"``.
        args: the kernel's parameter: :math:`d`, :math:`\alpha` or :math:`\sigma > 0`; none for ``"linear"``.

    Shape:
        - x: :math:`(N, M)`
        - y: :math:`(K, M)`
        - output: :math:`(N, K)`

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the rows differ in length, the kernel is unknown, or its parameter is missing or out of range.

    Reference:
        Schölkopf and Smola, "Learning with kernels", 2002; the definitions are those of SpikingJelly.

    Example:
        >>> kernel_dot_product(torch.eye(2), torch.eye(2), "gaussian", 1.0)
        tensor([[1.0000, 0.3679],
                [0.3679, 1.0000]])
    """
    for name, value in (("x", x), ("y", y)):
        check_spikes(name, value)
        if value.dim() != 2:
            raise ValueError(f"Expected argument `{name}` to have shape (N, M) but got {tuple(value.shape)}.")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"Expected argument `y` to have rows of length {x.shape[1]} but got {y.shape[1]}.")
    check_choice("kernel", kernel, tuple(_KERNELS))
    parameter = _parameter(kernel, args)
    x, y = as_float(x), as_float(y)
    if kernel == "gaussian":
        return torch.exp(-_squared_distances(x, y) / (2 * parameter**2)).to(x.dtype)
    product = matmul(x, y.T)
    if kernel == "polynomial":
        return product.pow(parameter)
    return torch.sigmoid(parameter * product) if kernel == "sigmoid" else product


def spike_similar_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    kernel_type: str = "linear",
    loss_type: str = "mse",
    *args: float,
    reduction: Reduction = "mean",
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Trains of samples that share a label should be similar, those of other samples should not.

    .. math::
        L = \operatorname{mean}_{ij}\, \ell(p_{ij}, y_{ij}), \qquad
        y_{ij} = [\text{samples } i \text{ and } j \text{ share a label}]

    :math:`p_{ij}` is the kernel of the two samples' spikes (see :func:`kernel_dot_product`), for ``"linear"`` their
    cosine. A silent sample has cosine 0 with every other one, and the gradient of a train of norm 1.
    ``"bce"`` is computed from logarithms: of the exact ones for ``"sigmoid"`` and ``"gaussian"``, while for
    ``"linear"`` a cosine below 1e-4 (or above 1 - 1e-4) counts as that, with the gradient passing unchanged.

    Args:
        spikes: spikes of all neurons.
        labels: class indices or multi-hot labels.
        kernel_type: ``"linear"``, ``"sigmoid"`` or ``"gaussian"``, whose values lie in [0, 1].
        loss_type: ``"mse"``, ``"l1"`` or ``"bce"``.
        args: the kernel's parameter.
        reduction: ``"mean"`` and ``"sum"`` over all pairs, or ``"none"``.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones count as silent.

    Shape:
        - spikes: :math:`(N, M, ..., T)`
        - labels: :math:`(N)` or :math:`(N, 1)`, classes of any number, or multi-hot :math:`(N, C)`
        - output: a scalar, or :math:`(N, N)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, labels of another shape, or an option out of its range.

    Reference:
        The loss of SpikingFlow and SpikingJelly.

    Example:
        >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
        >>> spike_similar_loss(spikes, torch.tensor([0, 1, 1]))
        tensor(0.4444)
    """
    check_spikes("spikes", spikes)
    check_options(kernel_type=kernel_type, loss_type=loss_type, reduction=reduction)
    if lengths is not None:
        spikes = silent_after_the_end(spikes, lengths)
    x = as_float(spikes.flatten(1))
    parameter = _parameter(kernel_type, args)
    gram = _gram(x, kernel_type)
    same, kept = _shared_labels(labels, x.shape[0], label_form, ignore_index)
    same = same.to(gram.dtype)
    if loss_type == "bce":
        return reduce(_bce(gram, same, kernel_type, parameter), reduction, kept).to(x.dtype)
    if kernel_type == "linear":
        similarity = _cosine(gram)
    elif kernel_type == "sigmoid":
        similarity = torch.sigmoid(parameter * gram)
    else:
        similarity = torch.exp(-_distances_within(gram) / (2 * parameter**2))
    error = similarity - same
    return reduce(error.square() if loss_type == "mse" else error.abs(), reduction, kept).to(x.dtype)


def _parameter(kernel: str, args: tuple[float, ...]) -> float:
    name = _KERNELS[kernel]
    wanted = 0 if name is None else 1
    if len(args) != wanted:
        raise ValueError(f"Expected argument `args` to hold {name or 'nothing'} for {kernel!r} but got {args!r}.")
    if name is None:
        return 1.0
    check_number(name, args[0], above=0 if name == "sigma" else None)
    return args[0]


def _squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """In float64: the difference of large squares would lose all digits of a small distance."""
    x, y = x.double(), y.double()
    squares = x.square().sum(1).unsqueeze(1) + y.square().sum(1)
    return squares.sub(matmul(x, y.T), alpha=2).clamp(min=0)


def _gram(x: torch.Tensor, kernel: str) -> torch.Tensor:
    """Inner products of the rows of one batch; for the gaussian in float64, as in :func:`_squared_distances`."""
    dtype = torch.float64 if kernel == "gaussian" else x.dtype
    if torch_transforms():
        return matmul(x.to(dtype), x.to(dtype).T)
    gram: torch.Tensor = _Gram.apply(x, dtype)  # type: ignore[no-untyped-call, unused-ignore]
    return gram


class _Gram(torch.autograd.Function):
    """``x @ x.T`` in a dtype. Its gradient is one product, where autograd would take one for each factor."""

    @staticmethod
    def forward(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        x = x.to(dtype)
        return matmul(x, x.T)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor, torch.dtype], output: torch.Tensor) -> None:
        x, dtype = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)
        ctx.dtype = dtype

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        if ctx.dtype != x.dtype:  # distances: a shift does not change them, and near 0 float32 keeps their digits
            x = x - x.mean(0)
        return matmul((grad + grad.T).to(x.dtype), x), None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _: None) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        half = matmul(tangent.to(ctx.dtype), x.to(ctx.dtype).T)
        return half + half.T


def _distances_within(gram: torch.Tensor) -> torch.Tensor:
    """Squared distances of the rows of one batch from their inner products: 0 on the diagonal."""
    squares = gram.diagonal()
    return (squares.unsqueeze(1) + squares).sub(gram, alpha=2).clamp(min=0)


def _cosine(gram: torch.Tensor) -> torch.Tensor:
    """Cosine in [-1, 1] of all pairs of rows, from their inner products; a row of zeros counts as having norm 1."""
    squares = gram.diagonal()
    length = torch.where(squares > 0, squares, 1.0).sqrt()
    cosine = gram / (length.unsqueeze(1) * length)
    return cosine + (cosine.clamp(-1, 1) - cosine).detach()


def _shared_labels(
    labels: torch.Tensor, samples: int, label_form: LabelForm | None, ignore_index: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Which samples share a label, and which pairs are kept, both ``(N, N)``. There may be any number of classes."""
    check_tensor("labels", labels)
    columns = labels.shape[1] if labels.dim() == 2 else 0
    forms = [
        Form("indices", f"{samples},", (samples,)),
        Form("indices", f"{samples}, 1", (samples, 1)),
        Form("targets", f"{samples}, C", (samples, columns)),
    ]
    if columns == 1 and label_form is None:  # one column of classes, as tables have them
        label_form = "indices"
    if read_form(labels, forms, label_form, columns).numbers == "targets":
        targets = read_labels(labels, torch.Size((samples, columns, 1)), columns, label_form="targets").values
        return matmul(as_float(targets), as_float(targets).T) > 0, None
    classes = labels.reshape(-1)
    kept = classes != ignore_index
    return classes.unsqueeze(1) == classes, kept.unsqueeze(1) & kept


def _bce(gram: torch.Tensor, same: torch.Tensor, kernel: str, parameter: float) -> torch.Tensor:
    if kernel == "sigmoid":
        logits: torch.Tensor = parameter * gram
        return F.binary_cross_entropy_with_logits(logits, same, reduction="none")
    if kernel == "gaussian":
        exponent = _distances_within(gram) / (2 * parameter**2)
        apart = exponent + (exponent.clamp(min=_SMALLEST) - exponent).detach()
        return torch.lerp(-torch.log(-torch.expm1(-apart)), exponent, same)
    cosine = _cosine(gram)
    p = cosine + (cosine.clamp(_SMALLEST, 1 - _SMALLEST) - cosine).detach()
    return -torch.lerp(torch.log1p(-p), p.log(), same)


class SpikeSimilarityLoss(Loss, function=spike_similar_loss):
    """Trains of samples that share a label should be similar. ``args`` holds the kernel's parameter.

    The default may silence the outputs, for most pairs differ and a silent train is similar to none: add a gaussian
    kernel and ``CountBoundsLoss(lower=8, per="layer")``. The documentation's loss gallery has their factors.

    ``kernel`` and ``loss`` may also be called ``kernel_type`` and ``loss_type``, as in :func:`spike_similar_loss`.

    >>> spikes = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
    >>> SpikeSimilarityLoss("gaussian", "mse", 1.0)(spikes, torch.tensor([0, 0, 1]))
    tensor(0.0601)
    """

    @also_called(kernel_type="kernel", loss_type="loss")
    def __init__(
        self,
        kernel: str = "linear",
        loss: str = "mse",
        *args: float,
        reduction: Reduction = "mean",
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        super().__init__(
            kernel=kernel,
            loss=loss,
            args=args,
            reduction=reduction,
            label_form=label_form,
            ignore_index=ignore_index,
        )
        _parameter(kernel, args)

    def forward(self, input: torch.Tensor, target: torch.Tensor, *, lengths: Lengths | None = None) -> torch.Tensor:
        """Loss of the spikes ``input`` with the labels ``target``, of samples of these ``lengths``."""
        options = self._options()
        return spike_similar_loss(
            input,
            target,
            options["kernel"],
            options["loss"],
            *options["args"],
            **{name: options[name] for name in ("reduction", "label_form", "ignore_index")},
            lengths=lengths,
        )

    @property
    def labels_per_step(self) -> bool:
        """Never: two dimensions are samples and any number of classes."""
        return False
