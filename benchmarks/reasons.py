"""Why a target is missed or not measured, in a sentence or two, by the target's name. Written by hand."""

from __future__ import annotations

__all__ = ["REASONS"]

_NO_DEVICE = "No CUDA device was at hand; the same command measures it where there is one."
REASONS: dict[str, str] = {
    "peer": (
        "In bfloat16 ours counts and sums in float32, exactly, where peers round to 8 bits. In float32 the slow ones "
        "have few neurons: checks of labels and shapes weigh as much as the loss, and the exponential of MKL takes "
        "five times as long on an AMD processor as on an Intel one. The gaussian is taken in float64."
    ),
    "peer, over time": (
        "A softmax of every step is bound by its exponentials, which MKL makes five times slower on an AMD processor "
        "than on an Intel one, where it was reached."
    ),
    "peer, over elements": (
        "Such a peer takes about a microsecond per neuron. For few neurons a hundredth of that is less than the loss's "
        "steps in Python take, for long trains less than it takes to write the gradient to memory."
    ),
    "count": (
        "Counts in float32 are near the floor. Squares need three passes, finding the first maximum three, a sum over "
        "a region as long as over all. Half precision is converted in two more, and a copy of it fits the cache here."
    ),
    "step": (
        "A softmax of every step takes two passes besides its exponentials; between the running sums of a window's two "
        "directions lies the loss of its rates, in three to eight passes of torch; a copy in bfloat16 fits the cache."
    ),
    "van Rossum": (
        "In float32 one compiled loop sums the difference in both directions, in 4.4 to 5.6 floors in four runs. In "
        "bfloat16 it is the same loop on float32, and the floor a copy that fits the cache."
    ),
    "similarity": "The gaussian is taken in float64, whose products cost double: in float32 its distances cancel.",
    "memory": "Only in bfloat16, where some losses make a copy in float32, in which each number takes twice the room.",
    "share, cuda": _NO_DEVICE,
    "bandwidth": _NO_DEVICE,
    "no synchronisation": _NO_DEVICE,
}
