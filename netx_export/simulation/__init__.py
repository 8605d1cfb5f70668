"""Running a network: the reference simulator, and the stock loader on Lava in a process of its own."""
