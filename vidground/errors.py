"""The errors vidground raises. Each message names the value, the limit and the remedy."""


class VidgroundError(Exception):
    """Base of every error that vidground raises on purpose."""


class VideoError(VidgroundError):
    """A file is not a video that can be read: its name, what is wrong, what to do."""


class CheckpointError(VidgroundError):
    """A model cannot be found or loaded: which one, what is missing, how to get it."""


class InputError(VidgroundError):
    """An argument is outside what the call accepts: its value, its limit, the remedy."""


class FormatError(VidgroundError):
    """A result file cannot be written or read back: which file, what is wrong with it."""
