"""The result of a benchmark as data, JSON and a table. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from vidground.benchmark.decode_comparison import DecodingComparison
from vidground.benchmark.measuring import Ceilings, Usage
from vidground.benchmark.workload import Work

SCHEMA_VERSION = 1
_UNITS = {"prefill": "answer", "tokens": "token", "write": "result"}  # other stages: frames


@dataclass(frozen=True)
class StageReport:
    """One stage, over all videos.

    Attributes:
        name: of the stage.
        items: number of frames up to `compress`, of answers in `prefill`, of tokens after each
            answer's first in `tokens`, of results in `write`.
        usage: its time and memory.
        work: operations and bytes; None for stages where they are not counted.
    """

    name: str
    items: int
    usage: Usage
    work: Work | None

    @property
    def unit(self) -> str:
        """What `items` counts, in the singular."""
        return _UNITS.get(self.name, "frame")


@dataclass(frozen=True)
class Total:
    """Wall-clock and processor seconds for all videos, from files to answers."""

    seconds: float
    cpu_s: float


@dataclass(frozen=True)
class Agreement:
    """How far the released procedure, which resizes frames differently, gives the same answers.

    Attributes:
        answers: number of answers with equal words and times.
        evidence: number of `<evi>` tokens compared.
        intervals: number of these with equal intervals.
        largest_difference: between relevance curves, in [0, 1].
    """

    answers: int
    evidence: int
    intervals: int
    largest_difference: float


@dataclass(frozen=True)
class Baseline:
    """The released procedure on the same videos, with stages and totals as in `Benchmark`."""

    stages: tuple[StageReport, ...]
    totals: tuple[Total, ...]
    agreement: Agreement


@dataclass(frozen=True)
class Benchmark:
    """The result of a benchmark.

    Attributes:
        circumstances: device, model, versions and settings.
        ceilings: the highest rates that the device reached.
        bytes_per_number: size of a value in the model's dtype.
        videos: number of videos.
        video_s: their total length in seconds.
        frames: sampled frames of all videos.
        tokens: generated tokens of all answers.
        stages: of one run, stage by stage.
        totals: of the whole, one per round.
        decoding: GPU against CPU; None if all videos were decoded on the CPU.
        baseline: the released procedure; None if it was not timed.
    """

    circumstances: Mapping[str, str | int]
    ceilings: Ceilings
    bytes_per_number: int
    videos: int
    video_s: float
    frames: int
    tokens: int
    stages: tuple[StageReport, ...]
    totals: tuple[Total, ...]
    decoding: DecodingComparison | None
    baseline: Baseline | None


def to_dict(benchmark: Benchmark) -> dict[str, Any]:
    """Return a benchmark as JSON values: seconds, bytes, operations, shares in [0, 1]."""
    baseline = benchmark.baseline
    return {
        "schema_version": SCHEMA_VERSION,
        **benchmark.circumstances,
        "ceilings": asdict(benchmark.ceilings),
        "videos": benchmark.videos,
        "video_seconds": benchmark.video_s,
        "frames": benchmark.frames,
        "tokens": benchmark.tokens,
        "stages": [_stage(benchmark, stage) for stage in benchmark.stages],
        "rounds": [_round(benchmark, total) for total in benchmark.totals],
        "decoding": None if benchmark.decoding is None else asdict(benchmark.decoding),
        "baseline": None
        if baseline is None
        else {
            "stages": [_stage(benchmark, stage) for stage in baseline.stages],
            "rounds": [_round(benchmark, total) for total in baseline.totals],
            "times_ours": times_ours(benchmark.totals, baseline.totals),
            "agreement": asdict(baseline.agreement),
        },
    }


def times_ours(ours: Sequence[Total], theirs: Sequence[Total]) -> dict[str, float]:
    """Return the medians over rounds of their time divided by ours."""
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "seconds": median(their.seconds / our.seconds for our, their in pairs),
        "cpu_seconds": median(their.cpu_s / our.cpu_s for our, their in pairs),
    }


def to_table(benchmark: Benchmark) -> str:
    """Return a benchmark as a table, in lines of at most 100 characters."""
    return "\n".join(_lines(benchmark))


def _stage(benchmark: Benchmark, stage: StageReport) -> dict[str, Any]:
    usage, work = stage.usage, stage.work
    values: dict[str, Any] = {
        "name": stage.name,
        "seconds": usage.seconds,
        "cpu_seconds": usage.cpu_s,
        "items": stage.items,
        "unit": stage.unit,
        "peak_memory_bytes": usage.peak_bytes,
    }
    if work is not None:
        read = work.numbers * benchmark.bytes_per_number
        values |= {"flops": work.flops, "bytes": read, "flop_share": None, "bandwidth_share": None}
        if usage.seconds > 0:
            ceilings = benchmark.ceilings
            values["flop_share"] = work.flops / usage.seconds / ceilings.flops_per_s
            values["bandwidth_share"] = read / usage.seconds / ceilings.bytes_per_s
    return values


def _round(benchmark: Benchmark, total: Total) -> dict[str, float]:
    return {
        "seconds": total.seconds,
        "cpu_seconds": total.cpu_s,
        "video_seconds_per_second": benchmark.video_s / total.seconds,
        "frames_per_second": benchmark.frames / total.seconds,
        "tokens_per_second": benchmark.tokens / total.seconds,
    }


def _lines(benchmark: Benchmark) -> Iterator[str]:
    facts, ceilings, baseline = benchmark.circumstances, benchmark.ceilings, benchmark.baseline
    yield (
        f"{facts['model']}: {int(facts['parameters']) / 1e6:,.1f} M parameters, {facts['dtype']}, "
        f"{facts['attention']}, vision {facts['vision']}"
    )
    yield f"{facts['device']}, {facts['threads']} threads, torch {facts['torch']}, {facts['date']}"
    yield (
        f"a large matrix product {ceilings.flops_per_s / 1e12:.2f} TFLOP/s, "
        f"a large copy {ceilings.bytes_per_s / 1e9:.1f} GB/s"
    )
    yield (
        f"videos: {benchmark.videos}, {benchmark.video_s:.0f} s, {benchmark.frames} frames, "
        f"{benchmark.tokens} tokens; at once: {facts['frames_at_once']} frames, "
        f"{facts['prompts_at_once']} prompts, {facts['videos_at_once']} videos"
    )
    yield ""
    yield from _stage_lines(benchmark, "stage", benchmark.stages)
    if baseline is not None:
        yield ""
        yield from _stage_lines(benchmark, "released", baseline.stages)
    if benchmark.decoding is not None:
        yield ""
        yield from _decoding_lines(benchmark.decoding, benchmark.videos)
    yield ""
    yield "total            seconds    cpu s   video s/s   frames/s   tokens/s"
    for total in benchmark.totals:
        yield _total_line(benchmark, "vidground", total)
    if baseline is None:
        return
    for total in baseline.totals:
        yield _total_line(benchmark, "released", total)
    ratios, agreement = times_ours(benchmark.totals, baseline.totals), baseline.agreement
    yield (
        f"vidground is {ratios['seconds']:.2f} times as fast in wall-clock time, "
        f"{ratios['cpu_seconds']:.2f} times in processor time"
    )
    yield (
        f"equal: {agreement.answers} of {benchmark.videos} answers, {agreement.intervals} of "
        f"{agreement.evidence} intervals; relevance differs by at most "
        f"{agreement.largest_difference:.1e}"
    )


def _stage_lines(benchmark: Benchmark, title: str, stages: Sequence[StageReport]) -> Iterator[str]:
    yield f"{title:<12}    seconds    cpu s   ms each            of FLOP/s   of GB/s   peak memory"
    for stage in stages:
        values = _stage(benchmark, stage)
        each = 1e3 * stage.usage.seconds / max(stage.items, 1)
        peak = stage.usage.peak_bytes
        yield (
            f"{stage.name:<12} {stage.usage.seconds:>10.2f} {stage.usage.cpu_s:>8.2f}"
            f"   {each:>8.2f} /{stage.unit:<7}{_share(values.get('flop_share')):>9}"
            f" {_share(values.get('bandwidth_share')):>9}"
            f" {'-' if peak is None else f'{peak / 1e6:,.0f} MB':>13}"
        )


def _decoding_lines(decoding: DecodingComparison, videos: int) -> Iterator[str]:
    there, here = f"decode on {decoding.decode_on}", "decode on cpu"
    yield f"{there:<19} {decoding.seconds:>10.2f} s, {decoding.readers} videos at once"
    yield f"{here:<19} {decoding.cpu_seconds:>10.2f} s, {decoding.cpu_readers} videos at once"
    fallback = f"videos that the GPU could not decode: {decoding.left_to_cpu} of {videos}"
    yield f"equal frames: {decoding.equal} of {decoding.frames}; {fallback}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _total_line(benchmark: Benchmark, name: str, total: Total) -> str:
    rates = _round(benchmark, total)
    return (
        f"{name:<12} {total.seconds:>10.2f} {total.cpu_s:>8.2f}"
        f" {rates['video_seconds_per_second']:>11.2f} {rates['frames_per_second']:>10.2f}"
        f" {rates['tokens_per_second']:>10.2f}"
    )
