"""The SLAYER reader: a trained network of lava-dl blocks as plain data, and the spikes of each of its blocks.

The only package that knows torch modules. Blocks are recognised by the qualified names of their classes, so it imports
without Lava.
"""

from netx_export.slayer.blocks import layer_blocks
from netx_export.slayer.describing import blocks_that_keep_state, describe, refusals
from netx_export.slayer.rounding import RoundedParameter, round_parameters
from netx_export.slayer.running import evaluation, record, unwrapped

__all__ = [
    "RoundedParameter",
    "blocks_that_keep_state",
    "describe",
    "evaluation",
    "layer_blocks",
    "record",
    "refusals",
    "round_parameters",
    "unwrapped",
]
