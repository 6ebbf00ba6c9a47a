"""The losses of SFT and FPO."""
