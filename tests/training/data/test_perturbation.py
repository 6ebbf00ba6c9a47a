"""Rejected answers: one thing wrong, in one factor, by the stated amount."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidground.errors import InputError
from vidground.training.data.answer_events import AnnotatedAnswer, read_answer
from vidground.training.data.perturbation import (
    OtherAnswers,
    PerturbationSettings,
    changed_words,
    factor_of,
    frame_iou,
    preference_annotation,
    preference_annotations,
)

CAPTIONS = ("a man opens the door", "a dog runs away", "the door is closed again")
TIMES = [10.0, 19.5, 30.0, 38.0, 52.0, 66.0]
NAMES = [
    *("rejected_0_shift", "rejected_1_insert", "rejected_2_delete", "rejected_3_merge"),
    *("rejected_4_f", "rejected_5_repeat"),
]


def annotation(answer: str, times_s: Sequence[float] = (), **more: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": answer}]
    found = {"task": "dvc", "video": "a.mp4", "duration": 120.0, "conversations": turns, **more}
    return found | ({"tgt": list(times_s)} if times_s else {})


def dense(captions: Sequence[str] = CAPTIONS, times_s: Sequence[float] = TIMES) -> dict[str, Any]:
    said = " ".join(f"<evi>, {caption}." for caption in captions)
    return annotation("<evi>" * len(captions) + "</evi>" + said, times_s)


def listed(count: int, times_s: Sequence[float], **more: Any) -> dict[str, Any]:
    members = ", ".join(["<evi>"] * (count - 1) + (["and <evi>"] if count > 1 else ["<evi>"]))
    return annotation(f"{'<evi>' * count}</evi>The action happens in {members}.", times_s, **more)


OTHER = AnnotatedAnswer(tuple(zip(TIMES[::2], TIMES[1::2], strict=True)), captions=CAPTIONS)


def said(pair: dict[str, Any], name: str) -> str:
    human, answer = pair["conversations"][name]
    assert human["value"] == "<image>\nWhat?"
    return str(answer["value"])


def spans(times_s: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(times_s[::2], times_s[1::2], strict=True))


def telling(caption: str) -> AnnotatedAnswer:
    answer = read_answer(f"</evi>{caption}.", ())
    assert answer is not None
    return answer


def made(found: dict[str, Any] | None) -> dict[str, Any]:
    assert found is not None
    return found


def test_the_released_form() -> None:
    original = dense()
    kept = copy.deepcopy(original)
    pair = made(preference_annotation(original))
    assert original == kept
    assert list(pair["conversations"]) == list(pair["tgt"]) == ["chosen", *NAMES]
    assert pair["conversations"]["chosen"] == kept["conversations"]
    assert pair["tgt"]["chosen"] == TIMES
    assert {k: v for k, v in pair.items() if k not in ("conversations", "tgt")} == {
        k: v for k, v in kept.items() if k not in ("conversations", "tgt")
    }
    factors = [factor_of(name) for name in NAMES]
    assert factors == ["temporal"] * 4 + ["text"] * 2


def test_what_each_perturbation_does_to_captions() -> None:
    pair = made(preference_annotation(dense(), others=OtherAnswers.of([telling("a cat sleeps")])))
    tgt, first, third = pair["tgt"], CAPTIONS[0], CAPTIONS[2]
    assert said(pair, "rejected_0_shift") == said(pair, "chosen")
    moved = zip(spans(tgt["rejected_0_shift"]), spans(TIMES), strict=True)
    assert sum(there != here for there, here in moved) == 1
    assert said(pair, "rejected_1_insert").startswith("<evi><evi><evi><evi></evi><evi>, ")
    assert "<evi>, a cat sleeps." in said(pair, "rejected_1_insert")
    assert set(spans(TIMES)) < set(spans(tgt["rejected_1_insert"]))
    lost = set(spans(TIMES)) - set(spans(tgt["rejected_2_delete"]))
    gone = CAPTIONS[spans(TIMES).index(*lost)]
    rest = [caption for caption in CAPTIONS if caption != gone]
    assert said(pair, "rejected_2_delete") == "<evi><evi></evi>" + " ".join(
        f"<evi>, {caption}." for caption in rest
    )
    merged = said(pair, "rejected_3_merge"), tgt["rejected_3_merge"]
    assert merged in (
        (f"<evi></evi><evi>, {' and '.join(CAPTIONS)}.", [10.0, 66.0]),
        (
            f"<evi><evi></evi><evi>, {first} and {CAPTIONS[1]}. <evi>, {third}.",
            [10.0, 38.0, 52.0, 66.0],
        ),
        (
            f"<evi><evi></evi><evi>, {first}. <evi>, {CAPTIONS[1]} and {third}.",
            [10.0, 19.5, 30.0, 66.0],
        ),
    )
    assert tgt["rejected_4_f"] == tgt["rejected_5_repeat"] == TIMES
    told = said(pair, "rejected_4_f").removeprefix("<evi><evi><evi></evi>").split("<evi>, ")[1:]
    assert sum(a.strip(" .") != b for a, b in zip(told, CAPTIONS, strict=True)) == 1
    assert {caption.strip(" .") for caption in told} < set(CAPTIONS)  # of the same answer
    assert any(f"{c}, {c}, {c}." in said(pair, "rejected_5_repeat") for c in CAPTIONS)


def test_lists_are_enumerated_anew() -> None:
    pair = made(preference_annotation(listed(2, TIMES[:4])))
    assert list(pair["tgt"]) == ["chosen", *NAMES[:4]]  # a list says nothing of its members
    assert said(pair, "rejected_1_insert") == (
        "<evi><evi><evi></evi>The action happens in <evi>, <evi>, and <evi>."
    )
    for name in ("rejected_2_delete", "rejected_3_merge"):
        assert said(pair, name) == "<evi></evi>The action happens in <evi>."
    assert pair["tgt"]["rejected_3_merge"] == [10.0, 38.0]


def test_a_single_event_can_only_be_shifted_or_joined_by_another() -> None:
    pair = made(preference_annotation(listed(1, TIMES[:2])))
    assert list(pair["tgt"]) == ["chosen", "rejected_0_shift", "rejected_1_insert"]


def test_the_only_event_is_denied_and_a_missing_one_made_up_as_other_answers_do() -> None:
    denied = annotation("</evi>That does not happen.", task="tvg")
    found = listed(1, TIMES[:2], task="tvg")
    present, absent, elsewhere = preference_annotations(
        [found, denied, annotation("</evi>(A)", task="rvq", src=[1, 2])]
    )
    assert said(present, "rejected_2_delete") == "</evi>That does not happen."
    assert present["tgt"]["rejected_2_delete"] == []
    assert said(absent, "rejected_1_insert") == "<evi></evi>The action happens in <evi>."
    ((start_s, end_s),) = spans(absent["tgt"]["rejected_1_insert"])
    assert end_s - start_s == pytest.approx(9.5)
    assert 0 <= start_s < end_s <= 120
    assert absent["tgt"]["chosen"] == []
    assert "rejected_1_insert" not in elsewhere["conversations"]
    # Without answers of the kind, neither can be said.
    (alone,) = preference_annotations([found])
    assert "rejected_2_delete" not in alone["conversations"]


def test_an_event_as_long_as_the_video_cannot_be_moved() -> None:
    assert preference_annotation(listed(1, [0.0, 60.0], duration=60.0)) is None


def test_events_that_a_hull_resembles_are_not_merged() -> None:
    pair = made(preference_annotation(listed(2, [0.0, 40.0, 42.0, 44.0])))
    assert "rejected_3_merge" not in pair["tgt"]
    lax = made(
        preference_annotation(listed(2, [0.0, 40.0, 42.0, 44.0]), PerturbationSettings(max_iou=1))
    )
    assert lax["tgt"]["rejected_3_merge"] == [0.0, 44.0]


def test_an_answer_without_evidence_is_wrong_in_its_text_only() -> None:
    original = annotation("</evi>a man opens the door.", src=[3, 9], task="rvc")
    others = [telling("a man opens the door"), telling("a dog runs")]
    pair = made(preference_annotation(original, others=OtherAnswers.of(others)))
    assert said(pair, "rejected_4_f") == "</evi>a dog runs."
    assert list(pair["src"]) == ["chosen", "rejected_4_f", "rejected_5_repeat"]
    assert pair["src"]["rejected_4_f"] == [3, 9]
    assert "tgt" not in pair


def test_an_answer_without_a_stage_is_rejected_without_one() -> None:
    others = OtherAnswers.of([telling("a dog runs")])
    pair = made(preference_annotation(annotation("a man opens the door."), others=others))
    assert said(pair, "rejected_4_f") == "a dog runs."


def test_captions_are_exchanged_within_a_task() -> None:
    rows = [
        annotation("</evi>(A)", task="rvq", src=[1, 2]),
        annotation("</evi>a dog runs away.", task="rvc", src=[1, 2]),
        annotation("</evi>a man sits down.", task="rvc", src=[3, 4]),
    ]
    alone, first, second = preference_annotations(rows)
    assert "rejected_4_f" not in alone["conversations"]
    assert said(first, "rejected_4_f") == "</evi>a man sits down."
    assert said(second, "rejected_4_f") == "</evi>a dog runs away."


def test_too_few_changed_words_are_no_perturbation() -> None:
    captions = ("a red ball rolls", "a blue ball rolls")
    close = dense(captions, TIMES[:4])
    assert changed_words(*captions) == 2
    assert "rejected_4_f" in made(preference_annotation(close))["tgt"]
    strict = made(preference_annotation(close, PerturbationSettings(min_changed_words=3)))
    assert "rejected_4_f" not in strict["tgt"]


def test_the_seed_decides() -> None:
    rows = [dense(), dense(CAPTIONS[::-1]), listed(2, TIMES[:4])]
    first, again = list(preference_annotations(rows)), list(preference_annotations(rows))
    assert first == again
    assert first != list(preference_annotations(rows, PerturbationSettings(seed=1)))
    twice = [pair["tgt"] for pair in preference_annotations([dense(), dense()])]
    assert twice[0] != twice[1]


intervals = st.tuples(st.integers(0, 900), st.integers(10, 300)).map(
    lambda drawn: (drawn[0] / 10, (drawn[0] + drawn[1]) / 10)
)
events = st.lists(st.tuples(intervals, st.sampled_from(CAPTIONS)), min_size=1, max_size=5).map(
    sorted
)


@given(events, st.integers(0, 99), st.sampled_from([0.1, 0.5]))
def test_every_pair_differs_by_the_stated_amount_in_one_factor(
    drawn: list[tuple[tuple[float, float], str]], seed: int, max_iou: float
) -> None:
    times_s = [time_s for interval, _ in drawn for time_s in interval]
    original = dense([caption for _, caption in drawn], times_s)
    pair = preference_annotation(
        original, PerturbationSettings(seed=seed, max_iou=max_iou), others=OtherAnswers.of([OTHER])
    )
    if pair is None:
        return
    chosen = spans(times_s)
    for name in list(pair["tgt"])[1:]:
        rejected = spans(pair["tgt"][name])
        answer = read_answer(said(pair, name), pair["tgt"][name])
        assert answer is not None
        assert answer.intervals == tuple(rejected)
        assert all(0 <= start <= end <= 120 for start, end in rejected)
        if factor_of(name) == "text":
            assert rejected == chosen
            words = zip(answer.captions, (caption for _, caption in drawn), strict=True)
            assert sum(changed_words(*both) for both in words) >= 2
            continue
        told = list(zip(answer.intervals, answer.captions, strict=True))
        if name == "rejected_1_insert":
            assert sorted(rejected) == rejected
            assert [event for event in told if event[0] in chosen] == drawn
        if name == "rejected_2_delete":
            assert [event for event in drawn if event[0] in rejected] == told
        other = [i for i in rejected if i not in chosen], [i for i in chosen if i not in rejected]
        assert other[0] or other[1]
        ious = [frame_iou(i, c, fps=1) for i in other[0] for c in chosen]
        ious += [frame_iou(i, r, fps=1) for i in other[1] for r in rejected]
        assert max(ious) < max_iou


def test_frame_iou_counts_frames() -> None:
    assert frame_iou((2.0, 4.0), (4.0, 6.0), fps=1) == 1 / 5
    assert frame_iou((2.0, 4.4), (2.3, 4.0), fps=1) == 1  # the same frames
    assert frame_iou((2.0, 4.0), (5.0, 6.0), fps=1) == 0
    assert frame_iou((1.0, 2.0), (1.5, 2.0), fps=2) == 2 / 3


@pytest.mark.parametrize("name", ["shift", "rejected", "rejected_0"])
def test_a_name_must_tell_its_perturbation(name: str) -> None:
    with pytest.raises(InputError, match="contains no perturbation"):
        factor_of(name)


def test_names_of_the_released_annotations_are_understood() -> None:
    assert factor_of("reject_1_f_2") == factor_of("reject_0_qwen") == "text"
    assert factor_of("reject_1_repeat") == "text"
    assert factor_of("reject_3_random_add") == "temporal"


@pytest.mark.parametrize(
    "answer",
    ["<evi></evi><evi>, a dog.", "<evi><evi></evi><evi>, a dog.", "</evi><evi>, a dog. <evi>, x."],
)
def test_intervals_must_match_the_evidence(answer: str) -> None:
    with pytest.raises(InputError, match="needs two times"):
        preference_annotation(annotation(answer, [1.0, 2.0, 3.0, 4.0]))


def test_an_answer_of_another_form_is_left_alone() -> None:
    uneven = annotation("<evi><evi></evi><evi>: a dog. <evi>, a cat!", TIMES[:4])
    assert preference_annotation(uneven) is None
    talk = annotation("</evi>a dog.")
    talk["conversations"] *= 2
    assert preference_annotation(talk) is None


@pytest.mark.parametrize(
    "values",
    [{"max_iou": 0}, {"min_changed_words": 0}, {"repeats": 1}, {"fps": 0}, {"fps": float("inf")}],
)
def test_settings_refuse_what_has_no_meaning(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        PerturbationSettings(**values)  # type: ignore[arg-type]
