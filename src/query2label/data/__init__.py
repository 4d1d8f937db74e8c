"""Labelled images: readers for each layout, splitting and checking, and batches for training and evaluation."""
