"""Export models to other runtimes."""
