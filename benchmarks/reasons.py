"""Why a target is missed or not measured, in a sentence or two, by the target's name. Written by hand."""

from __future__ import annotations

__all__ = ["REASONS"]

_NO_DEVICE = "No CUDA device was at hand; the same command measures it where there is one."
REASONS: dict[str, str] = {
    "peer": (
        "In bfloat16 ours counts and sums in float32, where peers round to 8 bits; with few neurons the checks of "
        "labels and shapes, some 20 microseconds, weigh as much as the loss."
    ),
    "peer, over time": (
        "Clusters need two running sums, a running maximum and two searches per neuron, which torch does number by "
        "number; a softmax per step is bound by its exponentials."
    ),
    "peer, over elements": (
        "Such a peer takes about a microsecond per neuron; a hundredth of that is less than it takes to read the "
        "neuron's 100 to 1,000 steps from memory."
    ),
    "count": (
        "Counts in float32 are at the floor. Squares need three passes, finding the first maximum four, half "
        "precision a conversion; the floor is a single copy."
    ),
    "step": (
        "A softmax of every step takes 2.8 floors for the exponentials alone; windows take running sums in both "
        "directions, and torch's run at a fifth of the memory's speed."
    ),
    "van Rossum": "The recurrence is two narrow matrix products in each direction, of which torch makes 3 ms each.",
    "similarity": "Besides the products the squares of 256 x 256 similarities and a pass over the input are left.",
    "memory": (
        "In float32 windowed spike rates (3 copies), gaussian similarity (3), clusters (8.5), and enforcers by a few "
        "bytes; bfloat16 is computed in float32, where each number takes twice the room."
    ),
    "export memory": (
        "Without a sample 2.8. With one, SLAYER's own forward quantises the largest layer, which takes two copies "
        "beside the description's one."
    ),
    "reference, SLAYER": (
        "Without delays 6.2 to 7.2 in every run; with axonal delays 5.1 and 5.3 in earlier runs of the day, less here: "
        "to delay each channel by itself moves every spike once more."
    ),
    "reference, Lava": (
        "A hair's breadth: 181 before weights of eight bits, 199 with them. Of 48 ms on two cores 10 read the file and "
        "load the weights, on one of them."
    ),
    "share, cuda": _NO_DEVICE,
    "bandwidth": _NO_DEVICE,
    "no synchronisation": _NO_DEVICE,
}
