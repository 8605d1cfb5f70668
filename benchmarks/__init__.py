"""How fast, against what, and how close to the limit: ``python -m benchmarks`` measures it all."""
