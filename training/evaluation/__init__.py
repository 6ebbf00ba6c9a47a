"""Benchmark questions, predictions and scores."""
