"""Tables: cues as CSV for spreadsheets, TSV for programs, TXT for people. Knows no files."""

import csv
import io
from collections.abc import Iterable

from vidground.results.cues import Cue, clock

# Spreadsheets take a cell that starts with one of these, or with its full-width twin, for a
# formula. Tabs and line breaks, which some take for one too, never start a plain text. The
# apostrophe itself is among them, so that a reader may always take one away.
_DEFUSED_STARTS = ("'", "=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def comma_separated(cues: Iterable[Cue]) -> str:
    """Return CSV with the header `start_s,end_s,score,text`, seconds to the millisecond.

    An unknown score is an empty cell. A text that a spreadsheet would run as a formula, or that
    starts with an apostrophe, gets a leading apostrophe: without one leading apostrophe, if there
    is any, every text is what it was.
    """
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("start_s", "end_s", "score", "text"))
    for cue in cues:
        score = "" if cue.score is None else f"{cue.score:.6f}"
        text = "'" + cue.text if cue.text.startswith(_DEFUSED_STARTS) else cue.text
        writer.writerow((_seconds(cue.start_ms), _seconds(cue.end_ms), score, text))
    return table.getvalue()


def tab_separated(cues: Iterable[Cue]) -> str:
    """Return TSV with the header `start end text`, times in integer milliseconds, no quoting.

    It is for programs: formulas are not defused.
    """
    rows = (f"{cue.start_ms}\t{cue.end_ms}\t{cue.text}\n" for cue in cues)
    return "start\tend\ttext\n" + "".join(rows)


def lines(cues: Iterable[Cue]) -> str:
    """Return one line `[HH:MM:SS.mmm - HH:MM:SS.mmm] text` per cue; "" without cues."""
    return "".join(
        f"[{clock(cue.start_ms, '.')} - {clock(cue.end_ms, '.')}] {cue.text}".rstrip() + "\n"
        for cue in cues
    )


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
