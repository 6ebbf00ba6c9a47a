"""Progress and outcomes of a run, as text or as JSON lines."""
