"""Split long videos into overlapping windows of samples, and merge the results of windows.

Arithmetic on sample indices and seconds. Knows neither models nor files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vidground.errors import InputError

_SAME_EVENT_IOU = 0.5
"""Two events with this intersection over union, where both windows overlap, are the same."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of samples that the model sees at once.

    Windows overlap, but each sample is owned by one window: the one in which it is farther from the
    edge.

    Attributes:
        start: first sample.
        stop: one after the last sample.
        own_start: first sample that it owns.
        own_stop: one after the last sample that it owns.
    """

    start: int
    stop: int
    own_start: int
    own_stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def plan_windows(samples: int, *, length: int, overlap: float) -> list[Window]:
    """Split samples into windows of nearly equal length.

    Args:
        samples: number of samples, at least 1.
        length: maximum number of samples per window, at least 1.
        overlap: share of a window that overlaps the next one, in [0, 0.5].

    Raises:
        InputError: `samples` or `length` is below 1.
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


def window_samples(window_s: float | None, *, fps: float, longest: int) -> int:
    """Return the maximum number of samples of a window.

    Args:
        window_s: duration of a window in seconds; None for the longest.
        fps: samples per second of video.
        longest: number of samples that the model was trained on.

    Raises:
        InputError: the window is longer than the model was trained on.
    """
    if window_s is None:
        return longest
    length = max(1, round(window_s * fps))
    if length > longest:
        raise InputError(
            f"a window of {window_s} s at {fps} fps is {length} frames; the model was trained on "
            f"at most {longest}: use a shorter window or a lower fps"
        )
    return length


@dataclass(frozen=True, slots=True)
class WindowEvent:
    """An event found in one window.

    Attributes:
        first: first sample, counted from the start of the video.
        last: last sample, inclusive.
        text: caption.
        score: mean relevance of its samples.
    """

    first: int
    last: int
    text: str
    score: float


@dataclass(slots=True)
class _Chain:
    """An event that is merged from window to window.

    Attributes:
        event: merged so far.
        window: index of the last window that it was found in.
        kept: whether its window owns it, or two windows found it.
    """

    event: WindowEvent
    window: int
    kept: bool


def windows_about(
    windows: Sequence[Window], spans_s: Sequence[tuple[float, float]], *, fps: float
) -> tuple[Window, ...]:
    """Return the windows to ask a question that refers to intervals.

    Args:
        windows: of the video.
        spans_s: (start_s, end_s) of the intervals, in seconds.
        fps: samples per second of video.

    Returns:
        The first window that contains all intervals; all windows if there are no intervals.

    Raises:
        InputError: an interval is not in the video, or no window contains all of them.
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
    """Merge the events of all windows.

    Two events of neighbouring windows are one event if their spans agree in the overlap of the
    windows, or if they have the same caption and touch. Any other event is kept if its window owns
    its middle, so that nothing is reported twice.

    Args:
        windows: of the video.
        per_window: events of each window.

    Returns:
        Events sorted by time.
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
    """Merge events that have the same caption and touch.

    Events touch if they overlap or are on consecutive samples. The merged score is the mean over
    the samples of both.

    Returns:
        Events sorted by time.
    """
    joined: list[WindowEvent] = []
    latest: dict[str, int] = {}  # index of the last event with each caption
    for event in sorted(events, key=lambda event: (event.first, event.last, event.text)):
        text = event.text.casefold()
        at = latest.get(text)
        if at is not None and event.first <= joined[at].last + 1:
            joined[at] = _extended(joined[at], event)
        else:
            latest[text] = len(joined)
            joined.append(event)
    return sorted(joined, key=lambda event: (event.first, event.last, event.text))


def _extended(event: WindowEvent, more: WindowEvent) -> WindowEvent:
    own, other = event.last - event.first + 1, more.last - more.first + 1
    score = (event.score * own + more.score * other) / (own + other)
    return replace(event, last=max(event.last, more.last), score=score)


def _owns(window: Window, event: WindowEvent) -> bool:
    return window.own_start <= (event.first + event.last) / 2 < window.own_stop


def _same_event(old: WindowEvent, new: WindowEvent, before: Window, after: Window) -> bool:
    """Return whether the events of two neighbouring windows are one event."""
    if old.text.casefold() == new.text.casefold() and new.first <= old.last + 1:
        return True
    shared = range(after.start, before.stop)
    return _overlap(old, new, shared) >= _SAME_EVENT_IOU


def _overlap(old: WindowEvent, new: WindowEvent, shared: range) -> float:
    """Return the intersection over union of two spans within the overlap of their windows."""
    spans = [
        (max(event.first, shared.start), min(event.last + 1, shared.stop)) for event in (old, new)
    ]
    if any(start >= stop for start, stop in spans):
        return 0.0
    intersection = min(stop for _, stop in spans) - max(start for start, _ in spans)
    union = max(stop for _, stop in spans) - min(start for start, _ in spans)
    return max(0, intersection) / union


def _joined(old: WindowEvent, new: WindowEvent, before: Window, after: Window) -> WindowEvent:
    """Merge an event found in two windows.

    The result covers both spans if the edge of a window cut one of them; else it is the event of
    the window that owns it.
    """
    better = max((old, new), key=lambda event: event.score)
    if old.last == before.stop - 1 or new.first == after.start or old.first < after.start:
        return replace(better, first=min(old.first, new.first), last=max(old.last, new.last))
    return new if _owns(after, new) else old


def merge_curves(windows: Sequence[Window], curves: Sequence[Sequence[float]]) -> list[float]:
    """Return one value per sample of the video: that of the window which owns the sample."""
    return [
        float(value)
        for window, curve in zip(windows, curves, strict=True)
        for value in curve[window.own_start - window.start : window.own_stop - window.start]
    ]


def span_seconds(
    times_s: Sequence[float], first: int, last: int, *, period_s: float, duration_s: float
) -> tuple[float, float]:
    """Convert an inclusive span of samples to half-open seconds.

    The span reaches from the time of its first sample to that of its last, as in the released
    model's answers: training rounded starts and ends to samples in the same way, so that neither is
    biased. A single sample lasts for one sample period, or until the end of the video.

    Args:
        times_s: times of the samples.
        first: first sample.
        last: last sample, inclusive.
        period_s: time between samples.
        duration_s: end of the video.

    Returns:
        Start and end in seconds.
    """
    start, end = float(times_s[first]), float(times_s[last])
    if end <= start:
        end = min(start + period_s, duration_s)
    if end <= start:  # the last frame of the video has no duration
        end = start + period_s
    return start, end


def distinct_spans(
    spans: Sequence[tuple[int, int, float]], *, iou: float = 0.5
) -> list[tuple[int, int, float]]:
    """Drop spans that overlap a better one (non-maximum suppression).

    Args:
        spans: (first, last, score) of each span, in inclusive samples.
        iou: intersection over union with a better span from which a span is dropped.

    Returns:
        The remaining spans, best first.
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
