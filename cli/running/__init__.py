"""A run over many files, as the commands start it: inputs, signals, outcomes."""
