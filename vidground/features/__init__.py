"""Frame features: windows, encoding, the feature cache, exported encoders."""
