import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.helpers.paths import GOLDEN
from vidground.errors import InputError
from vidground.training.evaluation.answer_reading import Rules
from vidground.training.evaluation.bootstrap import bootstrap_interval
from vidground.training.evaluation.etbench import intervals, load_predictions, score, table

PREDICTIONS = GOLDEN / "etbench"
RULES: tuple[Rules, ...] = ("official", "strict")
THEIR_NAMES = {
    "Matched ratio": "Matched",
    "matched_ratio": "Matched",
    "correct_ratio_within_matched": "Acc_matched",
    "correct ratio within matched": "Acc_matched",
}


class SameWords:
    """1 for equal texts, else 0."""

    def similarities(self, first: Sequence[str], second: Sequence[str]) -> list[float]:
        return [float(a == b) for a, b in zip(first, second, strict=True)]


def sample(task: str, response: str, **fields: Any) -> dict[str, Any]:
    base = {"task": task, "source": "s", "idx": 0, "video": "v.mp4", "duration": 100.0}
    return base | {"a": response} | fields


def one(task: str, response: str, rules: Rules, **fields: Any) -> dict[str, float]:
    scores = score([sample(task, response, **fields)], rules=rules)
    return dict(scores.sources[task]["s"])


@pytest.mark.parametrize("rules", RULES)
def test_scores_equal_the_released_scorers(rules: Rules) -> None:
    scores = score(load_predictions(PREDICTIONS / "predictions.json"), rules=rules)
    expected = json.loads((PREDICTIONS / "expected.json").read_text())[rules]
    for task, sources in expected.items():
        assert set(scores.sources[task]) == set(sources)
        for source, metrics in sources.items():
            found = scores.sources[task][source]
            for name, value in metrics.items():
                if "count" in name:
                    part = "Acc" if name.startswith("correct") else "Matched"
                    assert found[part] * found["Total"] == pytest.approx(value), (task, name)
                else:
                    ours = found[THEIR_NAMES.get(name, name)]
                    assert ours == pytest.approx(value, abs=1e-5), (task, source, name)


def test_official_rules_take_the_first_interval_and_strict_ones_the_best_of_the_answer() -> None:
    response = "40 - 50 </evi> It happens in 0 - 4 and 0 - 10 ."
    assert one("tvg", response, "official", tgt=[0, 10])["mIoU"] == 0.0
    strict = one("tvg", response, "strict", tgt=[0, 10])
    assert (strict["mIoU"], strict["F1"]) == (1.0, 1.0)
    assert (strict["mIoU_evi"], strict["F1_evi"]) == (0.0, 0.0)
    # An answer without evidence stands for its own evidence.
    bare = one("tvg", "</evi> It happens in 0 - 10 .", "strict", tgt=[0, 10])
    assert (bare["F1"], bare["F1_evi"]) == (1.0, 1.0)
    # IoU 0.4 reaches two of the four thresholds.
    assert one("epm", "</evi> 0 - 4", "strict", tgt=[0, 10])["F1"] == 0.5


# In 32 bits 0.1 and 0.3 are rounded up, 0.5 is exact, and 0.7 is rounded down to 0.699999988.
TIES = {1: 0.1, 3: 0.3, 5: 0.5, 7: 0.7}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("seconds", TIES)
@pytest.mark.parametrize(
    ("task", "fields", "name"),
    [
        ("tvg", {"tgt": [0, 10]}, "F1"),
        ("epm", {"tgt": [0, 10]}, "F1"),
        ("tem", {"tgt": [[0, 10]]}, "R"),
        ("gvq", {"tgt": [0, 10], "o": ["x", "y"], "p": 0}, "R"),
        ("tal", {"tgt": [[0, 10]]}, "F1"),
    ],
)
def test_an_overlap_equal_to_a_threshold_reaches_it_except_0_7_of_single_overlaps(
    task: str, fields: dict[str, Any], name: str, seconds: int, rules: Rules
) -> None:
    # [0, n] against [0, 10] overlaps by n / 10.
    found = one(task, f"</evi>(A) 0 - {seconds}", rules, **fields)
    reached = {t: found[f"{name}@{t}"] for t in TIES.values()}
    tie = TIES[seconds]
    expected = {t: float(t < tie or (t == tie and (tie != 0.7 or task == "tal"))) for t in reached}
    assert reached == expected


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("task", ["dvc", "slc"])
@pytest.mark.parametrize("seconds", TIES)
def test_an_overlap_equal_to_a_threshold_is_not_a_dense_match(
    task: str, seconds: int, rules: Rules
) -> None:
    fields = {"tgt": [[0, 10]], "g": ["stir the pot"]}
    found = one(task, f"</evi>0 - {seconds} , stir the pot", rules, **fields)
    tie = TIES[seconds]
    assert {t: found[f"F1@{t}"] for t in TIES.values()} == {
        t: float(t < tie) for t in TIES.values()
    }


