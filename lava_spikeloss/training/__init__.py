"""Tools for training networks of SLAYER blocks. Nothing here imports Lava; SLAYER modules are known by their looks."""

from .checkpoint import load, save
from .local import LocalReadouts
from .membrane import MembraneRecord, record_membrane
from .parameter_groups import parameter_groups
from .sequences import chunk_multi_step_forward, multi_step_forward, seq_to_ann_forward
from .shared_params import build_block, check_neuron_params
from .state import detach_net, fresh_state, reset_net, set_backend
from .step_mode import set_step_mode
from .threshold_margin import ThresholdMargin

__all__ = [
    "LocalReadouts",
    "MembraneRecord",
    "ThresholdMargin",
    "build_block",
    "check_neuron_params",
    "chunk_multi_step_forward",
    "detach_net",
    "fresh_state",
    "load",
    "multi_step_forward",
    "parameter_groups",
    "record_membrane",
    "reset_net",
    "save",
    "seq_to_ann_forward",
    "set_backend",
    "set_step_mode",
]
