"""The version of vidground."""

__version__ = "0.1.0"
