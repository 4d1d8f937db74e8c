"""From images to predictions: what computes logits, and everything around it."""
