"""What a benchmark tells of two small videos; no time is looked at."""

from pathlib import Path

import pytest
from video_files import make_video

from vidground import DecodingSettings, DenseCaptioner, SamplingSettings
from vidground.benchmark import run_benchmark
from vidground.benchmark_report import Benchmark, Total, times_ours, to_dict, to_table
from vidground.errors import InputError
from vidground.settings import BatchSettings
from vidground.stage_meter import STAGES

GREEDY = DecodingSettings(max_new_tokens=40, loop_tokens=0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    lengths = (100, 175)
    return [make_video(folder / f"{n}.mp4", frames=n, size=(96, 64)) for n in lengths]


@pytest.fixture(scope="module")
def measured(videos) -> Benchmark:
    captioner = DenseCaptioner("toy", decoding=GREEDY, batch=BatchSettings(prompts=2, frames=3))
    return run_benchmark(captioner, videos, baseline=True, rounds=2)


def test_every_stage_is_told_with_its_items(measured) -> None:
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


def test_json_holds_all_of_it(measured) -> None:
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


def test_ratios_are_of_runs_in_turn() -> None:
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


def test_nothing_to_time(videos) -> None:
    captioner = DenseCaptioner("toy", decoding=GREEDY)
    with pytest.raises(InputError, match="0 videos"):
        run_benchmark(captioner, [])
    with pytest.raises(InputError, match="0 rounds"):
        run_benchmark(captioner, videos, rounds=0)
