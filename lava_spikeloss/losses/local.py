"""Local losses: every layer learns from its own fixed random readout."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lava_spikeloss.arguments import check_count, check_floating, check_same_shape, check_spikes
from lava_spikeloss.losses.labels import IGNORED, LabelForm, read_labels, targets_per_step
from lava_spikeloss.losses.lengths import Lengths, padded
from lava_spikeloss.losses.module import Loss
from lava_spikeloss.losses.options import Reduction, check_options
from lava_spikeloss.losses.reduction import as_float, collapse, kept_samples, matmul, mean_of_steps, reduce

__all__ = ["DECOLLELoss", "decolle_loss"]

_ERRORS = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}


@padded(trains=("membrane",))
def decolle_loss(
    spikes: torch.Tensor,
    labels: torch.Tensor,
    readout: torch.Tensor,
    membrane: torch.Tensor | None = None,
    error: str = "mse",
    lam_high: float = 0.0,
    lam_low: float = 0.0,
    reduction: Reduction = "mean",
    *,
    label_form: LabelForm | None = None,
    ignore_index: int = IGNORED,
    lengths: Lengths | None = None,
) -> torch.Tensor:
    r"""Local loss of one layer: its spikes, read out by a fixed random matrix, should tell the label at every step.

    .. math::
        L = \frac{1}{T} \sum_{t=0}^{T-1} \ell\left(G\, s[t], y[t]\right)
            + \lambda_h \langle \operatorname{relu}(v + 0.01) \rangle
            + \lambda_l \operatorname{relu}\left(0.1 - \langle \sigma(v) \rangle\right)

    :math:`\langle \cdot \rangle` is the mean over all neurons and steps of a sample: the two terms keep the membrane
    potentials from staying high, and the layer from falling silent. For a local gradient detach the layer's input.

    Args:
        spikes: spikes of a layer; its dimensions between batch and time are collapsed.
        labels: any form of label.
        readout: :math:`G`, a fixed random matrix.
        membrane: :math:`v`, the layer's membrane potentials, needed for the two terms.
        error: :math:`\ell`, ``"mse"``, ``"l1"`` or ``"smooth_l1"``, averaged over classes.
        lam_high: :math:`\lambda_h`, at least 0.
        lam_low: :math:`\lambda_l`, at least 0.
        reduction: ``"mean"`` and ``"sum"`` over samples, or ``"none"``.
        label_form: what the numbers of ``labels`` are, ``"indices"`` or ``"targets"``; needed where both could be.
        ignore_index: the class index of samples, and of steps, that are left out.
        lengths: the number of steps of each sample, :math:`(N)`; later ones are padding. A mean is then over samples.

    Shape:
        - spikes, membrane: :math:`(N, M, ..., T)`
        - labels: :math:`(N)`, :math:`(N, T)`, :math:`(N, C)` or :math:`(N, C, T)`
        - readout: :math:`(C, M)`
        - output: a scalar, or :math:`(N)` for ``reduction="none"``

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: for an empty batch, a readout or label that does not fit, a term without membrane potentials,
            or an option out of its range.

    Reference:
        Kaiser, Mostafa and Neftci, "Synaptic plasticity dynamics for deep continuous local learning (DECOLLE)",
        Frontiers in Neuroscience 2020.

    Example:
        >>> decolle_loss(torch.ones(1, 2, 4), torch.tensor([0]), readout=torch.eye(2))
        tensor(0.5000)
    """
    check_spikes("spikes", spikes, min_dims=3)
    check_floating("readout", readout)
    check_options(error=error, lam_high=lam_high, lam_low=lam_low, reduction=reduction)
    trains = as_float(collapse(spikes))
    if readout.dim() != 2 or readout.shape[1] != trains.shape[1]:
        raise ValueError(
            f"Expected argument `readout` to have shape (C, {trains.shape[1]}) but got {tuple(readout.shape)}."
        )
    classes = readout.shape[0]
    outputs = matmul(readout.to(trains.dtype), trains)
    given = read_labels(labels, outputs.shape, classes, label_form=label_form, ignore_index=ignore_index)
    targets = targets_per_step(given, classes, outputs.dtype)
    errors = _ERRORS[error](outputs, targets.expand_as(outputs), reduction="none").sum(1) / classes
    losses = mean_of_steps(errors, given.kept)
    if lam_high or lam_low:
        losses = losses + _membrane_terms(membrane, spikes, lam_high, lam_low).to(losses.dtype)
    return reduce(losses, reduction, kept_samples(given.kept))


def _membrane_terms(
    membrane: torch.Tensor | None, spikes: torch.Tensor, lam_high: float, lam_low: float
) -> torch.Tensor:
    if membrane is None:
        raise ValueError("Expected argument `membrane` to be given with `lam_high` or `lam_low` but got None.")
    check_same_shape("membrane", membrane, "spikes", spikes)
    v = as_float(membrane).flatten(1)
    high, low = (v + 0.01).relu().mean(1), (-v.sigmoid().mean(1) + 0.1).relu()
    return high.mul(lam_high).add(low, alpha=lam_low)


class DECOLLELoss(Loss, function=decolle_loss):
    """Local loss of one layer with its own fixed random readout, a buffer ``(num_classes, num_neurons)``.

    ``generator`` makes the readout repeatable. Its entries are uniform in :math:`\\pm 1 / \\sqrt{M}`.

    >>> loss = DECOLLELoss(num_neurons=6, num_classes=2, generator=torch.Generator().manual_seed(0))
    >>> loss(torch.zeros(1, 6, 4), torch.tensor([0]))
    tensor(0.5000)
    """

    readout: torch.Tensor

    def __init__(
        self,
        num_neurons: int,
        num_classes: int,
        error: str = "mse",
        lam_high: float = 0.0,
        lam_low: float = 0.0,
        reduction: Reduction = "mean",
        *,
        generator: torch.Generator | None = None,
        label_form: LabelForm | None = None,
        ignore_index: int = IGNORED,
    ) -> None:
        check_count("num_neurons", num_neurons)
        check_count("num_classes", num_classes)
        readout = (2 * torch.rand(num_classes, num_neurons, generator=generator) - 1) / num_neurons**0.5
        super().__init__(
            readout=readout,
            error=error,
            lam_high=lam_high,
            lam_low=lam_low,
            reduction=reduction,
            label_form=label_form,
            ignore_index=ignore_index,
        )

    def forward(
        self,
        input: torch.Tensor,
        target: torch.Tensor,
        membrane: torch.Tensor | None = None,
        *,
        lengths: Lengths | None = None,
    ) -> torch.Tensor:
        """Local loss of the spikes ``input`` with the labels ``target``, and of the membrane potentials if given."""
        return decolle_loss(input, target, membrane=membrane, lengths=lengths, **self._options())

    def extra_repr(self) -> str:
        """The options, with the readout's shape."""
        return f"readout={tuple(self.readout.shape)}, error={self.error!r}, reduction={self.reduction!r}"
