"""Results, and every file format they are written in."""
