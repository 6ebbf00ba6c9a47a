"""The errors vidground raises. Each message names the value, the limit and the remedy."""


class VidgroundError(Exception):
    """Base of every error that vidground raises on purpose."""


class VideoError(VidgroundError):
    """A file is not a video that can be read: its name, what is wrong, what to do."""


class CheckpointError(VidgroundError):
    """A model cannot be found or loaded: which one, what is missing, how to get it."""


class InputError(VidgroundError):
    """An argument is outside what the call accepts: its value, its limit, the remedy."""


class NumericError(VidgroundError):
    """The model computed NaN or infinity: where, in which type, and what to do about it."""


class FormatError(VidgroundError):
    """A result file cannot be written or read back: which file, what is wrong with it."""


class InternalError(VidgroundError):
    """A mistake in vidground or in a library it uses, not in a file: where, and what to report.

    Raised where the original exception cannot be: it happened in another process, or one of many
    files is reported as failed. Otherwise the original exception is raised as it is.

    traceback: of the original exception, as Python prints it; empty if it is not known.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback

    def __reduce__(self) -> tuple[type["InternalError"], tuple[str, str]]:
        return type(self), (str(self), self.traceback)
