"""Every field of an annotation is checked, and what is wrong is named with file, index, reason."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.annotation_files import (
    ANSWER,
    MOVED,
    QUESTION,
    fpo_sample,
    sft_sample,
    turns,
    write,
)
from vidground.errors import InputError
from vidground.training.data.annotation_files import read_samples, write_samples
from vidground.training.data.annotations import (
    AnnotatedResponse,
    AnnotationError,
    PreferenceAnnotation,
    check_annotations,
    load_annotations,
    videos_of,
)


def reason(tmp_path: Path, sample: Any, **options: Any) -> str:
    """What is found wrong with one sample."""
    report = check_annotations([write(tmp_path / "a.json", sample)], **options)
    (problem,) = report.problems
    assert report.annotations == ()
    return problem.reason


def test_fields_of_an_sft_sample(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", sft_sample(), sft_sample(video="b.mp4", extra=[1]))
    first, second = load_annotations([file])
    assert (first.file, first.index, first.task, first.source) == (file, 0, "tal", "toy")
    assert (first.video, first.duration_s, first.src) == ("clips/a.mp4", 20.0, ())
    assert first.question == f"<image>\n{QUESTION}"
    assert first.response == AnnotatedResponse(ANSWER, (2.0, 4.0, 6.0, 9.5))
    assert not isinstance(first, PreferenceAnnotation)
    assert second.index == 1
    assert videos_of([first, second, first]) == [Path("clips/a.mp4"), Path("b.mp4")]


def test_intervals_of_a_question(tmp_path: Path) -> None:
    conversations = turns("<image>\nWhat happens in <evi>?", "</evi>a red circle grows.")
    for src in ([3.0, 8.0], [5]):
        sample = sft_sample(src=src, tgt=None, conversations=conversations)
        (found,) = load_annotations([write(tmp_path / "a.json", sample)])
        assert found.src == tuple(src)
        assert found.response.tgt == ()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"task": None}, "task is None"),
        ({"source": " "}, "source is ' '"),
        ({"video": 3}, "video is 3"),
        ({"video": "/etc/a.mp4"}, "must be a relative path"),
        ({"video": "a/../../b.mp4"}, "must be a relative path"),
        ({"video": "a\\b.mp4"}, "must be a relative path"),
        ({"video": "a\0.mp4"}, "must be a relative path"),
        ({"video": "a\ud800.mp4"}, "video is 'a.*it must be a text"),
        ({"conversations": turns("a", "</evi>b\udfff")}, "the turn of gpt says .*needs a text"),
        ({"duration": None}, "duration is None"),
        ({"duration": True}, "duration is True"),
        ({"duration": "20"}, "duration is '20'"),
        ({"duration": 0}, "duration is 0"),
        ({"duration": float("nan")}, "duration is nan"),
        ({"duration": 10**400}, "duration is 1000"),
        ({"tgt": 3}, "tgt is 3; it must be a list"),
        ({"tgt": [2.0, "4", 6.0, 9.5]}, "tgt holds '4'"),
        ({"tgt": [2.0, float("inf"), 6.0, 9.5]}, "tgt holds inf"),
        ({"tgt": [2.0, 4.0, 6.0]}, "tgt has 3 numbers"),
        ({"tgt": [-0.1, 4.0, 6.0, 9.5]}, r"tgt has \[-0.1, 4\]"),
        ({"tgt": [4.0, 2.0, 6.0, 9.5]}, r"tgt has \[4, 2\]"),
        ({"tgt": [2.0, 4.0, 6.0, 21.1]}, r"tgt has \[6, 21.1\]; needs .* <= 20 s"),
        ({"tgt": [2.0, 4.0, 20.2, 20.9]}, r"\[20.2, 20.9\], wholly outside the video of 20 s"),
        ({"tgt": [2.0, 4.0, 20.0, 20.9]}, "wholly outside"),
        ({"conversations": turns("<video>\na", ANSWER)}, "the question holds <video>.* is <image>"),
        ({"conversations": turns("a", "<video>" + ANSWER)}, "the answer holds <video>"),
        ({"tgt": [2.0, 4.0]}, "before </evi> has 2 <evi> and tgt 1 intervals"),
        ({"tgt": None}, "has 2 <evi> and tgt 0 intervals"),
        ({"src": [1.0, 2.0]}, "the question has 0 <evi> and src 1 intervals"),
        ({"conversations": None}, "conversations: None; needs two turns"),
        ({"conversations": turns("a", "b")[:1]}, "1 turns; needs two turns"),
        ({"conversations": turns("a", "b") * 2}, "4 turns; needs two turns"),
        ({"conversations": turns("a", "b")[::-1]}, "is not a turn of human"),
        ({"conversations": [turns("a", "b")[0], "b"]}, "'b' is not a turn of gpt"),
        ({"conversations": turns("a", " ")}, "the turn of gpt says ' '"),
        ({"conversations": [{"from": "human"}, {}]}, "the turn of human says None"),
        ({"conversations": turns("<image> a <image>", ANSWER)}, "has <image> 2 times"),
        ({"conversations": turns("<image>\n", ANSWER)}, "no text beside <image>"),
        ({"conversations": turns("a <evi>", ANSWER)}, "has 1 <evi> and src 0 intervals"),
        ({"conversations": turns("a </evi>", ANSWER)}, "the question holds </evi>"),
        ({"conversations": turns("a", ANSWER + "<|end|>")}, r"control token <\|end\|>"),
        ({"conversations": turns("a", ANSWER + "<image>")}, "control token <image>"),
        ({"conversations": turns("a", ANSWER + "</evi>b")}, "several </evi>"),
        ({"conversations": turns("a", "In <evi><evi></evi><evi><evi>")}, "text before </evi>"),
        ({"conversations": turns("a", "<evi><evi></evi>In <evi>.")}, "after </evi> has 1 <evi>"),
        ({"conversations": turns("a", "In <evi> and <evi>.")}, "before </evi> has 0 <evi>"),
        ({"conversations": turns("a", "</evi>"), "tgt": None}, "no text after </evi>"),
        ({"conversations": {"chosen": turns("a", "b")}}, "as in preference data"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changed: dict[str, Any], expected: str) -> None:
    sample = sft_sample() | changed
    sample = {name: value for name, value in sample.items() if value is not None}
    assert re.search(expected, reason(tmp_path, sample))


def test_an_interval_may_end_a_second_after_its_video(tmp_path: Path) -> None:
    sample = sft_sample(tgt=[2.0, 4.0, 6.0, 21.0])
    assert len(load_annotations([write(tmp_path / "a.json", sample)])) == 1


def test_an_answer_without_evidence_needs_no_end_of_evidence(tmp_path: Path) -> None:
    sample = sft_sample(tgt=None, conversations=turns("a", "Nothing."))
    assert load_annotations([write(tmp_path / "a.json", sample)])[0].response.tgt == ()


def test_a_video_must_exist_where_its_folder_is_known(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", sft_sample())
    report = check_annotations([file], video_root=tmp_path)
    (missing,) = report.missing
    assert (report.annotations, report.problems) == ((), ())
    assert "no such file" in missing.reason
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").touch()
    (found,) = load_annotations([file], video_root=tmp_path)
    assert found.path == tmp_path / "clips/a.mp4"


def test_all_problems_are_reported_with_file_and_index(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json", sft_sample())
    mixed = write(tmp_path / "mixed.json", sft_sample(), "text", sft_sample(duration=-1))
    broken = tmp_path / "broken.json"
    broken.write_text('[\n{"task": }]')
    no_list = tmp_path / "object.json"
    no_list.write_text("{}")
    missing = tmp_path / "missing.json"
    report = check_annotations([good, mixed, broken, no_list, missing])
    assert [(a.file, a.index) for a in report.annotations] == [(good, 0), (mixed, 0)]
    found = [str(problem).removeprefix(f"{tmp_path}/") for problem in report.problems]
    assert found == [
        "mixed.json: sample 1: is str; a sample is an object",
        "mixed.json: sample 2: duration is -1; it must be a number of seconds above 0",
        "broken.json: is not a JSON file: Expecting value: line 2 column 10 (char 11)",
        "object.json: holds dict; annotations are a list of objects",
        "missing.json: no such file; check the path",
    ]
    with pytest.raises(AnnotationError, match=r"5 problems.*: .*mixed.json: sample 1: is str"):
        load_annotations([good, mixed, broken, no_list, missing])


def test_a_long_list_of_problems_is_cut(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", *[3] * 8)
    told = r"^8 problems.*sample 4: .*; and 3 more, see: vidground data validate$"
    with pytest.raises(AnnotationError, match=told):
        load_annotations([file])


def test_no_file_is_an_error() -> None:
    with pytest.raises(InputError, match="0 annotation files"):
        load_annotations([])


def test_fields_of_a_preference_sample(tmp_path: Path) -> None:
    (found,) = load_annotations([write(tmp_path / "a.json", fpo_sample())], kind="fpo")
    assert isinstance(found, PreferenceAnnotation)
    assert found.response == AnnotatedResponse(ANSWER, (2.0, 4.0, 6.0, 9.5))
    shift, facts = found.variants
    assert (shift.name, shift.factor, shift.tgt) == ("r_0_shift", "temporal", tuple(MOVED))
    assert (facts.name, facts.factor) == ("r_1_f", "text")
    assert facts.text == ANSWER.replace("It", "A square")
    assert found.rejected is found.variants[found.drawn]


@pytest.mark.parametrize(
    ("name", "factor"),
    [("r_2_repeat", "text"), ("r_3_qwen_x", "text"), ("r_4_merge", "temporal")],
)
def test_a_variants_name_tells_its_factor(tmp_path: Path, name: str, factor: str) -> None:
    chosen, other = turns("q", "</evi>a"), turns("q", "</evi>b")
    sample = fpo_sample(
        tgt=None,
        src={"chosen": [1.0, 2.0], name: [1.0, 2.0]},
        conversations={"chosen": chosen, name: other},
    )
    sample["conversations"] = {
        key: turns("q <evi>", value[1]["value"]) for key, value in sample["conversations"].items()
    }
    (found,) = load_annotations([write(tmp_path / "a.json", sample)], kind="fpo")
    assert isinstance(found, PreferenceAnnotation)
    assert found.src == (1.0, 2.0)
    assert found.rejected.factor == factor


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"conversations": turns("a", "b")}, "conversations is list; in preference data"),
        ({"conversations": {"chosen": turns("a", "b")}}, "at least one rejected variant"),
        ({"conversations": {"r_0_shift": turns("a", "b")}}, "it needs 'chosen'"),
        ({"tgt": {"chosen": [2.0, 4.0, 6.0, 9.5]}}, "variant 'r_0_shift' before </evi> has 2"),
        (
            {"tgt": {key: [2.0, 4.0, 6.0, 9.5] for key in ("chosen", "r_0_shift", "r_1_f")}},
            "'r_0_shift' equals the chosen response",
        ),
        (
            {"tgt": {"chosen": [2.0, 4.0, 6.0, 9.5], "r_0_shift": [1, 2, 3, 99], "r_1_f": MOVED}},
            r"tgt has \[3, 99\]",
        ),
    ],
)
def test_a_wrong_preference_field_is_named(
    tmp_path: Path, changed: dict[str, Any], expected: str
) -> None:
    assert re.search(expected, reason(tmp_path, fpo_sample() | changed, kind="fpo"))


def test_a_variant_answers_the_chosen_question(tmp_path: Path) -> None:
    sample = fpo_sample()
    sample["conversations"]["r_1_f"][0]["value"] = "Another question?"
    assert "has another question" in reason(tmp_path, sample, kind="fpo")
    sample = fpo_sample()
    sample["conversations"]["shift"] = sample["conversations"].pop("r_0_shift")
    assert "'shift' contains no perturbation" in reason(tmp_path, sample, kind="fpo")


def test_rejected_responses_are_drawn_as_in_the_released_data(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", *[fpo_sample()] * 40)

    def names(**options: Any) -> list[str]:
        found = load_annotations([file], kind="fpo", **options)
        return [a.rejected.name for a in found if isinstance(a, PreferenceAnnotation)]

    generator = random.Random(42)
    assert names() == [generator.sample(["r_0_shift", "r_1_f"], 1)[0] for _ in range(40)]
    assert names() != names(seed=1)


def test_a_broken_sample_does_not_change_what_is_drawn_for_others(tmp_path: Path) -> None:
    samples = [fpo_sample() for _ in range(20)]
    whole = load_annotations([write(tmp_path / "a.json", *samples)], kind="fpo")
    samples[0]["duration"] = None
    report = check_annotations([write(tmp_path / "b.json", *samples)], kind="fpo")
    drawn = [a.drawn for a in report.annotations if isinstance(a, PreferenceAnnotation)]
    assert drawn == [a.drawn for a in whole if isinstance(a, PreferenceAnnotation)][1:]


def test_frames_without_a_place_come_first_or_are_placed_by_a_seed(tmp_path: Path) -> None:
    placed, free = turns("a\n<image>", ANSWER), turns("a", ANSWER)
    samples = [sft_sample(conversations=placed), *[sft_sample(conversations=free)] * 20]
    file = write(tmp_path / "a.json", *samples)
    assert {a.question for a in load_annotations([file])[1:]} == {"a"}
    first, *rest = (a.question for a in load_annotations([file], placement_seed=3))
    assert first == "a\n<image>"
    assert set(rest) == {"<image>\na", "a\n<image>"}
    assert [first, *rest] == [a.question for a in load_annotations([file], placement_seed=3)]


def test_texts_may_hold_any_unicode(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    sample = sft_sample(conversations=turns("Où?", ANSWER.replace("It", "Œuvre ☃")))
    file.write_text(json.dumps([sample], ensure_ascii=False), encoding="utf-8")
    assert "☃" in load_annotations([file])[0].response.text
    file.write_bytes(b'["\xff"]')
    with pytest.raises(AnnotationError, match="byte 2 is not UTF-8"):
        load_annotations([file])


def test_json_lines_are_read_and_written(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    samples = [sft_sample(), sft_sample(video="b\u2028.mp4", duration=30.0)]
    write_samples(file, samples)
    assert file.read_text(encoding="utf-8").count("\n") == 2
    assert read_samples(file) == samples
    file.write_text(json.dumps(samples[0]) + "\n\n" + json.dumps({"task": 3}) + "\n")
    report = check_annotations([file])
    assert [a.index for a in report.annotations] == [0]
    assert [str(p) for p in report.problems] == [
        f"{file}: sample 1: conversations: None; needs " + "two turns, one of human and one of gpt"
    ]
    file.write_text("{}\n{")
    (problem,) = check_annotations([file]).problems
    assert problem.reason.startswith("is not JSON in line 2: ")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_file_without_samples_is_a_problem(tmp_path: Path, name: str) -> None:
    write_samples(tmp_path / name, [])
    (problem,) = check_annotations([tmp_path / name]).problems
    assert problem.reason == "holds no samples; remove the file, or fill it"


def test_missing_videos_are_counted_apart(tmp_path: Path) -> None:
    samples = [sft_sample(), sft_sample(task="\n"), sft_sample(duration=25.0)]
    file = write(tmp_path / "a.json", *samples)
    with pytest.raises(AnnotationError) as raised:
        load_annotations([file], video_root=tmp_path)
    assert "1 problem in annotations; " in str(raised.value)
    assert "; 2 samples of 1 missing video; add the videos, " in str(raised.value)


def test_strict_checks_find_what_training_accepts(tmp_path: Path) -> None:
    first = write(tmp_path / "a.json", sft_sample(), sft_sample(duration=25.0), sft_sample())
    second = write(
        tmp_path / "b.json",
        sft_sample(source="other"),
        sft_sample(src=[]),
        sft_sample(tgt=[], conversations=turns("a", "</evi>b")),
    )
    assert check_annotations([first, second]).problems == ()
    report = check_annotations([first, second], strict=True)
    assert {(p.file, p.index): p.reason for p in report.problems} == {
        (first, 2): f"repeats sample 0 of {first}; remove one of them",
        (second, 0): f"repeats sample 0 of {first}; remove one of them",
        (second, 1): "src is an empty list; leave it out, or name the intervals",
        (second, 2): "tgt is an empty list; leave it out, or name the intervals",
    }
    assert [(a.file, a.index) for a in report.annotations] == [(first, 0), (first, 1)]
    pair = write(tmp_path / "c.json", fpo_sample(), fpo_sample())
    assert len(check_annotations([pair], kind="fpo", strict=True).problems) == 1
