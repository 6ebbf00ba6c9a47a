"""Evaluations against hand arithmetic and the benchmark's own scores."""

from collections.abc import Sequence
from typing import Any

import pytest

from tests.helpers.paths import GOLDEN
from vidground.errors import InputError
from vidground.training.evaluation.benchmarks.evaluations import (
    evaluate_charades,
    evaluate_youcook2,
)
from vidground.training.evaluation.caption_facts import fact_scores, in_toy_language
from vidground.training.evaluation.etbench import intervals, load_predictions, score
from vidground.training.evaluation.etbench_predictions import read_prediction
from vidground.training.evaluation.moment_scores import calibrations, detection
from vidground.training.evaluation.scores import (
    IOU_GRID,
    EvaluationSettings,
    evaluate_etbench,
    merged_intervals,
    recall_curves,
)

PREDICTIONS = GOLDEN / "etbench" / "predictions.json"
FEW = EvaluationSettings(bootstrap=30)


class SameWords:
    """1 for equal texts, else 0."""

    def similarities(self, first: Sequence[str], second: Sequence[str]) -> list[float]:
        return [float(a == b) for a, b in zip(first, second, strict=True)]


def sample(task: str, response: str, **fields: Any) -> dict[str, Any]:
    base = {"task": task, "source": "s", "idx": 0, "video": "v.mp4", "tgt": [0, 10]}
    return base | {"a": response} | fields


def test_metrics_are_the_benchmarks_own() -> None:
    lines = load_predictions(PREDICTIONS)
    found = evaluate_etbench(lines, settings=FEW, similarity=SameWords())
    assert (found.metrics["samples"], found.metrics["failures"]) == (560, 0)
    for rules in ("official", "strict"):
        expected = score(lines, rules=rules, similarity=SameWords())
        metrics = found.metrics[rules]
        assert metrics["merged"] == expected.merged
        assert set(expected.merged) == {"F1(gnd)", "F1(cap)", "Sim(cap)", "Rec(com)"}
        assert metrics["sources"] == expected.sources
        by_task = intervals(expected, samples=30)
        assert metrics["task_intervals"]["dvc"]["F1"]["low"] == by_task["dvc"]["F1"].low
        for name, interval in metrics["merged_intervals"].items():
            assert interval["estimate"] == pytest.approx(expected.merged[name])
            assert interval["low"] < interval["estimate"] < interval["high"]
        assert f"E.T. Bench, {rules} rules" in found.text
        assert set(found.curves[rules]) == {
            *("tvg", "epm", "tal", "evs", "dvc", "slc", "tem", "gvq")
        }
    assert "facts" not in found.metrics  # these captions are of cooking
    assert "calibration" not in found.metrics  # no moments were kept


def test_a_merged_interval_is_that_of_the_tasks_mean() -> None:
    # Two tasks with one source each: the spread of the mean, from the spread of both.
    lines = [sample("tem", f"</evi> 0 - {5 + 5 * (i % 2)}", idx=i, tgt=[[0, 10]]) for i in range(8)]
    lines += [
        sample("gvq", "</evi>(A) 0 - 10" if i % 4 else "</evi>(B) 0 - 10", idx=i, o=["a", "b"], p=0)
        for i in range(8)
    ]
    scores = score(lines, rules="strict")
    # tem: half reach all four thresholds and half three of them; gvq: three of four right.
    assert scores.merged["Rec(com)"] == pytest.approx((0.875 + 0.75) / 2)
    found = merged_intervals(scores, EvaluationSettings(bootstrap=400))["Rec(com)"]
    assert found.estimate == pytest.approx(scores.merged["Rec(com)"])
    # Variances of the means, over 4: (0.125² + 0.75 · 0.25) / 8 / 4, within ± 1.96 deviations.
    half = 1.96 * ((0.125**2 + 0.75 * 0.25) / 32) ** 0.5
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    assert merged_intervals(scores, EvaluationSettings(bootstrap=0)) == {}


