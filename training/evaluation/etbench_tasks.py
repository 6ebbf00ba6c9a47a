"""Score one response of an E.T. Bench task as a row of numbers, and a task from its rows.

Every metric is computed from the means of the rows' columns, so that resampling rows resamples the
metric. A response that cannot be read gets a row of zeros: it is a miss in every task.

Ties are decided as in the released scorers. Where a sample has one overlap (tvg, epm, tem, gvq) it
is a 32-bit number compared as a 64-bit one, so that exactly 0.7 is below 0.7, and exactly 0.1, 0.3
or 0.5 reaches its threshold. tal compares in 32 bits: an overlap equal to a threshold reaches it.
dvc and slc add `DENSE_EPSILON_S` to the union: an overlap equal to a threshold does not reach it.
"""

import random
import string
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidground.training.data.interval_metrics import (
    DENSE_EPSILON_S,
    Interval,
    covered_shares,
    harmonic_mean,
    iou_matrix,
    seconds_f1,
    single_precision_iou,
)
from vidground.training.evaluation.answer_reading import (
    Rules,
    TimedCaption,
    answer_text,
    evidence_text,
    read_captions,
    read_intervals,
    read_number,
    read_option,
)
from vidground.training.evaluation.etbench_predictions import (
    CAPTION_TASKS,
    OPTION_TASKS,
    Prediction,
)
from vidground.training.evaluation.text_similarity import TextSimilarity, plain_words

THRESHOLDS = (0.1, 0.3, 0.5, 0.7)
"""IoU thresholds of every task, in [0, 1]."""

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """The times and captions of one response.

    Attributes:
        intervals: of the answer, in seconds; empty if it cannot be read.
        evidence: intervals before `</evi>`, or the answer's if there are none; strict rules only.
        captions: of the answer, for dense captioning.
    """

    intervals: tuple[Interval, ...]
    evidence: tuple[Interval, ...] = ()
    captions: tuple[TimedCaption, ...] = ()


def read_response(prediction: Prediction, rules: Rules) -> Reading:
    """Return the times, and for dense captioning the captions, of one response."""
    text = answer_text(prediction.response, rules, staged=prediction.staged) or ""
    captions: tuple[TimedCaption, ...] = ()
    if prediction.task in CAPTION_TASKS:
        captions = read_captions(text)
        intervals = tuple(interval for interval, _ in captions)
    elif prediction.task == "vhd" and rules == "official":
        number = read_number(text)
        intervals = () if number is None else ((number, number),)
    else:
        intervals = read_intervals(text)
    if rules == "official" or not intervals:
        return Reading(intervals, captions=captions)
    evidence = read_intervals(evidence_text(prediction.response))
    return Reading(intervals, evidence or intervals, captions)


def sample_row(prediction: Prediction, reading: Reading, rules: Rules) -> Row:
    """Return the columns of one response by name, among them `parsed`: 1 if it could be read.

    Under the strict rules, columns with `_evi` in their names hold the same measures of the
    intervals before `</evi>`.
    """
    if prediction.task in OPTION_TASKS:
        return _option_row(prediction)
    row = {"parsed": float(bool(reading.intervals))}
    row |= _interval_row(prediction, reading.intervals, rules)
    if rules == "strict":
        evidence = _interval_row(prediction, reading.evidence, rules)
        row |= {_evidence_name(name): value for name, value in evidence.items()}
    if prediction.task == "gvq":
        option = _option_row(prediction)
        row = {name: value * option["Acc"] for name, value in row.items()} | option
        row["parsed"] = float(bool(reading.intervals) and bool(option["Matched"]))
    return row


def _option_row(prediction: Prediction) -> Row:
    option = read_option(prediction.response, prediction.options)
    matched = float(option is not None)
    return {
        "parsed": matched,
        "Acc": float(option == prediction.right_option),
        "Matched": matched,
    }


def _evidence_name(name: str) -> str:
    head, at, threshold = name.partition("@")
    return f"{head}_evi{at}{threshold}"


def _interval_row(prediction: Prediction, found: Sequence[Interval], rules: Rules) -> Row:
    targets = prediction.targets
    match prediction.task:
        case "tvg" | "epm":
            used = found if rules == "strict" else found[:1]
            return _overlap_row(used, targets, "F1", "F1")
        case "tem" | "gvq":
            return _overlap_row(found[:1], targets, "R", "mRec")
        case "tal":
            return _detection_row(found, targets)
        case "evs":
            return {"F1": seconds_f1(found, targets)}
        case "vhd":
            return {"F1": _middle_hits(found[:1], targets)}
        case _:
            return _caption_row(found, targets)


def _overlap_row(
    found: Sequence[Interval], targets: Sequence[Interval], name: str, mean: str
) -> Row:
    # A 64-bit number from here on, as in the released scorers: 0.7 in 32 bits is below 0.7.
    overlap = float(single_precision_iou(found, targets).max(initial=0.0))
    hits = {f"{name}@{t}": float(overlap >= t) for t in THRESHOLDS}
    return {"mIoU": overlap, **hits, mean: _mean(hits.values())}


