"""Video files to sampled frames with presentation times."""
