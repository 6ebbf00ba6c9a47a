import re
from collections import Counter

import numpy as np
import pytest

from vidground.language.prompts import (
    captioning_question,
    chat_prompt_from_turn,
    grounding_question,
    localization_question,
)
from vidground.training.toy.annotations import absent_queries, annotations, bench_samples
from vidground.training.toy.captions import facts, words
from vidground.training.toy.motion import Pose, ToySprite
from vidground.training.toy.questions import LETTERS, ToyQuestion, questions, vocabulary
from vidground.training.toy.world import ToyEvent, ToyVideo, sample_video


def event(caption: str, start_s: float, end_s: float) -> ToyEvent:
    """An event with made-up pixels: questions must come from the schedule alone."""
    pose = Pose(0.5, 0.5, 0.1, 0)
    what = facts(caption)
    return ToyEvent(what, ToySprite(str(what.shape), (9, 9, 9), start_s, end_s, pose, pose))


def film(*events: ToyEvent) -> ToyVideo:
    return ToyVideo(60.0, events, (), (50, 0, 0), noise=0)


RED, BLUE = "a red circle moves left", "a blue square spins clockwise"
REPEATING = film(event(RED, 2, 8.2), event(BLUE, 10.4, 16), event(RED, 20, 25))
OVERLAPPING = film(event(RED, 3, 9), event("a red cross grows", 8, 14), event(BLUE, 20, 26))


@pytest.fixture(scope="module")
def films() -> list[ToyVideo]:
    return [sample_video(np.random.default_rng([3, k])) for k in range(150)]


def asked(video: ToyVideo, seed: int = 0) -> dict[str, list[ToyQuestion]]:
    by_task: dict[str, list[ToyQuestion]] = {}
    for item in questions(video, np.random.default_rng(seed)):
        by_task.setdefault(item.task, []).append(item)
    return by_task


def test_dense_captions_name_every_event_by_time() -> None:
    (dense,) = asked(REPEATING)["dvc"]
    assert dense.question == captioning_question()
    assert dense.tgt == ((2, 8.2), (10.4, 16), (20, 25))
    assert dense.captions == (RED, BLUE, RED)
    assert dense.answer == (
        "<evi><evi><evi></evi>"
        "<evi>, a red circle moves left. <evi>, a blue square spins clockwise. "
        "<evi>, a red circle moves left."
    )


def test_step_captions_are_short_and_need_events_one_after_another() -> None:
    (steps,) = asked(REPEATING)["slc"]
    assert steps.captions[1] == "blue square spins clockwise"
    assert steps.text.startswith("<evi>, red circle moves left. <evi>, blue")
    assert "slc" not in asked(OVERLAPPING)


def test_grounding_asks_as_the_product_does_and_only_what_happens_once() -> None:
    (only,) = asked(REPEATING)["tvg"]
    assert only.question == grounding_question(BLUE)
    assert only.answer == "<evi></evi>The event happens in <evi>."
    assert only.tgt == ((10.4, 16),)
    assert [item.tgt for item in asked(OVERLAPPING)["tvg"]] == [((3, 9),), ((8, 14),), ((20, 26),)]


def test_localization_finds_every_occurrence() -> None:
    seen = {}
    for seed in range(20):
        for item in asked(REPEATING, seed)["tal"]:
            seen[item.question] = item
    again = seen.pop(localization_question(RED))
    assert again.tgt == ((2, 8.2), (20, 25))
    assert again.answer == "<evi><evi></evi>The action happens in <evi>, and <evi>."
    assert seen.pop(localization_question("moves left")).tgt == again.tgt
    assert seen.pop(localization_question("spins clockwise")).tgt == ((10.4, 16),)
    assert not seen
    thrice = film(
        *(
            event(f"a {c} circle grows", at, at + 4)
            for c, at in (("red", 0), ("blue", 10), ("cyan", 20))
        )
    )
    (item,) = asked(thrice)["tal"]
    assert item.text == "The action happens in <evi>, <evi>, and <evi>."


def test_parts_that_show_a_kind_are_merged_where_they_overlap() -> None:
    tgt = {}
    for seed in range(40):
        (item,) = asked(OVERLAPPING, seed)["evs"]
        kind = re.search("parts that show (.*?)\\.", item.question)
        assert kind
        tgt[kind[1]] = item.tgt
        assert item.text == "The video summary locates in <evi>."
    assert tgt == {
        "red shapes": ((3, 14),),
        "blue shapes": ((20, 26),),
        "circles": ((3, 9),),
        "crosses": ((8, 14),),
        "squares": ((20, 26),),
    }


def test_the_right_option_is_the_only_one_that_is_true(films: list[ToyVideo]) -> None:
    kinds: Counter[str] = Counter()
    for number, video in enumerate(films):
        for item in asked(video, number).get("gvq", []):
            assert item.right is not None
            assert item.text == f"({LETTERS[item.right]}) The relevant event happens in <evi>."
            assert len(set(item.options)) == 4
            said = re.search(r"question: '(.*?)' The options are: (.*)\. The format", item.question)
            assert said
            listed = " ".join(f"({x}) {o}" for x, o in zip("ABCD", item.options, strict=True))
            assert said[2] == listed
            meant = facts(said[1])
            fitting = [
                (e, option)
                for e in video.events
                for option in item.options
                if _says(meant, e) and (option in e.caption.split() or e.caption.endswith(option))
            ]
            assert [option for _, option in fitting] == [item.options[item.right]]
            found = fitting[0][0]
            assert item.tgt == ((round(found.start_s, 1), round(found.end_s, 1)),)
            kinds[" ".join(said[1].split()[:4])] += 1
    assert set(kinds) >= {"What is the colour", "What is the coloured"}
    assert any(kind.startswith("What does the") for kind in kinds)