def test_failures_are_misses_and_counted() -> None:
    lines = [sample("tvg", "</evi> 0 - 10"), sample("tvg", "", idx=1, error="no such file")]
    metrics = evaluate_etbench(lines, settings=EvaluationSettings(bootstrap=0)).metrics
    assert metrics["failures"] == 1
    for rules in ("official", "strict"):
        assert metrics[rules]["tasks"]["tvg"]["F1"] == 0.5
        assert metrics[rules]["parse_rates"] == {"tvg": 0.5}
        assert metrics[rules]["task_intervals"] == {}


def test_recall_by_hand() -> None:
    first = read_prediction(sample("tvg", "</evi> 0 - 5 and 0 - 10"), "x")
    second = read_prediction(sample("tvg", "0 - 10"), "x")
    many = read_prediction(sample("tal", "</evi> 0 - 10, 20 - 24", tgt=[[0, 10], [20, 30]]), "x")
    curves = recall_curves([first, second, many], "strict")
    at = {task: dict(zip(IOU_GRID, values, strict=True)) for task, values in curves.items()}
    # The first interval overlaps by 0.5; what has no </evi> is not read by the strict rules.
    assert (at["tvg"][0.5], at["tvg"][0.55]) == (0.5, 0.0)
    assert recall_curves([first, second], "official")["tvg"][-1] == 0.5
    assert (at["tal"][0.4], at["tal"][0.45], at["tal"][0.95]) == (1.0, 0.5, 0.5)


def dense(idx: int, response: str, tgt: list[list[float]], g: list[str]) -> Any:
    return read_prediction(sample("dvc", response, idx=idx, tgt=tgt, g=g), "x")


def test_facts_by_hand() -> None:
    truth = ["a red circle moves left", "a blue square blinks"]
    given = [
        # One right but for the direction, one right; the third event is no true one.
        dense(
            0,
            "</evi>0 - 10, a red circle moves up. 20 - 30, a blue square blinks. "
            "40 - 50, a green cross grows.",
            [[0, 10], [20, 30]],
            truth,
        ),
        # Overlapping events: each caption is held against the event it fits best in time.
        dense(
            1,
            "</evi>1 - 10, a blue square blinks. 0 - 9, a red circle moves left.",
            [[0, 9], [1, 10]],
            truth,
        ),
        dense(2, "</evi>nothing", [[0, 10], [20, 30]], truth),
        dense(3, "</evi>0 - 4, a red circle moves left.", [[0, 10], [20, 30]], truth),
    ]
    assert in_toy_language(given)
    found = fact_scores(given)["dvc"]
    assert (found.events, found.found) == (8, 0.5)
    assert found.right == {"color": 1.0, "shape": 1.0, "action": 1.0, "direction": 0.75}
    assert found.whole == 0.75


@pytest.mark.parametrize("caption", ["stir the pot", "a red circle", "a red circle moves left now"])
def test_other_captions_have_no_facts(caption: str) -> None:
    toy = dense(0, "", [[0, 1]], ["red circle moves left"])
    assert in_toy_language([toy])
    assert not in_toy_language([toy, dense(1, "", [[0, 1]], [caption])])
    assert not in_toy_language([read_prediction(sample("tvg", ""), "x")])


MOMENTS = [
    sample("tvg", "", moments=[[0, 10, 0.9], [40, 50, 0.7]]),
    sample("tvg", "", idx=1, moments=[[4, 10, 0.45]]),
    sample("tvg", "", idx=2, moments=[]),
    sample("tvg", "", idx=3, error="no such file"),
    sample("evs", "", tgt=[[0, 10]], moments=[[0, 10, 0.2]]),
]
ABSENT = [
    {"task": "tvg", "idx": 0, "differs": "color", "moments": [[0, 10, 0.6], [20, 30, 0.55]]},
    {"task": "tvg", "idx": 1, "differs": "color", "moments": [[0, 10, 0.3]]},
    {"task": "tvg", "idx": 2, "differs": "shape", "moments": []},
    {"task": "tvg", "idx": 3, "differs": "shape", "error": "no such file"},
]


