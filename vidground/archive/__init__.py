"""Runs over many files: inputs, jobs, the record beside the results, workers, Ray."""
