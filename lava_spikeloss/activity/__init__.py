"""What spikes cost: measuring it, and losses that keep it within a budget."""
