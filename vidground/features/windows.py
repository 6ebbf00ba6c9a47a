"""Long videos: overlapping windows of samples, and one timeline out of their results.

Pure arithmetic over sample indices and seconds. Knows no model and no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vidground.errors import InputError

_SAME_EVENT_IOU = 0.5  # two spans that agree this much where both windows look are one event


@dataclass(frozen=True, slots=True)
class Window:
    """Samples [start, stop) that the model sees at once; of these it owns [own_start, own_stop).

    Windows overlap, what they own does not: every sample has one owner, the window in which
    it lies farther from the edge.
    """

    start: int
    stop: int
    own_start: int
    own_stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def plan_windows(samples: int, *, length: int, overlap: float) -> list[Window]:
    """Cover `samples` samples with windows of at most `length`, all but equally long.

    Args:
        samples: at least 1. length: samples per window, at least 1.
        overlap: share of a window in common with the next, in [0, 0.5].

    Raises:
        InputError: if samples or length is below 1.
    """
    if samples < 1 or length < 1:
        raise InputError(f"{samples} samples in windows of {length}; both must be at least 1")
    if samples <= length:
        return [Window(0, samples, 0, samples)]
    step = max(1, length - round(length * overlap))
    count = -(-(samples - length) // step) + 1
    starts = [round(i * (samples - length) / (count - 1)) for i in range(count)]
    cuts = [(before + length + start) // 2 for before, start in pairwise(starts)]
    return [
        Window(start, start + length, own_start, own_stop)
        for start, own_start, own_stop in zip(starts, [0, *cuts], [*cuts, samples], strict=True)
    ]


@dataclass(frozen=True, slots=True)
class WindowEvent:
    """An event as one window saw it: inclusive samples of the whole video, caption, score."""

    first: int
    last: int
    text: str
    score: float


@dataclass(slots=True)
class _Chain:
    """One event as it grows from window to window; kept if owned, or seen by two windows."""

    event: WindowEvent
    window: int
    kept: bool


def windows_about(
    windows: Sequence[Window], spans_s: Sequence[tuple[float, float]], *, fps: float
) -> tuple[Window, ...]:
    """The windows to ask: the first that holds every span that the question refers to, for
    windows overlap and one is enough; all of them if it refers to none.

    Args:
        spans_s: seconds. fps: samples per second of video.

    Raises:
        InputError: a span is not in the video, or no window holds all of them.
    """
    if not spans_s:
        return tuple(windows)
    last = windows[-1].stop - 1
    for start, end in spans_s:
        if not (0 <= start <= end and round(start * fps) <= last):
            raise InputError(
                f"the interval {start} - {end} s is not in the video, which ends at "
                f"{(last + 1) / fps} s; give 0 <= start <= end"
            )
    for window in windows:
        if all(
            window.start <= round(start * fps) and min(round(end * fps), last) < window.stop
            for start, end in spans_s
        ):
            return (window,)
    raise InputError(
        f"no window of {len(windows[0]) / fps} s holds all intervals of the question; ask "
        "about intervals that are closer together"
    )


def merge_events(
    windows: Sequence[Window], per_window: Sequence[Sequence[WindowEvent]]
) -> list[WindowEvent]:
    """The events of all windows on one timeline, sorted by time.

    Neighbouring windows both see the stretch they share. Two events whose spans agree there,
    or that carry the same caption and overlap, are one event. Every other event is kept if its
    middle belongs to the window that saw it, so that nothing is told twice.
    """
    chains: list[_Chain] = []
    for index, (window, events) in enumerate(zip(windows, per_window, strict=True)):
        before = [chain for chain in chains if chain.window == index - 1]
        for event in events:
            partner = next(
                (c for c in before if _same_event(c.event, event, windows[index - 1], window)), None
            )
            if partner is None:
                chains.append(_Chain(event, index, _owns(window, event)))
                continue
            before.remove(partner)
            joined = _joined(partner.event, event, windows[index - 1], window)
            partner.event, partner.window, partner.kept = joined, index, True
    kept = [chain.event for chain in chains if chain.kept]
    return sorted(kept, key=lambda event: (event.first, event.last, event.text))


def join_repeats(events: Sequence[WindowEvent]) -> list[WindowEvent]:
    """Events whose captions are equal and that touch become one; sorted by time.

    They touch if they overlap or at most one sample period lies between the last sample of one
    and the first of the other. The score is the mean over the samples of both.
    """
    joined: list[WindowEvent] = []
    latest: dict[str, int] = {}  # by caption, where the last event with it stands
    for event in sorted(events, key=lambda event: (event.first, event.last, event.text)):
        text = event.text.casefold()
        at = latest.get(text)
        if at is not None and event.first <= joined[at].last + 1:
            joined[at] = _grown(joined[at], event)
        else:
            latest[text] = len(joined)
            joined.append(event)
    return sorted(joined, key=lambda event: (event.first, event.last, event.text))


def _grown(event: WindowEvent, more: WindowEvent) -> WindowEvent:
    own, other = event.last - event.first + 1, more.last - more.first + 1
    score = (event.score * own + more.score * other) / (own + other)
    return replace(event, last=max(event.last, more.last), score=score)


def _owns(window: Window, event: WindowEvent) -> bool:
    return window.own_start <= (event.first + event.last) / 2 < window.own_stop


def _same_event(old: WindowEvent, new: WindowEvent, before: Window, after: Window) -> bool:
    """Whether two neighbouring windows describe one event."""
    if old.text.casefold() == new.text.casefold() and new.first <= old.last + 1:
        return True
    shared = range(after.start, before.stop)
    return _overlap(old, new, shared) >= _SAME_EVENT_IOU


def _overlap(old: WindowEvent, new: WindowEvent, shared: range) -> float:
    """Intersection over union of two spans within the samples that both windows see."""
    spans = [
        (max(event.first, shared.start), min(event.last + 1, shared.stop)) for event in (old, new)
    ]
    if any(start >= stop for start, stop in spans):
        return 0.0
    intersection = min(stop for _, stop in spans) - max(start for start, _ in spans)
    union = max(stop for _, stop in spans) - min(start for start, _ in spans)
    return max(0, intersection) / union


def _joined(old: WindowEvent, new: WindowEvent, before: Window, after: Window) -> WindowEvent:
    """One event of two views: over both if an edge cut one of them, else the owner's view."""
    better = max((old, new), key=lambda event: event.score)
    if old.last == before.stop - 1 or new.first == after.start or old.first < after.start:
        return replace(better, first=min(old.first, new.first), last=max(old.last, new.last))
    return new if _owns(after, new) else old


