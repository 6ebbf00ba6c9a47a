"""What a benchmark tells of two small videos; no time is looked at."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from tests.helpers.video_files import make_video
from vidground import DecodingSettings, DenseCaptioner, SamplingSettings
from vidground.benchmark import measuring, released_procedure
from vidground.benchmark import run as benchmark
from vidground.benchmark.measuring import STAGES, Ceilings, Usage
from vidground.benchmark.report import Benchmark, Total, times_ours, to_dict, to_table
from vidground.benchmark.run import run_benchmark
from vidground.benchmark.staged_run import StagedRun
from vidground.benchmark.workload import Work
from vidground.errors import InputError
from vidground.generation.batch_decoder import BatchDecoder
from vidground.generation.prompt_batch import PromptBatch
from vidground.settings import BatchSettings

GREEDY = DecodingSettings(max_new_tokens=40, loop_tokens=0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    lengths = (100, 175)
    return [make_video(folder / f"{n}.mp4", frames=n, size=(96, 64)) for n in lengths]


@pytest.fixture(autouse=True, scope="module")
def ceilings() -> Iterator[None]:
    """What the device can do, which takes seconds to measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "measure_ceilings", lambda *_: Ceilings(1e12, 1e10))
        yield


@pytest.fixture(scope="module")
def captioner() -> DenseCaptioner:
    return DenseCaptioner("toy", decoding=GREEDY, batch=BatchSettings(prompts=2, frames=3))


@pytest.fixture(scope="module")
def steps() -> list[str]:
    """The steps that `measured` reported."""
    return []


@pytest.fixture(scope="module")
def measured(captioner, videos, steps) -> Benchmark:
    return run_benchmark(captioner, videos, baseline=True, rounds=2, on_step=steps.append)


@pytest.mark.usefixtures("measured")
def test_rounds_alternate_with_the_released_procedure(steps) -> None:
    assert [step for step in steps if step.startswith("round")] == [
        "round 1: all stages together",
        "round 1: the released procedure",
        "round 2: all stages together",
        "round 2: the released procedure",
    ]


def test_every_stage_is_reported_with_its_items(measured) -> None:
    assert [stage.name for stage in measured.stages] == list(STAGES)
    assert measured.videos == 2
    assert measured.frames == 4 + 7
    assert measured.video_s == pytest.approx(11.0)
    items = {stage.name: (stage.items, stage.unit) for stage in measured.stages}
    assert items == {
        **dict.fromkeys(("decode", "preprocess", "vision", "compress"), (11, "frame")),
        "prefill": (2, "answer"),
        "tokens": (measured.tokens - 2, "token"),
        "write": (2, "result"),
    }


def test_the_released_procedure_has_the_same_work_and_answers(measured) -> None:
    baseline = measured.baseline
    assert [stage.name for stage in baseline.stages] == list(STAGES)[:-1]
    assert len(measured.totals) == len(baseline.totals) == 2
    assert baseline.agreement.answers == 2
    assert baseline.agreement.evidence == baseline.agreement.intervals > 0
    assert 0 < baseline.agreement.largest_difference < 0.05
    work = {stage.name: stage.work for stage in measured.stages}
    for stage in baseline.stages:
        if stage.work is not None:
            assert stage.work.flops == work[stage.name].flops, stage.name
    weights = {stage.name: stage.work.numbers for stage in baseline.stages if stage.work}
    assert weights["tokens"] > work["tokens"].numbers  # read anew for every video
    assert weights["vision"] < work["vision"].numbers  # but all frames of a video at once


def test_different_answers_are_reported(captioner, videos, monkeypatch) -> None:
    """A procedure that takes the first frame for the evidence of every second `<evi>`."""
    best_run, calls = released_procedure.best_run, 0

    def other(curve: list[float], *, threshold: float) -> tuple[int, int]:
        nonlocal calls
        calls += 1
        first, last = best_run(curve, threshold=threshold)
        return (first, last) if calls % 2 else (len(curve) - 1 - first, len(curve) - 1 - first)

    monkeypatch.setattr(released_procedure, "best_run", other)
    measured = run_benchmark(captioner, videos, baseline=True)
    agreement = measured.baseline.agreement
    assert agreement.answers < 2
    assert 0 < agreement.intervals < agreement.evidence


