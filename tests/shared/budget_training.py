"""How tests train a network whose enforcer holds a budget."""

from __future__ import annotations

import torch

from lava_spikeloss import BudgetEnforcer, SparsityEnforcer


def train_within_budget(
    net: torch.nn.Module,
    spikes: torch.Tensor,
    labels: torch.Tensor,
    enforcer: BudgetEnforcer | SparsityEnforcer,
    passes: int,
    lr: float = 0.02,
) -> None:
    """Train on all samples at once, with a step that falls to 0: cross entropy of counts, and the enforcer's loss."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, passes)
    for _ in range(passes):
        loss = torch.nn.functional.cross_entropy(net(spikes).sum(-1), labels) + enforcer.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
