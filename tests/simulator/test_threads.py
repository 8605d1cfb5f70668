"""The simulator uses one thread where more only wait, and gives the others back."""

from __future__ import annotations

import numpy as np
import torch

from netx_export import simulate


def test_the_number_of_threads_is_as_before(mlp_file, mlp_spikes):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        simulate(mlp_file, mlp_spikes)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        alone = simulate(mlp_file, mlp_spikes)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(alone.output, simulate(mlp_file, mlp_spikes).output)
