"""Every loss and spike-train function as a function. The modules in :mod:`lava_spikeloss` call these."""

from lava_spikeloss.classifiers import accuracy, classify_first_spike, classify_membrane, classify_rate, classify_window
from lava_spikeloss.distances import van_rossum_distance, victor_purpura_distance
from lava_spikeloss.losses.bounds import count_bounds_loss
from lava_spikeloss.losses.cluster import spike_cluster, stca_loss
from lava_spikeloss.losses.distillation import distillation_loss
from lava_spikeloss.losses.local import decolle_loss
from lava_spikeloss.losses.membrane import (
    ce_max_membrane_loss,
    ce_membrane_integral_loss,
    information_maximization_loss,
    membrane_suppression_loss,
    mse_membrane_loss,
)
from lava_spikeloss.losses.rate import ce_count_loss, ce_rate_loss, mse_count_loss, region_count_loss
from lava_spikeloss.losses.similarity import kernel_dot_product, spike_similar_loss
from lava_spikeloss.losses.slayer import spike_max, spike_moid, spike_rate, spike_time
from lava_spikeloss.losses.temporal import ce_temporal_loss, first_spike_loss, mse_temporal_loss
from lava_spikeloss.losses.tet import temporal_efficient_training_cross_entropy, tet_loss
from lava_spikeloss.spike_trains import (
    delay,
    exponential_filter,
    first_spike_index,
    first_spike_times,
    moving_window_rate,
    redundant_one_hot,
    spike_count,
)

__all__ = [
    "accuracy",
    "ce_count_loss",
    "ce_max_membrane_loss",
    "ce_membrane_integral_loss",
    "ce_rate_loss",
    "ce_temporal_loss",
    "classify_first_spike",
    "classify_membrane",
    "classify_rate",
    "classify_window",
    "count_bounds_loss",
    "decolle_loss",
    "delay",
    "distillation_loss",
    "exponential_filter",
    "first_spike_index",
    "first_spike_loss",
    "first_spike_times",
    "information_maximization_loss",
    "kernel_dot_product",
    "membrane_suppression_loss",
    "moving_window_rate",
    "mse_count_loss",
    "mse_membrane_loss",
    "mse_temporal_loss",
    "redundant_one_hot",
    "region_count_loss",
    "spike_cluster",
    "spike_count",
    "spike_max",
    "spike_moid",
    "spike_rate",
    "spike_similar_loss",
    "spike_time",
    "stca_loss",
    "temporal_efficient_training_cross_entropy",
    "tet_loss",
    "van_rossum_distance",
    "victor_purpura_distance",
]
