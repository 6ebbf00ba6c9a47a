"""Where models come from and how they are loaded: folders, the hub, released weights, adapters."""
