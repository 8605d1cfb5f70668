"""The SLAYER reader: a trained network of lava-dl blocks as plain data, and the spikes of each of its blocks.

The only package that knows torch modules. Blocks are recognised by the qualified names of their classes, so it imports
without Lava.
"""

from netx_export.slayer.chain import Chain, line_up, reaching, run_layers
from netx_export.slayer.describing import Examined, describe, examine, keeps_state, read_chain
from netx_export.slayer.rounding import RoundedParameter, round_parameters
from netx_export.slayer.running import BATCH, CannotRunError, Recording, evaluation, record, unwrapped

__all__ = [
    "BATCH",
    "CannotRunError",
    "Chain",
    "Examined",
    "Recording",
    "RoundedParameter",
    "describe",
    "evaluation",
    "examine",
    "keeps_state",
    "line_up",
    "reaching",
    "read_chain",
    "record",
    "round_parameters",
    "run_layers",
    "unwrapped",
]