def test_overlaps_are_compared_in_the_released_scorers_precision() -> None:
    # 2.1 of 3 s and 6.3 of 9 s are both 0.7. In 32 bits 2.1 is 2.0999999, and the overlap
    # 0.699999988; 6.3 is 6.3000002, and the overlap 0.70000005.
    assert one("tvg", "</evi> 0 - 2.1", "strict", tgt=[0, 3])["F1@0.7"] == 0.0
    assert one("tvg", "</evi> 0 - 6.3", "strict", tgt=[0, 9])["F1@0.7"] == 1.0


def test_times_beyond_32_bits_are_misses() -> None:
    assert one("tvg", f"</evi> 0 - 1{'0' * 40}", "strict", tgt=[0, 10])["mIoU"] == 0.0
    far = f"</evi> 1{'0' * 40} - 2{'0' * 40}"
    assert one("tvg", far, "strict", tgt=[0, 10])["mIoU"] == 0.0


def test_action_localization_by_hand() -> None:
    # IoU 1 and 0.5 with two of three targets, one prediction misses: P 2/3, R 2/3 up to 0.5.
    found = one("tal", "0 - 10, 20 - 25, 80 - 90", "official", tgt=[[0, 10], [20, 30], [50, 60]])
    assert found["F1@0.5"] == pytest.approx(2 / 3)
    assert found["F1@0.7"] == pytest.approx(1 / 3)
    assert found["F1"] == pytest.approx((3 * 2 / 3 + 1 / 3) / 4)


def test_summaries_score_answer_and_evidence_apart_and_not_their_union() -> None:
    # Evidence: seconds 0..4, all true. Answer: 2..6, half true. The union (0..6) would give
    # 2 * 4 / (6 + 4) = 0.8, which is what the released strict scorer says of both.
    found = one("evs", "0 - 4 </evi> It locates in 2 - 6 .", "strict", tgt=[[0, 4]])
    assert (found["F1"], found["F1_evi"]) == (0.5, 1.0)
    # The official scorer knows no evidence: it reads the whole response.
    assert one("evs", "0 - 4 </evi> 2 - 6 .", "official", tgt=[[0, 4]])["F1"] == 0.8
    # 1..3 and 8..10 against 0..2: one second of four is true, one of two is found.
    found = one("evs", "9 - 9 </evi> 1 - 3, 8 - 10", "strict", tgt=[[0, 2]])
    assert found["F1"] == pytest.approx(1 / 3)


def test_highlight_is_the_first_number_or_the_middle_of_the_first_interval() -> None:
    response = "10 - 30 </evi> The highlights happen at 10 - 30 ."
    assert one("vhd", response, "official", tgt=[[20, 40]])["F1"] == 0.0
    assert one("vhd", response, "official", tgt=[[5, 10]])["F1"] == 1.0
    assert one("vhd", response, "strict", tgt=[[5, 10]])["F1"] == 0.0
    assert one("vhd", response, "strict", tgt=[[[50, 60]], [[20, 40]]])["F1"] == 1.0


