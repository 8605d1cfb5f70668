"""Comparing two runs of a network: sums, verdict, cause and report."""
