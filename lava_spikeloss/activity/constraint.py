"""The weighting factor of a constraint as a Lagrange multiplier, which is found while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lava_spikeloss.arguments import check_number

__all__ = ["LagrangeMultiplier"]

_FULL_VIOLATION = 0.1  # a violation of this size or more has the full effect on a multiplier
_LOWEST, _HIGHEST = 1e-6, 1e9  # of a multiplier: it moves by factors, and would never leave zero or infinity again


class LagrangeMultiplier(torch.nn.Module):
    r"""One multiplier per constraint, raised while the constraint is broken and lowered while it is more than met.

    For violations :math:`g_k`, positive where constraint :math:`k` is broken, the term of the Lagrangian and the ascent
    on its dual are

    .. math::
        L &= \sum_k f_k\, g_k, \qquad f_k = \lambda_k\, e^{\rho\, \hat g_k}, \qquad
        \hat g_k = \min(1, \max(-1, g_k / 0.1)) \\
        \lambda_k &\leftarrow \lambda_k\, e^{\eta\, \hat g_k} \text{ at every backward pass}

    with the force :math:`f_k` held constant in the gradient; a violation of a tenth or more has the full effect. A
    multiplier settles only where its constraint is met with equality, or near zero where the constraint does not bind:
    the optimality condition of the constrained problem. As the ascent multiplies rather than adds, it finds multipliers
    of 0.001 and of 1000 alike, whatever the scale of the task loss. The proportional part :math:`\rho` has the role of
    the penalty in an augmented Lagrangian: it damps the oscillation of multiplier and use.

    The losses of this library give it relative violations, :math:`g_k = u_k / (b_k (1 - m)) - 1` for a budget
    :math:`b_k` of which :math:`u_k` is used. The safety margin :math:`m` keeps a use that fluctuates around its goal
    inside the budget.

    A multiplier starts where one step of plain dual ascent from zero would take it, in proportion to the first
    violation: :math:`\lambda_k = \text{start} \cdot \max(0.1, g_k)`. Its final value does not depend on that, but the
    network does. With the default, the use approaches a loose budget from above. It falls below a tight budget within
    the first passes; neurons that are silenced then mostly stay silent, and the others share the budget. From a low
    start all neurons are lowered alike, and at a tight budget many neurons that fire rarely carry less information than
    a few that fire well. For a network that is trained already take a low ``start`` and a ``warmup``: during so many
    passes the goal falls geometrically from the first use to the budget.

    A violation that is not finite, from a forward that overflowed or gave NaN, shows in :math:`L` and leaves its
    multiplier unchanged, so that a pass which a gradient scaler skips does no harm. An error is not raised, since the
    check would make the host wait for the device.

    Args:
        lr: dual step size :math:`\eta` per backward pass.
        damping: the proportional coefficient :math:`\rho`; 0 gives plain dual ascent.
        warmup: number of backward passes until the goal is the budget.
        margin: the part :math:`m` of every budget that is kept in reserve.
        start: the first value of a multiplier divided by its first violation, in units of the task loss.

    Raises:
        TypeError: an argument is not a number.
        ValueError: an argument is out of range.

    Source:
        Gallego-Posada et al., "Controlled sparsity via constrained optimization", NeurIPS 2022, for the multiplier in
        place of a tuned factor; Kivinen & Warmuth, Information and Computation 132 (1997), for the exponentiated step.
        (The library ``cooper-optim`` of the former wants to run the training step itself and to know the constraints
        before the first forward; ``slayer.utils.Assistant`` runs its own.)

    Examples:
        >>> x = torch.nn.Parameter(torch.tensor(3.0))
        >>> multiplier = LagrangeMultiplier()
        >>> optimizer = torch.optim.SGD([x], lr=0.02)
        >>> for _ in range(1500):  # x is to be near 3, and at most 2
        ...     optimizer.zero_grad()
        ...     loss = (x - 3) ** 2 + multiplier({"x": x / 2 - 1})
        ...     loss.backward()
        ...     optimizer.step()
        >>> print(f"{x.item():.3f} {multiplier.multipliers['x'].item():.3f}")
        2.000 4.000
    """

    def __init__(
        self, lr: float = 0.05, *, damping: float = 2.0, warmup: int = 0, margin: float = 0.015, start: float = 0.01
    ) -> None:
        super().__init__()
        check_number("lr", lr, above=0.0)
        check_number("damping", damping, minimum=0.0)
        check_number("warmup", warmup, minimum=0)
        check_number("margin", margin, minimum=0.0, maximum=0.5)
        check_number("start", start, above=0.0)
        self.lr = lr
        self.damping = damping
        self.warmup = warmup
        self.margin = margin
        self.start = start
        self.steps = 0
        self.multipliers: dict[str, torch.Tensor] = {}
        self._starts: dict[str, torch.Tensor] = {}

    def extra_repr(self) -> str:
        return f"lr={self.lr}, damping={self.damping}, warmup={self.warmup}, margin={self.margin}, start={self.start}"

    def forward(self, violations: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The term of the Lagrangian, a scalar; its backward pass moves the multipliers.

        Args:
            violations: name of a constraint to by how much it is broken, differentiable, of any shape; negative where
                it holds. Each element is a constraint with a multiplier of its own.
        """
        for name, violation in violations.items():
            if name not in self.multipliers:
                first = _finite(violation.detach())
                self.multipliers[name] = self.start * first.clamp(min=_FULL_VIOLATION)
                self._starts[name] = torch.relu(first)
            # A loaded state is moved to the device once and kept there: the host waits for each copy.
            self.multipliers[name] = self.multipliers[name].to(violation)
            self._starts[name] = self._starts[name].to(violation)
        eased = {name: self._eased(name, violation) for name, violation in violations.items()}
        pressures = {name: (_finite(g.detach()) / _FULL_VIOLATION).clamp(-1.0, 1.0) for name, g in eased.items()}
        terms = [(self._force(name, pressures[name]) * g).sum() for name, g in eased.items()]
        term = sum(terms, start=torch.zeros(()))
        if term.requires_grad:
            term.register_hook(lambda gradient: self._ascend(pressures))
        return term

    def _eased(self, name: str, violation: torch.Tensor) -> torch.Tensor:
        """The violation of this step's goal, which during a warmup lies above the budget."""
        rest = max(0.0, 1.0 - self.steps / self.warmup) if self.warmup else 0.0
        goal = (1.0 + self._starts[name]).pow(rest)
        return (1.0 + violation) / goal - 1.0

    def _force(self, name: str, pressure: torch.Tensor) -> torch.Tensor:
        return self.multipliers[name] * torch.exp(self.damping * pressure)

    def _ascend(self, pressures: Mapping[str, torch.Tensor]) -> None:
        self.steps += 1
        for name, pressure in pressures.items():
            raised = self.multipliers[name] * torch.exp(self.lr * pressure)
            self.multipliers[name] = raised.clamp(_LOWEST, _HIGHEST)

    def get_extra_state(self) -> dict[str, Any]:
        return {"steps": self.steps, "multipliers": dict(self.multipliers), "starts": dict(self._starts)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.steps, self.multipliers, self._starts = state["steps"], dict(state["multipliers"]), dict(state["starts"])


def _finite(violation: torch.Tensor) -> torch.Tensor:
    """Zero, which moves no multiplier, in place of values that are not finite."""
    return violation.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