def _detection_row(found: Sequence[Interval], targets: Sequence[Interval]) -> Row:
    overlaps = single_precision_iou(found, targets)
    scores = {
        f"F1@{t}": harmonic_mean(*covered_shares(overlaps >= np.float32(t))) for t in THRESHOLDS
    }
    return {**scores, "F1": _mean(scores.values())}


def _middle_hits(found: Sequence[Interval], targets: Sequence[Interval]) -> float:
    middles = [(start + end) / 2 for start, end in found]
    return float(any(low <= middle <= high for middle in middles for low, high in targets))


def _caption_row(found: Sequence[Interval], targets: Sequence[Interval]) -> Row:
    overlaps = iou_matrix(found, targets, epsilon=DENSE_EPSILON_S)
    row: Row = {}
    for threshold in THRESHOLDS:
        precision, recall = covered_shares(overlaps > threshold)
        row |= {f"P@{threshold}": precision, f"R@{threshold}": recall}
    return row


def similarity_rows(
    predictions: Sequence[Prediction], readings: Sequence[Reading], similarity: TextSimilarity
) -> list[Row]:
    """Return `Sim` of each response: its captions' similarity to the true ones, in [-1, 1].

    Every pair of a predicted and a true caption whose intervals overlap by the threshold is
    compared; a predicted caption without a partner is compared with a string of 10 to 20 random
    letters (the same ones in every run). A response's similarity is the mean over its pairs, then
    over the thresholds; 0 if it cannot be read. Texts are compared as plain ASCII words.

    Args:
        predictions: N predictions of dvc or slc.
        readings: their N readings.
        similarity: compares captions.
    """
    letters = random.Random(0)
    owners: list[int] = []
    weights: list[float] = []
    ours: list[str] = []
    theirs: list[str] = []
    for i, (prediction, reading) in enumerate(zip(predictions, readings, strict=True)):
        for pairs in _caption_pairs(prediction, reading, letters):
            owners += [i] * len(pairs)
            weights += [1 / len(pairs) / len(THRESHOLDS)] * len(pairs)
            ours += [_ascii_words(mine) for mine, _ in pairs]
            theirs += [_ascii_words(true) for _, true in pairs]
    totals = [0.0] * len(predictions)
    values = similarity.similarities(ours, theirs)
    for i, weight, value in zip(owners, weights, values, strict=True):
        totals[i] += weight * value
    return [{"Sim": total} for total in totals]


def _caption_pairs(
    prediction: Prediction, reading: Reading, letters: random.Random
) -> list[list[tuple[str, str]]]:
    """Return the pairs to compare at each threshold; nothing for an unreadable response."""
    if not reading.captions:
        return []
    overlaps = iou_matrix(reading.intervals, prediction.targets, epsilon=DENSE_EPSILON_S)
    pairs = []
    for threshold in THRESHOLDS:
        found: list[tuple[str, str]] = []
        for (_, caption), hits in zip(reading.captions, overlaps >= threshold, strict=True):
            partners = [t for t, hit in zip(prediction.captions, hits, strict=True) if hit]
            found += [(caption, partner) for partner in partners or [_noise(letters)]]
        pairs.append(found)
    return pairs


def _noise(letters: random.Random) -> str:
    return "".join(letters.choices(string.ascii_lowercase, k=letters.randint(10, 20)))


def _ascii_words(text: str) -> str:
    return " ".join(plain_words("".join(c if c.isascii() else " " for c in text)))


def task_metrics(task: str, means: Mapping[str, float]) -> dict[str, float]:
    """Return a task's metrics from the means of its rows' columns.

    Most metrics are such a mean. F1 of dense captions is the F1 of mean precision and mean
    recall. Metrics named `…_parsed` leave unreadable responses out, as the released scorers do for
    the F1 of evs and for Sim; compare published numbers with these.

    Args:
        task: one of E.T. Bench's.
        means: the mean of each column over a source's samples.
    """
    if task in CAPTION_TASKS:
        metrics = _caption_metrics(means)
    else:
        metrics = {name: mean for name, mean in means.items() if name != "parsed"}
    if task in OPTION_TASKS or task == "gvq":
        metrics["Acc_matched"] = _ratio(means["Acc"], means["Matched"])
    if task == "evs":
        metrics["F1_parsed"] = _ratio(means["F1"], means["parsed"])
    return metrics


def _caption_metrics(means: Mapping[str, float]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for kind in ("", "_evi") if "P_evi@0.1" in means else ("",):
        scores = {
            f"F1{kind}@{t}": harmonic_mean(means[f"P{kind}@{t}"], means[f"R{kind}@{t}"])
            for t in THRESHOLDS
        }
        metrics |= {**scores, f"F1{kind}": _mean(scores.values())}
    if "Sim" in means:
        metrics |= {"Sim": means["Sim"], "Sim_parsed": _ratio(means["Sim"], means["parsed"])}
    return metrics


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)
