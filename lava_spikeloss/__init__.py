"""Spiking losses for SLAYER networks as torch modules, and sparsity that keeps event rates within a budget."""

from lava_spikeloss.sparsity import SparsityEnforcer

__all__ = ["SparsityEnforcer"]