def test_similar_event_may_be_any_target_but_only_the_first_interval_counts() -> None:
    found = one("tem", "</evi> 10 - 20, 40 - 50", "strict", tgt=[[70, 80], [10, 16], [40, 50]])
    assert found["mIoU"] == pytest.approx(0.6)
    assert found["mRec"] == 0.75


def test_grounded_question_needs_the_right_option_and_the_place() -> None:
    fields: dict[str, Any] = {"tgt": [0, 10], "o": ["w", "x", "y", "z"], "p": 1}
    right = one("gvq", "0 - 6 </evi> (B) It happens in 0 - 6 .", "strict", **fields)
    wrong = one("gvq", "0 - 6 </evi> (A) It happens in 0 - 6 .", "strict", **fields)
    lost = one("gvq", "0 - 6 </evi> (B) It happens.", "strict", **fields)
    assert (right["Acc"], right["mRec"], right["mIoU"]) == (1.0, 0.75, pytest.approx(0.6))
    assert (wrong["Acc"], wrong["mRec"], wrong["mIoU"], wrong["Failed"]) == (0.0, 0.0, 0.0, 0.0)
    assert (lost["Acc"], lost["mRec"], lost["Failed"]) == (1.0, 0.0, 1.0)
    mute = one("gvq", "0 - 6 </evi> It happens in 0 - 6 .", "strict", **fields)
    assert (mute["Acc"], mute["mRec"], mute["Failed"]) == (0.0, 0.0, 1.0)


def test_accuracy_counts_unread_letters_as_misses() -> None:
    options = ["w", "x", "y", "z"]
    responses = ["</evi>(B)", "</evi>(A)", "</evi>x", "</evi>I cannot tell"]
    given = [sample("rar", a, idx=i, o=options, p=1) for i, a in enumerate(responses)]
    found = score(given, rules="official").sources["rar"]["s"]
    assert (found["Acc"], found["Failed"], found["Matched"]) == (0.25, 2, 0.5)
    assert found["Acc_matched"] == 0.5


DENSE: dict[str, Any] = {
    "tgt": [[0, 10], [10, 20], [20, 30]],
    "g": ["Stir the pot!", "pour oil in", "serve it up"],
}


def test_dense_f1_is_of_mean_precision_and_mean_recall() -> None:
    # One of two captions is placed right, one of three targets found: P 1/2, R 1/3. With an
    # unreadable second response P 1/4, R 1/6, and their F1 is 0.2.
    good = sample("dvc", "</evi>0 - 10, stir the pot. 40 - 50, serve it.", **DENSE)
    bad = sample("dvc", "</evi> I could not find it", idx=1, **DENSE)
    assert score([good], rules="strict").tasks["dvc"]["F1"] == pytest.approx(0.4)
    assert score([good, bad], rules="strict").tasks["dvc"]["F1"] == pytest.approx(0.2)
    assert score([good, bad], rules="strict").sources["dvc"]["s"]["Failed"] == 1


def test_caption_similarity_by_hand() -> None:
    # [0, 5] overlaps [0, 10] by 0.5: a partner at 0.1 and 0.3, none at 0.5 and 0.7; the second
    # caption matches nothing, so it is compared with noise: 0.
    good = sample("dvc", "</evi>0 - 5, stir the pot. 40 - 50, serve it up", **DENSE)
    bad = sample("dvc", "</evi> I could not find it", idx=1, **DENSE)
    similarity = SameWords()
    one_of_one = score([good], rules="strict", similarity=similarity).tasks["dvc"]
    one_of_two = score([good, bad], rules="strict", similarity=similarity).tasks["dvc"]
    assert one_of_one["Sim"] == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    assert one_of_two["Sim"] == pytest.approx(0.125)
    assert one_of_two["Sim_parsed"] == pytest.approx(0.25)


