"""Annotation tools: results as projects of Label Studio, ELAN and VIA, and what comes back."""
