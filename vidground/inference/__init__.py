"""A loaded model that answers questions about videos."""
