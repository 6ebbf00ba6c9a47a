"""A video written and read back: true times and the right pictures, on the CPU and on a card."""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from vidground.benchmark.decode_comparison import compare_decoding
from vidground.doctor.film import (
    SIDE,
    TICKS_PER_SECOND,
    VIDEO_TICKS,
    picture_number,
    write_film,
)
from vidground.doctor.findings import Finding, failed, ok, skipped, warning
from vidground.errors import InputError, VideoError
from vidground.settings import IsolationSettings
from vidground.video.isolated_reader import IsolatedDecoder, IsolatedReader
from vidground.video.nvdec import opens_card
from vidground.video.reader import VideoReader
from vidground.video.writing import can_write_h264

_FPS = 2.0
_TIMEOUT_S = 30.0


def check_reading() -> Iterator[Finding]:
    """Write a video, and read it in this process and in one of its own, as runs do."""
    if not can_write_h264():
        yield skipped("video", "this PyAV has no encoder libx264 to write the film with")
        return
    with tempfile.TemporaryDirectory(prefix="vidground-") as folder:
        path = Path(folder) / "film.mp4"
        write_film(path)
        yield _compared("in this process", VideoReader(path, fps=_FPS, image_size=SIDE))
        decoder = IsolatedDecoder(IsolationSettings(timeout_s=_TIMEOUT_S))
        with closing(decoder):
            reader = IsolatedReader(decoder, path, fps=_FPS, image_size=SIDE)
            yield _compared("in a process", reader)


def check_card_decoding(cards: Sequence[str]) -> Iterator[Finding]:
    """Decode a video on each card, and compare its pictures with those of the CPU.

    Args:
        cards: "cuda:N" each.
    """
    if not cards:
        yield skipped("cards", "there is no NVIDIA card to test")
    elif not can_write_h264():
        yield skipped("cards", "this PyAV has no encoder libx264 to write the film with")
    else:
        for card in cards:
            yield from _decoded_on(card)


def _decoded_on(device: str) -> Iterator[Finding]:
    try:
        opens_card(device)
    except InputError as error:
        # Videos are decoded on the CPU unless something else is asked for.
        yield warning(device, str(error), "leave --decode-on out, or let the driver decode video")
        return
    with tempfile.TemporaryDirectory(prefix="vidground-") as folder:
        path = Path(folder) / "film.mp4"
        write_film(path)
        try:
            found = compare_decoding(
                [path], fps=_FPS, image_size=SIDE, decode_on=device, readers=1, cpu_readers=1
            )
        except VideoError as error:
            yield failed(device, str(error), "leave --decode-on out: the CPU decodes by default")
            return
    values = {"frames": found.frames, "equal": found.equal}
    message = f"{found.equal} of {found.frames} frames have the same pixels as on the CPU"
    if found.equal == found.frames:
        yield ok(device, message, **values)
    else:
        yield failed(device, message, "leave --decode-on out: the CPU decodes by default", **values)


def _compared(subject: str, reader: VideoReader | IsolatedReader) -> Finding:
    """Whether each sample shows the picture that a player would show at its time."""
    shown = [
        number
        for run in reader.runs()
        for number in [picture_number(run.pixels.numpy())] * (run.last - run.first + 1)
    ]
    times = [round(float(time), 6) for time in reader.times_s]
    # How long the last picture is shown is not in the film: up to two more samples may show it.
    samples = int(VIDEO_TICKS[-1] / TICKS_PER_SECOND * _FPS) + 1
    expected_times = [number / _FPS for number in range(max(samples, min(len(times), samples + 2)))]
    expected = [bisect_right(VIDEO_TICKS, time * TICKS_PER_SECOND) - 1 for time in expected_times]
    values = {"times_s": times, "pictures": shown, "expected": expected}
    if times == expected_times and shown == expected:
        return ok(subject, f"{len(times)} samples at their true times, each the right picture")
    wrong = f"samples at {times} s show pictures {shown}; right were {expected_times}, {expected}"
    return failed(subject, wrong, "install the PyAV that vidground asks for", **values)
