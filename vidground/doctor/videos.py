"""Write a video and read it back: check times and frames, on the CPU and on GPUs."""

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
from vidground.video.isolated_reader import DecoderPool, IsolatedReader
from vidground.video.nvdec import opens_card
from vidground.video.reader import VideoReader
from vidground.video.writing import can_write_h264

_FPS = 2.0
_TIMEOUT_S = 30.0
_NO_ENCODER = "this PyAV lacks the encoder libx264, which writes the test video"
_USE_CPU = "leave out --decode-on: the CPU decodes by default"


def check_reading() -> Iterator[Finding]:
    """Write a video, and read it in this process and in a separate one, as commands do."""
    if not can_write_h264():
        yield skipped("video", _NO_ENCODER)
        return
    with tempfile.TemporaryDirectory(prefix="vidground-") as folder:
        path = Path(folder) / "film.mp4"
        write_film(path)
        yield _compared("in this process", VideoReader(path, fps=_FPS, image_size=SIDE))
        decoder = DecoderPool(IsolationSettings(timeout_s=_TIMEOUT_S))
        with closing(decoder):
            reader = IsolatedReader(decoder, path, fps=_FPS, image_size=SIDE)
            yield _compared("in a process", reader)


def check_card_decoding(cards: Sequence[str]) -> Iterator[Finding]:
    """Decode a video on each GPU, and compare its frames with those of the CPU.

    Args:
        cards: "cuda:N" each.
    """
    if not cards:
        yield skipped("cards", "there is no NVIDIA GPU to test")
    elif not can_write_h264():
        yield skipped("cards", _NO_ENCODER)
    else:
        for card in cards:
            yield from _decoded_on(card)


def _decoded_on(device: str) -> Iterator[Finding]:
    try:
        opens_card(device)
    except InputError as error:
        yield warning(
            device, str(error), "leave out --decode-on, or install a driver that decodes video"
        )
        return
    with tempfile.TemporaryDirectory(prefix="vidground-") as folder:
        path = Path(folder) / "film.mp4"
        write_film(path)
        try:
            found = compare_decoding(
                [path], fps=_FPS, image_size=SIDE, decode_on=device, readers=1, cpu_readers=1
            )
        except VideoError as error:
            yield failed(device, str(error), _USE_CPU)
            return
    values = {"frames": found.frames, "equal": found.equal}
    message = f"{found.equal} of {found.frames} frames have the same pixels as on the CPU"
    if found.equal == found.frames:
        yield ok(device, message, **values)
    else:
        yield failed(device, message, _USE_CPU, **values)


def _compared(subject: str, reader: VideoReader | IsolatedReader) -> Finding:
    """Check that each sample is the frame that a player shows at its time."""
    shown = [
        number
        for run in reader.runs()
        for number in [picture_number(run.pixels.numpy())] * (run.last - run.first + 1)
    ]
    times = [round(float(time), 6) for time in reader.times_s]
    # The duration of the last frame is not in the file: up to two more samples may show it.
    samples = int(VIDEO_TICKS[-1] / TICKS_PER_SECOND * _FPS) + 1
    expected_times = [number / _FPS for number in range(max(samples, min(len(times), samples + 2)))]
    expected = [bisect_right(VIDEO_TICKS, time * TICKS_PER_SECOND) - 1 for time in expected_times]
    values = {"times_s": times, "pictures": shown, "expected": expected}
    if times == expected_times and shown == expected:
        return ok(subject, f"{len(times)} samples have the right times and frames")
    wrong = f"samples at {times} s show frames {shown}; expected {expected_times} s, {expected}"
    return failed(subject, wrong, "install the PyAV version that vidground requires", **values)
