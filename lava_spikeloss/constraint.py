"""The weighting factor of a constraint as a Lagrange multiplier that training itself finds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lava_spikeloss._arguments import check_number

__all__ = ["LagrangeMultiplier"]


class LagrangeMultiplier(torch.nn.Module):
    r"""One multiplier per constraint, raised while the constraint is broken and lowered while it holds with room.

    For violations :math:`g_k`, positive where constraint :math:`k` is broken, the augmented Lagrangian

    .. math::
        L = \sum_k \frac{1}{2 \rho} \Big[\max(0,\, \lambda_k + \rho\, g_k)^2 - \lambda_k^2\Big], \qquad
        \lambda_k \leftarrow \max(0,\, \lambda_k + \eta\, g_k) \text{ at every backward pass}

    pulls with the force :math:`\max(0, \lambda_k + \rho\, g_k)` along the gradient of :math:`g_k`. A multiplier stops
    moving only where its budget is met with equality, or is zero where the budget does not bind; that is the optimality
    condition of the constrained problem, so no factor has to be tuned by hand.

    The losses of this library give it relative violations, :math:`g_k = u_k / (b_k (1 - m)) - 1` for a budget
    :math:`b_k` of which :math:`u_k` is used, so that one dual step size serves all budgets. The safety margin :math:`m`
    keeps what fluctuates around the goal inside the budget.

    During the first ``warmup`` passes the force is zero: the network learns to fire before it learns to save.

    Args:
        lr: dual step size :math:`\eta`, in units of the task loss per step.
        damping: the penalty coefficient :math:`\rho`, in units of the task loss. It damps the swing between
            multiplier and use; 0 gives plain dual ascent, :math:`L = \sum_k \lambda_k g_k`.
        warmup: number of backward passes without force.
        margin: the part :math:`m` of every budget that is kept in reserve.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.

    Source:
        Gallego-Posada et al., "Controlled sparsity via constrained optimization", NeurIPS 2022; augmented Lagrangian
        for inequalities: Nocedal & Wright, *Numerical Optimization* (2006), section 17.3. (The library
        ``cooper-optim`` of the same authors wants to run the training step itself; ``slayer.utils.Assistant`` does.)

    Examples:
        >>> x = torch.nn.Parameter(torch.tensor(3.0))
        >>> multiplier = LagrangeMultiplier(lr=0.5, damping=1.0, margin=0.0)
        >>> optimizer = torch.optim.SGD([x], lr=0.1)
        >>> for _ in range(300):  # as near to 3 as a budget of 2 allows
        ...     optimizer.zero_grad()
        ...     loss = (x - 3) ** 2 + multiplier({"x": x / 2 - 1})
        ...     loss.backward()
        ...     optimizer.step()
        >>> print(f"{x.item():.3f} {multiplier.multipliers['x'].item():.3f}")
        2.000 4.000
    """

    def __init__(self, lr: float = 0.01, *, damping: float = 1.0, warmup: int = 0, margin: float = 0.01) -> None:
        super().__init__()
        check_number("lr", lr, above=0.0)
        check_number("damping", damping, minimum=0.0)
        check_number("warmup", warmup, minimum=0)
        check_number("margin", margin, minimum=0.0, maximum=0.5)
        self.lr = lr
        self.damping = damping
        self.warmup = warmup
        self.margin = margin
        self.steps = 0
        self.multipliers: dict[str, torch.Tensor] = {}

    def extra_repr(self) -> str:
        return f"lr={self.lr}, damping={self.damping}, warmup={self.warmup}, margin={self.margin}"

    def forward(self, violations: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The Lagrangian term, a scalar; its backward pass moves the multipliers.

        Args:
            violations: name of a constraint to how much it is broken, differentiable, of any shape; negative where it
                holds with room. Each element is a constraint with a multiplier of its own.
        """
        if self.steps < self.warmup:
            terms = [0.0 * g.sum() for g in violations.values()]
        else:
            terms = [self._term(name, g) for name, g in violations.items()]
        term = sum(terms, start=torch.zeros(()))
        if term.requires_grad:
            detached = {name: g.detach() for name, g in violations.items()}
            term.register_hook(lambda gradient: self._ascend(detached))
        return term

    def _multiplier(self, name: str, like: torch.Tensor) -> torch.Tensor:
        if name not in self.multipliers:
            return torch.zeros_like(like)
        return self.multipliers[name].to(like)

    def _term(self, name: str, g: torch.Tensor) -> torch.Tensor:
        multiplier = self._multiplier(name, g.detach())
        if self.damping == 0:
            return (multiplier * g).sum()
        force = torch.relu(multiplier + self.damping * g)
        return (force.square() - multiplier.square()).sum() / (2 * self.damping)

    def _ascend(self, violations: Mapping[str, torch.Tensor]) -> None:
        self.steps += 1
        if self.steps > self.warmup:
            for name, g in violations.items():
                self.multipliers[name] = torch.relu(self._multiplier(name, g) + self.lr * g)

    def get_extra_state(self) -> dict[str, Any]:
        return {"steps": self.steps, "multipliers": self.multipliers}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.steps, self.multipliers = state["steps"], state["multipliers"]
