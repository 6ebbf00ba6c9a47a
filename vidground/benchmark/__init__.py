"""Timing of stages and whole runs, beside the released procedure."""
