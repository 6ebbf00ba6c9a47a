import os

from vidground.archive.run import Started
from vidground.cli.reporting.make_reporter import TextReporter, shown
from vidground.progress import Progress


def test_text_is_shown_in_one_safe_line():
    assert shown("plain é 日本") == "plain é 日本"
    assert shown("a\nb\x1b[31m\u202e" + os.fsdecode(b"\xff")) == r"a\nb\x1b[31m\u202e\xff"


def test_bars_show_files_and_frames_and_leave_lines_whole(capsys):
    reporter = TextReporter(noun="event", total=2, quiet=False, bars=True)
    reporter.event(Started("in/match.mp4", 1, 2))
    reporter.progress(Progress("in/match.mp4", 5, 10, 0, 1))
    reporter.warn("watch out")
    reporter.close()
    told = capsys.readouterr()
    assert told.out == ""
    assert "0/2" in told.err
    assert "in/match.mp4" in told.err
    assert "5/10" in told.err
    assert "warning: watch out\n" in told.err
    reporter = TextReporter(noun="event", total=2, quiet=False, bars=False)
    reporter.progress(Progress("in/match.mp4", 5, 10, 0, 1))
    assert capsys.readouterr().err == ""
