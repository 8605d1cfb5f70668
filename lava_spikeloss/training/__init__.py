"""Tools for training networks of SLAYER blocks. None of them needs Lava itself to be imported."""

from lava_spikeloss.training.backend import set_backend
from lava_spikeloss.training.checkpoint import load, save
from lava_spikeloss.training.fuse import (
    fold_norms,
    fuse_conv_bn,
    fuse_convbn2d,
    fused_conv2d_bias_of_convbn2d,
    fused_conv2d_weight_of_convbn2d,
    fused_conv_bias,
    fused_conv_weight,
    scale_fused_conv2d_bias_of_convbn2d,
    scale_fused_conv2d_weight_of_convbn2d,
    scale_fused_conv_bias,
    scale_fused_conv_weight,
)
from lava_spikeloss.training.initialisation import firing_rate_, kaiming_normal_, kaiming_normal_conv_linear_weight
from lava_spikeloss.training.learning_rates import parameter_groups
from lava_spikeloss.training.local import LocalReadouts
from lava_spikeloss.training.membrane import MembraneRecord, record_membrane
from lava_spikeloss.training.online import (
    FPTTState,
    fptt_online_training,
    fptt_online_training_init_w_ra,
    ottt_online_training,
    sltt_online_training,
)
from lava_spikeloss.training.sequences import chunk_multi_step_forward, multi_step_forward, seq_to_ann_forward
from lava_spikeloss.training.shared_params import build_block, check_neuron_params
from lava_spikeloss.training.state import detach_net, fresh_state, reset_net
from lava_spikeloss.training.step_mode import set_step_mode
from lava_spikeloss.training.threshold_margin import ThresholdMargin

__all__ = [
    "FPTTState",
    "LocalReadouts",
    "MembraneRecord",
    "ThresholdMargin",
    "build_block",
    "check_neuron_params",
    "chunk_multi_step_forward",
    "detach_net",
    "firing_rate_",
    "fold_norms",
    "fptt_online_training",
    "fptt_online_training_init_w_ra",
    "fresh_state",
    "fuse_conv_bn",
    "fuse_convbn2d",
    "fused_conv2d_bias_of_convbn2d",
    "fused_conv2d_weight_of_convbn2d",
    "fused_conv_bias",
    "fused_conv_weight",
    "kaiming_normal_",
    "kaiming_normal_conv_linear_weight",
    "load",
    "multi_step_forward",
    "ottt_online_training",
    "parameter_groups",
    "record_membrane",
    "reset_net",
    "save",
    "scale_fused_conv2d_bias_of_convbn2d",
    "scale_fused_conv2d_weight_of_convbn2d",
    "scale_fused_conv_bias",
    "scale_fused_conv_weight",
    "seq_to_ann_forward",
    "set_backend",
    "set_step_mode",
    "sltt_online_training",
]
