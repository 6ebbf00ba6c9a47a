"""Makes results for the tests of what editing programs read."""

from dataclasses import replace
from fractions import Fraction

from hypothesis import strategies as st

from tests.helpers.result_makers import VIDEO, captions
from vidground.language.safe_text import plain_text
from vidground.results.editors.editing import EDITOR_RATES
from vidground.results.types import Captions, Event

TEXTS = st.text(max_size=20) | st.text("12 \n\r*:;,\"'<>&{}\\%\x00\u2028\x85\ud800\x1b[m\ufffe")


@st.composite
def at_any_rate(draw: st.DrawFn, last_s: float) -> tuple[Captions, Fraction]:
    """A result on a video at one of the editors' rates, and that rate."""
    rate = draw(st.sampled_from(EDITOR_RATES))
    starts = draw(st.lists(st.floats(0, last_s - 60), max_size=4))
    events = [Event(s, s + draw(st.floats(0.001, 60)), draw(TEXTS)) for s in starts]
    path = "clips/" + (draw(TEXTS).replace("/", "").replace("\x00", "") or "x") + ".mp4"
    video = replace(VIDEO, fps=float(rate), duration_s=last_s, path=path)
    return replace(captions(*events), video=video), rate


def in_frames(result: Captions, rate: Fraction) -> list[tuple[int, int, str]]:
    """First frame, length in frames and text of each event, by time, by hand."""
    rows = []
    for event in result.events:
        first = round(Fraction(event.start_s) * rate)
        end = max(round(Fraction(event.end_s) * rate), first + 1)
        rows.append((first, end, plain_text(event.text) or "…"))
    rows.sort(key=lambda row: row[:2])
    return [(first, end - first, text) for first, end, text in rows]
