"""The decode loop: prompts to tokens, evidence resolved and fed back."""
