"""Standard streams that the caller of the program closed."""

import os


def occupy_standard_streams() -> None:
    """Open the null device in place of closed standard streams, for this process and its children.

    Otherwise the next file or pipe gets the number of a standard stream, and what a library or a
    child process prints ends up in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            os.set_inheritable(opened, True)
