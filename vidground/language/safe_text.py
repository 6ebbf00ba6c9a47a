"""Make untrusted text safe to show: one line that no terminal or player interprets.

Captions come from a model and queries from anybody. What a single format needs on top (arrows in
SRT, `&lt;` in WebVTT, formulas in spreadsheets) is done where that format is written.
"""

import re

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links, device strings
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|\x1b[ -/]*[0-~]?"  # everything else, and an escape that is cut off
)
# Control characters other than white space, marks that change the reading direction, byte order
# marks.
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NOT_IN_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain_text(text: str) -> str:
    """Return `text` as one line that can be shown anywhere and written as UTF-8.

    Terminal escape sequences, control characters and marks that change the reading direction
    are removed; white space, including line breaks of all kinds, becomes single spaces and is
    stripped at the ends; a lone surrogate becomes U+FFFD. Applying it twice changes nothing more.
    """
    text = _ESCAPE_SEQUENCE.sub("", text)
    text = _UNSEEN.sub("", text)
    return _SURROGATE.sub("\ufffd", " ".join(text.split()))


def xml_text(text: str) -> str:
    """Return `text` with U+FFFD for each character that XML 1.0 cannot hold even if escaped."""
    return _NOT_IN_XML.sub("\ufffd", text)
