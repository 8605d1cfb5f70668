"""What spikes cost, and how that is kept within a budget."""
