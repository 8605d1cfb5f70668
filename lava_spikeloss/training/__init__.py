"""Tools for training networks of SLAYER blocks. Nothing here imports Lava; SLAYER modules are known by their looks."""

from .sequences import chunk_multi_step_forward, multi_step_forward, seq_to_ann_forward
from .state import detach_net, fresh_state, reset_net, set_backend
from .step_mode import set_step_mode

__all__ = [
    "chunk_multi_step_forward",
    "detach_net",
    "fresh_state",
    "multi_step_forward",
    "reset_net",
    "seq_to_ann_forward",
    "set_backend",
    "set_step_mode",
]
