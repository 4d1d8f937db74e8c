"""Labelled images: a reader per layout, splitting and checking, and batches for training and evaluation."""
