"""Reports, search, plots and replay of stored results."""
