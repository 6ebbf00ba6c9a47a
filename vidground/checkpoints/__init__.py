"""Find and load models: folders, the hub, released weights, adapters."""
