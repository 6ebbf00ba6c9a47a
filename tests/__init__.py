"""Tests, the helpers they share, and scripts that measure."""