def test_a_caption_is_compared_with_every_target_it_overlaps() -> None:
    fields = {"tgt": [[0, 10], [0, 9]], "g": ["stir the pot", "pour oil in"]}
    given = [sample("dvc", "</evi>0 - 10, stir the pot", **fields)]
    assert score(given, rules="strict", similarity=SameWords()).tasks["dvc"]["Sim"] == 0.5


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(
    ("task", "fields", "metric"),
    [
        ("rar", {"o": ["x", "y"], "p": 0}, "Acc"),
        ("eca", {"o": ["x", "y"], "p": 0}, "Acc"),
        ("rvq", {"o": ["x", "y"], "p": 0}, "Acc"),
        ("tvg", {"tgt": [0, 10]}, "F1"),
        ("epm", {"tgt": [0, 10]}, "F1"),
        ("tal", {"tgt": [[0, 10]]}, "F1"),
        ("evs", {"tgt": [[0, 10]]}, "F1"),
        ("vhd", {"tgt": [[0, 10]]}, "F1"),
        ("dvc", {"tgt": [[0, 10]], "g": ["stir the pot"]}, "F1"),
        ("slc", {"tgt": [[0, 10]], "g": ["stir the pot"]}, "F1"),
        ("tem", {"tgt": [[0, 10]]}, "mRec"),
        ("gvq", {"tgt": [0, 10], "o": ["x", "y"], "p": 0}, "mRec"),
    ],
)
def test_an_unreadable_response_is_a_miss_in_every_task(
    task: str, fields: dict[str, Any], metric: str, rules: Rules
) -> None:
    read = sample(task, "0 - 10 </evi>(A) It happens in 0 - 10 , stir the pot", **fields)
    if task in ("dvc", "slc"):
        read["a"] = "</evi>0 - 10 , stir the pot"
    unread = sample(task, "</evi> nothing to be seen", idx=1, **fields)
    both = score([read, unread], rules=rules).sources[task]["s"]
    assert score([read], rules=rules).sources[task]["s"][metric] == 1.0
    assert (both[metric], both["Total"], both["Failed"]) == (0.5, 2, 1)
    if task == "evs":
        assert both["F1_parsed"] == 1.0


def test_strict_rules_need_the_end_of_the_evidence() -> None:
    assert one("tvg", "It happens in 0 - 10 .", "official", tgt=[0, 10])["F1"] == 1.0
    found = one("tvg", "It happens in 0 - 10 .", "strict", tgt=[0, 10])
    assert (found["F1"], found["F1_evi"], found["Failed"]) == (0.0, 0.0, 1)


def full_benchmark() -> list[dict[str, Any]]:
    """Golden predictions, and as eca the rar ones."""
    given = [dict(item) for item in load_predictions(PREDICTIONS / "predictions.json")]
    return given + [item | {"task": "eca"} for item in given if item["task"] == "rar"]


def test_tasks_are_means_over_sources_and_merged_columns_means_over_tasks() -> None:
    scores = score(full_benchmark(), rules="strict", similarity=SameWords())
    assert scores.tasks["tvg"]["F1"] == pytest.approx((0.58125 + 0.6625) / 2, abs=1e-5)
    tasks = scores.tasks
    assert scores.merged["Acc(ref)"] == pytest.approx((0.8 + 0.8 + 0.55) / 3)
    grounding = sum(tasks[task]["F1"] for task in ("tvg", "epm", "tal", "evs", "vhd"))
    assert scores.merged["F1(gnd)"] == pytest.approx(grounding / 5)
    assert scores.merged["F1(cap)"] == pytest.approx((0.66151 + 0.68654) / 2, abs=1e-5)
    assert scores.merged["Sim(cap)"] == pytest.approx(
        (tasks["dvc"]["Sim"] + tasks["slc"]["Sim"]) / 2
    )
    assert scores.merged["Rec(com)"] == pytest.approx((0.825 + 0.6875) / 2)
    assert scores.notes == ()


def test_a_column_is_absent_unless_all_its_tasks_were_scored() -> None:
    scores = score(load_predictions(PREDICTIONS / "predictions.json"), rules="strict")
    assert set(scores.merged) == {"F1(gnd)", "F1(cap)", "Rec(com)"}
    assert "Sim" not in scores.tasks["dvc"]
    assert scores.notes == (
        "Acc(ref) is absent: no predictions of eca",
        "Sim(cap) is absent: no text similarity model was given",
    )


