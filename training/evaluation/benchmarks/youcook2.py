"""Score YouCook2 dense captioning: F1 and CIDEr of predictions in E.T. Bench's form.

Computed as in the evaluation behind the published numbers: per video, precision, recall and CIDEr
at IoU 0.3, 0.5, 0.7 and 0.9, their means, then the mean over videos. Detection needs an overlap
above the threshold, a caption pair one of at least the threshold; `DENSE_EPSILON_S` in the union
puts an overlap that equals a threshold below it. Words come from `plain_words`, not from the
Stanford tokenizer (Java), so CIDEr can differ slightly from published numbers where captions hold
contractions or abbreviations. SODA_c is not computed: it uses METEOR, whose stemmer, synonym and
paraphrase tables exist only as a Java program.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vidground.errors import InputError
from vidground.training.data.interval_metrics import (
    DENSE_EPSILON_S,
    covered_shares,
    harmonic_mean,
    iou_matrix,
)
from vidground.training.evaluation.answer_reading import TimedCaption
from vidground.training.evaluation.benchmarks.cider import Words, cider
from vidground.training.evaluation.etbench_predictions import Prediction, check_predictions
from vidground.training.evaluation.etbench_tasks import read_response
from vidground.training.evaluation.text_similarity import plain_words

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
SOURCE = "youcook2"
_NO_REFERENCE = ("<none>",)
"""The reference of a caption that matches nothing; no word reads like this."""


@dataclass(frozen=True, slots=True)
class VideoScores:
    """Scores of one video.

    Attributes:
        video: name of its file.
        precision: in [0, 1].
        recall: in [0, 1].
        f1: in [0, 1].
        cider: from 0 to 10.
        captions: number of captions read from the response.
    """

    video: str
    precision: float
    recall: float
    f1: float
    cider: float
    captions: int


@dataclass(frozen=True, slots=True)
class YouCook2Scores:
    """Means over all videos; published tables show them times 100.

    Attributes:
        precision: in [0, 1].
        recall: in [0, 1].
        f1: in [0, 1]; the mean of the videos' own f1.
        cider: from 0 to 10.
        failed: number of videos without a readable caption, which score 0.
        videos: scores of each.
    """

    precision: float
    recall: float
    f1: float
    cider: float
    failed: int
    videos: tuple[VideoScores, ...]


def score_youcook2(predictions: Sequence[Mapping[str, Any]]) -> YouCook2Scores:
    """Return the scores of predictions whose task is dvc and whose source is youcook2.

    Responses are read under the strict rules: captions follow `</evi>`.

    Args:
        predictions: samples in E.T. Bench's form with the response as `a`; others are ignored.

    Raises:
        InputError: a field is wrong, a video appears twice, or there is no such prediction.
    """
    videos = []
    for video, prediction in _by_video(predictions).items():
        found = read_response(prediction, "strict").captions
        truth = list(zip(prediction.targets, prediction.captions, strict=True))
        videos.append(score_video(video, found, truth))
    return _mean_scores(videos)


def captions_by_video(predictions: Sequence[Mapping[str, Any]]) -> dict[str, list[TimedCaption]]:
    """Return video → ((start_s, end_s), caption), as other evaluations take dense captions.

    Videos are named by their files; an unreadable response has no captions.

    Args:
        predictions: as for `score_youcook2`.

    Raises:
        InputError: as for `score_youcook2`.
    """
    return {
        video: list(read_response(prediction, "strict").captions)
        for video, prediction in _by_video(predictions).items()
    }


def _by_video(predictions: Sequence[Mapping[str, Any]]) -> dict[str, Prediction]:
    chosen: dict[str, Prediction] = {}
    named = ((f"prediction {i}", item) for i, item in enumerate(predictions))
    for prediction in check_predictions(named):
        if (prediction.task, prediction.source) != ("dvc", SOURCE):
            continue
        video = PurePosixPath(prediction.video).name
        if video in chosen:
            raise InputError(f"{video} has two predictions; keep one")
        chosen[video] = prediction
    if not chosen:
        raise InputError(f"no prediction has task dvc and source {SOURCE}; nothing to score")
    return chosen


def score_video(
    video: str, found: Sequence[TimedCaption], truth: Sequence[TimedCaption]
) -> VideoScores:
    """Return the scores of one video's captions.

    Args:
        video: name of its file.
        found: the captions read from the response.
        truth: the true captions.

    Raises:
        InputError: there are no true captions.
    """
    if not truth:
        raise InputError(f"{video}: has no true captions; at least one is needed")
    overlaps = iou_matrix(
        [interval for interval, _ in found],
        [interval for interval, _ in truth],
        epsilon=DENSE_EPSILON_S,
    )
    shares = [covered_shares(overlaps > threshold) for threshold in THRESHOLDS]
    precision = sum(share for share, _ in shares) / len(THRESHOLDS)
    recall = sum(share for _, share in shares) / len(THRESHOLDS)
    ours = [plain_words(caption) for _, caption in found]
    theirs = [plain_words(caption) for _, caption in truth]
    similar = 0.0
    for threshold in THRESHOLDS:
        pairs: list[tuple[Words, Words]] = []
        for words, hits in zip(ours, overlaps >= threshold, strict=True):
            partners: list[Words] = [t for t, hit in zip(theirs, hits, strict=True) if hit]
            pairs += [(words, partner) for partner in partners or [_NO_REFERENCE]]
        similar += cider(pairs) / len(THRESHOLDS)
    f1 = harmonic_mean(precision, recall)
    return VideoScores(video, precision, recall, f1, similar, len(found))


def _mean_scores(videos: Sequence[VideoScores]) -> YouCook2Scores:
    count = len(videos)
    return YouCook2Scores(
        precision=sum(video.precision for video in videos) / count,
        recall=sum(video.recall for video in videos) / count,
        f1=sum(video.f1 for video in videos) / count,
        cider=sum(video.cider for video in videos) / count,
        failed=sum(not video.captions for video in videos),
        videos=tuple(videos),
    )
