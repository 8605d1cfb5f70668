"""The network as plain data, and what the stock loader, Lava and a chip make of its numbers."""
