"""Training, evaluation and the data for both."""
