"""Spiking losses for SLAYER as torch modules, and a sparsity enforcer that keeps event rates within a budget."""

__all__: list[str] = []
