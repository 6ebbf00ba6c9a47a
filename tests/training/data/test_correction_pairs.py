"""Corrected results as preference pairs that differ in one factor, in the released form."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.helpers.result_makers import VIDEO, answer, captions
from vidground.cli.data import data
from vidground.errors import InputError
from vidground.results.formats import save
from vidground.results.types import Captions, Event, GroundingResult, Groundings, Moment
from vidground.training.data.annotations import PreferenceAnnotation, load_annotations
from vidground.training.data.correction_pairs import pairs_of_files, preference_samples

LONG = replace(VIDEO, path="in/match.mp4", duration_s=60.0)


def timed(*events: tuple[float, float, str]) -> Captions:
    return replace(captions(*(Event(*event) for event in events)), video=LONG)


def found(*spans: tuple[float, float], sentence: str, query: str = "a goal") -> GroundingResult:
    moments = tuple(Moment(*span, 0.8) for span in spans)
    return replace(answer(query, *moments), answer=sentence, video=LONG)


def rejected(predicted: Any, corrected: Any) -> dict[str, tuple[str, list[float]]]:
    """What is rejected of the only answer, by name: text and times."""
    (samples,) = preference_samples(predicted, corrected)
    made = {}
    for sample in samples:
        (name,) = sample["conversations"].keys() - {"chosen"}
        made[name] = (sample["conversations"][name][1]["value"], sample["tgt"][name])
    return made


RIGHT = timed((2, 5, "a man sits"), (10, 14, "a dog barks."))


def test_a_sample_in_the_released_form() -> None:
    ((sample,),) = preference_samples(timed((3, 7, "a man sits"), (10, 14, "a dog barks")), RIGHT)
    human = {"from": "human", "value": "<image>\nWhat happens?"}
    text = "<evi><evi></evi><evi>, a man sits. <evi>, a dog barks."
    assert sample == {
        "task": "dvc",
        "source": "corrected",
        "video": "in/match.mp4",
        "duration": 60.0,
        "tgt": {"chosen": [2, 5, 10, 14], "rejected_0_times": [3, 7, 10, 14]},
        "conversations": {
            "chosen": [human, {"from": "gpt", "value": text}],
            "rejected_0_times": [human, {"from": "gpt", "value": text}],
        },
    }


def test_what_differs_in_both_becomes_two_pairs() -> None:
    assert rejected(timed((3, 7, "a cat sits"), (10, 14, "a dog barks")), RIGHT) == {
        "rejected_0_times": (
            "<evi><evi></evi><evi>, a man sits. <evi>, a dog barks.",
            [3, 7, 10, 14],
        ),
        "rejected_1_f": (
            "<evi><evi></evi><evi>, a cat sits. <evi>, a dog barks.",
            [2, 5, 10, 14],
        ),
    }


def test_text_alone_and_nothing_at_all() -> None:
    assert list(rejected(timed((2, 5, "a cat"), (10, 14, "a dog barks")), RIGHT)) == [
        "rejected_1_f"
    ]
    assert rejected(RIGHT, RIGHT) == {}
    # Less than what a frame can tell, and spaces and full stops, are no corrections.
    same = timed((2.2, 4.8, "a  man sits."), (10, 14, "a dog barks"))
    assert rejected(same, RIGHT) == {}


def test_events_that_were_added_or_left_out() -> None:
    extra = timed((2, 5, "a man sits"), (10, 14, "a dog barks"), (30, 40, "a bus stops"))
    assert rejected(extra, RIGHT) == {
        "rejected_0_times": (
            "<evi><evi><evi></evi><evi>, a man sits. <evi>, a dog barks. <evi>, a bus stops.",
            [2, 5, 10, 14, 30, 40],
        )
    }
    missing = timed((10, 14, "a cow barks"))
    assert rejected(missing, RIGHT) == {
        "rejected_0_times": ("<evi></evi><evi>, a dog barks.", [10, 14]),
        "rejected_1_f": ("<evi><evi></evi><evi>, a man sits. <evi>, a cow barks.", [2, 5, 10, 14]),
    }


def test_events_are_paired_by_time_and_text_not_by_place() -> None:
    # The first event was moved behind the second one; its text tells which one it is.
    moved = timed((10, 14, "a dog barks"), (20, 25, "a man sits"))
    assert rejected(moved, RIGHT) == {
        "rejected_0_times": (
            "<evi><evi></evi><evi>, a dog barks. <evi>, a man sits.",
            [10, 14, 20, 25],
        )
    }
    far = timed((20, 25, "a dog barks"), (30, 35, "a man sits"))
    assert rejected(far, RIGHT) == {
        "rejected_0_times": (
            "<evi><evi></evi><evi>, a dog barks. <evi>, a man sits.",
            [20, 25, 30, 35],
        )
    }
    # Neither time nor text is left of the second one: what remains belongs together.
    other = timed((2, 5, "a man sits"), (40, 44, "a bus"))
    assert rejected(other, RIGHT) == {
        "rejected_0_times": (
            "<evi><evi></evi><evi>, a man sits. <evi>, a dog barks.",
            [2, 5, 40, 44],
        ),
        "rejected_1_f": ("<evi><evi></evi><evi>, a man sits. <evi>, a bus.", [2, 5, 10, 14]),
    }


def test_answers_to_queries() -> None:
    one = found((8, 12), sentence="The event happens in 8 - 12 s.")
    same_words = replace(one, moments=(Moment(3, 6, 1.0), Moment(1, 2, 1.0)))
    assert rejected(Groundings((one,)), Groundings((same_words,))) == {
        "rejected_0_times": ("<evi></evi>The event happens in <evi>.", [8, 12])
    }
    ((sample,),) = preference_samples(Groundings((one,)), Groundings((same_words,)))
    assert sample["task"] == "tvg"
    assert sample["tgt"]["chosen"] == [1, 2, 3, 6]
    chosen = sample["conversations"]["chosen"][1]["value"]
    assert chosen == "<evi><evi></evi>The event happens in <evi>, and <evi>."
    reworded = replace(one, answer="It happens at 8 - 12 s.")
    assert rejected(Groundings((one,)), Groundings((reworded,))) == {
        "rejected_1_f": ("<evi></evi>The event happens in <evi>.", [8, 12])
    }


def test_what_was_not_found_and_what_is_not_there() -> None:
    # Below the threshold there are no moments; the sentence has what the model said.
    low = found(sentence="The event happens in 8 - 12 s.")
    right = found((3, 6), sentence="The event happens in 8 - 12 s.")
    assert rejected(Groundings((low,)), Groundings((right,))) == {
        "rejected_0_times": ("<evi></evi>The event happens in <evi>.", [8, 12])
    }
    nothing = found(sentence="It does not happen in this video.")
    assert rejected(Groundings((right,)), Groundings((nothing,))) == {
        "rejected_0_times": ("<evi></evi>The event happens in <evi>.", [3, 6])
    }
    assert rejected(Groundings((nothing,)), Groundings((right,))) == {
        "rejected_0_times": ("</evi>It does not happen in this video.", [])
    }
    with pytest.raises(InputError, match="let the sentence say that nothing was found"):
        rejected(Groundings((right,)), Groundings((low,)))


DENIED = found(sentence="The event does not happen.")


def chosen_text(predicted: GroundingResult, corrected: GroundingResult) -> tuple[str, list[float]]:
    """The chosen answer of the only pair, and its times."""
    ((sample,),) = preference_samples(Groundings((predicted,)), Groundings((corrected,)))
    return sample["conversations"]["chosen"][1]["value"], sample["tgt"]["chosen"]


@pytest.mark.parametrize("flag", [True, False])
def test_a_corrected_not_found_becomes_the_answer_of_a_find(flag: bool) -> None:
    """Whether or not the person also set `found`."""
    right = replace(DENIED, found=flag, moments=(Moment(8, 12), Moment(3, 6)))
    assert chosen_text(DENIED, right) == (
        "<evi><evi></evi>The event happens in <evi>, and <evi>.",
        [3, 6, 8, 12],
    )
    ((sample,),) = preference_samples(Groundings((DENIED,)), Groundings((right,)))
    refused = sample["conversations"]["rejected_0_times"][1]["value"]
    assert (refused, sample["tgt"]["rejected_0_times"]) == ("</evi>The event does not happen.", [])
    blank = replace(right, answer=" ")
    assert chosen_text(DENIED, blank)[0].endswith("The event happens in <evi>, and <evi>.")


def test_the_sentence_of_a_person_gives_the_words() -> None:
    right = replace(
        DENIED, found=True, moments=(Moment(3, 6),), answer="A goal falls at 0 - 1 s, at last."
    )
    assert chosen_text(DENIED, right)[0] == "<evi></evi>A goal falls at <evi>, at last."


def test_contradictory_answers_are_refused() -> None:
    find = found((8, 12), sentence="The event happens in 8 - 12 s.")
    for before, after, reason in (
        (find, replace(find, found=False), "found = false and 1 moments; remove the moments"),
        (find, replace(find, moments=()), "found = true and no moments; add the moments"),
        (
            DENIED,
            replace(find, answer="It does happen."),
            "its sentence 'It does happen.' names no time",
        ),
    ):
        with pytest.raises(InputError, match=reason):
            list(preference_samples(Groundings((before,)), Groundings((after,))))


def test_an_unchanged_answer_below_the_threshold_is_no_correction() -> None:
    """It has no moments, and its sentence names times; beside others it must not be refused."""
    low = found(sentence="The event happens in 8 - 12 s.")
    assert rejected(Groundings((low,)), Groundings((low,))) == {}


def test_captions_are_put_in_order_of_time() -> None:
    predicted = timed((2, 5, "a man sits"))
    added = timed((10, 14, "a dog barks"), (2, 5, "a man sits"), (6, 8, "a bus stops"))
    ((sample,),) = preference_samples(predicted, added)
    assert sample["tgt"]["chosen"] == [2, 5, 6, 8, 10, 14]
    assert sample["conversations"]["chosen"][1]["value"] == (
        "<evi><evi><evi></evi><evi>, a man sits. <evi>, a bus stops. <evi>, a dog barks."
    )
    backwards = replace(RIGHT, events=RIGHT.events[::-1])
    assert rejected(backwards, RIGHT) == rejected(RIGHT, backwards) == {}


def test_what_a_person_adds_needs_no_score(tmp_path: Path) -> None:
    save(RIGHT, tmp_path / "old.json")
    save(Groundings((DENIED,)), tmp_path / "asked.json")
    document = json.loads((tmp_path / "old.json").read_text())
    document["events"].append({"start_s": 6, "end_s": 8, "text": "a bus stops"})
    (tmp_path / "new.json").write_text(json.dumps(document))
    pairs = pairs_of_files(tmp_path / "old.json", tmp_path / "new.json")
    assert (len(pairs.samples), pairs.failures) == (1, ())
    document = json.loads((tmp_path / "asked.json").read_text())
    document["results"][0] |= {"found": True, "moments": [{"start_s": 3, "end_s": 6}]}
    (tmp_path / "found.json").write_text(json.dumps(document))
    pairs = pairs_of_files(tmp_path / "asked.json", tmp_path / "found.json")
    assert pairs.failures == ()
    assert pairs.samples[0]["tgt"]["chosen"] == [3, 6]


def test_queries_are_matched_by_their_text() -> None:
    goal, card = found((8, 12), sentence="In 8 - 12 s."), found(sentence="No.", query="a card")
    (samples,) = preference_samples(Groundings((goal, card)), Groundings((card,)))
    assert samples == []
    with pytest.raises(InputError, match="no answer to 'a card'"):
        list(preference_samples(Groundings((goal,)), Groundings((card,))))


def test_results_that_do_not_belong_together() -> None:
    asked = Groundings((found((8, 12), sentence="In 8 - 12 s."),))
    other = replace(RIGHT, video=replace(LONG, sha256="cd", path="other.mp4"))
    for one, two, reason in (
        (RIGHT, asked, "one result holds captions"),
        (other, RIGHT, r"is about in/match\.mp4, and the prediction about other\.mp4"),
        (RIGHT, timed(), "has no events"),
        (timed(), RIGHT, "has no events"),
        (RIGHT, timed((3, 7, " ."), (10, 14, "a dog barks")), "event 3 - 7 s has no text"),
    ):
        with pytest.raises(InputError, match=reason):
            list(preference_samples(one, two))


def test_a_question_about_intervals_keeps_them(tmp_path: Path) -> None:
    def about(sentence: str) -> Groundings:
        result = found((8, 12), sentence=sentence)
        provenance = replace(
            result.provenance, prompt="what happens in <evi>?", about_s=((8.0, 12.0),)
        )
        return Groundings((replace(result, provenance=provenance),))

    save(about("In 8 - 12 s a cat sits."), tmp_path / "a.json")
    save(about("In 8 - 12 s a dog sits."), tmp_path / "b.json")
    pairs = pairs_of_files(tmp_path / "a.json", tmp_path / "b.json")
    assert pairs.failures == ()
    assert pairs.samples[0]["src"] == [8.0, 12.0]
    assert pairs.counts == {"times": 0, "text": 1}


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(data, ["pairs", *map(str, arguments)])


def test_folders_become_one_file_that_validates(tmp_path: Path) -> None:
    old, new, root = tmp_path / "old", tmp_path / "new", tmp_path / "archive"
    (root / "in").mkdir(parents=True)
    (root / "in" / "match.mp4").write_bytes(b"video")
    absolute = replace(LONG, path=str(root / "in" / "match.mp4"))
    predicted = timed((3, 7, "a cat sits"), (10, 14, "a dog barks"))
    for name in ("a.json", "deep/b.json", "alone.json"):
        save(replace(predicted, video=absolute), old / name)
    for name, events in (
        ("a.json", RIGHT.events),
        ("deep/b.json", predicted.events),
        ("late.json", RIGHT.events),
    ):
        save(replace(RIGHT, events=events, video=absolute), new / name)
    save(replace(predicted, video=absolute), old / "wrong.json")
    late = (Event(2, 90, "too late"),)
    save(replace(RIGHT, events=late, video=absolute), new / "wrong.json")

    out = tmp_path / "fpo.json"
    done = call("--predicted", old, "--corrected", new, "--videos", root, "--out", out)
    assert done.exit_code == 1
    assert done.stdout == ""
    left_out, late_file, failed, counts = done.stderr.splitlines()
    assert left_out == "left out: alone.json has no counterpart"
    assert late_file == "left out: late.json has no counterpart"
    assert failed.startswith(f"failed: {new / 'wrong.json'}: tgt has [2, 90]")
    assert counts == (
        f"{out}: 2 pairs (1 of times, 1 of text) from 3 answers, of which 1 unchanged"
    )
    pairs = load_annotations([out], kind="fpo", video_root=root)
    assert [pair.video for pair in pairs] == ["in/match.mp4"] * 2
    factors = [pair.rejected.factor for pair in pairs if isinstance(pair, PreferenceAnnotation)]
    assert factors == ["temporal", "text"]
    validate = CliRunner().invoke(
        data, ["validate", "--kind", "fpo", "--video-root", str(root), str(out)]
    )
    assert validate.exit_code == 0, validate.output


def test_nothing_is_written_where_all_failed(tmp_path: Path) -> None:
    late = (Event(2, 90, "too late"),)
    save(RIGHT, tmp_path / "a.json")
    save(replace(RIGHT, events=late), tmp_path / "b.json")
    out = tmp_path / "fpo.json"
    done = call("--predicted", tmp_path / "a.json", "--corrected", tmp_path / "b.json", "-o", out)
    assert done.exit_code == 1
    failed, last_line = done.stderr.splitlines()
    assert failed.startswith("failed: ")
    assert last_line == f"{out}: not written, because there is no pair"
    assert not out.exists()


def test_one_file_and_where_videos_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    predicted = timed((3, 7, "ein Mann läuft"), (10, 14, "a dog barks"))
    save(predicted, "old.json")
    save(RIGHT, "new.json")
    done = call("--predicted", "old.json", "--corrected", "new.json")
    assert done.exit_code == 0, done.output
    text = Path("fpo.json").read_text(encoding="utf-8")
    assert "läuft" in text
    assert [sample["video"] for sample in json.loads(text)] == ["in/match.mp4"] * 2
    assert call("--predicted", "old.json", "--corrected", "new.json").exit_code == 2

    lost = call("--predicted", "old.json", "--corrected", "new.json", "--videos", "in", "-o", "b")
    assert lost.exit_code == 1
    assert "does not lie in in" in lost.stderr
    Path("in").mkdir()
    Path("in/match.mp4").write_bytes(b"video")
    there = call("--predicted", "old.json", "--corrected", "new.json", "--videos", "in", "-o", "c")
    assert there.exit_code == 0, there.output
    assert json.loads(Path("c").read_text())[0]["video"] == "match.mp4"
    absolute = replace(LONG, path="/archive/match.mp4")
    for name in ("old.json", "new.json"):
        save(replace(RIGHT, video=absolute), name)
    lost = call("--predicted", "old.json", "--corrected", "new.json", "-o", "d")
    assert "name the folder" in lost.stderr
    for one, two, reason in (
        ("gone.json", "new.json", "no such file"),
        ("in", "new.json", "name two files, or two folders"),
        ("in", "in", "have no file of the same name"),
    ):
        refused = call("--predicted", one, "--corrected", two, "-o", "e")
        assert refused.exit_code == 2
        assert reason in refused.stderr