def test_records_hold_every_sample_in_order() -> None:
    given = [sample("tvg", f"</evi> 0 - {i}", idx=9 - i, tgt=[0, 4]) for i in (1, 2, 3)]
    (record,) = score(given, rules="strict").records
    assert record.idx == (8, 7, 6)
    overlaps = record.values[:, record.columns.index("mIoU")]
    assert overlaps == pytest.approx(np.array([0.25, 0.5, 0.75]))
    assert record.metrics(record.values[[0, 0]])["mIoU"] == pytest.approx(0.25)


def test_the_interval_of_a_task_with_one_source_is_that_of_its_samples() -> None:
    scores = score(load_predictions(PREDICTIONS / "predictions.json"), rules="strict")
    found = intervals(scores, samples=200, seed=3)["epm"]["F1"]
    (record,) = [record for record in scores.records if record.task == "epm"]
    column = record.values[:, record.columns.index("F1")]
    direct = bootstrap_interval(column, lambda v: float(v.mean()), samples=200, seed=3)
    assert (found.low, found.high) == (pytest.approx(direct.low), pytest.approx(direct.high))
    assert found.estimate == pytest.approx(scores.tasks["epm"]["F1"])
    assert found.low < found.estimate < found.high


def test_intervals_draw_within_sources() -> None:
    # One source always hits and one never does: every draw gives one half.
    given = [
        sample("tvg", "</evi> 0 - 10", source=source, idx=i, tgt=target)
        for source, target in (("near", [0, 10]), ("far", [50, 60]))
        for i in range(5 if source == "near" else 3)
    ]
    found = intervals(score(given, rules="strict"), samples=50)["tvg"]["F1"]
    assert (found.low, found.estimate, found.high) == (0.5, 0.5, 0.5)


def test_intervals_of_dense_captions_cover_sim_when_it_was_scored() -> None:
    scores = score(full_benchmark(), rules="strict", similarity=SameWords())
    found = intervals(scores, samples=100)["dvc"]
    assert set(found) == {"F1", "Sim"}
    assert found["F1"].low < scores.tasks["dvc"]["F1"] < found["F1"].high


def test_table_shows_percent_gaps_and_ranges() -> None:
    scores = score(load_predictions(PREDICTIONS / "predictions.json"), rules="official")
    text = table(scores, intervals(scores, samples=20))
    lines = text.splitlines()
    assert lines[0] == "E.T. Bench, official rules, in percent"
    assert lines[2] == "| Acc(ref) | F1(gnd) | F1(cap) | Sim(cap) | Rec(com) |"
    assert lines[4].startswith("| - | 70.9 | 67.7 | - |")
    header, _, values, ranges = lines[6:10]
    assert header.startswith("| rar Acc | eca Acc | rvq Acc | tvg F1 |")
    assert values.startswith("| 80.0 | - | 55.0 | 66.9 |")
    assert " to " in ranges
    assert ranges.count("|") == header.count("|") == values.count("|")
    assert "| tvg | qvhighlights | 40 | 3 | F1 62.5 |" in lines
    assert "- Acc(ref) is absent: no predictions of eca" in lines
    assert " to " not in table(scores)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="no predictions to score"):
        score([], rules="strict")
    with pytest.raises(InputError, match="rules are 'lax'"):
        score([sample("tvg", "", tgt=[0, 1])], rules="lax")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prediction 0: has no field 'tgt'"):
        score([sample("tvg", "")], rules="strict")


def test_strict_rules_read_all_that_a_model_without_evidence_stage_says() -> None:
    said = "It happens in 0 - 10 ."
    assert one("tvg", said, "strict", tgt=[0, 10])["F1"] == 0.0
    assert one("tvg", said, "strict", tgt=[0, 10], staged=False)["F1"] == 1.0
