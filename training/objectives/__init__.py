"""Losses of supervised fine-tuning (SFT) and factorized preference optimization (FPO)."""
