"""Annotations, samples and batches."""