def merge_curves(windows: Sequence[Window], curves: Sequence[Sequence[float]]) -> list[float]:
    """One value per sample of the video: the value of the window that owns the sample."""
    return [
        float(value)
        for window, curve in zip(windows, curves, strict=True)
        for value in curve[window.own_start - window.start : window.own_stop - window.start]
    ]


def span_seconds(
    times_s: Sequence[float], first: int, last: int, *, period_s: float, duration_s: float
) -> tuple[float, float]:
    """An inclusive span of samples as half-open seconds.

    It reaches from the time of its first sample to that of its last, as the released model's
    answers do: training rounded true starts and ends to samples alike, so that neither is
    biased. A single sample lasts until the next one would be due, or the video ends.

    Args:
        times_s: sampled instants. period_s: distance of samples. duration_s: end of the video.
    """
    start, end = float(times_s[first]), float(times_s[last])
    if end <= start:
        end = min(start + period_s, duration_s)
    if end <= start:  # a last frame that is shown for no time at all
        end = start + period_s
    return start, end


def distinct_spans(
    spans: Sequence[tuple[int, int, float]], *, iou: float = 0.5
) -> list[tuple[int, int, float]]:
    """Spans (first, last, score), best first, without those that an earlier one overlaps.

    Args:
        iou: a span whose intersection over union with a better one reaches this is left out.
    """
    kept: list[tuple[int, int, float]] = []
    for first, last, score in sorted(spans, key=lambda span: (-span[2], span[0], span[1])):
        if all(_span_iou((first, last), (other[0], other[1])) < iou for other in kept):
            kept.append((first, last, score))
    return kept


def _span_iou(a: tuple[int, int], b: tuple[int, int]) -> float:
    intersection = min(a[1], b[1]) - max(a[0], b[0]) + 1
    union = max(a[1], b[1]) - min(a[0], b[0]) + 1
    return max(0, intersection) / union
