"""Edit lists: an edit as OpenTimelineIO and as EDL, through opentimelineio (extra `formats`).

Knows no files.
"""

from vidground.errors import FormatError
from vidground.results.editing import Edit

_TITLE_LENGTH = 70
_DAY_S = 24 * 3600


def otio(edit: Edit) -> str:
    """Return an OpenTimelineIO timeline: the whole video as one clip, its events as markers.

    A marker has the event's text as its name, and in its metadata the score and the times in
    seconds, not rounded to frames.
    """
    from opentimelineio import adapters, opentime, schema

    rate = float(edit.rate)

    def span(first: int, frames: int) -> opentime.TimeRange:
        start = opentime.RationalTime(first, rate)
        return opentime.TimeRange(start, opentime.RationalTime(frames, rate))

    whole = span(0, edit.frames)
    clip = schema.Clip(
        name=edit.name,
        media_reference=schema.ExternalReference(target_url=edit.url, available_range=whole),
        source_range=whole,
    )
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
        clip.markers.append(marker)
    timeline = schema.Timeline(name=edit.name)
    timeline.tracks.append(schema.Track(name="V1", kind=schema.TrackKind.Video, children=[clip]))
    return f"{adapters.write_to_string(timeline, adapter_name='otio_json')}\n"


def edl(edit: Edit) -> str:
    """Return a CMX 3600 edit decision list that joins all events, one cut each, by time.

    Source times are the events' own; record times follow one another from 0, so that events may
    overlap. The clip's name is the video's, and the event's text stands in a comment. Timecode is
    drop-frame at 29.97 and 59.94.

    Raises FormatError if an event or all of them together pass 24 hours, where timecode ends.
    """
    from opentimelineio import adapters, opentime, schema

    _require_a_day(edit)
    rate = float(edit.rate)
    track = schema.Track(name="V", kind=schema.TrackKind.Video)
    for found in edit.spans:
        source = opentime.TimeRange(
            opentime.RationalTime(found.first, rate), opentime.RationalTime(found.frames, rate)
        )
        # "AX" is how edit lists call a source that is no tape.
        comments = {"reel": "AX", "comments": [f"COMMENT: {found.text}"]}
        track.append(
            schema.Clip(name=edit.name, source_range=source, metadata={"cmx_3600": comments})
        )
    timecode = "DROP FRAME" if edit.drop_frame else "NON-DROP FRAME"
    head = f"TITLE: {edit.name[:_TITLE_LENGTH]}\nFCM: {timecode}\n"
    if not edit.spans:
        return head
    timeline = schema.Timeline()
    timeline.tracks.append(track)
    return f"{head}\n{adapters.write_to_string(timeline, adapter_name='cmx_3600', rate=rate)}"


def _require_a_day(edit: Edit) -> None:
    """Raise FormatError if a time is past the last timecode of a day."""
    # 24 hours of drop-frame timecode are 24 hours, of other timecode 24 times 3600 counts of
    # the whole number of frames that it calls a second.
    per_second = edit.rate if edit.drop_frame else round(edit.rate)
    limit = int(per_second * _DAY_S)
    last = max((span.end for span in edit.spans), default=0)
    total = sum(span.frames for span in edit.spans)
    if max(last, total) > limit:
        what = "an event ends" if last > limit else "the events together end"
        frames = last if last > limit else total
        raise FormatError(
            f"edl: {what} at {float(frames / edit.rate):.3f} s, and its timecode at 24 hours; "
            "use otio or fcpxml"
        )
