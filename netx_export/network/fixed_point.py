"""The numbers of Loihi's fixed-point arithmetic, as Lava's CPU simulator computes it: each is defined here, once.

Everything on a chip is a whole number. A weight, a threshold or a bias of 1 in SLAYER is 64 in a netx file, its
mantissa; before it meets the state of a neuron (a current or a membrane potential) it is shifted up by six more bits.
Decays are shares of 4096. Sigma-delta neurons send messages in units of 1/4096, unless a run is given another
``spike_exp``, and sum them up, times weights, in units of 1/64 of that.

Which of these numbers a chip has room for is in :mod:`netx_export.network.chip`, what Lava has room for in
:mod:`netx_export.network.registers`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "ALIGNMENT",
    "ALIGNMENT_BITS",
    "DEFAULT_SPIKE_EXP",
    "DEFAULT_THRESHOLD",
    "HIGHEST_BIAS",
    "LOWEST_BIAS",
    "MAX_BIAS",
    "MAX_CONV_SIZE",
    "MAX_DELAY",
    "MAX_INT32",
    "MAX_QUANTISED",
    "MAX_STATE",
    "MAX_THRESHOLD",
    "MAX_WEIGHT",
    "MESSAGE_BITS",
    "MESSAGE_SCALE",
    "MIN_BIAS",
    "MIN_QUANTISED",
    "MIN_WEIGHT",
    "NETX_MESSAGE_BITS",
    "STATE_LIMIT",
    "STATE_SCALE",
    "SUM_SCALE",
    "UNITY_DECAY",
    "WEIGHT_SCALE",
    "IntArray",
]

IntArray: TypeAlias = npt.NDArray[np.signedinteger[Any]]  # weights of large networks are int32, to save memory

# Units: how many of them make 1 in SLAYER.
UNITY_DECAY = 2**12
WEIGHT_SCALE = 2**6  # unless a neuron was given another `scale`
ALIGNMENT_BITS = 6  # by which weighted sums, biases and thresholds are shifted up to the state that they meet
ALIGNMENT = 2**ALIGNMENT_BITS
STATE_SCALE = WEIGHT_SCALE * ALIGNMENT  # of currents, membrane potentials and the states of resonators
DEFAULT_SPIKE_EXP = 6  # of netx: by how many bits a message's fraction is longer than a weight's
MESSAGE_BITS = ALIGNMENT_BITS + DEFAULT_SPIKE_EXP  # of the fraction of a sigma-delta message
MESSAGE_SCALE = 2**MESSAGE_BITS
SUM_SCALE = MESSAGE_SCALE * WEIGHT_SCALE  # of sums of weighted messages, which are a sigma-delta neuron's state

# Widths.
STATE_LIMIT = 2**23  # states have 24 bits with their sign: a current wraps, the others are clipped to MAX_STATE
MAX_STATE = STATE_LIMIT - 1
MAX_INT32 = 2**31 - 1
MIN_WEIGHT, MAX_WEIGHT = -256, 255
MIN_QUANTISED, MAX_QUANTISED = -256, 254  # what SLAYER's quantize_8bit makes, in steps of 2
MAX_THRESHOLD = 2**17 - 1
DEFAULT_THRESHOLD = 2**17  # of a file without neuron parameters: no membrane potential reaches it
MIN_BIAS, MAX_BIAS = -(2**12), 2**12 - 1  # 13 bits with the sign, as lava/proc/lif/models.py says
LOWEST_BIAS, HIGHEST_BIAS = -(2**15), 2**15 - 1  # what Lava's simulator holds, in 16 bits
NETX_MESSAGE_BITS = 16  # that netx gives sigma-delta neurons; it fails where a layer in a file says anything about them
MAX_DELAY = 62  # steps; netx makes longer ones this long
MAX_CONV_SIZE = 127  # Lava holds kernel sizes, strides, padding, dilation and groups in 8 bits with the sign
