"""Training runs: the loop and its parts, checkpoints, cached features, several processes."""