def _says(meant: object, shown: ToyEvent) -> bool:
    """Whether all that a question names holds of an event."""
    names = ("color", "shape", "action", "direction")
    named = {name: getattr(meant, name) for name in names if getattr(meant, name) is not None}
    return all(getattr(shown.facts, name) == value for name, value in named.items())


def test_a_referred_interval_holds_one_event_alone() -> None:
    for seed in range(10):
        by_task = asked(OVERLAPPING, seed)
        (described,), (chosen,) = by_task["rvc"], by_task["rvq"]
        assert described.src == chosen.src == (20, 26)
        assert described.question.count("<evi>") == chosen.question.count("<evi>") == 1
        assert described.answer == f"</evi>{BLUE}."
        assert chosen.right is not None
        assert chosen.options[chosen.right] == BLUE
        assert len(set(chosen.options)) == 4
        assert chosen.answer == f"</evi>({LETTERS[chosen.right]})"
    together = film(event(RED, 3, 9), event(BLUE, 8, 14))
    assert not {"rvc", "rvq"} & set(asked(together))


def test_training_samples_hold_as_many_evi_as_targets_twice(films: list[ToyVideo]) -> None:
    for number, video in enumerate(films):
        samples = annotations(video, "videos/x.mp4", np.random.default_rng(number))
        for sample in samples:
            assert sample["source"] == "toy"
            assert sample["video"] == "videos/x.mp4"
            assert sample["duration"] == round(video.duration_s, 1)
            human, gpt = sample["conversations"]
            assert (human["from"], gpt["from"]) == ("human", "gpt")
            events = len(sample.get("tgt", [])) // 2
            evidence, answer = gpt["value"].split("</evi>")
            assert evidence == "<evi>" * events
            assert answer.count("<evi>") == events
            references = len(sample.get("src", [])) // 2
            prompt = chat_prompt_from_turn(human["value"], references=references)
            assert "<image>" not in prompt.before + prompt.after
            times = [*sample.get("tgt", []), *sample.get("src", [])]
            assert all(0 <= time_s <= sample["duration"] for time_s in times)
            assert all(start < end for start, end in zip(times[::2], times[1::2], strict=True))
            assert times == [round(time_s, 1) for time_s in times]
        assert {"dvc", "tal", "evs"} <= {sample["task"] for sample in samples}


COMMON = {"version", "idx", "task", "source", "video", "duration", "q"}
FIELDS = {
    "tvg": COMMON | {"tgt"},
    "tal": COMMON | {"tgt"},
    "evs": COMMON | {"tgt"},
    "dvc": COMMON | {"tgt", "g"},
    "slc": COMMON | {"tgt", "g"},
    "gvq": COMMON | {"tgt", "p", "o"},
    "rvq": COMMON | {"src", "p", "o"},
}


def test_benchmark_samples_have_the_fields_of_their_task(films: list[ToyVideo]) -> None:
    seen = set()
    for video in films[:40]:
        samples = bench_samples(video, "x.mp4", np.random.default_rng(0), first_idx=5)
        assert [sample["idx"] for sample in samples] == list(range(5, 5 + len(samples)))
        for sample in samples:
            task = sample["task"]
            seen.add(task)
            assert set(sample) == FIELDS[task]
            assert sample["version"] == 1.0
            if task in ("tvg", "gvq"):
                start, end = sample["tgt"]
                assert 0 <= start < end
            elif "tgt" in sample:
                assert all(start < end for start, end in sample["tgt"])
            if "g" in sample:
                assert len(sample["g"]) == len(sample["tgt"])
            if "p" in sample:
                assert 0 <= sample["p"] < len(sample["o"]) == 4
    assert seen == set(FIELDS)


def test_absent_queries_are_absent_and_differ_as_they_say(films: list[ToyVideo]) -> None:
    kinds: Counter[str] = Counter()
    for number, video in enumerate(films):
        for sample in absent_queries(video, "x.mp4", np.random.default_rng(number)):
            assert set(sample) == COMMON | {"query", "differs"}
            assert sample["q"] == grounding_question(sample["query"])
            what, differs = facts(sample["query"]), sample["differs"]
            assert what.caption == sample["query"]
            kinds[differs] += 1
            unlike = [
                {n for n in ("color", "shape", "action") if getattr(e.facts, n) != getattr(what, n)}
                for e in video.events
            ]
            assert sample["query"] not in {e.caption for e in video.events}
            if differs == "everything":
                assert all(names == {"color", "shape", "action"} for names in unlike)
            else:
                assert (set() if differs == "direction" else {differs}) in unlike
    assert set(kinds) == {"color", "shape", "action", "direction", "everything"}


def test_the_vocabulary_is_all_that_is_ever_said(films: list[ToyVideo]) -> None:
    said = set()
    for number, video in enumerate(films):
        rng = np.random.default_rng(number)
        for sample in annotations(video, "x", rng):
            said.update(word for turn in sample["conversations"] for word in words(turn["value"]))
        for sample in (*bench_samples(video, "x", rng), *absent_queries(video, "x", rng)):
            said.update(words(sample["q"]))
    assert len(set(vocabulary())) == len(vocabulary())
    # The frames' placeholder is no word: it is cut out before a question is tokenized.
    assert said - set(vocabulary()) == {"image"}
    assert set(vocabulary()) <= said


def test_the_same_random_numbers_ask_the_same_questions(films: list[ToyVideo]) -> None:
    for video in films[:5]:
        one, other = (annotations(video, "x", np.random.default_rng(4)) for _ in range(2))
        assert one == other
