"""Tokenizers, prompts, and the parsing of responses."""
