"""Why a target is missed or not measured, in a sentence or two, by the target's name. Written by hand."""

from __future__ import annotations

__all__ = ["REASONS"]

_NO_DEVICE = "No CUDA device was at hand; the same command measures it where there is one."
REASONS: dict[str, str] = {
    "peer": (
        "In bfloat16 ours counts and sums in float32, exactly, where peers round to 8 bits. In float32 four are slow, "
        "all with few neurons, where checks of labels and shapes weigh as much as the loss; a first maximum takes a "
        "pass more than any maximum."
    ),
    "peer, over time": (
        "Clusters need two running sums, a running maximum and two searches per neuron, which torch does number by "
        "number."
    ),
    "peer, over elements": (
        "Such a peer takes about a microsecond per neuron; a hundredth of that is less than it takes to read the "
        "neuron's 100 to 1,000 steps from memory."
    ),
    "count": (
        "Counts in float32 are near the floor. Squares need three passes, finding the first maximum four, half "
        "precision a conversion; the floor is a single copy."
    ),
    "step": (
        "A softmax of every step takes two passes besides its exponentials; windows take running sums in both "
        "directions, and torch's run at a fifth of the memory's speed."
    ),
    "van Rossum": "The recurrence is two narrow matrix products in each direction, of which torch makes 3 ms each.",
    "similarity": "The gaussian is taken in float64, whose products cost double: in float32 its distances cancel.",
    "memory": (
        "In float32 windowed spike rates (1.3 copies), and enforcers by a few bytes; bfloat16 is computed in float32, "
        "where each number takes twice the room."
    ),
    "export memory": (
        "Without a sample it is reached. With one, SLAYER's own forward makes its weights anew and quantises them, "
        "which takes two copies beside the description's one and the one that restores the network."
    ),
    "share, cuda": _NO_DEVICE,
    "bandwidth": _NO_DEVICE,
    "no synchronisation": _NO_DEVICE,
}
