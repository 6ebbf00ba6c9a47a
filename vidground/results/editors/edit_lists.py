"""Edits as lists of events and markers: OpenTimelineIO, EDL, and Resolve's marker lists.

OpenTimelineIO is written by opentimelineio (extra `formats`). Knows no files.
"""

import csv
import io
from collections.abc import Iterator

from vidground.results.editors.editing import Edit, Span
from vidground.results.tables import defused
from vidground.video.timecode import to_frame_number

_TITLE_LENGTH = 70
_RESOLVE_START = "01:00:00:00"
"""Where a new timeline starts in Resolve unless its settings say otherwise."""

_RESOLVE_COLOR = "Blue"


def otio(edit: Edit) -> str:
    """Return an OpenTimelineIO timeline: the whole video as one clip, its events as markers.

    All times count from the source timecode. A file with sound has its clip on an audio track
    too. A marker has the event's text as its name, and in its metadata the score and the times in
    seconds from the start of the video, not rounded to frames.
    """
    from opentimelineio import adapters, opentime, schema

    rate = float(edit.rate)

    def span(first: int, frames: int) -> opentime.TimeRange:
        start = opentime.RationalTime(edit.start + first, rate)
        return opentime.TimeRange(start, opentime.RationalTime(frames, rate))

    def clip() -> schema.Clip:
        whole = span(0, edit.frames)
        media = schema.ExternalReference(target_url=edit.url, available_range=whole)
        return schema.Clip(name=edit.name, media_reference=media, source_range=whole)

    pictures = clip()
    for found in edit.spans:
        event = found.event
        exact = {"start_s": float(event.start_s), "end_s": float(event.end_s)}
        if event.score is not None:
            exact["score"] = float(event.score)
        marker = schema.Marker(
            name=found.text,
            marked_range=span(found.first, found.frames),
            color=schema.MarkerColor.GREEN,
            metadata={"vidground": exact},
        )
        pictures.markers.append(marker)
    timeline = schema.Timeline(name=edit.name)
    kind = schema.TrackKind
    timeline.tracks.append(schema.Track(name="V1", kind=kind.Video, children=[pictures]))
    if edit.sound_tracks:
        timeline.tracks.append(schema.Track(name="A1", kind=kind.Audio, children=[clip()]))
    return f"{adapters.write_to_string(timeline, adapter_name='otio_json')}\n"


def edl(edit: Edit) -> str:
    """Return a CMX 3600 edit decision list: one cut per event, one after the other.

    Source times are the video's timecode, which starts again after 24 hours; record times begin
    at 00:00:00:00 and leave no gaps, so that events may overlap. The clip's name is the video's,
    and the event's text is a comment. Events are numbered with three digits, and with four or
    more from 1000 on, which CMX 3600 itself does not have.

    Raises:
        FormatError: an event, or all of them together, would pass 24 hours.
    """
    edit.require_within_a_day("edl", lengths=True)
    recorded = 0
    blocks = []
    for number, found in enumerate(edit.spans, 1):
        source = (edit.start + found.first, edit.start + found.end)
        record = (recorded, recorded + found.frames)
        # "AX" is how edit lists call a source other than a tape.
        blocks.append(
            f"{_edl_event(edit, number, 'AX', (*source, *record))}\n"
            f"* FROM CLIP NAME:  {edit.name}\n* COMMENT: {found.text}\n"
        )
        recorded += found.frames
    return _edl_head(edit) + ("\n" if blocks else "") + "".join(blocks)


def resolve_edl(edit: Edit) -> str:
    """Return the list of markers that Resolve imports as "Timeline Markers from EDL".

    Markers are placed for a timeline that holds the whole video and starts at 01:00:00:00, as new
    timelines in Resolve do. A marker has the event's text as its name, its length, and its score
    as the note. `|`, which separates the fields, becomes `/`.

    Raises:
        FormatError: an event would pass 24 hours on that timeline.
    """
    edit.require_within_a_day("resolve-edl", start=_resolve_start(edit))
    blocks = []
    for number, (first, found) in enumerate(_on_resolve_timeline(edit), 1):
        # Resolve's own lists give every marker one frame here, and its length behind "D:".
        times = (first, first + 1)
        name = found.text.replace("|", "/")
        # What stands before the first "|" is the note. It must not begin with a digit, which
        # Resolve would read as an event's number.
        blocks.append(
            f"{_edl_event(edit, number, '001', times + times)}  \n"
            f"{found.note} |C:ResolveColor{_RESOLVE_COLOR} |M:{name} |D:{found.frames}\n\n"
        )
    return f"{_edl_head(edit)}\n" + "".join(blocks)


def resolve_csv(edit: Edit) -> str:
    """Return the markers as CSV with column names of Resolve's edit index.

    Times are as in `resolve_edl`. Formulas are defused as in `vidground.results.tables`.

    Raises:
        FormatError: an event would pass 24 hours on that timeline.
    """
    edit.require_within_a_day("resolve-csv", start=_resolve_start(edit))
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("#", "Dur", "Record In", "Record Out", "Name", "Notes", "Color"))
    for number, (first, found) in enumerate(_on_resolve_timeline(edit), 1):
        times = (edit.timecode(frame) for frame in (found.frames, first, first + found.frames))
        writer.writerow((number, *times, defused(found.text), found.note, _RESOLVE_COLOR))
    return table.getvalue()


def _edl_head(edit: Edit) -> str:
    form = "DROP FRAME" if edit.drop_frame else "NON-DROP FRAME"
    return f"TITLE: {edit.name[:_TITLE_LENGTH]}\nFCM: {form}\n"


def _edl_event(edit: Edit, number: int, reel: str, frames: tuple[int, int, int, int]) -> str:
    """Return an event's line: source in and out, then record in and out."""
    times = " ".join(edit.timecode(frame) for frame in frames)
    return f"{number:03d}  {reel:<8} V     C        {times}"


def _resolve_start(edit: Edit) -> int:
    form = _RESOLVE_START[:-3] + (";00" if edit.drop_frame else ":00")
    return to_frame_number(form, edit.rate)


def _on_resolve_timeline(edit: Edit) -> Iterator[tuple[int, Span]]:
    """Yield each event with its first frame on a timeline that starts at `_RESOLVE_START`."""
    start = _resolve_start(edit)
    for found in edit.spans:
        yield start + found.first, found
