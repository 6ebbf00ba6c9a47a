"""Annotations become the ids that generation produces, and the frames that seconds mean."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers.annotation_files import (
    ANSWER,
    MOVED,
    QUESTION,
    fpo_sample,
    sft_sample,
    turns,
    write,
)
from tests.helpers.tokenizer_files import QUESTION_TOKENIZER, make_language_tokenizer
from tests.helpers.video_files import make_video
from vidground.errors import InputError, VideoError
from vidground.language.prompts import chat_prompt, encode_prompt
from vidground.language.tokenizers import Tokenizers
from vidground.training.data.annotations import AnnotationError, Kind, load_annotations
from vidground.training.data.collation import Collator
from vidground.training.data.dataset import (
    AnnotationDataset,
    SampleLimits,
    response_ids,
    weighted,
    within_limits,
)
from vidground.training.data.samples import PreferenceSample, SftSample
from vidground.training.data.video_checks import measure_videos, video_problems, without_unreadable
from vidground.training.toy.tokenizers import make_toy_tokenizers

TOKENIZERS = make_toy_tokenizers()
FRAMES = torch.zeros(20, 3, 4, 4, dtype=torch.uint8)


def dataset(
    tmp_path: Path, *samples: object, kind: Kind = "sft", fps: float = 1.0
) -> AnnotationDataset:
    annotations = load_annotations([write(tmp_path / "a.json", *samples)], kind=kind)
    return AnnotationDataset(annotations, TOKENIZERS, lambda *_: FRAMES, fps=fps)


def test_an_sft_sample(tmp_path: Path) -> None:
    (sample,) = dataset(tmp_path, sft_sample())
    assert isinstance(sample, SftSample)
    prompt = encode_prompt(chat_prompt(QUESTION), TOKENIZERS)
    assert (sample.prompt.before, sample.prompt.after) == (prompt.before, prompt.after)
    assert sample.prompt.question == prompt.question
    assert sample.prompt.frames is FRAMES
    assert TOKENIZERS.decode(sample.response.token_ids) == ANSWER + "<|end|>"
    assert sample.response.token_ids[-1] == TOKENIZERS.ids.turn_end
    assert sample.response.spans == ((2.0, 4.0), (6.0, 9.5))


def test_frames_behind_the_question(tmp_path: Path) -> None:
    sample = dataset(tmp_path, sft_sample(conversations=turns("Why?\n<image>", ANSWER)))[0]
    assert TOKENIZERS.decode(sample.prompt.before).endswith("<|user|>Why?\n")
    assert TOKENIZERS.decode(sample.prompt.after) == "<|end|><|assistant|>"


def test_intervals_of_the_question_and_the_frame_rate(tmp_path: Path) -> None:
    conversations = turns("<image>\nWhat happens in <evi>?", "</evi>a red circle grows.")
    asked = sft_sample(src=[3.0, 8.5], tgt=None, conversations=conversations)
    sample = dataset(tmp_path, asked, fps=2.0)[0]
    assert sample.prompt.spans == ((6.0, 17.0),)
    assert list(sample.prompt.after).count(TOKENIZERS.ids.evidence) == 1
    assert TOKENIZERS.decode(sample.responses[0].token_ids) == "</evi>a red circle grows.<|end|>"
    instant = sft_sample(src=[3.0], tgt=None, conversations=conversations)
    assert dataset(tmp_path, instant)[0].prompt.spans == ((3.0, 3.0),)
    (answered,) = dataset(tmp_path, sft_sample(), fps=2.0)[0].responses
    assert answered.spans == ((4.0, 8.0), (12.0, 19.0))


def test_times_are_written_as_the_model_says_them(tmp_path: Path) -> None:
    """A model that matches frames learns from the same annotations."""
    tokenizers = make_toy_tokenizers("matching")
    asked = turns("<image>\nWhat happens in <evi>?", ANSWER)
    path = write(tmp_path / "a.json", sft_sample(src=[3.0, 8.5], conversations=asked))
    data = AnnotationDataset(load_annotations([path]), tokenizers, lambda *_: FRAMES, fps=2.0)
    sample = data[0]
    assert sample.prompt.spans == [(6.0, 6.0), (17.0, 17.0)]
    assert "in <vid> - <vid>?" in tokenizers.decode(sample.prompt.after)
    (answered,) = sample.responses
    said = ANSWER.partition("</evi>")[2].replace("<evi>", "<vid> - <vid>")
    assert tokenizers.decode(answered.token_ids) == said + "<|end|>"
    assert answered.spans == [(4.0, 4.0), (8.0, 8.0), (12.0, 12.0), (19.0, 19.0)]


def test_a_preference_sample(tmp_path: Path) -> None:
    for sample, annotation in (
        (sample, annotation)
        for data in [dataset(tmp_path, *[fpo_sample()] * 10, kind="fpo")]
        for sample, annotation in zip(data, data.annotations, strict=True)
    ):
        assert isinstance(sample, PreferenceSample)
        assert sample.chosen.spans == ((2.0, 4.0), (6.0, 9.5))
        name = annotation.rejected.name  # type: ignore[attr-defined]
        spans = ((1.0, 3.0), (4.5, 8.0)) if name == "r_0_shift" else sample.chosen.spans
        assert sample.rejected.spans == spans
        same = list(sample.rejected.token_ids) == list(sample.chosen.token_ids)
        assert same == (name == "r_0_shift")
    assert MOVED == [1.0, 3.0, 4.5, 8.0]


def test_samples_can_be_laid_out_as_a_batch(tmp_path: Path) -> None:
    collate = Collator(TOKENIZERS.ids.evidence, TOKENIZERS.ids.evidence_end)
    data = dataset(tmp_path, *[fpo_sample()] * 3, kind="fpo")
    batch = collate([data[index] for index in range(len(data))])
    assert batch.counts.samples == batch.counts.grounded == 3
    assert batch.responses[0].starts.tolist() == [[2, 6]] * 3


@pytest.mark.parametrize("prefix_space", [False, True])
@pytest.mark.parametrize("text", [ANSWER, "</evi>It grows.", "It grows."])
def test_a_response_is_encoded_as_it_follows_its_prompt(
    tmp_path: Path, text: str, prefix_space: bool
) -> None:
    make_language_tokenizer(tmp_path, prefix_space=prefix_space)
    tokenizers = Tokenizers.load(tmp_path, question_folder=QUESTION_TOKENIZER)
    prompt = chat_prompt(QUESTION)
    ids = response_ids(text, prompt, tokenizers)
    assert tokenizers.encode(prompt.after) + ids == tokenizers.encode(
        prompt.after + text + "<|end|>"
    )
    assert ids[-1] == tokenizers.ids.turn_end


def test_the_start_of_a_response_is_not_the_start_of_a_text() -> None:
    class Marking(Tokenizers):
        def encode(self, text: str) -> list[int]:
            return [0, *map(ord, text)]

    ids = response_ids("a", chat_prompt("b"), Marking(None, TOKENIZERS.question))
    assert ids == [*map(ord, "a<|end|>")]


def test_a_tokenizer_that_joins_prompt_and_answer_is_refused() -> None:
    class Joining(Tokenizers):
        def encode(self, text: str) -> list[int]:
            return [len(text)]

    with pytest.raises(InputError, match="joins the end of a prompt"):
        response_ids("a", chat_prompt("b"), Joining(None, TOKENIZERS.question))


def test_an_unreadable_video_is_an_error_that_names_the_sample(tmp_path: Path) -> None:
    def missing(path: Path, _question: Sequence[int]) -> Tensor:
        raise VideoError(f"{path}: no such file")

    annotations = load_annotations([write(tmp_path / "a.json", sft_sample(), sft_sample())])
    data = AnnotationDataset(annotations, TOKENIZERS, missing)
    with pytest.raises(AnnotationError, match=r"a.json: sample 1: .*clips/a.mp4: no such file"):
        data[1]


def test_annotations_beyond_the_limits_are_dropped_and_counted(tmp_path: Path) -> None:
    long_answer = "<evi><evi></evi><evi> and <evi>" + " word" * 198
    samples = [
        sft_sample(),
        sft_sample(duration=4.9, tgt=[0, 1, 2, 3]),
        sft_sample(duration=350.5),
        sft_sample(conversations=turns("a", long_answer)),
        sft_sample(conversations=turns("a", long_answer.removesuffix(" word"))),
    ]
    annotations = load_annotations([write(tmp_path / "a.json", *samples)])
    selection = within_limits(annotations)
    assert [a.index for a in selection.kept] == [0, 4]
    assert selection.dropped == {
        "videos shorter than 5 s": 1,
        "videos longer than 350 s": 1,
        "answers of more than 200 words": 1,
    }


@pytest.mark.parametrize("kind", ["sft", "fpo"])
def test_the_length_limit_counts_prompt_frames_and_answer(tmp_path: Path, kind: Kind) -> None:
    sample = fpo_sample() if kind == "fpo" else sft_sample()
    if kind == "fpo":  # with one rejected answer, the longer one
        longer = turns(f"<image>\n{QUESTION}", ANSWER + " A red circle grows and grows.")
        sample["conversations"] = {
            "chosen": sample["conversations"]["chosen"],
            "r_1_f": longer,
        }
    data = dataset(tmp_path, sample, kind=kind)
    prompt, responses = data[0].prompt, data[0].responses
    length = len(prompt.before) + 20 + len(prompt.after)
    length += max(len(response.token_ids) for response in responses)
    for limit, kept in ((length, 1), (length - 1, 0)):
        limits = SampleLimits(max_tokens=limit)
        selection = within_limits(data.annotations, limits, tokenizers=TOKENIZERS)
        assert len(selection.kept) == kept
    assert selection.dropped == {f"sequences of more than {length - 1} tokens": 1}
    twice = within_limits(data.annotations, SampleLimits(max_tokens=length + 19), fps=2.0)
    assert len(twice.kept) == 1  # not counted without tokenizers
    with_frames = SampleLimits(max_tokens=length + 19)
    assert not within_limits(data.annotations, with_frames, tokenizers=TOKENIZERS, fps=2.0).kept


@pytest.mark.parametrize(
    "changed", [{"min_video_s": -1.0}, {"max_video_s": 4.0}, {"max_answer_words": 0}]
)
def test_impossible_limits_are_refused(changed: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"needs 0 <= min|must be at least 1"):
        SampleLimits(**changed)  # type: ignore[arg-type]


def test_videos_are_measured_once_and_problems_named(tmp_path: Path) -> None:
    make_video(tmp_path / "good.mp4", frames=50, fps=5)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    samples = [
        sft_sample(video="good.mp4", duration=10.4),
        sft_sample(video="bad.mp4"),
        sft_sample(video="good.mp4", duration=12.0),
        sft_sample(video="bad.mp4"),
    ]
    annotations = load_annotations([write(tmp_path / "a.json", *samples)], video_root=tmp_path)
    progress: list[tuple[int, int]] = []
    measured = measure_videos(
        annotations, on_progress=lambda done, videos: progress.append((done, videos))
    )
    assert progress == [(1, 2), (2, 2)]
    assert measured[tmp_path / "good.mp4"] == pytest.approx(10.0)
    first, second, third = video_problems(annotations, measured)
    assert (first.index, second.index, third.index) == (1, 2, 3)
    assert "cannot be read" in first.reason
    assert "duration is 12 s, but 'good.mp4' lasts 10.0 s" in second.reason
    selection = without_unreadable(annotations, measured)
    assert [a.index for a in selection.kept] == [0, 2]
    assert selection.dropped == {"videos that cannot be read": 2}


def test_a_missing_video_is_not_counted_as_unreadable(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    samples = [sft_sample(video=name) for name in ("bad.mp4", "gone.mp4", "gone.mp4")]
    annotations = load_annotations(
        [write(tmp_path / "a.json", *samples)], video_root=tmp_path, keep_missing=True
    )
    selection = without_unreadable(annotations, measure_videos(annotations))
    assert selection.dropped == {"videos that are missing": 2, "videos that cannot be read": 1}


@pytest.mark.parametrize(
    ("weight", "counts"), [(1.0, {1: 40}), (2.0, {2: 40}), (0.25, {1: 10}), (2.75, {2: 10, 3: 30})]
)
def test_a_weight_repeats_and_draws_annotations(
    tmp_path: Path, weight: float, counts: dict[int, int]
) -> None:
    samples = [sft_sample(duration=20.0 + index) for index in range(40)]
    annotations = load_annotations([write(tmp_path / "a.json", *samples)])
    taken = weighted(annotations, weight, seed=3)
    indices = [annotation.index for annotation in taken]
    assert indices == sorted(indices)
    assert Counter(Counter(indices).values()) == counts
    assert weighted(annotations, weight, seed=3) == taken
    if weight % 1:
        assert weighted(annotations, weight, seed=4) != taken
