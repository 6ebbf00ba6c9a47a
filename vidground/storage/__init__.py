"""Files on disk: atomic writes, bounded folders, rows of arrays."""