def test_scores_of_moments_by_hand() -> None:
    found = calibrations(MOMENTS, ABSENT)
    assert set(found) == {"tvg", "all"}
    # 0.9 and 0.45 are right (overlaps 1 and 0.6), 0.7 is not.
    assert found["tvg"].expected_error == pytest.approx((0.1 + 0.55 + 0.7) / 3)
    assert [part.count for part in found["all"].bins] == [0, 0, 0, 1, 1, 1, 1, 1, 0, 1]
    assert found["all"].brier == pytest.approx(
        (0.1**2 + 0.7**2 + 0.55**2 + 0.6**2 + 0.55**2 + 0.3**2) / 6
    )
    assert calibrations([sample("tvg", "")]) == {}


def test_false_alarms_by_hand() -> None:
    found = detection(MOMENTS, ABSENT, threshold=0.5, samples=50)
    assert found.found_rate == pytest.approx(1 / 3)
    assert (found.queries, found.failed) == (3, 1)
    assert found.false_alarm_rate == pytest.approx(1 / 3)
    assert found.by_difference == {"color": 0.5, "shape": 0.0}
    assert found.interval is not None
    assert found.interval.low < 1 / 3 < found.interval.high
    strict = detection(MOMENTS, ABSENT, threshold=0.6, samples=0)
    assert (strict.false_alarm_rate, strict.interval) == (pytest.approx(1 / 3), None)
    assert detection(MOMENTS, ABSENT, threshold=0.65, samples=0).false_alarm_rate == 0
    assert detection(MOMENTS, [], threshold=0.5, samples=9).false_alarm_rate is None
    with pytest.raises(InputError, match="moments of tvg idx 0"):
        detection([sample("tvg", "", moments=[[1, 2]])], [], threshold=0.5, samples=0)


def test_moments_are_part_of_the_evaluation() -> None:
    settings = EvaluationSettings(bootstrap=0, threshold=0.25)
    found = evaluate_etbench(MOMENTS, ABSENT, settings=settings)
    assert found.metrics["detection"]["false_alarm_rate"] == pytest.approx(2 / 3)
    assert set(found.calibrations) == set(found.metrics["calibration"]) == {"tvg", "all"}
    assert "| 0.25 | 66.7 | 66.7 | - | 3 (1 failed) |" in found.text


def test_charades() -> None:
    lines = [
        sample("tvg", f"</evi> 0 - {end}", source="charades_sta", idx=i)
        for i, end in enumerate((10, 5, 1))
    ]
    found = evaluate_charades(lines, settings=FEW)
    assert found.metrics["scores"]["R@0.5"] == pytest.approx(2 / 3)
    assert found.metrics["scores"]["mIoU"] == pytest.approx(1.6 / 3)
    assert found.metrics["intervals"]["mIoU"]["estimate"] == pytest.approx(1.6 / 3)
    assert found.curves["charades"]["tvg"][0] == 1.0
    assert "| 66.7 | 66.7 | 33.3 | 53.3 |" in found.text


def test_youcook2() -> None:
    lines = [
        sample("dvc", "</evi>0 - 10, stir the pot slowly", source="youcook2", g=["stir the pot"])
        | {"tgt": [[0, 10]], "video": f"{i}.mp4", "idx": i}
        for i in range(2)
    ]
    found = evaluate_youcook2(lines, settings=FEW)
    assert found.metrics["scores"]["f1"] == 1.0
    assert found.metrics["videos"] == 2
    assert found.metrics["intervals"]["f1"]["low"] == 1.0
    assert "| precision | recall | f1 | cider |" in found.text


@pytest.mark.parametrize(
    "wrong", [{"rules": ()}, {"bootstrap": -1}, {"threshold": 1.5}, {"seed": -1}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        EvaluationSettings(**wrong)
