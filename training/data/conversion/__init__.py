"""Public data sets as training data."""
