"""Errors that vidground raises. Each message names the value, the limit and the remedy."""


class VidgroundError(Exception):
    """Base class of all errors that vidground raises."""


class VideoError(VidgroundError):
    """A file cannot be read as a video; the message names the file, the fault and a remedy."""


class CheckpointError(VidgroundError):
    """A model cannot be found or loaded; the message says what is missing and how to get it."""


class InputError(VidgroundError):
    """An argument is not accepted; the message names its value, the limit and a remedy."""


class NumericError(VidgroundError):
    """The model computed NaN or infinity; the message says where, in which dtype, and a remedy."""


class FormatError(VidgroundError):
    """A file cannot be written, or holds no valid result; the message names file and fault."""


class InternalError(VidgroundError):
    """There is a bug in vidground or a library; the message says where, and what to report.

    Raised if the original exception cannot be: it occurred in another process, or one of several
    files is reported as failed. Otherwise the original exception is raised.

    Attributes:
        traceback: of the original exception, as printed by Python; empty if unknown.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback

    def __reduce__(self) -> tuple[type["InternalError"], tuple[str, str]]:
        return type(self), (str(self), self.traceback)
