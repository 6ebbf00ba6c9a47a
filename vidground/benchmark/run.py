"""Time how fast a model captions videos, by stage and in total, beside the released procedure.

Times hold for one machine at one moment. Comparable across machines are ratios of alternating runs,
and shares of the device's highest rates (`measuring.Ceilings`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from os import PathLike

import torch

from vidground.benchmark.decode_comparison import DecodingComparison, compare_decoding
from vidground.benchmark.measuring import (
    COMPRESS,
    DECODE,
    PREFILL,
    PREPROCESS,
    STAGES,
    TOKENS,
    VISION,
    WRITE,
    StageMeter,
    device_name,
    measure_ceilings,
    synchronize,
)
from vidground.benchmark.released_procedure import answer_as_released
from vidground.benchmark.report import Agreement, Baseline, Benchmark, StageReport, Total
from vidground.benchmark.staged_run import StagedRun, StagedVideo
from vidground.benchmark.workload import (
    NOTHING,
    compression_work,
    prefill_work,
    token_work,
    vision_work,
)
from vidground.captioner import DenseCaptioner
from vidground.errors import InputError
from vidground.generation.generation_queue import Generation
from vidground.inference.answers import Answer, Answers
from vidground.results.types import Captions
from vidground.settings import CPU
from vidground.version import __version__

OnStep = Callable[[str], None]


def run_benchmark(
    captioner: DenseCaptioner,
    paths: Sequence[str | PathLike[str]],
    *,
    baseline: bool = False,
    rounds: int = 1,
    on_step: OnStep = lambda _: None,
) -> Benchmark:
    """Time the captioning of videos.

    First stage by stage, so that each stage has the device to itself; then in total, by
    `caption_many`, alternating with the released procedure if `baseline` is set. If the captioner
    decodes on a GPU, decoding alone is also compared with the CPU.

    Args:
        captioner: whose model and settings are used.
        paths: of the videos, at least one.
        baseline: whether to time the released procedure too.
        rounds: how often the total is timed, 1 or more.
        on_step: called with a description of each step before it starts.

    Raises:
        VideoError: a file cannot be read.
        InputError: there is nothing to time; or `baseline` is set, and a video needs several
            windows or generation is not greedy, which the released procedure cannot do.
    """
    if not paths or rounds < 1:
        raise InputError(
            f"videos: {len(paths)}, rounds: {rounds}; a benchmark needs at least 1 of each"
        )
    model = captioner.engine.model
    on_step("the device's highest rates")
    ceilings = measure_ceilings(model.device, model.dtype)
    run = StagedRun(captioner)
    for path in paths:
        on_step(f"frames of {path}")
        run.encode(path)
    if baseline:
        _require_comparable(captioner, run.videos)
    decoding = _compared(captioner, paths, on_step)
    on_step("answers")
    run.answer()
    ours: list[Total] = []
    theirs: list[Total] = []
    released = _ReleasedRun(captioner, run)
    results: list[Captions] = []
    for number in range(1, rounds + 1):
        on_step(f"round {number}: all stages together")
        with _timing(captioner, ours):
            results = list(captioner.caption_many(paths))
        if baseline:
            on_step(f"round {number}: the released procedure")
            with _timing(captioner, theirs):
                released.answer()
    run.write(results)
    chunks = [video.chunks for video in run.videos]
    prompts = captioner.engine.sizes.prompts
    return Benchmark(
        circumstances=_circumstances(captioner),
        ceilings=ceilings,
        bytes_per_number=model.dtype.itemsize,
        videos=len(paths),
        video_s=sum(video.duration_s for video in run.videos),
        frames=sum(len(video.times_s) for video in run.videos),
        tokens=sum(len(generation.token_ids) for generation in run.generations),
        stages=_reports(captioner, run, run.meter, run.generations, chunks, prompts),
        totals=tuple(ours),
        decoding=decoding,
        baseline=released.report(theirs, results) if baseline else None,
    )


def _circumstances(captioner: DenseCaptioner) -> dict[str, str | int]:
    """Return the facts that the times depend on."""
    engine = captioner.engine
    model, vision = engine.model, engine.vision
    config = model.config
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "device": device_name(model.device),
        "threads": torch.get_num_threads(),
        "vidground": __version__,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "model": str(model.name_or_path),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": str(model.dtype).removeprefix("torch."),
        "attention": str(config._attn_implementation),
        "vision": "torch" if vision is model else str(vision),
        "prompts_at_once": engine.sizes.prompts,
        "frames_at_once": engine.sizes.frames,
        "videos_at_once": engine.sizes.videos,
        "decode_on": engine.decode_on,
        "most_tokens": engine.decoding.max_new_tokens,
    }


def _compared(
    captioner: DenseCaptioner, paths: Sequence[str | PathLike[str]], on_step: OnStep
) -> DecodingComparison | None:
    engine = captioner.engine
    if engine.decode_on == CPU:
        return None
    on_step(f"decoding alone: {engine.decode_on} and the CPU")
    return compare_decoding(
        paths,
        fps=engine.sampling.fps,
        image_size=engine.model.config.image_size,
        decode_on=engine.decode_on,
        readers=engine.sizes.readers,
        cpu_readers=engine.sizes.readers,
    )


@contextmanager
def _timing(captioner: DenseCaptioner, totals: list[Total]) -> Iterator[None]:
    device = captioner.engine.model.device
    synchronize(device)
    clock, cpu = time.perf_counter(), time.process_time()
    yield
    synchronize(device)
    totals.append(Total(time.perf_counter() - clock, time.process_time() - cpu))


def _require_comparable(captioner: DenseCaptioner, videos: Sequence[StagedVideo]) -> None:
    decoding = captioner.engine.decoding
    if decoding.temperature > 0 or decoding.repetition_penalty != 1 or decoding.loop_tokens:
        raise InputError(
            f"the released procedure cannot generate with {decoding}; set temperature 0, "
            "repetition_penalty 1 and loop_tokens 0"
        )
    for video in videos:
        if len(video.windows) > 1:
            raise InputError(
                f"{video.path} has {len(video.times_s)} frames; the released procedure takes at "
                f"most {captioner.engine.window_length}, use shorter videos"
            )


class _ReleasedRun:
    """The released procedure on the videos of a staged run."""

    def __init__(self, captioner: DenseCaptioner, ours: StagedRun) -> None:
        self._captioner = captioner
        self._ours = ours
        self._meter = StageMeter(captioner.engine.model.device)
        self._generations: list[Generation] = []

    def answer(self) -> None:
        """Answer all videos, one after the other; `report` describes the last call."""
        engine = self._captioner.engine
        self._meter = StageMeter(engine.model.device)
        self._generations = [
            answer_as_released(
                engine.model,
                video.path,
                self._ours.prompt,
                fps=engine.sampling.fps,
                tokens=engine.decoding.max_new_tokens,
                meter=self._meter,
            )
            for video in self._ours.videos
        ]

    def report(self, totals: Sequence[Total], results: Sequence[Captions]) -> Baseline:
        chunks = [(len(video.times_s),) for video in self._ours.videos]
        stages = _reports(
            self._captioner, self._ours, self._meter, self._generations, chunks, prompts=1
        )
        return Baseline(stages, tuple(totals), self._agreement(results))

    def _agreement(self, results: Sequence[Captions]) -> Agreement:
        answers = intervals = evidence = 0
        difference = 0.0
        for video, result, theirs, ours in zip(
            self._ours.videos, results, self._generations, self._ours.generations, strict=True
        ):
            answers += result.answers == (self._text(video, result, theirs),)
            for their, our in zip(theirs.evidence, ours.evidence, strict=False):
                evidence += 1
                intervals += (their.first, their.last) == (our.first, our.last)
                difference = max(difference, float((their.curve - our.curve).abs().max()))
        return Agreement(answers, evidence, intervals, difference)

    def _text(self, video: StagedVideo, result: Captions, generation: Generation) -> str:
        """Format an answer of the released procedure as ours are."""
        engine = self._captioner.engine
        windows = engine.windows(len(video.times_s))
        only = (Answer(windows[0], 0, generation),)
        answers = Answers(result.video, video.times_s, engine.period_s, windows, only, ())
        return engine.read(answers)[0].text


def _reports(
    captioner: DenseCaptioner,
    run: StagedRun,
    meter: StageMeter,
    generations: Sequence[Generation],
    chunks: Sequence[Sequence[int]],
    prompts: int,
) -> tuple[StageReport, ...]:
    """Return the stages with their work.

    Args:
        captioner: whose model was timed.
        run: prompt and windows of the videos.
        meter: usage of the stages.
        generations: an answer per window.
        chunks: for each video, the numbers of frames that were encoded at once.
        prompts: number of prompts answered at once.
    """
    config = captioner.engine.model.config
    question = len(run.prompt.question)
    text = len(run.prompt.before) + len(run.prompt.after)
    windows = [frames for video in run.videos for frames in video.windows]
    work = dict.fromkeys((VISION, COMPRESS, PREFILL, TOKENS), NOTHING)
    for size in (size for sizes in chunks for size in sizes):
        work[VISION] += vision_work(config, size)
        work[COMPRESS] += compression_work(config, size, question)
    for start in range(0, len(windows), prompts):
        frames = windows[start : start + prompts]
        lengths = [text + shown for shown in frames]
        work[PREFILL] += prefill_work(config, lengths, frames, start=len(run.prompt.before))
        counts = [len(generation.token_ids) for generation in generations[start : start + prompts]]
        for step in range(1, max(counts)):
            rows = [n + step for n, count in zip(lengths, counts, strict=True) if count > step]
            work[TOKENS] += token_work(config, rows)
    encoded = sum(size for sizes in chunks for size in sizes)
    items = dict.fromkeys((DECODE, PREPROCESS, VISION, COMPRESS), encoded)
    items[PREFILL] = len(windows)
    items[TOKENS] = sum(len(generation.token_ids) - 1 for generation in generations)
    items[WRITE] = len(run.videos)
    return tuple(
        StageReport(name, items[name], meter.usage[name], work.get(name))
        for name in STAGES
        if name in meter.usage
    )