def test_first_tokens_are_timed_separately(captioner, videos, monkeypatch) -> None:
    """By a clock that shows 1,000 s for each batch of prompts read and 1 s for each step."""
    add, step, now = BatchDecoder.add, BatchDecoder.step, 0.0

    def slow_add(decoder: BatchDecoder, batch: PromptBatch) -> None:
        nonlocal now
        now += 1000
        add(decoder, batch)

    def slow_step(decoder: BatchDecoder, embeds: Tensor) -> None:
        nonlocal now
        now += 1
        step(decoder, embeds)

    run = StagedRun(captioner)
    for path in videos:
        run.encode(path)
    monkeypatch.setattr(BatchDecoder, "add", slow_add)
    monkeypatch.setattr(BatchDecoder, "step", slow_step)
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now)
    run.answer()
    longest = max(len(generation.token_ids) for generation in run.generations)
    assert run.meter.usage["prefill"].seconds % 1000 == 0
    assert run.meter.usage["prefill"].seconds > 0
    assert run.meter.usage["tokens"].seconds == longest - 1


def test_shares_and_rates_are_work_over_time(measured) -> None:
    stage = next(stage for stage in measured.stages if stage.name == "vision")
    stage = replace(stage, usage=Usage(2.0, 1.0, None), work=Work(flops=6.0, numbers=10.0))
    known = replace(
        measured,
        ceilings=Ceilings(flops_per_s=30.0, bytes_per_s=200.0),
        bytes_per_number=4,
        video_s=12.0,
        frames=8,
        tokens=20,
        stages=(stage,),
        totals=(Total(4.0, 3.0),),
        baseline=None,
    )
    values = to_dict(known)
    (told,) = values["stages"]
    assert (told["bytes"], told["flop_share"], told["bandwidth_share"]) == (40.0, 0.1, 0.1)
    (round_,) = values["rounds"]
    rates = ("video_seconds_per_second", "frames_per_second", "tokens_per_second")
    assert [round_[rate] for rate in rates] == [3.0, 2.0, 5.0]


def test_json_holds_every_field(measured) -> None:
    values = to_dict(measured)
    assert values["schema_version"] == 1
    assert values["model"] == "toy"
    assert values["prompts_at_once"] == 2
    assert {stage["name"] for stage in values["stages"]} == set(STAGES)
    for stage in values["stages"]:
        assert stage["seconds"] >= 0
        assert ("flops" in stage) == (stage["name"] in ("vision", "compress", "prefill", "tokens"))
    assert len(values["rounds"]) == 2
    assert values["rounds"][0]["frames_per_second"] > 0
    assert values["baseline"]["agreement"]["answers"] == 2
    assert set(values["baseline"]["times_ours"]) == {"seconds", "cpu_seconds"}


def test_the_table_has_a_row_for_each(measured) -> None:
    lines = to_table(measured).splitlines()
    assert max(map(len, lines)) <= 100
    for name in STAGES:
        rows = [line for line in lines if line.startswith(f"{name} ")]
        assert len(rows) == (1 if name == "write" else 2), name
    assert "equal: 2 of 2 answers" in lines[-1]


def test_ratios_compare_runs_of_the_same_round() -> None:
    ours = [Total(1.0, 1.0), Total(2.0, 1.0), Total(10.0, 1.0)]
    theirs = [Total(3.0, 2.0), Total(10.0, 2.0), Total(20.0, 4.0)]
    assert times_ours(ours, theirs) == {"seconds": 3.0, "cpu_seconds": 2.0}


def test_without_the_released_procedure(videos) -> None:
    steps: list[str] = []
    captioner = DenseCaptioner("toy", decoding=GREEDY, sampling=SamplingSettings(window_s=3))
    measured = run_benchmark(captioner, videos, on_step=steps.append)
    assert measured.baseline is None
    assert to_dict(measured)["baseline"] is None
    assert next(s.items for s in measured.stages if s.name == "prefill") > 2  # windows
    assert len(steps) == 5


def test_what_the_released_procedure_cannot_do_is_refused(videos) -> None:
    windowed = DenseCaptioner("toy", decoding=GREEDY, sampling=SamplingSettings(window_s=3))
    with pytest.raises(InputError, match=r"(7|4) frames"):
        run_benchmark(windowed, videos, baseline=True)
    drawing = DenseCaptioner("toy", decoding=DecodingSettings(temperature=0.2, loop_tokens=0))
    with pytest.raises(InputError, match=r"temperature=0\.2"):
        run_benchmark(drawing, videos, baseline=True)


def test_nothing_to_time_is_refused(captioner, videos) -> None:
    with pytest.raises(InputError, match="videos: 0"):
        run_benchmark(captioner, [])
    with pytest.raises(InputError, match="rounds: 0"):
        run_benchmark(captioner, videos, rounds=0)
